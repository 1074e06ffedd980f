//! The keys of the tags, by period: the present one in `tag.key`, those before in `tag-keys`.
//!
//! Tags of one period are made under one key. Who lacks it cannot tell whose they are; when it is
//! destroyed, nobody can. Rows name their key by its id (`docs/evidence-format.md`).
//!
//! Never prints a key. Invariants: a key is kept before the next one is used; none is forgotten but by
//! [`destroy`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use shikiri_record::{TagKey, UnixMillis};

use crate::evidence::{read_tag_key, tag_key};
use crate::secret_file;

/// The present key's file in the data folder.
pub(crate) const TAG_KEY: &str = "tag.key";

/// The folder of those before.
const BEFORE: &str = "tag-keys";

/// How instants stand in the names of files.
const FORM: &str = "%Y%m%dT%H%M%SZ";

/// A key and its period.
#[derive(Debug)]
pub(crate) struct Period {
    /// Names the period: its beginning and its end, or `current`.
    pub(crate) name: String,
    pub(crate) begun: UnixMillis,
    /// None while it lasts.
    pub(crate) ended: Option<UnixMillis>,
    pub(crate) key: TagKey,
    path: PathBuf,
}

impl Period {
    /// The key's id, as in stance rows.
    pub(crate) fn id(&self) -> String {
        format!("{:016x}", self.key.id())
    }
}

/// The key to begin with: the present one, or the next one where its period is over.
///
/// # Errors
/// In words for the operator.
pub(crate) fn begin(data: &Path, time: Duration, now: UnixMillis) -> Result<TagKey, String> {
    let path = data.join(TAG_KEY);
    let key = tag_key(&path)?;
    Ok(rotate(data, time, now)?.unwrap_or(key))
}

/// Takes the next key where the period of the present one is over.
///
/// # Errors
/// In words for the operator: the present key stays in use.
pub(crate) fn rotate(
    data: &Path,
    time: Duration,
    now: UnixMillis,
) -> Result<Option<TagKey>, String> {
    let path = data.join(TAG_KEY);
    let fault = |what: &str, error: io::Error| format!("cannot {what} {}: {error}", path.display());
    let begun = modified(&path).map_err(|error| fault("look at", error))?;
    // A clock that was set back ends no period, nor does one that is not there.
    if now < begun || now.since(begun) < time {
        return Ok(None);
    }
    let bytes = fs::read(&path).map_err(|error| fault("read", error))?;
    let folder = data.join(BEFORE);
    make_folder(&folder).map_err(|error| fault("keep", error))?;
    let name = format!("{}-{}", stamp(begun), stamp(now));
    secret_file::make(&folder.join(format!("{name}.key")), &bytes)
        .map_err(|error| fault("keep", error))?;
    let mut next = [0; 32];
    getrandom::fill(&mut next).map_err(|error| format!("cannot get random bytes: {error}"))?;
    secret_file::make(&path, &next).map_err(|error| fault("replace", error))?;
    Ok(Some(TagKey::new(next)))
}

/// All keys that there are, the oldest first and the present one last.
///
/// # Errors
/// In words for the operator: one cannot be read.
pub(crate) fn all(data: &Path) -> Result<Vec<Period>, String> {
    let mut all = Vec::new();
    let folder = data.join(BEFORE);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let entries = entries.map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let is_key = path.extension().is_some_and(|it| it == "key");
        let Some((name, (begun, ended))) = stem
            .filter(|_| is_key)
            .and_then(|stem| Some((stem.to_owned(), period(stem)?)))
        else {
            continue;
        };
        let Some(key) = read_tag_key(&path)? else {
            continue;
        };
        all.push(Period {
            name,
            begun,
            ended: Some(ended),
            key,
            path,
        });
    }
    all.sort_by_key(|period| (period.begun, period.ended));
    let path = data.join(TAG_KEY);
    if let Some(key) = read_tag_key(&path)? {
        // A node that was killed after it had kept its key goes on with it.
        all.retain(|period| period.key != key);
        let begun = modified(&path)
            .map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
        all.push(Period {
            name: "current".to_owned(),
            begun,
            ended: None,
            key,
            path,
        });
    }
    Ok(all)
}

