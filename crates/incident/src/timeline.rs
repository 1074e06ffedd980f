//! A site's timeline as it reads: what was done, seen and said, and what was corrected since.
//!
//! A [`Timeline`] holds every [`Event`] that was ever written down, in that order, and loses none. Its
//! [`View`] is what stands as of one of them: a correction takes the place of what it supersedes for the
//! views from it on, and for no earlier one. So whatever was once stated can be rendered again as it was
//! stated then.
//!
//! Invariant: a view depends on nothing that was written down after it.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use shikiri_record::{Entry, Mode, PurgeTarget, SiteChange, Status, UnixMillis};

use crate::civil::{Zone, span_text};
use crate::span::Span;

/// A timeline holds no more events.
pub const EVENTS_MAX: usize = 1 << 20;

/// One thing that was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place: numbers grow, and name events in corrections.
    pub number: u64,
    /// When it was written down.
    pub recorded: UnixMillis,
    /// When it was.
    pub when: Span,
    /// Whose word it is.
    pub source: String,
    /// How sure it is.
    pub status: Status,
    /// What it was.
    pub what: What,
    /// The reason that was given, or what was said, in plain words.
    pub text: String,
    /// The event that this one takes the place of.
    pub supersedes: Option<u64>,
}

/// What an event was, or does to the one that it supersedes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// These changes, at once.
    Happened(Vec<Change>),
    /// What the superseded event was; when, how sure and in what words is said anew.
    AsBefore,
    /// Nothing: the superseded event never happened.
    Withdrawn,
}

/// One thing that happened, at the site or to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A shared cache answers for the site from now on.
    CacheInFront,
    /// No shared cache does any more.
    CacheGone,
    /// Visitors get the site.
    Opened,
    /// Visitors get a maintenance page.
    Closed(Place),
    /// What was stored before is gone.
    Purged(Extent),
    /// Something was done against the cause.
    Measure,
    /// Somebody looked whether all is well.
    Checked {
        /// Whether it was.
        passed: bool,
    },
    /// Somebody told that they saw what is another's.
    Reported {
        /// Who: a member, a payment processor.
        reporter: String,
        /// When they saw it, where they said so; at the latest when they told.
        seen: Option<Span>,
    },
    /// A statement was published.
    Stated {
        /// What it is called, so that it can be asked for.
        name: String,
    },
    /// Something was found out.
    Found,
    /// Something else, worth writing down.
    Noted,
}

/// Where visitors were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before the cache looks anything up.
    Edge,
    /// Behind the cache, which may go on with what it has stored.
    Origin,
    /// Nobody said.
    Unsaid,
}

/// What a purge was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Everything that was stored.
    All,
    /// A part of it.
    Part,
}

/// Why events are no timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineFault {
    /// An event's number does not come after the one before it.
    Order(u64),
    /// There are more than [`EVENTS_MAX`].
    TooMany,
}

/// Every event, in the order in which they were written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    events: Vec<Event>,
}

/// What stands as of some event.
#[derive(Clone, Debug)]
pub struct View<'a> {
    said: &'a [Event],
    standing: Vec<Standing<'a>>,
}

/// An event that stands: the latest word on it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The number under which it was first written down.
    pub first: u64,
    /// The latest word on it: its instants, status and text hold.
    pub event: &'a Event,
    /// What it was, said by the latest word that says so.
    pub changes: &'a [Change],
}

