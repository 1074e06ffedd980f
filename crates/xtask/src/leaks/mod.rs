//! Published leaks, re-enacted: every script of `tests/leaks` against a cache, in three ways and
//! under several policies.
//!
//! What judges a cache shares no code with it: the origin, the clients and the reading of HTTP are
//! all here, over sockets, and know nothing of how a cache decides. `docs/leak-scripts.md` describes
//! the scripts.
//!
//! Invariant: silence is not safety. A cell is safe only when something public was served from the
//! cache on the same set-up; otherwise it is void, and a void cell fails the run like a leak.

mod cache;
mod cell;
mod client;
mod judge;
mod matrix;
mod notes;
mod origin;
mod page;
mod picture;
mod script;
#[cfg(test)]
mod tests;
mod theirs;
mod tls;
mod token;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

pub(crate) use cache::CARELESS;
pub(crate) use origin::Origin;
pub(crate) use tls::write_files as write_certificates;

use cache::{Cache, Ours};
use cell::{Outcome, Verdict, Way};
use script::{Over, Script};
use tls::Bridge;

use crate::process::{Doing, Failure, line, root, run as run_command};

const USAGE: &str = "\
usage: cargo xtask leaks [--case NAME]... [--way a|b|c] [--policy NAME] [--over clear,tls,h2] [--stir]
                         [--show] [--jobs N] [--binary FILE] [--folder FOLDER]
       cargo xtask leaks --peers all|NAME,... [--configs NAME,...] [--repeat N] [--small] [--write]
                         [the others of above, but for --policy, --over and --stir]

Plays the scripts of tests/leaks against the edge: every case in every way (a: one after another,
b: overlapping, c: all viewers on one connection) under every policy that it names. With --peers,
against the caches that people run today, and prints the matrix.

  --case NAME      only the cases whose name starts so
  --policy NAME    only this policy: default, careless, or one of a script's own
  --over NAMES     what the clients speak: clear (HTTP/1.1), tls (the same in TLS), h2 (HTTP/2 in TLS);
                   clear when not given
  --stir           in the midst of each script: a reload, then the mode pass, then open again
  --peers NAMES    all, or some of shikiri, nginx, varnish, squid, trafficserver, apache, haproxy
  --configs NAMES  some of default, careless (shikiri's), packaged, hurried, expert (the others')
  --repeat N       each cell so often (3)
  --small          shikiri, nginx and varnish, each cell once
  --write          writes docs/re-enactments.md, its picture and its part of README.md; only of the whole
                   matrix
  --show           with the traffic of every cell
  --jobs N         so many cells at once (8)
  --binary FILE    this edge; without it, target/debug/shikiri is built
  --folder FOLDER  the scripts of this folder

docs/leak-scripts.md describes the scripts, docs/re-enactments.md what came of them.";

/// Cells mostly wait: more at once than there are cores.
const JOBS: usize = 8;
/// How often a cell is run at most until it says something.
const TRIES_OF_VOID: usize = 3;

struct Options {
    cases: Vec<String>,
    way: Option<Way>,
    policy: Option<String>,
    over: Vec<Over>,
    stir: bool,
    show: bool,
    /// So many cells at once; without a number, what suits what is run.
    jobs: Option<usize>,
    matrix: Option<matrix::Options>,
    /// Built when none is given.
    binary: Option<PathBuf>,
    folder: PathBuf,
}

