//! A stored response mints nothing: two anonymous copies compared.
//!
//! A page that holds a token, a nonce or a session of its own would hand one visitor's to the next.
//! Two fetches with the same key, made by nobody, show it: what differs between them outside the spans
//! that the class declares volatile was made for one fetch. The verdict is that they differ; the rest
//! of this file only finds the name of the difference, so that somebody can mend it. A wrong name
//! is a nuisance; a wrong verdict is a leak, and the verdict is equality of bytes.
//!
//! Two things are refused in one copy alone, even where both agree or a span is volatile: a nonce of a
//! content security policy, and a session in a link. A volatile span may hold a clock; what tells of a
//! token may not differ there either ([`spans`]).
//!
//! Not found here: a token that both copies hold because it changes by the hour and not by the
//! visitor. It is the same for every anonymous visitor, stored or not.

use std::ops::Range;

use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, DATE, ETAG, EXPIRES,
    LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::hop::CDN_CACHE_CONTROL;
use crate::reason::NotShared;
use crate::rules::SpanMarks;
use crate::sniff::Kind;

mod spans;

/// Whether the heads of two copies, as they would be stored, are one.
///
/// Not compared: what says when and for how long (each head was judged for itself), the validators
/// (the stored one goes to everybody alike, and often names the server that answered), and the form of
/// the body, which is compared decoded.
///
/// # Errors
/// The header that differs.
pub(crate) fn heads_agree(first: &HeaderMap, second: &HeaderMap) -> Result<(), NotShared> {
    let may_differ = [
        AGE,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        DATE,
        ETAG,
        EXPIRES,
        LAST_MODIFIED,
        ACCEPT_RANGES,
        CDN_CACHE_CONTROL,
    ];
    let names = first
        .keys()
        .chain(second.keys().filter(|name| !first.contains_key(*name)));
    for name in names.filter(|name| !may_differ.contains(name)) {
        // A planted fault has cookies stored; without it there is none in either head.
        #[cfg(feature = "seeded-faults")]
        if *name == http::header::SET_COOKIE {
            continue;
        }
        let of = |headers: &HeaderMap| -> Vec<HeaderValue> {
            let mut values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
            if *name == VARY {
                // A list whose order means nothing.
                values.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
            }
            values
        };
        let (one, other) = (of(first), of(second));
        if one != other {
            return Err(header_differs(name, one.first(), other.first()));
        }
    }
    Ok(())
}

fn header_differs(
    name: &HeaderName,
    one: Option<&HeaderValue>,
    other: Option<&HeaderValue>,
) -> NotShared {
    let random = one.zip(other).is_some_and(|(one, other)| {
        let word = |value: &HeaderValue| longest_word(value.as_bytes()).to_vec();
        is_random(&word(one)) && is_random(&word(other))
    });
    if random || names_a_token(name.as_str()) {
        NotShared::MintsToken {
            place: format!("header {name}"),
        }
    } else {
        NotShared::CopiesDiffer {
            at: 0,
            after: format!("header {name}:"),
        }
    }
}

/// Whether two decoded bodies are one outside the volatile spans, and hold nothing of one visitor's
/// alone, within the spans neither.
///
/// # Errors
/// What differs, by the name of the worst difference found.
pub(crate) fn bodies_agree(
    essence: &str,
    volatile: &[SpanMarks],
    first: &[u8],
    second: &[u8],
) -> Result<(), NotShared> {
    let kind = Kind::of(essence);
    let is_markup = matches!(kind, Kind::Html | Kind::Xml | Kind::Svg);
    alone(is_markup, first)?;
    if first == second {
        return Ok(());
    }
    alone(is_markup, second)?;
    let (one, other) = (Outside::of(first, volatile), Outside::of(second, volatile));
    if one.text == other.text {
        return spans::agree(kind, one.spanned(first), other.spanned(second));
    }
    let mut tags = Tags::of(if is_markup { &one.text } else { &[] });
    let mut worst: Option<NotShared> = None;
    for (a, b) in differences(&one.text, &other.text) {
        let named = name(&one, a, &other.text, b, tags.around(a));
        let is_worse = worst
            .as_ref()
            .is_none_or(|worst| !worst.prohibits() && named.prohibits());
        if is_worse {
            worst = Some(named);
        }
    }
    Err(worst.unwrap_or_else(|| differ(&one, common_prefix(&one.text, &other.text))))
}

