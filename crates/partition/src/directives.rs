//! `Cache-Control` and its targeted kin, read so that a malformed prohibition is a prohibition.
//!
//! Two questions are kept apart. *Does any field forbid sharing?* is asked of the raw bytes: a word of
//! prohibition anywhere, in any spelling, is one, whether or not the field is well formed. *What
//! lifetime does it state?* is asked of the grammar alone (RFC 9111 5.2, RFC 9213 2.1), and a field
//! that breaks its grammar answers nothing, which also forbids.
//!
//! Never here: a directive that loosens. A targeted field may shorten a lifetime or forbid; where two
//! fields disagree on sharing, the stricter is heard.

use std::time::Duration;

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use shikiri_record::UnixMillis;

use crate::hop::CDN_CACHE_CONTROL;
use crate::reason::NotShared;

/// What all fields that speak of storing say together, none of which forbids it.
#[derive(Clone, Debug)]
pub(crate) struct Instructions {
    /// `Cache-Control` (RFC 9111 5.2).
    pub(crate) cache_control: Directives,
    /// `CDN-Cache-Control` (RFC 9213 3).
    pub(crate) cdn: Directives,
    /// The shortest lifetime that any other targeted field states: they may only tighten.
    pub(crate) lifetime_max: Option<Duration>,
}

impl Instructions {
    /// Reads them all.
    ///
    /// # Errors
    /// [`NotShared::Prohibited`] or [`NotShared::Unreadable`] for the first field that forbids.
    pub(crate) fn of(headers: &HeaderMap, now: UnixMillis) -> Result<Self, NotShared> {
        let cache_control = Directives::of(headers, &CACHE_CONTROL);
        cache_control.permit()?;
        let cdn = Directives::of(headers, &CDN_CACHE_CONTROL);
        cdn.permit()?;
        // RFC 9111 5.4 deprecates `Pragma` and leaves its meaning in responses open. Whoever sends it
        // means it.
        permit_words(headers, &PRAGMA)?;
        let mut lifetime_max = None;
        for name in headers.keys().filter(|name| is_other_targeted(name)) {
            permit_words(headers, name)?;
            shorten(&mut lifetime_max, stated_by_targeted(headers, name));
        }
        shorten(&mut lifetime_max, accel_expires(headers, now)?);
        Ok(Self {
            cache_control,
            cdn,
            lifetime_max,
        })
    }

    /// Whether the origin forbids serving it stale (RFC 9111 4.2.4): `must-revalidate`,
    /// `proxy-revalidate`, or `s-maxage`, which says the same (RFC 9111 5.2.2.10).
    pub(crate) fn forbid_stale(&self) -> bool {
        [&self.cache_control, &self.cdn].into_iter().any(|field| {
            field.must_revalidate || field.proxy_revalidate || field.s_maxage != Seconds::Absent
        })
    }
}

/// The directives of one field.
#[derive(Clone, Debug)]
pub(crate) struct Directives {
    field: &'static str,
    reading: Reading,
    /// As written, lower-case names: what a well-formed field holds.
    list: Vec<Directive>,
    /// Whether a word of prohibition stands anywhere but as a directive of exactly that name.
    suspect: bool,
    pub(crate) max_age: Seconds,
    pub(crate) s_maxage: Seconds,
    pub(crate) stale_while_revalidate: Seconds,
    pub(crate) stale_if_error: Seconds,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) public: bool,
}

/// What a field comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    /// It can be read, and forbids nothing.
    Clear,
    /// It forbids, by this directive.
    Prohibited(&'static str),
    /// It cannot be read in one way.
    Unreadable,
}

/// One directive as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Directive {
    name: String,
    /// The argument as written, with its quotes.
    written: Option<String>,
    /// The argument without quotes.
    argument: Option<String>,
}

/// A lifetime as a field states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seconds {
    /// It does not.
    Absent,
    /// It tries to: taken as nothing left (RFC 9111 4.2.1).
    Invalid,
    /// This many seconds.
    Of(u64),
}

