//! Whether a stream is what was written and signed: read once from its beginning to its end, against its
//! marks and checkpoints, with the public key alone.
//!
//! Never writes, never needs a secret, and holds no more than a segment's chunk and a line of marks at a
//! time. What is found is told by file, rows and instants, and reading goes on.
//!
//! Invariant: a stream of which nothing is found is, up to [`Verified::signed`], byte for byte the one that
//! was signed, but for what a signed mark says was removed.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shikiri_record::UnixMillis;

use crate::checkpoint::{Checkpoint, Mark, MarkKind, NoCheckpoint};
use crate::disk::Disk;
use crate::marks::{CHECKPOINT, Lines, MARKS, Next, read_note};
use crate::note::{self, Check, NoteFault, NoteKey};
use crate::reader::{Fault, Item, Position, ReadFault, Reader, Row, Tail};
use crate::tree::Tree;

/// Whose signatures count.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The keys.
    pub keys: &'a [NoteKey],
    /// How a signature is checked.
    pub check: Check,
}

/// A checkpoint from elsewhere that somebody known has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Where it is from, in words.
    pub from: String,
    /// What it says.
    pub checkpoint: Checkpoint,
}

/// A time between two instants, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Between {
    /// Not before.
    pub from: Option<UnixMillis>,
    /// Not after.
    pub to: Option<UnixMillis>,
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |at: UnixMillis| format!("{}.{:03} s since 1970", at.seconds(), at.0 % 1000);
        match (self.from, self.to) {
            (Some(from), Some(to)) => write!(f, "between {} and {}", shown(from), shown(to)),
            (Some(from), None) => write!(f, "after {}", shown(from)),
            (None, Some(to)) => write!(f, "before {}", shown(to)),
            (None, None) => f.write_str("at a time that is not known"),
        }
    }
}

/// What is wrong with a stream.
#[derive(Debug)]
pub enum Finding {
    /// A row, a seal or a segment does not fit its place.
    Place {
        /// What and where.
        fault: Fault,
        /// When it was written.
        between: Between,
    },
    /// Rows fit one another, and are not those that were signed.
    Others {
        /// The segment's file.
        path: PathBuf,
        /// The first and the last of which that is not true any more.
        rows: (u64, u64),
        /// When they were written.
        between: Between,
    },
    /// Rows are not where it was signed that they are, since segments are missing or hold fewer.
    Lost {
        /// The stream.
        path: PathBuf,
        /// The first and the last of which at least one is missing.
        rows: (u64, u64),
        /// When they were written.
        between: Between,
    },
    /// The stream ends before rows of which was signed that they were there.
    Cut {
        /// The stream.
        path: PathBuf,
        /// The first and the last of which at least one is missing; the last is lower where only a seal is.
        rows: (u64, u64),
        /// The row before which the stream ends.
        ends: u64,
        /// What stands there that is no row.
        tail: Option<Tail>,
        /// When they were written.
        between: Between,
    },
    /// Segments at the beginning are not there, and nobody has signed that they were removed.
    Gone {
        /// The stream.
        path: PathBuf,
        /// The first and the last row.
        rows: (u64, u64),
        /// When they were written.
        between: Between,
    },
    /// There are rows, and no checkpoint.
    Unsigned {
        /// The stream.
        path: PathBuf,
    },
    /// A checkpoint is not signed by a key that is known here, or was changed.
    Note {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        why: NoteFault,
    },
    /// What is signed is no checkpoint.
    NoCheckpoint {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        why: NoCheckpoint,
    },
    /// The marks are not those that a checkpoint is over.
    Marks {
        /// The marks.
        path: PathBuf,
        /// The checkpoint, in words.
        checkpoint: String,
        /// How many it is over.
        size: u64,
        /// How many there are.
        there: u64,
    },
    /// A line of the marks is none.
    Line {
        /// The marks.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |f: &mut fmt::Formatter<'_>, path: &Path| write!(f, "{}: ", path.display());
        match self {
            Self::Place { fault, between } => write!(f, "{fault} ({between})"),
            Self::Others {
                path,
                rows: (from, to),
                between,
            } => {
                place(f, path)?;
                if to < from {
                    return write!(
                        f,
                        "the seal behind row {to} is not the one that was signed ({between})"
                    );
                }
                write!(
                    f,
                    "rows {from} to {to}, written {between}, are not those that were signed: at least one of \
                     them was changed, taken out, put in or moved, and the chain computed anew"
                )
            }
            Self::Lost {
                path,
                rows: (from, to),
                between,
            } => {
                place(f, path)?;
                write!(
                    f,
                    "of rows {from} to {to}, written {between}, at least one is missing: segments are missing, \
                     or hold fewer rows than was signed"
                )
            }
            Self::Cut {
                path,
                rows: (from, to),
                ends,
                tail,
                between,
            } => {
                place(f, path)?;
                if to < from {
                    return write!(f, "the seal behind row {to} was taken away ({between})");
                }
                write!(
                    f,
                    "it ends before row {ends}, and it was signed that there were rows up to {to}: of rows \
                     {from} to {to}, written {between}, at least one was taken away or changed"
                )?;
                match tail.as_ref().filter(|tail| tail.torn_bytes > 0) {
                    None => Ok(()),
                    Some(tail) => write!(
                        f,
                        "; {} bytes at offset {} of {} hold a row whose chain does not fit",
                        tail.torn_bytes,
                        tail.offset,
                        tail.path.display()
                    ),
                }
            }
            Self::Gone {
                path,
                rows: (from, to),
                between,
            } => {
                place(f, path)?;
                write!(
                    f,
                    "rows {from} to {to}, written {between}, are missing at the beginning, and nothing that is \
                     signed says that they were removed"
                )
            }
            Self::Unsigned { path } => {
                place(f, path)?;
                f.write_str("there is no checkpoint: nothing of it is signed")
            }
            Self::Note { path, why } => {
                place(f, path)?;
                write!(f, "{why}")
            }
            Self::NoCheckpoint { path, why } => {
                place(f, path)?;
                write!(f, "{why}")
            }
            Self::Marks {
                path,
                checkpoint,
                size,
                there,
            } => {
                place(f, path)?;
                if there < size {
                    write!(
                        f,
                        "{there} marks are there, and {checkpoint} is over {size}"
                    )
                } else {
                    write!(
                        f,
                        "the first {size} marks are not those that {checkpoint} is over: some were changed"
                    )
                }
            }
            Self::Line { path, line } => {
                place(f, path)?;
                write!(
                    f,
                    "line {line} is no mark, and those after it are not looked at"
                )
            }
        }
    }
}

