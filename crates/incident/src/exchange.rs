//! A timeline from a table and to other tools: CSV in, Timesketch's JSON lines out.
//!
//! What is read becomes entries of the timeline's own form, which are then appended like any other. A table
//! with a row that cannot be read is refused as a whole: half of a timeline is worse than none.

use std::fmt;

use serde_json::json;
use shikiri_record::{
    Actor, Entry, EntryFault, Seen, SiteChange, Status, TIMELINE_VERSION, UnixMillis, What,
};

use crate::civil::Zone;
use crate::foreign::time;
use crate::span::Span;
use crate::timeline::{View, plain};

/// A table has no more rows.
pub const ROWS_MAX: usize = 1 << 16;

/// Why a table is no timeline.
#[derive(Debug)]
pub struct TableFault {
    /// The row, from 1; the header is row 1.
    pub row: usize,
    /// What is wrong with it.
    pub why: RowFault,
}

/// What is wrong with a row.
#[derive(Debug)]
pub enum RowFault {
    /// A quote is opened and not closed, or stands within a value.
    Quotes,
    /// A column of this name is not known, or comes twice.
    Column(String),
    /// A column that must be there is not: `when` and `what`.
    NoColumn(&'static str),
    /// It has more values than the header, or fewer.
    Length,
    /// A time is none: `2020-03-16 12:24`, with seconds or an offset if there are any.
    Time(String),
    /// What happened is not known, or says two things that do not go together.
    What(String),
    /// A status is neither `provisional` nor `confirmed`.
    Status(String),
    /// What it supersedes is no number.
    Supersedes(String),
    /// The entry could not be written.
    Entry(EntryFault),
    /// There are more than [`ROWS_MAX`].
    TooMany,
}

const COLUMNS: [&str; 10] = [
    "when",
    "until",
    "what",
    "source",
    "status",
    "text",
    "supersedes",
    "who",
    "channel",
    "seen",
];

/// A time as people write it, as coarse as it is written: `12:24` is the whole minute.
#[must_use]
pub fn time_text(text: &str, zone: Zone) -> Option<Span> {
    let text = text.trim();
    let bytes = text.as_bytes();
    // The minute alone: with `:00` for its seconds it is a time that a log would write.
    let date_ends = text.find(['T', ' '])?;
    let of_day = bytes.get(date_ends + 1..)?;
    let time_ends = of_day
        .iter()
        .position(|it| !(it.is_ascii_digit() || matches!(it, b':' | b'.')));
    let (time, offset) = of_day.split_at(time_ends.unwrap_or(of_day.len()));
    let is_minute = time.iter().filter(|it| **it == b':').count() == 1;
    let seconds: &[u8] = if is_minute { b":00" } else { b"" };
    let whole = [time, seconds, offset].concat();
    let stamp = time::date_and_time(bytes.get(..date_ends)?, &whole, zone)?;
    let resolution_ms = if is_minute {
        60_000
    } else {
        stamp.resolution_ms
    };
    Some(Span::shown(stamp.at, resolution_ms))
}

/// A distance from UTC as people write it: `UTC`, `Z`, `+09:00`, `-0330`.
#[must_use]
pub fn zone_text(text: &str) -> Option<Zone> {
    match text.trim() {
        "UTC" | "Z" => Some(Zone::UTC),
        offset => time::of_offset(offset.as_bytes()),
    }
}

/// The entries that a table tells, in its order.
///
/// The first row names the columns: `when` and `what` must be there, `until`, `source`, `status`, `text`,
/// `supersedes`, `who`, `channel` and `seen` may. `what` is `reported`, `finding`, `passed`, `failed`, `stated`,
/// `corrected`, `withdrawn`, or changes of the site by their names with blanks between them; `who` is the
/// reporter's name, the finding's, the check's or the statement's.
///
/// # Errors
/// The first row that cannot be read.
pub fn from_csv(
    text: &str,
    zone: Zone,
    node: &str,
    actor: &Actor,
) -> Result<Vec<Entry>, TableFault> {
    let rows = rows(text)?;
    let mut rows = (1..).zip(rows);
    let Some((_, header)) = rows.next() else {
        return Ok(Vec::new());
    };
    let at = |row: usize| move |why: RowFault| TableFault { row, why };
    let columns = columns(&header).map_err(at(1))?;
    let mut entries = Vec::new();
    for (row, values) in rows {
        if values.len() != header.len() {
            return Err(at(row)(RowFault::Length));
        }
        let value = |name: &str| {
            let place = columns.iter().position(|column| *column == name)?;
            values
                .get(place)
                .map(|it| it.trim())
                .filter(|it| !it.is_empty())
        };
        let entry = entry(&value, zone, node, actor).map_err(at(row))?;
        entry.encode().map_err(RowFault::Entry).map_err(at(row))?;
        entries.push(entry);
    }
    Ok(entries)
}

fn columns(header: &[String]) -> Result<Vec<&'static str>, RowFault> {
    let mut columns: Vec<&'static str> = Vec::new();
    for name in header {
        let name = name.trim();
        let known = COLUMNS.into_iter().find(|column| *column == name);
        match known.filter(|known| !columns.contains(known)) {
            Some(known) => columns.push(known),
            None => return Err(RowFault::Column(name.to_owned())),
        }
    }
    let missing = ["when", "what"]
        .into_iter()
        .find(|name| !columns.contains(name));
    missing.map_or(Ok(columns), |name| Err(RowFault::NoColumn(name)))
}

