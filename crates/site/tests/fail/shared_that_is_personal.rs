//! A personal handler is not declared as shared, nor a personal answer returned as a shared one.

use std::time::Duration;

use shikiri_site::answer::{Html, Personal, Shared};
use shikiri_site::asked::{Asked, Public};
use shikiri_site::declare::Page;
use shikiri_site::refusal::Refusal;
use shikiri_site::store::Shelf;
use shikiri_site::{Office, Shop};

fn account(_: &Office, _: &Asked) -> Result<Personal<Html>, Refusal> {
    Err(Refusal::NotFound)
}

fn relabelled(_: &Shelf, _: &Public) -> Result<Shared<Personal<Html>>, Refusal> {
    Err(Refusal::NotFound)
}

fn table() -> Vec<Page<Shop>> {
    vec![
        Page::shared("account", "/{lang}/account", &[], Duration::from_secs(1), account),
        Page::shared("films", "/{lang}/films", &[], Duration::from_secs(1), relabelled),
    ]
}

fn main() {}