fn options(arguments: &[String]) -> Result<Options, Failure> {
    let mut options = Options {
        cases: Vec::new(),
        way: None,
        policy: None,
        over: vec![Over::Clear],
        stir: false,
        show: false,
        jobs: None,
        matrix: None,
        binary: None,
        folder: root().join("tests/leaks"),
    };
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        match flag.as_str() {
            "--show" => options.show = true,
            "--stir" => options.stir = true,
            "--small" => options.matrix.get_or_insert_default().small(),
            "--write" => options.matrix.get_or_insert_default().write = true,
            _ => {}
        }
        if ["--show", "--stir", "--small", "--write"].contains(&flag.as_str()) {
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| Failure::new(format!("{flag} is not known or has no value")))?;
        match flag.as_str() {
            "--case" => options.cases.push(value.clone()),
            "--way" => {
                let way = Way::ALL.into_iter().find(|way| way.to_string() == *value);
                options.way = Some(way.ok_or_else(|| {
                    Failure::new(format!("`{value}` is no way; write a, b or c"))
                })?);
            }
            "--peers" => options.matrix.get_or_insert_default().peers(value)?,
            "--configs" => options
                .matrix
                .get_or_insert_default()
                .configurations(value)?,
            "--repeat" => {
                options.matrix.get_or_insert_default().repetitions = value
                    .parse()
                    .map_err(|_| Failure::new("--repeat needs a number"))?;
            }
            "--policy" => options.policy = Some(value.clone()),
            "--over" => options.over = over(value)?,
            "--jobs" => {
                let jobs = value.parse();
                options.jobs = Some(jobs.map_err(|_| Failure::new("--jobs needs a number"))?);
            }
            "--binary" => options.binary = Some(value.into()),
            "--folder" => options.folder = value.into(),
            _ => return Err(Failure::new(format!("`{flag}` is not known"))),
        }
    }
    Ok(options)
}

fn over(names: &str) -> Result<Vec<Over>, Failure> {
    let named = |name: &str| {
        let over = Over::ALL.into_iter().find(|over| over.name() == name);
        over.ok_or_else(|| Failure::new(format!("`{name}` is nothing to speak: clear, tls or h2")))
    };
    names.split(',').map(named).collect()
}

/// # Errors
/// A cell leaks or is void, a script has a fault, or an argument is not known.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = options(arguments)?;
    let scripts = read(&options)?;
    let binary = if let Some(binary) = &options.binary {
        binary.clone()
    } else {
        run_command(&mut line("cargo build --quiet -p shikiri"))?;
        root().join("target/debug/shikiri")
    };
    if let Some(wanted) = &options.matrix {
        let ours = Ours {
            binary,
            bridge: None,
        };
        return matrix::run(&scripts, &options, wanted, &ours);
    }
    let spoken = spoken(&scripts, &options);
    let cells = cells(&spoken, &options);
    if cells.is_empty() {
        return Err(Failure::new("no case, way and policy is as asked"));
    }
    let begun = Instant::now();
    let mut tally = Tally::default();
    let needs_bridge = options.over.iter().any(|over| *over != Over::Clear);
    let bridge = needs_bridge.then(Bridge::start).transpose();
    let bridge = bridge.map_err(Failure::new)?;
    let ours = Ours {
        binary,
        bridge: bridge.as_ref().map(|bridge| bridge.address),
    };
    for over in &options.over {
        sees(&ours, *over)?;
    }
    for (cell, outcome) in run_all(&ours, &cells, options.jobs.unwrap_or(JOBS)) {
        let verdict = tally.count(&outcome.verdict);
        let Cell {
            script,
            policy,
            way,
        } = &cell;
        let over = script.over.name();
        println!("{:<42} {over:<5} {way} {policy:<18} {verdict}", script.name);
        if let Verdict::Leak(found) = &outcome.verdict {
            println!("{}", describe(found, &outcome));
            println!(
                "  replay: cargo xtask leaks --case {} --over {over} --way {way} --policy {policy} --show{}",
                script.name,
                if options.stir { " --stir" } else { "" }
            );
        }
        if options.show {
            println!("{}", traffic(&outcome));
        }
    }
    let Tally {
        safe,
        leaks,
        void,
        not_applicable,
    } = tally;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "leaks: {} cases; of {} cells {safe} are safe, {leaks} leak, {void} are void, {not_applicable} do not apply; {seconds:.0} s",
        scripts.len(),
        cells.len(),
    );
    if leaks + void == 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{leaks} cells leak and {void} are void"
    )))
}

