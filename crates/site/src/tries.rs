//! How often passwords may be tried, so that guessing ends and nobody can lock a member out.
//!
//! A browser in which a member has logged in before is known by a cookie that says so, and its tries are
//! counted by themselves. All others are counted by mail address and network together, by network, and,
//! more slowly, by mail address. So whoever guesses from one network stops themselves; whoever guesses
//! from many stops browsers in which the member never was, and not the member's own.
//!
//! Invariant: what is counted says nothing of whether a mail address is a member's.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderValue};

use crate::asked::{Millis, cookie_of};
use crate::limit::Limit;
use crate::member::fresh_id;
use crate::refusal::Refusal;

/// The cookie by which a browser is known. It opens nothing.
pub const DEVICE_COOKIE: &str = "__Host-device";

const MINUTE_MS: i64 = 60 * 1000;
/// How long a browser is known after a login.
const KNOWN_MS: i64 = 365 * 24 * 60 * MINUTE_MS;

/// A browser in which somebody has logged in: whoever has it is not more of a member than without it.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    id: String,
    since: Millis,
    signature: String,
}

impl Device {
    /// As the request's cookie says; whether it is ours is not looked at.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = cookie_of(headers, DEVICE_COOKIE)?;
        let mut parts = text.split('.');
        let (id, since, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let is_good = parts.next().is_none()
            && id.len() == 20
            && id.bytes().all(|it| it.is_ascii_alphanumeric())
            && signature.len() == 64;
        is_good.then_some(Self {
            id: id.to_owned(),
            since: Millis(since.parse().ok()?),
            signature: signature.to_owned(),
        })
    }

    /// The field that keeps it.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = format!(
            "{DEVICE_COOKIE}={}.{}.{}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
            self.id,
            self.since.0,
            self.signature,
            KNOWN_MS / 1000
        );
        let mut value = HeaderValue::from_str(&text).expect("letters and digits");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device(…)")
    }
}

/// Where a try comes from.
#[derive(Clone, Copy)]
pub(crate) struct From<'a> {
    pub(crate) device: Option<&'a Device>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) now: Millis,
}

/// A try that was counted, for when it succeeds.
#[must_use]
pub(crate) struct Counted(Place);

enum Place {
    Device(String),
    Pair(String),
    Member(String),
}

pub(crate) struct Tries {
    secret: [u8; 32],
    devices: Limit,
    pairs: Limit,
    networks: Limit,
    mails: Limit,
    members: Limit,
}

impl Tries {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            devices: Limit::new(10, 10 * MINUTE_MS),
            pairs: Limit::new(10, 10 * MINUTE_MS),
            networks: Limit::new(60, 10 * MINUTE_MS),
            // More than a network alone can use up in the time.
            mails: Limit::new(100, 60 * MINUTE_MS),
            members: Limit::new(10, 10 * MINUTE_MS),
        }
    }

    /// Counts a try to log in.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub(crate) fn log_in(&self, mail: &str, from: From<'_>) -> Result<Counted, Refusal> {
        if let Some(device) = from.device.filter(|it| self.is_known(it, mail, from.now)) {
            let name = format!("{} {mail}", device.id);
            self.devices.try_once(&name, from.now)?;
            return Ok(Counted(Place::Device(name)));
        }
        let network = network(from.client);
        let pair = format!("{network} {mail}");
        self.networks.try_once(&network, from.now)?;
        self.pairs.try_once(&pair, from.now)?;
        self.mails.try_once(mail, from.now)?;
        Ok(Counted(Place::Pair(pair)))
    }

    /// Counts a try to confirm a session, which only who has one can make.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub(crate) fn confirm(&self, member: &str, now: Millis) -> Result<Counted, Refusal> {
        self.members.try_once(member, now)?;
        Ok(Counted(Place::Member(member.to_owned())))
    }

    /// It was the password: what was counted there is forgotten.
    pub(crate) fn succeeded(&self, Counted(place): Counted) {
        match place {
            Place::Device(name) => self.devices.forget(&name),
            Place::Pair(name) => self.pairs.forget(&name),
            Place::Member(name) => self.members.forget(&name),
        }
    }

    /// The browser in which this member has just logged in.
    pub(crate) fn remembered(&self, mail: &str, now: Millis) -> Device {
        let id = fresh_id();
        Device {
            signature: self.signed(&id, now, mail).to_hex().to_string(),
            id,
            since: now,
        }
    }

    fn is_known(&self, device: &Device, mail: &str, now: Millis) -> bool {
        let ours = self.signed(&device.id, device.since, mail);
        // Compared in constant time.
        blake3::Hash::from_hex(&device.signature).is_ok_and(|it| it == ours)
            && now < device.since.plus(KNOWN_MS)
    }

    fn signed(&self, id: &str, since: Millis, mail: &str) -> blake3::Hash {
        let text = format!("device {id} {} {mail}", since.0);
        blake3::keyed_hash(&self.secret, text.as_bytes())
    }
}

