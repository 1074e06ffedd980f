//! The maintenance page: what a closed site shows, in a page of the operator's or in our own.
//!
//! A page is a text with places that are filled when it is shown. It holds no origin's and no stored
//! byte. When the site is planned to open again may be changed while it is closed; the page follows.
//!
//! Never asks anybody: a place stands for what the node knows.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use shikiri_partition::Exceptions;
use shikiri_record::UnixMillis;

/// The longest page.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// After how long a client may ask again, when nobody knows better.
pub const RETRY_AFTER: Duration = Duration::from_secs(300);

/// What a closed node shows, and whom it lets pass nevertheless.
#[derive(Debug)]
pub struct Maintenance {
    page: Page,
    zone: TimeZone,
    retry_after: Duration,
    exceptions: Exceptions,
    /// The page as it was last shown, and for which plan.
    shown: Mutex<Option<(Option<UnixMillis>, Bytes)>>,
}

impl Maintenance {
    /// With this page and time zone. `retry_after`: when no time is planned, or when it is over.
    #[must_use]
    pub const fn new(
        page: Page,
        zone: TimeZone,
        retry_after: Duration,
        exceptions: Exceptions,
    ) -> Self {
        Self {
            page,
            zone,
            retry_after,
            exceptions,
            shown: Mutex::new(None),
        }
    }

    /// Our own page, for Japan, with no exceptions.
    ///
    /// # Panics
    /// Never: the page and the zone are our own.
    #[must_use]
    pub fn of_our_own() -> Self {
        static OWN: OnceLock<(Page, TimeZone)> = OnceLock::new();
        let (page, zone) = OWN.get_or_init(|| {
            let zone = zone("Asia/Tokyo").expect("the zone is in our own database");
            (Page::of_our_own(), zone)
        });
        Self::new(
            page.clone(),
            zone.clone(),
            RETRY_AFTER,
            Exceptions::default(),
        )
    }

    /// The page for a plan, as it is at `now`: a time that is over is planned no more.
    pub(crate) fn page(&self, reopening: Option<UnixMillis>, now: UnixMillis) -> Bytes {
        let planned = reopening.filter(|at| *at > now);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, page)) = &*shown
            && *of == planned
        {
            return page.clone();
        }
        let at = planned.and_then(|at| zoned(at, &self.zone));
        let page = Bytes::from(self.page.filled(at.as_ref()));
        *shown = Some((planned, page.clone()));
        page
    }

    /// In how many seconds a client may ask again.
    pub(crate) fn retry_after_s(&self, reopening: Option<UnixMillis>, now: UnixMillis) -> u64 {
        match reopening {
            Some(at) if at > now => at
                .since(now)
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
            _ => self.retry_after.as_secs().max(1),
        }
    }

    /// Paths that pass.
    #[must_use]
    pub const fn exceptions(&self) -> &Exceptions {
        &self.exceptions
    }

    /// Where times are told.
    pub(crate) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    pub(crate) const fn is_of_our_own(&self) -> bool {
        self.page.is_of_our_own
    }
}

/// A time zone by its name.
///
/// # Errors
/// There is none of this name.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        format!("`{name}` is no time zone: write a name like Asia/Tokyo, Europe/Berlin or UTC")
    })
}

/// A page with places to be filled.
#[derive(Clone, Debug)]
pub struct Page {
    pieces: Vec<Piece>,
    is_of_our_own: bool,
}

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `{{reopening_ja}}`
    Japanese,
    /// `{{reopening_en}}`
    English,
    /// `{{reopening_iso}}`
    Iso,
    /// `{{#reopening}} … {{/reopening}}`: when a time is planned; `{{^reopening}} …`: when none is.
    Planned(bool, Vec<Self>),
}

impl Page {
    /// Our own, in Japanese and English.
    ///
    /// # Panics
    /// Never: the tests have read it.
    #[must_use]
    pub fn of_our_own() -> Self {
        let mut page = Self::parse(include_str!("maintenance.html")).expect("it is our own");
        page.is_of_our_own = true;
        page
    }

