//! What a request says, once it is known to say it in one way.
//!
//! [`RequestHead::parse`] is the door: behind it there is exactly one authority, the target is in
//! origin form, and every later step reads the same values.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use shikiri_record::{Digest, TagKey, TargetTag};

use crate::named::named;
use crate::reason::Refused;

/// The scheme that the viewer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A request's head, with one authority.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The scheme that the viewer used.
    pub scheme: Scheme,
    /// Host and port as one name: lower case, without the scheme's default port or a final dot.
    pub authority: String,
    /// The path, raw, starting with `/`; or `*` for `OPTIONS *`.
    pub path: &'a str,
    /// The query, raw, without the `?`.
    pub query: Option<&'a str>,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// Whether a body follows, even an empty one that is chunked.
    pub has_body: bool,
    /// The fingerprint of the client's certificate, if it came with one.
    pub certificate: Option<Digest>,
}

impl<'a> RequestHead<'a> {
    /// Reads a head. What is not in it, whoever reads the connection adds: that a body follows without
    /// any field that says so (HTTP/2), and the client's certificate.
    ///
    /// # Errors
    /// [`Refused`] when the request could be read in more than one way, or asks for what an edge
    /// does not do (RFC 9112 3.2, RFC 9110 7.1).
    pub fn parse(
        scheme: Scheme,
        version: Version,
        method: &'a Method,
        uri: &'a Uri,
        headers: &'a HeaderMap,
    ) -> Result<Self, Refused> {
        if method == Method::CONNECT {
            return Err(Refused::Connect);
        }
        // The authority form is CONNECT's alone (RFC 9112 3.2.3).
        if uri.authority().is_some() && uri.scheme().is_none() {
            return Err(Refused::Target);
        }
        let authority = one_authority(scheme, version, uri, headers)?;
        // HTTP/2 names the scheme of its own hop in every request; whoever reads the connection compares.
        if version < Version::HTTP_2 && uri.scheme_str().is_some_and(|s| s != scheme.as_str()) {
            return Err(Refused::AuthorityMismatch);
        }
        let path = match uri.path() {
            "*" if method == Method::OPTIONS => "*",
            "" if method == Method::OPTIONS && uri.authority().is_some() => "*",
            "" if uri.authority().is_some() => "/",
            path if path.starts_with('/') => path,
            _ => return Err(Refused::Target),
        };
        let mut expects = headers.get_all(EXPECT).iter();
        let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if !expects.next().is_none_or(known) || expects.next().is_some() {
            return Err(Refused::Expectation);
        }
        let has_body = headers.contains_key(TRANSFER_ENCODING)
            || headers
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length.as_bytes() != b"0");
        Ok(Self {
            method,
            scheme,
            authority,
            path,
            query: uri.query(),
            headers,
            has_body,
            certificate: None,
        })
    }

    /// The host, without the port; an IPv6 address keeps its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// The name by which purges and invalidations find what is stored for its target, as
    /// [`Key::name`](crate::Key::name) gives it.
    #[must_use]
    pub fn name(&self) -> String {
        named(self.scheme, &self.authority, &self.target())
    }

    /// The pseudonym of the full target under a key: scheme, authority, path and query.
    #[must_use]
    pub fn target_tag(&self, key: &TagKey) -> TargetTag {
        let (scheme, authority) = (self.scheme.as_str(), self.authority.as_str());
        let parts =
            [scheme, authority, self.path, self.query.unwrap_or_default()].map(str::as_bytes);
        let known = if self.query.is_some() { 4 } else { 3 };
        TargetTag::of(key, &parts[..known])
    }

    /// Whether the client wants to leave HTTP on this connection.
    #[must_use]
    pub fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(http::header::UPGRADE)
            && crate::hop::tokens(self.headers, &CONNECTION)
                .any(|token| token.eq_ignore_ascii_case("upgrade"))
    }
}

pub(crate) fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => authority.get(..colon).unwrap_or(authority),
        _ => authority,
    }
}

