//! Request heads and trailer sections, read byte by byte.
//!
//! For: saying of the bytes at the start of a request whether they are a head that everyone reads
//! alike, how long it is, and how its body is framed. A scan goes on where the last one stopped, so
//! each byte is looked at once however the network splits them.
//!
//! Never: repairs. What a lenient reader would mend (a bare LF, a folded line, a second length) is
//! refused by name, since two readers that mend differently see different requests (RFC 9112 11.2).
//!
//! Invariant: the verdict depends on the bytes alone, not on how they were split. The first fault
//! in byte order names the refusal.

use http::header::COOKIE;
use http::request::Parts;
use shikiri_partition::{Limits, Refused};

use super::Bounds;

/// Bytes of a method. The longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;
/// `HTTP/` DIGIT `.` DIGIT.
const VERSION_BYTES: usize = 8;
/// The largest `Content-Length`: what every reader, in whatever language, holds exactly.
const LENGTH_MAX: u64 = 1 << 53;
/// Digits of a `Content-Length`, leading zeros included.
const LENGTH_DIGITS_MAX: usize = 20;

/// How the body after a head ends (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// After this many bytes, which may be none.
    Length(u64),
    /// After its last chunk and trailers.
    Chunked,
}

/// A head that is whole and sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes, empty line included.
    pub(super) bytes: usize,
    /// How its body ends.
    pub(super) framing: BodyFraming,
    /// Whether it asks to switch protocols (RFC 9110 7.8), or may be taken so.
    pub(super) may_switch: bool,
}

/// A request head that is being read.
#[derive(Debug)]
pub(super) struct HeadScan {
    line: LinePart,
    fields: FieldScan,
    told: Told,
}

/// Where in the request line the scan stands.
#[derive(Clone, Copy, Debug)]
enum LinePart {
    Method,
    Target { from: usize },
    Version { from: usize },
    Lf,
    Done,
}

impl HeadScan {
    pub(super) const fn new() -> Self {
        Self {
            line: LinePart::Method,
            fields: FieldScan::new(),
            told: Told::new(),
        }
    }

