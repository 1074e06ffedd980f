//! `shikiri import`: a first reading of another cache's log, before anything is concluded from it.
//!
//! It says what the log tells, line by line if asked, and keeps aside what it cannot read. Never prints a
//! session, an address or a URL: those are tags under a key.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use shikiri_incident::Span;
use shikiri_incident::access::{Answer, Edge, Person, Served, Stored, Who};
use shikiri_incident::encoding::Encoding;
use shikiri_incident::foreign::{Counts, Edges, Read, Reader, Request, SessionIn, Settings, sniff};
use shikiri_record::TagKey;

use crate::evidence::tag_key;
use crate::infer::site::{LineEncoding, Offset, format, identity};
use crate::logs::each_line;
use crate::say;

/// Lines were bad, and nobody keeps them.
const BAD: u8 = 3;

/// A first look takes no more lines.
const SNIFFED_MAX: usize = 200;

/// Flags of `shikiri import`.
#[derive(clap::Args)]
#[command(
    after_help = "Forms: nginx, apache and varnish with their log format as text; json with a mapping; \
squid, ats, haproxy, alb, cloudfront, w3c, cloudflare, akamai, google, fastly, vsl (Varnish's own, of clients) and \
vsl-fetches (of backends) without. Files may be compressed with gzip, zstd or bzip2; what `varnishlog -w` wrote is read \
as it is. docs/inference.md says what a log must hold for what.

Exit status: 0 when every line was read, 3 when some were not and `--bad` did not say where to keep them, 1 when a \
file or form cannot be used.

Examples:
  shikiri import --sniff /var/log/nginx/access.log
      Which forms read it, and how much of it they tell.
  shikiri import access.log.1.gz access.log --format nginx --log-format \"$(grep -A3 log_format nginx.conf)\" \\
      --session sid --bad unread.log
  shikiri import E2.2020-03-16-*.gz --format cloudfront --session sid --facts facts.jsonl"
)]
pub(crate) struct Args {
    /// The files, in any order.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only look at the first lines and say which forms read them.
    #[arg(long, conflicts_with = "format")]
    sniff: bool,
    /// The form of the lines.
    #[arg(long, value_name = "NAME", required_unless_present = "sniff")]
    format: Option<String>,
    /// The text of the form: nginx's `log_format`, Apache's `LogFormat`, varnishncsa's `-F`, a mapping of JSON.
    #[arg(long, value_name = "TEXT")]
    log_format: Option<String>,
    /// The cookie that holds a member's session.
    #[arg(long, value_name = "COOKIE")]
    session: Option<String>,
    /// What the form calls the field that holds it: `$http_x_session`, `%{X-Session}i`, a column, a member.
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["session", "member_field"])]
    session_field: Option<String>,
    /// What the form calls the field that names the member: `$remote_user`, `%u`, `user` (Squid's).
    #[arg(long, value_name = "FIELD", conflicts_with = "session")]
    member_field: Option<String>,
    /// The host of requests whose line names none.
    #[arg(long, value_name = "HOST", default_value = "")]
    host: String,
    /// Where times without a zone were told: `+09:00`, `UTC`.
    #[arg(long, value_name = "OFFSET", default_value = "UTC")]
    zone: Offset,
    /// How its lines are written: `shift_jis`, `euc-jp`, `iso-2022-jp`.
    #[arg(long, value_name = "NAME", default_value = "utf-8")]
    encoding: LineEncoding,
    /// The key of the tags: made when it is not there. Logs that are compared are read under one.
    #[arg(long, value_name = "FILE", default_value = "import.key")]
    key: PathBuf,
    /// Write what each line tells, as lines of JSON.
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// Keep lines that cannot be read, as they are: they hold whatever the log holds.
    #[arg(long, value_name = "FILE")]
    bad: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    if args.sniff {
        return first_look(args).map(|()| ExitCode::SUCCESS);
    }
    let name = args.format.as_deref().unwrap_or_default();
    let format = format(name, args.log_format.as_deref())?;
    let identity = identity(
        args.session.as_deref(),
        args.session_field.as_deref(),
        args.member_field.as_deref(),
    )?;
    let key = tag_key(&args.key)?;
    let mut facts = args.facts.as_ref().map(made).transpose()?;
    let mut aside = args.bad.as_ref().map(made).transpose()?;
    let mut edges = Edges::default();
    let mut has_bad = false;
    for path in &args.files {
        let shown = path.display().to_string();
        let mut reader = Reader::new(format.clone(), settings(args, &key, &identity, name));
        let mut told = Told::default();
        each_line(path, |number, line| {
            match (reader.line(line, &mut edges), &mut facts, &mut aside) {
                (Read::Request(request), facts, _) => {
                    told.add(&request);
                    if let Some(facts) = facts {
                        wrote(writeln!(facts, "{}", fact(&shown, number, &request)))?;
                    }
                }
                (Read::Bad(_), _, Some(aside)) => {
                    wrote(aside.write_all(line).and_then(|()| aside.write_all(b"\n")))?;
                }
                _ => {}
            }
            Ok(())
        })?;
        has_bad |= !reader.counts().bad.is_empty();
        say(&format!(
            "{shown}: {}{}",
            counted(reader.counts()),
            told.text()
        ))?;
    }
    for file in [facts, aside].into_iter().flatten() {
        wrote(
            file.into_inner()
                .map_err(|error| error.into_error())
                .map(drop),
        )?;
    }
    let names = edges
        .all()
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        say(&format!("stores: {}\n", names.join(", ")))?;
    }
    if has_bad && args.bad.is_none() {
        say(
            "some lines cannot be read: `--bad FILE` keeps them, and no log with such lines is complete\n",
        )?;
        return Ok(ExitCode::from(BAD));
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &Args, key: &TagKey, identity: &SessionIn, format: &str) -> Settings {
    Settings {
        tag_key: key.clone(),
        session: identity.clone(),
        encoding: args.encoding.0,
        zone: args.zone.0,
        host: args.host.clone(),
        edge: None,
        misses_are_stored: false,
        logins: Vec::new(),
        lag_ms_max: 0,
        took_by_readings: format == "nginx",
    }
}

