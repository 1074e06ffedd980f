//! Large objects in slices: whoever seeks in a film waits for the slice that they want, and no film is
//! ever stored whole.
//!
//! The first slice finds a *set*: a strong entity tag and a complete length, admitted like any object.
//! Every other slice is a shared fetch of its own, with `Range`, and `If-Match` with the set's entity tag,
//! and joins the set only if its status, its place, the length and the entity tag are exactly the set's.
//! Without a strong entity tag there are no slices, and the object goes whole.
//!
//! Never here: a slice that is an answer by itself, a slice of no set, a set without its first slice.
//!
//! Invariant: the key of a slice holds the fill that found its set, so bytes of two sets cannot be
//! joined, and a set that is dropped takes all its slices with it: nobody can name them.

use std::ops::Range;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use shikiri_record::UnixMillis;

use crate::admit::{Admitted, Coding, one_slice};
use crate::key::{self, Begun, Constants, Key, Outbound, SliceOf};
use crate::reason::NotShared;
use crate::rules::Class;

/// How an object is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    bytes: u64,
    length: u64,
}

impl Slices {
    /// Slices of one set, at most. What has more goes whole.
    pub const COUNT_MAX: u64 = 1 << 20;

    /// How an object of this length is cut into slices of so many bytes: into two or more.
    pub(crate) fn new(bytes: u64, length: u64) -> Option<Self> {
        let count = length.div_ceil(bytes);
        (2..=Self::COUNT_MAX)
            .contains(&count)
            .then_some(Self { bytes, length })
    }

    /// The complete length, in bytes.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.length
    }

    /// The slice that holds a byte.
    ///
    /// # Panics
    /// When there is no such byte.
    #[must_use]
    pub fn holding(self, byte: u64) -> u32 {
        assert!(byte < self.length, "a slice holds bytes of its object");
        u32::try_from(byte / self.bytes).expect("a set has at most COUNT_MAX slices")
    }

    /// The bytes of a slice.
    #[must_use]
    pub fn range(self, number: u32) -> Range<u64> {
        let first = u64::from(number) * self.bytes;
        assert!(first < self.length, "a slice is one of its object's");
        first..(first + self.bytes).min(self.length)
    }
}

/// What a response to a request for the first slice holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// All of the object, which has so many bytes.
    Whole(u64),
    /// The first slice of a set.
    Of(Slices),
}

/// Reads a 206 to a request for the first slice. `None`: it can be neither, and the object goes whole.
pub(crate) fn first(headers: &HeaderMap, bytes: u64) -> Option<First> {
    let (range, length) = content_range(headers)?;
    if range.start != 0 || range.end != bytes.min(length) || !is_as_long(headers, &range) {
        return None;
    }
    if range.end == length {
        return Some(First::Whole(length));
    }
    strong_tag(headers)?;
    Slices::new(bytes, length).map(First::Of)
}

/// The one strong entity tag, which looks like one (RFC 9110 8.8.3).
fn strong_tag(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(ETAG).iter();
    let (tag, other) = (values.next()?, values.next());
    let inside = tag.as_bytes().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let is_plain = inside
        .iter()
        .all(|&b| b == 0x21 || (0x23..=0x7e).contains(&b));
    (other.is_none() && !inside.is_empty() && is_plain).then_some(tag)
}

/// `Content-Range: bytes 0-99/1000`, once, with a complete length (RFC 9110 14.4).
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let mut values = headers.get_all(CONTENT_RANGE).iter();
    let (value, other) = (values.next()?, values.next());
    if other.is_some() {
        return None;
    }
    let (unit, rest) = value.to_str().ok()?.split_once(' ')?;
    let (range, length) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (first, last, length) = (number(first)?, number(last)?, number(length)?);
    let fits = unit.eq_ignore_ascii_case("bytes") && first <= last && last < length;
    fits.then_some((first..last + 1, length))
}

