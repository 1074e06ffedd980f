//! Batches of sealed segments: nothing is lost or doubled, wherever they are broken off.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shikiri_archive::keeper::{self, Keeper, KeeperFault, KeeperSettings, Progress, Segments};
use shikiri_archive::sample::{Sample, SampleLanes, Site};
use shikiri_archive::{
    ArchiveFile, ArchivePlace, Archived, Folder, Manifest, Packed, Place, Tally,
};
use shikiri_evidence::note::{NoteKey, Signature, Signer};
use shikiri_evidence::{ARCHIVED, ArchivedTo, Event, Item, Reader, RealDisk};

const SITE: Site = Site {
    members: 50,
    lanes: 2,
    ..Site::STORE
};

const SEGMENT_BYTES: u64 = 64 << 10;

const SETTINGS: KeeperSettings = KeeperSettings {
    batch_rows: 900,
    packed: Packed {
        group_rows: 300,
        page_rows: 100,
        ..Packed::STANDARD
    },
    ..KeeperSettings::STANDARD
};

const STAY: Segments = Segments {
    go: false,
    hold: true,
};

const GO: Segments = Segments {
    go: true,
    hold: true,
};

/// Several segments of each lane.
const LARGER: KeeperSettings = KeeperSettings {
    batch_rows: 2500,
    ..SETTINGS
};

/// A folder of one test's own, gone when the test ends.
struct Here(PathBuf);

impl Here {
    fn new(test: &str) -> Self {
        let name = format!("shikiri-keeper-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// One run of a node: so many responses, whose last ones have no end rows unless it stops in peace.
fn run(lanes: &Path, seed: u64, responses: u64, stops: bool) {
    let mut sample = Sample::new(SITE, seed);
    let opened = SampleLanes::open(lanes, "edge-1", sample.boot(), SITE, SEGMENT_BYTES);
    let mut written = opened.unwrap();
    sample.tell(responses, &mut |place, row| written.row(&place, row));
    if stops {
        sample.finish(&mut |place, row| written.row(&place, row));
        written.seal(sample.now()).unwrap();
    } else {
        written.leave().unwrap();
    }
}

/// The rows that stand in the lanes, sealed or not; counted without the keeper.
fn standing(lanes: &Path) -> Tally {
    let mut tally = Tally::default();
    for lane in 0..SITE.lanes {
        let folder = lanes.join(format!("lane-{lane}"));
        let mut reader = Reader::open(Arc::new(RealDisk), &folder).unwrap();
        let mut boot = None;
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Segment(_, header) => boot = Some(header.boot),
                Item::Row(row) => {
                    let place = Place {
                        boot: boot.unwrap(),
                        lane,
                        sequence: row.sequence,
                        written: row.at,
                    };
                    tally.row(&place, &row.body);
                }
                Item::Fault(fault) => panic!("{fault}"),
            }
        }
    }
    tally
}

/// The rows that stand in the archive's files, whatever manifests say.
fn archived(archive: &Path) -> Tally {
    let mut tally = Tally::default();
    for (name, _) in files(archive) {
        if name.ends_with(".parquet") {
            let file = ArchiveFile::open(&archive.join(&name)).unwrap();
            file.each(&mut |archived: Archived<'_>| tally.archived(&archived))
                .unwrap();
        }
    }
    tally
}

/// Every file in a folder, with the digest of its bytes.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            found.insert(name, blake3::hash(&fs::read(&path).unwrap()).to_string());
        }
    }
    found
}

fn all(lanes: &Path, state: &Path, place: &dyn ArchivePlace) -> Result<u64, KeeperFault> {
    let mut keeper = Keeper::open(lanes, state, place, SETTINGS)?;
    let mut batches = 0;
    while keeper.batch(&mut |_: &Progress<'_>| {})?.is_some() {
        batches += 1;
    }
    Ok(batches)
}

/// A place that stops working at one of the things that it is asked, in one of several ways.
#[derive(Debug)]
struct Failing {
    folder: Folder,
    left: Cell<u32>,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It does nothing.
    Before,
    /// It does what it is asked, and does not say so: as if we were killed after it.
    After,
}

impl Failing {
    fn fails(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 1
    }
}

impl ArchivePlace for Failing {
    fn put(&self, name: &str, file: &Path) -> Result<(), String> {
        let fails = self.fails();
        if !fails || self.how == How::After {
            self.folder.put(name, file)?;
        }
        if fails {
            Err("it fails".into())
        } else {
            Ok(())
        }
    }

    fn get(
        &self,
        name: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.fails() {
            return Err("it fails".into());
        }
        self.folder.get(name, take)
    }

    fn shown(&self) -> String {
        "a place that fails".into()
    }
}

