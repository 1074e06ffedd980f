//! Connections to origins: the adapter that turns a key, or a pass, into bytes.
//!
//! This is the part that types cannot prove, so it is small and the simulator aims at it. Two kinds
//! of connection never mix:
//!
//! - **Shared** ones carry shared fetches alone: of one key, since an origin that answers twice, late,
//!   then answers the same key; or, after a second's silence, of keys that hold no more than a path.
//!   [`shared`] takes an [`Outbound`], which was rendered from a key; it never sees a request.
//! - **Pass** ones belong to one client connection and one set of credentials. An origin that answers
//!   twice, late, or to the wrong request can then confuse nobody but the member who asked. A request
//!   that names nobody, or has a body, has a connection of its own.
//!
//! A connection is used again only after a response that ended where it said it would, with nothing
//! unread and no surprise on the way.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shikiri_partition::{Key, Limits, Outbound, PassRequest, keep_of_interim};
use shikiri_record::Digest;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, timeout};

use crate::body::{BodyFault, InBody, Progress};
use crate::connection::{Connection, Turn};
use crate::incoming::Incoming;
use crate::node::Worker;

/// Why an origin gave no response.
#[derive(Debug, thiserror::Error)]
pub enum OriginFault {
    /// It could not be reached.
    #[error("the origin {0} cannot be reached: {1}")]
    Unreachable(String, std::io::Error),
    /// It did not accept a connection in time.
    #[error("the origin {0} did not accept a connection in {1:?}")]
    ConnectTime(String, Duration),
    /// It closed, or broke HTTP, before a response head.
    #[error("the origin {0} gave no response")]
    NoResponse(String, #[source] hyper::Error),
    /// It sent no response head in time.
    #[error("the origin {0} sent no response head in {1:?}")]
    FirstByteTime(String, Duration),
    /// It switched protocols, which nobody had asked for.
    #[error("the origin {0} switched protocols unasked")]
    Upgraded(String),
    /// Its body broke off before any of it was passed on.
    #[error("the origin's body broke off: {0}")]
    Body(String),
    /// The client's own body ended early or stalled.
    #[error("the client's body broke off")]
    ClientBody,
    /// The client's own body is larger than allowed.
    #[error("the client's body is larger than allowed")]
    ClientBodyTooLarge,
}

impl OriginFault {
    /// The status that tells a client.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unreachable(..) | Self::NoResponse(..) | Self::Upgraded(_) | Self::Body(_) => {
                StatusCode::BAD_GATEWAY
            }
            Self::ConnectTime(..) | Self::FirstByteTime(..) => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientBody => StatusCode::REQUEST_TIMEOUT,
            Self::ClientBodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// The reason's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(..) => "origin-unreachable",
            Self::ConnectTime(..) => "origin-connect-time",
            Self::NoResponse(..) => "origin-no-response",
            Self::FirstByteTime(..) => "origin-first-byte-time",
            Self::Upgraded(_) => "origin-upgraded",
            Self::Body(_) => "origin-body",
            Self::ClientBody => "client-body",
            Self::ClientBodyTooLarge => "body-too-large",
        }
    }
}

/// A response from an origin, its body still on the way.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Whether the end of the body was declared (RFC 9112 6.3): without that, a cut cannot be told
    /// from an end.
    pub(crate) length_known: bool,
    pub(crate) body: OriginBody,
}

/// Sends a shared fetch.
pub(crate) async fn shared(
    worker: &Arc<Worker>,
    outbound: Outbound,
) -> Result<Response, OriginFault> {
    let limits = worker.limits();
    let (host, port) = outbound.origin();
    let place = Place {
        host: host.to_owned(),
        port,
    };
    let key = outbound.key().clone();
    let (method, target, headers) = outbound.into_parts();
    let mut request = Request::new(OutgoingBody::Empty);
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().expect("a key's target came from a request");
    *request.headers_mut() = headers;
    let sending = Sending {
        home: Home::Shared(Arc::downgrade(worker), place.clone(), key.clone()),
        place,
        limits,
        signs: Arc::default(),
        expects: false,
        progress: None,
        interim: None,
    };
    sending
        .send(worker, request, |sending| {
            worker.pool().checkout(&sending.place, Some(&key), &limits)
        })
        .await
}

