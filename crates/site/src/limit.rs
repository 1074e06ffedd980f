//! How often something may be tried, within bounds of memory.
//!
//! Names are kept by digest. When the table is full the one that was tried longest ago is forgotten:
//! who floods it forgets others' tries, but has their own address limited too.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::asked::Millis;
use crate::refusal::Refusal;

/// Names that are remembered.
const NAMES_MAX: usize = 20_000;

/// So many tries within a window of so many milliseconds.
pub struct Limit {
    tries_max: u32,
    window_ms: i64,
    tried: Mutex<BTreeMap<[u8; 32], Tried>>,
}

#[derive(Clone, Copy)]
struct Tried {
    since: Millis,
    times: u32,
}

impl Limit {
    #[must_use]
    pub fn new(tries_max: u32, window_ms: i64) -> Self {
        Self {
            tries_max,
            window_ms,
            tried: Mutex::new(BTreeMap::new()),
        }
    }

    /// Counts one try.
    ///
    /// # Errors
    /// [`Refusal::TooMany`], and until when.
    pub fn try_once(&self, name: &str, now: Millis) -> Result<(), Refusal> {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let key = *blake3::hash(name.as_bytes()).as_bytes();
        if tried.len() >= NAMES_MAX && !tried.contains_key(&key) {
            tried.retain(|_, it| it.since.plus(self.window_ms) > now);
            if tried.len() >= NAMES_MAX
                && let Some(oldest) = tried
                    .iter()
                    .min_by_key(|(_, it)| it.since)
                    .map(|(key, _)| *key)
            {
                tried.remove(&oldest);
            }
        }
        let entry = tried.entry(key).or_insert(Tried {
            since: now,
            times: 0,
        });
        if entry.since.plus(self.window_ms) <= now {
            *entry = Tried {
                since: now,
                times: 0,
            };
        }
        if entry.times >= self.tries_max {
            let left_ms = entry.since.plus(self.window_ms).0.saturating_sub(now.0);
            let wait_s = u64::try_from(left_ms / 1000 + 1).unwrap_or(1);
            return Err(Refusal::TooMany { wait_s });
        }
        entry.times += 1;
        Ok(())
    }

    /// Forgets a name's tries: it succeeded.
    pub fn forget(&self, name: &str) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.remove(blake3::hash(name.as_bytes()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_counted_within_a_window() {
        let limit = Limit::new(2, 10_000);
        let at = |name, ms| limit.try_once(name, Millis(ms)).is_ok();
        assert!(at("a", 0) && at("a", 1) && !at("a", 2));
        assert!(at("b", 2), "another's tries are another's");
        assert!(!at("a", 9_999) && at("a", 10_000));
        limit.forget("a");
        assert!(at("a", 10_001) && at("a", 10_002) && !at("a", 10_003));
    }

    #[test]
    fn a_flood_of_names_takes_no_more_memory() {
        let limit = Limit::new(1, 1_000_000);
        for name in 0..NAMES_MAX + 10 {
            let now = Millis(i64::try_from(name).unwrap());
            assert!(limit.try_once(&name.to_string(), now).is_ok());
        }
        assert!(limit.tried.lock().unwrap().len() <= NAMES_MAX);
    }
}
