//! Writing a stream: reserve, append, flush, seal.
//!
//! A stream is a folder of segments. The next one is set aside before the present one is full, so that
//! a full disk shows when space is set aside, and never when a row is appended for which there is a
//! [`Reservation`].
//!
//! Never decides when a row is due, and never waits for the disk but where its name says so
//! ([`Stream::flush`] hands rows to the kernel, which keeps them when this process is killed;
//! [`Stream::sync`] and [`Stream::append_durably`] wait for the disk, which keeps them when the power
//! fails).
//!
//! Invariants: rows are written in the order of their sequence numbers, and each one once. What is
//! reserved fits into what is set aside. What is found torn when a stream is opened is cut off, kept
//! beside, and told.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use shikiri_record::UnixMillis;

use crate::checkpoint::{Mark, MarkKind};
use crate::disk::{Disk, File, Hold};
use crate::frames::{self, Frames, Step};
use crate::marks::{Contradiction, Marks, Signing};
use crate::segment::{
    BODY_BYTES_MAX, BootId, Chain, HEADER_BYTES, Header, HeaderFault, NODE_BYTES_MAX, SEAL_BYTES,
    Seal, StreamKind, put_row, put_seal, row_bytes,
};

/// The frame of a row for which space was reserved is no longer.
pub const RESERVED_ROW_BYTES_MAX: usize = 8 << 10;

/// The body of a lead is no longer.
pub const LEAD_BYTES_MAX: usize = 256;

/// A segment holds this much at least.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Whose stream it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is of.
    pub kind: StreamKind,
    /// The node's name, at most [`NODE_BYTES_MAX`] bytes.
    pub node: String,
    /// This run of the node.
    pub boot: BootId,
    /// Which of the node's lanes; 0 where there is one stream only.
    pub lane: u32,
}

impl Identity {
    /// The stream's name among those of its node.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind {
            StreamKind::Lane => format!("lane-{}", self.lane),
            StreamKind::Timeline => "timeline".to_owned(),
        }
    }
}

/// How a stream is cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The length of a segment: at least [`SEGMENT_BYTES_MIN`]. Twice as much is set aside.
    pub segment_bytes: u64,
    /// A segment this old is sealed though it is not full.
    pub age_max: Duration,
}

/// There is no space for a row: the disk is full, or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no space is set aside for it")]
pub struct Full;

