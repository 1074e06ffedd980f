//! The lanes of a node: one stream for each thread that serves, so that none waits for another.
//!
//! Never decides what a row says. What is removed when it is old enough, or too much, is told, so that
//! it can be written where it is not forgotten.
//!
//! Invariants: only sealed segments are removed, the oldest of all lanes first; a disk that is full does
//! not make anything be removed sooner. Where whoever archives the lanes says so, nothing is removed that is not
//! archived yet.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shikiri_record::UnixMillis;

use crate::disk::Disk;
use crate::marks::Run;
use crate::sealed::ArchivedTo;
use crate::segment::StreamKind;
use crate::stream::{Cut, Identity, Mended, OpenFault, Sealed, Stream, Trouble};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// What the files of all lanes may take together, what is set aside for rows to come included.
    pub bytes_max: u64,
    /// A segment that was sealed so long ago is removed; `None`: none is for its age.
    pub age_max: Option<Duration>,
    /// With less free on the file system an alarm is raised.
    pub free_bytes_min: u64,
}

/// What happened while lanes were looked after.
#[derive(Debug)]
pub enum Event {
    /// Something does not work, and is tried again.
    Trouble(Trouble),
    /// A segment was removed, since it was old enough, there was too much, or it is archived and may go.
    Removed(Sealed),
    /// Less is free on the file system than should be.
    FreeLow {
        /// How many bytes are.
        free_bytes: u64,
    },
    /// Enough is free again.
    FreeAgain {
        /// How many bytes are.
        free_bytes: u64,
    },
}

/// The lanes in one folder.
#[derive(Debug)]
pub struct Lanes {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    run: Run,
    cut: Cut,
    keep: Keep,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Those that are written in this run, by their numbers.
    taken: Vec<Arc<Stream>>,
    /// Those of earlier runs that are not.
    left: Vec<Arc<Stream>>,
    is_low: bool,
    is_held_up: bool,
}

