//! Logs that name their own fields: CloudFront's, and other extended logs (W3C).
//!
//! A line `#Fields: date time …` says what the lines after it hold.

use super::time::Form;
use super::words::Word;
use super::{Bad, Field, SessionIn, Values};

/// What the lines hold, once a line has said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct W3c {
    fields: Vec<(String, Field)>,
}

impl W3c {
    /// Lines that no line names the fields of, by their names.
    pub(super) fn of(names: &str) -> Self {
        let names = names.split([' ', '\t', '\n', ',']);
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        Self {
            fields: names.map(|name| named(name.as_bytes())).collect(),
        }
    }

    /// Whether anything is told.
    pub(super) fn tells_nothing(&self) -> bool {
        self.fields
            .iter()
            .all(|(_, field)| *field == Field::Ignored)
    }

    pub(super) fn values<'a>(
        &mut self,
        line: &'a [u8],
        session: &SessionIn,
    ) -> Result<Option<Values<'a>>, Bad> {
        if let Some(header) = line.strip_prefix(b"#") {
            if let Some(names) = header.strip_prefix(b"Fields:") {
                let names = names.split(u8::is_ascii_whitespace);
                let names = names.filter(|name| !name.is_empty());
                self.fields = names.map(named).collect();
            }
            return Ok(None);
        }
        // CloudFront's have tabs between them; others blanks, and no blank within.
        let separator = if line.contains(&b'\t') { b'\t' } else { b' ' };
        let values: Vec<&[u8]> = line.split(|it| *it == separator).collect();
        if self.fields.is_empty() || values.len() != self.fields.len() {
            return Err(Bad::Form);
        }
        let told = self.fields.iter().zip(values);
        let told = told.map(|((name, field), value)| match field {
            _ if session.is_in(name) => (Field::Cookie, percent_decoded(value).into()),
            // CloudFront escapes what would break a line.
            Field::Cookies | Field::Agent => (*field, percent_decoded(value).into()),
            field => (*field, value.into()),
        });
        Ok(Some(told.collect()))
    }
}

fn named(name: &[u8]) -> (String, Field) {
    (String::from_utf8_lossy(name).into_owned(), field(name))
}

fn field(name: &[u8]) -> Field {
    match name {
        b"date" => Field::Date,
        b"time" => Field::TimeOfDay,
        b"timestamp" => Field::Ended(Form::Any),
        b"timestamp(ms)" => Field::Ended(Form::Unix(1000)),
        b"time-taken" => Field::Took {
            per_second: 1,
            step_ms: 1,
        },
        b"x-edge-location" => Field::Edge,
        b"c-ip" => Field::Address,
        b"cs-method" => Field::Method,
        b"x-host-header" | b"cs-host" => Field::Host,
        b"cs-uri-stem" => Field::Path,
        b"cs-uri-query" => Field::Query,
        b"sc-status" => Field::Status,
        b"cs(User-Agent)" | b"cs-user-agent" => Field::Agent,
        b"cs(Cookie)" | b"cs-cookie" => Field::Cookies,
        // What the response was, after whatever rewrote it: the other one is the lookup's.
        b"x-edge-result-type" => Field::Word(Word::CloudFront),
        b"x-edge-request-id" => Field::RequestId,
        _ => Field::Ignored,
    }
}

pub(super) fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                plain.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    plain
}
