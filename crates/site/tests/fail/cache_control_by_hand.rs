//! No handler writes a header: not on a personal answer, not on a shared one.

use shikiri_site::answer::{Css, Personal, Shared};

fn personal(answer: Personal<Css>) -> Personal<Css> {
    answer.header("cache-control", "public, max-age=60")
}

fn shared(mut answer: Shared<Css>) -> Shared<Css> {
    answer.headers_mut().remove("cache-control");
    answer
}

fn main() {}
