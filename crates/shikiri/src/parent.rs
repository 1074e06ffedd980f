//! A process that must not outlive the one that started it.
//!
//! Invariant: whoever started us holds our standard input open. When it ends, however the starter
//! died, we are told to stop as by SIGTERM.

use std::io::Read;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};

/// Told to stop when standard input ends.
///
/// # Errors
/// There is no thread for it.
pub(crate) fn stop_with_stdin() -> Result<(), String> {
    let waits = || {
        let mut ignored = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut ignored).is_ok_and(|read| read > 0) {}
        if let Err(error) = kill_process(getpid(), Signal::TERM) {
            tracing::error!(%error, "whoever started this is gone, and it cannot stop itself");
        }
    };
    thread::Builder::new()
        .name("parent".to_owned())
        .spawn(waits)
        .map(drop)
        .map_err(|error| format!("cannot start: {error}"))
}
