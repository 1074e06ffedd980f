//! Admission: the only way for a response to become an object.
//!
//! [`Fill::judge`] reads a response head under the rules of its class; what it lets through still has
//! to show that its first bytes ([`Sniff`]), or a whole second copy ([`FirstCopy`]), bear it out. Each
//! step consumes the one before, so nothing is judged twice and nothing is stored unjudged.
//!
//! Default deny: every veto has a name, and nothing here can be configured to skip one. An
//! [`Admitted`] holds no cookie, nothing of a hop, and nothing that does not speak of the page.
//!
//! Order of the vetoes: what the origin *forbids* comes before what merely does not suit, because a
//! prohibition also kills what is stored under the key. Failures (5xx, 429) come before both: an error
//! page's `no-store` speaks of the error, not of the page that it stands in for.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, AGE, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED, LINK,
    LOCATION, PROXY_AUTHENTICATE, REFRESH, SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use shikiri_record::{ClassDigest, FillId, Order, UnixMillis};

use crate::classify::Requester;
use crate::directives::{Instructions, is_tchar};
use crate::freshness::{Freshness, imf_fixdate, one_date};
use crate::key::{AcceptEncoding, Begun, Constants, Key, SharedFetch};
use crate::labels::Labels;
use crate::reason::NotShared;
use crate::rules::{Class, To};
use crate::slices::{First, Slices};
use crate::{hop, mint, slices, sniff};

/// A fetch that may become an object: judged once.
#[must_use]
#[derive(Debug)]
pub struct Fill {
    key: Key,
    class: Arc<Class>,
    begun: Begun,
    stored: Option<Admitted>,
    /// It asks for the first slice, of so many bytes.
    slice_bytes: Option<u64>,
}

/// What a response head leaves to be known.
#[derive(Debug)]
pub enum Judged {
    /// Admitted, if its first bytes are what its head says.
    Sniff(Sniff),
    /// A document: admitted, if a second anonymous copy agrees.
    Copy(FirstCopy),
    /// What is stored is still right: its body goes on under this head.
    Refreshed(Admitted),
    /// A part that is no slice of anything: all of it is asked for.
    Unsliced(Unsliced),
    /// Not shared.
    Relay(Relay),
}

/// An object that has no slices, as its answer to a request for the first one shows.
#[must_use]
#[derive(Debug)]
pub struct Unsliced {
    key: Key,
    class: Arc<Class>,
    begun: Begun,
}

/// A response whose first bytes decide.
#[must_use]
#[derive(Debug)]
pub struct Sniff {
    head: Admitted,
    /// The status with which it came: of a set, 206.
    came: StatusCode,
    as_it_came: HeaderMap,
}

/// The first copy of a document.
#[must_use]
#[derive(Debug)]
pub struct FirstCopy {
    head: Admitted,
    class: Arc<Class>,
    as_it_came: HeaderMap,
}

/// A second anonymous copy, as it came.
#[derive(Debug)]
pub struct SecondCopy<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Its whole body, in its content coding.
    pub body: &'a [u8],
}

/// A stored response's head. May be shared: cloning it costs a count.
#[derive(Clone)]
pub struct Admitted(Arc<Head>);

/// What an [`Admitted`] holds. Made by [`Admitted::seal`] alone.
struct Head {
    key: Key,
    /// The class that admitted it.
    class: ClassDigest,
    /// The fill whose body this is.
    fill: FillId,
    /// The fill that last confirmed it.
    refreshed: Option<FillId>,
    /// When the fill, or the last one that confirmed it, began.
    begun: Begun,
    status: StatusCode,
    /// What leaves with a shared copy.
    headers: HeaderMap,
    /// What it may be purged together with.
    labels: Labels,
    found: Found,
    object_bytes_max: u64,
    /// It is the first slice of a set.
    slices: Option<Slices>,
    /// What a cache beyond us must keep apart, whatever the origin says.
    varies_also: Box<[HeaderName]>,
}

/// What a head free of vetoes says.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The content type, lower case, without parameters; `None` for an empty body without one.
    essence: Option<String>,
    coding: Coding,
    freshness: Freshness,
    only_without: OnlyWithout,
    content_length: Option<u64>,
}

/// A content coding that we can look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Brotli,
}

/// The request headers without which the object was made, and by which it varies: it is for requests
/// without them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct OnlyWithout {
    cookie: bool,
    authorization: bool,
    origin: bool,
}

/// A response for one viewer.
#[must_use]
#[derive(Debug)]
pub struct Relay(Box<RelayParts>);

#[derive(Debug)]
struct RelayParts {
    why: NotShared,
    status: StatusCode,
    headers: HeaderMap,
}

impl Fill {
    pub(crate) fn begin(
        key: Key,
        class: Arc<Class>,
        begun: Begun,
        stored: Option<Admitted>,
    ) -> Self {
        if let Some(stored) = &stored {
            assert!(
                *stored.key() == key,
                "a fill refreshes what is stored under its own key"
            );
        }
        Self {
            key,
            slice_bytes: class.slice_bytes,
            class,
            begun,
            stored,
        }
    }

    /// It asks for all of it.
    pub(crate) fn for_all(self) -> Self {
        Self {
            slice_bytes: None,
            ..self
        }
    }

    /// The key that was asked with.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// When it began.
    #[must_use]
    pub const fn begun(&self) -> Begun {
        self.begun
    }

    /// Judges a response head that came at `now`. `length_known`: where the body ends is declared, by
    /// length or by chunks (RFC 9112 6.3), so that a whole body can be told from one cut short.
    pub fn judge(
        self,
        status: StatusCode,
        headers: HeaderMap,
        length_known: bool,
        now: UnixMillis,
    ) -> Judged {
        if status == StatusCode::NOT_MODIFIED {
            return match self.refresh(&headers, now) {
                Ok(admitted) => Judged::Refreshed(admitted),
                Err(why) => Judged::Relay(Relay::new(why, status, headers)),
            };
        }
        let part = match self.part(status, &headers, now) {
            Ok(part) => part,
            Err(None) => {
                return Judged::Unsliced(Unsliced {
                    key: self.key,
                    class: self.class,
                    begun: self.begun,
                });
            }
            Err(Some(why)) => return Judged::Relay(Relay::new(why, status, headers)),
        };
        // A part that is the whole is a 200; so is what a set says of itself.
        let (mut came, mut as_it_came) = (status, headers);
        let mut page = as_it_came.clone();
        let mut status = came;
        let mut slices = None;
        if let Some(part) = part {
            page.remove(CONTENT_RANGE);
            status = StatusCode::OK;
            match part {
                First::Whole(_) => (came, as_it_came) = (status, page.clone()),
                First::Of(of) => slices = Some(of),
            }
        }
        let found = match find(&self.key, &self.class, self.begun, status, &page, now) {
            Ok(_) if !length_known && part.is_none() => Err(NotShared::LengthUnknown),
            found => found,
        };
        let mut found = match found {
            Ok(found) => found,
            Err(why) => {
                return Judged::Relay(Relay::new(why, came, as_it_came));
            }
        };
        match part {
            Some(First::Whole(length)) => found.content_length = Some(length),
            Some(First::Of(of)) => {
                let first = of.range(0);
                found.content_length = Some(first.end - first.start);
            }
            None => {}
        }
        let is_document = is_document(found.essence.as_deref(), &page);
        if slices.is_some() && (is_document || found.coding != Coding::Identity) {
            return Judged::Unsliced(Unsliced {
                key: self.key,
                class: self.class,
                begun: self.begun,
            });
        }
        let head = Admitted::seal(Head {
            class: self.class.digest,
            fill: self.begun.id,
            refreshed: None,
            begun: self.begun,
            status,
            labels: Labels::of(&page),
            headers: of_the_page(page, now),
            found,
            object_bytes_max: self.class.object_bytes_max,
            slices,
            varies_also: varies_also(&self.class),
            key: self.key,
        });
        if is_document {
            Judged::Copy(FirstCopy {
                head,
                class: self.class,
                as_it_came,
            })
        } else {
            Judged::Sniff(Sniff {
                head,
                came,
                as_it_came,
            })
        }
    }

