//! Admission: the only way for a response to become an object.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use shikiri_record::{FillId, Order, UnixMillis};

use crate::key::{Begun, Key};
use crate::reason::NotShared;
use crate::rules::Class;

/// A fetch that may become an object: judged once.
#[must_use]
#[derive(Debug)]
pub struct Fill {
    key: Key,
    class: Arc<Class>,
    begun: Begun,
    stored: Option<Admitted>,
}

/// What a response head leaves to be known.
#[derive(Debug)]
pub enum Judged {
    /// Admitted, if its first bytes are what its head says.
    Sniff(Sniff),
    /// A document: admitted, if a second anonymous copy agrees.
    Copy(FirstCopy),
    /// What is stored is still right: its body goes on under this head.
    Refreshed(Admitted),
    /// Not shared.
    Relay(Relay),
}

/// A response whose first bytes decide.
#[must_use]
#[derive(Debug)]
pub struct Sniff {
    head: Admitted,
}

/// The first copy of a document.
#[must_use]
#[derive(Debug)]
pub struct FirstCopy {
    head: Admitted,
}

/// A second anonymous copy, as it came.
#[derive(Debug)]
pub struct SecondCopy<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// A stored response's head. May be shared.
#[derive(Clone, Debug)]
pub struct Admitted(Arc<()>);

/// A response for one viewer.
#[must_use]
#[derive(Debug)]
pub struct Relay {
    why: NotShared,
    status: StatusCode,
    headers: HeaderMap,
}

impl Fill {
    pub(crate) fn begin(
        key: Key,
        class: Arc<Class>,
        begun: Begun,
        stored: Option<Admitted>,
    ) -> Self {
        Self {
            key,
            class,
            begun,
            stored,
        }
    }

    /// Judges a response head. `length_known`: the end of the body is declared.
    pub fn judge(
        self,
        _status: StatusCode,
        _headers: HeaderMap,
        _length_known: bool,
        _now: UnixMillis,
    ) -> Judged {
        unimplemented!()
    }
}

impl Sniff {
    /// The head, as it is served if the bytes agree: for the leader alone until then.
    pub const fn bytes_wanted(&self) -> usize {
        512
    }
    pub fn object_bytes_max(&self) -> u64 {
        unimplemented!()
    }
    pub fn content_length(&self) -> Option<u64> {
        unimplemented!()
    }
    pub fn refuse(self, _why: NotShared) -> Relay {
        unimplemented!()
    }
    pub fn judge(self, _prefix: &[u8]) -> Result<Admitted, Relay> {
        unimplemented!()
    }
}

impl FirstCopy {
    /// What the leader is shown meanwhile.
    pub fn object_bytes_max(&self) -> u64 {
        unimplemented!()
    }
    pub fn content_length(&self) -> Option<u64> {
        unimplemented!()
    }
    pub fn refuse(self, _why: NotShared) -> Relay {
        unimplemented!()
    }
    pub fn status(&self) -> StatusCode {
        unimplemented!()
    }
    pub fn leader_head(&self) -> (StatusCode, HeaderMap) {
        unimplemented!()
    }
    pub fn judge(self, _first: &[u8], _second: &SecondCopy<'_>) -> Result<Admitted, NotShared> {
        unimplemented!()
    }
    pub fn key(&self) -> &Key {
        self.head.key()
    }
}

impl Relay {
    pub const fn why(&self) -> &NotShared {
        &self.why
    }
    /// Takes it apart: status, head as it came, reason.
    pub fn into_parts(self) -> (StatusCode, HeaderMap, NotShared) {
        (self.status, self.headers, self.why)
    }
}

impl Admitted {
    pub fn key(&self) -> &Key {
        unimplemented!()
    }
    pub fn status(&self) -> StatusCode {
        unimplemented!()
    }
    pub fn fill(&self) -> FillId {
        unimplemented!()
    }
    pub fn order(&self) -> Order {
        unimplemented!()
    }
    pub fn etag(&self) -> Option<&HeaderValue> {
        unimplemented!()
    }
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        unimplemented!()
    }
    pub fn weight(&self) -> usize {
        unimplemented!()
    }
    /// The stored body's length, if it was declared.
    pub fn content_length(&self) -> Option<u64> {
        unimplemented!()
    }
    pub fn object_bytes_max(&self) -> u64 {
        unimplemented!()
    }
}
