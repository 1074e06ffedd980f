//! Pins: whom each session belongs to, as the origin says, and whether an answer agrees.
//!
//! An origin may name the viewer whom it believes it serves and the owner of what it shows. Pins hold
//! for every session which members were its viewers, and when. An answer whose viewer is none of them
//! is a fault, whoever made it: this finds the mixing up that no cache caused.
//!
//! The table is a value: `now` and every place in the node's order are arguments. Order decides, not
//! the clock: a viewer is valid for a request when it was the session's at some moment between the
//! request's begin and its answer. What is not known makes silence, never a fault: a session that was
//! not seen before (or was forgotten, since the table is bounded) is whoever's the origin first says;
//! an answer that disagrees while a login of the same session is unanswered waits for that; and a
//! login whose answer was lost may have handed the session to somebody.
//!
//! Never here: a cookie, an id, an address; only tags of them, under a key that dies with the process.
//!
//! Invariant: an origin that declares each change of a session's viewer, and whose sessions do not
//! contradict themselves, never gets a fault from [`Pins::judge`], however its answers overlap.

mod asking;
mod said;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use shikiri_record::{CookieTag, MemberTag, Order, TagKey, UnixMillis, ViewerTag};

use crate::bounded::Bounded;
use crate::rules::{PinRules, Trip};

pub use asking::{Asking, Cookies};
pub use said::{MemberId, Said, SeenAs, SessionTurn, Unreadable};

use asking::Client;

/// Why an answer may be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinFault {
    /// The viewer whom the origin names is not the session's.
    WrongViewer,
    /// The owner is not the viewer, and the origin says neither that the viewer is staff nor that
    /// the data is shared or public.
    OwnerNotViewer,
    /// It names a member, and nothing in the request could have told the origin of one.
    NamedNobody,
    /// A field that names somebody cannot be read.
    Unreadable,
    /// A session cookie's value was given to two clients.
    SessionIssuedTwice,
}

impl PinFault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::WrongViewer,
        Self::OwnerNotViewer,
        Self::NamedNobody,
        Self::Unreadable,
        Self::SessionIssuedTwice,
    ];

    /// The fault's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongViewer => "wrong-viewer",
            Self::OwnerNotViewer => "owner-not-viewer",
            Self::NamedNobody => "named-nobody",
            Self::Unreadable => "unreadable-viewer",
            Self::SessionIssuedTwice => "session-issued-twice",
        }
    }
}

impl std::fmt::Display for PinFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::WrongViewer => "the origin answered a session as a member whose it is not",
            Self::OwnerNotViewer => "the origin showed a member another member's data",
            Self::NamedNobody => "the origin named a member to a request that showed nobody",
            Self::Unreadable => "the origin named a member in a way that cannot be read",
            Self::SessionIssuedTwice => "the origin gave one session cookie to two clients",
        })
    }
}

/// Whether an answer agrees with what is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As far as anybody knows.
    Fits,
    /// A request of the same session that may explain it has no answer yet: judge again, with the same
    /// place, when one of the session's has ended.
    Waits(Order),
    /// It does not.
    Fault(PinFault),
}

/// How much pins know, and what they found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinCounts {
    /// Sessions known now.
    pub sessions: u64,
    /// Sessions that were forgotten to make room.
    pub forgotten: u64,
    /// Answers that disagreed, and for which something lost or forgotten may be the reason.
    pub unsure: u64,
    /// Faults of each kind, in the order of [`PinFault::ALL`].
    pub faults: [u64; 5],
}

/// The table of pins.
#[derive(Debug)]
pub struct Pins {
    key: TagKey,
    sessions: Bounded<ViewerTag, Session>,
    /// Requests without an answer that may hand their session to another: begun when. Bounded by the
    /// requests that run.
    starting: BTreeMap<ViewerTag, Vec<Order>>,
    /// Sessions that nobody is known to have, of which such requests got lost.
    lost: Bounded<ViewerTag, Lost>,
    /// Until when a session that is first seen may be in somebody else's hands next.
    unsure_until: UnixMillis,
    /// When a session was last forgotten: an answer to who asked before says nothing of what a session
    /// is that nobody knows now.
    forgotten: Option<Order>,
    cookies: Bounded<CookieTag, Issue>,
    /// Who was shown something wrong, and when: each viewer and each member once.
    shown: Vec<Shown>,
    counts: PinCounts,
}