    /// Reads on. `bytes` are all bytes since the head began, those of earlier calls included.
    /// `None` means that more are needed.
    pub(super) fn scan(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<Option<Head>, Refused> {
        let within = &bytes[..bytes.len().min(bounds.head_bytes_max)];
        if self.scan_line(within, bounds)? {
            let Self { fields, told, .. } = self;
            let end = fields.scan(within, bounds.head_fields_max, |name, value| {
                told.take(name, value, bounds)
            })?;
            if let Some(bytes) = end {
                return Ok(Some(Head {
                    bytes,
                    framing: told.framing()?,
                    may_switch: told.names_upgrade,
                }));
            }
        }
        if bytes.len() > bounds.head_bytes_max {
            return Err(Refused::HeadTooLarge);
        }
        Ok(None)
    }

    /// `method SP request-target SP HTTP-version CRLF`, with no leniency (RFC 9112 3). Returns
    /// whether the line is whole.
    fn scan_line(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<bool, Refused> {
        loop {
            match self.line {
                LinePart::Method => {
                    let end = run(bytes, self.fields.at, METHOD_BYTES_MAX + 1, TOKEN);
                    if end > METHOD_BYTES_MAX {
                        return Err(Refused::MalformedHead);
                    }
                    self.fields.at = end;
                    match bytes.get(end) {
                        None => return Ok(false),
                        Some(b' ') if end > 0 => {}
                        Some(_) => return Err(Refused::MalformedHead),
                    }
                    if &bytes[..end] == b"CONNECT" {
                        return Err(Refused::Connect);
                    }
                    self.fields.at = end + 1;
                    self.line = LinePart::Target { from: end + 1 };
                }
                LinePart::Target { from } => {
                    let limit = from
                        .saturating_add(bounds.target_bytes_max)
                        .saturating_add(1);
                    let end = run(bytes, self.fields.at, limit, TARGET);
                    if end - from > bounds.target_bytes_max {
                        return Err(Refused::TargetTooLong);
                    }
                    self.fields.at = end;
                    match bytes.get(end) {
                        None => return Ok(false),
                        Some(b' ') if end > from => {}
                        // A fragment is not part of any form of target (RFC 9112 3.2).
                        Some(b'#') => return Err(Refused::Target),
                        Some(_) => return Err(Refused::MalformedHead),
                    }
                    self.fields.at = end + 1;
                    self.line = LinePart::Version { from: end + 1 };
                }
                LinePart::Version { from } => {
                    let end = run(bytes, self.fields.at, from + VERSION_BYTES + 1, VERSION);
                    if end - from > VERSION_BYTES {
                        return Err(Refused::MalformedHead);
                    }
                    self.fields.at = end;
                    match bytes.get(end) {
                        None => return Ok(false),
                        Some(b'\r') => {}
                        Some(_) => return Err(Refused::MalformedHead),
                    }
                    self.told.is_http_10 = match &bytes[from..end] {
                        b"HTTP/1.1" => false,
                        b"HTTP/1.0" => true,
                        // The preface of HTTP/2 is `PRI * HTTP/2.0` and ends here.
                        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..] => {
                            return Err(Refused::Version);
                        }
                        _ => return Err(Refused::MalformedHead),
                    };
                    self.fields.at = end + 1;
                    self.line = LinePart::Lf;
                }
                LinePart::Lf => {
                    match bytes.get(self.fields.at) {
                        None => return Ok(false),
                        Some(b'\n') => self.fields.at += 1,
                        Some(_) => return Err(Refused::MalformedHead),
                    }
                    self.line = LinePart::Done;
                }
                LinePart::Done => return Ok(true),
            }
        }
    }
}

/// Why a head that came in frames of HTTP/2 is refused, if it is: for all that a scan of its bytes would
/// refuse and the library that read it does not. An origin of HTTP/1 would read it as two.
pub(crate) fn refusal_of_parsed(parts: &Parts, limits: &Limits) -> Option<Refused> {
    let bounds = Bounds::of(limits);
    let target = parts.uri.path_and_query();
    let target = target.map_or("", |target| target.as_str()).as_bytes();
    if target.len() > bounds.target_bytes_max {
        return Some(Refused::TargetTooLong);
    }
    if run(target, 0, usize::MAX, TARGET) < target.len() {
        return Some(Refused::MalformedHead);
    }
    // However many crumbs a client makes of its cookies, they are one line (RFC 9113 8.2.3).
    let crumbs = parts.headers.get_all(COOKIE).iter().count();
    let fields = parts.headers.len() - crumbs.saturating_sub(1);
    if fields > bounds.head_fields_max {
        return Some(Refused::HeadTooLarge);
    }
    let mut told = Told::new();
    for (name, value) in &parts.headers {
        // RFC 9113 8.2.1: an HTTP/1 origin would read it without.
        if trim(value.as_bytes()).len() != value.len() {
            return Some(Refused::MalformedHead);
        }
        if let Err(why) = told.take(name.as_str().as_bytes(), value.as_bytes(), &bounds) {
            return Some(why);
        }
    }
    None
}

/// What a head has said of its framing so far.
#[derive(Debug)]
struct Told {
    is_http_10: bool,
    has_host: bool,
    length: Option<u64>,
    is_chunked: bool,
    names_upgrade: bool,
}

impl Told {
    const fn new() -> Self {
        Self {
            is_http_10: false,
            has_host: false,
            length: None,
            is_chunked: false,
            names_upgrade: false,
        }
    }

