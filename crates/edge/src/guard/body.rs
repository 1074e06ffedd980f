//! Chunked bodies, followed byte by byte (RFC 9112 7.1).
//!
//! For: knowing exactly where a chunked body ends, and that nobody can read it to end elsewhere.
//!
//! Never: skips what it does not understand. An extension is read by its grammar, since a reader
//! that ends the line at a bare LF inside one sees other chunks than a reader that does not.
//!
//! Invariant: the state before a faulty byte is kept, so that the fault is found again, and nothing
//! after it is ever passed.

use shikiri_partition::Refused;

use super::Bounds;
use super::head::{CLASSES, TOKEN};

/// Hex digits of a chunk's size.
const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of the extensions of one chunk, and of all chunks of a body. Extensions mean nothing to
/// anyone here; without a bound they are a way to send without end.
const CHUNK_EXTENSION_BYTES_MAX: u32 = 256;
const BODY_EXTENSION_BYTES_MAX: u32 = 4096;

/// A chunked body that is being read, up to the line of the last chunk.
#[derive(Debug)]
pub(super) struct ChunkScan {
    part: Part,
    size: u64,
    body_bytes: u64,
    chunk_extension_bytes: u32,
    body_extension_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Size { digits: u8 },
    ExtensionNameStart,
    ExtensionName,
    ExtensionValueStart,
    ExtensionValue,
    Quoted,
    QuotedPair,
    QuotedEnd,
    SizeLf,
    Data { left: u64 },
    DataCr,
    DataLf,
    Last,
}

/// What a run of bytes of a chunked body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// So many bytes are sound, and the body goes on.
    Within(usize),
    /// So many bytes are sound, and after them the trailer section begins.
    Last(usize),
}

impl ChunkScan {
    pub(super) const fn new() -> Self {
        Self {
            part: Part::Size { digits: 0 },
            size: 0,
            body_bytes: 0,
            chunk_extension_bytes: 0,
            body_extension_bytes: 0,
        }
    }

    /// Reads on from where it stopped. A fault is returned only when it is in the first of `bytes`;
    /// else what is before it is returned, and the fault the next time.
    pub(super) fn scan(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<Chunks, Refused> {
        let mut at = 0;
        while at < bytes.len() {
            if let Part::Data { left } = self.part {
                let taken = left.min((bytes.len() - at) as u64);
                at += usize::try_from(taken).expect("no more than a slice has");
                self.part = if left == taken {
                    Part::DataCr
                } else {
                    Part::Data { left: left - taken }
                };
                continue;
            }
            match self.after(bytes[at], bounds) {
                Ok(next) => self.part = next,
                Err(_) if at > 0 => return Ok(Chunks::Within(at)),
                Err(why) => return Err(why),
            }
            at += 1;
            if matches!(self.part, Part::Last) {
                return Ok(Chunks::Last(at));
            }
        }
        Ok(Chunks::Within(at))
    }

    /// The part after a byte that is not data. Counters change only when the byte is sound.
    fn after(&mut self, byte: u8, bounds: &Bounds) -> Result<Part, Refused> {
        let is_token = CLASSES[byte as usize] & TOKEN != 0;
        let next = match (self.part, byte) {
            (Part::Size { digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                self.size = (self.size << 4) | u64::from(hex_value(byte));
                Part::Size { digits: digits + 1 }
            }
            (Part::Size { digits: 1.. }, b'\r') => return self.sized(bounds),
            (Part::Size { digits: 1.. }, b';') => Part::ExtensionNameStart,
            (Part::ExtensionNameStart | Part::ExtensionName, _) if is_token => Part::ExtensionName,
            (Part::ExtensionName, b'=') => Part::ExtensionValueStart,
            (Part::ExtensionValueStart | Part::ExtensionValue, _) if is_token => {
                Part::ExtensionValue
            }
            (Part::ExtensionValueStart, b'"') => Part::Quoted,
            (Part::Quoted, b'"') => Part::QuotedEnd,
            (Part::Quoted, b'\\') => Part::QuotedPair,
            (Part::Quoted | Part::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => Part::Quoted,
            (Part::ExtensionName | Part::ExtensionValue | Part::QuotedEnd, b';') => {
                Part::ExtensionNameStart
            }
            (Part::ExtensionName | Part::ExtensionValue | Part::QuotedEnd, b'\r') => {
                return self.sized(bounds);
            }
            (Part::SizeLf, b'\n') if self.size == 0 => return Ok(Part::Last),
            (Part::SizeLf, b'\n') => {
                let left = std::mem::take(&mut self.size);
                self.chunk_extension_bytes = 0;
                return Ok(Part::Data { left });
            }
            (Part::DataCr, b'\r') => return Ok(Part::DataLf),
            (Part::DataLf, b'\n') => return Ok(Part::Size { digits: 0 }),
            _ => return Err(Refused::MalformedChunk),
        };
        if !matches!(next, Part::Size { .. }) {
            if self.chunk_extension_bytes == CHUNK_EXTENSION_BYTES_MAX
                || self.body_extension_bytes == BODY_EXTENSION_BYTES_MAX
            {
                return Err(Refused::MalformedChunk);
            }
            self.chunk_extension_bytes += 1;
            self.body_extension_bytes += 1;
        }
        Ok(next)
    }

    /// The size of a chunk is known: its data count before they are passed.
    fn sized(&mut self, bounds: &Bounds) -> Result<Part, Refused> {
        let body_bytes = self
            .body_bytes
            .checked_add(self.size)
            .ok_or(Refused::MalformedChunk)?;
        if body_bytes > bounds.request_body_bytes_max {
            return Err(Refused::BodyTooLarge);
        }
        self.body_bytes = body_bytes;
        Ok(Part::SizeLf)
    }
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