/// Why a durable append did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AppendFault {
    /// No space could be set aside.
    #[error("no space can be set aside in {}: {}", .0.display(), .1)]
    SetAside(PathBuf, #[source] io::Error),
    /// It could not be written.
    #[error("{} cannot be written: {}", .0.display(), .1)]
    Write(PathBuf, #[source] io::Error),
    /// The row is longer than a segment has room for.
    #[error("a row of {0} bytes is longer than a segment has room for")]
    TooLong(usize),
}

/// What went wrong while a stream was looked after. Each is tried again the next time.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No space could be set aside for rows to come.
    #[error("no space can be set aside in {}: {}", .0.display(), .1)]
    SetAside(PathBuf, #[source] io::Error),
    /// Rows could not be written.
    #[error("{} cannot be written: {}", .0.display(), .1)]
    Write(PathBuf, #[source] io::Error),
    /// Rows may not outlive a loss of power.
    #[error("{} cannot be synced: {}", .0.display(), .1)]
    Sync(PathBuf, #[source] io::Error),
    /// What is old enough could not be removed.
    #[error("{} cannot be removed: {}", .0.display(), .1)]
    Remove(PathBuf, #[source] io::Error),
    /// What was written could not be signed.
    #[error("{} cannot be written: {}; what was written is not signed yet", .0.display(), .1)]
    Sign(PathBuf, #[source] io::Error),
}

/// What was found when a stream was opened, and mended.
#[derive(Debug)]
pub enum Mended {
    /// The node had stopped without sealing this segment.
    Recovered {
        /// The segment's file.
        path: PathBuf,
        /// How many rows it holds, all of them whole.
        rows: u64,
        /// The instant of the last of them.
        last_at: Option<UnixMillis>,
        /// How many bytes after them made no whole row, and were cut off.
        torn_bytes: u64,
    },
    /// A file in a segment's place that cannot be read as one. It was left as it is.
    Left {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: HeaderFault,
    },
    /// What is there contradicts what was signed. Its marks and its checkpoint were put aside, and new ones
    /// begun.
    Contradicted {
        /// The stream's folder.
        path: PathBuf,
        /// What is wrong.
        what: Contradiction,
    },
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovered {
                path,
                rows,
                torn_bytes,
                ..
            } => write!(
                f,
                "{}: the node had stopped without sealing it; it holds {rows} rows, and {torn_bytes} \
                 bytes after them made no whole row",
                path.display()
            ),
            Self::Left { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Contradicted { path, what } => write!(
                f,
                "{}: {what}: somebody may have changed it; its marks and its checkpoint are put aside there",
                path.display()
            ),
        }
    }
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the stream in {}: {error}", .path.display())]
pub struct OpenFault {
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub error: io::Error,
}

/// A sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its file.
    pub path: PathBuf,
    /// Its place in the stream.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
    /// The sequence number of its first row.
    pub first: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// When it was begun.
    pub began: UnixMillis,
    /// When it was sealed.
    pub ended: UnixMillis,
    /// The chain after its seal.
    pub chain: Chain,
}

impl Sealed {
    /// What is said of it, for this reason.
    const fn mark(&self, kind: MarkKind, at: UnixMillis) -> Mark {
        Mark {
            kind,
            segment: self.number,
            next: self.first + self.rows,
            at,
            chain: self.chain,
        }
    }
}

/// A stream that is being written.
#[derive(Debug)]
pub struct Stream {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    identity: Identity,
    cut: Cut,
    /// So that nobody else writes to it.
    _hold: Box<dyn Hold>,
    /// Rows before this one are written. Set under the lock, read without.
    written: AtomicU64,
    inner: Mutex<Inner>,
    /// None where nobody signs. Locked before the inner one.
    marks: OnceLock<Mutex<Marks>>,
}

#[derive(Debug)]
struct Inner {
    /// After everything that was appended.
    chain: Chain,
    /// Of the next row.
    sequence: u64,
    /// The number of the next segment to be set aside.
    number: u64,
    open: Option<Open>,
    /// Set aside, all zeros.
    next: Option<Spare>,
    /// Bytes of frames that must still fit.
    reserved: u64,
    /// The row that each segment begins with; empty when there is none.
    lead: Vec<u8>,
    /// What was appended and is not yet written, segment by segment.
    earlier: VecDeque<Write>,
    /// What was appended to the open segment and is not yet written; and where it begins.
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Whether the last write failed.
    stuck: bool,
    /// Sealed for good.
    ended: bool,
    /// Whether something was written that was not yet synced.
    unsynced: bool,
    /// Sealed segments that are still as long as they were set aside.
    untidy: VecDeque<(Sealed, Arc<dyn File>)>,
    sealed: VecDeque<Sealed>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    bytes: u64,
    /// Where the next frame goes.
    end: u64,
    first: u64,
    rows: u64,
    began: UnixMillis,
    /// What is before this offset and after the end may hold bytes of a row that was taken back.
    dirty_to: u64,
}

#[derive(Debug)]
struct Spare {
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Write {
    file: Arc<dyn File>,
    offset: u64,
    bytes: Vec<u8>,
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits 64 bits")
}

/// The name of a segment's file.
fn file_name(number: u64) -> String {
    format!("{number:010}.segment")
}

/// The number in the name of a segment's file.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

impl Stream {
    /// Opens the stream in a folder, or begins one. What a node that was killed has left is cut off
    /// after its last whole row, sealed and told; this run's rows go on in a segment of their own.
    ///
    /// A disk that is full does not keep a stream from being opened: there is just no space to
    /// reserve until [`Stream::maintain`] finds some.
    ///
    /// # Errors
    /// The folder, or what is in it, cannot be read or written; or somebody else writes to the stream
    /// ([`io::ErrorKind::WouldBlock`]).
    ///
    /// # Panics
    /// The node's name is too long, or the segments too short.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        identity: Identity,
        cut: Cut,
        now: UnixMillis,
    ) -> Result<(Arc<Self>, Vec<Mended>), OpenFault> {
        let (stream, mended) = Self::recovered(disk, folder, identity, cut, now)?;
        // Twice: one to write to, one to go on with. What does not work out is tried again, and told,
        // by `maintain`.
        for _ in 0..2 {
            if stream.set_aside().is_err() {
                break;
            }
            let mut inner = stream.lock();
            if inner.open.is_none() {
                stream.begin_next(&mut inner, now);
            }
        }
        Ok((stream, mended))
    }

    /// What earlier runs have left in a folder, mended as by [`Stream::open`]. Nothing is added to it.
    ///
    /// # Errors
    /// As [`Stream::open`].
    pub fn left_over(
        disk: Arc<dyn Disk>,
        folder: &Path,
        identity: Identity,
        cut: Cut,
        now: UnixMillis,
    ) -> Result<(Arc<Self>, Vec<Mended>), OpenFault> {
        let (stream, mended) = Self::recovered(disk, folder, identity, cut, now)?;
        stream.lock().ended = true;
        Ok((stream, mended))
    }

    fn recovered(
        disk: Arc<dyn Disk>,
        folder: &Path,
        identity: Identity,
        cut: Cut,
        now: UnixMillis,
    ) -> Result<(Arc<Self>, Vec<Mended>), OpenFault> {
        assert!(
            identity.node.len() <= NODE_BYTES_MAX,
            "checked by the caller"
        );
        assert!(
            cut.segment_bytes >= SEGMENT_BYTES_MIN,
            "checked by the caller"
        );
        let fault = |path: &Path| {
            let path = path.to_path_buf();
            move |error| OpenFault { path, error }
        };
        disk.make_folder(folder).map_err(fault(folder))?;
        let hold = disk.hold(folder).map_err(fault(folder))?;
        let hold = hold.ok_or_else(|| fault(folder)(io::ErrorKind::WouldBlock.into()))?;
        let mut left = Left {
            chain: Chain::BEGINNING,
            sequence: 0,
            number: 1,
            sealed: VecDeque::new(),
            mended: Vec::new(),
        };
        for name in disk.names(folder).map_err(fault(folder))? {
            if let Some(number) = file_number(&name) {
                let path = folder.join(&name);
                left.take_over(&*disk, number, &path, now)
                    .map_err(fault(&path))?;
            }
        }
        let stream = Arc::new(Self {
            disk,
            folder: folder.to_path_buf(),
            identity,
            cut,
            _hold: hold,
            written: AtomicU64::new(left.sequence),
            inner: Mutex::new(Inner {
                chain: left.chain,
                sequence: left.sequence,
                number: left.number,
                open: None,
                next: None,
                reserved: 0,
                lead: Vec::new(),
                earlier: VecDeque::new(),
                buffer: Vec::new(),
                buffer_at: 0,
                stuck: false,
                ended: false,
                unsynced: false,
                untidy: VecDeque::new(),
                sealed: left.sealed,
            }),
            marks: OnceLock::new(),
        });
        Ok((stream, left.mended))
    }

    /// From now on what is written is signed, by whoever looks after the stream: see [`Stream::maintain`].
    /// What earlier runs have left unsigned is signed now, unless it contradicts what was signed: then that
    /// is put aside, and told.
    ///
    /// # Errors
    /// What was signed cannot be read. That nothing can be written does not keep a stream from being used.
    pub fn sign(&self, signing: Signing) -> Result<Option<Mended>, OpenFault> {
        let fault = |error| OpenFault {
            path: self.folder.clone(),
            error,
        };
        let found = Marks::open(
            Arc::clone(&self.disk),
            &self.folder,
            &self.identity.name(),
            self.identity.boot,
            signing,
            |mark| self.holds(mark),
        )
        .map_err(fault)?;
        let mut marks = found.marks;
        for sealed in &self.lock().sealed {
            marks.add(sealed.mark(MarkKind::Sealed, sealed.ended));
        }
        // Tried again, and told, by `maintain`.
        drop(marks.write());
        let is_first = self.marks.set(Mutex::new(marks)).is_ok();
        assert!(is_first, "a stream is signed by one");
        Ok(found.contradiction.map(|what| Mended::Contradicted {
            path: self.folder.clone(),
            what,
        }))
    }

    /// Whether what earlier runs have left is as a mark says.
    fn holds(&self, mark: &Mark) -> io::Result<bool> {
        let (next, sealed) = {
            let inner = self.lock();
            let sealed = inner.sealed.iter().find(|it| it.number == mark.segment);
            (inner.sequence, sealed.cloned())
        };
        let Some(sealed) = sealed else {
            // Removed since: then something came after it.
            return Ok(next > mark.next);
        };
        if mark.kind == MarkKind::Sealed {
            return Ok(sealed.mark(MarkKind::Sealed, mark.at) == *mark);
        }
        let file = self.disk.open_to_read(&sealed.path)?;
        let Ok(header) = frames::header(&*file)? else {
            return Ok(false);
        };
        let mut frames = Frames::new(file, &header);
        while frames.sequence() < mark.next {
            let Step::Row { .. } = frames.step()? else {
                return Ok(false);
            };
        }
        Ok(frames.sequence() == mark.next && frames.chain() == mark.chain)
    }

    /// Whose stream it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked did so before it changed anything that others rely on, or left bytes that
        // are written again.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets space aside for rows whose frames ([`row_bytes`]) are so long together.
    ///
    /// # Errors
    /// There is none, or what was appended before cannot be written.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, Full> {
        let bytes = wide(bytes);
        let mut inner = self.lock();
        if inner.stuck && self.write_out(&mut inner).is_err() {
            return Err(Full);
        }
        if inner.reserved + bytes > inner.room() {
            return Err(Full);
        }
        inner.reserved += bytes;
        Ok(Reservation {
            stream: Arc::clone(self),
            bytes,
        })
    }

    /// Appends a row for which nothing was reserved. It is written with the next [`Stream::flush`].
    ///
    /// # Errors
    /// There is no space.
    pub fn append(self: &Arc<Self>, at: UnixMillis, body: &[u8]) -> Result<u64, Full> {
        Ok(self.reserve(row_bytes(body.len()))?.append(at, body))
    }

    /// Hands everything that was appended to the kernel, so that it outlives this process.
    ///
    /// # Errors
    /// It was not all written. It is kept, and written first the next time; until then nothing can be
    /// reserved.
    pub fn flush(&self) -> io::Result<()> {
        self.write_out(&mut self.lock())
    }

    /// The sequence number of the first row that is not written yet.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The sequence number of the next row.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.lock().sequence
    }

    /// Appends a row and waits for the disk: when this returns, the row outlives a loss of power. For
    /// what is rare.
    ///
    /// # Errors
    /// It did not happen: the row is not in the stream.
    pub fn append_durably(&self, at: UnixMillis, body: &[u8]) -> Result<u64, AppendFault> {
        let bytes = wide(row_bytes(body.len()));
        if body.len() > BODY_BYTES_MAX || bytes > self.segment_room() {
            return Err(AppendFault::TooLong(body.len()));
        }
        let mut inner = self.lock();
        if inner.ended {
            let error = io::Error::other("the stream is sealed");
            return Err(AppendFault::Write(self.folder.clone(), error));
        }
        if inner.room_of_open() < bytes {
            if inner.next.is_none() {
                drop(inner);
                self.set_aside()
                    .map_err(|error| AppendFault::SetAside(self.folder.clone(), error))?;
                inner = self.lock();
            }
            if inner.room_of_next() < inner.reserved + bytes {
                let error = io::ErrorKind::StorageFull.into();
                return Err(AppendFault::SetAside(self.folder.clone(), error));
            }
            self.rotate(&mut inner, at);
        } else if inner.room() < inner.reserved + bytes {
            let error = io::ErrorKind::StorageFull.into();
            return Err(AppendFault::SetAside(self.folder.clone(), error));
        }
        self.write_out(&mut inner)
            .map_err(|error| AppendFault::Write(self.folder.clone(), error))?;
        self.write_durably(&mut inner, at, body)
    }

    /// Writes one row at the end of the open segment, and takes it back when that fails.
    fn write_durably(
        &self,
        inner: &mut Inner,
        at: UnixMillis,
        body: &[u8],
    ) -> Result<u64, AppendFault> {
        assert!(inner.buffer.is_empty(), "everything before it was written");
        let chain = inner.chain;
        let open = inner.open.as_mut().expect("its room was looked at");
        let mut frame = Vec::with_capacity(row_bytes(body.len()));
        let after = put_row(&mut frame, &chain, at, body);
        let end = open.end + wide(frame.len());
        pad(&mut frame, end, open.dirty_to);
        let done = open.file.write_at(&frame, open.end);
        if let Err(error) = done.and_then(|()| open.file.sync()) {
            // Nobody may read it as true later: it is overwritten now if the disk lets us, and with
            // the next row at the latest.
            frame.fill(0);
            drop(open.file.write_at(&frame, open.end));
            open.dirty_to = open.dirty_to.max(end);
            return Err(AppendFault::Write(open.path.clone(), error));
        }
        open.end = end;
        open.rows += 1;
        open.dirty_to = 0;
        inner.buffer_at = end;
        inner.chain = after;
        let sequence = inner.sequence;
        inner.sequence += 1;
        self.written.store(inner.sequence, Ordering::Release);
        Ok(sequence)
    }

    /// Looks after the stream: writes what is still to be written, gives back what sealed segments do
    /// not need, sets space aside for rows to come, and seals a segment that has grown old. May wait
    /// for the disk; appending goes on meanwhile.
    pub fn maintain(&self, now: UnixMillis) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let mut inner = self.lock();
        if inner.ended {
            drop(inner);
            troubles.extend(self.mark(now, false).err());
            return troubles;
        }
        if let Err(error) = self.write_out(&mut inner) {
            troubles.push(Trouble::Write(self.folder.clone(), error));
        }
        let leads = u64::from(!inner.lead.is_empty());
        let is_old = inner
            .open
            .as_ref()
            .is_some_and(|open| open.rows > leads && now.since(open.began) >= self.cut.age_max);
        // Room for what is reserved must be left in the next one alone.
        if is_old && inner.next.is_some() && inner.reserved <= inner.room_of_next() {
            self.rotate(&mut inner, now);
            if let Err(error) = self.write_out(&mut inner) {
                troubles.push(Trouble::Write(self.folder.clone(), error));
            }
        }
        // What is sealed, but not yet written as such, is not cut short yet.
        let is_stuck = inner.stuck;
        drop(inner);
        if !is_stuck {
            troubles.extend(self.tidy().err());
        }
        if self.lock().next.is_none()
            && let Err(error) = self.set_aside()
        {
            troubles.push(Trouble::SetAside(self.folder.clone(), error));
        }
        let mut inner = self.lock();
        if inner.open.is_none() && inner.next.is_some() {
            self.begin_next(&mut inner, now);
            drop(inner);
            if let Err(error) = self.set_aside() {
                troubles.push(Trouble::SetAside(self.folder.clone(), error));
            }
        } else {
            drop(inner);
        }
        // Last: rows have space by now, however long this takes.
        troubles.extend(self.mark(now, false).err());
        troubles
    }

    /// Gives back what sealed segments do not need, in their order.
    fn tidy(&self) -> Result<(), Trouble> {
        loop {
            let first = self.lock().untidy.front().cloned();
            let Some((sealed, file)) = first else {
                return Ok(());
            };
            let tidied = file.truncate(sealed.bytes).and_then(|()| file.sync());
            tidied.map_err(|error| Trouble::Sync(sealed.path.clone(), error))?;
            // First marked, then forgotten.
            if let Some(mut marks) = self.marks() {
                marks.add(sealed.mark(MarkKind::Sealed, sealed.ended));
            }
            let mut inner = self.lock();
            if inner.untidy.front().is_some_and(|(it, _)| *it == sealed) {
                inner.untidy.pop_front();
            }
        }
    }

    fn marks(&self) -> Option<MutexGuard<'_, Marks>> {
        let marks = self.marks.get()?;
        Some(marks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks how far the stream is, when that is due, and signs all that is marked.
    fn mark(&self, now: UnixMillis, is_due: bool) -> Result<(), Trouble> {
        let Some(mut marks) = self.marks() else {
            return Ok(());
        };
        if (is_due || marks.is_due(now))
            && let Some((mark, file)) = self.standing(marks.next(), now)
        {
            // A mark speaks of what outlives a loss of power.
            let synced = file.sync();
            synced.map_err(|error| Trouble::Sync(self.folder.clone(), error))?;
            marks.add(mark);
        }
        if marks.is_signed() {
            return Ok(());
        }
        let written = marks.write();
        written.map_err(|(path, error)| Trouble::Sign(path, error))
    }

    /// How far the open segment was written, when rows came after this one; none while something before
    /// it is not on the disk yet.
    fn standing(&self, next: u64, now: UnixMillis) -> Option<(Mark, Arc<dyn File>)> {
        let mut inner = self.lock();
        if !inner.untidy.is_empty() || self.write_out(&mut inner).is_err() {
            return None;
        }
        let open = inner.open.as_ref().filter(|open| open.rows > 0)?;
        let mark = Mark {
            kind: MarkKind::Running,
            segment: open.number,
            next: inner.sequence,
            at: now,
            chain: inner.chain,
        };
        (inner.sequence > next).then(|| (mark, Arc::clone(&open.file)))
    }

    /// Waits until everything that was written would outlive a loss of power.
    ///
    /// # Errors
    /// It may not.
    pub fn sync(&self) -> Result<(), Trouble> {
        let (file, path) = {
            let mut inner = self.lock();
            if !std::mem::take(&mut inner.unsynced) {
                return Ok(());
            }
            let Some(open) = &inner.open else {
                return Ok(());
            };
            (Arc::clone(&open.file), open.path.clone())
        };
        file.sync().map_err(|error| {
            self.lock().unsynced = true;
            Trouble::Sync(path, error)
        })
    }

    /// Seals the stream: nothing more can be reserved or appended to it. For a node that stops. While
    /// somebody holds a reservation it is only written and synced; the next run seals it then.
    ///
    /// # Errors
    /// What could not be written, and is cut off as torn by the next run.
    pub fn seal(&self, now: UnixMillis) -> Result<(), Trouble> {
        let mut inner = self.lock();
        if inner.reserved > 0 {
            let written = self.write_out(&mut inner);
            drop(inner);
            written.map_err(|error| Trouble::Write(self.folder.clone(), error))?;
            self.sync()?;
            return self.mark(now, true);
        }
        inner.ended = true;
        let spare = inner.next.take();
        if inner.open.is_some() {
            self.seal_open(&mut inner, now);
        }
        let written = self.write_out(&mut inner);
        drop(inner);
        if let Some(spare) = spare {
            // One that stays holds zeros, and is removed by the next run.
            drop(self.disk.remove(&spare.path));
        }
        written.map_err(|error| Trouble::Write(self.folder.clone(), error))?;
        self.tidy()?;
        self.mark(now, false)
    }

    /// The oldest sealed segment.
    #[must_use]
    pub fn oldest(&self) -> Option<Sealed> {
        self.lock().sealed.front().cloned()
    }

    /// How many sealed segments there are.
    #[must_use]
    pub fn sealed(&self) -> usize {
        self.lock().sealed.len()
    }

    /// Removes the oldest sealed segment. That it is removed is marked and signed before, if the disk lets
    /// us: one that is full must not keep what would free it.
    ///
    /// # Errors
    /// Its file cannot be removed.
    pub fn remove_oldest(&self, now: UnixMillis) -> io::Result<Option<Sealed>> {
        let Some(oldest) = self.oldest() else {
            return Ok(None);
        };
        if let Some(mut marks) = self.marks() {
            marks.add(oldest.mark(MarkKind::Removed, now));
            // Tried again, and told, by `maintain`.
            drop(marks.write());
        }
        match self.disk.remove(&oldest.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Kept beside it, and gone with it; most have none.
        drop(self.disk.remove(&torn_path(&oldest.path)));
        let mut inner = self.lock();
        inner.sealed.pop_front();
        inner.untidy.retain(|(sealed, _)| *sealed != oldest);
        Ok(Some(oldest))
    }

    /// How many bytes its files take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let inner = self.lock();
        let sealed: u64 = inner.sealed.iter().map(|sealed| sealed.bytes).sum();
        let open = inner.open.as_ref().map_or(0, |open| open.bytes);
        let next = inner.next.as_ref().map_or(0, |next| next.bytes);
        sealed + open + next
    }

    /// What the frames of a segment may take at most.
    fn segment_room(&self) -> u64 {
        self.cut.segment_bytes - wide(HEADER_BYTES + row_bytes(LEAD_BYTES_MAX) + SEAL_BYTES)
    }

    /// Makes the next segment's file. Waits for the disk, without the lock.
    fn set_aside(&self) -> io::Result<()> {
        let number = {
            let mut inner = self.lock();
            if inner.next.is_some() {
                return Ok(());
            }
            inner.number += 1;
            inner.number - 1
        };
        let path = self.folder.join(file_name(number));
        let made = self.disk.create(&path, self.cut.segment_bytes);
        let made = made.and_then(|file| {
            let synced = self.disk.sync_folder(&self.folder);
            synced.inspect_err(|_| drop(self.disk.remove(&path)))?;
            Ok(file)
        });
        let mut inner = self.lock();
        match made {
            Ok(file) if inner.next.is_none() && !inner.ended => {
                inner.next = Some(Spare {
                    file,
                    path,
                    number,
                    bytes: self.cut.segment_bytes,
                });
                Ok(())
            }
            // Another was faster.
            Ok(_) => self.disk.remove(&path),
            Err(error) => {
                // The number is used for the next try, unless there is something of that name.
                let taken = error.kind() == io::ErrorKind::AlreadyExists;
                if inner.number == number + 1 && !taken {
                    inner.number = number;
                }
                Err(error)
            }
        }
    }

    /// Seals the open segment and goes on in the next.
    fn rotate(&self, inner: &mut Inner, now: UnixMillis) {
        if inner.open.is_some() {
            self.seal_open(inner, now);
        }
        self.begin_next(inner, now);
    }

    fn seal_open(&self, inner: &mut Inner, now: UnixMillis) {
        let open = inner.open.take().expect("the caller looked");
        let seal = Seal {
            at: now,
            rows: open.rows,
            recovered: false,
            torn_bytes: 0,
            chain: inner.chain,
        };
        let chain = inner.chain;
        inner.chain = put_seal(&mut inner.buffer, &chain, &seal);
        let bytes = open.end + wide(SEAL_BYTES);
        assert!(bytes <= open.bytes, "room for the seal is always left");
        let mut buffer = std::mem::take(&mut inner.buffer);
        pad(&mut buffer, bytes, open.dirty_to);
        inner.earlier.push_back(Write {
            file: Arc::clone(&open.file),
            offset: inner.buffer_at,
            bytes: buffer,
        });
        let sealed = Sealed {
            path: open.path,
            number: open.number,
            bytes,
            first: open.first,
            rows: open.rows,
            began: open.began,
            ended: now,
            chain: inner.chain,
        };
        inner.sealed.push_back(sealed.clone());
        inner.untidy.push_back((sealed, open.file));
    }

    /// Begins the segment that was set aside.
    fn begin_next(&self, inner: &mut Inner, now: UnixMillis) {
        let next = inner.next.take().expect("the caller looked");
        let header = Header {
            kind: self.identity.kind,
            node: self.identity.node.clone(),
            boot: self.identity.boot,
            lane: self.identity.lane,
            number: next.number,
            first: inner.sequence,
            began: now,
            before: inner.chain,
        };
        assert!(
            inner.buffer.is_empty(),
            "an earlier segment's bytes are its own"
        );
        inner.buffer.extend_from_slice(&header.encode());
        inner.buffer_at = 0;
        inner.chain = header.chain();
        inner.open = Some(Open {
            file: next.file,
            path: next.path,
            number: next.number,
            bytes: next.bytes,
            end: wide(HEADER_BYTES),
            first: inner.sequence,
            rows: 0,
            began: now,
            dirty_to: 0,
        });
        if !inner.lead.is_empty() {
            let lead = std::mem::take(&mut inner.lead);
            inner.put(now, &lead);
            inner.lead = lead;
        }
    }

    fn append_reserved(&self, at: UnixMillis, body: &[u8], leads: bool) -> u64 {
        let mut inner = self.lock();
        let bytes = wide(row_bytes(body.len()));
        inner.reserved -= bytes;
        if leads {
            // A segment that this row begins does not begin with the one before it.
            inner.lead.clear();
        }
        if inner.room_of_open() < bytes {
            self.rotate(&mut inner, at);
        }
        if leads {
            inner.lead.extend_from_slice(body);
        }
        inner.put(at, body)
    }

    fn write_out(&self, inner: &mut Inner) -> io::Result<()> {
        let done = inner.write_out();
        inner.stuck = done.is_err();
        if done.is_ok() {
            self.written.store(inner.sequence, Ordering::Release);
        }
        done
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What cannot be written now is lost with this process, and was never answered for.
        drop(self.flush());
    }
}

impl Inner {
    /// How many bytes of frames can be appended for sure. A frame does not go on in the next segment,
    /// so the end of the open one may stay unused: by less than one frame.
    fn room(&self) -> u64 {
        match &self.next {
            None => self.room_of_open(),
            Some(_) => (self.room_of_open() + self.room_of_next())
                .saturating_sub(wide(RESERVED_ROW_BYTES_MAX)),
        }
    }

    fn room_of_open(&self) -> u64 {
        let seal = wide(SEAL_BYTES);
        let open = self.open.as_ref();
        open.map_or(0, |open| open.bytes.saturating_sub(open.end + seal))
    }

    fn room_of_next(&self) -> u64 {
        let overhead = wide(HEADER_BYTES + row_bytes(LEAD_BYTES_MAX) + SEAL_BYTES);
        let next = self.next.as_ref();
        next.map_or(0, |next| next.bytes.saturating_sub(overhead))
    }

    /// Adds a row to the open segment, which has room for it.
    fn put(&mut self, at: UnixMillis, body: &[u8]) -> u64 {
        let open = self.open.as_mut().expect("there is room");
        open.end += wide(row_bytes(body.len()));
        open.rows += 1;
        assert!(
            open.end + wide(SEAL_BYTES) <= open.bytes,
            "what is reserved fits into what is set aside"
        );
        self.chain = put_row(&mut self.buffer, &self.chain, at, body);
        self.sequence += 1;
        self.sequence - 1
    }

    fn write_out(&mut self) -> io::Result<()> {
        while let Some(write) = self.earlier.front() {
            write.file.write_at(&write.bytes, write.offset)?;
            self.earlier.pop_front();
        }
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        if self.buffer.is_empty() {
            return Ok(());
        }
        let length = self.buffer.len();
        pad(&mut self.buffer, open.end, open.dirty_to);
        let done = open.file.write_at(&self.buffer, self.buffer_at);
        self.buffer.truncate(length);
        done?;
        open.dirty_to = 0;
        self.buffer_at += wide(length);
        self.buffer.clear();
        self.unsynced = true;
        Ok(())
    }
}

/// Adds zeros up to where bytes of a row that was taken back may stand.
fn pad(bytes: &mut Vec<u8>, end: u64, dirty_to: u64) {
    let more = usize::try_from(dirty_to.saturating_sub(end)).expect("a row's length fits memory");
    bytes.resize(bytes.len() + more, 0);
}

/// Space that was set aside for rows. What is not used is given back.
#[must_use = "space that is not held may be taken by others"]
#[derive(Debug)]
pub struct Reservation {
    stream: Arc<Stream>,
    bytes: u64,
}

impl Reservation {
    /// Appends a row. It is written with the next [`Stream::flush`]. Returns its sequence number.
    ///
    /// # Panics
    /// Less was reserved, or the row is longer than one may be for which space is reserved.
    pub fn append(&mut self, at: UnixMillis, body: &[u8]) -> u64 {
        self.take(body);
        self.stream.append_reserved(at, body, false)
    }

    /// Appends a row that is the lead from now on: each later segment begins with it again, so that
    /// the rows of a segment can be understood when those before it are gone.
    ///
    /// # Panics
    /// As [`Reservation::append`]; or it is longer than [`LEAD_BYTES_MAX`].
    pub fn lead(&mut self, at: UnixMillis, body: &[u8]) -> u64 {
        assert!(body.len() <= LEAD_BYTES_MAX, "a lead is short");
        self.take(body);
        self.stream.append_reserved(at, body, true)
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    fn take(&mut self, body: &[u8]) {
        let bytes = row_bytes(body.len());
        assert!(bytes <= RESERVED_ROW_BYTES_MAX, "a reserved row is short");
        let left = self.bytes.checked_sub(wide(bytes));
        self.bytes = left.expect("a row takes no more than was reserved for it");
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.stream.lock().reserved -= self.bytes;
        }
    }
}

/// What earlier runs have left of a stream.
struct Left {
    chain: Chain,
    sequence: u64,
    number: u64,
    sealed: VecDeque<Sealed>,
    mended: Vec<Mended>,
}

impl Left {
    /// Takes over one file.
    fn take_over(
        &mut self,
        disk: &dyn Disk,
        number: u64,
        path: &Path,
        now: UnixMillis,
    ) -> io::Result<()> {
        let file = disk.open(path)?;
        let header = match frames::header(&*file)? {
            Ok(header) => header,
            // Set aside and not begun; or its making was broken off.
            Err(_) if frames::written_to(&*file, 0)? == 0 => return disk.remove(path),
            Err(why) => {
                self.number = after(number, 1)?;
                self.mended.push(Mended::Left {
                    path: path.to_path_buf(),
                    why,
                });
                return Ok(());
            }
        };
        let (seal, chain) = match frames::seal(&*file)? {
            Some(sealed) => sealed,
            None => self.recover(disk, path, &file, &header, now)?,
        };
        self.number = after(number, 1)?;
        self.chain = chain;
        self.sequence = after(header.first, seal.rows)?;
        self.sealed.push_back(Sealed {
            path: path.to_path_buf(),
            number,
            bytes: file.bytes()?,
            first: header.first,
            rows: seal.rows,
            began: header.began,
            ended: seal.at,
            chain,
        });
        Ok(())
    }

    /// Cuts off what makes no whole row, and seals what does.
    fn recover(
        &mut self,
        disk: &dyn Disk,
        path: &Path,
        file: &Arc<dyn File>,
        header: &Header,
        now: UnixMillis,
    ) -> io::Result<(Seal, Chain)> {
        let mut frames = Frames::new(Arc::clone(file), header);
        loop {
            match frames.step()? {
                Step::Row { .. } => {}
                // Sealed, and then not cut short any more.
                Step::Seal(seal, chain) => {
                    file.truncate(frames.offset())?;
                    return Ok((seal, chain));
                }
                Step::Stopped(_) => break,
            }
        }
        let cut = frames.offset();
        let torn_bytes = frames::written_to(&**file, cut)? - cut;
        if torn_bytes > 0 {
            keep_torn(disk, path, &**file, cut, torn_bytes);
        }
        let seal = Seal {
            at: now,
            rows: frames.rows(),
            recovered: true,
            torn_bytes,
            chain: frames.chain(),
        };
        let mut bytes = Vec::new();
        let chain = put_seal(&mut bytes, &frames.chain(), &seal);
        // The seal first: a file that is cut short and has none would be recovered again, as whole.
        file.write_at(&bytes, cut)?;
        file.sync()?;
        file.truncate(cut + wide(bytes.len()))?;
        file.sync()?;
        self.mended.push(Mended::Recovered {
            path: path.to_path_buf(),
            rows: frames.rows(),
            last_at: frames.last_at(),
            torn_bytes,
        });
        Ok((seal, chain))
    }
}

/// A number after others, with room for all that one stream can ever need after it: files may say
/// anything.
fn after(number: u64, more: u64) -> io::Result<u64> {
    let after = number.checked_add(more).filter(|after| *after < 1 << 62);
    after.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its numbers are too high"))
}

fn torn_path(path: &Path) -> PathBuf {
    path.with_extension("torn")
}

/// Keeps the bytes that are cut off in a file beside the segment: they are no evidence, but they may
/// tell somebody what happened. Where that does not work they are lost; how many they were is in the
/// seal.
fn keep_torn(disk: &dyn Disk, path: &Path, file: &dyn File, from: u64, bytes: u64) {
    let copied = || -> io::Result<()> {
        let beside = disk.create(&torn_path(path), bytes)?;
        let mut chunk = vec![0; 64 << 10];
        let mut at = 0;
        while at < bytes {
            let left = usize::try_from(bytes - at).unwrap_or(usize::MAX);
            let wanted = left.min(chunk.len());
            let count = file.read_at(&mut chunk[..wanted], from + at)?;
            if count == 0 {
                break;
            }
            beside.write_at(&chunk[..count], at)?;
            at += wide(count);
        }
        beside.sync()
    };
    drop(copied());
}
