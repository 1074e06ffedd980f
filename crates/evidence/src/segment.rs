//! The bytes of a segment: a header, frames, a seal. `docs/evidence-format.md` is the same in words.
//!
//! Pure: bytes in, values out. Never trusts a length, and never calls a row true whose chain does not
//! fit.
//!
//! Invariant: the chain after a frame is the BLAKE3 digest of the chain before it and of all of the
//! frame's bytes but the check, and the check is how that digest begins. So one digest says of a row
//! that it is whole, that it is at its place, and that nothing before it in its stream was changed.

use std::fmt;

use shikiri_record::UnixMillis;

/// How a segment's file begins.
pub const MAGIC: [u8; 8] = *b"shikiri\n";

/// The version of this format.
pub const VERSION: u16 = 1;

/// The length of a segment's header.
pub const HEADER_BYTES: usize = 160;

/// The length of a node's name at most.
pub const NODE_BYTES_MAX: usize = 64;

/// What a frame holds beside its body: length, check, instant.
pub const FRAME_BYTES: usize = 4 + CHECK_BYTES + INSTANT_BYTES;

/// The length of a row's body at most.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The length of a seal.
pub const SEAL_BYTES: usize = 4 + CHECK_BYTES + SEAL_PAYLOAD_BYTES;

const CHECK_BYTES: usize = 8;
const INSTANT_BYTES: usize = 8;
const SEAL_PAYLOAD_BYTES: usize = 8 + 8 + 1 + 8 + 32;

/// In a frame's length: this is a seal.
const SEAL_BIT: u32 = 1 << 31;

/// What a stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// One thread's evidence rows.
    Lane,
    /// The timeline.
    Timeline,
}

impl StreamKind {
    /// The byte for it.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Lane => 1,
            Self::Timeline => 2,
        }
    }

    /// The kind of a byte.
    #[must_use]
    pub const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Lane),
            2 => Some(Self::Timeline),
            _ => None,
        }
    }
}

/// Names one run of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// A new one, by the system's randomness.
    ///
    /// # Errors
    /// The system has none to give.
    pub fn random() -> std::io::Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(std::io::Error::other)?;
        Ok(Self(id))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootId({self})")
    }
}

/// How far a stream is: the digest over all that was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chain([u8; 32]);

impl Chain {
    /// Of a stream that has not begun.
    pub const BEGINNING: Self = Self([0; 32]);

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 digits in lower case.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(bytes))
    }

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn after_header(header: &[u8]) -> Self {
        Self(*blake3::hash(header).as_bytes())
    }

    fn after_frame(&self, length: u32, payload: &[u8]) -> Self {
        // Nearly every row fits: one call over one slice, since rows are many and short.
        const SMALL: usize = 220;
        let mut all = [0; 32 + 4 + SMALL];
        let whole = 36 + payload.len();
        let digest = match all.get_mut(36..whole) {
            Some(rest) => {
                rest.copy_from_slice(payload);
                all[..32].copy_from_slice(&self.0);
                all[32..36].copy_from_slice(&length.to_le_bytes());
                blake3::hash(&all[..whole])
            }
            None => blake3::Hasher::new()
                .update(&self.0)
                .update(&length.to_le_bytes())
                .update(payload)
                .finalize(),
        };
        Self(*digest.as_bytes())
    }

    fn check(&self) -> &[u8] {
        &self.0[..CHECK_BYTES]
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the stream is of.
    pub kind: StreamKind,
    /// The node's name, at most [`NODE_BYTES_MAX`] bytes.
    pub node: String,
    /// The run of the node that wrote it.
    pub boot: BootId,
    /// Which of the node's lanes; 0 where there is one stream only.
    pub lane: u32,
    /// Its place in the stream, from 1.
    pub number: u64,
    /// The sequence number of its first row.
    pub first: u64,
    /// When it was begun.
    pub began: UnixMillis,
    /// The chain after the segment before it.
    pub before: Chain,
}

