//! Who writes the timeline: a thread of its own, so that nobody waits for a disk with a lock in hand.
//!
//! What is to be written gets its place in a queue, under a lock that is held for a moment; the thread
//! writes it in that order. Who put it there may wait to be told, for a bounded time: a disk that hangs
//! holds up this thread and nobody else.
//!
//! Never decides what takes effect. Invariants: entries are written in the order in which they were put,
//! but for those that take another back, which follow it at once. What is told to be on the timeline
//! outlives a loss of power; what is told not to be is not there, or is taken back there.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use shikiri_evidence::Stream;
use shikiri_record::{Entry, EntryFault, UnixMillis};

use crate::chronicle::ChronicleFault;

/// Entries that wait to be appended, at most; the oldest are dropped for newer ones, which is told.
const WAITING_MAX: usize = 1024;

/// For so long the disk may be busy before what shares more is refused.
const FIRST_TIME_MAX: Duration = Duration::from_secs(10);

/// For so long it may be busy before what shares less is told as not yet written.
const IN_TIME_MAX: Duration = Duration::from_secs(2);

/// What becomes of an entry that the disk does not take.
#[derive(Debug)]
pub(crate) enum Otherwise {
    /// It tells of what has not happened and then does not: it is dropped. When it was given up while it
    /// was being written, these follow it; the first of them supersedes it.
    Dropped(Vec<Entry>),
    /// It tells of what has happened: it is kept, and tried again.
    Kept,
}

/// What becomes of an entry, for whoever put it: its place, or why it has none (yet).
#[derive(Clone, Debug)]
#[must_use]
pub(crate) struct Ticket(Arc<OnceLock<Result<u64, ChronicleFault>>>);

impl Ticket {
    /// Of an entry that needs no writing, or no timeline would take.
    pub(crate) fn settled(told: Result<u64, ChronicleFault>) -> Self {
        Self(Arc::new(OnceLock::from(told)))
    }

    fn tell(&self, told: Result<u64, ChronicleFault>) {
        // It is told once: what was kept may be written later.
        drop(self.0.set(told));
    }
}

/// A queue, and the thread that writes what is in it.
#[derive(Debug)]
pub(crate) struct Scribe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the thread.
    asked: Condvar,
    /// Wakes those who wait for it.
    told: Condvar,
}

#[derive(Debug)]
struct Queue {
    /// None while another node writes the timeline.
    stream: Option<Arc<Stream>>,
    /// The sequence number of the next entry.
    next: u64,
    waiting: VecDeque<Waiting>,
    /// What the thread is asked for; taken when it begins with it.
    wanted: Wanted,
    /// Since when the disk has had the thread.
    at_disk: Option<Instant>,
    /// Whether what it has there is the first of those that wait.
    is_writing: bool,
    /// How often the stream was looked after.
    tended: u64,
    /// Why what waits was not written the last time.
    trouble: Option<ChronicleFault>,
    /// Whether the thread has ended.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Wanted {
    writing: bool,
    tending: Option<UnixMillis>,
    sealing: Option<UnixMillis>,
    end: bool,
}

#[derive(Debug)]
struct Waiting {
    at: UnixMillis,
    body: Arc<[u8]>,
    otherwise: Otherwise,
    /// Nobody waits for it any more, and what it tells of does not happen.
    is_given_up: bool,
    ticket: Ticket,
}

impl Waiting {
    fn new(entry: &Entry, otherwise: Otherwise, at: UnixMillis) -> Result<Self, EntryFault> {
        Ok(Self {
            at,
            body: entry.encode()?.into(),
            otherwise,
            is_given_up: false,
            ticket: Ticket(Arc::default()),
        })
    }

    const fn is_kept(&self) -> bool {
        matches!(self.otherwise, Otherwise::Kept)
    }
}

