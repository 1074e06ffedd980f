//! For each response out of a store: whose bytes it may have held.
//!
//! Two passes over the accesses, in any order: the first [gathers](Gather) whatever may have filled a
//! store, the second [views](Known::view) each access on its own. Only fills are kept between them, so
//! memory grows with what was fetched and not with what was served; keys are independent of each other,
//! so who has more fills than memory takes one part of the keys after another.
//!
//! Never here: the latest fill before a hit, taken for the answer. Clocks are coarse and log lines carry
//! the end of a response, so what is known is an interval, and what follows from two is an order or
//! nothing.
//!
//! Invariant: what a response held is always among its alternatives, or one of them is a fill whose line
//! is lacking. `docs/inference.md` has the argument, and on what it rests: [`Site`].

mod fills;
mod gaps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use shikiri_record::{FillId, TargetTag, UnixMillis};

use crate::access::{
    Access, Age, Answer, Asked, BodyMark, Edge, Person, Refreshes, RequestId, Servable, Served,
    Site, Stored, Who,
};
use crate::span::Span;
use fills::{Bytes, Ended, Fill, Holds, Shelf};
use gaps::Gaps;

/// A chain of caches, each asking the next, is followed no further.
const PARENTS_MAX: usize = 4;

/// The ids that 304s gave to one fill are followed no further back: what came before is told by the time then.
const RENAMED_MAX: usize = 10_000;

/// Of one request at the origin, no more lines of caches are kept.
const MATCHES_MAX: usize = 16;

/// Whose bytes a response may have held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// How sure that is.
    pub grade: Grade,
    /// The persons whose data it may have been.
    pub owners: BTreeSet<Person>,
    /// It may have been made for nobody: for somebody without a session.
    pub nobody: bool,
    /// It may have been its viewer's own, and the log does not tell who that is.
    pub own: bool,
    /// Fills that may be the one, and of which the logs do not tell whose they are: their places in this
    /// inference.
    pub unnamed: BTreeSet<u32>,
    /// It may have been a fill whose line is lacking.
    pub unlisted: bool,
    /// How many fills may have been the one.
    pub fills: usize,
    /// Whether it showed its viewer what is another's.
    pub exposes: Exposes,
}

/// How sure it is whose bytes a response held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// The log itself names the fill.
    Proven,
    /// There is one alternative, and the logs are complete.
    Exact,
    /// It is one of so many; or, where the view says so, a fill whose line is lacking.
    Set(usize),
    /// No fill was found.
    Window,
}

/// Whether a view showed its viewer what is another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exposes {
    /// It did not: it was their own, or nobody's.
    No,
    /// It may have.
    Perhaps,
    /// Whichever alternative it was, it was another's.
    Another,
}

/// There are more fills than the caller has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How many there may be.
    pub facts_max: usize,
}

/// What an origin's log tells, to be held against the caches' accesses.
#[derive(Clone, Debug, Default)]
pub struct OriginLog {
    asked: Vec<Asked>,
}

/// The first pass: whatever may have filled a store.
#[derive(Debug)]
pub struct Gather<'a> {
    site: &'a Site,
    gaps: Gaps,
    facts_max: usize,
    facts: usize,
    asked: Vec<AskedFor>,
    by_request: BTreeMap<RequestId, Vec<usize>>,
    /// By key: the requests at the origin, by their beginnings.
    by_key: BTreeMap<TargetTag, Vec<usize>>,
    fetches: Vec<Line>,
    /// Revalidations that the caches' own lines tell.
    revalidated: Vec<(Option<Edge>, TargetTag, Span)>,
}

/// A request at the origin, and the lines of caches that may be behind it.
#[derive(Debug)]
struct AskedFor {
    asked: Asked,
    by_request: Vec<Line>,
    by_time: Vec<Line>,
    /// More lines than are kept may be behind it.
    overflows: bool,
}

/// What is kept of a cache's line that may have fetched.
#[derive(Clone, Debug)]
struct Line {
    edge: Option<Edge>,
    key: TargetTag,
    /// From the beginning of the request to the end of the response; of a fetch behind it, to the end of
    /// that.
    during: Span,
    ended: Span,
    /// `None` where it came from the store, and a fetch may have been behind it.
    fetched: Option<Stored>,
    whose: Who,
    status: Option<u16>,
    body: Option<BodyMark>,
    fill: Option<FillId>,
    /// Its place among the fetches, if it is one.
    place: Option<usize>,
    has_request: bool,
    /// Where it stands among its store's, if that tells something.
    order: Option<u64>,
}

/// All that may have filled a store.
#[derive(Debug)]
pub struct Known<'a> {
    site: &'a Site,
    gaps: Gaps,
    fills: Vec<Fill>,
    shelves: BTreeMap<TargetTag, BTreeMap<Option<Edge>, Shelf>>,
    /// By the fill's id: the stores that it is in, each with its place in the list. An id names one fill
    /// of its store; another store may have given the same one to another fill.
    by_fill: BTreeMap<FillId, Vec<(Option<Edge>, u32)>>,
    /// By the id that a cache gave to what a 304 let it keep.
    kept: BTreeMap<FillId, Vec<Kept>>,
    /// Of everything (`None`) or of one key.
    purges: BTreeMap<Option<TargetTag>, Ended>,
    /// Which request ids the origin's log tells, and for whom it rendered them.
    rendered: BTreeMap<RequestId, BTreeSet<Who>>,
    /// Requests at the origin whose line at the cache lies elsewhere in time than the clocks allow.
    disagreeing: usize,
}

