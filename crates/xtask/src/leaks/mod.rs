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
mod origin;
mod script;
#[cfg(test)]
mod tests;
mod token;
mod wire;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use cache::{Cache, Ours};
use cell::{Outcome, Verdict, Way};
use script::Script;

const USAGE: &str = "usage: cargo xtask leaks [--case NAME]... [--way a|b|c] [--policy NAME] [--show]
                         [--jobs N] [--binary FILE] [--folder FOLDER]

  Runs the scripts of tests/leaks against the edge: every case in every way (a: one after another,
  b: overlapping, c: all viewers on one connection) under every policy that it names.
  --case NAME     only cases whose name starts so
  --show          shows the traffic of every cell that is run
  --binary FILE   the edge; target/debug/shikiri when not given";

struct Options {
    cases: Vec<String>,
    way: Option<Way>,
    policy: Option<String>,
    show: bool,
    jobs: usize,
    binary: PathBuf,
    folder: PathBuf,
}

fn options(args: Vec<String>) -> Result<Options, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut options = Options {
        cases: Vec::new(),
        way: None,
        policy: None,
        show: false,
        // Cells mostly wait: more at once than there are cores.
        jobs: 8,
        binary: target.join("debug/shikiri"),
        folder: root.join("tests/leaks"),
    };
    let mut args = args.into_iter();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value\n\n{USAGE}"));
        match flag.as_str() {
            "--case" => options.cases.push(value()?),
            "--way" => {
                let letter = value()?;
                let way = Way::ALL.into_iter().find(|way| way.to_string() == letter);
                options.way = Some(way.ok_or_else(|| format!("`{letter}` is no way; write a, b or c"))?);
            }
            "--policy" => options.policy = Some(value()?),
            "--show" => options.show = true,
            "--jobs" => options.jobs = value()?.parse().map_err(|_| "--jobs needs a number".to_owned())?,
            "--binary" => options.binary = value()?.into(),
            "--folder" => options.folder = value()?.into(),
            _ => return Err(format!("`{flag}` is not known\n\n{USAGE}")),
        }
    }
    Ok(options)
}

/// Runs `cargo xtask leaks`.
///
/// # Errors
/// When a cell leaks or is void, when a script has a fault, or when an argument is not known.
pub(crate) fn run(args: Vec<String>) -> Result<(), String> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return say(USAGE);
    }
    let options = options(args)?;
    let scripts = read(&options)?;
    let cache = Ours { binary: options.binary.clone() };
    if !options.binary.exists() {
        return Err(format!("{} is not there; build it with `cargo build -p shikiri`", options.binary.display()));
    }
    let cells = cells(&scripts, &options);
    if cells.is_empty() {
        return Err("no cell is meant".to_owned());
    }
    let begun = Instant::now();
    let (mut safe, mut leaks, mut void) = (0, 0, 0);
    for (cell, outcome) in run_all(&cache, &cells, options.jobs) {
        let verdict = match &outcome.verdict {
            Verdict::Safe => {
                safe += 1;
                "safe".to_owned()
            }
            Verdict::Leak(_) => {
                leaks += 1;
                "LEAK".to_owned()
            }
            Verdict::Void(why) => {
                void += 1;
                format!("void ({})", why.trim())
            }
            Verdict::NotApplicable => "n/a".to_owned(),
        };
        say(&format!("{:<44} {} {:<10} {verdict}", cell.script.name, cell.way, cell.policy))?;
        if let Verdict::Leak(found) = &outcome.verdict {
            say(&describe(found, &outcome))?;
            say(&format!(
                "  replay: cargo xtask leaks --case {} --way {} --policy {} --show",
                cell.script.name, cell.way, cell.policy
            ))?;
        }
        if options.show {
            say(&traffic(&outcome))?;
        }
    }
    say(&format!(
        "{} cases, {safe} cells safe, {leaks} leaks, {void} void, in {:.1} s",
        scripts.len(),
        begun.elapsed().as_secs_f64()
    ))?;
    if leaks + void == 0 { Ok(()) } else { Err(format!("{leaks} cells leak, {void} are void")) }
}

/// One cell to run.
#[derive(Clone, Debug)]
struct Cell<'a> {
    script: &'a Script,
    policy: String,
    way: Way,
}

fn read(options: &Options) -> Result<Vec<Script>, String> {
    let entries = std::fs::read_dir(&options.folder).map_err(|e| format!("{}: {e}", options.folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "leak"))
        .collect();
    paths.sort();
    let mut scripts = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !options.cases.is_empty() && !options.cases.iter().any(|case| name.starts_with(case)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        scripts.push(script::parse(&name, &text).map_err(|why| format!("{}: {why}", path.display()))?);
    }
    Ok(scripts)
}

fn cells<'a>(scripts: &'a [Script], options: &Options) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for script in scripts {
        for policy in script.under.iter().filter(|p| options.policy.as_ref().is_none_or(|o| o == *p)) {
            for way in Way::ALL.into_iter().filter(|way| options.way.is_none_or(|o| o == *way)) {
                cells.push(Cell { script, policy: policy.clone(), way });
            }
        }
    }
    cells
}

/// Runs cells side by side; the outcomes come in the cells' order.
fn run_all<'a>(cache: &dyn Cache, cells: &[Cell<'a>], jobs: usize) -> Vec<(Cell<'a>, Outcome)> {
    let waiting: Mutex<VecDeque<(usize, &Cell<'a>)>> = Mutex::new(cells.iter().enumerate().collect());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((n, cell)) = next else { return };
                    let outcome = cell::run(cache, cell.script, &cell.policy, cell.way);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((n, cell.clone(), outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(n, _, _)| *n);
    done.into_iter().map(|(_, cell, outcome)| (cell, outcome)).collect()
}

/// What leaked: where it was issued and where it came out.
fn describe(leaks: &[judge::Leak], outcome: &Outcome) -> String {
    let mut text = String::new();
    for leak in leaks.iter().take(3) {
        let d = &outcome.delivered[leak.exchange];
        write!(text, "  line {}: {}\n", d.line, leak.what).expect("a string can be written to");
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
        text.push_str(&quoted(&format!("line {}: {} asked", d.line, d.viewer), &d.sent));
        text.push_str(&quoted("and was given", &d.received));
    }
    for seen in &outcome.seen {
        text.push_str(&quoted(&format!("the origin was asked (as {})", seen.owner), &seen.request));
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

fn say(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|e| format!("cannot write: {e}"))
}
