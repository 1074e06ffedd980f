//! The same through the whole edge, over pipes with simulated time: fewer members, real requests.
//!
//! What the origin is to do stands in each request (`X-Request-Id`, which says nothing of its sender).
//! A mix-up is planted by the client that knows that the edge has been told whose its session is; with
//! `action = "stop"` the client gets nothing of such an answer, and all of every other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shikiri_edge::world::{Connecting, Wire};
use shikiri_edge::{Evidence, Node, OnFull, Transport, Worker, World, serve_connection};
use shikiri_evidence::MemoryDisk;
use shikiri_record::UnixMillis;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::site::{Answer, Member, Sid, Site, Told, What, cookie};
use crate::rng::{Rng, mix};
use crate::wire::{self, field};
use crate::world::{BEGINNING_MS, compile, config};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) changes: u64,
    pub(crate) left: u64,
    pub(crate) planted: u64,
    pub(crate) stopped: u64,
    pub(crate) missed: Vec<String>,
    pub(crate) false_alarms: Vec<String>,
    /// What the edge counted.
    pub(crate) faults: u64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "through the edge: {} requests, {} of them logins, logouts and account switches ({} clients left); {} \
             planted mix-ups, {} stopped; {} false alarms",
            self.requests,
            self.changes,
            self.left,
            self.planted,
            self.stopped,
            self.false_alarms.len(),
        )
    }
}

const STRANGERS_FROM: Member = 1 << 40;
/// How long a lost answer may have an effect.
const LOST_MS: u64 = 60_000;

/// The world around the edge: one honest origin.
struct SiteWorld {
    site: Arc<Mutex<(Site, Rng)>>,
    random: AtomicU64,
    began: Instant,
}

