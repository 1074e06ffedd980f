//! One client connection: what its requests have in common, and which protocol carries them to
//! [`crate::request::serve`].
//!
//! [`serve_connection`] is where every byte of every client passes, whatever is spoken: what must hold
//! for all of them (its end when the node is told to stop) is here; what belongs to one protocol is in
//! [`crate::http1`] and [`crate::http2`].

use std::net::IpAddr;
use std::sync::Arc;

use shikiri_partition::{Hop, Refused};
use shikiri_record::AddressTag;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use crate::lane::{Held, Owed};
use crate::node::{Node, Worker};
use crate::origin::ViewerPool;
use crate::transport::{Protocol, Transport};
use crate::{guard, http1, http2};

/// What the requests of one client connection have in common.
pub(crate) struct Connection {
    transport: Transport,
    trusted: bool,
    passes: ViewerPool,
    address_tag: AddressTag,
    owed: Arc<Owed>,
}

impl Connection {
    fn new(node: &Node, transport: Transport) -> Arc<Self> {
        Arc::new(Self {
            trusted: node.trusts(transport.client),
            address_tag: node.evidence().address_tag(transport.client),
            owed: Arc::default(),
            transport,
            passes: ViewerPool::default(),
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

    /// Whether a request for this host may come on this connection.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        self.transport
            .tls
            .as_ref()
            .is_none_or(|tls| tls.names.hold(host))
    }

    /// The client's address, as evidence knows it.
    pub(crate) const fn address_tag(&self) -> AddressTag {
        self.address_tag
    }

    /// What must be written before the connection may write.
    pub(crate) const fn owed(&self) -> &Arc<Owed> {
        &self.owed
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

    /// Where interim responses to this request go; `None` when its protocol's library sends none.
    pub(crate) const fn interim(&self) -> Option<&mpsc::Sender<http::Response<()>>> {
        match self {
            Self::Guarded(_) => None,
            Self::Stream(stream) => Some(&stream.interim),
        }
    }
}

/// Serves a client connection until it ends, or until `stop` says so and its running requests have
/// been answered.
pub async fn serve_connection<IO>(
    worker: &Arc<Worker>,
    io: IO,
    transport: Transport,
    stop: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection::new(worker.node(), transport);
    // No evidence, no bytes: whatever is spoken.
    let io = Held::new(io, Arc::clone(worker.lane()), Arc::clone(connection.owed()));
    match connection.transport.protocol {
        Protocol::Http1 => http1::serve(worker, &connection, io, stop).await,
        Protocol::Http2 => http2::serve(worker, &connection, io, stop).await,
    }
}

/// Waits until the node is told to stop; a node that is gone has stopped.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await.map(|stop| *stop));
}
