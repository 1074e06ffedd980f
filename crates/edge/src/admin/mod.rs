//! The admin interface: what operators and their programs ask a running node, and tell it.
//!
//! Two doors. The *control socket* is a Unix socket that only its owner can open; everything can be
//! done there. The *TCP listener*, off unless the config names one, is for status and metrics; it
//! changes nothing unless the config says so, and then for tokens alone. HTTP over both, so that
//! `curl` and Prometheus work.
//!
//! It can make the node ask origins again, read its files again and show less; it cannot loosen
//! anything that the rules say. Invariant: [`ROUTES`] names what each request needs, and nothing runs
//! without the [`By`] that [`permission::check`] gives for it.

mod metrics;
mod permission;
pub mod site;
mod status;
mod token;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use shikiri_record::Mode;
use shikiri_record::{UnixMillis, What};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::change;
use crate::node::Node;

pub use permission::{Actor, By, Scope};
pub use status::{ClassStatus, Latency, ModeStatus, Status};
pub use token::{Secret, Token, TokenFault, Tokens};

use permission::{Denied, Door, Needs};

/// What a reload does: reads again whatever can be, each part by itself.
pub type Reload = Arc<dyn Fn(&Actor) -> Vec<Reloaded> + Send + Sync>;

/// A part that was read again.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What it is: `policy`, `config`.
    pub part: &'static str,
    /// What is in force now, or why the new one is refused and the old one stays.
    pub done: Result<String, String>,
}

/// The longest body of a request: URLs to purge, one a line.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Connections that one door serves at a time.
const CONNECTIONS_MAX: usize = 64;
/// For a request's head, for its body, and for a whole connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);

/// What the admin interface asks and tells.
pub struct Admin {
    node: Arc<Node>,
    tokens: Tokens,
    reload: Reload,
    phase: AtomicU8,
    /// What needs somebody's attention, by what it is about.
    attention: Mutex<BTreeMap<&'static str, String>>,
}

/// Whether a node takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not yet.
    Starting = 0,
    /// It does.
    Serving = 1,
    /// Running requests may end; no new ones are taken.
    Stopping = 2,
}

/// What the TCP listener lets whom do.
#[derive(Clone, Debug)]
pub struct TcpRules {
    /// Names by which it may be asked, besides its addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Whether tokens may change something here.
    pub changes: bool,
    /// Whether everybody who reaches it may read, without a token.
    pub readable: bool,
}

/// What can be asked for.
#[derive(Clone, Copy)]
enum Ask {
    Health,
    Ready,
    Status,
    StatusJson,
    Metrics,
    Mode,
    Close,
    TakeMode,
    Reopening,
    Purge,
    Grants,
    MakeGrant,
    RevokeGrant,
    Say,
    Reload,
    Tokens,
    MakeToken,
    RevokeToken,
    ForgetToken,
}

/// Everything that can be asked for, and what it needs.
const ROUTES: &[(&str, Method, Needs, Ask)] = &[
    ("/healthz", Method::GET, Needs::Nothing, Ask::Health),
    ("/readyz", Method::GET, Needs::Nothing, Ask::Ready),
    ("/status", Method::GET, READ, Ask::Status),
    ("/status.json", Method::GET, READ, Ask::StatusJson),
    ("/metrics", Method::GET, READ, Ask::Metrics),
    ("/mode", Method::GET, READ, Ask::Mode),
    (
        "/mode/close",
        Method::POST,
        Needs::Scope(Scope::Close),
        Ask::Close,
    ),
    ("/mode/take", Method::POST, Needs::Owner, Ask::TakeMode),
    (
        "/mode/reopening",
        Method::POST,
        Needs::Owner,
        Ask::Reopening,
    ),
    ("/purge", Method::POST, PURGE, Ask::Purge),
    ("/grants", Method::GET, PREVIEW, Ask::Grants),
    ("/grants/new", Method::POST, PREVIEW, Ask::MakeGrant),
    ("/grants/revoke", Method::POST, PREVIEW, Ask::RevokeGrant),
    ("/timeline", Method::POST, Needs::Owner, Ask::Say),
    ("/reload", Method::POST, Needs::Owner, Ask::Reload),
    ("/tokens", Method::GET, Needs::Owner, Ask::Tokens),
    ("/tokens/new", Method::POST, Needs::Owner, Ask::MakeToken),
    (
        "/tokens/revoke",
        Method::POST,
        Needs::Owner,
        Ask::RevokeToken,
    ),
    (
        "/tokens/forget",
        Method::POST,
        Needs::Owner,
        Ask::ForgetToken,
    ),
];

