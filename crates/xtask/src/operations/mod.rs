//! `cargo xtask operations`: the real binary as those meet it who run it.
//!
//! Never looks inside: what is judged is what an operator, a scraper or a client sees.
//!
//! Invariant: every part first sees that what it measures is there at all.

mod metrics;
mod restart;
mod traces;

use crate::process::Failure;

/// # Errors
/// What an operator would have found wrong.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("operations takes no arguments"));
    }
    metrics::run()?;
    traces::run()?;
    restart::run()
}