/// What is known of a session.
#[derive(Clone, Debug, Default)]
struct Session {
    viewers: Vec<Pinned>,
    /// Whoever asked by then may be answered as anybody: whose the session was is not known, or forgotten.
    anybody_until: Option<Order>,
    /// Answers to who asked by then tell nothing of whose it is now.
    untold_until: Option<Order>,
    /// Requests got lost that may hand it to another.
    lost: Option<Lost>,
    /// Sessions that its client was given in its place. The origin may still take it for one of them,
    /// for as long as requests with the old cookie are on their way.
    leads_to: Vec<Lead>,
    /// The session in whose place it is.
    came_from: Option<ViewerTag>,
}

/// One viewer of a session.
#[derive(Clone, Copy, Debug)]
struct Pinned {
    member: MemberTag,
    /// When the first answer came that named it.
    since: Order,
    /// When the last one came that declared it to begin; `None`: it was only seen.
    declared: Option<Order>,
    /// When it ended.
    until: Option<Order>,
}

/// Requests without an answer that may hand a session over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lost {
    /// Until when that may take effect.
    until: UnixMillis,
    /// How many.
    count: u8,
}

impl Lost {
    /// One more.
    fn and(before: Option<Self>, until: UnixMillis) -> Self {
        before.map_or(Self { until, count: 1 }, |before| Self {
            until: before.until.max(until),
            count: before.count.saturating_add(1).min(LOST_OF_A_SESSION_MAX),
        })
    }

    /// One less, if there is one at `now`.
    fn take(lost: &mut Option<Self>, now: UnixMillis) -> bool {
        let Some(Self { until, count }) = lost.filter(|lost| now < lost.until) else {
            *lost = None;
            return false;
        };
        let count = count - 1;
        *lost = (count > 0).then_some(Self { until, count });
        true
    }
}

/// A session in place of another.
#[derive(Clone, Copy, Debug)]
struct Lead {
    to: ViewerTag,
    /// When the answer came that gave it.
    since: Order,
}

/// A session cookie that was given away.
#[derive(Clone, Debug)]
struct Issue {
    client: Option<Client>,
    viewer: Option<MemberTag>,
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    viewer: ViewerTag,
    member: MemberTag,
    at: UnixMillis,
}

/// Viewers of one session that are kept apart.
const VIEWERS_MAX: usize = 6;
/// Lost requests of one session that are counted.
const LOST_OF_A_SESSION_MAX: u8 = 4;
/// Sessions in place of one, and of those, that are followed.
const LEADS_MAX: usize = 6;
/// Sessions without a viewer of which a lost request is remembered.
const LOST_MAX: usize = 16_384;

impl Pins {
    /// An empty table. `key`: a random one, for this process alone.
    #[must_use]
    pub const fn new(key: TagKey) -> Self {
        Self {
            key,
            sessions: Bounded::new(),
            starting: BTreeMap::new(),
            lost: Bounded::new(),
            unsure_until: UnixMillis(0),
            forgotten: None,
            cookies: Bounded::new(),
            shown: Vec::new(),
            counts: PinCounts {
                sessions: 0,
                forgotten: 0,
                unsure: 0,
                faults: [0; 5],
            },
        }
    }

    /// Until then a session that is first seen may change hands by a request that somebody else was asked:
    /// the process before this one.
    pub fn doubt_until(&mut self, until: UnixMillis) {
        self.unsure_until = self.unsure_until.max(until);
    }

    /// What is known, in numbers.
    #[must_use]
    pub fn counts(&self) -> PinCounts {
        PinCounts {
            sessions: u64::try_from(self.sessions.len()).expect("a length fits 64 bits"),
            ..self.counts
        }
    }

