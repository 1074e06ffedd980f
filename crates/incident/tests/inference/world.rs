//! A leaky CDN that knows the truth: it stores whatever its origin answers and shows it to anybody, writes
//! the logs that such a cache would write, and remembers whose page each response really held.
//!
//! It knows nothing of how inference works.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use shikiri_incident::Span;
use shikiri_incident::access::{
    Access, Age, Answer, Asked, BodyMark, Cache, Edge, Kept, Log, Person, Proof, Purge, Refreshes,
    RequestId, Servable, Served, Site, Stored, Times, Who,
};
use shikiri_record::{FillId, TargetTag, UnixMillis, ViewerTag};

/// What kind of CDN, and what its logs tell.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) requests: usize,
    pub(crate) members: u64,
    pub(crate) keys: u8,
    pub(crate) edges: u32,
    /// In milliseconds, like every time here.
    pub(crate) lasts: u64,
    pub(crate) lifetime: u64,
    pub(crate) grace: u64,
    /// Out of 100.
    pub(crate) anonymous: u64,
    /// Out of 100: how often the origin says that nothing changed.
    pub(crate) unchanged: u64,
    pub(crate) aborted: u64,
    pub(crate) passed: u64,
    /// Whether those who come while a fetch runs wait for it.
    pub(crate) collapses: bool,
    /// And get what was not stored.
    pub(crate) shares_unstored: bool,
    /// Whether what is stale is served while a fetch goes on behind it.
    pub(crate) refreshes: bool,
    /// Whether a line of what was served stale says so.
    pub(crate) tells_stale: bool,
    /// Whether what waited says so.
    pub(crate) tells_collapsed: bool,
    pub(crate) latency_max: u64,
    pub(crate) purges: usize,
    /// Whether the edges ask a cache of their own, and whether that one has a log.
    pub(crate) parent: Option<bool>,
    /// Of the log.
    pub(crate) resolution: u64,
    pub(crate) skew_max: u64,
    pub(crate) tells_edge: bool,
    pub(crate) tells_session: bool,
    pub(crate) tells_age: bool,
    pub(crate) tells_fill: bool,
    pub(crate) tells_body: bool,
    pub(crate) tells_request: bool,
    pub(crate) origin_log: bool,
    pub(crate) origin_tells_session: bool,
    pub(crate) knows_lifetime: bool,
    /// Whether it is known that what could be stored was.
    pub(crate) knows_storing: bool,
    /// Whether it is known that only what is whole is served to others.
    pub(crate) knows_servable: bool,
    /// Whether it is known that lines stand in the order in which things were stored, where they do.
    pub(crate) knows_order: bool,
    /// How long after a fetch is whole its line ends, at most.
    pub(crate) line_after: u64,
    /// Whether durations are differences of two readings of the clock.
    pub(crate) took_by_readings: bool,
    /// Two machines behind each edge's name, each with a store of its own.
    pub(crate) two_machines: bool,
    pub(crate) loss: Loss,
}

/// What the logs lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Nothing,
    /// So many lines of 100, anywhere.
    Lines(u64),
    /// Everything written between these shares (of 100) of the time at one edge, and that is known.
    Known(u64, u64),
}

/// What came of it.
pub(crate) struct Told {
    pub(crate) site: Site,
    pub(crate) origin: Vec<Asked>,
    /// In no order.
    pub(crate) accesses: Vec<(Access, Truth)>,
}

/// What a response really held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) viewer: Who,
    pub(crate) owner: Who,
}

pub(crate) const START: u64 = 1_584_300_000_000;

/// A member's session.
pub(crate) fn member(number: u64) -> Who {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&number.to_le_bytes());
    Who::Person(Person::Session(ViewerTag(tag)))
}

/// SplitMix64: the same numbers from the same seed, for ever.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    pub(crate) fn hits(&mut self, of_100: u64) -> bool {
        self.below(100) < of_100
    }
}

