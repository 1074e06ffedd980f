//! Stories of sessions, and what pins make of them.

use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use shikiri_record::Mode;

use super::*;
use crate::request::{RequestHead, Scheme};
use crate::rules::{NamePattern, PathPattern, Rules, Trip};
use crate::tests::{headers, rules};

/// The table with all around it.
struct World {
    pins: Pins,
    rules: Rules,
    key: TagKey,
    order: u64,
    now: UnixMillis,
    /// Requests that were asked, by name.
    asked: BTreeMap<String, Asking>,
    /// What waits: what was said, and since when.
    waiting: BTreeMap<String, (Said, Order)>,
}

const LOST: Duration = Duration::from_secs(60);

impl World {
    fn new(change: impl FnOnce(&mut PinRules)) -> Self {
        let mut rules = rules(Vec::new());
        rules.session.cookies = vec![NamePattern("sid".into()), NamePattern("more".into())];
        rules.session.ignorable_cookies = vec![NamePattern("theme".into())];
        rules.pins.cookies = vec![NamePattern("sid".into())];
        change(&mut rules.pins);
        let key = TagKey::new([3; 32]);
        Self {
            pins: Pins::new(key.clone()),
            rules,
            key,
            order: 0,
            now: UnixMillis(1_000_000),
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    fn place(&mut self) -> Order {
        self.order += 1;
        Order(self.order)
    }

    /// `GET`, or `POST:/path`; a session cookie, or `-`; and other fields.
    fn ask(&mut self, name: &str, request: &str, sid: &str, fields: &str) {
        let (method, path) = request.split_once(':').unwrap_or((request, "/x"));
        let (method, path) = (method.parse::<Method>().unwrap(), path.to_owned());
        let mut lines = fields.replace('|', "\n");
        if sid != "-" {
            lines = format!("cookie: theme=dark; sid={sid}\n{lines}");
        }
        let fields = headers(&lines);
        let (path_only, query) = path
            .split_once('?')
            .map_or((&*path, None), |(p, q)| (p, Some(q)));
        let head = RequestHead {
            method: &method,
            scheme: Scheme::Https,
            authority: if fields.contains_key("te") {
                "other.test"
            } else {
                "shop.test"
            }
            .into(),
            path: path_only,
            query,
            headers: &fields,
            has_body: false,
            certificate: None,
        };
        let address = if fields.contains_key("dnt") {
            "192.0.2.2"
        } else {
            "192.0.2.1"
        };
        let begun = self.place();
        let address = address.parse().unwrap();
        let asking = Asking::of(&self.rules, &head, address, &self.key, begun);
        if asking.may_start() {
            self.pins.begins(&asking);
        }
        self.asked.insert(name.to_owned(), asking);
    }

    fn lose(&mut self, name: &str) {
        let asking = self.asked.remove(name).expect("it was asked");
        if asking.may_start() {
            self.pins.loses(&asking, self.now.after(LOST));
        }
    }

    /// The verdict on an answer, and whether it gives away what is somebody's.
    fn answer(&mut self, name: &str, lines: &str) -> (Verdict, Option<PinFault>) {
        let asking = self.asked[name].clone();
        let fields = headers(lines);
        let said = Said::read(&fields).expect("it can be read");
        let at = self.place();
        if asking.may_start() {
            self.pins.ends(&asking);
        }
        let cookies = asking.cookies(&self.rules, &fields, &self.key, self.now);
        let pins = &self.rules.pins;
        let verdict = self
            .pins
            .answers(pins, &asking, &said, &cookies, (at, self.now));
        let twice = self.pins.issues(pins, &asking, &said, &cookies);
        if let Verdict::Waits(since) = verdict {
            self.waiting.insert(name.to_owned(), (said, since));
        }
        (verdict, twice)
    }

    fn again(&mut self, name: &str) -> Verdict {
        let (said, since) = self.waiting[name].clone();
        let asking = self.asked[name].clone();
        let at = self.place();
        self.pins
            .judge(&self.rules.pins, &asking, &said, since, (at, self.now))
    }

    fn fault(&mut self, name: &str, fault: PinFault) -> Option<Trip> {
        let asking = self.asked[name].clone();
        self.pins
            .faulted(&self.rules.pins, &asking, fault, self.now)
    }
}

/// Plays a story. A line is one of:
/// `1 GET x` (request 1 with session x), `1 GET - | field: value` (with other fields),
/// `1: viewer=a owner=b;as=staff start set=y` (its answer fits), `1: viewer=b ! wrong-viewer` (a
/// fault), `1: viewer=b ?` (waits), `1 again`, `1 again ! wrong-viewer`, `1 lost`, `later 60`.
fn check_under(change: impl FnOnce(&mut PinRules), story: &str) {
    let mut world = World::new(change);
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(seconds) = line.strip_prefix("later ") {
            world.now = world
                .now
                .after(Duration::from_secs(seconds.parse().unwrap()));
            continue;
        }
        let (said, expected) = line
            .split_once(" !")
            .map_or((line, None), |(s, e)| (s, Some(e.trim())));
        if let Some((name, answer)) = said
            .split_once(": ")
            .filter(|(name, _)| !name.contains(' '))
        {
            let waits = answer.ends_with('?');
            let words = answer.trim_end_matches('?').split_whitespace();
            let lines = words.map(|word| match word.split_once('=') {
                Some(("set", value)) => format!("set-cookie: sid={value}-0123456789; Path=/"),
                Some(("drop", name)) => format!("set-cookie: {name}=; Max-Age=0"),
                Some((field, value)) => format!("shikiri-{field}: {value}"),
                None if word == "plain" => String::new(),
                None => format!("shikiri-session: {word}"),
            });
            let lines: Vec<String> = lines.collect();
            let (verdict, twice) = world.answer(name, &lines.join("\n"));
            let fault = match verdict {
                Verdict::Fault(fault) => Some(fault.name()),
                _ => twice.map(PinFault::name),
            };
            assert_eq!(fault, expected, "{line}\n{story}");
            assert_eq!(
                matches!(verdict, Verdict::Waits(_)),
                waits,
                "{line}\n{story}"
            );
            continue;
        }
        let words: Vec<&str> = said.splitn(4, ' ').collect();
        match words[..] {
            [name, "lost"] => world.lose(name),
            [name, "again"] => {
                let fault = match world.again(name) {
                    Verdict::Fits => None,
                    Verdict::Waits(_) => Some("waits"),
                    Verdict::Fault(fault) => Some(fault.name()),
                };
                assert_eq!(fault, expected, "{line}\n{story}");
            }
            [name, method, sid] => world.ask(name, method, sid, ""),
            [name, method, sid, fields] => {
                world.ask(name, method, sid, fields.trim_start_matches("| "));
            }
            _ => panic!("what is {line}?"),
        }
    }
}

fn check(story: &str) {
    check_under(|_| {}, story);
}

#[test]
fn a_session_is_whoever_s_it_was_first_seen_to_be() {
    check("1 GET x\n 1: viewer=a\n 2 GET x\n 2: viewer=a\n 3 GET x\n 3: viewer=b ! wrong-viewer");
    check("1 GET x\n 1: viewer=a\n 2 GET y\n 2: viewer=b");
    check("1 GET x\n 1: plain\n 2 GET x\n 2: viewer=b\n 3 GET x\n 3: plain");
    // Two at once, and nothing that explains it: one of them is wrong.
    check("1 GET x\n 2 GET x\n 1: viewer=a\n 2: viewer=b ! wrong-viewer");
    // Other cookies do not make another session, where policy names those that do.
    check(
        "1 GET - | cookie: sid=x; more=1\n 1: viewer=a\n 2 GET - | cookie: sid=x; more=2\n 2: viewer=b ! wrong-viewer",
    );
    // Credentials beside them do; without a cookie, at each host: it names its members as it likes.
    check(
        "1 GET - | authorization: Basic a\n 1: viewer=a\n 2 GET - | authorization: Basic a|te: x\n 2: viewer=b\n 3 GET - | authorization: Basic a\n 3: viewer=b ! wrong-viewer",
    );
    check("1 GET x\n 1: viewer=a\n 2 GET x | authorization: Bearer b\n 2: viewer=b");
}

#[test]
fn a_login_declares_whose_the_new_cookie_is() {
    check("1 POST -\n 1: viewer=a start set=x\n 2 GET x-0123456789\n 2: viewer=a");
    check("1 POST -\n 1: viewer=a start set=x\n 2 GET x-0123456789\n 2: viewer=b ! wrong-viewer");
    // The session of a visitor becomes a member's, under another cookie or the same.
    check(
        "1 GET g\n 1: plain\n 2 POST g\n 2: viewer=a start set=x\n 3 GET x-0123456789\n 3: viewer=b ! wrong-viewer",
    );
    check(
        "1 GET g\n 1: plain\n 2 POST g\n 2: viewer=a start\n 3 GET g\n 3: viewer=b ! wrong-viewer",
    );
    // A rotation: the old cookie is good until the new one is there.
    check(
        "1 GET x\n 1: viewer=a\n 2 GET x\n 3 GET x\n 2: viewer=a start set=y\n 3: viewer=a\n 4 GET x\n 4: viewer=a\n 5 GET y-0123456789\n 5: viewer=b ! wrong-viewer",
    );
}

#[test]
fn an_account_switch_rebinds_from_then_on() {
    let to_b = "1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 2: viewer=b start\n";
    check(&format!("{to_b} 3: viewer=a"));
    check(&format!("{to_b} 3: viewer=b"));
    check(&format!("{to_b} 3: viewer=c ! wrong-viewer"));
    check(&format!(
        "{to_b} 4 GET x\n 4: viewer=b\n 5 GET x\n 5: viewer=a ! wrong-viewer"
    ));
    // The origin has switched, and other answers are here before the one that says so.
    check(
        "1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 3: viewer=b ?\n 2: viewer=b start\n 3 again",
    );
    check(
        "1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 3: viewer=b ?\n 3 again ! waits\n 2: viewer=a\n 3 again ! wrong-viewer",
    );
    // What began after that answer explains nothing.
    check(
        "1 GET x\n 1: viewer=a\n 3 GET x\n 2 POST x\n 3: viewer=b ?\n 4 POST x\n 2: viewer=a\n 3 again ! wrong-viewer",
    );
    // Two switches at once: whichever came last at the origin.
    let both =
        "1 GET x\n 1: viewer=a\n 2 POST x\n 3 POST x\n 3: viewer=c start\n 2: viewer=b start\n";
    check(&format!(
        "{both} 4 GET x\n 4: viewer=b\n 5 GET x\n 5: viewer=c"
    ));
    check(&format!("{both} 4 GET x\n 4: viewer=a ! wrong-viewer"));
    check(&format!(
        "{both} 6 POST x\n 6: viewer=d start\n 7 GET x\n 7: viewer=c ! wrong-viewer"
    ));
    // A switch of a session that was never seen: whose it was before, nobody knows.
    check(
        "1 GET x\n 2 POST x\n 2: viewer=b start\n 1: viewer=a\n 3 GET x\n 3: viewer=a ! wrong-viewer",
    );
    check(
        "1 GET x\n 2 POST x\n 3 GET x\n 3: viewer=b\n 1: viewer=a ?\n 2: viewer=b start\n 1 again",
    );
}

#[test]
fn a_logout_unbinds() {
    let out = "1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 2: viewer=a end drop=sid\n";
    check(&format!(
        "{out} 3: viewer=a\n 4 GET x\n 4: plain\n 5 GET x\n 5: viewer=b"
    ));
    check(&format!("{out} 4 POST x\n 4: viewer=b start\n 3: viewer=a"));
    check(&format!(
        "{out} 4 POST x\n 4: viewer=b start\n 5 GET x\n 5: viewer=a ! wrong-viewer"
    ));
    // Whoever asked before it is nobody else.
    check("1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 2: end\n 3: viewer=b ! wrong-viewer");
    check(
        "1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 3: viewer=b ?\n 2: end\n 3 again ! wrong-viewer",
    );
    // Somebody else's logout is no end of this session.
    check(
        "1 GET x\n 1: viewer=a\n 2 GET x\n 2: viewer=b end ! wrong-viewer\n 3 GET x\n 3: viewer=b ! wrong-viewer",
    );
    // A logout and a login at once: whichever came last.
    check(
        "1 GET x\n 1: viewer=a\n 2 POST x\n 3 POST x\n 3: viewer=b start\n 2: end\n 4 GET x\n 4: viewer=b\n 5 GET x\n 5: viewer=c ! wrong-viewer",
    );
}

#[test]
fn a_lost_answer_may_have_declared_something() {
    let lost = "1 GET x\n 1: viewer=a\n 2 POST x\n 2 lost\n";
    check(&format!(
        "{lost} 3 GET x\n 3: viewer=b\n 4 GET x\n 4: viewer=b"
    ));
    check(&format!(
        "{lost} 3 GET x\n 3: viewer=a\n later 59\n 4 GET x\n 4: viewer=b"
    ));
    check(&format!(
        "{lost} later 61\n 3 GET x\n 3: viewer=b ! wrong-viewer"
    ));
    // It explains one other viewer, not any number.
    check(&format!(
        "{lost} 3 GET x\n 3: viewer=b\n 4 GET x\n 4: viewer=c ! wrong-viewer"
    ));
    check(
        "1 POST x\n 1 lost\n 2 GET x\n 2: viewer=a\n 3 GET x\n 3: viewer=b\n 4 GET x\n 4: viewer=c ! wrong-viewer",
    );
    // So may an answer that the process before this one waits for.
    let mut world = World::new(|_| {});
    world.pins.doubt_until(world.now.after(LOST));
    for (viewer, expected) in [
        ("a", Verdict::Fits),
        ("b", Verdict::Fits),
        ("c", Verdict::Fault(PinFault::WrongViewer)),
    ] {
        world.ask("1", "GET", "x", "");
        let (verdict, _) = world.answer("1", &format!("shikiri-viewer: {viewer}"));
        assert_eq!(verdict, expected);
    }
    // Nobody waits for it.
    check("1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 3: viewer=b ?\n 2 lost\n 3 again");
    // What changes nothing can be lost.
    check("1 GET x\n 1: viewer=a\n 2 GET x\n 2 lost\n 3 GET x\n 3: viewer=b ! wrong-viewer");
    check("1 GET x\n 1: viewer=a\n 2 GET:/cb?code=1 x\n 2 lost\n 3 GET x\n 3: viewer=b");
}

#[test]
fn sessions_change_hands_where_policy_says_that_they_may() {
    let listed = |pins: &mut PinRules| pins.starts = vec![PathPattern("/login".into())];
    check_under(
        listed,
        "1 GET x\n 1: viewer=a\n 2 POST:/login x\n 2: viewer=b start\n 3 GET x\n 3: viewer=b",
    );
    check_under(
        listed,
        "1 GET x\n 1: viewer=a\n 2 GET x\n 2: viewer=b start ! wrong-viewer\n 3 GET x\n 3: viewer=a",
    );
    check_under(
        listed,
        "1 GET x\n 1: viewer=b start\n 2 GET x\n 2: viewer=a ! wrong-viewer",
    );
    // Other requests that get lost, or are slow, explain nothing.
    check_under(
        listed,
        "1 GET x\n 1: viewer=a\n 2 POST x\n 2 lost\n 3 GET x\n 3: viewer=b ! wrong-viewer",
    );
    check_under(
        listed,
        "1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 3: viewer=b ! wrong-viewer",
    );
    check_under(
        listed,
        "1 GET x\n 1: viewer=a\n 2 POST:/login x\n 3 GET x\n 3: viewer=b ?",
    );
}

#[test]
fn an_owner_is_the_viewer_unless_the_origin_says_otherwise() {
    let a = "1 GET x\n 1: viewer=a owner=a\n 2 GET x\n 2: viewer=a";
    check(a);
    for seen_as in ["staff", "shared", "public"] {
        check(&format!("{a} owner=b;as={seen_as}"));
    }
    check(&format!("{a} owner=b ! owner-not-viewer"));
    check_under(|pins| pins.judges_owners = false, &format!("{a} owner=b"));
    // Without a viewer, the session's counts; and an owner binds nothing.
    check("1 GET x\n 1: viewer=a\n 2 GET x\n 2: owner=b ! owner-not-viewer");
    check("1 GET x\n 1: owner=b\n 2 GET x\n 2: viewer=a\n 3 GET x\n 3: owner=a");
    check(
        "1 GET x\n 1: viewer=a\n 2 POST x\n 3 GET x\n 3: owner=b ?\n 2: viewer=b start\n 3 again",
    );
}

#[test]
fn nobody_is_named_to_who_shows_nobody() {
    check("1 GET -\n 1: viewer=a ! named-nobody");
    check("1 GET -\n 1: owner=a ! named-nobody");
    check("1 GET -\n 1: owner=a;as=public");
    check("1 GET - | referer: http://shop.test/|cookie: theme=dark\n 1: viewer=a ! named-nobody");
    check("1 GET -\n 1: viewer=a owner=b ! owner-not-viewer");
    check_under(|pins| pins.judges_nobodies = false, "1 GET -\n 1: viewer=a");
    // What could tell the origin, known as a credential or not.
    check("1 GET -\n 1: viewer=a start");
    check("1 GET - | cookie: remember=1\n 1: viewer=a");
    check("1 GET - | x-device: 1\n 1: viewer=a");
    check("1 GET:/cb?code=1 -\n 1: viewer=a");
}

#[test]
fn a_session_cookie_goes_to_one_client() {
    let first = "1 POST -\n 1: viewer=a start set=x\n";
    let other = "2 POST - | dnt: 1|user-agent: other\n";
    check(&format!(
        "{first} {other} 2: viewer=b start set=x ! session-issued-twice"
    ));
    check(&format!(
        "{first} {other} 2: viewer=a start set=x ! session-issued-twice"
    ));
    check(&format!(
        "{first} 2 POST -\n 2: viewer=b start set=x ! session-issued-twice"
    ));
    check(&format!("{first} {other} 2: viewer=b start set=y"));
    // A retry, from another network or not; a second tab; the same again to who has it.
    check(&format!("{first} 2 POST -\n 2: viewer=a start set=x"));
    check(&format!(
        "{first} 2 POST - | dnt: 1\n 2: viewer=a start set=x"
    ));
    check(&format!(
        "{first} 2 GET x-0123456789 | dnt: 1|user-agent: other\n 2: viewer=a set=x"
    ));
    // Without a word from the origin: an inner cache hands one session to two.
    check(
        "1 GET -\n 1: set=x\n 2 GET - | dnt: 1|user-agent: other\n 2: set=x ! session-issued-twice",
    );
    check("1 GET x\n 1: drop=sid\n 2 GET x | dnt: 1|user-agent: other\n 2: drop=sid");
}

#[test]
fn only_distinct_members_trip_the_mode() {
    let trip = Trip {
        viewers: 3,
        within: Duration::from_secs(60),
        mode: Mode::Pass,
    };
    let mut world = World::new(|pins| pins.trip = Some(trip));
    let shown = |session: &str, member: &str, world: &mut World| {
        world.ask("1", "GET", session, "");
        world.answer("1", &format!("shikiri-viewer: {member}"));
        world.ask("2", "GET", session, "");
        let (verdict, _) = world.answer("2", "shikiri-viewer: victim");
        assert_eq!(verdict, Verdict::Fault(PinFault::WrongViewer));
        world.fault("2", PinFault::WrongViewer)
    };
    // One attacker with many tabs is one viewer.
    for tab in 0..20 {
        assert_eq!(shown(&format!("tab{tab}"), "mallory", &mut world), None);
    }
    assert_eq!(shown("x", "a", &mut world), None);
    assert_eq!(shown("x", "a", &mut world), None);
    assert_eq!(shown("y", "b", &mut world), Some(trip));
    // It begins anew; and what is long ago does not count.
    assert_eq!(shown("y", "b", &mut world), None);
    assert_eq!(shown("z", "c", &mut world), None);
    world.now = world.now.after(Duration::from_secs(61));
    assert_eq!(shown("u", "d", &mut world), None);
    // Nor does who is nobody's.
    world.ask("3", "GET", "-", "");
    assert_eq!(world.fault("3", PinFault::NamedNobody), None);
    assert_eq!(world.pins.counts().faults[2], 1);
}

#[test]
fn what_is_forgotten_makes_silence() {
    let few = |pins: &mut PinRules| pins.sessions_max = 2;
    let full = "1 GET x\n 1: viewer=a\n 2 GET y\n 2: viewer=b\n 9 GET x\n 3 GET z\n 3: viewer=c\n";
    check_under(
        few,
        &format!("{full} 4 GET x\n 4: viewer=d\n 5 GET x\n 5: viewer=d"),
    );
    // An answer from before says nothing of what x is now.
    check_under(
        few,
        &format!(
            "{full} 9: viewer=a\n 5 GET x\n 5: viewer=d\n 6 GET x\n 6: viewer=a ! wrong-viewer"
        ),
    );
    let mut world = World::new(few);
    for n in 0..10 {
        world.ask("1", "GET", &n.to_string(), "");
        world.answer("1", "shikiri-viewer: a");
    }
    let counts = world.pins.counts();
    assert_eq!((counts.sessions, counts.forgotten), (2, 8));
}

#[test]
fn more_viewers_than_are_kept_apart_make_silence() {
    let mut story = String::from("0 GET x\n 0: viewer=a\n");
    for n in 1..20 {
        story.push_str(&format!("{n} POST x\n {n}: viewer=m{n} start\n"));
    }
    // Answered in turn, the last alone is left; whoever asked long ago may be anybody.
    check(&format!(
        "0 GET x\n{story} 30 GET x\n 30: viewer=m18 ! wrong-viewer"
    ));
    check(&format!("99 GET x\n{story} 99: viewer=m3"));
}

/// What an origin that declares every change may be asked, and do, in any order.
#[derive(Clone, Debug)]
enum Step {
    /// A browser asks, with the cookie that it has.
    Ask {
        browser: usize,
        what: What,
    },
    /// The origin takes up one of the requests that were asked.
    Process(usize),
    /// Its answer comes.
    Answer(usize),
    Lose(usize),
}

#[derive(Clone, Copy, Debug)]
enum What {
    View,
    /// Hands the session to a member.
    Switch(u8),
    /// The same under a new cookie; the old one stays as it was, or dies, or leads to the new one.
    Login(u8, u8),
    Logout,
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        4 => Just(What::View),
        2 => (0..3_u8).prop_map(What::Switch),
        1 => (0..3_u8, 0..3_u8).prop_map(|(member, old)| What::Login(member, old)),
        1 => Just(What::Logout),
    ];
    prop_oneof![
        4 => (0..3_usize, what).prop_map(|(browser, what)| Step::Ask { browser, what }),
        4 => any::<usize>().prop_map(Step::Process),
        4 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::Lose),
    ]
}

