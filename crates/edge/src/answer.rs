//! What the node itself says: refusals and failures. It holds no origin's and no stored byte.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER,
};
use http::{HeaderValue, Response, StatusCode};
use shikiri_partition::Refused;
use shikiri_record::UnixMillis;

use crate::slot::Own;

/// The value of `Date`.
pub(crate) fn date(now: UnixMillis) -> HeaderValue {
    let at = UNIX_EPOCH + Duration::from_secs(now.seconds());
    HeaderValue::try_from(httpdate::fmt_http_date(at)).expect("a date is a header value")
}

/// The answer to a request that is refused.
pub(crate) fn refused(why: Refused, now: UnixMillis) -> Response<Own> {
    let mut response = plain(why.status(), why.name(), now);
    if !why.keeps_connection() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if why.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, METHODS);
    }
    response
}

/// The answer to `OPTIONS` when the request may go no further.
pub(crate) fn options(now: UnixMillis) -> Response<Own> {
    let mut response = Response::new(Own::new(Bytes::new(), "options"));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, METHODS);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(DATE, date(now));
    response
}

/// What the node itself carries, whatever an origin thinks of it.
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The answer when an origin, or the client's own body, failed: the status and the reason's name.
pub(crate) fn failed(status: StatusCode, name: &'static str, now: UnixMillis) -> Response<Own> {
    let mut response = plain(status, name, now);
    if status.is_client_error() {
        // What is left of the client's body is on the connection.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn plain(status: StatusCode, name: &'static str, now: UnixMillis) -> Response<Own> {
    let text = format!(
        "{} {}: {name}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("")
    );
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Own::new(Bytes::from(text), name));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(DATE, date(now));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
