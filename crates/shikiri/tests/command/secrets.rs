//! What members send is in nothing that the edge writes or tells: driven with secrets in every place
//! of a request and in every kind of error, at the loudest level.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::running::{Folder, run, shikiri, text};

/// In whatever case: a header's name may be lowered on the way.
const SECRET: &str = "k7q9zsecret";

#[test]
fn nothing_that_members_send_is_logged_counted_told_or_kept_in_clear() {
    for format in ["text", "json"] {
        let folder = Folder::new(&format!("secrets-{format}"));
        let (origin, heard) = origin();
        let mut edge = start(&folder, format, &origin);
        let address = address(&folder, "listening on http://");
        let admin = address_of_admin(&folder);
        drive(&address);
        for path in [
            "broken-head",
            "no-head",
            "hang",
            "cut",
            "redirect",
            "cookie",
            "interim",
            "upgrade",
            "chunks",
            "two-lengths",
            "page",
            "page",
        ] {
            drive_origin(&address, path);
        }
        drive_admin(&admin);
        let data = folder.path("data");
        for url in [
            SECRET,
            &format!("http://a.test/{SECRET}.css?mail={SECRET}@a.test"),
        ] {
            run(&["purge", "--data", &data, url]);
        }
        folder.file(
            "p.toml",
            &policy(&origin).replace("version = 1", "version = 2"),
        );
        assert!(!run(&["reload", "--data", &data]).status.success());

        assert!(
            heard.load(Ordering::Relaxed) > 20,
            "secrets have reached the origin"
        );
        for path in ["/metrics", "/status", "/status.json"] {
            let said = exchange(
                &admin,
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            );
            assert!(said.starts_with("HTTP/1.1 200 "));
            silent(path, &said);
        }
        let id = edge.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args(["-s", "TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        assert!(edge.wait().unwrap().success());
        let log = fs::read_to_string(folder.0.join("err")).unwrap();
        for expected in [
            "refused",
            "an origin failed",
            "a token was refused",
            "the old one stays",
            "DEBUG",
        ] {
            assert!(
                log.contains(expected),
                "the test drives `{expected}`:\n{log}"
            );
        }
        assert!(log.matches("refused").count() > 10, "{log}");
        all_files_are_silent(&folder.0);
    }
}

fn silent(what: &str, said: &str) {
    let low = said.to_ascii_lowercase();
    if let Some(at) = low.find(SECRET) {
        let from = at.saturating_sub(200);
        panic!(
            "{what} holds a secret: …{}…",
            text(&low.as_bytes()[from..at + SECRET.len()])
        );
    }
}

/// Standard output, standard error and whatever is kept in the data folder.
fn all_files_are_silent(folder: &Path) {
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files_are_silent(&path);
        } else if path.is_file() {
            silent(
                &path.display().to_string(),
                &text(&fs::read(&path).unwrap()),
            );
            seen += 1;
        }
    }
    assert!(seen > 0 || folder.components().count() > 4);
}

fn policy(origin: &str) -> String {
    format!(
        "version = 1\n[[origin]]\nhosts = [\"a.test\"]\nurl = \"{origin}\"\n[limits]\nhead_time_max = \"300ms\"\n\
         stall_time_max = \"300ms\"\nfirst_byte_time_max = \"300ms\"\nrequest_body_bytes_max = \"1 KiB\"\n"
    )
}

fn start(folder: &Folder, format: &str, origin: &str) -> Child {
    let policy = folder.file("p.toml", &policy(origin));
    let output = |name: &str| File::create(folder.0.join(name)).unwrap();
    shikiri(&[
        "edge",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--trust",
        "127.0.0.1",
    ])
    .args(["--policy", &policy, "--data", &folder.path("data")])
    .args(["--log", "trace", "--log-format", format])
    .stdout(output("out"))
    .stderr(output("err"))
    .stdin(Stdio::null())
    .spawn()
    .unwrap()
}

