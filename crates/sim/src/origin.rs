//! Origins: what they answer is a function of the request's bytes, of their own seed, and of how many
//! times they have seen these very bytes. Nothing else, however odd they are.
//!
//! They echo whatever they see into bodies, header fields, cookies and trailers; forbid sharing in
//! every spelling, or forget to; and break HTTP in every way in which origins do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::declassified::{answered, decided_by};
use crate::policy::{CREDENTIAL, GATE, REELS};
use crate::reel::{self, Reel};
use crate::rng::{Rng, hash, mix};
use crate::schedule::LABELS;
use crate::secret::{Who, masked, owners, stamp};
use crate::wire::{self, Body, field};
use crate::world::Clock;

/// What an origin was asked and what it made of it: one for each response.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The origin connection.
    pub(crate) connection: u32,
    /// When the request had come.
    pub(crate) at: u64,
    /// Whose secrets its bytes held.
    pub(crate) owners: BTreeSet<Who>,
    /// The number that every client's own request bears. A shared fetch has none.
    pub(crate) request: Option<u32>,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: String,
    /// The stamp of the response.
    pub(crate) stamp: u64,
    /// Its status.
    pub(crate) status: u16,
    /// The request bore the edge's own credential.
    pub(crate) bears_credential: bool,
    /// The request asked for a part of one version, and for no client.
    pub(crate) is_slice: bool,
    /// The response forbids that it be shared, or sets a cookie, or speaks to one client.
    pub(crate) forbids: bool,
    /// The response says that it would be another for a request with a cookie.
    pub(crate) only_without_cookie: bool,
    /// A second response that nobody asked for.
    pub(crate) surplus: bool,
    /// The first that is noted of its request.
    pub(crate) is_first: bool,
    /// The labels that the answer bears, as tags and as groups.
    pub(crate) labels: BTreeSet<&'static str>,
    /// This connection had had surplus bytes before.
    pub(crate) after_surplus: bool,
    /// The answer, in a few words.
    pub(crate) what: String,
}

/// All origins of one run.
#[derive(Debug)]
pub(crate) struct Origins {
    seed: u64,
    fault_percent: u64,
    veto_percent: u64,
    /// No time passes and nothing hangs: for real sockets.
    hurried: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    counts: BTreeMap<u64, u32>,
    asked: Vec<Asked>,
    connections: u32,
}

