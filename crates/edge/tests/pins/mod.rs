//! What becomes of an answer in which the origin names somebody else.

use std::time::Duration;

use shikiri_record::Mode;
use tokio::time::sleep;

use crate::world::{Answer, Reply, TestNode, get, reply, said};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

const STOP: &str = "version = 1\n[session]\ncookies = [\"sid\"]\nheaders = [\"x-user\"]\n[pins]\naction = \"stop\"\n";
const RECORD: &str = "version = 1\n[session]\ncookies = [\"sid\"]\n";

/// An origin that answers as its request's target says: `/as/alice`, `/as/alice/owner/bob`,
/// `/start/alice`, `/end/alice`, `/set/alice/VALUE`; after a second when it says `slow`.
fn origin(asked: &str) -> Reply {
    let target = asked.split(' ').nth(1).unwrap_or_default();
    let words: Vec<&str> = target.split('/').skip(1).collect();
    let lines = match words[..] {
        ["as", viewer] | ["as", viewer, "slow"] => format!("Shikiri-Viewer: {viewer}"),
        ["as", viewer, "owner", owner] => {
            format!("Shikiri-Viewer: {viewer}\r\nShikiri-Owner: {owner}")
        }
        ["start", viewer] | ["start", viewer, "slow"] => {
            format!("Shikiri-Viewer: {viewer}\r\nShikiri-Session: start")
        }
        ["end", viewer] => format!("Shikiri-Viewer: {viewer}\r\nShikiri-Session: end"),
        ["set", viewer, value] => format!(
            "Shikiri-Viewer: {viewer}\r\nShikiri-Session: start\r\nSet-Cookie: sid={value}; Path=/"
        ),
        ["two"] => "Shikiri-Viewer: a\r\nShikiri-Viewer: b".to_owned(),
        _ => "X-Nothing: x".to_owned(),
    };
    let answer = reply(
        &format!("200 OK\r\nContent-Type: text/html\r\nSet-Cookie: seen=1\r\n{lines}"),
        "a page of somebody",
    );
    if words.last() == Some(&"slow") {
        answer.after(S)
    } else {
        answer
    }
}

fn node(policy: &str) -> TestNode {
    TestNode::new(policy, origin)
}

fn of(session: &str) -> String {
    format!("Cookie: sid={session}\r\n")
}

async fn post(node: &TestNode, path: &str, session: &str) -> Answer {
    let lines = format!("Content-Length: 0\r\n{}", of(session));
    node.ask(&get(path, &lines).replacen("GET", "POST", 1))
        .await
}

/// Nothing of the origin's answer is in it.
fn check_stopped(answer: &Answer, name: &str) {
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(answer.body, format!("502 Bad Gateway: {name}\n"));
    for absent in ["set-cookie", "shikiri-viewer", "text/html", "x-nothing"] {
        assert!(
            !answer.head.to_ascii_lowercase().contains(absent),
            "{answer:?}"
        );
    }
}