fn entry<'a>(
    value: &impl Fn(&str) -> Option<&'a str>,
    zone: Zone,
    node: &str,
    actor: &Actor,
) -> Result<Entry, RowFault> {
    let span = |text: &str| time_text(text, zone).ok_or_else(|| RowFault::Time(text.to_owned()));
    let when = span(value("when").unwrap_or_default())?;
    let when = match value("until") {
        Some(until) => when.hull(span(until)?),
        None => when,
    };
    let supersedes = value("supersedes").map(|number| {
        let wrong = || RowFault::Supersedes(number.to_owned());
        number.parse::<u64>().map_err(|_| wrong())
    });
    let status = match value("status") {
        None | Some("confirmed") => Status::Confirmed,
        Some("provisional") => Status::Provisional,
        Some(other) => return Err(RowFault::Status(other.to_owned())),
    };
    Ok(Entry {
        version: TIMELINE_VERSION,
        earliest: when.earliest,
        latest: when.latest,
        node: node.to_owned(),
        actor: actor.clone(),
        source: value("source").unwrap_or("operator").to_owned(),
        status,
        what: what(value, &span)?,
        text: value("text").unwrap_or_default().to_owned(),
        supersedes: supersedes.transpose()?,
    })
}

fn what<'a>(
    value: &impl Fn(&str) -> Option<&'a str>,
    span: &impl Fn(&str) -> Result<Span, RowFault>,
) -> Result<What, RowFault> {
    let what = value("what").unwrap_or_default();
    let wrong = || RowFault::What(what.to_owned());
    let who = || value("who").map(str::to_owned).ok_or_else(wrong);
    let corrects = |what: What| match value("supersedes") {
        Some(_) => Ok(what),
        None => Err(wrong()),
    };
    Ok(match what {
        "reported" => What::Reported {
            reporter: who()?,
            channel: value("channel").unwrap_or_default().to_owned(),
            seen: match value("seen") {
                Some(seen) => {
                    let Span { earliest, latest } = span(seen)?;
                    Some(Seen { earliest, latest })
                }
                None => None,
            },
        },
        "finding" => What::Finding { finding: who()? },
        "passed" | "failed" => What::Checked {
            check: who()?,
            passed: what == "passed",
        },
        "stated" => What::Stated { name: who()? },
        "corrected" => corrects(What::Corrected {})?,
        "withdrawn" => corrects(What::Withdrawn {})?,
        changes => {
            let mut found = Vec::new();
            for name in changes.split_ascii_whitespace() {
                // The names are those of the timeline's own form.
                let change = serde_json::from_value::<SiteChange>(json!(name));
                found.push(change.map_err(|_| wrong())?);
            }
            if found.is_empty() {
                return Err(wrong());
            }
            What::SiteChanged { changes: found }
        }
    })
}

