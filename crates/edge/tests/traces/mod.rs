//! What traces tell a collector, whom they tell nothing, and that nobody waits for one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use shikiri_edge::Transport;
use shikiri_edge::otlp::{self, Exporter, OtlpSettings};
use shikiri_edge::trace::Ratio;
use shikiri_partition::{Secret, SecretSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::CSS;
use crate::world::{TestNode, get, reply, rules_of};

const POLICY: &str = "version = 1\n[[origin]]\nhosts = [\"site.test\"]\nurl = \"http://origin.test:8000\"\n\
    [session]\ncookies = [\"sid\"]\n\
    [[class]]\nname = \"films\"\nmatch = { paths = [\"/films/**\"] }\nto = \"gated\"\ntypes = [\"text/css\"]\n\
    query = []\ngate = { path = \"/authz{path}\" }\ncredential = { header = \"X-Edge-Key\", env = \"FILMS\" }\n";

const SECRET: &str = "0123456789abcdef-edge";

/// What no span may hold: of the member, of the address, of what was asked for.
const PRIVATE: [&str; 8] = [
    "alice",
    "203.0.113",
    "site.test/",
    "/account",
    "orders",
    "a.css",
    "film-7",
    "origin-said",
];

fn traced_node() -> TestNode {
    let secret = Secret::new(SECRET.as_bytes()).unwrap();
    let source = SecretSource::Environment("FILMS".into());
    let rules = rules_of(POLICY).armed(&BTreeMap::from([(source, secret)]));
    TestNode::with(rules, |asked| {
        if asked.starts_with("GET /authz") {
            return reply("204 No Content", "");
        }
        if asked.starts_with("GET /down") {
            return reply(
                "503 Service Unavailable\r\nX-Said: origin-said",
                "origin-said",
            );
        }
        reply(CSS, "body{}")
    })
}

/// A collector: what it was sent (head and body), as it came.
struct Collector {
    address: SocketAddr,
    sent: Receiver<(String, String)>,
}

impl Collector {
    /// One that answers so.
    fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (came, sent) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(request) = whole(&mut stream) else {
                    continue;
                };
                // First: who is answered may go on to ask what came.
                if came.send(request).is_err() {
                    return;
                }
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, sent }
    }

    fn settings(&self) -> OtlpSettings {
        settings(&format!("http://{}/v1/traces", self.address))
    }

    /// All that it was sent.
    fn all(&self) -> Vec<(String, String)> {
        self.sent.try_iter().collect()
    }
}

const TAKEN: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

fn whole(stream: &mut TcpStream) -> Option<(String, String)> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let (mut came, mut some) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&came).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length?.parse::<usize>().ok()? {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(n) => came.extend_from_slice(&some[..n]),
        }
    }
}

fn settings(endpoint: &str) -> OtlpSettings {
    let mut headers = http::HeaderMap::new();
    let mut key = http::HeaderValue::from_static("s3cret");
    key.set_sensitive(true);
    headers.insert("x-key", key);
    OtlpSettings {
        endpoint: endpoint.parse().unwrap(),
        headers,
        service: "shop".into(),
        ratio: Ratio::per_million(1_000_000).unwrap(),
        queue_max: 1_000,
        batch_max: 100,
        interval: Duration::from_millis(10),
        time_max: Duration::from_secs(5),
    }
}

fn traced(node: &TestNode, settings: OtlpSettings) -> Exporter {
    let (tracer, exporter) = otlp::start(settings, "edge-1").unwrap();
    node.node.trace(tracer);
    exporter
}

/// What is answered to a `GET` from this address.
async fn from(node: &TestNode, client: &str, path: &str, lines: &str) -> String {
    let client = SocketAddr::new(client.parse().unwrap(), 1);
    let mut wire = node.wire(Transport::plain(client));
    let request = get(path, &format!("{lines}Connection: close\r\n"));
    wire.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.unwrap();
    answer
}

const TRUSTED: &str = "192.0.2.1";
const STRANGER: &str = "203.0.113.5";

const PARENT: &str =
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nTracestate: a=1\r\n";
const UNSAMPLED: &str = "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n";

/// A span as it was sent.
#[derive(Debug)]
struct Sent {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    kind: u64,
    attributes: BTreeMap<String, String>,
}

impl Sent {
    fn is(&self, key: &str, value: &str) -> bool {
        self.attributes.get(key).is_some_and(|found| found == value)
    }
}

fn hex(value: &Value, length: usize) -> String {
    let text = value.as_str().unwrap();
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    assert!(
        text.len() == length && text.bytes().all(is_hex) && text.bytes().any(|b| b != b'0'),
        "{text}"
    );
    text.to_owned()
}

