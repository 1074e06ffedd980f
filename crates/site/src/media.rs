//! Where the delivery server is, for browsers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;

/// An origin in the sense of browsers: `https://media.example.test`, with a port where it has one.
///
/// Invariant: it can stand in a content security policy and in an attribute as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaBase(Arc<str>);

impl MediaBase {
    /// What `shikiri up` listens on when nothing is said: for tests and trials.
    #[must_use]
    pub fn of_trials() -> Self {
        "http://media.localhost:8080"
            .parse()
            .expect("it is an origin")
    }

    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0
    }

    /// The whole address of a path of the delivery server.
    #[must_use]
    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The host, without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or("", |(_, it)| it);
        authority
            .split_once(':')
            .map_or(authority, |(host, _)| host)
    }
}

impl FromStr for MediaBase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not where a browser finds pictures and films: write `https://media.example.test` or \
                 `http://media.localhost:8080`, without a path"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().filter(|it| ["http", "https"].contains(it));
        let authority = uri.authority().map_or("", |it| it.as_str());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
        let origin = format!("{}://{authority}", scheme.ok_or_else(wrong)?);
        let is_whole = text == origin && uri.host().is_some_and(|it| !it.is_empty());
        if is_whole && authority.bytes().all(is_plain) {
            Ok(Self(origin.into()))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for MediaBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_origin_and_nothing_more() {
        for (text, host) in [
            ("http://media.localhost:8080", Some("media.localhost")),
            ("https://media.example.test", Some("media.example.test")),
            ("https://media.example.test/", None),
            ("https://media.example.test/x", None),
            ("https://a@media.example.test", None),
            ("https://media.example.test; script-src *", None),
            ("https://media.example.test 'unsafe-inline'", None),
            ("ftp://media.example.test", None),
            ("//media.example.test", None),
            ("media.example.test", None),
            ("https://", None),
            ("", None),
        ] {
            let parsed = text.parse::<MediaBase>();
            let found = parsed.as_ref().ok().map(MediaBase::host);
            assert_eq!(found, host, "{text}");
        }
    }
}
