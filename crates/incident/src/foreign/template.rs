//! Logs whose form is given as text: nginx's `log_format`, Apache's `LogFormat`, varnishncsa's format.
//!
//! Invariant: a line is read only as a whole. A variable ends where the literal after it first occurs, so two
//! variables with nothing between them are no form that can be read.

use std::borrow::Cow;

use super::time::Form;
use super::words::Word;
use super::{Bad, Field, FormatFault, SessionIn, Values};

/// How a form is written, and what its names mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Nginx,
    Apache,
    Varnish,
}

/// A form, ready to read lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
    escape: Escape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Value(Variable),
}

/// A variable of the form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    field: Field,
    /// What the form calls it: `remote_user`, `%u`, `%{X-Member}i`.
    name: String,
    /// The name of the cookie that it holds.
    cookie: Option<String>,
    /// It is not shorter: what it holds may have the literal after it within.
    bytes_min: usize,
}

/// How values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    /// `\x22`, and `\"` with Apache.
    Default,
    Json,
    None,
}

impl Template {
    /// Reads a form as it stands in a configuration: a whole `log_format` or `LogFormat` directive, its
    /// quoted parts, or the bare text.
    pub(super) fn of(dialect: Dialect, text: &str) -> Result<Self, FormatFault> {
        let (form, escape) = unwrapped(dialect, text.trim())?;
        let mut parts = Vec::new();
        match dialect {
            Dialect::Nginx => nginx_parts(&form, &mut parts)?,
            Dialect::Apache | Dialect::Varnish => apache_parts(dialect, &form, &mut parts)?,
        }
        let parts = joined(parts);
        let is_value = |part: &Part| matches!(part, Part::Value(_));
        if !parts.iter().any(is_value) {
            return Err(FormatFault::NoVariable);
        }
        if parts.windows(2).any(|pair| pair.iter().all(is_value)) {
            return Err(FormatFault::NothingBetween);
        }
        Ok(Self { parts, escape })
    }

    pub(super) fn values<'a>(
        &self,
        line: &'a [u8],
        session: &SessionIn,
    ) -> Result<Values<'a>, Bad> {
        let mut values = Vec::with_capacity(self.parts.len() / 2 + 1);
        let mut rest = line;
        for (at, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => {
                    rest = rest.strip_prefix(literal.as_slice()).ok_or(Bad::Form)?;
                }
                Part::Value(variable) => {
                    let value = match self.parts.get(at + 1) {
                        Some(Part::Literal(next)) => {
                            let is_last = at + 2 == self.parts.len();
                            let end = self.ends(rest, next, variable.bytes_min, is_last);
                            let (value, after) = rest.split_at(end.ok_or(Bad::Form)?);
                            rest = after;
                            value
                        }
                        _ => std::mem::take(&mut rest),
                    };
                    let field = variable.field_in(session);
                    values.push((field, self.escape.undo(value)));
                }
            }
        }
        match rest {
            b"" => Ok(values),
            _ => Err(Bad::Form),
        }
    }

    /// Where a value ends: before the literal after it, but not at a byte that is escaped.
    fn ends(&self, rest: &[u8], literal: &[u8], bytes_min: usize, is_last: bool) -> Option<usize> {
        let mut at = 0;
        while at + literal.len() <= rest.len() {
            let here = rest.get(at..)?;
            // The last literal is the line's end: the value may hold others like it.
            let ends = match is_last {
                true => here == literal,
                false => here.starts_with(literal),
            };
            if ends && at >= bytes_min {
                return Some(at);
            }
            let is_escape = here.first() == Some(&b'\\') && self.escape != Escape::None;
            at += if is_escape { 2 } else { 1 };
        }
        None
    }
}

impl Variable {
    const fn of(field: Field) -> Self {
        Self {
            field,
            name: String::new(),
            cookie: None,
            bytes_min: 0,
        }
    }

    fn called(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    fn field_in(&self, session: &SessionIn) -> Field {
        match (&self.cookie, session) {
            _ if session.is_in(&self.name) => Field::Cookie,
            (None, _) => self.field,
            (Some(name), SessionIn::Cookie(wanted)) if name == wanted => self.field,
            (Some(_), _) => Field::Ignored,
        }
    }
}

impl Escape {
    fn undo(self, value: &[u8]) -> Cow<'_, [u8]> {
        if self == Self::None || !value.contains(&b'\\') {
            return Cow::Borrowed(value);
        }
        let mut plain = Vec::with_capacity(value.len());
        let mut rest = value;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte != b'\\' {
                plain.push(*byte);
                continue;
            }
            let (letter, after) = rest.split_first().unwrap_or((&b'\\', b""));
            rest = after;
            let hex = |digits: usize| {
                let digits = str::from_utf8(after.get(..digits)?).ok()?;
                u32::from_str_radix(digits, 16).ok()
            };
            match (letter, hex(2), hex(4)) {
                (b'x', Some(code), _) => {
                    plain.push(u8::try_from(code).expect("two digits are a byte"));
                    rest = after.get(2..).unwrap_or_default();
                }
                (b'u', _, Some(code)) => {
                    let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                    plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = after.get(4..).unwrap_or_default();
                }
                (b'n', ..) => plain.push(b'\n'),
                (b't', ..) => plain.push(b'\t'),
                (b'r', ..) => plain.push(b'\r'),
                (other, ..) => plain.push(*other),
            }
        }
        Cow::Owned(plain)
    }
}

