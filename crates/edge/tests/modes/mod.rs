//! Modes: what each shows, what closing cuts, what a preview sees, and what is on the timeline before it
//! takes effect.

mod changes;
mod hanging;
mod labels;
mod two_days;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shikiri_edge::maintenance::{Page, zone};
use shikiri_edge::{Closed, Maintenance, Transport};
use shikiri_partition::Exceptions;
use shikiri_record::{GrantToken, Mode};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::world::{Answer, CLIENT, TestNode, get, raw, reply, said};
use crate::{CSS, PAGES, S};

impl TestNode {
    async fn take(&self, mode: Mode) -> Option<Closed> {
        let taken = self.node.change_mode(mode, None, &said()).await;
        taken.expect("the timeline can be written").closed
    }

    async fn close(&self) -> Closed {
        self.take(Mode::Closed).await.expect("it was closed")
    }

    fn preview(&self, mode: Mode, time: Duration) -> GrantToken {
        let made = self.node.make_grant("review", mode, time, &said());
        made.expect("the timeline can be written").1
    }
}

/// The header line of a token.
fn shown(token: &GrantToken) -> String {
    format!("Shikiri-Preview: {}\r\n", token.reveal())
}

/// Whether it is the maintenance page, and nothing else of anybody's.
fn is_page(answer: &Answer) -> bool {
    answer.status == 503
        && answer.field("cache-control") == Some("no-store")
        && answer.field("retry-after").is_some()
        && answer.field("cache-status").is_none()
        && answer.field("via").is_none()
        && answer.field("set-cookie").is_none()
}

/// A pass whose body goes on for long.
fn endless() -> crate::world::Reply {
    let mut reply = raw(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
         Transfer-Encoding: chunked\r\n\r\n6\r\ndata:\n\r\n",
    );
    reply.ticks = 100;
    reply
}

#[tokio::test(start_paused = true)]
async fn what_each_mode_shares() {
    let policy = format!(
        "{PAGES}static = false\n[[class]]\nname = \"media\"\nmatch = {{ paths = [\"/m/**\"] }}\n"
    );
    // The page class claims all but what the policy puts before it.
    let policy = policy.replace("paths = [\"/**\"]", "paths = [\"/p/**\"]");
    let node = TestNode::new(&policy, |_| reply(CSS, "body{}"));
    for (mode, pages, files) in [
        (Mode::Open, true, true),
        (Mode::Static, false, true),
        (Mode::Pass, false, false),
        (Mode::Open, true, true),
    ] {
        node.take(mode).await;
        for (path, shared) in [("/p/1", pages), ("/a.css", files)] {
            node.get(path, "").await;
            let again = node.get(path, "").await;
            assert_eq!(
                again.cache().contains("; hit"),
                shared,
                "{mode} {path}: {}",
                again.cache()
            );
            let why = match mode {
                Mode::Pass => "detail=mode-pass",
                _ => "detail=mode-static",
            };
            assert_eq!(
                again.cache().contains(why),
                !shared,
                "{mode} {path}: {}",
                again.cache()
            );
        }
    }
    node.close().await;
    let before = node.asked();
    for path in ["/p/1", "/a.css", "/account"] {
        assert!(is_page(&node.get(path, "").await), "{path}");
    }
    assert_eq!(node.asked(), before, "no origin is asked");
}

