//! Times and numbers as logs write them, each with how coarse it is.
//!
//! Never here: a guess at a zone. A time without one is in the zone that whoever reads the log names.

use shikiri_record::UnixMillis;

use crate::civil::Zone;
use crate::span::Span;

/// A time, and the clock's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) at: UnixMillis,
    pub(crate) resolution_ms: u64,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `10/Oct/2000:13:55:36 -0700`, in brackets or not; of a date that ends in `.123` milliseconds.
    Common,
    /// `2000-10-10T13:55:36.123-07:00`, `Z`, or a blank instead of the `T`.
    Iso,
    /// Units since 1970, with a fraction or without: how many of them are a second.
    Unix(u64),
    /// Seconds, milliseconds, microseconds or nanoseconds since 1970, or ISO: what Cloudflare's jobs may
    /// be set to.
    Any,
}

impl Stamp {
    pub(crate) fn span(self) -> Span {
        Span::shown(self.at, self.resolution_ms)
    }
}

impl Form {
    pub(crate) fn read(self, text: &[u8], zone: Zone) -> Option<Stamp> {
        let text = text.trim_ascii();
        match self {
            Self::Common => common(text, zone),
            Self::Iso => iso(text, zone),
            Self::Unix(per_second) => unix(text, per_second),
            Self::Any => {
                if !text.iter().all(|it| it.is_ascii_digit() || *it == b'.') {
                    return iso(text, zone);
                }
                let digits = text.iter().take_while(|it| it.is_ascii_digit()).count();
                let per_second = match digits {
                    0..=11 => 1,
                    12..=14 => 1000,
                    15..=17 => 1_000_000,
                    _ => 1_000_000_000,
                };
                unix(text, per_second)
            }
        }
    }
}

fn unix(text: &[u8], per_second: u64) -> Option<Stamp> {
    let fraction = super::split_once(text, b'.').map_or(0, |(_, fraction)| fraction.len());
    let step = 10_u64.checked_pow(u32::try_from(fraction).ok()?.min(9))?;
    Some(Stamp {
        at: UnixMillis(decimal(text, per_second)?),
        resolution_ms: (1000 / per_second.saturating_mul(step)).max(1),
    })
}

/// A decimal number of units, of which so many are a second, in whole milliseconds, cut.
pub(crate) fn decimal(text: &[u8], per_second: u64) -> Option<u64> {
    let text = text.trim_ascii();
    let (whole, fraction) = super::split_once(text, b'.').unwrap_or((text, b""));
    let mut value: u128 = whole_number(whole)?.into();
    let mut scale: u128 = 1;
    for digit in fraction.iter().take(9) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let ms = value * 1000 / (scale * u128::from(per_second.max(1)));
    u64::try_from(ms).ok()
}

/// A whole number.
pub(crate) fn whole<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    T::try_from(whole_number(text.trim_ascii())?).ok()
}

fn whole_number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= 19 && text.iter().all(u8::is_ascii_digit);
    let add = |value: u64, digit: &u8| value * 10 + u64::from(digit - b'0');
    is_number.then(|| text.iter().fold(0, add))
}

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

fn common(text: &[u8], zone: Zone) -> Option<Stamp> {
    let text = text.strip_prefix(b"[").unwrap_or(text);
    let text = text.strip_suffix(b"]").unwrap_or(text);
    let (date, time) = super::split_once(text, b':')?;
    let mut date = date.split(|it| *it == b'/');
    let (day, month, year) = (date.next()?, date.next()?, date.next()?);
    let month = MONTHS.iter().position(|it| *it == month)?;
    let month = u8::try_from(month + 1).ok()?;
    let year: u32 = whole(year)?;
    of((year.into(), month, whole(day)?), time, zone)
}

fn iso(text: &[u8], zone: Zone) -> Option<Stamp> {
    let at = text
        .iter()
        .position(|it| matches!(it, b'T' | b't' | b' '))?;
    date_and_time(text.get(..at)?, text.get(at + 1..)?, zone)
}

/// `2000-10-10` and `13:55:36`, with a fraction and a zone or without.
pub(crate) fn date_and_time(date: &[u8], time: &[u8], zone: Zone) -> Option<Stamp> {
    let mut date = date.split(|it| *it == b'-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    let year: u32 = whole(year)?;
    of((year.into(), whole(month)?, whole(day)?), time, zone)
}

/// `13:55:36`, `13:55:36.123`, `13:55:36 -0700`, `13:55:36.123+07:00`, `13:55:36Z` of a date.
fn of(date: (i64, u8, u8), time: &[u8], zone: Zone) -> Option<Stamp> {
    let end = time
        .iter()
        .position(|it| matches!(it, b' ' | b'Z' | b'z' | b'+' | b'-'));
    let (time, offset) = time.split_at(end.unwrap_or(time.len()));
    let zone = match offset.trim_ascii() {
        b"" => zone,
        b"Z" | b"z" => Zone::UTC,
        offset => of_offset(offset)?,
    };
    let (time, fraction) = super::split_once(time, b'.').unwrap_or((time, b""));
    let mut parts = time.split(|it| *it == b':');
    let mut part = || whole::<u8>(parts.next()?);
    let (hour, minute, second) = (part()?, part()?, part()?);
    // A leap second is told as 60.
    let instant = zone.instant(date, (hour, minute, second.min(59)))?;
    let (ms, resolution_ms) = match fraction.len() {
        0 => (0, 1000),
        1 => (100 * whole::<u64>(fraction)?, 100),
        2 => (10 * whole::<u64>(fraction)?, 10),
        _ => (whole::<u64>(fraction.get(..3)?)?, 1),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(Stamp {
        at: UnixMillis(instant.0 + ms),
        resolution_ms,
    })
}

/// `+0900`, `-03:30`.
pub(crate) fn of_offset(text: &[u8]) -> Option<Zone> {
    let (sign, rest) = text.split_first()?;
    let digits: Vec<u8> = rest.iter().copied().filter(|it| *it != b':').collect();
    let number: i16 = match digits.len() {
        4 => i16::try_from(whole::<u16>(&digits)?).ok()?,
        _ => return None,
    };
    let minutes = number / 100 * 60 + number % 100;
    match sign {
        b'+' => Zone::east(minutes),
        b'-' => Zone::east(-minutes),
        _ => None,
    }
}
