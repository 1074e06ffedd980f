//! What happens to a request, from its head to its answer.
//!
//! [`serve`] reads like the table in `ARCHITECTURE.md`: stance, classify, lookup, flight, fetch,
//! admit, serve. It decides nothing about sharing itself: every step takes a permission that
//! `shikiri_partition` gave, and there is no way around them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONNECTION, COOKIE, MAX_FORWARDS, SET_COOKIE, UPGRADE, VIA};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use shikiri_partition::{
    Admitted, CacheStatus, Classified, ClientCertificate, Conditions, Forwarded, Gated, Limits,
    Opened, Pass, Personal, PinFault, Refused, RequestHead, Reuse, Scheme, Sharing, Standing,
    Tokened, Under, invalidated_by, set_cookies_of_gate,
};
use shikiri_record::Outcome;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::answer;
use crate::body::OutBody;
use crate::connection::{Connection, Turn};
use crate::fill::{self, Led, Relayed};
use crate::flight::{self, Joined};
use crate::gate::{self, Through};
use crate::gated::{self, NotOpened, Open, Told};
use crate::incoming::Incoming;
use crate::lane::NoEvidence;
use crate::node::{Node, Stance, Worker, count, may_share};
use crate::origin::{self, OriginFault};
use crate::pin::{self, Named};
use crate::slices::{self, NoSlice, Reading};
use crate::slot::{Answer, Facts, Own, Served, Shown, Slot, Unanswered};
use crate::store::Object;
use crate::trace::{self, Asks, ChildSpan, ServerSpan, Trace};
use crate::tunnel::Switched;

/// Answers a request.
///
/// # Errors
/// What the answer shows could not be written down: the client is cut off.
pub(crate) async fn serve(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    turn: Turn,
    request: Request<Incoming>,
) -> Result<Response<Served>, NoEvidence> {
    // Where there are traces: what becomes of it is told, and looked at by nothing here.
    let mut span = trace::begin(worker.node(), connection, &request);
    let served = answered(worker, connection, (turn, &mut span), request).await?;
    Ok(trace::attached(span, served))
}

async fn answered(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    (turn, span): (Turn, &mut Option<Box<ServerSpan>>),
    request: Request<Incoming>,
) -> Result<Response<Served>, NoEvidence> {
    let node = worker.node();
    node.note_request();
    let is_head = request.method() == Method::HEAD;
    let early = |why| headed(refusal(node, why), is_head);
    // Listen: what the guard refused never becomes a request.
    if let Some(why) = turn.refused() {
        return Ok(Served::own(node, early(why), turn, None));
    }
    let (mut parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let token = gate::take_token(&mut parts.headers);
    if let Some(token) = &token {
        // Before the stance: it may be waited for.
        node.introduce(token).await;
    }
    // Stance: one value, read once.
    let stance = node.stance();
    let Some(permit) = node.admit_request(stance.rules.limits()) else {
        return Ok(Served::own(node, early(Refused::Busy), turn, None));
    };
    if gate::is_for_preview(&parts) {
        let unanswered = Unanswered::of(node);
        let page = gate::preview(node, &parts.method, body).await;
        unanswered.answered();
        return Ok(Served::own(node, headed(page, is_head), turn, Some(permit)));
    }
    // Gate: before anything is looked up, and with nothing waited for since the stance.
    let shown = (token.as_ref(), has_body);
    let Some(through) = gate::stand(node, connection, &stance, &parts, shown) else {
        let page = headed(gate::maintenance(node, has_body), is_head);
        return Ok(Served::own(node, page, turn, Some(permit)));
    };
    let exposed = connection.expose(&through, parts.version);
    // Slot: no evidence, no bytes.
    let slot = match Slot::of(worker, connection, &stance) {
        Ok(slot) => slot,
        Err(why) => return Ok(Served::own(node, early(why), turn, Some(permit))),
    };
    if let Some(answer) = max_forwards(&mut parts, node) {
        return slot.serve(answer, connection, turn, permit, exposed).await;
    }
    let heard = Heard {
        worker,
        connection,
        turn: &turn,
        stance: &stance,
        slot: &slot,
        through,
        has_body,
        parts,
        trace: span.as_ref().map(|span| span.trace()),
    };
    if let Some(span) = span {
        heard.tell(span);
    }
    let began = Instant::now();
    let mut answer = heard.answer(body).await;
    if let Some(span) = span {
        span.answered(&answer);
    }
    node.meters
        .responses
        .of(answer.outcome())
        .add(began.elapsed());
    answer
        .headers_mut()
        .append(VIA, node.constants().via().clone());
    if is_head {
        answer = answer.head_alone();
    }
    slot.serve(answer, connection, turn, permit, exposed).await
}

/// A page of the node's own; `HEAD` has no body.
fn headed(page: Response<Own>, is_head: bool) -> Response<Own> {
    if is_head {
        page.map(Own::head_alone)
    } else {
        page
    }
}

fn refuse(node: &Node, why: Refused) -> Answer {
    Answer::Own(refusal(node, why))
}

fn refusal(node: &Node, why: Refused) -> Response<Own> {
    count(&node.counters.refused);
    tracing::debug!(reason = why.name(), "refused");
    answer::refused(why, node.now())
}

/// The answer in place of one that names somebody who does not fit.
fn wrong_viewer(node: &Node, fault: PinFault) -> Answer {
    Answer::Own(answer::failed(
        StatusCode::BAD_GATEWAY,
        fault.name(),
        node.now(),
    ))
}

/// A request as it was heard.
struct Heard<'a> {
    worker: &'a Arc<Worker>,
    connection: &'a Arc<Connection>,
    turn: &'a Turn,
    stance: &'a Arc<Stance>,
    slot: &'a Slot,
    through: Through,
    /// Whether a body follows, said or unsaid.
    has_body: bool,
    parts: Parts,
    trace: Option<Trace>,
}

