//! Preview grants that hold now, and the key under which their tokens are made.
//!
//! Never on a timeline here: who makes a grant records it first. Invariant: a token opens a grant only
//! while the grant holds, and only if it was made for it under this node's key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use shikiri_partition::GRANTS_MAX;
use shikiri_record::{Grant, GrantId, GrantToken, Mode, NodeKey, UnixMillis};

pub(crate) struct Grants {
    key: NodeKey,
    inner: RwLock<Inner>,
}

struct Inner {
    by_id: BTreeMap<GrantId, Grant>,
    /// Those whose use is on the timeline.
    used: BTreeSet<GrantId>,
    /// Whether they are another node's to make and revoke: none opens anything here then.
    are_anothers: bool,
}

impl Grants {
    pub(crate) const fn new(key: NodeKey, by_id: BTreeMap<GrantId, Grant>) -> Self {
        Self {
            key,
            inner: RwLock::new(Inner {
                by_id,
                used: BTreeSet::new(),
                are_anothers: false,
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another node makes and revokes them.
    pub(crate) fn leave(&self, to_another: bool) {
        self.write().are_anothers = to_another;
    }

    /// The grant that a token opens.
    pub(crate) fn of(&self, token: &GrantToken, now: UnixMillis) -> Option<Grant> {
        let grant = self.read().find(token.id())?.clone();
        (grant.holds_at(now) && self.key.signed(&grant, token)).then_some(grant)
    }

    pub(crate) fn holds(&self, id: GrantId, now: UnixMillis) -> bool {
        let inner = self.read();
        inner.find(id).is_some_and(|grant| grant.holds_at(now))
    }

    /// The mode that a grant previews; `closed` when it does not hold.
    pub(crate) fn mode_of(&self, id: GrantId, now: UnixMillis) -> Mode {
        let inner = self.read();
        let grant = inner.find(id).filter(|grant| grant.holds_at(now));
        grant.map_or(Mode::Closed, |grant| grant.mode)
    }

    pub(crate) fn live(&self, now: UnixMillis) -> Vec<Grant> {
        let inner = self.read();
        let live = inner.by_id.values().filter(|grant| grant.holds_at(now));
        live.cloned().collect()
    }

    /// Takes a grant in, and gives its token. The first to end is forgotten when there are too many.
    pub(crate) fn add(&self, grant: Grant) -> GrantToken {
        let token = self.key.sign(&grant);
        let mut inner = self.write();
        inner.by_id.retain(|_, other| grant.from < other.until);
        if inner.by_id.len() >= GRANTS_MAX {
            let first = inner.by_id.values().min_by_key(|grant| grant.until);
            let first = first.map(|grant| grant.id);
            first.and_then(|id| inner.by_id.remove(&id));
        }
        inner.by_id.insert(grant.id, grant);
        token
    }

    pub(crate) fn remove(&self, id: GrantId) -> Option<Grant> {
        let mut inner = self.write();
        inner.used.remove(&id);
        inner.by_id.remove(&id)
    }

    pub(crate) fn is_unused(&self, id: GrantId) -> bool {
        !self.read().used.contains(&id)
    }

    pub(crate) fn used(&self, id: GrantId) {
        let mut inner = self.write();
        let Inner { by_id, used, .. } = &mut *inner;
        used.retain(|id| by_id.contains_key(id));
        used.insert(id);
    }
}

impl Inner {
    fn find(&self, id: GrantId) -> Option<&Grant> {
        self.by_id.get(&id).filter(|_| !self.are_anothers)
    }
}