impl Seconds {
    /// Delta-seconds (RFC 9111 1.2.2): digits alone. What does not fit is the greatest we count.
    pub(crate) fn parse(text: &str) -> Self {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Self::Invalid;
        }
        Self::Of(
            text.parse()
                .unwrap_or(DELTA_SECONDS_MAX)
                .min(DELTA_SECONDS_MAX),
        )
    }

    /// The lifetime, if one was stated.
    pub(crate) fn stated(self) -> Option<Duration> {
        match self {
            Self::Absent => None,
            Self::Invalid => Some(Duration::ZERO),
            Self::Of(seconds) => Some(Duration::from_secs(seconds)),
        }
    }

    /// Both were stated by one field: the shorter counts, and an invalid one most.
    fn meet(self, other: Self) -> Self {
        match (self, other) {
            (Self::Absent, stated) | (stated, Self::Absent) => stated,
            (Self::Of(a), Self::Of(b)) => Self::Of(a.min(b)),
            _ => Self::Invalid,
        }
    }
}

/// RFC 9111 1.2.2: a recipient counts at least this far.
const DELTA_SECONDS_MAX: u64 = 1 << 31;

impl Directives {
    /// Reads one field: `CDN-Cache-Control` as a structured dictionary (RFC 9213 2.1), any other by
    /// the grammar of `Cache-Control` (RFC 9111 5.2).
    pub(crate) fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let lines: Vec<&[u8]> = headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        let list = match lines
            .iter()
            .map(|line| ascii(line))
            .collect::<Option<Vec<&str>>>()
        {
            Some(lines) if *name == CDN_CACHE_CONTROL => dictionary(&lines.join(", ")),
            Some(lines) => lines.iter().try_fold(Vec::new(), |mut all, line| {
                all.extend(directives(line)?);
                Some(all)
            }),
            None => None,
        };
        let well_formed = list.is_some();
        let list = list.unwrap_or_default();
        let reading = match prohibition(&lines) {
            Some(word) => Reading::Prohibited(word),
            None if !well_formed || list.iter().any(|d| resembles_prohibition(&d.name)) => {
                Reading::Unreadable
            }
            None => Reading::Clear,
        };
        let suspect = !well_formed || {
            let others: Vec<&Directive> = list
                .iter()
                .filter(|d| !matches!(d.name.as_str(), "private" | "no-store" | "no-cache"))
                .collect();
            let texts: Vec<&[u8]> = others
                .iter()
                .flat_map(|d| [Some(d.name.as_str()), d.written.as_deref()])
                .flatten()
                .map(str::as_bytes)
                .collect();
            prohibition(&texts).is_some() || others.iter().any(|d| resembles_prohibition(&d.name))
        };
        let seconds = |wanted: &str| {
            list.iter()
                .filter(|d| d.name == wanted)
                .fold(Seconds::Absent, |so_far, d| {
                    so_far.meet(
                        d.argument
                            .as_deref()
                            .map_or(Seconds::Invalid, Seconds::parse),
                    )
                })
        };
        // A directive that takes no argument and has one still counts: each of these tightens.
        let has = |wanted: &str| list.iter().any(|d| d.name == wanted);
        Self {
            field: field_name(name),
            reading,
            suspect,
            max_age: seconds("max-age"),
            s_maxage: seconds("s-maxage"),
            stale_while_revalidate: seconds("stale-while-revalidate"),
            stale_if_error: seconds("stale-if-error"),
            must_revalidate: has("must-revalidate"),
            proxy_revalidate: has("proxy-revalidate"),
            // The one directive that loosens: only as it is defined.
            public: list
                .iter()
                .any(|d| d.name == "public" && d.written.is_none()),
            list,
        }
    }

    /// Whether the field lets a shared cache store.
    fn permit(&self) -> Result<(), NotShared> {
        match self.reading {
            Reading::Clear => Ok(()),
            Reading::Prohibited(directive) => Err(NotShared::Prohibited {
                field: self.field,
                directive: directive.to_owned(),
            }),
            Reading::Unreadable => Err(NotShared::Unreadable { field: self.field }),
        }
    }

    /// The same for a response that leaves as private: what a browser may do for its own user stays,
    /// what speaks to shared caches goes, and `private` comes. What cannot be read, or only resembles
    /// a prohibition, leaves as the strictest that it could have meant.
    pub(crate) fn as_private(&self) -> HeaderValue {
        let strictest = HeaderValue::from_static("private, no-store");
        if self.suspect {
            return strictest;
        }
        let mut text = String::from("private");
        for directive in &self.list {
            if matches!(
                directive.name.as_str(),
                "private" | "public" | "s-maxage" | "proxy-revalidate"
            ) {
                continue;
            }
            text.push_str(", ");
            text.push_str(&directive.name);
            if let Some(written) = &directive.written {
                text.push('=');
                text.push_str(written);
            }
        }
        HeaderValue::try_from(text).unwrap_or(strictest)
    }
}

