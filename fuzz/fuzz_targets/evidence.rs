//! A lane's files made of sound frames and of anything: no row is read that was not written, in its
//! order; a run that takes them over goes on behind what is sound. And any bytes as one row.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use shikiri_evidence::segment::{Header, Seal, put_row, put_seal};
use shikiri_evidence::{
    BootId, Chain, Cut, Disk, Identity, Item, MemoryDisk, Reader, Stream, StreamKind,
};
use shikiri_record::{Row, UnixMillis};

const FOLDER: &str = "/lane";

fuzz_target!(|bytes: &[u8]| {
    one_row(bytes);
    let made = Made::of(bytes);
    let disk = MemoryDisk::new(1 << 24);
    disk.make_folder(Path::new(FOLDER)).unwrap();
    for (name, content) in &made.files {
        let path = PathBuf::from(FOLDER).join(name);
        disk.create(&path, 0).unwrap();
        disk.tamper(&path, |file| file.clone_from(content));
    }
    let read = rows(&disk);
    let mut put = made.rows.iter();
    for row in &read {
        assert!(put.any(|p| p == row), "a row that was not written there");
    }
    go_on(&disk);
});

/// What one row's bytes say is what its bytes are.
fn one_row(bytes: &[u8]) {
    if let Ok(row) = Row::decode(bytes) {
        let mut again = Vec::new();
        row.encode(&mut again);
        assert_eq!(again, bytes, "one row has one form");
    }
}

/// A run takes the lane over, appends, and what it appends is read.
fn go_on(disk: &MemoryDisk) {
    let identity = Identity {
        kind: StreamKind::Lane,
        node: "fuzz".into(),
        boot: BootId([2; 16]),
        lane: 0,
    };
    let cut = Cut {
        segment_bytes: 64 << 10,
        age_max: Duration::from_secs(1),
    };
    let now = UnixMillis(9);
    let arc: Arc<dyn Disk> = Arc::new(disk.clone());
    let Ok((stream, _)) = Stream::open(arc, Path::new(FOLDER), identity, cut, now) else {
        return;
    };
    let Ok(sequence) = stream.append(now, b"goes on") else {
        return;
    };
    stream.seal(now).unwrap();
    let last = rows(disk).pop();
    assert_eq!(last, Some((sequence, b"goes on".to_vec())));
}

/// All rows of the lane.
fn rows(disk: &MemoryDisk) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::open(Arc::new(disk.clone()), Path::new(FOLDER)).unwrap();
    let mut rows = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Row(row) => rows.push((row.sequence, row.body)),
            Item::Fault(fault) => drop(fault.to_string()),
            Item::Segment(..) => {}
        }
    }
    reader.tail().unwrap();
    rows
}

/// Files, and the sound rows in them.
struct Made {
    files: Vec<(String, Vec<u8>)>,
    rows: Vec<(u64, Vec<u8>)>,
}

impl Made {
    /// Each first byte says what comes: a row, a seal, anything, another segment.
    fn of(mut bytes: &[u8]) -> Self {
        let mut made = Self {
            files: Vec::new(),
            rows: Vec::new(),
        };
        let mut next = |count: usize| {
            let (taken, rest) = bytes.split_at(count.min(bytes.len()));
            bytes = rest;
            taken
        };
        let (mut chain, mut sequence, mut here) = (Chain::BEGINNING, 0_u64, 0_u64);
        let mut number = 0_u64;
        loop {
            let &[what, much] = next(2) else {
                return made;
            };
            if what % 4 == 3 || made.files.is_empty() {
                // With a jump now and then, also to where numbers end.
                number = match much {
                    255 => u64::MAX,
                    _ => number.saturating_add(1 + u64::from(much / 128)),
                };
                if much % 16 == 15 {
                    sequence = u64::MAX - u64::from(much);
                }
                let header = Header {
                    kind: StreamKind::Lane,
                    node: "fuzz".into(),
                    boot: BootId([1; 16]),
                    lane: 0,
                    number,
                    first: sequence,
                    began: UnixMillis(1),
                    before: chain,
                };
                chain = header.chain();
                here = 0;
                let name = format!("{number:010}.segment");
                if made.files.iter().any(|(known, _)| *known == name) {
                    return made;
                }
                made.files.push((name, header.encode().to_vec()));
                continue;
            }
            let (_, file) = made.files.last_mut().expect("one has begun");
            match what % 4 {
                0 => {
                    let body = next(usize::from(much)).to_vec();
                    chain = put_row(file, &chain, UnixMillis(u64::from(much)), &body);
                    made.rows.push((sequence, body));
                    sequence = sequence.wrapping_add(1);
                    here += 1;
                }
                1 => {
                    let seal = Seal {
                        at: UnixMillis(2),
                        rows: here + u64::from(much / 64),
                        recovered: false,
                        torn_bytes: 0,
                        chain,
                    };
                    chain = put_seal(file, &chain, &seal);
                }
                _ => file.extend_from_slice(next(usize::from(much))),
            }
        }
    }
}