/// Sends a request as itself.
pub(crate) async fn pass(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    turn: &Turn,
    request: PassRequest,
    body: Option<Incoming>,
) -> Result<Response, OriginFault> {
    let limits = worker.limits();
    let (host, port) = request.origin();
    let place = Place {
        host: host.to_owned(),
        port,
    };
    let credentials = request.credentials();
    let names_its_sender = request.names_its_sender();
    let (method, target, mut headers) = request.into_parts();
    // Without credentials nobody knows who sent it, and a body may hold what makes somebody out of
    // anybody (a login): what is late on such a connection is shown to no other.
    let has_body = body.as_ref().is_some_and(|body| !body.is_end_stream());
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        // Said, since the library sends no body of unknown length after some methods unless it is.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let reusable = names_its_sender && !has_body;
    let tied = headers
        .get_all(AUTHORIZATION)
        .iter()
        .any(is_connection_bound);
    let home = if reusable && !tied {
        Home::Viewer(
            Arc::downgrade(connection),
            Arc::downgrade(worker),
            place.clone(),
            credentials,
        )
    } else {
        // The origin is told, and closes first: it is the one that can afford to wait for stragglers.
        headers.append(CONNECTION, HeaderValue::from_static("close"));
        Home::Nowhere
    };

    let expects = headers.contains_key(EXPECT);
    let signs = Arc::new(Signs::default());
    let (body, progress) = match body {
        None => (OutgoingBody::Empty, None),
        Some(body) => {
            let gate = expects.then(|| wait_for_continue(Arc::clone(&signs)));
            let (body, progress) = InBody::new(body, &limits, gate);
            (OutgoingBody::Client(Box::new(body)), Some(progress))
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().expect("a pass's target came from a request");
    *request.headers_mut() = headers;
    let sending = Sending {
        home,
        place,
        limits,
        signs,
        expects,
        progress,
        interim: turn.interim().cloned(),
    };
    let idle =
        |sending: &Sending| connection.checkout(worker, &sending.place, credentials, &limits);
    sending.send(worker, request, idle).await
}

/// A request on its way to an origin.
struct Sending {
    place: Place,
    home: Home,
    limits: Limits,
    signs: Arc<Signs>,
    /// The client waits to be asked for its body.
    expects: bool,
    progress: Option<Arc<Progress>>,
    /// Takes interim responses to the viewer. A shared fetch has none.
    interim: Option<mpsc::Sender<http::Response<()>>>,
}

/// Why one try gave no response.
enum Failed {
    Origin(OriginFault),
    /// The connection had closed before a byte was written: nothing was asked, and another may be.
    NotSent(Box<Request<OutgoingBody>>, hyper::Error),
}

impl Sending {
    /// Sends on an idle connection, or on a new one.
    async fn send(
        self,
        worker: &Arc<Worker>,
        mut request: Request<OutgoingBody>,
        idle: impl Fn(&Self) -> Option<Conn>,
    ) -> Result<Response, OriginFault> {
        loop {
            let idle = idle(&self);
            let fresh = idle.is_none();
            let mut conn = match idle {
                Some(conn) => conn,
                None => connect(worker, &self.place, &self.limits).await?,
            };
            conn.signs = Arc::clone(&self.signs);
            match self.exchange(conn, request).await {
                Ok(response) => return Ok(response),
                Err(Failed::Origin(fault)) => return Err(fault),
                Err(Failed::NotSent(_, error)) if fresh => {
                    return Err(OriginFault::NoResponse(self.place.to_string(), error));
                }
                Err(Failed::NotSent(back, _)) => request = *back,
            }
        }
    }

    /// One request and its response head. A request of which any byte was written is never sent again.
    async fn exchange(
        &self,
        mut conn: Conn,
        mut request: Request<OutgoingBody>,
    ) -> Result<Response, Failed> {
        let (signs, expects) = (Arc::clone(&self.signs), self.expects);
        let interim = self.interim.clone();
        hyper::ext::on_informational(&mut request, move |response| match response.status() {
            StatusCode::CONTINUE if expects => signs.asked_for_body.notify_one(),
            StatusCode::EARLY_HINTS | StatusCode::PROCESSING => {
                relay(interim.as_ref(), response.status(), response.headers());
            }
            _ => signs.surprised.store(true, Ordering::Relaxed),
        });
        let sending = conn.sender.try_send_request(request);
        tokio::pin!(sending);
        let mut moved = 0;
        let sent = loop {
            match timeout(self.limits.first_byte_time_max, &mut sending).await {
                Ok(sent) => break sent,
                // A long upload that moves is not an origin that hangs.
                Err(_) if self.moved() > moved => moved = self.moved(),
                Err(_) => {
                    let time = self.limits.first_byte_time_max;
                    let fault = OriginFault::FirstByteTime(self.place.to_string(), time);
                    return Err(Failed::Origin(fault));
                }
            }
        };
        let response = match sent {
            Ok(response) => response,
            Err(mut error) => {
                if let Some(request) = error.take_message() {
                    return Err(Failed::NotSent(Box::new(request), error.into_error()));
                }
                let fault = self.progress.as_ref().and_then(|progress| progress.fault());
                return Err(Failed::Origin(match fault {
                    Some(BodyFault::ClientTooLarge) => OriginFault::ClientBodyTooLarge,
                    Some(_) => OriginFault::ClientBody,
                    None => OriginFault::NoResponse(self.place.to_string(), error.into_error()),
                }));
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failed::Origin(OriginFault::Upgraded(
                self.place.to_string(),
            )));
        }
        Ok(received(conn, response, &self.home, &self.limits))
    }

    fn moved(&self) -> u64 {
        self.progress
            .as_ref()
            .map_or(0, |progress| progress.moved())
    }
}

/// Sends an interim response on to whom the final one is for.
fn relay(
    interim: Option<&mpsc::Sender<http::Response<()>>>,
    status: StatusCode,
    headers: &HeaderMap,
) {
    if let Some(interim) = interim {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = keep_of_interim(headers);
        // It is a hint: one too many, or too late, is left out.
        drop(interim.try_send(response));
    }
}

/// `Authorization: Negotiate` and `NTLM` authenticate the connection, not the request.
fn is_connection_bound(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    [&b"negotiate"[..], b"ntlm"].iter().any(|scheme| {
        value
            .get(..scheme.len())
            .is_some_and(|v| v.eq_ignore_ascii_case(scheme))
    })
}

/// Holds a body back until the origin asks for it, answers, or says nothing for a second
/// (RFC 9110 10.1.1: a client must not wait for ever).
fn wait_for_continue(signs: Arc<Signs>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        tokio::select! {
            biased;
            () = signs.asked_for_body.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    })
}

/// Where an origin listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    host: String,
    port: u16,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What an origin did before its final response.
#[derive(Default)]
struct Signs {
    asked_for_body: Notify,
    surprised: AtomicBool,
}

/// An idle or busy connection to an origin.
pub(crate) struct Conn {
    sender: SendRequest<OutgoingBody>,
    task: AbortHandle,
    idle_since: Instant,
    /// For how long the origin keeps it, as far as it said.
    idle_time_max: Duration,
    signs: Arc<Signs>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Whatever is still on the wire belongs to nobody.
        self.task.abort();
    }
}