/// A name for people. Unknown ones of the family share one.
fn field_name(name: &HeaderName) -> &'static str {
    match name.as_str() {
        "cache-control" => "Cache-Control",
        "cdn-cache-control" => "CDN-Cache-Control",
        "cloudflare-cdn-cache-control" => "Cloudflare-CDN-Cache-Control",
        "surrogate-control" => "Surrogate-Control",
        "edge-control" => "Edge-Control",
        "pragma" => "Pragma",
        _ => "*-Cache-Control",
    }
}

/// Whether a field targets caches in a way that we obey only where it tightens.
fn is_other_targeted(name: &HeaderName) -> bool {
    *name != CACHE_CONTROL
        && *name != CDN_CACHE_CONTROL
        && (name.as_str().ends_with("cache-control")
            || name.as_str().ends_with("surrogate-control")
            || name.as_str() == "edge-control")
}

/// Asks a field that has no grammar of ours for words of prohibition alone.
fn permit_words(headers: &HeaderMap, name: &HeaderName) -> Result<(), NotShared> {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let field = field_name(name);
    if let Some(word) = prohibition(&lines) {
        return Err(NotShared::Prohibited {
            field,
            directive: word.to_owned(),
        });
    }
    for line in lines {
        let line = ascii(line).ok_or(NotShared::Unreadable { field })?;
        if line
            .split(|c: char| !is_tchar_char(c))
            .any(resembles_prohibition)
        {
            return Err(NotShared::Unreadable { field });
        }
    }
    Ok(())
}

/// The shortest lifetime that a targeted field of no grammar of ours states. Akamai writes `1d`,
/// surrogates `600+60`.
fn stated_by_targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let mut shortest = None;
    for line in headers
        .get_all(name)
        .iter()
        .filter_map(|value| ascii(value.as_bytes()))
    {
        for element in line.split([',', ';', ' ', '\t']) {
            let Some((name, argument)) = element.split_once('=') else {
                continue;
            };
            let name = name.trim().to_ascii_lowercase();
            if !matches!(name.as_str(), "max-age" | "s-maxage" | "cache-maxage") {
                continue;
            }
            let argument = argument.trim_matches('"');
            let digits = argument
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(argument.len());
            let (number, unit) = argument.split_at(digits);
            let unit = match unit.chars().next() {
                None | Some('s' | '+') => Some(1),
                Some('m') => Some(60),
                Some('h') => Some(3600),
                Some('d') => Some(86400),
                Some(_) => None,
            };
            let stated = match (Seconds::parse(number), unit) {
                (Seconds::Of(number), Some(unit)) => {
                    Duration::from_secs(number.saturating_mul(unit))
                }
                _ => Duration::ZERO,
            };
            shorten(&mut shortest, Some(stated));
        }
    }
    shortest
}

/// nginx's `X-Accel-Expires`: seconds, or `@` and an instant; `0` says "do not store".
fn accel_expires(headers: &HeaderMap, now: UnixMillis) -> Result<Option<Duration>, NotShared> {
    let mut shortest = None;
    for value in headers.get_all("x-accel-expires") {
        let unreadable = NotShared::Unreadable {
            field: "X-Accel-Expires",
        };
        let text = ascii(value.as_bytes())
            .ok_or_else(|| unreadable.clone())?
            .trim();
        let (text, from) = text
            .strip_prefix('@')
            .map_or((text, 0), |text| (text, now.seconds()));
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(unreadable);
        }
        let seconds = text
            .parse::<u64>()
            .unwrap_or(u64::MAX)
            .saturating_sub(from)
            .min(DELTA_SECONDS_MAX);
        shorten(&mut shortest, Some(Duration::from_secs(seconds)));
    }
    Ok(shortest)
}

