//! One column of a row group, read by pages: its dictionary once, and then only pages that are asked for.
//!
//! Never makes a value of a row that is not asked for. Invariant: a page is left out by its least and greatest value
//! only, which bound its values.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::index_reader::{decode_column_index, decode_offset_index};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use shikiri_record::UnixMillis;

use crate::schema::{Column as Described, Kind, Packing};
use crate::who::files::SharedFile;
use crate::who::packed::{Hybrid, Piece, distances, one, take, torn, unpack};
use crate::who::{Among, Window};

/// Rows of a row group, by their numbers in it: in order, none twice.
pub(super) type Ranges = Vec<Range<u32>>;

/// Stands for no value.
pub(super) const NONE: u32 = u32::MAX;

/// Of fewer than one row in so many a page is not unpacked whole.
const SPARSE: usize = 8;

/// A dictionary's values.
#[derive(Clone, Debug)]
pub(super) enum Dictionary {
    /// None: numbers stand for themselves.
    Without,
    /// Of 16 bytes each.
    Tags(Bytes),
    /// Texts.
    Texts(Vec<Arc<str>>),
    /// Numbers.
    Numbers(Vec<i64>),
}

/// A column of a row group.
pub(super) struct Column {
    file: Arc<SharedFile>,
    chunk: ColumnChunkMetaData,
    rows: u32,
    locations: Vec<PageLocation>,
    /// The first row of each page, and the number of rows.
    starts: Vec<u32>,
    may_lack: bool,
    /// No row has a value.
    is_empty: bool,
    pub(super) dictionary: Dictionary,
    pages: Option<SerializedPageReader<SharedFile>>,
    /// The page that the reader gives next.
    next: usize,
    /// The page that is held, by one of the two lists.
    held: Option<usize>,
    numbers: Vec<u32>,
    longs: Vec<i64>,
    values: Vec<u32>,
    picked: Vec<u32>,
}

impl Column {
    /// `None` where it is not packed as we pack it: then rows are read one by one.
    pub(super) fn open(
        file: &Arc<SharedFile>,
        chunk: &ColumnChunkMetaData,
        described: &Described,
        rows: u32,
    ) -> Result<Option<Self>, ParquetError> {
        let is_empty = is_empty(chunk, described, i64::from(rows));
        let is_ours = Self::is_ours(chunk, described, i64::from(rows));
        let Some(index) = chunk.offset_index_range().filter(|_| is_ours) else {
            return Ok(None);
        };
        let mut column = Self {
            file: Arc::clone(file),
            chunk: chunk.clone(),
            rows,
            locations: Vec::new(),
            starts: Vec::new(),
            may_lack: described.may_lack,
            is_empty,
            dictionary: Dictionary::Without,
            pages: None,
            next: 0,
            held: None,
            numbers: Vec::new(),
            longs: Vec::new(),
            values: Vec::new(),
            picked: Vec::new(),
        };
        if is_empty {
            return Ok(Some(column));
        }
        let bytes = file.get_bytes(index.start, length(&index)?)?;
        let locations = decode_offset_index(&bytes)?.page_locations().clone();
        for location in &locations {
            let start = u32::try_from(location.first_row_index).ok();
            let start = start
                .filter(|it| *it < rows && column.starts.last().map_or(*it == 0, |last| last < it));
            column.starts.push(start.ok_or_else(|| torn("an index"))?);
        }
        if column.starts.is_empty() {
            return Err(torn("an index"));
        }
        column.starts.push(rows);
        column.locations = locations;
        column.rewind()?;
        if described.packing == Packing::Dictionary {
            let pages = column.pages.as_mut().expect("it was just opened");
            let Some(Page::DictionaryPage {
                buf, num_values, ..
            }) = pages.get_next_page()?
            else {
                return Err(torn("a dictionary"));
            };
            column.dictionary = dictionary(described.kind, &buf, num_values as usize)?;
        }
        Ok(Some(column))
    }

    /// Whether it is packed as we pack it.
    pub(super) fn is_ours(chunk: &ColumnChunkMetaData, described: &Described, rows: i64) -> bool {
        let is_only = |encoding| {
            chunk
                .page_encoding_stats_mask()
                .is_some_and(|mask| mask.is_only(encoding))
        };
        let is_packed = match described.packing {
            Packing::Dictionary => {
                chunk.dictionary_page_offset().is_some() && is_only(Encoding::RLE_DICTIONARY)
            }
            Packing::Delta => is_only(Encoding::DELTA_BINARY_PACKED) && !described.may_lack,
            Packing::Plain => false,
        };
        let has_index = chunk.offset_index_range().is_some();
        has_index && (is_packed || is_empty(chunk, described, rows))
    }

