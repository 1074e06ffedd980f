//! One thread's lane of evidence, and the answers that wait for it.
//!
//! Rows are appended while requests are answered, and written together: once in a turn of the thread's
//! loop, after the tasks that were ready ([`Written`]). An answer that shows something is handed to its
//! connection when its begin row is written, and not before; when that row cannot be written, it is
//! handed to nobody.
//!
//! Why a wait before the answer, and not a write for each, nor a wait before the socket:
//! `docs/adr/0012-rows-are-written-by-who-waits-first.md`.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use shikiri_evidence::{Full, Reservation, Stream, row_bytes};
use shikiri_record::{
    BEGIN_BYTES_MAX, Begin, END_BYTES, End, Gap, LINK_BYTES_MAX, Link, STANCE_BYTES, StanceRow,
    UnixMillis,
};

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
    writer: Mutex<Writer>,
    /// How many times rows could not be written.
    failures: AtomicU64,
    /// How many of them were told.
    failures_told: AtomicU64,
    waiting: Mutex<Waiting>,
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
    pub(crate) fn new(stream: Arc<Stream>) -> Arc<Self> {
        Arc::new(Self {
            stream,
            writer: Mutex::default(),
            failures: AtomicU64::new(0),
            failures_told: AtomicU64::new(0),
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
        &self,
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
                tag_key: stance.tags.id,
            }
            .encode(row);
            space.lead(at, row);
            *under = Some(Arc::clone(stance));
        }
        row.clear();
        begin.encode(row);
        space.append(at, row)
    }

    /// Appends a link row.
    pub(crate) fn link(&self, space: &mut Reservation, at: UnixMillis, link: Link) {
        let mut writer = lock(&self.writer);
        writer.row.clear();
        link.encode(&mut writer.row);
        space.append(at, &writer.row);
    }

    /// Appends an end row. It is written with the next begin row, or when the lane is next looked after.
    pub(crate) fn end(&self, space: &mut Reservation, at: UnixMillis, end: End) {
        let mut writer = lock(&self.writer);
        writer.row.clear();
        end.encode(&mut writer.row);
        space.append(at, &writer.row);
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

    /// Whether there is no space for one more response's rows.
    pub(crate) fn is_full(&self) -> bool {
        self.reserve().is_err()
    }

    /// Whether rows could not be written since this was last asked.
    pub(crate) fn has_failed(&self) -> bool {
        let failures = self.failures.load(Ordering::Acquire);
        self.failures_told.swap(failures, Ordering::Relaxed) != failures
    }

    /// Writes of the responses without rows, as soon as there is space. Returns whether there are, or were
    /// until now, any of which no row speaks.
    pub(crate) fn tell_gap(&self) -> bool {
        let mut gap = lock(&self.gap);
        let Some(known) = *gap else {
            return false;
        };
        let mut row = Vec::new();
        known.encode(&mut row);
        if self.stream.append(known.to, &row).is_ok() {
            *gap = None;
        }
        true
    }

    /// Ready when a row is written. Whoever waits first writes for all who wait: when its task comes
    /// again, after those that were ready before.
    pub(crate) const fn written(&self, sequence: u64) -> Written<'_> {
        Written {
            lane: self,
            sequence,
            part: Part::None,
        }
    }

    /// Writes what was appended.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn flush(&self) -> Result<(), NoEvidence> {
        self.stream.flush().map_err(|error| {
            if self.failures.fetch_add(1, Ordering::AcqRel) == 0 {
                tracing::error!(%error, "evidence cannot be written: nothing is answered");
            }
            NoEvidence
        })
    }

    /// Nobody leads any more: those who wait look for themselves.
    fn wake_all(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.is_led = false;
        let spare = std::mem::take(&mut waiting.spare);
        let mut woken = std::mem::replace(&mut waiting.wakers, spare);
        drop(waiting);
        for waker in woken.drain(..) {
            waker.wake();
        }
        lock(&self.waiting).spare = woken;
    }
}

impl Drop for Lane {
    /// Its thread ends: nobody looks after it any more.
    fn drop(&mut self) {
        self.tell_gap();
        if let Some(gap) = lock(&self.gap).take() {
            tracing::error!(
                responses = gap.responses,
                "responses were shown without rows, and there was no space to say so"
            );
        }
    }
}

/// That something was shown could not be written down: it is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no evidence, no bytes: that it was shown could not be written down")]
pub(crate) struct NoEvidence;

/// Who waits for rows to be written.
#[derive(Debug, Default)]
struct Waiting {
    /// Whether somebody will write when its task comes again.
    is_led: bool,
    wakers: Vec<Waker>,
    /// An empty list, for the sake of its memory.
    spare: Vec<Waker>,
}

/// Waits for a row to be written.
#[must_use]
#[derive(Debug)]
pub(crate) struct Written<'a> {
    lane: &'a Lane,
    sequence: u64,
    part: Part,
}

/// What somebody who waits does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    None,
    /// Writes for all, when its task comes again.
    Leads,
    /// Waits for another to write; writing had failed so many times when it began to.
    Follows(u64),
}

