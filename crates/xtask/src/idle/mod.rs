//! `cargo xtask idle`: what ten thousand idle client connections cost in memory, of each kind that
//! clients open: HTTP/1.1, the same in TLS, and HTTP/2 in TLS.
//!
//! The binary is that of everybody's tests: what a connection takes is the same without optimisation (the
//! same futures and buffers), and the process itself takes ten megabytes more. `--optimised` builds and
//! measures the other.
//!
//! Never counts what is not there: each connection has had an answer, all of them are open at once by
//! the edge's own count, and some are asked again afterwards.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::edge::{Build, Edge};
use crate::origin::{head, listen};
use crate::process::{Doing, Failure, end};

/// Connections at once, of each kind.
const CONNECTIONS: u64 = 10_000;
/// What the whole process may take with them, whatever they speak.
const RESIDENT_BYTES_MAX: u64 = 400_000_000;
/// So many of them are asked again.
const ASKED_AGAIN: u64 = 200;

const KINDS: [(&str, &str); 3] = [
    ("h1", "HTTP/1.1"),
    ("tls", "HTTP/1.1 in TLS"),
    ("h2", "HTTP/2 in TLS"),
];

const CLIENT: &str = include_str!("client.py");
/// Of nobody: made for this, and good until 2126.
const CERTIFICATE: &str = include_str!("test-only-cert.pem");
const KEY: &str = include_str!("test-only-key.pem");

/// # Errors
/// A connection was not answered or not kept, or they take too much memory.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let (switches, named): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|word| *word == "--optimised");
    let build = if switches.is_empty() {
        Build::Debug
    } else {
        Build::Optimised
    };
    let chosen = |kind: &str| named.is_empty() || named.iter().any(|word| *word == kind);
    if let Some(unknown) = named
        .iter()
        .find(|word| KINDS.iter().all(|(kind, _)| kind != *word))
    {
        return Err(Failure::new(format!(
            "`{unknown}` is no kind: h1, tls or h2"
        )));
    }
    let folder = std::env::temp_dir().join(format!("shikiri-idle-{}", std::process::id()));
    fs::create_dir_all(&folder).doing("making a folder")?;
    let origin = listen(serve)?;
    let mut results = KINDS
        .iter()
        .filter(|(kind, _)| chosen(kind))
        .map(|(kind, about)| measure((kind, about), build, origin, &folder));
    let done = results.try_for_each(|result| result);
    drop(fs::remove_dir_all(&folder));
    done
}

fn measure(
    (kind, about): (&str, &str),
    build: Build,
    origin: SocketAddr,
    folder: &Path,
) -> Result<(), Failure> {
    let scheme = if kind == "h1" { "http" } else { "https" };
    let config = config(scheme, folder)?;
    let edge = Edge::start_built(build, origin, &["--config", &config, "--log", "error"])?;
    let before = resident_bytes(&edge)?;
    let begun = Instant::now();
    let mut client = Client::start(edge.address, kind)?;
    let took = begun.elapsed();
    let counted = metric(&edge.metrics()?, "shikiri_connections")?;
    if counted < CONNECTIONS {
        return Err(Failure::new(format!("only {counted} connections are open")));
    }
    let after = resident_bytes(&edge)?;
    client.ask_again()?;
    let each = after.saturating_sub(before) / CONNECTIONS;
    let (mb, mb_before) = (after / 1_000_000, before / 1_000_000);
    println!(
        "idle: {CONNECTIONS} connections, {about}: {mb} MB in use ({mb_before} MB before), {each} bytes each; \
         opened in {:.1} s",
        took.as_secs_f64()
    );
    if after > RESIDENT_BYTES_MAX {
        let most = RESIDENT_BYTES_MAX / 1_000_000;
        return Err(Failure::new(format!("more than {most} MB")));
    }
    Ok(())
}

/// A config with a certificate, time enough for all to be opened, and a share for all: they come from one
/// address.
fn config(scheme: &str, folder: &Path) -> Result<String, Failure> {
    use std::os::unix::fs::PermissionsExt;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).doing(format_args!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .doing(format_args!("closing {}", path.display()))?;
        Ok::<_, Failure>(path.display().to_string())
    };
    write("cert.pem", CERTIFICATE)?;
    write("key.pem", KEY)?;
    write(
        "policy.toml",
        &format!(
            "version = 1\n[limits]\nidle_time_max = \"10m\"\nconnections_per_address_max = {CONNECTIONS}\n"
        ),
    )?;
    let tls = "[[tls]]\nhosts = [\"idle.test\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
    let tls = if scheme == "https" { tls } else { "" };
    write(
        "edge.toml",
        &format!(
            "version = 1\n[node]\npolicy = \"policy.toml\"\n[[listen]]\naddress = \"{scheme}://127.0.0.1:0\"\n{tls}"
        ),
    )
}

/// The connections, in a process of their own: they take as many descriptors there as here.
struct Client {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Client {
    /// Opens them all, and has an answer on each.
    fn start(edge: SocketAddr, kind: &str) -> Result<Self, Failure> {
        let mut python = Command::new("python3");
        python.args([
            "-c",
            CLIENT,
            &edge.ip().to_string(),
            &edge.port().to_string(),
            kind,
        ]);
        python.args([CONNECTIONS.to_string(), ASKED_AGAIN.to_string()]);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().doing("starting python3")?;
        let says = child.stdout.take().expect("its output was asked for");
        let mut client = Self {
            child,
            says: BufReader::new(says),
        };
        client.expect("open")?;
        Ok(client)
    }

    fn ask_again(&mut self) -> Result<(), Failure> {
        let input = self.child.stdin.as_mut().expect("its input was asked for");
        input.write_all(b"\n").doing("telling the client")?;
        self.expect("asked")
    }

    fn expect(&mut self, what: &str) -> Result<(), Failure> {
        let mut line = String::new();
        self.says.read_line(&mut line).doing("hearing the client")?;
        if line.trim() == what {
            return Ok(());
        }
        Err(Failure::new(
            "a connection was not answered, or not kept; the client said why",
        ))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        end(&mut self.child);
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

/// One style sheet, for everybody.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    const BODY: &str = "a { color: red }";
    head(&mut stream)?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=3600\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes())
}
