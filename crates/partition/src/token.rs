//! Tokens: who may see what, told by the site in the URL itself and checked at the edge.
//!
//! A site that knows who may see a film makes a token: until when, for which paths, for whom if it likes,
//! and a MAC over that with a secret that it shares with the edge. Whoever shows it at the right path is
//! let in, without a question to the origin. `docs/policy.md` has the form, with examples.
//!
//! Never here: a clock; a token in what a key, a row or the origin is told. What is claimed, named and asked
//! for is the URL without it.
//!
//! Invariant: nothing is known of a token before its MAC has been compared, in constant time, under each
//! of the class's secrets.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shikiri_record::UnixMillis;

use crate::identity;
use crate::pins::MemberId;
use crate::reason::Refused;
use crate::request::RequestHead;
use crate::secret::{Secret, SecretSource};

/// What every message begins with, so that a MAC made for something else opens nothing.
const DOMAIN: &str = "shikiri-token-1";

/// A token has no more bytes than this.
pub(crate) const TOKEN_BYTES_MAX: usize = 256;

/// A viewer's name in a token has no more bytes than this.
const VIEWER_BYTES_MAX: usize = 64;

/// Secrets that a class may take tokens of, at most.
pub(crate) const SECRETS_MAX: usize = 4;

/// How a class is opened by tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// Where the token stands.
    pub place: TokenPlace,
    /// With which secrets it may be made: several while one takes the place of another.
    pub keys: Vec<TokenKey>,
}

/// Where a token stands in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// Between this prefix, which ends with a slash, and the path: `/t/TOKEN/films/1.mp4`.
    Path(String),
    /// In this parameter: `/films/1.mp4?t=TOKEN`.
    Query(String),
}

impl fmt::Display for TokenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(prefix) => write!(f, "the path, after `{prefix}`"),
            Self::Query(name) => write!(f, "the parameter `{name}`"),
        }
    }
}

/// A secret that tokens are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// Where it is found.
    pub source: SecretSource,
    /// It, once it is known.
    pub secret: Option<Secret>,
}

/// A URL as it is without the token that it holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tokenless<'a> {
    pub(crate) token: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<String>,
}

impl Tokenless<'_> {
    /// The request's head without it.
    pub(crate) fn without<'a>(&'a self, head: &RequestHead<'a>) -> RequestHead<'a> {
        RequestHead {
            path: self.path,
            query: self.query.as_deref(),
            ..head.clone()
        }
    }
}

impl TokenPlace {
    /// Takes a URL apart; `None`: there is no token in this place.
    ///
    /// # Errors
    /// [`Refused::TokenMalformed`] when there are two.
    pub(crate) fn take<'a>(
        &self,
        path: &'a str,
        query: Option<&'a str>,
    ) -> Result<Option<Tokenless<'a>>, Refused> {
        match self {
            Self::Path(prefix) => {
                let Some(rest) = path.strip_prefix(prefix.as_str()) else {
                    return Ok(None);
                };
                let slash = rest.find('/').ok_or(Refused::TokenMalformed)?;
                let (token, path) = rest.split_at(slash);
                Ok(Some(Tokenless {
                    token,
                    path,
                    query: query.map(str::to_owned),
                }))
            }
            Self::Query(name) => {
                let mut found = identity::parameters(query).filter(|(of, _)| *of == name.as_str());
                let Some((_, token)) = found.next() else {
                    return Ok(None);
                };
                if found.next().is_some() {
                    return Err(Refused::TokenMalformed);
                }
                let kept: Vec<&str> = query
                    .unwrap_or_default()
                    .split('&')
                    .filter(|one| one.split('=').next() != Some(name.as_str()))
                    .collect();
                Ok(Some(Tokenless {
                    token,
                    path,
                    query: (!kept.is_empty()).then(|| kept.join("&")),
                }))
            }
        }
    }
}

/// What a token says, once its MAC was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shows {
    /// The second, since 1970, from which on it opens nothing.
    until: u64,
    /// For whom it was made, if that was said.
    viewer: Option<MemberId>,
}

impl Shows {
    /// Whether it opens now.
    ///
    /// # Errors
    /// [`Refused::TokenExpired`].
    pub(crate) fn opens(self, now: UnixMillis) -> Result<Option<MemberId>, Refused> {
        if now.seconds() < self.until {
            Ok(self.viewer)
        } else {
            Err(Refused::TokenExpired)
        }
    }
}

