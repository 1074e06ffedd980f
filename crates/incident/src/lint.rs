//! What in a timeline contradicts itself, or keeps a window open that looks closed.
//!
//! A lint is a question to whoever keeps the timeline, never a correction: each says what was noticed and
//! which readings would explain it.

use shikiri_record::{Status, UnixMillis};

use crate::civil::{Zone, minutes_text, span_text};
use crate::span::{MINUTE_MS, Span, minute_of};
use crate::timeline::{Change, Event, Extent, Place, View, What, line};
use crate::windows::{Reading, Turn, Window, Windows, turns};

/// Something noticed, by the numbers of the events that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lint {
    /// A leak was reported that no window explains.
    ReportOutsideWindows {
        /// The report.
        report: u64,
        /// The stop before it, that should have ended the leak.
        stop: Option<u64>,
    },
    /// The site was opened again, with a cache in front, and nobody purged what was stored in a window
    /// before.
    ReopenedWithoutPurge {
        /// The opening.
        opening: u64,
        /// What closed the window before.
        stop: u64,
    },
    /// The site was opened again after a window, and no check had passed since.
    ReopenedWithoutCheck {
        /// The opening.
        opening: u64,
        /// What closed the window before.
        stop: u64,
    },
    /// The site may have been opened again before a measure was done.
    ReopenedBeforeMeasure {
        /// The opening.
        opening: u64,
        /// The measure.
        measure: u64,
    },
    /// A maintenance closed a window, and was at the origin, or nobody said where: the cache may have
    /// gone on with what it had stored.
    MaintenanceBehindTheCache {
        /// The maintenance.
        maintenance: u64,
        /// Where it was.
        place: Place,
    },
    /// Two opposite events, of which either may have come first.
    OrderOpen {
        /// The one.
        one: u64,
        /// The other.
        other: u64,
    },
    /// An event did what stood already: one between them is missing, or one is wrong.
    Twice {
        /// The first.
        first: u64,
        /// The second.
        again: u64,
    },
    /// An event's earliest instant is after its latest.
    InstantsReversed {
        /// The event.
        event: u64,
    },
    /// It was written down before it can have happened, though as confirmed.
    RecordedBefore {
        /// The event.
        event: u64,
    },
    /// An event supersedes one that is not there, or that comes after it.
    SupersedesNothing {
        /// The event.
        event: u64,
        /// What it names.
        missing: u64,
    },
    /// Two events supersede the same one: the later stands.
    SupersededTwice {
        /// What they supersede.
        event: u64,
        /// The later of the two.
        again: u64,
    },
    /// Says what becomes of another event, and names none.
    CorrectsNothing {
        /// The event.
        event: u64,
    },
    /// No event tells of a cache: the windows are as if there always was one.
    NoCacheTold,
    /// No event tells when the window began.
    NoBeginning {
        /// What closed it, if anything did.
        closed_by: Option<u64>,
    },
}

/// The instants by which a response is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// From the first instant of the first window to the first report, in minutes.
    pub undetected: Option<u64>,
    /// From the first report to the next stop, in minutes.
    pub stop: Option<u64>,
}

/// All that is noticed about a view, each thing once, in a fixed order.
#[must_use]
pub fn lint(view: &View<'_>) -> Vec<Lint> {
    let windows = Windows::of(view, Reading::AnyMaintenance);
    let mut found = Vec::new();
    let tells = |change: &Change| matches!(change, Change::CacheInFront | Change::CacheGone);
    if !view.changes().any(|(_, change)| tells(change)) {
        found.push(Lint::NoCacheTold);
    }
    found.extend(reports(view, &windows));
    found.extend(reopenings(view, &windows));
    found.extend(maintenances(view, &windows));
    found.extend(orders(view));
    found.extend(corrections(view));
    found.extend(view.standing().iter().filter_map(|it| instants(it.event)));
    let unbounded = windows.list.iter().filter(|window| window.from.is_none());
    found.extend(unbounded.map(|window| Lint::NoBeginning {
        closed_by: window.closed_by,
    }));
    found.sort_unstable();
    found.dedup();
    found
}

