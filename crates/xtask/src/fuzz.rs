//! `cargo xtask fuzz`: every target of `fuzz/`, for a while each, two at a time.
//!
//! Never needs another toolchain, nor `cargo fuzz`: it sets the flags that this would set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::process::{Doing, Failure, line, output, root, run as run_command, run_within};

/// # Errors
/// A target could not be built, found a fault, or hung.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let (seconds, named) = parse(arguments)?;
    let known = targets()?;
    if let Some(unknown) = named.iter().find(|name| !known.contains(name)) {
        return Err(Failure::new(format!(
            "no target is called {unknown}: {}",
            known.join(", ")
        )));
    }
    let wanted = if named.is_empty() { known } else { named };
    let programs = build()?;

    let waiting = Mutex::new(wanted.into_iter());
    let failures = Mutex::new(Vec::new());
    let next = || {
        waiting
            .lock()
            .expect("no thread panics while it takes a target")
            .next()
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(target) = next() {
                    if let Err(failure) = fuzz(&programs, &target, seconds) {
                        let mut failures = failures.lock().expect("no thread panics while it adds");
                        failures.push(format!("{target}: {failure}"));
                    }
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .expect("no thread panics while it adds");
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}

fn parse(arguments: &[String]) -> Result<(u64, Vec<String>), Failure> {
    let mut seconds = SECONDS;
    let mut named = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument != "--seconds" {
            named.push(argument.clone());
            continue;
        }
        let given = rest
            .next()
            .and_then(|value| value.parse().ok())
            .filter(|value| *value > 0);
        seconds = given.ok_or_else(|| Failure::new("--seconds takes a number above 0"))?;
    }
    Ok((seconds, named))
}

/// The targets are the sources: one that is forgotten in a list would never run.
fn targets() -> Result<Vec<String>, Failure> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).doing(format_args!("reading {}", folder.display()))? {
        let path = entry.doing("reading fuzz/fuzz_targets")?.path();
        if path.extension().is_some_and(|it| it == "rs") {
            names.extend(
                path.file_stem()
                    .map(|name| name.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    if names.is_empty() {
        return Err(Failure::new(format!(
            "{} holds no target",
            folder.display()
        )));
    }
    Ok(names)
}

/// Builds all targets and says where they are.
fn build() -> Result<PathBuf, Failure> {
    let host = output(&mut line("rustc --print host-tuple"))?;
    let host = String::from_utf8_lossy(&host).trim().to_owned();
    // With a target named, build scripts and macros are built for the host: without these flags.
    run_command(
        line(BUILD)
            .args(["--target", &host])
            .env("RUSTFLAGS", INSTRUMENTED),
    )?;
    Ok(root().join("fuzz/target").join(host).join("release"))
}

fn fuzz(programs: &Path, target: &str, seconds: u64) -> Result<(), Failure> {
    // A corpus of this machine makes the next run start where this one stopped.
    let corpus = root().join("fuzz/corpus").join(target);
    let artifacts = root().join("fuzz/artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).doing(format_args!("making {}", folder.display()))?;
    }
    let mut command = Command::new(programs.join(target));
    command.arg(&corpus);
    // Where a fresh machine starts: a minute from nothing finds little.
    command.arg(root().join("fuzz/seeds").join(target));
    command.args([
        format!("-max_total_time={seconds}"),
        "-timeout=10".to_owned(),
    ]);
    command.args(["-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    // It ends by itself; a target that hangs inside one input is ended by us.
    run_within(&mut command, Duration::from_secs(seconds + 60))
}

const SECONDS: u64 = 60;
const AT_A_TIME: usize = 2;
const BUILD: &str =
    "cargo build --release --locked --manifest-path fuzz/Cargo.toml --target-dir fuzz/target";
/// Coverage for libFuzzer on the stable toolchain: the flags that `cargo fuzz` would set, without
/// the sanitizer, since no code here can touch memory it does not own.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_seconds_and_targets() {
        for (words, expected) in [
            ("", Some((SECONDS, vec![]))),
            ("--seconds 5", Some((5, vec![]))),
            ("head --seconds 5 policy", Some((5, vec!["head", "policy"]))),
            ("--seconds", None),
            ("--seconds 0", None),
            ("--seconds x", None),
        ] {
            let arguments: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            let expected = expected.map(|(seconds, named): (u64, Vec<&str>)| {
                (
                    seconds,
                    named.into_iter().map(str::to_owned).collect::<Vec<_>>(),
                )
            });
            assert_eq!(parse(&arguments).ok(), expected, "{words}");
        }
    }
}
