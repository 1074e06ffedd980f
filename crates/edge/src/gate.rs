//! The gate on a request's way: a closed site shows its maintenance page, and nothing else.
//!
//! It stands right after the stance and before anything is classified or looked up. What a closed gate
//! answers is made here, from the node's own page: no body is read for it, no origin asked, no store.
//!
//! A bearer of a preview grant shows its token in a header field, or in a cookie that is to be had at a
//! path of the node's own. Both are taken off the request before anybody else sees it, whatever the mode.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, COOKIE, DATE, LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use shikiri_partition::{Gate, RequestHead, gate};
use shikiri_record::{Grant, GrantId, GrantToken, Mode};
use tokio::time::timeout;

use crate::answer;
use crate::connection::Connection;
use crate::incoming::Incoming;
use crate::node::{Node, Stance, count};
use crate::slot::Own;

/// The path of the node's own, in every mode. No origin sees a request for it.
pub(crate) const PREVIEW_PATH: &str = "/.well-known/shikiri-preview";

const PREVIEW_FIELD: HeaderName = HeaderName::from_static("shikiri-preview");
const PREVIEW_COOKIE: &str = "__Host-shikiri-preview";

/// A form with a token in it is no longer.
const FORM_BYTES_MAX: usize = 1 << 10;

/// A request that may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Through {
    /// In this mode, which is never `closed`.
    pub(crate) mode: Mode,
    /// By this preview grant.
    pub(crate) grant: Option<GrantId>,
}

/// Takes the token of a preview grant off a request.
pub(crate) fn take_token(headers: &mut HeaderMap) -> Option<GrantToken> {
    let of = |value: &HeaderValue| GrantToken::parse(value.to_str().ok()?.trim());
    let shown = headers.remove(PREVIEW_FIELD).as_ref().and_then(of);
    // The name may be spelt so that a gateway takes it for ours; nobody behind us needs it.
    headers.remove("shikiri_preview");
    let cookie = take_cookie(headers);
    shown.or(cookie)
}

