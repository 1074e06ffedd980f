//! The member store: a site with logins, as it may stand behind the edge.
//!
//! It knows the edge by the origin contract alone and depends on no crate of ours. Its pages are
//! declared ([`declare`]): personal, shared or media. Headers, the policy for the edge, the crawl
//! list and the map of personal data follow from the declarations and are written nowhere else.
//!
//! Invariants kept here:
//!
//! - A shared page is a function of its address; its handler has seen neither cookie nor member
//!   ([`asked::Public`], [`store::Shelf`]).
//! - Whose data a page shows is said by the data ([`member::Owned`]).
//! - GET shows, POST acts, and only from our own pages (`guard`).
//! - What only some may watch is served on another host, which sees no cookie ([`delivery`]).
//! - While an edge is closed, jobs rest ([`rest`]).
//! - Nothing like a card number has a place here.

// What tests of both kinds have in common names this crate as those outside do.
#[cfg(test)]
extern crate self as shikiri_site;

pub mod answer;
pub mod asked;
mod careless;
pub mod control;
pub mod declare;
pub mod delivery;
mod films;
#[cfg(test)]
#[path = "../tests/fresh/mod.rs"]
mod fresh;
mod guard;
mod html;
pub mod limit;
pub mod media;
pub mod member;
pub mod multipart;
mod pages;
pub mod password;
pub mod pay;
pub mod points;
mod policy;
pub mod posts;
pub mod refusal;
pub mod rest;
pub mod router;
pub mod serve;
pub mod spool;
pub mod store;
pub mod support;
pub mod ticket;
pub mod trade;
pub mod tries;

pub use pages::{Around, NoShop, Office, Shop, jobs, shop, shop_within};
pub use policy::{Place, Places, pages_json, pages_text, policy};
