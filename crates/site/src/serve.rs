//! The listener: bytes to requests, requests to the router, within bounds.
//!
//! Pages are made on threads that may block, since the store does. It never reads a body that no page
//! takes, and never more of one than a form may have.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::asked::Millis;
use crate::declare::App;
use crate::router::{FORM_BYTES_MAX, Router};

/// Connections at once; who comes after waits.
const CONNECTIONS_MAX: usize = 1024;
/// Pages in the making at once.
const PAGES_MAX: usize = 64;
const HEAD_WITHIN: Duration = Duration::from_secs(15);
const BODY_WITHIN: Duration = Duration::from_secs(15);
const UPLOAD_WITHIN: Duration = Duration::from_secs(60);
/// Files on their way in at once.
const UPLOADS_MAX: usize = 16;
/// How long running answers may take when the site stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A site, whatever it is made of. It may block.
pub trait Answers: Send + Sync + 'static {
    /// Answers one request, of which `client` is where it came from, as far as known.
    fn answer(
        &self,
        request: Request<Bytes>,
        client: Option<IpAddr>,
        now: Millis,
    ) -> Response<Bytes>;

    /// How large a body it takes with such a request. A form's, when it takes no files.
    fn body_bytes_max(&self, _method: &Method, _path: &str) -> usize {
        FORM_BYTES_MAX
    }
}

impl<A: App> Answers for Router<A> {
    fn answer(
        &self,
        request: Request<Bytes>,
        client: Option<IpAddr>,
        now: Millis,
    ) -> Response<Bytes> {
        Self::answer(self, request, client, now)
    }

    fn body_bytes_max(&self, method: &Method, path: &str) -> usize {
        Self::body_bytes_max(self, method, path)
    }
}

/// How far a request's own word on where it came from counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Clients connect themselves: the connection's address counts.
    Nobody,
    /// An edge, and nobody else, connects: the last address of `X-Forwarded-For` is the client's.
    Edge,
}

/// Serves the site until `stop` is done, and then what is running to its end.
///
/// # Errors
/// The listener failed.
pub async fn serve<S: Answers>(
    listener: TcpListener,
    site: Arc<S>,
    before: Before,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (stopping, stopped) = watch::channel(false);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let pages = Arc::new(Semaphore::new(PAGES_MAX));
    let uploads = Arc::new(Semaphore::new(UPLOADS_MAX));
    let mut stop = pin!(stop);
    loop {
        let permit = Arc::clone(&connections).acquire_owned();
        let permit = permit.await.expect("the semaphore is never closed");
        let (stream, peer) = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_the_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let visit = Visit {
            site: Arc::clone(&site),
            pages: Arc::clone(&pages),
            uploads: Arc::clone(&uploads),
            before,
            peer,
        };
        let stopped = stopped.clone();
        tokio::spawn(async move {
            connection(stream, visit, stopped).await;
            drop(permit);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    let all = u32::try_from(CONNECTIONS_MAX).expect("it is a small number");
    drop(timeout(STOP_WITHIN, connections.acquire_many(all)).await);
    Ok(())
}

fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

struct Visit<S> {
    site: Arc<S>,
    pages: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    before: Before,
    peer: SocketAddr,
}

async fn connection<S: Answers>(
    stream: TcpStream,
    visit: Visit<S>,
    mut stopped: watch::Receiver<bool>,
) {
    let visit = Arc::new(visit);
    let service = service_fn(move |request| {
        let visit = Arc::clone(&visit);
        async move { Ok::<_, Infallible>(one(request, &visit).await.map(Full::new)) }
    });
    let running = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut running = pin!(running);
    // Whoever stops the site may be gone already: that is a stop as well.
    let stop = async { drop(stopped.wait_for(|it| *it).await) };
    let ended = tokio::select! {
        ended = running.as_mut() => ended,
        () = stop => {
            running.as_mut().graceful_shutdown();
            running.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn one<S: Answers>(request: Request<Incoming>, visit: &Visit<S>) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    let body = match head.method {
        Method::POST => {
            let most = visit.site.body_bytes_max(&head.method, head.uri.path());
            // Files are read a few at a time, so that what is held is bounded.
            let (within, _turn) = match most > FORM_BYTES_MAX {
                true => match visit.uploads.try_acquire() {
                    Ok(turn) => (UPLOAD_WITHIN, Some(turn)),
                    Err(_) => return bare(StatusCode::SERVICE_UNAVAILABLE),
                },
                false => (BODY_WITHIN, None),
            };
            let read = timeout(within, Limited::new(body, most).collect()).await;
            let Ok(Ok(read)) = read else {
                return bare(StatusCode::PAYLOAD_TOO_LARGE);
            };
            read.to_bytes()
        }
        _ => Bytes::new(),
    };
    let client = client(visit, &head.headers);
    let request = Request::from_parts(head, body);
    let site = Arc::clone(&visit.site);
    let page = visit
        .pages
        .acquire()
        .await
        .expect("the semaphore is never closed");
    let made = tokio::task::spawn_blocking(move || site.answer(request, client, now())).await;
    drop(page);
    made.unwrap_or_else(|panic| {
        tracing::error!(%panic, "a page panicked");
        bare(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

fn client<S>(visit: &Visit<S>, headers: &HeaderMap) -> Option<IpAddr> {
    match visit.before {
        Before::Nobody => Some(visit.peer.ip()),
        Before::Edge => {
            let said = headers
                .get_all("x-forwarded-for")
                .iter()
                .next_back()?
                .to_str()
                .ok()?;
            said.rsplit(',').next()?.trim().parse().ok()
        }
    }
}

fn bare(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}

/// The time by this machine's clock.
#[must_use]
pub fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
