//! The real binary as a child: built, started, asked by its own commands, ended with its guard.
//!
//! Never links the edge: what is tested is what a person would run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Doing, Failure, end, line, output, root, run};

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
    /// As people run it.
    Release,
}

impl Build {
    /// Builds it, by itself, and says where it is.
    ///
    /// # Errors
    /// It does not build.
    pub(crate) fn make(self) -> Result<PathBuf, Failure> {
        match self {
            Self::Debug => {
                build()?;
                Ok(binary())
            }
            Self::Optimised => {
                run(&mut line(
                    "cargo build --quiet --locked -p shikiri --profile sim",
                ))?;
                Ok(root().join("target/sim/shikiri"))
            }
            Self::Release => {
                run(&mut line(
                    "cargo build --quiet --locked -p shikiri --release",
                ))?;
                Ok(root().join("target/release/shikiri"))
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

/// The binary of [`build`].
pub(crate) fn binary() -> PathBuf {
    root().join("target/debug/shikiri")
}

/// An address that nobody listens on, for nodes that follow each other on it.
pub(crate) fn free_port() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listening")?;
    listener.local_addr().doing("listening")
}

/// What an operator's command prints, given the data folder of a node.
///
/// # Errors
/// It failed.
pub(crate) fn command(words: &[&str], data: &Path) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new(binary());
    output(command.args(words).arg("--data").arg(data))
}

/// Sees that evidence is as it was written.
///
/// # Errors
/// It is not.
pub(crate) fn verify_evidence(data: &Path) -> Result<(), Failure> {
    command(&["evidence", "verify"], data).map(drop)
}

/// What `shikiri evidence count` says.
///
/// # Errors
/// It says nothing that can be read.
pub(crate) fn count_evidence(data: &Path) -> Result<Value, Failure> {
    let counted = command(&["evidence", "count", "--json"], data)?;
    serde_json::from_slice(&counted)
        .map_err(|error| Failure::new(format!("evidence count printed no JSON: {error}")))
}

/// A node that is started with a command line of one's own; it ends when this is dropped.
pub(crate) struct Node {
    child: Child,
}

impl Node {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn start(mut command: Command) -> Result<Self, Failure> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .doing("starting a node")?;
        let out = child.stdout.take().expect("its output was asked for");
        let mut lines = BufReader::new(out).lines();
        let node = Self { child };
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        if !line.starts_with("listening on ") {
            return Err(Failure::new("a node does not listen"));
        }
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(node)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end when it has answered what runs.
    ///
    /// # Errors
    /// It cannot be told.
    pub(crate) fn terminate(&self) -> Result<(), Failure> {
        let id = self.id().to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &id]).status();
        killed.doing("terminating a node").map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It is no orderly one, or does not come.
    pub(crate) fn ends_by_itself(mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().doing("waiting for a node")? {
                if status.success() {
                    return Ok(());
                }
                return Err(Failure::new(format!("a node ended with {status}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::new("a node that was told to end does not"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            end(&mut self.child);
        }
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
