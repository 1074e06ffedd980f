//! What the logs lack, and what one clock's time is by another's.
//!
//! Invariant: a time by another clock is a span that holds every time that the stated skews allow.

use std::collections::BTreeMap;

use shikiri_record::UnixMillis;

use crate::access::{Edge, Kept, Log, Refreshes, Site};
use crate::span::Span;

/// What the logs of a site lack.
#[derive(Debug)]
pub(super) struct Gaps {
    edges: BTreeMap<Edge, OfEdge>,
    /// What the origin's log lacks, by its own clock; everything without one.
    origin: Vec<Span>,
    has_origin: bool,
    origin_skew_ms: u64,
    /// The largest skew of any store.
    skew_max_ms: u64,
    transit_max_ms: u64,
    fetch_max_ms: u64,
}

#[derive(Debug)]
struct OfEdge {
    skew_ms: u64,
    is_partly: bool,
    /// When a fill may have been whose line is lacking, by the store's clock.
    fills: Vec<Span>,
    /// When a revalidation may have been whose line is lacking.
    any: Vec<Span>,
    /// What the store's own log lacks.
    own: Vec<Span>,
}

impl Gaps {
    pub(super) fn of(site: &Site) -> Self {
        let skew_max_ms = site.edges.values().map(|log| log.skew_max_ms).max();
        let mut gaps = Self {
            edges: BTreeMap::new(),
            origin: site.origin.as_ref().map_or_else(|| vec![ALWAYS], lacking),
            has_origin: site.origin.is_some(),
            origin_skew_ms: site.origin.as_ref().map_or(0, |log| log.skew_max_ms),
            skew_max_ms: skew_max_ms.unwrap_or(0),
            transit_max_ms: site.cache.transit_max_ms,
            fetch_max_ms: site.cache.fetch_max_ms,
        };
        for (edge, log) in &site.edges {
            let own = lacking(log);
            gaps.edges
                .insert(*edge, gaps.of_edge(site, *edge, log, own));
        }
        // A cache behind without a log is known by what those before it fetched.
        for parent in site.parents.values() {
            if !site.edges.contains_key(parent) {
                let own = gaps.of_children(site, *parent);
                let log = Log {
                    kept: Kept::Complete(crate::access::Proof::Numbered),
                    covers: Vec::new(),
                    skew_max_ms: gaps.skew_max_ms,
                    in_order: false,
                };
                gaps.edges
                    .insert(*parent, gaps.of_edge(site, *parent, &log, own));
            }
        }
        gaps
    }

    fn of_edge(&self, site: &Site, edge: Edge, log: &Log, own: Vec<Span>) -> OfEdge {
        // A line is written when the response ends; the fetch began earlier.
        let begun = |gap: &Span| Span {
            earliest: UnixMillis(gap.earliest.0.saturating_sub(self.fetch_max_ms)),
            latest: gap.latest,
        };
        let in_own: Vec<Span> = own.iter().map(begun).collect();
        let by_origin = |gap: &Span| {
            let by = self.origin_skew_ms.saturating_add(log.skew_max_ms);
            begun(gap).widened(by.saturating_add(self.transit_max_ms))
        };
        let in_origin: Vec<Span> = self.origin.iter().map(by_origin).collect();
        let tells_all = site.cache.refreshes == Refreshes::Openly;
        let fills = match (self.has_origin, tells_all) {
            // What came from a cache behind, the origin has never seen.
            (false, _) => in_own.clone(),
            (true, _) if site.parents.contains_key(&edge) => either(&in_own, &in_origin),
            (true, true) => both(&in_own, &in_origin),
            (true, false) => in_origin.clone(),
        };
        let any = match self.has_origin {
            true => either(&in_own, &in_origin),
            false => in_own,
        };
        OfEdge {
            skew_ms: log.skew_max_ms,
            is_partly: log.kept == Kept::Partly,
            fills,
            any,
            own,
        }
    }

    fn of_children(&self, site: &Site, parent: Edge) -> Vec<Span> {
        let children = site.parents.iter().filter(|(_, it)| **it == parent);
        let mut all = Vec::new();
        for (child, _) in children {
            match self.edges.get(child) {
                Some(known) => {
                    let by = known.skew_ms.saturating_add(self.skew_max_ms);
                    all.extend(known.own.iter().map(|gap| gap.widened(by)));
                }
                None => all.push(ALWAYS),
            }
        }
        all
    }

