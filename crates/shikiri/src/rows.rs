//! `shikiri evidence`: rows, read from a data folder, live or copied. `docs/evidence-format.md` says
//! what they mean.
//!
//! Never writes there, and never shows a row as true whose chain does not fit: such places are told
//! on standard error, by file, offset and sequence number, and the command fails at its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri, Version, header::HOST};
use jiff::Timestamp;
use serde_json::{Value, json};
use shikiri_evidence::{Disk, Item, Reader, RealDisk, lane_number};
use shikiri_partition::{RequestHead, Scheme};
use shikiri_record::{Begin, LinkEvent, Row, RowFault, StanceRow, TargetTag, UnixMillis};

use crate::tag_keys::{self, Period};
use crate::{keys, settings, verify};

/// `shikiri evidence …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Print all rows, the lanes' together in the order of their instants.
    Cat(CatArgs),
    /// Print the last rows, and go on with those that come.
    Tail(TailArgs),
    /// Count responses by how they were answered.
    Count(CountArgs),
    /// Read everything and say whether all of it is what was written and signed.
    Verify(verify::VerifyArgs),
    /// Print the public key that evidence is signed with.
    Key(verify::KeyArgs),
    /// Print the newest checkpoints, to be kept elsewhere.
    Checkpoint(verify::CheckpointArgs),
    /// List the keys of the tags by period, or destroy one.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Compute the tags of members, to be looked up.
    Directory(keys::DirectoryArgs),
}

/// Where the rows are.
#[derive(clap::Args)]
pub(crate) struct At {
    /// The data folder of the edge, running or not.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The config file of the edge: it says where that is.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// A folder with lanes in it: a copy of the data folder's `evidence`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "config"])]
    from: Option<PathBuf>,
}

/// Which rows.
#[derive(clap::Args)]
struct Which {
    /// Only begin rows of this URL, with their end rows. Takes the key of the tags, from the data folder.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Flags of `shikiri evidence cat`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri evidence cat
  shikiri evidence cat --data /var/lib/shikiri --url https://shop.example.test/account
      Who was served this page: their tags.
  shikiri evidence cat --from /mnt/copy/evidence --json | jq 'select(.row == \"begin\")'")]
pub(crate) struct CatArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
}

/// Flags of `shikiri evidence tail`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri evidence tail
      The last ten rows.
  shikiri evidence tail --follow --data /var/lib/shikiri
      And those that come, until it is interrupted.")]
pub(crate) struct TailArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    which: Which,
    /// How many of the last rows.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Go on with the rows that come.
    #[arg(short, long)]
    follow: bool,
}

/// Flags of `shikiri evidence count`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri evidence count
      By outcome, reason, class, status and how they ended.
  shikiri evidence count --by class --by outcome --json")]
pub(crate) struct CountArgs {
    #[command(flatten)]
    at: At,
    /// By what.
    #[arg(long, value_name = "WHAT")]
    by: Vec<By>,
    /// A JSON object.
    #[arg(long)]
    json: bool,
}

/// What responses are counted by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum By {
    Outcome,
    Reason,
    Class,
    Status,
    Ended,
    Mode,
}

impl By {
    const STANDARD: [Self; 5] = [
        Self::Outcome,
        Self::Reason,
        Self::Class,
        Self::Status,
        Self::Ended,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Outcome => "outcome",
            Self::Reason => "reason",
            Self::Class => "class",
            Self::Status => "status",
            Self::Ended => "ended",
            Self::Mode => "mode",
        }
    }
}