impl TokenRule {
    /// Reads a token for a path, which is the one without it.
    ///
    /// # Errors
    /// [`Refused::TokenMalformed`] or [`Refused::TokenWrong`]: more is not said of what was not made with
    /// one of the secrets, or for another path.
    pub(crate) fn read(&self, token: &str, path: &str) -> Result<Shows, Refused> {
        let written = Written::parse(token).ok_or(Refused::TokenMalformed)?;
        let opens = path.get(..written.opens).ok_or(Refused::TokenWrong)?;
        // Whole segments: what opens `/films/1` opens nothing in `/films/10`.
        if !opens.starts_with('/') || !(opens.ends_with('/') || opens.len() == path.len()) {
            return Err(Refused::TokenWrong);
        }
        let secrets = self.keys.iter().filter_map(|key| key.secret.as_ref());
        // All are compared, whichever is right.
        let right = secrets.fold(false, |right, secret| {
            let mut mac = mac(secret);
            for part in [DOMAIN, written.until_text, opens, written.viewer] {
                mac.update(part.as_bytes());
                mac.update(b"\n");
            }
            mac.verify_slice(&written.mac).is_ok() | right
        });
        if !right {
            return Err(Refused::TokenWrong);
        }
        let viewer = match written.viewer {
            "" => None,
            viewer => Some(MemberId::parse(viewer).ok_or(Refused::TokenMalformed)?),
        };
        Ok(Shows {
            until: written.until,
            viewer,
        })
    }
}

fn mac(secret: &Secret) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret.value().as_bytes()).expect("a key has any length")
}

/// A token, taken apart: `1800000000.9.m-17.5e0f…`, of which the third part may be left out.
struct Written<'a> {
    until_text: &'a str,
    until: u64,
    /// How many bytes of the path it opens.
    opens: usize,
    viewer: &'a str,
    mac: [u8; 32],
}

impl<'a> Written<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let parts: Vec<&str> = token.split('.').collect();
        let (until_text, opens, viewer, mac) = match parts[..] {
            [until, opens, mac] => (until, opens, "", mac),
            [until, opens, viewer, mac] if !viewer.is_empty() => (until, opens, viewer, mac),
            _ => return None,
        };
        // One way of writing each number.
        let number = |text: &str| {
            let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
            plain.then(|| text.parse::<u64>().ok()).flatten()
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if viewer.len() > VIEWER_BYTES_MAX || !viewer.bytes().all(is_name) {
            return None;
        }
        Some(Self {
            until: number(until_text)?,
            until_text,
            opens: usize::try_from(number(opens)?).ok()?,
            viewer,
            mac: hexadecimal(mac)?,
        })
    }
}

