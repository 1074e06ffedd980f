//! `shikiri infer`: who saw whose, from the logs of other caches.
//!
//! It reads the logs three times: what they are, what may have filled a store, and each response by itself.
//! Memory grows with what was fetched, not with what was served.
//!
//! Never a guess without its grade, and never a statement without its conditions. A log with a line that
//! cannot be read is not complete, whoever says so.

mod own;
pub(crate) mod site;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use shikiri_evidence::note::Signer;
use shikiri_incident::access::{Access, Edge, Kept, Log, Proof, Purge, Site};
use shikiri_incident::encoding::Encoding;
use shikiri_incident::exposure::Exposure;
use shikiri_incident::foreign::{Counts, Edges, Format, Read, Reader, Request, Settings};
use shikiri_incident::infer::{Exposes, Gather, Known, OriginLog, View};
use shikiri_incident::negative::{Condition, NotViewed};
use shikiri_incident::takeover::{How, Takeover, takeovers};
use shikiri_incident::tally::Tally;
use shikiri_incident::timeline::Timeline;
use shikiri_incident::windows::{Reading, Windows};
use shikiri_incident::{Span, Zone};
use shikiri_record::{TagKey, TargetTag, UnixMillis};

use crate::config::Parsed;
use crate::evidence::tag_key;
use crate::import::{counted, made, served, tag, who, wrote};
use crate::logs::each_line;
use crate::seal::SigningKey;
use crate::{say, timeline};
use site::{LogOf, LogSection, SiteFile};

/// Sets of persons that are kept for the lower bound.
const SETS_MAX: usize = 100_000;

/// nginx's processes each go on by the time that they read when they woke.
const NGINX_LAG_MS: u64 = 10;

/// Under whose name a key that is made here signs.
const DESK: &str = "desk";

/// Of a view with more alternatives, no more are written.
const OWNERS_MAX: usize = 100;

/// Flags of `shikiri infer`.
#[derive(clap::Args)]
#[command(
    after_help = "The site's file says how its caches behave and where their logs are; each word in it is a \
condition of the answer, and what it leaves out is read as what costs sharpness and not truth. docs/inference.md has \
all of its words.

  version = 1
  session = \"sid\"
  [cache]
  replaces = true
  refreshes = \"openly\"
  revalidates = false
  fetch_max = \"30s\"
  transit_max = \"10ms\"
  [[log]]
  files = [\"access.log.1.gz\", \"access.log\"]
  format = \"nginx\"
  log_format = '$msec $request_time \"$request\" $status $upstream_cache_status \"$cookie_sid\"'
  store = \"edge-1\"
  complete = \"nginx writes every line; the disk was never full\"
  covers = [\"2020-03-16 12:00\", \"2020-03-17 22:00\"]
  misses_are_stored = true

Examples:
  shikiri infer site.toml
      How many persons' data was shown to others: at least, at most, and on what that rests.
  shikiri infer site.toml --views views.jsonl
      And for each response whose it may have been, in tags.
  shikiri infer --evidence /var/lib/shikiri/evidence --doubt pages --views views.jsonl
      The same of a node of ours: a canary was shown in class `pages`. How many bytes of each response is told, too.
  shikiri infer site.toml --in march-2020 --statement not-viewed.txt
      Held against the windows of a timeline; the statement that nobody was shown another's, if it holds.
  shikiri infer site.toml --in march-2020 --statement not-viewed.note --sign /var/lib/shikiri/signing.key
      The same, signed: whoever has the public key can check it, with any tool for signed notes."
)]
pub(crate) struct Args {
    /// What is known of the site's caches and logs.
    #[arg(value_name = "SITE.toml", required_unless_present = "evidence")]
    site: Option<PathBuf>,
    /// Our own rows, in their stead: the data folder's `evidence`, or a copy of it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["site", "takeovers"])]
    evidence: Option<PathBuf>,
    /// A class in which shared fetches may have carried somebody's credentials, as a canary or a report says: what they
    /// brought counts as their requesters'. `all`: every class.
    #[arg(long, value_name = "CLASS", requires = "evidence")]
    doubt: Vec<String>,
    /// The key of the tags: made when it is not there.
    #[arg(long, value_name = "FILE", default_value = "import.key")]
    key: PathBuf,
    /// Write a line of JSON for each response at a cache.
    #[arg(long, value_name = "FILE")]
    views: Option<PathBuf>,
    /// The timeline in this folder: accesses are counted in its windows and outside them.
    #[arg(long = "in", value_name = "DIR")]
    timeline: Option<PathBuf>,
    /// Write the statement that nobody was shown another's, or say what is against it.
    #[arg(long, value_name = "FILE", requires = "timeline")]
    statement: Option<PathBuf>,
    /// Sign the statement (C2SP's signed note, Ed25519) with the key in this file: a node's `signing.key`; made when it
    /// is not there.
    #[arg(long, value_name = "FILE", requires = "statement")]
    sign: Option<PathBuf>,
    /// Write a line of JSON for each session that another client came to have: what it read and wrote with it.
    #[arg(long, value_name = "FILE")]
    takeovers: Option<PathBuf>,
    /// No more fetches are held against each other at once.
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    facts_max: usize,
}