    /// Whether all instants are out of a window, by what the row group's metadata says.
    pub(super) fn is_out(chunk: &ColumnChunkMetaData, window: &Window) -> bool {
        reach(all_instants(chunk), window) == Reach::Out
    }

    /// Begins anew with the first page.
    fn rewind(&mut self) -> Result<(), ParquetError> {
        let mut pages = SerializedPageReader::new(
            Arc::clone(&self.file),
            &self.chunk,
            self.rows as usize,
            Some(self.locations.clone()),
        )?;
        if !matches!(self.dictionary, Dictionary::Without) {
            pages.skip_next_page()?;
        }
        self.pages = Some(pages);
        self.next = 0;
        Ok(())
    }

    /// Whether the row group may hold one of these, by what its metadata says.
    pub(super) fn may_hold(
        file: &SharedFile,
        chunk: &ColumnChunkMetaData,
        among: &Among,
    ) -> Result<bool, ParquetError> {
        /// Of more than so many one is nearly always there, and a filter costs more than it saves.
        const ASKED_MAX: usize = 64;
        let statistics = chunk.statistics();
        let bounds = statistics.and_then(|it| it.min_bytes_opt().zip(it.max_bytes_opt()));
        if bounds.is_some_and(|(least, greatest)| !among.within(least, greatest)) {
            return Ok(false);
        }
        if among.len() > ASKED_MAX {
            return Ok(true);
        }
        let bloom = Sbbf::read_from_column_chunk(chunk, file)?;
        Ok(bloom.is_none_or(|bloom| among.any(|value| bloom.check(value))))
    }

    /// The rows whose value is one of these, of the pages that hold some of the rows given.
    pub(super) fn among(&mut self, among: &Among, of: &Ranges) -> Result<Ranges, ParquetError> {
        let mut found = Ranges::new();
        if self.is_empty {
            return Ok(found);
        }
        let (wanted, present) = match &self.dictionary {
            Dictionary::Tags(tags) => among.in_tags(tags),
            Dictionary::Texts(texts) => among.in_texts(texts),
            _ => return Err(torn("a dictionary")),
        };
        if present.is_empty() {
            return Ok(found);
        }
        let bounds = self.bounds()?;
        for page in self.pages_of(of) {
            let start = self.starts[page];
            if let Some(bounds) = &bounds {
                let is_out = bounds_of(bounds, page)
                    .is_some_and(|(least, greatest)| !present.within(least, greatest));
                if bounds.is_null_page(page) || is_out {
                    continue;
                }
            }
            let is_wanted = |number: u32| -> Result<bool, ParquetError> {
                let bits = wanted
                    .get(number as usize / 64)
                    .ok_or_else(|| torn("a number"))?;
                Ok(bits >> (number % 64) & 1 == 1)
            };
            let count = self.starts[page + 1] - start;
            let mut row = start;
            let mut add = |count: u32, holds: bool| {
                if holds {
                    match found.last_mut() {
                        Some(last) if last.end == row => last.end += count,
                        _ => found.push(row..row + count),
                    }
                }
                row += count;
            };
            // A column that is sorted is a few runs: they need no row looked at.
            if self.may_lack {
                self.hold(page)?;
                for number in &self.numbers {
                    add(1, *number != NONE && is_wanted(*number)?);
                }
            } else {
                let bytes = self.page(page)?;
                let mut values = std::mem::take(&mut self.values);
                let (width, data) = bytes.split_first().ok_or_else(|| torn("a page"))?;
                let width = u32::from(*width);
                let mut pieces = Hybrid::new(data, width, count as usize)?;
                while let Some(piece) = pieces.next()? {
                    match piece {
                        Piece::Same(number, count) => {
                            add(
                                u32::try_from(count).expect("a page's rows"),
                                is_wanted(number)?,
                            );
                        }
                        Piece::Packed(bytes, count) => {
                            values.clear();
                            unpack(bytes, width, count, &mut values);
                            for number in &values {
                                add(1, is_wanted(*number)?);
                            }
                        }
                    }
                }
                self.values = values;
            }
            if row != self.starts[page + 1] {
                return Err(torn("a page"));
            }
        }
        Ok(crossed(&found, of))
    }

