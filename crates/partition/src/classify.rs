//! Whether a request may be answered by a shared fetch, and by which.
//!
//! The default is personal. A request becomes [`Classified::Shared`] only when a class claims it and
//! nothing in it could be read in two ways or names a person. This is the only maker of a [`Key`].

use std::sync::Arc;

use http::header::{AUTHORIZATION, CACHE_CONTROL, ORIGIN};
use http::{HeaderName, HeaderValue, Method};
use shikiri_record::{Epoch, GrantId, Mode};

use crate::gated::{ClassGate, Gated, Opened, Tokened};
use crate::hop;
use crate::identity;
use crate::key::{AcceptEncoding, Key};
use crate::pass::Pass;
use crate::reason::{Personal, Refused};
use crate::request::RequestHead;
use crate::rules::{Class, Match, QueryKey, Rules, Session, To};
use crate::token::{TokenPlace, Tokenless};
use crate::viewer;

/// What a request is classified under: a node's stance, less its rules, and the preview grant that took
/// the request through a gate, if one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Under {
    /// The mode in which the request is answered: the node's, or the one that the grant previews.
    pub mode: Mode,
    /// The epoch in force.
    pub epoch: Epoch,
    /// It goes into the key, so that nothing that a preview fills can be named without it.
    pub grant: Option<GrantId>,
}

/// What a request is.
#[derive(Debug)]
pub enum Classified {
    /// A shared copy may answer it.
    Shared(Sharing),
    /// A shared copy may answer it once a gate has opened for it.
    Gated(Gated),
    /// A shared copy may answer it while the token that its URL holds is good.
    Tokened(Tokened),
    /// It goes to the origin as itself.
    Personal(Pass),
    /// It goes nowhere.
    Refused(Refused),
}

/// The permission to answer a request by what its key names.
#[derive(Debug)]
pub struct Sharing {
    key: Key,
    class: Arc<Class>,
    requester: Requester,
}

impl Sharing {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The class that claims the request.
    #[must_use]
    pub const fn class(&self) -> &Arc<Class> {
        &self.class
    }

    /// What the request carried that its key does not.
    #[must_use]
    pub const fn requester(&self) -> Requester {
        self.requester
    }

    /// Gives up sharing: the request goes on as itself. Where a gate has opened for it, the origin is
    /// shown that.
    pub fn into_pass(self, why: Personal) -> Pass {
        Pass::of_class(why, &self.class, &self.key)
    }
}

/// What a request carried that its key does not hold: it decides whether a copy that the origin
/// made for requests *without* that will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    /// A recognised credential.
    pub credentials: bool,
    /// A `Cookie` header with more in it than ignorable cookies.
    pub cookie: bool,
    /// An `Authorization` header.
    pub authorization: bool,
    /// An `Origin` header.
    pub origin: bool,
}

