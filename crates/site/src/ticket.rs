//! Tickets: what the store gives a member who may watch something, and the delivery server believes.
//!
//! A ticket stands in the path (`/t/TICKET/films/…/part0.m4s`), so that a playlist's own relative
//! addresses lead to places that it opens as well. It names no member. It opens one folder until an
//! instant, and is worth what it opens: it is made for who may have it, and its address is on no page but
//! theirs.
//!
//! Invariant: only who has the secret makes one, and any change of it, of the folder or of the instant
//! makes it worthless.

use std::fmt;

use crate::asked::Millis;

/// Makes tickets and knows them. It does not print.
#[derive(Clone)]
pub struct Tickets([u8; 32]);

/// The path under which tickets stand.
const PREFIX: &str = "/t/";
const HOLDERS_OF: &str = "shikiri-site 2026 ticket";

impl Tickets {
    /// From a secret that the store and the delivery server have in common.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(blake3::derive_key(HOLDERS_OF, secret))
    }

    /// For a process alone: what another says is no ticket here.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        Self(bytes)
    }

    /// The path of a folder (`/films/x`) with a ticket for it that is good until then, to the second.
    #[must_use]
    pub fn path(&self, folder: &str, until: Millis) -> String {
        let until_s = until.0.div_euclid(1000);
        let mac = self.mac(folder, until_s).to_hex();
        format!("{PREFIX}{until_s}-{mac}{folder}")
    }

    /// The path that a ticket opens: that after it, when it is good for its first two segments now. None
    /// where the path has no ticket; an error where it is not good.
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
        let (until_s, mac) = ticket.split_once('-').ok_or(Worthless)?;
        let is_number = until_s.bytes().all(|it| it.is_ascii_digit());
        let until_s: i64 = until_s.parse().map_err(|_| Worthless)?;
        let mac = blake3::Hash::from_hex(mac).map_err(|_| Worthless)?;
        let mut segments = path.split('/').skip(1);
        let (kind, name) = segments.next().zip(segments.next()).ok_or(Worthless)?;
        // Compared in constant time.
        let is_good = self.mac(&format!("/{kind}/{name}"), until_s) == mac;
        let is_in_time = now.0 < until_s.saturating_mul(1000);
        if is_number && is_good && is_in_time {
            Ok(())
        } else {
            Err(Worthless)
        }
    }

    fn mac(&self, folder: &str, until_s: i64) -> blake3::Hash {
        blake3::keyed_hash(&self.0, format!("{until_s}\n{folder}").as_bytes())
    }
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

    #[test]
    fn a_ticket_opens_its_folder_until_then_and_nothing_else() {
        let tickets = Tickets::of(b"a secret of both");
        let path = tickets.path("/films/a-1", NOW.plus(10_000));
        for (rest, opened) in [
            ("/index.m3u8", Some("/films/a-1/index.m3u8")),
            ("/deeper/x", Some("/films/a-1/deeper/x")),
            ("", Some("/films/a-1")),
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
            ("a later end", whole.replace("/t/1", "/t/2")),
            ("no number", whole.replace("/t/", "/t/+")),
            ("no mac", whole.replace(ticket, "1794000010-")),
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
        let tickets = Tickets::of(b"a secret of both");
        let whole = tickets.path("/films/a-1", NOW.plus(10_000));
        for nth in "/t/".len()..whole.len() {
            let mut other = whole.clone().into_bytes();
            other[nth] ^= 1;
            let other = String::from_utf8(other).unwrap();
            let is_good = matches!(tickets.opened(&other, NOW), Some(Ok(_)));
            assert!(!is_good, "{other}");
        }
    }
}
