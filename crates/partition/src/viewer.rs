//! Who asks, as far as the credentials of a request show.
//!
//! A [`Viewer`] is what tells one session from another: the cookies that policy says identify a
//! member (or all that are not ignorable, where it names none), the headers that carry a credential,
//! and the client's certificate. It is compared and tagged, and never printed: its bytes are secrets.
//!
//! Never here: an address, a user agent, anything that two people may have in common by chance.
//!
//! Invariant: a request has a viewer exactly when [`Requester::credentials`](crate::Requester) is
//! true of it, or it came with a client certificate.

use std::time::UNIX_EPOCH;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName};
use shikiri_record::{Digest, TagKey, UnixMillis, ViewerTag};

use crate::hop;
use crate::request::RequestHead;
use crate::rules::{NamePattern, Session};

/// The session credentials of a request. Opaque; it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Viewer {
    /// Sorted: browsers send cookies in an order of their own.
    credentials: Vec<Credential>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Credential {
    place: Place,
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Where a credential stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Cookie,
    Field,
    Certificate,
}

impl Viewer {
    /// The credentials of a request; `None` when it shows none. `certificate`: the fingerprint of the
    /// client's certificate, where it showed one.
    #[must_use]
    pub fn of(
        session: &Session,
        head: &RequestHead<'_>,
        certificate: Option<&Digest>,
    ) -> Option<Self> {
        let of = |place, name: &[u8], value: &[u8]| Credential {
            place,
            name: name.into(),
            value: value.into(),
        };
        let cookies = cookies(head.headers)
            .filter(|cookie| cookie.identifies(session))
            .map(|cookie| of(Place::Cookie, cookie.name, cookie.value));
        let fields = head
            .headers
            .iter()
            .filter(|(name, _)| is_credential_beside_cookies(name, session))
            .map(|(name, value)| of(Place::Field, name.as_str().as_bytes(), value.as_bytes()));
        let certificate = certificate.map(|print| of(Place::Certificate, b"", print.as_bytes()));
        let mut credentials: Vec<Credential> = cookies.chain(fields).chain(certificate).collect();
        credentials.sort_unstable();
        (!credentials.is_empty()).then_some(Self { credentials })
    }

    /// Whoever this will be when its browser has taken these cookies; `None`: nobody.
    pub(crate) fn after(viewer: Option<&Self>, set: &[SetCookie<'_>]) -> Option<Self> {
        let mut credentials = viewer.map_or_else(Vec::new, |viewer| viewer.credentials.clone());
        for cookie in set {
            credentials.retain(|c| c.place != Place::Cookie || *c.name != *cookie.name);
            if !cookie.deletes {
                credentials.push(Credential {
                    place: Place::Cookie,
                    name: cookie.name.into(),
                    value: cookie.value.into(),
                });
            }
        }
        credentials.sort_unstable();
        (!credentials.is_empty()).then_some(Self { credentials })
    }

    /// The viewer as these cookies alone show it, if there is one of them; other credentials count as
    /// they did.
    pub(crate) fn narrowed(&self, cookies: &[NamePattern]) -> Self {
        let is_listed = |credential: &Credential| {
            let name = std::str::from_utf8(&credential.name);
            name.is_ok_and(|name| cookies.iter().any(|pattern| pattern.matches(name)))
        };
        let is_cookie = |credential: &Credential| credential.place == Place::Cookie;
        let mut narrowed = self.clone();
        if self
            .credentials
            .iter()
            .any(|c| is_cookie(c) && is_listed(c))
        {
            narrowed
                .credentials
                .retain(|c| !is_cookie(c) || is_listed(c));
        }
        narrowed
    }

    /// Whether cookies are among what shows it.
    pub(crate) fn has_cookies(&self) -> bool {
        self.credentials.iter().any(|c| c.place == Place::Cookie)
    }

    /// Whether the request carried this cookie with this value.
    pub(crate) fn carried(&self, cookie: &SetCookie<'_>) -> bool {
        self.credentials.iter().any(|c| {
            c.place == Place::Cookie && *c.name == *cookie.name && *c.value == *cookie.value
        })
    }

    /// The viewer's pseudonym under a key.
    #[must_use]
    pub fn tag(&self, key: &TagKey) -> ViewerTag {
        let parts = self.credentials.iter().flat_map(|credential| {
            let place: &[u8] = match credential.place {
                Place::Cookie => b"cookie",
                Place::Field => b"field",
                Place::Certificate => b"certificate",
            };
            [place, &credential.name, &credential.value]
        });
        ViewerTag::of(key, &parts.collect::<Vec<&[u8]>>())
    }
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Viewer(…)")
    }
}

/// One cookie of a request, as on the wire.
pub(crate) struct Cookie<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The line that it stands in is text; otherwise it may be anything.
    readable: bool,
}

impl Cookie<'_> {
    /// Whether its name is one of these.
    pub(crate) fn is_one_of(&self, patterns: &[NamePattern]) -> bool {
        let name = std::str::from_utf8(self.name);
        name.is_ok_and(|name| patterns.iter().any(|pattern| pattern.matches(name)))
    }

    /// Whether it says nothing about the page.
    pub(crate) fn is_ignorable(&self, session: &Session) -> bool {
        self.readable && self.is_one_of(&session.ignorable_cookies)
    }

    /// Whether it identifies a member.
    pub(crate) fn identifies(&self, session: &Session) -> bool {
        !self.readable
            || !self.is_ignorable(session)
                && (session.cookies.is_empty() || self.is_one_of(&session.cookies))
    }
}

