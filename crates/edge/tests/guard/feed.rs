//! Feeding the guard bytes in pieces, with nothing behind it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use shikiri_edge::guard::{Findings, Guarded};
use shikiri_partition::{Limits, Refused};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What stands in for a refused head.
pub(crate) const STAND_IN: &str =
    "GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What was handed on.
    pub(crate) handed_on: Vec<u8>,
    /// The request that was refused, and why.
    pub(crate) refused: Option<(u64, Refused)>,
    /// How reading ended.
    pub(crate) end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    /// Nothing more comes until the refusal is answered.
    Waits,
    Fails(io::ErrorKind),
}

/// Feeds the pieces, then the end of the client's bytes; reads `room` bytes at a time.
pub(crate) fn feed(
    pieces: impl IntoIterator<Item = Vec<u8>>,
    room: usize,
    limits: &Limits,
) -> Outcome {
    let findings = Findings::new();
    let pieces = Pieces(
        pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect(),
    );
    let mut guarded = Guarded::new(pieces, limits, findings.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut handed_on = Vec::new();
    let mut space = vec![0; room];
    let end = loop {
        let mut out = ReadBuf::new(&mut space);
        match Pin::new(&mut guarded).poll_read(&mut cx, &mut out) {
            Poll::Pending => break End::Waits,
            Poll::Ready(Err(error)) => break End::Fails(error.kind()),
            Poll::Ready(Ok(())) if out.filled().is_empty() => break End::Eof,
            Poll::Ready(Ok(())) => handed_on.extend_from_slice(out.filled()),
        }
    };
    let refused = (0..=handed_on.len() as u64)
        .find_map(|number| findings.refusal_of(number).map(|why| (number, why)));
    Outcome {
        handed_on,
        refused,
        end,
    }
}

/// Feeds bytes in one piece.
pub(crate) fn whole(bytes: &[u8], limits: &Limits) -> Outcome {
    feed([bytes.to_vec()], 64 << 10, limits)
}

/// Feeds bytes one at a time.
pub(crate) fn bytewise(bytes: &[u8], limits: &Limits) -> Outcome {
    feed(bytes.iter().map(|&byte| vec![byte]), 64 << 10, limits)
}

/// Bytes that come in pieces, and then end.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let rest = piece.split_off(piece.len().min(out.remaining()));
            out.put_slice(piece);
            *piece = rest;
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