    /// A request that [may start](Asking::may_start) a session is about to be sent.
    pub fn begins(&mut self, asking: &Asking) {
        if let Some(session) = asking.session {
            self.starting.entry(session).or_default().push(asking.begun);
        }
    }

    /// Such a request has ended: its answer came, or will never come and it was never sent.
    pub fn ends(&mut self, asking: &Asking) {
        let Some(session) = asking.session else {
            return;
        };
        if let Some(running) = self.starting.get_mut(&session) {
            if let Some(at) = running.iter().position(|begun| *begun == asking.begun) {
                running.swap_remove(at);
            }
            if running.is_empty() {
                self.starting.remove(&session);
            }
        }
    }

    /// Such a request was sent, and its answer will never be known: the session may be another's from
    /// now until `until`, when the origin has given up too.
    pub fn loses(&mut self, asking: &Asking, until: UnixMillis) {
        self.ends(asking);
        let Some(session) = asking.session else {
            return;
        };
        if let Some(known) = self.sessions.get_mut(&session) {
            known.lost = Some(Lost::and(known.lost, until));
            return;
        }
        let lost = Lost::and(self.lost.remove(&session), until);
        for forgotten in self.lost.insert(session, lost, LOST_MAX) {
            self.unsure_until = self.unsure_until.max(forgotten.until);
        }
    }

    /// Takes what an answer declares, and judges it. `at`: the answer's place in the node's order.
    /// [`Pins::ends`] goes before it.
    pub fn answers(
        &mut self,
        pins: &PinRules,
        asking: &Asking,
        said: &Said,
        cookies: &Cookies,
        (at, now): (Order, UnixMillis),
    ) -> Verdict {
        let viewer = said.viewer.as_ref().map(|id| id.tag(&self.key));
        if let (Some(SessionTurn::Start), Some(viewer)) = (said.session, viewer)
            && (asking.starts_here || !self.belongs_to_another(asking, viewer))
        {
            self.start(pins, asking, viewer, cookies, (at, now));
        }
        self.judge(pins, asking, said, at, (at, now))
    }

    /// Judges an answer whose declarations have been taken. `since`: its own place in the order;
    /// `at`: now's.
    pub fn judge(
        &mut self,
        pins: &PinRules,
        asking: &Asking,
        said: &Said,
        since: Order,
        (at, now): (Order, UnixMillis),
    ) -> Verdict {
        let viewer = said.viewer.as_ref().map(|id| id.tag(&self.key));
        let owner = said.owner.as_ref().filter(|_| pins.judges_owners);
        let owner = owner.map(|(id, seen_as)| (id.tag(&self.key), *seen_as));
        let own = owner.and_then(|(owner, seen_as)| (seen_as == SeenAs::Owner).then_some(owner));
        let Some(session) = asking.session else {
            let begins = said.session == Some(SessionTurn::Start);
            return match (viewer, own) {
                (Some(viewer), Some(own)) if viewer != own => {
                    Verdict::Fault(PinFault::OwnerNotViewer)
                }
                (None, None) => Verdict::Fits,
                _ if asking.tells_nothing && pins.judges_nobodies && !begins => {
                    Verdict::Fault(PinFault::NamedNobody)
                }
                _ => Verdict::Fits,
            };
        };
        if let Some(member) = viewer.or(own) {
            match self.fits(session, asking.begun, member, (since, now)) {
                // What a start declares has been taken.
                Fit::Unknown if viewer.is_some() && said.session != Some(SessionTurn::Start) => {
                    self.see(pins, (session, asking.begun), member, (at, now));
                }
                Fit::Unknown | Fit::Known => {}
                Fit::Waits => return Verdict::Waits(since),
                Fit::Not if viewer.is_some() => return Verdict::Fault(PinFault::WrongViewer),
                Fit::Not => return Verdict::Fault(PinFault::OwnerNotViewer),
            }
        }
        // A session that begins, nobody knows whose, is no longer whose it was.
        let ends = match said.session {
            Some(SessionTurn::End) => true,
            Some(SessionTurn::Start) => viewer.is_none(),
            None => false,
        };
        if ends && let Some(known) = self.sessions.get_mut(&session) {
            known.close(asking.begun, at);
        }
        match (viewer, own) {
            (Some(viewer), Some(own)) if viewer != own => Verdict::Fault(PinFault::OwnerNotViewer),
            _ => Verdict::Fits,
        }
    }