/// The rows of a table (RFC 4180): commas between values, quotes around those that hold one.
fn rows(text: &str) -> Result<Vec<Vec<String>>, TableFault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut value = String::new();
    let mut letters = text.chars().peekable();
    let mut is_quoted = false;
    let mut was_quoted = false;
    let fault = |rows: &[Vec<String>], why| TableFault {
        row: rows.len() + 1,
        why,
    };
    loop {
        let letter = letters.next();
        match letter {
            Some('"') if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                value.push('"');
            }
            Some('"') if is_quoted => is_quoted = false,
            Some('"') if value.is_empty() && !was_quoted => (is_quoted, was_quoted) = (true, true),
            Some('"') => return Err(fault(&rows, RowFault::Quotes)),
            None if is_quoted => return Err(fault(&rows, RowFault::Quotes)),
            Some(letter) if is_quoted => value.push(letter),
            Some(',') => {
                row.push(std::mem::take(&mut value));
                was_quoted = false;
            }
            Some('\r') if letters.peek() == Some(&'\n') => {}
            Some('\n') | None => {
                row.push(std::mem::take(&mut value));
                was_quoted = false;
                let full = std::mem::take(&mut row);
                let is_empty = full.len() == 1 && full[0].trim().is_empty();
                if !is_empty {
                    rows.push(full);
                }
                if rows.len() > ROWS_MAX {
                    return Err(fault(&rows, RowFault::TooMany));
                }
                if letter.is_none() {
                    return Ok(rows);
                }
            }
            Some(_) if was_quoted => return Err(fault(&rows, RowFault::Quotes)),
            Some(letter) => value.push(letter),
        }
    }
}

/// What stands, as lines for Timesketch: `message`, `datetime` and `timestamp_desc`, twice where it is an
/// interval, with what else is known beside them.
#[must_use]
pub fn to_timesketch(view: &View<'_>) -> String {
    let mut lines = String::new();
    for it in view.standing() {
        let event = it.event;
        let changes: Vec<String> = it.changes.iter().map(|it| it.to_string()).collect();
        let words = [changes.join(", "), event.text.clone()];
        let words: Vec<String> = words.into_iter().filter(|it| !it.is_empty()).collect();
        let message = plain(&words.join(": "));
        let ends = [
            (event.when.earliest, "earliest"),
            (event.when.latest, "latest"),
        ];
        let is_known = event.when.earliest == event.when.latest;
        let ends = if is_known { &ends[..1] } else { &ends[..] };
        for (at, name) in ends {
            let description = if is_known { "at" } else { name };
            let line = json!({
                "message": message,
                "datetime": iso(*at),
                "timestamp_desc": description,
                "source": event.source,
                "entry": event.number,
                "status": event.status,
                "supersedes": event.supersedes,
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
    }
    lines
}

fn iso(at: UnixMillis) -> String {
    let civil = Zone::UTC.civil(at);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}+00:00",
        civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second, civil.milli
    )
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}: {}", self.row, self.why)
    }
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quotes => f.write_str("a quote is not closed, or stands within a value"),
            Self::Column(name) => write!(
                f,
                "`{name}` is no column, or comes twice: there are {}",
                COLUMNS.join(", ")
            ),
            Self::NoColumn(name) => write!(f, "there is no column `{name}`"),
            Self::Length => f.write_str("it has not as many values as the header"),
            Self::Time(text) => write!(f, "`{text}` is no time: write `2020-03-16 12:24`"),
            Self::What(text) => write!(f, "`{text}` is nothing that can have happened like this"),
            Self::Status(text) => write!(f, "`{text}` is neither `provisional` nor `confirmed`"),
            Self::Supersedes(text) => write!(f, "`{text}` is no number of an entry"),
            Self::Entry(fault) => fault.fmt(f),
            Self::TooMany => write!(f, "there are more than {ROWS_MAX} rows"),
        }
    }
}

impl std::error::Error for TableFault {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::{Event, Timeline};

