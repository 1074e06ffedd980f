//! `cargo xtask logs`: caches that people run are made to leak, and who saw whose is asked of their own logs.
//!
//! The truth is what each client read from its socket: the origin stamps every page with the session that it was
//! rendered for. Never knows how it is inferred: the command is given the logs, and what is known of the cache, as a
//! person would.
//!
//! Invariant: an answer that is called certain and is wrong fails the run, and so does a truth that is not among the
//! alternatives; a cache that answers too little from its store to prove anything does, too.

mod site;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::dice::Dice;
use crate::edge;
use crate::peers::{NGINX_OF_ONE_PROCESS, Peer, Running, VARNISH};
use crate::process::{Doing, Failure, end, output, root};
use site::{Origin, Seen};

/// One cache, as it is set up here.
struct Case {
    name: &'static str,
    peer: &'static Peer,
    /// What differs from the others of the same peer.
    configured: &'static str,
    /// `[cache]`: what is known of it.
    known: &'static str,
    /// Whether the origin's log is read, too.
    origin_log: bool,
    /// How many of them stand beside each other.
    stores: usize,
    /// Of 100 times that it asks, what it holds has not changed so often.
    unchanged: u64,
    /// Of 1,000 responses out of its store, so many are certain on a quiet machine.
    certain_measured: usize,
}

/// The first five are those that were measured before there was a program: as many are certain as then, on a quiet machine.
const CASES: &[Case] = &[
    Case {
        name: "nginx",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "",
        known: "refreshes = \"openly\"\nrevalidates = false",
        origin_log: false,
        stores: 2,
        unchanged: 0,
        certain_measured: 979,
    },
    Case {
        name: "nginx, one fetch at a time, stale while it lasts",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "proxy_cache_lock on; proxy_cache_use_stale updating;",
        known: "refreshes = \"openly\"\nrevalidates = false",
        origin_log: false,
        stores: 2,
        unchanged: 0,
        certain_measured: 994,
    },
    Case {
        name: "nginx, revalidating what never changes",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "proxy_cache_revalidate on;",
        known: "refreshes = \"openly\"\nrevalidates = true",
        origin_log: false,
        stores: 2,
        unchanged: 100,
        certain_measured: 999,
    },
    Case {
        name: "nginx, updating in the background",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "proxy_cache_lock on; proxy_cache_use_stale updating; proxy_cache_background_update on;",
        known: "refreshes = \"behind_stale\"\nrefresh_delay_max = \"50ms\"\nrevalidates = false",
        origin_log: true,
        stores: 2,
        unchanged: 0,
        certain_measured: 987,
    },
    Case {
        name: "varnish, with grace",
        peer: &VARNISH,
        configured: "sub vcl_backend_fetch { unset bereq.http.If-None-Match; }",
        known: "refreshes = \"behind_any\"\nrevalidates = false",
        origin_log: true,
        stores: 1,
        unchanged: 0,
        certain_measured: 1000,
    },
    Case {
        name: "nginx, revalidating",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "proxy_cache_revalidate on;",
        known: "refreshes = \"openly\"\nrevalidates = true",
        origin_log: false,
        stores: 2,
        unchanged: 60,
        certain_measured: 950,
    },
    Case {
        name: "varnish, with grace, revalidating",
        peer: &VARNISH,
        configured: "",
        known: "refreshes = \"behind_any\"\nrevalidates = true",
        origin_log: true,
        stores: 1,
        unchanged: 60,
        certain_measured: 600,
    },
];

/// What nginx is told: everything for three seconds, whoever asks.
const NGINX: &str = r#"
log_format told '$msec $request_time "$request" $status $upstream_cache_status "$cookie_sid" $request_id "$http_x_number"';
server {
    listen @LISTEN@;
    access_log @FOLDER@/access.log told;
    location / {
        proxy_pass http://@ORIGIN@;
        proxy_set_header X-Request-Id $request_id;
        proxy_cache pages;
        proxy_cache_key $uri;
        proxy_ignore_headers Cache-Control Expires Set-Cookie X-Accel-Expires;
        proxy_cache_valid 200 3s;
        @MORE@
    }
}
"#;

const NGINX_LOG: &str = r#"$msec $request_time "$request" $status $upstream_cache_status "$cookie_sid" $request_id "$http_x_number""#;

