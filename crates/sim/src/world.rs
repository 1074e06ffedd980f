//! One run of a schedule: the edge's own code between simulated clients and simulated origins, on a
//! clock that moves only when nobody has anything left to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shikiri_edge::evidence::{EvidenceSettings, Told};
use shikiri_edge::transport::{ServedNames, Tls};
use shikiri_edge::world::{Connecting, Wire};
use shikiri_edge::{
    Config, Counts, Evidence, Node, OnFull, Said, Transport, Worker, World, serve_connection,
};
use shikiri_evidence::{BootId, Cut, MemoryDisk, Run};
use shikiri_partition::{ClientCertificate, Rules, Secret, SecretSource, policy};
use shikiri_record::{PolicyText, TagKey, UnixMillis};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::http2::{self, Notes, Stream};
use crate::origin::{Asked, Origins};
use crate::pipe::Pipe;
use crate::policy::SECRET;
use crate::rng::mix;
use crate::rows::TAG_KEY;
use crate::schedule::{
    Action, Client, Disk, Keeping, Outage, Protocol, Schedule, What, framed, rendered,
};
use crate::secret::{Secrets, Who, certificate};

/// When every run begins: 2023-11-14T22:13:20Z.
pub(crate) const BEGINNING_MS: u64 = 1_700_000_000_000;

/// How long after the last step a run goes on: longer than all time limits of the edge together, for
/// each of the requests that wait for one another on a connection.
const AFTER_MS: u64 = 1_200_000;

/// Milliseconds since the run began.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// Simulated: moves by itself when nobody has anything left to do.
    Turned(Instant),
    /// Stands until it is set.
    Set(Arc<AtomicU64>),
}

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Turned(start) => {
                u64::try_from(start.elapsed().as_millis()).expect("runs are short")
            }
            Self::Set(now) => now.load(Ordering::Relaxed),
        }
    }

    pub(crate) async fn sleep_until(&self, at: u64) {
        if let Self::Turned(start) = self
            && at > self.now()
        {
            tokio::time::sleep_until(*start + Duration::from_millis(at)).await;
        }
    }
}

/// The clock on the wall. It may jump; a node follows when it is asked to look.
#[derive(Debug, Default)]
pub(crate) struct Wall {
    ahead_ms: AtomicI64,
    followed_ms: AtomicI64,
}

impl Wall {
    pub(crate) fn jump(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// The time as the node has it, so long after the beginning.
    pub(crate) fn followed(&self, elapsed_ms: u64) -> UnixMillis {
        let followed = self.followed_ms.load(Ordering::Relaxed);
        let now = (BEGINNING_MS + elapsed_ms).checked_add_signed(followed);
        UnixMillis(now.expect("a schedule's jumps are days, the beginning is decades"))
    }

    /// How far the wall is from what the node has; it follows.
    pub(crate) fn follow(&self) -> Option<Duration> {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        let away = ahead.abs_diff(self.followed_ms.swap(ahead, Ordering::Relaxed));
        (away > 0).then(|| Duration::from_millis(away))
    }
}

/// What one run showed.
#[derive(Debug)]
pub(crate) struct Seen {
    /// One for each client of the schedule.
    pub(crate) clients: Vec<Got>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) counts: Counts,
    pub(crate) origin_connections: u32,
    pub(crate) secrets: Secrets,
    /// The disk with the evidence, at the end.
    pub(crate) disk: MemoryDisk,
    /// The same as it was at one instant: what a node that is killed then leaves.
    pub(crate) killed: Option<(u64, MemoryDisk)>,
}

/// What a client got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Got {
    /// Bytes and when they came; those of one instant are together.
    pub(crate) pieces: Vec<(u64, Vec<u8>)>,
    /// When the edge ended the connection.
    pub(crate) ended: Option<u64>,
    /// The edge cut it: its end ends nothing.
    pub(crate) reset: bool,
    /// On HTTP/2: what came in answer to each request.
    pub(crate) streams: BTreeMap<u32, Stream>,
    /// On HTTP/2: what was wrong with the connection, as one side told the other.
    pub(crate) broken: Option<String>,
}

impl Got {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.pieces
            .iter()
            .flat_map(|(_, piece)| piece)
            .copied()
            .collect()
    }

    /// Notes some bytes that came.
    pub(crate) fn read(&mut self, now: u64, came: &[u8]) {
        match self.pieces.last_mut() {
            Some((at, bytes)) if *at == now => bytes.extend_from_slice(came),
            _ => self.pieces.push((now, came.to_vec())),
        }
    }
}

/// Compiles a policy's text.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile(text: &str) -> Result<Rules, String> {
    let text = PolicyText {
        source: "schedule".to_owned(),
        text: text.to_owned(),
    };
    let rules = policy::compile(Some(&text), None).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let secret = Secret::new(b"the-edge-s-own-credential").expect("it is long enough");
    let source = SecretSource::Environment(SECRET.to_owned());
    Ok(rules.armed(&BTreeMap::from([(source, secret)])))
}

