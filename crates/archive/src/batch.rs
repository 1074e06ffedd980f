//! Rows of one node on their way into files: held in memory, small, and put in order.
//!
//! Never reads or writes a file. Every tag and text is held once and then by its number, so that a
//! response takes about a hundred bytes; who fills a batch bounds it by [`Batch::rows`].
//!
//! Invariant: [`Batch::groups`] gives every response of its day exactly once.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use shikiri_record::{
    AddressTag, Begin, CookieTag, Ended, FillId, Gap, GrantId, Link, MemberTag, Outcome, StanceRow,
    TargetTag, UnixMillis, ViewerTag,
};

use crate::rows::{Archived, Ending, Place, Serve};
use crate::schema::Packed;

/// A day of the calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u64);

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Day {
    /// The day of an instant.
    #[must_use]
    pub const fn of(at: UnixMillis) -> Self {
        Self(at.0 / DAY_MS)
    }

    /// The instant at which it begins.
    #[must_use]
    pub const fn begins(self) -> UnixMillis {
        UnixMillis(self.0 * DAY_MS)
    }
}

impl std::fmt::Display for Day {
    /// `2020-03-16`. A clock that is off by thousands of years has days of its own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = i64::try_from(self.0.saturating_mul(DAY_MS)).ok();
        let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
        match at {
            Some(at) => write!(f, "{}", at.to_zoned(TimeZone::UTC).date()),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Each value once.
#[derive(Debug)]
pub(crate) struct Once<T> {
    pub(crate) values: Vec<T>,
    numbers: HashMap<T, u32, FixedState>,
}

impl<T: Clone + Eq + std::hash::Hash> Once<T> {
    fn new() -> Self {
        Self {
            values: Vec::new(),
            numbers: HashMap::with_hasher(FixedState::with_seed(0)),
        }
    }

    fn number<Q>(&mut self, value: &Q) -> u32
    where
        T: std::borrow::Borrow<Q>,
        Q: ?Sized + Eq + std::hash::Hash + ToOwned<Owned = T>,
    {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).expect("a batch has fewer rows");
        assert!(number < NONE, "a batch has fewer rows");
        self.values.push(value.to_owned());
        self.numbers.insert(value.to_owned(), number);
        number
    }
}

/// The number that stands for nothing.
pub(crate) const NONE: u32 = u32::MAX;

/// A response, by numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) sequence: u64,
    pub(crate) written: u64,
    pub(crate) began: u64,
    pub(crate) end_sequence: u64,
    pub(crate) end_written: u64,
    pub(crate) bytes: u64,
    pub(crate) target: u32,
    pub(crate) address: u32,
    pub(crate) viewer: u32,
    pub(crate) viewer_member: u32,
    pub(crate) owner: u32,
    pub(crate) fill: u32,
    pub(crate) grant: u32,
    pub(crate) reason: u32,
    pub(crate) method: u32,
    pub(crate) class: u32,
    pub(crate) page: u32,
    pub(crate) boot: u32,
    pub(crate) lane: u32,
    pub(crate) stance: u32,
    pub(crate) cookies: u32,
    pub(crate) status: u16,
    pub(crate) cookies_set: u16,
    pub(crate) outcome: Outcome,
    pub(crate) ended: Option<Ended>,
}

