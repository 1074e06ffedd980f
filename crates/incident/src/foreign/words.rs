//! What caches call it: where a response came from, in each one's own words.
//!
//! Invariant: a word that is not in the list is not guessed at.

use crate::access::{Served, Stored};

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Nginx,
    Varnish,
    Apache,
    /// Squid and Traffic Server: `TCP_MEM_HIT/200`.
    Squid,
    CloudFront,
    Cloudflare,
    Fastly,
    Akamai,
    /// `true` or `false`, of a hit.
    Google,
    /// The server's name, where HAProxy answered itself.
    Haproxy,
}

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) served: Served,
    /// The client went away before its end.
    pub(super) is_broken_off: bool,
}

/// It was fetched; whether it was stored is said elsewhere.
const FETCHED: Served = Served::Fetched(Stored::Perhaps);
/// It went past the store.
const PASSED: Served = Served::Fetched(Stored::Not);

impl Word {
    /// Whether nothing at all is said where a response went past the store.
    pub(super) const fn says_nothing_of_passes(self) -> bool {
        matches!(
            self,
            Self::Nginx | Self::Apache | Self::Google | Self::Haproxy
        )
    }

    pub(super) fn read(self, text: &[u8]) -> Option<Said> {
        let text = str::from_utf8(text).ok()?.trim();
        let served = match self {
            Self::Nginx => nginx(text),
            Self::Varnish => varnish(text),
            Self::Apache => apache(text),
            Self::Squid => return squid(text),
            Self::CloudFront => cloudfront(text),
            Self::Cloudflare => cloudflare(text),
            Self::Fastly => fastly(text),
            Self::Akamai => match text {
                "0" => Some(FETCHED),
                "1" => Some(Served::Hit),
                _ => None,
            },
            Self::Google => match text {
                "true" => Some(Served::Hit),
                "false" => Some(FETCHED),
                _ => None,
            },
            Self::Haproxy => Some(match text.rsplit('/').next() {
                Some("<CACHE>") => Served::Hit,
                Some(server) if server.starts_with('<') => PASSED,
                _ => FETCHED,
            }),
        };
        Some(Said {
            served: served?,
            is_broken_off: false,
        })
    }
}

fn nginx(text: &str) -> Option<Served> {
    // After an internal redirect there are several, of which the last answered.
    Some(match text.rsplit([',', ':', ' ']).next()? {
        "MISS" | "EXPIRED" => FETCHED,
        "BYPASS" | "SCARCE" => PASSED,
        "STALE" | "UPDATING" => Served::Stale,
        "REVALIDATED" => Served::Revalidated,
        "HIT" => Served::Hit,
        _ => return None,
    })
}

fn varnish(text: &str) -> Option<Served> {
    Some(match text {
        "hit" => Served::Hit,
        "miss" => FETCHED,
        "pass" | "pipe" | "synth" | "error" | "hitpass" | "hitmiss" => PASSED,
        _ => return None,
    })
}

/// `X-Cache` (`HIT from host`), and the environment's `cache-status` (`cache hit`, `conditional cache hit:
/// entity refreshed`, `cache miss: attempting entity save`).
fn apache(text: &str) -> Option<Served> {
    let text = text.to_ascii_lowercase();
    let starts = |word: &str| text.starts_with(word);
    if starts("hit") || starts("cache hit") {
        return Some(Served::Hit);
    }
    if starts("revalidate") || starts("conditional cache hit") {
        return Some(Served::Revalidated);
    }
    if starts("miss") || starts("cache miss") || starts("conditional cache miss") {
        return Some(FETCHED);
    }
    (starts("invalidate") || starts("cache bypass")).then_some(PASSED)
}

fn cloudfront(text: &str) -> Option<Served> {
    Some(match text {
        "Hit" => Served::Hit,
        "RefreshHit" => Served::Revalidated,
        // Here it missed, and the store behind had it.
        "Miss" | "OriginShieldHit" => FETCHED,
        "Error"
        | "Redirect"
        | "LimitExceeded"
        | "CapacityExceeded"
        | "LambdaGeneratedResponse"
        | "FunctionGeneratedResponse" => PASSED,
        _ => return None,
    })
}

fn cloudflare(text: &str) -> Option<Served> {
    Some(match text {
        "hit" => Served::Hit,
        "stale" | "updating" => Served::Stale,
        "revalidated" => Served::Revalidated,
        "stream_hit" => Served::Collapsed,
        "miss" | "expired" => FETCHED,
        "bypass" | "dynamic" | "ignored" | "deferred" | "unknown" | "none" => PASSED,
        _ => return None,
    })
}

fn fastly(text: &str) -> Option<Served> {
    // What follows says how the parts of a place spoke to each other.
    let mut words = text.split('-');
    let first = words.next()?;
    let rest: Vec<&str> = words.collect();
    Some(match first {
        "HIT" if rest.contains(&"SYNTH") => PASSED,
        "HIT" if rest.contains(&"STALE") => Served::Stale,
        "HIT" if rest.contains(&"WAIT") => Served::Collapsed,
        "HIT" => Served::Hit,
        "MISS" => FETCHED,
        "HITPASS" | "PASS" | "ERROR" | "NONE" => PASSED,
        _ => return None,
    })
}

/// `TCP_REFRESH_UNMODIFIED/200`: a transport, words on how, and what came of it.
fn squid(text: &str) -> Option<Said> {
    let code = text.split('/').next()?;
    let mut words: Vec<&str> = code.split('_').collect();
    let has = |words: &[&str], word: &str| words.contains(&word);
    let is_broken_off = has(&words, "ABORTED") || has(&words, "TIMEOUT");
    words.retain(|word| !matches!(*word, "ABORTED" | "TIMEOUT"));
    let served = match words.as_slice() {
        ["NONE"] | ["NONE", "NONE"] | ["TCP", "NONE" | "DENIED" | "TUNNEL" | "REDIRECT"] => PASSED,
        ["TCP", "DENIED", "REPLY"] | ["UDP" | "ERR", ..] => PASSED,
        ["TCP", "CF", .., "HIT"] => Served::Collapsed,
        // Squid says whether it changed; Traffic Server calls a 304 a hit.
        ["TCP", .., "REFRESH", "UNMODIFIED" | "HIT"] => Served::Revalidated,
        ["TCP", .., "REFRESH", "MODIFIED" | "MISS"] => FETCHED,
        ["TCP", .., "REFRESH", "FAIL", "ERR"] => PASSED,
        ["TCP", .., "REFRESH", "FAIL"] | ["TCP", .., "REFRESH", "FAIL", "OLD" | "HIT"] => {
            Served::Stale
        }
        ["TCP", .., "REF", "FAIL", "HIT"] | ["TCP", .., "OFFLINE", "HIT"] => Served::Stale,
        ["TCP", .., "HIT"] => Served::Hit,
        ["TCP", .., "MISS"] => FETCHED,
        _ => return None,
    };
    Some(Said {
        served,
        is_broken_off,
    })
}
