//! Listeners: sockets in, connections out, one thread and one runtime for each core.
//!
//! What a client has to say before its first request is `meet`'s. Every worker has its own listening
//! socket on the same address, as far as there are so many, and its own connections to origins; the
//! store and the stance are the node's.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shikiri_evidence::OpenFault;
use shikiri_partition::Scheme;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::connection::told_to_stop;
use crate::meet::serve_client;
use crate::node::{Node, Worker};
use crate::sockets::{self, Given};
use crate::tls::Tenants;

/// One address to listen on, and how clients are met there.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address. Port 0 takes a free one.
    pub address: SocketAddr,
    /// Whose certificates are shown; `None`: cleartext.
    pub tls: Option<Arc<Tenants>>,
    /// Whether HTTP/2 is spoken too: in TLS by agreement, in cleartext with whoever begins with it.
    pub http2: bool,
    /// Whether every connection begins with a PROXY protocol header, from a trusted address.
    pub proxy_protocol: bool,
}

impl Listener {
    /// HTTP/1 in cleartext.
    #[must_use]
    pub const fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            http2: false,
            proxy_protocol: false,
        }
    }

    /// The scheme of what is asked there.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self.tls {
            None => Scheme::Http,
            Some(_) => Scheme::Https,
        }
    }
}

/// A node's listeners.
pub struct Listening {
    workers: Vec<thread::JoinHandle<()>>,
    stop: watch::Sender<bool>,
    accepting: watch::Sender<bool>,
    listeners: Vec<Listener>,
    /// Descriptors of every socket, to hand over.
    sockets: Vec<StdListener>,
    cut: watch::Sender<bool>,
    began: Instant,
    /// When each worker was last heard of, in milliseconds since it all began.
    beats: Arc<[AtomicU64]>,
}

/// Cuts what still runs on a node that was told to stop.
pub struct Cutter(watch::Sender<bool>);

impl Cutter {
    /// Cuts it now.
    pub fn cut(&self) {
        self.0.send_replace(true);
    }
}

/// Why listening could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ListenFault {
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}{hint}", hint = hint(.1))]
    Address(SocketAddr, io::Error),
    /// A worker's lane of evidence could not be had.
    #[error(transparent)]
    Evidence(OpenFault),
    /// A thread or runtime could not be had.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

/// What to do about it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there: stop it, or, if it is an older edge with the same data \
             folder, start this one with --replace"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket of systemd (docs/operations.md)"
        }
        _ => "",
    }
}

/// Listens on every address, with so many workers.
///
/// When this returns, a connection to any of the addresses is taken: whoever is told where we listen
/// may connect at once.
///
/// # Errors
/// When an address cannot be bound, or a thread not started. Nothing listens then.
pub fn listen(
    node: &Arc<Node>,
    listeners: &[Listener],
    workers: usize,
) -> Result<Listening, ListenFault> {
    let listening = prepare(node, listeners, workers, &mut Given::default())?;
    listening.accept(true);
    Ok(listening)
}

