//! Varnish's own log (VSL) as text: what `varnishlog` prints, grouped or raw.
//!
//! A transaction is many lines, and `End` is its last: the line that tells a request. A client's transaction names the
//! object that it was answered from, and a fetch its own number, so nothing need be inferred from times. Fetches that
//! no client waited for have transactions, too.
//!
//! Never more than [`OPEN_MAX`] transactions are held, and of each only what tells something.
//!
//! Invariant: a transaction of which lines are lacking is told as bad, and never as a request.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::template::{request_header, response_header};
use super::time::Form;
use super::words::Word;
use super::{Bad, Field, SessionIn, Values, split_once};

/// No more transactions are open at once. Varnish's clients are fewer, and its own tools keep a thousand.
const OPEN_MAX: usize = 1 << 16;

/// No transaction tells more.
const VALUES_MAX: usize = 512;

/// Whose transactions tell requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Clients': requests at the cache.
    Client,
    /// Its own, of backends: requests at the origin.
    Backend,
}

/// The transactions of a log, as far as they are read.
#[derive(Clone, Debug)]
pub(super) struct Vsl {
    side: Side,
    open: BTreeMap<u64, Transaction>,
    /// The one whose lines follow, where they are grouped.
    group: u64,
}

/// A transaction, as it is read.
#[derive(Clone, Debug, Default)]
struct Transaction {
    /// Whose it is; `None` where its beginning was not read.
    side: Option<Side>,
    values: Vec<(Field, Vec<u8>)>,
    /// What the last subroutine that decides says of where the response came from.
    handling: Option<&'static str>,
    /// The request goes on as another transaction, or is no response of its own.
    is_no_response: bool,
    /// Lines of it are lacking.
    is_torn: bool,
}

/// One line: a record of a transaction.
struct Record<'a> {
    id: u64,
    tag: &'a [u8],
    data: &'a [u8],
}

impl Vsl {
    pub(super) const fn of(side: Side) -> Self {
        Self {
            side,
            open: BTreeMap::new(),
            group: 0,
        }
    }

    /// What the line tells: a request, where it ends a transaction.
    pub(super) fn values(
        &mut self,
        line: &[u8],
        session: &SessionIn,
    ) -> Result<Option<Values<'static>>, Bad> {
        if line.first() == Some(&b'*') {
            self.group = heading(line).ok_or(Bad::Form)?;
            return Ok(None);
        }
        let Some(record) = self.record(line) else {
            return Err(Bad::Form);
        };
        // What belongs to no transaction: the beginning and the end of processes, backends' health.
        if record.id == 0 {
            return Ok(None);
        }
        if record.tag == b"End" {
            let Some(mut ended) = self.open.remove(&record.id) else {
                return Err(Bad::Form);
            };
            ended.is_torn |= record.data == b"synth";
            return ended.told(self.side, record.id);
        }
        let is_new = !self.open.contains_key(&record.id);
        if is_new && self.open.len() >= OPEN_MAX {
            // The oldest: its end is lacking, or it outlives whatever it could be held against.
            self.open.pop_first();
            return Err(Bad::Form);
        }
        let transaction = self.open.entry(record.id).or_default();
        transaction.take(&record, session);
        Ok(None)
    }

    /// ```text
    ///      32770 ReqMethod      c GET
    /// -   ReqMethod      GET
    /// --      32770 ReqMethod      c GET
    /// ```
    fn record<'a>(&self, line: &'a [u8]) -> Option<Record<'a>> {
        let is_grouped = line.first() == Some(&b'-');
        let rest = if is_grouped { word(line).1 } else { line };
        let (first, after) = word(rest);
        if is_grouped && !first.iter().all(u8::is_ascii_digit) {
            return Some(Record {
                id: self.group,
                tag: first,
                data: after,
            });
        }
        let (tag, after) = word(after);
        let (side, after) = word(after);
        matches!(side, b"c" | b"b" | b"-").then_some(Record {
            id: super::time::whole(first)?,
            tag,
            data: after,
        })
    }
}

impl Transaction {
    fn take(&mut self, record: &Record<'_>, session: &SessionIn) {
        let data = record.data;
        match record.tag {
            b"Begin" => self.begin(data),
            // The log's own reader lost lines.
            b"VSL" => self.is_torn = true,
            b"ReqStart" => self.tell(Field::Address, word(data).0),
            b"ReqMethod" | b"BereqMethod" => self.tell_last(Field::Method, data),
            b"ReqURL" | b"BereqURL" => self.tell_last(Field::Target, data),
            b"ReqHeader" | b"BereqHeader" => self.header(data, session, request_header),
            b"RespHeader" => self.header(data, session, response_header),
            b"RespStatus" => self.tell_last(Field::Status, data),
            // What the origin said; what Varnish makes of a 304 follows.
            b"BerespStatus" => self.tell_first(Field::Status, data),
            b"Timestamp" => self.timestamp(data),
            b"Hit" => self.tell_last(Field::Fill, word(data).0),
            b"Link" => {
                let (kind, rest) = word(data);
                let (id, rest) = word(rest);
                match (kind, word(rest).0) {
                    // Behind the response: its own transaction tells it.
                    (b"bereq", b"bgfetch") => {}
                    (b"bereq", _) => self.tell_last(Field::Fetch, id),
                    _ => {}
                }
            }
            b"VCL_call" => {
                self.handling = match data {
                    b"HIT" => Some("hit"),
                    b"MISS" => Some("miss"),
                    b"PASS" => Some("pass"),
                    b"SYNTH" => Some("synth"),
                    _ => self.handling,
                }
            }
            b"VCL_return" => match data {
                b"pipe" => self.handling = Some("pipe"),
                b"restart" | b"retry" => self.is_no_response = true,
                _ => {}
            },
            _ => {}
        }
    }

