//! The node behind TLS and the PROXY protocol, with certificates made here and rustls' own client at
//! the other end of a pipe. Time is real: handshakes compute, and files change.

#[path = "../world/mod.rs"]
#[expect(
    dead_code,
    reason = "what both test programs share, neither uses whole"
)]
mod world;

mod authority;
mod clients;
mod origins;
mod proxied;
mod reload;
mod tenants;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use shikiri_edge::listen::Listener;
use shikiri_edge::serve_client;
use shikiri_edge::tls::{TenantConfig, Tenants};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use authority::{Authority, Folder};
use world::{Reply, TestNode, reply};

/// An address that nobody trusts.
const STRANGER: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5)),
    40000,
);

/// A node that listens with TLS, and the authority that its clients believe.
struct Site {
    node: TestNode,
    listener: Listener,
    tenants: Arc<Tenants>,
    configs: Vec<TenantConfig>,
    authority: Authority,
    folder: Folder,
}

impl Site {
    /// Tenants for these hosts, each with a certificate of its own.
    fn new(hosts: &[&str]) -> Self {
        Self::with(hosts, |config| config, |_| reply("200 OK", "hello"))
    }

    fn with(
        hosts: &[&str],
        each: impl Fn(TenantConfig) -> TenantConfig,
        answers: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let folder = Folder::new();
        let authority = Authority::new("clients believe it");
        let configs = hosts.iter().map(|host| {
            authority.certify(&[host]).save(&folder, host);
            each(tenant(&folder, host))
        });
        let configs: Vec<TenantConfig> = configs.collect();
        let tenants = Tenants::load(configs.clone()).unwrap();
        let listener = Listener {
            tls: Some(Arc::clone(&tenants)),
            http2: true,
            ..Listener::plain(STRANGER)
        };
        Self {
            node: TestNode::new("", answers),
            listener,
            tenants,
            configs,
            authority,
            folder,
        }
    }

    /// The client's end of a connection before anything is said on it.
    fn wire(&self) -> DuplexStream {
        met(&self.node, STRANGER, &self.listener)
    }

    /// Looks at the files again, as the node does each second: how many were loaded, or what is wrong.
    fn refresh(&self) -> Result<usize, String> {
        let applied = self.tenants.apply(self.configs.clone());
        applied.map_err(|fault| fault.to_string())
    }

    /// A client that believes our authority, offers this protocol, and shows no certificate.
    fn client(&self, alpn: &str) -> ClientConfig {
        self.authority.client(alpn)
    }

    /// Shakes hands.
    async fn connect(
        &self,
        client: &ClientConfig,
        name: &str,
    ) -> std::io::Result<TlsStream<DuplexStream>> {
        connect(self.wire(), client, name).await
    }

    /// One `GET /` for this host on a connection with this server name: what was answered, or why there
    /// was no handshake.
    async fn get(&self, client: &ClientConfig, name: &str, host: &str) -> Result<String, String> {
        let mut stream = self
            .connect(client, name)
            .await
            .map_err(|e| e.to_string())?;
        ask(&mut stream, host).await
    }
}

/// The client's end of a connection to a listener, before anything was said on it.
fn met(node: &TestNode, peer: SocketAddr, listener: &Listener) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (worker, stop) = (Arc::clone(&node.worker), node.stop.subscribe());
    let listener = listener.clone();
    tokio::spawn(async move { serve_client(&worker, theirs, peer, &listener, stop).await });
    ours
}

fn tenant(folder: &Folder, host: &str) -> TenantConfig {
    TenantConfig {
        hosts: vec![host.parse().unwrap()],
        cert: folder.path(&format!("{host}.pem")),
        key: folder.path(&format!("{host}.key")),
        takes_nameless: false,
        client_ca: None,
    }
}

async fn connect(
    wire: DuplexStream,
    client: &ClientConfig,
    name: &str,
) -> std::io::Result<TlsStream<DuplexStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(client.clone()))
        .connect(name, wire)
        .await
}

/// One `GET /` for this host: the whole answer, or why there was none. What the other side still says
/// of the handshake is read by then.
async fn ask(stream: &mut TlsStream<DuplexStream>, host: &str) -> Result<String, String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let failed = |error: std::io::Error| error.to_string();
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Ok(_) if !answer.is_empty() => Ok(String::from_utf8_lossy(&answer).into_owned()),
        Ok(_) => Err("closed without an answer".into()),
        Err(error) => Err(failed(error)),
    }
}

/// The same client, with sessions of its own.
fn remembering(mut client: ClientConfig) -> ClientConfig {
    client.resumption = Resumption::in_memory_sessions(16);
    client
}