    /// What an answer to a request for the first slice holds of the object; `Ok(None)`: it is none, and is
    /// judged as any other. `Err(None)`: it fits no slices.
    fn part(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        now: UnixMillis,
    ) -> Result<Option<First>, Option<NotShared>> {
        match (self.slice_bytes, status) {
            (Some(bytes), StatusCode::PARTIAL_CONTENT) => {
                // What is forbidden is forbidden in slices too.
                forbidden(&self.class, headers, now).map_err(Some)?;
                slices::first(headers, bytes).map(Some).ok_or(None)
            }
            // Nothing has a first byte that has none at all.
            (Some(_), StatusCode::RANGE_NOT_SATISFIABLE) => Err(None),
            _ => Ok(None),
        }
    }

    /// What is stored under the head that a 304 leaves (RFC 9111 3.2, 4.3.4), admitted again.
    fn refresh(&self, headers: &HeaderMap, now: UnixMillis) -> Result<Admitted, NotShared> {
        let stored = self.stored.as_ref().ok_or(NotShared::NotModifiedUnasked)?;
        // What the 304 forbids counts even if it fits nothing.
        forbidden(&self.class, headers, now)?;
        if !stored.has_validator() || !confirms(headers, stored) {
            return Err(NotShared::NotModifiedUnasked);
        }
        let mut merged = stored.0.headers.clone();
        // Of these the stored ones speak of the stored answer only.
        merged.remove(DATE);
        merged.remove(AGE);
        // The entity tag of a set is strong: its slices are asked for with it.
        let is_kept = |name: &HeaderName| stored.slices().is_some() && *name == ETAG;
        for name in headers
            .keys()
            .filter(|name| !is_of_the_body(name) && !is_kept(name))
        {
            merged.remove(name);
            for value in headers.get_all(name) {
                merged.append(name.clone(), value.clone());
            }
        }
        // What the stored body was said to depend on, it depends on still: a 304 that says less of it
        // speaks of another answer, or of none. The stricter of both holds.
        for name in hop::tokens(&stored.0.headers, &VARY) {
            let said = hop::tokens(&merged, &VARY).any(|said| said.eq_ignore_ascii_case(name));
            if !said {
                let name = HeaderValue::from_str(name).expect("part of a header value is one");
                merged.append(VARY, name);
            }
        }
        let found = find(
            &self.key,
            &self.class,
            self.begun,
            stored.0.status,
            &merged,
            now,
        )?;
        let merged = of_the_page(merged, now);
        if is_document(found.essence.as_deref(), &merged) {
            // A document's head was agreed on by two copies; a 304 cannot mint into it afterwards.
            mint::heads_agree(&stored.0.headers, &merged)?;
        }
        Ok(Admitted::seal(Head {
            key: self.key.clone(),
            class: self.class.digest,
            fill: stored.0.fill,
            refreshed: Some(self.begun.id),
            begun: self.begun,
            status: stored.0.status,
            // The body is still the one that came with those.
            labels: stored.0.labels.with(&Labels::of(headers)),
            headers: merged,
            found,
            object_bytes_max: self.class.object_bytes_max,
            slices: stored.slices(),
            varies_also: varies_also(&self.class),
        }))
    }
}

impl Unsliced {
    /// Asks for all of it: the same fill, from the same place in the order on.
    pub fn fetch(self, constants: &Constants) -> SharedFetch {
        SharedFetch::whole(&self.key, &self.class, self.begun, constants)
    }
}

impl Sniff {
    /// How many bytes of the body decide, in its content coding; fewer if it ends before. A coded body
    /// shows nothing before its tables are read, which may take a few thousand bytes.
    #[must_use]
    pub fn bytes_wanted(&self) -> usize {
        match self.head.0.found.coding {
            Coding::Identity => sniff::BYTES,
            Coding::Gzip => 4 << 10,
            Coding::Brotli => 16 << 10,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.head.key()
    }

    /// The body's length, in bytes, if it was declared.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.head.content_length()
    }

    /// No body above this many bytes is stored.
    #[must_use]
    pub fn object_bytes_max(&self) -> u64 {
        self.head.object_bytes_max()
    }

    /// The status with which it came.
    #[must_use]
    pub const fn came(&self) -> StatusCode {
        self.came
    }

    /// Compares the first bytes with what the head declares. Bytes beyond those wanted do no harm.
    ///
    /// # Errors
    /// The response for its one viewer, when they do not agree.
    pub fn judge(self, prefix: &[u8]) -> Result<Admitted, Relay> {
        let found = &self.head.0.found;
        let verdict = found.essence.as_deref().map_or(Ok(()), |essence| {
            sniff::agrees(
                essence,
                found.coding,
                prefix.get(..self.bytes_wanted()).unwrap_or(prefix),
            )
        });
        match verdict {
            Ok(()) => Ok(self.head),
            Err(why) => Err(Relay::new(why, self.came, self.as_it_came)),
        }
    }

    /// Gives up sharing, for a reason that is not in the bytes.
    pub fn relay(self, why: NotShared) -> Relay {
        Relay::new(why, self.came, self.as_it_came)
    }
}

impl FirstCopy {
    /// What the leader is shown meanwhile: the head for one viewer. `now`: for a missing `Date`.
    #[must_use]
    pub fn leader_head(&self, now: &HeaderValue) -> (StatusCode, HeaderMap) {
        leader_head(&self.head, &self.as_it_came, now)
    }

    /// The key: what the second copy is asked with.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.head.key()
    }

    /// The body's length, in bytes, if it was declared.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.head.content_length()
    }

    /// No body above this many bytes is stored.
    #[must_use]
    pub fn object_bytes_max(&self) -> u64 {
        self.head.object_bytes_max()
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.head.status()
    }

    /// Gives up sharing, for a reason that is not in the bytes.
    pub fn relay(self, why: NotShared) -> Relay {
        Relay::new(why, self.head.status(), self.as_it_came)
    }

    /// Compares two anonymous copies; the first is what is stored.
    ///
    /// # Errors
    /// Where they differ, by the name of what differs; or what keeps either from being shared alone.
    pub fn judge(self, first: &[u8], second: &SecondCopy<'_>) -> Result<Admitted, NotShared> {
        let head = &self.head.0;
        if second.status != head.status {
            return Err(if self.class.declares(second.status) {
                NotShared::CopiesDiffer {
                    at: 0,
                    after: "the status".into(),
                }
            } else {
                NotShared::Status(second.status.as_u16())
            });
        }
        let received = head.found.freshness.received();
        let found = find(
            &head.key,
            &self.class,
            head.begun,
            second.status,
            second.headers,
            received,
        )?;
        if found.essence != head.found.essence {
            return Err(NotShared::Type(found.essence.unwrap_or_default()));
        }
        mint::heads_agree(
            &head.headers,
            &of_the_page(second.headers.clone(), received),
        )?;
        let first = sniff::decoded(head.found.coding, first)?;
        let second = sniff::decoded(found.coding, second.body)?;
        let essence = head.found.essence.as_deref().unwrap_or_default();
        if !essence.is_empty() {
            sniff::agrees(essence, Coding::Identity, &first)?;
        }
        mint::bodies_agree(essence, &self.class.volatile, &first, &second)?;
        Ok(self.head)
    }
}

