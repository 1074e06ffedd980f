//! Digests of canonical bytes.
//!
//! Canonical bytes are length-prefixed, so that no two different lists of fields can give the same
//! bytes: `("ab", "c")` and `("a", "bc")` differ.

use std::fmt;
use std::str::FromStr;

/// A BLAKE3 digest of canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes as they stand.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A digest that was computed before, and written somewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no digest: write its 64 hexadecimal digits");
        let hash = blake3::Hash::from_hex(text).map_err(|_| wrong())?;
        Ok(hash.into())
    }
}

crate::text_form::serde_as_text!(Digest);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(6) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

macro_rules! digest_of {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                text.parse().map(Self)
            }
        }

        crate::text_form::serde_as_text!($name);
    };
}

digest_of! {
    /// Names compiled rules: what a node reports as in force.
    RulesDigest
}

digest_of! {
    /// Names the meaning of one class. It is part of every key, so a stored object dies with the
    /// meaning under which it was admitted.
    ClassDigest
}

/// Collects canonical bytes and digests them.
#[derive(Clone, Debug, Default)]
pub struct Canonical {
    bytes: Vec<u8>,
}

impl Canonical {
    /// Starts with the name of the schema, so that values of different kinds never collide.
    #[must_use]
    pub fn new(schema: &str) -> Self {
        let mut canonical = Self {
            bytes: Vec::with_capacity(256),
        };
        canonical.text(schema);
        canonical
    }

    /// Adds bytes with their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u64::try_from(bytes.len()).expect("a length fits 64 bits");
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Adds text with its length.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds a list: its length, then each item.
    pub fn list<T>(&mut self, items: &[T], mut add: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.number(u64::try_from(items.len()).expect("a length fits 64 bits"));
        for item in items {
            add(self, item);
        }
        self
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_between_fields_count() {
        let of = |a: &str, b: &str| Canonical::new("t").text(a).text(b).digest();
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_eq!(of("ab", "c"), of("ab", "c"));
    }

    #[test]
    fn schemas_do_not_collide() {
        assert_ne!(Canonical::new("a").digest(), Canonical::new("b").digest());
    }
}
