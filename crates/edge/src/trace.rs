//! Traces: what became of a request, span by span, for whoever collects them (`crate::otlp`).
//!
//! Off unless [`Node::trace`] is called; a request then costs one look at what is not there. A request is
//! one span, from its head to the last byte of its answer; what the origin is asked for it (a gate's
//! question, a shared fetch, a pass) is a child, from the asking to the head of the answer.
//!
//! Never here: a path, a query, an address, a header's value, a tag. What a span tells is a struct, and
//! none of its fields can hold what a client chose. Never a part of what is decided: no step of a request
//! looks at its trace, and a shared fetch is sent by who has not seen it.
//!
//! Invariant: nobody waits. A span that finds no place in the queue is dropped, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, Request, Response, StatusCode, Version};
use shikiri_partition::{
    Class, HostPattern, PassRequest, Rules, Scheme, SpanId, TraceContext, TraceId, Upstream,
};
use shikiri_record::Mode;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::incoming::Incoming;
use crate::node::Node;
use crate::origin::OriginFault;
use crate::slot::{Answer, Served, Shown, method_name};

/// Which traces are recorded, of those that begin here: a part of all, by their ids, so that whoever
/// else goes by them records the same (W3C Trace Context Level 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Ids whose random part is at least this are recorded.
    threshold: u64,
}

/// How many random parts there are.
const IDS: u64 = 1 << 56;

impl Ratio {
    /// So many of a million. `None`: that is more than all.
    #[must_use]
    pub fn per_million(count: u64) -> Option<Self> {
        const MILLION: u128 = 1_000_000;
        let left = MILLION.checked_sub(u128::from(count))?;
        let threshold = u64::try_from(u128::from(IDS) * left / MILLION).ok()?;
        Some(Self { threshold })
    }

    const fn takes(self, trace: TraceId) -> bool {
        trace.randomness() >= self.threshold
    }
}

/// Where spans go.
#[derive(Debug)]
pub struct Tracer {
    pub(crate) spans: mpsc::Sender<Span>,
    pub(crate) ratio: Ratio,
    pub(crate) tally: Arc<Tally>,
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) exported: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// How many spans there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// A collector has taken them.
    pub exported: u64,
    /// There was no place in the queue.
    pub overflowed: u64,
    /// The collector did not take them.
    pub refused: u64,
}

impl Tally {
    fn reading(&self) -> SpanCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SpanCounts {
            exported: read(&self.exported),
            overflowed: read(&self.overflowed),
            refused: read(&self.refused),
        }
    }
}

impl Tracer {
    fn take(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.tally.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) context: TraceContext,
    pub(crate) parent: Option<SpanId>,
    /// Whether the parent is another program's.
    pub(crate) is_remote: bool,
    /// In nanoseconds since 1970.
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) told: Told,
}

/// What a span tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// Of a request, and its answer.
    Served(ServedFacts),
    /// Of what the origin was asked.
    Asked(AskedFacts),
}

/// What is told of a request.
#[derive(Clone, Debug)]
pub(crate) struct ServedFacts {
    pub(crate) method: &'static str,
    pub(crate) scheme: Scheme,
    pub(crate) protocol: &'static str,
    /// The host, where an origin of the policy is named for exactly it.
    pub(crate) site: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) class: Option<Arc<Class>>,
    /// Where the answer came from; `own`: the node's own words.
    pub(crate) outcome: &'static str,
    /// The reason's name; empty where the outcome says all.
    pub(crate) reason: &'static str,
    /// None when there was no answer: its client had gone, or it could not be written down.
    pub(crate) status: Option<StatusCode>,
    pub(crate) bytes: u64,
    /// Whether its body broke off.
    pub(crate) is_broken: bool,
}

/// What is told of a question to the origin.
#[derive(Clone, Debug)]
pub(crate) struct AskedFacts {
    pub(crate) asks: Asks,
    pub(crate) method: &'static str,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) answer: Heard,
}

/// What an origin is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Gate,
    Fetch,
    /// The second copy of a document.
    Compare,
    Pass,
}

impl Asks {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Fetch => "fetch",
            Self::Compare => "compare",
            Self::Pass => "pass",
        }
    }
}

