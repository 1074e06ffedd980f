//! What a handler returns, and the one place where it becomes a response head.
//!
//! A handler says *whose* an answer is ([`Personal`]) or that it is everybody's ([`Shared`],
//! [`Media`]); it never writes a header. `Cache-Control`, `ETag`, `Set-Cookie` and the fields of the
//! origin contract are written by [`Answer::respond`] alone.
//!
//! Invariant: an answer that is somebody's leaves as `private, no-store`; one that is everybody's
//! has no viewer, no owner and no cookie to write.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE, LOCATION,
    RANGE, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use maud::Markup;

use crate::asked::{Local, SESSION_COOKIE, Token};
use crate::films::{self, Ready};
use crate::media::MediaBase;
use crate::member::{MemberId, Owned};
use crate::tries::Device;

const VIEWER: HeaderName = HeaderName::from_static("shikiri-viewer");
const OWNER: HeaderName = HeaderName::from_static("shikiri-owner");
const SESSION: HeaderName = HeaderName::from_static("shikiri-session");
const PAGE: HeaderName = HeaderName::from_static("shikiri-page");

/// Nothing but our own style sheet, and pictures and films from where they are; no script at all.
/// `Referrer-Policy` must let forms tell their origin, by which they are guarded.
pub(crate) fn content_policy(media: &MediaBase) -> HeaderValue {
    let media = media.origin();
    let text = format!(
        "default-src 'none'; style-src 'self'; img-src {media}; media-src 'self' {media}; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::from_str(&text).expect("an origin is visible ASCII")
}

/// How long a browser may keep what its member holds a ticket for.
const HOLDERS_FRESH: Duration = Duration::from_hours(1);

/// A body whose type is known. Bodies are made in this crate alone.
#[derive(Debug)]
pub struct AnyBody {
    status: StatusCode,
    content_type: &'static str,
    bytes: Bytes,
    location: Option<Local>,
    /// It is to be kept as a file.
    is_download: bool,
}

/// A page of HTML.
#[derive(Debug)]
pub struct Html(AnyBody);

impl Html {
    #[must_use]
    pub fn new(markup: Markup) -> Self {
        Self::with(StatusCode::OK, markup)
    }

    /// What this member may not do, and how they might (403).
    #[must_use]
    pub fn not_yours(markup: Markup) -> Self {
        Self::with(StatusCode::FORBIDDEN, markup)
    }

    /// The form again, with what is wrong in it (422).
    #[must_use]
    pub fn again(markup: Markup) -> Self {
        Self::with(StatusCode::UNPROCESSABLE_ENTITY, markup)
    }

    fn with(status: StatusCode, markup: Markup) -> Self {
        Self(AnyBody {
            status,
            content_type: "text/html; charset=utf-8",
            bytes: markup.into_string().into(),
            location: None,
            is_download: false,
        })
    }
}

/// Another page to look at, after something was done (303).
#[derive(Debug)]
pub struct SeeOther(AnyBody);

impl SeeOther {
    #[must_use]
    pub fn new(to: Local) -> Self {
        Self(AnyBody {
            status: StatusCode::SEE_OTHER,
            content_type: "text/plain; charset=utf-8",
            bytes: Bytes::new(),
            location: Some(to),
            is_download: false,
        })
    }
}

/// A style sheet.
#[derive(Debug)]
pub struct Css(pub &'static str);

/// A drawing, as SVG.
#[derive(Debug)]
pub struct Drawing(pub String);

/// A ready-made file of ours: a cover, a part of a film.
#[derive(Debug)]
pub struct File(pub(crate) Ready);

/// The same, to be kept by who asked for it.
#[derive(Debug)]
pub struct Download(pub(crate) Ready);

impl From<File> for AnyBody {
    fn from(file: File) -> Self {
        Self::found(file.0.content_type(), Bytes::from_static(file.0.bytes))
    }
}

impl From<Download> for AnyBody {
    fn from(file: Download) -> Self {
        Self {
            is_download: true,
            ..File(file.0).into()
        }
    }
}

/// A video that a member posted.
#[derive(Debug)]
pub struct Webm(pub Bytes);

/// A video that a member posted.
#[derive(Debug)]
pub struct Mp4(pub Bytes);

impl From<Webm> for AnyBody {
    fn from(video: Webm) -> Self {
        Self::found("video/webm", video.0)
    }
}

impl From<Mp4> for AnyBody {
    fn from(video: Mp4) -> Self {
        Self::found("video/mp4", video.0)
    }
}

impl From<Html> for AnyBody {
    fn from(html: Html) -> Self {
        html.0
    }
}

impl From<SeeOther> for AnyBody {
    fn from(to: SeeOther) -> Self {
        to.0
    }
}

impl From<Css> for AnyBody {
    fn from(css: Css) -> Self {
        Self::found("text/css; charset=utf-8", css.0.into())
    }
}

impl From<Drawing> for AnyBody {
    fn from(drawing: Drawing) -> Self {
        Self::found("image/svg+xml", drawing.0.into())
    }
}

impl AnyBody {
    fn found(content_type: &'static str, bytes: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            bytes,
            location: None,
            is_download: false,
        }
    }
}

/// What a shared page may be.
pub trait SharedBody: Into<AnyBody> {
    /// Its content types, without parameters.
    const TYPES: &'static [&'static str];
}

