//! Where the rows of an answer are: the archive's files, and the data folder with what is not in them yet.
//!
//! Never writes there. Invariant: what cannot be read is told with the range that it has.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shikiri_archive::keeper;
use shikiri_archive::who::{self, ArchivedFile, Fresh, Hole, Looked, Short, Window};
use shikiri_archive::{ArchiveFile, Archived, Manifest, ReadFault, Table};
use shikiri_incident::unseen::Unseen;
use shikiri_record::{Gap, Link, UnixMillis};

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

impl Lanes {
    /// Whether another batch is done by now: what it took may be gone from the lanes, and nothing of it is missing.
    fn went_on(&self) -> bool {
        let number = |last: Option<&Manifest>| last.map(|last| last.number);
        let now = keeper::last(&self.state);
        now.is_ok_and(|now| number(now.as_ref()) != number(self.last.as_ref()))
    }
}

/// What was read, and what was not.
#[derive(Default)]
pub(super) struct Read {
    pub(super) fresh: Fresh,
    /// Responses without rows that are not archived yet.
    gaps: Vec<NodeGap>,
    /// Batches that are short of rows.
    shorts: Vec<Short>,
    /// Batches whose manifests are missing, in words.
    lost: Vec<String>,
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
        // Read once: what is archived and from where the lanes are read are of the same moment.
        let mut manifests = keeper::manifests(&places.state).map_err(|fault| fault.to_string())?;
        let last = manifests.last().cloned();
        if root.join("manifests").is_dir() {
            let others = archive::copied(root)?;
            // After these: a batch whose manifest is among them is being made still, or is seen to be done below.
            let begun = keeper::unfinished(&places.state, last.as_ref());
            let begun = begun.map_err(|fault| fault.to_string())?;
            let begun = begun.as_ref().map(|plan| plan.name.as_str());
            let later = later(&others, last.as_ref(), begun);
            // Other nodes' files may be beside ours, and those of an earlier life of this one.
            for other in others {
                let is_known = manifests.iter().any(|it| it.name == other.name);
                if !is_known && !later.contains(&other.name) {
                    manifests.push(other);
                }
            }
        }
        let number = |last: Option<&Manifest>| last.map(|last| last.number);
        let now = keeper::last(&places.state).map_err(|fault| fault.to_string())?;
        if number(now.as_ref()) != number(last.as_ref()) {
            return Err("a batch was archived while this was asked: ask again".to_owned());
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
        let (shorts, missing) = who::short(&self.manifests);
        let lost = missing.into_iter().map(|name| {
            format!("{name}: the manifest of this batch is missing, and with it its files")
        });
        let (lost, mut notes) = (lost.collect(), Vec::new());
        let mut gaps = Vec::new();
        let mut note = |node: &Arc<str>, archived: &Archived<'_>| {
            if let Archived::Gap(_, gap) = archived {
                gaps.push((Arc::clone(node), *gap));
            }
        };
        let mut tell = |node: &Arc<str>, archived: &Archived<'_>| {
            note(node, archived);
            tell(node, archived)
        };
        let mut fresh = Fresh::default();
        if let Some(lanes) = &self.lanes {
            let read = who::fresh(&lanes.folder, &lanes.state, lanes.last.as_ref(), &mut tell);
            let is_whole = read.as_ref().is_ok_and(|fresh| fresh.holes.is_empty());
            if !is_whole && lanes.went_on() {
                return Err("a batch was archived while this was asked: ask again".to_owned());
            }
            fresh = read.map_err(|fault| fault.to_string())?;
        }
        notes.extend(self.not_here());
        Ok(Read {
            fresh,
            gaps,
            shorts,
            lost,
            notes,
        })
    }

    /// Responses without rows that are archived, of a window.
    pub(super) fn gaps(&self, window: &Window) -> Result<Vec<NodeGap>, String> {
        let mut gaps = Vec::new();
        for file in self.files(Table::Gaps, &Window::ALWAYS)? {
            let node: Arc<str> = file.node.as_str().into();
            each(&file, &mut |archived| {
                if let Archived::Gap(_, gap) = archived
                    && is_in(gap, window)
                {
                    gaps.push((Arc::clone(&node), *gap));
                }
            })?;
        }
        Ok(gaps)
    }

    /// Tells all links of sessions and members, archived or not.
    pub(super) fn links(
        &self,
        tell: &mut dyn FnMut(&Link) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut failed = Ok(());
        let mut told = |archived: &Archived<'_>| {
            if let (Archived::Link(_, link), Ok(())) = (archived, &failed) {
                failed = tell(link);
            }
        };
        for file in self.files(Table::Links, &Window::ALWAYS)? {
            each(&file, &mut told)?;
        }
        self.fresh(&mut |_, archived| {
            told(archived);
            ControlFlow::Continue(())
        })?;
        failed
    }

    /// The ids of the keys under which tags were made in a window, by the stance rows: each segment begins with one, and
    /// is no longer written to after two days.
    pub(super) fn keys(&self, window: &Window) -> Result<BTreeSet<u64>, String> {
        const SEGMENT_MS_MAX: u64 = 2 * 24 * 60 * 60 * 1000;
        let window = Window {
            from: UnixMillis(window.from.0.saturating_sub(SEGMENT_MS_MAX)),
            // A response's row is written a quarter of an hour after it began at the latest.
            to: UnixMillis(window.to.0.saturating_add(15 * 60 * 1000)),
        };
        let mut keys = BTreeSet::new();
        let mut take = |archived: &Archived<'_>| {
            if let Archived::Stance(place, stance) = archived
                && window.holds(place.written)
            {
                keys.insert(stance.tag_key);
            }
        };
        for file in self.files(Table::Stances, &window)? {
            each(&file, &mut take)?;
        }
        self.fresh(&mut |_, archived| {
            take(archived);
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    /// Which rows of short batches are missing.
    pub(super) fn missing(&self, shorts: &[Short]) -> Result<Vec<Hole>, String> {
        let said = |fault: who::WhoFault| fault.to_string();
        let mut holes = Vec::new();
        let nodes: BTreeSet<&str> = shorts.iter().map(|short| &*short.node).collect();
        for node in nodes {
            let of_node = shorts.iter().filter(|short| *short.node == *node);
            let (first, stretches) =
                of_node.fold((u64::MAX, Vec::new()), |(first, mut all), it| {
                    all.extend(it.stretches.iter().cloned());
                    (first.min(it.batch), all)
                });
            // The row before the first may be in the batch before; what waited is in a later one.
            let batches: Vec<Manifest> = self
                .manifests
                .iter()
                .filter(|it| it.node == *node && it.number + 1 >= first)
                .cloned()
                .collect();
            let all = Table::ALL.into_iter();
            let files: Vec<ArchivedFile> = all
                .flat_map(|table| who::archived_files(&self.root, &batches, table, &Window::ALWAYS))
                .collect();
            let ours = self
                .lanes
                .as_ref()
                .filter(|lanes| lanes.last.as_ref().is_some_and(|last| last.node == *node));
            let waiting = match ours {
                Some(lanes) => who::waiting(&lanes.state, lanes.last.as_ref()).map_err(said)?,
                None => Vec::new(),
            };
            let mut look = progress(&files);
            holes.extend(who::holes(&files, &waiting, &stretches, &mut look).map_err(said)?);
        }
        Ok(holes)
    }

    /// What cannot be said of nodes whose data folder is not here, and of an earlier life of this one.
    fn not_here(&self) -> Vec<String> {
        if self.manifests.is_empty() && self.lanes.is_some() {
            return Vec::new();
        }
        if self.manifests.is_empty() {
            return vec![format!(
                "{} has no manifests: whether all of its files are there cannot be said",
                self.root.display()
            )];
        }
        let mut notes = Vec::new();
        let ours = self.lanes.as_ref().and_then(|lanes| lanes.last.as_ref());
        let ours = ours.map(|last| &last.name);
        for last in lasts(&self.manifests).filter(|last| Some(&last.name) != ours) {
            for (lane, reached) in &last.reached {
                notes.push(format!(
                    "node {}, lane {lane}: rows from {} on are not in the answer, since its data folder is not here",
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

/// Passes of a node that have no rows: evidence could not be written.
pub(super) type NodeGap = (Arc<str>, Gap);

const fn is_in(gap: &Gap, window: &Window) -> bool {
    gap.to.0 >= window.from.0 && gap.from.0 <= window.to.0
}

/// The last batch of each life of each node: those that no other follows.
fn lasts(manifests: &[Manifest]) -> impl Iterator<Item = &Manifest> {
    let followed = manifests.iter().filter_map(|it| it.after.as_deref());
    let followed: BTreeSet<&str> = followed.collect();
    let mut lasts = manifests.iter();
    std::iter::from_fn(move || lasts.find(|it| !followed.contains(&*it.name)))
}

/// The batches that were done after we had looked: the one that was being made, and those that follow it or our last
/// one. Numbers say nothing: another life of the node counts from one again.
fn later(others: &[Manifest], last: Option<&Manifest>, begun: Option<&str>) -> BTreeSet<String> {
    let ours: Option<&str> = last.map(|last| last.name.as_str());
    let mut later: BTreeSet<String> = begun.map(str::to_owned).into_iter().collect();
    let mut in_order: Vec<&Manifest> = others.iter().collect();
    in_order.sort_by_key(|it| it.number);
    for other in in_order {
        let after = other.after.as_deref();
        if after.is_some_and(|after| Some(after) == ours || later.contains(after)) {
            later.insert(other.name.clone());
        }
    }
    later
}

impl Read {
    /// What the answer to a question about a window lacks, in words.
    pub(super) fn lacks(&self, window: &Window) -> Vec<String> {
        let holes = self.fresh.holes.iter();
        let holes = holes.filter(|hole| may_hold(hole, window)).map(in_words);
        let shorts = self.shorts.iter().map(|short| {
            format!(
                "node {}, batch {}: {} rows are missing or damaged; `shikiri who gaps` says which",
                short.node, short.batch, short.rows
            )
        });
        let faults = self.fresh.doubts.iter();
        let faults = faults.map(|fault| format!("damaged: {fault}"));
        let said = self.notes.iter().chain(&self.lost).cloned();
        said.chain(shorts).chain(faults).chain(holes).collect()
    }

    /// Responses without rows that are not archived yet, of a window.
    pub(super) fn gaps(&self, window: &Window) -> impl Iterator<Item = &NodeGap> {
        let window = *window;
        self.gaps.iter().filter(move |(_, gap)| is_in(gap, &window))
    }

    /// Whether nothing is missing that could tell of the window.
    pub(super) fn is_whole(&self, window: &Window) -> bool {
        let holes = &self.fresh.holes;
        self.shorts.is_empty()
            && self.is_placed()
            && !holes.iter().any(|hole| may_hold(hole, window))
    }

    /// Whether all that is wrong stands in numbers of rows: nothing else says when it was.
    pub(super) fn is_placed(&self) -> bool {
        let is_placed = |short: &Short| short.rows > 0 || short.faults.is_empty();
        self.lost.is_empty() && self.fresh.doubts.is_empty() && self.shorts.iter().all(is_placed)
    }

    pub(super) fn shorts(&self) -> &[Short] {
        &self.shorts
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = &String> {
        self.notes.iter().chain(&self.lost)
    }
}

/// Whether rows that are missing may have told of a response that began in a window.
pub(super) fn may_hold(hole: &Hole, window: &Window) -> bool {
    let unseen = Unseen {
        after: hole.after,
        before: hole.before,
    };
    unseen.may_have_begun(window.from, window.to)
}

/// Missing rows, for people.
pub(super) fn in_words(hole: &Hole) -> String {
    let rows = match hole.last {
        Some(last) => format!("rows {} to {last}", hole.first),
        None => format!("rows from {} on", hole.first),
    };
    let at = |at: Option<UnixMillis>| at.map_or_else(|| "(not known)".to_owned(), archive::instant);
    format!(
        "node {}, lane {}: {rows} are not there; the rows beside them were written {} and {}",
        hole.node,
        hole.lane,
        at(hole.after),
        at(hole.before),
    )
}

/// Tells the rows of a small file.
pub(super) fn each(file: &ArchivedFile, tell: &mut dyn FnMut(&Archived<'_>)) -> Result<(), String> {
    let read = ArchiveFile::open(&file.path);
    let read = read.and_then(|read| {
        if file.rows != 0 && file.rows != read.rows() {
            return Err(ReadFault::Rows {
                found: read.rows(),
                due: file.rows,
            });
        }
        read.each(&mut |archived| tell(&archived))
    });
    read.map_err(|why| format!("cannot read {}: {why}", shown(&file.path)))
}

/// Shows on a terminal how far a scan is.
pub(super) fn progress(files: &[ArchivedFile]) -> impl FnMut(Looked) + use<> {
    const FIRST: Duration = Duration::from_millis(500);
    let (count, rows) = (files.len(), files.iter().map(|file| file.rows).sum::<u64>());
    let (begun, mut line) = (Instant::now(), Line { is_shown: false });
    let is_terminal = std::io::stderr().is_terminal();
    move |looked: Looked| {
        if is_terminal && begun.elapsed() > FIRST {
            let of = match rows {
                0 => String::new(),
                rows => format!(" of {rows}"),
            };
            line.show(&format!(
                "shikiri: file {} of {count}, {}{of} rows",
                looked.files, looked.rows
            ));
        }
    }
}

/// As [`progress`], beside lines that are printed meanwhile: nothing where both are on a terminal.
pub(super) fn progress_beside(files: &[ArchivedFile]) -> impl FnMut(Looked) + use<> {
    let mut look = progress(files);
    let is_shown = !std::io::stdout().is_terminal();
    move |looked| {
        if is_shown {
            look(looked);
        }
    }
}

/// What stands on a terminal while a scan lasts.
struct Line {
    is_shown: bool,
}

impl Line {
    fn show(&mut self, text: &str) {
        self.is_shown = true;
        drop(write!(std::io::stderr(), "\r\x1b[K{text}"));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_shown {
            drop(std::io::stderr().write_all(b"\r\x1b[K"));
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
