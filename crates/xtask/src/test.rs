//! `cargo xtask test`: every part of the tests, in order, each within a budget of seconds.
//!
//! Never stops at the first failure: a person who waits for CI wants to know all that is wrong.
//!
//! Invariant: a part is exactly the lines that `--list` shows, so that each can be run by hand; the
//! last line says how many parts passed and how many failed, and the exit status agrees with it.
//! Why a part failed is said again at the end, where a reader of a long log looks.

use std::time::{Duration, Instant};

use crate::process::{Failure, line, output, run_within_keeping};

struct Part {
    name: &'static str,
    budget_s: u64,
    steps: &'static [Step],
}

enum Step {
    /// A command that must succeed.
    Passes(&'static str),
    /// A command that must fail, and say why: what must not build.
    Fails {
        command: &'static str,
        saying: &'static str,
    },
}

use Step::{Fails, Passes};

/// docs/testing.md says what each proves; a test holds it against this table.
const PARTS: &[Part] = &[
    Part {
        name: "setup",
        budget_s: 240,
        steps: &[Passes("cargo xtask setup")],
    },
    Part {
        name: "format",
        budget_s: 5,
        steps: &[
            Passes("cargo fmt --all --check"),
            Passes("cargo fmt --manifest-path fuzz/Cargo.toml --check"),
        ],
    },
    Part {
        name: "tidy",
        budget_s: 5,
        steps: &[Passes("cargo xtask tidy")],
    },
    Part {
        name: "lint",
        budget_s: 240,
        steps: &[
            Passes(
                "cargo clippy --locked --workspace --exclude shikiri-sim --all-targets \
                 --features shikiri/archive,shikiri/postgres -- -D warnings",
            ),
            // Apart: it turns on `seeded-faults`, and features of one build are united.
            Passes("cargo clippy --locked -p shikiri-sim --all-targets -- -D warnings"),
            // The shipped binary does not build with faults in it.
            Fails {
                command: "cargo check --quiet --locked -p shikiri -p shikiri-sim",
                saying: "this build has seeded faults",
            },
        ],
    },
    Part {
        name: "unit",
        budget_s: 420,
        steps: &[Passes(
            "cargo test --quiet --locked --workspace --exclude shikiri-sim \
             --features shikiri/archive,shikiri/postgres",
        )],
    },
    Part {
        name: "sim-unit",
        budget_s: 100,
        steps: &[Passes("cargo test --quiet --locked -p shikiri-sim")],
    },
    Part {
        name: "docs",
        budget_s: 40,
        steps: &[
            Passes(
                "RUSTDOCFLAGS=-Dwarnings cargo doc --quiet --locked --no-deps \
                 --document-private-items --workspace --exclude shikiri-sim",
            ),
            Passes(
                "cargo rustdoc --quiet --locked -p shikiri-record -- -D warnings -D missing_docs",
            ),
            Passes(
                "cargo rustdoc --quiet --locked -p shikiri-partition -- -D warnings -D missing_docs",
            ),
        ],
    },
    Part {
        name: "framing",
        budget_s: 90,
        steps: &[Passes("cargo xtask framing")],
    },
    Part {
        name: "leaks",
        budget_s: 240,
        steps: &[
            Passes("cargo xtask leaks"),
            Passes("cargo xtask leaks --over tls,h2 --stir"),
        ],
    },
    Part {
        name: "peers",
        budget_s: 200,
        steps: &[
            Passes("cargo xtask peers nginx varnish"),
            Passes("cargo xtask leaks --small"),
        ],
    },
    Part {
        name: "logs",
        budget_s: 165,
        steps: &[Passes("cargo xtask logs")],
    },
    Part {
        name: "archive",
        budget_s: 180,
        steps: &[Passes("cargo xtask archive")],
    },
    Part {
        name: "database",
        budget_s: 60,
        steps: &[Passes("cargo xtask database --whole")],
    },
    Part {
        name: "payments",
        budget_s: 20,
        steps: &[Passes("cargo xtask payments --whole")],
    },
    Part {
        name: "apps",
        budget_s: 60,
        steps: &[Passes("cargo xtask apps")],
    },
    Part {
        name: "browser",
        budget_s: 90,
        steps: &[Passes("cargo xtask browser")],
    },
    Part {
        name: "tls",
        budget_s: 50,
        steps: &[Passes("cargo xtask tls")],
    },
    Part {
        name: "operations",
        budget_s: 60,
        steps: &[Passes("cargo xtask operations")],
    },
    Part {
        name: "soak",
        budget_s: 60,
        steps: &[Passes("cargo xtask soak --seconds 25")],
    },
    Part {
        name: "two-run",
        budget_s: 560,
        steps: &[Passes("cargo xtask sim run --schedules 100000 --threads 2")],
    },
    Part {
        name: "faults",
        budget_s: 60,
        steps: &[Passes("cargo xtask sim faults")],
    },
    Part {
        name: "pins",
        budget_s: 160,
        steps: &[Passes("cargo xtask sim pins")],
    },
    Part {
        name: "sockets",
        budget_s: 120,
        steps: &[Passes("cargo xtask sim sockets")],
    },
    Part {
        name: "idle",
        budget_s: 90,
        steps: &[Passes("cargo xtask idle")],
    },
    Part {
        name: "fuzz",
        budget_s: 580,
        steps: &[Passes("cargo xtask fuzz --seconds 60")],
    },
];

/// On two cores, from a cold start.
const BUDGET_ALL_S: u64 = 65 * 60;
/// A machine with other things to do is slower; one that takes this many budgets hangs.
const BUDGETS_MAX: u32 = 3;
/// So many of a failed step's last lines are shown again at the end.
const LINES_OF_FAILURE: usize = 60;

/// # Errors
/// A part failed, or no part has a name that was given.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|argument| argument == "--list") {
        print!("{}", list());
        return Ok(());
    }
    let parts = named(arguments)?;
    let results: Vec<Done> = parts.into_iter().map(run_part).collect();
    print!("{}{}", failures(&results), table(&results));
    let failed = results.iter().filter(|done| done.failure.is_some()).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::new("see the parts that failed above"))
    }
}