/// What is noticed, as a text: one line each.
#[must_use]
pub fn text(view: &View<'_>, zone: Zone) -> String {
    let mut text = String::new();
    for lint in lint(view) {
        line(
            &mut text,
            format_args!("LINT: {}", sentence(lint, view, zone)),
        );
    }
    text
}

impl Clocks {
    /// How long a leak stood undetected, and how long the first stop took.
    #[must_use]
    pub fn of(view: &View<'_>) -> Self {
        let windows = Windows::of(view, Reading::AnyMaintenance);
        let mut reports = view
            .changes()
            .filter(|(_, change)| matches!(change, Change::Reported { .. }));
        let report = reports.next().map(|(event, _)| event.when.earliest);
        let began = windows.list.first().and_then(|window| window.from);
        let closings = view.changes().filter(|(_, change)| closes(change));
        let stop = report.and_then(|report| {
            let instants = closings.map(|(event, _)| event.when.latest);
            instants.filter(|stop| *stop >= report).min()
        });
        let minutes = |from: Option<UnixMillis>, to: Option<UnixMillis>| {
            let (from, to) = (minute_of(from?), minute_of(to?));
            Some(to.0.checked_sub(from.0)? / MINUTE_MS)
        };
        Self {
            undetected: minutes(began, report),
            stop: minutes(report, stop),
        }
    }

    /// The two as a text.
    #[must_use]
    pub fn text(self) -> String {
        let mut text = String::new();
        for (what, minutes) in [
            ("undetected", self.undetected),
            ("from the first report to the stop", self.stop),
        ] {
            let minutes = minutes.map_or_else(|| "not told".into(), minutes_text);
            line(&mut text, format_args!("      {what}: {minutes}"));
        }
        text
    }
}

/// On which day of the incident each statement was published: the first report's day is day 0.
#[must_use]
pub fn statement_days<'a>(view: &View<'a>, zone: Zone) -> Vec<(&'a str, i64)> {
    let reported = view
        .changes()
        .find(|(_, change)| matches!(change, Change::Reported { .. }));
    let Some((report, _)) = reported else {
        return Vec::new();
    };
    let day = |event: &Event| zone.days_between(report.when.earliest, event.when.earliest);
    let stated = |(event, change): (&Event, &'a Change)| match change {
        Change::Stated { name } => Some((name.as_str(), day(event))),
        _ => None,
    };
    view.changes().filter_map(stated).collect()
}

const fn closes(change: &Change) -> bool {
    matches!(change, Change::Closed(_) | Change::CacheGone)
}

fn reports(view: &View<'_>, windows: &Windows) -> Vec<Lint> {
    let mut found = Vec::new();
    for (event, change) in view.changes() {
        let Change::Reported { seen, .. } = change else {
            continue;
        };
        let when = seen.unwrap_or(event.when);
        if windows.meet(when) {
            continue;
        }
        let stops = view.changes().filter(|(_, change)| closes(change));
        let before = stops.filter(|(stop, _)| stop.when.surely_before(when));
        let stop = before
            .map(|(stop, _)| (stop.when.latest, stop.number))
            .max();
        found.push(Lint::ReportOutsideWindows {
            report: event.number,
            stop: stop.map(|(_, number)| number),
        });
    }
    found
}