impl Origins {
    pub(crate) fn new(
        seed: u64,
        fault_percent: u64,
        veto_percent: u64,
        hurried: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            seed: mix(seed ^ 0x0716),
            fault_percent,
            veto_percent,
            hurried,
            seen: Mutex::default(),
        })
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.seen().asked.clone()
    }

    pub(crate) fn connections(&self) -> u32 {
        self.seen().connections
    }

    /// Serves one connection until it ends.
    pub(crate) async fn serve<IO>(self: Arc<Self>, host: &'static str, io: IO, clock: Clock)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let connection = {
            let mut seen = self.seen();
            seen.connections += 1;
            seen.connections
        };
        let mut wire = Wire {
            io,
            buffer: Vec::new(),
            late: Vec::new(),
        };
        let mut after_surplus = false;
        while let Some(head) = wire.head().await {
            let request = Incoming::of(&head);
            if request.expects
                && (self.hurried || hash(self.seed, &masked(&head)).is_multiple_of(3))
            {
                // It asks for the body before it says what it thinks of it.
                if wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_none() {
                    return;
                }
            }
            let Some(body) = wire.body(&request).await else {
                return;
            };
            let at = clock.now();
            let mut all = head.clone();
            all.extend_from_slice(&body);
            let answer = {
                let mut seen = self.seen();
                let count = seen.counts.entry(hash(self.seed, &all)).or_default();
                *count += 1;
                let answer = self.answer(host, &request, &all, *count);
                for (n, made) in answer.made.iter().enumerate() {
                    seen.asked.push(Asked {
                        connection,
                        at,
                        owners: owners(&all),
                        request: request.id,
                        method: request.method.clone(),
                        target: request.target.clone(),
                        host: request.host.clone(),
                        stamp: made.stamp,
                        status: made.status,
                        bears_credential: request.bears_credential,
                        is_slice: request.id.is_none() && request.wants.is_slice(),
                        forbids: made.forbids,
                        only_without_cookie: made.only_without_cookie,
                        surplus: made.surplus,
                        is_first: n == 0,
                        labels: self.labels(&request.target),
                        after_surplus,
                        what: answer.what.clone(),
                    });
                }
                answer
            };
            after_surplus |= answer.is_surplus;
            for doing in answer.doings {
                match doing {
                    Doing::Wait(ms) => {
                        clock
                            .sleep_until(answered(clock.now() + ms, request.lane))
                            .await;
                    }
                    Doing::Write(bytes) => {
                        if wire.send(&bytes).await.is_none() {
                            return;
                        }
                    }
                    Doing::Late(bytes) => wire.late = bytes,
                    Doing::Hang => std::future::pending().await,
                    Doing::Close => return,
                }
            }
        }
    }

    /// What a URL's answers are labelled with; of a secret in it nothing is known.
    fn labels(&self, target: &str) -> BTreeSet<&'static str> {
        let path = target.split('?').next().unwrap_or_default();
        let chosen = hash(self.seed ^ 0x1abe, &masked(path.as_bytes()));
        let labels = LABELS.iter().enumerate();
        labels
            .filter(|(n, _)| chosen >> n & 1 == 1)
            .map(|(_, label)| *label)
            .collect()
    }

    /// The answer to a request.
    fn answer(&self, host: &str, request: &Incoming, all: &[u8], count: u32) -> Answer {
        // What must not depend on secrets (see `declassified`): framing and delays where another
        // request follows; the whole outline of answers to unsafe methods; every delay.
        // Which of A's gates open decides what is fetched, and so when for others.
        let blind = request.steady || !request.is_safe() || request.asks_gate();
        let outline = Rng::new(decided_by(self.seed, count, all, blind));
        let timing = Rng::new(decided_by(self.seed ^ 0x71, count, all, true));
        let content = Rng::new(decided_by(self.seed ^ 0xc0, count, all, false));
        let path = request.target.split('?').next().unwrap_or_default();
        let route = Rng::new(hash(
            self.seed ^ hash(1, host.as_bytes()),
            &masked(path.as_bytes()),
        ));
        let making = Making {
            origins: self,
            request,
            outline,
            timing,
            content,
            route,
            of_a: owners(all).contains(&Who::A),
            made: Vec::new(),
            what: String::new(),
        };
        making.run(path, count, all)
    }
}

/// What came, taken apart.
#[derive(Debug)]
struct Incoming {
    method: String,
    target: String,
    host: String,
    id: Option<u32>,
    lane: Option<u64>,
    steady: bool,
    expects: bool,
    chunked: bool,
    length: usize,
    if_none_match: bool,
    range: bool,
    /// What it says of a part and of a version, for what is large.
    wants: reel::Wants,
    bears_credential: bool,
}

impl Incoming {
    fn of(head: &[u8]) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let number =
            |name: &str| field(head, name).and_then(|value| text(value).parse::<u64>().ok());
        let first = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let mut words = first.split(|b| *b == b' ').map(text);
        // `sim/7 3 steady`: the request's number, its lane, and what may depend on secrets.
        let agent = field(head, "user-agent").map(text).unwrap_or_default();
        let mut agent = agent.strip_prefix("sim/").unwrap_or_default().split(' ');
        Self {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            host: field(head, "host").map(text).unwrap_or_default(),
            id: agent.next().and_then(|id| id.parse().ok()),
            lane: agent.next().and_then(|lane| lane.parse().ok()),
            steady: agent.next() == Some("steady"),
            expects: field(head, "expect").is_some(),
            chunked: field(head, "transfer-encoding").is_some(),
            length: number("content-length")
                .and_then(|l| usize::try_from(l).ok())
                .unwrap_or(0),
            if_none_match: field(head, "if-none-match").is_some(),
            range: field(head, "range").is_some(),
            wants: reel::Wants::of(head),
            bears_credential: field(head, CREDENTIAL).is_some(),
        }
    }

    fn asks_gate(&self) -> bool {
        self.target.starts_with(GATE)
    }

    fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// A response that was made.
