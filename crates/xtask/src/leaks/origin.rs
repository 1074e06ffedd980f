//! The origin of a script: answers as its routes say, and stamps whatever it answers with whom it
//! believes it serves.
//!
//! It is deliberately gullible: it believes any header, routes by loose patterns, and breaks framing
//! when told to. It keeps every exchange, for the judge and for whoever replays a case.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::script::{self, Framing, Identity, Route, Script};
use super::token::{self, NOBODY, token};
use super::wire::{Head, Incoming, http_date};
use crate::process::{Doing, Failure};

/// A running origin.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    routes: Vec<Route>,
    identities: Vec<Identity>,
    nonce: String,
    /// Which viewer connects from which address.
    viewers: HashMap<IpAddr, String>,
    phase: Mutex<String>,
    /// The number of the last answer.
    numbers: AtomicU64,
    /// The number that all answers to nobody carry: they are alike until something changes.
    generation: AtomicU64,
    /// No answer comes sooner, in milliseconds: it makes overlapping real.
    floor_ms: AtomicU64,
    log: Mutex<Vec<Seen>>,
    targets: Mutex<HashMap<String, u64>>,
    stopped: AtomicBool,
}

/// An exchange as the origin saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The number of the answer, and of every token issued with it.
    pub(crate) number: u64,
    pub(crate) owner: String,
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

/// Below this, every origin has something public beside what its script says: it tells a cache that
/// declines a script's control by design from one that caches nothing.
pub(crate) const REFERENCE: &str = "/.reference";

fn reference() -> Route {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Route {
        status: 200,
        headers: vec![
            field("Content-Type", "text/css"),
            field("Cache-Control", "public, max-age=60"),
        ],
        body: Some("a { color: red }".to_owned()),
        unstamped: true,
        ..Route::default()
    }
}

/// How long the origin waits for the rest of a request.
const PATIENCE: Duration = Duration::from_secs(20);

impl Origin {
    /// Starts the origin of a script that is given as text, for others than scripts' viewers.
    pub(crate) fn of_text(name: &str, text: &str) -> Result<Self, Failure> {
        let script = script::parse(name, text).map_err(Failure::new)?;
        Self::start(&script, &token::nonce(), HashMap::new()).doing("starting an origin")
    }

    /// Starts the origin of a script on a free port of the loopback.
    pub(crate) fn start(
        script: &Script,
        nonce: &str,
        viewers: HashMap<IpAddr, String>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            routes: script.routes.clone(),
            identities: script.identities.clone(),
            nonce: nonce.to_owned(),
            viewers,
            phase: Mutex::new("first".to_owned()),
            numbers: AtomicU64::new(1),
            generation: AtomicU64::new(1),
            floor_ms: AtomicU64::new(0),
            log: Mutex::new(Vec::new()),
            targets: Mutex::new(HashMap::new()),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&accepting);
                thread::spawn(move || {
                    // A client that leaves, or a connection broken on purpose, is no fault here.
                    shared.connection(stream).ok();
                });
            }
        });
        Ok(Self { address, shared })
    }

    pub(crate) fn phase(&self, phase: &str) {
        *self
            .shared
            .phase
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = phase.to_owned();
    }

    /// Something has changed: returns the number up to which answers are from before.
    pub(crate) fn change(&self) -> u64 {
        let before = self.shared.numbers.fetch_add(1, Ordering::SeqCst);
        self.shared.generation.store(before + 1, Ordering::SeqCst);
        before
    }

    pub(crate) fn floor(&self, floor: Duration) {
        let ms = u64::try_from(floor.as_millis()).unwrap_or(u64::MAX);
        self.shared.floor_ms.store(ms, Ordering::Relaxed);
    }

    /// The number of the last answer.
    pub(crate) fn last_number(&self) -> u64 {
        self.shared.numbers.load(Ordering::SeqCst)
    }

    /// How often it was asked for a target.
    pub(crate) fn asked_for(&self, target: &str) -> u64 {
        let targets = self.shared.targets.lock();
        let targets = targets.unwrap_or_else(PoisonError::into_inner);
        targets.get(target).copied().unwrap_or_default()
    }

    pub(crate) fn log(&self) -> Vec<Seen> {
        self.shared
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the one that accepts.
        TcpStream::connect(self.address).ok();
    }
}

/// A request, with what templates may echo.
struct Request {
    method: String,
    target: String,
    head: Head,
    body: Vec<u8>,
}

