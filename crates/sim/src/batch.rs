//! Batches of schedules, seeded faults, and the search for the smallest schedule that still fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shikiri_partition::fault::{self, Fault};

use crate::check::{self, Finding};
use crate::rng::mix;
use crate::schedule::{Action, Protocol, Schedule};
use crate::secret::Secrets;
use crate::world::{Seen, rules, run};

/// What a batch has seen, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) schedules: u64,
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) stale: u64,
    pub(crate) collapsed: u64,
    pub(crate) fills: u64,
    pub(crate) relays: u64,
    pub(crate) passes: u64,
    pub(crate) refused: u64,
    pub(crate) failures: u64,
    /// Slices of large objects that origins gave.
    pub(crate) slices: u64,
    /// Sets of them that ended because one did not fit.
    pub(crate) sets_ended: u64,
    /// Schedules in which somebody other than who caused a fill was served from it.
    pub(crate) with_hits: u64,
    pub(crate) origin_requests: u64,
    pub(crate) origin_connections: u64,
}

impl Totals {
    fn take(&mut self, seen: &Seen) {
        let c = &seen.counts;
        self.schedules += 1;
        self.requests += c.requests;
        self.hits += c.hits;
        self.stale += c.stale;
        self.collapsed += c.collapsed;
        self.fills += c.fills;
        self.relays += c.relays;
        self.passes += c.passes;
        self.refused += c.refused;
        self.failures += c.failures;
        let slices = seen.asked.iter().filter(|a| a.is_slice && a.status == 206);
        self.slices += u64::try_from(slices.count()).expect("few");
        self.sets_ended += c.sets_ended;
        self.with_hits += u64::from(c.hits + c.collapsed > 0);
        self.origin_requests +=
            u64::try_from(seen.asked.iter().filter(|asked| asked.is_first).count()).expect("few");
        self.origin_connections += u64::from(seen.origin_connections);
    }

    fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.requests += other.requests;
        self.hits += other.hits;
        self.stale += other.stale;
        self.collapsed += other.collapsed;
        self.fills += other.fills;
        self.relays += other.relays;
        self.passes += other.passes;
        self.refused += other.refused;
        self.failures += other.failures;
        self.slices += other.slices;
        self.sets_ended += other.sets_ended;
        self.with_hits += other.with_hits;
        self.origin_requests += other.origin_requests;
        self.origin_connections += other.origin_connections;
    }

    /// (g) The positive control: a cache that shares nothing would pass every other checker.
    pub(crate) fn control(&self) -> Result<(), Finding> {
        if self.schedules >= 100 && self.with_hits * 10 < self.schedules {
            return Err(Finding {
                checker: "positive control",
                what: format!(
                    "only {} of {} schedules had a hit",
                    self.with_hits, self.schedules
                ),
            });
        }
        if self.schedules >= 300 && (self.slices == 0 || self.sets_ended == 0) {
            return Err(Finding {
                checker: "positive control",
                what: format!(
                    "{} slices were fetched, and {} sets ended",
                    self.slices, self.sets_ended
                ),
            });
        }
        Ok(())
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} schedules ({} with hits): {} requests; {} hits, {} stale, {} collapsed, {} fills, {} relays, \
             {} passes, {} refused, {} failures; {} slices, {} sets of them ended; origins: {} requests on {} connections",
            self.schedules,
            self.with_hits,
            self.requests,
            self.hits,
            self.stale,
            self.collapsed,
            self.fills,
            self.relays,
            self.passes,
            self.refused,
            self.failures,
            self.slices,
            self.sets_ended,
            self.origin_requests,
            self.origin_connections,
        )
    }
}

/// The secrets of a schedule in one of its two runs.
pub(crate) fn secrets(schedule: &Schedule, variant: u64) -> Secrets {
    Secrets {
        seed: mix(schedule.seed ^ 0x5ec2),
        variant,
    }
}

