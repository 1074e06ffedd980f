//! Where the rows of an answer are: the archive's files, and the data folder with what is not in them yet.
//!
//! Never writes there. Invariant: what cannot be read is told with the range that it has.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shikiri_archive::keeper;
use shikiri_archive::who::{self, ArchivedFile, Fresh, Hole, Looked, Window};
use shikiri_archive::{Archived, Manifest, Table};
use shikiri_record::UnixMillis;

use crate::archive;

/// Which node's, or which copy.
#[derive(clap::Args)]
pub(super) struct At {
    /// The data folder of the edge, running or not.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The config file of the edge: it says where that is, and its `[archive]` where the files are.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the archive, where it is not `archive` in the data folder.
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// A copy of an archive, and nothing else: what was not archived when it was copied is not in the answer.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "config", "archive"])]
    from: Option<PathBuf>,
}

/// What is asked.
pub(super) struct Sources {
    /// The data folder, unless it is a copy alone.
    pub(super) data: Option<PathBuf>,
    root: PathBuf,
    /// Of all nodes whose files are there.
    pub(super) manifests: Vec<Manifest>,
    /// The lanes, what is kept beside them, and the last batch that took some of them.
    lanes: Option<Lanes>,
}

struct Lanes {
    folder: PathBuf,
    state: PathBuf,
    last: Option<Manifest>,
}

/// What was read, and what was not.
#[derive(Default)]
pub(super) struct Read {
    fresh: Fresh,
    /// What an answer cannot say, for people.
    notes: Vec<String>,
}

impl Sources {
    pub(super) fn open(at: &At) -> Result<Self, String> {
        if let Some(root) = &at.from {
            let manifests = match root.join("manifests").is_dir() {
                true => archive::copied(root)?,
                false => Vec::new(),
            };
            if manifests.is_empty() && !root.join(Table::Serves.name()).is_dir() {
                return Err(format!("there is no archive in {}", root.display()));
            }
            return Ok(Self {
                data: None,
                root: root.clone(),
                manifests,
                lanes: None,
            });
        }
        let to = at.archive.as_deref().map(|it| it.display().to_string());
        let at = archive::At::new(at.data.clone(), at.config.clone(), to);
        let places = at.places()?;
        let Some(root) = places.to.folder() else {
            return Err(format!(
                "the archive is in {}: copy it, or the days that are asked for and its `manifests`, to a folder here, \
                 and name that with --archive",
                places.to.shown()
            ));
        };
        let last = keeper::last(&places.state).map_err(|fault| fault.to_string())?;
        let mut manifests = keeper::manifests(&places.state).map_err(|fault| fault.to_string())?;
        if root.join("manifests").is_dir() {
            // Other nodes' files may be beside ours.
            for other in archive::copied(root)? {
                if !manifests.iter().any(|it| it.name == other.name) && !is_later(&other, &last) {
                    manifests.push(other);
                }
            }
        }
        let folder = places.lanes.clone();
        if !folder.is_dir() && manifests.is_empty() {
            return Err(format!(
                "there is no evidence in {}: name the data folder with --data, or a copy of an archive with --from",
                folder.display()
            ));
        }
        Ok(Self {
            root: root.to_owned(),
            data: Some(places.data),
            manifests,
            lanes: folder.is_dir().then_some(Lanes {
                folder,
                state: places.state,
                last,
            }),
        })
    }

    /// The files with responses that a window may need.
    pub(super) fn serves(&self, window: &Window) -> Result<Vec<ArchivedFile>, String> {
        self.files(Table::Serves, window)
    }

    /// The files of a table that a window may need.
    pub(super) fn files(&self, table: Table, window: &Window) -> Result<Vec<ArchivedFile>, String> {
        if self.manifests.is_empty() && self.data.is_none() {
            let found = who::found_files(&self.root, table, window);
            return found.map_err(|fault| fault.to_string());
        }
        Ok(who::archived_files(
            &self.root,
            &self.manifests,
            table,
            window,
        ))
    }

