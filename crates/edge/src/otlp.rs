//! Where spans leave for: a collector of OpenTelemetry's, over OTLP/HTTP with JSON (OTLP 1.x).
//!
//! A thread of its own takes spans from a queue and posts them in batches. A collector that is slow, gone
//! or says no costs the requests nothing: it is tried again a few times, and what finds no place
//! meanwhile is dropped and counted. ADR 15 says why this is our own.
//!
//! Never here: what a span may tell ([`crate::trace`]). Never logged: what a collector answers, and what
//! its headers hold.
//!
//! Invariants: the queue, a batch, an answer and every wait are bounded; when it is dropped, what is
//! being sent has its time, and what waits is sent within one more `time_max`, or not at all.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, Serializer};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::connection::told_to_stop;
use crate::trace::{AskedFacts, Heard, Ratio, ServedFacts, Span, Tally, Told, Tracer};

/// How a node's spans are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Where the collector is.
    pub endpoint: Endpoint,
    /// Header fields that it wants: who may send to it, most of all. They do not print.
    pub headers: HeaderMap,
    /// The service's name.
    pub service: String,
    /// Which traces are recorded, of those that begin here.
    pub ratio: Ratio,
    /// Spans that may wait to be sent.
    pub queue_max: usize,
    /// Spans in one request.
    pub batch_max: usize,
    /// How long a span may wait for others before it is sent.
    pub interval: Duration,
    /// How long a collector may take to answer.
    pub time_max: Duration,
}

/// A collector's URL: cleartext, on this host or on a network that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write http://127.0.0.1:4318/v1/traces";
        if text.starts_with("https://") {
            return Err(format!(
                "`{text}`: spans are sent in cleartext in this version, to a collector on this host or on a network \
                 that you trust, which may send them on: {example}"
            ));
        }
        let uri: Uri = text
            .parse()
            .map_err(|_| format!("`{text}` is no URL: {example}"))?;
        let host = uri.authority().filter(|at| !at.as_str().contains('@'));
        match (uri.scheme_str(), host) {
            (Some("http"), Some(_)) => Ok(Self(uri)),
            _ => Err(format!(
                "`{text}` is no http:// URL, or holds a password: {example}"
            )),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some collectors want a key in the query.
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "http://{authority}{}", self.0.path())
    }
}

/// Sends spans until it is dropped.
#[derive(Debug)]
pub struct Exporter {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts sending: spans that the tracer is given, as this node's.
///
/// # Errors
/// The thread cannot be had.
pub fn start(settings: OtlpSettings, node: &str) -> io::Result<(Tracer, Exporter)> {
    let (spans, queue) = mpsc::channel(settings.queue_max.max(1));
    let (stop, stopped) = watch::channel(false);
    let tally = Arc::<Tally>::default();
    let tracer = Tracer {
        spans,
        ratio: settings.ratio,
        tally: Arc::clone(&tally),
    };
    let sending = Sending {
        node: node.to_owned(),
        settings,
        tally,
        is_down: false,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = thread::Builder::new()
        .name("shikiri-traces".into())
        .spawn(move || runtime.block_on(sending.run(queue, stopped)))?;
    let thread = Some(thread);
    Ok((tracer, Exporter { stop, thread }))
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that sends traces had panicked");
        }
    }
}

/// How long to wait before each further try of a batch.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum ExportFault {
    #[error("it cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    #[error("it does not answer in time")]
    Slow,
    #[error("it does not speak HTTP as it should")]
    Http(#[source] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl ExportFault {
    /// Whether the same may be taken later (OTLP: 429, 502, 503, 504).
    fn may_be_tried_again(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Unreachable(_) | Self::Slow | Self::Http(_) => true,
        }
    }
}

struct Sending {
    node: String,
    settings: OtlpSettings,
    tally: Arc<Tally>,
    /// Whether the last batch was not taken: that is logged once.
    is_down: bool,
}

