//! What the archive's Parquet files hold: every table, every column, how it is packed, what it says.
//!
//! The one place where this is said: files are written and read by these tables, and
//! `docs/evidence-format.md` is held against them by a test.
//!
//! Invariant: no field of a row of evidence is without a column, so that the rows can be made again
//! from the files, byte for byte. What was written in a version is read in that version for ever;
//! another meaning is another version.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{BloomFilterProperties, EnabledStatistics, WriterProperties};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

/// The version in which files are written; it stands in each file's metadata.
pub const SCHEMA_VERSION: u32 = 1;

/// The names of what stands in each file's metadata.
pub mod meta {
    /// [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub const VERSION: &str = "shikiri.schema";
    /// The table's name.
    pub const TABLE: &str = "shikiri.table";
    /// The node whose rows these are.
    pub const NODE: &str = "shikiri.node";
    /// The day (UTC) of these rows.
    pub const DAY: &str = "shikiri.day";
}

/// A kind of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Responses: a begin row with its end row and what it was served under.
    Serves,
    /// Sessions and members.
    Links,
    /// Responses without rows.
    Gaps,
    /// What rows were served under, as it was written.
    Stances,
    /// Rows that this program cannot read, or that have lost their other half: their bytes.
    Others,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Whether a row may lack it.
    pub may_lack: bool,
    /// How it is packed.
    pub packing: Packing,
    /// Whether row groups say by a bloom filter what is not in them.
    pub bloom: bool,
    /// What it says.
    pub says: &'static str,
}

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 16 bytes: a tag or an id.
    Tag,
    /// 32 bytes.
    Digest,
    /// 8 bytes.
    Key,
    /// UTF-8.
    Text,
    /// 64 bits. None of ours comes near the sign; one that did would be read back all the same.
    Number,
    /// 16 bits, in 32.
    Small,
    /// Milliseconds since 1970, UTC.
    Instant,
    /// A list of tags.
    Tags,
    /// Bytes.
    Bytes,
}

/// How a column is packed, before zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Each value once in its row group, and then by its number.
    Dictionary,
    /// By the distance from the value before.
    Delta,
    /// As it is.
    Plain,
}

impl Kind {
    /// The Parquet type, as a message type spells it.
    #[must_use]
    pub const fn parquet(self) -> &'static str {
        match self {
            Self::Tag | Self::Tags => "FIXED_LEN_BYTE_ARRAY(16)",
            Self::Digest => "FIXED_LEN_BYTE_ARRAY(32)",
            Self::Key => "FIXED_LEN_BYTE_ARRAY(8)",
            Self::Text | Self::Bytes => "BYTE_ARRAY",
            Self::Number | Self::Instant => "INT64",
            Self::Small => "INT32",
        }
    }

    /// What Parquet says of its meaning.
    const fn logical(self) -> &'static str {
        match self {
            Self::Text => " (STRING)",
            Self::Instant => " (TIMESTAMP(MILLIS,true))",
            _ => "",
        }
    }
}

macro_rules! columns {
    ($($name:literal $kind:ident $may_lack:ident $packing:ident $bloom:ident $says:literal,)*) => {
        &[$(Column {
            name: $name,
            kind: Kind::$kind,
            may_lack: columns!(@lack $may_lack),
            packing: Packing::$packing,
            bloom: columns!(@bloom $bloom),
            says: $says,
        },)*]
    };
    (@lack always) => { false };
    (@lack may) => { true };
    (@bloom bloom) => { true };
    (@bloom none) => { false };
}

