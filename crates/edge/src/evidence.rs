//! Where a node keeps its evidence, and who looks after it.
//!
//! Rows are written by [`crate::lane`] and [`crate::slot`]; here is what a node's lanes have in common:
//! the disk, the key of the tags, what happens when there is no space, and the thread that waits for
//! the disk so that nobody who serves has to.
//!
//! Never here: what a row says.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::Serialize;
use shikiri_evidence::{
    BootId, Cut, Disk, Event, Keep, Lanes, MemoryDisk, Mended, OpenFault, Run, Trouble,
};
use shikiri_record::{AddressTag, Alarm, TagKey, UnixMillis};

use crate::alarm::{self, AlarmStatus, Look};
use crate::lane::Lane;
use crate::node::Node;

/// A node's evidence.
#[derive(Debug)]
pub struct Evidence {
    pub(crate) lanes: Arc<Lanes>,
    /// The key with which this run begins.
    first: Arc<Tags>,
    pub(crate) on_full: OnFull,
    /// How much may be lost when the power fails.
    sync_interval: Duration,
    /// When all that was written then was last known to outlive a loss of power.
    synced: AtomicU64,
    pub(crate) alarms: alarm::Table,
    /// How many requests had found no space when that was last looked at.
    without_space: AtomicU64,
}

/// How evidence is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvidenceHealth {
    /// Bytes that its files take.
    pub bytes: u64,
    /// Bytes that are free where they are, where that is told.
    pub free_bytes: Option<u64>,
    /// For how long a loss of power would have lost rows, in milliseconds.
    pub unsynced_ms: u64,
    /// Responses that were shown without rows.
    pub gaps: u64,
    /// What is wrong with it, or was until a moment ago.
    pub alarms: Vec<AlarmStatus>,
}

/// What happens to requests when there is no space for their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// They are refused with 503.
    Refuse,
    /// They pass, each to its own origin and back, and are counted in a gap row later; nothing that is
    /// stored leaves.
    Pass,
}

/// How evidence is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceSettings {
    /// How lanes are cut into segments.
    pub cut: Cut,
    /// How much is kept.
    pub keep: Keep,
    /// How much may be lost when the power fails.
    pub sync_interval: Duration,
    /// What happens when there is no space.
    pub on_full: OnFull,
}

impl EvidenceSettings {
    /// What holds where nothing is said.
    pub const STANDARD: Self = Self {
        cut: Cut {
            segment_bytes: 64 << 20,
            age_max: Duration::from_secs(60 * 60),
        },
        keep: Keep {
            bytes_max: 64 << 30,
            age_max: None,
            free_bytes_min: 1 << 30,
        },
        sync_interval: Duration::from_secs(1),
        on_full: OnFull::Refuse,
    };
}

/// What a request's tags are made with: one key for all of them, which its stance holds.
#[derive(Debug)]
pub struct Tags {
    pub(crate) key: TagKey,
    /// Names the key, in stance rows.
    pub(crate) id: u64,
}

impl Tags {
    fn new(key: TagKey) -> Arc<Self> {
        let id = key.id();
        Arc::new(Self { key, id })
    }

    /// The tag of a client's address.
    pub(crate) fn address(&self, client: IpAddr) -> AddressTag {
        match client.to_canonical() {
            IpAddr::V4(address) => AddressTag::of(&self.key, &[&address.octets()]),
            IpAddr::V6(address) => AddressTag::of(&self.key, &[&address.octets()]),
        }
    }
}

impl Evidence {
    /// What the first requests' tags are made with.
    pub(crate) fn first_tags(&self) -> Arc<Tags> {
        Arc::clone(&self.first)
    }

