//! The key: the part of a request that a shared fetch may depend on.
//!
//! A [`SharedFetch`] is rendered from a [`Key`], from constants of this node and from validators of
//! an admitted object of the same key. It has never seen the request. That, and not a check, is why
//! a stored response can depend on nothing but its key.
//!
//! Never here: a cookie, a credential, a client's address, its conditional headers, a body.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, USER_AGENT,
    VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use shikiri_record::{ClassDigest, Epoch, FillId, GrantId, Order, UnixMillis};

use crate::admit::{Admitted, Fill};
use crate::classify::Under;
use crate::gated::ClassGate;
use crate::named::named;
use crate::request::{RequestHead, Scheme};
use crate::rules::{Class, Origin, OriginHost};
use crate::upstream::Upstream;

/// The content codings that a viewer takes, in the few forms that are worth a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptEncoding {
    /// No coding.
    Identity,
    /// gzip, or none.
    Gzip,
    /// Brotli, gzip, or none.
    BrotliGzip,
}

impl AcceptEncoding {
    /// The form of a request's `Accept-Encoding` (RFC 9110 12.5.3).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut gzip, mut brotli) = (false, false);
        for element in crate::hop::tokens(headers, &ACCEPT_ENCODING) {
            let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
            let refused = parameters.split(';').any(|p| {
                let (name, value) = p.split_once('=').unwrap_or((p, ""));
                name.trim().eq_ignore_ascii_case("q")
                    && value.trim().bytes().all(|b| matches!(b, b'0' | b'.'))
            });
            match coding.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = !refused,
                "br" => brotli = !refused,
                _ => {}
            }
        }
        match (brotli, gzip) {
            (true, true) => Self::BrotliGzip,
            (false, true) => Self::Gzip,
            _ => Self::Identity,
        }
    }

    /// As it is sent to the origin.
    #[must_use]
    pub const fn rendered(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::BrotliGzip => "br, gzip",
        }
    }

    /// Whether a response in this coding (lower case) was asked for.
    #[must_use]
    pub fn takes(self, coding: &str) -> bool {
        match coding {
            "identity" => true,
            "gzip" | "x-gzip" => self != Self::Identity,
            "br" => self == Self::BrotliGzip,
            _ => false,
        }
    }
}

/// The part of a request that a shared fetch may depend on. It *is* the request that the origin sees.
///
/// Made by [`Rules::classify`](crate::Rules::classify) alone. Cheap to clone.
#[derive(Clone)]
pub struct Key {
    parts: Arc<Parts>,
    slice: Option<SliceOf>,
}

/// Which slice of which set: made by [`Admitted::slice_key`] alone. The number says which bytes the
/// origin is asked for, and the set whose validator they are asked with. What another set left behind
/// cannot be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SliceOf {
    /// The fill that found the set.
    pub(crate) set: FillId,
    pub(crate) number: u32,
}

/// Equality is over all of it: two keys are one only if the origin would see the same bytes, under
/// the same meaning of the same class, in the same epoch.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Parts {
    pub(crate) class: ClassDigest,
    pub(crate) epoch: Epoch,
    /// What a preview fills can be named by that preview alone.
    pub(crate) grant: Option<GrantId>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) scheme: Scheme,
    pub(crate) authority: Box<str>,
    pub(crate) host_header: Box<str>,
    /// Path and query as the origin sees them.
    pub(crate) target: Box<str>,
    pub(crate) encoding: Option<AcceptEncoding>,
    pub(crate) headers: Box<[(HeaderName, HeaderValue)]>,
    /// It is fetched with a credential of the edge's own, and shown to whom a gate has opened for.
    pub(crate) gated: bool,
}

