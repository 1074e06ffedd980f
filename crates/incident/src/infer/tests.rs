//! One rule, one table: small logs whose answer is plain.

use std::collections::BTreeMap;

use super::*;
use crate::access::{Cache, Kept, Log, Proof, Purge, Times};
use shikiri_record::ViewerTag;

const EDGE: Edge = Edge(1);
const OTHER: Edge = Edge(2);

/// Everything that is known for sure, of a cache that replaces and never hides anything.
fn site() -> Site {
    Site {
        cache: Cache {
            replaces: true,
            life_max_ms: None,
            refreshes: Refreshes::Openly,
            refresh_delay_ms_max: 0,
            revalidates: false,
            shares_unstored: false,
            age: Age::Unused,
            fetch_max_ms: 100,
            transit_max_ms: 0,
            servable: Servable::WhileFetched,
            shared_is_nobodys: false,
        },
        edges: [(EDGE, log()), (OTHER, log())].into(),
        origin: None,
        parents: BTreeMap::new(),
        purges: Vec::new(),
    }
}

fn log() -> Log {
    Log {
        kept: Kept::Complete(Proof::Numbered),
        covers: vec![between(0, u64::MAX)],
        skew_max_ms: 0,
        in_order: false,
    }
}

fn between(from: u64, to: u64) -> Span {
    Span::between(UnixMillis(from), UnixMillis(to))
}

fn times(from: u64, to: u64) -> Times {
    Times {
        began: Span::at(UnixMillis(from)),
        ended: Span::at(UnixMillis(to)),
    }
}

fn session(name: u8) -> Who {
    Who::Person(Person::Session(ViewerTag([name; 16])))
}

/// Somebody's request, for the one page that there is.
fn access(served: Served, from: u64, to: u64, viewer: u8) -> Access {
    Access {
        edge: Some(EDGE),
        key: TargetTag([1; 16]),
        times: times(from, to),
        served,
        viewer: session(viewer),
        owner: None,
        status: Some(200),
        body: None,
        age_s: None,
        fill: None,
        request: None,
        order: None,
    }
}

fn fill(from: u64, to: u64, viewer: u8) -> Access {
    access(Served::Fetched(Stored::Surely), from, to, viewer)
}

fn hit(at: u64) -> Access {
    access(Served::Hit, at, at, b'z')
}

fn asked(from: u64, to: u64, rendered_for: u8) -> Asked {
    Asked {
        edge: None,
        key: TargetTag([1; 16]),
        times: times(from, to),
        answer: Answer::Response(Stored::Surely),
        rendered_for: session(rendered_for),
        status: Some(200),
        body: None,
        fill: None,
        request: None,
        asks_after_shown: false,
    }
}

/// Whose it may have been, in letters; `?` for an unlisted fill, `-` for nobody's, `*` for an unnamed one.
fn told(view: &View) -> String {
    let mut told = format!("{} ", view.grade);
    for owner in &view.owners {
        told.push(match owner {
            Person::Session(ViewerTag(tag)) | Person::Member(shikiri_record::MemberTag(tag)) => {
                char::from(tag[0])
            }
        });
    }
    for (is, letter) in [
        (view.nobody, '-'),
        (!view.unnamed.is_empty(), '*'),
        (view.unlisted, '?'),
    ] {
        if is {
            told.push(letter);
        }
    }
    told
}

#[track_caller]
fn check_all(site: &Site, origin: &[Asked], lines: &[Access], hit: &Access, expected: &str) {
    let view = |order: &mut dyn Iterator<Item = &Access>| {
        let mut log = OriginLog::default();
        origin.iter().for_each(|asked| log.add(asked.clone()));
        let mut gather = Gather::new(site, log, 1000).expect("there is room");
        for line in order {
            gather.access(line).expect("there is room");
        }
        gather.access(hit).expect("there is room");
        told(&gather.settle().view(hit))
    };
    assert_eq!(view(&mut lines.iter()), expected);
    assert_eq!(view(&mut lines.iter().rev()), expected, "in another order");
}

#[track_caller]
fn check(site: &Site, lines: &[Access], hit: &Access, expected: &str) {
    check_all(site, &[], lines, hit, expected);
}

