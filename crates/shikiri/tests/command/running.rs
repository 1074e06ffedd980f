//! Running the built binary as an operator would, in folders of a test's own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A folder of one test's own, gone when the test ends.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shikiri-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn shikiri(arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_shikiri")));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("SHIKIRI_CONTROL");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    shikiri(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running edge; ended when dropped.
pub(crate) struct Edge {
    pub(crate) data: Folder,
    pub(crate) child: Child,
    pub(crate) address: String,
    errors: BufReader<ChildStderr>,
}

impl Edge {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let nth = STARTED.fetch_add(1, Ordering::Relaxed);
        let data = Folder::new(&format!("edge-{nth}"));
        let mut child = shikiri(&["edge", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .args(if arguments.contains(&"--data") {
                Vec::new()
            } else {
                vec!["--data".to_owned(), data.path("data")]
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .expect(&line)
            .to_owned();
        let errors = BufReader::new(child.stderr.take().unwrap());
        Self {
            data,
            child,
            address,
            errors,
        }
    }

    pub(crate) fn ask(&self, request: &str) -> String {
        ask(&self.address, request)
    }

    pub(crate) fn get(&self, host: &str, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Reads what it logs until a line holds this.
    pub(crate) fn logs(&mut self, what: &str) -> String {
        let mut all = String::new();
        loop {
            let before = all.len();
            assert!(
                self.errors.read_line(&mut all).unwrap() > 0,
                "no `{what}` in:\n{all}"
            );
            if all.get(before..).is_some_and(|line| line.contains(what)) {
                return all;
            }
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    text(&answer)
}

/// An origin that answers every request with its path, as a style sheet.
pub(crate) fn origin() -> String {
    origin_that_says("Content-Type: text/css")
}

/// An origin that answers every request with its path, under these lines of a head.
pub(crate) fn origin_that_says(lines: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut asked = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(first)) = asked.next() else {
                    return;
                };
                for line in asked {
                    if line.is_ok_and(|line| line.is_empty()) {
                        break;
                    }
                }
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\n{lines}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{path}",
                    path.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            });
        }
    });
    format!("http://{address}")
}