const READ: Needs = Needs::Scope(Scope::Read);
const PURGE: Needs = Needs::Scope(Scope::Purge);
const PREVIEW: Needs = Needs::Scope(Scope::Preview);

impl Admin {
    /// The admin interface of a node.
    #[must_use]
    pub fn new(node: Arc<Node>, tokens: Tokens, reload: Reload) -> Arc<Self> {
        Arc::new(Self {
            node,
            tokens,
            reload,
            phase: AtomicU8::new(Phase::Starting as u8),
            attention: Mutex::default(),
        })
    }

    /// Says whether the node takes requests.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Whether the node takes requests.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The tokens.
    #[must_use]
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Reads again whatever can be. A part with a fault keeps what was in force.
    ///
    /// # Errors
    /// What was refused and why, after what was not.
    pub fn reload(&self, by: &Actor) -> Result<String, String> {
        let all = (self.reload)(by);
        self.note_reloaded(&all, by);
        let mut said = String::new();
        for reloaded in &all {
            match &reloaded.done {
                Ok(now) => writeln!(said, "{}: {now}", reloaded.part),
                Err(why) => writeln!(
                    said,
                    "{}: refused, the old one stays in force:\n{}",
                    reloaded.part,
                    why.trim_end()
                ),
            }
            .expect("a string can be written to");
        }
        if all.iter().all(|reloaded| reloaded.done.is_ok()) {
            Ok(said)
        } else {
            Err(said)
        }
    }

    /// Logs what was read again, puts it on the timeline, and keeps in the status what was refused until
    /// it is not.
    pub fn note_reloaded(&self, all: &[Reloaded], by: &Actor) {
        for Reloaded { part, done } in all {
            self.record_reloaded(part, done, by);
            match done {
                Ok(now) => {
                    tracing::info!(%by, "{part} read again: {now}");
                    self.attend(part, None);
                }
                Err(why) => {
                    tracing::error!(%by, "{part} refused, the old one stays in force:\n{}", why.trim_end());
                    let first = why.lines().next().unwrap_or_default();
                    let what =
                        format!("{part} on disk is refused and the old one in force: {first}");
                    self.attend(part, Some(what));
                }
            }
        }
    }

    fn record_reloaded(&self, part: &str, done: &Result<String, String>, by: &Actor) {
        // Rules that are others are there already.
        if part == "policy" && done.is_ok() {
            return;
        }
        let (Ok(text) | Err(text)) = done;
        let first = text.lines().next().unwrap_or_default();
        let what = What::Reloaded {
            part: part.to_owned(),
            accepted: done.is_ok(),
        };
        self.note(what, by, first.chars().take(500).collect());
    }

    /// Puts on the timeline what became of tokens since it was last told.
    pub fn note_tokens(&self, by: &Actor) {
        let untold = match self.tokens.untold() {
            Ok(untold) => untold,
            Err(why) => {
                tracing::error!(%why, "tokens are not on the timeline yet");
                return;
            }
        };
        for token in untold {
            let what = if token.revoked {
                What::TokenRevoked { token: token.name }
            } else {
                What::TokenMade {
                    scopes: token.scopes.iter().map(ToString::to_string).collect(),
                    until: UnixMillis(token.ends_ms),
                    token: token.name,
                }
            };
            self.note(what, by, String::new());
        }
    }

    fn note(&self, what: What, by: &Actor, text: String) {
        let actor = by.on_record();
        // Where it cannot be written now, that is logged, told in the status, and tried again.
        drop(self.node.note(what, &change::Said { actor, text }));
    }

    /// Says what needs somebody's attention about something, or that nothing does any more.
    pub fn attend(&self, about: &'static str, what: Option<String>) {
        let mut attention = self
            .attention
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => attention.insert(about, what),
            None => attention.remove(about),
        };
    }

    /// A reading of the node.
    #[must_use]
    pub fn status(&self) -> Status {
        let attention = self
            .attention
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Status::of(
            &self.node,
            self.phase(),
            attention.values().cloned().collect(),
        )
    }
}

