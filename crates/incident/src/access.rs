//! The facts that inference starts from: requests as a cache's log, our own rows or an origin's log tell
//! them, and what is known of the cache and of its logs.
//!
//! Foreign logs and our own rows give the same facts, less or more complete: what a source does not tell
//! is `None`, or the variant that says so. Nothing here is guessed.

use std::collections::BTreeMap;

use shikiri_record::{
    AddressTag, Begin, CookieTag, End, FillId, MemberTag, Outcome, TargetTag, UnixMillis, ViewerTag,
};

use crate::span::Span;

/// Names one store: what is stored there is looked up there and nowhere else. A point of presence, a
/// server or a node, as the log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge(pub u32);

/// An id that a cache gave a request and passed on: the origin's log tells the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

/// Marks bytes: the same bytes have the same mark. An entity tag or a length, where the cache changes
/// neither on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyMark(pub u64);

/// A person, as far as facts tell persons apart. A session stands for its member where no link tells who
/// that is: then one member with two sessions counts as two persons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Person {
    /// A member.
    Member(MemberTag),
    /// A session whose member is not known.
    Session(ViewerTag),
}

/// Whom a response was served to, or rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A person.
    Person(Person),
    /// Somebody without a session.
    Anonymous,
    /// The source does not tell sessions.
    Untold,
}

/// Where a response came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It was the answer to this very request, from the origin or from a cache behind.
    Fetched(Stored),
    /// From the store.
    Hit,
    /// From the store, past freshness: stale, or while it was being updated.
    Stale,
    /// From the store, after the origin had said that nothing changed (304). The old bytes were kept, so
    /// this is no fill.
    Revalidated,
    /// It waited for another request's fetch and got the same.
    Collapsed,
}

/// Whether an answer was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stored {
    /// It was: what was stored before under its key is gone.
    Surely,
    /// It may have been: the client broke off, or nobody knows whether the cache could store it.
    Perhaps,
    /// It was not: a pass, a bypass, an error. Those who waited for it may have got it all the same.
    Not,
}

/// When a request was answered, as coarse as the clock is that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the request began.
    pub began: Span,
    /// When the response ended.
    pub ended: Span,
}

/// One request at a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The store; `None` where the log does not tell.
    pub edge: Option<Edge>,
    /// What the cache looked up.
    pub key: TargetTag,
    /// When, by this cache's own clock.
    pub times: Times,
    /// Where the response came from.
    pub served: Served,
    /// Whom it was served to.
    pub viewer: Who,
    /// Whose data the origin said that it is.
    pub owner: Option<Person>,
    /// Its status.
    pub status: Option<u16>,
    /// Its bytes.
    pub body: Option<BodyMark>,
    /// The `Age` that it was sent with, in seconds.
    pub age_s: Option<u64>,
    /// The fill that it came from, or that it was.
    pub fill: Option<FillId>,
    /// The id under which the cache asked the origin, if it did.
    pub request: Option<RequestId>,
    /// Where its line stands in its store's log: used where [`Log::in_order`] says that this tells something.
    pub order: Option<u64>,
}

/// One request at the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The store that asked; `None` where the log does not tell.
    pub edge: Option<Edge>,
    /// What was asked for.
    pub key: TargetTag,
    /// When, by the origin's clock.
    pub times: Times,
    /// What was answered.
    pub answer: Answer,
    /// The session that it was rendered for.
    pub rendered_for: Who,
    /// Its status.
    pub status: Option<u16>,
    /// Its bytes.
    pub body: Option<BodyMark>,
    /// The fill that it became.
    pub fill: Option<FillId>,
    /// The id that the cache gave it.
    pub request: Option<RequestId>,
    /// It was made behind the response to the request of that id, and asked whether what that response was shown from
    /// had changed.
    pub asks_after_shown: bool,
}

/// What an origin answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response of its own.
    Response(Stored),
    /// That nothing changed (304).
    NotModified,
}

/// What is known of the caches of a site, of their logs and of the origin's. Each is a condition of the
/// result and is told with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// How the caches behave.
    pub cache: Cache,
    /// Each store's log. A store that is not here has none that is complete.
    pub edges: BTreeMap<Edge, Log>,
    /// The origin's log, if it is read.
    pub origin: Option<Log>,
    /// From a store to the one behind it that it asks in the origin's place.
    pub parents: BTreeMap<Edge, Edge>,
    /// What was purged, by a clock that is right.
    pub purges: Vec<Purge>,
}

