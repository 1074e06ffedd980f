//! A million logins, logouts and account switches against the table of pins alone.
//!
//! Devices with several members and several tabs ask an honest site. Requests overlap, are slow, get
//! lost, are answered by a gateway that gave up, and are tried again. None of it may be a fault. Among
//! it are answers as somebody else, planted where the edge has been told whose the session is: each of
//! them must be found. What is not known makes silence, so nothing counts as planted while a request that
//! may hand the session over is lost, or once another session has taken its place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use shikiri_partition::{Asking, PinFault, Pins, RequestHead, Rules, Said, Scheme, Verdict};
use shikiri_record::{Order, TagKey, UnixMillis};

use super::site::{Answer, Member, Sid, Site, Told, What, cookie};
use crate::rng::Rng;
use crate::world::{BEGINNING_MS, compile};

/// What is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Game {
    pub(crate) seed: u64,
    /// Logins, logouts and account switches.
    pub(crate) changes: u64,
    /// Answers as somebody else among them, about.
    pub(crate) plants: u64,
    pub(crate) devices: usize,
    pub(crate) sessions_max: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) changes: u64,
    pub(crate) lost: u64,
    pub(crate) waited: u64,
    pub(crate) planted: u64,
    pub(crate) found: u64,
    /// Planted, and not found.
    pub(crate) missed: Vec<String>,
    /// Found, and not planted.
    pub(crate) false_alarms: Vec<String>,
    pub(crate) forgotten: u64,
    pub(crate) unsure: u64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests, {} of them logins, logouts and account switches ({} lost, {} answers waited); {} planted \
             mix-ups, {} found; {} false alarms; {} sessions forgotten, {} answers unsure",
            self.requests,
            self.changes,
            self.lost,
            self.waited,
            self.planted,
            self.found,
            self.false_alarms.len(),
            self.forgotten,
            self.unsure,
        )
    }
}

/// Nobody on any device.
const STRANGERS_FROM: Member = 1 << 40;
/// How long an origin may take for an answer, and a lost one may have an effect.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// How many findings are told in words.
const TOLD_MAX: usize = 20;

#[derive(Clone, Debug)]
struct Device {
    members: Vec<Member>,
    sid: Option<Sid>,
    address: IpAddr,
    agent: HeaderValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Somebody at a device does something.
    Act(usize),
    /// The origin takes a request up.
    Process(u64),
    /// Its answer comes.
    Answer(u64),
    /// The client has its answer.
    Deliver(u64),
    /// The client goes away.
    Lose(u64),
    /// A gateway gives up.
    GiveUp(u64),
    /// An answer has waited for too long.
    Expire(u64),
}

struct Request {
    device: usize,
    sid: Option<Sid>,
    what: What,
    asking: Asking,
    begun: u64,
    answer: Option<Answer>,
    plant: Option<PinFault>,
    /// The edge no longer has it.
    is_gone: bool,
    /// What waits for a verdict.
    said: Option<(Said, Order)>,
}

struct World {
    game: Game,
    rng: Rng,
    site: Site,
    pins: Pins,
    rules: Rules,
    key: TagKey,
    devices: Vec<Device>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    requests: BTreeMap<u64, Request>,
    told: Told,
    /// Sessions of which a mix-up passed that something lost might explain: not ordinary ones since.
    mixed_up: BTreeSet<Sid>,
    waiting: Vec<u64>,
    next: u64,
    order: u64,
    now: u64,
    outcome: Outcome,
}

