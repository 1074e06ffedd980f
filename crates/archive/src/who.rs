//! Who was served what: questions to the archive's files, and to segments that are not archived yet.
//!
//! Never decides whose anything is, and never changes a file. A file that cannot be read is a fault, never fewer rows:
//! whoever asks is told which.
//!
//! Invariant: what is left unread (by day, by a row group's or a page's least and greatest values, by a bloom filter)
//! cannot hold a row of the answer. Memory is bounded by row groups, whatever the archive's length; what an answer
//! collects is capped by [`Settings`].

mod column;
mod files;
mod fresh;
mod gaps;
mod group;
mod keep;
mod packed;
mod scan;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use foldhash::fast::FixedState;
use shikiri_evidence::BootId;
use shikiri_record::{
    AddressTag, Ended, FillId, MemberTag, Outcome, TargetTag, UnixMillis, ViewerTag,
};

pub use files::{ArchivedFile, archived_files, found_files};
pub use fresh::{Fresh, Hole, LaneRead, fresh, waiting};
pub use gaps::{Short, Stretch, holes, short};
pub use keep::{AnswerFile, Line, TEXTS};
pub use scan::{Looked, Viewers, rows, viewers};

use crate::keeper::KeeperFault;
use crate::read::ReadFault;
use crate::rows::Serve;

/// Instants, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub from: UnixMillis,
    /// The last.
    pub to: UnixMillis,
}

impl Window {
    /// All instants.
    pub const ALWAYS: Self = Self {
        from: UnixMillis(0),
        to: UnixMillis(u64::MAX),
    };

    /// Whether an instant is in it.
    #[must_use]
    pub fn holds(&self, at: UnixMillis) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

/// What responses are asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The full target.
    Target,
    /// The fetch that the bytes came with.
    Fill,
    /// The session's credentials.
    Viewer,
    /// Whom the origin believed that it served.
    ViewerMember,
    /// Whose data the origin says that it is.
    Owner,
    /// The class.
    Class,
}

impl By {
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Fill => "fill",
            Self::Viewer => "viewer",
            Self::ViewerMember => "viewer_member",
            Self::Owner => "owner",
            Self::Class => "class",
        }
    }
}

/// Values of one kind: a response is among them when its own is one of them.
#[derive(Clone, Debug)]
pub struct Among {
    by: By,
    /// Tags and ids as their 16 bytes, in the order in which they are shown.
    tags: HashSet<[u8; 16], FixedState>,
    /// All of them, classes as their text.
    values: Values,
}

/// Values, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Vec<Box<[u8]>>);

impl Values {
    fn new(values: impl Iterator<Item = Box<[u8]>>) -> Self {
        let mut all: Vec<_> = values.collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them may be between these, both included.
    pub(crate) fn within(&self, least: &[u8], greatest: &[u8]) -> bool {
        let first = self.0.partition_point(|value| **value < *least);
        self.0.get(first).is_some_and(|value| **value <= *greatest)
    }
}

impl Among {
    /// Tags or ids, by their bytes in the order in which they are shown.
    #[must_use]
    pub fn tags(by: By, tags: impl IntoIterator<Item = [u8; 16]>) -> Self {
        let mut all = HashSet::with_hasher(FixedState::with_seed(0));
        all.extend(tags);
        Self {
            by,
            values: Values::new(all.iter().map(|tag| Box::from(tag.as_slice()))),
            tags: all,
        }
    }

    /// Classes.
    #[must_use]
    pub fn classes(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| name.into_bytes().into());
        Self {
            by: By::Class,
            tags: HashSet::with_hasher(FixedState::with_seed(0)),
            values: Values::new(names),
        }
    }

    /// By what.
    #[must_use]
    pub const fn by(&self) -> By {
        self.by
    }

    /// Whether that holds of any of the values: tags and ids as 16 bytes, classes as their text.
    pub fn any(&self, holds: impl Fn(&[u8]) -> bool) -> bool {
        self.values.0.iter().any(|value| holds(value))
    }

    pub(crate) const fn len(&self) -> usize {
        self.values.0.len()
    }

    pub(crate) fn within(&self, least: &[u8], greatest: &[u8]) -> bool {
        self.values.within(least, greatest)
    }

    /// Which values of a dictionary are among them, as bits, and which of them are there.
    pub(crate) fn in_tags(&self, dictionary: &[u8]) -> (Vec<u64>, Values) {
        let all = dictionary.as_chunks::<16>().0;
        let is_in = |tag: &&[u8; 16]| self.tags.contains(*tag);
        let value = |tag: &[u8; 16]| Box::from(tag.as_slice());
        chosen(all.iter(), is_in, value)
    }

    pub(crate) fn in_texts(&self, dictionary: &[Arc<str>]) -> (Vec<u64>, Values) {
        let is_in = |text: &&Arc<str>| {
            let found = self
                .values
                .0
                .binary_search_by(|value| (**value).cmp(text.as_bytes()));
            found.is_ok()
        };
        chosen(dictionary.iter(), is_in, |text| text.as_bytes().into())
    }

