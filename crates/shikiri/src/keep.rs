//! What a node keeps across restarts: its timeline and its own secret, in the data folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use shikiri_edge::chronicle::{Chronicle, Opened};
use shikiri_edge::{Kept, Start};
use shikiri_evidence::{RealDisk, Run};
use shikiri_partition::Knowledge;
use shikiri_record::{Alarm, Mode, NodeKey, UnixMillis};

use crate::data::DataFolder;

/// The timeline's folder in the data folder.
pub(crate) const TIMELINE: &str = "timeline";

const NODE_KEY: &str = "node.key";

/// What was found in a data folder, for a node that begins to run.
pub(crate) struct Found {
    pub(crate) kept: Kept,
    pub(crate) started: Started,
}

/// Reads what a node goes on with. `first_mode`: for a folder in which nothing was ever kept.
///
/// # Errors
/// The timeline cannot be read or written, or the secret cannot be kept.
pub(crate) fn open(
    data: &DataFolder,
    run: &Run,
    first_mode: Option<Mode>,
    now: UnixMillis,
) -> Result<Found, String> {
    let key_path = data.join(NODE_KEY);
    // Both are made at the first start: where there is a key, there was a timeline.
    let expected = key_path.exists();
    let folder = data.join(TIMELINE);
    let opened = Chronicle::open(Arc::new(RealDisk), &folder, run, expected, now);
    let Opened {
        chronicle,
        state,
        knowledge,
        damage,
    } = opened.map_err(|fault| fault.to_string())?;
    let node_key = node_key(&key_path).map_err(|error| {
        format!(
            "cannot keep the secret of the node in {}: {error}",
            key_path.display()
        )
    })?;
    let was = state.mode();
    let mut beginning = state.begin(knowledge, first_mode.unwrap_or(Mode::Open), now);
    let mut text = "told to start".to_owned();
    if beginning.was_cut {
        text.push_str("; the run before had not stopped as it was told to");
    }
    match (first_mode, was) {
        (Some(wanted), Some(was)) if wanted < beginning.mode => {
            text = format!("{text}; --mode {wanted}, lower than {was}");
            beginning.mode = wanted;
        }
        (Some(wanted), Some(_)) if wanted > beginning.mode => tracing::warn!(
            "--mode {wanted} is for the first start: the mode is {}, and `shikiri mode` raises it",
            beginning.mode
        ),
        _ => {}
    }
    let missing = missing(knowledge, &damage, &folder);
    if let Some((_, what)) = &missing {
        tracing::error!(
            "{what}. UNKNOWN MEANS SHARE LESS: the mode is {}, everything stored before is dead, and no \
             preview grant holds",
            beginning.mode
        );
    }
    Ok(Found {
        started: Started { missing, text },
        kept: Kept {
            beginning,
            chronicle,
            node_key,
        },
    })
}

/// What is put on the timeline at the start.
pub(crate) struct Started {
    missing: Option<(Alarm, String)>,
    text: String,
}

impl Started {
    /// With the policy's file.
    pub(crate) fn with<'a>(&'a self, policy: Option<&'a str>) -> Start<'a> {
        Start {
            policy,
            missing: self.missing.clone(),
            text: &self.text,
        }
    }
}

fn missing(knowledge: Knowledge, damage: &[String], folder: &Path) -> Option<(Alarm, String)> {
    match knowledge {
        Knowledge::Whole => None,
        Knowledge::Lost => Some((
            Alarm::TimelineLost,
            format!(
                "there was a timeline in {}, and it is gone",
                folder.display()
            ),
        )),
        Knowledge::Damaged => {
            let first = damage.first().map_or("", String::as_str);
            let more = damage.len().saturating_sub(1);
            let what =
                format!("a part of the timeline cannot be read: {first}; and {more} more places");
            Some((Alarm::TimelineDamaged, what))
        }
    }
}

/// The key in a file, made on the first start.
fn node_key(path: &Path) -> io::Result<NodeKey> {
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = bytes.try_into();
            let bytes = bytes.map_err(|_| io::Error::other("it is not 32 bytes long"));
            Ok(NodeKey::new(bytes?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(io::Error::other)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(NodeKey::new(bytes))
        }
        Err(error) => Err(error),
    }
}
