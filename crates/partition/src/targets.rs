//! What an operator wants purged, in the form in which marks name it.
//!
//! Invariant: whatever is meant is named. Where one word means several things (a host under both schemes,
//! a URL under the keys of each class), each is.

use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use shikiri_record::PurgeTarget;

use crate::classify::target;
use crate::identity;
use crate::named::{named, without_open_octet};
use crate::request::{RequestHead, Scheme, normal_authority};
use crate::rules::Rules;

/// A target has no more bytes: as many as the longest request target may have, and a host.
const TARGET_BYTES_MAX: usize = 66 << 10;

/// A tag or group has no more bytes; a longer one is borne by nothing.
const LABEL_BYTES_MAX: usize = 1024;

impl Rules {
    /// What a purge of `wanted` marks.
    ///
    /// # Errors
    /// It names nothing, as a sentence that says what to write.
    pub fn purge_targets(&self, wanted: &PurgeTarget) -> Result<Vec<PurgeTarget>, String> {
        Ok(match wanted {
            PurgeTarget::All => vec![PurgeTarget::All],
            PurgeTarget::Uri(url) => {
                let uris = self.purge_uris(url)?;
                uris.into_iter().map(PurgeTarget::Uri).collect()
            }
            PurgeTarget::UriDigest(digest) => vec![PurgeTarget::UriDigest(*digest)],
            PurgeTarget::Prefix(url) => with_head(without_open_octet(url), of_prefix)?,
            PurgeTarget::Tag { tag, host } => {
                let tag = label("tag", tag)?;
                match host {
                    None => vec![PurgeTarget::Tag { tag, host: None }],
                    Some(host) => authorities(host)?
                        .into_iter()
                        .map(|host| PurgeTarget::Tag {
                            tag: tag.clone(),
                            host: Some(host),
                        })
                        .collect(),
                }
            }
            PurgeTarget::Group { group, host } => {
                let group = label("group", group)?;
                authorities(host)?
                    .into_iter()
                    .map(|host| PurgeTarget::Group {
                        group: group.clone(),
                        host,
                    })
                    .collect()
            }
        })
    }

    /// Whether a URI, in the form in which keys name it, names somebody or can be read in two ways: then
    /// it is told nowhere.
    #[must_use]
    pub fn tells_of_somebody(&self, uri: &str) -> bool {
        let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let target = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        identity::path(path, &self.session).is_err()
            || identity::query(query, &self.session).is_err()
    }

    /// The URIs under which a purge of `url` finds objects: as given, and as the key of each class that
    /// could claim it holds it.
    ///
    /// # Errors
    /// When `url` is no absolute `http` or `https` URL.
    pub fn purge_uris(&self, url: &str) -> Result<Vec<String>, String> {
        with_head(url, |head| {
            let mut uris = vec![head.name()];
            let classes = self.classes.iter();
            for class in classes.filter(|class| class.matches.matches(head)) {
                if let Ok(target) = target(class, head) {
                    uris.push(named(head.scheme, &head.authority, &target));
                }
            }
            uris.sort();
            uris.dedup();
            uris
        })
    }
}

/// What a prefix marks. With an empty query at its end it is of all queries, also of the empty one,
/// which no name has.
fn of_prefix(head: &RequestHead<'_>) -> Vec<PurgeTarget> {
    let name = head.name();
    match head.query {
        Some("") => vec![
            PurgeTarget::Prefix(format!("{name}?")),
            PurgeTarget::Uri(name),
        ],
        _ => vec![PurgeTarget::Prefix(name)],
    }
}

/// Reads a URL as a viewer's request for it would be read.
fn with_head<T>(url: &str, read: impl FnOnce(&RequestHead<'_>) -> T) -> Result<T, String> {
    let wrong =
        |why: &str| format!("`{url}` cannot be purged: {why}; write `http://host/path?query`");
    if url.len() > TARGET_BYTES_MAX {
        let len = url.len();
        return Err(format!(
            "a URL of {len} bytes cannot be purged: no request names it"
        ));
    }
    let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(wrong("it does not begin with http:// or https://")),
    };
    let mut headers = HeaderMap::new();
    let host = uri.authority().map(|a| a.as_str()).unwrap_or_default();
    let host = HeaderValue::from_str(host).map_err(|_| wrong("its host is no host"))?;
    headers.insert(http::header::HOST, host);
    let head = RequestHead::parse(scheme, Version::HTTP_11, &Method::GET, &uri, &headers)
        .map_err(|why| wrong(why.name()))?;
    Ok(read(&head))
}