/// What a 304 let a cache keep, under another id.
#[derive(Clone, Copy, Debug)]
struct Kept {
    store: Option<Edge>,
    /// When it was asked after: the bytes are whatever was there then.
    asked_after: Span,
    /// Its id before, where a log tells it.
    before: Option<FillId>,
}

/// What is asked of the stores for one view.
#[derive(Clone, Copy)]
struct Lookup<'a> {
    access: &'a Access,
    /// The store that is asked.
    at: Option<Edge>,
    /// When, by that store's clock.
    during: Span,
    /// Whether only a fetch that was running then can be meant.
    running: bool,
    /// How many caches further back than the one that answered the viewer.
    depth: usize,
}

/// What a response may have held, as it is collected.
#[derive(Default)]
struct Alternatives {
    owners: BTreeSet<Person>,
    nobody: bool,
    own: bool,
    unnamed: BTreeSet<u32>,
    unlisted: bool,
    fills: usize,
}

impl OriginLog {
    /// Adds a request.
    pub fn add(&mut self, asked: Asked) {
        self.asked.push(asked);
    }
}

impl<'a> Gather<'a> {
    /// Begins, with the origin's log (an empty one where there is none) and room for so many facts:
    /// requests at the origin, fetches and revalidations.
    ///
    /// # Errors
    /// [`TooMany`] when the origin's log alone has more.
    pub fn new(site: &'a Site, origin: OriginLog, facts_max: usize) -> Result<Self, TooMany> {
        let mut gather = Self {
            site,
            gaps: Gaps::of(site),
            facts_max,
            facts: 0,
            asked: Vec::new(),
            by_request: BTreeMap::new(),
            by_key: BTreeMap::new(),
            fetches: Vec::new(),
            revalidated: Vec::new(),
        };
        gather.room(origin.asked.len())?;
        for (at, asked) in origin.asked.into_iter().enumerate() {
            if let Some(request) = asked.request {
                gather.by_request.entry(request).or_default().push(at);
            }
            gather.by_key.entry(asked.key).or_default().push(at);
            gather.asked.push(AskedFor {
                asked,
                by_request: Vec::new(),
                by_time: Vec::new(),
                overflows: false,
            });
        }
        let asked = &gather.asked;
        for places in gather.by_key.values_mut() {
            places.sort_by_key(|at| asked[*at].asked.times.began.earliest);
        }
        Ok(gather)
    }

    /// Takes one access: of the first pass, all of them.
    ///
    /// # Errors
    /// [`TooMany`] when there are more facts than there is room for.
    pub fn access(&mut self, access: &Access) -> Result<(), TooMany> {
        let fetched = match access.served {
            Served::Fetched(stored) => Some(stored),
            _ => None,
        };
        let mut line = Line {
            edge: access.edge,
            key: access.key,
            during: access.times.during(),
            ended: access.times.ended,
            fetched,
            whose: access.owner.map_or(access.viewer, Who::Person),
            status: access.status,
            body: access.body,
            fill: access.fill,
            place: None,
            has_request: access.request.is_some(),
            order: in_order(self.site, access),
        };
        let cache = &self.site.cache;
        let may_hide = match access.served {
            Served::Fetched(_) => false,
            Served::Revalidated | Served::Stale => cache.refreshes >= Refreshes::BehindStale,
            Served::Hit | Served::Collapsed => cache.refreshes == Refreshes::BehindAny,
        };
        // Most of a site is passed on: what nobody else can have got is no fill.
        let is_fill = match fetched {
            Some(Stored::Not) => cache.shares_unstored || access.fill.is_some(),
            Some(Stored::Surely | Stored::Perhaps) => true,
            None => false,
        };
        if is_fill {
            self.room(1)?;
            line.place = Some(self.fetches.len());
            self.fetches.push(line.clone());
        }
        if access.served == Served::Revalidated {
            self.room(1)?;
            self.revalidated
                .push((access.edge, access.key, access.times.during()));
        }
        // A fetch behind a response may have been there or not, where the origin's log cannot tell: there
        // is none, or a cache behind may have answered.
        let asks_parent = match access.edge {
            Some(edge) => self.site.parents.contains_key(&edge),
            None => !self.site.parents.is_empty(),
        };
        if may_hide && (self.site.origin.is_none() || asks_parent) {
            self.room(2)?;
            let begins = line.during.later(cache.refresh_delay_ms_max);
            let hidden = begins.later(cache.fetch_max_ms);
            if cache.revalidates {
                self.revalidated.push((line.edge, line.key, hidden));
            }
            self.fetches.push(Line {
                fetched: Some(Stored::Perhaps),
                during: hidden,
                // What this line tells of bytes is what was there before.
                whose: access.viewer,
                status: None,
                body: None,
                fill: None,
                order: None,
                ..line
            });
        }
        // A fetch behind a response may begin when that is over.
        let fetching = match (may_hide, access.served) {
            (true, _) => Some(access.times.during().later(cache.refresh_delay_ms_max)),
            (false, Served::Fetched(_) | Served::Revalidated) => Some(access.times.during()),
            (false, _) => None,
        };
        self.join(access, line, fetching)
    }