/// An origin: whose each session is; and what it answered to requests that it took up.
#[derive(Default)]
struct Honest {
    sessions: BTreeMap<String, Option<u8>>,
    leads_to: BTreeMap<String, String>,
    made: u32,
}

impl Honest {
    fn process(&mut self, asked: &str, what: What) -> String {
        let session = self.leads_to.get(asked).cloned().unwrap_or(asked.into());
        match what {
            What::View => {}
            What::Switch(member) => {
                self.sessions.insert(session, Some(member));
                return format!("shikiri-viewer: m{member}\nshikiri-session: start");
            }
            What::Login(member, old) => {
                self.made += 1;
                let new = format!("new-session-{}", self.made);
                self.sessions.insert(new.clone(), Some(member));
                match old {
                    0 => drop(self.sessions.remove(&session)),
                    1 => drop(self.leads_to.insert(asked.into(), new.clone())),
                    _ => {}
                }
                return format!(
                    "shikiri-viewer: m{member}\nshikiri-session: start\nset-cookie: sid={new}"
                );
            }
            What::Logout => {
                self.sessions.insert(session, None);
                return "shikiri-session: end".into();
            }
        }
        match self.sessions.get(&session).copied().flatten() {
            Some(member) => format!("shikiri-viewer: m{member}\nshikiri-owner: m{member}"),
            None => String::new(),
        }
    }
}

