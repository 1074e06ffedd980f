//! One connection to an origin: how it is made, and when it may be used again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use shikiri_partition::{Limits, Spoken, Upstream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::body::OutgoingBody;
use super::{OriginFault, http2};
use crate::node::Node;
use crate::world::Wire;

/// What an origin did before its final response.
#[derive(Default)]
pub(super) struct Signs {
    pub(super) asked_for_body: Notify,
    pub(super) surprised: AtomicBool,
}

/// What is spoken on a connection to an origin.
pub(super) enum Sender {
    Http1(SendRequest<OutgoingBody>),
    Http2(h2::client::SendRequest<Bytes>),
}

/// An idle or busy connection to an origin.
pub(crate) struct Conn {
    pub(super) sender: Sender,
    pub(super) task: AbortHandle,
    /// Sends a body, beside what reads the answer.
    pub(super) uploading: Option<AbortHandle>,
    pub(super) idle_since: Instant,
    /// For how long the origin keeps it, as far as it said.
    pub(super) idle_time_max: Duration,
    pub(super) signs: Arc<Signs>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Whatever is still on the wire belongs to nobody.
        self.task.abort();
        if let Some(uploading) = &self.uploading {
            uploading.abort();
        }
    }
}

impl Conn {
    pub(super) fn is_usable(&self, limits: &Limits) -> bool {
        let is_ready = match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            // It ends when the origin goes away.
            Sender::Http2(_) => !self.task.is_finished(),
        };
        is_ready && self.idle_since.elapsed() < limits.origin_idle_time_max.min(self.idle_time_max)
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.task.is_finished()
    }

    /// Whether it has been silent for so long after its last response that nothing more of that can be
    /// on its way. What comes in that time closes it.
    pub(super) fn is_silent(&self) -> bool {
        const SILENCE_MIN: Duration = Duration::from_secs(1);
        self.idle_since.elapsed() >= SILENCE_MIN
    }
}

/// How long an origin says that it keeps an idle connection, less a moment for a request that is on
/// its way when it closes.
pub(super) fn kept_alive(headers: &HeaderMap) -> Duration {
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

/// Connects. `may_switch`: the request asks to switch protocols, which only HTTP/1.1 can.
pub(super) async fn connect(
    node: &Node,
    upstream: &Upstream,
    may_switch: bool,
    limits: &Limits,
) -> Result<Conn, OriginFault> {
    let connecting = begin(node, upstream, may_switch, limits);
    let (sender, task) = match timeout(limits.connect_time_max, connecting).await {
        Ok(begun) => begun?,
        Err(_) => {
            let time = limits.connect_time_max;
            return Err(OriginFault::ConnectTime(upstream.to_string(), time));
        }
    };
    Ok(Conn {
        sender,
        task,
        uploading: None,
        idle_since: Instant::now(),
        idle_time_max: Duration::MAX,
        signs: Arc::default(),
    })
}

async fn begin(
    node: &Node,
    upstream: &Upstream,
    may_switch: bool,
    limits: &Limits,
) -> Result<(Sender, AbortHandle), OriginFault> {
    let connecting = node.world().connect(&upstream.address, upstream.port);
    let wire = connecting
        .await
        .map_err(|error| OriginFault::Unreachable(upstream.to_string(), error))?;
    let (wire, is_http2) = match &upstream.spoken {
        Spoken::Http1 => (wire, false),
        Spoken::Http2 => (wire, true),
        Spoken::Tls { ca, .. } => {
            let config = node.origin_trust().config(ca, !may_switch)?;
            encrypt(wire, config, upstream)
                .await
                .map_err(|error| OriginFault::Tls(upstream.to_string(), error))?
        }
    };
    let no_response = |error| OriginFault::NoResponse(upstream.to_string(), error);
    if is_http2 {
        let begun = http2::begin(wire, limits).await;
        let (sender, task) = begun.map_err(|error| no_response(error.into()))?;
        return Ok((Sender::Http2(sender), task.abort_handle()));
    }
    let (sender, connection) = http1::Builder::new()
        .max_headers(limits.head_fields_max)
        .max_buf_size(limits.head_bytes_max.max(8192))
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|error| no_response(error.into()))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "an origin connection ended");
        }
    });
    Ok((Sender::Http1(sender), task.abort_handle()))
}

/// Shakes hands with an origin that proves to be who policy says; whether HTTP/2 was agreed on.
async fn encrypt(
    wire: Box<dyn Wire>,
    config: Arc<ClientConfig>,
    upstream: &Upstream,
) -> std::io::Result<(Box<dyn Wire>, bool)> {
    let name = ServerName::try_from(upstream.server_name().to_owned())
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
    let stream = TlsConnector::from(config).connect(name, wire).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Box::new(stream), is_http2))
}
