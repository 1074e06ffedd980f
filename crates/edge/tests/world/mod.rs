//! A small world for tests of the node: one origin that answers by a function, clients that write
//! bytes and read bytes, and time that stands still until nothing else can happen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use shikiri_edge::chronicle::{self, Chronicle, Found};
use shikiri_edge::{
    Config, Downstream, Evidence, Kept, Node, OnFull, Said, Transport, Wire, Worker, World,
    serve_connection,
};
use shikiri_evidence::{BootId, Disk, MemoryDisk, Run};
use shikiri_partition::{Origin, Rules, policy};
use shikiri_record::{Entry, Mode, NodeKey, PolicyText, PurgeTarget, UnixMillis};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// What an origin does with one request.
pub(crate) struct Reply {
    /// Written after `delay`.
    pub(crate) bytes: Vec<u8>,
    pub(crate) delay: Duration,
    /// Written a moment after the first bytes.
    pub(crate) later: Vec<u8>,
    /// So many more chunks, ten seconds apart.
    pub(crate) ticks: u32,
    pub(crate) close: bool,
}

/// A reply with this head line and fields, and a body with its length.
pub(crate) fn reply(head: &str, body: &str) -> Reply {
    let length = body.len();
    raw(&format!(
        "HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

/// These very bytes.
pub(crate) fn raw(bytes: &str) -> Reply {
    Reply {
        bytes: bytes.into(),
        delay: Duration::ZERO,
        later: Vec::new(),
        ticks: 0,
        close: false,
    }
}

impl Reply {
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn then(mut self, later: &str) -> Self {
        self.later = later.into();
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

type Answers = dyn Fn(&str) -> Reply + Send + Sync;

/// One request as the origin read it, with the connection it came on.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) connection: u64,
    pub(crate) text: String,
}

struct TestWorld {
    answers: Arc<Answers>,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: AtomicU64,
    random: AtomicU64,
    began: Instant,
    starts: UnixMillis,
}

impl TestWorld {
    fn new(
        starts: UnixMillis,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> (Arc<Self>, Arc<Mutex<Vec<Seen>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let world = Self {
            answers: Arc::new(answers),
            seen: Arc::clone(&seen),
            connections: AtomicU64::new(0),
            random: AtomicU64::new(1),
            began: Instant::now(),
            starts,
        };
        (Arc::new(world), seen)
    }
}

impl World for TestWorld {
    fn connect(&self, _: &str, port: u16) -> shikiri_edge::world::Connecting {
        if port == 1 {
            return Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) });
        }
        let (ours, theirs) = duplex(16 << 10);
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(origin(
            theirs,
            connection,
            Arc::clone(&self.answers),
            Arc::clone(&self.seen),
        ));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Wire>) })
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.starts.0 + u64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn random(&self) -> u64 {
        self.random
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    fn clock_jump(&self) -> Option<Duration> {
        None
    }
}

async fn origin(
    mut wire: DuplexStream,
    connection: u64,
    answers: Arc<Answers>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some(text) = request(&mut wire, &mut buffer).await else {
            return;
        };
        let reply = answers(&text);
        seen.lock().unwrap().push(Seen { connection, text });
        sleep(reply.delay).await;
        if wire.write_all(&reply.bytes).await.is_err() {
            return;
        }
        if !reply.later.is_empty() {
            sleep(Duration::from_millis(200)).await;
            if wire.write_all(&reply.later).await.is_err() {
                return;
            }
        }
        for _ in 0..reply.ticks {
            sleep(Duration::from_secs(10)).await;
            if wire.write_all(b"6\r\ndata:\n\r\n").await.is_err() {
                return;
            }
        }
        if reply.close {
            return;
        }
    }
}

