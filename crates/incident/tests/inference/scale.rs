//! The notice's size: 147,689 accesses by 68,898 members in four windows, at a CDN that leaks.

use std::collections::BTreeSet;

use shikiri_incident::access::Who;
use shikiri_incident::exposure::Exposure;
use shikiri_incident::infer::Grade;
use shikiri_incident::tally::Tally;
use shikiri_incident::timeline::{Change, Event, Place, Timeline, What};
use shikiri_incident::windows::{Reading, Windows};
use shikiri_incident::{Span, Zone};
use shikiri_record::{Status, UnixMillis};

use crate::truth::{known, toy};
use crate::world::{self, Dice, Loss, Plan, START, member};

const ACCESSES: usize = 147_689;
const MEMBERS: u64 = 68_898;
/// Others, between the windows: none of them counts.
const OUTSIDE: usize = 1_000;

/// The four windows' first and last minutes.
const WINDOWS: [[(u8, u8, u8); 2]; 4] = [
    [(16, 12, 24), (16, 16, 25)],
    [(16, 19, 23), (16, 22, 57)],
    [(17, 3, 21), (17, 4, 3)],
    [(17, 8, 25), (17, 21, 1)],
];

fn at((day, hour, minute): (u8, u8, u8)) -> u64 {
    let instant = Zone::JST.instant((2020, 3, day), (hour, minute, 0));
    instant.expect("there is such a time").0
}

fn windows() -> Windows {
    let mut events = Vec::new();
    for [from, to] in WINDOWS {
        let opened = vec![Change::CacheInFront, Change::Opened];
        for (minute, changes) in [(from, opened), (to, vec![Change::Closed(Place::Edge)])] {
            events.push(Event {
                number: u64::try_from(events.len()).expect("it is short"),
                recorded: UnixMillis(at(minute)),
                when: Span::minute(UnixMillis(at(minute))),
                source: String::new(),
                status: Status::Confirmed,
                what: What::Happened(changes),
                text: String::new(),
                supersedes: None,
            });
        }
    }
    let timeline = Timeline::new(events).expect("its numbers grow");
    Windows::of(&timeline.now(), Reading::AnyMaintenance)
}

/// Each member once, and as many more by any of them, evenly over the windows; and some beside them.
fn script(dice: &mut Dice) -> Vec<(u64, Who)> {
    let length = |[from, to]: [(u8, u8, u8); 2]| at(to) + 59_000 - at(from);
    let all: u64 = WINDOWS.iter().copied().map(length).sum();
    let inside = |dice: &mut Dice| {
        let mut rest = dice.below(all);
        for window in WINDOWS {
            if rest < length(window) {
                return at(window[0]) + rest - START;
            }
            rest -= length(window);
        }
        unreachable!("it is less than all of them");
    };
    let mut script = Vec::new();
    for number in 0..ACCESSES {
        let number = u64::try_from(number).expect("it fits");
        let who = if number < MEMBERS {
            number
        } else {
            dice.below(MEMBERS)
        };
        script.push((inside(dice), member(who)));
    }
    // Between the first window and the second, by members who may have come in a window too.
    for _ in 0..OUTSIDE {
        let from = at((16, 17, 0)) + dice.below(3_600_000);
        script.push((from - START, member(dice.below(2 * MEMBERS))));
    }
    script
}

/// So many points of presence, four personal pages for all, one fetch at a time.
fn cdn(lifetime_s: u64, resolution: u64, edges: u32) -> Plan {
    Plan {
        seed: 7,
        requests: ACCESSES + OUTSIDE,
        members: MEMBERS,
        keys: 4,
        edges,
        lifetime: lifetime_s * 1000,
        collapses: true,
        tells_request: false,
        resolution,
        ..toy()
    }
}

