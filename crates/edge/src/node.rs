//! The node: what its requests share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use shikiri_evidence::OpenFault;
use shikiri_partition::{Beginning, Class, Constants, Key, Limits, ModeSaid, NotShared, Rules};
use shikiri_record::{Epoch, FillId, Mode, NodeKey, Order, UnixMillis};
use tokio::sync::watch;

use crate::chain::Chain;
use crate::change::{Changes, ModeNotice};
use crate::chronicle::Chronicle;
use crate::closing::Closings;
use crate::evidence::{Evidence, Tags};
use crate::flight::Flights;
use crate::grants::Grants;
use crate::lane::Lane;
use crate::maintenance::Maintenance;
use crate::meter::Meters;
use crate::origin::{OriginFault, Pool};
use crate::pin;
use crate::purge::Purges;
use crate::remembered::Remembered;
use crate::shares::{PerAddress, Share, Shares};
use crate::store::Store;
use crate::tls::{OriginTrust, Tenants};
use crate::trace::Tracer;
use crate::world::World;

/// What does not change while a node runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, in `Via` and `CDN-Loop`: a token.
    pub name: String,
    /// Networks whose claims about earlier hops are believed, and who are told reasons.
    pub trusted: Vec<TrustedNetwork>,
}

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedNetwork {
    address: IpAddr,
    bits: u8,
}

impl TrustedNetwork {
    /// Whether every address of a kind is in it.
    #[must_use]
    pub const fn is_everybody(&self) -> bool {
        self.bits == 0
    }

    fn contains(&self, address: IpAddr) -> bool {
        let same = |a: &[u8], b: &[u8]| {
            let (whole, rest) = (usize::from(self.bits / 8), self.bits % 8);
            a.get(..whole) == b.get(..whole)
                && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(&a.octets(), &b.octets()),
            _ => false,
        }
    }
}

impl std::str::FromStr for TrustedNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no address or network: write `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/32`"
            )
        };
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|b| *b <= most).ok_or_else(wrong)?,
        };
        Ok(Self { address, bits })
    }
}

/// What a node keeps across restarts.
#[derive(Debug)]
pub struct Kept {
    /// What its timeline says that it begins with.
    pub beginning: Beginning,
    /// The timeline, for what comes.
    pub chronicle: Chronicle,
    /// Its own secret.
    pub node_key: NodeKey,
}

/// Mode, rules and epoch, and the key of the tags, as one value, read once when a request begins.
#[derive(Debug)]
pub struct Stance {
    /// The mode in force.
    pub mode: Mode,
    /// The rules in force.
    pub rules: Arc<Rules>,
    /// The epoch in force.
    pub epoch: Epoch,
    /// What tags are made with.
    pub tags: Arc<Tags>,
}

