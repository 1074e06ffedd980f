//! Bodies on their way: whole, growing while a fill runs, or straight from an origin.

use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use shikiri_partition::{Limits, RequestTrailers, keep_response_trailers};
use tokio::time::{Sleep, sleep};

use crate::incoming::Incoming;
use crate::origin::OriginBody;
use crate::slices::Parts;

/// Why a body stopped before its end. The connection is cut, so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyFault {
    /// The origin's body ended early, broke its framing or stalled.
    #[error("the origin's body broke off: {0}")]
    Origin(String),
    /// The client's body ended early, broke its framing or stalled.
    #[error("the client's body broke off")]
    Client,
    /// The client's body is larger than allowed.
    #[error("the client's body is larger than allowed")]
    ClientTooLarge,
}

/// The body of a response that shows something of an origin or of the store.
pub(crate) struct OutBody {
    source: Source,
}

enum Source {
    Empty,
    Whole(Bytes),
    Growing(GrowingReader),
    Parts(Box<Parts>),
    Origin(Box<OriginBody>),
}

impl OutBody {
    pub(crate) const fn empty() -> Self {
        Self {
            source: Source::Empty,
        }
    }

    pub(crate) const fn whole(bytes: Bytes) -> Self {
        Self {
            source: Source::Whole(bytes),
        }
    }

    pub(crate) const fn growing(reader: GrowingReader) -> Self {
        Self {
            source: Source::Growing(reader),
        }
    }

    pub(crate) fn parts(parts: Parts) -> Self {
        Self {
            source: Source::Parts(Box::new(parts)),
        }
    }

