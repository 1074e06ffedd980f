//! HTTP/2 with an origin: one request on a connection at a time, under the rules of the pools.
//!
//! A frame names its stream, so an origin cannot answer twice or late to another request; what it can
//! keep for a connection (a session, who authenticated) it still can, and the rules stay (ADR 2).
//!
//! Invariant: a request is sent again only when the origin said that it had not looked at it (RFC 9113
//! 8.7), and has no body.

use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, SendRequest};
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use shikiri_partition::Limits;
use tokio::task::{AbortHandle, JoinHandle};

use super::body::OutgoingBody;
use super::{Cause, NoResponse};
use crate::http2::{Http2Fault, send_body, strip_connection};
use crate::incoming::{Http2Body, Incoming};
use crate::world::Wire;

/// Request bytes that wait for the socket.
const SEND_BYTES_MAX: usize = 64 << 10;

/// Streams of ours that an origin may break before the connection ends.
const BROKEN_STREAMS_MAX: usize = 10;

/// Begins a connection. The task reads and writes it until it ends.
pub(super) async fn begin(
    wire: Box<dyn Wire>,
    limits: &Limits,
) -> Result<(SendRequest<Bytes>, JoinHandle<()>), Http2Fault> {
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_window_size(limits.h2_window_bytes_max)
        .initial_connection_window_size(limits.h2_window_bytes_max)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .max_local_error_reset_streams(Some(BROKEN_STREAMS_MAX))
        .handshake(wire)
        .await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await.map_err(Http2Fault::from) {
            tracing::debug!(%error, "an origin connection ended");
        }
    });
    Ok((sender, task))
}

/// Sends one request and waits for its response head. `uploading` is given the task that sends the
/// body: who gives up on the response ends it.
pub(super) async fn ask(
    sender: &mut SendRequest<Bytes>,
    request: Request<OutgoingBody>,
    scheme: Scheme,
    limits: &Limits,
    uploading: &mut Option<AbortHandle>,
    interim: impl Fn(StatusCode, &HeaderMap),
) -> Result<Response<Incoming>, NoResponse> {
    let (parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let again = |body: OutgoingBody| Request::from_parts(parts.clone(), body);
    let head = head(&parts, scheme).map_err(|error| NoResponse::of(error.into()))?;
    // What waits for a stream has sent nothing.
    if let Err(error) = std::future::poll_fn(|cx| sender.poll_ready(cx)).await {
        return Err(NoResponse::unsent(again(body), told(error)));
    }
    let (mut response, stream) = match sender.send_request(head, !has_body) {
        Ok(begun) => begun,
        Err(error) => return Err(NoResponse::unsent(again(body), told(error))),
    };
    if has_body {
        let stall_time_max = limits.stall_time_max;
        let sending = async move {
            if let Err(error) = send_body(stream, body, Reason::CANCEL, stall_time_max).await {
                tracing::debug!(%error, "a body was not sent to the end");
            }
        };
        *uploading = Some(tokio::spawn(sending).abort_handle());
    }
    let answered = std::future::poll_fn(|cx| {
        while let Poll::Ready(Some(told)) = response.poll_informational(cx) {
            match told {
                Ok(told) => interim(told.status(), told.headers()),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        std::pin::Pin::new(&mut response).poll(cx)
    });
    match answered.await {
        Ok(response) if response.headers().len() > limits.head_fields_max => {
            Err(NoResponse::of("its head has too many fields".into()))
        }
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let body = Http2Body::new(body, &parts.headers);
            Ok(Response::from_parts(parts, Incoming::Http2(body)))
        }
        Err(error) if is_unprocessed(&error) && !has_body => {
            Err(NoResponse::unsent(again(OutgoingBody::Empty), told(error)))
        }
        Err(error) => Err(NoResponse::of(told(error))),
    }
}

/// Why there is no response, without what the origin says of it.
fn told(error: h2::Error) -> Cause {
    Http2Fault::from(error).into()
}

/// Whether the origin says that it has not looked at the request: it refused the stream, or went away
/// before it.
fn is_unprocessed(error: &h2::Error) -> bool {
    let went = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (went || refused)
}

/// The head as HTTP/2 has it: `Host` is `:authority` (RFC 9113 8.3.1), and what belongs to a connection
/// of HTTP/1 is not there.
fn head(parts: &http::request::Parts, scheme: Scheme) -> Result<Request<()>, http::Error> {
    let mut headers = parts.headers.clone();
    let host = headers.remove(HOST);
    let authority = host.as_ref().map_or(&b""[..], |host| host.as_bytes());
    let target = match parts.uri.path_and_query() {
        Some(target) => target.clone(),
        None => PathAndQuery::from_static("/"),
    };
    strip_connection(&mut headers);
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(Authority::try_from(authority)?)
        .path_and_query(target)
        .build()?;
    let mut head = Request::new(());
    *head.method_mut() = parts.method.clone();
    *head.uri_mut() = uri;
    *head.version_mut() = http::Version::HTTP_2;
    *head.headers_mut() = headers;
    Ok(head)
}