impl Rules {
    /// Decides what a request is. Total: whatever is not clearly shared is personal.
    #[must_use]
    pub fn classify(&self, head: &RequestHead<'_>, under: Under) -> Classified {
        // The gate is before us; this is for a caller who forgot it.
        if under.mode == Mode::Closed {
            return Classified::Refused(Refused::Closed);
        }
        let Some(origin) = self.origin_for(head.host()) else {
            return Classified::Refused(Refused::UnknownHost);
        };
        // What claims, names and asks is the URL without its token.
        let taken = match self.taken(head) {
            Ok(taken) => taken,
            Err(why) => return Classified::Refused(why),
        };
        let without = taken.as_ref().map(|taken| taken.without(head));
        let head = without.as_ref().unwrap_or(head);
        let personal = |why| match &taken {
            // As itself it would tell the origin its token.
            Some(_) => Classified::Refused(Refused::TokenNotForThis),
            None => Classified::Personal(Pass::new(why)),
        };
        // What it would be answered with from the store is not what it asks for.
        if !origin.upgrades.is_empty() && head.wants_upgrade() {
            return personal(Personal::Switches);
        }
        let requester = requester(&self.session, head);
        let class = match self.claim(head, requester) {
            Ok(class) => class,
            Err(why) => return personal(why),
        };
        let shows = match (class.gate.as_ref().and_then(ClassGate::tokens), &taken) {
            (None, _) => None,
            (Some(_), None) => return Classified::Refused(Refused::NoToken),
            (Some(rule), Some(taken)) => match rule.read(taken.token, taken.path) {
                Ok(shows) => Some(shows),
                Err(why) => return Classified::Refused(why),
            },
        };
        #[cfg(feature = "seeded-faults")]
        let under = Under {
            mode: crate::fault::mode(under.mode),
            ..under
        };
        let now = shares_now(class, head, under.mode);
        if let (None, Err(why)) = (&class.gate, &now) {
            return Classified::Personal(Pass::new(why.clone()));
        }
        if class
            .gate
            .as_ref()
            .is_some_and(|gate| gate.credential.secret.is_none())
        {
            return personal(Personal::NoSecret);
        }
        let target = match target(class, head) {
            Ok(target) => target,
            Err(why) => return personal(why),
        };
        let headers = match key_headers(class, head) {
            Ok(headers) => headers,
            Err(why) => return personal(why),
        };
        let encoding = class.key_encoding.then(|| AcceptEncoding::of(head.headers));
        let key = Key::new(
            class,
            under,
            origin,
            head,
            target.clone(),
            encoding,
            headers,
        );
        let sharing = Sharing {
            key,
            class: Arc::clone(class),
            requester,
        };
        if class.gate.is_none() {
            return Classified::Shared(sharing);
        }
        let after = match now {
            Ok(()) => Opened::Shared(sharing),
            Err(why) => Opened::Pass(sharing.into_pass(why)),
        };
        match shows {
            Some(shows) => Classified::Tokened(Tokened::new(class, head, shows, after)),
            None => Classified::Gated(Gated::new(class, &target, after)),
        }
    }

    /// The token that a URL holds, if a class is opened by such. What stands where tokens do in a path is
    /// the edge's own; a parameter is one only for what its class claims.
    fn taken<'h>(&self, head: &RequestHead<'h>) -> Result<Option<Tokenless<'h>>, Refused> {
        let mut is_ours = false;
        for class in &self.classes {
            let Some(rule) = class.gate.as_ref().and_then(ClassGate::tokens) else {
                continue;
            };
            let hosts = &class.matches.hosts;
            if !hosts.is_empty() && !hosts.iter().any(|of| of.matches(head.host())) {
                continue;
            }
            let in_path = matches!(rule.place, TokenPlace::Path(_));
            let taken = match rule.place.take(head.path, head.query) {
                Ok(taken) => taken,
                Err(_) if !in_path && !class.matches.matches(head) => None,
                Err(why) => return Err(why),
            };
            let Some(taken) = taken else {
                continue;
            };
            is_ours |= in_path;
            let without = taken.without(head);
            let mut classes = self.classes.iter();
            let claims = classes.find(|class| class.matches.matches(&without));
            if claims.is_some_and(|claims| Arc::ptr_eq(claims, class)) {
                return Ok(Some(taken));
            }
        }
        if is_ours {
            return Err(Refused::TokenNotForThis);
        }
        Ok(None)
    }

    /// The class that claims a request, or why none may.
    fn claim(&self, head: &RequestHead<'_>, requester: Requester) -> Result<&Arc<Class>, Personal> {
        if head.method != Method::GET && head.method != Method::HEAD {
            return Err(Personal::Method);
        }
        if head.has_body {
            return Err(Personal::HasBody);
        }
        if self.personal.iter().any(|m| m.matches(head)) {
            return Err(Personal::Declared);
        }
        let class = self
            .classes
            .iter()
            .find(|class| class.matches.matches(head));
        let class = class.ok_or(Personal::NoClass)?;
        identity::path(head.path, &self.session)?;
        identity::query(head.query, &self.session)?;
        if class.to == To::Anonymous && requester.credentials {
            return Err(Personal::Credentials);
        }
        Ok(class)
    }
}