fn check_left(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "a page of somebody")
    );
    let head = answer.head.to_ascii_lowercase();
    assert!(
        !head.contains("shikiri-") && head.contains("set-cookie: seen=1"),
        "{head}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_answered_as_another_is_stopped_at_the_first_answer() {
    let node = node(STOP);
    check_left(&node.get("/as/alice", &of("1")).await);
    check_left(&node.get("/as/bob", &of("2")).await);
    check_stopped(&node.get("/as/bob", &of("1")).await, "wrong-viewer");
    check_stopped(
        &node.get("/as/alice/owner/bob", &of("1")).await,
        "owner-not-viewer",
    );
    check_stopped(&node.get("/as/alice", "").await, "named-nobody");
    check_stopped(&node.get("/two", &of("3")).await, "unreadable-viewer");
    // Who was not mixed up goes on.
    check_left(&node.get("/as/alice", &of("1")).await);
    check_left(&node.get("/nothing", &of("1")).await);
    let counts = node.node.counts();
    assert_eq!(
        (counts.pin_faults, counts.pin_stops, counts.pinned),
        (4, 4, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_recorded_and_leaves_when_policy_says_so() {
    let node = node(RECORD);
    check_left(&node.get("/as/alice", &of("1")).await);
    check_left(&node.get("/as/bob", &of("1")).await);
    let counts = node.node.counts();
    assert_eq!((counts.pin_faults, counts.pin_stops), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_a_login_that_may_explain_it() {
    let node = node(STOP);
    check_left(&node.get("/as/alice", &of("1")).await);
    let switch = async {
        let answer = post(&node, "/start/bob/slow", "1").await;
        check_left(&answer);
    };
    let page = async {
        sleep(100 * MS).await;
        // The origin has switched already, and says so here first.
        check_left(&node.get("/as/bob", &of("1")).await);
    };
    let began = tokio::time::Instant::now();
    tokio::join!(switch, page);
    assert_eq!(began.elapsed(), S);
    check_stopped(&node.get("/as/alice", &of("1")).await, "wrong-viewer");
}

#[tokio::test(start_paused = true)]
async fn what_explains_nothing_stops_it_after_all() {
    let node = node(STOP);
    check_left(&node.get("/as/alice", &of("1")).await);
    let other = async {
        check_left(&post(&node, "/as/alice/slow", "1").await);
    };
    let page = async {
        sleep(100 * MS).await;
        check_stopped(&node.get("/as/bob", &of("1")).await, "wrong-viewer");
    };
    tokio::join!(other, page);
}

#[tokio::test(start_paused = true)]
async fn a_login_whose_client_left_may_have_happened() {
    let node = node(STOP);
    check_left(&node.get("/as/alice", &of("1")).await);
    let mut client = node.client();
    let lines = format!("Content-Length: 0\r\n{}", of("1"));
    client
        .send(&get("/start/bob/slow", &lines).replacen("GET", "POST", 1))
        .await;
    sleep(100 * MS).await;
    drop(client);
    sleep(100 * MS).await;
    check_left(&node.get("/as/bob", &of("1")).await);
    check_stopped(&node.get("/as/carol", &of("1")).await, "wrong-viewer");
    assert_eq!(node.node.counts().pin_unsure, 1);
    // Much later it cannot happen any more.
    let mut client = node.client();
    client
        .send(&get("/start/bob/slow", &lines).replacen("GET", "POST", 1))
        .await;
    sleep(100 * MS).await;
    drop(client);
    sleep(61 * S).await;
    check_stopped(&node.get("/as/carol", &of("1")).await, "wrong-viewer");
}

#[tokio::test(start_paused = true)]
async fn a_login_pins_the_cookie_that_it_gives() {
    let node = node(STOP);
    let answer = node.get("/set/alice/0123456789ab", "").await;
    assert!(answer.head.contains("sid=0123456789ab"), "{answer:?}");
    check_stopped(
        &node.get("/as/bob", &of("0123456789ab")).await,
        "wrong-viewer",
    );
    check_left(&node.get("/as/alice", &of("0123456789ab")).await);
    // The same cookie for another member.
    let twice = node.get("/set/bob/0123456789ab", "").await;
    check_stopped(&twice, "session-issued-twice");
}

#[tokio::test(start_paused = true)]
async fn a_shared_fetch_that_is_answered_as_somebody_s_is_stopped() {
    let pages = format!(
        "{STOP}[[class]]\nname = \"pages\"\nmatch = {{ paths = [\"/as/**\"] }}\nto = \"everyone\"\n"
    );
    let node = node(&pages);
    check_stopped(
        &node.get("/as/alice", "Accept-Language: ja\r\n").await,
        "named-nobody",
    );
    // A member's own request goes on as itself.
    check_left(&node.get("/as/bob", &of("1")).await);
}

#[tokio::test(start_paused = true)]
async fn several_members_trip_the_mode_and_one_with_many_tabs_does_not() {
    let trip = "trip = { viewers = 2, within = \"60s\", mode = \"pass\" }\n";
    let node = node(&format!("{STOP}{trip}"));
    for tab in ["1", "2", "3", "4"] {
        check_left(&node.get("/as/mallory", &of(tab)).await);
        check_stopped(&node.get("/as/alice", &of(tab)).await, "wrong-viewer");
    }
    assert_eq!(node.node.stance().mode, Mode::Open);
    check_left(&node.get("/as/bob", &of("5")).await);
    check_stopped(&node.get("/as/alice", &of("5")).await, "wrong-viewer");
    assert_eq!(node.node.stance().mode, Mode::Pass);
    let fault = "finding: wrong-viewer: the origin answered a session as a member whose it is not";
    assert_eq!(
        node.timeline(),
        [
            format!("{fault}: nothing of it left"),
            "mode open -> pass: 2 members were served as others within 60 s".to_owned(),
        ]
    );
    // Whoever causes a fault may cause any number: a minute's are one entry, and counted.
    sleep(60 * S).await;
    check_stopped(&node.get("/as/alice", &of("5")).await, "wrong-viewer");
    let more = format!("{fault}: nothing of it left; 4 more since the last entry");
    assert_eq!(node.timeline()[2..], [more]);
}

/// A login that the run before had sent may be answered to nobody, and take effect all the same.
#[tokio::test(start_paused = true)]
async fn what_the_run_before_was_told_makes_no_fault_after_a_restart() {
    let first = node(STOP);
    check_left(&first.get("/as/alice", &of("1")).await);
    check_stopped(&first.get("/as/bob", &of("1")).await, "wrong-viewer");
    let start = shikiri_edge::Start {
        policy: None,
        missing: None,
        text: "told to start",
    };
    first.node.record_start(&start).unwrap();
    let again = TestNode::started_again(&first, origin);
    check_left(&again.get("/as/alice", &of("1")).await);
    check_left(&again.get("/as/bob", &of("1")).await);
    assert_eq!(again.node.counts().pin_unsure, 1);
    // Whoever waited for an answer has given up by then.
    sleep(again.node.stance().rules.limits().first_byte_time_max).await;
    check_left(&again.get("/as/alice", &of("2")).await);
    check_stopped(&again.get("/as/bob", &of("2")).await, "wrong-viewer");
}

#[tokio::test(start_paused = true)]
async fn a_trip_waits_for_no_disk() {
    let trip = "trip = { viewers = 2, within = \"60s\", mode = \"closed\" }\n";
    let node = node(&format!("{STOP}{trip}"));
    for (member, session) in [("alice", "1"), ("bob", "2")] {
        check_left(&node.get(&format!("/as/{member}"), &of(session)).await);
    }
    node.timeline.hang_syncs(true);
    let began = std::time::Instant::now();
    check_stopped(&node.get("/as/carol", &of("1")).await, "wrong-viewer");
    drop(node.get("/as/carol", &of("2")).await);
    assert_eq!(node.node.stance().mode, Mode::Closed);
    assert!(began.elapsed() < S, "somebody waited for the disk");
    node.timeline.hang_syncs(false);
    assert_eq!(node.timeline().len(), 2);
}

/// Somebody opens the site, and the disk takes its time, when members are found to be mixed up.
#[tokio::test(start_paused = true)]
async fn a_trip_in_a_mode_as_low_as_its_own_keeps_it_from_being_raised() {
    let trip = "trip = { viewers = 2, within = \"60s\", mode = \"pass\" }\n";
    let node = node(&format!("{STOP}{trip}"));
    node.node.take_mode(Mode::Pass, None, &said()).unwrap();
    node.timeline.hang_syncs(true);
    let raising = std::sync::Arc::clone(&node.node);
    let raising = std::thread::spawn(move || raising.take_mode(Mode::Open, None, &said()));
    while node.timeline.hung() == 0 {
        std::thread::yield_now();
    }
    for (member, session) in [("alice", "1"), ("bob", "2")] {
        check_left(&node.get(&format!("/as/{member}"), &of(session)).await);
        check_stopped(&node.get("/as/carol", &of(session)).await, "wrong-viewer");
    }
    node.timeline.hang_syncs(false);
    assert!(raising.join().unwrap().is_err());
    assert_eq!(node.node.stance().mode, Mode::Pass);
    let told = node.timeline();
    assert!(
        told[2..]
            .iter()
            .any(|entry| entry.starts_with("mode pass -> pass: 2 members")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_trip_never_raises_the_mode() {
    let trip = "trip = { viewers = 2, within = \"60s\", mode = \"static\" }\n";
    let node = node(&format!("{STOP}{trip}"));
    node.node.take_mode(Mode::Pass, None, &said()).unwrap();
    for (member, session) in [("alice", "1"), ("bob", "2")] {
        check_left(&node.get(&format!("/as/{member}"), &of(session)).await);
        check_stopped(&node.get("/as/carol", &of(session)).await, "wrong-viewer");
    }
    assert_eq!(node.node.stance().mode, Mode::Pass);
}