impl Conn {
    fn is_usable(&self, limits: &Limits) -> bool {
        self.sender.is_ready()
            && self.idle_since.elapsed() < limits.origin_idle_time_max.min(self.idle_time_max)
    }

    /// Whether it has been silent for so long after its last response that nothing more of that can be
    /// on its way. What comes in that time closes it.
    fn is_silent(&self) -> bool {
        const SILENCE_MIN: Duration = Duration::from_secs(1);
        self.idle_since.elapsed() >= SILENCE_MIN
    }
}

/// How long an origin says that it keeps an idle connection, less a moment for a request that is on
/// its way when it closes.
fn kept_alive(headers: &HeaderMap) -> Duration {
    const ON_ITS_WAY: Duration = Duration::from_secs(1);
    let value = headers
        .get("keep-alive")
        .and_then(|value| value.to_str().ok());
    let seconds = value.and_then(|value| {
        value.split(',').find_map(|parameter| {
            let (name, seconds) = parameter.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("timeout")
                .then(|| seconds.trim().parse().ok())?
        })
    });
    seconds.map_or(Duration::MAX, |seconds| {
        Duration::from_secs(seconds).saturating_sub(ON_ITS_WAY)
    })
}

async fn connect(
    worker: &Arc<Worker>,
    place: &Place,
    limits: &Limits,
) -> Result<Conn, OriginFault> {
    let connecting = worker.world().connect(&place.host, place.port);
    let wire = match timeout(limits.connect_time_max, connecting).await {
        Ok(Ok(wire)) => wire,
        Ok(Err(error)) => return Err(OriginFault::Unreachable(place.to_string(), error)),
        Err(_) => {
            return Err(OriginFault::ConnectTime(
                place.to_string(),
                limits.connect_time_max,
            ));
        }
    };
    let (sender, connection) = http1::Builder::new()
        .max_headers(limits.head_fields_max)
        .max_buf_size(limits.head_bytes_max.max(8192))
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|error| OriginFault::NoResponse(place.to_string(), error))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an origin connection ended");
        }
    });
    Ok(Conn {
        sender,
        task: task.abort_handle(),
        idle_since: Instant::now(),
        idle_time_max: Duration::MAX,
        signs: Arc::default(),
    })
}

