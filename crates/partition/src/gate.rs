//! The gate: in which mode a request is answered, or whether it is shown the maintenance page.
//!
//! It stands before classification and lookup. In `closed` nothing that came from an origin or the store
//! passes it, but for the bearer of a preview grant, and for paths that the operator named as exceptions,
//! which pass and share nothing.

use http::Method;
use shikiri_record::{Grant, GrantId, Mode, UnixMillis};

use crate::identity;
use crate::request::RequestHead;
use crate::rules::PathPattern;

/// What a gate says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It goes on.
    Through {
        /// In this mode, which is never `closed`.
        mode: Mode,
        /// By this grant: what the request fills is the grant's alone.
        grant: Option<GrantId>,
    },
    /// The maintenance page, and nothing else.
    Maintenance,
}

/// Whether a request may go on, and in which mode. `grant`: the one whose token the request shows, if it
/// shows a true one. `excepted`: whether it is among the [`Exceptions`].
#[must_use]
pub fn gate(mode: Mode, grant: Option<&Grant>, excepted: bool, now: UnixMillis) -> Gate {
    // A grant opens what is lower than what it previews, and loosens nothing else.
    let preview = grant.filter(|grant| grant.holds_at(now) && grant.mode > mode);
    match (mode, preview) {
        (_, Some(grant)) => Gate::Through {
            mode: grant.mode,
            grant: Some(grant.id),
        },
        (Mode::Closed, None) if excepted => Gate::Through {
            mode: Mode::Pass,
            grant: None,
        },
        (Mode::Closed, None) => Gate::Maintenance,
        (mode, None) => Gate::Through { mode, grant: None },
    }
}

/// Paths that pass a closed gate, and are never shared there: a health check, a certificate challenge.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Exceptions {
    written: Vec<String>,
    paths: Vec<PathPattern>,
}

impl Exceptions {
    /// Reads path patterns as a policy writes them.
    ///
    /// # Errors
    /// What is wrong with one, as a sentence.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut paths = Vec::new();
        for pattern in patterns {
            if matches!(pattern.as_str(), "/**" | "**") {
                let why = "would leave nothing closed: name the paths that pass";
                return Err(format!("`{pattern}` {why}"));
            }
            let read = crate::policy::path_patterns(pattern);
            paths.extend(read.map_err(|(what, instead)| format!("{what}. {instead}"))?);
        }
        Ok(Self {
            written: patterns.to_vec(),
            paths,
        })
    }

    /// The patterns, as they were written.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.written
    }

    /// Whether a request is one of them: a GET or HEAD whose path can be read in one way only.
    #[must_use]
    pub fn hold(&self, head: &RequestHead<'_>) -> bool {
        !self.paths.is_empty()
            && (head.method == Method::GET || head.method == Method::HEAD)
            && !head.has_body
            && identity::reads_in_one_way(head.path)
            && self.paths.iter().any(|pattern| pattern.matches(head.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(10_000);

    fn grant(mode: Mode, from: u64, until: u64) -> Grant {
        Grant {
            id: GrantId(7),
            name: "review".into(),
            mode,
            from: UnixMillis(from),
            until: UnixMillis(until),
        }
    }

    #[test]
    fn the_gate_in_every_mode() {
        use Mode::{Closed, Open, Pass, Static};
        let through = |mode| Gate::Through { mode, grant: None };
        let granted = |mode| Gate::Through {
            mode,
            grant: Some(GrantId(7)),
        };
        let live = |mode| Some(grant(mode, 9_000, 11_000));
        for (mode, grant, excepted, expected) in [
            (Open, None, false, through(Open)),
            (Static, None, false, through(Static)),
            (Pass, None, false, through(Pass)),
            (Closed, None, false, Gate::Maintenance),
            // An exception passes, whatever it is otherwise.
            (Closed, None, true, through(Pass)),
            (Open, None, true, through(Open)),
            (Pass, None, true, through(Pass)),
            // A grant lifts to what it previews, and never lowers.
            (Closed, live(Open), false, granted(Open)),
            (Closed, live(Static), false, granted(Static)),
            (Closed, live(Pass), true, granted(Pass)),
            (Pass, live(Open), false, granted(Open)),
            (Static, live(Static), false, through(Static)),
            (Open, live(Static), false, through(Open)),
            (Closed, live(Closed), false, Gate::Maintenance),
            // A grant of another time is none.
            (
                Closed,
                Some(grant(Open, 9_000, 10_000)),
                false,
                Gate::Maintenance,
            ),
            (
                Closed,
                Some(grant(Open, 10_001, 11_000)),
                false,
                Gate::Maintenance,
            ),
            (Pass, Some(grant(Open, 9_000, 10_000)), false, through(Pass)),
        ] {
            let got = gate(mode, grant.as_ref(), excepted, NOW);
            assert_eq!(got, expected, "{mode} {grant:?} {excepted}");
        }
    }

    #[test]
    fn exceptions_are_plain_paths() {
        let exceptions =
            Exceptions::new(&["/healthz".into(), "/.well-known/acme-challenge/*".into()]);
        let exceptions = exceptions.expect("patterns");
        for (method, target, expected) in [
            ("GET", "/healthz", true),
            ("HEAD", "/healthz", true),
            ("GET", "/healthz?full=1", true),
            ("POST", "/healthz", false),
            ("GET", "/healthz/x", false),
            ("GET", "/.well-known/acme-challenge/abc", true),
            (
                "GET",
                "/.well-known/acme-challenge/..%2f..%2faccount",
                false,
            ),
            ("GET", "/.well-known/acme-challenge/%2e%2e", false),
            ("GET", "/account", false),
        ] {
            let method: Method = method.parse().expect("a method");
            let uri: http::Uri = target.parse().expect("a target");
            let mut headers = http::HeaderMap::new();
            headers.insert("host", http::HeaderValue::from_static("shop.test"));
            let head = RequestHead::parse(
                crate::Scheme::Http,
                http::Version::HTTP_11,
                &method,
                &uri,
                &headers,
            );
            let held = exceptions.hold(&head.expect("a head"));
            assert_eq!(held, expected, "{method} {target}");
        }
        assert!(Exceptions::default().patterns().is_empty());
        for wrong in ["/**", "**", "healthz", "/a b"] {
            assert!(Exceptions::new(&[wrong.into()]).is_err(), "{wrong}");
        }
    }
}
