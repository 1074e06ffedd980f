//! What an unsafe method makes stale (RFC 9111 4.4).

use http::{HeaderMap, Method, StatusCode};
use crate::request::RequestHead;

/// A URI whose stored objects are stale from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation { pub uri: String }

/// The URIs that a response to a request invalidates.
pub fn invalidated_by(_method: &Method, _head_uri: &str, _authority: &str, _status: StatusCode, _headers: &HeaderMap) -> Vec<Invalidation> { unimplemented!() }
#[allow(dead_code)]
fn _x(_: &RequestHead<'_>) {}
