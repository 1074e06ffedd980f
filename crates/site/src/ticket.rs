//! Tickets: what the store gives a member who may watch something, and the edge believes.
//!
//! A ticket is a token as edges check them (the part of `docs/policy.md` about tokens says its form). It
//! stands in the path (`/t/TICKET/films/…/part0.m4s`), so that a playlist's own relative addresses lead
//! to places that it opens as well. It opens one folder until an instant, for a member by their id: an
//! edge's row says who watched. Where an edge knows nothing of tickets, the delivery server looks at
//! them itself.
//!
//! Invariant: only who has the secret makes one, and any change of it, of the folder, of the member or of
//! the instant makes it worthless.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::asked::Millis;
use crate::member::MemberId;

/// Makes tickets and knows them. It does not print.
#[derive(Clone)]
pub struct Tickets(Vec<u8>);

/// The path under which tickets stand.
pub(crate) const PREFIX: &str = "/t/";
/// What the hashed text begins with, so that a hash made for something else opens nothing.
const DOMAIN: &str = "shikiri-token-1";

impl Tickets {
    /// From a secret that the store, the edge and the delivery server have in common.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(secret.to_owned())
    }

    /// For a process alone: what another says is no ticket here.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        Self(bytes)
    }

    /// The path of a folder (`/films/x`) with a member's ticket for it that is good until then, to the
    /// second.
    #[must_use]
    pub fn path(&self, folder: &str, viewer: &MemberId, until: Millis) -> String {
        let until_s = until.0.div_euclid(1000).to_string();
        let (opens, viewer) = (format!("{folder}/"), viewer.text());
        let mac = self.mac(&until_s, &opens, viewer).finalize().into_bytes();
        let mac: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{until_s}.{}.{viewer}.{mac}{folder}", opens.len())
    }

    /// The path that a ticket opens: that after it, when it is good for it now. None where the path has no
    /// ticket; an error where it is not good.
    pub(crate) fn opened<'a>(
        &self,
        path: &'a str,
        now: Millis,
    ) -> Option<Result<&'a str, Worthless>> {
        let (ticket, _) = path.strip_prefix(PREFIX)?.split_once('/')?;
        let opened = path.strip_prefix(PREFIX)?.strip_prefix(ticket)?;
        Some(self.judge(ticket, opened, now).map(|()| opened))
    }

    fn judge(&self, ticket: &str, path: &str, now: Millis) -> Result<(), Worthless> {
        let parts: Vec<&str> = ticket.split('.').collect();
        let [until_s, length, viewer, mac] = parts[..] else {
            return Err(Worthless);
        };
        let length: usize = length.parse().map_err(|_| Worthless)?;
        // Whole segments: what opens one folder opens nothing in another.
        let opens = path.get(..length).filter(|it| it.ends_with('/'));
        let made = self.mac(until_s, opens.ok_or(Worthless)?, viewer);
        // Compared in constant time.
        made.verify_slice(&hexadecimal(mac).ok_or(Worthless)?)
            .map_err(|_| Worthless)?;
        let until_s: i64 = until_s.parse().map_err(|_| Worthless)?;
        if now.0 < until_s.saturating_mul(1000) {
            Ok(())
        } else {
            Err(Worthless)
        }
    }

    fn mac(&self, until_s: &str, opens: &str, viewer: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key has any length");
        for line in [DOMAIN, until_s, opens, viewer] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        mac
    }
}

/// 64 hexadecimal digits in lower case: one way of writing each.
fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let hash = blake3::Hash::from_hex(text).ok()?;
    let is_lower = !text.bytes().any(|it| it.is_ascii_uppercase());
    is_lower.then(|| *hash.as_bytes())
}

/// A ticket that opens nothing, or nothing any more.
#[derive(Debug)]
pub(crate) struct Worthless;

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_794_000_000_000);

    fn viewer() -> MemberId {
        MemberId::stored("m17".to_owned())
    }

    #[test]
    fn a_ticket_is_a_token_as_edges_check_it() {
        // Of `docs/policy.md`: what any language's own HMAC makes of the same five lines.
        let tickets = Tickets::of(b"an-example-of-a-secret-0123456789");
        let made = tickets.mac("1800000000", "/films/1/", "m-17");
        let made = made.finalize().into_bytes();
        let made: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            made,
            "8500a0470fee62bb62089ba6fdbd11d5215809979d4da78c3553b8096cbdc5bd"
        );
        let path = tickets.path("/films/1", &viewer(), Millis(1_800_000_000_999));
        assert!(path.starts_with("/t/1800000000.9.m17."), "{path}");
        assert!(path.ends_with("/films/1"), "{path}");
    }

    #[test]
    fn a_ticket_opens_its_folder_until_then_and_nothing_else() {
        let tickets = Tickets::of(b"a secret of all three");
        let path = tickets.path("/films/a-1", &viewer(), NOW.plus(10_000));
        for (rest, opened) in [
            ("/index.m3u8", Some("/films/a-1/index.m3u8")),
            ("/deeper/x", Some("/films/a-1/deeper/x")),
            ("", None),
        ] {
            let asked = format!("{path}{rest}");
            let found = tickets.opened(&asked, NOW).map(Result::ok);
            assert_eq!(found, Some(opened), "{rest}");
        }
        let whole = format!("{path}/index.m3u8");
        let ticket = whole.split('/').nth(2).unwrap();
        for (name, other) in [
            ("another folder", whole.replace("a-1", "b-1")),
            ("another kind", whole.replace("/films/", "/downloads/")),
            ("a longer name", whole.replace("a-1", "a-12")),
            ("no folder", format!("/t/{ticket}/")),
            ("another member", whole.replace("m17", "m18")),
            ("a later end", whole.replace("/t/1", "/t/2")),
            ("another length", whole.replace(".11.", ".1.")),
            ("no mac", whole.replace(ticket, "1794000010.11.m17.")),
        ] {
            assert_ne!(other, whole, "{name}");
            let found = tickets.opened(&other, NOW).map(|it| it.is_ok());
            assert_eq!(found, Some(false), "{name}: {other}");
        }
        assert!(tickets.opened("/films/a-1/index.m3u8", NOW).is_none());
        assert!(tickets.opened("/t/", NOW).is_none());
        let others = Tickets::of(b"another secret");
        assert!(matches!(others.opened(&whole, NOW), Some(Err(Worthless))));
        for (later_ms, good) in [(9_999, true), (10_000, false)] {
            let found = tickets.opened(&whole, NOW.plus(later_ms));
            assert_eq!(found.map(|it| it.is_ok()), Some(good), "{later_ms}");
        }
    }

    #[test]
    fn any_change_of_a_letter_makes_it_worthless() {
        let tickets = Tickets::of(b"a secret of all three");
        let folder = tickets.path("/films/a-1", &viewer(), NOW.plus(10_000));
        let whole = format!("{folder}/x");
        for nth in "/t/".len()..folder.len() {
            let mut other = whole.clone().into_bytes();
            other[nth] ^= 1;
            let other = String::from_utf8(other).unwrap();
            let is_good = matches!(tickets.opened(&other, NOW), Some(Ok(_)));
            assert!(!is_good, "{other}");
        }
    }
}