/// A request that says one thing, with all that its answer may look at.
struct Asked<'a> {
    worker: &'a Arc<Worker>,
    connection: &'a Arc<Connection>,
    turn: &'a Turn,
    stance: &'a Arc<Stance>,
    slot: &'a Slot,
    scheme: Scheme,
    has_body: bool,
    /// What the answer of its gate said, if it has one.
    gate: OfGate,
    parts: Parts,
    /// What its rows will say of it.
    facts: Facts,
    trace: Option<Trace>,
}

/// What the answer of a gate leaves to what it opened.
#[derive(Default)]
struct OfGate {
    /// The cookies that it sets.
    cookies: Vec<HeaderValue>,
    /// Whom it names.
    named: Named,
}

impl OfGate {
    /// Words of the node's own, in place of what a gate has opened. The cookies that its answer set leave
    /// with them: they are the member's, and may have been turned over. With them the words hold what an
    /// origin said, and have a row.
    fn instead(self, response: Response<Own>, facts: Facts, why: &'static str) -> Answer {
        if self.cookies.is_empty() {
            return Answer::Own(response);
        }
        let mut response = response.map(Own::with_others);
        set_cookies_of_gate(response.headers_mut(), &self.cookies);
        let shown = Shown::new(facts, Outcome::Pass, why).naming(self.named);
        Answer::Shown(response, shown)
    }
}

/// What the store has for a request.
enum Found {
    Fresh(Arc<Object>, Duration),
    WhileRevalidating(Arc<Object>),
    /// Only after the origin was asked; `on_error`: also when it fails.
    Stale(Arc<Object>, bool),
    OnlyWithout(&'static str),
    Absent,
}

impl Heard<'_> {
    async fn answer(self, body: Incoming) -> Answer {
        let node = self.worker.node();
        let head = match self.head() {
            Ok(head) => head,
            Err(why) => return refuse(node, why),
        };
        if !self.connection.is_for(node, head.host()) {
            return refuse(node, Refused::Misdirected);
        }
        if self.comes_again() {
            return refuse(node, Refused::Loop);
        }
        // Classify: the default is personal.
        let under = Under {
            mode: self.slot.mode(self.through.mode),
            epoch: self.stance.epoch,
            grant: self.through.grant,
        };
        let rules = &self.stance.rules;
        let classified = rules.classify(&head, under);
        let asked = Asked {
            facts: Facts::of(
                &self.stance.tags.key,
                rules.session(),
                &head,
                self.through.grant,
            ),
            scheme: head.scheme,
            has_body: self.has_body,
            gate: OfGate::default(),
            worker: self.worker,
            connection: self.connection,
            turn: self.turn,
            stance: self.stance,
            slot: self.slot,
            parts: self.parts,
            trace: self.trace,
        };
        match classified {
            Classified::Refused(why) => refuse(node, why),
            Classified::Personal(pass) => asked.pass(pass, Some(body)).await,
            Classified::Shared(sharing) => asked.shared(sharing).await,
            Classified::Gated(gated) => asked.gated(gated).await,
            Classified::Tokened(tokened) => asked.tokened(tokened).await,
        }
    }

    /// What its span tells of it beforehand.
    fn tell(&self, span: &mut ServerSpan) {
        span.in_mode(self.slot.mode(self.through.mode));
        if let Ok(head) = self.head() {
            span.asks_for(head.host(), &self.stance.rules);
        }
    }

