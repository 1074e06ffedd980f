//! How many persons' data was shown to others: at least and at most.
//!
//! Never here: an estimate between the two. Each number is a bound with its reason.
//!
//! Invariant: the lower bound counts nobody twice, and nobody who may not have been shown; the upper one
//! leaves nobody out, or says that lines are lacking.

use std::collections::BTreeSet;

use crate::access::{Access, Person, Who};
use crate::infer::{Exposes, Grade, View};

/// Sets with more alternatives are not kept for the lower bound: they rarely add to it.
const SET_PERSONS_MAX: usize = 16;

/// What all views together show. Memory grows with the persons in it, and with the sets kept.
#[derive(Clone, Debug)]
pub struct Exposure {
    /// How many views there were.
    pub views: u64,
    /// Of those, how many came from a store or another's fetch.
    pub shared: u64,
    /// Of the shared ones, by grade.
    pub grades: Grades,
    /// Views that showed what is another's.
    pub exposing: u64,
    /// Views that may have.
    pub perhaps: u64,
    /// Of those, views that may have held a fill whose line is lacking.
    pub unlisted: u64,
    /// Who was shown what is another's, as far as the logs tell sessions.
    viewers: BTreeSet<Person>,
    /// Whose data was shown to another, by views whose owner is certain.
    certain: BTreeSet<Person>,
    /// Whose data may have been.
    possible: BTreeSet<Person>,
    /// Fills without a name that may have been shown.
    unnamed: BTreeSet<u32>,
    /// The owners of views that surely showed one of them, by their number.
    sets: BTreeSet<(usize, Vec<Person>)>,
    sets_max: usize,
}

/// How many views have each grade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grades {
    /// The log names the fill.
    pub proven: u64,
    /// One alternative.
    pub exact: u64,
    /// Several, or one and perhaps a lacking line.
    pub set: u64,
    /// No fill was found.
    pub window: u64,
}

/// The most persons whose data can have been shown to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtMost {
    /// Persons that the logs name.
    pub named: usize,
    /// Fills that they do not name: each is of one person at most.
    pub unnamed: usize,
    /// Views that may have shown what no line tells. Above zero, `named` and `unnamed` do not bound the
    /// persons: whoever was logged in while lines are lacking may be one.
    pub unlisted: u64,
}

impl Exposure {
    /// None yet, with room for so many sets in the lower bound.
    #[must_use]
    pub const fn new(sets_max: usize) -> Self {
        Self {
            views: 0,
            shared: 0,
            grades: Grades {
                proven: 0,
                exact: 0,
                set: 0,
                window: 0,
            },
            exposing: 0,
            perhaps: 0,
            unlisted: 0,
            viewers: BTreeSet::new(),
            certain: BTreeSet::new(),
            possible: BTreeSet::new(),
            unnamed: BTreeSet::new(),
            sets: BTreeSet::new(),
            sets_max,
        }
    }

    /// Adds a view.
    pub fn add(&mut self, access: &Access, view: &View) {
        self.views += 1;
        if access.served.is_shared() {
            self.shared += 1;
            *match view.grade {
                Grade::Proven => &mut self.grades.proven,
                Grade::Exact => &mut self.grades.exact,
                Grade::Set(_) => &mut self.grades.set,
                Grade::Window => &mut self.grades.window,
            } += 1;
        }
        let may_be_shown = |owner: &&Person| match access.viewer {
            Who::Person(viewer) => viewer.is_other_than(**owner) != Some(false),
            Who::Anonymous | Who::Untold => true,
        };
        match view.exposes {
            Exposes::No => return,
            Exposes::Perhaps => self.perhaps += 1,
            Exposes::Another => self.exposing += 1,
        }
        self.unlisted += u64::from(view.unlisted);
        self.unnamed.extend(&view.unnamed);
        self.possible
            .extend(view.owners.iter().filter(may_be_shown));
        if view.exposes != Exposes::Another {
            return;
        }
        if let Who::Person(viewer) = access.viewer {
            self.viewers.insert(viewer);
        }
        if view.grade <= Grade::Exact {
            self.certain.extend(&view.owners);
        } else if view.owners.len() <= SET_PERSONS_MAX {
            let owners = view.owners.iter().copied().collect();
            self.sets.insert((view.owners.len(), owners));
            if self.sets.len() > self.sets_max {
                // The largest add least; which are kept does not depend on the order of the views.
                self.sets.pop_last();
            }
        }
    }

