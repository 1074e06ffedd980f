//! What an operator asks of the site and tells it: mode, purges, preview grants, words for the timeline.
//!
//! JSON in, JSON out. Never decides who may do what ([`super::permission`] has), and never what a change
//! means ([`crate::change`] does). Every change has a reason, and its answer says what it has done.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use shikiri_record::{
    ENTRY_TEXT_BYTES_MAX, Entry, Epoch, Grant, GrantId, KeyDone, Mode, Order, PurgeTarget, Status,
    TIMELINE_VERSION, UnixMillis, What,
};

use super::{Actor, JSON, Said};
use crate::change::{self, ChangeFault, Covered, Recorded};
use crate::node::Node;

/// Targets of one purge.
const TARGETS_MAX: usize = 10_000;

/// A mode that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedMode {
    /// The mode.
    pub mode: Mode,
    /// Why.
    pub reason: String,
    /// When it is planned to open again.
    #[serde(default)]
    pub reopening: Option<UnixMillis>,
    /// Say what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A plan that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedReopening {
    /// When to open again; nothing where no time is to be named.
    pub at: Option<UnixMillis>,
    /// Why.
    pub reason: String,
}

/// What a site does now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteNow {
    /// The mode in force.
    pub mode: Mode,
    /// When it is planned to open again.
    pub reopening: Option<UnixMillis>,
    /// The time zone in which the node tells times.
    pub zone: String,
    /// The digest of the rules in force.
    pub rules: String,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Classes whose copies are shared in this mode.
    pub shared: Vec<String>,
    /// Stored objects.
    pub stored: usize,
    /// When the last request came.
    pub last_request: Option<UnixMillis>,
    /// The node's time.
    pub now: UnixMillis,
    /// Entries that are not on the timeline yet.
    pub unwritten: usize,
}

/// What became of a wanted mode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModeAnswer {
    /// The mode before.
    pub from: Mode,
    /// The mode that was wanted.
    pub to: Mode,
    /// Whether it is in force; not after a dry run.
    pub in_force: bool,
    /// Classes whose copies are shared from then on and were not before.
    pub newly_shared: Vec<String>,
    /// Classes whose copies are shared no longer.
    pub no_longer_shared: Vec<String>,
    /// Objects that the site has stored.
    pub stored: usize,
    /// Its place on the timeline.
    pub entry: Option<u64>,
    /// Why it is not on the timeline yet.
    pub not_recorded: Option<String>,
    /// What was cut, where the site was closed.
    pub closed: Option<ClosedAnswer>,
}

/// What a closing did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ClosedAnswer {
    /// Client connections that were reset.
    pub connections: u64,
    /// Responses that were on their way on them.
    pub streams: u64,
    /// Milliseconds until nothing that began before could be sent any more.
    pub took_ms: u64,
    /// Connections that had not said so in time.
    pub behind: u64,
}

/// A purge that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedPurge {
    /// What.
    pub targets: Vec<PurgeTarget>,
    /// Why, if that is worth a word.
    #[serde(default)]
    pub reason: String,
    /// Say what would be covered, and purge nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a wanted purge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PurgeAnswer {
    /// The targets as they were understood.
    pub targets: Vec<PurgeTarget>,
    /// Whether it holds; not after a dry run.
    pub done: bool,
    /// Stored objects that were freed.
    pub objects: u64,
    /// The URIs that they were stored for.
    pub uris: u64,
    /// Bytes that they took.
    pub bytes: u64,
    /// Fills that run and will not be stored; where tags or groups are purged, those that may bear them.
    pub filling: u64,
    /// Whatever began before this place in the node's order is dead.
    pub order: Option<Order>,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Why it is not on the timeline yet.
    pub not_recorded: Option<String>,
}

/// A preview grant that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedGrant {
    /// Who it is for.
    pub name: String,
    /// For how long.
    pub seconds: u64,
    /// The mode that its bearer sees.
    pub mode: Mode,
    /// Why, if that is worth a word.
    #[serde(default)]
    pub reason: String,
}

