//! What those who change the code run: `cargo xtask COMMAND`. This file is the table of contents.
//!
//! Never part of what is shipped, and never linked with what it judges: it drives the other crates
//! as a person would, by their command lines and sockets.
//!
//! Invariant: nothing is skipped in silence. What cannot be done is a failure that says what to do.

#![expect(
    clippy::print_stdout,
    reason = "a task runner speaks to its caller on standard output"
)]

mod apps;
mod archive;
mod bench;
mod browser;
mod database;
mod dice;
mod edge;
mod framing;
mod fuzz;
mod idle;
mod judges;
mod leaks;
mod logs;
mod operations;
mod origin;
mod payments;
mod peers;
mod process;
mod setup;
mod sim;
mod soak;
mod test;
mod tidy;
mod tls;
mod up;

use std::process::ExitCode;

use process::Failure;

/// One `cargo xtask` command.
struct Task {
    name: &'static str,
    operands: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), Failure>,
}

const TASKS: &[Task] = &[
    Task {
        name: "setup",
        operands: "",
        about: "bring what the tests need into target/tools, without root",
        run: setup::run,
    },
    Task {
        name: "test",
        operands: "[--list] [PART...]",
        about: "setup, then every part of the tests, or the parts named",
        run: test::run,
    },
    Task {
        name: "tidy",
        operands: "",
        about: "hold the crate table and the house rules against the tree",
        run: tidy::run,
    },
    Task {
        name: "apps",
        operands: "",
        about: "two members and a visitor browse Django's admin through the edge",
        run: apps::run,
    },
    Task {
        name: "archive",
        operands: "",
        about: "evidence as Parquet: killed, on a full disk, in object storage, asked by DuckDB",
        run: archive::run,
    },
    Task {
        name: "browser",
        operands: "[WALK...]",
        about: "people in real browsers use the store of `shikiri up`; pictures in target/browser",
        run: browser::run,
    },
    Task {
        name: "bench",
        operands: "archive|visitors|who [ARGUMENT...]",
        about: "the archive's size and speed; 500 visitors at a slow store; who saw whose, beside DuckDB",
        run: bench::run,
    },
    Task {
        name: "database",
        operands: "[--whole]",
        about: "the member store's tests on a PostgreSQL that is started for them",
        run: database::run,
    },
    Task {
        name: "payments",
        operands: "[--whole]",
        about: "the store's client of Stripe against a stand-in for it",
        run: payments::run,
    },
    Task {
        name: "tls",
        operands: "",
        about: "outside scanners against an edge that speaks TLS and HTTP/2",
        run: tls::run,
    },
    Task {
        name: "framing",
        operands: "",
        about: "the request corpus and the smuggling prober against the edge",
        run: framing::run,
    },
    Task {
        name: "leaks",
        operands: "[ARGUMENT...]",
        about: "re-enact the published leaks (tests/leaks), against the edge or against others too",
        run: leaks::run,
    },
    Task {
        name: "judges",
        operands: "[--wcvs PATH]",
        about: "outside scanners against the edge and against nginx",
        run: judges::run,
    },
    Task {
        name: "peers",
        operands: "[NAME...]",
        about: "start the caches we are compared with, and see that each caches",
        run: peers::run,
    },
    Task {
        name: "logs",
        operands: "[CACHE...]",
        about: "nginx and Varnish leak, and their own logs are asked who saw whose",
        run: logs::run,
    },
    Task {
        name: "operations",
        operands: "",
        about: "the edge as those meet it who run it: metrics, restarts under load",
        run: operations::run,
    },
    Task {
        name: "soak",
        operands: "[--minutes N]",
        about: "everything at once for minutes: clients and evidence count the same; a closing, measured",
        run: soak::run,
    },
    Task {
        name: "idle",
        operands: "[h1] [tls] [h2]",
        about: "what ten thousand idle connections cost in memory",
        run: idle::run,
    },
    Task {
        name: "sim",
        operands: "[ARGUMENT...]",
        about: "the simulator, optimised: arguments go to shikiri-sim",
        run: sim::run,
    },
    Task {
        name: "fuzz",
        operands: "[--seconds N] [TARGET...]",
        about: "run the fuzz targets, two at a time (60 seconds each)",
        run: fuzz::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", help());
        return ExitCode::from(2);
    };
    if ["--help", "-h", "help"].contains(&name.as_str()) {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("xtask: no command is called {name:?}\n\n{}", help());
        return ExitCode::from(2);
    };
    // Those that take arguments of their own explain them themselves.
    let explains = ["leaks", "sim", "bench"].contains(&task.name);
    if rest.iter().any(|argument| argument == "--help") && !explains {
        print!("{}", usage(task));
        return ExitCode::SUCCESS;
    }
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND\n\n");
    for task in TASKS {
        let call = format!("{} {}", task.name, task.operands);
        text.push_str(&format!("  {call:<32} {}\n", task.about));
    }
    text.push_str("\ndocs/testing.md says what each part of the tests proves.\n");
    text
}

fn usage(task: &Task) -> String {
    format!(
        "usage: cargo xtask {} {}\n\n{}\n",
        task.name, task.operands, task.about
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command_once() {
        let text = help();
        for task in TASKS {
            let starts = text
                .lines()
                .filter(|line| line.trim_start().split(' ').next() == Some(task.name));
            assert_eq!(starts.count(), 1, "{}", task.name);
        }
    }
}