/// The form within a directive or its quotes, and how it is escaped.
fn unwrapped(dialect: Dialect, text: &str) -> Result<(String, Escape), FormatFault> {
    let mut rest = text;
    let mut escape = Escape::Default;
    for directive in ["log_format", "LogFormat"] {
        if let Some(after) = rest.strip_prefix(directive) {
            rest = after.trim_start();
            // nginx's has a name before the form, Apache's behind it.
            if directive == "log_format" {
                let name_ends = rest
                    .find(char::is_whitespace)
                    .ok_or(FormatFault::Directive)?;
                rest = rest.get(name_ends..).unwrap_or_default().trim_start();
            }
        }
    }
    if let Some(after) = rest.strip_prefix("escape=") {
        let ends = after
            .find(char::is_whitespace)
            .ok_or(FormatFault::Directive)?;
        escape = match after.get(..ends) {
            Some("json") => Escape::Json,
            Some("none") => Escape::None,
            Some("default") => Escape::Default,
            _ => return Err(FormatFault::Directive),
        };
        rest = after.get(ends..).unwrap_or_default().trim_start();
    }
    let Some(quote @ ('\'' | '"')) = rest.chars().next() else {
        return Ok((rest.to_owned(), escape));
    };
    // A bare form may begin with a quote of its own: `"$request" $status`.
    match quoted(rest) {
        Some(form) if dialect != Dialect::Apache || quote == '"' => Ok((form, escape)),
        _ => Ok((rest.to_owned(), escape)),
    }
}

/// The contents of one or more quoted strings, with nothing between them but blanks; after them a name or a
/// semicolon. `None` where the text is not that.
fn quoted(text: &str) -> Option<String> {
    let mut form = String::new();
    let mut rest = text.trim();
    let mut strings = 0;
    while let Some(quote @ ('\'' | '"')) = rest.chars().next() {
        let mut letters = rest.char_indices().skip(1);
        let end = loop {
            let (at, letter) = letters.next()?;
            match letter {
                '\\' => match letters.next()?.1 {
                    't' => form.push('\t'),
                    'n' => form.push('\n'),
                    other => form.push(other),
                },
                letter if letter == quote => break at,
                letter => form.push(letter),
            }
        };
        strings += 1;
        rest = rest.get(end + 1..)?.trim_start();
    }
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_-;".contains(letter);
    (strings > 0 && rest.chars().all(is_name)).then_some(form)
}

fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match (all.last_mut(), part) {
            (Some(Part::Literal(before)), Part::Literal(more)) => before.extend(more),
            (_, part) => all.push(part),
        }
    }
    all
}

fn nginx_parts(form: &str, parts: &mut Vec<Part>) -> Result<(), FormatFault> {
    let mut rest = form;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        parts.push(Part::Literal(before.into()));
        let after = after.get(1..).unwrap_or_default();
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let (name, next) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or(FormatFault::Directive)?,
            None => after.split_at(after.find(|it| !is_name(it)).unwrap_or(after.len())),
        };
        if name.is_empty() {
            return Err(FormatFault::Directive);
        }
        parts.push(Part::Value(nginx(name).called(name)));
        rest = next;
    }
    parts.push(Part::Literal(rest.into()));
    parts.retain(|part| *part != Part::Literal(Vec::new()));
    Ok(())
}

fn nginx(name: &str) -> Variable {
    if let Some(cookie) = name.strip_prefix("cookie_") {
        return Variable {
            cookie: Some(cookie.to_owned()),
            ..Variable::of(Field::Cookie)
        };
    }
    let sent = name
        .strip_prefix("sent_http_")
        .or_else(|| name.strip_prefix("upstream_http_"));
    if let Some(header) = sent {
        return Variable::of(response_header(header));
    }
    if let Some(header) = name.strip_prefix("http_") {
        return Variable::of(request_header(header));
    }
    match name {
        // It has blanks and colons of its own.
        "time_local" => Variable {
            bytes_min: "10/Oct/2000:13:55:36 -0700".len(),
            ..Variable::of(Field::Ended(Form::Common))
        },
        "time_iso8601" => Variable::of(Field::Ended(Form::Iso)),
        "msec" => Variable::of(Field::Ended(Form::Unix(1))),
        "request_time" => Variable::of(Field::Took {
            per_second: 1,
            step_ms: 1,
        }),
        "request" => Variable::of(Field::RequestLine),
        "request_method" => Variable::of(Field::Method),
        "request_uri" => Variable::of(Field::Target),
        "uri" | "document_uri" => Variable::of(Field::Path),
        "args" | "query_string" => Variable::of(Field::Query),
        "host" | "server_name" => Variable::of(Field::Host),
        "status" => Variable::of(Field::Status),
        "upstream_cache_status" => Variable::of(Field::Word(Word::Nginx)),
        "request_id" => Variable::of(Field::RequestId),
        "hostname" => Variable::of(Field::Edge),
        "remote_addr" => Variable::of(Field::Address),
        _ => Variable::of(Field::Ignored),
    }
}

