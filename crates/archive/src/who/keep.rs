//! An answer as a Parquet file, for whoever goes on with it in another engine.
//!
//! Never holds more than a row group of it. Invariant: a file that was not finished is none: its end is missing.

use std::io::Write;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

/// A line of an answer: what it is called by is text, since tags are printed only where they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Texts, in the order of [`TEXTS`].
    pub texts: [Option<String>; TEXTS.len()],
    /// When the request's head had been read, as milliseconds since 1970.
    pub began: i64,
    /// The status that the client saw.
    pub status: i32,
    /// How many bytes were handed to the connection.
    pub bytes: Option<i64>,
    /// The lane.
    pub lane: i64,
    /// The sequence number of its begin row.
    pub sequence: i64,
}

/// The columns that are texts.
pub const TEXTS: [&str; 14] = [
    "node",
    "viewer",
    "viewer_member",
    "whose",
    "owner",
    "object",
    "fill",
    "class",
    "page",
    "method",
    "outcome",
    "ended",
    "address",
    "boot",
];

/// How many lines a row group has.
const GROUP_ROWS: usize = 1 << 16;

/// Writes an answer.
#[derive(Debug)]
pub struct AnswerFile<W: Write + Send> {
    file: SerializedFileWriter<W>,
    lines: Vec<Line>,
}

impl<W: Write + Send> AnswerFile<W> {
    /// Begins one.
    ///
    /// # Errors
    /// It cannot be written.
    ///
    /// # Panics
    /// Never: its schema is this file's own.
    pub fn new(out: W) -> Result<Self, ParquetError> {
        let texts = TEXTS.map(|name| format!("OPTIONAL BYTE_ARRAY {name} (STRING); "));
        let schema = format!(
            "message answer {{ {} REQUIRED INT64 began (TIMESTAMP(MILLIS,true)); REQUIRED INT32 status; \
             OPTIONAL INT64 bytes; REQUIRED INT64 lane; REQUIRED INT64 sequence; }}",
            texts.concat()
        );
        let schema = parse_message_type(&schema).expect("it is a valid schema");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        Ok(Self {
            file: SerializedFileWriter::new(out, schema.into(), properties.into())?,
            lines: Vec::new(),
        })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn line(&mut self, line: Line) -> Result<(), ParquetError> {
        self.lines.push(line);
        if self.lines.len() >= GROUP_ROWS {
            self.group()?;
        }
        Ok(())
    }

    /// Ends it, and gives back what it was written to.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> Result<W, ParquetError> {
        self.group()?;
        self.file.into_inner()
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        let mut group = self.file.next_row_group()?;
        for n in 0..TEXTS.len() {
            column::<_, ByteArrayType>(&mut group, true, &lines, |line| {
                line.texts[n].as_deref().map(ByteArray::from)
            })?;
        }
        column::<_, Int64Type>(&mut group, false, &lines, |line| Some(line.began))?;
        column::<_, Int32Type>(&mut group, false, &lines, |line| Some(line.status))?;
        column::<_, Int64Type>(&mut group, true, &lines, |line| line.bytes)?;
        column::<_, Int64Type>(&mut group, false, &lines, |line| Some(line.lane))?;
        column::<_, Int64Type>(&mut group, false, &lines, |line| Some(line.sequence))?;
        group.close().map(drop)
    }
}

fn column<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    may_lack: bool,
    lines: &[Line],
    value: impl Fn(&Line) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.expect("the schema has it");
    let values: Vec<Option<T::T>> = lines.iter().map(value).collect();
    let levels: Vec<i16> = values.iter().map(|it| i16::from(it.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    column
        .typed::<T>()
        .write_batch(&values, may_lack.then_some(&levels), None)?;
    column.close()
}
