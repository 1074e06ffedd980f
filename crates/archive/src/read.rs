//! Rows out of the archive's files again.
//!
//! Never guesses: a file of another version, with other columns, or with a value that no row can have
//! is refused, and says where. Memory is bounded by a chunk of rows, whatever the file's length.

use std::fs::File;
use std::path::Path;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};
use shikiri_evidence::BootId;
use shikiri_record::{
    AddressTag, Begin, CookieTag, Digest, Ended, Epoch, FillId, Gap, GrantId, Link, LinkEvent,
    MemberTag, Mode, Outcome, RulesDigest, StanceRow, TargetTag, UnixMillis, ViewerTag,
};

use crate::rows::{Archived, Ending, Place, Serve};
use crate::schema::{SCHEMA_VERSION, Table, meta};

/// How many rows are held at once.
const CHUNK_ROWS: usize = 16 << 10;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// It cannot be opened.
    #[error("it cannot be opened: {0}")]
    Open(#[source] std::io::Error),
    /// It is no Parquet, or damaged.
    #[error("it is no sound Parquet file: {0}")]
    Parquet(#[from] ParquetError),
    /// It was not written by this program.
    #[error("it says nothing of `{0}`: it is no file of the archive")]
    NotOurs(&'static str),
    /// A later program wrote it.
    #[error(
        "it has schema version {0}, and this program reads version {SCHEMA_VERSION}: read it with a newer one"
    )]
    Version(String),
    /// Its columns are not those of its table.
    #[error("its columns are not those of the table `{0}`")]
    Columns(&'static str),
    /// It is another than its manifest names.
    #[error("it has {found} rows, and {due} were archived")]
    Rows {
        /// How many it has.
        found: u64,
        /// How many it had.
        due: u64,
    },
    /// A value that no row can have.
    #[error("row {row}: `{column}` holds what no row can have")]
    Value {
        /// The row's number in the file, from 0.
        row: u64,
        /// The column.
        column: &'static str,
    },
}

/// A file of the archive.
pub struct ArchiveFile<R: ChunkReader + 'static> {
    file: SerializedFileReader<R>,
    table: Table,
    node: String,
    day: String,
}

impl ArchiveFile<File> {
    /// Opens the file at a path.
    ///
    /// # Errors
    /// It cannot be read, or is none of ours.
    pub fn open(path: &Path) -> Result<Self, ReadFault> {
        Self::new(File::open(path).map_err(ReadFault::Open)?)
    }
}

impl<R: ChunkReader + 'static> ArchiveFile<R> {
    /// Of bytes that are somewhere.
    ///
    /// # Errors
    /// They cannot be read, or are none of ours.
    pub fn new(bytes: R) -> Result<Self, ReadFault> {
        let file = SerializedFileReader::new(bytes)?;
        let metadata = file.metadata().file_metadata();
        let said = |name: &'static str| {
            let all = metadata.key_value_metadata().into_iter().flatten();
            let found = all
                .filter(|it| it.key == name)
                .find_map(|it| it.value.clone());
            found.ok_or(ReadFault::NotOurs(name))
        };
        let version = said(meta::VERSION)?;
        if version != SCHEMA_VERSION.to_string() {
            return Err(ReadFault::Version(version));
        }
        let table = Table::named(&said(meta::TABLE)?).ok_or(ReadFault::NotOurs(meta::TABLE))?;
        if metadata.schema_descr().root_schema_ptr() != table.parquet() {
            return Err(ReadFault::Columns(table.name()));
        }
        let (node, day) = (said(meta::NODE)?, said(meta::DAY)?);
        Ok(Self {
            file,
            table,
            node,
            day,
        })
    }

    /// Of which table it is.
    #[must_use]
    pub const fn table(&self) -> Table {
        self.table
    }

    /// Whose rows they are.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Of which day.
    #[must_use]
    pub fn day(&self) -> &str {
        &self.day
    }

    /// How many rows it has: a response and its end are one.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let rows = self.file.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or(0)
    }

    /// The file, for whoever reads it by columns and pages.
    #[must_use]
    pub const fn parquet(&self) -> &SerializedFileReader<R> {
        &self.file
    }

    /// Tells all of its rows, in the file's order.
    ///
    /// # Errors
    /// It is damaged, or holds what no row can have.
    pub fn each(&self, tell: &mut dyn FnMut(Archived<'_>)) -> Result<(), ReadFault> {
        (0..self.groups()).try_for_each(|n| self.each_of(n, tell))
    }

    /// How many row groups it has.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.file.num_row_groups()
    }

    /// How many rows one of them has.
    ///
    /// # Panics
    /// There is no such row group.
    #[must_use]
    pub fn rows_of(&self, group: usize) -> u64 {
        let rows = self.file.metadata().row_group(group).num_rows();
        u64::try_from(rows).unwrap_or(0)
    }

    /// What is said of one of them, and of its columns.
    pub(crate) fn metadata_of(&self, group: usize) -> &RowGroupMetaData {
        self.file.metadata().row_group(group)
    }

    /// Tells the rows of one row group.
    ///
    /// # Errors
    /// It is damaged, or holds what no row can have.
    pub fn each_of(
        &self,
        group: usize,
        tell: &mut dyn FnMut(Archived<'_>),
    ) -> Result<(), ReadFault> {
        let before: u64 = (0..group).map(|n| self.rows_of(n)).sum();
        let of = self.file.get_row_group(group)?;
        let mut strips = Strips {
            table: self.table,
            group: &*of,
            row: before,
            until: before + self.rows_of(group),
        };
        match self.table {
            Table::Serves => strips.serves(tell),
            Table::Links => strips.links(tell),
            Table::Gaps => strips.gaps(tell),
            Table::Stances => strips.stances(tell),
            Table::Others => strips.others(tell),
        }
    }
}

