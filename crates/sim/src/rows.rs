//! Evidence, read by a reader of our own: as `docs/evidence-format.md` says, and nothing else. It shares
//! no code with what writes the rows.
//!
//! Never repairs: what does not fit is an error, but for the end of a disk that stopped in the middle
//! of a write.

use std::path::Path;

use shikiri_evidence::{Disk, MemoryDisk};

/// All that the lanes of a node say.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) begins: Vec<Begin>,
    pub(crate) ends: Vec<End>,
    /// Responses that left without rows.
    pub(crate) gaps: u64,
}

#[derive(Debug)]
pub(crate) struct Begin {
    /// The lane, and its place there.
    pub(crate) lane: String,
    pub(crate) sequence: u64,
    pub(crate) outcome: u8,
    pub(crate) status: u16,
    pub(crate) target: Tag,
    pub(crate) address: Tag,
    pub(crate) method: String,
    pub(crate) viewer: Option<Tag>,
    pub(crate) has_fill: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) lane: String,
    pub(crate) begin: u64,
    pub(crate) ended: u8,
    pub(crate) bytes: u64,
}

pub(crate) type Tag = [u8; 16];

/// The outcome of a response to a request that went to the origin as itself.
pub(crate) const PASS: u8 = 6;
/// All of the body was handed to the connection.
pub(crate) const COMPLETE: u8 = 1;

/// The key of the tags in every simulation.
pub(crate) const TAG_KEY: [u8; 32] = [7; 32];

/// The tag of some parts; the first names the meaning.
pub(crate) fn tag(parts: &[&[u8]]) -> Tag {
    let mut hasher = blake3::Hasher::new_keyed(&TAG_KEY);
    for part in parts {
        let length = u64::try_from(part.len()).expect("a length fits 64 bits");
        hasher.update(&length.to_be_bytes());
        hasher.update(part);
    }
    *hasher
        .finalize()
        .as_bytes()
        .first_chunk()
        .expect("a digest is longer")
}

/// Reads all lanes of a disk. `is_torn`: it stopped in the middle of a write, perhaps.
///
/// # Errors
/// What is not as the format says.
pub(crate) fn read(disk: &MemoryDisk, is_torn: bool) -> Result<Evidence, String> {
    let mut evidence = Evidence::default();
    for path in disk.paths() {
        let bytes =
            contents(disk, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        let lane = path.parent().map(|lane| lane.display().to_string());
        segment(&bytes, lane.unwrap_or_default(), is_torn, &mut evidence)
            .map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(evidence)
}

/// The bytes of a file.
pub(crate) fn contents(disk: &MemoryDisk, path: &Path) -> std::io::Result<Vec<u8>> {
    let file = disk.open_to_read(path)?;
    let mut bytes = vec![0; usize::try_from(file.bytes()?).expect("it is in memory")];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

const HEADER: usize = 160;
const SEAL: u32 = 1 << 31;

fn segment(bytes: &[u8], lane: String, is_torn: bool, to: &mut Evidence) -> Result<(), String> {
    let header = bytes.get(..HEADER).ok_or("it ends within its header")?;
    if header.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let mut chain = *blake3::hash(&header[..152]).as_bytes();
    if header[152..] != chain[..8] || !header.starts_with(b"shikiri\n\x01\x00\x01") {
        return if is_torn {
            Ok(())
        } else {
            Err("its header is none".to_owned())
        };
    }
    let mut rest = Rest(&bytes[HEADER..]);
    let mut sequence = u64::from_le_bytes(header[104..112].try_into().expect("eight bytes"));
    // 1 closed, 2 pass, 3 static, 4 open; 0 before anything says which.
    let mut mode = 0;
    loop {
        let length = match rest.0.len() {
            0..4 => return Ok(()),
            _ => u32::from_le_bytes(rest.array()?),
        };
        if length == 0 {
            return Ok(());
        }
        let check: [u8; 8] = rest.array()?;
        let count = usize::try_from(length & !SEAL).expect("32 bits fit");
        let payload = rest.take(count);
        let Some(payload) = payload.filter(|payload| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&chain).update(&length.to_le_bytes());
            chain = *hasher.update(payload).finalize().as_bytes();
            check == chain[..8]
        }) else {
            return if is_torn {
                Ok(())
            } else {
                Err(format!("the chain breaks at row {sequence}"))
            };
        };
        if length & SEAL != 0 {
            return Ok(());
        }
        row(payload, &lane, sequence, &mut mode, to)
            .map_err(|why| format!("row {sequence}: {why}"))?;
        sequence += 1;
    }
}

fn row(
    payload: &[u8],
    lane: &str,
    sequence: u64,
    mode: &mut u8,
    to: &mut Evidence,
) -> Result<(), String> {
    let mut rest = Rest(payload);
    let _appended = rest.number()?;
    let [kind, 1] = rest.array()? else {
        return Err("a version that the format does not know".to_owned());
    };
    match kind {
        1 => {
            let [has] = rest.array()?;
            let _began = rest.number()?;
            let [outcome] = rest.array()?;
            let status = u16::from_le_bytes(rest.array()?);
            let (target, address) = (rest.array()?, rest.array()?);
            let _reason = rest.text()?;
            let method = rest.text()?;
            let _class = rest.text()?;
            if has & 1 != 0 {
                rest.text()?;
            }
            let mut tag = |bit: u8| (has & bit != 0).then(|| rest.array::<16>()).transpose();
            let (viewer, _member, _owner) = (tag(2)?, tag(4)?, tag(8)?);
            let (fill, _grant) = (tag(16)?, tag(32)?);
            if has & 64 != 0 {
                let [_, _, held] = rest.array()?;
                rest.take(16 * usize::from(held)).ok_or("it ends early")?;
            }
            if !rest.0.is_empty() {
                return Err("it goes on".to_owned());
            }
            if *mode == 0 {
                return Err("nothing says under which stance it is".to_owned());
            }
            to.begins.push(Begin {
                lane: lane.to_owned(),
                sequence,
                outcome,
                status,
                target,
                address,
                method,
                viewer,
                has_fill: fill.is_some(),
            });
        }
        2 => to.ends.push(End {
            lane: lane.to_owned(),
            begin: rest.number()?,
            ended: rest.array::<1>()?[0],
            bytes: rest.number()?,
        }),
        3 => {}
        4 => {
            rest.array::<16>()?;
            to.gaps += rest.number()?;
        }
        5 => [*mode] = rest.array()?,
        _ => return Err(format!("the format knows no kind {kind}")),
    }
    Ok(())
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N).ok_or("it ends early")?;
        Ok(taken.try_into().expect("so many were taken"))
    }

    fn number(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, String> {
        let [length] = self.array()?;
        let text = self.take(usize::from(length)).ok_or("it ends early")?;
        String::from_utf8(text.to_vec()).map_err(|_| "a text that is none".to_owned())
    }
}