fn first_look(args: &Args) -> Result<(), String> {
    for path in &args.files {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        // It ends by refusing a line, which is no fault.
        let read = each_line(path, |_, line| {
            if lines.len() == SNIFFED_MAX {
                return Err(String::new());
            }
            lines.push(line.to_vec());
            Ok(())
        });
        read.or_else(|why| if why.is_empty() { Ok(()) } else { Err(why) })?;
        let all = lines.join(&b'\n');
        let encoding = match Encoding::UTF_8.read_whole(&all) {
            Ok(_) => None,
            Err(guess) => guess,
        };
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let mut said = format!("{}: of its first {} lines\n", path.display(), lines.len());
        let guesses = sniff(&lines);
        if guesses.is_empty() {
            said.push_str("  no form is known that reads any: give nginx's, Apache's or Varnish's as --log-format\n");
        }
        for guess in guesses {
            let text = guess.text.map(|text| format!(" --log-format '{text}'"));
            said.push_str(&format!(
                "  {} read, {} tell where the response came from: --format {}{}\n",
                guess.reads,
                guess.tell_cache,
                guess.name,
                text.unwrap_or_default()
            ));
        }
        if let Some(encoding) = encoding {
            said.push_str(&format!(
                "  it is not UTF-8, and may be --encoding {}\n",
                encoding.name()
            ));
        }
        say(&said)?;
    }
    Ok(())
}

/// A file that only its owner reads.
pub(crate) fn made(path: &PathBuf) -> Result<BufWriter<File>, String> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.map(BufWriter::new)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

pub(crate) fn wrote(done: std::io::Result<()>) -> Result<(), String> {
    done.map_err(|error| format!("cannot write: {error}"))
}

