//! Changes: what an operator, or the node itself, changes while it runs. Mode, rules, purges, grants.
//!
//! What shares more is on the timeline before it takes effect, and is refused when it cannot be. What
//! shares less never waits for a disk, not even for one that hangs: it takes effect, and is put on the
//! timeline then, or as soon as that is possible, which is told. Who raises the mode while somebody lowers
//! it, or would have, comes too late, however the disk dealt with the two.
//!
//! Never decides who may change what: that is the admin interface's. Invariants: changes take effect one
//! after another, and requests see each of them whole; entries of the timeline stand in the order in which
//! that happened, but for what came to nothing, which another entry says; the lock on changes is never held
//! while a disk is waited for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use shikiri_partition::{Labels, Marked, Marks, Rules, Standing};
use shikiri_record::{
    Actor, Alarm, ENTRY_TEXT_BYTES_MAX, Entry, Epoch, GRANT_TIME_MAX, Grant, GrantId, GrantToken,
    Mode, Order, PurgeTarget, Status, TIMELINE_VERSION, UnixMillis, What,
};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::alarm::{Change, Look};
use crate::chronicle::{ChronicleFault, TimelineFault};
use crate::closing::Cut;
use crate::node::{Node, Stance, in_force};
use crate::scribe::{Otherwise, Ticket};

/// In this time everything that runs is cut when the site is closed.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(1);

/// Bytes of targets that one entry about a purge names.
const TARGET_BYTES_MAX: usize = 16 << 10;

/// A grant's name has no more bytes.
const GRANT_NAME_BYTES_MAX: usize = 200;

/// Who changes something, and why.
#[derive(Clone, Debug)]
pub struct Said {
    /// Who.
    pub actor: Actor,
    /// The reason, in plain words.
    pub text: String,
}

impl Said {
    /// The node itself.
    #[must_use]
    pub fn by_node(text: impl Into<String>) -> Self {
        Self {
            actor: Actor::Node,
            text: text.into(),
        }
    }
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeFault {
    /// It shares more, and is not on the timeline.
    #[error(
        "it did not take effect, since it would share more and must be on the timeline first: {0}"
    )]
    NotRecorded(#[from] ChronicleFault),
    /// While it was put on the timeline, somebody lowered the mode, or closed the site again.
    #[error(
        "it did not take effect: while it was being put on the timeline the site was told to share less; \
         its mode is {0}"
    )]
    Overtaken(Mode),
    /// What was asked for cannot be.
    #[error("{0}")]
    Wrong(String),
}

/// Whether a change that took effect is on the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// At this place.
    At(u64),
    /// Not yet, and why.
    NotYet(String),
}

/// A mode that was taken.
#[derive(Clone, Debug)]
pub struct ModeTaken {
    /// The mode before.
    pub from: Mode,
    /// The mode in force.
    pub to: Mode,
    /// Whether that is on the timeline.
    pub recorded: Recorded,
    /// What the site had stored, and will use again where the mode lets it: objects.
    pub stored: usize,
    /// What was cut, where the site was closed.
    pub closed: Option<Closed>,
}

/// What a closing has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What was cut.
    pub cut: Cut,
    /// How long it took until nothing that began before could be sent any more.
    pub took: Duration,
    /// Connections that had not said so when that time was over.
    pub behind: u64,
}

/// What a purge has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Whatever began before this place is dead.
    pub order: Order,
    /// The epoch in force.
    pub epoch: Epoch,
    /// What it covered.
    pub covered: Covered,
    /// Whether it is on the timeline.
    pub recorded: Recorded,
}

/// What a purge covers: counted, and not what it depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Stored objects.
    pub objects: u64,
    /// URIs that they are stored for: of one with several objects, each is a variant.
    pub uris: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Fills that run and will not be stored; where labels are purged, those that may bear them.
    pub filling: u64,
}

