//! Where the archive's files go: a folder, or whatever else can take a file whole and give it back.
//!
//! Never shows a file under its name before it is whole. Invariant: putting the same file twice leaves it
//! once.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Takes files and gives them back, by names such as `serves/day=2020-03-16/node=edge-1/….parquet`.
pub trait ArchivePlace: fmt::Debug {
    /// Puts a file there, whole or not at all, also over one of the same name.
    ///
    /// # Errors
    /// In words for the operator: it could not be put there.
    fn put(&self, name: &str, file: &Path) -> Result<(), String>;

    /// Gives a file back, piece by piece.
    ///
    /// # Errors
    /// In words for the operator: it is not there, or cannot be read; or what the taker said.
    fn get(
        &self,
        name: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String>;

    /// What it is, for messages.
    fn shown(&self) -> String;

    /// Where its files can be opened here, if they can.
    fn folder(&self) -> Option<&Path> {
        None
    }
}

/// A folder.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl ArchivePlace for Folder {
    fn put(&self, name: &str, file: &Path) -> Result<(), String> {
        let path = self.0.join(name);
        let fault = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let folder = path.parent().expect("a name has a folder");
        make_folder(folder).map_err(fault)?;
        let coming = path.with_extension("coming");
        let copied = copy(file, &coming).and_then(|()| fs::rename(&coming, &path));
        copied.map_err(|error| {
            // What is left of it has a name that nobody reads, and is written over the next time.
            drop(fs::remove_file(&coming));
            fault(error)
        })?;
        // The file's name, and those of folders that were made for it.
        for folder in folder.ancestors().take_while(|it| it.starts_with(&self.0)) {
            sync_folder(folder).map_err(fault)?;
        }
        Ok(())
    }

    fn get(
        &self,
        name: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.0.join(name);
        let fault = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let mut file = File::open(&path).map_err(fault)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match io::Read::read(&mut file, &mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => take(&piece[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault(error)),
            }
        }
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.0)
    }
}

/// How much is held of a file at once.
const PIECE_BYTES: usize = 1 << 20;

/// Copies a file, so that its bytes would outlive a loss of power.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, create(to)?);
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Makes a file that only its owner may read.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Makes a folder that only its owner may open.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes a small file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let coming = path.with_extension("coming");
    let written = create(&coming).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&coming, path))
        .inspect_err(|_| {
            drop(fs::remove_file(&coming));
        })?;
    sync_folder(path.parent().expect("a file is in a folder"))
}