#[derive(Debug, Default)]
struct Tally {
    safe: usize,
    leaks: usize,
    void: usize,
    not_applicable: usize,
}

impl Tally {
    /// Counts a verdict, and names it.
    fn count(&mut self, verdict: &Verdict) -> String {
        match verdict {
            Verdict::Safe => {
                self.safe += 1;
                "safe".to_owned()
            }
            Verdict::Leak(_) => {
                self.leaks += 1;
                "LEAK".to_owned()
            }
            Verdict::Void(why) => {
                self.void += 1;
                format!("void: {}", why.trim())
            }
            // These are other caches' alone, and the matrix counts them.
            Verdict::NotCacheable(why) | Verdict::Unanswered(why) => {
                self.void += 1;
                format!("void: {why}")
            }
            Verdict::Old(_) => {
                self.leaks += 1;
                "OLD".to_owned()
            }
            Verdict::NotApplicable => {
                self.not_applicable += 1;
                "does not apply".to_owned()
            }
        }
    }
}

/// One cell to run.
#[derive(Clone, Debug)]
struct Cell<'a> {
    script: &'a Script,
    policy: String,
    way: Way,
}

fn read(options: &Options) -> Result<Vec<Script>, Failure> {
    let entries = std::fs::read_dir(&options.folder).doing(options.folder.display())?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "leak"))
        .collect();
    paths.sort();
    let mut scripts = Vec::new();
    for path in paths {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !options.cases.is_empty() && !options.cases.iter().any(|case| name.starts_with(case)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).doing(path.display())?;
        let script = script::parse(&name, &text);
        scripts.push(script.map_err(|why| Failure::new(format!("{}: {why}", path.display())))?);
    }
    Ok(scripts)
}

/// An origin that is wrong by itself: whatever is in front of it, the judge must see that.
const WRONG: &str = "\
title      An origin that shows everybody what is alice's
mechanism  M40
legality   uncovered: RFC 9111 does not speak of origins
cure       None; it is there to be seen.
identity   cookie sid
control    GET /logo.css

origin
  route GET /logo.css
    header Content-Type: text/css
    header Cache-Control: public, max-age=60
    body a { color: red }
  route GET /field
    header X-Name: {for alice}
    unstamped
  route GET /body
    unstamped
    body {for alice}
  route GET /trailer
    header Trailer: X-Name
    framing chunked
    trailer X-Name: {for alice}
    unstamped
    body none

steps
  bob GET /field
  bob GET /body
  bob GET /trailer
    header TE: trailers
    header Connection: te
";

/// Sees that the judge is shown what comes to clients that speak so: silence would not be safety.
fn sees(ours: &Ours, over: Over) -> Result<(), Failure> {
    let script = script::parse("wrong-origin", WRONG).map_err(Failure::new)?;
    let script = script.over(over).map_err(Failure::new)?;
    let outcome = cell::run(ours, &script, "default", Way::SameConnection);
    let found = match &outcome.verdict {
        Verdict::Leak(leaks) => leaks.len(),
        _ => 0,
    };
    if found == script.steps.len() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "over {}, {found} of {} leaks of a wrong origin are seen: {:?}{}",
        over.name(),
        script.steps.len(),
        outcome.verdict,
        traffic(&outcome)
    )))
}

/// The scripts with their clients speaking what is asked for. Those that cannot be played so are named.
fn spoken(scripts: &[Script], options: &Options) -> Vec<Script> {
    let mut spoken = Vec::new();
    for over in &options.over {
        let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for script in scripts {
            match script.over(*over) {
                Ok(script) if options.stir => spoken.push(script.stirred()),
                Ok(script) => spoken.push(script),
                Err(why) => others.entry(why).or_default().push(&script.name),
            }
        }
        for (why, names) in others {
            println!(
                "not over {}, since {why}: {}",
                over.name(),
                names.join(", ")
            );
        }
    }
    spoken
}

