//! HAProxy.
//!
//! Never keeps what it stored over a reload: its cache lives in the memory of the process that a
//! reload replaces, as its documentation says.
//!
//! Invariant: a reload is over when the worker of before has ended.

use std::process::Command;

use super::{Peer, place::Place};
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

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    let text = place.write("haproxy.cfg", &format!("{FRAME}{configuration}"))?;
    let mut command = place.command(HAPROXY.program)?;
    // A master with its worker, in the foreground.
    command.args(["-W", "-db", "-f"]).arg(text);
    Ok(command)
}

fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    let text = place.write("haproxy.cfg", &format!("{FRAME}{configuration}"))?;
    output(place.command(HAPROXY.program)?.args(["-c", "-f"]).arg(text))?;
    place.replace_children("USR2")
}
