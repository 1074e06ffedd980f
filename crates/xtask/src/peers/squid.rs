//! Squid, as an accelerator: a cache in front of one origin.
//!
//! Never stores on disk, as Debian's package does not: its cache is memory.
//!
//! Invariant: a reload is over when Squid says that it accepts connections again.

use std::process::Command;

use super::Peer;
use super::place::{Place, wait_until};
use crate::process::Failure;

pub(super) const SQUID: Peer = Peer {
    name: "squid",
    program: "usr/sbin/squid",
    loads: &[],
    version: &["-v"],
    packaged: include_str!("squid/packaged.conf"),
    hurried: include_str!("squid/hurried.conf"),
    expert: include_str!("squid/expert.conf"),
    prepare,
    reload,
};

/// What the texts say comes first: Squid takes the first rule that matches.
const FRAME: &str = "\
http_port @LISTEN@ accel
cache_peer 127.0.0.1 parent @ORIGIN_PORT@ 0 no-query originserver no-digest
# Its own knowledge of a failed origin would outlast the failure.
dead_peer_timeout 1 seconds
http_access allow all
cache_mem 64 MB
visible_hostname peer.test
shutdown_lifetime 0 seconds
pid_filename @FOLDER@/squid.pid
cache_log @FOLDER@/cache.log
access_log none
coredump_dir @FOLDER@
netdb_filename none
pinger_enable off
mime_table @PACKAGES@/usr/share/squid/mime.conf
icon_directory @PACKAGES@/usr/share/squid/icons
error_directory @PACKAGES@/usr/share/squid/errors/en
";

const ACCEPTS: &str = "Accepting reverse-proxy HTTP Socket connections";

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    let text = place.write("squid.conf", &format!("{configuration}{FRAME}"))?;
    let mut command = place.command(SQUID.program)?;
    command.args(["-N", "-f"]).arg(text);
    Ok(command)
}

/// As `squid -k reconfigure`, which sends this signal.
fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    place.write("squid.conf", &format!("{configuration}{FRAME}"))?;
    let accepted = || place.read("cache.log").matches(ACCEPTS).count();
    let before = accepted();
    place.signal("HUP")?;
    wait_until("squid to accept connections again", || accepted() > before)
}