/// Whether the declared length of the body, if there is one, is that of its range.
fn is_as_long(headers: &HeaderMap, range: &Range<u64>) -> bool {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => value.as_bytes() == (range.end - range.start).to_string().as_bytes(),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a planted fault joins slices of two versions.
pub(crate) fn joins_versions() -> bool {
    #[cfg(feature = "seeded-faults")]
    return crate::fault::is(crate::fault::Fault::SlicesJoined);
    #[cfg(not(feature = "seeded-faults"))]
    false
}

impl Admitted {
    /// The key of a slice of this set but the first, which is stored with the set itself.
    ///
    /// # Panics
    /// When this is no set, or has no such slice.
    #[must_use]
    pub fn slice_key(&self, number: u32) -> Key {
        let slices = self.slices().expect("slices are of a set");
        assert!(
            number > 0 && !slices.range(number).is_empty(),
            "the first slice is the set's own"
        );
        self.key().of_slice(SliceOf {
            set: self.fill(),
            number,
        })
    }

    /// Whether a stored slice of this set may be used now: it is fresh, or the set was confirmed after it
    /// was fetched, or it is no staler than its set.
    #[must_use]
    pub fn may_use(&self, slice: &Self, now: UnixMillis) -> bool {
        // HTTP dates have seconds.
        const SAME: std::time::Duration = std::time::Duration::from_secs(1);
        let (set, slice_ends) = (self.freshness(), slice.freshness().ends());
        now < slice_ends || slice.order() < self.order() || set.ends() <= slice_ends.after(SAME)
    }
}

/// A request for one slice of a set. Not cloneable: one fetch, one answer.
#[must_use]
#[derive(Debug)]
pub struct SliceFetch {
    outbound: Outbound,
    fill: SliceFill,
}

impl SliceFetch {
    /// Asks for a slice of a set but the first.
    ///
    /// # Panics
    /// When this is no set of the class, or has no such slice.
    pub fn of(
        set: &Admitted,
        number: u32,
        class: &Arc<Class>,
        begun: Begun,
        constants: &Constants,
    ) -> Self {
        let key = set.slice_key(number);
        let range = set.slices().expect("slices are of a set").range(number);
        let etag = set.etag().expect("a set has a strong entity tag");
        Self {
            outbound: key::slice(&key, class, constants, (range.clone(), etag)),
            fill: SliceFill {
                key,
                range,
                set: set.clone(),
                class: Arc::clone(class),
                begun,
            },
        }
    }

    /// What goes on the wire, and the judge of what comes back.
    pub fn begin(self) -> (Outbound, SliceFill) {
        (self.outbound, self.fill)
    }

    /// What would go on the wire.
    #[must_use]
    pub const fn outbound(&self) -> &Outbound {
        &self.outbound
    }
}

/// A fetch that may become a slice of its set: judged once.
#[must_use]
#[derive(Debug)]
pub struct SliceFill {
    key: Key,
    range: Range<u64>,
    set: Admitted,
    class: Arc<Class>,
    begun: Begun,
}

/// Why what came is no slice of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRefused {
    /// Why.
    pub why: NotShared,
    /// Whether the set is not what the origin has any more. A failing origin says nothing of it.
    pub ends_set: bool,
}

impl SliceFill {
    /// The key that was asked with.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// How many bytes its body must have.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Judges a response head that came at `now`.
    ///
    /// # Errors
    /// What keeps it from being a slice of its set.
    pub fn judge(
        self,
        status: StatusCode,
        headers: &HeaderMap,
        now: UnixMillis,
    ) -> Result<Admitted, SliceRefused> {
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(SliceRefused {
                why: NotShared::Status(status.as_u16()),
                ends_set: false,
            });
        }
        self.of_the_set(status, headers, now)
            .map_err(|why| SliceRefused {
                why,
                ends_set: true,
            })
    }

    fn of_the_set(
        self,
        status: StatusCode,
        headers: &HeaderMap,
        now: UnixMillis,
    ) -> Result<Admitted, NotShared> {
        let differs = |what| Err(NotShared::SliceDiffers { what });
        let admitted = one_slice(
            (&self.key, &self.class, self.begun),
            (headers, self.bytes()),
            now,
        );
        // What is forbidden comes first: it kills more than the set.
        let admitted = match admitted {
            Err(why) if why.prohibits() => return Err(why),
            admitted => admitted,
        };
        if status != StatusCode::PARTIAL_CONTENT {
            // 412, or the whole, or a page that says that it is gone.
            return differs("status");
        }
        let length = self.set.slices().expect("slices are of a set").length();
        match content_range(headers) {
            Some((range, of)) if range == self.range && (of == length || joins_versions()) => {}
            _ => return differs("Content-Range"),
        }
        if !is_as_long(headers, &self.range) {
            return differs("Content-Length");
        }
        if strong_tag(headers) != self.set.etag() && !joins_versions() {
            return differs("ETag");
        }
        let admitted = admitted?;
        if admitted.content_type() != self.set.content_type() {
            return differs("Content-Type");
        }
        if admitted.coding() != Coding::Identity {
            return differs("Content-Encoding");
        }
        Ok(admitted)
    }
}

