//! Slices: how a response reads a large object that is fetched and stored piece by piece.
//!
//! [`Reading`] takes one slice after another from the store, or fetches it as a shared fetch of its own,
//! one for all who wait for it. The first slice came with the set; every other is asked for with the
//! set's entity tag. One that does not fit ends the set: it is stored no more, and what was shown of it
//! is cut, never continued with bytes of another version.
//!
//! Never here: a slice that its set did not admit, more than one slice of a response in memory at once.
//!
//! Invariant: all bytes of a response come from slices of the one set that it began with.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use shikiri_partition::{Begun, Class, Key, Limits, NotShared, SliceFetch, Slices, Standing};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::body::{BodyFault, Growing, OutBody};
use crate::fill::{FILL_TIME_MAX, chunk};
use crate::flight::{self, Joined, Leading};
use crate::node::{Node, Worker, count, may_share};
use crate::origin::{self, OriginBody};
use crate::store::Object;

/// A set, as one response reads it.
#[derive(Clone)]
pub(crate) struct Reading {
    worker: Arc<Worker>,
    set: Arc<Object>,
    slices: Slices,
    class: Arc<Class>,
    limits: Limits,
}

/// Where a slice came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stored,
    /// This response had it fetched.
    Fetched,
    /// It waited for another's fetch.
    Waited,
}

