//! The rules of sharing: what a shared fetch may depend on, and what may be stored.
//!
//! Everything that decides whether one person may see a response made for another is here, and
//! nothing else is. There is no I/O, no clock and no randomness in this crate: time is an argument.
//! It knows nothing of sockets, tasks or files.
//!
//! Invariants kept here, each by a type (`ARCHITECTURE.md` lists them all):
//!
//! - The origin is asked with a [`Key`], not with a request: [`SharedFetch`] is made from nothing
//!   else, and a `Key` is made by [`Rules::classify`] alone.
//! - Default deny: only [`Fill::judge`] and what follows it make an [`Admitted`], once per fill.
//! - What may be shared is `Clone` ([`Key`], [`Admitted`]); what only one viewer may have is not
//!   ([`Relay`], [`Pass`]).

mod admit;
mod bounded;
mod cache_status;
mod certificate;
mod classify;
mod directives;
#[cfg(feature = "seeded-faults")]
pub mod fault;
mod freshness;
mod gate;
mod gated;
mod hop;
mod identity;
mod invalidate;
mod key;
mod labels;
mod marks;
mod mint;
mod named;
mod pass;
mod pins;
pub mod policy;
mod reason;
mod request;
mod respond;
mod rules;
mod secret;
mod slices;
mod sniff;
mod state;
mod targets;
mod token;
mod trace;
mod upstream;
mod viewer;

pub use admit::{Admitted, Fill, FirstCopy, Judged, Relay, SecondCopy, Sniff, Unsliced};
pub use cache_status::{CacheStatus, Forwarded};
pub use certificate::ClientCertificate;
pub use classify::{Classified, Requester, Sharing, Under};
pub use freshness::Reuse;
pub use gate::{Exceptions, Gate, gate};
pub use gated::{
    ClassGate, EdgeCredential, GateBy, GateTarget, Gated, Kept, Opened, Probe, Shut, Tokened,
    is_yes, set_cookies_of_gate,
};
pub use invalidate::{Invalidation, invalidated_by};
pub use key::{AcceptEncoding, Begun, Constants, Key, Outbound, SharedFetch};
pub use labels::Labels;
pub use marks::{Marked, Marks, Standing};
pub use pass::{
    Hop, Pass, PassRequest, RequestTrailers, keep_of_interim, keep_response_trailers,
    leave_as_private,
};
pub use pins::{
    Asking, Cookies, MemberId, PinCounts, PinFault, Pins, Said, SeenAs, SessionTurn, Unreadable,
    Verdict,
};
pub use reason::{NotShared, Personal, Refused};
pub use request::{RequestHead, Scheme};
pub use respond::{Answer, Conditions};
pub use rules::{
    Class, HostPattern, Lifetimes, Limits, Match, NamePattern, Origin, OriginHost, PathPattern,
    PinAction, PinRules, QueryKey, Rules, Session, SpanMarks, To, Trip, TypePattern,
};
pub use secret::{Secret, SecretSource};
pub use slices::{SliceFetch, SliceFill, SliceRefused, Slices};
pub use state::{Beginning, GRANTS_MAX, Knowledge, ModeSaid, State};
pub use token::{Shows, TokenKey, TokenPlace, TokenRule};
pub use trace::{SpanId, TraceContext, TraceId};
pub use upstream::{Spoken, Upstream};
pub use viewer::Viewer;

/// Whether this build can be made to misbehave on purpose. The `shikiri` binary does not compile
/// when it is true.
pub const SEEDED_FAULTS: bool = cfg!(feature = "seeded-faults");

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
