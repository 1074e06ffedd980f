//! Which files of an archive may hold rows of an answer.
//!
//! Never opens one. A file is left out by the day in its name alone, since each holds the rows of one day.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::batch::Day;
use crate::manifest::Manifest;
use crate::schema::Table;
use crate::who::{WhoFault, Window};

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The node whose rows it holds.
    pub node: String,
    /// How many rows it has; 0 where no manifest says so.
    pub rows: u64,
}

/// A file that several threads read: none of them moves another's place in it.
#[derive(Clone, Debug)]
pub(crate) struct SharedFile {
    file: Arc<File>,
    length: u64,
}

impl SharedFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            length,
        })
    }
}

impl Length for SharedFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for SharedFile {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let (file, at) = (Arc::clone(&self.file), start);
        Ok(BufReader::new(From { file, at }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// A file from a place in it on.
#[derive(Debug)]
pub(crate) struct From {
    file: Arc<File>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += u64::try_from(read).expect("a length fits 64 bits");
        Ok(read)
    }
}

/// The files of a table that manifests name and a window may need, in the order of days, nodes and batches.
#[must_use]
pub fn archived_files(
    root: &Path,
    manifests: &[Manifest],
    table: Table,
    window: &Window,
) -> Vec<ArchivedFile> {
    let all = manifests.iter().flat_map(|manifest| &manifest.files);
    let mut files: Vec<(&str, u64)> = all
        .filter(|file| is_needed(&file.name, table, window))
        .map(|file| (file.name.as_str(), file.rows))
        .collect();
    files.sort_unstable();
    let file = |(name, rows): (&str, u64)| ArchivedFile {
        path: root.join(name),
        node: part(name, "node=").unwrap_or_default().to_owned(),
        rows,
    };
    files.into_iter().map(file).collect()
}

/// The files of a table in a folder, whatever manifests say: those of a copy without any. None where there is no such
/// folder.
///
/// # Errors
/// A folder cannot be read.
pub fn found_files(
    root: &Path,
    table: Table,
    window: &Window,
) -> Result<Vec<ArchivedFile>, WhoFault> {
    let mut files = Vec::new();
    for day in names(&root.join(table.name()))? {
        for node in names(&root.join(table.name()).join(&day))? {
            let folder = format!("{}/{day}/{node}", table.name());
            for name in names(&root.join(&folder))? {
                let name = format!("{folder}/{name}");
                if name.ends_with(".parquet") && is_needed(&name, table, window) {
                    files.push(ArchivedFile {
                        path: root.join(&name),
                        node: part(&name, "node=").unwrap_or_default().to_owned(),
                        rows: 0,
                    });
                }
            }
        }
    }
    Ok(files)
}

/// The names in a folder, in their order; none where it is not there.
fn names(folder: &Path) -> Result<Vec<String>, WhoFault> {
    let fault = |error| WhoFault::Folder {
        path: folder.to_owned(),
        error,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(fault)?.file_name();
        names.extend(name.into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

fn is_needed(name: &str, table: Table, window: &Window) -> bool {
    let of_table = name
        .strip_prefix(table.name())
        .is_some_and(|rest| rest.starts_with('/'));
    of_table && part(name, "day=").is_none_or(|day| may_hold(day, window))
}

/// A clock that was off by thousands of years has days of another form: those are read.
fn may_hold(day: &str, window: &Window) -> bool {
    let is_date = |day: &str| day.len() == 10 && day.as_bytes()[4] == b'-';
    let (first, last) = (
        Day::of(window.from).to_string(),
        Day::of(window.to).to_string(),
    );
    let after = is_date(&first) && day < first.as_str();
    let before = is_date(&last) && day > last.as_str();
    !is_date(day) || !(after || before)
}

/// What a part of a path says: `day=2020-03-16`.
fn part<'a>(name: &'a str, key: &str) -> Option<&'a str> {
    name.split('/').find_map(|part| part.strip_prefix(key))
}

#[cfg(test)]
mod tests {
    use shikiri_record::UnixMillis;

    use super::*;

    #[test]
    fn a_file_is_left_out_only_where_its_day_is_out_of_the_window() {
        let day = 86_400_000;
        // 1970-01-03, its last instant, to 1970-01-05, its first.
        let window = Window {
            from: UnixMillis(3 * day - 1),
            to: UnixMillis(4 * day),
        };
        for (name, needed) in [
            ("1970-01-02", false),
            ("1970-01-03", true),
            ("1970-01-04", true),
            ("1970-01-05", true),
            ("1970-01-06", false),
            ("99999999", true),
        ] {
            let name = format!("serves/day={name}/node=n/1.parquet");
            assert_eq!(is_needed(&name, Table::Serves, &window), needed, "{name}");
            assert!(is_needed(&name, Table::Serves, &Window::ALWAYS), "{name}");
            assert!(!is_needed(&name, Table::Links, &Window::ALWAYS), "{name}");
        }
    }
}
