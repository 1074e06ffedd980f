//! Row groups of many files, read by some threads, answered in the files' order.
//!
//! Invariant: the order of an answer does not depend on the threads, and none of them runs far ahead of who takes the
//! answer.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::read::{ArchiveFile, ReadFault};
use crate::schema::Table;
use crate::who::files::SharedFile;
use crate::who::group::Group;
use crate::who::{ArchivedFile, Question, Served, Settings, WhoFault};

/// How far a scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// How many files were begun.
    pub files: u64,
    /// How many rows were read or passed over.
    pub rows: u64,
}

/// Viewers, each once.
#[derive(Clone, Debug)]
pub struct Viewers {
    /// Their tags.
    pub tags: HashSet<[u8; 16], FixedState>,
    /// How many responses they were served.
    pub responses: u64,
    /// How many responses went to clients without a session's credentials.
    pub without: u64,
}

impl Default for Viewers {
    fn default() -> Self {
        Self {
            tags: HashSet::with_hasher(FixedState::with_seed(0)),
            responses: 0,
            without: 0,
        }
    }
}

impl Viewers {
    /// Counts one response's.
    ///
    /// # Errors
    /// There are more than an answer may hold.
    pub fn add(&mut self, viewer: Option<[u8; 16]>, settings: &Settings) -> Result<(), WhoFault> {
        self.count(viewer);
        self.bounded(settings)
    }

    pub(super) fn count(&mut self, viewer: Option<[u8; 16]>) {
        match viewer {
            None => self.without += 1,
            Some(tag) => {
                self.responses += 1;
                self.tags.insert(tag);
            }
        }
    }

    fn bounded(&self, settings: &Settings) -> Result<(), WhoFault> {
        if self.tags.len() <= settings.viewers_max {
            return Ok(());
        }
        Err(WhoFault::TooMany {
            what: "viewers",
            max: settings.viewers_max,
        })
    }
}

/// How often who waits for rows is told how far it is.
const TOLD: Duration = Duration::from_millis(200);

/// Tells the responses of the files that are asked for, in the files' order, until the taker breaks off.
///
/// # Errors
/// A file cannot be read; what was told before is true.
pub fn rows(
    files: &[ArchivedFile],
    question: &Question,
    settings: &Settings,
    look: &mut dyn FnMut(Looked),
    take: &mut dyn FnMut(Served) -> ControlFlow<()>,
) -> Result<(), WhoFault> {
    scan(
        files,
        settings,
        look,
        |group, give| group.rows(question, give),
        |batch: Vec<Served>| Ok(batch.into_iter().try_for_each(&mut *take)),
    )
}

/// Who was served the responses of the files that are asked for.
///
/// # Errors
/// A file cannot be read, or there are more of them than an answer may hold.
pub fn viewers(
    files: &[ArchivedFile],
    question: &Question,
    settings: &Settings,
    look: &mut dyn FnMut(Looked),
) -> Result<Viewers, WhoFault> {
    let mut all = Viewers::default();
    scan(
        files,
        settings,
        look,
        |group, give| {
            give(group.viewers(question)?);
            Ok(())
        },
        |found| {
            all.responses += found.responses;
            all.without += found.without;
            all.tags.extend(found.tags);
            all.bounded(settings)?;
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(all)
}

/// What comes next.
struct Queue<'a, T> {
    files: std::slice::Iter<'a, ArchivedFile>,
    open: Option<Opened<'a>>,
    next: usize,
    /// In the order of the row groups.
    turns: Option<SyncSender<Receiver<Result<T, WhoFault>>>>,
}

/// An open file, and the same again to read pages of.
#[derive(Clone)]
struct Opened<'a> {
    of: &'a ArchivedFile,
    file: Arc<ArchiveFile<SharedFile>>,
    bytes: Arc<SharedFile>,
    node: Arc<str>,
}

type Turn<'a, T> = (
    &'a ArchivedFile,
    SyncSender<Result<T, WhoFault>>,
    Result<Group, ReadFault>,
);

