//! A first look at a log: which forms read it, and how much of it.
//!
//! A guess is shown to whoever knows the site; it is never taken unasked.

use shikiri_record::TagKey;

use super::{Edges, Format, Read, Reader, SessionIn, Settings};
use crate::civil::Zone;
use crate::encoding::Encoding;

/// What a log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The form's name, as [`Format::named`] knows it; or `nginx`, `apache`.
    pub name: &'static str,
    /// The form's text, where it has one.
    pub text: Option<&'static str>,
    /// How many of the lines it reads.
    pub reads: usize,
    /// How many of those tell where the response came from. None: the log is an origin's, or its form
    /// leaves that out.
    pub tell_cache: usize,
}

/// No more lines are looked at.
const LINES_MAX: usize = 200;

/// What nginx and Apache write unless told otherwise, with what is often added.
const COMMON: [(&str, &str); 5] = [
    (
        "nginx",
        "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \
         \"$http_user_agent\" $upstream_cache_status",
    ),
    (
        "nginx",
        "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \
         \"$http_user_agent\" \"$http_x_forwarded_for\"",
    ),
    (
        "nginx",
        "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \
         \"$http_user_agent\"",
    ),
    (
        "apache",
        "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"",
    ),
    ("apache", "%h %l %u %t \"%r\" %>s %b"),
];

/// The forms that read some of these lines, the one that reads most of them first. Of forms that read as
/// many, those that tell more come first.
#[must_use]
pub fn sniff(lines: &[&[u8]]) -> Vec<Guess> {
    let lines = lines.get(..lines.len().min(LINES_MAX)).unwrap_or_default();
    let mut guesses = Vec::new();
    let named = Format::NAMES.iter().filter_map(|name| {
        let format = Format::named(name).ok()?;
        Some((*name, None, format))
    });
    let common = COMMON.iter().filter_map(|(name, text)| {
        let format = match *name {
            "nginx" => Format::nginx(text),
            _ => Format::apache(text),
        };
        Some((*name, Some(*text), format.ok()?))
    });
    for (name, text, format) in named.chain(common) {
        let (reads, tell_cache) = tried(format, lines);
        if reads > 0 {
            guesses.push(Guess {
                name,
                text,
                reads,
                tell_cache,
            });
        }
    }
    guesses.sort_by_key(|guess| std::cmp::Reverse((guess.reads, guess.tell_cache)));
    guesses
}

fn tried(format: Format, lines: &[&[u8]]) -> (usize, usize) {
    let settings = Settings {
        // Nothing of what is read is kept.
        tag_key: TagKey::new([0; 32]),
        session: SessionIn::Nowhere,
        encoding: Encoding::UTF_8,
        zone: Zone::UTC,
        host: String::new(),
        edge: None,
        misses_are_stored: false,
        logins: Vec::new(),
        lag_ms_max: 0,
        took_by_readings: false,
    };
    let mut reader = Reader::new(format, settings);
    let mut edges = Edges::default();
    let (mut reads, mut tell_cache) = (0, 0);
    for line in lines {
        if let Read::Request(request) = reader.line(line, &mut edges) {
            reads += 1;
            tell_cache += usize::from(request.access.is_some());
        }
    }
    (reads, tell_cache)
}