/// Why a slice cannot be had.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoSlice {
    /// The set is no more, or this slice is not of it: the reason's name.
    Ended(&'static str),
    /// Too much is asked at once: the reason's name.
    Busy(&'static str),
    /// The origin failed: the status that says so, and the reason's name.
    Failed(StatusCode, &'static str),
}

impl NoSlice {
    const fn name(self) -> &'static str {
        match self {
            Self::Ended(why) | Self::Busy(why) | Self::Failed(_, why) => why,
        }
    }
}

type Got = Result<(Arc<Object>, Source), NoSlice>;

impl Reading {
    /// Reads a set; `None` if the object is whole.
    pub(crate) fn of(
        worker: &Arc<Worker>,
        set: &Arc<Object>,
        class: &Arc<Class>,
        limits: &Limits,
    ) -> Option<Self> {
        Some(Self {
            slices: set.head().slices()?,
            worker: Arc::clone(worker),
            set: Arc::clone(set),
            class: Arc::clone(class),
            limits: *limits,
        })
    }

    /// A part of the body, once its first slice is admitted, and where that came from.
    pub(crate) async fn body(self, range: Range<u64>) -> Result<(OutBody, Source), NoSlice> {
        let first = self.slices.holding(range.start);
        let (slice, source) = self.slice(first).await?;
        let mut parts = Parts {
            reading: self,
            next: first,
            left: range,
            now: Now::Ended,
        };
        parts.read(&slice);
        Ok((OutBody::parts(parts), source))
    }

    /// Whether all of a part is stored.
    pub(crate) fn is_stored(&self, range: &Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        let (first, last) = (
            self.slices.holding(range.start),
            self.slices.holding(range.end - 1),
        );
        // The store's own bound ends it soon.
        (first.max(1)..=last)
            .all(|number| self.stored(&self.set.head().slice_key(number)).is_some())
    }

    fn node(&self) -> &Arc<Node> {
        self.worker.node()
    }

    /// A slice that is stored and may be used: judged again, as any hit is.
    fn stored(&self, key: &Key) -> Option<Arc<Object>> {
        let node = self.node();
        let slice = node.store.get(key)?;
        let dead = node.purges.standing(&slice.marked()) == Standing::Dead;
        if dead || !self.set.head().may_use(slice.head(), node.now()) {
            node.store.remove(key);
            return None;
        }
        Some(slice)
    }

    async fn slice(&self, number: u32) -> Got {
        if number == 0 {
            return Ok((Arc::clone(&self.set), Source::Stored));
        }
        let node = self.node();
        if node.purges.standing(&self.set.marked()) == Standing::Dead {
            return Err(NoSlice::Ended(NotShared::PurgedMeanwhile.name()));
        }
        let key = self.set.head().slice_key(number);
        if let Some(slice) = self.stored(&key) {
            return Ok((slice, Source::Stored));
        }
        let joined = node.flights.join(
            &key,
            self.limits.waiting_max,
            self.limits.requests_max,
            || self.stored(&key),
        );
        match joined {
            Err(slice) => Ok((slice, Source::Stored)),
            Ok(Joined::Full) => Err(NoSlice::Busy("full")),
            Ok(Joined::Waits(mut waiting)) => {
                let outcome = timeout(self.limits.waiting_time_max, waiting.outcome()).await;
                match outcome.unwrap_or(flight::Outcome::Running) {
                    flight::Outcome::Shared(slice) => Ok((slice, Source::Waited)),
                    flight::Outcome::Not(why) => Err(NoSlice::Ended(why)),
                    flight::Outcome::Failed(why) => {
                        Err(NoSlice::Failed(StatusCode::BAD_GATEWAY, why))
                    }
                    flight::Outcome::NoAnswer(status, why) => Err(NoSlice::Failed(status, why)),
                    flight::Outcome::Running => Err(NoSlice::Busy("waited-too-long")),
                    #[cfg(feature = "seeded-faults")]
                    flight::Outcome::Unadmitted(..) => Err(NoSlice::Ended("unadmitted")),
                }
            }
            Ok(Joined::Leads(leading)) => {
                let (leader, led) = oneshot::channel();
                let fetching = Fetching {
                    reading: self.clone(),
                    number,
                    leading,
                    leader: Some(leader),
                };
                tokio::spawn(fetching.run());
                match led.await {
                    Ok(Ok(slice)) => Ok((slice, Source::Fetched)),
                    Ok(Err(why)) => Err(why),
                    Err(_) => Err(NoSlice::Busy("our-failure")),
                }
            }
        }
    }

    /// The set is stored no more, and nobody can name its slices.
    fn end_set(&self, why: &NotShared) {
        let node = self.node();
        let set = self.set.head();
        node.store.remove_of_fill(set.key(), set.fill());
        if why.is_lasting() {
            let until = node.now().after(self.limits.remember_pass_time);
            node.remembered.remember(set.key(), until, why.name());
        }
        count(&node.counters.sets_ended);
        tracing::debug!(reason = why.name(), "a set of slices ended");
    }
}

/// A slice on its way from the origin: a task of its own, since others may wait for it.
struct Fetching {
    reading: Reading,
    number: u32,
    leading: Leading,
    leader: Option<oneshot::Sender<Result<Arc<Object>, NoSlice>>>,
}

impl Fetching {
    async fn run(mut self) {
        let node = Arc::clone(self.reading.node());
        count(&node.counters.fills);
        let begun = Begun {
            id: node.fill_id(),
            // The place in the order comes first: a purge from now on is after this fetch.
            order: node.purges.place(),
            at: node.now(),
        };
        let (outbound, fill) = SliceFetch::of(
            self.reading.set.head(),
            self.number,
            &self.reading.class,
            begun,
            node.constants(),
        )
        .begin();
        let asked = Instant::now();
        let answered = origin::shared(&self.reading.worker, outbound).await;
        node.meters.origin_shared.add(asked.elapsed());
        let response = match answered {
            Ok(response) => response,
            Err(fault) => {
                node.note_failure(&fault);
                self.leading
                    .tell(flight::Outcome::NoAnswer(fault.status(), fault.name()));
                self.lead(Err(NoSlice::Failed(fault.status(), fault.name())));
                return;
            }
        };
        let bytes = fill.bytes();
        let head = match fill.judge(response.status, &response.headers, node.now()) {
            Ok(head) => head,
            Err(refused) => {
                let name = refused.why.name();
                if refused.ends_set {
                    self.reading.end_set(&refused.why);
                    self.refuse(name);
                } else {
                    self.leading.tell(flight::Outcome::Failed(name));
                    self.lead(Err(NoSlice::Failed(StatusCode::BAD_GATEWAY, name)));
                }
                return;
            }
        };
        let Some(_room) = node.reserve(bytes, &self.reading.limits) else {
            let name = NotShared::NoRoom.name();
            self.leading.tell(flight::Outcome::Not(name));
            self.lead(Err(NoSlice::Busy(name)));
            return;
        };
        let growing = Growing::new();
        let length = usize::try_from(bytes).expect("a slice fits memory");
        let slice = Object::growing(head.clone(), Arc::clone(&growing), length);
        if may_share(&node, head.key()).is_ok() {
            self.leading
                .tell(flight::Outcome::Shared(Arc::clone(&slice)));
        }
        self.lead(Ok(slice));
        match gather(response.body, &growing, length).await {
            Ok(whole) => self.share(&Object::whole(head, whole)),
            Err(why) => {
                if let NotShared::SliceDiffers { .. } = why {
                    self.reading.end_set(&why);
                }
                self.leading.tell(flight::Outcome::Not(why.name()));
            }
        }
    }

    fn lead(&mut self, led: Result<Arc<Object>, NoSlice>) {
        if let Some(leader) = self.leader.take() {
            // A leader that has gone away needs nothing.
            drop(leader.send(led));
        }
    }

    fn refuse(&mut self, why: &'static str) {
        self.leading.tell(flight::Outcome::Not(why));
        self.lead(Err(NoSlice::Ended(why)));
    }

    /// Stores a slice, if it and its set may still be named, and tells those who wait.
    fn share(&self, slice: &Arc<Object>) {
        let node = self.reading.node();
        let key = slice.head().key();
        if let Err(why) = may_share(node, key) {
            self.leading.tell(flight::Outcome::Not(why.name()));
            return;
        }
        if node.purges.standing(&slice.marked()) == Standing::Dead {
            let why = NotShared::PurgedMeanwhile;
            self.leading.tell(flight::Outcome::Not(why.name()));
            return;
        }
        let set = self.reading.set.head();
        let stored = node.store.get(set.key());
        // The set itself may still be on its way; where another has taken its place, nobody could name it.
        if stored.is_none_or(|stored| stored.head().fill() == set.fill()) {
            node.store.insert(Arc::clone(slice));
        }
        self.leading
            .tell(flight::Outcome::Shared(Arc::clone(slice)));
    }
}

/// Reads a slice's body: exactly so many bytes.
async fn gather(
    mut body: OriginBody,
    growing: &Arc<Growing>,
    length: usize,
) -> Result<Bytes, NotShared> {
    let deadline = Instant::now() + FILL_TIME_MAX;
    loop {
        match chunk(&mut body, deadline).await {
            Ok(None) if growing.len() == length => return Ok(growing.complete()),
            Ok(None) => {
                growing.breaks();
                return Err(NotShared::Incomplete);
            }
            Ok(Some(data)) if growing.len() + data.len() > length => {
                growing.breaks();
                return Err(NotShared::SliceDiffers { what: "body" });
            }
            Ok(Some(data)) => growing.push(data),
            Err(why) => {
                tracing::debug!(why, "a slice broke off");
                growing.breaks();
                return Err(NotShared::Incomplete);
            }
        }
    }
}

/// A part of a body, slice after slice.
pub(crate) struct Parts {
    reading: Reading,
    /// The slice to read next.
    next: u32,
    /// What is still to be read of the slices from there on.
    left: Range<u64>,
    now: Now,
}

enum Now {
    Reads(OutBody),
    Fetches(Pin<Box<dyn Future<Output = Got> + Send>>),
    Ended,
}

impl Parts {
    /// Bytes that are still to come.
    pub(crate) fn len(&self) -> u64 {
        let now = match &self.now {
            Now::Reads(body) => body.size_hint().exact().unwrap_or(0),
            Now::Fetches(_) | Now::Ended => 0,
        };
        now + (self.left.end - self.left.start)
    }

    /// Reads what is wanted of the next slice.
    fn read(&mut self, slice: &Arc<Object>) {
        let holds = self.reading.slices.range(self.next);
        let end = self.left.end.min(holds.end);
        let part = self.left.start - holds.start..end - holds.start;
        self.left.start = end;
        self.next += 1;
        self.now = Now::Reads(slice.body(part));
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        loop {
            match &mut self.now {
                Now::Reads(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Some(Err(fault)) => {
                        self.now = Now::Ended;
                        self.left.start = self.left.end;
                        return Poll::Ready(Some(Err(fault)));
                    }
                    None if self.left.is_empty() => {
                        self.now = Now::Ended;
                        return Poll::Ready(None);
                    }
                    None => {
                        let (reading, next) = (self.reading.clone(), self.next);
                        self.now = Now::Fetches(Box::pin(async move { reading.slice(next).await }));
                    }
                },
                Now::Fetches(slice) => match ready!(slice.as_mut().poll(cx)) {
                    Ok((slice, _)) => self.read(&slice),
                    Err(why) => {
                        self.now = Now::Ended;
                        self.left.start = self.left.end;
                        let why = BodyFault::Origin(format!("a slice is missing: {}", why.name()));
                        return Poll::Ready(Some(Err(why)));
                    }
                },
                Now::Ended => return Poll::Ready(None),
            }
        }
    }
}
