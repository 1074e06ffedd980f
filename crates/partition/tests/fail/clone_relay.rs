//! A relayed response has one viewer.

use shikiri_partition::Relay;

fn show_twice(relay: &Relay) -> Relay {
    relay.clone()
}

fn main() {}
