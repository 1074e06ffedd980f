//! What may not differ even inside a volatile span.
//!
//! A span is declared for a clock or a counter, and the stored copy of it goes to everybody. So of two
//! copies that agree outside their spans, each is searched for what a span touches and tells of a token:
//! by the name of its element, input, attribute, key or URL parameter, or by looking drawn by lot. What
//! is found in one must be found in the other, value for value and in order.
//!
//! Each copy is searched in its own whole document, since a mark may stand in the middle of a tag.
//! Nothing has to be aligned between two spans, and here, unlike in the naming of differences outside,
//! the finding is the verdict: what is in doubt tells of a token.
//!
//! Never refused here: running text. `generated at 10:03 by web-7` may differ.

use std::ops::Range;

use super::{
    Attribute, Tag, Tags, before, end_of_raw, find, is_name_byte, is_random, key_before,
    names_a_session, names_a_token, printable,
};
use crate::identity;
use crate::reason::NotShared;
use crate::sniff::Kind;

/// A body and its volatile spans, in order.
#[derive(Clone, Copy)]
pub(super) struct Spanned<'a> {
    pub(super) body: &'a [u8],
    pub(super) spans: &'a [Range<usize>],
}

/// Whether all that tells of a token is the same in both.
///
/// # Errors
/// The first that is not, by its place.
pub(super) fn agree(kind: Kind, one: Spanned<'_>, other: Spanned<'_>) -> Result<(), NotShared> {
    let (one, other) = (Telling::of(kind, one), Telling::of(kind, other));
    let count = one.found.len().max(other.found.len());
    for i in 0..count {
        let (a, b) = (one.found.get(i), other.found.get(i));
        if let Some(tell) = a.or(b).filter(|_| a != b) {
            let place = tell.place.clone();
            return Err(if tell.is_session {
                NotShared::SessionInUrl { place }
            } else {
                NotShared::MintsToken { place }
            });
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
struct Tell<'a> {
    place: String,
    is_session: bool,
    value: &'a [u8],
}

/// What of a body tells of a token and touches a span.
struct Telling<'a> {
    of: Spanned<'a>,
    found: Vec<Tell<'a>>,
}

impl<'a> Telling<'a> {
    fn of(kind: Kind, of: Spanned<'a>) -> Self {
        let mut telling = Self {
            of,
            found: Vec::new(),
        };
        let all = 0..of.body.len();
        match kind {
            Kind::Html | Kind::Xml | Kind::Svg => telling.markup(),
            Kind::Text | Kind::Captions => telling.prose(all),
            _ => telling.code(all),
        }
        telling
    }

    /// A place at the very edge of a span counts: a span may be empty in one copy.
    fn touches(&self, range: &Range<usize>) -> bool {
        let spans = self.of.spans;
        let first = spans.partition_point(|span| span.end < range.start);
        spans.get(first).is_some_and(|span| span.start <= range.end)
    }

    fn add(&mut self, place: String, is_session: bool, value: Range<usize>) {
        self.found.push(Tell {
            place: printable(place.as_bytes()),
            is_session,
            value: &self.of.body[value],
        });
    }

    fn markup(&mut self) {
        let body = self.of.body;
        let mut at = 0;
        for tag in Tags::of(body) {
            self.prose(at..tag.span.start);
            at = tag.span.end;
            if self.touches(&tag.span) {
                self.attributes(&tag);
            }
            if self.touches(&(at..at.saturating_add(CONTENT_BYTES_MAX))) {
                self.content(&tag);
            }
            if let Some(raw) = ["script", "style"].into_iter().find(|raw| tag.is(raw)) {
                let end = end_of_raw(body, at, raw);
                self.code(at..end);
                at = end;
            }
        }
        self.prose(at..body.len());
    }

    fn attributes(&mut self, tag: &Tag<'a>) {
        let named = names_of(tag).any(|name| names_a_token(&name));
        // The value first: its place says best what it is.
        let is_value = |attribute: &&Attribute| {
            attribute.is(tag.text, "value") || attribute.is(tag.text, "content")
        };
        let (values, others): (Vec<_>, Vec<_>) = tag.attributes.iter().partition(is_value);
        for attribute in values.into_iter().chain(others) {
            let value = attribute.value_of(tag.text);
            let place = tag.place(attribute);
            let called = String::from_utf8_lossy(&tag.text[attribute.name.clone()]);
            if named || names_a_token(&called) || looks_drawn_by_lot(value) {
                self.add(place, false, attribute.value.clone());
                continue;
            }
            // Scripts keep JSON in attributes, links keep parameters there.
            let plain = without_references(value);
            if let Some(name) = (0..plain.len()).find_map(|at| Name::at(&plain, at)?.tells(&plain))
            {
                let place = if name.is_session { name.text } else { place };
                self.add(place, name.is_session, attribute.value.clone());
            }
        }
    }

    /// All that is in an element that tells by its name.
    fn content(&mut self, tag: &Tag<'a>) {
        let Some(name) = names_of(tag)
            .filter(|_| has_content(tag))
            .find(|name| names_a_token(name))
        else {
            return;
        };
        let body = self.of.body;
        let start = tag.span.end;
        let window = &body[start..body.len().min(start + CONTENT_BYTES_MAX)];
        let close = [b"</", &body[tag.name.clone()]].concat();
        let length = find(window, &close, 0)
            .or_else(|| window.iter().position(|&b| b == b'<'))
            .unwrap_or(window.len());
        let content = start..start + length;
        if self.touches(&content) {
            self.add(name, false, content);
        }
    }

    /// Scripts, styles and JSON: every value under a telling name, and every word that looks drawn by
    /// lot.
    fn code(&mut self, range: Range<usize>) {
        let body = self.of.body;
        for (name, value) in self.assignments(range.clone()) {
            self.add(name.text, name.is_session, value);
        }
        let mut at = range.start;
        while at < range.end {
            let end = at + run(&body[..range.end], at, is_lot_byte);
            if end - at >= DRAWN_BYTES_MIN
                && self.touches(&(at..end))
                && looks_drawn_by_lot(&body[at..end])
            {
                let place = key_before(body, at)
                    .unwrap_or_else(|| format!("the text after `{}`", before(body, at)));
                self.add(place, false, at..end);
            }
            at = end.max(at + 1);
        }
    }

    /// Running text: what looks drawn by lot counts only under a telling name, as in `csrf: …`.
    fn prose(&mut self, range: Range<usize>) {
        let body = self.of.body;
        for (name, value) in self.assignments(range) {
            if name.is_session || is_random(&body[value.clone()]) {
                self.add(name.text, name.is_session, value);
            }
        }
    }

    /// The names that tell, with their values, where they touch a span.
    fn assignments(&self, range: Range<usize>) -> Vec<(Telltale, Range<usize>)> {
        let body = &self.of.body[..range.end];
        let near = |at: usize| {
            self.touches(&(at.saturating_sub(NAME_BYTES_MAX)..at.saturating_add(VALUE_BYTES_MAX)))
        };
        range
            .filter(|&at| matches!(body[at], b':' | b'=') && near(at))
            .filter_map(|at| {
                let name = Name::at(body, at)?;
                let tells = name.tells(body)?;
                Some((name.0.start, tells, value_behind(body, at)))
            })
            .filter(|(start, _, value)| self.touches(&(*start..value.end)))
            .map(|(_, tells, value)| (tells, value))
            .collect()
    }
}

/// The name before a colon or an equals sign, in a script, JSON or a URL: `"csrf": "…"`, `csrf = …`,
/// `?csrf=…`.
struct Name(Range<usize>);

/// A name that tells of a token.
struct Telltale {
    text: String,
    is_session: bool,
}

impl Name {
    fn at(text: &[u8], at: usize) -> Option<Self> {
        if !matches!(text.get(at), Some(b':' | b'=')) {
            return None;
        }
        let is_end =
            |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`' | b'\\' | b']');
        let window = text[..at].iter().rev().take(NAME_BYTES_MAX);
        let skipped = window.clone().take_while(|b| is_end(b)).count();
        let length = window
            .skip(skipped)
            .take_while(|&&b| is_name_byte(b) || b == b'$')
            .count();
        let end = at - skipped;
        (length > 0).then_some(Self(end - length..end))
    }

    fn tells(&self, text: &[u8]) -> Option<Telltale> {
        let name = String::from_utf8_lossy(&text[self.0.clone()]).into_owned();
        let lead = text[..self.0.start].last();
        let is_session = names_a_session(&name) && matches!(lead, Some(b'?' | b'&' | b';'));
        (is_session || names_a_token(&name)).then_some(Telltale {
            text: name,
            is_session,
        })
    }
}

/// The value behind a colon or an equals sign.
fn value_behind(text: &[u8], at: usize) -> Range<usize> {
    let start = at + 1;
    let start = start + run(text, start, |b| b.is_ascii_whitespace() || b == b'=');
    let escapes = run(text, start, |b| b == b'\\');
    let start = start + escapes;
    let end = match text.get(start) {
        // A list or an object: to where the first closes.
        Some(b'[' | b'{' | b'(') => start + run(text, start, |b| !matches!(b, b']' | b'}' | b')')),
        Some(&quote @ (b'"' | b'\'' | b'`')) => {
            let mut end = start + 1;
            while end < text.len() && end - start < VALUE_BYTES_MAX && text[end] != quote {
                // What is escaped is part of the value; of a value that is itself inside a string, the
                // escaped quote is the end.
                end += if text[end] == b'\\' && escapes == 0 {
                    2
                } else {
                    1
                };
            }
            end.min(text.len())
        }
        _ => {
            let ends = |b: u8| b.is_ascii_whitespace() || b",;&<>\"'`})]".contains(&b);
            start + run(text, start, |b| !ends(b))
        }
    };
    start..end
}

