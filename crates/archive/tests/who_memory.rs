//! A question to a long archive takes no more memory than one to a short one: a process of its own, since it measures the
//! whole process.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use shikiri_archive::sample::{JoinedSample, Site};
use shikiri_archive::who::{Among, Question, Served, Settings, Window, found_files, rows, viewers};
use shikiri_archive::{Batch, Day, Packed, Table};

const ROWS: u64 = 20_000;
const FILES: u64 = 16;

/// The most memory that this process has had, in KiB.
fn most_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One file under many names.
fn archive(root: &Path) {
    let mut sample = JoinedSample::new(Site::STORE, 1);
    let mut batch = Batch::new();
    sample.fill(&mut batch, ROWS);
    sample.finish(&mut batch);
    let day = Day::of(Site::STORE.from);
    let first = root.join(format!("serves/day={day}/node=0"));
    fs::create_dir_all(&first).unwrap();
    let path = first.join("1.parquet");
    let out = fs::File::create(&path).unwrap();
    let packed = Packed {
        group_rows: 10_000,
        ..Packed::STANDARD
    };
    batch.write(Table::Serves, "0", day, &packed, out).unwrap();
    for node in 1..FILES {
        let folder = root.join(format!("serves/day={day}/node={node}"));
        fs::create_dir_all(&folder).unwrap();
        fs::hard_link(&path, folder.join("1.parquet")).unwrap();
    }
}

#[test]
fn memory_does_not_grow_with_the_archive() {
    let folder = std::env::temp_dir().join(format!("shikiri-who-memory-{}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    archive(&folder);
    let files = found_files(&folder, Table::Serves, &Window::ALWAYS).unwrap();
    assert_eq!(files.len() as u64, FILES);
    let all = ["assets", "pages", "media", "personal"].map(str::to_owned);
    let question = Question {
        window: Window::ALWAYS,
        all: vec![vec![Among::classes(all)]],
    };
    let settings = Settings {
        threads: 2,
        viewers_max: 100_000,
    };
    let count = |of: usize, keep: &mut Vec<Served>, keeps: bool| {
        let mut count = 0;
        rows(
            &files[..of],
            &question,
            &settings,
            &mut |_| {},
            &mut |row| {
                count += 1;
                if keeps {
                    keep.push(row);
                }
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        viewers(&files[..of], &question, &settings, &mut |_| {}).unwrap();
        count
    };
    let mut kept = Vec::new();
    assert_eq!(count(2, &mut kept, false), 2 * ROWS);
    let short = most_kib();
    assert_eq!(count(files.len(), &mut kept, false), FILES * ROWS);
    let long = most_kib();
    assert!(long < short + 8_000, "{short} KiB, then {long} KiB");
    // What holds the rows is seen to.
    count(files.len(), &mut kept, true);
    assert!(
        most_kib() > long + 16_000,
        "{long} KiB, then {} KiB",
        most_kib()
    );
    fs::remove_dir_all(&folder).unwrap();
}
