//! The timeline: what the site did and what was found out about it, entry by entry.
//!
//! An [`Entry`] is a fact that outlives the process that wrote it: when, who, how it is known, and
//! [`What`]. It decides nothing; what a node does on account of its timeline is folded elsewhere. The
//! timeline is append-only: an entry that was wrong is superseded by a later one and stays readable as it
//! was said. `docs/timeline.md` describes the form.
//!
//! Invariant: an entry has one canonical form in bytes ([`Entry::encode`]), a JSON object whose fields
//! come in one order. An entry of another version, or with a field that is not known, is not read at all:
//! half of an entry is worse than none.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, Epoch, Grant, GrantId, Mode, Order, RulesDigest, UnixMillis};

/// The version of the form.
pub const TIMELINE_VERSION: u32 = 1;

/// A reason, a text or a name in an entry has no more bytes.
pub const ENTRY_TEXT_BYTES_MAX: usize = 4 << 10;

/// An entry in its canonical form has no more bytes.
pub const ENTRY_BYTES_MAX: usize = 48 << 10;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The version of the form: [`TIMELINE_VERSION`].
    pub version: u32,
    /// It was at this instant or later.
    pub earliest: UnixMillis,
    /// It was at this instant or earlier: the same as `earliest` where it is known.
    pub latest: UnixMillis,
    /// The node that wrote the entry.
    pub node: String,
    /// Who did it, or who said it.
    pub actor: Actor,
    /// How it is known: `node` for what the node did or saw itself; else whose word it is.
    pub source: String,
    /// How sure it is.
    pub status: Status,
    /// What it was.
    pub what: What,
    /// The reason that was given, or what was said, in plain words.
    pub text: String,
    /// The sequence number of the entry that this one takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<u64>,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Actor {
    /// The node itself.
    Node,
    /// A user of the node's machine.
    User {
        /// Their number.
        uid: u32,
        /// Their name, where the machine has one.
        name: String,
    },
    /// The bearer of a token.
    Token {
        /// The token's name.
        name: String,
    },
    /// Somebody who is known by name only: who gave the word for a report or a correction.
    Person {
        /// Their name.
        name: String,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("the node"),
            Self::User { uid, name } if name.is_empty() => write!(f, "user {uid}"),
            Self::User { name, .. } => f.write_str(name),
            Self::Token { name } => write!(f, "token {name}"),
            Self::Person { name } => f.write_str(name),
        }
    }
}