struct Running {
    name: String,
    browser: usize,
    session: String,
    what: What,
    answer: Option<String>,
}

/// Plays steps against the table: whatever happens, an honest origin gets no fault.
fn honest(steps: &[Step], sessions_max: usize, members: &[Option<u8>]) -> Result<(), String> {
    let mut world = World::new(|pins| pins.sessions_max = sessions_max);
    let mut origin = Honest::default();
    let mut jars: Vec<String> = (0..3).map(|n| format!("session-{n}")).collect();
    for (session, member) in jars.iter().zip(members) {
        origin.sessions.insert(session.clone(), *member);
    }
    let mut running: Vec<Running> = Vec::new();
    let mut told = String::new();
    for (n, step) in steps.iter().enumerate() {
        match step {
            // That a cookie leads on to another is forgotten with the session.
            Step::Ask {
                what: What::Login(_, 1),
                ..
            } if sessions_max < 10 => {}
            Step::Ask { browser, what } => {
                let (name, session) = (n.to_string(), jars[*browser].clone());
                let is_view = matches!(what, What::View);
                world.ask(&name, if is_view { "GET" } else { "POST" }, &session, "");
                told += &format!("{name} asks {what:?} of {session}\n");
                running.push(Running {
                    name,
                    browser: *browser,
                    session,
                    what: *what,
                    answer: None,
                });
            }
            Step::Process(which) => {
                let mut open: Vec<&mut Running> = running
                    .iter_mut()
                    .filter(|one| one.answer.is_none())
                    .collect();
                let count = open.len().max(1);
                if let Some(one) = open.get_mut(which % count) {
                    let answer = origin.process(&one.session, one.what);
                    told += &format!("{} is decided: {answer:?}\n", one.name);
                    one.answer = Some(answer);
                }
            }
            Step::Answer(which) => {
                let made = running.iter().filter(|one| one.answer.is_some());
                let made: Vec<String> = made.map(|one| one.name.clone()).collect();
                let Some(name) = made.get(which % made.len().max(1)) else {
                    continue;
                };
                let at = running.iter().position(|one| one.name == *name);
                let one = running.remove(at.expect("it runs"));
                let answer = one.answer.expect("it is made");
                let (verdict, twice) = world.answer(&one.name, &answer);
                told += &format!("{name} is answered: {verdict:?}\n");
                if matches!(verdict, Verdict::Fault(_)) || twice.is_some() {
                    return Err(told);
                }
                if let Some((_, new)) = answer.split_once("sid=") {
                    new.clone_into(&mut jars[one.browser]);
                }
            }
            Step::Lose(_) if running.is_empty() => {}
            Step::Lose(which) => {
                // The origin may take it up all the same, now.
                let one = running.remove(which % running.len());
                if one.answer.is_none() && which % 2 == 0 {
                    let answer = origin.process(&one.session, one.what);
                    told += &format!("{} is decided: {answer:?}\n", one.name);
                }
                told += &format!("{} is lost\n", one.name);
                world.lose(&one.name);
            }
        }
        for (name, waits) in std::mem::take(&mut world.waiting) {
            world.waiting.insert(name.clone(), waits);
            match world.again(&name) {
                Verdict::Fits => drop(world.waiting.remove(&name)),
                Verdict::Waits(_) => {}
                Verdict::Fault(_) => return Err(format!("{told}{name} no longer waits")),
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { ..ProptestConfig::default() })]
    #[test]
    fn an_honest_origin_gets_no_fault_however_its_answers_overlap(
        steps in prop::collection::vec(step(), 1..60),
        sessions_max in prop_oneof![Just(1_usize), Just(2), Just(100)],
        members in prop::collection::vec(prop::option::of(0..3_u8), 3),
    ) {
        let played = honest(&steps, sessions_max, &members);
        prop_assert!(played.is_ok(), "{}", played.unwrap_err());
    }
}