/// Binds the control socket. A stale one is replaced; a live one is not.
///
/// # Errors
/// When the path is taken by a live socket or by something else, or cannot be made.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it exists and is no socket",
            ));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another node answers there",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the control socket for ever.
pub async fn serve_unix(admin: Arc<Admin>, listener: UnixListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let owner = std::fs::metadata("/proc/self")
        .ok()
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // The mode of the file keeps others out; this holds also while it was being set.
        let peer = stream.peer_cred().ok().map(|cred| cred.uid());
        let Some(uid) = peer.filter(|peer| Some(*peer) == owner || *peer == 0) else {
            tracing::warn!("a control connection of another user was refused");
            continue;
        };
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            let caller = Caller {
                door: Door::Unix { uid },
                from: None,
                hosts: None,
            };
            serve(admin, stream, caller).await;
            drop(permit);
        });
    }
}

/// Serves the TCP listener for ever.
pub async fn serve_tcp(admin: Arc<Admin>, listener: TcpListener, rules: TcpRules) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let hosts: Arc<[String]> = rules.hosts.into();
    let door = Door::Tcp {
        changes: rules.changes,
        readable: rules.readable,
    };
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let admin = Arc::clone(&admin);
        let caller = Caller {
            door,
            from: Some(from.ip()),
            hosts: Some(Arc::clone(&hosts)),
        };
        tokio::spawn(async move {
            serve(admin, stream, caller).await;
            drop(permit);
        });
    }
}

/// What is known of who asks before their request is read.
struct Caller {
    door: Door,
    /// Their address; `None` for a user of this host.
    from: Option<IpAddr>,
    /// The names to which the door answers; `None` when no name leads to it.
    hosts: Option<Arc<[String]>>,
}