    /// Finds the requests at the origin that this line may be behind: by the id that both tell, else by
    /// key, time and session, where it may have been fetching.
    fn join(&mut self, access: &Access, line: Line, fetching: Option<Span>) -> Result<(), TooMany> {
        let by_request = access.request.and_then(|id| self.by_request.get(&id));
        let by_request = by_request.cloned().unwrap_or_default();
        for at in by_request {
            self.room(1)?;
            keep(
                &mut self.asked[at],
                |asked| &mut asked.by_request,
                line.clone(),
            );
        }
        let (Some(places), Some(fetching)) = (self.by_key.get(&access.key), fetching) else {
            return Ok(());
        };
        let near = self.gaps.at_origin(access.edge, fetching);
        let earliest = near.earliest.0.saturating_sub(self.site.cache.fetch_max_ms);
        let asked = &self.asked;
        let first = places.partition_point(|at| asked[*at].asked.times.began.earliest.0 < earliest);
        let may_be = |at: &&usize| {
            let asked = &asked[**at].asked;
            let both_told = asked.request.is_some() && access.request.is_some();
            let is_elsewhere = matches!((asked.edge, access.edge), (Some(a), Some(b)) if a != b);
            !both_told
                && !is_elsewhere
                && asked.times.during().meets(near)
                && may_be_same(asked.rendered_for, access.viewer)
        };
        let near_ones = places.iter().skip(first);
        let near_ones =
            near_ones.take_while(|at| asked[**at].asked.times.began.earliest <= near.latest);
        let matching: Vec<usize> = near_ones.filter(may_be).copied().collect();
        for at in matching {
            self.room(1)?;
            keep(
                &mut self.asked[at],
                |asked| &mut asked.by_time,
                line.clone(),
            );
        }
        Ok(())
    }

    fn room(&mut self, more: usize) -> Result<(), TooMany> {
        self.facts = self.facts.saturating_add(more);
        if self.facts > self.facts_max {
            return Err(TooMany {
                facts_max: self.facts_max,
            });
        }
        Ok(())
    }

    /// Ends the first pass.
    #[must_use]
    pub fn settle(self) -> Known<'a> {
        let mut known = Known {
            site: self.site,
            gaps: self.gaps,
            fills: Vec::new(),
            shelves: BTreeMap::new(),
            by_fill: BTreeMap::new(),
            kept: BTreeMap::new(),
            purges: BTreeMap::new(),
            rendered: BTreeMap::new(),
            disagreeing: 0,
        };
        for purge in &known.site.purges {
            known.purges.entry(purge.key).or_default().add(purge.when);
        }
        known.purges.values_mut().for_each(Ended::settle);
        for (request, places) in &self.by_request {
            let whose = places.iter().map(|at| self.asked[*at].asked.rendered_for);
            known.rendered.insert(*request, whose.collect());
        }
        let ends = |at: &usize| (self.asked[*at].asked.times.ended.latest, *at);
        let last_of: BTreeSet<usize> = (self.by_request.values())
            .filter_map(|places| places.iter().copied().max_by_key(ends))
            .collect();
        let mut is_told = vec![false; self.fetches.len()];
        for (at, asked) in self.asked.iter().enumerate() {
            let is_last = asked.asked.request.is_none() || last_of.contains(&at);
            known.place(asked, is_last, &mut is_told);
        }
        for (edge, key, during) in self.revalidated {
            known.shelf(edge, key).revalidated(during);
        }
        let origin_tells_ids = !self.by_request.is_empty();
        for (fetch, is_told) in self.fetches.into_iter().zip(is_told) {
            if !is_told {
                known.fetched(fetch, origin_tells_ids);
            }
        }
        for shelves in known.shelves.values_mut() {
            for shelf in shelves.values_mut() {
                shelf.settle(&known.fills);
            }
        }
        known
    }
}

