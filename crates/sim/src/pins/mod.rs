//! Owner pinning, in a world of its own: many members at many devices, and an origin that is honest,
//! but for what is planted.
//!
//! [`table`] plays a million changes of sessions against the table of pins; [`edge`] plays fewer through
//! the whole edge. Neither knows how pins decide: they know whose each session is, and what the edge
//! has been told.

pub(crate) mod edge;
mod site;
pub(crate) mod table;
