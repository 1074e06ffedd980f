//! Where clients come in: `[[listen]]` and `[[tls]]` of the config file, and `--listen`.
//!
//! Invariant: what contradicts itself, or would leave clients less safe than its writer believes, is
//! refused with a sentence that says what to change; nothing listens then.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use shikiri_edge::TrustedNetwork;
use shikiri_edge::listen::Listener;
use shikiri_edge::tls::{ClientCa, TenantConfig, Tenants};
use shikiri_partition::HostPattern;

use crate::config::{Address, ConfigFile, Parsed};

/// `[[listen]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenSection {
    address: Parsed<ListenAddress>,
    http2: Option<bool>,
    #[serde(default)]
    proxy_protocol: bool,
    socket: Option<String>,
}

/// `[[tls]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    hosts: Vec<Parsed<HostPattern>>,
    cert: PathBuf,
    key: PathBuf,
    #[serde(default)]
    default: bool,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
    client_auth: Option<Parsed<ClientAuth>>,
}

/// Where to listen, and whether TLS is spoken there: `https://` or `http://` before an address and a
/// port; `http://` when nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    https: bool,
    address: SocketAddr,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (https, address) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://").unwrap_or(text)),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        match address.parse() {
            Ok(Address(address)) => Ok(Self { https, address }),
            Err(_) => Err(format!(
                "`{text}` is nothing to listen on: write 127.0.0.1:8080, https://0.0.0.0:443 or http://[::]:80"
            )),
        }
    }
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientAuth {
    Required,
    Optional,
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(Self::Required),
            "optional" => Ok(Self::Optional),
            _ => Err(format!(
                "`client_auth` cannot be `{text}`: write \"required\" or \"optional\""
            )),
        }
    }
}

/// Where clients come in, decided.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) listen: Vec<Door>,
    pub(crate) tls: Vec<TenantConfig>,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) https: bool,
    pub(crate) http2: bool,
    pub(crate) proxy_protocol: bool,
    /// The name of a socket of the service manager that is to be listened on instead.
    pub(crate) socket: Option<String>,
}

impl Door {
    fn of(address: ListenAddress, http2: Option<bool>, proxy_protocol: bool) -> Self {
        Self {
            address: address.address,
            https: address.https,
            // In cleartext no browser speaks it: only who knows beforehand that it is spoken.
            http2: http2.unwrap_or(address.https),
            proxy_protocol,
            socket: None,
        }
    }
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)?;
        if self.http2 != self.https {
            f.write_str(if self.http2 {
                ", HTTP/2 too"
            } else {
                ", no HTTP/2"
            })?;
        }
        if self.proxy_protocol {
            f.write_str(", PROXY protocol")?;
        }
        Ok(())
    }
}

impl Doors {
    /// Flags over the file over `default`.
    ///
    /// # Errors
    /// What contradicts itself, and what to change.
    pub(crate) fn of(
        flags: &[ListenAddress],
        config: &ConfigFile,
        trust: &[TrustedNetwork],
        default: SocketAddr,
    ) -> Result<Self, String> {
        let flags = flags.iter().map(|address| Door::of(*address, None, false));
        let mut listen: Vec<Door> = flags.collect();
        if listen.is_empty() {
            let file = config.listen.iter();
            listen.extend(file.map(|l| Door {
                socket: l.socket.clone(),
                ..Door::of(l.address.0, l.http2, l.proxy_protocol)
            }));
        }
        if listen.is_empty() {
            let address = ListenAddress {
                https: false,
                address: default,
            };
            listen.push(Door::of(address, None, false));
        }
        let tls = config.tls.iter().map(|section| tenant(section, config));
        let tls = tls.collect::<Result<Vec<_>, _>>()?;
        if !tls.is_empty() && !listen.iter().any(|door| door.https) {
            return Err(
                "there is a [[tls]] table, and no listener speaks TLS: write `https://` before an address to \
                 listen on, or leave the table out"
                    .into(),
            );
        }
        if let Some(door) = listen.iter().find(|door| door.proxy_protocol) {
            says_who_may_speak_for_others(door, trust)?;
        }
        Ok(Self { listen, tls })
    }

    /// Listens on sockets of the service manager where one has the name that is asked for.
    pub(crate) fn find_named(&mut self, named: &[(String, SocketAddr)]) {
        for door in &mut self.listen {
            let given = named
                .iter()
                .find(|(name, _)| door.socket.as_ref() == Some(name));
            if let Some((_, address)) = given {
                door.address = *address;
            }
        }
    }

    /// Loads the certificates. The tenants are none when no listener speaks TLS.
    ///
    /// # Errors
    /// What is wrong with a certificate, and what to change.
    pub(crate) fn open(&self) -> Result<(Vec<Listener>, Option<Arc<Tenants>>), String> {
        let tenants = if self.listen.iter().any(|door| door.https) {
            Some(Tenants::load(self.tls.clone()).map_err(|fault| fault.to_string())?)
        } else {
            None
        };
        let listeners = self.listen.iter().map(|door| Listener {
            address: door.address,
            tls: tenants.clone().filter(|_| door.https),
            http2: door.http2,
            proxy_protocol: door.proxy_protocol,
        });
        Ok((listeners.collect(), tenants))
    }
}

/// Whoever may send a PROXY protocol header may name any client: somebody must, and not everybody, which
/// no node starts with.
fn says_who_may_speak_for_others(door: &Door, trust: &[TrustedNetwork]) -> Result<(), String> {
    if trust.is_empty() {
        return Err(format!(
            "the listener on {} takes the PROXY protocol, from trusted addresses alone, and no address is \
             trusted: name the balancer in `trust`",
            door.address
        ));
    }
    Ok(())
}

