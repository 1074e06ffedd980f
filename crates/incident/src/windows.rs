//! Windows: the intervals in which a leak was possible, derived from a timeline.
//!
//! A leak was possible while a shared cache stood in front of the site and visitors were let through.
//! Each of the two is a state that events turn on and off, and neither their instants nor their order
//! need be known: an instant is in a window unless every reading of the timeline keeps it out.
//!
//! Never here: that a window's end empties a cache. What was stored in one window can be shown in a
//! later one, unless a purge lies between ([`Window::fills_from`]).
//!
//! Invariant: a window is an upper bound. Its ends are rounded outward to whole minutes, and both are in
//! it.

use std::fmt;

use shikiri_record::UnixMillis;

use crate::civil::{Zone, date_text, minutes_text};
use crate::span::{MINUTE_MS, Span, minute_of};
use crate::timeline::{Change, Event, Extent, Place, View, line};

/// Which maintenance ends a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Any: as it is usually stated.
    AnyMaintenance,
    /// Only one that is known to have been at the edge. A cache goes on with what it has stored while
    /// the origin behind it answers with maintenance pages.
    AtTheEdge,
}

/// What a window is as a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// No leak was possible outside the windows; within them, perhaps not always.
    Upper,
    /// Evidence shows leaks at both its ends; there may have been others outside it.
    Shown,
}

/// An interval in which a leak was possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it is as a bound.
    pub bound: Bound,
    /// Its first instant, a whole minute; `None` where no event tells when it began.
    pub from: Option<UnixMillis>,
    /// Its last instant, a whole minute's last millisecond; `None` while it is open.
    pub to: Option<UnixMillis>,
    /// The event that opened it.
    pub opened_by: Option<u64>,
    /// The event that closed it.
    pub closed_by: Option<u64>,
    /// What was stored from here on may have been shown in it: the beginning of the first window after
    /// the last purge before it. `None` where no event tells.
    pub fills_from: Option<UnixMillis>,
}

/// All windows of a view, the earliest first. They do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// How they were read.
    pub reading: Reading,
    /// The windows.
    pub list: Vec<Window>,
}

/// What a later view of a timeline changes about its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The events that were said in between.
    pub said: Vec<u64>,
    /// Of those, which took the place of which.
    pub superseded: Vec<(u64, u64)>,
    /// In a window now and not before.
    pub entered: Vec<Stretch>,
    /// In a window before and not now.
    pub left: Vec<Stretch>,
    /// The windows' length before and after, in minutes; `None` where one has no end or no beginning.
    pub minutes: Option<(u64, u64)>,
}

/// From an instant to another, both included; `None` is beyond what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first instant.
    pub from: Option<UnixMillis>,
    /// The last instant.
    pub to: Option<UnixMillis>,
}

impl Windows {
    /// The windows of a view.
    #[must_use]
    pub fn of(view: &View<'_>, reading: Reading) -> Self {
        let open = possibly(turns(view, |change| match change {
            Change::Opened => Some(Turn::On),
            Change::Closed(Place::Edge) => Some(Turn::Off),
            Change::Closed(Place::Origin | Place::Unsaid) => match reading {
                Reading::AnyMaintenance => Some(Turn::Off),
                Reading::AtTheEdge => None,
            },
            _ => None,
        }));
        let cached = possibly(turns(view, |change| match change {
            Change::CacheInFront => Some(Turn::On),
            Change::CacheGone => Some(Turn::Off),
            _ => None,
        }));
        let mut list = Vec::new();
        for cached in &cached {
            list.extend(open.iter().filter_map(|open| both(cached, open)));
        }
        let mut list: Vec<Window> = merged(list).into_iter().map(Window::of).collect();
        let purges: Vec<Span> = (view.changes())
            .filter(|(_, change)| **change == Change::Purged(Extent::All))
            .map(|(event, _)| event.when)
            .collect();
        for at in 0..list.len() {
            let since = (0..at).rev().take_while(|earlier| {
                !purges
                    .iter()
                    .any(|purge| lies_between(*purge, &list[*earlier], &list[at]))
            });
            let first = since.last().unwrap_or(at);
            list[at].fills_from = list[first].from;
        }
        Self { reading, list }
    }