/// Idle connections to one place, the oldest first.
type Carried = VecDeque<(Option<Key>, Conn)>;

/// Idle connections for shared fetches, of one worker, each with the key that it carried. `None` is
/// for a planted fault alone.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<BTreeMap<Place, Carried>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Carried>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkout(&self, place: &Place, key: Option<&Key>, limits: &Limits) -> Option<Conn> {
        let mut idle = self.lock();
        let conns = idle.get_mut(place)?;
        // The youngest first: the others grow old and are closed.
        loop {
            let at = conns.iter().rposition(|(carried, conn)| {
                let places = || {
                    [carried.as_ref(), key]
                        .iter()
                        .all(|k| k.is_some_and(Key::is_a_place))
                };
                carried.as_ref() == key || (conn.is_silent() && places()) || pools_mixed()
            })?;
            let (_, conn) = conns.remove(at)?;
            if conn.is_usable(limits) {
                return Some(conn);
            }
        }
    }

    fn checkin(&self, place: &Place, key: Option<Key>, conn: Conn, limits: &Limits) {
        let mut idle = self.lock();
        let conns = idle.entry(place.clone()).or_default();
        // The next use of a key comes soon (the second copy of a document) or late: the oldest goes.
        while conns.len() >= limits.origin_idle_max.max(1) {
            drop(conns.pop_front());
        }
        conns.push_back((key, conn));
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, limits: &Limits) {
        self.lock().retain(|_, conns| {
            conns.retain(|(_, conn)| {
                !conn.sender.is_closed() && conn.idle_since.elapsed() < limits.origin_idle_time_max
            });
            !conns.is_empty()
        });
    }
}

/// Whether a planted fault has the pools mixed.
#[cfg(feature = "seeded-faults")]
fn pools_mixed() -> bool {
    shikiri_partition::fault::is(shikiri_partition::fault::Fault::PoolsMixed)
}

#[cfg(not(feature = "seeded-faults"))]
const fn pools_mixed() -> bool {
    false
}

/// Idle connections for passes, of one client connection.
#[derive(Default)]
pub(crate) struct ViewerPool {
    idle: Mutex<Vec<(Place, Option<Digest>, Conn)>>,
}