    fn head(&self) -> Result<RequestHead<'_>, Refused> {
        read_head(&self.parts, self.scheme(), self.has_body, self.connection)
    }

    /// The scheme that the viewer used: a trusted hop before us may know better.
    fn scheme(&self) -> Scheme {
        let hop = self.connection.hop();
        match self
            .parts
            .headers
            .get("x-forwarded-proto")
            .map(HeaderValue::as_bytes)
        {
            Some(b"https") if hop.trusted => Scheme::Https,
            _ => hop.scheme,
        }
    }

    /// Whether the request has been through this node before (RFC 8586).
    fn comes_again(&self) -> bool {
        let ours = self.worker.node().constants().cdn_loop().as_bytes();
        self.parts.headers.get_all("cdn-loop").iter().any(|value| {
            value.as_bytes().split(|b| *b == b',').any(|id| {
                id.split(|b| *b == b';')
                    .next()
                    .is_some_and(|id| id.trim_ascii() == ours)
            })
        })
    }
}

impl Asked<'_> {
    /// A request for what only some may see: it goes on if the origin says that its sender may.
    async fn gated(mut self, gated: Gated) -> Answer {
        let node = self.worker.node();
        self.facts.class = Some(Arc::clone(gated.class()));
        let (worker, connection, stance) = (self.worker, self.connection, self.stance);
        let mut hop = connection.hop();
        hop.scheme = self.scheme;
        let head = match read_head(&self.parts, self.scheme, self.has_body, connection) {
            Ok(head) => head,
            Err(why) => return refuse(node, why),
        };
        let question = (&self.parts, &hop);
        let trace = self.trace.as_ref();
        // On the heap, as a pass is: it is one itself.
        let asking = gated::ask(worker, connection, (stance, head), question, gated, trace);
        match Box::pin(asking).await {
            Ok(Open {
                opened,
                cookies,
                named,
            }) => {
                self.gate = OfGate { cookies, named };
                match opened {
                    // The gate may have been waited for: what is shared less since then holds for this
                    // request, too (docs/adr/0013).
                    Opened::Shared(sharing) => match may_share(node, sharing.key()) {
                        Ok(()) => self.shared(sharing).await,
                        Err(why) => {
                            let why = Personal::Meanwhile(why);
                            self.pass(sharing.into_pass(why), None).await
                        }
                    },
                    Opened::Pass(pass) => self.pass(pass, None).await,
                }
            }
            Err(NotOpened::Refused(why)) => refuse(node, why),
            Err(NotOpened::WrongViewer(fault)) => wrong_viewer(node, fault),
            Err(NotOpened::Failed(status, why)) => {
                Answer::Own(answer::failed(status, why, node.now()))
            }
            Err(NotOpened::Told(told)) => self.told(*told),
        }
    }

    /// A request for what only some may see: it goes on if its URL holds a token that is good now.
    async fn tokened(mut self, tokened: Tokened) -> Answer {
        let node = self.worker.node();
        let key = &self.stance.tags.key;
        self.facts.class = Some(Arc::clone(tokened.class()));
        match read_head(&self.parts, self.scheme, self.has_body, self.connection) {
            // A token is in no row; what was shown is.
            Ok(head) => self.facts.target = tokened.target_tag(&head, key),
            Err(why) => return refuse(node, why),
        }
        let (opened, viewer) = match tokened.open(node.now()) {
            Ok(opened) => opened,
            Err(why) => return refuse(node, why),
        };
        self.gate.named.viewer = viewer.map(|viewer| viewer.tag(key));
        match opened {
            Opened::Shared(sharing) => self.shared(sharing).await,
            Opened::Pass(pass) => self.pass(pass, None).await,
        }
    }

    /// A gate's own answer, for its sender alone.
    fn told(&self, told: Told) -> Answer {
        let mut headers = told.headers;
        let now = answer::date(self.worker.node().now());
        shikiri_partition::leave_as_private(&mut headers, &now);
        let shown = self.shown(Outcome::Pass, "gate-shut").naming(told.named);
        let status = CacheStatus {
            forwarded: Some(Forwarded::Bypass),
            forwarded_status: Some(told.status.as_u16()),
            detail: Some("gate-shut".to_owned()),
            ..CacheStatus::default()
        };
        let body = OutBody::origin(told.body);
        self.finish(told.status, headers, body, &status, shown)
    }

    /// A request that may be answered by what its key names.
    async fn shared(mut self, sharing: Sharing) -> Answer {
        let node = self.worker.node();
        self.facts.class = Some(Arc::clone(sharing.class()));
        if let Some(why) = node.remembered.why(sharing.key(), node.now()) {
            return self
                .pass(sharing.into_pass(Personal::Remembered(why)), None)
                .await;
        }
        // Lookup.
        let stale = match self.look(&sharing) {
            Found::Fresh(object, ttl) => return self.hit(sharing, &object, ttl).await,
            Found::WhileRevalidating(object) => {
                self.refresh_behind(&sharing, &object);
                return self.stale(sharing, &object, "while-revalidating").await;
            }
            Found::OnlyWithout(header) => {
                return self
                    .pass(sharing.into_pass(Personal::OnlyWithout(header)), None)
                    .await;
            }
            Found::Stale(object, on_error) => Some((object, on_error)),
            Found::Absent => None,
        };
        if self.only_if_cached() {
            let why = Refused::OnlyIfCached;
            return self
                .gate
                .instead(refusal(node, why), self.facts, why.name());
        }
        // Flight: one leader; waiting is not sharing.
        let limits = *self.stance.rules.limits();
        let joined = node.flights.join(
            sharing.key(),
            limits.waiting_max,
            limits.requests_max,
            || match self.look(&sharing) {
                Found::Fresh(object, ttl) => Some((object, ttl)),
                _ => None,
            },
        );
        match joined {
            Err((object, ttl)) => self.hit(sharing, &object, ttl).await,
            Ok(Joined::Full) => {
                self.pass(sharing.into_pass(Personal::Waited("full")), None)
                    .await
            }
            Ok(Joined::Waits(mut waiting)) => {
                let outcome = timeout(limits.waiting_time_max, waiting.outcome()).await;
                drop(waiting);
                self.waited(sharing, outcome.unwrap_or(flight::Outcome::Running), stale)
                    .await
            }
            Ok(Joined::Leads(leading)) => {
                let (leader, led) = oneshot::channel();
                let order = self.order(&sharing, &limits, stale.as_ref().map(|(object, _)| object));
                fill::start(self.worker, leading, order, Some(leader));
                // Who carries something is shown nothing before all of it is admitted, and waits no
                // longer than any other: a body may never end.
                let led = if carries(&sharing) {
                    timeout(limits.waiting_time_max, led).await
                } else {
                    Ok(led.await)
                };
                match led {
                    Ok(Ok(led)) => self.led(sharing, led, stale).await,
                    Ok(Err(_)) => {
                        let why = Refused::Busy;
                        self.gate
                            .instead(refusal(node, why), self.facts, why.name())
                    }
                    Err(_) => {
                        let why = Personal::Waited("waited-too-long");
                        self.pass(sharing.into_pass(why), None).await
                    }
                }
            }
        }
    }

    /// What the store has, judged again under the rules in force.
    fn look(&self, sharing: &Sharing) -> Found {
        let node = self.worker.node();
        let Some(object) = node.store.get(sharing.key()) else {
            return Found::Absent;
        };
        self.judge(sharing, object)
    }

    fn judge(&self, sharing: &Sharing, object: Arc<Object>) -> Found {
        let node = self.worker.node();
        let invalidated = match node.purges.standing(&object.marked()) {
            Standing::Dead => {
                node.store.remove(sharing.key());
                return Found::Absent;
            }
            Standing::Stale => true,
            Standing::Live => false,
        };
        match object.head().reuse(sharing, invalidated, node.now()) {
            Reuse::Fresh { ttl } => Found::Fresh(object, ttl),
            Reuse::WhileRevalidating => Found::WhileRevalidating(object),
            Reuse::Stale { on_error } => Found::Stale(object, on_error),
            Reuse::OnlyWithout(header) => Found::OnlyWithout(header),
            Reuse::Dead(why) => {
                tracing::debug!(reason = why.name(), "a stored object died");
                node.store.remove(sharing.key());
                Found::Absent
            }
        }
    }

    fn only_if_cached(&self) -> bool {
        self.parts
            .headers
            .get_all(CACHE_CONTROL)
            .iter()
            .any(|value| {
                value
                    .as_bytes()
                    .split(|b| *b == b',')
                    .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"only-if-cached"))
            })
    }

    fn order(
        &self,
        sharing: &Sharing,
        limits: &Limits,
        stored: Option<&Arc<Object>>,
    ) -> fill::Order {
        fill::Order {
            class: Arc::clone(sharing.class()),
            limits: *limits,
            stored: stored.cloned(),
            leader_carries: carries(sharing),
            trace: self.trace.clone(),
            #[cfg(feature = "seeded-faults")]
            cookie: self.parts.headers.get(COOKIE).cloned(),
        }
    }

    fn refresh_behind(&self, sharing: &Sharing, object: &Arc<Object>) {
        let limits = *self.stance.rules.limits();
        if let Some(leading) = self
            .worker
            .node()
            .flights
            .lead(sharing.key(), limits.requests_max)
        {
            fill::start(
                self.worker,
                leading,
                self.order(sharing, &limits, Some(object)),
                None,
            );
        }
    }

    /// A stored object that is fresh.
    async fn hit(self, sharing: Sharing, object: &Arc<Object>, ttl: Duration) -> Answer {
        let status = CacheStatus {
            hit: true,
            ttl: Some(ttl),
            ..CacheStatus::default()
        };
        let shown = self.shown(Outcome::Hit, "");
        self.object(sharing, object, status, shown).await
    }

    /// A stored object past freshness.
    async fn stale(self, sharing: Sharing, object: &Arc<Object>, why: &'static str) -> Answer {
        let status = CacheStatus {
            hit: true,
            ..CacheStatus::default()
        };
        let shown = self.shown(Outcome::Stale, why);
        self.object(sharing, object, status, shown).await
    }

    /// An object, as this request wants to see it. What is in slices is shown from the first one on that
    /// it wants, as soon as that one is admitted.
    async fn object(
        self,
        sharing: Sharing,
        object: &Arc<Object>,
        mut status: CacheStatus,
        mut shown: Shown,
    ) -> Answer {
        let node = self.worker.node();
        let conditions = Conditions::of(&self.parts.method, &self.parts.headers);
        let length = object.complete_len();
        let answer = object.head().respond(&conditions, Some(length), node.now());
        let limits = self.stance.rules.limits();
        let reading = Reading::of(self.worker, object, sharing.class(), limits);
        let body = match (answer.body, reading) {
            (None, _) => OutBody::empty(),
            (Some(range), None) => object.body(range),
            (Some(range), Some(reading)) => {
                let is_stored = reading.is_stored(&range);
                match reading.body(range).await {
                    Ok((body, from)) => {
                        if status.hit && !is_stored {
                            status.hit = false;
                            status.ttl = None;
                            status.forwarded = Some(Forwarded::Partial);
                            status.collapsed = from == slices::Source::Waited;
                        }
                        shown.outcome = match (shown.outcome, from) {
                            (Outcome::Hit, slices::Source::Fetched) => Outcome::Fill,
                            (Outcome::Hit, slices::Source::Waited) => Outcome::Collapsed,
                            (outcome, _) => outcome,
                        };
                        body
                    }
                    Err(NoSlice::Failed(status, why)) => {
                        count(&node.counters.failures);
                        return Answer::Own(answer::failed(status, why, node.now()));
                    }
                    Err(NoSlice::Ended(why) | NoSlice::Busy(why)) => {
                        let pass = sharing.into_pass(Personal::Waited(why));
                        return self.pass(pass, None).await;
                    }
                }
            }
        };
        count(match shown.outcome {
            Outcome::Hit => &node.counters.hits,
            Outcome::Stale => &node.counters.stale,
            Outcome::Collapsed => &node.counters.collapsed,
            _ => &node.counters.led,
        });
        let shown = shown.of_fill(object.head().fill());
        self.finish(answer.status, answer.headers, body, &status, shown)
    }

    /// An object whose length nobody knows yet.
    fn streaming(&self, head: &Admitted, body: OutBody, status: &CacheStatus) -> Answer {
        let conditions = Conditions::of(&self.parts.method, &self.parts.headers);
        let answer = head.respond(&conditions, None, self.worker.node().now());
        let body = if answer.body.is_some() {
            body
        } else {
            OutBody::empty()
        };
        let shown = self.shown(Outcome::Fill, "").of_fill(head.fill());
        self.finish(answer.status, answer.headers, body, status, shown)
    }

    /// What its rows will say when it is answered in this way.
    fn shown(&self, outcome: Outcome, reason: &'static str) -> Shown {
        Shown::new(self.facts.clone(), outcome, reason)
    }

    fn finish(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        body: OutBody,
        cache_status: &CacheStatus,
        shown: Shown,
    ) -> Answer {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let value = cache_status.render(self.connection.is_trusted());
        response.headers_mut().insert("cache-status", value);
        set_cookies_of_gate(response.headers_mut(), &self.gate.cookies);
        let named = shown.named.clone().after(self.gate.named.clone());
        Answer::Shown(response, shown.naming(named))
    }

    /// The request waited for another's fill.
    async fn waited(
        self,
        sharing: Sharing,
        outcome: flight::Outcome,
        stale: Option<(Arc<Object>, bool)>,
    ) -> Answer {
        // Why it is not shared; whether a stale copy may stand in; the failure that everybody gets.
        let (why, stands_in, failed) = match outcome {
            flight::Outcome::Shared(object) => match self.judge(&sharing, object) {
                Found::Fresh(object, ttl) => {
                    let status = CacheStatus {
                        forwarded: Some(Forwarded::UriMiss),
                        collapsed: true,
                        ttl: Some(ttl),
                        ..CacheStatus::default()
                    };
                    let shown = self.shown(Outcome::Collapsed, "");
                    return self.object(sharing, &object, status, shown).await;
                }
                Found::OnlyWithout(header) => {
                    return self
                        .pass(sharing.into_pass(Personal::OnlyWithout(header)), None)
                        .await;
                }
                _ => ("not-usable", false, None),
            },
            flight::Outcome::Not(why) => (why, false, None),
            flight::Outcome::Failed(why) => (why, true, None),
            // That the origin gives no answer to a key is no secret of anybody's: all who waited for
            // it are told, instead of asking one after another what does not answer.
            flight::Outcome::NoAnswer(status, why) => (why, true, Some(status)),
            flight::Outcome::Running => ("waited-too-long", true, None),
            #[cfg(feature = "seeded-faults")]
            flight::Outcome::Unadmitted(status, headers, body) => {
                return self.finish(
                    status,
                    headers,
                    OutBody::whole(body),
                    &CacheStatus::default(),
                    self.shown(Outcome::Collapsed, "unadmitted"),
                );
            }
        };
        match self.stand_in(&sharing, stale.filter(|_| stands_in)) {
            Some(object) => self.stale(sharing, &object, "origin-failed").await,
            None => match failed {
                Some(status) => {
                    let node = self.worker.node();
                    count(&node.counters.failures);
                    let failed = answer::failed(status, why, node.now());
                    self.gate.instead(failed, self.facts, why)
                }
                None => {
                    self.pass(sharing.into_pass(Personal::Waited(why)), None)
                        .await
                }
            },
        }
    }

    /// A stale object that may stand in for a failing origin: judged again, since a purge or much time
    /// may have come between.
    fn stand_in(
        &self,
        sharing: &Sharing,
        stale: Option<(Arc<Object>, bool)>,
    ) -> Option<Arc<Object>> {
        let (object, _) = stale?;
        match self.judge(sharing, object) {
            Found::Fresh(object, _)
            | Found::WhileRevalidating(object)
            | Found::Stale(object, true) => Some(object),
            Found::Stale(_, false) | Found::OnlyWithout(_) | Found::Absent => None,
        }
    }

    /// The request led a fill.
    async fn led(self, sharing: Sharing, led: Led, stale: Option<(Arc<Object>, bool)>) -> Answer {
        let node = self.worker.node();
        let forwarded = if stale.is_some() {
            Forwarded::Stale
        } else {
            Forwarded::UriMiss
        };
        let status = |origin: StatusCode, stored: bool| CacheStatus {
            forwarded: Some(forwarded),
            forwarded_status: Some(origin.as_u16()),
            stored,
            ..CacheStatus::default()
        };
        match led {
            Led::Object { object, forwarded } => match self.judge(&sharing, object) {
                Found::OnlyWithout(header) => {
                    self.pass(sharing.into_pass(Personal::OnlyWithout(header)), None)
                        .await
                }
                Found::Fresh(object, _)
                | Found::WhileRevalidating(object)
                | Found::Stale(object, _) => {
                    let why = if forwarded == StatusCode::NOT_MODIFIED {
                        "confirmed"
                    } else {
                        ""
                    };
                    let shown = self.shown(Outcome::Fill, why);
                    let status = status(forwarded, true);
                    self.object(sharing, &object, status, shown).await
                }
                Found::Absent => {
                    self.pass(sharing.into_pass(Personal::Waited("purged")), None)
                        .await
                }
            },
            Led::Streaming { head, body } => match head.reuse(&sharing, false, node.now()) {
                Reuse::OnlyWithout(header) => {
                    self.pass(sharing.into_pass(Personal::OnlyWithout(header)), None)
                        .await
                }
                _ => {
                    count(&node.counters.led);
                    self.streaming(&head, body, &status(head.status(), true))
                }
            },
            Led::Copy(relayed) => {
                count(&node.counters.led);
                let origin = relayed.status;
                let shown = self.shown(Outcome::Relay, "first-copy");
                self.relayed(relayed, &status(origin, false), shown)
            }
            Led::Refused { why, relayed } => {
                let named = match &relayed {
                    Some(of) => pin::judge_shared(node, self.stance, &of.headers),
                    None => Ok(Named::default()),
                };
                let failed = !why.prohibits()
                    && relayed
                        .as_ref()
                        .is_some_and(|relayed| fill::is_failure(relayed.status));
                if let Some(object) = self.stand_in(&sharing, stale.filter(|_| failed)) {
                    return self.stale(sharing, &object, "origin-failed").await;
                }
                match relayed {
                    Some(relayed) if !carries(&sharing) && !self.would_lose_cookie(&relayed) => {
                        let named = match named {
                            Ok(named) => named,
                            Err(fault) => return wrong_viewer(node, fault),
                        };
                        count(&node.counters.relays);
                        let detail = Some(why.name().to_owned());
                        let status = CacheStatus {
                            detail,
                            ..status(relayed.status, false)
                        };
                        let shown = self.shown(Outcome::Relay, why.name()).naming(named);
                        self.relayed(relayed, &status, shown)
                    }
                    _ => {
                        self.pass(sharing.into_pass(Personal::Refused(why)), None)
                            .await
                    }
                }
            }
            Led::Failed(fault) => match self.stand_in(&sharing, stale) {
                Some(object) => self.stale(sharing, &object, "origin-failed").await,
                None => self.failed(&fault),
            },
        }
    }

    /// Whether a cookie is set on a request whose own cookies did not travel, even such as policy
    /// calls ignorable: the origin took it for a newcomer's.
    fn would_lose_cookie(&self, relayed: &Relayed) -> bool {
        relayed.headers.contains_key(SET_COOKIE) && self.parts.headers.contains_key(COOKIE)
    }

    /// A response to a shared fetch that is for this requester alone.
    fn relayed(&self, relayed: Relayed, status: &CacheStatus, shown: Shown) -> Answer {
        let mut headers = relayed.headers;
        fill::relayed_head(&mut headers, self.worker.node());
        let shown = shown.of_fill(relayed.fill);
        self.finish(relayed.status, headers, relayed.body, status, shown)
    }

    fn failed(self, fault: &OriginFault) -> Answer {
        let node = self.worker.node();
        node.note_failure(fault);
        let failed = answer::failed(fault.status(), fault.name(), node.now());
        self.gate.instead(failed, self.facts, fault.name())
    }

    /// The request goes to the origin as itself, and its answer to its sender alone.
    ///
    /// On the heap: it takes more room than the rest, and an answer from the store has no need of that.
    fn pass(self, pass: Pass, body: Option<Incoming>) -> Pin<Box<impl Future<Output = Answer>>> {
        Box::pin(self.passed(pass, body))
    }

    async fn passed(self, pass: Pass, body: Option<Incoming>) -> Answer {
        let node = self.worker.node();
        count(&node.counters.passes);
        let (why, forwarded) = (pass.why().name(), forwarded_by(pass.why()));
        let unsafe_method = !self.parts.method.is_safe();
        // An unsafe method's head is needed again when the answer is there.
        let again = unsafe_method.then(|| self.parts.clone());
        let mut parts = self.parts;
        let mut hop = self.connection.hop();
        hop.scheme = self.scheme;
        let (worker, connection, trusted) =
            (self.worker, self.connection, self.connection.is_trusted());
        let (stance, turn, slot, facts) = (self.stance, self.turn, self.slot, self.facts);
        let (gate, trace) = (self.gate, self.trace);
        let pinned = match read_head(&parts, self.scheme, self.has_body, connection) {
            Ok(head) => pin::watch(node, stance, &head, connection.client()),
            Err(why) => return refuse(node, why),
        };
        let client = parts.extensions.remove::<OnUpgrade>();
        let outbound = pass.outbound(parts, &stance.rules, &hop, node.constants());
        let mut request = match outbound {
            Ok(request) => request,
            Err(why) => return refuse(node, why),
        };
        let switch = match (request.upgrade(), client) {
            (None, _) => None,
            (Some(protocol), Some(client)) => {
                let Some(permit) = node.admit_tunnel(connection.client(), stance.rules.limits())
                else {
                    return refuse(node, Refused::Busy);
                };
                Some((protocol.clone(), client, permit))
            }
            // The library reads it as no such request: two readings are one too many.
            (Some(_), None) => return refuse(node, Refused::MalformedHead),
        };
        let began = Instant::now();
        let interims = slot.interims(turn, &facts, why);
        let interims = interims.filter(|_| pinned.lets_interims());
        let span = ChildSpan::of_pass(trace.as_ref(), Asks::Pass, &mut request);
        let passed = origin::pass(worker, connection, interims, request, body).await;
        node.meters.origin_pass.add(began.elapsed());
        let heard = passed.as_ref().map(|response| response.status);
        ChildSpan::heard(span, trace::Heard::of(heard));
        let mut response = match passed {
            Ok(response) => response,
            Err(fault) => {
                pinned.failed(&fault);
                if let Some(why) = turn.refused() {
                    return refuse(node, why);
                }
                node.note_failure(&fault);
                let failed = answer::failed(fault.status(), fault.name(), node.now());
                return gate.instead(failed, facts, fault.name());
            }
        };
        if let Some(parts) = again {
            invalidate(
                node,
                stance,
                hop.scheme,
                &parts,
                (response.status, &response.headers),
            );
        }
        // Pins: whom the origin names must fit, before anything of it leaves.
        let named = match pinned.judge(response.status, &response.headers).await {
            Ok(named) => named.after(gate.named),
            Err(fault) => return wrong_viewer(node, fault),
        };
        shikiri_partition::leave_as_private(&mut response.headers, &answer::date(node.now()));
        let status = CacheStatus {
            forwarded: Some(forwarded),
            forwarded_status: Some(response.status.as_u16()),
            detail: Some(why.to_owned()),
            ..CacheStatus::default()
        };
        response
            .headers
            .insert("cache-status", status.render(trusted));
        let body = match (response.body, switch) {
            (origin::Passed::Body(body), _) => body,
            (origin::Passed::Switched(origin), Some((protocol, client, permit))) => {
                let mut answer = Response::new(());
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                *answer.headers_mut() = response.headers;
                let upgrade = HeaderValue::from_static("upgrade");
                answer.headers_mut().insert(CONNECTION, upgrade);
                answer.headers_mut().insert(UPGRADE, protocol);
                let ends = Switched {
                    client,
                    origin,
                    permit,
                };
                let shown = Shown::new(facts, Outcome::Tunnel, why).naming(named);
                return Answer::Switched(answer, shown, ends);
            }
            (origin::Passed::Switched(_), None) => unreachable!("it was asked for"),
        };
        let mut answer = Response::new(OutBody::origin(body));
        *answer.status_mut() = response.status;
        *answer.headers_mut() = response.headers;
        set_cookies_of_gate(answer.headers_mut(), &gate.cookies);
        Answer::Shown(answer, Shown::new(facts, Outcome::Pass, why).naming(named))
    }
}