/// What a node's requests share: the stance, the store, running fills, purges and counts.
pub struct Node {
    config: Config,
    constants: Constants,
    world: Arc<dyn World>,
    evidence: Evidence,
    /// The lanes of the workers that are there.
    lanes: Mutex<Vec<Weak<Lane>>>,
    stance: ArcSwap<Stance>,
    /// Changes take effect one after another (`crate::change`). Never held while a disk is waited for.
    pub(crate) changing: Mutex<Changes>,
    /// What shares more is recorded and takes effect one at a time: held while the disk is waited for.
    pub(crate) raising: Mutex<()>,
    pub(crate) chronicle: Chronicle,
    pub(crate) closings: Arc<Closings>,
    pub(crate) grants: Grants,
    /// First uses of grants are recorded one after another.
    pub(crate) introducing: tokio::sync::Mutex<()>,
    pub(crate) modes: watch::Sender<Option<ModeNotice>>,
    /// Who said the mode that the run began in.
    mode_said: Option<ModeSaid>,
    maintenance: ArcSwap<Maintenance>,
    /// In milliseconds since 1970; 0 for no plan.
    reopening: AtomicU64,
    /// The same, of the last request; 0 for none.
    last_request: AtomicU64,
    pub(crate) store: Store,
    pub(crate) flights: Arc<Flights>,
    pub(crate) remembered: Remembered,
    pub(crate) purges: Purges,
    pub(crate) pins: pin::Table,
    pub(crate) counters: Counters,
    pub(crate) meters: Meters,
    started: UnixMillis,
    /// How often the node has begun, and where the places of this run begin.
    began: (u64, Order),
    connections: Arc<AtomicUsize>,
    /// What each client address has of what is bounded.
    pub(crate) shares: PerAddress,
    requests: AtomicUsize,
    tunnels: AtomicUsize,
    /// Gates that are being asked.
    gates: AtomicUsize,
    /// What gates have opened for, kept as no gate may.
    #[cfg(feature = "seeded-faults")]
    pub(crate) opened: Mutex<std::collections::HashSet<String>>,
    /// TLS handshakes that run.
    pub(crate) handshakes: AtomicUsize,
    /// HTTP/2 streams on which something is asked or answered.
    pub(crate) streams: AtomicUsize,
    tenants: OnceLock<Arc<Tenants>>,
    /// Where spans go, where there are traces.
    pub(crate) tracer: OnceLock<Tracer>,
    origin_trust: OriginTrust,
    filling: AtomicU64,
    invalidations: Mutex<(u64, u32)>,
    /// The second in which an origin's failure was last logged.
    failure_logged: AtomicU64,
}

/// Counts since the node began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) fills: AtomicU64,
    pub(crate) collapsed: AtomicU64,
    pub(crate) led: AtomicU64,
    pub(crate) passes: AtomicU64,
    pub(crate) gates: AtomicU64,
    pub(crate) gates_shut: AtomicU64,
    pub(crate) relays: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) sets_ended: AtomicU64,
    pub(crate) invalidations_dropped: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) ends: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) without_space: AtomicU64,
    pub(crate) own: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) closed: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A reading of a node's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests that were read.
    pub requests: u64,
    /// Served from the store, fresh.
    pub hits: u64,
    /// Served from the store past freshness.
    pub stale: u64,
    /// Shared fetches sent, second copies not counted.
    pub fills: u64,
    /// Served from a fill that another request led.
    pub collapsed: u64,
    /// Served from a fill that the request itself led, its answer shared or to be compared.
    pub led: u64,
    /// Sent to the origin as themselves.
    pub passes: u64,
    /// Gates that were asked whether somebody may see something.
    pub gates: u64,
    /// Those that did not open.
    pub gates_shut: u64,
    /// Shared fetches whose answer went to one requester alone.
    pub relays: u64,
    /// Refused.
    pub refused: u64,
    /// Origin failures shown to a client.
    pub failures: u64,
    /// Sets of slices that ended because a slice did not fit them.
    pub sets_ended: u64,
    /// Invalidations by unsafe methods that came too fast to be honoured.
    pub invalidations_dropped: u64,
    /// Responses with a begin row. Together with `gaps`, `own` and `abandoned`, and with those that are
    /// being answered, these are the requests.
    pub rows: u64,
    /// Responses with an end row.
    pub ends: u64,
    /// Responses that were shown without rows, since there was no space for any.
    pub gaps: u64,
    /// Requests for whose rows there was no space: refused, or passed without rows.
    pub without_space: u64,
    /// Answers in the node's own words: refusals, failures.
    pub own: u64,
    /// Requests whose client had gone before there was an answer.
    pub abandoned: u64,
    /// Shown the maintenance page.
    pub closed: u64,
    /// Answers in which an origin named somebody who did not fit.
    pub pin_faults: u64,
    /// Those of which nothing left.
    pub pin_stops: u64,
    /// Answers that did not fit, for which something lost or forgotten may be the reason.
    pub pin_unsure: u64,
    /// Sessions whose viewer is known now.
    pub pinned: u64,
    /// Objects stored now.
    pub objects: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Requests being answered now.
    pub running: u64,
    /// Fills running now.
    pub filling: u64,
}

