//! The evidence of a node: the section of the config file, the key of the tags, and what is logged of
//! it. `docs/evidence-format.md` says what is kept.
//!
//! Never decides what a row says. Invariant: nobody but its owner can read the key.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use shikiri_edge::evidence::Told;
use shikiri_edge::{Evidence, EvidenceSettings, OnFull};
use shikiri_evidence::{Event, Mended, RealDisk, Run, SEGMENT_BYTES_MIN};
use shikiri_partition::policy;
use shikiri_record::{TagKey, UnixMillis};

use crate::config::Parsed;
use crate::data::DataFolder;
use crate::{secret_file, tag_keys};

/// How evidence is signed, and how its keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealing {
    /// How often what is written is signed.
    pub(crate) checkpoint_time: Duration,
    /// For how long tags are made with one key.
    pub(crate) tag_key_time: Duration,
    /// A key whose period ended so long ago is destroyed; `None`: none is for its age.
    pub(crate) tag_key_keep: Option<Duration>,
}

impl Sealing {
    /// What holds where nothing is said.
    const STANDARD: Self = Self {
        checkpoint_time: Duration::from_secs(60),
        tag_key_time: Duration::from_secs(30 * 24 * 60 * 60),
        tag_key_keep: None,
    };
}

/// `[evidence]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EvidenceSection {
    pub(crate) segment_size: Option<Parsed<SegmentSize>>,
    pub(crate) segment_time: Option<Parsed<Time>>,
    pub(crate) sync_time: Option<Parsed<Time>>,
    pub(crate) checkpoint_time: Option<Parsed<Time>>,
    pub(crate) tag_key_time: Option<Parsed<Time>>,
    pub(crate) tag_key_keep: Option<Parsed<Time>>,
    pub(crate) keep_size: Option<Parsed<Size>>,
    pub(crate) keep_time: Option<Parsed<Time>>,
    pub(crate) free_size: Option<Parsed<Size>>,
    pub(crate) on_full: Option<Parsed<WhenFull>>,
}

impl EvidenceSection {
    /// What it says of signatures and keys.
    pub(crate) fn sealing(&self) -> Sealing {
        let mut sealing = Sealing::STANDARD;
        if let Some(Parsed(Time(time))) = self.checkpoint_time {
            sealing.checkpoint_time = time;
        }
        if let Some(Parsed(Time(time))) = self.tag_key_time {
            sealing.tag_key_time = time;
        }
        if let Some(Parsed(Time(time))) = self.tag_key_keep {
            sealing.tag_key_keep = Some(time);
        }
        sealing
    }

    /// What it says, over what holds where it says nothing.
    pub(crate) fn settings(&self) -> EvidenceSettings {
        let mut settings = EvidenceSettings::STANDARD;
        if let Some(Parsed(SegmentSize(bytes))) = self.segment_size {
            settings.cut.segment_bytes = bytes;
        }
        if let Some(Parsed(Time(time))) = self.segment_time {
            settings.cut.age_max = time;
        }
        if let Some(Parsed(Time(time))) = self.sync_time {
            settings.sync_interval = time;
        }
        if let Some(Parsed(Size(bytes))) = self.keep_size {
            settings.keep.bytes_max = bytes;
        }
        if let Some(Parsed(Time(time))) = self.keep_time {
            settings.keep.age_max = Some(time);
        }
        if let Some(Parsed(Size(bytes))) = self.free_size {
            settings.keep.free_bytes_min = bytes;
        }
        if let Some(Parsed(WhenFull(on_full))) = self.on_full {
            settings.on_full = on_full;
        }
        settings
    }
}

/// A time with its unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = policy::duration(text).filter(|time| !time.is_zero());
        time.map(Self)
            .ok_or_else(|| format!("`{text}` is no time: write it with its unit: 1s, 10m, 1h, 90d"))
    }
}

/// A size with its unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        policy::size(text)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no size: write it with its unit: 64 MiB, 10 GiB"))
    }
}

/// The size of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSize(u64);

impl FromStr for SegmentSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const BYTES_MAX: u64 = 16 << 30;
        let Size(bytes) = text.parse()?;
        if !(SEGMENT_BYTES_MIN..=BYTES_MAX).contains(&bytes) {
            return Err("a segment has 64 KiB at least and 16 GiB at most".to_owned());
        }
        Ok(Self(bytes))
    }
}

/// What happens when there is no space for evidence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WhenFull(OnFull);

impl FromStr for WhenFull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self(OnFull::Refuse)),
            "pass" => Ok(Self(OnFull::Pass)),
            _ => Err(format!(
                "`{text}` is not known: write \"refuse\" (503) or \"pass\" (passes go on without rows, \
                 counted in a gap)"
            )),
        }
    }
}