/// A header by its name, in whatever spelling: `X-Amz-Cf-Id`, `x_amz_cf_id`.
pub(super) fn request_header(name: &str) -> Field {
    match plain(name).as_str() {
        "host" => Field::Host,
        "cookie" => Field::Cookies,
        "user-agent" => Field::Agent,
        // What caches give the origin with a request.
        "x-request-id" | "x-amz-cf-id" | "cf-ray" | "x-correlation-id" => Field::RequestId,
        "x-varnish" => Field::Fill,
        _ => Field::Ignored,
    }
}

pub(super) fn response_header(name: &str) -> Field {
    match plain(name).as_str() {
        "age" => Field::Age,
        "etag" => Field::Etag,
        "set-cookie" => Field::SetCookie,
        "x-cache" => Field::Word(Word::Apache),
        "x-varnish" => Field::XVarnish,
        "x-request-id" | "x-amz-cf-id" | "cf-ray" => Field::RequestId,
        _ => Field::Ignored,
    }
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn apache_parts(dialect: Dialect, form: &str, parts: &mut Vec<Part>) -> Result<(), FormatFault> {
    let mut rest = form;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        parts.push(Part::Literal(before.into()));
        let mut after = after.get(1..).unwrap_or_default();
        if let Some(next) = after.strip_prefix('%') {
            parts.push(Part::Literal(b"%".to_vec()));
            rest = next;
            continue;
        }
        // `%>s`, `%!200,304{Referer}i`: which request, and with which status.
        let is_modifier = |letter: char| letter.is_ascii_digit() || "<>!,".contains(letter);
        after = after.trim_start_matches(is_modifier);
        let argument = match after.strip_prefix('{') {
            Some(braced) => {
                let (argument, next) = braced.split_once('}').ok_or(FormatFault::Directive)?;
                after = next;
                Some(argument)
            }
            None => None,
        };
        let letter = after.chars().next().ok_or(FormatFault::Directive)?;
        after = after.get(letter.len_utf8()..).unwrap_or_default();
        // `%^FU`, of two letters.
        if letter == '^' {
            after = after.get(2..).ok_or(FormatFault::Directive)?;
        }
        let name = match argument {
            Some(argument) => format!("%{{{argument}}}{letter}"),
            None => format!("%{letter}"),
        };
        parts.push(Part::Value(apache(dialect, letter, argument).called(&name)));
        rest = after;
    }
    parts.push(Part::Literal(rest.into()));
    parts.retain(|part| *part != Part::Literal(Vec::new()));
    Ok(())
}

fn apache(dialect: Dialect, letter: char, argument: Option<&str>) -> Variable {
    let took = |per_second, step_ms| Field::Took {
        per_second,
        step_ms,
    };
    let field = match (letter, argument) {
        ('h' | 'a', _) => Field::Address,
        ('t', None) => {
            return Variable {
                bytes_min: "[10/Oct/2000:13:55:36 -0700]".len(),
                ..Variable::of(Field::Began(Form::Common))
            };
        }
        ('t', Some(form)) => {
            let (is_end, form) = match form.split_once(':') {
                Some(("end", form)) => (true, form),
                Some(("begin", form)) => (false, form),
                _ => (false, form),
            };
            let form = match form {
                "sec" | "%s" => Form::Unix(1),
                "msec" => Form::Unix(1000),
                "usec" => Form::Unix(1_000_000),
                "%Y-%m-%dT%H:%M:%S%z" | "%FT%T%z" | "%Y-%m-%dT%H:%M:%S" | "%FT%T" => Form::Iso,
                _ => return Variable::of(Field::Ignored),
            };
            if is_end {
                Field::Ended(form)
            } else {
                Field::Began(form)
            }
        }
        ('D', _) => took(1_000_000, 1),
        ('T', None | Some("s")) if dialect == Dialect::Apache => took(1, 1000),
        ('T', Some("ms")) => took(1000, 1),
        ('T', Some("us")) => took(1_000_000, 1),
        ('T', _) => took(1, 1000),
        ('r', _) => Field::RequestLine,
        ('m', _) => Field::Method,
        ('U', _) => Field::Path,
        ('q', _) => Field::Query,
        ('v' | 'V', _) => Field::Host,
        ('s', _) => Field::Status,
        ('C', Some(name)) => {
            return Variable {
                cookie: Some(name.to_owned()),
                ..Variable::of(Field::Cookie)
            };
        }
        ('i', Some(name)) => request_header(name),
        ('o', Some(name)) => response_header(name),
        ('e', Some("UNIQUE_ID")) => Field::RequestId,
        ('e', Some("cache-status")) => Field::Word(Word::Apache),
        ('x', Some("VSL:Link[2]")) => Field::Fetch,
        ('x', Some("Varnish:hitmiss" | "Varnish:handling")) => Field::Word(Word::Varnish),
        _ => Field::Ignored,
    };
    Variable::of(field)
}