#[tokio::test(start_paused = true)]
async fn a_closed_site_shows_its_page_to_whatever_is_asked() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.get("/a.css", "").await;
    node.close().await;
    for (request, body) in [
        (get("/a.css", ""), true),
        (get("/a.css", "If-None-Match: \"1\"\r\n"), true),
        (get("/a.css", "Range: bytes=0-1\r\n"), true),
        (get("/a.css", "Cookie: sid=alice\r\n"), true),
        (
            get("/", "Upgrade: websocket\r\nConnection: upgrade\r\n"),
            true,
        ),
        (get("/", "").replacen("GET", "OPTIONS", 1), true),
        (get("/", "").replacen("GET", "DELETE", 1), true),
        (get("/", "").replacen("HTTP/1.1", "HTTP/1.0", 1), true),
        (
            get("/", "Host: other.test\r\n").replacen("Host: site.test\r\n", "", 1),
            true,
        ),
        // Its body is not waited for.
        (
            get("/", "Content-Length: 1000000\r\n").replacen("GET", "POST", 1),
            true,
        ),
        (
            get("/", "Expect: 100-continue\r\nContent-Length: 9\r\n").replacen("GET", "PUT", 1),
            true,
        ),
    ] {
        let answer = node.ask(&request).await;
        assert!(is_page(&answer), "{request}{}", answer.head);
        assert_eq!(answer.body.contains("maintenance"), body, "{request}");
    }
    let mut client = node.client();
    client.send(&get("/", "").replacen("GET", "HEAD", 1)).await;
    client.send(&get("/", "Connection: close\r\n")).await;
    let both = client.rest().await;
    assert_eq!(both.matches("HTTP/1.1 503").count(), 2);
    assert_eq!(both.matches("<!doctype").count(), 1, "HEAD has no body");
    // What frames in two ways is refused, also here.
    assert_eq!(
        node.ask(&get("/", "Content-Length: 1\r\nContent-Length: 2\r\n"))
            .await
            .status,
        400
    );
    assert_eq!(node.asked(), 1);
    let counts = node.node.counts();
    assert_eq!((counts.closed, counts.hits), (13, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_cuts_whatever_runs() {
    let node = TestNode::new("", |asked| {
        if asked.starts_with("GET /download") {
            // A download whose length is told, of which half comes.
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: private\r\n";
            return raw(&format!(
                "{head}Content-Length: 60000\r\n\r\n{}",
                "x".repeat(30_000)
            ));
        }
        if asked.starts_with("GET /big.css") {
            let text = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: 60000\r\n\r\n{}",
                "x".repeat(30_000)
            );
            return raw(&text);
        }
        if asked.starts_with("GET /slow.css") {
            return reply(CSS, "late").after(60 * S);
        }
        endless()
    });
    for (case, request) in [
        ("a download", get("/download", "")),
        ("a shared fill", get("/big.css", "")),
        ("an event stream", get("/events", "")),
        (
            "a body that ends with its connection",
            get("/events", "").replacen("/1.1", "/1.0", 1),
        ),
        ("a request that is not answered yet", get("/slow.css", "")),
    ] {
        node.take(Mode::Open).await;
        let mut client = node.client();
        client.send(&request).await;
        tokio::time::sleep(2 * S).await;
        let idle = node.client();
        let closed = node.close().await;
        assert_eq!(
            (closed.cut.connections, closed.cut.streams),
            (1, 1),
            "{case}"
        );
        assert!(closed.took < S && closed.behind == 0, "{case}: {closed:?}");
        assert!(
            client.reset.load(Ordering::SeqCst),
            "{case}: an end that looks like one"
        );
        let rest = timeout(S, client.rest()).await.expect(case);
        assert!(!rest.ends_with("0\r\n\r\n"), "{case}");
        assert!(
            !idle.reset.load(Ordering::SeqCst),
            "{case}: what carried nothing stays"
        );
        drop(idle);
    }
    let counts = node.node.counts();
    assert_eq!(counts.running, 0);
    // The fill that went on is told to nobody, and not stored.
    tokio::time::sleep(120 * S).await;
    assert_eq!(node.node.counts().objects, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_and_not_yet_read_is_cut_too() {
    let node = TestNode::new("", |_| reply(CSS, &"x".repeat(100_000)));
    let mut client = node.client_with(1000);
    client.send(&get("/a.css", "")).await;
    // The node has long handed all of it to the connection.
    tokio::time::sleep(10 * S).await;
    assert_eq!(node.node.counts().objects, 1);
    let closed = node.close().await;
    assert_eq!(closed.cut.connections, 1);
    let rest = client.rest().await;
    assert!(
        rest.len() <= 1000 && client.reset.load(Ordering::SeqCst),
        "{}",
        rest.len()
    );
}

#[tokio::test(start_paused = true)]
async fn closing_cuts_streams_of_http_2() {
    let node = TestNode::new("", |_| endless());
    let (mut requests, connection) =
        h2::client::handshake(node.wire(Transport::plain_http2(CLIENT)))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let request = http::Request::get("http://site.test/events");
        let (response, _) = requests
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        bodies.push(response.into_body());
    }
    let closed = node.close().await;
    assert_eq!((closed.cut.connections, closed.cut.streams), (1, 3));
    drop(timeout(S, connection).await.expect("it has ended"));
    for mut body in bodies {
        let mut last = body.data().await;
        while let Some(Ok(_)) = last {
            last = body.data().await;
        }
        assert!(last.is_some(), "an end that looks like one");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_fill_of_a_higher_mode_goes_on_alone() {
    let node = Arc::new(TestNode::new("", |_| reply(CSS, "body{}").after(5 * S)));
    let ask = |n: u32| {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.get("/a.css", &format!("X-Nth: {n}\r\n")).await })
    };
    let (leads, waits) = (ask(1), ask(2));
    tokio::time::sleep(S).await;
    assert_eq!(node.asked(), 1);
    node.take(Mode::Pass).await;
    let (leads, waits) = (leads.await.unwrap(), waits.await.unwrap());
    assert_eq!((leads.status, waits.status), (200, 200));
    assert_eq!(node.asked(), 2, "the fill's answer went to one alone");
    assert!(waits.cache().contains("detail=waited"), "{}", waits.cache());
    node.take(Mode::Open).await;
    let after = node.get("/a.css", "").await;
    assert!(
        !after.cache().contains("; hit"),
        "what it brought was not stored"
    );
}

#[tokio::test(start_paused = true)]
async fn a_preview_sees_what_nobody_else_is_shown() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.close().await;
    let token = node.preview(Mode::Open, 600 * S);
    let granted = shown(&token);
    for expected in ["fwd=uri-miss", "; hit"] {
        let answer = node.get("/a.css", &granted).await;
        assert!(answer.cache().contains(expected), "{}", answer.cache());
    }
    assert!(
        node.get("/account", &granted)
            .await
            .cache()
            .contains("no-class")
    );
    for seen in node.seen() {
        let text = seen.text.to_ascii_lowercase();
        assert!(
            !text.contains("preview") && !text.contains(&token.reveal()),
            "{text}"
        );
    }
    // Neither another preview, nor anybody later, is served from what this one filled.
    let other = shown(&node.preview(Mode::Open, 600 * S));
    assert!(
        node.get("/a.css", &other)
            .await
            .cache()
            .contains("fwd=uri-miss")
    );
    assert!(is_page(&node.get("/a.css", "").await));
    node.take(Mode::Open).await;
    assert!(
        node.get("/a.css", "")
            .await
            .cache()
            .contains("fwd=uri-miss")
    );
    // In a mode as high as its own it is nobody.
    assert!(node.get("/a.css", &granted).await.cache().contains("; hit"));
    node.take(Mode::Pass).await;
    assert!(
        node.get("/a.css", &granted).await.cache().contains("; hit"),
        "its own copy"
    );
    assert!(node.get("/a.css", "").await.cache().contains("mode-pass"));
    tokio::time::sleep(600 * S).await;
    assert!(
        node.get("/a.css", &granted)
            .await
            .cache()
            .contains("mode-pass"),
        "it is over"
    );
}

#[tokio::test(start_paused = true)]
async fn a_preview_that_is_false_over_or_revoked_opens_nothing() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.close().await;
    let token = node.preview(Mode::Static, 600 * S);
    let text = token.reveal();
    let mut forged = text.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == '0' { '1' } else { '0' });
    for lines in [
        format!("Shikiri-Preview: {forged}\r\n"),
        "Shikiri-Preview: x\r\n".into(),
        format!("Shikiri_Preview: {text}\r\n"),
        format!("Cookie: shikiri-preview={text}\r\n"),
        format!("X: {text}\r\n"),
    ] {
        assert!(is_page(&node.get("/a.css", &lines).await), "{lines}");
    }
    let cookie = format!("Cookie: a=1; __Host-shikiri-preview={text}\r\n");
    assert_eq!(node.get("/a.css", &cookie).await.status, 200);
    assert!(
        node.get("/account", &cookie)
            .await
            .cache()
            .contains("no-class")
    );
    let passed = node.seen().pop().unwrap().text.to_ascii_lowercase();
    assert!(
        passed.contains("cookie: a=1\r\n") && !passed.contains("preview"),
        "{passed}"
    );
    let id = node.node.live_grants()[0].id;
    node.node.revoke_grant(id, &said()).expect("it was there");
    assert!(is_page(&node.get("/a.css", &cookie).await));
    assert!(node.node.revoke_grant(id, &said()).is_none());
    for (name, mode, time) in [
        ("", Mode::Open, 60 * S),
        ("a\nb", Mode::Open, 60 * S),
        ("review", Mode::Closed, 60 * S),
        ("review", Mode::Open, Duration::ZERO),
        ("review", Mode::Open, 86_401 * S),
    ] {
        assert!(
            node.node.make_grant(name, mode, time, &said()).is_err(),
            "{name} {mode} {time:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_nodes_own_path_gives_the_cookie_for_a_true_token() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    let token = node.preview(Mode::Open, 600 * S).reveal();
    let post = |body: &str| {
        let length = body.len();
        let head = format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"
        );
        get("/.well-known/shikiri-preview", &head).replacen("GET", "POST", 1) + body
    };
    for mode in [Mode::Open, Mode::Closed] {
        node.take(mode).await;
        let form = node.get("/.well-known/shikiri-preview", "").await;
        assert!(form.status == 200 && form.body.contains("<form method=\"post\""));
        assert_eq!(form.field("cache-control"), Some("no-store"));
        let given = node.ask(&post(&format!("grant={token}"))).await;
        assert_eq!((given.status, given.field("location")), (303, Some("/")));
        let cookie = given.field("set-cookie").unwrap();
        assert_eq!(
            cookie,
            format!(
                "__Host-shikiri-preview={token}; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax"
            )
        );
        for wrong in [
            "",
            "grant=",
            "grant=x",
            &format!("x{token}"),
            &"x".repeat(2000),
        ] {
            let refused = node.ask(&post(wrong)).await;
            assert!(matches!(refused.status, 403 | 413) && refused.field("set-cookie").is_none());
        }
    }
    assert_eq!(node.asked(), 0, "it is the node's own, whatever the mode");
}

