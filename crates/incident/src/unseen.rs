//! What rows that are missing may have said.
//!
//! Pure. Never says that nothing happened: only that, by the instants beside it, nothing that was missing can have been
//! in a window.

use shikiri_record::UnixMillis;

use crate::own::FETCH_MS_MAX;

/// Rows that are missing, by when those beside them were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// When the last row before them was written, if it is known.
    pub after: Option<UnixMillis>,
    /// When the first row after them was written, if it is known.
    pub before: Option<UnixMillis>,
}

impl Unseen {
    /// Whether one of them may have been of a response that began from one instant to another, both included. A row is
    /// written after its response began, and no later than a fetch takes.
    #[must_use]
    pub fn may_have_begun(&self, from: UnixMillis, to: UnixMillis) -> bool {
        let earliest = self.after.map_or(0, |at| at.0.saturating_sub(FETCH_MS_MAX));
        let latest = self.before.map_or(u64::MAX, |at| at.0);
        // A clock that was set back between the two says nothing.
        earliest.saturating_add(FETCH_MS_MAX) > latest || (earliest <= to.0 && latest >= from.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_may_have_been_in_a_window_unless_its_neighbours_say_otherwise() {
        const HOUR: u64 = 3_600_000;
        let at = |hours: u64| Some(UnixMillis(hours * HOUR));
        let (from, to) = (UnixMillis(10 * HOUR), UnixMillis(11 * HOUR));
        for (after, before, may) in [
            (at(8), at(9), false),
            (at(9), at(10), true),
            (at(10), at(10), true),
            (at(11), at(12), true),
            (at(12), at(13), false),
            (None, at(9), false),
            (None, at(10), true),
            (at(12), None, false),
            (at(9), None, true),
            (None, None, true),
            // Began just before the window's end, written just after it.
            (Some(UnixMillis(11 * HOUR + FETCH_MS_MAX)), at(12), true),
            (
                Some(UnixMillis(11 * HOUR + FETCH_MS_MAX + 1)),
                at(12),
                false,
            ),
            // A clock was set back.
            (at(20), at(2), true),
        ] {
            let unseen = Unseen { after, before };
            assert_eq!(unseen.may_have_begun(from, to), may, "{unseen:?}");
        }
    }
}
