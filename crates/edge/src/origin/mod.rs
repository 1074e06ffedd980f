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

mod body;
mod conn;
mod http2;
mod pool;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::Upgraded;
use shikiri_partition::{Limits, Outbound, PassRequest, Upstream, keep_of_interim};
use tokio::time::timeout;

use crate::body::{BodyFault, InBody, Progress};
use crate::connection::Connection;
use crate::incoming::Incoming;
use crate::node::{Node, Worker};
use crate::slot::Interims;
use crate::tls::TrustFault;
use crate::tunnel::HAND_OVER_TIME_MAX;

pub(crate) use body::OriginBody;
use body::{OutgoingBody, received};
use conn::{Conn, Sender, Signs, connect};
use pool::Home;
pub(crate) use pool::{Pool, ViewerPool};

/// What went wrong below.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an origin gave no response.
#[derive(Debug, thiserror::Error)]
pub enum OriginFault {
    /// It could not be reached.
    #[error("the origin {0} cannot be reached: {1}")]
    Unreachable(String, std::io::Error),
    /// It did not prove to be who policy says, or broke the handshake.
    #[error("the TLS handshake with the origin {0} failed: {1}")]
    Tls(String, std::io::Error),
    /// It is not known whom to believe to be it.
    #[error(transparent)]
    Trust(#[from] TrustFault),
    /// It did not accept a connection in time.
    #[error("the origin {0} did not accept a connection in {1:?}")]
    ConnectTime(String, Duration),
    /// It closed, or broke HTTP, before a response head.
    #[error("the origin {0} gave no response")]
    NoResponse(String, #[source] Cause),
    /// It sent no response head in time.
    #[error("the origin {0} sent no response head in {1:?}")]
    FirstByteTime(String, Duration),
    /// It switched protocols, which nobody had asked for, or to another than was asked for.
    #[error("the origin {0} switched to a protocol that was not asked for")]
    Upgraded(String),
    /// Its gate did not say in time whether somebody may see something.
    #[error("the gate at the origin {0} did not answer, whole, in {1:?}")]
    GateTime(String, Duration),
    /// What its gate said was no whole answer: it does not open by it.
    #[error("the gate at the origin {0} gave no whole answer: {1}")]
    GateBroken(String, String),
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
            Self::Unreachable(..)
            | Self::Tls(..)
            | Self::Trust(_)
            | Self::NoResponse(..)
            | Self::Upgraded(_)
            | Self::GateBroken(..)
            | Self::Body(_) => StatusCode::BAD_GATEWAY,
            Self::ConnectTime(..) | Self::FirstByteTime(..) | Self::GateTime(..) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::ClientBody => StatusCode::REQUEST_TIMEOUT,
            Self::ClientBodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// Whether the origin may have got the request, or a part of it.
    pub(crate) const fn may_have_been_asked(&self) -> bool {
        !matches!(self, Self::Unreachable(..) | Self::ConnectTime(..))
    }

    /// The reason's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(..) => "origin-unreachable",
            Self::Tls(..) => "origin-tls",
            Self::Trust(_) => "origin-trust",
            Self::ConnectTime(..) => "origin-connect-time",
            Self::NoResponse(..) => "origin-no-response",
            Self::FirstByteTime(..) => "origin-first-byte-time",
            Self::Upgraded(_) => "origin-upgraded",
            Self::GateTime(..) => "gate-time",
            Self::GateBroken(..) => "gate-broken",
            Self::Body(_) => "origin-body",
            Self::ClientBody => "client-body",
            Self::ClientBodyTooLarge => "body-too-large",
        }
    }
}

/// A response from an origin, its body still on the way.
pub(crate) struct Response<B = OriginBody> {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Whether the end of the body was declared (RFC 9112 6.3): without that, a cut cannot be told
    /// from an end.
    pub(crate) length_known: bool,
    pub(crate) body: B,
}

/// What follows a response head to a pass.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are the large one, and none is kept"
)]
pub(crate) enum Passed {
    Body(OriginBody),
    /// The origin has switched to the protocol that was asked for.
    Switched(Upgraded),
}

impl<B> Response<B> {
    fn map<C>(self, body: impl FnOnce(B) -> C) -> Response<C> {
        Response {
            status: self.status,
            headers: self.headers,
            length_known: self.length_known,
            body: body(self.body),
        }
    }
}

