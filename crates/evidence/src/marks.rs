//! The marks of a stream and its newest checkpoint, on disk, beside the segments.
//!
//! Marks are added and never changed: a line each time that a segment is sealed or removed, and now and
//! then for the one that is being written. The checkpoint is written anew after each of them. Whoever
//! looks after the stream does both; nobody who serves waits for it.
//!
//! Never signs what is not on the disk: rows first, then the mark that speaks of them, then the
//! checkpoint over the mark. What a killed node has left between two of these is made good by the next.
//!
//! Invariant: no two checkpoints of one origin contradict each other. Where what is found contradicts
//! what was signed, it is put aside as it is, told, and a new origin is begun.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shikiri_record::UnixMillis;

use crate::checkpoint::{Checkpoint, MARK_BYTES_MAX, Mark, MarkKind};
use crate::disk::{Disk, File};
use crate::note::{self, NOTE_BYTES_MAX, Signer};
use crate::segment::BootId;
use crate::tree::Tree;

/// The file of the marks.
pub(crate) const MARKS: &str = "marks";

/// The file of the newest checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// How the marks' file begins; the origin follows.
const BEGINS: &str = "marks 1 ";

/// A header line is no longer.
const HEADER_BYTES_MAX: usize = 512;

/// How many bytes are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Who signs a stream's checkpoints, and how often.
#[derive(Clone, Debug)]
pub struct Signing {
    /// Who.
    pub signer: Arc<dyn Signer>,
    /// A segment that is being written has a mark this often at least, if rows were added.
    pub every: Duration,
}

/// One run of a node, for what is written in it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The node's name, at most [`crate::segment::NODE_BYTES_MAX`] bytes.
    pub node: String,
    /// Which run.
    pub boot: BootId,
    /// None where nothing is signed: a trial, a test.
    pub signing: Option<Signing>,
}

impl Run {
    /// Of a node that signs nothing.
    #[must_use]
    pub fn unsigned(node: &str, boot: BootId) -> Self {
        Self {
            node: node.to_owned(),
            boot,
            signing: None,
        }
    }
}

/// What was signed and is not so any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// The marks are not those that the checkpoint is over.
    Marks,
    /// A line of them is no mark.
    Line,
    /// There is a checkpoint and no marks.
    NoMarks,
    /// There are marks and no checkpoint.
    NoCheckpoint,
    /// The checkpoint cannot be read, or somebody else signed it.
    Checkpoint,
    /// Rows before this one were there, and are not, or are others.
    Rows {
        /// The first row that is not spoken of.
        before: u64,
        /// When they were.
        at: UnixMillis,
    },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marks => f.write_str("its marks are not those that were signed"),
            Self::Line => f.write_str("a line of its marks is none"),
            Self::NoMarks => f.write_str("its marks are gone, and were signed"),
            Self::NoCheckpoint => f.write_str("its checkpoint is gone"),
            Self::Checkpoint => f.write_str("its checkpoint is none that this node has signed"),
            Self::Rows { before, at } => write!(
                f,
                "the rows before row {before} are not those of which was signed at {}.{:03} s since 1970 that \
                 they were there",
                at.seconds(),
                at.0 % 1000
            ),
        }
    }
}

/// The marks of one stream, for more of them.
#[derive(Debug)]
pub(crate) struct Marks {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    signing: Signing,
    origin: String,
    tree: Tree,
    /// Whether there is a checkpoint of this origin, be it over no marks.
    is_begun: bool,
    /// None until the first mark is written.
    file: Option<Arc<dyn File>>,
    /// Where the next line goes.
    end: u64,
    /// Whether something of a failed write may stand there.
    is_dirty: bool,
    /// How many marks the checkpoint is over.
    signed: u64,
    /// The last that says how far the stream was.
    last: Option<Mark>,
    /// The last segment of which it is said that it was sealed; and that it was removed.
    sealed: u64,
    removed: u64,
    /// To be written next, before others.
    waiting: Vec<Mark>,
}

/// What was found beside a stream.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) marks: Marks,
    /// What was put aside, and why.
    pub(crate) contradiction: Option<Contradiction>,
}

