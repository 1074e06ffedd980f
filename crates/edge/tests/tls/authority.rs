//! Certificates for tests: an authority, what it certifies, and a folder to keep them in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Whoever certifies.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Certified {
    certificate: Certificate,
    key: KeyPair,
    serial: u64,
}

/// A time as `rcgen` has it: of a day.
pub(crate) fn day(year: i32) -> impl Fn(&mut CertificateParams) {
    move |params| params.not_after = rcgen::date_time_ymd(year, 1, 1)
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A server's certificate.
    pub(crate) fn certify(&self, hosts: &[&str]) -> Certified {
        self.certify_as(hosts, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// A client's certificate.
    pub(crate) fn certify_client(&self, name: &str) -> Certified {
        self.certify_as(&[name], ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    pub(crate) fn certify_as(
        &self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        change: impl Fn(&mut CertificateParams),
    ) -> Certified {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![purpose];
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Certified {
            certificate: params.signed_by(&key, &self.issuer).unwrap(),
            key,
            serial,
        }
    }

    /// A list of what is revoked.
    pub(crate) fn revoke(&self, revoked: &[&Certified]) -> String {
        let revoked = revoked.iter().map(|certified| RevokedCertParams {
            serial_number: SerialNumber::from(certified.serial),
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect::<Vec<_>>(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A client that believes this authority alone.
    pub(crate) fn client(&self, alpn: &str) -> ClientConfig {
        self.client_with(alpn, None)
    }

    pub(crate) fn client_with(&self, alpn: &str, shows: Option<&Certified>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut client = match shows {
            None => builder.with_no_client_auth(),
            Some(shown) => builder
                .with_client_auth_cert(vec![shown.der()], shown.key())
                .unwrap(),
        };
        client.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        client.resumption = Resumption::disabled();
        client
    }
}

impl Certified {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// As `NAME.pem` and `NAME.key`.
    pub(crate) fn save(&self, folder: &Folder, name: &str) {
        folder.write(&format!("{name}.pem"), &self.certificate.pem());
        folder.write_secret(&format!("{name}.key"), &self.key.serialize_pem());
    }
}

/// A folder that goes when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "shikiri-tls-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Beside, then renamed: nobody reads a half of it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let beside = self.path("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    pub(crate) fn write_secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let beside = self.path("beside-secret");
        std::fs::write(&beside, text).unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
