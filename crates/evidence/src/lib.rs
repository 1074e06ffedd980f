//! Append-only, chained streams on disk: who was served what, and the timeline.
//!
//! Never decides what a row means and never holds a raw identifier: what comes in is bytes of
//! `shikiri_record`'s facts. Small dependencies, since it runs inside the edge.
