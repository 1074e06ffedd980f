//! Rows as a busy member store would leave them, for measurements and tests.
//!
//! Never real data, and never random: a seed makes the same rows again. What is drawn is drawn for each
//! row alone, which is harder to pack than what people do: who opens a page opens its pictures too.
//!
//! The store: 68,898 members, as many sessions; 2,000 assets, 20,000
//! pages that everybody may see, 5,000 pieces of films, each kind by Zipf's law; personal pages of twelve
//! kinds, and orders that only one member has. Of a hundred responses about 60 are assets, 15 pages, 5
//! pieces of films, 20 personal. Assets are fresh for an hour, pages for five minutes, films for a day. One member
//! in four comes from two addresses. A fifth of what is shared is shown to people without a session. Three of
//! the pages hold the data of whomever they were fetched for: a leak to find.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shikiri_evidence::{
    BootId, Cut, Event, Keep, Lanes, OpenFault, RealDisk, Run, Stream, Trouble, row_bytes,
};
use shikiri_record::{
    AddressTag, Begin, CookieTag, Digest, End, Ended, Epoch, FillId, Link, LinkEvent, MemberTag,
    Mode, Outcome, Row, RulesDigest, StanceRow, TargetTag, UnixMillis, ViewerTag,
};

use crate::batch::Batch;
use crate::join::Joiner;
use crate::rows::Place;

/// What is drawn, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// How many members there are.
    pub members: u64,
    /// How many threads serve.
    pub lanes: u32,
    /// How many responses a second begin, of all lanes.
    pub per_second: u64,
    /// How many of the pages that everybody may see hold the data of whomever they were fetched for: the
    /// most popular ones.
    pub leaky: u64,
    /// When it begins.
    pub from: UnixMillis,
}

impl Site {
    /// The store of the notice on a busy day: a thousand responses a second.
    pub const STORE: Self = Self {
        members: 68_898,
        lanes: 4,
        per_second: 1_000,
        leaky: 3,
        // 2020-03-16T03:24:00Z, 12:24 in Tokyo.
        from: UnixMillis(1_584_329_040_000),
    };
}

/// Rows of one run of one node, in the order in which its lanes would hold them.
#[derive(Debug)]
pub struct Sample {
    site: Site,
    random: Random,
    boot: BootId,
    /// The time, in microseconds.
    now_us: u64,
    /// The next sequence number of each lane.
    next: Vec<u64>,
    open: BinaryHeap<Reverse<Due>>,
    /// The fill of each shared object.
    fills: Vec<Filled>,
    kinds: [Zipf; 3],
    stance: StanceRow,
}

/// What has begun and not ended, the first to end first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_us: u64,
    lane: u32,
    begin: u64,
    ended: Ended,
    bytes: u64,
}

/// A fetch of a shared object.
#[derive(Clone, Copy, Debug, Default)]
struct Filled {
    id: u128,
    fresh_until_ms: u64,
    /// Whose data it holds, if anybody's.
    owner: Option<MemberTag>,
}

/// A page that everybody may see, by how popular it is: 0 is opened most often, 19,999 least.
#[must_use]
pub fn page(rank: u64) -> TargetTag {
    TargetTag(tag_of(1, SHARED[0].count + rank))
}

/// How many pages there are that everybody may see.
pub const PAGES: u64 = SHARED[1].count;

/// A member's session.
#[must_use]
pub fn viewer(member: u64) -> ViewerTag {
    ViewerTag(tag_of(5, member))
}

/// A kind of shared objects.
struct Shared {
    class: &'static str,
    count: u64,
    lifetime_ms: u64,
}

const SHARED: [Shared; 3] = [
    Shared {
        class: "assets",
        count: 2_000,
        lifetime_ms: 3_600_000,
    },
    Shared {
        class: "pages",
        count: 20_000,
        lifetime_ms: 300_000,
    },
    Shared {
        class: "media",
        count: 5_000,
        lifetime_ms: 86_400_000,
    },
];

const PERSONAL: [&str; 12] = [
    "account", "cart", "orders", "order", "points", "history", "reviews", "videos", "delivery",
    "payment", "status", "support",
];

