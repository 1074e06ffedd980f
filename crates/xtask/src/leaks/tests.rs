//! That the runner finds leaks, and does not take silence for safety: against caches that are known
//! to leak, to be careful, and to cache nothing.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::cache::{Cache, Running};
use super::cell::{self, Verdict, Way};
use super::client::Delivered;
use super::judge::judge;
use super::script::{self, Script};
use super::wire::{Incoming, http_date};
use super::token;

/// A cache of a few lines, keyed by the target alone.
#[derive(Clone, Copy, Debug)]
enum Small {
    /// Stores every GET.
    Leaky,
    /// Stores what was asked without credentials and is said to be public.
    Careful,
    /// Stores nothing.
    Absent,
}

struct Serving(SocketAddr);

impl Cache for Small {
    fn name(&self) -> &'static str {
        "small"
    }

    fn start(&self, origin: SocketAddr, _: &Script, _: &str) -> Result<Box<dyn Running>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let (kind, stored) = (*self, Arc::new(Mutex::new(HashMap::new())));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), stored) = (stream, Arc::clone(&stored)) else { return };
                thread::spawn(move || kind.serve(stream, origin, &stored).ok());
            }
        });
        Ok(Box::new(Serving(address)))
    }
}

impl Running for Serving {
    fn address(&self) -> SocketAddr {
        self.0
    }

    fn reload(&mut self, _: &Script, _: &str) -> Result<(), String> {
        Ok(())
    }
}

impl Small {
    fn serve(
        self,
        stream: TcpStream,
        origin: SocketAddr,
        stored: &Mutex<HashMap<String, Vec<u8>>>,
    ) -> io::Result<()> {
        let mut incoming = Incoming::new(stream);
        loop {
            incoming.until(Instant::now() + Duration::from_secs(5));
            let head = incoming.head()?;
            incoming.exactly(head.length().unwrap_or(0))?;
            let request = incoming.taken();
            let found = stored.lock().unwrap().get(&head.first).cloned();
            let answer = if let Some(answer) = found {
                answer
            } else {
                let mut upstream = TcpStream::connect(origin)?;
                let text = String::from_utf8_lossy(&request).into_owned();
                upstream.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
                let mut answer = Vec::new();
                upstream.read_to_end(&mut answer)?;
                let anonymous = head.field("cookie").is_none();
                let public = String::from_utf8_lossy(&answer).contains("public");
                let stores = match self {
                    Self::Leaky => head.first.starts_with("GET "),
                    Self::Careful => anonymous && public,
                    Self::Absent => false,
                };
                if stores {
                    stored.lock().unwrap().insert(head.first.clone(), answer.clone());
                }
                answer
            };
            incoming.stream().write_all(&answer)?;
        }
    }
}

const HEAD: &str = "\
title      A member's page is stored under its URL alone
mechanism  M3
legality   allowed: RFC 9111 3 does not know of cookies
cure       Ask the origin without cookies.
identity   cookie sid
";

fn written(rest: &str) -> Script {
    script::parse("case", &format!("{HEAD}{rest}")).unwrap()
}

const PAGES: &str = "\
control GET /logo.css
origin
  route GET /logo.css
    header Cache-Control: public, max-age=60
    header Content-Type: text/css
    body a{}
  route GET /my
    header Cache-Control: max-age=60
    body hello {user}
  route GET /cart
    header Set-Cookie: cart={mint}
    body your cart
  route GET /chunks
    framing chunked
    header Cache-Control: public
    trailer X-Owner: {user}
    unstamped
    body {user}
  route * /echo*
    body {echo header X-Forwarded-Host} {echo body}
  route GET /tenant
    body {host}
";

fn verdict(cache: Small, steps: &str, way: Way) -> Verdict {
    cell::run(&cache, &written(&format!("{PAGES}steps\n{steps}")), "default", way).verdict
}

