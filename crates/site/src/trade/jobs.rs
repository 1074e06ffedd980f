//! What is done without anybody asking, every few seconds: payments are followed, months renewed,
//! promises kept.
//!
//! Invariant: while the store rests, because the site is closed, nothing is charged, captured or granted.

use super::Trade;
use crate::asked::Millis;
use crate::points;
use crate::store::StoreFault;

/// What one run takes on of each kind.
const AT_ONCE_MAX: i64 = 200;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub payments: u64,
    pub memberships: u64,
    pub promises: u64,
}

impl Trade {
    /// Runs what is due. `allowed` is asked before each payment, move and month: a site may close meanwhile.
    ///
    /// # Errors
    /// The store fails.
    pub fn run_jobs(&self, allowed: impl Fn() -> bool, now: Millis) -> Result<Done, StoreFault> {
        let mut done = Done {
            payments: self.settle_all(&allowed, now, AT_ONCE_MAX)?,
            ..Done::default()
        };
        done.memberships = self.renew_all(&allowed, now, AT_ONCE_MAX)?;
        if allowed() {
            done.promises = self
                .database
                .write(|sql| points::keep_promises(sql, now, AT_ONCE_MAX))?;
        }
        Ok(done)
    }

    /// Promises a member points that can be used once the store is open, for `lasts_ms` from then. False
    /// when that was promised before.
    ///
    /// # Errors
    /// The store fails.
    pub fn promise_points(
        &self,
        member: &crate::member::MemberId,
        promise: &points::Promise<'_>,
        now: Millis,
    ) -> Result<bool, StoreFault> {
        self.database.write(|sql| promise.write(sql, member, now))
    }
}
