//! `cargo xtask bench who`: `shikiri who` beside DuckDB, on the same files, asked the same.
//!
//! Never links what it measures: `who.py` asks both by turns, and ends where their answers are not equal.
//! What is read is in memory already: this says how fast it is computed, and nothing of a disk.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{Doing, Failure, line, output, root, run as run_command};
use crate::setup;

const ASK: &str = include_str!("who.py");

/// Where `--write` writes to.
const PAGE: &str = "docs/performance-who.md";

const USAGE: &str =
    "usage: cargo xtask bench who [--rows N[,N...]] [--runs N] [--into FOLDER] [--write]
  --rows N,N      how many responses the archives have (10000000); of two or more a slope is told
  --runs N        how often each is asked, and counted (5)
  --into FOLDER   where archives are made, and kept for the next time (target/bench-who)
  --write         write what was measured to docs/performance-who.md";

struct Asked {
    rows: Vec<u64>,
    runs: u64,
    into: PathBuf,
    writes: bool,
}

/// # Errors
/// An answer was not DuckDB's, or something could not be built or run.
pub(super) fn run(arguments: &[String]) -> Result<(), Failure> {
    let Some(asked) = asked(arguments)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let duckdb = setup::duckdb_path()?;
    // Each by itself: what else is built with it could turn on features in it.
    for build in [
        "cargo build --quiet --locked --release -p shikiri --features archive",
        "cargo build --quiet --locked --release -p shikiri-archive --features sample \
         --example archive-store",
    ] {
        run_command(&mut line(build))?;
    }
    let release = root().join("target/release");
    let mut measured = Vec::new();
    for rows in &asked.rows {
        let folder = asked.into.join(rows.to_string());
        fs::create_dir_all(&folder).doing(format_args!("making {}", folder.display()))?;
        let mut make = Command::new(release.join("examples/archive-store"));
        run_command(make.arg(&folder).arg(rows.to_string()))?;
        let mut python = Command::new("python3");
        python
            .args(["-c", ASK])
            .arg(&folder)
            .arg(release.join("shikiri"))
            .arg(asked.runs.to_string())
            .env("PYTHONPATH", &duckdb);
        let text = output(&mut python)?;
        let found = serde_json::from_slice(&text)
            .map_err(|error| Failure::new(format!("who.py printed no JSON: {error}")))?;
        println!("{}", table(&found));
        measured.push(found);
    }
    let page = page(&asked, &measured, &machine());
    if asked.writes {
        let path = root().join(PAGE);
        fs::write(&path, page).doing(format_args!("writing {}", path.display()))?;
        println!("written to {PAGE}");
    } else {
        print!("{}", slope(&measured));
    }
    Ok(())
}

fn asked(arguments: &[String]) -> Result<Option<Asked>, Failure> {
    let usage = || Failure::new(USAGE);
    let mut asked = Asked {
        rows: vec![10_000_000],
        runs: 5,
        into: root().join("target/bench-who"),
        writes: false,
    };
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(usage);
        match flag.as_str() {
            "--rows" => {
                let numbers = value()?.split(',').map(str::parse);
                let numbers: Result<Vec<u64>, _> = numbers.collect();
                asked.rows = numbers.map_err(|_| usage())?;
            }
            "--runs" => asked.runs = value()?.parse().map_err(|_| usage())?,
            "--into" => asked.into = value()?.into(),
            "--write" => asked.writes = true,
            "--help" => return Ok(None),
            _ => return Err(usage()),
        }
    }
    let fit = asked.runs > 0 && !asked.rows.is_empty() && !asked.rows.contains(&0);
    // An archive's path stands in statements.
    asked.into = std::path::absolute(&asked.into).doing("naming a folder")?;
    if !fit || asked.into.to_string_lossy().contains('\'') {
        return Err(usage());
    }
    Ok(Some(asked))
}

/// What one archive was asked.
fn table(found: &Value) -> String {
    let asked = &found["asked"];
    let responses = number(&asked["responses"]);
    let mut text = format!(
        "### {} responses\n\n{} days of {} nodes, {:.0} MB, {:.1} bytes a response.\n\n\
         | question | rows | `shikiri who`, s | CPU, s | MB | DuckDB asked, s | CPU, s | DuckDB as a process, s | CPU, s | MB | asked ÷ ours | process ÷ ours |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        grouped(responses as u64),
        asked["days"],
        asked["nodes"],
        number(&asked["bytes"]) / 1e6,
        number(&asked["bytes"]) / responses,
    );
    for it in found["questions"].as_array().into_iter().flatten() {
        let (ours, warm, whole) = (&it["ours"], &it["warm"], &it["whole"]);
        let both = |one: &Value| {
            format!(
                "{:.3} / {:.3}",
                number(&one["best"]),
                number(&one["median"])
            )
        };
        let cpu = |one: &Value| format!("{:.3}", number(&one["cpu"]));
        let mb = |one: &Value| format!("{:.0}", number(&one["kib"]) / 1000.0 * 1.024);
        let ratio =
            |one: &Value| format!("{:.1}", number(&one["median"]) / number(&ours["median"]));
        let cells = [
            it["question"].as_str().unwrap_or_default().to_owned(),
            grouped(number(&it["rows"]) as u64),
            both(ours),
            cpu(ours),
            mb(ours),
            both(warm),
            cpu(warm),
            both(whole),
            cpu(whole),
            mb(whole),
            ratio(warm),
            ratio(whole),
        ];
        writeln!(text, "| {} |", cells.join(" | ")).expect("a string can be written to");
    }
    text
}