    /// Notes the session cookies that an answer gives away; a fault when somebody else was given one:
    /// another member, or a client that is surely another.
    pub fn issues(
        &mut self,
        pins: &PinRules,
        asking: &Asking,
        said: &Said,
        cookies: &Cookies,
    ) -> Option<PinFault> {
        let viewer = said.viewer.as_ref().map(|id| id.tag(&self.key));
        let mut fault = None;
        for cookie in &cookies.issued {
            let Some(issue) = self.cookies.get_mut(cookie) else {
                let client = asking.client;
                let issue = Issue { client, viewer };
                drop(self.cookies.insert(*cookie, issue, pins.sessions_max));
                continue;
            };
            let other_member = (issue.viewer.zip(viewer)).is_some_and(|(one, other)| one != other);
            let clients = issue.client.zip(asking.client);
            if other_member || clients.is_some_and(|(one, other)| one.surely_differs(&other)) {
                fault = Some(PinFault::SessionIssuedTwice);
            }
        }
        fault
    }

    /// Counts a fault; says so when this one makes several distinct viewers within the time, and the mode
    /// trips. Only members whose session is known count, each session and each member
    /// once: whoever has one account, or none, counts as one, or not at all.
    pub fn faulted(
        &mut self,
        pins: &PinRules,
        asking: &Asking,
        fault: PinFault,
        now: UnixMillis,
    ) -> Option<Trip> {
        let place = PinFault::ALL.iter().position(|kind| *kind == fault);
        self.counts.faults[place.expect("all are listed")] += 1;
        let trip = pins.trip.as_ref()?;
        if !matches!(fault, PinFault::WrongViewer | PinFault::OwnerNotViewer) {
            return None;
        }
        let viewer = asking.session?;
        let member = self.sessions.get_mut(&viewer)?.viewers.iter();
        let member = member.rev().find(|pinned| pinned.until.is_none())?.member;
        // What lies after now was told by a clock that has been set back since.
        self.shown
            .retain(|shown| shown.at <= now && now.since(shown.at) <= trip.within);
        if self
            .shown
            .iter()
            .any(|shown| shown.viewer == viewer || shown.member == member)
        {
            return None;
        }
        self.shown.push(Shown {
            viewer,
            member,
            at: now,
        });
        let trips = self.shown.len() >= trip.viewers;
        if trips {
            self.shown.clear();
        }
        trips.then_some(*trip)
    }

    /// Whether a session is somebody's, and not this member's.
    fn belongs_to_another(&mut self, asking: &Asking, member: MemberTag) -> bool {
        let known = asking.session.and_then(|s| self.sessions.get_mut(&s));
        known.is_some_and(|known| known.is_somebodys() && !known.is_valid(member, asking.begun))
    }

