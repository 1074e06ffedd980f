//! Policy: a text that says what *may* be shared, compiled to [`Rules`](crate::Rules).
//!
//! Text becomes a document ([`text`]), a document becomes meaning ([`compile`](mod@compile)), and
//! meaning has digests. `docs/policy.md` describes the language; a change here changes it too.
//!
//! Never here: a way to loosen admission. No key of the language can store what an origin forbids,
//! keep a cookie, or send one with a shared fetch; the worst policy shows a logged-out page.
//!
//! Invariants: a policy with a fault compiles to nothing, never to the part that could be
//! understood. Two texts of one meaning have one [`RulesDigest`](shikiri_record::RulesDigest), and
//! the digest of a class changes exactly when what was stored under it must die.

mod builtin;
mod compile;
mod describe;
mod diff;
mod digest;
mod fault;
mod gates;
mod limits;
mod overlap;
mod pins;
mod slices;
mod text;
mod tokens;
mod units;

pub(crate) use compile::path_patterns;
pub use compile::{compile, origin};
pub use diff::{Change, Difference, diff};
pub(crate) use digest::{class as class_digest, rules as rules_digest};
pub use fault::PolicyError;
pub use units::{duration, size};

#[cfg(test)]
mod tests;