impl ViewerPool {
    /// One browser tab's worth; more come from a proxy that mixes viewers, for whom connections are
    /// opened anew.
    const IDLE_MAX: usize = 4;

    fn lock(&self) -> MutexGuard<'_, Vec<(Place, Option<Digest>, Conn)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checkout(
        &self,
        place: &Place,
        credentials: Option<Digest>,
        limits: &Limits,
    ) -> Option<Conn> {
        let mut idle = self.lock();
        loop {
            let at = idle
                .iter()
                .position(|(p, c, _)| p == place && *c == credentials)?;
            let (_, _, conn) = idle.swap_remove(at);
            if conn.is_usable(limits) {
                return Some(conn);
            }
        }
    }

    fn checkin(&self, place: &Place, credentials: Option<Digest>, conn: Conn) {
        let mut idle = self.lock();
        if idle.len() >= Self::IDLE_MAX {
            drop(idle.remove(0));
        }
        idle.push((place.clone(), credentials, conn));
    }
}

impl Connection {
    fn checkout(
        &self,
        worker: &Worker,
        place: &Place,
        credentials: Option<Digest>,
        limits: &Limits,
    ) -> Option<Conn> {
        #[cfg(feature = "seeded-faults")]
        if shikiri_partition::fault::is(shikiri_partition::fault::Fault::PoolsMixed) {
            return worker.pool().checkout(place, None, limits);
        }
        let _ = worker;
        self.passes().checkout(place, credentials, limits)
    }
}

/// Where a connection goes when its response has ended well.
#[derive(Clone)]
enum Home {
    Shared(Weak<Worker>, Place, Key),
    Viewer(Weak<Connection>, Weak<Worker>, Place, Option<Digest>),
    Nowhere,
}

impl Home {
    fn take_back(&self, mut conn: Conn, limits: &Limits) {
        conn.idle_since = Instant::now();
        match self {
            Self::Shared(worker, place, key) => {
                if let Some(worker) = worker.upgrade() {
                    worker
                        .pool()
                        .checkin(place, Some(key.clone()), conn, limits);
                }
            }
            Self::Viewer(connection, worker, place, credentials) => {
                #[cfg(feature = "seeded-faults")]
                if shikiri_partition::fault::is(shikiri_partition::fault::Fault::PoolsMixed) {
                    if let Some(worker) = worker.upgrade() {
                        worker.pool().checkin(place, None, conn, limits);
                    }
                    return;
                }
                let _ = worker;
                if let Some(connection) = connection.upgrade() {
                    connection.passes().checkin(place, *credentials, conn);
                }
            }
            Self::Nowhere => {}
        }
    }
}

fn received(
    mut conn: Conn,
    response: hyper::Response<hyper::body::Incoming>,
    home: &Home,
    limits: &Limits,
) -> Response {
    let (mut parts, body) = response.map(Incoming::Http1).into_parts();
    conn.idle_time_max = kept_alive(&parts.headers);
    let chunked = parts.headers.contains_key(TRANSFER_ENCODING);
    let lengths = parts.headers.get_all(CONTENT_LENGTH).iter().count();
    // Two ways to tell where it ends are two messages to somebody (RFC 9112 6.3).
    let clear_framing = lengths + usize::from(chunked) <= 1 && parts.version == Version::HTTP_11;
    let tied = parts
        .headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .any(is_connection_bound);
    let length_known = body.is_end_stream() || body.size_hint().exact().is_some() || chunked;
    let home = if clear_framing && !tied {
        home.clone()
    } else {
        Home::Nowhere
    };
    keep_one_length(&mut parts.headers);
    let mut body = OriginBody {
        inner: body,
        pushed_back: VecDeque::new(),
        lease: Some((conn, home)),
        limits: *limits,
        stall: Box::pin(tokio::time::sleep(limits.stall_time_max)),
        ended: false,
    };
    if body.inner.is_end_stream() {
        body.end_well();
    }
    Response {
        status: parts.status,
        headers: parts.headers,
        length_known: length_known && lengths + usize::from(chunked) <= 1,
        body,
    }
}