    fn read(table: &str) -> Result<Vec<Entry>, String> {
        let actor = Actor::Person {
            name: "sato".into(),
        };
        from_csv(table, Zone::JST, "desk", &actor).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_table_becomes_entries() {
        let table = "\u{feff}when,until,what,who,channel,source,status,text,supersedes,seen\r\n\
            2020-03-16 19:23,,cache_in_front,,,operator,provisional,\"the CDN, taken into use\",,\r\n\
            \r\n\
            2020-03-16 22:50,,reported,the card processor,telephone,,,\"\"\"I became somebody else\"\"\",,2020-03-16 22:40\n\
            2020-03-16T22:57,2020-03-17T03:21:30+09:00,measure,,,,,,,\n\
            2020-03-16 12:24:00,,cache_in_front opened,,,,,,0,\n\
            2020-03-19 12:00,,stated,N1,,,,,,";
        let entries = read(table).expect("it is a table");
        assert_eq!(entries.len(), 5);
        let minute = Zone::JST
            .instant((2020, 3, 16), (19, 23, 0))
            .expect("a time");
        assert_eq!(entries[0].earliest, minute);
        assert_eq!(entries[0].latest.0, minute.0 + 59_999);
        assert_eq!(entries[0].status, Status::Provisional);
        assert_eq!(entries[0].text, "the CDN, taken into use");
        assert_eq!(entries[1].text, "\"I became somebody else\"");
        assert!(matches!(
            &entries[1].what,
            What::Reported { seen: Some(_), .. }
        ));
        let third = Zone::JST
            .instant((2020, 3, 17), (3, 21, 30))
            .expect("a time");
        assert_eq!(entries[2].latest.0, third.0 + 999);
        assert_eq!(entries[3].supersedes, Some(0));
        assert_eq!(
            entries[3].what,
            What::SiteChanged {
                changes: vec![SiteChange::CacheInFront, SiteChange::Opened],
            }
        );
        assert_eq!(entries[3].latest.0 - entries[3].earliest.0, 999);
    }

    #[test]
    fn a_table_with_a_row_that_cannot_be_read_is_refused() {
        for (table, expected) in [
            (
                "when,what\nx,opened",
                "row 2: `x` is no time: write `2020-03-16 12:24`",
            ),
            (
                "when,what\n2020-02-30 12:00,opened",
                "row 2: `2020-02-30 12:00` is no time: write `2020-03-16 12:24`",
            ),
            (
                "when,what\n2020-03-16 12:24,vanished",
                "row 2: `vanished` is nothing that can have happened like this",
            ),
            (
                "when,what\n2020-03-16 12:24,",
                "row 2: `` is nothing that can have happened like this",
            ),
            (
                "when,what\n2020-03-16 12:24,reported",
                "row 2: `reported` is nothing that can have happened like this",
            ),
            (
                "when,what\n2020-03-16 12:24,corrected",
                "row 2: `corrected` is nothing that can have happened like this",
            ),
            (
                "when,what\n2020-03-16 12:24",
                "row 2: it has not as many values as the header",
            ),
            ("when\n2020-03-16 12:24", "row 1: there is no column `what`"),
            (
                "when,what,status\n2020-03-16 12:24,opened,sure",
                "row 2: `sure` is neither `provisional` nor `confirmed`",
            ),
            (
                "when,what,supersedes\n2020-03-16 12:24,opened,x",
                "row 2: `x` is no number of an entry",
            ),
            (
                "when,what,text\n2020-03-16 12:24,opened,\"a",
                "row 2: a quote is not closed, or stands within a value",
            ),
            (
                "when,what,text\n2020-03-16 12:24,opened,a\"b",
                "row 2: a quote is not closed, or stands within a value",
            ),
            (
                "when,what,text\n2020-03-16 12:24,opened,\"a\"b",
                "row 2: a quote is not closed, or stands within a value",
            ),
        ] {
            assert_eq!(read(table), Err(expected.into()), "{table}");
        }
        assert!(read("when,when,what\n").is_err());
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn what_stands_goes_to_timesketch() {
        let table = "when,what,text\n2020-03-16 12:24,opened,\"the \"\"shop\"\"\n again\"";
        let entries = read(table).expect("it is a table");
        let events = (1..).zip(&entries);
        let event = |(number, entry)| Event::of_entry(number, UnixMillis(0), entry);
        let timeline = Timeline::new(events.map(event).collect()).expect("its numbers grow");
        assert_eq!(
            to_timesketch(&timeline.now()),
            concat!(
                r#"{"datetime":"2020-03-16T03:24:00.000+00:00","entry":1,"message":"open: the \"shop\"  again","source":"operator","status":"confirmed","supersedes":null,"timestamp_desc":"earliest"}"#,
                "\n",
                r#"{"datetime":"2020-03-16T03:24:59.999+00:00","entry":1,"message":"open: the \"shop\"  again","source":"operator","status":"confirmed","supersedes":null,"timestamp_desc":"latest"}"#,
                "\n",
            )
        );
    }
}
