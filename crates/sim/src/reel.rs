//! What is large and may change while it is fetched: the origin's part, and what must hold of what clients
//! got of it.
//!
//! A reel is made of lines of 64 bytes, each of which says its version, its place and the answer that it
//! came with. Which version an answer is of depends on the request's bytes alone: one that names a version
//! mostly gets that, and else is refused, or told another in one of the ways in which origins do.

use std::ops::Range;

use crate::rng::Rng;
use crate::secret::stamp;
use crate::wire::{Response, field};

const LINE: usize = 64;
const LINES: usize = 160;

/// What a request says of a part and of a version.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    range: Option<(u64, Option<u64>)>,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl Wants {
    pub(crate) fn of(head: &[u8]) -> Self {
        let text =
            |name| field(head, name).map(|value| String::from_utf8_lossy(value).into_owned());
        // Of ranges it knows those with a first byte.
        let range = text("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            let last = if last.is_empty() {
                None
            } else {
                Some(last.parse().ok()?)
            };
            Some((first.parse().ok()?, last))
        });
        Self {
            range,
            if_match: text("if-match"),
            if_none_match: text("if-none-match"),
        }
    }

    pub(crate) const fn is_slice(&self) -> bool {
        self.range.is_some() && self.if_match.is_some()
    }
}

/// A version of a reel, as one answer shows it.
pub(crate) struct Reel {
    version: u64,
    stamp: String,
    part: Option<Range<usize>>,
    how: How,
}

/// What an answer says that is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Right,
    Confirms,
    Fails,
    Weak,
    NoTag,
    AnotherPlace,
    AnotherLength,
    Whole,
    Cut,
}

impl Reel {
    /// The answer to a request: all of it follows from its bytes, by way of `outline`.
    pub(crate) fn of(wants: &Wants, number: u64, outline: &mut Rng) -> Self {
        let named = wants.if_match.as_deref().and_then(version_of);
        let changes = named.is_some() && outline.percent(15);
        let some = outline.pick(&[0, 0, 0, 1, 2]);
        let version = match named {
            Some(version) if changes => version + 1,
            Some(version) => version,
            None => some,
        };
        let mut how = outline.pick(&[
            How::Right,
            How::Right,
            How::Right,
            How::Right,
            How::Right,
            How::Right,
            How::Right,
            How::Right,
            How::Weak,
            How::NoTag,
            How::AnotherPlace,
            How::AnotherLength,
            How::Whole,
            How::Cut,
        ]);
        if changes && outline.percent(60) {
            how = How::Fails;
        }
        let has_it = wants.if_none_match.as_deref().and_then(version_of);
        if has_it == Some(version) && how == How::Right {
            how = How::Confirms;
        }
        let length = length_of(version);
        let part = wants.range.and_then(|(first, last)| {
            let first = usize::try_from(first).ok()?;
            let last = last.and_then(|last| usize::try_from(last).ok());
            let end = last.map_or(length, |last| length.min(last + 1));
            (first < end).then_some(first..end)
        });
        Self {
            version,
            stamp: stamp(number),
            part: part.filter(|_| how != How::Whole),
            how,
        }
    }

    /// Status, header fields and body.
    pub(crate) fn answer(&self, is_head: bool) -> (u16, String, Vec<u8>) {
        let version = self.version;
        let mut fields = match self.how {
            How::Fails => return (412, String::new(), Vec::new()),
            How::NoTag => String::new(),
            How::Weak => format!("ETag: W/\"v{version}\"\r\n"),
            _ => format!("ETag: \"v{version}\"\r\n"),
        };
        if self.how == How::Confirms {
            return (304, fields, Vec::new());
        }
        fields += "Content-Type: text/css\r\n";
        let length = length_of(version);
        let range = self.part.clone().unwrap_or(0..length);
        let first = range.start / LINE;
        let mut body = Vec::new();
        for line in first..range.end.div_ceil(LINE) {
            let text = format!("v{version:04} l{line:08} {} ", self.stamp);
            body.extend_from_slice(format!("{text:.<63}\n").as_bytes());
        }
        let mut body = body[range.start - first * LINE..range.end - first * LINE].to_vec();
        if self.how == How::Cut {
            body.pop();
        }
        let Some(part) = &self.part else {
            return (200, fields, if is_head { Vec::new() } else { body });
        };
        let from = part.start + usize::from(self.how == How::AnotherPlace);
        let of = length + usize::from(self.how == How::AnotherLength);
        fields += &format!("Content-Range: bytes {from}-{}/{of}\r\n", part.end - 1);
        (206, fields, if is_head { Vec::new() } else { body })
    }
}