/// What one party has to itself at least: an address, of IPv6 the half that names a network.
pub(crate) fn network(client: Option<IpAddr>) -> String {
    match client.map(|it| it.to_canonical()) {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "taro@example.test";

    fn tries() -> Tries {
        Tries::new([7; 32])
    }

    fn from(client: &str, minute: i64) -> From<'static> {
        From {
            device: None,
            client: Some(client.parse().unwrap()),
            now: Millis(minute * MINUTE_MS),
        }
    }

    /// How many of so many tries were let through.
    fn through(tries: &Tries, mail: &str, from: From<'_>, times: usize) -> usize {
        (0..times)
            .filter(|_| tries.log_in(mail, from).is_ok())
            .count()
    }

    #[test]
    fn who_guesses_from_one_network_stops_nobody_else() {
        let tries = tries();
        for minute in [0, 10, 20, 30, 40, 50] {
            let guesser = from("192.0.2.1", minute);
            assert_eq!(through(&tries, MAIL, guesser, 40), 10);
            assert_eq!(through(&tries, MAIL, from("192.0.2.2", minute), 1), 1);
        }
        // The same half of an address of IPv6 is one network.
        assert_eq!(through(&tries, MAIL, from("2001:db8::1", 59), 10), 10);
        assert_eq!(through(&tries, MAIL, from("2001:db8::ffff:1", 59), 1), 0);
        assert_eq!(through(&tries, MAIL, from("::ffff:192.0.2.1", 59), 1), 0);
    }

    #[test]
    fn who_tries_many_addresses_from_one_network_is_stopped() {
        let tries = tries();
        let all = (0..100).map(|nth| format!("m{nth}@example.test"));
        let came: usize = all
            .map(|mail| through(&tries, &mail, from("192.0.2.1", 0), 1))
            .sum();
        assert_eq!(came, 60);
    }

    #[test]
    fn who_guesses_from_many_networks_does_not_stop_a_browser_that_is_known() {
        let tries = tries();
        let device = tries.remembered(MAIL, Millis(0));
        let many: usize = (0..200)
            .map(|nth| through(&tries, MAIL, from(&format!("198.51.100.{nth}"), 1), 5))
            .sum();
        assert_eq!(many, 100, "guessing ends");
        let new = from("203.0.113.1", 1);
        assert_eq!(
            through(&tries, MAIL, new, 1),
            0,
            "also for a browser that is new"
        );
        let known = From {
            device: Some(&device),
            ..new
        };
        assert_eq!(
            through(&tries, MAIL, known, 30),
            10,
            "and who has it guesses no more than others"
        );
        assert_eq!(
            through(
                &tries,
                MAIL,
                From {
                    now: Millis(12 * MINUTE_MS),
                    ..known
                },
                1
            ),
            1
        );
    }

    #[test]
    fn a_success_forgets_what_was_counted_there() {
        let tries = tries();
        let device = tries.remembered(MAIL, Millis(0));
        let new = from("192.0.2.1", 0);
        for from in [
            new,
            From {
                device: Some(&device),
                ..new
            },
        ] {
            assert_eq!(through(&tries, MAIL, from, 9), 9);
            let counted = tries.log_in(MAIL, from).unwrap();
            tries.succeeded(counted);
            assert_eq!(through(&tries, MAIL, from, 11), 10);
        }
    }

    #[test]
    fn a_browser_is_known_by_our_word_for_one_mail_address_and_a_year() {
        let (tries, other) = (tries(), Tries::new([8; 32]));
        let device = tries.remembered(MAIL, Millis(0));
        let mut headers = HeaderMap::new();
        let field = device.header();
        let pair = field.to_str().unwrap().split(';').next().unwrap();
        headers.append("cookie", pair.parse().unwrap());
        let read = Device::of(&headers).unwrap();
        assert!(read == device && tries.is_known(&read, MAIL, Millis(KNOWN_MS - 1)));
        assert!(!tries.is_known(&read, MAIL, Millis(KNOWN_MS)));
        assert!(!tries.is_known(&read, "hanako@example.test", Millis(0)));
        assert!(!other.is_known(&read, MAIL, Millis(0)));
        let later = Device {
            since: Millis(1),
            ..read
        };
        assert!(!tries.is_known(&later, MAIL, Millis(1)));
        assert!(!format!("{device:?}").contains(&device.id));
        for text in [
            "",
            "a.0.b",
            "..",
            &format!("{}.x.{}", "a".repeat(20), "b".repeat(64)),
        ] {
            let mut headers = HeaderMap::new();
            headers.append("cookie", format!("{DEVICE_COOKIE}={text}").parse().unwrap());
            assert!(Device::of(&headers).is_none(), "{text}");
        }
    }
}