pub(crate) fn run(command: &Command) -> Result<ExitCode, String> {
    let done = match command {
        Command::Cat(args) => cat(args),
        Command::Tail(args) => tail(args),
        Command::Count(args) => count(args),
        Command::Verify(args) => return verify::run(args),
        Command::Key(args) => verify::key(args),
        Command::Checkpoint(args) => verify::checkpoint(args),
        Command::Keys(command) => keys::run(command),
        Command::Directory(args) => keys::directory(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

impl At {
    /// The data folder.
    pub(crate) fn data(&self) -> Result<PathBuf, String> {
        Ok(self.places()?.0)
    }

    /// The data folder and the control socket.
    pub(crate) fn places(&self) -> Result<(PathBuf, PathBuf), String> {
        settings::places_of(self.data.as_deref(), self.config.as_deref())
    }

    /// A folder with lanes in it, if one was named.
    pub(crate) fn copy(&self) -> Option<&Path> {
        self.from.as_deref()
    }

    /// The folder with the lanes.
    fn folder(&self) -> Result<PathBuf, String> {
        match &self.from {
            Some(folder) => Ok(folder.clone()),
            None => Ok(self.data()?.join("evidence")),
        }
    }

    /// The lanes, from their beginning; or with their last segments only.
    fn lanes(&self, last_segments: Option<usize>) -> Result<Lanes, String> {
        lanes_in(&self.folder()?, last_segments)
    }
}

/// The lanes in a folder, from their beginning; or with their last segments only.
///
/// # Errors
/// In words: there are none, or they cannot be read.
pub(crate) fn lanes_in(folder: &Path, last_segments: Option<usize>) -> Result<Lanes, String> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let names = disk.names(folder).map_err(|error| {
            format!(
                "cannot read {}: {error}; name the data folder with --data, or a folder of lanes with --from",
                folder.display()
            )
        })?;
    let mut lanes = Vec::new();
    for name in names {
        let Some(number) = lane_number(&name) else {
            continue;
        };
        let folder = folder.join(&name);
        let disk = Arc::clone(&disk);
        let reader = match last_segments {
            None => Reader::open(disk, &folder),
            Some(segments) => Reader::open_near_end(disk, &folder, segments),
        };
        lanes.push(Lane {
            number,
            reader: reader.map_err(|fault| fault.to_string())?,
            path: folder,
            stance: None,
            next: None,
        });
    }
    if lanes.is_empty() {
        return Err(format!("there are no lanes in {}", folder.display()));
    }
    Ok(Lanes { lanes, faults: 0 })
}

/// Where one lane's reading stands.
struct Lane {
    number: u32,
    reader: Reader,
    /// The segment.
    path: PathBuf,
    /// The last stance row's bytes.
    stance: Option<StanceRow>,
    next: Option<Read>,
}

/// A row as it was read.
pub(crate) struct Read {
    pub(crate) lane: u32,
    pub(crate) sequence: u64,
    pub(crate) at: UnixMillis,
    body: Vec<u8>,
    stance: Option<StanceRow>,
}

pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    /// How many places were told that do not fit.
    faults: u64,
}

impl Lanes {
    /// The row with the earliest instant of those that come next in their lanes; `None` when there is
    /// none now.
    pub(crate) fn next(&mut self) -> Result<Option<Read>, String> {
        for lane in &mut self.lanes {
            if lane.next.is_none() {
                lane.next = lane.advance(&mut self.faults)?;
            }
        }
        let earliest = self
            .lanes
            .iter_mut()
            .filter(|lane| lane.next.is_some())
            .min_by_key(|lane| lane.next.as_ref().map(|row| row.at));
        Ok(earliest.and_then(|lane| lane.next.take()))
    }

    /// Whether each row fitted so far, and none was missing. A row that is torn at the very end is none: nothing left
    /// before it was written.
    pub(crate) const fn is_whole(&self) -> bool {
        self.faults == 0
    }

    /// Tells what stands after the last rows, and fails if anything did not fit.
    fn end(mut self) -> Result<(), String> {
        for lane in &self.lanes {
            let tail = lane.reader.tail().map_err(|fault| fault.to_string())?;
            if let Some(tail) = tail.filter(|tail| tail.torn_bytes > 0) {
                warn(&format!(
                    "{}: {} bytes at offset {} make no whole row (row {} would come there): it is being \
                     written, or its node was killed",
                    tail.path.display(),
                    tail.torn_bytes,
                    tail.offset,
                    tail.sequence
                ));
                self.faults += 1;
            }
        }
        match self.faults {
            0 => Ok(()),
            1 => Err("one place does not fit; what was printed is true".to_owned()),
            n => Err(format!("{n} places do not fit; what was printed is true")),
        }
    }
}

impl Lane {
    fn advance(&mut self, faults: &mut u64) -> Result<Option<Read>, String> {
        loop {
            let item = self.reader.next_item().map_err(|fault| fault.to_string())?;
            match item {
                None => return Ok(None),
                Some(Item::Segment(path, _)) => self.path = path,
                Some(Item::Fault(fault)) => {
                    *faults += 1;
                    warn(&fault.to_string());
                }
                Some(Item::Row(row)) => {
                    match Row::decode(&row.body) {
                        Ok(Row::Stance(stance)) => self.stance = Some(stance),
                        Ok(_) => {}
                        Err(fault) => {
                            if !is_newer(fault) {
                                *faults += 1;
                            }
                            warn(&format!(
                                "{}: row {} at offset {}: {fault}",
                                self.path.display(),
                                row.sequence,
                                row.offset
                            ));
                            continue;
                        }
                    }
                    return Ok(Some(Read {
                        lane: self.number,
                        sequence: row.sequence,
                        at: row.at,
                        body: row.body,
                        stance: self.stance,
                    }));
                }
            }
        }
    }
}

/// Whether a later program wrote it: no fault of the rows.
const fn is_newer(fault: RowFault) -> bool {
    matches!(fault, RowFault::Kind(_) | RowFault::Version(_))
}

impl Read {
    pub(crate) fn row(&self) -> Row<'_> {
        Row::decode(&self.body).expect("it was read before")
    }
}