/// How lines were read, in one line or more.
pub(crate) fn counted(counts: &Counts) -> String {
    let bad: u64 = counts.bad.values().sum();
    let mut text = format!(
        "{} lines, {} requests, {} that tell nothing, {bad} bad\n",
        counts.lines, counts.requests, counts.nothing
    );
    for (why, count) in &counts.bad {
        let at: Vec<String> = (counts.bad_numbers.iter())
            .filter(|(_, of)| of == why)
            .take(5)
            .map(|(number, _)| number.to_string())
            .collect();
        let more = if u64::try_from(at.len()).is_ok_and(|told| told < *count) {
            ", …"
        } else {
            ""
        };
        text.push_str(&format!(
            "  {count} bad: {why}: lines {}{more}\n",
            at.join(", ")
        ));
    }
    text
}

/// What a log's lines tell of what inference asks.
#[derive(Default)]
struct Told {
    requests: u64,
    of_a_cache: u64,
    store: u64,
    session: u64,
    milliseconds: u64,
    fill: u64,
    request_id: u64,
    age: u64,
}

impl Told {
    fn add(&mut self, request: &Request) {
        self.requests += 1;
        let asked = &request.asked;
        let ended = asked.times.ended;
        for (count, is_told) in [
            (&mut self.of_a_cache, request.access.is_some()),
            (
                &mut self.store,
                request.access.as_ref().is_some_and(|it| it.edge.is_some()),
            ),
            (&mut self.session, asked.rendered_for != Who::Untold),
            (
                &mut self.milliseconds,
                ended.latest.0 - ended.earliest.0 < 10,
            ),
            (&mut self.fill, asked.fill.is_some()),
            (&mut self.request_id, asked.request.is_some()),
            (
                &mut self.age,
                request.access.as_ref().is_some_and(|it| it.age_s.is_some()),
            ),
        ] {
            *count += u64::from(is_told);
        }
    }

    fn text(&self) -> String {
        if self.requests == 0 {
            return String::new();
        }
        let mut text = String::from("  told of requests:");
        for (name, count) in [
            ("where it came from", self.of_a_cache),
            ("store", self.store),
            ("session", self.session),
            ("milliseconds", self.milliseconds),
            ("fill", self.fill),
            ("request id", self.request_id),
            ("age", self.age),
        ] {
            text.push_str(&format!(" {name} {} %,", count * 100 / self.requests));
        }
        text.pop();
        text.push('\n');
        text
    }
}

/// What a line tells, in tags.
fn fact(file: &str, line: u64, request: &Request) -> Value {
    let asked = &request.asked;
    let mut fact = json!({
        "file": file,
        "line": line,
        "key": asked.key.hex(),
        "began": ends(asked.times.began),
        "ended": ends(asked.times.ended),
        "viewer": who(asked.rendered_for),
        "status": asked.status,
        "fill": asked.fill.map(|fill| format!("{:032x}", fill.0)),
        "request": asked.request.map(|id| format!("{:032x}", id.0)),
    });
    let more = match &request.access {
        Some(access) => json!({
            "served": served(access.served),
            "store": access.edge.map(|Edge(number)| number),
            "age": access.age_s,
        }),
        None => json!({
            "answered": match asked.answer {
                Answer::NotModified => "not_modified",
                Answer::Response(_) => "response",
            },
        }),
    };
    if let (Some(fact), Value::Object(more)) = (fact.as_object_mut(), more) {
        fact.extend(more);
    }
    fact
}

fn ends(span: Span) -> [u64; 2] {
    [span.earliest.0, span.latest.0]
}

pub(crate) const fn served(served: Served) -> &'static str {
    match served {
        Served::Fetched(Stored::Surely | Stored::Perhaps) => "fetched",
        Served::Fetched(Stored::Not) => "passed",
        Served::Hit => "hit",
        Served::Stale => "stale",
        Served::Revalidated => "revalidated",
        Served::Collapsed => "collapsed",
    }
}

/// Somebody's tag.
pub(crate) fn who(who: Who) -> String {
    match who {
        Who::Person(person) => tag(person),
        Who::Anonymous => "nobody".to_owned(),
        Who::Untold => "untold".to_owned(),
    }
}

pub(crate) fn tag(person: Person) -> String {
    match person {
        Person::Member(tag) => tag.hex(),
        Person::Session(tag) => tag.hex(),
    }
}
