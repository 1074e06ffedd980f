//! Bodies from and to an origin.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Version};
use http_body::{Body, Frame, SizeHint};
use shikiri_partition::Limits;
use tokio::time::{Instant, Sleep};

use super::conn::{Conn, kept_alive};
use super::pool::Home;
use super::{Response, is_connection_bound};
use crate::body::{BodyFault, InBody};
use crate::incoming::Incoming;

pub(super) fn received(
    mut conn: Conn,
    response: http::Response<Incoming>,
    home: &Home,
    limits: &Limits,
) -> Response {
    let (mut parts, body) = response.into_parts();
    conn.idle_time_max = kept_alive(&parts.headers);
    let chunked = parts.headers.contains_key(TRANSFER_ENCODING);
    let lengths = parts.headers.get_all(CONTENT_LENGTH).iter().count();
    // In HTTP/2 each frame says whether it is the last.
    let is_http2 = parts.version == Version::HTTP_2;
    // Two ways to tell where it ends are two messages to somebody (RFC 9112 6.3).
    let clear_framing =
        lengths + usize::from(chunked) <= 1 && (parts.version == Version::HTTP_11 || is_http2);
    let tied = parts
        .headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .any(is_connection_bound);
    let length_known =
        is_http2 || body.is_end_stream() || body.size_hint().exact().is_some() || chunked;
    let home = if clear_framing && !tied {
        home.clone()
    } else {
        Home::Nowhere
    };
    keep_one_length(&mut parts.headers);
    let mut body = OriginBody {
        inner: body,
        pushed_back: VecDeque::new(),
        lease: Some((conn, home)),
        limits: *limits,
        stall: Box::pin(tokio::time::sleep(limits.stall_time_max)),
        ended: false,
    };
    if body.inner.is_end_stream() {
        body.end_well();
    }
    Response {
        status: parts.status,
        headers: parts.headers,
        length_known: length_known && lengths + usize::from(chunked) <= 1,
        body,
    }
}

/// Removes a length that says several things, or nothing: the library reads no length where there is
/// no body (`HEAD`, 304), and what we send on must be clear to everybody.
fn keep_one_length(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| {
        let digits = value.as_bytes();
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    };
    if lengths.next().is_some_and(|length| !is_number(length)) || lengths.next().is_some() {
        headers.remove(CONTENT_LENGTH);
    }
}

/// A response body from an origin, with the connection that it comes on.
pub(crate) struct OriginBody {
    inner: Incoming,
    /// What was read already and given back: it comes first.
    pushed_back: VecDeque<Bytes>,
    /// Held until the body ends: a connection that is dropped takes the rest of its body with it.
    lease: Option<(Conn, Home)>,
    limits: Limits,
    stall: Pin<Box<Sleep>>,
    ended: bool,
}

impl OriginBody {
    /// Gives back what was read from the front.
    pub(crate) fn push_back(&mut self, chunks: Vec<Bytes>) {
        self.pushed_back.extend(chunks);
    }

    fn end_well(&mut self) {
        self.ended = true;
        if let Some((conn, home)) = self.lease.take()
            && !conn.signs.surprised.load(Ordering::Relaxed)
        {
            home.take_back(conn, &self.limits);
        }
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(chunk) = self.pushed_back.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(None) => {
                self.end_well();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                let deadline = Instant::now() + self.limits.stall_time_max;
                self.stall.as_mut().reset(deadline);
                if self.inner.is_end_stream() {
                    self.end_well();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease = None;
                Poll::Ready(Some(Err(BodyFault::Origin(error.to_string()))))
            }
            Poll::Pending => {
                if self.stall.as_mut().poll(cx).is_ready() {
                    self.lease = None;
                    return Poll::Ready(Some(Err(BodyFault::Origin("it stalled".into()))));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pushed_back.is_empty() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let back: usize = self.pushed_back.iter().map(Bytes::len).sum();
        let back = u64::try_from(back).expect("a length fits 64 bits");
        match (self.ended, self.inner.size_hint().exact()) {
            (true, _) => SizeHint::with_exact(back),
            (false, Some(rest)) => SizeHint::with_exact(rest + back),
            (false, None) => SizeHint::new(),
        }
    }
}

/// What goes to an origin after a head.
pub(crate) enum OutgoingBody {
    Empty,
    Client(Box<InBody>),
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_not_one_number_is_not_sent_on() {
        for (lengths, kept) in [
            (&["12"][..], true),
            (&["12", "13"], false),
            (&["12", "12"], false),
            (&["12, 12"], false),
            (&["+12"], false),
            (&[""], false),
        ] {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            keep_one_length(&mut headers);
            assert_eq!(headers.contains_key(CONTENT_LENGTH), kept, "{lengths:?}");
        }
    }
}
