//! Slots: the permission to show a response, and the rows that say that it was shown.
//!
//! A [`Slot`] is had before anything is looked up or asked. What holds an origin's or a stored byte (a
//! head is enough) becomes a [`Served`] response only by spending one, which appends its begin row;
//! the end row follows when its body ends or is dropped. What the node says itself holds neither, and
//! is counted.
//!
//! Never decides what is shown, nor to whom.
//!
//! Invariant: every request that was read ends in exactly one of these, and is counted as it:
//! a begin row, a response without one ([`OnFull::Pass`]), words of the node's own, or nothing, since
//! its client had gone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use shikiri_evidence::Reservation;
use shikiri_partition::{Class, PinFault, Refused, RequestHead, Session, Viewer};
use shikiri_record::{
    AddressTag, Begin, CookieTag, End, Ended, FillId, GrantId, Link, Mode, Outcome,
    ROW_COOKIES_MAX, TagKey, TargetTag, UnixMillis, ViewerTag,
};
use tokio::sync::mpsc;

use crate::body::{BodyFault, OutBody};
use crate::connection::{Connection, Exposed, Turn};
use crate::evidence::OnFull;
use crate::lane::{Lane, NoEvidence};
use crate::node::{Node, RequestPermit, Stance, Worker, count};
use crate::pin::Named;
use crate::trace::ServerSpan;
use crate::tunnel::{Switched, Tunnel};

/// What a request tells evidence, in tags.
#[derive(Clone)]
pub(crate) struct Facts {
    method: &'static str,
    pub(crate) target: TargetTag,
    viewer: Option<ViewerTag>,
    /// The class that claims it, once that is known.
    pub(crate) class: Option<Arc<Class>>,
    /// The preview grant that it came with.
    pub(crate) grant: Option<GrantId>,
}

impl Facts {
    pub(crate) fn of(
        key: &TagKey,
        session: &Session,
        head: &RequestHead<'_>,
        grant: Option<GrantId>,
    ) -> Self {
        let viewer = Viewer::of(session, head, head.certificate.as_ref());
        Self {
            method: method_name(head.method),
            target: head.target_tag(key),
            viewer: viewer.map(|viewer| viewer.tag(key)),
            class: None,
            grant,
        }
    }
}

/// A method's name, where it is one of HTTP's own: what a client makes up may say anything.
pub(crate) fn method_name(method: &Method) -> &'static str {
    const OWN: [&str; 8] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
    ];
    let own = OWN.iter().find(|own| **own == method.as_str());
    own.copied().unwrap_or("other")
}

/// What evidence says of a response that shows something.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) facts: Facts,
    pub(crate) outcome: Outcome,
    /// The reason's name; empty where the outcome says all.
    pub(crate) reason: &'static str,
    pub(crate) fill: Option<FillId>,
    /// What the origin says of whom it serves.
    pub(crate) named: Named,
}

impl Shown {
    pub(crate) fn new(facts: Facts, outcome: Outcome, reason: &'static str) -> Self {
        Self {
            facts,
            outcome,
            reason,
            fill: None,
            named: Named::default(),
        }
    }

    /// With whom the origin names. Where that does not fit, it is the reason.
    pub(crate) fn naming(self, named: Named) -> Self {
        Self {
            reason: named.fault.map_or(self.reason, PinFault::name),
            named,
            ..self
        }
    }

    pub(crate) fn of_fill(self, fill: FillId) -> Self {
        Self {
            fill: Some(fill),
            ..self
        }
    }
}

/// The node's own words: no origin's and no stored byte.
pub(crate) struct Own {
    words: Bytes,
    /// Why they are said, by its name.
    reason: &'static str,
}

impl Own {
    /// `words` are made of constants and of what this node knows of itself.
    pub(crate) const fn new(words: Bytes, reason: &'static str) -> Self {
        Self { words, reason }
    }

