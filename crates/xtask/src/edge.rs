//! The real binary as a child: built, started on a free port, ended with its guard.
//!
//! Never links the edge: what is tested is what a person would run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
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
        Self::start_built(Build::Debug, origin, &[])
    }

    /// The same of another build, with more arguments.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub(crate) fn start_built(
        build: Build,
        origin: SocketAddr,
        more: &[&str],
    ) -> Result<Self, Failure> {
        let binary = build.make()?;
        let mut command = Command::new(&binary);
        command.args(["edge", "--origin", &format!("http://{origin}")]);
        if !more.contains(&"--config") {
            command.args(["--listen", "127.0.0.1:0", "--trust", "127.0.0.1"]);
        }
        let data = data_folder();
        command.arg("--data").arg(&data).args(more);
        command
            .current_dir(root().join("target"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .doing(format_args!("starting {}", binary.display()))?;
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
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its metrics, from its control socket.
    ///
    /// # Errors
    /// It gives none.
    pub(crate) fn metrics(&self) -> Result<String, Failure> {
        let mut control = UnixStream::connect(self.data.join("control.sock"))
            .doing("asking the control socket")?;
        control
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .doing("asking for metrics")?;
        let mut answer = String::new();
        control
            .read_to_string(&mut answer)
            .doing("reading metrics")?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.starts_with("HTTP/1.1 200 ") => Ok(page.to_owned()),
            _ => Err(Failure::new(format!("no metrics: {answer}"))),
        }
    }
}

/// How the binary is built.
#[derive(Clone, Copy)]
pub(crate) enum Build {
    /// As for everybody's tests.
    Debug,
    /// Optimised like a release, without link-time work.
    Optimised,
}

impl Build {
    fn make(self) -> Result<PathBuf, Failure> {
        match self {
            Self::Debug => {
                build()?;
                Ok(root().join("target/debug/shikiri"))
            }
            Self::Optimised => {
                run(&mut line(
                    "cargo build --quiet --locked -p shikiri --profile sim",
                ))?;
                Ok(root().join("target/sim/shikiri"))
            }
        }
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
    let (_, rest) = line.split_once("listening on http")?;
    let rest = rest.strip_prefix("://").or(rest.strip_prefix("s://"))?;
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
