//! Trace context (W3C Trace Context): which request of a distributed trace a request is.
//!
//! Somebody else's trace is gone on with only where the hop before us is trusted: whoever else could name
//! one could have the edge record what it likes, or tie two members' requests together. A pass may carry a
//! context to the origin; a shared fetch never does, since it is rendered from its key alone, and no
//! policy can put one there (`hop::names_one_request`).
//!
//! Never makes an id: what is random is an argument.
//!
//! Invariant: an id is not zero, so that every context is one that others read.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::pass::Hop;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What names a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

/// What names a span in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

/// A span, and whether its trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that what carries this is a child of.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl TraceId {
    /// From what is random.
    #[must_use]
    pub const fn of(random: u128) -> Self {
        match NonZeroU128::new(random) {
            Some(id) => Self(id),
            None => Self(NonZeroU128::MIN),
        }
    }

    /// The part that is random in every trace (W3C Trace Context Level 2, 2.2.2.3).
    #[must_use]
    pub const fn randomness(self) -> u64 {
        let bytes = self.0.get().to_be_bytes();
        let [.., a, b, c, d, e, f, g] = bytes;
        u64::from_be_bytes([0, a, b, c, d, e, f, g])
    }
}

impl SpanId {
    /// From what is random.
    #[must_use]
    pub const fn of(random: u64) -> Self {
        match NonZeroU64::new(random) {
            Some(id) => Self(id),
            None => Self(NonZeroU64::MIN),
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// As `traceparent` says it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            span,
            sampled,
        } = self;
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(*sampled))
    }
}

impl TraceContext {
    /// What a request says of its trace, where the hop that sent it is believed; `None` when it says
    /// nothing, or nothing that can be read, and a new trace begins.
    #[must_use]
    pub fn heard(headers: &HeaderMap, hop: &Hop<'_>) -> Option<Self> {
        if !hop.trusted {
            return None;
        }
        let mut said = headers.get_all(TRACEPARENT).iter();
        match (said.next(), said.next()) {
            (Some(said), None) => Self::read(said.to_str().ok()?),
            _ => None,
        }
    }

    /// Reads a `traceparent` (W3C Trace Context 3.2): of a later version as much as is known.
    fn read(text: &str) -> Option<Self> {
        let is_hex = |part: &str, length: usize| {
            let lower = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
            part.len() == length && part.bytes().all(lower)
        };
        let mut parts = text.split('-');
        let [version, trace, span, flags] =
            [2, 32, 16, 2].map(|length| parts.next().filter(|part| is_hex(part, length)));
        let version = version.filter(|version| *version != "ff")?;
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let trace = u128::from_str_radix(trace?, 16).ok()?;
        let span = u64::from_str_radix(span?, 16).ok()?;
        Some(Self {
            trace: TraceId(NonZeroU128::new(trace)?),
            span: SpanId(NonZeroU64::new(span)?),
            sampled: u8::from_str_radix(flags?, 16).ok()? & 1 == 1,
        })
    }

    /// Has a request to an origin say this and nothing else. What tracers noted beside another trace
    /// belongs to that.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        let said = headers.get(TRACEPARENT).and_then(|said| said.to_str().ok());
        let before = said.and_then(Self::read);
        if before.is_none_or(|before| before.trace != self.trace) {
            headers.remove(TRACESTATE);
        }
        let text = HeaderValue::try_from(self.to_string()).expect("hexadecimal is a header value");
        headers.insert(TRACEPARENT, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Scheme;
    use crate::tests::headers;

    const SAID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn heard(fields: &str, trusted: bool) -> Option<TraceContext> {
        let hop = Hop {
            client: [192, 0, 2, 1].into(),
            trusted,
            scheme: Scheme::Http,
            certificate: None,
        };
        TraceContext::heard(&headers(fields), &hop)
    }

    #[test]
    fn what_is_read_is_said_again() {
        for (text, expected) in [
            (SAID, Some(SAID)),
            (
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
                Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
            ),
            // A later version says as much, and more.
            (
                "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more",
                Some(SAID),
            ),
            (
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
                None,
            ),
            (
                "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                None,
            ),
            (
                "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                None,
            ),
            (
                "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                None,
            ),
            (
                "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                None,
            ),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None),
            (
                "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                None,
            ),
            ("", None),
        ] {
            let read = TraceContext::read(text).map(|context| context.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn who_is_not_trusted_names_no_trace() {
        let field = format!("traceparent: {SAID}");
        assert!(heard(&field, true).is_some());
        assert!(heard(&field, false).is_none());
        assert!(heard(&format!("{field}\n{field}"), true).is_none(), "twice");
    }

    #[test]
    fn what_was_noted_beside_another_trace_goes() {
        let context = TraceContext {
            trace: TraceId::of(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
            span: SpanId::of(7),
            sampled: true,
        };
        for (before, keeps) in [
            (format!("traceparent: {SAID}\ntracestate: a=1"), true),
            (
                "traceparent: 00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate: a=1"
                    .into(),
                false,
            ),
            ("tracestate: a=1".into(), false),
        ] {
            let mut fields = headers(&before);
            context.put(&mut fields);
            assert_eq!(fields.contains_key(TRACESTATE), keeps, "{before}");
            let said: Vec<_> = fields.get_all(TRACEPARENT).iter().collect();
            assert_eq!(
                said,
                ["00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01"]
            );
        }
    }

    #[test]
    fn ids_are_not_zero_and_seven_bytes_of_a_trace_are_random() {
        assert_eq!(TraceId::of(0), TraceId::of(1));
        assert_eq!(SpanId::of(0), SpanId::of(1));
        assert_eq!(TraceId::of(u128::MAX).randomness(), (1 << 56) - 1);
        assert_eq!(TraceId::of(1 << 56).randomness(), 0);
    }
}