impl Shared {
    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut authenticated = None;
        let mut incoming = Incoming::new(stream);
        loop {
            incoming.until(Instant::now() + PATIENCE);
            let head = incoming.head()?;
            if head
                .field("expect")
                .is_some_and(|e| e.eq_ignore_ascii_case("100-continue"))
            {
                incoming
                    .stream()
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let body = if head.is_chunked() {
                incoming.chunked()?
            } else {
                incoming.exactly(head.length().unwrap_or(0))?
            };
            let mut words = head.first.split(' ');
            let request = Request {
                method: words.next().unwrap_or_default().to_owned(),
                target: words.next().unwrap_or_default().to_owned(),
                head,
                body,
            };
            let bytes = incoming.taken();
            let goes_on = self.answer(&request, bytes, &mut authenticated, incoming.stream())?;
            if !goes_on || request.head.closes() {
                return incoming.stream().shutdown(Shutdown::Both);
            }
        }
    }

    /// Answers one request; `false` when the connection ends with it.
    fn answer(
        &self,
        request: &Request,
        bytes: Vec<u8>,
        authenticated: &mut Option<String>,
        stream: &mut TcpStream,
    ) -> io::Result<bool> {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst) + 1;
        *self
            .targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(request.target.clone())
            .or_default() += 1;
        let owner = self
            .owner(request, authenticated)
            .unwrap_or_else(|| NOBODY.to_owned());
        let reference = request.target.starts_with(REFERENCE).then(reference);
        let route = reference.as_ref().or_else(|| self.route(request, &owner));
        let write = Writing {
            shared: self,
            request,
            owner: &owner,
            number,
        };
        let floor = Duration::from_millis(self.floor_ms.load(Ordering::Relaxed));
        thread::sleep(route.map_or(Duration::ZERO, |r| r.delay).max(floor));
        let mut written = Vec::new();
        let outcome = match route {
            Some(route) => write.route(route, stream, &mut written),
            None => {
                let text = format!(
                    "no route for {} as {}",
                    request.target,
                    write.fill("{user}")
                );
                written = format!(
                    "HTTP/1.1 404 Not Found\r\nDate: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
                    http_date(0),
                    text.len()
                )
                .into_bytes();
                stream.write_all(&written).map(|()| true)
            }
        };
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Seen {
                number,
                owner: owner.clone(),
                request: bytes,
                response: written,
            });
        outcome
    }

    fn route(&self, request: &Request, owner: &str) -> Option<&Route> {
        let phase = self
            .phase
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let host = request.head.field("host").unwrap_or_default();
        self.routes.iter().find(|route| {
            let method = request.method.as_str();
            // HEAD is GET without a body, unless a script says otherwise (RFC 9110 9.3.2).
            let named = |m: &String| m == method || (m == "GET" && method == "HEAD");
            (route.methods.is_empty() || route.methods.iter().any(named))
                && route.phase.as_ref().is_none_or(|p| *p == phase)
                && route
                    .host
                    .as_ref()
                    .is_none_or(|h| h.eq_ignore_ascii_case(host))
                && route
                    .has
                    .as_ref()
                    .is_none_or(|name| request.head.field(name).is_some())
                && (route.of.is_empty() || route.of.iter().any(|name| name == owner))
                && matches(route.target.as_bytes(), request.target.as_bytes())
        })
    }

    /// Whom the origin believes it serves.
    fn owner(&self, request: &Request, authenticated: &mut Option<String>) -> Option<String> {
        let known = |bytes: &[u8]| {
            let found = token::find(&self.nonce, bytes);
            found
                .into_iter()
                .map(|t| t.owner)
                .find(|owner| owner != NOBODY)
        };
        let value = |name: &str| request.head.field(name).unwrap_or_default();
        self.identities.iter().find_map(|identity| match identity {
            Identity::Cookie(name) => value("cookie").split(';').find_map(|pair| {
                let (n, v) = pair.trim().split_once('=')?;
                if n == name { known(v.as_bytes()) } else { None }
            }),
            Identity::Bearer => value("authorization")
                .strip_prefix("Bearer ")
                .and_then(|v| known(v.as_bytes())),
            Identity::Header(name) => known(value(name).as_bytes()),
            Identity::Target => known(request.target.as_bytes()),
            Identity::Body => known(&request.body),
            Identity::Address => {
                let first = value("x-forwarded-for")
                    .split(',')
                    .next()
                    .unwrap_or_default();
                let address: IpAddr = first.trim().parse().ok()?;
                self.viewers.get(&address).cloned()
            }
            Identity::Connection => {
                if let Some(proof) = value("authorization").strip_prefix("NTLM ") {
                    *authenticated = known(proof.as_bytes());
                }
                authenticated.clone()
            }
        })
    }
}

/// One answer being written.
struct Writing<'a> {
    shared: &'a Shared,
    request: &'a Request,
    owner: &'a str,
    number: u64,
}