/// Reads one request with its body, as bytes; the body must have a length or be chunked.
async fn request(wire: &mut DuplexStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let wanted = lower
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map(|length| length.parse::<usize>().unwrap());
            let end = match wanted {
                _ if lower.contains("transfer-encoding: chunked") => body
                    .find("0\r\n")
                    .and_then(|at| body.get(at..)?.find("\r\n\r\n").map(|end| at + end + 4)),
                Some(length) if body.len() < length => None,
                Some(length) => Some(length),
                None => Some(0),
            };
            if let Some(end) = end {
                let whole = head.len() + 4 + end;
                buffer.drain(..whole);
                return text.get(..whole).map(str::to_owned);
            }
            if lower.contains("expect: 100-continue")
                && body.is_empty()
                && head.contains("/says-continue")
            {
                wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                    .await
                    .ok()?;
            }
        }
        let mut more = [0; 4096];
        match wire.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => buffer.extend_from_slice(&more[..n]),
        }
    }
}

/// Where clients come from: a trusted address.
pub(crate) const CLIENT: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40000);

/// A node in its world.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    pub(crate) worker: Arc<Worker>,
    /// Where its evidence is.
    pub(crate) disk: MemoryDisk,
    /// Where its timeline is.
    pub(crate) timeline: MemoryDisk,
    seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) stop: watch::Sender<bool>,
}

/// The rules of a policy; an empty text is the built-in policy.
pub(crate) fn rules(text: &str) -> Rules {
    let origin: Origin = policy::origin("http://origin.test:8000").unwrap();
    let text = (!text.is_empty()).then(|| PolicyText {
        source: "test".into(),
        text: text.into(),
    });
    policy::compile(text.as_ref(), Some(origin)).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The rules of a policy that names its origins itself.
pub(crate) fn rules_of(text: &str) -> Rules {
    let text = PolicyText {
        source: "test".into(),
        text: text.into(),
    };
    policy::compile(Some(&text), None).unwrap_or_else(|errors| panic!("{errors:?}"))
}

impl TestNode {
    pub(crate) fn new(
        policy: &str,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::with(rules(policy), answers)
    }

    pub(crate) fn with(
        rules: Rules,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::on_full(rules, OnFull::Refuse, answers)
    }

    pub(crate) fn on_full(
        rules: Rules,
        on_full: OnFull,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (world, seen) = TestWorld::new(UnixMillis(1_800_000_000_000), answers);
        Self::around(config(), rules, world, on_full, seen)
    }

    /// A node that is started for the first time, at this time and in this mode.
    pub(crate) fn first_started(
        at: UnixMillis,
        mode: Mode,
        rules: Rules,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (world, seen) = TestWorld::new(at, answers);
        Self::begun(
            (config(), rules),
            world,
            (OnFull::Refuse, mode, new_disk()),
            seen,
        )
    }

    /// A node that is started again, with what the one before left on its timeline.
    pub(crate) fn started_again(
        before: &Self,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (world, seen) = TestWorld::new(before.node.now(), answers);
        let rules = (*before.node.stance().rules).clone();
        let timeline = before.timeline.copied();
        let setting = (OnFull::Refuse, Mode::Open, timeline);
        Self::begun((config(), rules), world, setting, seen)
    }

    /// A node in a world of its own.
    pub(crate) fn around(
        config: Config,
        rules: Rules,
        world: Arc<dyn World>,
        on_full: OnFull,
        seen: Arc<Mutex<Vec<Seen>>>,
    ) -> Self {
        Self::begun(
            (config, rules),
            world,
            (on_full, Mode::Open, new_disk()),
            seen,
        )
    }

    fn begun(
        (config, rules): (Config, Rules),
        world: Arc<dyn World>,
        (on_full, mode, timeline): (OnFull, Mode, MemoryDisk),
        seen: Arc<Mutex<Vec<Seen>>>,
    ) -> Self {
        let disk = new_disk();
        let evidence = Evidence::in_memory(&disk, on_full);
        let kept = kept_in(&timeline, mode, world.now());
        let node = Node::begin(config, rules, world, evidence, kept);
        let worker = Worker::new(Arc::clone(&node)).unwrap();
        Self {
            disk,
            timeline,
            node,
            worker,
            seen,
            stop: watch::channel(false).0,
        }
    }

    /// A client connection.
    pub(crate) fn client(&self) -> Client {
        self.client_with(64 << 10)
    }

    /// A client connection that holds so many bytes on their way.
    pub(crate) fn client_with(&self, pipe_bytes: usize) -> Client {
        let (wire, reset) = self.pipe(Transport::plain(CLIENT), pipe_bytes);
        Client {
            wire,
            reset,
            buffer: Vec::new(),
        }
    }

    /// The client's end of a connection, whatever is spoken on it.
    pub(crate) fn wire(&self, transport: Transport) -> DuplexStream {
        self.pipe(transport, 64 << 10).0
    }

    fn pipe(&self, transport: Transport, bytes: usize) -> (DuplexStream, Arc<AtomicBool>) {
        let (ours, theirs) = duplex(bytes);
        let reset = Arc::new(AtomicBool::new(false));
        let theirs = Pipe {
            io: theirs,
            reset: Arc::clone(&reset),
        };
        let (worker, stop) = (Arc::clone(&self.worker), self.stop.subscribe());
        tokio::spawn(async move { serve_connection(&worker, theirs, transport, stop).await });
        (ours, reset)
    }

    /// What is found on its timeline.
    pub(crate) fn found(&self) -> Vec<Found> {
        self.timeline_written();
        found(&self.timeline)
    }

    /// What is on its timeline.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.timeline_written();
        entries(&self.timeline)
    }

    /// Waits for the thread that writes it.
    pub(crate) fn timeline_written(&self) {
        let began = std::time::Instant::now();
        while self.node.unwritten() > 0 {
            assert!(began.elapsed().as_secs() < 10, "it is not written");
            std::thread::yield_now();
        }
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.client();
        client.send(request).await;
        client.answer().await
    }

    /// `GET` with these further header lines (each with its line end).
    pub(crate) async fn get(&self, path: &str, lines: &str) -> Answer {
        self.ask(&get(path, lines)).await
    }

    /// What the origin has read so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests the origin has read.
    pub(crate) fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// What its timeline says, an entry a line: what, and why.
    pub(crate) fn timeline(&self) -> Vec<String> {
        let entries = self.entries().into_iter();
        let shown = entries.map(|entry| format!("{}: {}", entry.what, entry.text));
        shown.collect()
    }

    /// Purges URIs; how many objects that freed.
    pub(crate) fn purge(&self, uris: &[&str]) -> u64 {
        let targets = uris.iter().map(|uri| PurgeTarget::Uri((*uri).into()));
        let targets: Vec<PurgeTarget> = targets.collect();
        self.purge_targets(&targets)
    }

    /// Purges what an operator means by these, as the admin interface does.
    pub(crate) fn purge_targets(&self, wanted: &[PurgeTarget]) -> u64 {
        let rules = &self.node.stance().rules;
        let meant = wanted.iter().map(|one| rules.purge_targets(one).unwrap());
        let targets: Vec<PurgeTarget> = meant.flatten().collect();
        self.node.purge(&targets, &said()).covered.objects
    }

    pub(crate) fn purge_all(&self) {
        self.purge_targets(&[PurgeTarget::All]);
    }

    pub(crate) fn reload(&self, rules: Rules) {
        self.node.reload(rules, None, &said()).unwrap();
    }

    pub(crate) fn shut_down(&self) {
        self.stop.send_replace(true);
    }
}