    /// The evidence of one run of a node, in a folder, mended where an earlier run was killed.
    ///
    /// # Errors
    /// The folder, or what is in it, cannot be read or written.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        run: &Run,
        key: TagKey,
        settings: EvidenceSettings,
        now: UnixMillis,
    ) -> Result<(Self, Vec<Mended>), OpenFault> {
        let EvidenceSettings {
            cut,
            keep,
            sync_interval,
            on_full,
        } = settings;
        let (lanes, mended) = Lanes::open(disk, folder, run, cut, keep, now)?;
        let evidence = Self {
            lanes,
            first: Tags::new(key),
            on_full,
            sync_interval,
            synced: AtomicU64::new(now.0),
            alarms: alarm::Table::default(),
            without_space: AtomicU64::new(0),
        };
        Ok((evidence, mended))
    }

    /// The evidence of a node that serves nobody.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self::in_memory(&MemoryDisk::new(1 << 30), OnFull::Refuse)
    }

    /// Evidence on a disk in memory, under a key that is none: for simulations and tests, and for
    /// whoever serves nobody.
    #[must_use]
    pub fn in_memory(disk: &MemoryDisk, on_full: OnFull) -> Self {
        let settings = EvidenceSettings {
            cut: Cut {
                segment_bytes: 1 << 20,
                age_max: Duration::from_secs(60 * 60),
            },
            keep: Keep {
                bytes_max: 1 << 30,
                age_max: None,
                free_bytes_min: 1 << 20,
            },
            sync_interval: Duration::from_secs(1),
            on_full,
        };
        let (evidence, _) = Self::open(
            Arc::new(disk.clone()),
            Path::new("/evidence"),
            &Run::unsigned("in-memory", BootId([0; 16])),
            TagKey::new([0; 32]),
            settings,
            UnixMillis(0),
        )
        .expect("an empty disk in memory can be read");
        evidence
    }
}

/// Looks after a node's evidence until it is dropped: sets space aside, syncs, removes what is old
/// enough, writes gap rows, and seals all when the node has stopped.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Told what happened to evidence: for the log, and for the timeline.
pub type Told = Box<dyn Fn(&Event) + Send>;

impl Keeper {
    /// Starts looking after a node's evidence, in a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn start(node: &Arc<Node>, told: Told) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let node = Arc::clone(node);
        let thread = thread::Builder::new()
            .name("shikiri-evidence".into())
            .spawn(move || {
                let mut synced = Instant::now();
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    node.tend_evidence(&told);
                    if synced.elapsed() >= node.evidence().sync_interval {
                        synced = Instant::now();
                        node.sync_evidence(&told);
                    }
                }
                node.tend_evidence(&told);
                tell_all(&told, node.evidence().lanes.seal(node.now()));
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// How often evidence is looked after: a segment must last for longer.
const TICK: Duration = Duration::from_millis(100);

/// The disk may be busy for so long before that is spoken of.
const UNSYNCED_MAX: Duration = Duration::from_secs(10);

fn unsynced_for(time: Duration) -> String {
    format!(
        "for {} s now; a loss of power would lose them",
        time.as_secs()
    )
}

fn tell_all(told: &Told, troubles: Vec<Trouble>) {
    for trouble in troubles {
        told(&Event::Trouble(trouble));
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks after the evidence had panicked");
        }
    }
}

impl Node {
    /// Takes another key for the tags of the requests that begin from now on; those that run keep theirs.
    /// Every row is under a stance row that names its key.
    pub fn take_tag_key(&self, key: TagKey) {
        let _changes = self.changing();
        self.put_tags(Tags::new(key));
    }

    /// Names the key of the tags that are made now.
    #[must_use]
    pub fn tag_key_id(&self) -> u64 {
        self.stance().tags.id
    }

    /// Waits until what was written would outlive a loss of power. [`Keeper`] does it again and again.
    pub fn sync_evidence(&self, told: &Told) {
        let before = self.now();
        let troubles = self.evidence().lanes.sync();
        if troubles.is_empty() {
            self.evidence().synced.store(before.0, Ordering::Relaxed);
        }
        tell_all(told, troubles);
        let unsynced = self.unsynced();
        self.look_out(&Look {
            alarm: Alarm::Unsynced,
            is_wrong: unsynced > self.evidence().sync_interval + UNSYNCED_MAX,
            what: &|| unsynced_for(unsynced),
            counted: 0,
        });
    }

    /// For how long a loss of power would have lost rows.
    fn unsynced(&self) -> Duration {
        let synced = self.evidence().synced.load(Ordering::Relaxed);
        self.now().since(UnixMillis(synced))
    }