impl Sending {
    async fn run(mut self, mut queue: mpsc::Receiver<Span>, mut stop: watch::Receiver<bool>) {
        loop {
            let mut batch = Vec::new();
            let gathered = tokio::select! {
                gathered = self.gather(&mut queue, &mut batch) => gathered,
                () = told_to_stop(&mut stop) => false,
            };
            if !gathered {
                self.rest(batch, &mut queue).await;
                return;
            }
            self.send(&batch, &mut stop).await;
        }
    }

    /// Waits for a batch: as many as there may be, or those of one interval. `false`: no more will come.
    async fn gather(&self, queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
        let batch_max = self.settings.batch_max.max(1);
        if queue.recv_many(batch, batch_max).await == 0 {
            return false;
        }
        let until = Instant::now() + self.settings.interval;
        while batch.len() < batch_max {
            let left = batch_max - batch.len();
            match timeout_at(until, queue.recv_many(batch, left)).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => {}
            }
        }
        true
    }

    /// The node stops: what waits is sent, within one time.
    async fn rest(self, mut batch: Vec<Span>, queue: &mut mpsc::Receiver<Span>) {
        let until = Instant::now() + self.settings.time_max;
        loop {
            while batch.len() < self.settings.batch_max.max(1) {
                let Ok(span) = queue.try_recv() else { break };
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            match timeout_at(until, self.post(&batch)).await {
                Ok(Ok(refused)) => self.taken(batch.len(), refused),
                Ok(Err(_)) | Err(_) => {
                    self.refused(batch.len() + queue.len());
                    return;
                }
            }
            batch.clear();
        }
    }

    /// Sends a batch, and tries again where that may help, until told to stop.
    async fn send(&mut self, batch: &[Span], stop: &mut watch::Receiver<bool>) {
        let mut pauses = PAUSES.iter();
        loop {
            let why = match self.post(batch).await {
                Ok(refused) => {
                    self.taken(batch.len(), refused);
                    if std::mem::take(&mut self.is_down) {
                        tracing::info!("the collector takes traces again");
                    }
                    return;
                }
                Err(why) => why,
            };
            if !std::mem::replace(&mut self.is_down, true) {
                tracing::warn!(
                    collector = %self.settings.endpoint,
                    why = %crate::Chain(&why),
                    "the collector takes no traces: spans are dropped and counted until it does"
                );
            }
            let pause = pauses.next().filter(|_| why.may_be_tried_again());
            let is_over = match pause {
                None => true,
                Some(pause) => tokio::select! {
                    () = sleep(*pause) => false,
                    () = told_to_stop(stop) => true,
                },
            };
            if is_over {
                return self.refused(batch.len());
            }
        }
    }

    fn taken(&self, sent: usize, refused: usize) {
        let refused = refused.min(sent);
        let taken = u64::try_from(sent - refused).unwrap_or(u64::MAX);
        self.tally.exported.fetch_add(taken, Ordering::Relaxed);
        self.refused(refused);
    }

    fn refused(&self, spans: usize) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        self.tally.refused.fetch_add(spans, Ordering::Relaxed);
    }

    /// Posts a batch. Returns how many of it were refused.
    async fn post(&self, batch: &[Span]) -> Result<usize, ExportFault> {
        let answered = timeout(self.settings.time_max, self.exchange(batch)).await;
        answered.unwrap_or(Err(ExportFault::Slow))
    }

    async fn exchange(&self, batch: &[Span]) -> Result<usize, ExportFault> {
        let uri = &self.settings.endpoint.0;
        let authority = uri.authority().expect("an endpoint has a host");
        let place = (
            authority.host().trim_matches(['[', ']']),
            authority.port_u16().unwrap_or(80),
        );
        let stream = TcpStream::connect(place)
            .await
            .map_err(ExportFault::Unreachable)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(ExportFault::Http)?;
        let serving = Aborting(tokio::spawn(connection));
        let answer = sender
            .send_request(self.request(uri, authority.as_str(), batch))
            .await
            .map_err(ExportFault::Http)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(ExportFault::Status(status));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map(|body| body.to_bytes());
        drop(serving);
        // What cannot be read refuses nothing: the status said that it was taken.
        let refused = body.ok().map(|body| refused(&body));
        Ok(refused.unwrap_or_default())
    }

    fn request(&self, uri: &Uri, authority: &str, batch: &[Span]) -> Request<Full<Bytes>> {
        let text = encode(&self.settings.service, &self.node, batch);
        let mut request = Request::new(Full::new(Bytes::from(text)));
        *request.method_mut() = Method::POST;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().expect("a part of a URI is one");
        let headers = request.headers_mut();
        *headers = self.settings.headers.clone();
        let host = HeaderValue::try_from(authority).expect("an authority is a header value");
        headers.insert(HOST, host);
        let agent = concat!("shikiri/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        request
    }
}

