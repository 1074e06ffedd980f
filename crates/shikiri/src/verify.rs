//! `shikiri evidence verify`, `key` and `checkpoint`: whether evidence and timeline are what was written
//! and signed, on the node or on a copy elsewhere, with the public key alone.
//!
//! Never writes, and never needs the signing key. Invariant: the command ends well only when all that it
//! read fits, and is signed as far as it says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use shikiri_evidence::checkpoint::Checkpoint;
use shikiri_evidence::note::{self, NoteKey, Signer};
use shikiri_evidence::verify::{Between, Finding, Given, Told, Trust, Verified, verify};
use shikiri_evidence::{Disk, RealDisk, Row, lane_number};
use shikiri_record::{Gap, UnixMillis};

use crate::keep::TIMELINE;
use crate::rows::At;
use crate::say;
use crate::seal::{self, SIGNING_KEY, SigningKey};

/// Something was found.
const FOUND: u8 = 3;
/// What was read fits, and is not signed.
const UNSIGNED: u8 = 4;

/// Flags of `shikiri evidence verify`.
#[derive(clap::Args)]
#[command(
    after_help = "Every row, seal and segment is held against the chain, and the chain against what was signed. What \
is found is told by file, rows and time on standard error. Status: 0 all fits and is signed, 3 something was found, \
4 all fits and nothing is signed, 1 it could not be read.

What stands on the node's own disk cannot show that somebody put all of it back to an earlier state, or has \
the signing key. A checkpoint that is kept elsewhere shows the first: `shikiri evidence checkpoint`.

Examples:
  shikiri evidence verify
  shikiri evidence verify /mnt/copy --key \"$(cat edge-1.key)\" --checkpoint kept/2026-11-27.checkpoint
  shikiri evidence verify --data /var/lib/shikiri --json"
)]
pub(crate) struct VerifyArgs {
    /// A data folder, a copy of one, or a folder of lanes. The edge's data folder when not given.
    #[arg(value_name = "DIR", conflicts_with_all = ["data", "config", "from"])]
    folder: Option<PathBuf>,
    #[command(flatten)]
    at: At,
    /// A public key that counts, as `shikiri evidence key` prints it, or a file with such. May be given
    /// several times. The key beside the evidence when not given: that tells nothing of whoever can write
    /// there.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// A checkpoint that was kept elsewhere: what it speaks of must still be there. May be given several
    /// times; a file may hold several.
    #[arg(long, alias = "since", value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// A JSON object for each stream, and one for each finding.
    #[arg(long)]
    json: bool,
}

/// Flags of `shikiri evidence key`.
#[derive(clap::Args)]
#[command(
    after_help = "Keep it where the node cannot write: who verifies evidence needs it.

Examples:
  shikiri evidence key > edge-1.key
  shikiri evidence key --data /var/lib/shikiri"
)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    at: At,
}

/// Flags of `shikiri evidence checkpoint`.
#[derive(clap::Args)]
#[command(
    after_help = "One for each stream: the lanes and the timeline. Kept on another machine, in a mail, or on \
paper, they show later that nothing of what was there by now was changed or taken away, also to \
those who fear that the node's own disk was put back to an earlier state.

Examples:
  shikiri evidence checkpoint > \"kept/$(date +%F).checkpoint\"
  shikiri evidence checkpoint --data /var/lib/shikiri | mail -s checkpoint auditor@example.test"
)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    at: At,
}

pub(crate) fn key(args: &KeyArgs) -> Result<(), String> {
    let path = args.at.data()?.join(SIGNING_KEY);
    let Some(key) = SigningKey::read(&path)? else {
        return Err(format!(
            "there is no signing key {}: the edge makes one when it first starts; `--data` says where its data \
             folder is",
            path.display()
        ));
    };
    say(&format!("{}\n", key.key()))
}