/// A grant that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantAnswer {
    /// The grant.
    pub grant: Grant,
    /// Its token: shown once, and kept nowhere.
    pub token: String,
}

/// A grant that is to be taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedRevocation {
    /// Its id, or its name.
    pub grant: String,
    /// Why, if that is worth a word.
    #[serde(default)]
    pub reason: String,
}

/// Grants that were taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevocationAnswer {
    /// Their ids.
    pub revoked: Vec<GrantId>,
    /// Why that is not on the timeline yet.
    pub not_recorded: Option<String>,
}

/// An entry that somebody wants on the timeline. It changes nothing in the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedEntry {
    /// A finding, a check, a report or a correction.
    pub what: What,
    /// When it was, at the earliest; now where nothing is said.
    #[serde(default)]
    pub earliest: Option<UnixMillis>,
    /// And at the latest.
    #[serde(default)]
    pub latest: Option<UnixMillis>,
    /// Whose word it is, or how it is known.
    pub source: String,
    /// How sure it is.
    pub status: Status,
    /// What was said.
    pub text: String,
    /// The entry that it takes the place of.
    #[serde(default)]
    pub supersedes: Option<u64>,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EntryAnswer {
    /// Its sequence number.
    pub entry: u64,
}

type Answered<T> = Result<T, Said>;

/// A request's body as what is wanted.
pub(super) fn wanted<'b, T: Deserialize<'b>>(body: &'b str) -> Answered<T> {
    serde_json::from_str(body)
        .map_err(|why| Said::no(StatusCode::BAD_REQUEST, format!("not understood: {why}")))
}

/// An answer as JSON.
pub(super) fn told<T: Serialize>(answer: Answered<T>) -> Said {
    match answer {
        Ok(answer) => {
            let text = serde_json::to_string_pretty(&answer).expect("an answer is plain data");
            Said::new(StatusCode::OK, JSON, format!("{text}\n"))
        }
        Err(said) => said,
    }
}

fn refused(why: ChangeFault) -> Said {
    let status = match why {
        ChangeFault::NotRecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
        ChangeFault::Overtaken(_) => StatusCode::CONFLICT,
        ChangeFault::Wrong(_) => StatusCode::BAD_REQUEST,
    };
    Said::no(status, why)
}

/// Who says it and why. A reason there must be where `mandatory`.
fn said(by: &Actor, reason: &str, mandatory: bool) -> Answered<change::Said> {
    let reason = reason.trim();
    if reason.is_empty() && mandatory {
        let why = "say why: a reason stands on the timeline for those who come after";
        return Err(Said::no(StatusCode::BAD_REQUEST, why));
    }
    if reason.len() > ENTRY_TEXT_BYTES_MAX {
        let why = format!("a reason has at most {ENTRY_TEXT_BYTES_MAX} bytes");
        return Err(Said::no(StatusCode::BAD_REQUEST, why));
    }
    Ok(change::Said {
        actor: by.on_record(),
        text: reason.to_owned(),
    })
}

fn entry_of(recorded: Recorded) -> (Option<u64>, Option<String>) {
    match recorded {
        Recorded::At(at) => (Some(at), None),
        Recorded::NotYet(why) => (None, Some(why)),
    }
}

fn shared_in(node: &Node, mode: Mode) -> Vec<String> {
    let stance = node.stance();
    let classes = stance.rules.classes().iter();
    let shared = classes.filter(|class| class.is_shared_in(mode));
    shared.map(|class| class.name.clone()).collect()
}

/// What the site does.
pub(super) fn now(node: &Node) -> SiteNow {
    let stance = node.stance();
    SiteNow {
        mode: stance.mode,
        reopening: node.reopening(),
        zone: node.maintenance().zone_name().to_owned(),
        rules: stance.rules.digest().to_string(),
        epoch: stance.epoch,
        shared: shared_in(node, stance.mode),
        stored: node.stored(),
        last_request: node.last_request(),
        now: node.now(),
        unwritten: node.unwritten(),
    }
}

