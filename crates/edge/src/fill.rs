//! Fills: a shared fetch from its first byte to the store, or to one requester alone.
//!
//! A fill is a task of its own. Who asked first may go away; those who wait, and the store, still get
//! what was admitted. What was not admitted goes to the one who led, or to nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use shikiri_partition::{
    Admitted, Begun, Class, FirstCopy, Judged, Limits, NotShared, Outbound, Relay, SecondCopy,
    SharedFetch, Sniff, Standing,
};
use shikiri_record::FillId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::answer;
use crate::body::{Growing, OutBody};
use crate::flight::{Leading, Outcome};
use crate::node::{FillPermit, Worker, count, may_share};
use crate::origin::{self, OriginBody, OriginFault};
use crate::store::Object;
use crate::trace::{Asks, ChildSpan, Heard, Trace};

/// How long a body may take that others wait for. A stalled one ends sooner; this is for one that
/// drips.
pub(crate) const FILL_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// What a fill gives to the request that leads it.
pub(crate) enum Led {
    /// Admitted. The body may still be growing.
    Object {
        object: Arc<Object>,
        /// The status with which the origin answered: 304 when it confirmed a stored object.
        forwarded: StatusCode,
    },
    /// Admitted, of a length that nobody knows yet: streamed to the leader, shared when it is whole.
    Streaming { head: Admitted, body: OutBody },
    /// The first copy of a document, while a second is compared.
    Copy(Relayed),
    /// Not admitted.
    Refused {
        why: NotShared,
        relayed: Option<Relayed>,
    },
    /// The origin could not be asked.
    Failed(OriginFault),
}

/// A response for the leader alone.
pub(crate) struct Relayed {
    pub(crate) fill: FillId,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: OutBody,
}

/// What a fill is about.
pub(crate) struct Order {
    pub(crate) class: Arc<Class>,
    pub(crate) limits: Limits,
    /// What is stored and wants to be confirmed.
    pub(crate) stored: Option<Arc<Object>>,
    /// The leader sent something that no shared fetch carries: it is shown a copy only if others
    /// would be, and else passes.
    pub(crate) leader_carries: bool,
    /// The trace of the request that led to it. What is sent does not depend on it.
    pub(crate) trace: Option<Trace>,
    #[cfg(feature = "seeded-faults")]
    pub(crate) cookie: Option<http::HeaderValue>,
}

/// Runs a fill in the background.
pub(crate) fn start(
    worker: &Arc<Worker>,
    leading: Leading,
    order: Order,
    leader: Option<oneshot::Sender<Led>>,
) {
    let fill = Running {
        id: worker.node().fill_id(),
        worker: Arc::clone(worker),
        leading,
        order,
        leader,
    };
    tokio::spawn(fill.run());
}

struct Running {
    id: FillId,
    worker: Arc<Worker>,
    leading: Leading,
    order: Order,
    leader: Option<oneshot::Sender<Led>>,
}

impl Running {
    async fn run(mut self) {
        let node = Arc::clone(self.worker.node());
        count(&node.counters.fills);
        let begun = self.begun(self.id);
        let fetch = match &self.order.stored {
            Some(stored) => {
                SharedFetch::revalidate(stored.head(), &self.order.class, begun, node.constants())
            }
            None => SharedFetch::of(
                self.leading.key(),
                &self.order.class,
                begun,
                node.constants(),
            ),
        };
        let Some((judged, mut response)) = self.ask(fetch).await else {
            return;
        };
        let mut judged = judged;
        if let Judged::Unsliced(unsliced) = judged {
            // Its connection is closed: what is left of the part is nobody's.
            drop(response);
            let Some((whole, answer)) = self.ask(unsliced.fetch(node.constants())).await else {
                return;
            };
            (judged, response) = (whole, answer);
        }
        match judged {
            Judged::Unsliced(_) => unreachable!("what asked for all is judged as all"),
            Judged::Refreshed(head) => self.refreshed(head, StatusCode::NOT_MODIFIED),
            Judged::Relay(relay) => self.relay(relay, response).await,
            Judged::Sniff(sniff) => self.sniff(sniff, response).await,
            Judged::Copy(first) => self.compare(first, response).await,
        }
    }