/// Reads a body by the names of OTLP's specification.
fn spans(body: &str) -> Vec<Sent> {
    let body: Value = serde_json::from_str(body).unwrap();
    let resource = &body["resourceSpans"][0];
    let named = |attributes: &Value| -> BTreeMap<String, String> {
        let of = |attribute: &Value| {
            let value = &attribute["value"];
            let text = value["stringValue"].as_str().or(value["intValue"].as_str());
            let text = text.unwrap_or_else(|| panic!("{attribute}"));
            (
                attribute["key"].as_str().unwrap().to_owned(),
                text.to_owned(),
            )
        };
        attributes.as_array().unwrap().iter().map(of).collect()
    };
    let of = named(&resource["resource"]["attributes"]);
    assert_eq!(of["service.name"], "shop");
    assert_eq!(of["service.instance.id"], "edge-1");
    let scope = &resource["scopeSpans"][0];
    assert_eq!(scope["scope"]["name"], "shikiri");
    let nanos = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let spans = scope["spans"].as_array().unwrap().iter();
    let spans = spans.map(|span| {
        let began = nanos(&span["startTimeUnixNano"]);
        assert!(began >= 1_800_000_000_000_000_000, "{span}");
        assert!(nanos(&span["endTimeUnixNano"]) >= began, "{span}");
        assert_eq!(span["flags"].as_u64().unwrap() & 1, 1);
        let attributes = named(&span["attributes"]);
        let failed = attributes.contains_key("error.type");
        assert_eq!(span["status"]["code"].as_u64() == Some(2), failed, "{span}");
        let parent = &span["parentSpanId"];
        Sent {
            trace: hex(&span["traceId"], 32),
            id: hex(&span["spanId"], 16),
            parent: (!parent.is_null()).then(|| hex(parent, 16)),
            name: span["name"].as_str().unwrap().to_owned(),
            kind: span["kind"].as_u64().unwrap(),
            attributes,
        }
    });
    spans.collect()
}

async fn visits(node: &TestNode) {
    for (path, lines) in [
        ("/a.css", "Cookie: sid=alice\r\n"),
        ("/a.css?v=orders", ""),
        ("/a.css", ""),
        (
            "/account?orders=7",
            "Cookie: sid=alice\r\nReferer: http://site.test/orders\r\n",
        ),
        ("/films/film-7", "Cookie: sid=alice\r\n"),
        ("/down/orders", "Cookie: sid=alice\r\n"),
        ("/a.css", "Host: site.test\r\n"),
    ] {
        drop(from(node, STRANGER, path, lines).await);
    }
}

#[tokio::test]
async fn a_collector_is_told_what_became_of_requests_and_nothing_of_whose_they_are() {
    let (node, collector) = (traced_node(), Collector::answering(TAKEN));
    let exporter = traced(&node, collector.settings());
    visits(&node).await;
    drop(exporter);
    let sent = collector.all();
    assert!(!sent.is_empty());
    let mut all = Vec::new();
    for (head, body) in &sent {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(
            head.contains("\r\ncontent-type: application/json\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nx-key: s3cret"), "{head}");
        for private in PRIVATE {
            assert!(!body.contains(private), "{private} in {body}");
        }
        all.extend(spans(body));
    }
    // The words are there to be found: the origin was told them, all but the address.
    let told: String = node.seen().into_iter().map(|seen| seen.text).collect();
    for private in [
        "alice",
        "/account",
        "orders",
        "a.css",
        "film-7",
        "203.0.113",
    ] {
        assert!(told.contains(private), "{private} was never said");
    }
    let servers: Vec<&Sent> = all.iter().filter(|span| span.kind == 2).collect();
    assert_eq!(servers.len(), 7, "{all:#?}");
    for (outcome, status) in [
        ("fill", "200"),
        ("hit", "200"),
        ("pass", "200"),
        ("own", "400"),
    ] {
        let found = servers.iter().find(|span| {
            span.is("shikiri.outcome", outcome) && span.is("http.response.status_code", status)
        });
        let found = found.unwrap_or_else(|| panic!("{outcome} {status}: {servers:#?}"));
        assert!(found.name == "GET" && found.is("http.request.method", "GET"));
        assert!(found.parent.is_none() && found.is("shikiri.mode", "open"));
        assert!(found.is("url.scheme", "http") && found.is("network.protocol.version", "1.1"));
        assert_eq!(
            found.is("server.address", "site.test"),
            outcome != "own",
            "{found:?}"
        );
    }
    let down = servers.iter().find(|span| span.is("error.type", "503"));
    assert!(
        down.is_some_and(|span| span.is("shikiri.outcome", "pass")),
        "{servers:#?}"
    );
    let hit = servers
        .iter()
        .find(|span| span.is("shikiri.outcome", "hit"))
        .unwrap();
    assert!(hit.is("shikiri.class", "assets") && hit.is("http.response.body.size", "6"));
    // What the origin was asked is a child of what it was asked for.
    for (asks, count) in [("gate", 1), ("fetch", 3), ("pass", 2)] {
        let children: Vec<&Sent> = all.iter().filter(|span| span.name == asks).collect();
        assert_eq!(children.len(), count, "{asks}: {all:#?}");
        for child in children {
            let parent = servers
                .iter()
                .find(|span| Some(&span.id) == child.parent.as_ref());
            assert!(
                parent.is_some_and(|parent| parent.trace == child.trace),
                "{child:?}"
            );
            assert!(
                child.kind == 3 && child.is("server.address", "origin.test"),
                "{child:?}"
            );
        }
    }
    let mut ids: Vec<&str> = all.iter().map(|span| span.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len());
}

