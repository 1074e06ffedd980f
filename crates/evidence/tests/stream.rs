//! Streams on a disk in memory: what is written is read, what is changed is found, and what is torn
//! is lost alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use shikiri_evidence::segment::SEAL_BYTES;
use shikiri_evidence::{
    BootId, Cut, Disk, Fault, Identity, Item, MemoryDisk, Mended, Reader, Stream, StreamKind, Tail,
    Trouble, row_bytes,
};
use shikiri_record::UnixMillis;

const FOLDER: &str = "/evidence/lane-0";
const SEGMENT_BYTES: u64 = 64 << 10;
const AGE_MAX: Duration = Duration::from_secs(3600);

fn at(ms: u64) -> UnixMillis {
    UnixMillis(1_800_000_000_000 + ms)
}

fn open(disk: &MemoryDisk) -> (Arc<Stream>, Vec<Mended>) {
    let identity = Identity {
        kind: StreamKind::Lane,
        node: "edge-1".into(),
        boot: BootId([1; 16]),
        lane: 0,
    };
    let cut = Cut {
        segment_bytes: SEGMENT_BYTES,
        age_max: AGE_MAX,
    };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Stream::open(disk, Path::new(FOLDER), identity, cut, at(0)).unwrap()
}

fn roomy() -> MemoryDisk {
    MemoryDisk::new(1 << 30)
}

/// A row that tells its number, so long.
fn body(n: u64, bytes: usize) -> Vec<u8> {
    let mut body = n.to_le_bytes().to_vec();
    body.resize(bytes.max(9), u8::try_from(n % 251).unwrap() + 1);
    body
}

/// All that a stream holds.
#[derive(Debug)]
struct Held {
    rows: Vec<(u64, Vec<u8>)>,
    /// Which file each row is in, and where.
    places: Vec<(PathBuf, u64)>,
    faults: Vec<Fault>,
    tail: Option<Tail>,
}

impl Held {
    /// Whether it is a stream that was sealed and not touched since.
    fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.tail.is_none()
    }
}

fn held(disk: &MemoryDisk) -> Held {
    let mut reader = Reader::open(Arc::new(disk.clone()), Path::new(FOLDER)).unwrap();
    read(&mut reader)
}

fn read(reader: &mut Reader) -> Held {
    let mut held = Held {
        rows: Vec::new(),
        places: Vec::new(),
        faults: Vec::new(),
        tail: None,
    };
    let mut path = PathBuf::new();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Segment(begins, _) => path = begins,
            Item::Row(row) => {
                held.places.push((path.clone(), row.offset));
                held.rows.push((row.sequence, row.body));
            }
            Item::Fault(fault) => held.faults.push(fault),
        }
    }
    held.tail = reader.tail().unwrap();
    held
}

/// Writes so many rows of these lengths, in several segments.
fn written(disk: &MemoryDisk, lengths: &[usize]) -> (Arc<Stream>, Vec<(u64, Vec<u8>)>) {
    let (stream, _) = open(disk);
    let mut rows = Vec::new();
    for (n, length) in (0..).zip(lengths) {
        let body = body(n, *length);
        let sequence = stream.append(at(n), &body).unwrap();
        rows.push((sequence, body));
        if n % 3 == 0 {
            stream.flush().unwrap();
            assert!(stream.maintain(at(n)).is_empty());
        }
    }
    stream.flush().unwrap();
    (stream, rows)
}

#[test]
fn rows_are_read_as_they_were_written_over_segments_and_runs() {
    let disk = roomy();
    let mut all = Vec::new();
    for run in 0..3 {
        let (stream, mended) = open(&disk);
        assert!(mended.is_empty(), "{mended:?}");
        for n in 0..60 {
            let body = body(run * 60 + n, 4000);
            all.push((stream.append(at(n), &body).unwrap(), body));
            stream.flush().unwrap();
            assert!(stream.maintain(at(n)).is_empty());
        }
        stream.seal(at(60)).unwrap();
        assert!(stream.append(at(61), b"late").is_err());
    }
    let held = held(&disk);
    assert!(held.is_sound(), "{held:?}");
    assert_eq!(held.rows, all);
    assert!(held.rows.iter().map(|(n, _)| *n).eq(0..180));
    assert!(disk.paths().len() >= 9, "{:?}", disk.paths());
}

#[test]
fn a_reservation_is_kept_though_the_disk_is_full() {
    let disk = MemoryDisk::new(2 * SEGMENT_BYTES);
    let (stream, _) = open(&disk);
    let bytes = row_bytes(3000);
    let mut reserved = Vec::new();
    while let Ok(reservation) = stream.reserve(2 * bytes) {
        reserved.push(reservation);
    }
    assert!(reserved.len() > 15, "{}", reserved.len());
    for reservation in &mut reserved {
        reservation.append(at(1), &body(1, 3000));
    }
    stream.flush().unwrap();
    for reservation in &mut reserved {
        reservation.append(at(2), &body(2, 3000));
    }
    stream.flush().unwrap();
    let troubles = stream.maintain(at(2));
    assert!(
        matches!(troubles[..], [Trouble::SetAside(..)]),
        "{troubles:?}"
    );
    assert_eq!(held(&disk).rows.len(), 2 * reserved.len());
    assert!(held(&disk).faults.is_empty());
    // Space comes back, and is used.
    drop(reserved);
    assert!(stream.reserve(8 * bytes).is_err());
    disk.resize(1 << 30);
    assert!(stream.maintain(at(3)).is_empty());
    assert!(stream.reserve(8 * bytes).is_ok());
}

