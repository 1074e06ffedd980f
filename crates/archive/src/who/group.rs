//! What of a row group is an answer: first what its metadata rules out, then the columns that are asked by, then the
//! others, of the rows that are left.
//!
//! Invariant: the rows are those that [`Question::takes`], whichever way they were found.

use std::ops::Range;
use std::sync::Arc;

use parquet::errors::ParquetError;
use shikiri_evidence::BootId;
use shikiri_record::{
    AddressTag, Ended, FillId, MemberTag, Outcome, TargetTag, UnixMillis, ViewerTag,
};

use crate::read::{ArchiveFile, ReadFault};
use crate::rows::Archived;
use crate::schema::Table;
use crate::who::column::{Column, Dictionary, NONE, Ranges, joined};
use crate::who::files::SharedFile;
use crate::who::packed::torn;
use crate::who::{Question, Served, Viewers, Window};

/// How many responses are handed over at once.
const BATCH_ROWS: usize = 4096;

/// A row group of a file.
pub(super) struct Group {
    pub(super) file: Arc<ArchiveFile<SharedFile>>,
    pub(super) bytes: Arc<SharedFile>,
    pub(super) node: Arc<str>,
    pub(super) index: usize,
}

impl Group {
    /// Gives the responses that are asked for, batch by batch, until they are not taken.
    pub(super) fn rows(
        &self,
        question: &Question,
        give: &mut dyn FnMut(Vec<Served>) -> bool,
    ) -> Result<(), ReadFault> {
        let Some(ranges) = self.select(question)? else {
            let mut batch = Vec::new();
            let mut is_taken = true;
            self.file.each_of(self.index, &mut |archived| {
                if let Archived::Serve(serve) = archived
                    && is_taken
                    && question.takes(&serve)
                {
                    batch.push(Served::of(&self.node, &serve));
                    if batch.len() >= BATCH_ROWS {
                        is_taken = give(std::mem::take(&mut batch));
                    }
                }
            })?;
            if is_taken && !batch.is_empty() {
                give(batch);
            }
            return Ok(());
        };
        if ranges.is_empty() {
            return Ok(());
        }
        let Some(mut columns) = Columns::open(self)? else {
            return Err(torn("a column").into());
        };
        for piece in pieces(&ranges) {
            if !give(columns.served(&self.node, &piece)?) {
                break;
            }
        }
        Ok(())
    }

    /// Who was served the responses that are asked for.
    pub(super) fn viewers(&self, question: &Question) -> Result<Viewers, ReadFault> {
        let mut found = Viewers::default();
        let ranges = self.select(question)?;
        let column = match ranges.as_ref().is_some_and(Vec::is_empty) {
            true => return Ok(found),
            false => self.column("viewer")?,
        };
        let (Some(ranges), Some(mut column)) = (ranges, column) else {
            self.file.each_of(self.index, &mut |archived| {
                if let Archived::Serve(serve) = archived
                    && question.takes(&serve)
                {
                    found.count(serve.begin.viewer.map(|tag| tag.0));
                }
            })?;
            return Ok(found);
        };
        let (bits, responses, without) = column.seen(&ranges)?;
        (found.responses, found.without) = (responses, without);
        let Dictionary::Tags(tags) = &column.dictionary else {
            // No row has a viewer.
            return Ok(found);
        };
        let values = tags.as_chunks::<16>().0;
        found
            .tags
            .reserve(bits.iter().map(|it| it.count_ones() as usize).sum());
        for (n, mut word) in bits.into_iter().enumerate() {
            while word != 0 {
                let at = n * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                found
                    .tags
                    .insert(*values.get(at).ok_or_else(|| torn("a number"))?);
            }
        }
        Ok(found)
    }

