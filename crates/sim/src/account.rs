//! What evidence must say of what clients saw. Of the edge these checkers know the documented form of
//! its rows, and nothing else.
//!
//! A response *shows* something when it holds an origin's or a stored byte; the node's own words do
//! not. Rows and responses are brought together by what both know: the client's address, the full
//! target, the method and the status.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{Exchange, Finding};
use crate::http2::Came;
use crate::origin::Asked;
use crate::policy::GATE;
use crate::rows::{self, Begin, COMPLETE, End, Evidence, PASS, Tag, tag};
use crate::schedule::{Protocol, Schedule, rendered};
use crate::secret::{Who, owners, stamps};
use crate::wire::{Response, field};
use crate::world::{Got, Seen};

fn finding(checker: &'static str, what: String) -> Finding {
    Finding { checker, what }
}

/// Requests that rows cannot tell apart.
type Alike = (Tag, Tag, &'static str);

/// What clients saw of requests that are alike.
#[derive(Default)]
struct Saw<'a> {
    shown: Vec<(&'a Exchange<'a>, &'a Response)>,
    /// Of these nobody can say whether anything was shown: no head arrived.
    unknown: usize,
}

/// Whether a response holds bytes of an origin or of the store.
fn shows(response: &Response) -> bool {
    field(&response.head, "cache-status").is_some() || !stamps(&response.head).is_empty()
}

/// Whether a response says where it ends. One that ends with its connection (RFC 9112 6.3) looks whole
/// however much of it came.
fn says_its_end(response: &Response) -> bool {
    let fields = ["content-length", "transfer-encoding"];
    response.head.starts_with(b"HTTP/2")
        || fields
            .iter()
            .any(|name| field(&response.head, name).is_some())
}

/// Judges the evidence of one run.
pub(crate) fn accounts(
    schedule: &Schedule,
    exchanges: &[Exchange<'_>],
    seen: &Seen,
) -> Result<(), Finding> {
    let evidence = rows::read(&seen.disk, false).map_err(|why| finding("evidence", why))?;
    nothing_raw(seen)?;
    let saw = sorted(schedule, exchanges, seen);
    let rows = alike(&evidence);
    every_row_ends_once(&evidence)?;
    nothing_is_shown_without_a_row(&saw, &rows, &evidence)?;
    rows_tell_the_truth(&saw, &rows, &evidence, seen)?;
    interims_have_rows(schedule, &evidence, seen)?;
    viewers_are_told_apart(schedule, &evidence)?;
    if let Some((at, disk)) = &seen.killed {
        what_left_before_outlives(*at, schedule, exchanges, seen, disk)?;
    }
    counts_add_up(schedule, &evidence, seen)
}

/// Every request became a row, a response that a gap row counts, the node's own words, or nobody's.
fn counts_add_up(schedule: &Schedule, evidence: &Evidence, seen: &Seen) -> Result<(), Finding> {
    let c = &seen.counts;
    let rows = evidence.begins.iter().filter(|begin| begin.status >= 200);
    let rows = u64::try_from(rows.count()).expect("few");
    let adds_up = c.requests == c.rows + c.gaps + c.own + c.abandoned && c.running == 0;
    let are_told = c.rows == rows && c.gaps == evidence.gaps;
    if !adds_up || !are_told || c.gaps > 0 && !schedule.wants_space() {
        let what = format!("{rows} rows and {} gaps do not fit {c:?}", evidence.gaps);
        return Err(finding("evidence", what));
    }
    Ok(())
}

/// Bytes without the zeroes after them, in which nobody says anything: most of a segment is set aside.
fn without_zeroes(bytes: &[u8]) -> &[u8] {
    const BLOCK: usize = 256;
    let mut end = bytes.len();
    while end >= BLOCK && bytes[end - BLOCK..end] == [0; BLOCK] {
        end -= BLOCK;
    }
    &bytes[..end]
}

/// No raw identifier, and nothing that a member or an origin said, is ever written.
fn nothing_raw(seen: &Seen) -> Result<(), Finding> {
    for path in seen.disk.paths() {
        let bytes = rows::contents(&seen.disk, &path)
            .map_err(|error| finding("evidence", error.to_string()))?;
        let bytes = without_zeroes(&bytes);
        let words: [&[u8]; 3] = [b"sim/", b".test", b"/a.css"];
        let said = words
            .iter()
            .any(|word| bytes.windows(word.len()).any(|window| window == *word));
        if said || !owners(bytes).is_empty() || !stamps(bytes).is_empty() {
            let what = format!("{} holds what somebody said", path.display());
            return Err(finding("evidence", what));
        }
    }
    Ok(())
}

fn address_of(schedule: &Schedule, client: usize) -> Tag {
    tag(&[b"address", &schedule.clients[client].address])
}

fn key(schedule: &Schedule, exchange: &Exchange<'_>, seen: &Seen) -> Alike {
    let request = exchange.request;
    let scheme = schedule.clients[exchange.client].scheme(request);
    let target = rendered(&request.target, request.who, seen.secrets);
    let mut parts = vec![&b"target"[..], scheme.as_bytes(), request.host.as_bytes()];
    match target.split_once('?') {
        Some((path, query)) => parts.extend([path.as_bytes(), query.as_bytes()]),
        None => parts.push(target.as_bytes()),
    }
    let target = tag(&parts);
    (
        address_of(schedule, exchange.client),
        target,
        request.method,
    )
}

fn sorted<'a>(
    schedule: &Schedule,
    exchanges: &'a [Exchange<'a>],
    seen: &Seen,
) -> BTreeMap<Alike, Saw<'a>> {
    let mut saw: BTreeMap<Alike, Saw<'a>> = BTreeMap::new();
    for exchange in exchanges {
        let saw = saw.entry(key(schedule, exchange, seen)).or_default();
        match &exchange.response {
            None => saw.unknown += 1,
            Some(response) if shows(response) => saw.shown.push((exchange, response)),
            Some(_) => {}
        }
    }
    saw
}