impl Event {
    /// The event that an entry of a node's timeline tells, with its sequence number and the instant at
    /// which it was written.
    ///
    /// A node is a cache in front of its site, and its maintenance is at the edge. In `static` it shares
    /// what its rules call static, which is what a leak may have been called too.
    #[must_use]
    pub fn of_entry(number: u64, recorded: UnixMillis, entry: &Entry) -> Self {
        use shikiri_record::What as Told;
        let what = match &entry.what {
            // Nothing of ours was in front before.
            Told::NodeStarted {
                boot: 1,
                mode: Mode::Pass,
                ..
            } => What::Happened(vec![Change::Opened]),
            Told::NodeStarted { mode, .. } | Told::ModeChanged { to: mode, .. } => {
                What::Happened(of_mode(*mode).to_vec())
            }
            Told::RulesInForce { .. } => What::Happened(vec![Change::Measure]),
            Told::Purged { targets, .. } if targets.contains(&PurgeTarget::All) => {
                What::Happened(vec![Change::Purged(Extent::All)])
            }
            Told::Purged { .. } => What::Happened(vec![Change::Purged(Extent::Part)]),
            Told::ClockJumped { .. } => What::Happened(vec![Change::Purged(Extent::All)]),
            Told::Finding { .. } => What::Happened(vec![Change::Found]),
            Told::Checked { passed, .. } => {
                What::Happened(vec![Change::Checked { passed: *passed }])
            }
            Told::Reported { reporter, seen, .. } => What::Happened(vec![Change::Reported {
                reporter: reporter.clone(),
                seen: seen.map(|seen| Span::between(seen.earliest, seen.latest)),
            }]),
            Told::SiteChanged { changes } => {
                What::Happened(changes.iter().copied().map(of_site).collect())
            }
            Told::Stated { name } => What::Happened(vec![Change::Stated { name: name.clone() }]),
            Told::Withdrawn {} => What::Withdrawn,
            Told::Corrected {} => What::AsBefore,
            Told::NodeStopped {}
            | Told::ReopeningPlanned { .. }
            | Told::GrantMade { .. }
            | Told::GrantUsed { .. }
            | Told::GrantRevoked { .. }
            | Told::HookRan { .. }
            | Told::TagKey { .. }
            | Told::TokenMade { .. }
            | Told::TokenRevoked { .. }
            | Told::Reloaded { .. }
            | Told::EvidenceAlarm { .. }
            | Told::EvidenceAlarmEnded { .. } => What::Happened(vec![Change::Noted]),
        };
        Self {
            number,
            recorded,
            when: Span::between(entry.earliest, entry.latest),
            source: entry.source.clone(),
            status: entry.status,
            what,
            text: entry.text.clone(),
            supersedes: entry.supersedes,
        }
    }
}

const fn of_site(change: SiteChange) -> Change {
    match change {
        SiteChange::CacheInFront => Change::CacheInFront,
        SiteChange::CacheGone => Change::CacheGone,
        SiteChange::Opened => Change::Opened,
        SiteChange::ClosedAtEdge => Change::Closed(Place::Edge),
        SiteChange::ClosedAtOrigin => Change::Closed(Place::Origin),
        SiteChange::Closed => Change::Closed(Place::Unsaid),
        SiteChange::PurgedAll => Change::Purged(Extent::All),
        SiteChange::PurgedPart => Change::Purged(Extent::Part),
        SiteChange::Measure => Change::Measure,
    }
}

const fn of_mode(mode: Mode) -> &'static [Change] {
    match mode {
        Mode::Closed => &[Change::Closed(Place::Edge)],
        Mode::Pass => &[Change::Opened, Change::CacheGone],
        Mode::Static | Mode::Open => &[Change::Opened, Change::CacheInFront],
    }
}

impl Timeline {
    /// A timeline of events whose numbers grow.
    ///
    /// # Errors
    /// What keeps them from being one.
    pub fn new(events: Vec<Event>) -> Result<Self, TimelineFault> {
        if events.len() > EVENTS_MAX {
            return Err(TimelineFault::TooMany);
        }
        let unordered = events
            .windows(2)
            .find(|pair| pair[0].number >= pair[1].number);
        match unordered {
            Some(pair) => Err(TimelineFault::Order(pair[1].number)),
            None => Ok(Self { events }),
        }
    }

