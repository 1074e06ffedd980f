//! The negative proof: that nobody was shown what is another's, with the conditions on which that holds.
//!
//! Never here: the statement that nothing was found. Either every condition is met and told, or there are
//! objections and no statement.
//!
//! Invariant: a [`NotViewed`] is made by [`NotViewed::of`] alone, from the same site, windows and views
//! that it speaks of.

use shikiri_record::{Canonical, Digest, UnixMillis};

use crate::access::{Age, Cache, Edge, Kept, Log, Proof, Refreshes, Servable, Site};
use crate::civil::Zone;
use crate::exposure::Exposure;
use crate::infer::Known;
use crate::span::Span;
use crate::timeline::line;
use crate::windows::{Stretch, Windows};

/// That no response in the windows showed its viewer what is another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotViewed {
    windows: Vec<Stretch>,
    views: u64,
    shared: u64,
    fills: usize,
    logs: Vec<Held>,
    conditions: Vec<Condition>,
}

/// A log that the statement rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose it is; the origin's where `None`.
    pub edge: Option<Edge>,
    /// How it is known to be complete.
    pub proof: Proof,
}

/// What must be so, besides complete logs, for the statement to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The stores named are all there were.
    NoOtherStore,
    /// A session is a person: no two persons used one, and an origin rendered a request for the session
    /// that it showed.
    SessionsArePersons,
    /// A new object takes the place of the old one under its key.
    Replaces,
    /// Nothing is served so long after it was stored or revalidated, in milliseconds.
    LifeMax(u64),
    /// Every fetch is a line that says so.
    FetchesAreTold,
    /// What was fetched behind a response was fetched behind one that is told as stale.
    RefreshesAreBehindStale,
    /// The caches never keep an object's life going by asking whether it changed.
    NeverRevalidates,
    /// What was not stored went to nobody else.
    UnstoredIsNotShared,
    /// An age is right, give or take so many milliseconds.
    AgeWithin(u64),
    /// A fetch and the way of its bytes take no longer, in milliseconds, together.
    FetchMax(u64),
    /// What is not whole yet is served to nobody else.
    OnceWhole,
    /// What was fetched to be shared carried nobody's credentials, in every class that is not doubted.
    SharedIsNobodys,
    /// Lines stand in the order in which responses ended and what they fetched was stored.
    LinesInOrder,
    /// No clock was further off, in milliseconds.
    SkewMax(u64),
}

/// Why there is no statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Objection {
    /// Responses showed their viewers what is another's.
    Exposing(u64),
    /// Responses may have.
    Perhaps(u64),
    /// A store's log is sampled or kept as well as may be; the origin's where `None`.
    Partly(Option<Edge>),
    /// A log does not cover a time in the windows, or one in which what was shown in them may have been
    /// stored.
    NotCovered(Option<Edge>, Span),
    /// No log of any store was read.
    NoLog,
    /// Without the origin's log, fetches that no line tells may have been behind responses.
    HiddenFetches,
    /// A cache behind others has no log.
    ParentWithoutLog(Edge),
    /// There is no window to speak of.
    NoWindow,
    /// A window has no beginning, or what may be shown in it has none.
    NoBeginning,
    /// A window is still open.
    StillOpen,
    /// So many requests lie elsewhere in time than the clocks' stated skews allow.
    ClocksDisagree(usize),
    /// No view was looked at.
    NoViews,
}

impl NotViewed {
    /// The statement, or every objection to it.
    ///
    /// `exposure` holds a view of every access to what may be personal, in the windows and out of them.
    ///
    /// # Errors
    /// What keeps the statement from being made.
    pub fn of(
        site: &Site,
        windows: &Windows,
        known: &Known<'_>,
        exposure: &Exposure,
    ) -> Result<Self, Vec<Objection>> {
        let mut objections = Vec::new();
        if exposure.exposing > 0 {
            objections.push(Objection::Exposing(exposure.exposing));
        }
        if exposure.perhaps > 0 {
            objections.push(Objection::Perhaps(exposure.perhaps));
        }
        if exposure.views == 0 {
            objections.push(Objection::NoViews);
        }
        if known.disagreeing() > 0 {
            objections.push(Objection::ClocksDisagree(known.disagreeing()));
        }
        if site.edges.is_empty() {
            objections.push(Objection::NoLog);
        }
        if site.cache.refreshes != Refreshes::Openly && site.origin.is_none() {
            objections.push(Objection::HiddenFetches);
        }
        let unlogged = site
            .parents
            .values()
            .filter(|it| !site.edges.contains_key(it));
        objections.extend(unlogged.map(|parent| Objection::ParentWithoutLog(*parent)));
        let spans = spans(windows, &mut objections);
        let mut logs = Vec::new();
        let all = site.edges.iter().map(|(edge, log)| (Some(*edge), log));
        for (edge, log) in all.chain(site.origin.iter().map(|log| (None, log))) {
            match &log.kept {
                Kept::Partly => objections.push(Objection::Partly(edge)),
                Kept::Complete(proof) => logs.push(Held {
                    edge,
                    proof: proof.clone(),
                }),
            }
            let lacking = spans.iter().filter(|span| !covers(log, **span));
            objections.extend(lacking.map(|span| Objection::NotCovered(edge, *span)));
        }
        objections.sort_unstable();
        objections.dedup();
        if !objections.is_empty() {
            return Err(objections);
        }
        Ok(Self {
            windows: windows.list.iter().map(|it| it.stretch()).collect(),
            views: exposure.views,
            shared: exposure.shared,
            fills: known.fills(),
            logs,
            conditions: Condition::of(site),
        })
    }