impl Sample {
    /// Of a seed.
    #[must_use]
    pub fn new(site: Site, seed: u64) -> Self {
        let mut random = Random(seed);
        let lanes = usize::try_from(site.lanes).expect("there are few");
        let objects: u64 = SHARED.iter().map(|kind| kind.count).sum();
        Self {
            site,
            boot: BootId(random.tag()),
            now_us: site.from.0 * 1000,
            next: vec![0; lanes],
            open: BinaryHeap::new(),
            fills: vec![Filled::default(); usize::try_from(objects).expect("there are few")],
            kinds: SHARED.each_ref().map(|kind| Zipf::new(kind.count)),
            stance: StanceRow {
                mode: Mode::Open,
                rules: RulesDigest(Digest::of(b"a sample's rules")),
                epoch: Epoch(1),
                tag_key: 0x5a17_0000_0000_0001,
            },
            random,
        }
    }

    /// The time that it has come to.
    #[must_use]
    pub const fn now(&self) -> UnixMillis {
        UnixMillis(self.now_us / 1000)
    }

    /// The run's id.
    #[must_use]
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// Tells the rows of so many more responses, those that begin and those that end meanwhile.
    pub fn tell(&mut self, responses: u64, tell: &mut dyn FnMut(Place, &Row<'_>)) {
        for _ in 0..responses {
            let gap_us = 1_000_000 / self.site.per_second.max(1);
            self.now_us += self.random.below(2 * gap_us + 1);
            self.end_until(self.now_us, tell);
            self.begin(tell);
        }
    }

    /// Tells the ends of all that has begun.
    pub fn finish(&mut self, tell: &mut dyn FnMut(Place, &Row<'_>)) {
        self.end_until(u64::MAX, tell);
    }

    fn end_until(&mut self, until_us: u64, tell: &mut dyn FnMut(Place, &Row<'_>)) {
        while let Some(Reverse(due)) = self.open.peek().copied() {
            if due.at_us > until_us {
                return;
            }
            self.open.pop();
            let end = End {
                begin: due.begin,
                ended: due.ended,
                bytes: due.bytes,
            };
            let place = self.place(due.lane, due.at_us);
            tell(place, &Row::End(end));
        }
    }

    fn place(&mut self, lane: u32, at_us: u64) -> Place {
        let next = &mut self.next[usize::try_from(lane).expect("there are few")];
        *next += 1;
        Place {
            boot: self.boot,
            lane,
            sequence: *next - 1,
            written: UnixMillis(at_us / 1000),
        }
    }

    fn begin(&mut self, tell: &mut dyn FnMut(Place, &Row<'_>)) {
        let lane = u32::try_from(self.random.below(u64::from(self.site.lanes))).expect("few");
        if self.next[usize::try_from(lane).expect("few")] == 0 {
            let place = self.place(lane, self.now_us);
            tell(place, &Row::Stance(self.stance));
        }
        let began_us = self.now_us;
        // Some members come much more often than others.
        let drawn = self.random.unit();
        let member = ((drawn * drawn.sqrt()) * float(self.site.members)) as u64;
        // One member in four comes from two places within the hour.
        let two = tag_of(7, member)[0] < 64;
        let place_of = if two { self.random.below(2) } else { 0 };
        let mut begin = Begin {
            began: UnixMillis(began_us / 1000),
            outcome: Outcome::Pass,
            reason: "",
            status: 200,
            method: "GET",
            class: "personal",
            page: None,
            target: TargetTag([0; 16]),
            address: AddressTag(tag_of(6, member * 2 + place_of)),
            viewer: Some(viewer(member)),
            viewer_member: None,
            owner: None,
            fill: None,
            grant: None,
            cookies: Vec::new(),
            cookies_set: 0,
        };
        let kind = match self.random.below(100) {
            0..60 => Some(0),
            60..75 => Some(1),
            75..80 => Some(2),
            _ => None,
        };
        let (mut bytes, waited_us) = match kind {
            Some(kind) => self.shared(kind, member, &mut begin),
            None => self.personal(member, &mut begin),
        };
        let written_us = began_us + waited_us;
        let slow_us = self.random.steps(20_000);
        let ended = match self.random.below(1000) {
            0..980 => Ended::Complete,
            980..998 => Ended::Aborted,
            _ => Ended::Broken,
        };
        if ended != Ended::Complete {
            bytes = self.random.below(bytes + 1);
        }
        if begin.status == 304 {
            bytes = 0;
        }
        // A row is written when its response begins, and that is the order of the lane: what has to wait
        // is told when it is due.
        let at_us = written_us.min(began_us + 400_000);
        let place = self.place(lane, self.now_us.max(at_us.min(self.now_us + 1_999)));
        let link = begin.cookies.first().map(|_| Link {
            event: LinkEvent::Started,
            viewer: begin.viewer.unwrap_or(ViewerTag([0; 16])),
            member: begin.viewer_member,
            begin: Some(place.sequence),
        });
        tell(place, &Row::Begin(begin));
        if let Some(link) = link {
            let place = self.place(lane, self.now_us);
            tell(place, &Row::Link(link));
        }
        self.open.push(Reverse(Due {
            at_us: written_us + slow_us,
            lane,
            begin: place.sequence,
            ended,
            bytes,
        }));
    }

    /// A shared object: its length, and how long it was waited for.
    fn shared(&mut self, kind: usize, member: u64, begin: &mut Begin<'_>) -> (u64, u64) {
        let rank = self.kinds[kind].draw(&mut self.random);
        let before: u64 = SHARED.iter().take(kind).map(|kind| kind.count).sum();
        let object = before + rank;
        let shared = &SHARED[kind];
        begin.target = TargetTag(tag_of(1, object));
        begin.class = shared.class;
        if self.random.below(5) == 0 {
            begin.viewer = None;
        }
        let now_ms = self.now_us / 1000;
        let fill = &mut self.fills[usize::try_from(object).expect("few")];
        let mut waited_us = self.random.below(300);
        if fill.fresh_until_ms <= now_ms {
            let leaks = shared.class == "pages" && rank < self.site.leaky;
            *fill = Filled {
                id: u128::from_be_bytes(self.random.tag()),
                fresh_until_ms: now_ms + shared.lifetime_ms,
                owner: leaks.then(|| MemberTag(tag_of(4, member))),
            };
            begin.outcome = Outcome::Fill;
            waited_us = 20_000 + self.random.below(80_000);
        } else {
            begin.outcome = match self.random.below(200) {
                0 => Outcome::Collapsed,
                1 => Outcome::Stale,
                _ => Outcome::Hit,
            };
        }
        begin.fill = Some(FillId(fill.id));
        begin.owner = fill.owner;
        begin.status = match (kind, self.random.below(10)) {
            (2, _) => 206,
            (_, 0) => 304,
            _ => 200,
        };
        let length = 1_000 + u64::from(tag_of(2, object)[0]) * 311 + rank % 200;
        (length, waited_us)
    }

    /// A personal page.
    fn personal(&mut self, member: u64, begin: &mut Begin<'_>) -> (u64, u64) {
        let tag = MemberTag(tag_of(4, member));
        let page = usize::try_from(self.random.below(12)).expect("few");
        begin.page = Some(PERSONAL[page]);
        begin.reason = "not-claimed";
        begin.viewer_member = Some(tag);
        begin.owner = Some(tag);
        begin.target = TargetTag(if page == 3 {
            tag_of(3, member * 8 + self.random.below(4))
        } else {
            tag_of(3, u64::MAX - u64::try_from(page).expect("few"))
        });
        match self.random.below(50) {
            0 => {
                begin.method = "POST";
                begin.status = 303;
                begin.cookies = vec![CookieTag(self.random.tag())];
                begin.cookies_set = 1;
            }
            1 => begin.status = 404,
            _ => {}
        }
        let length = 3_000 + self.random.below(6_000);
        (length, 30_000 + self.random.steps(60_000))
    }
}

/// Lanes on disk, as an edge would write a sample's rows.
#[derive(Debug)]
pub struct SampleLanes {
    lanes: Arc<Lanes>,
    streams: Vec<Arc<Stream>>,
    /// The numbers in the lane of the begin rows that have not ended, by the sample's numbers.
    open: Vec<BTreeMap<u64, u64>>,
}

impl SampleLanes {
    /// In a folder, for one run of a node.
    ///
    /// # Errors
    /// They cannot be made there.
    pub fn open(
        folder: &Path,
        node: &str,
        boot: BootId,
        site: Site,
        segment_bytes: u64,
    ) -> Result<Self, OpenFault> {
        let cut = Cut {
            segment_bytes,
            age_max: Duration::from_secs(24 * 60 * 60),
        };
        let keep = Keep {
            bytes_max: u64::MAX,
            age_max: None,
            free_bytes_min: 0,
        };
        let run = Run::unsigned(node, boot);
        let (lanes, _) = Lanes::open(Arc::new(RealDisk), folder, &run, cut, keep, site.from)?;
        let streams = (0..site.lanes).map(|_| lanes.take(site.from));
        let streams = streams.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            open: vec![BTreeMap::new(); streams.len()],
            streams,
            lanes,
        })
    }

    /// Writes a row. Its number is the lane's own: each segment begins with a stance row.
    ///
    /// # Panics
    /// There is no space.
    pub fn row(&mut self, place: &Place, row: &Row<'_>) {
        let n = usize::try_from(place.lane).expect("few");
        let (stream, open) = (&self.streams[n], &mut self.open[n]);
        let mut row = row.clone();
        match &mut row {
            Row::End(end) => end.begin = open.remove(&end.begin).expect("it has begun"),
            Row::Link(link) => link.begin = link.begin.and_then(|it| open.get(&it).copied()),
            Row::Begin(_) | Row::Gap(_) | Row::Stance(_) => {}
        }
        let mut body = Vec::new();
        row.encode(&mut body);
        let mut reserved = stream.reserve(row_bytes(body.len()));
        if reserved.is_err() {
            // The next segment has not been set aside yet.
            drop(stream.maintain(place.written));
            reserved = stream.reserve(row_bytes(body.len()));
        }
        let mut reserved = reserved.expect("there is space for a sample");
        let number = match row {
            Row::Stance(_) => reserved.lead(place.written, &body),
            _ => reserved.append(place.written, &body),
        };
        if matches!(row, Row::Begin(_)) {
            open.insert(place.sequence, number);
        }
    }

    /// Writes out what was given, without an end: a node that is killed leaves as much.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn leave(self) -> std::io::Result<()> {
        self.streams.iter().try_for_each(|stream| stream.flush())
    }

    /// Looks after the lanes, as a node does again and again.
    pub fn maintain(&self, now: UnixMillis) -> Vec<Event> {
        self.lanes.maintain(now)
    }

    /// Seals the lanes, as a node does that stops.
    ///
    /// # Errors
    /// They cannot be sealed.
    pub fn seal(self, now: UnixMillis) -> Result<(), Trouble> {
        self.streams.iter().try_for_each(|stream| stream.seal(now))
    }
}

/// A sample whose rows are joined on their way, as the archive joins them.
#[derive(Debug)]
pub struct JoinedSample {
    sample: Sample,
    joiner: Joiner,
}

impl JoinedSample {
    /// Of a seed.
    #[must_use]
    pub fn new(site: Site, seed: u64) -> Self {
        let sample = Sample::new(site, seed);
        let mut joiner = Joiner::default();
        for lane in 0..site.lanes {
            joiner.segment(lane, sample.boot(), &mut |_| {});
        }
        Self { sample, joiner }
    }

