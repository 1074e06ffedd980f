//! One thread's lane of evidence, and the connections that wait for it.
//!
//! Rows are appended while requests are answered, and written together: once in a turn of the thread's
//! loop, after the tasks that were ready, and before any of their bytes goes to a socket.
//!
//! Invariant (no evidence, no bytes): a connection on which something was shown writes nothing to its
//! socket before the begin row of that is written ([`Held`]). When rows cannot be written, the
//! connections that wait for them are cut.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use shikiri_evidence::{Full, Reservation, Stream, row_bytes};
use shikiri_record::{
    BEGIN_BYTES_MAX, Begin, END_BYTES, End, Gap, LINK_BYTES_MAX, Link, STANCE_BYTES, StanceRow,
    UnixMillis,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

use crate::node::Stance;

/// What the rows of one response take at most: the stance that they are under, begin, a session that
/// begins or ends with it, and end.
const RESPONSE_BYTES_MAX: usize = row_bytes(STANCE_BYTES)
    + row_bytes(BEGIN_BYTES_MAX)
    + row_bytes(LINK_BYTES_MAX)
    + row_bytes(END_BYTES);

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    stream: Arc<Stream>,
    /// Names the key of the tags.
    tag_key: u64,
    writer: Mutex<Writer>,
    /// Whether a task is on its way that writes what was appended.
    flush_is_due: AtomicBool,
    /// How many times that did not work.
    failures: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
    /// Responses without rows that no row speaks of yet.
    gap: Mutex<Option<Gap>>,
    /// Whether the thread ends, and what still runs on it with it.
    ends: AtomicBool,
}

#[derive(Debug, Default)]
struct Writer {
    /// The stance of the last stance row.
    under: Option<Arc<Stance>>,
    /// A row's bytes, for as long as it takes to append them.
    row: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    pub(crate) fn new(stream: Arc<Stream>, tag_key: u64) -> Arc<Self> {
        Arc::new(Self {
            stream,
            tag_key,
            writer: Mutex::default(),
            flush_is_due: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            waiting: Mutex::default(),
            gap: Mutex::default(),
            ends: AtomicBool::new(false),
        })
    }

    /// What still runs on the thread is cut by us from now on.
    pub(crate) fn cut_all(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Whether what is given up now was cut by us.
    pub(crate) fn cuts_all(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    /// Sets space aside for the rows of one response.
    pub(crate) fn reserve(&self) -> Result<Reservation, Full> {
        self.stream.reserve(RESPONSE_BYTES_MAX)
    }

    /// Appends a begin row, under its stance. Returns its sequence number.
    pub(crate) fn begin(
        self: &Arc<Self>,
        space: &mut Reservation,
        at: UnixMillis,
        stance: &Arc<Stance>,
        begin: &Begin<'_>,
    ) -> u64 {
        let mut writer = lock(&self.writer);
        let Writer { under, row } = &mut *writer;
        if !under
            .as_ref()
            .is_some_and(|under| Arc::ptr_eq(under, stance))
        {
            row.clear();
            StanceRow {
                mode: stance.mode,
                rules: stance.rules.digest(),
                epoch: stance.epoch,
                tag_key: self.tag_key,
            }
            .encode(row);
            space.lead(at, row);
            *under = Some(Arc::clone(stance));
        }
        row.clear();
        begin.encode(row);
        let sequence = space.append(at, row);
        drop(writer);
        self.flush_soon();
        sequence
    }

    /// Appends a link row.
    pub(crate) fn link(self: &Arc<Self>, space: &mut Reservation, at: UnixMillis, link: Link) {
        let mut writer = lock(&self.writer);
        writer.row.clear();
        link.encode(&mut writer.row);
        space.append(at, &writer.row);
        drop(writer);
        self.flush_soon();
    }

    /// Appends an end row.
    pub(crate) fn end(self: &Arc<Self>, space: &mut Reservation, at: UnixMillis, end: End) {
        let mut writer = lock(&self.writer);
        writer.row.clear();
        end.encode(&mut writer.row);
        space.append(at, &writer.row);
        drop(writer);
        self.flush_soon();
    }

    /// Counts a response that is shown without rows.
    pub(crate) fn count_gap(&self, began: UnixMillis) {
        let mut gap = lock(&self.gap);
        let gap = gap.get_or_insert(Gap {
            from: began,
            to: began,
            responses: 0,
        });
        gap.to = gap.to.max(began);
        gap.responses += 1;
    }

    /// Writes of the responses without rows, as soon as there is space.
    pub(crate) fn tell_gap(&self) {
        let mut gap = lock(&self.gap);
        let Some(known) = *gap else {
            return;
        };
        let mut row = Vec::new();
        known.encode(&mut row);
        if self.stream.append(known.to, &row).is_ok() {
            *gap = None;
        }
    }

    /// Has what was appended written when the tasks that are ready now have run.
    fn flush_soon(self: &Arc<Self>) {
        if self.flush_is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => {
                let lane = Arc::clone(self);
                drop(runtime.spawn(async move { lane.flush() }));
            }
            Err(_) => self.flush(),
        }
    }

    /// Writes what was appended, and wakes the connections that wait for it.
    fn flush(&self) {
        self.flush_is_due.store(false, Ordering::Release);
        if let Err(error) = self.stream.flush()
            && self.failures.fetch_add(1, Ordering::AcqRel) == 0
        {
            tracing::error!(%error, "evidence cannot be written: connections are cut");
        }
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for waker in waiting {
            waker.wake();
        }
    }
}

/// What a connection owes before it may write: the rows of what was shown on it.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// Rows before this one must be written.
    before: AtomicU64,
}

impl Owed {
    /// A begin row was appended for what is to be written.
    pub(crate) fn owe(&self, sequence: u64) {
        self.before.fetch_max(sequence + 1, Ordering::Release);
    }
}

/// A connection that writes nothing while it owes rows.
#[derive(Debug)]
pub(crate) struct Held<IO> {
    io: IO,
    lane: Arc<Lane>,
    owed: Arc<Owed>,
    /// How many times writing rows had failed when the wait began.
    waits_since: Option<u64>,
}

impl<IO> Held<IO> {
    pub(crate) const fn new(io: IO, lane: Arc<Lane>, owed: Arc<Owed>) -> Self {
        Self {
            io,
            lane,
            owed,
            waits_since: None,
        }
    }

    /// Ready when nothing is owed.
    fn poll_owed(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let before = self.owed.before.load(Ordering::Acquire);
        if before <= self.lane.stream.written() {
            self.waits_since = None;
            return Poll::Ready(Ok(()));
        }
        let failures = self.lane.failures.load(Ordering::Acquire);
        if self.waits_since.is_some_and(|since| since != failures) {
            let why = "no evidence, no bytes: its rows could not be written";
            return Poll::Ready(Err(io::Error::other(why)));
        }
        self.waits_since = Some(failures);
        lock(&self.lane.waiting).push(cx.waker().clone());
        // What was owed may have failed to be written before anybody waited for it: it is tried again for
        // this connection's own sake, and not when somebody else happens to be answered.
        self.lane.flush_soon();
        // Written while it was registered, by whoever else looks after the stream.
        if before <= self.lane.stream.written() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Held<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, out)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Held<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_owed(cx))?;
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_owed(cx))?;
        Pin::new(&mut this.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
