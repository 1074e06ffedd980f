//! The answer that a request gets from a stored object: conditions and ranges (RFC 9110 13 and 14).
//!
//! Conditions and ranges only choose how an object is shown. They never reach the origin with a shared
//! fetch, and never change what is stored.

use std::ops::Range;

use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, AGE, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use shikiri_record::UnixMillis;

use crate::admit::Admitted;
use crate::freshness::{date, one_date};
use crate::hop::{self, CDN_CACHE_CONTROL};
use crate::pass::for_its_requester_alone;

/// The conditions and range of a request, which only choose how an object is shown.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    head: bool,
    if_match: Option<Tags>,
    if_unmodified_since: Option<u64>,
    if_none_match: Option<Tags>,
    if_modified_since: Option<u64>,
    range: Option<BytesRange>,
    if_range: Option<IfRange>,
}

/// Entity tags of a condition.
#[derive(Clone, Debug)]
enum Tags {
    Any,
    /// As written, `W/` included. What is no entity tag matches none.
    List(Vec<Vec<u8>>),
}

#[derive(Clone, Debug)]
enum IfRange {
    Tag(Vec<u8>),
    Date(u64),
    /// Neither: it cannot be true.
    Neither,
}

/// One range of bytes (RFC 9110 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BytesRange {
    /// From here to there, or to the end.
    From(u64, Option<u64>),
    /// The last so many.
    Last(u64),
}

impl Conditions {
    /// Reads them from a request. What cannot be read is as if it were not there (RFC 9110 13.1.3,
    /// 14.2), except a tag, which then matches nothing.
    #[must_use]
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let tags = |name: &HeaderName| headers.contains_key(name).then(|| Tags::of(headers, name));
        let readable_date = |name: &HeaderName| one_date(headers, name);
        let reads = method == Method::GET || method == Method::HEAD;
        let if_match = tags(&IF_MATCH);
        let if_none_match = tags(&IF_NONE_MATCH);
        Self {
            head: method == Method::HEAD,
            if_unmodified_since: if if_match.is_none() {
                readable_date(&IF_UNMODIFIED_SINCE)
            } else {
                None
            },
            if_modified_since: if if_none_match.is_none() && reads {
                readable_date(&IF_MODIFIED_SINCE)
            } else {
                None
            },
            if_match,
            if_none_match,
            // RFC 9110 14.2: only GET has ranges.
            range: if method == Method::GET {
                BytesRange::of(headers)
            } else {
                None
            },
            if_range: headers
                .get(IF_RANGE)
                .map(|value| IfRange::of(value.as_bytes())),
        }
    }
}

impl Tags {
    fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut list = Vec::new();
        for value in headers.get_all(name) {
            if value.as_bytes().trim_ascii() == b"*" {
                return Self::Any;
            }
            entity_tags(value.as_bytes(), &mut list);
        }
        Self::List(list)
    }

    fn any_is(&self, stored: Option<&HeaderValue>, same: fn(&[u8], &[u8]) -> bool) -> bool {
        match (self, stored) {
            (Self::Any, _) => true,
            (Self::List(list), Some(stored)) => list.iter().any(|tag| same(tag, stored.as_bytes())),
            (Self::List(_), None) => false,
        }
    }
}

/// The entity tags of a list (RFC 9110 8.8.3); a comma may stand inside one. Reading ends at the first
/// thing that is none.
fn entity_tags(mut rest: &[u8], list: &mut Vec<Vec<u8>>) {
    loop {
        let start = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b','));
        rest = start
            .and_then(|start| rest.get(start..))
            .unwrap_or_default();
        let quote = if rest.starts_with(b"W/") { 2 } else { 0 };
        if rest.get(quote) != Some(&b'"') {
            return;
        }
        let inside = rest.get(quote + 1..).unwrap_or_default();
        let Some(end) = inside.iter().position(|&b| b == b'"') else {
            return;
        };
        let (tag, after) = rest.split_at(quote + 1 + end + 1);
        list.push(tag.to_vec());
        rest = after;
    }
}

/// RFC 9110 8.8.3.2.
fn strongly_same(one: &[u8], other: &[u8]) -> bool {
    !one.starts_with(b"W/") && is_entity_tag(one) && one == other
}

fn weakly_same(one: &[u8], other: &[u8]) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    opaque(one) == opaque(other)
}

