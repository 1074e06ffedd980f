//! Dates and times of day in a zone that is a fixed distance from UTC.
//!
//! Never here: a table of zones. Japan's clocks are never set forward; a log or a statement from where
//! they are carries its distance from UTC beside each time.

use std::fmt;

use shikiri_record::UnixMillis;

use crate::span::{MINUTE_MS, Span};

/// A zone: so many minutes east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    east_minutes: i16,
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    pub(crate) milli: u16,
    /// Days since 1970-01-01 in the zone.
    pub(crate) days: i64,
}

const DAY_MS: i64 = 86_400_000;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Zone {
    /// UTC.
    pub const UTC: Self = Self { east_minutes: 0 };
    /// Japan.
    pub const JST: Self = Self { east_minutes: 540 };

    /// A zone by its distance from UTC, in minutes, east positive; `None` beyond a day.
    #[must_use]
    pub const fn east(minutes: i16) -> Option<Self> {
        if -1440 < minutes && minutes < 1440 {
            Some(Self {
                east_minutes: minutes,
            })
        } else {
            None
        }
    }

    /// The instant at which a clock in this zone shows this date and time; `None` where there is no
    /// such date, or it was before 1970.
    #[must_use]
    pub fn instant(
        self,
        (year, month, day): (i64, u8, u8),
        (hour, minute, second): (u8, u8, u8),
    ) -> Option<UnixMillis> {
        let is_time = hour < 24 && minute < 60 && second < 60;
        if !is_time || !(0..=9999).contains(&year) {
            return None;
        }
        let days = days_of(year, month, day);
        if date_of(days) != (year, month, day) {
            return None;
        }
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        let local_ms = days * DAY_MS + seconds * 1000;
        u64::try_from(local_ms - self.east_ms())
            .ok()
            .map(UnixMillis)
    }

    /// How far east, in milliseconds.
    fn east_ms(self) -> i64 {
        i64::from(self.east_minutes) * 60_000
    }

    pub(crate) fn civil(self, instant: UnixMillis) -> Civil {
        let utc_ms = i64::try_from(instant.0).unwrap_or(i64::MAX - DAY_MS);
        let local_ms = utc_ms + self.east_ms();
        let (days, of_day) = (local_ms.div_euclid(DAY_MS), local_ms.rem_euclid(DAY_MS));
        let (year, month, day) = date_of(days);
        let part = |unit: i64, of: i64| small(of_day / unit % of);
        Civil {
            year,
            month,
            day,
            hour: part(3_600_000, 24),
            minute: part(60_000, 60),
            second: part(1000, 60),
            milli: u16::try_from(of_day % 1000).expect("less than 1000"),
            days,
        }
    }

    /// How many midnights lie between two instants.
    pub(crate) fn days_between(self, earlier: UnixMillis, later: UnixMillis) -> i64 {
        self.civil(later).days - self.civil(earlier).days
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.east_minutes == 0 {
            return f.write_str("UTC");
        }
        let sign = if self.east_minutes < 0 { '-' } else { '+' };
        let minutes = self.east_minutes.unsigned_abs();
        write!(f, "UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl Civil {
    pub(crate) fn weekday(&self) -> &'static str {
        WEEKDAYS[usize::try_from(self.days.rem_euclid(7)).expect("less than seven")]
    }
}

/// The date of a day, counted from 1970-01-01 (the proleptic Gregorian calendar; the year is cut into
/// eras of 400 years that begin in March).
fn date_of(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, small(month), small(day))
}

