//! What a node goes on with: its mode, epoch, purges and grants, folded from its timeline.
//!
//! A pure fold: the same entries give the same [`State`], whoever reads them and whenever. What the
//! timeline cannot tell is not guessed: [`State::begin`] shares less when entries are missing.
//!
//! Invariants: a correction speaks of what was; it changes no state. Nothing in a timeline, not even
//! damage to it, leaves a node in a higher mode than the one that was last taken on record.

use std::collections::BTreeMap;

use shikiri_record::{
    Alarm, Entry, Epoch, Grant, GrantId, Mode, Order, PurgeTarget, RulesDigest, UnixMillis, What,
};

use crate::marks::Marks;

/// Grants that hold at once, at most: the oldest is forgotten for a newer one, and opens nothing more.
pub const GRANTS_MAX: usize = 256;

/// Places in a node's order for each second of its run: more fills and purges than a node begins.
const PLACES_PER_SECOND_BITS: u32 = 20;

/// What a timeline says that holds now.
#[derive(Clone, Debug)]
pub struct State {
    /// How often the node began to run.
    boots: u64,
    /// Nothing: no entry has said.
    mode: Option<Mode>,
    mode_said: Option<ModeSaid>,
    reopening: Option<UnixMillis>,
    epoch: Option<Epoch>,
    rules: Option<RulesDigest>,
    /// Where the last run's places began.
    began: Order,
    marks: Marks,
    grants: BTreeMap<GrantId, Grant>,
    is_running: bool,
}

/// Since when a mode is in force, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeSaid {
    /// Since when.
    pub at: UnixMillis,
    /// Who said so.
    pub actor: String,
    /// The reason that was given.
    pub reason: String,
}

/// What a node begins its run with.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// How often it has begun, this time included.
    pub boot: u64,
    /// The mode.
    pub mode: Mode,
    /// Who said so; nobody, when nobody ever has, or it is another than was said last.
    pub mode_said: Option<ModeSaid>,
    /// When it is planned to open again.
    pub reopening: Option<UnixMillis>,
    /// The epoch.
    pub epoch: Epoch,
    /// The first place in the order of this run: after all places of earlier ones.
    pub first: Order,
    /// The purges that hold; everything of earlier runs is stale.
    pub marks: Marks,
    /// The grants that hold.
    pub grants: BTreeMap<GrantId, Grant>,
    /// The rules that were last in force.
    pub rules: Option<RulesDigest>,
    /// The run before did not stop as it was told to: it was killed, or broke down.
    pub was_cut: bool,
}

/// What is known of the timeline that a state was folded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// All of it.
    Whole,
    /// Entries are missing, or cannot be read.
    Damaged,
    /// There should be one, and there is none.
    Lost,
}

