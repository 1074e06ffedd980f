//! HTTP/2 on a client connection: its frames through the guard and h2, each request a task of its own.
//!
//! What a request says is judged by the same code as on HTTP/1; here it is only brought into the form
//! that the rest reads, and what the guard of HTTP/1 would refuse is refused ([`refusal`]).
//!
//! Why h2 itself and not hyper: a stream that its client no longer takes has to be reset without harm to
//! its neighbours, and interim responses have to be sent (`docs/adr`).
//!
//! Invariants: everything that one client can make us hold is bounded ([`builder`]); no stream outlives
//! its connection.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use shikiri_partition::{Limits, Refused};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{Connection, Stream, Turn, told_to_stop};
use crate::guard::{Framed, refusal_of_parsed};
use crate::incoming::{Http2Body, Incoming};
use crate::meter::Running;
use crate::node::Worker;
use crate::request;
use crate::slot::Served;

/// How long a client has to answer our last words before the connection is dropped.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(2);

/// Response bytes that one stream may have waiting for the socket.
const SEND_BYTES_MAX: usize = 64 << 10;

/// Streams that were reset, of which something may still come.
const RESET_STREAMS_MAX: usize = 50;

/// Interim responses to one request that wait to be sent; more are dropped.
const INTERIM_MAX: usize = 4;

/// Serves requests, several at once, until the connection ends.
pub(crate) async fn serve<IO>(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    io: IO,
    mut stop: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.limits();
    // On the heap: its room is not needed afterwards.
    let handshake = builder(&limits).handshake(Framed::new(io, &limits));
    let mut h2 = match Box::pin(handshake).await {
        Ok(h2) => h2,
        Err(error) => {
            let error = Http2Fault::from(error);
            tracing::debug!(%error, "a client connection ended before its first request");
            return;
        }
    };
    let mut streams = JoinSet::new();
    // No stream, no time: until when the connection stays.
    let mut stays_until = Instant::now() + limits.idle_time_max;
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stop), if !leaving => {
                leaving = true;
                h2.graceful_shutdown();
                stays_until = Instant::now() + FAREWELL_TIME_MAX;
            }
            accepted = h2.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (worker, connection) = (Arc::clone(worker), Arc::clone(connection));
                    streams.spawn(answer(worker, connection, request, respond, limits));
                }
                Some(Err(error)) => {
                    let error = Http2Fault::from(error);
                    tracing::debug!(%error, "a client connection ended");
                    break;
                }
                None => break,
            },
            Some(_) = streams.join_next() => {
                let time = if leaving { FAREWELL_TIME_MAX } else { limits.idle_time_max };
                stays_until = Instant::now() + time;
            }
            () = sleep_until(stays_until), if streams.is_empty() => {
                if leaving {
                    break;
                }
                leaving = true;
                h2.graceful_shutdown();
                stays_until = Instant::now() + FAREWELL_TIME_MAX;
            }
        }
    }
    // What still runs is answered to nobody.
    streams.shutdown().await;
}

/// What one client may make us hold.
fn builder(limits: &Limits) -> Builder {
    let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
    let window = limits.h2_window_bytes_max;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(head_bytes_max)
        .initial_window_size(window.min(64 << 10))
        .initial_connection_window_size(window)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(Some(2 * RESET_STREAMS_MAX))
        .max_pending_accept_reset_streams(20);
    builder
}

/// Answers one request on its stream.
async fn answer(
    worker: Arc<Worker>,
    connection: Arc<Connection>,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    limits: Limits,
) {
    let running = Running::begin(&worker.node().streams);
    if running.before >= limits.h2_streams_all_max {
        // Nothing was done with it: its client may send it again (RFC 9113 8.7).
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    }
    let (mut parts, body) = request.into_parts();
    let refused = refusal(&parts, &connection, &limits);
    as_on_http1(&mut parts);
    let (interim, mut interims) = mpsc::channel(INTERIM_MAX);
    let mut body = Http2Body::new(body, &parts.headers);
    if parts.headers.contains_key(EXPECT) {
        body = body.asking(interim.clone());
    }
    let turn = Turn::Stream(Stream { refused, interim });
    let request = Request::from_parts(parts, Incoming::Http2(body));
    let mut serving = pin!(request::serve(&worker, &connection, turn, request));
    let response = loop {
        tokio::select! {
            biased;
            response = &mut serving => break response,
            _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
            Some(interim) = interims.recv() => {
                // The client may have gone meanwhile; the next turn of the loop sees it.
                drop(respond.send_informational(interim));
            }
        }
    };
    let response = match response {
        Ok(response) => response,
        Err(why) => {
            tracing::debug!(%why, "a stream is reset");
            respond.send_reset(Reason::INTERNAL_ERROR);
            return;
        }
    };
    if let Err(error) = send(respond, response, limits.stall_time_max).await {
        tracing::debug!(%error, "a stream ended early");
    }
}

