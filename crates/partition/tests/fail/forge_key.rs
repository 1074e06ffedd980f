//! A key is made by `Rules::classify` alone.

#![allow(unreachable_code)]

use shikiri_partition::Key;

fn main() {
    let _key = Key { ..unreachable!() };
}