/// How a cache behaves. Where nothing is known, the more cautious value costs sharpness and never truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// A new object takes the place of the old one: an edge is one store, and [`Access::key`] is all
    /// that it tells objects apart by. Otherwise an old one may live on beside it.
    pub replaces: bool,
    /// How long an object may be served after it was stored or last revalidated, stale times included.
    pub life_max_ms: Option<u64>,
    /// Whether what was stored may be refreshed behind a response that came from the store.
    pub refreshes: Refreshes,
    /// A fetch behind a response begins so long after that response ended, at most.
    pub refresh_delay_ms_max: u64,
    /// Whether it asks the origin whether what it stored has changed. A 304 lengthens an object's life.
    pub revalidates: bool,
    /// Whether those who wait for a fetch may get what was not stored.
    pub shares_unstored: bool,
    /// What `Age` is good for.
    pub age: Age,
    /// No fetch takes longer, from the beginning of its request to the end of its response.
    pub fetch_max_ms: u64,
    /// How long bytes take between the origin and the cache, at most.
    pub transit_max_ms: u64,
    /// From when on what is fetched can be served to others.
    pub servable: Servable,
    /// What is fetched to be shared carries nobody's credentials, where that is not [doubted](crate::own::Doubt): our
    /// own nodes.
    pub shared_is_nobodys: bool,
}

/// From when on what is fetched can be served to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servable {
    /// While it is still coming, or later.
    WhileFetched,
    /// Once it is whole. The line of the request that fetched it ends then, or so much later at most: a
    /// slow client's may end long after.
    OnceWhole {
        /// How much later.
        line_after_ms_max: u64,
    },
}

/// Which responses may have a fetch behind them that no line of their own tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refreshes {
    /// None: each fetch is a line that says so.
    Openly,
    /// Those that are told as stale.
    BehindStale,
    /// Any that came from the store.
    BehindAny,
}

/// What an `Age` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Nothing that can be relied on.
    Unused,
    /// The time since the origin was asked, through every cache behind, give or take.
    SinceFetch {
        /// How far it may be off either way, in milliseconds: caches round, and not all of them down.
        off_by_ms: u64,
        /// Whether a 304 sets it back.
        restarts: bool,
    },
}

/// What is known of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Whether it holds every line of the times that it covers.
    pub kept: Kept,
    /// The times that it covers, by its own clock: every response that ended then has its line. A clock
    /// that shows seconds stamps a whole second alike, so a log whose first line is stamped 12:00:00
    /// covers from 12:00:01 on.
    pub covers: Vec<Span>,
    /// How far its clock may be off, either way.
    pub skew_max_ms: u64,
    /// Its lines stand in the order in which their responses ended, and what a whole response fetched was stored in
    /// the same step in which its line was written: one process writes it, and no response waits for its client.
    /// Only where nothing is served before it is [whole](Servable::OnceWhole).
    pub in_order: bool,
}

/// Whether a log holds every line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It does.
    Complete(Proof),
    /// It is sampled, or kept as well as may be.
    Partly,
}

/// How it is known that a log is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its lines are numbered and none is missing.
    Numbered,
    /// It was counted against something else: a bill, the origin's log.
    Counted(String),
    /// Somebody says so.
    Stated(String),
}

/// What was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// From its first effect at any store to its last.
    pub when: Span,
    /// What was purged; everything where `None`.
    pub key: Option<TargetTag>,
}

/// Who is behind a session, and since when.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    links: BTreeMap<ViewerTag, Vec<(UnixMillis, Option<MemberTag>)>>,
}

impl Directory {
    /// From this instant on, the session is the member's, or nobody's.
    pub fn link(&mut self, session: ViewerTag, from: UnixMillis, member: Option<MemberTag>) {
        let links = self.links.entry(session).or_default();
        let at = links.partition_point(|link| *link <= (from, member));
        links.insert(at, (from, member));
    }

    /// The person behind a session during a span: its member where one and the same is known for all of
    /// it, the session itself otherwise.
    #[must_use]
    pub fn person(&self, session: ViewerTag, during: Span) -> Person {
        let links = self.links.get(&session).map_or(&[][..], Vec::as_slice);
        // The last link at or before the span, and those within it.
        let first = links.partition_point(|(from, _)| *from <= during.earliest);
        let end = links.partition_point(|(from, _)| *from <= during.latest);
        let meant = links.get(first.saturating_sub(1)..end).unwrap_or_default();
        let began_before = first > 0;
        match meant {
            [(_, Some(member)), rest @ ..]
                if began_before && rest.iter().all(|(_, other)| *other == Some(*member)) =>
            {
                Person::Member(*member)
            }
            _ => Person::Session(session),
        }
    }
}

