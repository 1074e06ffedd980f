//! Compiled policy: what a policy means, once its text has been understood.
//!
//! These are plain values with public fields where any value is valid; [`Rules`] itself can be made
//! only by [`crate::policy`], which checks what a single field cannot say. Nothing here can express
//! "store what the origin forbids": the admission guard is not in the language.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use shikiri_record::{ClassDigest, Mode, RulesDigest};

use crate::gated::{ClassGate, GateBy};
use crate::hop;
use crate::secret::{Secret, SecretSource};
use crate::upstream::Upstream;

/// Compiled policy. Cheap to share, never changed: a new policy is a new value.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) digest: RulesDigest,
    pub(crate) origins: Vec<Origin>,
    pub(crate) session: Session,
    pub(crate) personal: Vec<Match>,
    pub(crate) classes: Vec<Arc<Class>>,
    pub(crate) pins: PinRules,
    pub(crate) limits: Limits,
}

impl Rules {
    /// The digest of the meaning: what a node reports as in force.
    #[must_use]
    pub const fn digest(&self) -> RulesDigest {
        self.digest
    }

    /// The origins, in the order in which hosts are looked up.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// How a member is recognised.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// What is personal whatever a class says.
    #[must_use]
    pub fn personal(&self) -> &[Match] {
        &self.personal
    }

    /// The classes, in the order in which they are tried.
    #[must_use]
    pub fn classes(&self) -> &[Arc<Class>] {
        &self.classes
    }

    /// The class of this name.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Arc<Class>> {
        self.classes.iter().find(|class| class.name == name)
    }

    /// How an origin's word about viewers and owners is held against sessions.
    #[must_use]
    pub const fn pins(&self) -> &PinRules {
        &self.pins
    }

    /// Where the secrets are found that these rules need.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<SecretSource> {
        let gates = self.classes.iter().filter_map(|class| class.gate.as_ref());
        let sources = gates.flat_map(|gate| {
            let keys = gate.tokens().map(|rule| &rule.keys).into_iter().flatten();
            let tokens = keys.map(|key| &key.source);
            std::iter::once(&gate.credential.source).chain(tokens)
        });
        sources.cloned().collect()
    }

    /// The rules with their secrets. A class whose secret is not among them shares nothing.
    #[must_use]
    pub fn armed(mut self, secrets: &BTreeMap<SecretSource, Secret>) -> Self {
        for class in &mut self.classes {
            if class.gate.is_none() {
                continue;
            }
            let class = Arc::make_mut(class);
            if let Some(gate) = &mut class.gate {
                gate.credential.secret = secrets.get(&gate.credential.source).cloned();
                if let GateBy::Token(rule) = &mut gate.by {
                    for key in &mut rule.keys {
                        key.secret = secrets.get(&key.source).cloned();
                    }
                }
            }
            class.digest = crate::policy::class_digest(class, &self.session, &self.personal);
        }
        self.digest = crate::policy::rules_digest(&self);
        self
    }

    /// Whether a request header carries a credential of the edge's own: no client may bring one.
    pub(crate) fn is_edge_credential(&self, name: &HeaderName) -> bool {
        self.edge_credentials().any(|of| hop::is_alike(of, name))
    }

    /// The request headers that carry credentials of the edge's own.
    pub(crate) fn edge_credentials(&self) -> impl Iterator<Item = &HeaderName> {
        let gates = self.classes.iter().filter_map(|class| class.gate.as_ref());
        gates.map(|gate| &gate.credential.header)
    }

    /// What a node may use.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The origin that answers for a host name (lower case, without port).
    #[must_use]
    pub fn origin_for(&self, host: &str) -> Option<&Origin> {
        self.origins
            .iter()
            .find(|origin| origin.hosts.iter().any(|pattern| pattern.matches(host)))
    }
}

/// One origin server and the hosts it answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Host patterns, lower case; `*` for any.
    pub hosts: Vec<HostPattern>,
    /// Where it listens and how it is spoken to.
    pub upstream: Arc<Upstream>,
    /// Which `Host` it is sent.
    pub host_header: OriginHost,
    /// Protocols that a client may switch to with it (RFC 9110 7.8), lower case.
    pub upgrades: Vec<String>,
}