impl Future for Written<'_> {
    type Output = Result<(), NoEvidence>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), NoEvidence>> {
        let lane = self.lane;
        #[cfg(feature = "seeded-faults")]
        if shikiri_partition::fault::is(shikiri_partition::fault::Fault::RowLate) {
            return Poll::Ready(Ok(()));
        }
        if self.part == Part::Leads {
            let flushed = lane.flush();
            lane.wake_all();
            self.part = Part::None;
            return Poll::Ready(flushed);
        }
        if self.sequence < lane.stream.written() {
            return Poll::Ready(Ok(()));
        }
        let failures = lane.failures.load(Ordering::Acquire);
        if matches!(self.part, Part::Follows(before) if before != failures) {
            return Poll::Ready(Err(NoEvidence));
        }
        let mut waiting = lock(&lane.waiting);
        if waiting.is_led {
            waiting.wakers.push(cx.waker().clone());
            drop(waiting);
            self.part = Part::Follows(failures);
        } else {
            waiting.is_led = true;
            drop(waiting);
            self.part = Part::Leads;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        // Its client has gone: another leads.
        if self.part == Part::Leads {
            self.lane.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::task::Wake;
    use std::time::Duration;

    use shikiri_evidence::{BootId, Cut, Disk, Identity, MemoryDisk, StreamKind};

    use super::*;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicU64);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn poll(self: &Arc<Self>, written: &mut Written<'_>) -> Poll<Result<(), NoEvidence>> {
            let waker = Waker::from(Arc::clone(self));
            Pin::new(written).poll(&mut Context::from_waker(&waker))
        }

        fn woken(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn lane() -> (Arc<Lane>, MemoryDisk) {
        let disk = MemoryDisk::new(1 << 20);
        let identity = Identity {
            kind: StreamKind::Lane,
            node: "edge".into(),
            boot: BootId([1; 16]),
            lane: 0,
        };
        let cut = Cut {
            segment_bytes: 64 << 10,
            age_max: Duration::from_secs(60),
        };
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        let (stream, _) =
            Stream::open(on, Path::new("/lane"), identity, cut, UnixMillis(0)).unwrap();
        (Lane::new(stream), disk)
    }

    fn append(lane: &Lane) -> u64 {
        lane.stream.append(UnixMillis(1), b"row").unwrap()
    }

    #[test]
    fn who_waits_first_writes_for_all_when_it_comes_again() {
        let (lane, _) = lane();
        let tasks: [Arc<Task>; 3] = Default::default();
        let mut waits = [0; 3].map(|_| lane.written(append(&lane)));
        for (task, written) in tasks.iter().zip(&mut waits) {
            assert!(task.poll(written).is_pending());
        }
        assert_eq!(
            lane.stream.written(),
            0,
            "others may append before it comes again"
        );
        assert_eq!(tasks.each_ref().map(|task| task.woken()), [1, 0, 0]);
        let last = append(&lane);
        assert_eq!(tasks[0].poll(&mut waits[0]), Poll::Ready(Ok(())));
        assert_eq!(tasks.each_ref().map(|task| task.woken()), [1, 1, 1]);
        assert_eq!(tasks[1].poll(&mut waits[1]), Poll::Ready(Ok(())));
        assert_eq!(tasks[2].poll(&mut waits[2]), Poll::Ready(Ok(())));
        assert_eq!(tasks[0].poll(&mut lane.written(last)), Poll::Ready(Ok(())));
    }

    /// A thread that ends before its lane was looked after again leaves no response unspoken of.
    #[test]
    fn responses_without_rows_are_told_of_when_the_thread_ends() {
        let (lane, _) = lane();
        lane.count_gap(UnixMillis(1));
        lane.count_gap(UnixMillis(2));
        let stream = Arc::clone(&lane.stream);
        drop(lane);
        stream.flush().unwrap();
        assert_eq!(stream.written(), 1, "a row says so");
    }

    #[test]
    fn when_the_first_goes_away_another_writes() {
        let (lane, _) = lane();
        let tasks: [Arc<Task>; 2] = Default::default();
        let mut first = lane.written(append(&lane));
        let mut second = lane.written(append(&lane));
        assert!(tasks[0].poll(&mut first).is_pending());
        assert!(tasks[1].poll(&mut second).is_pending());
        drop(first);
        assert_eq!(tasks[1].woken(), 1);
        assert!(tasks[1].poll(&mut second).is_pending(), "it leads now");
        assert_eq!(tasks[1].poll(&mut second), Poll::Ready(Ok(())));
    }

    #[test]
    fn what_could_not_be_written_is_told_to_all_who_wait() {
        let (lane, disk) = lane();
        let tasks: [Arc<Task>; 2] = Default::default();
        let mut waits = [0; 2].map(|_| lane.written(append(&lane)));
        for (task, written) in tasks.iter().zip(&mut waits) {
            assert!(task.poll(written).is_pending());
        }
        disk.fail_writes_after(Some(5));
        assert_eq!(tasks[0].poll(&mut waits[0]), Poll::Ready(Err(NoEvidence)));
        assert_eq!(tasks[1].woken(), 1);
        assert_eq!(tasks[1].poll(&mut waits[1]), Poll::Ready(Err(NoEvidence)));
        // Written by whoever looks after the stream, once the disk is well again.
        disk.fail_writes_after(None);
        let mut late = lane.written(1);
        assert!(tasks[0].poll(&mut late).is_pending());
        lane.flush().unwrap();
        assert_eq!(tasks[0].poll(&mut late), Poll::Ready(Ok(())));
    }
}
