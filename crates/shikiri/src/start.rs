//! What is looked at before a node starts: a configuration that would harm is refused, with a sentence
//! that says what to change; one that may is warned of.
//!
//! [`Facts::gather`] looks and decides nothing; [`judge`] decides and looks at nothing. Invariant: all that
//! is wrong is told at once, and nothing was opened or made before.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use shikiri_edge::listen;
use shikiri_partition::Rules;

use crate::gates;
use crate::say;
use crate::settings::Settings;

/// This program was written after this moment (2026-01-01): a clock that says less is wrong.
const WRITTEN_S: u64 = 1_767_225_600;
/// A node with fewer descriptors cannot serve.
const DESCRIPTORS_MIN: u64 = 256;
/// With less free where the data folder is, evidence would soon be full, and then nothing is served.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// What is known before a node starts.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Files whose content decides what is shared, or how.
    files: Vec<FileFact>,
    trusts_everybody: bool,
    /// Where the admin interface would listen, and whether there is a valid token.
    admin: Option<(SocketAddr, bool)>,
    /// Origins that are this node's own listeners.
    loops: Vec<String>,
    /// Origins on this host.
    local_origins: Vec<String>,
    /// What is to be said of gates that nobody can look at.
    unprobed: Vec<String>,
    is_root: bool,
    /// The wall clock, in seconds.
    now_s: u64,
    /// Where the data folder is or will be.
    data: PathBuf,
    free_bytes: Option<u64>,
    is_volatile: bool,
    /// Files that may be open.
    descriptors: Option<u64>,
    connections_max: u64,
}

/// A file and who may write it, or replace it.
#[derive(Debug)]
struct FileFact {
    what: &'static str,
    path: PathBuf,
    mode: u32,
    folder_mode: u32,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The node does not start.
    Refusal(String),
    /// It starts, and somebody should know.
    Warning(String),
}

use Finding::{Refusal, Warning};

impl Facts {
    /// Looks, and changes nothing but the number of files that this process may open.
    pub(crate) fn gather(
        settings: &Settings,
        config: Option<&Path>,
        rules: &Rules,
        has_token: bool,
    ) -> Self {
        let mut files = Vec::new();
        files.extend(config.and_then(|path| FileFact::of("config", path)));
        let policy = settings.policy.as_deref();
        files.extend(policy.and_then(|path| FileFact::of("policy", path)));
        let there = existing(&settings.data);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let origins = rules.origins();
        Self {
            files,
            trusts_everybody: settings.trust.iter().any(|network| network.is_everybody()),
            admin: settings
                .admin
                .as_ref()
                .map(|admin| (admin.address, has_token)),
            loops: origins
                .iter()
                .map(|o| &o.upstream)
                .filter(|o| is_own(&o.address, o.port, &settings.listens_on()))
                .map(ToString::to_string)
                .collect(),
            local_origins: origins
                .iter()
                .map(|o| &o.upstream)
                .filter(|o| listen::may_trust_loopback(&o.address))
                .map(ToString::to_string)
                .collect(),
            unprobed: gates::unprobed(rules),
            is_root: rustix::process::geteuid().is_root(),
            now_s: since.unwrap_or_default().as_secs(),
            data: settings.data.clone(),
            free_bytes: rustix::fs::statvfs(&there)
                .ok()
                .map(|found| found.f_bavail.saturating_mul(found.f_frsize)),
            is_volatile: crate::data::is_volatile(&there) == Some(true),
            descriptors: rlimit::increase_nofile_limit(u64::MAX).ok(),
            connections_max: u64::try_from(rules.limits().connections_max).unwrap_or(u64::MAX),
        }
    }
}

impl FileFact {
    /// One that is not there is found missing by who reads it.
    fn of(what: &'static str, path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let whole = fs::canonicalize(path).ok()?;
        let folder = fs::metadata(whole.parent()?).ok()?;
        Some(Self {
            what,
            path: path.to_owned(),
            mode: found.mode(),
            folder_mode: folder.mode(),
        })
    }
}

/// The nearest folder above that is there.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|path| path.is_dir());
    found.unwrap_or(Path::new(".")).to_owned()
}

/// Whether a listener of ours would answer there.
fn is_own(host: &str, port: u16, listens_on: &[SocketAddr]) -> bool {
    let address = match host {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        host => host.parse::<IpAddr>().ok(),
    };
    let Some(address) = address else { return false };
    let on_this_host = || UdpSocket::bind((address, 0)).is_ok();
    listens_on.iter().any(|listener| {
        let same = listener.ip().to_canonical() == address.to_canonical();
        listener.port() == port
            && port != 0
            && (same || listener.ip().is_unspecified() && on_this_host())
    })
}

