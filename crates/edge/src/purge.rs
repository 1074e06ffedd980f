//! Purges and invalidations: marks that are checked on every hit.
//!
//! A purge does not search and delete: it marks a URI at a place in the node's order, and whatever
//! was begun before that place is dead wherever it turns up, also a fill that is still running. So a
//! purge is complete however many variants a URI has, and nothing comes back after it.
//!
//! Bounded: when there are too many marks, they are forgotten by raising a floor under everything
//! older. That kills more than was asked for, never less.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use shikiri_record::Order;

/// Marks kept at most; a mark takes some 200 bytes.
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

/// All marks, and the order.
pub(crate) struct Purges {
    next: AtomicU64,
    marks: RwLock<BTreeMap<Box<str>, Mark>>,
    len: AtomicUsize,
    floor: AtomicU64,
}

impl Purges {
    pub(crate) const fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            marks: RwLock::new(BTreeMap::new()),
            len: AtomicUsize::new(0),
            floor: AtomicU64::new(0),
        }
    }

    /// A place in the order, for a fill that begins now.
    pub(crate) fn place(&self) -> Order {
        Order(self.next.fetch_add(1, Ordering::SeqCst))
    }

    /// What was begun at `order` for `uri` is worth now.
    pub(crate) fn standing(&self, uri: &str, order: Order) -> Standing {
        if order.0 <= self.floor.load(Ordering::SeqCst) {
            return Standing::Dead;
        }
        if self.len.load(Ordering::SeqCst) == 0 {
            return Standing::Live;
        }
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        match marks.get(uri) {
            Some(Mark {
                purged: Some(at), ..
            }) if *at > order => Standing::Dead,
            Some(Mark {
                invalidated: Some(at),
                ..
            }) if *at > order => Standing::Stale,
            _ => Standing::Live,
        }
    }

    pub(crate) fn purge(&self, uri: &str) {
        self.mark(uri, |mark, at| mark.purged = Some(at));
    }

    pub(crate) fn invalidate(&self, uri: &str) {
        self.mark(uri, |mark, at| mark.invalidated = Some(at));
    }

    fn mark(&self, uri: &str, set: impl FnOnce(&mut Mark, Order)) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        if marks.len() >= MARKS_MAX && !marks.contains_key(uri) {
            self.floor.store(self.place().0, Ordering::SeqCst);
            marks.clear();
        }
        let at = self.place();
        set(marks.entry(uri.into()).or_default(), at);
        self.len.store(marks.len(), Ordering::SeqCst);
    }

    /// Everything begun so far is dead.
    pub(crate) fn purge_all(&self) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        self.floor.store(self.place().0, Ordering::SeqCst);
        marks.clear();
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
    fn too_many_marks_kill_more_never_less() {
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
}