#[test]
fn the_order_of_intervals_decides_and_nothing_finer() {
    let site = site();
    let (a, b) = (fill(10, 20, b'a'), fill(30, 40, b'b'));
    let both = [a.clone(), b];
    check(&site, &both, &hit(25), "exact a");
    check(&site, &both, &hit(50), "exact b");
    // While the second was fetched, either may have been there; and in the millisecond of its end.
    check(&site, &both, &hit(35), "set(2) ab");
    check(&site, &both, &hit(40), "set(2) ab");
    check(&site, &both, &hit(41), "exact b");
    check(
        &site,
        &both,
        &access(Served::Hit, 25, 35, b'z'),
        "set(2) ab",
    );
    // Two that overlap have no order, however long ago.
    check(&site, &[a, fill(15, 40, b'b')], &hit(90), "set(2) ab");
    // Before any, there is nothing that a complete log could tell.
    check(&site, &both, &hit(5), "window ?");
    // Two fetches of one person are one alternative.
    check(
        &site,
        &[fill(10, 20, b'a'), fill(15, 40, b'a')],
        &hit(90),
        "exact a",
    );
}

#[test]
fn lines_that_stand_in_order_decide_what_a_millisecond_does_not() {
    let mut in_order = site();
    in_order.cache.servable = Servable::OnceWhole {
        line_after_ms_max: 0,
    };
    let untold = in_order.clone();
    in_order
        .edges
        .get_mut(&EDGE)
        .expect("it has a log")
        .in_order = true;
    let at = |line: u64, access: Access| Access {
        order: Some(line),
        ..access
    };
    let both = [at(1, fill(10, 40, b'a')), at(2, fill(30, 40, b'b'))];
    let (later, at_once) = (at(9, hit(90)), at(3, hit(40)));
    check(&in_order, &both, &later, "exact b");
    check(&untold, &both, &later, "set(2) ab");
    // In the millisecond of both, either may have been there; what was stored at a later line was not.
    check(&in_order, &both, &at_once, "set(2) ab");
    let around = [at(1, fill(10, 40, b'a')), at(5, fill(30, 40, b'b'))];
    check(&in_order, &around, &at_once, "exact a");
    check(&untold, &around, &at_once, "set(2) ab");
    // What may not have been stored replaces nothing, whatever its line's place.
    let perhaps = access(Served::Fetched(Stored::Perhaps), 30, 40, b'b');
    let one = [at(1, fill(10, 40, b'a')), at(2, perhaps)];
    check(&in_order, &one, &later, "set(2) ab");
    // Where what is coming is served, a line's place says nothing of when.
    in_order.cache.servable = Servable::WhileFetched;
    check(&in_order, &both, &later, "set(2) ab");
}

#[test]
fn a_store_is_its_own() {
    let mut elsewhere = fill(30, 40, b'b');
    elsewhere.edge = Some(OTHER);
    check(
        &site(),
        &[fill(10, 20, b'a'), elsewhere.clone()],
        &hit(50),
        "exact a",
    );
    let mut unplaced = hit(50);
    unplaced.edge = None;
    check(
        &site(),
        &[fill(10, 20, b'a'), elsewhere.clone()],
        &unplaced,
        "set(2) ab",
    );
    // A line that does not tell its store may have filled any.
    elsewhere.edge = None;
    check(
        &site(),
        &[fill(10, 20, b'a'), elsewhere],
        &hit(50),
        "set(2) ab",
    );
    let mut other_key = fill(30, 40, b'b');
    other_key.key = TargetTag([2; 16]);
    check(
        &site(),
        &[fill(10, 20, b'a'), other_key],
        &hit(50),
        "exact a",
    );
}

#[test]
fn what_may_not_have_been_stored_replaces_nothing() {
    let with = |stored: Stored| {
        [
            fill(10, 20, b'a'),
            access(Served::Fetched(stored), 30, 40, b'b'),
        ]
    };
    check(&site(), &with(Stored::Surely), &hit(200), "exact b");
    check(&site(), &with(Stored::Perhaps), &hit(200), "set(2) ab");
    check(&site(), &with(Stored::Not), &hit(200), "exact a");
    let mut shares = site();
    shares.cache.shares_unstored = true;
    check(&shares, &with(Stored::Not), &hit(35), "set(2) ab");
    check(&shares, &with(Stored::Not), &hit(200), "exact a");
    let mut two_machines = site();
    two_machines.cache.replaces = false;
    check(&two_machines, &with(Stored::Surely), &hit(200), "set(2) ab");
}