/// Rows of one node.
#[derive(Debug)]
pub struct Batch {
    pub(crate) tags: Once<[u8; 16]>,
    pub(crate) texts: Once<String>,
    pub(crate) stances_held: Vec<StanceRow>,
    pub(crate) cookies: Vec<Vec<CookieTag>>,
    pub(crate) serves: Vec<Held>,
    pub(crate) links: Vec<(Place, Link)>,
    pub(crate) gaps: Vec<(Place, Gap)>,
    pub(crate) stances: Vec<(Place, StanceRow)>,
    pub(crate) others: Vec<(Place, Vec<u8>)>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Without rows.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tags: Once::new(),
            texts: Once::new(),
            stances_held: Vec::new(),
            cookies: Vec::new(),
            serves: Vec::new(),
            links: Vec::new(),
            gaps: Vec::new(),
            stances: Vec::new(),
            others: Vec::new(),
        }
    }

    /// How many things it holds: a response and its end are one.
    #[must_use]
    pub fn rows(&self) -> usize {
        let rare = self.links.len() + self.gaps.len() + self.stances.len() + self.others.len();
        self.serves.len() + rare
    }

    /// Takes one in.
    pub fn push(&mut self, archived: &Archived<'_>) {
        match archived {
            Archived::Serve(serve) => self.serve(serve),
            Archived::Link(place, link) => self.links.push((*place, *link)),
            Archived::Gap(place, gap) => self.gaps.push((*place, *gap)),
            Archived::Stance(place, stance) => self.stances.push((*place, *stance)),
            Archived::Other(place, body) => self.others.push((*place, body.to_vec())),
        }
    }

    /// The days that it has rows of: a response's is that on which it began, another row's that on which
    /// it was written.
    #[must_use]
    pub fn days(&self) -> BTreeSet<Day> {
        let serves = self.serves.iter().map(|held| UnixMillis(held.began));
        let links = self.links.iter().map(|(place, _)| place.written);
        let gaps = self.gaps.iter().map(|(place, _)| place.written);
        let stances = self.stances.iter().map(|(place, _)| place.written);
        let others = self.others.iter().map(|(place, _)| place.written);
        let all = serves.chain(links).chain(gaps).chain(stances).chain(others);
        all.map(Day::of).collect()
    }

    fn serve(&mut self, serve: &Serve<'_>) {
        let Serve {
            place,
            begin,
            stance,
            ending,
        } = serve;
        let stance = stance.map_or(NONE, |stance| {
            // There are few, and the last is nearly always the next.
            let found = self.stances_held.iter().rposition(|held| *held == stance);
            let number = found.unwrap_or_else(|| {
                self.stances_held.push(stance);
                self.stances_held.len() - 1
            });
            u32::try_from(number).expect("a batch has fewer rows")
        });
        let cookies = if begin.cookies.is_empty() {
            NONE
        } else {
            self.cookies.push(begin.cookies.clone());
            u32::try_from(self.cookies.len() - 1).expect("a batch has fewer rows")
        };
        let mut tag = |tag: Option<[u8; 16]>| tag.map_or(NONE, |tag| self.tags.number(&tag));
        let mut text = |text: &str| self.texts.number(text);
        self.serves.push(Held {
            sequence: place.sequence,
            written: place.written.0,
            began: begin.began.0,
            end_sequence: ending.map_or(0, |ending| ending.sequence),
            end_written: ending.map_or(0, |ending| ending.written.0),
            bytes: ending.map_or(0, |ending| ending.bytes),
            target: tag(Some(begin.target.0)),
            address: tag(Some(begin.address.0)),
            viewer: tag(begin.viewer.map(|tag| tag.0)),
            viewer_member: tag(begin.viewer_member.map(|tag| tag.0)),
            owner: tag(begin.owner.map(|tag| tag.0)),
            fill: tag(begin.fill.map(|id| id.0.to_be_bytes())),
            grant: tag(begin.grant.map(|id| id.0.to_be_bytes())),
            reason: text(begin.reason),
            method: text(begin.method),
            class: text(begin.class),
            page: begin.page.map_or(NONE, text),
            boot: tag(Some(place.boot.0)),
            lane: place.lane,
            stance,
            cookies,
            status: begin.status,
            cookies_set: begin.cookies_set,
            outcome: begin.outcome,
            ended: ending.map(|ending| ending.ended),
        });
    }

    /// Tells everything that it holds, in no order.
    pub fn each(&self, tell: &mut dyn FnMut(Archived<'_>)) {
        for held in &self.serves {
            tell(Archived::Serve(self.told(held)));
        }
        for (place, link) in &self.links {
            tell(Archived::Link(*place, *link));
        }
        for (place, gap) in &self.gaps {
            tell(Archived::Gap(*place, *gap));
        }
        for (place, stance) in &self.stances {
            tell(Archived::Stance(*place, *stance));
        }
        for (place, body) in &self.others {
            tell(Archived::Other(*place, body));
        }
    }

    fn told(&self, held: &Held) -> Serve<'_> {
        let tag = |number: u32| self.tags.values.get(index(number)).copied();
        let there = |number| tag(number).expect("it was taken in with it");
        let text = |number: u32| self.texts.values.get(index(number)).map(String::as_str);
        let said = |number| text(number).expect("it was taken in with it");
        Serve {
            place: Place {
                boot: shikiri_evidence::BootId(there(held.boot)),
                lane: held.lane,
                sequence: held.sequence,
                written: UnixMillis(held.written),
            },
            begin: Begin {
                began: UnixMillis(held.began),
                outcome: held.outcome,
                reason: said(held.reason),
                status: held.status,
                method: said(held.method),
                class: said(held.class),
                page: text(held.page),
                target: TargetTag(there(held.target)),
                address: AddressTag(there(held.address)),
                viewer: tag(held.viewer).map(ViewerTag),
                viewer_member: tag(held.viewer_member).map(MemberTag),
                owner: tag(held.owner).map(MemberTag),
                fill: tag(held.fill).map(|id| FillId(u128::from_be_bytes(id))),
                grant: tag(held.grant).map(|id| GrantId(u128::from_be_bytes(id))),
                cookies: self.cookies_of(held).to_vec(),
                cookies_set: held.cookies_set,
            },
            stance: self.stances_held.get(index(held.stance)).copied(),
            ending: held.ended.map(|ended| Ending {
                sequence: held.end_sequence,
                written: UnixMillis(held.end_written),
                ended,
                bytes: held.bytes,
            }),
        }
    }

    pub(crate) fn cookies_of(&self, held: &Held) -> &[CookieTag] {
        self.cookies
            .get(index(held.cookies))
            .map_or(&[], Vec::as_slice)
    }

    /// The responses of a day, as row groups in order: each row group holds a range of viewers, so that
    /// what one viewer was served is in one of them; within it they are sorted by target, so that who was
    /// served an object stands together. Those without a viewer have row groups of their own.
    pub(crate) fn groups(&self, day: Day, packed: &Packed) -> Vec<Vec<u32>> {
        let of_day = |held: &&Held| Day::of(UnixMillis(held.began)) == day;
        let (mut with, mut without) = (0_u64, 0_u64);
        for held in self.serves.iter().filter(of_day) {
            if held.viewer == NONE {
                without += 1;
            } else {
                with += 1;
            }
        }
        let count = |rows: u64| rows.div_ceil(packed.group_rows.max(1));
        // A few without a viewer are not worth a row group: its dictionaries would cost more.
        let apart = if without > with / 8 {
            count(without)
        } else {
            0
        };
        let ranges = count(with + if apart == 0 { without } else { 0 }).max(1);
        let group = |held: &Held| {
            let (spread, of, first) = match self.tags.values.get(index(held.viewer)) {
                Some(viewer) => (viewer, ranges, apart),
                // Those without are told apart by where they came from.
                None => (&self.tags.values[index(held.address)], apart.max(1), 0),
            };
            let head = u64::from(u32::from_be_bytes([
                spread[0], spread[1], spread[2], spread[3],
            ]));
            first + ((head * of) >> 32)
        };
        let ranks = self.ranks();
        let mut groups = vec![Vec::new(); usize::try_from(apart + ranges).expect("there are few")];
        for (n, held) in (0..).zip(&self.serves) {
            if of_day(&held) {
                groups[usize::try_from(group(held)).expect("there are few")].push(n);
            }
        }
        groups.retain(|group: &Vec<u32>| !group.is_empty());
        for group in &mut groups {
            // Keys are looked up once for each row, and not for each comparison: they are all over memory.
            let mut keys: Vec<_> = group
                .iter()
                .map(|n| {
                    let held = &self.serves[index(*n)];
                    let (target, boot) = (ranks[index(held.target)], ranks[index(held.boot)]);
                    (target, boot, held.lane, held.sequence, *n)
                })
                .collect();
            keys.sort_unstable();
            group.clear();
            group.extend(keys.into_iter().map(|(.., n)| n));
        }
        groups
    }

    /// The place of each tag in the order of tags.
    fn ranks(&self) -> Vec<u32> {
        let count = u32::try_from(self.tags.values.len()).expect("a batch has fewer rows");
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_unstable_by_key(|n| self.tags.values[index(*n)]);
        let mut ranks = vec![0; order.len()];
        for (rank, n) in (0..).zip(order) {
            ranks[index(n)] = rank;
        }
        ranks
    }
}

/// A number as an index; the one that stands for nothing has nothing there.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("a number fits")
}