/// How sure an entry is. That it was superseded is said by the entry that did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As far as is known.
    Provisional,
    /// It was.
    Confirmed,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// The node began to run.
    NodeStarted {
        /// How often it has, this time included.
        boot: u64,
        /// The release of the program.
        release: String,
        /// The mode in which it began.
        mode: Mode,
        /// The epoch in which it began.
        epoch: Epoch,
        /// Where the places of this run in the node's order begin.
        first: Order,
    },
    /// The node stopped as it was told to.
    NodeStopped {},
    /// The site does something else from now on.
    ModeChanged {
        /// What it did.
        from: Mode,
        /// What it does.
        to: Mode,
        /// When it is planned to open again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reopening: Option<UnixMillis>,
    },
    /// The plan for opening again changed, and the mode did not.
    ReopeningPlanned {
        /// When; nothing where no time is named any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<UnixMillis>,
    },
    /// These rules decide from now on.
    RulesInForce {
        /// Their digest, as the node compiled them.
        rules: RulesDigest,
        /// The file that they were compiled from; nothing for the built-in policy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
    },
    /// What was fetched before is dead.
    Purged {
        /// What the purge is about.
        targets: Vec<PurgeTarget>,
        /// Everything that began before this place is meant.
        order: Order,
        /// The epoch from then on: raised by a purge of everything.
        epoch: Epoch,
    },
    /// A preview grant was made.
    GrantMade {
        /// The grant.
        grant: Grant,
    },
    /// A preview grant was shown, for the first time since the node began to run.
    GrantUsed {
        /// The grant.
        grant: GrantId,
    },
    /// A preview grant was taken back.
    GrantRevoked {
        /// The grant.
        grant: GrantId,
    },
    /// A token for a program elsewhere was made.
    TokenMade {
        /// Its name.
        token: String,
        /// What it allows.
        scopes: Vec<String>,
        /// Until when.
        until: UnixMillis,
    },
    /// A token was revoked.
    TokenRevoked {
        /// Its name.
        token: String,
    },
    /// A file was read again while the node ran. Rules that came of it have an entry of their own.
    Reloaded {
        /// What is read from it: `policy`, `config`, `certificates`, `maintenance`.
        part: String,
        /// Whether it is in force; where not, the old one is.
        accepted: bool,
    },
    /// The other side of the site was told of a mode: a hook ran.
    HookRan {
        /// The mode that it was told.
        mode: Mode,
        /// The command or URL.
        hook: String,
        /// Whether it was heard.
        succeeded: bool,
    },
    /// Something was done with a key of the tags in evidence.
    TagKey {
        /// Its id, as in stance rows: 16 digits.
        key: String,
        /// What.
        done: KeyDone,
    },
    /// The clock was set, and everything stored was purged.
    ClockJumped {
        /// By how much, in milliseconds, forwards or back.
        away_ms: u64,
    },
    /// The timeline itself, or the evidence, is not all that it should be.
    EvidenceAlarm {
        /// What is missing.
        alarm: Alarm,
    },
    /// What an [`What::EvidenceAlarm`] told of is over.
    EvidenceAlarmEnded {
        /// What was wrong.
        alarm: Alarm,
    },
    /// Something was found out that should not be.
    Finding {
        /// Its name: a reason's, a checker's.
        finding: String,
    },
    /// Somebody looked whether all is well.
    Checked {
        /// What was looked at.
        check: String,
        /// Whether it is well.
        passed: bool,
    },
    /// Somebody reported something.
    Reported {
        /// Who: a member, a payment processor, a vendor.
        reporter: String,
        /// By which way: mail, telephone.
        channel: String,
        /// When they saw it, where they said so; else it was when they told, or earlier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Seen>,
    },
    /// The site changed, in what is not this node's: all of it at once.
    SiteChanged {
        /// What changed.
        changes: Vec<SiteChange>,
    },
    /// A statement was published.
    Stated {
        /// What it is called, so that what stood then can be asked for.
        name: String,
    },
    /// What the superseded entry told never happened.
    Withdrawn {},
    /// What was said before was wrong, or is now known better: the entry supersedes it, and its own
    /// instants and text hold in its place.
    Corrected {},
}

/// What was done with a key of the tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyDone {
    /// Tags are made with it from now on.
    Began,
    /// It is destroyed: nobody can tell any more whose the tags are that were made with it.
    Destroyed,
    /// The tags of members under it were computed, to be looked up.
    MembersTagged,
}

impl fmt::Display for KeyDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Began => "began to be used",
            Self::Destroyed => "destroyed: its tags are nobody's",
            Self::MembersTagged => "used to compute the tags of members",
        })
    }
}

/// When somebody saw what they reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// At this instant or later.
    pub earliest: UnixMillis,
    /// At this instant or earlier.
    pub latest: UnixMillis,
}

/// What changes at a site besides what its node does: a content delivery network is put in front, an origin
/// shows a maintenance page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteChange {
    /// A shared cache answers for it from now on.
    CacheInFront,
    /// No shared cache does any more.
    CacheGone,
    /// Visitors get the site.
    Opened,
    /// Visitors get a maintenance page, before the cache looks anything up.
    ClosedAtEdge,
    /// They get it from behind the cache, which may go on with what it has stored.
    ClosedAtOrigin,
    /// They get it, and nobody said from where.
    Closed,
    /// All that the cache had stored was purged.
    PurgedAll,
    /// A part of it was.
    PurgedPart,
    /// Something was done against the cause.
    Measure,
}

impl SiteChange {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::CacheInFront,
        Self::CacheGone,
        Self::Opened,
        Self::ClosedAtEdge,
        Self::ClosedAtOrigin,
        Self::Closed,
        Self::PurgedAll,
        Self::PurgedPart,
        Self::Measure,
    ];
}

impl fmt::Display for SiteChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CacheInFront => "a cache in front",
            Self::CacheGone => "no cache any more",
            Self::Opened => "open",
            Self::ClosedAtEdge => "maintenance, at the edge",
            Self::ClosedAtOrigin => "maintenance, at the origin",
            Self::Closed => "maintenance",
            Self::PurgedAll => "all that was stored purged",
            Self::PurgedPart => "a part of what was stored purged",
            Self::Measure => "a measure",
        })
    }
}

