//! Answers as people and programs read them.
//!
//! Never prints a tag that was not asked for: names come from [`Names`]. Invariant: an answer is written as it comes; nothing of it
//! is held but counts.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use shikiri_archive::who::{AnswerFile, Line, Served};
use shikiri_incident::whose::Whose;
use shikiri_record::Ended;

use super::Shown;
use super::asked::{Names, hex};
use super::sources::tell;
use crate::rows::instant;

/// How it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Table,
    Csv,
    Json,
    Parquet,
}

impl Form {
    pub(super) const fn of(shown: &Shown) -> Self {
        match (shown.csv, shown.json, &shown.parquet) {
            (true, ..) => Self::Csv,
            (_, true, _) => Self::Json,
            (.., Some(_)) => Self::Parquet,
            _ => Self::Table,
        }
    }
}

/// Standard output, or a file.
pub(super) struct Out {
    form: Form,
    file: Option<Kept>,
    has_head: bool,
    widths: Vec<usize>,
    out: BufWriter<StdoutLock<'static>>,
    line: String,
}

/// The columns of responses.
const COLUMNS: &str = "node,began,viewer,viewer_member,whose,owner,object,fill,class,page,method,outcome,status,\
                       bytes,ended,address,boot,lane,sequence";

impl Out {
    /// Where an answer goes.
    pub(super) fn new(shown: &Shown) -> Result<Self, String> {
        let form = Form::of(shown);
        let kept = |path: &PathBuf| Kept::new(path);
        Ok(Self {
            form,
            file: shown.parquet.as_ref().map(kept).transpose()?,
            has_head: false,
            widths: Vec::new(),
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            line: String::new(),
        })
    }

    pub(super) fn rows_begin(&mut self) {
        self.line.clear();
        match self.form {
            Form::Table => self.line.push_str(
                "BEGAN                     VIEWER  MEMBER  WHOSE       OWNER   CLASS     STATUS OUTCOME    BYTES     ENDED     OBJECT",
            ),
            Form::Csv => self.line.push_str(COLUMNS),
            Form::Json | Form::Parquet => return,
        }
        self.line.push('\n');
        // A failure shows with the first line.
        drop(self.out.write_all(self.line.as_bytes()));
    }

