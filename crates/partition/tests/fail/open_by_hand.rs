//! What a gate opens is not made by hand.

use std::sync::Arc;

use shikiri_partition::{Class, Key, Opened, Requester, Sharing};

fn open(key: Key, class: Arc<Class>, requester: Requester) -> Opened {
    Opened::Shared(Sharing {
        key,
        class,
        requester,
    })
}

fn main() {}
