//! How long an object may be used, and what may be done with it now (RFC 9111 4.2, RFC 5861).
//!
//! Time is an argument. Where two statements disagree, the shorter lifetime is taken; what cannot be
//! read counts as expired. An object is judged again on every use: that it is stored says only that it
//! was admitted once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AGE, DATE, EXPIRES};
use http::{HeaderMap, HeaderName, StatusCode};
use shikiri_record::UnixMillis;

use crate::admit::Admitted;
use crate::classify::{Requester, Sharing};
use crate::directives::{Instructions, Seconds};
use crate::key::Key;
use crate::reason::NotShared;
use crate::rules::{Class, Lifetimes};

/// What may be done with a stored object for one request now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Served.
    Fresh {
        /// Freshness left.
        ttl: Duration,
    },
    /// Served, and refreshed behind it.
    WhileRevalidating,
    /// Not served unless the origin says so, or fails while `on_error`.
    Stale {
        /// Served when the origin fails.
        on_error: bool,
    },
    /// Not for this request: it carries what the object was made without.
    OnlyWithout(&'static str),
    /// Never served again.
    Dead(NotShared),
}

/// How long a response may be used, as it stood when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// When its head was received.
    received: UnixMillis,
    /// How old it was then (RFC 9111 4.2.3 `corrected_initial_age`).
    initial_age: Duration,
    /// How old it may become (RFC 9111 4.2.1), within what the class allows.
    lifetime: Duration,
    /// How long past that it may be served while it is refreshed (RFC 5861 3).
    while_revalidating: Duration,
    /// How long past that it may be served when the origin fails (RFC 5861 4).
    on_error: Duration,
}

impl Freshness {
    /// The freshness of a response that was asked for at `asked` and whose head came at `received`.
    ///
    /// # Errors
    /// [`NotShared::NoLifetime`] when neither the origin nor the class states one,
    /// [`NotShared::AlreadyStale`] when nothing of it is left.
    pub(crate) fn of(
        status: StatusCode,
        headers: &HeaderMap,
        instructions: &Instructions,
        class: &Lifetimes,
        asked: UnixMillis,
        received: UnixMillis,
    ) -> Result<Self, NotShared> {
        let lifetime = stated_lifetime(headers, instructions, received)
            .or_else(|| class.default.filter(|_| may_default(status, instructions)))
            .ok_or(NotShared::NoLifetime)?
            .min(class.max)
            .min(instructions.lifetime_max.unwrap_or(Duration::MAX));
        let initial_age = initial_age(headers, asked, received);
        if lifetime <= initial_age {
            return Err(NotShared::AlreadyStale);
        }
        let (while_revalidating, on_error) = if instructions.forbid_stale() {
            (Duration::ZERO, Duration::ZERO)
        } else {
            let within = |cdn: Seconds, cache_control: Seconds, class: Duration| {
                cdn.stated()
                    .or_else(|| cache_control.stated())
                    .map_or(class, |stated| stated.min(class))
            };
            let (cdn, cc) = (&instructions.cdn, &instructions.cache_control);
            (
                within(
                    cdn.stale_while_revalidate,
                    cc.stale_while_revalidate,
                    class.stale_while_revalidate,
                ),
                within(cdn.stale_if_error, cc.stale_if_error, class.stale_if_error),
            )
        };
        Ok(Self {
            received,
            initial_age,
            lifetime,
            while_revalidating,
            on_error,
        })
    }

    /// How old the response is now (RFC 9111 4.2.3 `current_age`).
    pub(crate) fn age(&self, now: UnixMillis) -> Duration {
        self.initial_age.saturating_add(now.since(self.received))
    }

    /// When its head was received.
    pub(crate) const fn received(&self) -> UnixMillis {
        self.received
    }

    /// Freshness left.
    pub(crate) fn ttl(&self, now: UnixMillis) -> Duration {
        self.lifetime.saturating_sub(self.age(now))
    }

    /// When it stops being fresh.
    pub(crate) fn ends(&self) -> UnixMillis {
        self.received
            .after(self.lifetime.saturating_sub(self.initial_age))
    }

