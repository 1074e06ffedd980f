//! `cargo xtask peers`: every peer under every configuration, before anything is concluded from them.
//!
//! Never judges sharing: it asks only whether each caches what is public, since a cache that caches
//! nothing is safe and proves nothing.
//!
//! Invariant: a hit is what the origin was not asked for. No header of the cache's own is believed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{CONFIGURATIONS, PEERS, Peer, ask};
use crate::process::{Doing, Failure};

/// Something public: the kind that every one of them is made to cache.
const PUBLIC: &str = "/style.css";

/// # Errors
/// A peer did not start or reload, or did not cache what is public; the others were tried all the
/// same.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if let Some(name) = arguments
        .iter()
        .find(|name| !PEERS.iter().any(|p| p.name == *name))
    {
        let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        return Err(Failure::new(format!(
            "no peer is called {name:?}; there are {}",
            names.join(", ")
        )));
    }
    let mut failures = Vec::new();
    println!(
        "{:<14} {:<20} {:<10} {:<8} {:>8}  reload",
        "peer", "version", "configured", "control", "start"
    );
    for peer in PEERS {
        if !arguments.is_empty() && !arguments.iter().any(|name| name == peer.name) {
            continue;
        }
        let version = peer.version()?;
        for configuration in CONFIGURATIONS {
            let row = match row(peer, configuration) {
                Ok(row) => row,
                Err(failure) => {
                    failures.push(format!("{} {configuration}: {failure}", peer.name));
                    "failed".to_owned()
                }
            };
            println!("{:<14} {version:<20} {configuration:<10} {row}", peer.name);
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}

/// Starts a peer, asks it twice for something public, and changes its configuration under it.
fn row(peer: &'static Peer, configuration: &str) -> Result<String, Failure> {
    let text = peer
        .configuration(configuration)
        .expect("every peer has all configurations");
    let origin = Origin::start()?;
    let begun = Instant::now();
    let mut running = peer.start(origin.address, text)?;
    let start = begun.elapsed();
    control(running.address(), &origin)?;
    let begun = Instant::now();
    for other in CONFIGURATIONS
        .iter()
        .filter(|other| **other != configuration)
    {
        let other = peer
            .configuration(other)
            .expect("every peer has all configurations");
        running.reload(other)?;
    }
    let reload = begun.elapsed() / 2;
    Ok(format!(
        "{:<8} {:>7}s  {}s",
        "hit",
        seconds(start),
        seconds(reload)
    ))
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn control(peer: SocketAddr, origin: &Origin) -> Result<(), Failure> {
    let first = ask(peer, PUBLIC)?;
    // Some store after they have answered.
    thread::sleep(Duration::from_millis(100));
    let second = ask(peer, PUBLIC)?;
    let asked = origin.asked.load(Ordering::SeqCst);
    if (first.status, second.status) != (200, 200) {
        return Err(Failure::new(format!(
            "answered {} and {}",
            first.status, second.status
        )));
    }
    if first.body != second.body || asked != 1 {
        return Err(Failure::new(format!(
            "{PUBLIC} was asked for twice and fetched {asked} times: it caches nothing"
        )));
    }
    Ok(())
}

/// An origin with one public file, whose body says how often it was asked for; 404 for all else.
struct Origin {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Origin {
    fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listening")?;
        let address = listener.local_addr().doing("listening")?;
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // It ends with the process: the few it starts are never in the way.
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || serve(&connection, &count));
            }
        });
        Ok(Self { address, asked })
    }
}

/// One request: the connection is closed after it.
fn serve(mut connection: &TcpStream, asked: &AtomicUsize) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    for line in lines {
        if line.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, headers, body) = if path.ends_with(PUBLIC) {
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        let headers = "Content-Type: text/css\r\nCache-Control: public, max-age=60\r\n";
        ("200 OK", headers, format!("/* {number} */"))
    } else {
        ("404 Not Found", "", String::new())
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // One that has gone away needs no answer.
    drop(connection.write_all(answer.as_bytes()));
}
