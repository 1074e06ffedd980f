//! Everything but serving: the admin interface, signals, the clock, files that change, the service
//! manager, and a node that comes to replace this one.
//!
//! Invariant: while another node may have what this one has written, this one takes no connection and
//! changes nothing; and it goes on as if nothing had been unless that one serves.

use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use shikiri_edge::admin::{self, Actor, Admin, Phase, TcpRules};
use shikiri_edge::listen::Listening;
use shikiri_edge::tls::Tenants;
use shikiri_edge::{Given, ModeNotice, Node, Said};
use shikiri_record::{KeyDone, Mode, UnixMillis, What};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::interval;

use crate::data::DataFolder;
use crate::evidence::Sealing;
use crate::handover::{self, Estate, Link, Predecessor, Step, Successor};
use crate::hook;
use crate::reload::Parts;
use crate::settings::Settings;
use crate::{notify, say, tag_keys};

/// A worker that has said nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Why a node ends.
pub(crate) enum Ending {
    /// It was told to.
    Told,
    /// Another serves in its place, and may say that what still runs must end now.
    Replaced {
        steps: mpsc::Receiver<Step>,
        by: Successor,
        /// The site's mode when it was handed over.
        mode: Mode,
    },
}

/// The node before this one, on which requests may still run, and the thread that hears of it.
pub(crate) struct Before {
    link: Arc<Link>,
    hears: thread::JoinHandle<()>,
}

/// What a node that runs is made of.
pub(crate) struct Governor<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) data: &'a DataFolder,
    pub(crate) admin: Arc<Admin>,
    pub(crate) parts: Arc<Parts>,
    pub(crate) listening: &'a Listening,
    pub(crate) tenants: Option<&'a Tenants>,
}

/// The admin interface's doors, open.
struct Doors {
    tasks: Vec<JoinHandle<()>>,
    /// The TCP listener's socket, to hand over.
    tcp: Option<StdListener>,
}

/// Signals that say something to a node.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let handler =
            |kind| signal(kind).map_err(|error| format!("cannot handle signals: {error}"));
        Ok(Self {
            hangup: handler(SignalKind::hangup())?,
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
        })
    }
}

/// Takes the next key of the tags where the period of the present one is over, and destroys those that were
/// kept for long enough.
fn tend_keys(node: &Node, data: &Path, sealing: Sealing) {
    let done = |key: String, done, text: &str| {
        drop(node.note(What::TagKey { key, done }, &Said::by_node(text)));
    };
    let now = node.now();
    let tended = || -> Result<(), String> {
        if let Some(key) = tag_keys::rotate(data, sealing.tag_key_time, now)? {
            let id = format!("{:016x}", key.id());
            node.take_tag_key(key);
            tracing::info!(key = id, "tags are made with another key from now on");
            done(id, KeyDone::Began, "the period of the one before is over");
        }
        let Some(keep) = sealing.tag_key_keep else {
            return Ok(());
        };
        let is_old = |ended: UnixMillis| ended < now && now.since(ended) >= keep;
        if !tag_keys::has_before(data) {
            return Ok(());
        }
        let _held = tag_keys::hold(data)?;
        for period in tag_keys::all(data)? {
            if period.ended.is_some_and(is_old) {
                let text = format!("period {}: it was kept for long enough", period.name);
                done(period.id(), KeyDone::Destroyed, &text);
                tag_keys::destroy(&period)?;
                tracing::info!(period = period.name, "a key of tags is destroyed");
            }
        }
        Ok(())
    };
    if let Err(why) = tended() {
        tracing::error!("the keys of the tags: {why}");
    }
}

