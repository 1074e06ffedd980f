//! Gate, then share: what is the same for all who may see it, and only some may.
//!
//! A class that is `gated` has a path at which the origin says whether a member may see what they ask
//! for. Each request is asked there as itself, with its own credentials; only an answer of 2xx opens,
//! and for this one request. What is then served was fetched once, with a credential of the edge's own
//! that the origin requires.
//!
//! Or it opens by a token that stands in the URL ([`TokenRule`]): then nobody is asked.
//!
//! Never here: an answer that is remembered, or shared. A gate opens once.
//!
//! Invariant: a [`Gated`] request has no key, and cannot pass with the edge's credential, until
//! [`Gated::open`] has seen the origin say yes. Nothing else makes a [`Sharing`] of a gated class.

use std::sync::Arc;

use http::header::{HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request};
use shikiri_record::{Epoch, Mode, TagKey, TargetTag, UnixMillis};

use crate::classify::{Classified, Sharing, Under};
use crate::key::{self, Constants, Outbound};
use crate::pass::{Hop, Pass, PassRequest};
use crate::pins::MemberId;
use crate::reason::{Personal, Refused};
use crate::request::{RequestHead, Scheme};
use crate::rules::{Class, Rules};
use crate::secret::{Secret, SecretSource};
use crate::token::{Shows, TokenRule};

/// How a class asks whether somebody may see something, and shows the origin that it has asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassGate {
    /// By what it opens.
    pub by: GateBy,
    /// What the origin requires of a fetch that is for all who may see it.
    pub credential: EdgeCredential,
    /// A URL of the class that a start asks for without the credential, to see whether it is required.
    pub probe: Option<String>,
}

/// What opens a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateBy {
    /// The origin's answer to a question.
    Origin {
        /// Where it is asked.
        target: GateTarget,
        /// `GET` or `HEAD`.
        method: Method,
    },
    /// A token in the URL.
    Token(TokenRule),
}

impl ClassGate {
    /// The rule of its tokens, if it opens by those.
    #[must_use]
    pub const fn tokens(&self) -> Option<&TokenRule> {
        match &self.by {
            GateBy::Token(rule) => Some(rule),
            GateBy::Origin { .. } => None,
        }
    }
}

/// A credential of the edge's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeCredential {
    /// The request header that carries it.
    pub header: HeaderName,
    /// Where it is found.
    pub source: SecretSource,
    /// It, once it is known.
    pub secret: Option<Secret>,
}

/// A path in which what is asked for has its places: `/authz{path}?{query}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateTarget(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Path,
    Query,
}

