//! Gates as an operator meets them: secrets, probes, and a policy that waits for its secret.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::running::{Edge, Folder, run, text};

const SECRET: &str = "0123456789abcdef-of-films";

fn policy(origin: &str, secret: &str) -> String {
    format!(
        "version = 1\n[[origin]]\nhosts = [\"a.test\"]\nurl = \"{origin}\"\n[[class]]\nname = \"films\"\n\
         match = {{ paths = [\"/films/**\"] }}\nto = \"gated\"\ntypes = [\"text/css\"]\nquery = []\n\
         gate = {{ path = \"/authz{{path}}\" }}\ncredential = {{ header = \"X-Edge-Key\", file = \"{secret}\" }}\n"
    )
}

/// An origin that finds `/films/there` for whoever has the secret, lets nobody through its gate, and
/// finds nothing else.
fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines.map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n");
            let status = if head.starts_with("GET /films/there ") && head.contains(SECRET) {
                "200 OK"
            } else {
                "404 Not Found"
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/css\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
            );
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    format!("http://{address}")
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let folder = Folder::new("gates-mode");
    let secret = folder.file("secret", SECRET);
    let policy = folder.file("p.toml", &policy("http://127.0.0.1:1", &secret));
    for (mode, is_refused) in [
        (0o644, true),
        (0o604, true),
        (0o602, true),
        (0o640, false),
        (0o400, false),
    ] {
        fs::set_permissions(&secret, Permissions::from_mode(mode)).unwrap();
        let data = folder.path("data");
        let done = run(&["edge", "--check", "--policy", &policy, "--data", &data]);
        let said = text(&done.stdout) + &text(&done.stderr);
        let words = format!(
            "{secret} is a secret and others may read it (mode {mode:03o}): run `chmod 640` on it"
        );
        assert_eq!(said.contains(&words), is_refused, "{mode:o} {said}");
        assert_eq!(done.status.success(), !is_refused, "{mode:o} {said}");
        // That nobody can look at the gate is told in any case.
        let warned = said.contains("the gated class `films` has no probe");
        assert_eq!(warned, !is_refused, "{mode:o} {said}");
    }
}

#[test]
fn a_404_is_no_proof_that_a_credential_is_required() {
    let folder = Folder::new("gates-probe");
    let secret = folder.file("secret", SECRET);
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let policy = folder.file("p.toml", &policy(&origin(), &secret));
    for (path, unproven) in [("there", false), ("nowhere", true)] {
        let url = format!("http://a.test/films/{path}");
        let done = run(&["explain", &url, "--policy", &policy]);
        let said = text(&done.stdout);
        assert!(said.contains("without `x-edge-key`: 404"), "{said}");
        let words = "with the credential it is not found either";
        assert_eq!(said.contains(words), unproven, "{path} {said}");
        assert!(!said.contains("DOES NOT REQUIRE"), "{said}");
    }
}

#[test]
fn a_policy_that_lacks_its_secret_is_read_again_when_it_comes() {
    let folder = Folder::new("gates-watch");
    let origin = origin();
    let before = format!("version = 1\n[[origin]]\nhosts = [\"a.test\"]\nurl = \"{origin}\"\n");
    let file = folder.file("p.toml", &before);
    let mut edge = Edge::start(&["--policy", &file]);
    let secret = folder.path("secret");
    folder.file("p.toml", &policy(&origin, &secret));
    edge.logs("cannot read");
    // It comes as others may read it, and then is kept from them.
    folder.file("secret", SECRET);
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    edge.logs("others may read it");
    fs::set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
    edge.logs("rules in force");
}