struct SimWorld {
    clock: Clock,
    wall: Wall,
    random: AtomicU64,
    origins: Arc<Origins>,
    outages: Vec<Outage>,
    pipe_bytes: usize,
}

impl World for SimWorld {
    fn connect(&self, host: &str, _port: u16) -> Connecting {
        let now = self.clock.now();
        let down = self
            .outages
            .iter()
            .find(|o| o.host == host && (o.from..o.until).contains(&now));
        if let Some(outage) = down {
            return if outage.hangs {
                Box::pin(std::future::pending())
            } else {
                Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) })
            };
        }
        let host = if host == "o2.test" {
            "o2.test"
        } else {
            "o1.test"
        };
        let (ours, theirs) = tokio::io::duplex(self.pipe_bytes);
        tokio::spawn(Arc::clone(&self.origins).serve(host, theirs, self.clock.clone()));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Wire>) })
    }

    fn now(&self) -> UnixMillis {
        self.wall.followed(self.clock.now())
    }

    fn random(&self) -> u64 {
        mix(self.random.fetch_add(1, Ordering::Relaxed))
    }

    fn clock_jump(&self) -> Option<Duration> {
        self.wall.follow()
    }
}

/// Runs a schedule with some secrets. `rules`: those of its policies.
pub(crate) fn run(schedule: &Schedule, rules: &[Rules], secrets: Secrets) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(running(schedule, rules, secrets))
}

async fn running(schedule: &Schedule, rules: &[Rules], secrets: Secrets) -> Seen {
    let clock = Clock::Turned(Instant::now());
    let origins = Origins::new(
        schedule.seed,
        schedule.fault_percent,
        schedule.veto_percent,
        false,
    );
    let world = Arc::new(SimWorld {
        clock: clock.clone(),
        wall: Wall::default(),
        random: AtomicU64::new(mix(schedule.seed ^ 0x4a4d)),
        origins: Arc::clone(&origins),
        outages: schedule.outages.clone(),
        pipe_bytes: schedule.origin_pipe_bytes,
    });
    let disk = MemoryDisk::new(schedule.keeping.bytes);
    let evidence = evidence(&disk, schedule.keeping);
    let node = Node::new(
        config(),
        rules[0].clone(),
        Arc::clone(&world) as Arc<dyn World>,
        evidence,
    );
    let workers: Vec<Arc<Worker>> = (0..schedule.workers)
        .map(|_| Worker::new(Arc::clone(&node)).expect("a disk in memory has room"))
        .collect();
    let (_stop, stopped) = watch::channel(false);
    let logs: Vec<Arc<Mutex<Got>>> = schedule.clients.iter().map(|_| Arc::default()).collect();
    let mut resets = Vec::new();
    for (client, log) in schedule.clients.iter().zip(&logs) {
        let (ours, theirs) = tokio::io::duplex(client.pipe_bytes);
        let reset = Arc::new(AtomicBool::new(false));
        let theirs = Pipe::new(theirs, Arc::clone(&reset));
        resets.push(reset);
        let worker = Arc::clone(&workers[client.worker % workers.len()]);
        let stopped = stopped.clone();
        let transport = transport(client, secrets);
        let first_at = client.steps.first().map_or(0, |step| step.at);
        let begins = clock.clone();
        tokio::spawn(async move {
            // A connection comes with its first request.
            begins.sleep_until(first_at).await;
            serve_connection(&worker, theirs, transport, stopped).await;
        });
        let (client, clock, log) = (client.clone(), clock.clone(), Arc::clone(log));
        tokio::spawn(async move {
            match client.protocol {
                Protocol::Http1 => acting(ours, client, secrets, clock, log).await,
                Protocol::Http2 => {
                    http2::acting(ours, &client, secrets, Notes { clock, got: log }).await;
                }
            }
        });
    }
    let mut killed = None;
    for control in &schedule.controls {
        clock.sleep_until(control.at).await;
        match control.what {
            What::Disk(Disk::Fails) => disk.fail_writes_after(Some(20)),
            What::Disk(Disk::Works) => disk.fail_writes_after(None),
            What::Disk(Disk::Holds(bytes)) => disk.resize(bytes),
            What::Copy => killed = Some((control.at, disk.copied())),
            _ => operate(&control.what, &node, &workers, rules, &world.wall).await,
        }
    }
    clock.sleep_until(schedule.last_at() + AFTER_MS).await;
    // In the end there is space for what could not be told before.
    disk.fail_writes_after(None);
    disk.resize(u64::MAX);
    for _ in 0..2 {
        tend(&node);
    }
    let got = logs.iter().zip(&resets).map(|(log, reset)| Got {
        reset: reset.load(Ordering::Relaxed),
        ..lock(log).clone()
    });
    Seen {
        clients: got.collect(),
        asked: origins.asked(),
        counts: node.counts(),
        origin_connections: origins.connections(),
        secrets,
        disk,
        killed,
    }
}

