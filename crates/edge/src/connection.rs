//! One client connection: what its requests have in common, and which protocol carries them to
//! [`crate::request::serve`].
//!
//! [`serve_connection`] is where every byte of every client passes, whatever is spoken: what must hold
//! for all of them (its end when the node is told to stop) is here; what belongs to one protocol is in
//! [`crate::http1`] and [`crate::http2`].

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::Version;
use shikiri_partition::{Hop, Refused};
use shikiri_record::AddressTag;
use tokio::sync::{mpsc, watch};

use crate::closing::Cut;
use crate::cut::{Cuttable, Downstream, Shears};
use crate::evidence::Tags;
use crate::gate::Through;
use crate::node::{Node, Worker};
use crate::origin::ViewerPool;
use crate::transport::{Protocol, Transport};
use crate::tunnel::Tunnel;
use crate::{guard, http1, http2};

/// What the requests of one client connection have in common.
pub(crate) struct Connection {
    transport: Transport,
    trusted: bool,
    passes: ViewerPool,
    /// The client's address, under the key that it was last asked for with.
    address: Mutex<(Arc<Tags>, AddressTag)>,
    exposure: Arc<Exposure>,
    shears: Shears,
    /// What follows when HTTP has ended on it.
    tunnel: Mutex<Option<Tunnel>>,
}

/// What a connection has carried that came from an origin or the store, and not by a preview grant.
#[derive(Debug, Default)]
struct Exposure {
    /// Something.
    ever: AtomicBool,
    /// Responses that are on their way.
    running: AtomicU64,
}

/// A response on its way, which a closing cuts.
#[derive(Debug)]
pub(crate) struct Exposed {
    /// Nothing where a preview grant let it through: it goes on.
    counted: Option<Arc<Exposure>>,
    /// For a client to whom a body of no told length ends with its connection (HTTP/1.0).
    shears: Option<Shears>,
}