/// What was heard of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing: who asked had gone.
    Nothing,
    /// A head.
    Status(StatusCode),
    /// A fault, by its name.
    Fault(&'static str),
}

impl Heard {
    pub(crate) fn of(answer: Result<StatusCode, &OriginFault>) -> Self {
        answer.map_or_else(|fault| Self::Fault(fault.name()), Self::Status)
    }
}

/// The trace of a request, for what is asked on its behalf.
#[derive(Clone)]
pub(crate) struct Trace {
    node: Arc<Node>,
    context: TraceContext,
    clock: Clock,
}

/// One reading of the wall clock for all spans of a request, so that they fit together.
#[derive(Clone, Copy)]
struct Clock {
    began_ns: u64,
    began: Instant,
}

impl Clock {
    fn now_ns(&self) -> u64 {
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.began_ns.saturating_add(since)
    }
}

impl Node {
    /// Has traces of requests go there, from now on. The first to be told stays.
    pub fn trace(&self, tracer: Tracer) {
        drop(self.tracer.set(tracer));
    }

    /// What became of spans.
    #[must_use]
    pub fn spans(&self) -> SpanCounts {
        let tracer = self.tracer.get();
        tracer.map_or_else(SpanCounts::default, |tracer| tracer.tally.reading())
    }
}

/// The span of a request. It ends when it is dropped.
pub(crate) struct ServerSpan {
    trace: Trace,
    parent: Option<SpanId>,
    told: ServedFacts,
}

/// Begins the span of a request, when there are traces.
pub(crate) fn begin(
    node: &Arc<Node>,
    connection: &Connection,
    request: &Request<Incoming>,
) -> Option<Box<ServerSpan>> {
    let tracer = node.tracer.get()?;
    let hop = connection.hop();
    let heard = TraceContext::heard(request.headers(), &hop);
    let span = SpanId::of(node.world().random());
    let context = match &heard {
        Some(heard) => TraceContext { span, ..*heard },
        None => {
            let trace = TraceId::of(node.random_id());
            let sampled = tracer.ratio.takes(trace);
            TraceContext {
                trace,
                span,
                sampled,
            }
        }
    };
    let clock = Clock {
        began_ns: node.now().0.saturating_mul(1_000_000),
        began: Instant::now(),
    };
    Some(Box::new(ServerSpan {
        trace: Trace {
            node: Arc::clone(node),
            context,
            clock,
        },
        parent: heard.map(|heard| heard.span),
        told: ServedFacts {
            method: standard(request.method()),
            scheme: hop.scheme,
            protocol: protocol(request.version()),
            site: None,
            mode: node.stance().mode,
            class: None,
            outcome: OWN,
            reason: "",
            status: None,
            bytes: 0,
            is_broken: false,
        },
    }))
}

/// The outcome of the node's own words.
pub(crate) const OWN: &str = "own";

/// A method as the semantic conventions name it.
fn standard(method: &Method) -> &'static str {
    match method_name(method) {
        "other" => "_OTHER",
        own => own,
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

impl ServerSpan {
    /// The trace, for what is asked on its behalf.
    pub(crate) fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// It is answered in this mode.
    pub(crate) const fn in_mode(&mut self, mode: Mode) {
        self.told.mode = mode;
    }

    /// It asks for this host, lower case.
    pub(crate) fn asks_for(&mut self, host: &str, rules: &Rules) {
        let exact = |pattern: &HostPattern| matches!(pattern, HostPattern::Exact(of) if of == host);
        let origin = rules.origin_for(host);
        let is_named = origin.is_some_and(|origin| origin.hosts.iter().any(exact));
        self.told.site = is_named.then(|| host.to_owned());
    }

    /// It is answered so.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        let (Answer::Shown(_, shown) | Answer::Switched(_, shown, _)) = answer else {
            return;
        };
        let Shown {
            facts,
            outcome,
            reason,
            ..
        } = shown;
        self.told.class.clone_from(&facts.class);
        self.told.outcome = outcome.name();
        self.told.reason = reason;
    }

    /// So many more bytes of its answer were handed to the connection.
    pub(crate) fn add(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.told.bytes = self.told.bytes.saturating_add(bytes);
    }

    /// The body of its answer broke off.
    pub(crate) const fn breaks(&mut self) {
        self.told.is_broken = true;
    }
}

