//! Alarms about the evidence: from when until when something was wrong with it.
//!
//! What is looked at ten times a second may change as often. An alarm begins at once; it ends only when
//! all has been well for a while, and for longer each time it comes back, so that a disk that flaps
//! cannot fill the timeline.
//!
//! Never decides what happens to requests: it tells. Invariant: of one kind, beginnings and ends take
//! turns, and a day has at most sixty of them, whatever the disk does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use shikiri_record::{Alarm, UnixMillis};

/// What is watched.
pub const WATCHED: [Alarm; 5] = [
    Alarm::LowWater,
    Alarm::CannotWrite,
    Alarm::Unsynced,
    Alarm::Full,
    Alarm::Gap,
];

/// How long all must be well before an alarm ends for the first time; doubled each time it comes back
/// within a day of its end, up to the second.
const QUIET_MIN: Duration = Duration::from_secs(60);
const QUIET_MAX: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An alarm that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlarmStatus {
    /// What is wrong.
    pub alarm: Alarm,
    /// Since when, in milliseconds of the Unix epoch.
    pub since_ms: UnixMillis,
    /// What was seen then, in words.
    pub what: String,
    /// Whether it is wrong now; where not, all has been well for too short a time to say that it is over.
    pub is_wrong: bool,
    /// How often it was well in between.
    pub came_back: u64,
}

/// All alarms of a node.
#[derive(Debug, Default)]
pub(crate) struct Alarms([Watch; WATCHED.len()]);

/// The alarms, for the thread that looks and for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<Alarms>);

/// One kind of alarm.
#[derive(Debug, Default)]
struct Watch {
    on: Option<On>,
    /// How long all must be well before it ends.
    quiet: Duration,
    ended: Option<UnixMillis>,
    /// What was counted at the last look.
    counted: u64,
}

#[derive(Debug)]
struct On {
    what: String,
    since: UnixMillis,
    /// When it was seen to be wrong last, and when to be well after that.
    wrong: UnixMillis,
    well: Option<UnixMillis>,
    came_back: u64,
    /// What was counted before it began.
    counted: u64,
}

/// What a look has shown.
pub(crate) struct Look<'a> {
    pub(crate) alarm: Alarm,
    pub(crate) is_wrong: bool,
    /// What is wrong, in words.
    pub(crate) what: &'a dyn Fn() -> String,
    /// What is counted while it is, since the node began.
    pub(crate) counted: u64,
}

/// A change that the timeline is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something is wrong from now on.
    Begins(String),
    /// It was over between these instants.
    Ends {
        since: UnixMillis,
        wrong: UnixMillis,
        well: UnixMillis,
        came_back: u64,
        /// What was counted meanwhile.
        counted: u64,
    },
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Alarms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a look. What has changed is for the caller to tell.
    pub(crate) fn note(&self, look: &Look<'_>, now: UnixMillis) -> Option<Change> {
        let mut alarms = self.lock();
        let place = WATCHED.iter().position(|alarm| *alarm == look.alarm);
        let watch = alarms.0.get_mut(place?)?;
        let change = watch.note(look, now);
        watch.counted = look.counted;
        change
    }

    /// Those that are on.
    pub(crate) fn on(&self) -> Vec<AlarmStatus> {
        let alarms = self.lock();
        let all = WATCHED.iter().zip(&alarms.0);
        let on = all.filter_map(|(alarm, watch)| {
            let on = watch.on.as_ref()?;
            Some(AlarmStatus {
                alarm: *alarm,
                since_ms: on.since,
                what: on.what.clone(),
                is_wrong: on.well.is_none(),
                came_back: on.came_back,
            })
        });
        on.collect()
    }
}