impl Governor<'_> {
    /// Begins to serve, in the place of the node before if there is one, and returns when told to stop,
    /// or when another node serves in this one's place; with the link to the node before, on which
    /// requests may still run.
    ///
    /// # Errors
    /// It cannot begin; the node before goes on.
    pub(crate) async fn run(
        &self,
        before: Option<Predecessor>,
        mut given: Given,
    ) -> Result<(Ending, Option<Before>), String> {
        let mut signals = Signals::new()?;
        let admin = self.settings.admin.as_ref();
        let tcp = admin.and_then(|admin| given.take(admin.address)?.pop());
        let mut doors = self.open_doors(tcp).await?;
        unclaimed(&given, before.is_some())?;
        if let Some(before) = &before {
            before.go()?;
        }
        // Before anybody can be served: no change of the mode is missed.
        let modes = self.node().modes();
        self.listening.accept(true);
        self.admin.enter(Phase::Serving);
        let before = before
            .map(|before| follow(self.node(), before.serving(), modes))
            .transpose()?;
        let hooks = self.settings.on_mode.clone();
        tokio::spawn(hook::run(
            Arc::clone(self.node()),
            hooks,
            self.settings.hook_time_max,
        ));
        // Some may have been made or revoked while no node ran.
        self.admin.note_tokens(&Actor::Anyone);
        let mut steps = self.offer(&doors)?;
        self.tell(&doors)?;
        tokio::spawn(try_origins(Arc::clone(self.node())));
        let mut mode = self.node().site_mode();
        let mut tick = interval(Duration::from_secs(5));
        let mut look = interval(Duration::from_secs(1));
        let mut watchdog = interval(notify::watchdog_interval());
        loop {
            let serving = self.admin.phase() == Phase::Serving;
            tokio::select! {
                _ = signals.terminate.recv() => return Ok((Ending::Told, before)),
                _ = signals.interrupt.recv() => return Ok((Ending::Told, before)),
                _ = signals.hangup.recv(), if serving => self.reload().await,
                _ = tick.tick() => self.maintain().await,
                _ = look.tick(), if serving && self.settings.watch => self.look_at_files().await,
                _ = watchdog.tick() => {
                    if self.listening.is_alive(SILENCE_MAX) {
                        notify::alive();
                    }
                }
                Some(step) = steps.recv() => match step {
                    Step::Release(done) => {
                        mode = self.node().site_mode();
                        // What the timeline lacks, the other would not know: this one goes on then.
                        if self.release(&mut doors).await && done.send(()).is_err() {
                            tracing::debug!("who asked has ended; that is told next");
                        }
                    }
                    Step::Resume => {
                        doors = self.resume(doors.tcp.take()).await?;
                    }
                    Step::Leave(by) => {
                        return Ok((Ending::Replaced { steps, by, mode }, before));
                    }
                    Step::Cut => tracing::error!("told to cut what runs before another serves"),
                },
            }
        }
    }

    fn node(&self) -> &Arc<Node> {
        self.admin.node()
    }

    async fn maintain(&self) {
        let node = self.node();
        aside(node, |node| node.maintain()).await;
        // Another node that serves in our place has the keys.
        if self.admin.phase() == Phase::Serving {
            let (data, sealing) = (self.data.path().to_owned(), self.settings.sealing);
            aside(node, move |node| tend_keys(node, &data, sealing)).await;
        }
        let concern = self.tenants.and_then(|tenants| tenants.concern(node.now()));
        self.admin.attend("the end of certificates", concern);
    }

    /// What went wrong is logged, and stays in the status.
    async fn reload(&self) {
        notify::reloading();
        aside(&self.admin, |admin| drop(admin.reload(&Actor::Signal))).await;
        notify::ready(self.node());
    }

    /// Reads again what has changed on disk, away from what answers requests.
    async fn look_at_files(&self) {
        let parts = Arc::clone(&self.parts);
        aside(&self.admin, move |admin| {
            admin.note_reloaded(&parts.look(&Actor::Watch), &Actor::Watch);
        })
        .await;
    }

    /// Opens the admin interface: the control socket, and the TCP listener when there is to be one; on
    /// this socket, if it is given.
    async fn open_doors(&self, given: Option<StdListener>) -> Result<Doors, String> {
        let path = &self.settings.control;
        let listener = admin::bind(path)
            .map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
        let mut doors = Doors {
            tasks: vec![tokio::spawn(admin::serve_unix(
                Arc::clone(&self.admin),
                listener,
            ))],
            tcp: None,
        };
        let Some(tcp) = &self.settings.admin else {
            return Ok(doors);
        };
        let fault = |error| {
            format!(
                "cannot listen on {} for the admin interface: {error}",
                tcp.address
            )
        };
        let socket = match given {
            Some(socket) => socket,
            None => {
                let bound = TcpListener::bind(tcp.address).await.map_err(fault)?;
                bound.into_std().map_err(fault)?
            }
        };
        socket.set_nonblocking(true).map_err(fault)?;
        let kept = socket.try_clone().map_err(fault)?;
        let listener = TcpListener::from_std(socket).map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        tracing::info!(%address, changes = tcp.changes, "the admin interface is open");
        let rules = TcpRules {
            hosts: tcp.hosts.clone(),
            changes: tcp.changes,
            readable: address.ip().is_loopback(),
        };
        doors.tcp = Some(kept);
        doors.tasks.push(tokio::spawn(admin::serve_tcp(
            Arc::clone(&self.admin),
            listener,
            rules,
        )));
        Ok(doors)
    }

    /// Offers itself to be replaced.
    fn offer(&self, doors: &Doors) -> Result<mpsc::Receiver<Step>, String> {
        let path = self.data.join(handover::SOCKET);
        let estate = || {
            let mut sockets = self.listening.sockets()?;
            sockets.extend(doors.tcp.as_ref().map(StdListener::try_clone).transpose()?);
            let lock = self.data.lock()?;
            handover::offer(&path, Estate { lock, sockets })
        };
        estate().map_err(|error| format!("cannot listen on {}: {error}", path.display()))
    }

    /// Says where it listens, on standard output and to the service manager.
    fn tell(&self, doors: &Doors) -> Result<(), String> {
        for listener in self.listening.listeners() {
            let (scheme, address) = (listener.scheme().as_str(), listener.address);
            say(&format!("listening on {scheme}://{address}\n"))?;
        }
        if let Some(address) = doors.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()) {
            say(&format!("admin on http://{address}\n"))?;
        }
        notify::ready(self.node());
        Ok(())
    }

    /// Takes no connection and changes nothing: another node is about to. Returns whether it can.
    async fn release(&self, doors: &mut Doors) -> bool {
        self.admin.enter(Phase::Stopping);
        self.listening.accept(false);
        for task in doors.tasks.drain(..) {
            task.abort();
            // Until it has ended, its socket listens.
            drop(task.await);
        }
        aside(self.node(), |node| {
            node.leave_timeline("another node replaces this one")
        })
        .await
    }

    /// Goes on: the other node does not serve.
    async fn resume(&self, tcp: Option<StdListener>) -> Result<Doors, String> {
        let resumed = aside(self.node(), |node| node.resume_timeline()).await;
        resumed.map_err(|fault| fault.to_string())?;
        let doors = self.open_doors(tcp).await?;
        self.listening.accept(true);
        self.admin.enter(Phase::Serving);
        Ok(doors)
    }
}

