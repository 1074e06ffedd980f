//! Rows that batches did not take, by what their manifests say; and which those are, by reading the files.
//!
//! Never takes a missing row for one that was never written: sequence numbers have no gaps of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shikiri_record::UnixMillis;

use crate::manifest::Manifest;
use crate::read::{ArchiveFile, ReadFault};
use crate::rows::{Archived, Place};
use crate::who::{ArchivedFile, Hole, Looked, WhoFault};

/// A batch that took fewer rows than its lanes had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// The node.
    pub node: Arc<str>,
    /// The batch's number.
    pub batch: u64,
    /// How many rows are missing.
    pub rows: u64,
    /// The rows that it should have taken.
    pub stretches: Vec<Stretch>,
    /// What it says was wrong, in words.
    pub faults: Vec<String>,
}

/// Rows of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The node.
    pub node: Arc<str>,
    /// The lane.
    pub lane: u32,
    /// The sequence number of the first.
    pub from: u64,
    /// The sequence number of the first that is not in it.
    pub next: u64,
}

/// The batches that are short, and the names of those whose manifests are missing.
#[must_use]
pub fn short(manifests: &[Manifest]) -> (Vec<Short>, Vec<String>) {
    let mut all: Vec<&Manifest> = manifests.iter().collect();
    all.sort_by_key(|it| (it.node.as_str(), it.number));
    let by_name: BTreeMap<&str, &Manifest> = all.iter().map(|it| (it.name.as_str(), *it)).collect();
    let (mut shorts, mut missing) = (Vec::new(), Vec::new());
    for manifest in all {
        let node: Arc<str> = manifest.node.as_str().into();
        // Lanes go on where a node is given another name, and begin anew where its data folder is.
        let before = manifest.after.as_deref().map(|after| by_name.get(after));
        let is_known = before.is_none_or(|before| before.is_some());
        let before = before.flatten();
        if let Some(after) = manifest.after.as_ref().filter(|_| !is_known) {
            missing.push(format!("node {node}: {after}"));
        }
        let mut stretches = Vec::new();
        for (lane, reached) in &manifest.reached {
            let from = before.and_then(|before| before.reached.get(lane));
            let from = from.map_or(0, |from| from.next);
            if from < reached.next {
                stretches.push(Stretch {
                    node: Arc::clone(&node),
                    lane: *lane,
                    from,
                    next: reached.next,
                });
            }
        }
        let due: u64 = stretches.iter().map(|it| it.next - it.from).sum();
        // Of a batch that does not follow a known one nobody can say how many it should have.
        if is_known && (due > manifest.took.rows || !manifest.faults.is_empty()) {
            shorts.push(Short {
                node,
                batch: manifest.number,
                rows: due.saturating_sub(manifest.took.rows),
                stretches,
                faults: manifest.faults.clone(),
            });
        }
    }
    (shorts, missing)
}

/// How many rows are looked for at once at most: one bit each.
const ROWS_MAX: u64 = 1 << 32;

/// Which rows of some stretches are in none of the files, and are not among those that wait for their ends.
///
/// # Errors
/// A file cannot be read.
pub fn holes(
    files: &[ArchivedFile],
    waiting: &[Place],
    stretches: &[Stretch],
    look: &mut dyn FnMut(Looked),
) -> Result<Vec<Hole>, WhoFault> {
    if stretches.iter().map(|it| it.next - it.from).sum::<u64>() > ROWS_MAX {
        return Err(WhoFault::TooMany {
            what: "rows of short batches",
            max: ROWS_MAX as usize,
        });
    }
    let bits = |it: &Stretch| vec![0_u64; ((it.next - it.from).div_ceil(64)) as usize];
    let mut there: Vec<Vec<u64>> = stretches.iter().map(bits).collect();
    let mut by_lane: HashMap<(&str, u32), Vec<usize>> = HashMap::new();
    for (n, stretch) in stretches.iter().enumerate() {
        let lane = (&*stretch.node, stretch.lane);
        by_lane.entry(lane).or_default().push(n);
    }
    let mut mark = |node: &str, lane: u32, sequence: u64| {
        for n in by_lane.get(&(node, lane)).into_iter().flatten() {
            let stretch = &stretches[*n];
            if (stretch.from..stretch.next).contains(&sequence) {
                let at = sequence - stretch.from;
                there[*n][(at / 64) as usize] |= 1 << (at % 64);
            }
        }
    };
    for place in waiting {
        for stretch in stretches.iter().filter(|it| it.lane == place.lane) {
            mark(&stretch.node, place.lane, place.sequence);
        }
    }
    each(files, look, &mut |node, place| {
        mark(node, place.lane, place.sequence);
    })?;
    let mut found = Vec::new();
    for (stretch, there) in stretches.iter().zip(&there) {
        let is_there = |row: u64| {
            let at = row - stretch.from;
            there[(at / 64) as usize] >> (at % 64) & 1 == 1
        };
        let mut row = stretch.from;
        while row < stretch.next {
            if is_there(row) {
                row += 1;
                continue;
            }
            let first = row;
            while row < stretch.next && !is_there(row) {
                row += 1;
            }
            found.push(Hole {
                node: Arc::clone(&stretch.node),
                lane: stretch.lane,
                first,
                last: Some(row - 1),
                after: None,
                before: None,
            });
        }
    }
    when(files, waiting, &mut found, look)?;
    Ok(found)
}

/// When the rows beside the holes were written.
fn when(
    files: &[ArchivedFile],
    waiting: &[Place],
    holes: &mut [Hole],
    look: &mut dyn FnMut(Looked),
) -> Result<(), WhoFault> {
    if holes.is_empty() {
        return Ok(());
    }
    let mut beside: HashMap<(u32, u64), Option<UnixMillis>> = HashMap::new();
    let ends = |hole: &Hole| {
        let after = hole.first.checked_sub(1).map(|row| (hole.lane, row));
        (after, hole.last.map(|row| (hole.lane, row + 1)))
    };
    for hole in &*holes {
        let (after, before) = ends(hole);
        beside.extend(after.into_iter().chain(before).map(|row| (row, None)));
    }
    let mut tell = |place: &Place| {
        if let Some(at) = beside.get_mut(&(place.lane, place.sequence)) {
            *at = Some(place.written);
        }
    };
    waiting.iter().for_each(&mut tell);
    each(files, look, &mut |_, place| tell(place))?;
    for hole in holes {
        let (after, before) = ends(hole);
        hole.after = after.and_then(|row| beside.get(&row).copied().flatten());
        hole.before = before.and_then(|row| beside.get(&row).copied().flatten());
    }
    Ok(())
}

/// Tells the place of each row of the files.
fn each(
    files: &[ArchivedFile],
    look: &mut dyn FnMut(Looked),
    tell: &mut dyn FnMut(&str, &Place),
) -> Result<(), WhoFault> {
    let mut looked = Looked::default();
    for file in files {
        looked.files += 1;
        let mut read = || -> Result<u64, ReadFault> {
            let archived = ArchiveFile::open(&file.path)?;
            archived.each(&mut |archived| match archived {
                Archived::Serve(serve) => {
                    tell(&file.node, &serve.place);
                    if let Some((place, _)) = serve.end() {
                        tell(&file.node, &place);
                    }
                }
                Archived::Link(place, _)
                | Archived::Gap(place, _)
                | Archived::Stance(place, _)
                | Archived::Other(place, _) => tell(&file.node, &place),
            })?;
            Ok(archived.rows())
        };
        looked.rows += read().map_err(|why| WhoFault::File {
            path: file.path.clone(),
            why,
        })?;
        look(looked);
    }
    Ok(())
}