/// What a verification comes upon.
#[derive(Debug)]
pub enum Told<'a> {
    /// A row whose chain fits, in its segment's file.
    Row(&'a Path, &'a Row),
    /// Something is wrong.
    Found(Finding),
}

/// What is known when all was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many rows fit.
    pub rows: u64,
    /// The first row that is there, and when it was written.
    pub first: Option<(u64, UnixMillis)>,
    /// The last.
    pub last: Option<(u64, UnixMillis)>,
    /// Rows before this one are signed, since then.
    pub signed: Option<(u64, UnixMillis)>,
    /// The checkpoint that stands beside the stream.
    pub checkpoint: Option<Checkpoint>,
    /// Rows before this one were removed since they were kept for long enough; and when.
    pub removed: Option<(u64, UnixMillis)>,
    /// How many times the clock was behind the mark before.
    pub set_back: u64,
    /// How many times a node had put aside what contradicted the stream that it found.
    pub put_aside: usize,
    /// Which of the checkpoints from elsewhere are of this stream.
    pub given: Vec<usize>,
    /// What stands after the last row of a stream that is being written.
    pub tail: Option<Tail>,
    /// How many things were found.
    pub findings: u64,
}

/// Reads a stream and tells what does not fit.
///
/// # Errors
/// A file cannot be read.
pub fn verify(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    trust: Trust<'_>,
    given: &[Given],
    told: &mut dyn FnMut(Told<'_>),
) -> Result<Verified, ReadFault> {
    let fault = |error| ReadFault {
        path: folder.to_path_buf(),
        error,
    };
    let mut findings = 0;
    let mut tell = |what: Told<'_>| {
        findings += u64::from(matches!(what, Told::Found(_)));
        told(what);
    };
    let mut verified = Verified::default();
    let names = disk.names(folder).map_err(fault)?;
    let mut logs = Vec::new();
    let beside = |name: &str, of| suffix(name, of).map(str::to_owned);
    let signed = names.iter().filter_map(|name| beside(name, CHECKPOINT));
    let marked = names.iter().filter_map(|name| beside(name, MARKS));
    // Of each there should be both.
    let suffixes: BTreeSet<String> = signed.chain(marked).collect();
    for suffix in &suffixes {
        let log = Log::open(disk, folder, suffix, trust, given, &mut tell, &mut verified);
        logs.extend(log.map_err(fault)?);
    }
    verified.put_aside = suffixes.iter().filter(|suffix| !suffix.is_empty()).count();
    let has_checkpoint = names.iter().any(|name| name == CHECKPOINT);
    let mut walk = Walk {
        folder,
        reader: Reader::open(Arc::clone(disk), folder)?,
        logs,
        path: folder.to_path_buf(),
        begins: None,
        last_at: None,
        broken: None,
        waiting: Vec::new(),
    };
    walk.run(&mut verified, &mut tell)?;
    if !has_checkpoint && verified.rows > 0 {
        let path = folder.to_path_buf();
        tell(Told::Found(Finding::Unsigned { path }));
    }
    verified.tail = walk.reader.tail()?;
    verified.findings = findings;
    Ok(verified)
}