/// Exactly one `Host`, equal to the target's authority when there is one (RFC 9112 3.2.2).
fn one_authority(
    scheme: Scheme,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<String, Refused> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refused::Host);
    }
    let target = uri
        .authority()
        .map(|a| normal_authority(scheme, a.as_str()).ok_or(Refused::Target));
    let target = target.transpose()?;
    match (host, target) {
        (Some(host), target) => {
            let host = host.to_str().ok().and_then(|h| normal_authority(scheme, h));
            let host = host.ok_or(Refused::Host)?;
            if target.is_some_and(|t| t != host) {
                return Err(Refused::AuthorityMismatch);
            }
            Ok(host)
        }
        (None, Some(target)) if version >= Version::HTTP_2 => Ok(target),
        (None, _) => Err(Refused::Host),
    }
}

/// Lower case, no user information, no default port, no final dot; `None` if it is no authority.
pub(crate) fn normal_authority(scheme: Scheme, text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (
                format!("[{address}]"),
                port.strip_prefix(':')
                    .or(if port.is_empty() { Some("") } else { None })?,
            )
        }
        None => {
            let (host, port) = text
                .split_once(':')
                .map_or((&*text, None), |(h, p)| (h, Some(p)));
            if port == Some("") {
                return None;
            }
            let host = host.strip_suffix('.').unwrap_or(host);
            let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if host.is_empty() || host.len() > 253 || !host.bytes().all(ok) || host.contains("..") {
                return None;
            }
            (host.to_owned(), port.unwrap_or(""))
        }
    };
    if port.is_empty() {
        return Some(host);
    }
    if port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port: u16 = port.parse().ok()?;
    if port == scheme.default_port() {
        return Some(host);
    }
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, hosts: &[&str], expected: Result<(&str, &str), Refused>) {
        let method: Method = method.parse().unwrap();
        let uri: Uri = target.parse().unwrap();
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let got = RequestHead::parse(Scheme::Http, Version::HTTP_11, &method, &uri, &headers);
        let got = got.map(|head| (head.authority, head.path));
        let got = got.as_ref().map(|(a, p)| (a.as_str(), *p)).map_err(|e| *e);
        assert_eq!(got, expected, "{method} {target} {hosts:?}");
    }

    #[test]
    fn one_host_equal_to_the_authority() {
        check(
            "GET",
            "/a",
            &["Shop.Example.test"],
            Ok(("shop.example.test", "/a")),
        );
        check(
            "GET",
            "/a",
            &["shop.example.test:80"],
            Ok(("shop.example.test", "/a")),
        );
        check(
            "GET",
            "/a",
            &["shop.example.test."],
            Ok(("shop.example.test", "/a")),
        );
        check(
            "GET",
            "/a",
            &["shop.example.test:8080"],
            Ok(("shop.example.test:8080", "/a")),
        );
        check(
            "GET",
            "/a",
            &["shop.example.test:08080"],
            Ok(("shop.example.test:8080", "/a")),
        );
        check("GET", "/a", &["a.test:0080"], Ok(("a.test", "/a")));
        check("GET", "/a", &["a.test.:80"], Ok(("a.test", "/a")));
        check("GET", "/a", &["[::1]:8080"], Ok(("[::1]:8080", "/a")));
        check("GET", "/a", &["[0:0::0:1]:80"], Ok(("[::1]", "/a")));
        check("GET", "http://a.test/x", &["a.test"], Ok(("a.test", "/x")));
        check("GET", "http://a.test", &["a.test"], Ok(("a.test", "/")));
        check("OPTIONS", "*", &["a.test"], Ok(("a.test", "*")));
        check("GET", "/a", &[], Err(Refused::Host));
        check("GET", "/a", &["a.test", "a.test"], Err(Refused::Host));
        check(
            "GET",
            "http://b.test/x",
            &["a.test"],
            Err(Refused::AuthorityMismatch),
        );
        check(
            "GET",
            "https://a.test/x",
            &["a.test"],
            Err(Refused::AuthorityMismatch),
        );
        check("GET", "http://b.test/x", &[], Err(Refused::Host));
        check("GET", "/a", &["a.test, b.test"], Err(Refused::Host));
        check("GET", "/a", &["user@a.test"], Err(Refused::Host));
        check("GET", "/a", &["a..test"], Err(Refused::Host));
        check("GET", "/a", &["a.test:"], Err(Refused::Host));
        check("GET", "/a", &["a.test:99999"], Err(Refused::Host));
        check("GET", "/a", &["[::1"], Err(Refused::Host));
        check("GET", "/a", &[""], Err(Refused::Host));
        check("GET", "*", &["a.test"], Err(Refused::Target));
        check("GET", "a.test:80", &["a.test"], Err(Refused::Target));
    }
}