    /// What may be done by time alone.
    fn reuse(&self, now: UnixMillis) -> Reuse {
        // Threads may disagree on the instant a little. A clock that was set back says nothing about
        // age any more.
        if now.after(CLOCK_DISAGREEMENT_MAX) < self.received {
            return Reuse::Stale { on_error: false };
        }
        let Some(past) = self.age(now).checked_sub(self.lifetime) else {
            return Reuse::Fresh { ttl: self.ttl(now) };
        };
        if past < self.while_revalidating {
            return Reuse::WhileRevalidating;
        }
        Reuse::Stale {
            on_error: past < self.on_error,
        }
    }
}

const CLOCK_DISAGREEMENT_MAX: Duration = Duration::from_secs(1);

impl Admitted {
    /// What may be done with this object for a request now, under the rules in force for it.
    /// `invalidated`: an invalidation of its URI came after its fill, or its last refresh, had begun.
    ///
    /// # Panics
    /// When the object is not stored under the request's key.
    #[must_use]
    pub fn reuse(&self, sharing: &Sharing, invalidated: bool, now: UnixMillis) -> Reuse {
        self.reuse_by(
            sharing.key(),
            sharing.class(),
            sharing.requester(),
            invalidated,
            now,
        )
    }

    pub(crate) fn reuse_by(
        &self,
        key: &Key,
        class: &Class,
        requester: Requester,
        invalidated: bool,
        now: UnixMillis,
    ) -> Reuse {
        assert!(self.key() == key, "an object is looked up by its key");
        // The key holds the class's digest, so this cannot differ. If ever it does, the object is of
        // other rules, and dies.
        if !is_of_class(self, class) {
            return Reuse::Dead(NotShared::RulesChanged);
        }
        if let Err(why) = self.still_declared(class) {
            return Reuse::Dead(why);
        }
        if let Some(header) = self.only_without().excludes(requester) {
            return Reuse::OnlyWithout(header);
        }
        // RFC 9111 4.4: what was invalidated needs validation before it is used, come what may.
        if invalidated {
            return Reuse::Stale { on_error: false };
        }
        self.freshness().reuse(now)
    }

    /// How long the object stays fresh; zero when it is not.
    #[must_use]
    pub fn ttl(&self, now: UnixMillis) -> Duration {
        self.freshness().ttl(now)
    }
}

fn is_of_class(object: &Admitted, class: &Class) -> bool {
    #[cfg(feature = "seeded-faults")]
    if crate::fault::is(crate::fault::Fault::OldDigestServed) {
        return true;
    }
    object.class() == class.digest
}

/// The lifetime that the origin states: the most specific field wins (RFC 9111 4.2.1, RFC 9213 2.2).
fn stated_lifetime(
    headers: &HeaderMap,
    instructions: &Instructions,
    received: UnixMillis,
) -> Option<Duration> {
    let Instructions {
        cdn, cache_control, ..
    } = instructions;
    [
        cdn.s_maxage,
        cdn.max_age,
        cache_control.s_maxage,
        cache_control.max_age,
    ]
    .into_iter()
    .find_map(Seconds::stated)
    .or_else(|| by_expires(headers, received))
}

/// `Expires` less `Date` (RFC 9111 5.3). Anything that is not one date, `0` above all, is in the past.
fn by_expires(headers: &HeaderMap, received: UnixMillis) -> Option<Duration> {
    if !headers.contains_key(EXPIRES) {
        return None;
    }
    let expires = one_date(headers, &EXPIRES);
    let date = if headers.contains_key(DATE) {
        one_date(headers, &DATE)
    } else {
        Some(received.seconds())
    };
    Some(match (expires, date) {
        (Some(expires), Some(date)) => Duration::from_secs(expires.saturating_sub(date)),
        _ => Duration::ZERO,
    })
}

/// Whether the class's default may stand in for a lifetime: only where a heuristic may (RFC 9111 4.2.2,
/// RFC 9110 15.1). A temporary redirect that states none is not kept.
fn may_default(status: StatusCode, instructions: &Instructions) -> bool {
    instructions.cache_control.public
        || matches!(
            status.as_u16(),
            200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
        )
}

/// RFC 9111 4.2.3 `corrected_initial_age`.
fn initial_age(headers: &HeaderMap, asked: UnixMillis, received: UnixMillis) -> Duration {
    let apparent = one_date(headers, &DATE).map_or(Duration::ZERO, |date| {
        Duration::from_secs(received.seconds().saturating_sub(date))
    });
    let response_delay = received.since(asked);
    apparent.max(stated_age(headers).saturating_add(response_delay))
}