#[test]
fn a_304_is_no_fill_and_lengthens_a_life() {
    let mut site = site();
    site.cache.life_max_ms = Some(50);
    let old = fill(10, 20, b'a');
    let again = access(Served::Revalidated, 60, 65, b'b');
    check(&site, std::slice::from_ref(&old), &hit(70), "exact a");
    check(&site, std::slice::from_ref(&old), &hit(71), "window ?");
    site.cache.revalidates = true;
    check(&site, std::slice::from_ref(&old), &hit(71), "window ?");
    check(&site, &[old.clone(), again.clone()], &hit(100), "exact a");
    check(&site, &[old, again.clone()], &hit(200), "window ?");
    // Nor did who asked whether it had changed see their own.
    check(&site, &[fill(10, 20, b'a')], &again, "exact a");
}

#[test]
fn a_purge_ends_what_was_stored_before_it() {
    let mut site = site();
    let purged = |from, to, key| Purge {
        when: between(from, to),
        key,
    };
    let a = [fill(10, 20, b'a')];
    for (purge, expected) in [
        (purged(30, 40, None), "window ?"),
        (purged(30, 40, Some(TargetTag([1; 16]))), "window ?"),
        (purged(30, 40, Some(TargetTag([2; 16]))), "exact a"),
        // Perhaps before it was stored, perhaps after the hit.
        (purged(20, 40, None), "exact a"),
        (purged(30, 50, None), "exact a"),
    ] {
        site.purges = vec![purge];
        check(&site, &a, &hit(50), expected);
    }
    site.purges = vec![purged(30, 40, None)];
    site.edges.insert(
        EDGE,
        Log {
            skew_max_ms: 11,
            ..log()
        },
    );
    check(&site, &a, &hit(50), "exact a");
}

#[test]
fn an_age_names_its_fill_give_or_take() {
    let mut site = site();
    site.cache.replaces = false;
    let fills = [fill(10_000, 10_000, b'a'), fill(20_000, 20_000, b'b')];
    let aged = |age_s| Access {
        age_s: Some(age_s),
        ..hit(25_000)
    };
    check(&site, &fills, &aged(5), "set(2) ab");
    let since_fetch = |restarts| Age::SinceFetch {
        off_by_ms: 1000,
        restarts,
    };
    site.cache.age = since_fetch(false);
    check(&site, &fills, &aged(5), "exact b");
    check(&site, &fills, &aged(6), "exact b");
    check(&site, &fills, &aged(7), "window ?");
    check(&site, &fills, &aged(15), "exact a");
    // Set back by a 304, it may be less than it was, and never more.
    site.cache.age = since_fetch(true);
    site.cache.revalidates = true;
    check(&site, &fills, &aged(5), "set(2) ab");
    check(&site, &fills, &aged(15), "exact a");
}

#[test]
fn who_waited_got_what_was_running() {
    let waited = |from, to| access(Served::Collapsed, from, to, b'z');
    let mut site = site();
    site.cache.replaces = false;
    let fills = [fill(10, 20, b'a'), fill(30, 40, b'b')];
    check(&site, &fills, &waited(33, 41), "exact b");
    check(&site, &fills, &hit(41), "set(2) ab");
    // Unless they waited for a 304.
    site.cache.revalidates = true;
    let again = access(Served::Revalidated, 34, 41, b'c');
    let all = [fills[0].clone(), fills[1].clone(), again];
    check(&site, &all, &waited(35, 41), "set(2) ab");
}

#[test]
fn other_bytes_and_another_status_are_another_fill() {
    let mut site = site();
    site.cache.replaces = false;
    let marked = |mut access: Access, mark: u64, status: u16| {
        access.body = Some(BodyMark(mark));
        access.status = Some(status);
        access
    };
    let fills = [
        marked(fill(10, 20, b'a'), 1, 200),
        marked(fill(11, 21, b'b'), 2, 200),
        marked(fill(12, 22, b'c'), 2, 404),
    ];
    check(&site, &fills, &marked(hit(50), 2, 200), "exact b");
    // A part, or that nothing changed, tells nothing of the whole's status.
    check(&site, &fills, &marked(hit(50), 2, 304), "set(2) bc");
    check(&site, &fills, &hit(50), "set(2) ab");
    // A 304 may have told another mark of the same bytes.
    site.cache.revalidates = true;
    check(&site, &fills, &marked(hit(50), 2, 200), "set(2) ab");
}

