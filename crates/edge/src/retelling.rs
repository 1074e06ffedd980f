//! The timeline as people read it.
//!
//! Never leaves out what cannot be read: it is told where it lies.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use shikiri_record::{Status, UnixMillis, What};

use crate::chronicle::{Found, Placed};

/// What is put on the timeline so long after it was is told with the time when it was.
const LATER: Duration = Duration::from_secs(60);

/// Entries that a later one takes the place of, each with that one.
#[derive(Debug)]
pub struct Superseded(Vec<(u64, u64)>);

impl Superseded {
    /// Those of a timeline.
    #[must_use]
    pub fn of(found: &[Found]) -> Self {
        let pairs = found.iter().filter_map(|found| match found {
            Found::Entry(placed) => Some((placed.entry.supersedes?, placed.sequence)),
            Found::Damage(_) => None,
        });
        Self(pairs.collect())
    }

    /// The last entry that takes this one's place, if any does.
    #[must_use]
    pub fn by(&self, sequence: u64) -> Option<u64> {
        let by = self.0.iter().filter(|(of, _)| *of == sequence);
        by.map(|(_, by)| *by).next_back()
    }
}

/// A timeline in words, in the times of a zone; from `since` on, where it is given.
#[must_use]
pub fn as_text(found: &[Found], since: Option<UnixMillis>, zone: &TimeZone) -> String {
    let superseded = Superseded::of(found);
    let mut said = String::new();
    for found in found {
        match found {
            Found::Damage(what) => {
                writeln!(said, "   ! CANNOT BE READ: {what}").expect("a string can be written to");
            }
            Found::Entry(placed) if since.is_some_and(|since| placed.entry.latest < since) => {}
            Found::Entry(placed) => {
                entry(&mut said, placed, superseded.by(placed.sequence), zone);
            }
        }
    }
    said
}

fn entry(said: &mut String, placed: &Placed, superseded_by: Option<u64>, zone: &TimeZone) {
    let Placed {
        sequence, entry, ..
    } = placed;
    let mut line = |text: std::fmt::Arguments<'_>| {
        writeln!(said, "{text}").expect("a string can be written to");
    };
    let when = if entry.earliest == entry.latest {
        shown(entry.earliest, zone)
    } else {
        format!(
            "{} to {}",
            shown(entry.earliest, zone),
            shown(entry.latest, zone)
        )
    };
    line(format_args!("{sequence:>4} {when}  {}", entry.what));
    let mut by = format!("by {}", entry.actor);
    if entry.source != "node" {
        write!(by, ", source: {}", entry.source).expect("a string can be written to");
    }
    if entry.status == Status::Provisional {
        by.push_str(", provisional");
    }
    if !entry.text.is_empty() {
        write!(by, ": {}", entry.text).expect("a string can be written to");
    }
    line(format_args!("     {by}"));
    if placed.at.since(entry.latest) >= LATER {
        line(format_args!("     put here {}", shown(placed.at, zone)));
    }
    let reopening = match &entry.what {
        What::ModeChanged { reopening, .. } => *reopening,
        What::ReopeningPlanned { at } => *at,
        _ => None,
    };
    if let Some(at) = reopening {
        line(format_args!("     planned to reopen {}", shown(at, zone)));
    }
    if let Some(of) = entry.supersedes {
        line(format_args!("     instead of entry {of}"));
    }
    if let Some(by) = superseded_by {
        line(format_args!("     SUPERSEDED by entry {by}"));
    }
}

fn shown(at: UnixMillis, zone: &TimeZone) -> String {
    let millis = i64::try_from(at.0).ok();
    let at = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    at.map_or_else(
        || "(no time)".to_owned(),
        |at| {
            at.to_zoned(zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S %Z")
                .to_string()
        },
    )
}