impl Relay {
    fn new(why: NotShared, status: StatusCode, headers: HeaderMap) -> Self {
        Self(Box::new(RelayParts {
            why,
            status,
            headers,
        }))
    }

    /// Why it is not shared.
    #[must_use]
    pub const fn why(&self) -> &NotShared {
        &self.0.why
    }

    /// Takes it apart: status, head as it came, reason. The head leaves by
    /// [`leave_as_private`](crate::leave_as_private).
    #[must_use]
    pub fn into_parts(self) -> (StatusCode, HeaderMap, NotShared) {
        let RelayParts {
            why,
            status,
            headers,
        } = *self.0;
        (status, headers, why)
    }
}

impl Admitted {
    /// The one maker of an object's head.
    fn seal(head: Head) -> Self {
        for name in head.headers.keys() {
            assert!(may_be_stored(name), "{name} is not of the page");
        }
        Self(Arc::new(head))
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// The fill whose body this is. A refresh leaves it.
    #[must_use]
    pub fn fill(&self) -> FillId {
        self.0.fill
    }

    /// The fill that last confirmed it, if any did.
    #[must_use]
    pub fn refreshed(&self) -> Option<FillId> {
        self.0.refreshed
    }

    /// The place among purges of its fill, or of the one that last confirmed it.
    #[must_use]
    pub fn order(&self) -> Order {
        self.0.begun.order
    }

    /// What it may be purged together with.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.0.labels
    }

    /// When its fill, or the one that last confirmed it, began.
    #[must_use]
    pub fn begun_at(&self) -> UnixMillis {
        self.0.begun.at
    }

    /// The digest of the class that admitted it.
    #[must_use]
    pub fn class(&self) -> ClassDigest {
        self.0.class
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The content type, lower case, without parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.0.found.essence.as_deref()
    }

    /// The entity tag, if there is exactly one.
    #[must_use]
    pub fn etag(&self) -> Option<&HeaderValue> {
        the_one(&self.0.headers, &ETAG)
    }

    /// The date of the last change, if there is exactly one and it can be read.
    #[must_use]
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        one_date(&self.0.headers, &LAST_MODIFIED)?;
        the_one(&self.0.headers, &LAST_MODIFIED)
    }

    /// Whether the origin can be asked if it is still right.
    #[must_use]
    pub fn has_validator(&self) -> bool {
        self.etag().is_some() || self.last_modified().is_some()
    }

    /// Bytes that the head and its key take in memory, without the body.
    #[must_use]
    pub fn weight(&self) -> usize {
        // A header map keeps an entry and an index slot for each field besides name and value.
        const ENTRY: usize = 96;
        let headers: usize = self
            .0
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + ENTRY)
            .sum();
        let essence = self.0.found.essence.as_ref().map_or(0, String::len);
        // Two counts of the shared allocation.
        size_of::<Head>()
            + 2 * size_of::<usize>()
            + headers
            + essence
            + self.0.labels.weight()
            + self.0.key.weight()
    }

    /// The stored body's length, in bytes, if it was declared.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.0.found.content_length
    }

    /// No body above this many bytes is stored.
    #[must_use]
    pub fn object_bytes_max(&self) -> u64 {
        self.0.object_bytes_max
    }

    /// How it is cut, if it is the first slice of a set.
    #[must_use]
    pub fn slices(&self) -> Option<Slices> {
        self.0.slices
    }

    pub(crate) fn coding(&self) -> Coding {
        self.0.found.coding
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.0.found.freshness
    }

    pub(crate) fn only_without(&self) -> OnlyWithout {
        self.0.found.only_without
    }

    pub(crate) fn stored_headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// What a cache beyond us must keep apart besides what the origin says: members from the anonymous,
    /// what the key tells apart, and codings.
    pub(crate) fn varies_also_on(&self) -> impl Iterator<Item = HeaderName> {
        let coded = self.0.found.coding != Coding::Identity;
        let also = self.0.varies_also.iter().cloned();
        also.chain(coded.then_some(http::header::ACCEPT_ENCODING))
    }

    /// Whether the class still declares what this is.
    pub(crate) fn still_declared(&self, class: &Class) -> Result<(), NotShared> {
        if !class.declares(self.0.status) {
            return Err(NotShared::Status(self.0.status.as_u16()));
        }
        match &self.0.found.essence {
            Some(essence) if !class.types.iter().any(|t| t.matches(essence)) => {
                Err(NotShared::Type(essence.clone()))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Admitted({:?}, {}, {:?})",
            self.0.key,
            self.0.status.as_u16(),
            self.0.fill
        )
    }
}

impl OnlyWithout {
    /// The header of the requester's for which this is not.
    pub(crate) fn excludes(self, requester: Requester) -> Option<&'static str> {
        [
            (self.cookie && requester.cookie, "cookie"),
            (
                self.authorization && requester.authorization,
                "authorization",
            ),
            (self.origin && requester.origin, "origin"),
        ]
        .into_iter()
        .find_map(|(excluded, header)| excluded.then_some(header))
    }
}

/// Reads a head by all the rules: what it forbids, then what does not suit.
fn find(
    key: &Key,
    class: &Class,
    begun: Begun,
    status: StatusCode,
    headers: &HeaderMap,
    now: UnixMillis,
) -> Result<Found, NotShared> {
    let failed = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if failed && !class.declares(status) {
        return Err(NotShared::Status(status.as_u16()));
    }
    let (instructions, only_without) = forbidden(class, headers, now)?;
    if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE) {
        return Err(NotShared::Partial);
    }
    if status.is_informational() || status == StatusCode::NOT_MODIFIED || !class.declares(status) {
        return Err(NotShared::Status(status.as_u16()));
    }
    let content_length = content_length(headers)?;
    let essence = content_type(class, status, headers, content_length)?;
    let coding = content_coding(key, headers)?;
    let freshness = Freshness::of(
        status,
        headers,
        &instructions,
        &class.lifetimes,
        begun.at,
        now,
    )?;
    if content_length.is_some_and(|length| length > class.object_bytes_max) {
        return Err(NotShared::TooLarge);
    }
    Ok(Found {
        essence,
        coding,
        freshness,
        only_without,
        content_length,
    })
}

/// The head of a slice of a set: free of vetoes, as if it were an object of so many bytes.
pub(crate) fn one_slice(
    (key, class, begun): (&Key, &Class, Begun),
    (headers, bytes): (&HeaderMap, u64),
    now: UnixMillis,
) -> Result<Admitted, NotShared> {
    let mut page = headers.clone();
    page.remove(CONTENT_RANGE);
    let status = StatusCode::OK;
    let mut found = find(key, class, begun, status, &page, now)?;
    found.content_length = Some(bytes);
    Ok(Admitted::seal(Head {
        class: class.digest,
        fill: begun.id,
        refreshed: None,
        begun,
        status,
        labels: Labels::of(&page),
        headers: of_the_page(page, now),
        found,
        object_bytes_max: class.object_bytes_max,
        slices: None,
        varies_also: varies_also(class),
        key: key.clone(),
    }))
}

