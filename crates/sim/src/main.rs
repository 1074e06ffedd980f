//! A seeded world of members, origins and faults around the real edge, with checkers that know
//! nothing of it.
//!
//! For: the claim that everything rests on. Change only member A's secrets, run the same schedule
//! again, and everything that others observe is the same, byte for byte, whatever the policy says and
//! however the origins behave. What is not compared is a closed list ([`declassified`]).
//!
//! Never: real time, threads within a schedule, a hash map's order. A run depends on its seed alone.

mod account;
mod batch;
mod check;
mod declassified;
mod http2;
#[cfg(test)]
mod leak;
mod origin;
mod pins;
mod pipe;
mod policy;
mod reel;
mod rng;
mod rows;
mod schedule;
mod secret;
mod show;
mod sockets;
mod wire;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use crate::batch::Among;
use crate::schedule::{Protocol, Schedule};
use crate::show::say;

/// Runs schedules of members, origins and faults against the real edge.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    what: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many schedules, each twice, and judges them.
    Run {
        #[arg(long, default_value_t = 10_000)]
        schedules: u64,
        /// The batch's seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 2)]
        threads: u64,
    },
    /// Runs one schedule again and tells what happened.
    Replay {
        seed: u64,
        /// Prints every byte.
        #[arg(long)]
        verbose: bool,
    },
    /// Looks for the smallest schedule that still fails.
    Shrink { seed: u64 },
    /// Runs schedules over real sockets, one request after the other.
    Sockets {
        #[arg(long, default_value_t = 300)]
        schedules: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Plays sessions of many members against owner pinning: ordinary ones are no fault, and answers as
    /// somebody else are found.
    Pins {
        /// Logins, logouts and account switches.
        #[arg(long, default_value_t = 1_000_000)]
        changes: u64,
        /// Answers as somebody else among them, about.
        #[arg(long, default_value_t = 1_000)]
        plants: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Plants each seeded fault and looks whether it is found, also where all speak HTTP/2.
    Faults {
        #[arg(long, default_value_t = 4_000)]
        schedules: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().what {
        Command::Run {
            schedules,
            seed,
            threads,
        } => many(seed, schedules, threads),
        Command::Replay { seed, verbose } => replay(seed, verbose),
        Command::Shrink { seed } => shrink(seed),
        Command::Sockets { schedules, seed } => over_sockets(seed, schedules),
        Command::Pins {
            changes,
            plants,
            seed,
        } => pins(seed, changes, plants),
        Command::Faults { schedules, seed } => faults(seed, schedules),
    }
}

fn many(seed: u64, schedules: u64, threads: u64) -> ExitCode {
    say(&format!(
        "base seed {seed}: {schedules} schedules on {threads} threads"
    ));
    let began = Instant::now();
    let progress = batch::every(schedules.div_ceil(10).max(1), |done| {
        say(&format!(
            "{done} schedules, {:.0} a second",
            rate(done, began)
        ));
    });
    let (totals, findings) = batch::many(seed, schedules, threads, progress);
    say(&format!(
        "{totals}; {:.0} schedules a second",
        rate(totals.schedules, began)
    ));
    for (seed, finding) in &findings {
        say(&format!(
            "FAILED {}: {}\n  again: cargo run --profile sim -p shikiri-sim -- replay {seed}",
            finding.checker, finding.what
        ));
    }
    match totals.control() {
        Err(finding) => {
            say(&format!("FAILED {}: {}", finding.checker, finding.what));
            ExitCode::FAILURE
        }
        Ok(()) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}

fn rate(done: u64, since: Instant) -> f64 {
    // Counts are far below what a float holds exactly.
    let done = u32::try_from(done).unwrap_or(u32::MAX);
    f64::from(done) / since.elapsed().as_secs_f64().max(0.001)
}

fn replay(seed: u64, verbose: bool) -> ExitCode {
    let schedule = Schedule::of(seed);
    show::schedule(&schedule);
    let (seen, judged) = batch::judge(&schedule);
    show::seen(&schedule, &seen, verbose);
    verdict(judged)
}

fn shrink(seed: u64) -> ExitCode {
    let Some((smallest, finding)) = batch::shrink(&Schedule::of(seed)) else {
        say(&format!("the schedule of seed {seed} does not fail"));
        return ExitCode::SUCCESS;
    };
    show::schedule(&smallest);
    let (seen, _) = batch::judge(&smallest);
    show::seen(&smallest, &seen, true);
    verdict(Err(finding))
}

fn verdict(judged: Result<(), check::Finding>) -> ExitCode {
    match judged {
        Ok(()) => {
            say("nothing found");
            ExitCode::SUCCESS
        }
        Err(finding) => {
            say(&format!("FAILED {}: {}", finding.checker, finding.what));
            ExitCode::FAILURE
        }
    }
}

fn over_sockets(seed: u64, schedules: u64) -> ExitCode {
    let (mut all_hits, mut failed) = (0, 0);
    for n in 0..schedules {
        let seed = batch::nth(seed, n);
        let (hits, judged) = sockets::judge(&Schedule::of(seed));
        all_hits += hits;
        if let Err(finding) = judged {
            failed += 1;
            say(&format!(
                "FAILED {}: {}\n  schedule {n}, seed {seed}",
                finding.checker, finding.what
            ));
        }
    }
    say(&format!(
        "{schedules} schedules over sockets, each twice: {all_hits} hits, {failed} failed"
    ));
    if failed == 0 && (all_hits > 0 || schedules < 100) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn pins(seed: u64, changes: u64, plants: u64) -> ExitCode {
    say(&format!("seed {seed}"));
    let began = Instant::now();
    let whole = pins::table::Game {
        seed,
        changes,
        plants,
        devices: 3_000,
        sessions_max: 10_000_000,
    };
    // The same with a table in which hardly anything has room: it must be silent, and finds what it can.
    let crowded = pins::table::Game {
        changes: changes / 10,
        sessions_max: 1_000,
        plants: 0,
        ..whole
    };
    let mut wrong = Vec::new();
    let mut found = 0;
    // Each on its own: the large game takes as long as all others together.
    let (of_table, outcome) = std::thread::scope(|scope| {
        let whole = scope.spawn(|| pins::table::play(whole));
        let (crowded, outcome) = (pins::table::play(crowded), pins::edge::play(seed, 100, 100));
        let whole = whole.join().expect("a game does not panic");
        ([whole, crowded], outcome)
    });
    for outcome in of_table {
        say(&outcome.to_string());
        found += outcome.found;
        wrong.extend(outcome.false_alarms);
        wrong.extend(outcome.missed);
    }
    say(&outcome.to_string());
    wrong.extend(outcome.false_alarms);
    wrong.extend(outcome.missed);
    if found == 0 || outcome.stopped == 0 {
        wrong.push("no mix-up was found: silence proves nothing".to_owned());
    }
    for story in &wrong {
        say(&format!("FAILED {story}"));
    }
    say(&format!("{:.1} s", began.elapsed().as_secs_f64()));
    if wrong.is_empty() && outcome.faults == outcome.stopped {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn faults(seed: u64, schedules: u64) -> ExitCode {
    let mut all_caught = true;
    for among in [Among::All, Among::Only(Protocol::Http2)] {
        for (fault, caught) in batch::faults(seed, schedules, among) {
            let Some(batch::Caught { nth, seed, finding }) = caught else {
                all_caught = false;
                say(&format!(
                    "FAILED {fault:?}: not caught in {among:?} of {schedules} schedules"
                ));
                continue;
            };
            say(&format!(
                "{fault:?}, {among:?}: caught by `{}` in schedule {nth}, seed {seed}",
                finding.checker
            ));
        }
    }
    if all_caught {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
