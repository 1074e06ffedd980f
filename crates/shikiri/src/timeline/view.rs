//! What is derived from a timeline: what stood as of when, its windows, and what contradicts itself.
//!
//! Never from a part of one: a bound that was made from half of what was said is none.

use std::path::Path;
use std::process::ExitCode;

use jiff::tz::TimeZone;
use shikiri_edge::chronicle::Found;
use shikiri_incident::lint::{self, Clocks};
use shikiri_incident::timeline::{Event, Timeline, View};
use shikiri_incident::windows::{Diff, Reading, Windows};
use shikiri_incident::{Zone, exchange};

use super::{InZone, Of, fixed, found, instant};
use crate::{now, say};

/// Something is noticed.
const NOTICED: u8 = 3;

/// Flags of `shikiri timeline as-of`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri timeline as-of now --in march-2020
  shikiri timeline as-of N1 --in march-2020 --zone Asia/Tokyo
      What stood when the statement N1 was published, whatever was said since.
  shikiri timeline as-of 2020-03-20T00:00+09:00 --in march-2020
      What had been put on the timeline by then.")]
pub(crate) struct AsOfArgs {
    /// `now`, the name of a statement, the number of an entry, or a time.
    #[arg(value_name = "WHEN")]
    when: String,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    read: Read,
}

/// Flags of `shikiri timeline diff`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri timeline diff N1 --in march-2020
      From the statement N1 until now.
  shikiri timeline diff N1 N2 --in march-2020 --zone Asia/Tokyo")]
pub(crate) struct DiffArgs {
    /// From: a statement's name, an entry's number, or a time.
    #[arg(value_name = "BEFORE")]
    before: String,
    /// To: the same, or `now`.
    #[arg(value_name = "AFTER", default_value = "now")]
    after: String,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    read: Read,
}

/// Flags of `shikiri timeline lint`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 when nothing is noticed, 3 when something is, 1 when the timeline cannot \
be read. What is noticed is a question to whoever keeps the timeline, not an error.

Examples:
  shikiri timeline lint
  shikiri timeline lint --in march-2020 --zone Asia/Tokyo"
)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    zone: InZone,
}

/// Flags of `shikiri timeline export`.
#[derive(clap::Args)]
#[command(
    after_help = "`show --json` tells all that was said, what was superseded included.

Examples:
  shikiri timeline export --in march-2020 > march-2020.jsonl
      What stands, as lines for Timesketch."
)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    of: Of,
    /// For which tool.
    #[arg(long, value_enum, default_value_t = Tool::Timesketch)]
    to: Tool,
}

/// What other tools read.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tool {
    /// JSON lines with `message`, `datetime` and `timestamp_desc`.
    Timesketch,
}

/// How a timeline is read.
#[derive(clap::Args)]
struct Read {
    #[command(flatten)]
    zone: InZone,
    /// Only maintenance that is known to have been at the edge ends a window: a cache goes on with what it
    /// has stored while the origin behind it is closed.
    #[arg(long)]
    at_the_edge: bool,
}

impl Read {
    const fn reading(&self) -> Reading {
        if self.at_the_edge {
            Reading::AtTheEdge
        } else {
            Reading::AnyMaintenance
        }
    }
}

pub(super) fn as_of(args: &AsOfArgs) -> Result<(), String> {
    let zone = args.read.zone.zone()?;
    let timeline = whole(&args.of.folder()?)?;
    let view = viewed(&timeline, &args.when, &zone)?;
    let zone = zone_of(&view, &zone);
    let windows = Windows::of(&view, args.read.reading()).text(zone);
    let parts = [
        view.text(zone),
        windows,
        Clocks::of(&view).text(),
        lint::text(&view, zone),
    ];
    say(&parts.join("\n"))
}

pub(super) fn diff(args: &DiffArgs) -> Result<(), String> {
    let zone = args.read.zone.zone()?;
    let timeline = whole(&args.of.folder()?)?;
    let before = viewed(&timeline, &args.before, &zone)?;
    let after = viewed(&timeline, &args.after, &zone)?;
    let zone = zone_of(&after, &zone);
    say(&Diff::between(&before, &after, args.read.reading()).text(zone))
}

pub(super) fn lint(args: &LintArgs) -> Result<ExitCode, String> {
    let timeline = whole(&args.of.folder()?)?;
    let view = timeline.now();
    let text = lint::text(&view, zone_of(&view, &args.zone.zone()?));
    say(&text)?;
    Ok(match text.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOTICED),
    })
}

pub(super) fn export(args: &ExportArgs) -> Result<(), String> {
    let timeline = whole(&args.of.folder()?)?;
    match args.to {
        Tool::Timesketch => say(&exchange::to_timesketch(&timeline.now())),
    }
}

/// The timeline in a folder, of which nothing is missing.
///
/// # Errors
/// In words: there is none, or it is not whole.
pub(crate) fn whole(folder: &Path) -> Result<Timeline, String> {
    let mut events = Vec::new();
    for found in found(folder)? {
        match found {
            Found::Entry(placed) => {
                events.push(Event::of_entry(placed.sequence, placed.at, &placed.entry));
            }
            Found::Damage(what) => {
                return Err(format!(
                    "the timeline is damaged, so nothing that is derived from it would hold: {what}"
                ));
            }
        }
    }
    Timeline::new(events).map_err(|fault| fault.to_string())
}

/// What stood then.
fn viewed<'a>(timeline: &'a Timeline, when: &str, zone: &TimeZone) -> Result<View<'a>, String> {
    if when == "now" {
        return Ok(timeline.now());
    }
    if let Some(view) = timeline.as_stated(when) {
        return Ok(view);
    }
    if let Ok(number) = when.parse() {
        return Ok(timeline.as_of(number));
    }
    let at = instant(when, zone).map_err(|_| {
        format!(
            "`{when}` is no statement of this timeline, no entry's number and no time: write N1, 12, \
             2020-03-16T12:24+09:00 or now"
        )
    })?;
    Ok(timeline.as_recorded(at))
}

/// The zone's distance from UTC when the first of it was.
fn zone_of(view: &View<'_>, zone: &TimeZone) -> Zone {
    let first = view.standing().first().map(|it| it.event.when.earliest);
    fixed(zone, first.unwrap_or(now()))
}
