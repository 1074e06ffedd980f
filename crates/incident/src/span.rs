//! Instants that are not known to the millisecond.
//!
//! Invariant: whatever is said about two spans holds for every pair of instants in them. That one came
//! [surely before](Span::surely_before) another is never said where their order is open.

use shikiri_record::UnixMillis;

/// Some instant from `earliest` to `latest`, both ends included.
///
/// Milliseconds are whole: the instant `t` stands for all of `[t, t + 1 ms)`, so two spans that touch in
/// one millisecond have no known order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// It was then or later.
    pub earliest: UnixMillis,
    /// It was then or earlier.
    pub latest: UnixMillis,
}

impl Span {
    /// A span between two instants, whichever is the earlier.
    #[must_use]
    pub fn between(one: UnixMillis, other: UnixMillis) -> Self {
        Self {
            earliest: one.min(other),
            latest: one.max(other),
        }
    }

    /// A known instant.
    #[must_use]
    pub const fn at(instant: UnixMillis) -> Self {
        Self {
            earliest: instant,
            latest: instant,
        }
    }

    /// What a clock meant that showed `instant` and whose least step is `resolution_ms`: that instant or
    /// any before the next step. A step of zero counts as a millisecond.
    #[must_use]
    pub const fn shown(instant: UnixMillis, resolution_ms: u64) -> Self {
        let rest = resolution_ms.saturating_sub(1);
        Self {
            earliest: instant,
            latest: UnixMillis(instant.0.saturating_add(rest)),
        }
    }

    /// A whole minute, as people write times down: `instant` rounded down, to the last millisecond.
    #[must_use]
    pub const fn minute(instant: UnixMillis) -> Self {
        Self::shown(minute_of(instant), MINUTE_MS)
    }

    /// The span, longer by so much at both ends.
    #[must_use]
    pub const fn widened(self, by_ms: u64) -> Self {
        Self {
            earliest: UnixMillis(self.earliest.0.saturating_sub(by_ms)),
            latest: UnixMillis(self.latest.0.saturating_add(by_ms)),
        }
    }

    /// The span, with an end that is later by so much.
    #[must_use]
    pub const fn later(self, by_ms: u64) -> Self {
        Self {
            earliest: self.earliest,
            latest: UnixMillis(self.latest.0.saturating_add(by_ms)),
        }
    }

    /// From the earliest instant of both to the latest.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self {
            earliest: self.earliest.min(other.earliest),
            latest: self.latest.max(other.latest),
        }
    }

    /// Whether every instant of this one is before every instant of the other.
    #[must_use]
    pub fn surely_before(self, other: Self) -> bool {
        self.latest < other.earliest
    }

    /// Whether some instant is in both.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.earliest <= other.latest && other.earliest <= self.latest
    }

    /// Whether the instant is in it.
    #[must_use]
    pub fn holds(self, instant: UnixMillis) -> bool {
        self.earliest <= instant && instant <= self.latest
    }
}

pub(crate) const MINUTE_MS: u64 = 60_000;

/// The minute that an instant is in.
pub(crate) const fn minute_of(instant: UnixMillis) -> UnixMillis {
    UnixMillis(instant.0 - instant.0 % MINUTE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(earliest: u64, latest: u64) -> Span {
        Span::between(UnixMillis(earliest), UnixMillis(latest))
    }

    #[test]
    fn an_order_is_known_only_where_no_millisecond_is_in_both() {
        for (one, other, before, meets) in [
            (span(1, 2), span(3, 4), true, false),
            (span(1, 3), span(3, 4), false, true),
            (span(3, 4), span(1, 2), false, false),
            (span(1, 9), span(3, 4), false, true),
            (span(3, 3), span(3, 3), false, true),
        ] {
            assert_eq!(one.surely_before(other), before, "{one:?} {other:?}");
            assert_eq!(one.meets(other), meets, "{one:?} {other:?}");
            assert_eq!(other.meets(one), meets, "{one:?} {other:?}");
        }
    }

    #[test]
    fn what_a_clock_shows_lasts_until_its_next_step() {
        assert_eq!(Span::shown(UnixMillis(5000), 1000), span(5000, 5999));
        assert_eq!(Span::shown(UnixMillis(5000), 1), span(5000, 5000));
        assert_eq!(Span::shown(UnixMillis(5000), 0), span(5000, 5000));
        assert_eq!(Span::minute(UnixMillis(61_234)), span(60_000, 119_999));
        assert_eq!(span(5, 9).widened(6), span(0, 15));
        assert_eq!(Span::shown(UnixMillis(u64::MAX), 9).latest.0, u64::MAX);
    }
}