    /// Of some rows those whose instant is in a window.
    pub(super) fn within(&mut self, window: &Window, of: Ranges) -> Result<Ranges, ParquetError> {
        if reach(all_instants(&self.chunk), window) == Reach::Whole {
            return Ok(of);
        }
        let bounds = self.bounds()?;
        let mut found = Ranges::new();
        for page in self.pages_of(&of) {
            let rows = self.starts[page]..self.starts[page + 1];
            let bounds = bounds.as_ref().and_then(|bounds| match bounds {
                ColumnIndexMetaData::INT64(it) => {
                    it.min_value(page).copied().zip(it.max_value(page).copied())
                }
                _ => None,
            });
            let clipped = clip(&of, &rows);
            match reach(bounds, window) {
                Reach::Whole => {
                    found.extend(clipped);
                    continue;
                }
                Reach::Out => continue,
                Reach::Partly => {}
            }
            self.hold(page)?;
            for range in clipped {
                for row in range {
                    let at = self.longs[(row - rows.start) as usize];
                    if window.holds(UnixMillis(at.cast_unsigned())) {
                        match found.last_mut() {
                            Some(last) if last.end == row => last.end += 1,
                            _ => found.push(row..row + 1),
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// The dictionary's numbers of some rows, or [`NONE`].
    pub(super) fn numbers(
        &mut self,
        of: &[Range<u32>],
        out: &mut Vec<u32>,
    ) -> Result<(), ParquetError> {
        out.clear();
        self.each(of, |numbers, _| out.extend_from_slice(numbers))?;
        Ok(())
    }

    /// The numbers of some rows that have no dictionary.
    pub(super) fn longs(
        &mut self,
        of: &[Range<u32>],
        out: &mut Vec<i64>,
    ) -> Result<(), ParquetError> {
        out.clear();
        self.each(of, |_, longs| out.extend_from_slice(longs))?;
        Ok(())
    }

    /// Which of the dictionary's values some rows have, as bits; and how many rows have one, and how many none.
    pub(super) fn seen(&mut self, of: &Ranges) -> Result<(Vec<u64>, u64, u64), ParquetError> {
        let count = match &self.dictionary {
            Dictionary::Tags(tags) => tags.len() / 16,
            _ => 0,
        };
        let (mut bits, mut with, mut without) = (vec![0_u64; count.div_ceil(64)], 0, 0);
        let mut is_wrong = false;
        self.each(of, |numbers, _| {
            for number in numbers {
                if *number == NONE {
                    without += 1;
                } else if let Some(bits) = bits.get_mut(*number as usize / 64) {
                    *bits |= 1 << (number % 64);
                    with += 1;
                } else {
                    is_wrong = true;
                }
            }
        })?;
        match is_wrong {
            true => Err(torn("a number")),
            false => Ok((bits, with, without)),
        }
    }

    /// Gives the values of some rows, slice by slice.
    fn each(
        &mut self,
        of: &[Range<u32>],
        mut give: impl FnMut(&[u32], &[i64]),
    ) -> Result<(), ParquetError> {
        if self.is_empty {
            self.numbers.clear();
            for range in of {
                self.numbers.resize(range.len(), NONE);
                give(&self.numbers, &[]);
            }
            return Ok(());
        }
        let mut at = 0;
        let mut from = of.first().map_or(0, |range| range.start);
        while at < of.len() {
            let page = self.starts.partition_point(|start| *start <= from) - 1;
            let (start, end) = (self.starts[page], self.starts[page + 1]);
            // What of this page is asked for: relative to it.
            let mut rows = Ranges::new();
            while let Some(range) = of.get(at) {
                let first = range.start.max(from);
                if first >= end {
                    from = first;
                    break;
                }
                rows.push(first - start..range.end.min(end) - start);
                if range.end > end {
                    from = end;
                    break;
                }
                at += 1;
                from = range.end;
            }
            let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
            let is_sparse = count < (end - start) as usize / SPARSE;
            if is_sparse
                && self.held != Some(page)
                && !matches!(self.dictionary, Dictionary::Without)
            {
                self.pick(page, &rows)?;
                give(&self.picked, &[]);
                continue;
            }
            self.hold(page)?;
            for rows in rows {
                let slice = rows.start as usize..rows.end as usize;
                give(
                    self.numbers.get(slice.clone()).unwrap_or_default(),
                    self.longs.get(slice).unwrap_or_default(),
                );
            }
        }
        Ok(())
    }

    /// Reads some rows of a page alone.
    fn pick(&mut self, page: usize, rows: &Ranges) -> Result<(), ParquetError> {
        let bytes = self.page(page)?;
        let count = (self.starts[page + 1] - self.starts[page]) as usize;
        let mut data = &bytes[..];
        let (picked, values) = (&mut self.picked, &mut self.values);
        picked.clear();
        values.clear();
        // Which of the page's values the rows have.
        let mut there = count;
        let each = || rows.iter().cloned().flatten();
        if self.may_lack {
            let length = take(&mut data, 4)?.try_into().expect("four bytes");
            let levels = take(&mut data, u32::from_le_bytes(length) as usize)?;
            there = places(Hybrid::new(levels, 1, count)?, each(), picked)?;
        } else {
            picked.extend(each());
        }
        let wanted = picked.iter().copied().filter(|at| *at != NONE);
        if there > 0 {
            let width = u32::from(take(&mut data, 1)?[0]);
            chosen(Hybrid::new(data, width, there)?, width, wanted, values)?;
        }
        let mut values = values.iter().copied();
        for number in picked.iter_mut().filter(|at| **at != NONE) {
            *number = values.next().ok_or_else(|| torn("a page"))?;
        }
        Ok(())
    }

    /// The pages that hold some of the rows.
    fn pages_of(&self, of: &Ranges) -> Vec<usize> {
        let mut pages = Vec::new();
        let mut at = 0;
        for page in 0..self.locations.len() {
            while of
                .get(at)
                .is_some_and(|range| range.end <= self.starts[page])
            {
                at += 1;
            }
            if of
                .get(at)
                .is_some_and(|range| range.start < self.starts[page + 1])
            {
                pages.push(page);
            }
        }
        pages
    }

    /// The least and greatest values of the pages.
    fn bounds(&self) -> Result<Option<ColumnIndexMetaData>, ParquetError> {
        let Some(index) = self.chunk.column_index_range() else {
            return Ok(None);
        };
        let bytes = self.file.get_bytes(index.start, length(&index)?)?;
        let bounds = decode_column_index(&bytes, self.chunk.column_type())?;
        match bounds.num_pages() == self.locations.len() as u64 {
            true => Ok(Some(bounds)),
            false => Err(torn("an index")),
        }
    }

    /// The bytes of a page.
    fn page(&mut self, page: usize) -> Result<Bytes, ParquetError> {
        if self.next > page {
            self.rewind()?;
        }
        let pages = self.pages.as_mut().ok_or_else(|| torn("a column"))?;
        while self.next < page {
            pages.skip_next_page()?;
            self.next += 1;
        }
        self.next += 1;
        let count = self.starts[page + 1] - self.starts[page];
        match pages.get_next_page()? {
            Some(Page::DataPage {
                buf, num_values, ..
            }) if num_values == count => Ok(buf),
            _ => Err(torn("a page")),
        }
    }

    /// Reads a page, unless it is held.
    fn hold(&mut self, page: usize) -> Result<(), ParquetError> {
        if self.held == Some(page) {
            return Ok(());
        }
        self.held = None;
        let bytes = self.page(page)?;
        let count = (self.starts[page + 1] - self.starts[page]) as usize;
        let mut data = &bytes[..];
        let mut levels = None;
        if self.may_lack {
            let length = take(&mut data, 4)?.try_into().expect("four bytes");
            let bytes = take(&mut data, u32::from_le_bytes(length) as usize)?;
            levels = Some(Hybrid::new(bytes, 1, count)?);
        }
        if matches!(self.dictionary, Dictionary::Without) {
            self.longs.clear();
            distances(data, count, &mut self.longs)?;
            if self.longs.len() != count {
                return Err(torn("a page"));
            }
            self.held = Some(page);
            return Ok(());
        }
        let there = match &levels {
            None => count,
            Some(levels) => ones(levels.clone())?,
        };
        let is_whole = there == count;
        let into = if is_whole {
            &mut self.numbers
        } else {
            &mut self.values
        };
        into.clear();
        if there > 0 {
            let width = u32::from(take(&mut data, 1)?[0]);
            let mut pieces = Hybrid::new(data, width, there)?;
            while let Some(piece) = pieces.next()? {
                match piece {
                    Piece::Same(number, count) => into.resize(into.len() + count, number),
                    Piece::Packed(bytes, count) => unpack(bytes, width, count, into),
                }
            }
        }
        if let Some(mut levels) = levels.filter(|_| !is_whole) {
            self.numbers.clear();
            let mut values = self.values.iter();
            while let Some(piece) = levels.next()? {
                match piece {
                    Piece::Same(0, count) => {
                        self.numbers.resize(self.numbers.len() + count, NONE);
                    }
                    Piece::Same(_, count) => self.numbers.extend(values.by_ref().take(count)),
                    Piece::Packed(bytes, count) => {
                        self.numbers.extend((0..count).map(|n| {
                            match bytes[n / 8] >> (n % 8) & 1 {
                                0 => NONE,
                                _ => values.next().copied().unwrap_or(NONE),
                            }
                        }));
                    }
                }
            }
        }
        if self.numbers.len() != count {
            return Err(torn("a page"));
        }
        self.held = Some(page);
        Ok(())
    }
}

/// How much of what is between two instants is in a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Whole,
    Partly,
    Out,
}

/// Instants beyond the sign come after all others, and their bounds are not what they seem.
fn reach(bounds: Option<(i64, i64)>, window: &Window) -> Reach {
    let Some((least, greatest)) = bounds.filter(|(least, _)| *least >= 0) else {
        return Reach::Partly;
    };
    let (least, greatest) = (least.cast_unsigned(), greatest.cast_unsigned());
    if greatest < window.from.0 || least > window.to.0 {
        Reach::Out
    } else if least >= window.from.0 && greatest <= window.to.0 {
        Reach::Whole
    } else {
        Reach::Partly
    }
}

/// The least and the greatest instant of a row group.
fn all_instants(chunk: &ColumnChunkMetaData) -> Option<(i64, i64)> {
    let all = chunk.statistics()?;
    long(all.min_bytes_opt()?).zip(long(all.max_bytes_opt()?))
}

/// Whether no row has a value.
fn is_empty(chunk: &ColumnChunkMetaData, described: &Described, rows: i64) -> bool {
    let lacking = chunk.statistics().and_then(|it| it.null_count_opt());
    described.may_lack && lacking == u64::try_from(rows).ok()
}

/// The places among a page's values of those of some rows, or [`NONE`]; and how many values there are.
fn places(
    mut levels: Hybrid<'_>,
    mut rows: impl Iterator<Item = u32>,
    out: &mut Vec<u32>,
) -> Result<usize, ParquetError> {
    let (mut row, mut ones) = (0, 0);
    let mut next = rows.next();
    while let Some(piece) = levels.next()? {
        match piece {
            Piece::Same(level, count) => {
                let end = row + count;
                while let Some(at) = next.filter(|at| (*at as usize) < end) {
                    let place = ones + (at as usize - row);
                    out.push(if level == 0 { NONE } else { place as u32 });
                    next = rows.next();
                }
                ones += if level == 0 { 0 } else { count };
                row = end;
            }
            Piece::Packed(bytes, count) => {
                let end = row + count;
                let mut counted = 0;
                let mut until = |bit: usize| {
                    // Bits between are counted once, byte by byte.
                    while counted / 8 < bit / 8 {
                        let byte = bytes[counted / 8] >> (counted % 8);
                        ones += byte.count_ones() as usize;
                        counted = (counted / 8 + 1) * 8;
                    }
                    if counted < bit {
                        let byte = bytes[counted / 8] >> (counted % 8);
                        ones += (byte & ((1 << (bit - counted)) - 1)).count_ones() as usize;
                        counted = bit;
                    }
                    ones
                };
                while let Some(at) = next.filter(|at| (*at as usize) < end) {
                    let bit = at as usize - row;
                    let place = until(bit);
                    let is_there = bytes[bit / 8] >> (bit % 8) & 1 == 1;
                    out.push(if is_there { place as u32 } else { NONE });
                    next = rows.next();
                }
                until(count);
                row = end;
            }
        }
    }
    match next {
        None => Ok(ones),
        Some(_) => Err(torn("a page")),
    }
}

/// The values at some places, which are in order.
fn chosen(
    mut values: Hybrid<'_>,
    width: u32,
    mut places: impl Iterator<Item = u32>,
    out: &mut Vec<u32>,
) -> Result<(), ParquetError> {
    let (mut from, mut next) = (0, places.next());
    while next.is_some()
        && let Some(piece) = values.next()?
    {
        let end = from
            + match piece {
                Piece::Same(_, count) | Piece::Packed(_, count) => count,
            };
        while let Some(at) = next.filter(|at| (*at as usize) < end) {
            out.push(match piece {
                Piece::Same(value, _) => value,
                Piece::Packed(bytes, _) => one(bytes, width, at as usize - from),
            });
            next = places.next();
        }
        from = end;
    }
    match next {
        None => Ok(()),
        Some(_) => Err(torn("a page")),
    }
}

/// How many of some levels are 1.
fn ones(mut levels: Hybrid<'_>) -> Result<usize, ParquetError> {
    let mut ones = 0;
    while let Some(piece) = levels.next()? {
        ones += match piece {
            Piece::Same(0, _) => 0,
            Piece::Same(_, count) => count,
            Piece::Packed(bytes, count) => (0..count)
                .filter(|n| bytes[n / 8] >> (n % 8) & 1 == 1)
                .count(),
        };
    }
    Ok(ones)
}

fn dictionary(kind: Kind, bytes: &Bytes, count: usize) -> Result<Dictionary, ParquetError> {
    let fits = |size: usize| match count.checked_mul(size) == Some(bytes.len()) {
        true => Ok(()),
        false => Err(torn("a dictionary")),
    };
    Ok(match kind {
        Kind::Tag => {
            fits(16)?;
            Dictionary::Tags(bytes.clone())
        }
        Kind::Text => {
            let (mut rest, mut texts) = (&bytes[..], Vec::new());
            while !rest.is_empty() {
                let length = take(&mut rest, 4)?.try_into().expect("four bytes");
                let text = take(&mut rest, u32::from_le_bytes(length) as usize)?;
                let text = str::from_utf8(text).map_err(|_| torn("a text"))?;
                texts.push(text.into());
            }
            match texts.len() == count {
                true => Dictionary::Texts(texts),
                false => return Err(torn("a dictionary")),
            }
        }
        Kind::Number | Kind::Instant => {
            fits(8)?;
            let all = bytes.chunks_exact(8).filter_map(|it| it.try_into().ok());
            Dictionary::Numbers(all.map(i64::from_le_bytes).collect())
        }
        Kind::Small => {
            fits(4)?;
            let all = bytes.chunks_exact(4).filter_map(|it| it.try_into().ok());
            Dictionary::Numbers(all.map(|it| i32::from_le_bytes(it).into()).collect())
        }
        Kind::Digest | Kind::Key | Kind::Tags | Kind::Bytes => return Err(torn("a column")),
    })
}

fn bounds_of(bounds: &ColumnIndexMetaData, page: usize) -> Option<(&[u8], &[u8])> {
    match bounds {
        ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(it) | ColumnIndexMetaData::BYTE_ARRAY(it) => {
            it.min_value(page).zip(it.max_value(page))
        }
        _ => None,
    }
}

fn long(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_le_bytes)
}

fn length(range: &Range<u64>) -> Result<usize, ParquetError> {
    let length = range.end.checked_sub(range.start);
    let length = length.and_then(|it| usize::try_from(it).ok());
    length.ok_or_else(|| torn("an index"))
}

/// What of some rows is in a range.
fn clip(of: &Ranges, within: &Range<u32>) -> Ranges {
    let from = of.partition_point(|range| range.end <= within.start);
    let rest = of[from..].iter();
    let rest = rest.take_while(|range| range.start < within.end);
    rest.map(|range| range.start.max(within.start)..range.end.min(within.end))
        .collect()
}

/// The rows that are in both.
pub(super) fn crossed(a: &Ranges, b: &Ranges) -> Ranges {
    let mut found = Ranges::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let both = x.start.max(y.start)..x.end.min(y.end);
        if !both.is_empty() {
            found.push(both);
        }
        if x.end <= y.end {
            a.next();
        } else {
            b.next();
        }
    }
    found
}

/// The rows that are in any.
pub(super) fn joined(mut all: Ranges) -> Ranges {
    all.sort_unstable_by_key(|range| range.start);
    let mut found = Ranges::new();
    for range in all {
        match found.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => found.push(range),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_crossed_and_joined() {
        let (a, b) = (vec![0..5, 8..10, 12..20], vec![3..9, 10..13, 19..30]);
        assert_eq!(crossed(&a, &b), [3..5, 8..9, 12..13, 19..20]);
        assert_eq!(clip(&a, &(4..13)), [4..5, 8..10, 12..13]);
        assert_eq!(
            joined([a, b, vec![40..41, 50..51]].concat()),
            [0..30, 40..41, 50..51]
        );
        assert_eq!(joined(vec![5..6, 0..9, 20..21]), [0..9, 20..21]);
    }
}