#[derive(Debug)]
struct Made {
    stamp: u64,
    status: u16,
    forbids: bool,
    only_without_cookie: bool,
    surplus: bool,
}

#[derive(Debug)]
struct Answer {
    doings: Vec<Doing>,
    made: Vec<Made>,
    is_surplus: bool,
    what: String,
}

#[derive(Debug)]
enum Doing {
    Wait(u64),
    Write(Vec<u8>),
    /// Written when the next request has begun to come, before its answer.
    Late(Vec<u8>),
    Hang,
    Close,
}

/// What a URL usually is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Public,
    Page,
    Personal,
    Redirect,
    Chaos,
}

/// How a response ends, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunks,
    Close,
    TooLong,
    TooShort,
    LengthAndChunks,
    TwoLengths,
    CutHead,
    CutBody,
    Nothing,
    HangHead,
    HangBody,
    Garbage,
    Switch,
    Interim(u16),
    Giant,
    Junk,
    Twice,
    TwiceLate,
    Slow,
    Http10,
}

const FAULTS: [Framing; 21] = [
    Framing::Close,
    Framing::TooLong,
    Framing::TooShort,
    Framing::LengthAndChunks,
    Framing::TwoLengths,
    Framing::CutHead,
    Framing::CutBody,
    Framing::Nothing,
    Framing::HangHead,
    Framing::HangBody,
    Framing::Garbage,
    Framing::Switch,
    Framing::Interim(100),
    Framing::Interim(103),
    Framing::Interim(199),
    Framing::Giant,
    Framing::Junk,
    Framing::Twice,
    Framing::TwiceLate,
    Framing::Slow,
    Framing::Http10,
];

/// What real sockets can be asked to carry twice with the same outcome.
const HURRIED: [Framing; 7] = [
    Framing::Close,
    Framing::TooLong,
    Framing::CutHead,
    Framing::CutBody,
    Framing::Nothing,
    Framing::Garbage,
    Framing::Switch,
];

/// The same, where only A can be confused.
const OF_A: [Framing; 12] = [
    Framing::TooLong,
    Framing::TooShort,
    Framing::LengthAndChunks,
    Framing::TwoLengths,
    Framing::CutBody,
    Framing::Garbage,
    Framing::Interim(103),
    Framing::Giant,
    Framing::Junk,
    Framing::Twice,
    Framing::TwiceLate,
    Framing::Http10,
];

const SHARED: [&str; 12] = [
    "public, max-age=60",
    "max-age=3600",
    "s-maxage=30, max-age=5",
    "Max-Age=600",
    "max-age=10, stale-while-revalidate=60, stale-if-error=600",
    "public, max-age=1, must-revalidate",
    "",
    "max-age=\"60\"",
    "max-age=5, stale-if-error=9999",
    "public, max-age=600",
    "max-age=120",
    "max-age=86400",
];
const FORBIDDEN: [&str; 14] = [
    "private",
    "no-store",
    "no-cache",
    "private, max-age=60",
    "No-Store",
    "PRIVATE",
    "max-age=60, no-store=1",
    "private=\"set-cookie\", max-age=60",
    "no-cache=\"x\", max-age=60",
    "max-age=60,,private",
    "no-store, public",
    "private,max-age=3600",
    "public, max-age=60, no-cache",
    "max-age=60;private",
];
const UNCLEAR: [&str; 6] = [
    "max-age=0",
    "max-age=-1",
    "max-age=banana",
    "max-age=1, max-age=99",
    "must-revalidate",
    "max-age = 60",
];

/// One answer in the making.
struct Making<'a> {
    origins: &'a Origins,
    request: &'a Incoming,
    /// Status, framing, prohibitions, where to.
    outline: Rng,
    timing: Rng,
    content: Rng,
    route: Rng,
    /// The request carries A's secrets.
    of_a: bool,
    made: Vec<Made>,
    what: String,
}

