//! `slices` of a class: how large objects are fetched and stored.

use super::fault::Faults;
use super::text::ClassText;
use super::units;

/// Bytes of a slice, at least: each has a head of its own in memory, and costs the origin a request.
const SLICE_BYTES_MIN: u64 = 4 << 10;

/// Bytes of a slice, at most: whoever asks for a byte waits for the slice that holds it.
const SLICE_BYTES_MAX: u64 = 64 << 20;

/// How many bytes a slice has; `None`: objects are fetched and stored whole.
pub(super) fn slice_bytes(
    said: &ClassText,
    object_bytes_max: u64,
    faults: &mut Faults<'_>,
) -> Option<u64> {
    let slices = said.slices.as_ref()?;
    if !(SLICE_BYTES_MIN..=SLICE_BYTES_MAX.min(object_bytes_max)).contains(&slices.value) {
        faults.add(
            slices.at,
            format!("`slices` is {}", units::show_size(slices.value)),
            format!(
                "Write at least \"{}\" and at most \"{}\" and the class's `object_bytes_max` ({}); \"1 MiB\" is a good size.",
                units::show_size(SLICE_BYTES_MIN),
                units::show_size(SLICE_BYTES_MAX),
                units::show_size(object_bytes_max),
            ),
        );
    }
    if let Some(encoding) = said.key_encoding.as_ref().filter(|said| said.value) {
        // A part of a coded body can be read by nobody who has not read what is before it.
        faults.add(
            encoding.at,
            "slices are of a body without a content coding, and `key_encoding = true` asks for one",
            "Leave `key_encoding` out, or write `key_encoding = false`.",
        );
    }
    Some(slices.value)
}
