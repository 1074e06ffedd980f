//! A disk that hangs: what shares less takes effect nevertheless, and at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shikiri_edge::admin::{self, Actor, Admin, Phase, Reloaded, Tokens};
use shikiri_edge::{ChangeFault, Evidence, Kept, Node, RealWorld, Recorded};
use shikiri_evidence::MemoryDisk;
use shikiri_record::{Mode, PurgeTarget, UnixMillis, What};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{is_page, shown};
use crate::world::{TestNode, kept, reply, rules, said};
use crate::{CSS, MS, S};

/// A node whose timeline's disk hangs, with somebody who waits for it.
struct Hung {
    node: Arc<Node>,
    disk: MemoryDisk,
    waits: Option<JoinHandle<()>>,
}

/// What is in force is so long before the disk is said to be slow.
const AT_ONCE: Duration = Duration::from_millis(1000);

/// What somebody does.
type Does = fn(&Node);

fn node(disk: &MemoryDisk) -> Arc<Node> {
    let config = shikiri_edge::Config {
        name: "edge".into(),
        trusted: Vec::new(),
    };
    let kept: Kept = kept(disk, UnixMillis(0));
    let world = Arc::new(RealWorld::new());
    Node::begin(config, rules(""), world, Evidence::of_nobody(), kept)
}

