//! Tokens: who a byte belongs to, written so that it survives headers, URLs and bodies.
//!
//! A token is `owner.nonce.number`. The nonce is new for every cell, so that what an earlier cell
//! left behind is never taken for a finding of this one. Number 0 is what a viewer sends of itself;
//! every answer of the origin has a number of its own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whoever the origin could not name.
pub(crate) const NOBODY: &str = "nobody";
/// The owner of what is made for one answer only: a session, a CSRF token.
pub(crate) const MINTED: &str = "minted";
/// Before the first label of a host, it makes the owner that a tenant is.
pub(crate) const TENANT: &str = "at-";

/// Before names, it makes the owner that several members are together.
pub(crate) const MEMBERS: &str = "for-";

/// What is found in some bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) owner: String,
    pub(crate) number: u64,
}

/// A word that nothing but this cell's tokens holds. Letters alone, so that no cache takes a token
/// for a secret by its looks: that would hide what the mechanism is about.
pub(crate) fn nonce() -> String {
    static CELLS: AtomicU64 = AtomicU64::new(1);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let cell = CELLS.fetch_add(1, Ordering::Relaxed);
    let mut seed = u64::try_from(since.as_millis())
        .unwrap_or(0)
        .wrapping_mul(1_000_003)
        .wrapping_add(cell);
    seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..7)
        .map(|i| {
            char::from(
                b"bcdfghjklmnpqrstvwxz"[usize::try_from((seed >> (i * 9)) % 20).expect("below 20")],
            )
        })
        .collect()
}

/// A token.
pub(crate) fn token(owner: &str, nonce: &str, number: u64) -> String {
    format!("{owner}.{nonce}.{number}")
}

/// The owner that a host's tenant is.
pub(crate) fn tenant(host: &str) -> String {
    let label = host
        .split(['.', ':'])
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    format!("{TENANT}{label}")
}

/// The owner that some members are together; one is its own.
pub(crate) fn members(names: &str) -> String {
    let names: Vec<&str> = names.split_whitespace().collect();
    match names[..] {
        [one] => one.to_owned(),
        _ => format!("{MEMBERS}{}", names.join("-")),
    }
}

/// Every token in some bytes, wherever it stands.
pub(crate) fn find(nonce: &str, bytes: &[u8]) -> BTreeSet<Token> {
    let needle = format!(".{nonce}.");
    let needle = needle.as_bytes();
    let is_name = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let mut found = BTreeSet::new();
    for at in 0..bytes.len().saturating_sub(needle.len() - 1) {
        if !bytes[at..].starts_with(needle) {
            continue;
        }
        let name = bytes[..at].iter().rev().take_while(|b| is_name(b)).count();
        let owner = String::from_utf8_lossy(&bytes[at - name..at]).into_owned();
        let digits = bytes[at + needle.len()..]
            .iter()
            .take_while(|b| b.is_ascii_digit());
        let number: String = digits.map(|b| char::from(*b)).collect();
        if let Ok(number) = number.parse()
            && !owner.is_empty()
        {
            found.insert(Token { owner, number });
        }
    }
    found
}
