//! Attacks on what the node claims: each was once a way around it.

use std::time::Duration;

use shikiri_record::PurgeTarget;

use crate::world::{TestNode, get, raw, reply, said};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

const CSS: &str = "200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=60\r\nETag: \"1\"";
const PAGES: &str = "version = 1\n[[class]]\nname = \"pages\"\nmatch = { paths = [\"/**\"] }\nto = \"everyone\"\n\
    types = [\"text/html\", \"text/*\"]\nstatuses = [200, 404]\n\
    lifetime = { default = \"60s\", max = \"1h\", stale_while_revalidate = \"0s\", stale_if_error = \"1h\" }\n";

/// A late second answer to one key's fetch is stored under another key.
#[tokio::test(start_paused = true)]
async fn late_second_answer_poisons_another_key() {
    let node = TestNode::new("", |asked| {
        if asked.contains("alice") {
            let mut first = reply(CSS, "a{}");
            first.later = reply(CSS, "alice{}").bytes;
            first
        } else {
            reply(CSS, "b{}")
        }
    });
    node.get("/a.css?x=alice", "").await;
    tokio::time::sleep(100 * MS).await;
    let bob = node.get("/b.css", "").await;
    tokio::time::sleep(S).await;
    let carol = node.get("/b.css", "").await;
    assert_eq!(
        (bob.body.as_str(), carol.body.as_str()),
        ("b{}", "b{}"),
        "{}",
        carol.head
    );
}