impl World for SiteWorld {
    fn connect(&self, _: &str, _: u16) -> Connecting {
        let (ours, theirs) = duplex(16 << 10);
        tokio::spawn(origin(theirs, Arc::clone(&self.site)));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Wire>) })
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(BEGINNING_MS + since(self.began))
    }

    fn random(&self) -> u64 {
        mix(self.random.fetch_add(1, Ordering::Relaxed))
    }

    fn clock_jump(&self) -> Option<Duration> {
        None
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).expect("runs are short")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Acts on whatever it was asked, whether or not anybody still waits for the answer.
async fn origin(mut wire: DuplexStream, site: Arc<Mutex<(Site, Rng)>>) {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = wire::head_end(&buffer) else {
            let mut more = [0; 4096];
            match wire.read(&mut more).await {
                Ok(0) | Err(_) => return,
                Ok(count) => buffer.extend_from_slice(&more[..count]),
            }
            continue;
        };
        // Requests have no bodies here.
        let head: Vec<u8> = buffer.drain(..end).collect();
        let asked = Asked::read(&head);
        sleep(Duration::from_millis(asked.there)).await;
        let mut answer = {
            let mut site = lock(&site);
            let (site, rng) = &mut *site;
            site.answer(rng, asked.sid, asked.what)
        };
        if let Some(stranger) = asked.plant.filter(|_| answer.viewer.is_some()) {
            answer.viewer = Some(stranger);
            answer.owner = Some((stranger, ""));
        }
        sleep(Duration::from_millis(asked.back)).await;
        let mut text = String::from("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n");
        for (name, value) in answer.fields() {
            text += &format!("{name}: {value}\r\n");
        }
        let viewer = answer.viewer.map(|viewer| viewer.to_string());
        let body = format!("page of {}", viewer.unwrap_or_default());
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        if wire.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What a request tells the origin.
struct Asked {
    sid: Option<Sid>,
    what: What,
    there: u64,
    back: u64,
    plant: Option<Member>,
}

impl Asked {
    fn read(head: &[u8]) -> Self {
        let text =
            |name| field(head, name).map(|value| String::from_utf8_lossy(value).into_owned());
        let sid = text("cookie").and_then(|cookies| {
            let sid = cookies
                .split("; ")
                .find_map(|one| one.strip_prefix("sid="))?
                .to_owned();
            Sid::from_str_radix(&sid, 16).ok()
        });
        let said = text("x-request-id").expect("every request says what it is for");
        let words: Vec<u64> = said
            .split('.')
            .map(|word| word.parse().expect("a number"))
            .collect();
        let [kind, member, there, back, plant] = words[..] else {
            panic!("five numbers, not {said}")
        };
        let what = match kind {
            0 => What::View,
            1 => What::Rotate,
            2 => What::Switch(member),
            3 => What::Login(member),
            _ => What::Logout,
        };
        Self {
            sid,
            what,
            there,
            back,
            plant: (plant > 0).then_some(plant),
        }
    }
}

#[derive(Default)]
struct Device {
    sid: Option<Sid>,
    told: Told,
    /// Requests that may change whose the session is: those that run, and all that ever began.
    acting: u64,
    acted: u64,
}

struct Play {
    worker: Arc<Worker>,
    stop: watch::Receiver<bool>,
    outcome: Mutex<Outcome>,
    began: Instant,
    requests: AtomicU64,
}

/// Plays so many devices, each doing so many things.
pub(crate) fn play(seed: u64, devices: u64, acts: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(playing(seed, devices, acts))
}

async fn playing(seed: u64, devices: u64, acts: u64) -> Outcome {
    let rules = compile(
        "version = 1\n[[origin]]\nhosts = [\"*\"]\nurl = \"http://o1.test:8080\"\n[session]\ncookies = [\"sid\"]\n\
         [pins]\naction = \"stop\"\n",
    );
    let world = SiteWorld {
        site: Arc::new(Mutex::new((Site::default(), Rng::new(mix(seed ^ 0x517e))))),
        random: AtomicU64::new(mix(seed ^ 0x4a4d)),
        began: Instant::now(),
    };
    let evidence = Evidence::in_memory(&MemoryDisk::new(1 << 30), OnFull::Refuse);
    let node = Node::new(
        config(),
        rules.expect("it compiles"),
        Arc::new(world),
        evidence,
    );
    let worker = Worker::new(Arc::clone(&node)).expect("a disk in memory has room");
    let (_stop, stop) = watch::channel(false);
    let play = Arc::new(Play {
        worker,
        stop,
        outcome: Mutex::default(),
        began: Instant::now(),
        requests: AtomicU64::new(0),
    });
    let all: Vec<_> = (0..devices)
        .map(|n| tokio::spawn(at_a_device(Arc::clone(&play), mix(seed ^ n), n, acts)))
        .collect();
    for one in all {
        one.await.expect("a device does not panic");
    }
    let mut outcome = lock(&play.outcome).clone();
    outcome.faults = node.counts().pin_faults;
    outcome
}

async fn at_a_device(play: Arc<Play>, seed: u64, number: u64, acts: u64) {
    let mut rng = Rng::new(seed);
    let members: Vec<Member> = (0..1 + rng.below(3))
        .map(|_| 1 + rng.below(10_000))
        .collect();
    let device = Arc::new(Mutex::new(Device::default()));
    let mut running = Vec::new();
    for _ in 0..acts {
        let member = rng.pick(&members);
        let mut whats = vec![match rng.below(12) {
            0..2 => What::Login(member),
            2..4 => What::Switch(member),
            4..6 => What::Logout,
            6 => What::Rotate,
            _ => What::View,
        }];
        whats.extend((0..rng.below(3)).map(|_| What::View));
        if rng.percent(5) {
            whats.push(What::Switch(rng.pick(&members)));
        }
        for what in whats {
            let one = ask(
                Arc::clone(&play),
                Arc::clone(&device),
                rng.next(),
                number,
                what,
            );
            running.push(tokio::spawn(one));
        }
        let gap = rng.pick(&[5, 40, 200, 800, 3_000]);
        sleep(Duration::from_millis(1 + rng.below(gap))).await;
    }
    for one in running {
        one.await.expect("a request does not panic");
    }
}

/// One request on a connection of its own.
async fn ask(play: Arc<Play>, device: Arc<Mutex<Device>>, seed: u64, number: u64, what: What) {
    let mut rng = Rng::new(seed);
    let delay = |rng: &mut Rng| match rng.below(100) {
        0 => 1 + rng.below(25_000),
        1..6 => 1 + rng.below(2_000),
        _ => 1 + rng.below(60),
    };
    let (there, back) = (delay(&mut rng), delay(&mut rng));
    let now = since(play.began);
    let acts = what != What::View;
    let (sid, known, acted) = {
        let mut device = lock(&device);
        device.acting += u64::from(acts);
        device.acted += u64::from(acts);
        let known = (device.sid).is_some_and(|sid| device.told.is_known(sid, now, now));
        (device.sid, known && device.acting == 0, device.acted)
    };
    let plants = what == What::View && known && rng.percent(8);
    let stranger = STRANGERS_FROM + rng.below(1 << 30);
    let id = play.requests.fetch_add(1, Ordering::Relaxed);
    let (method, kind, member) = match what {
        What::View => ("GET", 0, 0),
        What::Rotate => ("GET", 1, 0),
        What::Switch(member) => ("POST", 2, member),
        What::Login(member) => ("POST", 3, member),
        What::Logout => ("POST", 4, 0),
    };
    let cookies = sid.map(|sid| format!("Cookie: theme=dark; sid={}\r\n", cookie(sid)));
    let length = if what.acts() {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    let plant = if plants { stranger } else { 0 };
    let request = format!(
        "{method} /account HTTP/1.1\r\nHost: shop.test\r\nX-Request-Id: {kind}.{member}.{there}.{back}.{plant}\r\n\
         {length}{}Connection: close\r\n\r\n",
        cookies.unwrap_or_default()
    );
    let (mut ours, theirs) = duplex(16 << 10);
    let address = SocketAddr::from((
        [10, 9, 0, u8::try_from(number % 250).expect("small")],
        40_000,
    ));
    let (worker, stop) = (Arc::clone(&play.worker), play.stop.clone());
    tokio::spawn(async move {
        serve_connection(&worker, theirs, Transport::plain(address), stop).await;
    });
    {
        let mut outcome = lock(&play.outcome);
        outcome.requests += 1;
        outcome.changes += u64::from(what.acts());
    }
    if ours.write_all(request.as_bytes()).await.is_err() {
        return;
    }
    if rng.percent(1) {
        // The client goes away; the origin may act all the same.
        sleep(Duration::from_millis(rng.below(there + back + 1))).await;
        lock(&play.outcome).left += 1;
        let mut device = lock(&device);
        device.acting -= u64::from(acts);
        if acts && let Some(sid) = sid {
            device.told.lost(sid, since(play.began) + LOST_MS);
        }
        return;
    }
    let mut bytes = Vec::new();
    let mut more = [0; 4096];
    while let Ok(count @ 1..) = ours.read(&mut more).await {
        bytes.extend_from_slice(&more[..count]);
    }
    let answers = wire::responses(&bytes, &[false], true).expect("it is HTTP");
    let head = &answers.first().expect("everybody is answered").head;
    let body = String::from_utf8_lossy(&answers[0].body).into_owned();
    let is_stopped = head.starts_with(b"HTTP/1.1 502");
    let mut device = lock(&device);
    device.acting -= u64::from(acts);
    // What began meanwhile may have handed the session over; only the table's own game plants there.
    let planted = (plant > 0).then_some(device.acted == acted);
    judge(&play, (id, what), planted, is_stopped, &body);
    if !is_stopped {
        device.take(sid, what, head, &body, since(play.began));
    }
}

/// What the client makes of an answer. `planted`: a mix-up was asked for; `true` if nothing else can
/// explain it.
fn judge(
    play: &Play,
    (id, what): (u64, What),
    planted: Option<bool>,
    is_stopped: bool,
    body: &str,
) {
    let mut outcome = lock(&play.outcome);
    // It is one where the session was still somebody's: the page says whose it is.
    let is_strangers = body
        .strip_prefix("page of ")
        .and_then(|whose| whose.parse::<Member>().ok())
        .is_some_and(|whose| whose >= STRANGERS_FROM);
    let story = format!("request {id} ({what:?}): {body:?}");
    match (planted, is_stopped) {
        (Some(_), true) => {
            outcome.planted += 1;
            outcome.stopped += 1;
        }
        (Some(true), false) if is_strangers => {
            outcome.planted += 1;
            outcome.missed.push(story);
        }
        (Some(_) | None, false) => {}
        (None, true) => outcome.false_alarms.push(story),
    }
}

impl Device {
    /// Takes cookies, and notes what the edge has been told.
    fn take(&mut self, sid: Option<Sid>, what: What, head: &[u8], body: &str, now: u64) {
        let mut set =
            wire::fields(head).filter(|(name, _)| name.eq_ignore_ascii_case(b"set-cookie"));
        let set = set
            .next()
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let value = set
            .as_deref()
            .and_then(|set| set.strip_prefix("sid=")?.split(';').next());
        let sets = match value.map(|value| Sid::from_str_radix(value, 16)) {
            Some(Ok(new)) => {
                self.sid = Some(new);
                Some(new)
            }
            Some(Err(_)) => {
                self.sid = self.sid.filter(|_| self.sid != sid);
                None
            }
            None => None,
        };
        // What it declares stays with the edge; what it was asked for is known.
        let turn = match what {
            _ if sets.is_some() => Some("start"),
            What::Logout => Some("end"),
            _ => None,
        };
        let answer = Answer {
            viewer: (body != "page of ").then_some(0),
            turn,
            sets,
            ..Answer::default()
        };
        self.told.take(sid, &answer, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_sessions_are_answered_and_mix_ups_are_stopped() {
        let outcome = play(20_200_316, 40, 60);
        let alarms = &outcome.false_alarms;
        assert!(alarms.is_empty(), "{outcome}\n{alarms:#?}");
        assert!(
            outcome.missed.is_empty(),
            "{outcome}\n{:#?}",
            outcome.missed
        );
        assert!(outcome.stopped > 30 && outcome.changes > 500, "{outcome}");
        assert_eq!(outcome.faults, outcome.stopped);
    }
}
