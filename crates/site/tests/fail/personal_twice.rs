//! A personal answer is for one response.

use shikiri_site::answer::{Css, Personal};

fn answer_twice(answer: &Personal<Css>) -> Personal<Css> {
    answer.clone()
}

fn main() {}
