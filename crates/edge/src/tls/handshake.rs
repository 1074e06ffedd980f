//! One handshake: which tenant, what was agreed on, and who the client is.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::Acceptor;
use rustls::{HandshakeKind, ServerConnection};
use shikiri_partition::ClientCertificate;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::Tenants;
use super::tenant::{Loaded, Tenant};
use crate::transport::{Protocol, Tls};

/// Bytes of a client's certificate: it goes to the origin with every request, a third larger.
const CERTIFICATE_BYTES_MAX: usize = 8 << 10;

/// A fatal alert that says that the server name is unknown (RFC 8446 6.2, RFC 6066 3): at this point
/// of a handshake still in the clear.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// Why a handshake gave no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFault {
    /// No tenant is for this server name, or for clients without one.
    #[error("no tenant has the server name that the client sent, or takes clients that send none")]
    UnknownName,
    /// The client ended, or broke the protocol, or has nothing in common with us.
    #[error("the handshake failed: {0}")]
    Failed(#[from] io::Error),
    /// The certificate of a resumed session is no longer good, or missing.
    #[error("the client's certificate is not good: {0}")]
    Certificate(rustls::Error),
    /// The client's certificate is too large to be told to an origin.
    #[error("the client's certificate has more than {CERTIFICATE_BYTES_MAX} bytes")]
    CertificateTooLarge,
}

/// Waits for a client's first word: nothing is computed before. Has no time limit of its own.
///
/// # Errors
/// The client ended, or did not begin a handshake.
pub async fn hear<IO>(io: IO) -> io::Result<StartHandshake<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    LazyConfigAcceptor::new(Acceptor::default(), io).await
}

/// Shakes hands with a client that has begun to. `http2`: whether HTTP/2 is offered. Has no time limit
/// of its own.
///
/// # Errors
/// [`HandshakeFault`]; the client has been told, where the protocol has a word for it.
pub async fn accept<IO>(
    tenants: &Tenants,
    mut start: StartHandshake<IO>,
    http2: bool,
) -> Result<(TlsStream<IO>, Tls, Protocol), HandshakeFault>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let name = start.client_hello().server_name().map(normal);
    let Some((tenant, names)) = tenants.choose(name.as_deref()) else {
        // Who has gone away already needs no alert.
        drop(start.io.write_all(&UNRECOGNIZED_NAME).await);
        drop(start.io.shutdown().await);
        return Err(HandshakeFault::UnknownName);
    };
    let loaded = tenant.loaded();
    let config = if http2 { &loaded.both } else { &loaded.http1 };
    let stream = start.into_stream(Arc::clone(config)).await?;
    let (_, connection) = stream.get_ref();
    let tls = Tls {
        names,
        certificate: certificate(connection, &tenant, &loaded)?,
    };
    let protocol = match connection.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Ok((stream, tls, protocol))
}

fn normal(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}

/// The client's certificate, verified in this handshake: a session that is resumed brings the
/// certificate of the one that it resumes, which may have ended meanwhile.
fn certificate(
    connection: &ServerConnection,
    tenant: &Tenant,
    loaded: &Loaded,
) -> Result<Option<Arc<ClientCertificate>>, HandshakeFault> {
    let shown = connection.peer_certificates();
    let Some([certificate, chain @ ..]) = shown else {
        // The library has seen to it; this is the second look.
        return if tenant.requires_certificate() {
            Err(HandshakeFault::Certificate(
                rustls::Error::NoCertificatesPresented,
            ))
        } else {
            Ok(None)
        };
    };
    if certificate.len() > CERTIFICATE_BYTES_MAX {
        return Err(HandshakeFault::CertificateTooLarge);
    }
    if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
        verify_again(loaded, certificate, chain)?;
    }
    Ok(Some(Arc::new(ClientCertificate::new(certificate))))
}

fn verify_again(
    loaded: &Loaded,
    certificate: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
) -> Result<(), HandshakeFault> {
    let Some(verifier) = &loaded.verifier else {
        return Err(HandshakeFault::Certificate(rustls::Error::General(
            "nobody asked for it".into(),
        )));
    };
    verifier
        .verify_client_cert(certificate, chain, UnixTime::now())
        .map(drop)
        .map_err(HandshakeFault::Certificate)
}
