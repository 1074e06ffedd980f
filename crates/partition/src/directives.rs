//! `Cache-Control` and its targeted kin, read so that a malformed prohibition is a prohibition.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The directives of one field.
#[derive(Clone, Debug)]
pub(crate) struct Directives {}

impl Directives {
    pub(crate) fn of(_headers: &HeaderMap, _name: &HeaderName) -> Self {
        unimplemented!()
    }

    /// The same for a response that leaves as private.
    pub(crate) fn as_private(&self) -> HeaderValue {
        unimplemented!()
    }
}
