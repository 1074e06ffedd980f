//! Questions to files: whatever is left unread holds no row of the answer, and a damaged file is named.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::reader::ColumnReader;
use parquet::data_type::{BoolType, ByteArrayType, FixedLenByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use proptest::prelude::*;
use shikiri_archive::sample::Random;
use shikiri_archive::who::{
    Among, ArchivedFile, By, Question, Served, Settings, WhoFault, Window, found_files, rows,
    short, viewers,
};
use shikiri_archive::{
    ArchiveFile, Archived, Batch, Counted, Ending, Manifest, Packed, Place, Serve, Table,
};
use shikiri_evidence::BootId;
use shikiri_record::{
    AddressTag, Begin, Ended, FillId, MemberTag, Outcome, TargetTag, UnixMillis, ViewerTag,
};

const BEGIN: u64 = 1_584_316_800_000;
const HOUR: u64 = 3_600_000;

fn maybe<T>(random: &mut Random, one_in: u64, value: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.below(one_in) > 0).then(|| value(random))
}

/// One of some values that are spread over all.
fn tag(meaning: u8, number: u64) -> [u8; 16] {
    let digest = blake3::hash(&[&[meaning][..], &number.to_le_bytes()].concat());
    digest.as_bytes()[..16].try_into().unwrap()
}

const OBJECTS: u64 = 300;
const PEOPLE: u64 = 120;
const FILLS: u64 = 80;
const CLASSES: [&str; 4] = ["assets", "pages", "personal", ""];

fn serve(random: &mut Random, sequence: u64, stays_out: bool) -> Serve<'static> {
    // Some instants are the same, and some clocks are off.
    let began = match random.below(200) {
        0 => u64::MAX - random.below(3),
        1 => random.below(3),
        _ => BEGIN + random.below(60) * HOUR / 2 + random.below(3),
    };
    let begin = Begin {
        began: UnixMillis(began),
        outcome: Outcome::ALL[random.below(7) as usize],
        reason: "",
        status: 200 + random.below(3) as u16,
        method: "GET",
        class: CLASSES[random.below(4) as usize],
        page: maybe(random, 3, |random| ["a", "b"][random.below(2) as usize]),
        target: TargetTag(tag(1, random.below(OBJECTS))),
        address: AddressTag(tag(2, random.below(PEOPLE))),
        viewer: maybe(random, 4, |random| ViewerTag(tag(3, random.below(PEOPLE)))),
        viewer_member: maybe(random, 3, |random| MemberTag(tag(4, random.below(PEOPLE)))),
        // A whole file may lack it.
        owner: match stays_out {
            true => None,
            false => maybe(random, 2, |random| MemberTag(tag(4, random.below(PEOPLE)))),
        },
        fill: maybe(random, 3, |random| {
            FillId(u128::from_be_bytes(tag(5, random.below(FILLS))))
        }),
        grant: None,
        cookies: Vec::new(),
        cookies_set: 0,
    };
    let place = Place {
        boot: BootId([7; 16]),
        lane: random.below(2) as u32,
        sequence,
        written: UnixMillis(began),
    };
    let ending = maybe(random, 5, |random| Ending {
        sequence: sequence + 1,
        written: UnixMillis(began.wrapping_add(random.below(9))),
        ended: Ended::ALL[random.below(4) as usize],
        bytes: random.below(40),
    });
    Serve {
        place,
        begin,
        stance: None,
        ending,
    }
}

/// Writes files of two nodes, with small row groups and pages, and gives what they hold.
fn archive(root: &Path, seed: u64, count: u64) -> Vec<Served> {
    let packed = Packed {
        group_rows: 1500,
        page_rows: 100,
        zstd_level: 1,
    };
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    for (number, node) in ["a", "b", "a"].into_iter().enumerate() {
        let name: Arc<str> = node.into();
        let mut batch = Batch::new();
        for sequence in 0..count {
            let serve = serve(&mut random, sequence * 2, number == 1);
            all.push(Served::of(&name, &serve));
            batch.push(&Archived::Serve(serve));
        }
        for day in batch.days() {
            let folder = root.join(format!("serves/day={day}/node={node}"));
            fs::create_dir_all(&folder).unwrap();
            let file = fs::File::create(folder.join(format!("{number}.parquet"))).unwrap();
            batch
                .write(Table::Serves, node, day, &packed, file)
                .unwrap();
        }
    }
    all
}

