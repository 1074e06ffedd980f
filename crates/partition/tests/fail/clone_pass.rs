//! A pass is one request, and one answer.

use shikiri_partition::{Pass, PassRequest};

fn send_twice(pass: &Pass) -> Pass {
    pass.clone()
}

fn answer_twice(request: &PassRequest) -> PassRequest {
    request.clone()
}

fn main() {}