    /// At least so many persons' data was shown to another: those who are certain, and one for each set
    /// of a family in which no two share a person, and none has one who is certain.
    #[must_use]
    pub fn at_least(&self) -> usize {
        let mut taken = self.certain.clone();
        let mut count = taken.len();
        for (_, owners) in &self.sets {
            if owners.iter().all(|owner| !taken.contains(owner)) {
                taken.extend(owners);
                count += 1;
            }
        }
        count
    }

    /// At most so many persons' data was shown to another.
    #[must_use]
    pub fn at_most(&self) -> AtMost {
        AtMost {
            named: self.possible.len(),
            unnamed: self.unnamed.len(),
            unlisted: self.unlisted,
        }
    }

    /// Whose data was certainly shown to another.
    pub fn certain(&self) -> impl Iterator<Item = &Person> {
        self.certain.iter()
    }

    /// Whose data may have been shown to another: those who are certain among them.
    pub fn possible(&self) -> impl Iterator<Item = &Person> {
        self.possible.iter()
    }

    /// Who was certainly shown what is another's.
    pub fn viewers(&self) -> impl Iterator<Item = &Person> {
        self.viewers.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Served, Times};
    use crate::span::Span;
    use shikiri_record::{TargetTag, UnixMillis, ViewerTag};

    fn person(name: char) -> Person {
        Person::Session(ViewerTag([u8::try_from(name).expect("a letter"); 16]))
    }

    /// A view by `z` of one of these persons' data: certain when it is one.
    fn add(exposure: &mut Exposure, owners: &str, exposes: Exposes) {
        let now = Span::at(UnixMillis(1));
        let access = Access {
            edge: None,
            key: TargetTag([1; 16]),
            times: Times {
                began: now,
                ended: now,
            },
            served: Served::Hit,
            viewer: Who::Person(person('z')),
            owner: None,
            status: None,
            body: None,
            age_s: None,
            fill: None,
            request: None,
            order: None,
        };
        let owners: BTreeSet<Person> = owners.chars().map(person).collect();
        let view = View {
            grade: match owners.len() {
                0 => Grade::Window,
                1 => Grade::Exact,
                more => Grade::Set(more),
            },
            nobody: false,
            own: false,
            unnamed: BTreeSet::new(),
            unlisted: owners.is_empty(),
            fills: owners.len(),
            owners,
            exposes,
        };
        exposure.add(&access, &view);
    }

    fn of(views: &[&str], sets_max: usize) -> Exposure {
        let mut exposure = Exposure::new(sets_max);
        for owners in views {
            let exposes = match *owners {
                "" => Exposes::Perhaps,
                "z" => Exposes::No,
                of if of.contains('z') => Exposes::Perhaps,
                _ => Exposes::Another,
            };
            add(&mut exposure, owners, exposes);
        }
        exposure
    }

    #[test]
    fn the_lower_bound_counts_nobody_twice() {
        for (views, least, most) in [
            (&["a", "a", "b"][..], 2, 2),
            (&["ab", "cd"], 2, 4),
            (&["ab", "bc"], 1, 3),
            (&["a", "ab"], 1, 2),
            (&["a", "bc", "cd", "ab"], 2, 4),
            // The small sets first: the large one would block both.
            (&["abc", "ab", "cd"], 2, 4),
            // One's own page, or perhaps one's own.
            (&["z", "az", "bz"], 0, 2),
        ] {
            let exposure = of(views, 100);
            assert_eq!(exposure.at_least(), least, "{views:?}");
            assert_eq!(exposure.at_most().named, most, "{views:?}");
            let backwards: Vec<&str> = views.iter().rev().copied().collect();
            assert_eq!(of(&backwards, 100).at_least(), least, "{views:?}");
        }
        // Without room for sets, the bound is lower and still one.
        assert_eq!(of(&["ab", "cd", "e"], 1).at_least(), 2);
        assert_eq!(of(&["cd", "ab", "e"], 0).at_least(), 1);
    }

    #[test]
    fn a_lacking_line_makes_the_upper_bound_none() {
        assert_eq!(of(&["ab", ""], 100).at_most().unlisted, 1);
        assert_eq!(of(&["ab"], 100).at_most().unlisted, 0);
    }
}