fn among(random: &mut Random) -> Among {
    let count = [1, 1, 3, 40, 100][random.below(5) as usize];
    // Some are nobody's.
    let mut tags = |meaning, of: u64| -> Vec<[u8; 16]> {
        (0..count)
            .map(|_| tag(meaning, random.below(of + 3)))
            .collect()
    };
    match count % 6 {
        _ if count == 1 => Among::tags(By::Target, tags(1, OBJECTS)),
        _ => match tags(9, 6)[0][0] % 6 {
            0 => Among::tags(By::Fill, tags(5, FILLS)),
            1 => Among::tags(By::Viewer, tags(3, PEOPLE)),
            2 => Among::tags(By::ViewerMember, tags(4, PEOPLE)),
            3 => Among::tags(By::Owner, tags(4, PEOPLE)),
            4 => Among::classes([CLASSES[count % 4].to_owned()]),
            _ => Among::tags(By::Target, tags(1, OBJECTS)),
        },
    }
}

fn window(random: &mut Random) -> Window {
    // At the very instants of rows, beside them, and open.
    let mut end = |open: u64| match random.below(4) {
        0 => open,
        1 => random.below(4),
        _ => BEGIN + random.below(60) * HOUR / 2 + random.below(5) - 1,
    };
    let (from, to) = (end(0), end(u64::MAX));
    Window {
        from: UnixMillis(from.min(to)),
        to: UnixMillis(from.max(to)),
    }
}

fn settings(threads: usize) -> Settings {
    Settings {
        threads,
        viewers_max: 1000,
    }
}

fn asked(root: &Path, question: &Question, threads: usize) -> Result<Vec<Served>, WhoFault> {
    let files = found_files(root, Table::Serves, &question.window)?;
    let mut all = Vec::new();
    rows(
        &files,
        question,
        &settings(threads),
        &mut |_| {},
        &mut |row| {
            all.push(row);
            ControlFlow::Continue(())
        },
    )?;
    Ok(all)
}

fn key(row: &Served) -> String {
    format!(
        "{row:?} {:?}",
        (
            row.target.0,
            row.viewer.map(|tag| tag.0),
            row.owner.map(|tag| tag.0)
        )
    )
}

fn takes(question: &Question, row: &Served) -> bool {
    // As the words say it, and nothing of how files are read.
    let is = |among: &Among| {
        let value: Option<Vec<u8>> = match among.by() {
            By::Target => Some(row.target.0.to_vec()),
            By::Fill => row.fill.map(|id| id.0.to_be_bytes().to_vec()),
            By::Viewer => row.viewer.map(|tag| tag.0.to_vec()),
            By::ViewerMember => row.viewer_member.map(|tag| tag.0.to_vec()),
            By::Owner => row.owner.map(|tag| tag.0.to_vec()),
            By::Class => Some(row.class.as_bytes().to_vec()),
        };
        value.is_some_and(|value| among.any(|one| one == value))
    };
    question.window.from <= row.began
        && row.began <= question.window.to
        && question.all.iter().all(|any| any.iter().any(is))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn what_is_left_unread_holds_no_row_of_the_answer(seed in any::<u64>()) {
        let folder = temporary(&format!("rows-{seed:016x}"));
        let all = archive(&folder, seed, 1_500);
        let mut random = Random::new(seed ^ 1);
        let mut found = 0;
        for _ in 0..30 {
            let question = Question {
                window: window(&mut random),
                all: (0..random.below(3))
                    .map(|_| (0..=random.below(2)).map(|_| among(&mut random)).collect())
                    .collect(),
            };
            let due: Vec<&Served> = all.iter().filter(|row| takes(&question, row)).collect();
            let got = asked(&folder, &question, 2).unwrap();
            let mut keys: Vec<String> = got.iter().map(key).collect();
            let mut due_keys: Vec<String> = due.iter().map(|row| key(row)).collect();
            let one = asked(&folder, &question, 1).unwrap();
            prop_assert_eq!(one.iter().map(key).collect::<Vec<_>>(), keys.clone(), "in the files' order");
            keys.sort_unstable();
            due_keys.sort_unstable();
            prop_assert_eq!(keys, due_keys);
            found += due.len();

            let files = found_files(&folder, Table::Serves, &question.window).unwrap();
            let who = viewers(&files, &question, &settings(2), &mut |_| {}).unwrap();
            let tags: BTreeSet<[u8; 16]> = due.iter().filter_map(|row| row.viewer).map(|tag| tag.0).collect();
            prop_assert_eq!(who.tags.into_iter().collect::<BTreeSet<_>>(), tags);
            let with = due.iter().filter(|row| row.viewer.is_some()).count() as u64;
            prop_assert_eq!((who.responses, who.without), (with, due.len() as u64 - with));
        }
        prop_assert!(found > 500, "{} rows were asked for", found);
        fs::remove_dir_all(&folder).unwrap();
    }
}