/// What one copy alone may not hold.
fn alone(is_markup: bool, body: &[u8]) -> Result<(), NotShared> {
    if let Some(place) = session_in_urls(body) {
        return Err(NotShared::SessionInUrl { place });
    }
    if is_markup && Tags::of(body).any(|tag| carries_nonce(&tag)) {
        return Err(NotShared::CarriesNonce);
    }
    Ok(())
}

/// A nonce that is not empty, or a policy in a `meta` that names one.
fn carries_nonce(tag: &Tag<'_>) -> bool {
    tag.attributes.iter().any(|attribute| {
        let value = attribute.value_of(tag.text).to_ascii_lowercase();
        if attribute.is(tag.text, "nonce") {
            return !value.is_empty();
        }
        tag.is("meta") && attribute.is(tag.text, "content") && contains(&value, b"'nonce-")
    })
}

/// A longer span is not volatile: a clock or a counter is short, and a mark that closes far down would
/// hide the page.
const SPAN_BYTES_MAX: usize = 4 << 10;

/// A body without its volatile spans. The marks stay.
struct Outside {
    text: Vec<u8>,
    /// For each piece: where it starts here, and where in the body.
    pieces: Vec<(usize, usize)>,
    /// Where the spans are in the body.
    spans: Vec<Range<usize>>,
}

/// Marks, and where in a body they are met next.
struct Met<'a> {
    from: &'a [u8],
    to: &'a [u8],
    /// The next opening mark; `None` when there is no more, or none that closes.
    opens: Option<usize>,
    /// The last closing mark looked for. Each is looked for once, however many open before it.
    closes: Option<usize>,
}

impl Outside {
    /// A span is what stands between its two marks. One that is never closed is not volatile, nor is one
    /// that is long: else a mark at the top would hide the page. No mark both closes and opens.
    fn of(body: &[u8], volatile: &[SpanMarks]) -> Self {
        let mut outside = Self {
            text: Vec::with_capacity(body.len()),
            pieces: vec![(0, 0)],
            spans: Vec::new(),
        };
        let mut met: Vec<Met<'_>> = volatile
            .iter()
            .filter(|marks| !marks.from.is_empty() && !marks.to.is_empty())
            .map(|marks| Met {
                from: marks.from.as_bytes(),
                to: marks.to.as_bytes(),
                opens: find(body, marks.from.as_bytes(), 0),
                closes: None,
            })
            .collect();
        let (mut at, mut unmarked) = (0, 0);
        loop {
            for marks in &mut met {
                if marks.opens.is_some_and(|opens| opens < unmarked) {
                    marks.opens = find(body, marks.from, unmarked);
                }
            }
            let earliest = met
                .iter_mut()
                .filter_map(|marks| Some((marks.opens?, marks)))
                .min_by_key(|(opens, _)| *opens);
            let Some((opens, marks)) = earliest else {
                break;
            };
            let start = opens + marks.from.len();
            if marks.closes.is_none_or(|closes| closes < start) {
                marks.closes = find(body, marks.to, start);
            }
            let Some(end) = marks.closes else {
                marks.opens = None;
                continue;
            };
            if end - start > SPAN_BYTES_MAX {
                marks.opens = find(body, marks.from, start);
                continue;
            }
            outside.text.extend_from_slice(&body[at..start]);
            outside.pieces.push((outside.text.len(), end));
            outside.spans.push(start..end);
            (at, unmarked) = (end, end + marks.to.len());
        }
        outside.text.extend_from_slice(&body[at..]);
        outside
    }

    const fn spanned<'a>(&'a self, body: &'a [u8]) -> spans::Spanned<'a> {
        spans::Spanned {
            body,
            spans: self.spans.as_slice(),
        }
    }

    /// The place in the body of a place outside.
    fn in_body(&self, at: usize) -> usize {
        let piece = self.pieces.iter().rev().find(|(start, _)| *start <= at);
        piece.map_or(at, |(start, body)| body + (at - start))
    }
}