fn cells<'a>(scripts: &'a [Script], options: &Options) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for script in scripts {
        for policy in script
            .under
            .iter()
            .filter(|p| options.policy.as_ref().is_none_or(|o| o == *p))
        {
            for way in Way::ALL
                .into_iter()
                .filter(|way| options.way.is_none_or(|o| o == *way))
            {
                cells.push(Cell {
                    script,
                    policy: policy.clone(),
                    way,
                });
            }
        }
    }
    cells
}

/// Runs cells side by side; the outcomes come in the cells' order.
fn run_all<'a>(cache: &dyn Cache, cells: &[Cell<'a>], jobs: usize) -> Vec<(Cell<'a>, Outcome)> {
    let waiting: Mutex<VecDeque<(usize, &Cell<'a>)>> =
        Mutex::new(cells.iter().enumerate().collect());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some((n, cell)) = next else { return };
                    let outcome = judged(cache, cell);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((
                        n,
                        cell.clone(),
                        outcome,
                    ));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(n, _, _)| *n);
    done.into_iter()
        .map(|(_, cell, outcome)| (cell, outcome))
        .collect()
}

/// A void cell says nothing: on a busy machine what lives for a second is too old before it is asked for
/// again. It is run anew; what is void each time is void.
fn judged(cache: &dyn Cache, cell: &Cell<'_>) -> Outcome {
    let mut outcome = cell::run(cache, cell.script, &cell.policy, cell.way);
    for _ in 1..TRIES_OF_VOID {
        if !matches!(outcome.verdict, Verdict::Void(_)) {
            break;
        }
        outcome = cell::run(cache, cell.script, &cell.policy, cell.way);
    }
    outcome
}

/// What leaked: where it was issued and where it came out.
fn describe(leaks: &[judge::Leak], outcome: &Outcome) -> String {
    let mut text = String::new();
    for leak in leaks.iter().take(3) {
        let d = &outcome.delivered[leak.exchange];
        writeln!(text, "  line {}: {}", d.line, leak.what).expect("a string can be written to");
        if let Some(seen) = outcome.seen.iter().find(|seen| seen.number == leak.number) {
            text.push_str(&quoted("the origin was asked", &seen.request));
            text.push_str(&quoted("the origin answered", &seen.response));
        }
        text.push_str(&quoted(&format!("{} asked", d.viewer), &d.sent));
        text.push_str(&quoted(&format!("{} was given", d.viewer), &d.received));
    }
    if leaks.len() > 3 {
        write!(text, "  and {} more", leaks.len() - 3).expect("a string can be written to");
    }
    text.trim_end().to_owned()
}

/// Everything that was said, on both sides.
fn traffic(outcome: &Outcome) -> String {
    let mut text = String::new();
    for d in &outcome.delivered {
        text.push_str(&quoted(
            &format!("line {}: {} asked", d.line, d.viewer),
            &d.sent,
        ));
        text.push_str(&quoted("and was given", &d.received));
    }
    for seen in &outcome.seen {
        text.push_str(&quoted(
            &format!("the origin was asked (as {})", seen.owner),
            &seen.request,
        ));
        text.push_str(&quoted("and answered", &seen.response));
    }
    text.trim_end().to_owned()
}

fn quoted(what: &str, bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 1_500;
    let shown = String::from_utf8_lossy(bytes.get(..BYTES_MAX).unwrap_or(bytes));
    let mut text = format!("  {what}:\n");
    for line in shown.lines() {
        writeln!(text, "    {}", line.escape_debug()).expect("a string can be written to");
    }
    if bytes.len() > BYTES_MAX {
        writeln!(text, "    … {} bytes in all", bytes.len()).expect("a string can be written to");
    }
    text
}