    /// `false` when nobody reads any more.
    pub(super) fn row(&mut self, row: &Served, names: &mut Names) -> Result<bool, String> {
        let whose = Whose::of(row.owner, row.viewer_member).name();
        let maybe = |name: Option<Result<String, String>>| name.transpose();
        let viewer = maybe(row.viewer.map(|tag| names.tag('v', tag.0)))?;
        let member = maybe(row.viewer_member.map(|tag| names.member(tag.0)))?;
        let owner = maybe(row.owner.map(|tag| names.member(tag.0)))?;
        let object = names.target(row.target.0)?;
        let fill = row.fill.map(|id| id.to_string());
        let ended = row.ended.map(Ended::name);
        let began = instant(row.began);
        let line = &mut self.line;
        line.clear();
        let put = match self.form {
            Form::Table => {
                let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                let bytes = row.bytes.map_or_else(|| "?".to_owned(), |n| n.to_string());
                writeln!(
                    line,
                    "{began:<25} {:<7} {:<7} {whose:<11} {:<7} {:<9} {:<6} {:<10} {bytes:<9} {:<9} {object}",
                    or(&viewer),
                    or(&member),
                    or(&owner),
                    row.class,
                    row.status,
                    row.outcome.name(),
                    ended.unwrap_or("not told"),
                )
            }
            Form::Csv => {
                let address = names.tag('a', row.address.0)?;
                let text = |text: &Option<String>| {
                    text.as_deref()
                        .map_or_else(String::new, |it| quoted(it).into_owned())
                };
                writeln!(
                    line,
                    "{},{began},{},{},{whose},{},{},{},{},{},{},{},{},{},{},{address},{:032x},{},{}",
                    quoted(&row.node),
                    text(&viewer),
                    text(&member),
                    text(&owner),
                    quoted(&object),
                    text(&fill),
                    quoted(&row.class),
                    quoted(row.page.as_deref().unwrap_or_default()),
                    quoted(&row.method),
                    row.outcome.name(),
                    row.status,
                    row.bytes.map(|n| n.to_string()).unwrap_or_default(),
                    ended.unwrap_or_default(),
                    u128::from_be_bytes(row.boot.0),
                    row.lane,
                    row.sequence
                )
            }
            Form::Json => {
                let value = json!({
                    "node": &*row.node,
                    "began": began,
                    "viewer": viewer,
                    "viewer_member": member,
                    "whose": whose,
                    "owner": owner,
                    "object": object,
                    "fill": fill,
                    "class": &*row.class,
                    "page": row.page.as_deref(),
                    "method": &*row.method,
                    "outcome": row.outcome.name(),
                    "status": row.status,
                    "bytes": row.bytes,
                    "ended": ended,
                    "address": names.tag('a', row.address.0)?,
                    "boot": hex(row.boot.0),
                    "lane": row.lane,
                    "sequence": row.sequence,
                });
                writeln!(line, "{value}")
            }
            Form::Parquet => {
                let text = |text: &str| Some(text.to_owned());
                let kept = self.file.as_mut().expect("its file was named");
                return kept.line(Line {
                    texts: [
                        text(&row.node),
                        viewer,
                        member,
                        text(whose),
                        owner,
                        Some(object),
                        fill,
                        text(&row.class),
                        row.page.as_deref().and_then(text),
                        text(&row.method),
                        text(row.outcome.name()),
                        ended.and_then(text),
                        Some(names.tag('a', row.address.0)?),
                        Some(hex(row.boot.0)),
                    ],
                    began: row.began.0.cast_signed(),
                    status: row.status.into(),
                    bytes: row.bytes.map(u64::cast_signed),
                    lane: row.lane.into(),
                    sequence: row.sequence.cast_signed(),
                });
            }
        };
        put.expect("a string can be written to");
        goes_on(self.out.write_all(line.as_bytes()))
    }