/// Places at which two texts differ, in order, at most [`DIFFERENCES_MAX`]. Behind a difference the
/// texts are taken up again after the word that differs; where that does not fit, in the next line, if
/// they have as many lines.
fn differences(one: &[u8], other: &[u8]) -> Vec<(usize, usize)> {
    let lines = |text: &[u8]| text.iter().filter(|&&b| b == b'\n').count();
    let by_line = lines(one) == lines(other);
    let mut found = Vec::new();
    let (mut a, mut b) = (0, 0);
    while found.len() < DIFFERENCES_MAX {
        let same = common_prefix(&one[a..], &other[b..]);
        a += same;
        b += same;
        if a == one.len() && b == other.len() {
            break;
        }
        found.push((a, b));
        let (after_a, after_b) = (word_at(one, a).end, word_at(other, b).end);
        let resumes = common_prefix(&one[after_a..], &other[after_b..]) > 0;
        if resumes {
            (a, b) = (after_a, after_b);
            continue;
        }
        let line =
            |text: &[u8], at: usize| Some(at + text[at..].iter().position(|&b| b == b'\n')? + 1);
        match (line(one, a), line(other, b)) {
            (Some(next_a), Some(next_b)) if by_line => (a, b) = (next_a, next_b),
            _ => break,
        }
    }
    found
}

const DIFFERENCES_MAX: usize = 64;

/// The name of a difference at `a` in one text and `b` in the other.
fn name(one: &Outside, a: usize, other: &[u8], b: usize, tag: Option<&Tag<'_>>) -> NotShared {
    let text = &one.text;
    if let Some(place) = parameter_at(text, a).filter(|name| names_a_session(name)) {
        return NotShared::SessionInUrl { place };
    }
    let (word_a, word_b) = (&text[word_at(text, a)], &other[word_at(other, b)]);
    let random = is_random(word_a) && is_random(word_b);
    if let Some((tag, attribute)) = tag.and_then(|tag| Some((tag, tag.attribute_at(a)?))) {
        if attribute.is(text, "nonce") {
            return NotShared::CarriesNonce;
        }
        let place = tag.place(attribute);
        let parameter = parameter_at(text, a).is_some_and(|name| names_a_token(&name));
        if random || parameter || names_a_token(&place) {
            return NotShared::MintsToken { place };
        }
    } else if let Some(key) = key_before(text, a) {
        if random || names_a_token(&key) {
            return NotShared::MintsToken { place: key };
        }
    } else if random {
        return NotShared::MintsToken {
            place: format!("the text after `{}`", before(text, a)),
        };
    }
    differ(one, a)
}

fn differ(one: &Outside, a: usize) -> NotShared {
    let at = u64::try_from(one.in_body(a)).unwrap_or(u64::MAX);
    NotShared::CopiesDiffer {
        at,
        after: before(&one.text, a),
    }
}

/// Some printable text before a place.
fn before(text: &[u8], at: usize) -> String {
    const BYTES: usize = 40;
    let mut start = at.saturating_sub(BYTES);
    // Not in the middle of a character.
    while start < at && text[start] & 0xc0 == 0x80 {
        start += 1;
    }
    let text: String = String::from_utf8_lossy(&text[start..at])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.trim().to_owned()
}

/// Names that say what their values are, as letters alone.
const TOKEN_NAMES: &[&str] = &[
    "csrf",
    "xsrf",
    "token",
    "nonce",
    "authenticity",
    "requestverification",
    "antiforgery",
    "forgery",
    "formkey",
    "formbuildid",
    "formid",
    "fkey",
    "sesskey",
    "sectok",
    "postkey",
    "postingkey",
    "viewstate",
    "eventvalidation",
    "crumb",
    "captcha",
    "challenge",
    "signature",
    "hmac",
    "secret",
    "session",
    "sessid",
    "jwt",
    "apikey",
    "password",
    "passwd",
    "accesskey",
    "bearer",
    "credential",
    "login",
    "ticket",
];

/// Whether the name of a header, a field or a value says that it is a token.
pub(crate) fn names_a_token(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    // `auth` and its like are part of too many words, and are looked for as words.
    if lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| matches!(word, "auth" | "authorization" | "sid" | "otp"))
    {
        return true;
    }
    let letters: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    TOKEN_NAMES.iter().any(|token| letters.contains(token))
}

/// Names of URL parameters that carry a session.
const SESSION_NAMES: &[&str] = &[
    "jsessionid",
    "phpsessid",
    "sid",
    "sessionid",
    "session_id",
    "session-id",
    "sessid",
    "sess_id",
    "session",
    "cfid",
    "cftoken",
    "oscsid",
    "zenid",
    "xtcsid",
    "sessiontoken",
    "session_token",
    "psession",
    "vsid",
    "aspxauth",
    "asp.net_sessionid",
    "sesskey",
];

