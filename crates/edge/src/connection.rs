//! One client connection: its bytes through the guard and hyper, its requests to
//! [`crate::request::serve`].

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use shikiri_partition::{Hop, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::guard::{Findings, Guarded, Turn};
use crate::node::Worker;
use crate::origin::ViewerPool;
use crate::request;

/// What the requests of one client connection have in common.
pub(crate) struct Connection {
    client: IpAddr,
    trusted: bool,
    findings: Arc<Findings>,
    passes: ViewerPool,
}

impl Connection {
    /// The next request's turn, with what the guard found about its bytes.
    pub(crate) fn turn(&self) -> Turn {
        self.findings.turn()
    }

    /// The hop before us.
    pub(crate) const fn hop(&self) -> Hop {
        Hop {
            client: self.client,
            trusted: self.trusted,
            scheme: Scheme::Http,
        }
    }

    /// Whether the client may be told reasons, and is believed about earlier hops.
    pub(crate) const fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Origin connections that belong to this client connection.
    pub(crate) const fn passes(&self) -> &ViewerPool {
        &self.passes
    }
}

/// Serves a client connection until it ends, or until `stop` says so and its last request has been
/// answered.
pub async fn serve_connection<IO>(
    worker: &Arc<Worker>,
    io: IO,
    client: SocketAddr,
    mut stop: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let node = worker.node();
    let limits = *node.stance().rules.limits();
    let findings = Findings::new();
    let guarded = Guarded::new(io, &limits, Arc::clone(&findings));
    let client = client.ip().to_canonical();
    let connection = Arc::new(Connection {
        client,
        trusted: node.trusts(client),
        findings,
        passes: ViewerPool::default(),
    });
    let service = service_fn(|request| {
        let worker = Arc::clone(worker);
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(request::serve(&worker, &connection, request).await) }
    });
    let serving = http1::Builder::new()
        // The node's clock, not the library's, says what time it is.
        .auto_date_header(false)
        .max_headers(limits.head_fields_max)
        .max_buf_size(limits.head_bytes_max.max(8192) + 8192)
        .serve_connection(TokioIo::new(guarded), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = told_to_stop(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended");
    }
}

/// Waits until the node is told to stop; a node that is gone has stopped.
pub(crate) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await.map(|stop| *stop));
}