/// The same, but connections wait in the kernel until [`Listening::accept`] says so; and sockets that
/// were given for an address are listened on instead of new ones.
///
/// # Errors
/// As [`listen`].
pub fn prepare(
    node: &Arc<Node>,
    listeners: &[Listener],
    workers: usize,
    given: &mut Given,
) -> Result<Listening, ListenFault> {
    let (stop, stopped) = watch::channel(false);
    let (accepting, accepts) = watch::channel(false);
    let (cut, is_cut) = watch::channel(false);
    let connections = Arc::clone(node.connections_counter());
    let workers = workers.max(1);
    let began = Instant::now();
    let beats = (0..workers).map(|_| AtomicU64::new(0)).collect();
    let (mut bound, mut kept) = (Vec::new(), Vec::new());
    let mut sets: Vec<Vec<(StdListener, Listener)>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in listeners {
        let fault = |e| ListenFault::Address(listener.address, e);
        let (address, hands) =
            sockets::for_threads(given, listener.address, workers).map_err(fault)?;
        let listener = Listener {
            address,
            ..listener.clone()
        };
        for (set, hand) in sets.iter_mut().zip(hands) {
            for socket in &hand {
                kept.push(socket.try_clone().map_err(fault)?);
            }
            set.extend(hand.into_iter().map(|socket| (socket, listener.clone())));
        }
        bound.push(listener);
    }
    let mut handles = Vec::new();
    for (n, sockets) in sets.into_iter().enumerate() {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ListenFault::Worker)?;
        let listeners = {
            // A listener belongs to the runtime in which it began.
            let _entered = runtime.enter();
            let listeners = sockets
                .into_iter()
                .map(|(socket, listener)| Ok((TcpListener::from_std(socket)?, listener)));
            listeners
                .collect::<Result<Vec<_>, _>>()
                .map_err(ListenFault::Worker)?
        };
        let (node, connections) = (Arc::clone(node), Arc::clone(&connections));
        let told = Told {
            stop: stopped.clone(),
            accepts: accepts.clone(),
            cut: is_cut.clone(),
        };
        let beat = Beat {
            began,
            nth: n,
            beats: Arc::clone(&beats),
        };
        let worker = Worker::new(node).map_err(ListenFault::Evidence)?;
        let run = move || runtime.block_on(work(worker, listeners, told, beat, connections));
        let handle = thread::Builder::new()
            .name(format!("shikiri-{n}"))
            .spawn(run);
        handles.push(handle.map_err(ListenFault::Worker)?);
    }
    Ok(Listening {
        workers: handles,
        stop,
        accepting,
        listeners: bound,
        sockets: kept,
        cut,
        began,
        beats,
    })
}

/// What workers are told while they run.
#[derive(Clone)]
struct Told {
    /// To end, once what runs has ended.
    stop: watch::Receiver<bool>,
    /// To take new connections, or to leave them in the kernel for now.
    accepts: watch::Receiver<bool>,
    /// To wait no longer for what runs.
    cut: watch::Receiver<bool>,
}

/// A worker's sign of life.
struct Beat {
    began: Instant,
    nth: usize,
    beats: Arc<[AtomicU64]>,
}

impl Beat {
    fn now(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(beat) = self.beats.get(self.nth) {
            beat.store(ms, Ordering::Relaxed);
        }
    }
}

impl Listening {
    /// The listeners, with the ports that were chosen.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Takes new connections, or leaves them in the kernel for now.
    pub fn accept(&self, accept: bool) {
        self.accepting.send_replace(accept);
    }

    /// Descriptors of every socket, for whoever is to listen on them after us.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn sockets(&self) -> io::Result<Vec<StdListener>> {
        self.sockets.iter().map(StdListener::try_clone).collect()
    }

    /// Whether every worker has been heard of within this time.
    #[must_use]
    pub fn is_alive(&self, within: Duration) -> bool {
        let now = self.began.elapsed();
        self.beats.iter().all(|beat| {
            let beat = Duration::from_millis(beat.load(Ordering::Relaxed));
            now.saturating_sub(beat) <= within
        })
    }

    /// What cuts running requests while [`Listening::shut_down`] waits for them.
    #[must_use]
    pub fn cutter(&self) -> Cutter {
        Cutter(self.cut.clone())
    }

    /// Stops listening, lets running requests end within their time, and returns.
    pub fn shut_down(self) {
        // Unless somebody else has them too, nobody listens from here on.
        drop(self.sockets);
        self.stop.send_replace(true);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

/// One worker, until it is told to stop.
async fn work(
    worker: Arc<Worker>,
    listeners: Vec<(TcpListener, Listener)>,
    mut told: Told,
    beat: Beat,
    connections: Arc<AtomicUsize>,
) {
    let mut accepting = tokio::task::JoinSet::new();
    let (alive, mut all_gone) = tokio::sync::mpsc::channel::<()>(1);
    for (socket, listener) in listeners {
        accepting.spawn(accept(
            Arc::clone(&worker),
            socket,
            listener,
            told.clone(),
            Arc::clone(&connections),
            alive.clone(),
        ));
    }
    let mut tick = interval(Duration::from_secs(5));
    let mut pulse = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut told.stop) => break,
            _ = tick.tick() => worker.sweep(),
            _ = pulse.tick() => beat.now(),
        }
    }
    accepting.abort_all();
    drop(alive);
    let patience = worker.node().stance().rules.limits().shutdown_time_max;
    let cut = tokio::select! {
        gone = timeout(patience, all_gone.recv()) => {
            if gone.is_err() {
                tracing::warn!("running requests were cut: they took longer than the shutdown time");
            }
            gone.is_err()
        }
        _ = told.cut.wait_for(|cut| *cut) => true,
    };
    if cut {
        worker.lane().cut_all();
    }
}