fn warn(text: &str) {
    // Where even standard error is closed there is nobody to tell.
    drop(writeln!(io::stderr(), "shikiri: {text}"));
}

/// Standard output. A reader that has gone away ends the command quietly.
struct Out {
    out: BufWriter<StdoutLock<'static>>,
}

impl Out {
    fn new() -> Self {
        Self {
            out: BufWriter::new(io::stdout().lock()),
        }
    }

    /// `false` when nobody reads any more.
    fn line(&mut self, line: &str) -> Result<bool, String> {
        Self::goes_on(writeln!(self.out, "{line}"))
    }

    fn flush(&mut self) -> Result<bool, String> {
        Self::goes_on(self.out.flush())
    }

    fn goes_on(done: io::Result<()>) -> Result<bool, String> {
        match done {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(format!("cannot print: {error}")),
        }
    }
}

/// Which rows are shown, and how.
struct Shows {
    json: bool,
    /// By the ids of the keys.
    target: Option<BTreeMap<u64, TargetTag>>,
    /// Begin rows that were shown, whose end rows are too.
    begun: BTreeSet<(u32, u64)>,
}

impl Shows {
    fn of(at: &At, which: &Which) -> Result<Self, String> {
        let target = match &which.url {
            None => None,
            Some(url) => Some(target_of(at, url)?),
        };
        Ok(Self {
            json: which.json,
            target,
            begun: BTreeSet::new(),
        })
    }

    /// The row as it is shown, if it is.
    fn line(&mut self, read: &Read) -> Option<String> {
        let row = read.row();
        if let Some(targets) = &self.target {
            let key = read.stance.map(|stance| stance.tag_key);
            let target = key.and_then(|key| targets.get(&key));
            let shown = match &row {
                Row::Begin(begin) => target == Some(&begin.target),
                Row::End(end) => self.begun.remove(&(read.lane, end.begin)),
                Row::Link(_) | Row::Gap(_) | Row::Stance(_) => false,
            };
            if !shown {
                return None;
            }
            if matches!(row, Row::Begin(_)) {
                self.begun.insert((read.lane, read.sequence));
            }
        }
        Some(if self.json {
            as_json(read, &row).to_string()
        } else {
            as_text(read, &row)
        })
    }
}