fn is_entity_tag(tag: &[u8]) -> bool {
    let opaque = tag.strip_prefix(b"W/").unwrap_or(tag);
    opaque.len() >= 2 && opaque.starts_with(b"\"") && opaque.ends_with(b"\"")
}

impl IfRange {
    fn of(value: &[u8]) -> Self {
        let value = value.trim_ascii();
        if is_entity_tag(value) {
            return Self::Tag(value.to_vec());
        }
        std::str::from_utf8(value)
            .ok()
            .and_then(date)
            .map_or(Self::Neither, Self::Date)
    }
}

impl BytesRange {
    /// The one range of bytes that is asked for. Several, or of other units, are answered whole, which is
    /// always allowed (RFC 9110 14.2) and never costs more than the object.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(RANGE).iter();
        let text = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let (unit, ranges) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
            return None;
        }
        let (first, last) = ranges.trim().split_once('-')?;
        // What is longer than we count is past every end.
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
        };
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The bytes of a body of this length; `None` when there are none (RFC 9110 14.1.2).
    fn of_length(self, length: u64) -> Option<Range<u64>> {
        match self {
            Self::From(first, last) if first < length => {
                let end = last.map_or(length, |last| last.saturating_add(1).min(length));
                Some(first..end)
            }
            Self::Last(count) if count > 0 && length > 0 => {
                Some(length.saturating_sub(count)..length)
            }
            _ => None,
        }
    }
}

/// An answer from a stored object.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// Which bytes of the stored body follow; `None`: no body. While the length is not known, the end is
    /// [`u64::MAX`]: to wherever the body ends.
    pub body: Option<Range<u64>>,
}

impl Admitted {
    /// The answer to a request. `length`: the body's length, in bytes, of a set the complete one; `None` while it is still
    /// being filled without a declared length. Only a 200 knows conditions and ranges (RFC 9110 13.2.1,
    /// 14.2).
    #[must_use]
    pub fn respond(&self, conditions: &Conditions, length: Option<u64>, now: UnixMillis) -> Answer {
        assert!(
            !self.key().is_of_slice(),
            "a slice answers nothing by itself"
        );
        let mut answer = self.answered(conditions, length, now);
        if self.key().is_gated() {
            // Not every cache beyond us asks whether the next may see it.
            for_its_requester_alone(&mut answer.headers);
        }
        answer
    }

    fn answered(&self, conditions: &Conditions, length: Option<u64>, now: UnixMillis) -> Answer {
        if self.status() != StatusCode::OK {
            return self.whole(conditions, length, now);
        }
        // In the order of RFC 9110 13.2.2.
        let changed_since = |then: u64| self.changed_at().is_none_or(|changed| changed > then);
        if conditions
            .if_match
            .as_ref()
            .is_some_and(|tags| !tags.any_is(self.etag(), strongly_same))
            || conditions.if_unmodified_since.is_some_and(changed_since)
        {
            return self.bodiless(StatusCode::PRECONDITION_FAILED, now);
        }
        if conditions
            .if_none_match
            .as_ref()
            .is_some_and(|tags| tags.any_is(self.etag(), weakly_same))
            || conditions
                .if_modified_since
                .is_some_and(|then| !changed_since(then))
        {
            return self.bodiless(StatusCode::NOT_MODIFIED, now);
        }
        match (conditions.range, length) {
            (Some(range), Some(length)) if self.fits(conditions.if_range.as_ref()) => {
                self.part(range, length, now)
            }
            _ => self.whole(conditions, length, now),
        }
    }

    /// When it last changed: as it says, else when it was made (RFC 9111 4.3.2).
    fn changed_at(&self) -> Option<u64> {
        let headers = self.stored_headers();
        one_date(headers, &LAST_MODIFIED).or_else(|| one_date(headers, &DATE))
    }

    /// Whether a range of what the requester has and one of ours would be of one whole
    /// (RFC 9110 13.1.5).
    fn fits(&self, if_range: Option<&IfRange>) -> bool {
        match if_range {
            None => true,
            Some(IfRange::Tag(tag)) => self
                .etag()
                .is_some_and(|etag| strongly_same(tag, etag.as_bytes())),
            Some(IfRange::Date(then)) => {
                let headers = self.stored_headers();
                let changed = one_date(headers, &LAST_MODIFIED);
                // A date is a strong validator only if it lay a second back (RFC 9110 8.8.2.2).
                let strong = changed
                    .zip(one_date(headers, &DATE))
                    .is_some_and(|(at, date)| at < date);
                strong && changed == Some(*then)
            }
            Some(IfRange::Neither) => false,
        }
    }

