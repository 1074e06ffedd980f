//! `shikiri up` as a child: the store, its delivery server and the edge, as a newcomer starts them.
//!
//! Never links them: what is tested is what a person would run.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Doing, Failure, end};

/// A running `shikiri up`; it ends when this is dropped.
pub(crate) struct Up {
    child: Child,
    /// Where the edge listens.
    pub(crate) port: String,
}

impl Up {
    /// Starts it and waits until it has said what there is to see.
    ///
    /// # Errors
    /// It ends before.
    pub(crate) fn start(binary: &Path, data: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(binary);
        command
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().doing("starting `shikiri up`")?;
        let out = child.stdout.take().expect("its output was asked for");
        let mut up = Self {
            child,
            port: String::new(),
        };
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        for line in lines.by_ref() {
            if let Some(port) = port(&line) {
                up.port = port.to_owned();
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
        if up.port.is_empty() {
            return Err(Failure::new(
                "`shikiri up` ended without saying where the store is",
            ));
        }
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(up)
    }

    /// Its process; those that it started are its children.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop and sees that it does.
    ///
    /// # Errors
    /// It does not, or fails.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "INT", &id]).status();
        told.doing("stopping `shikiri up`").map(drop)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            match self.child.try_wait().doing("waiting for `shikiri up`")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Failure::new(format!("`shikiri up` ended: {status}"))),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Err(Failure::new("`shikiri up` does not stop"))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            end(&mut self.child);
        }
    }
}

fn port(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("The store is open:  http://localhost:")?;
    rest.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_what_up_says() {
        let line =
            "The store is open:  http://localhost:4711/en/  (日本語: http://localhost:4711/ja/)";
        assert_eq!(port(line), Some("4711"));
        assert_eq!(port("Ctrl-C stops it."), None);
    }
}