/// Which `Host` an origin is sent. Both are functions of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginHost {
    /// The authority that the client asked for.
    Client,
    /// The origin's own address.
    Origin,
}

/// How a request is recognised as somebody's.
///
/// Recognition does not protect: a shared fetch carries no cookie whether or not we knew what it
/// meant. It decides who gets the shared copy of an `anonymous` class, whose `Set-Cookie` would be
/// lost, and what is worth a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Cookies that identify a member. Empty: every cookie that is not ignorable.
    pub cookies: Vec<NamePattern>,
    /// Cookies that say nothing about the page (analytics). Never sent on a shared fetch either.
    pub ignorable_cookies: Vec<NamePattern>,
    /// Request headers that carry a credential, besides the built-in ones.
    pub headers: Vec<HeaderName>,
    /// Query parameters that make a request personal, besides the built-in ones.
    pub query: Vec<NamePattern>,
    /// Query parameters exempt from the entropy rule (never from the built-in list of names).
    pub query_public: Vec<NamePattern>,
    /// Path segments that make a request personal.
    pub segments: Vec<NamePattern>,
}

impl Session {
    /// Knows no names of its own: every cookie identifies, and only the built-in lists do otherwise.
    pub(crate) const fn unspecific() -> Self {
        Self {
            cookies: Vec::new(),
            ignorable_cookies: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            query_public: Vec::new(),
            segments: Vec::new(),
        }
    }
}

/// How an origin's word about viewers and owners is held against sessions, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRules {
    /// What becomes of an answer that disagrees.
    pub action: PinAction,
    /// When the mode trips.
    pub trip: Option<Trip>,
    /// Cookies whose value is one session's alone: a session is known by these. Empty: by all that
    /// identifies a member.
    pub cookies: Vec<NamePattern>,
    /// Paths at which a session may begin or change hands. Empty: wherever an unsafe method, a body or
    /// a token in the URL makes it possible.
    pub starts: Vec<PathPattern>,
    /// Whether an owner other than the viewer is a fault.
    pub judges_owners: bool,
    /// Whether it is a fault to name a member to a request that shows nobody.
    pub judges_nobodies: bool,
    /// Sessions that are remembered.
    pub sessions_max: usize,
}

/// What becomes of an answer that disagrees with a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinAction {
    /// It leaves, and is recorded.
    Record,
    /// Nothing of it leaves, and it is recorded.
    Stop,
}

/// When pins change the mode by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// How many distinct viewers, in sessions and in members, were shown something wrong.
    pub viewers: usize,
    /// Within which time.
    pub within: Duration,
    /// The mode that the site goes to, unless it shows less already.
    pub mode: Mode,
}

impl PinRules {
    /// When a policy says nothing of pins: whatever an origin says of viewers is judged and recorded.
    #[must_use]
    pub const fn unsaid() -> Self {
        Self {
            action: PinAction::Record,
            trip: None,
            cookies: Vec::new(),
            starts: Vec::new(),
            judges_owners: true,
            judges_nobodies: true,
            sessions_max: 100_000,
        }
    }
}

/// A set of requests that policy treats alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The class's name.
    pub name: String,
    /// The digest of all the rest, of the session definition and of the schema.
    pub digest: ClassDigest,
    /// Which requests.
    pub matches: Match,
    /// To whom the shared copy may be served.
    pub to: To,
    /// Who may see it, if it is `gated`: then, and only then, there is a gate.
    pub gate: Option<ClassGate>,
    /// Content types that may be stored. HTML must be named: `*/*` does not cover it.
    pub types: Vec<TypePattern>,
    /// Statuses that may be stored.
    pub statuses: BTreeSet<u16>,
    /// Which part of the query is in the key.
    pub query: QueryKey,
    /// Request headers whose values are in the key, and so reach the origin.
    pub key_headers: Vec<HeaderName>,
    /// Whether the key holds the normalised `Accept-Encoding`.
    pub key_encoding: bool,
    /// How long a stored object may be used.
    pub lifetimes: Lifetimes,
    /// Spans of a document that may differ between two anonymous copies.
    pub volatile: Vec<SpanMarks>,
    /// The largest body that is stored, in bytes.
    pub object_bytes_max: u64,
    /// How many bytes a slice has, where large objects are fetched and stored in slices.
    pub slice_bytes: Option<u64>,
    /// Whether it is one of static files, and so shared in mode `static` too. Not part of the digest:
    /// it changes when copies are used, not what they are.
    pub is_static: bool,
}

