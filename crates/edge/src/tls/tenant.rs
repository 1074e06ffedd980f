//! One tenant: its files, what TLS makes of them, and when they end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use shikiri_partition::HostPattern;
use shikiri_record::UnixMillis;

use super::files::{self, FileFault, Stamp};
use super::validity::validity;
use super::{CertificateStatus, ClientCa, TenantConfig};

/// Sessions kept for clients that take no tickets.
const SESSIONS_MAX: usize = 1_024;

/// Why a tenant cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TenantFault {
    /// A file is of no use.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The certificate cannot be used.
    #[error("the certificate {} cannot be used: {}", .0.display(), .1)]
    Certificate(PathBuf, rustls::Error),
    /// The key is of another certificate.
    #[error("the key {} does not belong to the certificate {}: {}", .0.display(), .1.display(), .2)]
    Key(PathBuf, PathBuf, rustls::Error),
    /// The certificate does not name a host.
    #[error("the certificate {} is not for `{}`: name a certificate that is, or leave the host out", .0.display(), .1)]
    Host(PathBuf, HostPattern),
    /// The authorities of client certificates cannot be used.
    #[error("{} cannot be used to verify client certificates: {}", .0.display(), .1)]
    ClientCa(PathBuf, String),
    /// Several cannot be loaded again.
    #[error("{0}; {1}")]
    Several(Box<Self>, Box<Self>),
    /// No randomness, or the like.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

impl TenantFault {
    pub(super) fn and(self, other: Self) -> Self {
        Self::Several(Box::new(self), Box::new(other))
    }
}

/// A tenant.
pub(super) struct Tenant {
    config: TenantConfig,
    hosts: Arc<[HostPattern]>,
    loaded: ArcSwap<Loaded>,
    /// What was found when the files were last looked at: their stamps, and what was wrong.
    looked: Mutex<(Vec<Stamp>, Option<String>)>,
}

/// What TLS made of a tenant's files.
pub(super) struct Loaded {
    /// Offers HTTP/2 and HTTP/1.1.
    pub(super) both: Arc<ServerConfig>,
    /// Offers HTTP/1.1 alone. Has everything else in common.
    pub(super) http1: Arc<ServerConfig>,
    /// Judges client certificates.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    validity: (UnixMillis, UnixMillis),
}

impl Tenant {
    pub(super) fn load(
        config: TenantConfig,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TenantFault> {
        let stamps = stamps(&config);
        let loaded = Loaded::of(&config, provider)?;
        Ok(Self {
            hosts: config.hosts.clone().into(),
            config,
            loaded: ArcSwap::from_pointee(loaded),
            looked: Mutex::new((stamps, None)),
        })
    }

    /// Loads again when a file has changed; whether it did.
    pub(super) fn refresh(&self, provider: &Arc<CryptoProvider>) -> Result<bool, TenantFault> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if !looked.0.iter().any(Stamp::has_changed) {
            return Ok(false);
        }
        let stamps = stamps(&self.config);
        let loaded = Loaded::of(&self.config, provider);
        *looked = (stamps, loaded.as_ref().err().map(ToString::to_string));
        self.loaded.store(Arc::new(loaded?));
        Ok(true)
    }

    pub(super) fn hosts(&self) -> &Arc<[HostPattern]> {
        &self.hosts
    }

    pub(super) fn takes_nameless(&self) -> bool {
        self.config.takes_nameless
    }