/// In a few plain words; the text of the entry says why.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeStarted {
                boot, mode, epoch, ..
            } => write!(f, "node started, run {boot}: mode {mode}, epoch {epoch}"),
            Self::NodeStopped {} => f.write_str("node stopped"),
            Self::ModeChanged { from, to, .. } => write!(f, "mode {from} -> {to}"),
            Self::ReopeningPlanned { at: Some(_) } => f.write_str("reopening planned"),
            Self::ReopeningPlanned { at: None } => f.write_str("reopening no longer planned"),
            Self::RulesInForce { rules, policy } => {
                let file = policy.as_deref().unwrap_or("the built-in policy");
                write!(f, "rules in force: {:?} from {file}", rules.0)
            }
            Self::Purged { targets, .. } => match targets.as_slice() {
                [one] => write!(f, "purged {one}"),
                [first, rest @ ..] => write!(f, "purged {first} and {} more", rest.len()),
                [] => f.write_str("purged nothing"),
            },
            Self::GrantMade { grant } => {
                let minutes = grant.until.since(grant.from).as_secs() / 60;
                let Grant { name, mode, .. } = grant;
                write!(
                    f,
                    "preview of {mode} granted to `{name}` for {minutes} minutes"
                )
            }
            Self::GrantUsed { grant } => write!(f, "preview grant {grant} used"),
            Self::GrantRevoked { grant } => write!(f, "preview grant {grant} revoked"),
            Self::TokenMade { token, scopes, .. } => {
                write!(f, "token `{token}` made, for {}", scopes.join(", "))
            }
            Self::TokenRevoked { token } => write!(f, "token `{token}` revoked"),
            Self::Reloaded { part, accepted } => {
                let came = if *accepted {
                    "read again"
                } else {
                    "REFUSED, the old one stays"
                };
                write!(f, "{part} {came}")
            }
            Self::HookRan {
                mode,
                hook,
                succeeded,
            } => {
                let came = if *succeeded {
                    "told"
                } else {
                    "could not be told"
                };
                write!(f, "{hook} {came} of mode {mode}")
            }
            Self::TagKey { key, done } => write!(f, "tag key {key} {done}"),
            Self::ClockJumped { away_ms } => write!(f, "the clock jumped by {away_ms} ms"),
            Self::EvidenceAlarm { alarm } => write!(f, "{alarm}"),
            Self::EvidenceAlarmEnded { alarm } => write!(f, "over: {alarm}"),
            Self::Finding { finding } => write!(f, "finding: {finding}"),
            Self::Checked { check, passed } => {
                let came = if *passed { "passed" } else { "FAILED" };
                write!(f, "check {came}: {check}")
            }
            Self::Reported {
                reporter, channel, ..
            } => write!(f, "reported by {reporter} ({channel})"),
            Self::SiteChanged { changes } => {
                f.write_str("the site: ")?;
                for (at, change) in changes.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{change}")?;
                }
                Ok(())
            }
            Self::Stated { name } => write!(f, "statement {name}"),
            Self::Withdrawn {} => f.write_str("withdrawn"),
            Self::Corrected {} => f.write_str("correction"),
        }
    }
}

/// What a purge is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PurgeTarget {
    /// Everything.
    All,
    /// Every variant of one URI: scheme, authority, path and query.
    Uri(String),
    /// The same of a URI that names somebody, which the timeline does not tell: its digest under the
    /// node's own key.
    UriDigest(Digest),
    /// Every URI that begins so.
    Prefix(String),
    /// What its origin has given this tag.
    Tag {
        /// The tag, compared byte for byte.
        tag: String,
        /// Of this authority alone, under any scheme.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
    },
    /// What its origin has put into this group (RFC 9875).
    Group {
        /// The group, compared byte for byte.
        group: String,
        /// Of this authority, under any scheme.
        host: String,
    },
}

impl fmt::Display for PurgeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Uri(uri) => write!(f, "{uri} (every variant)"),
            Self::UriDigest(digest) => {
                write!(f, "a URL that names somebody ({digest:?}, every variant)")
            }
            Self::Prefix(prefix) => write!(f, "all that begins with {prefix}"),
            Self::Tag { tag, host: None } => write!(f, "all with the tag `{tag}`"),
            Self::Tag {
                tag,
                host: Some(host),
            } => write!(f, "all of {host} with the tag `{tag}`"),
            Self::Group { group, host } => write!(f, "all of {host} in the group `{group}`"),
        }
    }
}

