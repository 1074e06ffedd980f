//! Our own rows of evidence: who was shown what, and whose that was.
//!
//! Nothing is inferred from times here: each row of what came from the store names the fetch that brought it. A shared
//! fetch carries nobody's credentials, so what it brought is nobody's, unless the origin said whose it is. That holds
//! while the partition does. Where a canary, a check or a report says that in some class it did not, that class is
//! doubted: then what a fetch brought counts as its requester's, whoever was shown it.
//!
//! Never here: a doubt of our own. Rows tell who asked and who was shown, and not what bytes said.
//!
//! Invariant: with nothing doubted, only what the origin itself named as somebody's is somebody's.

use std::collections::{BTreeMap, BTreeSet};

use shikiri_record::{Begin, LinkEvent, Row, UnixMillis};

use crate::access::{
    Access, Age, Cache, Directory, Edge, Kept, Log, Proof, Refreshes, Servable, Site,
};
use crate::infer::{Known, View};
use crate::span::Span;

/// No fetch of ours takes longer.
pub(crate) const FETCH_MS_MAX: u64 = 15 * 60 * 1000;

/// In which classes shared fetches may have carried somebody's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// In none: the partition held.
    Nothing,
    /// In these.
    Classes(BTreeSet<String>),
    /// In all.
    Everything,
}

/// What a node's rows tell before any of them is judged: who is behind which session, and from when to when there are
/// rows.
#[derive(Clone, Debug, Default)]
pub struct FirstReading {
    directory: Directory,
    span: Option<Span>,
    passes_without_rows: u64,
}

/// How each row of one node is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The node's store.
    pub edge: Edge,
    /// What all rows told.
    pub first: &'a FirstReading,
    /// Where the partition is doubted.
    pub doubt: &'a Doubt,
}

impl Doubt {
    /// Whether it is of this class.
    #[must_use]
    pub fn is_of(&self, class: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Classes(classes) => classes.contains(class),
            Self::Everything => true,
        }
    }
}

impl FirstReading {
    /// Takes one row, and the instant that it was written with.
    pub fn row(&mut self, row: &Row<'_>, written: UnixMillis) {
        let began = match row {
            Row::Begin(begin) => begin.began.min(written),
            Row::Link(link) => {
                let member = link.member.filter(|_| link.event == LinkEvent::Started);
                self.directory.link(link.viewer, written, member);
                written
            }
            Row::Gap(gap) => {
                self.passes_without_rows += gap.responses;
                written
            }
            Row::End(_) | Row::Stance(_) => written,
        };
        let span = Span::between(began, written);
        self.span = Some(self.span.map_or(span, |all| all.hull(span)));
    }

    /// How many responses left without rows. All were passes: whoever sent them saw their own.
    #[must_use]
    pub const fn passes_without_rows(&self) -> u64 {
        self.passes_without_rows
    }

    /// The rows as a log. `is_whole`: each row's chain fits, and no number is missing.
    #[must_use]
    pub fn log(&self, is_whole: bool) -> Log {
        Log {
            kept: match is_whole {
                true => Kept::Complete(Proof::Numbered),
                false => Kept::Partly,
            },
            covers: self.span.into_iter().collect(),
            skew_max_ms: 0,
            in_order: false,
        }
    }
}

impl Reading<'_> {
    /// What of a row may have been shown to others, for [`Gather`](crate::infer::Gather).
    #[must_use]
    pub fn fetch(&self, begin: &Begin<'_>, written: UnixMillis) -> Option<Access> {
        let is_somebodys = self.doubt.is_of(begin.class) || begin.owner.is_some();
        let access = self.access(begin, written);
        (is_somebodys && !begin.is_interim() && !access.served.is_shared()).then_some(access)
    }

    /// What a response held; nothing of an interim one, which the final one follows.
    #[must_use]
    pub fn view(
        &self,
        known: &Known<'_>,
        begin: &Begin<'_>,
        written: UnixMillis,
    ) -> Option<(Access, View)> {
        if begin.is_interim() {
            return None;
        }
        let access = self.access(begin, written);
        let is_doubted = self.doubt.is_of(begin.class);
        let view = match access.served.is_shared() && begin.owner.is_none() && !is_doubted {
            true => View::nobodys(),
            false => known.view(&access),
        };
        Some((access, view))
    }

    fn access(&self, begin: &Begin<'_>, written: UnixMillis) -> Access {
        Access::of_row(begin, None, written, self.edge, &self.first.directory)
    }
}