impl Watch {
    fn note(&mut self, look: &Look<'_>, now: UnixMillis) -> Option<Change> {
        match (&mut self.on, look.is_wrong) {
            (None, false) => None,
            (None, true) => {
                let soon = self.ended.is_some_and(|at| now.since(at) < DAY);
                self.quiet = if soon {
                    (2 * self.quiet).min(QUIET_MAX)
                } else {
                    QUIET_MIN
                };
                let what = (look.what)();
                self.on = Some(On {
                    what: what.clone(),
                    since: now,
                    wrong: now,
                    well: None,
                    came_back: 0,
                    counted: self.counted,
                });
                Some(Change::Begins(what))
            }
            (Some(on), true) => {
                on.wrong = now;
                if on.well.take().is_some() {
                    on.came_back += 1;
                }
                None
            }
            (Some(on), false) => {
                let well = *on.well.get_or_insert(now);
                if now.since(well) < self.quiet {
                    return None;
                }
                let on = self.on.take()?;
                self.ended = Some(now);
                Some(Change::Ends {
                    since: on.since,
                    wrong: on.wrong,
                    well,
                    came_back: on.came_back,
                    counted: look.counted.saturating_sub(on.counted),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES_A_DAY_MAX: usize = 60;

    fn look(table: &Table, is_wrong: bool, at_ms: u64, counted: u64) -> Option<Change> {
        let look = Look {
            alarm: Alarm::Full,
            is_wrong,
            what: &|| "full".to_owned(),
            counted,
        };
        table.note(&look, UnixMillis(at_ms))
    }

    #[test]
    fn it_begins_at_once_and_ends_after_a_minute_that_was_well() {
        let table = Table::default();
        assert_eq!(look(&table, false, 0, 3), None);
        let begins = Some(Change::Begins("full".into()));
        assert_eq!(look(&table, true, 1_000, 5), begins);
        assert_eq!(look(&table, true, 2_000, 6), None);
        assert_eq!(look(&table, false, 3_000, 7), None);
        // Once more, before the minute is over.
        assert_eq!(look(&table, true, 60_000, 8), None);
        assert!(table.on()[0].is_wrong);
        assert_eq!(look(&table, false, 61_000, 9), None);
        assert!(!table.on()[0].is_wrong);
        assert_eq!(look(&table, false, 120_999, 9), None);
        let ends = Change::Ends {
            since: UnixMillis(1_000),
            wrong: UnixMillis(60_000),
            well: UnixMillis(61_000),
            came_back: 1,
            counted: 6,
        };
        assert_eq!(look(&table, false, 121_000, 9), Some(ends));
        assert_eq!(table.on(), []);
        assert_eq!(look(&table, true, 122_000, 9), begins);
    }

    /// Looked at every ten seconds, wrong and well for so long each.
    fn changes_a_day(wrong_s: u64, well_s: u64) -> usize {
        let table = Table::default();
        let looks = (0..DAY.as_secs()).step_by(10);
        let changes = looks.filter_map(|s| {
            let is_wrong = s % (wrong_s + well_s) < wrong_s;
            look(&table, is_wrong, s * 1000, 0)
        });
        changes.count()
    }

    #[test]
    fn a_disk_that_flaps_has_few_entries_whatever_its_rhythm() {
        for (wrong_s, well_s) in [
            (10, 10),
            (10, 60),
            (10, 70),
            (60, 130),
            (300, 300),
            (10, 600),
            (10, 1_500),
            (10, 3_590),
            (10, 3_700),
        ] {
            let changes = changes_a_day(wrong_s, well_s);
            assert!(
                changes <= CHANGES_A_DAY_MAX,
                "{wrong_s} s, {well_s} s: {changes}"
            );
            assert!(changes > 0);
        }
        // The worst of all: wrong for a moment as soon as it is over.
        let (table, mut is_wrong, mut changes) = (Table::default(), true, 0);
        for s in (0..DAY.as_secs()).step_by(10) {
            let change = look(&table, is_wrong, s * 1000, 0);
            is_wrong = matches!(change, Some(Change::Ends { .. }));
            changes += usize::from(change.is_some());
        }
        assert!(changes <= CHANGES_A_DAY_MAX, "{changes}");
        assert!(changes > 40, "{changes}");
    }

    #[test]
    fn every_kind_is_watched_by_itself() {
        let table = Table::default();
        for alarm in WATCHED {
            let look = Look {
                alarm,
                is_wrong: true,
                what: &String::new,
                counted: 0,
            };
            assert!(table.note(&look, UnixMillis(0)).is_some());
        }
        let on: Vec<Alarm> = table.on().iter().map(|on| on.alarm).collect();
        assert_eq!(on, WATCHED);
    }
}