    /// Asks, and judges the head of what comes; `None`: nothing came, and everybody has been told.
    async fn ask(&mut self, fetch: SharedFetch) -> Option<(Judged, OriginBody)> {
        let node = Arc::clone(self.worker.node());
        let (outbound, fill) = fetch.begin();
        let outbound = self.with_fault(outbound);
        let span = self.span(Asks::Fetch, &outbound);
        let asked = Instant::now();
        let answered = origin::shared(&self.worker, outbound).await;
        let heard = answered.as_ref().map(|response| response.status);
        ChildSpan::heard(span, Heard::of(heard));
        node.meters.origin_shared.add(asked.elapsed());
        match answered {
            Ok(response) => {
                let judged = fill.judge(
                    response.status,
                    response.headers,
                    response.length_known,
                    node.now(),
                );
                Some((judged, response.body))
            }
            Err(fault) => {
                self.leading
                    .tell(Outcome::NoAnswer(fault.status(), fault.name()));
                self.lead(Led::Failed(fault));
                None
            }
        }
    }

    fn span(&self, asks: Asks, outbound: &Outbound) -> Option<ChildSpan> {
        let trace = self.order.trace.as_ref();
        ChildSpan::of_fetch(trace, asks, outbound.method(), outbound.upstream())
    }

    fn begun(&self, id: FillId) -> Begun {
        let node = self.worker.node();
        // The place in the order comes first: a purge from now on is after this fill.
        let order = node.purges.place();
        Begun {
            id,
            at: node.now(),
            order,
        }
    }

    #[cfg(not(feature = "seeded-faults"))]
    const fn with_fault(&self, outbound: Outbound) -> Outbound {
        outbound
    }

    #[cfg(feature = "seeded-faults")]
    fn with_fault(&self, mut outbound: Outbound) -> Outbound {
        use shikiri_partition::fault;
        if fault::is(fault::Fault::CookieInSharedFetch)
            && let Some(cookie) = &self.order.cookie
        {
            outbound.add_cookie(cookie.clone());
        }
        outbound
    }

    fn lead(&mut self, led: Led) {
        if let Some(leader) = self.leader.take() {
            // A leader that has gone away needs nothing.
            drop(leader.send(led));
        }
    }

    /// Stores an object if it may still be named, and tells those who wait.
    fn share(&self, object: &Arc<Object>) {
        let node = self.worker.node();
        if let Err(why) = may_share(node, object.head().key()) {
            self.leading.tell(Outcome::Not(why.name()));
            return;
        }
        if node.purges.standing(&object.marked()) == Standing::Dead {
            self.leading
                .tell(Outcome::Not(NotShared::PurgedMeanwhile.name()));
            return;
        }
        node.store.insert(Arc::clone(object));
        self.leading.tell(Outcome::Shared(Arc::clone(object)));
    }

    /// The origin confirmed what is stored.
    fn refreshed(&mut self, head: Admitted, forwarded: StatusCode) {
        let stored = self
            .order
            .stored
            .as_ref()
            .expect("a 304 refreshes what was asked about");
        let object = stored.refreshed(head).expect("what is stored is whole");
        // The body is as old as its own fill: a purge that came after the lookup, and before this fill
        // had its place in the order, is about it too.
        let standing = self.worker.node().purges.standing(&stored.marked());
        if standing == Standing::Dead {
            let why = NotShared::PurgedMeanwhile;
            self.refuse(&why);
            self.lead(Led::Refused { why, relayed: None });
            return;
        }
        self.share(&object);
        self.lead(Led::Object { object, forwarded });
    }

    /// Not admitted: it goes to the leader alone, and others are told to go on alone.
    async fn relay(&mut self, relay: Relay, body: OriginBody) {
        let (status, headers, why) = relay.into_parts();
        #[cfg(feature = "seeded-faults")]
        if shikiri_partition::fault::is(shikiri_partition::fault::Fault::WaiterGetsUnadmitted) {
            let whole = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            self.leading
                .tell(Outcome::Unadmitted(status, headers.clone(), whole.clone()));
            let relayed = Relayed {
                fill: self.id,
                status,
                headers,
                body: OutBody::whole(whole),
            };
            self.lead(Led::Refused {
                why,
                relayed: Some(relayed),
            });
            return;
        }
        self.note_refusal(&why);
        self.leading.tell(if is_failure(status) {
            Outcome::Failed(why.name())
        } else {
            Outcome::Not(why.name())
        });
        if status == StatusCode::NOT_MODIFIED || status == StatusCode::PARTIAL_CONTENT {
            // It answers what nobody asked: no viewer could use it, and what it was compared with is
            // in doubt.
            self.worker.node().store.remove(self.leading.key());
            drop(body);
            self.lead(Led::Refused { why, relayed: None });
            return;
        }
        let body = OutBody::origin(body);
        self.lead(Led::Refused {
            why,
            relayed: Some(Relayed {
                fill: self.id,
                status,
                headers,
                body,
            }),
        });
    }

