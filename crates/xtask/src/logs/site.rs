//! A site that forgets to say `private`, and its members: the origin stamps each page with whom it was rendered for,
//! and writes a log; clients keep what they received.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::dice::Dice;
use crate::origin::listen;
use crate::process::{Doing, Failure};

const MEMBERS: u64 = 800;
const CLIENTS: u64 = 24;

/// Pages at one store; where there are more stores, each has as many fewer, so that the requests for one page at one
/// store come as often.
const PAGES: usize = 4;

/// How long the origin takes at most, in milliseconds.
const LATENCY_MS_MAX: u64 = 250;

/// What a client received.
pub(super) struct Seen {
    /// Its request's number.
    pub(super) number: usize,
    pub(super) path: String,
    /// The member who asked, and the one whose page it was.
    pub(super) viewer: u64,
    pub(super) owner: u64,
}

/// Lets members ask any of these caches for a while, and returns what each received.
///
/// # Errors
/// An answer was not a page of the origin's.
pub(super) fn ask(
    peers: &[SocketAddr],
    lasts: Duration,
    per_second: u64,
) -> Result<Vec<Seen>, Failure> {
    let until = Instant::now() + lasts;
    let numbers = AtomicUsize::new(1);
    let each_us = 1_000_000 * CLIENTS / per_second;
    let each = Duration::from_micros(each_us);
    let client = |seed: u64| {
        let mut dice = Dice::new(seed);
        let mut seen = Vec::new();
        while Instant::now() < until {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let (viewer, page) = (dice.below(MEMBERS), dice.index(PAGES / peers.len()));
            let path = format!("/mypage/{page}");
            let peer = peers[dice.index(peers.len())];
            let owner = received(peer, &path, viewer, number)?;
            seen.push(Seen {
                number,
                path,
                viewer,
                owner,
            });
            // From half as long to half as long again: nobody asks in step.
            thread::sleep(each / 2 + Duration::from_micros(dice.below(each_us)));
        }
        Ok(seen)
    };
    let all = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let (client, all) = (&client, &all);
            scope.spawn(move || {
                let seen = client(seed);
                all.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(seen);
            });
        }
    });
    let mut seen = Vec::new();
    for some in all.into_inner().unwrap_or_else(PoisonError::into_inner) {
        seen.extend(some?);
    }
    Ok(seen)
}

/// Asks for a page and reads whose it is.
fn received(peer: SocketAddr, path: &str, viewer: u64, number: usize) -> Result<u64, Failure> {
    let doing = || format!("asking for {path}");
    let limit = Duration::from_secs(10);
    let mut connection = TcpStream::connect_timeout(&peer, limit).doing(doing())?;
    connection.set_read_timeout(Some(limit)).doing(doing())?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: peer.test\r\nCookie: sid=u{viewer}\r\nX-Number: {number}\r\n\
         Connection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).doing(doing())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).doing(doing())?;
    let owner = answer.split("the page of u").nth(1);
    let owner = owner.and_then(|rest| rest.split('.').next()?.parse().ok());
    owner.ok_or_else(|| Failure::new(format!("{path} was answered with {answer}")))
}

/// What the lines of the origin's log tell.
pub(super) const MAPPING: &str = "\
ended = ended
took_ms = took_ms
request = request
host = host
status = status
session = session
request_id = request_id
fill = fill
";

/// An origin that renders a page for whoever's session it is shown.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Origin {
    /// Of 100 times that a cache asks, what it holds has not changed so often.
    pub(super) fn start(unchanged: u64) -> Result<Self, Failure> {
        let log = Arc::new(Mutex::new(String::new()));
        let (written, numbers) = (Arc::clone(&log), AtomicU64::new(1));
        let address = listen(move |connection| {
            serve(
                &connection,
                &written,
                numbers.fetch_add(1, Ordering::Relaxed),
                unchanged,
            );
            Ok(())
        })?;
        Ok(Self { address, log })
    }

    pub(super) fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One request: the connection is closed after it.
fn serve(mut connection: &TcpStream, log: &Mutex<String>, number: u64, unchanged: u64) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let began = now_ms();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let value = |name: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(':'));
        let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let cookie = value("cookie").unwrap_or_default();
    let session = cookie.strip_prefix("sid=u").unwrap_or("nobody").to_owned();
    let mut dice = Dice::new(number);
    thread::sleep(Duration::from_millis(5 + dice.below(LATENCY_MS_MAX)));
    let is_unchanged = value("if-none-match").is_some() && dice.below(100) < unchanged;
    let (status, body) = match is_unchanged {
        true => (304, String::new()),
        false => (200, format!("the page of u{session}.")),
    };
    let reason = if is_unchanged { "Not Modified" } else { "OK" };
    let answer = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/html\r\nETag: \"{number}\"\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // One that has gone away needs no answer.
    drop(connection.write_all(answer.as_bytes()));
    let ended = now_ms();
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(
        log,
        "{}",
        serde_json::json!({
            "ended": ended,
            "took_ms": ended - began,
            "request": request,
            "host": "peer.test",
            "status": status,
            "session": if session == "nobody" { String::new() } else { format!("u{session}") },
            "request_id": value("x-request-id").unwrap_or_default(),
            "fill": value("x-varnish").unwrap_or_default(),
        })
    )
    .expect("a text takes every line");
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