impl GateTarget {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, (String, String)> {
        let wrong = |what: String| {
            Err((
                what,
                "Write `path = \"/authz{path}\"`, or `\"/authz{path}?{query}\"`.".to_owned(),
            ))
        };
        if !text.starts_with('/') && !text.starts_with("{path}") {
            return wrong(format!("the gate `{text}` does not start with `/`"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = if let Some(after) = rest.strip_prefix("{path}") {
                (Piece::Path, after)
            } else if let Some(after) = rest.strip_prefix("{query}") {
                (Piece::Query, after)
            } else {
                let brace = rest.find('{').filter(|at| *at > 0);
                let (plain, after) = rest.split_at(brace.unwrap_or(rest.len()));
                (Piece::Text(plain.to_owned()), after)
            };
            pieces.push(piece);
            rest = after;
        }
        let plain = |text: &str| {
            text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains(['{', '}', '#'])
        };
        let texts_are_plain = pieces.iter().all(|piece| match piece {
            Piece::Text(text) => plain(text),
            Piece::Path | Piece::Query => true,
        });
        if !texts_are_plain {
            return wrong(format!(
                "`{text}` holds more than `{{path}}` and `{{query}}` and what a path may hold"
            ));
        }
        let count = |wanted: &Piece| pieces.iter().filter(|piece| *piece == wanted).count();
        if count(&Piece::Path) != 1 {
            return wrong(format!(
                "the gate `{text}` does not say once for which path it is asked"
            ));
        }
        if count(&Piece::Query) > 1 {
            return wrong(format!("the gate `{text}` names the query twice"));
        }
        let own_query = text.replace("?{query}", "").contains(['?', '&']);
        if own_query && count(&Piece::Query) == 1 {
            // Whoever asks could say them again: the gate would be asked one thing, and another fetched.
            return wrong(format!(
                "the gate `{text}` has parameters of its own beside `{{query}}`"
            ));
        }
        let in_query = |text: &str| {
            text.split("{path}")
                .next()
                .is_some_and(|before| before.contains('?'))
        };
        if in_query(text) {
            // A path may hold `&` and `=`, and would bring parameters of its own.
            return wrong(format!("in `{text}`, `{{path}}` stands in the query"));
        }
        let after_mark = pieces.windows(2).all(|two| match two {
            [Piece::Text(text), Piece::Query] => text.ends_with('?'),
            [_, Piece::Query] => false,
            [Piece::Text(text), Piece::Path] => !text.ends_with('/'),
            _ => true,
        });
        if !after_mark {
            return wrong(format!(
                "in `{text}`, `{{path}}` begins with a slash of its own, and `{{query}}` stands after `?`"
            ));
        }
        Ok(Self(pieces))
    }

    /// Whether the query has a place.
    pub(crate) fn holds_query(&self) -> bool {
        self.0.contains(&Piece::Query)
    }

    /// The target for what a key names: path and query as the origin would see them.
    fn of(&self, target: &str) -> String {
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        let mut of = String::new();
        for piece in &self.0 {
            match (piece, query) {
                (Piece::Text(text), _) => of.push_str(text),
                (Piece::Path, _) => of.push_str(path),
                (Piece::Query, Some(query)) => of.push_str(query),
                (Piece::Query, None) => {
                    // With its mark.
                    of.pop();
                }
            }
        }
        of
    }
}

impl std::fmt::Display for GateTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Path => f.write_str("{path}")?,
                Piece::Query => f.write_str("{query}")?,
            }
        }
        Ok(())
    }
}

/// A request that a gated class claims: nothing is looked up for it before its gate has opened.
#[must_use]
#[derive(Debug)]
pub struct Gated {
    class: Arc<Class>,
    /// Where its gate is.
    target: String,
    /// What may follow.
    after: Opened,
}

fn gate_of(class: &Class) -> &ClassGate {
    class.gate.as_ref().expect("a gated class has a gate")
}

/// Where and how the origin is asked.
fn question_of(class: &Class) -> (&GateTarget, &Method) {
    match &gate_of(class).by {
        GateBy::Origin { target, method } => (target, method),
        GateBy::Token(_) => unreachable!("a class that opens by tokens asks nobody"),
    }
}

/// A request that a class claims which opens by tokens: nothing is looked up for it before its token has
/// been held against the clock. Of its URL, what claims, names and asks is without the token.
#[must_use]
#[derive(Debug)]
pub struct Tokened {
    class: Arc<Class>,
    path: String,
    query: Option<String>,
    shows: Shows,
    after: Opened,
}

impl Tokened {
    pub(crate) fn new(
        class: &Arc<Class>,
        head: &RequestHead<'_>,
        shows: Shows,
        after: Opened,
    ) -> Self {
        Self {
            class: Arc::clone(class),
            path: head.path.to_owned(),
            query: head.query.map(str::to_owned),
            shows,
            after,
        }
    }

    /// The class that claims it.
    #[must_use]
    pub const fn class(&self) -> &Arc<Class> {
        &self.class
    }

    /// The pseudonym of what is asked for: the request's target without its token.
    #[must_use]
    pub fn target_tag(&self, head: &RequestHead<'_>, key: &TagKey) -> TargetTag {
        let shown = RequestHead {
            path: &self.path,
            query: self.query.as_deref(),
            ..head.clone()
        };
        shown.target_tag(key)
    }

    /// Opens, or does not, by the time: and for whom the token was made, if it says so.
    ///
    /// # Errors
    /// [`Refused::TokenExpired`].
    pub fn open(self, now: UnixMillis) -> Result<(Opened, Option<MemberId>), Refused> {
        let viewer = self.shows.opens(now)?;
        Ok((self.after, viewer))
    }
}

