//! The PROXY protocol before TLS, before HTTP, and before nobody's word; and what comes too slowly.

use std::net::SocketAddr;

use shikiri_edge::listen::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::world::{CLIENT, TestNode};
use crate::{STRANGER, Site, ask, connect, met, reply};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const HEADER: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 443\r\n";

fn plain() -> (TestNode, Listener) {
    let listener = Listener {
        proxy_protocol: true,
        http2: true,
        ..Listener::plain(CLIENT)
    };
    (TestNode::new("", |_| reply("200 OK", "hello")), listener)
}

/// What is answered to these pieces from this peer; nothing when the connection is closed on.
async fn answer(
    node: &TestNode,
    listener: &Listener,
    peer: SocketAddr,
    pieces: &[&[u8]],
) -> String {
    let mut wire = met(node, peer, listener);
    for piece in pieces {
        if wire.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    drop(wire.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_trusted_balancer_says_who_the_client_is() {
    let (node, listener) = plain();
    let binary = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[198, 51, 100, 7, 192, 0, 2, 1, 15, 160, 1, 187],
    ]
    .concat();
    let whole = [HEADER, GET].concat();
    for pieces in [
        vec![HEADER, GET],
        vec![&whole],
        vec![&whole[..3], &whole[3..20], &whole[20..]],
        vec![&binary, GET],
        vec![&binary[..13], &binary[13..], GET],
    ] {
        let got = answer(&node, &listener, CLIENT, &pieces).await;
        assert!(got.ends_with("hello"), "{got}");
        let text = node.seen().last().unwrap().text.clone();
        assert!(text.contains("x-forwarded-for: 198.51.100.7\r\n"), "{text}");
        assert!(text.contains("x-real-ip: 198.51.100.7\r\n"), "{text}");
    }
    // Its own connections keep its address.
    let got = answer(&node, &listener, CLIENT, &[b"PROXY UNKNOWN\r\n", GET]).await;
    assert!(got.ends_with("hello"), "{got}");
    let text = node.seen().last().unwrap().text.clone();
    assert!(text.contains("x-forwarded-for: 192.0.2.1\r\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn nobody_else_does_and_nothing_is_served_without_it() {
    let (node, listener) = plain();
    for (peer, pieces) in [
        (STRANGER, vec![HEADER, GET]),
        (CLIENT, vec![GET]),
        (CLIENT, vec![b"PROXY TCP4 nonsense\r\n", GET]),
        (CLIENT, vec![&[b'\r'; 300], GET]),
    ] {
        let got = answer(&node, &listener, peer, &pieces).await;
        assert_eq!(got, "", "{peer} {pieces:?}");
    }
    assert_eq!(node.asked(), 0);
    // And where it is not spoken, it is no request.
    let listener = Listener::plain(CLIENT);
    let got = answer(&node, &listener, CLIENT, &[HEADER, GET]).await;
    assert!(got.starts_with("HTTP/1.1 400"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn it_comes_before_tls() {
    let mut site = Site::new(&["a.test"]);
    site.listener.proxy_protocol = true;
    let mut wire = met(&site.node, CLIENT, &site.listener);
    wire.write_all(HEADER).await.unwrap();
    let mut stream = connect(wire, &site.client("http/1.1"), "a.test")
        .await
        .unwrap();
    assert!(ask(&mut stream, "a.test").await.unwrap().ends_with("hello"));
    let text = site.node.seen()[0].text.clone();
    assert!(text.contains("x-forwarded-for: 198.51.100.7\r\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn who_begins_slowly_is_closed_on() {
    let site = Site::new(&["a.test"]);
    let (node, listener) = plain();
    let limit = site.node.node.stance().rules.limits().handshake_time_max;
    for (node, listener, begins) in [
        (&node, &listener, &b"PROXY TCP4 198.51"[..]),
        (&site.node, &site.listener, b"\x16\x03\x01\x02\x00\x01"),
        (&site.node, &site.listener, b""),
    ] {
        let began = Instant::now();
        assert_eq!(answer(node, listener, CLIENT, &[begins]).await, "");
        assert!(began.elapsed() >= limit && began.elapsed() < 2 * limit);
    }
}

#[tokio::test(start_paused = true)]
async fn no_address_has_more_than_its_share() {
    let text = "version = 1\n[limits]\nconnections_per_address_max = 2\n";
    let (node, proxied) = plain();
    node.reload(crate::world::rules(text));
    let direct = Listener::plain(CLIENT);
    let other = SocketAddr::from(([203, 0, 113, 6], 1));
    let of_seven = [HEADER, GET].concat();
    let of_eight = String::from_utf8(of_seven.clone())
        .unwrap()
        .replace(".7 ", ".8 ");
    let mut stuck: Vec<_> = (0..2).map(|_| met(&node, STRANGER, &direct)).collect();
    stuck.extend((0..3).map(|_| met(&node, CLIENT, &direct)));
    for _ in 0..2 {
        let mut wire = met(&node, CLIENT, &proxied);
        wire.write_all(HEADER).await.unwrap();
        stuck.push(wire);
    }
    tokio::task::yield_now().await;
    for (what, listener, peer, said, is_met) in [
        ("a third", &direct, STRANGER, GET, false),
        ("another's", &direct, other, GET, true),
        ("a trusted hop's", &direct, CLIENT, GET, true),
        (
            "a third by way of a balancer",
            &proxied,
            CLIENT,
            &*of_seven,
            false,
        ),
        (
            "another's by that way",
            &proxied,
            CLIENT,
            of_eight.as_bytes(),
            true,
        ),
    ] {
        let got = answer(&node, listener, peer, &[said]).await;
        assert_eq!(got.ends_with("hello"), is_met, "{what}: {got}");
    }
    drop(stuck);
    tokio::task::yield_now().await;
    let got = answer(&node, &direct, STRANGER, &[GET]).await;
    assert!(got.ends_with("hello"), "{got}");
}

/// What a client says first.
fn hello(client: &rustls::ClientConfig, name: &'static str) -> Vec<u8> {
    let name = name.try_into().unwrap();
    let mut client = rustls::ClientConnection::new(client.clone().into(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test(start_paused = true)]
async fn handshakes_at_once_are_bounded() {
    let site = Site::new(&["a.test"]);
    let text = "version = 1\n[limits]\nhandshakes_max = 2\n";
    site.node.reload(crate::world::rules(text));
    let client = site.client("http/1.1");
    // Who says nothing, or not all of the first word, keeps nobody out.
    let hello = hello(&client, "a.test");
    let mut stuck: Vec<_> = (0..4).map(|_| site.wire()).collect();
    for wire in &mut stuck[..2] {
        wire.write_all(&hello[..hello.len() - 1]).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert!(site.get(&client, "a.test", "a.test").await.is_ok());
    for wire in &mut stuck[..2] {
        wire.write_all(&hello[hello.len() - 1..]).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert!(site.get(&client, "a.test", "a.test").await.is_err());
    drop(stuck);
    tokio::task::yield_now().await;
    assert!(site.get(&client, "a.test", "a.test").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_address_has_more_than_its_share_of_handshakes() {
    let site = Site::new(&["a.test"]);
    let text = "version = 1\n[limits]\nhandshakes_per_address_max = 2\n";
    site.node.reload(crate::world::rules(text));
    let client = site.client("http/1.1");
    let hello = hello(&client, "a.test");
    // Three of a trusted hop's, and two of a stranger's, who then says no more.
    let from = [CLIENT, CLIENT, CLIENT, STRANGER, STRANGER];
    let mut stuck: Vec<_> = from
        .map(|peer| met(&site.node, peer, &site.listener))
        .into();
    for wire in &mut stuck {
        wire.write_all(&hello).await.unwrap();
    }
    tokio::task::yield_now().await;
    let other = SocketAddr::from(([203, 0, 113, 6], 1));
    for (what, peer, is_met) in [
        ("a third of the stranger's", STRANGER, false),
        ("another's", other, true),
        ("a trusted hop's", CLIENT, true),
    ] {
        let wire = met(&site.node, peer, &site.listener);
        let met = connect(wire, &client, "a.test").await;
        assert_eq!(met.is_ok(), is_met, "{what}");
    }
    drop(stuck);
    tokio::task::yield_now().await;
    let wire = met(&site.node, STRANGER, &site.listener);
    assert!(connect(wire, &client, "a.test").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn cleartext_http_2_begins_with_its_preface_or_is_http_1() {
    let node = TestNode::new("", |_| reply("200 OK", "hello"));
    let listener = Listener {
        http2: true,
        ..Listener::plain(CLIENT)
    };
    let wire = met(&node, CLIENT, &listener);
    let (mut requests, connection) = h2::client::handshake(wire).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::get("http://a.test/").body(()).unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    let got = answer(&node, &listener, CLIENT, &[&GET[..1], &GET[1..]]).await;
    assert!(got.ends_with("hello"), "{got}");
    let got = answer(
        &node,
        &listener,
        CLIENT,
        &[b"PRI * HTTP/1.1\r\n", b"Host: a.test\r\n\r\n"],
    )
    .await;
    assert!(got.starts_with("HTTP/1.1 "), "{got}");
    // Where it was not asked for, the preface is what HTTP/1 takes it for.
    let got = answer(
        &node,
        &Listener::plain(CLIENT),
        CLIENT,
        &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    )
    .await;
    assert!(got.starts_with("HTTP/1.1 505"), "{got}");
}