impl SharedBody for Html {
    const TYPES: &'static [&'static str] = &["text/html"];
}

impl SharedBody for Css {
    const TYPES: &'static [&'static str] = &["text/css"];
}

/// What media may be.
pub trait MediaBody: Into<AnyBody> {
    /// Its content types, without parameters.
    const TYPES: &'static [&'static str];
}

impl MediaBody for Webm {
    const TYPES: &'static [&'static str] = &["video/webm"];
}

impl MediaBody for Mp4 {
    const TYPES: &'static [&'static str] = &["video/mp4"];
}

impl MediaBody for Drawing {
    const TYPES: &'static [&'static str] = &["image/svg+xml"];
}

impl MediaBody for File {
    const TYPES: &'static [&'static str] = films::TYPES;
}

impl MediaBody for Download {
    const TYPES: &'static [&'static str] = films::TYPES;
}

/// An answer that is the same for everybody. It is made of a body and nothing else.
#[must_use]
pub struct Shared<B>(B);

impl<B> Shared<B> {
    pub fn new(body: B) -> Self {
        Self(body)
    }
}

impl<B: Into<AnyBody>> Shared<B> {
    pub(crate) fn erased(self) -> Shared<AnyBody> {
        Shared(self.0.into())
    }
}

impl Shared<AnyBody> {
    pub(crate) fn fresh_for(self, fresh: Duration) -> Answer {
        Answer {
            body: self.0,
            whose: Whose::Everybodys {
                fresh,
                immutable: false,
            },
        }
    }
}

/// A picture or a film.
#[must_use]
pub struct Media<B>(B);

impl<B> Media<B> {
    pub fn new(body: B) -> Self {
        Self(body)
    }
}

impl<B: Into<AnyBody>> Media<B> {
    pub(crate) fn erased(self) -> Media<AnyBody> {
        Media(self.0.into())
    }
}

impl Media<AnyBody> {
    pub(crate) fn fresh_for(self, fresh: Duration) -> Answer {
        Answer {
            body: self.0,
            whose: Whose::Everybodys {
                fresh,
                immutable: true,
            },
        }
    }

    /// The same bytes for one who may have them: no cache keeps them for others.
    pub(crate) fn for_one_holder(self) -> Answer {
        Answer {
            body: self.0,
            whose: Whose::Holders,
        }
    }
}

/// An answer to one person. Not `Clone`: it is for one response.
#[must_use]
pub struct Personal<B> {
    body: B,
    named: Named,
}

/// What the origin contract says with an answer.
#[derive(Default)]
struct Named {
    viewer: Option<MemberId>,
    owner: Option<MemberId>,
    session: Option<Change>,
    device: Option<Device>,
}

/// What becomes of the viewer's session.
enum Change {
    Starts(Token),
    Ends,
}

impl<B> Personal<B> {
    /// For who is not logged in: a form, a refusal.
    pub fn to_nobody(body: B) -> Self {
        Self {
            body,
            named: Named::default(),
        }
    }

    /// For the member for whom the page was made.
    pub fn to(viewer: &MemberId, body: B) -> Self {
        let named = Named {
            viewer: Some(viewer.clone()),
            ..Named::default()
        };
        Self { body, named }
    }

    /// Says whose data it shows, by the data itself.
    ///
    /// # Panics
    /// The data of two members are on one page. The request ends with 500, and nothing was shown.
    pub fn showing<T>(mut self, shown: &Owned<T>) -> Self {
        let owner = shown.owner();
        let first = self.named.owner.get_or_insert_with(|| owner.clone());
        assert!(first == owner, "a page shows the data of one member");
        self
    }

    /// From this answer on, the session is the viewer's. The cookie is always a new one.
    pub fn begins(mut self, token: Token) -> Self {
        assert!(self.named.viewer.is_some(), "a session begins for somebody");
        self.named.session = Some(Change::Starts(token));
        self
    }

