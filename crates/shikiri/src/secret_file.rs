//! Files with secrets in the data folder: keys.
//!
//! Never prints what is in them. Invariants: nobody but its owner can read such a file, or it is refused;
//! one is made whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What is in a secret file; `None` when there is none. `what` it is, and why it matters `since` whom.
///
/// # Errors
/// In words for the operator: it cannot be read, others may read it, or it is too long.
pub(crate) fn read(
    path: &Path,
    what: &str,
    since: &str,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, String> {
    let shown = path.display();
    let fault =
        |doing: &str, error: io::Error| format!("cannot {doing} the {what} {shown}: {error}");
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault("read", error)),
    };
    let found = file.metadata().map_err(|error| fault("look at", error))?;
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "the {what} {shown} can be read by others (mode {:o}): {since}; run `chmod 600 {shown}`, and think \
             of who may have read it",
            found.mode() & 0o7777
        ));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).expect("a limit fits 64 bits");
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault("read", error))?;
    if bytes.len() > bytes_max {
        return Err(format!(
            "the {what} {shown} is longer than {bytes_max} bytes: it is none"
        ));
    }
    Ok(Some(bytes))
}

/// Makes a secret file, whole or not at all; in place of one that is there.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Waits until the names beside a file would outlive a loss of power.
///
/// # Errors
/// They may not.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    // A bare name has an empty parent.
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