/// The value of a field, of what the origin was asked for this path last.
fn said_to_origin(node: &TestNode, path: &str, field: &str) -> Option<String> {
    let seen = node.seen();
    let asked = seen
        .iter()
        .rev()
        .find(|seen| seen.text.contains(path))
        .unwrap();
    let lines = asked.text.lines().map(str::to_ascii_lowercase);
    let values =
        lines.filter_map(|line| line.strip_prefix(&format!("{field}: ")).map(str::to_owned));
    let values: Vec<String> = values.collect();
    assert!(values.len() < 2, "{values:?}");
    values.into_iter().next()
}

#[tokio::test]
async fn whose_trace_is_gone_on_with_and_who_is_told_of_it() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let (node, collector) = (traced_node(), Collector::answering(TAKEN));
    let exporter = traced(&node, collector.settings());
    // Whose parent it is; whether the origin is told of the trace that was named; whether it is recorded.
    for (client, parent, path, goes_on, recorded) in [
        (TRUSTED, PARENT, "/p/1", true, true),
        (STRANGER, PARENT, "/p/2", false, true),
        (TRUSTED, UNSAMPLED, "/p/3", true, false),
        (STRANGER, UNSAMPLED, "/p/4", false, true),
        (TRUSTED, "", "/p/5", false, true),
    ] {
        drop(from(&node, client, path, parent).await);
        let said = said_to_origin(&node, path, "traceparent").unwrap();
        assert_eq!(said.contains(TRACE), goes_on, "{path}: {said}");
        assert!(!said.contains("b7ad6b7169203331"), "{path}: {said}");
        assert_eq!(said.ends_with("-01"), recorded, "{path}: {said}");
        let state = said_to_origin(&node, path, "tracestate");
        assert_eq!(
            state.is_some(),
            parent == PARENT && goes_on,
            "{path}: {state:?}"
        );
    }
    // A gate's question and a pass are told; a shared fetch never is, whoever asks.
    for (client, path) in [
        (TRUSTED, "/b.css"),
        (STRANGER, "/c.css"),
        (TRUSTED, "/films/1"),
    ] {
        drop(from(&node, client, path, PARENT).await);
        for field in ["traceparent", "tracestate"] {
            let said = said_to_origin(&node, &format!("GET {path} "), field);
            assert_eq!(said, None, "{path}");
        }
    }
    let gate = said_to_origin(&node, "/authz/films/1", "traceparent").unwrap();
    assert!(gate.contains(TRACE), "{gate}");
    drop(exporter);
    let all: Vec<Sent> = collector
        .all()
        .iter()
        .flat_map(|(_, body)| spans(body))
        .collect();
    let gone_on: Vec<&Sent> = all.iter().filter(|span| span.trace == TRACE).collect();
    let roots = gone_on.iter().filter(|span| span.kind == 2);
    let parents: Vec<_> = roots.map(|span| span.parent.as_deref()).collect();
    assert_eq!(parents, [Some("b7ad6b7169203331"); 3]);
    // What the origin was told as its parent is the span of the pass.
    let told = said_to_origin(&node, "/p/1", "traceparent").unwrap();
    assert!(
        gone_on
            .iter()
            .any(|span| span.name == "pass" && told.contains(&span.id))
    );
    assert_eq!(all.iter().filter(|span| span.kind == 2).count(), 4 + 3);
}