/// A task that ends when this is dropped.
struct Aborting<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a collector's header may be set: not what this says itself.
#[must_use]
pub fn may_be_said(name: &HeaderName) -> bool {
    ![HOST, USER_AGENT, CONTENT_TYPE, CONNECTION].contains(name)
        && !matches!(
            name.as_str(),
            "content-length"
                | "transfer-encoding"
                | "content-encoding"
                | "expect"
                | "te"
                | "upgrade"
        )
}

/// How many spans a collector refused of those that it took.
fn refused(body: &[u8]) -> usize {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Answer {
        partial_success: Option<Partial>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Partial {
        rejected_spans: Count,
    }
    // 64 bits are a text in protobuf's JSON, and a number in some collectors'.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Count {
        Number(usize),
        Text(String),
    }
    impl Default for Count {
        fn default() -> Self {
            Self::Number(0)
        }
    }
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    match answer.partial_success.unwrap_or_default().rejected_spans {
        Count::Number(count) => count,
        Count::Text(count) => count.parse().unwrap_or_default(),
    }
}

/// A request of `ExportTraceServiceRequest`, in protobuf's JSON as OTLP has it: ids in hexadecimal, 64
/// bits as text.
fn encode(service: &str, node: &str, batch: &[Span]) -> String {
    let resource = vec![
        Attribute::text("service.name", service),
        Attribute::text("service.version", env!("CARGO_PKG_VERSION")),
        Attribute::text("service.instance.id", node),
    ];
    let traces = Traces {
        resource_spans: [ResourceSpans {
            resource: Resource {
                attributes: resource,
            },
            scope_spans: [ScopeSpans {
                scope: Scope {
                    name: "shikiri",
                    version: env!("CARGO_PKG_VERSION"),
                },
                spans: batch.iter().map(EncodedSpan::of).collect(),
            }],
        }],
    };
    serde_json::to_string(&traces).expect("spans are plain data")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traces<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<EncodedSpan<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EncodedSpan<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    flags: u32,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: Wide,
    end_time_unix_nano: Wide,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Failed>,
}

#[derive(Serialize)]
struct Failed {
    code: u8,
}

/// `STATUS_CODE_ERROR`.
const FAILED: Failed = Failed { code: 2 };
const KIND_SERVER: u8 = 2;
const KIND_CLIENT: u8 = 3;
/// Sampled; it is said whether the parent is another program's; it is.
const FLAGS: (u32, u32, u32) = (0x1, 0x100, 0x200);

/// 64 bits, as protobuf's JSON has them.
struct Wide(u64);

impl Serialize for Wide {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value<'a> {
    StringValue(&'a str),
    IntValue(Wide),
}

impl<'a> Attribute<'a> {
    const fn text(key: &'static str, text: &'a str) -> Self {
        Self {
            key,
            value: Value::StringValue(text),
        }
    }

