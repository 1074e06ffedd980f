//! Tags: keyed pseudonyms of what evidence must not hold in the clear.
//!
//! A tag is the first half of a keyed BLAKE3 digest. Whoever lacks the key cannot tell whose it is;
//! destroying the key makes it nobody's. Each meaning has a type and a derivation of its own, so that
//! the same text never has the same tag in two meanings.

use std::fmt;

/// The secret under which tags are made. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct TagKey([u8; 32]);

impl TagKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Names the key without telling it: which key a tag was made under.
    #[must_use]
    pub fn id(&self) -> u64 {
        let digest = blake3::keyed_hash(&self.0, b"shikiri tag key id 1");
        u64::from_be_bytes(first(digest.as_bytes()))
    }

    fn tag(&self, meaning: &str, parts: &[&[u8]]) -> [u8; 16] {
        // Nearly everything that is tagged is short: one call over one slice then, since a request has
        // several tags.
        const SHORT: usize = 512;
        let length = |part: &[u8]| u64::try_from(part.len()).expect("a length fits 64 bits");
        let all = || {
            [meaning.as_bytes()]
                .into_iter()
                .chain(parts.iter().copied())
        };
        let mut short = [0; SHORT];
        let mut end = 0;
        for part in all() {
            let Some(room) = short.get_mut(end..end + 8 + part.len()) else {
                let mut hasher = blake3::Hasher::new_keyed(&self.0);
                for part in all() {
                    hasher.update(&length(part).to_be_bytes()).update(part);
                }
                return first(hasher.finalize().as_bytes());
            };
            room[..8].copy_from_slice(&length(part).to_be_bytes());
            room[8..].copy_from_slice(part);
            end += room.len();
        }
        first(blake3::keyed_hash(&self.0, &short[..end]).as_bytes())
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(…)")
    }
}

fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    bytes[..N].try_into().expect("a digest has 32 bytes")
}

macro_rules! tag {
    ($(#[$doc:meta])* $name:ident, $meaning:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The tag of a text made of parts, under a key.
            #[must_use]
            pub fn of(key: &TagKey, parts: &[&[u8]]) -> Self {
                Self(key.tag($meaning, parts))
            }

            /// The whole tag as hexadecimal digits, for whoever asks evidence on purpose.
            #[must_use]
            pub fn hex(&self) -> String {
                format!("{:032x}", u128::from_be_bytes(self.0))
            }
        }

        // Never the tag itself: what is printed by accident ends up in a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

tag! {
    /// A member, as the origin names them (`Shikiri-Viewer`, `Shikiri-Owner`): the same for viewer and
    /// owner, so that whose data a viewer was shown can be compared.
    MemberTag, "member"
}
tag! {
    /// Whoever a response was served to, as far as the request shows it: the session's credentials.
    ViewerTag, "viewer"
}
tag! {
    /// The address that a client connected from.
    AddressTag, "address"
}
tag! {
    /// A full request target: scheme, authority, path and query.
    TargetTag, "target"
}
tag! {
    /// The value of a cookie that a response set.
    CookieTag, "cookie"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_depends_on_key_meaning_and_the_boundaries_of_its_parts_and_does_not_print() {
        let (one, two) = (TagKey::new([1; 32]), TagKey::new([2; 32]));
        let tag = MemberTag::of(&one, &[b"ab", b"c"]);
        assert_eq!(tag, MemberTag::of(&one, &[b"ab", b"c"]));
        assert_ne!(tag, MemberTag::of(&two, &[b"ab", b"c"]));
        assert_ne!(tag, MemberTag::of(&one, &[b"a", b"bc"]));
        assert_ne!(tag.0, ViewerTag::of(&one, &[b"ab", b"c"]).0);
        assert_ne!(one.id(), two.id());
        assert_eq!(format!("{tag:?} {one:?}"), "MemberTag(…) TagKey(…)");
    }

    #[test]
    fn a_tag_is_made_in_one_way_however_long_its_parts() {
        let key = TagKey::new([7; 32]);
        for length in [0, 1, 100, 480, 481, 482, 500, 512, 5000] {
            let part = vec![b'x'; length];
            let mut hasher = blake3::Hasher::new_keyed(&[7; 32]);
            for part in [&b"target"[..], &part, b"y"] {
                let length = u64::try_from(part.len()).unwrap();
                hasher.update(&length.to_be_bytes()).update(part);
            }
            let digest = hasher.finalize();
            let tag = TargetTag::of(&key, &[&part, b"y"]);
            assert_eq!(tag.0, digest.as_bytes()[..16], "{length}");
        }
    }
}