/// Judges one CDN, and tells what came of it: fills, victims, and how many of 1,000 shared views are
/// certain.
fn judge(plan: &Plan) -> (usize, usize, u64) {
    let script = script(&mut Dice(plan.seed));
    let told = world::run_with(plan, Some(&script));
    let known = known(&told.site, &told);
    let mut tally = Tally::new(windows());
    let mut exposure = Exposure::new(10_000);
    let mut victims = BTreeSet::new();
    // Who saw whose, where that is certain: as it is told, and as it was.
    let (mut told_pairs, mut true_pairs) = (BTreeSet::new(), BTreeSet::new());
    for (access, truth) in &told.accesses {
        tally.add(access.times.during(), 0, access.viewer);
        let view = known.view(access);
        let Who::Person(owner) = truth.owner else {
            unreachable!("everybody has a session");
        };
        assert!(
            view.owners.contains(&owner),
            "the truth is among the alternatives"
        );
        assert!(!view.unlisted);
        if view.grade <= Grade::Exact {
            assert_eq!(view.owners.len(), 1, "certainty has one owner");
            told_pairs.extend(view.owners.iter().map(|owner| (access.viewer, *owner)));
            true_pairs.insert((truth.viewer, owner));
        }
        if truth.owner != truth.viewer {
            victims.insert(owner);
        }
        exposure.add(access, &view);
    }
    // Each that is told is right, and each that is certain is told.
    assert_eq!(told_pairs, true_pairs);
    assert!(told_pairs.len() > ACCESSES / 2, "{}", told_pairs.len());
    assert_eq!(
        tally.inside.accesses,
        u64::try_from(ACCESSES).expect("it fits")
    );
    assert_eq!(
        tally.inside.persons(),
        usize::try_from(MEMBERS).expect("it fits")
    );
    assert_eq!(
        tally.outside.accesses,
        u64::try_from(OUTSIDE).expect("it fits")
    );
    assert!(exposure.at_least() <= victims.len());
    let most = exposure.at_most();
    assert!(most.named >= victims.len() && most.named <= known.fills());
    assert_eq!((most.unnamed, most.unlisted), (0, 0));
    for owner in exposure.certain() {
        assert!(victims.contains(owner));
    }
    let grades = exposure.grades;
    let certain = (grades.proven + grades.exact) * 1000 / exposure.shared;
    (known.fills(), victims.len(), certain)
}

/// The lifetime in seconds, the clock's step, the points of presence, and of 1,000 shared views those that are certain,
/// at least.
#[test]
fn the_notices_size() {
    for (lifetime_s, resolution, edges, certain_min) in
        [(60, 1, 4, 990), (600, 1000, 4, 990), (3600, 1000, 1, 990)]
    {
        let (fills, victims, certain) = judge(&cdn(lifetime_s, resolution, edges));
        let case = format!(
            "{lifetime_s} s at {edges}: {fills} fills, {victims} victims, {certain} certain"
        );
        assert!(certain >= certain_min, "{case}");
        // Only who filled can be a victim, and almost everybody's fill was shown to somebody else.
        assert!(victims <= fills && fills < 2 * victims, "{case}");
    }
}

/// A fifth of the lines lost, and said to be: nothing is certain, and the truth is among the alternatives or a lost
/// line may be it.
#[test]
fn the_notices_size_with_lines_lost() {
    let plan = Plan {
        loss: Loss::Lines(20),
        ..cdn(600, 1, 4)
    };
    let script = script(&mut Dice(plan.seed));
    let told = world::run_with(&plan, Some(&script));
    let known = known(&told.site, &told);
    let mut wrong_if_believed = 0;
    for (access, truth) in &told.accesses {
        let view = known.view(access);
        assert!(view.grade > Grade::Exact, "{view:?}");
        let Who::Person(owner) = truth.owner else {
            unreachable!("everybody has a session");
        };
        let is_among = view.owners.contains(&owner);
        assert!(is_among || view.unlisted, "{view:?}");
        wrong_if_believed += usize::from(!is_among && view.owners.len() == 1);
    }
    // Whoever took the only fill that is left for the answer would have been wrong so often.
    assert!(wrong_if_believed > 1000, "{wrong_if_believed}");
}
