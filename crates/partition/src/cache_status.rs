//! `Cache-Status` (RFC 9211): how this cache handled a request, for people and tools downstream.
//!
//! It never names a member, a key or a URL. The reason for a refusal goes only to those whom the edge
//! trusts, since it speaks of how the origin behaves.

use std::time::Duration;

use http::HeaderValue;

use crate::directives::is_tchar;

/// Why a request was forwarded (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache was not to handle it.
    Bypass,
    /// Its method goes to the origin.
    Method,
    /// Nothing is stored for its URI.
    UriMiss,
    /// Something is stored for its URI, nothing for its selecting headers.
    VaryMiss,
    /// Nothing stored fits, for one of those two reasons.
    Miss,
    /// Its own directives ask for it.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored lacks a part.
    Partial,
}

impl Forwarded {
    const fn token(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// How this cache handled a request.
#[derive(Clone, Debug, Default)]
pub struct CacheStatus {
    /// It was answered from what is stored, without going forward (RFC 9211 2.1).
    pub hit: bool,
    /// It went forward, and why (2.2). Not written beside `hit`: the two exclude each other.
    pub forwarded: Option<Forwarded>,
    /// What came back (2.3).
    pub forwarded_status: Option<u16>,
    /// Freshness left (2.4).
    pub ttl: Option<Duration>,
    /// The answer is stored (2.5). Only of what went forward.
    pub stored: bool,
    /// It waited for another request's answer (2.6). Only of what went forward.
    pub collapsed: bool,
    /// Our own reason (2.8).
    pub detail: Option<String>,
}

impl CacheStatus {
    /// The field's value; `detail` only when `trusted`.
    #[must_use]
    pub fn render(&self, trusted: bool) -> HeaderValue {
        let mut text = String::from("shikiri");
        let mut parameter = |name: &str, value: Option<String>| {
            text.push_str("; ");
            text.push_str(name);
            if let Some(value) = value {
                text.push('=');
                text.push_str(&value);
            }
        };
        if self.hit {
            parameter("hit", None);
        } else if let Some(forwarded) = self.forwarded {
            parameter("fwd", Some(forwarded.token().to_owned()));
            if let Some(status) = self.forwarded_status {
                parameter("fwd-status", Some(status.to_string()));
            }
        }
        if let Some(ttl) = self.ttl {
            // An integer has at most fifteen digits (RFC 9651 3.3.1).
            parameter(
                "ttl",
                Some(ttl.as_secs().min(999_999_999_999_999).to_string()),
            );
        }
        if !self.hit && self.forwarded.is_some() {
            if self.stored {
                parameter("stored", None);
            }
            if self.collapsed {
                parameter("collapsed", None);
            }
        }
        if let Some(detail) = self.detail.as_deref().filter(|_| trusted) {
            parameter("detail", Some(token_or_string(detail)));
        }
        HeaderValue::try_from(text)
            .expect("tokens, integers and strings of printable ASCII are a header value")
    }
}

/// A token where the text is one, else a string (RFC 9651 3.3.3, 3.3.4), bounded, with `?` for what a
/// string cannot hold.
fn token_or_string(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    let is_token = text.len() <= CHARS_MAX
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'*')
        && text
            .bytes()
            .all(|b| is_tchar(b) || matches!(b, b':' | b'/'));
    if is_token {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars().take(CHARS_MAX) {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: &CacheStatus, trusted: bool, expected: &str) {
        assert_eq!(status.render(trusted), expected);
    }

    #[test]
    fn as_a_structured_field() {
        let ttl = Some(Duration::from_millis(30_900));
        check(
            &CacheStatus {
                hit: true,
                ttl,
                ..CacheStatus::default()
            },
            true,
            "shikiri; hit; ttl=30",
        );
        let miss = CacheStatus {
            forwarded: Some(Forwarded::UriMiss),
            forwarded_status: Some(200),
            stored: true,
            collapsed: true,
            detail: Some("sets-cookie".into()),
            ..CacheStatus::default()
        };
        check(
            &miss,
            true,
            "shikiri; fwd=uri-miss; fwd-status=200; stored; collapsed; detail=sets-cookie",
        );
        check(
            &miss,
            false,
            "shikiri; fwd=uri-miss; fwd-status=200; stored; collapsed",
        );
        check(&CacheStatus::default(), true, "shikiri");
    }

    #[test]
    fn a_hit_did_not_go_forward() {
        let both = CacheStatus {
            hit: true,
            forwarded: Some(Forwarded::Stale),
            forwarded_status: Some(304),
            stored: true,
            collapsed: true,
            ..CacheStatus::default()
        };
        check(&both, true, "shikiri; hit");
    }

    #[test]
    fn a_detail_cannot_break_out() {
        let detail = |text: &str| CacheStatus {
            detail: Some(text.into()),
            ..CacheStatus::default()
        };
        check(
            &detail("a \"b\" \\; hit"),
            true,
            "shikiri; detail=\"a \\\"b\\\" \\\\; hit\"",
        );
        check(
            &detail("仕切り\r\nx: y"),
            true,
            "shikiri; detail=\"?????x: y\"",
        );
        check(&detail(""), true, "shikiri; detail=\"\"");
        check(&detail("1st"), true, "shikiri; detail=\"1st\"");
        assert!(detail(&"x".repeat(1000)).render(true).len() < 300);
    }

    #[test]
    fn a_ttl_is_an_integer_of_fifteen_digits_at_most() {
        let forever = CacheStatus {
            hit: true,
            ttl: Some(Duration::MAX),
            ..CacheStatus::default()
        };
        check(&forever, true, "shikiri; hit; ttl=999999999999999");
    }
}
