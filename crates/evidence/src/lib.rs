//! Append-only, chained streams on disk: who was served what, and the timeline.
//!
//! Never decides what a row means and never holds a raw identifier: what comes in is bytes of
//! `shikiri_record`'s facts. Small dependencies, since it runs inside the edge.
//!
//! A stream ([`Stream`], [`Reader`]) is a folder of segment files ([`segment`]), each a chain of rows
//! that names the one before it. Rows that were flushed outlive their process; rows that were synced
//! outlive a loss of power; and whatever else became of the files, no row is read as true that was not
//! written, whole, at its place. `docs/evidence-format.md` says all of it byte by byte.
//!
//! What the chain cannot show is that rows, or whole segments, at the very end of a stream were taken
//! away, or that all of it was written anew: that is what signed checkpoints are for ([`checkpoint`],
//! [`Signing`], [`verify`]). The signature itself comes from outside ([`note::Signer`]).

pub mod checkpoint;
mod disk;
mod frames;
mod lanes;
mod marks;
mod memory;
pub mod note;
mod reader;
mod sealed;
pub mod segment;
mod stream;
pub mod tree;
pub mod verify;

pub use disk::{Disk, File, Hold, RealDisk};
pub use lanes::{Event, Keep, Lanes, lane_number};
pub use marks::{Contradiction, Run, Signing};
pub use memory::MemoryDisk;
pub use reader::{Fault, Item, Position, ReadFault, Reader, Row, Tail};
pub use sealed::{ARCHIVED, ArchivedTo, SealedSegment, sealed_segments};
pub use segment::{BootId, Chain, StreamKind, row_bytes};
pub use stream::{
    AppendFault, Cut, Full, Identity, LEAD_BYTES_MAX, Mended, OpenFault, RESERVED_ROW_BYTES_MAX,
    Reservation, SEGMENT_BYTES_MIN, Sealed, Stream, Trouble,
};
