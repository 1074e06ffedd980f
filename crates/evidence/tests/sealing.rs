//! Marks and checkpoints: whatever is done to a stream without the signing key is found and named, and
//! nothing that a node itself goes through is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use shikiri_evidence::checkpoint::{Checkpoint, Mark, MarkKind};
use shikiri_evidence::note::{self, NoteKey, Signature, Signer};
use shikiri_evidence::segment::{Header, Seal, put_row, put_seal};
use shikiri_evidence::verify::{Finding, Given, Told, Trust, Verified, verify};
use shikiri_evidence::{
    BootId, Chain, Contradiction, Cut, Disk, Fault, Identity, Item, MemoryDisk, Mended, Reader,
    Signing, Stream, StreamKind, Trouble,
};
use shikiri_record::UnixMillis;

const FOLDER: &str = "/evidence/lane-0";
const SEGMENT_BYTES: u64 = 64 << 10;
const EVERY: Duration = Duration::from_secs(60);

/// Milliseconds after the beginning.
fn at(ms: u64) -> UnixMillis {
    UnixMillis(1_800_000_000_000 + ms)
}

fn minutes(n: u64) -> UnixMillis {
    at(n * 60_000)
}

/// What only the node knows. Without it no signature can be made: a keyed digest stands for Ed25519, which
/// the command's tests have.
const SECRET: [u8; 32] = [42; 32];

#[derive(Debug)]
struct Keyed(NoteKey);

fn keyed(bytes: &[u8]) -> Signature {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(blake3::keyed_hash(&SECRET, bytes).as_bytes());
    signature
}

impl Signer for Keyed {
    fn key(&self) -> &NoteKey {
        &self.0
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        keyed(bytes)
    }
}

fn key() -> NoteKey {
    NoteKey::new("shikiri/edge-1", [1; 32]).unwrap()
}

