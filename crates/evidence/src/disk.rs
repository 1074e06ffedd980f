//! What a stream takes from outside: files.
//!
//! Behind a trait, so that the simulator and the tests can run this very crate on a disk that is
//! full, fails, or tears the last write. Never decides what is written: it carries bytes.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// A place for files.
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Makes a folder that only its owner may open, with those above it. One that is there stays.
    ///
    /// # Errors
    /// It cannot be made.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;

    /// The names of what is in a folder, in order.
    ///
    /// # Errors
    /// It cannot be read.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes a new file of so many zero bytes, for which the space is set aside: a full disk shows
    /// here, and not when they are written.
    ///
    /// # Errors
    /// It exists, there is no space, or it cannot be made. Nothing is left behind then.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>>;

    /// Opens a file to be read and written.
    ///
    /// # Errors
    /// It cannot be opened so.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file to be read.
    ///
    /// # Errors
    /// It cannot be opened so.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Removes a file.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in its file system, in place of what has that name.
    ///
    /// # Errors
    /// It cannot be renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Holds a folder, so that nobody else writes in it, also no other process; `None` when somebody
    /// holds it.
    ///
    /// # Errors
    /// It cannot be held.
    fn hold(&self, folder: &Path) -> io::Result<Option<Box<dyn Hold>>>;

    /// Waits until the names in a folder would outlive a loss of power.
    ///
    /// # Errors
    /// They may not.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// How many bytes we may still take from the file system that a folder is on.
    ///
    /// # Errors
    /// It cannot be asked.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// A folder that is held until this is dropped, or its process ends.
pub trait Hold: Send + Sync + fmt::Debug {}

/// An open file.
pub trait File: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// It cannot be asked.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads from an offset; 0 at its end.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of these bytes at an offset.
    ///
    /// # Errors
    /// They were not all written; any part of them may have been.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts it off after so many bytes.
    ///
    /// # Errors
    /// It cannot be cut.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Waits until what was written would outlive a loss of power.
    ///
    /// # Errors
    /// It may not.
    fn sync(&self) -> io::Result<()>;
}

/// The real one.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            // Ours are ASCII; what is not is somebody else's.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        if let Err(error) = set_aside(&file, bytes) {
            drop(file);
            // What could not be removed holds zeros, and is removed when the stream is opened again.
            drop(fs::remove_file(path));
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hold(&self, folder: &Path) -> io::Result<Option<Box<dyn Hold>>> {
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Box::new(lock))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let found = statvfs(folder)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// Sets space aside. A file system that cannot promise any is written full of zeros instead: slower,
/// and the next best thing.
fn set_aside(file: &fs::File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
            let mut at = 0;
            while at < bytes {
                let left = usize::try_from(bytes - at).unwrap_or(usize::MAX);
                let now = left.min(ZEROS.len());
                file.write_all_at(&ZEROS[..now], at)?;
                at += u64::try_from(now).expect("a length fits 64 bits");
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

// The lock is the open file's: it ends with it, however that comes.
impl Hold for fs::File {}

impl File for fs::File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, out, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