/// One column, as far as it has been read.
struct Strip<T: DataType> {
    name: &'static str,
    reader: ColumnReaderImpl<T>,
    may_lack: bool,
    is_list: bool,
    levels: Vec<i16>,
    repeats: Vec<i16>,
    values: Vec<T::T>,
    level: usize,
    value: usize,
}

impl<T: DataType> Strip<T> {
    /// Reads the next rows, so many exactly.
    fn read(&mut self, rows: usize) -> Result<(), ReadFault> {
        self.levels.clear();
        self.repeats.clear();
        self.values.clear();
        (self.level, self.value) = (0, 0);
        let has_levels = self.may_lack || self.is_list;
        let (read, _, _) = self.reader.read_records(
            rows,
            has_levels.then_some(&mut self.levels),
            self.is_list.then_some(&mut self.repeats),
            &mut self.values,
        )?;
        if read == rows {
            Ok(())
        } else {
            let short = format!("the column {} ends too early", self.name);
            Err(ParquetError::General(short).into())
        }
    }

    /// The next row's value.
    fn next(&mut self) -> Option<&T::T> {
        if self.may_lack {
            let there = self.levels.get(self.level).is_some_and(|level| *level > 0);
            self.level += 1;
            if !there {
                return None;
            }
        }
        self.value += 1;
        self.values.get(self.value - 1)
    }
}

/// A row group on its way into rows.
struct Strips<'a> {
    table: Table,
    group: &'a (dyn RowGroupReader + 'a),
    /// The number in the file of the row that is next.
    row: u64,
    until: u64,
}

type Bytes16 = Strip<FixedLenByteArrayType>;
type Texts = Strip<ByteArrayType>;
type Numbers = Strip<Int64Type>;
type Smalls = Strip<Int32Type>;