fn config() -> Config {
    Config {
        name: "edge".into(),
        trusted: vec!["192.0.2.1".parse().unwrap()],
    }
}

/// A test's own word.
pub(crate) fn said() -> Said {
    Said::by_node("a test")
}

/// A `GET` request.
pub(crate) fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{lines}\r\n")
}

fn new_disk() -> MemoryDisk {
    MemoryDisk::new(1 << 30)
}

const TIMELINE: &str = "/timeline";

fn found(timeline: &MemoryDisk) -> Vec<Found> {
    let disk: Arc<dyn Disk> = Arc::new(timeline.clone());
    chronicle::read(&disk, Path::new(TIMELINE)).unwrap()
}

/// What is on the timeline of a node that has it on this disk.
pub(crate) fn entries(timeline: &MemoryDisk) -> Vec<Entry> {
    let entries = found(timeline).into_iter().map(|found| match found {
        Found::Entry(placed) => placed.entry,
        Found::Damage(what) => panic!("{what}"),
    });
    entries.collect()
}

/// What a node goes on with that finds this timeline.
pub(crate) fn kept(timeline: &MemoryDisk, now: UnixMillis) -> Kept {
    kept_in(timeline, Mode::Open, now)
}

/// The same; `mode`: for a timeline on which there is nothing yet.
fn kept_in(timeline: &MemoryDisk, mode: Mode, now: UnixMillis) -> Kept {
    let disk = Arc::new(timeline.clone());
    let run = Run::unsigned("edge", BootId([0; 16]));
    let opened = Chronicle::open(disk, Path::new(TIMELINE), &run, false, now).unwrap();
    Kept {
        beginning: opened.state.begin(opened.knowledge, mode, now),
        chronicle: opened.chronicle,
        node_key: NodeKey::new([7; 32]),
    }
}