/// Does what may wait for a disk on a thread of its own: signals and the admin interface go on.
async fn aside<T, D>(of: &Arc<T>, work: impl FnOnce(&T) -> D + Send + 'static) -> D
where
    T: Send + Sync + 'static,
    D: Send + 'static,
{
    let of = Arc::clone(of);
    match spawn_blocking(move || work(&of)).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Speaks of sockets that were given and that nothing listens on: clients would wait there for ever.
fn unclaimed(given: &Given, by_node: bool) -> Result<(), String> {
    for address in given.addresses() {
        if !by_node {
            return Err(format!(
                "the service manager gives a socket on {address} and nothing is to listen there: write a \
                 [[listen]] with this address, or take it out of the socket unit"
            ));
        }
        tracing::warn!("the node before listened on {address} and this one does not");
    }
    Ok(())
}

/// Ends a node: what runs may end, within its time; less when another says so. What still runs on the
/// node before may end too: when this process is gone, nobody could tell that one that the site is closed.
pub(crate) fn end(node: &Arc<Node>, listening: Listening, ending: Ending, before: Option<Before>) {
    notify::stopping();
    if let Ending::Replaced {
        mut steps,
        by,
        mode,
    } = ending
    {
        tell_of_trips(Arc::clone(node), by, mode);
        let link = before.as_ref().map(|before| Arc::clone(&before.link));
        let (node, cutter) = (Arc::clone(node), listening.cutter());
        // It ends with this process.
        thread::spawn(move || {
            if let Some(Step::Cut) = steps.blocking_recv() {
                node.close_with_successor();
                cutter.cut();
                if let Some(link) = link {
                    link.cut();
                }
            }
        });
    }
    listening.shut_down();
    if let Some(before) = before
        && before.hears.join().is_err()
    {
        tracing::error!("the thread that heard of the node before had panicked");
    }
}

/// Has the node before do as this one does while requests still run there: what it lowers the mode to by
/// itself holds here, and when this site is closed what runs there is cut.
fn follow(
    node: &Arc<Node>,
    link: Link,
    mut modes: watch::Receiver<Option<ModeNotice>>,
) -> Result<Before, String> {
    let link = Arc::new(link);
    let (cuts, here) = (Arc::clone(&link), Arc::clone(node));
    tokio::spawn(async move {
        while here.stance().mode != Mode::Closed {
            if modes.changed().await.is_err() {
                return;
            }
        }
        cuts.cut();
    });
    let (heard, here) = (Arc::clone(&link), Arc::clone(node));
    let hears = thread::Builder::new()
        .name("shikiri-before".into())
        .spawn(move || {
            heard.hear(|mode| {
                let said = "the node before lowered the mode: its log says why";
                here.lower_mode(mode, &Said::by_node(said));
            });
        })
        .map_err(|error| format!("cannot start: {error}"))?;
    Ok(Before { link, hears })
}

/// Tells the node that serves in this one's place of what this one lowers the mode to by itself, until this
/// process ends.
fn tell_of_trips(node: Arc<Node>, by: Successor, mode: Mode) {
    let mut modes = node.modes();
    let mut told = mode;
    let telling = async move {
        loop {
            let now = node.site_mode();
            if now < told {
                by.lowered(now);
                told = now;
            }
            if modes.changed().await.is_err() {
                return;
            }
        }
    };
    thread::spawn(move || match Builder::new_current_thread().build() {
        Ok(runtime) => runtime.block_on(telling),
        Err(error) => tracing::error!(%error, "what this node lowers is not told to the next"),
    });
}

/// Says early what every request would say later.
async fn try_origins(node: Arc<Node>) {
    for origin in node.stance().rules.origins() {
        if let Err(fault) = shikiri_edge::try_origin(&node, &origin.upstream).await {
            let (status, fault) = (fault.status().as_u16(), fault.to_string());
            tracing::warn!("{fault}; requests get {status} until this is mended");
        }
    }
}