/// The parts to run, in the table's order, with what they need: the tools come first.
fn named(names: &[String]) -> Result<Vec<&'static Part>, Failure> {
    let unknown = names
        .iter()
        .find(|name| PARTS.iter().all(|part| part.name != *name));
    if let Some(unknown) = unknown {
        return Err(Failure::new(format!(
            "no part is called {unknown}: see `cargo xtask test --list`"
        )));
    }
    let wanted = |part: &&Part| {
        names.is_empty() || part.name == "setup" || names.iter().any(|name| name == part.name)
    };
    Ok(PARTS.iter().filter(wanted).collect())
}

/// A part that has run.
struct Done {
    part: &'static Part,
    took: Duration,
    failure: Option<Failure>,
}

fn run_part(part: &'static Part) -> Done {
    println!("\n== {} (budget {} s)", part.name, part.budget_s);
    let begun = Instant::now();
    let limit = Duration::from_secs(part.budget_s).saturating_mul(BUDGETS_MAX);
    let failure = part
        .steps
        .iter()
        .find_map(|step| step.run(limit.saturating_sub(begun.elapsed())).err());
    if let Some(failure) = &failure {
        let failure = failure.to_string();
        println!(
            "{}: {}",
            part.name,
            failure.lines().next().unwrap_or_default()
        );
    }
    Done {
        part,
        took: begun.elapsed(),
        failure,
    }
}

impl Step {
    fn run(&self, within: Duration) -> Result<(), Failure> {
        match self {
            Passes(command) => run_within_keeping(&mut line(command), within, LINES_OF_FAILURE),
            Fails { command, saying } => match output(&mut line(command)) {
                Ok(_) => Err(Failure::new(format!("`{command}` must fail, and did not"))),
                Err(failure) if failure.to_string().contains(saying) => {
                    println!("$ {command}\n(it failed, as it must: {saying})");
                    Ok(())
                }
                Err(failure) => Err(failure),
            },
        }
    }
}