    /// The window that holds an instant.
    #[must_use]
    pub fn at(&self, instant: UnixMillis) -> Option<&Window> {
        let holds = |window: &&Window| window.stretch().holds(instant);
        self.list.iter().find(holds)
    }

    /// Whether some instant of the span is in a window.
    #[must_use]
    pub fn meet(&self, span: Span) -> bool {
        self.list.iter().any(|window| window.stretch().meets(span))
    }

    /// The length of all windows, in minutes; `None` where one has no end or no beginning.
    #[must_use]
    pub fn minutes(&self) -> Option<u64> {
        self.list.iter().map(Window::minutes).sum()
    }

    /// The windows as a text.
    #[must_use]
    pub fn text(&self, zone: Zone) -> String {
        let mut text = format!(
            "Windows, at most, both ends included, times in {zone}{}\n",
            match self.reading {
                Reading::AnyMaintenance => "",
                Reading::AtTheEdge => "; only maintenance at the edge ends one",
            }
        );
        for (window, number) in self.list.iter().zip(1_usize..) {
            let length = window.minutes().map_or_else(String::new, |minutes| {
                format!("  {}", minutes_text(minutes))
            });
            let stretch = window.stretch().text(zone);
            line(&mut text, format_args!("{number:>4}  {stretch}{length}"));
            if window.fills_from != window.from {
                let since = window
                    .fills_from
                    .map_or_else(|| "before".into(), |from| end_text(from, zone));
                line(
                    &mut text,
                    format_args!(
                        "      no purge before it: may show what was stored since {since}"
                    ),
                );
            }
        }
        match self.minutes() {
            Some(minutes) => line(
                &mut text,
                format_args!("      {} in all", minutes_text(minutes)),
            ),
            None => line(&mut text, format_args!("      without bound")),
        }
        text
    }
}

impl Window {
    fn of(on: On) -> Self {
        Self {
            bound: Bound::Upper,
            from: on.from.map(|(from, _)| minute_of(from)),
            to: on.to.map(|(to, _)| minute_end(to)),
            opened_by: on.from.map(|(_, number)| number),
            closed_by: on.to.map(|(_, number)| number),
            fills_from: None,
        }
    }

    /// Its instants.
    #[must_use]
    pub const fn stretch(&self) -> Stretch {
        Stretch {
            from: self.from,
            to: self.to,
        }
    }

    /// From its first minute to its last, as a statement names them: `12:24` to `16:25` are 241 minutes.
    /// Since both are in it, it may have been up to a minute longer.
    #[must_use]
    pub fn minutes(&self) -> Option<u64> {
        Some(minute_of(self.to?).0.saturating_sub(self.from?.0) / MINUTE_MS)
    }
}

impl Stretch {
    /// Whether the instant is in it.
    #[must_use]
    pub fn holds(self, instant: UnixMillis) -> bool {
        self.meets(Span::at(instant))
    }

    /// Whether some instant of the span is in it.
    #[must_use]
    pub fn meets(self, span: Span) -> bool {
        self.from.is_none_or(|from| from <= span.latest)
            && self.to.is_none_or(|to| span.earliest <= to)
    }

    pub(crate) fn text(self, zone: Zone) -> String {
        let from = self.from.map(|from| (zone.civil(from).days, from));
        match (from, self.to) {
            (Some((day, from)), Some(to)) if zone.civil(to).days == day => {
                format!("{} - {}", end_text(from, zone), time_text(to, zone))
            }
            (Some((_, from)), Some(to)) => {
                format!("{} - {}", end_text(from, zone), end_text(to, zone))
            }
            (Some((_, from)), None) => format!("{} - still open", end_text(from, zone)),
            (None, Some(to)) => format!("not known since when - {}", end_text(to, zone)),
            (None, None) => "not known since when - still open".into(),
        }
    }
}

impl Diff {
    /// What came to stand between two views of one timeline.
    #[must_use]
    pub fn between(before: &View<'_>, after: &View<'_>, reading: Reading) -> Self {
        let last = before.said().last().map(|event| event.number);
        let news = after
            .said()
            .iter()
            .filter(|event| last.is_none_or(|last| event.number > last));
        let superseded = news
            .clone()
            .filter_map(|event| Some((event.number, event.supersedes?)));
        let superseded = superseded.collect();
        let said = news.map(|event| event.number).collect();
        let (was, is) = (Windows::of(before, reading), Windows::of(after, reading));
        Self {
            said,
            superseded,
            entered: without(&is, &was),
            left: without(&was, &is),
            minutes: was.minutes().zip(is.minutes()),
        }
    }

