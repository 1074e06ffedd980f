//! Tunnels: what a client and an origin say to each other after they have switched protocols (RFC 9110
//! 7.8), WebSocket most of all.
//!
//! Nothing of the client goes to the origin before the origin's 101 (M33): until then the guard holds it.
//! From then on bytes pass both ways as they come, looked at by nobody. A tunnel is a part of its client
//! connection: it counts as one, is cut when that is cut, and ends with it. The origin connection that
//! carried it is never used again.
//!
//! Invariant: a tunnel has a begin row before its 101 leaves, and an end row when it ends, however it ends.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use shikiri_record::Ended;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until, timeout};

use crate::node::TunnelPermit;
use crate::slot::Kept;

/// Bytes that wait on their way, in each direction.
const BUFFER_BYTES: usize = 8 << 10;

/// How long a library may take to hand over a connection whose protocol was switched.
pub(crate) const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(5);

/// Both ends of what will be a tunnel.
pub(crate) struct Switched {
    /// The client's, once its 101 has left.
    pub(crate) client: OnUpgrade,
    /// The origin's, which has switched.
    pub(crate) origin: Upgraded,
    pub(crate) permit: TunnelPermit,
}

/// A tunnel that begins when its 101 has left.
pub(crate) struct Tunnel {
    pub(crate) ends: Switched,
    /// What a response holds until its last byte has left.
    pub(crate) kept: Kept,
}

impl Tunnel {
    /// Passes bytes both ways until both sides have ended, one fails, or nothing came from either for so
    /// long. One side may end and go on listening.
    pub(crate) async fn run(self, idle_time_max: Duration) {
        let Self { ends, mut kept } = self;
        let Switched {
            client,
            origin,
            permit,
        } = ends;
        let Ok(Ok(client)) = timeout(HAND_OVER_TIME_MAX, client).await else {
            return;
        };
        let seen = Arc::new(Mutex::new(Seen {
            last: Instant::now(),
            to_client: 0,
        }));
        let mut client = Noting::new(TokioIo::new(client), &seen, true);
        let mut origin = Noting::new(TokioIo::new(origin), &seen, false);
        let copying =
            copy_bidirectional_with_sizes(&mut client, &mut origin, BUFFER_BYTES, BUFFER_BYTES);
        let mut counting = pin!(Counting {
            kept: &mut kept,
            seen: &seen,
            copying: Box::pin(copying),
        });
        let ended = tokio::select! {
            biased;
            ended = counting.as_mut() => match ended {
                Ok(_) => Ended::Complete,
                Err(error) => {
                    tracing::debug!(%error, "a tunnel broke off");
                    Ended::Aborted
                }
            },
            () = idle(&seen, idle_time_max) => Ended::Cut,
        };
        kept.ends(ended);
        drop(permit);
    }
}

/// What was seen of a tunnel.
struct Seen {
    /// When a byte last came, from either side.
    last: Instant,
    /// Bytes that the client has taken.
    to_client: u64,
}

/// Ends when nothing has come for so long.
async fn idle(seen: &Mutex<Seen>, time_max: Duration) {
    loop {
        let last = lock(seen).last;
        sleep_until(last + time_max).await;
        if lock(seen).last == last {
            return;
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copying, with what the client took told to its row as it goes: the tunnel may be dropped at any time.
struct Counting<'a, F> {
    kept: &'a mut Kept,
    seen: &'a Mutex<Seen>,
    copying: Pin<Box<F>>,
}

impl<F: Future> Future for Counting<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let polled = this.copying.as_mut().poll(cx);
        this.kept.took(lock(this.seen).to_client);
        polled
    }
}

/// One side, noting what passes.
struct Noting<'a, IO> {
    io: IO,
    seen: &'a Mutex<Seen>,
    is_client: bool,
}

impl<'a, IO> Noting<'a, IO> {
    const fn new(io: IO, seen: &'a Mutex<Seen>, is_client: bool) -> Self {
        Self {
            io,
            seen,
            is_client,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Noting<'_, IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, out);
        if polled.is_ready() {
            lock(this.seen).last = Instant::now();
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Noting<'_, IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &polled
            && this.is_client
        {
            let count = u64::try_from(*count).expect("a length fits 64 bits");
            lock(this.seen).to_client += count;
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
