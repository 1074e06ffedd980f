//! From a request to a declared page, and from its answer to a response.
//!
//! [`Router::new`] refuses declarations that contradict each other, so that at most one page fits a
//! request, and a path is of one class whatever the method. What no page fits is refused here.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RANGE};
use http::{HeaderMap, Method, Request, Response};

use crate::answer::{Answer, content_policy, retry_after};
use crate::asked::{Asked, Local, Millis, Public, Token, fields};
use crate::declare::{App, Class, Entry, Page, Verb};
use crate::multipart::{self, Parts};
use crate::refusal::Refusal;
use crate::tries::Device;
use crate::{careless, guard};

/// The largest form, in bytes.
pub const FORM_BYTES_MAX: usize = 64 << 10;

/// What a path holds for the parameters of a pattern.
type Parameters = Vec<(&'static str, String)>;

/// The pages of a site.
pub struct Router<A: App> {
    app: A,
    pages: Vec<Page<A>>,
    content_policy: HeaderValue,
}

/// Declarations that contradict each other: all that were found.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct OurDeclarations(pub Vec<String>);

impl<A: App> Router<A> {
    /// # Errors
    /// Two pages of one name or for one request, a path of two classes, a name that no header could
    /// carry, an example that is another page's.
    pub fn new(app: A, pages: Vec<Page<A>>) -> Result<Self, OurDeclarations> {
        let found = contradictions(&pages);
        if found.is_empty() {
            let content_policy = content_policy(app.media());
            Ok(Self {
                app,
                pages,
                content_policy,
            })
        } else {
            Err(OurDeclarations(found))
        }
    }

    /// Every page there is.
    pub fn pages(&self) -> &[Page<A>] {
        &self.pages
    }

    /// The application, for who fills its store.
    #[must_use]
    pub fn app(&self) -> &A {
        &self.app
    }

    /// Answers one request. Blocks while the store is asked.
    pub fn answer(
        &self,
        request: Request<Bytes>,
        client: Option<IpAddr>,
        now: Millis,
    ) -> Response<Bytes> {
        self.answer_to(Entry::Anybody, request, client, now)
    }

    /// The same for somebody who comes in by another door.
    pub(crate) fn answer_to(
        &self,
        entry: Entry,
        request: Request<Bytes>,
        client: Option<IpAddr>,
        now: Millis,
    ) -> Response<Bytes> {
        let (mut head, body) = request.into_parts();
        // RFC 9110, 14.2: a range is of GET alone.
        if head.method != Method::GET {
            head.headers.remove(RANGE);
        }
        let public = |parameters| {
            Public::new(
                head.uri.path(),
                head.uri.query().unwrap_or_default(),
                parameters,
            )
            .with_media(self.app.media().clone())
        };
        let (page, parameters) = match self.page(&head.method, head.uri.path()) {
            Ok(found) => found,
            Err(why) => return self.refuse(&public(Vec::new()), &why, None),
        };
        let form = match page.verb() {
            Verb::Get => Ok(Default::default()),
            Verb::Post => sent(&head.headers, &body, page.upload_bytes_max()),
        };
        let notice = match page.class() {
            Class::Personal => self.app.notice(now),
            Class::Shared | Class::Media => None,
        };
        let public = public(parameters).with_notice(notice);
        let (form, upload) = match form {
            Ok(parts) => parts,
            Err(why) => return self.refuse(&public, &why, Some(page.name())),
        };
        let token = Token::of(&head.headers);
        let asked = Asked {
            public,
            now,
            token,
            client,
            device: Device::of(&head.headers),
            form,
            upload,
        };
        match page.answer(&self.app, &asked, entry) {
            Ok(answer) => answer.respond(Some(page.name()), &head.headers, &self.content_policy),
            Err(why) => self.refuse(&asked.public, &why, Some(page.name())),
        }
    }

    /// How large a body the page for a request takes.
    #[must_use]
    pub fn body_bytes_max(&self, method: &Method, path: &str) -> usize {
        let upload = self
            .page(method, path)
            .map_or(0, |(page, _)| page.upload_bytes_max());
        FORM_BYTES_MAX + upload
    }

    fn page(&self, method: &Method, path: &str) -> Result<(&Page<A>, Parameters), Refusal> {
        let verb = match *method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::POST => Some(Verb::Post),
            _ => None,
        };
        let mut refusal = Refusal::NotFound;
        for page in &self.pages {
            match page.pattern().parameters(path) {
                Some(parameters) if verb == Some(page.verb()) => return Ok((page, parameters)),
                Some(_) => refusal = Refusal::Method,
                None => {}
            }
        }
        Err(refusal)
    }

    fn refuse(&self, asked: &Public, why: &Refusal, page: Option<&'static str>) -> Response<Bytes> {
        if let Refusal::Store(fault) = why {
            tracing::error!(page, %fault, "a page could not be made");
        }
        let lang = asked.lang().code();
        let first = |path: &str| Local::with(&format!("/{lang}/{path}"), &[("next", asked.path())]);
        let answer = match why {
            Refusal::LogIn => Answer::first_see(first("login")),
            Refusal::StepUp => Answer::first_see(first("account/confirm")),
            _ => Answer::refusal(why.status(), self.app.refusal(asked, why)),
        };
        let mut response = answer.respond(page, &HeaderMap::new(), &self.content_policy);
        match why {
            Refusal::TooMany { wait_s } => retry_after(&mut response, *wait_s),
            Refusal::Busy => retry_after(&mut response, 2),
            _ => {}
        }
        response
    }
}