#[test]
fn what_the_log_names_is_proven_but_by_a_sampled_log() {
    let named = |mut access: Access, id: u128| {
        access.fill = Some(FillId(id));
        access
    };
    let fills = [named(fill(10, 20, b'a'), 1), named(fill(30, 40, b'b'), 2)];
    check(&site(), &fills, &named(hit(200), 1), "proven a");
    check(&site(), &fills, &named(hit(200), 3), "window ?");
    // Another store's ids are its own.
    let mut elsewhere = fills.clone();
    elsewhere[0].edge = Some(OTHER);
    check(&site(), &elsewhere, &named(hit(200), 1), "window ?");
    let mut behind = site();
    behind.parents.insert(EDGE, OTHER);
    check(&behind, &elsewhere, &named(hit(200), 1), "proven a");
    let mut anonymous = fills.clone();
    anonymous[0].viewer = Who::Anonymous;
    check(&site(), &anonymous, &named(hit(200), 1), "proven -");
    anonymous[0].viewer = Who::Untold;
    check(&site(), &anonymous, &named(hit(200), 1), "set(1) *");
    // The origin's word goes before the requester's name.
    anonymous[0].owner = Some(Person::Session(ViewerTag([b'o'; 16])));
    check(&site(), &anonymous, &named(hit(200), 1), "proven o");
    let mut sampled = site();
    sampled.edges.insert(
        EDGE,
        Log {
            kept: Kept::Partly,
            ..log()
        },
    );
    check(&sampled, &fills, &named(hit(200), 1), "set(1) a");
    check(&sampled, &fills, &hit(200), "set(1) b?");
}

/// Varnish gives what a 304 lets it keep an id of its own.
#[test]
fn what_was_kept_behind_a_hit_has_the_bytes_that_the_hit_was_shown() {
    let mut site = site();
    site.origin = Some(log());
    site.cache.revalidates = true;
    site.cache.refreshes = Refreshes::BehindAny;
    let named = |fill: u128, request: u128, access: Access| Access {
        fill: Some(FillId(fill)),
        request: Some(RequestId(request)),
        ..access
    };
    let behind = |fill: u128, request: u128, at: u64| Asked {
        answer: Answer::NotModified,
        fill: Some(FillId(fill)),
        request: Some(RequestId(request)),
        asks_after_shown: true,
        ..asked(at, at + 5, b'c')
    };
    let fetched = |fill: u128, request: u128, of: Asked| Asked {
        fill: Some(FillId(fill)),
        request: Some(RequestId(request)),
        ..of
    };
    // Two were stored in the millisecond in which the first is asked after; it was asked after again, twice.
    let lines = [
        named(1, 1, fill(10, 20, b'a')),
        named(2, 2, fill(90, 100, b'b')),
        named(1, 3, access(Served::Hit, 99, 100, b'x')),
        named(7, 4, access(Served::Hit, 150, 150, b'y')),
    ];
    let mut origin = vec![
        fetched(1, 1, asked(11, 19, b'a')),
        fetched(2, 2, asked(91, 100, b'b')),
        behind(7, 3, 100),
        behind(8, 4, 151),
    ];
    let mut hit = hit(200);
    hit.fill = Some(FillId(8));
    check_all(&site, &origin, &lines, &hit, "proven a");
    // Where a fetch may have asked after another than was shown, it is told by the time.
    for asked in &mut origin {
        asked.asks_after_shown = false;
    }
    hit.fill = Some(FillId(7));
    check_all(&site, &origin, &lines, &hit, "set(2) ab");
}

