//! What members know and nobody else may learn, and the stamps by which origins' answers are known.
//!
//! Both have a shape of their own, so that a checker finds them in any bytes without knowing how
//! they came there.

use std::collections::BTreeSet;

use crate::rng::{Rng, mix};

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// The member whose secrets differ between the two runs.
    A,
    /// A member who must not notice.
    B,
    /// A visitor without a session, who must not notice either.
    C,
}

/// The kinds of secret of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cookie,
    Bearer,
    Header,
    Url,
    Body,
    Certificate,
}

/// How every secret begins; hexadecimal digits follow, 32 characters in all. Mixed as it is, the edge's
/// entropy rule knows one in a URL, and no stamp or secret holds another's beginning by chance.
const START: &[u8] = b"Zq5ecR";
/// How every stamp begins; sixteen hexadecimal digits follow.
const STAMP: &[u8] = b"st4mp";

/// The secrets of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secrets {
    pub(crate) seed: u64,
    /// Differs between the two runs: A's secrets alone depend on it.
    pub(crate) variant: u64,
}

impl Secrets {
    pub(crate) fn of(self, who: Who, kind: Kind) -> String {
        let (owner, seed) = match who {
            Who::A => ('a', mix(self.seed ^ mix(self.variant + 1))),
            Who::B => ('b', mix(self.seed ^ 0xb)),
            Who::C => ('c', mix(self.seed ^ 0xc)),
        };
        let mut rng = Rng::new(seed ^ (kind as u64) << 8);
        let (high, low) = (rng.next(), rng.next() >> 32);
        format!("Zq5ecR{owner}{}{high:016x}{low:08x}", kind as u8)
    }
}

/// The bytes of a certificate that reads as its owner's secret where an origin is told of it, in base64
/// (RFC 9440 2.2): a secret's characters are digits of that.
pub(crate) fn certificate(who: Who, secrets: Secrets) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        _ => byte - b'0' + 52,
    };
    let secret = secrets.of(who, Kind::Certificate).into_bytes();
    let bytes = secret.chunks(4).flat_map(|four| {
        let bits = four
            .iter()
            .fold(0_u32, |bits, byte| bits << 6 | u32::from(digit(*byte)));
        let [_, three @ ..] = bits.to_be_bytes();
        three
    });
    bytes.collect()
}

/// Whose secrets stand in some bytes.
pub(crate) fn owners(bytes: &[u8]) -> BTreeSet<Who> {
    let mut owners = BTreeSet::new();
    for at in places(bytes, START) {
        match bytes.get(at + START.len()) {
            Some(b'a') => owners.insert(Who::A),
            Some(b'b') => owners.insert(Who::B),
            _ => false,
        };
    }
    owners
}

/// The bytes with every secret blotted out, at the same length.
pub(crate) fn masked(bytes: &[u8]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    for at in places(bytes, START) {
        let end = bytes.len().min(at + 32);
        masked[at + START.len() + 1..end.max(at + START.len() + 1)].fill(b'0');
    }
    masked
}

/// A stamp.
pub(crate) fn stamp(number: u64) -> String {
    format!("st4mp{number:016x}")
}

/// The stamps in some bytes, each once.
pub(crate) fn stamps(bytes: &[u8]) -> BTreeSet<u64> {
    places(bytes, STAMP)
        .filter_map(|at| {
            let digits = bytes.get(at + STAMP.len()..at + STAMP.len() + 16)?;
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        })
        .collect()
}

fn places<'a>(bytes: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(from..) {
            let at = from + rest.iter().position(|b| *b == what[0])?;
            from = at + 1;
            if bytes.get(at..at + what.len()) == Some(what) {
                return Some(at);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_is_told_of_a_certificate_reads_its_owners_secret() {
        let secrets = Secrets {
            seed: 7,
            variant: 1,
        };
        for (who, other) in [(Who::A, Who::B), (Who::B, Who::A)] {
            let told = shikiri_partition::ClientCertificate::new(&certificate(who, secrets));
            let told = told.field().as_bytes();
            assert!(owners(told).contains(&who) && !owners(told).contains(&other));
        }
    }
}