impl Counts {
    /// Each count with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 29] {
        [
            ("requests", self.requests),
            ("running", self.running),
            ("hits", self.hits),
            ("stale", self.stale),
            ("collapsed", self.collapsed),
            ("led", self.led),
            ("fills", self.fills),
            ("relays", self.relays),
            ("passes", self.passes),
            ("gates", self.gates),
            ("gates-shut", self.gates_shut),
            ("refused", self.refused),
            ("failures", self.failures),
            ("sets-ended", self.sets_ended),
            ("invalidations-dropped", self.invalidations_dropped),
            ("rows", self.rows),
            ("ends", self.ends),
            ("gaps", self.gaps),
            ("without-space", self.without_space),
            ("own", self.own),
            ("abandoned", self.abandoned),
            ("closed", self.closed),
            ("pin-faults", self.pin_faults),
            ("pin-stops", self.pin_stops),
            ("pin-unsure", self.pin_unsure),
            ("pinned", self.pinned),
            ("objects", self.objects),
            ("bytes", self.bytes),
            ("filling", self.filling),
        ]
    }
}

impl Node {
    /// A node that keeps no timeline: open, in its first epoch, its store empty.
    #[must_use]
    pub fn new(
        config: Config,
        rules: Rules,
        world: Arc<dyn World>,
        evidence: Evidence,
    ) -> Arc<Self> {
        let mut secret = [0; 32];
        for bytes in secret.chunks_exact_mut(8) {
            bytes.copy_from_slice(&world.random().to_be_bytes());
        }
        let kept = Kept {
            beginning: Beginning::anew(),
            chronicle: Chronicle::none(),
            node_key: NodeKey::new(secret),
        };
        Self::begin(config, rules, world, evidence, kept)
    }

    /// A node that goes on with what its timeline says. Its store is empty.
    #[must_use]
    pub fn begin(
        config: Config,
        rules: Rules,
        world: Arc<dyn World>,
        evidence: Evidence,
        kept: Kept,
    ) -> Arc<Self> {
        let Kept {
            beginning,
            chronicle,
            node_key,
        } = kept;
        let constants = Constants::new(&config.name);
        let store = Store::new(rules.limits().store_bytes_max, world.random());
        let has_run_before = beginning.boot > 1;
        let node = Arc::new(Self {
            constants,
            config,
            stance: ArcSwap::from_pointee(Stance {
                mode: beginning.mode,
                rules: Arc::new(rules),
                epoch: beginning.epoch,
                tags: evidence.first_tags(),
            }),
            changing: Mutex::default(),
            raising: Mutex::default(),
            chronicle,
            closings: Closings::new(),
            grants: Grants::new(node_key.clone(), beginning.grants),
            introducing: tokio::sync::Mutex::default(),
            modes: watch::Sender::new(None),
            mode_said: beginning.mode_said,
            maintenance: ArcSwap::from_pointee(Maintenance::of_our_own()),
            reopening: AtomicU64::new(beginning.reopening.map_or(0, |at| at.0)),
            last_request: AtomicU64::new(0),
            store,
            flights: Arc::new(Flights::new(world.random())),
            remembered: Remembered::new(world.random()),
            purges: Purges::new(beginning.marks, beginning.first, node_key),
            pins: pin::Table::new(|| world.random()),
            counters: Counters::default(),
            meters: Meters::default(),
            started: world.now(),
            began: (beginning.boot, beginning.first),
            connections: Arc::default(),
            requests: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            gates: AtomicUsize::new(0),
            #[cfg(feature = "seeded-faults")]
            opened: Mutex::default(),
            shares: PerAddress::default(),
            handshakes: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            tenants: OnceLock::new(),
            tracer: OnceLock::new(),
            origin_trust: OriginTrust::default(),
            filling: AtomicU64::new(0),
            invalidations: Mutex::new((0, 0)),
            failure_logged: AtomicU64::new(0),
            world,
            evidence,
            lanes: Mutex::default(),
        });
        if has_run_before {
            node.follows_another();
        }
        node
    }

