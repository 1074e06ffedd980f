//! Facts that outlive a process: ids, instants, digests, modes, tags, rows of evidence, the text of a
//! policy.
//!
//! This crate decides nothing and does no I/O. Everything here is plain data that anybody may build;
//! what may be *done* with a fact is decided by the crate that grants the permission.
//!
//! Invariant: a value's canonical bytes, and so its digest, depend on the value alone: not on the
//! machine, the order of a hash map or the time.

mod digest;
mod grant;
mod id;
mod instant;
mod mode;
mod policy_text;
mod row;
mod tag;
mod text_form;
mod timeline;

pub use digest::{Canonical, ClassDigest, Digest, RulesDigest};
pub use grant::{GRANT_TIME_MAX, Grant, GrantToken, NodeKey};
pub use id::{Epoch, FillId, GrantId, Order};
pub use instant::UnixMillis;
pub use mode::Mode;
pub use policy_text::PolicyText;
pub use row::{
    BEGIN_BYTES_MAX, Begin, END_BYTES, End, Ended, Gap, LINK_BYTES_MAX, Link, LinkEvent, Outcome,
    ROW_COOKIES_MAX, ROW_TEXT_BYTES_MAX, ROW_VERSION, Row, RowFault, STANCE_BYTES, StanceRow,
};
pub use tag::{AddressTag, CookieTag, MemberTag, TagKey, TargetTag, ViewerTag};
pub use timeline::{
    Actor, Alarm, ENTRY_BYTES_MAX, ENTRY_TEXT_BYTES_MAX, Entry, EntryFault, KeyDone, PurgeTarget,
    Seen, SiteChange, Status, TIMELINE_VERSION, What,
};
