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
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use maud::Markup;

use crate::asked::{Local, SESSION_COOKIE, Token};
use crate::member::{MemberId, Owned};

const VIEWER: HeaderName = HeaderName::from_static("shikiri-viewer");
const OWNER: HeaderName = HeaderName::from_static("shikiri-owner");
const SESSION: HeaderName = HeaderName::from_static("shikiri-session");
const PAGE: HeaderName = HeaderName::from_static("shikiri-page");

/// Nothing but our own style sheet and pictures; no script at all. `Referrer-Policy` must let forms
/// tell their origin, by which they are guarded.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                              frame-ancestors 'none'; base-uri 'none'";

/// A body whose type is known. Bodies are made in this crate alone.
#[derive(Debug)]
pub struct AnyBody {
    status: StatusCode,
    content_type: &'static str,
    bytes: Bytes,
    location: Option<Local>,
}

/// A page of HTML.
#[derive(Debug)]
pub struct Html(AnyBody);

impl Html {
    #[must_use]
    pub fn new(markup: Markup) -> Self {
        Self::with(StatusCode::OK, markup)
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
        })
    }
}

/// A style sheet.
#[derive(Debug)]
pub struct Css(pub &'static str);

/// A drawing, as SVG.
#[derive(Debug)]
pub struct Drawing(pub String);

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
        }
    }
}

/// What a shared page may be.
pub trait SharedBody: Into<AnyBody> {
    /// Its content type, without parameters.
    const TYPE: &'static str;
}

impl SharedBody for Html {
    const TYPE: &'static str = "text/html";
}

impl SharedBody for Css {
    const TYPE: &'static str = "text/css";
}

/// What media may be.
pub trait MediaBody: Into<AnyBody> {
    /// Its content type, without parameters.
    const TYPE: &'static str;
}

impl MediaBody for Drawing {
    const TYPE: &'static str = "image/svg+xml";
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
    Everybodys { fresh: Duration, immutable: bool },
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
    /// only `If-None-Match` is looked at, and only for what is everybody's.
    pub(crate) fn respond(self, page: Option<&'static str>, asked: &HeaderMap) -> Response<Bytes> {
        let mut response = Response::new(self.body.bytes);
        *response.status_mut() = self.body.status;
        let headers = response.headers_mut();
        let fixed = HeaderValue::from_static;
        headers.insert(CONTENT_TYPE, fixed(self.body.content_type));
        headers.insert(CONTENT_SECURITY_POLICY, fixed(CONTENT_POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
        headers.insert(REFERRER_POLICY, fixed("same-origin"));
        if let Some(page) = page {
            headers.insert(PAGE, fixed(page));
        }
        if let Some(to) = &self.body.location {
            headers.insert(LOCATION, to.header());
        }
        match self.whose {
            Whose::Somebodys(named) => {
                headers.insert(CACHE_CONTROL, fixed("private, no-store"));
                named.write(headers);
            }
            Whose::Everybodys { fresh, immutable } => {
                everybodys(&mut response, fresh, immutable, asked);
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

fn everybodys(response: &mut Response<Bytes>, fresh: Duration, immutable: bool, asked: &HeaderMap) {
    let tag = format!("\"{}\"", blake3::hash(response.body()).to_hex());
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits and quotes are visible ASCII");
    let more = if immutable { ", immutable" } else { "" };
    let control = format!("public, max-age={}{more}", fresh.as_secs());
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_str(&control).expect("words and digits are visible ASCII"),
    );
    // One tag of ours, byte for byte; a list is answered in full, which is always right.
    let unchanged = asked.get(IF_NONE_MATCH) == Some(&tag);
    headers.insert(ETAG, tag);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Bytes::new();
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
