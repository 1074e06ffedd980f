//! `shikiri timeline`: what the site did and what was found out about it.
//!
//! Two kinds of timelines, in one form. A node's is in its data folder: showing reads it there, also while
//! no edge runs; adding is the running edge's, which is the one writer. One of its own ([own]) is for a site
//! whose cache is not ours: any folder, written by this command.
//!
//! Invariant: nothing that was said is ever changed. What is derived ([view]) is derived from a whole
//! timeline or refused.

mod bring;
mod own;
mod view;

use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use shikiri_edge::admin::site::{EntryAnswer, WantedEntry};
use shikiri_edge::chronicle::{self, Found};
use shikiri_edge::maintenance;
use shikiri_edge::retelling::{self, Superseded};
use shikiri_evidence::{Disk, RealDisk};
use shikiri_incident::{Span, Zone, exchange};
use shikiri_record::{Entry, Seen, SiteChange, Status, UnixMillis, What};

use crate::keep::TIMELINE;
use crate::remote::{At, ask};
use crate::say;

pub(crate) use view::whole;

/// `shikiri timeline …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show all that was said, in the order in which it was.
    Show(ShowArgs),
    /// Put something on the timeline: a change of the site, a report, a finding, a check, a statement.
    Add(Box<AddArgs>),
    /// Say anew what an entry said, or that it never happened.
    Correct(Box<CorrectArgs>),
    /// What stood as of a statement, an entry or a time: the timeline, its windows and what contradicts itself.
    AsOf(view::AsOfArgs),
    /// What changed between two states of the timeline.
    Diff(view::DiffArgs),
    /// What contradicts itself, or keeps a window open that looks closed.
    Lint(view::LintArgs),
    /// Put the rows of a table, or entries as JSON, on the timeline.
    Import(bring::ImportArgs),
    /// What stands, for other tools.
    Export(view::ExportArgs),
}

/// Whose timeline.
#[derive(clap::Args)]
pub(crate) struct Of {
    #[command(flatten)]
    at: At,
    /// A timeline of its own, in this folder: for a site whose cache is not Shikiri.
    #[arg(long = "in", value_name = "DIR", conflicts_with_all = ["control", "data", "config"])]
    own: Option<PathBuf>,
}

impl Of {
    /// The folder of the timeline.
    fn folder(&self) -> Result<PathBuf, String> {
        match &self.own {
            Some(folder) => Ok(folder.clone()),
            None => Ok(self.at.folder()?.join(TIMELINE)),
        }
    }
}

/// Everything on the timeline in a folder.
fn found(folder: &Path) -> Result<Vec<Found>, String> {
    if !folder.is_dir() {
        return Err(format!(
            "there is no timeline in {}: `--data` says where the edge's data folder is, `--in` where a timeline \
             of its own is",
            folder.display()
        ));
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    chronicle::read(&disk, folder).map_err(|fault| fault.to_string())
}

/// The time zone in which times are told, and read where they name none.
#[derive(clap::Args)]
pub(crate) struct InZone {
    /// The time zone in which times are told and read; this machine's when not given.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

impl InZone {
    fn zone(&self) -> Result<TimeZone, String> {
        match &self.zone {
            Some(name) => maintenance::zone(name),
            None => Ok(TimeZone::system()),
        }
    }
}

/// Flags of `shikiri timeline show`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri timeline show
  shikiri timeline show --since 2020-03-16T00:00+09:00 --zone Asia/Tokyo
  shikiri timeline show --in march-2020
  shikiri timeline show --data /var/lib/shikiri --json | jq 'select(.entry.what.kind == \"mode_changed\")'")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    of: Of,
    /// Only what was at this time or later: `2020-03-16T00:00+09:00`, or a date.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    zone: InZone,
    /// A line of JSON for every entry.
    #[arg(long)]
    json: bool,
}

/// Flags of `shikiri timeline add`.
#[derive(clap::Args)]
#[command(
    after_help = "Times: `2020-03-16 12:24` is the whole minute, `12:24:05` the whole second.

Examples:
  shikiri timeline add --reported-by 'the card processor' --channel telephone --when '2020-03-16 22:50' \\
      --text 'after login the account was somebody else'
  shikiri timeline add --finding cookie-shared --source 'vendor, report of 17 March' --text '…'
  shikiri timeline add --in march-2020 --changed cache_in_front,opened --when '2020-03-16 12:24' \\
      --zone Asia/Tokyo --text 'the CDN is taken into use'
  shikiri timeline add --in march-2020 --changed measure --when '2020-03-16 22:57' --until '2020-03-17 03:21' \\
      --text 'images, JS and CSS only'
  shikiri timeline add --in march-2020 --stated N1 --text 'the first statement'"
)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    said: Said,
    /// A correction of this entry: its instants and text hold instead. As `correct`.
    #[arg(long, value_name = "ENTRY", group = "kind")]
    corrects: Option<u64>,
}

