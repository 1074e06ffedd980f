//! Sealed segments become files of the archive: planned, written, read back, put in place, read back
//! there, recorded; and only then the node is told that a segment may go.
//!
//! Never changes or removes a segment, and never changes a file that a manifest names. It may be killed at any moment:
//! what a batch takes is fixed before it begins, so that the next run makes the same files again under
//! the same names, and a manifest, written last, says that it is done.
//!
//! Invariant: for each batch the rows that it took and those that had waited are those of its files and
//! those that wait, by number and digest; a batch of which that cannot be seen is not recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shikiri_evidence::note::{self, Check, NOTE_BYTES_MAX, NoteKey, Signer};
use shikiri_evidence::{
    ARCHIVED, ArchivedTo, Disk, Item, ReadFault as LaneFault, Reader, RealDisk, SealedSegment,
    lane_number, sealed_segments,
};
use shikiri_record::UnixMillis;

use crate::batch::{Batch, Day};
use crate::join::{Joiner, Waiting};
use crate::manifest::{Counted, Filed, MANIFEST_VERSION, Manifest, Plan, Reached, Taken};
use crate::place::{ArchivePlace, create, make_folder, sync_folder, write_whole};
use crate::read::ArchiveFile;
use crate::rows::{Place, Tally};
use crate::schema::{Packed, Table};
use crate::waiting;

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeeperSettings {
    /// How many rows of segments a batch takes, about: it is held in memory, about 90 bytes a row.
    pub batch_rows: u64,
    /// A begin row whose end row has not come for so long stands in the archive without one.
    pub wait_max: Duration,
    /// How files are packed.
    pub packed: Packed,
}

impl KeeperSettings {
    /// What holds where nothing is said.
    pub const STANDARD: Self = Self {
        batch_rows: 8_000_000,
        wait_max: Duration::from_secs(48 * 60 * 60),
        packed: Packed::STANDARD,
    };
}

/// Why a batch could not be made. Nothing is lost by it: the next run goes on with the same batch.
#[derive(Debug, thiserror::Error)]
pub enum KeeperFault {
    /// Another process does it.
    #[error("another process archives this data folder: {} is held", .0.display())]
    Held(PathBuf),
    /// A file of ours cannot be read or written.
    #[error("cannot {what} {}: {error}", .path.display())]
    Disk {
        /// What was to be done with it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// A lane cannot be read.
    #[error(transparent)]
    Lane(#[from] LaneFault),
    /// A file of ours does not say what we write.
    #[error(
        "{} is damaged ({why}): put it back from a backup; without it the archive does not know what it has taken",
        .path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The place did not take a file or give it back.
    #[error("{0}")]
    Place(String),
    /// What was written is not what was to be written.
    #[error(
        "{what}: {found}, and it should be {due}; the segments stay, and so does the batch to be done"
    )]
    NotTheSame {
        /// What.
        what: String,
        /// What it is.
        found: String,
        /// What it should be.
        due: String,
    },
}

/// What a keeper tells of while it works.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A batch begins, or is gone on with.
    Begins(&'a Plan),
    /// So many rows of so many have been read.
    Read(u64),
    /// A file was put in its place, and read back.
    Put(&'a Filed),
    /// A batch is recorded.
    Done(&'a Manifest),
}

/// Sealed segments that are not in the archive yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// How many.
    pub segments: u64,
    /// How many rows they hold, by their seals.
    pub rows: u64,
    /// How long they are.
    pub bytes: u64,
    /// When the oldest of them was sealed.
    pub oldest: Option<UnixMillis>,
}

/// What the node may do with segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Remove those that are archived, however young they are.
    pub go: bool,
    /// Keep those that are not, however old or many they are.
    pub hold: bool,
}

/// Makes the archive of one data folder.
#[derive(Debug)]
pub struct Keeper<'a> {
    lanes: PathBuf,
    state: PathBuf,
    place: &'a dyn ArchivePlace,
    settings: KeeperSettings,
    last: Option<Manifest>,
    signer: Option<&'a dyn Signer>,
    /// Held while this lives.
    _lock: File,
}