    /// The viewer's browser is known from now on.
    pub fn remembers(mut self, device: Device) -> Self {
        self.named.device = Some(device);
        self
    }

    /// From this answer on, the session is nobody's.
    pub fn ends(mut self) -> Self {
        self.named.session = Some(Change::Ends);
        self
    }
}

impl<B: Into<AnyBody>> Personal<B> {
    pub(crate) fn erased(self) -> Personal<AnyBody> {
        Personal {
            body: self.body.into(),
            named: self.named,
        }
    }
}

/// A body, and whose it is.
pub(crate) struct Answer {
    body: AnyBody,
    whose: Whose,
}

enum Whose {
    Everybodys {
        fresh: Duration,
        immutable: bool,
    },
    /// The same for all who may have it, told to one of them.
    Holders,
    Somebodys(Named),
}

impl From<Personal<AnyBody>> for Answer {
    fn from(personal: Personal<AnyBody>) -> Self {
        Self {
            body: personal.body,
            whose: Whose::Somebodys(personal.named),
        }
    }
}

impl Answer {
    /// A refusal: nobody's, and never kept.
    pub(crate) fn refusal(status: StatusCode, html: String) -> Self {
        let body = AnyBody {
            status,
            content_type: "text/html; charset=utf-8",
            bytes: html.into(),
            location: None,
            is_download: false,
        };
        Self {
            body,
            whose: Whose::Somebodys(Named::default()),
        }
    }

    /// Another page that must be seen first (a login): nobody's, and never kept.
    pub(crate) fn first_see(to: Local) -> Self {
        Self {
            body: SeeOther::new(to).into(),
            whose: Whose::Somebodys(Named::default()),
        }
    }

    /// The response. `page` is the declared page's name; `asked` are the request's headers, of which
    /// only conditions and ranges are looked at, and only for what is not one member's own.
    pub(crate) fn respond(
        self,
        page: Option<&'static str>,
        asked: &HeaderMap,
        content_policy: &HeaderValue,
    ) -> Response<Bytes> {
        let mut response = Response::new(self.body.bytes);
        *response.status_mut() = self.body.status;
        let headers = response.headers_mut();
        let fixed = HeaderValue::from_static;
        headers.insert(CONTENT_TYPE, fixed(self.body.content_type));
        headers.insert(CONTENT_SECURITY_POLICY, content_policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
        headers.insert(REFERRER_POLICY, fixed("same-origin"));
        if let Some(page) = page {
            headers.insert(PAGE, fixed(page));
        }
        if let Some(to) = &self.body.location {
            headers.insert(LOCATION, to.header());
        }
        if self.body.is_download {
            headers.insert(CONTENT_DISPOSITION, fixed("attachment"));
        }
        match self.whose {
            Whose::Somebodys(named) => {
                headers.insert(CACHE_CONTROL, fixed("private, no-store"));
                named.write(headers);
            }
            Whose::Everybodys { fresh, immutable } => {
                let more = if immutable { ", immutable" } else { "" };
                let control = format!("public, max-age={}{more}", fresh.as_secs());
                validated(&mut response, &control, asked);
                if immutable {
                    ranged(&mut response, asked);
                }
            }
            Whose::Holders => {
                let control = format!("private, max-age={}", HOLDERS_FRESH.as_secs());
                validated(&mut response, &control, asked);
                ranged(&mut response, asked);
            }
        }
        response
    }
}

/// Says to whom a wait is due.
pub(crate) fn retry_after(response: &mut Response<Bytes>, wait_s: u64) {
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(wait_s));
}

/// The lifetime, the tag, and what follows from a condition on it.
fn validated(response: &mut Response<Bytes>, control: &str, asked: &HeaderMap) {
    let tag = format!("\"{}\"", blake3::hash(response.body()).to_hex());
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits and quotes are visible ASCII");
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_str(control).expect("words and digits are visible ASCII"),
    );
    // One tag of ours, byte for byte; a list is answered in full, which is always right.
    let unchanged = asked.get(IF_NONE_MATCH) == Some(&tag);
    // Another content than the one that was meant (RFC 9110, 13.1.1). `*` is any.
    let mut wanted = asked.get_all(IF_MATCH).iter().peekable();
    let changed = wanted.peek().is_some() && !wanted.any(|it| *it == tag || it == "*");
    headers.insert(ETAG, tag);
    if changed {
        empty(response, StatusCode::PRECONDITION_FAILED);
    } else if unchanged {
        empty(response, StatusCode::NOT_MODIFIED);
    }
}