    /// An answer declared whose a session is.
    fn start(
        &mut self,
        pins: &PinRules,
        asking: &Asking,
        member: MemberTag,
        cookies: &Cookies,
        (at, now): (Order, UnixMillis),
    ) {
        let begun = asking.begun;
        let Some(old) = asking.session else {
            if let Some(new) = cookies.becomes {
                // Nobody can have asked with it before.
                self.known(pins, new, at, (at, now)).start(member, at, at);
            }
            return;
        };
        // What it became meanwhile may have been handed over with it.
        let leads = self.known(pins, old, begun, (at, now)).leads_to.clone();
        for lead in leads.iter().filter(|lead| begun <= lead.since) {
            let known = self.sessions.get_mut(&lead.to);
            if let Some(known) = known.filter(|known| known.is_somebodys()) {
                known.add(member, true, (begun, at));
            }
        }
        let renamed = cookies.becomes.filter(|new| *new != old);
        let Some(new) = renamed else {
            self.known(pins, old, begun, (at, now))
                .start(member, begun, at);
            return;
        };
        // Until the client has the new cookie it shows the old one, and the origin may know that as it
        // was, as the new one, or not at all.
        let known = self.known(pins, old, begun, (at, now));
        let before = known.clone();
        known.lead_to(new, at);
        known.add(member, true, (begun, at));
        let known = self.known(pins, new, begun, (at, now));
        known.start(member, begun, at);
        known.came_from = Some(old);
        known.lost = known.lost.max(before.lost);
        // Declared meanwhile of the old one: perhaps after that had become the new one.
        for pinned in before.viewers {
            let overlaps = pinned.declared.is_some_and(|declared| begun <= declared);
            if pinned.until.is_none() && overlaps {
                known.add(pinned.member, true, (begun, at));
            }
        }
    }

    /// A session, and those in whose place it is.
    fn and_before(&mut self, session: ViewerTag) -> Vec<ViewerTag> {
        let mut all = vec![session];
        while let Some(before) = self
            .sessions
            .get_mut(&all[all.len() - 1])
            .and_then(|known| known.came_from)
            .filter(|_| all.len() <= LEADS_MAX)
        {
            all.push(before);
        }
        all
    }

    /// Whether a request that may hand a session over began before `since` and has no answer.
    fn is_starting(&mut self, session: ViewerTag, since: Order) -> bool {
        self.and_before(session).iter().any(|one| {
            let running = self.starting.get(one);
            running.is_some_and(|running| running.iter().any(|other| *other < since))
        })
    }

    /// Uses up a lost request that may have handed a session over.
    fn take_lost(&mut self, session: ViewerTag, now: UnixMillis) -> bool {
        self.and_before(session).iter().any(|one| {
            let known = self.sessions.get_mut(one);
            let mut unknown = self.lost.remove(one);
            let taken = Lost::take(&mut unknown, now);
            if let Some(left) = unknown {
                drop(self.lost.insert(*one, left, LOST_MAX));
            }
            taken || known.is_some_and(|known| Lost::take(&mut known.lost, now))
        })
    }

    /// A session that is nobody's was seen to be a member's, by an answer to a request of `begun`.
    fn see(
        &mut self,
        pins: &PinRules,
        (session, begun): (ViewerTag, Order),
        member: MemberTag,
        (at, now): (Order, UnixMillis),
    ) {
        let known = self.known(pins, session, begun, (at, now));
        known.add(member, false, (begun, at));
    }

    /// What is known of a session; from now on, if nothing was. Then the answer to a request of `begun`
    /// is the first to tell, unless sessions were forgotten meanwhile: it may have been this one, in
    /// other hands since, and the next will tell.
    fn known(
        &mut self,
        pins: &PinRules,
        session: ViewerTag,
        begun: Order,
        (at, now): (Order, UnixMillis),
    ) -> &mut Session {
        if self.sessions.get_mut(&session).is_none() {
            let mut lost = self.lost.remove(&session);
            if now < self.unsure_until {
                lost = Some(Lost::and(lost, self.unsure_until));
            }
            let untold = self.forgotten.filter(|forgotten| begun <= *forgotten);
            let known = Session {
                lost,
                // Whoever asked before may have asked of a session that was forgotten.
                anybody_until: self.forgotten,
                untold_until: untold.map(|_| at),
                ..Session::default()
            };
            for gone in self.sessions.insert(session, known, pins.sessions_max) {
                self.counts.forgotten += 1;
                self.forgotten = Some(at);
                if let Some(lost) = gone.lost {
                    self.unsure_until = self.unsure_until.max(lost.until);
                }
            }
        }
        self.sessions.get_mut(&session).expect("it is there now")
    }