/// What stands behind this in what the edge has said.
fn address(folder: &Folder, before: &str) -> String {
    let began = Instant::now();
    loop {
        for file in ["out", "err"] {
            let said = fs::read_to_string(folder.0.join(file)).unwrap_or_default();
            if let Some((_, rest)) = said.split_once(before)
                && rest.contains('\n')
            {
                let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap();
                return rest.split_at(end).0.to_owned();
            }
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no {before}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn address_of_admin(folder: &Folder) -> String {
    address(folder, "admin on http://")
}

fn exchange(address: &str, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // It may be refused before it is sent whole.
    drop(stream.write_all(request.as_ref()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    text(&answer)
}

/// Requests that are refused, in every way that there is, and some that are not.
fn drive(address: &str) {
    let fields = format!(
        "Cookie: sid={SECRET}; mail={SECRET}@a.test\r\nAuthorization: Bearer {SECRET}\r\n\
         Referer: http://a.test/?{SECRET}\r\nX-Mail: {SECRET}@a.test\r\n"
    );
    let long = format!("{SECRET}/").repeat(8000);
    let many = format!("X-{SECRET}: {SECRET}\r\n").repeat(1000);
    let big = format!("{SECRET}=").repeat(500);
    for (first, host, more) in [
        (format!("GET /{SECRET}?mail={SECRET}@a.test"), "a.test", ""),
        (format!("GET /{SECRET}.css?token={SECRET}"), "a.test", ""),
        (format!("GET /{SECRET}.css"), "a.test", ""),
        (format!("GET /{SECRET}"), "k7q9zsecret.test", ""),
        (format!("GET /{SECRET}"), "k7q9zsecret test", ""),
        (
            format!("GET /{SECRET}"),
            "a.test\r\nHost: k7q9zsecret.test",
            "",
        ),
        (format!("GET /%zz{SECRET}"), "a.test", ""),
        (
            format!("GET http://{SECRET}:{SECRET}@a.test/{SECRET}"),
            "a.test",
            "",
        ),
        (format!("GET http://{SECRET}.test/"), "a.test", ""),
        (format!("CONNECT {SECRET}.test:443"), "a.test", ""),
        (format!("{SECRET} /{SECRET}"), "a.test", ""),
        (format!("GET /{long}"), "a.test", ""),
        (format!("GET /{SECRET}"), "a.test", &many),
        (
            format!("GET /{SECRET}"),
            "a.test",
            "X: k7q9zsecret\r\n k7q9zsecret\r\n",
        ),
        (format!("GET /{SECRET}"), "a.test", "k7q9zsecret\r\n"),
        (format!("GET /{SECRET}"), "a.test", "k7q9zsecret : 1\r\n"),
        (format!("GET /{SECRET}"), "a.test", "X: k7q9zsecret\0\r\n"),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Content-Length: k7q9zsecret\r\n",
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Transfer-Encoding: k7q9zsecret\r\n",
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Transfer-Encoding: chunked\r\n\r\nk7q9zsecret\r\n",
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Content-Length: 5000\r\n\r\nk7q9zsecret",
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            &format!("Content-Length: {}\r\n\r\n{big}", big.len()),
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Content-Length: 100\r\n\r\nk7q9zsecret",
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Content-Length: 11\r\nExpect: k7q9zsecret\r\n\r\nk7q9zsecret",
        ),
        (
            format!("POST /{SECRET}"),
            "a.test",
            "Content-Length: 11\r\n\r\nk7q9zsecret",
        ),
        (
            format!("GET /{SECRET}"),
            "a.test",
            "Upgrade: k7q9zsecret\r\nConnection: upgrade\r\n",
        ),
        (
            format!("GET /{SECRET}"),
            "a.test",
            "Range: bytes=k7q9zsecret\r\nIf-None-Match: k7q9zsecret\r\n",
        ),
        (
            format!("GET /{SECRET}.css"),
            "a.test",
            "Cache-Control: only-if-cached, k7q9zsecret\r\n",
        ),
        (
            format!("GET /{SECRET}"),
            "a.test",
            "CDN-Loop: k7q9zsecret\r\nForwarded: for=k7q9zsecret\r\nX-Forwarded-For: k7q9zsecret\r\n",
        ),
        (
            format!("OPTIONS /{SECRET}"),
            "a.test",
            "Max-Forwards: 0\r\n",
        ),
        (format!("TRACE /{SECRET}"), "a.test", "Max-Forwards: 0\r\n"),
    ] {
        exchange(
            address,
            format!("{first} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n{more}\r\n"),
        );
    }
    for raw in [
        format!("GET /{SECRET} HTTP/{SECRET}\r\n\r\n"),
        format!("GET /{SECRET}\r\n"),
        format!("GET /{SECRET} HTTP/1.1\r\nHost: a.test\r\nX: {SECRET}"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{SECRET}{SECRET}{SECRET}"),
        format!("\u{16}\u{3}\u{1}\0\u{7f}{SECRET}{SECRET}"),
        format!("PROXY TCP4 {SECRET} 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n"),
        SECRET.to_owned(),
    ] {
        exchange(address, raw);
    }
}

/// Requests at which the origin does something wrong.
fn drive_origin(address: &str, path: &str) {
    for end in ["", ".css"] {
        exchange(
            address,
            format!(
                "GET /{path}/{SECRET}{end} HTTP/1.1\r\nHost: a.test\r\nCookie: sid={SECRET}\r\nConnection: close\r\n\r\n"
            ),
        );
    }
}

fn drive_admin(address: &str) {
    for (first, host, more) in [
        (format!("GET /{SECRET}"), "localhost", ""),
        (format!("{SECRET} /status"), "localhost", ""),
        ("GET /status".to_owned(), "k7q9zsecret.test", ""),
        (
            "GET /status".to_owned(),
            "localhost",
            "Authorization: Bearer shikiri_k7q9zsecret\r\n",
        ),
        (
            "GET /status".to_owned(),
            "localhost",
            "Authorization: k7q9zsecret\r\n",
        ),
        (
            "POST /purge".to_owned(),
            "localhost",
            "Content-Length: 11\r\n\r\nk7q9zsecret",
        ),
        ("GET /status".to_owned(), "localhost", "k7q9zsecret\r\n"),
    ] {
        exchange(
            address,
            format!("{first} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"),
        );
    }
}

/// An origin that misbehaves as a request's path says, and puts secrets into all that it says. It
/// counts the requests in which it saw one.
fn origin() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(AtomicUsize::new(0));
    let hears = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let hears = Arc::clone(&hears);
            std::thread::spawn(move || misbehave(stream, &hears));
        }
    });
    (address, heard)
}

fn misbehave(mut stream: TcpStream, heard: &AtomicUsize) {
    let mut head = String::new();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { return };
        if line.is_empty() {
            break;
        }
        head.push_str(&line);
        head.push('\n');
    }
    if head.contains(SECRET) {
        heard.fetch_add(1, Ordering::Relaxed);
    }
    let kind = head.split('/').nth(1).unwrap_or_default();
    let good = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nX-Echo: {SECRET}\r\nETag: \"{SECRET}\"\r\n"
    );
    let answer = match kind {
        "broken-head" => format!("HTTP/1.1 200 OK\r\n{SECRET} {SECRET}\r\n\r\n{SECRET}"),
        "no-head" => SECRET.to_owned(),
        "hang" => {
            std::thread::sleep(Duration::from_millis(600));
            String::new()
        }
        "cut" => format!("{good}Content-Length: 1000\r\n\r\n{SECRET}"),
        "redirect" => format!(
            "HTTP/1.1 302 Found\r\nLocation: http://a.test/?sid={SECRET}\r\nContent-Length: 0\r\n\r\n"
        ),
        "cookie" => format!("{good}Set-Cookie: sid={SECRET}\r\nContent-Length: 2\r\n\r\nok"),
        "interim" => {
            format!("HTTP/1.1 199 {SECRET}\r\nX: {SECRET}\r\n\r\n{good}Content-Length: 2\r\n\r\nok")
        }
        "upgrade" => format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {SECRET}\r\nConnection: upgrade\r\n\r\n{SECRET}"
        ),
        "chunks" => format!("{good}Transfer-Encoding: chunked\r\n\r\n{SECRET}\r\n{SECRET}"),
        "two-lengths" => format!("{good}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{SECRET}"),
        "page" => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: max-age=60\r\n\
             Content-Length: {}\r\n\r\n<p>{SECRET}</p>",
            SECRET.len() + 7
        ),
        _ => format!("{good}Content-Length: {}\r\n\r\n{SECRET}", SECRET.len()),
    };
    drop(stream.write_all(answer.as_bytes()));
}
