//! `cargo xtask framing`: does anybody outside agree that the edge cannot be desynchronised?
//!
//! Two judges that nobody here wrote: a corpus of requests with their severity, run by the edge's
//! own tests, and a prober that plays them against the running binary.
//!
//! Never trusts silence: the prober must first find the fault in a server that has it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::edge::Edge;
use crate::origin::{self, listen};
use crate::process::{Doing, Failure, line, root, run as run_command};
use crate::setup;

/// # Errors
/// A request of the corpus got through, or the prober found something, or could find nothing.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("framing takes no arguments"));
    }
    setup::request_corpus_is_there()?;
    run_command(&mut line(CORPUS_TESTS))?;
    prober()
}

fn prober() -> Result<(), Failure> {
    let found = prober_can_find()?;
    println!(
        "framing: control: in a naive server the prober finds {}",
        found.join(", ")
    );

    let edge = Edge::start(listen(polite_origin)?)?;
    let found = probe(edge.address, CHECKS)?;
    if found.is_empty() {
        println!("framing: in the edge it finds nothing");
        return Ok(());
    }
    Err(Failure::new(format!(
        "the prober found in the edge: {}",
        found.join(", ")
    )))
}

/// What the prober finds in a server that is open to smuggling.
///
/// # Errors
/// Nothing, so that its silence elsewhere would say nothing.
pub(crate) fn prober_can_find() -> Result<Vec<String>, Failure> {
    let naive = listen(naive_server)?;
    let found = probe(naive, "cl-te")?;
    if found.is_empty() {
        return Err(Failure::new(
            "the prober found nothing in a server that is open to smuggling",
        ));
    }
    Ok(found)
}

/// What the prober finds at an address: the names of its checks.
///
/// # Errors
/// It left no report, or its plain request had no answer.
pub(crate) fn probe(at: SocketAddr, checks: &str) -> Result<Vec<String>, Failure> {
    let report = root().join("target/framing.json");
    let mut command = Command::new(setup::smugglex()?);
    command.args([
        "--quiet",
        "--no-color",
        "--timeout",
        "3",
        "--checks",
        checks,
        "--json",
    ]);
    command
        .arg("--output")
        .arg(&report)
        .arg(format!("http://{at}/"));
    drop(std::fs::remove_file(&report));
    // Its exit status only says whether it found something; the report says what.
    let output = command.output().doing("starting the prober")?;
    let report = std::fs::read(&report).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        Failure::new(format!("the prober left no report: {error}\n{said}"))
    })?;
    findings(&report)
}

fn findings(report: &[u8]) -> Result<Vec<String>, Failure> {
    let report: Value = serde_json::from_slice(report)
        .map_err(|error| Failure::new(format!("the prober's report is no JSON: {error}")))?;
    let checks = report["results"][0]["checks"]
        .as_array()
        .filter(|checks| !checks.is_empty());
    let checks = checks.ok_or_else(|| Failure::new("the prober's report names no checks"))?;
    // A server that refuses everything would pass every check: the plain request must succeed.
    let refused = checks
        .iter()
        .find(|check| check["normal_status"] != "HTTP/1.1 200 OK");
    if let Some(check) = refused {
        return Err(Failure::new(format!(
            "the prober's plain request had no answer: {check}"
        )));
    }
    let found = checks.iter().filter(|check| check["vulnerable"] != false);
    Ok(found
        .map(|check| check["check_type"].as_str().unwrap_or("?").to_owned())
        .collect())
}

/// Answers every head with the same page, and closes.
fn polite_origin(mut stream: TcpStream) -> std::io::Result<()> {
    let head = head(&mut stream)?;
    if head.is_empty() {
        return Ok(());
    }
    stream.write_all(PAGE)
}

/// What a front that believes `Content-Length` before a back that believes `Transfer-Encoding`
/// looks like from outside: when both are there, it waits for chunks that never come.
fn naive_server(mut stream: TcpStream) -> std::io::Result<()> {
    let head = head(&mut stream)?;
    if head.contains("transfer-encoding") && head.contains("content-length") {
        std::thread::sleep(Duration::from_secs(10));
        return Ok(());
    }
    stream.write_all(PAGE)
}

/// One head, in lower case.
fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = origin::head(stream)?;
    Ok(String::from_utf8_lossy(&head).to_ascii_lowercase())
}

/// `.cargo/config.toml` tells them where the corpus is.
const CORPUS_TESTS: &str = "cargo test --locked -p shikiri-edge --test guard";
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";
/// Each check of the prober that speaks plain HTTP/1.1, the stateful ones included.
pub(crate) const CHECKS: &str = "cl-te,te-cl,te-te,h2c,h2,cl-edge,cl-0,0-cl,parser-discrepancy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_for_what_it_found() {
        for (checks, expected) in [
            (
                r#"{"check_type":"a","vulnerable":false,"normal_status":"HTTP/1.1 200 OK"}"#,
                Some(vec![]),
            ),
            (
                r#"{"check_type":"a","vulnerable":true,"normal_status":"HTTP/1.1 200 OK"}"#,
                Some(vec!["a"]),
            ),
            // What the report does not deny counts as found.
            (
                r#"{"check_type":"a","normal_status":"HTTP/1.1 200 OK"}"#,
                Some(vec!["a"]),
            ),
            (
                r#"{"check_type":"a","vulnerable":false,"normal_status":"HTTP/1.1 400 Bad Request"}"#,
                None,
            ),
            (r#"{"check_type":"a","vulnerable":false}"#, None),
            ("", None),
            ("?", None),
        ] {
            let report = format!(r#"{{"results":[{{"checks":[{checks}]}}]}}"#);
            let found = findings(report.as_bytes()).ok();
            let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(found, expected, "{report}");
        }
    }
}