impl Exposed {
    /// Its body, of no told length, broke off: that must not look like its end.
    pub(crate) fn breaks_off(&self) {
        if let Some(shears) = &self.shears {
            shears.cut();
        }
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        if let Some(exposure) = &self.counted {
            exposure.running.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Connection {
    fn new(node: &Node, transport: Transport) -> Arc<Self> {
        let tags = Arc::clone(&node.stance().tags);
        let address = tags.address(transport.client);
        Arc::new(Self {
            trusted: node.trusts(transport.client),
            address: Mutex::new((tags, address)),
            transport,
            tunnel: Mutex::default(),
            passes: ViewerPool::default(),
            exposure: Arc::default(),
            shears: Shears::default(),
        })
    }

    /// Notes that a request went through the gate: what it is answered with is cut when the site is
    /// closed, unless a preview grant let it through.
    pub(crate) fn expose(&self, through: &Through, version: Version) -> Exposed {
        let counted = through.grant.is_none().then(|| {
            self.exposure.ever.store(true, Ordering::SeqCst);
            self.exposure.running.fetch_add(1, Ordering::SeqCst);
            Arc::clone(&self.exposure)
        });
        Exposed {
            counted,
            shears: (version == Version::HTTP_10).then(|| self.shears.clone()),
        }
    }

    /// Cuts the connection, if it has carried anything that a closed site does not show. What was written
    /// may be on its way for long after it was answered, so it is not asked whether anything still runs.
    fn cut(&self) -> Option<Cut> {
        if !self.exposure.ever.load(Ordering::SeqCst) {
            return None;
        }
        #[cfg(feature = "seeded-faults")]
        if shikiri_partition::fault::is(shikiri_partition::fault::Fault::ClosingCutsNothing) {
            return None;
        }
        self.shears.cut();
        Some(Cut {
            connections: 1,
            streams: self.exposure.running.load(Ordering::SeqCst),
        })
    }

    /// How the client reaches us.
    pub(crate) const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The hop before us.
    pub(crate) fn hop(&self) -> Hop<'_> {
        Hop {
            client: self.client(),
            trusted: self.trusted,
            scheme: self.transport.scheme(),
            certificate: self.transport.certificate(),
        }
    }

    /// The client's address.
    pub(crate) const fn client(&self) -> IpAddr {
        self.transport.client
    }

    /// Whether the client may be told reasons, and is believed about earlier hops.
    pub(crate) const fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Whether a request for this host may come on this connection. In cleartext nobody shows a
    /// certificate: a host that asks for one is not served there, but to a trusted hop, which has looked
    /// at its client's itself.
    pub(crate) fn is_for(&self, node: &Node, host: &str) -> bool {
        match &self.transport.tls {
            Some(tls) => tls.names.hold(host),
            None => self.trusted || !node.requires_certificate(host),
        }
    }

    /// The client's address, as evidence knows it under a request's key.
    pub(crate) fn address_tag(&self, tags: &Arc<Tags>) -> AddressTag {
        let mut known = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known.0, tags) {
            *known = (Arc::clone(tags), tags.address(self.transport.client));
        }
        known.1
    }

    /// Has a tunnel follow on what HTTP leaves.
    pub(crate) fn open(&self, tunnel: Tunnel) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// The tunnel that follows, if one does.
    pub(crate) fn take_tunnel(&self) -> Option<Tunnel> {
        let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        tunnel.take()
    }

    /// Origin connections that belong to this client connection.
    pub(crate) const fn passes(&self) -> &ViewerPool {
        &self.passes
    }
}

/// One request's turn on its connection. While it lives, the connection is not idle.
pub(crate) enum Turn {
    /// On HTTP/1 the guard may refuse the request before or while it is read.
    Guarded(guard::Turn),
    /// On HTTP/2 a request is a stream of its own.
    Stream(Stream),
}

/// A request's own stream.
pub(crate) struct Stream {
    /// Why it is refused, if it is: known from its head.
    pub(crate) refused: Option<Refused>,
    /// Takes interim responses to the client.
    pub(crate) interim: mpsc::Sender<http::Response<()>>,
}

impl Turn {
    /// Why the request is refused, if it is. After reading its body has failed, ask again.
    pub(crate) fn refused(&self) -> Option<Refused> {
        match self {
            Self::Guarded(turn) => turn.refused(),
            Self::Stream(stream) => stream.refused,
        }
    }

    /// The request has switched protocols. Only HTTP/1 can.
    pub(crate) fn switch(&self) {
        match self {
            Self::Guarded(turn) => turn.switch(),
            Self::Stream(_) => {}
        }
    }

    /// Where interim responses to this request go; `None` when its protocol's library sends none.
    pub(crate) const fn interim(&self) -> Option<&mpsc::Sender<http::Response<()>>> {
        match self {
            Self::Guarded(_) => None,
            Self::Stream(stream) => Some(&stream.interim),
        }
    }
}

/// Serves a client connection until it ends, until `stop` says so and its running requests have been
/// answered, or until the site is closed.
pub async fn serve_connection<IO>(
    worker: &Arc<Worker>,
    io: IO,
    transport: Transport,
    stop: watch::Receiver<bool>,
) where
    IO: Downstream,
{
    let mut enrolled = worker.node().closings.enrol();
    let connection = Connection::new(worker.node(), transport);
    let io = Cuttable::new(io, connection.shears.clone());
    // Each takes its own room, and not that of the larger.
    let mut serving: Pin<Box<dyn Future<Output = ()> + Send>> = match connection.transport.protocol
    {
        Protocol::Http1 => Box::pin(http1::serve(worker, &connection, io, stop)),
        Protocol::Http2 => Box::pin(http2::serve(worker, &connection, io, stop)),
    };
    loop {
        tokio::select! {
            biased;
            () = enrolled.closed() => {
                if let Some(cut) = connection.cut() {
                    drop(serving);
                    enrolled.done(cut);
                    return;
                }
                enrolled.done(Cut::default());
            }
            () = serving.as_mut() => return,
        }
    }
}

/// Waits until the node is told to stop; a node that is gone has stopped.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await.map(|stop| *stop));
}