/// The same of Varnish.
const VARNISH_VCL: &str = r#"
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "@ORIGIN_PORT@"; }
sub vcl_recv { return (hash); }
sub vcl_hash { hash_data(req.url); return (lookup); }
sub vcl_backend_response {
    set beresp.ttl = 3s;
    set beresp.grace = 3s;
    set beresp.uncacheable = false;
    return (deliver);
}
@MORE@
"#;

const VARNISH_LOG: &str = r#"%t %D "%r" %s %{Varnish:handling}x "%{X-Varnish}o" %{VSL:Link[2]}x "%{Cookie}i" "%{X-Number}i""#;

/// Beside it: everything that it tells of itself.
const OWN_LOG: &str = "varnish.vsl";

/// What is said of a log whose lines were counted.
const COMPLETE: &str = "complete = \"the test has counted its lines\"\n\
                        covers = [\"2020-01-01 00:00\", \"2099-01-01 00:00\"]\n";

/// How long clients ask, and how often all of them together.
const LASTS: Duration = Duration::from_secs(18);
const PER_SECOND: u64 = 250;

/// Fewer responses out of a store prove nothing.
const SHARED_MIN: usize = 2000;

/// A machine with other things to do has fewer instants that tell two requests apart: so many of 1,000 may be lacking.
const CERTAIN_LACKING_MAX: usize = 20;

/// Of 100 lines, so many are taken away.
const LOST: u64 = 20;

/// # Errors
/// An answer was wrong, a cache did not do what it is here for, or something did not run.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    edge::build()?;
    println!(
        "{:<50} {:>9} {:>7} {:>8} {:>9} {:>12} {:>12}",
        "cache", "responses", "shared", "certain", "by times", "alternatives", "latest miss"
    );
    let mut failures = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let wanted = |name: &String| case.name.starts_with(name.as_str());
        if !arguments.is_empty() && !arguments.iter().any(wanted) {
            continue;
        }
        let folder = root().join(format!("target/logs/{number}"));
        match judge(case, &folder) {
            Ok(row) => println!("{:<50} {row}", case.name),
            Err(failure) => {
                println!("{:<50} failed", case.name);
                failures.push(format!("{}: {failure} ({})", case.name, folder.display()));
            }
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(failures.join("\n"))),
    }
}

/// Lets clients ask through a cache, and asks its log what they were shown.
fn judge(case: &Case, folder: &Path) -> Result<String, Failure> {
    drop(fs::remove_dir_all(folder));
    fs::create_dir_all(folder).doing(format_args!("making {}", folder.display()))?;
    let origin = Origin::start(case.unchanged)?;
    let (template, log_format) = match case.is_nginx() {
        true => (NGINX, NGINX_LOG),
        false => (VARNISH_VCL, VARNISH_LOG),
    };
    let text = template.replace("@MORE@", case.configured);
    let mut running = Vec::new();
    let mut beside = Vec::new();
    for _ in 0..case.stores {
        let peer = case.peer.start(origin.address, &text)?;
        if !case.is_nginx() {
            let arguments = [
                "-n",
                "@FOLDER@/work",
                "-F",
                log_format,
                "-w",
                "@FOLDER@/access.log",
            ];
            beside.push(peer.beside("usr/bin/varnishncsa", &arguments)?);
            let arguments = ["-n", "@FOLDER@/work", "-u", "-w", OWN_LOG];
            beside.push(peer.beside("usr/bin/varnishlog", &arguments)?);
            std::thread::sleep(Duration::from_millis(500));
        }
        running.push(peer);
    }
    let addresses: Vec<_> = running.iter().map(Running::address).collect();
    let seen = site::ask(&addresses, LASTS, PER_SECOND)?;
    let read = || running.iter().map(|it| it.wrote("access.log")).collect();
    let caches = whole_logs(&seen, read).map_err(|failure| {
        let said: Vec<String> = running.iter().map(|it| it.wrote("printed.log")).collect();
        Failure::new(format!("{failure}: {}", said.join("\n")))
    })?;
    let own = match case.is_nginx() {
        true => None,
        false => Some(OwnLog::whole(&seen, &running[0])?),
    };
    beside.iter_mut().for_each(end);
    drop(running);
    let logs = Logs {
        case,
        folder: folder.to_owned(),
        log_format,
        caches,
        origin: origin.log(),
    };
    let told = logs.infer("whole", Known::Order)?;
    let judged = told.judged(&seen)?;
    if judged.shared < SHARED_MIN {
        return Err(Failure::new(format!(
            "only {} responses came from its store",
            judged.shared
        )));
    }
    let by_times = logs.infer("times", Known::Times)?.judged(&seen)?;
    let certain = judged.certain * 1000 / judged.shared;
    if certain + CERTAIN_LACKING_MAX < case.certain_measured {
        return Err(Failure::new(format!(
            "of 1,000 responses out of its store only {certain} are certain: {} were, on a quiet machine",
            case.certain_measured
        )));
    }
    if let Some(own) = &own {
        let told = logs.infer_own(own)?.judged(&seen)?;
        if told.shared < judged.shared || told.certain < judged.certain {
            return Err(Failure::new(format!(
                "varnish's own log tells {} responses out of its store and makes {} certain; what varnishncsa wrote \
                 tells {} and makes {} certain",
                told.shared, told.certain, judged.shared, judged.certain
            )));
        }
    }
    // The same with lines lost: nothing is certain any more, and nothing wrong.
    let lost = logs.without_some(LOST).infer("lost", Known::NotAll)?;
    let after = lost.judged(&seen)?;
    if after.certain > 0 {
        return Err(Failure::new("a log with lost lines made something certain"));
    }
    let of_shared = |certain: usize| {
        let of_1000 = certain * 1000 / judged.shared;
        format!("{}.{} %", of_1000 / 10, of_1000 % 10)
    };
    Ok(format!(
        "{:>9} {:>7} {:>8} {:>9} {:>9}.{:02} {:>10} %",
        seen.len(),
        judged.shared,
        of_shared(judged.certain),
        of_shared(by_times.certain),
        judged.alternatives / judged.shared,
        judged.alternatives * 100 / judged.shared % 100,
        told.latest_miss_is_right(&seen) * 100 / judged.shared,
    ))
}

