//! That the runner finds leaks, and does not take silence for safety: against caches that are known
//! to leak, to be careful, and to cache nothing.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::cache::{Cache, Running};
use super::cell::{self, Verdict, Way};
use super::client::Delivered;
use super::judge::judge;
use super::script::{self, Over, Script, Step};
use super::token;
use super::wire::{Head, Incoming, http_date};
use super::{Cell, run_all};

/// A cache of a few lines, keyed by the target alone.
#[derive(Clone, Copy, Debug)]
enum Small {
    /// Stores every GET.
    Leaky,
    /// The same, under the path without its query.
    DropsQuery,
    /// Stores whatever was asked, under the target alone.
    AnyMethod,
    /// Puts into a page what the page includes.
    Including,
    /// After a second, asks again with whatever request comes by, and merges what comes back.
    Refreshing,
    /// Gives whoever waits what the first one got. Stores what is public.
    Collapsing,
    /// Sends everybody's requests on one connection. Stores what is public.
    Pooling,
    /// The same, and gives the connection back when its client has left.
    Leaving,
    /// The same, and takes for a body whatever comes with a request, as who turns HTTP/2 into HTTP/1
    /// without a look at it.
    Downgrading,
    /// Writes two requests on one connection, and gives each the other's answer.
    Swapping,
    /// Does not read the body of a request that it answers from what it has.
    Undrained,
    /// Stores what was asked without credentials and is said to be public.
    Careful,
    /// Stores nothing.
    Absent,
}

/// What the first one got, once it got it.
type Flight = Arc<Mutex<Option<Vec<u8>>>>;

/// What the connections of a small cache share.
#[derive(Default)]
struct Kept {
    stored: Mutex<HashMap<String, (Instant, Vec<u8>)>>,
    flights: Mutex<HashMap<String, Flight>>,
    pooled: Mutex<Option<Incoming>>,
    /// How many requests have been written on the pooled connection.
    written: Mutex<usize>,
}

struct Serving(SocketAddr);

