//! A secret that policy names and does not hold: it is read from a file or the environment, goes out
//! on the requests that it is for, and is shown nowhere.
//!
//! Never here: reading it. This crate does no I/O; whoever compiles a policy hands the secrets over
//! ([`Rules::armed`](crate::Rules::armed)).
//!
//! Invariant: neither the secret nor anything from which it could be told short of guessing all of it is
//! printed, or is in a digest that is. A class whose secret is not known shares nothing.

use std::fmt;

use http::HeaderValue;
use shikiri_record::{Canonical, Digest};

/// Where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretSource {
    /// In this file, which holds nothing else.
    File(String),
    /// In this variable of the environment.
    Environment(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file `{path}`"),
            Self::Environment(name) => write!(f, "the variable `{name}`"),
        }
    }
}

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: HeaderValue,
    /// Names it: another secret has another. Whoever would tell the secret from it must guess all of it,
    /// so it is to be made at random.
    identity: Digest,
}

/// Fewer could be guessed from the identity.
const BYTES_MIN: usize = 16;

impl Secret {
    /// More would not fit into the heads that origins read.
    pub const BYTES_MAX: usize = 1024;

    /// A secret as it was found; what ends its line is no part of it.
    ///
    /// # Errors
    /// What is wrong with it, without telling it.
    pub fn new(found: &[u8]) -> Result<Self, String> {
        let found = found.strip_suffix(b"\n").unwrap_or(found);
        let found = found.strip_suffix(b"\r").unwrap_or(found);
        if !(BYTES_MIN..=Self::BYTES_MAX).contains(&found.len()) {
            return Err(format!(
                "a secret has {BYTES_MIN} to {} characters: make one with `openssl rand -hex 32`",
                Self::BYTES_MAX
            ));
        }
        if !found.iter().all(u8::is_ascii_graphic) {
            return Err("it holds a blank, or what is no ASCII character".to_owned());
        }
        let mut value = HeaderValue::from_bytes(found).expect("visible ASCII is a header value");
        value.set_sensitive(true);
        let mut canonical = Canonical::new("shikiri secret 1");
        canonical.bytes(found);
        Ok(Self {
            value,
            identity: canonical.digest(),
        })
    }

    /// As it is sent.
    pub(crate) const fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Names it without telling it.
    pub(crate) const fn identity(&self) -> Digest {
        self.identity
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_of_enough_characters_and_does_not_print() {
        let secret = Secret::new(b"0123456789abcdef\n").expect("it is one");
        assert_eq!(
            secret,
            Secret::new(b"0123456789abcdef\r\n").expect("it is one")
        );
        assert_eq!(secret.value(), "0123456789abcdef");
        let other = Secret::new(b"0123456789abcdeF").expect("it is one");
        assert_ne!(secret.identity(), other.identity());
        for wrong in [
            &b""[..],
            b"0123456789abcde",
            b"0123456789 abcdef",
            b"0123456789abcdef\n\n",
            "0123456789abcd\u{e9}".as_bytes(),
            &[b'x'; 1025],
        ] {
            let why = Secret::new(wrong).expect_err("it is none");
            assert!(!why.contains("0123"), "{why}");
        }
        let shown = format!("{secret:?} {:?}", secret.value());
        assert!(!shown.contains("0123"), "{shown}");
    }
}
