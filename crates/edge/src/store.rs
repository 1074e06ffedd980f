//! The store, in memory: what was admitted, bounded by bytes.
//!
//! It takes an [`Object`] only, and an object is made from an [`Admitted`] head only. It decides
//! nothing: whether an object may be used is judged at every hit by whoever took it out.
//!
//! Eviction is the library's (a clock over a hot and a cold queue with ghosts, kin of CLOCK-Pro and
//! S3-FIFO; `docs/adr/0003-memory-store.md`), and weighs real bytes: head, key, body and overhead.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use shikiri_partition::{Admitted, Key, Marked};
use shikiri_record::FillId;

use crate::body::{Growing, OutBody};

/// An admitted response with its body, which may still be growing.
#[derive(Debug)]
pub(crate) struct Object {
    head: Admitted,
    uri: Box<str>,
    body: ObjectBody,
}

#[derive(Debug)]
enum ObjectBody {
    Whole(Bytes),
    /// Its length is declared, and its head and first bytes were admitted.
    Growing(Arc<Growing>, usize),
}

impl Object {
    pub(crate) fn whole(head: Admitted, body: Bytes) -> Arc<Self> {
        let uri = head.key().name().into();
        Arc::new(Self {
            head,
            uri,
            body: ObjectBody::Whole(body),
        })
    }

    pub(crate) fn growing(head: Admitted, body: Arc<Growing>, length: usize) -> Arc<Self> {
        let uri = head.key().name().into();
        Arc::new(Self {
            head,
            uri,
            body: ObjectBody::Growing(body, length),
        })
    }

    /// The same body under a head that the origin has confirmed or renewed.
    pub(crate) fn refreshed(&self, head: Admitted) -> Option<Arc<Self>> {
        match &self.body {
            ObjectBody::Whole(body) => Some(Self::whole(head, body.clone())),
            ObjectBody::Growing(..) => None,
        }
    }

    pub(crate) const fn head(&self) -> &Admitted {
        &self.head
    }

    /// What purges are held against.
    pub(crate) fn marked(&self) -> Marked<'_> {
        Marked {
            uri: &self.uri,
            uri_digest: None,
            labels: self.head.labels(),
            order: self.head.order(),
        }
    }

    /// The complete length: of a set, that of all its slices together.
    pub(crate) fn complete_len(&self) -> u64 {
        let slices = self.head.slices();
        slices.map_or_else(|| self.len(), shikiri_partition::Slices::length)
    }

    /// Bytes of the body that is here: of a set, of its first slice.
    fn len(&self) -> u64 {
        let len = match &self.body {
            ObjectBody::Whole(bytes) => bytes.len(),
            ObjectBody::Growing(_, len) => *len,
        };
        u64::try_from(len).expect("a length fits 64 bits")
    }

    /// A part of the body.
    pub(crate) fn body(&self, range: std::ops::Range<u64>) -> OutBody {
        let at = |n: u64| usize::try_from(n).expect("a stored body fits memory");
        let range = at(range.start)..at(range.end);
        match &self.body {
            ObjectBody::Whole(bytes) => OutBody::whole(bytes.slice(range)),
            ObjectBody::Growing(growing, _) => OutBody::growing(growing.reader(range)),
        }
    }

    /// Bytes that it takes in memory.
    pub(crate) fn weight(&self) -> u64 {
        // The entry itself: key handle, value handle, the cache's own links.
        const ENTRY: usize = 128;
        let fixed = self.head.weight() + self.uri.len() + size_of::<Self>() + ENTRY;
        self.len() + u64::try_from(fixed).expect("a length fits 64 bits")
    }
}

#[derive(Clone, Copy)]
struct Bytewise;

impl Weighter<Key, Arc<Object>> for Bytewise {
    fn weight(&self, _key: &Key, object: &Arc<Object>) -> u64 {
        object.weight()
    }
}

type Hasher = foldhash::quality::FixedState;

/// The store.
pub(crate) struct Store {
    cache: Cache<Key, Arc<Object>, Bytewise, Hasher, DefaultLifecycle<Key, Arc<Object>>>,
}

impl Store {
    /// `seed` keeps anybody from choosing keys that collide.
    pub(crate) fn new(bytes_max: u64, seed: u64) -> Self {
        // Each shard must hold the largest object.
        const SHARD_BYTES_MIN: u64 = 64 << 20;
        const OBJECT_BYTES_GUESS: u64 = 16 << 10;
        let shards =
            usize::try_from((bytes_max / SHARD_BYTES_MIN).clamp(1, 16)).expect("at most 16");
        let items = usize::try_from((bytes_max / OBJECT_BYTES_GUESS).max(64)).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(items)
            .weight_capacity(bytes_max)
            .build()
            .expect("all options are given");
        let hasher = Hasher::with_seed(seed);
        Self {
            cache: Cache::with_options(options, Bytewise, hasher, DefaultLifecycle::default()),
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        let object = self.cache.get(key)?;
        assert!(
            object.head().key() == key,
            "an object is found under its own key"
        );
        Some(object)
    }

    pub(crate) fn insert(&self, object: Arc<Object>) {
        assert!(
            matches!(object.body, ObjectBody::Whole(_)),
            "only whole objects are stored"
        );
        self.cache.insert(object.head().key().clone(), object);
    }

    pub(crate) fn remove(&self, key: &Key) -> bool {
        self.cache.remove(key).is_some()
    }

    /// Removes what this fill has brought, and nothing that came after it.
    pub(crate) fn remove_of_fill(&self, key: &Key, fill: FillId) {
        self.cache
            .remove_if(key, |object| object.head().fill() == fill);
    }

    /// Removes what nobody can name or use any more. Purges do not rely on it: it frees memory.
    pub(crate) fn retain(&self, keep: impl Fn(&Object) -> bool) {
        self.cache.retain(|_, object| keep(object));
    }

    /// Looks at every object.
    pub(crate) fn each(&self, mut look: impl FnMut(&Object)) {
        for (_, object) in self.cache.iter() {
            look(&object);
        }
    }

    /// Changes the bound; what is over it is evicted.
    pub(crate) fn resize(&self, bytes_max: u64) {
        self.cache.set_capacity(bytes_max);
    }

    pub(crate) fn objects(&self) -> usize {
        self.cache.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}