pub(crate) fn checkpoint(args: &CheckpointArgs) -> Result<(), String> {
    let mut all = String::new();
    for stream in streams(&args.at.data()?)? {
        let path = stream.join("checkpoint");
        match fs::read_to_string(&path) {
            Ok(text) => all.push_str(&text),
            // It has had no rows yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        }
    }
    if all.is_empty() {
        return Err("nothing is signed yet".to_owned());
    }
    say(&all)
}

/// The streams in a data folder, in a folder of lanes, or the one that a folder is.
fn streams(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let names = |folder: &Path| match RealDisk.names(folder) {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("cannot read {}: {error}", folder.display())),
    };
    let evidence = folder.join("evidence");
    let lanes_in = if evidence.is_dir() { &evidence } else { folder };
    let mut lanes: Vec<(u32, PathBuf)> = names(lanes_in)?
        .iter()
        .filter_map(|name| Some((lane_number(name)?, lanes_in.join(name))))
        .collect();
    lanes.sort();
    let mut streams: Vec<PathBuf> = lanes.into_iter().map(|(_, lane)| lane).collect();
    let timeline = folder.join(TIMELINE);
    if timeline.is_dir() {
        streams.push(timeline);
    }
    let is_one = |name: &String| name.ends_with(".segment");
    if streams.is_empty() && names(folder)?.iter().any(is_one) {
        streams.push(folder.to_path_buf());
    }
    if streams.is_empty() {
        return Err(format!(
            "there are neither lanes nor a timeline in {}: name a data folder, a copy of one, or a folder of lanes",
            folder.display()
        ));
    }
    Ok(streams)
}

/// Public keys as they are named on a command line: themselves, or files with such.
pub(crate) fn named_keys(named: &[String]) -> Result<Vec<NoteKey>, String> {
    let mut keys = Vec::new();
    for named in named {
        let text = match named.parse::<NoteKey>() {
            Ok(key) => {
                keys.push(key);
                continue;
            }
            Err(why) => fs::read_to_string(named).map_err(|error| {
                format!("--key {named}: {why}; and it is no file that can be read: {error}")
            })?,
        };
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let key = line.trim().parse();
            keys.push(key.map_err(|why| format!("--key {named}: `{line}`: {why}"))?);
        }
    }
    Ok(keys)
}

/// The keys that count, and whether they were named.
fn keys(args: &VerifyArgs, folder: &Path) -> Result<(Vec<NoteKey>, bool), String> {
    let keys = named_keys(&args.key)?;
    if !args.key.is_empty() {
        return Ok((keys, true));
    }
    // Lanes are a folder deeper.
    let beside = [Some(folder), folder.parent()].into_iter().flatten();
    for folder in beside {
        if let Some(key) = SigningKey::read(&folder.join(SIGNING_KEY))? {
            return Ok((vec![key.key().clone()], false));
        }
    }
    Err(
        "no key is known: name the public one with --key, as `shikiri evidence key` prints it on the node"
            .to_owned(),
    )
}