impl Cache for Small {
    fn name(&self) -> &'static str {
        "small"
    }

    fn start(&self, origin: SocketAddr, _: &Script, _: &str) -> Result<Box<dyn Running>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let (kind, kept) = (*self, Arc::new(Kept::default()));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), kept) = (stream, Arc::clone(&kept)) else {
                    return;
                };
                thread::spawn(move || kind.serve(stream, origin, &kept).ok());
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
    fn serve(self, stream: TcpStream, origin: SocketAddr, kept: &Kept) -> io::Result<()> {
        let from = stream.peer_addr()?.ip();
        let mut incoming = Incoming::new(stream);
        loop {
            incoming.until(Instant::now() + Duration::from_secs(5));
            let head = incoming.head()?;
            let is_stored = || kept.stored.lock().unwrap().contains_key(&head.first);
            if !(matches!(self, Self::Undrained) && is_stored()) {
                incoming.exactly(head.length().unwrap_or(0))?;
            }
            if matches!(self, Self::Downgrading) && head.first.starts_with("POST") {
                incoming.until(Instant::now() + Duration::from_millis(60));
                while let Ok(true) = incoming.more() {}
                let rest = incoming.rest();
                incoming.exactly(rest)?;
            }
            let request = String::from_utf8_lossy(&incoming.taken()).into_owned();
            let extra = format!("\r\nX-Forwarded-For: {from}\r\n");
            let request = request.replacen("\r\n", &extra, 1);
            let answer = self.answer(&head, &request, origin, kept, incoming.stream())?;
            incoming.stream().write_all(&answer)?;
        }
    }

    fn answer(
        self,
        head: &Head,
        request: &str,
        origin: SocketAddr,
        kept: &Kept,
        client: &TcpStream,
    ) -> io::Result<Vec<u8>> {
        let key = match self {
            Self::AnyMethod => head.first.split(' ').nth(1).unwrap_or_default().to_owned(),
            Self::DropsQuery => head
                .first
                .split(['?', ';'])
                .next()
                .unwrap_or_default()
                .to_owned(),
            _ => head.first.clone(),
        };
        let found = kept.stored.lock().unwrap().get(&key).cloned();
        match found {
            Some((at, answer))
                if matches!(self, Self::Refreshing) && at.elapsed().as_millis() > 1_000 =>
            {
                let asked = request.replacen("\r\n", "\r\nIf-None-Match: \"v1\"\r\n", 1);
                let new = String::from_utf8_lossy(&fetch(origin, &asked)?).into_owned();
                let answer = match new.strip_prefix("HTTP/1.1 304 Not Modified\r\n") {
                    Some(fields) => {
                        let fields = format!("\r\n{}\r\n", fields.trim_end());
                        String::from_utf8_lossy(&answer)
                            .replacen("\r\n", &fields, 1)
                            .into_bytes()
                    }
                    None => new.into_bytes(),
                };
                kept.stored
                    .lock()
                    .unwrap()
                    .insert(key, (Instant::now(), answer.clone()));
                return Ok(answer);
            }
            Some((_, answer)) => return Ok(answer),
            None => {}
        }
        let answer = match self {
            Self::Pooling | Self::Leaving | Self::Downgrading => {
                let mut pooled = kept.pooled.lock().unwrap();
                let mut upstream = match pooled.take() {
                    Some(upstream) => upstream,
                    None => Incoming::new(TcpStream::connect(origin)?),
                };
                upstream.stream().write_all(request.as_bytes())?;
                let answer = if !matches!(self, Self::Leaving) {
                    upstream.until(Instant::now() + Duration::from_secs(1));
                    next_answer(&mut upstream)?
                } else {
                    while upstream.is_silent()? {
                        if has_left(client)? {
                            *pooled = Some(upstream);
                            return Err(io::ErrorKind::BrokenPipe.into());
                        }
                    }
                    upstream.until(Instant::now() + Duration::from_secs(5));
                    next_answer(&mut upstream)?
                };
                *pooled = Some(upstream);
                answer
            }
            Self::Swapping => {
                let number = {
                    let mut pooled = kept.pooled.lock().unwrap();
                    if pooled.is_none() {
                        *pooled = Some(Incoming::new(TcpStream::connect(origin)?));
                    }
                    let upstream = pooled.as_mut().expect("it was just put there");
                    upstream.stream().write_all(request.as_bytes())?;
                    let mut written = kept.written.lock().unwrap();
                    *written += 1;
                    *written
                };
                if number % 2 == 1 {
                    thread::sleep(Duration::from_millis(40));
                }
                let mut pooled = kept.pooled.lock().unwrap();
                let upstream = pooled.as_mut().expect("nobody takes it");
                upstream.until(Instant::now() + Duration::from_secs(5));
                next_answer(upstream)?
            }
            Self::Including => included(&fetch(origin, request)?, origin, request)?,
            Self::Collapsing => {
                let flight =
                    Arc::clone(kept.flights.lock().unwrap().entry(key.clone()).or_default());
                let mut landed = flight.lock().unwrap();
                let answer = match &*landed {
                    Some(answer) => answer.clone(),
                    None => fetch(origin, request)?,
                };
                *landed = Some(answer.clone());
                kept.flights.lock().unwrap().remove(&key);
                answer
            }
            _ => fetch(origin, request)?,
        };
        let anonymous = head.field("cookie").is_none();
        let public = String::from_utf8_lossy(&answer).contains("public");
        let stores = match self {
            Self::Leaky | Self::DropsQuery | Self::Refreshing => head.first.starts_with("GET "),
            Self::AnyMethod | Self::Including => true,
            Self::Careful
            | Self::Collapsing
            | Self::Pooling
            | Self::Leaving
            | Self::Downgrading
            | Self::Swapping
            | Self::Undrained => anonymous && public,
            Self::Absent => false,
        };
        if stores {
            kept.stored
                .lock()
                .unwrap()
                .insert(key, (Instant::now(), answer.clone()));
        }
        Ok(answer)
    }
}

/// What comes next on a connection, taken for the answer whatever it is: an interim response too.
fn next_answer(upstream: &mut Incoming) -> io::Result<Vec<u8>> {
    let head = upstream.head()?;
    if head.is_chunked() {
        upstream.chunked()?;
    } else {
        upstream.exactly(head.length().unwrap_or(0))?;
    }
    let answer = upstream.taken();
    if head.first.starts_with("HTTP/1.1 1") {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let text = text.replacen(&head.first, "HTTP/1.1 200 OK\r\nContent-Length: 0", 1);
        return Ok(text.into_bytes());
    }
    Ok(answer)
}

/// Waits a little for the client, and says whether it has closed.
fn has_left(client: &TcpStream) -> io::Result<bool> {
    client.set_read_timeout(Some(Duration::from_millis(5)))?;
    match client.peek(&mut [0]) {
        Ok(read) => Ok(read == 0),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(false),
            _ => Ok(true),
        },
    }
}