/// Takes a mode.
pub(super) async fn mode(node: &Arc<Node>, by: &Actor, wanted: WantedMode) -> Answered<ModeAnswer> {
    let said = said(by, &wanted.reason, true)?;
    if let Some(at) = wanted.reopening {
        if wanted.mode != Mode::Closed {
            let why = "a time of reopening is planned for a site that is closed";
            return Err(Said::no(StatusCode::BAD_REQUEST, why));
        }
        is_to_come(node, at)?;
    }
    let from = node.stance().mode;
    let (before, after) = (shared_in(node, from), shared_in(node, wanted.mode));
    let without = |some: &[String], others: &[String]| {
        let rest = some.iter().filter(|class| !others.contains(class));
        rest.cloned().collect()
    };
    let mut answer = ModeAnswer {
        from,
        to: wanted.mode,
        in_force: false,
        newly_shared: without(&after, &before),
        no_longer_shared: without(&before, &after),
        stored: node.stored(),
        entry: None,
        not_recorded: None,
        closed: None,
    };
    if wanted.dry_run {
        return Ok(answer);
    }
    let taken = node.change_mode(wanted.mode, wanted.reopening, &said);
    let taken = taken.await.map_err(refused)?;
    (answer.from, answer.in_force) = (taken.from, true);
    (answer.entry, answer.not_recorded) = entry_of(taken.recorded);
    answer.closed = taken.closed.map(|closed| ClosedAnswer {
        connections: closed.cut.connections,
        streams: closed.cut.streams,
        took_ms: u64::try_from(closed.took.as_millis()).unwrap_or(u64::MAX),
        behind: closed.behind,
    });
    Ok(answer)
}

fn is_to_come(node: &Node, at: UnixMillis) -> Answered<()> {
    if at > node.now() {
        return Ok(());
    }
    Err(Said::no(
        StatusCode::BAD_REQUEST,
        "the planned time of reopening is over already",
    ))
}

/// Plans when to open again.
pub(super) fn plan(node: &Node, by: &Actor, wanted: &WantedReopening) -> Answered<SiteNow> {
    let said = said(by, &wanted.reason, true)?;
    if node.stance().mode != Mode::Closed {
        let why = "the site is not closed: there is nothing to reopen";
        return Err(Said::no(StatusCode::CONFLICT, why));
    }
    if let Some(at) = wanted.at {
        is_to_come(node, at)?;
    }
    node.plan_reopening(wanted.at, &said).map_err(refused)?;
    Ok(now(node))
}

/// Purges.
pub(super) fn purge(node: &Node, by: &Actor, wanted: &WantedPurge) -> Answered<PurgeAnswer> {
    let said = said(by, &wanted.reason, false)?;
    let wrong = |why: &dyn std::fmt::Display| Said::no(StatusCode::BAD_REQUEST, why);
    if wanted.targets.is_empty() {
        return Err(wrong(&"name what is to be purged"));
    }
    if wanted.targets.len() > TARGETS_MAX {
        return Err(wrong(&format!("at most {TARGETS_MAX} targets at a time")));
    }
    let stance = node.stance();
    let mut targets = Vec::new();
    for target in &wanted.targets {
        let meant = stance.rules.purge_targets(target);
        targets.extend(meant.map_err(|why| wrong(&why))?);
    }
    targets.sort();
    targets.dedup();
    let answer = |covered: Covered, targets| PurgeAnswer {
        targets,
        done: false,
        objects: covered.objects,
        uris: covered.uris,
        bytes: covered.bytes,
        filling: covered.filling,
        order: None,
        epoch: stance.epoch,
        not_recorded: None,
    };
    if wanted.dry_run {
        return Ok(answer(node.covered(&targets), targets));
    }
    let purged = node.purge(&targets, &said);
    tracing::info!(
        targets = targets.len(),
        objects = purged.covered.objects,
        order = purged.order.0,
        by = %by,
        "purged"
    );
    Ok(PurgeAnswer {
        done: true,
        order: Some(purged.order),
        epoch: purged.epoch,
        not_recorded: entry_of(purged.recorded).1,
        ..answer(purged.covered, targets)
    })
}