/// The rows of final responses.
fn alike(evidence: &Evidence) -> BTreeMap<(Tag, Tag, &str), Vec<&Begin>> {
    let mut rows: BTreeMap<_, Vec<&Begin>> = BTreeMap::new();
    for begin in evidence.begins.iter().filter(|begin| begin.status >= 200) {
        let key = (begin.address, begin.target, begin.method.as_str());
        rows.entry(key).or_default().push(begin);
    }
    rows
}

fn every_row_ends_once(evidence: &Evidence) -> Result<(), Finding> {
    let begun: BTreeSet<_> = evidence
        .begins
        .iter()
        .map(|begin| (&begin.lane, begin.sequence))
        .collect();
    let ended: Vec<_> = evidence
        .ends
        .iter()
        .map(|end| (&end.lane, end.begin))
        .collect();
    let once: BTreeSet<_> = ended.iter().copied().collect();
    if once.len() != ended.len() || once != begun {
        let what = format!("{} rows begin and {} end", begun.len(), ended.len());
        return Err(finding("evidence", what));
    }
    Ok(())
}

/// No evidence, no bytes: what was shown has its row, or is a pass that a gap row counts; and what was
/// refused has none.
fn nothing_is_shown_without_a_row(
    saw: &BTreeMap<Alike, Saw<'_>>,
    rows: &BTreeMap<(Tag, Tag, &str), Vec<&Begin>>,
    evidence: &Evidence,
) -> Result<(), Finding> {
    let (mut without, mut unknown) = (0, 0);
    for (key, saw) in saw {
        let mut left: Vec<u16> = rows
            .get(key)
            .into_iter()
            .flatten()
            .map(|begin| begin.status)
            .collect();
        for (exchange, response) in &saw.shown {
            match left.iter().position(|status| *status == response.status()) {
                Some(at) => drop(left.swap_remove(at)),
                None if evidence.gaps > without => without += 1,
                None => {
                    let what = format!(
                        "request {} was shown something and has no row",
                        exchange.request.id
                    );
                    return Err(finding("no evidence, no bytes", what));
                }
            }
        }
        if left.len() > saw.unknown {
            let what = format!(
                "{} rows of responses that nobody got, like request {:?}",
                left.len(),
                saw.shown.first().map(|(exchange, _)| exchange.request.id)
            );
            return Err(finding("evidence", what));
        }
        unknown += saw.unknown - left.len();
    }
    let most = without + u64::try_from(unknown).expect("few");
    if evidence.gaps > most {
        let what = format!(
            "gap rows tell of {} responses, and there are {most} at most",
            evidence.gaps
        );
        return Err(finding("evidence", what));
    }
    let strange = rows.keys().any(|(address, target, method)| {
        !saw.keys()
            .any(|key| (key.0, key.1, key.2) == (*address, *target, *method))
    });
    if strange {
        return Err(finding(
            "evidence",
            "a row of a request that nobody sent".to_owned(),
        ));
    }
    Ok(())
}

/// Where a row can be one response's alone: what it says of it is so.
fn rows_tell_the_truth(
    saw: &BTreeMap<Alike, Saw<'_>>,
    rows: &BTreeMap<(Tag, Tag, &str), Vec<&Begin>>,
    evidence: &Evidence,
    seen: &Seen,
) -> Result<(), Finding> {
    let ends: BTreeMap<(&str, u64), &End> = evidence
        .ends
        .iter()
        .map(|end| ((end.lane.as_str(), end.begin), end))
        .collect();
    for (key, saw) in saw {
        let (Some([row]), [(exchange, response)], 0) = (
            rows.get(key).map(Vec::as_slice),
            saw.shown.as_slice(),
            saw.unknown,
        ) else {
            continue;
        };
        let id = exchange.request.id;
        let end = ends[&(row.lane.as_str(), row.sequence)];
        let data = u64::try_from(response.data).expect("a length fits 64 bits");
        let complete = end.ended == COMPLETE && end.bytes == data;
        if response.whole && says_its_end(response) && !complete || end.bytes < data {
            let what = format!(
                "request {id} got {data} bytes of {}: {end:?}",
                response.whole
            );
            return Err(finding("evidence", what));
        }
        let passes = row.outcome == PASS;
        // The cookies of a gate's answer leave with what it opened.
        let is_of_a_gate = |asked: &&Asked| !passes && asked.target.starts_with(GATE);
        let made_for: BTreeSet<bool> = stamps(&response.head)
            .iter()
            .filter_map(|stamp| seen.asked.iter().find(|asked| asked.stamp == *stamp))
            .filter(|asked| !asked.surplus && !asked.after_surplus && !is_of_a_gate(asked))
            .map(|asked| asked.request.is_some())
            .collect();
        if made_for.contains(&!passes) || passes == row.has_fill {
            let what = format!("request {id} was shown another thing than its row says: {row:?}");
            return Err(finding("evidence", what));
        }
    }
    Ok(())
}