impl Key {
    pub(crate) fn new(
        class: &Class,
        under: Under,
        origin: &Origin,
        head: &RequestHead<'_>,
        target: String,
        encoding: Option<AcceptEncoding>,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Self {
        let (scheme, authority) = (head.scheme, head.authority.as_str());
        assert!(target.starts_with('/'), "a shared target is in origin form");
        for (name, _) in &headers {
            assert!(
                !crate::hop::never_in_a_key(name),
                "policy lets {name} into no key"
            );
        }
        let host_header = match origin.host_header {
            OriginHost::Client => authority.to_owned(),
            OriginHost::Origin => origin.upstream.authority(),
        };
        let Under { epoch, grant, .. } = under;
        #[cfg(feature = "seeded-faults")]
        let (class_digest, epoch) = crate::fault::old_digest(class.digest, epoch);
        #[cfg(not(feature = "seeded-faults"))]
        let class_digest = class.digest;
        let parts = Parts {
            class: class_digest,
            epoch,
            grant,
            upstream: Arc::clone(&origin.upstream),
            scheme,
            authority: authority.into(),
            host_header: host_header.into(),
            target: target.into(),
            encoding,
            headers: headers.into(),
            gated: class.gate.is_some(),
        };
        Self {
            parts: Arc::new(parts),
            slice: None,
        }
    }

    /// The key of a slice of what this one names.
    pub(crate) fn of_slice(&self, slice: SliceOf) -> Self {
        assert!(self.slice.is_none(), "a slice is of an object");
        Self {
            parts: Arc::clone(&self.parts),
            slice: Some(slice),
        }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether it names a slice, which is no answer to a request by itself.
    #[must_use]
    pub const fn is_of_slice(&self) -> bool {
        self.slice.is_some()
    }

    /// The class's digest.
    #[must_use]
    pub fn class(&self) -> ClassDigest {
        self.parts.class
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.parts.epoch
    }

    /// The preview grant under which it was made. Nobody else can name what is stored under it.
    #[must_use]
    pub fn grant(&self) -> Option<GrantId> {
        self.parts.grant
    }

    /// The URI as a viewer spelt it. The query is the part that the key holds.
    #[must_use]
    pub fn uri(&self) -> String {
        format!(
            "{}://{}{}",
            self.parts.scheme.as_str(),
            self.parts.authority,
            self.parts.target
        )
    }

    /// The name by which purges and invalidations find what is stored: one for all spellings of
    /// [`Key::uri`].
    #[must_use]
    pub fn name(&self) -> String {
        named(self.parts.scheme, &self.parts.authority, &self.parts.target)
    }

    /// Whether it is no more than a place: no query, no header value and no grant, so nothing in it that
    /// only somebody could know; and no gate before it, so nothing behind it that only some may see.
    #[must_use]
    pub fn is_a_place(&self) -> bool {
        self.parts.grant.is_none()
            && self.parts.headers.is_empty()
            && !self.parts.target.contains('?')
            && !self.parts.gated
    }

    /// Whether a gate stands before it.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.parts.gated
    }

    /// Whether both name one object, or slices of it.
    #[must_use]
    pub fn is_of_one_object(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.parts, &other.parts) || self.parts == other.parts
    }

    /// Bytes that the key takes in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        let headers: usize = self
            .parts
            .headers
            .iter()
            .map(|(n, v)| n.as_str().len() + v.len() + 64)
            .sum();
        size_of::<Parts>()
            + self.parts.authority.len()
            + self.parts.host_header.len()
            + self.parts.target.len()
            + headers
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.slice == other.slice && self.is_of_one_object(other)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The target may be long, and is of no use in a message without the rest; `explain` prints all.
        write!(f, "Key({}{}", self.parts.authority, self.parts.target)?;
        if let Some(slice) = self.slice {
            write!(f, " slice {}", slice.number)?;
        }
        f.write_str(")")
    }
}

/// What this node says of itself on every shared fetch.
#[derive(Clone, Debug)]
pub struct Constants {
    pub(crate) via: HeaderValue,
    pub(crate) cdn_loop: HeaderValue,
    pub(crate) user_agent: HeaderValue,
}