/// Sends a shared fetch.
pub(crate) async fn shared(
    worker: &Arc<Worker>,
    outbound: Outbound,
) -> Result<Response, OriginFault> {
    let limits = worker.limits();
    let place = Arc::clone(outbound.upstream());
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
        interims: None,
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
    interims: Option<Interims>,
    request: PassRequest,
    body: Option<Incoming>,
) -> Result<Response<Passed>, OriginFault> {
    let limits = worker.limits();
    let place = Arc::clone(request.upstream());
    let switches_to = request.upgrade().cloned();
    let credentials = request.credentials();
    let names_its_sender = request.names_its_sender();
    let trailers = request.trailers().clone();
    let (method, target, mut headers) = request.into_parts();
    // Without credentials nobody knows who sent it, and a body may hold what makes somebody out of
    // anybody (a login): what is late on such a connection is shown to no other.
    let has_body = body.as_ref().is_some_and(|body| !body.is_end_stream());
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        // Said, since the library sends no body of unknown length after some methods unless it is.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let reusable = names_its_sender && !has_body && switches_to.is_none();
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
        if switches_to.is_none() {
            headers.append(CONNECTION, HeaderValue::from_static("close"));
        }
        Home::Nowhere
    };

    let expects = headers.contains_key(EXPECT);
    let signs = Arc::new(Signs::default());
    let (body, progress) = match body {
        None => (OutgoingBody::Empty, None),
        Some(body) => {
            let gate = expects.then(|| wait_for_continue(Arc::clone(&signs)));
            let (body, progress) = InBody::new(body, &limits, trailers, gate);
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
        interims,
    };
    if let Some(protocol) = switches_to {
        return sending.switch(worker.node(), request, &protocol).await;
    }
    let idle =
        |sending: &Sending| connection.checkout(worker, &sending.place, credentials, &limits);
    let response = sending.send(worker, request, idle).await?;
    Ok(response.map(Passed::Body))
}

/// A request on its way to an origin.
struct Sending {
    place: Arc<Upstream>,
    home: Home,
    limits: Limits,
    signs: Arc<Signs>,
    /// The client waits to be asked for its body.
    expects: bool,
    progress: Option<Arc<Progress>>,
    /// Shows interim responses to the viewer. A shared fetch has none.
    interims: Option<Interims>,
}

/// Why one try gave no response.
enum Failed {
    Origin(OriginFault),
    /// The connection had closed before a byte was written: nothing was asked, and another may be.
    NotSent(Box<Request<OutgoingBody>>, Cause),
}

/// Why a connection brought no response head.
struct NoResponse {
    cause: Cause,
    /// The request, when the origin has seen nothing of it.
    unsent: Option<Box<Request<OutgoingBody>>>,
}

impl NoResponse {
    const fn of(cause: Cause) -> Self {
        Self {
            cause,
            unsent: None,
        }
    }

    fn unsent(request: Request<OutgoingBody>, cause: Cause) -> Self {
        Self {
            cause,
            unsent: Some(Box::new(request)),
        }
    }
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
                None => connect(worker.node(), &self.place, false, &self.limits).await?,
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