impl Making<'_> {
    fn run(mut self, path: &str, count: u32, all: &[u8]) -> Answer {
        let route = match self.route.below(20) {
            0..13 => Route::Public,
            13..16 => Route::Page,
            16..18 => Route::Personal,
            18 => Route::Redirect,
            _ => Route::Chaos,
        };
        let framing = self.framing();
        let delay = if self.origins.hurried {
            0
        } else {
            match self.timing.below(40) {
                0 => 70_000,
                1 => 12_000,
                2 => 9_990,
                _ => self
                    .timing
                    .pick(&[0, 0, 0, 2, 20, 50, 200, 200, 900, 3_000]),
            }
        };
        let first = self.response(route, path, count, all, framing, false);
        write!(self.what, "{route:?} {framing:?} +{delay}").expect("a string grows");
        let mut doings = vec![Doing::Wait(delay)];
        let mut is_surplus = matches!(framing, Framing::TooShort | Framing::Garbage);
        match framing {
            Framing::Nothing => doings.push(Doing::Close),
            Framing::HangHead => doings.push(Doing::Hang),
            Framing::CutHead => {
                doings.push(Doing::Write(first[..first.len().min(20)].to_vec()));
                doings.push(Doing::Close);
            }
            Framing::CutBody | Framing::HangBody => {
                let start = self.unbroken(&first);
                let keep = first.len() - (first.len() - start) / 6;
                doings.push(Doing::Write(first[..keep].to_vec()));
                doings.push(if framing == Framing::CutBody { Doing::Close } else { Doing::Hang });
            }
            Framing::Garbage => doings.push(Doing::Write(b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec())),
            Framing::Switch => doings.push(Doing::Write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello".to_vec())),
            Framing::Close | Framing::TooLong | Framing::Http10 => {
                doings.push(Doing::Write(first));
                doings.push(Doing::Close);
            }
            Framing::Interim(status) => {
                doings.push(Doing::Write(format!("HTTP/1.1 {status} Interim\r\nLink: </x>\r\n\r\n").into_bytes()));
                if !self.origins.hurried {
                    doings.push(Doing::Wait(32 * self.timing.below(40)));
                }
                doings.push(Doing::Write(first));
            }
            Framing::Twice | Framing::TwiceLate => {
                is_surplus = true;
                let second = self.response(route, path, count, all, Framing::Length, true);
                if framing == Framing::Twice {
                    doings.push(Doing::Write([first, second].concat()));
                } else {
                    doings.push(Doing::Write(first));
                    doings.push(Doing::Late(second));
                }
            }
            Framing::Slow => {
                let pieces = 2 + usize::try_from(self.timing.below(4)).expect("few");
                let wait = 32 * self.timing.pick(&[1, 10, 100, 600]);
                let (start, rest) = first.split_at(self.unbroken(&first));
                let mut pieces = rest.chunks(rest.len() / pieces + 1);
                let begins = [start, pieces.next().unwrap_or_default()].concat();
                for piece in std::iter::once(&begins[..]).chain(pieces) {
                    doings.push(Doing::Write(piece.to_vec()));
                    doings.push(Doing::Wait(wait));
                }
            }
            _ => doings.push(Doing::Write(first)),
        }
        Answer {
            doings,
            made: self.made,
            is_surplus,
            what: self.what,
        }
    }

    /// How much of an answer's beginning is left whole. Where no secret may decide when an answer begins,
    /// its head comes at once: its length is the secrets' to decide.
    fn unbroken(&self, answer: &[u8]) -> usize {
        let is_steady = self.request.steady;
        is_steady
            .then(|| wire::head_end(answer))
            .flatten()
            .unwrap_or(0)
    }

    fn framing(&mut self) -> Framing {
        let chance = self.origins.fault_percent;
        if self.outline.percent(chance) {
            // On a connection of A's own, what comes twice or late may come when it will.
            if self.origins.hurried && self.of_a {
                return self.outline.pick(&OF_A);
            }
            if self.origins.hurried {
                return self.outline.pick(&HURRIED);
            }
            return self.outline.pick(&FAULTS);
        }
        if self.outline.percent(30) {
            Framing::Chunks
        } else {
            Framing::Length
        }
    }

    /// One response, whole.
    fn response(
        &mut self,
        route: Route,
        path: &str,
        count: u32,
        all: &[u8],
        framing: Framing,
        surplus: bool,
    ) -> Vec<u8> {
        let number = mix(decided_by(
            self.origins.seed ^ u64::from(surplus),
            count,
            all,
            false,
        ));
        if path.starts_with(REELS) && self.request.is_safe() {
            return self.reel(number, framing, surplus);
        }
        let own = stamp(number);
        let noise = if self.origins.veto_percent == 0 { 0 } else { 8 };
        let mut forbids = false;
        let mut only_without_cookie = false;
        let mut fields = String::new();
        let mut say = |name: &str, value: &str| {
            if !value.is_empty() {
                write!(fields, "{name}: {value}\r\n").expect("a string grows");
            }
        };
        let echo: String = String::from_utf8_lossy(all)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(400)
            .collect();
        let since = self.made.len();
        let mut status: u16 = match route {
            _ if self.request.asks_gate() => self
                .outline
                .pick(&[200, 204, 204, 204, 204, 201, 302, 401, 403, 404, 500, 503]),
            Route::Redirect => self.route.pick(&[301, 302, 303, 307, 308]),
            Route::Chaos => self.outline.pick(&[
                200, 200, 201, 203, 204, 206, 300, 401, 403, 404, 410, 418, 429, 500, 502, 503, 599,
            ]),
            _ if self.outline.percent(noise) => self.outline.pick(&[404, 500, 503, 401, 204]),
            _ => 200,
        };
        // What the URL says of itself does not change from one request to the next.
        let etag = format!("\"v{}\"", self.route.below(3));
        let has_etag = self.route.percent(60);
        let has_modified = self.route.percent(40);
        let usual = self.route.pick(&SHARED);
        let vary = self.route.pick(&[
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "Accept-Encoding",
            "Accept-Language",
            "Accept-Encoding, Accept-Language",
        ]);
        let size = self.route.pick(&[0_usize, 40, 300, 900, 3_000, 20_000]);
        let kind = kind_of(path, route, &mut self.route);
        let mints = self.route.percent(8);
        let has_span = self.route.percent(10);

        let confirms =
            self.request.if_none_match && has_etag && status == 200 && self.outline.percent(80);
        if confirms {
            status = 304;
        }
        let mut cache_control = match route {
            Route::Chaos => match self.outline.below(3) {
                0 => self.outline.pick(&SHARED),
                1 => self.outline.pick(&UNCLEAR),
                _ => self.outline.pick(&FORBIDDEN),
            },
            // Half of what is personal forgets to say so.
            Route::Personal if self.route.percent(50) => self.route.pick(&FORBIDDEN),
            _ => usual,
        };
        if self.outline.percent(self.origins.veto_percent) {
            cache_control = self.outline.pick(&FORBIDDEN);
        }
        forbids |= FORBIDDEN.contains(&cache_control);
        say("Cache-Control", cache_control);
        if self.outline.percent(self.origins.veto_percent) {
            let how = self.outline.below(9);
            only_without_cookie = how == 2;
            forbids |= how != 2;
            match how {
                0 => say("WWW-Authenticate", "Basic realm=\"x\""),
                1 => say("Vary", "*"),
                2 => say("Vary", "Cookie"),
                3 => say("Vary", "Accept-Encoding, X-Unkeyed, Authorization"),
                4 => say("CDN-Cache-Control", "no-store"),
                5 => say("Surrogate-Control", "no-store"),
                6 => say("Clear-Site-Data", "\"cookies\""),
                7 => say("Access-Control-Allow-Origin", "http://evil.test"),
                _ => say("Cache-Control", "private"),
            }
        }
        let session = route == Route::Personal && self.route.percent(40);
        if session || self.outline.percent(self.origins.veto_percent) {
            forbids = true;
            say("Set-Cookie", &format!("sid={own}; Path=/"));
            if self.outline.percent(30) {
                // As long for every secret: what follows on the connection comes at the same byte.
                let seen = hash(3, echo.as_bytes());
                say("Set-Cookie", &format!("seen={seen:020}"));
            }
        }
        // A document comes in editions, each the same several times: nobody could share it otherwise.
        let is_html = kind.is_some_and(|kind| kind.starts_with("text/html"));
        let is_document =
            !forbids && !only_without_cookie && (is_html || (300..400).contains(&status));
        let edition = mix(decided_by(
            self.origins.seed ^ u64::from(surplus) ^ 0xed,
            count / 4,
            all,
            false,
        ));
        self.made.push(Made {
            stamp: number,
            status,
            forbids,
            only_without_cookie,
            surplus,
        });
        if is_document {
            self.made.push(Made {
                stamp: edition,
                status,
                forbids,
                only_without_cookie,
                surplus,
            });
        }
        let edition = if is_document {
            stamp(edition)
        } else {
            own.clone()
        };
        say("Vary", vary);
        let labels: Vec<&str> = self
            .origins
            .labels(&self.request.target)
            .into_iter()
            .collect();
        say("Cache-Tag", &labels.join(", "));
        let groups: Vec<String> = labels.iter().map(|label| format!("\"{label}\"")).collect();
        say("Cache-Groups", &groups.join(", "));
        if !self.request.is_safe() && labels.len() == 2 {
            say("Cache-Group-Invalidation", &groups[0]);
        }
        say("X-Stamp", &edition);
        if has_etag {
            say("ETag", &etag);
        }
        if has_modified {
            say("Last-Modified", "Tue, 14 Nov 2023 22:00:00 GMT");
        }
        if self.outline.percent(noise) {
            say(
                "Expires",
                self.outline.pick(&[
                    "0",
                    "-1",
                    "Thu, 01 Dec 1994 16:00:00 GMT",
                    "Fri, 14 Nov 2033 22:13:20 GMT",
                ]),
            );
        }
        if self.outline.percent(noise) {
            say("Age", self.outline.pick(&["0", "1", "59", "99999", "x"]));
        }
        if self.outline.percent(noise) {
            say(
                "Date",
                self.outline
                    .pick(&["Tue, 14 Nov 2023 22:13:20 GMT", "yesterday"]),
            );
        }
        if self.outline.percent(noise) {
            say("Access-Control-Allow-Origin", "*");
        }
        if self.outline.percent(noise) {
            // Tracing headers echo what they can get.
            say("X-Request-Id", &own);
            say("Server-Timing", "db;dur=1");
            say("Alt-Svc", "h3=\":443\"");
        }
        if self.content.percent(2 * noise) {
            say("X-Echo", &echo);
        }
        if (300..400).contains(&status) && status != 304
            || status == 201
            || self.outline.percent(noise)
        {
            // Most URLs lead to one place.
            let places = ["/", "/news/1", "http://shop.test/a.css", "/home?tok=@"];
            let usual = self.route.pick(&places);
            let to = if self.outline.percent(noise) {
                self.outline.pick(&places)
            } else {
                usual
            };
            // An unsafe method's `Location` names what it invalidates: no secret goes there.
            let token = if self.request.is_safe() {
                own.clone()
            } else {
                String::new()
            };
            say("Location", &to.replace('@', &token));
        }
        if self.outline.percent(noise) {
            say(
                "Content-Location",
                self.outline
                    .pick(&["/a.css", "/news/1", "http://other.test/"]),
            );
        }
        if self.outline.percent(noise) {
            say(
                "Connection",
                self.outline.pick(&[
                    "close",
                    "x-stamp",
                    "cache-control, set-cookie",
                    "keep-alive",
                ]),
            );
        }

        let mut body = Vec::new();
        if !matches!(status, 204 | 304) && self.request.method != "HEAD" {
            body = body_of(
                kind,
                mints.then_some(own.as_str()),
                has_span.then_some(own.as_str()),
                &edition,
                &echo,
                size,
            );
        }
        if let Some(kind) = kind
            && (!body.is_empty() || self.request.method == "HEAD")
        {
            say("Content-Type", kind);
        }
        if self.request.range && status == 200 && body.len() > 10 && self.outline.percent(60) {
            status = 206;
            say("Content-Range", &format!("bytes 0-9/{}", body.len()));
            body.truncate(10);
        }
        for made in &mut self.made[since..] {
            made.status = status;
        }
        self.framed(status, &fields, body, framing)
    }

    /// An answer of what is large: a version of it, or a part.
    fn reel(&mut self, number: u64, framing: Framing, surplus: bool) -> Vec<u8> {
        let reel = Reel::of(&self.request.wants, number, &mut self.outline);
        let (status, mut fields, body) = reel.answer(self.request.method == "HEAD");
        let mut say = |name: &str, value: &str| {
            write!(fields, "{name}: {value}\r\n").expect("a string grows");
        };
        let forbids = self.outline.percent(self.origins.veto_percent / 2);
        if forbids {
            say("Set-Cookie", &format!("sid={}; Path=/", stamp(number)));
        }
        let lives = self
            .route
            .pick(&["max-age=60", "max-age=3600", "max-age=5", ""]);
        if !lives.is_empty() {
            say("Cache-Control", lives);
        }
        let labels: Vec<&str> = self
            .origins
            .labels(&self.request.target)
            .into_iter()
            .collect();
        say("Cache-Tag", &labels.join(", "));
        let groups: Vec<String> = labels.iter().map(|label| format!("\"{label}\"")).collect();
        say("Cache-Groups", &groups.join(", "));
        say("X-Stamp", &stamp(number));
        self.made.push(Made {
            stamp: number,
            status,
            forbids,
            only_without_cookie: false,
            surplus,
        });
        self.framed(status, &fields, body, framing)
    }

    fn framed(&mut self, status: u16, fields: &str, body: Vec<u8>, framing: Framing) -> Vec<u8> {
        let version = if framing == Framing::Http10 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        let reason = if self.outline.percent(50) {
            "Whatever"
        } else {
            ""
        };
        let mut head = format!("{version} {status} {reason}\r\n{fields}").into_bytes();
        let mut say = |text: &str| head.extend_from_slice(text.as_bytes());
        let length = body.len();
        let bodiless = matches!(status, 204 | 304);
        match framing {
            Framing::Close | Framing::Http10 => {}
            Framing::TooLong => say(&format!("Content-Length: {}\r\n", length + 7)),
            Framing::TooShort => say(&format!("Content-Length: {}\r\n", length / 2)),
            Framing::LengthAndChunks => say(&format!(
                "Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"
            )),
            Framing::TwoLengths => say(&format!(
                "Content-Length: {length}\r\nContent-Length: {}\r\n",
                length + 1
            )),
            Framing::Giant => {
                say(&format!(
                    "X-Giant: {}\r\n",
                    "g".repeat(self.outline.pick(&[9_000, 70_000, 300_000]))
                ));
                say(&format!("Content-Length: {length}\r\n"));
            }
            Framing::Junk => {
                say(self.outline.pick(&[
                    " folded: x\r\n",
                    "no colon here\r\n",
                    "Bad Name: x\r\n",
                    "X-Nul: a\0b\r\n",
                    "X-Lf: a\nX-Other: b\r\n",
                ]));
                say(&format!("Content-Length: {length}\r\n"));
            }
            Framing::Chunks if !bodiless => {
                let trailer = self.outline.percent(30);
                say("Transfer-Encoding: chunked\r\n");
                if trailer {
                    say("Trailer: X-After\r\n");
                }
            }
            _ if bodiless => {}
            _ => say(&format!("Content-Length: {length}\r\n")),
        }
        say("\r\n");
        let has_chunks = matches!(framing, Framing::Chunks | Framing::LengthAndChunks) && !bodiless;
        if has_chunks && self.request.method != "HEAD" {
            let trailer = head.windows(8).any(|eight| eight == b"Trailer:");
            for piece in body.chunks(1 + length / 3) {
                head.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                head.extend_from_slice(piece);
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"0\r\n");
            if trailer {
                let stamp = self
                    .made
                    .last()
                    .map(|made| stamp(made.stamp))
                    .unwrap_or_default();
                head.extend_from_slice(format!("X-After: {stamp}\r\n").as_bytes());
            }
            head.extend_from_slice(b"\r\n");
        } else {
            head.extend_from_slice(&body);
        }
        head
    }
}

