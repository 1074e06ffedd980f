//! The two days of the notice, as an operator would go through them with a node of this kind: what its
//! timeline says of them, and what left it meanwhile.

use std::path::Path;

use jiff::Timestamp;
use shikiri_edge::change::{Said, Start};
use shikiri_edge::chronicle::Found;
use shikiri_edge::maintenance::zone;
use shikiri_edge::retelling;
use shikiri_record::{Actor, Entry, Mode, PurgeTarget, Status, TIMELINE_VERSION, UnixMillis, What};
use tokio::time::{Duration, sleep};

use super::is_page;
use crate::world::{TestNode, get, kept, reply, rules};
use crate::{CSS, PAGES};

const GOLDEN: &str = include_str!("../golden/two-days.txt");

/// The policy of the first day: pages are shared like files.
const HASTY: &str = PAGES;

/// The fix: images, scripts and style sheets only.
const FIXED: &str = "version = 1\n";

/// A time in Japan: `2020-03-16 12:24`.
fn at(text: &str) -> UnixMillis {
    let at: Timestamp = format!("{}+09:00", text.replace(' ', "T"))
        .parse()
        .expect(text);
    UnixMillis(at.as_millisecond().try_into().expect(text))
}

struct Session {
    node: TestNode,
}

impl Session {
    /// The node is on duty from noon on, with the site in maintenance.
    fn begin() -> Self {
        let answer = |asked: &str| {
            if asked.starts_with("GET /a.css") {
                reply(CSS, "body{}")
            } else {
                reply("200 OK\r\nContent-Type: text/html", "the front page")
            }
        };
        let node =
            TestNode::first_started(at("2020-03-16 12:00"), Mode::Closed, rules(HASTY), answer);
        let start = Start {
            policy: Some("shop.toml"),
            missing: None,
            text: "first start, told to begin closed",
        };
        node.node.record_start(&start).expect("it can be written");
        Self { node }
    }

    async fn until(&self, text: &str) {
        let wait = at(text).0.checked_sub(self.node.node.now().0);
        sleep(Duration::from_millis(wait.expect("time goes on"))).await;
    }

    async fn mode(&self, when: &str, mode: Mode, reopening: Option<&str>, why: &str) {
        self.until(when).await;
        let (node, asked) = (&self.node.node, self.node.asked());
        let mut running = self.node.client();
        running.send(&get("/", "")).await;
        let said = operator(why);
        let taken = node.change_mode(mode, reopening.map(at), &said);
        let taken = taken.await.expect("the timeline can be written");
        let page = self.node.get("/", "").await;
        let file = self.node.get("/a.css", "").await;
        match taken.closed {
            Some(closed) => {
                assert_eq!(closed.behind, 0, "{when}");
                assert!(is_page(&page) && is_page(&file), "{when}: {page:?}");
                assert!(self.node.asked() <= asked + 1, "{when}: only what ran");
                let told = page.body.contains("再開予定");
                assert_eq!(told, reopening.is_some(), "{when}: {}", page.body);
            }
            None => assert_eq!((page.status, file.status), (200, 200), "{when}"),
        }
    }

    fn add(&self, what: What, (from, until): (&str, &str), source: &str, text: &str) -> u64 {
        let status = match what {
            What::Finding { .. } => Status::Provisional,
            _ => Status::Confirmed,
        };
        self.put(what, (from, until), (source, status), text, None)
    }

    fn correct(&self, entry: u64, when: &str, text: &str) {
        let by = ("follow-up report of 27 March", Status::Confirmed);
        self.put(What::Corrected {}, (when, when), by, text, Some(entry));
    }

    fn put(
        &self,
        what: What,
        (from, until): (&str, &str),
        (source, status): (&str, Status),
        text: &str,
        supersedes: Option<u64>,
    ) -> u64 {
        let entry = Entry {
            version: TIMELINE_VERSION,
            earliest: at(from),
            latest: at(until),
            node: "edge".into(),
            actor: operator("").actor,
            source: source.into(),
            status,
            what,
            text: text.into(),
            supersedes,
        };
        self.node.node.record(&entry).expect("it can be written")
    }
}

fn operator(why: &str) -> Said {
    Said {
        actor: Actor::User {
            uid: 1000,
            name: "operator".into(),
        },
        text: why.into(),
    }
}

fn finding(name: &str) -> What {
    What::Finding {
        finding: name.into(),
    }
}

/// When the site was not closed, from its timeline alone, in minutes since the midnight before.
fn open_times(entries: &[Entry]) -> Vec<(u64, u64)> {
    let midnight = at("2020-03-16 00:00").0;
    let mut times = Vec::new();
    for entry in entries {
        let minute = (entry.earliest.0 - midnight) / 60_000;
        match entry.what {
            What::ModeChanged {
                from: Mode::Closed, ..
            } => times.push((minute, u64::MAX)),
            What::ModeChanged {
                to: Mode::Closed, ..
            } => times.last_mut().expect("it was opened").1 = minute,
            _ => {}
        }
    }
    times
}