/// A log, ready to be read.
struct Source<'a> {
    section: &'a LogSection,
    format: Format,
    settings: Settings,
}

/// What a first reading found of a log.
#[derive(Default)]
struct Found {
    counts: Vec<(PathBuf, Counts)>,
    /// The ends of its first and its last line.
    lasts: Option<(Span, Span)>,
    stores: BTreeSet<Option<Edge>>,
}

/// Files of one log have fewer lines each.
const LINES_OF_A_FILE_BITS: u32 = 40;

/// A line that told a request.
struct Line<'a> {
    file: &'a Path,
    number: u64,
    request: Request,
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    if let Some(folder) = &args.evidence {
        return own::run(args, folder);
    }
    let path = args.site.as_deref();
    let file = SiteFile::read(path.expect("it is required where there is no evidence"))?;
    let key = tag_key(&args.key)?;
    let windows = args.timeline.as_deref().map(windows).transpose()?;
    let mut edges = Edges::default();
    let sources = sources(&file, &key, &mut edges)?;
    let mut origin = OriginLog::default();
    let mut found = Vec::new();
    for source in &sources {
        found.push(source.first_reading(&mut edges, &mut origin)?);
    }
    let site = site_of(&file, &key, &sources, &found, &mut edges)?;
    let stores = stores_text(&site, &edges);
    say(&logs_text(&sources, &found, &stores))?;

    let mut gather = Gather::new(&site, origin, args.facts_max).map_err(|it| it.to_string())?;
    for (source, found) in sources.iter().zip(&found) {
        source.again(found, &mut edges, &mut |line| match &line.request.access {
            Some(access) => gather.access(access).map_err(|it| it.to_string()),
            None => Ok(()),
        })?;
    }
    let known = gather.settle();
    if known.disagreeing() > 0 {
        return Err(format!(
            "{} requests lie elsewhere in time, by the ids that two logs tell, than the skews that are stated \
             allow: nothing that follows from the logs would hold; say larger ones",
            known.disagreeing()
        ));
    }

    let mut exposure = Exposure::new(SETS_MAX);
    let mut tally = windows.clone().map(Tally::new);
    let mut views = args.views.as_ref().map(made).transpose()?;
    let mut steps = Vec::new();
    for (source, found) in sources.iter().zip(&found) {
        source.again(found, &mut edges, &mut |line| {
            let Some(access) = &line.request.access else {
                return Ok(());
            };
            if args.takeovers.is_some() {
                steps.extend(line.request.step.clone());
                if steps.len() > args.facts_max {
                    return Err("there are more requests than takeovers are looked for in".into());
                }
            }
            let view = known.view(access);
            exposure.add(access, &view);
            if let Some(tally) = &mut tally {
                let skew_ms = source.skew_ms();
                tally.add(access.times.during(), skew_ms, access.viewer);
            }
            match &mut views {
                Some(views) => wrote(writeln!(views, "{}", view_text(&line, &view))),
                None => Ok(()),
            }
        })?;
    }
    if let Some(views) = views {
        wrote(
            views
                .into_inner()
                .map_err(|error| error.into_error())
                .map(drop),
        )?;
    }
    say(&result_text(&site, &known, &exposure, tally.as_ref()))?;
    if let Some(path) = &args.takeovers {
        taken_over(&takeovers(&steps), path)?;
    }
    match (windows, &args.statement) {
        (Some(windows), Some(path)) => {
            let statement = NotViewed::of(&site, &windows, &known, &exposure);
            stated(
                statement,
                (path, args.sign.as_deref()),
                file.zone(),
                &stores,
            )
        }
        _ => Ok(()),
    }
}

fn windows(folder: &Path) -> Result<Windows, String> {
    let timeline: Timeline = timeline::whole(folder)?;
    Ok(Windows::of(&timeline.now(), Reading::AnyMaintenance))
}

