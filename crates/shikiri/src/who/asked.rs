//! What was asked, as tags: members by the keys of the tags or a directory, objects by their URLs.
//!
//! Invariant: a member or an object that cannot be looked up is an error, never an empty answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;
use shikiri_archive::who::{Among, By, Window};
use shikiri_record::{MemberTag, UnixMillis};

use super::sources::{Sources, shown};
use crate::rows::target_tags;
use crate::tag_keys::{self, Period};

/// Objects.
#[derive(clap::Args)]
pub(super) struct Objects {
    /// An object: its URL, or its tag.
    #[arg(long, value_name = "TARGET")]
    object: Vec<String>,
    /// A file of objects, one a line.
    #[arg(long, value_name = "FILE")]
    objects_file: Option<PathBuf>,
}

/// How long a line of a file may be.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How many objects may be asked for at once.
const OBJECTS_MAX: usize = 1 << 20;

/// What is known of tags.
pub(super) struct Asked {
    data: Option<PathBuf>,
    periods: Vec<Period>,
    /// Under which keys a directory has a member.
    directory_keys: HashMap<String, BTreeSet<u64>>,
    /// Members that were looked up by their ids.
    by_id: BTreeSet<String>,
    /// Whether an object was looked up by its URL.
    is_by_url: bool,
    /// Members' ids by their tags: of those that were asked for, and of a directory.
    members: BTreeMap<[u8; 16], String>,
    /// Members' tags by their ids, of a directory.
    directory: HashMap<String, Vec<[u8; 16]>>,
    targets: BTreeMap<[u8; 16], String>,
    names: Names,
}

/// How things are called in an answer.
#[derive(Default)]
pub(super) struct Names {
    with_tags: bool,
    members: BTreeMap<[u8; 16], String>,
    targets: BTreeMap<[u8; 16], String>,
    numbers: HashMap<(char, [u8; 16]), usize>,
    counts: BTreeMap<char, usize>,
}

impl Asked {
    pub(super) fn new(sources: &Sources, directory: Option<&Path>) -> Result<Self, String> {
        let mut asked = Self {
            data: sources.data.clone(),
            periods: Vec::new(),
            directory_keys: HashMap::new(),
            by_id: BTreeSet::new(),
            is_by_url: false,
            members: BTreeMap::new(),
            directory: HashMap::new(),
            targets: BTreeMap::new(),
            names: Names::default(),
        };
        if let Some(path) = directory {
            asked.read_directory(path)?;
        }
        Ok(asked)
    }

    /// A file of `shikiri evidence directory`.
    fn read_directory(&mut self, path: &Path) -> Result<(), String> {
        for (number, line) in lines(path)? {
            let wrong = || {
                format!(
                    "{}, line {number}: it is no line of a directory",
                    shown(path)
                )
            };
            let (tag, id, key) = if line.starts_with('{') {
                let value: Value = serde_json::from_str(&line).map_err(|_| wrong())?;
                let text = |name: &str| value[name].as_str().map(str::to_owned);
                (text("tag"), text("member"), text("key"))
            } else if number == 1 && line.starts_with("tag,") {
                continue;
            } else {
                let (tag, rest) = line.split_once(',').ok_or_else(wrong)?;
                // Neither a key nor a period has commas.
                let key = line.rsplit(',').nth(1).map(str::to_owned);
                (Some(tag.to_owned()), csv_field(rest), key)
            };
            let (tag, id) = tag.zip(id).ok_or_else(wrong)?;
            let tag = digits(&tag).ok_or_else(wrong)?;
            if let Some(key) = key.and_then(|key| u64::from_str_radix(&key, 16).ok()) {
                let keys = self.directory_keys.entry(id.clone()).or_default();
                keys.insert(key);
            }
            self.directory.entry(id.clone()).or_default().push(tag);
            self.members.insert(tag, id);
        }
        Ok(())
    }

    /// Members by ids or tags.
    pub(super) fn members(&mut self, by: By, members: &[String]) -> Result<Among, String> {
        let mut tags = Vec::new();
        for member in members {
            tags.extend(self.member(member)?);
        }
        Ok(Among::tags(by, tags))
    }

