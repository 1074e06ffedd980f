//! The command as an operator meets it: the built binary, real sockets on loopback, bad input.

mod evidence;
mod gates;
mod incident;
mod modes;
mod running;
mod sealing;
mod secrets;
mod store;
#[cfg(feature = "archive")]
mod who;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use running::{Edge, Folder, ask, origin, run, text};

#[test]
fn bad_policies_are_refused_at_start_with_place_and_advice() {
    let folder = Folder::new("policies");
    for (policy, said) in [
        ("versoin = 1\n", "p.toml:1:1"),
        (
            "version = 1\n[[class]]\nname = \"a\"\nmtach = {}\n",
            "`match`",
        ),
        ("version = 1\n[limits]\nrequests_max = 0\n", "p.toml:3:16"),
        ("version = 1\n[session\n", "p.toml:2"),
        (
            "version = 1\n[[class]]\nname = \"pages\"\nto = \"everyone\"\nmatch = { paths = [\"/\"] }\n\
             [[class]]\nname = \"pages\"\nto = \"anonymous\"\nmatch = { paths = [\"/x\"] }\n",
            "pages",
        ),
    ] {
        let file = folder.file("p.toml", policy);
        let output = run(&[
            "edge",
            "--origin",
            "http://127.0.0.1:1",
            "--listen",
            "127.0.0.1:0",
            "--policy",
            &file,
        ]);
        let errors = text(&output.stderr);
        assert!(
            !output.status.success() && errors.contains(said),
            "{policy}\n{errors}"
        );
        assert!(text(&output.stdout).is_empty(), "it never listened");
    }
    let output = run(&[
        "edge",
        "--origin",
        "http://127.0.0.1:1",
        "--policy",
        &folder.path("none.toml"),
    ]);
    assert!(
        text(&output.stderr).contains("none.toml: No such file"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn bad_flags_say_what_to_write() {
    for (arguments, said) in [
        (&["edge"][..], "--origin <URL>"),
        (&["edge", "--origin", "ftp://a.test"], "does not start with"),
        (&["edge", "--origin", "a.test:80"], "http://"),
        (
            &["edge", "--origin", "http://a.test", "--listen", "8080"],
            "127.0.0.1:8080",
        ),
        (
            &["edge", "--origin", "http://a.test", "--trust", "everyone"],
            "192.0.2.0/24",
        ),
        (&["explain", "shop.example.test/x"], "http://host/path"),
        (
            &["purge", "--control", "/nonexistent/socket", "--all"],
            "--control",
        ),
    ] {
        let output = run(arguments);
        let errors = text(&output.stderr);
        assert!(
            !output.status.success() && errors.contains(said),
            "{arguments:?}\n{errors}"
        );
    }
    for command in [
        &["--help"][..],
        &["edge", "--help"],
        &["explain", "--help"],
        &["purge", "--help"],
    ] {
        assert!(
            text(&run(command).stdout).contains("Examples:"),
            "{command:?}"
        );
    }
}

#[test]
fn a_local_or_absent_origin_is_spoken_of_at_start() {
    let mut edge = Edge::start(&["--origin", "http://127.0.0.1:1"]);
    let said = edge.logs("cannot be reached");
    assert!(said.contains("trusts 127.0.0.1"), "{said}");
    assert!(edge.get("a.test", "/").starts_with("HTTP/1.1 502 "));
    assert!(edge.get("a.test", "/a.css").starts_with("HTTP/1.1 502 "));
}

#[test]
fn floods_and_strangers_get_their_own_statuses() {
    let folder = Folder::new("floods");
    let origin = origin();
    let policy = folder.file(
        "p.toml",
        &format!("version = 1\n[[origin]]\nhosts = [\"a.test\"]\nurl = \"{origin}\"\n[limits]\nhead_time_max = \"300ms\"\n"),
    );
    let edge = Edge::start(&["--policy", &policy]);
    assert!(edge.get("a.test", "/x").ends_with("\r\n\r\n/x"));
    assert!(edge.get("b.test", "/x").starts_with("HTTP/1.1 421 "));
    let flood = "X-Flood: 1\r\n".repeat(1000);
    let flooded = edge.ask(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{flood}\r\n"));
    assert!(flooded.starts_with("HTTP/1.1 431 "), "{flooded}");
    let slow = edge.ask("GET / HTTP/1.1\r\nHost: a.test\r\n");
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
}

#[test]
fn reasons_are_for_trusted_addresses_alone() {
    let origin = origin();
    let line = |edge: &Edge| {
        let answer = edge.get("a.test", "/account").to_ascii_lowercase();
        answer
            .lines()
            .find(|line| line.starts_with("cache-status"))
            .unwrap()
            .to_owned()
    };
    let stranger = Edge::start(&["--origin", &origin]);
    assert_eq!(
        line(&stranger),
        "cache-status: shikiri; fwd=bypass; fwd-status=200"
    );
    let trusted = Edge::start(&["--origin", &origin, "--trust", "127.0.0.0/8"]);
    assert_eq!(
        line(&trusted),
        "cache-status: shikiri; fwd=bypass; fwd-status=200; detail=no-class"
    );
}

#[test]
fn a_running_edge_is_purged_reloaded_and_stopped() {
    let folder = Folder::new("control");
    let origin = origin();
    let policy = folder.file("p.toml", "version = 1\n");
    let control = folder.path("control.sock");
    let mut edge = Edge::start(&[
        "--origin",
        &origin,
        "--policy",
        &policy,
        "--control",
        &control,
    ]);
    let status = || text(&run(&["status", "--control", &control]).stdout);
    let field = |name: &str| {
        let status = status();
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned();
        line.rsplit_once(' ').unwrap().1.to_owned()
    };
    edge.get("a.test", "/a.css");
    edge.get("a.test", "/a.css");
    assert_eq!(
        (field("fills"), field("hits"), field("objects")),
        ("1".into(), "1".into(), "1".into())
    );

    let purged = text(&run(&["purge", "--control", &control, "http://a.test/a.css"]).stdout);
    assert!(
        purged.contains("purged http://a.test/a.css") && purged.contains("1 stored objects freed"),
        "{purged}"
    );
    let wrong = run(&["purge", "--control", &control, "a.css"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("http://host/path"));
    edge.get("a.test", "/a.css");
    assert_eq!(field("fills"), "2");
    assert!(text(&run(&["purge", "--control", &control, "--all"]).stdout).contains("epoch 2"));
    assert_eq!(field("objects"), "0");

    // A policy with a fault: the old one stays in force, by command and by signal.
    let digest = field("rules");
    folder.file("p.toml", "version = 1\n[builtin]\nassets = \"no\"\n");
    let refused = run(&["reload", "--control", &control]);
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(
        said.contains("p.toml:3:10") && said.contains("the old one stays"),
        "{said}"
    );
    edge.signal("HUP");
    edge.logs("by=signal");
    let status = run(&["status", "--control", &control]);
    assert_eq!(status.status.code(), Some(3));
    assert!(text(&status.stdout).contains("attention              policy on disk is refused"));
    assert_eq!(field("rules"), digest);
    edge.get("a.test", "/a.css");

    folder.file("p.toml", "version = 1\n[builtin]\nassets = false\n");
    assert!(run(&["reload", "--control", &control]).status.success());
    assert_ne!(field("rules"), digest);
    let passes = field("passes");
    edge.get("a.test", "/a.css");
    assert_ne!(
        field("passes"),
        passes,
        "nothing is shared under the new one"
    );

    // The socket is its owner's alone, and a second node does not take it away.
    let mode = fs::metadata(&control).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
    let second = run(&[
        "edge",
        "--origin",
        &origin,
        "--listen",
        "127.0.0.1:0",
        "--control",
        &control,
        "--data",
        &folder.path("second"),
    ]);
    assert!(
        text(&second.stderr).contains("another node"),
        "{}",
        text(&second.stderr)
    );

    edge.signal("TERM");
    let began = Instant::now();
    assert!(edge.child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(!Path::new(&control).exists());
}

#[test]
fn a_node_is_started_and_found_by_its_config_file() {
    let folder = Folder::new("config");
    let wrong = folder.file("wrong.toml", "version = 1\n[nodes]\n[node]\nworkers = 0\n");
    let said = text(&run(&["edge", "--config", &wrong]).stderr);
    assert!(
        said.contains("wrong.toml:2:2") && said.contains("wrong.toml:4:11"),
        "{said}"
    );
    let config = folder.file(
        "edge.toml",
        &format!(
            "version = 1\n[node]\nname = \"edge-1\"\norigin = \"{}\"\n",
            origin()
        ),
    );
    let edge = Edge::start(&["--config", &config]);
    assert!(edge.get("a.test", "/a.css").contains("via: 1.1 edge-1\r\n"));
    let data = edge.data.path("data");
    let status = text(&run(&["status", "--data", &data]).stdout);
    let fills = status.lines().find(|line| line.starts_with("fills "));
    assert!(fills.is_some_and(|line| line.ends_with(" 1")), "{status}");

    // One node at a time.
    let second = run(&["edge", "--config", &config, "--data", &data]);
    let said = text(&second.stderr);
    assert!(
        !second.status.success() && said.contains(&format!("process {}", edge.child.id())),
        "{said}"
    );
}

#[test]
fn status_and_metrics_are_read_from_elsewhere_and_changes_need_a_token_and_the_configs_word() {
    let folder = Folder::new("admin");
    let origin = origin();
    for changes in [false, true] {
        let config = folder.file(
            "edge.toml",
            &format!(
                "version = 1\n[node]\norigin = \"{origin}\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
                 hosts = [\"admin.test\"]\nchanges = {changes}\n"
            ),
        );
        let mut edge = Edge::start(&["--config", &config]);
        let said = edge.logs("the admin interface is open");
        let admin = said.split("address=").nth(1).unwrap();
        let admin = admin.split_whitespace().next().unwrap().to_owned();
        let data = edge.data.path("data");
        let token = |name: &str, scope: &str| {
            let arguments = ["token", "new", "--data", &data, "--name", name];
            let output = run(&[&arguments[..], &["--scope", scope, "--for", "1h"]].concat());
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout).trim().to_owned()
        };
        let (purge, close) = (token("cms", "purge"), token("canary", "close"));
        edge.get("a.test", "/a.css");
        let ask = |first: &str, host: &str, fields: &str| {
            let body = if first.contains("/mode/") {
                r#"{"mode":"open","reason":"a guess","reopening":null}"#
            } else {
                r#"{"targets":[{"uri":"http://a.test/a.css"}]}"#
            };
            let answer = ask(
                &admin,
                &format!(
                    "{first} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
            );
            let status = answer.split(' ').nth(1).unwrap().to_owned();
            (status, answer)
        };
        let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
        let allowed = if changes { "200" } else { "403" };
        let no_token = if changes { "401" } else { "403" };
        for (first, host, fields, status) in [
            ("GET /status", &*admin, String::new(), "200"),
            ("GET /metrics", "localhost:9180", String::new(), "200"),
            ("GET /healthz", "admin.test", String::new(), "200"),
            ("GET /readyz", &admin, String::new(), "200"),
            ("HEAD /metrics", &admin, String::new(), "200"),
            ("GET /metrics", "rebound.test", String::new(), "421"),
            ("POST /metrics", &admin, String::new(), "405"),
            ("GET /purge", &admin, String::new(), "405"),
            ("OPTIONS /purge", &admin, String::new(), "405"),
            ("GET /nothing", &admin, String::new(), "404"),
            ("POST /purge", &admin, String::new(), no_token),
            ("POST /purge", &admin, bearer(&purge), allowed),
            ("POST /purge", &admin, bearer(&close), "403"),
            ("POST /purge", &admin, bearer("shikiri_guess"), "401"),
            (
                "POST /purge",
                &admin,
                format!("Origin: null\r\n{}", bearer(&purge)),
                "403",
            ),
            ("POST /reload", &admin, bearer(&purge), "403"),
            ("POST /tokens/new", &admin, bearer(&purge), "403"),
            ("GET /tokens", &admin, bearer(&purge), "403"),
            ("GET /mode", &admin, String::new(), "200"),
            ("GET /grants", &admin, String::new(), no_token),
            ("POST /mode/take", &admin, bearer(&close), "403"),
            // A canary may close, never open.
            ("POST /mode/close", &admin, bearer(&close), "403"),
            ("POST /mode/close", &admin, bearer(&purge), "403"),
            ("POST /timeline", &admin, bearer(&close), "403"),
        ] {
            let (got, answer) = ask(first, host, &fields);
            assert_eq!(
                got, status,
                "changes {changes}: {first} {host} {fields}\n{answer}"
            );
            let low = answer.to_ascii_lowercase();
            assert!(!low.contains("access-control-"), "{answer}");
            assert!(low.contains("cache-control: no-store\r\n"), "{answer}");
        }
        let (_, metrics) = ask("GET /metrics", &admin, "");
        assert!(
            metrics.contains("shikiri_responses_total{outcome=\"fill\"} 1\n"),
            "{metrics}"
        );

        let listed = text(&run(&["token", "list", "--data", &data]).stdout);
        assert!(
            listed.contains("canary") && !listed.contains(&purge),
            "{listed}"
        );
        assert!(
            run(&["token", "revoke", "--data", &data, "cms"])
                .status
                .success()
        );
        let (status, _) = ask("POST /purge", &admin, &bearer(&purge));
        assert_eq!(status, "401");
        for _ in 0..10 {
            ask("POST /purge", &admin, &bearer("shikiri_guess"));
        }
        let (status, _) = ask("POST /purge", &admin, &bearer("shikiri_guess"));
        assert_eq!(status, "429");
        let timeline = text(&run(&["timeline", "show", "--data", &data]).stdout);
        for entry in ["token `cms` made, for purge", "token `cms` revoked"] {
            assert!(timeline.contains(entry), "no {entry} in\n{timeline}");
        }
        edge.signal("TERM");
        assert!(edge.child.wait().unwrap().success());
        let logged = edge.logs("stopped");
        for secret in [&purge, &close] {
            let secret = secret.strip_prefix("shikiri_").unwrap();
            assert!(!logged.contains(secret) && !listed.contains(secret));
        }
    }
}

#[test]
fn an_admin_interface_that_others_reach_needs_a_token() {
    let folder = Folder::new("public");
    let data = folder.path("data");
    let start = [
        "edge",
        "--origin",
        "http://127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
    ];
    let start = [&start[..], &["--admin", "0.0.0.0:0", "--data", &data]].concat();
    let said = text(&run(&start).stderr);
    assert!(said.contains("shikiri token new"), "{said}");
    let made = run(&[
        "token", "new", "--data", &data, "--name", "metrics", "--scope", "read", "--for", "1d",
    ]);
    let token = text(&made.stdout).trim().to_owned();
    let mut edge = Edge::start(&[
        "--origin",
        "http://127.0.0.1:1",
        "--admin",
        "0.0.0.0:0",
        "--data",
        &data,
    ]);
    let said = edge.logs("the admin interface is open");
    // It was made while no node ran.
    let timeline = text(&run(&["timeline", "show", "--data", &data]).stdout);
    assert!(
        timeline.contains("token `metrics` made, for read"),
        "{timeline}"
    );
    let port = said.split("address=0.0.0.0:").nth(1).unwrap();
    let admin = format!("127.0.0.1:{}", port.split_whitespace().next().unwrap());
    for (path, fields, status) in [
        ("/healthz", "", "200"),
        ("/metrics", "", "401"),
        (
            "/metrics",
            &*format!("Authorization: Bearer {token}\r\n"),
            "200",
        ),
    ] {
        let answer = ask(
            &admin,
            &format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n{fields}Connection: close\r\n\r\n"),
        );
        assert_eq!(answer.split(' ').nth(1), Some(status), "{path} {fields}");
    }
}

#[test]
fn files_that_change_are_read_again_by_themselves() {
    let folder = Folder::new("watch");
    let policy = folder.file("p.toml", "version = 1\n");
    let config = |level: &str, more: &str| {
        let text = format!(
            "version = 1\n[node]\norigin = \"{}\"\npolicy = \"p.toml\"\n[log]\nlevel = \"{level}\"\n{more}",
            "http://127.0.0.1:1"
        );
        folder.file("edge.toml", &text)
    };
    let file = config("info", "");
    let mut edge = Edge::start(&["--config", &file]);
    edge.logs("cannot be reached");
    fs::write(&policy, "version = 1\n[builtin]\nassets = false\n").unwrap();
    edge.logs("policy read again: rules in force");
    fs::write(&policy, "version = 2\n").unwrap();
    edge.logs("version 2 is not known");
    config(
        "debug",
        "[[listen]]\naddress = \"127.0.0.1:1\"\n[admin]\naddress = \"127.0.0.1:1\"\n",
    );
    // The flag says where it listens.
    edge.logs("config read again: in force, but [admin] after a restart");
    edge.ask("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    edge.logs("DEBUG");
    let status = run(&["status", "--data", &edge.data.path("data")]);
    assert_eq!(status.status.code(), Some(3));
    assert_eq!(text(&status.stdout).matches("attention").count(), 1);
    let timeline = text(&run(&["timeline", "show", "--data", &edge.data.path("data")]).stdout);
    for entry in [
        "policy REFUSED",
        "version 2 is not known",
        "config read again",
        "rules in force",
    ] {
        assert!(timeline.contains(entry), "no {entry} in\n{timeline}");
    }
    // The fault was told once; what is told next is something else.
    fs::write(&policy, "version = 1\n").unwrap();
    let between = edge.logs("policy read again");
    assert!(!between.contains("version 2"), "{between}");
    let status = run(&["status", "--data", &edge.data.path("data")]);
    assert_eq!(status.status.code(), Some(0));
}

/// What a node says to be in force is.
#[test]
fn what_a_config_says_is_in_force_when_it_was_read_again() {
    let folder = Folder::new("except");
    let (one, other) = (origin(), origin());
    let config = |origin: &str, except: &str| {
        let text = format!(
            "version = 1\n[node]\norigin = \"{origin}\"\n[maintenance]\nexcept = [{except}]\n"
        );
        folder.file("edge.toml", &text)
    };
    let file = config(&one, "\"/mypage/**\"");
    let mut edge = Edge::start(&["--config", &file, "--mode", "closed"]);
    edge.logs("begins");
    let rules = |edge: &Edge| {
        let status = run(&["status", "--data", &edge.data.path("data")]);
        let status = text(&status.stdout);
        let line = status.lines().find(|line| line.starts_with("rules "));
        line.expect("they are shown").to_owned()
    };
    let before = rules(&edge);
    assert!(edge.get("a.test", "/mypage/x").ends_with("/mypage/x"));
    config(&one, "");
    edge.logs("config read again: in force");
    assert!(edge.get("a.test", "/mypage/x").starts_with("HTTP/1.1 503 "));
    config(&other, "");
    edge.logs("config read again: in force");
    assert_ne!(rules(&edge), before);
}

#[test]
fn what_would_harm_is_refused_before_anything_is_made() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("harm");
    let policy = folder.file("p.toml", "version = 1\n");
    let data = folder.path("data");
    let base = [
        "edge",
        "--data",
        &data,
        "--listen",
        "127.0.0.1:1",
        "--policy",
        &policy,
    ];
    let good = [&base[..], &["--origin", "http://127.0.0.1:2"]].concat();
    let looped = [&base[..], &["--origin", "http://127.0.0.1:1"]].concat();
    for (arguments, mode, said) in [
        (&good, 0o644, &[][..]),
        (&good, 0o666, &["chmod o-w"]),
        (&looped, 0o644, &["is this node itself"]),
        (&looped, 0o666, &["chmod o-w", "is this node itself"]),
    ] {
        fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).unwrap();
        let output = run(&[&arguments[..], &["--trust", "127.0.0.1", "--check"]].concat());
        assert_eq!(output.status.success(), said.is_empty(), "{said:?}");
        let shown = text(&output.stdout);
        assert!(shown.contains("listen     http://127.0.0.1:1\n"), "{shown}");
        assert_eq!(shown.matches("refused ").count(), said.len());
        if said.is_empty() {
            continue;
        }
        let output = run(arguments);
        let refused = text(&output.stderr);
        assert!(!output.status.success());
        assert!(said.iter().all(|said| refused.contains(said)), "{refused}");
    }
    assert!(!Path::new(&data).exists());
    let everybody = run(&[&good[..], &["--trust", "0.0.0.0/0"]].concat());
    assert!(text(&everybody.stderr).contains("the balancer"));
}

/// A node that asks to replace the one that runs, and does not come to it.
fn a_replacement_that_fails(data: &str, after: &str) {
    let path = Path::new(data).join("handover.sock");
    let stream = UnixStream::connect(path).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let say = |line: &str| (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut hear = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    say("replace 1");
    // The descriptors are lost on who does not ask for them.
    while hear().starts_with("fds ") {
        say("ok");
    }
    for (ours, theirs) in [("ready", "yours"), ("prepared", "go")] {
        if ours == after {
            return;
        }
        say(ours);
        assert_eq!(hear(), theirs);
    }
}

#[test]
fn a_node_goes_on_when_the_one_that_was_to_replace_it_fails() {
    let mut edge = Edge::start(&["--origin", &origin(), "--admin", "127.0.0.1:0"]);
    let said = edge.logs("the admin interface is open");
    let admin = said.split("address=").nth(1).unwrap();
    let admin = admin.split_whitespace().next().unwrap().to_owned();
    let data = edge.data.path("data");
    for after in ["ready", "prepared", "serving"] {
        a_replacement_that_fails(&data, after);
        edge.logs("this node goes on");
        assert!(edge.get("a.test", "/x").ends_with("\r\n\r\n/x"), "{after}");
        // It comes back to itself a moment after it has said so.
        let began = Instant::now();
        while !run(&["reload", "--data", &data]).status.success() {
            assert!(began.elapsed() < Duration::from_secs(10), "{after}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let ready = ask(
            &admin,
            &format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"),
        );
        assert!(ready.starts_with("HTTP/1.1 200 "), "{after}: {ready}");
    }
    // A policy with a fault is found before the other node is asked for anything.
    let wrong = edge.data.file("wrong.toml", "version = 2\n");
    let address = edge.address.clone();
    let refused = run(&[
        "edge",
        "--replace",
        "--policy",
        &wrong,
        "--data",
        &data,
        "--listen",
        &address,
        "--origin",
        "http://127.0.0.1:1",
    ]);
    assert!(text(&refused.stderr).contains("version 2 is not known"));
    assert!(edge.get("a.test", "/x").ends_with("\r\n\r\n/x"));
}

/// An origin whose answer to everything begins, and never ends.
fn endless() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // Who only looks whether we are there asks for nothing.
            if matches!(stream.read(&mut [0; 1024]), Ok(0) | Err(_)) {
                continue;
            }
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nbegins";
            drop(stream.write_all(head.as_bytes()));
            held.push(stream);
        }
    });
    format!("http://{address}")
}

/// A site is closed on both nodes, also when the one that replaces the other begins closed.
#[test]
fn what_runs_on_the_node_before_is_cut_when_the_next_begins_closed() {
    let origin = endless();
    let before = Edge::start(&["--origin", &origin]);
    let data = before.data.path("data");
    let mut client = TcpStream::connect(&before.address).unwrap();
    let patience = Some(Duration::from_secs(30));
    client.set_read_timeout(patience).unwrap();
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .unwrap();
    let mut bytes = [0; 1024];
    let mut got = String::new();
    while !got.ends_with("begins") {
        let n = client.read(&mut bytes).unwrap();
        assert!(n > 0, "{got}");
        got.push_str(&text(bytes.get(..n).unwrap()));
    }
    let began = Instant::now();
    let next = Edge::start(&[
        "--origin",
        &origin,
        "--data",
        &data,
        "--replace",
        "--mode",
        "closed",
    ]);
    // A reset, or an end: nothing more comes.
    assert!(matches!(client.read(&mut bytes), Ok(0) | Err(_)));
    assert!(began.elapsed() < Duration::from_secs(10), "it ran on");
    assert!(next.get("a.test", "/x").starts_with("HTTP/1.1 503 "));
}

/// An origin that says to be serving whom a path's end names; under `/held/` once it is let go.
fn naming() -> (String, std::sync::mpsc::Sender<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (release, released) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut held: Vec<(TcpStream, String)> = Vec::new();
        listener.set_nonblocking(true).unwrap();
        loop {
            if released.try_recv() == Ok(()) {
                for (stream, path) in held.drain(..) {
                    name(stream, &path);
                }
            }
            let Ok((stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines.map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let Some(path) = head.first().and_then(|first| first.split(' ').nth(1)) else {
                continue;
            };
            if path.starts_with("/held/") {
                held.push((stream, path.to_owned()));
            } else {
                name(stream, path);
            }
        }
    });
    (format!("http://{address}"), release)
}

fn name(mut stream: TcpStream, path: &str) {
    let viewer = path.rsplit('/').next().unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nShikiri-Viewer: {viewer}\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
    );
    drop(stream.write_all(answer.as_bytes()));
}

/// Members are found to be mixed up on a node whose requests still run, when another serves in its place.
#[test]
fn a_trip_on_the_node_before_lowers_the_mode_of_the_one_that_replaces_it() {
    let (origin, release) = naming();
    let folder = Folder::new("trip");
    let policy = folder.file(
        "p.toml",
        &format!(
            "version = 1\n[[origin]]\nhosts = [\"a.test\"]\nurl = \"{origin}\"\n[session]\ncookies = [\"sid\"]\n\
             [pins]\naction = \"stop\"\ntrip = {{ viewers = 2, within = \"60s\", mode = \"pass\" }}\n"
        ),
    );
    let before = Edge::start(&["--policy", &policy]);
    let data = before.data.path("data");
    let get = |path: &str, session: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a.test\r\nCookie: sid={session}\r\nConnection: close\r\n\r\n"
        )
    };
    for (member, session) in [("alice", "1"), ("bob", "2")] {
        let answer = before.ask(&get(&format!("/as/{member}"), session));
        assert!(answer.ends_with("page"), "{answer}");
    }
    // Both ask, and are not yet answered.
    let mut running = ["1", "2"].map(|session| {
        let mut stream = TcpStream::connect(&before.address).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        let request = get("/held/carol", session);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    });
    let status = || -> serde_json::Value {
        let output = run(&["status", "--data", &data, "--json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let began = Instant::now();
    while status()["counts"]["running"] != 2 {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", status());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut next = Edge::start(&["--policy", &policy, "--data", &data, "--replace"]);
    next.logs("rules in force");
    assert_eq!(status()["mode"], "open");
    release.send(()).unwrap();
    for stream in &mut running {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = text(&answer);
        assert!(answer.ends_with("wrong-viewer\n"), "{answer}");
    }
    let began = Instant::now();
    while status()["mode"] != "pass" {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", status());
        std::thread::sleep(Duration::from_millis(20));
    }
    let timeline = run(&["timeline", "show", "--data", &data]);
    let timeline = text(&timeline.stdout);
    assert!(
        timeline.contains("the node before lowered the mode"),
        "{timeline}"
    );
}

#[test]
fn status_is_for_scripts_too() {
    let edge = Edge::start(&["--origin", &origin()]);
    let data = edge.data.path("data");
    let output = run(&["status", "--data", &data, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["phase"], &status["epoch"]),
        (&"serving".into(), &1.into())
    );
    let output = run(&["status", "--data", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn explain_tells_the_whole_decision() {
    let folder = Folder::new("explain");
    let origin = origin();
    let said = |arguments: &[&str]| {
        let output = run(&[&["explain"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let shared = said(&[
        "http://a.test/a.css",
        "--origin",
        &origin,
        "-H",
        "Cookie: sid=secret",
    ]);
    for part in [
        "assets (to everyone)",
        "GET /a.css HTTP/1.1",
        "verdict     shared, fresh for",
    ] {
        assert!(shared.contains(part), "{part} in\n{shared}");
    }
    assert!(!shared.contains("secret"), "the origin is asked with a key");
    let personal = said(&["http://a.test/account", "--origin", &origin]);
    assert!(
        personal.contains("(no-class)") && personal.contains("cure"),
        "{personal}"
    );
    let policy = folder.file(
        "p.toml",
        &format!("version = 1\n[[origin]]\nhosts = [\"a.test\"]\nurl = \"{origin}\"\n"),
    );
    let unknown = said(&["http://b.test/", "--policy", &policy]);
    assert!(
        unknown.contains("421") && unknown.contains("[[origin]]"),
        "{unknown}"
    );
    let offline = said(&["http://a.test/a.css", "--policy", &policy, "--offline"]);
    assert!(offline.contains("not asked"), "{offline}");
}
