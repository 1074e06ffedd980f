//! A batch's rows of one day and table, as one Parquet file.
//!
//! Never decides which rows these are. Invariant: what is written depends on the rows alone, so that
//! the same rows make the same bytes again.

use std::io::Write;

use bytes::Bytes;
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use shikiri_record::LinkEvent;

use crate::batch::{Batch, Day, Held, index};
use crate::rows::Place;
use crate::schema::{Packed, Table};

/// How many values are handed over at once.
const CHUNK_ROWS: usize = 16 << 10;

impl Batch {
    /// Writes the rows of a day and a table as one file, and says how many there were: a response and
    /// its end are one. Where there are none nothing is written.
    ///
    /// # Errors
    /// They cannot be written there.
    pub fn write<W: Write + Send>(
        &self,
        table: Table,
        node: &str,
        day: Day,
        packed: &Packed,
        out: W,
    ) -> Result<Option<(u64, W)>, ParquetError> {
        let properties = table.properties(node, &day.to_string(), packed)?;
        let mut file = SerializedFileWriter::new(out, table.parquet(), properties.into())?;
        let rows = match table {
            Table::Serves => self.write_serves(&mut file, day, packed)?,
            Table::Links => {
                let rows = of_day(&self.links, day);
                write_group(&mut file, &rows, |columns, rows| links(columns, rows))?
            }
            Table::Gaps => {
                let rows = of_day(&self.gaps, day);
                write_group(&mut file, &rows, |columns, rows| gaps(columns, rows))?
            }
            Table::Stances => {
                let rows = of_day(&self.stances, day);
                write_group(&mut file, &rows, |columns, rows| stances(columns, rows))?
            }
            Table::Others => {
                let rows = of_day(&self.others, day);
                write_group(&mut file, &rows, |columns, rows| others(columns, rows))?
            }
        };
        if rows == 0 {
            return Ok(None);
        }
        Ok(Some((rows, file.into_inner()?)))
    }

    fn write_serves<W: Write + Send>(
        &self,
        file: &mut SerializedFileWriter<W>,
        day: Day,
        packed: &Packed,
    ) -> Result<u64, ParquetError> {
        let tags: Vec<FixedLenByteArray> = {
            let all: Vec<u8> = self.tags.values.iter().flatten().copied().collect();
            slices(&all.into(), 16)
        };
        let texts: Vec<ByteArray> = self
            .texts
            .values
            .iter()
            .map(|text| ByteArray::from(text.as_str()))
            .collect();
        let mut rows = 0;
        for group in self.groups(day, packed) {
            rows += wide(group.len());
            let mut columns = Columns {
                table: Table::Serves,
                next: 0,
                group: file.next_row_group()?,
                rows: group.len(),
            };
            // In their order in memory too, since each column goes through all of them.
            let group: Vec<Held> = group.iter().map(|n| self.serves[index(*n)]).collect();
            self.serve_columns(&mut columns, &group, &tags, &texts)?;
            columns.close()?;
        }
        Ok(rows)
    }

    fn serve_columns<W: Write + Send>(
        &self,
        columns: &mut Columns<'_, W>,
        group: &[Held],
        tags: &[FixedLenByteArray],
        texts: &[ByteArray],
    ) -> Result<(), ParquetError> {
        let held = |n: usize| &group[n];
        let tag = |number: u32| tags.get(index(number)).cloned();
        let text = |number: u32| texts.get(index(number)).cloned();
        let ended = |n: usize| held(n).ended.map(|_| held(n));
        let stance = |n: usize| self.stances_held.get(index(held(n).stance));
        let since = |at: u64, began: u64| signed(at.wrapping_sub(began));

        columns.tags("target", |n| tag(held(n).target))?;
        columns.numbers("began", |n| Some(signed(held(n).began)))?;
        columns.tags("fill", |n| tag(held(n).fill))?;
        columns.tags("viewer", |n| tag(held(n).viewer))?;
        columns.tags("viewer_member", |n| tag(held(n).viewer_member))?;
        columns.tags("owner", |n| tag(held(n).owner))?;
        columns.tags("address", |n| tag(held(n).address))?;
        columns.texts("outcome", |n| Some(word(held(n).outcome.name())))?;
        columns.texts("reason", |n| text(held(n).reason))?;
        columns.smalls("status", |n| i32::from(held(n).status))?;
        columns.texts("method", |n| text(held(n).method))?;
        columns.texts("class", |n| text(held(n).class))?;
        columns.texts("page", |n| text(held(n).page))?;
        columns.tags("grant", |n| tag(held(n).grant))?;
        columns.lists("cookies", |n| {
            let cookies = self.cookies_of(held(n)).iter();
            cookies.map(|tag| fixed(&tag.0)).collect()
        })?;
        columns.smalls("cookies_set", |n| i32::from(held(n).cookies_set))?;
        columns.texts("ended", |n| held(n).ended.map(|ended| word(ended.name())))?;
        columns.numbers("bytes", |n| ended(n).map(|held| signed(held.bytes)))?;
        columns.numbers("lasted_ms", |n| {
            ended(n).map(|held| since(held.end_written, held.began))
        })?;
        columns.texts("mode", |n| stance(n).map(|stance| word(stance.mode.name())))?;
        columns.tags("rules", |n| {
            stance(n).map(|stance| fixed(stance.rules.0.as_bytes()))
        })?;
        columns.numbers("epoch", |n| stance(n).map(|stance| signed(stance.epoch.0)))?;
        columns.tags("tag_key", |n| {
            stance(n).map(|stance| fixed(&stance.tag_key.to_be_bytes()))
        })?;
        columns.tags("boot", |n| tag(held(n).boot))?;
        columns.numbers("lane", |n| Some(i64::from(held(n).lane)))?;
        columns.numbers("sequence", |n| Some(signed(held(n).sequence)))?;
        columns.numbers("written_ms", |n| {
            Some(since(held(n).written, held(n).began))
        })?;
        columns.numbers("end_after", |n| {
            ended(n).map(|held: &Held| since(held.end_sequence, held.sequence))
        })
    }
}