/// True times are in microseconds, so that milliseconds are coarse.
type Micros = u64;

type Store = u32;

#[derive(Clone, Copy, Debug)]
struct Object {
    owner: Who,
    fill: u64,
    /// When it was stored or last revalidated.
    lives_from: Micros,
    stored: Micros,
    body: u64,
}

/// A request at an edge.
#[derive(Clone, Copy, Debug)]
struct Request {
    number: u64,
    edge: u32,
    store: Store,
    key: u8,
    who: Who,
    began: Micros,
    is_aborted: bool,
    is_passed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Lookup(Request),
    /// The cache behind is asked for a request.
    AskParent(Fetch),
    /// The origin's answer, or the parent's, arrives.
    Arrives(Fetch),
    Purge,
}

#[derive(Clone, Copy, Debug)]
struct Fetch {
    request: Request,
    /// The requester got the old copy already.
    is_behind: bool,
    /// Over what may be revalidated.
    over: Option<u64>,
    /// From the origin: rendered for its requester. From the parent: whoever's.
    answer: Option<Object>,
    is_unchanged: bool,
    asked: Micros,
}

struct World<'a> {
    plan: &'a Plan,
    dice: Dice,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
    stores: BTreeMap<(Store, u8), Object>,
    /// Who waits for a fetch that runs.
    waiting: BTreeMap<(Store, u8), Vec<(Request, Micros)>>,
    fills: u64,
    skews: BTreeMap<Option<Edge>, i64>,
    purges: Vec<Purge>,
    /// Each with when its line was written.
    told: Vec<(Micros, Access, Truth)>,
    origin: Vec<Asked>,
}

const PARENT: Edge = Edge(900);
const PARENT_STORE: Store = 900;

/// Lets it run.
pub(crate) fn run(plan: &Plan) -> Told {
    run_with(plan, None)
}

/// Lets it run, with requests by these members at these times (in milliseconds since the start).
pub(crate) fn run_with(plan: &Plan, script: Option<&[(u64, Who)]>) -> Told {
    let mut world = World {
        plan,
        dice: Dice(plan.seed),
        queue: BinaryHeap::new(),
        events: BTreeMap::new(),
        next: 0,
        stores: BTreeMap::new(),
        waiting: BTreeMap::new(),
        fills: 0,
        skews: BTreeMap::new(),
        purges: Vec::new(),
        told: Vec::new(),
        origin: Vec::new(),
    };
    for edge in [None, Some(PARENT)]
        .into_iter()
        .chain((0..plan.edges).map(|edge| Some(Edge(edge))))
    {
        let skew = world.dice.below(2 * plan.skew_max + 1);
        let skew = i64::try_from(skew).unwrap() - i64::try_from(plan.skew_max).unwrap();
        world.skews.insert(edge, skew * 1000);
    }
    for number in 0..plan.requests {
        let mut request = world.request(u64::try_from(number).unwrap());
        if let Some((at, who)) = script.and_then(|script| script.get(number)) {
            request.began = (START + at) * 1000 + world.dice.below(1000);
            request.who = *who;
        }
        let looks = request.began + world.dice.below(3000);
        world.at(looks, Event::Lookup(request));
    }
    for _ in 0..plan.purges {
        let at = START * 1000 + world.dice.below(plan.lasts * 1000);
        world.at(at, Event::Purge);
    }
    while let Some(Reverse((now, number))) = world.queue.pop() {
        let event = world.events.remove(&number).unwrap();
        world.happens(now, event);
    }
    world.tell()
}