impl Class {
    /// Whether the class says that HTML may be shared.
    #[must_use]
    pub fn shares_html(&self) -> bool {
        names_html(&self.types)
    }

    /// Whether copies of this class are shared in a mode.
    #[must_use]
    pub const fn is_shared_in(&self, mode: Mode) -> bool {
        match mode {
            Mode::Open => true,
            Mode::Static => self.is_static,
            Mode::Pass | Mode::Closed => false,
        }
    }

    /// Whether the class declares this status.
    #[must_use]
    pub fn declares(&self, status: StatusCode) -> bool {
        self.statuses.contains(&status.as_u16())
    }
}

/// Whether HTML is among some types.
pub(crate) fn names_html(types: &[TypePattern]) -> bool {
    types
        .iter()
        .any(|t| t.names("text/html") || t.names("application/xhtml+xml"))
}

/// To whom a class's shared copies may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// To everyone; a member's credentials do not travel with the fetch.
    Everyone,
    /// To requests without credentials; a member's request passes.
    Anonymous,
    /// To whoever the origin lets see it, each time anew.
    Gated,
}

/// Which part of the query is in the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryKey {
    /// All of it, byte for byte.
    All,
    /// These parameters, in the order of the request; the origin does not see the others.
    Only(Vec<NamePattern>),
    /// These parameters; a request with any other is personal.
    OnlyElsePersonal(Vec<NamePattern>),
}

/// How long objects of a class may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// When the origin states none; `None`: then it is not stored.
    pub default: Option<Duration>,
    /// No object is fresh for longer, whatever the origin states.
    pub max: Duration,
    /// How long past freshness an object may be served while it is refreshed: the most, and what is
    /// taken when the origin states none.
    pub stale_while_revalidate: Duration,
    /// How long past freshness an object may be served when the origin fails: likewise.
    pub stale_if_error: Duration,
}

/// The marks around a span that may differ between two copies: the literal texts before and after. A
/// span of more than 4 KiB may not, and what tells of a token may not differ in any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanMarks {
    /// The text just before the span.
    pub from: String,
    /// The text just after it.
    pub to: String,
}

/// Which requests: every part that is given must match; an empty list matches all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Match {
    /// Host patterns.
    pub hosts: Vec<HostPattern>,
    /// Path patterns.
    pub paths: Vec<PathPattern>,
    /// Extensions of the last path segment, lower case, without the dot.
    pub extensions: Vec<String>,
    /// Query parameters that must all be present.
    pub query_has: Vec<NamePattern>,
    /// Query parameters none of which may be present.
    pub query_lacks: Vec<NamePattern>,
}