impl<'a> Keeper<'a> {
    /// Of the lanes in a folder, with what is known of earlier batches in another.
    ///
    /// # Errors
    /// Another process holds it, or what is there cannot be read.
    pub fn open(
        lanes: &Path,
        state: &Path,
        place: &'a dyn ArchivePlace,
        settings: KeeperSettings,
    ) -> Result<Self, KeeperFault> {
        make_folder(state).map_err(|error| disk("make", state, error))?;
        let path = state.join("lock");
        let lock = create(&path).map_err(|error| disk("open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(KeeperFault::Held(path)),
            Err(TryLockError::Error(error)) => return Err(disk("lock", &path, error)),
        }
        Ok(Self {
            lanes: lanes.to_path_buf(),
            state: state.to_path_buf(),
            place,
            settings,
            last: last(state)?,
            signer: None,
            _lock: lock,
        })
    }

    /// The same, which signs the manifests that it makes.
    #[must_use]
    pub fn signed_by(mut self, signer: &'a dyn Signer) -> Self {
        self.signer = Some(signer);
        self
    }

    /// The last batch that is done.
    #[must_use]
    pub const fn last(&self) -> Option<&Manifest> {
        self.last.as_ref()
    }

    /// What would be taken next; `None` when there is nothing. A batch that was begun comes first.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn plan(&self) -> Result<Option<Plan>, KeeperFault> {
        match unfinished(&self.state, self.last.as_ref())? {
            Some(plan) => Ok(Some(plan)),
            None => self.new_plan(),
        }
    }

