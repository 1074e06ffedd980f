//! The file that says what is known of a site's caches and of their logs. `docs/inference.md` describes it.
//!
//! Invariant: what the file leaves out is read as whatever costs sharpness and not truth. A key that is not
//! known is a fault.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use shikiri_edge::maintenance;
use shikiri_incident::encoding::Encoding;
use shikiri_incident::foreign::{Format, SessionIn};
use shikiri_incident::{Span, Zone, exchange};
use shikiri_partition::policy;

use crate::config::Parsed;

const VERSION: u64 = 1;

/// No longer file is read.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Where nothing is said, no fetch takes longer.
const FETCH_MAX: Duration = Duration::from_secs(300);

/// And no byte is longer under way between the origin and a cache.
const TRANSIT_MAX: Duration = Duration::from_secs(60);

/// The file's content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteFile {
    version: u64,
    /// The host of requests whose line names none.
    #[serde(default)]
    pub(super) host: String,
    /// The cookie that holds a member's session.
    session: Option<String>,
    /// What a log's form calls the field that holds it.
    session_field: Option<String>,
    /// What a log's form calls the field that names the member.
    member_field: Option<String>,
    /// Where times without a zone were told.
    #[serde(default)]
    pub(super) zone: Option<Parsed<Offset>>,
    /// The paths to which members post to log in.
    #[serde(default)]
    pub(super) logins: Vec<String>,
    #[serde(default)]
    pub(super) cache: CacheSection,
    pub(super) log: Vec<LogSection>,
    #[serde(default)]
    pub(super) behind: Vec<BehindSection>,
    #[serde(default)]
    pub(super) purge: Vec<PurgeSection>,
}

/// `[cache]`: how the caches behave.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CacheSection {
    pub(super) replaces: bool,
    pub(super) life_max: Option<Parsed<Time>>,
    pub(super) refreshes: RefreshesWord,
    pub(super) refresh_delay_max: Option<Parsed<Time>>,
    pub(super) revalidates: Option<bool>,
    pub(super) shares_unstored: Option<bool>,
    pub(super) age_off_by: Option<Parsed<Time>>,
    pub(super) age_restarts: bool,
    pub(super) fetch_max: Option<Parsed<Time>>,
    pub(super) transit_max: Option<Parsed<Time>>,
    pub(super) whole_before_end: Option<Parsed<Time>>,
}

/// Which responses may have a fetch behind them that no line of their own tells.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefreshesWord {
    Openly,
    BehindStale,
    #[default]
    BehindAny,
}

/// `[[log]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogSection {
    pub(super) files: Vec<PathBuf>,
    pub(super) format: String,
    pub(super) log_format: Option<String>,
    /// How its lines are written.
    pub(super) encoding: Option<Parsed<LineEncoding>>,
    /// Whether it is the origin's.
    #[serde(default)]
    pub(super) of: LogOf,
    /// The store, where the lines do not tell it.
    pub(super) store: Option<String>,
    /// How it is known that every line is there.
    pub(super) complete: Option<String>,
    /// From when to when it is.
    pub(super) covers: Option<[String; 2]>,
    pub(super) skew_max: Option<Parsed<Time>>,
    /// So long after the time of its line a request may have been answered.
    pub(super) lag_max: Option<Parsed<Time>>,
    #[serde(default)]
    pub(super) misses_are_stored: bool,
    /// One process wrote its lines, each in the step that stored what it fetched.
    #[serde(default)]
    pub(super) in_order: bool,
}

/// Whose log it is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogOf {
    #[default]
    Cache,
    Origin,
}

/// `[[behind]]`: a store that asks another in the origin's place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BehindSection {
    pub(super) store: String,
    pub(super) asks: String,
}

/// `[[purge]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeSection {
    pub(super) from: String,
    pub(super) until: Option<String>,
    /// Path and query of what was purged; everything without.
    pub(super) target: Option<String>,
}

/// A time with its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        policy::duration(text).map(Self).ok_or_else(|| {
            format!("`{text}` is no time: write it with its unit: 5ms, 30s, 10m, 1h")
        })
    }
}

/// In milliseconds.
pub(super) fn ms(time: Option<&Parsed<Time>>) -> Option<u64> {
    let Parsed(Time(time)) = time?;
    Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A distance from UTC, or a zone whose clocks are never set forward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offset(pub(crate) Zone);

/// How a log's lines are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineEncoding(pub(crate) Encoding);

impl FromStr for LineEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Encoding::named(text).filter(|it| it.has_lines());
        found.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no encoding that a log is read by: write utf-8, shift_jis, euc-jp or iso-2022-jp; what \
                 is UTF-16 is read once it is made UTF-8 (`iconv -f UTF-16 -t UTF-8`)"
            )
        })
    }
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no distance from UTC: write UTC, +09:00 or Asia/Tokyo");
        let found = if let Some(zone) = exchange::zone_text(text) {
            Some(zone)
        } else {
            let zone = maintenance::zone(text).map_err(|_| wrong())?;
            one_offset(&zone)
        };
        found.map(Self).ok_or_else(|| {
            format!(
                "clocks in {text} are set forward in summer: read what was written in summer and in winter \
                 apart, each with its distance from UTC"
            )
        })
    }
}

/// The zone's distance from UTC where it is the same all the year.
fn one_offset(zone: &TimeZone) -> Option<Zone> {
    const HALF_A_YEAR_S: i64 = 182 * 86_400;
    let now = Timestamp::now();
    let then = Timestamp::from_second(now.as_second() - HALF_A_YEAR_S).ok()?;
    let of = |at: Timestamp| zone.to_offset(at).seconds() / 60;
    if of(now) != of(then) {
        return None;
    }
    i16::try_from(of(now)).ok().and_then(Zone::east)
}

