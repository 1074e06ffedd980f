//! What was stored under one key in one store, in the order in which it was stored as far as that is
//! known.
//!
//! Invariant: asked for what may have been there at a time, a shelf leaves out only what was surely
//! stored later, or surely replaced before.

use crate::access::{BodyMark, Edge, RequestId, Who};
use crate::span::Span;

/// Something that may have been stored.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    /// It came to be in the store at some instant of this span, by the store's clock.
    pub(super) during: Span,
    pub(super) holds: Holds,
    pub(super) bytes: Bytes,
    pub(super) status: Option<u16>,
    pub(super) body: Option<BodyMark>,
    /// The request that it was fetched for, or behind.
    pub(super) request: Option<RequestId>,
    /// Where its line stands among its store's, if it was stored in the step that wrote it.
    pub(super) order: Option<u64>,
}

/// Whether it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// It was, and took the place of what was there.
    Surely,
    /// It may have been.
    Perhaps,
    /// It was not; only who waited for it may have got it.
    WhileRunning,
}

/// Whose bytes they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bytes {
    /// Rendered by the origin for somebody.
    Of(Who),
    /// Whatever this cache behind answered with.
    From(Edge),
}

/// What may have been stored under one key in one store.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Places in the list of all fills, by the latest instant of each.
    fills: Vec<u32>,
    /// For each, the earliest instant of any from it on: where to stop looking.
    earliest_from: Vec<u64>,
    /// What surely took another's place.
    replacing: Ended,
    /// The same of those whose lines stand in order: the place of each in the earliest's stead.
    replacing_in_order: Ended,
    /// Revalidations: the latest instant of each with the earliest of any from it on.
    revalidated: Vec<(u64, u64)>,
}

impl Shelf {
    pub(super) fn add(&mut self, fill: u32) {
        self.fills.push(fill);
    }

    pub(super) fn revalidated(&mut self, during: Span) {
        self.revalidated.push((during.latest.0, during.earliest.0));
    }

    /// Sorts what was added. Nothing is asked before it.
    pub(super) fn settle(&mut self, all: &[Fill]) {
        let during = |at: &u32| all[*at as usize].during;
        self.fills
            .sort_by_key(|at| (during(at).latest, during(at).earliest, *at));
        self.earliest_from = self.fills.iter().map(|at| during(at).earliest.0).collect();
        least_from_the_end(&mut self.earliest_from, |earliest| earliest);
        let during_of = |at: &u32| (during(at).latest.0, during(at).earliest.0);
        let replacing = self
            .fills
            .iter()
            .filter(|at| all[**at as usize].holds == Holds::Surely);
        self.replacing = Ended(replacing.map(during_of).collect());
        self.replacing.settle();
        let in_order = self.fills.iter().filter_map(|at| {
            let fill = &all[*at as usize];
            let order = fill.order.filter(|_| fill.holds == Holds::Surely)?;
            Some((fill.during.latest.0, order))
        });
        self.replacing_in_order = Ended(in_order.collect());
        self.replacing_in_order.settle();
        self.revalidated.sort_unstable();
        least_from_the_end(&mut self.revalidated, |(_, earliest)| earliest);
    }

    /// What was stored entirely before this instant had surely been replaced at `at`: the latest
    /// beginning of a fill that was surely stored before `at`.
    pub(super) fn replaced_before(&self, at: u64) -> u64 {
        self.replacing.before(at)
    }

    /// What was stored at a line before this one had surely been replaced at `at`: the last line of a fill that was
    /// surely stored before `at`.
    pub(super) fn replaced_in_order_before(&self, at: u64) -> u64 {
        self.replacing_in_order.before(at)
    }

    /// Whatever may have been stored at `since` or later, and at `until` or earlier.
    pub(super) fn between<'a>(
        &'a self,
        all: &'a [Fill],
        since: u64,
        until: u64,
    ) -> impl Iterator<Item = u32> + 'a {
        let first = self
            .fills
            .partition_point(|at| all[*at as usize].during.latest.0 < since);
        let some_begin = move |(_, earliest): &(&u32, &u64)| **earliest <= until;
        let from = self.fills.iter().zip(&self.earliest_from).skip(first);
        from.take_while(some_begin)
            .map(|(at, _)| *at)
            .filter(move |at| all[*at as usize].during.earliest.0 <= until)
    }

    /// Whether some revalidation may have been at `since` or later, and at `until` or earlier.
    pub(super) fn is_revalidated_between(&self, since: u64, until: u64) -> bool {
        let first = self
            .revalidated
            .partition_point(|(latest, _)| *latest < since);
        let first = self.revalidated.get(first);
        first.is_some_and(|(_, earliest)| *earliest <= until)
    }
}

/// What surely ended the life of all that was stored before it: fills that took its place, or purges.
/// The latest instant of each and, once settled, the greatest earliest instant of any up to it.
#[derive(Debug, Default)]
pub(super) struct Ended(Vec<(u64, u64)>);

impl Ended {
    pub(super) fn add(&mut self, during: Span) {
        self.0.push((during.latest.0, during.earliest.0));
    }

    pub(super) fn settle(&mut self) {
        self.0.sort_unstable();
        let mut greatest = 0;
        for (_, earliest) in &mut self.0 {
            greatest = greatest.max(*earliest);
            *earliest = greatest;
        }
    }

    /// What was stored entirely before this instant was surely gone at `at`: the latest beginning of
    /// what had surely ended by then.
    pub(super) fn before(&self, at: u64) -> u64 {
        let before = self.0.partition_point(|(latest, _)| *latest < at);
        let last = before.checked_sub(1).and_then(|last| self.0.get(last));
        last.map_or(0, |(_, earliest)| *earliest)
    }
}

/// Makes each the least of those from it on.
fn least_from_the_end<T>(all: &mut [T], of: impl Fn(&mut T) -> &mut u64) {
    let mut least = u64::MAX;
    for it in all.iter_mut().rev() {
        let it = of(it);
        least = least.min(*it);
        *it = least;
    }
}