impl Case {
    fn is_nginx(&self) -> bool {
        self.peer.name == "nginx"
    }
}

/// The logs, once every response is in one of them.
fn whole_logs(seen: &[Seen], read: impl Fn() -> Vec<String>) -> Result<Vec<String>, Failure> {
    let told = |logs: &[String]| {
        let lines = logs.iter().flat_map(|log| log.lines());
        lines.filter(|line| number_of(line).is_some()).count()
    };
    for _ in 0..100 {
        let logs = read();
        if logs.iter().all(|log| log.ends_with('\n')) && told(&logs) >= seen.len() {
            return Ok(logs);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Failure::new(format!(
        "its logs have {} lines, and {} responses were received",
        told(&read()),
        seen.len()
    )))
}

/// The number that a request had with it: the last word of its line.
fn number_of(line: &str) -> Option<usize> {
    line.trim_end_matches('"').rsplit('"').next()?.parse().ok()
}

/// The logs of one run.
struct Logs<'a> {
    case: &'a Case,
    folder: PathBuf,
    log_format: &'static str,
    /// One for each store.
    caches: Vec<String>,
    origin: String,
}

/// Varnish's own log, as `varnishlog -w` wrote it.
struct OwnLog {
    bytes: Vec<u8>,
    /// As many lines as it has records: the last record of each request with its number.
    numbers: Vec<String>,
}

impl OwnLog {
    /// Once every response is in it.
    fn whole(seen: &[Seen], peer: &Running) -> Result<Self, Failure> {
        let arguments = ["-r", OWN_LOG, "-g", "raw"];
        for _ in 0..100 {
            let bytes = peer.wrote_bytes(OWN_LOG);
            // It may be in the middle of a record.
            if let Ok(text) = peer.ran("usr/bin/varnishlog", &arguments) {
                let numbers = numbers_of(&String::from_utf8_lossy(&text));
                let told = numbers.iter().filter(|it| !it.is_empty()).count();
                if told >= seen.len() && bytes == peer.wrote_bytes(OWN_LOG) {
                    return Ok(Self { bytes, numbers });
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Failure::new(
            "varnish's own log lacks responses that were received",
        ))
    }
}

/// Of each line of `varnishlog -g raw`: the number of the request that ends there, as a line's last word; nothing of
/// others.
fn numbers_of(text: &str) -> Vec<String> {
    let mut open: HashMap<&str, &str> = HashMap::new();
    let mut numbers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (id, tag) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let rest: Vec<&str> = words.collect();
        if let ("ReqHeader", ["c", "X-Number:", number]) = (tag, rest.as_slice()) {
            open.insert(id, number);
        }
        let ended = if tag == "End" { open.remove(id) } else { None };
        numbers.push(ended.map_or_else(String::new, |number| format!("\"{number}\"")));
    }
    numbers
}

/// What is known of logs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// They are whole, and nginx's lines stand in the order in which it worked.
    Order,
    /// They are whole.
    Times,
    /// Lines may be lacking.
    NotAll,
}

