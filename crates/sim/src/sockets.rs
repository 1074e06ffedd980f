//! The same schedules over real sockets: one request after the other, the edge behind a listener, the
//! origins behind theirs. The clock stands and is set at each step, so nothing needs to be masked.
//!
//! For: what pipes in memory do not have, resets and half-sent segments among them. Never: overlap,
//! since a real network would decide ties anew each time. The simulated world has that.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shikiri_edge::world::{Connecting, Wire};
use shikiri_edge::{Node, Transport, Worker, World, serve_connection};
use shikiri_evidence::MemoryDisk;
use shikiri_record::UnixMillis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::batch::secrets;
use crate::check::{self, Exchange, Finding};
use crate::origin::{Asked, Origins};
use crate::rng::mix;
use crate::schedule::{Action, Control, Keeping, Request, Schedule, Step};
use crate::secret::Secrets;
use crate::wire::{self, Response};
use crate::world::{Clock, Wall, body, config, evidence, operate, rules};

/// How long anything may take here. Nothing in these schedules waits on purpose.
const PATIENCE: Duration = Duration::from_secs(10);
/// An address that [`config`] trusts.
const BELIEVED: [u8; 4] = [10, 0, 1, 1];

struct SocketWorld {
    now: Arc<AtomicU64>,
    wall: Wall,
    random: AtomicU64,
    origins: [SocketAddr; 2],
}

impl World for SocketWorld {
    fn connect(&self, host: &str, _port: u16) -> Connecting {
        let address = self.origins[usize::from(host == "o2.test")];
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn now(&self) -> UnixMillis {
        self.wall.followed(self.now.load(Ordering::Relaxed))
    }

    fn random(&self) -> u64 {
        mix(self.random.fetch_add(1, Ordering::Relaxed))
    }

    fn clock_jump(&self) -> Option<Duration> {
        self.wall.follow()
    }
}

/// Runs a schedule twice over sockets and judges both runs. Returns how many requests were hits.
pub(crate) fn judge(schedule: &Schedule) -> (u64, Result<(), Finding>) {
    // Everybody comes in cleartext and speaks HTTP/1 here.
    let mut schedule = schedule.clone();
    for client in &mut schedule.clients {
        client.secure = None;
    }
    let schedule = &schedule;
    let went = |variant| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(network)?;
        runtime.block_on(running(schedule, secrets(schedule, variant)))
    };
    let both = went(0).and_then(|one| went(1).map(|other| (one, other)));
    match both {
        Err(finding) => (0, Err(finding)),
        Ok((one, other)) => {
            let judged = check::two_exchanges(&one.exchanges, &other.exchanges)
                .and_then(|()| check::exchanged(schedule, &one.exchanges, &one.asked))
                .and_then(|()| check::exchanged(schedule, &other.exchanges, &other.asked));
            (one.hits, judged)
        }
    }
}

fn network(error: io::Error) -> Finding {
    Finding {
        checker: "sockets",
        what: format!("the network of this machine: {error}"),
    }
}

struct Went<'a> {
    exchanges: Vec<Exchange<'a>>,
    asked: Vec<Asked>,
    hits: u64,
}