    const fn number(key: &'static str, number: u64) -> Self {
        Self {
            key,
            value: Value::IntValue(Wide(number)),
        }
    }
}

/// The names of the semantic conventions for HTTP, where they have one.
const METHOD: &str = "http.request.method";
const STATUS: &str = "http.response.status_code";
const ADDRESS: &str = "server.address";
const ERROR: &str = "error.type";

impl<'a> EncodedSpan<'a> {
    fn of(span: &'a Span) -> Self {
        let Span {
            context,
            parent,
            is_remote,
            began_ns,
            ended_ns,
            told,
        } = span;
        let (name, kind, attributes) = match told {
            Told::Served(facts) => (facts.method, KIND_SERVER, served(facts)),
            Told::Asked(facts) => (facts.asks.name(), KIND_CLIENT, asked(facts)),
        };
        let (sampled, knows, remote) = FLAGS;
        let failed = attributes.iter().any(|attribute| attribute.key == ERROR);
        Self {
            trace_id: context.trace.to_string(),
            span_id: context.span.to_string(),
            parent_span_id: parent.map(|parent| parent.to_string()),
            flags: sampled | knows | if *is_remote { remote } else { 0 },
            name,
            kind,
            start_time_unix_nano: Wide(*began_ns),
            end_time_unix_nano: Wide(*ended_ns),
            attributes,
            status: failed.then_some(FAILED),
        }
    }
}

/// What is told of a request.
fn served(facts: &ServedFacts) -> Vec<Attribute<'_>> {
    let ServedFacts {
        method,
        scheme,
        protocol,
        site,
        mode,
        class,
        outcome,
        reason,
        status,
        bytes,
        is_broken,
    } = facts;
    let class = class.as_ref().map_or("personal", |class| &class.name);
    let mut told = vec![
        Attribute::text(METHOD, method),
        Attribute::text("url.scheme", scheme.as_str()),
        Attribute::text("network.protocol.version", protocol),
        Attribute::text("shikiri.mode", mode.name()),
        Attribute::text("shikiri.outcome", outcome),
        Attribute::number("http.response.body.size", *bytes),
    ];
    if *outcome != crate::trace::OWN {
        told.push(Attribute::text("shikiri.class", class));
    }
    if !reason.is_empty() {
        told.push(Attribute::text("shikiri.reason", reason));
    }
    if let Some(site) = site {
        told.push(Attribute::text(ADDRESS, site));
    }
    if let Some(status) = status {
        told.push(Attribute::number(STATUS, u64::from(status.as_u16())));
    }
    let failed = match status {
        _ if *is_broken => Some("body-broke"),
        None => Some("unanswered"),
        // For a server a client's fault is no failure.
        Some(status) if status.is_server_error() => Some(status.as_str()),
        Some(_) => None,
    };
    told.extend(failed.map(|failed| Attribute::text(ERROR, failed)));
    told
}

/// What is told of a question to the origin.
fn asked(facts: &AskedFacts) -> Vec<Attribute<'_>> {
    let AskedFacts {
        asks,
        method,
        upstream,
        answer,
    } = facts;
    let mut told = vec![
        Attribute::text(METHOD, method),
        Attribute::text("shikiri.asks", asks.name()),
        Attribute::text(ADDRESS, &upstream.address),
        Attribute::number("server.port", u64::from(upstream.port)),
    ];
    let failed = match answer {
        Heard::Status(status) => {
            told.push(Attribute::number(STATUS, u64::from(status.as_u16())));
            let failed = status.is_client_error() || status.is_server_error();
            failed.then(|| status.as_str())
        }
        Heard::Fault(name) => Some(*name),
        Heard::Nothing => Some("abandoned"),
    };
    told.extend(failed.map(|failed| Attribute::text(ERROR, failed)));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_collector_may_be() {
        for (text, shown) in [
            (
                "http://127.0.0.1:4318/v1/traces",
                Some("http://127.0.0.1:4318/v1/traces"),
            ),
            (
                "http://[::1]:4318/v1/traces?key=secret",
                Some("http://[::1]:4318/v1/traces"),
            ),
            ("https://collector.example.test/v1/traces", None),
            ("http://user:pw@collector.example.test/", None),
            ("collector.example.test:4318", None),
            ("", None),
        ] {
            let endpoint = text.parse::<Endpoint>().ok().map(|e| e.to_string());
            assert_eq!(endpoint.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn what_a_collector_refused_of_what_it_took() {
        for (body, expected) in [
            ("{}", 0),
            ("", 0),
            ("not json", 0),
            ("{\"partialSuccess\":{}}", 0),
            (
                "{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"x\"}}",
                3,
            ),
            ("{\"partialSuccess\":{\"rejectedSpans\":4}}", 4),
            ("{\"partialSuccess\":null}", 0),
        ] {
            assert_eq!(refused(body.as_bytes()), expected, "{body}");
        }
    }
}