    /// A member's tags, one of each period.
    pub(super) fn member(&mut self, member: &str) -> Result<Vec<[u8; 16]>, String> {
        if let Some(tag) = member.strip_prefix("tag:") {
            let tag = digits(tag);
            let wrong = || format!("`{member}` is no tag: write tag: and 32 hexadecimal digits");
            return Ok(vec![tag.ok_or_else(wrong)?]);
        }
        self.by_id.insert(member.to_owned());
        let mut tags = self.directory.get(member).cloned().unwrap_or_default();
        // A directory may be older than the last period: what it has is no reason not to ask the keys.
        if !tags.is_empty() && (self.data.is_none() || self.periods().is_err()) {
            return Ok(tags);
        }
        if self.data.is_none() {
            return Err(format!(
                "member `{member}` cannot be looked up in a copy: it takes the keys of the tags (--data), a \
                 --directory that has them, or their tag (tag:…)"
            ));
        }
        let theirs = |period: &Period| MemberTag::of(&period.key, &[member.as_bytes()]).0;
        tags.extend(self.periods()?.iter().map(theirs));
        tags.sort_unstable();
        tags.dedup();
        for tag in &tags {
            self.members.insert(*tag, member.to_owned());
        }
        Ok(tags)
    }

    /// Objects by URLs or tags; none where none was named.
    pub(super) fn objects(&mut self, objects: &Objects) -> Result<Option<Vec<Among>>, String> {
        let mut tags = Vec::new();
        for object in &objects.object {
            tags.extend(self.object(object)?);
        }
        if let Some(path) = &objects.objects_file {
            for (number, line) in lines(path)? {
                let found = self.object(&line);
                let wrong = |why: String| format!("{}, line {number}: {why}", shown(path));
                tags.extend(found.map_err(wrong)?);
                if tags.len() > OBJECTS_MAX {
                    return Err(format!(
                        "{}: more than {OBJECTS_MAX} objects: ask in parts",
                        shown(path)
                    ));
                }
            }
            if tags.is_empty() {
                return Err(format!("{}: there is no object in it", shown(path)));
            }
        }
        Ok((!tags.is_empty()).then(|| vec![Among::tags(By::Target, tags)]))
    }

    fn object(&mut self, object: &str) -> Result<Vec<[u8; 16]>, String> {
        let bare = object.strip_prefix("tag:").unwrap_or(object);
        if let Some(tag) = digits(bare) {
            return Ok(vec![tag]);
        }
        if object.starts_with("tag:") || !object.contains("://") {
            return Err(format!(
                "`{object}` is no object: write its URL, or its tag, 32 hexadecimal digits"
            ));
        }
        if self.data.is_none() {
            return Err(format!(
                "`{object}` cannot be looked up in a copy: it takes the keys of the tags (--data), or its tag"
            ));
        }
        self.is_by_url = true;
        self.periods()?;
        let tags = target_tags(&self.periods, object)?;
        let tags: Vec<[u8; 16]> = tags.into_values().map(|tag| tag.0).collect();
        for tag in &tags {
            self.targets.insert(*tag, object.to_owned());
        }
        Ok(tags)
    }

    /// What cannot be found since its key is not there: it was destroyed, or is another node's.
    pub(super) fn unknown(
        &self,
        sources: &Sources,
        window: &Window,
    ) -> Result<Vec<String>, String> {
        if self.by_id.is_empty() && !self.is_by_url {
            return Ok(Vec::new());
        }
        let mut unknown = sources.keys(window)?;
        for period in &self.periods {
            unknown.remove(&period.key.id());
        }
        // A directory has tags of members, each under the keys that it was made with; of objects it has none.
        let has = |id: &String, key: &u64| {
            let keys = self.directory_keys.get(id);
            keys.is_some_and(|keys| keys.contains(key))
        };
        unknown.retain(|key| self.is_by_url || !self.by_id.iter().all(|id| has(id, key)));
        let said = |key: u64| {
            format!(
                "rows whose tags were made under the key {key:016x} are not in the answer: it is not here (destroyed, or \
                 another node's), and members and URLs cannot be looked up under it"
            )
        };
        Ok(unknown.into_iter().map(said).collect())
    }

    fn periods(&mut self) -> Result<&[Period], String> {
        if self.periods.is_empty()
            && let Some(data) = &self.data
        {
            self.periods = tag_keys::all(data)?;
            if self.periods.is_empty() {
                return Err(format!("there are no keys of tags in {}", data.display()));
            }
        }
        Ok(&self.periods)
    }

    /// How things are called.
    pub(super) fn names(&mut self, with_tags: bool) -> &mut Names {
        self.names.with_tags = with_tags;
        self.names.members = std::mem::take(&mut self.members);
        self.names.targets = std::mem::take(&mut self.targets);
        &mut self.names
    }
}

impl Names {
    /// How many things bear numbers at most.
    const MAX: usize = 1 << 22;

    pub(super) fn member(&mut self, tag: [u8; 16]) -> Result<String, String> {
        match self.members.get(&tag) {
            Some(id) => Ok(id.clone()),
            None => self.tag('m', tag),
        }
    }

