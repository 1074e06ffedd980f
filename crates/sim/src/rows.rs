//! What a run's evidence says, read as `docs/evidence-format.md` describes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use shikiri_evidence::{Disk, Item, MemoryDisk, Reader};
use shikiri_record::{Row, TagKey, TargetTag};

/// The rows of all lanes.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    /// Final responses that began, by their targets.
    begun: BTreeMap<TargetTag, u64>,
    /// Responses without rows.
    pub(crate) gaps: u64,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows, {} gaps", self.begun(), self.gaps)
    }
}

impl Rows {
    /// # Panics
    /// The rows contradict themselves: the disk is in memory, and only writes on it have failed.
    pub(crate) fn read(disk: &MemoryDisk) -> Self {
        let mut rows = Self::default();
        let folder = Path::new("/evidence");
        for lane in disk.names(folder).expect("the lanes are there") {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            let mut reader =
                Reader::open(disk, &folder.join(lane)).expect("what is in memory can be read");
            while let Some(item) = reader.next_item().expect("what is in memory can be read") {
                match item {
                    Item::Segment(..) => {}
                    Item::Fault(fault) => panic!("{fault}"),
                    Item::Row(row) => rows.add(&row.body),
                }
            }
        }
        rows
    }

    fn add(&mut self, body: &[u8]) {
        match Row::decode(body).expect("a row is one") {
            Row::Begin(begin) if begin.status >= 200 => {
                *self.begun.entry(begin.target).or_default() += 1;
            }
            Row::Gap(gap) => self.gaps += gap.responses,
            _ => {}
        }
    }

    /// How many responses began.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.values().sum()
    }

    /// How many responses for a target began, whatever scheme its client came with.
    pub(crate) fn of(&self, host: &str, target: &str) -> u64 {
        let key = TagKey::new([0; 32]);
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        let of = |scheme: &str| {
            let mut parts = vec![scheme.as_bytes(), host.as_bytes(), path.as_bytes()];
            parts.extend(query.map(str::as_bytes));
            self.begun.get(&TargetTag::of(&key, &parts)).copied()
        };
        ["http", "https"].into_iter().filter_map(of).sum()
    }
}
