//! Evidence at rest: rows as Parquet files, which any SQL engine reads.
//!
//! The only crate that knows Parquet. It never decides what a row means, and never runs inside the
//! edge: it reads what the edge has sealed.
//!
//! Invariant: the archive loses nothing. Every field of every row has a column ([`schema`]); what this
//! program cannot read is kept as bytes; and [`Tally`] says of segments and of the files made from
//! them whether they hold the same rows.

mod batch;
mod join;
pub mod keeper;
mod manifest;
mod place;
mod read;
mod rows;
#[cfg(feature = "sample")]
pub mod sample;
pub mod schema;
mod waiting;
pub mod who;
mod write;

pub use batch::{Batch, Day};
pub use join::{Joiner, Waiting};
pub use manifest::{Counted, Filed, MANIFEST_VERSION, Manifest, Plan, Reached, Taken};
pub use place::{ArchivePlace, Folder};
pub use read::{ArchiveFile, ReadFault};
pub use rows::{Archived, Ending, Place, Serve, Tally};
pub use schema::{Packed, SCHEMA_VERSION, Table};
