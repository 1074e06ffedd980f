//! Closing: how the connections of all threads learn that the site is closed, and when all have.
//!
//! Every client connection, and every tunnel, is enrolled. At a closing each is told once and says when
//! it has done what closing asks of it; who closes waits for the last.
//!
//! Never decides what is cut: the connection does, since it knows what runs on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a closing has cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Client connections, tunnels among them.
    pub connections: u64,
    /// Responses that were on their way on these.
    pub streams: u64,
}

/// All closings of a node.
#[derive(Debug)]
pub(crate) struct Closings {
    inner: Mutex<Inner>,
    /// Wakes those who are enrolled in the order in which they wait. (A watch channel wakes them in an order
    /// of its own, and no run of the simulator could be repeated.)
    told: Notify,
    done: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// How many closings there were.
    number: u64,
    enrolled: u64,
    /// Enrolled ones that have not yet done what the last closing asks.
    behind: u64,
    /// What the last closing has cut so far.
    cut: Cut,
}

impl Closings {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            told: Notify::new(),
            done: Notify::new(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Counts; whoever panicked did so between two of them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enrols a connection, for as long as the value lives.
    pub(crate) fn enrol(self: &Arc<Self>) -> Enrolled {
        let mut inner = self.inner();
        inner.enrolled += 1;
        Enrolled {
            seen: inner.number,
            closings: Arc::clone(self),
        }
    }

    /// Tells all who are enrolled that the site is closed from now on.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.number += 1;
        inner.behind = inner.enrolled;
        inner.cut = Cut::default();
        drop(inner);
        self.told.notify_waiters();
    }

    /// Waits until all who were enrolled at the last closing have done what it asks.
    pub(crate) async fn all_done(&self) -> Cut {
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            done.as_mut().enable();
            {
                let inner = self.inner();
                if inner.behind == 0 {
                    return inner.cut;
                }
            }
            done.await;
        }
    }

    fn catch_up(&self, inner: &mut Inner, seen: u64) {
        if seen < inner.number {
            inner.behind -= 1;
            if inner.behind == 0 {
                self.done.notify_waiters();
            }
        }
    }

    /// What the last closing has cut so far, and how many are behind.
    pub(crate) fn so_far(&self) -> (Cut, u64) {
        let inner = self.inner();
        (inner.cut, inner.behind)
    }
}

/// A connection's place among those that are told.
#[derive(Debug)]
pub(crate) struct Enrolled {
    closings: Arc<Closings>,
    /// The last closing that it has seen.
    seen: u64,
}

impl Enrolled {
    /// Waits for a closing that this connection has not yet seen.
    pub(crate) async fn closed(&self) {
        loop {
            let mut told = std::pin::pin!(self.closings.told.notified());
            // Listen first, look then: nothing that is told in between is missed.
            told.as_mut().enable();
            if self.closings.inner().number > self.seen {
                return;
            }
            told.await;
        }
    }

    /// Says that what the closing asks is done, and what was cut for it.
    pub(crate) fn done(&mut self, cut: Cut) {
        let mut inner = self.closings.inner();
        inner.cut.connections += cut.connections;
        inner.cut.streams += cut.streams;
        self.closings.catch_up(&mut inner, self.seen);
        self.seen = inner.number;
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        // One that ends needs nothing more, whatever it had still to do.
        let mut inner = self.closings.inner();
        self.closings.catch_up(&mut inner, self.seen);
        inner.enrolled -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_closes_waits_for_all_who_were_there() {
        let closings = Closings::new();
        let (mut one, other) = (closings.enrol(), closings.enrol());
        closings.close();
        let later = closings.enrol();
        one.closed().await;
        one.done(Cut {
            connections: 1,
            streams: 2,
        });
        let patience = Duration::from_secs(1);
        assert!(timeout(patience, closings.all_done()).await.is_err());
        assert_eq!(closings.so_far().1, 1);
        other.closed().await;
        drop(other);
        let cut = timeout(patience, closings.all_done())
            .await
            .expect("all are done");
        assert_eq!((cut.connections, cut.streams), (1, 2));
        drop(later);
        assert!(
            timeout(patience, one.closed()).await.is_err(),
            "it was told once"
        );
        closings.close();
        drop(one);
        assert_eq!(closings.all_done().await, Cut::default());
        assert_eq!(closings.inner().enrolled, 0);
    }
}
