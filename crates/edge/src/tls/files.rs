//! Files that hold certificates, keys and lists: read whole, with a bound, and looked at again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Bytes of such a file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why such a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It cannot be read.
    #[error("cannot read {}: {}", .0.display(), .1)]
    Read(PathBuf, io::Error),
    /// It is too large.
    #[error("{} has more than 4 MiB: name a file that holds certificates alone", .0.display())]
    TooLarge(PathBuf),
    /// There is nothing of the kind in it.
    #[error("{} holds no {}: it has to be PEM (`-----BEGIN …-----`)", .0.display(), .1)]
    Nothing(PathBuf, &'static str),
    /// Others may read what is to be kept from them.
    #[error("{} is {} and others may read it (mode {:03o}): run `chmod 640` on it, and make it belong to the edge's user or group", .0.display(), .1, .2)]
    Readable(PathBuf, &'static str, u32),
}

/// What tells a file's present content from another, as far as that shows from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    path: PathBuf,
    seen: Option<Seen>,
}

/// Of a file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    inode: u64,
    /// When it was last changed, in content or in who may read it; a copy can keep the time of its
    /// content.
    changed: (i64, i64),
}

impl Stamp {
    /// Taken before the file is read, so that a change meanwhile shows later.
    pub(crate) fn of(path: &Path) -> Self {
        let seen = |meta: fs::Metadata| Seen {
            bytes: meta.len(),
            inode: meta.ino(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        Self {
            path: path.to_owned(),
            seen: fs::metadata(path).ok().map(seen),
        }
    }

    /// Whether the file is another by now.
    pub(crate) fn has_changed(&self) -> bool {
        *self != Self::of(&self.path)
    }
}

/// The certificates in a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(FileFault::Nothing(path.to_owned(), "certificate")),
    }
}

/// The revocation lists in a file, at least one.
pub(super) fn revocations(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileFault> {
    let text = read(path)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        _ => Err(FileFault::Nothing(path.to_owned(), "revocation list")),
    }
}

/// Whether a file with a secret is kept from others than its user and group. `what`: "a private key".
///
/// # Errors
/// Others may read or write it, or it is not there.
pub fn kept_from_others(path: &Path, what: &'static str) -> Result<(), FileFault> {
    let mode = fs::metadata(path)
        .map(|meta| meta.mode() & 0o777)
        .map_err(|error| FileFault::Read(path.to_owned(), error))?;
    if mode & 0o006 != 0 {
        return Err(FileFault::Readable(path.to_owned(), what, mode));
    }
    Ok(())
}

/// The private key in a file that others may not read.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileFault> {
    kept_from_others(path, "a private key")?;
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| FileFault::Nothing(path.to_owned(), "private key"))
}

fn read(path: &Path) -> Result<Vec<u8>, FileFault> {
    let fault = |error| FileFault::Read(path.to_owned(), error);
    let mut text = Vec::new();
    let file = File::open(path).map_err(fault)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(fault)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FileFault::TooLarge(path.to_owned()));
    }
    Ok(text)
}