fn days_of(year: i64, month: u8, day: u8) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (i64::from(month) + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn small(number: i64) -> u8 {
    u8::try_from(number).expect("a part of a date or of a day is small")
}

/// A span as people write it: only as fine as it is known, the date once.
pub(crate) fn span_text(span: Span, zone: Zone) -> String {
    let (from, to) = (span.earliest, span.latest);
    let (first, last) = (zone.civil(from), zone.civil(to));
    if from == to {
        return format!("{} {}", date_text(&first), time_text(&first, false, false));
    }
    let (from_text, to_text) = (time_from(from, &first), time_to(to, &last));
    if first.days != last.days {
        return format!(
            "{} {from_text} .. {} {to_text}",
            date_text(&first),
            date_text(&last)
        );
    }
    if from_text == to_text {
        return format!("{} {from_text}", date_text(&first));
    }
    format!("{} {from_text} .. {to_text}", date_text(&first))
}

pub(crate) fn date_text(civil: &Civil) -> String {
    format!(
        "{:04}-{:02}-{:02} ({})",
        civil.year,
        civil.month,
        civil.day,
        civil.weekday()
    )
}

/// The time at which something begins: without seconds where it is a whole minute.
fn time_from(instant: UnixMillis, civil: &Civil) -> String {
    time_text(
        civil,
        instant.0.is_multiple_of(MINUTE_MS),
        instant.0.is_multiple_of(1000),
    )
}

/// The time at which something ends: without seconds where it is a whole minute's last millisecond.
fn time_to(instant: UnixMillis, civil: &Civil) -> String {
    let next = instant.0.wrapping_add(1);
    time_text(
        civil,
        next.is_multiple_of(MINUTE_MS),
        next.is_multiple_of(1000),
    )
}

fn time_text(civil: &Civil, whole_minute: bool, whole_second: bool) -> String {
    let (hour, minute, second) = (civil.hour, civil.minute, civil.second);
    match (whole_minute, whole_second) {
        (true, _) => format!("{hour:02}:{minute:02}"),
        (false, true) => format!("{hour:02}:{minute:02}:{second:02}"),
        (false, false) => format!("{hour:02}:{minute:02}:{second:02}.{:03}", civil.milli),
    }
}

/// So many minutes, in hours and minutes.
pub(crate) fn minutes_text(minutes: u64) -> String {
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_is_read_back_and_follows_the_one_before() {
        for days in 0..146_097 {
            let (year, month, day) = date_of(days);
            assert_eq!(days_of(year, month, day), days);
            let next = date_of(days + 1);
            let follows = next == (year, month, day + 1)
                || next == (year, month + 1, 1)
                || next == (year + 1, 1, 1);
            assert!(follows, "{year}-{month}-{day} {next:?}");
        }
    }

    #[test]
    fn an_instant_has_one_date_in_a_zone() {
        for (zone, date, time, seconds) in [
            (Zone::UTC, (1970, 1, 1), (0, 0, 0), Some(0)),
            (Zone::JST, (2020, 3, 16), (12, 24, 0), Some(1_584_329_040)),
            (Zone::UTC, (2020, 2, 29), (23, 59, 59), Some(1_583_020_799)),
            (Zone::UTC, (2021, 2, 29), (0, 0, 0), None),
            (Zone::UTC, (2020, 13, 1), (0, 0, 0), None),
            (Zone::UTC, (2020, 0, 1), (0, 0, 0), None),
            (Zone::UTC, (2020, 1, 0), (0, 0, 0), None),
            (Zone::UTC, (2020, 1, 1), (24, 0, 0), None),
            (Zone::JST, (1970, 1, 1), (8, 59, 59), None),
        ] {
            let instant = zone.instant(date, time);
            assert_eq!(instant.map(UnixMillis::seconds), seconds, "{date:?}");
            let Some(instant) = instant else { continue };
            let civil = zone.civil(instant);
            assert_eq!((civil.year, civil.month, civil.day), date);
            assert_eq!((civil.hour, civil.minute, civil.second), time);
        }
    }

    #[test]
    fn a_span_is_written_as_fine_as_it_is_known() {
        let at = |hour, minute, second| {
            Zone::JST
                .instant((2020, 3, 16), (hour, minute, second))
                .expect("there is such a time")
        };
        let ms = |instant: UnixMillis, more| UnixMillis(instant.0 + more);
        for (span, text) in [
            (Span::minute(at(12, 24, 0)), "2020-03-16 (Mon) 12:24"),
            (
                Span::shown(at(12, 24, 5), 1000),
                "2020-03-16 (Mon) 12:24:05",
            ),
            (
                Span::at(ms(at(12, 24, 5), 7)),
                "2020-03-16 (Mon) 12:24:05.007",
            ),
            (Span::at(at(12, 24, 0)), "2020-03-16 (Mon) 12:24:00.000"),
            (
                Span::between(at(22, 57, 0), ms(at(23, 21, 59), 999)),
                "2020-03-16 (Mon) 22:57 .. 23:21",
            ),
            (
                Span::between(at(22, 57, 0), ms(at(22, 57, 0), 5 * 3_600_000 - 1)),
                "2020-03-16 (Mon) 22:57 .. 2020-03-17 (Tue) 03:56",
            ),
        ] {
            assert_eq!(span_text(span, Zone::JST), text);
        }
        assert_eq!(Zone::JST.to_string(), "UTC+09:00");
        assert_eq!(
            Zone::east(-210).map(|zone| zone.to_string()),
            Some("UTC-03:30".into())
        );
        assert_eq!(Zone::east(1440), None);
        assert_eq!(
            (minutes_text(626), minutes_text(7)),
            ("10 h 26 min".into(), "7 min".into())
        );
    }
}