fn sources<'a>(
    file: &'a SiteFile,
    key: &TagKey,
    edges: &mut Edges,
) -> Result<Vec<Source<'a>>, String> {
    let identity = file.identity()?;
    let source = |section: &'a LogSection| {
        if section.in_order && file.cache.whole_before_end.is_none() {
            return Err(
                "`in_order` says that what a line fetched was stored in the step that wrote it: say so with \
                 `whole_before_end` too, or leave it out"
                    .to_owned(),
            );
        }
        let format = site::format(&section.format, section.log_format.as_deref())?;
        let store = section.store.as_deref();
        let edge = store.map(|name| named(edges, name)).transpose()?;
        Ok(Source {
            section,
            format,
            settings: Settings {
                tag_key: key.clone(),
                session: identity.clone(),
                encoding: encoding(section),
                zone: file.zone(),
                host: file.host.clone(),
                edge,
                misses_are_stored: section.misses_are_stored,
                logins: file.logins.clone(),
                lag_ms_max: lag_ms(section),
                took_by_readings: section.format == "nginx",
            },
        })
    };
    file.log.iter().map(source).collect()
}

/// So long after the time of its line a request may have been answered.
fn lag_ms(section: &LogSection) -> u64 {
    let of_form = if section.format == "nginx" {
        NGINX_LAG_MS
    } else {
        0
    };
    site::ms(section.lag_max.as_ref()).unwrap_or(of_form)
}

fn encoding(section: &LogSection) -> Encoding {
    let named = section.encoding.as_ref();
    named.map_or(Encoding::UTF_8, |Parsed(it)| it.0)
}

fn named(edges: &mut Edges, name: &str) -> Result<Edge, String> {
    let edge = edges.named(name.as_bytes());
    edge.ok_or_else(|| "the logs name more stores than can be told apart".to_owned())
}