/// Flags of `shikiri timeline correct`.
#[derive(clap::Args)]
#[command(after_help = "What it was is as before, unless it is said anew.

Examples:
  shikiri timeline correct 12 --when '2020-03-16 12:24' --source 'access log' --text 'at 12:24, not at 19:23'
  shikiri timeline correct 0 --in march-2020 --changed cache_in_front,opened --when '2020-03-16 12:24' \\
      --text 'maintenance ended with it'
  shikiri timeline correct 7 --withdraw --text 'there was no such report'")]
pub(crate) struct CorrectArgs {
    /// The entry that is corrected, by its number.
    #[arg(value_name = "ENTRY")]
    entry: u64,
    #[command(flatten)]
    of: Of,
    /// It never happened.
    #[arg(long, group = "kind")]
    withdraw: bool,
    #[command(flatten)]
    said: Said,
}

/// What is said.
#[derive(clap::Args)]
struct Said {
    /// A report, and whose it is.
    #[arg(long, value_name = "WHO", group = "kind", requires = "channel")]
    reported_by: Option<String>,
    /// How the report came: mail, telephone.
    #[arg(long, value_name = "WAY")]
    channel: Option<String>,
    /// When the reporter saw it, if they said so.
    #[arg(long, value_name = "TIME", requires = "reported_by")]
    seen: Option<String>,
    /// A finding, by its name.
    #[arg(long, value_name = "NAME", group = "kind")]
    finding: Option<String>,
    /// A check that passed.
    #[arg(long, value_name = "WHAT", group = "kind")]
    passed: Option<String>,
    /// A check that failed.
    #[arg(long, value_name = "WHAT", group = "kind")]
    failed: Option<String>,
    /// A change of the site, in what is not an edge's of ours: cache_in_front, cache_gone, opened,
    /// closed_at_edge, closed_at_origin, closed (nobody said where), purged_all, purged_part, measure.
    #[arg(long, value_name = "WHAT", group = "kind", value_delimiter = ',', value_parser = site_change)]
    changed: Vec<SiteChange>,
    /// A statement that was published, and what it is called.
    #[arg(long, value_name = "NAME", group = "kind")]
    stated: Option<String>,
    /// When it was, as coarse as it is written; now when not given.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["earliest", "latest"])]
    when: Option<String>,
    /// It was between `--when` and this.
    #[arg(long, value_name = "TIME", requires = "when")]
    until: Option<String>,
    /// When it was, at the earliest, to the millisecond.
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
    #[command(flatten)]
    zone: InZone,
}

/// A change of the site, by the name that the timeline's form has for it.
fn site_change(name: &str) -> Result<SiteChange, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|_| {
        "write cache_in_front, cache_gone, opened, closed_at_edge, closed_at_origin, closed, purged_all, \
         purged_part or measure"
            .to_owned()
    })
}

