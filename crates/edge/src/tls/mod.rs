//! TLS with clients: whose certificate is shown to whom, and what a client's own certificate is worth;
//! and with origins, whom we believe to be one ([`OriginTrust`]).
//!
//! A *tenant* is a set of hosts with one certificate. Everything that TLS keeps between connections
//! belongs to one tenant as it is configured and loaded: its ticket key, its sessions, its trust in client
//! certificates. So a ticket of one tenant is useless at another (M36: a client certificate checked for
//! one host, or for none, must not open another), and useless after a change of its own files.
//!
//! Never here: private keys in logs, a certificate for a host that it does not name, a guess for a server
//! name that nobody configured.
//!
//! Invariants: a tenant is loaded whole or not at all; a file that breaks later leaves the old in force
//! and needs somebody's attention. A client certificate is verified again whenever a session is resumed.

mod files;
mod handshake;
mod tenant;
mod trust;
mod validity;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use shikiri_partition::HostPattern;
use shikiri_record::UnixMillis;

pub use files::{FileFault, kept_from_others};
pub use handshake::{HandshakeFault, accept, hear};
use tenant::Tenant;
pub use tenant::TenantFault;
pub use trust::{OriginTrust, TrustFault};

use crate::transport::{ServedNames, most_said};

/// A tenant as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantConfig {
    /// The hosts that it is for. Its certificate must name each.
    pub hosts: Vec<HostPattern>,
    /// Its certificate, with what leads to a root: PEM.
    pub cert: PathBuf,
    /// The certificate's private key: PEM, not readable by others.
    pub key: PathBuf,
    /// Whether it takes clients that send no server name.
    pub takes_nameless: bool,
    /// Whose certificates clients may, or must, show.
    pub client_ca: Option<ClientCa>,
}

/// Which client certificates a tenant takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// The authorities: PEM.
    pub roots: PathBuf,
    /// What they have revoked: PEM, one list for each authority that revokes.
    pub revoked: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// Why tenants cannot be.
#[derive(Debug, thiserror::Error)]
pub enum TenantsFault {
    /// One cannot be loaded.
    #[error(transparent)]
    Tenant(#[from] TenantFault),
    /// A host of two tenants.
    #[error("`{0}` is a host of two [[tls]] tables: name it in one of them")]
    HostTwice(HostPattern),
    /// No host.
    #[error("the [[tls]] table with the certificate {} names no host: write `hosts = [\"shop.example.test\"]`", .0.display())]
    NoHost(PathBuf),
    /// More than one takes clients without a server name.
    #[error(
        "two [[tls]] tables say `default = true`, and a client that sends no server name can get one certificate only: leave it out of one"
    )]
    TwoNameless,
    /// None at all.
    #[error(
        "a listener speaks TLS and there is no certificate: write a [[tls]] table with `hosts`, `cert` and `key`"
    )]
    None,
}

/// All tenants of a node. Cheap to ask, replaced as a whole.
pub struct Tenants {
    tenants: arc_swap::ArcSwap<Vec<Arc<Tenant>>>,
    provider: Arc<CryptoProvider>,
    /// Loading happens one after another.
    loading: Mutex<()>,
}

/// A certificate in use, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The hosts of its tenant.
    pub hosts: Vec<String>,
    /// From when it is valid.
    pub not_before: UnixMillis,
    /// Until when it is valid.
    pub not_after: UnixMillis,
    /// What is wrong with the files as they are now, when they are not those in use.
    pub fault: Option<String>,
}