/// The vetoes by which an origin says "not for everyone".
fn forbidden(
    class: &Class,
    headers: &HeaderMap,
    now: UnixMillis,
) -> Result<(Instructions, OnlyWithout), NotShared> {
    if (headers.contains_key(SET_COOKIE) || headers.contains_key("set-cookie2"))
        && !stores_cookies()
    {
        return Err(NotShared::SetsCookie);
    }
    for (name, field) in [
        ("shikiri-viewer", "Shikiri-Viewer"),
        ("shikiri-owner", "Shikiri-Owner"),
        ("shikiri-session", "Shikiri-Session"),
    ] {
        if headers.contains_key(name) {
            return Err(NotShared::Owned { field });
        }
    }
    let instructions = Instructions::of(headers, now)?;
    let only_without = settled(class, headers)?;
    // `Authentication-Info` carries the next nonce of a digest (RFC 7616 3.5).
    let authenticates = [&WWW_AUTHENTICATE, &PROXY_AUTHENTICATE]
        .into_iter()
        .any(|n| headers.contains_key(n))
        || headers.contains_key("authentication-info")
        || headers.contains_key("proxy-authentication-info");
    if authenticates {
        return Err(NotShared::Authenticates);
    }
    if headers.contains_key("clear-site-data") {
        return Err(NotShared::ClearsSiteData);
    }
    // A shared fetch sends no `Origin`, so an answer to one is a guess or a leftover.
    if headers
        .get_all(ACCESS_CONTROL_ALLOW_ORIGIN)
        .iter()
        .any(|value| value != "*")
        || headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS)
    {
        return Err(NotShared::AllowsOneOrigin);
    }
    mints_by_head(headers)?;
    Ok((instructions, only_without))
}

/// Whether `Vary` names only what the key settles, and what it was made without (RFC 9111 4.1).
fn settled(class: &Class, headers: &HeaderMap) -> Result<OnlyWithout, NotShared> {
    let unreadable = || NotShared::Unreadable { field: "Vary" };
    let mut only_without = OnlyWithout::default();
    let mut unsettled = None;
    for value in headers.get_all(VARY) {
        let text = value.to_str().map_err(|_| unreadable())?;
        for element in text
            .split(',')
            .map(str::trim)
            .filter(|element| !element.is_empty())
        {
            if element.contains('*') {
                return Err(NotShared::VaryStar);
            }
            if !element.bytes().all(is_tchar) {
                return Err(unreadable());
            }
            match element.to_ascii_lowercase().as_str() {
                "cookie" => only_without.cookie = true,
                "authorization" => only_without.authorization = true,
                "origin" => only_without.origin = true,
                // In the key, or sent as `identity` to the origin for all.
                "accept-encoding" => {}
                // Functions of the key.
                "host" | "x-forwarded-proto" | "x-forwarded-host" => {}
                name if class
                    .key_headers
                    .iter()
                    .any(|key_header| key_header == name) => {}
                // One for the whole class.
                name if class
                    .gate
                    .as_ref()
                    .is_some_and(|gate| gate.credential.header == name) => {}
                name => unsettled = unsettled.or_else(|| Some(name.to_owned())),
            }
        }
    }
    unsettled.map_or(Ok(only_without), |name| Err(NotShared::Varies(name)))
}

/// What a header mints by its name, or carries in its value.
fn mints_by_head(headers: &HeaderMap) -> Result<(), NotShared> {
    for (name, value) in headers {
        if mint::names_a_token(name.as_str()) {
            return Err(NotShared::MintsToken {
                place: format!("header {name}"),
            });
        }
        let is_policy =
            name.as_str().contains("content-security-policy") || name.as_str() == "x-webkit-csp";
        if is_policy || *name == LINK {
            let value = value.as_bytes().to_ascii_lowercase();
            let needle: &[u8] = if is_policy { b"nonce-" } else { b"nonce" };
            if value.windows(needle.len()).any(|window| window == needle) {
                return Err(NotShared::CarriesNonce);
            }
        }
        if [LOCATION, CONTENT_LOCATION, REFRESH, LINK].contains(name)
            && let Some(place) = mint::session_in_urls(value.as_bytes())
        {
            return Err(NotShared::SessionInUrl { place });
        }
    }
    Ok(())
}

/// The one content type that the class lists. A body known to be empty, of a status other than 200, has
/// none to show and needs none.
fn content_type(
    class: &Class,
    status: StatusCode,
    headers: &HeaderMap,
    content_length: Option<u64>,
) -> Result<Option<String>, NotShared> {
    let values: Vec<&HeaderValue> = headers.get_all(CONTENT_TYPE).iter().collect();
    let empty = status == StatusCode::NO_CONTENT || content_length == Some(0);
    let value = match values.as_slice() {
        [] if empty && status != StatusCode::OK => return Ok(None),
        [] => return Err(NotShared::NoType),
        [value] => value,
        // Which of them a browser takes is not ours to guess.
        [value, ..] => return Err(NotShared::Type(format!("{}, …", printable(value)))),
    };
    let shown = printable(value);
    let essence = shown
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let well_formed = essence.split_once('/').is_some_and(|(family, subtype)| {
        let token = |text: &str| !text.is_empty() && text.bytes().all(is_tchar);
        token(family) && token(subtype)
    });
    if !well_formed || value.to_str().is_err() {
        return Err(NotShared::Type(shown));
    }
    // RFC 9110 8.3: a comma may be two fields joined into one, parameters included.
    if shown.contains(',') || !class.types.iter().any(|pattern| pattern.matches(&essence)) {
        return Err(NotShared::Type(essence));
    }
    Ok(Some(essence))
}

/// The one content coding, which the key asked for (RFC 9110 8.4).
fn content_coding(key: &Key, headers: &HeaderMap) -> Result<Coding, NotShared> {
    let lines: Vec<&HeaderValue> = headers.get_all(CONTENT_ENCODING).iter().collect();
    let shown = lines
        .iter()
        .map(|line| printable(line))
        .collect::<Vec<_>>()
        .join(", ");
    let mut codings = Vec::new();
    for line in lines {
        let line = line
            .to_str()
            .map_err(|_| NotShared::Encoding(shown.clone()))?;
        codings.extend(
            line.split(',')
                .map(|coding| coding.trim().to_ascii_lowercase()),
        );
    }
    codings.retain(|coding| !coding.is_empty() && coding != "identity");
    let asked = key.parts().encoding.unwrap_or(AcceptEncoding::Identity);
    match codings.as_slice() {
        [] => Ok(Coding::Identity),
        [coding] if asked.takes(coding) => match coding.as_str() {
            "gzip" | "x-gzip" => Ok(Coding::Gzip),
            "br" => Ok(Coding::Brotli),
            _ => Err(NotShared::Encoding(shown)),
        },
        _ => Err(NotShared::Encoding(shown)),
    }
}

/// The declared length (RFC 9110 8.6); several, or anything but digits, leave it unknown.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, NotShared> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(NotShared::LengthUnknown),
    }
}

/// Whether a response needs a second copy. The rule:
///
/// - HTML and XHTML always. Any other type that is text and may be made for one visitor likewise: JSON,
///   XML, plain text and every `text/*` but style sheets, scripts and captions; playlists, whose URLs
///   may be signed.
/// - A script without `Last-Modified`: a file has one, what is generated on request mostly has not (an
///   entity tag says nothing, frameworks hash one over every answer), and "here is your token" is as
///   likely a script as a page.
/// - Whatever has a `Location`, which may carry a token.
///
/// SVG counts as an image: as a file it is the same for all.
fn is_document(essence: Option<&str>, headers: &HeaderMap) -> bool {
    if headers.contains_key(LOCATION) {
        return true;
    }
    let Some(essence) = essence else {
        return false;
    };
    match sniff::Kind::of(essence) {
        sniff::Kind::Html
        | sniff::Kind::Text
        | sniff::Kind::Json
        | sniff::Kind::Xml
        | sniff::Kind::Playlist => true,
        sniff::Kind::Script => !headers.contains_key(LAST_MODIFIED),
        _ => false,
    }
}

