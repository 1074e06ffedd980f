//! Takeovers: a member's session in another's browser.
//!
//! A stored response that sets a cookie hands its owner's session to whoever it is shown to; from then on
//! what that client does, it does as the owner: reads and writes. A log that tells session cookies as tags,
//! in what a response set and in what a request showed, tells that for sure. One that tells only which
//! session a client shows leaves a suspicion: a session that another client had before, without a login.
//!
//! Invariant: the client that a session was made for is never taken for one that took it over.

use std::collections::{BTreeMap, BTreeSet};

use shikiri_record::{AddressTag, CookieTag};

use crate::access::Step;
use crate::span::Span;

/// A session at a client that it was not made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Whose session it is: the tag of its cookie.
    pub session: CookieTag,
    /// Who had it.
    pub client: AddressTag,
    /// How that is known.
    pub known: How,
    /// When the client came to have it, or first showed it.
    pub since: Span,
    /// What the client did with it.
    pub acts: Acts,
}

/// How a takeover is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// A response that was fetched for somebody else set the cookie.
    Replayed,
    /// The client showed a session that another had shown before, and its log holds no login between
    /// that session and the one before.
    Switched,
}

/// What was done with a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acts {
    /// Requests that can only have read.
    pub reads: u64,
    /// Requests that can have changed something.
    pub writes: u64,
    /// The first and the last of them.
    pub during: Option<Span>,
}

/// A session as far as the steps so far tell.
#[derive(Debug, Default)]
struct Session {
    /// Clients for which a response of their own set it, or that logged in with it.
    made_for: BTreeSet<AddressTag>,
    /// The client that showed it first.
    first: Option<AddressTag>,
    takers: BTreeMap<AddressTag, Takeover>,
}

/// Every takeover among steps. They are taken in the order in which they ended; memory grows with sessions
/// and clients.
///
/// A client that shares its address with others, behind one gateway, may be several: where
/// [`Step::client`] is an address alone, a [switch](How::Switched) between them looks like a takeover.
#[must_use]
pub fn takeovers(steps: &[Step]) -> Vec<Takeover> {
    let mut order: Vec<&Step> = steps.iter().collect();
    order.sort_by_key(|step| (step.during.latest, step.during.earliest));
    let mut sessions: BTreeMap<CookieTag, Session> = BTreeMap::new();
    let mut last_shown: BTreeMap<AddressTag, CookieTag> = BTreeMap::new();
    let mut logged_in: BTreeSet<AddressTag> = BTreeSet::new();
    for step in order {
        for cookie in &step.sets {
            sessions.entry(*cookie).or_default().set(step, *cookie);
        }
        if step.is_login {
            logged_in.insert(step.client);
        }
        let Some(shown) = step.shows else {
            continue;
        };
        let session = sessions.entry(shown).or_default();
        let before = last_shown.insert(step.client, shown);
        let switched = before.is_some_and(|before| before != shown);
        let is_new_login = logged_in.remove(&step.client);
        session.shown(step, shown, switched && !is_new_login && !step.is_login);
    }
    let mut found: Vec<Takeover> = sessions
        .into_values()
        .flat_map(|session| session.takers.into_values())
        .collect();
    found.sort_by_key(|it| (it.since, it.client, it.session));
    found
}

impl Session {
    /// A response set it.
    fn set(&mut self, step: &Step, session: CookieTag) {
        if !step.is_shared {
            self.made_for.insert(step.client);
            return;
        }
        if self.made_for.contains(&step.client) {
            return;
        }
        let taker = self.taker(step, session, How::Replayed);
        taker.known = How::Replayed;
    }

    /// A request showed it.
    fn shown(&mut self, step: &Step, session: CookieTag, is_switch: bool) {
        let first = *self.first.get_or_insert(step.client);
        if self.made_for.contains(&step.client) {
            return;
        }
        let is_anothers = first != step.client || !self.made_for.is_empty();
        if is_switch && is_anothers && !self.takers.contains_key(&step.client) {
            self.taker(step, session, How::Switched);
        }
        if let Some(taker) = self.takers.get_mut(&step.client) {
            taker.acts.add(step);
        }
    }

