//! `shikiri timeline`: what the site did and what was found out about it.
//!
//! Showing reads the data folder itself, also while no edge runs. Adding is the running edge's, which is
//! the one writer.

use std::fmt::Write;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use shikiri_edge::admin::site::{EntryAnswer, WantedEntry};
use shikiri_edge::chronicle::{self, Found};
use shikiri_edge::maintenance;
use shikiri_edge::retelling::{self, Superseded};
use shikiri_evidence::{Disk, RealDisk};
use shikiri_record::{Entry, Status, UnixMillis, What};

use crate::keep::TIMELINE;
use crate::remote::{At, ask};
use crate::say;

/// `shikiri timeline …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show the timeline.
    Show(ShowArgs),
    /// Put somebody's word on the timeline: a report, a finding, a check, a correction.
    Add(AddArgs),
}

/// Flags of `shikiri timeline show`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri timeline show
  shikiri timeline show --since 2020-03-16T00:00+09:00 --zone Asia/Tokyo
  shikiri timeline show --data /var/lib/shikiri --json | jq 'select(.entry.what.kind == \"mode_changed\")'")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    at: At,
    /// Only what was at this time or later: `2020-03-16T00:00+09:00`, or a date.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The time zone in which times are told; this machine's when not given.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// A line of JSON for every entry.
    #[arg(long)]
    json: bool,
}

/// Flags of `shikiri timeline add`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri timeline add --reported-by 'the card processor' --channel telephone --earliest 2020-03-16T22:50+09:00 \\
      --text 'after login the account was somebody else'
  shikiri timeline add --finding cookie-shared --source 'vendor, report of 17 March' --text '…'
  shikiri timeline add --corrects 12 --earliest 2020-03-16T12:24+09:00 --source 'access log' \\
      --text 'the CDN began at 12:24, not 19:23'")]
pub(crate) struct AddArgs {
    #[command(flatten)]
    at: At,
    /// A report, and whose it is.
    #[arg(long, value_name = "WHO", group = "kind", requires = "channel")]
    reported_by: Option<String>,
    /// How the report came: mail, telephone.
    #[arg(long, value_name = "WAY")]
    channel: Option<String>,
    /// A finding, by its name.
    #[arg(long, value_name = "NAME", group = "kind")]
    finding: Option<String>,
    /// A check that passed.
    #[arg(long, value_name = "WHAT", group = "kind")]
    passed: Option<String>,
    /// A check that failed.
    #[arg(long, value_name = "WHAT", group = "kind")]
    failed: Option<String>,
    /// A correction of this entry: its instants and text hold instead.
    #[arg(long, value_name = "ENTRY", group = "kind")]
    corrects: Option<u64>,
    /// When it was, at the earliest; now when not given.
    #[arg(long, value_name = "TIME")]
    earliest: Option<String>,
    /// And at the latest.
    #[arg(long, value_name = "TIME")]
    latest: Option<String>,
    /// Whose word it is, or how it is known.
    #[arg(long, default_value = "operator")]
    source: String,
    /// As far as is known; without it, it is sure.
    #[arg(long)]
    provisional: bool,
    /// What was said.
    #[arg(long)]
    text: String,
}

pub(crate) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Show(args) => show(args),
        Command::Add(args) => add(args),
    }
}

fn show(args: &ShowArgs) -> Result<(), String> {
    let zone = match &args.zone {
        Some(name) => maintenance::zone(name)?,
        None => TimeZone::system(),
    };
    let since = args.since.as_deref().map(|text| instant(text, &zone));
    let since = since.transpose()?;
    let folder = args.at.folder()?.join(TIMELINE);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    if !folder.is_dir() {
        return Err(format!(
            "there is no timeline in {}: `--data` says where the edge's data folder is",
            folder.display()
        ));
    }
    let found = chronicle::read(&disk, &folder).map_err(|fault| fault.to_string())?;
    say(&if args.json {
        as_json(&found, since)
    } else {
        retelling::as_text(&found, since, &zone)
    })
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Entry {
        sequence: u64,
        written: UnixMillis,
        #[serde(skip_serializing_if = "Option::is_none")]
        superseded_by: Option<u64>,
        entry: &'a Entry,
    },
    Damage {
        damage: &'a str,
    },
}

fn as_json(found: &[Found], since: Option<UnixMillis>) -> String {
    let superseded = Superseded::of(found);
    let mut said = String::new();
    for found in found {
        let line = match found {
            Found::Damage(what) => Line::Damage { damage: what },
            Found::Entry(placed) if since.is_some_and(|since| placed.entry.latest < since) => {
                continue;
            }
            Found::Entry(placed) => Line::Entry {
                sequence: placed.sequence,
                written: placed.at,
                superseded_by: superseded.by(placed.sequence),
                entry: &placed.entry,
            },
        };
        let line = serde_json::to_string(&line).expect("an entry is plain data");
        writeln!(said, "{line}").expect("a string can be written to");
    }
    said
}

/// An instant with its offset, or a time of a zone.
fn instant(text: &str, zone: &TimeZone) -> Result<UnixMillis, String> {
    let wrong =
        || format!("`{text}` is no time: write `2020-03-16T12:24+09:00` or `2020-03-16 12:24`");
    let at = if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else {
        let civil = text.trim().replacen(' ', "T", 1);
        let civil: jiff::civil::DateTime = civil.parse().map_err(|_| wrong())?;
        civil
            .to_zoned(zone.clone())
            .map_err(|_| wrong())?
            .timestamp()
    };
    u64::try_from(at.as_millisecond())
        .map(UnixMillis)
        .map_err(|_| wrong())
}

fn add(args: &AddArgs) -> Result<(), String> {
    let what = if let Some(reporter) = &args.reported_by {
        What::Reported {
            reporter: reporter.clone(),
            channel: args.channel.clone().unwrap_or_default(),
            seen: None,
        }
    } else if let Some(finding) = &args.finding {
        What::Finding {
            finding: finding.clone(),
        }
    } else if let Some(check) = args.passed.as_ref().or(args.failed.as_ref()) {
        What::Checked {
            check: check.clone(),
            passed: args.passed.is_some(),
        }
    } else if args.corrects.is_some() {
        What::Corrected {}
    } else {
        return Err(
            "say what it is: --reported-by, --finding, --passed, --failed or --corrects".into(),
        );
    };
    let zone = TimeZone::system();
    let at = |text: &Option<String>| text.as_deref().map(|text| instant(text, &zone)).transpose();
    let wanted = WantedEntry {
        what,
        earliest: at(&args.earliest)?,
        latest: at(&args.latest)?,
        source: args.source.clone(),
        status: if args.provisional {
            Status::Provisional
        } else {
            Status::Confirmed
        },
        text: args.text.clone(),
        supersedes: args.corrects,
    };
    let body = serde_json::to_string(&wanted).expect("what is wanted is plain data");
    let answer = ask(&args.at.socket()?, "POST", "/timeline", &body)?;
    let answer: EntryAnswer = serde_json::from_str(&answer)
        .map_err(|error| format!("the edge's answer cannot be understood: {error}"))?;
    say(&format!("on the timeline as entry {}\n", answer.entry))
}
