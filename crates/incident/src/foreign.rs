//! Logs of other caches and of origins, line by line, into the facts that inference starts from.
//!
//! Bytes come in and facts go out. Files, compression and command lines are the caller's, and so are lines
//! that cannot be read: each is told with its reason, counted, and the caller's to keep.
//!
//! Never here: an identity. Sessions, addresses and targets become tags as they are read; what is kept of
//! a line, besides, is numbers and words of the log's own.
//!
//! Invariant: a line either tells everything that an access must have, or is told as bad. A word of a cache
//! that is not known is never taken for a hit or a miss.

mod format;
mod json;
mod sniff;
mod squid;
mod template;
pub(crate) mod time;
mod vsl;
mod w3c;
mod words;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use shikiri_record::{
    AddressTag, CookieTag, FillId, MemberTag, TagKey, TargetTag, UnixMillis, ViewerTag,
};

use crate::access::{
    Access, Answer, Asked, Edge, Person, RequestId, Served, Step, Stored, Times, Who,
};
use crate::civil::Zone;
use crate::encoding::Encoding;
use crate::span::Span;

pub use format::{Format, FormatFault};
pub use sniff::{Guess, sniff};
use time::Stamp;
use words::Word;

/// A line has no more bytes.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// No more stores are told apart.
pub const EDGES_MAX: usize = 1 << 16;

/// No more bad lines are named by their numbers.
const NUMBERS_MAX: usize = 100;

/// How the lines of one log are read.
pub struct Reader {
    format: Format,
    settings: Settings,
    counts: Counts,
}

/// The stores that logs name, by the logs' names for them: the same for all logs of a site.
#[derive(Clone, Debug, Default)]
pub struct Edges(BTreeMap<Vec<u8>, Edge>);

/// What a log does not tell of itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The key under which tags are made: the same for all logs that are held against each other.
    pub tag_key: TagKey,
    /// Where a request's session is.
    pub session: SessionIn,
    /// How its lines are written, where they are read as text. UTF-8 stands for any bytes: what is not UTF-8 is read as
    /// it is.
    pub encoding: Encoding,
    /// The zone of times that are told without one.
    pub zone: Zone,
    /// The host of requests whose line tells none: the same for all logs that are held against each
    /// other.
    pub host: String,
    /// The store, where the log does not tell: the log is of this one alone.
    pub edge: Option<Edge>,
    /// Whether a whole answer with status 200 to a `GET` that missed is known to have been stored: it set
    /// no cookie, the cache kept what it could, and so on.
    pub misses_are_stored: bool,
    /// The paths to which members post to log in.
    pub logins: Vec<String>,
    /// So long after the time that a line tells, it may have been: a server of several processes reads the
    /// clock when one of them wakes, and each goes on by what it read.
    pub lag_ms_max: u64,
    /// Whether durations are differences of two readings of the clock (nginx), or were measured finer.
    pub took_by_readings: bool,
}

/// Where a request's session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionIn {
    /// In the cookie of this name.
    Cookie(String),
    /// In what the log's form calls so: a variable, a header, a column, a member of an object.
    Field(String),
    /// There, and what stands there is the member's own name.
    Member(String),
    /// Nowhere.
    Nowhere,
}

/// What a line told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A request.
    Request(Box<Request>),
    /// Nothing: a header, a comment, an empty line.
    Nothing,
    /// Something that cannot be read.
    Bad(Bad),
}

/// A request that a line told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As a request at a cache; `None` where the line tells nothing of a cache: the log is an origin's.
    pub access: Option<Access>,
    /// As a request at an origin.
    pub asked: Asked,
    /// What takeovers are found by, where the log tells the client.
    pub step: Option<Step>,
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bad {
    /// It is not of the log's form.
    Form,
    /// It is longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// It tells no time, or none that can be read.
    Time,
    /// It tells no target.
    Target,
    /// A number in it is none.
    Number,
    /// It has a word for where the response came from that is not known.
    Word,
    /// It names more stores than [`EDGES_MAX`].
    Edges,
    /// It is not of the encoding that the log is said to be of.
    Encoding,
}

/// How many lines were read and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All lines.
    pub lines: u64,
    /// Those that told a request.
    pub requests: u64,
    /// Those that told nothing.
    pub nothing: u64,
    /// Those that could not be read, by reason.
    pub bad: BTreeMap<Bad, u64>,
    /// The numbers of the first of them, from 1.
    pub bad_numbers: Vec<(u64, Bad)>,
}