impl Access {
    /// The access that a begin row tells, with its end row if there is one. A response without an end may
    /// have gone on until `until`.
    ///
    /// Shared fetches carry no credentials, so what a fill holds is its requester's only where the
    /// partition failed; it is the owner's whom the origin names, else the requester's.
    #[must_use]
    pub fn of_row(
        begin: &Begin<'_>,
        ended: Option<(UnixMillis, End)>,
        until: UnixMillis,
        edge: Edge,
        directory: &Directory,
    ) -> Self {
        let ended = match ended {
            Some((at, _)) => Span::at(at.max(begin.began)),
            None => Span::between(begin.began, until.max(begin.began)),
        };
        let times = Times {
            began: Span::at(begin.began),
            ended,
        };
        let viewer = match (begin.viewer_member, begin.viewer) {
            (Some(member), _) => Who::Person(Person::Member(member)),
            (None, Some(session)) => Who::Person(directory.person(session, times.during())),
            (None, None) => Who::Anonymous,
        };
        Self {
            edge: Some(edge),
            key: begin.target,
            times,
            served: match begin.outcome {
                Outcome::Hit => Served::Hit,
                Outcome::Stale => Served::Stale,
                Outcome::Collapsed => Served::Collapsed,
                Outcome::Fill => Served::Fetched(Stored::Perhaps),
                Outcome::Relay | Outcome::Pass | Outcome::Tunnel => Served::Fetched(Stored::Not),
            },
            viewer,
            owner: begin.owner.map(Person::Member),
            status: Some(begin.status),
            body: None,
            age_s: None,
            fill: begin.fill,
            request: None,
            order: None,
        }
    }
}

impl Times {
    /// The times of a line that tells when a response ended and how long it took: the end as a clock
    /// [showed](Span::shown) it, the duration off by so much at most, either way. It is off by nothing
    /// where it is the difference of two readings of the same clock in milliseconds, by one where it was
    /// measured finer and cut to milliseconds.
    #[must_use]
    pub fn logged(
        ended: UnixMillis,
        resolution_ms: u64,
        took_ms: u64,
        took_off_by_ms: u64,
    ) -> Self {
        let ended = Span::shown(ended, resolution_ms);
        let most = took_ms.saturating_add(took_off_by_ms);
        let least = took_ms.saturating_sub(took_off_by_ms);
        Self {
            began: Span {
                earliest: UnixMillis(ended.earliest.0.saturating_sub(most)),
                latest: UnixMillis(ended.latest.0.saturating_sub(least)),
            },
            ended,
        }
    }

    /// From the beginning of the request to the end of the response.
    #[must_use]
    pub fn during(self) -> Span {
        self.began.hull(self.ended)
    }
}

impl Served {
    /// Whether the bytes were fetched for another request.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Fetched(_))
    }
}

/// A cookie that a response set or a request showed, at one client: what takeovers are found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub during: Span,
    /// The client: its address, or its address and what else tells clients apart.
    pub client: AddressTag,
    /// The session that the request showed, as the tag of its cookie's value.
    pub shows: Option<CookieTag>,
    /// The session cookies that the response set.
    pub sets: Vec<CookieTag>,
    /// Whether the response was fetched for another request.
    pub is_shared: bool,
    /// Whether the request was a login.
    pub is_login: bool,
    /// Whether the request can have changed something: any method but GET, HEAD and OPTIONS.
    pub writes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(from: u64, to: u64) -> Span {
        Span::between(UnixMillis(from), UnixMillis(to))
    }

    #[test]
    fn a_session_is_a_members_where_one_is_known_for_all_of_the_time() {
        let (one, two) = (MemberTag([1; 16]), MemberTag([2; 16]));
        let session = ViewerTag([9; 16]);
        let mut directory = Directory::default();
        // Told in no order.
        directory.link(session, UnixMillis(300), Some(two));
        directory.link(session, UnixMillis(100), Some(one));
        directory.link(session, UnixMillis(200), None);
        directory.link(session, UnixMillis(400), Some(two));
        for (during, expected) in [
            (between(50, 60), None),
            (between(99, 100), None),
            (between(100, 199), Some(one)),
            (between(150, 200), None),
            (between(250, 260), None),
            (between(250, 300), None),
            (between(300, 350), Some(two)),
            (between(350, 450), Some(two)),
        ] {
            let expected = expected.map_or(Person::Session(session), Person::Member);
            assert_eq!(directory.person(session, during), expected, "{during:?}");
        }
        let other = ViewerTag([8; 16]);
        let person = directory.person(other, between(150, 160));
        assert_eq!(person, Person::Session(other));
    }

    #[test]
    fn a_line_tells_its_end_and_its_beginning_as_coarse_as_its_clock() {
        let times = Times::logged(UnixMillis(5000), 1000, 250, 0);
        assert_eq!(times.began, between(4750, 5749));
        assert_eq!(times.ended, between(5000, 5999));
        assert_eq!(times.during(), between(4750, 5999));
        let times = Times::logged(UnixMillis(5000), 1, 250, 1);
        assert_eq!(times.began, between(4749, 4751));
        let times = Times::logged(UnixMillis(5), 1, 250, 1);
        assert_eq!(times.began, between(0, 0));
    }
}
