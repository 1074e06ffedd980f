//! Rows that are not in the archive yet: those of segments that no batch has taken, sealed or being written, and begin
//! rows that wait for their ends between two batches.
//!
//! Never reads a segment that a batch has taken. Invariant: with the archive's files of the same manifest, each response
//! is told once; and what is not there is told as a [`Hole`].

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use shikiri_evidence::{Item, Reader, RealDisk};
use shikiri_record::UnixMillis;

use crate::join::Joiner;
use crate::keeper::{lanes, waiting_of};
use crate::manifest::Manifest;
use crate::rows::{Archived, Place};
use crate::who::WhoFault;

/// Rows that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The node.
    pub node: Arc<str>,
    /// The lane.
    pub lane: u32,
    /// The sequence number of the first.
    pub first: u64,
    /// The sequence number of the last; `None`: nobody knows how many there were.
    pub last: Option<u64>,
    /// When the last row before them was written, if there is one.
    pub after: Option<UnixMillis>,
    /// When the first row after them was written, if there is one.
    pub before: Option<UnixMillis>,
}

/// How far a lane was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRead {
    /// The node.
    pub node: Arc<str>,
    /// The lane.
    pub lane: u32,
    /// The sequence number of the first row that no batch has taken.
    pub from: u64,
    /// The sequence number of the row that comes next; as `from` where there was none.
    pub next: u64,
    /// When the last of them was written.
    pub newest: Option<UnixMillis>,
}

/// What was read that is not in the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// How far each lane was read.
    pub lanes: Vec<LaneRead>,
    /// What is not there.
    pub holes: Vec<Hole>,
    /// What was wrong with segments, in words.
    pub faults: Vec<String>,
    /// Those of them beside which no number is missing: rows were put there, or are others than were written.
    pub doubts: Vec<String>,
}

/// Where the begin rows stood that waited for their ends when the last batch was done.
///
/// # Errors
/// They cannot be read.
pub fn waiting(state: &Path, last: Option<&Manifest>) -> Result<Vec<Place>, WhoFault> {
    let waiting = waiting_of(state, last)?;
    Ok(waiting.iter().map(|one| one.place).collect())
}

/// Tells what the lanes of a data folder hold that batches up to the last one have not taken, lane by lane.
///
/// # Errors
/// A folder cannot be read, or what waits for its end cannot be.
pub fn fresh(
    folder: &Path,
    state: &Path,
    last: Option<&Manifest>,
    tell: &mut dyn FnMut(&Arc<str>, &Archived<'_>) -> ControlFlow<()>,
) -> Result<Fresh, WhoFault> {
    let mut fresh = Fresh::default();
    let mut node: Arc<str> = last.map_or("", |last| &last.node).into();
    let mut joiner = Joiner::resume(waiting_of(state, last)?);
    let mut goes_on = ControlFlow::Continue(());
    for (lane, folder) in lanes(folder)? {
        let reached = last.and_then(|last| last.reached.get(&lane));
        let from = reached.map_or(0, |reached| reached.next);
        let first = reached.map_or(1, |reached| reached.segment + 1);
        let mut reader = Reader::open_from(Arc::new(RealDisk), &folder, first)?;
        let mut read = LaneRead {
            node: Arc::clone(&node),
            lane,
            from,
            next: from,
            newest: None,
        };
        let (mut boot, mut is_broken) = (None, false);
        let mut untold = Vec::new();
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Segment(_, header) => {
                    if *node != *header.node {
                        node = header.node.as_str().into();
                    }
                    boot = Some(header.boot);
                    read.node = Arc::clone(&node);
                    joiner.segment(lane, header.boot, &mut |one| {
                        if goes_on.is_continue() {
                            goes_on = tell(&node, &one);
                        }
                    });
                }
                Item::Row(row) => {
                    if row.sequence > read.next {
                        untold.clear();
                        fresh.holes.push(Hole {
                            node: Arc::clone(&node),
                            lane,
                            first: read.next,
                            last: Some(row.sequence - 1),
                            after: read.newest,
                            before: Some(row.at),
                        });
                    }
                    fresh.doubts.append(&mut untold);
                    let place = Place {
                        boot: boot.expect("a segment begins before its rows"),
                        lane,
                        sequence: row.sequence,
                        written: row.at,
                    };
                    (read.next, read.newest, is_broken) = (row.sequence + 1, Some(row.at), false);
                    joiner.row(place, &row.body, &mut |one| {
                        if goes_on.is_continue() {
                            goes_on = tell(&node, &one);
                        }
                    });
                }
                Item::Fault(fault) => {
                    is_broken = true;
                    fresh.faults.push(fault.to_string());
                    untold.push(fault.to_string());
                }
            }
            if goes_on.is_break() {
                return Ok(fresh);
            }
        }
        if is_broken {
            fresh.holes.push(Hole {
                node: Arc::clone(&node),
                lane,
                first: read.next,
                last: None,
                after: read.newest,
                before: None,
            });
        }
        fresh.lanes.push(read);
    }
    for one in joiner.waiting() {
        one.without_end(&mut |one| {
            if goes_on.is_continue() {
                goes_on = tell(&node, &one);
            }
        });
    }
    Ok(fresh)
}
