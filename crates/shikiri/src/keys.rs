//! `shikiri evidence keys` and `directory`: the keys of the tags by period, and whose tags are whose.
//!
//! Never prints a key, and never writes a member's id anywhere but into the file that was asked for.
//! Invariant: whatever is done here is on the timeline before it is done.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use shikiri_edge::admin::site::WantedEntry;
use shikiri_record::{KeyDone, MemberTag, Status, UnixMillis, What};

use crate::rows::At;
use crate::tag_keys::{self, Period};
use crate::{say, timeline};

/// A member's id is no longer.
const MEMBER_BYTES_MAX: usize = 256;

/// `shikiri evidence keys …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the keys of the tags that there are, by period.
    List(ListArgs),
    /// Destroy the key of a period that is over: its tags are nobody's then.
    Destroy(DestroyArgs),
}

/// Flags of `shikiri evidence keys list`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri evidence keys list
  shikiri evidence keys list --data /var/lib/shikiri --json")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    at: At,
    /// A JSON object for each.
    #[arg(long)]
    json: bool,
}

/// Flags of `shikiri evidence keys destroy`.
#[derive(clap::Args)]
#[command(
    after_help = "The key is written over and removed, on this disk. Copies elsewhere, snapshots and what a disk \
keeps beside are not reached: destroy those, too.

Examples:
  shikiri evidence keys destroy 20260101T000000Z-20260131T000000Z --reason 'retention: a year is over'
  shikiri evidence keys destroy 20260101T000000Z-20260131T000000Z --reason 'a year is over' --dry-run"
)]
pub(crate) struct DestroyArgs {
    /// The period, as `keys list` shows it.
    period: String,
    /// Why: it is put on the timeline.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

/// Flags of `shikiri evidence directory`.
#[derive(clap::Args)]
#[command(
    after_help = "Ids as the origin names them (`Shikiri-Viewer`, `Shikiri-Owner`), one a line. The file is its \
owner's alone, and tells whose each tag is: remove it when it was used. That it was made, and why, is on \
the timeline. A member has another tag in each period; those of destroyed keys are not in it.

Examples:
  shikiri evidence directory --members members.txt --out directory.csv --reason 'incident of 16 March'
  export-members | shikiri evidence directory --members - --out directory.json --json --reason 'audit'"
)]
pub(crate) struct DirectoryArgs {
    /// A file of member ids, one a line; `-`: standard input.
    #[arg(long, value_name = "FILE")]
    members: PathBuf,
    /// Where the directory is written. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Why: it is put on the timeline.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A JSON object a line, not CSV.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

pub(crate) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::List(args) => list(args),
        Command::Destroy(args) => destroy(args),
    }
}

fn list(args: &ListArgs) -> Result<(), String> {
    let mut text = String::new();
    for period in tag_keys::all(&args.at.data()?)? {
        let (id, from) = (period.id(), instant(period.begun));
        let to = period.ended.map(instant);
        if args.json {
            let period = json!({ "period": period.name, "key": id, "from": from, "to": to });
            text.push_str(&format!("{period}\n"));
        } else {
            let to = to.as_deref().unwrap_or("now");
            text.push_str(&format!("{:<33}  key {id}  {from} to {to}\n", period.name));
        }
    }
    say(&text)
}

fn destroy(args: &DestroyArgs) -> Result<(), String> {
    let data = args.at.data()?;
    let _held = tag_keys::hold(&data)?;
    let periods = tag_keys::all(&data)?;
    let Some(period) = periods.iter().find(|period| period.name == args.period) else {
        return Err(format!(
            "there is no key of a period `{}`: `shikiri evidence keys list` shows those that there are",
            args.period
        ));
    };
    if period.ended.is_none() {
        // It says why.
        return tag_keys::destroy(period);
    }
    if args.dry_run {
        return say(&format!(
            "would destroy the key {} of {}\n",
            period.id(),
            period.name
        ));
    }
    let text = format!("period {}: {}", period.name, args.reason);
    record(&args.at, period, KeyDone::Destroyed, &text)?;
    tag_keys::destroy(period)?;
    say(&format!(
        "the key {} is destroyed: tags of {} are nobody's\n",
        period.id(),
        period.name
    ))
}

