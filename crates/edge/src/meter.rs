//! How long things take, and how many run: what many threads add to and one reads.
//!
//! Never knows what was measured for whom. Invariant: the buckets are few and fixed, and adding to
//! one waits for nobody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use shikiri_record::Outcome;

/// The buckets' upper bounds, in microseconds.
pub(crate) const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Panics of this process. There is one hook for them, whatever nodes there are.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts a panic, from the hook that saw it.
pub fn note_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// Panics of this process so far.
pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// The durations of one kind of thing.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len()],
    longer: AtomicU64,
    sum_us: AtomicU64,
}

/// What a node measures.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// Responses that showed something, by their class and where they came from.
    pub(crate) classes: Classes,
    /// From a request's head to its response's head.
    pub(crate) responses: Responses,
    /// From a shared fetch to the head of its answer.
    pub(crate) origin_shared: Histogram,
    /// From a pass to the head of its answer.
    pub(crate) origin_pass: Histogram,
}

/// How long responses take to begin, by where they come from.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    /// In the order of [`Outcome::ALL`].
    shown: [Histogram; OUTCOMES],
    own: Histogram,
}

impl Responses {
    /// Of one outcome; `None`: the node's own words.
    pub(crate) fn of(&self, outcome: Option<Outcome>) -> &Histogram {
        let place = Outcome::ALL
            .iter()
            .position(|known| Some(*known) == outcome);
        let shown = place.and_then(|place| self.shown.get(place));
        shown.unwrap_or(&self.own)
    }

    /// All of them, by the outcomes' names; `own` for the node's own words.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let names = Outcome::ALL.iter().map(|outcome| outcome.name());
        let all = self.shown.iter().chain([&self.own]);
        names.chain(["own"]).zip(all)
    }
}

/// One of several at once; counts itself out when dropped.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    count: &'a AtomicUsize,
    /// How many there were before.
    pub(crate) before: usize,
}

impl<'a> Running<'a> {
    pub(crate) fn begin(count: &'a AtomicUsize) -> Self {
        let before = count.fetch_add(1, Ordering::Relaxed);
        Self { count, before }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Responses by class. What no class claims is `personal`.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    known: ArcSwap<Vec<ClassCounts>>,
    /// Classes are added one after another.
    adding: Mutex<()>,
}

/// The responses of one class, by their outcomes in the order of [`Outcome::ALL`].
#[derive(Clone, Debug)]
struct ClassCounts {
    name: Box<str>,
    responses: Arc<[AtomicU64; OUTCOMES]>,
}

const OUTCOMES: usize = Outcome::ALL.len();

/// A policy that is read again and again may have other names each time; more are not counted.
const CLASSES_MAX: usize = 256;

impl Classes {
    pub(crate) fn count(&self, class: &str, outcome: Outcome) {
        let known = self.known.load();
        match known.iter().find(|counts| *counts.name == *class) {
            Some(counts) => counts.count(outcome),
            None => self.add(class, outcome),
        }
    }

    #[cold]
    fn add(&self, class: &str, outcome: Outcome) {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = Vec::clone(&self.known.load());
        // Another thread may have been here first.
        if !known.iter().any(|counts| *counts.name == *class) {
            if known.len() >= CLASSES_MAX {
                return;
            }
            known.push(ClassCounts {
                name: class.into(),
                responses: Arc::default(),
            });
        }
        if let Some(counts) = known.iter().find(|counts| *counts.name == *class) {
            counts.count(outcome);
        }
        self.known.store(Arc::new(known));
    }

    /// Each class with its counts, in the order of [`Outcome::ALL`].
    pub(crate) fn reading(&self) -> Vec<(String, [u64; OUTCOMES])> {
        let known = self.known.load();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let all = known.iter().map(|counts| {
            let responses = counts.responses.each_ref().map(read);
            (counts.name.to_string(), responses)
        });
        all.collect()
    }
}

impl ClassCounts {
    fn count(&self, outcome: Outcome) {
        let place = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(counter) = place.and_then(|place| self.responses.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A histogram's content: how many fell into each bucket, and beyond the last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) buckets: [u64; BOUNDS_US.len()],
    pub(crate) longer: u64,
    pub(crate) sum_us: u64,
}

impl Histogram {
    pub(crate) fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        let bucket = self.buckets.get(bucket).unwrap_or(&self.longer);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn reading(&self) -> Reading {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            buckets: self.buckets.each_ref().map(read),
            longer: read(&self.longer),
            sum_us: read(&self.sum_us),
        }
    }
}

impl Reading {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.longer
    }

    /// In at most so many microseconds were so many of a hundred: the bound of the bucket in which the
    /// last of them is. `None`: it is beyond the last bound, or there are none.
    pub(crate) fn percentile_us(&self, percent: u64) -> Option<u64> {
        let rank = (self.count() * percent).div_ceil(100);
        let mut below = 0;
        let mut places = BOUNDS_US.iter().zip(self.buckets);
        let found = places.find(|(_, count)| {
            below += count;
            below >= rank
        });
        found.filter(|_| rank > 0).map(|(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_its_bound() {
        let histogram = Histogram::default();
        for us in [0, 500, 501, 10_000_000, 10_000_001] {
            histogram.add(Duration::from_micros(us));
        }
        let reading = histogram.reading();
        assert_eq!((reading.buckets[0], reading.buckets[1]), (2, 1));
        assert_eq!((reading.buckets[13], reading.longer), (1, 1));
        assert_eq!(reading.sum_us, 20_001_002);
    }

    #[test]
    fn percentiles_are_the_bounds_of_their_buckets() {
        let of = |counts: &[(u64, usize)]| {
            let histogram = Histogram::default();
            for (us, count) in counts {
                for _ in 0..*count {
                    histogram.add(Duration::from_micros(*us));
                }
            }
            let reading = histogram.reading();
            (reading.percentile_us(50), reading.percentile_us(99))
        };
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&[(1, 1)]), (Some(500), Some(500)));
        assert_eq!(of(&[(1, 99), (2_000, 1)]), (Some(500), Some(500)));
        assert_eq!(of(&[(1, 98), (2_000, 2)]), (Some(500), Some(2_500)));
        assert_eq!(of(&[(600, 1), (11_000_000, 1)]), (Some(1_000), None));
    }

    #[test]
    fn every_outcome_has_a_histogram_of_its_own_and_so_have_own_words() {
        let responses = Responses::default();
        let all = Outcome::ALL.iter().copied().map(Some).chain([None]);
        for outcome in all {
            responses.of(outcome).add(Duration::from_millis(1));
        }
        let counts = responses
            .named()
            .map(|(name, h)| (name, h.reading().count()));
        let counts: Vec<_> = counts.collect();
        assert_eq!(counts.len(), OUTCOMES + 1);
        assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
        assert_eq!(counts.last(), Some(&("own", 1)));
    }

    #[test]
    fn classes_are_counted_by_outcome_and_are_bounded() {
        let classes = Classes::default();
        for n in 0..2 * CLASSES_MAX {
            classes.count(&format!("class-{n}"), Outcome::Hit);
        }
        classes.count("class-0", Outcome::Hit);
        classes.count("class-0", Outcome::Pass);
        let reading = classes.reading();
        assert_eq!(reading.len(), CLASSES_MAX);
        let (name, responses) = &reading[0];
        let at = |outcome| Outcome::ALL.iter().position(|o| *o == outcome).unwrap();
        assert_eq!(name, "class-0");
        assert_eq!(
            (responses[at(Outcome::Hit)], responses[at(Outcome::Pass)]),
            (2, 1)
        );
    }
}
