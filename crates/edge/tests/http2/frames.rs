//! Raw frames: what no library sends.

use std::time::Duration;

use shikiri_edge::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout};

use super::{CLIENT, S};
use crate::world::{TestNode, reply};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A client that writes frames.
struct Raw {
    wire: DuplexStream,
}

/// One frame that came.
#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Raw {
    /// With the preface and empty settings sent.
    async fn of(node: &TestNode) -> Self {
        let mut wire = node.wire(Transport::plain_http2(CLIENT));
        wire.write_all(PREFACE).await.unwrap();
        wire.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
        Self { wire }
    }

    /// Sends a frame; whether the connection still took it.
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let frame = frame(kind, flags, stream, payload);
        self.wire.write_all(&frame).await.is_ok()
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.wire.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.wire.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// What comes of a request on this stream: the status of its answer, or the code of its reset, or
    /// of the connection's end. Everything is waited for until then.
    async fn outcome(&mut self, stream: u32) -> Outcome {
        let code = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        loop {
            let Ok(frame) = timeout(Duration::from_secs(600), self.next()).await else {
                return Outcome::Nothing;
            };
            match frame {
                None => return Outcome::Ended,
                Some(frame) if frame.kind == GOAWAY && code(&frame.payload[4..8]) != 0 => {
                    return Outcome::GoAway(code(&frame.payload[4..8]));
                }
                Some(frame) if frame.stream == stream && frame.kind == RESET => {
                    return Outcome::Reset(code(&frame.payload));
                }
                Some(frame) if frame.stream == stream && frame.kind == HEADERS => {
                    return Outcome::Answered(frame.payload);
                }
                Some(_) => {}
            }
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Answered(Vec<u8>),
    Reset(u32),
    GoAway(u32),
    Ended,
    Nothing,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields without any compression (RFC 7541 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            // The first seven bits of a length, and one byte more where they do not do.
            match u8::try_from(text.len()).unwrap() {
                length @ 0..127 => bytes.push(length),
                length => bytes.extend([127, length - 127]),
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "site.test"),
    (":path", "/"),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&GET[..], more].concat()
}

const PROTOCOL_ERROR: u32 = 1;
const CALM: u32 = 11;

#[tokio::test(start_paused = true)]
async fn a_malformed_request_is_answered_by_a_reset_and_reaches_nobody() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "site.test"),
        (":path", "/"),
    ];
    let mut cases = vec![
        (
            with(&[("connection", "close")]),
            "a connection-specific field",
        ),
        (
            with(&[("keep-alive", "timeout=1")]),
            "a connection-specific field",
        ),
        (
            with(&[("proxy-connection", "x")]),
            "a connection-specific field",
        ),
        (
            with(&[("transfer-encoding", "chunked")]),
            "a connection-specific field",
        ),
        (
            with(&[("upgrade", "websocket")]),
            "a connection-specific field",
        ),
        (with(&[("te", "gzip")]), "TE other than trailers"),
        (with(&[("X-Upper", "1")]), "an upper-case name"),
        (with(&[("x y", "1")]), "a name that is none"),
        (with(&[("x", "a\r\nb")]), "a line break in a value"),
        (with(&[("x", "a\0b")]), "a zero in a value"),
        (
            with(&[("x", "1"), (":path", "/b")]),
            "a pseudo-field after others",
        ),
        (with(&[(":path", "/b")]), "a pseudo-field twice"),
        (with(&[(":status", "200")]), "a response's pseudo-field"),
        (
            with(&[(":protocol", "websocket")]),
            "extended CONNECT, which is not offered",
        ),
        (
            with(&[(":unknown", "1")]),
            "a pseudo-field that nobody knows",
        ),
        (with(&[("content-length", "5")]), "a length, and no body"),
        (with(&[("content-length", "x")]), "a length that is none"),
        (GET[1..].to_vec(), "no method"),
        (GET[..3].to_vec(), "no path"),
        ([&GET[..1], &GET[2..]].concat(), "no scheme"),
        ([&GET[..3], &[(":path", "")]].concat(), "an empty path"),
        (
            [&GET[..3], &[(":path", "a b")]].concat(),
            "a path with a space",
        ),
        (
            [&GET[..2], &[(":authority", "a b"), (":path", "/")]].concat(),
            "an authority with a space",
        ),
    ];
    for (fields, what) in cases.drain(..) {
        let mut raw = Raw::of(&node).await;
        raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
            .await;
        let outcome = raw.outcome(1).await;
        let refused = matches!(
            outcome,
            Outcome::Reset(PROTOCOL_ERROR) | Outcome::GoAway(PROTOCOL_ERROR)
        );
        // Some heads are whole to the library, and refused behind it.
        let answered = matches!(&outcome, Outcome::Answered(head) if !holds_status(head, b"200"));
        assert!(refused || answered, "{what}: {outcome:?}");
    }
    for (length, sent, what) in [
        ("9", &b"hello"[..], "less than was said"),
        ("3", b"hello", "more"),
    ] {
        let mut raw = Raw::of(&node).await;
        let fields = [&post[..], &[("content-length", length)]].concat();
        raw.send(HEADERS, END_HEADERS, 1, &block(&fields)).await;
        raw.send(DATA, END_STREAM, 1, sent).await;
        let outcome = raw.outcome(1).await;
        assert!(
            matches!(outcome, Outcome::Reset(PROTOCOL_ERROR)),
            "{what}: {outcome:?}"
        );
    }
    // What an origin read of those two broke off before its end.
    let whole = |text: &str| !text.starts_with("POST") || text.ends_with("hello");
    assert!(
        node.seen().iter().all(|seen| !whole(&seen.text)),
        "{:?}",
        node.seen()
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_may_stand_for_the_authority() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let mut raw = Raw::of(&node).await;
    let fields = [&GET[..2], &GET[3..], &[("host", "site.test")]].concat();
    raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))
        .await;
    let outcome = raw.outcome(1).await;
    assert!(
        matches!(&outcome, Outcome::Answered(head) if holds_status(head, b"200")),
        "{outcome:?}"
    );
}