/// Puts what is about to be done on the timeline: the running edge does it, or we do.
fn record(at: &At, period: &Period, done: KeyDone, text: &str) -> Result<(), String> {
    let wanted = WantedEntry {
        what: What::TagKey {
            key: period.id(),
            done,
        },
        earliest: None,
        latest: None,
        source: "shikiri evidence".to_owned(),
        status: Status::Confirmed,
        text: text.to_owned(),
        supersedes: None,
    };
    let (data, control) = at.places()?;
    timeline::put_for(&data, &control, wanted)
        .map(drop)
        .map_err(|why| format!("nothing was done, since it cannot be recorded: {why}"))
}

pub(crate) fn directory(args: &DirectoryArgs) -> Result<(), String> {
    let data = args.at.data()?;
    let _held = tag_keys::hold(&data)?;
    let periods = tag_keys::all(&data)?;
    if periods.is_empty() {
        return Err(format!("there are no keys of tags in {}", data.display()));
    }
    let shown = args.out.display();
    let new = args.out.with_extension("part");
    if args.out.exists() {
        return Err(format!("{shown} is there already: name another file"));
    }
    let members = args.members.display();
    let input: Box<dyn Read> = if args.members.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        let file = fs::File::open(&args.members);
        Box::new(file.map_err(|error| format!("cannot read {members}: {error}"))?)
    };
    for period in &periods {
        let text = format!("a directory of members in {shown}: {}", args.reason);
        record(&args.at, period, KeyDone::MembersTagged, &text)?;
    }
    let written = write(&new, BufReader::new(input), &periods, args.json);
    let count = written.map_err(|why| {
        // A part of a directory is none.
        drop(fs::remove_file(&new));
        why.replace("{members}", &members.to_string())
    })?;
    fs::rename(&new, &args.out).map_err(|error| format!("cannot write {shown}: {error}"))?;
    say(&format!(
        "{count} members, {} periods: {shown}\n",
        periods.len()
    ))
}

/// Writes the tags of all members, line by line. Returns how many members there were.
fn write(
    path: &Path,
    mut members: impl BufRead,
    periods: &[Period],
    as_json: bool,
) -> Result<u64, String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("cannot write {shown}: {error}");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mut out = BufWriter::new(file);
    if !as_json {
        writeln!(out, "tag,member,key,period").map_err(failed)?;
    }
    let (mut line, mut number, mut count) = (Vec::new(), 0_u64, 0);
    let limit = u64::try_from(MEMBER_BYTES_MAX).expect("it is small") + 3;
    loop {
        line.clear();
        let read = members.by_ref().take(limit).read_until(b'\n', &mut line);
        let read = read.map_err(|error| format!("cannot read {{members}}: {error}"))?;
        if read == 0 {
            break;
        }
        number += 1;
        let wrong = |why: &str| format!("{{members}}, line {number}: {why}");
        let id = str::from_utf8(&line).map_err(|_| wrong("it is no text in UTF-8"))?;
        let id = id.trim_end_matches(['\n', '\r']);
        if id.len() > MEMBER_BYTES_MAX {
            return Err(wrong("it is longer than a member's id may be"));
        }
        if id.is_empty() {
            continue;
        }
        count += 1;
        for period in periods {
            let tag = MemberTag::of(&period.key, &[id.as_bytes()]).hex();
            let line = if as_json {
                json!({ "tag": tag, "member": id, "key": period.id(), "period": period.name })
                    .to_string()
            } else {
                format!("{tag},{},{},{}", quoted(id), period.id(), period.name)
            };
            writeln!(out, "{line}").map_err(failed)?;
        }
    }
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(count)
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn instant(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok();
    let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map_or_else(|| "(no time)".to_owned(), |at| format!("{at:.0}"))
}
