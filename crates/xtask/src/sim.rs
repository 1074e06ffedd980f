//! `cargo xtask sim …`: the simulator, optimised and apart from everything else.
//!
//! Never builds it together with the shipped binary: the simulator turns on `seeded-faults`, and
//! features of one build are united.

use crate::process::{Failure, line, run as run_command};

/// # Errors
/// The simulator found something, or could not be built.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    run_command(line("cargo run --profile sim -p shikiri-sim --").args(arguments))
}