    /// How evidence is, and what of that needs somebody's attention.
    #[must_use]
    pub fn evidence_health(&self) -> (EvidenceHealth, Vec<String>) {
        let evidence = self.evidence();
        let unsynced = self.unsynced();
        let health = EvidenceHealth {
            bytes: evidence.lanes.bytes(),
            free_bytes: evidence.lanes.free_bytes(),
            unsynced_ms: u64::try_from(unsynced.as_millis()).unwrap_or(u64::MAX),
            gaps: self.counts().gaps,
            alarms: evidence.alarms.on(),
        };
        let concern = |on: &AlarmStatus| {
            let now = if on.is_wrong {
                ""
            } else {
                ", and well just now"
            };
            let since = UNIX_EPOCH + Duration::from_millis(on.since_ms.0);
            let since = httpdate::fmt_http_date(since);
            format!("{}: {} (since {since}{now})", on.alarm, on.what)
        };
        let mut attention: Vec<String> = health.alarms.iter().map(concern).collect();
        // Whoever would have raised the alarm may wait for the disk.
        let is_told = health.alarms.iter().any(|on| on.alarm == Alarm::Unsynced);
        if !is_told && unsynced > evidence.sync_interval + UNSYNCED_MAX {
            attention.push(format!("{}: {}", Alarm::Unsynced, unsynced_for(unsynced)));
        }
        (health, attention)
    }

    /// Looks after the evidence once. [`Keeper`] does it all the time; a simulator does it by hand.
    pub fn tend_evidence(&self, told: &Told) {
        let lanes = self.lanes_in_use();
        let mut gap = false;
        for lane in &lanes {
            gap |= lane.tell_gap();
        }
        let mut trouble = None;
        for event in self.evidence().lanes.maintain(self.now()) {
            if let Event::Trouble(why @ Trouble::Write(..)) = &event {
                trouble.get_or_insert_with(|| why.to_string());
            }
            told(&event);
        }
        self.look_at_evidence(&lanes, gap, trouble);
    }

    fn lanes_in_use(&self) -> Vec<Arc<Lane>> {
        let mut lanes = self.lanes().lock().unwrap_or_else(PoisonError::into_inner);
        let in_use: Vec<Arc<Lane>> = lanes.iter().filter_map(Weak::upgrade).collect();
        lanes.retain(|lane| lane.strong_count() > 0);
        in_use
    }

    /// Raises alarms, and ends them.
    fn look_at_evidence(&self, lanes: &[Arc<Lane>], gap: bool, trouble: Option<String>) {
        let evidence = self.evidence();
        let counts = &self.counters;
        let (mut has_failed, mut is_full) = (false, false);
        for lane in lanes {
            has_failed |= lane.has_failed();
            is_full |= lane.is_full();
        }
        let without_space = counts.without_space.load(Ordering::Relaxed);
        is_full |= evidence
            .without_space
            .swap(without_space, Ordering::Relaxed)
            != without_space;
        let low = || {
            let mib = |bytes: u64| bytes >> 20;
            let keep = evidence.lanes.keep();
            if evidence.lanes.is_held_up() {
                return format!(
                    "segments stay that `keep_size` or `keep_time` would remove, since they are not archived yet: all \
                     take {} MiB, and {} should do; look whether `shikiri archive run` runs",
                    mib(evidence.lanes.bytes()),
                    mib(keep.bytes_max)
                );
            }
            let free = evidence.lanes.free_bytes().unwrap_or_default();
            let least = keep.free_bytes_min;
            format!("{} MiB are free, and {} should be", mib(free), mib(least))
        };
        let cannot_write = || {
            let why = trouble
                .clone()
                .unwrap_or_else(|| "the disk fails".to_owned());
            format!("{why}; who waits for one is cut off")
        };
        let full = || {
            match evidence.on_full {
                OnFull::Refuse => "requests are answered with 503",
                OnFull::Pass => "requests pass without rows, and nothing is shared",
            }
            .to_owned()
        };
        let without_rows =
            || "they are counted, and a gap row says so when there is space".to_owned();
        let looks: [(Alarm, bool, &dyn Fn() -> String, u64); 4] = [
            (
                Alarm::LowWater,
                evidence.lanes.is_low() || evidence.lanes.is_held_up(),
                &low,
                0,
            ),
            (
                Alarm::CannotWrite,
                has_failed || trouble.is_some(),
                &cannot_write,
                0,
            ),
            (Alarm::Full, is_full, &full, without_space),
            (
                Alarm::Gap,
                gap,
                &without_rows,
                counts.gaps.load(Ordering::Relaxed),
            ),
        ];
        for (alarm, is_wrong, what, counted) in looks {
            self.look_out(&Look {
                alarm,
                is_wrong,
                what,
                counted,
            });
        }
    }
}