/// Off, everything is as the client said it; on, what clients see, and what shared fetches say, is the
/// same.
#[tokio::test]
async fn traces_change_nothing_that_is_shared_or_shown() {
    let seen = async |traces: bool| {
        let (node, collector) = (traced_node(), Collector::answering(TAKEN));
        let exporter = traces.then(|| traced(&node, collector.settings()));
        let mut answers = Vec::new();
        for (path, lines) in [
            ("/a.css", PARENT),
            ("/account", PARENT),
            ("/films/1", PARENT),
        ] {
            let answer = from(&node, STRANGER, path, lines).await;
            answers.push(answer.replace("\r\ntraceparent", ""));
        }
        drop(exporter);
        let asked = node.seen().into_iter().map(|seen| seen.text);
        (answers, asked.collect::<Vec<_>>())
    };
    let (off, on) = (seen(false).await, seen(true).await);
    assert_eq!(off.0, on.0);
    assert_eq!(off.1.len(), on.1.len());
    for (off, on) in off.1.iter().zip(&on.1) {
        if off.to_ascii_lowercase().contains("traceparent") {
            assert!(
                off.contains("b7ad6b7169203331") && off.contains("a=1"),
                "{off}"
            );
            assert!(
                !on.contains("b7ad6b7169203331") && !on.contains("a=1"),
                "{on}"
            );
        } else {
            assert_eq!(off, on, "a shared fetch");
        }
    }
    let shared = off
        .1
        .iter()
        .filter(|asked| !asked.to_ascii_lowercase().contains("traceparent"));
    assert_eq!(shared.count(), 2);
}

/// What the metrics say of spans: exported, dropped for want of a place, refused.
fn tally(node: &TestNode) -> [u64; 3] {
    let counts = node.node.spans();
    [counts.exported, counts.overflowed, counts.refused]
}

#[tokio::test]
async fn nobody_waits_for_a_collector_that_hangs_or_is_gone() {
    // One takes connections and never answers; at the other nobody listens.
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for address in [hangs.local_addr().unwrap(), gone] {
        let node = traced_node();
        let settings = OtlpSettings {
            queue_max: 4,
            batch_max: 2,
            time_max: Duration::from_millis(200),
            ..settings(&format!("http://{address}/v1/traces"))
        };
        let exporter = traced(&node, settings);
        drop(from(&node, STRANGER, "/a.css", "").await);
        let began = Instant::now();
        for _ in 0..50 {
            let answer = from(&node, STRANGER, "/a.css", "").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        let [_, overflowed, _] = tally(&node);
        // One of the first fetch, one of each request; a batch on its way, a queue.
        assert!(overflowed >= 52 - 4 - 2 * 2, "{overflowed}");
        drop(exporter);
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        let [exported, overflowed, refused] = tally(&node);
        assert_eq!((exported, overflowed + refused), (0, 52));
    }
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted() {
    const SOME: &str = "HTTP/1.1 200 OK\r\nContent-Length: 39\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"1\"}}";
    const NONE: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    for (answer, expected) in [(TAKEN, [2, 0, 0]), (NONE, [0, 0, 2])] {
        let (node, collector) = (traced_node(), Collector::answering(answer));
        let exporter = traced(&node, collector.settings());
        drop(from(&node, STRANGER, "/a.css", "").await);
        drop(exporter);
        assert_eq!(tally(&node), expected, "{answer}");
    }
    let some = SOME.replace(
        "39",
        &SOME.split("\r\n\r\n").nth(1).unwrap().len().to_string(),
    );
    let (node, collector) = (traced_node(), Collector::answering(some.leak()));
    let settings = OtlpSettings {
        interval: Duration::from_secs(60),
        ..collector.settings()
    };
    let exporter = traced(&node, settings);
    drop(from(&node, STRANGER, "/a.css", "").await);
    drop(exporter);
    assert_eq!(tally(&node), [1, 0, 1]);
    assert_eq!(
        collector.all().len(),
        1,
        "what waits is sent at the end, at once"
    );
}

#[tokio::test]
async fn a_part_of_all_is_recorded_and_all_are_told_to_the_origin() {
    let (node, collector) = (traced_node(), Collector::answering(TAKEN));
    let none = OtlpSettings {
        ratio: Ratio::per_million(0).unwrap(),
        ..collector.settings()
    };
    let exporter = traced(&node, none);
    drop(from(&node, STRANGER, "/account", "").await);
    let said = said_to_origin(&node, "/account", "traceparent").unwrap();
    assert!(said.ends_with("-00"), "{said}");
    drop(exporter);
    assert!(collector.all().is_empty());
    assert_eq!(tally(&node), [0; 3]);
}
