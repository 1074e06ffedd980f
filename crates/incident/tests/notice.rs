//! A public notice of March 2020 and its follow-up, as a timeline: the first statement, the corrections,
//! and what each of them renders to. Persons and firms are left out; every time is the notice's.

use shikiri_incident::lint::{self, Clocks, Lint};
use shikiri_incident::timeline::{Change, Event, Place, Timeline, View, What};
use shikiri_incident::windows::{Diff, Reading, Windows};
use shikiri_incident::{Span, Zone};
use shikiri_record::{Status, UnixMillis};

/// A minute of March 2020 in Japan.
fn at(day: u8, hour: u8, minute: u8) -> UnixMillis {
    Zone::JST
        .instant((2020, 3, day), (hour, minute, 0))
        .expect("there is such a time")
}

struct Script(Vec<Event>);

impl Script {
    /// Writes down what happened at a minute.
    fn say(&mut self, recorded: UnixMillis, when: Span, what: What, text: &str) -> &mut Event {
        let number = u64::try_from(self.0.len()).expect("it is short") + 1;
        self.0.push(Event {
            number,
            recorded,
            when,
            source: "the operator".into(),
            status: Status::Confirmed,
            what,
            text: text.into(),
            supersedes: None,
        });
        self.0.last_mut().expect("it was just added")
    }
}

fn notice() -> Timeline {
    use Change::{CacheInFront, Closed, Measure, Opened};
    let mut script = Script(Vec::new());
    let happened = |changes: &[Change]| What::Happened(changes.to_vec());
    let stated = |name: &str| happened(&[Change::Stated { name: name.into() }]);
    let reported = |reporter: &str| {
        happened(&[Change::Reported {
            reporter: reporter.into(),
            seen: None,
        }])
    };
    let closed = || happened(&[Closed(Place::Unsaid)]);
    let minute = |day, hour, minute| Span::minute(at(day, hour, minute));

    // What the first statement said.
    let first = at(19, 12, 0);
    for (when, what, text) in [
        (
            minute(16, 19, 23),
            happened(&[CacheInFront]),
            "the CDN is taken into use",
        ),
        (
            minute(16, 22, 50),
            reported("the card processor"),
            "a customer logged in as themselves and became somebody else",
        ),
        (minute(16, 22, 57), closed(), "all access is shut down"),
        (minute(17, 8, 25), happened(&[Opened]), "opened again"),
        (
            minute(17, 21, 3),
            reported("a customer"),
            "a customer logged in as themselves and became somebody else",
        ),
        (
            minute(17, 21, 8),
            closed(),
            "maintenance, until further notice",
        ),
    ] {
        script.say(first, when, what, text).status = Status::Provisional;
    }
    script.say(first, Span::minute(first), stated("N1"), "first statement");

    // What the follow-up corrected and added.
    let second = at(27, 12, 0);
    let mut correct = |number, when, what, text: &str| {
        script.say(second, when, what, text).supersedes = number;
    };
    correct(
        Some(1),
        minute(16, 12, 24),
        happened(&[CacheInFront, Opened]),
        "the CDN was taken into use, and maintenance ended, at 12:24 and not at 19:23",
    );
    correct(
        None,
        minute(16, 16, 25),
        closed(),
        "maintenance for a while",
    );
    correct(
        None,
        minute(16, 19, 23),
        happened(&[Opened]),
        "maintenance ended",
    );
    correct(
        Some(4),
        minute(17, 3, 21),
        What::AsBefore,
        "opened again at 3:21 and not at 8:25",
    );
    correct(
        None,
        minute(17, 4, 3),
        closed(),
        "maintenance to mend another fault",
    );
    correct(
        None,
        minute(17, 8, 25),
        happened(&[Opened]),
        "maintenance ended",
    );
    correct(
        None,
        minute(16, 22, 57).hull(minute(17, 3, 21)),
        happened(&[Measure]),
        "\"store nothing personal\" and \"store images, JS and CSS only\", set at the servers",
    );
    correct(
        Some(6),
        minute(17, 21, 1),
        What::AsBefore,
        "at 21:01 and not at 21:08",
    );
    for number in [2, 3, 5] {
        let confirmed = script.0[number - 1].clone();
        let word = script.say(second, confirmed.when, What::AsBefore, &confirmed.text);
        word.supersedes = Some(confirmed.number);
    }
    script.say(second, Span::minute(second), stated("N2"), "follow-up");
    Timeline::new(script.0).expect("its numbers grow")
}

/// All that a view renders to.
fn rendered(view: &View<'_>) -> String {
    [
        view.text(Zone::JST),
        Windows::of(view, Reading::AnyMaintenance).text(Zone::JST),
        Clocks::of(view).text(),
        lint::text(view, Zone::JST),
    ]
    .join("\n")
}

/// The first minute, the last minute and the length of each window.
fn windows(view: &View<'_>) -> Vec<(UnixMillis, UnixMillis, u64)> {
    let windows = Windows::of(view, Reading::AnyMaintenance);
    let ends = |window: &shikiri_incident::windows::Window| {
        let to = window.to.expect("it is closed");
        assert_eq!(to.0 % 60_000, 59_999, "its last minute is in it");
        let to = UnixMillis(to.0 - 59_999);
        let minutes = window.minutes().expect("it has both ends");
        (window.from.expect("its beginning is told"), to, minutes)
    };
    windows.list.iter().map(ends).collect()
}