    pub(super) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }

    /// Whether a client must show a certificate.
    pub(super) fn requires_certificate(&self) -> bool {
        self.config.client_ca.as_ref().is_some_and(|ca| ca.required)
    }

    pub(super) const fn config(&self) -> &TenantConfig {
        &self.config
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        files_of(&self.config)
    }

    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        names.join(" ")
    }

    pub(super) fn status(&self) -> CertificateStatus {
        let (not_before, not_after) = self.loaded.load().validity;
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        CertificateStatus {
            hosts: self.hosts.iter().map(ToString::to_string).collect(),
            not_before,
            not_after,
            fault: looked.1.clone(),
        }
    }

    /// What about its certificate needs somebody's attention.
    pub(super) fn concern(&self, now: UnixMillis) -> Option<String> {
        let (from, until) = self.loaded.load().validity;
        let hosts = self.names();
        if now.0 > until.0 {
            return Some(format!(
                "the certificate for {hosts} has expired: clients refuse it"
            ));
        }
        if now.0 < from.0 {
            return Some(format!(
                "the certificate for {hosts} is not valid yet: clients refuse it"
            ));
        }
        let days = (until.0 - now.0) / DAY_MS;
        (days < EXPIRY_WARNING_DAYS)
            .then(|| format!("the certificate for {hosts} expires in {days} days: renew it"))
    }
}

/// How soon the end of a certificate is told of.
const EXPIRY_WARNING_DAYS: u64 = 14;
const DAY_MS: u64 = 24 * 3600 * 1000;

fn files_of(config: &TenantConfig) -> impl Iterator<Item = &PathBuf> {
    let client = config.client_ca.iter().flat_map(|ca| {
        let revoked = ca.revoked.as_ref();
        std::iter::once(&ca.roots).chain(revoked)
    });
    [&config.cert, &config.key].into_iter().chain(client)
}

fn stamps(config: &TenantConfig) -> Vec<Stamp> {
    files_of(config).map(|path| Stamp::of(path)).collect()
}

impl Loaded {
    fn of(config: &TenantConfig, provider: &Arc<CryptoProvider>) -> Result<Self, TenantFault> {
        let chain = files::certificates(&config.cert)?;
        let validity = is_for_all(config, &chain[0])?;
        let key = files::private_key(&config.key)?;
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| TenantFault::Key(config.key.clone(), config.cert.clone(), error))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TenantFault::Setup)?;
        let verifier = config
            .client_ca
            .as_ref()
            .map(|ca| verifier(ca, provider))
            .transpose()?;
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // Of this tenant as it is loaded now, and of no other: see the module.
        server.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        server.ticketer = Ticketer::new().map_err(TenantFault::Setup)?;
        // A request that can be replayed is no request (RFC 8446 8).
        server.max_early_data_size = 0;
        server.send_half_rtt_data = false;
        // Without it a resumed TLS 1.2 session can be spliced onto another client's (RFC 7627 1).
        server.require_ems = verifier.is_some();
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = server.clone();
        server.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self {
            both: Arc::new(server),
            http1: Arc::new(http1),
            verifier,
            validity,
        })
    }
}

/// Whether a certificate is for all hosts of its tenant; when it is, from when until when.
fn is_for_all(
    config: &TenantConfig,
    certificate: &CertificateDer<'_>,
) -> Result<(UnixMillis, UnixMillis), TenantFault> {
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|error| TenantFault::Certificate(config.cert.clone(), error))?;
    for host in &config.hosts {
        let name = match host {
            // Whichever host is asked for, some client will be disappointed: that is what it says.
            HostPattern::Any => continue,
            HostPattern::Exact(name) => name.trim_matches(['[', ']']).to_owned(),
            // What stands for any name below it.
            HostPattern::Below(suffix) => format!("any{suffix}"),
        };
        let named = ServerName::try_from(name.as_str())
            .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok());
        if !named {
            return Err(TenantFault::Host(config.cert.clone(), host.clone()));
        }
    }
    let millis = |seconds: u64| UnixMillis(seconds.saturating_mul(1_000));
    let (from, until) = validity(certificate).unwrap_or((0, u64::MAX));
    Ok((millis(from), millis(until)))
}

fn verifier(
    ca: &ClientCa,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TenantFault> {
    let fault =
        |error: &dyn std::fmt::Display| TenantFault::ClientCa(ca.roots.clone(), error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(&ca.roots)? {
        roots.add(certificate).map_err(|error| fault(&error))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(revoked) = &ca.revoked {
        // A certificate of an authority without a list is refused: unknown is not unrevoked.
        builder = builder.with_crls(files::revocations(revoked)?);
    }
    if !ca.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| fault(&error))
}