/// An early hint is an origin's word, too.
fn interims_have_rows(
    schedule: &Schedule,
    evidence: &Evidence,
    seen: &Seen,
) -> Result<(), Finding> {
    for (n, got) in seen.clients.iter().enumerate() {
        let hints = got.streams.values().flat_map(|stream| &stream.came);
        let hints = hints.filter(
            |(_, came)| matches!(came, Came::Interim(head) if !head.starts_with(b"HTTP/2 100")),
        );
        let address = address_of(schedule, n);
        let rows = evidence
            .begins
            .iter()
            .filter(|begin| begin.status < 200 && begin.address == address);
        if hints.count() > rows.count() {
            let what = format!("client {n} got hints that have no row");
            return Err(finding("no evidence, no bytes", what));
        }
    }
    Ok(())
}

/// A member's rows show a viewer, and never another member's.
fn viewers_are_told_apart(schedule: &Schedule, evidence: &Evidence) -> Result<(), Finding> {
    let mut of: BTreeMap<Tag, Who> = BTreeMap::new();
    for (n, client) in schedule.clients.iter().enumerate() {
        let whose: BTreeSet<Who> = client.requests().map(|(_, request)| request.who).collect();
        let [who] = whose.into_iter().collect::<Vec<_>>()[..] else {
            continue;
        };
        let address = address_of(schedule, n);
        for begin in evidence
            .begins
            .iter()
            .filter(|begin| begin.address == address)
        {
            let Some(viewer) = begin.viewer else {
                let known = client.requests().all(|(_, r)| client.has_credentials(r));
                if who != Who::C && known {
                    let what = format!("a row of {who:?} shows no viewer: {begin:?}");
                    return Err(finding("evidence", what));
                }
                continue;
            };
            if *of.entry(viewer).or_insert(who) != who {
                let what = format!("one viewer for {who:?} and {:?}", of[&viewer]);
                return Err(finding("evidence", what));
            }
        }
    }
    Ok(())
}

/// `kill -9` at an instant: what any byte had left of before has its row on the disk.
fn what_left_before_outlives(
    at: u64,
    schedule: &Schedule,
    exchanges: &[Exchange<'_>],
    seen: &Seen,
    disk: &shikiri_evidence::MemoryDisk,
) -> Result<(), Finding> {
    let left = rows::read(disk, true).map_err(|why| finding("evidence", why))?;
    let mut rows: BTreeMap<_, Vec<u16>> = BTreeMap::new();
    for begin in left.begins.iter().filter(|begin| begin.status >= 200) {
        let key = (begin.address, begin.target, begin.method.as_str());
        rows.entry(key).or_default().push(begin.status);
    }
    // A gap row is written when there is space again: a pass without rows is known by being one alone.
    let mut forgiven = seen.counts.gaps;
    for exchange in exchanges {
        let Some(response) = exchange.response.as_ref().filter(|r| shows(r)) else {
            continue;
        };
        let got = &seen.clients[exchange.client];
        let came = match schedule.clients[exchange.client].protocol {
            Protocol::Http1 => came_at(got, response.starts),
            Protocol::Http2 => got.streams.get(&exchange.request.id).and_then(|stream| {
                let head = |(at, came): &(u64, Came)| matches!(came, Came::Head(_)).then_some(*at);
                stream.came.iter().find_map(head)
            }),
        };
        if came.is_none_or(|came| came >= at) {
            continue;
        }
        let key = key(schedule, exchange, seen);
        let rows = rows.entry((key.0, key.1, key.2)).or_default();
        match rows.iter().position(|status| *status == response.status()) {
            Some(place) => drop(rows.swap_remove(place)),
            None if forgiven > 0 => forgiven -= 1,
            None => {
                let what = format!(
                    "request {} had an answer at {came:?}, and no row when the node was killed at {at}",
                    exchange.request.id
                );
                return Err(finding("no evidence, no bytes", what));
            }
        }
    }
    Ok(())
}

/// When the byte at a place came.
fn came_at(got: &Got, place: usize) -> Option<u64> {
    let mut before = 0;
    let piece = got.pieces.iter().find(|(_, bytes)| {
        before += bytes.len();
        before > place
    });
    piece.map(|(at, _)| *at)
}
