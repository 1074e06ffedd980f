//! What is on the timeline, and when.

use std::path::Path;
use std::sync::Arc;

use shikiri_edge::chronicle::{self, Chronicle};
use shikiri_edge::{ChangeFault, Recorded, Start};
use shikiri_evidence::{BootId, Disk, MemoryDisk, Run};
use shikiri_partition::Knowledge;
use shikiri_record::{Alarm, Mode, PurgeTarget, UnixMillis, What};

use crate::world::{TestNode, kept, reply, rules, said};
use crate::{CSS, PAGES, S};

/// No more fits on the disk, not even in what was set aside.
fn fill(disk: &MemoryDisk) {
    disk.fail_writes_after(Some(0));
}

fn mend(disk: &MemoryDisk) {
    disk.fail_writes_after(None);
}

/// What kinds of entries there are, in order.
fn kinds(node: &TestNode) -> Vec<String> {
    let entries = node.entries();
    entries.iter().map(|entry| entry.what.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_shares_more_is_refused_when_it_cannot_be_recorded() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.node.take_mode(Mode::Pass, None, &said()).unwrap();
    fill(&node.timeline);
    let refused = node.node.take_mode(Mode::Open, None, &said());
    assert!(matches!(refused, Err(ChangeFault::NotRecorded(_))));
    assert_eq!(node.node.stance().mode, Mode::Pass);
    let digest = node.node.stance().rules.digest();
    assert!(node.node.reload(rules(PAGES), None, &said()).is_err());
    assert_eq!(
        node.node.stance().rules.digest(),
        digest,
        "the old rules stay"
    );
    assert!(
        node.node
            .make_grant("x", Mode::Open, 60 * S, &said())
            .is_err()
    );
    assert!(node.node.live_grants().is_empty());
    mend(&node.timeline);
    node.node
        .reload(rules(PAGES), Some("p.toml"), &said())
        .unwrap();
    node.node.take_mode(Mode::Open, None, &said()).unwrap();
    let kinds = kinds(&node);
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    assert!(kinds[1].starts_with("rules in force") && kinds[1].ends_with("p.toml"));
    assert_eq!(
        (kinds[0].as_str(), kinds[2].as_str()),
        ("mode open -> pass", "mode pass -> open")
    );
}

#[tokio::test(start_paused = true)]
async fn what_shares_less_never_waits_and_is_recorded_in_order_later() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    let (grant, _) = node
        .node
        .make_grant("x", Mode::Open, 600 * S, &said())
        .unwrap();
    node.get("/a.css", "").await;
    fill(&node.timeline);
    let closed = node
        .node
        .change_mode(Mode::Closed, None, &said())
        .await
        .unwrap();
    assert!(matches!(closed.recorded, Recorded::NotYet(_)));
    assert_eq!(
        node.node.stance().mode,
        Mode::Closed,
        "in force nevertheless"
    );
    assert_eq!(node.get("/a.css", "").await.status, 503);
    let purged = node.node.purge(&[PurgeTarget::All], &said());
    assert_eq!(purged.covered.objects, 1);
    assert!(matches!(purged.recorded, Recorded::NotYet(_)));
    assert!(node.node.revoke_grant(grant.id, &said()).is_some());
    assert_eq!(node.node.unwritten(), 3);
    // What shares more cannot overtake them.
    assert!(node.node.take_mode(Mode::Open, None, &said()).is_err());
    tokio::time::sleep(10 * S).await;
    mend(&node.timeline);
    node.node.maintain();
    assert_eq!(node.node.unwritten(), 0);
    let entries = node.entries();
    let kinds = kinds(&node);
    let expected = [
        "preview of",
        "mode open -> closed",
        "purged everything",
        "preview grant",
    ];
    assert!(
        kinds
            .iter()
            .zip(expected)
            .all(|(got, expected)| got.starts_with(expected)),
        "{kinds:?}"
    );
    assert_eq!(kinds.len(), 4);
    let then = node.node.now().0 - 10_000;
    assert!(
        entries.iter().all(|entry| entry.latest.0 <= then),
        "they tell when it was"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_use_of_a_preview_is_recorded_before_it_opens_anything() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.node.take_mode(Mode::Closed, None, &said()).unwrap();
    let (_, token) = node
        .node
        .make_grant("x", Mode::Open, 600 * S, &said())
        .unwrap();
    let lines = format!("Shikiri-Preview: {}\r\n", token.reveal());
    fill(&node.timeline);
    assert_eq!(node.get("/a.css", &lines).await.status, 503);
    mend(&node.timeline);
    for _ in 0..3 {
        assert_eq!(node.get("/a.css", &lines).await.status, 200);
    }
    let used = node.entries().into_iter();
    assert_eq!(
        used.filter(|entry| matches!(entry.what, What::GrantUsed { .. }))
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_goes_on_from_its_timeline() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    node.node.purge(&[PurgeTarget::All], &said());
    let uri = PurgeTarget::Uri("http://site.test/a.css".into());
    let purged = node.node.purge(std::slice::from_ref(&uri), &said());
    let at = node.node.now().after(7200 * S);
    node.node
        .take_mode(Mode::Closed, Some(at), &said())
        .unwrap();
    let (grant, _) = node
        .node
        .make_grant("x", Mode::Open, 600 * S, &said())
        .unwrap();
    let later = node.node.now().after(60 * S);
    node.node.record_stop("told to stop");
    let kept = kept(&node.timeline, later);
    let beginning = kept.beginning;
    assert_eq!((beginning.mode, beginning.epoch.0), (Mode::Closed, 2));
    assert_eq!(beginning.reopening, Some(at));
    assert_eq!(beginning.grants.get(&grant.id), Some(&grant));
    assert!(beginning.first > purged.order);
    assert!(beginning.marks.newest() >= purged.order && beginning.marks.newest() < beginning.first);
}

#[tokio::test(start_paused = true)]
async fn damage_is_told_once_and_the_mode_is_lower_until_somebody_raises_it() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    let text = "a reason that will be changed";
    let mut said = said();
    said.text = text.into();
    node.node.take_mode(Mode::Static, None, &said).unwrap();
    node.node.take_mode(Mode::Open, None, &said).unwrap();
    node.node.record_stop("told to stop");
    for path in node.timeline.paths() {
        node.timeline.tamper(&path, |bytes| {
            let found = bytes
                .windows(text.len())
                .position(|part| part == text.as_bytes());
            if let Some(at) = found {
                bytes[at] ^= 1;
            }
        });
    }
    let disk: Arc<dyn Disk> = Arc::new(node.timeline.clone());
    let now = node.node.now();
    let open = |expected| {
        let run = Run::unsigned("edge", BootId([1; 16]));
        Chronicle::open(
            Arc::clone(&disk),
            Path::new("/timeline"),
            &run,
            expected,
            now,
        )
        .unwrap()
    };
    let opened = open(false);
    assert_eq!(opened.knowledge, Knowledge::Damaged);
    assert!(!opened.damage.is_empty());
    let beginning = opened.state.begin(opened.knowledge, Mode::Open, now);
    assert_eq!(beginning.mode, Mode::Pass);
    assert!(beginning.epoch.0 >= now.seconds());
    // A node tells of it, and begins anew from there.
    let config = shikiri_edge::Config {
        name: "edge".into(),
        trusted: Vec::new(),
    };
    let world = Arc::new(shikiri_edge::RealWorld::new());
    let evidence =
        shikiri_edge::Evidence::in_memory(&MemoryDisk::new(1 << 30), shikiri_edge::OnFull::Refuse);
    let kept = shikiri_edge::Kept {
        beginning,
        chronicle: opened.chronicle,
        node_key: shikiri_record::NodeKey::new([7; 32]),
    };
    let again = shikiri_edge::Node::begin(config, rules(""), world, evidence, kept);
    let start = Start {
        policy: None,
        missing: Some((Alarm::TimelineDamaged, "a row was changed".into())),
        text: "told to start",
    };
    again.record_start(&start).unwrap();
    again.record_stop("told to stop");
    let opened = open(false);
    assert_eq!(opened.knowledge, Knowledge::Whole, "{:?}", opened.damage);
    assert_eq!(opened.state.mode(), Some(Mode::Pass));
    let found = chronicle::read(&disk, Path::new("/timeline")).unwrap();
    assert!(
        found
            .iter()
            .any(|found| matches!(found, chronicle::Found::Damage(_))),
        "it is still shown"
    );
    drop(opened);
    // Nothing at all, where there should be something.
    let empty: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    for (expected, knowledge) in [(false, Knowledge::Whole), (true, Knowledge::Lost)] {
        let run = Run::unsigned("edge", BootId([1; 16]));
        let opened = Chronicle::open(
            Arc::clone(&empty),
            Path::new("/t"),
            &run,
            expected,
            UnixMillis(1),
        );
        assert_eq!(opened.unwrap().knowledge, knowledge);
    }
}

/// What another node purges, lowers and revokes has nothing to hold for on the one whose place it takes.
#[tokio::test(start_paused = true)]
async fn a_node_that_makes_room_for_another_shares_nothing_more() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    let (_, token) = node
        .node
        .make_grant("x", Mode::Open, 600 * S, &said())
        .unwrap();
    let previews = format!("Shikiri-Preview: {}\r\n", token.reveal());
    let mut idle = node.client();
    idle.send(&crate::world::get("/a.css", "")).await;
    assert_eq!(idle.answer().await.status, 200);
    assert!(node.get("/a.css", "").await.cache().contains("; hit"));
    assert!(node.node.leave_timeline("another node replaces this one"));
    for lines in ["", &previews] {
        idle.send(&crate::world::get("/a.css", lines)).await;
        let answer = idle.answer().await;
        assert_eq!(answer.status, 200);
        assert!(!answer.cache().contains("; hit"), "{answer:?}");
    }
    // What it lowers by itself meanwhile, it comes back in.
    node.node.lower_mode(Mode::Static, &said());
    assert_eq!(node.node.stance().mode, Mode::Pass);
    assert_eq!(node.node.site_mode(), Mode::Static);
    assert!(node.node.take_mode(Mode::Open, None, &said()).is_err());
    node.node.resume_timeline().unwrap();
    assert_eq!(node.node.stance().mode, Mode::Static);
    assert!(node.get("/a.css", "").await.cache().contains("; hit"));
    assert_eq!(node.node.live_grants().len(), 1);
}

