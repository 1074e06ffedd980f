//! Frame by frame through one segment's file.

use std::io;
use std::sync::Arc;

use shikiri_record::UnixMillis;

use crate::disk::File;
use crate::segment::{
    Bad, Chain, FRAME_BYTES, Found, HEADER_BYTES, Header, HeaderFault, SEAL_BYTES, Seal,
    looks_sealed, read,
};

/// How many bytes are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Reads a segment's header.
pub(crate) fn header(file: &dyn File) -> io::Result<Result<Header, HeaderFault>> {
    let mut bytes = [0; HEADER_BYTES];
    let count = fill(file, &mut bytes, 0)?;
    Ok(Header::decode(&bytes[..count]))
}

/// The seal of a segment that ends with one, with the chain after it. Says nothing of the rows.
pub(crate) fn seal(file: &dyn File) -> io::Result<Option<(Seal, Chain)>> {
    let mut bytes = [0; SEAL_BYTES];
    let length = u64::try_from(SEAL_BYTES).expect("it is small");
    let Some(at) = file.bytes()?.checked_sub(length) else {
        return Ok(None);
    };
    if fill(file, &mut bytes, at)? < SEAL_BYTES || !looks_sealed(&bytes) {
        return Ok(None);
    }
    let named = Chain::from_bytes(*bytes.last_chunk().expect("a seal ends with a chain"));
    Ok(match read(&bytes, &named) {
        Found::Seal { seal, chain, .. } => Some((seal, chain)),
        _ => None,
    })
}

/// The offset after the last byte that is not zero, from an offset on.
pub(crate) fn written_to(file: &dyn File, from: u64) -> io::Result<u64> {
    // Most of it is zero: whole chunks are compared, and only one that is not is searched.
    let zeros = vec![0; CHUNK_BYTES];
    let mut chunk = zeros.clone();
    let (mut at, mut last) = (from, from);
    loop {
        let count = fill(file, &mut chunk, at)?;
        if count == 0 {
            return Ok(last);
        }
        let read = &chunk[..count];
        if read != &zeros[..count]
            && let Some(n) = read.iter().rposition(|byte| *byte != 0)
        {
            last = at + wide(n) + 1;
        }
        at += wide(count);
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &dyn File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(&mut out[filled..], offset + wide(filled))? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits 64 bits")
}

/// A walk through one segment.
#[derive(Debug)]
pub(crate) struct Frames {
    file: Arc<dyn File>,
    chain: Chain,
    /// Where the next frame begins.
    offset: u64,
    /// The sequence number of the next row.
    sequence: u64,
    /// How many rows there were.
    rows: u64,
    last_at: Option<UnixMillis>,
    buffer: Vec<u8>,
    /// How much of the buffer has been walked through; that is what `offset` stands at.
    walked: usize,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Row {
        offset: u64,
        sequence: u64,
        at: UnixMillis,
        body: &'a [u8],
    },
    Seal(Seal, Chain),
    /// Nothing was written from here on, or what was is no frame. Asked again, it looks again.
    Stopped(Stopped),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    End,
    /// The file ends within a frame.
    Short,
    Bad(Bad),
}

impl Stopped {
    /// Why what was written there is no row.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::End => "bytes after the end of the rows",
            Self::Short => "the file ends within it",
            Self::Bad(Bad::Length) => "its length can be no row's",
            Self::Bad(Bad::Chain) => "its chain does not fit",
            Self::Bad(Bad::Seal) => "its seal contradicts the rows before it",
        }
    }
}

impl Frames {
    /// Through a file with this header.
    pub(crate) fn new(file: Arc<dyn File>, header: &Header) -> Self {
        Self {
            file,
            chain: header.chain(),
            offset: wide(HEADER_BYTES),
            sequence: header.first,
            rows: 0,
            last_at: None,
            buffer: Vec::new(),
            walked: 0,
        }
    }

    pub(crate) const fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Where the walk stands.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The sequence number of the next row.
    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many rows there were.
    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    /// The chain so far.
    pub(crate) const fn chain(&self) -> Chain {
        self.chain
    }

    /// The instant of the last row.
    pub(crate) const fn last_at(&self) -> Option<UnixMillis> {
        self.last_at
    }

    /// The next frame.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        // What was read a while ago may be older than what stands there now: nothing is said to be the
        // end, or no frame, that has not just been read.
        let mut is_fresh = false;
        let (at, chain, bytes) = loop {
            let (stopped, wanted) = match read(&self.buffer[self.walked..], &self.chain) {
                Found::Row {
                    at, chain, bytes, ..
                } => break (at, chain, bytes),
                Found::Seal { seal, chain, bytes } if seal.rows == self.rows => {
                    self.walked += bytes;
                    self.offset += wide(bytes);
                    return Ok(Step::Seal(seal, chain));
                }
                Found::Seal { .. } => (Stopped::Bad(Bad::Seal), 0),
                Found::More(_) if is_fresh && self.buffer.is_empty() => (Stopped::End, 0),
                Found::More(wanted) => (Stopped::Short, wanted),
                Found::End => (Stopped::End, 0),
                Found::Bad(bad) => (Stopped::Bad(bad), 0),
            };
            if is_fresh {
                self.buffer.clear();
                self.walked = 0;
                return Ok(Step::Stopped(stopped));
            }
            self.refill(wanted)?;
            is_fresh = true;
        };
        let (offset, sequence, start) = (self.offset, self.sequence, self.walked);
        self.walked += bytes;
        self.offset += wide(bytes);
        self.chain = chain;
        // A header may say anything.
        self.sequence = self.sequence.wrapping_add(1);
        self.rows += 1;
        self.last_at = Some(at);
        Ok(Step::Row {
            offset,
            sequence,
            at,
            body: &self.buffer[start + FRAME_BYTES..start + bytes],
        })
    }

    /// Reads on from where the walk stands, so many bytes at least if there are.
    fn refill(&mut self, wanted: usize) -> io::Result<()> {
        self.buffer.clear();
        self.walked = 0;
        self.buffer.resize(wanted.max(CHUNK_BYTES), 0);
        let count = fill(&*self.file, &mut self.buffer, self.offset)?;
        self.buffer.truncate(count);
        Ok(())
    }
}