    fn holds(&self, serve: &Serve<'_>) -> bool {
        let begin = &serve.begin;
        let tag = match self.by {
            By::Target => Some(begin.target.0),
            By::Fill => begin.fill.map(|id| id.0.to_be_bytes()),
            By::Viewer => begin.viewer.map(|tag| tag.0),
            By::ViewerMember => begin.viewer_member.map(|tag| tag.0),
            By::Owner => begin.owner.map(|tag| tag.0),
            By::Class => return self.any(|name| name == begin.class.as_bytes()),
        };
        tag.is_some_and(|tag| self.tags.contains(&tag))
    }
}

fn chosen<T>(
    dictionary: impl ExactSizeIterator<Item = T>,
    is_in: impl Fn(&T) -> bool,
    value: impl Fn(T) -> Box<[u8]>,
) -> (Vec<u64>, Values) {
    let (mut bits, mut there) = (vec![0_u64; dictionary.len().div_ceil(64)], Vec::new());
    for (n, one) in dictionary.enumerate() {
        if is_in(&one) {
            bits[n / 64] |= 1 << (n % 64);
            there.push(value(one));
        }
    }
    (bits, Values::new(there.into_iter()))
}

/// Which responses are asked for: those that began in the window, and of each list are among one of its members.
#[derive(Clone, Debug)]
pub struct Question {
    /// The window, by `began`.
    pub window: Window,
    /// All of these must hold, each by any of its members.
    pub all: Vec<Vec<Among>>,
}

impl Question {
    /// Whether a response is asked for.
    #[must_use]
    pub fn takes(&self, serve: &Serve<'_>) -> bool {
        self.window.holds(serve.begin.began)
            && self
                .all
                .iter()
                .all(|any| any.iter().any(|among| among.holds(serve)))
    }
}

/// A response of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The node.
    pub node: Arc<str>,
    /// The run of the node.
    pub boot: BootId,
    /// The lane.
    pub lane: u32,
    /// The sequence number of its begin row.
    pub sequence: u64,
    /// When its request's head had been read.
    pub began: UnixMillis,
    /// The full target.
    pub target: TargetTag,
    /// Where the client connected from.
    pub address: AddressTag,
    /// The session's credentials.
    pub viewer: Option<ViewerTag>,
    /// Whom the origin believed that it served.
    pub viewer_member: Option<MemberTag>,
    /// Whose data the origin says that it is.
    pub owner: Option<MemberTag>,
    /// The fetch that the bytes came with.
    pub fill: Option<FillId>,
    /// Where it came from.
    pub outcome: Outcome,
    /// The status that the client saw.
    pub status: u16,
    /// The method.
    pub method: Arc<str>,
    /// The class that claimed it.
    pub class: Arc<str>,
    /// What the origin calls the page.
    pub page: Option<Arc<str>>,
    /// How it ended; `None`: no end row, all of it may have been seen.
    pub ended: Option<Ended>,
    /// How many bytes of its body were handed to the connection; `None` as above.
    pub bytes: Option<u64>,
}

impl Served {
    /// Of a row of evidence.
    #[must_use]
    pub fn of(node: &Arc<str>, serve: &Serve<'_>) -> Self {
        let begin = &serve.begin;
        Self {
            node: Arc::clone(node),
            boot: serve.place.boot,
            lane: serve.place.lane,
            sequence: serve.place.sequence,
            began: begin.began,
            target: begin.target,
            address: begin.address,
            viewer: begin.viewer,
            viewer_member: begin.viewer_member,
            owner: begin.owner,
            fill: begin.fill,
            outcome: begin.outcome,
            status: begin.status,
            method: begin.method.into(),
            class: begin.class.into(),
            page: begin.page.map(Into::into),
            ended: serve.ending.map(|ending| ending.ended),
            bytes: serve.ending.map(|ending| ending.bytes),
        }
    }
}

/// How a question is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many threads read row groups.
    pub threads: usize,
    /// How many different viewers an answer may hold at most: each takes about 20 bytes.
    pub viewers_max: usize,
}

impl Settings {
    /// As many threads as there are cores, and a bound that any server has room for.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            viewers_max: 1 << 24,
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhoFault {
    /// A file of the archive cannot be read.
    #[error("cannot read {}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        why: ReadFault,
    },
    /// A folder of the archive cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// What is kept of the archive beside its files cannot be read.
    #[error(transparent)]
    Keeper(#[from] KeeperFault),
    /// The lanes cannot be read.
    #[error(transparent)]
    Lane(#[from] shikiri_evidence::ReadFault),
    /// The answer would hold more than there is room for.
    #[error("more than {max} {what}: ask for fewer objects, or a shorter window")]
    TooMany {
        /// What of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}