const SERVES: &[Column] = columns! {
    "target" Tag always Dictionary bloom "tag of the full target",
    "began" Instant always Delta none "when the request's head had been read",
    "fill" Tag may Dictionary bloom "the fetch that the bytes came with",
    "viewer" Tag may Dictionary bloom "tag of the session's credentials",
    "viewer_member" Tag may Dictionary bloom "tag of whom the origin believed that it served",
    "owner" Tag may Dictionary bloom "tag of whose data the origin says that it is",
    "address" Tag always Dictionary none "tag of the client's address",
    "outcome" Text always Dictionary none "where the response came from: `hit`, `stale`, `collapsed`, `fill`, `relay`, `pass`, `tunnel`",
    "reason" Text always Dictionary none "why from there; empty where the outcome says all",
    "status" Small always Dictionary none "the status that the client saw",
    "method" Text always Dictionary none "the method; `other` when it is none of HTTP's own",
    "class" Text always Dictionary none "the class that claimed it; `personal` when none did",
    "page" Text may Dictionary none "what the origin calls the page",
    "grant" Tag may Dictionary none "the preview grant under which it was shown",
    "cookies" Tags always Dictionary none "tags of the cookies that it set: at most 32",
    "cookies_set" Small always Dictionary none "how many cookies it set",
    "ended" Text may Dictionary none "how it ended: `complete`, `aborted`, `cut`, `broken`; null: no end row, all of it may have been seen",
    "bytes" Number may Dictionary none "how many bytes of its body were handed to the connection",
    "lasted_ms" Number may Dictionary none "how long after `began` its end row was written",
    "mode" Text may Dictionary none "the mode under which it was served",
    "rules" Digest may Dictionary none "digest of the rules under which it was served",
    "epoch" Number may Dictionary none "the epoch under which it was served",
    "tag_key" Key may Dictionary none "id of the key of the tags",
    "boot" Tag always Dictionary none "the run of the node",
    "lane" Number always Dictionary none "the lane",
    "sequence" Number always Delta none "the sequence number of its begin row: with node, boot and lane the request's id",
    "written_ms" Number always Dictionary none "how long after `began` its begin row was written",
    "end_after" Number may Dictionary none "how many rows after its begin row its end row stands in the lane",
};

const LINKS: &[Column] = columns! {
    "written" Instant always Delta none "when the row was written",
    "event" Text always Dictionary none "`started`: the session came to be the member's; `ended`: it ceased to be",
    "viewer" Tag always Dictionary bloom "tag of the session's credentials",
    "member" Tag may Dictionary bloom "tag of the member",
    "begin" Number may Delta none "the sequence number of the begin row of the response that said so",
    "boot" Tag always Dictionary none "the run of the node",
    "lane" Number always Dictionary none "the lane",
    "sequence" Number always Delta none "the sequence number of the row",
};

const GAPS: &[Column] = columns! {
    "written" Instant always Delta none "when the row was written",
    "first" Instant always Delta none "when the first of them began",
    "last" Instant always Delta none "when the last of them began",
    "responses" Number always Plain none "how many responses left without rows; all were passes",
    "boot" Tag always Dictionary none "the run of the node",
    "lane" Number always Dictionary none "the lane",
    "sequence" Number always Delta none "the sequence number of the row",
};

const STANCES: &[Column] = columns! {
    "written" Instant always Delta none "when the row was written",
    "mode" Text always Dictionary none "the mode",
    "rules" Digest always Dictionary none "digest of the rules",
    "epoch" Number always Dictionary none "the epoch",
    "tag_key" Key always Dictionary none "id of the key of the tags",
    "boot" Tag always Dictionary none "the run of the node",
    "lane" Number always Dictionary none "the lane",
    "sequence" Number always Delta none "the sequence number of the row",
};

const OTHERS: &[Column] = columns! {
    "written" Instant always Delta none "when the row was written",
    "body" Bytes always Plain none "the row's bytes",
    "boot" Tag always Dictionary none "the run of the node",
    "lane" Number always Dictionary none "the lane",
    "sequence" Number always Delta none "the sequence number of the row",
};