/// Two viewers behind one client connection, told apart by something that is no cookie.
#[tokio::test(start_paused = true)]
async fn late_second_answer_reaches_another_viewer_of_the_client_connection() {
    let mut failed = Vec::new();
    for (what, alice, bob) in [
        ("header", get("/me", "X-User: alice\r\n"), get("/me", "X-User: bob\r\n")),
        ("declared header", get("/me", "X-Api-Key: alice\r\n"), get("/me", "X-Api-Key: bob\r\n")),
        ("query", get("/me?token=alice", ""), get("/me?token=bob", "")),
        ("path", get("/u/alice", ""), get("/u/bob", "")),
        ("GET body", get("/me", "Content-Length: 5\r\n") + "alice", get("/me", "")),
        (
            "POST body",
            "POST /me HTTP/1.1\r\nHost: site.test\r\nCookie: lang=ja\r\nContent-Length: 5\r\n\r\nalice".to_owned(),
            get("/me", "Cookie: lang=ja\r\n"),
        ),
    ] {
        let policy = "version = 1\n[session]\nheaders = [\"x-api-key\"]\n";
        let node = TestNode::new(policy, |asked| {
            let mut first = reply("200 OK", if asked.contains("alice") { "hi alice" } else { "hi bob" });
            if asked.contains("alice") {
                first.later = reply("200 OK", "secret of alice").bytes;
            }
            first
        });
        let mut client = node.client();
        client.send(&alice).await;
        client.answer().await;
        tokio::time::sleep(100 * MS).await;
        client.send(&bob).await;
        let answer = client.answer().await;
        if answer.body != "hi bob" {
            failed.push(what);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A 304 that cannot be used reaches a client that had asked no condition.
#[tokio::test(start_paused = true)]
async fn a_304_to_us_is_no_answer_to_a_client() {
    let node = TestNode::new("", |asked| {
        if asked.contains("if-none-match") {
            raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: private\r\n\r\n")
        } else {
            reply(CSS, "body{}")
        }
    });
    node.get("/a.css", "").await;
    tokio::time::sleep(3600 * S).await;
    let answer = node.get("/a.css", "").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "body{}"),
        "{}",
        answer.head
    );
}

/// A stale copy that was purged while the origin failed.
#[tokio::test(start_paused = true)]
async fn a_purged_copy_does_not_stand_in_for_a_failing_origin() {
    let node = TestNode::new(PAGES, |asked| {
        if asked.contains("if-none-match") {
            reply("503 Down\r\nContent-Type: text/css", "down").after(5 * S)
        } else {
            reply(
                "200 OK\r\nContent-Type: text/css\r\nETag: \"1\"",
                "leaked{}",
            )
        }
    });
    node.get("/a", "").await;
    tokio::time::sleep(120 * S).await;
    let mut client = node.client();
    client.send(&get("/a", "")).await;
    tokio::time::sleep(S).await;
    node.purge_all();
    let answer = client.answer().await;
    assert_ne!(answer.body, "leaked{}", "{}", answer.head);
}

/// A purge between the lookup and the start of the revalidation.
#[tokio::test(start_paused = true)]
async fn a_purge_just_before_a_revalidation_begins() {
    let node = std::sync::Arc::new(TestNode::new("", |asked| {
        if asked.contains("if-none-match") {
            raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\n")
        } else {
            reply(CSS, "leaked{}")
        }
    }));
    node.get("/a.css", "").await;
    tokio::time::sleep(3600 * S).await;
    let mut client = node.client();
    client.send(&get("/a.css", "")).await;
    let edge = std::sync::Arc::clone(&node.node);
    let uri = PurgeTarget::Uri("http://site.test/a.css".into());
    // Always in the run queue: it runs between any two tasks.
    let purger = tokio::spawn(std::future::poll_fn(move |cx| {
        if edge.counts().filling == 1 {
            let purged = edge.purge(std::slice::from_ref(&uri), &said());
            assert_eq!(purged.covered.objects, 1);
            return std::task::Poll::Ready(edge.counts().fills);
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    }));
    let answer = client.answer().await;
    // 1: the revalidation had not begun (only the first fill is counted).
    assert_eq!(purger.await.unwrap(), 1);
    let again = node.get("/a.css", "").await;
    assert!(
        !again.cache().contains("hit"),
        "first {} then {}",
        answer.head,
        again.head
    );
}

/// Running fills outlive their clients and are not counted.
#[tokio::test(start_paused = true)]
async fn fills_whose_clients_went_away_are_bounded() {
    let policy = "version = 1\n[limits]\nrequests_max = 10\n";
    let node = TestNode::new(policy, |_| reply(CSS, "x{}").after(50 * S));
    for n in 0..200 {
        let mut client = node.client();
        client.send(&get(&format!("/{n}.css"), "")).await;
        tokio::time::sleep(MS).await;
        drop(client);
        tokio::time::sleep(MS).await;
    }
    assert!(node.node.counts().running <= 10);
    assert!(node.node.counts().filling <= 10, "{:?}", node.node.counts());
}

/// A member who leads the fill of a stream that never ends.
#[tokio::test(start_paused = true)]
async fn a_member_is_not_held_by_a_body_without_end() {
    let node = TestNode::new(PAGES, |asked| {
        if asked.contains("cookie") {
            reply(
                "200 OK\r\nContent-Type: text/event-stream",
                "data: mine\n\n",
            )
        } else {
            // Ticks for ten minutes.
            let mut first = raw(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:\n\r\n",
            );
            first.ticks = 60;
            first
        }
    });
    let mut client = node.client();
    client.send(&get("/events", "Cookie: sid=1\r\n")).await;
    let began = tokio::time::Instant::now();
    let answer = client.answer().await;
    assert!(
        began.elapsed() < 61 * S,
        "{:?} {}",
        began.elapsed(),
        answer.head
    );
}

/// Careless `ignorable_cookies`: a member's cookie is stripped, and a relay sets another.
#[tokio::test(start_paused = true)]
async fn who_sent_any_cookie_gets_no_set_cookie_of_a_shared_fetch() {
    let policy = format!("{PAGES}\n[session]\nignorable_cookies = [\"sid\"]\n");
    let node = TestNode::new(&policy, |asked| {
        if asked.contains("sid=alice") {
            reply("200 OK\r\nContent-Type: text/html", "hi alice")
        } else {
            reply(
                "200 OK\r\nContent-Type: text/html\r\nSet-Cookie: sid=guest",
                "hi guest",
            )
        }
    });
    let answer = node.get("/", "Cookie: sid=alice\r\n").await;
    assert_eq!(answer.field("set-cookie"), None, "{}", answer.head);
}

/// `Connection` of an origin's takes away what says how to read the body.
#[tokio::test(start_paused = true)]
async fn connection_cannot_take_away_the_type() {
    let node = TestNode::new("", |_| {
        reply(
            &format!(
                "{CSS}\r\nConnection: content-type, content-security-policy\r\nContent-Security-Policy: sandbox"
            ),
            "a{}",
        )
    });
    node.get("/a.css", "").await;
    let hit = node.get("/a.css", "").await;
    assert_eq!(hit.field("content-type"), Some("text/css"), "{}", hit.head);
}

/// Authority-form for something that is not CONNECT.
#[tokio::test(start_paused = true)]
async fn authority_form_is_refused() {
    let node = TestNode::new("", |_| reply("200 OK", "x"));
    let answer = node
        .ask("GET site.test:80 HTTP/1.1\r\nHost: site.test\r\n\r\n")
        .await;
    assert_eq!(answer.status, 400, "{}", answer.head);
}

/// A script that is made on request and carries an automatic entity tag.
#[tokio::test(start_paused = true)]
async fn a_script_with_an_automatic_tag_mints() {
    let n = std::sync::atomic::AtomicU32::new(0);
    let node = TestNode::new("", move |_| {
        let n = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        reply(
            &format!("200 OK\r\nContent-Type: text/javascript\r\nETag: W/\"1b-{n}\""),
            &format!("window.GUEST = \"g7Kq0ZpX3nV{n}\";"),
        )
    });
    let alice = node.get("/config.js", "").await;
    let bob = node.get("/config.js", "").await;
    assert_ne!(alice.body, bob.body, "{}", bob.head);
}

/// A page that is not called a page.
#[tokio::test(start_paused = true)]
async fn multipart_of_pages_is_not_shared_unlooked_at() {
    let policy = "version = 1\n[[class]]\nname = \"all\"\nmatch = { paths = [\"/**\"] }\nto = \"everyone\"\ntypes = [\"*/*\"]\nlifetime = { default = \"60s\" }\n";
    let mut failed = Vec::new();
    for essence in [
        "multipart/x-mixed-replace; boundary=b",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "message/http",
    ] {
        let n = std::sync::atomic::AtomicU32::new(0);
        let node = TestNode::new(policy, move |_| {
            let n = n.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            reply(
                &format!("200 OK\r\nContent-Type: {essence}"),
                &format!(
                    "--b\r\nContent-Type: text/html\r\n\r\n<html><input name=csrf value=g7Kq0ZpX3nV{n}>\r\n--b"
                ),
            )
        });
        let alice = node.get("/p", "").await;
        let bob = node.get("/p", "").await;
        if alice.body == bob.body {
            failed.push(essence);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