/// What a value in a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// When the response ended, or the request began.
    Ended(time::Form),
    Began(time::Form),
    /// A date and a time of day in fields of their own.
    Date,
    TimeOfDay,
    /// A duration in seconds, milliseconds or microseconds, and the step in which it is told, in
    /// milliseconds.
    Took {
        per_second: u64,
        step_ms: u64,
    },
    /// One of several durations in milliseconds that follow each other.
    TookPart,
    /// `GET /path HTTP/1.1`.
    RequestLine,
    Method,
    /// Path and query.
    Target,
    Path,
    Query,
    /// Scheme, host, path and query.
    Url,
    Host,
    Status,
    Age,
    Word(Word),
    /// Whether the origin was asked if what came from the store had changed: `true` or `false`.
    Validated,
    Edge,
    RequestId,
    /// The fill's id, alone.
    Fill,
    /// The id of what this request fetched, for itself or behind a copy from the store.
    Fetch,
    /// A fetch asks after what the response was shown from, behind which it is.
    AsksAfterShown,
    /// `X-Varnish` of a response: the request's, and the fill's where it was a hit.
    XVarnish,
    Cookies,
    /// A cookie of a name that is asked for.
    Cookie,
    SetCookie,
    Address,
    Agent,
    Etag,
    Ignored,
}

/// The values of a line, each with what it tells.
type Values<'a> = Vec<(Field, Cow<'a, [u8]>)>;

/// What a line tells, before it is made into facts.
#[derive(Default)]
struct Told<'a> {
    ended: Option<Stamp>,
    began: Option<Stamp>,
    date: Option<Cow<'a, [u8]>>,
    time_of_day: Option<Cow<'a, [u8]>>,
    took: Option<(u64, u64)>,
    method: Option<Cow<'a, [u8]>>,
    target: Option<Cow<'a, [u8]>>,
    path: Option<Cow<'a, [u8]>>,
    query: Option<Cow<'a, [u8]>>,
    host: Option<Cow<'a, [u8]>>,
    status: Option<u16>,
    age_s: Option<u64>,
    served: Option<Served>,
    is_broken_off: bool,
    is_validated: bool,
    asks_after_shown: bool,
    edge: Option<Cow<'a, [u8]>>,
    request: Option<RequestId>,
    fill: Option<FillId>,
    fetch: Option<FillId>,
    /// The session, where the line tells it: `Some(None)` where it tells that there was none.
    session: Option<Option<Cow<'a, [u8]>>>,
    set_session: Option<Cow<'a, [u8]>>,
    address: Option<Cow<'a, [u8]>>,
    agent: Option<Cow<'a, [u8]>>,
    etag: Option<Cow<'a, [u8]>>,
}

impl Reader {
    /// A reader of one log.
    #[must_use]
    pub fn new(format: Format, settings: Settings) -> Self {
        Self {
            format,
            settings,
            counts: Counts::default(),
        }
    }

    /// Reads a line, without its end.
    pub fn line(&mut self, line: &[u8], edges: &mut Edges) -> Read {
        let read = self.read(line, edges);
        self.counts.lines += 1;
        match &read {
            Read::Request(_) => self.counts.requests += 1,
            Read::Nothing => self.counts.nothing += 1,
            Read::Bad(why) => {
                *self.counts.bad.entry(*why).or_default() += 1;
                if self.counts.bad_numbers.len() < NUMBERS_MAX {
                    self.counts.bad_numbers.push((self.counts.lines, *why));
                }
            }
        }
        read
    }

