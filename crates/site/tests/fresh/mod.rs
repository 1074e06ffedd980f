//! Stores for tests, each a new one, on the engine that `SHIKIRI_TEST_DATABASE` names: the address of a
//! PostgreSQL in which each has a schema of its own; without it SQLite.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use shikiri_site::store::Store;

/// A place for one store, which can be opened several times. It is gone when this is dropped; a schema
/// stays, with the server that was started for the tests.
pub(crate) enum Fresh {
    File(PathBuf),
    Schema(String),
}

impl Fresh {
    pub(crate) fn new() -> Self {
        static NTH: AtomicU64 = AtomicU64::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let name = format!("shikiri_test_{}_{nth}", std::process::id());
        match engine() {
            None => Self::File(std::env::temp_dir().join(format!("{name}.db"))),
            Some(url) => Self::Schema(format!("{url}&schema={name}")),
        }
    }

    pub(crate) fn open(&self) -> Store {
        match self {
            Self::File(file) => Store::open(file).unwrap(),
            Self::Schema(url) => postgres(url),
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Self::File(file) = self {
            for end in ["", "-wal", "-shm"] {
                drop(std::fs::remove_file(format!("{}{end}", file.display())));
            }
        }
    }
}

/// A store that need not be opened again.
pub(crate) fn store() -> Store {
    match engine() {
        None => Store::in_memory().unwrap(),
        Some(_) => Fresh::new().open(),
    }
}

/// With a parameter already, so that more can follow.
fn engine() -> Option<String> {
    std::env::var("SHIKIRI_TEST_DATABASE").ok()
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Store {
    Store::postgres(url).unwrap()
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Store {
    panic!("SHIKIRI_TEST_DATABASE is set, and this was built without the feature `postgres`")
}
