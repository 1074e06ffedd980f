//! There is no key that names nothing.

use shikiri_partition::Key;

fn main() {
    let _key = Key::default();
}