fn names_a_session(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SESSION_NAMES.contains(&lower.as_str()) || lower.starts_with("aspsessionid")
}

/// The first URL parameter or path part that carries a session, in any text.
pub(crate) fn session_in_urls(text: &[u8]) -> Option<String> {
    // ASP.NET without cookies: `/(S(lit3py55t21z5v55vlm25s55))/`.
    let mut at = 0;
    while let Some(found) = find(text, b"/(S(", at) {
        let value = text[found + 4..]
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric())
            .count();
        if value >= 16 && text[found + 4 + value..].starts_with(b"))") {
            return Some("(S(…))".to_owned());
        }
        at = found + 4;
    }
    let equals = text
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'=')
        .map(|(i, _)| i);
    for equals in equals {
        const NAME_BYTES_MAX: usize = 40;
        let window = &text[equals.saturating_sub(NAME_BYTES_MAX)..equals];
        let name = window
            .iter()
            .rev()
            .take_while(|&&b| is_name_byte(b))
            .count();
        let name = &text[equals - name..equals];
        let lead = &text[..equals - name.len()];
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if !names_a_session(name) {
            continue;
        }
        let separated = lead.ends_with(b"?")
            || lead.ends_with(b"&")
            || lead.ends_with(b"&amp;")
            || lead.ends_with(b"&#38;")
            || lead.ends_with(b"&#038;")
            || lead.ends_with(b"\\u0026")
            // A path parameter; in a script `;sid=` begins a statement.
            || (lead.ends_with(b";") && name.eq_ignore_ascii_case("jsessionid"));
        let value = text[equals + 1..]
            .iter()
            .take_while(|&&b| is_word_byte(b))
            .count();
        let value = &text[equals + 1..equals + 1 + value];
        // `?sid=1` in a manual is no session.
        if separated && value.len() >= 8 && value.iter().any(u8::is_ascii_digit) {
            return Some(name.to_owned());
        }
    }
    None
}

const fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
}

const fn is_word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+' | b'/' | b'=' | b'%' | b'~')
}

/// The word around a place, or the empty one there. A slash or an equals sign is part of a word only
/// as base64 has it: it does not reach back over one, so that a URL is not one word.
fn word_at(text: &[u8], at: usize) -> Range<usize> {
    const BYTES_MAX: usize = 4096;
    let back = &text[at.saturating_sub(BYTES_MAX)..at];
    let back = back
        .iter()
        .rev()
        .take_while(|&&b| is_word_byte(b) && b != b'=' && b != b'/')
        .count();
    let ahead = text[at..]
        .iter()
        .take(BYTES_MAX)
        .take_while(|&&b| is_word_byte(b))
        .count();
    at - back..at + ahead
}

fn longest_word(text: &[u8]) -> &[u8] {
    text.split(|&b| !is_word_byte(b))
        .max_by_key(|word| word.len())
        .unwrap_or_default()
}

/// Whether a word looks drawn by lot: long enough, letters and digits or both cases, few repeated.
fn is_random(word: &[u8]) -> bool {
    if word.len() < 12 || !word.iter().any(u8::is_ascii_alphabetic) {
        return false;
    }
    let mixed = word.iter().any(u8::is_ascii_digit)
        || (word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase));
    let mut seen = [false; 256];
    for &b in word {
        seen[usize::from(b)] = true;
    }
    let different = seen.iter().filter(|&&seen| seen).count();
    mixed && different >= 7
}

/// The URL parameter whose value holds a place.
fn parameter_at(text: &[u8], at: usize) -> Option<String> {
    const BYTES_MAX: usize = 512;
    let start = at.saturating_sub(BYTES_MAX);
    let window = &text[start..at];
    let value = window
        .iter()
        .rev()
        .take_while(|&&b| is_word_byte(b) && b != b'=')
        .count();
    let name_end = window.len() - value;
    if name_end == 0 || window[name_end - 1] != b'=' {
        return None;
    }
    let lead = &window[..name_end - 1];
    let name = lead.iter().rev().take_while(|&&b| is_name_byte(b)).count();
    let (lead, name) = lead.split_at(lead.len() - name);
    let separated = lead.last().is_some_and(|b| matches!(b, b'?' | b'&' | b';'));
    separated
        .then(|| printable(name))
        .filter(|name| !name.is_empty())
}

