//! Purges by prefix, tag and group, and invalidation by group.

use std::sync::Arc;

use shikiri_record::PurgeTarget;

use crate::world::{TestNode, get, reply};
use crate::{CSS, S};

fn tag(tag: &str) -> PurgeTarget {
    PurgeTarget::Tag {
        tag: tag.into(),
        host: None,
    }
}

/// Every file bears its folder as tag and group; a POST to `/act` invalidates the group `x`.
fn node() -> TestNode {
    TestNode::new("", |asked| {
        if asked.starts_with("POST") {
            return reply(
                "500 Internal Server Error\r\nCache-Group-Invalidation: \"x\"",
                "",
            );
        }
        let path = asked.split(' ').nth(1).unwrap();
        let folder = path.split('/').nth(1).unwrap();
        let fields =
            format!("Cache-Tag: {folder}, all\r\nxkey: k-{folder}\r\nCache-Groups: \"{folder}\"");
        reply(&format!("{CSS}\r\n{fields}"), "body{}")
    })
}

impl TestNode {
    async fn is_hit(&self, path: &str) -> bool {
        self.get(path, "").await.cache().contains("; hit")
    }
}

#[tokio::test(start_paused = true)]
async fn labels_find_every_variant_and_leave_with_no_response() {
    let node = node();
    for (target, freed, x, y) in [
        (tag("x"), 2, false, true),
        (tag("k-y"), 1, true, false),
        (tag("all"), 3, false, false),
        (tag("none"), 0, true, true),
        (
            PurgeTarget::Group {
                group: "x".into(),
                host: "site.test".into(),
            },
            2,
            false,
            true,
        ),
        (
            PurgeTarget::Prefix("http://site.test/x/".into()),
            2,
            false,
            true,
        ),
    ] {
        node.get("/x/a.css", "").await;
        node.get("/x/a.css", "Accept-Encoding: gzip\r\n").await;
        let answer = node.get("/y/a.css", "").await;
        for gone in ["cache-tag", "xkey"] {
            assert_eq!(answer.field(gone), None);
        }
        assert_eq!(
            answer.field("cache-groups"),
            Some("\"y\""),
            "for caches beyond us"
        );
        let would = node.node.covered(std::slice::from_ref(&target));
        assert_eq!(would.objects, freed, "{target}");
        assert_eq!(
            node.purge_targets(std::slice::from_ref(&target)),
            freed,
            "{target}"
        );
        assert_eq!(
            (node.is_hit("/x/a.css").await, node.is_hit("/y/a.css").await),
            (x, y),
            "{target}"
        );
        node.purge_all();
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_began_before_a_purge_by_tag_is_not_stored_after_it() {
    let node = Arc::new(TestNode::new("", |_| {
        reply(&format!("{CSS}\r\nCache-Tag: red"), "body{}").after(5 * S)
    }));
    let asking = Arc::clone(&node);
    let asked = tokio::spawn(async move { asking.get("/a.css", "").await });
    tokio::time::sleep(S).await;
    let purged = node.node.purge(&[tag("red")], &crate::world::said());
    assert_eq!((purged.covered.objects, purged.covered.filling), (0, 1));
    assert_eq!(asked.await.unwrap().status, 200);
    tokio::time::sleep(S).await;
    assert!(!node.is_hit("/a.css").await);
}

#[tokio::test(start_paused = true)]
async fn a_response_to_an_unsafe_method_makes_its_groups_stale() {
    let node = node();
    for path in ["/x/a.css", "/y/a.css"] {
        node.get(path, "").await;
    }
    // On a safe method the field says nothing.
    let get_act = node.get("/x/a.css", "").await;
    assert!(get_act.cache().contains("; hit"));
    node.ask(&get("/act", "Content-Length: 0\r\n").replacen("GET", "POST", 1))
        .await;
    assert!(!node.is_hit("/x/a.css").await, "it is asked about");
    assert!(node.is_hit("/y/a.css").await);
    assert!(node.is_hit("/x/a.css").await, "and stored anew");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_confirmed_keeps_the_labels_that_it_came_with() {
    let node = TestNode::new("", |asked| {
        if asked.contains("if-none-match") {
            return crate::world::raw(
                "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\nCache-Tag: blue\r\n\r\n",
            );
        }
        reply(&format!("{CSS}\r\nCache-Tag: red"), "body{}")
    });
    for color in ["red", "blue"] {
        node.get("/a.css", "").await;
        tokio::time::sleep(61 * S).await;
        node.get("/a.css", "").await;
        assert!(node.is_hit("/a.css").await);
        assert_eq!(node.purge_targets(&[tag(color)]), 1, "{color}");
    }
}
