//! Listeners: sockets in, connections out, one thread and one runtime for each core.
//!
//! What a client has to say before its first request is `meet`'s. Every worker has its own listening socket on the same address and its own connections to
//! origins; the store and the stance are the node's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use shikiri_evidence::OpenFault;
use shikiri_partition::Scheme;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::connection::told_to_stop;
use crate::meet::serve_client;
use crate::node::{Node, Worker};
use crate::tls::Tenants;

/// Connections that the kernel holds for one listener before we take them.
const BACKLOG: u32 = 1024;

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
    listeners: Vec<Listener>,
}

/// Why listening could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ListenFault {
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Address(SocketAddr, io::Error),
    /// A worker's lane of evidence could not be had.
    #[error(transparent)]
    Evidence(OpenFault),
    /// A thread or runtime could not be had.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
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
    let (stop, stopped) = watch::channel(false);
    let connections = Arc::clone(node.connections_counter());
    for Listener { address, .. } in listeners {
        is_free(*address).map_err(|e| ListenFault::Address(*address, e))?;
    }
    // A port of 0 is chosen once, and then shared by all workers.
    let mut bound = Vec::new();
    let mut first = Vec::new();
    for listener in listeners {
        let fault = |e| ListenFault::Address(listener.address, e);
        let socket = bind(listener.address).map_err(fault)?;
        bound.push(Listener {
            address: socket.local_addr().map_err(fault)?,
            ..listener.clone()
        });
        first.push(socket);
    }
    let mut sets = vec![first];
    for _ in 1..workers.max(1) {
        let set = bound
            .iter()
            .map(|l| bind(l.address).map_err(|e| ListenFault::Address(l.address, e)));
        sets.push(set.collect::<Result<_, _>>()?);
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
            let listening = bound
                .iter()
                .zip(sockets)
                .map(|(listener, socket)| {
                    let listening = socket.listen(BACKLOG);
                    let fault = |e| ListenFault::Address(listener.address, e);
                    Ok((listening.map_err(fault)?, listener.clone()))
                })
                .collect::<Result<Vec<_>, _>>();
            listening?
        };
        let (node, stopped, connections) =
            (Arc::clone(node), stopped.clone(), Arc::clone(&connections));
        let worker = Worker::new(node).map_err(ListenFault::Evidence)?;
        let run = move || runtime.block_on(work(worker, listeners, stopped, connections));
        let handle = thread::Builder::new()
            .name(format!("shikiri-{n}"))
            .spawn(run);
        handles.push(handle.map_err(ListenFault::Worker)?);
    }
    Ok(Listening {
        workers: handles,
        stop,
        listeners: bound,
    })
}

/// Whether nobody listens there. Our own sockets share their port, and so they would with another
/// node of the same user: two nodes, perhaps of different policies, would each get a part of the
/// connections, and nobody would be told.
fn is_free(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(address)
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = socket(address)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

impl Listening {
    /// The listeners, with the ports that were chosen.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Stops listening, lets running requests end within their time, and returns.
    pub fn shut_down(self) {
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
    mut stopped: watch::Receiver<bool>,
    connections: Arc<AtomicUsize>,
) {
    let mut accepting = tokio::task::JoinSet::new();
    let (alive, mut all_gone) = tokio::sync::mpsc::channel::<()>(1);
    for (socket, listener) in listeners {
        accepting.spawn(accept(
            Arc::clone(&worker),
            socket,
            listener,
            stopped.clone(),
            Arc::clone(&connections),
            alive.clone(),
        ));
    }
    let mut tick = interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stopped) => break,
            _ = tick.tick() => worker.sweep(),
        }
    }
    accepting.abort_all();
    drop(alive);
    let patience = worker.node().stance().rules.limits().shutdown_time_max;
    if timeout(patience, all_gone.recv()).await.is_err() {
        tracing::warn!("running requests were cut: they took longer than the shutdown time");
        worker.lane().cut_all();
    }
}

async fn accept(
    worker: Arc<Worker>,
    socket: TcpListener,
    listener: Listener,
    stopped: watch::Receiver<bool>,
    connections: Arc<AtomicUsize>,
    alive: tokio::sync::mpsc::Sender<()>,
) {
    loop {
        let (mut stream, client) = match socket.accept().await {
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
        let (worker, stopped, alive) = (Arc::clone(&worker), stopped.clone(), alive.clone());
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
