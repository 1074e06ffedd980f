//! Entries from elsewhere: a table, or what `show --json` tells.
//!
//! Never a part of a file: one row that cannot be read, and nothing is added.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shikiri_edge::admin::site::WantedEntry;
use shikiri_incident::encoding::Encoding;
use shikiri_incident::exchange;
use shikiri_record::Entry;

use super::own::Numbered;
use super::{InZone, Of, fixed, own, put_on_edge};
use crate::{now, say};

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Flags of `shikiri timeline import`.
#[derive(clap::Args)]
#[command(
    after_help = "A table (`.csv`): its first row names the columns. `when` and `what` must be there; `until`, \
`source`, `status`, `text`, `supersedes`, `who`, `channel` and `seen` may. `what` is reported, finding, passed, \
failed, stated, corrected, withdrawn, or changes of the site (cache_in_front, cache_gone, opened, closed_at_edge, \
closed_at_origin, closed, purged_all, purged_part, measure) with blanks between them; `who` is the reporter, or \
the name of the finding, check or statement. `supersedes` is a number on the timeline that it is put on.

Lines of JSON (`.jsonl`): as `show --json` tells them; numbers of entries in the file are kept up with.

Examples:
  shikiri timeline import --in march-2020 --zone Asia/Tokyo notes.csv
  shikiri timeline show --json | shikiri timeline import --in copy --json -"
)]
pub(crate) struct ImportArgs {
    /// The file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    zone: InZone,
    /// How it is written: `shift_jis` (as spreadsheets in Japan save tables), `euc-jp`, `iso-2022-jp`, `utf-16le`. A mark
    /// at its beginning says so by itself.
    #[arg(long, value_name = "NAME", default_value = "utf-8", value_parser = encoding)]
    encoding: Encoding,
    /// It is lines of JSON, whatever it is called.
    #[arg(long)]
    json: bool,
}

pub(super) fn import(args: &ImportArgs) -> Result<(), String> {
    let shown = args.file.display();
    let fault = |why: String| format!("{shown}: {why}; nothing was added");
    let bytes = bytes_of(&args.file).map_err(|error| fault(error.to_string()))?;
    let text = args.encoding.read_whole(&bytes).map_err(|may_be| {
        let may_be = may_be.map(|it| format!("; it may be: say `--encoding {}`", it.name()));
        let named = args.encoding.name();
        fault(format!("it is not {named}{}", may_be.unwrap_or_default()))
    })?;
    let ends = |end: &str| args.file.extension().is_some_and(|it| it == end);
    let entries = if args.json || ends("jsonl") || ends("json") {
        of_json(&text).map_err(fault)?
    } else {
        let zone = fixed(&args.zone.zone()?, now());
        let entries = exchange::from_csv(&text, zone, own::DESK, &own::actor());
        let entries = entries.map_err(|why| fault(why.to_string()))?;
        entries.into_iter().map(|entry| (None, entry)).collect()
    };
    let added = entries.len();
    match &args.of.own {
        _ if entries.is_empty() => {}
        Some(folder) => {
            own::append(folder, entries).map_err(fault)?;
        }
        None => on_edge(&args.of.at.socket()?, entries)?,
    }
    say(&format!("{added} entries were put on the timeline\n"))
}

/// One after another: a running edge takes each for itself.
fn on_edge(socket: &Path, entries: Vec<Numbered>) -> Result<(), String> {
    let mut numbers = BTreeMap::new();
    for (done, (number, entry)) in entries.into_iter().enumerate() {
        let known = |of: u64| numbers.get(&of).copied().unwrap_or(of);
        let wanted = WantedEntry {
            what: entry.what,
            earliest: Some(entry.earliest),
            latest: Some(entry.latest),
            source: entry.source,
            status: entry.status,
            text: entry.text,
            supersedes: entry.supersedes.map(known),
        };
        let place = put_on_edge(socket, &wanted)
            .map_err(|why| format!("{done} entries were added, and then: {}", why.trim_end()))?;
        numbers.extend(number.map(|number| (number, place)));
    }
    Ok(())
}

fn encoding(name: &str) -> Result<Encoding, String> {
    Encoding::named(name).ok_or_else(|| {
        let known = Encoding::NAMES.join(", ");
        format!("no encoding is called so; there are {known}")
    })
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut text)
    } else {
        File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut text)
    };
    match u64::try_from(read?) {
        Ok(bytes) if bytes <= FILE_BYTES_MAX => Ok(text),
        _ => Err(io::Error::other("it is longer than 64 MiB")),
    }
}

/// A line of `show --json`; an entry alone has no number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Placed { sequence: u64, entry: Entry },
    Alone(Entry),
}

fn of_json(text: &str) -> Result<Vec<Numbered>, String> {
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let entry = |(number, line): (u64, &str)| {
        let line: Line = serde_json::from_str(line)
            .map_err(|_| format!("line {number} is no entry of a timeline"))?;
        Ok(match line {
            Line::Placed { sequence, entry } => (Some(sequence), entry),
            Line::Alone(entry) => (None, entry),
        })
    };
    lines.map(entry).collect()
}
