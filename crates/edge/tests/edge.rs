//! The node as a client and an origin see it. Time is simulated; bytes are real.

mod attacks;
mod evidence;
mod gated;
mod http2;
mod modes;
mod pins;
mod slices;
mod traces;
mod tunnel;
mod world;

use std::time::Duration;

use shikiri_partition::Limits;
use shikiri_record::PurgeTarget;
use world::{TestNode, get, raw, reply, rules};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

const CSS: &str = "200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=60\r\nETag: \"1\"";
const PAGES: &str = "version = 1\n[[class]]\nname = \"pages\"\nmatch = { paths = [\"/**\"] }\nto = \"everyone\"\n\
    types = [\"text/html\", \"text/plain\", \"text/css\"]\nstatuses = [200, 404]\n\
    lifetime = { default = \"60s\", max = \"1h\", stale_while_revalidate = \"0s\", stale_if_error = \"1h\" }\n";

#[tokio::test(start_paused = true)]
async fn a_static_file_is_fetched_once_without_the_cookie_and_shared() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    let first = node
        .get(
            "/a.css",
            "Cookie: sid=alice\r\nX-Evil: 1\r\nUser-Agent: x\r\n",
        )
        .await;
    assert_eq!((first.status, first.body.as_str()), (200, "body{}"));
    assert_eq!(
        first.cache(),
        "shikiri; fwd=uri-miss; fwd-status=200; stored"
    );
    tokio::time::sleep(10 * S).await;
    let second = node.get("/a.css", "Cookie: sid=bob\r\n").await;
    assert_eq!(second.body, "body{}");
    assert_eq!(second.cache(), "shikiri; hit; ttl=50");
    assert_eq!(second.field("age"), Some("10"));
    let seen = node.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let asked = &seen[0].text;
    assert!(
        asked.starts_with("GET /a.css HTTP/1.1\r\nhost: site.test\r\n"),
        "{asked}"
    );
    for absent in ["alice", "x-evil", "x-forwarded-for", "user-agent: x"] {
        assert!(
            !asked.to_ascii_lowercase().contains(absent),
            "{absent} in {asked}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_passes_as_itself_and_leaves_as_private() {
    let node = TestNode::new("", |_| {
        reply(
            "200 OK\r\nContent-Type: text/html\r\nCache-Control: public, max-age=60, s-maxage=600\r\nSet-Cookie: a=b\r\nSurrogate-Control: max-age=9\r\nAlt-Svc: h3=\":443\"",
            "hi alice",
        )
    });
    let lines = "Cookie: sid=alice\r\nX-Forwarded-For: 198.51.100.9\r\nAccept: text/html\r\n";
    let answer = node.get("/account?x=1", lines).await;
    assert_eq!(answer.body, "hi alice");
    let control = answer.field("cache-control").unwrap();
    assert!(
        control.contains("private") && control.contains("max-age=60"),
        "{control}"
    );
    assert!(
        !control.contains("public") && !control.contains("s-maxage"),
        "{control}"
    );
    assert_eq!(answer.field("cdn-cache-control"), Some("no-store"));
    assert_eq!(answer.field("set-cookie"), Some("a=b"));
    assert_eq!(
        (answer.field("alt-svc"), answer.field("surrogate-control")),
        (None, None)
    );
    assert_eq!(
        answer.cache(),
        "shikiri; fwd=bypass; fwd-status=200; detail=no-class"
    );
    let asked = node.seen()[0].text.to_ascii_lowercase();
    assert!(
        asked.starts_with("get /account?x=1 http/1.1\r\n"),
        "{asked}"
    );
    for present in [
        "cookie: sid=alice",
        "x-real-ip: 192.0.2.1",
        "via: 1.1 edge",
        "cdn-loop: edge",
    ] {
        assert!(asked.contains(present), "{present} in {asked}");
    }
    node.get("/account?x=1", lines).await;
    assert_eq!(node.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn overlapping_requests_share_one_fill_when_it_is_admitted() {
    let node = TestNode::new("", |_| reply(CSS, "body{}").after(S));
    let all = futures(20, || node.get("/a.css", "")).await;
    assert!(all.iter().all(|answer| answer.body == "body{}"));
    assert_eq!(node.asked(), 1);
    assert!(
        all.iter()
            .any(|answer| answer.cache().contains("collapsed"))
    );
}

#[tokio::test(start_paused = true)]
async fn who_waited_goes_on_alone_side_by_side_when_it_is_not_admitted() {
    let node = TestNode::new(PAGES, |_| {
        reply(
            "200 OK\r\nContent-Type: text/html\r\nCache-Control: private",
            "mine",
        )
        .after(S)
    });
    let began = tokio::time::Instant::now();
    let all = futures(20, || node.get("/p", "Cookie: sid=1\r\n")).await;
    assert!(
        all.iter()
            .all(|answer| answer.body == "mine" && !answer.cache().contains("hit"))
    );
    // One shared fetch, then everybody's own, at once.
    assert_eq!(node.asked(), 21);
    assert!(began.elapsed() < 3 * S, "{:?}", began.elapsed());
    // And the key is remembered: the next does not even ask.
    node.get("/p", "Cookie: sid=1\r\n").await;
    assert_eq!(node.asked(), 22);
}

async fn futures<F: Future<Output = world::Answer>>(
    n: usize,
    make: impl Fn() -> F,
) -> Vec<world::Answer> {
    let mut running: Vec<_> = (0..n).map(|_| Box::pin(make())).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        running.retain_mut(|one| match one.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                done.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}

#[tokio::test(start_paused = true)]
async fn a_stale_object_is_confirmed_by_its_own_validators() {
    let node = TestNode::new("", |asked| {
        if asked.contains("if-none-match: \"1\"") {
            raw("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\n")
        } else {
            reply(CSS, "body{}")
        }
    });
    node.get("/a.css", "").await;
    tokio::time::sleep(3600 * S).await;
    let answer = node
        .get("/a.css", "If-None-Match: \"other\"\r\nCookie: sid=1\r\n")
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "body{}"));
    assert_eq!(answer.cache(), "shikiri; fwd=stale; fwd-status=304; stored");
    assert_eq!(node.get("/a.css", "").await.cache(), "shikiri; hit; ttl=60");
    assert_eq!(node.asked(), 2);
    assert!(
        !node.seen()[1].text.contains("other"),
        "the client's condition stays here"
    );
}

#[tokio::test(start_paused = true)]
async fn conditions_and_ranges_are_answered_from_the_object() {
    let node = TestNode::new("", |_| reply(CSS, "0123456789"));
    for (lines, status, body) in [
        ("", 200, "0123456789"),
        ("If-None-Match: \"1\"\r\n", 304, ""),
        ("If-None-Match: \"2\"\r\n", 200, "0123456789"),
        ("Range: bytes=2-4\r\n", 206, "234"),
        ("Range: bytes=-3\r\n", 206, "789"),
        ("Range: bytes=20-\r\n", 416, ""),
        ("Range: bytes=0-1,3-4\r\n", 200, "0123456789"),
        ("Range: bytes=2-4\r\nIf-Range: \"2\"\r\n", 200, "0123456789"),
    ] {
        let answer = node.get("/a.css", lines).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{lines}"
        );
    }
    let mut client = node.client();
    client
        .send("HEAD /a.css HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
        .await;
    let text = client.rest().await;
    assert!(
        text.contains("content-length: 10\r\n") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
    assert_eq!(node.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_range_of_a_running_fill_does_not_wait_for_all_of_it() {
    let node = TestNode::new("", |_| {
        let head = format!("HTTP/1.1 {CSS}\r\nContent-Length: 1010\r\n\r\n");
        raw(&format!("{head}{}", "a".repeat(1000))).then("0123456789")
    });
    let began = tokio::time::Instant::now();
    let first = node.get("/a.css", "Range: bytes=0-3\r\n").await;
    assert_eq!((first.status, first.body.as_str()), (206, "aaaa"));
    assert!(began.elapsed() < 100 * MS);
    assert_eq!(
        node.get("/a.css", "Range: bytes=1000-\r\n").await.body,
        "0123456789"
    );
    assert_eq!(node.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_ends_early_is_cut_and_not_stored() {
    let node = TestNode::new("", |_| {
        raw(&format!(
            "HTTP/1.1 {CSS}\r\nContent-Length: 2000\r\n\r\n{}",
            "a".repeat(1000)
        ))
        .closing()
    });
    let answer = node.get("/a.css", "").await;
    assert!(answer.cut, "{answer:?}");
    tokio::time::sleep(MS).await;
    assert_eq!(node.node.counts().objects, 0);
    node.get("/a.css", "").await;
    assert_eq!(node.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_origin_is_stood_in_for_by_a_stale_copy() {
    let text = format!("{PAGES}\n");
    let node = TestNode::with(rules(&text), |asked| {
        if asked.contains("if-none-match") {
            reply("503 Service Unavailable\r\nContent-Type: text/css", "down")
        } else {
            reply(CSS, "body{}")
        }
    });
    node.get("/a", "").await;
    tokio::time::sleep(120 * S).await;
    let answer = node.get("/a", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "body{}"));
    tokio::time::sleep(4000 * S).await;
    assert_eq!(
        node.get("/a", "").await.status,
        503,
        "no longer than the class allows"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_stands_in_for_those_who_waited_too() {
    const ERROR: &str = "503 Service Unavailable\r\nContent-Type: text/css";
    let failures: [fn() -> world::Reply; 3] = [
        || reply(ERROR, "down"),
        || raw("").closing(),
        || {
            raw("HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nbo").closing()
        },
    ];
    for failing in failures {
        let node = TestNode::with(rules(PAGES), move |asked| {
            if asked.contains("if-none-match") {
                failing().after(S)
            } else if asked.contains("sid=") {
                reply(ERROR, "down")
            } else {
                reply(CSS, "body{}")
            }
        });
        node.get("/a", "").await;
        tokio::time::sleep(120 * S).await;
        let all = futures(20, || node.get("/a", "Cookie: sid=1\r\n")).await;
        assert_eq!(all.len(), 20);
        for answer in all {
            assert_eq!((answer.status, answer.body.as_str()), (200, "body{}"));
        }
        assert_eq!(node.asked(), 2, "nobody asks a failing origin again");
    }
}

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_serves_at_once_and_refreshes_behind() {
    let head =
        "200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=60, stale-while-revalidate=600";
    let text = PAGES.replace(
        "stale_while_revalidate = \"0s\"",
        "stale_while_revalidate = \"1h\"",
    );
    let node = TestNode::new(&text, move |_| reply(head, "body{}").after(5 * S));
    node.get("/a", "").await;
    tokio::time::sleep(100 * S).await;
    let began = tokio::time::Instant::now();
    let stale = node.get("/a", "Cookie: sid=carol\r\n").await;
    assert_eq!(stale.cache(), "shikiri; hit");
    assert!(began.elapsed() < S);
    tokio::time::sleep(10 * S).await;
    assert_eq!(node.asked(), 2);
    assert!(!node.seen()[1].text.contains("carol"));
    assert!(node.get("/a", "").await.cache().contains("ttl="));
}

#[tokio::test(start_paused = true)]
async fn purges_are_complete_and_hold_for_running_fills() {
    let node = TestNode::new("", |_| reply(CSS, "body{}").after(S));
    node.get("/a.css", "").await;
    node.get("/a.css", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(node.asked(), 2);
    assert_eq!(node.purge(&["http://site.test/a.css"]), 2);
    let running = tokio::spawn({
        let mut client = node.client();
        async move {
            client.send(&get("/a.css", "")).await;
            client.answer().await
        }
    });
    tokio::time::sleep(500 * MS).await;
    assert_eq!(node.asked(), 3);
    assert_eq!(node.purge(&["http://site.test/a.css"]), 0);
    running.await.unwrap();
    node.get("/a.css", "").await;
    assert!(
        node.asked() >= 4,
        "a fill that began before the purge is not stored after it"
    );
    let before = node.asked();
    node.purge_all();
    node.get("/a.css", "").await;
    assert!(node.asked() > before);
}

/// `%e3` and `%E3` are one (RFC 3986 6.2.2.1); each is asked for as it came, and both are purged by
/// either, as are the other spellings of one URI.
#[tokio::test(start_paused = true)]
async fn whoever_names_one_spelling_means_all() {
    let node = TestNode::new(PAGES, |_| reply(CSS, "body{}"));
    let spellings = [
        ("/caf%c3%a9.css", "/caf%C3%A9.css"),
        ("/a@2x.css", "/a%402x.css"),
        ("/a.css", "/a.css?"),
        ("/a.css?v=%61", "/a.css?v=a"),
    ];
    let fill = async |path: &str| {
        node.get(path, "").await;
        assert!(node.get(path, "").await.cache().contains("hit"), "{path}");
    };
    let is_gone = async |path: &str| {
        let cache = node.get(path, "").await.cache().to_owned();
        assert!(!cache.contains("hit"), "{path}: {cache}");
    };
    for (one, other) in spellings.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]) {
        fill(one).await;
        fill(other).await;
        node.purge(&[&format!("http://site.test{one}")]);
        is_gone(one).await;
        is_gone(other).await;
        fill(one).await;
        fill(other).await;
        let prefix = PurgeTarget::Prefix(format!("http://Site.test.:080{one}"));
        node.purge_targets(&[prefix]);
        is_gone(one).await;
        is_gone(other).await;
        fill(one).await;
        fill(other).await;
        node.ask(&format!(
            "POST {one} HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        is_gone(one).await;
        is_gone(other).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_kills_what_was_stored_under_another_meaning() {
    let node = TestNode::new(PAGES, |_| reply(CSS, "body{}"));
    node.get("/a", "").await;
    node.reload(rules(PAGES));
    node.get("/a", "").await;
    assert_eq!(node.asked(), 1, "the same meaning: nothing is lost");
    node.reload(rules(
        &PAGES.replace("statuses = [200, 404]", "statuses = [200]"),
    ));
    node.get("/a", "").await;
    assert_eq!(node.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_method_makes_stale_what_it_changed() {
    let node = TestNode::new("", |asked| {
        if asked.starts_with("POST") {
            reply("200 OK", "done")
        } else {
            reply(CSS, "body{}")
        }
    });
    node.get("/a.css", "").await;
    node.ask("POST /a.css HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    node.get("/a.css", "").await;
    assert_eq!(node.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_answers_twice_confuses_nobody_else() {
    // The second answer comes late, when the connection could have been given to another.
    let node = TestNode::new("", |asked| {
        let who = if asked.contains("sid=alice") {
            "alice"
        } else {
            "bob"
        };
        let head = "200 OK\r\nContent-Type: text/html";
        let late = format!("HTTP/1.1 {head}\r\nContent-Length: 11\r\n\r\nalice again");
        if who == "alice" {
            reply(head, who).then(&late)
        } else {
            reply(head, who).after(S)
        }
    });
    let alice = node.get("/account", "Cookie: sid=alice\r\n").await;
    assert_eq!(alice.body, "alice");
    let mut client = node.client();
    for _ in 0..3 {
        // Both over one client connection, as behind another proxy.
        client.send(&get("/account", "Cookie: sid=alice\r\n")).await;
        assert_eq!(client.answer().await.body, "alice");
        client.send(&get("/account", "Cookie: sid=bob\r\n")).await;
        assert_eq!(client.answer().await.body, "bob");
    }
    let seen = node.seen();
    for one in &seen {
        for other in &seen {
            let alice = |text: &str| text.contains("sid=alice");
            if one.connection == other.connection {
                assert_eq!(
                    alice(&one.text),
                    alice(&other.text),
                    "a connection is one viewer's"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn shared_fetches_and_passes_never_meet_on_a_connection() {
    let node = TestNode::new("", |asked| {
        if asked.contains(".css") {
            reply(
                "200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=1",
                "body{}",
            )
        } else {
            reply("200 OK", "page")
        }
    });
    let mut client = node.client();
    let at_once = Duration::ZERO;
    for (path, pause) in [
        ("/", at_once),
        ("/a.css", at_once),
        ("/x", at_once),
        ("/b.css", at_once),
        ("/a.css", 2 * S),
        ("/c.css", 2 * S),
    ] {
        tokio::time::sleep(pause).await;
        client.send(&get(path, "Cookie: sid=alice\r\n")).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut shared = Vec::new();
    let mut passes = Vec::new();
    for seen in node.seen() {
        if seen.text.contains("sid=alice") {
            &mut passes
        } else {
            &mut shared
        }
        .push(seen.connection);
    }
    assert_eq!((passes.len(), shared.len()), (2, 4));
    assert_eq!(
        passes[0], passes[1],
        "pass connections are used again: the positive control"
    );
    assert_ne!(
        shared[0], shared[1],
        "shared ones not at once for another key"
    );
    assert!(
        shared[..2].contains(&shared[2]),
        "but for the same, or after a silence"
    );
    assert!(shared[..2].contains(&shared[3]), "then for any");
    assert!(!passes.iter().any(|pass| shared.contains(pass)));
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_both_ways_with_trailers() {
    let node = TestNode::new("", |asked| {
        assert!(asked.contains("hello"), "{asked}");
        assert!(
            asked.to_ascii_lowercase().contains("te: trailers"),
            "{asked}"
        );
        raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nworld\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
    });
    let mut client = node.client();
    client
        .send(
            "POST /up HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
             Connection: close, te\r\nTrailer: X-In\r\n\r\n5\r\nhello\r\n0\r\nX-In: 1\r\n\r\n",
        )
        .await;
    let text = client.rest().await.to_ascii_lowercase();
    assert!(
        text.contains("world") && text.contains("x-sum: 7"),
        "{text}"
    );
    assert!(
        node.seen()[0].text.to_ascii_lowercase().contains("x-in: 1"),
        "{:?}",
        node.seen()
    );
}

#[tokio::test(start_paused = true)]
async fn trailers_carry_nothing_around_the_judgement_of_a_head() {
    const ASKED: [&str; 6] = [
        "Cookie: sid=mallory",
        "X-Forwarded-For: 10.0.0.1",
        "X_Real_IP: 10.0.0.1",
        "Shikiri-Viewer: mallory",
        "Client-Cert: mallory",
        "Via: 1.1 mallory",
    ];
    const ANSWERED: [&str; 6] = [
        "X-Sum: 7",
        "CDN-Cache-Control: max-age=9",
        "Surrogate-Key: trailed",
        "Shikiri-Owner: trailed",
        "Alt-Svc: trailed",
        "Set-Cookie2: trailed",
    ];
    let names = |fields: &[&str]| -> String {
        let names: Vec<&str> = fields
            .iter()
            .map(|f| f.split(':').next().unwrap())
            .collect();
        names.join(", ")
    };
    // With and without one that stays: an empty section of trailers must still end the body.
    for kept in [&["X-In: 1"][..], &[]] {
        let answered = names(&ANSWERED);
        let node = TestNode::new("", move |_| {
            raw(&format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: {answered}\r\n\r\n\
                 5\r\nworld\r\n0\r\n{}\r\n\r\n",
                ANSWERED.join("\r\n")
            ))
        });
        let fields = [kept, &ASKED[..]].concat();
        let mut client = node.client();
        client
            .send(&format!(
                "POST /up HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
                 Connection: close, te\r\nTrailer: {}\r\n\r\n5\r\nhello\r\n0\r\n{}\r\n\r\n",
                names(&fields),
                fields.join("\r\n")
            ))
            .await;
        let text = client.rest().await.to_ascii_lowercase();
        let (_, trailers) = text.split_once("\r\n0\r\n").expect("a last chunk");
        assert_eq!(trailers, "x-sum: 7\r\n\r\n");
        let asked = node.seen()[0].text.to_ascii_lowercase();
        let (_, trailers) = asked.split_once("\r\n0\r\n").expect("a last chunk");
        let expected = kept.iter().map(|f| f.to_ascii_lowercase() + "\r\n");
        assert_eq!(trailers, expected.collect::<String>() + "\r\n");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_used_again_still_brings_its_whole_body() {
    let css = "Content-Type: text/css\r\nCache-Control: max-age=60";
    for (head, framed, path) in [
        // A length under HTTP/1.0, which promises no second request.
        (
            format!("HTTP/1.0 200 OK\r\n{css}\r\nContent-Length: 10"),
            true,
            "/x",
        ),
        (
            format!("HTTP/1.0 200 OK\r\n{css}\r\nContent-Length: 10"),
            true,
            "/x.css",
        ),
        // A body that ends with its connection (RFC 9112 6.3).
        (format!("HTTP/1.1 200 OK\r\n{css}"), false, "/x"),
        (format!("HTTP/1.0 200 OK\r\n{css}"), false, "/x.css"),
        // A connection that is authenticated itself.
        (
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 10".into(),
            true,
            "/x",
        ),
    ] {
        let start = format!("{head}\r\n\r\nbody{{");
        let node = TestNode::new("", move |_| {
            let reply = raw(&start).then("late}");
            if framed { reply } else { reply.closing() }
        });
        for request in 1..=2 {
            let answer = node.get(path, "").await;
            let case = format!("{head} {path}, request {request}");
            assert_eq!(
                (answer.body.as_str(), answer.cut),
                ("body{late}", false),
                "{case}"
            );
        }
        let connections: std::collections::BTreeSet<u64> =
            node.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(
            connections.len(),
            node.asked(),
            "{head}: none is used again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_100_gets_it_from_the_origin_or_after_a_second() {
    for (path, within) in [("/says-continue", 500 * MS), ("/is-silent", 1500 * MS)] {
        let node = TestNode::new("", |_| reply("200 OK", "done"));
        let mut client = node.client();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        );
        client.send(&head).await;
        let began = tokio::time::Instant::now();
        // The body goes only when the edge asks for it, as a patient client would have it.
        let interim = client.interim().await;
        assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
        assert!(began.elapsed() < within, "{path}: {:?}", began.elapsed());
        client.send("hi").await;
        assert_eq!(client.answer().await.body, "done");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_have_their_own_statuses() {
    let limits = Limits::default();
    let node = TestNode::new("", |_| {
        reply("200 OK", "late").after(Duration::from_secs(3600))
    });
    assert_eq!(node.get("/slow", "").await.status, 504);
    let node = TestNode::new("", |_| raw("nonsense\r\n\r\n").closing());
    assert_eq!(node.get("/broken", "").await.status, 502);
    let node = TestNode::new("", |_| {
        raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    });
    assert_eq!(node.get("/switches", "").await.status, 502);
    let text = "version = 1\n[[origin]]\nhosts = [\"site.test\"]\nurl = \"http://origin.test:1\"\n";
    let node = TestNode::with(rules(text), |_| reply("200 OK", ""));
    assert_eq!(node.get("/", "").await.status, 502);
    assert_eq!(node.get("/a.css", "").await.status, 502);

    let node = TestNode::new("", |_| reply("200 OK", "ok"));
    let status = async |request: &str| node.ask(request).await.status;
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n").await, 400);
    assert_eq!(
        status("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").await,
        400
    );
    assert_eq!(
        status("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await,
        405
    );
    assert_eq!(
        status("GET / HTTP/1.1\r\nHost: a\r\nCDN-Loop: x, edge; v=1\r\n\r\n").await,
        508
    );
    assert_eq!(
        status("GET /a.css HTTP/1.1\r\nHost: a\r\nCache-Control: only-if-cached\r\n\r\n").await,
        504
    );
    let long = "x".repeat(limits.target_bytes_max);
    assert_eq!(
        status(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")).await,
        414
    );
    let large = "x".repeat(limits.head_bytes_max);
    assert_eq!(
        status(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {large}\r\n\r\n")).await,
        431
    );
    let body = limits.request_body_bytes_max + 1;
    assert_eq!(
        status(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {body}\r\n\r\n"
        ))
        .await,
        413
    );
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n").await, 408);
}

#[tokio::test(start_paused = true)]
async fn a_chunked_body_over_the_limit_is_refused_with_413() {
    let text = "version = 1\n[limits]\nrequest_body_bytes_max = \"8 KiB\"\n";
    let node = TestNode::new(text, |_| reply("200 OK", "ok"));
    let mut client = node.client();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..3 {
        client
            .send(&format!("1000\r\n{}\r\n", "x".repeat(4096)))
            .await;
    }
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(node.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_at_once_are_refused_with_503() {
    let text = "version = 1\n[limits]\nrequests_max = 2\n";
    let node = TestNode::new(text, |_| reply("200 OK", "ok").after(S));
    let all = futures(3, || node.get("/", "")).await;
    let mut statuses: Vec<u16> = all.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    assert!(
        all.iter()
            .any(|answer| answer.field("retry-after").is_some())
    );
    assert_eq!(
        node.get("/", "").await.status,
        200,
        "and then there is room again"
    );
}

#[tokio::test(start_paused = true)]
async fn documents_need_two_copies_that_agree() {
    let html = "200 OK\r\nContent-Type: text/html\r\nCache-Control: max-age=60";
    let node = TestNode::new(PAGES, move |_| reply(html, "<!doctype html><p>same</p>"));
    assert_eq!(node.get("/p", "").await.body, "<!doctype html><p>same</p>");
    tokio::time::sleep(MS).await;
    assert_eq!(node.asked(), 2);
    assert!(
        node.get("/p", "Cookie: sid=1\r\n")
            .await
            .cache()
            .contains("hit")
    );

    let n = std::sync::atomic::AtomicU64::new(1000);
    let node = TestNode::new(PAGES, move |_| {
        let token = n.fetch_add(7919, std::sync::atomic::Ordering::Relaxed);
        reply(
            html,
            &format!(
                "<!doctype html><form><input type=\"hidden\" name=\"csrf_token\" value=\"{token}\"></form>"
            ),
        )
    });
    let first = node.get("/p", "").await;
    assert_eq!(
        first.field("cdn-cache-control"),
        Some("no-store"),
        "the leader's copy is its own"
    );
    tokio::time::sleep(MS).await;
    let second = node.get("/p", "").await;
    assert!(
        second.cache().contains("detail=remembered"),
        "{}",
        second.cache()
    );
    assert_ne!(first.body, second.body);
}

#[tokio::test(start_paused = true)]
async fn who_sent_credentials_never_gets_a_cookie_from_a_shared_fetch() {
    let node = TestNode::new(PAGES, |asked| {
        let who = if asked.contains("sid=alice") {
            "alice"
        } else {
            "guest"
        };
        reply(
            &format!("200 OK\r\nContent-Type: text/html\r\nSet-Cookie: for={who}"),
            who,
        )
    });
    let alice = node.get("/p", "Cookie: sid=alice\r\n").await;
    assert_eq!(
        (alice.field("set-cookie"), alice.body.as_str()),
        (Some("for=alice"), "alice")
    );
    let guest = node.get("/q", "").await;
    assert_eq!(guest.field("set-cookie"), Some("for=guest"));
    assert_eq!(node.node.counts().objects, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_too_large_to_keep_still_reaches_its_leader_whole() {
    let text = PAGES.to_owned() + "object_bytes_max = \"8 KiB\"\n";
    let body = "x".repeat(100 << 10);
    let sized = body.clone();
    let node = TestNode::new(&text, move |asked| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=60\r\n";
        if asked.contains("/chunked") {
            raw(&format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{sized}\r\n0\r\n\r\n",
                sized.len()
            ))
        } else {
            raw(&format!(
                "{head}Content-Length: {}\r\n\r\n{sized}",
                sized.len()
            ))
        }
    });
    assert_eq!(node.get("/sized", "").await.body, body);
    assert_eq!(node.get("/chunked", "").await.body, body);
    assert_eq!(node.node.counts().objects, 0);
}

#[tokio::test(start_paused = true)]
async fn the_store_keeps_to_its_bytes() {
    let text = "version = 1\n[limits]\nstore_bytes_max = \"1 MiB\"\n";
    let node = TestNode::new(text, |_| reply(CSS, &"x".repeat(10 << 10)));
    for n in 0..300 {
        node.get(&format!("/{n}.css"), "").await;
    }
    let counts = node.node.counts();
    assert!(counts.bytes <= 1 << 20, "{counts:?}");
    assert!(counts.objects >= 50, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_ends_what_runs_and_takes_no_more() {
    let node = TestNode::new("", |_| reply("200 OK", "done").after(S));
    let mut client = node.client();
    client.send(&get("/", "")).await;
    tokio::time::sleep(100 * MS).await;
    node.shut_down();
    let answer = client.answer().await;
    assert_eq!(answer.body, "done");
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn max_forwards_is_counted_down_and_ends_here_at_zero() {
    let node = TestNode::new("", |_| reply("200 OK", "ok"));
    let trace = |left: u32| format!("TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {left}\r\n\r\n");
    assert_eq!(node.ask(&trace(3)).await.status, 200);
    assert!(
        node.seen()[0]
            .text
            .to_ascii_lowercase()
            .contains("max-forwards: 2")
    );
    assert_eq!(node.ask(&trace(0)).await.status, 405);
    let answer = node
        .ask("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
        .await;
    assert_eq!(answer.status, 204);
    assert!(answer.field("allow").is_some());
    assert_eq!(node.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_304_or_206_that_nobody_asked_for_is_shown_to_nobody() {
    for head in [
        "304 Not Modified\r\nETag: \"2\"",
        "206 Partial Content\r\nContent-Type: text/css\r\nContent-Range: bytes 0-1/9",
    ] {
        let node = TestNode::new("", move |asked| {
            if asked.contains("x-real-ip") {
                reply(CSS, "from the pass")
            } else {
                raw(&format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n"))
            }
        });
        let answer = node.get("/a.css", "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "from the pass"),
            "{head}"
        );
        assert_eq!(node.node.counts().objects, 0);
    }
}
