//! What happened, and who saw whose: a timeline to windows, accesses to fills and exposure.
//!
//! A site whose cache showed members' pages to others has a timeline (what was done and said, corrected
//! as more was found out) and logs (of our edge or of any other cache). From the timeline come the
//! [`windows`] in which a leak was possible; from the logs comes, for each response out of a store,
//! whose bytes they were.
//!
//! There is no I/O, no clock, no randomness and no member's name here: time is an argument, persons are
//! tags. The same facts give the same answer, in any order that they are told in.
//!
//! Invariant: every answer is a bound that holds, or says that it does not know. An uncertain instant is
//! an interval and never a guess within it; a log that may lack lines never yields certainty.

pub mod access;
mod civil;
pub mod encoding;
pub mod exchange;
pub mod exposure;
pub mod foreign;
pub mod infer;
pub mod lint;
pub mod negative;
pub mod own;
pub mod span;
pub mod takeover;
pub mod tally;
pub mod timeline;
pub mod unseen;
pub mod whose;
pub mod windows;

pub use civil::Zone;
pub use span::Span;