fn links<W: Write + Send>(
    columns: &mut Columns<'_, W>,
    rows: &[&(Place, shikiri_record::Link)],
) -> Result<(), ParquetError> {
    columns.numbers("written", |n| Some(signed(rows[n].0.written.0)))?;
    columns.texts("event", |n| {
        Some(word(match rows[n].1.event {
            LinkEvent::Started => "started",
            LinkEvent::Ended => "ended",
        }))
    })?;
    columns.tags("viewer", |n| Some(fixed(&rows[n].1.viewer.0)))?;
    columns.tags("member", |n| rows[n].1.member.map(|tag| fixed(&tag.0)))?;
    columns.numbers("begin", |n| rows[n].1.begin.map(signed))?;
    columns.places(|n| &rows[n].0)
}

fn gaps<W: Write + Send>(
    columns: &mut Columns<'_, W>,
    rows: &[&(Place, shikiri_record::Gap)],
) -> Result<(), ParquetError> {
    columns.numbers("written", |n| Some(signed(rows[n].0.written.0)))?;
    columns.numbers("first", |n| Some(signed(rows[n].1.from.0)))?;
    columns.numbers("last", |n| Some(signed(rows[n].1.to.0)))?;
    columns.numbers("responses", |n| Some(signed(rows[n].1.responses)))?;
    columns.places(|n| &rows[n].0)
}

fn stances<W: Write + Send>(
    columns: &mut Columns<'_, W>,
    rows: &[&(Place, shikiri_record::StanceRow)],
) -> Result<(), ParquetError> {
    columns.numbers("written", |n| Some(signed(rows[n].0.written.0)))?;
    columns.texts("mode", |n| Some(word(rows[n].1.mode.name())))?;
    columns.tags("rules", |n| Some(fixed(rows[n].1.rules.0.as_bytes())))?;
    columns.numbers("epoch", |n| Some(signed(rows[n].1.epoch.0)))?;
    columns.tags("tag_key", |n| Some(fixed(&rows[n].1.tag_key.to_be_bytes())))?;
    columns.places(|n| &rows[n].0)
}

fn others<W: Write + Send>(
    columns: &mut Columns<'_, W>,
    rows: &[&(Place, Vec<u8>)],
) -> Result<(), ParquetError> {
    columns.numbers("written", |n| Some(signed(rows[n].0.written.0)))?;
    columns.texts("body", |n| Some(ByteArray::from(rows[n].1.clone())))?;
    columns.places(|n| &rows[n].0)
}

/// The rows of a day, in the order of their places.
fn of_day<T>(rows: &[(Place, T)], day: Day) -> Vec<&(Place, T)> {
    let of_day = |row: &&(Place, T)| Day::of(row.0.written) == day;
    let mut rows: Vec<&(Place, T)> = rows.iter().filter(of_day).collect();
    rows.sort_by_key(|row| row.0);
    rows
}

/// Writes rows as the only row group, if there are any.
fn write_group<W: Write + Send, T>(
    file: &mut SerializedFileWriter<W>,
    rows: &[&(Place, T)],
    columns: impl FnOnce(&mut Columns<'_, W>, &[&(Place, T)]) -> Result<(), ParquetError>,
) -> Result<u64, ParquetError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let table = table_of(file);
    let mut to = Columns {
        table,
        next: 0,
        group: file.next_row_group()?,
        rows: rows.len(),
    };
    columns(&mut to, rows)?;
    to.close()?;
    Ok(wide(rows.len()))
}

