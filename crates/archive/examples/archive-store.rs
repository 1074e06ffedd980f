//! A large archive as a busy store would have it, and what to ask of it: `cargo xtask bench who`
//! runs this, optimised.
//!
//! Never measures, and never real data: the rows are [`shikiri_archive::sample`]'s. For each day and node it
//! makes one file of the busiest hour, a thousand responses a second, as `every = "1h"` would cut them.
//! Whatever the number of threads, the same files are made; an archive that is there already is left as it is.
//!
//! Invariant: `asked.json` is written last, so that an archive that has one is whole.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};
use shikiri_archive::sample::{JoinedSample, PAGES, Site, page, viewer};
use shikiri_archive::{Batch, Packed, Table};
use shikiri_record::UnixMillis;

const USAGE: &str = "usage: archive-store FOLDER RESPONSES [THREADS]";

/// How many responses a file has at most: about those of an hour.
const FILE_ROWS_MAX: u64 = 4_000_000;

const NODES: [&str; 2] = ["edge-1", "edge-2"];

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or(USAGE)?);
    let responses: u64 = arguments.next().ok_or(USAGE)?.parse()?;
    let threads = arguments.next().map_or(Ok(2), |text| text.parse::<u64>())?;
    let store = Store::of(responses);
    if store.is_there(&folder) {
        return Ok(());
    }
    for old in [folder.join("asked.json"), folder.join("archive")] {
        match old.is_dir() {
            true => fs::remove_dir_all(&old)?,
            false => drop(fs::remove_file(&old)),
        }
    }
    fs::create_dir_all(folder.join("archive"))?;
    let (next, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || -> Result<(), String> {
        loop {
            let hour = next.fetch_add(1, Ordering::Relaxed);
            if hour >= store.hours() {
                return Ok(());
            }
            let made = store.hour(&folder.join("archive"), hour);
            let made = made.map_err(|error| format!("hour {hour}: {error}"))?;
            bytes.fetch_add(made, Ordering::Relaxed);
            eprintln!("{} of {}: {made} bytes", hour + 1, store.hours());
        }
    };
    thread::scope(|scope| {
        let mut running = Vec::new();
        for _ in 0..threads {
            running.push(scope.spawn(work));
        }
        let ended = running.into_iter().map(|it| it.join().expect("no panic"));
        ended.collect::<Result<(), String>>()
    })?;
    let asked = store.asked(bytes.into_inner());
    let coming = folder.join("asked.coming");
    fs::write(&coming, format!("{asked:#}\n"))?;
    fs::rename(coming, folder.join("asked.json"))?;
    Ok(())
}

/// The busiest hours of some days on two nodes.
struct Store {
    days: u64,
    responses: u64,
}

impl Store {
    fn of(responses: u64) -> Self {
        let nodes = wide(NODES.len());
        let days = responses.div_ceil(FILE_ROWS_MAX * nodes).max(1);
        Self { days, responses }
    }

    /// How many hours of one node.
    fn hours(&self) -> u64 {
        self.days * wide(NODES.len())
    }

    /// Whether this was made before.
    fn is_there(&self, folder: &Path) -> bool {
        let text = fs::read_to_string(folder.join("asked.json")).unwrap_or_default();
        let asked: Value = serde_json::from_str(&text).unwrap_or_default();
        asked["version"] == VERSION && asked["responses"] == self.responses
    }

    fn site(day: u64) -> Site {
        let from = UnixMillis(Site::STORE.from.0 + day * DAY_MS);
        Site {
            from,
            ..Site::STORE
        }
    }

    /// Makes the files of an hour of one node, and says how long they are.
    fn hour(&self, archive: &Path, hour: u64) -> Result<u64, Box<dyn Error>> {
        let nodes = wide(NODES.len());
        let node = NODES[usize::try_from(hour % nodes)?];
        let responses =
            self.responses * (hour + 1) / self.hours() - self.responses * hour / self.hours();
        let mut sample = JoinedSample::new(Self::site(hour / nodes), hour + 1);
        let mut batch = Batch::new();
        sample.fill(&mut batch, responses);
        sample.finish(&mut batch);
        let mut bytes = 0;
        for day in batch.days() {
            for table in Table::ALL {
                let coming = archive.join(format!("{hour}.coming"));
                let out = BufWriter::new(File::create(&coming)?);
                let Some((_, mut out)) = batch.write(table, node, day, &Packed::STANDARD, out)?
                else {
                    fs::remove_file(&coming)?;
                    continue;
                };
                out.flush()?;
                let folder = archive.join(format!("{}/day={day}/node={node}", table.name()));
                fs::create_dir_all(&folder)?;
                let path = folder.join(format!("{:010}.parquet", hour / nodes + 1));
                fs::rename(&coming, &path)?;
                bytes += fs::metadata(&path)?.len();
            }
        }
        Ok(bytes)
    }

    /// What to ask: of every twentieth page, in the middle half of the time; of one page that is neither
    /// popular nor not; and of a member who comes as often as others.
    fn asked(&self, bytes: u64) -> Value {
        let hour_ms = self.responses * 1000 / Site::STORE.per_second / self.hours();
        let from = Self::site(self.days / 4).from.0 + hour_ms / 4;
        let to = Self::site(self.days - 1 - self.days / 4).from.0 + hour_ms * 3 / 4;
        let objects = (0..PAGES).skip(19).step_by(20).map(|rank| page(rank).hex());
        json!({
            "version": VERSION,
            "responses": self.responses,
            "days": self.days,
            "nodes": NODES.len(),
            "bytes": bytes,
            "from_ms": from,
            "to_ms": to,
            "objects": objects.collect::<Vec<_>>(),
            "object": page(999).hex(),
            "viewer": viewer(Site::STORE.members / 4).hex(),
        })
    }
}

/// What is made: another makes an archive that was kept be made anew.
const VERSION: u32 = 1;

fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits 64 bits")
}