fn reopenings(view: &View<'_>, windows: &Windows) -> Vec<Lint> {
    let mut found = Vec::new();
    for pair in windows.list.windows(2) {
        let (earlier, later) = (&pair[0], &pair[1]);
        let (Some(stop), Some(opening)) = (earlier.closed_by, later.opened_by) else {
            continue;
        };
        if !is_between(view, earlier, later, |change| {
            *change == Change::Purged(Extent::All)
        }) {
            found.push(Lint::ReopenedWithoutPurge { opening, stop });
        }
        if !is_between(view, earlier, later, |change| {
            *change == Change::Checked { passed: true }
        }) {
            found.push(Lint::ReopenedWithoutCheck { opening, stop });
        }
        // A measure whose interval reaches into the window: it was to be done before the opening.
        let measures = view.changes().filter(|(measure, change)| {
            **change == Change::Measure
                && earlier
                    .to
                    .is_some_and(|to| minute_of(to) <= measure.when.earliest)
                && later.from.is_some_and(|from| {
                    let opened = view.standing().iter().find(|it| it.event.number == opening);
                    let opened = opened.map_or(from, |it| it.event.when.latest);
                    measure.when.earliest < from && opened < measure.when.latest
                })
        });
        found.extend(measures.map(|(measure, _)| Lint::ReopenedBeforeMeasure {
            opening,
            measure: measure.number,
        }));
    }
    found
}

/// Whether there was such a change surely after one window and surely before the next.
fn is_between(
    view: &View<'_>,
    earlier: &Window,
    later: &Window,
    is_it: impl Fn(&Change) -> bool,
) -> bool {
    let (Some(to), Some(from)) = (earlier.to, later.from) else {
        return false;
    };
    view.changes().any(|(event, change)| {
        is_it(change) && to < event.when.earliest && event.when.latest < from
    })
}

fn maintenances(view: &View<'_>, windows: &Windows) -> Vec<Lint> {
    let mut found = Vec::new();
    for (event, change) in view.changes() {
        let Change::Closed(place @ (Place::Origin | Place::Unsaid)) = change else {
            continue;
        };
        // Where no cache stood in front, nothing went on behind the maintenance.
        let ended = |window: &&Window| window.closed_by == Some(event.number);
        if windows.list.iter().any(|window| ended(&window)) {
            found.push(Lint::MaintenanceBehindTheCache {
                maintenance: event.number,
                place: *place,
            });
        }
    }
    found
}

fn orders(view: &View<'_>) -> Vec<Lint> {
    let gate = turns(view, |change| match change {
        Change::Opened => Some(Turn::On),
        Change::Closed(_) => Some(Turn::Off),
        _ => None,
    });
    let cache = turns(view, |change| match change {
        Change::CacheInFront => Some(Turn::On),
        Change::CacheGone => Some(Turn::Off),
        _ => None,
    });
    let mut found = Vec::new();
    for turns in [gate, cache] {
        for (at, (one, turn)) in turns.iter().enumerate() {
            let later = turns.get(at + 1..).unwrap_or_default();
            let opposite = later.iter().filter(|(_, other)| other != turn);
            let open = opposite.filter(|(other, _)| other.when.meets(one.when));
            found.extend(open.map(|(other, _)| Lint::OrderOpen {
                one: one.number,
                other: other.number,
            }));
            if let Some((next, _)) = later.first().filter(|(_, next)| next == turn) {
                found.push(Lint::Twice {
                    first: one.number,
                    again: next.number,
                });
            }
        }
    }
    found
}

fn corrections(view: &View<'_>) -> Vec<Lint> {
    let said = view.said();
    let mut found = Vec::new();
    for (at, event) in said.iter().enumerate() {
        let earlier = said.get(..at).unwrap_or_default();
        let Some(superseded) = event.supersedes else {
            if !matches!(event.what, What::Happened(_)) {
                found.push(Lint::CorrectsNothing {
                    event: event.number,
                });
            }
            continue;
        };
        if !earlier.iter().any(|event| event.number == superseded) {
            found.push(Lint::SupersedesNothing {
                event: event.number,
                missing: superseded,
            });
        } else if earlier
            .iter()
            .any(|event| event.supersedes == Some(superseded))
        {
            found.push(Lint::SupersededTwice {
                event: superseded,
                again: event.number,
            });
        }
    }
    found
}

