//! The maker of keys is not for others.

use shikiri_partition::Key;

fn main() {
    let _make = Key::new;
}