impl State {
    /// Before the first entry.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "nothing has been said is no default"
    )]
    pub fn new() -> Self {
        Self {
            boots: 0,
            mode: None,
            mode_said: None,
            reopening: None,
            epoch: None,
            rules: None,
            began: Order(0),
            marks: Marks::new(),
            grants: BTreeMap::new(),
            is_running: false,
        }
    }

    /// Takes in the next entry.
    pub fn apply(&mut self, entry: &Entry) {
        match &entry.what {
            What::NodeStarted {
                boot,
                mode,
                epoch,
                first,
                ..
            } => {
                self.boots = self.boots.max(*boot);
                // Lowered by the node itself, since it did not know enough.
                if self.mode != Some(*mode) {
                    self.mode_said = None;
                }
                self.mode = Some(*mode);
                self.raise_epoch(*epoch);
                self.began = self.began.max(*first);
                self.is_running = true;
            }
            What::NodeStopped {} => self.is_running = false,
            What::ModeChanged { to, reopening, .. } => {
                self.mode = Some(*to);
                self.mode_said = Some(ModeSaid {
                    at: entry.latest,
                    actor: entry.actor.to_string(),
                    reason: entry.text.clone(),
                });
                self.reopening = *reopening;
            }
            What::ReopeningPlanned { at } => self.reopening = *at,
            What::RulesInForce { rules, .. } => self.rules = Some(*rules),
            What::Purged {
                targets,
                order,
                epoch,
            } => {
                for target in targets {
                    self.marks.purge(target, *order);
                }
                self.raise_epoch(*epoch);
            }
            What::GrantMade { grant } => {
                if self.grants.len() >= GRANTS_MAX {
                    let oldest = self.grants.values().min_by_key(|grant| grant.until);
                    let oldest = oldest.map(|grant| grant.id);
                    oldest.and_then(|id| self.grants.remove(&id));
                }
                self.grants.insert(grant.id, grant.clone());
            }
            What::GrantRevoked { grant } => {
                self.grants.remove(grant);
            }
            // A revocation may be among what cannot be read.
            What::EvidenceAlarm {
                alarm: Alarm::TimelineDamaged | Alarm::TimelineLost,
            } => self.grants.clear(),
            What::GrantUsed { .. }
            | What::TokenMade { .. }
            | What::TokenRevoked { .. }
            | What::Reloaded { .. }
            | What::HookRan { .. }
            | What::TagKey { .. }
            | What::ClockJumped { .. }
            | What::EvidenceAlarm { .. }
            | What::EvidenceAlarmEnded { .. }
            | What::Finding { .. }
            | What::Checked { .. }
            | What::Reported { .. }
            | What::SiteChanged { .. }
            | What::Stated { .. }
            | What::Withdrawn {}
            | What::Corrected {} => {}
        }
    }

    fn raise_epoch(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(Some(epoch));
    }

    /// The mode that the last entry about it says.
    #[must_use]
    pub const fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// What a node that starts at `now` begins with. `first_mode`: where nothing has ever been said.
    #[must_use]
    pub fn begin(self, knowledge: Knowledge, first_mode: Mode, now: UnixMillis) -> Beginning {
        let second = now
            .seconds()
            .max((self.began.0 >> PLACES_PER_SECOND_BITS) + 1);
        let first = Order(second << PLACES_PER_SECOND_BITS);
        let mut marks = self.marks;
        // Invalidations are on no timeline: what is of an earlier run is asked about.
        marks.invalidate_all(Order(first.0 - 1));
        let mut grants = self.grants;
        grants.retain(|_, grant| now < grant.until);
        let known = self.mode.unwrap_or(first_mode);
        let mut beginning = Beginning {
            boot: self.boots + 1,
            mode: known,
            mode_said: self.mode_said,
            reopening: self.reopening,
            epoch: self.epoch.unwrap_or(Epoch(1)),
            first,
            marks,
            grants,
            rules: self.rules,
            was_cut: self.is_running,
        };
        if knowledge != Knowledge::Whole {
            // A mode lower than the last one known may have been taken, purges and revocations made. An
            // epoch of the clock is above all that were counted up.
            beginning.mode = known.min(Mode::Pass);
            beginning.mode_said = None;
            beginning.epoch = beginning.epoch.next().max(Epoch(now.seconds()));
            beginning.marks.purge(&PurgeTarget::All, Order(first.0 - 1));
            beginning.grants.clear();
        }
        beginning
    }
}

impl Beginning {
    /// Of a node without a timeline: open, in its first epoch.
    #[must_use]
    pub fn anew() -> Self {
        let mut beginning = State::new().begin(Knowledge::Whole, Mode::Open, UnixMillis(0));
        beginning.boot = 1;
        beginning
    }
}

#[cfg(test)]
mod tests {
    use shikiri_record::{Actor, Status, TIMELINE_VERSION};

    use super::*;
    use crate::labels::Labels;
    use crate::marks::{Marked, Standing};

    const NOW: UnixMillis = UnixMillis(1_584_400_000_000);

    fn entry(what: What) -> Entry {
        Entry {
            version: TIMELINE_VERSION,
            earliest: NOW,
            latest: NOW,
            node: "edge".into(),
            actor: Actor::Node,
            source: "node".into(),
            status: Status::Confirmed,
            what,
            text: String::new(),
            supersedes: None,
        }
    }