impl Strips<'_> {
    fn strip<T: DataType>(
        &self,
        name: &'static str,
        typed: fn(ColumnReader) -> ColumnReaderImpl<T>,
    ) -> Result<Strip<T>, ReadFault> {
        let at = self.table.column(name);
        let column = &self.table.columns()[at];
        Ok(Strip {
            name,
            reader: typed(self.group.get_column_reader(at)?),
            may_lack: column.may_lack,
            is_list: column.kind == crate::schema::Kind::Tags,
            levels: Vec::new(),
            repeats: Vec::new(),
            values: Vec::new(),
            level: 0,
            value: 0,
        })
    }

    fn tags(&self, name: &'static str) -> Result<Bytes16, ReadFault> {
        self.strip(name, get_typed_column_reader::<FixedLenByteArrayType>)
    }

    fn texts(&self, name: &'static str) -> Result<Texts, ReadFault> {
        self.strip(name, get_typed_column_reader::<ByteArrayType>)
    }

    fn numbers(&self, name: &'static str) -> Result<Numbers, ReadFault> {
        self.strip(name, get_typed_column_reader::<Int64Type>)
    }

    fn smalls(&self, name: &'static str) -> Result<Smalls, ReadFault> {
        self.strip(name, get_typed_column_reader::<Int32Type>)
    }

    /// How many rows to read next.
    fn chunk(&self) -> usize {
        usize::try_from(self.until - self.row).map_or(CHUNK_ROWS, |left| left.min(CHUNK_ROWS))
    }

    fn wrong(&self, column: &'static str) -> ReadFault {
        let row = self.row;
        ReadFault::Value { row, column }
    }

    /// Columns are in the table's order, so that a file is read from its beginning to its end.
    fn serves(&mut self, tell: &mut dyn FnMut(Archived<'_>)) -> Result<(), ReadFault> {
        let mut target = self.tags("target")?;
        let mut began = self.numbers("began")?;
        let mut fill = self.tags("fill")?;
        let mut viewer = self.tags("viewer")?;
        let mut viewer_member = self.tags("viewer_member")?;
        let mut owner = self.tags("owner")?;
        let mut address = self.tags("address")?;
        let mut outcome = self.texts("outcome")?;
        let mut reason = self.texts("reason")?;
        let mut status = self.smalls("status")?;
        let mut method = self.texts("method")?;
        let mut class = self.texts("class")?;
        let mut page = self.texts("page")?;
        let mut grant = self.tags("grant")?;
        let mut cookies = self.tags("cookies")?;
        let mut cookies_set = self.smalls("cookies_set")?;
        let mut ended = self.texts("ended")?;
        let mut bytes = self.numbers("bytes")?;
        let mut lasted = self.numbers("lasted_ms")?;
        let mut mode = self.texts("mode")?;
        let mut rules = self.tags("rules")?;
        let mut epoch = self.numbers("epoch")?;
        let mut tag_key = self.tags("tag_key")?;
        let mut place = self.places()?;
        let mut written = self.numbers("written_ms")?;
        let mut end_after = self.numbers("end_after")?;
        while self.row < self.until {
            let rows = self.chunk();
            for strip in [
                &mut target,
                &mut fill,
                &mut viewer,
                &mut viewer_member,
                &mut owner,
                &mut address,
                &mut grant,
                &mut cookies,
                &mut rules,
                &mut tag_key,
            ] {
                strip.read(rows)?;
            }
            for strip in [
                &mut began,
                &mut bytes,
                &mut lasted,
                &mut epoch,
                &mut written,
                &mut end_after,
            ] {
                strip.read(rows)?;
            }
            for strip in [
                &mut outcome,
                &mut reason,
                &mut method,
                &mut class,
                &mut page,
                &mut ended,
                &mut mode,
            ] {
                strip.read(rows)?;
            }
            status.read(rows)?;
            cookies_set.read(rows)?;
            place.read(rows)?;
            for _ in 0..rows {
                let began = self.number(&mut began)?;
                let at = |after: u64| UnixMillis(began.wrapping_add(after));
                let place = place.next(self, at(self.number(&mut written)?))?;
                let ending = match ended.next() {
                    None => {
                        // They lack theirs too.
                        let others = [&mut bytes, &mut lasted, &mut end_after];
                        if let Some(strip) = others.into_iter().find_map(|it| {
                            let name = it.name;
                            it.next().is_some().then_some(name)
                        }) {
                            return Err(self.wrong(strip));
                        }
                        None
                    }
                    Some(ended) => Some(Ending {
                        ended: self.word(ended, "ended", Ended::ALL, Ended::name)?,
                        bytes: self.number(&mut bytes)?,
                        written: at(self.number(&mut lasted)?),
                        sequence: place.sequence.wrapping_add(self.number(&mut end_after)?),
                    }),
                };
                let stance = match mode.next() {
                    None => {
                        if rules.next().or(tag_key.next()).is_some() || epoch.next().is_some() {
                            return Err(self.wrong("mode"));
                        }
                        None
                    }
                    Some(mode) => Some(StanceRow {
                        mode: self.word(mode, "mode", &Mode::ALL, Mode::name)?,
                        rules: RulesDigest(Digest::from_bytes(self.always(&mut rules)?)),
                        epoch: Epoch(self.number(&mut epoch)?),
                        tag_key: u64::from_be_bytes(self.always(&mut tag_key)?),
                    }),
                };
                let outcome = outcome.next().ok_or_else(|| self.wrong("outcome"))?;
                let serve = Serve {
                    place,
                    stance,
                    ending,
                    begin: Begin {
                        began: UnixMillis(began),
                        outcome: self.word(outcome, "outcome", Outcome::ALL, Outcome::name)?,
                        reason: self.text(&mut reason)?.unwrap_or_default(),
                        status: self.small(&mut status)?,
                        method: self.text(&mut method)?.unwrap_or_default(),
                        class: self.text(&mut class)?.unwrap_or_default(),
                        page: self.text(&mut page)?,
                        target: TargetTag(self.always(&mut target)?),
                        address: AddressTag(self.always(&mut address)?),
                        viewer: self.tag(&mut viewer)?.map(ViewerTag),
                        viewer_member: self.tag(&mut viewer_member)?.map(MemberTag),
                        owner: self.tag(&mut owner)?.map(MemberTag),
                        fill: self
                            .tag(&mut fill)?
                            .map(|id| FillId(u128::from_be_bytes(id))),
                        grant: self
                            .tag(&mut grant)?
                            .map(|id| GrantId(u128::from_be_bytes(id))),
                        cookies: self.list(&mut cookies)?,
                        cookies_set: self.small(&mut cookies_set)?,
                    },
                };
                tell(Archived::Serve(serve));
                self.row += 1;
            }
        }
        Ok(())
    }

    fn links(&mut self, tell: &mut dyn FnMut(Archived<'_>)) -> Result<(), ReadFault> {
        let mut written = self.numbers("written")?;
        let mut event = self.texts("event")?;
        let (mut viewer, mut member) = (self.tags("viewer")?, self.tags("member")?);
        let mut begin = self.numbers("begin")?;
        let mut place = self.places()?;
        while self.row < self.until {
            let rows = self.chunk();
            written.read(rows)?;
            event.read(rows)?;
            viewer.read(rows)?;
            member.read(rows)?;
            begin.read(rows)?;
            place.read(rows)?;
            for _ in 0..rows {
                let place = place.next(self, UnixMillis(self.number(&mut written)?))?;
                let event = match self.text(&mut event)? {
                    Some("started") => LinkEvent::Started,
                    Some("ended") => LinkEvent::Ended,
                    _ => return Err(self.wrong("event")),
                };
                let link = Link {
                    event,
                    viewer: ViewerTag(self.always(&mut viewer)?),
                    member: self.tag(&mut member)?.map(MemberTag),
                    begin: begin.next().map(|begin| begin.cast_unsigned()),
                };
                tell(Archived::Link(place, link));
                self.row += 1;
            }
        }
        Ok(())
    }

    fn gaps(&mut self, tell: &mut dyn FnMut(Archived<'_>)) -> Result<(), ReadFault> {
        let mut written = self.numbers("written")?;
        let (mut first, mut last) = (self.numbers("first")?, self.numbers("last")?);
        let mut responses = self.numbers("responses")?;
        let mut place = self.places()?;
        while self.row < self.until {
            let rows = self.chunk();
            for strip in [&mut written, &mut first, &mut last, &mut responses] {
                strip.read(rows)?;
            }
            place.read(rows)?;
            for _ in 0..rows {
                let place = place.next(self, UnixMillis(self.number(&mut written)?))?;
                let gap = Gap {
                    from: UnixMillis(self.number(&mut first)?),
                    to: UnixMillis(self.number(&mut last)?),
                    responses: self.number(&mut responses)?,
                };
                tell(Archived::Gap(place, gap));
                self.row += 1;
            }
        }
        Ok(())
    }

    fn stances(&mut self, tell: &mut dyn FnMut(Archived<'_>)) -> Result<(), ReadFault> {
        let mut written = self.numbers("written")?;
        let mut mode = self.texts("mode")?;
        let (mut rules, mut tag_key) = (self.tags("rules")?, self.tags("tag_key")?);
        let mut epoch = self.numbers("epoch")?;
        let mut place = self.places()?;
        while self.row < self.until {
            let rows = self.chunk();
            written.read(rows)?;
            mode.read(rows)?;
            rules.read(rows)?;
            epoch.read(rows)?;
            tag_key.read(rows)?;
            place.read(rows)?;
            for _ in 0..rows {
                let place = place.next(self, UnixMillis(self.number(&mut written)?))?;
                let mode = mode.next().ok_or_else(|| self.wrong("mode"))?;
                let stance = StanceRow {
                    mode: self.word(mode, "mode", &Mode::ALL, Mode::name)?,
                    rules: RulesDigest(Digest::from_bytes(self.always(&mut rules)?)),
                    epoch: Epoch(self.number(&mut epoch)?),
                    tag_key: u64::from_be_bytes(self.always(&mut tag_key)?),
                };
                tell(Archived::Stance(place, stance));
                self.row += 1;
            }
        }
        Ok(())
    }

    fn others(&mut self, tell: &mut dyn FnMut(Archived<'_>)) -> Result<(), ReadFault> {
        let mut written = self.numbers("written")?;
        let mut body = self.texts("body")?;
        let mut place = self.places()?;
        while self.row < self.until {
            let rows = self.chunk();
            written.read(rows)?;
            body.read(rows)?;
            place.read(rows)?;
            for _ in 0..rows {
                let place = place.next(self, UnixMillis(self.number(&mut written)?))?;
                let body = body.next().ok_or_else(|| self.wrong("body"))?;
                tell(Archived::Other(place, body.data()));
                self.row += 1;
            }
        }
        Ok(())
    }

    fn places(&self) -> Result<Places, ReadFault> {
        Ok(Places {
            boot: self.tags("boot")?,
            lane: self.numbers("lane")?,
            sequence: self.numbers("sequence")?,
        })
    }

    fn number(&self, strip: &mut Numbers) -> Result<u64, ReadFault> {
        let name = strip.name;
        let number = strip.next().ok_or_else(|| self.wrong(name))?;
        Ok(number.cast_unsigned())
    }

    fn small(&self, strip: &mut Smalls) -> Result<u16, ReadFault> {
        let name = strip.name;
        let number = strip.next().copied().and_then(|it| it.try_into().ok());
        number.ok_or_else(|| self.wrong(name))
    }

    fn always<const N: usize>(&self, strip: &mut Bytes16) -> Result<[u8; N], ReadFault> {
        let name = strip.name;
        let found = self.tag(strip)?;
        found.ok_or_else(|| self.wrong(name))
    }

    fn tag<const N: usize>(&self, strip: &mut Bytes16) -> Result<Option<[u8; N]>, ReadFault> {
        let name = strip.name;
        let tag = strip.next().map(|tag| tag.data().try_into());
        tag.transpose().map_err(|_| self.wrong(name))
    }

    fn text<'t>(&self, strip: &'t mut Texts) -> Result<Option<&'t str>, ReadFault> {
        let name = strip.name;
        let text = strip.next().map(ByteArray::as_utf8);
        text.transpose().map_err(|_| self.wrong(name))
    }

    fn word<T: Copy>(
        &self,
        word: &ByteArray,
        column: &'static str,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Result<T, ReadFault> {
        let found = all
            .iter()
            .find(|known| name(**known).as_bytes() == word.data());
        found.copied().ok_or_else(|| self.wrong(column))
    }

    /// The next row's list: its first level says whether there is anything in it.
    fn list(&self, strip: &mut Bytes16) -> Result<Vec<CookieTag>, ReadFault> {
        let mut found = Vec::new();
        loop {
            let level = strip.levels.get(strip.level).copied();
            strip.level += 1;
            match level {
                Some(0) => {}
                Some(_) => {
                    let value: Option<&FixedLenByteArray> = strip.values.get(strip.value);
                    strip.value += 1;
                    let tag = value.and_then(|tag| tag.data().try_into().ok());
                    found.push(CookieTag(tag.ok_or_else(|| self.wrong(strip.name))?));
                }
                None => return Err(self.wrong(strip.name)),
            }
            // Where the next one goes on with this row it says so.
            if strip
                .repeats
                .get(strip.level)
                .is_none_or(|repeat| *repeat == 0)
            {
                return Ok(found);
            }
        }
    }
}

/// Where rows stood.
struct Places {
    boot: Bytes16,
    lane: Numbers,
    sequence: Numbers,
}

impl Places {
    fn read(&mut self, rows: usize) -> Result<(), ReadFault> {
        self.boot.read(rows)?;
        self.lane.read(rows)?;
        self.sequence.read(rows)
    }

    fn next(&mut self, strips: &Strips<'_>, written: UnixMillis) -> Result<Place, ReadFault> {
        let lane = strips.number(&mut self.lane)?;
        Ok(Place {
            boot: BootId(strips.always(&mut self.boot)?),
            lane: lane.try_into().map_err(|_| strips.wrong("lane"))?,
            sequence: strips.number(&mut self.sequence)?,
            written,
        })
    }
}
