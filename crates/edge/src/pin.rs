//! Pins on the way out: what an origin says of an answer is judged before anything of it leaves.
//!
//! [`watch`] notes a request before it is sent; [`Watched::judge`] holds the head of its answer against
//! what is known of its session, and waits where a login under way may explain it. The decisions are
//! [`shikiri_partition::Pins`]'; here are the lock around them, the waiting, and what follows a fault.
//!
//! Never here: an id or a cookie in a log, and never a fault without a record of it.
//!
//! Invariant: with `action = "stop"` no byte of an answer that disagrees reaches its client: it is
//! judged before its head is made, and interim answers are not passed on.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use shikiri_partition::{
    Asking, PinAction, PinCounts, PinFault, Pins, RequestHead, Rules, Said, SessionTurn, Trip,
    Verdict,
};
use shikiri_record::{LinkEvent, MemberTag, Order, TagKey, UnixMillis, ViewerTag, What};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::change;
use crate::evidence::Tags;
use crate::node::{Node, Stance};
use crate::origin::OriginFault;

/// A node's pins.
pub(crate) struct Table {
    pins: Mutex<Pins>,
    key: TagKey,
    order: AtomicU64,
    /// Wakes who waits for a request of the same session, in the order in which they came.
    told: Notify,
    stopped: AtomicU64,
    /// For each kind of fault: when it was last told, and how many have come since.
    told_last: Mutex<[(UnixMillis, u64); PinFault::ALL.len()]>,
}

/// A fault of one kind is told no more often: the others are counted.
const TOLD_EVERY: Duration = Duration::from_secs(60);

