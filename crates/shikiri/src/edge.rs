//! `shikiri edge`: the edge in front of a site.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use shikiri_edge::admin::{Admin, Phase, Tokens};
use shikiri_edge::tls::{OriginTrust, Tenants};
use shikiri_edge::{Config, Given, Keeper, Node, RealWorld, Said, TrustedNetwork, listen};
use shikiri_evidence::note::Signer;
use shikiri_evidence::{BootId, Run};
use shikiri_partition::Rules;
use shikiri_record::Mode;
use tokio::runtime::Builder;

use crate::config::{Address, NodeName};
use crate::data::DataFolder;
use crate::govern::{self, Ending, Governor};
use crate::handover::{self, Predecessor};
use crate::hook::Hook;
use crate::listening::ListenAddress;
use crate::log::{Format, Levels};
use crate::reload::{Part, Parts};
use crate::seal::{SIGNING_KEY, SigningKey};
use crate::settings::Settings;
use crate::start::{self, Facts};
use crate::{evidence, files, gates, keep, log, notify, otel, parent};

/// Flags of `shikiri edge`. What is not said by a flag is said by the config file, or by a default.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri edge --origin http://127.0.0.1:8000
      Everything passes through; static files that are the same for all are shared.
  shikiri edge --policy shop.toml --listen 0.0.0.0:8080 --data /var/lib/shikiri
      The policy names the origins and says what more may be shared. `shikiri reload`, or SIGHUP,
      reads it again; a policy with a fault is refused and the old one stays in force.
  shikiri edge --config /etc/shikiri/edge.toml
      The same in a file (docs/configuration.md).
  shikiri edge --origin http://127.0.0.1:8000 --trust 127.0.0.1 &
  curl -si http://127.0.0.1:8080/ | grep -i cache-status
      A trusted address is told why something was or was not shared.")]
