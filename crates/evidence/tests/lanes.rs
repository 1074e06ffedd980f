//! The lanes of a node, on a disk in memory: over runs, and what is kept.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shikiri_evidence::{
    ARCHIVED, ArchivedTo, BootId, Cut, Disk, Event, Item, Keep, Lanes, MemoryDisk, Mended, Reader,
    Run, Stream, Trouble,
};
use shikiri_record::UnixMillis;

const SEGMENT_BYTES: u64 = 64 << 10;

fn at(seconds: u64) -> UnixMillis {
    UnixMillis(1_800_000_000_000 + seconds * 1000)
}

fn open(disk: &MemoryDisk, keep: Keep) -> (Arc<Lanes>, Vec<Mended>) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let cut = Cut {
        segment_bytes: SEGMENT_BYTES,
        age_max: Duration::from_secs(3600),
    };
    let boot = BootId([1; 16]);
    let run = Run::unsigned("edge-1", boot);
    Lanes::open(disk, Path::new("/evidence"), &run, cut, keep, at(0)).unwrap()
}

fn keep(bytes_max: u64, age_max: Option<u64>) -> Keep {
    Keep {
        bytes_max,
        age_max: age_max.map(Duration::from_secs),
        free_bytes_min: SEGMENT_BYTES,
    }
}

/// Fills and seals a segment.
fn fill(lanes: &Lanes, stream: &Arc<Stream>, now: u64) -> Vec<Event> {
    let before = stream.sealed();
    let mut events = Vec::new();
    // One that is removed at once makes them as many as before.
    while stream.sealed() == before && events.is_empty() {
        stream.append(at(now), &[1; 4000]).unwrap();
        stream.flush().unwrap();
        events.extend(lanes.maintain(at(now)));
    }
    events
}

#[test]
fn lanes_go_on_over_runs_whatever_their_number() {
    let disk = MemoryDisk::new(1 << 30);
    for (run, lanes_in_run) in [(1, 3), (2, 1), (3, 2)] {
        let (lanes, mended) = open(&disk, keep(1 << 30, None));
        // The first run is killed; the others stop in order.
        assert_eq!(mended.len(), if run == 2 { 3 } else { 0 });
        for _ in 0..lanes_in_run {
            let stream = lanes.take(at(run)).unwrap();
            stream.append(at(run), b"row").unwrap();
            stream.flush().unwrap();
        }
        assert!(lanes.maintain(at(run)).is_empty());
        assert!(lanes.sync().is_empty());
        if run > 1 {
            assert!(lanes.seal(at(run)).is_empty());
        }
    }
    let disk: Arc<dyn Disk> = Arc::new(disk);
    for (lane, rows) in [(0, 3), (1, 2), (2, 1)] {
        let folder = format!("/evidence/lane-{lane}");
        let mut reader = Reader::open(Arc::clone(&disk), Path::new(&folder)).unwrap();
        let mut read = 0;
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Row(row) => {
                    assert_eq!(row.sequence, read);
                    read += 1;
                }
                Item::Segment(_, header) => assert_eq!(header.lane, lane),
                Item::Fault(fault) => panic!("{fault}"),
            }
        }
        assert_eq!(read, rows, "lane {lane}");
    }
}

#[test]
fn a_run_that_ends_and_the_next_have_lanes_of_their_own() {
    let disk = MemoryDisk::new(1 << 30);
    let (ending, _) = open(&disk, keep(1 << 30, None));
    let first = ending.take(at(0)).unwrap();
    let (next, mended) = open(&disk, keep(1 << 30, None));
    assert!(mended.is_empty(), "what is written is not mended");
    let second = next.take(at(1)).unwrap();
    assert_eq!((first.identity().lane, second.identity().lane), (0, 1));
    assert!(ending.seal(at(2)).is_empty());
    drop((ending, first));
    assert_eq!(next.take(at(3)).unwrap().identity().lane, 0);
}

#[test]
fn the_oldest_of_all_lanes_goes_first_when_there_is_too_much_or_it_is_old() {
    let disk = MemoryDisk::new(1 << 30);
    // What is set aside for two lanes, and a little more than two sealed segments.
    let (lanes, _) = open(&disk, keep(6 * SEGMENT_BYTES + 1000, Some(100)));
    let (first, second) = (lanes.take(at(0)).unwrap(), lanes.take(at(0)).unwrap());
    let removed = |events: &[Event]| -> Vec<UnixMillis> {
        let of = |event: &Event| match event {
            Event::Removed(sealed) => sealed.ended,
            other => panic!("{other:?}"),
        };
        events.iter().map(of).collect()
    };
    assert_eq!(removed(&fill(&lanes, &first, 1)), []);
    assert_eq!(removed(&fill(&lanes, &second, 2)), []);
    assert_eq!(removed(&fill(&lanes, &first, 3)), [at(1)]);
    assert_eq!(removed(&fill(&lanes, &first, 4)), [at(2)]);
    assert!(lanes.bytes() <= 6 * SEGMENT_BYTES + 1000);
    assert_eq!(removed(&lanes.maintain(at(102))), []);
    assert_eq!(removed(&lanes.maintain(at(104))), [at(3), at(4)]);
    assert!(lanes.maintain(at(1000)).is_empty(), "what is open stays");
}

