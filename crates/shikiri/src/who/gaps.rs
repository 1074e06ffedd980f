//! `shikiri who gaps`: what no answer can say.
//!
//! Never says that nothing is missing where it could not look: what a copy of an archive cannot show is told.

use std::ops::ControlFlow;
use std::process::ExitCode;

use serde_json::{Value, json};
use shikiri_archive::who::Hole;
use shikiri_record::UnixMillis;

use super::out::Out;
use super::sources::{Sources, may_hold, tell};
use super::{GapsArgs, NOT_WHOLE, Shown};
use crate::rows::instant;

pub(super) fn run(args: &GapsArgs) -> Result<ExitCode, String> {
    let sources = Sources::open(&args.at)?;
    let mut out = Out::new(&Shown {
        csv: args.csv,
        json: args.json,
        parquet: None,
        tags: false,
        directory: None,
    })?;
    let window = &args.window;
    let mut gaps = sources.gaps(window)?;
    let read = sources.fresh(&mut |_, _| ControlFlow::Continue(()))?;
    gaps.extend(read.gaps(window).cloned());
    let mut holes: Vec<Hole> = sources.missing(read.shorts())?;
    // Two lives of a node may have rows of the same numbers: what is short and was not found has no place.
    let short: u64 = read.shorts().iter().map(|short| short.rows).sum();
    let found = holes
        .iter()
        .filter_map(|hole| Some(hole.last? - hole.first + 1));
    let not_found = short.saturating_sub(found.sum());
    holes.extend(read.fresh.holes.iter().cloned());
    holes.retain(|hole| may_hold(hole, window));
    let mut line = |what: &str, node: &str, cells: [Value; 6]| {
        let [lane, first, last, from, to, says] = cells;
        out.cells(&[
            ("what", json!(what)),
            ("node", json!(node)),
            ("lane", lane),
            ("first", first),
            ("last", last),
            ("from", from),
            ("to", to),
            ("says", says),
        ])
    };
    let at = |at: Option<UnixMillis>| at.map_or(Value::Null, |at| json!(instant(at)));
    for hole in &holes {
        line(
            "missing",
            &hole.node,
            [
                json!(hole.lane),
                json!(hole.first),
                json!(hole.last),
                at(hole.after),
                at(hole.before),
                json!("responses of that time may lack in answers, or their ends"),
            ],
        )?;
    }
    for (node, gap) in &gaps {
        let says = format!(
            "{} passes without rows: each was its viewer's own",
            gap.responses
        );
        let none = Value::Null;
        let (from, to) = (at(Some(gap.from)), at(Some(gap.to)));
        line(
            "without rows",
            node,
            [none.clone(), none.clone(), none, from, to, json!(says)],
        )?;
    }
    for lane in &read.fresh.lanes {
        if lane.next > lane.from {
            line(
                "not archived",
                &lane.node,
                [
                    json!(lane.lane),
                    json!(lane.from),
                    json!(lane.next - 1),
                    Value::Null,
                    at(lane.newest),
                    json!("read from its segments: in answers all the same"),
                ],
            )?;
        }
    }
    let missing: u64 = holes
        .iter()
        .filter_map(|hole| Some(hole.last? - hole.first + 1))
        .sum();
    let open = holes.iter().filter(|hole| hole.last.is_none()).count();
    let responses: u64 = gaps.iter().map(|(_, gap)| gap.responses).sum();
    let more = match open {
        0 => String::new(),
        n => format!(" and in {n} places nobody knows how many"),
    };
    out.end(&format!(
        "{missing} rows are missing in {} places{more}; {responses} responses without rows",
        holes.len()
    ))?;
    for note in read.notes() {
        tell(note);
    }
    for fault in read.shorts().iter().flat_map(|short| &short.faults) {
        tell(&format!("damaged before it was archived: {fault}"));
    }
    for fault in &read.fresh.faults {
        tell(&format!("damaged: {fault}"));
    }
    if not_found > 0 {
        tell(&format!(
            "{not_found} more rows are missing from batches, and which cannot be said"
        ));
    }
    Ok(
        match holes.is_empty() && not_found == 0 && read.is_placed() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(NOT_WHOLE),
        },
    )
}