impl Marks {
    /// The marks in a stream's folder; begun anew where there are none, or none that can be gone on with.
    /// `holds`: whether the stream is as a mark says.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        stream: &str,
        boot: BootId,
        signing: Signing,
        holds: impl FnOnce(&Mark) -> io::Result<bool>,
    ) -> io::Result<Found> {
        let origin = format!("{}/{stream}/{boot}", signing.signer.key().name());
        let begun = origin.clone();
        let mut marks = Self {
            disk,
            folder: folder.to_path_buf(),
            signing,
            origin,
            tree: Tree::default(),
            is_begun: false,
            file: None,
            end: 0,
            is_dirty: false,
            signed: 0,
            last: None,
            sealed: 0,
            removed: 0,
            waiting: Vec::new(),
        };
        let found = marks.found(holds)?;
        let Err(contradiction) = found else {
            return Ok(Found {
                marks,
                contradiction: None,
            });
        };
        marks.put_aside(begun)?;
        Ok(Found {
            marks,
            contradiction: Some(contradiction),
        })
    }

    /// Takes over what is there.
    fn found(
        &mut self,
        holds: impl FnOnce(&Mark) -> io::Result<bool>,
    ) -> io::Result<Result<(), Contradiction>> {
        let there = |path: PathBuf| match self.disk.open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let file = there(self.folder.join(MARKS))?;
        let noted = there(self.folder.join(CHECKPOINT))?;
        let Some(noted) = noted else {
            // The checkpoint is the first that is written, over no marks.
            let found = if file.is_some() {
                Err(Contradiction::NoCheckpoint)
            } else {
                Ok(())
            };
            return Ok(found);
        };
        let Some(signed) = self.own(&read_note(&*noted)?) else {
            return Ok(Err(Contradiction::Checkpoint));
        };
        self.origin.clone_from(&signed.origin);
        self.is_begun = true;
        let Some(file) = file else {
            let found = if signed.size > 0 {
                Err(Contradiction::NoMarks)
            } else {
                Ok(())
            };
            return Ok(found);
        };
        let mut lines = Lines::new(Arc::clone(&file));
        match lines.header()? {
            Some(origin) if origin == signed.origin => {}
            // The very first write was torn.
            None if signed.size == 0 => {
                self.file = Some(file);
                self.is_dirty = true;
                return Ok(Ok(()));
            }
            _ => return Ok(Err(Contradiction::Marks)),
        }
        let mut is_signed = false;
        loop {
            is_signed |= signed.size == self.tree.size() && signed.root == self.tree.root();
            match lines.next_mark()? {
                Next::Mark(mark, line) => {
                    self.tree.push(line.as_bytes());
                    self.note(mark);
                }
                Next::None => return Ok(Err(Contradiction::Line)),
                Next::Torn | Next::End => break,
            }
        }
        if !is_signed {
            return Ok(Err(Contradiction::Marks));
        }
        if let Some(last) = self.last.filter(|last| last.segment > self.removed)
            && !holds(&last)?
        {
            return Ok(Err(Contradiction::Rows {
                before: last.next,
                at: last.at,
            }));
        }
        self.signed = signed.size;
        self.end = lines.offset;
        self.is_dirty = true;
        self.file = Some(file);
        Ok(Ok(()))
    }

    /// A checkpoint of ours: signatures of Ed25519 are made in one way only.
    fn own(&self, text: &str) -> Option<Checkpoint> {
        let body = note::unverified(text).ok()?;
        let is_ours = note::signed(body, &*self.signing.signer) == text;
        is_ours.then(|| body.parse().ok()).flatten()
    }

    /// Puts what is there aside, and begins anew.
    fn put_aside(&mut self, begun: String) -> io::Result<()> {
        let names = self.disk.names(&self.folder)?;
        let is_taken = |n: &u64| {
            let taken = [MARKS, CHECKPOINT].map(|name| aside(name, *n));
            names.iter().any(|name| taken.contains(name))
        };
        let n = (1..).find(|n| !is_taken(n)).expect("there are enough");
        for name in [MARKS, CHECKPOINT] {
            let moved = self
                .disk
                .rename(&self.folder.join(name), &self.folder.join(aside(name, n)));
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.disk.sync_folder(&self.folder)?;
        self.origin = begun;
        self.tree = Tree::default();
        self.is_begun = false;
        (self.file, self.end, self.is_dirty) = (None, 0, false);
        (self.signed, self.last, self.sealed, self.removed) = (0, None, 0, 0);
        Ok(())
    }

    /// The first row that no mark speaks of.
    pub(crate) fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.next)
    }

    /// Whether the segment that is being written is due to be marked. A clock that was set back does not
    /// make it wait.
    pub(crate) fn is_due(&self, now: UnixMillis) -> bool {
        self.last
            .is_none_or(|last| now < last.at || now.since(last.at) >= self.signing.every)
    }

    /// Whether everything is written and signed.
    pub(crate) const fn is_signed(&self) -> bool {
        self.is_begun && self.waiting.is_empty() && self.signed == self.tree.size()
    }

    /// Adds a mark, to be written next; not one that says again what is said.
    pub(crate) fn add(&mut self, mark: Mark) {
        let said = match mark.kind {
            MarkKind::Running => 0,
            MarkKind::Sealed => self.sealed,
            MarkKind::Removed => self.removed,
        };
        if mark.segment > said {
            self.note(mark);
            self.waiting.push(mark);
        }
    }

    fn note(&mut self, mark: Mark) {
        match mark.kind {
            MarkKind::Running => {}
            MarkKind::Sealed => self.sealed = self.sealed.max(mark.segment),
            MarkKind::Removed => {
                self.removed = self.removed.max(mark.segment);
                return;
            }
        }
        self.last = Some(mark);
    }

    /// Writes the marks that wait, and the checkpoint over all. What fails is tried again the next time.
    pub(crate) fn write(&mut self) -> Result<(), (PathBuf, io::Error)> {
        if !self.is_begun {
            // Where there are marks, there was a checkpoint: so its absence shows.
            let path = self.folder.join(CHECKPOINT);
            self.write_checkpoint(&path)
                .map_err(|error| (path, error))?;
        }
        if !self.waiting.is_empty() {
            let path = self.folder.join(MARKS);
            self.write_marks(&path).map_err(|error| (path, error))?;
        }
        if self.signed < self.tree.size() {
            let path = self.folder.join(CHECKPOINT);
            self.write_checkpoint(&path)
                .map_err(|error| (path, error))?;
        }
        Ok(())
    }

    fn write_marks(&mut self, path: &Path) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = self.disk.create(path, 0)?;
                self.disk.sync_folder(&self.folder)?;
                self.file = Some(Arc::clone(&file));
                file
            }
        };
        if self.is_dirty {
            file.truncate(self.end)?;
        }
        let mut text = String::new();
        if self.end == 0 {
            text = format!("{BEGINS}{}\n", self.origin);
        }
        let lines: Vec<String> = self.waiting.iter().map(ToString::to_string).collect();
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.is_dirty = true;
        file.write_at(text.as_bytes(), self.end)?;
        file.sync()?;
        self.is_dirty = false;
        self.end += u64::try_from(text.len()).expect("a length fits 64 bits");
        lines
            .iter()
            .for_each(|line| self.tree.push(line.as_bytes()));
        self.waiting.clear();
        Ok(())
    }

    fn write_checkpoint(&mut self, path: &Path) -> io::Result<()> {
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size: self.tree.size(),
            root: self.tree.root(),
        };
        let text = note::signed(&checkpoint.to_string(), &*self.signing.signer);
        let new = path.with_extension("new");
        match self.disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let length = u64::try_from(text.len()).expect("a length fits 64 bits");
        let file = self.disk.create(&new, length)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync()?;
        self.disk.rename(&new, path)?;
        self.disk.sync_folder(&self.folder)?;
        (self.signed, self.is_begun) = (checkpoint.size, true);
        Ok(())
    }
}