/// The key of the string or number that holds a place, in JSON or a script: `"csrf": "…`, `csrf = '…`.
fn key_before(text: &[u8], at: usize) -> Option<String> {
    const BYTES_MAX: usize = 4096;
    let window = &text[at.saturating_sub(BYTES_MAX)..at];
    let is_quote = |b: &u8| matches!(b, b'"' | b'\'' | b'`');
    let in_string = window
        .iter()
        .rev()
        .take_while(|&b| !is_quote(b) && !matches!(b, b'\n' | b'<' | b'>'))
        .count();
    let quote = window.len() - in_string;
    let bare = window.len()
        - window
            .iter()
            .rev()
            .take_while(|&&b| is_word_byte(b) && b != b'=')
            .count();
    let assigned = |end: usize| {
        let lead = window[..end].trim_ascii_end();
        lead.strip_suffix(b":").or_else(|| lead.strip_suffix(b"="))
    };
    let lead = match quote
        .checked_sub(1)
        .filter(|&open| is_quote(&window[open]))
        .and_then(assigned)
    {
        Some(lead) => lead,
        None => assigned(bare)?,
    };
    let lead = lead.trim_ascii_end();
    let lead = lead
        .strip_suffix(b"\\\"")
        .or_else(|| lead.strip_suffix(b"\""))
        .or_else(|| lead.strip_suffix(b"'"))
        .unwrap_or(lead);
    let is_key_byte = |b: u8| is_name_byte(b) || b == b'$';
    let key = lead.iter().rev().take_while(|&&b| is_key_byte(b)).count();
    let key = printable(&lead[lead.len() - key..]);
    Some(key).filter(|key| !key.is_empty())
}

/// Short text for a message.
fn printable(text: &[u8]) -> String {
    const CHARS_MAX: usize = 64;
    let text = String::from_utf8_lossy(text);
    text.chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    find(text, needle, 0).is_some()
}

fn find(text: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = from;
    loop {
        at += text.get(at..)?.iter().position(|&b| b == first)?;
        if text[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

/// The tags of a document, as far as naming needs them: not a parser of HTML. Comments and the insides of
/// scripts and styles are skipped.
struct Tags<'a> {
    text: &'a [u8],
    at: usize,
    /// The last tag found by [`Self::around`].
    last: Option<Tag<'a>>,
}

/// A start tag.
struct Tag<'a> {
    text: &'a [u8],
    /// From `<` to behind `>`.
    span: Range<usize>,
    name: Range<usize>,
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug)]
struct Attribute {
    name: Range<usize>,
    value: Range<usize>,
}

impl<'a> Tags<'a> {
    const fn of(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            last: None,
        }
    }

    /// The tag that holds a place. Places come in order.
    fn around(&mut self, place: usize) -> Option<&Tag<'a>> {
        while self.last.as_ref().is_none_or(|tag| tag.span.end <= place) {
            self.last = Some(self.next()?);
        }
        self.last.as_ref().filter(|tag| tag.span.start <= place)
    }

    /// The tag that begins at `<`, if one does.
    fn tag(&self, start: usize) -> Option<Tag<'a>> {
        let text = self.text;
        let run = |from: usize, of: &dyn Fn(u8) -> bool| {
            from + text[from..].iter().take_while(|&&b| of(b)).count()
        };
        let name = start + 1..run(start + 1, &|b| {
            !b.is_ascii_whitespace() && !matches!(b, b'>' | b'/' | b'<')
        });
        if !text.get(name.start).is_some_and(u8::is_ascii_alphabetic) {
            return None;
        }
        let mut tag = Tag {
            text,
            span: start..text.len(),
            name: name.clone(),
            attributes: Vec::new(),
        };
        let mut at = name.end;
        loop {
            at = run(at, &|b| b.is_ascii_whitespace() || b == b'/');
            match text.get(at) {
                None => return Some(tag),
                Some(b'>') => {
                    tag.span.end = at + 1;
                    return Some(tag);
                }
                Some(_) => {}
            }
            // An attribute's name takes at least one byte, so that every round gets on.
            let name = at..run(at + 1, &|b| {
                !b.is_ascii_whitespace() && !matches!(b, b'>' | b'/' | b'=')
            });
            let equals = run(name.end, &|b| b.is_ascii_whitespace());
            if text.get(equals) != Some(&b'=') {
                at = name.end;
                tag.attributes.push(Attribute {
                    name,
                    value: at..at,
                });
                continue;
            }
            let value = run(equals + 1, &|b| b.is_ascii_whitespace());
            let value = match text.get(value) {
                Some(&quote @ (b'"' | b'\'')) => {
                    let inside = value + 1..run(value + 1, &|b| b != quote);
                    at = (inside.end + 1).min(text.len());
                    inside
                }
                _ => {
                    let bare = value..run(value, &|b| !b.is_ascii_whitespace() && b != b'>');
                    at = bare.end;
                    bare
                }
            };
            tag.attributes.push(Attribute { name, value });
        }
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            let start = find(self.text, b"<", self.at)?;
            if self.text[start..].starts_with(b"<!--") {
                // `<!-->` is a whole comment, and `--!>` ends one too.
                let end = find(self.text, b"-->", start + 2).map(|end| end + 3);
                let odd = find(
                    &self.text[..end.unwrap_or(self.text.len())],
                    b"--!>",
                    start + 4,
                );
                self.at = odd.map(|odd| odd + 4).or(end)?;
                continue;
            }
            let Some(tag) = self.tag(start) else {
                self.at = start + 1;
                continue;
            };
            self.at = tag.span.end;
            for raw in ["script", "style"] {
                if tag.is(raw) {
                    self.at = end_of_raw(self.text, self.at, raw);
                }
            }
            return Some(tag);
        }
    }
}

