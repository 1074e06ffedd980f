//! What a node runs with: flags over the config file over defaults.
//!
//! Reads files, changes nothing. Invariant: every setting is decided here once, and what is started
//! takes it from here.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shikiri_edge::otlp::OtlpSettings;
use shikiri_edge::{EvidenceSettings, TrustedNetwork, maintenance};
use shikiri_record::Mode;

use crate::config::ConfigFile;
use crate::evidence::Sealing;
use crate::hook::Hook;
use crate::listening::Doors;
use crate::log::{Format, Levels};
use crate::{data, edge};

/// Where the edge listens when nothing is said.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Where times are told when nothing is said.
const ZONE_DEFAULT: &str = "Asia/Tokyo";

/// How long a hook may take when nothing is said.
const HOOK_TIME_MAX: Duration = Duration::from_secs(30);

/// A node's settings, decided.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The origin for hosts that the policy names none for.
    pub(crate) origin: Option<String>,
    /// Where clients come in.
    pub(crate) doors: Doors,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) trust: Vec<TrustedNetwork>,
    /// The data folder.
    pub(crate) data: PathBuf,
    pub(crate) control: PathBuf,
    /// The read-only listener for status and metrics.
    pub(crate) admin: Option<AdminSettings>,
    pub(crate) evidence: EvidenceSettings,
    pub(crate) sealing: Sealing,
    /// Whether files that have changed are read again by themselves.
    pub(crate) watch: bool,
    pub(crate) workers: usize,
    /// The node's name; the data folder has one when this is none.
    pub(crate) node: Option<String>,
    pub(crate) log: Levels,
    pub(crate) log_format: Format,
    /// The mode of a node that begins for the first time.
    pub(crate) first_mode: Option<Mode>,
    pub(crate) maintenance: MaintenanceSettings,
    /// Whom a change of the mode is told, and how long that may take.
    pub(crate) on_mode: Vec<Hook>,
    pub(crate) hook_time_max: Duration,
    /// How traces are sent, where they are.
    pub(crate) traces: Option<OtlpSettings>,
}

/// What is shown while the site is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaintenanceSettings {
    /// The page's file; our own page when it is none.
    pub(crate) page: Option<PathBuf>,
    /// The time zone in which times are told.
    pub(crate) zone: String,
    /// After how long clients may ask again when no time is planned.
    pub(crate) retry_after: Duration,
    /// Paths that pass nevertheless.
    pub(crate) except: Vec<String>,
}

/// The admin interface's TCP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminSettings {
    pub(crate) address: SocketAddr,
    /// Names by which it may be asked.
    pub(crate) hosts: Vec<String>,
    /// Whether tokens may change something there.
    pub(crate) changes: bool,
}