    /// The difference as a text.
    #[must_use]
    pub fn text(&self, zone: Zone) -> String {
        let mut text = format!("Changes, times in {zone}\n");
        let say = |numbers: &[u64]| {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            numbers.join(", ")
        };
        line(
            &mut text,
            format_args!("      said since: {}", say(&self.said)),
        );
        for (by, what) in &self.superseded {
            line(&mut text, format_args!("      {by} in place of {what}"));
        }
        for (word, stretches) in [
            ("in a window now", &self.entered),
            ("no more in a window", &self.left),
        ] {
            for stretch in stretches {
                line(
                    &mut text,
                    format_args!("      {word}: {}", stretch.text(zone)),
                );
            }
        }
        if let Some((before, after)) = self.minutes {
            let (sign, by) = if after < before {
                ('-', before - after)
            } else {
                ('+', after - before)
            };
            line(
                &mut text,
                format_args!(
                    "      {} before, {} now: {sign}{}",
                    minutes_text(before),
                    minutes_text(after),
                    minutes_text(by)
                ),
            );
        }
        text
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upper => "upper bound",
            Self::Shown => "shown",
        })
    }
}

/// What an event does to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    On,
    Off,
}

/// The events that turn a state on or off, in the order in which they happened.
pub(crate) fn turns<'a>(
    view: &View<'a>,
    turn: impl Fn(&Change) -> Option<Turn>,
) -> Vec<(&'a Event, Turn)> {
    let turned = |(event, change): (&'a Event, &Change)| Some((event, turn(change)?));
    view.changes().filter_map(turned).collect()
}

/// A stretch in which a state may have been on, and which events bound it.
#[derive(Clone, Copy, Debug)]
struct On {
    from: Option<(UnixMillis, u64)>,
    to: Option<(UnixMillis, u64)>,
}

/// When a state may have been on.
///
/// It may have been on at `t` when some event that turned it on may have come before `t` with none that
/// turned it off between them: none that surely came after the one and surely before `t`. So what turns
/// it on reaches from its earliest instant to the latest of the first that surely came after it and
/// turned it off. Before all events it may have been on where the first may be one that turned it off, or
/// where there is none.
fn possibly(turns: Vec<(&Event, Turn)>) -> Vec<On> {
    let end = |after: Option<UnixMillis>| {
        let offs = turns.iter().filter(|(event, turn)| {
            *turn == Turn::Off && after.is_none_or(|after| event.when.earliest > after)
        });
        offs.map(|(event, _)| (event.when.latest, event.number))
            .min()
    };
    let ons = || turns.iter().filter(|(_, turn)| *turn == Turn::On);
    let mut on = Vec::new();
    let may_be_first = |off: &Event| !ons().any(|(event, _)| event.when.surely_before(off.when));
    let turned_off = |(event, turn): &(&Event, Turn)| *turn == Turn::Off && may_be_first(event);
    if turns.is_empty() || turns.iter().any(turned_off) {
        on.push(On {
            from: None,
            to: end(None),
        });
    }
    on.extend(ons().map(|(event, _)| On {
        from: Some((event.when.earliest, event.number)),
        to: end(Some(event.when.latest)),
    }));
    merged(on)
}

/// The stretch in which both were on.
fn both(one: &On, other: &On) -> Option<On> {
    let from = one.from.max(other.from);
    let to = match (one.to, other.to) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let is_empty = matches!((from, to), (Some((from, _)), Some((to, _))) if from > to);
    (!is_empty).then_some(On { from, to })
}

/// The same instants, in stretches that lie apart by a minute or more: what falls into one minute
/// cannot be told apart by who reads minutes.
fn merged(mut all: Vec<On>) -> Vec<On> {
    // No beginning comes before every beginning.
    all.sort_by_key(|on| on.from);
    let mut merged: Vec<On> = Vec::new();
    for next in all {
        match merged.last_mut() {
            Some(last) if goes_on(last, &next) => {
                let ends = |on: &On| on.to.map_or(UnixMillis(u64::MAX), |(to, _)| to);
                if ends(&next) > ends(last) || next.to.is_none() {
                    last.to = next.to;
                }
            }
            _ => merged.push(next),
        }
    }
    merged
}

fn goes_on(last: &On, next: &On) -> bool {
    match (last.to, next.from) {
        (Some((to, _)), Some((from, _))) => minute_of(from) <= minute_end(to),
        _ => true,
    }
}

/// Whether a purge surely came after one window and surely before another.
fn lies_between(purge: Span, earlier: &Window, later: &Window) -> bool {
    earlier.to.is_some_and(|to| to < purge.earliest)
        && later.from.is_some_and(|from| purge.latest < from)
}

/// What is in the windows of one and in none of the other's.
fn without(these: &Windows, others: &Windows) -> Vec<Stretch> {
    let mut rest: Vec<Stretch> = these.list.iter().map(Window::stretch).collect();
    for other in &others.list {
        let other = other.stretch();
        rest = rest.into_iter().flat_map(|it| cut(it, other)).collect();
    }
    rest
}

/// The at most two parts of a stretch that another leaves.
fn cut(it: Stretch, other: Stretch) -> impl Iterator<Item = Stretch> {
    let before = other.from.and_then(|from| {
        let last = UnixMillis(from.0.checked_sub(1)?);
        Some(Stretch {
            from: it.from,
            to: Some(it.to.map_or(last, |to| to.min(last))),
        })
    });
    let after = other.to.and_then(|to| {
        let first = UnixMillis(to.0.checked_add(1)?);
        Some(Stretch {
            from: Some(it.from.map_or(first, |from| from.max(first))),
            to: it.to,
        })
    });
    let is_any =
        |part: &Stretch| !matches!((part.from, part.to), (Some(from), Some(to)) if from > to);
    before.into_iter().chain(after).filter(is_any)
}

const fn minute_end(instant: UnixMillis) -> UnixMillis {
    UnixMillis(minute_of(instant).0.saturating_add(MINUTE_MS - 1))
}

fn end_text(instant: UnixMillis, zone: Zone) -> String {
    format!(
        "{} {}",
        date_text(&zone.civil(instant)),
        time_text(instant, zone)
    )
}

fn time_text(instant: UnixMillis, zone: Zone) -> String {
    let civil = zone.civil(instant);
    format!("{:02}:{:02}", civil.hour, civil.minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::What;
    use proptest::prelude::*;
    use shikiri_record::Status;

    /// Two minutes: instants that are never rounded together.
    const STEP_MS: u64 = 2 * MINUTE_MS;

    fn event(number: u64, from: u64, to: u64) -> Event {
        Event {
            number,
            recorded: UnixMillis(0),
            when: Span::between(UnixMillis(from * STEP_MS), UnixMillis(to * STEP_MS)),
            source: String::new(),
            status: Status::Confirmed,
            what: What::Happened(Vec::new()),
            text: String::new(),
            supersedes: None,
        }
    }

    /// Whether the state is on at `t` (in steps) when the turns happened at these instants, in this
    /// order. At the very instant of a turn it is both.
    fn is_on(order: &[(u64, Turn)], t: u64) -> bool {
        let Some((_, first)) = order.first() else {
            return true;
        };
        let mut on = *first == Turn::Off;
        let mut before = 0;
        for (at, turn) in order {
            if on && before <= t && t <= *at {
                return true;
            }
            (on, before) = (*turn == Turn::On, *at);
        }
        on && before <= t
    }

    /// Every order and every instant that the spans leave open.
    fn readings(turns: &[(Span, Turn)]) -> Vec<Vec<(u64, Turn)>> {
        let mut all = vec![Vec::new()];
        for (span, turn) in turns {
            let mut longer = Vec::new();
            for order in &all {
                for at in span.earliest.0 / STEP_MS..=span.latest.0 / STEP_MS {
                    for place in 0..=order.len() {
                        let mut order: Vec<(u64, Turn)> = order.clone();
                        order.insert(place, (at, *turn));
                        if order.is_sorted_by_key(|(at, _)| *at) {
                            longer.push(order);
                        }
                    }
                }
            }
            all = longer;
        }
        all
    }

    proptest! {
        /// An instant is held exactly when some reading of the events has the state on then.
        #[test]
        fn possible_is_what_some_reading_has(
            turns in prop::collection::vec((0_u64..6, 0_u64..3, any::<bool>()), 0..4),
        ) {
            let turn = |on: bool| if on { Turn::On } else { Turn::Off };
            let mut events: Vec<(Event, Turn)> = (1..)
                .zip(&turns)
                .map(|(number, (from, length, on))| (event(number, *from, from + length), turn(*on)))
                .collect();
            events.sort_by_key(|(event, _)| (event.when, event.number));
            let spans: Vec<_> = events.iter().map(|(event, turn)| (event.when, *turn)).collect();
            let all = readings(&spans);
            let on = possibly(events.iter().map(|(event, turn)| (event, *turn)).collect());
            for t in 0..10 {
                let expected = all.iter().any(|order| is_on(order, t));
                let instant = UnixMillis(t * STEP_MS);
                let got = on.iter().any(|on| {
                    on.from.is_none_or(|(from, _)| from <= instant)
                        && on.to.is_none_or(|(to, _)| instant <= to)
                });
                prop_assert_eq!(got, expected, "at {} of {:?}", t, spans);
            }
        }

        /// What is cut from a stretch and what is left are the stretch.
        #[test]
        fn a_cut_takes_just_what_is_in_both(
            one in (prop::option::of(0_u64..9), prop::option::of(0_u64..9)),
            other in (prop::option::of(0_u64..9), prop::option::of(0_u64..9)),
        ) {
            let stretch = |(from, to): (Option<u64>, Option<u64>)| Stretch {
                from: from.map(UnixMillis),
                to: to.map(UnixMillis),
            };
            let (one, other) = (stretch(one), stretch(other));
            let is_any = |it: &Stretch| !matches!((it.from, it.to), (Some(from), Some(to)) if from > to);
            prop_assume!(is_any(&one) && is_any(&other));
            let left: Vec<Stretch> = cut(one, other).collect();
            for t in (0..12).map(UnixMillis) {
                let expected = one.holds(t) && !other.holds(t);
                prop_assert_eq!(left.iter().any(|it| it.holds(t)), expected);
            }
        }
    }

    #[test]
    fn ends_are_rounded_outward_to_minutes() {
        let on = On {
            from: Some((UnixMillis(61_500), 1)),
            to: Some((UnixMillis(121_000), 2)),
        };
        let window = Window::of(on);
        assert_eq!(window.from, Some(UnixMillis(60_000)));
        assert_eq!(window.to, Some(UnixMillis(179_999)));
        assert_eq!(window.minutes(), Some(1));
    }

    #[test]
    fn a_purge_between_two_windows_ends_what_the_first_stored() {
        let minute = |minute: u64| Span::minute(UnixMillis(minute * MINUTE_MS));
        let fills_from = |purge: Span, extent: Extent| {
            let changes = [
                (minute(1), Change::CacheInFront),
                (minute(1), Change::Opened),
                (minute(5), Change::Closed(Place::Edge)),
                (purge, Change::Purged(extent)),
                (minute(9), Change::Opened),
                (minute(12), Change::Closed(Place::Edge)),
            ];
            let event = |(number, (when, change)): (u64, (Span, Change))| Event {
                when,
                what: What::Happened(vec![change]),
                ..event(number, 0, 0)
            };
            let events = (1..).zip(changes).map(event).collect();
            let timeline = crate::timeline::Timeline::new(events).expect("its numbers grow");
            let windows = Windows::of(&timeline.now(), Reading::AnyMaintenance);
            assert_eq!(windows.list.len(), 2);
            windows.list[1].fills_from.map(|from| from.0 / MINUTE_MS)
        };
        for (case, purge, extent, expected) in [
            ("between them", minute(7), Extent::All, 9),
            ("of a part", minute(7), Extent::Part, 1),
            ("in the minute of the stop", minute(5), Extent::All, 1),
            ("in the minute of the opening", minute(9), Extent::All, 1),
            (
                "perhaps before the stop",
                minute(4).hull(minute(7)),
                Extent::All,
                1,
            ),
        ] {
            assert_eq!(fills_from(purge, extent), Some(expected), "{case}");
        }
    }
}