/// Why a request is refused by its head alone, if it is.
fn refusal(parts: &Parts, connection: &Connection, limits: &Limits) -> Option<Refused> {
    if let Some(why) = refusal_of_parsed(parts, limits) {
        return Some(why);
    }
    let scheme = parts.uri.scheme_str();
    let ours = connection.transport().scheme().as_str();
    // A hop that ended the viewer's TLS may name either: `X-Forwarded-Proto` decides. The library has seen
    // that there is one, and keeps it only where there is an `:authority`.
    let known = scheme.is_none_or(|scheme| scheme == ours)
        || (connection.is_trusted() && matches!(scheme, Some("http" | "https")));
    // CONNECT names none, and is refused for what it is.
    (!known && parts.method != Method::CONNECT).then_some(Refused::AuthorityMismatch)
}

/// One `Cookie` line, however many the client sent (RFC 9113 8.2.3).
fn as_on_http1(parts: &mut Parts) {
    let mut crumbs = parts.headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    let mut joined = HeaderValue::from_bytes(&joined)
        .expect("header values joined by semicolons are a header value");
    joined.set_sensitive(true);
    parts.headers.insert(COOKIE, joined);
}

/// What went wrong with HTTP/2, in words that are ours or the protocol's: as it goes away, the other side
/// may say whatever it likes (RFC 9113 6.8), and the library's own text quotes it. That goes nowhere.
#[derive(thiserror::Error)]
#[error("{}", words(.0))]
pub(crate) struct Http2Fault(h2::Error);

impl From<h2::Error> for Http2Fault {
    fn from(error: h2::Error) -> Self {
        Self(error)
    }
}

fn words(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_go_away() && error.is_remote() => {
            format!("the other side went away: {reason}")
        }
        Some(reason) if error.is_go_away() => format!("the connection was ended: {reason}"),
        _ => error.to_string(),
    }
}

impl std::fmt::Debug for Http2Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http2Fault({self})")
    }
}

/// Sends a response, its body as the client takes it.
async fn send(
    mut respond: SendResponse<Bytes>,
    response: Response<Served>,
    stall_time_max: Duration,
) -> Result<(), Http2Fault> {
    let (mut parts, body) = response.into_parts();
    strip_connection(&mut parts.headers);
    parts.headers.remove(TE);
    let ends = body.is_end_stream();
    if !ends && let Some(length) = body.size_hint().exact() {
        parts
            .headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
    let stream = respond.send_response(Response::from_parts(parts, ()), ends)?;
    if ends {
        return Ok(());
    }
    send_body(stream, body, Reason::INTERNAL_ERROR, stall_time_max).await
}

/// Sends a body on a stream, as its receiver takes it. `broken`: what a body that breaks off resets the
/// stream with, so that nobody takes it for whole.
pub(crate) async fn send_body<B>(
    mut stream: SendStream<Bytes>,
    body: B,
    broken: Reason,
    stall_time_max: Duration,
) -> Result<(), Http2Fault>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    loop {
        let frame = tokio::select! {
            biased;
            reset = std::future::poll_fn(|cx| stream.poll_reset(cx)) => return reset.map(drop).map_err(Http2Fault::from),
            frame = body.frame() => frame,
        };
        match frame {
            None => return Ok(stream.send_data(Bytes::new(), true)?),
            Some(Err(_)) => {
                stream.send_reset(broken);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    if !send_data(&mut stream, data, last, stall_time_max).await? || last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Ok(stream.send_trailers(trailers)?);
                    }
                }
            },
        }
    }
}

/// Sends bytes as the receiver's window lets them. `false` when it took none for too long: the stream
/// is reset, and others go on.
async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    last: bool,
    stall_time_max: Duration,
) -> Result<bool, Http2Fault> {
    if data.is_empty() && last {
        stream.send_data(data, true)?;
        return Ok(true);
    }
    while !data.is_empty() {
        // No more is claimed of the window that all streams have in common than is taken at once.
        stream.reserve_capacity(data.len().min(SEND_BYTES_MAX));
        // A change of the capacity is told once.
        if stream.capacity() == 0 {
            let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx));
            match timeout(stall_time_max, capacity).await {
                Ok(Some(capacity)) => drop(capacity?),
                // The receiver has reset it.
                Ok(None) => return Ok(false),
                Err(_) => {
                    stream.send_reset(Reason::CANCEL);
                    return Ok(false);
                }
            }
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        if !part.is_empty() {
            stream.send_data(part, last && data.is_empty())?;
        }
    }
    Ok(true)
}

/// Removes what HTTP/2 has no place for (RFC 9113 8.2.2). Whatever `Connection` names went when the
/// message came in.
pub(crate) fn strip_connection(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What the other side says as it goes may be anything, a member's name too.
    #[tokio::test]
    async fn what_the_other_side_says_as_it_goes_is_not_told() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let said = b"alice";
        let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
        // GOAWAY: the last stream is none, ENHANCE_YOUR_CALM, and words.
        frames.extend([0, 0, 13, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
        frames.extend(said);
        theirs.write_all(&frames).await.unwrap();
        let (_requests, connection) = h2::client::handshake(ours).await.unwrap();
        let error = connection.await.unwrap_err();
        assert!(error.to_string().contains("alice"), "the library tells it");
        let fault = Http2Fault::from(error);
        let told = format!("{fault} {fault:?} {}", crate::Chain(&fault));
        assert!(!told.contains("alice"), "{told}");
        assert!(
            told.contains(&Reason::ENHANCE_YOUR_CALM.to_string()),
            "{told}"
        );
    }
}