async fn serve<S>(admin: Arc<Admin>, stream: S, caller: Caller)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let (admin, caller) = (&admin, &caller);
        async move { Ok::<_, Infallible>(admin.answer(caller, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        // From elsewhere, one connection is one request: whoever only keeps it keeps others out.
        .keep_alive(caller.from.is_none())
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_TIME_MAX, serving).await {
        tracing::debug!(%error, "an admin connection ended");
    }
}

/// A request's body. What is only read has none: nobody is waited for who sends one all the same.
async fn read(method: &Method, body: Incoming) -> Result<String, Said> {
    if method != Method::POST {
        return Ok(String::new());
    }
    match timeout(BODY_TIME_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        Ok(Err(_)) => Err(Said::no(StatusCode::PAYLOAD_TOO_LARGE, "at most 1 MiB")),
        Err(_) => Err(Said::no(StatusCode::REQUEST_TIMEOUT, "within ten seconds")),
    }
}

/// What is said, and how it is labelled.
struct Said {
    status: StatusCode,
    kind: &'static str,
    text: String,
    header: Option<(HeaderName, HeaderValue)>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Said {
    const fn new(status: StatusCode, kind: &'static str, text: String) -> Self {
        Self {
            status,
            kind,
            text,
            header: None,
        }
    }

    const fn ok(text: String) -> Self {
        Self::new(StatusCode::OK, TEXT, text)
    }

    fn no(status: StatusCode, why: impl std::fmt::Display) -> Self {
        Self::new(status, TEXT, format!("{why}\n"))
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.header = HeaderValue::from_str(value).ok().map(|value| (name, value));
        self
    }
}

impl Admin {
    async fn answer(
        self: &Arc<Self>,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let said = match self.admit(caller, &parts) {
            Ok((ask, by)) => match read(&parts.method, body).await {
                Ok(body) => self.run_aside(ask, by, body).await,
                Err(said) => said,
            },
            Err(said) => said,
        };
        let mut response = Response::new(Full::new(Bytes::from(said.text)));
        *response.status_mut() = said.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(said.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some((name, value)) = said.header {
            headers.insert(name, value);
        }
        response
    }

    /// What is asked for, and by whom, when they may.
    fn admit(&self, caller: &Caller, parts: &Parts) -> Result<(Ask, By), Said> {
        if let Some(hosts) = &caller.hosts
            && !is_for_us(parts, hosts)
        {
            return Err(Said::no(
                StatusCode::MISDIRECTED_REQUEST,
                "this listener answers to its address, to localhost, and to the names in [admin] `hosts`",
            ));
        }
        let path = parts.uri.path();
        let Some((_, method, needs, ask)) = ROUTES.iter().find(|(at, ..)| *at == path) else {
            return Err(Said::no(StatusCode::NOT_FOUND, listed()));
        };
        let reads = parts.method == Method::HEAD && *method == Method::GET;
        if parts.method != *method && !reads {
            let why = format!("{path} is for {method}");
            let said = Said::no(StatusCode::METHOD_NOT_ALLOWED, why);
            return Err(said.with(ALLOW, method.as_str()));
        }
        // A page in a browser names where it is from whenever it could change something.
        if *method != Method::GET && parts.headers.contains_key(ORIGIN) {
            return Err(Said::no(StatusCode::FORBIDDEN, "not for pages in browsers"));
        }
        let bearer = match (needs, bearer(parts)) {
            (Needs::Nothing, _) | (_, None) => None,
            (_, Some(shown)) => {
                let found = self.tokens.bearer(shown, caller.from, self.node.now());
                Some(found.map_err(|why| {
                    tracing::warn!(%why, "a token was refused");
                    match why {
                        token::WrongToken::NotValid => {
                            Said::no(StatusCode::UNAUTHORIZED, why).with(WWW_AUTHENTICATE, "Bearer")
                        }
                        token::WrongToken::TooMany => Said::no(StatusCode::TOO_MANY_REQUESTS, why),
                    }
                })?)
            }
        };
        if needs.changes() && self.phase() != Phase::Serving {
            return Err(Said::no(
                StatusCode::SERVICE_UNAVAILABLE,
                "this node is starting, stopping or being replaced: ask again in a moment",
            ));
        }
        let by = permission::check(caller.door, bearer, *needs).map_err(|why| match why {
            Denied::NeedsToken => {
                Said::no(StatusCode::UNAUTHORIZED, why).with(WWW_AUTHENTICATE, "Bearer")
            }
            Denied::NeedsScope(_) | Denied::OwnersAlone | Denied::ReadOnly => {
                Said::no(StatusCode::FORBIDDEN, why)
            }
        })?;
        Ok((*ask, by))
    }

    /// Does what is asked for; on a thread of its own where that may wait for a disk, so that nobody else
    /// who asks waits for it, too. Taking a mode never does.
    async fn run_aside(self: &Arc<Self>, ask: Ask, by: By, body: String) -> Said {
        if matches!(ask, Ask::Health | Ask::Ready | Ask::Close | Ask::TakeMode) {
            return self.run(ask, by, &body).await;
        }
        let (admin, runtime) = (Arc::clone(self), Handle::current());
        let done = spawn_blocking(move || runtime.block_on(admin.run(ask, by, &body)));
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "what was asked of the admin interface ended by a fault of the program");
            let why = "a fault of the program ended this: report it";
            Said::no(StatusCode::INTERNAL_SERVER_ERROR, why)
        })
    }

    async fn run(&self, ask: Ask, by: By, body: &str) -> Said {
        let node = &self.node;
        match ask {
            Ask::Health => Said::ok("alive\n".into()),
            Ask::Ready => match self.phase() {
                Phase::Serving => Said::ok("ready\n".into()),
                Phase::Starting => Said::no(StatusCode::SERVICE_UNAVAILABLE, "starting"),
                Phase::Stopping => Said::no(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            },
            Ask::Status => Said::ok(self.status().to_string()),
            Ask::StatusJson => {
                let text = serde_json::to_string_pretty(&self.status());
                let text = text.expect("a status is plain data");
                Said::new(StatusCode::OK, JSON, format!("{text}\n"))
            }
            Ask::Metrics => Said::new(
                StatusCode::OK,
                metrics::CONTENT_TYPE,
                metrics::render(&self.status(), node),
            ),
            Ask::Mode => site::told(Ok(site::now(node))),
            Ask::Close => match site::wanted::<site::WantedMode>(body) {
                Ok(wanted) if wanted.mode == Mode::Closed => {
                    site::told(site::mode(node, by.actor(), wanted).await)
                }
                Ok(_) => Said::no(
                    StatusCode::FORBIDDEN,
                    "this may close the site, and no more",
                ),
                Err(said) => said,
            },
            Ask::TakeMode => match site::wanted(body) {
                Ok(wanted) => site::told(site::mode(node, by.actor(), wanted).await),
                Err(said) => said,
            },
            Ask::Reopening => site::told(
                site::wanted(body).and_then(|wanted| site::plan(node, by.actor(), &wanted)),
            ),
            Ask::Purge => site::told(
                site::wanted(body).and_then(|wanted| site::purge(node, by.actor(), &wanted)),
            ),
            Ask::Grants => site::told(Ok(node.live_grants())),
            Ask::MakeGrant => site::told(
                site::wanted(body).and_then(|wanted| site::grant(node, by.actor(), &wanted)),
            ),
            Ask::RevokeGrant => site::told(
                site::wanted(body).and_then(|wanted| site::revoke(node, by.actor(), &wanted)),
            ),
            Ask::Say => site::told(
                site::wanted(body).and_then(|wanted| site::say(node, by.actor(), wanted)),
            ),
            Ask::Reload => match self.reload(by.actor()) {
                Ok(said) => Said::ok(said),
                Err(why) => Said::new(StatusCode::CONFLICT, TEXT, why),
            },
            Ask::Tokens => self.list_tokens(),
            Ask::MakeToken => self.make_token(&by, body),
            Ask::RevokeToken => {
                let done = self.tokens.revoke(body.trim());
                self.note_tokens(by.actor());
                told(done.map(|()| {
                    tracing::info!(name = body.trim(), by = %by.actor(), "a token was revoked");
                    format!("{} is revoked\n", body.trim())
                }))
            }
            Ask::ForgetToken => {
                let done = self.tokens.forget(body.trim(), node.now());
                told(done.map(|()| format!("{} is forgotten\n", body.trim())))
            }
        }
    }

    fn list_tokens(&self) -> Said {
        let text = serde_json::to_string_pretty(&self.tokens.list());
        let text = text.expect("tokens are plain data");
        Said::new(StatusCode::OK, JSON, format!("{text}\n"))
    }

    fn make_token(&self, by: &By, body: &str) -> Said {
        let Ok(wanted) = serde_json::from_str::<WantedToken>(body) else {
            return Said::no(
                StatusCode::BAD_REQUEST,
                "send {\"name\": …, \"scopes\": [\"read\", …], \"seconds\": …}",
            );
        };
        let lifetime = Duration::from_secs(wanted.seconds);
        let now = self.node.now();
        let made = self
            .tokens
            .make(&wanted.name, &wanted.scopes, lifetime, now);
        self.note_tokens(by.actor());
        told(made.map(|secret| {
            let scopes = wanted.scopes.iter().map(|scope| scope.name());
            let scopes = scopes.collect::<Vec<_>>().join(",");
            tracing::info!(name = wanted.name, scopes, by = %by.actor(), "a token was made");
            format!("{}\n", secret.reveal())
        }))
    }
}

/// A token as an operator asks for one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedToken {
    /// Its name.
    pub name: String,
    /// What it is to allow.
    pub scopes: Vec<Scope>,
    /// For how long.
    pub seconds: u64,
}