fn take_cookie(headers: &mut HeaderMap) -> Option<GrantToken> {
    let is_ours = |value: &HeaderValue| {
        let name = PREVIEW_COOKIE.as_bytes();
        value
            .as_bytes()
            .windows(name.len())
            .any(|part| part == name)
    };
    // The first look is cheap: hardly any request has it.
    if !headers.get_all(COOKIE).iter().any(is_ours) {
        return None;
    }
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    let mut token = None;
    for line in lines {
        let mut kept: Vec<&[u8]> = Vec::new();
        for pair in line.as_bytes().split(|b| *b == b';') {
            let pair = pair.trim_ascii();
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(at) => (pair[..at].trim_ascii_end(), &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            if name != PREVIEW_COOKIE.as_bytes() {
                kept.push(pair);
                continue;
            }
            let text = std::str::from_utf8(value).ok();
            token = token.or_else(|| GrantToken::parse(text?.trim()));
        }
        kept.retain(|pair| !pair.is_empty());
        if !kept.is_empty() {
            let mut line = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
                .expect("parts of a header value joined are a header value");
            line.set_sensitive(true);
            headers.append(COOKIE, line);
        }
    }
    token
}

/// Whether a request may go on, and how; `None` is for the maintenance page. Never waits: between the stance and what follows from it
/// nothing else happens on this connection.
pub(crate) fn stand(
    node: &Node,
    connection: &Connection,
    stance: &Stance,
    parts: &Parts,
    (token, has_body): (Option<&GrantToken>, bool),
) -> Option<Through> {
    let grant = token.and_then(|token| node.grant_of(token));
    let excepted = stance.mode == Mode::Closed && is_excepted(node, connection, parts, has_body);
    match gate(stance.mode, grant.as_ref(), excepted, node.now()) {
        Gate::Through { mode, grant } => Some(Through { mode, grant }),
        Gate::Maintenance => None,
    }
}

fn is_excepted(node: &Node, connection: &Connection, parts: &Parts, has_body: bool) -> bool {
    let maintenance = node.maintenance();
    if has_body || maintenance.exceptions().patterns().is_empty() {
        return false;
    }
    let scheme = connection.hop().scheme;
    let Parts {
        version,
        method,
        uri,
        headers,
        ..
    } = parts;
    RequestHead::parse(scheme, *version, method, uri, headers)
        .is_ok_and(|head| maintenance.exceptions().hold(&head))
}

/// The maintenance page. `has_body`: the client sends a body, which nobody will read.
pub(crate) fn maintenance(node: &Node, has_body: bool) -> Response<Own> {
    count(&node.counters.closed);
    let (maintenance, reopening, now) = (node.maintenance(), node.reopening(), node.now());
    let mut response = own_page(
        node,
        StatusCode::SERVICE_UNAVAILABLE,
        maintenance.page(reopening, now),
        maintenance.is_of_our_own(),
    );
    let headers = response.headers_mut();
    let after = maintenance.retry_after_s(reopening, now);
    headers.insert(RETRY_AFTER, HeaderValue::from(after));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("ja, en"));
    if has_body {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Why a page of the node's own is shown.
const OWN_PAGE: &str = "page";

/// A page that the node makes itself. `is_plain`: it loads nothing, and says so.
fn own_page(node: &Node, status: StatusCode, page: Bytes, is_plain: bool) -> Response<Own> {
    let length = HeaderValue::from(page.len());
    let mut response = Response::new(Own::new(page, OWN_PAGE));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(DATE, answer::date(node.now()));
    if is_plain {
        let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}

/// Whether a request is for the node's own path.
pub(crate) fn is_for_preview(parts: &Parts) -> bool {
    parts.uri.path() == PREVIEW_PATH
}

/// Answers at the node's own path: a form for the token, and the cookie for a token that is true.
pub(crate) async fn preview(node: &Arc<Node>, method: &Method, body: Incoming) -> Response<Own> {
    if *method != Method::POST {
        return form(node, StatusCode::OK, "");
    }
    // No longer than a head may take, which is as short.
    let time_max = node.stance().rules.limits().head_time_max;
    let read = timeout(time_max, Limited::new(body, FORM_BYTES_MAX).collect()).await;
    let (status, why) = match read {
        Ok(Ok(body)) => return entered(node, &body.to_bytes()).await,
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "That is no token."),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "That took too long."),
    };
    let mut response = form(node, status, why);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Answers a form that was filled in.
async fn entered(node: &Arc<Node>, body: &[u8]) -> Response<Own> {
    let shown = std::str::from_utf8(body).ok();
    let shown = shown.and_then(|text| text.trim().strip_prefix("grant="));
    let token = shown.and_then(|text| GrantToken::parse(text.trim()));
    if let Some(token) = &token {
        node.introduce(token).await;
    }
    let Some((token, grant)) =
        token.and_then(|token| node.grant_of(&token).map(|grant| (token, grant)))
    else {
        let why = "No grant that holds was signed with this token.";
        return form(node, StatusCode::FORBIDDEN, why);
    };
    let mut response = own_page(node, StatusCode::SEE_OTHER, Bytes::new(), true);
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_static("/"));
    headers.insert(SET_COOKIE, cookie(node, &token, &grant));
    response
}

fn cookie(node: &Node, token: &GrantToken, grant: &Grant) -> HeaderValue {
    let seconds = grant.until.since(node.now()).as_secs();
    let text = format!(
        "{PREVIEW_COOKIE}={}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax",
        token.reveal()
    );
    let mut value = HeaderValue::try_from(text).expect("hexadecimal digits are a header value");
    value.set_sensitive(true);
    value
}

fn form(node: &Node, status: StatusCode, said: &str) -> Response<Own> {
    let page = include_str!("preview.html").replace("<!--said-->", said);
    own_page(node, status, Bytes::from(page), true)
}

#[cfg(test)]
mod tests {
    use shikiri_record::{NodeKey, UnixMillis};

    use super::*;

    fn token() -> GrantToken {
        NodeKey::new([1; 32]).sign(&Grant {
            id: GrantId(7),
            name: "review".into(),
            mode: Mode::Open,
            from: UnixMillis(0),
            until: UnixMillis(1),
        })
    }

    #[test]
    fn a_token_is_taken_off_the_request_wherever_it_stands() {
        let text = token().reveal();
        for (lines, is_there, cookies) in [
            (
                vec![("cookie", "a=1; b=2".to_owned())],
                false,
                vec!["a=1; b=2"],
            ),
            (vec![("shikiri-preview", text.clone())], true, vec![]),
            (vec![("shikiri-preview", "nothing".into())], false, vec![]),
            (
                vec![("cookie", format!("a=1; {PREVIEW_COOKIE}={text}; b=2"))],
                true,
                vec!["a=1; b=2"],
            ),
            (
                vec![("cookie", format!("{PREVIEW_COOKIE}={text}"))],
                true,
                vec![],
            ),
            (
                vec![
                    ("cookie", format!("{PREVIEW_COOKIE}=false")),
                    ("cookie", format!("x=y;{PREVIEW_COOKIE}={text}")),
                ],
                true,
                vec!["x=y"],
            ),
            // Another cookie, though it looks alike.
            (
                vec![("cookie", format!("x{PREVIEW_COOKIE}={text}"))],
                false,
                vec![&*format!("x{PREVIEW_COOKIE}={text}")],
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, value.parse().unwrap());
            }
            let got = take_token(&mut headers);
            assert_eq!(got.is_some(), is_there, "{lines:?}");
            assert!(got.is_none_or(|got| got == token()));
            let left: Vec<&str> = headers
                .get_all(COOKIE)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect();
            assert_eq!(left, cookies, "{lines:?}");
            assert!(!headers.contains_key(PREVIEW_FIELD));
        }
    }
}