fn table_of<W: Write + Send>(file: &SerializedFileWriter<W>) -> Table {
    Table::named(file.schema_descr().name()).expect("we named it")
}

/// One row group, column by column, in the table's order.
struct Columns<'a, W: Write + Send> {
    table: Table,
    /// The column that is due.
    next: usize,
    group: SerializedRowGroupWriter<'a, W>,
    rows: usize,
}

impl<W: Write + Send> Columns<'_, W> {
    fn tags(
        &mut self,
        name: &str,
        value: impl Fn(usize) -> Option<FixedLenByteArray>,
    ) -> Result<(), ParquetError> {
        self.column::<FixedLenByteArrayType>(name, value)
    }

    fn texts(
        &mut self,
        name: &str,
        value: impl Fn(usize) -> Option<ByteArray>,
    ) -> Result<(), ParquetError> {
        self.column::<ByteArrayType>(name, value)
    }

    fn numbers(
        &mut self,
        name: &str,
        value: impl Fn(usize) -> Option<i64>,
    ) -> Result<(), ParquetError> {
        self.column::<Int64Type>(name, value)
    }

    fn smalls(&mut self, name: &str, value: impl Fn(usize) -> i32) -> Result<(), ParquetError> {
        self.column::<Int32Type>(name, |n| Some(value(n)))
    }

    fn places<'p>(&mut self, place: impl Fn(usize) -> &'p Place) -> Result<(), ParquetError> {
        self.tags("boot", |n| Some(fixed(&place(n).boot.0)))?;
        self.numbers("lane", |n| Some(i64::from(place(n).lane)))?;
        self.numbers("sequence", |n| Some(signed(place(n).sequence)))
    }

    fn due(&mut self, name: &str) -> bool {
        let column = &self.table.columns()[self.next];
        assert_eq!(
            column.name, name,
            "columns are written in the table's order"
        );
        self.next += 1;
        column.may_lack
    }

    fn column<T: DataType>(
        &mut self,
        name: &str,
        value: impl Fn(usize) -> Option<T::T>,
    ) -> Result<(), ParquetError> {
        let may_lack = self.due(name);
        let mut column = self.group.next_column()?.expect("the schema has it");
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let mut from = 0;
        while from < self.rows {
            let to = self.rows.min(from + CHUNK_ROWS);
            values.clear();
            levels.clear();
            for n in from..to {
                let value = value(n);
                levels.push(i16::from(value.is_some()));
                values.extend(value);
            }
            assert!(
                may_lack || values.len() == to - from,
                "every row has its {name}"
            );
            let levels = may_lack.then_some(levels.as_slice());
            column.typed::<T>().write_batch(&values, levels, None)?;
            from = to;
        }
        column.close()
    }

    fn lists(
        &mut self,
        name: &str,
        value: impl Fn(usize) -> Vec<FixedLenByteArray>,
    ) -> Result<(), ParquetError> {
        self.due(name);
        let mut column = self.group.next_column()?.expect("the schema has it");
        let (mut values, mut levels, mut repeats) = (Vec::new(), Vec::new(), Vec::new());
        let mut from = 0;
        while from < self.rows {
            let to = self.rows.min(from + CHUNK_ROWS);
            values.clear();
            levels.clear();
            repeats.clear();
            for n in from..to {
                let list = value(n);
                if list.is_empty() {
                    levels.push(0);
                    repeats.push(0);
                }
                for (at, value) in list.into_iter().enumerate() {
                    levels.push(1);
                    repeats.push(i16::from(at > 0));
                    values.push(value);
                }
            }
            let typed = column.typed::<FixedLenByteArrayType>();
            typed.write_batch(&values, Some(&levels), Some(&repeats))?;
            from = to;
        }
        column.close()
    }

    fn close(self) -> Result<(), ParquetError> {
        assert_eq!(
            self.next,
            self.table.columns().len(),
            "every column is written"
        );
        self.group.close().map(drop)
    }
}

/// Values of one length, without a copy for each.
fn slices(all: &Bytes, length: usize) -> Vec<FixedLenByteArray> {
    let count = all.len() / length;
    let slices = (0..count).map(|n| all.slice(n * length..(n + 1) * length));
    slices.map(|slice| ByteArray::from(slice).into()).collect()
}

fn fixed(bytes: &[u8]) -> FixedLenByteArray {
    ByteArray::from(bytes.to_vec()).into()
}

fn word(word: &'static str) -> ByteArray {
    ByteArray::from(Bytes::from_static(word.as_bytes()))
}

/// The same 64 bits, as Parquet has them.
const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits 64 bits")
}