    /// The same without its body: the answer to `HEAD`.
    pub(crate) fn head_alone(self) -> Self {
        Self {
            words: Bytes::new(),
            ..self
        }
    }

    /// The same where something of an origin's goes with it, so that it needs its row.
    pub(crate) fn with_others(self) -> OutBody {
        OutBody::whole(self.words)
    }
}

/// An answer on its way to be served.
pub(crate) enum Answer {
    /// The node's own words.
    Own(Response<Own>),
    /// Something of an origin or of the store.
    Shown(Response<OutBody>, Shown),
    /// The head with which an origin switches protocols, and what comes after it.
    Switched(Response<()>, Shown, Switched),
}

impl Answer {
    /// Where it came from; `None`: the node's own words.
    pub(crate) const fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Own(_) => None,
            Self::Shown(_, shown) | Self::Switched(_, shown, _) => Some(shown.outcome),
        }
    }

    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Own(response) => response.headers_mut(),
            Self::Shown(response, _) => response.headers_mut(),
            Self::Switched(response, ..) => response.headers_mut(),
        }
    }

    /// The same without its body: the answer to `HEAD`.
    pub(crate) fn head_alone(self) -> Self {
        match self {
            Self::Own(response) => Self::Own(response.map(Own::head_alone)),
            Self::Shown(response, shown) => Self::Shown(response.map(|_| OutBody::empty()), shown),
            // Its request was a GET.
            switched @ Self::Switched(..) => switched,
        }
    }
}

/// The permission to show one response.
#[must_use]
pub(crate) struct Slot {
    rows: Rows,
    /// Space for its rows; without, it shows what is personal to its viewer alone, and is a gap.
    space: Option<Reservation>,
    unanswered: Unanswered,
}

/// A request that was read and has no answer yet. When it is given up, it is counted as that.
#[must_use]
pub(crate) struct Unanswered {
    node: Arc<Node>,
    is_answered: bool,
}

impl Unanswered {
    pub(crate) fn of(node: &Arc<Node>) -> Self {
        Self {
            node: Arc::clone(node),
            is_answered: false,
        }
    }

    /// There is an answer, which is counted as what it is.
    pub(crate) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.is_answered {
            // Whoever asked had gone before there was an answer.
            count(&self.node.counters.abandoned);
        }
    }
}

/// Where the rows of one request go, and what they all say.
#[derive(Clone)]
struct Rows {
    node: Arc<Node>,
    lane: Arc<Lane>,
    address: AddressTag,
    stance: Arc<Stance>,
    began: UnixMillis,
}

impl Slot {
    /// A slot for one request.
    ///
    /// # Errors
    /// There is no space for its rows.
    pub(crate) fn of(
        worker: &Worker,
        connection: &Connection,
        stance: &Arc<Stance>,
    ) -> Result<Self, Refused> {
        let node = worker.node();
        let space = match (worker.lane().reserve(), node.evidence().on_full) {
            (Ok(space), _) => Some(space),
            (Err(_), on_full) => {
                count(&node.counters.without_space);
                if on_full == OnFull::Refuse {
                    return Err(Refused::EvidenceFull);
                }
                None
            }
        };
        let rows = Rows {
            node: Arc::clone(node),
            lane: Arc::clone(worker.lane()),
            address: connection.address_tag(&stance.tags),
            stance: Arc::clone(stance),
            began: node.now(),
        };
        Ok(Self {
            rows,
            space,
            unanswered: Unanswered::of(node),
        })
    }

    /// The mode that its request is answered in, where the gate gave this one. Without rows, nothing is
    /// shared.
    pub(crate) fn mode(&self, mode: Mode) -> Mode {
        match self.space {
            Some(_) => mode,
            None => mode.min(Mode::Pass),
        }
    }