/// What a gate has opened.
#[derive(Debug)]
pub enum Opened {
    /// The shared copy may answer.
    Shared(Sharing),
    /// It goes on as itself, with the edge's credential.
    Pass(Pass),
}

impl Gated {
    pub(crate) fn new(class: &Arc<Class>, target: &str, after: Opened) -> Self {
        Self {
            class: Arc::clone(class),
            target: question_of(class).0.of(target),
            after,
        }
    }

    /// The class that claims it.
    #[must_use]
    pub const fn class(&self) -> &Arc<Class> {
        &self.class
    }

    /// Where its gate is: path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The method with which its gate is asked: `GET` or `HEAD`.
    #[must_use]
    pub fn method(&self) -> &Method {
        question_of(&self.class).1
    }

    /// What shows whether its gate is one; of what comes of it nothing is ever served. `None` when it is
    /// not shared now.
    #[must_use]
    pub fn probe(&self, constants: &Constants) -> Option<Probe> {
        let Opened::Shared(sharing) = &self.after else {
            return None;
        };
        let bare = || key::bare(sharing.key(), constants);
        Some(Probe {
            strangers: bare().about(self.method().clone(), &self.target),
            bare: bare(),
            bearing: key::bearing(sharing.key(), gate_of(&self.class), constants),
        })
    }

    /// The question, as it goes to the origin: the member's own request, with the gate's method and
    /// target, and nothing in it that asks for a part, or for what has changed.
    ///
    /// # Errors
    /// See [`Pass::outbound`].
    pub fn ask(
        &self,
        parts: request::Parts,
        rules: &Rules,
        hop: &Hop<'_>,
        constants: &Constants,
    ) -> Result<PassRequest, Refused> {
        Pass::new(Personal::AsksGate).outbound_to_gate(
            parts,
            (self.method(), &self.target),
            rules,
            hop,
            constants,
        )
    }

    /// Opens, or does not: only 2xx is a yes, and of that not 206, since no part was asked for. The
    /// answer counts for this request, and is gone with it. Whoever calls this has read the answer to its
    /// end: one that breaks off is none.
    ///
    /// # Errors
    /// [`Shut`].
    pub fn open(self, answer: StatusCode) -> Result<Opened, Shut> {
        if is_yes(answer) {
            return Ok(self.after);
        }
        #[cfg(feature = "seeded-faults")]
        if crate::fault::is(crate::fault::Fault::GateOpens) {
            return Ok(self.after);
        }
        // What sends a member somewhere else, or says what is missing, is for the member to see. A
        // condition was not asked, a protocol not to be switched; and an origin that fails says nothing.
        let tells = answer.is_redirection() && answer != StatusCode::NOT_MODIFIED
            || answer.is_client_error();
        Err(if tells { Shut::Told } else { Shut::Failed })
    }
}

/// Puts the cookies that a gate's answer set before those of what it opened. One that is set again there
/// (of the same name, path and domain: RFC 6265 5.3) is set by that alone.
pub fn set_cookies_of_gate(headers: &mut HeaderMap, of_gate: &[HeaderValue]) {
    if of_gate.is_empty() {
        return;
    }
    let later: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    let again = |cookie: &&HeaderValue| later.iter().any(|later| slot(later) == slot(cookie));
    let first = of_gate.iter().filter(|cookie| !again(cookie));
    for cookie in first.chain(&later) {
        headers.append(SET_COOKIE, cookie.clone());
    }
}

/// Where a browser keeps a cookie: name, domain and path; an attribute that comes twice counts as it is
/// said last.
fn slot(line: &HeaderValue) -> (&[u8], Vec<u8>, &[u8]) {
    let mut parts = line.as_bytes().split(|b| *b == b';');
    fn halves(part: &[u8]) -> (&[u8], &[u8]) {
        let at = part.iter().position(|b| *b == b'=').unwrap_or(part.len());
        let (name, value) = part.split_at(at);
        (
            name.trim_ascii(),
            value.get(1..).unwrap_or_default().trim_ascii(),
        )
    }
    let (name, _) = halves(parts.next().unwrap_or_default());
    let (mut domain, mut path) = (Vec::new(), &b""[..]);
    for part in parts {
        match halves(part) {
            (of, value) if of.eq_ignore_ascii_case(b"domain") => {
                domain = value
                    .strip_prefix(b".")
                    .unwrap_or(value)
                    .to_ascii_lowercase();
            }
            (of, value) if of.eq_ignore_ascii_case(b"path") => {
                // Anything else stands for the path that was asked for, which is one for both.
                path = if value.starts_with(b"/") { value } else { b"" };
            }
            _ => {}
        }
    }
    (name, domain, path)
}

