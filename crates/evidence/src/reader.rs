//! Reading a stream, also one that is being written or that a killed node has left.
//!
//! Never calls a row true whose chain does not fit. What is missing, changed or unreadable is told by
//! file, offset and sequence number, and reading goes on with the next segment: nothing after a broken
//! place in the same segment can be verified.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shikiri_record::UnixMillis;

use crate::disk::Disk;
use crate::frames::{self, Frames, Step, Stopped};
use crate::segment::{Chain, Header, HeaderFault};
use crate::stream::file_number;

/// A walk through a stream, from its first segment on.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The number of the last segment that was looked at.
    number: u64,
    open: Option<Segment>,
    /// What the next segment should go on from; nothing is known before the first.
    expected: Option<Expected>,
    /// Told before the next row.
    waiting: Option<Fault>,
    /// The last file, when it ends within its header.
    short: Option<Tail>,
    sealed: Option<Position>,
}

/// A place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment.
    pub segment: u64,
    /// The sequence number of the row that comes next.
    pub next: u64,
    /// The chain there.
    pub chain: Chain,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    number: u64,
    frames: Frames,
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    number: u64,
    sequence: u64,
    /// Not known after a broken place.
    chain: Option<Chain>,
    last_at: Option<UnixMillis>,
}

/// What a reader comes upon.
#[derive(Debug)]
pub enum Item {
    /// A segment begins.
    Segment(PathBuf, Header),
    /// A row.
    Row(Row),
    /// Something is wrong. Reading goes on after it.
    Fault(Fault),
}

/// A row whose chain fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its sequence number.
    pub sequence: u64,
    /// The instant that it was written with.
    pub at: UnixMillis,
    /// What it says.
    pub body: Vec<u8>,
    /// Where its frame begins in its segment's file.
    pub offset: u64,
}