impl Lanes {
    /// The lanes in a folder, mended where an earlier run was killed.
    ///
    /// # Errors
    /// The folder, or what is in it, cannot be read or written.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        run: &Run,
        cut: Cut,
        keep: Keep,
        now: UnixMillis,
    ) -> Result<(Arc<Self>, Vec<Mended>), OpenFault> {
        let fault = |error| OpenFault {
            path: folder.to_path_buf(),
            error,
        };
        disk.make_folder(folder).map_err(fault)?;
        let lanes = Self {
            disk,
            folder: folder.to_path_buf(),
            run: run.clone(),
            cut,
            keep,
            inner: Mutex::new(Inner {
                taken: Vec::new(),
                left: Vec::new(),
                is_low: false,
                is_held_up: false,
            }),
        };
        let mut all_mended = Vec::new();
        for name in lanes.disk.names(folder).map_err(fault)? {
            if let Some(number) = lane_number(&name) {
                let left = Stream::left_over(
                    Arc::clone(&lanes.disk),
                    &folder.join(&name),
                    lanes.identity(number),
                    cut,
                    now,
                );
                match left {
                    Ok((stream, mended)) => {
                        all_mended.extend(mended);
                        all_mended.extend(lanes.sign(&stream)?);
                        lanes.lock().left.push(stream);
                    }
                    Err(fault) if is_held(&fault) => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok((Arc::new(lanes), all_mended))
    }

    /// The next lane, for one thread: the first that nobody writes to. A run that is about to end, and
    /// the next that has already begun, have lanes of their own.
    ///
    /// # Errors
    /// Its folder cannot be made, or what an earlier run left there not be taken over.
    pub fn take(&self, now: UnixMillis) -> Result<Arc<Stream>, OpenFault> {
        let mut inner = self.lock();
        for number in 0.. {
            if inner.taken.iter().any(|own| own.identity().lane == number) {
                continue;
            }
            let folder = self.folder.join(lane_name(number));
            inner.left.retain(|left| left.folder() != folder);
            let identity = self.identity(number);
            match Stream::open(Arc::clone(&self.disk), &folder, identity, self.cut, now) {
                Ok((stream, _)) => {
                    // What contradicts what was signed was told when the lanes were opened.
                    self.sign(&stream)?;
                    inner.taken.push(Arc::clone(&stream));
                    return Ok(stream);
                }
                Err(fault) if is_held(&fault) => {}
                Err(fault) => return Err(fault),
            }
        }
        unreachable!("there are more numbers than lanes")
    }

    /// Looks after all lanes: see [`Stream::maintain`]; removes what is old enough or too much, and
    /// looks whether enough is free. May wait for the disk.
    pub fn maintain(&self, now: UnixMillis) -> Vec<Event> {
        let streams = self.streams();
        let troubles = streams.iter().flat_map(|stream| stream.maintain(now));
        let mut events: Vec<Event> = troubles.map(Event::Trouble).collect();
        self.remove_archived(&streams, now, &mut events);
        self.remove_old(&streams, now, &mut events);
        self.look_at_free(&mut events);
        events
    }

    /// Waits until everything that was written would outlive a loss of power.
    #[must_use]
    pub fn sync(&self) -> Vec<Trouble> {
        let streams = self.streams();
        streams
            .iter()
            .filter_map(|stream| stream.sync().err())
            .collect()
    }

    /// Seals all lanes: for a node that stops. See [`Stream::seal`].
    #[must_use]
    pub fn seal(&self, now: UnixMillis) -> Vec<Trouble> {
        let streams = self.streams();
        streams
            .iter()
            .filter_map(|stream| stream.seal(now).err())
            .collect()
    }

    /// How many bytes their files take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.streams().iter().map(|stream| stream.bytes()).sum()
    }

    /// How many bytes are free where they are; `None` where the file system does not tell.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes(&self.folder).ok()
    }

    /// Whether less was free than should be when that was last looked at.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.lock().is_low
    }

    /// Whether segments that are too old or too many stayed when that was last looked at, since they are not
    /// archived yet.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.lock().is_held_up
    }

    /// How much is to be kept.
    #[must_use]
    pub const fn keep(&self) -> &Keep {
        &self.keep
    }

    fn sign(&self, stream: &Stream) -> Result<Option<Mended>, OpenFault> {
        match &self.run.signing {
            Some(signing) => stream.sign(signing.clone()),
            None => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> Vec<Arc<Stream>> {
        let inner = self.lock();
        inner.taken.iter().chain(&inner.left).cloned().collect()
    }

    fn identity(&self, lane: u32) -> Identity {
        Identity {
            kind: StreamKind::Lane,
            node: self.run.node.clone(),
            boot: self.run.boot,
            lane,
        }
    }

    /// Removes what is archived, where whoever archives it says that it may go. The last one of each lane
    /// stays: by it the archive sees where the lane goes on.
    fn remove_archived(&self, streams: &[Arc<Stream>], now: UnixMillis, events: &mut Vec<Event>) {
        for stream in streams.iter().filter(|stream| stream.sealed() > 1) {
            let Some(archived) = ArchivedTo::read(&*self.disk, stream.folder()) else {
                continue;
            };
            let goes = |sealed: &Sealed| sealed.number <= archived.may_go;
            while stream.sealed() > 1
                && let Some(oldest) = stream.oldest().filter(goes)
            {
                match stream.remove_oldest(now) {
                    Ok(Some(removed)) => events.push(Event::Removed(removed)),
                    Ok(None) => break,
                    Err(error) => {
                        events.push(Event::Trouble(Trouble::Remove(oldest.path, error)));
                        break;
                    }
                }
            }
        }
    }

    /// Removes what is too old or too much. What stays for the archive's sake may fill the disk: then nothing
    /// is served without a row, rather than rows be lost to serve more.
    fn remove_old(&self, streams: &[Arc<Stream>], now: UnixMillis, events: &mut Vec<Event>) {
        let mut bytes: u64 = streams.iter().map(|stream| stream.bytes()).sum();
        let mut held_from = None;
        let is_held_up = loop {
            let oldest = streams
                .iter()
                .filter_map(|stream| Some((stream, stream.oldest()?)))
                .filter(|(_, oldest)| self.is_too_old(oldest, now) || bytes > self.keep.bytes_max);
            let mut oldest: Vec<_> = oldest.collect();
            if oldest.is_empty() {
                break false;
            }
            // Read only when something is to be removed: most of the time nothing is.
            let held_from: &Vec<u64> = held_from.get_or_insert_with(|| self.held_from(streams));
            let held_from = |stream: &Arc<Stream>| {
                let place = streams.iter().position(|it| Arc::ptr_eq(it, stream));
                place.map_or(0, |place| held_from[place])
            };
            oldest.retain(|(stream, oldest)| oldest.number < held_from(stream));
            let oldest = oldest.into_iter().min_by_key(|(_, oldest)| oldest.ended);
            let Some((stream, oldest)) = oldest else {
                break true;
            };
            match stream.remove_oldest(now) {
                Ok(Some(removed)) => {
                    bytes = bytes.saturating_sub(removed.bytes);
                    events.push(Event::Removed(removed));
                }
                Ok(None) => break false,
                Err(error) => {
                    events.push(Event::Trouble(Trouble::Remove(oldest.path, error)));
                    break false;
                }
            }
        };
        self.lock().is_held_up = is_held_up;
    }

    fn is_too_old(&self, sealed: &Sealed, now: UnixMillis) -> bool {
        let age_max = self.keep.age_max;
        age_max.is_some_and(|age_max| now.since(sealed.ended) >= age_max)
    }

    /// For each stream the number of the first segment that stays, however old or many they are.
    fn held_from(&self, streams: &[Arc<Stream>]) -> Vec<u64> {
        let marks = streams
            .iter()
            .map(|it| ArchivedTo::read(&*self.disk, it.folder()));
        let marks: Vec<Option<ArchivedTo>> = marks.collect();
        if !marks.iter().flatten().any(|mark| mark.holds) {
            return vec![u64::MAX; streams.len()];
        }
        // A lane that is new has not been archived at all.
        let first = |mark: Option<ArchivedTo>| mark.map_or(0, |mark| mark.segment) + 1;
        marks.into_iter().map(first).collect()
    }

    fn look_at_free(&self, events: &mut Vec<Event>) {
        // A file system that does not tell has no alarm.
        let Ok(free_bytes) = self.disk.free_bytes(&self.folder) else {
            return;
        };
        let mut inner = self.lock();
        let is_low = free_bytes < self.keep.free_bytes_min;
        if is_low != inner.is_low {
            events.push(if is_low {
                Event::FreeLow { free_bytes }
            } else {
                Event::FreeAgain { free_bytes }
            });
        }
        inner.is_low = is_low;
    }
}

/// Whether another process writes to the stream.
fn is_held(fault: &OpenFault) -> bool {
    fault.error.kind() == io::ErrorKind::WouldBlock
}

/// The name of a lane's folder.
fn lane_name(number: u32) -> String {
    format!("lane-{number}")
}

/// The number in the name of a lane's folder.
#[must_use]
pub fn lane_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("lane-")?.parse().ok()?;
    (lane_name(number) == name).then_some(number)
}