pub(crate) struct Args {
    /// How this node runs: a TOML file (docs/configuration.md). Flags override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The origin, for every host that the policy names no origin for: `http://host[:port]`.
    #[arg(long, value_name = "URL", required_unless_present_any = ["policy", "config"])]
    pub(crate) origin: Option<String>,
    /// Where to listen: an address and a port, with `https://` before it for TLS (docs/tls.md). May be
    /// given several times. Port 0 takes a free one. `127.0.0.1:8080` when not given.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<ListenAddress>,
    /// What may be shared: a TOML file (docs/policy.md). Without one: public static files alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// An address or network whose `X-Forwarded-*` are believed and who is told reasons.
    #[arg(long, value_name = "NET")]
    pub(crate) trust: Vec<TrustedNetwork>,
    /// The data folder: what must survive a restart. Made when it is not there; one node at a time
    /// holds it. `shikiri-data` when not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A Unix socket for `shikiri purge`, `reload` and `status`. Only its owner can use it.
    /// `control.sock` in the data folder when not given.
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Where status and metrics can be read (`/status`, `/metrics`, `/healthz`, `/readyz`): an
    /// address and a port. Nowhere but on the control socket when not given.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<Address>,
    /// The mode in which a node with a new data folder begins: `open` (when not given), `static`, `pass`
    /// or `closed`. Later starts go on in the mode that the timeline says; a lower one is taken.
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// What is shown while the site is closed: an HTML file with places for the time of reopening
    /// (docs/operating-modes.md). Our own page when not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) maintenance_page: Option<PathBuf>,
    /// What is told of every change of the mode: a command, or an `http://` URL that it is posted to.
    /// May be given several times (docs/operating-modes.md).
    #[arg(long, value_name = "COMMAND-or-URL")]
    pub(crate) on_mode: Vec<Hook>,
    /// Threads that serve. One for each core when not given.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// This node's name in `Via` and `CDN-Loop`: letters, digits, `-`, `.`, `_`. Chosen at random
    /// and kept in the data folder when not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// What to log to standard error: `error`, `warn`, `info` (when not given), `debug`, `trace`, and
    /// others for some modules: `info,shikiri_edge::origin=debug`.
    #[arg(long, value_name = "LEVELS")]
    pub(crate) log: Option<Levels>,
    /// The form of the log: `text` (when not given) or `json`.
    #[arg(long, value_name = "FORM")]
    pub(crate) log_format: Option<Format>,
    /// Do not read files again that have changed: on `shikiri reload` and SIGHUP alone.
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// Start nothing: read everything, look at everything, say what would be, and whether it is good.
    #[arg(long)]
    pub(crate) check: bool,
    /// Take over from the node that runs with this data folder: its listening sockets first, so that
    /// nobody is turned away. Its running requests end by themselves. Without such a node: start.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

/// The tokens' file in the data folder.
pub(crate) const TOKENS: &str = "tokens.json";

/// Runs the edge until it is told to stop.
pub(crate) fn run(args: Args) -> Result<(), String> {
    let settings = Settings::of(&args)?;
    let log = log::start(&settings.log, settings.log_format);
    if args.until_stdin_ends {
        parent::stop_with_stdin()?;
    }
    let origin = files::origin(settings.origin.as_deref())?;
    let rules = files::armed(settings.policy.as_deref(), origin.as_ref())?;
    believe(&OriginTrust::default(), &rules)?;
    let maintenance = files::maintenance(&settings.maintenance)?;
    let world = Arc::new(RealWorld::new());
    let has_token = Tokens::open(&settings.data.join(TOKENS))
        .map_err(|fault| fault.to_string())?
        .any_valid(shikiri_edge::World::now(&*world));
    let (mut given, named) = notify::given()?;
    let mut doors = settings.doors.clone();
    doors.find_named(&named);
    let (listeners, tenants) = doors.open()?;
    let facts = Facts::gather(&settings, args.config.as_deref(), &rules, has_token);
    let findings = start::judge(&facts);
    if args.check {
        return start::show(&settings, args.config.as_deref(), &rules, &findings);
    }
    start::heed(&findings)?;
    let (data, before) = take_over(&args, &settings, &mut given)?;
    let name = match &settings.node {
        Some(name) => name.clone(),
        None => data.node_name(shikiri_edge::World::random(&*world))?,
    };
    tracing::info!(digest = %rules.digest(), node = name, "rules in force");
    let config = Config {
        name,
        trusted: settings.trust.clone(),
    };
    let now = shikiri_edge::World::now(&*world);
    let boot = BootId::random().map_err(|error| format!("cannot get random bytes: {error}"))?;
    let key = SigningKey::open(&data.join(SIGNING_KEY), &config.name)?;
    tracing::info!(key = %key.key(), "evidence is signed with");
    let run = Run {
        node: config.name.clone(),
        boot,
        signing: Some(Arc::new(key).signing(settings.sealing.checkpoint_time)),
    };
    let evidence = evidence::open(&data, &run, (settings.evidence, settings.sealing), now)?;
    let found = keep::open(&data, &run, settings.first_mode, now)?;
    let node = Node::begin(config, rules, world, evidence, found.kept);
    node.show_when_closed(maintenance);
    let policy = settings
        .policy
        .as_deref()
        .map(|path| path.display().to_string());
    node.record_start(&found.started.with(policy.as_deref()))
        .map_err(|why| format!("cannot start: {why}"))?;
    tracing::info!(mode = %node.stance().mode, epoch = %node.stance().epoch, "begins");
    let keeper = Keeper::start(&node, evidence::logged())
        .map_err(|error| format!("cannot start: {error}"))?;
    let traces = otel::start(settings.traces.as_ref(), &node)?;
    believe(node.origin_trust(), &node.stance().rules)?;
    gates::probe(&node.stance().rules);
    if before.is_some() {
        // Whom the node before was told of, this one was not.
        node.follows_another();
    }
    if let Some(tenants) = &tenants {
        node.serve_tenants(Arc::clone(tenants));
    }
    let listening =
        listen::prepare(&node, &listeners, settings.workers, &mut given).map_err(|fault| {
            node.record_stop("it could not listen");
            fault.to_string()
        })?;
    let parts = Arc::new(Parts::new(parts(
        args,
        &settings,
        log,
        &node,
        tenants.clone(),
    )));
    let read = Arc::clone(&parts);
    let tokens = Tokens::open(&data.join(TOKENS)).map_err(|fault| fault.to_string())?;
    let admin = Admin::new(node, tokens, Arc::new(move |by| read.all(by)));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let governor = Governor {
        settings: &settings,
        data: &data,
        admin: Arc::clone(&admin),
        parts,
        listening: &listening,
        tenants: tenants.as_deref(),
    };
    let (ending, before) = runtime
        .block_on(governor.run(before, given))
        .inspect_err(|why| admin.node().record_stop(why))?;
    tracing::info!("stopping: running requests may end");
    admin.enter(Phase::Stopping);
    if matches!(ending, Ending::Told) {
        // Somebody may have removed them already; another's we would not.
        drop(std::fs::remove_file(&settings.control));
        drop(std::fs::remove_file(data.join(handover::SOCKET)));
    }
    govern::end(admin.node(), listening, ending, before);
    // Nobody serves any more: what was written is sealed, and what was told is sent.
    drop(keeper);
    drop(traces);
    admin.node().record_stop("told to stop");
    drop(data);
    tracing::info!("stopped");
    Ok(())
}

/// The data folder, for this process alone: from the node that runs, when it is to be replaced, with its
/// sockets.
fn take_over(
    args: &Args,
    settings: &Settings,
    given: &mut Given,
) -> Result<(DataFolder, Option<Predecessor>), String> {
    let before = if args.replace {
        Predecessor::ask(&settings.data.join(handover::SOCKET))?
    } else {
        None
    };
    let Some((before, estate)) = before else {
        return Ok((DataFolder::open(&settings.data)?, None));
    };
    given
        .add(estate.sockets)
        .map_err(|error| format!("a socket of the node before: {error}"))?;
    before.take()?;
    let data = DataFolder::inherit(&settings.data, estate.lock)?;
    Ok((data, Some(before)))
}

/// Loads whom these rules believe to be an origin.
fn believe(trust: &OriginTrust, rules: &Rules) -> Result<(), String> {
    trust.prepare(rules).map_err(|fault| fault.to_string())
}

/// What is read again while the node runs: the config first, since it says where the policy is.
fn parts(
    args: Args,
    settings: &Settings,
    log: log::Handle,
    node: &Arc<Node>,
    tenants: Option<Arc<Tenants>>,
) -> Vec<Part> {
    let current = Arc::new(Mutex::new(settings.clone()));
    let mut parts = Vec::new();
    if let Some(file) = args.config.clone() {
        let current = Arc::clone(&current);
        parts.push(Part {
            name: "config",
            files: Box::new(move || vec![file.clone()]),
            leads: true,
            apply: Box::new(move |_| {
                let new = Settings::of(&args)?;
                files::origin(new.origin.as_deref())?;
                let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
                log.set(&new.log);
                let waiting = current.take_over(new);
                Ok(if waiting.is_empty() {
                    "in force".to_owned()
                } else {
                    format!("in force, but {} after a restart", waiting.join(", "))
                })
            }),
        });
    }
    if let Some(tenants) = tenants {
        let (current, files) = (Arc::clone(&current), Arc::clone(&tenants));
        parts.push(Part {
            name: "certificates",
            files: Box::new(move || files.files()),
            leads: false,
            apply: Box::new(move |_| {
                let configs = {
                    let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                    current.doors.tls.clone()
                };
                let loaded = tenants.apply(configs).map_err(|fault| fault.to_string())?;
                Ok(format!("{loaded} loaded"))
            }),
        });
    }
    let (shows, page) = (Arc::clone(node), Arc::clone(&current));
    let settings_of = |current: &Mutex<Settings>| {
        let current = current.lock().unwrap_or_else(PoisonError::into_inner);
        current.maintenance.clone()
    };
    let shown = Arc::clone(&current);
    parts.push(Part {
        name: "maintenance page",
        files: Box::new(move || settings_of(&page).page.into_iter().collect()),
        leads: false,
        apply: Box::new(move |_| {
            shows.show_when_closed(files::maintenance(&settings_of(&shown))?);
            Ok("in force".to_owned())
        }),
    });
    let (believes, refreshes) = (Arc::clone(node), Arc::clone(node));
    parts.push(Part {
        name: "authorities of origins",
        files: Box::new(move || believes.origin_trust().files()),
        leads: false,
        apply: Box::new(move |_| {
            let loaded = refreshes.origin_trust().refresh();
            let loaded = loaded.map_err(|fault| fault.to_string())?;
            Ok(format!("{loaded} loaded"))
        }),
    });
    let (holds, node, policy) = (Arc::clone(node), Arc::clone(node), Arc::clone(&current));
    parts.push(Part {
        name: "policy",
        files: Box::new(move || {
            let (policy, origin) = {
                let current = policy.lock().unwrap_or_else(PoisonError::into_inner);
                (current.policy.clone(), current.origin.clone())
            };
            let Some(policy) = policy else {
                return Vec::new();
            };
            let origin = files::origin(origin.as_deref()).unwrap_or_default();
            files::of_policy(&policy, origin.as_ref(), &holds.stance().rules)
        }),
        leads: false,
        apply: Box::new(move |by| {
            let (policy, origin) = {
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                (current.policy.clone(), current.origin.clone())
            };
            let origin = files::origin(origin.as_deref())?;
            let rules = files::armed(policy.as_deref(), origin.as_ref())?;
            believe(node.origin_trust(), &rules)?;
            let digest = rules.digest();
            let file = policy.as_deref().map(|path| path.display().to_string());
            let said = Said {
                actor: by.on_record(),
                text: format!("read again ({by})"),
            };
            node.reload(rules, file.as_deref(), &said)
                .map_err(|why| why.to_string())?;
            for told in gates::unprobed(&node.stance().rules) {
                tracing::warn!("{told}");
            }
            gates::probe(&node.stance().rules);
            Ok(format!("rules in force: {digest}"))
        }),
    });
    parts
}