    /// What is sealed and not archived.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn outstanding(&self) -> Result<Outstanding, KeeperFault> {
        outstanding(&self.lanes, self.last.as_ref())
    }

    /// Makes one batch; `None` when there is nothing to do.
    ///
    /// # Errors
    /// It could not be made: the next run goes on with it.
    pub fn batch(
        &mut self,
        tell: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Option<&Manifest>, KeeperFault> {
        let Some(plan) = self.plan()? else {
            return Ok(None);
        };
        tell(&Progress::Begins(&plan));
        let path = self.state.join(PLAN);
        let text = serde_json::to_vec_pretty(&plan).expect("it is plain data");
        write_whole(&path, &text).map_err(|error| disk("write", &path, error))?;

        let staging = self.state.join("staging");
        clear(&staging)?;
        let made = self.make(&plan, &staging, tell);
        // Also where it failed: a disk that is full should not stay so for our sake.
        let cleared = clear(&staging);
        let manifest = made?;
        cleared?;

        let folder = self.state.join(BATCHES);
        let path = folder.join(format!("{:010}.json", manifest.number));
        let text = manifest.text();
        make_folder(&folder)
            .and_then(|()| write_whole(&path, text.as_bytes()))
            .map_err(|error| disk("write", &path, error))?;
        // From here on it is done; what is left over is removed now, or by the next run.
        drop(fs::remove_file(self.state.join(PLAN)));
        if let Some(old) = manifest.number.checked_sub(1) {
            drop(fs::remove_file(self.waiting_path(old)));
        }
        tell(&Progress::Done(&manifest));
        Ok(Some(self.last.insert(manifest)))
    }

    /// Tells the node how far each lane is archived, and what it may do: the node alone removes
    /// segments, since it says so in its marks. Of a lane whose damage a batch has found nothing may go from
    /// that batch on.
    ///
    /// # Errors
    /// It cannot be written beside the segments.
    pub fn tell_node(&self, segments: Segments) -> Result<(), KeeperFault> {
        let damaged = damaged_lanes(&self.state)?;
        for (number, folder) in lanes(&self.lanes)? {
            let reached = self.reached(number).map_or(0, |reached| reached.segment);
            let sound = damaged.iter().filter(|it| it.lane == number);
            let sound = sound.map(|it| it.from - 1).min().unwrap_or(u64::MAX);
            let archived = ArchivedTo {
                segment: reached,
                may_go: if segments.go { reached.min(sound) } else { 0 },
                holds: segments.hold,
            };
            let path = folder.join(ARCHIVED);
            if ArchivedTo::read(&RealDisk, &folder) != Some(archived) {
                write_whole(&path, archived.line().as_bytes())
                    .map_err(|error| disk("write", &path, error))?;
            }
        }
        Ok(())
    }

    /// Which segments the next batch takes: of all lanes those that were sealed first, as many rows as a
    /// batch has.
    fn new_plan(&self) -> Result<Option<Plan>, KeeperFault> {
        let mut heads = Vec::new();
        for (lane, folder) in lanes(&self.lanes)? {
            let reached = self.reached(lane).map_or(0, |reached| reached.segment);
            let sealed = sealed_segments(&RealDisk, &folder, reached)?;
            heads.push((lane, reached, sealed.into_iter().peekable()));
        }
        let mut taken: BTreeMap<u32, Taken> = BTreeMap::new();
        let (mut rows, mut node) = (0_u64, None);
        // A node whose data folder was made anew counts segments from one again, and is another run.
        let mut boots = BTreeMap::new();
        loop {
            let is_ours = |segment: &SealedSegment, node: &Option<String>| {
                node.as_ref()
                    .is_none_or(|node| *node == segment.header.node)
            };
            let first = heads
                .iter_mut()
                .filter_map(|(lane, reached, sealed)| {
                    let at = sealed.peek().filter(|it| is_ours(it, &node))?.seal.at;
                    Some((at, *lane, *reached, sealed))
                })
                .min_by_key(|(at, lane, ..)| (*at, *lane));
            let Some((_, lane, reached, sealed)) = first else {
                break;
            };
            let segment = sealed.peek().expect("it was just looked at");
            if rows > 0 && rows + segment.seal.rows > self.settings.batch_rows {
                break;
            }
            rows += segment.seal.rows;
            node = Some(segment.header.node.clone());
            boots.entry(lane).or_insert(segment.header.boot);
            let to = segment.header.number;
            sealed.next();
            // What is not sealed before one that is will not be any more: the reader looks at it too.
            let from = reached + 1;
            taken.entry(lane).or_insert(Taken { lane, from, to }).to = to;
        }
        let Some(node) = node else {
            return Ok(None);
        };
        let lanes: Vec<Taken> = taken.into_values().collect();
        let number = self.last.as_ref().map_or(1, |last| last.number + 1);
        let mut digest = blake3::Hasher::new();
        let before = self.last.as_ref().map_or("", |last| &last.name);
        digest.update(before.as_bytes()).update(node.as_bytes());
        for it in &lanes {
            digest.update(&it.lane.to_le_bytes());
            digest.update(&it.from.to_le_bytes());
            digest.update(&it.to.to_le_bytes());
            digest.update(&boots[&it.lane].0);
        }
        let digest = digest.finalize().to_hex();
        Ok(Some(Plan {
            version: MANIFEST_VERSION,
            number,
            name: format!("{number:010}-{}", digest.get(..16).expect("it is longer")),
            node,
            lanes,
        }))
    }

    fn make(
        &self,
        plan: &Plan,
        staging: &Path,
        tell: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Manifest, KeeperFault> {
        let before = waiting_of(&self.state, self.last.as_ref())?;
        let mut waited = Tally::default();
        for one in &before {
            waited.row(&one.place, &one.body);
        }
        let mut took = self.take(plan, Joiner::resume(before), tell)?;
        let mut waits = Tally::default();
        for one in &took.waiting {
            waits.row(&one.place, &one.body);
        }
        let files = self.files(plan, &took.batch, staging)?;
        let mut held = Tally::default();
        for (_, _, tally) in &files {
            held.add(tally);
        }
        let (mut due, mut found) = (took.tally, held);
        due.add(&waited);
        found.add(&waits);
        same("the rows of the batch's files", &found, &due)?;

        let path = self.waiting_path(plan.number);
        let bytes = waiting::encode(&took.waiting);
        make_folder(path.parent().expect("it is in a folder"))
            .and_then(|()| write_whole(&path, &bytes))
            .map_err(|error| disk("write", &path, error))?;

        let mut filed = Vec::new();
        for (file, path, _) in files {
            self.put(&file, &path)?;
            tell(&Progress::Put(&file));
            filed.push(file);
        }
        let mut reached = self
            .last
            .as_ref()
            .map_or_else(BTreeMap::new, |it| it.reached.clone());
        reached.append(&mut took.reached);
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            number: plan.number,
            name: plan.name.clone(),
            after: self.last.as_ref().map(|last| last.name.clone()),
            node: plan.node.clone(),
            lanes: plan.lanes.clone(),
            segment_bytes: took.bytes,
            took: took.tally.into(),
            waited: waited.into(),
            waits: waits.into(),
            files: filed,
            faults: took.faults,
            reached,
        };
        // With the files, so that a copy of them can be verified without us. The signature first, so that no
        // manifest of a node that signs is there without one.
        if let Some(signer) = self.signer {
            let path = staging.join("manifest.note");
            let note = note::signed(&manifest.statement(), signer);
            fs::write(&path, note).map_err(|error| disk("write", &path, error))?;
            let put = self.place.put(&manifest.note_place(), &path);
            put.map_err(KeeperFault::Place)?;
        }
        let path = staging.join("manifest.json");
        fs::write(&path, manifest.text()).map_err(|error| disk("write", &path, error))?;
        let put = self.place.put(&manifest.place(), &path);
        put.map_err(KeeperFault::Place)?;
        Ok(manifest)
    }

    /// Reads the plan's segments.
    fn take(
        &self,
        plan: &Plan,
        mut joiner: Joiner,
        tell: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Took, KeeperFault> {
        const TOLD_ROWS: u64 = 1 << 18;
        let mut took = Took::default();
        let mut newest = UnixMillis(0);
        for it in &plan.lanes {
            let folder = self.lanes.join(format!("lane-{}", it.lane));
            let mut reader = Reader::open_from(Arc::new(RealDisk), &folder, it.from)?;
            let mut place = None;
            let mut next = self.reached(it.lane).map(|reached| reached.next);
            while let Some(item) = reader.next_item()? {
                match item {
                    Item::Segment(_, header) if header.number > it.to => break,
                    Item::Segment(path, header) => {
                        if next.is_some_and(|next| next < header.first) {
                            took.faults.push(format!(
                                "lane {}: rows {} to {} were removed before they were archived",
                                it.lane,
                                next.unwrap_or(0),
                                header.first - 1
                            ));
                        }
                        next = Some(header.first);
                        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
                        took.bytes += bytes;
                        joiner.segment(it.lane, header.boot, &mut |one| took.batch.push(&one));
                        place = Some(header.boot);
                    }
                    Item::Row(row) => {
                        let place = Place {
                            boot: place.expect("a segment begins before its rows"),
                            lane: it.lane,
                            sequence: row.sequence,
                            written: row.at,
                        };
                        next = Some(row.sequence + 1);
                        newest = newest.max(row.at);
                        took.tally.row(&place, &row.body);
                        joiner.row(place, &row.body, &mut |one| took.batch.push(&one));
                        if took.tally.rows.is_multiple_of(TOLD_ROWS) {
                            tell(&Progress::Read(took.tally.rows));
                        }
                    }
                    Item::Fault(fault) => took.faults.push(fault.to_string()),
                }
            }
            let reached = Reached {
                segment: it.to,
                next: next.unwrap_or(0),
            };
            took.reached.insert(it.lane, reached);
        }
        let (waits, late) = joiner
            .waiting()
            .into_iter()
            .partition(|one| newest.since(one.place.written) < self.settings.wait_max);
        took.waiting = waits;
        let late: Vec<Waiting> = late;
        for one in late {
            one.without_end(&mut |one| took.batch.push(&one));
        }
        Ok(took)
    }

    /// Writes a batch's files, and reads them again.
    fn files(
        &self,
        plan: &Plan,
        batch: &Batch,
        staging: &Path,
    ) -> Result<Vec<(Filed, PathBuf, Tally)>, KeeperFault> {
        let mut files = Vec::new();
        for day in batch.days() {
            for table in Table::ALL {
                let path = staging.join(format!("{}-{day}.parquet", table.name()));
                let Some(rows) = self.write(batch, plan, table, day, &path)? else {
                    continue;
                };
                let (bytes, digest) = digest_of(&path)?;
                let tally = tally_of(&path)?;
                let name = format!(
                    "{}/day={day}/node={}/{}.parquet",
                    table.name(),
                    plan.node,
                    plan.name
                );
                let filed = Filed {
                    name,
                    rows,
                    bytes,
                    blake3: digest.to_string(),
                    holds: tally.into(),
                };
                files.push((filed, path, tally));
            }
        }
        Ok(files)
    }

    fn write(
        &self,
        batch: &Batch,
        plan: &Plan,
        table: Table,
        day: Day,
        path: &Path,
    ) -> Result<Option<u64>, KeeperFault> {
        let fault = |error| disk("write", path, error);
        let out = create(path).map_err(fault)?;
        let packed = &self.settings.packed;
        let written = batch.write(table, &plan.node, day, packed, io::BufWriter::new(out));
        let written = written.map_err(|error| fault(io::Error::other(error)))?;
        let Some((rows, out)) = written else {
            fs::remove_file(path).map_err(|error| disk("remove", path, error))?;
            return Ok(None);
        };
        let out = out
            .into_inner()
            .map_err(|error| fault(error.into_error()))?;
        out.sync_all().map_err(fault)?;
        Ok(Some(rows))
    }

    /// Puts a file in its place, and reads it there.
    fn put(&self, file: &Filed, path: &Path) -> Result<(), KeeperFault> {
        self.place
            .put(&file.name, path)
            .map_err(KeeperFault::Place)?;
        let (bytes, digest) = digest_there(self.place, &file.name)?;
        let found = format!("{bytes} bytes, {digest}");
        let due = format!("{} bytes, {}", file.bytes, file.blake3);
        if found == due {
            return Ok(());
        }
        let what = format!("{} in {} as it is read back", file.name, self.place.shown());
        Err(KeeperFault::NotTheSame { what, found, due })
    }

    fn reached(&self, lane: u32) -> Option<Reached> {
        self.last.as_ref()?.reached.get(&lane).copied()
    }

    fn waiting_path(&self, number: u64) -> PathBuf {
        waiting_path(&self.state, number)
    }
}

const PLAN: &str = "plan.json";
const BATCHES: &str = "batches";

/// What was read of segments.
#[derive(Default)]
struct Took {
    batch: Batch,
    tally: Tally,
    bytes: u64,
    waiting: Vec<Waiting>,
    faults: Vec<String>,
    reached: BTreeMap<u32, Reached>,
}

/// What is wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The file.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// Looks whether the files that manifests name are there and are what was written; with `rows`, also
/// whether their rows are those of the segments. Tells each file that was looked at.
///
/// # Errors
/// The folder for what is in between cannot be written.
pub fn verify(
    manifests: &[Manifest],
    place: &dyn ArchivePlace,
    rows_in: Option<&Path>,
    tell: &mut dyn FnMut(&Filed),
) -> Result<Vec<Wrong>, KeeperFault> {
    let mut wrong = Vec::new();
    let names: BTreeSet<&str> = manifests.iter().map(|it| it.name.as_str()).collect();
    for manifest in manifests {
        let missing = manifest
            .after
            .as_deref()
            .filter(|name| !names.contains(name));
        wrong.extend(missing.map(|name| Wrong {
            name: manifest.place(),
            why: format!("the batch before it, {name}, is missing"),
        }));
        for file in &manifest.files {
            let looked = match rows_in {
                None => digest_there(place, &file.name).map(|found| (found, None)),
                Some(folder) => rows_there(place, &file.name, folder),
            };
            let why = match looked {
                Err(KeeperFault::Place(why)) => Some(why),
                Err(other) => return Err(other),
                Ok(((bytes, digest), _))
                    if bytes != file.bytes || digest.to_string() != file.blake3 =>
                {
                    Some(format!(
                        "it was changed: {bytes} bytes, {digest}; {} bytes, {} were written",
                        file.bytes, file.blake3
                    ))
                }
                Ok((_, Some(Err(why)))) => Some(why),
                Ok((_, Some(Ok(tally)))) if Counted::from(tally) != file.holds => Some(format!(
                    "its rows are others than those that were archived: {tally}"
                )),
                Ok(_) => None,
            };
            wrong.extend(why.map(|why| Wrong {
                name: file.name.clone(),
                why,
            }));
            tell(file);
        }
    }
    Ok(wrong)
}

/// Who signed manifests, as far as keys tell that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// How many are signed with a key that is known, as they are.
    pub by_known: u64,
    /// Those of which no signature can be read: they were made without a key, or it was taken away.
    pub not: Vec<Wrong>,
    /// Those whose signature is of another key, or of another manifest.
    pub wrong: Vec<Wrong>,
}