    /// A line that is no response, as a table's cells and as JSON.
    pub(super) fn cells(&mut self, cells: &[(&'static str, Value)]) -> Result<bool, String> {
        self.line.clear();
        match self.form {
            Form::Json => {
                let all: Map<String, Value> = cells
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect();
                self.line = Value::Object(all).to_string();
            }
            form => {
                if !std::mem::replace(&mut self.has_head, true) {
                    let names: Vec<&str> = cells.iter().map(|(name, _)| *name).collect();
                    // As wide as the first line needs.
                    let width = |(name, value): &(&str, Value)| name.len().max(text(value).len());
                    self.widths = cells.iter().map(width).collect();
                    self.line = match form {
                        Form::Csv => names.join(","),
                        _ => table(&self.widths, names.iter().map(|name| name.to_uppercase())),
                    };
                    self.line.push('\n');
                }
                let texts = cells.iter().map(|(_, value)| text(value));
                match form {
                    Form::Csv => {
                        let nulls = cells.iter().map(|(_, value)| value.is_null());
                        let texts: Vec<String> = texts
                            .zip(nulls)
                            .map(|(text, is_null)| match is_null {
                                true => String::new(),
                                false => quoted(&text).into_owned(),
                            })
                            .collect();
                        self.line.push_str(&texts.join(","));
                    }
                    _ => self.line.push_str(&table(&self.widths, texts)),
                }
            }
        }
        self.line.push('\n');
        goes_on(self.out.write_all(self.line.as_bytes()))
    }

    /// Viewers, each once.
    pub(super) fn viewers(&mut self, tags: &[[u8; 16]]) -> Result<(), String> {
        if self.form == Form::Csv && !goes_on(self.out.write_all(b"viewer\n"))? {
            return Ok(());
        }
        for tag in tags {
            self.line.clear();
            let put = match self.form {
                Form::Json => writeln!(self.line, "{{\"viewer\":\"{}\"}}", hex(*tag)),
                _ => writeln!(self.line, "{}", hex(*tag)),
            };
            put.expect("a string can be written to");
            if !goes_on(self.out.write_all(self.line.as_bytes()))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The answer is over. What sums it up stands under a table, and beside lines for programs.
    pub(super) fn end(mut self, summary: &str) -> Result<(), String> {
        if self.form == Form::Table {
            goes_on(writeln!(self.out, "{summary}"))?;
        }
        goes_on(self.out.flush())?;
        if let Some(file) = self.file {
            file.finish()?;
        }
        if self.form != Form::Table {
            tell(summary);
        }
        Ok(())
    }
}

/// A file that an answer goes to.
struct Kept {
    path: PathBuf,
    file: AnswerFile<BufWriter<File>>,
}

impl Kept {
    /// It must not be there yet, and is its owner's alone.
    fn new(path: &Path) -> Result<Self, String> {
        let wrong =
            |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| wrong(&error))?;
        Ok(Self {
            path: path.to_owned(),
            file: AnswerFile::new(BufWriter::new(file)).map_err(|error| wrong(&error))?,
        })
    }

    fn line(&mut self, line: Line) -> Result<bool, String> {
        let wrong = |error| format!("cannot write {}: {error}", self.path.display());
        self.file.line(line).map(|()| true).map_err(wrong)
    }

    fn finish(self) -> Result<(), String> {
        let wrong = |error: &dyn std::fmt::Display| {
            format!("cannot write {}: {error}", self.path.display())
        };
        let out = self.file.finish().map_err(|error| wrong(&error))?;
        let file = out.into_inner().map_err(|error| wrong(error.error()))?;
        file.sync_all().map_err(|error| wrong(&error))
    }
}

/// A value without quotes.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The cells of a table's line.
fn table(widths: &[usize], cells: impl Iterator<Item = String>) -> String {
    let cells = cells
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"));
    cells
        .collect::<Vec<String>>()
        .join("  ")
        .trim_end()
        .to_owned()
}

/// Counts of an answer.
#[derive(Default)]
pub(super) struct Summary {
    rows: u64,
    viewers: Distinct,
    owners: Distinct,
    without: u64,
    bytes: u64,
    not_told: u64,
    cut: u64,
    whose: BTreeMap<Whose, u64>,
}

/// How many different tags there are, up to a bound.
#[derive(Default)]
struct Distinct {
    tags: HashSet<[u8; 16]>,
    is_more: bool,
}

impl Distinct {
    const MAX: usize = 1 << 22;

    fn add(&mut self, tag: Option<[u8; 16]>) {
        let Some(tag) = tag else { return };
        if self.tags.len() < Self::MAX {
            self.tags.insert(tag);
        } else {
            self.is_more |= !self.tags.contains(&tag);
        }
    }
}

impl std::fmt::Display for Distinct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = if self.is_more { "more than " } else { "" };
        write!(f, "{more}{}", self.tags.len())
    }
}

impl Summary {
    pub(super) fn add(&mut self, row: &Served) {
        self.rows += 1;
        self.viewers.add(row.viewer.map(|tag| tag.0));
        self.owners.add(row.owner.map(|tag| tag.0));
        self.without += u64::from(row.viewer.is_none());
        self.bytes = self.bytes.saturating_add(row.bytes.unwrap_or(0));
        self.not_told += u64::from(row.ended.is_none());
        self.cut += u64::from(row.ended.is_some_and(|ended| ended != Ended::Complete));
        *self
            .whose
            .entry(Whose::of(row.owner, row.viewer_member))
            .or_default() += 1;
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let mut line = format!(
            "{} responses to {} viewers, {} bytes; of {} owners:",
            self.rows, self.viewers, self.bytes, self.owners
        );
        for whose in Whose::ALL {
            let count = self.whose.get(&whose).copied().unwrap_or(0);
            write!(line, " {count} {},", whose.name()).expect("a string can be written to");
        }
        line.pop();
        write!(
            line,
            "; {} did not end whole, {} ends are not known, {} went to clients without a session's credentials",
            self.cut, self.not_told, self.without
        )
        .expect("a string can be written to");
        line
    }
}

fn goes_on(done: io::Result<()>) -> Result<bool, String> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot print: {error}")),
    }
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")).into(),
        false => text.into(),
    }
}