/// 64 hexadecimal digits in lower case.
fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, two) in bytes.iter_mut().zip(text.chunks(2)) {
        *byte = digit(two[0])? << 4 | digit(two[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "an-example-of-a-secret-0123456789";
    const OLD: &str = "the-secret-of-last-month-98765432";

    fn rule() -> TokenRule {
        let key = |name: &str, secret: &str| TokenKey {
            source: SecretSource::Environment(name.into()),
            secret: Some(Secret::new(secret.as_bytes()).expect("it is one")),
        };
        TokenRule {
            place: TokenPlace::Path("/t/".into()),
            keys: vec![key("NEW", SECRET), key("OLD", OLD)],
        }
    }

    /// A token as a site makes it.
    fn made(secret: &str, until: u64, opens: &str, viewer: &str) -> String {
        let secret = Secret::new(secret.as_bytes()).expect("it is one");
        let mut mac = mac(&secret);
        mac.update(format!("shikiri-token-1\n{until}\n{opens}\n{viewer}\n").as_bytes());
        let mac = mac.finalize().into_bytes();
        let mac: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let viewer = if viewer.is_empty() {
            String::new()
        } else {
            format!("{viewer}.")
        };
        format!("{until}.{}.{viewer}{mac}", opens.len())
    }

    /// Of `docs/policy.md`.
    const GOLDEN: &str = "1800000000.9.m-17.";

    #[test]
    fn the_documented_example_opens() {
        const MANUAL: &str = include_str!("../../../docs/policy.md");
        let token = made(SECRET, 1_800_000_000, "/films/1/", "m-17");
        assert!(token.starts_with(GOLDEN));
        assert!(MANUAL.contains(&token), "{token} is not in the manual");
        assert!(MANUAL.contains(SECRET));
        let shows = rule()
            .read(&token, "/films/1/seg-2.ts")
            .expect("it is right");
        let viewer = shows.clone().opens(UnixMillis(1_799_999_999_999));
        assert_eq!(viewer, Ok(MemberId::parse("m-17")));
        assert_eq!(
            shows.opens(UnixMillis(1_800_000_000_000)),
            Err(Refused::TokenExpired)
        );
    }

    #[track_caller]
    fn check(token: &str, path: &str, expected: Result<(), Refused>) {
        assert_eq!(
            rule().read(token, path).map(drop),
            expected,
            "{token} {path}"
        );
    }

    #[test]
    fn what_a_token_opens() {
        let of = |opens: &str| made(SECRET, 2_000_000_000, opens, "");
        let wrong = Err(Refused::TokenWrong);
        check(&of("/films/1/"), "/films/1/a.ts", Ok(()));
        check(&of("/films/1/"), "/films/1/b/c.ts", Ok(()));
        check(&of("/films/1/"), "/films/2/a.ts", wrong);
        check(&of("/films/1/"), "/films/1", wrong);
        check(&of("/films/1"), "/films/1", Ok(()));
        check(&of("/films/1"), "/films/10", wrong);
        check(&of("/films/1"), "/films/1/a.ts", wrong);
        check(&of("/"), "/anything", Ok(()));
        check(&of("films/1/"), "/films/1/", wrong);
        // Another secret, and the one before.
        check(&made(OLD, 2_000_000_000, "/a", ""), "/a", Ok(()));
        let foreign = made("a-secret-of-somebody-else-000000", 2_000_000_000, "/a", "");
        check(&foreign, "/a", wrong);
    }

    #[test]
    fn what_is_no_token() {
        let right = made(SECRET, 2_000_000_000, "/a", "m");
        check(&right, "/a", Ok(()));
        let mac = right.rsplit('.').next().expect("it has one").to_owned();
        for wrong in [
            String::new(),
            "x".to_owned(),
            right.to_uppercase(),
            format!("{right}."),
            format!("{right}0"),
            format!("{right} "),
            format!("02000000000.2.m.{mac}"),
            format!("+2000000000.2.m.{mac}"),
            format!("2000000000.02.m.{mac}"),
            format!("2000000000.2..{mac}"),
            format!("2000000000.2.m.x.{mac}"),
            format!("2000000000.2.m%2e.{mac}"),
            format!("2000000000.2.{}.{mac}", "m".repeat(65)),
            format!("99999999999999999999999.2.m.{mac}"),
            format!(
                "2000000000.2.m.{}",
                mac.get(1..).expect("it is hexadecimal")
            ),
        ] {
            check(&wrong, "/a", Err(Refused::TokenMalformed));
        }
        for wrong in [
            format!("2000000001.2.m.{mac}"),
            format!("2000000000.1.m.{mac}"),
            format!("2000000000.99.m.{mac}"),
            format!("2000000000.2.n.{mac}"),
            format!("2000000000.2.{mac}"),
        ] {
            check(&wrong, "/a", Err(Refused::TokenWrong));
        }
    }

    #[test]
    fn where_a_token_stands() {
        let of = |place: &TokenPlace, path: &str, query: Option<&str>| {
            let taken = place
                .take(path, query)
                .map(|taken| taken.map(|t| (t.token.to_owned(), t.path.to_owned(), t.query)));
            taken.map_err(|why| why.name())
        };
        let path = TokenPlace::Path("/t/".into());
        let found = |token: &str, path: &str, query: Option<&str>| {
            Ok(Some((
                token.to_owned(),
                path.to_owned(),
                query.map(str::to_owned),
            )))
        };
        assert_eq!(of(&path, "/t/abc/f/1", None), found("abc", "/f/1", None));
        assert_eq!(
            of(&path, "/t/abc/f", Some("q")),
            found("abc", "/f", Some("q"))
        );
        assert_eq!(of(&path, "/t//f", None), found("", "/f", None));
        assert_eq!(of(&path, "/t/abc", None), Err("token-malformed"));
        assert_eq!(of(&path, "/f/1", None), Ok(None));
        let query = TokenPlace::Query("t".into());
        assert_eq!(of(&query, "/f", Some("t=abc")), found("abc", "/f", None));
        assert_eq!(
            of(&query, "/f", Some("a=1&t=abc&b")),
            found("abc", "/f", Some("a=1&b"))
        );
        assert_eq!(of(&query, "/f", Some("t=a&t=b")), Err("token-malformed"));
        assert_eq!(of(&query, "/f", Some("tt=a")), Ok(None));
        assert_eq!(of(&query, "/f", None), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bit_that_changes_closes(at in 0_usize..96, bit in 0_u8..8, viewer in "[a-z0-9_-]{0,12}") {
            let right = made(SECRET, 2_000_000_000, "/films/1/", &viewer);
            let path = "/films/1/a.ts";
            prop_assert!(rule().read(&right, path).is_ok());
            let mut bytes = right.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = String::from_utf8(bytes) {
                prop_assert!(rule().read(&changed, path).is_err(), "{changed}");
            }
        }

        #[test]
        fn no_text_is_read_in_two_ways(token in ".{0,300}", path in "/.{0,60}") {
            prop_assert!(rule().read(&token, &path).is_err());
        }
    }
}
