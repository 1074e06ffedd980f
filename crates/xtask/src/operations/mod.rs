//! `cargo xtask operations`: the real binary as those meet it who run it.
//!
//! Never looks inside: what is judged is what an operator, a scraper or a client sees.
//!
//! Invariant: every part first sees that what it measures is there at all.

mod metrics;
mod restart;
mod traces;

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::process::{Doing, Failure};

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

/// What a reader in Python, with the library at this path, says of a text.
///
/// # Errors
/// It finds a fault, and says so after `wrong`; it has not read all; or it does not run.
fn said_by(
    reader: &str,
    library: impl AsRef<OsStr>,
    text: &str,
    wrong: &str,
) -> Result<String, Failure> {
    let mut python = Command::new("python3");
    python
        .args(["-c", reader])
        .env("PYTHONPATH", library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = python.spawn().doing("starting python3")?;
    let mut input = child
        .stdin
        .take()
        .expect("its standard input was asked for");
    // One that has found a fault already reads no further: what it says comes first.
    let given = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output().doing("waiting for python3")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("{wrong}: {said}{why}")));
    }
    given.doing("giving it a text")?;
    Ok(said)
}