fn shorten(shortest: &mut Option<Duration>, stated: Option<Duration>) {
    *shortest = match (*shortest, stated) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// Words of prohibition, as letters alone, and the directive that is meant. Whatever stands between
/// the letters (a hyphen, an underscore, a space, a quote, a comma, bytes that are no text) is not
/// looked at, and neither is whatever stands around the word.
const PROHIBITIONS: &[(&str, &str)] = &[
    ("private", "private"),
    ("nostor", "no-store"),
    ("notstor", "no-store"),
    ("dontstor", "no-store"),
    ("neverstor", "no-store"),
    ("nocach", "no-cache"),
    ("notcach", "no-cache"),
    ("noncach", "no-cache"),
    ("uncach", "no-cache"),
    ("dontcach", "no-cache"),
    ("nevercach", "no-cache"),
    ("bypasscach", "no-cache"),
    ("noshar", "private"),
    ("notshar", "private"),
    ("personal", "private"),
];

/// The first word of prohibition in a field's lines. Safe towards refusal: `a-no, store-b` is one.
fn prohibition(lines: &[&[u8]]) -> Option<&'static str> {
    let letters: String = lines
        .iter()
        .flat_map(|line| line.iter())
        .filter(|b| b.is_ascii_alphabetic())
        .map(|b| char::from(b.to_ascii_lowercase()))
        .collect();
    PROHIBITIONS
        .iter()
        .find(|(word, _)| letters.contains(word))
        .map(|(_, directive)| *directive)
}

/// Directives that are known to be none of the prohibitions.
const KNOWN: &[&str] = &[
    "public",
    "max-age",
    "s-maxage",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "no-transform",
    "immutable",
    "stale-while-revalidate",
    "stale-if-error",
    "pre-check",
    "post-check",
];

/// Whether an unknown directive may be a misspelt prohibition (`privte`, `no-sotre`, `no%2dcache`) or a
/// plain no. RFC 9111 5.2.3 would have it ignored; here that is the unsafe direction.
fn resembles_prohibition(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if KNOWN.contains(&name.as_str()) {
        return false;
    }
    let letters: Vec<u8> = name.bytes().filter(u8::is_ascii_alphabetic).collect();
    let a_plain_no: [&[u8]; 8] = [
        b"no",
        b"none",
        b"off",
        b"false",
        b"never",
        b"deny",
        b"disable",
        b"disabled",
    ];
    a_plain_no.contains(&letters.as_slice())
        || ["private", "nostore", "nocache"]
            .iter()
            .any(|word| distance_within_two(&letters, word.as_bytes()))
}

/// Whether at most two letters were added, dropped, changed or swapped with their neighbour.
fn distance_within_two(a: &[u8], b: &[u8]) -> bool {
    if a.len().abs_diff(b.len()) > 2 {
        return false;
    }
    // Optimal string alignment; both are short, as their lengths are close and one is a constant.
    let mut before = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut current = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            current[j] = changed.min(previous[j] + 1).min(current[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                current[j] = current[j].min(before[j - 2] + 1);
            }
        }
        before = previous;
        previous = current;
    }
    previous[b.len()] <= 2
}

/// Text of visible ASCII, spaces and tabs.
fn ascii(bytes: &[u8]) -> Option<&str> {
    let plain = bytes
        .iter()
        .all(|&b| b == b'\t' || (b' '..=b'~').contains(&b));
    if plain {
        std::str::from_utf8(bytes).ok()
    } else {
        None
    }
}

/// RFC 9110 5.6.2.
pub(crate) fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn is_tchar_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(is_tchar)
}