    /// What stands now.
    #[must_use]
    pub fn now(&self) -> View<'_> {
        View::of(&self.events)
    }

    /// What stood when the event of this number had been written down.
    #[must_use]
    pub fn as_of(&self, number: u64) -> View<'_> {
        let until = self.events.partition_point(|event| event.number <= number);
        View::of(self.events.get(..until).unwrap_or_default())
    }

    /// What stood at an instant: all that had been written down before it or at it.
    #[must_use]
    pub fn as_recorded(&self, at: UnixMillis) -> View<'_> {
        // Up to the first that was written down later: a clock that was set back in between does not
        // make a later word an earlier one.
        let until = self
            .events
            .iter()
            .position(|event| event.recorded > at)
            .unwrap_or(self.events.len());
        View::of(self.events.get(..until).unwrap_or_default())
    }

    /// What stood when a statement was published; `None` where none is called so.
    #[must_use]
    pub fn as_stated(&self, name: &str) -> Option<View<'_>> {
        let states = |event: &Event| match &event.what {
            What::Happened(changes) => changes
                .iter()
                .any(|change| matches!(change, Change::Stated { name: stated } if stated == name)),
            What::AsBefore | What::Withdrawn => false,
        };
        let stated = self.events.iter().find(|event| states(event))?;
        Some(self.as_of(stated.number))
    }
}

impl<'a> View<'a> {
    fn of(said: &'a [Event]) -> Self {
        // Each event is a word on the one that was said first: itself, where it supersedes none. The
        // latest word stands, also where two supersede the same one.
        let mut first_of: BTreeMap<u64, u64> = BTreeMap::new();
        let mut words: BTreeMap<u64, Standing<'a>> = BTreeMap::new();
        for event in said {
            let superseded = event.supersedes.and_then(|number| first_of.get(&number));
            let first = *superseded.unwrap_or(&event.number);
            first_of.insert(event.number, first);
            let changes = match &event.what {
                What::Happened(changes) => changes.as_slice(),
                What::AsBefore | What::Withdrawn => {
                    words.get(&first).map_or(&[][..], |before| before.changes)
                }
            };
            let word = Standing {
                first,
                event,
                changes,
            };
            words.insert(first, word);
        }
        let stands = |word: &Standing<'_>| word.event.what != What::Withdrawn;
        let mut standing: Vec<_> = words.into_values().filter(stands).collect();
        standing.sort_by_key(|it| (it.event.when, it.event.number));
        Self { said, standing }
    }

    /// Everything that had been said, what was superseded included, in the order in which it was said.
    #[must_use]
    pub const fn said(&self) -> &'a [Event] {
        self.said
    }

    /// What stands, in the order in which it happened.
    #[must_use]
    pub fn standing(&self) -> &[Standing<'a>] {
        &self.standing
    }

    /// Every change that stands, with its event.
    pub fn changes(&self) -> impl Iterator<Item = (&'a Event, &'a Change)> {
        let changes = |it: &Standing<'a>| {
            let event = it.event;
            it.changes.iter().map(move |change| (event, change))
        };
        self.standing.iter().flat_map(changes)
    }

    /// The view as a text: one event a line, its words below it.
    #[must_use]
    pub fn text(&self, zone: Zone) -> String {
        let mut text = format!("Timeline, times in {zone}\n");
        for it in &self.standing {
            let event = it.event;
            let mut what: Vec<String> = it.changes.iter().map(Change::to_string).collect();
            if what.is_empty() {
                what.push("superseded what is not there".into());
            }
            line(
                &mut text,
                format_args!(
                    "{:>4}  {}  {}{}",
                    event.number,
                    span_text(event.when, zone),
                    plain(&what.join(", ")),
                    match event.status {
                        Status::Provisional => "  (provisional)",
                        Status::Confirmed => "",
                    },
                ),
            );
            if !event.text.is_empty() {
                line(&mut text, format_args!("      {}", plain(&event.text)));
            }
            if let Some(number) = event.supersedes {
                let before = self.said.iter().find(|event| event.number == number);
                let was = before.map_or_else(
                    || "which is not there".into(),
                    |before| format!("which said {}", span_text(before.when, zone)),
                );
                line(&mut text, format_args!("      in place of {number}, {was}"));
            }
        }
        text
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CacheInFront => f.write_str("a cache in front"),
            Self::CacheGone => f.write_str("no cache any more"),
            Self::Opened => f.write_str("open"),
            Self::Closed(Place::Edge) => f.write_str("maintenance, at the edge"),
            Self::Closed(Place::Origin) => f.write_str("maintenance, at the origin"),
            Self::Closed(Place::Unsaid) => f.write_str("maintenance"),
            Self::Purged(Extent::All) => f.write_str("all that was stored purged"),
            Self::Purged(Extent::Part) => f.write_str("a part of what was stored purged"),
            Self::Measure => f.write_str("a measure"),
            Self::Checked { passed: true } => f.write_str("a check, passed"),
            Self::Checked { passed: false } => f.write_str("a check, failed"),
            Self::Reported { reporter, .. } => write!(f, "a report by {reporter}"),
            Self::Stated { name } => write!(f, "statement {name}"),
            Self::Found => f.write_str("a finding"),
            Self::Noted => f.write_str("a note"),
        }
    }
}