    pub(super) fn target(&mut self, tag: [u8; 16]) -> Result<String, String> {
        match self.targets.get(&tag) {
            Some(url) => Ok(url.clone()),
            None => self.tag('t', tag),
        }
    }

    /// A tag, where tags are asked for; otherwise a letter and a number of this answer alone.
    pub(super) fn tag(&mut self, kind: char, tag: [u8; 16]) -> Result<String, String> {
        if self.with_tags {
            return Ok(hex(tag));
        }
        if self.numbers.len() >= Self::MAX && !self.numbers.contains_key(&(kind, tag)) {
            return Err(format!(
                "there are more than {} different viewers, members and objects to number: ask with --tags, or for less",
                Self::MAX
            ));
        }
        let counts = &mut self.counts;
        let number = self.numbers.entry((kind, tag)).or_insert_with(|| {
            let count = counts.entry(kind).or_default();
            *count += 1;
            *count
        });
        Ok(format!("{kind}{number}"))
    }
}

/// A window: A..B, both ends included.
pub(super) fn window(text: &str) -> Result<Window, String> {
    let wrong = || {
        format!("`{text}` is no window: write 2020-03-16T12:24:00+09:00..2020-03-16T12:25:00+09:00")
    };
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let end = |text: &str, otherwise| match text.trim() {
        "" => Ok(otherwise),
        text => instant(text).ok_or_else(wrong),
    };
    let window = Window {
        from: end(from, Window::ALWAYS.from)?,
        to: end(to, Window::ALWAYS.to)?,
    };
    if window.from > window.to {
        return Err(format!("`{text}` ends before it begins"));
    }
    Ok(window)
}

/// An instant: with its distance from UTC, or as milliseconds since 1970.
fn instant(text: &str) -> Option<UnixMillis> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(UnixMillis);
    }
    let at: Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(UnixMillis)
}

/// Fetches by their ids.
pub(super) fn fills(ids: &[String]) -> Result<Option<Vec<Among>>, String> {
    let tags = ids.iter().map(|id| {
        digits(id).ok_or_else(|| format!("`{id}` names no fetch: write its 32 hexadecimal digits"))
    });
    let tags = tags.collect::<Result<Vec<_>, _>>()?;
    Ok((!tags.is_empty()).then(|| vec![Among::tags(By::Fill, tags)]))
}

/// Classes by their names.
pub(super) fn classes(names: &[String]) -> Option<Vec<Among>> {
    (!names.is_empty()).then(|| vec![Among::classes(names.iter().cloned())])
}

/// 16 bytes as 32 hexadecimal digits.
pub(super) fn digits(text: &str) -> Option<[u8; 16]> {
    let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| is_one)?;
    Some(number.to_be_bytes())
}

pub(super) fn hex(tag: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(tag))
}

/// The lines of a file that say something, with their numbers from 1: not those that are empty or begin with `#`.
fn lines(path: &Path) -> Result<Vec<(usize, String)>, String> {
    let fault = |error| format!("cannot read {}: {error}", shown(path));
    let mut input = BufReader::new(fs::File::open(path).map_err(fault)?);
    let (mut lines, mut number, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).expect("it is small");
        let read = std::io::Read::take(&mut input, limit).read_until(b'\n', &mut line);
        if read.map_err(fault)? == 0 {
            return Ok(lines);
        }
        number += 1;
        let wrong = |why: &str| format!("{}, line {number}: {why}", shown(path));
        if line.len() >= LINE_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let text = str::from_utf8(&line).map_err(|_| wrong("it is no text in UTF-8"))?;
        let text = text.trim_end_matches(['\n', '\r']).trim();
        if !text.is_empty() && !text.starts_with('#') {
            lines.push((number, text.to_owned()));
        }
    }
}

/// The first field of a line of CSV (RFC 4180).
fn csv_field(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.split(',').next().map(str::to_owned);
    };
    let mut field = String::new();
    let mut rest = quoted.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => return Some(field),
            c => field.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_both_its_ends_or_is_open() {
        let of = |text: &str| window(text).map(|it| (it.from.0, it.to.0));
        assert_eq!(of(".."), Ok((0, u64::MAX)));
        assert_eq!(of("5..7"), Ok((5, 7)));
        assert_eq!(
            of("1970-01-01T00:00:01Z..1970-01-01T09:00:02+09:00"),
            Ok((1000, 2000))
        );
        for wrong in ["", "5", "7..5", "2020-03-16..", "x..y"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_directorys_field_is_read_as_it_is_written() {
        for (line, field) in [
            ("a,key,period", Some("a")),
            ("\"a,\"\"b\"\"\",key,period", Some("a,\"b\"")),
            ("\"a", None),
        ] {
            assert_eq!(csv_field(line).as_deref(), field, "{line}");
        }
    }
}