/// What stands behind the name of a file of marks, or of a checkpoint.
fn suffix<'a>(name: &'a str, of: &str) -> Option<&'a str> {
    let suffix = name.strip_prefix(of)?;
    let number = suffix.strip_prefix('-');
    let is_ours = suffix.is_empty() || number.is_some_and(|n| n.parse::<u64>().is_ok());
    is_ours.then_some(suffix)
}

/// The marks of one origin, and how far they have been held against the rows.
struct Log {
    lines: Lines,
    /// How many are still to be read: those that were there at first.
    left: u64,
    next: Option<Mark>,
    /// The last that fits, or is of rows that were removed.
    fits: Option<Mark>,
    /// Whether the last one did not fit.
    is_broken: bool,
    /// The last segment of which it is said that it was removed.
    removed: Option<Mark>,
    /// From which row up to which mark segments at the beginning are not there.
    absent: Option<(u64, Mark)>,
    /// From which row, and when, up to which mark rows further on are not there.
    lost: Option<(u64, Option<UnixMillis>, Mark)>,
}

impl Log {
    /// Reads marks once, and holds them against the checkpoints over them.
    fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        suffix: &str,
        trust: Trust<'_>,
        given: &[Given],
        tell: &mut dyn FnMut(Told<'_>),
        verified: &mut Verified,
    ) -> io::Result<Option<Self>> {
        let path = folder.join(format!("{MARKS}{suffix}"));
        let noted = folder.join(format!("{CHECKPOINT}{suffix}"));
        // The checkpoint first: marks are only added.
        let own = own(disk, &noted, trust, tell)?;
        let file = match disk.open_to_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(size) = own.map(|own| own.size).filter(|size| *size > 0) {
                    let (checkpoint, there) = (noted.display().to_string(), 0);
                    tell(Told::Found(Finding::Marks {
                        path,
                        checkpoint,
                        size,
                        there,
                    }));
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut lines = Lines::new(Arc::clone(&file));
        let Some(origin) = lines.header()? else {
            tell(Told::Found(Finding::Line { path, line: 1 }));
            return Ok(None);
        };
        let mut over: Vec<(String, Checkpoint, bool)> = Vec::new();
        if let Some(own) = &own {
            over.push((
                noted.display().to_string(),
                own.clone(),
                own.origin == origin,
            ));
        }
        for (n, given) in given.iter().enumerate() {
            if given.checkpoint.origin == origin {
                verified.given.push(n);
                over.push((given.from.clone(), given.checkpoint.clone(), true));
            }
        }
        if own.is_none() && !suffix.is_empty() && !disk_has(disk, &noted)? {
            let path = path.clone();
            tell(Told::Found(Finding::Unsigned { path }));
        }
        let mut tree = Tree::default();
        let (mut removed, mut signed, mut before) = (None, None, None::<Mark>);
        let size = |over: &[(String, Checkpoint, bool)]| {
            over.iter().map(|(_, checkpoint, _)| checkpoint.size).max()
        };
        let largest = size(&over).unwrap_or(0);
        loop {
            for (_, checkpoint, fits) in &mut over {
                if checkpoint.size == tree.size() {
                    *fits &= checkpoint.root == tree.root();
                }
            }
            let mark = match lines.next_mark()? {
                Next::Mark(mark, line) => {
                    tree.push(line.as_bytes());
                    mark
                }
                Next::None => {
                    let line = tree.size() + 2;
                    let path = path.clone();
                    tell(Told::Found(Finding::Line { path, line }));
                    break;
                }
                Next::Torn | Next::End => break,
            };
            if before.is_some_and(|before| mark.at < before.at) {
                verified.set_back += 1;
            }
            before = Some(mark);
            if mark.kind == MarkKind::Removed {
                removed = Some(mark);
            } else if tree.size() <= largest {
                signed = Some(mark);
            }
        }
        let mut all_fit = !over.is_empty();
        for (checkpoint, Checkpoint { size, .. }, fits) in over {
            let there = tree.size();
            if !fits || there < size {
                all_fit = false;
                tell(Told::Found(Finding::Marks {
                    path: path.clone(),
                    checkpoint,
                    size,
                    there,
                }));
            }
        }
        if suffix.is_empty() {
            verified.checkpoint = own;
            if all_fit {
                verified.signed = signed.map(|mark| (mark.next, mark.at));
            }
        }
        let mut log = Self {
            lines: Lines::new(file),
            left: tree.size(),
            next: None,
            fits: None,
            is_broken: false,
            removed,
            absent: None,
            lost: None,
        };
        log.lines.header()?;
        log.advance()?;
        Ok(Some(log))
    }

    /// Goes on to the next mark that says how far the stream was.
    fn advance(&mut self) -> io::Result<()> {
        self.next = None;
        while self.next.is_none() && self.left > 0 {
            self.left -= 1;
            if let Next::Mark(mark, _) = self.lines.next_mark()? {
                self.next = Some(mark).filter(|mark| mark.kind != MarkKind::Removed);
            }
        }
        Ok(())
    }

    /// From which row on nothing is known yet, and since when.
    fn from(&self) -> (u64, Option<UnixMillis>) {
        self.fits
            .map_or((0, None), |fits| (fits.next, Some(fits.at)))
    }

    /// Tells of what is not there.
    fn tell_lost(&mut self, folder: &Path, tell: &mut dyn FnMut(Told<'_>)) {
        if let Some((from, since, last)) = self.lost.take() {
            tell(Told::Found(Finding::Lost {
                path: folder.to_path_buf(),
                rows: (from, last.next.saturating_sub(1)),
                between: Between {
                    from: since,
                    to: Some(last.at),
                },
            }));
        }
    }
}

fn disk_has(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<bool> {
    match disk.open_to_read(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The checkpoint in a file, if somebody known has signed it.
fn own(
    disk: &Arc<dyn Disk>,
    path: &Path,
    trust: Trust<'_>,
    tell: &mut dyn FnMut(Told<'_>),
) -> io::Result<Option<Checkpoint>> {
    let file = match disk.open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = read_note(&*file)?;
    let path = path.to_path_buf();
    let found = match note::opened(&text, trust.keys, trust.check) {
        Err(why) => Err(Finding::Note { path, why }),
        Ok(body) => body
            .parse()
            .map_err(|why| Finding::NoCheckpoint { path, why }),
    };
    Ok(found.map_err(|finding| tell(Told::Found(finding))).ok())
}

/// Where a place is among others: the segment, the row, and whether it is behind a seal.
type Order = (u64, u64, bool);

fn order(mark: &Mark) -> Order {
    (mark.segment, mark.next, mark.kind == MarkKind::Sealed)
}

struct Walk<'a> {
    folder: &'a Path,
    reader: Reader,
    logs: Vec<Log>,
    /// The present segment.
    path: PathBuf,
    /// The first segment that is there.
    begins: Option<u64>,
    last_at: Option<UnixMillis>,
    /// The segment in which something was found to be broken.
    broken: Option<u64>,
    /// Told when the next row is there, so that its instant is known.
    waiting: Vec<Fault>,
}

impl Walk<'_> {
    fn run(
        &mut self,
        verified: &mut Verified,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), ReadFault> {
        let mut segment = 0;
        while let Some(item) = self.reader.next_item()? {
            match item {
                Item::Segment(path, header) => {
                    self.pass_seal(tell)?;
                    self.path = path;
                    segment = header.number;
                    self.begins.get_or_insert(header.number);
                }
                Item::Row(row) => {
                    self.tell_waiting(Some(row.at), tell);
                    self.last_at = Some(row.at);
                    verified.rows += 1;
                    verified.first.get_or_insert((row.sequence, row.at));
                    verified.last = Some((row.sequence, row.at));
                    tell(Told::Row(&self.path, &row));
                    self.pass(self.reader.position(), false, tell)?;
                }
                Item::Fault(fault) => {
                    self.pass_seal(tell)?;
                    let is_within =
                        !matches!(fault, Fault::Missing { .. } | Fault::Unchained { .. });
                    if is_within {
                        self.broken = Some(segment);
                    }
                    self.waiting.push(fault);
                }
            }
        }
        self.pass_seal(tell)?;
        self.tell_waiting(None, tell);
        self.end(verified, tell)
    }

    fn tell_waiting(&mut self, to: Option<UnixMillis>, tell: &mut dyn FnMut(Told<'_>)) {
        let between = Between {
            from: self.last_at,
            to,
        };
        for fault in self.waiting.drain(..) {
            tell(Told::Found(Finding::Place { fault, between }));
        }
    }

    /// The seal that was passed, if one was.
    fn pass_seal(&mut self, tell: &mut dyn FnMut(Told<'_>)) -> Result<(), ReadFault> {
        self.pass(self.reader.sealed(), true, tell)
    }

    /// Holds the marks up to a place against it.
    fn pass(
        &mut self,
        place: Option<Position>,
        is_sealed: bool,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), ReadFault> {
        let Some(place) = place else { return Ok(()) };
        let here = (place.segment, place.next, is_sealed);
        let mut broken = self.broken;
        for log in &mut self.logs {
            while let Some(mark) = log.next.filter(|mark| order(mark) <= here) {
                let (from, since) = log.from();
                let is_here = order(&mark) == here;
                let fits = is_here && mark.chain == place.chain;
                if self.begins.is_none_or(|begins| mark.segment < begins) {
                    let from = log.absent.map_or(from, |(from, _)| from);
                    log.absent = Some((from, mark));
                } else if mark.segment < here.0 {
                    // Where something broken was met, that was told.
                    if broken != Some(mark.segment) {
                        let (from, since) = log.lost.map_or((from, since), |(n, at, _)| (n, at));
                        log.lost = Some((from, since, mark));
                    }
                } else {
                    log.tell_lost(self.folder, tell);
                    // What goes on from what does not fit, does not fit either: told once.
                    if !fits && !log.is_broken && broken != Some(mark.segment) {
                        // Where the place was passed by, more rows are there than were signed.
                        let next = if is_here { mark.next } else { place.next };
                        tell(Told::Found(Finding::Others {
                            path: self.path.clone(),
                            rows: (from, next.saturating_sub(1)),
                            between: Between {
                                from: since,
                                to: Some(mark.at),
                            },
                        }));
                    }
                    log.is_broken = !fits;
                    broken = broken.filter(|_| !fits);
                }
                log.fits = Some(mark);
                let advanced = log.advance();
                advanced.map_err(|error| ReadFault {
                    path: self.folder.to_path_buf(),
                    error,
                })?;
            }
        }
        self.broken = broken;
        Ok(())
    }

    /// What is signed to be there, and is not.
    fn end(
        &mut self,
        verified: &mut Verified,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), ReadFault> {
        let path = self.folder.to_path_buf();
        let tail = self.reader.tail()?;
        for log in &mut self.logs {
            log.tell_lost(&path, tell);
            if let Some((from, last)) = log.absent {
                let is_told = log.removed.is_some_and(|it| it.segment >= last.segment);
                match log.removed.filter(|_| is_told) {
                    Some(removed) => verified.removed = Some((removed.next, removed.at)),
                    None => tell(Told::Found(Finding::Gone {
                        path: path.clone(),
                        rows: (from, last.next.saturating_sub(1)),
                        between: Between {
                            from: None,
                            to: Some(last.at),
                        },
                    })),
                }
            }
            let (from, since) = log.from();
            let mut last = None;
            while let Some(mark) = log.next {
                last = Some(mark);
                let advanced = log.advance();
                advanced.map_err(|error| ReadFault {
                    path: path.clone(),
                    error,
                })?;
            }
            let Some(last) = last else { continue };
            let is_removed = log.removed.is_some_and(|it| it.segment >= last.segment);
            if is_removed && verified.rows == 0 {
                verified.removed = log.removed.map(|removed| (removed.next, removed.at));
                continue;
            }
            if self.broken.is_some_and(|broken| broken >= last.segment) {
                // From there on nothing could be read; that was told.
                continue;
            }
            tell(Told::Found(Finding::Cut {
                path: path.clone(),
                rows: (from, last.next.saturating_sub(1)),
                ends: verified.last.map_or(0, |(sequence, _)| sequence + 1),
                tail: tail.clone(),
                between: Between {
                    from: since,
                    to: Some(last.at),
                },
            }));
        }
        Ok(())
    }
}