impl Header {
    /// Its bytes.
    ///
    /// # Panics
    /// The node's name is too long.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let node = self.node.as_bytes();
        let length = u8::try_from(node.len()).expect("a node's name is short");
        let mut out = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&[self.kind.byte(), length]);
        let mut name = [0; NODE_BYTES_MAX];
        name[..node.len()].copy_from_slice(node);
        put(&name);
        put(&self.boot.0);
        put(&self.lane.to_le_bytes());
        put(&self.number.to_le_bytes());
        put(&self.first.to_le_bytes());
        put(&self.began.0.to_le_bytes());
        put(&self.before.0);
        let checked = at;
        let chain = Chain::after_header(&out[..checked]);
        out[checked..].copy_from_slice(chain.check());
        out
    }

    /// The chain that the segment's first frame goes on from.
    #[must_use]
    pub fn chain(&self) -> Chain {
        let bytes = self.encode();
        Chain::after_header(&bytes[..HEADER_BYTES - CHECK_BYTES])
    }

    /// Reads a header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(HeaderFault::Short);
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(HeaderFault::NotBegun);
        }
        let mut rest = bytes.as_slice();
        if take(&mut rest)? != MAGIC {
            return Err(HeaderFault::NoSegment);
        }
        let version = u16::from_le_bytes(take(&mut rest)?);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let (checked, check) = bytes.split_at(HEADER_BYTES - CHECK_BYTES);
        if Chain::after_header(checked).check() != check {
            return Err(HeaderFault::Check);
        }
        let [kind, length] = take(&mut rest)?;
        let name: [u8; NODE_BYTES_MAX] = take(&mut rest)?;
        let name = name.get(..usize::from(length));
        Ok(Self {
            kind: StreamKind::of(kind).ok_or(HeaderFault::Kind(kind))?,
            node: name
                .and_then(|name| str::from_utf8(name).ok())
                .ok_or(HeaderFault::Node)?
                .to_owned(),
            boot: BootId(take(&mut rest)?),
            lane: u32::from_le_bytes(take(&mut rest)?),
            number: u64::from_le_bytes(take(&mut rest)?),
            first: u64::from_le_bytes(take(&mut rest)?),
            began: UnixMillis(u64::from_le_bytes(take(&mut rest)?)),
            before: Chain(take(&mut rest)?),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], HeaderFault> {
    let (taken, left) = rest.split_first_chunk().ok_or(HeaderFault::Short)?;
    *rest = left;
    Ok(*taken)
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Set aside, and not begun.
    #[error("it is set aside for rows to come and holds none yet")]
    NotBegun,
    /// The file ends within it.
    #[error("it is shorter than a segment's header")]
    Short,
    /// It begins with something else.
    #[error("it is no segment of evidence")]
    NoSegment,
    /// Of a format that we do not read.
    #[error("it has format version {0}, and this program reads version 1")]
    Version(u16),
    /// Its bytes were changed.
    #[error("its header was changed: the check does not fit")]
    Check,
    /// Of a stream of something else.
    #[error("it is of a kind {0} that this program does not know")]
    Kind(u8),
    /// The name of its node cannot be read.
    #[error("the name of its node is no text")]
    Node,
}

/// How a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// When it was sealed.
    pub at: UnixMillis,
    /// How many rows it holds.
    pub rows: u64,
    /// Whether it was left open by a node that stopped without sealing it, and sealed by the next.
    pub recovered: bool,
    /// How many bytes were cut off then, since they made no whole row.
    pub torn_bytes: u64,
    /// The chain after its last row.
    pub chain: Chain,
}

/// Adds a row's frame. Returns the chain after it.
///
/// # Panics
/// The body is longer than [`BODY_BYTES_MAX`].
pub fn put_row(out: &mut Vec<u8>, chain: &Chain, at: UnixMillis, body: &[u8]) -> Chain {
    assert!(body.len() <= BODY_BYTES_MAX, "a row's body is bounded");
    let length = u32::try_from(INSTANT_BYTES + body.len()).expect("it is bounded");
    put(out, chain, length, &[&at.0.to_le_bytes(), body])
}

/// Adds a seal. Returns the chain after it.
pub fn put_seal(out: &mut Vec<u8>, chain: &Chain, seal: &Seal) -> Chain {
    let length = SEAL_BIT | u32::try_from(SEAL_PAYLOAD_BYTES).expect("it is small");
    put(
        out,
        chain,
        length,
        &[
            &seal.at.0.to_le_bytes(),
            &seal.rows.to_le_bytes(),
            &[u8::from(seal.recovered)],
            &seal.torn_bytes.to_le_bytes(),
            &seal.chain.0,
        ],
    )
}

fn put(out: &mut Vec<u8>, chain: &Chain, length: u32, payload: &[&[u8]]) -> Chain {
    let start = out.len();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; CHECK_BYTES]);
    for part in payload {
        out.extend_from_slice(part);
    }
    let after = chain.after_frame(length, &out[start + 4 + CHECK_BYTES..]);
    out[start + 4..start + 4 + CHECK_BYTES].copy_from_slice(after.check());
    after
}

/// How many bytes a row with a body of this length takes.
#[must_use]
pub const fn row_bytes(body_bytes: usize) -> usize {
    FRAME_BYTES + body_bytes
}

/// What stands where a frame may begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A row whose chain fits.
    Row {
        /// The instant that it was written with.
        at: UnixMillis,
        /// What it says.
        body: &'a [u8],
        /// The chain after it.
        chain: Chain,
        /// The length of its frame.
        bytes: usize,
    },
    /// A seal whose chain fits: nothing is after it.
    Seal {
        /// What it says.
        seal: Seal,
        /// The chain that the next segment names.
        chain: Chain,
        /// The length of its frame.
        bytes: usize,
    },
    /// No frame has been written here.
    End,
    /// A frame of this length at least may begin here, if there are more bytes.
    More(usize),
    /// No frame that was written here.
    Bad(Bad),
}

/// Why what stands in a frame's place is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It is longer than any frame, or too short for one.
    #[error("its length can be no frame's")]
    Length,
    /// The chain does not fit: it, or something before it, was changed, or it is torn.
    #[error("its chain does not fit")]
    Chain,
    /// It is a seal that contradicts what it seals, or cannot be read.
    #[error("its seal contradicts the rows before it")]
    Seal,
}