/// A place in a text of ASCII.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn run(&mut self, of: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&of) {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn spaces(&mut self) {
        self.run(|b| matches!(b, b' ' | b'\t'));
    }

    /// The inside of a quoted string, the cursor being behind its first quote. `escapes`: which bytes
    /// may follow a backslash.
    fn quoted(&mut self, escapes: impl Fn(u8) -> bool) -> Option<String> {
        let mut inside = String::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(inside),
                b'\\' => {
                    let escaped = self.peek().filter(|&b| escapes(b))?;
                    self.at += 1;
                    inside.push(char::from(escaped));
                }
                byte => inside.push(char::from(byte)),
            }
        }
    }
}

/// `#cache-directive` (RFC 9111 5.2, RFC 9110 5.6.1); `None` when it is anything else.
fn directives(line: &str) -> Option<Vec<Directive>> {
    let mut cursor = Cursor::new(line);
    let mut list = Vec::new();
    loop {
        cursor.run(|b| matches!(b, b' ' | b'\t' | b','));
        if cursor.peek().is_none() {
            return Some(list);
        }
        let name = cursor.run(is_tchar);
        if name.is_empty() {
            return None;
        }
        let (mut written, mut argument) = (None, None);
        if cursor.eat(b'=') {
            let start = cursor.at;
            argument = Some(if cursor.eat(b'"') {
                cursor.quoted(|_| true)?
            } else {
                Some(cursor.run(is_tchar))
                    .filter(|token| !token.is_empty())?
                    .to_owned()
            });
            written = Some(cursor.since(start).to_owned());
        }
        list.push(Directive {
            name: name.to_ascii_lowercase(),
            written,
            argument,
        });
        cursor.spaces();
        if cursor.peek().is_some_and(|b| b != b',') {
            return None;
        }
    }
}

/// A dictionary (RFC 9651 4.2.2), as RFC 9213 2.1 has targeted fields; `None` when it is anything else.
/// An argument is given only for an integer: no directive that we obey takes another type.
fn dictionary(text: &str) -> Option<Vec<Directive>> {
    let mut cursor = Cursor::new(text.trim_matches(' '));
    let mut list = Vec::new();
    while cursor.peek().is_some() {
        let name = sf_key(&mut cursor)?;
        let start = cursor.at;
        let mut argument = None;
        if cursor.eat(b'=') {
            let value = cursor.at;
            sf_item_or_inner_list(&mut cursor)?;
            argument = Some(cursor.since(value).to_owned());
        }
        sf_parameters(&mut cursor)?;
        let written = Some(cursor.since(start)).filter(|s| !s.is_empty());
        let written = written.map(|s| s.strip_prefix('=').unwrap_or(s).to_owned());
        list.push(Directive {
            name: name.to_owned(),
            written,
            argument,
        });
        cursor.spaces();
        if cursor.peek().is_none() {
            break;
        }
        if !cursor.eat(b',') {
            return None;
        }
        cursor.spaces();
        // No comma at the end.
        cursor.peek()?;
    }
    Some(list)
}

fn sf_key<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    cursor
        .peek()
        .filter(|b| b.is_ascii_lowercase() || *b == b'*')?;
    Some(cursor.run(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b)))
}

fn sf_parameters(cursor: &mut Cursor<'_>) -> Option<()> {
    while cursor.eat(b';') {
        cursor.run(|b| b == b' ');
        sf_key(cursor)?;
        if cursor.eat(b'=') {
            sf_bare_item(cursor)?;
        }
    }
    Some(())
}

fn sf_item_or_inner_list(cursor: &mut Cursor<'_>) -> Option<()> {
    if !cursor.eat(b'(') {
        return sf_bare_item(cursor);
    }
    loop {
        cursor.run(|b| b == b' ');
        if cursor.eat(b')') {
            return Some(());
        }
        sf_bare_item(cursor)?;
        sf_parameters(cursor)?;
        if !matches!(cursor.peek(), Some(b' ' | b')')) {
            return None;
        }
    }
}

