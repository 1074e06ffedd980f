//! The data folder: what a node must not lose, in a folder that one node at a time holds.
//!
//! Never decides what lies in it. Invariant: nobody but its owner can read or write in it, and while
//! a [`DataFolder`] lives no other node has one of the same folder, so that streams have one writer.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::NodeName;

/// Where a node keeps its things when nothing is said.
pub(crate) const DEFAULT: &str = "shikiri-data";

/// A node's data folder, held by this process.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    /// The lock is the open file's: it ends with the last of its descriptors, however that comes.
    lock: File,
}

impl DataFolder {
    /// Makes the folder when it is not there, and takes it for this process.
    ///
    /// # Errors
    /// In words for the operator: it cannot be made, others may read or write in it, or another
    /// node holds it.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| format!("cannot make the data folder {shown}: {error}"))?;
        check_owner(path)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| format!("cannot open the lock of the data folder {shown}: {error}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, &mut lock)),
            Err(TryLockError::Error(error)) => {
                return Err(format!("cannot lock the data folder {shown}: {error}"));
            }
        }
        name_holder(&mut lock).map_err(|error| {
            format!("cannot write the lock of the data folder {shown}: {error}")
        })?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// Takes the folder over from a node that gave us its lock, and no longer writes.
    ///
    /// # Errors
    /// It is another folder's lock, or the folder has become open to others.
    pub(crate) fn inherit(path: &Path, mut lock: File) -> Result<Self, String> {
        let shown = path.display();
        check_owner(path)?;
        let place = |found: &fs::Metadata| (found.dev(), found.ino());
        let same = || {
            let ours = fs::metadata(path.join("lock"))?;
            io::Result::Ok(place(&ours) == place(&lock.metadata()?))
        };
        if !same().unwrap_or(false) || lock.try_lock().is_err() {
            return Err(format!(
                "the node that runs did not give us the data folder {shown}"
            ));
        }
        name_holder(&mut lock).map_err(|error| {
            format!("cannot write the lock of the data folder {shown}: {error}")
        })?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// A descriptor of the lock, to give to the node that replaces this one.
    pub(crate) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The name of the node that this folder is of: chosen once, then kept, so that rows of
    /// evidence from before and after a restart speak of one node.
    ///
    /// # Errors
    /// It cannot be read or written, or somebody wrote something else there.
    pub(crate) fn node_name(&self, random: u64) -> Result<String, String> {
        let path = self.join("node");
        let fault = |what: &str, why: &dyn Display| format!("{what} {}: {why}", path.display());
        match fs::read_to_string(&path) {
            Ok(name) => {
                let name = name.trim().parse::<NodeName>();
                name.map(|name| name.0)
                    .map_err(|why| fault("no node's name is in", &why))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = format!("shikiri-{:08x}", random >> 32);
                fs::write(&path, format!("{name}\n"))
                    .map_err(|error| fault("cannot write the node's name to", &error))?;
                Ok(name)
            }
            Err(error) => Err(fault("cannot read the node's name from", &error)),
        }
    }
}

/// Refuses a folder in which others may read or write, or that is another's.
fn check_owner(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let found = fs::metadata(path)
        .map_err(|error| format!("cannot look at the data folder {shown}: {error}"))?;
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        return Err(format!(
            "the data folder {shown} belongs to user {} and we are user {us}: run as its owner, or \
             give us another with --data",
            found.uid()
        ));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "the data folder {shown} is open to others (mode {:o}): it holds who was served what; run \
             `chmod 700 {shown}`",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

fn held(path: &Path, lock: &mut File) -> String {
    let mut holder = String::new();
    // The holder may be about to write it; then it is not known.
    let pid = lock
        .take(32)
        .read_to_string(&mut holder)
        .ok()
        .and_then(|_| holder.trim().parse::<u32>().ok());
    let who: &dyn Display = match &pid {
        Some(pid) => pid,
        None => &"not known",
    };
    format!(
        "the data folder {} is held by another node (process {who}): one node at a time writes in it; \
         stop that one, or give this one another folder with --data",
        path.display()
    )
}

fn name_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "{}", std::process::id())
}

/// Whether a restart of the machine empties a folder; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn is_volatile(path: &Path) -> Option<bool> {
    // linux/magic.h
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let found = rustix::fs::statfs(path).ok()?;
    // Some of the kernel's types for it are signed; the number is of 32 bits.
    let kind = u64::try_from(found.f_type).ok()? & 0xffff_ffff;
    Some(matches!(kind, TMPFS | RAMFS))
}

/// Whether a restart of the machine empties a folder: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_volatile(_: &Path) -> Option<bool> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of one test's own, gone when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let name = format!("shikiri-data-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_is_its_owners_alone_and_one_nodes_at_a_time() {
        let folder = Folder::new("held");
        let path = folder.0.join("deep/data");
        let first = DataFolder::open(&path).unwrap();
        assert_eq!((mode(&path), mode(&path.join("lock"))), (0o700, 0o600));
        let why = DataFolder::open(&path).unwrap_err();
        let us = format!("(process {})", std::process::id());
        assert!(why.contains(&us) && why.contains("--data"), "{why}");
        let name = first.node_name(u64::MAX).unwrap();
        assert_eq!(name, "shikiri-ffffffff");
        drop(first);
        let second = DataFolder::open(&path).expect("what a node that ended held is free");
        assert_eq!(second.node_name(7), Ok(name), "a name is kept");
        fs::write(second.join("node"), "no name").unwrap();
        assert!(second.node_name(7).is_err());
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = Folder::new("open");
        for open in [0o750, 0o707, 0o777] {
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(open)).unwrap();
            let why = DataFolder::open(&folder.0).unwrap_err();
            assert!(why.contains("chmod 700"), "{open:o}: {why}");
        }
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
        DataFolder::open(&folder.0).unwrap();
        let file = folder.0.join("file");
        fs::write(&file, "").unwrap();
        assert!(DataFolder::open(&file).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_in_memory_is_told_from_one_on_disk() {
        // Wherever Linux mounts them, /dev/shm is in memory and /proc is neither.
        assert_eq!(is_volatile(Path::new("/dev/shm")), Some(true));
        assert_eq!(is_volatile(Path::new("/proc")), Some(false));
    }
}
