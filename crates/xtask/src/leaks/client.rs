//! The clients of a script: one request at a time, as bytes, and every byte that came back.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::script::{Ask, HOST, Handshake, Identity, Script};
use super::tls::Through;
use super::token::{self, token};
use super::wire::Incoming;

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long after the last byte a raw exchange is taken to be over.
const SILENCE: Duration = Duration::from_millis(400);

/// Who takes part, each with an address of the loopback.
#[derive(Clone, Debug)]
pub(crate) struct Viewers {
    pub(crate) nonce: String,
    members: Vec<String>,
    identities: Vec<Identity>,
    pub(crate) addresses: BTreeMap<String, IpAddr>,
}

impl Viewers {
    pub(crate) fn new(
        script: &Script,
        names: impl IntoIterator<Item = String>,
        nonce: &str,
    ) -> Self {
        let mut addresses = BTreeMap::new();
        for name in names {
            let next = u8::try_from(addresses.len() + 1).expect("a script has few viewers");
            addresses
                .entry(name)
                .or_insert(IpAddr::V4(Ipv4Addr::new(127, 0, 77, next)));
        }
        Self {
            nonce: nonce.to_owned(),
            members: script.members.clone(),
            identities: script.identities.clone(),
            addresses,
        }
    }

    fn credential(&self, viewer: &str) -> String {
        token(viewer, &self.nonce, 0)
    }

    /// `{me}` and `{of NAME}` become the viewers' own tokens.
    fn fill(&self, viewer: &str, template: &str) -> String {
        let mut text = template.replace("{me}", &self.credential(viewer));
        while let Some((before, after)) = text.split_once("{of ") {
            let Some((name, after)) = after.split_once('}') else {
                break;
            };
            text = format!("{before}{}{after}", self.credential(name));
        }
        text
    }

    /// A request as it goes on the wire.
    fn bytes(&self, ask: &Ask) -> Vec<u8> {
        let viewer = ask.viewer.as_str();
        if let Some(raw) = &ask.raw {
            return self.fill(viewer, raw).into_bytes();
        }
        let host = ask.host.as_deref().unwrap_or(HOST);
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\n",
            ask.method,
            self.fill(viewer, &ask.target)
        );
        for (name, value) in self.fields(ask) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = ask.body.as_deref().map(|body| self.fill(viewer, body));
        if let Some(body) = &body
            && !ask.http2
            && !has(ask, "transfer-encoding")
            && !has(ask, "content-length")
        {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.push_str(body.as_deref().unwrap_or_default());
        head.into_bytes()
    }

    /// The viewer's credentials, and what the step says.
    fn fields(&self, ask: &Ask) -> Vec<(String, String)> {
        let viewer = ask.viewer.as_str();
        let mut fields = Vec::new();
        if !ask.without_credentials && self.members.iter().any(|m| m == viewer) {
            let credential = self.credential(viewer);
            for identity in &self.identities {
                let (name, value) = match identity {
                    Identity::Cookie(name) => ("Cookie", format!("{name}={credential}")),
                    Identity::Bearer => ("Authorization", format!("Bearer {credential}")),
                    Identity::Header(name) => (name.as_str(), credential.clone()),
                    Identity::Target
                    | Identity::Body
                    | Identity::Address
                    | Identity::Connection => continue,
                };
                if !has(ask, name) {
                    fields.push((name.to_owned(), value));
                }
            }
        }
        for (name, value) in &ask.headers {
            fields.push((name.clone(), self.fill(viewer, value)));
        }
        fields
    }

    /// A request as HTTP/2 has it; what the step says of a pseudo-field goes before what it would be.
    fn http2_fields(&self, ask: &Ask) -> Vec<(String, String)> {
        let host = ask.host.as_deref().unwrap_or(HOST);
        let target = self.fill(&ask.viewer, &ask.target);
        let pseudo = [
            (":method", ask.method.as_str()),
            (":scheme", "https"),
            (":authority", host),
            (":path", &target),
        ];
        let (said, others): (Vec<_>, Vec<_>) = self
            .fields(ask)
            .into_iter()
            .partition(|(name, _)| name.starts_with(':'));
        let pseudo = pseudo.map(|(name, value)| {
            let said = said.iter().find(|(said, _)| said == name);
            let value = said.map_or(value, |(_, value)| value);
            (name.to_owned(), value.to_owned())
        });
        let lower = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
        pseudo
            .into_iter()
            .chain(others.into_iter().map(lower))
            .collect()
    }