const NAME_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 4096;
/// How much of an element that tells is looked at: more than any token has.
const CONTENT_BYTES_MAX: usize = 8192;

/// What is shorter does not look drawn by lot inside a span, where stamps and counts are meant to be.
const DRAWN_BYTES_MIN: usize = 20;

fn run(text: &[u8], from: usize, of: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter()
        .take(VALUE_BYTES_MAX)
        .take_while(|&&b| of(b))
        .count()
}

/// What base64, in either alphabet, is written in (RFC 4648 4 and 5).
const fn is_lot_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=')
}

fn looks_drawn_by_lot(value: &[u8]) -> bool {
    if value.len() < DRAWN_BYTES_MIN {
        return false;
    }
    let text = String::from_utf8_lossy(value);
    identity::holds_token(&text)
        || identity::holds_token(&text.replace('+', "-").replace('/', "_"))
        || text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|run| run.len() >= DRAWN_BYTES_MIN && is_random(run.as_bytes()))
}

/// What an element is called: itself, and by the attributes that name it. Whole, however long.
fn names_of<'a>(tag: &'a Tag<'_>) -> impl Iterator<Item = String> + 'a {
    let by = |attribute: &&Attribute| {
        ["name", "id", "property", "itemprop", "http-equiv"]
            .into_iter()
            .any(|by| attribute.is(tag.text, by))
    };
    std::iter::once(&tag.text[tag.name.clone()])
        .chain(
            tag.attributes
                .iter()
                .filter(by)
                .map(|a| a.value_of(tag.text)),
        )
        .map(|name| String::from_utf8_lossy(name).into_owned())
}