/// Opens the evidence in a data folder, for one run of a node.
///
/// # Errors
/// In words for the operator: the key or the folder cannot be read or written.
pub(crate) fn open(
    data: &DataFolder,
    run: &Run,
    (settings, sealing): (EvidenceSettings, Sealing),
    now: UnixMillis,
) -> Result<Evidence, String> {
    let key = tag_keys::begin(data.path(), sealing.tag_key_time, now)?;
    let folder = data.join("evidence");
    let opened = Evidence::open(Arc::new(RealDisk), &folder, run, key, settings, now);
    let (evidence, mended) = opened.map_err(|fault| fault.to_string())?;
    for mended in mended {
        if matches!(mended, Mended::Contradicted { .. }) {
            tracing::error!("evidence of an earlier run: {mended}");
        } else {
            tracing::warn!("evidence of an earlier run: {mended}");
        }
    }
    Ok(evidence)
}

/// The key of the tags: made on the first start, and kept.
///
/// # Errors
/// In words for the operator: it cannot be read or written, others may read it, or it is none.
pub(crate) fn tag_key(path: &Path) -> Result<TagKey, String> {
    if let Some(key) = read_tag_key(path)? {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| format!("cannot get random bytes: {error}"))?;
    secret_file::make(path, &key)
        .map_err(|error| format!("cannot make the tag key {}: {error}", path.display()))?;
    Ok(TagKey::new(key))
}

/// The key in a file, if there is one.
///
/// # Errors
/// As [`tag_key`].
pub(crate) fn read_tag_key(path: &Path) -> Result<Option<TagKey>, String> {
    let since = "with it they can tell who was served what";
    let Some(bytes) = secret_file::read(path, "tag key", since, 64)? else {
        return Ok(None);
    };
    let bytes = bytes.try_into().map_err(|_| {
        format!(
            "the tag key {} does not have 32 bytes: put the right one back; a new one is made when \
             there is none, and tags of before and after cannot be compared then",
            path.display()
        )
    })?;
    Ok(Some(TagKey::new(bytes)))
}

/// Logs what happens to evidence. What goes on being wrong is said again once a minute.
pub(crate) fn logged() -> Told {
    const AGAIN: Duration = Duration::from_secs(60);
    let said: Mutex<BTreeMap<String, Instant>> = Mutex::default();
    Box::new(move |event| match event {
        Event::Trouble(trouble) => {
            let text = trouble.to_string();
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.retain(|_, at| at.elapsed() < AGAIN);
            if let Entry::Vacant(new) = said.entry(text) {
                tracing::error!("evidence: {}", new.key());
                new.insert(Instant::now());
            }
        }
        Event::Removed(sealed) => tracing::warn!(
            first = sealed.first,
            rows = sealed.rows,
            "evidence: {} was removed, since it is old enough, there is too much, or it is archived",
            sealed.path.display()
        ),
        // An alarm, which is logged as one.
        Event::FreeLow { .. } | Event::FreeAgain { .. } => {}
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_tag_key_is_made_once_and_is_its_owners_alone() {
        let folder = std::env::temp_dir().join(format!("shikiri-key-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tag.key");
        let first = tag_key(&path).unwrap();
        assert_eq!(tag_key(&path).unwrap(), first);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let why = tag_key(&path).unwrap_err();
        assert!(why.contains("chmod 600"), "{why}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for wrong in [&[1; 31][..], &[1; 33], &[]] {
            fs::write(&path, wrong).unwrap();
            assert!(tag_key(&path).unwrap_err().contains("32 bytes"));
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_the_section_says_replaces_what_holds_without_it() {
        assert_eq!(
            EvidenceSection::default().settings(),
            EvidenceSettings::STANDARD
        );
        let text = "segment_size = \"1 MiB\"\nsegment_time = \"5m\"\nsync_time = \"200ms\"\n\
            keep_size = \"2 GiB\"\nkeep_time = \"90d\"\nfree_size = \"3 GiB\"\non_full = \"pass\"\n\
            checkpoint_time = \"10s\"\ntag_key_time = \"7d\"\ntag_key_keep = \"365d\"";
        let section: EvidenceSection = toml::from_str(text).unwrap();
        let settings = section.settings();
        assert_eq!(settings.cut.segment_bytes, 1 << 20);
        assert_eq!(settings.cut.age_max, Duration::from_secs(300));
        assert_eq!(settings.sync_interval, Duration::from_millis(200));
        assert_eq!(settings.keep.bytes_max, 2 << 30);
        assert_eq!(settings.keep.age_max, Some(Duration::from_secs(90 * 86400)));
        assert_eq!(settings.keep.free_bytes_min, 3 << 30);
        assert_eq!(settings.on_full, OnFull::Pass);
        let sealing = section.sealing();
        assert_eq!(sealing.checkpoint_time, Duration::from_secs(10));
        assert_eq!(sealing.tag_key_time, Duration::from_secs(7 * 86400));
        assert_eq!(sealing.tag_key_keep, Some(Duration::from_secs(365 * 86400)));
        assert_eq!(EvidenceSection::default().sealing(), Sealing::STANDARD);
        for wrong in [
            "segment_size = \"1 KiB\"",
            "keep_size = \"much\"",
            "sync_time = \"0s\"",
            "on_full = \"drop\"",
            "unknown = 1",
        ] {
            assert!(toml::from_str::<EvidenceSection>(wrong).is_err(), "{wrong}");
        }
    }
}