fn check(public: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool {
    public == key().public() && keyed(bytes) == *signature
}

/// Opens the stream in one run, signed.
fn open(disk: &MemoryDisk, run: u8) -> (Arc<Stream>, Vec<Mended>) {
    let identity = Identity {
        kind: StreamKind::Lane,
        node: "edge-1".into(),
        boot: BootId([run; 16]),
        lane: 0,
    };
    let cut = Cut {
        segment_bytes: SEGMENT_BYTES,
        age_max: Duration::from_secs(24 * 3600),
    };
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let (stream, mut mended) = Stream::open(on, Path::new(FOLDER), identity, cut, at(0)).unwrap();
    let signing = Signing {
        signer: Arc::new(Keyed(key())),
        every: EVERY,
    };
    mended.extend(stream.sign(signing).unwrap());
    (stream, mended)
}

fn roomy() -> MemoryDisk {
    MemoryDisk::new(1 << 30)
}

fn body(n: u64, bytes: usize) -> Vec<u8> {
    let mut body = n.to_le_bytes().to_vec();
    body.resize(bytes.max(9), u8::try_from(n % 251).unwrap() + 1);
    body
}

/// Writes rows of these lengths, ten a minute, and stops.
fn written(lengths: &[usize]) -> MemoryDisk {
    let disk = roomy();
    let (stream, mended) = open(&disk, 1);
    assert!(mended.is_empty(), "{mended:?}");
    for (n, length) in (0..).zip(lengths) {
        let now = at(n * 6_000);
        stream.append(now, &body(n, *length)).unwrap();
        let troubles = stream.maintain(now);
        assert!(troubles.is_empty(), "{troubles:?}");
    }
    stream
        .seal(at(u64::try_from(lengths.len()).unwrap() * 6_000))
        .unwrap();
    disk
}

fn verified_with(disk: &MemoryDisk, given: &[Given]) -> (Verified, Vec<Finding>) {
    let keys = [key()];
    let trust = Trust { keys: &keys, check };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut findings = Vec::new();
    let verified = verify(&disk, Path::new(FOLDER), trust, given, &mut |told| {
        if let Told::Found(finding) = told {
            findings.push(finding);
        }
    });
    let verified = verified.unwrap();
    assert_eq!(verified.findings, u64::try_from(findings.len()).unwrap());
    (verified, findings)
}

fn verified(disk: &MemoryDisk) -> (Verified, Vec<Finding>) {
    verified_with(disk, &[])
}

/// A file of the stream as it is.
fn file(disk: &MemoryDisk, name: &str) -> String {
    let path = Path::new(FOLDER).join(name);
    let mut text = String::new();
    disk.tamper(&path, |bytes| {
        text = String::from_utf8(bytes.clone()).unwrap();
    });
    text
}

fn checkpoint(disk: &MemoryDisk) -> Checkpoint {
    let text = file(disk, "checkpoint");
    let body = note::opened(&text, &[key()], check).unwrap();
    body.parse().unwrap()
}

fn marks(disk: &MemoryDisk) -> Vec<Mark> {
    let text = file(disk, "marks");
    text.lines()
        .skip(1)
        .map(|line| line.parse().unwrap())
        .collect()
}

#[test]
fn rows_are_marked_each_minute_and_at_every_seal_and_all_of_it_is_signed() {
    let disk = written(&[4_000; 60]);
    let (verified, findings) = verified(&disk);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(verified.rows, 60);
    assert_eq!(verified.signed, Some((60, minutes(6))));
    let marks = marks(&disk);
    let of = |kind| marks.iter().filter(move |mark| mark.kind == kind);
    let segments: Vec<u64> = of(MarkKind::Sealed).map(|mark| mark.segment).collect();
    assert_eq!(segments, [1, 2, 3, 4]);
    assert!(of(MarkKind::Running).count() >= 3, "{marks:?}");
    assert!(marks.windows(2).all(|pair| pair[0].next <= pair[1].next));
    let checkpoint = checkpoint(&disk);
    assert_eq!(checkpoint.size, u64::try_from(marks.len()).unwrap());
    let origin = format!("shikiri/edge-1/lane-0/{}", BootId([1; 16]));
    assert_eq!(checkpoint.origin, origin);
    let first = file(&disk, "marks");
    assert_eq!(first.lines().next().unwrap(), format!("marks 1 {origin}"));
}

#[test]
fn the_next_run_goes_on_with_the_marks_and_signs_what_a_killed_one_has_left() {
    let disk = written(&[4_000; 20]);
    let before = checkpoint(&disk);
    let (stream, mended) = open(&disk, 2);
    assert!(mended.is_empty(), "{mended:?}");
    stream.append(minutes(3), b"signed by nobody").unwrap();
    stream.flush().unwrap();
    drop(stream);
    let (now, findings) = verified(&disk);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(now.signed.unwrap().0, 20, "the last row is not yet");
    let (stream, mended) = open(&disk, 3);
    assert!(
        matches!(mended[..], [Mended::Recovered { rows: 1, .. }]),
        "{mended:?}"
    );
    let (now, findings) = verified(&disk);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(now.signed.unwrap().0, 21);
    let after = checkpoint(&disk);
    assert_eq!(after.origin, before.origin);
    assert!(after.size > before.size);
    drop(stream);
    // What was signed before is a beginning of what is signed now.
    let given = [Given {
        from: "kept elsewhere".into(),
        checkpoint: before,
    }];
    let (now, findings) = verified_with(&disk, &given);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(now.given, [0]);
}

#[test]
fn a_clock_that_is_set_back_is_told_and_keeps_nothing_from_being_signed() {
    let disk = roomy();
    let (stream, _) = open(&disk, 1);
    for (n, minute) in (0..).zip([100, 101, 102, 5, 6, 7]) {
        stream.append(minutes(minute), &body(n, 9)).unwrap();
        assert!(stream.maintain(minutes(minute)).is_empty());
        assert_eq!(marks(&disk).last().unwrap().next, n + 1, "minute {minute}");
    }
    stream.seal(minutes(7)).unwrap();
    let (verified, findings) = verified(&disk);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((verified.set_back, verified.signed.unwrap().0), (1, 6));
}

#[test]
fn a_full_disk_keeps_rows_from_being_signed_and_not_from_being_kept() {
    let disk = roomy();
    let (stream, _) = open(&disk, 1);
    stream.append(at(0), b"first").unwrap();
    assert!(stream.maintain(at(0)).is_empty());
    disk.resize(0);
    for n in 1..5 {
        stream.append(minutes(n), b"more").unwrap();
        stream.flush().unwrap();
        let troubles = stream.maintain(minutes(n));
        assert!(matches!(troubles[..], [Trouble::Sign(..)]), "{troubles:?}");
    }
    let (full, findings) = verified(&disk);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((full.rows, full.signed.unwrap().0), (5, 1));
    disk.resize(1 << 30);
    assert!(stream.maintain(minutes(5)).is_empty());
    let (again, findings) = verified(&disk);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((again.rows, again.signed.unwrap().0), (5, 5));
}

#[test]
fn what_is_removed_by_the_node_is_signed_to_be_and_what_others_remove_is_found() {
    let disk = written(&[4_000; 60]);
    let (stream, _) = open(&disk, 2);
    let removed = stream.remove_oldest(minutes(9)).unwrap().unwrap();
    assert!(stream.maintain(minutes(9)).is_empty());
    stream.seal(minutes(9)).unwrap();
    let (known, findings) = verified(&disk);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(known.removed, Some((removed.rows, minutes(9))));
    disk.remove(&Path::new(FOLDER).join("0000000002.segment"))
        .unwrap();
    let (_, findings) = verified(&disk);
    let [Finding::Gone { rows, .. }] = findings[..] else {
        panic!("{findings:?}");
    };
    let second = marks(&disk)
        .into_iter()
        .find(|mark| (mark.kind, mark.segment) == (MarkKind::Sealed, 2));
    assert_eq!(rows, (0, second.unwrap().next - 1));
}

/// What is done to a stream's files, and what it contradicts then.
type Case<'a> = (&'a str, &'a dyn Fn(&MemoryDisk), fn(&Contradiction) -> bool);

#[test]
fn what_contradicts_what_was_signed_is_put_aside_and_found_ever_after() {
    let drop_last = |disk: &MemoryDisk| {
        disk.remove(&Path::new(FOLDER).join("0000000004.segment"))
            .unwrap();
    };
    let cut_marks = |disk: &MemoryDisk| {
        disk.tamper(&Path::new(FOLDER).join("marks"), |bytes| {
            bytes.truncate(bytes.len() - 120);
        });
    };
    let drop_marks = |disk: &MemoryDisk| disk.remove(&Path::new(FOLDER).join("marks")).unwrap();
    let drop_note = |disk: &MemoryDisk| disk.remove(&Path::new(FOLDER).join("checkpoint")).unwrap();
    let other_note = |disk: &MemoryDisk| {
        disk.tamper(&Path::new(FOLDER).join("checkpoint"), |bytes| bytes[3] ^= 1);
    };
    let cases: [Case; 5] = [
        ("the last segment", &drop_last, |it| {
            matches!(it, Contradiction::Rows { before: 60, .. })
        }),
        ("marks cut", &cut_marks, |it| *it == Contradiction::Marks),
        ("no marks", &drop_marks, |it| *it == Contradiction::NoMarks),
        ("no checkpoint", &drop_note, |it| {
            *it == Contradiction::NoCheckpoint
        }),
        ("another checkpoint", &other_note, |it| {
            *it == Contradiction::Checkpoint
        }),
    ];
    for (name, change, expected) in cases {
        let disk = written(&[4_000; 60]);
        let kept = Given {
            from: "kept elsewhere".into(),
            checkpoint: checkpoint(&disk),
        };
        change(&disk);
        assert!(!verified(&disk).1.is_empty(), "{name}: at once");
        let (stream, mended) = open(&disk, 2);
        let [Mended::Contradicted { what, .. }] = &mended[..] else {
            panic!("{name}: {mended:?}");
        };
        assert!(expected(what), "{name}: {what:?}");
        stream.append(minutes(10), b"goes on").unwrap();
        stream.seal(minutes(10)).unwrap();
        drop(stream);
        assert_eq!(
            checkpoint(&disk).origin,
            format!("shikiri/edge-1/lane-0/{}", BootId([2; 16]))
        );
        // Whoever kept a checkpoint knows; and what was put aside tells, unless it was taken away before.
        let (now, findings) = verified_with(&disk, &[kept]);
        let is_found = !findings.is_empty() || now.given.is_empty();
        assert!(is_found, "{name}: {now:?}");
        let (stream, mended) = open(&disk, 3);
        assert!(mended.is_empty(), "{name}: {mended:?}");
        drop(stream);
    }
}

#[test]
fn rows_that_others_signed_are_not_signed() {
    let disk = written(&[100; 20]);
    let other = NoteKey::new("shikiri/edge-1", [9; 32]).unwrap();
    let keys = [other];
    let on: Arc<dyn Disk> = Arc::new(disk);
    let trust = Trust { keys: &keys, check };
    let mut findings = Vec::new();
    let verified = verify(&on, Path::new(FOLDER), trust, &[], &mut |told| {
        if let Told::Found(finding) = told {
            findings.push(finding);
        }
    });
    assert!(
        matches!(findings[..], [Finding::Note { .. }]),
        "{findings:?}"
    );
    assert_eq!(verified.unwrap().signed, None);
}

/// Where a node is killed: after so many more bytes of marks and checkpoints.
#[test]
fn a_node_that_is_killed_between_rows_marks_and_checkpoint_loses_and_doubts_nothing() {
    let mut torn = 0;
    for bytes in (0..1_400).step_by(9) {
        let disk = written(&[4_000; 20]);
        let (stream, _) = open(&disk, 2);
        for n in 20..24 {
            stream.append(minutes(n), &body(n, 4_000)).unwrap();
        }
        stream.flush().unwrap();
        disk.fail_writes_after(Some(bytes));
        let troubles = stream.maintain(minutes(30));
        torn += usize::from(!troubles.is_empty());
        let left = disk.copied();
        let (_, findings) = verified(&left);
        assert!(findings.is_empty(), "{bytes}: {findings:?}");
        let (stream, mended) = open(&left, 3);
        let contradicted = mended
            .iter()
            .any(|it| matches!(it, Mended::Contradicted { .. }));
        assert!(!contradicted, "{bytes}: {mended:?}");
        stream.seal(minutes(31)).unwrap();
        let (now, findings) = verified(&left);
        assert!(findings.is_empty(), "{bytes}: {findings:?}");
        assert_eq!((now.rows, now.signed.unwrap().0), (24, 24), "{bytes}");
    }
    assert!(torn > 20, "{torn}");
    // The very first marks of a stream, too.
    for bytes in (0..700).step_by(5) {
        let disk = roomy();
        disk.fail_writes_after(Some(bytes));
        drop(open(&disk, 1));
        disk.fail_writes_after(None);
        let (stream, mended) = open(&disk.copied(), 2);
        let contradicted = mended
            .iter()
            .any(|it| matches!(it, Mended::Contradicted { .. }));
        assert!(!contradicted, "{bytes}: {mended:?}");
        drop(stream);
    }
}

/// A segment, taken apart.
#[derive(Clone)]
struct Apart {
    path: PathBuf,
    header: Header,
    rows: Vec<(UnixMillis, Vec<u8>)>,
    sealed: UnixMillis,
}

fn apart(disk: &MemoryDisk) -> Vec<Apart> {
    let mut reader = Reader::open(Arc::new(disk.clone()), Path::new(FOLDER)).unwrap();
    let mut all: Vec<Apart> = Vec::new();
    let marks = marks(disk);
    let sealed = |number| {
        let mut seals = marks.iter().filter(|mark| mark.kind == MarkKind::Sealed);
        seals.find(|mark| mark.segment == number).unwrap().at
    };
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Segment(path, header) => all.push(Apart {
                path,
                sealed: sealed(header.number),
                header,
                rows: Vec::new(),
            }),
            Item::Row(row) => all.last_mut().unwrap().rows.push((row.at, row.body)),
            Item::Fault(fault) => panic!("{fault}"),
        }
    }
    all
}