impl Known<'_> {
    /// How many requests at the origin have a line at a cache, by its id, that lies further away in time
    /// than the clocks' stated skews allow. Above zero a skew is stated too small, and no grade here is
    /// worth anything.
    #[must_use]
    pub const fn disagreeing(&self) -> usize {
        self.disagreeing
    }

    /// How many fills were found.
    #[must_use]
    pub fn fills(&self) -> usize {
        self.fills.len()
    }

    fn shelf(&mut self, edge: Option<Edge>, key: TargetTag) -> &mut Shelf {
        self.shelves
            .entry(key)
            .or_default()
            .entry(edge)
            .or_default()
    }

    fn add(&mut self, edge: Option<Edge>, key: TargetTag, fill: Fill, id: Option<FillId>) {
        let at = u32::try_from(self.fills.len()).expect("fewer facts than fit are kept");
        self.fills.push(fill);
        self.shelf(edge, key).add(at);
        if let Some(id) = id {
            self.by_fill.entry(id).or_default().push((edge, at));
        }
    }

    /// Places a request at the origin in the stores that it filled or revalidated.
    fn place(&mut self, it: &AskedFor, is_last: bool, is_told: &mut [bool]) {
        let asked = &it.asked;
        let lines = self.lines_behind(it);
        let told = lines.iter().map(|line| line.edge).chain([asked.edge]);
        let told: BTreeSet<Edge> = told.flatten().collect();
        let is_placed = self.is_one_chain(&told);
        let edges: BTreeSet<Option<Edge>> = match told.is_empty() {
            true => [None].into(),
            false => self
                .with_unlogged_parents(&told)
                .into_iter()
                .map(Some)
                .collect(),
        };
        let line_has_id = !it.by_request.is_empty();
        for edge in edges {
            let line = lines.iter().find(|line| line.edge == edge);
            let during = self.at_store(asked, edge, line.copied());
            let stored = match asked.answer {
                Answer::NotModified => {
                    self.shelf(edge, asked.key).revalidated(during);
                    if let Some(id) = asked.fill {
                        let asked_after = self.gaps.at_edge(edge, asked.times.began);
                        let shown = line.filter(|line| line.fetched.is_none());
                        let before = shown.filter(|_| asked.asks_after_shown && line_has_id);
                        self.kept.entry(id).or_default().push(Kept {
                            store: edge,
                            asked_after,
                            before: before.and_then(|line| line.fill),
                        });
                    }
                    continue;
                }
                Answer::Response(stored) => stored,
            };
            // A line that came from the store tells of what was there before.
            let fetched = line.filter(|line| line.fetched.is_some());
            // What the cache's own line says of storing goes before what the origin can know.
            let stored = match fetched.and_then(|line| line.fetched) {
                Some(Stored::Perhaps) if stored == Stored::Surely => Stored::Perhaps,
                Some(Stored::Perhaps) | None => stored,
                Some(said) => said,
            };
            let holds = match stored {
                Stored::Surely if is_placed && is_last => Holds::Surely,
                Stored::Surely | Stored::Perhaps => Holds::Perhaps,
                Stored::Not => Holds::WhileRunning,
            };
            let whose = match (asked.rendered_for, lines.as_slice()) {
                (Who::Untold, [line]) => line.whose,
                (whose, _) => whose,
            };
            let fill = Fill {
                during,
                holds,
                bytes: Bytes::Of(whose),
                status: asked.status.or(fetched.and_then(|line| line.status)),
                body: asked.body.or(fetched.and_then(|line| line.body)),
                request: asked.request,
                // Of several answers to one line, only the last was stored in the step that wrote it.
                order: fetched
                    .and_then(|line| line.stored_in_order())
                    .filter(|_| is_last),
            };
            let id = asked.fill.or(fetched.and_then(|line| line.fill));
            self.add(edge, asked.key, fill, id);
        }
        for place in lines.iter().filter_map(|line| line.place) {
            is_told[place] = true;
        }
    }

    /// The lines that are surely behind a request at the origin: those with its id; else the only one
    /// that may be, where no line can be missing.
    fn lines_behind<'b>(&self, it: &'b AskedFor) -> Vec<&'b Line> {
        if it.overflows {
            return Vec::new();
        }
        if !it.by_request.is_empty() {
            return it.by_request.iter().collect();
        }
        match it.by_time.as_slice() {
            [line] if self.gaps.none_lacks(it.asked.times.during()) => vec![line],
            _ => Vec::new(),
        }
    }

    /// Whether there are stores, and each asks the next.
    fn is_one_chain(&self, edges: &BTreeSet<Edge>) -> bool {
        let parents = &self.site.parents;
        let asks_one = |edge: &&Edge| parents.get(edge).is_some_and(|it| edges.contains(it));
        let asked: BTreeSet<&Edge> = edges.iter().filter_map(|edge| parents.get(edge)).collect();
        let is_asked = |edge: &&Edge| asked.contains(edge);
        edges.iter().filter(asks_one).count() + 1 == edges.len()
            && edges.iter().filter(is_asked).count() + 1 == edges.len()
    }

    /// These stores, and those behind them of which there is no log: what came through them was stored
    /// there too.
    fn with_unlogged_parents(&self, edges: &BTreeSet<Edge>) -> BTreeSet<Edge> {
        let mut all = edges.clone();
        for edge in edges {
            let mut at = edge;
            for _ in 0..PARENTS_MAX {
                let Some(parent) = self.site.parents.get(at) else {
                    break;
                };
                if !self.site.edges.contains_key(parent) {
                    all.insert(*parent);
                }
                at = parent;
            }
        }
        all
    }

    /// When what the origin answered was stored, by the store's clock.
    fn at_store(&mut self, asked: &Asked, edge: Option<Edge>, line: Option<&Line>) -> Span {
        let there = self.gaps.at_edge(edge, asked.times.during());
        let ended = self.gaps.at_edge(edge, asked.times.ended);
        let mut stored = match self.site.cache.servable {
            Servable::WhileFetched => there,
            Servable::OnceWhole { .. } => ended,
        };
        let Some(line) = line else {
            return stored;
        };
        if !there.meets(line.during) && line.has_request {
            self.disagreeing += usize::from(line.fetched.is_some());
        }
        // It was not fetched before it was asked for; and where the line is the fetch's own and whole, that
        // line tells when it was stored.
        let by_line = match line.fetched {
            Some(Stored::Surely) => self.stored_by(line),
            _ => Span {
                latest: UnixMillis(u64::MAX),
                ..line.during
            },
        };
        if stored.meets(by_line) {
            stored.earliest = stored.earliest.max(by_line.earliest);
            stored.latest = stored.latest.min(by_line.latest);
            return stored;
        }
        stored.hull(line.during)
    }

    /// When what a whole line fetched was stored.
    fn stored_by(&self, line: &Line) -> Span {
        match self.site.cache.servable {
            Servable::WhileFetched => line.during,
            Servable::OnceWhole { line_after_ms_max } => {
                let whole = line.ended.earliest.0.saturating_sub(line_after_ms_max);
                Span {
                    earliest: UnixMillis(whole).max(line.during.earliest),
                    latest: line.ended.latest,
                }
            }
        }
    }

    /// Places a fetch that the origin's log does not tell.
    fn fetched(&mut self, line: Line, origin_tells_ids: bool) {
        let parent = line
            .edge
            .and_then(|edge| self.site.parents.get(&edge))
            .copied();
        // The origin would have told the request: it came from a cache behind, or from nowhere.
        let is_strange =
            line.has_request && origin_tells_ids && self.gaps.origin_tells(line.during);
        let stored = line.fetched.unwrap_or(Stored::Perhaps);
        let holds = match stored {
            Stored::Surely if is_strange && parent.is_none() => Holds::Perhaps,
            Stored::Surely => Holds::Surely,
            Stored::Perhaps => Holds::Perhaps,
            Stored::Not => Holds::WhileRunning,
        };
        // Where storing was not seen to end with the line, it may have gone on.
        let during = match stored {
            Stored::Surely => self.stored_by(&line),
            Stored::Perhaps | Stored::Not => line.during.later(self.site.cache.fetch_max_ms),
        };
        let own = Bytes::Of(line.whose);
        let fill = |during, holds, bytes| Fill {
            during,
            holds,
            bytes,
            status: line.status,
            body: line.body,
            request: None,
            order: None,
        };
        let bytes = parent.map_or(own, Bytes::From);
        let at_own = Fill {
            order: line.stored_in_order(),
            ..fill(during, holds, bytes)
        };
        self.add(line.edge, line.key, at_own, line.fill);
        // Of a cache behind that has no log, this line is the only trace, unless the origin would have
        // told the request.
        let (mut at, mut next) = (line.edge, parent);
        for _ in 0..PARENTS_MAX {
            let Some(parent) = next else { break };
            if !self.site.edges.contains_key(&parent) && !is_strange {
                let there = self.gaps.between(at, Some(parent), during);
                let holds = match holds {
                    Holds::Surely => Holds::Perhaps,
                    other => other,
                };
                self.add(Some(parent), line.key, fill(there, holds, own), None);
            }
            (at, next) = (Some(parent), self.site.parents.get(&parent).copied());
        }
    }

    /// Whose bytes a response may have held: of the second pass, each access on its own.
    #[must_use]
    pub fn view(&self, access: &Access) -> View {
        if let Some(owner) = access.owner {
            let told = Alternatives {
                owners: [owner].into(),
                fills: 1,
                ..Alternatives::default()
            };
            return self.proven(access, told);
        }
        if let Some(view) = self.by_fill(access) {
            return view;
        }
        let parent = access.edge.and_then(|edge| self.site.parents.get(&edge));
        match (access.served, parent) {
            (Served::Fetched(_), parent) => self.fetched_view(access, parent.copied()),
            (served, _) => {
                let mut found = Alternatives::default();
                let lookup = Lookup {
                    access,
                    at: access.edge,
                    during: access.times.during(),
                    running: served == Served::Collapsed,
                    depth: 0,
                };
                self.look(lookup, &mut found);
                self.inferred(access, found)
            }
        }
    }

    /// The fill that the log itself names.
    fn by_fill(&self, access: &Access) -> Option<View> {
        let named = access.fill.filter(|_| access.served.is_shared())?;
        // The age is since the 304, where it counts from there.
        let of_old = Access {
            age_s: None,
            ..access.clone()
        };
        let before = self.before_it_was_kept(named);
        let (named, access) = match before == named {
            true => (named, access),
            false => (before, &of_old),
        };
        let mut found = Alternatives::default();
        let fills = self.by_fill.get(&named).map_or(&[][..], Vec::as_slice);
        let during = self.gaps.between(access.edge, None, access.times.during());
        let meant = |(store, at): &&(Option<Edge>, u32)| {
            self.may_serve(*store, access.edge)
                && self.fills[*at as usize].during.earliest <= during.latest
        };
        for (_, at) in fills.iter().filter(meant) {
            let lookup = Lookup {
                access,
                at: access.edge,
                during: access.times.during(),
                running: false,
                depth: 0,
            };
            self.take(*at, lookup, &mut found);
        }
        let kept = self.kept.get(&named).map_or(&[][..], Vec::as_slice);
        let kept = kept.iter().filter(|it| {
            self.may_serve(it.store, access.edge) && it.asked_after.earliest <= during.latest
        });
        let mut is_named = true;
        for Kept {
            store, asked_after, ..
        } in kept
        {
            is_named = false;
            let lookup = Lookup {
                access: &of_old,
                at: store.or(access.edge),
                during: *asked_after,
                running: false,
                depth: 0,
            };
            self.look(lookup, &mut found);
        }
        Some(match is_named {
            true => self.proven(access, found),
            false => self.inferred(access, found),
        })
    }

    /// The id that a fill was first stored under, as far back as the logs name it: each 304 gave it another.
    fn before_it_was_kept(&self, named: FillId) -> FillId {
        let mut at = named;
        for _ in 0..RENAMED_MAX {
            let is_fetched = self.by_fill.contains_key(&at);
            match self.kept.get(&at).map(Vec::as_slice) {
                Some(
                    [
                        Kept {
                            before: Some(before),
                            ..
                        },
                    ],
                ) if !is_fetched => at = *before,
                _ => break,
            }
        }
        at
    }

    /// Whether what is in this store may be what that one answered with: it is that one, or behind it, or
    /// a log does not tell which it is.
    fn may_serve(&self, store: Option<Edge>, answering: Option<Edge>) -> bool {
        let (Some(store), Some(mut at)) = (store, answering) else {
            return true;
        };
        for _ in 0..=PARENTS_MAX {
            if at == store {
                return true;
            }
            match self.site.parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    }

    /// What a response held that was fetched for its own request.
    fn fetched_view(&self, access: &Access, parent: Option<Edge>) -> View {
        let mut found = Alternatives::default();
        // Whom the origin rendered it for: it may have taken one session for another.
        let rendered = access.request.and_then(|id| self.rendered.get(&id));
        if let Some(whose) = rendered {
            for who in whose {
                let who = match who {
                    Who::Untold => access.viewer,
                    who => *who,
                };
                found.take(who, None);
            }
            return self.proven(access, found);
        }
        let Some(parent) = parent else {
            found.take(access.viewer, None);
            return self.inferred(access, found);
        };
        // The cache behind may have had it, unless its log would tell.
        let is_told =
            self.site.edges.contains_key(&parent) && access.served != Served::Fetched(Stored::Not);
        if !is_told {
            found.take(access.viewer, None);
        }
        let lookup = Lookup {
            access,
            at: Some(parent),
            during: self
                .gaps
                .between(access.edge, Some(parent), access.times.during()),
            running: false,
            depth: 1,
        };
        self.look(lookup, &mut found);
        self.inferred(access, found)
    }

    /// The grade of what a log itself names.
    fn proven(&self, access: &Access, found: Alternatives) -> View {
        let mut view = self.inferred(access, found);
        if view.grade == Grade::Exact {
            view.grade = Grade::Proven;
        }
        view
    }

    fn inferred(&self, access: &Access, mut found: Alternatives) -> View {
        let alternatives = found.alternatives();
        // A response came from somewhere: where nothing is found, a line is lacking, or what is stated
        // of the site is wrong.
        found.unlisted |= alternatives == 0;
        let is_one = alternatives == 1 && found.unnamed.is_empty();
        let is_whole = !found.unlisted && !self.gaps.is_kept_partly(access.edge);
        let grade = match alternatives {
            0 => Grade::Window,
            _ if is_one && is_whole => Grade::Exact,
            more => Grade::Set(more),
        };
        found.graded(access.viewer, grade)
    }

    /// Every fill that a lookup may have found.
    fn look(&self, lookup: Lookup<'_>, found: &mut Alternatives) {
        let Lookup {
            access, at, during, ..
        } = lookup;
        let none = BTreeMap::new();
        let shelves = self.shelves.get(&access.key).unwrap_or(&none);
        // Where the store is not told it was one of all, and each has its own order.
        let stores: BTreeSet<Option<Edge>> = match at {
            Some(_) => [at].into(),
            None => shelves
                .keys()
                .copied()
                .chain(self.gaps.edges())
                .chain([None])
                .collect(),
        };
        for store in &stores {
            let during = match at {
                Some(_) => during,
                None => self.gaps.between(None, *store, during),
            };
            let empty = Shelf::default();
            let shelf = shelves.get(store).unwrap_or(&empty);
            let since = self.since(lookup, *store, shelf, during);
            let not_before = match lookup.running && !self.may_revalidate(*store, lookup, during) {
                true => since.max(during.earliest.0),
                false => since,
            };
            found.unlisted |= self.gaps.may_lack_fill(*store, not_before, during.latest.0);
            let lines = self.lines(lookup, *store, shelf, during);
            // What no log places in a store may be in this one.
            let unplaced = shelves.get(&None).filter(|_| at.is_some());
            for shelf in [Some(shelf), unplaced].into_iter().flatten() {
                for at in shelf.between(&self.fills, not_before, during.latest.0) {
                    let fill = &self.fills[at as usize];
                    let is_in_order = fill.order.is_none_or(|order| lines.contains(&order));
                    if is_in_order && self.may_be(fill, lookup, during) {
                        self.take(at, lookup, found);
                    }
                }
            }
        }
    }

    /// What was stored earlier than this had surely been replaced, purged or outlived when the lookup
    /// came: the least `latest` of a fill that may be the one.
    fn since(&self, lookup: Lookup<'_>, store: Option<Edge>, shelf: &Shelf, during: Span) -> u64 {
        let cache = &self.site.cache;
        let mut since = 0;
        if cache.replaces && store.is_some() {
            since = since.max(shelf.replaced_before(during.earliest.0));
        }
        // By a clock that is right, it is so much earlier or later.
        let skew_ms = self.gaps.skew_ms(store);
        let at = during.earliest.0.saturating_sub(skew_ms);
        for purges in [None, Some(lookup.access.key)].map(|of| self.purges.get(&of)) {
            let purged = purges.map_or(0, |purges| purges.before(at));
            since = since.max(purged.saturating_sub(skew_ms));
        }
        if let Some(life_ms) = cache.life_max_ms {
            let earliest = UnixMillis(during.earliest.0.saturating_sub(life_ms));
            if !self.may_revalidate(store, lookup, Span { earliest, ..during }) {
                since = since.max(earliest.0);
            }
        }
        since
    }

    /// Among which lines of the store's log a fill may be the one, where they stand in order: what was stored at an
    /// earlier one had been replaced, what was stored at a later one was not there yet.
    fn lines(
        &self,
        lookup: Lookup<'_>,
        store: Option<Edge>,
        shelf: &Shelf,
        during: Span,
    ) -> RangeInclusive<u64> {
        let first = match self.site.cache.replaces && store.is_some() {
            true => shelf.replaced_in_order_before(during.earliest.0),
            false => 0,
        };
        let is_own = store.is_some() && store == lookup.access.edge;
        let own = in_order(self.site, lookup.access).filter(|_| is_own);
        first..=own.unwrap_or(u64::MAX)
    }

    /// Whether what was stored may have been revalidated at some instant of the span.
    fn may_revalidate(&self, store: Option<Edge>, lookup: Lookup<'_>, during: Span) -> bool {
        if !self.site.cache.revalidates {
            return false;
        }
        let (since, until) = (during.earliest.0, during.latest.0);
        let shelves = self.shelves.get(&lookup.access.key);
        let is_told = |store: &Option<Edge>| {
            let shelf = shelves.and_then(|shelves| shelves.get(store));
            shelf.is_some_and(|shelf| shelf.is_revalidated_between(since, until))
        };
        is_told(&store) || is_told(&None) || self.gaps.may_lack_any(store, since, until)
    }

    /// Whether nothing that is told of the fill keeps it from being the one.
    fn may_be(&self, fill: &Fill, lookup: Lookup<'_>, during: Span) -> bool {
        let access = lookup.access;
        if fill.holds == Holds::WhileRunning {
            let is_running = fill.during.meets(during);
            if !self.site.cache.shares_unstored || !is_running {
                return false;
            }
        }
        let differs = |one: Option<u16>, other: Option<u16>| {
            let told = |status: Option<u16>| status.filter(|it| !matches!(it, 206 | 304 | 416));
            matches!((told(one), told(other)), (Some(one), Some(other)) if one != other)
        };
        // A 304 may tell another mark of the same bytes.
        let other_bytes = !self.site.cache.revalidates
            && matches!((fill.body, access.body), (Some(one), Some(other)) if one != other);
        // What was fetched behind a response was not there yet when that was looked up.
        let is_behind = fill.request.is_some() && fill.request == access.request;
        if differs(fill.status, access.status) || other_bytes || (is_behind && lookup.depth == 0) {
            return false;
        }
        match fill.bytes {
            // The age is that of what the cache behind had.
            Bytes::From(_) => true,
            Bytes::Of(_) => self.has_age(fill, lookup, during),
        }
    }

    /// Whether the fill can have had the age that the response was sent with.
    fn has_age(&self, fill: &Fill, lookup: Lookup<'_>, during: Span) -> bool {
        let Age::SinceFetch {
            off_by_ms,
            restarts,
        } = self.site.cache.age
        else {
            return true;
        };
        let Some(age_s) = lookup.access.age_s else {
            return true;
        };
        let age_ms = age_s.saturating_mul(1000);
        // The response was sent at the first cache; further back, the clock is another.
        let sent = self
            .gaps
            .between(lookup.access.edge, lookup.at, lookup.access.times.during());
        let sent = if lookup.depth == 0 { during } else { sent };
        let longer = |from: UnixMillis, to: UnixMillis| to.0.saturating_sub(from.0);
        let most_ms = longer(fill.during.earliest, sent.latest).saturating_add(1);
        if most_ms.saturating_add(off_by_ms) < age_ms {
            return false;
        }
        if restarts && self.site.cache.revalidates {
            return true;
        }
        let least_ms = longer(fill.during.latest, sent.earliest).saturating_sub(1);
        least_ms < age_ms.saturating_add(1000).saturating_add(off_by_ms)
    }

    /// Adds what a fill held: its own, or whatever the cache behind may have answered with.
    fn take(&self, at: u32, lookup: Lookup<'_>, found: &mut Alternatives) {
        let fill = &self.fills[at as usize];
        match fill.bytes {
            Bytes::Of(who) => found.take(who, Some(at)),
            Bytes::From(_) if lookup.depth == PARENTS_MAX => found.unlisted = true,
            Bytes::From(parent) => {
                let behind = Lookup {
                    at: Some(parent),
                    during: self.gaps.between(lookup.at, Some(parent), fill.during),
                    running: false,
                    depth: lookup.depth + 1,
                    ..lookup
                };
                self.look(behind, found);
            }
        }
    }
}