/// Runs a schedule twice and judges both.
pub(crate) fn judge(schedule: &Schedule) -> (Seen, Result<(), Finding>) {
    let rules = rules(schedule);
    let one = run(schedule, &rules, secrets(schedule, 0));
    let other = run(schedule, &rules, secrets(schedule, 1));
    let judged = check::two_runs(schedule, &one, &other)
        .and_then(|()| check::run(schedule, &one))
        .and_then(|()| check::run(schedule, &other));
    (one, judged)
}

/// A run must depend on its seed alone, or no failure could be looked at again.
fn repeats(schedule: &Schedule, seen: &Seen) -> Result<(), Finding> {
    let again = run(schedule, &rules(schedule), secrets(schedule, 0));
    if again.clients == seen.clients {
        return Ok(());
    }
    Err(Finding {
        checker: "repetition",
        what: "the same schedule with the same secrets went otherwise".to_owned(),
    })
}

/// The seed of the nth schedule of a batch.
pub(crate) fn nth(base: u64, n: u64) -> u64 {
    mix(base.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Runs a batch on some threads. `progress` is told how many schedules are done.
pub(crate) fn many(
    base: u64,
    count: u64,
    threads: u64,
    progress: impl Fn(u64) + Send + Sync,
) -> (Totals, Vec<(u64, Finding)>) {
    const FINDINGS_MAX: usize = 5000;
    const REPEATED_EVERY: u64 = 50;
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let findings = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Totals::default();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let found = findings
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .len();
                    if n >= count || found >= FINDINGS_MAX {
                        break;
                    }
                    let seed = nth(base, n);
                    let schedule = Schedule::of(seed);
                    let (seen, judged) = judge(&schedule);
                    own.take(&seen);
                    let judged = judged.and_then(|()| {
                        if n.is_multiple_of(REPEATED_EVERY) {
                            repeats(&schedule, &seen)
                        } else {
                            Ok(())
                        }
                    });
                    if let Err(finding) = judged {
                        findings
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((seed, finding));
                    }
                    progress(n + 1);
                }
                totals
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(&own);
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    (
        totals,
        findings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    )
}

/// A seeded fault that was found.
#[derive(Debug)]
pub(crate) struct Caught {
    /// The schedule's place in its batch.
    pub(crate) nth: u64,
    pub(crate) seed: u64,
    pub(crate) finding: Finding,
}

/// Which schedules a fault is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    All,
    /// The same with everybody speaking one protocol.
    Only(Protocol),
}

impl Among {
    fn schedule(self, seed: u64) -> Schedule {
        let mut schedule = Schedule::of(seed);
        if let Self::Only(protocol) = self {
            for client in &mut schedule.clients {
                client.protocol = protocol;
            }
        }
        schedule
    }
}

/// For each seeded fault: the first schedule that finds it, if one of the first `most` does.
pub(crate) fn faults(base: u64, most: u64, among: Among) -> Vec<(Fault, Option<Caught>)> {
    let each = |planted: Fault| {
        let caught = (0..most).find_map(|n| {
            let seed = nth(base, n);
            let schedule = among.schedule(seed);
            fault::set(Some(planted));
            let judged = judge(&schedule).1;
            fault::set(None);
            // What is found without the fault too is not its doing.
            let finding = judged.err().filter(|_| judge(&schedule).1.is_ok())?;
            Some(Caught {
                nth: n,
                seed,
                finding,
            })
        });
        (planted, caught)
    };
    Fault::ALL.into_iter().map(each).collect()
}

/// Takes away whatever a failure does not need.
pub(crate) fn shrink(schedule: &Schedule) -> Option<(Schedule, Finding)> {
    let mut smallest = schedule.clone();
    let mut finding = judge(&smallest).1.err()?;
    loop {
        let smaller = without(&smallest).into_iter().find_map(|candidate| {
            let found = judge(&candidate).1.err()?;
            (found.checker == finding.checker).then_some((candidate, found))
        });
        let Some((candidate, found)) = smaller else {
            return Some((smallest, finding));
        };
        (smallest, finding) = (candidate, found);
    }
}