fn instants(event: &Event) -> Option<Lint> {
    let number = event.number;
    if event.when.earliest > event.when.latest {
        return Some(Lint::InstantsReversed { event: number });
    }
    let is_early = event.recorded < event.when.earliest && event.status == Status::Confirmed;
    is_early.then_some(Lint::RecordedBefore { event: number })
}

fn sentence(lint: Lint, view: &View<'_>, zone: Zone) -> String {
    let name = |number: u64| name(number, view, zone);
    match lint {
        Lint::ReportOutsideWindows { report, stop } => {
            let after = stop.map_or_else(String::new, |stop| {
                format!(
                    ", after {}: a clock is wrong, it was seen earlier, or the leak outlived the stop",
                    name(stop)
                )
            });
            format!("report {} lies outside every window{after}", name(report))
        }
        Lint::ReopenedWithoutPurge { opening, stop } => format!(
            "opened again by {} without a purge since {}: what was stored before may have been shown after",
            name(opening),
            name(stop)
        ),
        Lint::ReopenedWithoutCheck { opening, stop } => format!(
            "opened again by {} without a passed check since {}",
            name(opening),
            name(stop)
        ),
        Lint::ReopenedBeforeMeasure { opening, measure } => format!(
            "opened again by {}, perhaps before measure {} was done",
            name(opening),
            name(measure)
        ),
        Lint::MaintenanceBehindTheCache { maintenance, place } => format!(
            "maintenance {} {}: a cache in front goes on with what it has stored",
            name(maintenance),
            match place {
                Place::Origin => "was at the origin",
                Place::Edge | Place::Unsaid => "may have been at the origin, nobody says",
            },
        ),
        Lint::OrderOpen { one, other } => {
            format!(
                "which came first, {} or {}, is open",
                name(one),
                name(other)
            )
        }
        Lint::Twice { first, again } => format!(
            "{} did what {} had done: one between them is missing, or one is wrong",
            name(again),
            name(first)
        ),
        Lint::InstantsReversed { event } => {
            format!("event {event} has an earliest instant after its latest")
        }
        Lint::RecordedBefore { event } => format!(
            "{} is confirmed, and was written down before it can have happened",
            name(event)
        ),
        Lint::SupersedesNothing { event, missing } => {
            format!(
                "{} supersedes {missing}, which is not there before it",
                name(event)
            )
        }
        Lint::SupersededTwice { event, again } => {
            format!(
                "{} supersedes {event}, which was superseded before",
                name(again)
            )
        }
        Lint::CorrectsNothing { event } => {
            format!("event {event} corrects or withdraws, and does not say what")
        }
        Lint::NoCacheTold => {
            "no event tells of a cache: the windows are as if there always was one".into()
        }
        Lint::NoBeginning { closed_by } => {
            let closed = closed_by.map_or_else(String::new, |number| {
                format!(" that {} closed", name(number))
            });
            format!("no event tells when the window{closed} began")
        }
    }
}