    /// Shows interim responses of an origin, each with rows of its own; `None` where the client's
    /// protocol has none, or there is no space for rows.
    pub(crate) fn interims(
        &self,
        turn: &Turn,
        facts: &Facts,
        why: &'static str,
    ) -> Option<Interims> {
        self.space.as_ref()?;
        Some(Interims {
            rows: self.rows.clone(),
            shown: Shown::new(facts.clone(), Outcome::Pass, why),
            client: turn.interim()?.clone(),
        })
    }

    /// Serves an answer: what shows something when its begin row is written.
    ///
    /// # Errors
    /// The row could not be written: nothing of the answer leaves, and its client is cut off.
    pub(crate) async fn serve(
        self,
        answer: Answer,
        connection: &Connection,
        turn: Turn,
        permit: RequestPermit,
        exposed: Exposed,
    ) -> Result<Response<Served>, NoEvidence> {
        let Self {
            rows,
            space,
            unanswered,
        } = self;
        unanswered.answered();
        let (response, shown) = match answer {
            Answer::Own(response) => {
                return Ok(Served::own(&rows.node, response, turn, Some(permit)));
            }
            Answer::Shown(response, shown) => (response, shown),
            Answer::Switched(response, shown, ends) => {
                rows.count_class(&shown);
                let ending = rows.open(space, &shown, response.status(), response.headers());
                turn.switch();
                let kept = Kept {
                    ending,
                    _held: (turn, permit, exposed),
                };
                written(kept.ending.as_ref()).await?;
                connection.open(Tunnel { ends, kept });
                return Ok(response.map(|()| Served::nothing()));
            }
        };
        rows.count_class(&shown);
        let ending = rows.open(space, &shown, response.status(), response.headers());
        let response = response.map(|body| Served {
            body: Content::Shown(body),
            ending,
            exposed: Some(exposed),
            span: None,
            _held: Some((turn, Some(permit))),
        });
        // Given up meanwhile, it ends like one that had begun to leave: its row says so already.
        written(response.body().ending.as_ref()).await?;
        Ok(response)
    }
}

/// Waits until what ends here has begun on the disk.
async fn written(ending: Option<&Ending>) -> Result<(), NoEvidence> {
    match ending {
        Some(ending) => ending.rows.lane.written(ending.begin).await,
        None => Ok(()),
    }
}

impl Rows {
    fn count_class(&self, shown: &Shown) {
        let class = shown.facts.class.as_ref();
        let class = class.map_or("personal", |class| &class.name);
        self.node.meters.classes.count(class, shown.outcome);
    }

