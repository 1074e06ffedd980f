//! A disk in memory, for simulations and tests: it can be full, fail, hang, and tear the last write.
//!
//! Never used by a node that serves anybody: nothing here outlives its process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, File, Hold};

/// A disk in memory. Its clones are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    shared: Arc<Mutex<Shared>>,
    /// Wakes those for whom it hangs.
    mended: Arc<Condvar>,
}

#[derive(Debug)]
struct Shared {
    files: BTreeMap<PathBuf, Arc<Mutex<Stored>>>,
    folders: BTreeSet<PathBuf>,
    held: BTreeSet<PathBuf>,
    bytes_max: u64,
    /// How many bytes may still be written before writing fails, in the middle of a write if need
    /// be.
    writes_left: Option<u64>,
    syncs_fail: bool,
    /// Whether a sync does not end, and how many do not.
    syncs_hang: bool,
    hung: usize,
}

/// A file: what was written, and how long it is. What is after the written bytes is zero.
#[derive(Debug, Default)]
struct Stored {
    written: Vec<u8>,
    bytes: u64,
}

impl MemoryDisk {
    /// An empty disk for so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                files: BTreeMap::new(),
                folders: BTreeSet::new(),
                held: BTreeSet::new(),
                bytes_max,
                writes_left: None,
                syncs_fail: false,
                syncs_hang: false,
                hung: 0,
            })),
            mended: Arc::default(),
        }
    }

    /// Changes how much it holds. What is there stays; with 0 it is full.
    pub fn resize(&self, bytes_max: u64) {
        self.lock().bytes_max = bytes_max;
    }

    /// After so many more bytes every write fails; the one that crosses the border is torn. `None`
    /// mends the disk.
    pub fn fail_writes_after(&self, bytes: Option<u64>) {
        self.lock().writes_left = bytes;
    }

    /// Whether nothing that is written would outlive a loss of power.
    pub fn fail_syncs(&self, fail: bool) {
        self.lock().syncs_fail = fail;
    }

    /// Whether whoever waits for the disk waits until this is told otherwise.
    pub fn hang_syncs(&self, hang: bool) {
        self.lock().syncs_hang = hang;
        self.mended.notify_all();
    }

    /// How many wait for the disk in vain.
    #[must_use]
    pub fn hung(&self) -> usize {
        self.lock().hung
    }

    /// The same files on a disk of their own, as they are now: what a machine that stops here leaves.
    #[must_use]
    pub fn copied(&self) -> Self {
        let shared = self.lock();
        let files = shared.files.iter().map(|(path, stored)| {
            let stored = lock(stored);
            let copy = Stored {
                written: stored.written.clone(),
                bytes: stored.bytes,
            };
            (path.clone(), Arc::new(Mutex::new(copy)))
        });
        Self {
            shared: Arc::new(Mutex::new(Shared {
                files: files.collect(),
                folders: shared.folders.clone(),
                held: BTreeSet::new(),
                bytes_max: shared.bytes_max,
                writes_left: None,
                syncs_fail: false,
                syncs_hang: false,
                hung: 0,
            })),
            mended: Arc::default(),
        }
    }

    /// The files.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().files.keys().cloned().collect()
    }

    /// Changes a file's bytes behind the back of whoever wrote them.
    ///
    /// # Panics
    /// There is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let shared = self.lock();
        let stored = shared.files.get(path).expect("the file is there");
        let mut stored = lock(stored);
        let bytes = usize::try_from(stored.bytes).expect("it is in memory");
        stored.written.resize(bytes, 0);
        change(&mut stored.written);
        stored.bytes = u64::try_from(stored.written.len()).expect("a length fits 64 bits");
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let stored = self.lock().files.get(path).cloned();
        let stored = stored.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            stored,
        }))
    }
}

impl Shared {
    fn free_bytes(&self) -> u64 {
        let taken: u64 = self.files.values().map(|stored| lock(stored).bytes).sum();
        self.bytes_max.saturating_sub(taken)
    }
}

fn lock(stored: &Mutex<Stored>) -> MutexGuard<'_, Stored> {
    stored.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for MemoryDisk {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut shared = self.lock();
        shared
            .folders
            .extend(folder.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let shared = self.lock();
        if !shared.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = shared.files.keys().chain(&shared.folders);
        let within = all.filter(|path| path.parent() == Some(folder));
        let mut names: Vec<String> = within
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let mut shared = self.lock();
        if shared.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if shared.writes_left == Some(0) {
            return Err(io::Error::other("the disk fails"));
        }
        if shared.free_bytes() < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let stored = Stored {
            written: Vec::new(),
            bytes,
        };
        shared
            .files
            .insert(path.to_path_buf(), Arc::new(Mutex::new(stored)));
        drop(shared);
        self.found(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.found(path)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.found(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.lock().files.remove(path);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut shared = self.lock();
        if shared.writes_left == Some(0) {
            return Err(io::Error::other("the disk fails"));
        }
        let moved = shared.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        shared.files.insert(to.to_path_buf(), moved);
        Ok(())
    }

    fn hold(&self, folder: &Path) -> io::Result<Option<Box<dyn Hold>>> {
        let is_free = self.lock().held.insert(folder.to_path_buf());
        Ok(is_free.then(|| -> Box<dyn Hold> {
            Box::new(HeldFolder {
                disk: self.clone(),
                folder: folder.to_path_buf(),
            })
        }))
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.lock().free_bytes())
    }
}

#[derive(Debug)]
struct HeldFolder {
    disk: MemoryDisk,
    folder: PathBuf,
}

impl Hold for HeldFolder {}

impl Drop for HeldFolder {
    fn drop(&mut self) {
        self.disk.lock().held.remove(&self.folder);
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    stored: Arc<Mutex<Stored>>,
}

impl File for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.stored).bytes)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let stored = lock(&self.stored);
        let left = usize::try_from(stored.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(out.len());
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let written = stored.written.get(at..).unwrap_or_default();
        let held = written.len().min(count);
        out[..held].copy_from_slice(&written[..held]);
        out[held..count].fill(0);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut shared = self.disk.lock();
        let whole = u64::try_from(bytes.len()).expect("a length fits 64 bits");
        let now = shared.writes_left.map_or(whole, |left| left.min(whole));
        if let Some(left) = &mut shared.writes_left {
            *left -= now;
        }
        drop(shared);
        let part = &bytes[..usize::try_from(now).expect("it is a part of a slice")];
        let mut stored = lock(&self.stored);
        let start = usize::try_from(offset).expect("it is in memory");
        let end = start + part.len();
        if stored.written.len() < end {
            stored.written.resize(end, 0);
        }
        stored.written[start..end].copy_from_slice(part);
        stored.bytes = stored.bytes.max(offset + now);
        if now < whole {
            return Err(io::Error::other("the disk fails"));
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut stored = lock(&self.stored);
        let kept = usize::try_from(bytes).unwrap_or(usize::MAX);
        stored.written.truncate(kept);
        stored.bytes = bytes;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut shared = self.disk.lock();
        shared.hung += 1;
        let waited = self
            .disk
            .mended
            .wait_while(shared, |shared| shared.syncs_hang);
        shared = waited.unwrap_or_else(PoisonError::into_inner);
        shared.hung -= 1;
        if shared.syncs_fail {
            return Err(io::Error::other("the disk fails"));
        }
        Ok(())
    }
}