/// What the world is told of a change of the mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeNotice {
    /// The mode before.
    pub from: Mode,
    /// The mode in force.
    pub to: Mode,
    /// Why.
    pub reason: String,
    /// Who changed it.
    pub actor: String,
    /// When it is planned to open again.
    pub reopening: Option<UnixMillis>,
    /// Since when.
    pub at: UnixMillis,
}

/// What is known of changes by whoever makes one.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// How often it was asked for a mode that shares less, or for what that is already.
    lowered: u64,
    /// Whether a higher mode is being put on the timeline.
    is_raised: bool,
    /// The site's mode, while another node takes this one's place: this one shares nothing meanwhile.
    aside: Option<Mode>,
}

impl Node {
    pub(crate) fn changing(&self) -> MutexGuard<'_, Changes> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raising(&self) -> MutexGuard<'_, ()> {
        self.raising.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, what: What, said: &Said) -> Entry {
        let now = self.now();
        Entry {
            version: TIMELINE_VERSION,
            earliest: now,
            latest: now,
            node: self.name().to_owned(),
            actor: said.actor.clone(),
            source: "node".into(),
            status: Status::Confirmed,
            what,
            text: clipped(&said.text, ENTRY_TEXT_BYTES_MAX),
            supersedes: None,
        }
    }

    /// Puts an entry on the timeline that changes nothing here: a report, a correction, a finding.
    ///
    /// # Errors
    /// It is not there.
    pub fn record(&self, entry: &Entry) -> Result<u64, ChronicleFault> {
        let ticket = self.put_first(entry, None)?;
        self.chronicle.first(&ticket)
    }

    /// Puts an entry whose contents have not happened into the timeline's queue. `back`: what is so after
    /// it, where the disk has it and does not answer in time: it does not happen then.
    fn put_first(&self, entry: &Entry, back: Option<What>) -> Result<Ticket, ChronicleFault> {
        let said =
            Said::by_node("it did not take effect: the timeline's disk did not answer in time");
        let corrected = Some(What::Corrected {});
        let takes_back = corrected.into_iter().chain(back);
        let takes_back = takes_back.map(|what| self.entry(what, &said)).collect();
        self.chronicle
            .put(entry, Otherwise::Dropped(takes_back), self.now())
    }

    /// Puts what has happened into the timeline's queue. Whoever changes something holds the lock on
    /// changes.
    fn put(&self, what: What, said: &Said) -> Ticket {
        self.put_entry(&self.entry(what, said))
    }

    fn put_entry(&self, entry: &Entry) -> Ticket {
        let put = self.chronicle.put(entry, Otherwise::Kept, self.now());
        put.unwrap_or_else(|why| Ticket::settled(Err(why)))
    }

    /// What became of that, as far as can be said without waiting for a disk that hangs.
    fn recorded(&self, ticket: &Ticket) -> Recorded {
        match self.chronicle.in_time(ticket) {
            Ok(at) => Recorded::At(at),
            Err(why) => {
                tracing::error!(%why, "NOT ON THE TIMELINE YET, and kept to be written");
                Recorded::NotYet(why.to_string())
            }
        }
    }

    /// Puts what the node saw, or did, on the timeline: now, or as soon as that is possible.
    pub fn note(&self, what: What, said: &Said) -> Recorded {
        self.recorded(&self.put(what, said))
    }

    /// The same, and does not wait at all: for who serves requests.
    pub(crate) fn note_later(&self, what: What, said: &Said) {
        drop(self.put(what, said));
    }

