//! The negative proof: made where nothing was shown and the logs are complete, and nowhere else.

use shikiri_incident::access::{Edge, Kept, Refreshes, Site};
use shikiri_incident::exposure::Exposure;
use shikiri_incident::negative::{NotViewed, Objection};
use shikiri_incident::windows::{Bound, Reading, Window, Windows};
use shikiri_incident::{Span, Zone};
use shikiri_record::UnixMillis;

use crate::truth::{known, toy};
use crate::world::{self, Plan, START, Told};

/// A minute's windows around the toy site's busy minute.
fn windows() -> Windows {
    let from = UnixMillis(START);
    let window = Window {
        bound: Bound::Upper,
        from: Some(from),
        to: Some(UnixMillis(START + 119_999)),
        opened_by: None,
        closed_by: None,
        fills_from: Some(from),
    };
    Windows {
        reading: Reading::AnyMaintenance,
        list: vec![window],
    }
}

/// One member alone: every page is their own, stored or not.
fn alone() -> Plan {
    Plan {
        members: 1,
        requests: 500,
        lasts: 60_000,
        ..toy()
    }
}

fn stated(told: &Told, site: &Site, windows: &Windows) -> Result<NotViewed, Vec<Objection>> {
    let known = known(site, told);
    let mut exposure = Exposure::new(100);
    for (access, _) in &told.accesses {
        exposure.add(access, &known.view(access));
    }
    NotViewed::of(site, windows, &known, &exposure)
}

#[test]
fn nobody_was_shown_anything() {
    let told = world::run(&alone());
    let statement = stated(&told, &told.site, &windows()).expect("nothing is against it");
    let text = statement.text(Zone::JST);
    assert_eq!(text, include_str!("../golden/not-viewed.txt"), "\n{text}");
    assert_eq!(statement.logs().len(), 2);
    // Another proof of completeness is another statement.
    let mut other = told.site.clone();
    let log = other.edges.get_mut(&Edge(0)).expect("it has one");
    log.kept = Kept::Complete(shikiri_incident::access::Proof::Numbered);
    let again = stated(&told, &other, &windows()).expect("nothing is against it");
    assert_ne!(again.digest(), statement.digest());
}

#[test]
fn what_is_missing_is_an_objection() {
    let check = |case: &str,
                 plan: &Plan,
                 site: &dyn Fn(&mut Site),
                 expected: &dyn Fn(&Objection) -> bool| {
        let told = world::run(plan);
        let mut changed = told.site.clone();
        site(&mut changed);
        let objections = stated(&told, &changed, &windows()).expect_err(case);
        assert!(objections.iter().any(expected), "{case}: {objections:?}");
        for objection in objections {
            assert!(!objection.sentence(Zone::UTC).is_empty());
        }
    };
    let leaks = Plan {
        members: 800,
        ..alone()
    };
    let untold = Plan {
        tells_session: false,
        ..alone()
    };
    check(
        "a leak",
        &leaks,
        &|_| (),
        &|it| matches!(it, Objection::Exposing(count) if *count > 100),
    );
    check("no sessions", &untold, &|_| (), &|it| {
        matches!(it, Objection::Perhaps(_))
    });
    check(
        "a sampled log",
        &alone(),
        &|site| site.edges.get_mut(&Edge(1)).expect("it has one").kept = Kept::Partly,
        &|it| *it == Objection::Partly(Some(Edge(1))),
    );
    check(
        "an hour that no log covers",
        &alone(),
        &|site| {
            let late = UnixMillis(START + 60_000);
            let log = site.edges.get_mut(&Edge(0)).expect("it has one");
            log.covers = vec![Span::between(UnixMillis(0), late)];
        },
        &|it| matches!(it, Objection::NotCovered(Some(Edge(0)), _)),
    );
    check(
        "refreshes that nobody logged",
        &alone(),
        &|site| site.cache.refreshes = Refreshes::BehindStale,
        &|it| *it == Objection::HiddenFetches,
    );
    check(
        "no log at all",
        &alone(),
        &|site| site.edges.clear(),
        &|it| *it == Objection::NoLog,
    );
    check(
        "a cache behind, without a log",
        &alone(),
        &|site| {
            site.parents.insert(Edge(0), Edge(9));
        },
        &|it| *it == Objection::ParentWithoutLog(Edge(9)),
    );
}

#[test]
fn a_statement_speaks_of_windows_with_two_ends() {
    let told = world::run(&alone());
    let with = |change: &dyn Fn(&mut Windows)| {
        let mut windows = windows();
        change(&mut windows);
        stated(&told, &told.site, &windows).expect_err("it lacks an end")
    };
    assert_eq!(
        with(&|windows| windows.list[0].to = None),
        [Objection::StillOpen]
    );
    assert_eq!(
        with(&|windows| windows.list[0].fills_from = None),
        [Objection::NoBeginning]
    );
    assert_eq!(with(&|windows| windows.list.clear()), [Objection::NoWindow]);
}
