//! One connection to an origin: how it is made, and when it may be used again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::HeaderMap;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shikiri_partition::Limits;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::OriginFault;
use super::body::OutgoingBody;
use crate::node::Worker;

/// Where an origin listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What an origin did before its final response.
#[derive(Default)]
pub(super) struct Signs {
    pub(super) asked_for_body: Notify,
    pub(super) surprised: AtomicBool,
}

/// An idle or busy connection to an origin.
pub(crate) struct Conn {
    pub(super) sender: SendRequest<OutgoingBody>,
    pub(super) task: AbortHandle,
    pub(super) idle_since: Instant,
    /// For how long the origin keeps it, as far as it said.
    pub(super) idle_time_max: Duration,
    pub(super) signs: Arc<Signs>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Whatever is still on the wire belongs to nobody.
        self.task.abort();
    }
}

impl Conn {
    pub(super) fn is_usable(&self, limits: &Limits) -> bool {
        self.sender.is_ready()
            && self.idle_since.elapsed() < limits.origin_idle_time_max.min(self.idle_time_max)
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

pub(super) async fn connect(
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