/// Writes segments as somebody would who knows the format and has no key: every chain, every number and
/// every seal is computed anew.
fn put_together(disk: &MemoryDisk, segments: &[Apart]) {
    let (mut chain, mut sequence) = (Chain::BEGINNING, 0);
    for segment in segments {
        let header = Header {
            first: sequence,
            before: chain,
            ..segment.header.clone()
        };
        let mut bytes = header.encode().to_vec();
        chain = header.chain();
        for (at, body) in &segment.rows {
            chain = put_row(&mut bytes, &chain, *at, body);
            sequence += 1;
        }
        let seal = Seal {
            at: segment.sealed,
            rows: u64::try_from(segment.rows.len()).unwrap(),
            recovered: false,
            torn_bytes: 0,
            chain,
        };
        chain = put_seal(&mut bytes, &chain, &seal);
        disk.tamper(&segment.path, |now| *now = bytes);
    }
}

/// What is done to one row, or from it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tampering {
    Delete,
    Edit,
    Backdate,
    Swap,
    Repeat,
    Truncate,
    DropSegment,
}

const ALL: [Tampering; 7] = [
    Tampering::Delete,
    Tampering::Edit,
    Tampering::Backdate,
    Tampering::Swap,
    Tampering::Repeat,
    Tampering::Truncate,
    Tampering::DropSegment,
];

