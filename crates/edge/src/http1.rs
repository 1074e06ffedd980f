//! HTTP/1 on a client connection: its bytes through the guard and hyper.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::connection::{Connection, Turn, told_to_stop};
use crate::guard::{Findings, Guarded};
use crate::incoming::Incoming;
use crate::lane::NoEvidence;
use crate::node::Worker;
use crate::request;

/// How long a client connection that is idle when the node is told to stop may still bring a request.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// Serves requests one after another until the connection ends.
pub(crate) async fn serve<IO>(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    io: IO,
    stop: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.limits();
    let findings = Findings::new();
    let guarded = Guarded::new(io, &limits, Arc::clone(&findings));
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let (worker, connection) = (Arc::clone(worker), Arc::clone(connection));
        // Requests are counted as hyper hands them over, before any of them waits.
        let turn = Turn::Guarded(findings.turn());
        let request = request.map(Incoming::Http1);
        let leaving = stop.clone();
        // On the heap while it runs, so that an idle connection does not keep room for one.
        Box::pin(async move {
            let mut response = request::serve(&worker, &connection, turn, request).await?;
            if *leaving.borrow() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, NoEvidence>(response)
        })
    });
    let serving = http1::Builder::new()
        // The node's clock, not the library's, says what time it is.
        .auto_date_header(false)
        .max_headers(limits.head_fields_max)
        .max_buf_size(limits.head_bytes_max.max(8192) + 8192)
        .serve_connection(TokioIo::new(guarded), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let mut told = stop.clone();
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        // A request may be on its way already: it is answered, and told that it was the last. Only who
        // is silent meanwhile is closed on.
        () = told_to_stop(&mut told) => tokio::select! {
            biased;
            ended = serving.as_mut() => ended,
            () = sleep(FAREWELL_TIME.min(limits.shutdown_time_max / 2)) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended");
        return;
    }
    if let Some(tunnel) = connection.take_tunnel() {
        tunnel.run(limits.tunnel_idle_time_max).await;
    }
}
