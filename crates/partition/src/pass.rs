//! A pass: a request sent to the origin as itself, its response shown to its sender alone.
//!
//! A [`Pass`] is not `Clone`: one request, one answer. It leaves towards the origin without what
//! only a trusted hop may claim, and its response leaves as private or stricter, so that no cache
//! beyond us can do what we would not.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, DATE, HOST, LINK, PRAGMA, REFERER, TE,
    UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, request};

use crate::certificate::ClientCertificate;
use crate::directives::Directives;
use crate::hop;
use crate::identity;
use crate::key::{Constants, Key};
use crate::reason::{Personal, Refused};
use crate::request::{RequestHead, Scheme};
use crate::rules::{Class, OriginHost, Rules, Session};
use crate::trace::TraceContext;
use crate::upstream::Upstream;

/// The permission to send one request as itself.
#[must_use]
#[derive(Debug)]
pub struct Pass {
    why: Personal,
    /// It is what a gate has opened for.
    opened: Option<BehindGate>,
}

/// What a gate was asked about, and what shows the origin that it has opened: the one never goes
/// without the other.
#[derive(Debug)]
struct BehindGate {
    credential: (HeaderName, HeaderValue),
    /// Path and query, as the gate was asked about them.
    target: Box<str>,
    /// It opened by a token in the URL, which the page before may have been of, too.
    by_token: bool,
}

impl Pass {
    pub(crate) const fn new(why: Personal) -> Self {
        Self { why, opened: None }
    }

    /// A pass of a request that a class claims, and for which its gate has opened if it has one.
    pub(crate) fn of_class(why: Personal, class: &Class, key: &Key) -> Self {
        let credential = class.gate.as_ref().map(|gate| &gate.credential);
        let opened = credential.and_then(|credential| {
            let secret = credential.secret.as_ref()?;
            Some(BehindGate {
                credential: (credential.header.clone(), secret.value().clone()),
                target: key.parts().target.clone(),
                by_token: class
                    .gate
                    .as_ref()
                    .is_some_and(|gate| gate.tokens().is_some()),
            })
        });
        Self { why, opened }
    }

    /// Why it is not shared.
    #[must_use]
    pub const fn why(&self) -> &Personal {
        &self.why
    }