    /// How a member fits a session, or what took its place.
    fn fits(
        &mut self,
        session: ViewerTag,
        begun: Order,
        member: MemberTag,
        (since, now): (Order, UnixMillis),
    ) -> Fit {
        let Some(known) = self.sessions.get_mut(&session) else {
            return Fit::Unknown;
        };
        if known.is_valid(member, begun) {
            return Fit::Known;
        }
        if !known.was_somebodys(begun) {
            return Fit::Unknown;
        }
        if known.anybody_until.max(known.untold_until) >= Some(begun) {
            self.counts.unsure += 1;
            return Fit::Known;
        }
        if self.is_starting(session, since) {
            return Fit::Waits;
        }
        if self.take_lost(session, now) {
            self.counts.unsure += 1;
            let known = self.sessions.get_mut(&session).expect("it is known");
            known.add(member, false, (begun, since));
            return Fit::Known;
        }
        Fit::Not
    }
}

/// How a member fits a session.
enum Fit {
    Known,
    /// The session is nobody's.
    Unknown,
    Waits,
    Not,
}

impl Session {
    fn is_somebodys(&self) -> bool {
        self.viewers.iter().any(|pinned| pinned.until.is_none())
    }

    /// Whether it was at some moment since `begun`.
    fn was_somebodys(&self, begun: Order) -> bool {
        let mut viewers = self.viewers.iter();
        viewers.any(|pinned| pinned.until.is_none_or(|until| begun <= until))
    }

    /// Whether the member was a viewer at some moment since `begun`.
    fn is_valid(&self, member: MemberTag, begun: Order) -> bool {
        self.viewers.iter().any(|pinned| {
            pinned.member == member && pinned.until.is_none_or(|until| begun <= until)
        })
    }

    /// The session is this member's. An answer to a request that began before another such answer came
    /// may have been decided before that or after: both stay.
    fn start(&mut self, member: MemberTag, begun: Order, at: Order) {
        if !self.viewers.iter().any(|pinned| pinned.since < begun) {
            // Whose it was until then, nobody knows.
            self.anybody_until = self.anybody_until.max(Some(at));
        }
        self.close(begun, at);
        self.add(member, true, (begun, at));
    }

    fn close(&mut self, begun: Order, at: Order) {
        for pinned in &mut self.viewers {
            let overlaps = pinned.declared.is_some_and(|declared| begun <= declared);
            if pinned.until.is_none() && !overlaps {
                pinned.until = Some(at);
            }
        }
    }

    /// The answer to a request of `begun` says that a member is its viewer, or one of them.
    fn add(&mut self, member: MemberTag, declared: bool, (begun, at): (Order, Order)) {
        if self.untold_until >= Some(begun) {
            if declared {
                // Nor does what was asked before this came.
                self.untold_until = Some(at);
            }
            return;
        }
        let mut open = self
            .viewers
            .iter_mut()
            .filter(|pinned| pinned.until.is_none());
        match open.find(|pinned| pinned.member == member) {
            Some(pinned) if declared => pinned.declared = Some(at),
            Some(_) => {}
            None => self.viewers.push(Pinned {
                member,
                since: at,
                declared: declared.then_some(at),
                until: None,
            }),
        }
        if self.viewers.len() > VIEWERS_MAX {
            self.forget_one();
        }
    }

    /// Forgets the viewer who ended first. Who asked before that end may from now on be answered as
    /// anybody; when none has ended, whoever asks.
    fn forget_one(&mut self) {
        let ended = self.viewers.iter().enumerate();
        let first = ended
            .filter_map(|(n, pinned)| Some((pinned.until?, n)))
            .min();
        match first {
            Some((until, n)) => {
                self.viewers.remove(n);
                self.anybody_until = self.anybody_until.max(Some(until));
            }
            None => {
                self.viewers.remove(0);
                self.anybody_until = Some(Order(u64::MAX));
            }
        }
    }

    /// Another session takes its place.
    fn lead_to(&mut self, to: ViewerTag, since: Order) {
        self.anybody_until = Some(Order(u64::MAX));
        self.leads_to.push(Lead { to, since });
        if self.leads_to.len() > LEADS_MAX {
            self.leads_to.remove(0);
        }
    }
}