#[test]
fn a_disk_without_any_space_gives_a_stream_without_room_until_there_is_some() {
    let disk = MemoryDisk::new(0);
    let (stream, _) = open(&disk);
    assert!(stream.reserve(1).is_err());
    assert!(!stream.maintain(at(0)).is_empty());
    disk.resize(1 << 30);
    assert!(stream.maintain(at(1)).is_empty());
    stream.append(at(1), b"row").unwrap();
    stream.seal(at(2)).unwrap();
    assert!(held(&disk).is_sound());
}

#[test]
fn what_could_not_be_written_is_written_first_later() {
    let disk = roomy();
    let (stream, _) = open(&disk);
    stream.append(at(0), b"first").unwrap();
    stream.flush().unwrap();
    let mut reservation = stream.reserve(1000).unwrap();
    disk.fail_writes_after(Some(11));
    stream.append(at(1), b"second").unwrap();
    assert!(stream.flush().is_err());
    assert!(stream.reserve(1).is_err(), "no evidence, no bytes");
    reservation.append(at(2), b"third");
    assert_eq!(stream.written(), 1);
    assert_eq!(held(&disk).rows.len(), 1, "a torn row is no row");
    disk.fail_writes_after(None);
    drop(stream.reserve(1).unwrap());
    assert_eq!(stream.written(), 3);
    let rows = held(&disk).rows;
    let bodies: Vec<&[u8]> = rows.iter().map(|(_, body)| &body[..]).collect();
    assert_eq!(bodies, [&b"first"[..], b"second", b"third"]);
}

#[test]
fn a_durable_append_that_fails_leaves_nothing() {
    let disk = roomy();
    let (stream, _) = open(&disk);
    assert_eq!(stream.append_durably(at(0), b"first").unwrap(), 0);
    let long = body(7, 500);
    disk.fail_syncs(true);
    assert!(stream.append_durably(at(1), &long).is_err());
    disk.fail_syncs(false);
    disk.fail_writes_after(Some(40));
    assert!(stream.append_durably(at(2), &long).is_err());
    disk.fail_writes_after(None);
    // Shorter than what was taken back.
    assert_eq!(stream.append_durably(at(3), b"second").unwrap(), 1);
    let big = body(1, 60 << 10);
    assert_eq!(stream.append_durably(at(4), &big).unwrap(), 2);
    assert!(stream.append_durably(at(4), &body(1, 64 << 10)).is_err());
    stream.seal(at(5)).unwrap();
    let held = held(&disk);
    assert!(held.is_sound(), "{held:?}");
    let expected = [(0, b"first".to_vec()), (1, b"second".to_vec()), (2, big)];
    assert_eq!(held.rows, expected);
}

#[test]
fn an_old_segment_is_sealed_and_the_oldest_can_be_removed() {
    let disk = roomy();
    let (stream, _) = open(&disk);
    for hour in 0..5 {
        let now = at(hour * 3_600_000);
        assert!(stream.maintain(now).is_empty());
        stream.append(now, b"row").unwrap();
    }
    stream.flush().unwrap();
    assert!(stream.maintain(at(5 * 3_600_000)).is_empty());
    assert_eq!(stream.sealed(), 5);
    let removed = stream.remove_oldest(at(5 * 3_600_000)).unwrap().unwrap();
    assert_eq!((removed.number, removed.first, removed.rows), (1, 0, 1));
    stream.seal(at(6 * 3_600_000)).unwrap();
    let all = held(&disk);
    assert!(all.is_sound(), "what is removed from the front is no fault");
    assert!(all.rows.iter().map(|(n, _)| *n).eq(1..5));
    // One that is missing in between is.
    disk.remove(&all.places[1].0).unwrap();
    let all = held(&disk);
    assert!(
        matches!(
            &all.faults[..],
            [Fault::Missing {
                segments: (3, 3),
                rows: (2, 2),
                ..
            }]
        ),
        "{all:?}"
    );
}