/// Evidence on a disk in memory, in the shortest segments.
pub(crate) fn evidence(disk: &MemoryDisk, keeping: Keeping) -> Evidence {
    let settings = EvidenceSettings {
        cut: Cut {
            segment_bytes: Keeping::SEGMENT_BYTES,
            ..EvidenceSettings::STANDARD.cut
        },
        on_full: if keeping.passes {
            OnFull::Pass
        } else {
            OnFull::Refuse
        },
        ..EvidenceSettings::STANDARD
    };
    let opened = Evidence::open(
        Arc::new(disk.clone()),
        Path::new("/evidence"),
        &Run::unsigned("edge-sim", BootId([1; 16])),
        TagKey::new(TAG_KEY),
        settings,
        UnixMillis(BEGINNING_MS),
    );
    opened.expect("an empty disk in memory can be read").0
}

/// Looks after the evidence, as its keeper does all the time.
fn tend(node: &Node) {
    let nobody: Told = Box::new(|_| {});
    node.tend_evidence(&nobody);
}

/// Does what an operator does.
pub(crate) async fn operate(
    what: &What,
    node: &Arc<Node>,
    workers: &[Arc<Worker>],
    rules: &[Rules],
    wall: &Wall,
) {
    let said = Said::by_node("the schedule says so");
    match what {
        What::Jump(by_ms) => wall.jump(*by_ms),
        What::Disk(_) | What::Copy => {}
        What::Purge(wanted) => {
            let targets = node.stance().rules.purge_targets(wanted);
            node.purge(&targets.expect("a schedule's targets are targets"), &said);
        }
        What::Reload(n) => {
            let reloaded = node.reload(rules[*n].clone(), None, &said);
            reloaded.expect("nothing is kept, so nothing fails");
        }
        What::Mode(mode) => {
            let taken = node.change_mode(*mode, None, &said).await;
            let taken = taken.expect("nothing is kept, so nothing fails");
            if let Some(closed) = taken.closed {
                assert!(
                    closed.behind == 0 && closed.took < Duration::from_secs(1),
                    "it is said to be closed when it is: {closed:?}"
                );
            }
        }
        What::Sweep => {
            for worker in workers {
                worker.sweep();
            }
            node.maintain();
            tend(node);
        }
    }
}

/// The rules of a schedule's policies.
pub(crate) fn rules(schedule: &Schedule) -> Vec<Rules> {
    let compiled = schedule.policies.iter().map(|policy| compile(&policy.text));
    compiled
        .map(|rules| rules.expect("a schedule's policies compile"))
        .collect()
}

pub(crate) fn config() -> Config {
    Config {
        name: "edge-sim".to_owned(),
        // Every third client may ask why.
        trusted: vec!["10.0.1.0/24".parse().expect("a network")],
    }
}

fn transport(client: &Client, secrets: Secrets) -> Transport {
    let address = SocketAddr::from((client.address, 40_000));
    let plain = match client.protocol {
        Protocol::Http1 => Transport::plain(address),
        Protocol::Http2 => Transport::plain_http2(address),
    };
    let tls = client.secure.map(|secure| {
        let certificate = secure.certificate.map(|who| certificate(who, secrets));
        Tls {
            names: ServedNames::Sent(secure.name.into()),
            certificate: certificate.map(|der| Arc::new(ClientCertificate::new(&der))),
        }
    });
    Transport { tls, ..plain }
}

fn lock(log: &Mutex<Got>) -> std::sync::MutexGuard<'_, Got> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client: writes what its steps say when they say it, and reads what comes.
async fn acting(
    io: DuplexStream,
    client: Client,
    secrets: Secrets,
    clock: Clock,
    log: Arc<Mutex<Got>>,
) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let reading = async {
        let mut piece = vec![0; 8192];
        clock.sleep_until(client.reads_from).await;
        loop {
            let count = reader.read(&mut piece).await.unwrap_or(0);
            let mut log = lock(&log);
            let now = clock.now();
            if count == 0 {
                log.ended = Some(now);
                return;
            }
            log.read(now, &piece[..count]);
        }
    };
    let writing = async {
        for step in &client.steps {
            clock.sleep_until(step.at).await;
            // A connection that the edge has closed takes nothing more; the reader sees its end.
            let written = match &step.action {
                Action::Send(request) => writer.write_all(&request.bytes(secrets)).await,
                Action::Body {
                    who, text, chunked, ..
                } => writer.write_all(&body(text, *who, *chunked, secrets)).await,
                Action::Reset(_) => Ok(()),
                Action::HalfClose => writer.shutdown().await,
                Action::Abort => return,
            };
            if written.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = reading => {}
        () = writing => {}
    }
}

pub(crate) fn body(text: &str, who: Who, chunked: bool, secrets: Secrets) -> Vec<u8> {
    framed(&rendered(text, who, secrets), chunked)
}
