//! The handler of a shared page has no cookie, no form and no member to look at.

use shikiri_site::asked::Public;
use shikiri_site::store::Shelf;

fn who(asked: &Public) -> bool {
    asked.token.is_some()
}

fn whose(shelf: &Shelf, asked: &Public) -> usize {
    shelf.orders(asked.parameter("member")).len()
}

fn main() {}