/// Reads what stands at the beginning of some bytes of a segment, given the chain before it.
#[must_use]
pub fn read<'a>(bytes: &'a [u8], before: &Chain) -> Found<'a> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Found::More(4);
    };
    let length = u32::from_le_bytes(*length);
    if length == 0 {
        return Found::End;
    }
    let is_seal = length & SEAL_BIT != 0;
    let payload_bytes = usize::try_from(length & !SEAL_BIT).unwrap_or(usize::MAX);
    let fits = if is_seal {
        payload_bytes == SEAL_PAYLOAD_BYTES
    } else {
        (INSTANT_BYTES..=INSTANT_BYTES + BODY_BYTES_MAX).contains(&payload_bytes)
    };
    if !fits {
        return Found::Bad(Bad::Length);
    }
    let whole = 4 + CHECK_BYTES + payload_bytes;
    let Some(rest) = rest.get(..whole - 4) else {
        return Found::More(whole);
    };
    let (check, payload) = rest.split_at(CHECK_BYTES);
    let chain = before.after_frame(length, payload);
    if chain.check() != check {
        return Found::Bad(Bad::Chain);
    }
    let (at, body) = payload
        .split_first_chunk::<INSTANT_BYTES>()
        .expect("a payload holds an instant");
    let at = UnixMillis(u64::from_le_bytes(*at));
    if !is_seal {
        return Found::Row {
            at,
            body,
            chain,
            bytes: whole,
        };
    }
    match seal(at, body) {
        Some(seal) if seal.chain == *before => Found::Seal {
            seal,
            chain,
            bytes: whole,
        },
        _ => Found::Bad(Bad::Seal),
    }
}

fn seal(at: UnixMillis, body: &[u8]) -> Option<Seal> {
    let (rows, body) = body.split_first_chunk()?;
    let (recovered, body) = body.split_first()?;
    let (torn_bytes, body) = body.split_first_chunk()?;
    Some(Seal {
        at,
        rows: u64::from_le_bytes(*rows),
        recovered: *recovered != 0,
        torn_bytes: u64::from_le_bytes(*torn_bytes),
        chain: Chain(body.try_into().ok()?),
    })
}

/// Whether some bytes, the last ones of a file, look like a seal. Says nothing of what it seals.
#[must_use]
pub fn looks_sealed(last: &[u8]) -> bool {
    let length = SEAL_BIT | u32::try_from(SEAL_PAYLOAD_BYTES).expect("it is small");
    last.last_chunk::<SEAL_BYTES>()
        .is_some_and(|seal| seal.starts_with(&length.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: StreamKind::Lane,
            node: "edge-1".into(),
            boot: BootId([7; 16]),
            lane: 3,
            number: 2,
            first: 41,
            began: UnixMillis(1_800_000_000_000),
            before: Chain([9; 32]),
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_byte_of_it_may_change() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for at in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert!(Header::decode(&changed).is_err(), "byte {at}");
        }
        assert_eq!(Header::decode(&bytes[1..]), Err(HeaderFault::Short));
        assert_eq!(Header::decode(&[0; 200]), Err(HeaderFault::NotBegun));
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_at_its_place_only() {
        let (chain, at) = (header().chain(), UnixMillis(5));
        for body in [&b""[..], b"row", &[1; 1000], &[2; 5000]] {
            let mut bytes = Vec::new();
            let after = put_row(&mut bytes, &chain, at, body);
            assert_eq!(bytes.len(), row_bytes(body.len()));
            let expected = Found::Row {
                at,
                body,
                chain: after,
                bytes: bytes.len(),
            };
            assert_eq!(read(&bytes, &chain), expected);
            assert_eq!(read(&bytes, &after), Found::Bad(Bad::Chain));
            let short = read(&bytes[..bytes.len() - 1], &chain);
            assert_eq!(short, Found::More(bytes.len()));
        }
        assert_eq!(read(&[0; 4], &chain), Found::End);
        assert_eq!(read(&[7, 0, 0, 0], &chain), Found::Bad(Bad::Length));
    }

    #[test]
    fn a_seal_names_the_rows_that_it_seals() {
        let chain = header().chain();
        let sealing = |names: Chain| {
            let seal = Seal {
                at: UnixMillis(6),
                rows: 2,
                recovered: true,
                torn_bytes: 17,
                chain: names,
            };
            let mut bytes = Vec::new();
            let after = put_seal(&mut bytes, &chain, &seal);
            assert_eq!(bytes.len(), SEAL_BYTES);
            assert!(looks_sealed(&bytes));
            (seal, bytes, after)
        };
        let (seal, bytes, after) = sealing(chain);
        let expected = Found::Seal {
            seal,
            chain: after,
            bytes: SEAL_BYTES,
        };
        assert_eq!(read(&bytes, &chain), expected);
        let (_, bytes, _) = sealing(Chain([1; 32]));
        assert_eq!(read(&bytes, &chain), Found::Bad(Bad::Seal));
    }
}