impl Constants {
    /// Constants for a node of this name.
    ///
    /// # Panics
    /// When the name is not a token (RFC 9110 5.6.2): letters, digits, `-`, `.`, `_`.
    #[must_use]
    pub fn new(node: &str) -> Self {
        assert!(
            !node.is_empty()
                && node
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')),
            "a node's name is a token"
        );
        let value = |text: String| HeaderValue::try_from(text).expect("a token is a header value");
        Self {
            via: value(format!("1.1 {node}")),
            cdn_loop: value(node.to_owned()),
            user_agent: HeaderValue::from_static(concat!("shikiri/", env!("CARGO_PKG_VERSION"))),
        }
    }

    /// The node's name, as it stands in `CDN-Loop`.
    #[must_use]
    pub const fn cdn_loop(&self) -> &HeaderValue {
        &self.cdn_loop
    }

    /// What is added to `Via` of a message that came in this version (RFC 9110 7.6.3).
    pub(crate) fn via_of(&self, version: Version) -> HeaderValue {
        if version != Version::HTTP_2 {
            return self.via.clone();
        }
        let node = [b"2.0 ", self.cdn_loop.as_bytes()].concat();
        HeaderValue::from_bytes(&node).expect("a token is a header value")
    }

    /// The value of `Via`.
    #[must_use]
    pub const fn via(&self) -> &HeaderValue {
        &self.via
    }
}

/// When a fill began: its id, its instant and its place among purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The fill.
    pub id: FillId,
    /// When it began.
    pub at: UnixMillis,
    /// Its place among the node's purges and invalidations.
    pub order: Order,
}

/// A request to the origin that depends on nothing but a key. Not cloneable: one fetch, one answer.
#[must_use]
#[derive(Debug)]
pub struct SharedFetch {
    outbound: Outbound,
    fill: Fill,
}

/// A shared fetch as it goes on the wire. It has no body.
#[derive(Debug)]
pub struct Outbound {
    key: Key,
    method: Method,
    target: Box<str>,
    headers: HeaderMap,
    upstream: Arc<Upstream>,
}

impl Outbound {
    /// The key that it was rendered from. A connection that carried it carries nothing of another key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The method: GET, unless it asks a gate.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The header fields, `Host` first.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Where the origin listens and how it is spoken to.
    #[must_use]
    pub const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The same sender's question about something else.
    pub(crate) fn about(self, method: Method, target: &str) -> Self {
        Self {
            method,
            target: target.into(),
            ..self
        }
    }

    /// Takes it apart, for sending: method, target, header fields.
    #[must_use]
    pub fn into_parts(self) -> (Method, Box<str>, HeaderMap) {
        (self.method, self.target, self.headers)
    }

    /// What must never happen.
    #[cfg(feature = "seeded-faults")]
    pub fn add_cookie(&mut self, cookie: HeaderValue) {
        self.headers.insert(http::header::COOKIE, cookie);
    }
}

impl SharedFetch {
    /// Asks for what the key names; of a class in slices, for its first slice.
    pub fn of(key: &Key, class: &Arc<Class>, begun: Begun, constants: &Constants) -> Self {
        let part = class.slice_bytes.map_or(Part::All, Part::First);
        Self {
            outbound: render(key, class.gate.as_ref(), constants, (part, None)),
            fill: Fill::begin(key.clone(), Arc::clone(class), begun, None),
        }
    }

    /// Asks for what the key names, and for all of it.
    pub fn whole(key: &Key, class: &Arc<Class>, begun: Begun, constants: &Constants) -> Self {
        Self {
            outbound: render(key, class.gate.as_ref(), constants, (Part::All, None)),
            fill: Fill::begin(key.clone(), Arc::clone(class), begun, None).for_all(),
        }
    }

    /// Asks whether a stored object is still what the key names. A condition is made only from a
    /// validator that the object has (RFC 9111 4.3.1).
    pub fn revalidate(
        stored: &Admitted,
        class: &Arc<Class>,
        begun: Begun,
        constants: &Constants,
    ) -> Self {
        let key = stored.key().clone();
        let part = class.slice_bytes.map_or(Part::All, Part::First);
        Self {
            outbound: render(&key, class.gate.as_ref(), constants, (part, Some(stored))),
            fill: Fill::begin(key, Arc::clone(class), begun, Some(stored.clone())),
        }
    }

