//! The traces, read with the schema that OpenTelemetry publishes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::metrics::{ask, serve};
use super::said_by;
use crate::edge::{Build, Edge};
use crate::origin::listen;
use crate::process::{Doing, Failure};
use crate::setup;

const READER: &str = include_str!("traces.py");

/// What the collector was sent, each body as it came.
static SENT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// For so long spans may be on their way.
const SENT_WITHIN: Duration = Duration::from_secs(20);

const PARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

/// # Errors
/// The schema does not know what is sent, it is not what the requests before it must have made, or it
/// names what was asked for.
pub(super) fn run() -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("shikiri-traces-{}", std::process::id()));
    std::fs::create_dir_all(&folder).doing("making a folder")?;
    let done = in_folder(&folder);
    drop(std::fs::remove_dir_all(&folder));
    println!("operations: traces: {}", done?.trim());
    Ok(())
}

fn in_folder(folder: &Path) -> Result<String, Failure> {
    let collector = listen(collect)?;
    let config = folder.join("edge.toml");
    let text = format!(
        "version = 1\n[node]\ntrust = [\"127.0.0.1\"]\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [otel]\nendpoint = \"http://{collector}/v1/traces\"\nservice = \"shop\"\nratio = 1\ninterval = \"100ms\"\n"
    );
    std::fs::write(&config, text).doing("writing a config")?;
    let config = config.to_string_lossy().into_owned();
    let edge = Edge::start_built(Build::Debug, listen(serve)?, &["--config", &config])?;
    for (path, fields) in [
        ("/a.css", ""),
        ("/a.css", "Cookie: sid=secret\r\n"),
        ("/account?order=secret", "Cookie: sid=secret\r\n"),
        ("/account", PARENT),
        // Two hosts: refused.
        ("/x", "Host: elsewhere.test\r\n"),
    ] {
        ask(edge.address, path, fields)?;
    }
    // Five requests, a fetch, two passes.
    exported(&edge, 8)?;
    drop(edge);
    let sent = SENT.lock().expect("nobody panics with it").join("\n");
    for private in ["secret", "account", "a.css", "127.0.0.1:", "sid"] {
        if sent.contains(private) {
            return Err(Failure::new(format!(
                "the traces hold `{private}`:\n{sent}"
            )));
        }
    }
    read(&sent)
}

/// Waits until so many spans were sent.
fn exported(edge: &Edge, spans: u64) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let page = edge.metrics()?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("shikiri_otel_spans_exported_total "));
        let count = line.and_then(|count| count.parse::<u64>().ok());
        if count == Some(spans) {
            return Ok(());
        }
        if began.elapsed() > SENT_WITHIN {
            return Err(Failure::new(format!(
                "{count:?} spans were sent, expected {spans}"
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A collector that takes everything.
fn collect(mut stream: TcpStream) -> std::io::Result<()> {
    let mut came = Vec::new();
    let mut some = [0; 4096];
    let body = loop {
        let text = String::from_utf8_lossy(&came).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
                break body.to_owned();
            }
        }
        match stream.read(&mut some)? {
            0 => return Ok(()),
            n => came.extend_from_slice(&some[..n]),
        }
    };
    SENT.lock().expect("nobody panics with it").push(body);
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    )
}

/// What the schema's own reader says of what was sent, a request a line.
fn read(sent: &str) -> Result<String, Failure> {
    said_by(READER, &setup::otlp_path()?, sent, "the traces are wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_schema_does_not_know_is_found_out() {
        let one = |key: &str, id: &str| {
            format!(
                "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{id}\",\"{key}\":1}}]}}]}}]}}"
            )
        };
        for sent in [
            String::new(),
            "{}".into(),
            one("kind", "0af7"),
            one("kinds", "0af7651916cd43dd8448eb211c80319c"),
        ] {
            let why = read(&sent).expect_err(&sent).to_string();
            assert!(why.contains("the traces are wrong"), "{why}");
        }
    }
}