pub(crate) fn run(command: &Command) -> Result<ExitCode, String> {
    match command {
        Command::Show(args) => show(args)?,
        Command::Add(args) => {
            let what = args.said.what(args.corrects.map(|_| What::Corrected {}))?;
            put(&args.of, args.said.wanted(what, args.corrects)?)?;
        }
        Command::Correct(args) => {
            let before = if args.withdraw {
                What::Withdrawn {}
            } else {
                What::Corrected {}
            };
            let what = args.said.what(Some(before))?;
            put(&args.of, args.said.wanted(what, Some(args.entry))?)?;
        }
        Command::AsOf(args) => view::as_of(args)?,
        Command::Diff(args) => view::diff(args)?,
        Command::Lint(args) => return view::lint(args),
        Command::Import(args) => bring::import(args)?,
        Command::Export(args) => view::export(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs) -> Result<(), String> {
    let zone = args.zone.zone()?;
    let since = args.since.as_deref().map(|text| instant(text, &zone));
    let since = since.transpose()?;
    let found = found(&args.of.folder()?)?;
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

/// A time as people write it, as coarse as it is written: `12:24` is the whole minute.
fn span(text: &str, zone: &TimeZone) -> Result<Span, String> {
    let at = instant(text, zone)?;
    let span = exchange::time_text(text, fixed(zone, at));
    span.ok_or_else(|| format!("`{text}` is no time of a day: write `2020-03-16 12:24`"))
}

/// A zone's distance from UTC at an instant.
fn fixed(zone: &TimeZone, at: UnixMillis) -> Zone {
    let at = i64::try_from(at.0).ok();
    let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
    let minutes = zone.to_offset(at.unwrap_or_default()).seconds() / 60;
    let minutes = i16::try_from(minutes).ok();
    minutes.and_then(Zone::east).unwrap_or(Zone::UTC)
}

impl Said {
    /// What it was; `before` for a word on another entry that does not say it anew.
    fn what(&self, before: Option<What>) -> Result<What, String> {
        let zone = self.zone.zone()?;
        if let Some(reporter) = &self.reported_by {
            let seen = self.seen.as_deref().map(|text| span(text, &zone));
            return Ok(What::Reported {
                reporter: reporter.clone(),
                channel: self.channel.clone().unwrap_or_default(),
                seen: seen
                    .transpose()?
                    .map(|Span { earliest, latest }| Seen { earliest, latest }),
            });
        }
        if let Some(finding) = &self.finding {
            return Ok(What::Finding {
                finding: finding.clone(),
            });
        }
        if let Some(check) = self.passed.as_ref().or(self.failed.as_ref()) {
            return Ok(What::Checked {
                check: check.clone(),
                passed: self.passed.is_some(),
            });
        }
        if !self.changed.is_empty() {
            return Ok(What::SiteChanged {
                changes: self.changed.clone(),
            });
        }
        if let Some(name) = &self.stated {
            return Ok(What::Stated { name: name.clone() });
        }
        before.ok_or_else(|| {
            "say what it is: --changed, --reported-by, --finding, --passed, --failed or --stated"
                .to_owned()
        })
    }

    fn wanted(&self, what: What, supersedes: Option<u64>) -> Result<WantedEntry, String> {
        let zone = self.zone.zone()?;
        let at =
            |text: &Option<String>| text.as_deref().map(|text| instant(text, &zone)).transpose();
        let (mut earliest, mut latest) = (at(&self.earliest)?, at(&self.latest)?);
        if let Some(when) = &self.when {
            let mut when = span(when, &zone)?;
            if let Some(until) = &self.until {
                when = when.hull(span(until, &zone)?);
            }
            (earliest, latest) = (Some(when.earliest), Some(when.latest));
        }
        Ok(WantedEntry {
            what,
            earliest,
            latest,
            source: self.source.clone(),
            status: if self.provisional {
                Status::Provisional
            } else {
                Status::Confirmed
            },
            text: self.text.clone(),
            supersedes,
        })
    }
}

/// Puts an entry on a timeline: the running edge does it, or we do.
fn put(of: &Of, wanted: WantedEntry) -> Result<(), String> {
    let entry = match &of.own {
        Some(folder) => own::put(folder, wanted)?,
        None => put_on_edge(&of.at.socket()?, &wanted)?,
    };
    say(&format!("on the timeline as entry {entry}\n"))
}

/// Puts something on the timeline of a node: its edge does it, or we do while none runs. Returns its number.
///
/// # Errors
/// In words: it is not there.
pub(crate) fn put_for(data: &Path, control: &Path, wanted: WantedEntry) -> Result<u64, String> {
    match UnixStream::connect(control) {
        Ok(_) => put_on_edge(control, &wanted),
        Err(_) => own::put(&data.join(TIMELINE), wanted),
    }
}

fn put_on_edge(socket: &Path, wanted: &WantedEntry) -> Result<u64, String> {
    let body = serde_json::to_string(wanted).expect("what is wanted is plain data");
    let answer = ask(socket, "POST", "/timeline", &body)?;
    let answer: EntryAnswer = serde_json::from_str(&answer)
        .map_err(|error| format!("the edge's answer cannot be understood: {error}"))?;
    Ok(answer.entry)
}