/// Whether an answer of this status opens a gate.
#[must_use]
pub fn is_yes(answer: StatusCode) -> bool {
    answer.is_success() && answer != StatusCode::PARTIAL_CONTENT
}

/// A gate that did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// The origin's answer is for the member to see.
    Told,
    /// It is none.
    Failed,
}

/// What shows whether a gate is one: three requests of nobody's.
#[derive(Debug)]
pub struct Probe {
    /// The gate's question, as somebody would ask it who shows nothing at all. No 2xx must come of it: a
    /// gate that opens for them is mostly none, and many sites answer 200 for a path that they do not know.
    pub strangers: Outbound,
    /// What is behind the gate, asked for as anybody might who knows the way around the edge: without the
    /// edge's credential, or a member's. [`Kept::of`] says what must come of it.
    pub bare: Outbound,
    /// The same with the edge's credential: whether there is anything at all.
    pub bearing: Outbound,
}

/// Whether an origin keeps what is behind a gate from whoever lacks the edge's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It said 404, and would perhaps to everybody: that shows nothing.
    Unproven,
}

impl Kept {
    /// By what came without the credential and, where that was 404, with it.
    #[must_use]
    pub fn of(bare: StatusCode, bearing: Option<StatusCode>) -> Self {
        match bare {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Yes,
            // Who hides what there is behind a 404 shows it to whoever bears the credential.
            StatusCode::NOT_FOUND => match bearing {
                Some(found) if found != StatusCode::NOT_FOUND && !found.is_server_error() => {
                    Self::Yes
                }
                _ => Self::Unproven,
            },
            _ => Self::No,
        }
    }
}

impl Rules {
    /// The gated classes that ask the origin and name no probe: whether their gates are any, nobody knows.
    pub fn unprobed(&self) -> impl Iterator<Item = &str> {
        let all = self.classes().iter();
        let unprobed = all.filter(|class| {
            class
                .gate
                .as_ref()
                .is_some_and(|g| g.probe.is_none() && g.tokens().is_none())
        });
        unprobed.map(|class| class.name.as_str())
    }

    /// For each gated class with a probe, by its name: what a start asks the origin, or why it cannot be
    /// asked.
    #[must_use]
    pub fn probes(&self, constants: &Constants) -> Vec<(String, Result<Probe, String>)> {
        let probes = self.classes().iter().filter_map(|class| {
            let probe = class.gate.as_ref()?.probe.as_ref()?;
            Some((
                class.name.clone(),
                self.probe(&class.name, probe, constants),
            ))
        });
        probes.collect()
    }