/// What is wrong with it.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for FileFact {
        what,
        path,
        mode,
        folder_mode,
    } in &facts.files
    {
        let path = path.display();
        // Who may write in a folder may replace what is in it, unless it is sticky (/tmp).
        if mode & 0o002 != 0 {
            found.push(Refusal(format!(
                "every user of this host can change the {what} {path}, and with it what is shared: run \
                 `chmod o-w {path}`"
            )));
        } else if folder_mode & 0o002 != 0 && folder_mode & 0o1000 == 0 {
            found.push(Refusal(format!(
                "every user of this host can replace the {what} {path}: run `chmod o-w` on its folder"
            )));
        }
    }
    if facts.trusts_everybody {
        found.push(Refusal(
            "`trust` holds every address: anybody could say with X-Forwarded-For who they are, and would be \
             told reasons; name the addresses of the balancer before this node"
                .into(),
        ));
    }
    if let Some((address, false)) = facts.admin
        && !address.ip().is_loopback()
    {
        found.push(Refusal(format!(
            "the admin interface would listen on {address}, where others can reach it, and there is no token \
             to read it with: make one (`shikiri token new --name metrics --scope read --for 90d`), or listen \
             on 127.0.0.1"
        )));
    }
    for origin in &facts.loops {
        found.push(Refusal(format!(
            "the origin {origin} is this node itself, so that every request would come back to it: write where \
             the site's own server listens, or listen elsewhere"
        )));
    }
    if facts.now_s < WRITTEN_S {
        found.push(Refusal(
            "this host's clock says a time before this program was written: rows of evidence would bear a \
             wrong time, and nothing would be fresh for as long as it should; set the clock"
                .into(),
        ));
    }
    let data = facts.data.display();
    if let Some(free) = facts.free_bytes.filter(|free| *free < FREE_BYTES_MIN) {
        found.push(Refusal(format!(
            "only {} MiB are free where the data folder {data} is: evidence would soon be full, and then \
             nothing is served; free at least {} MiB, or give it another place with --data",
            free >> 20,
            FREE_BYTES_MIN >> 20
        )));
    }
    descriptors(facts, &mut found);
    if facts.is_volatile {
        found.push(Warning(format!(
            "the data folder {data} is in memory: a restart of the machine loses who was served what"
        )));
    }
    if facts.is_root {
        found.push(Warning(
            "this node runs as root and needs not: run it as a user of its own; for ports below 1024 give it \
             CAP_NET_BIND_SERVICE, or sockets of systemd (docs/operations.md)"
                .into(),
        ));
    }
    // An origin that takes a connection from its own host for an administrator's would take everybody
    // for one.
    for origin in &facts.local_origins {
        found.push(Warning(format!(
            "the origin {origin} is on this host: if it trusts 127.0.0.1 (status or debug pages, \
             administration), everybody who comes through here is trusted; make it look at X-Forwarded-For \
             or close those pages"
        )));
    }
    found.extend(facts.unprobed.iter().cloned().map(Warning));
    found
}

/// Logs the warnings.
///
/// # Errors
/// All that is refused.
pub(crate) fn heed(findings: &[Finding]) -> Result<(), String> {
    let mut refused = Vec::new();
    for finding in findings {
        match finding {
            Refusal(what) => refused.push(what.as_str()),
            Warning(what) => tracing::warn!("{what}"),
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(refused.join("\n"))
    }
}

/// Says what would be, for `--check`.
///
/// # Errors
/// How much is refused; what, was said.
pub(crate) fn show(
    settings: &Settings,
    config: Option<&Path>,
    rules: &Rules,
    findings: &[Finding],
) -> Result<(), String> {
    let mut said = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(said, "{name:<10} {value}").expect("a string can be written to");
    };
    let none = || "none".to_owned();
    let shown = |path: Option<&Path>| path.map_or_else(none, |path| path.display().to_string());
    line("config", shown(config));
    line("policy", shown(settings.policy.as_deref()));
    line("rules", rules.digest().to_string());
    for door in &settings.doors.listen {
        line("listen", door.to_string());
    }
    for origin in rules.origins() {
        line("origin", origin.upstream.to_string());
    }
    line("data", settings.data.display().to_string());
    line("control", settings.control.display().to_string());
    let admin = settings.admin.as_ref();
    line(
        "admin",
        admin.map_or_else(none, |admin| admin.address.to_string()),
    );
    line("workers", settings.workers.to_string());
    let traces = settings.traces.as_ref();
    line(
        "traces",
        traces.map_or_else(none, |traces| traces.endpoint.to_string()),
    );
    let mut refused = 0;
    for finding in findings {
        match finding {
            Refusal(what) => {
                refused += 1;
                line("refused", what.clone());
            }
            Warning(what) => line("warning", what.clone()),
        }
    }
    say(&said)?;
    match refused {
        0 => Ok(()),
        n => Err(format!("it would not start: {n} things are refused")),
    }
}