/// Removes a length that says several things, or nothing: the library reads no length where there is
/// no body (`HEAD`, 304), and what we send on must be clear to everybody.
fn keep_one_length(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| {
        let digits = value.as_bytes();
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    };
    if lengths.next().is_some_and(|length| !is_number(length)) || lengths.next().is_some() {
        headers.remove(CONTENT_LENGTH);
    }
}

/// A response body from an origin, with the connection that it comes on.
pub(crate) struct OriginBody {
    inner: Incoming,
    /// What was read already and given back: it comes first.
    pushed_back: VecDeque<Bytes>,
    /// Held until the body ends: a connection that is dropped takes the rest of its body with it.
    lease: Option<(Conn, Home)>,
    limits: Limits,
    stall: Pin<Box<Sleep>>,
    ended: bool,
}

impl OriginBody {
    /// Gives back what was read from the front.
    pub(crate) fn push_back(&mut self, chunks: Vec<Bytes>) {
        self.pushed_back.extend(chunks);
    }

    fn end_well(&mut self) {
        self.ended = true;
        if let Some((conn, home)) = self.lease.take()
            && !conn.signs.surprised.load(Ordering::Relaxed)
        {
            home.take_back(conn, &self.limits);
        }
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(chunk) = self.pushed_back.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(None) => {
                self.end_well();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                let deadline = Instant::now() + self.limits.stall_time_max;
                self.stall.as_mut().reset(deadline);
                if self.inner.is_end_stream() {
                    self.end_well();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease = None;
                Poll::Ready(Some(Err(BodyFault::Origin(error.to_string()))))
            }
            Poll::Pending => {
                if self.stall.as_mut().poll(cx).is_ready() {
                    self.lease = None;
                    return Poll::Ready(Some(Err(BodyFault::Origin("it stalled".into()))));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pushed_back.is_empty() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let back: usize = self.pushed_back.iter().map(Bytes::len).sum();
        let back = u64::try_from(back).expect("a length fits 64 bits");
        match (self.ended, self.inner.size_hint().exact()) {
            (true, _) => SizeHint::with_exact(back),
            (false, Some(rest)) => SizeHint::with_exact(rest + back),
            (false, None) => SizeHint::new(),
        }
    }
}

/// What goes to an origin after a head.
pub(crate) enum OutgoingBody {
    Empty,
    Client(Box<InBody>),
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
        }
    }
}

/// What an origin answered to a shared fetch, whole.
#[derive(Debug)]
pub struct Asked {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// Whether the end of the body was declared.
    pub length_known: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends one shared fetch and reads the answer, whole.
///
/// # Errors
/// When the origin gives no response, or its body breaks off or is larger than `bytes_max`.
pub async fn ask_whole(
    worker: &Arc<Worker>,
    outbound: Outbound,
    bytes_max: usize,
) -> Result<Asked, OriginFault> {
    let mut response = shared(worker, outbound).await?;
    let mut body = Vec::new();
    while let Some(frame) = response.body.frame().await {
        let frame = frame.map_err(|fault| OriginFault::Body(fault.to_string()))?;
        if let Some(data) = frame.data_ref() {
            body.extend_from_slice(data);
        }
        if body.len() > bytes_max {
            return Err(OriginFault::Body(format!(
                "it is larger than {bytes_max} bytes"
            )));
        }
    }
    Ok(Asked {
        status: response.status,
        headers: response.headers,
        length_known: response.length_known,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_not_one_number_is_not_sent_on() {
        for (lengths, kept) in [
            (&["12"][..], true),
            (&["12", "13"], false),
            (&["12", "12"], false),
            (&["12, 12"], false),
            (&["+12"], false),
            (&[""], false),
        ] {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            keep_one_length(&mut headers);
            assert_eq!(headers.contains_key(CONTENT_LENGTH), kept, "{lengths:?}");
        }
    }
}