    /// The windows that it speaks of.
    #[must_use]
    pub fn windows(&self) -> &[Stretch] {
        &self.windows
    }

    /// The logs that it rests on.
    #[must_use]
    pub fn logs(&self) -> &[Held] {
        &self.logs
    }

    /// What else must be so.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What a signature is made over: every field, in one form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut form = Canonical::new("shikiri not viewed 1");
        form.list(&self.windows, |form, window| {
            for end in [window.from, window.to] {
                form.number(end.map_or(u64::MAX, |end| end.0));
            }
        });
        form.number(self.views).number(self.shared);
        form.number(u64::try_from(self.fills).unwrap_or(u64::MAX));
        form.list(&self.logs, |form, log| {
            form.text(&log_name(log.edge)).text(&proof_text(&log.proof));
        });
        form.list(&self.conditions, |form, condition| {
            form.text(&condition.sentence());
        });
        form.digest()
    }

    /// The statement as a text.
    #[must_use]
    pub fn text(&self, zone: Zone) -> String {
        let mut text = String::from("No response showed its viewer what is another's.\n");
        line(
            &mut text,
            format_args!("Windows, both ends included, times in {zone}:"),
        );
        for window in &self.windows {
            line(&mut text, format_args!("  {}", window.text(zone)));
        }
        line(
            &mut text,
            format_args!(
                "Looked at: {} responses, {} of them fetched for another request; {} fills.",
                self.views, self.shared, self.fills
            ),
        );
        line(&mut text, format_args!("It rests on complete logs:"));
        for log in &self.logs {
            let name = log_name(log.edge);
            line(
                &mut text,
                format_args!("  {name}: {}", proof_text(&log.proof)),
            );
        }
        line(&mut text, format_args!("It holds if:"));
        for condition in &self.conditions {
            line(&mut text, format_args!("  {}", condition.sentence()));
        }
        text
    }
}

impl Condition {
    /// Everything that must be so of a site for what is inferred of it to hold.
    #[must_use]
    pub fn of(site: &Site) -> Vec<Self> {
        let Cache {
            replaces,
            life_max_ms,
            refreshes,
            refresh_delay_ms_max,
            revalidates,
            shares_unstored,
            age,
            fetch_max_ms,
            transit_max_ms,
            servable,
            shared_is_nobodys,
        } = site.cache;
        let mut held = vec![Self::NoOtherStore, Self::SessionsArePersons];
        if replaces {
            held.push(Self::Replaces);
        }
        held.extend(life_max_ms.map(Self::LifeMax));
        match refreshes {
            Refreshes::Openly => held.push(Self::FetchesAreTold),
            Refreshes::BehindStale => held.push(Self::RefreshesAreBehindStale),
            Refreshes::BehindAny => {}
        }
        if !revalidates {
            held.push(Self::NeverRevalidates);
        }
        if !shares_unstored {
            held.push(Self::UnstoredIsNotShared);
        }
        if let Age::SinceFetch { off_by_ms, .. } = age {
            held.push(Self::AgeWithin(off_by_ms));
        }
        let delays = fetch_max_ms.saturating_add(transit_max_ms);
        held.push(Self::FetchMax(delays.saturating_add(refresh_delay_ms_max)));
        if matches!(servable, Servable::OnceWhole { .. }) {
            held.push(Self::OnceWhole);
        }
        if shared_is_nobodys {
            held.push(Self::SharedIsNobodys);
        }
        if site.edges.values().any(|log| log.in_order) {
            held.push(Self::LinesInOrder);
        }
        let logs = site.edges.values().chain(&site.origin);
        let skew = logs.map(|log| log.skew_max_ms).max();
        held.extend(skew.map(Self::SkewMax));
        held
    }