async fn accept(
    worker: Arc<Worker>,
    socket: TcpListener,
    listener: Listener,
    mut told: Told,
    connections: Arc<AtomicUsize>,
    alive: tokio::sync::mpsc::Sender<()>,
) {
    loop {
        if told.accepts.wait_for(|accepts| *accepts).await.is_err() {
            return;
        }
        let accepted = tokio::select! {
            biased;
            _ = told.accepts.wait_for(|accepts| !*accepts) => continue,
            accepted = socket.accept() => accepted,
        };
        let (mut stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connections_max = worker.node().stance().rules.limits().connections_max;
        let counted = Counted::new(&connections);
        if counted.before >= connections_max && listener.tls.is_some() {
            // There is no cheap way to say so before a handshake.
            continue;
        }
        if counted.before >= connections_max {
            tokio::spawn(async move {
                const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
                    Retry-After: 5\r\nContent-Length: 0\r\n\r\n";
                drop(timeout(Duration::from_secs(1), stream.write_all(FULL)).await);
                drop(counted);
            });
            continue;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let (worker, stopped, alive) = (Arc::clone(&worker), told.stop.clone(), alive.clone());
        let listener = listener.clone();
        tokio::spawn(async move {
            serve_client(&worker, stream, client, &listener, stopped).await;
            drop((counted, alive));
        });
    }
}

struct Counted {
    connections: Arc<AtomicUsize>,
    before: usize,
}

impl Counted {
    fn new(connections: &Arc<AtomicUsize>) -> Self {
        let before = connections.fetch_add(1, Ordering::Relaxed);
        Self {
            connections: Arc::clone(connections),
            before,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an origin is this very host, so that it may take our connections for a local
/// administrator's.
#[must_use]
pub fn may_trust_loopback(address: &str) -> bool {
    address == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use shikiri_partition::policy;

    use super::*;
    use crate::{Config, Evidence, RealWorld};

    #[test]
    fn a_port_that_another_node_listens_on_is_not_shared() {
        let node = || {
            let origin = policy::origin("http://127.0.0.1:1").unwrap();
            let config = Config {
                name: "edge".into(),
                trusted: Vec::new(),
            };
            let rules = policy::compile(None, Some(origin)).unwrap();
            Node::new(
                config,
                rules,
                Arc::new(RealWorld::new()),
                Evidence::of_nobody(),
            )
        };
        let any = Listener::plain("127.0.0.1:0".parse().unwrap());
        let first = listen(&node(), &[any], 2).unwrap();
        let taken = first.listeners().to_vec();
        let second = listen(&node(), &taken, 2);
        assert!(
            matches!(&second, Err(ListenFault::Address(_, e)) if e.kind() == io::ErrorKind::AddrInUse)
        );
        first.shut_down();
        listen(&node(), &taken, 2).unwrap().shut_down();
    }
}