/// The tags of a URL, as the edge makes them, by the ids of their keys.
fn target_of(at: &At, url: &str) -> Result<BTreeMap<u64, TargetTag>, String> {
    if at.from.is_some() {
        return Err(
            "--url takes the key of the tags, which is in the data folder: name that".into(),
        );
    }
    let data = at.data()?;
    let periods = tag_keys::all(&data)?;
    if periods.is_empty() {
        return Err(format!("there are no keys of tags in {}", data.display()));
    }
    target_tags(&periods, url)
}

/// The tags of a URL, as the edge makes them, by the ids of the periods' keys.
///
/// # Errors
/// It is no URL.
pub(crate) fn target_tags(
    periods: &[Period],
    url: &str,
) -> Result<BTreeMap<u64, TargetTag>, String> {
    let wrong = || format!("`{url}` is no URL: write http://host/path or https://host/path");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(wrong()),
    };
    let mut headers = HeaderMap::new();
    let host = uri.authority().ok_or_else(wrong)?.as_str();
    headers.insert(HOST, host.parse().map_err(|_| wrong())?);
    let head = RequestHead::parse(scheme, Version::HTTP_11, &Method::GET, &uri, &headers);
    let head = head.map_err(|_| wrong())?;
    let tags = periods
        .iter()
        .map(|Period { key, .. }| (key.id(), head.target_tag(key)));
    Ok(tags.collect())
}

fn cat(args: &CatArgs) -> Result<(), String> {
    let (mut lanes, mut shows, mut out) = (
        args.at.lanes(None)?,
        Shows::of(&args.at, &args.which)?,
        Out::new(),
    );
    while let Some(read) = lanes.next()? {
        if let Some(line) = shows.line(&read)
            && !out.line(&line)?
        {
            return Ok(());
        }
    }
    out.flush()?;
    lanes.end()
}

fn tail(args: &TailArgs) -> Result<(), String> {
    /// How often a live lane is looked at.
    const LOOK: Duration = Duration::from_millis(200);
    // A segment that has just begun holds few rows; the one before it holds many.
    let (mut lanes, mut shows, mut out) = (
        args.at.lanes(Some(2))?,
        Shows::of(&args.at, &args.which)?,
        Out::new(),
    );
    let mut last = VecDeque::new();
    while let Some(read) = lanes.next()? {
        if let Some(line) = shows.line(&read) {
            last.push_back(line);
            if last.len() > args.lines {
                last.pop_front();
            }
        }
    }
    for line in last {
        if !out.line(&line)? {
            return Ok(());
        }
    }
    while args.follow && out.flush()? {
        std::thread::sleep(LOOK);
        while let Some(read) = lanes.next()? {
            if let Some(line) = shows.line(&read)
                && !out.line(&line)?
            {
                return Ok(());
            }
        }
    }
    out.flush()?;
    if args.follow { Ok(()) } else { lanes.end() }
}

/// What was counted.
#[derive(Default)]
struct Counted {
    responses: u64,
    bytes: u64,
    gaps: u64,
    links: u64,
    by: BTreeMap<By, BTreeMap<String, u64>>,
}

