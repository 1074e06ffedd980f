//! The other end of a connection to an origin: where it listens and how it is spoken to.
//!
//! It is a part of every key, and what pools of connections are told apart by: two that differ in
//! anything here are two, though they may be one machine.

use std::fmt;

use crate::request::Scheme;

/// Where an origin listens and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream {
    /// Host name or address, lower case; IPv6 without brackets.
    pub address: Box<str>,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub spoken: Spoken,
}

/// How an origin is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spoken {
    /// HTTP/1.1 in cleartext.
    Http1,
    /// HTTP/2 in cleartext, with prior knowledge (RFC 9113 3.3).
    Http2,
    /// TLS, and in it HTTP/2 or HTTP/1.1, as is agreed on.
    Tls {
        /// A file with the authorities that may certify it; `None`: those of the system.
        ca: Option<Box<str>>,
        /// The name that its certificate must bear, when it is not its address.
        server_name: Option<Box<str>>,
    },
}

impl Upstream {
    /// The name that its certificate must bear.
    #[must_use]
    pub fn server_name(&self) -> &str {
        match &self.spoken {
            Spoken::Tls {
                server_name: Some(name),
                ..
            } => name,
            _ => &self.address,
        }
    }

    /// Host and port as one name, without the scheme's default port.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.address.contains(':') {
            format!("[{}]", self.address)
        } else {
            self.address.to_string()
        };
        if self.port == self.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// The scheme of what it is asked.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self.spoken {
            Spoken::Http1 | Spoken::Http2 => Scheme::Http,
            Spoken::Tls { .. } => Scheme::Https,
        }
    }

    const fn default_port(&self) -> u16 {
        match self.scheme() {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// As in a policy.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.spoken {
            Spoken::Http1 => "http",
            Spoken::Http2 => "h2c",
            Spoken::Tls { .. } => "https",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}
