//! Numbers with units: durations and sizes, as people write them.

use std::time::Duration;

/// Units of time, the largest first, in milliseconds.
const TIME: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of size, the largest first, in bytes. Powers of two only: `MB` means two things.
const SIZE: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

pub(super) const DURATION_FORM: &str =
    "a duration, such as \"500ms\", \"30s\", \"10m\", \"1h\" or \"1d\"";
pub(super) const SIZE_FORM: &str =
    "a size, such as \"64 KiB\", \"1 MiB\", \"1 GiB\" or a number of bytes";

/// Reads a duration as policies and configs write them: `"500ms"`, `"30s"`, `"10m"`, `"1h"`, `"1d"`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    number(text, &TIME).map(Duration::from_millis)
}

/// Reads a size in bytes as policies and configs write them: `"64 KiB"`, `"1 GiB"`.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    number(text, &SIZE)
}

/// A whole number, an optional space, a unit.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(end)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes a duration so that [`duration`] reads it. Less than a millisecond is not kept.
pub(super) fn show_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    show(milliseconds, &TIME, "")
}

/// Writes a size so that [`size`] reads it.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE, " ")
}

/// In the largest unit that leaves nothing over.
fn show(value: u64, units: &[(&str, u64)], between: &str) -> String {
    let unit = units
        .iter()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = unit.or(units.last()).expect("there are units");
    format!("{}{between}{name}", value / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("10 m", Some(600_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("30", None),
            ("s", None),
            ("", None),
            ("1.5h", None),
            ("-1s", None),
            ("1w", None),
            ("1 h ", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(
                duration(text),
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64 KiB", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("1 MiB", Some(1 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("7 B", Some(7)),
            ("1 MB", None),
            ("1mib", None),
            ("1", None),
            ("18446744073709551615 KiB", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(number in any::<u64>()) {
            prop_assert_eq!(size(&show_size(number)), Some(number));
            let time = Duration::from_millis(number);
            prop_assert_eq!(duration(&show_duration(time)), Some(time));
        }

        #[test]
        fn any_text_is_read_or_not(text in "\\PC*") {
            prop_assert_eq!(size(&text).is_some() && duration(&text).is_some(), false);
        }
    }
}