impl Settings {
    /// Flags over the config file over defaults.
    ///
    /// # Errors
    /// What is wrong with the config file, or between it and the flags.
    pub(crate) fn of(args: &edge::Args) -> Result<Self, String> {
        let config = args.config.as_deref().map(ConfigFile::read).transpose()?;
        let config = config.unwrap_or_default();
        let node = &config.node;
        let (data, control) = places(args.data.as_deref(), args.control.as_deref(), &config);
        let policy = node.policy.as_deref().map(|path| config.path(path));
        let address = args
            .admin
            .or(config.admin.address.as_ref().map(|address| address.0));
        let admin = address.map(|address| AdminSettings {
            address: address.0,
            hosts: config.admin.hosts.clone(),
            changes: config.admin.changes,
        });
        let trust: Vec<TrustedNetwork> = if args.trust.is_empty() {
            node.trust.iter().map(|network| network.0).collect()
        } else {
            args.trust.clone()
        };
        let cores = std::thread::available_parallelism().ok();
        let workers = args.workers.or(node.workers).or(cores);
        Ok(Self {
            origin: args.origin.clone().or_else(|| node.origin.clone()),
            doors: Doors::of(&args.listen, &config, &trust, LISTEN_DEFAULT)?,
            policy: args.policy.clone().or(policy),
            trust,
            data,
            control,
            admin,
            evidence: config.evidence.settings(),
            sealing: config.evidence.sealing(),
            watch: !args.no_watch && node.watch.unwrap_or(true),
            workers: workers.map_or(1, NonZeroUsize::get),
            node: args
                .node
                .clone()
                .or_else(|| node.name.clone().map(|name| name.0))
                .map(|name| name.0),
            first_mode: args.mode,
            maintenance: MaintenanceSettings {
                page: args
                    .maintenance_page
                    .clone()
                    .or_else(|| config.maintenance.page.as_deref().map(|p| config.path(p))),
                zone: config
                    .maintenance
                    .zone
                    .clone()
                    .map_or_else(|| ZONE_DEFAULT.to_owned(), |zone| zone.0.0),
                retry_after: config
                    .maintenance
                    .retry_after
                    .as_ref()
                    .map_or(maintenance::RETRY_AFTER, |time| time.0.0),
                except: config.maintenance.except.clone(),
            },
            on_mode: if args.on_mode.is_empty() {
                config
                    .hooks
                    .on_mode
                    .iter()
                    .map(|hook| hook.0.clone())
                    .collect()
            } else {
                args.on_mode.clone()
            },
            hook_time_max: config
                .hooks
                .time_max
                .as_ref()
                .map_or(HOOK_TIME_MAX, |time| time.0.0),
            traces: config.otel.settings(|path| config.path(path))?,
            log: args
                .log
                .clone()
                .or_else(|| config.log.level.map(|level| level.0))
                .unwrap_or_default(),
            log_format: args
                .log_format
                .or_else(|| config.log.format.map(|format| format.0))
                .unwrap_or_default(),
        })
    }
}

impl Settings {
    /// The addresses on which clients are waited for.
    pub(crate) fn listens_on(&self) -> Vec<SocketAddr> {
        self.doors.listen.iter().map(|door| door.address).collect()
    }

    /// Takes over what takes effect while the node runs. Returns the names of what is set otherwise there
    /// and takes effect on a restart alone.
    pub(crate) fn take_over(&mut self, new: Self) -> Vec<&'static str> {
        // Each setting is the one or the other: a new one must be given its place here.
        let Self {
            origin,
            doors: Doors { listen, tls },
            policy,
            trust,
            data,
            control,
            admin,
            evidence,
            sealing,
            watch,
            workers,
            node,
            log,
            log_format,
            // A flag, of a first start alone.
            first_mode: _,
            maintenance,
            on_mode,
            hook_time_max,
            traces,
        } = new;
        // Certificates are loaded again where some were, and never begun with.
        let begins_tls = self.doors.tls.is_empty() && !tls.is_empty();
        let waits = [
            ("[[listen]]", self.doors.listen != listen),
            ("[[tls]]", begins_tls),
            ("[node] trust", self.trust != trust),
            ("[node] data", self.data != data),
            ("[node] control", self.control != control),
            ("[node] watch", self.watch != watch),
            ("[node] workers", self.workers != workers),
            ("[node] name", self.node != node),
            ("[admin]", self.admin != admin),
            (
                "[evidence]",
                (self.evidence, self.sealing) != (evidence, sealing),
            ),
            (
                "[hooks]",
                (&self.on_mode, self.hook_time_max) != (&on_mode, hook_time_max),
            ),
            ("[otel]", self.traces != traces),
            ("[log] format", self.log_format != log_format),
        ];
        (self.origin, self.policy) = (origin, policy);
        (self.log, self.maintenance) = (log, maintenance);
        if !begins_tls {
            self.doors.tls = tls;
        }
        let waits = waits.into_iter().filter(|(_, waits)| *waits);
        waits.map(|(name, _)| name).collect()
    }
}

/// The control socket's name in the data folder.
const CONTROL: &str = "control.sock";

/// The data folder and the control socket of an edge that was started with this data folder or this
/// config file.
///
/// # Errors
/// What is wrong with the config file.
pub(crate) fn places_of(
    data: Option<&Path>,
    config: Option<&Path>,
) -> Result<(PathBuf, PathBuf), String> {
    let config = config
        .map(ConfigFile::read)
        .transpose()?
        .unwrap_or_default();
    Ok(places(data, None, &config))
}

