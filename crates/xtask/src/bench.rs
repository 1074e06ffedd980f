//! `cargo xtask bench WHAT`: measurements that are no tests.
//!
//! Never part of `cargo xtask test`: what a number should be is said where it is promised.

use crate::process::{Failure, line, run as run_command};

mod visitors;
mod who;

/// # Errors
/// There is no such measurement, or it failed.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let Some((what, rest)) = arguments.split_first() else {
        return Err(Failure::new(
            "bench takes what to measure: archive, visitors or who",
        ));
    };
    match what.as_str() {
        "archive" => {
            let mut command = line(
                "cargo run --quiet --locked --release -p shikiri-archive --features sample \
                 --example archive-bench --",
            );
            run_command(command.args(rest))
        }
        "visitors" => visitors::run(rest),
        "who" => who::run(rest),
        other => Err(Failure::new(format!(
            "there is no measurement `{other}`: archive, visitors or who"
        ))),
    }
}