/// Looks who signed the manifests: with that and [`verify`] the public key alone tells whether a file of the archive was
/// changed, by whomever has not the secret one. That the newest batches were taken away it does not tell.
#[must_use]
pub fn signed(
    manifests: &[Manifest],
    place: &dyn ArchivePlace,
    keys: &[NoteKey],
    check: Check,
) -> Signed {
    let mut signed = Signed::default();
    for manifest in manifests {
        let wrong = |why: String| Wrong {
            name: manifest.place(),
            why,
        };
        let note = match small(place, &manifest.note_place()) {
            Ok(note) => note,
            Err(why) => {
                signed.not.push(wrong(format!("it is not signed: {why}")));
                continue;
            }
        };
        match note::opened(&note, keys, check) {
            Ok(text) if text == manifest.statement() => signed.by_known += 1,
            Ok(_) => {
                let why = "it is not what was signed: the manifest was changed";
                signed.wrong.push(wrong(why.to_owned()));
            }
            Err(why) => signed.wrong.push(wrong(format!("its signature: {why}"))),
        }
    }
    signed
}

/// A note.
fn small(place: &dyn ArchivePlace, name: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    place.get(name, &mut |piece| {
        bytes.extend_from_slice(piece);
        match bytes.len() > NOTE_BYTES_MAX {
            true => Err(format!("{name} is longer than a note")),
            false => Ok(()),
        }
    })?;
    String::from_utf8(bytes).map_err(|_| format!("{name} is no text"))
}

