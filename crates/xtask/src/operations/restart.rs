//! Restarts under load: clients that take no answer but the right one notice nothing.
//!
//! Two ways: a node that hands over to the one that replaces it, and a socket that a service manager
//! holds while one node ends and the next begins. Never lenient: a connection that is closed or reset
//! where an answer was due is a failure, however easily a browser would try again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::edge::{self, Node, binary, free_port};
use crate::origin::{asked, listen};
use crate::process::{Doing, Failure};

const RESTARTS: usize = 5;
const CLIENTS: usize = 8;
/// What runs longer than it takes to replace a node.
const LONG: Duration = Duration::from_secs(3);

/// # Errors
/// A request failed, or a node was not replaced.
pub(super) fn run() -> Result<(), Failure> {
    edge::build()?;
    let folder = std::env::temp_dir().join(format!("shikiri-restart-{}", std::process::id()));
    let done = in_folder(&folder);
    drop(std::fs::remove_dir_all(&folder));
    done
}

fn in_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).doing("making a folder")?;
    let origin = listen(serve)?;
    let plan = Plan {
        folder: folder.to_owned(),
        origin,
        listen: free_port()?,
    };
    let (replaced, report) = replaced(&plan)?;
    println!("operations: {RESTARTS} times replaced: {report}");
    plan.has_rows_for(replaced)?;
    let (restarted, report) = with_a_held_socket(&plan)?;
    println!("operations: {RESTARTS} times restarted behind a held socket: {report}");
    plan.has_rows_for(replaced + restarted)?;
    println!(
        "operations: evidence has {} responses, as many as were answered, and is as it was written",
        replaced + restarted
    );
    Ok(())
}

/// Each node is told to replace the one before it. Returns how many requests were answered, and a
/// report.
fn replaced(plan: &Plan) -> Result<(u64, String), Failure> {
    plan.write_policy(0)?;
    let mut node = Node::start(plan.command(&[]))?;
    let load = Load::begin(plan.listen);
    let mut long = Vec::new();
    for n in 1..=RESTARTS {
        thread::sleep(Duration::from_millis(300));
        long.push(thread::spawn({
            let address = plan.listen;
            move || ask_long(address)
        }));
        thread::sleep(Duration::from_millis(300));
        plan.write_policy(n)?;
        let next = Node::start(plan.command(&["--replace"]))?;
        let before = std::mem::replace(&mut node, next);
        before.ends_by_itself()?;
        plan.serves(&node)?;
    }
    thread::sleep(Duration::from_millis(300));
    let (answered, report) = load.end()?;
    for download in long {
        download
            .join()
            .map_err(|_| Failure::new("a download panicked"))??;
    }
    node.terminate()?;
    node.ends_by_itself()?;
    let report = format!("{report}, {RESTARTS} downloads ran on to their ends");
    Ok((answered + RESTARTS as u64, report))
}

/// A service manager's way: the socket is held, one node ends, the next begins.
fn with_a_held_socket(plan: &Plan) -> Result<(u64, String), Failure> {
    let socket = TcpListener::bind(plan.listen).doing("listening")?;
    let mut node = Node::start(plan.command_with(&socket)?)?;
    let load = Load::begin(plan.listen);
    for n in 1..=RESTARTS {
        thread::sleep(Duration::from_millis(300));
        plan.write_policy(n)?;
        node.terminate()?;
        node.ends_by_itself()?;
        node = Node::start(plan.command_with(&socket)?)?;
    }
    thread::sleep(Duration::from_millis(300));
    let done = load.end()?;
    node.terminate()?;
    node.ends_by_itself()?;
    Ok(done)
}

/// What every node of a run has in common.
struct Plan {
    folder: PathBuf,
    origin: SocketAddr,
    listen: SocketAddr,
}

impl Plan {
    fn write_policy(&self, n: usize) -> Result<(), Failure> {
        let text = format!(
            "version = 1\n[session]\ncookies = [\"sid\"]\n[limits]\nshutdown_time_max = \"10s\"\n\
             requests_max = {}\n",
            1000 + n
        );
        std::fs::write(self.folder.join("policy.toml"), text).doing("writing a policy")
    }

    fn arguments(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let origin = format!("http://{}", self.origin);
        let words = [
            "edge",
            "--origin",
            &origin,
            "--listen",
            &self.listen.to_string(),
            "--policy",
            &file("policy.toml"),
            "--data",
            &file("data"),
            "--log",
            "warn",
            "--no-watch",
        ];
        words.map(str::to_owned).to_vec()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(self.arguments()).args(more);
        command.stdin(Stdio::null());
        command
    }

    /// With a socket that listens already, as a service manager passes one (`sd_listen_fds`).
    fn command_with(&self, socket: &TcpListener) -> Result<Command, Failure> {
        let mut command = Command::new("sh");
        // The first descriptor that is passed is number 3; the process is to know that it is meant.
        let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        command
            .args(["-c", script])
            .arg(binary())
            .args(self.arguments());
        let socket = socket.try_clone().doing("copying a socket")?;
        command.stdin(Stdio::from(OwnedFd::from(socket)));
        Ok(command)
    }