/// The checkpoints in a file, each signed by a key that counts.
fn given(path: &Path, keys: &[NoteKey]) -> Result<Vec<Given>, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let mut all = Vec::new();
    // A note ends with lines of signatures; the next one begins with another line.
    let (mut note, mut is_signed) = (String::new(), false);
    let mut notes = Vec::new();
    for line in text.lines() {
        let signs = line.starts_with('\u{2014}');
        if is_signed && !signs {
            notes.push(std::mem::take(&mut note));
        }
        is_signed = signs;
        note.push_str(line);
        note.push('\n');
    }
    notes.push(note);
    for note in notes {
        let fault = |why: &dyn std::fmt::Display| format!("the checkpoint in {shown}: {why}");
        let body = note::opened(&note, keys, seal::check).map_err(|why| fault(&why))?;
        let checkpoint: Checkpoint = body.parse().map_err(|why| fault(&why))?;
        all.push(Given {
            from: format!("the checkpoint of {} in {shown}", checkpoint.origin),
            checkpoint,
        });
    }
    Ok(all)
}

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, String> {
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => match args.at.copy() {
            Some(lanes) => lanes.to_path_buf(),
            None => args.at.data()?,
        },
    };
    let streams = streams(&folder)?;
    let (keys, are_named) = keys(args, &folder)?;
    if !are_named {
        warn(
            "the key is the one beside the evidence: name yours with --key to believe more than that",
        );
    }
    let mut all_given = Vec::new();
    for path in &args.checkpoint {
        all_given.extend(given(path, &keys)?);
    }
    let trust = Trust {
        keys: &keys,
        check: seal::check,
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut findings, mut unsigned, mut found_given) = (0, 0, BTreeSet::new());
    for stream in streams {
        let mut progress = Progress::new(&stream);
        let mut gaps = Vec::new();
        let mut told = |told: Told<'_>| match told {
            Told::Row(_, row) => {
                progress.row(row);
                gaps.extend(gap(row));
            }
            Told::Found(finding) => {
                if args.json {
                    // It is told at the end as well.
                    drop(say(&format!("{}\n", finding_json(&finding))));
                }
                warn(&in_words(&finding));
            }
        };
        let verified = verify(&disk, &stream, trust, &all_given, &mut told);
        let verified = verified.map_err(|fault| fault.to_string())?;
        findings += verified.findings;
        found_given.extend(verified.given.iter().copied());
        if verified.rows > 0 && verified.signed.is_none() {
            unsigned += 1;
        }
        if args.json {
            say(&format!("{}\n", as_json(&stream, &verified, &gaps)))?;
        } else {
            say(&as_text(&stream, &verified, &gaps))?;
        }
    }
    for (n, given) in all_given.iter().enumerate() {
        if !found_given.contains(&n) {
            findings += 1;
            warn(&format!(
                "{}: nothing here is what it is over: that stream, or its marks, were taken away",
                given.from
            ));
        }
    }
    match (findings, unsigned) {
        (0, 0) => Ok(ExitCode::SUCCESS),
        (0, n) => {
            warn(&format!(
                "all of it fits, and nothing in {n} streams is signed"
            ));
            Ok(ExitCode::from(UNSIGNED))
        }
        (n, _) => {
            warn(&format!("{n} things were found that do not fit"));
            Ok(ExitCode::from(FOUND))
        }
    }
}

/// A gap that a row tells of.
fn gap(row: &Row) -> Option<Gap> {
    match shikiri_record::Row::decode(&row.body) {
        Ok(shikiri_record::Row::Gap(gap)) => Some(gap),
        _ => None,
    }
}

/// Says how far it is, where somebody watches.
struct Progress {
    stream: String,
    rows: u64,
    began: Instant,
    said: Instant,
    is_watched: bool,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(2);

    fn new(stream: &Path) -> Self {
        let now = Instant::now();
        Self {
            stream: stream.display().to_string(),
            rows: 0,
            began: now,
            said: now,
            is_watched: io::stderr().is_terminal(),
        }
    }

    fn row(&mut self, row: &Row) {
        self.rows += 1;
        if !self.is_watched
            || !self.rows.is_multiple_of(10_000)
            || self.said.elapsed() < Self::EVERY
        {
            return;
        }
        self.said = Instant::now();
        let second = self.began.elapsed().as_secs().max(1);
        warn(&format!(
            "{}: {} rows, up to {} ({} a second)",
            self.stream,
            self.rows,
            instant(row.at),
            self.rows / second
        ));
    }
}

fn warn(text: &str) {
    // Where even standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "shikiri: {text}"));
}

fn instant(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok();
    match at.and_then(|at| Timestamp::from_millisecond(at).ok()) {
        Some(at) => format!("{at:.3}"),
        None => "(no time)".to_owned(),
    }
}

/// A finding with its instants as people write them.
fn in_words(finding: &Finding) -> String {
    let Some(between) = between(finding) else {
        return finding.to_string();
    };
    let shown = match (between.from, between.to) {
        (Some(from), Some(to)) => format!("between {} and {}", instant(from), instant(to)),
        (Some(from), None) => format!("after {}", instant(from)),
        (None, Some(to)) => format!("before {}", instant(to)),
        (None, None) => return finding.to_string(),
    };
    finding.to_string().replace(&between.to_string(), &shown)
}

const fn between(finding: &Finding) -> Option<Between> {
    match finding {
        Finding::Place { between, .. }
        | Finding::Others { between, .. }
        | Finding::Lost { between, .. }
        | Finding::Cut { between, .. }
        | Finding::Gone { between, .. } => Some(*between),
        Finding::Unsigned { .. }
        | Finding::Note { .. }
        | Finding::NoCheckpoint { .. }
        | Finding::Marks { .. }
        | Finding::Line { .. } => None,
    }
}