impl Scribe {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be had.
    pub(crate) fn start(stream: Arc<Stream>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                next: stream.next_sequence(),
                stream: Some(stream),
                waiting: VecDeque::new(),
                wanted: Wanted::default(),
                at_disk: None,
                is_writing: false,
                tended: 0,
                trouble: None,
                is_over: false,
            }),
            asked: Condvar::new(),
            told: Condvar::new(),
        });
        let written = Arc::clone(&shared);
        thread::Builder::new()
            .name("shikiri-timeline".into())
            .spawn(move || written.run())?;
        Ok(Self(shared))
    }

    /// Puts an entry after all that were put before. Never waits for the disk.
    ///
    /// # Errors
    /// No timeline would take it.
    pub(crate) fn put(
        &self,
        entry: &Entry,
        otherwise: Otherwise,
        now: UnixMillis,
    ) -> Result<Ticket, EntryFault> {
        let waiting = Waiting::new(entry, otherwise, now)?;
        let ticket = waiting.ticket.clone();
        let mut queue = self.0.lock();
        let oldest = usize::from(queue.is_writing);
        if queue.waiting.len() >= WAITING_MAX
            && let Some(lost) = queue.waiting.remove(oldest)
        {
            lost.ticket.tell(Err(ChronicleFault::TooMany));
            tracing::error!("an entry for the timeline is lost: too many wait to be written");
        }
        queue.waiting.push_back(waiting);
        queue.wanted.writing = true;
        self.0.asked.notify_one();
        Ok(ticket)
    }

    /// Waits until an entry that was put as [`Otherwise::Dropped`] is on the timeline.
    ///
    /// # Errors
    /// It is not, or is taken back there.
    pub(crate) fn first(&self, ticket: &Ticket) -> Result<u64, ChronicleFault> {
        let (mut queue, told) = self.wait(ticket, FIRST_TIME_MAX);
        if let Some(told) = told {
            return told;
        }
        let of = |waiting: &Waiting| Arc::ptr_eq(&waiting.ticket.0, &ticket.0);
        match queue.waiting.iter().position(of) {
            Some(0) if queue.is_writing => queue.waiting[0].is_given_up = true,
            Some(at) => drop(queue.waiting.remove(at)),
            None => {}
        }
        Err(ChronicleFault::Slow)
    }

    /// Waits for a moment until an entry that was put as [`Otherwise::Kept`] is on the timeline.
    ///
    /// # Errors
    /// It is not there yet.
    pub(crate) fn in_time(&self, ticket: &Ticket) -> Result<u64, ChronicleFault> {
        let told = self.wait(ticket, IN_TIME_MAX).1;
        told.unwrap_or(Err(ChronicleFault::Slow))
    }

    /// Waits to be told. A disk that has been busy for as long already is not waited for any more.
    fn wait(
        &self,
        ticket: &Ticket,
        patience: Duration,
    ) -> (MutexGuard<'_, Queue>, Option<Result<u64, ChronicleFault>>) {
        let queue = self.0.wait(patience, |_| ticket.0.get().is_some());
        (queue, ticket.0.get().cloned())
    }

    /// Looks after the stream, and writes what waits; returns how many wait nevertheless, and why.
    pub(crate) fn tend(&self, now: UnixMillis) -> (usize, ChronicleFault) {
        let mut queue = self.0.lock();
        let before = queue.tended;
        queue.wanted.writing = true;
        queue.wanted.tending = Some(now);
        self.0.asked.notify_one();
        drop(queue);
        let queue = self.0.wait(IN_TIME_MAX, |queue| queue.tended > before);
        let why = queue.trouble.clone().unwrap_or(ChronicleFault::Slow);
        (queue.waiting.len(), why)
    }

    /// The sequence number of the next entry.
    pub(crate) fn next(&self) -> u64 {
        self.0.lock().next
    }

    /// How many entries wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Whether this node writes the timeline.
    pub(crate) fn writes(&self) -> bool {
        self.0.lock().stream.is_some()
    }

    /// Seals the stream and lets it go, when what can be written is. It stays ours when the disk does not
    /// let it be sealed in time.
    pub(crate) fn release(&self, now: UnixMillis) {
        let mut queue = self.0.lock();
        queue.wanted.writing = true;
        queue.wanted.sealing = Some(now);
        self.0.asked.notify_one();
        drop(queue);
        let mut queue = self.0.wait(FIRST_TIME_MAX, |queue| queue.stream.is_none());
        if queue.stream.is_some() {
            queue.wanted.sealing = None;
            tracing::error!("the timeline is not let go: its disk does not answer");
        }
    }

    /// Goes on with the timeline, in a stream that was opened anew; not when it was never let go.
    pub(crate) fn take_back<E>(
        &self,
        open: impl FnOnce() -> Result<Arc<Stream>, E>,
    ) -> Result<(), E> {
        if self.writes() {
            return Ok(());
        }
        let stream = open()?;
        let mut queue = self.0.lock();
        queue.next = stream.next_sequence();
        queue.stream = Some(stream);
        queue.wanted.writing = true;
        self.0.asked.notify_one();
        Ok(())
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.0.lock().wanted.end = true;
        self.0.asked.notify_one();
        // Whoever opens the timeline next must find it free, unless the disk hangs.
        drop(self.0.wait(IN_TIME_MAX, |queue| queue.is_over));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, patience: Duration, is_so: impl Fn(&Queue) -> bool) -> MutexGuard<'_, Queue> {
        let queue = self.lock();
        let busy = queue.at_disk.map_or(Duration::ZERO, |at| at.elapsed());
        let patience = patience.saturating_sub(busy);
        let waited = self
            .told
            .wait_timeout_while(queue, patience, |queue| !is_so(queue));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The thread.
    fn run(&self) {
        let mut queue = self.lock();
        loop {
            let idle = |queue: &mut Queue| {
                let wanted = &queue.wanted;
                !wanted.writing && !wanted.end
            };
            let woken = self.asked.wait_while(queue, idle);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
            queue.wanted.writing = false;
            queue = self.write(queue);
            if let Some(now) = queue.wanted.tending.take() {
                queue = self.tend(queue, now);
            }
            if let Some(now) = queue.wanted.sealing.take() {
                queue = self.seal(queue, now);
            }
            if queue.wanted.end {
                queue.stream = None;
                queue.is_over = true;
                self.told.notify_all();
                return;
            }
        }
    }

    /// Does something at the disk, without the lock.
    fn at_disk<'a, T>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        work: impl FnOnce(Option<&Stream>) -> T,
    ) -> (MutexGuard<'a, Queue>, T) {
        let stream = queue.stream.clone();
        queue.at_disk = Some(Instant::now());
        drop(queue);
        let done = work(stream.as_deref());
        drop(stream);
        let mut queue = self.lock();
        queue.at_disk = None;
        (queue, done)
    }

    /// Writes what waits, in order, as far as the disk lets it.
    fn write<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        while let Some(first) = queue.waiting.front() {
            let (at, body) = (first.at, Arc::clone(&first.body));
            queue.is_writing = true;
            let (after, done) = self.at_disk(queue, |stream| match stream {
                Some(stream) => Ok(stream.append_durably(at, &body).map_err(Arc::new)?),
                None => Err(ChronicleFault::Released),
            });
            queue = after;
            queue.is_writing = false;
            match done {
                Ok(sequence) => queue.written(sequence),
                Err(why) => {
                    queue.failed(&why);
                    self.told.notify_all();
                    return queue;
                }
            }
            self.told.notify_all();
        }
        queue.trouble = None;
        queue
    }

    fn tend<'a>(&'a self, queue: MutexGuard<'a, Queue>, now: UnixMillis) -> MutexGuard<'a, Queue> {
        let (mut queue, troubles) = self.at_disk(queue, |stream| {
            stream.map_or_else(Vec::new, |stream| stream.maintain(now))
        });
        for trouble in troubles {
            tracing::error!(%trouble, "the timeline");
        }
        queue.tended += 1;
        self.told.notify_all();
        queue
    }

    fn seal<'a>(&'a self, queue: MutexGuard<'a, Queue>, now: UnixMillis) -> MutexGuard<'a, Queue> {
        let (mut queue, sealed) = self.at_disk(queue, |stream| {
            stream.map_or(Ok(()), |stream| stream.seal(now))
        });
        if let Err(trouble) = sealed {
            tracing::error!(%trouble, "the timeline");
        }
        queue.stream = None;
        self.told.notify_all();
        queue
    }
}

impl Queue {
    /// The first of those that wait is on the timeline.
    fn written(&mut self, sequence: u64) {
        self.next = sequence + 1;
        let first = self.waiting.pop_front().expect("it was written");
        first.ticket.tell(Ok(sequence));
        let Otherwise::Dropped(mut back) = first.otherwise else {
            return;
        };
        if !first.is_given_up {
            return;
        }
        if let Some(correction) = back.first_mut() {
            correction.supersedes = Some(sequence);
        }
        for entry in back.iter().rev() {
            match Waiting::new(entry, Otherwise::Kept, first.at) {
                Ok(waiting) => self.waiting.push_front(waiting),
                Err(why) => tracing::error!(%why, "an entry is not taken back"),
            }
        }
    }

    /// What waits is not written now: what is kept waits on.
    fn failed(&mut self, why: &ChronicleFault) {
        self.trouble = Some(why.clone());
        for waiting in &self.waiting {
            waiting.ticket.tell(Err(why.clone()));
        }
        self.waiting.retain(Waiting::is_kept);
    }
}