    /// The stance: taken once per request.
    #[must_use]
    pub fn stance(&self) -> Arc<Stance> {
        self.stance.load_full()
    }

    pub(crate) const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub(crate) const fn lanes(&self) -> &Mutex<Vec<Weak<Lane>>> {
        &self.lanes
    }

    pub(crate) fn constants(&self) -> &Constants {
        &self.constants
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.config
            .trusted
            .iter()
            .any(|network| network.contains(address))
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How often the node has begun to run, this time included.
    pub(crate) const fn boot(&self) -> u64 {
        self.began.0
    }

    /// Where the places of this run in the node's order begin.
    pub(crate) const fn first_place(&self) -> Order {
        self.began.1
    }

    /// When it began.
    #[must_use]
    pub const fn started(&self) -> UnixMillis {
        self.started
    }

    /// Client connections that are open, for those who open and close them.
    pub(crate) const fn connections_counter(&self) -> &Arc<AtomicUsize> {
        &self.connections
    }

    /// Client connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        u64::try_from(self.connections.load(Ordering::Relaxed)).unwrap_or(u64::MAX)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.world.now()
    }

    /// A number that names something, and that nobody can guess.
    pub(crate) fn random_id(&self) -> u128 {
        (u128::from(self.world.random()) << 64) | u128::from(self.world.random())
    }

    pub(crate) fn fill_id(&self) -> FillId {
        FillId(self.random_id())
    }

    pub(crate) fn world(&self) -> &dyn World {
        &*self.world
    }

    /// Whom the node believes to be an origin.
    #[must_use]
    pub const fn origin_trust(&self) -> &OriginTrust {
        &self.origin_trust
    }

    /// Says whom the node serves with TLS: the end of their certificates is told of, and what they ask of
    /// clients is not to be had in cleartext.
    pub fn serve_tenants(&self, tenants: Arc<Tenants>) {
        // The first are all that there are.
        drop(self.tenants.set(tenants));
    }

    /// Whether whoever asks for this host (lower case, no port, no final dot) must show a certificate.
    pub(crate) fn requires_certificate(&self, host: &str) -> bool {
        let tenants = self.tenants.get();
        tenants.is_some_and(|tenants| tenants.require_certificate(host))
    }

    /// When the first certificate of the node ends.
    pub(crate) fn certificates_end(&self) -> Option<UnixMillis> {
        self.tenants.get()?.first_end()
    }

    /// Another process served the same clients a moment ago: what it was told of their sessions, this one
    /// was not. A node that has run before knows of one when it begins.
    pub fn follows_another(&self) {
        let time = self.stance().rules.limits().first_byte_time_max;
        self.pins.doubt_until(self.now().after(time));
    }

    /// Puts a stance in force. Whoever does holds the lock on changes.
    pub(crate) fn put_stance(&self, stance: Stance) {
        self.stance.store(Arc::new(stance));
    }

    /// Called while nothing else changes.
    pub(crate) fn put_tags(&self, tags: Arc<Tags>) {
        let stance = self.stance();
        self.put_stance(Stance {
            mode: stance.mode,
            rules: Arc::clone(&stance.rules),
            epoch: stance.epoch,
            tags,
        });
    }

    /// When the site is planned to open again.
    #[must_use]
    pub fn reopening(&self) -> Option<UnixMillis> {
        let at = self.reopening.load(Ordering::SeqCst);
        (at > 0).then_some(UnixMillis(at))
    }

    pub(crate) fn plan(&self, reopening: Option<UnixMillis>) {
        let at = reopening.map_or(0, |at| at.0);
        self.reopening.store(at, Ordering::SeqCst);
    }