/// A span goes on for as long as its answer.
pub(crate) fn attached(
    span: Option<Box<ServerSpan>>,
    mut response: Response<Served>,
) -> Response<Served> {
    let Some(mut span) = span else {
        return response;
    };
    span.told.status = Some(response.status());
    if let Some(reason) = response.body().own_reason() {
        span.told.outcome = OWN;
        span.told.reason = reason;
    }
    response.body_mut().trace(span);
    response
}

impl Drop for ServerSpan {
    fn drop(&mut self) {
        let Self {
            trace,
            parent,
            told,
        } = self;
        trace.end(Ending {
            context: trace.context,
            parent: *parent,
            is_remote: parent.is_some(),
            began_ns: trace.clock.began_ns,
            told: Told::Served(told.clone()),
        });
    }
}

/// A span as it ends.
struct Ending {
    context: TraceContext,
    parent: Option<SpanId>,
    is_remote: bool,
    began_ns: u64,
    told: Told,
}

impl Trace {
    fn end(&self, ending: Ending) {
        let Ending {
            context,
            parent,
            is_remote,
            began_ns,
            told,
        } = ending;
        let Some(tracer) = self.node.tracer.get().filter(|_| context.sampled) else {
            return;
        };
        tracer.take(Span {
            context,
            parent,
            is_remote,
            began_ns,
            ended_ns: self.clock.now_ns(),
            told,
        });
    }

    fn child(&self, asks: Asks, method: &Method, upstream: &Arc<Upstream>) -> ChildSpan {
        let span = SpanId::of(self.node.world().random());
        ChildSpan {
            context: TraceContext {
                span,
                ..self.context
            },
            began_ns: self.clock.now_ns(),
            told: AskedFacts {
                asks,
                method: standard(method),
                upstream: Arc::clone(upstream),
                answer: Heard::Nothing,
            },
            trace: self.clone(),
        }
    }
}

/// The span of a question to the origin. It ends when it is dropped.
pub(crate) struct ChildSpan {
    trace: Trace,
    context: TraceContext,
    began_ns: u64,
    told: AskedFacts,
}

impl ChildSpan {
    /// Of a request that goes to the origin as itself, which is told of it.
    pub(crate) fn of_pass(
        trace: Option<&Trace>,
        asks: Asks,
        request: &mut PassRequest,
    ) -> Option<Self> {
        let child = trace?.child(asks, request.method(), request.upstream());
        request.in_trace(&child.context);
        Some(child)
    }

    /// Of a shared fetch, which is not told of it.
    pub(crate) fn of_fetch(
        trace: Option<&Trace>,
        asks: Asks,
        method: &Method,
        upstream: &Arc<Upstream>,
    ) -> Option<Self> {
        Some(trace?.child(asks, method, upstream))
    }

    /// Ends, with what was heard.
    pub(crate) fn heard(child: Option<Self>, answer: Heard) {
        if let Some(mut child) = child {
            child.told.answer = answer;
        }
    }
}

impl Drop for ChildSpan {
    fn drop(&mut self) {
        self.trace.end(Ending {
            context: self.context,
            parent: Some(self.trace.context.span),
            is_remote: false,
            began_ns: self.began_ns,
            told: Told::Asked(self.told.clone()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_takes_its_part_of_the_ids() {
        for (per_million, least) in [
            (1_000_000, Some(0)),
            (500_000, Some(IDS / 2)),
            (0, Some(IDS)),
            (1_000_001, None),
        ] {
            let ratio = Ratio::per_million(per_million);
            assert_eq!(ratio.map(|ratio| ratio.threshold), least, "{per_million}");
        }
        let half = Ratio::per_million(500_000).unwrap();
        for (id, takes) in [
            (u128::from(IDS / 2), true),
            (u128::from(IDS / 2 - 1), false),
            // What is above the random part decides nothing.
            (u128::MAX << 56 | 1, false),
        ] {
            assert_eq!(half.takes(TraceId::of(id)), takes, "{id:x}");
        }
        let none = Ratio::per_million(0).unwrap();
        assert!(!none.takes(TraceId::of(u128::MAX)));
    }
}
