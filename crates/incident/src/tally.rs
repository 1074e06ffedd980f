//! How many accesses there were and by how many persons, in the windows and outside them.
//!
//! Invariant: an access that may have been in a window counts as in it. Every access is counted once.

use std::collections::BTreeSet;

use crate::access::{Person, Who};
use crate::span::Span;
use crate::windows::Windows;

/// The accesses so far. Memory grows with the persons.
#[derive(Clone, Debug)]
pub struct Tally {
    windows: Windows,
    /// Those that were in a window, or may have been.
    pub inside: Count,
    /// All others.
    pub outside: Count,
}

/// Some accesses.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// How many there were.
    pub accesses: u64,
    /// Of those, by somebody without a session: persons unknown.
    pub anonymous: u64,
    /// Of those, with a session that the log does not tell.
    pub untold: u64,
    persons: BTreeSet<Person>,
}

impl Tally {
    /// None yet.
    #[must_use]
    pub fn new(windows: Windows) -> Self {
        Self {
            windows,
            inside: Count::default(),
            outside: Count::default(),
        }
    }

    /// Adds an access, at a time by a clock that may be off by so much.
    pub fn add(&mut self, during: Span, skew_max_ms: u64, who: Who) {
        let count = match self.windows.meet(during.widened(skew_max_ms)) {
            true => &mut self.inside,
            false => &mut self.outside,
        };
        count.accesses += 1;
        match who {
            Who::Person(person) => {
                count.persons.insert(person);
            }
            Who::Anonymous => count.anonymous += 1,
            Who::Untold => count.untold += 1,
        }
    }
}

impl Count {
    /// How many persons they were by.
    #[must_use]
    pub fn persons(&self) -> usize {
        self.persons.len()
    }

    /// By whom.
    pub fn by(&self) -> impl Iterator<Item = &Person> {
        self.persons.iter()
    }
}