/// Whether a head has a status that HPACK has no number for, or this one (RFC 7541 A: 8 is 200).
fn holds_status(block: &[u8], status: &[u8]) -> bool {
    block.first() == Some(&0x88) || block.windows(3).any(|window| window == status)
}

#[tokio::test(start_paused = true)]
async fn a_flood_ends_the_connection() {
    for (kind, stream, payload) in [
        (PING, 0, &[0; 8][..]),
        (SETTINGS, 0, b""),
        (PRIORITY, 1, &[0, 0, 0, 3, 1]),
        (0x2a, 0, b"x"),
        (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
    ] {
        let node = TestNode::new("", |_| reply("200 OK", "x"));
        let mut raw = Raw::of(&node).await;
        let (mut reader, mut writer) = tokio::io::split(raw.wire);
        let draining = tokio::spawn(async move {
            let mut scrap = [0; 4096];
            while reader.read(&mut scrap).await.is_ok_and(|n| n > 0) {}
        });
        let flood = frame(kind, 0, stream, payload);
        let mut sent = 0;
        while sent < 20_000 && writer.write_all(&flood).await.is_ok() {
            sent += 1;
        }
        assert!(sent < 20_000, "frames of type {kind} went on for ever");
        draining.await.unwrap();
        raw = Raw::of(&node).await;
        raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&GET))
            .await;
        assert!(matches!(raw.outcome(1).await, Outcome::Answered(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_end_the_connection() {
    let node = TestNode::new("", |_| reply("200 OK", "x").after(S));
    let mut raw = Raw::of(&node).await;
    let mut stream = 1;
    while stream < 20_000 {
        let sent = raw
            .send(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET))
            .await
            && raw.send(RESET, 0, stream, &8_u32.to_be_bytes()).await;
        if !sent {
            break;
        }
        stream += 2;
    }
    assert!(stream < 2_500, "{stream}");
    let mut last = None;
    while let Some(frame) = raw.next().await {
        last = Some(frame);
    }
    let last = last.expect("settings, at least");
    if last.kind == GOAWAY {
        assert_eq!(last.payload[4..8], CALM.to_be_bytes());
    }
    assert!(node.asked() < 1_000, "{}", node.asked());
}

#[tokio::test(start_paused = true)]
async fn header_bombs_are_refused() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    // One field, stored once and named a thousand times.
    let mut raw = Raw::of(&node).await;
    let mut bomb = block(&GET);
    let long = "x".repeat(200);
    let mut field = block(&[("x-bomb", &long)]);
    // With indexing (RFC 7541 6.2.1); then its number in the dynamic table.
    field[0] = 0x40;
    bomb.extend(field);
    bomb.extend(std::iter::repeat_n(0xbe_u8, 1_000));
    raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &bomb).await;
    let outcome = raw.outcome(1).await;
    assert!(
        !matches!(&outcome, Outcome::Answered(head) if holds_status(head, b"200")),
        "{outcome:?}"
    );
    // A block that never ends.
    let mut raw = Raw::of(&node).await;
    raw.send(HEADERS, END_STREAM, 1, &block(&GET)).await;
    let long = "y".repeat(200);
    let more = block(&[("x-more", long.as_str()); 60]);
    let mut sent = 0;
    while sent < 10_000 && raw.send(CONTINUATION, 0, 1, &more).await {
        sent += 1;
    }
    assert!(sent < 200, "{sent}");
    assert_eq!(node.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_preface_or_head_ends_the_connection() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let limit = node.node.stance().rules.limits().head_time_max;
    for begins in [
        PREFACE[..10].to_vec(),
        [
            PREFACE,
            &frame(SETTINGS, 0, 0, b""),
            &frame(HEADERS, 0, 1, &block(&GET)),
        ]
        .concat(),
        [
            PREFACE,
            &frame(SETTINGS, 0, 0, b""),
            &frame(HEADERS, 4, 1, &block(&GET))[..12],
        ]
        .concat(),
    ] {
        let mut wire = node.wire(Transport::plain_http2(CLIENT));
        let began = Instant::now();
        wire.write_all(&begins).await.unwrap();
        let mut scrap = Vec::new();
        drop(wire.read_to_end(&mut scrap).await);
        let took = began.elapsed();
        assert!(took >= limit && took < limit + 3 * S, "{took:?}");
    }
    assert_eq!(node.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_told_to_go() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let mut raw = Raw::of(&node).await;
    let began = Instant::now();
    let mut said = false;
    while let Some(frame) = raw.next().await {
        said |= frame.kind == GOAWAY;
    }
    let limit = node.node.stance().rules.limits().idle_time_max;
    assert!(said);
    assert!(began.elapsed() >= limit && began.elapsed() < limit + 5 * S);
}
