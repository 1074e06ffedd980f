//! The PROXY protocol, versions 1 and 2: a balancer says for whom it connects.
//!
//! Taken from trusted addresses alone, before anything else on a connection; without it such a listener
//! serves nobody, since then anybody could be anybody. Only the client's address is taken from it: what a
//! balancer adds of TLS or names is not believed here.
//!
//! Invariant: what is read is bounded, and what follows the header is the client's, byte for byte.

use std::net::IpAddr;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};

/// Bytes of a header of version 2, with what it adds; the addresses take 52, or 232 of local sockets.
pub const HEADER_BYTES_MAX: usize = 2 << 10;

/// Bytes of a header of version 1.
const TEXT_BYTES_MAX: usize = 107;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A header of so many bytes, for this client; `None`: the balancer's own connection.
    Header(Option<IpAddr>, usize),
    /// The beginning of one.
    More,
    /// None.
    Not,
}

/// Reads the first bytes of a connection. The verdict on a header depends on its own bytes alone.
#[must_use]
pub fn read(bytes: &[u8]) -> Proxied {
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1: true,
        allow_v2: true,
    };
    // Whatever is longer than a header may be is none, however it goes on.
    let within = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    match ProxyHeader::parse(within, config) {
        Ok((header, length)) => {
            let is_text = within.starts_with(b"PROXY ");
            if (within.starts_with(b"P") && !is_text) || (is_text && length > TEXT_BYTES_MAX) {
                return Proxied::Not;
            }
            match header.proxied_address() {
                None => Proxied::Header(None, length),
                Some(address) if address.protocol == Protocol::Stream => {
                    Proxied::Header(Some(address.source.ip().to_canonical()), length)
                }
                Some(_) => Proxied::Not,
            }
        }
        Err(Error::BufferTooShort) if is_beginning(within) && within.len() < HEADER_BYTES_MAX => {
            Proxied::More
        }
        Err(_) => Proxied::Not,
    }
}

/// Whether so few bytes can be the beginning of a header: the parser waits for more before it looks.
fn is_beginning(bytes: &[u8]) -> bool {
    const TEXT: &[u8] = b"PROXY ";
    const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let begins = |greeting: &[u8]| {
        let length = greeting.len().min(bytes.len());
        bytes[..length] == greeting[..length]
    };
    (begins(TEXT) && bytes.len() < TEXT_BYTES_MAX) || begins(BINARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    /// Of these bytes, and of these with a request after them; every shorter piece asks for more.
    #[track_caller]
    fn check(header: &[u8], client: Option<&str>) {
        let client = client.map(|client| client.parse().unwrap());
        let expected = Proxied::Header(client, header.len());
        assert_eq!(read(header), expected);
        assert_eq!(read(&[header, b"GET / HTTP/1.1\r\n"].concat()), expected);
        for length in 0..header.len() {
            assert_eq!(read(&header[..length]), Proxied::More, "{length}");
        }
    }

    #[test]
    fn headers() {
        check(
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n",
            Some("192.0.2.7"),
        );
        check(
            b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 443\r\n",
            Some("2001:db8::7"),
        );
        check(
            b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4000 443\r\n",
            Some("192.0.2.7"),
        );
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 15, 160, 1, 187];
        check(&binary(0x21, 0x11, &four), Some("192.0.2.7"));
        check(&binary(0x20, 0x11, &four), None);
        check(&binary(0x20, 0, b""), None);
        let six: Vec<u8> = [
            &[0x20, 1, 0x0d, 0xb8][..],
            &[0; 11],
            &[7],
            &[0; 16],
            &[0; 4],
        ]
        .concat();
        check(&binary(0x21, 0x21, &six), Some("2001:db8::7"));
        // With what a balancer adds (its kind, its length, a name).
        let added = [&four[..], &[2, 0, 9], b"shop.test"].concat();
        check(&binary(0x21, 0x11, &added), Some("192.0.2.7"));
        check(&binary(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn what_is_none() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PUT / HTTP/1.1\r\n",
            b"PROXYTCP4 192.0.2.7 198.51.100.1 4000 443\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\nGET / HTTP/1.1\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 4000 443\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 99999\r\n",
            b"PROXY UDP4 192.0.2.7 198.51.100.1 4000 443\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(read(bytes), Proxied::Not, "{bytes:?}");
        }
        assert_eq!(read(&binary(0x21, 0x12, &[0; 12])), Proxied::Not);
        assert_eq!(read(&binary(0x31, 0x11, &[0; 12])), Proxied::Not);
        let short = [binary(0x21, 0x11, &[0; 8]), vec![0; 16]].concat();
        assert_eq!(read(&short), Proxied::Not);
        assert_eq!(
            read(&[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat()),
            Proxied::Not
        );
        let long = [b"PROXY UNKNOWN ", &[b'x'; 200][..], b"\r\n"].concat();
        assert_eq!(read(&long), Proxied::Not);
        assert_eq!(read(&binary(0x21, 0x11, &[0; 4000])), Proxied::Not);
    }
}
