//! How purges and invalidations name what is stored: one name for all spellings of a URI.
//!
//! A key holds a target as it came, since that is what the origin is asked; two spellings are two
//! objects. Whoever names one means both, so names are made here, of objects and of what is purged.
//!
//! Invariant: spellings that RFC 3986 6.2.2 holds equal have one name, and so have those that differ
//! only in whether a character that may stand for itself is encoded. To have one name too few costs an
//! object that is fetched again; to have one too many shows an old page.

use std::fmt::Write;

use crate::request::Scheme;

/// The name of a target (origin form) at a host.
pub(crate) fn named(scheme: Scheme, authority: &str, target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut name = format!("{}://{authority}", scheme.as_str());
    push(&mut name, path, stands_for_itself);
    if !query.is_empty() {
        name.push('?');
        push(&mut name, query, |b| {
            stands_for_itself(b) || matches!(b, b'/' | b'?')
        });
    }
    name
}

/// A URL without what it says of an octet that it does not say whole: the end of a prefix.
pub(crate) fn without_open_octet(url: &str) -> &str {
    match url.rsplit_once('%') {
        Some((whole, open)) if open.len() < 2 => whole,
        _ => url,
    }
}

/// Appends a part of a target, with each octet in its one spelling.
fn push(name: &mut String, part: &str, decodes: impl Fn(u8) -> bool) {
    let mut pieces = part.split('%');
    name.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let octet = piece.get(..2).zip(piece.get(2..));
        let octet = octet.and_then(|(digits, rest)| Some((octet_of(digits)?, rest)));
        match octet {
            Some((octet, rest)) if decodes(octet) => {
                name.push(char::from(octet));
                name.push_str(rest);
            }
            Some((octet, rest)) => {
                write!(name, "%{octet:02X}").expect("a string can be written to");
                name.push_str(rest);
            }
            None => {
                name.push('%');
                name.push_str(piece);
            }
        }
    }
}

fn octet_of(digits: &str) -> Option<u8> {
    let are_digits = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| are_digits)
}

/// What a segment of a path may hold as it is (RFC 3986 3.3), less what separates parameters or is
/// read as a blank.
const fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(
            byte,
            b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b',' | b':' | b'@'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_target_have_one_name() {
        for (one, other, are_one) in [
            ("/caf%c3%a9.css", "/caf%C3%A9.css", true),
            ("/caf%c3%a9.css", "/caf%C3%a9.css", true),
            ("/x", "/x?", true),
            ("/logo@2x.png", "/logo%402x.png", true),
            ("/a.css?v=%61", "/a.css?v=a", true),
            ("/a.css?u=%2fx%3f", "/a.css?u=/x?", true),
            // These are other targets.
            ("/A.css", "/a.css", false),
            ("/a%2fb", "/a/b", false),
            ("/a%3fb", "/a?b", false),
            ("/a?b=%26c", "/a?b=&c", false),
            ("/a?b=%2b", "/a?b=+", false),
            ("/a%2541", "/aA", false),
            ("/a?b", "/a?b=", false),
            // No octet: as it came.
            ("/a%zz", "/a%ZZ", false),
            ("/a%+1", "/a%01", false),
            ("/a%", "/a", false),
            ("/a%\u{e9}", "/a%", false),
        ] {
            let name = |target| named(Scheme::Http, "a.test", target);
            assert_eq!(name(one) == name(other), are_one, "{one} {other}");
            for target in [one, other] {
                let name = name(target);
                let again = name.strip_prefix("http://a.test").unwrap();
                assert_eq!(named(Scheme::Http, "a.test", again), name, "{target}");
            }
        }
    }

    #[test]
    fn a_prefix_ends_before_an_octet_that_it_does_not_say_whole() {
        for (url, kept) in [
            ("/a%c3%a9", "/a%c3%a9"),
            ("/a%c3%a", "/a%c3"),
            ("/a%", "/a"),
            ("/a", "/a"),
        ] {
            assert_eq!(without_open_octet(url), kept);
        }
    }
}