    /// Appends the begin row, if there is space; what is returned appends the end row.
    fn open(
        self,
        space: Option<Reservation>,
        shown: &Shown,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Ending> {
        let counters = &self.node.counters;
        #[cfg(feature = "seeded-faults")]
        if shown.outcome == Outcome::Hit
            && shikiri_partition::fault::is(shikiri_partition::fault::Fault::NoRow)
        {
            return None;
        }
        let Some(mut space) = space else {
            assert!(
                matches!(shown.outcome, Outcome::Pass | Outcome::Tunnel),
                "without a row only what is personal to its viewer is shown"
            );
            count(&counters.gaps);
            self.lane.count_gap(self.began);
            return None;
        };
        count(&counters.rows);
        let begin = self.begin(&mut space, shown, status, headers);
        Some(Ending {
            rows: self,
            space,
            begin,
            bytes: 0,
            declared: declared(headers),
            ended: None,
        })
    }

    /// Appends a begin row.
    fn begin(
        &self,
        space: &mut Reservation,
        shown: &Shown,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> u64 {
        let (cookies, cookies_set) = cookie_tags(&self.stance.tags.key, headers);
        let facts = &shown.facts;
        let begin = Begin {
            began: self.began,
            outcome: shown.outcome,
            reason: shown.reason,
            status: status.as_u16(),
            method: facts.method,
            class: facts.class.as_ref().map_or("personal", |class| &class.name),
            page: shown.named.page.as_deref(),
            target: facts.target,
            address: self.address,
            viewer: facts.viewer,
            viewer_member: shown.named.viewer,
            owner: shown.named.owner,
            fill: shown.fill,
            grant: facts.grant,
            cookies,
            cookies_set,
        };
        let sequence = self
            .lane
            .begin(space, self.node.now(), &self.stance, &begin);
        if let Some((event, viewer)) = shown.named.link {
            let link = Link {
                event,
                viewer,
                member: shown.named.viewer,
                begin: Some(sequence),
            };
            self.lane.link(space, self.node.now(), link);
        }
        sequence
    }

    /// Whether what is given up now was cut by us: the node stops, or was closed since.
    fn are_cut(&self) -> bool {
        let closed = self.node.stance().mode == Mode::Closed;
        self.lane.cuts_all() || closed && self.stance.mode != Mode::Closed
    }

    /// Appends the end row.
    fn end(&self, space: &mut Reservation, end: End) {
        self.lane.end(space, self.node.now(), end);
    }
}

/// Shows interim responses (1xx) of an origin to the client of a pass. Each holds what the origin
/// says, so each has a begin row, and an end row at once.
#[derive(Clone)]
pub(crate) struct Interims {
    rows: Rows,
    shown: Shown,
    client: mpsc::Sender<Response<()>>,
}

impl Interims {
    /// Shows one. It is a hint: one too many, or too late, or without space for its rows, is left out.
    pub(crate) fn show(&self, interim: Response<()>) {
        let (Ok(mut space), Ok(place)) = (self.rows.lane.reserve(), self.client.try_reserve())
        else {
            return;
        };
        let begin = self
            .rows
            .begin(&mut space, &self.shown, interim.status(), interim.headers());
        let end = End {
            begin,
            ended: Ended::Complete,
            bytes: 0,
        };
        self.rows.end(&mut space, end);
        // They are rare, and come in an order: nobody else is waited for.
        if self.rows.lane.flush().is_ok() {
            place.send(interim);
        }
    }
}

/// The tags of the cookies that a response sets: the first of them, and how many there are.
fn cookie_tags(key: &TagKey, headers: &HeaderMap) -> (Vec<CookieTag>, u16) {
    let mut tags = Vec::new();
    let mut set = 0_u16;
    for line in headers.get_all(SET_COOKIE) {
        set = set.saturating_add(1);
        if tags.len() < ROW_COOKIES_MAX {
            tags.push(cookie_tag(key, line.as_bytes()));
        }
    }
    (tags, set)
}

/// The tag of what a `Set-Cookie` line sets: name and value, without its attributes.
fn cookie_tag(key: &TagKey, line: &[u8]) -> CookieTag {
    let pair = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let equals = pair.iter().position(|byte| *byte == b'=');
    let (name, value) = equals.map_or((&b""[..], pair), |at| (&pair[..at], &pair[at + 1..]));
    CookieTag::of(key, &[name.trim_ascii(), value.trim_ascii()])
}

/// The length that a response declares.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The duty to append the end row. When it is dropped, the response has ended.
pub(crate) struct Ending {
    rows: Rows,
    space: Reservation,
    begin: u64,
    bytes: u64,
    /// How many bytes the response says that it has: whoever sends it asks for no more.
    declared: Option<u64>,
    ended: Option<Ended>,
}

impl Ending {
    /// So many more bytes were handed to the connection.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).expect("a length fits 64 bits");
        if self.declared == Some(self.bytes) {
            self.ends(Ended::Complete);
        }
    }

    /// How it ended, as far as that is known before it is dropped. What is said first stays.
    pub(crate) fn ends(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let given_up = if self.rows.are_cut() {
            Ended::Cut
        } else {
            Ended::Aborted
        };
        let end = End {
            begin: self.begin,
            ended: self.ended.unwrap_or(given_up),
            bytes: self.bytes,
        };
        self.rows.end(&mut self.space, end);
        count(&self.rows.node.counters.ends);
    }
}

/// The body of a response that may be served.
pub(crate) struct Served {
    body: Content,
    ending: Option<Ending>,
    /// What a closing cuts, until its last byte has left.
    exposed: Option<Exposed>,
    /// What traces tell of it.
    span: Option<Box<ServerSpan>>,
    // Held until the last byte has left: a response being sent is a request being answered.
    _held: Option<(Turn, Option<RequestPermit>)>,
}

enum Content {
    Own(Own),
    Shown(OutBody),
}

impl Served {
    /// The node's own words.
    pub(crate) fn own(
        node: &Node,
        response: Response<Own>,
        turn: Turn,
        permit: Option<RequestPermit>,
    ) -> Response<Self> {
        count(&node.counters.own);
        response.map(|own| Self {
            body: Content::Own(own),
            ending: None,
            exposed: None,
            span: None,
            _held: Some((turn, permit)),
        })
    }