    fn begin(&mut self, data: &[u8]) {
        let (kind, rest) = word(data);
        let (parent, _) = word(rest);
        self.side = match kind {
            b"req" => Some(Side::Client),
            b"bereq" => Some(Side::Backend),
            _ => {
                self.is_no_response = true;
                Some(Side::Client)
            }
        };
        // A fetch has the request's id that it was begun by.
        if self.side == Some(Side::Backend) {
            self.tell(Field::RequestId, parent);
            if word(rest.get(parent.len()..).unwrap_or_default()).0 == b"bgfetch" {
                self.tell(Field::AsksAfterShown, b"bgfetch");
            }
        }
    }

    fn header(&mut self, data: &[u8], session: &SessionIn, of: fn(&str) -> Field) {
        let Some((name, value)) = split_once(data, b':') else {
            return;
        };
        let Ok(name) = str::from_utf8(name) else {
            return;
        };
        let value = value.trim_ascii();
        let is_asked_for = matches!(session, SessionIn::Field(it) | SessionIn::Member(it) if it.eq_ignore_ascii_case(name));
        if is_asked_for {
            self.tell_first(Field::Cookie, value);
        }
        match of(name) {
            // Its own number tells better than what it says of it.
            Field::Fill | Field::XVarnish | Field::RequestId | Field::Word(_) => {}
            // The site's own rules may give the request another.
            Field::Host => self.tell_last(Field::Host, value),
            // And take away what the client showed.
            field => self.tell_first(field, value),
        }
    }

    /// `Start: 1584329000.123456 0.000000 0.000000`
    fn timestamp(&mut self, data: &[u8]) {
        let (event, rest) = word(data);
        let (at, _) = word(rest);
        match event {
            b"Start:" => self.tell_first(Field::Began(Form::Unix(1)), at),
            _ => self.tell_last(Field::Ended(Form::Unix(1)), at),
        }
    }

    fn tell(&mut self, field: Field, value: &[u8]) {
        if self.values.len() == VALUES_MAX {
            self.is_torn = true;
            return;
        }
        self.values.push((field, value.to_vec()));
    }

    fn tell_first(&mut self, field: Field, value: &[u8]) {
        if !self.values.iter().any(|(told, _)| *told == field) {
            self.tell(field, value);
        }
    }

    fn tell_last(&mut self, field: Field, value: &[u8]) {
        match self.values.iter_mut().find(|(told, _)| *told == field) {
            Some((_, told)) => *told = value.to_vec(),
            None => self.tell(field, value),
        }
    }

    /// What it told, once it is over; nothing, where it is not of the side that is read.
    fn told(mut self, side: Side, id: u64) -> Result<Option<Values<'static>>, Bad> {
        // Without its beginning, nobody knows whose it was.
        let Some(own) = self.side.filter(|_| !self.is_torn) else {
            return Err(Bad::Form);
        };
        if own != side || self.is_no_response {
            return Ok(None);
        }
        let id = id.to_string();
        match side {
            Side::Client => {
                self.tell(Field::RequestId, id.as_bytes());
                // A session that ended before its request was read tells nothing.
                if !self.values.iter().any(|(told, _)| *told == Field::Target) {
                    return Ok(None);
                }
                let handling = self.handling.unwrap_or("synth");
                self.tell(Field::Word(Word::Varnish), handling.as_bytes());
            }
            Side::Backend => self.tell(Field::Fill, id.as_bytes()),
        }
        // A request without cookies showed none.
        self.tell_first(Field::Cookies, b"");
        let values = self.values.into_iter();
        Ok(Some(
            values
                .map(|(field, value)| (field, Cow::Owned(value)))
                .collect(),
        ))
    }
}

/// `*   << Request  >> 32770`
fn heading(line: &[u8]) -> Option<u64> {
    let at = super::find(line, b">>")?;
    super::time::whole(line.get(at + 2..)?.trim_ascii())
}

/// The first word, and what follows the blanks after it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let ends = text.iter().position(|it| *it == b' ').unwrap_or(text.len());
    let (word, rest) = text.split_at(ends);
    (word, rest.trim_ascii_start())
}
