//! What is the same for all who may see it, and only some may.

mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shikiri_partition::{Rules, Secret, SecretSource};
use shikiri_record::Mode;
use tokio::time::sleep;

use crate::evidence::last;
use crate::world::{Answer, Reply, TestNode, raw, reply, rules, said};

const S: Duration = Duration::from_secs(1);

const SECRET: &str = "0123456789abcdef-edge";

const FILMS: &str = "version = 1\n[session]\ncookies = [\"sid\"]\n[[class]]\nname = \"films\"\nmatch = { paths = [\"/films/**\"] }\n\
    to = \"gated\"\ntypes = [\"text/css\"]\nquery = [\"q\"]\nlifetime = { default = \"60s\", max = \"1h\" }\n\
    gate = { path = \"/authz{path}?{query}\" }\ncredential = { header = \"X-Edge-Key\", env = \"FILMS\" }\n";

fn armed(policy: &str) -> Rules {
    let secret = Secret::new(SECRET.as_bytes()).unwrap();
    let source = SecretSource::Environment("FILMS".into());
    rules(policy).armed(&BTreeMap::from([(source, secret)]))
}

const FILM: &str = "200 OK\r\nContent-Type: text/css\r\nCache-Control: public, max-age=60\r\nETag: \"f\"\r\nCDN-Cache-Control: max-age=60";

/// An origin that lets alice see everything, and shows films to whoever has the edge's credential.
fn origin(asked: &str) -> Reply {
    let target = asked.split(' ').nth(1).unwrap_or_default();
    let is_edge = asked.contains(&format!("x-edge-key: {SECRET}\r\n"));
    if target.starts_with("/authz/") {
        return if asked.contains("sid=alice") {
            raw("HTTP/1.1 204 No Content\r\nSet-Cookie: sid=alice; Path=/\r\n\r\n")
        } else if asked.contains("sid=bob") {
            reply(
                "403 Forbidden\r\nContent-Type: text/html\r\nCache-Control: public, max-age=60",
                "not for bob",
            )
        } else {
            reply("302 Found\r\nLocation: /login", "")
        };
    }
    if !is_edge {
        return reply("403 Forbidden\r\nContent-Type: text/plain", "not for you");
    }
    match target {
        "/films/private" => reply(
            "200 OK\r\nContent-Type: text/css\r\nCache-Control: private",
            &format!(
                "for {}",
                if asked.contains("sid=alice") {
                    "alice"
                } else {
                    "nobody"
                }
            ),
        ),
        _ => reply(FILM, "0123456789"),
    }
}

fn node() -> TestNode {
    TestNode::with(armed(FILMS), origin)
}

async fn get(node: &TestNode, path: &str, who: &str) -> Answer {
    node.get(path, &format!("Cookie: sid={who}\r\n")).await
}

/// What the origin was asked, a line each: method, target and who asked.
fn asked(node: &TestNode) -> Vec<String> {
    let of = |text: &str| {
        let line = text.split(" HTTP").next().unwrap_or_default().to_owned();
        let who = text
            .split("sid=")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next());
        let edge = if text.contains("x-edge-key") {
            " edge"
        } else {
            ""
        };
        format!("{line} {}{edge}", who.unwrap_or("-"))
    };
    node.seen().iter().map(|seen| of(&seen.text)).collect()
}