    /// The line with which a connection through the bridge to TLS begins.
    fn opening(&self, through: Through, from: IpAddr, ask: &Ask, handshake: &Handshake) -> Vec<u8> {
        let host = ask.host.as_deref().unwrap_or(HOST);
        let (http2, body) = if ask.http2 {
            let body = ask.body.as_deref().unwrap_or_default();
            (self.http2_fields(ask), self.fill(&ask.viewer, body))
        } else {
            (Vec::new(), String::new())
        };
        through.opening(&ask.viewer, from, host, handshake, &http2, &body)
    }

    /// The tenants that a request could be taken to ask.
    fn tenants(&self, ask: &Ask) -> Vec<String> {
        let mut hosts = vec![ask.host.clone().unwrap_or_else(|| HOST.to_owned())];
        let mut absolute = |target: &str| {
            if let Some(rest) = target.split_once("://").map(|(_, rest)| rest) {
                hosts.push(rest.split('/').next().unwrap_or_default().to_owned());
            }
        };
        absolute(&ask.target);
        if let Some(raw) = &ask.raw {
            for line in raw.lines() {
                absolute(line.split(' ').nth(1).unwrap_or_default());
            }
            for line in raw.lines() {
                if let Some(host) = line.to_ascii_lowercase().strip_prefix("host:") {
                    hosts.push(host.trim().to_owned());
                }
            }
        }
        hosts.iter().map(|host| token::tenant(host)).collect()
    }
}

fn has(ask: &Ask, name: &str) -> bool {
    let mut names = ask.headers.iter().map(|(name, _)| name);
    names.any(|n| n.eq_ignore_ascii_case(name))
}

/// What a viewer sent, and what it was given.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) line: usize,
    pub(crate) viewer: String,
    pub(crate) tenants: Vec<String>,
    pub(crate) sent: Vec<u8>,
    /// All bytes as they came, 1xx responses too.
    pub(crate) received: Vec<u8>,
    /// The same without the framing of bodies, which may cut a token in two.
    pub(crate) content: Vec<u8>,
    pub(crate) status: Option<u16>,
    /// Why the answer is not whole.
    pub(crate) fault: Option<String>,
    /// Answers of the origin up to this number are too old, when that matters.
    pub(crate) too_old: Option<u64>,
    /// It is no fault of the set-up when nothing comes back.
    pub(crate) may_fail: bool,
}

impl Delivered {
    fn new(viewers: &Viewers, ask: &Ask, too_old: u64) -> Self {
        Self {
            line: ask.line,
            viewer: ask.viewer.clone(),
            tenants: viewers.tenants(ask),
            sent: viewers.bytes(ask),
            received: Vec::new(),
            content: Vec::new(),
            status: None,
            fault: None,
            too_old: ask.only_new.then_some(too_old),
            may_fail: ask.is_alone() || ask.may_be_refused,
        }
    }
}

/// A connection to the cache.
pub(crate) struct Client {
    incoming: Incoming,
    used: bool,
    is_bridged: bool,
}

impl Client {
    /// Connects from a viewer's own address.
    pub(crate) fn connect(cache: SocketAddr, from: IpAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&cache.into())?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self {
            incoming: Incoming::new(socket.into()),
            used: false,
            is_bridged: false,
        })
    }

    /// Sends requests at once and reads their answers in order; `false` when the connection is over.
    pub(crate) fn exchange(
        &mut self,
        asks: &[&Ask],
        exchanges: &mut [Delivered],
    ) -> io::Result<bool> {
        // The bridge to TLS sends frames itself, and has been told which.
        let by_us = |ask: &Ask| !(self.is_bridged && ask.http2);
        let written = asks.iter().zip(&*exchanges).filter(|(ask, _)| by_us(ask));
        let sent: Vec<u8> = written.flat_map(|(_, e)| e.sent.clone()).collect();
        self.incoming.stream().write_all(&sent)?;
        self.used = true;
        for (ask, exchange) in asks.iter().zip(exchanges) {
            let read = self.read(ask, exchange);
            exchange.received.extend(self.incoming.taken());
            if exchange.status.is_none() {
                exchange.content.clone_from(&exchange.received);
            }
            match read {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => {
                    exchange.received.extend(self.incoming.everything());
                    return Err(error);
                }
            }
        }
        Ok(true)
    }

    fn read(&mut self, ask: &Ask, exchange: &mut Delivered) -> io::Result<bool> {
        let incoming = &mut self.incoming;
        incoming.until(Instant::now() + ask.abort.unwrap_or(PATIENCE));
        if ask.abort.is_some() {
            while let Ok(true) = incoming.more() {}
            exchange.received = incoming.everything();
            return Ok(false);
        }
        if ask.raw.is_some() || ask.http2 {
            let last = Instant::now() + PATIENCE;
            loop {
                incoming.until((Instant::now() + SILENCE).min(last));
                if !matches!(incoming.more(), Ok(true)) {
                    break;
                }
            }
            exchange.received = incoming.everything();
            return Ok(false);
        }
        loop {
            let head = incoming.head()?;
            exchange.received.extend(incoming.taken());
            exchange.content.clone_from(&exchange.received);
            let status: u16 = head
                .first
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .unwrap_or(0);
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            exchange.status = Some(status);
            if ask.method == "HEAD" || matches!(status, 101 | 204 | 304) {
                return Ok(!head.closes());
            }
            let (body, ends) = if head.is_chunked() {
                (incoming.chunked(), head.closes())
            } else if let Some(length) = head.length() {
                (incoming.exactly(length), head.closes())
            } else {
                (incoming.until_the_end(), true)
            };
            // What came of a body that broke off was seen too.
            let (body, fault) = match body {
                Ok(body) => (body, None),
                Err(error) => (incoming.everything(), Some(error)),
            };
            exchange.content.extend(&body);
            if fault.is_some() {
                exchange.received.extend(body);
            }
            return fault.map_or(Ok(!ends), Err);
        }
    }
}