/// What the class's keys tell apart without the origin having said so.
fn varies_also(class: &Class) -> Box<[HeaderName]> {
    let anonymous = (class.to == To::Anonymous).then_some(http::header::COOKIE);
    anonymous
        .into_iter()
        .chain(class.key_headers.iter().cloned())
        .collect()
}

/// Whether a 304 speaks of what is stored (RFC 9111 4.3.4).
fn confirms(headers: &HeaderMap, stored: &Admitted) -> bool {
    let weak = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    match (
        headers.contains_key(ETAG),
        the_one(headers, &ETAG),
        stored.etag(),
    ) {
        // It names a strong validator: exactly what is stored. A weak one: the same but for strength.
        (true, Some(new), Some(old)) => {
            let strong = !new.as_bytes().starts_with(b"W/");
            if strong {
                new == old
            } else {
                weak(new.as_bytes()) == weak(old.as_bytes())
            }
        }
        (true, ..) => false,
        (false, ..) if headers.contains_key(LAST_MODIFIED) => {
            let date = |headers: &HeaderMap| one_date(headers, &LAST_MODIFIED);
            date(headers).is_some() && date(headers) == date(&stored.0.headers)
        }
        // It names none: it answers the condition that was sent.
        _ => true,
    }
}

/// What a 304 cannot change, since the body stays (RFC 9111 3.2).
fn is_of_the_body(name: &HeaderName) -> bool {
    [
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        CONTENT_TYPE,
        CONTENT_RANGE,
    ]
    .contains(name)
}

/// A head as it leaves with a shared copy: without what belongs to a hop, and with a `Date`
/// (RFC 9110 6.6.1).
fn of_the_page(mut headers: HeaderMap, received: UnixMillis) -> HeaderMap {
    hop::strip_hop_by_hop(&mut headers);
    let others: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !may_be_stored(name))
        .cloned()
        .collect();
    for name in others {
        headers.remove(name);
    }
    if one_date(&headers, &DATE).is_none() {
        let date = HeaderValue::try_from(imf_fixdate(received)).expect("a date is printable ASCII");
        headers.insert(DATE, date);
    }
    // What came from a socket is a slice of its read buffer, and would keep all of that in memory.
    for value in headers.values_mut() {
        *value = HeaderValue::from_bytes(value.as_bytes()).expect("it was a header value before");
    }
    headers
}

fn may_be_stored(name: &HeaderName) -> bool {
    !hop::is_not_of_the_page(name) || (*name == SET_COOKIE && stores_cookies())
}

/// Whether a planted fault has cookies stored.
fn stores_cookies() -> bool {
    #[cfg(feature = "seeded-faults")]
    return crate::fault::is(crate::fault::Fault::SetCookieStored);
    #[cfg(not(feature = "seeded-faults"))]
    false
}

/// What the leader is shown while sharing is undecided: the head as it came, as private.
fn leader_head(
    head: &Admitted,
    as_it_came: &HeaderMap,
    now: &HeaderValue,
) -> (StatusCode, HeaderMap) {
    let mut headers = as_it_came.clone();
    crate::pass::leave_as_private(&mut headers, now);
    (head.status(), headers)
}