    /// Puts the beginning of this run on the timeline, with the rules in force; first what is missing
    /// there, if anything is. A node that cannot do this may not serve.
    ///
    /// # Errors
    /// The timeline cannot be written.
    pub fn record_start(&self, start: &Start<'_>) -> Result<(), ChronicleFault> {
        let append = |what, text: &str| {
            let entry = self.entry(what, &Said::by_node(text));
            self.record(&entry)
        };
        let stance = self.stance();
        append(self.started_now(), start.text)?;
        let rules = What::RulesInForce {
            rules: stance.rules.digest(),
            policy: start.policy.map(str::to_owned),
        };
        append(rules, "at the start")?;
        if let Some((alarm, damage)) = &start.missing {
            append(
                What::Purged {
                    targets: vec![PurgeTarget::All],
                    order: Order(self.first_place().0 - 1),
                    epoch: stance.epoch,
                },
                "what was stored before may have been purged",
            )?;
            // Last: until it stands here, every start finds the damage anew.
            append(What::EvidenceAlarm { alarm: *alarm }, damage)?;
        }
        Ok(())
    }

    /// Ends the timeline of this run; nothing where it was left to another node.
    pub fn record_stop(&self, why: &str) {
        self.leave_timeline(why);
    }

    /// Leaves the timeline to a node that is about to replace this one. From here on it changes nothing but
    /// to share less, and what is still asked of it is answered as in `pass`, without previews: what that
    /// node lowers, purges or revokes has nothing here to hold for. Returns whether all is on the timeline
    /// that the other goes on from.
    pub fn leave_timeline(&self, why: &str) -> bool {
        if self.chronicle.is_ours() {
            self.step_aside();
            self.note(What::NodeStopped {}, &Said::by_node(why));
            self.chronicle.release(self.now());
        }
        let lost = self.chronicle.unwritten();
        if lost > 0 {
            tracing::error!(
                lost,
                "ENTRIES ARE NOT ON THE TIMELINE, and lost when this process ends"
            );
        }
        lost == 0
    }

    fn step_aside(&self) {
        let mut changes = self.changing();
        let mode = *changes.aside.get_or_insert(self.stance().mode);
        self.put_mode_alone(mode.min(Mode::Pass));
        self.grants.leave(true);
    }

    fn come_back(&self) {
        let mut changes = self.changing();
        if let Some(mode) = changes.aside.take() {
            self.put_mode_alone(mode);
            self.grants.leave(false);
        }
    }

    /// The mode of the site, also where this node shares less since another takes its place.
    #[must_use]
    pub fn site_mode(&self) -> Mode {
        self.mode_in(&self.changing())
    }

    fn mode_in(&self, changes: &Changes) -> Mode {
        changes.aside.unwrap_or_else(|| self.stance().mode)
    }

