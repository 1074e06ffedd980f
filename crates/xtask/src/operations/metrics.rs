//! The metrics, read with the parser of Prometheus' own Python library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::said_by;
use crate::edge::Edge;
use crate::origin::{head, listen};
use crate::process::{Doing, Failure};
use crate::setup;

const READER: &str = include_str!("metrics.py");

/// # Errors
/// The parser does not understand the page, or it is not what the requests before it must have made.
pub(super) fn run() -> Result<(), Failure> {
    let edge = Edge::start(listen(serve)?)?;
    for (path, fields) in [
        ("/a.css", ""),
        ("/a.css", "Cookie: sid=secret\r\n"),
        ("/account", "Cookie: sid=secret\r\n"),
        ("/%zz", ""),
    ] {
        ask(edge.address, path, fields)?;
    }
    let page = edge.metrics()?;
    if page.contains("secret") || page.contains("account") {
        return Err(Failure::new(format!(
            "the metrics name what was asked for:\n{page}"
        )));
    }
    println!("operations: metrics: {}", read(&page)?.trim());
    Ok(())
}

pub(super) fn ask(edge: SocketAddr, path: &str, fields: &str) -> Result<(), Failure> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n");
    let mut stream = TcpStream::connect(edge).doing("asking the edge")?;
    stream
        .write_all(request.as_bytes())
        .doing("sending a request")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).doing("reading an answer")?;
    Ok(())
}

/// What the parser says of a page.
fn read(page: &str) -> Result<String, Failure> {
    said_by(
        READER,
        &setup::prometheus_path()?,
        page,
        "the metrics are wrong",
    )
}

/// Style sheets for all, and a page for one.
pub(super) fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    head(&mut stream)?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: 4\r\n\
                  Connection: close\r\n\r\na {}";
    stream.write_all(answer.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_page_is_found_out() {
        for page in ["", "a{b=\"c} 1\n", "# TYPE x_total counter\nx_total 1\n"] {
            assert!(read(page).is_err(), "{page}");
        }
    }
}
