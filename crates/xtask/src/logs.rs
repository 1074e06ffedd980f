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

use crate::edge;
use crate::peers::{NGINX_OF_ONE_PROCESS, Peer, VARNISH};
use crate::process::{Doing, Failure, end, output, root};
use site::{Dice, Origin, Seen};

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
    /// Of 1,000 responses out of its store, so many are certain at least.
    certain_min: usize,
}

const CASES: &[Case] = &[
    Case {
        name: "nginx",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "",
        known: "refreshes = \"openly\"\nrevalidates = false",
        origin_log: false,
        certain_min: 800,
    },
    Case {
        name: "nginx, one fetch at a time, stale while it lasts",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "proxy_cache_lock on; proxy_cache_use_stale updating;",
        known: "refreshes = \"openly\"\nrevalidates = false",
        origin_log: false,
        certain_min: 950,
    },
    Case {
        name: "nginx, revalidating",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "proxy_cache_revalidate on;",
        known: "refreshes = \"openly\"\nrevalidates = true",
        origin_log: false,
        certain_min: 800,
    },
    Case {
        name: "nginx, updating in the background",
        peer: &NGINX_OF_ONE_PROCESS,
        configured: "proxy_cache_lock on; proxy_cache_use_stale updating; proxy_cache_background_update on;",
        known: "refreshes = \"behind_stale\"\nrefresh_delay_max = \"50ms\"\nrevalidates = false",
        origin_log: true,
        certain_min: 900,
    },
    Case {
        name: "varnish, with grace",
        peer: &VARNISH,
        configured: "sub vcl_backend_fetch { unset bereq.http.If-None-Match; }",
        known: "refreshes = \"behind_any\"\nrevalidates = false",
        origin_log: true,
        certain_min: 1000,
    },
    Case {
        name: "varnish, with grace, revalidating",
        peer: &VARNISH,
        configured: "",
        known: "refreshes = \"behind_any\"\nrevalidates = true",
        origin_log: true,
        certain_min: 600,
    },
];

/// What nginx is told: everything for a second, whoever asks.
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
        proxy_cache_valid 200 1s;
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
    set beresp.ttl = 1s;
    set beresp.grace = 3s;
    set beresp.uncacheable = false;
    return (deliver);
}
@MORE@
"#;

const VARNISH_LOG: &str = r#"%t %D "%r" %s %{Varnish:handling}x "%{X-Varnish}o" %{VSL:Link[2]}x "%{Cookie}i" "%{X-Number}i""#;

/// How long clients ask, and how often all of them together.
const LASTS: Duration = Duration::from_secs(9);
const PER_SECOND: u64 = 250;

/// Fewer responses out of a store prove nothing.
const SHARED_MIN: usize = 500;

/// Of 100 lines, so many are taken away.
const LOST: u64 = 20;