/// What a node may use: every bound of the edge. Public fields; [`Limits::default`] is documented in
/// `docs/policy.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of stored objects in memory, bodies and heads and keys together.
    pub store_bytes_max: u64,
    /// Bytes of a request head, and of any head from the origin.
    pub head_bytes_max: usize,
    /// Header fields in a head.
    pub head_fields_max: usize,
    /// Bytes of a request target.
    pub target_bytes_max: usize,
    /// Bytes of a request body.
    pub request_body_bytes_max: u64,
    /// Bytes of a document that is compared with a second copy.
    pub document_bytes_max: u64,
    /// Client connections.
    pub connections_max: usize,
    /// Client connections of one address; of IPv6, of one network of 64 bits. Trusted hops have no
    /// bound of their own.
    pub connections_per_address_max: usize,
    /// Requests being answered at once.
    pub requests_max: usize,
    /// Requests that may wait for one fill.
    pub waiting_max: usize,
    /// How long a request waits for a fill before it goes on alone.
    pub waiting_time_max: Duration,
    /// Questions to gates at once.
    pub gates_max: usize,
    /// How long a gate may take, from connecting to the end of its yes.
    pub gate_time_max: Duration,
    /// How long a client may take to send a head.
    pub head_time_max: Duration,
    /// How long a client connection may be idle between requests.
    pub idle_time_max: Duration,
    /// How long a body may make no progress, in either direction, on either side.
    pub stall_time_max: Duration,
    /// How long connecting to an origin may take.
    pub connect_time_max: Duration,
    /// How long an origin may take to send its response head.
    pub first_byte_time_max: Duration,
    /// How long an idle origin connection is kept.
    pub origin_idle_time_max: Duration,
    /// Idle origin connections kept for shared fetches, for each origin and worker.
    pub origin_idle_max: usize,
    /// How long a key whose shared fetch was refused is passed without asking again.
    pub remember_pass_time: Duration,
    /// Invalidations by unsafe methods honoured a second. More are dropped, else anybody who can send
    /// a POST could empty the store; a copy that one of them would have made stale then lives no
    /// longer than its lifetime.
    pub invalidations_per_second_max: u32,
    /// How long running requests may take after the node was told to stop.
    pub shutdown_time_max: Duration,
    /// TLS handshakes with clients at once, each from the whole of the client's first message on.
    pub handshakes_max: usize,
    /// Of those, such as one address may have, counted as its connections are.
    pub handshakes_per_address_max: usize,
    /// How long a client may take for whatever comes before its first request: PROXY protocol, TLS.
    pub handshake_time_max: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub h2_streams_max: u32,
    /// HTTP/2 streams of all clients on which something is asked or answered.
    pub h2_streams_all_max: usize,
    /// Bytes of request bodies that one HTTP/2 connection may have in memory, and of response bodies
    /// that one to an origin may.
    pub h2_window_bytes_max: u32,
    /// HTTP/2 frames that carry nothing (resets, pings, settings, priorities, empty data), from one
    /// client in a second.
    pub h2_control_frames_max: u32,
    /// Tunnels at once, after protocols were switched.
    pub tunnels_max: usize,
    /// Of those, such as one address may have, counted as its connections are.
    pub tunnels_per_address_max: usize,
    /// How long nothing may come from either side of a tunnel.
    pub tunnel_idle_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            store_bytes_max: 256 << 20,
            head_bytes_max: 64 << 10,
            head_fields_max: 100,
            target_bytes_max: 8 << 10,
            request_body_bytes_max: 1 << 30,
            document_bytes_max: 4 << 20,
            connections_max: 20_000,
            connections_per_address_max: 5_000,
            requests_max: 10_000,
            waiting_max: 5_000,
            waiting_time_max: Duration::from_secs(10),
            gates_max: 1_000,
            gate_time_max: Duration::from_secs(10),
            head_time_max: Duration::from_secs(15),
            idle_time_max: Duration::from_secs(75),
            stall_time_max: Duration::from_secs(60),
            connect_time_max: Duration::from_secs(3),
            first_byte_time_max: Duration::from_secs(60),
            origin_idle_time_max: Duration::from_secs(30),
            origin_idle_max: 64,
            remember_pass_time: Duration::from_secs(30),
            invalidations_per_second_max: 100,
            shutdown_time_max: Duration::from_secs(20),
            handshakes_max: 1_000,
            handshakes_per_address_max: 250,
            handshake_time_max: Duration::from_secs(10),
            h2_streams_max: 100,
            h2_streams_all_max: 20_000,
            h2_window_bytes_max: 256 << 10,
            h2_control_frames_max: 500,
            tunnels_max: 1_000,
            tunnels_per_address_max: 250,
            tunnel_idle_time_max: Duration::from_secs(300),
        }
    }
}