    fn probe(&self, class: &str, url: &str, constants: &Constants) -> Result<Probe, String> {
        let wrong = |why: &str| format!("the probe `{url}` {why}");
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let host = uri
            .authority()
            .map(|authority| authority.as_str())
            .unwrap_or_default();
        let host = HeaderValue::from_str(host).map_err(|_| wrong("has no host"))?;
        let headers = HeaderMap::from_iter([(HOST, host)]);
        let head = RequestHead::parse(scheme, Version::HTTP_11, &Method::GET, &uri, &headers)
            .map_err(|why| wrong(why.name()))?;
        let under = Under {
            mode: Mode::Open,
            epoch: Epoch(1),
            grant: None,
        };
        let claimed = match self.classify(&head, under) {
            Classified::Gated(gated) if gated.class().name == class => gated.probe(constants),
            _ => None,
        };
        claimed.ok_or_else(|| wrong("is not claimed by its class"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookies_of_a_gate_come_first_and_once() {
        for (gate, later, expected) in [
            (&["a=1"][..], &[][..], &["a=1"][..]),
            (&[], &["a=1"], &["a=1"]),
            (&["a=1", "b=1"], &["a=2"], &["b=1", "a=2"]),
            (&["a=1; Path=/"], &["a=2"], &["a=1; Path=/", "a=2"]),
            (
                &["a=1; Path=/"],
                &["a=2; Secure; path=/"],
                &["a=2; Secure; path=/"],
            ),
            (
                &["a=1; Path=/; Path=/x"],
                &["a=2; Path=/x"],
                &["a=2; Path=/x"],
            ),
            (&["a=1; Path=x"], &["a=2"], &["a=2"]),
            (
                &["a=1; Domain=.Shop.test"],
                &["a=; domain=shop.test; Max-Age=0"],
                &["a=; domain=shop.test; Max-Age=0"],
            ),
            (
                &["a=1; Domain=shop.test"],
                &["a=2"],
                &["a=1; Domain=shop.test", "a=2"],
            ),
            (&["A=1"], &["a=2"], &["A=1", "a=2"]),
            (&["a=1", "a=2"], &[], &["a=1", "a=2"]),
        ] {
            let lines = |lines: &[&str]| -> Vec<HeaderValue> {
                let lines = lines.iter();
                lines.map(|line| line.parse().expect("a value")).collect()
            };
            let mut headers = HeaderMap::new();
            for line in lines(later) {
                headers.append(SET_COOKIE, line);
            }
            set_cookies_of_gate(&mut headers, &lines(gate));
            let left: Vec<_> = headers.get_all(SET_COOKIE).iter().cloned().collect();
            assert_eq!(left, lines(expected), "{gate:?} {later:?}");
        }
    }

    #[test]
    fn only_a_whole_success_opens() {
        for (status, opens) in [
            (200, true),
            (204, true),
            (206, false),
            (101, false),
            (304, false),
            (403, false),
            (500, false),
        ] {
            let status = StatusCode::from_u16(status).expect("it is one");
            assert_eq!(is_yes(status), opens, "{status}");
        }
    }

    #[test]
    fn a_404_shows_that_something_is_kept_only_where_it_is_there() {
        for (bare, bearing, expected) in [
            (401, None, Kept::Yes),
            (403, None, Kept::Yes),
            (403, Some(404), Kept::Yes),
            (404, Some(200), Kept::Yes),
            (404, Some(206), Kept::Yes),
            (404, Some(302), Kept::Yes),
            (404, Some(404), Kept::Unproven),
            (404, Some(503), Kept::Unproven),
            (404, None, Kept::Unproven),
            (200, Some(200), Kept::No),
            (302, Some(200), Kept::No),
            (500, Some(200), Kept::No),
        ] {
            let status = |code| StatusCode::from_u16(code).expect("it is one");
            assert_eq!(
                Kept::of(status(bare), bearing.map(status)),
                expected,
                "{bare} {bearing:?}"
            );
        }
    }

    #[test]
    fn a_gate_s_target_is_made_of_what_the_key_names() {
        for (template, target, expected) in [
            ("/authz{path}", "/films/1.mp4", "/authz/films/1.mp4"),
            ("/authz{path}?{query}", "/f?a=1&b=2", "/authz/f?a=1&b=2"),
            ("/authz{path}?{query}", "/f", "/authz/f"),
            ("/authz{path}/may?by=edge", "/f", "/authz/f/may?by=edge"),
            ("{path}", "/f", "/f"),
        ] {
            let parsed = GateTarget::parse(template).expect(template);
            assert_eq!(parsed.of(target), expected, "{template}");
            assert_eq!(parsed.to_string(), template);
        }
        for wrong in [
            "authz{path}",
            "/authz",
            "/authz/{path}",
            "/authz{path}{path}",
            "/authz{path}{query}",
            "/a{path}?{query}&{query}",
            "/a{path}#x",
            "/a{host}{path}",
            "/a b{path}",
            "/a}{path}",
            "/authz?for={path}",
            "/authz{path}?by=edge&{query}",
            "/authz{path}?{query}&by=edge",
            "/authz{path}&{query}",
        ] {
            assert!(GateTarget::parse(wrong).is_err(), "{wrong}");
        }
    }
}