    /// What follows the head of a switch of protocols, for HTTP.
    const fn nothing() -> Self {
        Self {
            body: Content::Own(Own::new(Bytes::new(), "")),
            ending: None,
            exposed: None,
            span: None,
            _held: None,
        }
    }

    /// Why the node says this itself, where it does.
    pub(crate) const fn own_reason(&self) -> Option<&'static str> {
        match &self.body {
            Content::Own(own) if !own.reason.is_empty() => Some(own.reason),
            _ => None,
        }
    }

    /// A span that goes on until the last byte has left.
    pub(crate) fn trace(&mut self, span: Box<ServerSpan>) {
        self.span = Some(span);
    }
}

/// What a tunnel holds until its last byte has left, as [`Served`] does for other answers.
pub(crate) struct Kept {
    ending: Option<Ending>,
    _held: (Turn, RequestPermit, Exposed),
}

impl Kept {
    /// The client has taken so many bytes in all.
    pub(crate) const fn took(&mut self, bytes: u64) {
        if let Some(ending) = &mut self.ending {
            ending.bytes = bytes;
        }
    }

    /// How it ended.
    pub(crate) fn ends(&mut self, ended: Ended) {
        if let Some(ending) = &mut self.ending {
            ending.ends(ended);
        }
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let body = match &mut self.body {
            Content::Own(own) => {
                let words = std::mem::take(&mut own.words);
                if let Some(span) = &mut self.span {
                    span.add(words.len());
                }
                return Poll::Ready((!words.is_empty()).then(|| Ok(Frame::data(words))));
            }
            Content::Shown(body) => body,
        };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = &frame
            && body.size_hint().exact().is_none()
            && let Some(exposed) = &self.exposed
        {
            exposed.breaks_off();
        }
        if let Some(span) = &mut self.span {
            match &frame {
                Poll::Ready(Some(Ok(frame))) => span.add(frame.data_ref().map_or(0, Bytes::len)),
                Poll::Ready(Some(Err(_))) => span.breaks(),
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
        if let Some(ending) = &mut self.ending {
            match &frame {
                Poll::Ready(Some(Ok(frame))) => {
                    ending.add(frame.data_ref().map_or(0, Bytes::len));
                    if frame.is_trailers() {
                        // Nothing comes after them, and nobody asks.
                        ending.ends(Ended::Complete);
                    }
                }
                Poll::Ready(Some(Err(_))) => ending.ends(Ended::Broken),
                Poll::Ready(None) => ending.ends(Ended::Complete),
                Poll::Pending => {}
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Content::Own(own) => own.words.is_empty(),
            Content::Shown(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Own(own) => {
                SizeHint::with_exact(u64::try_from(own.words.len()).expect("a length fits 64 bits"))
            }
            Content::Shown(body) => body.size_hint(),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Whoever sends it does not ask for more when it knows that there is none.
        if self.is_end_stream()
            && let Some(ending) = &mut self.ending
        {
            ending.ends(Ended::Complete);
        }
    }
}
