//! Identity in a URL: what makes a request personal by its target alone.
//!
//! Two questions, in this order. Can the target be read in more than one way? Then some origin reads
//! it in the other way, and what we took for a picture is somebody's account. Does it name somebody,
//! or hold what looks like a secret? Then whoever holds the URL is a person to the origin.
//!
//! Never here: leniency. A target in doubt makes a request personal, which costs a visit to the
//! origin and shows nobody anything.
//!
//! Invariant: after [`path`] and [`query`] have said yes, the raw bytes of a target have one reading:
//! no separator, dot or letter hides behind a percent sign. Patterns can then be compared with them
//! byte for byte. The lists and numbers here are described in `docs/policy.md`.

use crate::reason::Personal;
use crate::rules::{NamePattern, Session};

/// A run of letters and digits of this length with both cases and digits is a token.
const MIXED_RUN_BYTES_MIN: usize = 20;
/// In a file's name a run may be this long before it is looked at: build tools stamp the names of
/// files with such digests.
const MIXED_RUN_IN_FILE_BYTES_MAX: usize = 24;
/// A run of letters and digits of this length with a digit in it is a token: 128 bits in hexadecimal
/// digits, and longer than words are.
const LONG_RUN_BYTES_MIN: usize = 32;
/// In a file's name runs of lower-case hexadecimal digits up to this length are digests: 256 bits.
const HEX_RUN_IN_FILE_BYTES_MAX: usize = 64;
/// A run of digits of this length is a token: more than any timestamp in nanoseconds.
const DIGIT_RUN_BYTES_MIN: usize = 20;
/// The first characters of a JSON web token: `{"` in base64.
const JWT_START: &str = "eyJ";
/// A run that starts like a JSON web token and is this long is one.
const JWT_BYTES_MIN: usize = 16;
/// A last segment's ending is an extension up to this length: `webmanifest`.
const EXTENSION_BYTES_MAX: usize = 11;

/// Parameters that name a person, a session or a secret: the whole name, in lower case, with `_` for
/// `-` and `.`.
const NAMES: &[&str] = &[
    // Sessions.
    "sid",
    "ssid",
    "sess",
    "sessid",
    "phpsessid",
    "jsessionid",
    "cfid",
    "connect_sid",
    // Secrets.
    "key",
    "apikey",
    "api_key",
    "accesskey",
    "access_key",
    "pass",
    "pwd",
    "pin",
    "passcode",
    "secret",
    "otp",
    "nonce",
    "ticket",
    "jwt",
    "bearer",
    "assertion",
    "hmac",
    "mac",
    "sig",
    "sign",
    "signature",
    "policy",
    "key_pair_id",
    "hdnea",
    "hdnts",
    "hdntl",
    // Logins under way.
    "auth",
    "authuser",
    "authkey",
    "authorization",
    "code",
    "state",
    "login",
    "login_hint",
    "relaystate",
    // People and what is theirs.
    "uid",
    "uname",
    "mail",
    "e_mail",
    "phone",
    "tel",
    "owner",
    "viewer",
    "cart_id",
    "cartid",
    "basket_id",
    "order_id",
    "orderid",
    "order_no",
    "order_number",
    "invoice_id",
    "invoice_no",
    "reservation_id",
    "booking_id",
    // Recipients of a mailing.
    "mc_eid",
    "mkt_tok",
    "_hsenc",
    "vero_id",
    "oly_enc_id",
    "oly_anon_id",
];

/// The same, by how the name starts.
const NAME_STARTS: &[&str] = &[
    "session",
    "sess_",
    "aspsession",
    "token",
    "auth_",
    "oauth",
    "saml",
    "csrf",
    "xsrf",
    "password",
    "passwd",
    "signature",
    "x_amz_",
    "x_goog_",
    "x_oss_",
    "x_ms_",
    "user",
    "member",
    "customer",
    "account",
    "email",
];

/// The same, by how the name ends.
const NAME_ENDS: &[&str] = &[
    "token",
    "secret",
    "password",
    "session",
    "sessionid",
    "session_id",
    "signature",
    "jwt",
    "apikey",
    "api_key",
    "_sid",
    "_sig",
    "_auth",
    "_otp",
    "_nonce",
    "_ticket",
    "_email",
    "_uid",
    "_user",
    "userid",
    "user_id",
    "memberid",
    "member_id",
    "customerid",
    "customer_id",
];