/// What is missing from the evidence or the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// Responses were sent of which there is no row.
    Gap,
    /// There is no space for rows: requests are refused, or pass without any.
    Full,
    /// Space for rows runs low.
    LowWater,
    /// Rows were removed because their time, or their space, was over.
    RetentionRemoved,
    /// A part of the evidence cannot be read.
    EvidenceDamaged,
    /// A part of the timeline cannot be read.
    TimelineDamaged,
    /// There should be a timeline, and there is none.
    TimelineLost,
    /// The disk does not take rows for which there was space.
    CannotWrite,
    /// Rows have not reached the disk for long: a loss of power would lose them.
    Unsynced,
}

impl Alarm {
    /// The word for it, as on the timeline.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Full => "full",
            Self::LowWater => "low_water",
            Self::RetentionRemoved => "retention_removed",
            Self::EvidenceDamaged => "evidence_damaged",
            Self::TimelineDamaged => "timeline_damaged",
            Self::TimelineLost => "timeline_lost",
            Self::CannotWrite => "cannot_write",
            Self::Unsynced => "unsynced",
        }
    }
}

/// In plain words.
impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "evidence: responses without rows",
            Self::Full => "evidence: there is no space for rows",
            Self::LowWater => "evidence: space runs low",
            Self::RetentionRemoved => "evidence: old rows were removed",
            Self::EvidenceDamaged => "evidence: a part cannot be read",
            Self::TimelineDamaged => "timeline: a part cannot be read",
            Self::TimelineLost => "timeline: it was lost",
            Self::CannotWrite => "evidence: rows cannot be written",
            Self::Unsynced => "evidence: rows do not reach the disk",
        })
    }
}

/// Why bytes are no entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryFault {
    /// They are not the form of this version.
    #[error("it is no entry of the timeline in version {TIMELINE_VERSION}: {0}")]
    Form(#[source] serde_json::Error),
    /// They say that they are of another version.
    #[error(
        "it is an entry in version {0} of the timeline; this release reads version {TIMELINE_VERSION}"
    )]
    Version(u32),
    /// Its instants are in the wrong order.
    #[error("its earliest instant is after its latest")]
    Instants,
    /// It is too long, or a text in it is.
    #[error("it has {0} bytes, more than {1}")]
    TooLong(usize, usize),
}