/// The manifests of the batches that are done, in their order.
///
/// # Errors
/// One cannot be read, or is damaged.
pub fn manifests(state: &Path) -> Result<Vec<Manifest>, KeeperFault> {
    let folder = state.join(BATCHES);
    let names = match RealDisk.names(&folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk("read", &folder, error)),
    };
    let names = names.iter().filter(|name| name.ends_with(".json"));
    names.map(|name| manifest(&folder.join(name))).collect()
}

fn manifest(path: &Path) -> Result<Manifest, KeeperFault> {
    let text = fs::read(path).map_err(|error| disk("read", path, error))?;
    Manifest::read(&text).map_err(|why| KeeperFault::State {
        path: path.to_path_buf(),
        why,
    })
}

/// The last batch that is done.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn last(state: &Path) -> Result<Option<Manifest>, KeeperFault> {
    let folder = state.join(BATCHES);
    let names = match RealDisk.names(&folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("read", &folder, error)),
    };
    let last = names.iter().rfind(|name| name.ends_with(".json"));
    last.map(|name| manifest(&folder.join(name))).transpose()
}

/// The batch that was begun and is not done.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn unfinished(state: &Path, last: Option<&Manifest>) -> Result<Option<Plan>, KeeperFault> {
    let path = state.join(PLAN);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("read", &path, error)),
    };
    let plan = Plan::read(&text).map_err(|why| KeeperFault::State { path, why })?;
    // It was done, and killed before it could say so.
    Ok((plan.number > last.map_or(0, |last| last.number)).then_some(plan))
}