impl World<'_> {
    fn at(&mut self, when: Micros, event: Event) {
        self.next += 1;
        self.queue.push(Reverse((when, self.next)));
        self.events.insert(self.next, event);
    }

    fn request(&mut self, number: u64) -> Request {
        let plan = self.plan;
        let edge = u32::try_from(self.dice.below(u64::from(plan.edges))).unwrap();
        let machine = if plan.two_machines {
            u32::try_from(self.dice.below(2)).unwrap()
        } else {
            0
        };
        let who = if self.dice.hits(plan.anonymous) {
            Who::Anonymous
        } else {
            member(self.dice.below(plan.members))
        };
        Request {
            number,
            edge,
            store: edge * 2 + machine,
            key: u8::try_from(self.dice.below(u64::from(plan.keys))).unwrap(),
            who,
            began: START * 1000 + self.dice.below(plan.lasts * 1000),
            is_aborted: self.dice.hits(plan.aborted),
            is_passed: self.dice.hits(plan.passed),
        }
    }

    fn happens(&mut self, now: Micros, event: Event) {
        match event {
            Event::Lookup(request) => self.lookup(now, request),
            Event::AskParent(fetch) => self.ask_parent(now, fetch),
            Event::Arrives(fetch) => self.arrives(now, fetch),
            Event::Purge => {
                self.stores.clear();
                let lasted = self.dice.below(5000);
                let when = Span::between(
                    UnixMillis(now.saturating_sub(lasted) / 1000),
                    UnixMillis((now + lasted) / 1000),
                );
                self.purges.push(Purge { when, key: None });
            }
        }
    }

    fn lookup(&mut self, now: Micros, request: Request) {
        let plan = self.plan;
        let place = (request.store, request.key);
        if request.is_passed && !plan.shares_unstored {
            return self.fetch(now, request, false, None);
        }
        let stored = self.stores.get(&place).copied();
        let age = |object: Object| now.saturating_sub(object.lives_from) / 1000;
        if let Some(object) = stored.filter(|object| age(*object) <= plan.lifetime) {
            return self.serve(now, request, object, Served::Hit);
        }
        let may_serve_stale = |object: &Object| age(*object) <= plan.lifetime + plan.grace;
        if let Some(object) = stored.filter(|it| plan.refreshes && may_serve_stale(it)) {
            let served = if plan.tells_stale {
                Served::Stale
            } else {
                Served::Hit
            };
            if !self.waiting.contains_key(&place) {
                self.fetch(now, request, true, Some(object.fill));
            }
            return self.serve(now, request, object, served);
        }
        if plan.collapses
            && let Some(waiting) = self.waiting.get_mut(&place)
        {
            waiting.push((request, now));
            return;
        }
        // What is no longer served at all is not revalidated either.
        let over = stored.filter(may_serve_stale).map(|object| object.fill);
        self.fetch(now, request, false, over);
    }

    fn fetch(&mut self, now: Micros, request: Request, is_behind: bool, over: Option<u64>) {
        let place = (request.store, request.key);
        if self.plan.collapses || is_behind {
            self.waiting.entry(place).or_default();
        }
        let fetch = Fetch {
            request,
            is_behind,
            over,
            answer: None,
            is_unchanged: false,
            asked: now,
        };
        let there = now + self.dice.below(2000);
        if self.plan.parent.is_some() {
            self.at(there, Event::AskParent(fetch));
        } else {
            self.ask_origin(there, fetch, over.is_some());
        }
    }

    /// The origin answers at once, for whoever asks, and its answer takes a while.
    fn ask_origin(&mut self, now: Micros, mut fetch: Fetch, conditional: bool) {
        let takes = 5000 + self.dice.below(self.plan.latency_max * 1000);
        let ended = now + takes;
        let is_unchanged = conditional && self.dice.hits(self.plan.unchanged);
        let plan = self.plan;
        let request = fetch.request;
        self.fills += 1;
        let id = self.fills;
        let times = self.times(None, now, ended);
        self.origin.push(Asked {
            edge: None,
            key: key(request.key),
            times,
            answer: if is_unchanged {
                Answer::NotModified
            } else {
                Answer::Response(if request.is_passed {
                    Stored::Not
                } else if request.is_aborted || !plan.knows_storing {
                    Stored::Perhaps
                } else {
                    Stored::Surely
                })
            },
            rendered_for: if plan.origin_tells_session {
                request.who
            } else {
                Who::Untold
            },
            status: Some(if is_unchanged { 304 } else { 200 }),
            body: None,
            fill: (plan.tells_fill && !is_unchanged).then_some(FillId(u128::from(id))),
            request: plan
                .tells_request
                .then_some(RequestId(u128::from(request.number))),
            asks_after_shown: false,
        });
        fetch.is_unchanged = is_unchanged;
        fetch.answer = Some(Object {
            owner: request.who,
            fill: id,
            lives_from: 0,
            stored: 0,
            body: id,
        });
        let arrives = ended + self.dice.below(2000);
        self.at(arrives, Event::Arrives(fetch));
    }

    /// The parent keeps everything for a lifetime of its own, and never revalidates or collapses.
    fn ask_parent(&mut self, now: Micros, mut fetch: Fetch) {
        let request = fetch.request;
        let stored = self.stores.get(&(PARENT_STORE, request.key)).copied();
        let lifetime = self.plan.lifetime * 2 * 1000;
        let fresh = stored.filter(|it| now.saturating_sub(it.lives_from) <= lifetime);
        let Some(object) = fresh.filter(|_| !request.is_passed) else {
            fetch.over = None;
            return self.ask_origin(now, fetch, false);
        };
        let ended = now + 100;
        let at_parent = Request {
            began: now,
            store: PARENT_STORE,
            ..request
        };
        self.line(at_parent, Some(PARENT), ended, Served::Hit, object);
        fetch.answer = Some(object);
        fetch.asked = 0;
        let arrives = ended + self.dice.below(2000);
        self.at(arrives, Event::Arrives(fetch));
    }

    fn arrives(&mut self, now: Micros, fetch: Fetch) {
        let plan = self.plan;
        let request = fetch.request;
        let place = (request.store, request.key);
        let mut object = fetch.answer.expect("it was answered");
        let came_from_origin = fetch.asked != 0;
        object.body = object.fill;
        if plan.parent.is_some() && came_from_origin {
            object.stored = now;
            object.lives_from = now;
            let at_parent = Request {
                began: fetch.asked,
                store: PARENT_STORE,
                ..request
            };
            let is_stored = !request.is_passed && (!request.is_aborted || self.dice.hits(50));
            if is_stored {
                self.stores.insert((PARENT_STORE, request.key), object);
            }
            let served = Served::Fetched(self.stored(request));
            self.line(at_parent, Some(PARENT), now, served, object);
        }
        let mut served = Served::Fetched(self.stored(request));
        let over = fetch.over.filter(|_| fetch.is_unchanged).and_then(|fill| {
            self.stores
                .get(&place)
                .copied()
                .filter(|it| it.fill == fill)
        });
        match over {
            Some(mut old) => {
                old.lives_from = now;
                self.stores.insert(place, old);
                object = old;
                served = Served::Revalidated;
            }
            None => {
                // An age counts from the origin's answer, through every cache.
                if came_from_origin {
                    object.stored = now;
                }
                object.lives_from = now;
                let is_kept = !request.is_passed && (!request.is_aborted || self.dice.hits(50));
                if is_kept {
                    self.stores.insert(place, object);
                }
            }
        }
        // Nothing changed, but what it was said of is gone: the cache asks again, without a condition.
        if fetch.is_unchanged && over.is_none() {
            self.stores.remove(&place);
            let again = Fetch {
                over: None,
                is_unchanged: false,
                ..fetch
            };
            return self.ask_origin(now, again, false);
        }
        if !fetch.is_behind {
            let ended = now + self.dice.below(plan.line_after * 1000);
            self.line(request, Some(Edge(request.edge)), ended, served, object);
        }
        let may_share = plan.shares_unstored || (!request.is_passed && !request.is_aborted);
        for (waiter, since) in self.waiting.remove(&place).unwrap_or_default() {
            if may_share {
                let served = if plan.tells_collapsed {
                    Served::Collapsed
                } else {
                    Served::Hit
                };
                self.serve(now, waiter, object, served);
            } else {
                let looks = now.max(since);
                self.at(looks, Event::Lookup(waiter));
            }
        }
    }

    fn stored(&self, request: Request) -> Stored {
        if request.is_passed {
            Stored::Not
        } else if request.is_aborted || !self.plan.knows_storing {
            Stored::Perhaps
        } else {
            Stored::Surely
        }
    }

    fn serve(&mut self, now: Micros, request: Request, object: Object, served: Served) {
        let ended = now + self.dice.below(3000);
        self.line(request, Some(Edge(request.edge)), ended, served, object);
    }

    /// Writes a line.
    fn line(
        &mut self,
        it: Request,
        edge: Option<Edge>,
        ended: Micros,
        served: Served,
        held: Object,
    ) {
        let plan = self.plan;
        let times = self.times(edge, it.began, ended);
        let is_from_store = !matches!(served, Served::Fetched(_));
        // The age at some instant of sending, rounded to the nearest second.
        let age_s = (ended.saturating_sub(held.stored) + 500_000) / 1_000_000;
        let access = Access {
            edge: edge.filter(|_| plan.tells_edge),
            key: key(it.key),
            times,
            served,
            viewer: if plan.tells_session {
                it.who
            } else {
                Who::Untold
            },
            owner: None,
            status: Some(200),
            body: plan.tells_body.then_some(BodyMark(held.body)),
            age_s: (plan.tells_age && is_from_store).then_some(age_s),
            fill: plan.tells_fill.then_some(FillId(u128::from(held.fill))),
            request: plan
                .tells_request
                .then_some(RequestId(u128::from(it.number))),
            order: None,
        };
        let truth = Truth {
            viewer: it.who,
            owner: held.owner,
        };
        self.told.push((ended, access, truth));
    }

    /// What a log tells of a time: its end, as coarse as the clock is, and how long it took.
    fn times(&self, edge: Option<Edge>, began: Micros, ended: Micros) -> Times {
        let shown = self.shown(edge, ended, self.plan.resolution);
        let read = |at: Micros| self.shown(edge, at, 1);
        let (took, off_by) = match self.plan.took_by_readings {
            true => (read(ended) - read(began), 0),
            false => ((ended - began) / 1000, 1),
        };
        Times::logged(UnixMillis(shown), self.plan.resolution, took, off_by)
    }

    fn shown(&self, edge: Option<Edge>, at: Micros, resolution: u64) -> u64 {
        let skewed = at.checked_add_signed(self.skews[&edge]).unwrap() / 1000;
        skewed - skewed % resolution
    }

    fn tell(mut self) -> Told {
        let plan = self.plan;
        let mut edges = BTreeMap::new();
        let mut origin = std::mem::take(&mut self.origin);
        let mut told = std::mem::take(&mut self.told);
        told.sort_by_key(|(written, ..)| *written);
        let in_order = (0..).zip(told).map(|(order, (_, access, truth))| {
            let order = Some(order);
            (Access { order, ..access }, truth)
        });
        let mut accesses: Vec<(Access, Truth)> = in_order.collect();
        if plan.parent == Some(false) {
            accesses.retain(|(access, _)| access.edge != Some(PARENT));
        }
        let all = |kept: Kept| Log {
            kept,
            covers: vec![Span::between(UnixMillis(0), UnixMillis(u64::MAX))],
            skew_max_ms: plan.skew_max,
            in_order: plan.knows_order && plan.line_after == 0,
        };
        let complete = || Kept::Complete(Proof::Stated("the generator".into()));
        let kept = match plan.loss {
            Loss::Lines(_) => Kept::Partly,
            Loss::Nothing | Loss::Known(..) => complete(),
        };
        for edge in 0..plan.edges {
            edges.insert(Edge(edge), all(kept.clone()));
        }
        if plan.parent == Some(true) {
            edges.insert(PARENT, all(kept.clone()));
        }
        let mut origin_log = all(kept);
        match plan.loss {
            Loss::Nothing => {}
            Loss::Lines(of_100) => {
                accesses.retain(|_| !self.dice.hits(of_100));
                origin.retain(|_| !self.dice.hits(of_100));
            }
            Loss::Known(from, to) => {
                let share = |of_100: u64| UnixMillis(START + plan.lasts * of_100 / 100);
                let gap = Span::between(share(from), share(to));
                // What a coarse clock stamps with the gap's last instant may have been until its next step.
                let until = gap.latest.0 - gap.latest.0 % plan.resolution + plan.resolution - 1;
                let covers = || {
                    vec![
                        Span::between(UnixMillis(0), UnixMillis(gap.earliest.0 - 1)),
                        Span::between(UnixMillis(until + 1), UnixMillis(u64::MAX)),
                    ]
                };
                edges.get_mut(&Edge(0)).unwrap().covers = covers();
                origin_log.covers = covers();
                // A line is written at the end of what it tells.
                let is_kept = |ended: Span| !ended.meets(gap);
                accesses.retain(|(access, _)| {
                    let of_one = access.edge.is_none_or(|edge| edge == Edge(0));
                    !of_one || is_kept(access.times.ended)
                });
                origin.retain(|asked| is_kept(asked.times.ended));
                if !plan.tells_edge {
                    for log in edges.values_mut() {
                        log.covers = covers();
                    }
                }
            }
        }
        if !plan.origin_log {
            origin.clear();
        }
        let parents = match plan.parent {
            Some(_) => (0..plan.edges).map(|edge| (Edge(edge), PARENT)).collect(),
            None => BTreeMap::new(),
        };
        let parent_lifetime = if plan.parent.is_some() {
            plan.lifetime * 2
        } else {
            0
        };
        let site = Site {
            cache: Cache {
                replaces: !plan.two_machines,
                life_max_ms: plan
                    .knows_lifetime
                    .then_some((plan.lifetime + plan.grace).max(parent_lifetime) + 1000),
                refreshes: match (plan.refreshes, plan.tells_stale) {
                    (false, _) => Refreshes::Openly,
                    (true, true) => Refreshes::BehindStale,
                    (true, false) => Refreshes::BehindAny,
                },
                // Where nothing changed and what that was said of is gone, it is asked for again.
                refresh_delay_ms_max: match plan.unchanged {
                    0 => 3,
                    _ => plan.latency_max + 15,
                },
                revalidates: plan.unchanged > 0,
                shares_unstored: plan.shares_unstored,
                age: if plan.tells_age {
                    Age::SinceFetch {
                        off_by_ms: 1000,
                        restarts: false,
                    }
                } else {
                    Age::Unused
                },
                fetch_max_ms: 2 * plan.latency_max + 20,
                transit_max_ms: 5,
                servable: if plan.knows_servable {
                    Servable::OnceWhole {
                        line_after_ms_max: plan.line_after,
                    }
                } else {
                    Servable::WhileFetched
                },
                shared_is_nobodys: false,
            },
            edges,
            origin: plan.origin_log.then_some(origin_log),
            parents,
            purges: self.purges,
        };
        // Whoever reads logs gets them in any order.
        for at in (1..accesses.len()).rev() {
            let other = usize::try_from(self.dice.below(u64::try_from(at).unwrap() + 1)).unwrap();
            accesses.swap(at, other);
        }
        Told {
            site,
            origin,
            accesses,
        }
    }
}

pub(crate) fn key(number: u8) -> TargetTag {
    TargetTag([number; 16])
}