    /// Takes in one field.
    fn take(&mut self, name: &[u8], value: &[u8], bounds: &Bounds) -> Result<(), Refused> {
        match Framing::of(name) {
            None => {
                self.names_upgrade |= name.eq_ignore_ascii_case(b"upgrade");
                Ok(())
            }
            Some((framing, Spelling::Lookalike)) => Err(framing.refusal()),
            Some((Framing::Host, Spelling::Exact)) => {
                if self.has_host || !is_host(value) {
                    return Err(Refused::Host);
                }
                self.has_host = true;
                Ok(())
            }
            Some((Framing::ContentLength, Spelling::Exact)) => {
                if self.length.is_some() {
                    return Err(Refused::ContentLength);
                }
                if self.is_chunked {
                    return Err(Refused::LengthAndTransferEncoding);
                }
                let length = content_length(value).ok_or(Refused::ContentLength)?;
                if length > bounds.request_body_bytes_max {
                    return Err(Refused::BodyTooLarge);
                }
                self.length = Some(length);
                Ok(())
            }
            Some((Framing::TransferEncoding, Spelling::Exact)) => {
                if self.is_chunked || self.is_http_10 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refused::TransferEncoding);
                }
                if self.length.is_some() {
                    return Err(Refused::LengthAndTransferEncoding);
                }
                self.is_chunked = true;
                Ok(())
            }
        }
    }

    /// How the body ends, when all fields are in.
    fn framing(&self) -> Result<BodyFraming, Refused> {
        if !self.has_host {
            return Err(Refused::Host);
        }
        Ok(if self.is_chunked {
            BodyFraming::Chunked
        } else {
            BodyFraming::Length(self.length.unwrap_or(0))
        })
    }
}

/// Field lines up to and with the empty line after them: those of a head, or a trailer section.
#[derive(Debug)]
pub(super) struct FieldScan {
    /// Bytes looked at, counted from where the section or the head began.
    at: usize,
    part: FieldPart,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
enum FieldPart {
    Start,
    Name { from: usize },
    Value { name: (usize, usize), from: usize },
    Lf,
    EndLf,
}

impl FieldScan {
    pub(super) const fn new() -> Self {
        Self {
            at: 0,
            part: FieldPart::Start,
            count: 0,
        }
    }

    /// Reads on. `bytes` are all bytes since the section (or its head) began. `field` is given each
    /// name and its value without surrounding white space. Returns where the section ends, once it
    /// does. A fault that `field` does not name is `MalformedHead`.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        fields_max: usize,
        mut field: impl FnMut(&[u8], &[u8]) -> Result<(), Refused>,
    ) -> Result<Option<usize>, Refused> {
        loop {
            match self.part {
                FieldPart::Start => match bytes.get(self.at) {
                    None => return Ok(None),
                    Some(b'\r') => {
                        self.at += 1;
                        self.part = FieldPart::EndLf;
                    }
                    // White space here would be a folded line (RFC 9112 5.2), a colon an empty
                    // name; the name's own scan refuses both.
                    Some(_) => {
                        if self.count == fields_max {
                            return Err(Refused::HeadTooLarge);
                        }
                        self.count += 1;
                        self.part = FieldPart::Name { from: self.at };
                    }
                },
                FieldPart::Name { from } => {
                    self.at = run(bytes, self.at, usize::MAX, TOKEN);
                    match bytes.get(self.at) {
                        None => return Ok(None),
                        // No white space before the colon (RFC 9112 5.1).
                        Some(b':') if self.at > from => {}
                        Some(_) => return Err(Refused::MalformedHead),
                    }
                    let name = (from, self.at);
                    self.at += 1;
                    self.part = FieldPart::Value {
                        name,
                        from: self.at,
                    };
                }
                FieldPart::Value { name, from } => {
                    self.at = run(bytes, self.at, usize::MAX, VALUE);
                    match bytes.get(self.at) {
                        None => return Ok(None),
                        Some(b'\r') => {}
                        Some(_) => return Err(Refused::MalformedHead),
                    }
                    field(&bytes[name.0..name.1], trim(&bytes[from..self.at]))?;
                    self.at += 1;
                    self.part = FieldPart::Lf;
                }
                FieldPart::Lf => {
                    match bytes.get(self.at) {
                        None => return Ok(None),
                        Some(b'\n') => self.at += 1,
                        Some(_) => return Err(Refused::MalformedHead),
                    }
                    self.part = FieldPart::Start;
                }
                FieldPart::EndLf => {
                    return match bytes.get(self.at) {
                        None => Ok(None),
                        Some(b'\n') => Ok(Some(self.at + 1)),
                        Some(_) => Err(Refused::MalformedHead),
                    };
                }
            }
        }
    }
}