    /// How the lines so far were read.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    fn read(&mut self, line: &[u8], edges: &mut Edges) -> Read {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return Read::Nothing;
        }
        if line.len() > LINE_BYTES_MAX {
            return Read::Bad(Bad::TooLong);
        }
        let read;
        let line = if self.settings.encoding == Encoding::UTF_8 {
            line
        } else {
            let Some(text) = self.settings.encoding.read(line) else {
                return Read::Bad(Bad::Encoding);
            };
            read = text;
            read.as_bytes()
        };
        let values = match self.format.values(line, &self.settings.session) {
            Ok(Some(values)) => values,
            Ok(None) => return Read::Nothing,
            Err(why) => return Read::Bad(why),
        };
        let told = match self.told(values) {
            Ok(told) => told,
            Err(why) => return Read::Bad(why),
        };
        match self.facts(&told, edges) {
            Ok(request) => Read::Request(Box::new(request)),
            Err(why) => Read::Bad(why),
        }
    }

    /// What each value tells.
    fn told<'a>(&self, values: Values<'a>) -> Result<Told<'a>, Bad> {
        let mut told = Told::default();
        for (field, value) in values {
            if matches!(value.as_ref(), b"-" | b"") {
                told.tell_none(field);
                continue;
            }
            told.tell(field, value, &self.settings)?;
        }
        if let (Some(date), Some(time)) = (&told.date, &told.time_of_day) {
            told.ended = told
                .ended
                .or(time::date_and_time(date, time, self.settings.zone));
        }
        Ok(told)
    }

    fn facts(&self, told: &Told<'_>, edges: &mut Edges) -> Result<Request, Bad> {
        let times = self.times(told).ok_or(Bad::Time)?;
        let told_target = told.whole_target().ok_or(Bad::Target)?;
        let key = &self.settings.tag_key;
        let host = told
            .host
            .as_deref()
            .unwrap_or(self.settings.host.as_bytes());
        let target = TargetTag::of(key, &[&host.to_ascii_lowercase(), &told_target]);
        let whose = match &told.session {
            None => Who::Untold,
            Some(None) => Who::Anonymous,
            Some(Some(name)) if matches!(self.settings.session, SessionIn::Member(_)) => {
                Who::Person(Person::Member(MemberTag::of(key, &[name.as_ref()])))
            }
            Some(Some(session)) => {
                Who::Person(Person::Session(ViewerTag::of(key, &[session.as_ref()])))
            }
        };
        let etag = told.etag.as_deref().map(|etag| {
            let tag = CookieTag::of(key, &[b"entity tag", etag]).0;
            let (half, _) = tag.split_first_chunk().expect("a tag has 16 bytes");
            crate::access::BodyMark(u64::from_be_bytes(*half))
        });
        let method = told.method.as_deref().unwrap_or(b"GET");
        let is_whole_get = method == b"GET" && told.status == Some(200) && !told.is_broken_off;
        let stored = match self.settings.misses_are_stored && is_whole_get {
            true => Stored::Surely,
            false => Stored::Perhaps,
        };
        let edge = match told.edge.as_deref() {
            Some(name) => Some(edges.named(name).ok_or(Bad::Edges)?),
            None => self.settings.edge,
        };
        let served = told.served.map(|served| match served {
            Served::Fetched(Stored::Surely | Stored::Perhaps) => Served::Fetched(stored),
            Served::Hit if told.is_validated => Served::Revalidated,
            other => other,
        });
        // A fetch behind a copy is not what the response held.
        let is_fetch = served.is_none_or(|served| !served.is_shared());
        let fill = told.fill.or(told.fetch.filter(|_| is_fetch));
        let access = served.map(|served| Access {
            edge,
            key: target,
            times,
            served,
            viewer: whose,
            owner: None,
            status: told.status,
            body: etag,
            age_s: told.age_s,
            fill,
            request: told.request,
            order: None,
        });
        let answer = match told.status {
            Some(304) => Answer::NotModified,
            _ => Answer::Response(stored),
        };
        let asked = Asked {
            edge: None,
            key: target,
            times,
            answer,
            rendered_for: whose,
            status: told.status,
            body: etag,
            fill,
            request: told.request,
            asks_after_shown: told.asks_after_shown,
        };
        let step = told.address.as_deref().map(|address| {
            let key = &self.settings.tag_key;
            let agent = told.agent.as_deref().unwrap_or_default();
            let cookie = |value: &[u8]| CookieTag::of(key, &[value]);
            Step {
                during: times.during(),
                client: AddressTag::of(key, &[address, agent]),
                shows: told.session.iter().flatten().map(|it| cookie(it)).next(),
                sets: told.set_session.iter().map(|it| cookie(it)).collect(),
                is_shared: served.is_some_and(Served::is_shared),
                is_login: method == b"POST" && self.is_login(&told_target),
                writes: !matches!(method, b"GET" | b"HEAD" | b"OPTIONS"),
            }
        });
        Ok(Request {
            access,
            asked,
            step,
        })
    }

    /// Whether members log in at this target.
    fn is_login(&self, target: &[u8]) -> bool {
        let path = target.split(|it| *it == b'?').next().unwrap_or_default();
        self.settings.logins.iter().any(|it| it.as_bytes() == path)
    }

    /// When the request was answered: from its end or its beginning, and how long it took.
    fn times(&self, told: &Told<'_>) -> Option<Times> {
        let off_by = |step: u64| match self.settings.took_by_readings && step <= 1 {
            true => 0,
            false => step,
        };
        let times = match (told.ended, told.began, told.took) {
            (Some(ended), Some(began), _) => Some(Times {
                began: began.span(),
                ended: ended.span(),
            }),
            (Some(ended), None, took) => {
                let (took, step) = took.unwrap_or((0, 0));
                Some(Times::logged(
                    ended.at,
                    ended.resolution_ms,
                    took,
                    off_by(step),
                ))
            }
            (None, Some(began), took) => {
                let (took, step) = took.unwrap_or((0, 0));
                let span = began.span();
                let longer = |at: UnixMillis, by: u64| UnixMillis(at.0.saturating_add(by));
                Some(Times {
                    began: span,
                    ended: Span {
                        earliest: longer(span.earliest, took.saturating_sub(off_by(step))),
                        latest: longer(span.latest, took.saturating_add(off_by(step))),
                    },
                })
            }
            (None, None, _) => None,
        };
        let Times { began, ended } = times?;
        Some(Times {
            began: began.later(self.settings.lag_ms_max),
            ended: ended.later(self.settings.lag_ms_max),
        })
    }
}