/// Whether what follows a tag is its element's. The void elements of HTML have nothing in them.
fn has_content(tag: &Tag<'_>) -> bool {
    let void = [
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param",
        "source", "track", "wbr",
    ];
    !void.into_iter().any(|void| tag.is(void))
}

/// An attribute's value with the references that matter here replaced.
fn without_references(value: &[u8]) -> Vec<u8> {
    if !value.contains(&b'&') {
        return value.to_vec();
    }
    let text = String::from_utf8_lossy(value);
    [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#x22;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&apos;", "'"),
        ("&#38;", "&"),
        ("&#038;", "&"),
        ("&amp;", "&"),
    ]
    .into_iter()
    .fold(text.into_owned(), |text, (reference, character)| {
        text.replace(reference, character)
    })
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::bodies_agree;
    use super::*;
    use crate::rules::SpanMarks;

    const A: &str = "8f3kd92ks0a7vb418f3kd92k";
    const B: &str = "q0z7m1x2c9w8e4rtq0z7m1x2";

    fn judge(
        essence: &str,
        marks: (&str, &str),
        text: &str,
        a: &str,
        b: &str,
    ) -> Option<NotShared> {
        let marks = [SpanMarks {
            from: marks.0.into(),
            to: marks.1.into(),
        }];
        let (first, second) = (text.replace("{}", a), text.replace("{}", b));
        bodies_agree(essence, &marks, first.as_bytes(), second.as_bytes()).err()
    }

    /// `text` stands in a volatile span, and holds `{}` where each copy has its own. Refused for a token
    /// at `place`; `None`: admitted.
    #[track_caller]
    fn check_of(essence: &str, text: &str, a: &str, b: &str, place: Option<&str>) {
        let expected = place.map(|place| NotShared::MintsToken {
            place: place.into(),
        });
        let spanned = format!("<v>{text}</v>");
        let got = judge(essence, ("<v>", "</v>"), &spanned, a, b);
        assert_eq!(got, expected, "{text} / {a} / {b}");
    }

    #[track_caller]
    fn check(text: &str, a: &str, b: &str, place: Option<&str>) {
        check_of("text/html", text, a, b, place);
    }

    #[test]
    fn a_token_in_a_span_is_refused_by_its_name() {
        for (text, place) in [
            ("<input name=csrf value={}>", "input[name=csrf]"),
            (
                "<p>10:0{}<input value='{}' name=_token>",
                "input[name=_token]",
            ),
            ("<input name=q id=csrf value={}>", "input[name=q]"),
            ("<meta name=csrf-token content={}>", "meta[name=csrf-token]"),
            ("<div data-csrf={}>", "div[data-csrf]"),
            ("<csrf-token>{}</csrf-token>", "csrf-token"),
            ("<textarea name=csrf>{}</textarea>", "csrf"),
            ("<span id=csrf>{}</span>", "csrf"),
            ("<a href='/a?x=1&amp;token={}'>", "a[href]"),
            (
                "<i data-all='{&quot;csrf&quot;:&quot;{}&quot;}'>",
                "i[data-all]",
            ),
            ("<script>var csrfToken = '{}'</script>", "csrfToken"),
            ("<script>a['csrf']={}</script>", "csrf"),
            ("<script>f(\"{\\\"csrf\\\":\\\"{}\\\"}\")</script>", "csrf"),
            ("<script>{\"csrf\": [\"{}\"]}</script>", "csrf"),
            ("<script>{\"csrf\": {\"v\": \"{}\"}}</script>", "csrf"),
            ("<!-- --!><input name=csrf value={}>-->", "input[name=csrf]"),
        ] {
            check(text, "1", "2", Some(place));
            check(text, "1", "", Some(place));
            check(text, A, B, Some(place));
            check(text, A, A, None);
        }
        // One copy has it, the other has not; and a difference before it hides nothing.
        check(
            "{}",
            "",
            "<input name=csrf value=1>",
            Some("input[name=csrf]"),
        );
        check(
            "{}",
            "<b>9\n\n</b><input name=csrf value=1>",
            "<i>10</i>\n<input name=csrf value=2>",
            Some("input[name=csrf]"),
        );
        check_of("application/json", "{\"csrf\": {}}", "1", "2", Some("csrf"));
        check_of(
            "application/xml",
            "<token>{}</token>",
            "1",
            "2",
            Some("token"),
        );
    }

    #[test]
    fn a_long_name_hides_nothing() {
        let long = format!("{}-csrf", "x".repeat(100));
        for text in [
            format!("<input name={long} value={{}}>"),
            format!("<i data-{long}={{}}>"),
            format!("<{long}>{{}}</{long}>"),
            format!("<script>x = {{'{long}': {{}}}}</script>"),
        ] {
            let got = judge(
                "text/html",
                ("<v>", "</v>"),
                &format!("<v>{text}</v>"),
                "1",
                "2",
            );
            assert!(matches!(got, Some(NotShared::MintsToken { .. })), "{text}");
        }
    }

    #[test]
    fn what_looks_drawn_by_lot_is_refused_in_attributes_and_strings() {
        for (text, place) in [
            ("<input name=x value={}>", "input[name=x]"),
            ("<input type=hidden name={} value=1>", "input[name]"),
            ("<form action=/post/{}>", "form[action]"),
            ("<script>var x = \"{}\"</script>", "x"),
        ] {
            check(text, A, B, Some(place));
            check(
                text,
                "550e8400-e29b-41d4-a716-446655440000",
                "1",
                Some(place),
            );
            check(text, "42", "43", None);
        }
        check(
            "<script>f('{}')</script>",
            A,
            B,
            Some("the text after `<v><script>f('`"),
        );
        check_of("application/json", "{\"x\": \"{}\"}", A, B, Some("x"));
        check_of(
            "application/json",
            "{\"x\": \"{}\"}",
            "10:03",
            "10:04",
            None,
        );
    }

    #[test]
    fn running_text_in_a_span_may_differ() {
        for (text, a, b) in [
            ("10:0{}", "3", "4"),
            ("generated by web-7 in {} ms", "9", "12"),
            ("generated for request {}", A, B),
            ("<!-- generated by {} -->", A, B),
            ("<p>Visitors: {}</p>", "1", "22"),
            ("<p>Tickets: {}</p>", "1", "22"),
            ("<input name=csrf>{}", "9", "12"),
            (
                "<time datetime='2026-07-01T10:0{}:00Z'>now</time>",
                "3",
                "4",
            ),
            (
                "<a href='/news/2026-07-0{}-a-walk-in-the-woods'>Latest</a>",
                "1",
                "2",
            ),
            (
                "<script>var made = '2026-07-01T10:0{}:00.000Z'</script>",
                "3",
                "4",
            ),
            ("{}", "<p>one</p>", "<ul><li>two</ul>"),
        ] {
            check(text, a, b, None);
        }
        check_of("text/plain", "made by {}", A, B, None);
        check("<!-- csrf: {} -->", A, B, Some("csrf"));
    }

    #[test]
    fn a_mark_may_stand_anywhere() {
        let form = "<body>{}<form><input name=csrf value={}></form></body>";
        let token = |place: &str| {
            Some(NotShared::MintsToken {
                place: place.into(),
            })
        };
        for (marks, text, expected) in [
            (("<body>", "</body>"), form, token("input[name=csrf]")),
            (
                ("value=", ">"),
                "<input name=csrf value={}>",
                token("input[name=csrf]"),
            ),
            (
                ("<input ", ">"),
                "<input name=csrf value={}>",
                token("input[name=csrf]"),
            ),
            (
                ("=\"", "\""),
                "<input value=\"{}\" name=csrf>",
                token("input[name=csrf]"),
            ),
            (
                ("csrf\":\"", "\""),
                "<script>{\"csrf\":\"{}\"}</script>",
                token("csrf"),
            ),
            (
                ("<b>", "</b>"),
                "<csrf-token><b>{}</b></csrf-token>",
                token("csrf-token"),
            ),
            (("<p>", "</p>"), "<p>{}</p><input name=csrf value=1>", None),
        ] {
            assert_eq!(
                judge("text/html", marks, text, "1", "2"),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_session_or_a_nonce_is_refused_in_a_span() {
        let session = |place: &str| {
            Some(NotShared::SessionInUrl {
                place: place.into(),
            })
        };
        let nonce = Some(NotShared::CarriesNonce);
        for (text, a, b, expected) in [
            ("<v><a href='/a?sid={}'></v>", A, B, session("sid")),
            ("<v><a href='/a?sid={}'></v>", "ab", "cd", session("sid")),
            (
                "<v><a href='/a?b&amp;zenid={}'></v>",
                "ab",
                "cd",
                session("zenid"),
            ),
            (
                "<v><a href='/a;jsessionid={}'></v>",
                A,
                A,
                session("jsessionid"),
            ),
            ("<v>go to /a?sid={}</v>", "ab", "cd", session("sid")),
            ("<v><script nonce={}></v>", "a", "b", nonce.clone()),
            ("<v><script nonce={}></v>", "a", "a", nonce),
        ] {
            let got = judge("text/html", ("<v>", "</v>"), text, a, b);
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn a_long_span_is_not_volatile() {
        for (length, admitted) in [(100, true), (4094, true), (4095, false), (10_000, false)] {
            let filler = "a ".repeat(length).chars().take(length).collect::<String>();
            let text = format!("<v>{filler}{{}}</v>");
            let got = judge("text/html", ("<v>", "</v>"), &text, "11", "22");
            assert_eq!(got.is_none(), admitted, "{length}: {got:?}");
        }
        // A later opening may still be one.
        let text = format!("<v>{}<v>{{}}</v>", "a ".repeat(4000));
        assert_eq!(judge("text/html", ("<v>", "</v>"), &text, "1", "2"), None);
        // What closes one span does not open the next.
        let got = judge("text/html", ("|", "|"), "a|{}|{}|z", "1", "2");
        assert!(
            matches!(got, Some(NotShared::CopiesDiffer { .. })),
            "{got:?}"
        );
    }
}
