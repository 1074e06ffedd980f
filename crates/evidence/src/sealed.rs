//! The sealed segments of a lane, for whoever takes them elsewhere, and how far they were taken.
//!
//! Reads headers and seals alone: what the rows between them are is a [`Reader`](crate::Reader)'s to say.
//! Never removes anything: a segment is removed by the node whose it is, which says so in its marks.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::frames;
use crate::reader::ReadFault;
use crate::segment::{Header, Seal};
use crate::stream::file_number;

/// A segment that nobody writes to any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// How it begins.
    pub header: Header,
    /// How it ends.
    pub seal: Seal,
}

/// The sealed segments in a lane's folder with numbers above one, in order. A file that is no segment is
/// left out, and so is one without a seal: a reader tells what is wrong with it.
///
/// # Errors
/// The folder, or a file in it, cannot be read.
pub fn sealed_segments(
    disk: &dyn Disk,
    folder: &Path,
    above: u64,
) -> Result<Vec<SealedSegment>, ReadFault> {
    let names = disk.names(folder).map_err(|error| ReadFault {
        path: folder.to_path_buf(),
        error,
    })?;
    let mut found = Vec::new();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
    numbers.retain(|number| *number > above);
    numbers.sort_unstable();
    for number in numbers {
        let path = folder.join(format!("{number:010}.segment"));
        let fault = |error| ReadFault {
            path: path.clone(),
            error,
        };
        let file = match disk.open_to_read(&path) {
            Ok(file) => file,
            // Removed since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fault(error)),
        };
        let Ok(header) = frames::header(&*file).map_err(fault)? else {
            continue;
        };
        let Some((seal, _)) = frames::seal(&*file).map_err(fault)? else {
            continue;
        };
        let bytes = file.bytes().map_err(fault)?;
        found.push(SealedSegment {
            path: path.clone(),
            bytes,
            header,
            seal,
        });
    }
    Ok(found)
}

/// The name of the file in a lane's folder that says how far the lane was archived.
pub const ARCHIVED: &str = "archived";

/// How far a lane was archived. Who archives it writes this, and the node reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchivedTo {
    /// The number of the last segment that is archived, with all before it; 0 when none is.
    pub segment: u64,
    /// The number of the last segment that the node may remove, with all before it, however young they
    /// are; 0 when none may go.
    pub may_go: u64,
    /// Whether segments that are not archived stay, however old or many they are. They do so of all lanes when
    /// it is said of one.
    pub holds: bool,
}

impl ArchivedTo {
    /// What the file says.
    #[must_use]
    pub fn line(&self) -> String {
        let holds = if self.holds { "hold" } else { "free" };
        format!(
            "archived 2 {:010} {:010} {holds}\n",
            self.segment, self.may_go
        )
    }

    /// Reads the file in a lane's folder. `None` where there is none, or none that this program reads: then
    /// nothing is removed for its sake, and nothing stays.
    #[must_use]
    pub fn read(disk: &dyn Disk, folder: &Path) -> Option<Self> {
        let file = disk.open_to_read(&folder.join(ARCHIVED)).ok()?;
        let mut bytes = [0; 64];
        let count = file.read_at(&mut bytes, 0).ok()?;
        let line = std::str::from_utf8(bytes.get(..count)?).ok()?;
        let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
        let (segment, may_go, holds) = match words[..] {
            // As versions before 2 wrote it: nothing stayed for its sake.
            ["archived", "1", segment, "go"] => (segment, segment, false),
            ["archived", "1", segment, "stay"] => (segment, "0", false),
            ["archived", "2", segment, may_go, "hold"] => (segment, may_go, true),
            ["archived", "2", segment, may_go, "free"] => (segment, may_go, false),
            _ => return None,
        };
        Some(Self {
            segment: segment.parse().ok()?,
            may_go: may_go.parse().ok()?,
            holds,
        })
    }
}