impl Logs<'_> {
    fn without_some(&self, of_100: u64) -> Self {
        let mut dice = Dice::new(7);
        let mut kept = |text: &str| {
            let lines = text.lines().filter(|_| dice.below(100) >= of_100);
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        Self {
            caches: self.caches.iter().map(|log| kept(log)).collect(),
            origin: kept(&self.origin),
            folder: self.folder.clone(),
            ..*self
        }
    }

    /// What the command makes of them.
    fn infer(&self, name: &str, known: Known) -> Result<Told, Failure> {
        let mut lines = BTreeMap::new();
        let mut files = vec![("origin.log".to_owned(), self.origin.as_bytes())];
        for (number, log) in self.caches.iter().enumerate() {
            files.push((log_name(number), log.as_bytes()));
            lines.insert(log_name(number), log.lines().map(str::to_owned).collect());
        }
        let views = self.views(name, &files, &self.site(known))?;
        Ok(Told { views, lines })
    }

    /// What it makes of Varnish's own log alone: that tells what clients were answered and what was fetched.
    fn infer_own(&self, own: &OwnLog) -> Result<Told, Failure> {
        let mut site = self.site_before_logs();
        for (of, form) in [("cache", "vsl"), ("origin", "vsl-fetches")] {
            site.push_str(&format!(
                "[[log]]\nof = \"{of}\"\nfiles = [\"{OWN_LOG}\"]\nstore = \"edge-0\"\nmisses_are_stored = true\n\
                 format = \"{form}\"\n{COMPLETE}"
            ));
        }
        let files = [(OWN_LOG.to_owned(), own.bytes.as_slice())];
        let views = self.views("own", &files, &site)?;
        let lines = BTreeMap::from([(OWN_LOG.to_owned(), own.numbers.clone())]);
        Ok(Told { views, lines })
    }

    fn views(
        &self,
        name: &str,
        files: &[(String, &[u8])],
        site: &str,
    ) -> Result<Vec<Value>, Failure> {
        let folder = self.folder.join(name);
        let write = |file: &str, bytes: &[u8]| {
            fs::write(folder.join(file), bytes).doing(format_args!("writing {file}"))
        };
        fs::create_dir_all(&folder).doing("making a folder")?;
        for (file, bytes) in files {
            write(file, bytes)?;
        }
        write("site.toml", site.as_bytes())?;
        let mut command = Command::new(root().join("target/debug/shikiri"));
        command.current_dir(&folder).args([
            "infer",
            "site.toml",
            "--key",
            "../tags.key",
            "--views",
            "views.jsonl",
        ]);
        let said = output(&mut command)?;
        fs::write(folder.join("said.txt"), &said).doing("writing what was said")?;
        let views = fs::read_to_string(folder.join("views.jsonl")).doing("reading the views")?;
        let views = views
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>();
        views.map_err(|error| Failure::new(format!("views.jsonl: {error}")))
    }

    /// What is known of the cache: it began empty, and its clock is the origin's.
    fn site_before_logs(&self) -> String {
        let known = self.case.known;
        format!(
            "version = 1\nhost = \"peer.test\"\nsession = \"sid\"\n\
             [cache]\nreplaces = true\nshares_unstored = false\nfetch_max = \"5s\"\ntransit_max = \"20ms\"\n\
             whole_before_end = \"1ms\"\n{known}\n\
             [[purge]]\nfrom = \"2020-01-02 00:00\"\n"
        )
    }

    fn site(&self, of_logs: Known) -> String {
        let complete = match of_logs {
            Known::Order | Known::Times => COMPLETE,
            Known::NotAll => "",
        };
        let in_order = of_logs == Known::Order && self.case.is_nginx();
        let form = if self.case.is_nginx() {
            "nginx"
        } else {
            "varnish"
        };
        let mut text = self.site_before_logs();
        for number in 0..self.caches.len() {
            text.push_str(&format!(
                "[[log]]\nfiles = [\"{}\"]\nstore = \"edge-{number}\"\nmisses_are_stored = true\nlag_max = \"0ms\"\n\
                 in_order = {in_order}\nformat = \"{form}\"\nlog_format = '{}'\n{complete}",
                log_name(number),
                self.log_format
            ));
        }
        if self.case.origin_log {
            text.push_str(&format!(
                "[[log]]\nof = \"origin\"\nfiles = [\"origin.log\"]\nmisses_are_stored = true\nformat = \"json\"\n\
                 log_format = '''\n{}'''\n{complete}",
                site::MAPPING
            ));
        }
        text
    }
}

