//! A client's certificate, as a credential.
//!
//! Whoever terminates TLS verifies it; here it is only what tells one viewer from another, and what an
//! origin is told. It is never in a key, and neither it nor its fingerprint prints.

use std::fmt;

use http::HeaderValue;
use shikiri_record::{Canonical, Digest};

/// A verified client certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    fingerprint: Digest,
    field: HeaderValue,
}

impl ClientCertificate {
    /// Of a certificate in DER, which somebody has verified.
    #[must_use]
    pub fn new(der: &[u8]) -> Self {
        let mut field = HeaderValue::try_from(format!(":{}:", base64(der)))
            .expect("base64 between colons is a header value");
        field.set_sensitive(true);
        Self {
            fingerprint: Canonical::new("shikiri client certificate 1")
                .bytes(der)
                .digest(),
            field,
        }
    }

    /// A digest of the certificate: the part of a sender's identity that it makes.
    #[must_use]
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The value of `Client-Cert` (RFC 9440 2.2).
    #[must_use]
    pub const fn field(&self) -> &HeaderValue {
        &self.field
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(…)")
    }
}

/// RFC 4648 4, padded: a byte sequence of a structured field (RFC 9651 3.3.5).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for n in 0..4 {
            let digit = (bits >> (18 - 6 * n)) & 0x3f;
            text.push(if n <= group.len() {
                char::from(DIGITS[usize::try_from(digit).expect("six bits")])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn it_tells_viewers_apart_and_does_not_print() {
        let (one, other) = (ClientCertificate::new(b"1"), ClientCertificate::new(b"2"));
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(one.field().as_bytes(), b":MQ==:");
        assert_eq!(format!("{one:?}"), "ClientCertificate(…)");
        assert_eq!(format!("{:?}", one.field()), "Sensitive");
    }
}