/// The greatest `Age` that can be read; what cannot is ignored (RFC 9111 5.1).
fn stated_age(headers: &HeaderMap) -> Duration {
    crate::hop::tokens(headers, &AGE)
        .filter_map(|element| match Seconds::parse(element) {
            Seconds::Of(seconds) => Some(Duration::from_secs(seconds)),
            Seconds::Absent | Seconds::Invalid => None,
        })
        .max()
        .unwrap_or_default()
}

/// The one date of a field, in seconds since 1970; `None` when there is none, it cannot be read, or
/// several differ.
pub(crate) fn one_date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.any(|value| value != first) {
        return None;
    }
    date(first.to_str().ok()?)
}

/// Seconds since 1970 of a date in any of the three forms (RFC 9110 5.6.7).
pub(crate) fn date(text: &str) -> Option<u64> {
    let instant: SystemTime = httpdate::parse_http_date(text).ok()?;
    Some(instant.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// An instant as `Date` writes it.
pub(crate) fn imf_fixdate(at: UnixMillis) -> String {
    // 9999-12-31T23:59:59Z: no later year can be written.
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at.seconds().min(LAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: UnixMillis = UnixMillis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT
    const DATE_THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn lifetimes() -> Lifetimes {
        Lifetimes {
            default: None,
            max: Duration::from_secs(1000),
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(100),
        }
    }

    fn of(status: u16, lines: &str, class: Lifetimes) -> Result<Freshness, NotShared> {
        let mut headers = HeaderMap::new();
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                value.trim().parse().unwrap(),
            );
        }
        let instructions = Instructions::of(&headers, RECEIVED).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let asked = UnixMillis(RECEIVED.0 - 2000);
        Freshness::of(status, &headers, &instructions, &class, asked, RECEIVED)
    }

    /// The lifetime and the age at receipt, in seconds.
    #[track_caller]
    fn check(lines: &str, expected: Result<(u64, u64), NotShared>) {
        let got = of(200, lines, lifetimes());
        let got = got.map(|f| (f.lifetime.as_secs(), f.initial_age.as_secs()));
        assert_eq!(got, expected, "{lines}");
    }

    #[test]
    fn the_most_specific_lifetime_wins() {
        // The two seconds between asking and receiving count as age.
        check("cache-control: max-age=60", Ok((60, 2)));
        check("cache-control: max-age=60, s-maxage=90", Ok((90, 2)));
        check(
            "cache-control: s-maxage=60\n cdn-cache-control: max-age=90",
            Ok((90, 2)),
        );
        check(
            "cache-control: max-age=60\n expires: Sun, 06 Nov 1994 09:49:37 GMT",
            Ok((60, 2)),
        );
        check(
            &format!("date: {DATE_THEN}\n expires: Sun, 06 Nov 1994 08:50:37 GMT"),
            Ok((60, 2)),
        );
        check("expires: Sun, 06 Nov 1994 08:50:37 GMT", Ok((60, 2)));
        check("expires: Sunday, 06-Nov-94 08:50:37 GMT", Ok((60, 2)));
        check("expires: Sun Nov  6 08:50:37 1994", Ok((60, 2)));
        check("", Err(NotShared::NoLifetime));
    }

    #[test]
    fn no_lifetime_exceeds_the_class_or_another_targeted_field() {
        check("cache-control: max-age=100000", Ok((1000, 2)));
        check("cdn-cache-control: max-age=100000", Ok((1000, 2)));
        check(
            "cache-control: max-age=100\n surrogate-control: max-age=60",
            Ok((60, 2)),
        );
        check(
            "cache-control: max-age=100\n x-accel-expires: 0",
            Err(NotShared::AlreadyStale),
        );
    }

    #[test]
    fn what_cannot_be_read_is_expired() {
        for lines in [
            "cache-control: max-age=0",
            "cache-control: max-age=x",
            "cache-control: max-age=60, s-maxage=x",
            "cache-control: max-age=60, max-age=0",
            "cache-control: max-age=60\n cdn-cache-control: max-age=\"90\"",
            "expires: 0",
            "expires: -1",
            "expires: Sun, 06 Nov 1994 08:49:37 GMT",
            "expires: Sun, 06 Nov 1994 09:49:37 GMT\n expires: Sun, 06 Nov 1994 10:49:37 GMT",
            "expires: Sun, 06 Nov 1994 09:49:37 GMT\n date: yesterday",
        ] {
            check(lines, Err(NotShared::AlreadyStale));
        }
    }

    #[test]
    fn age_is_the_greatest_that_anybody_says() {
        check("cache-control: max-age=60\n age: 30", Ok((60, 32)));
        check("cache-control: max-age=60\n age: 30, 40", Ok((60, 42)));
        check(
            "cache-control: max-age=60\n age: 30\n age: 10",
            Ok((60, 32)),
        );
        check("cache-control: max-age=60\n age: -1", Ok((60, 2)));
        check("cache-control: max-age=60\n age: 3x", Ok((60, 2)));
        check(
            "cache-control: max-age=60\n date: Sun, 06 Nov 1994 08:49:07 GMT",
            Ok((60, 30)),
        );
        check(
            "cache-control: max-age=60\n date: Sun, 06 Nov 1994 08:49:07 GMT\n age: 40",
            Ok((60, 42)),
        );
        check(
            "cache-control: max-age=60\n date: Sun, 06 Nov 1994 09:49:07 GMT",
            Ok((60, 2)),
        );
        check("cache-control: max-age=60\n date: never", Ok((60, 2)));
        check(
            "cache-control: max-age=60\n age: 58",
            Err(NotShared::AlreadyStale),
        );
        check(
            "cache-control: max-age=60\n age: 99999999999999999999",
            Err(NotShared::AlreadyStale),
        );
    }

    #[test]
    fn the_class_speaks_where_a_heuristic_may() {
        let class = Lifetimes {
            default: Some(Duration::from_secs(20)),
            ..lifetimes()
        };
        for (status, lines, expected) in [
            (200, "", Ok(20)),
            (404, "", Ok(20)),
            (301, "", Ok(20)),
            (302, "", Err(NotShared::NoLifetime)),
            (302, "cache-control: public", Ok(20)),
            (302, "cache-control: max-age=5", Ok(5)),
            (
                200,
                "cache-control: max-age=0",
                Err(NotShared::AlreadyStale),
            ),
            (200, "cache-control: nothing-to-see-here", Ok(20)),
        ] {
            let got = of(status, lines, class).map(|f| f.lifetime.as_secs());
            assert_eq!(got, expected, "{status} {lines}");
        }
    }

    #[test]
    fn how_long_it_may_be_served_stale() {
        for (directives, expected) in [
            ("max-age=60", (10, 100)),
            (
                "max-age=60, stale-while-revalidate=5, stale-if-error=50",
                (5, 50),
            ),
            (
                "max-age=60, stale-while-revalidate=500, stale-if-error=5000",
                (10, 100),
            ),
            ("max-age=60, stale-while-revalidate=0", (0, 100)),
            ("max-age=60, stale-if-error=x", (10, 0)),
            ("max-age=60, must-revalidate, stale-if-error=50", (0, 0)),
            ("max-age=60, Must-Revalidate=1", (0, 0)),
            ("max-age=60, proxy-revalidate", (0, 0)),
            ("s-maxage=60, stale-while-revalidate=5", (0, 0)),
        ] {
            let got = of(200, &format!("cache-control: {directives}"), lifetimes()).unwrap();
            assert_eq!(
                (got.while_revalidating.as_secs(), got.on_error.as_secs()),
                expected,
                "{directives}"
            );
        }
    }

    #[test]
    fn what_may_be_done_as_time_goes_by() {
        let fresh = of(200, "cache-control: max-age=60", lifetimes()).unwrap();
        for (seconds_later, expected) in [
            (
                0,
                Reuse::Fresh {
                    ttl: Duration::from_secs(58),
                },
            ),
            (
                57,
                Reuse::Fresh {
                    ttl: Duration::from_secs(1),
                },
            ),
            (58, Reuse::WhileRevalidating),
            (67, Reuse::WhileRevalidating),
            (68, Reuse::Stale { on_error: true }),
            (157, Reuse::Stale { on_error: true }),
            (158, Reuse::Stale { on_error: false }),
        ] {
            let now = RECEIVED.after(Duration::from_secs(seconds_later));
            assert_eq!(fresh.reuse(now), expected, "{seconds_later} s later");
        }
        let before = UnixMillis(RECEIVED.0 - 5000);
        assert_eq!(
            fresh.reuse(before),
            Reuse::Stale { on_error: false },
            "a clock that was set back"
        );
    }
}
