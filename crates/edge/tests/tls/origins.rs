//! Origins that speak TLS and HTTP/2: who is believed to be one, and that nothing changes in what goes on
//! which connection.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response, StatusCode};
use rustls::{HandshakeKind, ServerConfig};
use shikiri_edge::world::Connecting;
use shikiri_edge::{Config, OnFull, Transport, Wire, World};
use shikiri_record::UnixMillis;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, Certified, Folder, day};
use crate::world::{Answer, CLIENT, TestNode};

/// What an origin saw of one connection.
#[derive(Clone, Debug, Default)]
struct Connection {
    kind: Option<HandshakeKind>,
    server_name: Option<String>,
    requests: Vec<String>,
}

type Log = Arc<Mutex<BTreeMap<u64, Connection>>>;
type Pinned = Pin<Box<dyn Future<Output = ()> + Send>>;
type Answers = Arc<dyn Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> Pinned + Send + Sync>;

/// An origin by itself: TLS when it has a certificate; HTTP/2 when it has answers of that kind.
#[derive(Clone)]
struct Backend {
    tls: Option<Arc<ServerConfig>>,
    answers: Option<Answers>,
    log: Log,
}

struct BackendWorld {
    backend: Backend,
    connections: AtomicU64,
    began: Instant,
}

impl World for BackendWorld {
    fn connect(&self, _: &str, _: u16) -> Connecting {
        let (ours, theirs) = duplex(64 << 10);
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        self.backend
            .log
            .lock()
            .unwrap()
            .insert(number, Connection::default());
        tokio::spawn(self.backend.clone().serve(theirs, number));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Wire>) })
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000 + u64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn random(&self) -> u64 {
        7
    }

    fn clock_jump(&self) -> Option<Duration> {
        None
    }
}

impl Backend {
    async fn serve(self, wire: DuplexStream, number: u64) {
        let Some(config) = self.tls.clone() else {
            return self.speak(wire, number).await;
        };
        let Ok(stream) = TlsAcceptor::from(config).accept(wire).await else {
            return;
        };
        {
            let mut log = self.log.lock().unwrap();
            let seen = log.get_mut(&number).unwrap();
            seen.kind = stream.get_ref().1.handshake_kind();
            seen.server_name = stream.get_ref().1.server_name().map(str::to_owned);
        }
        self.speak(stream, number).await;
    }

    async fn speak(self, io: impl AsyncRead + AsyncWrite + Unpin, number: u64) {
        let note = |request: String| {
            let mut log = self.log.lock().unwrap();
            log.get_mut(&number).unwrap().requests.push(request);
        };
        let Some(answers) = self.answers.clone() else {
            return http1(io, note).await;
        };
        let Ok(mut connection) = h2::server::handshake(io).await else {
            return;
        };
        while let Some(Ok((request, respond))) = connection.accept().await {
            note(format!(
                "{} {} {:?}",
                request.method(),
                request.uri(),
                request.headers()
            ));
            if request.uri().path() == "/bye" {
                connection.graceful_shutdown();
            }
            tokio::spawn(answers(request, respond));
        }
    }

    fn seen(&self) -> Vec<Connection> {
        self.log.lock().unwrap().values().cloned().collect()
    }
}