impl Table {
    /// Nothing is known yet. `random`: a number that nobody can guess, each time it is asked.
    pub(crate) fn new(random: impl Fn() -> u64) -> Self {
        let mut key = [0; 32];
        for part in key.chunks_exact_mut(8) {
            part.copy_from_slice(&random().to_be_bytes());
        }
        let key = TagKey::new(key);
        Self {
            pins: Mutex::new(Pins::new(key.clone())),
            key,
            order: AtomicU64::new(0),
            told: Notify::new(),
            stopped: AtomicU64::new(0),
            told_last: Mutex::new([(UnixMillis(0), 0); PinFault::ALL.len()]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Order {
        Order(self.order.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn counts(&self) -> PinCounts {
        self.lock().counts()
    }

    /// Whether to tell of a fault now; then, how many have come since the last that was told.
    fn told_of(&self, fault: PinFault, now: UnixMillis) -> Option<u64> {
        let place = PinFault::ALL.iter().position(|kind| *kind == fault);
        let mut all = self
            .told_last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (last, since) = &mut all[place.expect("all are listed")];
        // A clock that was set back must not make it silent.
        if last.0 > 0 && *last <= now && now.since(*last) < TOLD_EVERY {
            *since += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(since))
    }

    pub(crate) fn doubt_until(&self, until: UnixMillis) {
        self.lock().doubt_until(until);
    }

    /// Answers of which nothing left.
    pub(crate) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Notes a request that is about to go to an origin as itself. `client`: the address that it comes from.
pub(crate) fn watch<'a>(
    node: &'a Node,
    stance: &'a Stance,
    head: &RequestHead<'_>,
    client: IpAddr,
) -> Watched<'a> {
    let rules = &*stance.rules;
    let table = &node.pins;
    let asking = Asking::of(rules, head, client, &table.key, table.place());
    let announced = asking.may_start();
    if announced {
        table.lock().begins(&asking);
    }
    Watched {
        node,
        rules,
        tags: &stance.tags,
        asking,
        announced,
    }
}

/// Judges the head of an answer to a shared fetch: the origin was told of nobody. `Err`: nothing of it
/// may leave.
pub(crate) fn judge_shared(
    node: &Node,
    stance: &Stance,
    headers: &HeaderMap,
) -> Result<Named, PinFault> {
    let watched = Watched {
        node,
        rules: &stance.rules,
        tags: &stance.tags,
        asking: Asking::shared(node.pins.place()),
        announced: false,
    };
    let (said, verdict) = watched.first(StatusCode::OK, headers);
    watched.ends(&said, verdict, headers)
}

/// What an origin says of an answer that may leave, in tags of evidence.
#[derive(Clone, Default)]
pub(crate) struct Named {
    pub(crate) viewer: Option<MemberTag>,
    pub(crate) owner: Option<MemberTag>,
    pub(crate) page: Option<Box<str>>,
    /// A session that begins or ends with it.
    pub(crate) link: Option<(LinkEvent, ViewerTag)>,
    /// It disagrees, and leaves all the same.
    pub(crate) fault: Option<PinFault>,
}

impl Named {
    /// With what the answer of a gate named before: what is said later of the same counts. Whose the answer
    /// of a gate was says nothing of what is behind it.
    pub(crate) fn after(self, gate: Self) -> Self {
        Self {
            viewer: self.viewer.or(gate.viewer),
            owner: self.owner,
            page: self.page,
            link: self.link.or(gate.link),
            fault: self.fault.or(gate.fault),
        }
    }
}

/// A request whose answer will be judged.
pub(crate) struct Watched<'a> {
    node: &'a Node,
    rules: &'a Rules,
    tags: &'a Tags,
    asking: Asking,
    /// It may hand its session to another, and has no answer yet.
    announced: bool,
}

impl Watched<'_> {
    /// Whether interim answers may go to the client before the final one is judged.
    pub(crate) fn lets_interims(&self) -> bool {
        self.rules.pins().action == PinAction::Record
    }

    /// The origin gave no answer.
    pub(crate) fn failed(mut self, fault: &OriginFault) {
        if self.announced && !fault.may_have_been_asked() {
            self.announced = false;
            self.node.pins.lock().ends(&self.asking);
            self.node.pins.told.notify_waiters();
        }
    }

    /// Judges the head of the answer, and says what the origin said in it. `Err`: nothing of it may
    /// leave.
    pub(crate) async fn judge(
        mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Named, PinFault> {
        let (said, mut verdict) = self.first(status, headers);
        self.announced = false;
        self.node.pins.told.notify_waiters();
        let deadline = Instant::now() + self.rules.limits().first_byte_time_max;
        while let Verdict::Waits(since) = verdict {
            let mut told = pin!(self.node.pins.told.notified());
            // Listen first, look then: nothing said in between is missed.
            told.as_mut().enable();
            verdict = self.again(&said, since);
            // What has no answer by then is an upload, and no login.
            let waits = matches!(verdict, Verdict::Waits(_));
            if waits && timeout_at(deadline, told).await.is_err() {
                verdict = Verdict::Fault(PinFault::WrongViewer);
            }
        }
        self.ends(&said, verdict, headers)
    }

    /// What follows a verdict.
    fn ends(&self, said: &Said, verdict: Verdict, headers: &HeaderMap) -> Result<Named, PinFault> {
        let fault = match verdict {
            Verdict::Fault(fault) => Some(fault),
            Verdict::Fits | Verdict::Waits(_) => None,
        };
        if let Some(fault) = fault {
            self.fault(fault)?;
        }
        let key = &self.tags.key;
        let session = match said.session {
            None => None,
            Some(SessionTurn::Start) => {
                let next = self
                    .asking
                    .next_viewer(self.rules, headers, self.node.now());
                next.map(|viewer| (LinkEvent::Started, viewer.tag(key)))
            }
            Some(SessionTurn::End) => {
                let viewer = self.asking.viewer();
                viewer.map(|viewer| (LinkEvent::Ended, viewer.tag(key)))
            }
        };
        Ok(Named {
            viewer: said.viewer.as_ref().map(|member| member.tag(key)),
            owner: said.owner.as_ref().map(|(member, _)| member.tag(key)),
            page: said.page.clone(),
            link: session.filter(|_| fault.is_none()),
            fault,
        })
    }

    /// Takes what the answer declares.
    fn first(&self, status: StatusCode, headers: &HeaderMap) -> (Said, Verdict) {
        let pins = self.rules.pins();
        let said = Said::read(headers);
        // An error may come from a gateway that no longer waited for the origin's answer.
        let unclear = said.as_ref().map_or(true, |said| {
            status.is_server_error() && said.session.is_none()
        });
        if self.announced {
            self.leave(unclear);
        }
        let Ok(said) = said else {
            return (Said::nothing(), Verdict::Fault(PinFault::Unreadable));
        };
        if said.names_nobody() && !headers.contains_key(SET_COOKIE) {
            return (said, Verdict::Fits);
        }
        let (table, now) = (&self.node.pins, self.node.now());
        let cookies = self.asking.cookies(self.rules, headers, &table.key, now);
        let mut known = table.lock();
        let at = table.place();
        if let Some(fault) = known.issues(pins, &self.asking, &said, &cookies) {
            // What else it declares is of somebody else's session.
            return (said, Verdict::Fault(fault));
        }
        let verdict = known.answers(pins, &self.asking, &said, &cookies, (at, now));
        drop(known);
        (said, verdict)
    }

    fn again(&self, said: &Said, since: Order) -> Verdict {
        let (table, now) = (&self.node.pins, self.node.now());
        let mut known = table.lock();
        let at = table.place();
        known.judge(self.rules.pins(), &self.asking, said, since, (at, now))
    }

    /// Ends the announcement; `unclear`: whether the session was handed over, nobody knows.
    fn leave(&self, unclear: bool) {
        let table = &self.node.pins;
        if unclear {
            // As long as the origin would have been waited for, it may still act.
            let until = self
                .node
                .now()
                .after(self.rules.limits().first_byte_time_max);
            table.lock().loses(&self.asking, until);
        } else {
            table.lock().ends(&self.asking);
        }
    }

    /// What follows a fault.
    fn fault(&self, fault: PinFault) -> Result<(), PinFault> {
        let (node, pins, now) = (self.node, self.rules.pins(), self.node.now());
        let trips = node.pins.lock().faulted(pins, &self.asking, fault, now);
        let stops = pins.action == PinAction::Stop;
        found(node, fault, stops, trips);
        if stops {
            node.pins.stopped.fetch_add(1, Ordering::Relaxed);
            return Err(fault);
        }
        Ok(())
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        // The client has gone, or the origin broke off: it may have acted all the same.
        if self.announced {
            self.leave(true);
            self.node.pins.told.notify_waiters();
        }
    }
}

/// Lowers the mode where that is due, and puts a fault on the timeline, and in the log, at most once in a
/// while: whoever causes one may cause any number. Never waits for a disk.
fn found(node: &Node, fault: PinFault, stops: bool, trips: Option<Trip>) {
    // First: what shares less waits for nothing, not even for the fault's own entry.
    if let Some(Trip {
        viewers,
        within,
        mode,
    }) = trips
    {
        let said = format!(
            "{viewers} members were served as others within {} s",
            within.as_secs()
        );
        node.lower_mode(mode, &change::Said::by_node(said));
    }
    let now = node.now();
    if let Some(before) = node.pins.told_of(fault, now) {
        let end = if stops {
            "nothing of it left"
        } else {
            "it left, since the policy says `record`"
        };
        let more = match before {
            0 => String::new(),
            before => format!("; {before} more since the last entry"),
        };
        tracing::warn!(fault = fault.name(), before, "{fault}: {end}");
        let finding = fault.name().to_owned();
        node.note_later(
            What::Finding { finding },
            &change::Said::by_node(format!("{fault}: {end}{more}")),
        );
    }
}
