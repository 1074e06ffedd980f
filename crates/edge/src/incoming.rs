//! A body as it comes in on a connection, whichever protocol carries it.
//!
//! Invariant: it ends only where its sender said that it ends. An early end, a wrong length or a
//! reset is a fault, never an end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::http2::Http2Fault;

/// A body that comes in.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Http2Body),
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingFault {
    #[error(transparent)]
    Http1(hyper::Error),
    #[error(transparent)]
    Http2(Http2Fault),
}

/// A body on a stream of HTTP/2. Its sender may send no more than the window: what is read here is
/// given back to it.
pub(crate) struct Http2Body {
    stream: h2::RecvStream,
    /// What is still to come, where the sender said how much.
    left: Option<u64>,
    data_ended: bool,
    /// Tells a client that waits for it to go on (RFC 9110 10.1.1).
    go_on: Option<mpsc::Sender<http::Response<()>>>,
}

impl Http2Body {
    /// `headers`: those of the message, whose length the library has checked.
    pub(crate) fn new(stream: h2::RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            left: if stream.is_end_stream() {
                Some(0)
            } else {
                length
            },
            stream,
            data_ended: false,
            go_on: None,
        }
    }

    /// The sender waits to be told to go on: it is, when the body is first asked for.
    pub(crate) fn asking(mut self, go_on: mpsc::Sender<http::Response<()>>) -> Self {
        self.go_on = Some(go_on);
        self
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http2Fault>>> {
        if let Some(go_on) = self.go_on.take() {
            let mut interim = http::Response::new(());
            *interim.status_mut() = http::StatusCode::CONTINUE;
            // Nobody takes it when the client is gone.
            drop(go_on.try_send(interim));
        }
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    if let Err(error) = self.stream.flow_control().release_capacity(data.len()) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    let len = u64::try_from(data.len()).expect("a length fits 64 bits");
                    self.left = self.left.map(|left| left.saturating_sub(len));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        })
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = IncomingFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingFault>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(IncomingFault::Http1))),
            Self::Http2(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(IncomingFault::Http2))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