fn waiting_path(state: &Path, number: u64) -> PathBuf {
    state.join("waiting").join(format!("{number:010}.rows"))
}

/// The begin rows that waited when the last batch was done.
pub(crate) fn waiting_of(
    state: &Path,
    last: Option<&Manifest>,
) -> Result<Vec<Waiting>, KeeperFault> {
    let Some(last) = last else {
        return Ok(Vec::new());
    };
    let path = waiting_path(state, last.number);
    let bytes = fs::read(&path).map_err(|error| disk("read", &path, error))?;
    let damaged = |why: &str| KeeperFault::State {
        path: path.clone(),
        why: why.to_owned(),
    };
    let all = waiting::decode(&bytes).ok_or_else(|| damaged("its digest does not fit"))?;
    let mut tally = Tally::default();
    for one in &all {
        tally.row(&one.place, &one.body);
    }
    if Counted::from(tally) != last.waits {
        return Err(damaged("its rows are not those that the manifest names"));
    }
    Ok(all)
}

/// What is sealed in the lanes of a folder, and not in the archive.
///
/// # Errors
/// Something cannot be read.
pub fn outstanding(folder: &Path, last: Option<&Manifest>) -> Result<Outstanding, KeeperFault> {
    let mut found = Outstanding::default();
    for (lane, folder) in lanes(folder)? {
        let reached = last.and_then(|last| last.reached.get(&lane));
        for segment in sealed_segments(&RealDisk, &folder, reached.map_or(0, |it| it.segment))? {
            found.segments += 1;
            found.rows += segment.seal.rows;
            found.bytes += segment.bytes;
            let oldest = found.oldest.get_or_insert(segment.seal.at);
            *oldest = (*oldest).min(segment.seal.at);
        }
    }
    Ok(found)
}

