//! Flights: one fetch for many requests of one key.
//!
//! Waiting is not sharing. Who waits gets the object only once it was admitted; when it was not,
//! each goes on alone, at once and side by side, not in a queue behind a leader. A flight ends with
//! its fill, however that ends.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shikiri_partition::Key;
use tokio::sync::Notify;

use crate::store::Object;

/// What has become of a fill, for those who wait.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Running,
    /// Admitted; the body may still be growing.
    Shared(Arc<Object>),
    /// Not admitted: the reason's name.
    Not(&'static str),
    /// The origin failed: the reason's name. An older copy may stand in (RFC 5861 4).
    Failed(&'static str),
    /// The origin gave no response at all: the status that says so, and the reason's name.
    NoAnswer(http::StatusCode, &'static str),
    /// What only a seeded fault would hand to a waiter.
    #[cfg(feature = "seeded-faults")]
    Unadmitted(http::StatusCode, http::HeaderMap, bytes::Bytes),
}

/// The running fills.
#[derive(Default)]
pub(crate) struct Flights {
    running: Mutex<HashMap<Key, Arc<Flight>, foldhash::quality::FixedState>>,
}

pub(crate) struct Flight {
    outcome: Mutex<Outcome>,
    /// Wakes those who wait in the order in which they came. (A watch channel wakes them in an order
    /// of its own, and no run of the simulator could be repeated.)
    told: Notify,
    waiting: AtomicUsize,
}

impl Flight {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's part in a fill.
pub(crate) enum Joined {
    /// It is first: it runs the fill.
    Leads(Leading),
    /// Another runs it.
    Waits(Waiting),
    /// Too many wait for it, or too many fills run, already.
    Full,
}

impl Flights {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = foldhash::quality::FixedState::with_seed(seed);
        Self {
            running: Mutex::new(HashMap::with_hasher(hasher)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flight>, foldhash::quality::FixedState>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the fill of a key, or begins one. `look_again` runs under the lock: a fill that ended
    /// between the lookup and now has left something in the store. At most `running_max` fills run:
    /// they outlive the requests that led them, whose own bound does not hold them.
    pub(crate) fn join<T>(
        self: &Arc<Self>,
        key: &Key,
        waiting_max: usize,
        running_max: usize,
        look_again: impl FnOnce() -> Option<T>,
    ) -> Result<Joined, T> {
        let mut running = self.lock();
        if let Some(flight) = running.get(key) {
            if flight.waiting.fetch_add(1, Ordering::Relaxed) >= waiting_max {
                flight.waiting.fetch_sub(1, Ordering::Relaxed);
                return Ok(Joined::Full);
            }
            return Ok(Joined::Waits(Waiting {
                flight: Arc::clone(flight),
            }));
        }
        if let Some(found) = look_again() {
            return Err(found);
        }
        if running.len() >= running_max {
            return Ok(Joined::Full);
        }
        let flight = Arc::new(Flight {
            outcome: Mutex::new(Outcome::Running),
            told: Notify::new(),
            waiting: AtomicUsize::new(0),
        });
        running.insert(key.clone(), Arc::clone(&flight));
        Ok(Joined::Leads(Leading {
            flights: Arc::clone(self),
            key: key.clone(),
            flight,
        }))
    }

    /// Begins a fill unless one runs.
    pub(crate) fn lead(self: &Arc<Self>, key: &Key, running_max: usize) -> Option<Leading> {
        match self.join(key, 0, running_max, || None::<()>) {
            Ok(Joined::Leads(leading)) => Some(leading),
            _ => None,
        }
    }

    /// How many run for keys like these.
    pub(crate) fn count_where(&self, is_meant: impl Fn(&Key) -> bool) -> u64 {
        let running = self.lock();
        let count = running.keys().filter(|key| is_meant(key)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

/// The duty to end a flight. Ends it when dropped, so that a panic leaves nobody waiting.
#[must_use]
pub(crate) struct Leading {
    flights: Arc<Flights>,
    key: Key,
    flight: Arc<Flight>,
}

impl Leading {
    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    /// Tells those who wait; the flight goes on until it is dropped.
    pub(crate) fn tell(&self, outcome: Outcome) {
        *self.flight.outcome() = outcome;
        self.flight.told.notify_waiters();
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
        let mut outcome = self.flight.outcome();
        if matches!(*outcome, Outcome::Running) {
            *outcome = Outcome::Not("our-failure");
        }
        drop(outcome);
        self.flight.told.notify_waiters();
    }
}

/// A place among those who wait.
pub(crate) struct Waiting {
    flight: Arc<Flight>,
}

impl Waiting {
    /// Waits until it is known whether the fill is shared.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        loop {
            let mut told = pin!(self.flight.told.notified());
            // Listen first, look then: nothing said in between is missed.
            told.as_mut().enable();
            let outcome = self.flight.outcome().clone();
            if !matches!(outcome, Outcome::Running) {
                return outcome;
            }
            told.await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.flight.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
