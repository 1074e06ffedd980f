//! `Cache-Status` (RFC 9211).

use http::HeaderValue;
use std::time::Duration;

/// Why a request was forwarded (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Miss,
    Request,
    Stale,
    Partial,
}

/// How this cache handled a request.
#[derive(Clone, Debug, Default)]
pub struct CacheStatus {
    pub hit: bool,
    pub forwarded: Option<Forwarded>,
    pub forwarded_status: Option<u16>,
    pub ttl: Option<Duration>,
    pub stored: bool,
    pub collapsed: bool,
    pub detail: Option<String>,
}

impl CacheStatus {
    /// The field's value; `detail` only when `trusted`.
    pub fn render(&self, _trusted: bool) -> HeaderValue {
        unimplemented!()
    }
}