/// An event by number and time.
fn name(number: u64, view: &View<'_>, zone: Zone) -> String {
    let event = view.said().iter().find(|event| event.number == number);
    let when = event.map_or(Span::at(UnixMillis(0)), |event| event.when);
    format!("{number} [{}]", span_text(when, zone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Timeline;

    /// Events at whole minutes, numbered from 1, written down an hour later.
    fn timeline(events: Vec<(u64, What, Option<u64>)>) -> Timeline {
        let event = |(number, (minute, what, supersedes)): (u64, (u64, What, Option<u64>))| Event {
            number,
            recorded: UnixMillis((minute + 60) * MINUTE_MS),
            when: Span::minute(UnixMillis(minute * MINUTE_MS)),
            source: String::new(),
            status: Status::Confirmed,
            what,
            text: String::new(),
            supersedes,
        };
        let events = (1..).zip(events).map(event).collect();
        Timeline::new(events).expect("its numbers grow")
    }

    fn check(case: &str, changes: &[(u64, Change)], expected: &[Lint]) {
        let events = changes.iter();
        let events =
            events.map(|(minute, change)| (*minute, What::Happened(vec![change.clone()]), None));
        assert_eq!(lint(&timeline(events.collect()).now()), expected, "{case}");
    }

    #[test]
    fn contradictions_are_found_and_nothing_else() {
        use Change::{CacheGone, CacheInFront, Checked, Closed, Opened, Purged};
        let edge = Closed(Place::Edge);
        let report = || Change::Reported {
            reporter: "a member".into(),
            seen: None,
        };
        let seen = |minute| Change::Reported {
            reporter: "a member".into(),
            seen: Some(Span::minute(UnixMillis(minute * MINUTE_MS))),
        };
        let begun = [(1, CacheInFront), (2, Opened)];
        let after = |rest: &[(u64, Change)]| [&begun[..], rest].concat();
        check(
            "nothing",
            &[],
            &[Lint::NoCacheTold, Lint::NoBeginning { closed_by: None }],
        );
        check(
            "a leak, stopped at the edge",
            &after(&[(5, report()), (6, edge.clone())]),
            &[],
        );
        check(
            "a report after the stop",
            &after(&[(6, edge.clone()), (7, report())]),
            &[Lint::ReportOutsideWindows {
                report: 4,
                stop: Some(3),
            }],
        );
        check(
            "a report in the minute of the stop",
            &after(&[(6, edge.clone()), (6, report())]),
            &[],
        );
        check(
            "a report after the stop, of what was seen before it",
            &after(&[(6, edge.clone()), (7, seen(5))]),
            &[],
        );
        check(
            "a report before there was a cache",
            &[
                (1, report()),
                (2, CacheInFront),
                (3, Opened),
                (4, edge.clone()),
            ],
            &[Lint::ReportOutsideWindows {
                report: 1,
                stop: None,
            }],
        );
        check(
            "opened again on belief",
            &after(&[(6, edge.clone()), (9, Opened)]),
            &[
                Lint::ReopenedWithoutPurge {
                    opening: 4,
                    stop: 3,
                },
                Lint::ReopenedWithoutCheck {
                    opening: 4,
                    stop: 3,
                },
            ],
        );
        check(
            "opened again on proof",
            &after(&[
                (6, edge.clone()),
                (7, Purged(Extent::All)),
                (8, Checked { passed: true }),
                (9, Opened),
            ]),
            &[],
        );
        check(
            "half a purge, and a check that failed",
            &after(&[
                (6, edge.clone()),
                (7, Purged(Extent::Part)),
                (8, Checked { passed: false }),
                (9, Opened),
            ]),
            &[
                Lint::ReopenedWithoutPurge {
                    opening: 6,
                    stop: 3,
                },
                Lint::ReopenedWithoutCheck {
                    opening: 6,
                    stop: 3,
                },
            ],
        );
        check(
            "a purge before the stop",
            &after(&[
                (5, Purged(Extent::All)),
                (6, edge.clone()),
                (8, Checked { passed: true }),
                (9, Opened),
            ]),
            &[Lint::ReopenedWithoutPurge {
                opening: 6,
                stop: 4,
            }],
        );
        check(
            "maintenance behind the cache",
            &after(&[(6, Closed(Place::Origin))]),
            &[Lint::MaintenanceBehindTheCache {
                maintenance: 3,
                place: Place::Origin,
            }],
        );
        check(
            "maintenance at the origin once no cache stands in front",
            &after(&[(6, CacheGone), (8, Closed(Place::Origin))]),
            &[],
        );
        check(
            "stopped twice",
            &after(&[(6, edge.clone()), (8, edge.clone())]),
            &[Lint::Twice { first: 3, again: 4 }],
        );
        check(
            "opened and closed within a minute",
            &[(1, CacheInFront), (2, Opened), (2, edge.clone())],
            &[Lint::OrderOpen { one: 2, other: 3 }],
        );
        check(
            "nothing said of a cache",
            &[(5, Opened), (6, edge)],
            &[Lint::NoCacheTold],
        );
    }

    #[test]
    fn a_correction_names_what_it_corrects_once() {
        let opened = || What::Happened(vec![Change::Noted]);
        let found = |events: Vec<(u64, What, Option<u64>)>| {
            let mut found = lint(&timeline(events).now());
            found.retain(|lint| !matches!(lint, Lint::NoBeginning { .. } | Lint::NoCacheTold));
            found
        };
        for (case, events, expected) in [
            (
                "well",
                vec![(1, opened(), None), (2, What::AsBefore, Some(1))],
                vec![],
            ),
            (
                "what is not there",
                vec![(1, opened(), Some(9))],
                vec![Lint::SupersedesNothing {
                    event: 1,
                    missing: 9,
                }],
            ),
            (
                "what comes later",
                vec![(1, opened(), Some(2)), (2, opened(), None)],
                vec![Lint::SupersedesNothing {
                    event: 1,
                    missing: 2,
                }],
            ),
            (
                "twice",
                vec![
                    (1, opened(), None),
                    (2, What::AsBefore, Some(1)),
                    (3, What::AsBefore, Some(1)),
                ],
                vec![Lint::SupersededTwice { event: 1, again: 3 }],
            ),
            (
                "a correction of a correction",
                vec![
                    (1, opened(), None),
                    (2, What::AsBefore, Some(1)),
                    (3, What::AsBefore, Some(2)),
                ],
                vec![],
            ),
            (
                "nothing named",
                vec![(1, What::Withdrawn, None)],
                vec![Lint::CorrectsNothing { event: 1 }],
            ),
        ] {
            assert_eq!(found(events), expected, "{case}");
        }
    }

    #[test]
    fn instants_that_cannot_be_are_told() {
        let mut events = timeline(vec![(100, What::Happened(vec![Change::Noted]), None)]);
        let mut one = events.now().said()[0].clone();
        one.recorded = UnixMillis(0);
        let mut other = one.clone();
        other.number = 2;
        other.when.earliest = UnixMillis(u64::MAX);
        other.status = Status::Provisional;
        events = Timeline::new(vec![one, other]).expect("its numbers grow");
        let mut found = lint(&events.now());
        found.retain(|lint| !matches!(lint, Lint::NoBeginning { .. } | Lint::NoCacheTold));
        assert_eq!(
            found,
            [
                Lint::InstantsReversed { event: 2 },
                Lint::RecordedBefore { event: 1 }
            ]
        );
    }

    /// The measure is known to have been done by the minute in which the site was opened, or later.
    #[test]
    fn a_measure_that_may_have_come_after_the_opening() {
        let minute = |minute: u64| Span::minute(UnixMillis(minute * MINUTE_MS));
        for (until, expected) in [
            (8, None),
            (9, None),
            (
                10,
                Some(Lint::ReopenedBeforeMeasure {
                    opening: 4,
                    measure: 5,
                }),
            ),
        ] {
            let happened = |change: Change| What::Happened(vec![change]);
            let mut events = timeline(vec![
                (1, happened(Change::CacheInFront), None),
                (2, happened(Change::Opened), None),
                (6, happened(Change::Closed(Place::Edge)), None),
                (9, happened(Change::Opened), None),
                (6, happened(Change::Measure), None),
            ])
            .now()
            .said()
            .to_vec();
            events[4].when = minute(6).hull(minute(until));
            let timeline = Timeline::new(events).expect("its numbers grow");
            let found = lint(&timeline.now());
            let found = found
                .into_iter()
                .find(|lint| matches!(lint, Lint::ReopenedBeforeMeasure { .. }));
            assert_eq!(found, expected, "{until}");
        }
    }
}