/// Destroys the key of a period that is over: it is written over, and removed.
///
/// # Errors
/// It is in use, or the disk does not let it be removed.
pub(crate) fn destroy(period: &Period) -> Result<(), String> {
    let shown = period.path.display();
    if period.ended.is_none() {
        return Err(format!(
            "the key {shown} is in use: a period that is over can be destroyed, and this one ends after \
             `tag_key_time`"
        ));
    }
    let destroyed = || {
        let mut file = OpenOptions::new().write(true).open(&period.path)?;
        file.write_all(&[0; 32])?;
        file.sync_all()?;
        fs::remove_file(&period.path)?;
        secret_file::sync_folder_of(&period.path)
    };
    destroyed().map_err(|error| format!("cannot destroy the key {shown}: {error}"))
}

/// Whether there are keys of periods that are over.
pub(crate) fn has_before(data: &Path) -> bool {
    data.join(BEFORE).is_dir()
}

/// Holds the keys, so that none is destroyed while members are looked up with them.
///
/// # Errors
/// Somebody else holds them.
pub(crate) fn hold(data: &Path) -> Result<File, String> {
    let folder = data.join(BEFORE);
    let path = folder.join("lock");
    let opened = || {
        make_folder(&folder)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
    };
    let lock =
        opened().map_err(|error| format!("cannot open the lock {}: {error}", path.display()))?;
    lock.try_lock().map_err(|_| {
        format!(
            "somebody uses the keys in {}: wait until that has ended",
            folder.display()
        )
    })?;
    Ok(lock)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn modified(path: &Path) -> io::Result<UnixMillis> {
    let at = fs::metadata(path)?.modified()?;
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMillis(
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    ))
}

fn stamp(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok();
    let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
    at.unwrap_or_default().strftime(FORM).to_string()
}

/// When the period of a name began and ended.
fn period(name: &str) -> Option<(UnixMillis, UnixMillis)> {
    let (begun, ended) = name.split_once('-')?;
    let instant = |text: &str| {
        let at = DateTime::strptime(FORM, text).ok()?;
        let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(UnixMillis(u64::try_from(at.as_millisecond()).ok()?))
    };
    Some((instant(begun)?, instant(ended)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_key_is_kept_when_its_period_is_over_and_only_those_before_can_be_destroyed() {
        let data = std::env::temp_dir().join(format!("shikiri-periods-{}", std::process::id()));
        fs::create_dir_all(&data).unwrap();
        let now = crate::now();
        let first = begin(&data, DAY, now).unwrap();
        assert_eq!(begin(&data, DAY, now).unwrap(), first, "it lasts");
        assert_eq!(
            rotate(&data, DAY, UnixMillis(1)).unwrap(),
            None,
            "a clock set back"
        );
        let later = |days: u32| now.after(DAY * days);
        let second = rotate(&data, DAY, later(2)).unwrap().unwrap();
        assert_ne!(second, first);
        let periods = all(&data).unwrap();
        let keys: Vec<&TagKey> = periods.iter().map(|period| &period.key).collect();
        assert_eq!(keys, [&first, &second]);
        assert_eq!(periods[0].ended.unwrap().seconds(), later(2).seconds());
        assert_eq!(
            (periods[1].name.as_str(), periods[1].ended),
            ("current", None)
        );
        assert!(destroy(&periods[1]).unwrap_err().contains("in use"));
        let held = hold(&data).unwrap();
        assert!(hold(&data).is_err());
        drop(held);
        destroy(&periods[0]).unwrap();
        let left = all(&data).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].key, second);
        // A node that was killed between: the key is kept and still in use.
        let bytes = fs::read(data.join(TAG_KEY)).unwrap();
        let kept = data
            .join(BEFORE)
            .join("20260101T000000Z-20260201T000000Z.key");
        secret_file::make(&kept, &bytes).unwrap();
        assert_eq!(all(&data).unwrap().len(), 1);
        fs::remove_dir_all(&data).unwrap();
    }
}