#[test]
fn a_leaky_cache_is_found_out_in_every_way() {
    for (case, steps) in [
        ("page", "  alice GET /my\n  then\n  bob GET /my"),
        ("page, to nobody", "  alice GET /my\n  then\n  anonymous GET /my"),
        ("chunks and trailer", "  alice GET /chunks\n  then\n  bob GET /chunks"),
        ("minted cookie", "  visitor3 GET /cart\n  then\n  visitor4 GET /cart"),
        ("poisoned", "  mallory GET /echo\n    header X-Forwarded-Host: {me}\n  then\n  bob GET /echo"),
        ("other tenant", "  bob GET /tenant\n    host a.test\n  then\n  bob GET /tenant\n    host b.test"),
        ("old answer", "  anonymous GET /my\n  phase two\n  anonymous GET /my\n    only-new"),
    ] {
        for way in Way::ALL {
            let found = verdict(Small::Leaky, steps, way);
            assert!(matches!(&found, Verdict::Leak(leaks) if leaks.len() == 1), "{case} {way}: {found:?}");
        }
    }
}

#[test]
fn overlapping_requests_do_overlap() {
    // A cache that stores whatever came first leaks here only because bob asks while alice waits.
    let script = written(&format!("{PAGES}steps\n  alice GET /my\n  bob GET /my\n  carol GET /my\n"));
    let began = Instant::now();
    let outcome = cell::run(&Small::Absent, &script, "default", Way::Overlapping);
    assert!(matches!(outcome.verdict, Verdict::Void(_)), "{:?}", outcome.verdict);
    let outcome = cell::run(&Small::Careful, &script, "default", Way::Overlapping);
    assert!(matches!(outcome.verdict, Verdict::Safe), "{:?}", outcome.verdict);
    assert!(began.elapsed() < Duration::from_secs(5));
    // The numbers are given when requests come, the answers held until all are there.
    let owners: Vec<&str> = outcome.seen.iter().map(|seen| seen.owner.as_str()).collect();
    assert!(owners.ends_with(&["alice", "bob", "nobody"]), "{owners:?}");
}

#[test]
fn a_careful_cache_is_safe_and_one_that_stores_nothing_is_void() {
    let steps = "  alice GET /my\n  then\n  bob GET /my\n  then\n  anonymous GET /my";
    for way in Way::ALL {
        assert!(matches!(verdict(Small::Careful, steps, way), Verdict::Safe), "{way}");
        let found = verdict(Small::Absent, steps, way);
        assert!(matches!(&found, Verdict::Void(why) if why.contains("never a hit")), "{found:?}");
    }
}

#[test]
fn what_a_viewer_sent_may_come_back_to_it() {
    let steps = "  bob POST /echo\n    body I am {me}\n  then\n  alice POST /echo\n    body to {of bob}";
    for way in Way::ALL {
        assert!(matches!(verdict(Small::Careful, steps, way), Verdict::Safe), "{way}");
    }
}

#[test]
fn a_step_without_an_answer_makes_the_cell_void() {
    let script = written(&format!("{PAGES}  route GET /half\n    body four\n    framing broken\nsteps\n  bob GET /half"));
    let outcome = cell::run(&Small::Careful, &script, "default", Way::Sequential);
    // The head came, so it is an answer; an origin that says nothing is none.
    assert!(matches!(outcome.verdict, Verdict::Safe), "{:?}", outcome.verdict);
    let script = written(&format!("{PAGES}  route GET /none\n    raw\n      | \\\n    framing close\nsteps\n  bob GET /none"));
    let outcome = cell::run(&Small::Careful, &script, "default", Way::Sequential);
    assert!(matches!(&outcome.verdict, Verdict::Void(why) if why.contains("bob")), "{:?}", outcome.verdict);
}

