//! A request, as far as pins look at it.

use http::HeaderMap;
use http::header::{ACCEPT_LANGUAGE, COOKIE, REFERER, USER_AGENT};
use shikiri_record::{
    AddressTag, Canonical, CookieTag, Digest, Order, TagKey, UnixMillis, ViewerTag,
};
use std::net::IpAddr;

use crate::request::RequestHead;
use crate::rules::{NamePattern, PinRules, Rules, Session};
use crate::viewer::{self, SetCookie, Viewer};
use crate::{hop, identity};

/// A request on its way to an origin, as far as pins look at it. Made when it begins; its answer is
/// judged by it.
#[derive(Clone, Debug)]
pub struct Asking {
    pub(super) begun: Order,
    viewer: Option<Viewer>,
    /// Whom it asks.
    authority: Box<str>,
    /// The session that it is of.
    pub(super) session: Option<ViewerTag>,
    /// A session may begin or change hands where it asks.
    pub(super) starts_here: bool,
    /// Its answer may begin a session, or hand one to another member.
    pub(super) may_start: bool,
    /// Nothing in it could tell the origin who asks.
    pub(super) tells_nothing: bool,
    pub(super) client: Option<Client>,
}

/// A client, as far as two can be told apart for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    address: AddressTag,
    agent: Digest,
}

impl Client {
    /// Whether these are surely two. One address may be a house's, one kind of browser anybody's; and
    /// one browser moves from a network to another.
    pub(super) fn surely_differs(&self, other: &Self) -> bool {
        self.address != other.address && self.agent != other.agent
    }
}

impl Asking {
    /// A request that goes to the origin as itself. `key`: under which all that pins remember is
    /// tagged. `begun`: its place in the node's order, taken before it is sent.
    #[must_use]
    pub fn of(
        rules: &Rules,
        head: &RequestHead<'_>,
        client: IpAddr,
        key: &TagKey,
        begun: Order,
    ) -> Self {
        let session = rules.session();
        let viewer = Viewer::of(session, head, head.certificate.as_ref());
        let in_url = identity::path(head.path, session).is_err()
            || identity::query(head.query, session).is_err();
        let starts = &rules.pins().starts;
        let starts_here = starts.is_empty() || starts.iter().any(|path| path.matches(head.path));
        let acts = !head.method.is_safe() || head.has_body || in_url;
        let may_start = starts_here && (acts || !starts.is_empty());
        let says_nothing = |name: &http::HeaderName| {
            hop::says_nothing_of_its_sender(name)
                || *name == REFERER
                || hop::is_hop_claim(name) && !hop::is_credential(name)
                || *name == COOKIE
        };
        let tells_nothing = viewer.is_none()
            && !head.has_body
            && !in_url
            && head.headers.keys().all(says_nothing)
            && viewer::cookies(head.headers).all(|cookie| cookie.is_ignorable(session));
        let mut agent = Canonical::new("shikiri agent 1");
        for name in &[USER_AGENT, ACCEPT_LANGUAGE] {
            for value in head.headers.get_all(name) {
                agent.text(name.as_str()).bytes(value.as_bytes());
            }
        }
        let client = Client {
            address: AddressTag::of(key, &[client.to_string().as_bytes()]),
            agent: agent.digest(),
        };
        let tag = viewer
            .as_ref()
            .map(|viewer| pinned(viewer, rules.pins(), &head.authority, key));
        Self {
            begun,
            viewer,
            authority: head.authority.as_str().into(),
            session: tag,
            starts_here,
            may_start,
            tells_nothing,
            client: Some(client),
        }
    }

    /// A shared fetch: whoever led it, the origin was told nothing of them.
    #[must_use]
    pub fn shared(begun: Order) -> Self {
        Self {
            begun,
            viewer: None,
            authority: "".into(),
            session: None,
            starts_here: false,
            may_start: false,
            tells_nothing: true,
            client: None,
        }
    }

    /// Whether its answer may begin a session or hand one to another member: then it is announced
    /// before it is sent.
    #[must_use]
    pub const fn may_start(&self) -> bool {
        self.may_start && self.session.is_some()
    }

    /// Who asks, as far as it shows.
    #[must_use]
    pub const fn viewer(&self) -> Option<&Viewer> {
        self.viewer.as_ref()
    }

    /// Who will ask next, once the client has taken the cookies of its answer.
    #[must_use]
    pub fn next_viewer(
        &self,
        rules: &Rules,
        headers: &HeaderMap,
        now: UnixMillis,
    ) -> Option<Viewer> {
        Viewer::after(self.viewer.as_ref(), &session_cookies(rules, headers, now))
    }

    /// What the cookies of its answer make of its session.
    pub fn cookies(
        &self,
        rules: &Rules,
        headers: &HeaderMap,
        key: &TagKey,
        now: UnixMillis,
    ) -> Cookies {
        let pins = rules.pins();
        let set = session_cookies(rules, headers, now);
        let becomes = Viewer::after(self.viewer.as_ref(), &set)
            .filter(|_| set.iter().any(|cookie| !cookie.deletes))
            .map(|viewer| pinned(&viewer, pins, &self.authority, key));
        let is_news = |cookie: &&SetCookie<'_>| {
            let repeats = self.viewer.as_ref().is_some_and(|v| v.carried(cookie));
            !cookie.deletes
                && cookie.value.len() >= VALUE_BYTES_MIN
                && !repeats
                && is_one_of(cookie.name, &pins.cookies)
        };
        let issued = set
            .iter()
            .filter(is_news)
            .take(ISSUED_MAX)
            .map(|cookie| CookieTag::of(key, &[cookie.name, cookie.value]))
            .collect();
        Cookies { becomes, issued }
    }
}

/// A shorter value is no session's: a flag, a language.
const VALUE_BYTES_MIN: usize = 12;
/// Session cookies of one response that are looked at.
const ISSUED_MAX: usize = 8;

/// What the cookies of a response make of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    /// The session that the client will show next.
    pub(super) becomes: Option<ViewerTag>,
    /// Values that are one session's alone, and that the request did not carry.
    pub(super) issued: Vec<CookieTag>,
}

/// The session of a viewer. A cookie's value is one session's wherever it is shown. Other credentials
/// may be known to several sites, each of which names its members in its own way.
fn pinned(viewer: &Viewer, pins: &PinRules, authority: &str, key: &TagKey) -> ViewerTag {
    let tag = viewer.narrowed(&pins.cookies).tag(key);
    if viewer.has_cookies() {
        return tag;
    }
    ViewerTag::of(key, &[&tag.0, authority.as_bytes()])
}

/// The cookies that a response sets and by which a session is known.
fn session_cookies<'a>(
    rules: &Rules,
    headers: &'a HeaderMap,
    now: UnixMillis,
) -> Vec<SetCookie<'a>> {
    let (session, pinned) = (rules.session(), &rules.pins().cookies);
    viewer::set_cookies(headers, now)
        .filter(|cookie| is_of_a_session(cookie.name, session, pinned))
        .collect()
}

fn is_of_a_session(name: &[u8], session: &Session, pinned: &[NamePattern]) -> bool {
    is_one_of(name, pinned)
        || if session.cookies.is_empty() {
            !is_one_of(name, &session.ignorable_cookies)
        } else {
            is_one_of(name, &session.cookies)
        }
}

fn is_one_of(name: &[u8], patterns: &[NamePattern]) -> bool {
    let name = std::str::from_utf8(name);
    name.is_ok_and(|name| patterns.iter().any(|pattern| pattern.matches(name)))
}