#[test]
fn wherever_a_batch_is_broken_off_the_same_files_come_of_it() {
    let here = Here::new("resume");
    let (lanes, state) = (here.path("evidence"), here.path("state"));
    run(&lanes, 1, 700, false);
    // The run after it seals what a killed one has left.
    run(&lanes, 2, 200, true);
    let stands = standing(&lanes);

    let whole = here.path("whole");
    let batches = all(&lanes, &state, &Folder(whole.clone())).unwrap();
    let manifests = keeper::manifests(&state).unwrap();
    assert!(
        batches >= 3 && manifests.len() as u64 == batches,
        "{batches}"
    );
    let waits: Vec<u64> = manifests.iter().map(|it| it.waits.rows).collect();
    assert!(
        waits.iter().any(|rows| *rows > 0),
        "ends come in later batches: {waits:?}"
    );
    assert_eq!(waits.last(), Some(&0), "the last run has stopped in peace");
    assert_eq!(archived(&whole), stands);
    let expected = files(&whole);

    let mut seen = 0;
    for how in [How::Before, How::After] {
        for at in 1.. {
            let (state, archive) = (here.path("state-again"), here.path("again"));
            let failing = Failing {
                folder: Folder(archive.clone()),
                left: Cell::new(at),
                how,
            };
            let first = all(&lanes, &state, &failing);
            let broke = first.is_err();
            if broke {
                assert!(matches!(first, Err(KeeperFault::Place(_))), "{first:?}");
                all(&lanes, &state, &failing).unwrap();
            }
            assert_eq!(files(&archive), expected, "{how:?} {at}");
            assert_eq!(keeper::manifests(&state).unwrap(), manifests);
            fs::remove_dir_all(&state).unwrap();
            fs::remove_dir_all(&archive).unwrap();
            seen += 1;
            if !broke {
                break;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn what_is_read_back_otherwise_is_not_recorded_and_no_segment_goes() {
    /// Gives every file back with one byte changed, or one too few.
    #[derive(Debug)]
    struct Lying(Folder, bool);

    impl ArchivePlace for Lying {
        fn put(&self, name: &str, file: &Path) -> Result<(), String> {
            self.0.put(name, file)
        }

        fn get(
            &self,
            name: &str,
            take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
        ) -> Result<(), String> {
            self.0.get(name, &mut |piece| {
                let mut piece = piece.to_vec();
                if self.1 {
                    piece[7] ^= 1;
                } else {
                    piece.pop();
                }
                take(&piece)
            })
        }

        fn shown(&self) -> String {
            "a place that lies".into()
        }
    }

    let here = Here::new("lying");
    let (lanes, state) = (here.path("evidence"), here.path("state"));
    run(&lanes, 3, 300, true);
    let before = files(&lanes);
    for changes in [true, false] {
        let lying = Lying(Folder(here.path("archive")), changes);
        let fault = all(&lanes, &state, &lying).unwrap_err();
        assert!(matches!(fault, KeeperFault::NotTheSame { .. }), "{fault}");
        assert!(keeper::last(&state).unwrap().is_none());
        let keeper = Keeper::open(&lanes, &state, &lying, SETTINGS).unwrap();
        keeper.tell_node(GO).unwrap();
    }
    let mut after = files(&lanes);
    let told = (0..SITE.lanes).map(|lane| {
        after.remove(&format!("lane-{lane}/{ARCHIVED}")).unwrap();
        ArchivedTo::read(&RealDisk, &lanes.join(format!("lane-{lane}"))).unwrap()
    });
    assert!(told.into_iter().all(|it| (it.segment, it.may_go) == (0, 0)));
    assert_eq!(after, before);
    all(&lanes, &state, &Folder(here.path("archive"))).unwrap();
    assert_eq!(archived(&here.path("archive")), standing(&lanes));
}

#[test]
fn segments_go_only_once_they_are_archived_and_lanes_go_on_after_that() {
    let here = Here::new("removed");
    let (lanes, state, archive) = (
        here.path("evidence"),
        here.path("state"),
        here.path("archive"),
    );
    let place = Folder(archive.clone());
    run(&lanes, 4, 3000, true);
    let mut stands = standing(&lanes);
    // A node looks after its lanes: the numbers of the segments that it removes then.
    let node = || {
        let sample = Sample::new(SITE, 99);
        let opened = SampleLanes::open(&lanes, "edge-1", sample.boot(), SITE, SEGMENT_BYTES);
        let events = opened.unwrap().maintain(SITE.from).into_iter();
        let removed = events.filter_map(|event| match event {
            Event::Removed(sealed) => Some(sealed.number),
            _ => None,
        });
        removed.collect::<Vec<_>>()
    };
    let mut keeper = Keeper::open(&lanes, &state, &place, LARGER).unwrap();
    keeper.tell_node(GO).unwrap();
    let none = ArchivedTo {
        segment: 0,
        may_go: 0,
        holds: true,
    };
    let told = ArchivedTo::read(&RealDisk, &lanes.join("lane-0"));
    assert_eq!(told, Some(none), "it holds before anything is archived");
    keeper.batch(&mut |_| {}).unwrap().unwrap();
    let left = keeper.outstanding().unwrap();
    assert!(left.segments > 0);
    keeper.tell_node(STAY).unwrap();
    assert_eq!(
        node(),
        [0; 0],
        "they stay unless somebody says that they may go"
    );
    keeper.tell_node(GO).unwrap();
    let removed = node();
    let reached = keeper.last().unwrap().reached.values().map(|it| it.segment);
    let reached = reached.max().unwrap();
    assert!(
        !removed.is_empty() && removed.iter().all(|number| *number <= reached),
        "{removed:?} {reached}"
    );
    let now = keeper.outstanding().unwrap();
    assert_eq!(now.rows, left.rows, "what is not archived stays");
    while keeper.batch(&mut |_| {}).unwrap().is_some() {}
    keeper.tell_node(GO).unwrap();
    drop(node());
    drop(keeper);
    assert_eq!(archived(&archive), stands);

    let before = standing(&lanes);
    run(&lanes, 5, 300, true);
    let mut after = standing(&lanes);
    after.rows -= before.rows;
    after.sum = after.sum.wrapping_sub(before.sum);
    stands.add(&after);
    all(&lanes, &state, &place).unwrap();
    let whole = keeper::manifests(&state).unwrap();
    assert!(whole.iter().all(|it| it.faults.is_empty()), "{whole:?}");
    assert_eq!(archived(&archive), stands);
}

#[test]
fn damage_and_rows_that_were_removed_too_early_are_told_and_their_segments_stay() {
    let here = Here::new("damaged");
    let (lanes, state) = (here.path("evidence"), here.path("state"));
    run(&lanes, 6, 3000, true);
    let place = Folder(here.path("archive"));
    let mut keeper = Keeper::open(&lanes, &state, &place, LARGER).unwrap();
    keeper.batch(&mut |_| {}).unwrap().unwrap();
    let reached = keeper.last().unwrap().reached.clone();
    // A segment that is gone, and one with a changed byte.
    let segment = |lane: u32, n: u64| {
        let number = reached[&lane].segment + n;
        lanes.join(format!("lane-{lane}/{number:010}.segment"))
    };
    fs::remove_file(segment(0, 1)).unwrap();
    let mut bytes = fs::read(segment(1, 1)).unwrap();
    bytes[5000] ^= 1;
    fs::write(segment(1, 1), bytes).unwrap();
    while keeper.batch(&mut |_| {}).unwrap().is_some() {}
    let manifests = keeper::manifests(&state).unwrap();
    let faults: Vec<&String> = manifests.iter().flat_map(|it| &it.faults).collect();
    let said = |part: &str| faults.iter().any(|fault| fault.contains(part));
    assert!(said("were removed before they were archived"), "{faults:?}");
    assert!(said("its chain does not fit"), "{faults:?}");
    keeper.tell_node(GO).unwrap();
    let told = |lane: u32| ArchivedTo::read(&RealDisk, &lanes.join(format!("lane-{lane}")));
    assert!(
        told(1).unwrap().may_go <= reached[&1].segment,
        "what is damaged stays for whoever looks into it"
    );
    let last = keeper.last().unwrap().reached[&1].segment;
    assert_eq!(told(1).unwrap().segment, last, "and holds up nothing else");
}

#[test]
fn one_keeper_at_a_time() {
    let here = Here::new("held");
    let (lanes, state) = (here.path("evidence"), here.path("state"));
    let place = Folder(here.path("archive"));
    let first = Keeper::open(&lanes, &state, &place, SETTINGS).unwrap();
    let second = Keeper::open(&lanes, &state, &place, SETTINGS);
    assert!(matches!(second, Err(KeeperFault::Held(_))));
    drop(first);
    Keeper::open(&lanes, &state, &place, SETTINGS).unwrap();
}

#[test]
fn verifying_finds_what_is_missing_changed_or_other() {
    let here = Here::new("verify");
    let (lanes, state, archive) = (
        here.path("evidence"),
        here.path("state"),
        here.path("archive"),
    );
    let place = Folder(archive.clone());
    run(&lanes, 7, 500, true);
    all(&lanes, &state, &place).unwrap();
    let manifests = keeper::manifests(&state).unwrap();
    let wrong = |manifests: &[Manifest], rows: bool| {
        let rows = rows.then_some(here.0.as_path());
        let wrong = keeper::verify(manifests, &place, rows, &mut |_| {}).unwrap();
        wrong.into_iter().map(|it| it.why).collect::<Vec<_>>()
    };
    assert_eq!(wrong(&manifests, true), [""; 0]);
    let without: Vec<Manifest> = manifests.iter().skip(1).cloned().collect();
    assert!(wrong(&without, false)[0].contains("is missing"));
    let mut other = manifests.clone();
    other[0].files[0].holds.rows += 1;
    assert!(wrong(&other, true)[0].contains("its rows are others"));

    let path = archive.join(&manifests[0].files[0].name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(wrong(&manifests, false)[0].contains("it was changed"));
    fs::remove_file(&path).unwrap();
    assert!(wrong(&manifests, false)[0].contains("cannot read"));
}

/// No signature of anybody else's: a digest under a secret, which tests alone may take for one.
#[derive(Debug)]
struct Keyed(NoteKey);

fn keyed(public: &[u8; 32], bytes: &[u8]) -> Signature {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(blake3::keyed_hash(public, bytes).as_bytes());
    signature
}

impl Signer for Keyed {
    fn key(&self) -> &NoteKey {
        &self.0
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        keyed(self.0.public(), bytes)
    }
}

/// Whoever changes a file and makes the manifest fit is found by the public key alone, on a copy; so is one who signs
/// with a key of their own.
#[test]
fn a_manifest_that_was_changed_with_its_file_is_found_by_its_signature() {
    let here = Here::new("signed");
    let (lanes, archive) = (here.path("evidence"), here.path("archive"));
    run(&lanes, 8, 1500, true);
    let place = Folder(archive.clone());
    let ours = Keyed(NoteKey::new("shikiri/edge-1", [7; 32]).unwrap());
    let check =
        |public: &[u8; 32], bytes: &[u8], signature: &Signature| keyed(public, bytes) == *signature;
    let mut keeper = Keeper::open(&lanes, &here.path("state"), &place, SETTINGS).unwrap();
    keeper.batch(&mut |_| {}).unwrap().unwrap();
    let mut keeper = keeper.signed_by(&ours);
    while keeper.batch(&mut |_| {}).unwrap().is_some() {}
    let mut manifests = keeper::manifests(&here.path("state")).unwrap();
    let all = u64::try_from(manifests.len()).unwrap();
    assert!(all > 2, "{all}");
    let keys = [ours.0.clone()];
    let looked = |manifests: &[Manifest]| keeper::signed(manifests, &place, &keys, check);
    let as_made = looked(&manifests);
    assert_eq!((as_made.by_known, as_made.wrong.len()), (all - 1, 0));
    assert_eq!(as_made.not.len(), 1, "the first was made without a key");
    assert_eq!(as_made.not[0].name, manifests[0].place());

    // A file with one byte changed, and the manifest that fits it.
    let file = &mut manifests[1].files[0];
    let path = archive.join(&file.name);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let unfit = keeper::verify(&manifests, &place, None, &mut |_| {}).unwrap();
    assert_eq!(unfit.len(), 1);
    let file = &mut manifests[1].files[0];
    file.blake3 = blake3::hash(&bytes).to_string();
    let fits = keeper::verify(&manifests, &place, None, &mut |_| {}).unwrap();
    assert_eq!(fits, [], "without a signature nothing shows it");
    let found = looked(&manifests);
    assert_eq!((found.by_known, found.wrong.len()), (all - 2, 1));
    assert!(found.wrong[0].why.contains("the manifest was changed"));

    // Signed again, by somebody else under the same name.
    let theirs = Keyed(NoteKey::new("shikiri/edge-1", [8; 32]).unwrap());
    let note = shikiri_evidence::note::signed(&manifests[1].statement(), &theirs);
    fs::write(archive.join(manifests[1].note_place()), note).unwrap();
    let found = looked(&manifests);
    assert_eq!((found.by_known, found.wrong.len()), (all - 2, 1));
    assert!(
        found.wrong[0].why.contains("no key that is known here"),
        "{:?}",
        found.wrong
    );
    let statement = manifests[1].statement();
    assert!(
        statement
            .parse::<shikiri_evidence::checkpoint::Checkpoint>()
            .is_err(),
        "what is signed here is no checkpoint"
    );
}

#[test]
fn a_new_life_of_a_node_under_the_same_name_overwrites_nothing() {
    let here = Here::new("lives");
    let place = here.path("archive");
    let mut stands = Tally::default();
    let mut before = BTreeMap::new();
    for life in [1, 2] {
        let (lanes, state) = (
            here.path(&format!("evidence-{life}")),
            here.path(&format!("state-{life}")),
        );
        // As many rows of as many segments: only the runs are others.
        run(&lanes, life, 700, true);
        stands.add(&standing(&lanes));
        assert!(all(&lanes, &state, &Folder(place.clone())).unwrap() >= 2);
        let after = files(&place);
        for (name, digest) in &before {
            assert_eq!(after.get(name), Some(digest), "{name}");
        }
        before = after;
    }
    assert_eq!(archived(&place), stands);
}