    fn refuse(&self, why: &NotShared) {
        self.note_refusal(why);
        self.leading.tell(Outcome::Not(why.name()));
    }

    /// What a refusal means for what is stored, and for requests to come.
    fn note_refusal(&self, why: &NotShared) {
        let node = self.worker.node();
        let key = self.leading.key();
        if why.prohibits() {
            node.store.remove(key);
        }
        if why.is_lasting() {
            let until = node.now().after(self.order.limits.remember_pass_time);
            node.remembered.remember(key, until, why.name());
        }
        tracing::debug!(reason = why.name(), "not shared");
    }

    /// The head was admitted; the first bytes decide.
    async fn sniff(mut self, sniff: Sniff, mut body: OriginBody) {
        let growing = Growing::new();
        let bytes_max = sniff.object_bytes_max();
        let length = sniff.content_length();
        let Some(mut room) = self
            .worker
            .node()
            .reserve(length.unwrap_or(0), &self.order.limits)
        else {
            return self.relay(sniff.relay(NotShared::NoRoom), body).await;
        };
        let (wanted, came) = (sniff.bytes_wanted(), sniff.came());
        let mut first = Vec::new();
        let deadline = Instant::now() + FILL_TIME_MAX;
        while growing.len() < wanted {
            match chunk(&mut body, deadline).await {
                Ok(None) => break,
                Ok(Some(data)) => {
                    first.push(data.clone());
                    growing.push(data);
                }
                Err(why) => return self.broke(OriginFault::Body(why)),
            }
        }
        let head = match sniff.judge(&growing.prefix(wanted)) {
            Ok(head) => head,
            Err(relay) => {
                body.push_back(first);
                return self.relay(relay, body).await;
            }
        };
        drop(first);
        match length {
            Some(length) => {
                let length = usize::try_from(length).expect("admitted lengths fit memory");
                let object = Object::growing(head.clone(), Arc::clone(&growing), length);
                if may_share(self.worker.node(), head.key()).is_ok() {
                    self.leading.tell(Outcome::Shared(Arc::clone(&object)));
                }
                self.lead(Led::Object {
                    object,
                    forwarded: came,
                });
            }
            None => {
                let body = OutBody::growing(growing.leading_reader());
                self.lead(Led::Streaming {
                    head: head.clone(),
                    body,
                });
            }
        }
        match self.gather(body, &growing, &mut room, bytes_max).await {
            Gathered::Whole(whole) => {
                if length.is_some_and(|length| length != u64::try_from(whole.len()).expect("fits"))
                {
                    // Whoever reads it is cut where it ends, short of what was declared.
                    self.leading
                        .tell(Outcome::Not(NotShared::Incomplete.name()));
                    return;
                }
                self.worker.node().remembered.forget(head.key());
                self.share(&Object::whole(head, whole));
            }
            Gathered::TooLarge => self.refuse(&NotShared::TooLarge),
            Gathered::Broken => self
                .leading
                .tell(Outcome::Not(NotShared::Incomplete.name())),
        }
    }

    /// Nothing of the body has left yet: the leader gets a clean failure.
    fn broke(&mut self, fault: OriginFault) {
        self.leading
            .tell(Outcome::NoAnswer(fault.status(), fault.name()));
        self.lead(Led::Failed(fault));
    }

