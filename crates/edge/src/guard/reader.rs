//! The requests of one connection as a sequence of units: what may be handed on, and when.
//!
//! Invariant: a head or a trailer section is handed on whole or not at all. The bytes given to
//! [`Reader::step`] begin where the last unit that it passed or dropped ended.

use shikiri_partition::Refused;

use super::Bounds;
use super::body::{ChunkScan, Chunks};
use super::head::{BodyFraming, FieldScan, Framing, HeadScan};

/// Bytes and fields of a trailer section.
const TRAILER_BYTES_MAX: usize = 8 << 10;
const TRAILER_FIELDS_MAX: usize = 32;

/// What the first bytes of those given are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many are sound.
    Pass(usize),
    /// So many are to be left out: an empty line before a request.
    Drop(usize),
    /// They are the beginning of something.
    More,
    /// They are a head that is refused. Stepping again says so again.
    Refused(Refused),
    /// They are of a body, and it goes no further. Stepping again says so again.
    Broken(Refused),
}

/// What the client has to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// A request, of which nothing has come.
    Request,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
}

/// Reads requests.
#[derive(Debug)]
pub(super) struct Reader {
    at: At,
    heads: u64,
}

#[derive(Debug)]
enum At {
    /// Before a request. One empty line may come first (RFC 9112 2.2).
    Start {
        skipped_line: bool,
    },
    Head(HeadScan),
    /// In a body of which so many bytes are left.
    Length(u64),
    Chunks(ChunkScan),
    Trailers(FieldScan),
    /// After a request that may switch protocols: what follows is read as a request only if it does not.
    Undecided,
}

impl Reader {
    pub(super) const fn new() -> Self {
        Self {
            at: At::Start {
                skipped_line: false,
            },
            heads: 0,
        }
    }

    /// Reads on. `bytes` are all that came since the end of what was last passed or dropped; there
    /// is at least one.
    pub(super) fn step(&mut self, bytes: &[u8], bounds: &Bounds) -> Step {
        match &mut self.at {
            At::Start { skipped_line } => match bytes {
                [b'\r', b'\n', ..] if !*skipped_line => {
                    *skipped_line = true;
                    Step::Drop(2)
                }
                [b'\r'] if !*skipped_line => Step::More,
                _ => {
                    self.at = At::Head(HeadScan::new());
                    self.step(bytes, bounds)
                }
            },
            At::Head(scan) => match scan.scan(bytes, bounds) {
                Err(why) => Step::Refused(why),
                Ok(None) => Step::More,
                Ok(Some(head)) => {
                    self.heads += 1;
                    self.at = match head.framing {
                        BodyFraming::Length(0) if head.may_switch => At::Undecided,
                        BodyFraming::Length(0) => At::Start {
                            skipped_line: false,
                        },
                        BodyFraming::Length(left) => At::Length(left),
                        BodyFraming::Chunked => At::Chunks(ChunkScan::new()),
                    };
                    Step::Pass(head.bytes)
                }
            },
            At::Undecided => Step::More,
            At::Length(left) => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                if *left == 0 {
                    self.at = At::Start {
                        skipped_line: false,
                    };
                }
                Step::Pass(usize::try_from(taken).expect("no more than a slice has"))
            }
            At::Chunks(scan) => match scan.scan(bytes, bounds) {
                Err(why) => Step::Broken(why),
                Ok(Chunks::Within(count)) => Step::Pass(count),
                Ok(Chunks::Last(count)) => {
                    self.at = At::Trailers(FieldScan::new());
                    Step::Pass(count)
                }
            },
            At::Trailers(scan) => {
                let within = &bytes[..bytes.len().min(TRAILER_BYTES_MAX)];
                let fields_max = TRAILER_FIELDS_MAX.min(bounds.head_fields_max);
                match scan.scan(within, fields_max, trailer_field) {
                    Ok(Some(count)) => {
                        self.at = At::Start {
                            skipped_line: false,
                        };
                        Step::Pass(count)
                    }
                    Ok(None) if bytes.len() <= TRAILER_BYTES_MAX => Step::More,
                    Ok(None) | Err(_) => Step::Broken(Refused::MalformedChunk),
                }
            }
        }
    }

    /// Whether what follows is held until it is known what it is.
    pub(super) const fn is_undecided(&self) -> bool {
        matches!(self.at, At::Undecided)
    }

    /// The protocol was not switched: what follows is a request.
    pub(super) fn goes_on(&mut self) {
        self.at = At::Start {
            skipped_line: false,
        };
    }

    /// What is awaited now.
    pub(super) const fn awaits(&self) -> Awaits {
        match self.at {
            At::Start { .. } | At::Undecided => Awaits::Request,
            At::Head(_) => Awaits::Head,
            At::Length(_) | At::Chunks(_) | At::Trailers(_) => Awaits::Body,
        }
    }

    /// How many heads have been passed.
    pub(super) const fn heads(&self) -> u64 {
        self.heads
    }
}

/// A trailer says nothing of framing or routing (RFC 9110 6.5.1).
fn trailer_field(name: &[u8], _value: &[u8]) -> Result<(), Refused> {
    match Framing::of(name) {
        None => Ok(()),
        Some(_) => Err(Refused::MalformedChunk),
    }
}