/// # Errors
/// An answer was wrong, a cache did not do what it is here for, or something did not run.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    edge::build()?;
    println!(
        "{:<50} {:>9} {:>7} {:>8} {:>13} {:>13}",
        "cache", "responses", "shared", "certain", "alternatives", "latest miss"
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
    let origin = Origin::start()?;
    let (template, log_format) = match case.is_nginx() {
        true => (NGINX, NGINX_LOG),
        false => (VARNISH_VCL, VARNISH_LOG),
    };
    let text = template.replace("@MORE@", case.configured);
    let running = case.peer.start(origin.address, &text)?;
    let mut beside = None;
    if !case.is_nginx() {
        let arguments = [
            "-n",
            "@FOLDER@/work",
            "-F",
            log_format,
            "-w",
            "@FOLDER@/access.log",
        ];
        beside = Some(running.beside("usr/bin/varnishncsa", &arguments)?);
        std::thread::sleep(Duration::from_millis(500));
    }
    let seen = site::ask(running.address(), LASTS, PER_SECOND)?;
    let log = whole_log(&seen, || running.wrote("access.log"))
        .map_err(|failure| Failure::new(format!("{failure}: {}", running.wrote("printed.log"))))?;
    if let Some(child) = &mut beside {
        end(child);
    }
    drop(running);
    let logs = Logs {
        case,
        folder: folder.to_owned(),
        log_format,
        cache: log,
        origin: origin.log(),
    };
    let told = logs.infer("whole", true)?;
    let judged = told.judged(&seen)?;
    if judged.shared < SHARED_MIN {
        return Err(Failure::new(format!(
            "only {} responses came from its store",
            judged.shared
        )));
    }
    let certain = judged.certain * 1000 / judged.shared;
    if certain < case.certain_min {
        return Err(Failure::new(format!(
            "of 1,000 responses out of its store only {certain} are certain, {} were to be",
            case.certain_min
        )));
    }
    // The same with lines lost: nothing is certain any more, and nothing wrong.
    let lost = logs.without_some(LOST).infer("lost", false)?;
    let after = lost.judged(&seen)?;
    if after.certain > 0 {
        return Err(Failure::new("a log with lost lines made something certain"));
    }
    Ok(format!(
        "{:>9} {:>7} {:>6}.{} % {:>10}.{:02} {:>10} %",
        seen.len(),
        judged.shared,
        certain / 10,
        certain % 10,
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

/// The log, once every response is in it.
fn whole_log(seen: &[Seen], read: impl Fn() -> String) -> Result<String, Failure> {
    for _ in 0..100 {
        let log = read();
        if log.ends_with('\n')
            && log.lines().filter(|line| number_of(line).is_some()).count() >= seen.len()
        {
            return Ok(log);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let lines = read().lines().count();
    Err(Failure::new(format!(
        "its log has {lines} lines, and {} responses were received",
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
    cache: String,
    origin: String,
}

impl Logs<'_> {
    fn without_some(&self, of_100: u64) -> Self {
        let mut dice = Dice::new(7);
        let mut kept = |text: &str| {
            let lines = text.lines().filter(|_| dice.below(100) >= of_100);
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        Self {
            cache: kept(&self.cache),
            origin: kept(&self.origin),
            folder: self.folder.clone(),
            ..*self
        }
    }

    /// What the command makes of them.
    fn infer(&self, name: &str, is_complete: bool) -> Result<Told, Failure> {
        let folder = self.folder.join(name);
        let write = |file: &str, text: &str| {
            fs::write(folder.join(file), text).doing(format_args!("writing {file}"))
        };
        fs::create_dir_all(&folder).doing("making a folder")?;
        write("access.log", &self.cache)?;
        write("origin.log", &self.origin)?;
        write("site.toml", &self.site(is_complete))?;
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
        let lines = self.cache.lines().map(str::to_owned).collect();
        Ok(Told {
            views: views.map_err(|error| Failure::new(format!("views.jsonl: {error}")))?,
            lines,
        })
    }

    /// What is known of the cache: it began empty, and its clock is the origin's.
    fn site(&self, is_complete: bool) -> String {
        let Case {
            known, origin_log, ..
        } = self.case;
        let complete = match is_complete {
            true => {
                "complete = \"the test has counted its lines\"\n\
                 covers = [\"2020-01-01 00:00\", \"2099-01-01 00:00\"]\n"
            }
            false => "",
        };
        let form = if self.case.is_nginx() {
            "nginx"
        } else {
            "varnish"
        };
        let mut text = format!(
            "version = 1\nhost = \"peer.test\"\nsession = \"sid\"\n\
             [cache]\nreplaces = true\nshares_unstored = false\nfetch_max = \"5s\"\ntransit_max = \"20ms\"\n\
             whole_before_end = \"1ms\"\n{known}\n\
             [[purge]]\nfrom = \"2020-01-02 00:00\"\n\
             [[log]]\nfiles = [\"access.log\"]\nstore = \"edge\"\nmisses_are_stored = true\nlag_max = \"0ms\"\n\
             format = \"{form}\"\nlog_format = '{}'\n{complete}",
            self.log_format
        );
        if *origin_log {
            text.push_str(&format!(
                "[[log]]\nof = \"origin\"\nfiles = [\"origin.log\"]\nmisses_are_stored = true\nformat = \"json\"\n\
                 log_format = '''\n{}'''\n{complete}",
                site::MAPPING
            ));
        }
        text
    }
}

/// What was made of logs: a view for each line of the cache's.
struct Told {
    views: Vec<Value>,
    lines: Vec<String>,
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
            Some((number_of(self.lines.get(line.checked_sub(1)?)?)?, view))
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
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        let mut right = 0;
        for (number, view) in self.numbered() {
            let Some(seen) = seen.get(&number) else {
                continue;
            };
            if view["served"] == "fetched" {
                latest.insert(&seen.path, seen.viewer);
            } else {
                right += usize::from(latest.get(seen.path.as_str()) == Some(&seen.owner));
            }
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
