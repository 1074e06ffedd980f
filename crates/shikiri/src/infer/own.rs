//! `shikiri infer --evidence`: who saw whose, from our own rows.
//!
//! It reads the rows three times, up to where they ended the first time: a node may go on writing. Never changes them.
//!
//! Invariant: of a response whose end no row tells, nobody says how much was seen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};
use shikiri_incident::Zone;
use shikiri_incident::access::{Access, Edge};
use shikiri_incident::exposure::Exposure;
use shikiri_incident::infer::{Gather, OriginLog, View};
use shikiri_incident::negative::NotViewed;
use shikiri_incident::own::{Doubt, FirstReading, Reading, site};
use shikiri_incident::tally::Tally;
use shikiri_incident::windows::Windows;
use shikiri_record::{Row, UnixMillis};

use super::{Args, SETS_MAX, result_text, stated, view_json, windows};
use crate::import::{made, wrote};
use crate::rows::{Lanes, lanes_in};
use crate::say;

/// No more responses wait for their end rows; the oldest are told without.
const OPEN_MAX: usize = 1 << 20;

/// The rows of a node are one store's.
const EDGE: Edge = Edge(0);

/// Up to where each lane's rows were read the first time.
type Ends = BTreeMap<u32, u64>;

pub(super) fn run(args: &Args, folder: &Path) -> Result<(), String> {
    let doubt = match args.doubt.iter().any(|class| class == "all") {
        true => Doubt::Everything,
        false if args.doubt.is_empty() => Doubt::Nothing,
        false => Doubt::Classes(args.doubt.iter().cloned().collect()),
    };
    let windows: Option<Windows> = args.timeline.as_deref().map(windows).transpose()?;
    let mut first = FirstReading::default();
    let mut ends = Ends::new();
    let (mut rows, mut lanes) = (0_u64, lanes_in(folder, None)?);
    while let Some(read) = lanes.next()? {
        first.row(&read.row(), read.at);
        ends.insert(read.lane, read.sequence);
        rows += 1;
    }
    let is_whole = lanes.is_whole();
    say(&format!(
        "Evidence\n  {}: {rows} rows, {}; {} passes without rows\n  doubted: {}\n",
        folder.display(),
        match is_whole {
            true => "numbered, and none is missing",
            false => "and some are missing or changed: nothing is proven by them",
        },
        first.passes_without_rows(),
        match &doubt {
            Doubt::Nothing => "nothing: what was fetched to be shared was nobody's".to_owned(),
            Doubt::Classes(classes) => classes
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            Doubt::Everything => "every class".to_owned(),
        }
    ))?;
    let site = site([(EDGE, first.log(is_whole))].into());
    let reading = Reading {
        edge: EDGE,
        first: &first,
        doubt: &doubt,
    };
    let mut gather = Gather::new(&site, OriginLog::default(), args.facts_max)
        .map_err(|fault| fault.to_string())?;
    each(lanes_in(folder, None)?, &ends, |row, read| {
        let Row::Begin(begin) = row else {
            return Ok(());
        };
        match reading.fetch(begin, read.at) {
            Some(access) => gather.access(&access).map_err(|fault| fault.to_string()),
            None => Ok(()),
        }
    })?;
    let known = gather.settle();
    let mut exposure = Exposure::new(SETS_MAX);
    let mut tally = windows.clone().map(Tally::new);
    let mut views = args.views.as_ref().map(made).transpose()?.map(Views::new);
    each(lanes_in(folder, None)?, &ends, |row, read| match row {
        Row::Begin(begin) => {
            let Some((access, view)) = reading.view(&known, begin, read.at) else {
                return Ok(());
            };
            exposure.add(&access, &view);
            if let Some(tally) = &mut tally {
                tally.add(access.times.during(), 0, access.viewer);
            }
            match &mut views {
                Some(views) => views.begun(&read, begin.class, &access, &view),
                None => Ok(()),
            }
        }
        Row::End(end) => match &mut views {
            Some(views) => views.ended((read.lane, end.begin), end.bytes, end.ended.name()),
            None => Ok(()),
        },
        _ => Ok(()),
    })?;
    if let Some(views) = views {
        views.finish()?;
    }
    say(&result_text(&site, &known, &exposure, tally.as_ref()))?;
    match (windows, &args.statement) {
        (Some(windows), Some(path)) => {
            let statement = NotViewed::of(&site, &windows, &known, &exposure);
            let stores = format!("  store {} is {}\n", EDGE.0, folder.display());
            stated(statement, (path, args.sign.as_deref()), Zone::UTC, &stores)
        }
        _ => Ok(()),
    }
}

/// Where a row stands.
struct At {
    lane: u32,
    sequence: u64,
    at: UnixMillis,
}

/// Each row up to these ends.
fn each(
    mut lanes: Lanes,
    ends: &Ends,
    mut take: impl FnMut(&Row<'_>, At) -> Result<(), String>,
) -> Result<(), String> {
    while let Some(read) = lanes.next()? {
        if ends.get(&read.lane).is_none_or(|end| read.sequence > *end) {
            continue;
        }
        let at = At {
            lane: read.lane,
            sequence: read.sequence,
            at: read.at,
        };
        take(&read.row(), at)?;
    }
    Ok(())
}

/// Lines of JSON, each once its response is over.
struct Views {
    file: BufWriter<File>,
    open: BTreeMap<(u32, u64), Value>,
}

impl Views {
    const fn new(file: BufWriter<File>) -> Self {
        Self {
            file,
            open: BTreeMap::new(),
        }
    }

    fn begun(&mut self, at: &At, class: &str, access: &Access, view: &View) -> Result<(), String> {
        let mut told = view_json(access, view);
        told["lane"] = at.lane.into();
        told["row"] = at.sequence.into();
        told["class"] = class.into();
        told["target"] = access.key.hex().into();
        told["bytes_max"] = Value::Null;
        told["ended"] = json!("not told");
        self.open.insert((at.lane, at.sequence), told);
        if self.open.len() > OPEN_MAX
            && let Some((_, oldest)) = self.open.pop_first()
        {
            wrote(writeln!(self.file, "{oldest}"))?;
        }
        Ok(())
    }

    /// So many bytes were handed on: as many or fewer were seen.
    fn ended(&mut self, begin: (u32, u64), bytes: u64, how: &str) -> Result<(), String> {
        let Some(mut told) = self.open.remove(&begin) else {
            return Ok(());
        };
        told["bytes_max"] = bytes.into();
        told["ended"] = how.into();
        wrote(writeln!(self.file, "{told}"))
    }

    fn finish(mut self) -> Result<(), String> {
        for told in self.open.values() {
            wrote(writeln!(self.file, "{told}"))?;
        }
        wrote(self.file.flush())
    }
}
