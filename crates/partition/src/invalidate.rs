//! What an unsafe method makes stale (RFC 9111 4.4).

use crate::request::RequestHead;
use http::{HeaderMap, StatusCode};

/// A URI whose stored objects are stale from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    pub uri: String,
}

/// The URIs that a response to a request invalidates.
pub fn invalidated_by(
    _head: &RequestHead<'_>,
    _status: StatusCode,
    _headers: &HeaderMap,
) -> Vec<Invalidation> {
    unimplemented!()
}
