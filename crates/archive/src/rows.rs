//! Rows as the archive knows them: with their place in their lane, and a response's two rows joined.
//!
//! Never decides what a row means. Invariant: [`Tally`] counts the same for rows as they stand in
//! segments and as they come out of files again, whatever their order, or the archive has lost, doubled
//! or changed one.

use shikiri_evidence::BootId;
use shikiri_record::{Begin, End, Ended, Gap, Link, Row, StanceRow, UnixMillis};

/// Where a row stood, and when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The run of the node.
    pub boot: BootId,
    /// The lane.
    pub lane: u32,
    /// The row's sequence number in its lane.
    pub sequence: u64,
    /// The instant that it was written with.
    pub written: UnixMillis,
}

/// A response: its begin row, its end row if there is one, and what it was served under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve<'a> {
    /// Of the begin row.
    pub place: Place,
    /// The begin row.
    pub begin: Begin<'a>,
    /// What it was served under; `None` where that was not written, or is damaged.
    pub stance: Option<StanceRow>,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// An end row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its sequence number.
    pub sequence: u64,
    /// The instant that it was written with.
    pub written: UnixMillis,
    /// How it ended.
    pub ended: Ended,
    /// How many bytes of its body were handed to the connection.
    pub bytes: u64,
}

impl Serve<'_> {
    /// The end row, as it stands in the lane.
    #[must_use]
    pub fn end(&self) -> Option<(Place, End)> {
        let ending = self.ending?;
        let place = Place {
            sequence: ending.sequence,
            written: ending.written,
            ..self.place
        };
        let end = End {
            begin: self.place.sequence,
            ended: ending.ended,
            bytes: ending.bytes,
        };
        Some((place, end))
    }
}

/// Anything that stands in the archive.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are responses, and they live for a call"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archived<'a> {
    /// A response.
    Serve(Serve<'a>),
    /// A session and a member.
    Link(Place, Link),
    /// Responses without rows.
    Gap(Place, Gap),
    /// What the rows after it were served under.
    Stance(Place, StanceRow),
    /// The bytes of a row that this program cannot read, or of one that has lost its other half.
    Other(Place, &'a [u8]),
}

/// How many rows there are and which, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub rows: u64,
    /// The sum of their digests.
    pub sum: u128,
}

impl Tally {
    /// Counts a row by its bytes.
    pub fn row(&mut self, place: &Place, body: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&place.boot.0);
        hasher.update(&place.lane.to_le_bytes());
        hasher.update(&place.sequence.to_le_bytes());
        hasher.update(&place.written.0.to_le_bytes());
        hasher.update(body);
        let digest = *hasher.finalize().as_bytes();
        let first = digest.first_chunk().expect("a digest has 32 bytes");
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(*first));
    }

    /// Counts all the rows of what stands in the archive.
    pub fn archived(&mut self, archived: &Archived<'_>) {
        let mut body = Vec::new();
        let mut row = |place: &Place, row: Row<'_>| {
            body.clear();
            row.encode(&mut body);
            self.row(place, &body);
        };
        match archived {
            Archived::Serve(serve) => {
                row(&serve.place, Row::Begin(serve.begin.clone()));
                if let Some((place, end)) = serve.end() {
                    row(&place, Row::End(end));
                }
            }
            Archived::Link(place, link) => row(place, Row::Link(*link)),
            Archived::Gap(place, gap) => row(place, Row::Gap(*gap)),
            Archived::Stance(place, stance) => row(place, Row::Stance(*stance)),
            Archived::Other(place, body) => self.row(place, body),
        }
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows, {:032x}", self.rows, self.sum)
    }
}