/// Versions are of different lengths, now and then.
fn length_of(version: u64) -> usize {
    LINES * LINE + if version == 2 { LINE / 2 } else { 0 }
}

fn version_of(tag: &str) -> Option<u64> {
    tag.strip_prefix("\"v")?.strip_suffix('"')?.parse().ok()
}

/// What a client got of a reel: the versions of its lines, and the answers that they came with. A line that
/// is not whole says nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) versions: Vec<u64>,
    pub(crate) stamps: Vec<String>,
    /// Lines do not follow each other.
    pub(crate) has_gaps: bool,
}

/// Reads a response.
pub(crate) fn shown(response: &Response) -> Shown {
    let mut shown = Shown::default();
    let text = String::from_utf8_lossy(&response.body);
    let mut next = None;
    for line in text.split_inclusive('\n').filter(|line| line.len() == LINE) {
        let mut words = line.split(' ');
        let number = |word: Option<&str>, start: char| {
            word.and_then(|word| word.strip_prefix(start)?.parse::<u64>().ok())
        };
        let (Some(version), Some(place), Some(stamp)) = (
            number(words.next(), 'v'),
            number(words.next(), 'l'),
            words.next(),
        ) else {
            continue;
        };
        shown.has_gaps |= next.is_some_and(|next| next != place);
        next = Some(place + 1);
        if shown.versions.last() != Some(&version) {
            shown.versions.push(version);
        }
        if shown.stamps.last().is_none_or(|last| last != stamp) {
            shown.stamps.push(stamp.to_owned());
        }
    }
    // What the head says of it.
    let tag = field(&response.head, "etag").map(|tag| String::from_utf8_lossy(tag).into_owned());
    let tag = tag.as_deref().and_then(version_of);
    if let Some(tag) = tag
        && !shown.versions.is_empty()
        && !shown.versions.contains(&tag)
    {
        shown.versions.push(tag);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(etag: &str, body: Vec<u8>) -> Response {
        Response {
            head: format!("HTTP/1.1 206 x\r\nETag: {etag}\r\n\r\n").into_bytes(),
            data: body.len(),
            body,
            starts: 0,
            whole: true,
        }
    }

    fn part(version: u64, range: Range<usize>, number: u64) -> Vec<u8> {
        let reel = Reel {
            version,
            stamp: stamp(number),
            part: Some(range),
            how: How::Right,
        };
        reel.answer(false).2
    }

    #[test]
    fn what_is_joined_is_found() {
        let check = |etag, parts: &[Vec<u8>], versions: &[u64], answers, has_gaps| {
            let shown = shown(&response(etag, parts.concat()));
            assert_eq!(shown.versions, versions);
            assert_eq!((shown.stamps.len(), shown.has_gaps), (answers, has_gaps));
        };
        check("\"v0\"", &[part(0, 10..5000, 1)], &[0], 1, false);
        let (one, two) = (part(0, 0..4096, 1), part(0, 4096..8192, 2));
        check("\"v0\"", &[one.clone(), two], &[0], 2, false);
        check(
            "\"v0\"",
            &[one.clone(), part(1, 4096..8192, 2)],
            &[0, 1],
            2,
            false,
        );
        check(
            "\"v0\"",
            &[one.clone(), part(0, 4160..8192, 2)],
            &[0],
            2,
            true,
        );
        check("\"v1\"", &[one], &[0, 1], 1, false);
    }
}