    /// The request as it goes to the origin.
    ///
    /// # Errors
    /// [`Refused`] for a head that [`RequestHead::parse`] refuses, and for a host that no origin
    /// answers for.
    pub fn outbound(
        self,
        parts: request::Parts,
        rules: &Rules,
        hop: &Hop<'_>,
        constants: &Constants,
    ) -> Result<PassRequest, Refused> {
        let request::Parts {
            version,
            method,
            uri,
            headers,
            ..
        } = &parts;
        let head = RequestHead::parse(hop.scheme, *version, method, uri, headers)?;
        let origin = rules.origin_for(head.host()).ok_or(Refused::UnknownHost)?;
        let authority = head.authority.clone();
        // With the edge's credential, exactly what its gate was asked about: the rest of a query is the
        // client's alone, and some servers take `q[]` or ` q` for the `q` that was asked about.
        let target = match &self.opened {
            Some(opened) => opened.target.to_string(),
            None => head.target(),
        };
        let upgrade = upgrade(&head, *version, &origin.upgrades);
        let (credentials, names_its_sender) =
            sender(&parts.headers, &target, rules.session(), hop.certificate);
        // With the edge's own credential it is asked on connections of its own.
        let credentials = match &self.opened {
            None => credentials,
            Some(_) => {
                let mut canonical = shikiri_record::Canonical::new("shikiri gated credentials 1");
                if let Some(digest) = &credentials {
                    canonical.bytes(digest.as_bytes());
                }
                Some(canonical.digest())
            }
        };
        let mut headers = parts.headers;
        let takes_trailers =
            hop::tokens(&headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        hop::strip_hop_by_hop(&mut headers);
        if !hop.trusted {
            remove(&mut headers, hop::is_hop_claim);
        }
        // Whoever it is: this one is the edge's alone to show.
        remove(&mut headers, |name| rules.is_edge_credential(name));
        if let Some(opened) = self.opened {
            // It opened for this target, and no other.
            remove(&mut headers, hop::names_another_target);
            if opened.by_token {
                headers.remove(REFERER);
            }
            let (name, value) = opened.credential;
            headers.insert(name, value);
        }
        // A trusted hop that ended the viewer's TLS knows the viewer's certificate; ours is the hop's own.
        if let Some(certificate) = hop.certificate
            && !headers.contains_key(hop::CLIENT_CERT)
        {
            headers.insert(hop::CLIENT_CERT, certificate.field().clone());
        }
        let host = match origin.host_header {
            OriginHost::Client => authority.clone(),
            OriginHost::Origin => origin.upstream.authority(),
        };
        let text = |text: String| {
            HeaderValue::try_from(text).expect("an authority or address is a header value")
        };
        headers.insert(HOST, text(host));
        let forwarded_for = forwarded_for(&headers, hop.client);
        let client = match hop.client {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        headers.append(
            http::header::FORWARDED,
            text(format!(
                "for={client};host=\"{authority}\";proto={}",
                hop.scheme.as_str()
            )),
        );
        headers.insert(hop::X_REAL_IP, text(hop.client.to_string()));
        headers.insert(hop::X_FORWARDED_FOR, forwarded_for);
        if !headers.contains_key(hop::X_FORWARDED_PROTO) {
            headers.insert(
                hop::X_FORWARDED_PROTO,
                HeaderValue::from_static(hop.scheme.as_str()),
            );
        }
        if !headers.contains_key(hop::X_FORWARDED_HOST) {
            headers.insert(hop::X_FORWARDED_HOST, text(authority));
        }
        if takes_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        if let Some(protocol) = &upgrade {
            headers.insert(UPGRADE, protocol.clone());
            headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        headers.append(VIA, constants.via_of(parts.version));
        headers.append(hop::CDN_LOOP, constants.cdn_loop.clone());
        Ok(PassRequest {
            why: self.why,
            method: parts.method,
            target,
            headers,
            credentials,
            names_its_sender,
            upstream: Arc::clone(&origin.upstream),
            upgrade,
            trailers: RequestTrailers::under(rules),
        })
    }
}

impl Pass {
    /// The question whether its sender may see something: with another method and target, and without
    /// what asks for a part or for what has changed, belongs to a body, or names another target yet.
    pub(crate) fn outbound_to_gate(
        self,
        mut parts: request::Parts,
        (method, target): (&Method, &str),
        rules: &Rules,
        hop: &Hop<'_>,
        constants: &Constants,
    ) -> Result<PassRequest, Refused> {
        remove(&mut parts.headers, |name| {
            let name = name.as_str();
            name.starts_with("if-")
                || name.starts_with("content-")
                || matches!(name, "range" | "expect" | "upgrade" | "trailer" | "te")
        });
        remove(&mut parts.headers, hop::names_another_target);
        let request = self.outbound(parts, rules, hop, constants)?;
        // Its connection carries this question alone: what an origin says twice, or late, opens nothing.
        Ok(PassRequest {
            method: method.clone(),
            target: target.to_owned(),
            credentials: None,
            names_its_sender: false,
            ..request
        })
    }
}

/// The protocol that a request asks to switch to, if that is one alone and policy lists it. It has no
/// body: what would follow the head is for nobody to read before the origin has switched.
fn upgrade(head: &RequestHead<'_>, version: Version, listed: &[String]) -> Option<HeaderValue> {
    let may = head.method == Method::GET
        && version == Version::HTTP_11
        && !head.has_body
        && head.wants_upgrade();
    let mut asked = hop::tokens(head.headers, &UPGRADE);
    let (Some(protocol), None) = (asked.next().filter(|_| may), asked.next()) else {
        return None;
    };
    let protocol = protocol.to_ascii_lowercase();
    listed
        .contains(&protocol)
        .then(|| HeaderValue::try_from(protocol).expect("a token is a header value"))
}

/// What a trusted hop said in all its lines, one list (RFC 9110 5.3), and the hop itself at the end.
/// Whoever counts hops from the end must find each where it belongs, so nothing is left out, readable
/// or not.
fn forwarded_for(headers: &HeaderMap, client: IpAddr) -> HeaderValue {
    let mut list = Vec::new();
    for line in headers.get_all(hop::X_FORWARDED_FOR) {
        let line = line.as_bytes().trim_ascii();
        if !line.is_empty() {
            list.extend_from_slice(line);
            list.extend_from_slice(b", ");
        }
    }
    list.extend_from_slice(client.to_string().as_bytes());
    HeaderValue::from_bytes(&list).expect("header values joined by commas are a header value")
}

/// The hop before us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop<'a> {
    /// The address that connected.
    pub client: IpAddr,
    /// Whether its claims about earlier hops are believed.
    pub trusted: bool,
    /// The scheme that the viewer used.
    pub scheme: Scheme,
    /// The certificate that whoever connected has shown.
    pub certificate: Option<&'a ClientCertificate>,
}

/// A request that goes to the origin as itself.
#[derive(Debug)]
pub struct PassRequest {
    why: Personal,
    method: Method,
    target: String,
    headers: HeaderMap,
    credentials: Option<shikiri_record::Digest>,
    names_its_sender: bool,
    upstream: Arc<Upstream>,
    upgrade: Option<HeaderValue>,
    trailers: RequestTrailers,
}

impl PassRequest {
    /// Why it is not shared.
    #[must_use]
    pub const fn why(&self) -> &Personal {
        &self.why
    }

    /// A digest of all in it that could tell one viewer from another; `None` when there is nothing.
    /// Connections are reused only under the same digest.
    #[must_use]
    pub const fn credentials(&self) -> Option<shikiri_record::Digest> {
        self.credentials
    }

    /// Whether it carries a known credential: then no two viewers have the same
    /// [`Self::credentials`].
    #[must_use]
    pub const fn names_its_sender(&self) -> bool {
        self.names_its_sender
    }

    /// Where the origin listens and how it is spoken to.
    #[must_use]
    pub const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// What of its client's trailers goes on.
    #[must_use]
    pub const fn trailers(&self) -> &RequestTrailers {
        &self.trailers
    }

    /// The protocol that its client wants to switch to, when policy lets it.
    #[must_use]
    pub const fn upgrade(&self) -> Option<&HeaderValue> {
        self.upgrade.as_ref()
    }

    /// Has the origin told which request of which trace it is, and of no other.
    pub fn in_trace(&mut self, context: &TraceContext) {
        context.put(&mut self.headers);
    }

    /// Its method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Takes it apart, for sending: method, target, header fields.
    #[must_use]
    pub fn into_parts(self) -> (Method, String, HeaderMap) {
        (self.method, self.target, self.headers)
    }
}

/// Who sends a request, as far as it shows: a digest of all that could tell one viewer from another,
/// and whether something in it surely does.
///
/// A client connection may come from a proxy and carry many viewers in turn. So every field counts
/// that is not on a list of what says nothing of its sender, known credential or not; and so does the
/// whole target, when it may name somebody.
fn sender(
    headers: &HeaderMap,
    target: &str,
    session: &Session,
    certificate: Option<&ClientCertificate>,
) -> (Option<shikiri_record::Digest>, bool) {
    let mut canonical = shikiri_record::Canonical::new("shikiri credentials 2");
    let (mut any, mut named, mut referer) = (false, false, None);
    if let Some(certificate) = certificate {
        (any, named) = (true, true);
        // No header field has an empty name.
        canonical
            .text("")
            .bytes(certificate.fingerprint().as_bytes());
    }
    for (name, value) in headers {
        if !hop::says_nothing_of_its_sender(name) {
            // Where somebody came from changes with every page. It tells senders apart only where
            // nothing else does.
            if *name == REFERER {
                referer = Some(value);
                continue;
            }
            any = true;
            named |= hop::is_credential(name) || session.headers.contains(name);
            canonical.text(name.as_str()).bytes(value.as_bytes());
        }
    }
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    if identity::path(path, session).is_err() || identity::query(query, session).is_err() {
        any = true;
        canonical.text(target);
    }
    if let Some(referer) = referer.filter(|_| !named) {
        any = true;
        canonical.text(REFERER.as_str()).bytes(referer.as_bytes());
    }
    (any.then(|| canonical.digest()), named)
}

/// Turns an origin's response head into one that only its requester may keep: `public`, `s-maxage`
/// and surrogate fields go, `private` and `CDN-Cache-Control: no-store` come. What the browser may
/// do for its own user stays.
pub fn leave_as_private(headers: &mut HeaderMap, now: &HeaderValue) {
    hop::strip_hop_by_hop(headers);
    for_its_requester_alone(headers);
    if !headers.contains_key(DATE) {
        headers.insert(DATE, now.clone());
    }
}

/// Takes back what lets caches beyond us keep a response.
pub(crate) fn for_its_requester_alone(headers: &mut HeaderMap) {
    remove(headers, hop::speaks_to_caches_before_us);
    let directives = Directives::of(headers, &CACHE_CONTROL);
    let private = directives.as_private();
    // Where the origin said nothing of caching, a browser would guess; `private` changes no more
    // than who may.
    headers.insert(CACHE_CONTROL, private);
    headers.insert(hop::CDN_CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.remove(PRAGMA);
}

/// What of an interim response to a pass goes on to its viewer: what a browser may fetch beforehand
/// (RFC 8297), and nothing that a final head alone may say.
#[must_use]
pub fn keep_of_interim(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in [LINK, CONTENT_SECURITY_POLICY] {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// What of a client's trailers goes on to an origin: not what only a head may say (RFC 9110 6.5.1),
/// credentials, the edge's own too, and claims of a hop among it. A head is judged before it goes, and an
/// origin that takes trailers into its head would be told afterwards what we took away.
#[derive(Clone, Debug)]
pub struct RequestTrailers {
    /// What carries a credential of the edge's own.
    edge_credentials: Box<[HeaderName]>,
}

impl RequestTrailers {
    fn under(rules: &Rules) -> Self {
        Self {
            edge_credentials: rules.edge_credentials().cloned().collect(),
        }
    }

    /// Leaves what goes on.
    pub fn keep(&self, trailers: &mut HeaderMap) {
        hop::strip_hop_by_hop(trailers);
        remove(trailers, |name| {
            hop::is_of_a_request_head_alone(name)
                || self
                    .edge_credentials
                    .iter()
                    .any(|of| hop::is_alike(of, name))
        });
    }
}

/// What of an origin's trailers goes on to the one viewer of a pass: not what only a head may say
/// (RFC 9110 6.5.1), cookies and what caches go by among it.
pub fn keep_response_trailers(trailers: &mut HeaderMap) {
    hop::strip_hop_by_hop(trailers);
    remove(trailers, |name| {
        hop::speaks_to_caches_before_us(name) || hop::is_of_a_response_head_alone(name)
    });
}

fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

impl RequestHead<'_> {
    /// The target in origin form, as a pass sends it.
    #[must_use]
    pub fn target(&self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{headers, rules};

    /// Whether two requests may follow each other on one origin connection.
    fn check(one: (&[(&str, &str)], &str), other: (&[(&str, &str)], &str), expected: bool) {
        let session = Session {
            cookies: Vec::new(),
            ignorable_cookies: Vec::new(),
            headers: vec![HeaderName::from_static("x-user")],
            query: Vec::new(),
            query_public: Vec::new(),
            segments: Vec::new(),
        };
        let of = |(fields, target): (&[(&str, &str)], &str)| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name: HeaderName = name.parse().expect("a name");
                headers.append(name, value.parse().expect("a value"));
            }
            sender(&headers, target, &session, None).0
        };
        assert_eq!(of(one) == of(other), expected, "{one:?} {other:?}");
    }

    #[test]
    fn only_one_viewer_uses_an_origin_connection() {
        check(
            (&[("cookie", "s=a")], "/"),
            (&[("cookie", "s=a")], "/x"),
            true,
        );
        check(
            (&[("cookie", "s=a")], "/"),
            (&[("cookie", "s=b")], "/"),
            false,
        );
        check((&[("cookie", "s=a")], "/"), (&[], "/"), false);
        check(
            (&[("accept", "x")], "/"),
            (&[("accept", "y"), ("sec-fetch-dest", "z")], "/"),
            true,
        );
        // Declared by the policy, or by another name than anybody knows.
        check((&[("x-user", "a")], "/"), (&[("x-user", "b")], "/"), false);
        check(
            (&[("x-app-key", "a")], "/"),
            (&[("x-app-key", "b")], "/"),
            false,
        );
        // What a trusted proxy says of whom it speaks for.
        check(
            (&[("x-forwarded-for", "192.0.2.1")], "/"),
            (&[("x-forwarded-for", "192.0.2.2")], "/"),
            false,
        );
        check((&[], "/reset?token=a"), (&[], "/reset?token=b"), false);
        check((&[], "/news?page=1"), (&[], "/news?page=2"), true);
    }

    /// What of the hops before goes to the origin.
    fn told(trusted: bool, lines: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut parts = http::Request::get("/").body(()).unwrap().into_parts().0;
        parts.headers = headers(&format!("host: shop.test\n{lines}"));
        let hop = Hop {
            client: "192.0.2.1".parse().unwrap(),
            trusted,
            scheme: Scheme::Http,
            certificate: None,
        };
        let (_, _, fields) = Pass::new(Personal::NoClass)
            .outbound(parts, &rules(Vec::new()), &hop, &Constants::new("edge"))
            .unwrap()
            .into_parts();
        let of = |name: HeaderName| -> Vec<Vec<u8>> {
            let values = fields.get_all(name).iter();
            values.map(|value| value.as_bytes().to_vec()).collect()
        };
        (of(hop::X_FORWARDED_FOR), of(http::header::FORWARDED))
    }

    #[test]
    fn all_that_a_trusted_hop_says_of_those_before_it_is_told() {
        let own = "for=192.0.2.1;host=\"shop.test\";proto=http";
        let lines =
            "x-forwarded-for: 198.51.100.9, 10.0.0.1\n x-forwarded-for:\n x-forwarded-for: ü\n
                     x-forwarded-for: 10.0.0.2\n forwarded: for=a\n forwarded: for=b";
        for (trusted, lines, joined, forwarded) in [
            (true, "", "192.0.2.1", vec![own]),
            (
                true,
                "x-forwarded-for: 10.0.0.1",
                "10.0.0.1, 192.0.2.1",
                vec![own],
            ),
            (
                true,
                lines,
                "198.51.100.9, 10.0.0.1, ü, 10.0.0.2, 192.0.2.1",
                vec!["for=a", "for=b", own],
            ),
            (false, lines, "192.0.2.1", vec![own]),
        ] {
            let bytes = |text: &str| text.as_bytes().to_vec();
            let forwarded = forwarded.into_iter().map(bytes).collect();
            assert_eq!(
                told(trusted, lines),
                (vec![bytes(joined)], forwarded),
                "{lines}"
            );
        }
    }

    /// What is asked to switch to, of an origin that lists this.
    #[track_caller]
    fn switches(
        listed: &str,
        lines: &str,
        change: impl Fn(&mut request::Parts),
        expected: Option<&str>,
    ) {
        let mut parts = http::Request::get("/ws").body(()).unwrap().into_parts().0;
        parts.headers = headers(&format!("host: shop.test\n{lines}"));
        change(&mut parts);
        let mut rules = rules(Vec::new());
        rules.origins[0].upgrades = vec![listed.to_owned()];
        let hop = Hop {
            client: "192.0.2.1".parse().unwrap(),
            trusted: false,
            scheme: Scheme::Http,
            certificate: None,
        };
        let pass = Pass::new(Personal::NoClass);
        let request = pass
            .outbound(parts, &rules, &hop, &Constants::new("edge"))
            .unwrap();
        let asked = request
            .upgrade()
            .map(|value| value.to_str().unwrap().to_owned());
        let (_, _, fields) = request.into_parts();
        assert_eq!(asked.as_deref(), expected, "{listed} {lines}");
        assert_eq!(fields.contains_key(UPGRADE), expected.is_some());
        let says = hop::tokens(&fields, &CONNECTION).any(|token| token == "upgrade");
        assert_eq!(says, expected.is_some());
    }

    #[test]
    fn only_what_policy_lists_is_switched_to() {
        let asks = "connection: Upgrade\n upgrade: WebSocket";
        switches("websocket", asks, |_| {}, Some("websocket"));
        switches(
            "websocket",
            "connection: keep-alive, upgrade\n upgrade: websocket\n origin: http://evil.test",
            |_| {},
            Some("websocket"),
        );
        switches("other", asks, |_| {}, None);
        switches("websocket", "upgrade: websocket", |_| {}, None);
        switches("websocket", "connection: upgrade", |_| {}, None);
        switches(
            "websocket",
            "connection: upgrade\n upgrade: websocket, h2c",
            |_| {},
            None,
        );
        switches(
            "websocket",
            "connection: upgrade\n upgrade: websocket\n upgrade: websocket",
            |_| {},
            None,
        );
        switches(
            "websocket",
            &format!("{asks}\n content-length: 5"),
            |_| {},
            None,
        );
        switches(
            "websocket",
            &format!("{asks}\n transfer-encoding: chunked"),
            |_| {},
            None,
        );
        switches("websocket", asks, |parts| parts.method = Method::POST, None);
        switches(
            "websocket",
            asks,
            |parts| parts.version = Version::HTTP_10,
            None,
        );
        switches(
            "websocket",
            asks,
            |parts| parts.version = Version::HTTP_2,
            None,
        );
    }

    #[test]
    fn a_certificate_is_told_by_whoever_ended_tls_with_the_viewer() {
        let certificate = ClientCertificate::new(b"hop");
        let told = |trusted: bool, certificate: Option<&ClientCertificate>| {
            let mut parts = http::Request::get("/").body(()).unwrap().into_parts().0;
            parts.headers =
                headers("host: shop.test\n client-cert: :dmlld2Vy:\n client-cert-chain: :YQ==:");
            let hop = Hop {
                client: "192.0.2.1".parse().unwrap(),
                trusted,
                scheme: Scheme::Https,
                certificate,
            };
            let pass = Pass::new(Personal::NoClass);
            let request = pass
                .outbound(parts, &rules(Vec::new()), &hop, &Constants::new("edge"))
                .unwrap();
            let (_, _, fields) = request.into_parts();
            let told = fields
                .get(hop::CLIENT_CERT)
                .map(|value| value.as_bytes().to_vec());
            (told, fields.contains_key("client-cert-chain"))
        };
        assert_eq!(told(false, None), (None, false));
        assert_eq!(
            told(false, Some(&certificate)),
            (Some(b":aG9w:".to_vec()), false)
        );
        assert_eq!(told(true, None), (Some(b":dmlld2Vy:".to_vec()), true));
        assert_eq!(
            told(true, Some(&certificate)),
            (Some(b":dmlld2Vy:".to_vec()), true)
        );
    }

    #[track_caller]
    fn trailers(keep: impl Fn(&mut HeaderMap), name: &str, kept: bool) {
        let mut fields = HeaderMap::new();
        fields.insert(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_static("1"),
        );
        keep(&mut fields);
        assert_eq!(!fields.is_empty(), kept, "{name}");
    }

    #[test]
    fn trailers_say_nothing_that_only_a_head_may() {
        let edge_s = RequestTrailers {
            edge_credentials: Box::new([HeaderName::from_static("x-edge_key")]),
        };
        let keep_request_trailers = |trailers: &mut HeaderMap| edge_s.keep(trailers);
        for name in [
            "cookie",
            "authorization",
            "proxy-authorization",
            "proxy_authorization",
            "client-cert",
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-real-ip",
            "shikiri-viewer",
            "connection",
            "keep-alive",
            "te",
            "upgrade",
            "host",
            "content-length",
            "content-type",
            "transfer-encoding",
            "transfer_encoding",
            "trailer",
            "expect",
            "range",
            "if-none-match",
            "cache-control",
            "via",
            "cdn-loop",
            "x-edge-key",
            "x_edge_key",
        ] {
            trailers(keep_request_trailers, name, false);
        }
        for name in [
            "set-cookie",
            "cache-control",
            "cdn-cache-control",
            "surrogate-control",
            "surrogate-key",
            "shikiri-owner",
            "alt-svc",
            "cache-status",
            "x-accel-expires",
            "connection",
            "content-length",
            "transfer-encoding",
            "vary",
        ] {
            trailers(keep_response_trailers, name, false);
        }
        for name in [
            "x-checksum",
            "content-digest",
            "x-amz-trailer-signature",
            "grpc-status",
        ] {
            trailers(keep_request_trailers, name, true);
            trailers(keep_response_trailers, name, true);
        }
        trailers(keep_response_trailers, "server-timing", true);
        trailers(keep_response_trailers, "authentication-info", true);
    }

    #[test]
    fn only_a_known_credential_surely_names_its_sender() {
        let session = Session::unspecific();
        let mut headers = HeaderMap::new();
        headers.insert("x-version", HeaderValue::from_static("2"));
        assert!(!sender(&headers, "/login?token=a", &session, None).1);
        headers.insert(http::header::COOKIE, HeaderValue::from_static("s=a"));
        assert!(sender(&headers, "/login", &session, None).1);
    }
}