    /// What a closed node shows.
    pub(crate) fn maintenance(&self) -> Arc<Maintenance> {
        self.maintenance.load_full()
    }

    /// Shows this while the site is closed, from now on.
    pub fn show_when_closed(&self, maintenance: Maintenance) {
        self.maintenance.store(Arc::new(maintenance));
    }

    /// Tells of every change of the mode, the last one at least.
    #[must_use]
    pub fn modes(&self) -> watch::Receiver<Option<ModeNotice>> {
        self.modes.subscribe()
    }

    /// Since when the mode is in force, and who said so, where anybody did.
    #[must_use]
    pub fn mode_said(&self) -> Option<ModeSaid> {
        let changed = self.modes.borrow();
        let changed = changed.as_ref().map(|notice| ModeSaid {
            at: notice.at,
            actor: notice.actor.clone(),
            reason: notice.reason.clone(),
        });
        changed.or_else(|| self.mode_said.clone())
    }

    /// TLS handshakes that run.
    pub(crate) fn handshakes_running(&self) -> u64 {
        u64::try_from(self.handshakes.load(Ordering::Relaxed)).unwrap_or(u64::MAX)
    }

    /// HTTP/2 streams of clients on which something is asked or answered.
    #[must_use]
    pub fn streams_running(&self) -> u64 {
        u64::try_from(self.streams.load(Ordering::Relaxed)).unwrap_or(u64::MAX)
    }

    /// Tunnels that are open.
    #[must_use]
    pub fn tunnels_open(&self) -> u64 {
        u64::try_from(self.tunnels.load(Ordering::Relaxed)).unwrap_or(u64::MAX)
    }