impl Match {
    /// Whether a request is meant.
    #[must_use]
    pub fn matches(&self, head: &RequestHead<'_>) -> bool {
        let has = |pattern: &crate::rules::NamePattern| {
            identity::parameters(head.query).any(|(name, _)| pattern.matches(name))
        };
        (self.hosts.is_empty() || self.hosts.iter().any(|h| h.matches(head.host())))
            && (self.paths.is_empty() || self.paths.iter().any(|p| p.matches(head.path)))
            && (self.extensions.is_empty()
                || identity::extension(head.path)
                    .is_some_and(|e| self.extensions.iter().any(|x| x.eq_ignore_ascii_case(e))))
            && self.query_has.iter().all(has)
            && !self.query_lacks.iter().any(has)
    }
}

/// What the request carries that no key does.
fn requester(session: &Session, head: &RequestHead<'_>) -> Requester {
    let (mut cookie, mut member_cookie) = (false, false);
    for one in viewer::cookies(head.headers) {
        cookie |= !one.is_ignorable(session);
        member_cookie |= one.identifies(session);
    }
    let authorization = head.headers.contains_key(AUTHORIZATION);
    let mut names = head.headers.keys();
    let other = names.any(|name| viewer::is_credential_beside_cookies(name, session));
    Requester {
        credentials: member_cookie || authorization || other || head.certificate.is_some(),
        cookie,
        authorization,
        origin: head.headers.contains_key(ORIGIN),
    }
}

/// Whether what a class claims is shared now, for this request.
fn shares_now(class: &Class, head: &RequestHead<'_>, mode: Mode) -> Result<(), Personal> {
    if client_forbids_storing(head) {
        return Err(Personal::ClientNoStore);
    }
    if class.is_shared_in(mode) {
        return Ok(());
    }
    Err(match mode {
        Mode::Static => Personal::ModeStatic,
        Mode::Open | Mode::Pass | Mode::Closed => Personal::ModePass,
    })
}

/// `Cache-Control: no-store` in a request tightens (RFC 9111 5.2.1.5). What would only flush a
/// shared object (`no-cache`, `max-age=0`) is not looked at.
fn client_forbids_storing(head: &RequestHead<'_>) -> bool {
    hop::tokens(head.headers, &CACHE_CONTROL).any(|token| token.eq_ignore_ascii_case("no-store"))
}

/// The target that the origin sees: the path, and the part of the query that the class keeps.
pub(crate) fn target(class: &Class, head: &RequestHead<'_>) -> Result<String, Personal> {
    let Some(query) = head.query else {
        return Ok(head.path.to_owned());
    };
    let (listed, else_personal) = match &class.query {
        QueryKey::All => return Ok(format!("{}?{query}", head.path)),
        QueryKey::Only(listed) => (listed, false),
        QueryKey::OnlyElsePersonal(listed) => (listed, true),
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let name = parameter
            .split_once('=')
            .map_or(parameter, |(name, _)| name);
        if !listed.iter().any(|pattern| pattern.matches(name)) {
            if else_personal {
                return Err(Personal::UnlistedQuery(name.to_owned()));
            }
            continue;
        }
        // Two of one name: which of them the origin reads is not ours to guess.
        if names.contains(&name) {
            return Err(Personal::AmbiguousQuery);
        }
        names.push(name);
        kept.push(parameter);
    }
    if kept.is_empty() {
        return Ok(head.path.to_owned());
    }
    Ok(format!("{}?{}", head.path, kept.join("&")))
}

/// The values of the headers that the class puts into the key. Several lines of one field are
/// joined, as the origin would read them.
fn key_headers(
    class: &Class,
    head: &RequestHead<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Personal> {
    const VALUE_BYTES_MAX: usize = 256;
    let mut headers = Vec::with_capacity(class.key_headers.len());
    for name in &class.key_headers {
        let values: Vec<&[u8]> = head
            .headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if values.is_empty() {
            continue;
        }
        let joined = values.join(&b", "[..]);
        if joined.len() > VALUE_BYTES_MAX {
            return Err(Personal::KeyHeader(name.as_str().to_owned()));
        }
        let value =
            HeaderValue::from_bytes(&joined).expect("joined header values are a header value");
        headers.push((name.clone(), value));
    }
    Ok(headers)
}