#[test]
fn what_was_kept_has_the_bytes_of_what_was_there_before() {
    let mut site = site();
    site.origin = Some(log());
    site.cache.revalidates = true;
    let kept = Asked {
        answer: Answer::NotModified,
        fill: Some(FillId(7)),
        ..asked(100, 110, b'c')
    };
    let origin = [asked(11, 19, b'a'), kept];
    let mut named = hit(200);
    named.fill = Some(FillId(7));
    let lines = [fill(10, 20, b'a')];
    check_all(&site, &origin, &lines, &named, "exact a");
    // What was stored later is another's, however the hit is placed.
    let later = [fill(10, 20, b'a'), fill(150, 160, b'b')];
    let origin = [origin[0].clone(), origin[1].clone(), asked(151, 159, b'b')];
    check_all(&site, &origin, &later, &named, "exact a");
    // Two that were there in no order.
    let unordered = [fill(10, 20, b'a'), fill(15, 25, b'b')];
    let origin = [origin[0].clone(), asked(16, 24, b'b'), origin[1].clone()];
    check_all(&site, &origin, &unordered, &named, "set(2) ab");
}

#[test]
fn a_gap_is_a_fill_of_nobody_knows_whom() {
    let gap = |from: u64, to: u64| {
        let mut site = site();
        let covers = vec![between(0, from - 1), between(to + 1, u64::MAX)];
        site.edges.insert(EDGE, Log { covers, ..log() });
        site
    };
    let fills = [fill(1000, 1010, b'a'), fill(3000, 3010, b'b')];
    check(&gap(1500, 1600), &fills, &hit(2000), "set(1) a?");
    check(&gap(1500, 1600), &fills, &hit(1200), "exact a");
    check(&gap(1500, 1600), &fills, &hit(4000), "exact b");
    check(&gap(500, 600), &fills, &hit(2000), "exact a");
    // What is lacking at its end may have begun a whole fetch before.
    check(&gap(1500, 1600), &fills, &hit(1450), "set(1) a?");
    // A log that begins later tells nothing of what was stored before.
    check(&gap(1, 900), &[], &hit(950), "window ?");
    let mut unknown = hit(2000);
    unknown.edge = Some(Edge(77));
    check(&site(), &fills, &unknown, "window ?");
}

#[test]
fn no_response_holds_what_was_fetched_behind_it() {
    let mut site = site();
    site.cache.refreshes = Refreshes::BehindStale;
    site.origin = Some(log());
    // Its line ended when the fetch behind it did.
    let mut stale = access(Served::Stale, 1000, 1060, b'b');
    stale.request = Some(RequestId(1));
    let mut behind = asked(1001, 1050, b'b');
    behind.request = Some(RequestId(1));
    let origin = [asked(11, 19, b'a'), behind];
    let lines = [fill(10, 20, b'a')];
    check_all(&site, &origin, &lines, &stale, "exact a");
    let mut other = stale.clone();
    other.request = Some(RequestId(2));
    let lines = [fill(10, 20, b'a'), stale];
    check_all(&site, &origin, &lines, &other, "set(2) ab");
}

#[test]
fn fetches_behind_hits_are_in_the_origins_log() {
    let mut site = site();
    site.cache.refreshes = Refreshes::BehindAny;
    site.origin = Some(log());
    let behind = access(Served::Hit, 1000, 1001, b'b');
    let lines = [fill(10, 20, b'a'), behind.clone()];
    let origin = [asked(11, 19, b'a'), asked(1000, 1050, b'b')];
    check_all(&site, &origin, &lines, &hit(500), "exact a");
    // Joined by time and session: the only line that can be behind it.
    check_all(&site, &origin, &lines, &hit(2000), "exact b");
    check_all(&site, &origin, &lines, &hit(1020), "set(2) ab");
    // Who caused it saw what was there before; the old bytes may have been replaced while it looked.
    check_all(&site, &origin, &[lines[0].clone()], &behind, "set(2) ab");
    // Without the origin's log, whoever hit may have caused a fetch.
    site.origin = None;
    check(&site, &lines, &hit(2000), "set(3) abz");
    site.cache.refreshes = Refreshes::BehindStale;
    check(&site, &lines, &hit(2000), "exact a");
    // Two lines that may be behind one request: it may have filled any store.
    site.origin = Some(log());
    site.cache.refreshes = Refreshes::BehindAny;
    let mut elsewhere = behind;
    elsewhere.edge = Some(OTHER);
    let lines = [lines[0].clone(), lines[1].clone(), elsewhere];
    check_all(&site, &origin, &lines, &hit(2000), "set(2) ab");
}

