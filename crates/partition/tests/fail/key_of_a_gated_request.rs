//! Before its gate has opened, a request of a gated class has no key.

use shikiri_partition::{Gated, Key};

fn look(gated: &Gated) -> &Key {
    gated.key()
}

fn main() {}