    /// Goes on with the timeline: the node that was to replace this one does not serve.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn resume_timeline(&self) -> Result<(), TimelineFault> {
        self.chronicle.take_back(self.now())?;
        let said = Said::by_node("goes on: who was to replace it does not serve");
        self.note(self.started_now(), &said);
        self.come_back();
        Ok(())
    }

    fn started_now(&self) -> What {
        let stance = self.stance();
        What::NodeStarted {
            boot: self.boot(),
            release: env!("CARGO_PKG_VERSION").into(),
            mode: self.site_mode(),
            epoch: stance.epoch,
            first: self.first_place(),
        }
    }

    /// Takes a mode. A lower one, or `closed`, is in force when this returns, whatever the disk does; a
    /// higher one only when it is on the timeline. A closed site that is closed again without a time keeps
    /// the time of reopening that was planned ([`Self::plan_reopening`] takes it back).
    ///
    /// Closing cuts what runs; this does not wait for it. Use [`Self::change_mode`] to be told.
    ///
    /// # Errors
    /// The mode would be higher, and could not be recorded; or somebody lowered it meanwhile.
    pub fn take_mode(
        &self,
        to: Mode,
        reopening: Option<UnixMillis>,
        said: &Said,
    ) -> Result<ModeTaken, ChangeFault> {
        let (from, ticket) = match self.lower_if_lower(to, reopening, said) {
            Some(lowered) => lowered,
            None => self.raise_mode(to, reopening, said)?,
        };
        Ok(ModeTaken {
            from,
            to,
            recorded: self.recorded(&ticket),
            stored: self.store.objects(),
            closed: None,
        })
    }

    /// Takes a mode when that is to share less, or to be closed again; returns the one before.
    fn lower_if_lower(
        &self,
        to: Mode,
        reopening: Option<UnixMillis>,
        said: &Said,
    ) -> Option<(Mode, Ticket)> {
        let mut changes = self.changing();
        let from = self.mode_in(&changes);
        if to >= from && to != Mode::Closed {
            return None;
        }
        let ticket = self.lower(&mut changes, to, reopening, said);
        drop(changes);
        log_mode(from, to, said);
        Some((from, ticket))
    }

    fn lower(
        &self,
        changes: &mut Changes,
        to: Mode,
        reopening: Option<UnixMillis>,
        said: &Said,
    ) -> Ticket {
        changes.lowered += 1;
        let from = self.mode_in(changes);
        if let Some(aside) = &mut changes.aside {
            *aside = to;
        }
        let is_closed = (from, to) == (Mode::Closed, Mode::Closed);
        // Whoever closes a closed site, and names no time, says nothing of the time that is planned.
        let planned = self.reopening().filter(|_| is_closed);
        let reopening = reopening.or(planned);
        // Never higher than what is in force here.
        self.enter_mode(to.min(self.stance().mode), reopening);
        self.tell_mode((from, to), reopening, said);
        let what = What::ModeChanged {
            from,
            to,
            reopening,
        };
        self.put(what, said)
    }

    fn raise_mode(
        &self,
        to: Mode,
        reopening: Option<UnixMillis>,
        said: &Said,
    ) -> Result<(Mode, Ticket), ChangeFault> {
        let _raising = self.raising();
        // Who raised before may have raised it above.
        if let Some(lowered) = self.lower_if_lower(to, reopening, said) {
            return Ok(lowered);
        }
        let mut changes = self.changing();
        if changes.aside.is_some() {
            return Err(ChronicleFault::Released.into());
        }
        let (from, lowered) = (self.stance().mode, changes.lowered);
        let what = |from, to, reopening| What::ModeChanged {
            from,
            to,
            reopening,
        };
        let entry = self.entry(what(from, to, reopening), said);
        let back = what(to, from, self.reopening());
        let ticket = self.put_first(&entry, Some(back))?;
        changes.is_raised = true;
        drop(changes);
        let recorded = self.chronicle.first(&ticket);
        let mut changes = self.changing();
        changes.is_raised = false;
        let place = recorded?;
        self.unless_overtaken(&changes, lowered, place)?;
        self.enter_mode(to, reopening);
        self.tell_mode((from, to), reopening, said);
        drop(changes);
        log_mode(from, to, said);
        Ok((from, ticket))
    }

    /// What is on the timeline in this place takes effect now, unless somebody has asked for less since.
    fn unless_overtaken(
        &self,
        changes: &Changes,
        lowered: u64,
        place: u64,
    ) -> Result<(), ChangeFault> {
        if changes.lowered == lowered {
            return Ok(());
        }
        let said =
            Said::by_node("it did not take effect: the site was told to share less meanwhile");
        let mut entry = self.entry(What::Corrected {}, &said);
        entry.supersedes = Some(place);
        let put = self.chronicle.put(&entry, Otherwise::Kept, self.now());
        if let Err(why) = put {
            tracing::error!(%why, place, "an entry of the timeline is not corrected");
        }
        Err(ChangeFault::Overtaken(self.stance().mode))
    }

    /// Takes a mode unless the one in force is as low already: what a node does by itself never shares
    /// more. Never waits for a disk.
    pub fn lower_mode(&self, to: Mode, said: &Said) {
        let mut changes = self.changing();
        let from = self.mode_in(&changes);
        if to < from {
            drop(self.lower(&mut changes, to, None, said));
            drop(changes);
            log_mode(from, to, said);
        } else if changes.is_raised {
            // As low already, and about to be raised by somebody who does not know of this.
            changes.lowered += 1;
            let reopening = self.reopening();
            let what = What::ModeChanged {
                from,
                to: from,
                reopening,
            };
            drop(self.put(what, said));
        }
    }

    /// Tells the world of a mode. Whoever does this holds the lock on changes: what is told last is what is
    /// in force.
    fn tell_mode(&self, (from, to): (Mode, Mode), reopening: Option<UnixMillis>, said: &Said) {
        self.modes.send_replace(Some(ModeNotice {
            from,
            to,
            reason: said.text.clone(),
            actor: said.actor.to_string(),
            reopening,
            at: self.now(),
        }));
    }

    /// The mode, and after that what follows from it. Whoever does this holds the lock on changes.
    fn enter_mode(&self, mode: Mode, reopening: Option<UnixMillis>) {
        self.plan(reopening);
        self.put_mode_alone(mode);
        if mode == Mode::Closed {
            // After the stance: whoever is told finds it closed.
            self.closings.close();
        }
    }

    fn put_mode_alone(&self, mode: Mode) {
        let stance = self.stance();
        self.put_stance(Stance {
            mode,
            rules: Arc::clone(&stance.rules),
            epoch: stance.epoch,
            tags: Arc::clone(&stance.tags),
        });
    }

    /// Takes a mode, and waits until it is in force: when the site was closed, until nothing that began
    /// before can be sent any more. The thread never waits for a disk.
    ///
    /// # Errors
    /// See [`Self::take_mode`].
    pub async fn change_mode(
        self: &Arc<Self>,
        to: Mode,
        reopening: Option<UnixMillis>,
        said: &Said,
    ) -> Result<ModeTaken, ChangeFault> {
        let began = Instant::now();
        let lowered = self.lower_if_lower(to, reopening, said);
        let closed = match to {
            Mode::Closed => Some(self.all_cut(began).await),
            _ => None,
        };
        let (node, said) = (Arc::clone(self), said.clone());
        let mut taken = self
            .where_disks_are_waited_for(move || match lowered {
                Some((from, ticket)) => Ok(ModeTaken {
                    from,
                    to,
                    recorded: node.recorded(&ticket),
                    stored: node.store.objects(),
                    closed: None,
                }),
                None => node.take_mode(to, reopening, &said),
            })
            .await?;
        taken.closed = closed;
        Ok(taken)
    }

    /// Waits until all that ran when the site was closed is cut.
    async fn all_cut(&self, began: Instant) -> Closed {
        let done = timeout(CLOSING_TIME_MAX, self.closings.all_done()).await;
        let (cut, behind) = match done {
            Ok(cut) => (cut, 0),
            Err(_) => self.closings.so_far(),
        };
        let took = began.elapsed();
        if behind > 0 {
            tracing::error!(behind, "CLOSED, BUT NOT ALL CONNECTIONS HAVE SAID SO");
        }
        tracing::info!(
            connections = cut.connections,
            streams = cut.streams,
            ?took,
            "closed"
        );
        Closed { cut, took, behind }
    }

    /// Runs what may wait for the timeline's disk on a thread that nobody is served on.
    async fn where_disks_are_waited_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if !self.chronicle.is_kept() {
            return work();
        }
        match spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Closes a node that another has replaced, and waits until what runs on it is cut. That other one has
    /// put it on the timeline. Blocks its thread, for a second at most.
    pub fn close_with_successor(&self) {
        let changes = self.changing();
        self.enter_mode(Mode::Closed, self.reopening());
        drop(changes);
        let began = std::time::Instant::now();
        while self.closings.so_far().1 > 0 && began.elapsed() < CLOSING_TIME_MAX {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Plans when to open again, while the mode stays.
    ///
    /// # Errors
    /// It could not be recorded, or somebody lowered the mode meanwhile.
    pub fn plan_reopening(
        &self,
        at: Option<UnixMillis>,
        said: &Said,
    ) -> Result<Recorded, ChangeFault> {
        let _raising = self.raising();
        let changes = self.changing();
        let lowered = changes.lowered;
        let entry = self.entry(What::ReopeningPlanned { at }, said);
        let back = What::ReopeningPlanned {
            at: self.reopening(),
        };
        let ticket = self.put_first(&entry, Some(back))?;
        drop(changes);
        let place = self.chronicle.first(&ticket)?;
        let changes = self.changing();
        self.unless_overtaken(&changes, lowered, place)?;
        self.plan(at);
        Ok(Recorded::At(place))
    }

    /// Puts other rules in force. Requests that run keep theirs; what they fill under a meaning that is
    /// gone is not stored. `policy`: the file that they come from.
    ///
    /// # Errors
    /// They are others, and that could not be recorded: the old ones stay.
    pub fn reload(
        &self,
        rules: Rules,
        policy: Option<&str>,
        said: &Said,
    ) -> Result<(), ChangeFault> {
        let _raising = self.raising();
        if self.stance().rules.digest() != rules.digest() {
            let what = What::RulesInForce {
                rules: rules.digest(),
                policy: policy.map(str::to_owned),
            };
            self.record(&self.entry(what, said))?;
        }
        self.store.resize(rules.limits().store_bytes_max);
        let changes = self.changing();
        // As it is now: the mode may have been lowered meanwhile.
        let stance = self.stance();
        self.put_stance(Stance {
            mode: stance.mode,
            rules: Arc::new(rules),
            epoch: stance.epoch,
            tags: Arc::clone(&stance.tags),
        });
        drop(changes);
        self.remembered.clear();
        self.sweep();
        Ok(())
    }

    /// Kills what the targets mean and what began before now: stored, or being filled. It holds for
    /// whatever is asked for after this returns.
    pub fn purge(&self, targets: &[PurgeTarget], said: &Said) -> Purged {
        let covered = self.covered(targets);
        let changes = self.changing();
        let rules = Arc::clone(&self.stance().rules);
        let targets = targets
            .iter()
            .map(|target| self.purges.untold(target, &rules));
        let targets: Vec<PurgeTarget> = targets.collect();
        let mut epoch = self.stance().epoch;
        if targets.contains(&PurgeTarget::All) {
            let stance = self.stance();
            epoch = stance.epoch.next();
            self.put_stance(Stance {
                mode: stance.mode,
                rules: Arc::clone(&stance.rules),
                epoch,
                tags: Arc::clone(&stance.tags),
            });
            self.remembered.clear();
        }
        let order = self.purges.purge(&targets);
        let put = chunks(&targets).into_iter().map(|targets| {
            let what = What::Purged {
                targets,
                order,
                epoch,
            };
            self.put(what, said)
        });
        let put: Vec<Ticket> = put.collect();
        drop(changes);
        self.sweep();
        let mut recorded = Recorded::At(0);
        for ticket in &put {
            if !matches!(recorded, Recorded::NotYet(_)) {
                recorded = self.recorded(ticket);
            }
        }
        Purged {
            order,
            epoch,
            covered,
            recorded,
        }
    }

    /// What a purge of these targets would cover now.
    #[must_use]
    pub fn covered(&self, targets: &[PurgeTarget]) -> Covered {
        // Held against marks of its own, at the end of all order.
        let mut marks = Marks::new();
        for target in targets {
            marks.purge(target, Order(u64::MAX));
        }
        let dies = |uri: &str, labels: &Labels| {
            let order = Order(0);
            let uri_digest = self.purges.digest_for(&marks, uri);
            let marked = Marked {
                uri,
                uri_digest,
                labels,
                order,
            };
            marks.standing(&marked) == Standing::Dead
        };
        let mut covered = Covered::default();
        let mut uris: BTreeMap<Box<str>, ()> = BTreeMap::new();
        self.store.each(|object| {
            let marked = object.marked();
            if dies(marked.uri, marked.labels) {
                covered.objects += 1;
                covered.bytes += object.weight();
                uris.insert(marked.uri.into(), ());
            }
        });
        covered.uris = u64::try_from(uris.len()).unwrap_or(u64::MAX);
        // Nobody knows yet what their answers will bear.
        let unknown = Labels::unknown();
        covered.filling = self.flights.count_where(|key| dies(&key.name(), &unknown));
        covered
    }

    /// Frees the memory of what can no longer be used.
    fn sweep(&self) {
        let stance = self.stance();
        self.store.retain(|object| {
            in_force(&stance, object.head().key())
                && self.purges.standing(&object.marked()) != Standing::Dead
                && object
                    .head()
                    .key()
                    .grant()
                    .is_none_or(|grant| self.grants.holds(grant, self.now()))
        });
    }

    /// Makes a preview grant: recorded before anybody can use it.
    ///
    /// # Errors
    /// It is for no time or too long, has no name, or could not be recorded.
    pub fn make_grant(
        &self,
        name: &str,
        mode: Mode,
        time: Duration,
        said: &Said,
    ) -> Result<(Grant, GrantToken), ChangeFault> {
        let _raising = self.raising();
        let wrong = |why: &str| Err(ChangeFault::Wrong(why.to_owned()));
        if name.trim().is_empty() || name.len() > GRANT_NAME_BYTES_MAX || has_controls(name) {
            return wrong("a grant has a name, of at most 200 bytes: who it is for");
        }
        if time.is_zero() || time > GRANT_TIME_MAX {
            return wrong("a grant is for some time, and for a day at most");
        }
        if mode == Mode::Closed {
            return wrong("a grant previews open, static or pass");
        }
        let from = self.now();
        let grant = Grant {
            id: GrantId(self.random_id()),
            name: name.to_owned(),
            mode,
            from,
            until: from.after(time),
        };
        let what = What::GrantMade {
            grant: grant.clone(),
        };
        let back = What::GrantRevoked { grant: grant.id };
        let ticket = self.put_first(&self.entry(what, said), Some(back))?;
        self.chronicle.first(&ticket)?;
        let token = self.grants.add(grant.clone());
        Ok((grant, token))
    }

    /// Takes a preview grant back. `None`: there is none of this id.
    pub fn revoke_grant(&self, id: GrantId, said: &Said) -> Option<Recorded> {
        let changes = self.changing();
        self.grants.remove(id)?;
        let ticket = self.put(What::GrantRevoked { grant: id }, said);
        drop(changes);
        self.sweep();
        Some(self.recorded(&ticket))
    }

    /// The grants that hold now.
    #[must_use]
    pub fn live_grants(&self) -> Vec<Grant> {
        self.grants.live(self.now())
    }

    /// The grant that a request's token opens. Never waits: one whose first use is not recorded
    /// ([`Self::introduce`]) opens nothing.
    pub(crate) fn grant_of(&self, token: &GrantToken) -> Option<Grant> {
        let grant = self.grants.of(token, self.now())?;
        (!self.grants.is_unused(grant.id)).then_some(grant)
    }

    /// Records the first use of a token's grant, before it opens anything. The thread never waits for a
    /// disk.
    pub(crate) async fn introduce(self: &Arc<Self>, token: &GrantToken) {
        let unused = || {
            let grant = self.grants.of(token, self.now());
            grant.filter(|grant| self.grants.is_unused(grant.id))
        };
        if unused().is_none() {
            return;
        }
        // One after another: whoever comes meanwhile finds it used.
        let _introducing = self.introducing.lock().await;
        let Some(grant) = unused() else { return };
        let said = Said::by_node(format!("shown for `{}`", grant.name));
        let entry = self.entry(What::GrantUsed { grant: grant.id }, &said);
        let node = Arc::clone(self);
        let recorded = self.where_disks_are_waited_for(move || node.record(&entry));
        match recorded.await {
            Ok(_) => self.grants.used(grant.id),
            Err(why) => {
                tracing::error!(%why, "a preview grant opens nothing: its use cannot be recorded");
            }
        }
    }

    /// Takes note of a look at the evidence: what begins or ends is logged, and put on the timeline as soon
    /// as that is possible. Never waits for the timeline's disk, which is the same.
    pub(crate) fn look_out(&self, look: &Look<'_>) {
        let alarm = look.alarm;
        match self.evidence().alarms.note(look, self.now()) {
            None => {}
            Some(Change::Begins(what)) => {
                tracing::error!("ALARM: {alarm}: {what}");
                self.note_later(What::EvidenceAlarm { alarm }, &Said::by_node(what));
            }
            Some(Change::Ends {
                since,
                wrong,
                well,
                came_back,
                counted,
            }) => {
                let lasted = Duration::from_secs(wrong.since(since).as_secs());
                let mut text = format!("it lasted {lasted:?}");
                if came_back > 0 {
                    write!(text, " and came back {came_back} times")
                        .expect("a string can be written to");
                }
                match alarm {
                    Alarm::Full => write!(text, "; {counted} requests found no space"),
                    Alarm::Gap => write!(
                        text,
                        "; {counted} responses have no rows, gap rows say when"
                    ),
                    _ => Ok(()),
                }
                .expect("a string can be written to");
                tracing::info!("over: {alarm}: {text}");
                let said = Said::by_node(text);
                let mut entry = self.entry(What::EvidenceAlarmEnded { alarm }, &said);
                (entry.earliest, entry.latest) = (wrong, well.max(wrong));
                drop(self.put_entry(&entry));
            }
        }
    }

    /// What must be looked at from time to time: whether the clock has jumped, and the timeline. May wait
    /// for a moment for the timeline's disk.
    pub fn maintain(&self) {
        if let Some(away) = self.clock_jump() {
            #[cfg(feature = "seeded-faults")]
            if shikiri_partition::fault::is(shikiri_partition::fault::Fault::JumpIgnored) {
                return;
            }
            let away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(away_ms, "the clock jumped: everything stored is purged");
            let said = Said::by_node("the clock jumped");
            self.purge(&[PurgeTarget::All], &said);
            self.note(What::ClockJumped { away_ms }, &said);
        }
        if let Err((waiting, why)) = self.chronicle.maintain(self.now()) {
            tracing::error!(%why, waiting, "THE TIMELINE LACKS ENTRIES, which wait to be written");
        }
    }
}

/// What is put on the timeline when a node begins to run.
#[derive(Debug)]
pub struct Start<'a> {
    /// The policy's file; none for the built-in one.
    pub policy: Option<&'a str>,
    /// What is missing from the timeline, in words.
    pub missing: Option<(Alarm, String)>,
    /// What else is to be known of how it began.
    pub text: &'a str,
}

fn log_mode(from: Mode, to: Mode, said: &Said) {
    tracing::info!(%from, %to, actor = %said.actor, reason = said.text, "the mode changed");
}

/// Targets, in as many entries as they need.
fn chunks(targets: &[PurgeTarget]) -> Vec<Vec<PurgeTarget>> {
    let mut chunks: Vec<Vec<PurgeTarget>> = Vec::new();
    let mut room = 0;
    for target in targets {
        let bytes = target.to_string().len() + 64;
        match chunks.last_mut() {
            Some(chunk) if bytes <= room => {
                room -= bytes;
                chunk.push(target.clone());
            }
            _ => {
                room = TARGET_BYTES_MAX.saturating_sub(bytes);
                chunks.push(vec![target.clone()]);
            }
        }
    }
    chunks
}

fn has_controls(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// The text, or as much of it as there is room for.
fn clipped(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