impl Writing<'_> {
    fn route(
        &self,
        route: &Route,
        stream: &mut TcpStream,
        written: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut send = |bytes: &[u8], stream: &mut TcpStream| {
            written.extend_from_slice(bytes);
            stream.write_all(bytes)
        };
        if let Some(raw) = &route.raw {
            send(self.fill(raw).as_bytes(), stream)?;
            return Ok(route.framing == Framing::Length);
        }
        if let Some(before) = &route.before {
            send(self.fill(before).as_bytes(), stream)?;
        }
        let mut body = self
            .fill(route.body.as_deref().unwrap_or("page of {user}\n"))
            .into_bytes();
        body.resize(body.len() + route.size, b'.');
        let mut status = route.status;
        let mut content_range = None;
        if let Some((first, last)) = self.range(route, body.len()) {
            content_range = Some(format!("bytes {first}-{last}/{}", body.len()));
            body = body[first..=last].to_vec();
            status = 206;
        }
        let no_body = matches!(status, 100..=199 | 204 | 304);
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        // An origin with a clock must say the time (RFC 9110 6.6.1), and some caches take an answer
        // without it for stale.
        if !route
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("date"))
        {
            head.push_str(&format!("Date: {}\r\n", http_date(0)));
        }
        for (name, value) in &route.headers {
            head.push_str(&format!("{name}: {}\r\n", self.fill(value)));
        }
        if !route.unstamped {
            head.push_str(&format!("X-Stamp: {}\r\n", self.fill("{user}")));
        }
        if let Some(range) = content_range {
            head.push_str(&format!("Content-Range: {range}\r\n"));
        }
        match route.framing {
            _ if no_body => {}
            Framing::Length | Framing::Broken => {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::Close => head.push_str("Connection: close\r\n"),
        }
        head.push_str("\r\n");
        send(head.as_bytes(), stream)?;
        if no_body || self.request.method == "HEAD" {
            return Ok(route.framing != Framing::Close);
        }
        thread::sleep(route.pause);
        match route.framing {
            Framing::Length | Framing::Close => send(&body, stream)?,
            Framing::Broken => {
                send(&body[..body.len() / 2], stream)?;
                return Ok(false);
            }
            Framing::Chunked => {
                // Two chunks, so that a reader of one chunk is found out.
                for half in [&body[..body.len() / 2], &body[body.len() / 2..]] {
                    if !half.is_empty() {
                        send(format!("{:x}\r\n", half.len()).as_bytes(), stream)?;
                        send(half, stream)?;
                        send(b"\r\n", stream)?;
                    }
                }
                send(b"0\r\n", stream)?;
                for (name, value) in &route.trailers {
                    send(
                        format!("{name}: {}\r\n", self.fill(value)).as_bytes(),
                        stream,
                    )?;
                }
                send(b"\r\n", stream)?;
            }
        }
        if let Some(after) = &route.after {
            send(self.fill(after).as_bytes(), stream)?;
        }
        Ok(route.framing != Framing::Close)
    }

    /// The range that is asked for, when the route answers ranges.
    fn range(&self, route: &Route, length: usize) -> Option<(usize, usize)> {
        let asked = self
            .request
            .head
            .field("range")
            .filter(|_| route.ranges && route.status == 200)?;
        let (first, last) = asked.strip_prefix("bytes=")?.split_once('-')?;
        let first: usize = first.parse().ok()?;
        let last: usize = last
            .parse()
            .unwrap_or(usize::MAX)
            .min(length.checked_sub(1)?);
        (first <= last).then_some((first, last))
    }

    /// A template with its places filled. Braces around anything else stay as they are.
    fn fill(&self, template: &str) -> String {
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            match after
                .split_once('}')
                .and_then(|(name, after)| Some((self.place(name)?, after)))
            {
                Some((value, after)) => {
                    text.push_str(&value);
                    rest = after;
                }
                None => {
                    text.push('{');
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        text
    }

    fn place(&self, name: &str) -> Option<String> {
        let Shared { nonce, .. } = self.shared;
        let request = self.request;
        let host = request.head.field("host").unwrap_or_default();
        Some(match name {
            "user" if self.owner == NOBODY => {
                token(NOBODY, nonce, self.shared.generation.load(Ordering::SeqCst))
            }
            "user" => token(self.owner, nonce, self.number),
            "mint" => token(token::MINTED, nonce, self.number),
            "host" => token(&token::tenant(host), nonce, self.number),
            "n" => self.number.to_string(),
            "now" => http_date(0),
            "echo body" => String::from_utf8_lossy(&request.body).into_owned(),
            "echo target" => request.target.clone(),
            "echo query" => request
                .target
                .split_once('?')
                .map(|(_, q)| q.to_owned())
                .unwrap_or_default(),
            "echo method" => request.method.clone(),
            _ => {
                if let Some(names) = name.strip_prefix("for ") {
                    token(&token::members(names), nonce, self.number)
                } else if let Some(field) = name.strip_prefix("echo header ") {
                    request.head.field(field).unwrap_or_default().to_owned()
                } else if let Some(seconds) = name.strip_prefix("now") {
                    http_date(seconds.parse().ok()?)
                } else {
                    return None;
                }
            }
        })
    }
}

/// `*` stands for anything.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        Some((first, rest)) => text.first() == Some(first) && matches(rest, &text[1..]),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
