//! Purges and invalidations: marks that are checked on every hit.
//!
//! A purge does not search and delete: it marks a URI at a place in the node's order, and whatever
//! was begun before that place is dead wherever it turns up, also a fill that is still running. So a
//! purge is complete however many variants a URI has, and nothing comes back after it.
//!
//! Bounded: when there are too many marks, they are forgotten by raising a floor under everything
//! older. That makes more stale, or dead, than was asked for, never less. Invalidations come from
//! anybody who may send an unsafe method, so their overflow only makes stale.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use shikiri_record::Order;

/// Bytes that the marks' URIs may take.
const URI_BYTES_MAX: usize = 16 << 20;

/// Marks kept at most, beside what their URIs take.
const MARKS_MAX: usize = 65_536;

/// What an object's place in the order means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Live,
    /// An unsafe method came after it was begun: the origin must be asked.
    Stale,
    /// A purge came after it was begun.
    Dead,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    purged: Option<Order>,
    invalidated: Option<Order>,
}

#[derive(Default)]
struct Marks {
    by_uri: BTreeMap<Box<str>, Mark>,
    uri_bytes: usize,
}

impl Marks {
    fn is_full_for(&self, uri: &str) -> bool {
        !self.by_uri.contains_key(uri)
            && (self.by_uri.len() >= MARKS_MAX || self.uri_bytes + uri.len() > URI_BYTES_MAX)
    }

    fn retain(&mut self, keep: impl Fn(&Mark) -> bool) {
        let bytes = &mut self.uri_bytes;
        self.by_uri.retain(|uri, mark| {
            let stays = keep(mark);
            if !stays {
                *bytes -= uri.len();
            }
            stays
        });
    }

    fn of(&mut self, uri: &str) -> &mut Mark {
        if !self.by_uri.contains_key(uri) {
            self.uri_bytes += uri.len();
        }
        self.by_uri.entry(uri.into()).or_default()
    }
}

/// All marks, and the order.
pub(crate) struct Purges {
    next: AtomicU64,
    marks: RwLock<Marks>,
    len: AtomicUsize,
    dead_floor: AtomicU64,
    stale_floor: AtomicU64,
}

impl Purges {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            marks: RwLock::default(),
            len: AtomicUsize::new(0),
            dead_floor: AtomicU64::new(0),
            stale_floor: AtomicU64::new(0),
        }
    }

    /// A place in the order, for a fill that begins now.
    pub(crate) fn place(&self) -> Order {
        Order(self.next.fetch_add(1, Ordering::SeqCst))
    }

    /// What was begun at `order` for `uri` is worth now.
    pub(crate) fn standing(&self, uri: &str, order: Order) -> Standing {
        if order.0 <= self.dead_floor.load(Ordering::SeqCst) {
            return Standing::Dead;
        }
        let mark = if self.len.load(Ordering::SeqCst) == 0 {
            None
        } else {
            let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
            marks.by_uri.get(uri).copied()
        };
        match mark {
            Some(Mark {
                purged: Some(at), ..
            }) if at > order => Standing::Dead,
            Some(Mark {
                invalidated: Some(at),
                ..
            }) if at > order => Standing::Stale,
            _ if order.0 <= self.stale_floor.load(Ordering::SeqCst) => Standing::Stale,
            _ => Standing::Live,
        }
    }

    pub(crate) fn purge(&self, uri: &str) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        if marks.is_full_for(uri) {
            self.dead_floor.store(self.place().0, Ordering::SeqCst);
            marks.retain(|_| false);
        }
        marks.of(uri).purged = Some(self.place());
        self.len.store(marks.by_uri.len(), Ordering::SeqCst);
    }

    pub(crate) fn invalidate(&self, uri: &str) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        if marks.is_full_for(uri) {
            self.stale_floor.store(self.place().0, Ordering::SeqCst);
            marks.retain(|mark| mark.purged.is_some());
        }
        if marks.is_full_for(uri) {
            // Full of purges: the floor has made this one stale, with all the others.
            return;
        }
        marks.of(uri).invalidated = Some(self.place());
        self.len.store(marks.by_uri.len(), Ordering::SeqCst);
    }

    /// Everything begun so far is dead.
    pub(crate) fn purge_all(&self) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        self.dead_floor.store(self.place().0, Ordering::SeqCst);
        marks.retain(|_| false);
        self.len.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_before_a_purge_is_dead_and_what_began_after_lives() {
        let purges = Purges::new();
        let before = purges.place();
        purges.purge("http://a.test/x");
        let after = purges.place();
        assert_eq!(purges.standing("http://a.test/x", before), Standing::Dead);
        assert_eq!(purges.standing("http://a.test/x", after), Standing::Live);
        assert_eq!(purges.standing("http://a.test/y", before), Standing::Live);
        purges.purge_all();
        assert_eq!(purges.standing("http://a.test/y", after), Standing::Dead);
        assert_eq!(
            purges.standing("http://a.test/y", purges.place()),
            Standing::Live
        );
    }

    #[test]
    fn an_invalidation_makes_stale_and_does_not_undo_a_purge() {
        let purges = Purges::new();
        let before = purges.place();
        purges.invalidate("u");
        assert_eq!(purges.standing("u", before), Standing::Stale);
        purges.purge("u");
        purges.invalidate("u");
        assert_eq!(purges.standing("u", before), Standing::Dead);
    }

    #[test]
    fn too_many_purges_kill_more_never_less() {
        let purges = Purges::new();
        let before = purges.place();
        for n in 0..=MARKS_MAX {
            purges.purge(&n.to_string());
        }
        assert_eq!(purges.standing("0", before), Standing::Dead);
        assert_eq!(purges.standing("never marked", before), Standing::Dead);
        assert_eq!(
            purges.standing("never marked", purges.place()),
            Standing::Live
        );
    }

    #[test]
    fn too_many_invalidations_make_stale_and_forget_no_purge() {
        let purges = Purges::new();
        let before = purges.place();
        purges.purge("purged");
        let long = "x".repeat(8 << 10);
        for n in 0..5000 {
            purges.invalidate(&format!("{long}{n}"));
        }
        assert_eq!(purges.standing("purged", before), Standing::Dead);
        assert_eq!(purges.standing("never marked", before), Standing::Stale);
        assert_eq!(
            purges.standing("never marked", purges.place()),
            Standing::Live
        );
        let marks = purges.marks.read().unwrap();
        assert!(marks.uri_bytes <= URI_BYTES_MAX);
        assert_eq!(
            marks.uri_bytes,
            marks.by_uri.keys().map(|uri| uri.len()).sum::<usize>()
        );
    }
}