/// Where the raw text of a script or style ends.
fn end_of_raw(text: &[u8], from: usize, name: &str) -> usize {
    let mut at = from;
    while let Some(end) = find(text, b"</", at) {
        let after = text.get(end + 2..end + 2 + name.len());
        if after.is_some_and(|after| after.eq_ignore_ascii_case(name.as_bytes())) {
            return end;
        }
        at = end + 2;
    }
    text.len()
}

impl Tag<'_> {
    fn is(&self, name: &str) -> bool {
        self.text[self.name.clone()].eq_ignore_ascii_case(name.as_bytes())
    }

    /// The attribute whose value holds a place, its end included: one value may be the start of another.
    fn attribute_at(&self, place: usize) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| {
            attribute.value.start <= place
                && place <= attribute.value.end
                && attribute.value.start > attribute.name.end
        })
    }

    fn value_of(&self, name: &str) -> Option<String> {
        let attribute = self
            .attributes
            .iter()
            .find(|attribute| attribute.is(self.text, name))?;
        Some(printable(attribute.value_of(self.text))).filter(|value| !value.is_empty())
    }

    /// How a person would find it: `input[name=csrf]`, `meta[name=csrf-token]`, `div[data-token]`.
    fn place(&self, attribute: &Attribute) -> String {
        let element = printable(&self.text[self.name.clone()]).to_ascii_lowercase();
        if attribute.is(self.text, "value") || attribute.is(self.text, "content") {
            for known in ["name", "id", "property", "http-equiv"] {
                if let Some(value) = self.value_of(known) {
                    return format!("{element}[{known}={value}]");
                }
            }
        }
        let name = printable(&self.text[attribute.name.clone()]).to_ascii_lowercase();
        format!("{element}[{name}]")
    }
}

impl Attribute {
    fn is(&self, text: &[u8], name: &str) -> bool {
        text[self.name.clone()].eq_ignore_ascii_case(name.as_bytes())
    }