#[test]
fn each_segment_begins_with_the_lead() {
    let disk = roomy();
    let (stream, _) = open(&disk);
    let mut reservation = stream.reserve(1000).unwrap();
    for n in 0..100 {
        if n % 40 == 0 {
            reservation.lead(at(n), format!("lead {n}").as_bytes());
        }
        stream.append(at(n), &body(n, 3000)).unwrap();
        stream.flush().unwrap();
        assert!(stream.maintain(at(n)).is_empty());
    }
    drop(reservation);
    stream.seal(at(100)).unwrap();
    let held = held(&disk);
    assert!(held.is_sound());
    let mut lead = String::new();
    let mut path = PathBuf::new();
    let mut again = 0;
    for ((within, _), (_, row)) in held.places.iter().zip(&held.rows) {
        let is_lead = row.starts_with(b"lead ");
        if *within != path {
            assert!(is_lead, "{within:?}");
            again += usize::from(row == lead.as_bytes());
            path.clone_from(within);
        }
        if is_lead {
            lead = String::from_utf8(row.clone()).unwrap();
        } else {
            let n = u64::from_le_bytes(*row.first_chunk().unwrap());
            assert_eq!(lead, format!("lead {}", n / 40 * 40));
        }
    }
    assert!(again >= 3, "{again}");
}

#[test]
fn a_live_stream_is_followed() {
    let disk = roomy();
    let (stream, _) = open(&disk);
    let mut reader = Reader::open(Arc::new(disk), Path::new(FOLDER)).unwrap();
    let mut seen = 0;
    for n in 0..200 {
        stream.append(at(n), &body(n, 2000)).unwrap();
        if n % 7 == 0 {
            stream.flush().unwrap();
            let held = read(&mut reader);
            assert!(held.faults.is_empty(), "{held:?}");
            seen += held.rows.len();
            assert_eq!(seen, usize::try_from(n + 1).unwrap());
            assert!(stream.maintain(at(n)).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_changed_is_found_and_no_row_is_read_that_was_not_written(
        lengths in prop::collection::vec(9_usize..7000, 20..60),
        file in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        what in 0..5_u8,
        bit in 0..8_u8,
    ) {
        let disk = roomy();
        let (stream, rows) = written(&disk, &lengths);
        stream.seal(at(1000)).unwrap();
        let sound = held(&disk);
        prop_assert!(sound.is_sound());
        prop_assert_eq!(&sound.rows, &rows);
        // Of one file, which holds two rows at least.
        let offsets = |path: &PathBuf| -> Vec<usize> {
            let within = sound.places.iter().filter(|(within, _)| within == path);
            within.map(|(_, offset)| usize::try_from(*offset).unwrap()).collect()
        };
        let mut paths = disk.paths();
        paths.retain(|path| offsets(path).len() > 1);
        let path = &paths[file.index(paths.len())];
        let places = offsets(path);
        disk.tamper(path, |bytes| {
            let row = place.index(places.len() - 1);
            let (first, second) = (places[row], places[row + 1]);
            let third = places.get(row + 2).copied().unwrap_or(bytes.len() - SEAL_BYTES);
            let any = place.index(bytes.len());
            match what {
                0 => bytes.truncate(any),
                1 => bytes[any] ^= 1 << bit,
                2 => bytes[first..third].rotate_left(second - first),
                3 => drop(bytes.drain(first..second)),
                _ => {
                    let twice = bytes[first..second].to_vec();
                    bytes.splice(second..second, twice);
                }
            }
        });
        let after = held(&disk);
        prop_assert!(!after.is_sound(), "{what} in {path:?} was not found");
        for row in &after.rows {
            prop_assert!(rows.contains(row));
        }
    }

    #[test]
    fn a_torn_tail_is_lost_alone_and_the_stream_goes_on(
        lengths in prop::collection::vec(9_usize..7000, 1..40),
        cut in any::<prop::sample::Index>(),
        how in 0..3_u8,
    ) {
        let disk = roomy();
        let (_stream, rows) = written(&disk, &lengths);
        let places = held(&disk).places;
        let left = disk.copied();
        // What a node that is killed in the middle of a write leaves: the last row is whole, a part of
        // it, or nothing; a loss of power may leave it shorter, or zeros in its place.
        let (path, last) = places.last().unwrap();
        let from = usize::try_from(*last).unwrap();
        let end = from + row_bytes(rows.last().unwrap().1.len());
        let cut = from + cut.index(end - from);
        left.tamper(path, |bytes| match how {
            0 => bytes.truncate(cut),
            1 => bytes[cut..].fill(0),
            // Pages may be written in another order.
            _ => bytes[from..cut.max(from + 1)].fill(0),
        });
        let (stream, mended) = open(&left);
        let (lost, recovered) = match &mended[..] {
            [Mended::Recovered { rows: in_file, torn_bytes, .. }] => (*torn_bytes, *in_file),
            other => panic!("{other:?}"),
        };
        let in_file = places.iter().filter(|(within, _)| within == path).count();
        prop_assert_eq!(recovered, u64::try_from(in_file - 1).unwrap());
        let torn = if how == 2 { end } else { cut } - from;
        prop_assert!(lost <= u64::try_from(torn).unwrap());
        let next = stream.append(at(2000), b"goes on").unwrap();
        stream.seal(at(2001)).unwrap();
        let mut expected = rows[..rows.len() - 1].to_vec();
        expected.push((next, b"goes on".to_vec()));
        let after = held(&left);
        prop_assert!(after.is_sound(), "{after:?}");
        prop_assert_eq!(after.rows, expected);
        // Another run finds nothing to mend.
        drop(stream);
        prop_assert!(open(&left).1.is_empty());
    }
}
