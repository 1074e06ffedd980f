//! Switching protocols: what passes, when, and for how long. The origin of this world answers what looks
//! like a head, in a tunnel too: `ping` and an empty line.

use std::net::SocketAddr;

use shikiri_edge::Transport;
use shikiri_record::{Ended, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use crate::evidence::last;
use crate::world::{Client, Reply, TestNode, get, raw, reply, rules_of, said};
use crate::{MS, S};

const POLICY: &str = "version = 1\n[[origin]]\nhosts = [\"*\"]\nurl = \"http://origin.test:8000\"\n\
    upgrade = [\"websocket\"]\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\
    Origin: http://elsewhere.test\r\nCookie: sid=alice\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Accept: a\r\nX-Hop: 1\r\n\r\n";

/// An origin that switches after a second, and then echoes.
fn echo(asked: &str) -> Reply {
    if asked.starts_with("GET ") {
        raw(SWITCHED).after(S)
    } else {
        raw(&format!("echo {asked}"))
    }
}

fn node(answers: impl Fn(&str) -> Reply + Send + Sync + 'static) -> TestNode {
    TestNode::with(rules_of(POLICY), answers)
}

/// A client whose tunnel is open.
async fn opened(node: &TestNode) -> Client {
    let mut client = node.client();
    client.send(&get("/ws", UPGRADE)).await;
    assert!(client.interim().await.starts_with("HTTP/1.1 101 "));
    client
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_after_the_101() {
    let node = node(echo);
    let mut client = node.client();
    client.send(&get("/ws", UPGRADE)).await;
    let head = client.interim().await.to_ascii_lowercase();
    for line in [
        "http/1.1 101 ",
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-accept: a\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    for n in 0..3 {
        client.send(&format!("ping {n}\r\n\r\n")).await;
        assert_eq!(client.interim().await, format!("echo ping {n}\r\n\r\n"));
    }
    let asked = node.seen()[0].text.to_ascii_lowercase();
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-key: k\r\n",
        "origin: http://elsewhere.test\r\n",
        "cookie: sid=alice\r\n",
    ] {
        assert!(asked.contains(line), "{line} in {asked}");
    }
    assert_eq!(
        (node.node.counts().running, node.node.tunnels_open()),
        (1, 1)
    );
    drop(client);
    tokio::time::sleep(S).await;
    assert_eq!(
        (node.node.counts().running, node.node.tunnels_open()),
        (0, 0)
    );
    let bytes = "echo ping 0\r\n\r\n".len() * 3;
    let ended = Some((Ended::Complete, u64::try_from(bytes).unwrap()));
    assert_eq!(
        last(&node),
        ("tunnel switches-protocol personal GET 101".into(), ended)
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_of_the_client_goes_on_before_the_101() {
    let node = node(echo);
    let mut client = node.client();
    client
        .send(&format!("{}early\r\n\r\n", get("/ws", UPGRADE)))
        .await;
    client.send("more\r\n\r\n").await;
    tokio::time::sleep(500 * MS).await;
    let seen: Vec<String> = node.seen().into_iter().map(|seen| seen.text).collect();
    assert!(
        seen.len() == 1 && seen[0].ends_with("\r\n\r\n") && !seen[0].contains("early"),
        "{seen:?}"
    );
    assert!(client.interim().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.interim().await, "echo early\r\n\r\n");
    assert_eq!(client.interim().await, "echo more\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn another_answer_is_an_answer_and_what_follows_is_a_request() {
    let node = node(|asked| {
        if asked.starts_with("GET /ws") {
            reply("403 Forbidden", "no").after(S)
        } else {
            reply("200 OK", "a page")
        }
    });
    let mut client = node.client();
    client
        .send(&format!("{}{}", get("/ws", UPGRADE), get("/next", "")))
        .await;
    let refused = client.answer().await;
    assert_eq!((refused.status, refused.body.as_str()), (403, "no"));
    assert_eq!(
        refused.field("cache-status"),
        Some("shikiri; fwd=bypass; fwd-status=403; detail=switches-protocol")
    );
    assert_eq!(client.answer().await.body, "a page");
    client.send(&get("/third", "")).await;
    assert_eq!(client.answer().await.body, "a page");
    // Not a head: refused as anywhere.
    client
        .send(&format!("{}\0\0\r\n\r\n", get("/ws", UPGRADE)))
        .await;
    assert_eq!(client.answer().await.status, 403);
    assert_eq!(client.answer().await.status, 400);
    let connections: Vec<u64> = node.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(
        connections,
        [0, 1, 2, 3],
        "none that was asked to switch is used again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_policy_does_not_list_is_no_request_to_switch() {
    let node = TestNode::new("", |_| reply("200 OK", "a page"));
    let mut client = node.client();
    client
        .send(&format!("{}{}", get("/ws", UPGRADE), get("/next", "")))
        .await;
    for _ in 0..2 {
        assert_eq!(client.answer().await.body, "a page");
    }
    let asked = node.seen()[0].text.to_ascii_lowercase();
    assert!(!asked.contains("upgrade"), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_switches_to_something_else_has_failed() {
    for switched in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let node = node(move |_| raw(switched));
        let answer = node.get("/ws", UPGRADE).await;
        assert_eq!(answer.status, 502, "{switched}");
        assert!(answer.body.contains("origin-upgraded"), "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_in_which_nothing_comes_is_cut() {
    let node = node(echo);
    let mut client = opened(&node).await;
    let limit = node.node.stance().rules.limits().tunnel_idle_time_max;
    tokio::time::sleep(limit - S).await;
    client.send("ping\r\n\r\n").await;
    assert_eq!(client.interim().await, "echo ping\r\n\r\n");
    let began = Instant::now();
    assert_eq!(client.rest_within(2 * limit).await, "");
    assert!(
        began.elapsed() >= limit && began.elapsed() < limit + S,
        "{:?}",
        began.elapsed()
    );
    assert!(
        matches!(last(&node).1, Some((Ended::Cut, _))),
        "{:?}",
        last(&node)
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_origin_says_last_arrives_before_the_end() {
    let node = node(|asked| {
        if asked.starts_with("GET") {
            raw(SWITCHED)
        } else {
            raw("bye\r\n\r\n").closing()
        }
    });
    let mut client = opened(&node).await;
    client.send("ping\r\n\r\n").await;
    assert_eq!(client.interim().await, "bye\r\n\r\n");
    client.half_close().await;
    assert_eq!(client.rest_within(10 * S).await, "");
    tokio::time::sleep(MS).await;
    assert!(
        matches!(last(&node).1, Some((Ended::Complete, 7))),
        "{:?}",
        last(&node)
    );
}

#[tokio::test(start_paused = true)]
async fn tunnels_at_once_are_bounded() {
    let policy = format!("{POLICY}[limits]\ntunnels_max = 1\n");
    let node = TestNode::with(rules_of(&policy), echo);
    let first = opened(&node).await;
    assert_eq!(node.get("/ws", UPGRADE).await.status, 503);
    assert_eq!(node.asked(), 1);
    drop(first);
    tokio::time::sleep(S).await;
    drop(opened(&node).await);
}

/// What is answered first to an upgrade from this address, and the connection that it came on.
async fn asked_from(node: &TestNode, client: &str) -> (DuplexStream, String) {
    let client = SocketAddr::new(client.parse().unwrap(), 1);
    let mut wire = node.wire(Transport::plain(client));
    wire.write_all(get("/ws", UPGRADE).as_bytes())
        .await
        .unwrap();
    let mut first = [0; 12];
    wire.read_exact(&mut first).await.unwrap();
    (wire, String::from_utf8_lossy(&first).into_owned())
}

#[tokio::test(start_paused = true)]
async fn no_address_has_more_than_its_share_of_tunnels() {
    let policy = format!("{POLICY}[limits]\ntunnels_per_address_max = 1\n");
    let node = TestNode::with(rules_of(&policy), echo);
    let mut open = Vec::new();
    for (client, expected) in [
        ("203.0.113.5", "HTTP/1.1 101"),
        ("203.0.113.5", "HTTP/1.1 503"),
        ("203.0.113.6", "HTTP/1.1 101"),
        // A trusted hop brings others.
        ("192.0.2.1", "HTTP/1.1 101"),
        ("192.0.2.1", "HTTP/1.1 101"),
    ] {
        let (wire, answered) = asked_from(&node, client).await;
        assert_eq!(answered, expected, "{client}");
        open.push(wire);
    }
    drop(open);
    tokio::time::sleep(S).await;
    assert_eq!(asked_from(&node, "203.0.113.5").await.1, "HTTP/1.1 101");
}

#[tokio::test(start_paused = true)]
async fn closing_cuts_it() {
    let node = node(echo);
    let mut client = opened(&node).await;
    client.send("ping\r\n\r\n").await;
    assert_eq!(client.interim().await, "echo ping\r\n\r\n");
    let began = Instant::now();
    node.node.take_mode(Mode::Closed, None, &said()).unwrap();
    assert_eq!(client.rest_within(10 * S).await, "");
    assert!(began.elapsed() < S);
    assert!(
        matches!(last(&node).1, Some((Ended::Cut, _))),
        "{:?}",
        last(&node)
    );
    assert_eq!(node.get("/ws", UPGRADE).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_for_even_where_a_class_would_answer() {
    let policy = format!(
        "{POLICY}[[class]]\nname = \"pages\"\nmatch = {{ paths = [\"/**\"] }}\nto = \"everyone\"\n"
    );
    let node = TestNode::with(rules_of(&policy), echo);
    drop(opened(&node).await);
}