/// What one store's log is called.
fn log_name(number: usize) -> String {
    format!("access-{number}.log")
}

/// What was made of logs: a view for each line of the caches'.
struct Told {
    views: Vec<Value>,
    /// By file.
    lines: BTreeMap<String, Vec<String>>,
}

/// What became of it.
#[derive(Default)]
struct Judged {
    shared: usize,
    certain: usize,
    alternatives: usize,
}

impl Told {
    /// Each view with the number of its request.
    fn numbered(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.views.iter().filter_map(|view| {
            let line = usize::try_from(view["line"].as_u64()?).ok()?;
            let lines = self.lines.get(view["file"].as_str()?)?;
            Some((number_of(lines.get(line.checked_sub(1)?)?)?, view))
        })
    }

    /// Holds every view against what was received.
    fn judged(&self, seen: &[Seen]) -> Result<Judged, Failure> {
        let seen: HashMap<usize, &Seen> = seen.iter().map(|it| (it.number, it)).collect();
        let mut tags: HashMap<u64, &str> = HashMap::new();
        for (number, view) in self.numbered() {
            if let (Some(seen), Some(tag)) = (seen.get(&number), view["viewer"].as_str()) {
                tags.insert(seen.viewer, tag);
            }
        }
        let mut judged = Judged::default();
        for (number, view) in self.numbered() {
            let Some(seen) = seen.get(&number) else {
                continue;
            };
            let owners = view["owners"].as_array().map_or(&[][..], Vec::as_slice);
            let truth = tags.get(&seen.owner);
            let is_among = owners
                .iter()
                .any(|owner| truth.is_some_and(|tag| owner == tag));
            let grade = view["grade"].as_str().unwrap_or_default();
            let is_certain = matches!(grade, "proven" | "exact");
            if !is_among && (is_certain || view["unlisted"] != true) {
                return Err(Failure::new(format!(
                    "request {number} was shown the page of member {}, and it says: {view}",
                    seen.owner
                )));
            }
            if matches!(view["served"].as_str(), Some("fetched" | "passed")) {
                continue;
            }
            judged.shared += 1;
            judged.certain += usize::from(is_certain);
            judged.alternatives += owners.len().max(1);
        }
        Ok(judged)
    }

    /// How often the latest miss before a hit, in the order of the log, was its page's: what everybody would try
    /// first.
    fn latest_miss_is_right(&self, seen: &[Seen]) -> usize {
        let seen: HashMap<usize, &Seen> = seen.iter().map(|it| (it.number, it)).collect();
        let mut latest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut right = 0;
        for (number, view) in self.numbered() {
            let Some(seen) = seen.get(&number) else {
                continue;
            };
            let page = (
                view["file"].as_str().unwrap_or_default(),
                seen.path.as_str(),
            );
            if view["served"] == "fetched" {
                latest.insert(page, seen.viewer);
            } else {
                right += usize::from(latest.get(&page) == Some(&seen.owner));
            }
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_varnishs_own_log_ends_with_its_last_record() {
        let text = "\
         7 Begin          c req 6 rxreq
         9 Begin          c req 8 rxreq
         7 ReqHeader      c X-Number: 17
         9 End            c
        10 BereqHeader    b X-Number: 17
         7 End            c ";
        assert_eq!(numbers_of(text), ["", "", "", "", "", "\"17\""]);
        assert_eq!(number_of(&numbers_of(text)[5]), Some(17));
    }

    #[test]
    fn a_line_ends_with_its_requests_number() {
        for (line, number) in [
            (r#"1 0.1 "GET / HTTP/1.1" 200 HIT "u1" abc "17""#, Some(17)),
            (r#"1 0.1 "GET / HTTP/1.1" 200 HIT "u1" abc "-""#, None),
            ("", None),
        ] {
            assert_eq!(number_of(line), number, "{line}");
        }
    }
}
