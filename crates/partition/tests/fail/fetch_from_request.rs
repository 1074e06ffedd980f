//! A shared fetch is made from a key: it has never seen the request.

use std::sync::Arc;

use shikiri_partition::{Begun, Class, Constants, RequestHead, SharedFetch};

fn fetch(head: &RequestHead<'_>, class: &Arc<Class>, begun: Begun, constants: &Constants) {
    let _fetch = SharedFetch::of(head, class, begun, constants);
}

fn main() {}