/// A folder of a test's own.
fn temporary(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("shikiri-who-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    folder
}

const ALL: Question = Question {
    window: Window::ALWAYS,
    all: Vec::new(),
};

#[test]
fn the_files_of_these_tests_have_many_row_groups_and_pages() {
    let folder = temporary("pages");
    archive(&folder, 1, 2_500);
    let files = found_files(&folder, Table::Serves, &Window::ALWAYS).unwrap();
    let (mut groups, mut pages) = (0, 0);
    for file in &files {
        let file = ArchiveFile::open(&file.path).unwrap();
        groups += file.groups();
        for n in 0..file.groups() {
            let metadata = file.parquet().metadata().row_group(n);
            let index = metadata.column(0).offset_index_range().unwrap();
            pages += (index.end - index.start) / 12;
        }
    }
    assert!(groups > files.len() && pages > 40, "{groups} {pages}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn who_takes_no_more_is_given_no_more_and_a_bound_is_told() {
    let folder = temporary("bound");
    archive(&folder, 2, 2_500);
    let files = found_files(&folder, Table::Serves, &Window::ALWAYS).unwrap();
    let mut taken = 0;
    rows(&files, &ALL, &settings(2), &mut |_| {}, &mut |_| {
        taken += 1;
        match taken {
            5 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })
    .unwrap();
    assert_eq!(taken, 5);
    let settings = Settings {
        threads: 2,
        viewers_max: 10,
    };
    let fault = viewers(&files, &ALL, &settings, &mut |_| {}).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "more than 10 viewers: ask for fewer objects, or a shorter window"
    );
    fs::remove_dir_all(&folder).unwrap();
}

/// Whatever is wrong with a file, the answer is what it was, or the file is named.
#[test]
fn a_damaged_file_is_named() {
    let folder = temporary("damaged");
    archive(&folder, 3, 2_500);
    let due: Vec<String> = asked(&folder, &ALL, 2).unwrap().iter().map(key).collect();
    let files = found_files(&folder, Table::Serves, &Window::ALWAYS).unwrap();
    let path = files
        .iter()
        .map(|file| &file.path)
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let whole = fs::read(path).unwrap();
    let mut random = Random::new(4);
    let mut named = 0;
    for n in 0..90 {
        let mut bytes = whole.clone();
        if n % 3 == 0 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        } else {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        fs::write(path, &bytes).unwrap();
        match asked(&folder, &ALL, 2) {
            Err(WhoFault::File { path: of, .. }) if of == *path => named += u32::from(n % 3 != 0),
            Err(other) => panic!("{other}"),
            // A bit of what nobody asks for, of a name or a tag: that is what digests are for.
            Ok(got) if n % 3 != 0 => assert_eq!(got.len(), due.len(), "{n}"),
            Ok(_) => panic!("{n}: a file that ends too early was read"),
        }
    }
    assert!(named > 5, "{named} of those with a bit turned");
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
    assert!(asked(&folder, &ALL, 2).is_err());
    fs::remove_dir_all(&folder).unwrap();
}

/// The files of a program that packs otherwise are read row by row, and say the same.
/// The same rows, as another program would pack them: plain, without dictionaries, statistics, bloom filters and pages of
/// ours.
fn packed_otherwise(path: &Path, version: WriterVersion) {
    let bytes = fs::read(path).unwrap();
    let read = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let of = read.metadata().file_metadata();
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_bloom_filter_enabled(false)
        .set_compression(Compression::UNCOMPRESSED)
        .set_key_value_metadata(of.key_value_metadata().cloned())
        .build();
    let schema = of.schema_descr().root_schema_ptr();
    let out = fs::File::create(path).unwrap();
    let mut out = SerializedFileWriter::new(out, schema, Arc::new(properties)).unwrap();
    for group in 0..read.num_row_groups() {
        let from = read.get_row_group(group).unwrap();
        let mut to = out.next_row_group().unwrap();
        let mut column = 0;
        while let Some(mut writer) = to.next_column().unwrap() {
            let rows = from.metadata().num_rows() as usize;
            macro_rules! copy {
                ($($kind:ident: $of:ty),*) => {
                    match from.get_column_reader(column).unwrap() {
                        $(ColumnReader::$kind(mut reader) => {
                            let (mut values, mut levels) = (Vec::new(), Vec::new());
                            let mut again = Vec::new();
                            reader
                                .read_records(rows, Some(&mut levels), Some(&mut again), &mut values)
                                .unwrap();
                            let levels = (!levels.is_empty()).then_some(&levels[..]);
                            let again = (!again.is_empty()).then_some(&again[..]);
                            writer.typed::<$of>().write_batch(&values, levels, again).unwrap();
                        })*
                        _ => panic!("a column of a kind that we do not write"),
                    }
                };
            }
            copy!(
                BoolColumnReader: BoolType,
                Int32ColumnReader: Int32Type,
                Int64ColumnReader: Int64Type,
                ByteArrayColumnReader: ByteArrayType,
                FixedLenByteArrayColumnReader: FixedLenByteArrayType
            );
            writer.close().unwrap();
            column += 1;
        }
        to.close().unwrap();
    }
    out.close().unwrap();
}

#[test]
fn a_file_that_is_packed_otherwise_says_the_same() {
    let folder = temporary("otherwise");
    archive(&folder, 5, 600);
    let question = Question {
        window: Window::ALWAYS,
        all: vec![vec![Among::tags(By::Target, (0..50).map(|n| tag(1, n)))]],
    };
    let sorted = |all: Vec<Served>| {
        let mut all: Vec<String> = all.iter().map(key).collect();
        all.sort();
        all
    };
    let due = sorted(asked(&folder, &question, 2).unwrap());
    assert!(due.len() > 100, "{}", due.len());
    let ours = found_files(&folder, Table::Serves, &Window::ALWAYS).unwrap();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for file in &ours {
            packed_otherwise(&file.path, version);
            let bytes = fs::read(&file.path).unwrap();
            let read = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
            let column = read.metadata().row_group(0).column(0);
            assert!(column.dictionary_page_offset().is_none());
            assert!(column.statistics().is_none());
        }
        let found = sorted(asked(&folder, &question, 2).unwrap());
        assert_eq!(found, due, "{version:?}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_sound_file_that_is_not_the_one_that_was_archived_is_named() {
    let folder = temporary("another");
    archive(&folder, 6, 300);
    let question = Question {
        window: Window::ALWAYS,
        all: vec![vec![Among::tags(By::Target, (0..50).map(|n| tag(1, n)))]],
    };
    let mut files = found_files(&folder, Table::Serves, &Window::ALWAYS).unwrap();
    let ask = |files: &[ArchivedFile]| {
        let take = &mut |_| ControlFlow::Continue(());
        rows(files, &question, &settings(1), &mut |_| {}, take)
    };
    for file in &mut files {
        file.rows = ArchiveFile::open(&file.path).unwrap().rows();
    }
    ask(&files).unwrap();
    files[0].rows += 1;
    let fault = ask(&files).unwrap_err().to_string();
    assert!(
        fault.contains(&files[0].path.display().to_string()) && fault.contains("were archived"),
        "{fault}"
    );
    fs::remove_dir_all(&folder).unwrap();
}

fn counted(rows: u64) -> Counted {
    Counted {
        rows,
        ..Counted::default()
    }
}

#[test]
fn a_node_that_is_renamed_goes_on_and_one_that_begins_anew_begins_anew() {
    let text = |number: u64, name: &str, after: Option<&str>, node: &str, took: u64, next: u64| {
        let after = after.map_or("null".to_owned(), |after| format!("\"{after}\""));
        let none = serde_json::to_string(&counted(0)).unwrap();
        let took = serde_json::to_string(&counted(took)).unwrap();
        let text = format!(
            r#"{{"version":1,"number":{number},"name":"{name}","after":{after},"node":"{node}","lanes":[],
            "segment_bytes":0,"took":{took},"waited":{none},"waits":{none},"files":[],"faults":[],
            "reached":{{"0":{{"segment":{number},"next":{next}}}}}}}"#
        );
        Manifest::read(text.as_bytes()).unwrap()
    };
    let old = text(1, "one", None, "a", 100, 100);
    let renamed = text(2, "two", Some("one"), "b", 50, 150);
    assert_eq!(short(&[old.clone(), renamed]), (vec![], vec![]));
    // Another life, which is short of five rows: the first one's are no rows of it.
    let anew = text(1, "other", None, "a", 35, 40);
    let (shorts, missing) = short(&[old, anew]);
    assert_eq!(missing, Vec::<String>::new());
    let shorts: Vec<u64> = shorts.iter().map(|short| short.rows).collect();
    assert_eq!(shorts, [5]);
}
