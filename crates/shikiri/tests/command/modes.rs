//! A site that is closed, opened and purged by its operator, over real sockets and restarts.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::running::{Edge, Folder, run, text};

/// An origin that answers every request with its path as a style sheet with the tag `red`, and `/drip`
/// with a body that never ends.
fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || answer(stream));
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    for line in lines {
        if line.is_ok_and(|line| line.is_empty()) {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Tag: red\r\nConnection: close\r\n";
    if path != "/drip" {
        drop(write!(
            stream,
            "{head}Content-Length: {}\r\n\r\n{path}",
            path.len()
        ));
        return;
    }
    let chunk = "x".repeat(1000);
    if write!(
        stream,
        "{head}Cache-Control: private\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .is_err()
    {
        return;
    }
    while write!(stream, "3e8\r\n{chunk}\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}\n{out}{err}");
    out
}

fn stop(mut edge: Edge) {
    edge.signal("TERM");
    assert!(edge.child.wait().unwrap().success());
}

#[test]
fn a_site_is_closed_and_stays_so_over_a_restart() {
    let folder = Folder::new("modes");
    let data = folder.path("data");
    let page = folder.file(
        "page.html",
        "<h1>closed</h1>{{#reopening}}{{reopening_en}}{{/reopening}}",
    );
    let noted = folder.path("noted");
    let hook = format!("cat > {noted}.json; echo \"$SHIKIRI_MODE: $SHIKIRI_REASON\" >> {noted}");
    let origin = origin();
    let flags = [
        "--origin",
        &origin,
        "--data",
        &data,
        "--maintenance-page",
        &page,
        "--on-mode",
        &hook,
    ];
    let edge = Edge::start(&flags);
    let mode = |arguments: &[&str]| done(&[&["mode", "--data", &data], arguments].concat());
    assert!(edge.get("a.test", "/a.css").ends_with("/a.css"));
    let mut running = TcpStream::connect(&edge.address).unwrap();
    write!(running, "GET /drip HTTP/1.0\r\nHost: a.test\r\n\r\n").unwrap();
    let mut some = [0; 4000];
    running.read_exact(&mut some).unwrap();

    let without = run(&["mode", "--data", &data, "closed"]);
    assert!(text(&without.stderr).contains("--reason"));
    let would = mode(&["pass", "--reason", "r", "--dry-run"]);
    assert!(
        would.contains("would be pass") && would.contains("no longer shared: assets"),
        "{would}"
    );

    let said = mode(&[
        "closed",
        "--reason",
        "reports of others' pages",
        "--reopening",
        "2h",
    ]);
    let closed_at = Instant::now();
    assert!(said.contains("the mode is closed (it was open)"), "{said}");
    assert!(
        said.contains("1 connections reset, 1 responses cut"),
        "{said}"
    );
    // What ran is reset, and not just ended: HTTP/1.0 would take that for the whole.
    let mut rest = Vec::new();
    let ended = running.read_to_end(&mut rest);
    assert!(ended.is_err(), "{} bytes and then an end", rest.len());
    assert!(closed_at.elapsed() < Duration::from_secs(1));
    for (path, body) in [("/a.css", true), ("/drip", true), ("/account", true)] {
        let answer = edge.get("a.test", path);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let low = answer.to_ascii_lowercase();
        assert!(
            low.contains("retry-after: 7") && low.contains("cache-control: no-store"),
            "{answer}"
        );
        assert_eq!(
            answer.contains("<h1>closed</h1>") && answer.contains("(JST)"),
            body
        );
    }
    let head = edge.ask("HEAD / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let post = edge.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n");
    assert!(
        post.starts_with("HTTP/1.1 503 "),
        "its body is not waited for: {post}"
    );
    mode(&["closed", "--reason", "takes longer", "--reopening", "none"]);
    assert!(!edge.get("a.test", "/").contains("(JST)"));

    let token = done(&[
        "grant", "new", "--data", &data, "--name", "Sato", "--for", "5m", "--token",
    ]);
    let preview = format!(
        "GET /a.css HTTP/1.1\r\nHost: a.test\r\nShikiri-Preview: {}\r\nConnection: close\r\n\r\n",
        token.trim()
    );
    assert!(edge.ask(&preview).ends_with("/a.css"));
    assert!(edge.get("a.test", "/a.css").starts_with("HTTP/1.1 503 "));
    done(&["grant", "revoke", "--data", &data, "Sato"]);
    assert!(edge.ask(&preview).starts_with("HTTP/1.1 503 "));

    // Killed, not stopped: it comes back closed.
    edge.signal("KILL");
    drop(edge);
    let edge = Edge::start(&flags);
    assert!(edge.get("a.test", "/a.css").starts_with("HTTP/1.1 503 "));
    let said = mode(&["open", "--reason", "checked with two members"]);
    assert!(said.contains("shared from now on: assets"), "{said}");
    assert!(edge.get("a.test", "/a.css").ends_with("/a.css"));

    let shown = done(&["timeline", "show", "--data", &data, "--zone", "UTC"]);
    let mut rest = shown.as_str();
    for what in [
        "node started, run 1: mode open, epoch 1",
        "rules in force",
        "mode open -> closed",
        "reports of others' pages",
        "reopening no longer planned",
        "preview of open granted to `Sato` for 5 minutes",
        "used",
        "revoked",
        "node started, run 2: mode closed, epoch 1",
        "the run before had not stopped as it was told to",
        "mode closed -> open",
        "checked with two members",
    ] {
        let at = rest
            .find(what)
            .unwrap_or_else(|| panic!("no `{what}` then in\n{shown}"));
        rest = rest.get(at + what.len()..).unwrap();
    }
    assert!(!shown.contains(token.trim()));
    let json = done(&["timeline", "show", "--data", &data, "--json"]);
    assert!(
        json.lines()
            .all(|line| line.starts_with('{') && line.ends_with('}'))
    );
    let told = || fs::read_to_string(&noted).unwrap_or_default();
    let patience = Instant::now();
    while !told().contains("open: checked") && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        told(),
        "closed: reports of others' pages\nopen: checked with two members\n"
    );
    let last = fs::read_to_string(format!("{noted}.json")).unwrap();
    assert!(last.contains(r#""from":"closed","mode":"open""#), "{last}");
}

#[test]
fn purges_say_what_they_covered_and_hold_over_restarts() {
    let folder = Folder::new("purges");
    let data = folder.path("data");
    let origin = origin();
    let flags = ["--origin", &origin, "--data", &data, "--trust", "127.0.0.1"];
    let edge = Edge::start(&flags);
    let purge = |arguments: &[&str]| done(&[&["purge", "--data", &data], arguments].concat());
    let is_hit = |path: &str| edge.get("a.test", path).contains("shikiri; hit");
    let fill = || {
        for path in ["/x/a.css", "/x/b.css", "/y/a.css"] {
            edge.get("a.test", path);
            assert!(is_hit(path), "{path}");
        }
    };
    for (arguments, objects, dead) in [
        (&["http://a.test/x/a.css"][..], 1, [true, false, false]),
        (&["--prefix", "http://a.test/x/"], 2, [true, true, false]),
        (&["--tag", "red"], 3, [true, true, true]),
        (
            &["--tag", "red", "--host", "b.test"],
            0,
            [false, false, false],
        ),
        (&["--tag", "blue"], 0, [false, false, false]),
        (
            &["--group", "g", "--host", "a.test"],
            0,
            [false, false, false],
        ),
        (&["--all"], 3, [true, true, true]),
    ] {
        fill();
        let would = purge(&[arguments, &["--dry-run"]].concat());
        assert!(
            would.contains(&format!("{objects} stored objects would be freed")),
            "{would}"
        );
        assert!(is_hit("/x/b.css"), "a dry run changes nothing");
        let said = purge(arguments);
        assert!(
            said.contains(&format!("{objects} stored objects freed")),
            "{said}"
        );
        for (path, dead) in ["/x/a.css", "/x/b.css", "/y/a.css"].into_iter().zip(dead) {
            assert_eq!(is_hit(path), !dead, "{arguments:?} {path}");
        }
    }
    let answer = edge.get("a.test", "/x/a.css").to_ascii_lowercase();
    assert!(!answer.contains("cache-tag"), "{answer}");
    let json = done(&[
        "purge",
        "--data",
        &data,
        "--json",
        "http://a.test/x/a.css?token=abcdefgh",
    ]);
    let order: u64 = field(&json, "order");
    let status = done(&["status", "--data", &data, "--json"]);
    assert_eq!(field(&status, "epoch"), 2);
    stop(edge);
    let edge = Edge::start(&flags);
    let status = done(&["status", "--data", &data, "--json"]);
    assert_eq!(field(&status, "epoch"), 2, "a purge of everything holds");
    let json = done(&["purge", "--data", &data, "--json", "http://a.test/x/a.css"]);
    assert!(
        field(&json, "order") > order,
        "places go on after a restart"
    );
    let shown = done(&["timeline", "show", "--data", &data]);
    assert!(shown.contains("purged all with the tag `red`"), "{shown}");
    assert!(
        shown.contains("a URL that names somebody") && !shown.contains("abcdefgh"),
        "{shown}"
    );
    drop(edge);
}

fn field(json: &str, name: &str) -> u64 {
    let (_, rest) = json.split_once(&format!("\"{name}\": ")).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn a_damaged_timeline_shares_less_and_says_so_once() {
    let folder = Folder::new("damaged");
    let data = folder.path("data");
    let origin = origin();
    let flags = ["--origin", &origin, "--data", &data];
    let edge = Edge::start(&flags);
    done(&["mode", "--data", &data, "closed", "--reason", "first"]);
    done(&["mode", "--data", &data, "open", "--reason", "second"]);
    stop(edge);
    let segment = folder.0.join("data/timeline/0000000001.segment");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|part| part == b"second").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let mut edge = Edge::start(&flags);
    let said = edge.logs("UNKNOWN MEANS SHARE LESS");
    // The last mode that can be read is `closed`.
    assert!(said.contains("the mode is closed"), "{said}");
    assert!(edge.get("a.test", "/a.css").starts_with("HTTP/1.1 503 "));
    done(&["mode", "--data", &data, "open", "--reason", "third"]);
    stop(edge);
    let edge = Edge::start(&flags);
    assert!(
        edge.get("a.test", "/a.css").ends_with("/a.css"),
        "what was told of is damage no more"
    );
    let shown = done(&["timeline", "show", "--data", &data]);
    assert!(shown.contains("CANNOT BE READ") && shown.contains("timeline: a part cannot be read"));
    drop(edge);
    fs::remove_dir_all(folder.0.join("data/timeline")).unwrap();
    let mut edge = Edge::start(&flags);
    let said = edge.logs("UNKNOWN MEANS SHARE LESS");
    assert!(
        said.contains("the mode is pass") && said.contains("it is gone"),
        "{said}"
    );
}

#[test]
fn drain_says_when_nothing_comes_any_more() {
    let folder = Folder::new("drain");
    let data = folder.path("data");
    let origin = origin();
    let edge = Edge::start(&["--origin", &origin, "--data", &data]);
    edge.get("a.test", "/a.css");
    let gave_up = run(&[
        "drain",
        "--data",
        &data,
        "--ttl",
        "1h",
        "--give-up",
        "100ms",
    ]);
    assert_eq!(gave_up.status.code(), Some(4), "{}", text(&gave_up.stdout));
    assert!(text(&gave_up.stdout).contains("quiet for 0 s of 3600 s"));
    let drained = run(&["drain", "--data", &data, "--ttl", "300ms", "--json"]);
    assert!(drained.status.success());
    assert!(
        text(&drained.stdout)
            .lines()
            .last()
            .unwrap()
            .contains("\"drained\":true")
    );
    drop(edge);
}