    /// Every store that has a log.
    pub(super) fn edges(&self) -> impl Iterator<Item = Option<Edge>> + '_ {
        self.edges.keys().copied().map(Some)
    }

    /// Whether a fill may be lacking that was stored at `since` or later and at `until` or earlier.
    pub(super) fn may_lack_fill(&self, store: Option<Edge>, since: u64, until: u64) -> bool {
        self.lacks(store, since, until, |edge| &edge.fills)
    }

    /// Whether any line may be lacking of what was at `since` or later and at `until` or earlier.
    pub(super) fn may_lack_any(&self, store: Option<Edge>, since: u64, until: u64) -> bool {
        self.lacks(store, since, until, |edge| &edge.any)
    }

    fn lacks(
        &self,
        store: Option<Edge>,
        since: u64,
        until: u64,
        which: impl Fn(&OfEdge) -> &Vec<Span>,
    ) -> bool {
        let meets = |gap: &Span| since <= gap.latest.0 && gap.earliest.0 <= until;
        match store {
            Some(store) => match self.edges.get(&store) {
                Some(edge) => which(edge).iter().any(meets),
                None => true,
            },
            // Some store, and nobody knows which: there may be one that has no log.
            None => {
                self.edges.is_empty() || self.edges.values().any(|it| which(it).iter().any(meets))
            }
        }
    }

    /// Whether every store's log holds every line around a time by the origin's clock.
    pub(super) fn none_lacks(&self, at_origin: Span) -> bool {
        let lacks = |(edge, of): (&Edge, &OfEdge)| {
            let there = self.at_edge(Some(*edge), at_origin);
            let there = there.widened(self.fetch_max_ms);
            of.own.iter().any(|gap| gap.meets(there))
        };
        !self.edges.is_empty() && !self.edges.iter().any(lacks)
    }

    /// Whether the origin's log holds every line around a time by some store's clock.
    pub(super) fn origin_tells(&self, at_edge: Span) -> bool {
        let there = self.at_origin(None, at_edge).widened(self.fetch_max_ms);
        self.has_origin && !self.origin.iter().any(|gap| gap.meets(there))
    }

    /// Whether a store's log is sampled, or there is none.
    pub(super) fn is_kept_partly(&self, store: Option<Edge>) -> bool {
        match store {
            Some(store) => self.edges.get(&store).is_none_or(|edge| edge.is_partly),
            None => self.edges.is_empty() || self.edges.values().any(|edge| edge.is_partly),
        }
    }

    /// A time by the origin's clock, by a store's.
    pub(super) fn at_edge(&self, edge: Option<Edge>, at_origin: Span) -> Span {
        let by = self.origin_skew_ms.saturating_add(self.skew_ms(edge));
        at_origin.widened(by.saturating_add(self.transit_max_ms))
    }

    /// A time by a store's clock, by the origin's.
    pub(super) fn at_origin(&self, edge: Option<Edge>, at_edge: Span) -> Span {
        // The two lie as far apart either way.
        self.at_edge(edge, at_edge)
    }

    /// A time by one store's clock, by another's.
    pub(super) fn between(&self, one: Option<Edge>, other: Option<Edge>, at_one: Span) -> Span {
        if one == other {
            return at_one;
        }
        let skews = self.skew_ms(one).saturating_add(self.skew_ms(other));
        at_one.widened(skews.saturating_add(self.transit_max_ms))
    }

    /// How far a store's clock may be off.
    pub(super) fn skew_ms(&self, edge: Option<Edge>) -> u64 {
        let known = edge.and_then(|edge| self.edges.get(&edge));
        known.map_or(self.skew_max_ms, |edge| edge.skew_ms)
    }
}

const ALWAYS: Span = Span {
    earliest: UnixMillis(0),
    latest: UnixMillis(u64::MAX),
};

/// The times that a log does not cover.
fn lacking(log: &Log) -> Vec<Span> {
    if log.kept == Kept::Partly {
        return vec![ALWAYS];
    }
    let mut covers = log.covers.clone();
    covers.sort_unstable();
    let mut gaps = Vec::new();
    let mut next = 0;
    for cover in covers {
        if next < cover.earliest.0 {
            gaps.push(Span {
                earliest: UnixMillis(next),
                latest: UnixMillis(cover.earliest.0 - 1),
            });
        }
        next = next.max(cover.latest.0.saturating_add(1));
    }
    if next < u64::MAX {
        gaps.push(Span {
            earliest: UnixMillis(next),
            latest: UnixMillis(u64::MAX),
        });
    }
    gaps
}

fn either(one: &[Span], other: &[Span]) -> Vec<Span> {
    one.iter().chain(other).copied().collect()
}

/// The times that are in both lists.
fn both(one: &[Span], other: &[Span]) -> Vec<Span> {
    let meet = |a: &Span, b: &Span| {
        a.meets(*b).then(|| Span {
            earliest: a.earliest.max(b.earliest),
            latest: a.latest.min(b.latest),
        })
    };
    let pairs = one
        .iter()
        .flat_map(|a| other.iter().filter_map(move |b| meet(a, b)));
    pairs.collect()
}
