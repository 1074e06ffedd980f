//! Logs of a fixed form: Squid's own (Traffic Server writes it too), HAProxy's and AWS's load balancer's.

use std::borrow::Cow;

use super::time::Form;
use super::words::Word;
use super::{Bad, Field, SessionIn, Values};

/// `1584329040.123   250 192.0.2.7 TCP_MEM_HIT/200 4512 GET http://shop.test/ - HIER_NONE/- text/html`
pub(super) fn squid<'a>(line: &'a [u8], session: &SessionIn) -> Result<Values<'a>, Bad> {
    let columns = [
        Field::Ended(Form::Unix(1)),
        Field::Took {
            per_second: 1000,
            step_ms: 1,
        },
        Field::Address,
        Field::Word(Word::Squid),
        Field::Ignored,
        Field::Method,
        Field::Url,
    ];
    let words = line.split(|it| *it == b' ').filter(|it| !it.is_empty());
    let words: Vec<&[u8]> = words.collect();
    if words.len() < columns.len() {
        return Err(Bad::Form);
    }
    let mut values: Values<'a> = (columns.into_iter())
        .zip(&words)
        .map(|(field, word)| (field, Cow::Borrowed(*word)))
        .collect();
    let status = words.get(3).and_then(|word| super::split_once(word, b'/'));
    let (_, status) = status.ok_or(Bad::Form)?;
    // Squid says 000 where nothing was answered.
    if status != b"000" {
        values.push((Field::Status, Cow::Borrowed(status)));
    }
    if session.is_in("user") {
        let user = words.get(columns.len()).ok_or(Bad::Form)?;
        values.push((Field::Cookie, (*user).into()));
    }
    Ok(values)
}

/// ```text
/// … haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750
/// - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1"
/// ```
pub(super) fn haproxy<'a>(line: &'a [u8], session: &SessionIn) -> Result<Values<'a>, Bad> {
    let bracket = super::find(line, b" [").ok_or(Bad::Form)?;
    let before = line.get(..bracket).unwrap_or_default();
    let client = before.rsplit(|it| *it == b' ').next().ok_or(Bad::Form)?;
    let rest = line.get(bracket + 2..).unwrap_or_default();
    let (accepted, rest) = super::split_once(rest, b']').ok_or(Bad::Form)?;
    let (head, quoted) = super::split_once(rest, b'"').ok_or(Bad::Form)?;
    let request = quoted.strip_suffix(b"\"").ok_or(Bad::Form)?;
    let words = head.split(|it| *it == b' ').filter(|it| !it.is_empty());
    let words: Vec<&[u8]> = words.collect();
    let (Some(server), Some(timers), Some(status)) = (words.get(1), words.get(2), words.get(3))
    else {
        return Err(Bad::Form);
    };
    // The last is the whole time; a plus says that it went on after the line was written.
    let took = timers.rsplit(|it| *it == b'/').next().ok_or(Bad::Form)?;
    let mut values: Values<'a> = vec![
        (Field::Began(Form::Common), accepted.into()),
        (Field::Word(Word::Haproxy), (*server).into()),
        (Field::Status, (*status).into()),
        (Field::RequestLine, request.into()),
    ];
    if !took.starts_with(b"+") && !took.starts_with(b"-") {
        let field = Field::Took {
            per_second: 1000,
            step_ms: 1,
        };
        values.push((field, took.into()));
    }
    // The cookies that it was told to capture, `name=value`. Where there is none, it may have been told of none.
    for (place, field) in [(5, Field::Cookies), (6, Field::SetCookie)] {
        let cookie = words.get(place).filter(|cookie| **cookie != b"-");
        values.extend(cookie.map(|cookie| (field, (*cookie).into())));
    }
    // And the headers of the request, `{one|two}`, from the first on.
    if let SessionIn::Field(name) | SessionIn::Member(name) = session
        && let Some(place) = name.strip_prefix("capture:").and_then(|it| it.parse().ok())
    {
        let captured = super::find(head, b" {").and_then(|at| head.get(at + 2..));
        let captured = captured.and_then(|it| it.split(|byte| *byte == b'}').next());
        let mut captured = captured.unwrap_or_default().split(|byte| *byte == b'|');
        let value = captured.nth(usize::saturating_sub(place, 1));
        values.push((Field::Cookie, value.unwrap_or_default().into()));
    }
    if let Some(at) = client.iter().rposition(|it| *it == b':') {
        values.push((Field::Address, client.get(..at).unwrap_or_default().into()));
    }
    Ok(values)
}

/// ```text
/// https 2020-03-16T03:24:00.123456Z app/lb/50dc 192.0.2.7:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366
/// "GET https://shop.test:443/ HTTP/1.1" "agent" … "Root=1-58337364-23a8c76965a2ef7629b185e3" …
/// ```
pub(super) fn alb(line: &[u8]) -> Result<Values<'_>, Bad> {
    let words = quoted_words(line);
    let at = |place: usize| words.get(place).copied().ok_or(Bad::Form);
    let client = at(3)?;
    let port = client.iter().rposition(|it| *it == b':').ok_or(Bad::Form)?;
    let mut values: Values<'_> = vec![
        (Field::Ended(Form::Iso), at(1)?.into()),
        (
            Field::Address,
            client.get(..port).unwrap_or_default().into(),
        ),
        (Field::Status, at(8)?.into()),
        (Field::RequestLine, at(12)?.into()),
        (Field::Agent, at(13)?.into()),
        (Field::RequestId, at(17)?.into()),
    ];
    // Three parts of the time, each -1 where there was none.
    for place in 5..8 {
        let part = at(place)?;
        if !part.starts_with(b"-") {
            let ms = super::time::decimal(part, 1).ok_or(Bad::Number)?;
            values.push((Field::TookPart, ms.to_string().into_bytes().into()));
        }
    }
    Ok(values)
}

/// Words between blanks; a quoted one may hold blanks.
fn quoted_words(line: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix(b"\"") {
            Some(quoted) => super::split_once(quoted, b'"').unwrap_or((quoted, b"")),
            None => super::split_once(rest, b' ').unwrap_or((rest, b"")),
        };
        words.push(word);
        rest = after.trim_ascii_start();
    }
    words
}