impl Hung {
    /// After `before`, somebody does this and waits for the disk.
    fn by(before: impl FnOnce(&Node), waits: impl FnOnce(&Node) + Send + 'static) -> Self {
        let disk = MemoryDisk::new(1 << 30);
        let node = node(&disk);
        before(&node);
        disk.hang_syncs(true);
        let doing = Arc::clone(&node);
        let waits = thread::spawn(move || waits(&doing));
        let hung = Self {
            node,
            disk,
            waits: Some(waits),
        };
        hung.until("it waits for the disk", |hung| hung.disk.hung() > 0);
        hung
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < AT_ONCE, "not at once: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Does something; what follows from it is so at once, whenever it returns.
    fn at_once(
        &self,
        change: impl FnOnce(&Node) + Send + 'static,
        what: &str,
        is_so: impl Fn(&Node) -> bool,
    ) -> JoinHandle<()> {
        let node = Arc::clone(&self.node);
        let changes = thread::spawn(move || change(&node));
        self.until(what, |hung| is_so(&hung.node));
        changes
    }

    /// The disk is mended: what the timeline says in the end.
    fn timeline(&mut self) -> Vec<String> {
        self.disk.hang_syncs(false);
        let waits = self.waits.take().expect("once");
        waits.join().expect("it went on");
        self.until("all is written", |hung| hung.node.unwritten() == 0);
        let found = crate::world::entries(&self.disk).into_iter();
        let shown = found.map(|entry| match entry.supersedes {
            Some(of) => format!("{} of {of}: {}", entry.what, entry.text),
            None => entry.what.to_string(),
        });
        shown.collect()
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.disk.hang_syncs(false);
    }
}

fn purge(node: &Node) {
    let target = PurgeTarget::Uri("http://site.test/x".into());
    node.purge(&[target], &said());
}

fn pass(node: &Node) {
    node.take_mode(Mode::Pass, None, &said())
        .expect("it is lower");
}

#[test]
fn closing_waits_for_nobody_who_waits_for_a_disk() {
    let grants = |node: &Node| {
        drop(node.make_grant("x", Mode::Open, Duration::from_secs(60), &said()));
    };
    let report = |node: &Node| drop(node.record(&reported(node)));
    let cases: [(&str, Does); 6] = [
        ("a purge", purge),
        ("a lower mode", pass),
        ("other rules", |node| {
            drop(node.reload(rules(crate::PAGES), None, &said()));
        }),
        ("the same mode", |node| {
            drop(node.take_mode(Mode::Open, None, &said()));
        }),
        ("a grant", grants),
        ("a report", report),
    ];
    for (case, waits) in cases {
        let mut hung = Hung::by(|_| {}, waits);
        let closing = hung.at_once(
            |node| {
                let closed = node.take_mode(Mode::Closed, None, &said()).unwrap();
                assert!(matches!(closed.recorded, Recorded::NotYet(_)));
            },
            case,
            |node| node.stance().mode == Mode::Closed,
        );
        closing.join().expect(case);
        // What hangs for long already is waited for no more.
        let began = Instant::now();
        let purged = hung.node.purge(&[PurgeTarget::All], &said());
        assert!(began.elapsed() < AT_ONCE, "{case}");
        assert!(matches!(purged.recorded, Recorded::NotYet(_)), "{case}");
        let timeline = hung.timeline();
        let is_so = |two: &[String]| two[0].ends_with("-> closed") && two[1] == "purged everything";
        assert!(timeline.windows(2).any(is_so), "{case}: {timeline:?}");
    }
}

fn reported(node: &Node) -> shikiri_record::Entry {
    shikiri_record::Entry {
        version: shikiri_record::TIMELINE_VERSION,
        earliest: node.now(),
        latest: node.now(),
        node: "edge".into(),
        actor: said().actor,
        source: "node".into(),
        status: shikiri_record::Status::Confirmed,
        what: What::Finding {
            finding: "slow".into(),
        },
        text: "it is slow".into(),
        supersedes: None,
    }
}

#[test]
fn what_is_asked_while_the_disk_hangs_is_counted_at_once() {
    let hung = Hung::by(|_| {}, purge);
    let began = Instant::now();
    assert_eq!(hung.node.unwritten(), 1);
    assert!(began.elapsed() < AT_ONCE);
}

#[test]
fn a_revocation_holds_at_once() {
    let mut hung = Hung::by(
        |node| {
            let time = Duration::from_secs(60);
            node.make_grant("x", Mode::Open, time, &said())
                .expect("it can be written");
        },
        purge,
    );
    let id = hung.node.live_grants()[0].id;
    let revoking = hung.at_once(
        move |node| assert!(node.revoke_grant(id, &said()).is_some()),
        "it is revoked",
        |node| node.live_grants().is_empty(),
    );
    revoking.join().unwrap();
    assert_eq!(hung.timeline().len(), 3);
}

/// Whoever raises the mode and whoever lowers it meanwhile: the second has the last word.
#[test]
fn who_raises_is_refused_when_somebody_lowers_meanwhile() {
    let cases: [(Mode, Does, Mode); 3] = [
        (
            Mode::Pass,
            |node| drop(node.take_mode(Mode::Closed, None, &said())),
            Mode::Closed,
        ),
        // Closed already, and asked to be.
        (
            Mode::Closed,
            |node| drop(node.take_mode(Mode::Closed, None, &said())),
            Mode::Closed,
        ),
        // Purges and rules are no reason to stay lower.
        (Mode::Pass, purge, Mode::Open),
    ];
    for (from, lowers, left) in cases {
        let before = move |node: &Node| {
            node.take_mode(from, None, &said()).expect("it is lower");
        };
        let mut hung = Hung::by(before, move |node| {
            let raised = node.take_mode(Mode::Open, None, &said());
            let was_overtaken = matches!(raised, Err(ChangeFault::Overtaken(mode)) if mode == left);
            assert_eq!(was_overtaken, left != Mode::Open, "{raised:?}");
        });
        let doing = Arc::clone(&hung.node);
        let lowering = thread::spawn(move || lowers(&doing));
        hung.until("it is put in the queue", |hung| hung.node.unwritten() == 2);
        assert_eq!(hung.node.stance().mode, left.min(from), "it waits");
        hung.disk.hang_syncs(false);
        lowering.join().unwrap();
        let timeline = hung.timeline();
        assert_eq!(hung.node.stance().mode, left);
        let mut expected = vec![
            format!("mode open -> {from}"),
            format!("mode {from} -> open"),
        ];
        if left == Mode::Closed {
            expected.push(format!("mode {from} -> closed"));
            expected.push(
                "correction of 1: it did not take effect: the site was told to share less meanwhile"
                    .into(),
            );
        } else {
            expected.push("purged http://site.test/x (every variant)".into());
        }
        assert_eq!(timeline, expected);
        // The next to start goes on with what was in force.
        let next = kept(&hung.disk.copied(), UnixMillis(1));
        assert_eq!(next.beginning.mode, left);
    }
}

/// Patience ends: what was being written then is taken back on the timeline.
#[test]
fn what_the_disk_takes_after_it_was_refused_is_taken_back() {
    let mut hung = Hung::by(pass, |node| {
        let raised = node.take_mode(Mode::Open, None, &said());
        assert!(matches!(raised, Err(ChangeFault::NotRecorded(_))));
    });
    // Ten seconds of it; these are real.
    hung.waits.take().unwrap().join().unwrap();
    // Nothing of this reaches the timeline, and it does not wait again.
    let began = Instant::now();
    assert!(hung.node.take_mode(Mode::Static, None, &said()).is_err());
    assert!(began.elapsed() < AT_ONCE);
    drop(hung.node.take_mode(Mode::Closed, None, &said()));
    hung.waits = Some(thread::spawn(|| {}));
    assert_eq!(
        hung.timeline(),
        [
            "mode open -> pass",
            "mode pass -> open",
            "correction of 1: it did not take effect: the timeline's disk did not answer in time",
            "mode open -> pass",
            "mode pass -> closed",
        ]
    );
    let next = kept(&hung.disk.copied(), UnixMillis(1));
    assert_eq!(next.beginning.mode, Mode::Closed);
}

#[tokio::test(start_paused = true)]
async fn who_shows_a_preview_waits_for_the_disk_and_nobody_else_does() {
    let node = Arc::new(TestNode::new("", |_| reply(CSS, "body{}")));
    let token = node.preview(Mode::Open, 600 * S);
    node.take(Mode::Pass).await;
    node.timeline.hang_syncs(true);
    let asking = Arc::clone(&node);
    let shows = tokio::spawn(async move { asking.get("/a.css", &shown(&token)).await });
    while node.timeline.hung() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.get("/a.css", "").await.status, 200);
    assert!(!shows.is_finished());
    node.node.take_mode(Mode::Closed, None, &said()).unwrap();
    assert!(is_page(&node.get("/a.css", "").await));
    node.timeline.hang_syncs(false);
    assert_eq!(shows.await.unwrap().status, 200, "it is recorded now");
}