impl Entry {
    /// The canonical form: JSON without spaces, its fields in the order of the types here.
    ///
    /// # Errors
    /// [`EntryFault::TooLong`] and [`EntryFault::Instants`]: what [`Entry::decode`] would not read is
    /// not written.
    pub fn encode(&self) -> Result<Vec<u8>, EntryFault> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(EntryFault::Form)?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryFault::TooLong(bytes.len(), ENTRY_BYTES_MAX));
        }
        Ok(bytes)
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryFault> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryFault::TooLong(bytes.len(), ENTRY_BYTES_MAX));
        }
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(EntryFault::Form)?;
        if versioned.version != TIMELINE_VERSION {
            return Err(EntryFault::Version(versioned.version));
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(EntryFault::Form)?;
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<(), EntryFault> {
        if self.earliest > self.latest {
            return Err(EntryFault::Instants);
        }
        if self.text.len() > ENTRY_TEXT_BYTES_MAX {
            return Err(EntryFault::TooLong(self.text.len(), ENTRY_TEXT_BYTES_MAX));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_called_the_same_everywhere() {
        for alarm in [
            Alarm::Gap,
            Alarm::Full,
            Alarm::LowWater,
            Alarm::RetentionRemoved,
            Alarm::EvidenceDamaged,
            Alarm::TimelineDamaged,
            Alarm::TimelineLost,
            Alarm::CannotWrite,
            Alarm::Unsynced,
        ] {
            let written = serde_json::to_string(&alarm).unwrap();
            assert_eq!(written, format!("\"{}\"", alarm.name()));
        }
    }

    fn entry(what: What) -> Entry {
        Entry {
            version: TIMELINE_VERSION,
            earliest: UnixMillis(1_584_372_240_000),
            latest: UnixMillis(1_584_372_240_000),
            node: "edge-1".into(),
            actor: Actor::User {
                uid: 1000,
                name: "sato".into(),
            },
            source: "node".into(),
            status: Status::Confirmed,
            what,
            text: "他のお客様の情報が見えるとの連絡".into(),
            supersedes: None,
        }
    }

    /// One of each kind, with what stands in `what`.
    fn kinds() -> Vec<(What, &'static str)> {
        let digest = RulesDigest(Digest::of(b"rules"));
        let grant = Grant {
            id: GrantId(7),
            name: "review".into(),
            mode: Mode::Open,
            from: UnixMillis(1),
            until: UnixMillis(2),
        };
        vec![
            (
                What::NodeStarted {
                    boot: 3,
                    release: "0.1.0".into(),
                    mode: Mode::Pass,
                    epoch: Epoch(2),
                    first: Order(8),
                },
                r#"{"kind":"node_started","boot":3,"release":"0.1.0","mode":"pass","epoch":2,"first":8}"#,
            ),
            (What::NodeStopped {}, r#"{"kind":"node_stopped"}"#),
            (
                What::ModeChanged {
                    from: Mode::Open,
                    to: Mode::Closed,
                    reopening: Some(UnixMillis(5)),
                },
                r#"{"kind":"mode_changed","from":"open","to":"closed","reopening":5}"#,
            ),
            (
                What::ModeChanged {
                    from: Mode::Closed,
                    to: Mode::Static,
                    reopening: None,
                },
                r#"{"kind":"mode_changed","from":"closed","to":"static"}"#,
            ),
            (
                What::ReopeningPlanned { at: None },
                r#"{"kind":"reopening_planned"}"#,
            ),
            (
                What::RulesInForce {
                    rules: digest,
                    policy: Some("shop.toml".into()),
                },
                r#"{"kind":"rules_in_force","rules":"51be95419f84c3396d940a401859c56eaae5e4983d50282e5cd8730e4c26cada","policy":"shop.toml"}"#,
            ),
            (
                What::Purged {
                    targets: vec![
                        PurgeTarget::All,
                        PurgeTarget::Uri("http://a.test/".into()),
                        PurgeTarget::UriDigest(digest.0),
                        PurgeTarget::Prefix("http://a.test/x".into()),
                        PurgeTarget::Tag {
                            tag: "t".into(),
                            host: None,
                        },
                        PurgeTarget::Tag {
                            tag: "t".into(),
                            host: Some("a.test".into()),
                        },
                        PurgeTarget::Group {
                            group: "g".into(),
                            host: "a.test".into(),
                        },
                    ],
                    order: Order(9),
                    epoch: Epoch(3),
                },
                r#"{"kind":"purged","targets":["all",{"uri":"http://a.test/"},{"uri_digest":"51be95419f84c3396d940a401859c56eaae5e4983d50282e5cd8730e4c26cada"},{"prefix":"http://a.test/x"},{"tag":{"tag":"t"}},{"tag":{"tag":"t","host":"a.test"}},{"group":{"group":"g","host":"a.test"}}],"order":9,"epoch":3}"#,
            ),
            (
                What::GrantMade { grant },
                r#"{"kind":"grant_made","grant":{"id":"00000000000000000000000000000007","name":"review","mode":"open","from":1,"until":2}}"#,
            ),
            (
                What::GrantUsed { grant: GrantId(7) },
                r#"{"kind":"grant_used","grant":"00000000000000000000000000000007"}"#,
            ),
            (
                What::GrantRevoked { grant: GrantId(7) },
                r#"{"kind":"grant_revoked","grant":"00000000000000000000000000000007"}"#,
            ),
            (
                What::TokenMade {
                    token: "canary".into(),
                    scopes: vec!["close".into()],
                    until: UnixMillis(2),
                },
                r#"{"kind":"token_made","token":"canary","scopes":["close"],"until":2}"#,
            ),
            (
                What::TokenRevoked {
                    token: "canary".into(),
                },
                r#"{"kind":"token_revoked","token":"canary"}"#,
            ),
            (
                What::Reloaded {
                    part: "policy".into(),
                    accepted: false,
                },
                r#"{"kind":"reloaded","part":"policy","accepted":false}"#,
            ),
            (
                What::HookRan {
                    mode: Mode::Closed,
                    hook: "stop-renewals".into(),
                    succeeded: false,
                },
                r#"{"kind":"hook_ran","mode":"closed","hook":"stop-renewals","succeeded":false}"#,
            ),
            (
                What::TagKey {
                    key: "0123456789abcdef".into(),
                    done: KeyDone::Destroyed,
                },
                r#"{"kind":"tag_key","key":"0123456789abcdef","done":"destroyed"}"#,
            ),
            (
                What::ClockJumped { away_ms: 3_600_000 },
                r#"{"kind":"clock_jumped","away_ms":3600000}"#,
            ),
            (
                What::EvidenceAlarm {
                    alarm: Alarm::RetentionRemoved,
                },
                r#"{"kind":"evidence_alarm","alarm":"retention_removed"}"#,
            ),
            (
                What::EvidenceAlarmEnded {
                    alarm: Alarm::CannotWrite,
                },
                r#"{"kind":"evidence_alarm_ended","alarm":"cannot_write"}"#,
            ),
            (
                What::Finding {
                    finding: "owner-mismatch".into(),
                },
                r#"{"kind":"finding","finding":"owner-mismatch"}"#,
            ),
            (
                What::Checked {
                    check: "two members".into(),
                    passed: true,
                },
                r#"{"kind":"checked","check":"two members","passed":true}"#,
            ),
            (
                What::Reported {
                    reporter: "the card processor".into(),
                    channel: "telephone".into(),
                    seen: None,
                },
                r#"{"kind":"reported","reporter":"the card processor","channel":"telephone"}"#,
            ),
            (
                What::Reported {
                    reporter: "a member".into(),
                    channel: "mail".into(),
                    seen: Some(Seen {
                        earliest: UnixMillis(1),
                        latest: UnixMillis(2),
                    }),
                },
                r#"{"kind":"reported","reporter":"a member","channel":"mail","seen":{"earliest":1,"latest":2}}"#,
            ),
            (
                What::SiteChanged {
                    changes: SiteChange::ALL.to_vec(),
                },
                r#"{"kind":"site_changed","changes":["cache_in_front","cache_gone","opened","closed_at_edge","closed_at_origin","closed","purged_all","purged_part","measure"]}"#,
            ),
            (
                What::Stated {
                    name: "first notice".into(),
                },
                r#"{"kind":"stated","name":"first notice"}"#,
            ),
            (What::Withdrawn {}, r#"{"kind":"withdrawn"}"#),
            (What::Corrected {}, r#"{"kind":"corrected"}"#),
        ]
    }

    #[test]
    fn every_kind_has_one_form_that_is_read_back() {
        for (what, form) in kinds() {
            let entry = entry(what);
            let bytes = entry.encode().expect("it is short");
            let text = String::from_utf8(bytes.clone()).expect("JSON is text");
            assert!(
                text.contains(&format!(r#""what":{form}"#)),
                "{form}\n{text}"
            );
            assert_eq!(Entry::decode(&bytes).expect(&text), entry);
        }
    }

    #[test]
    fn the_fields_of_an_entry_come_in_one_order() {
        let mut entry = entry(What::Corrected {});
        entry.supersedes = Some(4);
        entry.text = "12:24, not 19:23".into();
        let bytes = entry.encode().expect("it is short");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"version":1,"earliest":1584372240000,"latest":1584372240000,"node":"edge-1","actor":{"user":{"uid":1000,"name":"sato"}},"source":"node","status":"confirmed","what":{"kind":"corrected"},"text":"12:24, not 19:23","supersedes":4}"#
        );
    }

    #[test]
    fn what_is_not_of_this_form_is_not_read() {
        let bytes = entry(What::NodeStopped {}).encode().expect("it is short");
        let good = String::from_utf8(bytes).expect("JSON is text");
        for (case, text) in [
            (
                "another version",
                good.replace("\"version\":1", "\"version\":2"),
            ),
            ("a field more", good.replacen('{', "{\"more\":1,", 1)),
            (
                "a field more within",
                good.replace("\"node_stopped\"", "\"node_stopped\",\"x\":1"),
            ),
            (
                "a kind that is none",
                good.replace("node_stopped", "node_vanished"),
            ),
            ("a field less", good.replace("\"source\":\"node\",", "")),
            (
                "instants the wrong way round",
                good.replace("\"latest\":1", "\"latest\":0")
                    .replace(":0584372240000", ":15"),
            ),
            ("cut short", good.trim_end_matches('}').into()),
            ("something after it", format!("{good}x")),
            ("nothing", String::new()),
        ] {
            assert!(Entry::decode(text.as_bytes()).is_err(), "{case}: {text}");
        }
        let mut long = entry(What::NodeStopped {});
        long.text = "x".repeat(ENTRY_TEXT_BYTES_MAX + 1);
        assert!(matches!(long.encode(), Err(EntryFault::TooLong(..))));
        let targets = vec![PurgeTarget::Uri("x".repeat(1 << 10)); 48];
        let long = entry(What::Purged {
            targets,
            order: Order(1),
            epoch: Epoch(1),
        });
        assert!(matches!(long.encode(), Err(EntryFault::TooLong(..))));
    }
}
