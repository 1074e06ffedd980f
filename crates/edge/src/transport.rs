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
    /// The client sent none: the hosts of the tenant that takes such clients, but none for which a
    /// pattern of the others says more.
    Tenant {
        /// The tenant's.
        hosts: Arc<[HostPattern]>,
        /// Those of all other tenants.
        others: Arc<[HostPattern]>,
    },
}

impl ServedNames {
    /// Whether a host (lower case, no port, no final dot) is one of them.
    #[must_use]
    pub fn hold(&self, host: &str) -> bool {
        match self {
            Self::Sent(name) => **name == *host,
            Self::Tenant { hosts, others } => most_said(hosts, host) > most_said(others, host),
        }
    }
}

/// How much that pattern says of a host that says most of it; `None` when none matches. The tenant
/// that says most of a host is its own, and no two say as much.
pub(crate) fn most_said(patterns: &[HostPattern], host: &str) -> Option<usize> {
    let matching = patterns.iter().filter(|pattern| pattern.matches(host));
    matching.map(specificity).max()
}

/// How much a pattern says: no two patterns of one length match one name.
const fn specificity(pattern: &HostPattern) -> usize {
    match pattern {
        HostPattern::Any => 0,
        HostPattern::Below(suffix) => suffix.len(),
        HostPattern::Exact(_) => usize::MAX,
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
        let exact = |host: &str| HostPattern::Exact(host.into());
        let below = |suffix: &str| HostPattern::Below(suffix.into());
        let sent = ServedNames::Sent("shop.test".into());
        let tenant = ServedNames::Tenant {
            hosts: [exact("shop.test"), below(".shop.test")].into(),
            others: [
                exact("members.shop.test"),
                below(".in.shop.test"),
                HostPattern::Any,
            ]
            .into(),
        };
        let any = ServedNames::Tenant {
            hosts: [HostPattern::Any].into(),
            others: [below(".shop.test")].into(),
        };
        for (host, by_name, by_tenant, by_any) in [
            ("shop.test", true, true, true),
            ("www.shop.test", false, true, false),
            // Another tenant's pattern says more.
            ("members.shop.test", false, false, false),
            ("a.in.shop.test", false, false, false),
            ("in.shop.test", false, true, false),
            ("other.test", false, false, true),
            ("", false, false, true),
        ] {
            assert_eq!(
                (sent.hold(host), tenant.hold(host), any.hold(host)),
                (by_name, by_tenant, by_any),
                "{host}"
            );
        }
    }
}