    /// The rows that are asked for; `None` where it is not packed as we pack it, and has to be read row by row.
    fn select(&self, question: &Question) -> Result<Option<Ranges>, ReadFault> {
        let Ok(rows) = u32::try_from(self.file.rows_of(self.index)) else {
            return Ok(None);
        };
        if rows == 0 {
            return Ok(Some(Ranges::new()));
        }
        let metadata = self.file.metadata_of(self.index);
        let began = metadata.column(Table::Serves.column("began"));
        if Column::is_out(began, &question.window) {
            return Ok(Some(Ranges::new()));
        }
        // What costs least first: nothing is read where the metadata of all members of a list rule them out.
        let mut may = Vec::new();
        for any in &question.all {
            let mut members = Vec::new();
            for among in any {
                let at = Table::Serves.column(among.by().column());
                if Column::may_hold(&self.bytes, metadata.column(at), among)? {
                    members.push(among);
                }
            }
            if members.is_empty() {
                return Ok(Some(Ranges::new()));
            }
            may.push(members);
        }
        let mut ranges: Ranges = std::iter::once(0..rows).collect();
        for any in may {
            let mut found = Ranges::new();
            for among in any {
                let Some(mut column) = self.column(among.by().column())? else {
                    return Ok(None);
                };
                found.extend(column.among(among, &ranges)?);
            }
            ranges = joined(found);
            if ranges.is_empty() {
                return Ok(Some(ranges));
            }
        }
        if question.window != Window::ALWAYS {
            let Some(mut column) = self.column("began")? else {
                return Ok(None);
            };
            ranges = column.within(&question.window, ranges)?;
        }
        if Columns::can(self)? {
            return Ok(Some(ranges));
        }
        Ok(None)
    }

    fn column(&self, name: &str) -> Result<Option<Column>, ReadFault> {
        let at = Table::Serves.column(name);
        let described = &Table::Serves.columns()[at];
        let metadata = self.file.metadata_of(self.index);
        let Ok(rows) = u32::try_from(metadata.num_rows()) else {
            return Ok(None);
        };
        Ok(Column::open(
            &self.bytes,
            metadata.column(at),
            described,
            rows,
        )?)
    }
}

