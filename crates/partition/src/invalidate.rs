//! What an unsafe method makes stale (RFC 9111 4.4).
//!
//! Only URIs of the request's own scheme and authority are named: a response cannot make another
//! site's objects stale. Naming one too many costs a revalidation; naming one too few shows an old
//! page.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::classify::target;
use crate::labels::groups_invalidated;
use crate::named::named;
use crate::request::{RequestHead, normal_authority};
use crate::rules::Rules;

/// What is stale from now on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invalidation {
    /// What is stored for a URI, by the name that [`Key::name`](crate::Key::name) gives it.
    Uri(String),
    /// What is stored of a group (RFC 9875).
    Group {
        /// The group.
        group: String,
        /// Of this origin alone: scheme and authority.
        origin: String,
    },
}

/// What a response to a request invalidates. URIs: the target's, and those of `Location` and
/// `Content-Location` when they are of the same origin; none for an error. Each comes as it was named and,
/// where a class keeps only part of the query, as that class's keys name it. Groups: those that
/// `Cache-Group-Invalidation` names (RFC 9875 3), whatever the status, since the origin says so itself.
/// Nothing for a safe method.
#[must_use]
pub fn invalidated_by(
    rules: &Rules,
    head: &RequestHead<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Vec<Invalidation> {
    if is_safe(head.method) {
        return Vec::new();
    }
    let origin = format!("{}://{}", head.scheme.as_str(), head.authority);
    let groups = groups_invalidated(headers).into_iter();
    let groups = groups.map(|group| Invalidation::Group {
        group,
        origin: origin.clone(),
    });
    // RFC 9111 4.4: "a non-error response is one with a 2xx or 3xx status code".
    if !(status.is_success() || status.is_redirection()) {
        return groups.collect();
    }
    let mut targets = vec![head.target()];
    let named = headers
        .get_all(LOCATION)
        .iter()
        .chain(headers.get_all(CONTENT_LOCATION));
    targets.extend(
        named
            .filter_map(|value| same_origin_target(head, value))
            .take(TARGETS_MAX),
    );
    let mut invalidations = Vec::new();
    for target in targets {
        for uri in uris(rules, head, &target) {
            let invalidation = Invalidation::Uri(uri);
            if !invalidations.contains(&invalidation) {
                invalidations.push(invalidation);
            }
        }
    }
    invalidations.extend(groups);
    invalidations
}

/// An origin that names more than this is not naming what it changed.
const TARGETS_MAX: usize = 8;

/// Safe by registration (RFC 9110 9.2.1). A method whose safety is unknown is unsafe (RFC 9111 4.4).
fn is_safe(method: &Method) -> bool {
    method.is_safe() || matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// A target as a URI, and as the keys of the class that would share it name it.
fn uris(rules: &Rules, head: &RequestHead<'_>, target_named: &str) -> Vec<String> {
    let (path, query) = target_named
        .split_once('?')
        .map_or((target_named, None), |(path, query)| (path, Some(query)));
    let get = RequestHead {
        method: &Method::GET,
        path,
        query,
        has_body: false,
        ..head.clone()
    };
    let mut uris = vec![get.name()];
    let class = rules
        .classes()
        .iter()
        .find(|class| class.matches.matches(&get));
    if let Some(Ok(kept)) = class.map(|class| target(class, &get)) {
        uris.push(named(head.scheme, &head.authority, &kept));
    }
    uris
}

/// The target that a reference names from here, if it is of this origin (RFC 3986 5.2, RFC 6454 4).
fn same_origin_target(head: &RequestHead<'_>, reference: &HeaderValue) -> Option<String> {
    let reference = reference.to_str().ok()?.trim();
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.bytes().any(|b| b <= b' ' || b == b'\\') {
        return None;
    }
    let scheme = head.scheme.as_str();
    let rest = match reference.split_once(':') {
        Some((named, rest)) if is_scheme(named) => {
            if !named.eq_ignore_ascii_case(scheme) || !rest.starts_with("//") {
                return None;
            }
            rest
        }
        _ => reference,
    };
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let path = if let Some(rest) = path.strip_prefix("//") {
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        if normal_authority(head.scheme, authority)? != head.authority {
            return None;
        }
        without_dot_segments(if path.is_empty() { "/" } else { path })
    } else if path.starts_with('/') {
        without_dot_segments(path)
    } else if path.is_empty() {
        head.path.to_owned()
    } else {
        let (folder, _) = head.path.rsplit_once('/').unwrap_or_default();
        without_dot_segments(&format!("{folder}/{path}"))
    };
    let query = match query {
        Some(query) => Some(query),
        // RFC 3986 5.2.2: only an empty reference keeps the base's query.
        None if rest.is_empty() => head.query,
        None => None,
    };
    Some(match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

/// RFC 3986 3.1.
fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// RFC 3986 5.2.4, for a path that starts with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Scheme;
    use crate::rules::{NamePattern, QueryKey};
    use crate::tests::{class, rules};

    fn invalidated(method: &str, target: &str, status: u16, lines: &[(&str, &str)]) -> Vec<String> {
        let method: Method = method.parse().unwrap();
        let uri: http::Uri = target.parse().unwrap();
        let mut request = HeaderMap::new();
        request.insert("host", "shop.test".parse().unwrap());
        let head = RequestHead::parse(
            Scheme::Http,
            http::Version::HTTP_11,
            &method,
            &uri,
            &request,
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                name.parse::<http::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        let mut news = class();
        news.matches.paths = vec![crate::rules::PathPattern("/news/**".into())];
        news.query = QueryKey::Only(vec![NamePattern("id".into())]);
        let rules = rules(vec![news]);
        let status = StatusCode::from_u16(status).unwrap();
        invalidated_by(&rules, &head, status, &headers)
            .into_iter()
            .map(|invalidation| match invalidation {
                Invalidation::Uri(uri) => uri,
                Invalidation::Group { group, origin } => format!("{group} of {origin}"),
            })
            .collect()
    }

    #[test]
    fn unsafe_methods_that_succeed_invalidate_their_target() {
        for (method, status, expected) in [
            ("POST", 200, true),
            ("POST", 303, true),
            ("PUT", 204, true),
            ("DELETE", 200, true),
            ("PATCH", 200, true),
            ("FROBNICATE", 200, true),
            ("POST", 400, false),
            ("POST", 500, false),
            ("POST", 100, false),
            ("GET", 200, false),
            ("HEAD", 200, false),
            ("OPTIONS", 200, false),
            ("SEARCH", 200, false),
        ] {
            let got = invalidated(method, "/a?x=1", status, &[]);
            let expected = if expected {
                vec!["http://shop.test/a?x=1"]
            } else {
                vec![]
            };
            assert_eq!(got, expected, "{method} {status}");
        }
    }

    #[test]
    fn references_of_the_same_origin_are_resolved() {
        for (reference, expected) in [
            ("/b", Some("/b")),
            ("/b?y=2#part", Some("/b?y=2")),
            ("http://shop.test/b", Some("/b")),
            ("HTTP://Shop.test:80/b", Some("/b")),
            ("http://shop.test", Some("/")),
            ("http://shop.test?y", Some("/?y")),
            ("//shop.test/b", Some("/b")),
            ("c", Some("/dir/c")),
            ("./c", Some("/dir/c")),
            ("../c", Some("/c")),
            ("../../../c", Some("/c")),
            ("/x/./y/../z", Some("/x/z")),
            ("/x/..", Some("/")),
            ("?y", Some("/dir/a?y")),
            ("c:1", None),
            ("https://shop.test/b", None),
            ("http://other.test/b", None),
            ("http://shop.test:8080/b", None),
            ("http://shop.test@other.test/b", None),
            ("//other.test/b", None),
            ("http:b", None),
            ("javascript:alert(1)", None),
            ("/b c", None),
            ("\\\\other.test/b", None),
        ] {
            for field in ["location", "content-location"] {
                let got = invalidated("POST", "/dir/a", 201, &[(field, reference)]);
                let mut all = vec!["http://shop.test/dir/a".to_owned()];
                all.extend(expected.map(|target| format!("http://shop.test{target}")));
                assert_eq!(got, all, "{field}: {reference}");
            }
        }
    }

    #[test]
    fn groups_are_invalidated_by_unsafe_methods_whatever_the_status() {
        let fields = [
            ("cache-group-invalidation", "\"a\", \"b\";x"),
            ("cache-group-invalidation", "\"c\""),
        ];
        let groups = ["a", "b", "c"].map(|group| format!("{group} of http://shop.test"));
        assert_eq!(invalidated("POST", "/a", 500, &fields), groups);
        assert_eq!(invalidated("POST", "/a", 200, &fields)[1..], groups);
        for method in ["GET", "HEAD", "OPTIONS", "QUERY"] {
            // RFC 9875 3: it must be ignored.
            assert!(
                invalidated(method, "/a", 200, &fields).is_empty(),
                "{method}"
            );
        }
        assert!(invalidated("POST", "/a", 500, &[("cache-group-invalidation", "a")]).is_empty());
    }

    #[test]
    fn a_class_that_keeps_part_of_the_query_is_named_by_its_keys() {
        let got = invalidated("POST", "/news/1?utm=x&id=7", 200, &[]);
        assert_eq!(
            got,
            [
                "http://shop.test/news/1?utm=x&id=7",
                "http://shop.test/news/1?id=7"
            ]
        );
    }
}