fn finding_json(finding: &Finding) -> Value {
    let (kind, rows) = match finding {
        Finding::Place { .. } => ("place", None),
        Finding::Others { rows, .. } => ("others", Some(rows)),
        Finding::Lost { rows, .. } => ("lost", Some(rows)),
        Finding::Cut { rows, .. } => ("cut", Some(rows)),
        Finding::Gone { rows, .. } => ("gone", Some(rows)),
        Finding::Unsigned { .. } => ("unsigned", None),
        Finding::Note { .. } => ("note", None),
        Finding::NoCheckpoint { .. } => ("checkpoint", None),
        Finding::Marks { .. } => ("marks", None),
        Finding::Line { .. } => ("line", None),
    };
    let between = between(finding).unwrap_or_default();
    json!({
        "found": kind,
        "first_row": rows.map(|(first, _)| first),
        "last_row": rows.map(|(_, last)| last),
        "from_ms": between.from.map(|at| at.0),
        "to_ms": between.to.map(|at| at.0),
        "text": in_words(finding),
    })
}

fn as_json(stream: &Path, verified: &Verified, gaps: &[Gap]) -> Value {
    let place = |place: Option<(u64, UnixMillis)>| {
        place.map(|(row, at)| json!({ "row": row, "at_ms": at.0, "at": instant(at) }))
    };
    let gaps = gaps
        .iter()
        .map(|gap| json!({ "from_ms": gap.from.0, "to_ms": gap.to.0, "responses": gap.responses }));
    json!({
        "stream": stream.display().to_string(),
        "rows": verified.rows,
        "first": place(verified.first),
        "last": place(verified.last),
        "signed_before": place(verified.signed),
        "removed_before": place(verified.removed),
        "origin": verified.checkpoint.as_ref().map(|it| &it.origin),
        "marks": verified.checkpoint.as_ref().map(|it| it.size),
        "clock_set_back": verified.set_back,
        "put_aside": verified.put_aside,
        "gaps": gaps.collect::<Vec<_>>(),
        "findings": verified.findings,
    })
}

fn as_text(stream: &Path, verified: &Verified, gaps: &[Gap]) -> String {
    let mut text = format!("{}: ", stream.display());
    let mut add = |said: &str| text.push_str(said);
    match (verified.first, verified.last) {
        (Some((from, began)), Some((to, ended))) => add(&format!(
            "{} rows, {from} to {to}, {} to {}\n",
            verified.rows,
            instant(began),
            instant(ended)
        )),
        _ => add("no rows\n"),
    }
    let ends = verified.last.map_or(0, |(row, _)| row + 1);
    match verified.signed {
        Some((before, at)) if before >= ends => {
            add(&format!("  signed: all, at {}\n", instant(at)));
        }
        Some((before, at)) => add(&format!(
            "  signed: rows before {before}, at {}; {} that came later are not yet\n",
            instant(at),
            ends - before
        )),
        None if verified.rows > 0 => add("  signed: nothing\n"),
        None => {}
    }
    if let Some((before, at)) = verified.removed {
        add(&format!(
            "  removed: rows before {before}, at {}, as it was told to\n",
            instant(at)
        ));
    }
    if verified.set_back > 0 {
        add(&format!(
            "  clock: it was set back {} times; rows are in the order of their numbers\n",
            verified.set_back
        ));
    }
    if verified.put_aside > 0 {
        add(&format!(
            "  put aside: {} times a node had found what contradicted what was signed\n",
            verified.put_aside
        ));
    }
    for gap in gaps {
        add(&format!(
            "  gap: {} responses without rows, {} to {}\n",
            gap.responses,
            instant(gap.from),
            instant(gap.to)
        ));
    }
    if let Some(tail) = verified.tail.as_ref().filter(|tail| tail.torn_bytes > 0) {
        add(&format!(
            "  being written: {} bytes at offset {} of {} make no whole row yet\n",
            tail.torn_bytes,
            tail.offset,
            tail.path.display()
        ));
    }
    text
}