/// A host, with or without a port, as the keys of both schemes hold it.
fn authorities(host: &str) -> Result<Vec<String>, String> {
    let wrong = || {
        format!(
            "`{host}` is no host: write `shop.example.test`, or with a port that is not the scheme's own"
        )
    };
    let mut authorities = Vec::new();
    for scheme in [Scheme::Http, Scheme::Https] {
        authorities.push(normal_authority(scheme, host).ok_or_else(wrong)?);
    }
    authorities.dedup();
    Ok(authorities)
}

fn label(kind: &str, text: &str) -> Result<String, String> {
    let text = text.trim_matches([' ', '\t']);
    let printable = text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if text.is_empty() || !printable || text.len() > LABEL_BYTES_MAX {
        return Err(format!(
            "a {kind} is of 1 to {LABEL_BYTES_MAX} printable ASCII characters, as the origin sends it"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{NamePattern, PathPattern, QueryKey};
    use crate::tests::{class, rules};

    #[test]
    fn what_tells_of_somebody() {
        let rules = rules(Vec::new());
        for (uri, expected) in [
            ("http://a.test/", false),
            ("http://a.test", false),
            ("http://a.test/news/1?page=2", false),
            ("http://a.test/x.css?mail=bob@a.test", true),
            ("http://a.test/u/bob@a.test/", true),
            ("http://a.test/list?page=1;x", true),
            ("https://a.test/reset?t=eyJhbGciOiJIUzI1NiJ9.e30.x", true),
        ] {
            assert_eq!(rules.tells_of_somebody(uri), expected, "{uri}");
        }
    }

    #[test]
    fn what_an_operator_means() {
        let mut news = class();
        news.matches.paths = vec![PathPattern("/news/**".into())];
        news.query = QueryKey::Only(vec![NamePattern("page".into())]);
        let rules = rules(vec![news]);
        let uri = |text: &str| PurgeTarget::Uri(text.into());
        let prefix = |text: &str| PurgeTarget::Prefix(text.into());
        let tag = |tag: &str, host: Option<&str>| PurgeTarget::Tag {
            tag: tag.into(),
            host: host.map(str::to_owned),
        };
        let group = |group: &str, host: &str| PurgeTarget::Group {
            group: group.into(),
            host: host.into(),
        };
        for (wanted, expected) in [
            (PurgeTarget::All, Some(vec![PurgeTarget::All])),
            (
                uri("http://Shop.test:80/a?x=1"),
                Some(vec![uri("http://shop.test/a?x=1")]),
            ),
            (
                uri("http://shop.test/news/1?utm=x&page=2"),
                Some(vec![
                    uri("http://shop.test/news/1?page=2"),
                    uri("http://shop.test/news/1?utm=x&page=2"),
                ]),
            ),
            (uri("/a"), None),
            (uri("ftp://shop.test/"), None),
            // A prefix ends where it is said to, and never within the host's name.
            (
                prefix("http://shop.test"),
                Some(vec![prefix("http://shop.test/")]),
            ),
            (
                prefix("https://SHOP.test:443/n"),
                Some(vec![prefix("https://shop.test/n")]),
            ),
            (
                prefix("http://shop.test/a?b="),
                Some(vec![prefix("http://shop.test/a?b=")]),
            ),
            (
                prefix("http://shop.test/a?"),
                Some(vec![
                    prefix("http://shop.test/a?"),
                    uri("http://shop.test/a"),
                ]),
            ),
            // One name for all spellings, and none for half an octet.
            (
                prefix("http://shop.test/%c3%a"),
                Some(vec![prefix("http://shop.test/%C3")]),
            ),
            (
                uri("http://shop.test./caf%c3%a9@2x?"),
                Some(vec![uri("http://shop.test/caf%C3%A9@2x")]),
            ),
            (
                uri("http://shop.test/news/%c3%a9?utm=x&page=%32"),
                Some(vec![
                    uri("http://shop.test/news/%C3%A9?page=2"),
                    uri("http://shop.test/news/%C3%A9?utm=x&page=2"),
                ]),
            ),
            (prefix("shop.test/"), None),
            (tag(" red ", None), Some(vec![tag("red", None)])),
            (
                tag("red", Some("Shop.test")),
                Some(vec![tag("red", Some("shop.test"))]),
            ),
            (
                tag("red", Some("shop.test:443")),
                Some(vec![
                    tag("red", Some("shop.test:443")),
                    tag("red", Some("shop.test")),
                ]),
            ),
            (tag("", None), None),
            (tag("a\nb", None), None),
            (tag("red", Some("a b")), None),
            (group("g", "shop.test"), Some(vec![group("g", "shop.test")])),
            (group("g", ""), None),
        ] {
            assert_eq!(rules.purge_targets(&wanted).ok(), expected, "{wanted:?}");
        }
    }
}
