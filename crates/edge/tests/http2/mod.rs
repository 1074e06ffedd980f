//! HTTP/2 clients of the node: the same answers as on HTTP/1, the same bounds, and what only this
//! protocol lets a client try.

mod frames;

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use shikiri_edge::Transport;
use shikiri_edge::transport::{ServedNames, Tls};
use shikiri_partition::Limits;

use crate::world::{Answer, CLIENT, TestNode, raw, reply};
use crate::{CSS, MS, PAGES, S};

/// A stranger's address: nothing that it claims is believed.
const STRANGER: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5)),
    40000,
);

/// One HTTP/2 connection of a client.
struct Client {
    requests: SendRequest<Bytes>,
}

impl Client {
    async fn of(node: &TestNode) -> Self {
        Self::on(node, Transport::plain_http2(CLIENT)).await
    }

    async fn on(node: &TestNode, transport: Transport) -> Self {
        // Large as a whole, small for each stream.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let (requests, connection) = builder.handshake(node.wire(transport)).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Self { requests }
    }

    /// Sends a head; `ends`: and nothing more.
    async fn begin(&self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        requests.send_request(request, ends).unwrap()
    }

    async fn ask(&self, request: Request<()>) -> Answer {
        whole(self.begin(request, true).await.0.await.unwrap()).await
    }

    async fn get(&self, path: &str, lines: &str) -> Answer {
        self.ask(get(path, lines)).await
    }
}

/// `GET` with these further header lines.
fn get(path: &str, lines: &str) -> Request<()> {
    let mut request = Request::get(format!("http://site.test{path}"));
    for line in lines.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(()).unwrap()
}