#[test]
fn an_id_that_both_logs_tell_joins_them_however_their_clocks_differ() {
    let mut site = site();
    site.cache.refreshes = Refreshes::BehindStale;
    site.origin = Some(Log {
        skew_max_ms: 500,
        ..log()
    });
    let with_id = |mut access: Access, id: u128| {
        access.request = Some(RequestId(id));
        access
    };
    let origin = |from: u64, id: u128| Asked {
        request: Some(RequestId(id)),
        ..asked(from, from + 10, b'b')
    };
    let lines = [
        with_id(fill(10, 20, b'a'), 1),
        with_id(access(Served::Stale, 2000, 2001, b'b'), 2),
    ];
    check_all(&site, &[origin(2300, 2)], &lines, &hit(5000), "exact b");
    check_all(&site, &[origin(2300, 2)], &lines, &hit(2500), "set(2) ab");
    // The origin's log tells whom it rendered: more than the cache's own line does.
    let taken = Asked {
        rendered_for: session(b'c'),
        ..origin(10, 1)
    };
    check_all(
        &site,
        std::slice::from_ref(&taken),
        &lines,
        &hit(1000),
        "exact c",
    );
    check_all(&site, &[taken], &lines, &lines[0], "proven c");
}

#[test]
fn a_cache_behind_may_have_had_another_s() {
    let mut site = site();
    let behind = Edge(9);
    site.parents = [(EDGE, behind), (OTHER, behind)].into();
    let mut elsewhere = fill(10, 20, b'a');
    elsewhere.edge = Some(OTHER);
    let here = fill(1000, 1010, b'b');
    // Without its log: what this store fetched may be what the other had fetched.
    let lines = [elsewhere.clone(), here.clone()];
    check(&site, &lines, &hit(2000), "set(2) ab");
    check(&site, &lines, &here, "set(2) ab");
    // With it: it was a hit there.
    site.edges.insert(behind, log());
    let at_parent = |mut access: Access| {
        access.edge = Some(behind);
        access
    };
    let lines = [
        elsewhere,
        here.clone(),
        at_parent(fill(12, 18, b'a')),
        at_parent(access(Served::Hit, 1003, 1004, b'b')),
    ];
    check(&site, &lines, &hit(2000), "exact a");
    check(&site, &lines, &here, "exact a");
}

#[test]
fn exposure_is_of_another_and_of_nobody_who_is_not_there() {
    let exposes = |fetched: Who, viewer: Who| {
        let site = site();
        let mut gather = Gather::new(&site, OriginLog::default(), 10).expect("there is room");
        let mut line = fill(10, 20, b'a');
        line.viewer = fetched;
        gather.access(&line).expect("there is room");
        let mut hit = hit(50);
        hit.viewer = viewer;
        gather.settle().view(&hit).exposes
    };
    let member = Who::Person(Person::Member(shikiri_record::MemberTag([1; 16])));
    for (fetched, viewer, expected) in [
        (session(b'a'), session(b'a'), Exposes::No),
        (session(b'a'), session(b'b'), Exposes::Another),
        (session(b'a'), Who::Anonymous, Exposes::Another),
        (session(b'a'), Who::Untold, Exposes::Perhaps),
        (session(b'a'), member, Exposes::Perhaps),
        (Who::Anonymous, session(b'a'), Exposes::No),
        (Who::Untold, session(b'a'), Exposes::Perhaps),
    ] {
        assert_eq!(exposes(fetched, viewer), expected, "{fetched:?} {viewer:?}");
    }
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let site = site();
    let mut gather = Gather::new(&site, OriginLog::default(), 2).expect("there is room");
    for _ in 0..100 {
        gather.access(&hit(5)).expect("hits take no room");
    }
    gather.access(&fill(1, 2, b'a')).expect("there is room");
    gather.access(&fill(3, 4, b'a')).expect("there is room");
    let error = gather.access(&fill(5, 6, b'a')).expect_err("there is none");
    assert_eq!(error, TooMany { facts_max: 2 });
    let mut log = OriginLog::default();
    (0..3).for_each(|_| log.add(asked(1, 2, b'a')));
    assert!(Gather::new(&site, log, 2).is_err());
}