/// A request's head, with what its connection says of its sender.
fn read_head<'a>(
    parts: &'a Parts,
    scheme: Scheme,
    has_body: bool,
    connection: &Connection,
) -> Result<RequestHead<'a>, Refused> {
    let Parts {
        version,
        method,
        uri,
        headers,
        ..
    } = parts;
    let mut head = RequestHead::parse(scheme, *version, method, uri, headers)?;
    head.has_body |= has_body;
    let certificate = connection.hop().certificate;
    head.certificate = certificate.map(ClientCertificate::fingerprint);
    Ok(head)
}

/// Counts `Max-Forwards` down, and answers as the last recipient when it has run out
/// (RFC 9110 7.6.2). It means something for `OPTIONS` and `TRACE` alone.
fn max_forwards(parts: &mut Parts, node: &Node) -> Option<Answer> {
    if parts.method != Method::OPTIONS && parts.method != Method::TRACE {
        return None;
    }
    let left = parts
        .headers
        .get(MAX_FORWARDS)?
        .to_str()
        .ok()?
        .parse::<u32>()
        .ok()?;
    match left.checked_sub(1) {
        Some(left) => {
            parts.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
            None
        }
        None if parts.method == Method::OPTIONS => Some(Answer::Own(answer::options(node.now()))),
        None => Some(refuse(node, Refused::MaxForwards)),
    }
}