impl Line {
    /// Where the line stands, if what it fetched was stored in the step that wrote it.
    fn stored_in_order(&self) -> Option<u64> {
        self.order.filter(|_| self.fetched == Some(Stored::Surely))
    }
}

impl Alternatives {
    fn take(&mut self, who: Who, fill: Option<u32>) {
        self.fills += 1;
        match (who, fill) {
            (Who::Person(person), _) => {
                self.owners.insert(person);
            }
            (Who::Anonymous, _) => self.nobody = true,
            (Who::Untold, Some(fill)) => {
                self.unnamed.insert(fill);
            }
            (Who::Untold, None) => self.own = true,
        }
    }

    fn alternatives(&self) -> usize {
        self.owners.len() + usize::from(self.nobody) + usize::from(self.own) + self.unnamed.len()
    }

    fn graded(self, viewer: Who, grade: Grade) -> View {
        let exposes = self.exposes(viewer);
        View {
            grade,
            owners: self.owners,
            nobody: self.nobody,
            own: self.own,
            unnamed: self.unnamed,
            unlisted: self.unlisted,
            fills: self.fills,
            exposes,
        }
    }

    fn exposes(&self, viewer: Who) -> Exposes {
        let is_open = self.nobody || self.own || self.unlisted || !self.unnamed.is_empty();
        let is_nobodys = self.owners.is_empty() && self.unnamed.is_empty() && !self.unlisted;
        let others = |person: &Person| match viewer {
            // Somebody without a session is nobody's owner; who is behind a session may be any member
            // until a link says who.
            Who::Anonymous => Some(true),
            Who::Untold => None,
            Who::Person(viewer) => viewer.is_other_than(*person),
        };
        let all = |is: Option<bool>| self.owners.iter().all(|owner| others(owner) == is);
        match () {
            () if is_nobodys || (!is_open && all(Some(false))) => Exposes::No,
            () if !is_open && all(Some(true)) => Exposes::Another,
            () => Exposes::Perhaps,
        }
    }
}