    /// Reads a page.
    ///
    /// # Errors
    /// What is wrong with it, and where: a place that is not known, or is not closed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PAGE_BYTES_MAX {
            return Err(format!(
                "it has {} bytes; a page has at most {PAGE_BYTES_MAX}",
                text.len()
            ));
        }
        let (mut open, mut pieces): (Option<bool>, Vec<Piece>) = (None, Vec::new());
        let mut outside = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let line = 1 + text.len().checked_sub(after.len()).map_or(0, |read| {
                text.bytes().take(read).filter(|b| *b == b'\n').count()
            });
            let wrong = |what: String| Err(format!("line {line}: {what}"));
            let Some((place, after)) = after.split_once("}}") else {
                return wrong("`{{` without `}}`".into());
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            match (place.trim(), open) {
                ("reopening_ja", _) => pieces.push(Piece::Japanese),
                ("reopening_en", _) => pieces.push(Piece::English),
                ("reopening_iso", _) => pieces.push(Piece::Iso),
                (section @ ("#reopening" | "^reopening"), None) => {
                    open = Some(section == "#reopening");
                    outside = std::mem::take(&mut pieces);
                }
                ("/reopening", Some(planned)) => {
                    let inside = std::mem::replace(&mut pieces, std::mem::take(&mut outside));
                    pieces.push(Piece::Planned(planned, inside));
                    open = None;
                }
                ("#reopening" | "^reopening", Some(_)) => {
                    return wrong("one `reopening` within another".into());
                }
                ("/reopening", None) => {
                    return wrong("`{{/reopening}}` closes nothing".into());
                }
                (other, _) => {
                    return wrong(format!(
                        "`{{{{{other}}}}}` is no place: write reopening_ja, reopening_en, reopening_iso, \
                         or the parts #reopening … /reopening and ^reopening … /reopening"
                    ));
                }
            }
            rest = after;
        }
        if open.is_some() {
            return Err("a part `reopening` is not closed by `{{/reopening}}`".into());
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self {
            pieces,
            is_of_our_own: false,
        })
    }

    fn filled(&self, at: Option<&Zoned>) -> String {
        let mut text = String::new();
        fill(&mut text, &self.pieces, at);
        text
    }
}