    fn taker(&mut self, step: &Step, session: CookieTag, known: How) -> &mut Takeover {
        self.takers.entry(step.client).or_insert(Takeover {
            session,
            client: step.client,
            known,
            since: step.during,
            acts: Acts::default(),
        })
    }
}

impl Acts {
    fn add(&mut self, step: &Step) {
        if step.writes {
            self.writes += 1;
        } else {
            self.reads += 1;
        }
        self.during = Some(match self.during {
            Some(during) => during.hull(step.during),
            None => step.during,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shikiri_record::UnixMillis;

    const A: u8 = 1;
    const B: u8 = 2;

    fn step(at: u64, client: u8) -> Step {
        Step {
            during: Span::at(UnixMillis(at)),
            client: AddressTag([client; 16]),
            shows: None,
            sets: Vec::new(),
            is_shared: false,
            is_login: false,
            writes: false,
        }
    }

    fn shows(at: u64, client: u8, session: u8) -> Step {
        Step {
            shows: Some(CookieTag([session; 16])),
            ..step(at, client)
        }
    }

    fn sets(at: u64, client: u8, session: u8, is_shared: bool) -> Step {
        Step {
            sets: vec![CookieTag([session; 16])],
            is_shared,
            ..step(at, client)
        }
    }

    fn login(at: u64, client: u8, session: u8) -> Step {
        Step {
            is_login: true,
            ..sets(at, client, session, false)
        }
    }

    fn writes(step: Step) -> Step {
        Step {
            writes: true,
            ..step
        }
    }

    /// Who took whose session, how that is known, and how often they read and wrote with it.
    fn check(case: &str, steps: Vec<Step>, expected: &[(u8, u8, How, u64, u64)]) {
        let tell = |steps: &[Step]| {
            let short = |it: Takeover| {
                let (client, session) = (it.client.0[0], it.session.0[0]);
                (client, session, it.known, it.acts.reads, it.acts.writes)
            };
            takeovers(steps).into_iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(tell(&steps), expected, "{case}");
        let backwards: Vec<Step> = steps.into_iter().rev().collect();
        assert_eq!(tell(&backwards), expected, "{case}, told backwards");
    }

    #[test]
    fn who_did_what_as_whom() {
        check("one member", vec![login(1, A, 7), shows(2, A, 7)], &[]);
        check(
            "a login page that was stored",
            vec![
                login(1, A, 7),
                shows(2, A, 7),
                sets(3, B, 7, true),
                shows(4, B, 7),
                writes(shows(5, B, 7)),
                shows(6, A, 7),
            ],
            &[(B, 7, How::Replayed, 1, 1)],
        );
        check(
            "shown, and not used",
            vec![login(1, A, 7), sets(3, B, 7, true)],
            &[(B, 7, How::Replayed, 0, 0)],
        );
        check(
            "one's own page again",
            vec![sets(1, A, 7, false), sets(3, A, 7, true), shows(4, A, 7)],
            &[],
        );
        check(
            "I logged in as me and became somebody else",
            vec![
                login(1, A, 7),
                shows(2, A, 7),
                login(3, B, 8),
                shows(4, B, 8),
                sets(5, B, 7, true),
                shows(6, B, 7),
            ],
            &[(B, 7, How::Replayed, 1, 0)],
        );
        check(
            "a log without cookies set",
            vec![
                shows(1, A, 7),
                shows(2, B, 8),
                shows(3, B, 7),
                writes(shows(4, B, 7)),
            ],
            &[(B, 7, How::Switched, 1, 1)],
        );
        let relogin = Step {
            is_login: true,
            ..step(3, B)
        };
        check(
            "two members on one machine, with a login between",
            vec![shows(1, A, 7), shows(2, B, 8), relogin, shows(4, B, 7)],
            &[],
        );
        check(
            "a session of one's own after another",
            vec![shows(1, A, 7), shows(2, A, 8), shows(3, A, 7)],
            &[],
        );
    }
}