    /// Puts so many more responses into a batch: those that begin wait for their ends, unless these come meanwhile.
    pub fn fill(&mut self, batch: &mut Batch, responses: u64) {
        self.put(batch, |sample, take| sample.tell(responses, take));
    }

    /// Puts all that waits into a batch.
    pub fn finish(&mut self, batch: &mut Batch) {
        self.put(batch, Sample::finish);
    }

    fn put(
        &mut self,
        batch: &mut Batch,
        tell: impl FnOnce(&mut Sample, &mut dyn FnMut(Place, &Row<'_>)),
    ) {
        let (joiner, mut body) = (&mut self.joiner, Vec::new());
        tell(&mut self.sample, &mut |place, row| {
            body.clear();
            row.encode(&mut body);
            joiner.row(place, &body, &mut |archived| batch.push(&archived));
        });
    }
}

/// A tag that looks like one: always the same for the same thing.
fn tag_of(meaning: u64, number: u64) -> [u8; 16] {
    let mut random = Random(meaning.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
    random.next();
    random.tag()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers from the same seed, for ever.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// Of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn tag(&mut self) -> [u8; 16] {
        let both = u128::from(self.next()) << 64 | u128::from(self.next());
        both.to_be_bytes()
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        float(self.next() >> 11) / float(1 << 53)
    }

    /// From 0 to below a bound; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("it is below the bound")
    }

    /// Exponential, with this mean.
    fn steps(&mut self, mean: u64) -> u64 {
        (-(1.0 - self.unit()).ln() * float(mean)) as u64
    }
}

/// Ranks by Zipf's law, with exponent 1.
#[derive(Debug)]
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: u64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += 1.0 / float(rank);
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let last = self.0.last().copied().unwrap_or(0.0);
        let drawn = random.unit() * last;
        let rank = self.0.partition_point(|sum| *sum <= drawn);
        u64::try_from(rank.min(self.0.len() - 1)).expect("few")
    }
}

/// Exact for all that is drawn here.
fn float(number: u64) -> f64 {
    number as f64
}