/// Whether the requester sent something that no shared fetch carries.
fn carries(sharing: &Sharing) -> bool {
    let requester = sharing.requester();
    requester.credentials || requester.cookie || requester.authorization || requester.origin
}

fn forwarded_by(why: &Personal) -> Forwarded {
    match why {
        Personal::Method => Forwarded::Method,
        Personal::ClientNoStore | Personal::HasBody => Forwarded::Request,
        Personal::OnlyWithout(_) => Forwarded::VaryMiss,
        _ => Forwarded::Bypass,
    }
}

/// Marks as stale what an unsafe method has changed (RFC 9111 4.4). This is the one way in which a
/// member's request touches what others are served: it can only make the origin be asked again.
fn invalidate(
    node: &Node,
    stance: &Stance,
    scheme: Scheme,
    parts: &Parts,
    (status, headers): (StatusCode, &HeaderMap),
) {
    let Ok(head) = RequestHead::parse(
        scheme,
        parts.version,
        &parts.method,
        &parts.uri,
        &parts.headers,
    ) else {
        return;
    };
    for invalidation in invalidated_by(&stance.rules, &head, status, headers) {
        if node.may_invalidate(stance.rules.limits()) {
            node.purges.invalidate(&invalidation);
        } else {
            count(&node.counters.invalidations_dropped);
        }
    }
}