impl SiteFile {
    /// Reads the file. Paths in it are relative to where it lies.
    ///
    /// # Errors
    /// In words, with the place.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {shown}: {error}"))?;
        if text.len() > FILE_BYTES_MAX {
            return Err(format!("{shown} is longer than a file of a site"));
        }
        let mut file: Self = toml::from_str(&text).map_err(|fault| format!("{shown}: {fault}"))?;
        if file.version != VERSION {
            return Err(format!(
                "{shown}: write `version = {VERSION}`: this release knows no other"
            ));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for log in &mut file.log {
            for name in &mut log.files {
                *name = folder.join(&name);
            }
        }
        Ok(file)
    }

    /// Where a request's session or member is told.
    ///
    /// # Errors
    /// In words: several places are named.
    pub(super) fn identity(&self) -> Result<SessionIn, String> {
        identity(
            self.session.as_deref(),
            self.session_field.as_deref(),
            self.member_field.as_deref(),
        )
        .map_err(|words| format!("{words}: `session`, `session_field` and `member_field`"))
    }

    pub(super) fn zone(&self) -> Zone {
        self.zone.as_ref().map_or(Zone::UTC, |Parsed(it)| it.0)
    }

    /// From the beginning of one time to the end of another.
    ///
    /// # Errors
    /// In words: it is none.
    pub(super) fn span(&self, from: &str, until: &str) -> Result<Span, String> {
        let one = |text: &str| {
            let span = exchange::time_text(text, self.zone());
            span.ok_or_else(|| format!("`{text}` is no time: write `2020-03-16 12:24`"))
        };
        Ok(one(from)?.hull(one(until)?))
    }
}

impl CacheSection {
    /// How the caches behave.
    pub(super) fn cache(&self) -> shikiri_incident::access::Cache {
        use shikiri_incident::access::{Age, Cache, Refreshes, Servable};
        let limit = |time: &Option<Parsed<Time>>, otherwise: Duration| {
            let otherwise = u64::try_from(otherwise.as_millis()).unwrap_or(u64::MAX);
            ms(time.as_ref()).unwrap_or(otherwise)
        };
        let fetch_max_ms = limit(&self.fetch_max, FETCH_MAX);
        Cache {
            replaces: self.replaces,
            life_max_ms: ms(self.life_max.as_ref()),
            refreshes: match self.refreshes {
                RefreshesWord::Openly => Refreshes::Openly,
                RefreshesWord::BehindStale => Refreshes::BehindStale,
                RefreshesWord::BehindAny => Refreshes::BehindAny,
            },
            refresh_delay_ms_max: match self.refreshes {
                RefreshesWord::Openly => 0,
                _ => ms(self.refresh_delay_max.as_ref()).unwrap_or(fetch_max_ms),
            },
            revalidates: self.revalidates.unwrap_or(true),
            shares_unstored: self.shares_unstored.unwrap_or(true),
            age: match ms(self.age_off_by.as_ref()) {
                Some(off_by_ms) => Age::SinceFetch {
                    off_by_ms,
                    restarts: self.age_restarts,
                },
                None => Age::Unused,
            },
            fetch_max_ms,
            transit_max_ms: limit(&self.transit_max, TRANSIT_MAX),
            servable: match ms(self.whole_before_end.as_ref()) {
                Some(line_after_ms_max) => Servable::OnceWhole { line_after_ms_max },
                None => Servable::WhileFetched,
            },
            shared_is_nobodys: false,
        }
    }
}

/// Where a request's session or member is told: in one place, or nowhere.
///
/// # Errors
/// In words: several places are named.
pub(crate) fn identity(
    cookie: Option<&str>,
    field: Option<&str>,
    member: Option<&str>,
) -> Result<SessionIn, String> {
    // nginx's variables are told with their sign or without.
    let name = |text: &str| text.strip_prefix('$').unwrap_or(text).to_owned();
    Ok(match (cookie, field, member) {
        (None, None, None) => SessionIn::Nowhere,
        (Some(cookie), None, None) => SessionIn::Cookie(cookie.to_owned()),
        (None, Some(field), None) => SessionIn::Field(name(field)),
        (None, None, Some(member)) => SessionIn::Member(name(member)),
        _ => return Err("whose a request is stands in one place: name one of".to_owned()),
    })
}

/// The stores that ask another, by the ids of their names.
pub(super) fn parents<E: Ord>(
    behind: &[BehindSection],
    mut named: impl FnMut(&str) -> Result<E, String>,
) -> Result<BTreeMap<E, E>, String> {
    let pair = |it: &BehindSection| Ok((named(&it.store)?, named(&it.asks)?));
    behind.iter().map(pair).collect()
}

/// A form of a log, by its name and its text.
///
/// # Errors
/// In words: there is none, or lines cannot be read by it.
pub(crate) fn format(name: &str, text: Option<&str>) -> Result<Format, String> {
    let needs_text =
        || format!("what {name} writes is what it was told to: give its log format as text too");
    let found = match name {
        "nginx" => Format::nginx(text.ok_or_else(needs_text)?),
        "apache" => Format::apache(text.ok_or_else(needs_text)?),
        "varnish" => Format::varnish(text.ok_or_else(needs_text)?),
        "json" => Format::json(text.ok_or_else(needs_text)?),
        "cloudfront" | "w3c" if text.is_some() => Format::fields(text.unwrap_or_default()),
        _ => Format::named(name),
    };
    found.map_err(|fault| {
        format!(
            "the form {name}: {fault}; there are nginx, apache, varnish and json with a text, and {}",
            Format::NAMES.join(", ")
        )
    })
}