#[tokio::test(start_paused = true)]
async fn the_two_days_of_the_notice() {
    let session = Session::begin();
    let node = &session.node.node;
    assert!(is_page(&session.node.get("/", "").await));
    assert_eq!(session.node.asked(), 0, "nothing has left it yet");

    let mode = async |when, mode, reopening, why| session.mode(when, mode, reopening, why).await;
    mode(
        "2020-03-16 12:24",
        Mode::Open,
        None,
        "the rush: the CDN is put in front, and the site opens",
    )
    .await;
    mode(
        "2020-03-16 16:25",
        Mode::Closed,
        Some("2020-03-16 19:00"),
        "the origin cannot follow",
    )
    .await;
    session.until("2020-03-16 18:40").await;
    let later = node.plan_reopening(Some(at("2020-03-16 19:30")), &operator("it takes longer"));
    later.expect("it can be written");
    let page = session.node.get("/", "").await;
    assert!(
        page.body.contains("2020年3月16日（月）19時30分"),
        "{}",
        page.body
    );
    assert_eq!(page.field("retry-after"), Some("3000"));
    mode(
        "2020-03-16 19:23",
        Mode::Open,
        None,
        "the origin was enlarged",
    )
    .await;
    session.until("2020-03-16 22:55").await;
    let report = What::Reported {
        reporter: "the card processor".into(),
        channel: "telephone".into(),
        seen: None,
    };
    let words = "自分のアカウントでログインしたら,他人のアカウントに切り替わった";
    session.add(
        report,
        ("2020-03-16 22:50", "2020-03-16 22:50"),
        "operator",
        words,
    );
    mode(
        "2020-03-16 22:57",
        Mode::Closed,
        None,
        "members see pages of other members",
    )
    .await;
    node.purge(
        &[PurgeTarget::All],
        &operator("whatever was stored may be somebody's"),
    );
    session.until("2020-03-17 02:40").await;
    let reloaded = node.reload(
        rules(FIXED),
        Some("shop.toml"),
        &operator("images, JS and CSS only"),
    );
    reloaded.expect("it can be written");
    mode("2020-03-17 03:21", Mode::Open, None, "the fix is in force").await;
    let fix =
        "between these, as the vendor says: personal data is not cached; images, JS and CSS are";
    session.add(
        finding("fixed"),
        ("2020-03-16 22:57", "2020-03-17 03:21"),
        "the vendor",
        fix,
    );
    mode(
        "2020-03-17 04:03",
        Mode::Closed,
        Some("2020-03-17 08:30"),
        "another defect",
    )
    .await;
    mode(
        "2020-03-17 08:25",
        Mode::Open,
        None,
        "the other defect is mended",
    )
    .await;
    mode(
        "2020-03-17 21:01",
        Mode::Closed,
        None,
        "a member reports the same again",
    )
    .await;
    session.until("2020-03-17 21:10").await;
    let report = What::Reported {
        reporter: "a member".into(),
        channel: "mail".into(),
        seen: None,
    };
    session.add(
        report,
        ("2020-03-17 21:03", "2020-03-17 21:03"),
        "operator",
        words,
    );
    session.until("2020-03-19 12:00").await;
    let first = "first report of 19 March";
    let began = "2020-03-16 19:23";
    let began = session.add(
        finding("cdn-began"),
        (began, began),
        first,
        "the CDN began at 19:23",
    );
    let ended = "2020-03-17 21:08";
    let ended = session.add(
        finding("cdn-ended"),
        (ended, ended),
        first,
        "the site was closed at 21:08",
    );
    session.until("2020-03-27 15:00").await;
    session.correct(
        began,
        "2020-03-16 12:24",
        "not 19:23: the CDN began, and maintenance ended, at 12:24",
    );
    session.correct(
        ended,
        "2020-03-17 21:01",
        "not 21:08: maintenance began at 21:01",
    );
    let april = node.plan_reopening(Some(at("2020-04-10 10:00")), &operator("as announced"));
    april.expect("it can be written");

    node.record_stop("told to stop");

    // What was asked of it can be said from the timeline alone: the four times, 20 h 53 m of them.
    let entries = session.node.entries();
    let times = open_times(&entries);
    let (day, minutes) = (24 * 60, |h: u64, m: u64| h * 60 + m);
    let expected = [
        (minutes(12, 24), minutes(16, 25)),
        (minutes(19, 23), minutes(22, 57)),
        (day + minutes(3, 21), day + minutes(4, 3)),
        (day + minutes(8, 25), day + minutes(21, 1)),
    ];
    assert_eq!(times, expected);
    let sum: u64 = times.iter().map(|(from, until)| until - from).sum();
    assert_eq!(sum, minutes(20, 53));

    // Whoever starts it again starts it closed, and tells what is planned.
    let kept = kept(&session.node.timeline, node.now()).beginning;
    assert_eq!(kept.mode, Mode::Closed);
    assert_eq!(kept.reopening, Some(at("2020-04-10 10:00")));

    compare(&session.node.found(), &entries);
}

/// Compares with the golden file, in which rules are numbered: what the policies become may change.
fn compare(found: &[Found], entries: &[Entry]) {
    let tokyo = zone("Asia/Tokyo").expect("a zone");
    let mut told = retelling::as_text(found, None, &tokyo);
    let mut number = 0;
    for entry in entries {
        if let What::RulesInForce { rules, .. } = &entry.what {
            number += 1;
            told = told.replace(&format!("{:?}", rules.0), &format!("(rules {number})"));
        }
    }
    if told != GOLDEN {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-days.txt");
        std::fs::write(&path, &told).expect("it can be written");
        panic!(
            "compare tests/golden/two-days.txt with {}:\n{told}",
            path.display()
        );
    }
}