fn kind_of(path: &str, route: Route, rng: &mut Rng) -> Option<&'static str> {
    if rng.percent(10) {
        return rng.pick(&[
            None,
            Some("text/html"),
            Some("application/octet-stream"),
            Some("image/png"),
            Some("x"),
        ]);
    }
    let extension = path
        .rsplit('/')
        .next()
        .and_then(|last| last.rsplit_once('.'))
        .map(|(_, e)| e);
    Some(match extension {
        Some("css") => "text/css",
        Some("js") => "text/javascript; charset=utf-8",
        Some("png") => "image/png",
        Some("json") => "application/json",
        Some("woff2") => "font/woff2",
        _ if route == Route::Public => rng.pick(&["application/json", "text/plain", "text/html"]),
        _ => "text/html; charset=utf-8",
    })
}

/// A body that looks like its type. `minted`: what differs in every copy of a document; `span`: the
/// same within marks that a policy may declare volatile.
fn body_of(
    kind: Option<&str>,
    minted: Option<&str>,
    span: Option<&str>,
    own: &str,
    echo: &str,
    size: usize,
) -> Vec<u8> {
    let kind = kind.unwrap_or("text/plain");
    if kind.starts_with("image/png") {
        let mut body = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        body.extend_from_slice(own.as_bytes());
        body.extend_from_slice(echo.as_bytes());
        body.resize(body.len() + size, b'.');
        return body;
    }
    if kind.starts_with("font/") {
        let mut body = b"wOF2".to_vec();
        body.extend_from_slice(own.as_bytes());
        body.resize(body.len() + size, b'.');
        return body;
    }
    if kind.starts_with("text/html") {
        let minted = minted
            .map(|own| format!("<input type=hidden name=csrf value={own}>"))
            .unwrap_or_default();
        return format!(
            "<!doctype html><title>{own}</title><p>{echo} {}</p><!--v-->{}<!--/v-->{minted}",
            "text ".repeat(size / 5),
            span.unwrap_or_default(),
        )
        .into_bytes();
    }
    if kind.starts_with("application/json") {
        let echo = echo.replace(['"', '\\'], "'");
        return format!(
            "{{\"stamp\": \"{own}\", \"echo\": \"{echo}\", \"text\": \"{}\"}}",
            "x".repeat(size)
        )
        .into_bytes();
    }
    format!("/* {own} {echo} {} */", "x".repeat(size)).into_bytes()
}

/// One connection's bytes.
struct Wire<IO> {
    io: IO,
    buffer: Vec<u8>,
    late: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// Reads on; `None` when nothing more comes.
    async fn more(&mut self) -> Option<()> {
        let mut piece = [0; 4096];
        let count = self
            .io
            .read(&mut piece)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        self.buffer.extend_from_slice(&piece[..count]);
        if !self.late.is_empty() {
            let late = std::mem::take(&mut self.late);
            self.send(&late).await?;
        }
        Some(())
    }

    async fn head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = wire::head_end(&self.buffer) {
                return Some(self.buffer.drain(..end).collect());
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, request: &Incoming) -> Option<Vec<u8>> {
        loop {
            if request.chunked {
                match wire::chunked(&self.buffer) {
                    Body::Whole(body, took, _) => {
                        self.buffer.drain(..took);
                        return Some(body);
                    }
                    Body::Part(_) => {}
                    Body::Malformed => return None,
                }
            } else if self.buffer.len() >= request.length {
                return Some(self.buffer.drain(..request.length).collect());
            }
            self.more().await?;
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.io.write_all(bytes).await.ok()?;
        self.io.flush().await.ok()
    }
}
