//! A timeline of its own: a folder of the form that a node's has, for a site whose cache is not ours.
//!
//! Never changes what is there: entries are appended, one writer at a time, each chained to all before it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use shikiri_edge::admin::site::WantedEntry;
use shikiri_edge::chronicle::{Chronicle, Opened};
use shikiri_evidence::{BootId, RealDisk, Run};
use shikiri_partition::Knowledge;
use shikiri_record::{Actor, Entry, TIMELINE_VERSION, UnixMillis, What};

use crate::now;

/// What stands in an entry for the node that wrote it.
pub(super) const DESK: &str = "desk";

/// Who writes: the user that this machine knows.
pub(super) fn actor() -> Actor {
    Actor::User {
        uid: rustix::process::getuid().as_raw(),
        name: std::env::var("USER").unwrap_or_default(),
    }
}

/// An entry to be put on a timeline, with the number that others in the same file know it by.
pub(super) type Numbered = (Option<u64>, Entry);

/// Puts somebody's word on a timeline, which is made where there is none. Returns its number.
///
/// # Errors
/// In words: the timeline cannot be read or written, or the word makes no sense there.
pub(super) fn put(folder: &Path, wanted: WantedEntry) -> Result<u64, String> {
    append(folder, vec![(None, entry_of(wanted, now())?)])
}

/// Appends entries: all, or none where one makes no sense. Returns the number of the last.
///
/// # Errors
/// As [`put`].
pub(super) fn append(folder: &Path, entries: Vec<Numbered>) -> Result<u64, String> {
    let now = now();
    let boot = BootId::random().map_err(|error| format!("no randomness: {error}"))?;
    let opened = Chronicle::open(
        Arc::new(RealDisk),
        folder,
        &Run::unsigned(DESK, boot),
        false,
        now,
    );
    let Opened {
        chronicle,
        knowledge,
        damage,
        ..
    } = opened.map_err(|fault| fault.to_string())?;
    if knowledge != Knowledge::Whole {
        return Err(format!(
            "the timeline in {} is damaged, and nothing was added: {}",
            folder.display(),
            damage.join("; ")
        ));
    }
    let entries = placed(entries, chronicle.next(), now)?;
    let mut last = 0;
    for entry in entries {
        let appended = chronicle.append(&entry, now);
        last = appended.map_err(|fault| fault.to_string())?;
    }
    chronicle.release(now);
    Ok(last)
}

/// Entries as they stand from this number on.
fn placed(entries: Vec<Numbered>, first: u64, now: UnixMillis) -> Result<Vec<Entry>, String> {
    let mut numbers = BTreeMap::new();
    let mut all = Vec::new();
    for (place, (number, mut entry)) in (first..).zip(entries) {
        let known = |of: u64| numbers.get(&of).copied().unwrap_or(of);
        entry.supersedes = entry.supersedes.map(known);
        numbers.extend(number.map(|number| (number, place)));
        if let Some(of) = entry.supersedes.filter(|of| *of >= place) {
            return Err(format!("there is no entry {of} to supersede"));
        }
        if entry.latest > now {
            return Err("what is put on the timeline has happened already".into());
        }
        entry.encode().map_err(|fault| fault.to_string())?;
        all.push(entry);
    }
    Ok(all)
}

fn entry_of(wanted: WantedEntry, now: UnixMillis) -> Result<Entry, String> {
    let earliest = wanted.earliest.or(wanted.latest).unwrap_or(now);
    let latest = wanted.latest.unwrap_or(earliest);
    let is_about_another = matches!(wanted.what, What::Corrected {} | What::Withdrawn {});
    if is_about_another && wanted.supersedes.is_none() {
        return Err("name the entry that this is about".into());
    }
    if wanted.text.trim().is_empty() || wanted.source.trim().is_empty() {
        return Err("say what was said, and whose word it is".into());
    }
    Ok(Entry {
        version: TIMELINE_VERSION,
        earliest,
        latest,
        node: DESK.to_owned(),
        actor: actor(),
        source: wanted.source,
        status: wanted.status,
        what: wanted.what,
        text: wanted.text,
        supersedes: wanted.supersedes,
    })
}
