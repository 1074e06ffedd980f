//! Squid, as an accelerator: a cache in front of one origin.
//!
//! Never stores on disk, as Debian's package does not: its cache is memory.
//!
//! Invariant: a reload is over when Squid says that it accepts connections again.

use std::path::PathBuf;
use std::process::Command;

use super::place::{Place, wait_until};
use super::{Peer, packaged as file_of};
use crate::process::{Failure, output};

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
unlinkd_program @HELPERS@/unlinkd
logfile_daemon @HELPERS@/log_file_daemon
pinger_enable off
mime_table @PACKAGES@/usr/share/squid/mime.conf
icon_directory @PACKAGES@/usr/share/squid/icons
error_directory @PACKAGES@/usr/share/squid/errors/en
";

const ACCEPTS: &str = "Accepting reverse-proxy HTTP Socket connections";

fn write(place: &Place, configuration: &str) -> Result<PathBuf, Failure> {
    let helpers = file_of("usr/lib/squid")?;
    let frame = FRAME.replace("@HELPERS@", &helpers.to_string_lossy());
    place.write("squid.conf", &format!("{configuration}{frame}"))
}

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    let text = write(place, configuration)?;
    let mut command = place.command(SQUID.program)?;
    command.args(["-N", "-f"]).arg(text);
    Ok(command)
}

/// As `squid -k reconfigure`, which sends this signal.
fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    let text = write(place, configuration)?;
    output(
        place
            .command(SQUID.program)?
            .args(["-k", "parse", "-f"])
            .arg(text),
    )?;
    let accepted = || place.read("cache.log").matches(ACCEPTS).count();
    let before = accepted();
    place.signal("HUP")?;
    wait_until("squid to accept connections again", || accepted() > before)
}