/// Every schedule that is one thing smaller.
fn without(schedule: &Schedule) -> Vec<Schedule> {
    let mut smaller = Vec::new();
    let mut change = |change: &dyn Fn(&mut Schedule)| {
        let mut candidate = schedule.clone();
        change(&mut candidate);
        smaller.push(candidate);
    };
    for n in 0..schedule.clients.len() {
        change(&|s| drop(s.clients.remove(n)));
    }
    for n in 0..schedule.controls.len() {
        change(&|s| drop(s.controls.remove(n)));
    }
    for n in 0..schedule.outages.len() {
        change(&|s| {
            s.outages.remove(n);
        });
    }
    for (n, client) in schedule.clients.iter().enumerate() {
        for k in 0..client.steps.len() {
            if let Action::Send(request) = &client.steps[k].action {
                // All that is done with a request goes with it.
                let id = request.id;
                change(&|s| s.clients[n].steps.retain(|step| step.of() != Some(id)));
            } else if !matches!(client.steps[k].action, Action::Body { .. }) {
                change(&|s| drop(s.clients[n].steps.remove(k)));
            }
            if let Action::Send(request) = &client.steps[k].action {
                for f in 0..request.fields.len() {
                    // It says what may depend on a secret; without it it would be another world.
                    if request.fields[f].0 == "User-Agent" {
                        continue;
                    }
                    change(&|s| {
                        if let Action::Send(request) = &mut s.clients[n].steps[k].action {
                            drop(request.fields.remove(f));
                        }
                    });
                }
            }
        }
    }
    smaller.retain(|s| s.clients.iter().any(|c| !c.steps.is_empty()));
    for candidate in &mut smaller {
        candidate.clients.retain(|client| !client.steps.is_empty());
    }
    smaller
}

/// Progress that is printed now and then.
pub(crate) fn every(step: u64, say: impl Fn(u64) + Send + Sync) -> impl Fn(u64) + Send + Sync {
    let said = Arc::new(AtomicU64::new(0));
    move |done| {
        let before = said.load(Ordering::Relaxed);
        if done >= before + step
            && said
                .compare_exchange(before, done, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            say(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 20_200_316;

    #[test]
    fn others_do_not_observe_a_members_secrets() {
        let (totals, findings) = many(BASE, 300, 2, |_| {});
        assert!(findings.is_empty(), "{findings:#?}");
        assert_eq!(totals.control(), Ok(()), "{totals}");
    }

    #[test]
    fn every_seeded_fault_is_caught() {
        for (among, most) in [(Among::All, 1_000), (Among::Only(Protocol::Http2), 2_000)] {
            for (fault, caught) in faults(BASE, most, among) {
                assert!(caught.is_some(), "{fault:?} is not caught in {among:?}");
            }
        }
    }

    #[test]
    fn a_failing_schedule_gets_smaller_and_still_fails() {
        let planted = Fault::CookieInSharedFetch;
        let caught = faults(BASE, 500, Among::All)
            .into_iter()
            .find(|(fault, _)| *fault == planted);
        let caught = caught.and_then(|(_, caught)| caught);
        let Caught { seed, finding, .. } = caught.expect("it is caught");
        let whole = Schedule::of(seed);
        fault::set(Some(planted));
        let smallest = shrink(&whole);
        fault::set(None);
        let (smallest, still) = smallest.expect("it fails");
        assert_eq!(still.checker, finding.checker);
        let steps = |s: &Schedule| s.clients.iter().map(|c| c.steps.len()).sum::<usize>();
        assert!(steps(&smallest) <= steps(&whole) && judge(&smallest).1.is_ok());
    }

    #[test]
    fn the_same_over_sockets() {
        for n in 0..20 {
            let seed = nth(BASE, n);
            let (_, judged) = crate::sockets::judge(&Schedule::of(seed));
            assert_eq!(judged, Ok(()), "seed {seed}");
        }
    }
}