/// Rows in pieces of as many as are handed over at once.
fn pieces(ranges: &Ranges) -> Vec<Ranges> {
    let (mut pieces, mut piece, mut room) = (Vec::new(), Ranges::new(), BATCH_ROWS as u32);
    for range in ranges {
        let mut range = range.clone();
        while !range.is_empty() {
            let end = range.end.min(range.start.saturating_add(room));
            room -= end - range.start;
            piece.push(range.start..end);
            range.start = end;
            if room == 0 {
                pieces.push(std::mem::take(&mut piece));
                room = BATCH_ROWS as u32;
            }
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

macro_rules! columns {
    ($($name:ident,)*) => {
        /// The columns of a [`Served`], open; and their numbers for the rows at hand.
        struct Columns {
            $($name: (Column, Vec<u32>),)*
            began: (Column, Vec<i64>),
            sequence: (Column, Vec<i64>),
        }

        impl Columns {
            fn open(group: &Group) -> Result<Option<Self>, ReadFault> {
                $(let Some($name) = group.column(stringify!($name))? else {
                    return Ok(None);
                };)*
                let Some(began) = group.column("began")? else {
                    return Ok(None);
                };
                let Some(sequence) = group.column("sequence")? else {
                    return Ok(None);
                };
                Ok(Some(Self {
                    $($name: ($name, Vec::new()),)*
                    began: (began, Vec::new()),
                    sequence: (sequence, Vec::new()),
                }))
            }

            /// Whether all of them are packed as we pack them.
            fn can(group: &Group) -> Result<bool, ReadFault> {
                let metadata = group.file.metadata_of(group.index);
                Ok([$(stringify!($name),)* "began", "sequence"].into_iter().all(|name| {
                    let at = Table::Serves.column(name);
                    Column::is_ours(metadata.column(at), &Table::Serves.columns()[at], metadata.num_rows())
                }))
            }

            fn read(&mut self, rows: &[Range<u32>]) -> Result<(), ParquetError> {
                $(self.$name.0.numbers(rows, &mut self.$name.1)?;)*
                self.began.0.longs(rows, &mut self.began.1)?;
                self.sequence.0.longs(rows, &mut self.sequence.1)
            }
        }
    };
}

columns! {
    target, fill, viewer, viewer_member, owner, address, outcome, status, method, class, page, ended, bytes, boot, lane,
}

impl Columns {
    fn served(&mut self, node: &Arc<str>, rows: &[Range<u32>]) -> Result<Vec<Served>, ReadFault> {
        self.read(rows)?;
        let all = rows.iter().cloned().flatten().enumerate();
        all.map(|(n, row)| {
            self.one(node, n).map_err(|column| ReadFault::Value {
                row: row.into(),
                column,
            })
        })
        .collect()
    }

    fn one(&self, node: &Arc<str>, n: usize) -> Result<Served, &'static str> {
        Ok(Served {
            node: Arc::clone(node),
            boot: BootId(tag(&self.boot, n)?.ok_or("boot")?),
            lane: number(&self.lane, n)?
                .and_then(|it| it.try_into().ok())
                .ok_or("lane")?,
            sequence: self.sequence.1[n].cast_unsigned(),
            began: UnixMillis(self.began.1[n].cast_unsigned()),
            target: TargetTag(tag(&self.target, n)?.ok_or("target")?),
            address: AddressTag(tag(&self.address, n)?.ok_or("address")?),
            viewer: tag(&self.viewer, n)?.map(ViewerTag),
            viewer_member: tag(&self.viewer_member, n)?.map(MemberTag),
            owner: tag(&self.owner, n)?.map(MemberTag),
            fill: tag(&self.fill, n)?.map(|id| FillId(u128::from_be_bytes(id))),
            outcome: word(&self.outcome, n, Outcome::ALL, Outcome::name)?.ok_or("outcome")?,
            status: number(&self.status, n)?
                .and_then(|it| it.try_into().ok())
                .ok_or("status")?,
            method: text(&self.method, n)?.ok_or("method")?,
            class: text(&self.class, n)?.ok_or("class")?,
            page: text(&self.page, n)?,
            ended: word(&self.ended, n, Ended::ALL, Ended::name)?,
            bytes: number(&self.bytes, n)?.map(i64::cast_unsigned),
        })
    }
}

type Held = (Column, Vec<u32>);

/// Which of the dictionary's values a row has.
fn at(held: &Held, n: usize) -> Option<usize> {
    let number = held.1.get(n).copied().filter(|number| *number != NONE)?;
    Some(number as usize)
}

const BROKEN: &str = "a dictionary";

fn tag(held: &Held, n: usize) -> Result<Option<[u8; 16]>, &'static str> {
    let Some(at) = at(held, n) else {
        return Ok(None);
    };
    match &held.0.dictionary {
        Dictionary::Tags(tags) => tags.as_chunks().0.get(at).copied().map(Some).ok_or(BROKEN),
        _ => Err(BROKEN),
    }
}

fn number(held: &Held, n: usize) -> Result<Option<i64>, &'static str> {
    let Some(at) = at(held, n) else {
        return Ok(None);
    };
    match &held.0.dictionary {
        Dictionary::Numbers(all) => all.get(at).copied().map(Some).ok_or(BROKEN),
        _ => Err(BROKEN),
    }
}

fn text(held: &Held, n: usize) -> Result<Option<Arc<str>>, &'static str> {
    let Some(at) = at(held, n) else {
        return Ok(None);
    };
    match &held.0.dictionary {
        Dictionary::Texts(all) => all.get(at).cloned().map(Some).ok_or(BROKEN),
        _ => Err(BROKEN),
    }
}

fn word<T: Copy>(
    held: &Held,
    n: usize,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Option<T>, &'static str> {
    let Some(word) = text(held, n)? else {
        return Ok(None);
    };
    let found = all.iter().copied().find(|known| name(*known) == &*word);
    found.map(Some).ok_or("outcome or ended")
}