/// A response in the form that an HTTP/1 client reads it in.
async fn whole(response: Response<RecvStream>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let mut head = format!("HTTP/2 {}\r\n", parts.status.as_u16());
    for (name, value) in &parts.headers {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    let (mut text, mut cut) = (String::new(), false);
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                text += &String::from_utf8_lossy(&data);
            }
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    Answer {
        status: parts.status.as_u16(),
        head,
        body: text,
        cut,
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_protocol_filled_the_other_is_served() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    let client = Client::of(&node).await;
    assert_eq!(
        client.get("/a.css", "cookie: sid=alice").await.cache(),
        "shikiri; fwd=uri-miss; fwd-status=200; stored"
    );
    assert_eq!(node.get("/a.css", "").await.cache(), "shikiri; hit; ttl=60");
    let again = client.get("/a.css", "").await;
    assert_eq!(
        (again.body.as_str(), again.cache()),
        ("body{}", "shikiri; hit; ttl=60")
    );
    assert_eq!(again.field("content-length"), Some("6"));
    assert_eq!(node.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn streams_are_counted_for_as_long_as_they_run() {
    let node = TestNode::new("", |_| reply("200 OK", "hi").after(S));
    let client = Client::of(&node).await;
    let (first, _) = client.begin(get("/1", ""), true).await;
    let (second, _) = client.begin(get("/2", ""), true).await;
    tokio::time::sleep(500 * MS).await;
    assert_eq!(node.node.streams_running(), 2);
    drop(second);
    tokio::time::sleep(100 * MS).await;
    assert_eq!(node.node.streams_running(), 1, "one was reset");
    whole(first.await.unwrap()).await;
    tokio::time::sleep(100 * MS).await;
    assert_eq!(node.node.streams_running(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_of_all_clients_are_bounded() {
    let policy = "version = 1\n[limits]\nh2_streams_all_max = 2\n";
    let node = TestNode::new(policy, |_| reply("200 OK", "hi").after(S));
    let (one, other) = (Client::of(&node).await, Client::of(&node).await);
    let (first, _) = one.begin(get("/1", ""), true).await;
    let (second, _) = other.begin(get("/2", ""), true).await;
    tokio::time::sleep(100 * MS).await;
    let (third, _) = other.begin(get("/3", ""), true).await;
    // Nothing was done with it, and it says so.
    assert_eq!(
        third.await.unwrap_err().reason(),
        Some(Reason::REFUSED_STREAM)
    );
    assert_eq!(node.asked(), 2);
    for running in [first, second] {
        assert_eq!(whole(running.await.unwrap()).await.status, 200);
    }
    tokio::time::sleep(100 * MS).await;
    assert_eq!(other.get("/4", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_pass_is_the_same_request_to_the_origin() {
    let node = TestNode::new("", |_| {
        reply("200 OK\r\nConnection: x-hop\r\nX-Hop: 1", "hi")
    });
    let lines = "accept: text/html\r\nx-app: 1\r\ncookie: a=1; sid=2\r\n";
    node.get("/account?x=1", lines).await;
    let client = Client::of(&node).await;
    // A client may send its cookies one by one (RFC 9113 8.2.3).
    let answer = client
        .get(
            "/account?x=1",
            "accept: text/html\nx-app: 1\ncookie: a=1\ncookie: sid=2",
        )
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hi"));
    assert_eq!(
        (answer.field("connection"), answer.field("x-hop")),
        (None, None)
    );
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let seen = node.seen();
    assert_eq!(
        lines(&seen[0].text),
        lines(&seen[1].text.replace("via: 2.0 edge", "via: 1.1 edge"))
    );
}

#[tokio::test(start_paused = true)]
async fn requests_on_one_connection_do_not_wait_for_each_other() {
    let node = TestNode::new("", |asked| {
        let slow = asked.starts_with("GET /slow");
        reply("200 OK", "x").after(if slow { 10 * S } else { MS })
    });
    let client = Client::of(&node).await;
    let slow = client.begin(get("/slow", "cookie: s=1"), true).await.0;
    let began = tokio::time::Instant::now();
    client.get("/fast", "cookie: s=1").await;
    assert!(began.elapsed() < S);
    assert_eq!(slow.await.unwrap().status(), StatusCode::OK);
    // Each had an origin connection of its own; the next takes one of them.
    client.get("/next", "cookie: s=1").await;
    let connections: Vec<u64> = node.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 3);
    assert_ne!(connections[0], connections[1]);
    assert!(connections[..2].contains(&connections[2]));
}

#[tokio::test(start_paused = true)]
async fn a_body_goes_upstream_with_or_without_a_length() {
    let node = TestNode::new("", |_| reply("200 OK", "thanks"));
    let client = Client::of(&node).await;
    for (method, length, framed) in [
        (Method::POST, Some("5"), "content-length: 5"),
        (Method::POST, None, "transfer-encoding: chunked"),
        (Method::GET, None, "transfer-encoding: chunked"),
    ] {
        let mut request = Request::builder()
            .method(method)
            .uri("http://site.test/a.css");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let (response, mut body) = client.begin(request.body(()).unwrap(), false).await;
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        // A body, said or unsaid, makes it personal.
        assert_eq!(whole(response.await.unwrap()).await.body, "thanks");
        let text = node.seen().last().unwrap().text.clone();
        assert!(text.contains(framed) && text.contains("hello"), "{text}");
    }
    assert_eq!(node.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_guard_of_http_1_refuses_is_refused() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let long = "a".repeat(9000);
    for (method, uri, lines, status, reason) in [
        (
            "GET",
            "http://site.test/",
            "host: other.test",
            400,
            "authority-mismatch",
        ),
        ("GET", "https://site.test/", "", 400, "authority-mismatch"),
        (
            "GET",
            "http://site.test/",
            "content_length: 5",
            400,
            "content-length",
        ),
        (
            "GET",
            "http://site.test/",
            "transfer.encoding: chunked",
            400,
            "transfer-encoding",
        ),
        (
            "GET",
            "http://site.test/",
            "host: site.test\nhost: site.test",
            400,
            "host",
        ),
        (
            "GET",
            "http://site.test/",
            "x-padded:  a",
            400,
            "malformed-head",
        ),
        (
            "GET",
            "http://site.test/",
            "expect: more",
            417,
            "expectation",
        ),
        (
            "GET",
            &format!("http://site.test/{long}"),
            "",
            414,
            "target-too-long",
        ),
        ("CONNECT", "site.test:443", "", 405, "connect"),
        ("GET", "http://user@site.test/", "", 400, "target"),
    ] {
        let client = Client::on(&node, Transport::plain_http2(STRANGER)).await;
        let mut request = Request::builder().method(method).uri(uri);
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, http::HeaderValue::from_str(value).unwrap());
        }
        let answer = client.ask(request.body(()).unwrap()).await;
        assert_eq!(answer.status, status, "{uri} {lines}");
        assert!(
            answer.body.contains(reason),
            "{uri} {lines}: {}",
            answer.body
        );
        // The connection goes on: a stream's fault is its own.
        assert_eq!(client.get("/", "").await.status, 200);
    }
    let mut many = Request::get("http://site.test/");
    for n in 0..101 {
        many = many.header(format!("x-{n}"), "1");
    }
    let client = Client::of(&node).await;
    assert_eq!(client.ask(many.body(()).unwrap()).await.status, 431);
}

/// RFC 9113 8.2.3: a browser sends each cookie as a field of its own. They count as the one line that
/// they are.
#[tokio::test(start_paused = true)]
async fn cookies_count_as_one_line() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let client = Client::of(&node).await;
    let mut cookies = Request::get("http://site.test/account");
    let mut padded = Request::get("http://site.test/account");
    let mut line = String::from("cookie: c0=1");
    cookies = cookies.header("cookie", "c0=1");
    for n in 1..120 {
        cookies = cookies.header("cookie", format!("c{n}=1"));
        line += &format!("; c{n}=1");
        padded = padded.header("cookie", format!(" c{n}=1"));
    }
    assert_eq!(client.ask(cookies.body(()).unwrap()).await.status, 200);
    let seen = &node.seen()[0].text;
    assert!(seen.contains(&format!("{line}\r\n")), "{seen}");
    // Each is still held to what a field must be.
    assert_eq!(client.ask(padded.body(()).unwrap()).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_request_for_another_host_than_the_connections_is_misdirected() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let mut transport = Transport::plain_http2(STRANGER);
    transport.tls = Some(Tls {
        names: ServedNames::Sent("site.test".into()),
        certificate: None,
    });
    let client = Client::on(&node, transport).await;
    for (uri, status) in [
        ("https://site.test/", 200),
        ("https://SITE.test:8443/", 200),
        ("https://other.test/", 421),
        ("https://site.test/", 200),
    ] {
        let request = Request::get(uri).body(()).unwrap();
        assert_eq!(client.ask(request).await.status, status, "{uri}");
    }
    assert_eq!(node.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_trusted_hop_says_which_scheme_the_viewer_used() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let client = Client::of(&node).await;
    for scheme in ["http", "https"] {
        let request = Request::get(format!("{scheme}://site.test/"))
            .header("x-forwarded-proto", "https")
            .body(())
            .unwrap();
        assert_eq!(client.ask(request).await.status, 200);
        let text = node.seen().last().unwrap().text.clone();
        assert!(text.contains("proto=https"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_breaks_off_is_no_end() {
    let node = TestNode::new("", |asked| {
        if asked.contains("/page") {
            raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").closing()
        } else {
            reply("200 OK", "x")
        }
    });
    let client = Client::of(&node).await;
    let answer = client.get("/page", "cookie: s=1").await;
    assert!(answer.cut && answer.body == "half", "{answer:?}");
    assert_eq!(client.get("/other", "cookie: s=1").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_loses_its_stream_alone() {
    let node = TestNode::new("", |asked| {
        let size = if asked.starts_with("GET /big") {
            300_000
        } else {
            3
        };
        reply("200 OK", &"x".repeat(size))
    });
    let client = Client::of(&node).await;
    let response = client
        .begin(get("/big", "cookie: s=1"), true)
        .await
        .0
        .await
        .unwrap();
    let mut body = response.into_body();
    let first = body.data().await.unwrap().unwrap();
    assert!(!first.is_empty());
    // The window is never given back.
    tokio::time::sleep(59 * S).await;
    assert_eq!(client.get("/small", "cookie: s=1").await.body, "xxx");
    tokio::time::sleep(10 * S).await;
    let mut ended = None;
    while let Some(data) = body.data().await {
        if let Err(error) = data {
            ended = error.reason();
            break;
        }
    }
    assert_eq!(ended, Some(Reason::CANCEL));
    assert_eq!(client.get("/small", "cookie: s=1").await.body, "xxx");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_or_is_too_large_ends_its_request() {
    let policy = "version = 1\n[limits]\nrequest_body_bytes_max = 8\n";
    let node = TestNode::new(policy, |_| reply("200 OK", "x"));
    let client = Client::of(&node).await;
    let post = || Request::post("http://site.test/").body(()).unwrap();
    let (response, mut body) = client.begin(post(), false).await;
    body.send_data(Bytes::from_static(b"hel"), false).unwrap();
    assert_eq!(
        response.await.unwrap().status(),
        StatusCode::REQUEST_TIMEOUT
    );
    let (response, mut body) = client.begin(post(), false).await;
    body.send_data(Bytes::from_static(b"hello, all"), true)
        .unwrap();
    assert_eq!(
        response.await.unwrap().status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

/// A frame without a byte is no progress.
#[tokio::test(start_paused = true)]
async fn a_body_of_empty_frames_stalls() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let client = Client::of(&node).await;
    let post = Request::post("http://site.test/").body(()).unwrap();
    let (response, mut body) = client.begin(post, false).await;
    body.send_data(Bytes::from_static(b"hel"), false).unwrap();
    let dripping = tokio::spawn(async move {
        while body.send_data(Bytes::new(), false).is_ok() {
            tokio::time::sleep(5 * S).await;
        }
    });
    let limit = 2 * Limits::default().stall_time_max;
    let response = tokio::time::timeout(limit, response).await;
    let status = response.expect("it is given up").unwrap().status();
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    dripping.abort();
}

/// Nor does a form for the node itself that never ends, or that comes an octet at a time, keep a
/// request's place.
#[tokio::test(start_paused = true)]
async fn a_preview_form_that_never_ends_is_given_up() {
    let node = TestNode::new("version = 1\n[limits]\nrequests_max = 3\n", |_| {
        reply(CSS, "body{}")
    });
    let client = Client::of(&node).await;
    let form = || Request::post("http://site.test/.well-known/shikiri-preview").body(());
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(client.begin(form().unwrap(), false).await);
    }
    tokio::time::sleep(MS).await;
    assert_eq!(node.get("/a.css", "").await.status, 503, "three are all");
    for _ in 0..20 {
        tokio::time::sleep(S).await;
        for (_, body) in &mut running {
            // Whether it is still taken does not matter.
            drop(body.send_data("g".into(), false));
        }
    }
    assert_eq!(node.get("/a.css", "").await.status, 200);
    for (answer, _) in running {
        assert_eq!(answer.await.unwrap().status(), 408);
    }
}

#[tokio::test(start_paused = true)]
async fn interim_responses_of_a_pass_are_relayed() {
    let node = TestNode::new("", |_| {
        raw("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nSet-Cookie: a=b\r\n\r\n")
            .then("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    });
    let client = Client::of(&node).await;
    let (mut response, _) = client.begin(get("/", "cookie: s=1"), true).await;
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    let interim = interim.unwrap().unwrap();
    assert_eq!(interim.status(), StatusCode::EARLY_HINTS);
    let names: Vec<&str> = interim
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    assert_eq!(names, ["link"]);
    assert_eq!(whole(response.await.unwrap()).await.body, "hi");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_is_told_to_go_on_when_the_origin_wants_the_body() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let client = Client::of(&node).await;
    let request = Request::post("http://site.test/says-continue")
        .header("expect", "100-continue")
        .header("content-length", "5")
        .body(())
        .unwrap();
    let (mut response, mut body) = client.begin(request, false).await;
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    assert_eq!(interim.unwrap().unwrap().status(), StatusCode::CONTINUE);
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    assert!(node.seen()[0].text.ends_with("hello"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_running_requests_end_and_takes_no_more() {
    let node = TestNode::new("", |_| reply("200 OK", "x").after(5 * S));
    let client = Client::of(&node).await;
    let running = client.begin(get("/", "cookie: s=1"), true).await.0;
    tokio::time::sleep(S).await;
    node.shut_down();
    tokio::time::sleep(S).await;
    assert_eq!(whole(running.await.unwrap()).await.body, "x");
    assert!(client.requests.clone().ready().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_client_resets_asks_no_more_of_the_origin() {
    let node = TestNode::new("", |_| reply("200 OK", "x").after(50 * S));
    let client = Client::of(&node).await;
    let (response, mut stream) = client.begin(get("/", "cookie: s=1"), true).await;
    tokio::time::sleep(S).await;
    assert_eq!(node.node.counts().running, 1);
    stream.send_reset(Reason::CANCEL);
    assert!(response.await.is_err());
    tokio::time::sleep(S).await;
    assert_eq!(node.node.counts().running, 0);
}

#[tokio::test(start_paused = true)]
async fn pages_are_shared_by_the_same_rules() {
    let node = TestNode::new(PAGES, |_| {
        reply("200 OK\r\nContent-Type: text/html", "<p>hi")
    });
    let client = Client::of(&node).await;
    client.get("/news", "cookie: sid=1").await;
    assert_eq!(node.asked(), 2);
    assert_eq!(
        client.get("/news", "").await.cache(),
        "shikiri; hit; ttl=60"
    );
    // HEAD is answered from it, without a body.
    let head = Request::head("http://site.test/news").body(()).unwrap();
    let head = client.ask(head).await;
    assert_eq!(
        (
            head.status,
            head.body.as_str(),
            head.field("content-length")
        ),
        (200, "", Some("5"))
    );
    assert_eq!(node.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_head_request_has_no_body_either() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let client = Client::of(&node).await;
    // The first row that cannot be written cuts its connection; then there is no room for others.
    node.disk.fail_writes_after(Some(0));
    assert!(node.get("/", "").await.cut);
    let mut head = get("/", "");
    *head.method_mut() = Method::HEAD;
    let refused = client.ask(head).await;
    assert_eq!(
        (refused.status, refused.body.as_str(), refused.cut),
        (503, "", false)
    );
}