    /// Tells what is not in the archive yet.
    pub(super) fn fresh(
        &self,
        tell: &mut dyn FnMut(&Arc<str>, &Archived<'_>) -> ControlFlow<()>,
    ) -> Result<Read, String> {
        let Some(lanes) = &self.lanes else {
            return Ok(Read {
                notes: self.not_here(),
                ..Read::default()
            });
        };
        let fresh = who::fresh(&lanes.folder, &lanes.state, lanes.last.as_ref(), tell);
        let fresh = fresh.map_err(|fault| fault.to_string())?;
        Ok(Read {
            fresh,
            notes: Vec::new(),
        })
    }

    /// What a copy cannot say.
    fn not_here(&self) -> Vec<String> {
        if self.manifests.is_empty() {
            return vec![format!(
                "{} has no manifests: whether all of its files are there cannot be said",
                self.root.display()
            )];
        }
        let mut notes = Vec::new();
        for last in lasts(&self.manifests) {
            for (lane, reached) in &last.reached {
                notes.push(format!(
                    "node {}, lane {lane}: rows from {} on are not in the answer, since this is a copy of the archive \
                     alone",
                    last.node, reached.next
                ));
            }
            if last.waits.rows > 0 {
                notes.push(format!(
                    "node {}: {} responses whose ends were not known when it was archived are not in the answer",
                    last.node, last.waits.rows
                ));
            }
        }
        notes
    }
}

/// The last batch of each node.
fn lasts(manifests: &[Manifest]) -> Vec<&Manifest> {
    let mut lasts: Vec<&Manifest> = Vec::new();
    for manifest in manifests {
        match lasts.iter_mut().find(|last| last.node == manifest.node) {
            Some(last) if last.number < manifest.number => *last = manifest,
            Some(_) => {}
            None => lasts.push(manifest),
        }
    }
    lasts
}

/// Whether a batch of our node was done after we had looked.
fn is_later(other: &Manifest, last: &Option<Manifest>) -> bool {
    let last = last.as_ref();
    last.is_some_and(|last| last.node == other.node && other.number > last.number)
}

impl Read {
    /// What the answer to a question about a window lacks, in words.
    pub(super) fn lacks(&self, window: &Window) -> Vec<String> {
        let holes = self.holes(window).map(|hole| {
            let rows = match hole.last {
                Some(last) => format!("rows {} to {last}", hole.first),
                None => format!("rows from {} on", hole.first),
            };
            format!(
                "node {}, lane {}: {rows} are not there: written {} to {}",
                hole.node,
                hole.lane,
                hole.after
                    .map_or_else(|| "(nobody knows when)".to_owned(), archive::instant),
                hole.before
                    .map_or_else(|| "now".to_owned(), archive::instant),
            )
        });
        self.notes.iter().cloned().chain(holes).collect()
    }

    pub(super) fn is_whole(&self, window: &Window) -> bool {
        self.holes(window).next().is_none()
    }

    /// The holes that may have held a response of a window.
    fn holes(&self, window: &Window) -> impl Iterator<Item = &Hole> {
        let to = window.to;
        // What was begun in the window was written in it or after it.
        let may = move |hole: &&Hole| {
            hole.after
                .is_none_or(|after| after <= to || hole.before.is_none())
        };
        let from = window.from;
        self.fresh
            .holes
            .iter()
            .filter(may)
            .filter(move |hole| hole.before.is_none_or(|before: UnixMillis| before >= from))
    }
}

/// Shows on a terminal how far a scan is.
pub(super) fn progress(files: &[ArchivedFile]) -> impl FnMut(Looked) + use<> {
    const FIRST: Duration = Duration::from_millis(500);
    let (count, rows) = (files.len(), files.iter().map(|file| file.rows).sum::<u64>());
    let (begun, is_shown) = (Instant::now(), std::io::stderr().is_terminal());
    move |looked| {
        if is_shown && begun.elapsed() > FIRST {
            let of = match rows {
                0 => String::new(),
                rows => format!(" of {rows}"),
            };
            let line = format!(
                "\r\x1b[Kshikiri: file {} of {count}, {}{of} rows\r",
                looked.files, looked.rows
            );
            drop(std::io::stderr().write_all(line.as_bytes()));
        }
    }
}

/// Tells something beside the answer.
pub(super) fn tell(text: &str) {
    // Where even standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "shikiri: {text}"));
}

/// A file's path as it is shown.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