impl fmt::Display for TimelineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(number) => {
                write!(f, "event {number} does not come after the one before it")
            }
            Self::TooMany => write!(f, "there are more than {EVENTS_MAX} events"),
        }
    }
}

impl std::error::Error for TimelineFault {}

pub(crate) fn line(text: &mut String, words: fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a text takes every line");
}

/// Words that somebody typed, on one line and without what would steer a terminal.
pub(crate) fn plain(words: &str) -> String {
    words
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::{Reading, Windows};
    use shikiri_record::{Actor, Epoch, Order, TIMELINE_VERSION, What as Told};

    /// A node that is open for a while, told as its own timeline tells it.
    #[test]
    fn a_node_s_own_timeline_has_windows() {
        let changed = |from, to| Told::ModeChanged {
            from,
            to,
            reopening: None,
        };
        let purged = |target| Told::Purged {
            targets: vec![target],
            order: Order(1),
            epoch: Epoch(1),
        };
        let minutes: [(u64, Told); 8] = [
            (
                1,
                Told::NodeStarted {
                    boot: 1,
                    release: "0.1.0".into(),
                    mode: Mode::Pass,
                    epoch: Epoch(0),
                    first: Order(0),
                },
            ),
            (5, changed(Mode::Pass, Mode::Open)),
            (9, changed(Mode::Open, Mode::Closed)),
            (11, changed(Mode::Closed, Mode::Static)),
            (14, changed(Mode::Static, Mode::Pass)),
            (15, purged(PurgeTarget::All)),
            (20, changed(Mode::Pass, Mode::Open)),
            (30, changed(Mode::Open, Mode::Pass)),
        ];
        let event = |(number, (minute, what)): (u64, (u64, Told))| {
            let at = UnixMillis(minute * 60_000);
            let entry = Entry {
                version: TIMELINE_VERSION,
                earliest: at,
                latest: at,
                node: "edge-1".into(),
                actor: Actor::Node,
                source: "node".into(),
                status: Status::Confirmed,
                what,
                text: String::new(),
                supersedes: None,
            };
            Event::of_entry(number, at, &entry)
        };
        let timeline = Timeline::new((0..).zip(minutes).map(event).collect());
        let timeline = timeline.expect("its numbers grow");
        let windows = Windows::of(&timeline.now(), Reading::AtTheEdge);
        let minute = |at: Option<UnixMillis>| at.map(|at| at.0 / 60_000);
        let told: Vec<_> = (windows.list.iter())
            .map(|it| (minute(it.from), minute(it.to), minute(it.fills_from)))
            .collect();
        assert_eq!(
            told,
            [
                (Some(5), Some(9), Some(5)),
                (Some(11), Some(14), Some(5)),
                (Some(20), Some(30), Some(20)),
            ]
        );
    }

    #[test]
    fn numbers_that_do_not_grow_are_no_timeline() {
        let event = |number| Event {
            number,
            recorded: UnixMillis(0),
            when: Span::at(UnixMillis(0)),
            source: String::new(),
            status: Status::Confirmed,
            what: What::Happened(vec![Change::Noted]),
            text: String::new(),
            supersedes: None,
        };
        for (numbers, expected) in [
            (vec![1, 2, 9], None),
            (vec![1, 1], Some(TimelineFault::Order(1))),
            (vec![2, 1], Some(TimelineFault::Order(1))),
        ] {
            let timeline = Timeline::new(numbers.into_iter().map(event).collect());
            assert_eq!(timeline.err(), expected);
        }
    }
}