/// What is known of our own nodes, by the logs of their stores.
#[must_use]
pub fn site(logs: BTreeMap<Edge, Log>) -> Site {
    Site {
        cache: Cache {
            replaces: false,
            life_max_ms: None,
            refreshes: Refreshes::Openly,
            refresh_delay_ms_max: 0,
            revalidates: true,
            shares_unstored: false,
            age: Age::Unused,
            fetch_max_ms: FETCH_MS_MAX,
            transit_max_ms: 0,
            servable: Servable::WhileFetched,
            shared_is_nobodys: true,
        },
        edges: logs,
        origin: None,
        parents: BTreeMap::new(),
        purges: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use shikiri_record::{AddressTag, FillId, Link, MemberTag, Outcome, TargetTag, ViewerTag};

    use super::*;
    use crate::infer::{Exposes, Gather, Grade, OriginLog};

    fn row(outcome: Outcome, viewer: u8, fill: u128) -> Begin<'static> {
        Begin {
            began: UnixMillis(1000),
            outcome,
            reason: "",
            status: 200,
            method: "GET",
            class: "pages",
            page: None,
            target: TargetTag([1; 16]),
            address: AddressTag([2; 16]),
            viewer: Some(ViewerTag([viewer; 16])),
            viewer_member: None,
            owner: None,
            fill: Some(FillId(fill)),
            grant: None,
            cookies: Vec::new(),
            cookies_set: 0,
        }
    }

    /// What the last of these rows held, with this doubt, by rows that are whole or not.
    fn told(rows: &[Row<'_>], doubt: &Doubt, is_whole: bool) -> (Grade, Exposes, usize) {
        let mut first = FirstReading::default();
        let at = UnixMillis(1001);
        rows.iter().for_each(|row| first.row(row, at));
        let site = site([(Edge(0), first.log(is_whole))].into());
        let reading = Reading {
            edge: Edge(0),
            first: &first,
            doubt,
        };
        let mut gather = Gather::new(&site, OriginLog::default(), 10).expect("there is room");
        let begins = rows.iter().filter_map(|row| match row {
            Row::Begin(begin) => Some(begin),
            _ => None,
        });
        for access in begins.clone().filter_map(|it| reading.fetch(it, at)) {
            gather.access(&access).expect("there is room");
        }
        let known = gather.settle();
        let mut begins = begins;
        let last = begins.next_back().expect("there is one");
        let (_, view) = reading.view(&known, last, at).expect("it is no interim");
        (view.grade, view.exposes, view.owners.len())
    }

    #[test]
    fn a_hit_is_its_fills_requesters_where_the_class_is_doubted() {
        let pages = Doubt::Classes(["pages".to_owned()].into());
        let others = Doubt::Classes(["assets".to_owned()].into());
        let fill = || Row::Begin(row(Outcome::Fill, 1, 7));
        let shown = |outcome, viewer, fill| Row::Begin(row(outcome, viewer, fill));
        let (another, no) = (Exposes::Another, Exposes::No);
        for (rows, doubt, expected) in [
            (
                vec![fill(), shown(Outcome::Hit, 2, 7)],
                &pages,
                (Grade::Proven, another, 1),
            ),
            (
                vec![fill(), shown(Outcome::Collapsed, 2, 7)],
                &Doubt::Everything,
                (Grade::Proven, another, 1),
            ),
            // The same session's own.
            (
                vec![fill(), shown(Outcome::Hit, 1, 7)],
                &pages,
                (Grade::Proven, no, 1),
            ),
            // Nobody doubts it: it is nobody's.
            (
                vec![fill(), shown(Outcome::Hit, 2, 7)],
                &others,
                (Grade::Proven, no, 0),
            ),
            (
                vec![fill(), shown(Outcome::Hit, 2, 7)],
                &Doubt::Nothing,
                (Grade::Proven, no, 0),
            ),
            // No row tells who asked for it: it was refreshed behind a response, or the row is lacking.
            (
                vec![fill(), shown(Outcome::Hit, 2, 8)],
                &pages,
                (Grade::Window, Exposes::Perhaps, 0),
            ),
            // A pass is its sender's.
            (
                vec![shown(Outcome::Pass, 2, 9)],
                &Doubt::Everything,
                (Grade::Exact, no, 1),
            ),
        ] {
            assert_eq!(told(&rows, doubt, true), expected, "{rows:?} {doubt:?}");
        }
        // Rows that are not whole prove nothing.
        let rows = [fill(), shown(Outcome::Hit, 2, 7)];
        assert_eq!(told(&rows, &pages, false), (Grade::Set(1), another, 1));
    }

    #[test]
    fn whom_the_origin_names_is_the_owner_whatever_is_doubted() {
        let mut pass = row(Outcome::Pass, 2, 7);
        pass.viewer_member = Some(MemberTag([5; 16]));
        pass.owner = Some(MemberTag([6; 16]));
        let another = (Grade::Proven, Exposes::Another, 1);
        assert_eq!(
            told(&[Row::Begin(pass.clone())], &Doubt::Nothing, true),
            another
        );
        pass.owner = pass.viewer_member;
        let own = (Grade::Proven, Exposes::No, 1);
        assert_eq!(told(&[Row::Begin(pass)], &Doubt::Nothing, true), own);
    }

    #[test]
    fn two_sessions_of_one_member_are_one_person() {
        let link = |viewer: u8| {
            Row::Link(Link {
                event: LinkEvent::Started,
                viewer: ViewerTag([viewer; 16]),
                member: Some(MemberTag([5; 16])),
                begin: None,
            })
        };
        let mut first = FirstReading::default();
        first.row(&link(1), UnixMillis(500));
        first.row(&link(2), UnixMillis(600));
        for viewer in [1, 2] {
            let person = first.directory.person(
                ViewerTag([viewer; 16]),
                Span::between(UnixMillis(1000), UnixMillis(1001)),
            );
            assert_eq!(person, crate::access::Person::Member(MemberTag([5; 16])));
        }
    }
}
