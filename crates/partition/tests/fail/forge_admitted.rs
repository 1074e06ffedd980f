//! A response becomes an object by being judged, and in no other way.

#![allow(unreachable_code)]

use shikiri_partition::Admitted;

fn main() {
    let _admitted = Admitted { ..unreachable!() };
}
