//! Begin rows whose end rows have not come, in a file between two batches.
//!
//! Pure: bytes in, values out. A file that is damaged is refused whole.

use shikiri_evidence::BootId;
use shikiri_record::{Row, UnixMillis};

use crate::join::Waiting;
use crate::rows::Place;

/// How the file begins: its name and version.
const MAGIC: &[u8; 16] = b"shikiri waiting\x01";

/// The bytes of a file.
pub(crate) fn encode(all: &[Waiting]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for one in all {
        bytes.extend_from_slice(&one.place.boot.0);
        bytes.extend_from_slice(&one.place.lane.to_le_bytes());
        bytes.extend_from_slice(&one.place.sequence.to_le_bytes());
        bytes.extend_from_slice(&one.place.written.0.to_le_bytes());
        let mut stance = Vec::new();
        if let Some(row) = one.stance {
            Row::Stance(row).encode(&mut stance);
        }
        for part in [&stance, &one.body] {
            let length = u32::try_from(part.len()).expect("a row is bounded");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// What a file says; `None` where it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Waiting>> {
    let (said, digest) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(said).as_bytes() != digest {
        return None;
    }
    let mut rest = said.strip_prefix(MAGIC)?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let place = Place {
            boot: BootId(take(&mut rest)?),
            lane: u32::from_le_bytes(take(&mut rest)?),
            sequence: u64::from_le_bytes(take(&mut rest)?),
            written: UnixMillis(u64::from_le_bytes(take(&mut rest)?)),
        };
        let stance = part(&mut rest)?;
        let stance = match (stance.is_empty(), Row::decode(stance)) {
            (true, _) => None,
            (false, Ok(Row::Stance(stance))) => Some(stance),
            _ => return None,
        };
        let body = part(&mut rest)?.to_vec();
        all.push(Waiting {
            place,
            stance,
            body,
        });
    }
    Some(all)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    let (part, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(part)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use shikiri_record::{Digest, Epoch, Mode, RulesDigest, StanceRow};

    use super::*;

    #[test]
    fn what_waits_is_read_as_it_was_written_and_a_damaged_file_is_refused() {
        let one = |sequence, stance| Waiting {
            place: Place {
                boot: BootId([3; 16]),
                lane: 2,
                sequence,
                written: UnixMillis(9),
            },
            stance,
            body: vec![7; usize::try_from(sequence).unwrap()],
        };
        let stance = StanceRow {
            mode: Mode::Pass,
            rules: RulesDigest(Digest::of(b"r")),
            epoch: Epoch(4),
            tag_key: 5,
        };
        for all in [
            vec![],
            vec![one(0, None)],
            vec![one(5, Some(stance)), one(90, None)],
        ] {
            let bytes = encode(&all);
            assert_eq!(decode(&bytes), Some(all));
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert_eq!(decode(&changed), None, "{at}");
                assert_eq!(decode(&bytes[..at]), None, "{at}");
            }
        }
    }
}