fn told(done: Result<String, TokenFault>) -> Said {
    match done {
        Ok(said) => Said::ok(said),
        Err(why @ TokenFault::Operator(_)) => Said::no(StatusCode::BAD_REQUEST, why),
        Err(why) => {
            tracing::error!(%why, "tokens cannot be kept");
            Said::no(StatusCode::INTERNAL_SERVER_ERROR, why)
        }
    }
}

/// The token that a request shows.
fn bearer(parts: &Parts) -> Option<&str> {
    let shown = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = shown.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim_start())
}

/// Whether a request means this listener. A page whose name is made to lead to this host's address
/// (DNS rebinding) sends its own name; an address leads nowhere else.
fn is_for_us(parts: &Parts, hosts: &[String]) -> bool {
    let mut named = parts.headers.get_all(HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else {
        return false;
    };
    let Ok(authority) = http::uri::Authority::try_from(host.as_bytes()) else {
        return false;
    };
    if parts.uri.authority().is_some_and(|uri| *uri != authority) {
        return false;
    }
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| host.eq_ignore_ascii_case(known))
}

fn listed() -> String {
    let mut said = "there is nothing there; here is:".to_owned();
    for (path, method, ..) in ROUTES {
        write!(said, "\n{method} {path}").expect("a string can be written to");
    }
    said
}