fn count(args: &CountArgs) -> Result<(), String> {
    let mut lanes = args.at.lanes(None)?;
    let by: &[By] = if args.by.is_empty() {
        &By::STANDARD
    } else {
        &args.by
    };
    let mut counted = Counted::default();
    // Interim responses are not counted: each is followed by the final one. These have not ended yet.
    let mut interims = BTreeSet::new();
    while let Some(read) = lanes.next()? {
        match read.row() {
            Row::Begin(begin) if begin.is_interim() => {
                interims.insert((read.lane, read.sequence));
            }
            Row::Begin(begin) => counted.begin(by, &begin, read.stance),
            Row::Stance(_) => {}
            Row::End(end) if interims.remove(&(read.lane, end.begin)) => {}
            Row::End(end) => {
                counted.bytes = counted.bytes.saturating_add(end.bytes);
                counted.add(by, By::Ended, end.ended.name().to_owned());
            }
            Row::Gap(gap) => counted.gaps = counted.gaps.saturating_add(gap.responses),
            Row::Link(_) => counted.links += 1,
        }
    }
    let mut out = Out::new();
    if args.json {
        out.line(&counted.as_json().to_string())?;
    } else {
        out.line(counted.as_text().trim_end())?;
    }
    out.flush()?;
    lanes.end()
}

impl Counted {
    fn begin(&mut self, by: &[By], begin: &Begin<'_>, stance: Option<StanceRow>) {
        self.responses += 1;
        self.add(by, By::Outcome, begin.outcome.name().to_owned());
        self.add(by, By::Reason, begin.reason.to_owned());
        self.add(by, By::Class, begin.class.to_owned());
        self.add(by, By::Status, begin.status.to_string());
        if let Some(stance) = stance {
            self.add(by, By::Mode, stance.mode.name().to_owned());
        }
    }

    fn add(&mut self, by: &[By], what: By, value: String) {
        if by.contains(&what) {
            *self.by.entry(what).or_default().entry(value).or_default() += 1;
        }
    }

    fn as_json(&self) -> Value {
        let by: BTreeMap<&str, &BTreeMap<String, u64>> = self
            .by
            .iter()
            .map(|(by, counts)| (by.name(), counts))
            .collect();
        json!({
            "responses": self.responses,
            "bytes": self.bytes,
            "gaps": self.gaps,
            "links": self.links,
            "by": by,
        })
    }

    fn as_text(&self) -> String {
        let mut text = format!(
            "responses {}\nbytes {}\nwithout rows (gaps) {}\nlinks {}\n",
            self.responses, self.bytes, self.gaps, self.links
        );
        for (by, counts) in &self.by {
            text.push('\n');
            text.push_str(by.name());
            text.push('\n');
            let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            for (value, count) in counts {
                let value = if value.is_empty() { "-" } else { value };
                writeln!(text, "  {count:>12}  {value}").expect("a string can be written to");
            }
        }
        text
    }
}

pub(crate) fn instant(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok();
    match at.and_then(|at| Timestamp::from_millisecond(at).ok()) {
        Some(at) => format!("{at:.3}"),
        None => "(no time)".to_owned(),
    }
}