fn fill(text: &mut String, pieces: &[Piece], at: Option<&Zoned>) {
    for piece in pieces {
        match (piece, at) {
            (Piece::Text(more), _) => text.push_str(more),
            (Piece::Japanese, Some(at)) => text.push_str(&japanese(at)),
            (Piece::English, Some(at)) => text.push_str(&english(at)),
            (Piece::Iso, Some(at)) => {
                text.push_str(&at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
            }
            (Piece::Planned(planned, inside), _) if *planned == at.is_some() => {
                fill(text, inside, at);
            }
            (Piece::Japanese | Piece::English | Piece::Iso | Piece::Planned(..), _) => {}
        }
    }
}

fn zoned(at: UnixMillis, zone: &TimeZone) -> Option<Zoned> {
    let millis = i64::try_from(at.0).ok()?;
    let at = Timestamp::from_millisecond(millis).ok()?;
    Some(at.to_zoned(zone.clone()))
}

/// `2020年4月10日（金）10時00分（JST）`
fn japanese(at: &Zoned) -> String {
    let days = ["日", "月", "火", "水", "木", "金", "土"];
    let day = at.weekday().to_sunday_zero_offset();
    let day = usize::try_from(day).ok().and_then(|day| days.get(day));
    format!(
        "{}年{}月{}日（{}）{}時{:02}分（{}）",
        at.year(),
        at.month(),
        at.day(),
        day.unwrap_or(&""),
        at.hour(),
        at.minute(),
        at.strftime("%Z"),
    )
}

/// `Friday, 10 April 2020, 10:00 (JST)`
fn english(at: &Zoned) -> String {
    at.strftime("%A, %-d %B %Y, %H:%M (%Z)").to_string()
}

/// An instant as people of a zone read it, in English: for commands and logs.
#[must_use]
pub fn told(at: UnixMillis, zone: &TimeZone) -> String {
    zoned(at, zone).map_or_else(|| format!("{} ms since 1970", at.0), |at| english(&at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2020-04-10T10:00:00+09:00.
    const REOPENING: UnixMillis = UnixMillis(1_586_480_400_000);

    fn maintenance(page: &str, zone_name: &str) -> Maintenance {
        Maintenance::new(
            Page::parse(page).expect(page),
            zone(zone_name).expect("a zone"),
            RETRY_AFTER,
            Exceptions::default(),
        )
    }

    #[test]
    fn places_are_filled_with_the_plan() {
        let page = "<p>{{#reopening}}{{reopening_ja}} / {{ reopening_en }} / {{reopening_iso}}{{/reopening}}{{^reopening}}未定{{/reopening}}</p>";
        let tokyo = "<p>2020年4月10日（金）10時00分（JST） / Friday, 10 April 2020, 10:00 (JST) / 2020-04-10T10:00:00+09:00</p>";
        let berlin = "<p>2020年4月10日（金）3時00分（CEST） / Friday, 10 April 2020, 03:00 (CEST) / 2020-04-10T03:00:00+02:00</p>";
        let before = UnixMillis(REOPENING.0 - 1);
        for (zone, plan, now, expected) in [
            ("Asia/Tokyo", Some(REOPENING), before, tokyo),
            ("Europe/Berlin", Some(REOPENING), before, berlin),
            ("Asia/Tokyo", None, before, "<p>未定</p>"),
            // What was planned and is over is planned no more.
            ("Asia/Tokyo", Some(REOPENING), REOPENING, "<p>未定</p>"),
        ] {
            let shown = maintenance(page, zone).page(plan, now);
            assert_eq!(String::from_utf8_lossy(&shown), expected, "{zone} {plan:?}");
        }
    }

    #[test]
    fn a_plan_may_change_while_the_page_is_shown() {
        let maintenance = maintenance("{{^reopening}}no{{/reopening}}{{reopening_iso}}", "UTC");
        let now = UnixMillis(REOPENING.0 - 10);
        let page = |plan| String::from_utf8_lossy(&maintenance.page(plan, now)).into_owned();
        assert_eq!(page(None), "no");
        assert_eq!(page(Some(REOPENING)), "2020-04-10T01:00:00+00:00");
        assert_eq!(page(Some(REOPENING)), "2020-04-10T01:00:00+00:00");
        assert_eq!(page(None), "no");
    }

    #[test]
    fn faults_of_a_page_have_their_line() {
        for (text, expected) in [
            ("a\n{{when}}", "line 2: `{{when}}` is no place"),
            ("{{reopening_ja", "line 1: `{{` without `}}`"),
            ("{{#reopening}}x", "not closed"),
            (
                "\n\n{{/reopening}}",
                "line 3: `{{/reopening}}` closes nothing",
            ),
            (
                "{{#reopening}}{{^reopening}}",
                "one `reopening` within another",
            ),
        ] {
            let why = Page::parse(text).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
        assert!(Page::parse(&"x".repeat(PAGE_BYTES_MAX + 1)).is_err());
        assert!(
            zone("Mars/Olympus")
                .expect_err("no zone")
                .contains("Asia/Tokyo")
        );
    }

    #[test]
    fn clients_may_ask_again_when_it_is_planned_to_open() {
        let maintenance = maintenance("", "UTC");
        for (plan, now, expected) in [
            (Some(REOPENING), REOPENING.0 - 90_000, 90),
            (Some(REOPENING), REOPENING.0 - 89_001, 90),
            (Some(REOPENING), REOPENING.0 - 1, 1),
            (Some(REOPENING), REOPENING.0, 300),
            (None, REOPENING.0, 300),
        ] {
            let after = maintenance.retry_after_s(plan, UnixMillis(now));
            assert_eq!(after, expected, "{plan:?} {now}");
        }
    }

    #[test]
    fn our_own_page_speaks_two_languages() {
        let own = Maintenance::of_our_own();
        let with = own.page(Some(REOPENING), UnixMillis(0));
        let with = String::from_utf8_lossy(&with);
        let without = own.page(None, UnixMillis(0));
        let without = String::from_utf8_lossy(&without);
        for (text, in_with, in_without) in [
            ("2020年4月10日（金）10時00分", true, false),
            ("Friday, 10 April 2020, 10:00 (JST)", true, false),
            ("メンテナンス", true, true),
            ("maintenance", true, true),
            ("{{", false, false),
        ] {
            assert_eq!(
                (with.contains(text), without.contains(text)),
                (in_with, in_without),
                "{text}"
            );
        }
    }
}