/// What is done next.
enum Next<'a> {
    Step(usize, &'a Step),
    Control(&'a Control),
}

async fn running(schedule: &Schedule, secrets: Secrets) -> Result<Went<'_>, Finding> {
    let now = Arc::new(AtomicU64::new(0));
    let clock = Clock::Set(Arc::clone(&now));
    let origins = Origins::new(
        schedule.seed,
        schedule.fault_percent,
        schedule.veto_percent,
        true,
    );
    let mut addresses = Vec::new();
    for host in ["o1.test", "o2.test"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(network)?;
        addresses.push(listener.local_addr().map_err(network)?);
        let (origins, clock) = (Arc::clone(&origins), clock.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&origins).serve(host, stream, clock.clone()));
            }
        });
    }
    let world = Arc::new(SocketWorld {
        now: Arc::clone(&now),
        wall: Wall::default(),
        random: AtomicU64::new(mix(schedule.seed)),
        origins: [addresses[0], addresses[1]],
    });
    let rules = rules(schedule);
    let evidence = evidence(&MemoryDisk::new(Keeping::AMPLE), schedule.keeping);
    let node = Node::new(
        config(),
        rules[0].clone(),
        Arc::clone(&world) as Arc<dyn World>,
        evidence,
    );
    let worker = Worker::new(Arc::clone(&node)).expect("a disk in memory has room");
    let workers = [Arc::clone(&worker)];
    let edge = TcpListener::bind("127.0.0.1:0").await.map_err(network)?;
    let address = edge.local_addr().map_err(network)?;
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((stream, client)) = edge.accept().await {
            // Whoever comes is believed, as in the simulated world, when it names a scheme.
            let client = SocketAddr::from((BELIEVED, client.port()));
            let (worker, stopped) = (Arc::clone(&worker), stopped.clone());
            tokio::spawn(async move {
                serve_connection(&worker, stream, Transport::plain(client), stopped).await;
            });
        }
    });

    let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
    let mut exchanges = Vec::new();
    for (at, next) in in_order(schedule) {
        now.store(at, Ordering::Relaxed);
        match next {
            Next::Control(control) => {
                operate(&control.what, &node, &workers, &rules, &world.wall).await;
            }
            Next::Step(client, step) => match &step.action {
                Action::Abort => drop(connections.remove(&client)),
                Action::HalfClose | Action::Body { .. } | Action::Reset(_) => {}
                Action::Send(request) => {
                    let mut connection = match connections.remove(&client) {
                        Some(connection) => connection,
                        None => {
                            Connection::new(TcpStream::connect(address).await.map_err(network)?)
                        }
                    };
                    let response = connection.exchange(request, secrets).await?;
                    // The edge lingers for a while on a connection that its client keeps.
                    if !connection.ended {
                        connections.insert(client, connection);
                    }
                    exchanges.push(Exchange {
                        client,
                        at,
                        over: at,
                        request,
                        response,
                    });
                }
            },
        }
        rests(&node).await?;
    }
    Ok(Went {
        exchanges,
        asked: origins.asked(),
        hits: node.counts().hits,
    })
}

/// All that a schedule says, one after the other.
fn in_order(schedule: &Schedule) -> Vec<(u64, Next<'_>)> {
    let controls = schedule.controls.iter().map(|c| (c.at, Next::Control(c)));
    let steps = schedule.clients.iter().enumerate().flat_map(|(n, client)| {
        client
            .steps
            .iter()
            .map(move |step| (step.at, Next::Step(n, step)))
    });
    let mut all: Vec<_> = controls.chain(steps).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

/// Waits until the edge has nothing left to do: what it stores behind an answer is stored.
async fn rests(node: &Node) -> Result<(), Finding> {
    let resting = async {
        while node.counts().running + node.counts().filling > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, resting).await.map_err(|_| Finding {
        checker: "patience",
        what: "the edge does not come to rest".to_owned(),
    })
}

/// A client's connection to the edge.
struct Connection {
    stream: TcpStream,
    got: Vec<u8>,
    head_only: Vec<bool>,
    ended: bool,
}

impl Connection {
    const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            got: Vec::new(),
            head_only: Vec::new(),
            ended: false,
        }
    }

    /// Sends a request and reads its answer, or the end of the connection.
    async fn exchange(
        &mut self,
        request: &Request,
        secrets: Secrets,
    ) -> Result<Option<Response>, Finding> {
        let wrong = |checker, what| Err(Finding { checker, what });
        let mut bytes = request.bytes(secrets);
        if let Some(text) = request.body.as_ref().filter(|_| request.body_later) {
            bytes.extend(body(text, request.who, request.chunked, secrets));
        }
        self.head_only.push(request.method == "HEAD");
        // A connection that is being closed says so when it is read.
        self.ended |= self.stream.write_all(&bytes).await.is_err();
        let mut piece = vec![0; 16 << 10];
        loop {
            let mut answers = match wire::responses(&self.got, &self.head_only, self.ended) {
                Ok(answers) => answers,
                Err(why) => return wrong("framing", format!("request {}: {why}", request.id)),
            };
            if answers.len() == self.head_only.len()
                && answers.last().is_some_and(|last| last.whole)
            {
                return Ok(answers.pop());
            }
            if self.ended {
                let has_begun = answers.len() == self.head_only.len();
                return Ok(if has_begun { answers.pop() } else { None });
            }
            match timeout(PATIENCE, self.stream.read(&mut piece)).await {
                Ok(Ok(count)) if count > 0 => self.got.extend_from_slice(&piece[..count]),
                Ok(_) => self.ended = true,
                Err(_) => {
                    return wrong("patience", format!("request {} waits for ever", request.id));
                }
            }
        }
    }
}