/// Makes a preview grant.
pub(super) fn grant(node: &Node, by: &Actor, wanted: &WantedGrant) -> Answered<GrantAnswer> {
    let said = said(by, &wanted.reason, false)?;
    let time = Duration::from_secs(wanted.seconds);
    let (grant, token) = node
        .make_grant(&wanted.name, wanted.mode, time, &said)
        .map_err(refused)?;
    tracing::info!(id = %grant.id, name = grant.name, by = %by, "a preview grant was made");
    Ok(GrantAnswer {
        grant,
        token: token.reveal(),
    })
}

/// Takes preview grants back: that of an id, or all of a name.
pub(super) fn revoke(
    node: &Node,
    by: &Actor,
    wanted: &WantedRevocation,
) -> Answered<RevocationAnswer> {
    let said = said(by, &wanted.reason, false)?;
    let id = wanted.grant.trim().parse::<GrantId>().ok();
    let meant = |grant: &Grant| Some(grant.id) == id || grant.name == wanted.grant;
    let mut answer = RevocationAnswer {
        revoked: Vec::new(),
        not_recorded: None,
    };
    for grant in node.live_grants().iter().filter(|grant| meant(grant)) {
        if let Some(recorded) = node.revoke_grant(grant.id, &said) {
            tracing::info!(id = %grant.id, name = grant.name, by = %by, "a preview grant was revoked");
            answer.revoked.push(grant.id);
            answer.not_recorded = answer.not_recorded.or(entry_of(recorded).1);
        }
    }
    if answer.revoked.is_empty() {
        let why = "no grant that holds has this id or name; `shikiri grant list` shows them";
        return Err(Said::no(StatusCode::NOT_FOUND, why));
    }
    Ok(answer)
}

/// Puts somebody's word on the timeline.
pub(super) fn say(node: &Node, by: &Actor, wanted: WantedEntry) -> Answered<EntryAnswer> {
    let wrong = |why: &str| Said::no(StatusCode::BAD_REQUEST, why);
    match wanted.what {
        What::Finding { .. }
        | What::Checked { .. }
        | What::Reported { .. }
        | What::SiteChanged { .. }
        | What::Stated { .. }
        // By whom it was done: no node does it.
        | What::TagKey {
            done: KeyDone::Destroyed | KeyDone::MembersTagged,
            ..
        } => {}
        What::Corrected {} | What::Withdrawn {} if wanted.supersedes.is_some() => {}
        What::Corrected {} | What::Withdrawn {} => {
            return Err(wrong("name the entry that this is about: `supersedes`"));
        }
        _ => {
            return Err(wrong(
                "what a node does it puts there itself: a finding, check, report, change of the site, \
                 statement, correction or withdrawal can be added",
            ));
        }
    }
    if wanted.text.trim().is_empty() || wanted.source.trim().is_empty() {
        return Err(wrong("say what was said, and whose word it is"));
    }
    if wanted.supersedes.is_some_and(|of| of >= node.next_entry()) {
        return Err(wrong("there is no entry of this number to supersede"));
    }
    let now = node.now();
    let earliest = wanted.earliest.or(wanted.latest).unwrap_or(now);
    let latest = wanted.latest.unwrap_or(earliest);
    if latest > now {
        return Err(wrong("what is put on the timeline has happened already"));
    }
    let entry = Entry {
        version: TIMELINE_VERSION,
        earliest,
        latest,
        node: node.name().to_owned(),
        actor: by.on_record(),
        source: wanted.source,
        status: wanted.status,
        what: wanted.what,
        text: wanted.text,
        supersedes: wanted.supersedes,
    };
    let place = node
        .record(&entry)
        .map_err(|why| Said::no(StatusCode::SERVICE_UNAVAILABLE, why))?;
    Ok(EntryAnswer { entry: place })
}