/// The cookies that a request carries, in the order in which they stand (RFC 6265 4.2.1).
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = Cookie<'_>> {
    headers.get_all(COOKIE).iter().flat_map(|line| {
        let readable = line.to_str().is_ok();
        let pairs = line
            .as_bytes()
            .split(|b| *b == b';')
            .map(<[u8]>::trim_ascii);
        pairs.filter(|pair| !pair.is_empty()).map(move |pair| {
            let equals = pair.iter().position(|b| *b == b'=');
            let (name, value) =
                equals.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            Cookie {
                name: name.trim_ascii(),
                value: value.trim_ascii(),
                readable,
            }
        })
    })
}

/// A cookie that a response sets (RFC 6265 4.1).
pub(crate) struct SetCookie<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// It takes the cookie away.
    pub(crate) deletes: bool,
}

/// The cookies that a response sets, read as browsers do (RFC 6265 5.2).
pub(crate) fn set_cookies(
    headers: &HeaderMap,
    now: UnixMillis,
) -> impl Iterator<Item = SetCookie<'_>> {
    headers.get_all(SET_COOKIE).iter().filter_map(move |line| {
        let mut parts = line
            .as_bytes()
            .split(|b| *b == b';')
            .map(<[u8]>::trim_ascii);
        let pair = parts.next()?;
        let equals = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let deletes = value.is_empty() || parts.any(|attribute| takes_away(attribute, now));
        (!name.is_empty()).then_some(SetCookie {
            name,
            value,
            deletes,
        })
    })
}

/// Whether an attribute says that the cookie ends at once.
fn takes_away(attribute: &[u8], now: UnixMillis) -> bool {
    let Some((name, value)) = std::str::from_utf8(attribute)
        .ok()
        .and_then(|text| text.split_once('='))
    else {
        return false;
    };
    if name.eq_ignore_ascii_case("max-age") {
        return value
            .trim()
            .parse::<i64>()
            .is_ok_and(|seconds| seconds <= 0);
    }
    // Netscape's form of a date has hyphens between day, month and year.
    let date = || httpdate::parse_http_date(&value.trim().replace('-', " ")).ok();
    name.eq_ignore_ascii_case("expires")
        && date().is_some_and(|at| {
            let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_secs() <= now.seconds()
        })
}

/// Whether a request header carries a credential, and is not `Cookie`.
pub(crate) fn is_credential_beside_cookies(name: &HeaderName, session: &Session) -> bool {
    *name != COOKIE && (hop::is_credential(name) || session.headers.contains(name))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::request::Scheme;
    use crate::tests::headers;

    fn viewer(session: &Session, lines: &str, certificate: Option<&Digest>) -> Option<Viewer> {
        let fields = headers(lines);
        let head = RequestHead {
            method: &Method::GET,
            scheme: Scheme::Http,
            authority: "shop.test".into(),
            path: "/",
            query: None,
            headers: &fields,
            has_body: false,
            certificate: None,
        };
        Viewer::of(session, &head, certificate)
    }

    fn session(cookies: &[&str]) -> Session {
        Session {
            cookies: cookies.iter().map(|&c| NamePattern(c.into())).collect(),
            ignorable_cookies: vec![NamePattern("_ga*".into())],
            headers: vec![HeaderName::from_static("x-user")],
            ..Session::unspecific()
        }
    }

    /// Whether two requests are of one viewer; `None`: the first is nobody's.
    fn check(cookies: &[&str], one: &str, other: &str, expected: Option<bool>) {
        let session = session(cookies);
        let key = TagKey::new([7; 32]);
        let tag = |lines| viewer(&session, lines, None).map(|viewer| viewer.tag(&key));
        let same = tag(one).map(|one| Some(one) == tag(other));
        assert_eq!(same, expected, "{cookies:?} {one:?} {other:?}");
    }

    #[test]
    fn what_tells_one_viewer_from_another() {
        let sid = &["sid"][..];
        check(
            sid,
            "cookie: sid=1",
            "cookie: sid=1; theme=dark",
            Some(true),
        );
        check(sid, "cookie: sid=1", "cookie: sid=2", Some(false));
        check(sid, "cookie: theme=dark", "", None);
        check(sid, "", "", None);
        check(
            &[],
            "cookie: theme=dark",
            "cookie: theme=light",
            Some(false),
        );
        check(&[], "cookie: _ga=1", "", None);
        check(
            &[],
            "cookie: a=1; b=2",
            "cookie: b=2\ncookie: a=1; _ga=3",
            Some(true),
        );
        check(&[], "cookie: a=1; b=", "cookie: a=1b=", Some(false));
        check(&[], "cookie: a=b", "x-user: b", Some(false));
        check(
            sid,
            "authorization: Bearer a",
            "authorization: Bearer b",
            Some(false),
        );
        check(sid, "x-user: a", "x-user: a\naccept: x", Some(true));
        check(
            sid,
            "cookie: sid=1",
            "cookie: sid=1\nx-user: a",
            Some(false),
        );
        check(
            sid,
            "cookie: _ga=caf\u{e9}",
            "cookie: _ga=other",
            Some(false),
        );
    }

    #[test]
    fn a_certificate_is_a_credential_and_nothing_of_a_viewer_prints() {
        let session = session(&["sid"]);
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let of = |print| viewer(&session, "", print);
        assert!(of(Some(&one)).is_some() && of(Some(&one)) != of(Some(&two)));
        let shown = format!("{:?}", viewer(&session, "cookie: sid=secret", Some(&one)));
        assert_eq!(shown, "Some(Viewer(…))");
    }
}