/// Whoever goes on from a timeline that lacks a closing would open the site.
#[tokio::test(start_paused = true)]
async fn a_timeline_that_lacks_something_is_known_to_when_it_is_left() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    fill(&node.timeline);
    node.node.take_mode(Mode::Closed, None, &said()).unwrap();
    assert!(!node.node.leave_timeline("another node replaces this one"));
    mend(&node.timeline);
    node.node.resume_timeline().unwrap();
    assert_eq!(node.node.stance().mode, Mode::Closed);
    assert!(kinds(&node).contains(&"mode open -> closed".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_timeline_is_left_to_another_node_and_taken_back() {
    let node = TestNode::new("", |_| reply(CSS, "body{}"));
    assert!(node.node.leave_timeline("another node replaces this one"));
    assert!(node.node.take_mode(Mode::Open, None, &said()).is_err());
    let taken = node.node.take_mode(Mode::Closed, None, &said()).unwrap();
    assert!(
        matches!(taken.recorded, Recorded::NotYet(_)),
        "less is shared nevertheless"
    );
    node.node.resume_timeline().unwrap();
    let kinds = kinds(&node);
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    assert_eq!(kinds[0], "node stopped");
    assert_eq!(kinds[1], "mode open -> closed");
    assert!(kinds[2].contains("mode closed"), "{kinds:?}");
}