impl Edges {
    /// The store of this name; `None` when there are [`EDGES_MAX`] others.
    pub fn named(&mut self, name: &[u8]) -> Option<Edge> {
        if let Some(edge) = self.0.get(name) {
            return Some(*edge);
        }
        if self.0.len() >= EDGES_MAX {
            return None;
        }
        let edge = Edge(u32::try_from(self.0.len()).expect("there are few"));
        self.0.insert(name.to_vec(), edge);
        Some(edge)
    }

    /// Every store with its name.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], Edge)> {
        self.0.iter().map(|(name, edge)| (name.as_slice(), *edge))
    }
}

impl SessionIn {
    /// Whether sessions are in what the log's form calls so.
    fn is_in(&self, name: &str) -> bool {
        matches!(self, Self::Field(wanted) | Self::Member(wanted) if wanted == name)
    }
}

impl<'a> Told<'a> {
    /// The log has a place for it, and there is nothing.
    fn tell_none(&mut self, field: Field) {
        match field {
            Field::Cookies | Field::Cookie => {
                self.session.get_or_insert(None);
            }
            // Most caches say nothing of what they did not even look up.
            Field::Word(word) if word.says_nothing_of_passes() => {
                self.served.get_or_insert(Served::Fetched(Stored::Not));
            }
            _ => {}
        }
    }

    fn tell(&mut self, field: Field, value: Cow<'a, [u8]>, settings: &Settings) -> Result<(), Bad> {
        match field {
            Field::Ended(form) => {
                let stamp = form.read(&value, settings.zone).ok_or(Bad::Time)?;
                // The finest of several.
                let is_finer = self
                    .ended
                    .is_none_or(|it| stamp.resolution_ms < it.resolution_ms);
                self.ended = if is_finer { Some(stamp) } else { self.ended };
            }
            Field::Began(form) => {
                let stamp = form.read(&value, settings.zone).ok_or(Bad::Time)?;
                let is_finer = self
                    .began
                    .is_none_or(|it| stamp.resolution_ms < it.resolution_ms);
                self.began = if is_finer { Some(stamp) } else { self.began };
            }
            Field::Date => self.date = Some(value),
            Field::TimeOfDay => self.time_of_day = Some(value),
            Field::Took {
                per_second,
                step_ms,
            } => {
                let took = time::decimal(&value, per_second).ok_or(Bad::Number)?;
                let finer = self.took.is_none_or(|(_, step)| step_ms < step);
                self.took = if finer {
                    Some((took, step_ms))
                } else {
                    self.took
                };
            }
            Field::TookPart => {
                let part = time::decimal(&value, 1000).ok_or(Bad::Number)?;
                let (took, step) = self.took.unwrap_or((0, 0));
                self.took = Some((took.saturating_add(part), step + 1));
            }
            Field::RequestLine => {
                let (method, target) = request_line(&value).ok_or(Bad::Target)?;
                self.method = Some(Cow::Owned(method.to_vec()));
                self.tell_target(Cow::Owned(target.to_vec()));
            }
            Field::Method => self.method = Some(value),
            Field::Target | Field::Url => self.tell_target(value),
            Field::Path => self.path = Some(value),
            Field::Query => self.query = Some(value),
            // The first that is told: the request's own before the server's.
            Field::Host => {
                self.host.get_or_insert(value);
            }
            Field::Status => self.status = Some(time::whole(&value).ok_or(Bad::Number)?),
            Field::Age => self.age_s = Some(time::whole(&value).ok_or(Bad::Number)?),
            Field::Word(word) => {
                let found = word.read(&value).ok_or(Bad::Word)?;
                self.served = Some(found.served);
                self.is_broken_off |= found.is_broken_off;
            }
            Field::AsksAfterShown => self.asks_after_shown = true,
            Field::Validated => self.is_validated = value.as_ref() == b"true",
            Field::Edge => self.edge = Some(value),
            Field::RequestId => {
                self.request.get_or_insert(request_id(&value));
            }
            Field::Fill => self.fill = Some(FillId(request_id(&value).0)),
            Field::Fetch => self.fetch = Some(FillId(request_id(&value).0)),
            Field::XVarnish => {
                let mut ids = value
                    .split(u8::is_ascii_whitespace)
                    .filter(|it| !it.is_empty());
                let found = ids.nth(1).map(|id| FillId(request_id(id).0));
                self.fill = self.fill.or(found);
            }
            Field::Cookies => {
                let SessionIn::Cookie(name) = &settings.session else {
                    return Ok(());
                };
                let session = cookie(&value, name.as_bytes()).map(|it| Cow::Owned(it.to_vec()));
                self.session = Some(session);
            }
            Field::Cookie => self.session = Some(Some(value)),
            Field::SetCookie => {
                if let SessionIn::Cookie(name) = &settings.session {
                    let set = cookie(&value, name.as_bytes());
                    self.set_session = set.map(|it| Cow::Owned(it.to_vec()));
                }
            }
            Field::Address => {
                self.address.get_or_insert(value);
            }
            Field::Agent => self.agent = Some(value),
            Field::Etag => self.etag = Some(value),
            Field::Ignored => {}
        }
        Ok(())
    }