/// Plays a game.
pub(crate) fn play(game: Game) -> Outcome {
    let text = format!(
        "version = 1\n[[origin]]\nhosts = [\"*\"]\nurl = \"http://o1.test:8080\"\n[session]\ncookies = [\"sid\"]\n\
         [pins]\naction = \"stop\"\nsessions_max = {}\n",
        game.sessions_max
    );
    let mut rng = Rng::new(game.seed);
    let devices = (0..game.devices).map(|n| device(&mut rng, n)).collect();
    let key = TagKey::new([5; 32]);
    let mut world = World {
        game,
        site: Site::default(),
        pins: Pins::new(key.clone()),
        rules: compile(&text).expect("the policy compiles"),
        key,
        devices,
        events: BinaryHeap::new(),
        requests: BTreeMap::new(),
        told: Told::default(),
        mixed_up: BTreeSet::new(),
        waiting: Vec::new(),
        next: 0,
        order: 0,
        now: 0,
        outcome: Outcome::default(),
        rng,
    };
    for n in 0..game.devices {
        let at = world.rng.below(10_000);
        world.at(at, Event::Act(n));
    }
    while let Some(Reverse((at, _, event))) = world.events.pop() {
        world.now = at;
        world.happens(event);
    }
    let counts = world.pins.counts();
    world.outcome.forgotten = counts.forgotten;
    world.outcome.unsure = counts.unsure;
    world.outcome
}

fn device(rng: &mut Rng, n: usize) -> Device {
    let n = u32::try_from(n).expect("few devices");
    // One of ten is shared by many; browsers are of few kinds.
    let count = if rng.percent(10) { 6 } else { 1 + rng.below(2) };
    let agent = HeaderValue::from(rng.below(6));
    Device {
        members: (0..count).map(|_| rng.below(100_000)).collect(),
        sid: None,
        address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n / 2)),
        agent,
    }
}

impl World {
    fn at(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.events.push(Reverse((at, self.next, event)));
    }