#[cfg(test)]
mod tests {
    use http::header::{IF_MATCH, RANGE};

    use super::*;
    use crate::admit::Judged;
    use crate::key::SharedFetch;
    use crate::tests::{NOW, begun, class, headers, key};

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const HEAD: &str = "content-type: image/png\n cache-control: max-age=60";

    fn in_slices() -> Arc<Class> {
        Arc::new(Class {
            slice_bytes: Some(100),
            key_encoding: false,
            ..class()
        })
    }

    fn constants() -> Constants {
        Constants::new("edge")
    }

    /// What becomes of an answer to a request for the first slice: the length in all of a set, and the
    /// bytes that are stored; or the name of what it is else.
    fn first_is(status: u16, lines: &str) -> Result<(Option<u64>, Option<u64>), String> {
        let class = in_slices();
        let fetch = SharedFetch::of(&key(&class), &class, begun(1), &constants());
        assert_eq!(fetch.outbound().headers()[RANGE], "bytes=0-99");
        let (_, fill) = fetch.begin();
        let status = StatusCode::from_u16(status).expect("a status");
        let head = headers(&format!("{HEAD}\n{lines}"));
        match fill.judge(status, head, true, NOW) {
            Judged::Sniff(sniff) => {
                let admitted = sniff.judge(PNG).map_err(|relay| relay.why().to_string())?;
                assert_eq!(admitted.status(), StatusCode::OK);
                let length = admitted.slices().map(Slices::length);
                Ok((length, admitted.content_length()))
            }
            Judged::Unsliced(unsliced) => {
                let whole = unsliced.fetch(&constants());
                assert!(!whole.outbound().headers().contains_key(RANGE));
                Err("goes whole".into())
            }
            Judged::Copy(_) => Err("a document".into()),
            Judged::Relay(relay) => Err(relay.why().name().into()),
            Judged::Refreshed(_) => Err("refreshed".into()),
        }
    }

    #[test]
    fn what_finds_a_set() {
        let set = Ok((Some(250), Some(100)));
        let whole = Err("goes whole".to_owned());
        let range = "content-range: bytes 0-99/250";
        for (status, lines, expected) in [
            (
                206,
                "content-range: bytes 0-99/250\n etag: \"1\"",
                set.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/250\n etag: \"1\"\n content-length: 100",
                set.clone(),
            ),
            (206, "content-range: BYTES 0-99/250\n etag: \"1\"", set),
            (206, "content-range: bytes 0-99/250", whole.clone()),
            (
                206,
                "content-range: bytes 0-99/250\n etag: W/\"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/250\n etag: \"\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/250\n etag: 1",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/250\n etag: \"1\" \"2\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/250\n etag: \"1\"\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/250\n etag: \"1\"\n content-length: 99",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-98/250\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-100/250\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 1-100/250\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/*\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/99\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/+250\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/250/250\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes */250\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: items 0-99/250\n etag: \"1\"",
                whole.clone(),
            ),
            (
                206,
                "content-range: bytes 0-99/99999999999999999999\n etag: \"1\"",
                whole.clone(),
            ),
            // More slices than a set may have.
            (
                206,
                "content-range: bytes 0-99/104857601\n etag: \"1\"",
                whole.clone(),
            ),
            (206, "etag: \"1\"", whole.clone()),
            (416, "content-range: bytes */0", whole.clone()),
            // All of it.
            (206, "content-range: bytes 0-99/100", Ok((None, Some(100)))),
            (
                206,
                "content-range: bytes 0-49/50\n etag: W/\"1\"",
                Ok((None, Some(50))),
            ),
            (206, "content-range: bytes 0-48/50\n etag: \"1\"", whole),
            (200, "content-length: 250", Ok((None, Some(250)))),
            (
                200,
                "content-length: 250\n content-range: bytes 0-99/250",
                Err("partial".into()),
            ),
        ] {
            assert_eq!(first_is(status, lines), expected, "{status} {lines}");
        }
        for (more, expected) in [
            ("set-cookie: a=b", "sets-cookie"),
            ("cache-control: private", "prohibited"),
            ("vary: x-other", "varies"),
            ("content-encoding: gzip", "encoding"),
            ("content-type: text/plain", "type"),
        ] {
            let lines = format!("{range}\n etag: \"1\"\n {more}");
            assert_eq!(first_is(206, &lines), Err(expected.into()), "{more}");
        }
    }

