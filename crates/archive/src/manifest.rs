//! What is written of each batch: which segments it took, which files it made, and that both hold the
//! same rows. `docs/archive.md` describes the file.
//!
//! Pure: text in, values out. Invariant: a manifest with a word that is not known is refused; what was
//! written in a version is read in that version for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rows::Tally;

/// The version in which manifests and plans are written.
pub const MANIFEST_VERSION: u32 = 1;

/// What a batch will take: written before anything else, so that who is killed goes on with the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub(crate) version: u32,
    /// The batch's number, from 1.
    pub number: u64,
    /// The name of its files.
    pub name: String,
    /// The node whose rows these are.
    pub node: String,
    /// The segments of each lane.
    pub lanes: Vec<Taken>,
}

/// Segments of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The lane.
    pub lane: u32,
    /// The number of the first segment.
    pub from: u64,
    /// The number of the last segment.
    pub to: u64,
}

/// A batch that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub(crate) version: u32,
    /// Its number, from 1.
    pub number: u64,
    /// The name of its files.
    pub name: String,
    /// The name of the batch before it; none before the first.
    pub after: Option<String>,
    /// The node whose rows these are.
    pub node: String,
    /// The segments that it took.
    pub lanes: Vec<Taken>,
    /// How long the segments were.
    pub segment_bytes: u64,
    /// The rows of the segments.
    pub took: Counted,
    /// Begin rows of earlier segments that had waited for their ends.
    pub waited: Counted,
    /// Begin rows that wait for their ends, and are in no file yet.
    pub waits: Counted,
    /// Its files. Their rows and those that wait are those that it took and those that had waited.
    pub files: Vec<Filed>,
    /// What was wrong with the segments, in words: damage, and rows that are not there.
    pub faults: Vec<String>,
    /// How far each lane has been taken, this batch included.
    pub reached: BTreeMap<u32, Reached>,
}

/// How far a lane has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// The number of the last segment.
    pub segment: u64,
    /// The sequence number of the row that comes next.
    pub next: u64,
}

/// A file of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filed {
    /// Where it is, from the archive's root.
    pub name: String,
    /// How many rows it has: a response and its end are one.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// The BLAKE3 digest of its bytes.
    pub blake3: String,
    /// The rows of the segments that it holds.
    pub holds: Counted,
}

/// A [`Tally`] as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// How many rows.
    pub rows: u64,
    /// The sum of their digests, as hexadecimal digits.
    pub sum: String,
}

impl From<Tally> for Counted {
    fn from(tally: Tally) -> Self {
        Self {
            rows: tally.rows,
            sum: format!("{:032x}", tally.sum),
        }
    }
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        known(manifest.version)?;
        Ok(manifest)
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("it is plain data");
        text.push('\n');
        text
    }

    /// Where it is, from the archive's root.
    #[must_use]
    pub fn place(&self) -> String {
        format!("manifests/node={}/{}.json", self.node, self.name)
    }

    /// Where what is signed of it is, from the archive's root.
    #[must_use]
    pub fn note_place(&self) -> String {
        format!("manifests/node={}/{}.note", self.node, self.name)
    }

    /// What is signed of it: which it is, and the digest of its text, in which the digests of its files stand. It is
    /// no text of a checkpoint.
    #[must_use]
    pub fn statement(&self) -> String {
        let digest = blake3::hash(self.text().as_bytes()).to_hex();
        format!(
            "shikiri archive {}\n{}\n{digest}\n",
            self.version,
            self.place()
        )
    }

    /// How long its files are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Plan {
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        known(plan.version)?;
        Ok(plan)
    }
}

fn known(version: u32) -> Result<(), String> {
    if version == MANIFEST_VERSION {
        return Ok(());
    }
    Err(format!(
        "it has version {version}, and this program reads version {MANIFEST_VERSION}"
    ))
}
