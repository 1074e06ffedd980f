//! How small rows become, and how fast: `cargo xtask bench archive` runs this, optimised.
//!
//! Never measures real data: the rows are [`shikiri_archive::sample`]'s. It reads back what it has
//! written and fails where the rows are not the same.

#![expect(
    clippy::print_stdout,
    reason = "a measurement speaks to its caller on standard output"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parquet::file::reader::FileReader;
use shikiri_archive::sample::{JoinedSample, Site};
use shikiri_archive::{ArchiveFile, Archived, Batch, Packed, Table, Tally};

/// What is asked on the command line.
struct Asked {
    rows: u64,
    file_rows: u64,
    into: PathBuf,
    packed: Packed,
    keeps: bool,
    columns: bool,
    quick: bool,
}

const USAGE: &str =
    "usage: archive-bench [--rows N] [--file-rows N] [--group-rows N] [--page-rows N] \
    [--zstd LEVEL] [--into FOLDER] [--keep] [--columns] [--no-check]
  --rows N        how many responses (1000000)
  --file-rows N   how many in a file (4000000)
  --into FOLDER   where the files go
  --keep          leave them there
  --columns       what each column takes
  --no-check      do not read them back";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked = asked(std::env::args().skip(1))?;
    let mut sample = JoinedSample::new(Site::STORE, 1);
    let (mut left, mut file) = (asked.rows, 0);
    let (mut written, mut rows, mut bytes) = (Tally::default(), 0, 0);
    let (mut read, mut spent) = (Tally::default(), Spent::default());
    while left > 0 {
        let now = left.min(asked.file_rows);
        left -= now;
        let begun = cpu_seconds();
        let mut batch = Batch::new();
        sample.fill(&mut batch, now);
        if left == 0 {
            sample.finish(&mut batch);
        }
        spent.made += cpu_seconds() - begun;
        if !asked.quick {
            batch.each(&mut |archived| written.archived(&archived));
        }
        for day in batch.days() {
            for table in Table::ALL {
                let folder = asked
                    .into
                    .join(format!("{}/day={day}/node=sample", table.name()));
                fs::create_dir_all(&folder)?;
                let path = folder.join(format!("{file:010}.parquet"));
                let begun = cpu_seconds();
                let out = File::create(&path)?;
                let done = batch.write(table, "sample", day, &asked.packed, out)?;
                spent.wrote += cpu_seconds() - begun;
                let Some((count, _)) = done else {
                    fs::remove_file(&path)?;
                    continue;
                };
                if table == Table::Serves {
                    rows += count;
                }
                bytes += fs::metadata(&path)?.len();
                if asked.columns && table == Table::Serves {
                    columns(&path)?;
                }
                if !asked.quick {
                    let begun = cpu_seconds();
                    ArchiveFile::open(&path)?.each(&mut |archived: Archived<'_>| {
                        read.archived(&archived);
                    })?;
                    spent.read += cpu_seconds() - begun;
                }
            }
        }
        file += 1;
        println!("{rows} rows, {bytes} bytes");
    }
    let per = |seconds: f64| rows as f64 / seconds / 1e6;
    println!("{:.2} bytes a row", bytes as f64 / rows as f64);
    println!(
        "{:.2} million rows made and joined in a second of CPU time, {:.2} written, {:.2} read back",
        per(spent.made),
        per(spent.wrote),
        per(spent.read)
    );
    if !asked.keeps {
        fs::remove_dir_all(&asked.into)?;
    }
    if written != read {
        return Err(format!("{written} were written, and {read} read").into());
    }
    Ok(())
}

/// How long this process has computed: what else the machine does is not counted. Where the system does
/// not tell there is nothing to say, and the rates are no numbers.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold anything; after it come the state and the numbers.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|text| text.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}

/// Seconds.
#[derive(Default)]
struct Spent {
    made: f64,
    wrote: f64,
    read: f64,
}

/// What each column takes of a file.
fn columns(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let file = ArchiveFile::open(path)?;
    let metadata = file.parquet().metadata();
    let rows = file.rows() as f64;
    for (n, column) in file.table().columns().iter().enumerate() {
        let groups = metadata.row_groups().iter();
        let bytes: i64 = groups
            .clone()
            .map(|it| it.column(n).compressed_size())
            .sum();
        let head: i64 = groups
            .map(|it| it.column(n))
            .filter_map(|it| Some(it.data_page_offset() - it.dictionary_page_offset()?))
            .sum();
        println!(
            "{:>14} {:6.3} bytes a row, {:6.3} of them dictionary",
            column.name,
            bytes as f64 / rows,
            head as f64 / rows
        );
    }
    println!("{:>14} {} row groups", "", metadata.num_row_groups());
    Ok(())
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let temporary = format!("archive-bench-{}", std::process::id());
    let mut asked = Asked {
        rows: 1_000_000,
        file_rows: 4_000_000,
        into: std::env::temp_dir().join(temporary),
        packed: Packed::STANDARD,
        keeps: false,
        columns: false,
        quick: false,
    };
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| USAGE.to_owned());
        let number = |text: String| text.parse::<u64>().map_err(|_| USAGE.to_owned());
        match flag.as_str() {
            "--rows" => asked.rows = number(value()?)?,
            "--file-rows" => asked.file_rows = number(value()?)?,
            "--group-rows" => asked.packed.group_rows = number(value()?)?,
            "--page-rows" => {
                asked.packed.page_rows =
                    usize::try_from(number(value()?)?).map_err(|_| USAGE.to_owned())?;
            }
            "--zstd" => {
                asked.packed.zstd_level =
                    i32::try_from(number(value()?)?).map_err(|_| USAGE.to_owned())?;
            }
            "--into" => asked.into = value()?.into(),
            "--keep" => asked.keeps = true,
            "--columns" => asked.columns = true,
            "--no-check" => asked.quick = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(asked)
}