/// The name of what was put aside.
pub(crate) fn aside(name: &str, n: u64) -> String {
    format!("{name}-{n}")
}

/// The text of a note's file; an empty one where it is none.
pub(crate) fn read_note(file: &dyn File) -> io::Result<String> {
    let mut bytes = vec![0; NOTE_BYTES_MAX + 1];
    let mut filled = 0;
    while filled < bytes.len() {
        let offset = u64::try_from(filled).expect("it is small");
        match file.read_at(&mut bytes[filled..], offset)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// A walk through a file of marks.
#[derive(Debug)]
pub(crate) struct Lines {
    file: Arc<dyn File>,
    /// After the last whole line that was read.
    offset: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was walked through.
    walked: usize,
}

/// What comes next in a file of marks.
#[derive(Debug)]
pub(crate) enum Next {
    /// A mark, and its line.
    Mark(Mark, String),
    /// A line that is no mark.
    None,
    /// The file ends within a line.
    Torn,
    End,
}

impl Lines {
    pub(crate) const fn new(file: Arc<dyn File>) -> Self {
        Self {
            file,
            offset: 0,
            buffer: Vec::new(),
            walked: 0,
        }
    }

    /// The origin, which stands in the first line.
    pub(crate) fn header(&mut self) -> io::Result<Option<String>> {
        let Line::Whole(line) = self.line(HEADER_BYTES_MAX)? else {
            return Ok(None);
        };
        let origin = line
            .strip_prefix(BEGINS)
            .filter(|origin| !origin.is_empty());
        Ok(origin.map(str::to_owned))
    }

    pub(crate) fn next_mark(&mut self) -> io::Result<Next> {
        Ok(match self.line(MARK_BYTES_MAX)? {
            Line::Whole(line) => match line.parse() {
                Ok(mark) => Next::Mark(mark, line),
                Err(_) => Next::None,
            },
            Line::None => Next::None,
            Line::Torn => Next::Torn,
            Line::End => Next::End,
        })
    }

    fn line(&mut self, bytes_max: usize) -> io::Result<Line> {
        loop {
            let rest = &self.buffer[self.walked..];
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(rest[..at].to_vec());
                self.walked += at + 1;
                self.offset += u64::try_from(at + 1).expect("a length fits 64 bits");
                return Ok(match line {
                    Ok(line) if at <= bytes_max => Line::Whole(line),
                    _ => Line::None,
                });
            }
            if rest.len() > bytes_max {
                return Ok(Line::None);
            }
            let held = rest.len();
            self.buffer.drain(..self.walked);
            self.walked = 0;
            self.buffer.resize(held + CHUNK_BYTES, 0);
            let from = self.offset + u64::try_from(held).expect("a length fits 64 bits");
            let count = self.file.read_at(&mut self.buffer[held..], from)?;
            self.buffer.truncate(held + count);
            if count == 0 {
                return Ok(if held == 0 { Line::End } else { Line::Torn });
            }
        }
    }
}

enum Line {
    Whole(String),
    /// Too long, or no text.
    None,
    Torn,
    End,
}