    fn value_of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        &text[self.value.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "8f3kd92ks0a7vb41";
    const B: &str = "q0z7m1x2c9w8e4rt";

    fn token(place: &str) -> Option<NotShared> {
        Some(NotShared::MintsToken {
            place: place.into(),
        })
    }

    fn session(place: &str) -> Option<NotShared> {
        Some(NotShared::SessionInUrl {
            place: place.into(),
        })
    }

    /// `text` holds `{}` where each copy has its own.
    #[track_caller]
    fn check_of(essence: &str, text: &str, a: &str, b: &str, expected: Option<NotShared>) {
        let (first, second) = (text.replace("{}", a), text.replace("{}", b));
        let got = bodies_agree(essence, &[], first.as_bytes(), second.as_bytes()).err();
        assert_eq!(got, expected, "{text}");
    }

    #[track_caller]
    fn check(text: &str, expected: Option<NotShared>) {
        check_of("text/html", text, A, B, expected);
    }

    #[test]
    fn a_token_is_named_by_its_place() {
        check(
            "<input type=hidden name=\"csrf_token\" value=\"{}\">",
            token("input[name=csrf_token]"),
        );
        check(
            "<input value='{}' name='_wpnonce'>",
            token("input[name=_wpnonce]"),
        );
        check(
            "<input name=form_key value={}>",
            token("input[name=form_key]"),
        );
        check("<input name=x value=\"{}\">", token("input[name=x]"));
        check(
            "<meta name=\"csrf-token\" content=\"{}\" />",
            token("meta[name=csrf-token]"),
        );
        check(
            "<META CONTENT=\"{}\" NAME=\"csrf-token\">",
            token("meta[name=csrf-token]"),
        );
        check("<div data-token=\"{}\">", token("div[data-token]"));
        check("<body id=\"{}\">", token("body[id]"));
        check("<form action=\"/a?token={}\">", token("form[action]"));
        check(
            "<script>window.csrfToken = \"{}\";</script>",
            token("window.csrfToken"),
        );
        check("<script>var c = {\"xsrf\": '{}'}</script>", token("xsrf"));
        check("<p>Your code: {}</p>", token("code"));
        check("<p>{}</p>", token("the text after `<p>`"));
        check_of(
            "application/json",
            "{\"user\":null,\"csrf\":\"{}\"}",
            "1",
            "2",
            token("csrf"),
        );
        check_of("application/json", "{\"id\":\"{}\"}", A, B, token("id"));
        check_of(
            "text/html",
            "<input name=authenticity_token value=\"{}\">",
            "1",
            "22",
            token("input[name=authenticity_token]"),
        );
        check_of(
            "text/javascript",
            "const token=\"{}\"",
            "",
            A,
            token("token"),
        );
    }

    #[test]
    fn nonces_and_sessions_by_their_names() {
        check("<script nonce=\"{}\">", Some(NotShared::CarriesNonce));
        check("<a href=\"/a;jsessionid={}\">", session("jsessionid"));
        check("<a href=\"/a?PHPSESSID={}&b=1\">", session("PHPSESSID"));
        check("<a href=\"/a?b=1&amp;sid={}\">", session("sid"));
        check_of(
            "text/html",
            "<a href=\"/a?sid={}\">",
            "ab",
            "cd",
            session("sid"),
        );
        check_of(
            "application/json",
            "{\"next\":\"/a?session_id={}\"}",
            A,
            B,
            session("session_id"),
        );
    }

    #[test]
    fn one_copy_alone_can_be_enough() {
        for (text, expected) in [
            ("<script nonce=\"abc\">", Some(NotShared::CarriesNonce)),
            ("<!--><script NONCE=abc>", Some(NotShared::CarriesNonce)),
            ("<style nonce='abc'>", Some(NotShared::CarriesNonce)),
            ("<script nonce=\"\">", None),
            ("<script nonce>", None),
            ("<!-- <script nonce=abc> -->", None),
            ("<script>a.nonce = nonce; '<i nonce=abc>'</script>", None),
            ("<p>a nonce = something", None),
            (
                "<meta http-equiv=Content-Security-Policy content=\"script-src 'nonce-abc'\">",
                Some(NotShared::CarriesNonce),
            ),
            (
                "<a href=\"/a;jsessionid=0123456789AB\">",
                session("jsessionid"),
            ),
            ("<a href=/a?phpsessid=0123456789AB>", session("phpsessid")),
            ("<a href=\"/a?x&#38;sid=0123456789AB\">", session("sid")),
            (
                "<a href=\"/a?ASPSESSIONIDQQ=0123456789AB\">",
                session("ASPSESSIONIDQQ"),
            ),
            (
                "<a href=\"/(S(lit3py55t21z5v55vlm25s55))/a.aspx\">",
                session("(S(…))"),
            ),
            ("<a href=\"/a?sid=1\">", None),
            ("<a href=\"/?xsid=0123456789AB\">", None),
            ("<script>var a;sid=b12345678</script>", None),
            ("sid=0123456789AB", None),
        ] {
            let got = bodies_agree("text/html", &[], text.as_bytes(), text.as_bytes()).err();
            assert_eq!(got, expected, "{text}");
        }
        let nonce = b"<script nonce=abc>";
        assert_eq!(bodies_agree("application/json", &[], nonce, nonce), Ok(()));
    }

    #[test]
    fn what_merely_differs_is_shown_by_what_stands_before() {
        let differ = |at, after: &str| {
            Some(NotShared::CopiesDiffer {
                at,
                after: after.into(),
            })
        };
        check_of(
            "text/html",
            "<p>It is {} now",
            "10:00",
            "10:01",
            differ(13, "<p>It is 10:0"),
        );
        check_of(
            "text/html",
            "<p>仕切り仕切り仕切り仕切り{}",
            "1",
            "2",
            differ(39, "<p>仕切り仕切り仕切り仕切り"),
        );
        check_of("text/html", "a\u{7}\n{}", "1", "2", differ(3, "a"));
        check_of("text/html", "{}", "", "more", differ(0, ""));
        check_of(
            "text/html",
            "<p>1234567890{}",
            "",
            "<",
            differ(13, "<p>1234567890"),
        );
        // In the middle of a character.
        check_of(
            "text/plain",
            "{}",
            "é",
            "è",
            Some(NotShared::CopiesDiffer {
                at: 1,
                after: "\u{fffd}".into(),
            }),
        );
    }

    #[test]
    fn the_worst_of_several_differences_is_named() {
        let of = |ms: &str, token: &str| {
            format!("<!-- made in {ms} ms -->\n<p>\n<input name=csrf value={token}>\n")
        };
        let got = bodies_agree(
            "text/html",
            &[],
            of("9", A).as_bytes(),
            of("12", B).as_bytes(),
        )
        .err();
        assert_eq!(got, token("input[name=csrf]"));
        let (a, b) = (
            "<p>took 1 ms</p>\n<i data-nonce=aaaa>",
            "<p>took 200 ms</p>\n<i data-nonce=bbbb>",
        );
        let got = bodies_agree("text/html", &[], a.as_bytes(), b.as_bytes()).err();
        assert_eq!(got, token("i[data-nonce]"));
    }

    #[track_caller]
    fn volatile(marks: &[(&str, &str)], first: &str, second: &str, expected: Option<NotShared>) {
        let marks: Vec<SpanMarks> = marks
            .iter()
            .map(|(from, to)| SpanMarks {
                from: (*from).into(),
                to: (*to).into(),
            })
            .collect();
        let got = bodies_agree("text/html", &marks, first.as_bytes(), second.as_bytes()).err();
        assert_eq!(got, expected, "{first} / {second}");
    }

    #[test]
    fn volatile_spans_may_differ_and_nothing_else() {
        let time = ("<time>", "</time>");
        let differ = |at, after: &str| {
            Some(NotShared::CopiesDiffer {
                at,
                after: after.into(),
            })
        };
        volatile(&[time], "a<time>1</time>b", "a<time>22</time>b", None);
        volatile(
            &[time],
            "<time>1</time><time>2</time>",
            "<time>3</time><time>4</time>",
            None,
        );
        volatile(
            &[time],
            "<time>1</time>a",
            "<time>222</time>b",
            differ(14, "<time></time>"),
        );
        volatile(&[time], "a<time>1</time>b", "a<time></time>b", None);
        // Never closed, or not there: not volatile.
        volatile(&[time], "a<time>1", "a<time>2", differ(7, "a<time>"));
        volatile(
            &[time],
            "<time>1</time><time>2",
            "<time>1</time><time>3",
            differ(20, "<time></time><time>"),
        );
        volatile(&[time], "a<time>1</time>", "a", differ(1, "a"));
        volatile(&[("", "x")], "1x", "2x", differ(0, ""));
        volatile(&[("x", "")], "x1", "x2", differ(1, "x"));
        // Two kinds, one within the other: the one that begins first.
        volatile(&[("[", "]"), ("(", ")")], "[(1]2)", "[(3]2)", None);
        volatile(
            &[("[", "]"), ("(", ")")],
            "[(1]2)",
            "[(1]3)",
            differ(4, "[]"),
        );
        // A nonce or session is refused even there: the next visitor would get it.
        volatile(
            &[time],
            "<time><i nonce=a></time>",
            "<time><i nonce=b></time>",
            Some(NotShared::CarriesNonce),
        );
        let link = |id: &str| format!("<time><a href=?sid={id}></time>");
        volatile(&[time], &link(A), &link(B), session("sid"));
    }
}