/// What is wrong with a stream.
#[derive(Debug)]
pub enum Fault {
    /// A file in a segment's place cannot be read as one.
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: HeaderFault,
    },
    /// A row, or a seal, was changed, moved or torn. What is after it in the file is not verified.
    Row {
        /// The file.
        path: PathBuf,
        /// Where its frame begins.
        offset: u64,
        /// Its sequence number.
        sequence: u64,
        /// The instant of the last sound row before it in the stream.
        after: Option<UnixMillis>,
        /// How many bytes from there on are written and not verified.
        bytes: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A segment ends without a seal though another comes after it: rows at its end may be missing.
    Unsealed {
        /// The file.
        path: PathBuf,
        /// The sequence number of the first row that may be missing.
        sequence: u64,
        /// The instant of the last sound row.
        after: Option<UnixMillis>,
    },
    /// Something stands after a seal.
    AfterSeal {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// Segments are not there.
    Missing {
        /// The segment after them.
        path: PathBuf,
        /// The numbers of the first and the last of them.
        segments: (u64, u64),
        /// The sequence numbers of the first and the last row that are not there; the last is lower
        /// when none are.
        rows: (u64, u64),
        /// The instant of the last sound row before them.
        after: Option<UnixMillis>,
    },
    /// A segment does not go on from the one before it: one of the two was changed or put there.
    Unchained {
        /// The segment.
        path: PathBuf,
        /// The sequence number that it begins with.
        sequence: u64,
        /// The one that was due.
        due: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |after: &Option<UnixMillis>| {
            after.map_or_else(String::new, |at| {
                format!(
                    ", after one of {}.{:03} s since 1970",
                    at.seconds(),
                    at.0 % 1000
                )
            })
        };
        match self {
            Self::Header { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Row {
                path,
                offset,
                sequence,
                after: at,
                bytes,
                why,
            } => write!(
                f,
                "{}: row {sequence} at offset {offset}{}: {why}; {bytes} bytes from there on are not \
                 verified",
                path.display(),
                after(at),
            ),
            Self::Unsealed {
                path,
                sequence,
                after: at,
            } => write!(
                f,
                "{}: it ends without a seal before row {sequence}{}: rows may be missing",
                path.display(),
                after(at),
            ),
            Self::AfterSeal { path, offset } => write!(
                f,
                "{}: something stands after the seal, at offset {offset}",
                path.display()
            ),
            Self::Missing {
                path,
                segments: (first, last),
                rows: (from, to),
                after: at,
            } => write!(
                f,
                "{}: before it the segments {first} to {last} are missing, rows {from} to {to}{}",
                path.display(),
                after(at),
            ),
            Self::Unchained {
                path,
                sequence,
                due,
            } => write!(
                f,
                "{}: it begins with row {sequence} and does not go on from the segment before it, \
                 after which row {due} is due",
                path.display()
            ),
        }
    }
}

/// What stands after the last row of a stream that is not sealed: a row that is being written, or that
/// a killed node has torn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The file.
    pub path: PathBuf,
    /// Where the last row ends.
    pub offset: u64,
    /// The sequence number of the row that would come next.
    pub sequence: u64,
    /// How many bytes were written there that make no whole row.
    pub torn_bytes: u64,
}

/// Why reading cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {error}", .path.display())]
pub struct ReadFault {
    /// What.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub error: io::Error,
}

impl Reader {
    /// Of the stream in a folder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, ReadFault> {
        let reader = Self {
            disk,
            folder: folder.to_path_buf(),
            number: 0,
            open: None,
            expected: None,
            waiting: None,
            short: None,
            sealed: None,
        };
        reader.numbers()?;
        Ok(reader)
    }

    /// Of the stream in a folder, from the segment of this number on. What it goes on from is not looked at.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open_from(disk: Arc<dyn Disk>, folder: &Path, number: u64) -> Result<Self, ReadFault> {
        let mut reader = Self::open(disk, folder)?;
        reader.number = number.saturating_sub(1);
        Ok(reader)
    }

    /// Of the stream in a folder, from the last of its segments on: so many of them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open_near_end(
        disk: Arc<dyn Disk>,
        folder: &Path,
        segments: usize,
    ) -> Result<Self, ReadFault> {
        let mut reader = Self::open(disk, folder)?;
        // The last one may be set aside and not begun.
        let before = reader.numbers()?.into_iter().rev().nth(segments + 1);
        reader.number = before.unwrap_or(0);
        Ok(reader)
    }

    /// What comes next; `None` when there is nothing more now. Ask again to follow a live stream.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadFault> {
        let mut looked_again = false;
        loop {
            if let Some(fault) = self.waiting.take() {
                return Ok(Some(Item::Fault(fault)));
            }
            let Some(mut segment) = self.open.take() else {
                return self.enter();
            };
            let fault = |error| ReadFault {
                path: segment.path.clone(),
                error,
            };
            let stopped = match segment.frames.step().map_err(fault)? {
                Step::Row {
                    offset,
                    sequence,
                    at,
                    body,
                } => {
                    let body = body.to_vec();
                    self.open = Some(segment);
                    return Ok(Some(Item::Row(Row {
                        sequence,
                        at,
                        body,
                        offset,
                    })));
                }
                Step::Seal(_, chain) => {
                    if written_after(&segment)? > 0 {
                        self.waiting = Some(Fault::AfterSeal {
                            path: segment.path.clone(),
                            offset: segment.frames.offset(),
                        });
                    }
                    self.leave(&segment, Some(chain));
                    continue;
                }
                Step::Stopped(stopped) => stopped,
            };
            if !self.is_closed(&segment)? {
                // It is being written, or was when its node was killed.
                self.open = Some(segment);
                return Ok(None);
            }
            // Its writer may have gone on, and closed it, after the walk had stopped and before we
            // looked whether it is closed.
            if !looked_again {
                looked_again = true;
                self.open = Some(segment);
                continue;
            }
            self.waiting = Some(self.broken(&segment, stopped)?);
            self.leave(&segment, None);
        }
    }

    /// Where reading stands in a segment: after the last row.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.open.as_ref().map(|segment| Position {
            segment: segment.number,
            next: segment.frames.sequence(),
            chain: segment.frames.chain(),
        })
    }

    /// The end of the last segment that was left behind its seal: after that.
    #[must_use]
    pub const fn sealed(&self) -> Option<Position> {
        self.sealed
    }

    /// What stands after the last row, where the stream is not sealed.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tail(&self) -> Result<Option<Tail>, ReadFault> {
        let Some(segment) = &self.open else {
            return Ok(self.short.clone());
        };
        Ok(Some(Tail {
            path: segment.path.clone(),
            offset: segment.frames.offset(),
            sequence: segment.frames.sequence(),
            torn_bytes: written_after(segment)?,
        }))
    }

    /// The numbers of the segments that come after the last one that was looked at.
    fn numbers(&self) -> Result<Vec<u64>, ReadFault> {
        let names = self.disk.names(&self.folder).map_err(|error| ReadFault {
            path: self.folder.clone(),
            error,
        })?;
        let numbers = names.iter().filter_map(|name| file_number(name));
        Ok(numbers.filter(|number| *number > self.number).collect())
    }

    /// Opens the next segment, if it has begun.
    fn enter(&mut self) -> Result<Option<Item>, ReadFault> {
        self.short = None;
        for number in self.numbers()? {
            let path = self.folder.join(format!("{number:010}.segment"));
            let fault = |error| ReadFault {
                path: path.clone(),
                error,
            };
            let file = match self.disk.open_to_read(&path) {
                Ok(file) => file,
                // Removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(fault(error)),
            };
            match frames::header(&*file).map_err(fault)? {
                Ok(header) => {
                    self.number = number;
                    self.waiting = self.misplaced(&path, number, &header);
                    let frames = Frames::new(file, &header);
                    self.open = Some(Segment {
                        path: path.clone(),
                        number,
                        frames,
                    });
                    return Ok(Some(Item::Segment(path, header)));
                }
                Err(HeaderFault::NotBegun) => {}
                // A file is set aside in its full length before anything is written to it.
                Err(HeaderFault::Short) if !self.begins_after(number)? => {
                    self.short = Some(Tail {
                        path: path.clone(),
                        offset: 0,
                        sequence: self.expected.map_or(0, |expected| expected.sequence),
                        torn_bytes: file.bytes().map_err(fault)?,
                    });
                    return Ok(None);
                }
                Err(why) => {
                    self.number = number;
                    return Ok(Some(Item::Fault(Fault::Header { path, why })));
                }
            }
        }
        Ok(None)
    }

    /// What is wrong with a segment's place.
    fn misplaced(&self, path: &Path, number: u64, header: &Header) -> Option<Fault> {
        let path = path.to_path_buf();
        let unchained = |due| Fault::Unchained {
            path: path.clone(),
            sequence: header.first,
            due,
        };
        let Some(expected) = self.expected else {
            // Those before the first were removed when they were old enough; what the first one says of
            // them is all that is known.
            return (header.number != number).then(|| unchained(header.first));
        };
        if header.number != number || header.first < expected.sequence {
            return Some(unchained(expected.sequence));
        }
        if number > expected.number {
            return Some(Fault::Missing {
                path,
                segments: (expected.number, number - 1),
                rows: (expected.sequence, header.first.saturating_sub(1)),
                after: expected.last_at,
            });
        }
        let follows = match expected.chain {
            Some(chain) => chain == header.before && header.first == expected.sequence,
            // What broke was told.
            None => true,
        };
        (!follows).then(|| unchained(expected.sequence))
    }

    /// Whether a segment after this one has begun.
    fn begins_after(&self, number: u64) -> Result<bool, ReadFault> {
        for later in self.numbers()?.into_iter().filter(|n| *n > number) {
            let path = self.folder.join(format!("{later:010}.segment"));
            let fault = |error| ReadFault {
                path: path.clone(),
                error,
            };
            let header = match self.disk.open_to_read(&path) {
                Ok(file) => frames::header(&*file).map_err(fault)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(fault(error)),
            };
            if !matches!(header, Err(HeaderFault::NotBegun | HeaderFault::Short)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a segment, on which the walk has stopped, is not being written any more.
    fn is_closed(&self, segment: &Segment) -> Result<bool, ReadFault> {
        let sealed = frames::seal(&**segment.frames.file()).map_err(|error| ReadFault {
            path: segment.path.clone(),
            error,
        })?;
        Ok(sealed.is_some() || self.begins_after(segment.number)?)
    }

    /// What it means that a segment ends where the walk has stopped.
    fn broken(&self, segment: &Segment, stopped: Stopped) -> Result<Fault, ReadFault> {
        let (path, frames) = (segment.path.clone(), &segment.frames);
        let (offset, sequence) = (frames.offset(), frames.sequence());
        let after = frames.last_at();
        let after = after.or_else(|| self.expected.and_then(|expected| expected.last_at));
        let bytes = written_after(segment)?;
        if bytes == 0 {
            return Ok(Fault::Unsealed {
                path,
                sequence,
                after,
            });
        }
        Ok(Fault::Row {
            path,
            offset,
            sequence,
            after,
            bytes,
            why: stopped.why(),
        })
    }

    /// Goes on to the next segment, which goes on from this chain if that is known.
    fn leave(&mut self, segment: &Segment, chain: Option<Chain>) {
        let last_at = segment.frames.last_at();
        if let Some(chain) = chain {
            self.sealed = Some(Position {
                segment: segment.number,
                next: segment.frames.sequence(),
                chain,
            });
        }
        self.expected = Some(Expected {
            number: segment.number.saturating_add(1),
            sequence: segment.frames.sequence(),
            chain,
            last_at: last_at.or_else(|| self.expected.and_then(|expected| expected.last_at)),
        });
    }
}

/// How many bytes after the place where the walk stands are not zero, up to the last of them.
fn written_after(segment: &Segment) -> Result<u64, ReadFault> {
    let offset = segment.frames.offset();
    let written = frames::written_to(&**segment.frames.file(), offset);
    let written = written.map_err(|error| ReadFault {
        path: segment.path.clone(),
        error,
    })?;
    Ok(written - offset)
}