/// The first that has no answer was the one that failed.
fn blame(exchanges: &mut [Delivered], why: &str) {
    if let Some(exchange) = exchanges.iter_mut().find(|e| e.status.is_none()) {
        exchange.fault = Some(why.to_owned());
    }
}

/// Connections to a cache, by name: kept between requests, as clients do.
pub(crate) struct Connections<'a> {
    cache: SocketAddr,
    /// The way to it over TLS.
    through: Option<Through>,
    viewers: &'a Viewers,
    open: BTreeMap<String, Client>,
}

impl<'a> Connections<'a> {
    pub(crate) fn new(cache: SocketAddr, through: Option<Through>, viewers: &'a Viewers) -> Self {
        Self {
            cache,
            through,
            viewers,
            open: BTreeMap::new(),
        }
    }

    /// Asks on the connection of this name, at once for all that are given.
    pub(crate) fn ask(&mut self, name: &str, asks: &[&Ask], too_old: u64) -> Vec<Delivered> {
        let fresh = || {
            asks.iter()
                .map(|ask| Delivered::new(self.viewers, ask, too_old))
                .collect()
        };
        let first = asks.first().map_or("", |ask| ask.viewer.as_str());
        let from = self
            .viewers
            .addresses
            .get(first)
            .copied()
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        // Of connections over TLS, each is what its handshake says.
        let over_tls = self
            .through
            .zip(asks.first().and_then(|ask| ask.handshake.as_ref()));
        let name = match (over_tls, asks.first()) {
            (Some((_, handshake)), Some(ask)) => {
                let host = ask.host.as_deref().unwrap_or(HOST);
                format!("{name} {host} {handshake:?}")
            }
            _ => name.to_owned(),
        };
        let name = name.as_str();
        let connect = || match (over_tls, asks.first()) {
            (Some((through, handshake)), Some(ask)) => {
                let mut client = Client::connect(through.bridge, from)?;
                let opening = self.viewers.opening(through, from, ask, handshake);
                client.incoming.stream().write_all(&opening)?;
                client.is_bridged = true;
                Ok(client)
            }
            _ => Client::connect(self.cache, from),
        };
        // A connection that was kept may have been closed meanwhile: then, and only then, once more.
        for last in [false, true] {
            let mut exchanges: Vec<Delivered> = fresh();
            let client = match self.open.remove(name).filter(|_| !last) {
                Some(client) => Ok(client),
                None => connect(),
            };
            let mut client = match client {
                Ok(client) => client,
                Err(error) => {
                    blame(&mut exchanges, &format!("connecting: {error}"));
                    return exchanges;
                }
            };
            let kept = client.used;
            match client.exchange(asks, &mut exchanges) {
                Ok(true) => {
                    self.open.insert(name.to_owned(), client);
                    return exchanges;
                }
                Ok(false) => {
                    let answered = exchanges
                        .iter()
                        .take_while(|e| e.may_fail || e.status.is_some())
                        .count();
                    if (1..asks.len()).contains(&answered) {
                        // What was pipelined behind a closing answer goes again on its own.
                        exchanges.truncate(answered);
                        let rest = asks.get(answered..).unwrap_or_default();
                        exchanges.extend(self.ask(name, rest, too_old));
                    }
                    return exchanges;
                }
                Err(_) if kept && exchanges.iter().all(|e| e.received.is_empty()) && !last => {}
                Err(error) => {
                    blame(&mut exchanges, &error.to_string());
                    return exchanges;
                }
            }
        }
        fresh()
    }
}