impl Tenants {
    /// Loads all tenants, or says what is wrong with the first that cannot be.
    ///
    /// # Errors
    /// [`TenantsFault`].
    pub fn load(configs: Vec<TenantConfig>) -> Result<Arc<Self>, TenantsFault> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tenants = tenants_of(configs, |config| {
            Tenant::load(config, &provider).map(Arc::new)
        })?;
        Ok(Arc::new(Self {
            tenants: arc_swap::ArcSwap::from_pointee(tenants),
            provider,
            loading: Mutex::new(()),
        }))
    }

    /// Puts these tenants in force; those of them that there are already load again what has changed on
    /// disk, each by itself: what cannot be loaded stays as it was. Connections go on as they began.
    /// Reads files: for a thread that may wait. Returns how many were loaded.
    ///
    /// # Errors
    /// When a new tenant cannot be, nothing has changed; else what is wrong with the files of each.
    pub fn apply(&self, configs: Vec<TenantConfig>) -> Result<usize, TenantsFault> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.tenants.load_full();
        let known = |config: &TenantConfig| old.iter().find(|tenant| tenant.config() == config);
        let (mut loaded, mut faults) = (0, Vec::new());
        let tenants = tenants_of(configs, |config| {
            if let Some(tenant) = known(&config) {
                return Ok(Arc::clone(tenant));
            }
            loaded += 1;
            Tenant::load(config, &self.provider).map(Arc::new)
        })?;
        for tenant in &tenants {
            match tenant.refresh(&self.provider) {
                Ok(refreshed) => loaded += usize::from(refreshed),
                Err(fault) => faults.push(fault),
            }
        }
        self.tenants.store(Arc::new(tenants));
        match faults.into_iter().reduce(TenantFault::and) {
            None => Ok(loaded),
            Some(fault) => Err(TenantsFault::Tenant(fault)),
        }
    }

    /// The files that the tenants are loaded from.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let tenants = self.tenants.load();
        let files = tenants.iter().flat_map(|tenant| tenant.files());
        files.cloned().collect()
    }

    /// What about the certificates needs somebody's attention.
    #[must_use]
    pub fn concern(&self, now: UnixMillis) -> Option<String> {
        let concerns: Vec<String> = self
            .tenants
            .load()
            .iter()
            .filter_map(|tenant| tenant.concern(now))
            .collect();
        (!concerns.is_empty()).then(|| concerns.join("; "))
    }

    /// When the first of the certificates in use ends.
    #[must_use]
    pub fn first_end(&self) -> Option<UnixMillis> {
        let tenants = self.tenants.load();
        tenants.iter().map(|tenant| tenant.status().not_after).min()
    }

    /// The certificates in use.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.tenants
            .load()
            .iter()
            .map(|tenant| tenant.status())
            .collect()
    }

    /// Whether who asks for this host (lower case, no port, no final dot) must show a certificate.
    pub(crate) fn require_certificate(&self, host: &str) -> bool {
        self.choose(Some(host))
            .is_some_and(|(tenant, _)| tenant.requires_certificate())
    }

    /// The tenant for a server name (lower case, no final dot), or for a client that sent none, and for
    /// which hosts the connection is: of two patterns, the one that says more counts.
    fn choose(&self, name: Option<&str>) -> Option<(Arc<Tenant>, ServedNames)> {
        let tenants = self.tenants.load();
        let Some(name) = name else {
            let tenant = tenants.iter().find(|tenant| tenant.takes_nameless())?;
            let others = tenants.iter().filter(|other| !Arc::ptr_eq(other, tenant));
            let names = ServedNames::Tenant {
                hosts: Arc::clone(tenant.hosts()),
                others: others
                    .flat_map(|other| other.hosts().iter().cloned())
                    .collect(),
            };
            return Some((Arc::clone(tenant), names));
        };
        let (_, tenant) = tenants
            .iter()
            .filter_map(|tenant| Some((most_said(tenant.hosts(), name)?, tenant)))
            .max_by_key(|(said, _)| *said)?;
        Some((Arc::clone(tenant), ServedNames::Sent(name.into())))
    }
}

/// All tenants, once it is known that they do not contradict each other.
fn tenants_of(
    configs: Vec<TenantConfig>,
    mut tenant: impl FnMut(TenantConfig) -> Result<Arc<Tenant>, TenantFault>,
) -> Result<Vec<Arc<Tenant>>, TenantsFault> {
    if configs.is_empty() {
        return Err(TenantsFault::None);
    }
    let mut hosts: Vec<&HostPattern> = Vec::new();
    for config in &configs {
        if config.hosts.is_empty() {
            return Err(TenantsFault::NoHost(config.cert.clone()));
        }
        for host in &config.hosts {
            if hosts.contains(&host) {
                return Err(TenantsFault::HostTwice(host.clone()));
            }
            hosts.push(host);
        }
    }
    if configs
        .iter()
        .filter(|config| config.takes_nameless)
        .count()
        > 1
    {
        return Err(TenantsFault::TwoNameless);
    }
    let mut tenants = Vec::new();
    for config in configs {
        tenants.push(tenant(config)?);
    }
    Ok(tenants)
}

impl std::fmt::Debug for Tenants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.tenants.load().iter().map(|tenant| tenant.names()))
            .finish()
    }
}