/// One line of a request on the control socket, and the answer.
async fn ask(path: &Path, target: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A folder that is removed again.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[tokio::test]
async fn the_admin_interface_goes_on_while_somebody_waits_for_the_disk() {
    let name = format!("shikiri-hanging-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&folder.0).unwrap();
    let disk = MemoryDisk::new(1 << 30);
    let node = node(&disk);
    let tokens = Tokens::open(&folder.0.join("tokens.json")).unwrap();
    let read_again = {
        let node = Arc::clone(&node);
        move |by: &Actor| {
            let said = shikiri_edge::Said {
                actor: by.on_record(),
                text: "read again".into(),
            };
            let done = node.reload(rules(crate::PAGES), None, &said);
            vec![Reloaded {
                part: "policy",
                done: done.map(|()| String::new()).map_err(|why| why.to_string()),
            }]
        }
    };
    let admin = Admin::new(Arc::clone(&node), tokens, Arc::new(read_again));
    admin.enter(Phase::Serving);
    let path = folder.0.join("control.sock");
    let listener = admin::bind(&path).unwrap();
    tokio::spawn(admin::serve_unix(admin, listener));

    disk.hang_syncs(true);
    let (at, purge) = (path.clone(), r#"{"targets":["all"]}"#);
    let purging = tokio::spawn(async move { ask(&at, "/purge", purge).await });
    let at = path.clone();
    let reloading = tokio::spawn(async move { ask(&at, "/reload", " ").await });
    while disk.hung() == 0 {
        tokio::time::sleep(MS).await;
    }
    let status = timeout(AT_ONCE, ask(&path, "/status", "")).await;
    let status = status.expect("nobody waits to be told how it is");
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    let began = Instant::now();
    let (at, close) = (path.clone(), r#"{"mode":"closed","reason":"a leak"}"#);
    let closing = tokio::spawn(async move { ask(&at, "/mode/close", close).await });
    while node.stance().mode != Mode::Closed {
        assert!(began.elapsed() < AT_ONCE, "it is not closed");
        tokio::time::sleep(MS).await;
    }
    let closed = closing.await.unwrap();
    assert!(closed.contains("does not answer"), "{closed}");
    assert!(purging.await.unwrap().contains("does not answer"));
    disk.hang_syncs(false);
    assert!(reloading.await.unwrap().starts_with("HTTP/1.1 200"));
}
