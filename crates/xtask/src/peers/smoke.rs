//! `cargo xtask peers`: every peer under every configuration, before anything is concluded from them.
//!
//! Never judges a peer: it asks whether each text does what it is there for, started with it and
//! reloaded into it. A cache that caches nothing is safe and proves nothing; a hurried operator's
//! that obeys `no-store`, or an expert's that shares a member's page, would be a straw man.
//!
//! Invariant: a hit is what the origin was not asked for. No header of the cache's own is believed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{CONFIGURATIONS, PEERS, Peer, WARM_UP, ask};
use crate::origin::listen;
use crate::process::{Doing, Failure};

/// # Errors
/// A peer did not start or reload, or a text of its does not do what it is there for; the others
/// were tried all the same.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let unknown = |name: &&String| !PEERS.iter().any(|peer| peer.name == **name);
    if let Some(name) = arguments.iter().find(unknown) {
        let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        return Err(Failure::new(format!(
            "no peer is called {name:?}; there are {}",
            names.join(", ")
        )));
    }
    let questions = QUESTIONS.map(|question| format!("{:<11}", question.name));
    println!(
        "{:<14} {:<18} {:<10} {} {:>6} {:>7}",
        "peer",
        "version",
        "configured",
        questions.concat(),
        "start",
        "reload"
    );
    let mut failures = Vec::new();
    for peer in PEERS {
        if !arguments.is_empty() && !arguments.iter().any(|name| name == peer.name) {
            continue;
        }
        let version = peer.version()?;
        for configuration in CONFIGURATIONS {
            let row = row(peer, configuration).unwrap_or_else(|failure| {
                failures.push(format!("{} {configuration}: {failure}", peer.name));
                "failed".to_owned()
            });
            println!("{:<14} {version:<18} {configuration:<10} {row}", peer.name);
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}

/// Starts a peer with one text, looks at what it does, and reloads it into the others and back.
fn row(peer: &'static Peer, configuration: &str) -> Result<String, Failure> {
    let text = |name| {
        let text = peer.configuration(name);
        text.expect("every peer has all configurations")
    };
    let origin = Origin::start()?;
    let begun = Instant::now();
    let mut running = peer.start(origin.address, text(configuration))?;
    let start = begun.elapsed();
    let shared = conduct(running.address(), &origin)?;
    suits(&shared, configuration)?;

    let mut reloads = Duration::ZERO;
    let others = CONFIGURATIONS
        .into_iter()
        .filter(|other| *other != configuration);
    for name in others.chain([configuration]) {
        // A client that stays must not keep the old text in force.
        let idle = idle_connection(running.address())?;
        let begun = Instant::now();
        running.reload(text(name))?;
        reloads += begun.elapsed();
        drop(idle);
        let shared = conduct(running.address(), &origin)?;
        suits(&shared, name)
            .map_err(|failure| Failure::new(format!("reloaded into {name}: {failure}")))?;
    }
    let shared = shared.map(|shared| format!("{:<11}", shown(shared)));
    let (start, reload) = (start.as_secs_f64(), reloads.as_secs_f64() / 3.0);
    Ok(format!("{} {start:>5.2}s {reload:>6.2}s", shared.concat()))
}

/// Something that is asked for twice, by two who differ.
struct Question {
    name: &'static str,
    file: &'static str,
    headers: [&'static str; 2],
    /// Whether the second is to get what the first got: under the hurried operator's text, and under
    /// the expert's. Of what is packaged nothing is expected but that the public is shared.
    hurried: Option<bool>,
    expert: bool,
}

const VISITOR: &str = "Host: peer.test\r\n";

const QUESTIONS: [Question; 6] = [
    Question {
        name: "control",
        file: "style.css",
        headers: [VISITOR, VISITOR],
        hurried: Some(true),
        expert: true,
    },
    Question {
        name: "no-store",
        file: "account",
        headers: [VISITOR, VISITOR],
        hurried: Some(true),
        expert: false,
    },
    Question {
        name: "cookie",
        file: "page",
        headers: [
            "Host: peer.test\r\nCookie: session=alice\r\n",
            "Host: peer.test\r\nCookie: session=bob\r\n",
        ],
        hurried: Some(true),
        expert: false,
    },
    Question {
        name: "bearer",
        file: "page",
        headers: [
            "Host: peer.test\r\nAuthorization: Bearer alice\r\n",
            "Host: peer.test\r\nAuthorization: Bearer bob\r\n",
        ],
        // Squid and HAProxy cannot be made to share these.
        hurried: None,
        expert: false,
    },
    Question {
        name: "set-cookie",
        file: "first-visit",
        headers: [VISITOR, VISITOR],
        hurried: Some(true),
        expert: false,
    },
    Question {
        name: "two hosts",
        file: "page",
        headers: ["Host: one.test\r\n", "Host: two.test\r\n"],
        // Only some have a key without it.
        hurried: None,
        expert: false,
    },
];

/// Asks all questions: for each, whether the second got what the first got.
fn conduct(peer: SocketAddr, origin: &Origin) -> Result<[bool; QUESTIONS.len()], Failure> {
    let mut shared = [false; QUESTIONS.len()];
    for (question, shared) in QUESTIONS.iter().zip(&mut shared) {
        let path = origin.new_path(question.file);
        for (nth, headers) in question.headers.into_iter().enumerate() {
            // Some store after they have answered.
            thread::sleep(Duration::from_millis(if nth == 0 { 0 } else { 60 }));
            let status = ask(peer, &path, headers)?;
            if status != 200 {
                return Err(Failure::new(format!("{path} was answered with {status}")));
            }
        }
        *shared = match origin.fetched(&path) {
            1 => true,
            2 => false,
            times => return Err(Failure::new(format!("{path} was fetched {times} times"))),
        };
    }
    Ok(shared)
}

/// A client's connection that was used and is kept.
fn idle_connection(peer: SocketAddr) -> Result<TcpStream, Failure> {
    let doing = "keeping a connection";
    let mut connection = TcpStream::connect(peer).doing(doing)?;
    let limit = Some(Duration::from_secs(10));
    connection.set_read_timeout(limit).doing(doing)?;
    let request = format!("GET {WARM_UP} HTTP/1.1\r\n{VISITOR}\r\n");
    connection.write_all(request.as_bytes()).doing(doing)?;
    let mut some = [0; 16];
    connection.read_exact(&mut some).doing(doing)?;
    Ok(connection)
}

/// Holds what a peer did against what its text is there for.
fn suits(shared: &[bool], configuration: &str) -> Result<(), Failure> {
    for (question, shared) in QUESTIONS.iter().zip(shared) {
        let wanted = match configuration {
            "hurried" => question.hurried,
            "expert" => Some(question.expert),
            _ => (question.name == "control").then_some(true),
        };
        if wanted.is_some_and(|wanted| wanted != *shared) {
            return Err(Failure::new(format!(
                "{configuration} is not what it should be: {} is {}",
                question.name,
                shown(*shared)
            )));
        }
    }
    Ok(())
}

fn shown(shared: bool) -> &'static str {
    if shared { "hit" } else { "miss" }
}

/// An origin that counts what it is asked for.
struct Origin {
    address: SocketAddr,
    fetched: Arc<Mutex<HashMap<String, usize>>>,
    paths: Mutex<usize>,
}

impl Origin {
    fn start() -> Result<Self, Failure> {
        let fetched = Arc::new(Mutex::new(HashMap::new()));
        let counts = Arc::clone(&fetched);
        let address = listen(move |connection| {
            serve(&connection, &counts);
            Ok(())
        })?;
        Ok(Self {
            address,
            fetched,
            paths: Mutex::new(0),
        })
    }

    fn new_path(&self, file: &str) -> String {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        *paths += 1;
        format!("/{paths}/{file}")
    }

    fn fetched(&self, path: &str) -> usize {
        let counts = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(path).copied().unwrap_or_default()
    }
}

/// A time as RFC 9110 section 5.6.7 writes it. Origins that have a clock send it (section 6.6.1), and
/// Squid takes an answer without it for stale.
fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or_default()];
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = "Jan";
    for (name, length) in MONTHS {
        month = name;
        let length = length + u64::from(name == "Feb" && is_leap(year));
        if day < length {
            break;
        }
        day -= length;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let day = day + 1;
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// One request: the connection is closed after it.
fn serve(mut connection: &TcpStream, counts: &Mutex<HashMap<String, usize>>) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    // The rest of the head says nothing that matters here, but is to be read before answering.
    drop(lines.find(String::is_empty));
    let path = request.split(' ').nth(1).unwrap_or_default();
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry(path.to_owned()).or_default() += 1;
    drop(counts);
    let (status, headers) = match path.rsplit('/').next() {
        Some("style.css") => (
            "200 OK",
            "Content-Type: text/css\r\nCache-Control: public, max-age=60\r\n",
        ),
        Some("account") => (
            "200 OK",
            "Content-Type: text/html\r\nCache-Control: no-store\r\n",
        ),
        Some("first-visit") => (
            "200 OK",
            "Content-Type: text/html\r\nCache-Control: max-age=60\r\nSet-Cookie: session=new\r\n",
        ),
        Some("page") => (
            "200 OK",
            "Content-Type: text/html\r\nCache-Control: max-age=60\r\n",
        ),
        _ => ("404 Not Found", ""),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nDate: {}\r\n{headers}Content-Length: 5\r\nConnection: close\r\n\r\nwords",
        http_date(SystemTime::now())
    );
    // One that has gone away needs no answer.
    drop(connection.write_all(answer.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_writes_them() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            // The example of RFC 9110 section 5.6.7.
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(http_date(time), date);
        }
    }
}