    /// How many entries are not on the timeline yet.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.chronicle.unwritten()
    }

    /// A request has come.
    pub(crate) fn note_request(&self) {
        count(&self.counters.requests);
        self.last_request.store(self.now().0, Ordering::Relaxed);
    }

    /// The sequence number of the next entry on the timeline.
    pub(crate) fn next_entry(&self) -> u64 {
        self.chronicle.next()
    }

    /// Stored objects.
    pub(crate) fn stored(&self) -> usize {
        self.store.objects()
    }

    /// When the last request came, if any has.
    #[must_use]
    pub fn last_request(&self) -> Option<UnixMillis> {
        let at = self.last_request.load(Ordering::Relaxed);
        (at > 0).then_some(UnixMillis(at))
    }

    pub(crate) fn clock_jump(&self) -> Option<Duration> {
        self.world.clock_jump()
    }

    /// Counts a request in, unless too many run.
    pub(crate) fn admit_request(self: &Arc<Self>, limits: &Limits) -> Option<RequestPermit> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let permit = RequestPermit(Arc::clone(self));
        (before < limits.requests_max).then_some(permit)
    }

    /// A client's share of something; `None` when its address has `max` already. Trusted hops bring
    /// others, and have no bound of their own.
    pub(crate) fn share(&self, of: &Arc<Shares>, client: IpAddr, max: usize) -> Option<Share> {
        if self.trusts(client) {
            return Some(Share::of_a_trusted_hop());
        }
        of.take(client, max)
    }

    /// Counts a client's tunnel in, unless there are too many.
    pub(crate) fn admit_tunnel(
        self: &Arc<Self>,
        client: IpAddr,
        limits: &Limits,
    ) -> Option<TunnelPermit> {
        let max = limits.tunnels_per_address_max;
        let share = self.share(&self.shares.tunnels, client, max)?;
        let before = self.tunnels.fetch_add(1, Ordering::Relaxed);
        let permit = TunnelPermit {
            node: Arc::clone(self),
            _share: share,
        };
        (before < limits.tunnels_max).then_some(permit)
    }

    /// Counts a question to a gate in, unless there are too many.
    pub(crate) fn admit_gate(self: &Arc<Self>, limits: &Limits) -> Option<GatePermit> {
        let before = self.gates.fetch_add(1, Ordering::Relaxed);
        let permit = GatePermit(Arc::clone(self));
        (before < limits.gates_max).then_some(permit)
    }

    /// Sets aside memory for a fill's body, unless running fills take too much already.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64, limits: &Limits) -> Option<FillPermit> {
        let mut permit = FillPermit {
            node: Arc::clone(self),
            bytes: 0,
        };
        permit.grow(bytes, limits).then_some(permit)
    }

    /// Counts an origin's failure, and logs it: at most once a second, since an origin that is down
    /// fails for everybody.
    pub(crate) fn note_failure(&self, fault: &OriginFault) {
        let failures = self.counters.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let second = self.now().seconds();
        if self.failure_logged.swap(second, Ordering::Relaxed) != second {
            tracing::warn!(fault = %Chain(fault), failures, "an origin failed");
        }
    }

    /// Whether an unsafe method may still invalidate in this second.
    pub(crate) fn may_invalidate(&self, limits: &Limits) -> bool {
        let second = self.now().seconds();
        let mut window = self
            .invalidations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if window.0 != second {
            *window = (second, 0);
        }
        window.1 += 1;
        window.1 <= limits.invalidations_per_second_max
    }

    /// A reading of the counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let c = &self.counters;
        let pins = self.pins.counts();
        Counts {
            requests: read(&c.requests),
            hits: read(&c.hits),
            stale: read(&c.stale),
            fills: read(&c.fills),
            collapsed: read(&c.collapsed),
            led: read(&c.led),
            passes: read(&c.passes),
            gates: read(&c.gates),
            gates_shut: read(&c.gates_shut),
            relays: read(&c.relays),
            refused: read(&c.refused),
            failures: read(&c.failures),
            sets_ended: read(&c.sets_ended),
            invalidations_dropped: read(&c.invalidations_dropped),
            rows: read(&c.rows),
            ends: read(&c.ends),
            gaps: read(&c.gaps),
            without_space: read(&c.without_space),
            own: read(&c.own),
            abandoned: read(&c.abandoned),
            closed: read(&c.closed),
            pin_faults: pins.faults.iter().sum(),
            pin_stops: self.pins.stopped(),
            pin_unsure: pins.unsure,
            pinned: pins.sessions,
            objects: wide(self.store.objects()),
            bytes: self.store.bytes(),
            running: wide(self.requests.load(Ordering::Relaxed)),
            filling: wide(self.flights.count()),
        }
    }
}

/// Whether what a running fill brings may be told to those who wait for it, and stored: its key can still
/// be named, and its class is still shared in the mode in force. What a preview fills is the preview's.
pub(crate) fn may_share(node: &Node, key: &Key) -> Result<(), NotShared> {
    let stance = node.stance();
    if !in_force(&stance, key) {
        return Err(NotShared::RulesChanged);
    }
    let mode = match key.grant() {
        Some(grant) => node.grants.mode_of(grant, node.now()),
        None => stance.mode,
    };
    #[cfg(feature = "seeded-faults")]
    let mode = shikiri_partition::fault::mode(mode);
    let mut classes = stance.rules.classes().iter();
    let is_shared = |class: &Arc<Class>| class.digest == key.class() && class.is_shared_in(mode);
    // Without its digest in the key, it is of no class that is known.
    #[cfg(feature = "seeded-faults")]
    if shikiri_partition::fault::is(shikiri_partition::fault::Fault::OldDigestServed) {
        return Ok(());
    }
    if classes.any(is_shared) {
        Ok(())
    } else {
        Err(NotShared::ModeLowered)
    }
}

/// Whether a key can still be named under a stance.
pub(crate) fn in_force(stance: &Stance, key: &Key) -> bool {
    // Without its digest and epoch in the key, an object looks at home under any rules.
    #[cfg(feature = "seeded-faults")]
    if shikiri_partition::fault::is(shikiri_partition::fault::Fault::OldDigestServed) {
        return true;
    }
    key.epoch() == stance.epoch
        && stance
            .rules
            .classes()
            .iter()
            .any(|class| class.digest == key.class())
}

