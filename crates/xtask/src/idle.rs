//! `cargo xtask idle`: what ten thousand idle client connections cost in memory.
//!
//! Never counts what is not there: each connection has had an answer, all of them are open at once by
//! the edge's own count, and some are asked again afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::edge::{Build, Edge};
use crate::process::{Doing, Failure};

/// Connections at once.
const CONNECTIONS: usize = 10_000;
/// What the whole process may take with them.
const RESIDENT_BYTES_MAX: u64 = 400_000_000;
/// So many of them are asked again.
const ASKED_AGAIN: usize = 200;

/// # Errors
/// A connection was not answered or not kept, or they take too much memory.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("idle takes no arguments"));
    }
    rlimit::increase_nofile_limit(u64::MAX).doing("raising the number of open files")?;
    let edge = Edge::start_built(Build::Optimised, origin()?, &["--log", "warn"])?;
    let before = resident_bytes(&edge)?;
    let begun = Instant::now();
    let mut open = Vec::new();
    for n in 0..CONNECTIONS {
        let mut stream =
            TcpStream::connect(edge.address).doing(format_args!("opening connection {n}"))?;
        ask(&mut stream)?;
        open.push(stream);
    }
    let took = begun.elapsed();
    let metrics = edge.metrics()?;
    let counted = metric(&metrics, "shikiri_connections")?;
    if counted < CONNECTIONS as u64 {
        return Err(Failure::new(format!("only {counted} connections are open")));
    }
    let after = resident_bytes(&edge)?;
    for stream in open.iter_mut().step_by(CONNECTIONS / ASKED_AGAIN) {
        ask(stream)?;
    }
    let each = (after.saturating_sub(before)) / CONNECTIONS as u64;
    println!(
        "idle: {CONNECTIONS} connections opened in {:.1} s: {} MB in use ({} MB before), {each} bytes each",
        took.as_secs_f64(),
        after / 1_000_000,
        before / 1_000_000,
    );
    if after > RESIDENT_BYTES_MAX {
        let most = RESIDENT_BYTES_MAX / 1_000_000;
        return Err(Failure::new(format!("more than {most} MB")));
    }
    Ok(())
}

/// One request, and its whole answer.
fn ask(stream: &mut TcpStream) -> Result<(), Failure> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .doing("setting a timeout")?;
    stream
        .write_all(b"GET /idle.css HTTP/1.1\r\nHost: idle.test\r\n\r\n")
        .doing("sending a request")?;
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    while !answer.ends_with(BODY.as_bytes()) {
        let read = stream.read(&mut some).doing("reading an answer")?;
        if read == 0 {
            return Err(Failure::new("a connection was closed"));
        }
        answer.extend_from_slice(some.get(..read).unwrap_or_default());
    }
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(Failure::new(String::from_utf8_lossy(&answer).into_owned()))
    }
}

fn metric(page: &str, name: &str) -> Result<u64, Failure> {
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.ok_or_else(|| Failure::new(format!("no metric {name} in\n{page}")))
}

fn resident_bytes(edge: &Edge) -> Result<u64, Failure> {
    let path = format!("/proc/{}/status", edge.id());
    let status = fs::read_to_string(&path).doing(format_args!("reading {path}"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| Failure::new(format!("{path} does not say how much memory is in use")))
}

const BODY: &str = "a { color: red }";

/// One style sheet, for everybody.
fn origin() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listening")?;
    let address = listener.local_addr().doing("listening")?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.extend(byte);
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=3600\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
                    BODY.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            });
        }
    });
    Ok(address)
}