impl<'a> Opened<'a> {
    fn new(of: &'a ArchivedFile) -> Result<Self, ReadFault> {
        let bytes = SharedFile::open(&of.path).map_err(ReadFault::Open)?;
        let file = ArchiveFile::new(bytes.clone())?;
        if file.table() != Table::Serves {
            return Err(ReadFault::Columns(Table::Serves.name()));
        }
        // An earlier state of a file, or another's, is sound Parquet too.
        if of.rows != 0 && of.rows != file.rows() {
            return Err(ReadFault::Rows {
                found: file.rows(),
                due: of.rows,
            });
        }
        Ok(Self {
            of,
            file: Arc::new(file),
            bytes: Arc::new(bytes),
            node: of.node.as_str().into(),
        })
    }
}

impl<'a, T> Queue<'a, T> {
    /// The next row group and where its answer goes; `None` when there is none, or nobody waits for it.
    fn next(&mut self, files: &AtomicU64) -> Option<Turn<'a, T>> {
        let next = self.find(files);
        if next.is_none() {
            // Who waits for another turn learns that there is none.
            self.turns = None;
        }
        next
    }

    fn find(&mut self, files: &AtomicU64) -> Option<Turn<'a, T>> {
        loop {
            if let Some(open) = &self.open {
                if self.next < open.file.groups() {
                    let open = open.clone();
                    let group = Group {
                        file: open.file,
                        bytes: open.bytes,
                        node: open.node,
                        index: self.next,
                    };
                    self.next += 1;
                    return Some((open.of, self.turn()?, Ok(group)));
                }
                self.open = None;
            }
            let of = self.files.next()?;
            files.fetch_add(1, Ordering::Relaxed);
            match Opened::new(of) {
                Ok(opened) => self.open = Some(opened),
                Err(why) => return Some((of, self.turn()?, Err(why))),
            }
            self.next = 0;
        }
    }

    fn turn(&self) -> Option<SyncSender<Result<T, WhoFault>>> {
        const BATCHES: usize = 4;
        let (give, take) = sync_channel(BATCHES);
        self.turns.as_ref()?.send(take).ok()?;
        Some(give)
    }
}

/// Works on each row group of the files, and takes what comes of them in their order.
fn scan<T: Send>(
    files: &[ArchivedFile],
    settings: &Settings,
    look: &mut dyn FnMut(Looked),
    work: impl Fn(&Group, &mut dyn FnMut(T) -> bool) -> Result<(), ReadFault> + Sync,
    mut take: impl FnMut(T) -> Result<ControlFlow<()>, WhoFault>,
) -> Result<(), WhoFault> {
    const AHEAD: usize = 16;
    let (turns, coming) = sync_channel(AHEAD);
    let queue = Mutex::new(Queue {
        files: files.iter(),
        open: None,
        next: 0,
        turns: Some(turns),
    });
    let (begun, seen) = (AtomicU64::new(0), AtomicU64::new(0));
    let worker = || {
        loop {
            let next = queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next(&begun);
            let Some((of, to, group)) = next else {
                return;
            };
            let done = group.and_then(|group| {
                work(&group, &mut |found| to.send(Ok(found)).is_ok())?;
                seen.fetch_add(group.file.rows_of(group.index), Ordering::Relaxed);
                Ok(())
            });
            if let Err(why) = done {
                let path = of.path.clone();
                // Where nobody takes it any more there is another fault.
                drop(to.send(Err(WhoFault::File { path, why })));
                queue.lock().unwrap_or_else(PoisonError::into_inner).turns = None;
                return;
            }
        }
    };
    let workers = settings.threads.clamp(1, 64);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..workers {
            threads.push(scope.spawn(worker));
        }
        let mut looked = || {
            look(Looked {
                files: begun.load(Ordering::Relaxed),
                rows: seen.load(Ordering::Relaxed),
            });
        };
        let mut taken = || -> Result<(), WhoFault> {
            loop {
                let turn = match coming.recv_timeout(TOLD) {
                    Ok(turn) => turn,
                    Err(RecvTimeoutError::Timeout) => {
                        // A thread that panicked has left the way open.
                        if threads.iter().all(|thread| thread.is_finished()) {
                            match coming.try_recv() {
                                Ok(turn) => turn,
                                Err(_) => return Ok(()),
                            }
                        } else {
                            looked();
                            continue;
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                };
                loop {
                    match turn.recv_timeout(TOLD) {
                        Ok(found) => {
                            if take(found?)?.is_break() {
                                return Ok(());
                            }
                        }
                        Err(RecvTimeoutError::Timeout) => looked(),
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            }
        };
        let done = taken();
        // Whoever still works finds nobody who takes it, and ends.
        drop(coming);
        done
    })
}