/// Parameters that advertisers and social networks hang on every link. Their values are random, but
/// no origin takes them for a credential, and a surge comes through just such links.
const CLICK_IDS: &[&str] = &[
    "fbclid",
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "msclkid",
    "yclid",
    "ttclid",
    "twclid",
    "igshid",
    "li_fat_id",
    "_gl",
    "mc_cid",
    "_hsmi",
    "srsltid",
];

/// Whether a path can be read in one way and names nobody.
pub(crate) fn path(path: &str, session: &Session) -> Result<(), Personal> {
    if let Some((_, parameters)) = path.split_once(';') {
        // `;jsessionid=…`: a servlet container's session, in what other servers take for the path.
        let mut names = parameters
            .split([';', '/'])
            .map(|p| p.split_once('=').map_or(p, |(n, _)| n));
        return Err(if names.any(names_identity) {
            Personal::IdentityInPath
        } else {
            Personal::AmbiguousPath
        });
    }
    let rest = path.strip_prefix('/').ok_or(Personal::AmbiguousPath)?;
    if mixes_cases(path) {
        return Err(Personal::AmbiguousPath);
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        // `//` is one slash to some servers and two to others. At the very end it is a directory.
        if segment.is_empty() && !is_last {
            return Err(Personal::AmbiguousPath);
        }
        let text = segment_text(segment).ok_or(Personal::AmbiguousPath)?;
        let named = |p: &NamePattern| matches_any_case(p, segment) || matches_any_case(p, &text);
        if session.segments.iter().any(named) {
            return Err(Personal::IdentityInPath);
        }
        let is_file = is_last && has_extension(&text);
        if !is_file && is_address(&text) {
            return Err(Personal::IdentityInPath);
        }
        if is_file && file_holds_token(&text) || !is_file && holds_token(&text) {
            return Err(Personal::TokenInPath);
        }
    }
    Ok(())
}

/// Whether a path can be read in one way, whoever it may name.
pub(crate) fn reads_in_one_way(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment_text(segment).is_none() || segment.is_empty() && !is_last {
            return false;
        }
    }
    !path.contains(';') && !mixes_cases(path)
}

/// `%e3` and `%E3` are one (RFC 3986 6.2.2.1). A policy's patterns are held in either case, but not in
/// every mixture of them.
fn mixes_cases(path: &str) -> bool {
    let digits = || {
        path.split('%')
            .skip(1)
            .flat_map(|after| after.bytes().take(2))
    };
    digits().any(|b| b.is_ascii_lowercase()) && digits().any(|b| b.is_ascii_uppercase())
}

/// Whether a query can be read in one way and names nobody.
pub(crate) fn query(query: Option<&str>, session: &Session) -> Result<(), Personal> {
    let Some(text) = query else {
        return Ok(());
    };
    // RFC 3986 3.4, and the brackets that programs send as they are. `;` separates parameters for
    // some servers and not for others.
    let is_query_byte = |b: u8| is_path_byte(b) || matches!(b, b'/' | b'?' | b'[' | b']' | b'%');
    if !text.bytes().all(is_query_byte) {
        return Err(Personal::AmbiguousQuery);
    }
    for (name, value) in parameters(query) {
        // A name in disguise is written by nobody but who wants to slip past a list of names.
        let hidden = |b: u8| is_unreserved(b) || matches!(b, b'&' | b'=' | b';' | b'#' | b'%');
        let plain = decoded(&name.replace('+', " "), hidden).ok_or(Personal::AmbiguousQuery)?;
        let value = decoded(&value.replace('+', " "), |_| false).ok_or(Personal::AmbiguousQuery)?;
        // No harm in a value that is not UTF-8: it is in the key as it came, or goes nowhere.
        let (plain, value) = (
            String::from_utf8_lossy(&plain),
            String::from_utf8_lossy(&value),
        );
        let listed = |p: &NamePattern| matches_any_case(p, name) || matches_any_case(p, &plain);
        if names_identity(&plain) || session.query.iter().any(listed) || is_address(&value) {
            return Err(Personal::IdentityInQuery(shown(&plain)));
        }
        let exempt = CLICK_IDS.iter().any(|id| plain.eq_ignore_ascii_case(id))
            || session
                .query_public
                .iter()
                .any(|p| p.matches(name) || p.matches(&plain));
        if !exempt && (holds_token(&plain) || holds_token(&value)) {
            return Err(Personal::TokenInQuery(shown(&plain)));
        }
    }
    Ok(())
}

