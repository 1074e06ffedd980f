//! The origin of a soak: each path says what is answered and how it comes.
//!
//! Never caches, and never repeats itself where a member could be told from another: pages say their own
//! path.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::origin::{asked, listen};
use crate::process::Failure;

/// A download, in pieces: it takes a second. What leaves in its midst leaves before its end.
const PIECES: usize = 20;
const PIECE_BYTES: usize = 50_000;
const PIECE_TIME: Duration = Duration::from_millis(50);
/// Longer than anybody waits who means to leave before there is an answer.
const NEVER: Duration = Duration::from_secs(3);

/// Starts it, for as long as this program runs.
///
/// # Errors
/// There is no socket for it.
pub(super) fn start() -> Result<SocketAddr, Failure> {
    listen(serve)
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some((method, path)) = asked(&mut reader)? {
        let kind = path.split('/').nth(1).unwrap_or_default();
        match kind {
            "download" => download(&mut stream)?,
            "events" => endless(&mut stream, "text/event-stream", b"data: personal\n\n", 50)?,
            "flow" => endless(
                &mut stream,
                "application/octet-stream",
                &[b'p'; 16 << 10],
                2,
            )?,
            "ws" => return tunnel(&path, reader, stream),
            _ => page(kind, &method, &path, &mut stream)?,
        }
    }
    Ok(())
}

fn page(kind: &str, method: &str, path: &str, stream: &mut TcpStream) -> std::io::Result<()> {
    match kind {
        "slow" => thread::sleep(Duration::from_millis(100)),
        "never" => thread::sleep(NEVER),
        _ => {}
    }
    let status = match kind {
        "post" => "201 Created",
        "missing" => "404 Not Found",
        _ => "200 OK",
    };
    let more = match kind {
        "shared" => "Content-Type: text/css\r\nCache-Control: max-age=1",
        _ => "Content-Type: text/plain\r\nCache-Control: private",
    };
    let body = format!("{path} {}", "personal ".repeat(100));
    let length = body.len();
    let shown = if method == "HEAD" { "" } else { &body };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nX-Origin: soak\r\n{more}\r\nContent-Length: {length}\r\n\r\n{shown}"
    )
}

fn download(stream: &mut TcpStream) -> std::io::Result<()> {
    let length = PIECES * PIECE_BYTES;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nX-Origin: soak\r\nContent-Type: application/octet-stream\r\n\
         Cache-Control: private\r\nContent-Length: {length}\r\n\r\n"
    )?;
    for _ in 0..PIECES {
        stream.write_all(&[b'p'; PIECE_BYTES])?;
        thread::sleep(PIECE_TIME);
    }
    Ok(())
}

/// One piece after another, until nobody takes them.
fn endless(stream: &mut TcpStream, kind: &str, piece: &[u8], every_ms: u64) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nX-Origin: soak\r\nContent-Type: {kind}\r\nCache-Control: private\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )?;
    loop {
        write!(stream, "{:x}\r\n", piece.len())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")?;
        thread::sleep(Duration::from_millis(every_ms));
    }
}

/// Says what it hears, and ends after `the last`; or, below `/ws/flow`, speaks by itself.
fn tunnel(
    path: &str,
    mut reader: BufReader<TcpStream>,
    mut stream: TcpStream,
) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    if path == "/ws/flow" {
        loop {
            stream.write_all(b"\x82\x08personal")?;
            thread::sleep(Duration::from_millis(20));
        }
    }
    let mut message = [0; 40];
    loop {
        reader.read_exact(&mut message)?;
        stream.write_all(&message)?;
        if message.starts_with(b"the last") {
            return Ok(());
        }
    }
}
