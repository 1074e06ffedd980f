//! The answer that a request gets from a stored object: conditions and ranges.

use crate::admit::Admitted;
use http::{HeaderMap, StatusCode};
use shikiri_record::UnixMillis;
use std::ops::Range;

/// The conditions and range of a request, which only choose how an object is shown.
#[derive(Clone, Debug, Default)]
pub struct Conditions {}

impl Conditions {
    pub fn of(_method: &http::Method, _headers: &HeaderMap) -> Self {
        unimplemented!()
    }
}

/// An answer from a stored object.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Which bytes of the stored body follow; `None`: no body.
    pub body: Option<Range<u64>>,
}

impl Admitted {
    /// The answer to a request. `length`: the stored body's length; `None` while it is still being filled without a declared length.
    pub fn respond(
        &self,
        _conditions: &Conditions,
        _length: Option<u64>,
        _now: UnixMillis,
    ) -> Answer {
        unimplemented!()
    }
}