    fn place(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(BEGINNING_MS + self.now)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Act(device) => self.act(device),
            Event::Process(id) => self.process(id),
            Event::Answer(id) => self.answered(id),
            Event::Deliver(id) => self.deliver(id),
            Event::Lose(id) => self.lose(id, false),
            Event::GiveUp(id) => self.lose(id, true),
            Event::Expire(id) => self.expire(id),
        }
    }

    /// Somebody does something, and something else after that: often before the first is answered.
    fn act(&mut self, device: usize) {
        if self.outcome.changes >= self.game.changes {
            return;
        }
        let member = self.rng.pick(&self.devices[device].members.clone());
        let what = match self.rng.below(12) {
            0..2 => What::Login(member),
            2..4 => What::Switch(member),
            4..6 => What::Logout,
            6 => What::Rotate,
            _ => What::View,
        };
        self.ask(device, what);
        // A page asks for more at once; a second tab does something of its own.
        for _ in 0..self.rng.below(3) {
            self.ask(device, What::View);
        }
        if self.rng.percent(5) {
            let other = self.rng.pick(&self.devices[device].members.clone());
            let what = self
                .rng
                .pick(&[What::Switch(other), What::Logout, What::Rotate]);
            self.ask(device, what);
        }
        let gap = self.rng.pick(&[5, 40, 200, 800, 3_000, 20_000]);
        let at = self.now + 1 + self.rng.below(gap);
        self.at(at, Event::Act(device));
    }

    fn ask(&mut self, device: usize, what: What) {
        let sid = self.devices[device].sid;
        let asking = self.asking(device, sid, what);
        if asking.may_start() {
            self.pins.begins(&asking);
        }
        self.outcome.requests += 1;
        self.outcome.changes += u64::from(what.acts());
        self.next += 1;
        let id = self.next;
        let request = Request {
            device,
            sid,
            what,
            asking,
            begun: self.order,
            answer: None,
            plant: None,
            is_gone: false,
            said: None,
        };
        self.requests.insert(id, request);
        let (there, back) = (self.delay(), self.delay());
        self.at(self.now + there, Event::Process(id));
        self.at(self.now + there + back, Event::Answer(id));
        if self.rng.percent(1) {
            let at = self.now + self.rng.below(there + back + 1);
            self.at(at, Event::Lose(id));
        } else if self.rng.below(300) == 0 {
            let at = self.now + self.rng.below(there + back + 1);
            self.at(at, Event::GiveUp(id));
        }
    }

    fn delay(&mut self) -> u64 {
        match self.rng.below(100) {
            0 => 1 + self.rng.below(25_000),
            1..6 => 1 + self.rng.below(2_000),
            _ => 1 + self.rng.below(60),
        }
    }

    fn asking(&mut self, device: usize, sid: Option<Sid>, what: What) -> Asking {
        let begun = Order(self.place());
        let device = &self.devices[device];
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert("user-agent", device.agent.clone());
        if let Some(sid) = sid {
            let value = format!("theme=dark; sid={}", cookie(sid));
            headers.insert("cookie", HeaderValue::try_from(value).expect("a cookie"));
        }
        let method = if what.acts() {
            Method::POST
        } else {
            Method::GET
        };
        let head = RequestHead {
            method: &method,
            scheme: Scheme::Https,
            authority: "shop.test".into(),
            path: "/account",
            query: None,
            headers: &headers,
            has_body: what.acts(),
            certificate: None,
        };
        Asking::of(&self.rules, &head, device.address, &self.key, begun)
    }

    /// The origin acts, whether or not anybody waits for its answer.
    fn process(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let answer = self.site.answer(&mut self.rng, request.sid, request.what);
        request.answer = Some(answer);
    }

    /// Turns an answer into somebody else's, where that must be found.
    fn plant(&mut self, id: u64) {
        // There are about three requests for each change, and most can bear none.
        if self.game.plants == 0 || self.rng.below(self.game.changes) >= self.game.plants {
            return;
        }
        let stranger = STRANGERS_FROM + self.rng.below(1 << 30);
        let request = self.requests.get_mut(&id).expect("it is there");
        let answer = request.answer.as_mut().expect("it is made");
        let begun = request.begun;
        let known = (request.sid).is_some_and(|sid| self.told.is_known(sid, begun, self.now));
        let plant = match request.what {
            What::View if known && answer.viewer.is_some() && self.rng.percent(70) => {
                answer.viewer = Some(stranger);
                answer.owner = Some((stranger, ""));
                PinFault::WrongViewer
            }
            What::View if known && answer.viewer.is_some() => {
                answer.owner = Some((stranger, ""));
                PinFault::OwnerNotViewer
            }
            What::View if request.sid.is_none() => {
                // Nothing of it shows anybody.
                answer.viewer = Some(stranger);
                PinFault::NamedNobody
            }
            _ => return,
        };
        request.plant = Some(plant);
        self.outcome.planted += 1;
    }

    fn answered(&mut self, id: u64) {
        if self.requests[&id].is_gone {
            self.requests.remove(&id);
            return;
        }
        self.plant(id);
        let at = self.place();
        let now = self.wall();
        let request = self.requests.get_mut(&id).expect("it is there");
        let answer = request.answer.clone().expect("it is made");
        let headers = headers(&answer);
        let said = Said::read(&headers).expect("it can be read");
        let asking = request.asking.clone();
        if asking.may_start() {
            self.pins.ends(&asking);
        }
        let pins = self.rules.pins();
        let cookies = asking.cookies(&self.rules, &headers, &self.key, now);
        let twice = self.pins.issues(pins, &asking, &said, &cookies);
        let verdict = self
            .pins
            .answers(pins, &asking, &said, &cookies, (Order(at), now));
        request.said = Some((said, Order(at)));
        if let Some(fault) = twice {
            self.judged(id, Some(fault));
        } else if verdict == Verdict::Waits(Order(at)) {
            self.outcome.waited += 1;
            self.waiting.push(id);
            let deadline = u64::try_from(ANSWER_TIME_MAX.as_millis()).expect("short");
            self.at(self.now + deadline, Event::Expire(id));
        } else {
            self.judged(id, fault_of(verdict));
        }
        self.look_again();
    }

    /// Whoever waits is judged again.
    fn look_again(&mut self) {
        for id in std::mem::take(&mut self.waiting) {
            let at = Order(self.place());
            let (said, since) = self.requests[&id].said.clone().expect("it waits");
            let asking = self.requests[&id].asking.clone();
            let now = self.wall();
            match self
                .pins
                .judge(self.rules.pins(), &asking, &said, since, (at, now))
            {
                Verdict::Waits(_) => self.waiting.push(id),
                verdict => self.judged(id, fault_of(verdict)),
            }
        }
    }

    fn expire(&mut self, id: u64) {
        if self.waiting.contains(&id) {
            self.waiting.retain(|other| *other != id);
            self.judged(id, Some(PinFault::WrongViewer));
        }
    }

    /// The last word on an answer.
    fn judged(&mut self, id: u64, fault: Option<PinFault>) {
        let request = &self.requests[&id];
        let (plant, sid) = (request.plant, request.sid);
        let story = || {
            format!(
                "request {id} ({:?}) of device {}, at {} ms: {fault:?} for {plant:?}, {:?}",
                request.what, request.device, self.now, request.answer
            )
        };
        // While it waited, what it waited for got lost, or brought another session: that may explain it.
        let is_unsure = sid.is_some_and(|sid| self.told.is_unsure(sid, self.now));
        match (plant, fault) {
            (None, None) => {}
            (Some(_), None) if is_unsure => {
                self.outcome.planted -= 1;
                self.mixed_up.extend(sid);
            }
            // It was taken for what something lost explains, and no longer explains this one.
            (None, Some(_)) if sid.is_some_and(|sid| self.mixed_up.contains(&sid)) => {}
            (Some(_), Some(_)) => self.outcome.found += 1,
            (Some(_), None) if self.outcome.missed.len() < TOLD_MAX => {
                let story = story();
                self.outcome.missed.push(story);
            }
            (None, Some(_)) if self.outcome.false_alarms.len() < TOLD_MAX => {
                let story = story();
                self.outcome.false_alarms.push(story);
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        if fault.is_some() {
            // Nothing of it reaches the client.
            self.requests.remove(&id);
            return;
        }
        let answer = request.answer.clone().expect("it is made");
        self.told.take(sid, &answer, self.order);
        let at = self.now + 1 + self.rng.below(30);
        self.at(at, Event::Deliver(id));
    }

    fn deliver(&mut self, id: u64) {
        let request = self.requests.remove(&id).expect("it is there");
        let answer = request.answer.expect("it is made");
        let device = &mut self.devices[request.device];
        if let Some(sid) = answer.sets {
            device.sid = Some(sid);
        } else if answer.drops && device.sid == request.sid {
            device.sid = None;
        }
    }

    /// The edge will never have the answer; the origin may act all the same.
    fn lose(&mut self, id: u64, gateway: bool) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        if request.is_gone || request.said.is_some() {
            return;
        }
        request.is_gone = true;
        self.outcome.lost += 1;
        let (device, what, sid) = (request.device, request.what, request.sid);
        if request.asking.may_start() {
            let until = self.wall().after(ANSWER_TIME_MAX);
            self.pins.loses(&self.requests[&id].asking, until);
            if let Some(sid) = sid {
                self.told.lost(sid, until.0 - BEGINNING_MS);
            }
            self.look_again();
        }
        // Tried again, at once or by hand; a gateway's answer is shown to somebody first.
        if what.acts() && self.rng.percent(if gateway { 30 } else { 60 }) {
            self.ask(device, what);
        }
    }
}

const fn fault_of(verdict: Verdict) -> Option<PinFault> {
    match verdict {
        Verdict::Fault(fault) => Some(fault),
        Verdict::Fits | Verdict::Waits(_) => None,
    }
}

fn headers(answer: &Answer) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    for (name, value) in answer.fields() {
        let value = HeaderValue::try_from(value).expect("a header value");
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_sessions_are_no_fault_and_mix_ups_are() {
        let game = Game {
            seed: 20_200_316,
            changes: 20_000,
            plants: 400,
            devices: 300,
            sessions_max: 1_000_000,
        };
        let outcome = play(game);
        assert!(
            outcome.false_alarms.is_empty(),
            "{outcome}\n{:#?}",
            outcome.false_alarms
        );
        assert!(
            outcome.missed.is_empty(),
            "{outcome}\n{:#?}",
            outcome.missed
        );
        assert!(outcome.planted > 200 && outcome.waited > 50, "{outcome}");
    }
}
