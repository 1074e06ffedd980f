//! How one client reaches us: what is known of a connection before its first request.
//!
//! A listener finds it out (`listen`); nothing changes it afterwards.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use shikiri_partition::{ClientCertificate, HostPattern, Scheme};

/// How a client reaches us on one connection.
#[derive(Clone, Debug)]
pub struct Transport {
    /// The client: who connected, or whom a trusted balancer names in the PROXY protocol.
    pub client: IpAddr,
    /// What is spoken.
    pub protocol: Protocol,
    /// What TLS told; `None` in cleartext.
    pub tls: Option<Tls>,
}

/// What is spoken on a connection, agreed on before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN or with prior knowledge.
    Http2,
}

/// What the TLS handshake told.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For which hosts the connection was made.
    pub names: ServedNames,
    /// The client's certificate, verified.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// For which hosts a TLS connection was made: a request on it for any other is misdirected (RFC 9110
/// 7.4), since the client's certificate, and what the client checked of ours, were for these.
#[derive(Clone, Debug)]
pub enum ServedNames {
    /// The server name that the client sent, lower case.
    Sent(Box<str>),
    /// The client sent none: the hosts of the tenant that takes such clients.
    Tenant(Arc<[HostPattern]>),
}

impl ServedNames {
    /// Whether a host (lower case, no port, no final dot) is one of them.
    #[must_use]
    pub fn hold(&self, host: &str) -> bool {
        match self {
            Self::Sent(name) => **name == *host,
            Self::Tenant(hosts) => hosts.iter().any(|pattern| pattern.matches(host)),
        }
    }
}

impl Transport {
    /// HTTP/1 in cleartext.
    #[must_use]
    pub fn plain(client: SocketAddr) -> Self {
        Self {
            client: client.ip().to_canonical(),
            protocol: Protocol::Http1,
            tls: None,
        }
    }

    /// HTTP/2 in cleartext, with prior knowledge (RFC 9113 3.3).
    #[must_use]
    pub fn plain_http2(client: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Http2,
            ..Self::plain(client)
        }
    }

    /// The scheme of its requests.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self.tls {
            None => Scheme::Http,
            Some(_) => Scheme::Https,
        }
    }

    /// The client's certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.certificate.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_serves_the_hosts_that_it_was_made_for() {
        let sent = ServedNames::Sent("shop.test".into());
        let tenant = ServedNames::Tenant(
            [
                HostPattern::Exact("shop.test".into()),
                HostPattern::Below(".shop.test".into()),
            ]
            .into(),
        );
        for (host, by_name, by_tenant) in [
            ("shop.test", true, true),
            ("www.shop.test", false, true),
            ("other.test", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (sent.hold(host), tenant.hold(host)),
                (by_name, by_tenant),
                "{host}"
            );
        }
    }
}
