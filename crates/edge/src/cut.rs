//! Cutting a client connection in the middle of something.
//!
//! A connection that ends in the usual way may look as if what was sent on it were whole: a body to an
//! HTTP/1.0 client ends where its connection does. And what was written before may still lie in the
//! kernel, which goes on sending it. So a connection that is cut is reset: nothing more leaves, and the
//! client is told that this was no end.
//!
//! Invariant: after [`Shears::cut`] no byte is written, and the connection's end is a reset.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client connection's bytes.
pub trait Downstream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection is about to be dropped: its end is to be a reset, and what was not sent is to be
    /// thrown away.
    fn reset(&mut self);
}

impl Downstream for TcpStream {
    fn reset(&mut self) {
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!(%error, "a connection that is cut ends without a reset");
        }
    }
}

impl<IO: Downstream> Downstream for TlsStream<IO> {
    fn reset(&mut self) {
        self.get_mut().0.reset();
    }
}

/// A pipe in memory has no reset.
impl Downstream for DuplexStream {
    fn reset(&mut self) {}
}

/// Cuts the connection that they were given to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shears(Arc<AtomicBool>);

impl Shears {
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn have_cut(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A connection that can be cut.
#[derive(Debug)]
pub(crate) struct Cuttable<IO: Downstream> {
    io: IO,
    shears: Shears,
}

impl<IO: Downstream> Cuttable<IO> {
    pub(crate) const fn new(io: IO, shears: Shears) -> Self {
        Self { io, shears }
    }

    fn check(&self) -> io::Result<()> {
        if self.shears.have_cut() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl<IO: Downstream> Drop for Cuttable<IO> {
    fn drop(&mut self) {
        if self.shears.have_cut() {
            self.io.reset();
        }
    }
}

impl<IO: Downstream> AsyncRead for Cuttable<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl<IO: Downstream> AsyncWrite for Cuttable<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
