//! The timeline of a node: read when it starts, and written before what it says takes effect.
//!
//! An entry that was appended outlives a loss of power. What cannot be appended now because it shares
//! less, and so must not wait, is kept in order and appended as soon as that is possible.
//!
//! Never decides what a change means; that is folded from the entries by `shikiri_partition::State`.
//! Invariant: entries stand in the timeline in the order in which what they tell of came to be.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shikiri_evidence::{
    AppendFault, BootId, Cut, Disk, Identity, Item, OpenFault, ReadFault, Reader, Stream,
    StreamKind,
};
use shikiri_partition::{Knowledge, State};
use shikiri_record::{Alarm, Entry, EntryFault, UnixMillis, What};

/// Entries that wait to be appended, at most; the oldest are dropped for newer ones, which is told.
const WAITING_MAX: usize = 1024;

/// A timeline is small: what is set aside for it is, too. The largest entry fits twice.
const CUT: Cut = Cut {
    segment_bytes: 128 << 10,
    age_max: Duration::from_secs(366 * 24 * 60 * 60),
};

/// Why an entry is not on the timeline.
#[derive(Debug, thiserror::Error)]
pub enum ChronicleFault {
    /// It is no entry that could be read again.
    #[error("the entry cannot be put on the timeline: {0}")]
    Entry(#[from] EntryFault),
    /// The disk did not take it.
    #[error("the timeline cannot be written: {0}")]
    Append(#[from] AppendFault),
    /// Another node writes the timeline now.
    #[error("the timeline is another node's to write now")]
    Released,
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
pub struct Chronicle {
    /// None for a node that keeps none: a trial, a test.
    place: Option<Place>,
    inner: Mutex<Inner>,
}

/// Where a timeline is, and whose.
#[derive(Debug)]
struct Place {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    identity: Identity,
}

#[derive(Debug, Default)]
struct Inner {
    /// None while another node writes it.
    stream: Option<Arc<Stream>>,
    waiting: VecDeque<(UnixMillis, Entry)>,
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
        Self {
            place: None,
            inner: Mutex::new(Inner {
                stream: None,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Reads the timeline in a folder, and opens it for new entries; makes one where there is none.
    /// `expected`: something else says that the node has run before, so there should be one.
    ///
    /// # Errors
    /// The disk does not let it be read or written.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        (node, boot): (&str, BootId),
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
            node: node.to_owned(),
            boot,
            lane: 0,
        };
        let place = Place {
            disk,
            folder: folder.to_owned(),
            identity,
        };
        let stream = place.open(now)?;
        let knowledge = match (damage.is_empty(), is_empty && expected) {
            (true, false) => Knowledge::Whole,
            (true, true) => Knowledge::Lost,
            (false, _) => Knowledge::Damaged,
        };
        Ok(Opened {
            chronicle: Self {
                place: Some(place),
                inner: Mutex::new(Inner {
                    stream: Some(stream),
                    waiting: VecDeque::new(),
                }),
            },
            state,
            knowledge,
            damage,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an entry, after all that wait. When this returns its sequence number, it outlives a loss
    /// of power.
    ///
    /// # Errors
    /// It is not on the timeline, and will not be.
    pub fn append(&self, entry: &Entry, now: UnixMillis) -> Result<u64, ChronicleFault> {
        let mut inner = self.inner();
        self.append_waiting(&mut inner)?;
        self.write(&inner, entry, now)
    }

    /// Appends an entry about what has happened already. When that cannot be done now, it is kept and
    /// appended later.
    ///
    /// # Errors
    /// It is not on the timeline yet.
    pub fn append_in_time(&self, entry: Entry, now: UnixMillis) -> Result<u64, ChronicleFault> {
        let mut inner = self.inner();
        let appended = self
            .append_waiting(&mut inner)
            .and_then(|()| self.write(&inner, &entry, now));
        // What no timeline would take is not tried again.
        if matches!(
            appended,
            Err(ChronicleFault::Append(_) | ChronicleFault::Released)
        ) {
            if inner.waiting.len() >= WAITING_MAX {
                inner.waiting.pop_front();
                tracing::error!("an entry for the timeline is lost: too many wait to be written");
            }
            inner.waiting.push_back((now, entry));
        }
        appended
    }

    /// Looks after the timeline: sets space aside, and appends what waits.
    ///
    /// # Errors
    /// What waits still does.
    pub fn maintain(&self, now: UnixMillis) -> Result<(), ChronicleFault> {
        let mut inner = self.inner();
        if let Some(stream) = &inner.stream {
            for trouble in stream.maintain(now) {
                tracing::error!(%trouble, "the timeline");
            }
        }
        self.append_waiting(&mut inner)
    }

    /// The sequence number of the next entry.
    pub fn next(&self) -> u64 {
        let inner = self.inner();
        inner
            .stream
            .as_ref()
            .map_or(0, |stream| stream.next_sequence())
    }

    /// Whether this node is the one that writes it.
    pub fn is_ours(&self) -> bool {
        self.place.is_none() || self.inner().stream.is_some()
    }

    /// How many entries wait to be appended.
    pub fn unwritten(&self) -> usize {
        self.inner().waiting.len()
    }

    /// Leaves the timeline to another node: nothing more is appended.
    pub fn release(&self, now: UnixMillis) {
        let stream = self.inner().stream.take();
        if let Some(stream) = stream
            && let Err(trouble) = stream.seal(now)
        {
            tracing::error!(%trouble, "the timeline");
        }
    }

    /// Takes the timeline back from another node that does not serve.
    ///
    /// # Errors
    /// The disk does not let it be written.
    pub fn take_back(&self, now: UnixMillis) -> Result<(), TimelineFault> {
        if let Some(place) = &self.place {
            self.inner().stream = Some(place.open(now)?);
        }
        Ok(())
    }

    fn append_waiting(&self, inner: &mut Inner) -> Result<(), ChronicleFault> {
        while let Some((at, entry)) = inner.waiting.front() {
            self.write(inner, entry, *at)?;
            inner.waiting.pop_front();
        }
        Ok(())
    }

    fn write(&self, inner: &Inner, entry: &Entry, at: UnixMillis) -> Result<u64, ChronicleFault> {
        let bytes = entry.encode()?;
        match (&inner.stream, &self.place) {
            (Some(stream), _) => Ok(stream.append_durably(at, &bytes)?),
            (None, Some(_)) => Err(ChronicleFault::Released),
            (None, None) => Ok(0),
        }
    }
}

impl Place {
    /// Opens the stream for this run's entries. What a killed node left torn was never confirmed to
    /// anybody: it is no damage.
    fn open(&self, now: UnixMillis) -> Result<Arc<Stream>, OpenFault> {
        let disk = Arc::clone(&self.disk);
        let (stream, _mended) = Stream::open(disk, &self.folder, self.identity.clone(), CUT, now)?;
        Ok(stream)
    }
}
