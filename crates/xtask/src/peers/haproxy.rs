//! HAProxy.
//!
//! Never keeps what it stored over a reload: its cache lives in the memory of the process that a
//! reload replaces, as its documentation says.
//!
//! Invariant: a reload is over when the worker of before has ended.

use std::path::PathBuf;
use std::process::Command;

use super::{Peer, files, place::Place};
use crate::process::{Failure, output};

pub(super) const HAPROXY: Peer = Peer {
    name: "haproxy",
    program: "usr/sbin/haproxy",
    loads: &[],
    version: &["-v"],
    packaged: include_str!("haproxy/packaged.cfg"),
    hurried: include_str!("haproxy/hurried.cfg"),
    expert: include_str!("haproxy/expert.cfg"),
    prepare,
    reload,
};

/// Debian's `haproxy.cfg` without what names the machine's folders, users and log.
const FRAME: &str = "\
global
    stats socket @FOLDER@/control mode 600 level admin
    nbthread 2

defaults
    mode http
    option dontlognull
    timeout connect 5000
    timeout client 50000
    timeout server 50000

";

/// A text's first lines are its configuration, the others files that it names.
fn write(place: &Place, configuration: &str) -> Result<PathBuf, Failure> {
    for (name, content) in files(configuration, "haproxy.cfg") {
        let frame = if name == "haproxy.cfg" { FRAME } else { "" };
        place.write(name, &format!("{frame}{content}"))?;
    }
    Ok(place.folder.join("haproxy.cfg"))
}

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    let text = write(place, configuration)?;
    let mut command = place.command(HAPROXY.program)?;
    // A master with its worker, in the foreground.
    command.args(["-W", "-db", "-f"]).arg(text);
    Ok(command)
}

fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    let text = write(place, configuration)?;
    output(place.command(HAPROXY.program)?.args(["-c", "-f"]).arg(text))?;
    place.replace_children("USR2")
}