/// A row for people: one line, tags by their first digits.
fn as_text(read: &Read, row: &Row<'_>) -> String {
    let mut line = format!("{} {}/{} ", instant(read.at), read.lane, read.sequence);
    let mut add = |word: &str| {
        line.push_str(word);
        line.push(' ');
    };
    let short = |hex: String| hex.get(..12).unwrap_or(&hex).to_owned();
    match row {
        Row::Begin(begin) => {
            add(&format!(
                "begin {} {} {}",
                begin.outcome.name(),
                begin.method,
                begin.status
            ));
            add(&format!("class={}", begin.class));
            let texts = [("reason", Some(begin.reason)), ("page", begin.page)];
            for (name, text) in texts {
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    add(&format!("{name}={text}"));
                }
            }
            let tags = [
                ("target", Some(begin.target.hex())),
                ("address", Some(begin.address.hex())),
                ("viewer", begin.viewer.map(|tag| tag.hex())),
                ("viewer-member", begin.viewer_member.map(|tag| tag.hex())),
                ("owner", begin.owner.map(|tag| tag.hex())),
                ("fill", begin.fill.map(|id| id.to_string())),
                ("grant", begin.grant.map(|id| id.to_string())),
            ];
            for (name, hex) in tags {
                if let Some(hex) = hex {
                    add(&format!("{name}={}", short(hex)));
                }
            }
            if begin.cookies_set > 0 {
                add(&format!("cookies={}", begin.cookies_set));
            }
            if let Some(stance) = read.stance {
                add(&format!("mode={}", stance.mode));
            }
        }
        Row::End(end) => {
            add(&format!("end {} bytes={}", end.ended.name(), end.bytes));
            add(&format!("begin={}", end.begin));
        }
        Row::Link(link) => {
            add(&format!("link {}", event(link.event)));
            add(&format!("viewer={}", short(link.viewer.hex())));
            if let Some(member) = link.member {
                add(&format!("member={}", short(member.hex())));
            }
            if let Some(begin) = link.begin {
                add(&format!("begin={begin}"));
            }
        }
        Row::Gap(gap) => add(&format!(
            "gap responses={} from={} to={}",
            gap.responses,
            instant(gap.from),
            instant(gap.to)
        )),
        Row::Stance(stance) => {
            add(&format!(
                "stance mode={} epoch={}",
                stance.mode, stance.epoch
            ));
            add(&format!("rules={}", short(stance.rules.to_string())));
            add(&format!("tag-key={:016x}", stance.tag_key));
        }
    }
    line.trim_end().to_owned()
}

const fn event(event: LinkEvent) -> &'static str {
    match event {
        LinkEvent::Started => "started",
        LinkEvent::Ended => "ended",
    }
}

/// A row for programs: everything that it says, and what it was served under.
fn as_json(read: &Read, row: &Row<'_>) -> Value {
    let mut said = match row {
        Row::Begin(begin) => json!({
            "row": "begin",
            "began_ms": begin.began.0,
            "outcome": begin.outcome.name(),
            "reason": begin.reason,
            "status": begin.status,
            "method": begin.method,
            "class": begin.class,
            "page": begin.page,
            "target": begin.target.hex(),
            "address": begin.address.hex(),
            "viewer": begin.viewer.map(|tag| tag.hex()),
            "viewer_member": begin.viewer_member.map(|tag| tag.hex()),
            "owner": begin.owner.map(|tag| tag.hex()),
            "fill": begin.fill.map(|id| id.to_string()),
            "grant": begin.grant.map(|id| id.to_string()),
            "cookies": begin.cookies.iter().map(|tag| tag.hex()).collect::<Vec<_>>(),
            "cookies_set": begin.cookies_set,
            "mode": read.stance.map(|stance| stance.mode.name()),
            "epoch": read.stance.map(|stance| stance.epoch.0),
            "rules": read.stance.map(|stance| stance.rules.to_string()),
        }),
        Row::End(end) => json!({
            "row": "end",
            "begin": end.begin,
            "ended": end.ended.name(),
            "bytes": end.bytes,
        }),
        Row::Link(link) => json!({
            "row": "link",
            "event": event(link.event),
            "viewer": link.viewer.hex(),
            "member": link.member.map(|tag| tag.hex()),
            "begin": link.begin,
        }),
        Row::Gap(gap) => json!({
            "row": "gap",
            "from_ms": gap.from.0,
            "to_ms": gap.to.0,
            "responses": gap.responses,
        }),
        Row::Stance(stance) => json!({
            "row": "stance",
            "mode": stance.mode.name(),
            "epoch": stance.epoch.0,
            "rules": stance.rules.to_string(),
            "tag_key": format!("{:016x}", stance.tag_key),
        }),
    };
    let place = [
        ("lane", json!(read.lane)),
        ("sequence", json!(read.sequence)),
        ("at_ms", json!(read.at.0)),
        ("at", json!(instant(read.at))),
    ];
    let object = said.as_object_mut().expect("every row is an object");
    object.extend(place.map(|(name, value)| (name.to_owned(), value)));
    said
}