/// The fields that say where a request ends, or for whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Host,
    ContentLength,
    TransferEncoding,
}

/// Whether a name is one of those, or only what a careless reader would take for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Exact,
    /// `Transfer_Encoding`, `Content.Length`: gateways that turn names into variables cannot tell
    /// them from the real ones.
    Lookalike,
}

impl Framing {
    /// Which framing field a name is or looks like, if any.
    pub(super) fn of(name: &[u8]) -> Option<(Self, Spelling)> {
        const LETTERS_MAX: usize = 16;
        let mut letters = [0_u8; LETTERS_MAX];
        let mut count = 0;
        for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            if count == LETTERS_MAX {
                return None;
            }
            letters[count] = byte.to_ascii_lowercase();
            count += 1;
        }
        let (framing, exact): (Self, &[u8]) = match &letters[..count] {
            b"host" => (Self::Host, b"host"),
            b"contentlength" => (Self::ContentLength, b"content-length"),
            b"transferencoding" => (Self::TransferEncoding, b"transfer-encoding"),
            _ => return None,
        };
        let spelling = if name.eq_ignore_ascii_case(exact) {
            Spelling::Exact
        } else {
            Spelling::Lookalike
        };
        Some((framing, spelling))
    }

    const fn refusal(self) -> Refused {
        match self {
            Self::Host => Refused::Host,
            Self::ContentLength => Refused::ContentLength,
            Self::TransferEncoding => Refused::TransferEncoding,
        }
    }
}

/// One number, not a list of equal ones (RFC 9110 8.6 allows to refuse those).
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > LENGTH_DIGITS_MAX {
        return None;
    }
    let mut length: u64 = 0;
    for byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
    }
    (length <= LENGTH_MAX).then_some(length)
}

/// Whether a value can be a host and port (RFC 3986 3.2.2): no list, no path, no user, no space.
/// Which host it is, and whether it is ours, is decided elsewhere.
fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&byte| CLASSES[byte as usize] & HOST != 0)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Where the run of bytes of a class that goes through `from` ends, at `limit` or the end of
/// `bytes` at the latest.
fn run(bytes: &[u8], from: usize, limit: usize, class: u8) -> usize {
    let limit = limit.min(bytes.len());
    let mut at = from;
    while at < limit && CLASSES[bytes[at] as usize] & class != 0 {
        at += 1;
    }
    at
}

/// `tchar` (RFC 9110 5.6.2).
pub(super) const TOKEN: u8 = 1;
/// What may stand in a field value: horizontal tab, space, visible characters and `obs-text`
/// (RFC 9110 5.5).
const VALUE: u8 = 2;
/// What may stand in a target: visible ASCII but `#`.
const TARGET: u8 = 4;
/// What may stand in a version.
const VERSION: u8 = 8;
/// What may stand in a host and port.
const HOST: u8 = 16;

/// The classes of each byte.
pub(super) const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'
            )
            || matches!(byte, b'_' | b'`' | b'|' | b'~')
        {
            class |= TOKEN;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            class |= VALUE;
        }
        if byte.is_ascii_graphic() && byte != b'#' {
            class |= TARGET;
        }
        if byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'.' {
            class |= VERSION;
        }
        // No comma, although a `reg-name` may have one: two merged `Host` lines look like that.
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'[' | b']')
            || matches!(
                byte,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
            )
        {
            class |= HOST;
        }
        classes[byte as usize] = class;
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    classes
};
