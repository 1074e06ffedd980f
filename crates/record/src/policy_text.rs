//! The text of a policy, as a fact: what an operator wrote, with its digest.

use crate::Digest;

/// A policy as text, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    /// A file's name, for messages; not part of the meaning.
    pub source: String,
    /// TOML. `docs/policy.md` describes it.
    pub text: String,
}

impl PolicyText {
    /// The digest of the text as written. Two texts of one meaning differ here; compare
    /// [`RulesDigest`](crate::RulesDigest) for meaning.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
}
