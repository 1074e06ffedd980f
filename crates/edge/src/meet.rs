//! Meeting a client: all that comes before its first request.
//!
//! In this order, each only where the listener says so: whom a balancer connects for, the TLS
//! handshake, and which HTTP is spoken. Before anything is computed for a client, its address must have
//! a connection left ([`crate::shares`]). Everything here is bounded in bytes and in time; a client that
//! fails at it is closed on, and costs a line of the debug log.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::connection::{serve_connection, told_to_stop};
use crate::cut::Downstream;
use crate::listen::Listener;
use crate::meter::Running;
use crate::node::Worker;
use crate::proxy_protocol::{self, Proxied};
use crate::shares::Share;
use crate::tls::{self, HandshakeFault, Tenants};
use crate::transport::{Protocol, Transport};

/// What a client of HTTP/2 sends first (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why a client was closed on before its first request.
#[derive(Debug, thiserror::Error)]
enum Unmet {
    #[error("it took too long")]
    TooSlow,
    #[error("it ended: {0}")]
    Ended(#[from] io::Error),
    #[error("the PROXY protocol is spoken here by trusted addresses alone")]
    Untrusted,
    #[error("it did not begin with a PROXY protocol header")]
    NoProxyHeader,
    #[error("its address has its share of connections already")]
    TooManyOfOne,
    #[error("too many handshakes at once")]
    TooManyHandshakes,
    #[error("its address has its share of handshakes already")]
    TooManyHandshakesOfOne,
    #[error(transparent)]
    Handshake(#[from] HandshakeFault),
}

/// Serves whoever connected to a listener, until its connection ends or the node is told to stop.
pub async fn serve_client<IO>(
    worker: &Arc<Worker>,
    io: IO,
    peer: SocketAddr,
    listener: &Listener,
    mut stop: watch::Receiver<bool>,
) where
    IO: Downstream,
{
    let time_max = worker.limits().handshake_time_max;
    // On the heap for as long as it takes: a connection is idle for longer than it is met.
    let meeting = Box::pin(timeout(time_max, meet(worker, io, peer, listener)));
    let met = tokio::select! {
        biased;
        met = meeting => met.unwrap_or(Err(Unmet::TooSlow)),
        () = told_to_stop(&mut stop) => return,
    };
    match met {
        Ok((io, transport, share)) => {
            serve_connection(worker, io, transport, stop).await;
            drop(share);
        }
        Err(why) => tracing::debug!(%why, "a client was not met"),
    }
}

async fn meet<IO>(
    worker: &Worker,
    io: IO,
    peer: SocketAddr,
    listener: &Listener,
) -> Result<(ClientIo<IO>, Transport, Share), Unmet>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut io = Prefixed::new(io);
    let mut transport = Transport::plain(peer);
    if listener.proxy_protocol {
        if !worker.node().trusts(transport.client) {
            return Err(Unmet::Untrusted);
        }
        proxied(&mut io, &mut transport).await?;
    }
    let node = worker.node();
    let max = worker.limits().connections_per_address_max;
    let share = node.share(&node.shares.connections, transport.client, max);
    let share = share.ok_or(Unmet::TooManyOfOne)?;
    let Some(tenants) = &listener.tls else {
        if listener.http2 && begins_with(&mut io, PREFACE).await? {
            transport.protocol = Protocol::Http2;
        }
        return Ok((ClientIo::Plain(io), transport, share));
    };
    let (stream, tls, protocol) =
        handshake(worker, tenants, io, (transport.client, listener.http2)).await?;
    transport.tls = Some(tls);
    transport.protocol = protocol;
    Ok((ClientIo::Tls(Box::new(stream)), transport, share))
}

/// Takes the PROXY protocol's header from the front.
async fn proxied<IO: AsyncRead + Unpin>(
    io: &mut Prefixed<IO>,
    transport: &mut Transport,
) -> Result<(), Unmet> {
    loop {
        match proxy_protocol::read(&io.prefix) {
            Proxied::Header(client, length) => {
                io.prefix.advance(length);
                transport.client = client.unwrap_or(transport.client);
                return Ok(());
            }
            Proxied::Not => return Err(Unmet::NoProxyHeader),
            Proxied::More => io.read_more(proxy_protocol::HEADER_BYTES_MAX).await?,
        }
    }
}

/// Whether what comes begins with these bytes. Reads no further than it must.
async fn begins_with<IO: AsyncRead + Unpin>(
    io: &mut Prefixed<IO>,
    what: &[u8],
) -> Result<bool, Unmet> {
    loop {
        let length = io.prefix.len().min(what.len());
        if io.prefix[..length] != what[..length] {
            return Ok(false);
        }
        if length == what.len() {
            return Ok(true);
        }
        io.read_more(what.len()).await?;
    }
}

async fn handshake<IO>(
    worker: &Worker,
    tenants: &Tenants,
    io: Prefixed<IO>,
    (client, http2): (IpAddr, bool),
) -> Result<(TlsStream<Prefixed<IO>>, crate::transport::Tls, Protocol), Unmet>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    // Who says nothing takes no place from those who do.
    let start = tls::hear(io).await?;
    let (node, limits) = (worker.node(), worker.limits());
    let max = limits.handshakes_per_address_max;
    let share = node.share(&node.shares.handshakes, client, max);
    let _share = share.ok_or(Unmet::TooManyHandshakesOfOne)?;
    let running = Running::begin(&node.handshakes);
    if running.before >= limits.handshakes_max {
        return Err(Unmet::TooManyHandshakes);
    }
    Ok(tls::accept(tenants, start, http2).await?)
}

/// A connection of which something has been read already.
struct Prefixed<IO> {
    prefix: Bytes,
    io: IO,
}

impl<IO> Prefixed<IO> {
    const fn new(io: IO) -> Self {
        Self {
            prefix: Bytes::new(),
            io,
        }
    }
}

impl<IO: AsyncRead + Unpin> Prefixed<IO> {
    /// Reads once, so that no more than `max` bytes are held.
    async fn read_more(&mut self, max: usize) -> io::Result<()> {
        let mut bytes = vec![0; max];
        let held = self.prefix.len();
        bytes[..held].copy_from_slice(&self.prefix);
        let came = self.io.read(&mut bytes[held..]).await?;
        if came == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(held + came);
        self.prefix = bytes.into();
        Ok(())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, out);
        }
        let part = this.prefix.split_to(this.prefix.len().min(out.remaining()));
        out.put_slice(&part);
        if this.prefix.is_empty() {
            this.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl<IO: Downstream> Downstream for Prefixed<IO> {
    fn reset(&mut self) {
        self.io.reset();
    }
}

/// A client's connection, met: one type for all, so that what serves it is compiled once.
enum ClientIo<IO> {
    Plain(Prefixed<IO>),
    Tls(Box<TlsStream<Prefixed<IO>>>),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientIo<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, out),
            Self::Tls(io) => Pin::new(io).poll_read(cx, out),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientIo<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

impl<IO: Downstream> Downstream for ClientIo<IO> {
    fn reset(&mut self) {
        match self {
            Self::Plain(io) => io.reset(),
            Self::Tls(io) => io.reset(),
        }
    }
}