impl Source<'_> {
    fn is_origin(&self) -> bool {
        self.section.of == LogOf::Origin
    }

    fn skew_ms(&self) -> u64 {
        site::ms(self.section.skew_max.as_ref()).unwrap_or(0)
    }

    fn name(&self) -> String {
        let files: Vec<String> = (self.section.files.iter())
            .map(|file| file.display().to_string())
            .collect();
        files.join(", ")
    }

    /// What the log is; and of an origin's, every request.
    fn first_reading(&self, edges: &mut Edges, origin: &mut OriginLog) -> Result<Found, String> {
        let mut found = Found::default();
        let counts = self.each(edges, &mut |line| {
            let ended = line.request.asked.times.ended;
            let (first, last) = found.lasts.unwrap_or((ended, ended));
            found.lasts = Some((first.min(ended), last.max(ended)));
            match line.request.access {
                _ if self.is_origin() => origin.add(line.request.asked),
                Some(access) => {
                    found.stores.insert(access.edge);
                }
                None => {
                    return Err(format!(
                        "{}:{}: the line does not say where the response came from: a cache's log must; say \
                         `of = \"origin\"` of an origin's",
                        line.file.display(),
                        line.number
                    ));
                }
            }
            Ok(())
        })?;
        found.counts = counts;
        Ok(found)
    }

    /// Every line that tells a request.
    fn each(
        &self,
        edges: &mut Edges,
        take: &mut dyn FnMut(Line<'_>) -> Result<(), String>,
    ) -> Result<Vec<(PathBuf, Counts)>, String> {
        let mut counts = Vec::new();
        for (place, file) in (0_u64..).zip(&self.section.files) {
            let mut reader = Reader::new(self.format.clone(), self.settings.clone());
            each_line(file, |number, line| match reader.line(line, edges) {
                Read::Request(mut request) => {
                    // The files are named from the oldest on.
                    let order = (place << LINES_OF_A_FILE_BITS) + number;
                    if let Some(access) = &mut request.access {
                        access.order = Some(order);
                    }
                    take(Line {
                        file,
                        number,
                        request: *request,
                    })
                }
                Read::Nothing | Read::Bad(_) => Ok(()),
            })?;
            counts.push((file.clone(), reader.counts().clone()));
        }
        Ok(counts)
    }

    /// A cache's lines again. What was not there the first time would be answered for by half of the log.
    fn again(
        &self,
        found: &Found,
        edges: &mut Edges,
        take: &mut dyn FnMut(Line<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.is_origin() {
            return Ok(());
        }
        if self.each(edges, take)? == found.counts {
            return Ok(());
        }
        Err(format!(
            "{}: it changed while it was read: copy it, and read the copy",
            self.name()
        ))
    }

    /// What is known of the log's completeness.
    fn log(&self, file: &SiteFile, found: &Found) -> Result<Log, String> {
        let has_bad = found.counts.iter().any(|(_, it)| !it.bad.is_empty());
        let kept = match &self.section.complete {
            Some(how) if !has_bad => Kept::Complete(Proof::Stated(how.clone())),
            _ => Kept::Partly,
        };
        let covers = match (&self.section.covers, found.lasts) {
            (Some([from, until]), _) => vec![file.span(from, until)?],
            (None, _) if kept == Kept::Partly => Vec::new(),
            (None, _) if self.section.files.len() > 1 => {
                return Err(format!(
                    "{}: of several files nobody can tell from when to when they hold every line: say `covers`",
                    self.name()
                ));
            }
            // What a clock stamps alike with the first line may have been before it.
            (None, Some((first, last))) if first.latest < last.earliest => {
                vec![Span::between(
                    UnixMillis(first.latest.0 + 1),
                    UnixMillis(last.earliest.0 - 1),
                )]
            }
            (None, _) => Vec::new(),
        };
        Ok(Log {
            kept,
            covers,
            skew_max_ms: self.skew_ms(),
            in_order: self.section.in_order,
        })
    }
}

/// All that is known of the site.
fn site_of(
    file: &SiteFile,
    key: &TagKey,
    sources: &[Source<'_>],
    found: &[Found],
    edges: &mut Edges,
) -> Result<Site, String> {
    let mut logs: BTreeMap<Edge, Log> = BTreeMap::new();
    let mut origin = None;
    for (source, found) in sources.iter().zip(found) {
        let log = source.log(file, found)?;
        if source.is_origin() {
            if origin.replace(log).is_some() {
                return Err(
                    "there is more than one log of the origin: name their files in one".into(),
                );
            }
            continue;
        }
        // Where no line tells a store, the log is of whatever stores there are.
        let untold = found.stores.contains(&None) || found.stores.is_empty();
        let untold = untold.then(|| named(edges, &source.name())).transpose()?;
        for edge in found.stores.iter().flatten().copied().chain(untold) {
            match logs.entry(edge) {
                Entry::Vacant(new) => {
                    new.insert(log.clone());
                }
                Entry::Occupied(before) if before.get().in_order || log.in_order => {
                    return Err(format!(
                        "{}: its lines are said to be in order, and another log is of the same store: which of two \
                         logs' lines came first, no order tells; leave out `in_order`",
                        source.name()
                    ));
                }
                Entry::Occupied(mut before) => join(before.get_mut(), &log),
            }
        }
    }
    let purge = |it: &site::PurgeSection| {
        let when = file.span(&it.from, it.until.as_ref().unwrap_or(&it.from))?;
        let host = file.host.to_ascii_lowercase();
        let target = it.target.as_ref();
        let key = target.map(|it| TargetTag::of(key, &[host.as_bytes(), it.as_bytes()]));
        Ok(Purge { when, key })
    };
    Ok(Site {
        cache: file.cache.cache(),
        edges: logs,
        origin,
        parents: site::parents(&file.behind, |name| named(edges, name))?,
        purges: file
            .purge
            .iter()
            .map(purge)
            .collect::<Result<_, String>>()?,
    })
}

/// One store's log, of two parts.
fn join(log: &mut Log, other: &Log) {
    log.covers.extend(&other.covers);
    log.skew_max_ms = log.skew_max_ms.max(other.skew_max_ms);
    if other.kept == Kept::Partly {
        log.kept = Kept::Partly;
    }
}

/// The stores by their numbers, which are what statements call them.
fn stores_text(site: &Site, edges: &Edges) -> String {
    let mut text = String::new();
    for (name, Edge(number)) in edges.all() {
        let name = String::from_utf8_lossy(name);
        let log = match site.edges.contains_key(&Edge(number)) {
            true => "",
            false => ", which has no log",
        };
        line(&mut text, format_args!("  store {number} is {name}{log}"));
    }
    text
}

fn logs_text(sources: &[Source<'_>], found: &[Found], stores: &str) -> String {
    let mut text = String::from("Logs\n");
    for (source, found) in sources.iter().zip(found) {
        for (file, counts) in &found.counts {
            let counted = counted(counts).replace("\n  ", "\n    ");
            line(
                &mut text,
                format_args!("  {}: {}", file.display(), counted.trim_end()),
            );
        }
        let has_bad = found.counts.iter().any(|(_, it)| !it.bad.is_empty());
        let complete = match &source.section.complete {
            None => "nobody says that every line is there".to_owned(),
            Some(_) if has_bad => "lines cannot be read: it is not complete".to_owned(),
            Some(how) => format!("complete: {how}"),
        };
        line(&mut text, format_args!("    {complete}"));
    }
    text + stores
}

fn result_text(
    site: &Site,
    known: &Known<'_>,
    exposure: &Exposure,
    tally: Option<&Tally>,
) -> String {
    let mut text = String::from("\nWho saw whose\n");
    let grades = exposure.grades;
    for words in [
        format!(
            "  responses: {}, of which {} were fetched for another request; fills: {}",
            exposure.views,
            exposure.shared,
            known.fills()
        ),
        format!(
            "  whose they were: {} proven, {} exact, {} one of several, {} not found",
            grades.proven, grades.exact, grades.set, grades.window
        ),
        format!(
            "  showed another's: {}; may have: {}",
            exposure.exposing, exposure.perhaps
        ),
    ] {
        line(&mut text, format_args!("{words}"));
    }
    let most = exposure.at_most();
    let at_most = match (most.named + most.unnamed, most.unlisted) {
        (_, 1..) => format!(
            "no bound, since {} responses may have held what no line tells ({} persons are named)",
            most.unlisted, most.named
        ),
        (all, 0) if most.unnamed > 0 => {
            format!(
                "{all}, of whom {} are fills without a session",
                most.unnamed
            )
        }
        (all, 0) => all.to_string(),
    };
    line(
        &mut text,
        format_args!(
            "  persons whose data was shown to others: at least {}",
            exposure.at_least()
        ),
    );
    line(&mut text, format_args!("    at most: {at_most}"));
    if let Some(tally) = tally {
        for (name, count) in [("in", &tally.inside), ("outside", &tally.outside)] {
            line(
                &mut text,
                format_args!(
                    "  {name} the windows: {} accesses by {} persons",
                    count.accesses,
                    count.persons()
                ),
            );
        }
    }
    line(&mut text, format_args!("  on condition that"));
    for condition in Condition::of(site) {
        line(&mut text, format_args!("    {}", condition.sentence()));
    }
    text
}

fn view_text(line: &Line<'_>, view: &View) -> serde_json::Value {
    let access = line.request.access.as_ref();
    let mut told = view_json(access.expect("only requests at caches are viewed"), view);
    told["file"] = line.file.display().to_string().into();
    told["line"] = line.number.into();
    told
}

fn view_json(access: &Access, view: &View) -> serde_json::Value {
    let owners = view.owners.iter().take(OWNERS_MAX).copied().map(tag);
    json!({
        "served": served(access.served),
        "viewer": who(access.viewer),
        "grade": view.grade.to_string(),
        "owners": owners.collect::<Vec<_>>(),
        "persons": view.owners.len(),
        "nobody": view.nobody,
        "own": view.own,
        "unnamed": view.unnamed.len(),
        "unlisted": view.unlisted,
        "exposes": match view.exposes {
            Exposes::No => "no",
            Exposes::Perhaps => "perhaps",
            Exposes::Another => "another",
        },
    })
}

fn taken_over(found: &[Takeover], path: &PathBuf) -> Result<(), String> {
    let mut file = made(path)?;
    for it in found {
        let line = json!({
            "session": it.session.hex(),
            "client": it.client.hex(),
            "known": match it.known {
                How::Replayed => "a stored response set its cookie",
                How::Switched => "shown without a login, after another client's",
            },
            "since": [it.since.earliest.0, it.since.latest.0],
            "reads": it.acts.reads,
            "writes": it.acts.writes,
        });
        wrote(writeln!(file, "{line}"))?;
    }
    wrote(file.flush())?;
    let (sessions, writes) = (
        found.len(),
        found.iter().map(|it| it.acts.writes).sum::<u64>(),
    );
    say(&format!(
        "  sessions that another client had: {sessions}; requests with them that can have changed something: \
         {writes}\n"
    ))
}

fn stated(
    statement: Result<NotViewed, Vec<shikiri_incident::negative::Objection>>,
    (path, key): (&PathBuf, Option<&Path>),
    zone: Zone,
    stores: &str,
) -> Result<(), String> {
    match statement {
        Ok(statement) => {
            let (mut text, digest) = (statement.text(zone), statement.digest());
            text.push_str(&format!("Stores:\n{stores}Digest {digest}\n"));
            let mut said = format!("the statement is in {}\n", path.display());
            if let Some(key) = key {
                let key = SigningKey::open(key, DESK)?;
                text = key.statement(&text)?;
                said.push_str(&format!("signed; its public key is {}\n", key.key()));
            }
            let mut file = made(path)?;
            wrote(file.write_all(text.as_bytes()).and_then(|()| file.flush()))?;
            say(&said)
        }
        Err(objections) => {
            let mut text = String::from("there is no statement that nobody was shown another's:");
            for objection in objections {
                text.push_str("\n  ");
                text.push_str(&objection.sentence(zone));
            }
            Err(text)
        }
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a text takes every line");
}