impl Table {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Serves,
        Self::Links,
        Self::Gaps,
        Self::Stances,
        Self::Others,
    ];

    /// Its name: the first folder of its files' paths.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::Links => "links",
            Self::Gaps => "gaps",
            Self::Stances => "stances",
            Self::Others => "others",
        }
    }

    /// The table of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Its columns, in the order of the files.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Serves => SERVES,
            Self::Links => LINKS,
            Self::Gaps => GAPS,
            Self::Stances => STANCES,
            Self::Others => OTHERS,
        }
    }

    /// Where a column stands.
    ///
    /// # Panics
    /// There is none of that name: names are this crate's own.
    #[must_use]
    pub fn column(self, name: &str) -> usize {
        let found = self.columns().iter().position(|column| column.name == name);
        found.expect("callers name what the table has")
    }

    /// The files' schema.
    #[must_use]
    pub fn parquet(self) -> TypePtr {
        let columns: String = self.columns().iter().map(field).collect();
        let text = format!("message {} {{ {columns} }}", self.name());
        Arc::new(parse_message_type(&text).expect("the tables are valid schemas"))
    }

    /// How the files are written.
    pub(crate) fn properties(
        self,
        node: &str,
        day: &str,
        settings: &Packed,
    ) -> Result<WriterProperties, ParquetError> {
        let zstd = ZstdLevel::try_new(settings.zstd_level)?;
        let said = [
            (meta::VERSION, SCHEMA_VERSION.to_string()),
            (meta::TABLE, self.name().to_owned()),
            (meta::NODE, node.to_owned()),
            (meta::DAY, day.to_owned()),
        ];
        let said = said.map(|(key, value)| KeyValue::new(key.to_owned(), value));
        let sorted = self.sorted_by().iter().map(|name| {
            let column_idx = i32::try_from(self.column(name)).expect("there are few columns");
            SortingColumn {
                column_idx,
                descending: false,
                nulls_first: true,
            }
        });
        let mut all = WriterProperties::builder()
            .set_created_by(format!("shikiri {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(said.to_vec()))
            .set_sorting_columns(Some(sorted.collect()))
            .set_compression(Compression::ZSTD(zstd))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_data_page_row_count_limit(settings.page_rows)
            // Rows are counted for each so many of them.
            .set_write_batch_size(settings.page_rows.min(WRITTEN_ROWS))
            .set_data_page_size_limit(PAGE_BYTES)
            // A dictionary that is cut off makes the rest of its column 16 bytes a value.
            .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
            .set_max_row_group_row_count(None);
        for column in self.columns() {
            let path = leaf(column);
            all = match column.packing {
                Packing::Dictionary => all.set_column_dictionary_enabled(path.clone(), true),
                Packing::Delta => all
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED),
                Packing::Plain => all.set_column_dictionary_enabled(path.clone(), false),
            };
            if column.bloom {
                let bloom = BloomFilterProperties::builder()
                    .with_fpp(BLOOM_FALSE)
                    .with_max_ndv(settings.group_rows)
                    .build();
                all = all.set_column_bloom_filter_properties(path, bloom);
            }
        }
        Ok(all.build())
    }

    /// What the rows of a row group are sorted by.
    const fn sorted_by(self) -> &'static [&'static str] {
        match self {
            Self::Serves => &["target", "boot", "lane", "sequence"],
            _ => &["boot", "lane", "sequence"],
        }
    }
}

/// How files are packed: what a measurement varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// How many rows a row group has, about.
    pub group_rows: u64,
    /// How many rows a page has at most.
    pub page_rows: usize,
    /// zstd's level.
    pub zstd_level: i32,
}

impl Packed {
    /// What was measured to be best (`docs/adr/0017-archive.md`).
    pub const STANDARD: Self = Self {
        group_rows: 2 << 20,
        page_rows: 16 << 10,
        zstd_level: 3,
    };
}

/// How many rows are written at once.
const WRITTEN_ROWS: usize = 1024;

/// A page's length at most.
const PAGE_BYTES: usize = 1 << 20;

/// A dictionary's length at most: as many values of 16 bytes as a row group has rows, and more.
const DICTIONARY_BYTES_MAX: usize = 256 << 20;

/// How often a bloom filter says that something may be there that is not.
const BLOOM_FALSE: f64 = 0.02;

fn field(column: &Column) -> String {
    let (name, kind) = (column.name, column.kind);
    if kind == Kind::Tags {
        let element = kind.parquet();
        return format!(
            "REQUIRED group {name} (LIST) {{ REPEATED group list {{ REQUIRED {element} element; }} }} "
        );
    }
    let need = if column.may_lack {
        "OPTIONAL"
    } else {
        "REQUIRED"
    };
    format!("{need} {} {name}{}; ", kind.parquet(), kind.logical())
}

fn leaf(column: &Column) -> ColumnPath {
    let mut path = vec![column.name.to_owned()];
    if column.kind == Kind::Tags {
        path.extend(["list".to_owned(), "element".to_owned()]);
    }
    ColumnPath::new(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_a_schema_with_its_columns_as_leaves_in_order() {
        for table in Table::ALL {
            let schema = table.parquet();
            let fields: Vec<&str> = schema
                .get_fields()
                .iter()
                .map(|field| field.name())
                .collect();
            let names: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
            assert_eq!(fields, names);
            for name in table.sorted_by() {
                assert!(names.contains(name), "{name}");
            }
            assert_eq!(Table::named(table.name()), Some(table));
            table
                .properties("n", "2020-03-16", &Packed::STANDARD)
                .expect("its properties are valid");
        }
    }
}
