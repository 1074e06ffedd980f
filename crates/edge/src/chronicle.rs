//! The timeline of a node: read when it starts, and written before what it says takes effect.
//!
//! An entry that was appended outlives a loss of power. What cannot be appended now because it shares
//! less, and so must not wait, is kept in order and appended as soon as that is possible
//! ([`crate::scribe`]).
//!
//! Never decides what a change means; that is folded from the entries by `shikiri_partition::State`.
//! Invariant: entries stand in the timeline in the order in which they were put.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shikiri_evidence::{
    AppendFault, Cut, Disk, Identity, Item, OpenFault, ReadFault, Reader, Run, Signing, Stream,
    StreamKind,
};
use shikiri_partition::{Knowledge, State};
use shikiri_record::{Alarm, Entry, EntryFault, UnixMillis, What};

use crate::scribe::{Otherwise, Scribe, Ticket};

/// A timeline is small: what is set aside for it is, too. The largest entry fits twice.
const CUT: Cut = Cut {
    segment_bytes: 128 << 10,
    age_max: Duration::from_secs(366 * 24 * 60 * 60),
};

/// Why an entry is not on the timeline.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChronicleFault {
    /// It is no entry that could be read again.
    #[error("the entry cannot be put on the timeline: {0}")]
    Entry(#[source] Arc<EntryFault>),
    /// The disk did not take it.
    #[error("the timeline cannot be written: {0}")]
    Append(#[from] Arc<AppendFault>),
    /// The disk has not taken it in time.
    #[error("the timeline's disk does not answer")]
    Slow,
    /// Too many wait to be written.
    #[error("too many entries for the timeline wait to be written")]
    TooMany,
    /// Another node writes the timeline now.
    #[error("the timeline is another node's to write now")]
    Released,
}

impl From<EntryFault> for ChronicleFault {
    fn from(fault: EntryFault) -> Self {
        Self::Entry(Arc::new(fault))
    }
}

/// Why a timeline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TimelineFault {
    /// It cannot be read.
    #[error("the timeline cannot be read: {0}")]
    Read(#[from] ReadFault),
    /// It cannot be written.
    #[error("the timeline cannot be written: {0}")]
    Open(#[from] OpenFault),
}

/// An entry with its place in the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its sequence number.
    pub sequence: u64,
    /// When it was written.
    pub at: UnixMillis,
    /// The entry.
    pub entry: Entry,
}

/// What is found on reading a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An entry.
    Entry(Box<Placed>),
    /// Something that cannot be read, in words.
    Damage(String),
}

/// Reads a timeline from its beginning. One that is not there holds nothing.
///
/// # Errors
/// The disk does not let it be read.
pub fn read(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Vec<Found>, ReadFault> {
    let mut reader = Reader::open(Arc::clone(disk), folder)?;
    let mut found = Vec::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Segment(..) => {}
            Item::Row(row) => found.push(match Entry::decode(&row.body) {
                Ok(entry) => Found::Entry(Box::new(Placed {
                    sequence: row.sequence,
                    at: row.at,
                    entry,
                })),
                Err(why) => Found::Damage(format!("entry {}: {why}", row.sequence)),
            }),
            Item::Fault(fault) => found.push(Found::Damage(fault.to_string())),
        }
    }
    Ok(found)
}

fn tells_of_damage(what: &What) -> bool {
    matches!(
        what,
        What::EvidenceAlarm {
            alarm: Alarm::TimelineDamaged | Alarm::TimelineLost
        }
    )
}

/// A timeline that is being written.
#[derive(Debug)]
pub struct Chronicle(Option<Kept>);

/// None of it there is for a node that keeps none: a trial, a test.
#[derive(Debug)]
struct Kept {
    place: Place,
    scribe: Scribe,
}

/// Where a timeline is, and whose.
#[derive(Debug)]
struct Place {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    identity: Identity,
    signing: Option<Signing>,
}

/// What was found when a timeline was opened.
#[derive(Debug)]
pub struct Opened {
    /// The timeline, for new entries.
    pub chronicle: Chronicle,
    /// What it says that holds.
    pub state: State,
    /// How much of it is known.
    pub knowledge: Knowledge,
    /// What is missing or cannot be read and was not told before, in words.
    pub damage: Vec<String>,
}