/// The lanes in a folder; none where there is no folder.
pub(crate) fn lanes(folder: &Path) -> Result<Vec<(u32, PathBuf)>, KeeperFault> {
    let names = match RealDisk.names(folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk("read", folder, error)),
    };
    let lanes = names.iter().filter_map(|name| {
        let number = lane_number(name)?;
        Some((number, folder.join(name)))
    });
    Ok(lanes.collect())
}

/// The segments of batches that found something wrong: they stay where they are.
fn damaged_lanes(state: &Path) -> Result<Vec<Taken>, KeeperFault> {
    let all = manifests(state)?.into_iter();
    let damaged = all.filter(|manifest| !manifest.faults.is_empty());
    Ok(damaged.flat_map(|manifest| manifest.lanes).collect())
}

fn digest_of(path: &Path) -> Result<(u64, blake3::Hash), KeeperFault> {
    let mut hasher = blake3::Hasher::new();
    let count = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    let count = count.map_err(|error| disk("read", path, error))?;
    Ok((count, hasher.finalize()))
}

fn digest_there(place: &dyn ArchivePlace, name: &str) -> Result<(u64, blake3::Hash), KeeperFault> {
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let got = place.get(name, &mut |piece| {
        hasher.update(piece);
        bytes += u64::try_from(piece.len()).expect("a length fits 64 bits");
        Ok(())
    });
    got.map_err(KeeperFault::Place)?;
    Ok((bytes, hasher.finalize()))
}

type Looked = ((u64, blake3::Hash), Option<Result<Tally, String>>);

/// Brings a file here, and reads its rows.
fn rows_there(place: &dyn ArchivePlace, name: &str, folder: &Path) -> Result<Looked, KeeperFault> {
    let path = folder.join("verify.parquet");
    let mut out = create(&path).map_err(|error| disk("write", &path, error))?;
    let got = place.get(name, &mut |piece| {
        io::Write::write_all(&mut out, piece)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    });
    let looked = got.map_err(KeeperFault::Place).and_then(|()| {
        let digest = digest_of(&path)?;
        let tally = tally_of(&path).map_err(|fault| fault.to_string());
        Ok((digest, Some(tally)))
    });
    fs::remove_file(&path).map_err(|error| disk("remove", &path, error))?;
    looked
}

/// The rows of a file.
fn tally_of(path: &Path) -> Result<Tally, KeeperFault> {
    let fault = |error| disk("read", path, io::Error::other(error));
    let file = ArchiveFile::open(path).map_err(fault)?;
    let mut tally = Tally::default();
    file.each(&mut |archived| tally.archived(&archived))
        .map_err(fault)?;
    Ok(tally)
}

fn same(what: &str, found: &Tally, due: &Tally) -> Result<(), KeeperFault> {
    if found == due {
        return Ok(());
    }
    Err(KeeperFault::NotTheSame {
        what: what.to_owned(),
        found: found.to_string(),
        due: due.to_string(),
    })
}

/// Makes an empty folder.
fn clear(folder: &Path) -> Result<(), KeeperFault> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(disk("clear", folder, error));
        }
        _ => {}
    }
    make_folder(folder)
        .and_then(|()| sync_folder(folder))
        .map_err(|error| disk("make", folder, error))
}

fn disk(what: &'static str, path: &Path, error: io::Error) -> KeeperFault {
    KeeperFault::Disk {
        what,
        path: path.to_path_buf(),
        error,
    }
}
