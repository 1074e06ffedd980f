//! `shikiri who fills`: which fetches others were shown, whose they were, and how many saw them.
//!
//! Never holds responses: of each fetch only who was shown it, up to a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::process::ExitCode;

use serde_json::{Value, json};
use shikiri_archive::who::{Question, Served};
use shikiri_incident::whose::Whose;
use shikiri_record::{FillId, UnixMillis};

use super::asked::{Asked, classes};
use super::out::Out;
use super::sources::{Sources, progress};
use super::{FillsArgs, Lacks, each, status};
use crate::rows::instant;

/// How many fetches and viewers of fetches are held at most.
const HELD_MAX: usize = 1 << 22;

/// What is known of a fetch.
struct Fill {
    target: [u8; 16],
    class: std::sync::Arc<str>,
    owners: BTreeSet<[u8; 16]>,
    viewers: BTreeSet<[u8; 16]>,
    responses: u64,
    without: u64,
    not_own: u64,
    bytes: u64,
    first: UnixMillis,
    last: UnixMillis,
}

pub(super) fn run(args: &FillsArgs) -> Result<ExitCode, String> {
    if args.shown.parquet.is_some() {
        return Err("fetches are few: write them with --csv or --json".to_owned());
    }
    let sources = Sources::open(&args.at)?;
    let mut asked = Asked::new(&sources, args.shown.directory.as_deref())?;
    let objects = asked.objects(&args.objects)?;
    let question = Question {
        window: args.window,
        all: objects.into_iter().chain(classes(&args.class)).collect(),
    };
    let lacks = Lacks::of(&sources, &asked, args.window, args.window)?;
    let mut fills: BTreeMap<FillId, Fill> = BTreeMap::new();
    let mut held = 0;
    let read = each(&sources, &question, progress, &mut |served| {
        held += take(&mut fills, &served);
        match held > HELD_MAX {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    if held > HELD_MAX {
        return Err(format!(
            "more than {HELD_MAX} fetches and their viewers: ask for fewer objects, or a shorter window"
        ));
    }
    let mut out = Out::new(&args.shown)?;
    let names = asked.names(args.shown.tags);
    let (mut viewers, mut responses) = (BTreeSet::new(), 0);
    let mut all: Vec<(FillId, Fill)> = fills.into_iter().collect();
    all.sort_by_key(|(id, fill)| (fill.first, *id));
    for (id, fill) in &all {
        responses += fill.responses;
        viewers.extend(fill.viewers.iter().copied());
        let owners = fill.owners.iter().map(|tag| names.member(*tag));
        let owners = owners.collect::<Result<Vec<String>, String>>()?;
        let owner = match owners.is_empty() {
            true => Value::Null,
            false => json!(owners.join(" ")),
        };
        let goes_on = out.cells(&[
            ("fill", json!(id.to_string())),
            ("first", json!(instant(fill.first))),
            ("last", json!(instant(fill.last))),
            ("owner", owner),
            ("viewers", json!(fill.viewers.len())),
            ("responses", json!(fill.responses)),
            ("not_own", json!(fill.not_own)),
            ("without_session", json!(fill.without)),
            ("bytes", json!(fill.bytes)),
            ("class", json!(&*fill.class)),
            ("object", json!(names.target(fill.target)?)),
        ])?;
        if !goes_on {
            return Ok(status(&read, &lacks));
        }
    }
    out.end(&format!(
        "{} fetches, shown in {responses} responses to {} viewers",
        all.len(),
        viewers.len()
    ))?;
    Ok(status(&read, &lacks))
}

/// Adds a response to its fetch. Says how much more is held.
fn take(fills: &mut BTreeMap<FillId, Fill>, served: &Served) -> usize {
    let Some(id) = served.fill else {
        return 0;
    };
    let mut more = 0;
    let fill = fills.entry(id).or_insert_with(|| {
        more += 1;
        Fill {
            target: served.target.0,
            class: std::sync::Arc::clone(&served.class),
            owners: BTreeSet::new(),
            viewers: BTreeSet::new(),
            responses: 0,
            without: 0,
            not_own: 0,
            bytes: 0,
            first: served.began,
            last: served.began,
        }
    });
    let added = fill.viewers.len() + fill.owners.len();
    fill.owners.extend(served.owner.map(|tag| tag.0));
    fill.viewers.extend(served.viewer.map(|tag| tag.0));
    fill.responses += 1;
    fill.without += u64::from(served.viewer.is_none());
    let whose = Whose::of(served.owner, served.viewer_member);
    fill.not_own += u64::from(matches!(whose, Whose::Another | Whose::Somebodys));
    fill.bytes = fill.bytes.saturating_add(served.bytes.unwrap_or(0));
    fill.first = fill.first.min(served.began);
    fill.last = fill.last.max(served.began);
    more + fill.viewers.len() + fill.owners.len() - added
}