#[test]
fn the_judge() {
    let given = |viewer: &str, received: &str| Delivered {
        line: 1,
        viewer: viewer.to_owned(),
        tenants: vec!["at-shop".to_owned()],
        sent: b"GET /?as=bob.nonce.0 HTTP/1.1".to_vec(),
        received: Vec::new(),
        content: received.as_bytes().to_vec(),
        status: Some(200),
        too_old: None,
        may_fail: false,
    };
    for (case, exchanges, leaks) in [
        ("own", vec![("alice", "x alice.nonce.3 y")], 0),
        ("other's", vec![("alice", "Location: /?t=carol.nonce.3")], 1),
        ("to nobody", vec![("anonymous", "\"carol.nonce.3\"")], 1),
        ("nobody's", vec![("alice", "nobody.nonce.3")], 0),
        ("sent by itself", vec![("alice", "bob.nonce.0")], 0),
        ("another cell's", vec![("alice", "carol.once.3")], 0),
        ("own tenant", vec![("alice", "at-shop.nonce.3")], 0),
        ("other tenant", vec![("alice", "at-else.nonce.3")], 1),
        ("minted, twice to one", vec![("alice", "minted.nonce.3"), ("alice", "minted.nonce.3")], 0),
        ("minted, to two", vec![("alice", "minted.nonce.3"), ("bob", "minted.nonce.3")], 1),
        ("minted each", vec![("alice", "minted.nonce.3"), ("bob", "minted.nonce.4")], 0),
    ] {
        let delivered: Vec<_> = exchanges.iter().map(|(viewer, text)| given(viewer, text)).collect();
        assert_eq!(judge("nonce", &delivered).len(), leaks, "{case}");
    }
}

#[test]
fn faults_in_scripts_are_named() {
    for (rest, why) in [
        ("origin\n  rout GET /", "line 7: write `route GET /path`"),
        ("origin\n  route GET /\n    stats 200", "line 8: `stats` is not known in a route"),
        ("contrl GET /", "line 6: `contrl` is not known here"),
        ("steps\n  Alice GET /", "line 7: a step is `viewer METHOD /target`"),
        ("steps\n  wait 1s", "line 7: `1s` is no time"),
        ("under nothing\norigin\n  route GET /\ncontrol GET /\nsteps\n  bob GET /", "case: no policy is named `nothing`"),
        ("origin\n  route GET /\nsteps\n  bob GET /", "case: no `control`"),
        ("legality maybe: RFC 9111", "line 6: say `allowed:`, `forbidden:` or `uncovered:`"),
        ("mechanism 5", "line 6: `5` is not `M` and a number"),
        ("| text", "line 6"),
    ] {
        let found = script::parse("case", &format!("{HEAD}{rest}\n")).unwrap_err();
        assert!(found.starts_with(why), "{rest}: {found}");
    }
}

#[test]
fn every_case_of_the_repository_is_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/leaks");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let parsed = script::parse(&name, &std::fs::read_to_string(&path).unwrap());
        let parsed = parsed.unwrap_or_else(|why| panic!("{name}: {why}"));
        // The name says the number: a reader finds a mechanism without opening files.
        let number = name.split('-').next().unwrap().to_uppercase();
        let number = format!("{}{}", number.get(..1).unwrap(), number.get(1..).unwrap().trim_start_matches('0'));
        assert!(parsed.numbers.contains(&number), "{name} is not one of {:?}", parsed.numbers);
        read += 1;
    }
    assert!(read > 40, "only {read} cases");
}

#[test]
fn tokens_and_dates() {
    let nonce = token::nonce();
    assert_ne!(nonce, token::nonce());
    let text = format!("a={};b={}x", token::token("alice", &nonce, 12), token::token("at-b", &nonce, 7));
    let found: Vec<_> = token::find(&nonce, text.as_bytes()).into_iter().map(|t| (t.owner, t.number)).collect();
    assert_eq!(found, [("alice".to_owned(), 12), ("at-b".to_owned(), 7)]);
    assert_eq!(token::tenant("Shop.example.test:80"), "at-shop");
    // RFC 9110 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT` is 784111777.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(http_date(784_111_777 - i64::try_from(now).unwrap()), "Sun, 06 Nov 1994 08:49:37 GMT");
}