    /// A target, or a whole URL: its host is one that the line tells.
    fn tell_target(&mut self, value: Cow<'a, [u8]>) {
        let after = find(&value, b"://").map(|at| at + 3);
        let is_scheme = |at: usize| {
            let scheme = value.get(..at - 3).unwrap_or_default();
            !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphanumeric)
        };
        let Some(after) = after.filter(|at| is_scheme(*at)) else {
            self.target = Some(value);
            return;
        };
        let rest = value.get(after..).unwrap_or_default();
        let host_ends = rest.iter().position(|it| matches!(it, b'/' | b'?'));
        let (host, target) = rest.split_at(host_ends.unwrap_or(rest.len()));
        let target = if target.is_empty() { b"/" } else { target };
        self.host = Some(Cow::Owned(host.to_vec()));
        self.target = Some(Cow::Owned(target.to_vec()));
    }

    /// Path and query, however they are told.
    fn whole_target(&self) -> Option<Vec<u8>> {
        if let Some(target) = &self.target {
            return Some(target.to_vec());
        }
        let mut whole = self.path.as_deref()?.to_vec();
        if let Some(query) = &self.query {
            if !query.starts_with(b"?") {
                whole.push(b'?');
            }
            whole.extend_from_slice(query);
        }
        Some(whole)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("format", &self.format)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it is not of the log's form",
            Self::TooLong => "it is too long",
            Self::Time => "it tells no time that can be read",
            Self::Target => "it tells no target",
            Self::Number => "a number in it is none",
            Self::Word => "its word for where the response came from is not known",
            Self::Edges => "it names one store more than can be told apart",
            Self::Encoding => "it is not of the encoding that was named",
        })
    }
}

/// Method and target of a request line. What came without a version, or with blanks in its target, was
/// logged as it was sent.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = line.iter().position(|it| *it == b' ')?;
    let method = line.get(..first)?;
    let rest = line.get(first + 1..)?;
    let target = match rest.iter().rposition(|it| *it == b' ') {
        Some(last) if rest.get(last + 1..)?.starts_with(b"HTTP/") => rest.get(..last)?,
        _ => rest,
    };
    let is_method = !method.is_empty() && method.iter().all(u8::is_ascii_alphabetic);
    (is_method && !target.is_empty()).then_some((method, target))
}

/// The value of a cookie in a `Cookie` or `Set-Cookie` header.
fn cookie<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    header.split(|it| *it == b';').find_map(|pair| {
        let (found, value) = split_once(pair.trim_ascii(), b'=')?;
        (found.trim_ascii() == name && !value.is_empty()).then(|| value.trim_ascii())
    })
}

/// An id as both logs tell it. Cloudflare's edge adds its place's name when it asks an origin.
fn request_id(text: &[u8]) -> RequestId {
    let text = match split_once(text, b'-') {
        Some((ray, place)) if ray.len() == 16 && place.len() == 3 => ray,
        _ => text,
    };
    let digest = shikiri_record::Digest::of(text);
    let (half, _) = digest
        .as_bytes()
        .split_first_chunk()
        .expect("a digest has 32 bytes");
    RequestId(u128::from_be_bytes(*half))
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|it| *it == at)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// Where some bytes first occur.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len().max(1)).position(|it| it == what)
}

#[cfg(test)]
mod tests;