/// The value of a field that stands once.
fn the_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn printable(value: &HeaderValue) -> String {
    const CHARS_MAX: usize = 100;
    String::from_utf8_lossy(value.as_bytes())
        .chars()
        .take(CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::freshness::Reuse;
    use crate::rules::TypePattern;
    use crate::tests::{NOW, admitted, begun, class, fill, headers, judge, key, refused};

    const CSS: &str = "content-type: text/css\n cache-control: max-age=60\n";

    #[track_caller]
    fn check(lines: &str, expected: Option<NotShared>) {
        assert_eq!(
            refused(&class(), 200, &format!("{CSS}{lines}")),
            expected,
            "{lines}"
        );
    }

    fn header_place(name: &str) -> NotShared {
        NotShared::MintsToken {
            place: format!("header {name}"),
        }
    }

    #[test]
    fn what_an_origin_forbids() {
        check("", None);
        check("set-cookie: a=b", Some(NotShared::SetsCookie));
        check("set-cookie2: a=b", Some(NotShared::SetsCookie));
        let field = "Cache-Control";
        check(
            "cache-control: Private;",
            Some(NotShared::Prohibited {
                field,
                directive: "private".into(),
            }),
        );
        check(
            "cache-control: max-age=\"1",
            Some(NotShared::Unreadable { field }),
        );
        let field = "CDN-Cache-Control";
        check(
            "cdn-cache-control: no-store",
            Some(NotShared::Prohibited {
                field,
                directive: "no-store".into(),
            }),
        );
        check(
            "www-authenticate: Negotiate",
            Some(NotShared::Authenticates),
        );
        check("proxy-authenticate: Basic", Some(NotShared::Authenticates));
        check(
            "authentication-info: nextnonce=\"x\"",
            Some(NotShared::Authenticates),
        );
        check("clear-site-data: \"*\"", Some(NotShared::ClearsSiteData));
        check("access-control-allow-origin: *", None);
        check(
            "access-control-allow-origin: https://a.test",
            Some(NotShared::AllowsOneOrigin),
        );
        check(
            "access-control-allow-origin: null",
            Some(NotShared::AllowsOneOrigin),
        );
        check(
            "access-control-allow-origin: *\n access-control-allow-origin: *, x",
            Some(NotShared::AllowsOneOrigin),
        );
        check(
            "access-control-allow-credentials: true",
            Some(NotShared::AllowsOneOrigin),
        );
        check(
            "shikiri-viewer: 7",
            Some(NotShared::Owned {
                field: "Shikiri-Viewer",
            }),
        );
        check(
            "shikiri-owner:",
            Some(NotShared::Owned {
                field: "Shikiri-Owner",
            }),
        );
        check(
            "shikiri-session: start",
            Some(NotShared::Owned {
                field: "Shikiri-Session",
            }),
        );
        // A hop's own list does not hide what forbids.
        check(
            "connection: www-authenticate\n www-authenticate: NTLM",
            Some(NotShared::Authenticates),
        );
    }

    #[test]
    fn what_a_head_mints() {
        for name in [
            "x-csrf-token",
            "x-xsrf-value",
            "x-auth-token",
            "authorization",
            "x-nonce",
            "session-id",
            "set-login",
        ] {
            check(&format!("{name}: 1"), Some(header_place(name)));
        }
        for name in [
            "strict-transport-security",
            "x-robots-tag",
            "x-frame-options",
            "origin-agent-cluster",
            "x-author",
            "etag",
        ] {
            check(&format!("{name}: 1"), None);
        }
        check(
            "content-security-policy: script-src 'nonce-abc'",
            Some(NotShared::CarriesNonce),
        );
        check(
            "content-security-policy-report-only: script-src 'NONCE-abc'",
            Some(NotShared::CarriesNonce),
        );
        check(
            "content-security-policy: script-src 'self' 'sha256-abc'",
            None,
        );
        check(
            "link: </a.js>; rel=preload; nonce=abc",
            Some(NotShared::CarriesNonce),
        );
        check(
            "content-location: /a;jsessionid=0123456789AB",
            Some(NotShared::SessionInUrl {
                place: "jsessionid".into(),
            }),
        );
        check(
            "refresh: 0; url=/a?PHPSESSID=0123456789ab",
            Some(NotShared::SessionInUrl {
                place: "PHPSESSID".into(),
            }),
        );
    }

    #[test]
    fn vary_must_be_settled_by_the_key() {
        check("vary: Accept-Encoding", None);
        check("vary: accept-encoding, X-Forwarded-Proto ,, Host", None);
        check("vary: Cookie", None);
        check("vary: Origin\n vary: Authorization", None);
        check("vary: *", Some(NotShared::VaryStar));
        check("vary: Accept-Encoding, *", Some(NotShared::VaryStar));
        check("vary: X-Country\n vary: *", Some(NotShared::VaryStar));
        check(
            "vary: User-Agent",
            Some(NotShared::Varies("user-agent".into())),
        );
        check(
            "vary: Accept-Encoding, X-Country",
            Some(NotShared::Varies("x-country".into())),
        );
        check(
            "vary: Cookie X-Country",
            Some(NotShared::Unreadable { field: "Vary" }),
        );
        check(
            "vary: \"Cookie\"",
            Some(NotShared::Unreadable { field: "Vary" }),
        );
        check(
            "vary: Cookie\u{e9}",
            Some(NotShared::Unreadable { field: "Vary" }),
        );
        let keyed = Class {
            key_headers: vec!["x-country".parse().unwrap()],
            ..class()
        };
        assert_eq!(refused(&keyed, 200, &format!("{CSS}vary: X-Country")), None);
        let unkeyed = Class {
            key_encoding: false,
            ..class()
        };
        assert_eq!(
            refused(&unkeyed, 200, &format!("{CSS}vary: Accept-Encoding")),
            None
        );
    }

    #[test]
    fn what_the_class_does_not_declare() {
        for (status, lines, expected) in [
            (200, CSS, None),
            (403, CSS, Some(NotShared::Status(403))),
            (100, CSS, Some(NotShared::Status(100))),
            (206, CSS, Some(NotShared::Partial)),
            (
                200,
                "content-type: text/css\n cache-control: max-age=1\n content-range: bytes 0-1/2",
                Some(NotShared::Partial),
            ),
            // An error page's prohibition speaks of the error.
            (503, "cache-control: no-store", Some(NotShared::Status(503))),
            (429, "cache-control: no-store", Some(NotShared::Status(429))),
            (
                403,
                "cache-control: no-store",
                Some(NotShared::Prohibited {
                    field: "Cache-Control",
                    directive: "no-store".into(),
                }),
            ),
            (200, "cache-control: max-age=60", Some(NotShared::NoType)),
            (
                200,
                "content-type: text/css\n content-type: text/css",
                Some(NotShared::Type("text/css, …".into())),
            ),
            (
                200,
                "content-type: text/css, text/html",
                Some(NotShared::Type("text/css, text/html".into())),
            ),
            (
                200,
                "content-type: css",
                Some(NotShared::Type("css".into())),
            ),
            (
                200,
                "content-type: Text/CSS ; charset=utf-8\n cache-control: max-age=60",
                None,
            ),
            (
                200,
                "content-type: application/xhtml+xml\n cache-control: max-age=60",
                Some(NotShared::Type("application/xhtml+xml".into())),
            ),
            (200, "content-type: text/css", Some(NotShared::NoLifetime)),
            (
                200,
                "content-type: text/css\n cache-control: max-age=0",
                Some(NotShared::AlreadyStale),
            ),
            (404, "content-length: 0\n cache-control: max-age=60", None),
            (
                200,
                "content-length: 0\n cache-control: max-age=60",
                Some(NotShared::NoType),
            ),
            (204, "cache-control: max-age=60", None),
            (
                302,
                "location: /b\n content-length: 0\n cache-control: max-age=60",
                None,
            ),
            (304, CSS, Some(NotShared::NotModifiedUnasked)),
            (304, "set-cookie: a=b", Some(NotShared::NotModifiedUnasked)),
        ] {
            assert_eq!(
                refused(&class(), status, lines),
                expected,
                "{status} {lines}"
            );
        }
        let only_css = Class {
            types: vec![TypePattern("text/css".into())],
            ..class()
        };
        let js = "content-type: text/javascript\n cache-control: max-age=1";
        assert_eq!(
            refused(&only_css, 200, js),
            Some(NotShared::Type("text/javascript".into()))
        );
    }

    #[test]
    fn codings_that_were_not_asked_for() {
        let encoding = |coding: &str| Some(NotShared::Encoding(coding.into()));
        check("content-encoding: gzip", None);
        check("content-encoding: BR", None);
        check("content-encoding: identity", None);
        check("content-encoding: gzip, identity", None);
        check("content-encoding: zstd", encoding("zstd"));
        check("content-encoding: gzip, br", encoding("gzip, br"));
        check(
            "content-encoding: gzip\n content-encoding: gzip",
            encoding("gzip, gzip"),
        );
        check("content-encoding: gz\u{e9}p", encoding("gz\u{e9}p"));
        let hidden = format!("gzip{}, br", " ".repeat(200));
        assert!(refused(&class(), 200, &format!("{CSS}content-encoding: {hidden}")).is_some());
        let plain = Class {
            key_encoding: false,
            ..class()
        };
        assert_eq!(
            refused(&plain, 200, &format!("{CSS}content-encoding: gzip")),
            encoding("gzip")
        );
    }

    #[test]
    fn lengths() {
        check("content-length: 1048576", None);
        check("content-length: 1048577", Some(NotShared::TooLarge));
        check(
            "content-length: 1\n content-length: 1",
            Some(NotShared::LengthUnknown),
        );
        check("content-length: +1", Some(NotShared::LengthUnknown));
        check(
            "content-length: 99999999999999999999",
            Some(NotShared::LengthUnknown),
        );
        let judged = fill(&class(), None).judge(StatusCode::OK, headers(CSS), false, NOW);
        assert!(matches!(judged, Judged::Relay(relay) if *relay.why() == NotShared::LengthUnknown));
    }

    #[test]
    fn which_types_need_a_second_copy() {
        for (lines, expected) in [
            ("content-type: text/html", true),
            ("content-type: application/json", true),
            ("content-type: application/ld+json", true),
            ("content-type: text/xml", true),
            ("content-type: application/atom+xml", true),
            ("content-type: text/plain", true),
            ("content-type: text/csv", true),
            ("content-type: application/x-mpegurl", true),
            ("content-type: text/javascript", true),
            ("content-type: text/javascript\n etag: \"1\"", true),
            (
                "content-type: text/javascript\n last-modified: Sun, 06 Nov 1994 08:00:00 GMT",
                false,
            ),
            ("content-type: text/css", false),
            ("content-type: text/vtt", false),
            ("content-type: image/svg+xml", false),
            ("content-type: image/png", false),
            ("content-type: image/png\n location: /x", true),
            ("content-type: application/octet-stream", false),
        ] {
            let judged = judge(
                &class(),
                200,
                &format!("{lines}\n cache-control: max-age=60"),
            );
            let got = match judged {
                Judged::Copy(_) => true,
                Judged::Sniff(_) => false,
                other => panic!("{lines}: {other:?}"),
            };
            assert_eq!(got, expected, "{lines}");
        }
    }

    #[test]
    fn only_what_speaks_of_the_page_is_stored() {
        let object = admitted(
            &class(),
            "cache-control: max-age=60\n etag: \"1\"\n alt-svc: h3=\":443\"\n via: 1.1 x\n x-request-id: 1\n age: 1\n
             report-to: {}\n connection: x-hop\n x-hop: 1\n surrogate-control: max-age=60\n x-kept: yes\n keep-alive: 1",
        );
        let mut names: Vec<&str> = object
            .stored_headers()
            .keys()
            .map(HeaderName::as_str)
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["cache-control", "content-type", "date", "etag", "x-kept"]
        );
        assert_eq!(
            object.stored_headers()["date"],
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
    }

    #[test]
    fn what_an_object_says_of_itself() {
        let lines = "cache-control: max-age=60\n content-length: 7\n etag: W/\"1\"";
        let object = admitted(&class(), lines);
        assert_eq!((object.fill(), object.refreshed()), (FillId(1), None));
        assert_eq!((object.order(), object.begun_at()), (Order(1), NOW));
        assert_eq!(
            (object.content_length(), object.object_bytes_max()),
            (Some(7), 1 << 20)
        );
        assert_eq!(
            (object.class(), object.content_type()),
            (class().digest, Some("image/png"))
        );
        assert_eq!(object.etag().unwrap(), "W/\"1\"");
        assert!(object.has_validator());
        let heavier = admitted(&class(), &format!("{lines}\n x-long: {}", "x".repeat(1000)));
        assert!(
            heavier.weight() >= object.weight() + 1000 && object.weight() > key(&class()).weight()
        );
        let without = admitted(
            &class(),
            "cache-control: max-age=60\n last-modified: once\n etag: \"1\"\n etag: \"2\"",
        );
        assert!(!without.has_validator());
    }

    #[test]
    fn bytes_that_are_not_what_the_head_says_leave_for_one() {
        let lines = "content-type: text/css\n cache-control: max-age=60\n x-b3-traceid: 1";
        let Judged::Sniff(sniff) = judge(&class(), 200, lines) else {
            panic!("css is sniffed")
        };
        assert_eq!(sniff.came(), StatusCode::OK);
        let relay = sniff.judge(b"<html>").unwrap_err();
        let (status, as_it_came, why) = relay.into_parts();
        assert_eq!((status, as_it_came), (StatusCode::OK, headers(lines)));
        assert_eq!(
            why,
            NotShared::Sniffed {
                declared: "text/css".into(),
                looks_like: "HTML"
            }
        );
    }

    const PAGE: &str = "content-type: text/html\n cache-control: max-age=60\n";

    #[track_caller]
    fn copies(first: (&str, &[u8]), second: (u16, &str, &[u8]), expected: Option<NotShared>) {
        let head = format!("{PAGE}{}", first.0);
        let Judged::Copy(copy) = judge(&class(), 200, &head) else {
            panic!("a page is copied")
        };
        let headers = headers(&format!("{PAGE}{}", second.1));
        let status = StatusCode::from_u16(second.0).unwrap();
        let got = copy.judge(
            first.1,
            &SecondCopy {
                status,
                headers: &headers,
                body: second.2,
            },
        );
        assert_eq!(got.err(), expected, "{first:?} {second:?}");
    }

    #[test]
    fn two_copies_of_a_page() {
        let page = &b"<!doctype html><p>Welcome"[..];
        copies(("", page), (200, "", page), None);
        copies(
            ("etag: \"1\"", page),
            (
                200,
                "etag: \"2\"\n expires: 0\n date: Sun, 06 Nov 1994 08:49:38 GMT",
                page,
            ),
            None,
        );
        copies(
            ("", page),
            (200, "set-cookie: a=b", page),
            Some(NotShared::SetsCookie),
        );
        copies(
            ("", page),
            (404, "", page),
            Some(NotShared::CopiesDiffer {
                at: 0,
                after: "the status".into(),
            }),
        );
        copies(("", page), (500, "", page), Some(NotShared::Status(500)));
        let differ = Some(NotShared::CopiesDiffer {
            at: 0,
            after: "header x-took:".into(),
        });
        copies(
            ("x-took: 1", page),
            (200, "x-took: 2", page),
            differ.clone(),
        );
        copies(("", page), (200, "x-took: 2", page), differ);
        let token = Some(header_place("x-id"));
        copies(
            ("x-id: 8a2f9c01de37b645", page),
            (200, "x-id: 1b2c3d4e5f607a8b", page),
            token,
        );
        let differs = Some(NotShared::CopiesDiffer {
            at: 18,
            after: "<!doctype html><p>".into(),
        });
        copies(("", page), (200, "", b"<!doctype html><p>Hello"), differs);
        copies(
            ("content-encoding: gzip", page),
            (200, "", page),
            Some(NotShared::Encoding("gzip".into())),
        );
        let json = "content-type: application/json\n cache-control: max-age=60";
        let Judged::Copy(copy) = judge(&class(), 200, json) else {
            panic!("JSON is copied")
        };
        let second = headers(json);
        let got = copy.judge(
            page,
            &SecondCopy {
                status: StatusCode::OK,
                headers: &second,
                body: page,
            },
        );
        assert_eq!(
            got.unwrap_err(),
            NotShared::Sniffed {
                declared: "application/json".into(),
                looks_like: "HTML"
            }
        );
    }

    #[track_caller]
    fn refresh(stored: &str, lines: &str) -> Result<Admitted, NotShared> {
        let stored = admitted(&class(), stored);
        let later = NOW.after(Duration::from_secs(100));
        let fill = Fill {
            begun: Begun {
                at: later,
                ..begun(2)
            },
            ..fill(&class(), Some(stored))
        };
        match fill.judge(StatusCode::NOT_MODIFIED, headers(lines), true, later) {
            Judged::Refreshed(admitted) => Ok(admitted),
            Judged::Relay(relay) => Err(relay.into_parts().2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_304_gives_the_stored_body_a_new_head() {
        let stored = "cache-control: max-age=60\n etag: \"1\"\n x-old: 1\n x-kept: 1\n content-length: 7\n age: 50";
        let object = refresh(
            stored,
            "etag: \"1\"\n cache-control: max-age=30\n x-old: 2\n content-length: 0\n content-type: text/html\n
             content-encoding: br\n alt-svc: x",
        )
        .unwrap();
        let head = object.stored_headers();
        assert_eq!(
            (&head["x-old"], &head["x-kept"]),
            (&HeaderValue::from(2), &HeaderValue::from(1))
        );
        assert_eq!(
            (&head["content-type"], object.content_length()),
            (&HeaderValue::from_static("image/png"), Some(7))
        );
        assert!(!head.contains_key("content-encoding") && !head.contains_key("alt-svc"));
        assert_eq!(
            (object.fill(), object.refreshed(), object.order()),
            (FillId(1), Some(FillId(2)), Order(2))
        );
        let later = NOW.after(Duration::from_secs(100));
        assert_eq!(
            (object.begun_at(), object.ttl(later)),
            (later, Duration::from_secs(30))
        );
        // What the 304 does not say stays as it was, and its own date counts from now.
        let object = refresh(stored, "").unwrap();
        assert_eq!(object.ttl(later), Duration::from_secs(60));
    }

    #[test]
    fn a_304_takes_back_nothing_of_what_the_stored_body_varies_on() {
        let cookie = Requester {
            credentials: false,
            cookie: true,
            authorization: false,
            origin: true,
        };
        for (stored, lines, vary, excluded) in [
            ("Cookie", "", &["Cookie"][..], Some("cookie")),
            (
                "Cookie",
                "vary: Accept-Encoding",
                &["Accept-Encoding", "Cookie"],
                Some("cookie"),
            ),
            (
                "Accept-Encoding, cookie",
                "vary: Cookie",
                &["Cookie", "Accept-Encoding"],
                Some("cookie"),
            ),
            ("Cookie", "vary:", &["", "Cookie"], Some("cookie")),
            (
                "Accept-Encoding",
                "vary: Origin",
                &["Origin", "Accept-Encoding"],
                Some("origin"),
            ),
            ("Accept-Encoding", "", &["Accept-Encoding"], None),
        ] {
            let stored = format!("cache-control: max-age=60\n etag: \"1\"\n vary: {stored}");
            let object = refresh(&stored, lines).unwrap();
            assert_eq!(
                object.only_without().excludes(cookie),
                excluded,
                "{stored} / {lines}"
            );
            let shown: Vec<&HeaderValue> = object.stored_headers().get_all(VARY).iter().collect();
            assert_eq!(shown, vary, "{stored} / {lines}");
        }
    }

    #[test]
    fn a_304_is_judged_like_any_other_head() {
        let modified = "last-modified: Sun, 06 Nov 1994 08:00:00 GMT";
        let both = format!("cache-control: max-age=60\n etag: \"1\"\n {modified}");
        let weak = "cache-control: max-age=60\n etag: W/\"1\"";
        let unasked = Some(NotShared::NotModifiedUnasked);
        for (stored, lines, expected) in [
            (both.as_str(), "", None),
            (&both, "etag: \"1\"", None),
            (&both, "etag: \"2\"", unasked.clone()),
            (&both, "etag: W/\"1\"", None),
            (&both, "etag: \"1\"\n etag: \"2\"", unasked.clone()),
            (&both, modified, None),
            (
                &both,
                "last-modified: Sun, 06 Nov 1994 08:01:00 GMT",
                unasked.clone(),
            ),
            (
                &both,
                "etag: \"1\"\n last-modified: Sun, 06 Nov 1994 08:01:00 GMT",
                None,
            ),
            (weak, "etag: W/\"1\"", None),
            (weak, "etag: \"1\"", unasked.clone()),
            (weak, modified, unasked.clone()),
            ("cache-control: max-age=60", "", unasked),
            (&both, "set-cookie: a=b", Some(NotShared::SetsCookie)),
            (
                &both,
                "etag: \"2\"\n set-cookie: a=b",
                Some(NotShared::SetsCookie),
            ),
            (
                &both,
                "cache-control: max-age=0",
                Some(NotShared::AlreadyStale),
            ),
            (&both, "vary: *", Some(NotShared::VaryStar)),
            (
                &both,
                "shikiri-owner: 7",
                Some(NotShared::Owned {
                    field: "Shikiri-Owner",
                }),
            ),
            (
                &both,
                "cache-control: private",
                Some(NotShared::Prohibited {
                    field: "Cache-Control",
                    directive: "private".into(),
                }),
            ),
        ] {
            assert_eq!(refresh(stored, lines).err(), expected, "{stored} / {lines}");
        }
    }

    #[test]
    fn a_304_mints_nothing_into_a_document() {
        let head = format!("{PAGE}etag: \"1\"\n x-build: 1");
        let Judged::Copy(copy) = judge(&class(), 200, &head) else {
            panic!("a page is copied")
        };
        let second = headers(&head);
        let second = SecondCopy {
            status: StatusCode::OK,
            headers: &second,
            body: b"Hello",
        };
        let page = copy.judge(b"Hello", &second).unwrap();
        for (lines, expected) in [
            ("etag: \"1\"\n cache-control: max-age=10", None),
            ("x-build: 1", None),
            (
                "x-build: 2",
                Some(NotShared::CopiesDiffer {
                    at: 0,
                    after: "header x-build:".into(),
                }),
            ),
        ] {
            let judged = fill(&class(), Some(page.clone())).judge(
                StatusCode::NOT_MODIFIED,
                headers(lines),
                true,
                NOW,
            );
            let got = match judged {
                Judged::Refreshed(_) => None,
                Judged::Relay(relay) => Some(relay.into_parts().2),
                other => panic!("{other:?}"),
            };
            assert_eq!(got, expected, "{lines}");
        }
    }

    #[test]
    fn an_object_is_only_for_requests_without_what_it_varies_on() {
        let nothing = Requester {
            credentials: false,
            cookie: false,
            authorization: false,
            origin: false,
        };
        let cookie = Requester {
            cookie: true,
            ..nothing
        };
        let authorization = Requester {
            authorization: true,
            ..nothing
        };
        let origin = Requester {
            origin: true,
            ..nothing
        };
        for (vary, requester, expected) in [
            ("Cookie", nothing, None),
            ("Cookie", cookie, Some("cookie")),
            ("Cookie", origin, None),
            ("Accept-Encoding", cookie, None),
            ("Authorization", authorization, Some("authorization")),
            ("Origin, Cookie", origin, Some("origin")),
        ] {
            let object = admitted(
                &class(),
                &format!("cache-control: max-age=60\n vary: {vary}"),
            );
            let got = object.reuse_by(&key(&class()), &class(), requester, false, NOW);
            let expected = expected.map_or(
                Reuse::Fresh {
                    ttl: Duration::from_secs(60),
                },
                Reuse::OnlyWithout,
            );
            assert_eq!(got, expected, "{vary} {requester:?}");
        }
    }

    #[test]
    fn an_object_is_judged_again_on_each_use() {
        let object = admitted(&class(), "cache-control: max-age=60");
        let nothing = Requester {
            credentials: false,
            cookie: false,
            authorization: false,
            origin: false,
        };
        let reuse = |class: &Class, invalidated| {
            object.reuse_by(object.key(), class, nothing, invalidated, NOW)
        };
        assert_eq!(
            reuse(&class(), false),
            Reuse::Fresh {
                ttl: Duration::from_secs(60)
            }
        );
        assert_eq!(reuse(&class(), true), Reuse::Stale { on_error: false });
        let no_images = Class {
            types: vec![TypePattern("text/css".into())],
            ..class()
        };
        assert_eq!(
            reuse(&no_images, false),
            Reuse::Dead(NotShared::Type("image/png".into()))
        );
        let only_404 = Class {
            statuses: [404].into(),
            ..class()
        };
        assert_eq!(reuse(&only_404, false), Reuse::Dead(NotShared::Status(200)));
        let other = Class {
            digest: ClassDigest(shikiri_record::Digest::of(b"other")),
            ..class()
        };
        assert_eq!(reuse(&other, false), Reuse::Dead(NotShared::RulesChanged));
    }

    #[test]
    #[should_panic(expected = "an object is looked up by its key")]
    fn an_object_under_another_key_is_never_judged() {
        let object = admitted(&class(), "cache-control: max-age=60");
        let other = Class {
            digest: ClassDigest(shikiri_record::Digest::of(b"other")),
            ..class()
        };
        let nothing = Requester {
            credentials: false,
            cookie: false,
            authorization: false,
            origin: false,
        };
        drop(object.reuse_by(&key(&other), &other, nothing, false, NOW));
    }

    #[cfg(feature = "seeded-faults")]
    #[test]
    fn the_planted_fault_stores_a_cookie() {
        crate::fault::set(Some(crate::fault::Fault::SetCookieStored));
        let object = admitted(&class(), "cache-control: max-age=60\n set-cookie: a=b");
        crate::fault::set(None);
        assert_eq!(object.stored_headers()["set-cookie"], "a=b");
    }
}
