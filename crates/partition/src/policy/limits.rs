//! The limits: one row for each, with its unit and its range.

use std::time::Duration;

use super::units::{show_duration, show_size};
use crate::rules::Limits;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Milliseconds.
    Time,
}

impl Unit {
    pub(super) fn show(self, value: u64) -> String {
        match self {
            Self::Bytes => show_size(value),
            Self::Count => value.to_string(),
            Self::Time => show_duration(Duration::from_millis(value)),
        }
    }
}

/// One limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) get: fn(&Limits) -> u64,
    pub(super) set: fn(&mut Limits, u64),
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a limit of time is at most a day")
}

macro_rules! limit {
    (@get Time, $limits:expr, $field:ident) => { milliseconds($limits.$field) };
    (@get $unit:ident, $limits:expr, $field:ident) => {
        u64::try_from($limits.$field).expect("a limit fits 64 bits")
    };
    (@set Time, $value:expr) => { Duration::from_millis($value) };
    (@set $unit:ident, $value:expr) => { $value.try_into().expect("within the limit's range") };
    ($field:ident, $unit:ident, $min:expr, $max:expr) => {
        Limit {
            name: stringify!($field),
            unit: Unit::$unit,
            min: $min,
            max: $max,
            get: |limits| limit!(@get $unit, limits, $field),
            set: |limits, value| limits.$field = limit!(@set $unit, value),
        }
    };
}

/// All limits. The ranges keep out what would stop the node from working at all.
pub(super) const LIMITS: &[Limit] = &[
    limit!(store_bytes_max, Bytes, MIB, TIB),
    // What the HTTP parser needs at the least.
    limit!(head_bytes_max, Bytes, 8 * KIB, MIB),
    limit!(head_fields_max, Count, 16, 1_000),
    limit!(target_bytes_max, Bytes, 256, 64 * KIB),
    limit!(request_body_bytes_max, Bytes, 1, TIB),
    limit!(document_bytes_max, Bytes, 64 * KIB, 64 * MIB),
    limit!(connections_max, Count, 1, 1_000_000),
    limit!(connections_per_address_max, Count, 1, 1_000_000),
    limit!(requests_max, Count, 1, 1_000_000),
    limit!(waiting_max, Count, 1, 1_000_000),
    limit!(waiting_time_max, Time, 1, HOUR),
    limit!(gates_max, Count, 1, 1_000_000),
    limit!(gate_time_max, Time, 1, HOUR),
    limit!(head_time_max, Time, 100, HOUR),
    limit!(idle_time_max, Time, 100, HOUR),
    limit!(stall_time_max, Time, 100, HOUR),
    limit!(connect_time_max, Time, 1, HOUR),
    limit!(first_byte_time_max, Time, 1, HOUR),
    limit!(origin_idle_time_max, Time, 1, HOUR),
    limit!(origin_idle_max, Count, 1, 10_000),
    limit!(remember_pass_time, Time, 1, HOUR),
    limit!(invalidations_per_second_max, Count, 1, 1_000_000),
    limit!(shutdown_time_max, Time, 1, 24 * HOUR),
    limit!(handshakes_max, Count, 1, 1_000_000),
    limit!(handshakes_per_address_max, Count, 1, 1_000_000),
    limit!(handshake_time_max, Time, 100, HOUR),
    limit!(h2_streams_max, Count, 1, 10_000),
    limit!(h2_streams_all_max, Count, 1, 1_000_000),
    // The least that the protocol lets a window begin with, and the most that it lets it grow to.
    limit!(h2_window_bytes_max, Bytes, 64 * KIB, 1024 * MIB),
    limit!(h2_control_frames_max, Count, 10, 1_000_000),
    limit!(tunnels_max, Count, 1, 1_000_000),
    limit!(tunnels_per_address_max, Count, 1, 1_000_000),
    limit!(tunnel_idle_time_max, Time, 100, 24 * HOUR),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_listed_and_its_default_is_in_range() {
        let default = Limits::default();
        // The derived form names every field: a field without a row here shows.
        let fields = format!("{default:?}").matches(": ").count();
        assert_eq!(LIMITS.len(), fields);
        for limit in LIMITS {
            let value = (limit.get)(&default);
            assert!(
                (limit.min..=limit.max).contains(&value),
                "{} {value}",
                limit.name
            );
            let mut changed = default;
            for bound in [limit.min, limit.max] {
                (limit.set)(&mut changed, bound);
                assert_eq!((limit.get)(&changed), bound, "{}", limit.name);
            }
        }
    }
}