#[test]
fn little_free_space_is_told_once_and_removes_nothing() {
    let disk = MemoryDisk::new(4 * SEGMENT_BYTES);
    let (lanes, _) = open(&disk, keep(1 << 30, None));
    let stream = lanes.take(at(0)).unwrap();
    assert!(lanes.maintain(at(0)).is_empty());
    let events = fill(&lanes, &stream, 1);
    assert!(events.is_empty(), "{events:?}");
    let events = fill(&lanes, &stream, 2);
    assert!(matches!(events[..], [Event::FreeLow { free_bytes }] if free_bytes < SEGMENT_BYTES));
    while stream.append(at(3), &[1; 4000]).is_ok() {
        stream.flush().unwrap();
    }
    let events = lanes.maintain(at(3));
    assert!(
        matches!(events[..], [Event::Trouble(Trouble::SetAside(..))]),
        "{events:?}"
    );
    disk.resize(1 << 30);
    assert!(matches!(
        lanes.maintain(at(4))[..],
        [Event::FreeAgain { .. }]
    ));
    stream.append(at(5), b"row").unwrap();
}

/// Who archives a lane says how far; the node removes that, when it may, and nothing after it.
#[test]
fn what_is_archived_goes_when_it_may_but_for_the_last_of_a_lane() {
    let disk = MemoryDisk::new(1 << 30);
    let (lanes, _) = open(&disk, keep(1 << 30, None));
    let stream = lanes.take(at(0)).unwrap();
    for now in 1..=4 {
        assert!(fill(&lanes, &stream, now).is_empty());
    }
    let stays = |may_go| ArchivedTo {
        segment: 9,
        may_go,
        holds: false,
    };
    for (said, left) in [
        (stays(0).line(), 4),
        ("archived 3 0000000003 0000000003 free\n".to_owned(), 4),
        ("archived 1 0000000003 go".to_owned(), 4),
        ("archived 1 0000000003 go on\n".to_owned(), 4),
        ("archived 1 0000000003 stay\n".to_owned(), 4),
        ("archived 1 0000000001 go\n".to_owned(), 3),
        (stays(2).line(), 2),
        (stays(9).line(), 1),
    ] {
        told(&disk, &stream, &said);
        let before = stream.sealed();
        let events = lanes.maintain(at(10));
        let removed = events.iter().filter(|it| matches!(it, Event::Removed(_)));
        assert_eq!(removed.count(), before - left, "{said}");
        assert_eq!(stream.sealed(), left, "{said}");
    }
}

/// What whoever archives a lane has written beside its segments.
fn told(disk: &MemoryDisk, stream: &Stream, line: &str) {
    let path = stream.folder().join(ARCHIVED);
    drop(disk.remove(&path));
    let length = u64::try_from(line.len()).unwrap();
    let file = disk.create(&path, length).unwrap();
    file.write_at(line.as_bytes(), 0).unwrap();
}

/// Too old and too many: what is not archived stays all the same, of a lane that was never archived, too, until
/// nothing can be served any more without a row that there is no space for.
#[test]
fn what_is_not_archived_stays_where_it_is_held_and_the_disk_fills() {
    let disk = MemoryDisk::new(30 * SEGMENT_BYTES);
    let (lanes, _) = open(&disk, keep(5 * SEGMENT_BYTES, Some(100)));
    let (first, second) = (lanes.take(at(0)).unwrap(), lanes.take(at(0)).unwrap());
    let line = |segment, holds| {
        let may_go = 0;
        let to = ArchivedTo {
            segment,
            may_go,
            holds,
        };
        to.line()
    };
    let numbers = |events: &[Event]| -> Vec<u64> {
        let of = |event: &Event| match event {
            Event::Removed(sealed) => sealed.number,
            other => panic!("{other:?}"),
        };
        events.iter().map(of).collect()
    };
    told(&disk, &first, &line(0, true));
    for now in 1..=4 {
        assert!(fill(&lanes, &first, now).is_empty());
    }
    assert!(fill(&lanes, &second, 5).is_empty());
    assert!(lanes.bytes() > 5 * SEGMENT_BYTES);
    assert!(lanes.is_held_up());
    assert!(lanes.maintain(at(1000)).is_empty(), "nor for its age");
    // Two are archived, and go as they would have gone before.
    told(&disk, &first, &line(2, true));
    assert_eq!(numbers(&lanes.maintain(at(1000))), [1, 2]);
    assert!(lanes.is_held_up());
    // Nobody archives any more: with the promise goes what it held.
    told(&disk, &first, &line(2, false));
    let mut gone = numbers(&lanes.maintain(at(1000)));
    gone.sort_unstable();
    assert_eq!(gone, [1, 3, 4]);
    assert!(!lanes.is_held_up());

    told(&disk, &first, &line(4, true));
    let mut rows = 0;
    while first.append(at(1001), &[1; 4000]).is_ok() {
        first.flush().unwrap();
        rows += 1;
        for event in lanes.maintain(at(1001)) {
            assert!(
                matches!(
                    event,
                    Event::Trouble(Trouble::SetAside(..)) | Event::FreeLow { .. }
                ),
                "{event:?}"
            );
        }
    }
    assert!(lanes.is_held_up());
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let mut reader = Reader::open(disk, first.folder()).unwrap();
    let mut read = 0;
    while let Some(item) = reader.next_item().unwrap() {
        read += u64::from(matches!(item, Item::Row(row) if row.at == at(1001)));
    }
    assert!(
        read > 0 && read == rows,
        "every row that was taken is there: {read} of {rows}"
    );
}
