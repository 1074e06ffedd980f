//! The real binary as a child: built, started on a free port, ended with its guard.
//!
//! Never links the edge: what is tested is what a person would run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::process::{Doing, Failure, end, line, root, run};

/// A running `shikiri edge`; it ends when this is dropped.
pub(crate) struct Edge {
    child: Child,
    data: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Edge {
    /// Builds the binary and starts it in front of `origin`, with the built-in policy and nothing
    /// set that a newcomer would not set, but that `Cache-Status` tells us its reasons.
    ///
    /// # Errors
    /// It does not build, or ends before it says where it listens.
    pub(crate) fn start(origin: SocketAddr) -> Result<Self, Failure> {
        build()?;
        let mut command = Command::new(root().join("target/debug/shikiri"));
        command.args(["edge", "--origin", &format!("http://{origin}")]);
        command.args(["--listen", "127.0.0.1:0", "--trust", "127.0.0.1"]);
        let data = data_folder();
        command.arg("--data").arg(&data);
        command
            .current_dir(root().join("target"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().doing("starting target/debug/shikiri")?;
        let out = child
            .stdout
            .take()
            .expect("its standard output was asked for");
        let mut lines = BufReader::new(out).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| listening_on(&line));
        let Some(address) = address else {
            end(&mut child);
            return Err(Failure::new(
                "shikiri edge ended without saying where it listens",
            ));
        };
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self {
            child,
            data,
            address,
        })
    }
}

impl Edge {
    /// Its control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.data.join("control.sock")
    }
}

/// Builds the binary, by itself: what else is built with it could turn on features in it.
pub(crate) fn build() -> Result<(), Failure> {
    run(&mut line("cargo build --quiet --locked -p shikiri"))
}

impl Drop for Edge {
    fn drop(&mut self) {
        end(&mut self.child);
        drop(std::fs::remove_dir_all(&self.data));
    }
}

/// A data folder that no other edge has.
fn data_folder() -> PathBuf {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let nth = STARTED.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("shikiri-edge-{}-{nth}", std::process::id()))
}

fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    rest.split_whitespace()
        .next()?
        .trim_end_matches('/')
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_what_the_edge_says() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 8080)));
        for (line, expected) in [
            ("listening on http://127.0.0.1:8080", address),
            (
                "shikiri: listening on http://127.0.0.1:8080/ (pass)",
                address,
            ),
            ("listening on nothing", None),
            ("", None),
        ] {
            assert_eq!(listening_on(line), expected, "{line}");
        }
    }
}
