//! The closed list of what member A's secrets may change for others, and how schedules keep even
//! that equal, so that the comparison of two runs masks nothing.
//!
//! 1. **An invalidation named by A's responses** (RFC 9111 4.4). A successful answer to A's unsafe
//!    request makes the origin be asked again for the request's own URI, `Location` and
//!    `Content-Location`. Why it is allowed: it can only cause a fetch. Kept equal: whether A's unsafe
//!    request is answered at all, its status, `Location` and `Content-Location` come from
//!    [`decided_by`], which does not see the secrets. Everything else of the answer does.
//! 2. **Timing and load.** How long A's answers take, how many of them run. Why it is allowed: no
//!    cache hides its load. Kept equal: delays come from bytes without secrets ([`decided_by`]); A's
//!    own events and the answers to them fall on odd milliseconds, all others on even ones
//!    ([`instant`]), also where A and B take turns on one connection, so that no tie is ever decided by
//!    what A's answers look like; bounds on load are never reached; and where A sends several requests on one connection, framing faults too are
//!    chosen without the secrets (`steady`), since a cut connection delays, or loses, what A asks
//!    after it. On HTTP/2 nothing comes after another: there they are chosen so only where A's
//!    requests change something, B has streams on the same connection, or one comes so late that the
//!    connection may have been idle for too long.
//! 3. **What the policy puts into a key, or calls public.** A value in `key_headers` or a parameter in
//!    `query_public` is part of what everybody may ask for. Why it is allowed: the policy's author
//!    says so, and who cannot name the value cannot name the object. Kept equal: A's secrets are sent
//!    as cookies, `Authorization`, `X-User`, in bodies and as parameters or segments that no policy
//!    here calls public.
//! 4. **A disk without space for evidence, or one that fails.** It is one disk for all: how many rows
//!    there are, how long they are, and whether somebody's has already failed to be written decide
//!    whether the next request is refused at once, passes without a row, or is cut off. So while the disk
//!    is full or fails, and only then, others can learn that somebody was answered, and how much of
//!    the space it took. Why it is allowed: evidence goes before being up, and this can only refuse,
//!    pass and cut; it shows nothing. Kept equal: where a schedule's disk is too small or fails, all of
//!    A's answers have outlines without the secrets (`steady`), whose heads come at once, and A takes
//!    them at once. Nothing is left out of the comparison.
//!
//! A mode that trips by itself does not exist yet; when it does, it comes here.

use crate::rng::hash;
use crate::secret::masked;

/// Instants are rounded so that each connection has its own place in this many milliseconds.
const ROUND: u64 = 32;

/// What an origin's decision may depend on: all bytes of a request, or those that are no secret.
pub(crate) fn decided_by(seed: u64, count: u32, bytes: &[u8], without_secrets: bool) -> u64 {
    let seed = seed ^ (u64::from(count) << 40);
    if without_secrets {
        hash(seed, &masked(bytes))
    } else {
        hash(seed, bytes)
    }
}

/// The first instant from `at` on that belongs to a lane. Lanes of A are odd.
pub(crate) const fn instant(at: u64, lane: u64) -> u64 {
    let lane = lane % ROUND;
    let base = at - at % ROUND + lane;
    if base < at { base + ROUND } else { base }
}

/// When an origin answers: for a request that says its lane, in that lane, half a round on; for a
/// shared fetch, on an even millisecond.
pub(crate) const fn answered(at: u64, lane: Option<u64>) -> u64 {
    match lane {
        Some(lane) => instant(at + 1, lane + ROUND / 2),
        None => at + at % 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_keep_their_parity() {
        for at in 0..100 {
            for lane in 0..32 {
                assert!(instant(at, lane) >= at && instant(at, lane) < at + 32);
                assert_eq!(instant(at, lane) % 2, lane % 2);
                assert_eq!(answered(at, Some(lane)) % 2, lane % 2);
            }
            assert_eq!(answered(at, None) % 2, 0);
        }
    }
}
