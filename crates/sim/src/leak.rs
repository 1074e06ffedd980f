//! An edge that leaks on purpose, over sockets: what its rows say of who saw whose is what clients received.
//!
//! The origin renders each page for whoever's cookie it is shown. With the fault, shared fetches carry their
//! requester's cookie, and everybody is shown the page of whoever asked first. Clients note what they read: whose page
//! it was, and how much of it came; some leave in the middle, some bodies break off, and in some runs the site is
//! closed while they are sent.
//!
//! Never here: a look at the store or at a flight. The truth is bytes from sockets, and the answer is made of rows
//! alone, as `shikiri infer --evidence` makes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shikiri_edge::evidence::Told;
use shikiri_edge::world::{Connecting, Wire};
use shikiri_edge::{Node, Said, Transport, Worker, World, serve_connection};
use shikiri_evidence::{Disk, Item, MemoryDisk, Reader, lane_number};
use shikiri_incident::access::{Edge, Person};
use shikiri_incident::infer::{Exposes, Gather, Grade, OriginLog};
use shikiri_incident::own::{Doubt, FirstReading, Reading, site};
use shikiri_partition::fault::{self, Fault};
use shikiri_record::{End, Ended, Mode, Row, UnixMillis, ViewerTag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::rng::Rng;
use crate::rows::{Tag, tag};
use crate::schedule::Keeping;
use crate::world::{BEGINNING_MS, compile, config, evidence};

const POLICY: &str = r#"version = 1
[[origin]]
hosts = ["*"]
url = "http://origin.test:8080"
[session]
cookies = ["sid"]
[[class]]
name = "mypage"
match = { paths = ["/mypage/**"] }
to = "everyone"
types = ["text/plain", "text/css"]
lifetime = { max = "1h" }
object_bytes_max = "4 MiB"
"#;

const MEMBERS: usize = 12;
const REQUESTS: usize = 80;
/// Of each kind: one that comes whole, one that comes in two parts, one that breaks off in the middle.
const PAGES: [&str; 6] = [
    "whole/1", "whole/2", "parts/1", "parts/2", "broken/1", "broken/2",
];

/// A style sheet leaves as it comes (a page is held back until it is known whole), and its second half comes so late that a closing finds it on its way.
const SHEETS: [&str; 2] = ["sheet/1", "sheet/2"];
const LATE: Duration = Duration::from_millis(400);

/// When the site is closed, in a run in which it is: requests come in the first half second.
const CLOSED_AFTER: Duration = Duration::from_millis(300);

/// A page is so many lines of 16 bytes, each of which says whose it is.
const LINES: usize = 4096;
const LINE_BYTES: usize = 16;

const PATIENCE: Duration = Duration::from_secs(10);

/// What one client received.
#[derive(Debug)]
struct Received {
    viewer: String,
    /// Whose page it was; `None` where it was the edge's own answer, since the origin's broke off or the site is closed,
    /// or where nothing of a page came before it was cut off.
    owner: Option<String>,
    body_bytes: u64,
    is_whole: bool,
}

struct RealWorld {
    origin: SocketAddr,
    began: Instant,
    random: AtomicU64,
}

impl World for RealWorld {
    fn connect(&self, _host: &str, _port: u16) -> Connecting {
        let origin = self.origin;
        Box::pin(async move {
            let stream = TcpStream::connect(origin).await?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn now(&self) -> UnixMillis {
        let passed = u64::try_from(self.began.elapsed().as_millis()).expect("it is short");
        UnixMillis(BEGINNING_MS + passed)
    }

    fn random(&self) -> u64 {
        crate::rng::mix(self.random.fetch_add(1, Ordering::Relaxed))
    }

    fn clock_jump(&self) -> Option<Duration> {
        None
    }
}

fn page(owner: &str) -> Vec<u8> {
    let line = format!("of {owner:<12}\n");
    assert_eq!(line.len(), LINE_BYTES, "a line has its length");
    line.repeat(LINES).into_bytes()
}

/// Renders a page for whoever's cookie it is shown.
async fn render(mut stream: TcpStream) -> std::io::Result<()> {
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(ends) = got.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&got[..ends]).to_ascii_lowercase();
            got.drain(..ends + 4);
            let sid = head.split("sid=").nth(1);
            let sid = sid.and_then(|rest| rest.split([';', '\r', ' ']).next());
            let body = page(sid.unwrap_or("nobody"));
            let (kind, late) = match head.contains("/sheet/") {
                true => ("text/css", LATE),
                false => ("text/plain", Duration::from_millis(60)),
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: public, max-age=600\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            let (first, rest) = body.split_at(body.len() / 2);
            stream.write_all(answer.as_bytes()).await?;
            stream.write_all(first).await?;
            if !head.contains("/whole/") {
                stream.flush().await?;
                sleep(late).await;
            }
            if head.contains("/broken/") {
                return Ok(());
            }
            stream.write_all(rest).await?;
        }
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            count => got.extend_from_slice(&piece[..count]),
        }
    }
}

/// Asks for a page and reads so much of it, or what comes.
async fn ask(edge: SocketAddr, path: &str, viewer: String, wants: usize) -> Received {
    let mut stream = TcpStream::connect(edge).await.expect("the edge listens");
    let request =
        format!("GET /mypage/{path} HTTP/1.1\r\nHost: shop.test\r\nCookie: sid={viewer}\r\n\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("the edge reads");
    let (mut got, mut piece) = (Vec::new(), vec![0; 8192]);
    let body = loop {
        let head_ends = got.windows(4).position(|it| it == b"\r\n\r\n");
        let body = head_ends.map_or(0, |ends| got.len() - ends - 4);
        if body >= wants || head_ends.is_some() && !got.starts_with(b"HTTP/1.1 200") {
            break body;
        }
        let read = timeout(PATIENCE, stream.read(&mut piece)).await;
        let read = read.unwrap_or_else(|_| {
            let got = String::from_utf8_lossy(got.get(..got.len().min(400)).unwrap_or_default());
            panic!("{path} is not answered: {body} bytes of a body, and {got}")
        });
        match read {
            Ok(count) if count > 0 => got.extend_from_slice(&piece[..count]),
            Ok(_) | Err(_) => break body,
        }
    };
    let text = String::from_utf8_lossy(&got[got.len() - body..]).into_owned();
    let owner = text
        .strip_prefix("of ")
        .and_then(|it| it.split_whitespace().next());
    let is_page = got.starts_with(b"HTTP/1.1 200") && body > 0;
    assert_eq!(is_page, owner.is_some(), "{path} was answered with {text}");
    Received {
        viewer,
        owner: owner.map(str::to_owned),
        body_bytes: u64::try_from(body).expect("it is short"),
        is_whole: body == LINES * LINE_BYTES,
    }
}

/// The address that a client is taken to come from: one for each request.
fn address(request: usize) -> [u8; 4] {
    let low = u8::try_from(request % 250).expect("it is below 250");
    let high = u8::try_from(request / 250).expect("there are few");
    [10, 2, high, low]
}

/// Whether the site is closed while members ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Never,
    Amid,
}

/// Lets members ask an edge; returns what each received, and the disk with the rows.
async fn asked(seed: u64, closing: Closing) -> (Vec<Received>, MemoryDisk) {
    let origin = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let world = Arc::new(RealWorld {
        origin: origin.local_addr().expect("it listens"),
        began: Instant::now(),
        random: AtomicU64::new(seed),
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = origin.accept().await {
            tokio::spawn(render(stream));
        }
    });
    let disk = MemoryDisk::new(Keeping::AMPLE);
    let keeping = Keeping {
        bytes: Keeping::AMPLE,
        passes: false,
    };
    let rules = compile(POLICY).expect("the policy compiles");
    let node = Node::new(config(), rules, world, evidence(&disk, keeping));
    let worker = Worker::new(Arc::clone(&node)).expect("a disk in memory has room");
    let (_stop, stopped) = watch::channel(false);
    let mut rng = Rng::new(seed);
    let mut clients = Vec::new();
    for request in 0..REQUESTS {
        // A listener for each: its clients are taken to come from an address of their own.
        let edge = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let at = edge.local_addr().expect("it listens");
        let (worker, stopped) = (Arc::clone(&worker), stopped.clone());
        tokio::spawn(async move {
            let (stream, _) = edge.accept().await.expect("a client comes");
            let client = SocketAddr::from((address(request), 40_000));
            serve_connection(&worker, stream, Transport::plain(client), stopped).await;
        });
        let viewer = format!("u{}", rng.index(MEMBERS));
        let path = match closing {
            Closing::Amid if rng.percent(60) => rng.pick(&SHEETS),
            _ => rng.pick(&PAGES),
        };
        let wants = match rng.percent(30) {
            true => LINE_BYTES * (1 + rng.index(LINES / 4)),
            false => LINES * LINE_BYTES,
        };
        let waits = Duration::from_millis(rng.below(500));
        clients.push(tokio::spawn(async move {
            sleep(waits).await;
            ask(at, path, viewer, wants).await
        }));
    }
    if closing == Closing::Amid {
        sleep(CLOSED_AFTER).await;
        let why = Said::by_node("members report the pages of others");
        let taken = node.change_mode(Mode::Closed, None, &why).await;
        taken.expect("a mode can be lowered");
    }
    let mut received = Vec::new();
    for client in clients {
        received.push(client.await.expect("a client does not fail"));
    }
    let resting = async {
        while node.counts().running + node.counts().filling > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, resting)
        .await
        .expect("the edge comes to rest");
    let nobody: Told = Box::new(|_| {});
    for _ in 0..2 {
        node.tend_evidence(&nobody);
    }
    (received, disk)
}

/// Every row, with its lane, its number and its instant.
fn rows(disk: &MemoryDisk) -> Vec<(u32, u64, UnixMillis, Vec<u8>)> {
    let folder = Path::new("/evidence");
    let names = disk.names(folder).expect("it is in memory");
    let mut rows = Vec::new();
    for name in names {
        let Some(lane) = lane_number(&name) else {
            continue;
        };
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut reader = Reader::open(disk, &folder.join(&name)).expect("it is in memory");
        while let Some(item) = reader.next_item().expect("it is in memory") {
            match item {
                Item::Row(row) => rows.push((lane, row.sequence, row.at, row.body)),
                Item::Segment(..) => {}
                Item::Fault(fault) => panic!("{fault}"),
            }
        }
    }
    rows
}

/// What the rows say of one response.
#[derive(Debug)]
struct Rowed {
    viewer: Tag,
    grade: Grade,
    exposes: Exposes,
    owner: Option<Person>,
    end: End,
}

/// By the request.
fn told(disk: &MemoryDisk, doubt: &Doubt) -> BTreeMap<usize, Rowed> {
    let rows = rows(disk);
    let decoded: Vec<(u32, u64, UnixMillis, Row<'_>)> = rows
        .iter()
        .map(|(lane, sequence, at, body)| {
            let row = Row::decode(body).expect("it was written by this program");
            (*lane, *sequence, *at, row)
        })
        .collect();
    let mut first = FirstReading::default();
    for (_, _, at, row) in &decoded {
        first.row(row, *at);
    }
    let site = site([(Edge(0), first.log(true))].into());
    let reading = Reading {
        edge: Edge(0),
        first: &first,
        doubt,
    };
    let mut gather = Gather::new(&site, OriginLog::default(), 10_000).expect("there is room");
    for (_, _, at, row) in &decoded {
        if let Row::Begin(begin) = row
            && let Some(access) = reading.fetch(begin, *at)
        {
            gather.access(&access).expect("there is room");
        }
    }
    let known = gather.settle();
    let ends: BTreeMap<(u32, u64), End> = decoded
        .iter()
        .filter_map(|(lane, _, _, row)| match row {
            Row::End(end) => Some(((*lane, end.begin), *end)),
            _ => None,
        })
        .collect();
    let requests: BTreeMap<Tag, usize> = (0..REQUESTS)
        .map(|request| (tag(&[b"address", &address(request)]), request))
        .collect();
    let mut all = BTreeMap::new();
    for (lane, sequence, at, row) in &decoded {
        let Row::Begin(begin) = row else { continue };
        let Some((_, view)) = reading.view(&known, begin, *at) else {
            continue;
        };
        let told = Rowed {
            viewer: begin.viewer.expect("every client shows a session").0,
            grade: view.grade,
            exposes: view.exposes,
            owner: view
                .owners
                .first()
                .copied()
                .filter(|_| view.owners.len() == 1),
            end: ends[&(*lane, *sequence)],
        };
        let before = all.insert(requests[&begin.address.0], told);
        assert!(before.is_none(), "each request has one row");
    }
    all
}

fn run(seed: u64, planted: Option<Fault>, closing: Closing) -> (Vec<Received>, MemoryDisk) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    fault::set(planted);
    let went = runtime
        .expect("a runtime is made")
        .block_on(asked(seed, closing));
    fault::set(None);
    went
}

/// The sessions by their tags, as rows show them.
fn sessions(received: &[Received], told: &BTreeMap<usize, Rowed>) -> BTreeMap<Tag, String> {
    let mut sessions = BTreeMap::new();
    for (request, told) in told {
        let viewer = &received[*request].viewer;
        let known = sessions
            .entry(told.viewer)
            .or_insert_with(|| viewer.clone());
        assert_eq!(known, viewer, "a tag is one session's");
    }
    sessions
}

fn mypage() -> Doubt {
    Doubt::Classes(["mypage".to_owned()].into())
}

/// How often what happened in runs.
#[derive(Debug, Default)]
struct Counts {
    /// Somebody was shown another's page,
    pairs: usize,
    /// and not all of it,
    cut: usize,
    /// since the site was closed meanwhile.
    closed: usize,
    /// Nothing of a page was received,
    own: usize,
    /// and a row says that it may have been.
    unseen: usize,
}

/// Holds what rows say against what clients received.
fn compare(seed: u64, received: &[Received], disk: &MemoryDisk, counts: &mut Counts) {
    let all = told(disk, &mypage());
    let sessions = sessions(received, &all);
    let unseen = counts.unseen;
    for (request, got) in received.iter().enumerate() {
        let told = all.get(&request);
        let case = format!("seed {seed}, request {request}: {got:?} {told:?}");
        let Some(page_of) = &got.owner else {
            // An answer of our own has no row; what was cut off before it came has one that says so.
            if let Some(told) = told {
                assert_eq!(told.end.ended, Ended::Cut, "{case}");
                counts.unseen += 1;
            }
            counts.own += 1;
            continue;
        };
        let told = told.unwrap_or_else(|| panic!("it has a row: {case}"));
        assert!(told.grade <= Grade::Exact, "{case}");
        let Some(Person::Session(ViewerTag(owner))) = told.owner else {
            panic!("its owner is a session: {case}");
        };
        assert_eq!(sessions.get(&owner), Some(page_of), "{case}");
        let is_anothers = *page_of != got.viewer;
        assert_eq!(told.exposes == Exposes::Another, is_anothers, "{case}");
        assert_eq!(told.exposes == Exposes::No, !is_anothers, "{case}");
        // At most so many bytes: whoever left, or was cut off, had as many or fewer, whoever stayed had all.
        assert!(told.end.bytes >= got.body_bytes, "{case}");
        if got.is_whole {
            assert_eq!(told.end.ended, Ended::Complete, "{case}");
            assert_eq!(told.end.bytes, got.body_bytes, "{case}");
        }
        let was_closed = told.end.ended == Ended::Cut;
        if was_closed {
            let whole = u64::try_from(LINES * LINE_BYTES).expect("it is short");
            assert!(told.end.bytes < whole, "it did not come to its end: {case}");
        }
        counts.pairs += usize::from(is_anothers);
        counts.cut += usize::from(is_anothers && !got.is_whole);
        counts.closed += usize::from(is_anothers && was_closed);
    }
    let pages = received.iter().filter(|got| got.owner.is_some()).count();
    assert_eq!(
        all.len(),
        pages + counts.unseen - unseen,
        "seed {seed}: there are no other rows"
    );
}

#[test]
fn rows_of_an_edge_that_leaks_say_what_each_client_received() {
    let mut counts = Counts::default();
    for seed in 1..=3 {
        let (received, disk) = run(seed, Some(Fault::CookieInSharedFetch), Closing::Never);
        compare(seed, &received, &disk, &mut counts);
    }
    let Counts {
        pairs, cut, own, ..
    } = counts;
    assert!(pairs > 100 && cut > 20 && own < pairs, "{counts:?}");
    assert_eq!((counts.closed, counts.unseen), (0, 0), "{counts:?}");
}

/// Streams that a closing cuts are pairs as others are: how far they went is in their rows.
#[test]
fn rows_of_streams_that_a_closing_cuts_say_what_each_client_received() {
    let mut counts = Counts::default();
    for seed in 11..=13 {
        let (received, disk) = run(seed, Some(Fault::CookieInSharedFetch), Closing::Amid);
        compare(seed, &received, &disk, &mut counts);
    }
    assert!(
        counts.closed > 10 && counts.pairs > counts.closed,
        "{counts:?}"
    );
}

#[test]
fn an_edge_that_does_not_leak_shows_nobodys_pages_and_its_rows_name_no_pair() {
    let (received, disk) = run(1, None, Closing::Never);
    let owners = received.iter().filter_map(|got| got.owner.as_deref());
    assert!(owners.clone().count() > REQUESTS / 2, "{received:?}");
    assert!(
        owners.clone().all(|owner| owner == "nobody"),
        "{received:?}"
    );
    for (request, told) in told(&disk, &Doubt::Nothing) {
        assert_eq!(told.exposes, Exposes::No, "request {request}: {told:?}");
    }
}
