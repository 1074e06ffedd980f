//! Idle connections, in two kinds that never mix: those of shared fetches, and those of passes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use shikiri_partition::{Key, Limits, Upstream};
use shikiri_record::Digest;
use tokio::time::Instant;

use super::conn::Conn;
use crate::connection::Connection;
use crate::node::Worker;

/// Idle connections to one place, the oldest first.
type Carried = VecDeque<(Option<Key>, Conn)>;

/// Idle connections for shared fetches, of one worker, each with the key that it carried. `None` is
/// for a planted fault alone.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<BTreeMap<Arc<Upstream>, Carried>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<Upstream>, Carried>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn checkout(
        &self,
        place: &Arc<Upstream>,
        key: Option<&Key>,
        limits: &Limits,
    ) -> Option<Conn> {
        let mut idle = self.lock();
        let conns = idle.get_mut(place)?;
        // The youngest first: the others grow old and are closed.
        loop {
            let at = conns.iter().rposition(|(carried, conn)| {
                let places = || {
                    [carried.as_ref(), key]
                        .iter()
                        .all(|k| k.is_some_and(Key::is_a_place))
                };
                // A slice says which bytes it is, and is held against what was asked.
                let one_object = carried
                    .as_ref()
                    .zip(key)
                    .is_some_and(|(carried, key)| carried.is_of_one_object(key));
                one_object || (conn.is_silent() && places()) || pools_mixed()
            })?;
            let (_, conn) = conns.remove(at)?;
            if conn.is_usable(limits) {
                return Some(conn);
            }
        }
    }

    fn checkin(&self, place: &Arc<Upstream>, key: Option<Key>, conn: Conn, limits: &Limits) {
        let mut idle = self.lock();
        let conns = idle.entry(place.clone()).or_default();
        // The next use of a key comes soon (the second copy of a document) or late: the oldest goes.
        while conns.len() >= limits.origin_idle_max.max(1) {
            drop(conns.pop_front());
        }
        conns.push_back((key, conn));
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, limits: &Limits) {
        self.lock().retain(|_, conns| {
            conns.retain(|(_, conn)| {
                !conn.is_closed() && conn.idle_since.elapsed() < limits.origin_idle_time_max
            });
            !conns.is_empty()
        });
    }
}

/// Whether a planted fault has the pools mixed.
#[cfg(feature = "seeded-faults")]
fn pools_mixed() -> bool {
    shikiri_partition::fault::is(shikiri_partition::fault::Fault::PoolsMixed)
}

#[cfg(not(feature = "seeded-faults"))]
const fn pools_mixed() -> bool {
    false
}

/// An idle connection, and whose it is.
type Owned = (Arc<Upstream>, Option<Digest>, Conn);

/// Idle connections for passes, of one client connection.
#[derive(Default)]
pub(crate) struct ViewerPool {
    idle: Mutex<Vec<Owned>>,
}

impl ViewerPool {
    /// One browser tab's worth; more come from a proxy that mixes viewers, for whom connections are
    /// opened anew.
    const IDLE_MAX: usize = 4;

    fn lock(&self) -> MutexGuard<'_, Vec<Owned>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checkout(
        &self,
        place: &Arc<Upstream>,
        credentials: Option<Digest>,
        limits: &Limits,
    ) -> Option<Conn> {
        let mut idle = self.lock();
        loop {
            let at = idle
                .iter()
                .position(|(p, c, _)| p == place && *c == credentials)?;
            let (_, _, conn) = idle.swap_remove(at);
            if conn.is_usable(limits) {
                return Some(conn);
            }
        }
    }

    fn checkin(&self, place: &Arc<Upstream>, credentials: Option<Digest>, conn: Conn) {
        let mut idle = self.lock();
        if idle.len() >= Self::IDLE_MAX {
            drop(idle.remove(0));
        }
        idle.push((place.clone(), credentials, conn));
    }
}

impl Connection {
    pub(super) fn checkout(
        &self,
        worker: &Worker,
        place: &Arc<Upstream>,
        credentials: Option<Digest>,
        limits: &Limits,
    ) -> Option<Conn> {
        #[cfg(feature = "seeded-faults")]
        if shikiri_partition::fault::is(shikiri_partition::fault::Fault::PoolsMixed) {
            return worker.pool().checkout(place, None, limits);
        }
        let _ = worker;
        self.passes().checkout(place, credentials, limits)
    }
}

/// Where a connection goes when its response has ended well.
#[derive(Clone)]
pub(super) enum Home {
    Shared(Weak<Worker>, Arc<Upstream>, Key),
    Viewer(
        Weak<Connection>,
        Weak<Worker>,
        Arc<Upstream>,
        Option<Digest>,
    ),
    Nowhere,
}

impl Home {
    pub(super) fn take_back(&self, mut conn: Conn, limits: &Limits) {
        conn.idle_since = Instant::now();
        match self {
            Self::Shared(worker, place, key) => {
                if let Some(worker) = worker.upgrade() {
                    worker
                        .pool()
                        .checkin(place, Some(key.clone()), conn, limits);
                }
            }
            Self::Viewer(connection, worker, place, credentials) => {
                #[cfg(feature = "seeded-faults")]
                if shikiri_partition::fault::is(shikiri_partition::fault::Fault::PoolsMixed) {
                    if let Some(worker) = worker.upgrade() {
                        worker.pool().checkin(place, None, conn, limits);
                    }
                    return;
                }
                let _ = worker;
                if let Some(connection) = connection.upgrade() {
                    connection.passes().checkin(place, *credentials, conn);
                }
            }
            Self::Nowhere => {}
        }
    }
}