/// The first thing that runs out in a surge.
fn descriptors(facts: &Facts, found: &mut Vec<Finding>) {
    let connections = facts.connections_max;
    let raise = "raise `ulimit -Hn` (LimitNOFILE= in a systemd unit), or lower `connections_max`";
    match facts.descriptors {
        None => found.push(Warning("the number of open files cannot be raised".into())),
        Some(given) if given < DESCRIPTORS_MIN => found.push(Refusal(format!(
            "only {given} files may be open: {raise}"
        ))),
        // One for the client and one for a pass behind it.
        Some(given) if given < connections.saturating_mul(2) => found.push(Warning(format!(
            "only {given} files may be open, too few for {connections} connections and their passes: {raise}"
        ))),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            now_s: WRITTEN_S,
            data: "d".into(),
            free_bytes: Some(FREE_BYTES_MIN),
            descriptors: Some(2000),
            connections_max: 1000,
            ..Facts::default()
        }
    }

    fn file(mode: u32, folder_mode: u32) -> Vec<FileFact> {
        vec![FileFact {
            what: "policy",
            path: "p.toml".into(),
            mode,
            folder_mode,
        }]
    }

    #[test]
    fn what_harms_is_refused_and_what_may_is_warned_of() {
        let admin = |text: &str, token| Some((text.parse().unwrap(), token));
        let one = |text: &str| vec![text.to_owned()];
        for (facts, refused, warned) in [
            (good(), "", ""),
            (
                Facts {
                    files: file(0o644, 0o755),
                    ..good()
                },
                "",
                "",
            ),
            (
                Facts {
                    files: file(0o646, 0o755),
                    ..good()
                },
                "chmod o-w p.toml",
                "",
            ),
            (
                Facts {
                    files: file(0o644, 0o777),
                    ..good()
                },
                "on its folder",
                "",
            ),
            (
                Facts {
                    files: file(0o644, 0o1777),
                    ..good()
                },
                "",
                "",
            ),
            (
                Facts {
                    trusts_everybody: true,
                    ..good()
                },
                "the balancer",
                "",
            ),
            (
                Facts {
                    admin: admin("127.0.0.1:1", false),
                    ..good()
                },
                "",
                "",
            ),
            (
                Facts {
                    admin: admin("[::1]:1", false),
                    ..good()
                },
                "",
                "",
            ),
            (
                Facts {
                    admin: admin("0.0.0.0:1", false),
                    ..good()
                },
                "shikiri token new",
                "",
            ),
            (
                Facts {
                    admin: admin("192.0.2.1:1", false),
                    ..good()
                },
                "shikiri token new",
                "",
            ),
            (
                Facts {
                    admin: admin("0.0.0.0:1", true),
                    ..good()
                },
                "",
                "",
            ),
            (
                Facts {
                    loops: one("127.0.0.1:80"),
                    ..good()
                },
                "is this node itself",
                "",
            ),
            (
                Facts {
                    now_s: WRITTEN_S - 1,
                    ..good()
                },
                "set the clock",
                "",
            ),
            (Facts { now_s: 0, ..good() }, "set the clock", ""),
            (
                Facts {
                    free_bytes: Some(FREE_BYTES_MIN - 1),
                    ..good()
                },
                "with --data",
                "",
            ),
            (
                Facts {
                    free_bytes: None,
                    ..good()
                },
                "",
                "",
            ),
            (
                Facts {
                    descriptors: Some(255),
                    ..good()
                },
                "ulimit -Hn",
                "",
            ),
            (
                Facts {
                    descriptors: Some(1999),
                    ..good()
                },
                "",
                "ulimit -Hn",
            ),
            (
                Facts {
                    descriptors: None,
                    ..good()
                },
                "",
                "cannot be raised",
            ),
            (
                Facts {
                    is_volatile: true,
                    ..good()
                },
                "",
                "in memory",
            ),
            (
                Facts {
                    is_root: true,
                    ..good()
                },
                "",
                "runs as root",
            ),
            (
                Facts {
                    local_origins: one("localhost:80"),
                    ..good()
                },
                "",
                "trusts 127.0.0.1",
            ),
        ] {
            let found = judge(&facts);
            let ok = match &found[..] {
                [] => refused.is_empty() && warned.is_empty(),
                [Refusal(what)] => !refused.is_empty() && what.contains(refused),
                [Warning(what)] => !warned.is_empty() && what.contains(warned),
                _ => false,
            };
            assert!(ok, "{facts:?}\n{found:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let facts = Facts {
            files: file(0o666, 0o777),
            trusts_everybody: true,
            is_root: true,
            ..Facts::default()
        };
        assert_eq!(judge(&facts).len(), 5);
    }

    #[test]
    fn an_origin_that_is_a_listener_of_ours_is_known() {
        for (host, port, listener, own) in [
            ("127.0.0.1", 80, "127.0.0.1:80", true),
            ("127.0.0.1", 81, "127.0.0.1:80", false),
            ("localhost", 80, "127.0.0.1:80", true),
            ("127.0.0.1", 80, "0.0.0.0:80", true),
            ("::1", 80, "[::1]:80", true),
            ("::ffff:127.0.0.1", 80, "127.0.0.1:80", true),
            // No address of this host (RFC 5737).
            ("192.0.2.1", 80, "0.0.0.0:80", false),
            ("127.0.0.2", 80, "127.0.0.1:80", false),
            ("shop.example.test", 80, "0.0.0.0:80", false),
            ("127.0.0.1", 0, "127.0.0.1:0", false),
        ] {
            let listener = listener.parse().unwrap();
            assert_eq!(
                is_own(host, port, &[listener]),
                own,
                "{host}:{port} {listener}"
            );
        }
    }
}