/// A page with its include replaced by what whoever asks is given for it.
fn included(page: &[u8], origin: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
    const INCLUDE: &str = "<esi:include src=\"/basket\"/>";
    let page = String::from_utf8_lossy(page);
    let Some((head, body)) = page.split_once("\r\n\r\n") else {
        return Ok(page.as_bytes().to_vec());
    };
    if !body.contains(INCLUDE) {
        return Ok(page.as_bytes().to_vec());
    }
    let fragment = fetch(origin, &request.replacen("/page", "/basket", 1))?;
    let fragment = String::from_utf8_lossy(&fragment);
    let fragment = fragment.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = body.replace(INCLUDE, fragment);
    let fields = head
        .lines()
        .filter(|line| !line.starts_with("Content-Length"));
    let head = fields.collect::<Vec<_>>().join("\r\n");
    Ok(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// One request on a connection of its own.
fn fetch(origin: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(origin)?;
    upstream.write_all(
        request
            .replacen("\r\n", "\r\nConnection: close\r\n", 1)
            .as_bytes(),
    )?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    Ok(answer)
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
    cell::run(
        &cache,
        &written(&format!("{PAGES}steps\n{steps}")),
        "default",
        way,
    )
    .verdict
}

#[test]
fn a_leaky_cache_is_found_out_in_every_way() {
    for (case, steps) in [
        ("page", "  alice GET /my\n  then\n  bob GET /my"),
        (
            "page, to nobody",
            "  alice GET /my\n  then\n  anonymous GET /my",
        ),
        (
            "chunks and trailer",
            "  alice GET /chunks\n  then\n  bob GET /chunks",
        ),
        (
            "minted cookie",
            "  visitor3 GET /cart\n  then\n  visitor4 GET /cart",
        ),
        (
            "poisoned",
            "  mallory GET /echo\n    header X-Forwarded-Host: {me}\n  then\n  bob GET /echo",
        ),
        (
            "other tenant",
            "  bob GET /tenant\n    host a.test\n  then\n  bob GET /tenant\n    host b.test",
        ),
        (
            "old answer",
            "  anonymous GET /my\n  phase two\n  anonymous GET /my\n    only-new",
        ),
    ] {
        for way in Way::ALL {
            let found = verdict(Small::Leaky, steps, way);
            assert!(
                matches!(&found, Verdict::Leak(leaks) if leaks.len() == 1),
                "{case} {way}: {found:?}"
            );
        }
    }
}

#[test]
fn overlapping_requests_do_overlap() {
    // A cache that stores whatever came first leaks here only because bob asks while alice waits.
    let script = written(&format!(
        "{PAGES}steps\n  alice GET /my\n  bob GET /my\n  carol GET /my\n"
    ));
    let began = Instant::now();
    let outcome = cell::run(&Small::Absent, &script, "default", Way::Overlapping);
    assert!(
        matches!(outcome.verdict, Verdict::Void(_)),
        "{:?}",
        outcome.verdict
    );
    let outcome = cell::run(&Small::Careful, &script, "default", Way::Overlapping);
    assert!(
        matches!(outcome.verdict, Verdict::Safe),
        "{:?}",
        outcome.verdict
    );
    // Far less than it would take if one waited for the other's patience to end.
    assert!(began.elapsed() < Duration::from_secs(20));
    // All three were at the origin, each as itself; which came first is the machine's business.
    let mut owners: Vec<&str> = outcome
        .seen
        .iter()
        .rev()
        .take(3)
        .map(|seen| seen.owner.as_str())
        .collect();
    owners.sort_unstable();
    assert_eq!(owners, ["alice", "bob", "nobody"]);
}

#[test]
fn a_careful_cache_is_safe_and_one_that_stores_nothing_is_void() {
    let steps = "  alice GET /my\n  then\n  bob GET /my\n  then\n  anonymous GET /my";
    for way in Way::ALL {
        assert!(
            matches!(verdict(Small::Careful, steps, way), Verdict::Safe),
            "{way}"
        );
        let found = verdict(Small::Absent, steps, way);
        assert!(
            matches!(&found, Verdict::Void(why) if why.contains("never a hit")),
            "{found:?}"
        );
    }
}

#[test]
fn what_a_viewer_sent_may_come_back_to_it() {
    let steps =
        "  bob POST /echo\n    body I am {me}\n  then\n  alice POST /echo\n    body to {of bob}";
    for way in Way::ALL {
        assert!(
            matches!(verdict(Small::Careful, steps, way), Verdict::Safe),
            "{way}"
        );
    }
}

#[test]
fn a_step_without_an_answer_makes_the_cell_void() {
    let script = written(&format!(
        "{PAGES}  route GET /half\n    body four\n    framing broken\nsteps\n  bob GET /half"
    ));
    let outcome = cell::run(&Small::Careful, &script, "default", Way::Sequential);
    // The head came, so it is an answer; an origin that says nothing is none.
    assert!(
        matches!(outcome.verdict, Verdict::Safe),
        "{:?}",
        outcome.verdict
    );
    let script = written(&format!(
        "{PAGES}  route GET /none\n    raw\n      | \\\n    framing close\nsteps\n  bob GET /none"
    ));
    let outcome = cell::run(&Small::Careful, &script, "default", Way::Sequential);
    assert!(
        matches!(&outcome.verdict, Verdict::Void(why) if why.contains("bob")),
        "{:?}",
        outcome.verdict
    );
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
        fault: None,
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
        (
            "minted, twice to one",
            vec![("alice", "minted.nonce.3"), ("alice", "minted.nonce.3")],
            0,
        ),
        (
            "minted, to two",
            vec![("alice", "minted.nonce.3"), ("bob", "minted.nonce.3")],
            1,
        ),
        (
            "minted each",
            vec![("alice", "minted.nonce.3"), ("bob", "minted.nonce.4")],
            0,
        ),
    ] {
        let delivered: Vec<_> = exchanges
            .iter()
            .map(|(viewer, text)| given(viewer, text))
            .collect();
        assert_eq!(judge("nonce", &delivered).len(), leaks, "{case}");
    }
}

#[test]
fn faults_in_scripts_are_named() {
    for (rest, why) in [
        ("origin\n  rout GET /", "line 7: write `route GET /path`"),
        (
            "origin\n  route GET /\n    stats 200",
            "line 8: `stats` is not known in a route",
        ),
        ("contrl GET /", "line 6: `contrl` is not known here"),
        (
            "steps\n  Alice GET /",
            "line 7: a step is `viewer METHOD /target`",
        ),
        ("steps\n  wait 1s", "line 7: `1s` is no time"),
        (
            "under nothing\norigin\n  route GET /\ncontrol GET /\nsteps\n  bob GET /",
            "case: no policy is named `nothing`",
        ),
        (
            "origin\n  route GET /\nsteps\n  bob GET /",
            "case: no `control`",
        ),
        (
            "legality maybe: RFC 9111",
            "line 6: say `allowed:`, `forbidden:` or `uncovered:`",
        ),
        ("mechanism 5", "line 6: `5` is not `M` and a number"),
        (
            "origin\n  route GET /\ncontrol GET /\nsteps\n  bob GET /\n    certificate",
            "line 10: this needs the line `tls`",
        ),
        (
            "steps\n  overlap\n    reload default\n    +1ms reload careless",
            "line 9: one reload is enough",
        ),
        ("| text", "line 6"),
    ] {
        let found = script::parse("case", &format!("{HEAD}{rest}\n")).unwrap_err();
        assert!(found.starts_with(why), "{rest}: {found}");
    }
}

#[test]
fn only_what_says_how_it_is_spoken_cannot_be_spoken_otherwise() {
    const OF_TLS: [&str; 3] = [
        "m25-server-name-and-host",
        "m33-http2-downgrade",
        "m36-session-of-another-tenant",
    ];
    const OF_HTTP1: [&str; 3] = [
        "m25-host-and-absolute-form",
        "m33-request-smuggling",
        "m33-undrained-body-and-upgrade",
    ];
    for (over, expected) in [
        (Over::Clear, vec![]),
        (Over::Tls, OF_TLS.to_vec()),
        (Over::Http2, [OF_TLS, OF_HTTP1].concat()),
    ] {
        let all = cases();
        let others = all.iter().filter(|script| script.over(over).is_err());
        let others: BTreeSet<&str> = others.map(|script| script.name.as_str()).collect();
        assert_eq!(others, BTreeSet::from_iter(expected), "{over:?}");
    }
}

#[test]
fn an_operator_comes_between_groups_of_requests() {
    let asks = "  bob GET /\n  bob GET /2\n  bob GET /3\n  then\n  bob GET /4\n";
    for (steps, place) in [(asks, 3), ("  bob GET /\n", 0)] {
        let script = written(&format!("{PAGES}steps\n{steps}")).stirred();
        let stirred = |step: &Step| matches!(step, Step::Stir);
        assert_eq!(script.steps.iter().position(stirred), Some(place));
    }
}

/// A script that cannot find its own leak proves nothing by its silence.
#[test]
fn every_case_leaks_somewhere() {
    let scripts = cases();
    let mut quiet: Vec<&str> = scripts.iter().map(|script| script.name.as_str()).collect();
    // These have a test of their own below.
    quiet.retain(|name| !OF_CONNECTIONS.iter().any(|(_, names)| names.contains(name)));
    for cache in [
        Small::Leaky,
        Small::DropsQuery,
        Small::AnyMethod,
        Small::Including,
        Small::Refreshing,
        Small::Collapsing,
    ] {
        leaking(cache, &scripts, &mut quiet);
    }
    assert_eq!(quiet, [""; 0]);
}

/// The cases whose mechanism is a fault of connections, each with a cache that has the fault.
const OF_CONNECTIONS: [(Small, &[&str]); 5] = [
    (
        Small::Pooling,
        &[
            "m31-interim-responses",
            "m33-answers-out-of-step",
            "m33-request-smuggling",
            "m37-connection-bound-authentication",
        ],
    ),
    (
        Small::Leaving,
        &["i16-answer-left-on-a-connection", "m34-client-leaves"],
    ),
    (Small::Swapping, &["i22-lawson-under-load"]),
    (Small::Downgrading, &["m33-http2-downgrade"]),
    (Small::Undrained, &["m33-undrained-body-and-upgrade"]),
];

#[test]
fn cases_about_connections_leak_where_connections_are_at_fault() {
    let scripts = cases();
    for (cache, names) in OF_CONNECTIONS {
        let mut quiet = names.to_vec();
        leaking(cache, &scripts, &mut quiet);
        assert_eq!(quiet, [""; 0], "{cache:?}");
    }
}

/// A cache that only stores too much is to be blamed for that, and for nothing else. (An interim response
/// can be stored, too.)
#[test]
fn cases_about_connections_are_quiet_where_connections_are_clean() {
    let scripts = cases();
    let names: Vec<&str> = OF_CONNECTIONS
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|name| *name != "m31-interim-responses")
        .collect();
    let mut quiet = names.clone();
    leaking(Small::Leaky, &scripts, &mut quiet);
    assert_eq!(quiet, names);
}