/// Does it to row `n` of all, and computes everything anew. Returns the first row that is different then.
fn tampered(disk: &MemoryDisk, what: Tampering, n: usize) -> Option<u64> {
    let before = apart(disk);
    let mut segments = before.clone();
    let mut left = n;
    let within = segments
        .iter()
        .position(|segment| match left.checked_sub(segment.rows.len()) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
    let (s, r) = (within.unwrap(), left);
    match what {
        Tampering::Delete => drop(segments[s].rows.remove(r)),
        Tampering::Edit => *segments[s].rows[r].1.last_mut().unwrap() ^= 1,
        Tampering::Backdate => segments[s].rows[r].0.0 -= 1,
        Tampering::Swap => {
            let other = if r == 0 {
                segments[s].rows.len() - 1
            } else {
                r - 1
            };
            segments[s].rows.swap(r, other);
        }
        Tampering::Repeat => {
            let row = segments[s].rows[r].clone();
            segments[s].rows.insert(r, row);
        }
        Tampering::Truncate => {
            segments[s].rows.truncate(r);
            for segment in segments.drain(s + 1..) {
                disk.remove(&segment.path).unwrap();
            }
        }
        Tampering::DropSegment => {
            let segment = segments.remove(s);
            disk.remove(&segment.path).unwrap();
        }
    }
    let rows = |segments: &[Apart]| -> Vec<(UnixMillis, Vec<u8>)> {
        segments
            .iter()
            .flat_map(|segment| segment.rows.clone())
            .collect()
    };
    let (before, after) = (rows(&before), rows(&segments));
    put_together(disk, &segments);
    let first = before
        .iter()
        .zip(&after)
        .position(|(one, other)| one != other);
    let shorter = before.len().min(after.len());
    let first = first.or((before.len() != after.len()).then_some(shorter));
    first.map(|n| u64::try_from(n).unwrap())
}

/// Whether a finding names a row.
fn names(finding: &Finding, row: u64) -> bool {
    match finding {
        Finding::Others {
            rows: (from, to), ..
        }
        | Finding::Lost {
            rows: (from, to), ..
        }
        | Finding::Cut {
            rows: (from, to), ..
        }
        | Finding::Gone {
            rows: (from, to), ..
        } => (*from..=*to).contains(&row),
        Finding::Place { fault, .. } => match fault {
            Fault::Missing {
                rows: (from, to), ..
            } => (*from..=*to).contains(&row),
            Fault::Row { sequence, .. } | Fault::Unsealed { sequence, .. } => *sequence == row,
            // The segment does not go on from the one before: all of that was taken out.
            Fault::Unchained { due, .. } => *due <= row,
            Fault::Header { .. } | Fault::AfterSeal { .. } => false,
        },
        _ => false,
    }
}

/// Every row, each way of tampering: found, and named by a range of less than a segment.
#[test]
fn whatever_is_done_to_a_row_without_the_signing_key_is_found_and_named() {
    let rows = 40;
    let sound = written(&vec![4_000; rows]);
    let marks: Vec<u64> = marks(&sound).iter().map(|mark| mark.next).collect();
    for what in ALL {
        for n in 0..rows {
            let disk = sound.copied();
            let Some(row) = tampered(&disk, what, n) else {
                continue;
            };
            let (_, findings) = verified(&disk);
            let named = findings.iter().find(|finding| names(finding, row));
            assert!(named.is_some(), "{what:?} of row {n}: {findings:?}");
            if let Some(Finding::Others {
                rows: (from, to), ..
            }) = named
            {
                // From mark to mark.
                assert!(
                    marks.contains(from) || *from == 0,
                    "{what:?} of row {n}: {named:?}"
                );
                assert!(
                    marks.contains(&(to + 1)) || what == Tampering::Repeat,
                    "{what:?} of row {n}: {named:?}"
                );
                let between = marks.iter().filter(|mark| (*from + 1..=*to).contains(mark));
                let more = usize::from(what == Tampering::Repeat);
                assert!(between.count() <= more, "{what:?} of row {n}: {named:?}");
            }
            let said = findings[0].to_string();
            assert!(said.contains("lane-0"), "{said}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rows_of_any_lengths_are_signed_and_tampering_with_them_is_found(
        lengths in prop::collection::vec(9_usize..7000, 2..60),
        row in any::<prop::sample::Index>(),
        what in prop::sample::select(&ALL[..]),
        again in any::<bool>(),
    ) {
        let disk = written(&lengths);
        let (sound, findings) = verified(&disk);
        prop_assert!(findings.is_empty(), "{findings:?}");
        prop_assert_eq!(sound.signed.unwrap().0, u64::try_from(lengths.len()).unwrap());
        let kept = Given { from: "kept elsewhere".into(), checkpoint: checkpoint(&disk) };
        let n = row.index(lengths.len());
        let row = tampered(&disk, what, n);
        prop_assume!(row.is_some());
        let row = row.unwrap();
        let (_, findings) = verified(&disk);
        prop_assert!(findings.iter().any(|it| names(it, row)), "{what:?} of row {n}: {findings:?}");
        if again {
            // A node that goes on, and signs, does not make it good.
            let (stream, _) = open(&disk, 2);
            stream.append(minutes(60), b"goes on").unwrap();
            stream.seal(minutes(60)).unwrap();
            let (now, findings) = verified_with(&disk, &[kept]);
            prop_assert!(!findings.is_empty() || now.given.is_empty(), "{now:?}");
        }
    }

    #[test]
    fn no_byte_of_the_marks_or_the_checkpoint_may_change(
        place in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        cuts in any::<bool>(),
        marks in any::<bool>(),
    ) {
        let disk = written(&[3_000; 40]);
        let name = if marks { "marks" } else { "checkpoint" };
        disk.tamper(&Path::new(FOLDER).join(name), |bytes| {
            let at = place.index(bytes.len());
            if cuts {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
        });
        let (_, findings) = verified(&disk);
        prop_assert!(!findings.is_empty());
    }
}