    /// The condition in words.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::NoOtherStore => "there was no other store than those whose logs are named".into(),
            Self::SessionsArePersons => {
                "no two persons used one session, and the origin rendered each request for the session \
                 that it showed"
                    .into()
            }
            Self::Replaces => "a new object takes the place of the old one under its key".into(),
            Self::LifeMax(ms) => {
                format!("nothing was served {ms} ms or longer after it was stored or revalidated")
            }
            Self::FetchesAreTold => "every fetch is a line of its own".into(),
            Self::RefreshesAreBehindStale => {
                "a fetch without a line of its own was behind a response that is told as stale".into()
            }
            Self::NeverRevalidates => "the caches never asked whether an object had changed".into(),
            Self::UnstoredIsNotShared => "what was not stored went to one requester alone".into(),
            Self::AgeWithin(ms) => format!("an Age is right within {ms} ms"),
            Self::FetchMax(ms) => format!("no fetch took longer than {ms} ms"),
            Self::OnceWhole => "nothing was served to others before it was whole".into(),
            Self::SharedIsNobodys => {
                "what was fetched to be shared carried nobody's credentials, but where a class is doubted".into()
            }
            Self::LinesInOrder => {
                "where a log is said to be in order, its lines stand as their responses ended, and what a line \
                 fetched was stored in the step that wrote it"
                    .into()
            }
            Self::SkewMax(ms) => format!("no clock was off by more than {ms} ms"),
        }
    }
}

impl Objection {
    /// The objection in words.
    #[must_use]
    pub fn sentence(&self, zone: Zone) -> String {
        match self {
            Self::Exposing(count) => format!("{count} responses showed what is another's"),
            Self::Perhaps(count) => format!("{count} responses may have shown what is another's"),
            Self::Partly(edge) => format!("{} does not hold every line", log_name(*edge)),
            Self::NotCovered(edge, span) => format!(
                "{} does not cover all of {}",
                log_name(*edge),
                crate::civil::span_text(*span, zone)
            ),
            Self::NoLog => "no store's log was read".into(),
            Self::HiddenFetches => {
                "fetches may have been behind responses, and there is no log of the origin".into()
            }
            Self::ParentWithoutLog(edge) => format!("there is no log of store {}", edge.0),
            Self::NoWindow => "there is no window to speak of".into(),
            Self::NoBeginning => {
                "it is not known since when what was shown may have been stored".into()
            }
            Self::StillOpen => "a window is still open".into(),
            Self::ClocksDisagree(count) => {
                format!("{count} requests lie elsewhere in time than the clocks' skews allow")
            }
            Self::NoViews => "no response was looked at".into(),
        }
    }
}

/// The times that the logs must cover: each window, from when on what it may show was stored.
fn spans(windows: &Windows, objections: &mut Vec<Objection>) -> Vec<Span> {
    let mut spans = Vec::new();
    if windows.list.is_empty() {
        objections.push(Objection::NoWindow);
    }
    for window in &windows.list {
        match (window.fills_from, window.to) {
            (Some(from), Some(to)) => spans.push(Span::between(from, to)),
            (None, _) => objections.push(Objection::NoBeginning),
            (Some(_), None) => objections.push(Objection::StillOpen),
        }
    }
    spans
}

/// Whether a log covers all of a span, whatever its clock's skew is.
fn covers(log: &Log, span: Span) -> bool {
    let span = span.widened(log.skew_max_ms);
    let mut next = span.earliest;
    let mut covers = log.covers.clone();
    covers.sort_unstable();
    for cover in covers {
        if cover.holds(next) {
            if span.latest <= cover.latest {
                return true;
            }
            next = UnixMillis(cover.latest.0.saturating_add(1));
        }
    }
    false
}

fn log_name(edge: Option<Edge>) -> String {
    edge.map_or_else(
        || "the origin's log".into(),
        |edge| format!("the log of store {}", edge.0),
    )
}

fn proof_text(proof: &Proof) -> String {
    match proof {
        Proof::Numbered => "its lines are numbered, and none is missing".into(),
        Proof::Counted(against) => format!("it was counted against {against}"),
        Proof::Stated(by) => format!("it is stated: {by}"),
    }
}