    fn folded(entries: &[What]) -> State {
        let mut state = State::new();
        for what in entries {
            state.apply(&entry(what.clone()));
        }
        state
    }

    fn started(boot: u64, mode: Mode) -> What {
        What::NodeStarted {
            boot,
            release: "0.1.0".into(),
            mode,
            epoch: Epoch(1),
            first: Order(boot << PLACES_PER_SECOND_BITS),
        }
    }

    fn changed(from: Mode, to: Mode) -> What {
        What::ModeChanged {
            from,
            to,
            reopening: None,
        }
    }

    fn purged(target: PurgeTarget, order: u64, epoch: u64) -> What {
        What::Purged {
            targets: vec![target],
            order: Order(order),
            epoch: Epoch(epoch),
        }
    }

    #[test]
    fn who_said_the_mode_is_known_until_it_is_another() {
        let said = |entries: &[What], knowledge| {
            let beginning = folded(entries).begin(knowledge, Mode::Open, NOW);
            beginning.mode_said.map(|said| said.actor)
        };
        let by = Some("the node".to_owned());
        let closing = [started(1, Mode::Open), changed(Mode::Open, Mode::Closed)];
        assert_eq!(said(&closing[..1], Knowledge::Whole), None);
        assert_eq!(said(&closing, Knowledge::Whole), by);
        assert_eq!(said(&closing, Knowledge::Damaged), None);
        let again = [&closing[..], &[started(2, Mode::Closed)]].concat();
        assert_eq!(said(&again, Knowledge::Whole), by);
        let lowered = [&closing[..], &[started(2, Mode::Pass)]].concat();
        assert_eq!(said(&lowered, Knowledge::Whole), None);
    }

    #[test]
    fn the_mode_and_epoch_that_a_node_begins_with() {
        use Knowledge::{Damaged, Lost, Whole};
        use Mode::{Closed, Open, Pass, Static};
        let second = NOW.seconds();
        let all = |order, epoch| purged(PurgeTarget::All, order, epoch);
        for (case, entries, knowledge, mode, epoch) in [
            ("nothing was ever said", vec![], Whole, Static, 1),
            ("it was lost", vec![], Lost, Pass, second),
            ("a start", vec![started(1, Open)], Whole, Open, 1),
            (
                "the last change counts",
                vec![
                    started(1, Open),
                    changed(Open, Closed),
                    changed(Closed, Static),
                ],
                Whole,
                Static,
                1,
            ),
            (
                "closed stays closed over a restart",
                vec![started(1, Open), changed(Open, Closed), started(2, Closed)],
                Whole,
                Closed,
                1,
            ),
            (
                "purges raise the epoch",
                vec![started(1, Open), all(7, 2), all(9, 3)],
                Whole,
                Open,
                3,
            ),
            (
                "damage: no more than pass",
                vec![started(1, Open)],
                Damaged,
                Pass,
                second,
            ),
            (
                "damage: closed stays closed",
                vec![started(1, Open), changed(Open, Closed)],
                Damaged,
                Closed,
                second,
            ),
            (
                "damage: an epoch above the clock's still rises",
                vec![started(1, Static), all(7, second + 5)],
                Damaged,
                Pass,
                second + 6,
            ),
            (
                "what is said of the past changes nothing",
                vec![
                    started(1, Open),
                    changed(Open, Closed),
                    What::Corrected {},
                    What::Finding {
                        finding: "owner-mismatch".into(),
                    },
                    What::EvidenceAlarm { alarm: Alarm::Gap },
                ],
                Whole,
                Closed,
                1,
            ),
        ] {
            let beginning = folded(&entries).begin(knowledge, Static, NOW);
            assert_eq!(
                (beginning.mode, beginning.epoch),
                (mode, Epoch(epoch)),
                "{case}"
            );
        }
    }

