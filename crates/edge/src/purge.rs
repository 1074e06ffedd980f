//! Purges and invalidations, as the requests of all threads see them: the marks, and the order.
//!
//! What a mark means is decided by `shikiri_partition::Marks`; this is its lock, and the counter that
//! gives every fill and every mark its place. The counter of a later run of the node begins above those
//! of all earlier ones, so that places can be compared across restarts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use shikiri_partition::{Invalidation, Marked, Marks, Rules, Standing};
use shikiri_record::{Digest, NodeKey, Order, PurgeTarget};

/// All marks, and the order.
pub(crate) struct Purges {
    next: AtomicU64,
    marks: RwLock<Marks>,
    /// Under which URIs that are not told are named.
    key: NodeKey,
    /// The newest mark: what began after it needs no look at the others.
    newest: AtomicU64,
}

impl Purges {
    /// With the marks that a timeline tells of, and this place as the first.
    pub(crate) fn new(marks: Marks, first: Order, key: NodeKey) -> Self {
        assert!(
            marks.newest() < first,
            "a node's places come after all marks that it knows of"
        );
        Self {
            next: AtomicU64::new(first.0),
            newest: AtomicU64::new(marks.newest().0),
            marks: RwLock::new(marks),
            key,
        }
    }

    /// A place in the order, for a fill or a mark that begins now.
    pub(crate) fn place(&self) -> Order {
        Order(self.next.fetch_add(1, Ordering::SeqCst))
    }

    /// What an object is worth now.
    pub(crate) fn standing(&self, object: &Marked<'_>) -> Standing {
        if object.order.0 > self.newest.load(Ordering::SeqCst) {
            return Standing::Live;
        }
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let uri_digest = self.digest_for(&marks, object.uri);
        marks.standing(&Marked {
            uri_digest,
            ..*object
        })
    }

    /// A URI's digest, when some marks are found by that alone.
    pub(crate) fn digest_for(&self, marks: &Marks, uri: &str) -> Option<Digest> {
        marks.name_nobody().then(|| self.key.uri_digest(uri))
    }

    /// A target as marks and the timeline name it.
    pub(crate) fn untold(&self, target: &PurgeTarget, rules: &Rules) -> PurgeTarget {
        match target {
            PurgeTarget::Uri(uri) if rules.tells_of_somebody(uri) => {
                PurgeTarget::UriDigest(self.key.uri_digest(uri))
            }
            target => target.clone(),
        }
    }

    /// Kills what the targets mean and what began before now. Returns the place from which on it holds.
    pub(crate) fn purge(&self, targets: &[PurgeTarget]) -> Order {
        self.mark(|marks, at| targets.iter().for_each(|target| marks.purge(target, at)))
    }

    pub(crate) fn invalidate(&self, what: &Invalidation) -> Order {
        self.mark(|marks, at| marks.invalidate(what, at))
    }

    fn mark(&self, mark: impl FnOnce(&mut Marks, Order)) -> Order {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: marks are made in the order of their places.
        let at = self.place();
        mark(&mut marks, at);
        self.newest.store(marks.newest().0, Ordering::SeqCst);
        at
    }
}

#[cfg(test)]
mod tests {
    use shikiri_partition::Labels;

    use super::*;

    #[test]
    fn what_began_before_a_purge_is_dead_and_what_began_after_lives() {
        let purges = Purges::new(Marks::new(), Order(1), NodeKey::new([1; 32]));
        let labels = Labels::default();
        let standing = |order| {
            purges.standing(&Marked {
                uri: "http://a.test/x",
                uri_digest: None,
                labels: &labels,
                order,
            })
        };
        let before = purges.place();
        let at = purges.purge(&[PurgeTarget::Uri("http://a.test/x".into())]);
        let after = purges.place();
        assert!(before < at && at < after);
        assert_eq!(
            [before, after].map(standing),
            [Standing::Dead, Standing::Live]
        );
        purges.purge(&[PurgeTarget::All]);
        assert_eq!(standing(after), Standing::Dead);
        assert_eq!(standing(purges.place()), Standing::Live);
    }
}
