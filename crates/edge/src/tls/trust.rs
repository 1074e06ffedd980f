//! Whom we believe to be an origin.
//!
//! Each `ca` of a policy, and the system's authorities, is a trust of its own: what one certifies says
//! nothing under another. No session with an origin is ever resumed: some origins take the session for
//! the member's (`SSL_SESSION_ID`), and then two viewers would be one (ADR 10).
//!
//! Invariant: an origin that is not certified for its name by whom policy names is not spoken to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use shikiri_partition::{Rules, Spoken};

use super::files::{self, FileFault, Stamp};

/// Why it is not known whom to believe.
#[derive(Debug, thiserror::Error)]
pub enum TrustFault {
    /// The file is of no use.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The system has no authorities.
    #[error(
        "this system knows no authorities to certify an origin with: install its `ca-certificates`, or name a file with `ca` in the [[origin]]"
    )]
    NoSystemRoots,
    /// An authority cannot be used.
    #[error("{0} cannot be used to certify origins: {1}")]
    Authority(String, rustls::Error),
    /// TLS cannot be set up.
    #[error("TLS with origins cannot be set up: {0}")]
    Setup(rustls::Error),
    /// Several.
    #[error("{0}; {1}")]
    Several(Box<Self>, Box<Self>),
}

/// Whom a node believes, as far as it was asked.
pub struct OriginTrust {
    provider: Arc<CryptoProvider>,
    held: Mutex<BTreeMap<Ca, Held>>,
}

/// A file with authorities, or the system's own.
type Ca = Option<Box<str>>;

struct Held {
    /// Offers HTTP/2 and HTTP/1.1.
    both: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    stamp: Option<Stamp>,
}

impl Default for OriginTrust {
    fn default() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            held: Mutex::default(),
        }
    }
}

impl OriginTrust {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ca, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads what these rules name, so that no request is the first to find a file missing; and forgets
    /// what they do not.
    ///
    /// # Errors
    /// What is wrong with a file; what was held stays held.
    pub fn prepare(&self, rules: &Rules) -> Result<(), TrustFault> {
        let named = || {
            rules.origins().iter().filter_map(|origin| {
                let Spoken::Tls { ca, .. } = &origin.upstream.spoken else {
                    return None;
                };
                Some(ca)
            })
        };
        for ca in named() {
            self.config(ca, true)?;
        }
        self.lock().retain(|held, _| named().any(|ca| ca == held));
        Ok(())
    }

    /// What a connection begins with. `http2`: whether that is offered.
    pub(crate) fn config(&self, ca: &Ca, http2: bool) -> Result<Arc<ClientConfig>, TrustFault> {
        let mut held = self.lock();
        let held = match held.get(ca) {
            Some(held) => held,
            None => {
                let loaded = Held::load(ca, &self.provider)?;
                held.entry(ca.clone()).or_insert(loaded)
            }
        };
        Ok(Arc::clone(if http2 { &held.both } else { &held.http1 }))
    }

    /// The files that are believed.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let held = self.lock();
        held.keys()
            .flatten()
            .map(|ca| PathBuf::from(&**ca))
            .collect()
    }

    /// Loads again what has changed on disk; returns how many.
    ///
    /// # Errors
    /// What is wrong with the files; the old ones stay then.
    pub fn refresh(&self) -> Result<usize, TrustFault> {
        let (mut loaded, mut faults) = (0, Vec::new());
        for (ca, held) in self.lock().iter_mut() {
            if !held.stamp.as_ref().is_some_and(Stamp::has_changed) {
                continue;
            }
            match Held::load(ca, &self.provider) {
                Ok(new) => {
                    loaded += 1;
                    *held = new;
                }
                Err(fault) => faults.push(fault),
            }
        }
        let and = |one, other| TrustFault::Several(Box::new(one), Box::new(other));
        faults.into_iter().reduce(and).map_or(Ok(loaded), Err)
    }
}

impl Held {
    fn load(ca: &Ca, provider: &Arc<CryptoProvider>) -> Result<Self, TrustFault> {
        let mut roots = RootCertStore::empty();
        let mut stamp = None;
        if let Some(ca) = ca {
            stamp = Some(Stamp::of(Path::new(&**ca)));
            for certificate in files::certificates(Path::new(&**ca))? {
                let added = roots.add(certificate);
                added.map_err(|error| TrustFault::Authority(ca.to_string(), error))?;
            }
        } else {
            // One of the system's that cannot be read is one less to believe.
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                return Err(TrustFault::NoSystemRoots);
            }
        }
        let mut client = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TrustFault::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = client.clone();
        client.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self {
            both: Arc::new(client),
            http1: Arc::new(http1),
            stamp,
        })
    }
}