    /// Reads a body to its end, for all who follow it.
    async fn gather(
        &self,
        mut body: OriginBody,
        growing: &Arc<Growing>,
        room: &mut FillPermit,
        bytes_max: u64,
    ) -> Gathered {
        let deadline = Instant::now() + FILL_TIME_MAX;
        loop {
            let len = u64::try_from(growing.len()).expect("a length fits 64 bits");
            if len > bytes_max || !room.grow(len, &self.order.limits) {
                // Too large to keep. The leader takes the rest straight from the origin.
                growing.hand_over(body);
                return Gathered::TooLarge;
            }
            match chunk(&mut body, deadline).await {
                Ok(None) => return Gathered::Whole(growing.complete()),
                Ok(Some(data)) => growing.push(data),
                Err(why) => {
                    tracing::debug!(why, "a fill broke off");
                    growing.breaks();
                    return Gathered::Broken;
                }
            }
        }
    }

    /// A document: shared only after a second anonymous copy agrees. Nobody but the leader has had a
    /// byte before that.
    async fn compare(mut self, first: FirstCopy, body: OriginBody) {
        let Some(mut room) = self
            .worker
            .node()
            .reserve(first.content_length().unwrap_or(0), &self.order.limits)
        else {
            return self.relay(first.relay(NotShared::NoRoom), body).await;
        };
        let bytes_max = self
            .order
            .limits
            .document_bytes_max
            .min(first.object_bytes_max());
        let growing = Growing::new();
        if !self.order.leader_carries {
            let (status, headers) = first.leader_head(&answer::date(self.worker.node().now()));
            let body = OutBody::growing(growing.leading_reader());
            self.lead(Led::Copy(Relayed {
                fill: self.id,
                status,
                headers,
                body,
            }));
        }
        let whole = match self.gather(body, &growing, &mut room, bytes_max).await {
            Gathered::Whole(whole) => whole,
            Gathered::TooLarge => {
                self.refuse(&NotShared::TooLarge);
                self.lead(Led::Refused {
                    why: NotShared::TooLarge,
                    relayed: None,
                });
                return;
            }
            Gathered::Broken => return self.broke(OriginFault::Body("it ended early".into())),
        };
        let forwarded = first.status();
        // The second copy and what both decode to take memory too.
        let both = u64::try_from(whole.len()).expect("fits").saturating_mul(4);
        if !room.grow(both, &self.order.limits) {
            self.refuse(&NotShared::NoRoom);
            self.lead(Led::Refused {
                why: NotShared::NoRoom,
                relayed: None,
            });
            return;
        }
        match self.second(first, &whole, bytes_max).await {
            Ok(head) => {
                let object = Object::whole(head, whole);
                self.worker.node().remembered.forget(object.head().key());
                self.share(&object);
                self.lead(Led::Object { object, forwarded });
            }
            Err(why) => {
                self.refuse(&why);
                self.lead(Led::Refused { why, relayed: None });
            }
        }
    }

    async fn second(
        &self,
        first: FirstCopy,
        whole: &Bytes,
        bytes_max: u64,
    ) -> Result<Admitted, NotShared> {
        let node = self.worker.node();
        let (outbound, _) = SharedFetch::whole(
            first.key(),
            &self.order.class,
            self.begun(node.fill_id()),
            node.constants(),
        )
        .begin();
        let outbound = self.with_fault(outbound);
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let span = self.span(Asks::Compare, &outbound);
        let asked = origin::ask_whole(&self.worker, outbound, bytes_max).await;
        ChildSpan::heard(span, Heard::of(asked.as_ref().map(|asked| asked.status)));
        let asked = asked.map_err(|_| NotShared::NoSecondCopy)?;
        first.judge(
            whole,
            &SecondCopy {
                status: asked.status,
                headers: &asked.headers,
                body: &asked.body,
            },
        )
    }
}

/// The next bytes of a body; trailers are nobody's in a shared copy.
pub(crate) async fn chunk(
    body: &mut OriginBody,
    deadline: Instant,
) -> Result<Option<Bytes>, String> {
    loop {
        match timeout_at(deadline, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(fault))) => return Err(fault.to_string()),
            Err(_) => return Err("it took too long".into()),
        }
    }
}

enum Gathered {
    Whole(Bytes),
    TooLarge,
    Broken,
}

/// Whether a response lets an older copy stand in for it (RFC 5861 4).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// The head of a relayed response, for its one viewer.
pub(crate) fn relayed_head(headers: &mut HeaderMap, node: &crate::node::Node) {
    shikiri_partition::leave_as_private(headers, &answer::date(node.now()));
}