/// A request being answered; counts it out when dropped.
pub(crate) struct RequestPermit(Arc<Node>);

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A tunnel; counts it out when dropped.
pub(crate) struct TunnelPermit {
    node: Arc<Node>,
    _share: Share,
}

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        self.node.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A question to a gate; counts it out when dropped.
pub(crate) struct GatePermit(Arc<Node>);

impl Drop for GatePermit {
    fn drop(&mut self) {
        self.0.gates.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory set aside for a running fill.
pub(crate) struct FillPermit {
    node: Arc<Node>,
    bytes: u64,
}

impl FillPermit {
    /// Sets aside up to `bytes` in all; `false` when that is too much.
    pub(crate) fn grow(&mut self, bytes: u64, limits: &Limits) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            // What is set aside already is this fill's, however full it has become since.
            return true;
        }
        let before = self.node.filling.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        before.saturating_add(more) <= limits.store_bytes_max
    }
}

impl Drop for FillPermit {
    fn drop(&mut self) {
        self.node.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One thread's part of a node: its connections to origins, and its lane of evidence.
pub struct Worker {
    node: Arc<Node>,
    pool: Pool,
    lane: Arc<Lane>,
}

impl Worker {
    /// A worker of a node, with no connections yet and a lane of evidence of its own.
    ///
    /// # Errors
    /// Its lane cannot be had.
    pub fn new(node: Arc<Node>) -> Result<Arc<Self>, OpenFault> {
        let stream = node.evidence.lanes.take(node.now())?;
        let lane = Lane::new(stream);
        let mut lanes = node.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.push(Arc::downgrade(&lane));
        drop(lanes);
        Ok(Arc::new(Self {
            node,
            pool: Pool::default(),
            lane,
        }))
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) const fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// The bounds in force.
    pub(crate) fn limits(&self) -> Limits {
        *self.node.stance.load().rules.limits()
    }

    /// Closes idle connections that have grown old.
    pub fn sweep(&self) {
        self.pool.sweep(&self.limits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_keeps_the_room_that_it_has_when_others_ask_for_too_much() {
        let origin = shikiri_partition::policy::origin("http://origin.test").unwrap();
        let rules = shikiri_partition::policy::compile(None, Some(origin)).unwrap();
        let limits = *rules.limits();
        let config = Config {
            name: "edge".into(),
            trusted: Vec::new(),
        };
        let world = Arc::new(crate::world::RealWorld::new());
        let node = Node::new(config, rules, world, Evidence::of_nobody());
        let mut whole = node.reserve(limits.store_bytes_max, &limits).unwrap();
        let mut other = node.reserve(0, &limits).unwrap();
        assert!(!other.grow(1, &limits));
        assert!(whole.grow(limits.store_bytes_max, &limits));
        assert!(!whole.grow(limits.store_bytes_max + 1, &limits));
    }

    #[test]
    fn networks() {
        let network: TrustedNetwork = "192.0.2.128/25".parse().unwrap();
        assert!(network.contains("192.0.2.200".parse().unwrap()));
        assert!(network.contains("::ffff:192.0.2.200".parse().unwrap()));
        assert!(!network.contains("192.0.2.100".parse().unwrap()));
        assert!(!network.contains("2001:db8::1".parse().unwrap()));
        assert!(
            "192.0.2.1"
                .parse::<TrustedNetwork>()
                .unwrap()
                .contains("192.0.2.1".parse().unwrap())
        );
        assert!(
            "0.0.0.0/0"
                .parse::<TrustedNetwork>()
                .unwrap()
                .contains("8.8.8.8".parse().unwrap())
        );
        for wrong in ["", "x", "192.0.2.0/33", "192.0.2.0/", "::1/129"] {
            assert!(wrong.parse::<TrustedNetwork>().is_err(), "{wrong}");
        }
    }
}