/// A host pattern: a name, `*.name` for every name below it, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Any host.
    Any,
    /// This host, lower case.
    Exact(String),
    /// Any host that ends in this suffix, which starts with a dot.
    Below(String),
}

impl HostPattern {
    /// Whether a host name (lower case, no port) is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name == host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// A name pattern: literal, with `*` at the end for any ending. Compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(pub String);

impl NamePattern {
    /// Whether a name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0
            .strip_suffix('*')
            .map_or(self.0 == name, |start| name.starts_with(start))
    }
}

/// A path pattern: `*` stands for any text within a segment, `**` for any text at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(pub String);

impl PathPattern {
    /// Whether a path (raw, as on the wire) is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        glob(self.0.as_bytes(), path.as_bytes())
    }
}

/// Matches without backtracking into earlier stars more than needed: each kind of star keeps its
/// last position, so the work is bounded by the product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to resume: (pattern after the star, text position tried).
    let mut single: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p..p + 2) == Some(b"**") {
            double = Some((p + 2, t));
            single = None;
            p += 2;
        } else if pattern.get(p) == Some(&b'*') {
            single = Some((p + 1, t));
            p += 1;
        } else if t < text.len() && pattern.get(p) == text.get(t) {
            p += 1;
            t += 1;
        } else if p == pattern.len() && t == text.len() {
            return true;
        } else if let Some((after, tried)) =
            single.filter(|&(_, at)| text.get(at).is_some_and(|&b| b != b'/'))
        {
            single = Some((after, tried + 1));
            (p, t) = (after, tried + 1);
        } else if let Some((after, tried)) = double.filter(|&(_, at)| at < text.len()) {
            double = Some((after, tried + 1));
            single = None;
            (p, t) = (after, tried + 1);
        } else {
            return false;
        }
    }
}

/// A content type pattern: `text/css`, `image/*` or `*/*`. Lower case, without parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern(pub String);

impl TypePattern {
    /// Whether this very type is named.
    #[must_use]
    pub fn names(&self, essence: &str) -> bool {
        self.0 == essence
    }

    /// Whether a type (lower case, no parameters) is meant. HTML is meant only when it is named.
    #[must_use]
    pub fn matches(&self, essence: &str) -> bool {
        if self.names(essence) {
            return true;
        }
        if matches!(essence, "text/html" | "application/xhtml+xml") {
            return false;
        }
        match self.0.strip_suffix("/*") {
            Some("*") => true,
            Some(family) => essence
                .strip_prefix(family)
                .is_some_and(|rest| rest.starts_with('/')),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_patterns() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/a/b", true),
            ("/static/**", "/static/a/b.css", true),
            ("/static/**", "/statically", false),
            ("/news/*", "/news/1", true),
            ("/news/*", "/news/1/edit", false),
            ("/**/*.css", "/a/b/c.css", true),
            ("/**/*.css", "/a/b/c.css/d", false),
            ("/a*b*c", "/axxbxxc", true),
            ("/a*b*c", "/axxbx/xc", false),
            ("/**/x/**/y", "/a/x/b/x/c/y", true),
            ("", "", true),
            ("**", "", true),
            ("*", "", true),
        ] {
            assert_eq!(
                PathPattern(pattern.into()).matches(path),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn html_is_matched_only_by_name() {
        assert!(!TypePattern("*/*".into()).matches("text/html"));
        assert!(!TypePattern("text/*".into()).matches("text/html"));
        assert!(TypePattern("text/html".into()).matches("text/html"));
        assert!(TypePattern("text/*".into()).matches("text/css"));
        assert!(!TypePattern("text/*".into()).matches("textual/css"));
    }

    #[test]
    fn hosts_below_do_not_include_the_name_itself() {
        let below = HostPattern::Below(".example.test".into());
        assert!(below.matches("a.example.test"));
        assert!(!below.matches(".example.test"));
        assert!(!below.matches("example.test"));
        assert!(!below.matches("notexample.test"));
    }
}