fn empty(response: &mut Response<Bytes>, status: StatusCode) {
    *response.status_mut() = status;
    *response.body_mut() = Bytes::new();
}

/// A part of it, when one part is asked for (RFC 9110, 14). Several parts, or what cannot be read, are
/// answered with the whole.
fn ranged(response: &mut Response<Bytes>, asked: &HeaderMap) {
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let is_same = asked
        .get(IF_RANGE)
        .is_none_or(|it| headers.get(ETAG) == Some(it));
    let range = asked.get(RANGE).and_then(|it| it.to_str().ok());
    if response.status() != StatusCode::OK || !is_same {
        return;
    }
    let length = response.body().len();
    let (status, said, body) = match range.map(|it| part(it, length)) {
        None | Some(Part::Unread) => return,
        Some(Part::Of(from, to)) => (
            StatusCode::PARTIAL_CONTENT,
            format!("bytes {from}-{}/{length}", to - 1),
            response.body().slice(from..to),
        ),
        Some(Part::Beyond) => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("bytes */{length}"),
            Bytes::new(),
        ),
    };
    let said = HeaderValue::from_str(&said).expect("words and digits are visible ASCII");
    response.headers_mut().insert(CONTENT_RANGE, said);
    *response.status_mut() = status;
    *response.body_mut() = body;
}

/// What a `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// From the first to before the second.
    Of(usize, usize),
    Beyond,
    /// Nothing that is understood here.
    Unread,
}

fn part(range: &str, length: usize) -> Part {
    let digits = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(usize::MAX))
    };
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|it| it.trim().split_once('-'))
    else {
        return Part::Unread;
    };
    match (digits(first), digits(last)) {
        (None, Some(count)) if first.is_empty() => match count.min(length) {
            0 => Part::Beyond,
            count => Part::Of(length - count, length),
        },
        (Some(first), None) if last.is_empty() && first < length => Part::Of(first, length),
        (Some(_), None) if last.is_empty() => Part::Beyond,
        (Some(first), Some(last)) if first > last => Part::Unread,
        (Some(first), Some(_)) if first >= length => Part::Beyond,
        (Some(first), Some(last)) => Part::Of(first, last.saturating_add(1).min(length)),
        _ => Part::Unread,
    }
}

impl Named {
    fn write(self, headers: &mut HeaderMap) {
        if let Some(viewer) = self.viewer {
            headers.insert(VIEWER, viewer.header());
        }
        if let Some(owner) = self.owner {
            headers.insert(OWNER, owner.header());
        }
        match self.session {
            Some(Change::Starts(token)) => {
                headers.insert(SESSION, HeaderValue::from_static("start"));
                headers.insert(SET_COOKIE, cookie(&token.text(), "Max-Age=1209600"));
            }
            Some(Change::Ends) => {
                headers.insert(SESSION, HeaderValue::from_static("end"));
                headers.insert(SET_COOKIE, cookie("", "Max-Age=0"));
            }
            None => {}
        }
        if let Some(device) = self.device {
            headers.append(SET_COOKIE, device.header());
        }
    }
}

/// `__Host-`: of this host alone, over TLS (or on this machine), for every path.
fn cookie(value: &str, age: &str) -> HeaderValue {
    let text = format!("{SESSION_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; {age}");
    let mut value = HeaderValue::from_str(&text).expect("a token is hexadecimal digits");
    value.set_sensitive(true);
    value
}

impl<B> fmt::Debug for Personal<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_read_and_everything_else_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", Part::Of(0, 1)),
            ("bytes=0-", Part::Of(0, 10)),
            ("bytes=4-6", Part::Of(4, 7)),
            ("bytes=4-600", Part::Of(4, 10)),
            ("bytes=9-99999999999999999999999999", Part::Of(9, 10)),
            ("bytes=-3", Part::Of(7, 10)),
            ("bytes=-30", Part::Of(0, 10)),
            ("bytes=-0", Part::Beyond),
            ("bytes=10-", Part::Beyond),
            ("bytes=10-12", Part::Beyond),
            ("bytes=99999999999999999999999999-", Part::Beyond),
            ("bytes=6-4", Part::Unread),
            ("bytes=-", Part::Unread),
            ("bytes=0-1,3-4", Part::Unread),
            ("bytes=+1-2", Part::Unread),
            ("bytes=a-b", Part::Unread),
            ("items=0-1", Part::Unread),
            ("", Part::Unread),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Beyond);
    }
}