    fn whole(&self, conditions: &Conditions, length: Option<u64>, now: UnixMillis) -> Answer {
        let mut headers = self.stored_headers().clone();
        self.add_of_this_hop(&mut headers, now);
        headers.remove(CONTENT_LENGTH);
        let has_body = self.status() != StatusCode::NO_CONTENT;
        if let Some(length) = length.filter(|_| has_body) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            if self.status() == StatusCode::OK && !headers.contains_key(ACCEPT_RANGES) {
                headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            }
        }
        let body = (has_body && !conditions.head).then(|| 0..length.unwrap_or(u64::MAX));
        Answer {
            status: self.status(),
            headers,
            body,
        }
    }

    fn part(&self, range: BytesRange, length: u64, now: UnixMillis) -> Answer {
        let Some(range) = range.of_length(length) else {
            let mut answer = self.bodiless(StatusCode::RANGE_NOT_SATISFIABLE, now);
            answer
                .headers
                .insert(CONTENT_RANGE, header(format!("bytes */{length}")));
            return answer;
        };
        let mut headers = self.stored_headers().clone();
        self.add_of_this_hop(&mut headers, now);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        headers.insert(
            CONTENT_RANGE,
            header(format!("bytes {}-{}/{length}", range.start, range.end - 1)),
        );
        Answer {
            status: StatusCode::PARTIAL_CONTENT,
            headers,
            body: Some(range),
        }
    }

    /// An answer that has no body and says what a cache needs to know (RFC 9110 15.4.5).
    fn bodiless(&self, status: StatusCode, now: UnixMillis) -> Answer {
        let mut headers = HeaderMap::new();
        let not_modified = status == StatusCode::NOT_MODIFIED;
        let about_the_page = [
            CONTENT_LOCATION,
            ETAG,
            CACHE_CONTROL,
            EXPIRES,
            CDN_CACHE_CONTROL,
            ACCESS_CONTROL_ALLOW_ORIGIN,
        ];
        let kept = [DATE, VARY]
            .into_iter()
            .chain(about_the_page.into_iter().filter(|_| not_modified));
        for name in kept {
            for value in self.stored_headers().get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if not_modified
            && !headers.contains_key(ETAG)
            && let Some(modified) = self.last_modified()
        {
            headers.insert(LAST_MODIFIED, modified.clone());
        }
        if !not_modified {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        self.add_of_this_hop(&mut headers, now);
        Answer {
            status,
            headers,
            body: None,
        }
    }

    /// `Age` (RFC 9111 5.1), and what caches beyond us must keep apart.
    fn add_of_this_hop(&self, headers: &mut HeaderMap, now: UnixMillis) {
        headers.insert(AGE, HeaderValue::from(self.freshness().age(now).as_secs()));
        for name in self.varies_also_on() {
            let named =
                hop::tokens(headers, &VARY).any(|token| token.eq_ignore_ascii_case(name.as_str()));
            if !named {
                headers.append(VARY, HeaderValue::from_name(name));
            }
        }
    }
}

fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and punctuation are a header value")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admit::Judged;
    use crate::rules::{Class, To};
    use crate::tests::{NOW, admitted, class, headers, judge};

    const HEAD: &str = "cache-control: max-age=60\n etag: \"1\"\n last-modified: Sun, 06 Nov 1994 08:49:36 GMT\n
                        x-more: 1\n content-location: /a.png\n vary: Accept-Encoding\n expires: 0\n age: 5";

    fn answer(object: &str, method: &str, request: &str, length: Option<u64>) -> Answer {
        let object = admitted(&class(), object);
        let conditions = Conditions::of(&method.parse().unwrap(), &headers(request));
        object.respond(&conditions, length, NOW.after(Duration::from_millis(2500)))
    }

    /// Status, first and last byte.
    #[track_caller]
    fn check(request: &str, expected: (u16, Option<(u64, u64)>)) {
        let got = answer(HEAD, "GET", request, Some(100));
        assert_eq!(
            (got.status.as_u16(), got.body.map(|r| (r.start, r.end - 1))),
            expected,
            "{request}"
        );
    }

    const WHOLE: (u16, Option<(u64, u64)>) = (200, Some((0, 99)));
    const NOT_MODIFIED: (u16, Option<(u64, u64)>) = (304, None);
    const FAILED: (u16, Option<(u64, u64)>) = (412, None);

    #[test]
    fn conditions_in_their_order() {
        check("", WHOLE);
        check("if-none-match: \"1\"", NOT_MODIFIED);
        check("if-none-match: W/\"1\"", NOT_MODIFIED);
        check("if-none-match: \"0\", \"a,b\" , \"1\"", NOT_MODIFIED);
        check("if-none-match: \"0\"\n if-none-match: \"1\"", NOT_MODIFIED);
        check("if-none-match: *", NOT_MODIFIED);
        check("if-none-match: \"2\"", WHOLE);
        check("if-none-match: 1", WHOLE);
        check("if-none-match: \"1", WHOLE);
        check(
            "if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT",
            NOT_MODIFIED,
        );
        check(
            "if-modified-since: Sunday, 06-Nov-94 08:49:37 GMT",
            NOT_MODIFIED,
        );
        check("if-modified-since: Sun, 06 Nov 1994 08:49:35 GMT", WHOLE);
        check("if-modified-since: yesterday", WHOLE);
        check(
            "if-none-match: \"2\"\n if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT",
            WHOLE,
        );
        check("if-match: \"1\"", WHOLE);
        check("if-match: *", WHOLE);
        check("if-match: W/\"1\"", FAILED);
        check("if-match: \"2\"", FAILED);
        check("if-match: ", FAILED);
        check("if-match: \"2\"\n if-none-match: \"1\"", FAILED);
        check("if-match: \"1\"\n if-none-match: \"1\"", NOT_MODIFIED);
        check("if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", WHOLE);
        check("if-unmodified-since: Sun, 06 Nov 1994 08:49:35 GMT", FAILED);
        check("if-unmodified-since: never", WHOLE);
        check(
            "if-match: \"1\"\n if-unmodified-since: Sun, 06 Nov 1994 08:49:35 GMT",
            WHOLE,
        );
    }

    #[test]
    fn one_range_of_bytes() {
        check("range: bytes=0-9", (206, Some((0, 9))));
        check("range: Bytes=90-", (206, Some((90, 99))));
        check("range: bytes=90-1000", (206, Some((90, 99))));
        check("range: bytes=-10", (206, Some((90, 99))));
        check("range: bytes=-1000", (206, Some((0, 99))));
        check("range: bytes=0-99999999999999999999", (206, Some((0, 99))));
        check("range: bytes=100-", (416, None));
        check("range: bytes=99999999999999999999-", (416, None));
        check("range: bytes=-0", (416, None));
        for whole in [
            "bytes=9-0",
            "bytes=0-1,5-6",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "lines=0-1",
            "0-1",
            "bytes=+1-2",
        ] {
            check(&format!("range: {whole}"), WHOLE);
        }
        check("range: bytes=0-1\n range: bytes=0-1", WHOLE);
        check("range: bytes=0-9\n if-none-match: \"1\"", NOT_MODIFIED);
        check("range: bytes=0-9\n if-range: \"1\"", (206, Some((0, 9))));
        check("range: bytes=0-9\n if-range: W/\"1\"", WHOLE);
        check("range: bytes=0-9\n if-range: \"2\"", WHOLE);
        check(
            "range: bytes=0-9\n if-range: Sun, 06 Nov 1994 08:49:36 GMT",
            (206, Some((0, 9))),
        );
        check(
            "range: bytes=0-9\n if-range: Sun, 06 Nov 1994 08:49:37 GMT",
            WHOLE,
        );
        check("range: bytes=0-9\n if-range: nonsense", WHOLE);
        check("range: bytes=200-\n if-range: \"2\"", WHOLE);
    }

    #[test]
    fn weak_validators_join_no_ranges() {
        let weak = "cache-control: max-age=60\n etag: W/\"1\"\n last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
        for if_range in ["W/\"1\"", "\"1\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            let got = answer(
                weak,
                "GET",
                &format!("range: bytes=0-9\n if-range: {if_range}"),
                Some(100),
            );
            assert_eq!(got.status, 200, "{if_range}");
        }
    }

    #[test]
    fn what_each_answer_says() {
        let names = |answer: &Answer| {
            let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
            names.sort_unstable();
            names.join(" ")
        };
        let whole = answer(HEAD, "GET", "", Some(100));
        assert_eq!(whole.headers["age"], "7");
        assert_eq!(whole.headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            (
                &whole.headers["content-length"],
                &whole.headers["accept-ranges"]
            ),
            (&HeaderValue::from(100), &HeaderValue::from_static("bytes"))
        );
        let part = answer(HEAD, "GET", "range: bytes=10-19", Some(100));
        assert_eq!(part.headers["content-range"], "bytes 10-19/100");
        assert_eq!(
            (&part.headers["content-length"], &part.headers["age"]),
            (&HeaderValue::from(10), &HeaderValue::from(7))
        );
        assert_eq!(part.headers["x-more"], "1");
        let not_modified = answer(HEAD, "GET", "if-none-match: *", Some(100));
        assert_eq!(
            names(&not_modified),
            "age cache-control content-location date etag expires vary"
        );
        let without_tag = answer(
            "cache-control: max-age=60\n last-modified: Sun, 06 Nov 1994 08:49:36 GMT",
            "GET",
            "if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT",
            Some(1),
        );
        assert_eq!(names(&without_tag), "age cache-control date last-modified");
        let none = answer(HEAD, "GET", "range: bytes=100-", Some(100));
        assert_eq!(none.headers["content-range"], "bytes */100");
        assert_eq!(names(&none), "age content-length content-range date vary");
    }

    #[test]
    fn head_is_a_get_without_its_body() {
        let head = answer(HEAD, "HEAD", "range: bytes=0-9", Some(100));
        let get = answer(HEAD, "GET", "", Some(100));
        assert_eq!((head.status, head.body), (StatusCode::OK, None));
        assert_eq!(head.headers, get.headers);
        assert_eq!(
            answer(HEAD, "HEAD", "if-none-match: \"1\"", Some(100)).status,
            304
        );
    }

    #[test]
    fn while_the_length_is_unknown_there_are_no_ranges() {
        let got = answer(HEAD, "GET", "range: bytes=0-9", None);
        assert_eq!((got.status, got.body), (StatusCode::OK, Some(0..u64::MAX)));
        assert!(!got.headers.contains_key("content-length"));
        let empty = answer(HEAD, "GET", "range: bytes=0-", Some(0));
        assert_eq!(empty.status, 416);
    }

    #[test]
    fn only_a_200_knows_conditions() {
        let lines = "content-type: image/png\n cache-control: max-age=60\n etag: \"1\"";
        let Judged::Sniff(sniff) = judge(&class(), 404, lines) else {
            panic!("an image is sniffed")
        };
        let object = sniff.judge(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap();
        let request = headers("if-none-match: \"1\"\n range: bytes=0-1\n if-match: \"2\"");
        let got = object.respond(&Conditions::of(&Method::GET, &request), Some(100), NOW);
        assert_eq!((got.status.as_u16(), got.body), (404, Some(0..100)));
        let Judged::Sniff(sniff) = judge(&class(), 204, "cache-control: max-age=60") else {
            panic!("sniffed")
        };
        let got = sniff
            .judge(b"")
            .unwrap()
            .respond(&Conditions::default(), Some(0), NOW);
        assert_eq!((got.status.as_u16(), got.body), (204, None));
        assert!(!got.headers.contains_key("content-length"));
    }

    #[test]
    fn caches_beyond_keep_apart_what_we_do() {
        let png = "cache-control: max-age=60";
        let anonymous = Class {
            to: To::Anonymous,
            ..class()
        };
        let vary = |class: &Class, lines: &str| {
            let got = admitted(class, lines).respond(&Conditions::default(), Some(1), NOW);
            got.headers
                .get_all(VARY)
                .iter()
                .map(|v| v.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert!(vary(&class(), png).is_empty());
        assert_eq!(vary(&anonymous, png), ["cookie"]);
        assert_eq!(
            vary(&anonymous, &format!("{png}\n vary: Cookie")),
            ["Cookie"]
        );
        let languages = Class {
            key_headers: vec![http::header::ACCEPT_LANGUAGE],
            ..class()
        };
        assert_eq!(vary(&languages, png), ["accept-language"]);
        // What leaves is not what was stored: the object is not for fewer requests by it.
        assert!(
            admitted(&anonymous, png)
                .stored_headers()
                .get(VARY)
                .is_none()
        );
        let coded = "content-type: text/css\n cache-control: max-age=60\n content-encoding: gzip";
        let Judged::Sniff(sniff) = judge(&class(), 200, coded) else {
            panic!("sniffed")
        };
        let got = sniff
            .judge(b"")
            .unwrap()
            .respond(&Conditions::default(), Some(0), NOW);
        assert_eq!(got.headers[VARY], "accept-encoding");
    }
}
