//! Members by their ids, and data that has an owner.
//!
//! Invariant: what the store says of a member comes out as [`Owned`], so that a page that shows it
//! knows whose it is without being told. Nothing here prints.

use std::fmt;
use std::ops::Deref;

use http::HeaderValue;

/// A member, opaque and for ever the same: what the origin contract calls an id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(String);

impl MemberId {
    pub(crate) fn fresh() -> Self {
        Self(fresh_id())
    }

    /// As the store has it.
    pub(crate) fn stored(text: String) -> Self {
        assert!(
            !text.is_empty()
                && text.len() <= 64
                && text.bytes().all(|it| it.is_ascii_alphanumeric()),
            "an id in the store is one of ours"
        );
        Self(text)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// For tables of limits: a name that tells nothing.
    pub(crate) fn digest(&self) -> String {
        blake3::hash(self.0.as_bytes()).to_hex().to_string()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&self.0).expect("an id is letters and digits");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberId(…)")
    }
}

/// A new id of 100 random bits, in small letters and digits.
///
/// # Panics
/// The system has no randomness.
pub(crate) fn fresh_id() -> String {
    let mut bytes = [0_u8; ID_LETTERS];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    letters(&bytes)
}

/// An id that follows from what it is for: made twice, it is the same one.
pub(crate) fn derived_id(of: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("shikiri-site 2026 derived id");
    for part in of {
        // With its length, so that two lists of parts are never one text.
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0_u8; ID_LETTERS];
    hasher.finalize_xof().fill(&mut bytes);
    letters(&bytes)
}

const ID_LETTERS: usize = 20;

fn letters(bytes: &[u8; ID_LETTERS]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect()
}

/// Something of one member's.
#[derive(Clone)]
pub struct Owned<T> {
    owner: MemberId,
    value: T,
}

impl<T> Owned<T> {
    pub(crate) fn new(owner: MemberId, value: T) -> Self {
        Self { owner, value }
    }

    #[must_use]
    pub fn owner(&self) -> &MemberId {
        &self.owner
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owned(…)")
    }
}
