//! What the guard of a connection tells the service behind it.
//!
//! For: answering a refused request with its own status, though hyper never saw it. Hyper serves
//! the requests of a connection in order, so their number is all that both sides need to share.
//!
//! Invariant: a connection has at most one refusal, since nothing is read after it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use shikiri_partition::Refused;

/// What was found on one connection. Shared by its guard and its service.
#[derive(Debug, Default)]
pub struct Findings {
    refusal: OnceLock<(u64, Refused)>,
    /// Requests that the service has been called with.
    taken: AtomicU64,
    /// Requests that the service has done with, answer and all.
    answered: AtomicU64,
    /// The last request has switched protocols.
    switched: AtomicBool,
    /// Whoever waits to know.
    waits: Mutex<Option<Waker>>,
}

/// What became of a request that might have switched protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// It did: what the client sends is no request any more.
    Switched,
    /// It was answered like any other.
    Answered,
}

impl Findings {
    /// Of a connection that has sent nothing.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The next request's turn. The service calls this first, once for every request that hyper
    /// hands to it, and drops the turn when the answer's body has been handed over or given up.
    #[must_use = "a turn dropped early lets the connection be closed as idle"]
    pub fn turn(self: &Arc<Self>) -> Turn {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Turn {
            number,
            findings: Arc::clone(self),
        }
    }

    /// Why a request was refused, if it was. Requests count from zero on each connection.
    #[must_use]
    pub fn refusal_of(&self, number: u64) -> Option<Refused> {
        self.refusal
            .get()
            .and_then(|&(refused, why)| (refused == number).then_some(why))
    }

    /// Notes a refusal. The first one stays.
    pub(super) fn refuse(&self, number: u64, why: Refused) {
        self.refusal.get_or_init(|| (number, why));
    }

    /// What became of the last of so many requests. Wakes who asks when it is known.
    pub(super) fn decided(&self, handed_on: u64, cx: &mut Context<'_>) -> Poll<Decided> {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if self.switched.load(Ordering::Acquire) {
            return Poll::Ready(Decided::Switched);
        }
        if self.has_answered(handed_on) {
            return Poll::Ready(Decided::Answered);
        }
        *waits = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wake(&self) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = waits.take();
        if let Some(waker) = waits {
            waker.wake();
        }
    }

    /// Whether so many requests have all been answered.
    pub(super) fn has_answered(&self, handed_on: u64) -> bool {
        self.answered.load(Ordering::Acquire) >= handed_on
    }
}

/// One request's turn on its connection. While it lives, the connection is not idle.
#[derive(Debug)]
pub struct Turn {
    number: u64,
    findings: Arc<Findings>,
}

impl Turn {
    /// The request's number on its connection, from zero.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// This request has switched protocols: nothing that follows it is a request.
    pub fn switch(&self) {
        self.findings.switched.store(true, Ordering::Release);
        self.findings.wake();
    }

    /// Why this request is refused, if it is.
    ///
    /// A refusal of the head is known from the start: what the service sees then is a stand-in and
    /// nothing that the client sent. A refusal of the body comes when reading the body fails; ask
    /// again then.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.findings.refusal_of(self.number)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.findings.answered.fetch_add(1, Ordering::Release);
        self.findings.wake();
    }
}
