//! What evidence says of what clients saw, on a disk that can be full or fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use shikiri_edge::{OnFull, Transport};
use shikiri_evidence::{Item, Reader};
use shikiri_record::{
    AddressTag, Begin, CookieTag, Ended, FillId, Gap, Link, LinkEvent, MemberTag, Mode, Outcome,
    Row, StanceRow, TagKey, TargetTag, ViewerTag,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{CLIENT, TestNode, get, raw, reply, rules};
use crate::{CSS, MS, S};

/// The key of evidence in memory.
fn key() -> TagKey {
    TagKey::new([0; 32])
}

/// What one lane says.
#[derive(Debug, Default)]
struct Said {
    /// Each response: its begin row, with the stance that it points to, and how it ended with how many
    /// bytes.
    responses: Vec<Response>,
    links: Vec<Link>,
    gaps: Vec<Gap>,
}

#[derive(Debug)]
struct Response {
    begin: Begin<'static>,
    /// What the row says in words.
    words: String,
    stance: StanceRow,
    end: Option<(Ended, u64)>,
}

fn said(node: &TestNode) -> Said {
    // As the thread does that looks after the evidence: end rows are written then.
    let nobody: shikiri_edge::evidence::Told = Box::new(|_| {});
    node.node.tend_evidence(&nobody);
    let disk = &node.disk;
    let mut reader = Reader::open(Arc::new(disk.clone()), Path::new("/evidence/lane-0")).unwrap();
    let (mut said, mut stance, mut places) = (Said::default(), None, BTreeMap::new());
    while let Some(item) = reader.next_item().unwrap() {
        let row = match item {
            Item::Row(row) => row,
            Item::Segment(..) => continue,
            Item::Fault(fault) => panic!("{fault}"),
        };
        match Row::decode(&row.body).unwrap() {
            Row::Stance(row) => stance = Some(row),
            Row::Begin(begin) => {
                let fill = if begin.fill.is_some() { " fill" } else { "" };
                let words = format!(
                    "{} {} {} {} {}{fill}",
                    begin.outcome.name(),
                    begin.reason,
                    begin.class,
                    begin.method,
                    begin.status
                );
                places.insert(row.sequence, said.responses.len());
                said.responses.push(Response {
                    begin: Begin {
                        reason: "",
                        method: "",
                        class: "",
                        page: None,
                        ..begin
                    },
                    words,
                    stance: stance.expect("a segment begins with a stance"),
                    end: None,
                });
            }
            Row::End(end) => {
                let response = &mut said.responses[places[&end.begin]];
                assert_eq!(response.end, None, "a response ends once");
                response.end = Some((end.ended, end.bytes));
            }
            Row::Gap(gap) => said.gaps.push(gap),
            Row::Link(link) => said.links.push(link),
        }
    }
    said
}

/// The fill that each response was of.
pub(crate) fn fills(node: &TestNode) -> Vec<Option<FillId>> {
    let responses = said(node).responses.into_iter();
    responses.map(|response| response.begin.fill).collect()
}

/// What each response was of, and the member whom it was shown to, as far as that is known.
pub(crate) fn targets(node: &TestNode) -> Vec<(TargetTag, Option<MemberTag>)> {
    let responses = said(node).responses.into_iter();
    let of = |response: Response| (response.begin.target, response.begin.viewer_member);
    responses.map(of).collect()
}

/// The last response, in words, and how it ended.
pub(crate) fn last(node: &TestNode) -> (String, Option<(Ended, u64)>) {
    let said = said(node);
    let last = said.responses.last().expect("a response was shown");
    (last.words.clone(), last.end)
}

/// Every request is exactly one of: a row, a gap, our own words, given up.
fn balanced(node: &TestNode) {
    let c = node.node.counts();
    assert_eq!(c.running, 0, "{c:?}");
    assert_eq!(c.requests, c.rows + c.gaps + c.own + c.abandoned, "{c:?}");
    assert_eq!(c.rows, c.ends, "{c:?}");
    let said = said(node);
    let is_final = |r: &&Response| r.begin.status >= 200 || r.begin.outcome == Outcome::Tunnel;
    let finals = said.responses.iter().filter(is_final);
    assert_eq!(
        u64::try_from(finals.count()).unwrap(),
        c.rows,
        "the rows on the disk are those that were counted"
    );
}

#[tokio::test(start_paused = true)]
async fn each_way_of_being_answered_has_its_row() {
    let node = TestNode::new("", |asked| {
        if asked.starts_with("GET /gone.css") {
            reply("404 Not Found\r\nContent-Type: text/css", "no")
        } else if asked.starts_with("GET /cookie.css") {
            reply(&format!("{CSS}\r\nSet-Cookie: sid=secret; Path=/"), "x{}")
        } else if asked.contains("if-none-match") {
            raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\n")
        } else if asked.starts_with("GET /long.css") {
            reply(CSS, "x{}").after(2 * S)
        } else if asked.contains(".css") {
            reply(CSS, "body{}")
        } else {
            reply("200 OK\r\nContent-Type: text/html", "hello")
        }
    });
    let all = |bytes| Some((Ended::Complete, bytes));
    node.get("/a.css", "").await;
    assert_eq!(last(&node), ("fill  assets GET 200 fill".into(), all(6)));
    node.get("/a.css", "Cookie: sid=1\r\n").await;
    assert_eq!(last(&node), ("hit  assets GET 200 fill".into(), all(6)));
    node.get("/a.css", "If-None-Match: \"1\"\r\n").await;
    assert_eq!(last(&node), ("hit  assets GET 304 fill".into(), all(0)));
    node.get("/a.css", "Range: bytes=1-2\r\n").await;
    assert_eq!(last(&node), ("hit  assets GET 206 fill".into(), all(2)));
    let mut client = node.client();
    client
        .send("HEAD /a.css HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
        .await;
    client.rest().await;
    assert_eq!(last(&node), ("hit  assets HEAD 200 fill".into(), all(0)));
    tokio::time::sleep(61 * S).await;
    node.get("/a.css", "").await;
    assert_eq!(
        last(&node),
        (
            "stale while-revalidating assets GET 200 fill".into(),
            all(6)
        )
    );
    tokio::time::sleep(10_000 * S).await;
    node.get("/a.css", "").await;
    assert_eq!(
        last(&node),
        ("fill confirmed assets GET 200 fill".into(), all(6))
    );
    node.get("/gone.css", "").await;
    assert_eq!(
        last(&node),
        ("relay status assets GET 404 fill".into(), all(2))
    );
    node.get("/cookie.css", "Cookie: sid=1\r\n").await;
    assert_eq!(
        last(&node),
        ("pass sets-cookie assets GET 200".into(), all(3))
    );
    node.get("/account", "Cookie: sid=1\r\n").await;
    assert_eq!(
        last(&node),
        ("pass no-class personal GET 200".into(), all(5))
    );
    let (one, other) = tokio::join!(node.get("/long.css", ""), async {
        tokio::time::sleep(MS).await;
        node.get("/long.css", "").await
    });
    assert_eq!((one.status, other.status), (200, 200));
    let said = said(&node);
    let mut words: Vec<&str> = said.responses[10..].iter().map(|r| &*r.words).collect();
    words.sort_unstable();
    assert_eq!(
        words,
        [
            "collapsed  assets GET 200 fill",
            "fill  assets GET 200 fill"
        ]
    );
    assert_eq!(
        said.responses[10].begin.fill, said.responses[11].begin.fill,
        "both saw the same fill"
    );
    // Refusals are counted and have no row.
    for lines in ["Host: other.test\r\n", "Cache-Control: only-if-cached\r\n"] {
        node.get("/new.css", lines).await;
    }
    assert_eq!(node.node.counts().own, 2);
    balanced(&node);
}

#[tokio::test(start_paused = true)]
async fn a_row_tells_whose_whom_and_what_by_tags_alone() {
    let node = TestNode::new("", |_| {
        reply(
            "200 OK\r\nContent-Type: text/html\r\nSet-Cookie: sid=issued-secret; Path=/\r\nSet-Cookie: b=2",
            "hello secret-body",
        )
    });
    node.get(
        "/secret-path?q=secret-query",
        "Cookie: sid=secret-cookie\r\n",
    )
    .await;
    node.get("/secret-path", "").await;
    let said = said(&node);
    let (one, two) = (&said.responses[0], &said.responses[1]);
    let target = [
        &b"http"[..],
        b"site.test",
        b"/secret-path",
        b"q=secret-query",
    ];
    assert_eq!(one.begin.target, TargetTag::of(&key(), &target));
    assert_eq!(two.begin.target, TargetTag::of(&key(), &target[..3]));
    assert_eq!(
        one.begin.address,
        AddressTag::of(&key(), &[&[192, 0, 2, 1]])
    );
    assert!(one.begin.viewer.is_some() && two.begin.viewer.is_none());
    assert_eq!((one.begin.cookies_set, one.begin.cookies.len()), (2, 2));
    assert_eq!(
        one.begin.cookies[0],
        CookieTag::of(&key(), &[b"sid", b"issued-secret"])
    );
    assert_eq!(one.stance.mode, Mode::Open);
    assert_eq!(one.stance.rules, node.node.stance().rules.digest());
    assert_eq!(one.stance.tag_key, key().id());
    node.purge_all();
    let epoch = node.node.stance().epoch;
    node.get("/", "").await;
    let said = self::said(&node);
    assert_eq!(said.responses[2].stance.epoch, epoch);
    assert_ne!(said.responses[1].stance.epoch, epoch);
    for path in node.disk.paths() {
        node.disk.tamper(&path, |bytes| {
            for secret in [&b"secret"[..], b"site.test", b"192.0.2"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret);
                assert!(!found, "{} in {path:?}", String::from_utf8_lossy(secret));
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_tells_whom_the_origin_named_and_a_login_links_them() {
    const SESSIONS: &str = "version = 1\n[session]\ncookies = [\"sid\"]\n";
    let node = TestNode::new(SESSIONS, |asked| {
        let lines = match asked.split(' ').nth(1).unwrap_or_default() {
            "/login" => {
                "Shikiri-Viewer: alice\r\nShikiri-Session: start\r\nSet-Cookie: sid=1-0123456789ab"
            }
            "/logout" => "Shikiri-Viewer: alice\r\nShikiri-Session: end",
            "/mixed" => "Shikiri-Viewer: bob",
            _ => "Shikiri-Viewer: alice\r\nShikiri-Owner: bob; as=staff\r\nShikiri-Page: orders",
        };
        reply(
            &format!("200 OK\r\nContent-Type: text/html\r\n{lines}"),
            "x",
        )
    });
    let cookie = "Cookie: sid=1-0123456789ab\r\n";
    node.get("/login", "").await;
    for path in ["/orders", "/mixed", "/logout"] {
        node.get(path, cookie).await;
    }
    let said = said(&node);
    let [login, orders, mixed, _] = &said.responses[..] else {
        panic!("four responses")
    };
    let member = |id: &str| Some(MemberTag::of(&key(), &[id.as_bytes()]));
    assert_eq!(login.begin.viewer_member, member("alice"));
    assert_eq!(orders.begin.viewer_member, member("alice"));
    assert_eq!(orders.begin.owner, member("bob"));
    assert_eq!(mixed.begin.viewer_member, member("bob"));
    assert_eq!(mixed.words, "pass wrong-viewer personal GET 200");
    let viewer = orders.begin.viewer.expect("it has a cookie");
    let [started, ended] = &said.links[..] else {
        panic!("two links")
    };
    assert_eq!(
        (started.event, started.viewer, started.member),
        (LinkEvent::Started, viewer, member("alice"))
    );
    assert_eq!((ended.event, ended.viewer), (LinkEvent::Ended, viewer));
    assert!(started.begin.is_some());
}

/// No link row is written anew under the next key, since one that the evidence could make would need the member's
/// id, and one that ties the tags of two periods would outlive the key that is destroyed. Rows that name the member
/// are found all the same.
#[tokio::test(start_paused = true)]
async fn a_session_over_a_change_of_keys_is_its_members_where_the_origin_names_them_and_nothing_ties_its_tags()
 {
    const SESSIONS: &str = "version = 1\n[session]\ncookies = [\"sid\"]\n";
    let node = TestNode::new(SESSIONS, |asked| {
        let lines = match asked.split(' ').nth(1).unwrap_or_default() {
            "/login" => {
                "Shikiri-Viewer: alice\r\nShikiri-Session: start\r\nSet-Cookie: sid=1-0123456789ab"
            }
            "/named" => "Shikiri-Viewer: alice",
            _ => "Cache-Control: private",
        };
        reply(
            &format!("200 OK\r\nContent-Type: text/html\r\n{lines}"),
            "x",
        )
    });
    let cookie = "Cookie: sid=1-0123456789ab\r\n";
    node.get("/login", "").await;
    node.get("/silent", cookie).await;
    let next = TagKey::new([1; 32]);
    node.node.take_tag_key(next.clone());
    node.get("/silent", cookie).await;
    node.get("/named", cookie).await;
    let said = said(&node);
    let [_, before, silent, named] = &said.responses[..] else {
        panic!("four responses")
    };
    let [link] = &said.links[..] else {
        panic!("one link: {:?}", said.links)
    };
    let alice = |key: &TagKey| Some(MemberTag::of(key, &[b"alice"]));
    // Before: the link row says whose it was.
    assert_eq!(before.begin.viewer, Some(link.viewer));
    assert_eq!(link.member, alice(&key()));
    // After: the tags of the credentials alone, under the next key; and the member's where it was named.
    let viewer = ViewerTag::of(&next, &[b"cookie", b"sid", b"1-0123456789ab"]);
    for (response, member) in [(silent, None), (named, alice(&next))] {
        assert_eq!(response.stance.tag_key, next.id());
        assert_eq!(response.begin.viewer, Some(viewer));
        assert_eq!(response.begin.viewer_member, member);
    }
    assert_ne!(viewer, link.viewer);
}

#[tokio::test(start_paused = true)]
async fn how_it_ended_is_told_from_how_much_was_handed_over() {
    // The origin breaks off.
    let node = TestNode::new("", |_| {
        raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789").closing()
    });
    assert!(node.get("/a", "").await.cut);
    assert_eq!(last(&node).1, Some((Ended::Broken, 10)));
    balanced(&node);
    // The client does.
    let node = TestNode::new("", |_| {
        raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
    });
    let mut wire = node.wire(Transport::plain(CLIENT));
    wire.write_all(get("/a", "").as_bytes()).await.unwrap();
    assert!(wire.read(&mut [0; 1000]).await.unwrap() > 0);
    assert_eq!(last(&node).1, None, "it goes on");
    drop(wire);
    tokio::time::sleep(S).await;
    assert_eq!(last(&node).1, Some((Ended::Aborted, 10)));
    balanced(&node);
    // The client goes before there is an answer.
    let node = TestNode::new("", |_| reply("200 OK", "late").after(5 * S));
    let mut wire = node.wire(Transport::plain(CLIENT));
    wire.write_all(get("/a", "").as_bytes()).await.unwrap();
    tokio::time::sleep(S).await;
    drop(wire);
    tokio::time::sleep(S).await;
    assert_eq!(node.node.counts().abandoned, 1);
    balanced(&node);
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_is_complete_though_nobody_asks_for_its_end() {
    for origin in [
        // A fill that grows, its length declared; trailers after the last byte.
        "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=60\r\nContent-Length: 6\r\n\r\nbody{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n6\r\nbody{}\r\n0\r\nX-A: 1\r\n\r\n",
    ] {
        for http2 in [false, true] {
            let node = TestNode::new("", move |_| raw(origin));
            if http2 {
                ask_on_http2(&node, http::Method::GET).await;
            } else {
                node.get("/a.css", "TE: trailers\r\n").await;
            }
            assert_eq!(last(&node).1, Some((Ended::Complete, 6)), "{origin}");
            balanced(&node);
        }
    }
}

/// The answer's status and body.
async fn ask_on_http2(node: &TestNode, method: http::Method) -> (u16, Vec<u8>) {
    let wire = node.wire(Transport::plain_http2(CLIENT));
    let (requests, connection) = h2::client::handshake(wire).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut requests = requests.ready().await.unwrap();
    let request = http::Request::builder()
        .method(method)
        .uri("http://site.test/a.css")
        .body(())
        .unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    let (status, mut from) = (response.status().as_u16(), response.into_body());
    let mut body = Vec::new();
    while let Some(data) = from.data().await {
        body.extend_from_slice(&data.unwrap());
    }
    from.trailers().await.unwrap();
    (status, body)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_want_of_space_has_no_body_when_only_the_head_is_asked_for() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.disk.fail_writes_after(Some(0));
    node.get("/cut", "").await;
    assert_eq!(
        ask_on_http2(&node, http::Method::HEAD).await,
        (503, Vec::new())
    );
    let (status, body) = ask_on_http2(&node, http::Method::GET).await;
    assert_eq!((status, body.is_empty()), (503, false));
}

#[tokio::test(start_paused = true)]
async fn requests_in_one_write_have_their_rows_in_order() {
    let node = TestNode::new("", |asked| {
        let path = asked.split(' ').nth(1).unwrap();
        reply("200 OK", path)
    });
    let mut client = node.client();
    let requests: String = (0..5).map(|n| get(&format!("/{n}"), "")).collect();
    client.send(&requests).await;
    for n in 0..5 {
        assert_eq!(client.answer().await.body, format!("/{n}"));
        assert!(said(&node).responses.len() > n);
    }
    let said = said(&node);
    for (n, response) in said.responses.iter().enumerate() {
        let path = format!("/{n}");
        let target = TargetTag::of(&key(), &[b"http", b"site.test", path.as_bytes()]);
        assert_eq!(response.begin.target, target);
    }
    balanced(&node);
}

#[tokio::test(start_paused = true)]
async fn no_byte_leaves_whose_row_could_not_be_written() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.get("/a.css", "").await;
    for transport in [Transport::plain(CLIENT), Transport::plain_http2(CLIENT)] {
        let http2 = matches!(transport.protocol, shikiri_edge::transport::Protocol::Http2);
        // Reserved while the disk still works.
        let mut wire = node.wire(transport);
        if http2 {
            let (requests, connection) = h2::client::handshake(wire).await.unwrap();
            tokio::spawn(async move { drop(connection.await) });
            let mut requests = requests.ready().await.unwrap();
            node.disk.fail_writes_after(Some(20));
            let request = http::Request::get("http://site.test/a.css")
                .body(())
                .unwrap();
            let (response, _) = requests.send_request(request, true).unwrap();
            assert!(response.await.is_err(), "nothing was answered");
        } else {
            node.disk.fail_writes_after(Some(20));
            wire.write_all(get("/a.css", "").as_bytes()).await.unwrap();
            let mut got = Vec::new();
            assert_eq!(wire.read_to_end(&mut got).await.unwrap(), 0);
        }
        // Without space to reserve: refused.
        let refused = node.get("/a.css", "").await;
        assert_eq!(refused.status, 503);
        assert!(refused.body.contains("evidence-full"), "{}", refused.body);
        // The disk is well again.
        node.disk.fail_writes_after(None);
        assert_eq!(node.get("/a.css", "").await.status, 200);
    }
    balanced(&node);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_unless_passes_may_go_without_rows() {
    let fill_up = |node: &TestNode| {
        node.disk.fail_writes_after(Some(0));
    };
    for on_full in [OnFull::Refuse, OnFull::Pass] {
        let node = TestNode::on_full(rules(""), on_full, |asked| {
            if asked.contains(".css") {
                reply(CSS, "body{}")
            } else {
                reply("200 OK", "page")
            }
        });
        node.get("/a.css", "").await;
        assert_eq!(node.get("/a.css", "").await.cache(), "shikiri; hit; ttl=60");
        fill_up(&node);
        // One whose row was appended and cannot be written: it is cut, whatever is allowed.
        assert_eq!(node.get("/cut", "").await.status, 0);
        let statuses = (
            node.get("/a.css", "").await,
            node.get("/b", "Cookie: sid=1\r\n").await.status,
        );
        if on_full == OnFull::Refuse {
            assert_eq!((statuses.0.status, statuses.1), (503, 503));
        } else {
            assert_eq!((statuses.0.status, statuses.1), (200, 200));
            let cache = statuses.0.cache();
            assert_eq!(
                cache,
                "shikiri; fwd=bypass; fwd-status=200; detail=mode-pass"
            );
        }
        node.disk.fail_writes_after(None);
        let nobody: shikiri_edge::evidence::Told = Box::new(|_| {});
        node.node.tend_evidence(&nobody);
        assert_eq!(node.get("/a.css", "").await.cache(), "shikiri; hit; ttl=60");
        let gaps: Vec<u64> = said(&node).gaps.iter().map(|gap| gap.responses).collect();
        let expected: &[u64] = if on_full == OnFull::Refuse { &[] } else { &[2] };
        assert_eq!(gaps, expected);
        balanced(&node);
    }
}

#[tokio::test(start_paused = true)]
async fn an_interim_response_has_rows_too() {
    let node = TestNode::new("", |_| {
        raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let wire = node.wire(Transport::plain_http2(CLIENT));
    let (requests, connection) = h2::client::handshake(wire).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let mut requests = requests.ready().await.unwrap();
    let request = http::Request::get("http://site.test/").body(()).unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    while body.data().await.is_some() {}
    let said = said(&node);
    let statuses: Vec<(u16, Option<(Ended, u64)>)> = said
        .responses
        .iter()
        .map(|r| (r.begin.status, r.end))
        .collect();
    assert_eq!(
        statuses,
        [
            (103, Some((Ended::Complete, 0))),
            (200, Some((Ended::Complete, 2)))
        ]
    );
    assert!(
        said.responses
            .iter()
            .all(|r| r.begin.outcome == Outcome::Pass)
    );
    balanced(&node);
}

/// What the timeline tells of alarms, in order.
fn alarms(node: &TestNode) -> Vec<String> {
    let mut all = node.timeline();
    all.retain(|line| line.contains("evidence: "));
    all
}

/// Looks after the evidence for so many seconds.
async fn tend(node: &TestNode, seconds: u32) {
    let nobody: shikiri_edge::evidence::Told = Box::new(|_| {});
    for _ in 0..seconds {
        node.node.sync_evidence(&nobody);
        for _ in 0..10 {
            node.node.tend_evidence(&nobody);
            tokio::time::sleep(100 * MS).await;
        }
    }
}

/// The alarms that are on, and whether each is wrong now.
fn on(node: &TestNode) -> Vec<(&'static str, bool)> {
    let (health, attention) = node.node.evidence_health();
    assert_eq!(attention.len(), health.alarms.len(), "{attention:?}");
    let on = health
        .alarms
        .iter()
        .map(|on| (on.alarm.name(), on.is_wrong));
    on.collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_disk_begins_and_ends_on_the_timeline() {
    for on_full in [OnFull::Refuse, OnFull::Pass] {
        let node = TestNode::on_full(rules(""), on_full, |_| reply("200 OK", "page"));
        tend(&node, 1).await;
        assert_eq!(on(&node), []);
        node.disk.fail_writes_after(Some(0));
        // One is cut, of the next two each one finds no space.
        for path in ["/cut", "/1", "/2"] {
            node.get(path, "Cookie: sid=1\r\n").await;
        }
        tend(&node, 30).await;
        let mut wrong = vec![("cannot_write", true), ("full", true)];
        if on_full == OnFull::Pass {
            wrong.push(("gap", true));
        }
        assert_eq!(on(&node), wrong);
        node.disk.fail_writes_after(None);
        tend(&node, 59).await;
        assert!(on(&node).iter().all(|(_, is_wrong)| !is_wrong));
        assert_eq!(alarms(&node).len(), wrong.len());
        tend(&node, 2).await;
        assert_eq!(on(&node), []);
        let told = alarms(&node);
        let begins = |line: &str| told.iter().any(|told| told.starts_with(line));
        assert_eq!(told.len(), 2 * wrong.len(), "{told:#?}");
        assert!(begins("evidence: rows cannot be written: /evidence/lane-0"));
        assert!(begins("over: evidence: rows cannot be written: it lasted "));
        assert!(begins("evidence: there is no space for rows: requests "));
        let over =
            "over: evidence: there is no space for rows: it lasted 29s; 2 requests found no space";
        assert!(begins(over), "{told:#?}");
        let over =
            "over: evidence: responses without rows: it lasted 30s; 2 responses have no rows, gap";
        assert_eq!(begins(over), on_full == OnFull::Pass, "{told:#?}");
        // It is told when it was over, not when that was certain.
        let entries = node.entries();
        let began = entries.first().unwrap();
        let ended = entries.last().unwrap();
        assert_eq!(ended.actor, shikiri_record::Actor::Node);
        let lasted = ended.latest.since(began.earliest);
        assert!((30 * S..31 * S).contains(&lasted), "{lasted:?}");
        balanced(&node);
    }
}

#[tokio::test(start_paused = true)]
async fn little_space_is_an_alarm_before_it_matters() {
    let node = TestNode::new("", |_| reply("200 OK", "page"));
    tend(&node, 1).await;
    // As much as is there, and a little.
    node.disk.resize((2 << 20) + 5);
    tend(&node, 1).await;
    assert_eq!(on(&node), [("low_water", true)]);
    assert_eq!(node.get("/", "").await.status, 200);
    node.disk.resize(1 << 30);
    tend(&node, 62).await;
    assert_eq!(on(&node), []);
    let told = alarms(&node);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        "evidence: space runs low: 0 MiB are free, and 1 should be"
    );
}

#[tokio::test(start_paused = true)]
async fn rows_that_do_not_reach_the_disk_are_an_alarm() {
    let node = TestNode::new("", |_| reply("200 OK", "page"));
    tend(&node, 1).await;
    node.disk.fail_syncs(true);
    assert_eq!(node.get("/", "").await.status, 200);
    tend(&node, 10).await;
    assert_eq!(on(&node), []);
    tend(&node, 2).await;
    assert_eq!(on(&node), [("unsynced", true)]);
    node.disk.fail_syncs(false);
    tend(&node, 62).await;
    assert_eq!(on(&node), []);
    let told = alarms(&node);
    assert!(told[0].starts_with("evidence: rows do not reach the disk: for 12 s now"));
    assert!(told[1].starts_with("over: ") && told.len() == 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_flaps_does_not_fill_the_timeline() {
    let node = TestNode::new("", |_| reply("200 OK", "page"));
    for _ in 0..500 {
        node.disk.fail_writes_after(Some(0));
        node.get("/", "").await;
        tend(&node, 1).await;
        node.disk.fail_writes_after(None);
        tend(&node, 1).await;
    }
    assert_eq!(alarms(&node).len(), 2, "{:#?}", alarms(&node));
    let (health, _) = node.node.evidence_health();
    assert!(health.alarms.iter().all(|on| on.came_back == 499));
}

#[tokio::test(start_paused = true)]
async fn alarms_wait_for_a_timeline_that_cannot_be_written_either() {
    let node = TestNode::new("", |_| reply("200 OK", "page"));
    for disk in [&node.disk, &node.timeline] {
        disk.fail_writes_after(Some(0));
    }
    assert_eq!(node.get("/", "").await.status, 0);
    tend(&node, 5).await;
    assert_eq!(on(&node), [("cannot_write", true), ("full", true)]);
    assert_eq!(node.node.unwritten(), 2);
    node.node.maintain();
    assert_eq!(node.node.unwritten(), 2);
    assert_eq!(node.get("/", "").await.status, 503, "it answers as before");
    // Evidence is well again, and over before the timeline is.
    node.disk.fail_writes_after(None);
    tend(&node, 62).await;
    assert_eq!((on(&node), node.node.unwritten()), (vec![], 4));
    node.timeline.fail_writes_after(None);
    node.node.maintain();
    assert_eq!(node.node.unwritten(), 0);
    let over = |line: &String| line.starts_with("over: ");
    let told: Vec<bool> = alarms(&node).iter().map(over).collect();
    assert_eq!(told, [false, false, true, true]);
}

/// A key may change while requests run: each has all of its tags under one, which its stance row names.
#[tokio::test(start_paused = true)]
async fn a_requests_tags_are_all_under_the_key_that_its_stance_names() {
    let node = TestNode::new("", |_| {
        reply(
            "200 OK\r\nContent-Type: text/html\r\nSet-Cookie: sid=x\r\nShikiri-Viewer: m1",
            "<p>x",
        )
    });
    let mut client = node.client();
    let keys = [key(), TagKey::new([1; 32]), TagKey::new([2; 32])];
    for (n, key) in keys.iter().enumerate() {
        if n > 0 {
            node.node.take_tag_key(key.clone());
        }
        assert_eq!(node.node.tag_key_id(), key.id());
        // One connection, whose address is under each key in turn.
        client.send(&get("/account", "Cookie: sid=x\r\n")).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let said = said(&node);
    assert_eq!(said.responses.len(), keys.len());
    for (response, key) in said.responses.iter().zip(&keys) {
        let begin = &response.begin;
        assert_eq!(response.stance.tag_key, key.id());
        let target = [&b"http"[..], b"site.test", b"/account"];
        assert_eq!(begin.target, TargetTag::of(key, &target));
        assert_eq!(begin.address, AddressTag::of(key, &[&[192, 0, 2, 1]]));
        assert_eq!(begin.viewer_member, Some(MemberTag::of(key, &[b"m1"])));
        assert_eq!(begin.cookies, [CookieTag::of(key, &[b"sid", b"x"])]);
        let viewer = [&b"cookie"[..], b"sid", b"x"];
        assert_eq!(begin.viewer, Some(ViewerTag::of(key, &viewer)));
    }
    balanced(&node);
}