impl<A: App> fmt::Debug for Router<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.pages).finish()
    }
}

/// The fields of a form that one of our pages sent, and its file.
fn sent(headers: &HeaderMap, body: &Bytes, upload_bytes_max: usize) -> Result<Parts, Refusal> {
    if !guard::is_from_our_page(headers) {
        return Err(Refusal::ForeignForm);
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let parts = match content_type.and_then(multipart::boundary) {
        Some(boundary)
            if upload_bytes_max > 0 && body.len() <= FORM_BYTES_MAX + upload_bytes_max =>
        {
            multipart::parts(body, boundary).ok_or(Refusal::BadForm)?
        }
        _ => {
            let is_form = content_type == Some("application/x-www-form-urlencoded");
            // An empty form, as of a button alone, may come without a type.
            if body.len() > FORM_BYTES_MAX || !(is_form || body.is_empty()) {
                return Err(Refusal::BadForm);
            }
            (fields(body), None)
        }
    };
    if parts.0.values().any(|it| it.contains('\0')) {
        return Err(Refusal::BadForm);
    }
    if careless::holds_card_number(&parts.0) {
        return Err(Refusal::CardNumber);
    }
    Ok(parts)
}

fn contradictions<A: App>(pages: &[Page<A>]) -> Vec<String> {
    let mut found = Vec::new();
    for (nth, page) in pages.iter().enumerate() {
        let name = page.name();
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            found.push(format!("{name}: no name for a page"));
        }
        if page.class() == Class::Shared && page.fresh().as_secs() == 0 {
            found.push(format!("{name}: shared, and never fresh"));
        }
        if page.is_for_holders() && page.class() != Class::Media {
            found.push(format!("{name}: for holders, and no media"));
        }
        if page.slice_bytes() > 0 && page.class() != Class::Media {
            found.push(format!("{name}: in slices, and no media"));
        }
        for example in page.examples() {
            let path = example.split('?').next().unwrap_or_default();
            if page.pattern().parameters(path).is_none() {
                found.push(format!(
                    "{name}: {example} is no example of {}",
                    page.pattern().text()
                ));
            }
        }
        for other in pages.iter().take(nth) {
            if other.name() == name {
                found.push(format!("{name}: two pages of this name"));
            }
            if !other.pattern().overlaps(page.pattern()) {
                continue;
            }
            if other.verb() == page.verb() {
                found.push(format!(
                    "{name} and {}: two pages for one request",
                    other.name()
                ));
            }
            if other.class() != page.class() {
                found.push(format!(
                    "{name} and {}: one path, two classes",
                    other.name()
                ));
            }
        }
    }
    found
}
