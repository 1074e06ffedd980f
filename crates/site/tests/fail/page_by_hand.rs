//! A page is made by one of three constructors; there is no fourth class.

use shikiri_site::Shop;
use shikiri_site::declare::{Class, Page, Verb};

fn by_hand() -> Page<Shop> {
    Page { name: "x", verb: Verb::Get }
}

fn fourth() -> Class {
    Class::Uncacheable
}

fn main() {}
