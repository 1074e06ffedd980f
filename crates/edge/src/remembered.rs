//! Keys whose shared fetch was refused: passed without asking again, for a bounded time.
//!
//! It only ever makes a request pass. What is in it depends on answers to shared fetches alone, so it
//! tells nobody anything about anybody.

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};
use shikiri_partition::Key;
use shikiri_record::UnixMillis;

/// Until when, and why.
type Refusal = (UnixMillis, &'static str);

type Hasher = foldhash::quality::FixedState;

/// The keys.
pub(crate) struct Remembered {
    keys: Cache<Key, Refusal, UnitWeighter, Hasher, DefaultLifecycle<Key, Refusal>>,
}

impl Remembered {
    /// Keys kept at most.
    const KEYS_MAX: u64 = 16_384;

    pub(crate) fn new(seed: u64) -> Self {
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(1024)
            .weight_capacity(Self::KEYS_MAX)
            .build()
            .expect("all options are given");
        let hasher = Hasher::with_seed(seed);
        Self {
            keys: Cache::with_options(options, UnitWeighter, hasher, DefaultLifecycle::default()),
        }
    }

    pub(crate) fn why(&self, key: &Key, now: UnixMillis) -> Option<&'static str> {
        let (until, why) = self.keys.get(key)?;
        (now < until).then_some(why)
    }

    pub(crate) fn remember(&self, key: &Key, until: UnixMillis, why: &'static str) {
        self.keys.insert(key.clone(), (until, why));
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.keys.remove(key);
    }

    pub(crate) fn clear(&self) {
        self.keys.clear();
    }
}