impl Person {
    /// Whether two persons are two; `None` where one is a session and the other a member.
    #[must_use]
    pub fn is_other_than(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Member(one), Self::Member(other)) => Some(one != other),
            (Self::Session(one), Self::Session(other)) => Some(one != other),
            _ => None,
        }
    }
}

impl View {
    /// Of a response that was made for nobody, by how our own nodes fetch.
    pub(crate) const fn nobodys() -> Self {
        Self {
            grade: Grade::Proven,
            owners: BTreeSet::new(),
            nobody: true,
            own: false,
            unnamed: BTreeSet::new(),
            unlisted: false,
            fills: 1,
            exposes: Exposes::No,
        }
    }
}

/// Where an access's line stands among its store's, if that tells something.
fn in_order(site: &Site, access: &Access) -> Option<u64> {
    let is_whole = matches!(site.cache.servable, Servable::OnceWhole { .. });
    let log = site.edges.get(&access.edge?)?;
    access.order.filter(|_| log.in_order && is_whole)
}

/// Keeps a line beside a request at the origin, while there is room.
fn keep(asked: &mut AskedFor, lines: impl Fn(&mut AskedFor) -> &mut Vec<Line>, line: Line) {
    if lines(asked).len() < MATCHES_MAX {
        lines(asked).push(line);
    } else {
        asked.overflows = true;
    }
}

/// Whether a page that was rendered for one may have been asked for by the other.
fn may_be_same(rendered_for: Who, viewer: Who) -> bool {
    match (rendered_for, viewer) {
        (Who::Untold, _) | (_, Who::Untold) => true,
        (Who::Anonymous, Who::Anonymous) => true,
        (Who::Person(one), Who::Person(other)) => one.is_other_than(other) != Some(true),
        // A session that the origin did not know, or one that the cache's log does not tell.
        (Who::Anonymous, Who::Person(_)) => true,
        (Who::Person(_), Who::Anonymous) => false,
    }
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there are more than {} fetches: take one part of the keys after another",
            self.facts_max
        )
    }
}

impl std::error::Error for TooMany {}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("proven"),
            Self::Exact => f.write_str("exact"),
            Self::Set(alternatives) => write!(f, "set({alternatives})"),
            Self::Window => f.write_str("window"),
        }
    }
}