async fn http1(mut io: impl AsyncRead + AsyncWrite + Unpin, note: impl Fn(String)) {
    let mut buffer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = io.read(&mut piece).await {
        buffer.extend_from_slice(&piece[..count]);
        if buffer.ends_with(b"\r\n\r\n") {
            note(String::from_utf8(std::mem::take(&mut buffer)).unwrap());
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            if io.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// A node with this origin, whose policy says this of it.
fn node(backend: &Backend, origin: &str) -> TestNode {
    let text = format!("version = 1\n[[origin]]\nhosts = [\"site.test\"]\n{origin}");
    let text = shikiri_record::PolicyText {
        source: "test".into(),
        text,
    };
    let rules = shikiri_partition::policy::compile(Some(&text), None);
    let rules = rules.unwrap_or_else(|errors| panic!("{errors:?}"));
    let config = Config {
        name: "edge".into(),
        trusted: vec!["192.0.2.1".parse().unwrap()],
    };
    let world = BackendWorld {
        backend: backend.clone(),
        connections: AtomicU64::new(0),
        began: Instant::now(),
    };
    TestNode::around(
        config,
        rules,
        Arc::new(world),
        OnFull::Refuse,
        Arc::default(),
    )
}

/// A server's side of TLS with this certificate.
fn server(folder: &Folder, certified: &Certified, alpn: &[&str]) -> Arc<ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    certified.save(folder, "origin");
    let chain = vec![certified.der()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(folder.path("origin.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn answers<F, O>(answer: F) -> Option<Answers>
where
    F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> O + Send + Sync + 'static,
    O: Future<Output = ()> + Send + 'static,
{
    Some(Arc::new(move |request, respond| {
        Box::pin(answer(request, respond))
    }))
}

/// Says hello, whatever is asked.
async fn hello(mut request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    while let Some(Ok(data)) = request.body_mut().data().await {
        drop(
            request
                .body_mut()
                .flow_control()
                .release_capacity(data.len()),
        );
    }
    let css = request.uri().path() == "/a.css";
    let mut response = Response::builder().header("content-type", "text/css");
    if css {
        response = response.header("cache-control", "max-age=60");
    }
    let mut body = respond
        .send_response(response.body(()).unwrap(), false)
        .unwrap();
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
}

fn backend(tls: Option<Arc<ServerConfig>>, answers: Option<Answers>) -> Backend {
    Backend {
        tls,
        answers,
        log: Log::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn only_who_is_certified_for_its_name_is_spoken_to() {
    let folder = Folder::new();
    let (believed, other) = (Authority::new("believed"), Authority::new("other"));
    folder.write("ca.pem", &believed.pem());
    let ca = format!("ca = \"{}\"\n", folder.path("ca.pem").display());
    let server_auth = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    for (certified, named, url, good, what) in [
        (
            believed.certify(&["o.test"]),
            "",
            "https://o.test",
            true,
            "its name",
        ),
        (
            believed.certify(&["x.test"]),
            "",
            "https://o.test",
            false,
            "another name",
        ),
        (
            believed.certify(&["x.test"]),
            "server_name = \"x.test\"\n",
            "https://o.test",
            true,
            "the name that policy says",
        ),
        (
            believed.certify(&["o.test"]),
            "server_name = \"x.test\"\n",
            "https://o.test",
            false,
            "not that",
        ),
        (
            believed.certify(&["192.0.2.9"]),
            "",
            "https://192.0.2.9:8443",
            true,
            "an address",
        ),
        (
            believed.certify(&["o.test"]),
            "",
            "https://192.0.2.9:8443",
            false,
            "not that address",
        ),
        (
            other.certify(&["o.test"]),
            "",
            "https://o.test",
            false,
            "by somebody else",
        ),
        (
            believed.certify_as(&["o.test"], server_auth, day(2020)),
            "",
            "https://o.test",
            false,
            "expired",
        ),
        (
            believed.certify_client("o.test"),
            "",
            "https://o.test",
            false,
            "for clients",
        ),
    ] {
        let backend = backend(Some(server(&folder, &certified, &["http/1.1"])), None);
        let node = node(&backend, &format!("url = \"{url}\"\n{ca}{named}"));
        let answer = node.get("/", "Cookie: s=1\r\n").await;
        assert_eq!(answer.status == 200, good, "{what}: {answer:?}");
        let asked: usize = backend.seen().iter().map(|seen| seen.requests.len()).sum();
        assert_eq!(asked, usize::from(good), "{what}");
        if !good {
            assert!(
                answer.body.contains("502 Bad Gateway: origin-tls"),
                "{what}: {}",
                answer.body
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_missing_is_found_before_any_request_and_after_it_a_failure() {
    let folder = Folder::new();
    let authority = Authority::new("believed");
    let backend = backend(
        Some(server(
            &folder,
            &authority.certify(&["o.test"]),
            &["http/1.1"],
        )),
        None,
    );
    let ca = folder.path("ca.pem");
    let node = node(
        &backend,
        &format!("url = \"https://o.test\"\nca = \"{}\"\n", ca.display()),
    );
    let (trust, rules) = (node.node.origin_trust(), node.node.stance().rules.clone());
    assert!(
        trust
            .prepare(&rules)
            .unwrap_err()
            .to_string()
            .contains("cannot read")
    );
    assert!(node.get("/", "").await.body.contains("origin-trust"));
    folder.write("ca.pem", &authority.pem());
    trust.prepare(&rules).unwrap();
    assert_eq!(node.get("/", "").await.body, "hello");
    // One that breaks later leaves the old in force.
    assert_eq!(trust.files(), [ca]);
    folder.write("ca.pem", "nothing");
    assert!(trust.refresh().is_err());
    assert_eq!(node.get("/", "").await.body, "hello");
    folder.write("ca.pem", &Authority::new("other").pem());
    assert_eq!(trust.refresh().unwrap(), 1);
    assert!(node.get("/", "").await.body.contains("origin-tls"));
}

#[tokio::test(start_paused = true)]
async fn no_session_with_an_origin_is_resumed() {
    let folder = Folder::new();
    let authority = Authority::new("believed");
    folder.write("ca.pem", &authority.pem());
    let backend = backend(
        Some(server(
            &folder,
            &authority.certify(&["o.test"]),
            &["http/1.1"],
        )),
        None,
    );
    let ca = folder.path("ca.pem");
    let node = node(
        &backend,
        &format!("url = \"https://o.test\"\nca = \"{}\"\n", ca.display()),
    );
    for n in 0..4 {
        node.get("/", &format!("Cookie: s={n}\r\n")).await;
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), 4);
    assert!(
        seen.iter()
            .all(|seen| seen.kind.is_some_and(|kind| kind != HandshakeKind::Resumed))
    );
    assert!(
        seen.iter()
            .all(|seen| seen.server_name.as_deref() == Some("o.test"))
    );
}

#[tokio::test(start_paused = true)]
async fn http_2_is_spoken_where_the_origin_speaks_it() {
    let folder = Folder::new();
    let authority = Authority::new("believed");
    folder.write("ca.pem", &authority.pem());
    let tls = server(
        &folder,
        &authority.certify(&["o.test"]),
        &["h2", "http/1.1"],
    );
    let ca = format!("ca = \"{}\"\n", folder.path("ca.pem").display());
    for (backend, origin) in [
        (
            backend(Some(tls), answers(hello)),
            format!("url = \"https://o.test\"\n{ca}"),
        ),
        (
            backend(None, answers(hello)),
            "url = \"h2c://o.test\"\n".to_owned(),
        ),
    ] {
        let node = node(&backend, &origin);
        let css = node.get("/a.css", "Cookie: sid=alice\r\n").await;
        assert_eq!((css.status, css.body.as_str()), (200, "hello"));
        assert_eq!(css.cache(), "shikiri; fwd=uri-miss; fwd-status=200; stored");
        assert!(node.get("/a.css", "").await.cache().contains("hit"));
        let page = node
            .get("/account", "Cookie: sid=alice\r\nTE: trailers\r\n")
            .await;
        assert_eq!(page.body, "hello");
        let seen: Vec<String> = backend
            .seen()
            .into_iter()
            .flat_map(|seen| seen.requests)
            .collect();
        assert_eq!(seen.len(), 2, "{seen:?}");
        let scheme = if origin.contains("https") {
            "https"
        } else {
            "http"
        };
        assert!(
            seen[0].starts_with(&format!("GET {scheme}://site.test/a.css")),
            "{}",
            seen[0]
        );
        assert!(!seen[0].contains("alice") && seen[1].contains("sid=alice"));
        for absent in ["\"host\"", "\"connection\"", "keep-alive"] {
            assert!(!seen.concat().contains(absent), "{absent} in {seen:?}");
        }
        assert!(seen[1].contains("\"te\": \"trailers\""), "{}", seen[1]);
        // A body of unknown length and one of known.
        for lines in [
            "Content-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            let post = format!("POST /form HTTP/1.1\r\nHost: site.test\r\n{lines}");
            assert_eq!(node.ask(&post).await.body, "hello");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rules_of_which_connection_carries_what_are_those_of_http_1() {
    let backend = backend(None, answers(hello));
    let node = node(&backend, "url = \"h2c://o.test\"\n");
    let mut alice = node.client();
    let mut bob = node.client();
    for _ in 0..2 {
        for (client, name) in [(&mut alice, "alice"), (&mut bob, "bob")] {
            let get = crate::world::get("/account", &format!("Cookie: sid={name}\r\n"));
            client.send(&get).await;
            assert_eq!(client.answer().await.body, "hello");
        }
    }
    // Anonymous ones have a connection each, and what is shared its own.
    for path in ["/", "/", "/a.css"] {
        node.get(path, "").await;
    }
    let seen = backend.seen();
    let counts: Vec<usize> = seen.iter().map(|seen| seen.requests.len()).collect();
    assert_eq!(counts, [2, 2, 1, 1, 1], "{seen:?}");
    for connection in &seen {
        let names = ["alice", "bob"].iter();
        let names = names
            .filter(|name| connection.requests.concat().contains(**name))
            .count();
        assert!(names <= 1, "{connection:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_origin_has_not_looked_at_is_sent_again_and_nothing_else() {
    // On the second request of a connection it refuses, or fails.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let backend = backend(
        None,
        answers(
            move |request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
                let log = Arc::clone(&log);
                async move {
                    let path = request.uri().path().to_owned();
                    let again = log.lock().unwrap().contains(&path);
                    log.lock().unwrap().push(path.clone());
                    match path.as_str() {
                        "/refused" if !again => respond.send_reset(Reason::REFUSED_STREAM),
                        "/broken" => respond.send_reset(Reason::INTERNAL_ERROR),
                        _ => hello(request, respond).await,
                    }
                }
            },
        ),
    );
    let node = node(&backend, "url = \"h2c://o.test\"\n");
    let mut client = node.client();
    let mut ask = async |method: &str, path: &str, body: &str| -> Answer {
        client
            .send(&format!(
                "{method} {path} HTTP/1.1\r\nHost: site.test\r\nCookie: s=1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        client.answer().await
    };
    assert_eq!(ask("GET", "/first", "").await.status, 200);
    assert_eq!(ask("GET", "/refused", "").await.body, "hello");
    assert_eq!(ask("GET", "/first", "").await.status, 200);
    assert_eq!(ask("GET", "/broken", "").await.status, 502);
    // Its body may have been looked at by whatever is between.
    seen.lock().unwrap().clear();
    assert_eq!(ask("GET", "/first", "").await.status, 200);
    assert_eq!(ask("POST", "/refused", "body").await.status, 502);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, ["/first", "/refused"]);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_goes_away_is_connected_to_again() {
    let backend = backend(None, answers(hello));
    let node = node(&backend, "url = \"h2c://o.test\"\n");
    let mut client = node.client();
    for path in ["/one", "/bye", "/two", "/three"] {
        client
            .send(&crate::world::get(path, "Cookie: s=1\r\n"))
            .await;
        assert_eq!(client.answer().await.body, "hello", "{path}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let counts: Vec<usize> = backend
        .seen()
        .iter()
        .map(|seen| seen.requests.len())
        .collect();
    assert_eq!(counts, [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_or_stalls_is_no_end_and_takes_its_connection_along() {
    let backend = backend(
        None,
        answers(
            |request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| async move {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                match request.uri().path() {
                    "/reset" => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        body.send_reset(Reason::NO_ERROR);
                    }
                    _ => std::future::pending::<()>().await,
                }
            },
        ),
    );
    let node = node(&backend, "url = \"h2c://o.test\"\n");
    for path in ["/reset", "/stall"] {
        let answer = node.get(path, "Cookie: s=1\r\n").await;
        assert!(
            answer.cut && answer.body.contains("half"),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(backend.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn trailers_and_interim_responses_come_through() {
    let backend = backend(
        None,
        answers(
            |_: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| async move {
                let early = Response::builder()
                    .status(StatusCode::EARLY_HINTS)
                    .header("link", "</a.css>; rel=preload")
                    .body(())
                    .unwrap();
                respond.send_informational(early).unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"hello"), false).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("x-checksum", "1".parse().unwrap());
                trailers.insert("set-cookie", "a=b".parse().unwrap());
                body.send_trailers(trailers).unwrap();
            },
        ),
    );
    let node = node(&backend, "url = \"h2c://o.test\"\n");
    let wire = node.wire(Transport::plain_http2(CLIENT));
    let (mut requests, connection) = h2::client::handshake(wire).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::get("http://site.test/").body(()).unwrap();
    let (mut response, _) = requests.send_request(request, true).unwrap();
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    assert_eq!(interim.unwrap().unwrap().status(), StatusCode::EARLY_HINTS);
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "hello");
    let trailers = body.trailers().await.unwrap().unwrap();
    let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-checksum"]);
}