/// The parameters of a query: raw names and values.
pub(crate) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').unwrap_or((p, "")))
}

/// The extension of the last path segment.
pub(crate) fn extension(path: &str) -> Option<&str> {
    let (_, last) = path.rsplit_once('/')?;
    last.rsplit_once('.')
        .map(|(_, extension)| extension)
        .filter(|e| !e.is_empty())
}

/// Whether a parameter's name is on the built-in list. `user[token]` is looked up by its parts too.
pub(crate) fn names_identity(name: &str) -> bool {
    let name: String = name
        .chars()
        .map(|c| {
            if matches!(c, '-' | '.') {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    name.split(['[', ']'])
        .filter(|part| !part.is_empty())
        .any(|part| {
            NAMES.contains(&part)
                || NAME_STARTS.iter().any(|start| part.starts_with(start))
                || NAME_ENDS.iter().any(|end| part.ends_with(end))
        })
}

/// A parameter's name for a message: what may itself be a secret is cut short.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 24;
    const HINT_CHARS: usize = 4;
    if holds_token(name) || name.chars().count() > CHARS_MAX {
        name.chars().take(HINT_CHARS).chain(['…']).collect()
    } else {
        name.to_owned()
    }
}

/// A pattern that tightens is compared without regard to case: so are, by some origins, the names.
fn matches_any_case(pattern: &NamePattern, name: &str) -> bool {
    let (pattern, name) = match pattern.0.strip_suffix('*') {
        Some(start) => (start, name.as_bytes().get(..start.len())),
        None => (pattern.0.as_str(), Some(name.as_bytes())),
    };
    name.is_some_and(|name| name.eq_ignore_ascii_case(pattern.as_bytes()))
}

/// The text of a path segment, if every server reads it alike.
fn segment_text(segment: &str) -> Option<String> {
    // RFC 3986 3.3: anything else is let through by some and mended by others.
    if !segment.bytes().all(|b| is_path_byte(b) || b == b'%') {
        return None;
    }
    // What a second decoding or a lenient one takes for a letter in disguise, a separator, a
    // parameter, the start of a query, or one more percent sign.
    let hidden =
        |b: u8| is_unreserved(b) || matches!(b, b'/' | b'\\' | b';' | b'?' | b'#' | b'&' | b'%');
    // Overlong forms of a slash are not UTF-8 either.
    let text = String::from_utf8(decoded(segment, hidden)?).ok()?;
    // What normalisation, or a file system, turns into a dot or a separator.
    let folds = |c| {
        matches!(
            c,
            '\u{2024}' | '\u{2044}' | '\u{2215}' | '\u{ff0e}' | '\u{ff0f}' | '\u{ff3c}'
        )
    };
    if text.chars().any(|c| c.is_control() || folds(c)) {
        return None;
    }
    // `.` and `..` (RFC 3986 5.2.4), and what some file systems take for them.
    let is_dots = !text.is_empty() && text.chars().all(|c| matches!(c, '.' | ' '));
    (!is_dots).then_some(text)
}

/// Percent-decodes. `None` when a percent sign is not followed by two hexadecimal digits, when a
/// control character is encoded, or a character that has no place behind a percent sign here.
fn decoded(text: &str, hidden: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value =
            u8::try_from(digit()? * 16 + digit()?).expect("two hexadecimal digits fit a byte");
        if value.is_ascii_control() || hidden(value) {
            return None;
        }
        plain.push(value);
    }
    Some(plain)
}

/// `pchar` of RFC 3986 3.3 without percent-encoding and without `;`, at which servers differ.
const fn is_path_byte(b: u8) -> bool {
    is_unreserved(b)
        || matches!(
            b,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

fn has_extension(segment: &str) -> bool {
    segment.rsplit_once('.').is_some_and(|(stem, extension)| {
        !stem.is_empty()
            && (1..=EXTENSION_BYTES_MAX).contains(&extension.len())
            && extension.bytes().all(|b| b.is_ascii_alphanumeric())
            && extension.bytes().any(|b| b.is_ascii_alphabetic())
    })
}

/// Whether some text holds a mail address: `name@host.tld`.
fn is_address(text: &str) -> bool {
    text.match_indices('@').any(|(at, _)| {
        let before = text
            .get(..at)
            .is_some_and(|t| t.ends_with(|c: char| c.is_alphanumeric()));
        let host = text.get(at + 1..).unwrap_or_default();
        let host = host
            .split(|c: char| !c.is_alphanumeric() && !matches!(c, '.' | '-'))
            .next();
        let tld = host
            .and_then(|h| h.trim_end_matches('.').rsplit_once('.'))
            .map(|(_, tld)| tld);
        before && tld.is_some_and(|t| t.len() >= 2 && t.chars().all(char::is_alphabetic))
    })
}

/// Whether some text, which is no file's name, holds what looks like a token.
pub(crate) fn holds_token(text: &str) -> bool {
    holds_jwt(text)
        || words(text).any(|word| is_uuid(word) || is_scattered(word))
        || runs(text).any(|run| {
            is_mixed(run, MIXED_RUN_BYTES_MIN)
                || is_long(run)
                || run.len() >= DIGIT_RUN_BYTES_MIN && run.bytes().all(|b| b.is_ascii_digit())
        })
}

/// Whether a file's name holds what looks like a token, rather than the digest of its content.
fn file_holds_token(name: &str) -> bool {
    let is_digest = |run: &str| {
        run.len() <= HEX_RUN_IN_FILE_BYTES_MAX
            && run.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    holds_jwt(name)
        || runs(name).any(|run| {
            run.len() > MIXED_RUN_IN_FILE_BYTES_MAX
                && !is_digest(run)
                && (is_mixed(run, MIXED_RUN_BYTES_MIN) || is_scattered(run) || is_long(run))
        })
}

/// Runs of letters and digits.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|run| !run.is_empty())
}

/// Runs of what base64 for URLs is written in (RFC 4648 5).
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        .filter(|w| !w.is_empty())
}

fn holds_jwt(text: &str) -> bool {
    words(text).any(|word| word.len() >= JWT_BYTES_MIN && word.starts_with(JWT_START))
}

/// Both cases and digits, without a break.
fn is_mixed(run: &str, bytes_min: usize) -> bool {
    run.len() >= bytes_min
        && run.bytes().any(|b| b.is_ascii_lowercase())
        && run.bytes().any(|b| b.is_ascii_uppercase())
        && run.bytes().any(|b| b.is_ascii_digit())
}

/// Longer than words are, and with a digit.
fn is_long(run: &str) -> bool {
    run.len() >= LONG_RUN_BYTES_MIN && run.bytes().any(|b| b.is_ascii_digit())
}

/// RFC 9562 4.
fn is_uuid(word: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = word.split('-');
    lengths.iter().all(|&length| {
        parts
            .next()
            .is_some_and(|p| p.len() == length && p.bytes().all(|b| b.is_ascii_hexdigit()))
    }) && parts.next().is_none()
}

/// Whether letters and digits follow each other as they do in random text and in no language. Among
/// words a digit beside a letter is rare, and so is a capital after a small letter; in random text
/// every second or third neighbour is one. Hexadecimal parts are judged by their length alone, and
/// words with many breaks are words.
fn is_scattered(word: &str) -> bool {
    const PART_BYTES_MIN: usize = 8;
    let is_hex = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (mut parts, mut bytes, mut digit_turns, mut case_turns) = (0, 0, 0, 0);
    for part in word.split(['-', '_']).filter(|part| !is_hex(part)) {
        parts += 1;
        bytes += part.len();
        for pair in part.as_bytes().windows(2) {
            digit_turns += usize::from(pair[0].is_ascii_digit() != pair[1].is_ascii_digit());
            case_turns += usize::from(pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
        }
    }
    bytes >= MIXED_RUN_BYTES_MIN
        && bytes >= parts * PART_BYTES_MIN
        && (digit_turns * 8 >= bytes || (digit_turns + case_turns) * 3 >= bytes)
}

/// What `docs/policy.md` lists.
#[cfg(test)]
pub(crate) fn documented() -> impl Iterator<Item = String> {
    let whole = NAMES.iter().chain(CLICK_IDS).map(|&name| name.to_owned());
    let starts = NAME_STARTS.iter().map(|start| format!("{start}*"));
    let ends = NAME_ENDS.iter().map(|end| format!("*{end}"));
    whole.chain(starts).chain(ends)
}

#[cfg(test)]
mod tests;