    fn page(beginning: &Beginning, order: Order) -> Standing {
        beginning.marks.standing(&Marked {
            uri: "http://a.test/",
            uri_digest: None,
            labels: &Labels::default(),
            order,
        })
    }

    #[test]
    fn purges_hold_after_a_restart_and_what_is_of_an_earlier_run_is_asked_about() {
        let uri = PurgeTarget::Uri("http://a.test/".into());
        let entries = [started(1, Mode::Open), purged(uri, 1 << 21, 1)];
        let state = folded(&entries);
        let beginning = state.clone().begin(Knowledge::Whole, Mode::Open, NOW);
        let before = Order((1 << 21) - 1);
        assert_eq!(page(&beginning, before), Standing::Dead);
        assert_eq!(page(&beginning, Order((1 << 21) + 1)), Standing::Stale);
        assert_eq!(page(&beginning, beginning.first), Standing::Live);
        let damaged = state.begin(Knowledge::Damaged, Mode::Open, NOW);
        assert_eq!(page(&damaged, Order((1 << 21) + 1)), Standing::Dead);
        assert_eq!(page(&damaged, damaged.first), Standing::Live);
    }

    #[test]
    fn places_of_a_run_come_after_those_of_all_runs_before() {
        let now = |beginning: &Beginning| beginning.first.0 >> PLACES_PER_SECOND_BITS;
        let state = folded(&[]);
        assert_eq!(
            now(&state.begin(Knowledge::Whole, Mode::Open, NOW)),
            NOW.seconds()
        );
        let mut late = started(1, Mode::Open);
        if let What::NodeStarted { first, .. } = &mut late {
            *first = Order((NOW.seconds() + 10) << PLACES_PER_SECOND_BITS);
        }
        // The clock was set back meanwhile.
        let state = folded(&[late]);
        assert_eq!(
            now(&state.begin(Knowledge::Whole, Mode::Open, NOW)),
            NOW.seconds() + 11
        );
    }

    #[test]
    fn grants_that_hold() {
        let grant = |id: u128, until: u64| What::GrantMade {
            grant: Grant {
                id: GrantId(id),
                name: "review".into(),
                mode: Mode::Open,
                from: NOW,
                until: UnixMillis(until),
            },
        };
        let later = NOW.0 + 60_000;
        let entries = [
            grant(1, later),
            grant(2, NOW.0),
            grant(3, later),
            What::GrantUsed { grant: GrantId(3) },
            What::GrantRevoked { grant: GrantId(3) },
        ];
        let ids = |knowledge| {
            let beginning = folded(&entries).begin(knowledge, Mode::Open, NOW);
            beginning.grants.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(ids(Knowledge::Whole), [GrantId(1)]);
        assert_eq!(ids(Knowledge::Damaged), [], "revocations may be missing");
        let many: Vec<What> = (0..=GRANTS_MAX)
            .map(|n| grant(n as u128, later + n as u64))
            .collect();
        let beginning = folded(&many).begin(Knowledge::Whole, Mode::Open, NOW);
        assert_eq!(beginning.grants.len(), GRANTS_MAX);
        assert!(
            !beginning.grants.contains_key(&GrantId(0)),
            "the first to end is forgotten"
        );
    }

    #[test]
    fn a_run_that_was_cut_is_known_and_so_is_the_plan() {
        let planned = What::ReopeningPlanned { at: Some(NOW) };
        let running = folded(&[started(1, Mode::Closed), planned.clone()]);
        let beginning = running.begin(Knowledge::Whole, Mode::Open, NOW);
        assert!(beginning.was_cut && beginning.boot == 2 && beginning.reopening == Some(NOW));
        let stopped = folded(&[
            started(1, Mode::Closed),
            planned,
            changed(Mode::Closed, Mode::Open),
            What::NodeStopped {},
        ]);
        let beginning = stopped.begin(Knowledge::Whole, Mode::Open, NOW);
        assert!(!beginning.was_cut && beginning.reopening.is_none());
    }
}