/// The node's end of a pipe, which knows whether it was reset.
struct Pipe {
    io: DuplexStream,
    reset: Arc<AtomicBool>,
}

impl Downstream for Pipe {
    fn reset(&mut self) {
        self.reset.store(true, Ordering::SeqCst);
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A client's end of a connection.
pub(crate) struct Client {
    wire: DuplexStream,
    /// Whether the node has reset it.
    pub(crate) reset: Arc<AtomicBool>,
    buffer: Vec<u8>,
}

/// A response as a client read it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// The connection ended before the response did.
    pub(crate) cut: bool,
}

impl Answer {
    /// A header field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// What `Cache-Status` says.
    pub(crate) fn cache(&self) -> &str {
        self.field("cache-status").unwrap_or("")
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &str) {
        self.wire.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut more = [0; 16 << 10];
        let read = timeout(Duration::from_secs(600), self.wire.read(&mut more)).await;
        match read.expect("an answer, or an end, within ten minutes") {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&more[..n]);
                true
            }
        }
    }

    /// The next response, interim ones left out.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            let end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                    break end + 4;
                }
                if !self.more().await {
                    let head = String::from_utf8_lossy(&self.buffer).into_owned();
                    return Answer {
                        status: 0,
                        head,
                        body: String::new(),
                        cut: true,
                    };
                }
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end);
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            if status < 200 {
                continue;
            }
            let mut answer = Answer {
                status,
                head,
                body: String::new(),
                cut: false,
            };
            if status != 304 && status != 204 {
                self.body(&mut answer).await;
            }
            return answer;
        }
    }

    async fn body(&mut self, answer: &mut Answer) {
        if answer.field("transfer-encoding") == Some("chunked") {
            loop {
                let Some(end) = find(&self.buffer, b"\r\n") else {
                    if !self.more().await {
                        answer.cut = true;
                        return;
                    }
                    continue;
                };
                let size = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let size = usize::from_str_radix(&size, 16).unwrap();
                let whole = end + 2 + size + 2;
                while self.buffer.len() < whole {
                    if !self.more().await {
                        answer.cut = true;
                        return;
                    }
                }
                answer.body += &String::from_utf8_lossy(&self.buffer[end + 2..end + 2 + size]);
                self.buffer.drain(..whole);
                if size == 0 {
                    return;
                }
            }
        }
        let length: Option<usize> = answer.field("content-length").map(|l| l.parse().unwrap());
        while length.is_none_or(|length| self.buffer.len() < length) {
            if !self.more().await {
                answer.cut = length.is_some() || self.reset.load(Ordering::SeqCst);
                break;
            }
        }
        let take = length.unwrap_or(usize::MAX).min(self.buffer.len());
        answer.body = String::from_utf8_lossy(&self.buffer[..take]).into_owned();
        self.buffer.drain(..take);
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

impl Client {
    /// Sends no more.
    pub(crate) async fn half_close(&mut self) {
        self.wire.shutdown().await.unwrap();
    }

    /// Everything until the connection ends, which it does within this time.
    pub(crate) async fn rest_within(&mut self, time: Duration) -> String {
        let mut rest = std::mem::take(&mut self.buffer);
        let reading = self.wire.read_to_end(&mut rest);
        drop(timeout(time, reading).await.expect("it ends in time"));
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// The next response head, interim or not.
    pub(crate) async fn interim(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                return String::from_utf8_lossy(&self.buffer.drain(..end + 4).collect::<Vec<_>>())
                    .into_owned();
            }
            assert!(self.more().await, "the connection ended");
        }
    }
}
