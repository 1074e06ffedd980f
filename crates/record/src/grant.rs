//! Preview grants: who may see a site in another mode than the one that it is in, and for how long.
//!
//! A [`Grant`] is a fact and stands in the timeline; knowing it opens nothing. What opens a gate is the
//! [`GrantToken`] that was made for it under the node's [`NodeKey`]. Neither key nor token prints.

use std::fmt;
use std::time::Duration;

use crate::{Digest, GrantId, Mode, UnixMillis};

/// No grant lives longer: a day.
pub const GRANT_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Lets its bearer see the site in `mode` while the site itself is in a lower one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Names it, in keys and in the timeline.
    pub id: GrantId,
    /// For whom, in the words of whoever made it.
    pub name: String,
    /// The mode that its bearer sees.
    pub mode: Mode,
    /// From when on.
    pub from: UnixMillis,
    /// It is over at this instant.
    pub until: UnixMillis,
}

impl Grant {
    /// Whether it holds at an instant. One that was made for longer than [`GRANT_TIME_MAX`] never does.
    #[must_use]
    pub fn holds_at(&self, now: UnixMillis) -> bool {
        self.from <= now && now < self.until && self.until.since(self.from) <= GRANT_TIME_MAX
    }
}

/// A node's own secret: grants are signed under it, and URLs that name somebody are named under it.
#[derive(Clone)]
pub struct NodeKey([u8; 32]);

impl NodeKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The token of a grant: its id, and a digest under this key of all that it says.
    #[must_use]
    pub fn sign(&self, grant: &Grant) -> GrantToken {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let mut part = |bytes: &[u8]| {
            let len = u64::try_from(bytes.len()).expect("a length fits 64 bits");
            hasher.update(&len.to_be_bytes()).update(bytes);
        };
        part(b"shikiri grant 1");
        part(&grant.id.0.to_be_bytes());
        part(grant.name.as_bytes());
        part(grant.mode.name().as_bytes());
        part(&grant.from.0.to_be_bytes());
        part(&grant.until.0.to_be_bytes());
        GrantToken {
            id: grant.id,
            signature: hasher.finalize(),
        }
    }

    /// Names a URI without telling it.
    #[must_use]
    pub fn uri_digest(&self, uri: &str) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"shikiri uri 1\n").update(uri.as_bytes());
        Digest::from(hasher.finalize())
    }

    /// Whether a token was made for a grant under this key. Takes the same time whatever differs.
    #[must_use]
    pub fn signed(&self, grant: &Grant, token: &GrantToken) -> bool {
        // `blake3::Hash` compares in constant time.
        token.id == grant.id && self.sign(grant).signature == token.signature
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(…)")
    }
}

/// What the bearer of a grant shows. Whoever has it has the grant.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantToken {
    id: GrantId,
    signature: blake3::Hash,
}

impl GrantToken {
    /// Reads a token; `None` for what is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, signature) = text.split_once('.')?;
        let is_hex = |digits: &str, len| {
            digits.len() == len
                && digits
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
        };
        if !is_hex(id, 32) || !is_hex(signature, 64) {
            return None;
        }
        Some(Self {
            id: GrantId(u128::from_str_radix(id, 16).ok()?),
            signature: blake3::Hash::from_hex(signature).ok()?,
        })
    }

    /// The grant that it says it was made for.
    #[must_use]
    pub const fn id(&self) -> GrantId {
        self.id
    }

    /// The token in the clear, for whoever it was made for.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.signature.to_hex())
    }
}

impl fmt::Debug for GrantToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            id: GrantId(7),
            name: "Sato, review".into(),
            mode: Mode::Open,
            from: UnixMillis(1_000),
            until: UnixMillis(61_000),
        }
    }

    #[test]
    fn a_token_opens_the_grant_that_it_was_made_for_and_no_other() {
        let key = NodeKey::new([1; 32]);
        let token = key.sign(&grant());
        let read = GrantToken::parse(&token.reveal()).expect("a token");
        assert!(key.signed(&grant(), &read));
        assert!(!NodeKey::new([2; 32]).signed(&grant(), &read));
        let changes: [fn(&mut Grant); 5] = [
            |g| g.id = GrantId(8),
            |g| g.name.push('x'),
            |g| g.mode = Mode::Static,
            |g| g.from = UnixMillis(999),
            |g| g.until = UnixMillis(62_000),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut other = grant();
            change(&mut other);
            assert!(!key.signed(&other, &read), "change {n}");
        }
        assert_eq!(format!("{token:?} {key:?}"), "GrantToken(…) NodeKey(…)");
    }

    #[test]
    fn a_uri_is_named_under_the_nodes_own_key() {
        let (one, two) = (NodeKey::new([1; 32]), NodeKey::new([2; 32]));
        assert_eq!(
            one.uri_digest("http://a.test/"),
            one.uri_digest("http://a.test/")
        );
        assert_ne!(
            one.uri_digest("http://a.test/"),
            one.uri_digest("http://a.test/x")
        );
        assert_ne!(
            one.uri_digest("http://a.test/"),
            two.uri_digest("http://a.test/")
        );
    }

    #[test]
    fn what_is_no_token_is_none() {
        let text = NodeKey::new([1; 32]).sign(&grant()).reveal();
        for (case, text) in [
            ("nothing", String::new()),
            ("no signature", text.split('.').next().unwrap_or("").into()),
            ("a sign before the number", text.replacen('0', "+", 1)),
            ("capitals", text.to_uppercase()),
            ("more", format!("{text}0")),
            ("a space", format!("{text} ")),
        ] {
            assert!(GrantToken::parse(&text).is_none(), "{case}");
        }
    }

    #[test]
    fn a_grant_holds_for_its_time() {
        for (now, expected) in [(999, false), (1_000, true), (60_999, true), (61_000, false)] {
            assert_eq!(grant().holds_at(UnixMillis(now)), expected, "{now}");
        }
        let mut long = grant();
        long.until = long.from.after(GRANT_TIME_MAX + Duration::from_millis(1));
        assert!(!long.holds_at(long.from), "longer than any grant may be");
    }
}