#[tokio::test(start_paused = true)]
async fn each_request_is_let_in_by_itself_and_all_share_one_fetch() {
    let node = node();
    for _ in 0..3 {
        let answer = get(&node, "/films/1", "alice").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "0123456789"));
        // It is for its viewer alone beyond us, and the gate's cookies are the viewer's own.
        let control = answer.field("cache-control").unwrap();
        assert!(
            control.contains("private") && !control.contains("public"),
            "{control}"
        );
        assert_eq!(answer.field("cdn-cache-control"), Some("no-store"));
        assert_eq!(answer.field("set-cookie"), Some("sid=alice; Path=/"));
        assert!(!answer.head.to_ascii_lowercase().contains("x-edge-key"));
    }
    let gate = "GET /authz/films/1 alice";
    assert_eq!(asked(&node), [gate, "GET /films/1 - edge", gate, gate]);
    assert!(
        get(&node, "/films/1", "alice")
            .await
            .cache()
            .contains("hit")
    );
    let counts = node.node.counts();
    assert_eq!((counts.gates, counts.gates_shut, counts.hits), (4, 0, 3));
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_see_it_gets_the_origin_s_word_and_nothing_else() {
    let node = node();
    get(&node, "/films/1", "alice").await;
    let bob = get(&node, "/films/1", "bob").await;
    assert_eq!((bob.status, bob.body.as_str()), (403, "not for bob"));
    assert!(bob.field("cache-control").unwrap().contains("private"));
    assert_eq!(bob.field("etag"), None);
    let stranger = node.get("/films/1", "").await;
    assert_eq!(
        (stranger.status, stranger.field("location")),
        (302, Some("/login"))
    );
    // A condition or a range asks for nothing less.
    for lines in ["If-None-Match: \"f\"\r\n", "Range: bytes=0-1\r\n"] {
        let answer = node
            .get("/films/1", &format!("Cookie: sid=bob\r\n{lines}"))
            .await;
        assert_eq!(answer.status, 403, "{lines}");
    }
    // Nobody can show the edge's credential for it.
    let answer = node
        .get(
            "/other",
            &format!("X-Edge-Key: {SECRET}\r\nX_Edge_Key: x\r\n"),
        )
        .await;
    assert_eq!(answer.status, 403);
    let last = node.seen().last().unwrap().text.to_ascii_lowercase();
    assert!(
        !last.contains("edge-key") && !last.contains("edge_key"),
        "{last}"
    );
    assert_eq!(node.node.counts().gates_shut, 4);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_was_taken_back_is_gone_with_the_next_request() {
    let may = Arc::new(AtomicBool::new(true));
    let rights = Arc::clone(&may);
    let node = TestNode::with(armed(FILMS), move |asked| {
        if asked.contains(" /authz/") && !rights.load(Ordering::Relaxed) {
            return reply("403 Forbidden", "");
        }
        origin(asked)
    });
    assert_eq!(get(&node, "/films/1", "alice").await.status, 200);
    may.store(false, Ordering::Relaxed);
    assert_eq!(get(&node, "/films/1", "alice").await.status, 403);
    may.store(true, Ordering::Relaxed);
    assert_eq!(get(&node, "/films/1", "alice").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn conditions_ranges_and_head_are_answered_from_the_object() {
    let node = node();
    for (lines, status, body) in [
        ("", 200, "0123456789"),
        ("If-None-Match: \"f\"\r\n", 304, ""),
        ("Range: bytes=2-4\r\n", 206, "234"),
        ("If-Match: \"x\"\r\n", 412, ""),
    ] {
        let answer = node
            .get("/films/1", &format!("Cookie: sid=alice\r\n{lines}"))
            .await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{lines}"
        );
        let control = answer.field("cache-control").unwrap();
        assert!(control.contains("private"), "{lines} {control}");
        assert_eq!(
            answer.field("cdn-cache-control"),
            Some("no-store"),
            "{lines}"
        );
    }
    let head = "HEAD /films/1 HTTP/1.1\r\nHost: site.test\r\nCookie: sid=alice\r\nConnection: close\r\n\r\n";
    let mut client = node.client();
    client.send(head).await;
    let rest = client.rest().await;
    assert!(
        rest.starts_with("HTTP/1.1 200") && rest.ends_with("\r\n\r\n"),
        "{rest}"
    );
    // The gate was asked for neither part nor condition.
    for seen in node
        .seen()
        .iter()
        .filter(|seen| seen.text.contains(" /authz/"))
    {
        let text = seen.text.to_ascii_lowercase();
        assert!(!text.contains("range:") && !text.contains("if-"), "{text}");
        assert!(text.starts_with("get "));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_gate_is_asked_is_what_is_fetched() {
    let node = node();
    get(&node, "/films/1?q=2&other=3", "alice").await;
    assert_eq!(
        asked(&node),
        ["GET /authz/films/1?q=2 alice", "GET /films/1?q=2 - edge"]
    );
    // Paths that could be read in two ways are nobody's, and the origin is not shown the credential.
    for path in [
        "/films/..%2fsecret",
        "/films//1",
        "/films/1;x",
        "/films/?q=1&q=2",
    ] {
        let answer = get(&node, path, "alice").await;
        assert_eq!(answer.status, 403, "{path}");
        let last = asked(&node).pop().unwrap();
        assert!(!last.contains("authz") && !last.contains("edge"), "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_fails_or_is_silent_stays_shut() {
    for (gate, status, body) in [
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno",
            502,
            "502 Bad Gateway: gate-failed\n",
        ),
        (
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            502,
            "502 Bad Gateway: gate-failed\n",
        ),
        (
            "no HTTP at all\r\n\r\n",
            502,
            "502 Bad Gateway: origin-no-response\n",
        ),
    ] {
        let node = TestNode::with(armed(FILMS), move |asked| {
            if asked.contains(" /authz/") {
                raw(gate)
            } else {
                origin(asked)
            }
        });
        let answer = get(&node, "/films/1", "alice").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{gate}"
        );
        assert_eq!(node.asked(), 1, "nothing was fetched");
    }
    let node = TestNode::with(armed(FILMS), |asked| {
        if asked.contains(" /authz/") {
            origin(asked).after(90 * S)
        } else {
            origin(asked)
        }
    });
    assert_eq!(get(&node, "/films/1", "alice").await.status, 504);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_gate_is_waiting_for_one_s_own() {
    let node = TestNode::with(armed(FILMS), |asked| origin(asked).after(S));
    let (alice, bob) = tokio::join!(get(&node, "/films/1", "alice"), async {
        sleep(S / 2).await;
        get(&node, "/films/1", "bob").await
    });
    assert_eq!((alice.status, bob.status), (200, 403));
    let gates = asked(&node)
        .iter()
        .filter(|line| line.contains("authz"))
        .count();
    assert_eq!(gates, 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_shared_goes_on_as_itself_with_the_edge_s_credential() {
    let node = node();
    let answer = get(&node, "/films/private", "alice").await;
    assert_eq!(answer.body, "for alice");
    assert_eq!(
        asked(&node),
        [
            "GET /authz/films/private alice",
            "GET /films/private - edge",
            "GET /films/private alice edge"
        ]
    );
    assert_eq!(get(&node, "/films/private", "bob").await.status, 403);
    // In `pass` nothing is shared, and members see it all the same.
    node.node.take_mode(Mode::Pass, None, &said()).unwrap();
    let answer = get(&node, "/films/1", "alice").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "0123456789"));
    assert_eq!(get(&node, "/films/1", "bob").await.status, 403);
    assert_eq!(node.node.counts().hits, 0);
}

#[tokio::test(start_paused = true)]
async fn static_shares_it_where_the_class_is_of_files() {
    let films = FILMS.replace("to = \"gated\"", "to = \"gated\"\nstatic = true");
    let node = TestNode::with(armed(&films), origin);
    node.node.take_mode(Mode::Static, None, &said()).unwrap();
    get(&node, "/films/1", "alice").await;
    assert!(
        get(&node, "/films/1", "alice")
            .await
            .cache()
            .contains("hit")
    );
    assert_eq!(get(&node, "/films/1", "bob").await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn another_secret_is_another_class_and_none_shares_nothing() {
    let node = node();
    get(&node, "/films/1", "alice").await;
    let other = Secret::new(b"another-secret-fedcba98").unwrap();
    let source = SecretSource::Environment("FILMS".into());
    node.reload(rules(FILMS).armed(&BTreeMap::from([(source, other)])));
    // The origin does not know it.
    assert_eq!(get(&node, "/films/1", "alice").await.status, 403);
    node.reload(rules(FILMS));
    let before = node.asked();
    assert_eq!(get(&node, "/films/1", "alice").await.status, 403);
    let since = &asked(&node)[before..];
    assert_eq!(since, ["GET /films/1 alice"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_bore_the_credential_or_asked_a_gate_carries_nothing_else() {
    let pages = "[[class]]\nname = \"pages\"\nmatch = { paths = [\"/open/**\"] }\nto = \"everyone\"\ntypes = [\"text/css\"]\n";
    let node = TestNode::with(armed(&format!("{FILMS}{pages}")), |asked| {
        if asked.starts_with("GET /open/") || asked.starts_with("GET /account") {
            reply(FILM, "open")
        } else {
            origin(asked)
        }
    });
    let mut client = node.client();
    for path in [
        "/account", "/films/1", "/account", "/films/2", "/films/1", "/open/1", "/open/2",
    ] {
        client
            .send(&crate::world::get(path, "Cookie: sid=alice\r\n"))
            .await;
        client.answer().await;
        sleep(2 * S).await;
    }
    let on = |target: &str| {
        let mut on: Vec<u64> = node
            .seen()
            .iter()
            .filter(|seen| seen.text.split(' ').nth(1) == Some(target))
            .map(|seen| seen.connection)
            .collect();
        on.dedup();
        on
    };
    let all = [
        ("/account", 1),
        // A question has a connection of its own, though it is the same again.
        ("/authz/films/1", 2),
        ("/authz/films/2", 1),
        ("/films/1", 1),
        ("/films/2", 1),
    ];
    for (target, connections) in all {
        assert_eq!(on(target).len(), connections, "{target}");
        for (other, _) in all.iter().filter(|(other, _)| *other != target) {
            assert!(
                on(target).iter().all(|one| !on(other).contains(one)),
                "{target} {other}"
            );
        }
    }
    // As for what everybody may see.
    assert_eq!(on("/open/1"), on("/open/2"));
}

#[tokio::test(start_paused = true)]
async fn no_header_has_a_gate_asked_about_something_else() {
    let node = node();
    let lines = "Cookie: sid=alice\r\nX-Original-URL: /films/private\r\nX_Rewrite_URL: /films/private\r\n\
        X-HTTP-Method-Override: DELETE\r\nCache-Control: no-store\r\n";
    assert_eq!(node.get("/films/1", lines).await.status, 200);
    assert_eq!(
        asked(&node),
        ["GET /authz/films/1 alice", "GET /films/1 alice edge"]
    );
    for seen in node.seen() {
        let text = seen.text.to_ascii_lowercase();
        assert!(
            !text.contains("original") && !text.contains("rewrite") && !text.contains("override"),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stale_copy_may_stand_in_for_a_gate_may_not() {
    let films = FILMS.replace(
        "max = \"1h\"",
        "max = \"1h\", stale_while_revalidate = \"1h\", stale_if_error = \"1h\"",
    );
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let node = TestNode::with(armed(&films), move |asked| {
        if failing.load(Ordering::Relaxed) {
            return reply("503 Service Unavailable", "");
        }
        origin(asked)
    });
    get(&node, "/films/1", "alice").await;
    sleep(90 * S).await;
    // Stale now, and shown at once to whoever may see it; to nobody else.
    assert_eq!(get(&node, "/films/1", "bob").await.status, 403);
    assert!(last(&node).0.starts_with("pass gate-shut films GET 403"));
    assert_eq!(get(&node, "/films/1", "alice").await.status, 200);
    assert!(last(&node).0.starts_with("stale while-revalidating films"));
    sleep(90 * S).await;
    fails.store(true, Ordering::Relaxed);
    let answer = get(&node, "/films/1", "alice").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (502, "502 Bad Gateway: gate-failed\n")
    );
}

#[tokio::test(start_paused = true)]
async fn an_interim_or_switching_gate_is_no_yes() {
    for (gate, status) in [
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            403,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            502,
        ),
        ("HTTP/1.1 200", 502),
        ("", 502),
    ] {
        let node = TestNode::with(armed(FILMS), move |asked| {
            if asked.contains(" /authz/") {
                raw(gate).closing()
            } else {
                origin(asked)
            }
        });
        get(&node, "/films/1", "alice").await;
        let answer = get(&node, "/films/1", "alice").await;
        assert_eq!(answer.status, status, "{gate}");
        assert!(asked(&node).iter().all(|line| line.contains("/authz/")));
    }
}

#[tokio::test(start_paused = true)]
async fn rows_say_who_was_let_in_and_who_was_not() {
    let node = node();
    for (who, words) in [
        ("alice", "fill  films GET 200 fill"),
        ("alice", "hit  films GET 200 fill"),
        ("bob", "pass gate-shut films GET 403"),
    ] {
        get(&node, "/films/1", who).await;
        assert_eq!(last(&node).0, words, "{who}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_names_its_viewer_as_any_answer_does() {
    let pins = "[pins]\naction = \"stop\"\n";
    let node = TestNode::with(armed(&format!("{FILMS}{pins}")), |asked| {
        if asked.contains(" /authz/") && asked.contains("sid=alice") {
            let viewer = if asked.contains("mixed") {
                "bob"
            } else {
                "alice"
            };
            return raw(&format!(
                "HTTP/1.1 204 No Content\r\nShikiri-Viewer: {viewer}\r\n\r\n"
            ));
        }
        origin(asked)
    });
    for _ in 0..2 {
        assert_eq!(get(&node, "/films/1", "alice").await.status, 200);
    }
    let mixed = node
        .get("/films/1", "Cookie: sid=alice\r\nX-Mixed: mixed\r\n")
        .await;
    assert_eq!(
        (mixed.status, mixed.body.as_str()),
        (502, "502 Bad Gateway: wrong-viewer\n")
    );
    assert_eq!(node.node.counts().pin_faults, 1);
}

async fn get_lines(node: &TestNode, target: &str, lines: &str) -> Answer {
    node.get(target, &format!("Cookie: sid=alice\r\n{lines}"))
        .await
}

#[tokio::test(start_paused = true)]
async fn the_edge_s_credential_goes_with_nothing_that_its_gate_was_not_asked_about() {
    let target = "/films/1?q=free&+q=paid&q[]=paid&Q=paid&file=other";
    let expected = [
        "GET /authz/films/1?q=free alice",
        "GET /films/1?q=free alice edge",
    ];
    let node = node();
    get_lines(&node, target, "Cache-Control: no-store\r\n").await;
    assert_eq!(asked(&node), expected, "no-store");
    node.node.take_mode(Mode::Pass, None, &said()).unwrap();
    get_lines(&node, target, "").await;
    assert_eq!(asked(&node)[2..], expected, "in the mode pass");
    // What the origin forbids to share, at once and once it is remembered.
    let node = TestNode::with(armed(FILMS), origin);
    for asks in [3, 5] {
        get(&node, "/films/private?q[]=2", "alice").await;
        assert_eq!(node.asked(), asks);
        let last = asked(&node).pop().unwrap();
        assert_eq!(last, "GET /films/private alice edge");
    }
}

#[tokio::test(start_paused = true)]
async fn the_question_and_the_fetch_are_of_one_site() {
    let node = node();
    let lines = "X-Forwarded-Host: other.test\r\nForwarded: host=other.test\r\nX-Host: other.test\r\n\
        X-Forwarded-Server: other.test\r\nX-Forwarded-Prefix: /other.test\r\nX-Forwarded-Port: 1\r\n";
    for more in ["", "Cache-Control: no-store\r\n"] {
        let answer = get_lines(&node, "/films/1", &format!("{lines}{more}")).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(node.asked(), 4);
    for seen in node.seen() {
        let text = seen.text.to_ascii_lowercase();
        assert!(
            !text.contains("other.test") && !text.contains("x-forwarded-port"),
            "{text}"
        );
        assert!(text.contains("x-forwarded-host: site.test\r\n"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn whom_a_gate_names_is_in_the_row_of_what_is_shown() {
    let pinned = |pins: &str| {
        TestNode::with(armed(&format!("{FILMS}[pins]\n{pins}")), |asked| {
            if asked.contains(" /authz/") {
                let mixed = asked.contains("mixed");
                let viewer = if mixed { "bob" } else { "alice" };
                return raw(&format!(
                    "HTTP/1.1 204 No Content\r\nShikiri-Viewer: {viewer}\r\n\r\n"
                ));
            }
            origin(asked)
        })
    };
    for (more, words) in [
        ("", "hit wrong-viewer films GET 200 fill"),
        (
            "Cache-Control: no-store\r\n",
            "pass wrong-viewer films GET 200",
        ),
    ] {
        let node = pinned("action = \"record\"\n");
        for _ in 0..2 {
            get(&node, "/films/1", "alice").await;
        }
        get_lines(&node, "/films/1", &format!("X-Mixed: mixed\r\n{more}")).await;
        assert_eq!(last(&node).0, words);
    }
    // What is only recorded may leave; a yes that counts towards a trip is none.
    let node = pinned("trip = { viewers = 3, within = \"60s\", mode = \"pass\" }\n");
    get(&node, "/films/1", "alice").await;
    let mixed = get_lines(&node, "/films/1", "X-Mixed: mixed\r\n").await;
    assert_eq!(mixed.status, 502);
}

/// A node whose gate says this, raw, to everybody; what is behind it is an ordinary film.
fn saying(policy: &str, gate: &'static str) -> TestNode {
    TestNode::with(armed(policy), move |asked| {
        if asked.contains(" /authz/") {
            raw(gate).closing()
        } else {
            origin(asked)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn only_a_whole_yes_opens() {
    const LONG: &str = concat!(
        "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n",
        "the rest never comes"
    );
    for (gate, opens) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
            true,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes", true),
        // Broken off, broken, without an end, with two.
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nyes", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nyes", false),
        (LONG, false),
        // A part, which nobody asked for.
        (
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nyes",
            false,
        ),
    ] {
        let node = saying(FILMS, gate);
        let answer = get(&node, "/films/1", "alice").await;
        assert_eq!(answer.status, if opens { 200 } else { 502 }, "{gate}");
        assert_eq!(node.asked(), 1 + usize::from(opens), "{gate}");
        assert_eq!(node.node.counts().gates_shut, u64::from(!opens), "{gate}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_is_read_to_its_end_and_no_further_than_a_bound() {
    for (bytes, status) in [(1 << 20, 200), ((1 << 20) + 1, 502)] {
        let node = TestNode::with(armed(FILMS), move |asked| {
            if asked.contains(" /authz/") {
                reply("200 OK", &"x".repeat(bytes))
            } else {
                origin(asked)
            }
        });
        let answer = get(&node, "/films/1", "alice").await;
        assert_eq!(answer.status, status, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn gates_have_a_time_and_a_number_of_their_own() {
    let limited = |limit: &str| format!("{FILMS}[limits]\n{limit}\n");
    let slow = |policy: &str| {
        TestNode::with(armed(policy), |asked| {
            if asked.contains(" /authz/") {
                origin(asked).after(4 * S)
            } else {
                origin(asked)
            }
        })
    };
    for (limit, status, body) in [
        (
            "gate_time_max = \"3s\"",
            504,
            "504 Gateway Timeout: gate-time\n",
        ),
        ("gate_time_max = \"5s\"", 200, "0123456789"),
    ] {
        let node = slow(&limited(limit));
        let answer = get(&node, "/films/1", "alice").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{limit}"
        );
    }
    // A yes whose end does not come is none, either.
    let unending = |asked: &str| {
        if asked.contains(" /authz/") {
            raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes")
        } else {
            origin(asked)
        }
    };
    let node = TestNode::with(armed(&limited("gate_time_max = \"3s\"")), unending);
    assert_eq!(get(&node, "/films/1", "alice").await.status, 504);
    // One at a time: the second is told to come again, and when the first is done anybody may ask.
    let node = slow(&limited("gates_max = 1"));
    let (first, second) = tokio::join!(get(&node, "/films/1", "alice"), async {
        sleep(S).await;
        get(&node, "/films/1", "alice").await
    });
    assert_eq!(first.status, 200);
    assert_eq!(
        (second.status, second.body.as_str()),
        (503, "503 Service Unavailable: gates-busy\n")
    );
    assert_eq!(second.field("retry-after"), Some("5"));
    assert_eq!(get(&node, "/films/1", "alice").await.status, 200);
    assert_eq!(node.node.counts().gates, 2);
}

/// What is shared less while a gate is asked.
#[derive(Clone, Copy, Debug)]
enum Less {
    Nothing,
    Pass,
    Static,
    Purged,
    OtherRules,
    Closed,
}

#[tokio::test(start_paused = true)]
async fn what_is_shared_less_while_a_gate_is_asked_holds_for_who_asked() {
    for (less, row) in [
        (Less::Nothing, "hit  films GET 200 fill"),
        (Less::Pass, "pass mode-lowered films GET 200"),
        (Less::Static, "pass mode-lowered films GET 200"),
        (Less::Purged, "pass rules-changed films GET 200"),
        (Less::OtherRules, "pass rules-changed films GET 200"),
        (Less::Closed, ""),
    ] {
        let node = TestNode::with(armed(FILMS), |asked| {
            if asked.contains(" /authz/") {
                origin(asked).after(2 * S)
            } else {
                origin(asked)
            }
        });
        get(&node, "/films/1", "alice").await;
        let hits = node.node.counts().hits;
        let mut client = node.client();
        let lines = "Cookie: sid=alice\r\nConnection: close\r\n";
        client.send(&crate::world::get("/films/1", lines)).await;
        sleep(S).await;
        match less {
            Less::Nothing => {}
            Less::Pass => drop(node.node.take_mode(Mode::Pass, None, &said()).unwrap()),
            Less::Static => drop(node.node.take_mode(Mode::Static, None, &said()).unwrap()),
            Less::Purged => node.purge_all(),
            Less::OtherRules => node.reload(armed(&FILMS.replace("60s", "50s"))),
            Less::Closed => drop(node.node.take_mode(Mode::Closed, None, &said()).unwrap()),
        }
        let answer = client.rest().await;
        if row.is_empty() {
            // Closed: what runs is cut, and nothing of it has left.
            assert!(!answer.contains("0123456789"), "{answer}");
            continue;
        }
        assert!(answer.ends_with("0123456789"), "{less:?} {answer}");
        assert_eq!(last(&node).0, row, "{less:?}");
        let shared = usize::from(matches!(less, Less::Nothing));
        assert_eq!(node.node.counts().hits - hits, shared as u64, "{less:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cookies_of_a_gate_come_first_and_with_a_failure_too() {
    let sets =
        "HTTP/1.1 204 No Content\r\nSet-Cookie: sid=next; Path=/\r\nSet-Cookie: seen=1\r\n\r\n";
    let behind = |fails: bool| {
        move |asked: &str| {
            if asked.contains(" /authz/") {
                return raw(sets);
            }
            if fails {
                return raw("").closing();
            }
            reply(
                "200 OK\r\nContent-Type: text/css\r\nCache-Control: private\r\nSet-Cookie: seen=2\r\nSet-Cookie: of=film",
                "film",
            )
        }
    };
    let cookies = |answer: &Answer| -> Vec<String> {
        let lines = answer.head.lines();
        let set = lines.filter_map(|line| line.split_once(": "));
        set.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .map(|(_, value)| value.to_owned())
            .collect()
    };
    // A pass: what it sets again it sets alone, after what the gate sets.
    let node = TestNode::with(armed(FILMS), behind(false));
    let answer = get(&node, "/films/1", "alice").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "film"));
    assert_eq!(cookies(&answer), ["sid=next; Path=/", "seen=2", "of=film"]);
    // No film, by a fetch or by a pass: the session is turned over all the same, and a row says so.
    for lines in [
        "",
        "Cache-Control: no-store\r\n",
        "Cache-Control: only-if-cached\r\n",
    ] {
        let node = TestNode::with(armed(FILMS), behind(true));
        let answer = get_lines(&node, "/films/1", lines).await;
        assert_eq!(cookies(&answer), ["sid=next; Path=/", "seen=1"], "{lines}");
        let (status, why) = if lines.contains("only-if-cached") {
            (504, "only-if-cached")
        } else {
            (502, "origin-no-response")
        };
        assert_eq!(answer.status, status, "{lines}");
        assert!(answer.body.contains(why), "{lines} {}", answer.body);
        assert_eq!(last(&node).0, format!("pass {why} films GET {status}"));
        let counts = node.node.counts();
        assert_eq!((counts.rows, counts.own), (1, 0), "{lines}");
    }
    // A gate that sets none leaves the node's own words, which have no row.
    let node = TestNode::with(armed(FILMS), |asked| {
        if asked.contains(" /authz/") {
            raw("HTTP/1.1 204 No Content\r\n\r\n")
        } else {
            raw("").closing()
        }
    });
    assert_eq!(get(&node, "/films/1", "alice").await.status, 502);
    let counts = node.node.counts();
    assert_eq!((counts.rows, counts.own), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn no_trailer_brings_the_edge_s_credential() {
    let node = TestNode::with(armed(FILMS), |_| reply("200 OK", "ok"));
    let mut client = node.client();
    client
        .send(
            "POST /other HTTP/1.1\r\nHost: site.test\r\nTrailer: X-Sum, X-Edge-Key, X_Edge_Key\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n1\r\nx\r\n0\r\nX-Edge-Key: forged\r\nX_Edge_Key: forged\r\nX-Sum: 1\r\n\r\n",
        )
        .await;
    let rest = client.rest().await;
    assert!(rest.starts_with("HTTP/1.1 200"), "{rest}");
    let seen = node.seen().last().unwrap().text.to_ascii_lowercase();
    // Others go on.
    assert!(seen.contains("x-sum: 1\r\n"), "{seen}");
    assert!(!seen.contains("forged"), "{seen}");
}
