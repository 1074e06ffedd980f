//! How long an object may be used, and what may be done with it now.

use crate::admit::Admitted;
use crate::classify::Sharing;
use crate::reason::NotShared;
use shikiri_record::UnixMillis;
use std::time::Duration;

/// What may be done with a stored object for one request now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Served.
    Fresh {
        /// Freshness left.
        ttl: Duration,
    },
    /// Served, and refreshed behind it.
    WhileRevalidating,
    /// Not served unless the origin says so, or fails while `on_error`.
    Stale {
        /// Served when the origin fails.
        on_error: bool,
    },
    /// Not for this request: it carries what the object was made without.
    OnlyWithout(&'static str),
    /// Never served again.
    Dead(NotShared),
}

impl Admitted {
    /// What may be done with this object for a request now. `stale`: an invalidation came after the fill began.
    pub fn reuse(&self, _sharing: &Sharing, _invalidated: bool, _now: UnixMillis) -> Reuse {
        unimplemented!()
    }
}