fn tenant(section: &TlsSection, config: &ConfigFile) -> Result<TenantConfig, String> {
    let client_ca = match (
        &section.client_ca,
        &section.client_crl,
        &section.client_auth,
    ) {
        (Some(roots), revoked, auth) => Some(ClientCa {
            roots: config.path(roots),
            revoked: revoked.as_deref().map(|path| config.path(path)),
            required: auth
                .as_ref()
                .is_none_or(|auth| auth.0 == ClientAuth::Required),
        }),
        (None, None, None) => None,
        (None, ..) => {
            return Err(format!(
                "the [[tls]] table with the certificate {} asks for client certificates and does not say \
                 whose: write `client_ca = \"FILE\"`, or leave `client_auth` and `client_crl` out",
                section.cert.display()
            ));
        }
    };
    Ok(TenantConfig {
        hosts: section.hosts.iter().map(|host| host.0.clone()).collect(),
        cert: config.path(&section.cert),
        key: config.path(&section.key),
        takes_nameless: section.default,
        client_ca,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const DEFAULT: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

    fn doors(flags: &[&str], text: &str, trust: &[&str]) -> Result<Doors, String> {
        let config = parse("e.toml", &format!("version = 1\n{text}")).unwrap();
        let flags: Vec<ListenAddress> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
        let trust: Vec<TrustedNetwork> = trust.iter().map(|net| net.parse().unwrap()).collect();
        Doors::of(&flags, &config, &trust, DEFAULT)
    }

    const TLS: &str = "[[tls]]\nhosts = [\"shop.test\"]\ncert = \"c.pem\"\nkey = \"k.pem\"\n";

    #[test]
    fn an_address_says_whether_tls_is_spoken() {
        for (text, expected) in [
            ("127.0.0.1:80", Some((false, "127.0.0.1:80"))),
            ("http://127.0.0.1:80", Some((false, "127.0.0.1:80"))),
            ("https://[::]:443/", Some((true, "[::]:443"))),
            ("https://shop.test:443", None),
            ("443", None),
            ("ftp://127.0.0.1:21", None),
        ] {
            let read = text.parse::<ListenAddress>().ok();
            let read = read.map(|read| (read.https, read.address.to_string()));
            let expected = expected.map(|(https, address)| (https, address.to_owned()));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn flags_over_the_file_over_the_default() {
        let file = format!(
            "[[listen]]\naddress = \"https://0.0.0.0:443\"\n[[listen]]\naddress = \"127.0.0.1:81\"\n\
             http2 = true\nproxy_protocol = true\n{TLS}"
        );
        let told = doors(&[], &file, &["127.0.0.1"]).unwrap();
        let door = |address: &str, https, http2, proxy_protocol| Door {
            address: address.parse().unwrap(),
            https,
            http2,
            proxy_protocol,
            socket: None,
        };
        assert_eq!(
            told.listen,
            [
                door("0.0.0.0:443", true, true, false),
                door("127.0.0.1:81", false, true, true)
            ]
        );
        let told = doors(&["https://127.0.0.1:1"], &file, &[]).unwrap();
        assert_eq!(told.listen, [door("127.0.0.1:1", true, true, false)]);
        let told = doors(&[], "", &[]).unwrap();
        assert_eq!(told.listen, [door("127.0.0.1:8080", false, false, false)]);
    }

    #[test]
    fn a_socket_that_is_given_by_name_stands_for_the_address() {
        let file = "[[listen]]\naddress = \"0.0.0.0:80\"\nsocket = \"web\"\n[[listen]]\naddress = \"0.0.0.0:81\"\n";
        let mut told = doors(&[], file, &[]).unwrap();
        let at = |name: &str, port| (name.to_owned(), SocketAddr::from(([127, 0, 0, 1], port)));
        told.find_named(&[at("other", 1)]);
        assert_eq!(told.listen[0].address.port(), 80);
        told.find_named(&[at("other", 1), at("web", 2)]);
        let ports: Vec<u16> = told.listen.iter().map(|door| door.address.port()).collect();
        assert_eq!(ports, [2, 81]);
    }

    #[test]
    fn a_tenant_says_whose_client_certificates_it_takes() {
        let told = |more: &str| {
            let tls = format!("{TLS}{more}");
            doors(&["https://127.0.0.1:1"], &tls, &[])
                .map(|mut doors| doors.tls.remove(0).client_ca)
        };
        let ca = |required, revoked: Option<&str>| ClientCa {
            roots: "ca.pem".into(),
            revoked: revoked.map(Into::into),
            required,
        };
        assert_eq!(told("").unwrap(), None);
        assert_eq!(
            told("client_ca = \"ca.pem\"").unwrap(),
            Some(ca(true, None))
        );
        assert_eq!(
            told("client_ca = \"ca.pem\"\nclient_auth = \"optional\"\nclient_crl = \"r.pem\"")
                .unwrap(),
            Some(ca(false, Some("r.pem")))
        );
        for more in ["client_auth = \"required\"", "client_crl = \"r.pem\""] {
            assert!(
                told(more).unwrap_err().contains("write `client_ca"),
                "{more}"
            );
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_dangerous_is_refused() {
        let proxied = "[[listen]]\naddress = \"127.0.0.1:1\"\nproxy_protocol = true\n";
        for (text, saying) in [
            (TLS, "no listener speaks TLS"),
            (proxied, "no address is trusted"),
        ] {
            let why = doors(&[], text, &[]).unwrap_err();
            assert!(why.contains(saying), "{why}");
        }
        let why = doors(&["https://127.0.0.1:1"], "", &[])
            .unwrap()
            .open()
            .unwrap_err();
        assert!(why.contains("write a [[tls]] table"), "{why}");
    }
}
