//! What small origins of the parts have in common: a listener on loopback, and how a request is read.
//!
//! For: origins whose answers are all that is theirs. Never strict, and never a model of a server: what
//! is judged by an origin's reading of framing has a reader of its own (`leaks`).

use std::io::{BufRead, BufReader, Read, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::process::{Doing, Failure};

/// Serves each connection on a thread of its own, for as long as this program runs.
///
/// # Errors
/// There is no socket for it.
pub(crate) fn listen(
    serve: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
) -> std::result::Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listening on loopback")?;
    let address = listener.local_addr().doing("listening on loopback")?;
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // A client that goes away, or breaks its connection, is nobody's fault here.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    Ok(address)
}

/// The bytes of one head; fewer where the connection ends before.
pub(crate) fn head(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.extend(byte);
    }
    Ok(head)
}

/// A request's method and target; its body is read and left. `None` when the connection ended.
pub(crate) fn asked(reader: &mut BufReader<TcpStream>) -> Result<Option<(String, String)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ').map(str::to_owned);
    Ok(words.next().zip(words.next()))
}