fn list() -> String {
    let mut text = String::new();
    for part in PARTS {
        text.push_str(&format!("{} ({} s)\n", part.name, part.budget_s));
        for step in part.steps {
            let (command, note) = match step {
                Passes(command) => (command, ""),
                Fails { command, .. } => (command, "  # must fail"),
            };
            text.push_str(&format!("    {command}{note}\n"));
        }
    }
    text
}

fn failures(results: &[Done]) -> String {
    let failure = |done: &Done| {
        let failure = done.failure.as_ref()?;
        Some(format!("\n== {} failed: {failure}\n", done.part.name))
    };
    results.iter().filter_map(failure).collect()
}

fn table(results: &[Done]) -> String {
    let mut text = format!("\n{:<10} {:>8} {:>8}\n", "part", "seconds", "budget");
    let mut row = |name: &str, took: Duration, budget_s: u64, outcome: &str| {
        let late = if took > Duration::from_secs(budget_s) {
            ", over its budget"
        } else {
            ""
        };
        let seconds = took.as_secs_f64();
        text.push_str(&format!(
            "{name:<10} {seconds:>8.1} {budget_s:>8}  {outcome}{late}\n"
        ));
    };
    for done in results {
        let outcome = if done.failure.is_some() {
            "FAILED"
        } else {
            "passed"
        };
        row(done.part.name, done.took, done.part.budget_s, outcome);
    }
    let took = results.iter().map(|done| done.took).sum();
    row("all", took, BUDGET_ALL_S, "");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::root;

    #[test]
    fn parts_are_chosen_by_name_in_the_tables_order_after_setup() {
        for (words, expected) in [
            ("tidy", Some(vec!["setup", "tidy"])),
            ("fuzz unit", Some(vec!["setup", "unit", "fuzz"])),
            ("setup", Some(vec!["setup"])),
            ("unit nothing", None),
        ] {
            let names: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let parts = named(&names).ok();
            let parts = parts.map(|parts| parts.iter().map(|part| part.name).collect::<Vec<_>>());
            assert_eq!(parts, expected, "{words}");
        }
        assert_eq!(named(&[]).map(|parts| parts.len()).ok(), Some(PARTS.len()));
    }

    #[test]
    fn the_parts_fit_into_the_whole() {
        let sum: u64 = PARTS.iter().map(|part| part.budget_s).sum();
        assert!(sum <= BUDGET_ALL_S, "{sum} s");
    }

    #[test]
    fn the_document_has_a_row_for_every_part_with_its_budget() {
        let document =
            std::fs::read_to_string(root().join("docs/testing.md")).expect("it is there");
        for Part { name, budget_s, .. } in PARTS {
            let row = format!("| `{name}` | {budget_s} |");
            assert!(document.contains(&row), "docs/testing.md has no row {row}");
        }
    }

    #[test]
    fn a_step_that_must_fail_fails_when_it_does_not_or_for_another_reason() {
        let limit = Duration::from_secs(60);
        for (step, passes) in [
            (Passes("true"), true),
            (Passes("false"), false),
            (
                Fails {
                    command: "true",
                    saying: "",
                },
                false,
            ),
            (
                Fails {
                    command: "ls /no-such-folder",
                    saying: "No such file",
                },
                true,
            ),
            (
                Fails {
                    command: "ls /no-such-folder",
                    saying: "some other reason",
                },
                false,
            ),
        ] {
            assert_eq!(step.run(limit).is_ok(), passes);
        }
    }

    #[test]
    fn the_table_shows_what_failed_and_what_was_late() {
        let done = |part, took_s, failure| Done {
            part,
            took: Duration::from_secs(took_s),
            failure,
        };
        let (late, failed) = (PARTS[1].budget_s + 1, Some(Failure::new("x")));
        let text = table(&[
            done(&PARTS[0], 1, None),
            done(&PARTS[1], late, None),
            done(&PARTS[2], 1, failed),
        ]);
        let rows: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert!(rows[1].ends_with("  passed"), "{text}");
        assert!(rows[2].ends_with("  passed, over its budget"), "{text}");
        assert!(rows[3].ends_with("  FAILED"), "{text}");
    }
}