/// What a billion would take, by the line through the two largest archives.
fn slope(measured: &[Value]) -> String {
    const BILLION: f64 = 1e9;
    let [.., less, more] = measured else {
        return String::new();
    };
    let rows = |of: &Value| number(&of["asked"]["responses"]);
    let span = rows(more) - rows(less);
    if span <= 0.0 {
        return String::new();
    }
    let mut text = format!(
        "## A billion\n\nNot measured: the line through {} and {} responses, to 1,000,000,000 on the same two cores, in seconds \
         (median) and gigabytes.\n\n| what | `shikiri who` | DuckDB asked |\n|---|---|---|\n",
        grouped(rows(less) as u64),
        grouped(rows(more) as u64),
    );
    let at = |of: &dyn Fn(&Value) -> f64| {
        let (first, last) = (of(less), of(more));
        last + (last - first) / span * (BILLION - rows(more))
    };
    let questions = more["questions"].as_array().map_or(0, Vec::len);
    for n in 0..questions {
        let of = |who: &'static str| {
            at(&move |found: &Value| number(&found["questions"][n][who]["median"]))
        };
        let question = more["questions"][n]["question"].as_str();
        writeln!(
            text,
            "| {} | {:.2} | {:.2} |",
            question.unwrap_or_default(),
            of("ours"),
            of("warm")
        )
        .expect("a string can be written to");
    }
    let bytes = at(&|found: &Value| number(&found["asked"]["bytes"]));
    writeln!(text, "| the archive, GB | {0:.1} | {0:.1} |", bytes / 1e9)
        .expect("a string can be written to");
    text.push_str(
        "\nFiles are by day and node, so that the work can be divided: what engines of a cluster are told stands in\n\
         [evidence-format.md](evidence-format.md#asking-it).\n",
    );
    text
}

fn page(asked: &Asked, measured: &[Value], machine: &str) -> String {
    let rows: Vec<String> = asked.rows.iter().map(u64::to_string).collect();
    let first = measured.first().unwrap_or(&Value::Null);
    let mut text = format!(
        "# Who saw whose: how fast it is answered\n\n\
         `cargo xtask bench who --rows {} --runs {} --write` has written this page. It makes archives as a busy store would have\n\
         them: the busiest hour (a thousand responses a second) of each day on each of two nodes, 68,898 members, 27,000 shared\n\
         objects by Zipf's law, all 28 columns. It asks `shikiri who` and DuckDB {} from its Python package the same of the same\n\
         files, by turns, and fails where the answers are not equal, row by row.\n\n\
         - Machine: {machine}.\n\
         - Seconds are the best and the median of {} rounds after one that is not counted; CPU seconds are the median; MB the most\n  \
           memory that any round took. Files are in the system's memory already.\n\
         - **`shikiri who`** is timed as a whole process, from its start to its end. **DuckDB asked** is one statement in a connection that\n  \
           is open, knows the files' metadata and has two threads. **DuckDB as a process** is what a person waits for: starting Python\n  \
           and loading DuckDB ({:.2} s of it), asking, ending. All write their answers to files, as CSV.\n\
         - The thousand objects are every twentieth of 20,000 pages; the window is the middle half of the time. The last two\n  \
           questions are of all time.\n\n",
        rows.join(","),
        asked.runs,
        first["duckdb"].as_str().unwrap_or_default(),
        asked.runs,
        number(&first["starting"]["median"]),
    );
    for found in measured {
        text.push_str(&table(found));
        text.push('\n');
    }
    text.push_str(&slope(measured));
    text
}

/// What this runs on, where the system tells.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    let (processor, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib = after(&memory, "MemTotal");
    let kib: f64 = kib.trim_end_matches(" kB").parse().unwrap_or(0.0);
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores ({}), {:.0} GB of memory, load {} when it ended",
        after(&processor, "model name"),
        kib / 1e6 * 1.024,
        load.split(' ').next().unwrap_or("unknown"),
    )
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// `1,000,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(responses: u64, ours: f64) -> Value {
        let one =
            |median: f64| json!({"best": median, "median": median, "cpu": median, "kib": 1000});
        json!({
            "duckdb": "2",
            "asked": {"responses": responses, "bytes": responses * 16, "days": 1, "nodes": 2},
            "starting": one(0.2),
            "questions": [{
                "question": "q", "rows": 1234567,
                "ours": one(ours), "warm": one(ours * 4.0), "whole": one(ours * 6.0),
            }],
        })
    }

    #[test]
    fn a_table_says_how_much_faster_and_a_slope_goes_on_to_a_billion() {
        let measured = [found(10_000_000, 0.5), found(100_000_000, 1.0)];
        let text = table(&measured[0]);
        assert!(text.contains("### 10,000,000 responses"), "{text}");
        assert!(text.contains("16.0 bytes a response"), "{text}");
        assert!(text.contains("| 1,234,567 | 0.500 / 0.500 |"), "{text}");
        assert!(text.contains("| 4.0 | 6.0 |"), "{text}");
        let text = slope(&measured);
        assert!(text.contains("| q | 6.00 | 24.00 |"), "{text}");
        assert!(text.contains("| 16.0 | 16.0 |"), "{text}");
        assert_eq!(slope(&measured[..1]), "");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            "--rows",
            "--rows 0",
            "--rows 1,x",
            "--runs 0",
            "--into a'b",
            "--x",
        ] {
            let words: Vec<String> = bad.split(' ').map(str::to_owned).collect();
            assert!(asked(&words).is_err(), "{bad}");
        }
        let words = ["--rows", "1,20", "--write"].map(str::to_owned);
        let asked = asked(&words).ok().flatten().expect("it is known");
        assert_eq!((asked.rows, asked.writes), (vec![1, 20], true));
    }
}
