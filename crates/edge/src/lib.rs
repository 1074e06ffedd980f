//! The node: listeners, store, flights, origin connections, serving.
//!
//! [`request::serve`] is the one function that tells what happens to a request; everything else is a
//! step of it. Decisions are `shikiri_partition`'s: this crate carries bytes, keeps objects and
//! connections, and waits. It reads no policy text and knows no member.
//!
//! Invariants kept here:
//!
//! - Shared fetches have connections of their own ([`origin`]); a connection that carried a pass is
//!   used again only for the same client connection under the same credentials.
//! - The store takes what was admitted, and nothing else ([`store`]).
//! - Who waits for a fill gets it only when it was admitted ([`flight`]).
//! - No evidence, no bytes: what was shown is written down before it leaves ([`slot`], [`lane`]).
//! - Everything has a bound, whichever protocol a client speaks.

pub mod admin;
pub mod alarm;
pub mod answer;
mod body;
mod chain;
pub mod change;
pub mod chronicle;
mod closing;
pub mod connection;
mod cut;
pub mod evidence;
mod fill;
mod flight;
mod gate;
mod gated;
mod grants;
pub mod guard;
mod http1;
mod http2;
mod incoming;
mod lane;
pub mod listen;
pub mod maintenance;
mod meet;
mod meter;
pub mod node;
mod origin;
pub mod otlp;
mod pin;
pub mod proxy_protocol;
mod purge;
mod remembered;
pub mod request;
pub mod retelling;
mod scribe;
mod shares;
mod slices;
mod slot;
mod sockets;
mod store;
pub mod tls;
pub mod trace;
pub mod transport;
mod tunnel;
pub mod world;

pub use chain::Chain;
pub use change::{
    ChangeFault, Closed, Covered, ModeNotice, ModeTaken, Purged, Recorded, Said, Start,
};
pub use chronicle::Chronicle;
pub use closing::Cut;
pub use connection::serve_connection;
pub use cut::Downstream;
pub use evidence::{Evidence, EvidenceSettings, Keeper, OnFull};
pub use maintenance::Maintenance;
pub use meet::serve_client;
pub use meter::note_panic;
pub use node::{Config, Counts, Kept, Node, Stance, TrustedNetwork, Worker};
pub use origin::{Asked, Cause, OriginFault, ask_status, ask_whole, try_origin};
pub use sockets::Given;
pub use transport::Transport;
pub use world::{RealWorld, Wire, World};