#[test]
fn the_first_statement_has_its_two_windows() {
    let timeline = notice();
    let first = timeline.as_stated("N1").expect("it was published");
    assert_eq!(
        windows(&first),
        [
            (at(16, 19, 23), at(16, 22, 57), 214),
            (at(17, 8, 25), at(17, 21, 8), 763),
        ]
    );
}

#[test]
fn after_the_corrections_there_are_exactly_the_four() {
    let timeline = notice();
    let now = timeline.now();
    assert_eq!(
        windows(&now),
        [
            (at(16, 12, 24), at(16, 16, 25), 241),
            (at(16, 19, 23), at(16, 22, 57), 214),
            (at(17, 3, 21), at(17, 4, 3), 42),
            (at(17, 8, 25), at(17, 21, 1), 756),
        ]
    );
    let windows = Windows::of(&now, Reading::AnyMaintenance);
    assert_eq!(windows.minutes(), Some(20 * 60 + 53));
    // Nothing was purged: a later window may show what was stored in the first.
    for window in &windows.list {
        assert_eq!(window.fills_from, Some(at(16, 12, 24)));
    }
}

#[test]
fn both_ends_of_a_window_are_in_it() {
    let timeline = notice();
    let windows = Windows::of(&timeline.now(), Reading::AnyMaintenance);
    let seconds = |minute: UnixMillis, seconds: u64| UnixMillis(minute.0 + seconds * 1000);
    for (instant, is_in) in [
        (UnixMillis(at(16, 12, 24).0 - 1), false),
        (at(16, 12, 24), true),
        (seconds(at(16, 16, 25), 59), true),
        (at(16, 16, 26), false),
        (at(16, 17, 0), false),
        (seconds(at(17, 21, 1), 59), true),
        (UnixMillis(at(17, 21, 2).0 - 1), true),
        (at(17, 21, 2), false),
        (at(17, 21, 5), false),
    ] {
        assert_eq!(windows.at(instant).is_some(), is_in, "{instant:?}");
    }
}

#[test]
fn the_correction_adds_4_hours_36_and_takes_7_minutes_off_the_end() {
    let timeline = notice();
    let first = timeline.as_stated("N1").expect("it was published");
    let diff = Diff::between(&first, &timeline.now(), Reading::AnyMaintenance);
    let (before, after) = diff.minutes.expect("all windows are closed");
    assert_eq!((before, after, after - before), (977, 1253, 276));
    let minutes = |stretches: &[shikiri_incident::windows::Stretch]| {
        let ends = |it: &shikiri_incident::windows::Stretch| {
            (
                it.from.expect("bounded"),
                UnixMillis(it.to.expect("bounded").0 - 59_999),
            )
        };
        stretches.iter().map(ends).collect::<Vec<_>>()
    };
    assert_eq!(
        minutes(&diff.entered),
        [
            (at(16, 12, 24), at(16, 16, 25)),
            (at(17, 3, 21), at(17, 4, 3))
        ]
    );
    assert_eq!(minutes(&diff.left), [(at(17, 21, 2), at(17, 21, 8))]);
    assert_eq!(diff.superseded.len(), 6);
}

#[test]
fn the_clocks_say_how_long_it_took() {
    let timeline = notice();
    let clocks = Clocks::of(&timeline.now());
    assert_eq!(clocks.undetected, Some(10 * 60 + 26));
    assert_eq!(clocks.stop, Some(7));
    assert_eq!(
        lint::statement_days(&timeline.now(), Zone::JST),
        [("N1", 3), ("N2", 11)]
    );
}

#[test]
fn the_second_report_came_after_the_stop() {
    let timeline = notice();
    let first = timeline.as_stated("N1").expect("it was published");
    let outside = |view: &View<'_>| {
        let found = lint::lint(view);
        found
            .into_iter()
            .filter(|lint| matches!(lint, Lint::ReportOutsideWindows { .. }))
            .collect::<Vec<_>>()
    };
    assert_eq!(outside(&first), []);
    let now = timeline.now();
    let report = now.standing().iter().find(|it| it.first == 5);
    let stop = now.standing().iter().find(|it| it.first == 6);
    assert_eq!(
        outside(&now),
        [Lint::ReportOutsideWindows {
            report: report.expect("it stands").event.number,
            stop: Some(stop.expect("it stands").event.number),
        }]
    );
}

/// Only a maintenance at the edge ends a window: the notice does not say that any was.
#[test]
fn with_maintenance_at_the_origin_alone_the_window_never_closed() {
    let timeline = notice();
    let windows = Windows::of(&timeline.now(), Reading::AtTheEdge);
    assert_eq!(windows.list.len(), 1);
    assert_eq!(windows.list[0].from, Some(at(16, 12, 24)));
    assert_eq!(windows.list[0].to, None);
}

#[test]
fn what_was_stated_renders_as_it_was_stated() {
    let timeline = notice();
    let first = timeline.as_stated("N1").expect("it was published");
    let then = rendered(&first);
    assert_eq!(then, include_str!("golden/notice-n1.txt"), "\n{then}");
    let by_date = timeline.as_recorded(at(26, 23, 59));
    assert_eq!(rendered(&by_date), then);
    // Before anything else was written down, it was the whole timeline.
    let alone = Timeline::new(first.said().to_vec()).expect("its numbers grow");
    assert_eq!(rendered(&alone.now()), then);

    let now = timeline.now();
    let text = rendered(&now);
    assert_eq!(text, include_str!("golden/notice-n2.txt"), "\n{text}");
    let diff = Diff::between(&first, &now, Reading::AnyMaintenance).text(Zone::JST);
    assert_eq!(diff, include_str!("golden/notice-diff.txt"), "\n{diff}");
}