    /// Asks to switch protocols, on a connection of its own, which is used for nothing else.
    async fn switch(
        self,
        node: &Node,
        request: Request<OutgoingBody>,
        protocol: &HeaderValue,
    ) -> Result<Response<Passed>, OriginFault> {
        let mut conn = connect(node, &self.place, true, &self.limits).await?;
        conn.signs = Arc::clone(&self.signs);
        let answered = self.answer(&mut conn, request).await;
        let mut response = answered.map_err(|failed| match failed {
            Failed::Origin(fault) => fault,
            Failed::NotSent(_, cause) => OriginFault::NoResponse(self.place.to_string(), cause),
        })?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let response = received(conn, response, &self.home, &self.limits);
            return Ok(response.map(Passed::Body));
        }
        let wrong = || OriginFault::Upgraded(self.place.to_string());
        let mut named = response.headers().get_all(UPGRADE).iter();
        let same = |name: &HeaderValue| name.as_bytes().eq_ignore_ascii_case(protocol.as_bytes());
        if !named.next().is_some_and(same) || named.next().is_some() {
            return Err(wrong());
        }
        let switching = hyper::upgrade::on(&mut response);
        let Ok(Ok(switched)) = timeout(HAND_OVER_TIME_MAX, switching).await else {
            return Err(wrong());
        };
        Ok(Response {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            length_known: true,
            body: Passed::Switched(switched),
        })
    }

    /// One request and its response head. A request of which any byte was written is never sent again.
    async fn exchange(
        &self,
        mut conn: Conn,
        request: Request<OutgoingBody>,
    ) -> Result<Response, Failed> {
        let response = self.answer(&mut conn, request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failed::Origin(OriginFault::Upgraded(
                self.place.to_string(),
            )));
        }
        Ok(received(conn, response, &self.home, &self.limits))
    }

    /// What the origin answers within its time.
    async fn answer(
        &self,
        conn: &mut Conn,
        request: Request<OutgoingBody>,
    ) -> Result<http::Response<Incoming>, Failed> {
        let Conn {
            sender, uploading, ..
        } = conn;
        let mut sending = pin!(async {
            match sender {
                Sender::Http1(sender) => http1(sender, request, self.interims()).await,
                Sender::Http2(sender) => {
                    let scheme = self.place.scheme().as_str();
                    let scheme = scheme.parse().expect("a scheme is a scheme");
                    let interims = self.interims();
                    http2::ask(sender, request, scheme, &self.limits, uploading, interims).await
                }
            }
        });
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
        sent.map_err(|NoResponse { cause, unsent }| {
            if let Some(request) = unsent {
                return Failed::NotSent(request, cause);
            }
            let fault = self.progress.as_ref().and_then(|progress| progress.fault());
            Failed::Origin(match fault {
                Some(BodyFault::ClientTooLarge) => OriginFault::ClientBodyTooLarge,
                Some(_) => OriginFault::ClientBody,
                None => OriginFault::NoResponse(self.place.to_string(), cause),
            })
        })
    }

    /// What is done with an interim response.
    fn interims(&self) -> impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static {
        let (signs, expects) = (Arc::clone(&self.signs), self.expects);
        let interims = self.interims.clone();
        move |status, headers| match status {
            StatusCode::CONTINUE if expects => signs.asked_for_body.notify_one(),
            StatusCode::EARLY_HINTS | StatusCode::PROCESSING => {
                relay(interims.as_ref(), status, headers);
            }
            _ => signs.surprised.store(true, Ordering::Relaxed),
        }
    }

    fn moved(&self) -> u64 {
        self.progress
            .as_ref()
            .map_or(0, |progress| progress.moved())
    }
}

/// Asks on a connection of HTTP/1.
async fn http1(
    sender: &mut SendRequest<OutgoingBody>,
    mut request: Request<OutgoingBody>,
    interims: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static,
) -> Result<http::Response<Incoming>, NoResponse> {
    hyper::ext::on_informational(&mut request, move |response| {
        interims(response.status(), response.headers());
    });
    match sender.try_send_request(request).await {
        Ok(response) => Ok(response.map(Incoming::Http1)),
        Err(mut error) => Err(match error.take_message() {
            Some(request) => NoResponse::unsent(request, error.into_error().into()),
            None => NoResponse::of(error.into_error().into()),
        }),
    }
}

/// Sends an interim response on to whom the final one is for.
fn relay(interims: Option<&Interims>, status: StatusCode, headers: &HeaderMap) {
    if let Some(interims) = interims {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = keep_of_interim(headers);
        interims.show(response);
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

/// Connects to an origin, and asks nothing.
///
/// # Errors
/// Why every request would fail.
pub async fn try_origin(node: &Node, upstream: &Upstream) -> Result<(), OriginFault> {
    let limits = *node.stance().rules.limits();
    connect(node, upstream, false, &limits).await.map(drop)
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

/// Sends one shared fetch and looks at the answer's status alone.
///
/// # Errors
/// When the origin gives no response.
pub async fn ask_status(
    worker: &Arc<Worker>,
    outbound: Outbound,
) -> Result<StatusCode, OriginFault> {
    Ok(shared(worker, outbound).await?.status)
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
