//! What systemd is told (`sd_notify`), and the sockets that it gives (`LISTEN_FDS`).
//!
//! Without it, nothing is told and nothing given. Invariant: a socket that was given is listened on or
//! told of, never lost in silence.

use std::net::SocketAddr;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use shikiri_edge::{Given, Node};

/// How often the watchdog is told that we live, where it wants to know; seldom, where not.
pub(crate) fn watchdog_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |within| within / 3)
}

/// We live.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// We take requests.
pub(crate) fn ready(node: &Node) {
    let rules = node.stance().rules.digest().to_string();
    let short: String = rules.chars().take(12).collect();
    let status = format!("serving, rules {short}");
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Files are being read again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

/// Running requests may end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// The TCP sockets that the service manager gives, and their names.
///
/// # Errors
/// It gives something else.
pub(crate) fn given() -> Result<(Given, Vec<(String, SocketAddr)>), String> {
    // Their names are in the environment for whoever the descriptors are for (sd_listen_fds_with_names).
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut fds = ListenFd::from_env();
    let (mut sockets, mut named) = (Vec::new(), Vec::new());
    for n in 0..fds.len() {
        let fault = |error| {
            format!("socket {n} of the service manager is no TCP socket that listens: {error}")
        };
        let socket = fds.take_tcp_listener(n).map_err(fault)?;
        let name = names.next().unwrap_or_default();
        if let Some(socket) = socket {
            named.push((name.clone(), socket.local_addr().map_err(fault)?));
            sockets.push(socket);
        }
    }
    let given = Given::of(sockets);
    Ok((given.map_err(|error| error.to_string())?, named))
}