fn sf_bare_item(cursor: &mut Cursor<'_>) -> Option<()> {
    match cursor.peek()? {
        b'-' | b'0'..=b'9' => sf_number(cursor),
        b'@' => {
            cursor.at += 1;
            sf_number(cursor)
        }
        b'"' => {
            cursor.at += 1;
            cursor.quoted(|b| matches!(b, b'"' | b'\\')).map(drop)
        }
        b'?' => {
            cursor.at += 1;
            (cursor.eat(b'0') || cursor.eat(b'1')).then_some(())
        }
        b':' => {
            cursor.at += 1;
            cursor.run(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
            cursor.eat(b':').then_some(())
        }
        b if b.is_ascii_alphabetic() || b == b'*' => {
            cursor.run(|b| is_tchar(b) || matches!(b, b':' | b'/'));
            Some(())
        }
        _ => None,
    }
}

fn sf_number(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.eat(b'-');
    let digits = cursor.run(|b| b.is_ascii_digit()).len();
    if !(1..=15).contains(&digits) {
        return None;
    }
    if cursor.eat(b'.') {
        let fraction = cursor.run(|b| b.is_ascii_digit()).len();
        if digits > 12 || !(1..=3).contains(&fraction) {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn check(lines: &[(&str, &[u8])], expected: Result<(), &str>) {
        let got = Instructions::of(&headers(lines), UnixMillis(1_000_000));
        let got = got.map(drop).map_err(|why| match why {
            NotShared::Prohibited { field, directive } => format!("{field}: {directive}"),
            NotShared::Unreadable { field } => format!("{field}?"),
            other => panic!("{other:?}"),
        });
        assert_eq!(
            got.as_ref().copied().map_err(String::as_str),
            expected,
            "{lines:?}"
        );
    }

    fn cc(value: &[u8], expected: Result<(), &str>) {
        check(&[("cache-control", value)], expected);
    }

    #[test]
    fn a_prohibition_in_any_spelling_is_a_prohibition() {
        let private = Err("Cache-Control: private");
        let no_store = Err("Cache-Control: no-store");
        let no_cache = Err("Cache-Control: no-cache");
        for value in [
            &b"private"[..],
            b"Private",
            b"PRIVATE",
            b"max-age=60, private",
            b"private=1",
            b"private;",
            b"private; max-age=60",
            b"max-age=60;private",
            b"private=\"x\"",
            b"private=\"x",
            b"\"private\"",
            b"'private'",
            b"pri vate",
            b"x-private",
            b"privately",
            b"private,",
            b",private",
            b"\tprivate ",
            b"max-age=60 private",
            b"max-age=\"60, private\"",
            b"max-age=60\"private",
            b"public, private",
            b"pri\xffvate",
            b"private\xa0",
            b"no-share",
            b"community=private",
            b"is_private",
        ] {
            cc(value, private);
        }
        for value in [
            &b"no-store"[..],
            b"NO-STORE",
            b"nostore",
            b"no_store",
            b"no store",
            b"no--store",
            b"no -store",
            b"no-store=1",
            b"no-store=\"\"",
            b"no, store",
            b"no\xe2\x80\x93store",
            b"no-storage",
            b"max-age=60,,no-store",
            b"do-not-store",
            b"\"no-store",
            b"no-store-remote",
            b"!no-store",
        ] {
            cc(value, no_store);
        }
        for value in [
            &b"no-cache"[..],
            b"No-Cache",
            b"no-cache=\"set-cookie\"",
            b"nocache",
            b"no_cache;",
            b"no-caching",
            b"uncacheable",
            b"do not cache",
            b"dont-cache",
            b"non-cacheable",
        ] {
            cc(value, no_cache);
        }
    }

    #[test]
    fn what_may_be_a_misspelt_prohibition_is_unreadable() {
        for value in [
            &b"privte"[..],
            b"no-sotre",
            b"n0-store",
            b"no%2dstore",
            b"no-cahce",
            b"pirvate",
            b"none",
            b"no",
            b"max-age=60, never",
        ] {
            cc(value, Err("Cache-Control?"));
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_unreadable() {
        for value in [
            &b"public; max-age=60"[..],
            b"max-age=60; immutable",
            b"max-age=\"60",
            b"max-age=",
            b"=60",
            b"max-age = 60",
            b"max-age=60 public",
            b"\"max-age=60\"",
            b"max-age=60, \xff",
            b"max-age=6\"0\"",
            b"(public)",
            b"max-age:60",
        ] {
            cc(value, Err("Cache-Control?"));
        }
    }

    #[test]
    fn what_forbids_nothing_does_not_veto() {
        for value in [
            &b""[..],
            b"max-age=60",
            b"Max-Age=60, PUBLIC",
            b"max-age=\"60\"",
            b" , max-age=60 ,, public,",
            b"nothing-to-see-here",
            b"nothing-to-see-here, max-age=60",
            b"max-age=60, community=\"UCI\"",
            b"no-transform, max-age=1",
            b"must-understand, max-age=1",
            b"stale-while-revalidate=30",
            b"max-age=abc",
            b"max-age=-1",
            b"max-age",
            b"s-maxage=1\t,\tmax-age=2",
        ] {
            cc(value, Ok(()));
        }
        check(&[], Ok(()));
    }

    #[test]
    fn every_field_that_speaks_of_storing_is_heard() {
        let public = ("cache-control", &b"public, max-age=60"[..]);
        for (name, value, expected) in [
            (
                "cdn-cache-control",
                &b"private"[..],
                Err("CDN-Cache-Control: private"),
            ),
            (
                "cdn-cache-control",
                b"no-store=?0",
                Err("CDN-Cache-Control: no-store"),
            ),
            (
                "cdn-cache-control",
                b"max-age=60;x, no-cache",
                Err("CDN-Cache-Control: no-cache"),
            ),
            (
                "cdn-cache-control",
                b"Max-Age=60",
                Err("CDN-Cache-Control?"),
            ),
            (
                "cdn-cache-control",
                b"max-age=60,",
                Err("CDN-Cache-Control?"),
            ),
            (
                "cdn-cache-control",
                b"max-age=60 public",
                Err("CDN-Cache-Control?"),
            ),
            (
                "cdn-cache-control",
                b"max-age=\"60",
                Err("CDN-Cache-Control?"),
            ),
            ("cdn-cache-control", b"max-age=", Err("CDN-Cache-Control?")),
            (
                "cdn-cache-control",
                b"max-age=1234567890123456",
                Err("CDN-Cache-Control?"),
            ),
            ("cdn-cache-control", b"", Ok(())),
            (
                "cdn-cache-control",
                b"max-age=60;a=1; b=\"x\", foo=(a b;c 1.5), bar=:aGk=:, baz=?1, at=@12",
                Ok(()),
            ),
            (
                "surrogate-control",
                b"no-store, content=\"ESI/1.0\"",
                Err("Surrogate-Control: no-store"),
            ),
            (
                "surrogate-control",
                b"max-age=60;\xff",
                Err("Surrogate-Control?"),
            ),
            (
                "surrogate-control",
                b"max-age=3600+600, content=\"ESI/1.0\"",
                Ok(()),
            ),
            (
                "cloudflare-cdn-cache-control",
                b"Private",
                Err("Cloudflare-CDN-Cache-Control: private"),
            ),
            (
                "x-litespeed-cache-control",
                b"no-cache",
                Err("*-Cache-Control: no-cache"),
            ),
            ("x-cache-control", b"privvate", Err("*-Cache-Control?")),
            (
                "edge-control",
                b"!no-store, max-age=1d",
                Err("Edge-Control: no-store"),
            ),
            (
                "edge-control",
                b"bypass-cache",
                Err("Edge-Control: no-cache"),
            ),
            ("edge-control", b"cache-maxage=1d", Ok(())),
            ("pragma", b"no-cache", Err("Pragma: no-cache")),
            ("pragma", b"No_Cache;", Err("Pragma: no-cache")),
            ("pragma", b"x-akamai-debug", Ok(())),
            ("x-accel-expires", b"off", Err("X-Accel-Expires?")),
            ("x-accel-expires", b"60", Ok(())),
        ] {
            check(&[public, (name, value)], expected);
        }
        // A field on several lines is one field.
        check(
            &[public, ("cache-control", b"no-store")],
            Err("Cache-Control: no-store"),
        );
        check(
            &[("cache-control", b"no"), ("cache-control", b"store")],
            Err("Cache-Control: no-store"),
        );
    }

    #[test]
    fn other_targeted_fields_shorten_and_never_lengthen() {
        for (name, value, expected) in [
            ("surrogate-control", "max-age=60", Some(60)),
            ("surrogate-control", "max-age=60+600", Some(60)),
            ("surrogate-control", "content=\"ESI/1.0\"", None),
            ("edge-control", "max-age=1d", Some(86400)),
            ("edge-control", "max-age=2h, cache-maxage=5m", Some(300)),
            ("cloudflare-cdn-cache-control", "max-age=0", Some(0)),
            ("cloudflare-cdn-cache-control", "max-age=what", Some(0)),
            ("x-accel-expires", "30", Some(30)),
            ("x-accel-expires", "@1060", Some(60)),
            ("x-accel-expires", "@1", Some(0)),
        ] {
            let got =
                Instructions::of(&headers(&[(name, value.as_bytes())]), UnixMillis(1_000_000))
                    .unwrap();
            assert_eq!(
                got.lifetime_max,
                expected.map(Duration::from_secs),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn lifetimes_by_the_grammar() {
        for (value, max_age) in [
            ("max-age=60", Seconds::Of(60)),
            ("MAX-AGE=60", Seconds::Of(60)),
            ("max-age=\"60\"", Seconds::Of(60)),
            ("max-age=60, max-age=60", Seconds::Of(60)),
            ("max-age=60, max-age=30", Seconds::Of(30)),
            ("max-age=60, max-age=x", Seconds::Invalid),
            ("max-age", Seconds::Invalid),
            ("max-age=+60", Seconds::Invalid),
            ("max-age=60.5", Seconds::Invalid),
            ("max-age='60'", Seconds::Invalid),
            (
                "max-age=99999999999999999999",
                Seconds::Of(DELTA_SECONDS_MAX),
            ),
            ("s-maxage=60", Seconds::Absent),
        ] {
            let got = Directives::of(
                &headers(&[("cache-control", value.as_bytes())]),
                &CACHE_CONTROL,
            );
            assert_eq!(got.max_age, max_age, "{value}");
        }
        for (value, max_age) in [
            ("max-age=60", Seconds::Of(60)),
            ("max-age=60;x=1", Seconds::Of(60)),
            ("max-age=\"60\"", Seconds::Invalid),
            ("max-age=60.0", Seconds::Invalid),
            ("max-age=-1", Seconds::Invalid),
            ("max-age=60, max-age=90", Seconds::Of(60)),
        ] {
            let got = Directives::of(
                &headers(&[("cdn-cache-control", value.as_bytes())]),
                &CDN_CACHE_CONTROL,
            );
            assert_eq!(got.max_age, max_age, "CDN-Cache-Control: {value}");
        }
    }

    #[test]
    fn what_leaves_as_private() {
        for (value, expected) in [
            (&b""[..], "private"),
            (b"public, max-age=60", "private, max-age=60"),
            (
                b"s-maxage=9, max-age=60, immutable",
                "private, max-age=60, immutable",
            ),
            (
                b"proxy-revalidate, must-revalidate",
                "private, must-revalidate",
            ),
            (b"private", "private"),
            (b"private=\"x-name\", max-age=1", "private, max-age=1"),
            (b"No-Store", "private, no-store"),
            (
                b"no-cache=\"set-cookie\"",
                "private, no-cache=\"set-cookie\"",
            ),
            (
                b"max-age=60, community=\"U, C\"",
                "private, max-age=60, community=\"U, C\"",
            ),
            (b"no_store, max-age=60", "private, no-store"),
            (b"max-age=60; no-cache", "private, no-store"),
            (b"max-age=60\xff", "private, no-store"),
            (b"privte", "private, no-store"),
            (b"max-age=\"60", "private, no-store"),
        ] {
            let got =
                Directives::of(&headers(&[("cache-control", value)]), &CACHE_CONTROL).as_private();
            assert_eq!(got, expected, "{}", String::from_utf8_lossy(value));
        }
        let none = Directives::of(&HeaderMap::new(), &CACHE_CONTROL).as_private();
        assert_eq!(none, "private");
    }
}
