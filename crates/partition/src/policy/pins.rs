//! `[pins]`: how an origin's word about viewers and owners is held against sessions.

use std::time::Duration;

use shikiri_record::Mode;

use super::compile::{names, path_patterns, take};
use super::fault::{At, Faults};
use super::text::{PinsText, TripText};
use super::{overlap, units};
use crate::rules::{NamePattern, PinAction, PinRules, Session, Trip};

/// One would let anybody with one account close the site.
const TRIP_VIEWERS_MIN: u64 = 2;
const TRIP_VIEWERS_MAX: u64 = 1_000;
const TRIP_WITHIN_MIN: Duration = Duration::from_secs(1);
const TRIP_WITHIN_MAX: Duration = Duration::from_secs(60 * 60);
const SESSIONS_MIN: u64 = 100;
const SESSIONS_MAX: u64 = 10_000_000;

pub(super) fn pins(
    said: Option<&PinsText>,
    session: &Session,
    faults: &mut Faults<'_>,
) -> PinRules {
    let unsaid = PinRules {
        cookies: the_one_that_identifies(session),
        ..PinRules::unsaid()
    };
    let Some(said) = said else {
        return unsaid;
    };
    let action = match said.action.as_ref().map(|a| (a.value.as_str(), a.at)) {
        None => unsaid.action,
        Some(("record", _)) => PinAction::Record,
        Some(("stop", _)) => PinAction::Stop,
        Some((other, at)) => {
            faults.add(
                at,
                format!("`action` cannot be `{other}`"),
                "Write \"record\" (what disagrees leaves, and is recorded) or \"stop\" (nothing of it leaves).",
            );
            unsaid.action
        }
    };
    let mut starts = Vec::new();
    for pattern in said.starts.iter().flat_map(|said| &said.value) {
        let paths = take(path_patterns(&pattern.value), pattern.at, faults);
        starts.extend(paths.into_iter().flatten());
    }
    starts.sort_by(|a, b| a.0.cmp(&b.0));
    starts.dedup();
    if let Some(listed) = said.starts.as_ref().filter(|said| said.value.is_empty()) {
        faults.add(
            listed.at,
            "`starts` lists none, so no session could begin",
            "List the paths of logins, logouts and account switches, or leave it out.",
        );
    }
    let cookies = match &said.cookies {
        None => unsaid.cookies,
        Some(listed) => {
            let cookies = names(Some(listed), faults);
            for name in &listed.value {
                recognised(name, session, faults);
            }
            cookies
        }
    };
    PinRules {
        action,
        trip: said.trip.as_ref().and_then(|said| trip(said, faults)),
        cookies,
        starts,
        judges_owners: judged("owners", said.owners.as_ref(), faults),
        judges_nobodies: judged("nobodies", said.nobodies.as_ref(), faults),
        sessions_max: number(
            "sessions_max",
            said.sessions_max.as_ref(),
            (SESSIONS_MIN, SESSIONS_MAX),
            faults,
        )
        .unwrap_or(unsaid.sessions_max),
    }
}

/// The cookie that identifies a member, where policy names exactly one: then its value is one
/// session's alone. Of several, some may be a flag or a language.
fn the_one_that_identifies(session: &Session) -> Vec<NamePattern> {
    match &session.cookies[..] {
        [one] => vec![one.clone()],
        _ => Vec::new(),
    }
}

/// A cookie that tells one session from another identifies a member.
fn recognised(name: &At<String>, session: &Session, faults: &mut Faults<'_>) {
    let pattern = NamePattern(name.value.clone());
    let ignored = session
        .ignorable_cookies
        .iter()
        .any(|other| overlap::names_meet(other, &pattern));
    let identifies = session.cookies.is_empty()
        || session
            .cookies
            .iter()
            .any(|other| overlap::name_covers(other, &pattern));
    if ignored || !identifies {
        faults.add(
            name.at,
            format!(
                "`{}` is to tell sessions apart, and [session] does not say that it identifies a member",
                name.value
            ),
            "Add it to [session] `cookies`.",
        );
    }
}

fn judged(key: &str, said: Option<&At<String>>, faults: &mut Faults<'_>) -> bool {
    match said.map(|said| (said.value.as_str(), said.at)) {
        None | Some(("judge", _)) => true,
        Some(("ignore", _)) => false,
        Some((other, at)) => {
            faults.add(
                at,
                format!("`{key}` cannot be `{other}`"),
                "Write \"judge\" or \"ignore\".",
            );
            true
        }
    }
}

fn number(
    key: &str,
    said: Option<&At<u64>>,
    (min, max): (u64, u64),
    faults: &mut Faults<'_>,
) -> Option<usize> {
    let said = said?;
    if !(min..=max).contains(&said.value) {
        faults.add(
            said.at,
            format!("`{key}` is {}", said.value),
            format!("Write a value from {min} to {max}."),
        );
        return None;
    }
    usize::try_from(said.value).ok()
}

fn trip(said: &TripText, faults: &mut Faults<'_>) -> Option<Trip> {
    let mut missing = |key: &str| {
        faults.add(
            said.at,
            format!("`trip` has no `{key}`"),
            "Write `trip = { viewers = 3, within = \"60s\", mode = \"pass\" }`.",
        );
    };
    if said.viewers.is_none() {
        missing("viewers");
    }
    if said.within.is_none() {
        missing("within");
    }
    if said.mode.is_none() {
        missing("mode");
    }
    let range = (TRIP_VIEWERS_MIN, TRIP_VIEWERS_MAX);
    let viewers = number("viewers", said.viewers.as_ref(), range, faults);
    let within = said.within.as_ref().filter(|within| {
        let fits = (TRIP_WITHIN_MIN..=TRIP_WITHIN_MAX).contains(&within.value);
        if !fits {
            faults.add(
                within.at,
                format!("`within` is {}", units::show_duration(within.value)),
                format!(
                    "Write a value from {} to {}.",
                    units::show_duration(TRIP_WITHIN_MIN),
                    units::show_duration(TRIP_WITHIN_MAX)
                ),
            );
        }
        fits
    });
    let mode = said.mode.as_ref().and_then(|mode| {
        let lower = mode.value.parse().ok().filter(|mode| *mode != Mode::Open);
        if lower.is_none() {
            faults.add(
                mode.at,
                format!("`{}` is no mode that the site can trip to", mode.value),
                "Write \"static\", \"pass\" or \"closed\".",
            );
        }
        lower
    });
    Some(Trip {
        viewers: viewers?,
        within: within?.value,
        mode: mode?,
    })
}