    #[test]
    fn a_document_has_no_slices() {
        let class = in_slices();
        let judge = |lines: &str| {
            let fetch = SharedFetch::of(&key(&class), &class, begun(1), &constants());
            let (_, fill) = fetch.begin();
            fill.judge(StatusCode::PARTIAL_CONTENT, headers(lines), true, NOW)
        };
        let page = "content-type: text/html\n cache-control: max-age=60\n etag: \"1\"";
        let long = judge(&format!("{page}\n content-range: bytes 0-99/250"));
        assert!(matches!(long, Judged::Unsliced(_)));
        let short = judge(&format!("{page}\n content-range: bytes 0-49/50"));
        assert!(matches!(short, Judged::Copy(_)));
    }

    fn set_of(fill: u128) -> Admitted {
        let class = in_slices();
        let fetch = SharedFetch::of(&key(&class), &class, begun(fill), &constants());
        let (_, fill) = fetch.begin();
        let lines = format!("{HEAD}\n content-range: bytes 0-99/250\n etag: \"1\"");
        match fill.judge(StatusCode::PARTIAL_CONTENT, headers(&lines), true, NOW) {
            Judged::Sniff(sniff) => sniff.judge(PNG).expect("a PNG is a PNG"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_slice_s_key_is_of_its_set_alone() {
        let (set, other) = (set_of(1), set_of(2));
        assert_eq!(set.key(), other.key());
        assert!(!set.key().is_of_slice());
        let keys = [
            set.slice_key(1),
            set.slice_key(2),
            other.slice_key(1),
            other.slice_key(2),
            set.key().clone(),
        ];
        for (n, one) in keys.iter().enumerate() {
            for (m, another) in keys.iter().enumerate() {
                assert_eq!(one == another, n == m, "{n} {m}");
                assert!(one.is_of_one_object(another));
            }
            assert_eq!(one.name(), set.key().name());
        }
        assert_eq!(keys[0], set_of(1).slice_key(1));
    }

    #[test]
    fn a_slice_is_asked_for_with_its_set_s_entity_tag() {
        for (number, range) in [(1, "bytes=100-199"), (2, "bytes=200-249")] {
            let fetch = SliceFetch::of(&set_of(1), number, &in_slices(), begun(2), &constants());
            let fields = fetch.outbound().headers();
            assert!(fields[RANGE] == range && fields[IF_MATCH] == "\"1\"");
            let (_, fill) = fetch.begin();
            assert_eq!(fill.bytes(), if number == 1 { 100 } else { 50 });
        }
    }

    /// Why a response is no second slice, and whether it ends the set; `None`: it is one.
    fn slice_is(status: u16, lines: &str) -> Option<(String, bool)> {
        let fetch = SliceFetch::of(&set_of(1), 1, &in_slices(), begun(2), &constants());
        let (_, fill) = fetch.begin();
        let status = StatusCode::from_u16(status).expect("a status");
        match fill.judge(status, &headers(lines), NOW) {
            Ok(slice) => {
                assert_eq!(slice.content_length(), Some(100));
                None
            }
            Err(SliceRefused { why, ends_set }) => Some(match why {
                NotShared::SliceDiffers { what } => (what.to_owned(), ends_set),
                other => (other.name().to_owned(), ends_set),
            }),
        }
    }

    #[test]
    fn what_joins_a_set() {
        let fits = format!("{HEAD}\n content-range: bytes 100-199/250\n etag: \"1\"");
        let check = |status: u16, from: &str, to: &str, expected: Option<(&str, bool)>| {
            let lines = fits.replace(from, to);
            assert!(from.is_empty() || lines != fits, "{from}");
            let expected = expected.map(|(why, ends)| (why.to_owned(), ends));
            assert_eq!(slice_is(status, &lines), expected, "{status} {to}");
        };
        check(206, "etag", "content-length: 100\n etag", None);
        check(206, "max-age=60", "max-age=5", None);
        for status in [200, 404, 412, 416, 302, 304] {
            check(status, "", "", Some(("status", true)));
        }
        for (status, name) in [(429, "status"), (500, "status"), (503, "status")] {
            check(status, "", "", Some((name, false)));
        }
        for range in [
            "100-198/250",
            "101-199/250",
            "0-99/250",
            "100-199/251",
            "100-199/*",
        ] {
            check(206, "100-199/250", range, Some(("Content-Range", true)));
        }
        for tag in ["\"2\"", "W/\"1\"", "1", "\"1\"\n etag: \"1\""] {
            check(206, "\"1\"", tag, Some(("ETag", true)));
        }
        check(206, "etag: \"1\"", "", Some(("ETag", true)));
        check(
            206,
            "etag",
            "content-length: 99\n etag",
            Some(("Content-Length", true)),
        );
        check(206, "image/png", "image/gif", Some(("Content-Type", true)));
        check(206, "image/png", "video/mp4", Some(("Content-Type", true)));
        for (more, name) in [
            ("set-cookie: a=b", "sets-cookie"),
            ("cache-control: no-store", "prohibited"),
            ("vary: *", "vary-star"),
            ("shikiri-owner: m1", "owned"),
            ("content-encoding: gzip", "encoding"),
        ] {
            check(206, "etag", &format!("{more}\n etag"), Some((name, true)));
        }
        // What is forbidden is named first, whatever else does not fit.
        check(
            200,
            "etag",
            "set-cookie: a=b\n etag",
            Some(("sets-cookie", true)),
        );
    }

    #[test]
    fn how_long_a_slice_is_used() {
        use std::time::Duration;
        let at = |seconds: u64| NOW.after(Duration::from_secs(seconds));
        let slice = |order: u128, age: u64| {
            let fetch = SliceFetch::of(&set_of(1), 1, &in_slices(), begun(order), &constants());
            let (_, fill) = fetch.begin();
            let lines = format!(
                "content-type: image/png\n cache-control: max-age={age}\n content-range: bytes 100-199/250\n etag: \"1\""
            );
            let head = headers(&lines);
            fill.judge(StatusCode::PARTIAL_CONTENT, &head, NOW)
                .expect("it fits")
        };
        let set = set_of(1);
        assert!(set.may_use(&slice(2, 60), at(10)));
        // It is as stale as its set, which stands in for an origin that fails.
        assert!(set.may_use(&slice(2, 60), at(70)));
        assert!(set.may_use(&slice(2, 5), at(4)));
        assert!(!set.may_use(&slice(2, 5), at(6)));
        // The set was confirmed since.
        let class = in_slices();
        let again = SharedFetch::revalidate(&set, &class, begun(3), &constants());
        assert_eq!(again.outbound().headers()[RANGE], "bytes=0-99");
        let (_, fill) = again.begin();
        let weaker = headers("etag: W/\"1\"\n cache-control: max-age=60");
        let Judged::Refreshed(confirmed) = fill.judge(StatusCode::NOT_MODIFIED, weaker, true, NOW)
        else {
            panic!("it is confirmed")
        };
        assert!(confirmed.may_use(&slice(2, 5), at(6)));
        assert_eq!(confirmed.slice_key(1), set.slice_key(1));
        assert_eq!(confirmed.etag().expect("it has one"), "\"1\"");
    }
}