    /// Evidence has a row for every response, from whichever node, and is whole.
    fn has_rows_for(&self, responses: u64) -> Result<(), Failure> {
        let data = self.folder.join("data");
        edge::verify_evidence(&data)?;
        let counted = edge::count_evidence(&data)?;
        let complete = &counted["by"]["ended"]["complete"];
        if counted["responses"] == responses && *complete == responses && counted["gaps"] == 0 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{responses} requests were answered, and evidence has {counted}"
        )))
    }

    /// It is this node that answers on the control socket.
    fn serves(&self, node: &Node) -> Result<(), Failure> {
        let mut status = Command::new(binary());
        status
            .args(["status", "--json", "--data"])
            .arg(self.folder.join("data"));
        let output = status.output().doing("asking for the status")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains(&format!("\"pid\": {},", node.id())) && output.status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the new node ({}) does not answer: {text}{}",
            node.id(),
            String::from_utf8_lossy(&output.stderr)
        )))
    }
}

/// Clients that ask all the time.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<Duration, Failure>>>,
}

impl Load {
    fn begin(address: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (answered, connections) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let clients = (0..CLIENTS).map(|n| {
            let (over, answered, connections) = (
                Arc::clone(&over),
                Arc::clone(&answered),
                Arc::clone(&connections),
            );
            thread::spawn(move || {
                let mut client = Client::new(address);
                let mut slowest = Duration::ZERO;
                let mut turn = n;
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    client.ask(turn).map_err(|error| {
                        Failure::new(format!("client {n}, request {turn}: {error}"))
                    })?;
                    slowest = slowest.max(begun.elapsed());
                    answered.fetch_add(1, Ordering::Relaxed);
                    turn += 1;
                    // An idle connection, too, must not be closed on a request that is on its way.
                    thread::sleep(Duration::from_millis((turn * 7 % 40) as u64));
                }
                connections.fetch_add(client.connections, Ordering::Relaxed);
                Ok(slowest)
            })
        });
        Self {
            clients: clients.collect(),
            over,
            answered,
            connections,
        }
    }

    /// Stops asking and says how many were answered, and how it went.
    fn end(self) -> Result<(u64, String), Failure> {
        self.over.store(true, Ordering::Relaxed);
        let mut slowest = Duration::ZERO;
        for client in self.clients {
            let done = client
                .join()
                .map_err(|_| Failure::new("a client panicked"))??;
            slowest = slowest.max(done);
        }
        let (answered, connections) = (
            self.answered.load(Ordering::Relaxed),
            self.connections.load(Ordering::Relaxed),
        );
        if connections < (CLIENTS * 2) as u64 {
            return Err(Failure::new("no client had to open a second connection"));
        }
        let report = format!(
            "{answered} requests of {CLIENTS} clients on {connections} connections, none failed, the slowest \
             took {} ms",
            slowest.as_millis()
        );
        Ok((answered, report))
    }
}

/// A client that keeps its connection for as long as it is not told that a response was the last.
struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    connections: u64,
}

impl Client {
    const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            connections: 0,
        }
    }

    /// Something public, something of a member's own, something slow, something posted.
    fn ask(&mut self, turn: usize) -> std::io::Result<()> {
        let path = match turn % 4 {
            0 => "/public.css".to_owned(),
            1 => format!("/account/{turn}"),
            2 => format!("/slow/{turn}"),
            _ => format!("/post/{turn}"),
        };
        let body = "x".repeat(turn % 100);
        let request = if path.starts_with("/post") {
            format!(
                "POST {path} HTTP/1.1\r\nHost: shop.test\r\nCookie: sid={turn}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        } else {
            format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nCookie: sid={turn}\r\n\r\n")
        };
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.connections += 1;
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(request.as_bytes())?;
        let (answer, last) = answer(&mut stream)?;
        if answer != path.as_bytes() {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            return Err(std::io::Error::other(format!(
                "{path} was answered with {answer}"
            )));
        }
        if !last {
            self.stream = Some(stream);
        }
        Ok(())
    }
}

/// A response's body, and whether it was the connection's last.
fn answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<(Vec<u8>, bool)> {
    let mut status = String::new();
    stream.read_line(&mut status)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(std::io::Error::other(format!(
            "no 200 but `{}`",
            status.trim()
        )));
    }
    let (mut length, mut last) = (None, false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
        last |= line == "connection: close";
    }
    let length: usize = length.ok_or_else(|| std::io::Error::other("no length"))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((body, last))
}

/// A download that runs longer than a replacement takes.
fn ask_long(address: SocketAddr) -> Result<(), Failure> {
    let done = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"GET /long HTTP/1.1\r\nHost: shop.test\r\nCookie: sid=1\r\n\r\n")?;
        let (body, _) = answer(&mut BufReader::new(stream))?;
        std::io::Result::Ok(body.len())
    };
    match done() {
        Ok(LONG_BYTES) => Ok(()),
        Ok(other) => Err(Failure::new(format!("a download had {other} bytes"))),
        Err(error) => Err(Failure::new(format!("a download was cut: {error}"))),
    }
}

const LONG_PIECES: u32 = 30;
const LONG_BYTES: usize = 30 * 1000;

/// Answers with the path; slowly, where it says so.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some((_, path)) = asked(&mut reader)? {
        if path == "/long" {
            stream.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {LONG_BYTES}\r\n\r\n")
                    .as_bytes(),
            )?;
            for _ in 0..LONG_PIECES {
                thread::sleep(LONG / LONG_PIECES);
                stream.write_all(&[b'x'; 1000])?;
            }
            continue;
        }
        if path.starts_with("/slow") {
            thread::sleep(Duration::from_millis(150));
        }
        let kind = if path.ends_with(".css") {
            "text/css"
        } else {
            "text/plain"
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{path}",
            path.len()
        );
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}
