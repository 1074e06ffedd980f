//! `cargo xtask tls`: what outside tools find at an edge that speaks TLS and HTTP/2.
//!
//! Two judges that share no code with the edge: `sslyze` (OpenSSL) looks for old versions, weak suites and
//! known faults of TLS; frames by `hyperframe` and `hpack` try what RFC 9113 forbids, section by section,
//! as h2spec does, which no registry has.
//!
//! Invariant: both first see that what they look for can be found: a plain request is answered.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::edge::{Build, Edge};
use crate::origin::listen;
use crate::process::{Doing, Failure, root, run as run_command};
use crate::setup;

/// # Errors
/// What was found, or that it could not be looked for.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("tls takes no arguments"));
    }
    let folder = root().join("target/tls");
    // What an earlier run left is of no use.
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).doing(format_args!("making {}", folder.display()))?;
    python("certificate", &folder.display().to_string())?;
    let config = folder.join("edge.toml");
    let text = "version = 1\n[node]\ntrust = [\"127.0.0.1\"]\n[[listen]]\naddress = \"https://127.0.0.1:0\"\n\
                [[tls]]\nhosts = [\"shop.test\"]\ncert = \"shop.pem\"\nkey = \"shop.key\"\n";
    fs::write(&config, text).doing("writing the config")?;
    let origin = listen(serve)?;
    let more = ["--config", path(&config)?];
    let edge = Edge::start_built(Build::Debug, origin, &more)?;
    let port = edge.address.port().to_string();
    python("http2", &port)?;
    python("tls", &port)
}

fn path(path: &Path) -> Result<&str, Failure> {
    path.to_str()
        .ok_or_else(|| Failure::new(format!("{} is no text", path.display())))
}

fn python(command: &str, operand: &str) -> Result<(), Failure> {
    let script = root().join("crates/xtask/src/tls/scan.py");
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", setup::sslyze_path()?)
        .arg(script)
        .args([command, operand]);
    run_command(&mut python)
}

/// Answers whatever comes with the same.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    while stream.read(&mut piece)? > 0 {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
    }
    Ok(())
}