#[cfg(test)]
mod tests {
    use shikiri_partition::policy;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn what_changes_is_posted_and_what_is_read_is_got() {
        for (path, method, needs, _) in ROUTES {
            let reads = matches!(needs, Needs::Nothing | Needs::Scope(Scope::Read));
            // Names of people and programs are in these.
            let reads = reads || matches!(*path, "/tokens" | "/grants");
            assert_eq!(*method == Method::GET, reads, "{path}");
        }
    }

    /// Whoever drips a body, or says nothing, is not waited for: so nobody keeps a canary out.
    #[tokio::test(start_paused = true)]
    async fn a_place_is_not_kept_by_who_asks_for_nothing() {
        let node = Node::new(
            crate::Config {
                name: "edge".into(),
                trusted: Vec::new(),
            },
            policy::compile(None, Some(policy::origin("http://127.0.0.1:1").unwrap())).unwrap(),
            Arc::new(crate::RealWorld::new()),
            crate::Evidence::of_nobody(),
        );
        let tokens = Tokens::open(Path::new("/nowhere/tokens.json")).unwrap();
        let admin = Admin::new(node, tokens, Arc::new(|_| Vec::new()));
        admin.enter(Phase::Serving);
        let far = Door::Tcp {
            changes: true,
            readable: true,
        };
        let near = Door::Unix { uid: 0 };
        let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
        let post = "POST /purge HTTP/1.1\r\nHost: localhost\r\n";
        let length = "Content-Length: 99\r\n\r\n";
        for (door, said, status, within_s) in [
            (far, format!("{get}\r\n"), "200", 1),
            (far, format!("{get}{length}"), "200", 1),
            (far, String::new(), "", 11),
            (far, get.to_owned(), "", 11),
            (near, format!("{post}{length}"), "408", 11),
        ] {
            let (ours, theirs) = tokio::io::duplex(4096);
            let from = matches!(door, Door::Tcp { .. }).then_some(IpAddr::from([127, 0, 0, 1]));
            let hosts = from.map(|_| Arc::from([]));
            let caller = Caller { door, from, hosts };
            let serving = tokio::spawn(serve(Arc::clone(&admin), theirs, caller));
            let (mut answers, mut asks) = tokio::io::split(ours);
            asks.write_all(said.as_bytes()).await.unwrap();
            let dripping = tokio::spawn(async move {
                while asks.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            });
            if !said.ends_with(length) {
                dripping.abort();
            }
            let mut answer = Vec::new();
            let within = Duration::from_secs(within_s);
            let ended = timeout(within, answers.read_to_end(&mut answer)).await;
            ended.expect("its place is free again").unwrap();
            dripping.abort();
            serving.await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert_eq!(answer.get(9..12).unwrap_or_default(), status, "{said}");
        }
    }

    const MANUAL: &str = include_str!("../../../../docs/operations.md");

    /// What can be asked and its description change together.
    #[test]
    fn the_manual_has_a_row_for_everything_that_can_be_asked() {
        for (path, method, needs, _) in ROUTES {
            let needs = match needs {
                Needs::Nothing => "nothing".to_owned(),
                Needs::Scope(scope) => format!("`{scope}`"),
                Needs::Owner => "the socket's owner".to_owned(),
            };
            let row = format!("\n| `{method} {path}` | {needs} |");
            assert!(MANUAL.contains(&row), "no row {row}");
        }
        for scope in Scope::ALL {
            assert!(MANUAL.contains(&format!("\n| `{scope}` |")), "{scope}");
        }
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_does_not_answer() {
        let hosts = ["admin.example.test".to_owned()];
        for (host, ours) in [
            (&["127.0.0.1:9180"][..], true),
            (&["[::1]:9180"], true),
            (&["localhost:9180"], true),
            (&["LOCALHOST"], true),
            (&["admin.example.test:9180"], true),
            (&["Admin.Example.Test"], true),
            (&["evil.example.test:9180"], false),
            (&["127.0.0.1.evil.example.test"], false),
            (&["localhost.evil.example.test"], false),
            (&["user@127.0.0.1"], true),
            (&["not a host"], false),
            (&[""], false),
            (&["localhost", "localhost"], false),
            (&[], false),
        ] {
            let mut request = Request::get("/metrics");
            for host in host {
                request = request.header(HOST, *host);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(is_for_us(&parts, &hosts), ours, "{host:?}");
        }
        let request = Request::get("http://evil.example.test/metrics").header(HOST, "localhost");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        assert!(!is_for_us(&parts, &hosts));
    }
}