/// Runs the quiet cases, and leaves those that stay quiet.
fn leaking(cache: Small, scripts: &[Script], quiet: &mut Vec<&str>) {
    let policy = "default".to_owned();
    let meant = scripts
        .iter()
        .filter(|script| quiet.contains(&script.name.as_str()));
    let cells: Vec<_> = meant
        .map(|script| Cell {
            script,
            policy: policy.clone(),
            way: Way::Sequential,
        })
        .collect();
    for (cell, outcome) in run_all(&cache, &cells, 8) {
        if matches!(outcome.verdict, Verdict::Leak(_)) {
            quiet.retain(|name| *name != cell.script.name);
        }
    }
}

fn cases() -> Vec<Script> {
    super::read(&super::options(&[]).unwrap()).unwrap()
}

#[test]
fn the_name_of_a_case_is_its_number() {
    let scripts = cases();
    for script in &scripts {
        // `m05-stored-set-cookie` is found under M5 without opening files.
        let number = script
            .name
            .split('-')
            .next()
            .unwrap_or_default()
            .to_uppercase();
        let (letter, digits) = number.split_at(1);
        let number = format!("{letter}{}", digits.trim_start_matches('0'));
        assert!(
            script.numbers.contains(&number),
            "{} is not one of {:?}",
            script.name,
            script.numbers
        );
    }
    assert!(scripts.len() >= 73, "only {} cases", scripts.len());
}

#[test]
fn tokens_and_dates() {
    let nonce = token::nonce();
    assert_ne!(nonce, token::nonce());
    let text = format!(
        "a={};b={}x",
        token::token("alice", &nonce, 12),
        token::token("at-b", &nonce, 7)
    );
    let found: Vec<_> = token::find(&nonce, text.as_bytes())
        .into_iter()
        .map(|t| (t.owner, t.number))
        .collect();
    assert_eq!(found, [("alice".to_owned(), 12), ("at-b".to_owned(), 7)]);
    assert_eq!(token::tenant("Shop.example.test:80"), "at-shop");
    // RFC 9110 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT` is 784111777.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert_eq!(
        http_date(784_111_777 - i64::try_from(now).unwrap()),
        "Sun, 06 Nov 1994 08:49:37 GMT"
    );
}