/// The data folder and the control socket.
fn places(data: Option<&Path>, control: Option<&Path>, config: &ConfigFile) -> (PathBuf, PathBuf) {
    let pick = |flag: Option<&Path>, file: &Option<PathBuf>| {
        let file = || file.as_deref().map(|path| config.path(path));
        flag.map(Path::to_owned).or_else(file)
    };
    let data = pick(data, &config.node.data).unwrap_or_else(|| data::DEFAULT.into());
    let control = pick(control, &config.node.control).unwrap_or_else(|| data.join(CONTROL));
    (data, control)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: edge::Args,
    }

    fn settings(flags: &str) -> Settings {
        let words = ["edge"].into_iter().chain(flags.split_whitespace());
        Settings::of(&Command::parse_from(words).args).unwrap()
    }

    #[test]
    fn a_flag_overrides_the_file_and_the_file_the_default() {
        let folder = std::env::temp_dir().join(format!("shikiri-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("edge.toml");
        std::fs::write(
            &file,
            "version = 1\n[node]\nname = \"file\"\ndata = \"d\"\norigin = \"http://file.test\"\n\
             policy = \"p.toml\"\ntrust = [\"192.0.2.1\"]\nworkers = 7\n[[listen]]\naddress = \"127.0.0.1:1\"\n\
             [admin]\naddress = \"127.0.0.1:9\"\nchanges = true\n[log]\nlevel = \"debug\"\n",
        )
        .unwrap();
        let at = format!("--config {} ", file.display());

        let none = settings("--origin http://flag.test");
        assert_eq!(none.doors.listen[0].address, LISTEN_DEFAULT);
        assert_eq!(none.control, PathBuf::from("shikiri-data/control.sock"));
        assert_eq!(
            (none.node, none.log, none.admin),
            (None, Levels::default(), None)
        );

        let told = settings(&at);
        assert_eq!(told.origin.as_deref(), Some("http://file.test"));
        assert_eq!(told.doors.listen[0].address.port(), 1);
        assert_eq!(told.policy, Some(folder.join("p.toml")));
        assert_eq!(told.control, folder.join("d/control.sock"));
        assert_eq!(
            (told.workers, told.log.clone()),
            (7, "debug".parse().unwrap())
        );
        assert_eq!(told.log_format, Format::Text);
        assert_eq!(told.trust, ["192.0.2.1".parse().unwrap()]);
        let admin = told.admin.as_ref().unwrap();
        assert_eq!((admin.address.port(), admin.changes), (9, true));

        let both = settings(&format!(
            "{at} --origin http://flag.test --listen 127.0.0.1:2 --listen 127.0.0.1:3 --policy q.toml \
             --trust ::1 --data e --workers 2 --node flag --log error --log-format json --admin 127.0.0.1:8"
        ));
        assert_eq!(both.origin.as_deref(), Some("http://flag.test"));
        assert_eq!(both.doors.listen.len(), 2);
        assert_eq!(both.policy, Some("q.toml".into()));
        assert_eq!(both.control, PathBuf::from("e/control.sock"));
        assert_eq!(
            (both.workers, both.log.clone()),
            (2, "error".parse().unwrap())
        );
        assert_eq!(both.log_format, Format::Json);
        assert_eq!(both.trust, ["::1".parse().unwrap()]);
        assert_eq!(both.node.as_deref(), Some("flag"));
        assert_eq!(both.admin.as_ref().unwrap().address.port(), 8);
        assert!(told.watch && !settings(&format!("{at} --no-watch")).watch);
        assert!(told.clone().take_over(told.clone()).is_empty());
        let mut both = both;
        both.evidence.sync_interval = Duration::from_secs(9);
        let mut running = told.clone();
        assert_eq!(
            running.take_over(both.clone()),
            [
                "[[listen]]",
                "[node] trust",
                "[node] data",
                "[node] control",
                "[node] workers",
                "[node] name",
                "[admin]",
                "[evidence]",
                "[log] format"
            ]
        );
        // What takes effect is the new one's, and what does not is still as it was.
        assert_eq!(
            (&running.origin, &running.policy, &running.log),
            (&both.origin, &both.policy, &both.log)
        );
        assert_eq!(
            (running.workers, running.evidence),
            (told.workers, told.evidence)
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