#[tokio::test(start_paused = true)]
async fn a_preview_goes_on_when_the_site_is_closed_around_it() {
    let node = TestNode::new("", |_| endless());
    let granted = shown(&node.preview(Mode::Open, 600 * S));
    node.take(Mode::Pass).await;
    let mut client = node.client();
    client.send(&get("/events", &granted)).await;
    tokio::time::sleep(S).await;
    let closed = node.close().await;
    assert_eq!(closed.cut.connections, 0);
    tokio::time::sleep(25 * S).await;
    assert!(!client.reset.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn exceptions_pass_a_closed_site_and_are_not_shared() {
    let node = TestNode::new("", |_| reply(CSS, "well"));
    let exceptions = Exceptions::new(&["/healthz".into(), "/x/*.css".into()]).unwrap();
    let page = Page::parse("<p>{{#reopening}}{{reopening_iso}}{{/reopening}}").unwrap();
    let utc = zone("UTC").unwrap();
    node.node
        .show_when_closed(Maintenance::new(page, utc, 90 * S, exceptions));
    let reopening = node.node.now().after(3600 * S);
    let why = said();
    let taken = node.node.change_mode(Mode::Closed, Some(reopening), &why);
    taken.await.unwrap();
    for path in ["/healthz", "/x/a.css", "/x/a.css"] {
        let answer = node.get(path, "").await;
        assert_eq!(answer.body, "well", "{path}");
        assert!(
            !answer.cache().contains("hit") && !answer.cache().contains("stored"),
            "{path}"
        );
    }
    let answer = node.get("/a.css", "").await;
    assert!(is_page(&answer));
    assert_eq!(answer.body, "<p>2027-01-15T09:00:00+00:00");
    assert_eq!(answer.field("retry-after"), Some("3600"));
    node.node.plan_reopening(None, &said()).unwrap();
    let answer = node.get("/a.css", "").await;
    assert_eq!(
        (answer.body.as_str(), answer.field("retry-after")),
        ("<p>", Some("90"))
    );
}

/// A canary that closes a closed site leaves what the operator told visitors.
#[tokio::test(start_paused = true)]
async fn closing_again_leaves_the_plan_unless_it_names_another() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    let (soon, later) = (
        node.node.now().after(3600 * S),
        node.node.now().after(7200 * S),
    );
    for (named, planned) in [
        (Some(soon), Some(soon)),
        (None, Some(soon)),
        (Some(later), Some(later)),
        (None, Some(later)),
    ] {
        node.node.take_mode(Mode::Closed, named, &said()).unwrap();
        assert_eq!(node.node.reopening(), planned);
        node.timeline_written();
        let next = crate::world::kept(&node.timeline.copied(), node.node.now());
        assert_eq!(next.beginning.reopening, planned, "after a restart, too");
    }
    node.node.take_mode(Mode::Open, None, &said()).unwrap();
    node.node.take_mode(Mode::Closed, None, &said()).unwrap();
    assert_eq!(node.node.reopening(), None, "that was another time");
}

#[tokio::test(start_paused = true)]
async fn a_broken_body_does_not_look_whole_to_http_1_0() {
    let node = TestNode::new("", |_| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw(&format!("{head}4\r\nhalf\r\n")).closing()
    });
    let mut client = node.client();
    client
        .send(&get("/page", "").replacen("/1.1", "/1.0", 1))
        .await;
    drop(client.rest().await);
    assert!(client.reset.load(Ordering::SeqCst));
    let whole = TestNode::new("", |_| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw(&format!("{head}5\r\nwhole\r\n0\r\n\r\n"))
    });
    let mut client = whole.client();
    client
        .send(&get("/page", "").replacen("/1.1", "/1.0", 1))
        .await;
    let rest = client.rest().await;
    assert!(rest.ends_with("whole") && !client.reset.load(Ordering::SeqCst));
}

/// Reads what a client would still be sent.
#[tokio::test(start_paused = true)]
async fn nothing_comes_after_a_second_however_slowly_it_is_read() {
    let node = TestNode::new("", |_| endless());
    let mut wires = Vec::new();
    for bytes in [64, 4096, 1 << 20] {
        let mut client = node.client_with(bytes);
        client.send(&get("/events", "")).await;
        wires.push(client);
    }
    tokio::time::sleep(15 * S).await;
    let closed = node.close().await;
    assert_eq!(closed.cut.connections, 3);
    tokio::time::sleep(S).await;
    let before: Vec<String> = {
        let mut all = Vec::new();
        for client in &mut wires {
            all.push(client.rest().await);
        }
        all
    };
    // A pipe in memory gives what it held; nothing is added to it.
    assert!(before.iter().all(|text| text.matches("data:").count() <= 2));
    let mut end = [0; 1];
    let mut wire = node.wire(Transport::plain(CLIENT));
    assert!(
        timeout(S, wire.read(&mut end)).await.is_err(),
        "a new connection is taken"
    );
}
