//! Keys whose shared fetch was refused: passed without asking again, for a bounded time.
//!
//! It only ever makes a request pass. What is in it depends on answers to shared fetches alone, so it
//! tells nobody anything about anybody.

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use shikiri_partition::Key;
use shikiri_record::UnixMillis;

/// Until when, and why.
type Refusal = (UnixMillis, &'static str);

type Hasher = foldhash::quality::FixedState;

#[derive(Clone, Copy)]
struct Bytewise;

impl Weighter<Key, Refusal> for Bytewise {
    fn weight(&self, key: &Key, _: &Refusal) -> u64 {
        u64::try_from(key.weight() + size_of::<Refusal>()).expect("a length fits 64 bits")
    }
}

/// The keys.
pub(crate) struct Remembered {
    keys: Cache<Key, Refusal, Bytewise, Hasher, DefaultLifecycle<Key, Refusal>>,
}

impl Remembered {
    /// Bytes that the keys may take.
    const BYTES_MAX: u64 = 8 << 20;

    pub(crate) fn new(seed: u64) -> Self {
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(1024)
            .weight_capacity(Self::BYTES_MAX)
            .build()
            .expect("all options are given");
        let hasher = Hasher::with_seed(seed);
        Self {
            keys: Cache::with_options(options, Bytewise, hasher, DefaultLifecycle::default()),
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