    /// What goes on the wire, and the judge of what comes back.
    pub fn begin(self) -> (Outbound, Fill) {
        (self.outbound, self.fill)
    }

    /// What would go on the wire.
    #[must_use]
    pub const fn outbound(&self) -> &Outbound {
        &self.outbound
    }
}

/// What a key names, asked for without the credential that its class has: to see whether it is required.
pub(crate) fn bare(key: &Key, constants: &Constants) -> Outbound {
    render(key, None, constants, (Part::All, None))
}

/// The slice of a set, as it goes on the wire. A key of a slice is made from its set, so the validator is
/// that of the admitted object whose slice it names.
pub(crate) fn slice(
    key: &Key,
    class: &Class,
    constants: &Constants,
    (range, etag): (Range<u64>, &HeaderValue),
) -> Outbound {
    assert!(key.is_of_slice(), "a slice has a key of its own");
    let part = Part::Slice(range, etag);
    render(key, class.gate.as_ref(), constants, (part, None))
}

/// How much of what a key names is asked for.
enum Part<'a> {
    All,
    /// The first slice, of so many bytes.
    First(u64),
    /// These bytes, of what has this entity tag.
    Slice(Range<u64>, &'a HeaderValue),
}

/// The same with that credential: to see whether there is anything.
pub(crate) fn bearing(key: &Key, gate: &ClassGate, constants: &Constants) -> Outbound {
    render(key, Some(gate), constants, (Part::All, None))
}

/// The one place where a key becomes a request.
fn render(
    key: &Key,
    gate: Option<&ClassGate>,
    constants: &Constants,
    (part, stored): (Part<'_>, Option<&Admitted>),
) -> Outbound {
    let parts = key.parts();
    let mut headers = HeaderMap::with_capacity(16);
    let text = |text: &str| HeaderValue::from_str(text).expect("an authority is a header value");
    headers.insert(HOST, text(&parts.host_header));
    headers.insert(USER_AGENT, constants.user_agent.clone());
    if !parts.headers.iter().any(|(name, _)| name == ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    }
    let encoding = parts.encoding.unwrap_or(AcceptEncoding::Identity);
    headers.insert(
        ACCEPT_ENCODING,
        HeaderValue::from_static(encoding.rendered()),
    );
    for (name, value) in &parts.headers {
        headers.append(name.clone(), value.clone());
    }
    headers.insert(
        crate::hop::X_FORWARDED_PROTO,
        HeaderValue::from_static(parts.scheme.as_str()),
    );
    headers.insert(crate::hop::X_FORWARDED_HOST, text(&parts.authority));
    headers.insert(VIA, constants.via.clone());
    headers.insert(crate::hop::CDN_LOOP, constants.cdn_loop.clone());
    if let Some(gate) = gate {
        let secret = gate.credential.secret.as_ref();
        let secret = secret.expect("a class whose secret is not known makes no key");
        headers.insert(gate.credential.header.clone(), secret.value().clone());
    }
    let bytes = |first: u64, end: u64| {
        let range = format!("bytes={first}-{}", end - 1);
        HeaderValue::try_from(range).expect("digits and punctuation are a header value")
    };
    match part {
        Part::All => {}
        Part::First(end) => {
            headers.insert(RANGE, bytes(0, end));
        }
        Part::Slice(range, etag) => {
            headers.insert(RANGE, bytes(range.start, range.end));
            if !crate::slices::joins_versions() {
                headers.insert(IF_MATCH, etag.clone());
            }
        }
    }
    if let Some(stored) = stored {
        if let Some(etag) = stored.etag() {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        if let Some(modified) = stored.last_modified() {
            headers.insert(IF_MODIFIED_SINCE, modified.clone());
        }
    }
    Outbound {
        key: key.clone(),
        method: Method::GET,
        target: parts.target.clone(),
        headers,
        upstream: Arc::clone(&parts.upstream),
    }
}