    pub(crate) fn origin(body: OriginBody) -> Self {
        Self {
            source: Source::Origin(Box::new(body)),
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Source::Growing(reader) => match ready!(reader.poll(cx)) {
                Polled::Chunk(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Polled::End => {
                    self.source = Source::Empty;
                    Poll::Ready(None)
                }
                Polled::Rest(rest) => {
                    self.source = Source::Origin(rest);
                    self.poll_frame(cx)
                }
                Polled::Cut(why) => Poll::Ready(Some(Err(BodyFault::Origin(why.into())))),
            },
            Source::Parts(parts) => parts.poll(cx),
            Source::Origin(body) => loop {
                let frame = ready!(Pin::new(&mut **body).poll_frame(cx));
                if let Some(frame) = kept(frame, keep_response_trailers) {
                    return Poll::Ready(frame);
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Growing(reader) => reader.range.is_empty(),
            Source::Parts(parts) => parts.len() == 0,
            Source::Origin(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = |len: usize| SizeHint::with_exact(u64::try_from(len).expect("fits"));
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => exact(bytes.len()),
            Source::Growing(reader) => match reader.range.end {
                usize::MAX => SizeHint::new(),
                _ => exact(reader.range.len()),
            },
            Source::Parts(parts) => SizeHint::with_exact(parts.len()),
            Source::Origin(body) => body.size_hint(),
        }
    }
}

/// A frame with those of its trailers that go on; `None` when it was of trailers and none does.
fn kept<E>(
    frame: Option<Result<Frame<Bytes>, E>>,
    keep: impl FnOnce(&mut HeaderMap),
) -> Option<Option<Result<Frame<Bytes>, E>>> {
    let Some(Ok(mut frame)) = frame else {
        return Some(frame);
    };
    if let Some(trailers) = frame.trailers_mut() {
        keep(trailers);
        if trailers.is_empty() {
            return None;
        }
    }
    Some(Some(Ok(frame)))
}

/// A body that grows while a fill runs, and that any number of readers follow.
pub(crate) struct Growing {
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Growing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the bytes.
        write!(f, "Growing({} bytes)", self.len())
    }
}

#[derive(Default)]
struct Inner {
    chunks: Vec<Bytes>,
    len: usize,
    state: State,
    wakers: Vec<Waker>,
    /// The rest of a body that became too large to keep, for the leading reader.
    rest: Option<Box<OriginBody>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    Complete,
    Broken,
    HandedOver,
}

impl Growing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A poisoned lock means a panic while appending; the readers see a body that never ends and
        // their stall time cuts them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, chunk: Bytes) {
        let mut inner = self.lock();
        assert!(
            inner.state == State::Running,
            "nothing is appended to a body that has ended"
        );
        inner.len += chunk.len();
        inner.chunks.push(chunk);
        wake(inner);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len
    }

    /// Ends the body, whole.
    pub(crate) fn complete(&self) -> Bytes {
        let mut inner = self.lock();
        inner.state = State::Complete;
        let whole = match inner.chunks.as_slice() {
            // Not the slice itself: it would keep the whole read buffer that it came in.
            [one] => Bytes::copy_from_slice(one),
            chunks => {
                let mut whole = BytesMut::with_capacity(inner.len);
                for chunk in chunks {
                    whole.extend_from_slice(chunk);
                }
                whole.freeze()
            }
        };
        wake(inner);
        whole
    }

    /// Ends the body early: every reader is cut.
    pub(crate) fn breaks(&self) {
        let mut inner = self.lock();
        if inner.state == State::Running {
            inner.state = State::Broken;
            wake(inner);
        }
    }

    /// The body is too large to keep: the leading reader takes the rest from the origin itself, and
    /// anybody else is cut.
    pub(crate) fn hand_over(&self, rest: OriginBody) {
        let mut inner = self.lock();
        inner.state = State::HandedOver;
        inner.rest = Some(Box::new(rest));
        wake(inner);
    }

    /// The first bytes, at most `n`.
    pub(crate) fn prefix(&self, n: usize) -> Vec<u8> {
        let inner = self.lock();
        inner.chunks.iter().flatten().copied().take(n).collect()
    }

    /// Reads a part.
    pub(crate) fn reader(self: &Arc<Self>, range: Range<usize>) -> GrowingReader {
        GrowingReader {
            growing: Arc::clone(self),
            chunk: 0,
            chunk_start: 0,
            range,
            leads: false,
        }
    }

    /// Reads all of it, wherever it ends; and goes on by itself when it is handed over.
    pub(crate) fn leading_reader(self: &Arc<Self>) -> GrowingReader {
        GrowingReader {
            leads: true,
            ..self.reader(0..usize::MAX)
        }
    }
}

fn wake(mut inner: std::sync::MutexGuard<'_, Inner>) {
    let wakers = std::mem::take(&mut inner.wakers);
    drop(inner);
    for waker in wakers {
        waker.wake();
    }
}

/// Follows a [`Growing`] body.
pub(crate) struct GrowingReader {
    growing: Arc<Growing>,
    /// The chunk to look at next, and where it begins.
    chunk: usize,
    chunk_start: usize,
    /// What is still to be read; an end of `usize::MAX` stands for wherever the body ends.
    range: Range<usize>,
    leads: bool,
}

enum Polled {
    Chunk(Bytes),
    End,
    Rest(Box<OriginBody>),
    Cut(&'static str),
}

impl GrowingReader {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if self.range.is_empty() {
            return Poll::Ready(Polled::End);
        }
        let mut inner = self.growing.lock();
        while let Some(chunk) = inner.chunks.get(self.chunk) {
            let chunk_end = self.chunk_start + chunk.len();
            if chunk_end <= self.range.start {
                self.chunk += 1;
                self.chunk_start = chunk_end;
                continue;
            }
            let from = self.range.start - self.chunk_start;
            let to = self.range.end.min(chunk_end) - self.chunk_start;
            self.range.start = self.chunk_start + to;
            return Poll::Ready(Polled::Chunk(chunk.slice(from..to)));
        }
        match inner.state {
            State::Complete if self.range.end == usize::MAX => Poll::Ready(Polled::End),
            State::Complete => Poll::Ready(Polled::Cut("it is shorter than was declared")),
            State::Broken => Poll::Ready(Polled::Cut("the fill ended early")),
            State::HandedOver => Poll::Ready(match inner.rest.take_if(|_| self.leads) {
                Some(rest) => Polled::Rest(rest),
                None => Polled::Cut("it is too large to share"),
            }),
            State::Running => {
                if !inner.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    inner.wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

/// A client's body on its way to an origin: counted, bounded, and held back while the origin has
/// not said that it wants it.
pub(crate) struct InBody {
    inner: Incoming,
    left: u64,
    trailers: RequestTrailers,
    progress: Arc<Progress>,
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stall_time_max: Duration,
    /// Until when the client is waited for. The guard of HTTP/1 may have lost patience before.
    patience: Option<Pin<Box<Sleep>>>,
}

/// What has become of a request body: read by whoever waits for the origin's answer.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    moved: std::sync::atomic::AtomicU64,
    fault: std::sync::atomic::AtomicU8,
}

impl Progress {
    const CLIENT: u8 = 1;
    const TOO_LARGE: u8 = 2;

    /// Grows whenever the body moves.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Why the client's body stopped, if it did.
    pub(crate) fn fault(&self) -> Option<BodyFault> {
        match self.fault.load(std::sync::atomic::Ordering::Relaxed) {
            Self::CLIENT => Some(BodyFault::Client),
            Self::TOO_LARGE => Some(BodyFault::ClientTooLarge),
            _ => None,
        }
    }
}

impl InBody {
    pub(crate) fn new(
        inner: Incoming,
        limits: &Limits,
        trailers: RequestTrailers,
        gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        (
            Self {
                inner,
                left: limits.request_body_bytes_max,
                trailers,
                progress: Arc::clone(&progress),
                gate,
                stall_time_max: limits.stall_time_max,
                patience: None,
            },
            progress,
        )
    }

    fn fault(&self, fault: BodyFault, code: u8) -> BodyFault {
        self.progress
            .fault
            .store(code, std::sync::atomic::Ordering::Relaxed);
        fault
    }
}

impl Body for InBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        let frame = loop {
            let this = &mut *self;
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let time = this.stall_time_max;
                    let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(time)));
                    ready!(patience.as_mut().poll(cx));
                    return Poll::Ready(Some(Err(self.fault(BodyFault::Client, Progress::CLIENT))));
                }
            };
            this.patience = None;
            match kept(frame, |trailers| this.trailers.keep(trailers)) {
                Some(None) => return Poll::Ready(None),
                Some(Some(Ok(frame))) => break frame,
                Some(Some(Err(_))) => {
                    return Poll::Ready(Some(Err(self.fault(BodyFault::Client, Progress::CLIENT))));
                }
                None => {}
            }
        };
        if let Some(data) = frame.data_ref() {
            let len = u64::try_from(data.len()).expect("a length fits 64 bits");
            self.progress
                .moved
                .fetch_add(len.max(1), std::sync::atomic::Ordering::Relaxed);
            let Some(left) = self.left.checked_sub(len) else {
                return Poll::Ready(Some(Err(
                    self.fault(BodyFault::ClientTooLarge, Progress::TOO_LARGE)
                )));
            };
            self.left = left;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_body_does_not_keep_the_read_buffer_that_it_came_in() {
        let buffer = Bytes::from(vec![b'x'; 8192]);
        for chunks in [1, 2] {
            let growing = Growing::new();
            for _ in 0..chunks {
                growing.push(buffer.slice(0..3));
            }
            let whole = growing.complete();
            assert_eq!(whole.len(), 3 * chunks);
            assert!(!buffer.as_ptr_range().contains(&whole.as_ptr()), "{chunks}");
        }
    }
}