impl Chronicle {
    /// Keeps nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Reads the timeline in a folder, and opens it for new entries; makes one where there is none.
    /// `expected`: something else says that the node has run before, so there should be one.
    ///
    /// # Errors
    /// The disk does not let it be read or written.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        run: &Run,
        expected: bool,
        now: UnixMillis,
    ) -> Result<Opened, TimelineFault> {
        disk.make_folder(folder).map_err(|error| OpenFault {
            path: folder.to_owned(),
            error,
        })?;
        let (mut state, mut damage, mut is_empty) = (State::new(), Vec::new(), true);
        for found in read(&disk, folder)? {
            is_empty = false;
            match found {
                Found::Damage(what) => damage.push(what),
                Found::Entry(placed) => {
                    state.apply(&placed.entry);
                    // What a node has told of, and has begun anew from, is damage no more.
                    if tells_of_damage(&placed.entry.what) {
                        damage.clear();
                    }
                }
            }
        }
        let identity = Identity {
            kind: StreamKind::Timeline,
            node: run.node.clone(),
            boot: run.boot,
            lane: 0,
        };
        let place = Place {
            disk,
            folder: folder.to_owned(),
            identity,
            signing: run.signing.clone(),
        };
        let stream = place.open(now)?;
        let scribe = Scribe::start(stream).map_err(|error| OpenFault {
            path: folder.to_owned(),
            error,
        })?;
        let knowledge = match (damage.is_empty(), is_empty && expected) {
            (true, false) => Knowledge::Whole,
            (true, true) => Knowledge::Lost,
            (false, _) => Knowledge::Damaged,
        };
        Ok(Opened {
            chronicle: Self(Some(Kept { place, scribe })),
            state,
            knowledge,
            damage,
        })
    }

    fn scribe(&self) -> Option<&Scribe> {
        self.0.as_ref().map(|kept| &kept.scribe)
    }

    /// Puts an entry after all that were put before; it is written by another thread. Never waits for the
    /// disk.
    ///
    /// # Errors
    /// It is no entry that could be read again.
    pub(crate) fn put(
        &self,
        entry: &Entry,
        otherwise: Otherwise,
        now: UnixMillis,
    ) -> Result<Ticket, ChronicleFault> {
        match self.scribe() {
            Some(scribe) => Ok(scribe.put(entry, otherwise, now)?),
            None => entry
                .encode()
                .map_or_else(|why| Err(why.into()), |_| Ok(Ticket::settled(Ok(0)))),
        }
    }

    /// Appends an entry from which nothing follows. When this returns its sequence number, it
    /// outlives a loss of power.
    ///
    /// # Errors
    /// It is not on the timeline; a disk that did not answer in time may still put it there.
    pub fn append(&self, entry: &Entry, now: UnixMillis) -> Result<u64, ChronicleFault> {
        self.first(&self.put(entry, Otherwise::Dropped(Vec::new()), now)?)
    }

    /// Waits until an entry whose contents have not happened is on the timeline: then it outlives a loss
    /// of power.
    ///
    /// # Errors
    /// It is not there, or is taken back there.
    pub(crate) fn first(&self, ticket: &Ticket) -> Result<u64, ChronicleFault> {
        self.scribe().map_or(Ok(0), |scribe| scribe.first(ticket))
    }

    /// Waits for a moment until an entry about what has happened is on the timeline.
    ///
    /// # Errors
    /// It is not there yet.
    pub(crate) fn in_time(&self, ticket: &Ticket) -> Result<u64, ChronicleFault> {
        self.scribe().map_or(Ok(0), |scribe| scribe.in_time(ticket))
    }

    /// Looks after the timeline: sets space aside, and appends what waits. Waits for a moment.
    ///
    /// # Errors
    /// So many entries wait nevertheless, and why.
    pub(crate) fn maintain(&self, now: UnixMillis) -> Result<(), (usize, ChronicleFault)> {
        match self.scribe().map(|scribe| scribe.tend(now)) {
            None | Some((0, _)) => Ok(()),
            Some(lacks) => Err(lacks),
        }
    }

    /// The sequence number of the next entry.
    pub fn next(&self) -> u64 {
        self.scribe().map_or(0, Scribe::next)
    }

    /// Whether it is written anywhere: who waits for an entry may wait for a disk.
    pub(crate) const fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Whether this node is the one that writes it.
    pub(crate) fn is_ours(&self) -> bool {
        self.scribe().is_none_or(Scribe::writes)
    }

    /// How many entries wait to be appended.
    pub(crate) fn unwritten(&self) -> usize {
        self.scribe().map_or(0, Scribe::waiting)
    }

    /// Leaves the timeline to another node: nothing more is appended.
    pub fn release(&self, now: UnixMillis) {
        if let Some(scribe) = self.scribe() {
            scribe.release(now);
        }
    }

    /// Takes the timeline back from another node that does not serve.
    ///
    /// # Errors
    /// The disk does not let it be written.
    pub(crate) fn take_back(&self, now: UnixMillis) -> Result<(), TimelineFault> {
        match &self.0 {
            Some(kept) => Ok(kept.scribe.take_back(|| kept.place.open(now))?),
            None => Ok(()),
        }
    }
}

impl Place {
    /// Opens the stream for this run's entries. What a killed node left torn was never confirmed to
    /// anybody: it is no damage.
    fn open(&self, now: UnixMillis) -> Result<Arc<Stream>, OpenFault> {
        let disk = Arc::clone(&self.disk);
        let (stream, _mended) = Stream::open(disk, &self.folder, self.identity.clone(), CUT, now)?;
        if let Some(signing) = &self.signing
            && let Some(contradicted) = stream.sign(signing.clone())?
        {
            tracing::error!("the timeline: {contradicted}");
        }
        Ok(stream)
    }
}
