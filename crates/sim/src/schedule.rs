//! Schedules: who does what when, from a seed.
//!
//! A schedule never looks at an answer: every event has its instant before the run begins. So what
//! one answer looks like cannot change what anybody does next, and the two runs of one schedule differ
//! in A's secrets alone.

use shikiri_record::{Mode, PurgeTarget};

use crate::declassified::instant;
use crate::policy::{Policy, REELS};
use crate::rng::{Rng, mix};
use crate::secret::{Kind, Secrets, Who};

/// All that happens in one run.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) policies: Vec<Policy>,
    pub(crate) clients: Vec<Client>,
    pub(crate) controls: Vec<Control>,
    pub(crate) outages: Vec<Outage>,
    pub(crate) keeping: Keeping,
    pub(crate) workers: usize,
    /// Bytes that a pipe to an origin holds.
    pub(crate) origin_pipe_bytes: usize,
    /// How often, in percent, an origin breaks its framing or hangs.
    pub(crate) fault_percent: u64,
    /// How often, in percent, an origin forbids sharing where it usually does not.
    pub(crate) veto_percent: u64,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// With prior knowledge; several requests at once.
    Http2,
}

/// One client connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) protocol: Protocol,
    /// Bytes of one answer that may be on their way, on HTTP/2.
    pub(crate) window: u32,
    pub(crate) lane: u64,
    pub(crate) address: [u8; 4],
    pub(crate) secure: Option<Secure>,
    pub(crate) worker: usize,
    pub(crate) pipe_bytes: usize,
    /// Answers are not read before this.
    pub(crate) reads_from: u64,
    pub(crate) steps: Vec<Step>,
}

/// What a TLS handshake would have told. Its records are bytes like any others, and different ones each
/// time: they are for real sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secure {
    /// The server name that the client sent.
    pub(crate) name: &'static str,
    /// Whose certificate the client showed.
    pub(crate) certificate: Option<Who>,
}

/// Something that a client does.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) action: Action,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Send(Box<Request>),
    /// The body of a request, when it did not go with its head. On HTTP/1 it is the request before.
    Body {
        of: u32,
        who: Who,
        text: String,
        chunked: bool,
    },
    /// The client gives one request up, on HTTP/2.
    Reset(u32),
    /// The client ends its side, and reads on.
    HalfClose,
    /// The client goes away.
    Abort,
}

impl Step {
    /// The number of the request that this belongs to.
    pub(crate) fn of(&self) -> Option<u32> {
        match &self.action {
            Action::Send(request) => Some(request.id),
            Action::Body { of, .. } | Action::Reset(of) => Some(*of),
            Action::HalfClose | Action::Abort => None,
        }
    }
}

/// A request, with names in place of secrets.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Sent in `User-Agent`, with the lane: no two requests have the same.
    pub(crate) id: u32,
    pub(crate) who: Who,
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) target: String,
    pub(crate) version: &'static str,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Option<String>,
    pub(crate) chunked: bool,
    /// The body follows in a step of its own.
    pub(crate) body_later: bool,
    /// The answer's body is not taken before this, on HTTP/2.
    pub(crate) takes_from: u64,
}

/// Something that the operator does.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) at: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Purge(PurgeTarget),
    Reload(usize),
    Mode(Mode),
    /// Looks after the node, as its timer does: whether the clock has jumped, too.
    Sweep,
    /// The clock on the wall jumps, by so many milliseconds.
    Jump(i64),
    Disk(Disk),
    /// The disk is copied as it is: what a node that is killed now would leave.
    Copy,
}

/// What becomes of the disk that evidence is kept on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disk {
    /// Every write fails.
    Fails,
    Works,
    /// It holds so many bytes.
    Holds(u64),
}

/// How evidence is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping {
    /// What its disk holds.
    pub(crate) bytes: u64,
    /// Whether requests pass without rows when there is no space for any; otherwise they are refused.
    pub(crate) passes: bool,
}

impl Keeping {
    /// A segment, the least that can be set aside.
    pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;
    /// More than any schedule needs.
    pub(crate) const AMPLE: u64 = 1 << 30;
}

/// A time in which an origin takes no connections.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) host: &'static str,
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// Connecting hangs, rather than fails.
    pub(crate) hangs: bool,
}

/// The least time after which an idle connection may be closed.
const IDLE_MILLIS: u64 = 60_000;

/// What origins label their answers with.
pub(crate) const LABELS: [&str; 3] = ["red", "blue", "green"];

const PLAIN: [&str; 14] = [
    "/a.css",
    "/js/app.js",
    "/img/p.png",
    "/data.json",
    "/",
    "/news/1",
    "/news/1?page=2",
    "/index.html",
    "/account",
    "/account/a.css",
    "/api/me",
    "/go",
    "/fonts/f.woff2",
    "/about",
];
const ODD: [&str; 8] = [
    "/news/1?page=2&utm_source=x",
    "/echo?q=1",
    "/my%20page",
    "/x;y.css",
    "/a//b.css",
    "/%2e%2e/a.css",
    "/list?page=1&page=2",
    "/account?",
];
/// What only some may see.
const GATED: [&str; 4] = ["/films/1", "/films/1", "/films/2?page=2", "/films/a.css"];
/// What is large, and wanted in parts.
const LARGE: [&str; 3] = ["/reels/1", "/reels/2", "/reels/a.css"];
const SEEKS: [&str; 8] = [
    "bytes=0-99",
    "bytes=5000-",
    "bytes=-100",
    "bytes=4000-4200",
    "bytes=9000-9099",
    "bytes=8192-8192",
    "bytes=0-1,4-9",
    "bytes=99999-",
];
const TOKENED: [&str; 6] = [
    "/u/@url@",
    "/reset?token=@url@",
    "/home?sid=@url@",
    "/page?t=@url@",
    "/dl/@url@/file.pdf",
    "/a.css?session=@url@",
];

impl Schedule {
    /// The schedule of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // From numbers of their own: the rest of a schedule is what it was before there were any.
        let mut gates = Rng::new(mix(seed ^ 0x6a7e));
        let has_gates = gates.percent(20);
        let mut reels = Rng::new(mix(seed ^ 0x4ee1));
        let has_reels = reels.percent(12);
        let policies = (0..1 + rng.below(3)).map(|n| {
            let mut rng = Rng::new(mix(seed ^ (n << 32)));
            let policy = Policy::random(&mut rng, n);
            let policy = if has_gates {
                policy.gated(&mut gates)
            } else {
                policy
            };
            if has_reels {
                policy.sliced(&mut reels)
            } else {
                policy
            }
        });
        let policies: Vec<Policy> = policies.collect();
        let mut maker = Maker::new(&mut rng);
        let tight = rng.percent(10);
        let fails = rng.percent(10);
        maker.alike = tight || fails;
        if has_gates {
            maker.urls[0] = gates.pick(&GATED);
        }
        if has_reels {
            maker.urls[0] = reels.pick(&LARGE);
            maker.seeks = Some(reels);
        }
        let mut clients = Vec::new();
        let (of_a, of_b, of_c) = (1 + rng.below(3), 1 + rng.below(3), rng.below(3));
        for n in 0..of_a {
            clients.push(maker.client(&mut rng, Some(Who::A), 2 * n + 1));
        }
        for n in 0..of_b {
            clients.push(maker.client(&mut rng, Some(Who::B), 2 * n + 2));
        }
        for n in 0..of_c {
            clients.push(maker.client(&mut rng, Some(Who::C), 2 * n + 10));
        }
        if rng.percent(20) {
            clients.push(maker.client(&mut rng, None, 9));
        }
        if tight && rng.percent(60) {
            clients.push(maker.crowd(&mut rng, 12));
        }
        let mut controls = maker.troubles(&mut rng, tight, fails);
        for _ in 0..rng.below(4) {
            let at = instant(maker.time(&mut rng), 0);
            let what = match rng.below(10) {
                0..3 => What::Purge(PurgeTarget::All),
                3..6 => {
                    let secure = maker.secure > 0 && rng.percent(50);
                    let scheme = if secure { "https" } else { "http" };
                    let url = rng.pick(&maker.urls);
                    What::Purge(PurgeTarget::Uri(format!("{scheme}://{}{url}", maker.host)))
                }
                6..9 => What::Reload(rng.index(policies.len())),
                _ => What::Sweep,
            };
            controls.push(Control { at, what });
        }
        if rng.percent(25) {
            let at = instant(maker.time(&mut rng), 0);
            let by = rng.pick(&[3_000, 3_600_000, 864_000_000]);
            let by = if rng.percent(50) { by } else { -by };
            let noticed = at + rng.pick(&[32, 64, 320, 4_992]);
            controls.extend(
                [(at, What::Jump(by)), (noticed, What::Sweep)]
                    .map(|(at, what)| Control { at, what }),
            );
        }
        // From numbers of their own: the rest of a schedule is what it was before there were any.
        let mut modes = Rng::new(mix(seed ^ 0x30de));
        controls.extend(maker.changes(&mut modes));
        controls.sort_by_key(|control| control.at);
        // Instants of their own: what came first is never a question.
        for n in 1..controls.len() {
            controls[n].at = controls[n].at.max(controls[n - 1].at + 32);
        }
        let mut outages = Vec::new();
        if rng.percent(15) {
            let from = instant(maker.time(&mut rng), 0);
            outages.push(Outage {
                host: rng.pick(&["o1.test", "o2.test"]),
                from,
                until: from + rng.below(20_000),
                hangs: rng.percent(30),
            });
        }
        Self {
            seed,
            policies,
            clients,
            controls,
            outages,
            keeping: Keeping {
                bytes: if tight {
                    rng.below(4) * Keeping::SEGMENT_BYTES
                } else {
                    Keeping::AMPLE
                },
                passes: rng.percent(50),
            },
            workers: 1 + rng.index(2),
            origin_pipe_bytes: rng.pick(&[256, 2048, 65_536]),
            fault_percent: rng.pick(&[0, 0, 5, 25]),
            veto_percent: rng.pick(&[0, 0, 5, 25]),
        }
    }

    /// Whether there may be no space for evidence at some time.
    pub(crate) fn wants_space(&self) -> bool {
        let mut all = self.controls.iter();
        self.keeping.bytes < Keeping::AMPLE
            || all.any(|control| matches!(control.what, What::Disk(Disk::Fails)))
    }

    /// When the last thing is done that this schedule says.
    pub(crate) fn last_at(&self) -> u64 {
        let steps = self.clients.iter().flat_map(|client| &client.steps);
        let takes = steps.clone().filter_map(|step| match &step.action {
            Action::Send(request) => Some(request.takes_from),
            _ => None,
        });
        let reads = self.clients.iter().map(|client| client.reads_from);
        let controls = self.controls.iter().map(|control| control.at);
        steps
            .map(|step| step.at)
            .chain(takes)
            .chain(reads)
            .chain(controls)
            .max()
            .unwrap_or(0)
    }
}

/// What the requests of one schedule have in common: the fewer URLs and instants, the more they meet.
struct Maker {
    urls: Vec<&'static str>,
    host: &'static str,
    times: Vec<u64>,
    /// How often, in percent, a client speaks HTTP/2.
    http2: u64,
    /// How often, in percent, a request has each of the odd fields.
    noise: u64,
    /// Every answer to A has an outline without the secrets (see `declassified`).
    alike: bool,
    /// How often, in percent, a client comes over TLS.
    secure: u64,
    /// How often, in percent, a request is none for a page.
    acts: u64,
    /// What is large is wanted in parts that come from these numbers.
    seeks: Option<Rng>,
    next_id: u32,
}

impl Maker {
    fn new(rng: &mut Rng) -> Self {
        let mut urls = vec![rng.pick(&PLAIN)];
        for _ in 0..rng.below(3) {
            urls.push(if rng.percent(75) {
                rng.pick(&PLAIN)
            } else {
                rng.pick(&ODD)
            });
        }
        let mut at = 0;
        let times = (0..1 + rng.below(4)).map(|_| {
            at += rng.pick(&[0, 320, 2_000, 8_000, 30_000, 100_000, 4_000_000]);
            at
        });
        let times = times.collect();
        Self {
            urls,
            host: if rng.percent(80) {
                "shop.test"
            } else {
                "other.test"
            },
            times,
            http2: rng.pick(&[0, 50, 50, 100]),
            noise: rng.pick(&[0, 4, 12]),
            alike: false,
            secure: rng.pick(&[0, 0, 50, 100]),
            acts: rng.pick(&[0, 10, 30]),
            seeks: None,
            next_id: 0,
        }
    }

    /// Changes of the mode, and purges of several things together.
    fn changes(&self, rng: &mut Rng) -> Vec<Control> {
        let mut changes = Vec::new();
        let count = if rng.percent(40) { 1 + rng.below(3) } else { 0 };
        for _ in 0..count {
            let at = instant(self.time(rng), 0);
            let host = self.host.to_owned();
            let label = (*rng.pick(&LABELS)).to_owned();
            let what = match rng.below(10) {
                0 => {
                    let path = rng.pick(&["/", "/news", "/a", "/img/", "/js/app.js"]);
                    let scheme = rng.pick(&["http", "http", "https"]);
                    What::Purge(PurgeTarget::Prefix(format!("{scheme}://{host}{path}")))
                }
                1 | 2 => {
                    let host = rng.percent(50).then_some(host);
                    What::Purge(PurgeTarget::Tag { tag: label, host })
                }
                3 => What::Purge(PurgeTarget::Group { group: label, host }),
                4 | 5 => What::Mode(Mode::Closed),
                6 | 7 => What::Mode(Mode::Pass),
                8 => What::Mode(Mode::Static),
                _ => What::Mode(Mode::Open),
            };
            changes.push(Control { at, what });
            // Most stops are followed by an opening, some at once.
            if matches!(changes.last(), Some(Control { what: What::Mode(mode), .. }) if *mode != Mode::Open)
                && rng.percent(60)
            {
                let later = rng.pick(&[32, 640, 3_200, 20_000, 100_000]);
                let mode = rng.pick(&[Mode::Open, Mode::Open, Mode::Static, Mode::Pass]);
                changes.push(Control {
                    at: instant(at + later, 0),
                    what: What::Mode(mode),
                });
            }
        }
        changes
    }

    fn time(&self, rng: &mut Rng) -> u64 {
        rng.pick(&self.times) + rng.below(300)
    }

    /// A connection; of nobody in particular: one on which A and B take turns.
    fn client(&mut self, rng: &mut Rng, who: Option<Who>, lane: u64) -> Client {
        let protocol = if rng.percent(self.http2) {
            Protocol::Http2
        } else {
            Protocol::Http1
        };
        let is_http2 = protocol == Protocol::Http2;
        let count = if who == Some(Who::A) && rng.percent(50) {
            1
        } else {
            1 + rng.below(if is_http2 { 6 } else { 4 })
        };
        let mut times: Vec<u64> = (0..count).map(|_| instant(self.time(rng), lane)).collect();
        times.sort_unstable();
        // How long an answer of A's is must not decide when A's next request is taken up.
        let is_alone = count == 1 && !self.alike;
        let patient = who == Some(Who::B) || who == Some(Who::C) || is_alone;
        // On HTTP/2 nothing follows behind an answer, and no fault of its framing delays another; but
        // how long the connection is idle after it decides whether one that comes late is sent.
        let is_long = times
            .last()
            .is_some_and(|last| last - times[0] >= IDLE_MILLIS);
        let is_followed = count > 1 && (!is_http2 || who.is_none() || self.acts > 0 || is_long);
        let steady = self.alike || is_followed;
        let mut steps: Vec<Step> = Vec::new();
        let way = rng.below(5);
        for at in times {
            let whose = who.unwrap_or(if rng.percent(50) { Who::A } else { Who::B });
            // Where A and B take turns, what B does, and what is answered to it, falls on instants of B's own:
            // or whose gate opens first, and who then leads, would be a tie that A's answers decide.
            let lane = match (who, whose) {
                (None, Who::B) => lane - 1,
                _ => lane,
            };
            let who = whose;
            let at = match steps.last() {
                Some(last) if !is_http2 => instant(at.max(last.at), lane),
                _ => instant(at, lane),
            };
            let mut request = self.request(rng, who, way, lane, steady);
            if is_http2 && patient && rng.percent(8) {
                request.takes_from = instant(at + rng.below(90_000), lane);
            }
            let of = request.id;
            let body_later = request.body.clone().filter(|_| request.body_later);
            let chunked = request.chunked;
            steps.push(Step {
                at,
                action: Action::Send(Box::new(request)),
            });
            if let Some(text) = body_later {
                steps.push(Step {
                    at: instant(at + rng.pick(&[32, 640, 3_200]), lane),
                    action: Action::Body {
                        of,
                        who,
                        text,
                        chunked,
                    },
                });
            }
            if is_http2 && rng.percent(6) {
                steps.push(Step {
                    at: instant(at + rng.pick(&[0, 32, 320, 3_200]), lane),
                    action: Action::Reset(of),
                });
            }
        }
        // On HTTP/2 one request's body does not hold the next request up.
        steps.sort_by_key(|step| step.at);
        let last = steps.last().map_or(0, |step| step.at);
        if rng.percent(15) {
            let at = instant(last + rng.pick(&[0, 32, 64, 320, 5_000]), lane);
            let action = if rng.percent(70) {
                Action::Abort
            } else {
                Action::HalfClose
            };
            steps.push(Step { at, action });
        }
        let reads_from = if patient && rng.percent(8) {
            instant(last + rng.below(90_000), lane)
        } else {
            0
        };
        Client {
            protocol,
            window: rng.pick(&[200, 65_535, 65_535, 1_000_000]),
            lane,
            address: [10, 0, 1, u8::try_from(lane).expect("few lanes")],
            secure: rng.percent(self.secure).then(|| Secure {
                name: self.host,
                // On a connection of A and B, no certificate is anybody's.
                certificate: who.filter(|who| *who != Who::C && rng.percent(40)),
            }),
            worker: rng.index(2),
            pipe_bytes: rng.pick(&[128, 2048, 65_536]),
            reads_from,
            steps,
        }
    }

    /// Many visitors' requests at once on one connection: more than there is space for rows.
    fn crowd(&mut self, rng: &mut Rng, lane: u64) -> Client {
        let at = instant(self.time(rng), lane);
        let requests = (0..60 + rng.below(35)).map(|_| Step {
            at,
            action: Action::Send(Box::new(self.request(rng, Who::C, 4, lane, false))),
        });
        let steps = requests.collect();
        let mut client = self.client(rng, Some(Who::C), lane);
        client.protocol = Protocol::Http2;
        client.window = 65_535;
        client.steps = steps;
        client
    }

    /// What becomes of the disk, and when it is copied.
    fn troubles(&self, rng: &mut Rng, tight: bool, fails: bool) -> Vec<Control> {
        let mut controls = Vec::new();
        let mut add = |at: u64, what| controls.push(Control { at, what });
        let at = instant(self.time(rng), 0);
        if rng.percent(25) {
            add(at + rng.pick(&[32, 96, 192]), What::Copy);
        }
        if fails {
            add(at, What::Disk(Disk::Fails));
            let mended = at + rng.pick(&[64, 320, 3_200, 32_000]);
            add(mended, What::Disk(Disk::Works));
            if rng.percent(50) {
                add(mended + 32, What::Sweep);
            }
        }
        if tight && rng.percent(50) {
            let more = instant(self.time(rng), 0);
            add(more, What::Disk(Disk::Holds(Keeping::AMPLE)));
            add(more + 32, What::Sweep);
        }
        controls
    }

    fn request(&mut self, rng: &mut Rng, who: Who, way: u64, lane: u64, steady: bool) -> Request {
        self.next_id += 1;
        // See `declassified`: where another request follows, only content may depend on a secret.
        let steady = if who == Who::A && steady {
            "steady"
        } else {
            "free"
        };
        let mut fields = vec![(
            "User-Agent",
            format!("sim/{} {lane} {steady}", self.next_id),
        )];
        let method = if rng.percent(self.acts) {
            rng.pick(&["POST", "POST", "PUT", "DELETE", "OPTIONS"])
        } else {
            rng.pick(&["GET", "GET", "GET", "GET", "GET", "GET", "HEAD"])
        };
        let url = if rng.percent(80) {
            self.urls[0]
        } else {
            rng.pick(&self.urls)
        };
        let mut target = url.to_owned();
        if who != Who::C {
            match way {
                0 | 1 => fields.push(("Cookie", "theme=dark; sid=@cookie@".to_owned())),
                2 => fields.push(("Authorization", "Bearer @bearer@".to_owned())),
                3 => fields.push(("X-User", "@header@".to_owned())),
                _ if rng.percent(50) => target = (rng.pick(&TOKENED)).to_owned(),
                _ => {}
            }
        } else if rng.percent(20) {
            fields.push(("Cookie", "theme=light; _ga=GA1.1".to_owned()));
        }
        if rng.percent(self.noise) {
            fields.push((
                "Accept-Encoding",
                (rng.pick(&["gzip", "br, gzip", "identity"])).to_owned(),
            ));
        }
        if rng.percent(self.noise) {
            fields.push(("Accept-Language", (rng.pick(&["ja", "en"])).to_owned()));
        }
        if rng.percent(self.noise) {
            fields.push(("X-Color", (rng.pick(&["red", "blue"])).to_owned()));
        }
        if rng.percent(self.noise) {
            fields.push((
                "Range",
                (rng.pick(&[
                    "bytes=0-9",
                    "bytes=5-",
                    "bytes=-20",
                    "bytes=0-1,4-9",
                    "bytes=99999-",
                ]))
                .to_owned(),
            ));
        }
        if let Some(seeks) = self.seeks.as_mut().filter(|_| target.starts_with(REELS))
            && seeks.percent(60)
        {
            fields.retain(|(name, _)| *name != "Range");
            fields.push(("Range", seeks.pick(&SEEKS).to_owned()));
        }
        if rng.percent(self.noise) {
            let value = rng.pick(&["*", "\"v0\"", "W/\"v0\"", "\"x\""]);
            fields.push((
                rng.pick(&["If-None-Match", "If-Match", "If-Range"]),
                value.to_owned(),
            ));
        }
        if rng.percent(self.noise) {
            fields.push((
                "If-Modified-Since",
                "Tue, 14 Nov 2023 22:13:20 GMT".to_owned(),
            ));
        }
        if rng.percent(self.noise) {
            let value = rng.pick(&[
                "no-cache",
                "no-store",
                "max-age=0",
                "only-if-cached",
                "max-stale=99999",
                "min-fresh=10",
            ]);
            fields.push(("Cache-Control", value.to_owned()));
        }
        if rng.percent(self.noise) {
            fields.push(("Origin", "http://evil.test".to_owned()));
        }
        if rng.percent(self.noise) {
            fields.push(("TE", "trailers".to_owned()));
            fields.push(("Connection", "te".to_owned()));
        }
        if rng.percent(self.noise) {
            fields.push(("X-Forwarded-Proto", "https".to_owned()));
        }
        if rng.percent(self.noise) {
            fields.push(("Connection", "close".to_owned()));
        }
        let mut body = None;
        let mut body_later = false;
        if matches!(method, "POST" | "PUT") || rng.percent(self.noise / 4) {
            let card = if who == Who::C { "none" } else { "@body@" };
            let text = format!("card={card}&{}", "x".repeat(rng.index(600)));
            body = Some(text);
            if rng.percent(25) {
                fields.push(("Expect", "100-continue".to_owned()));
                body_later = true;
            }
            body_later |= rng.percent(20);
        }
        let version = if rng.percent(3) {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        Request {
            id: self.next_id,
            who,
            method,
            host: if rng.percent(92) {
                self.host
            } else {
                "other.test"
            },
            target,
            version,
            fields,
            // HTTP/1.0 knows no chunks.
            chunked: body.is_some() && version == "HTTP/1.1" && rng.percent(40),
            body,
            body_later,
            takes_from: 0,
        }
    }
}

impl Client {
    /// Its requests, in order, each with its instant.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (u64, &Request)> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Send(request) => Some((step.at, &**request)),
            _ => None,
        })
    }

    /// Whether a request of a member shows who sends it.
    pub(crate) fn has_credentials(&self, request: &Request) -> bool {
        let certificate = self.secure.is_some_and(|s| s.certificate.is_some());
        let fields = ["cookie", "authorization", "x-user"];
        request.who != Who::C
            && (certificate || fields.iter().any(|name| request.field(name).is_some()))
    }

    /// The scheme of a request's URL. All clients here are believed when they name one.
    pub(crate) fn scheme(&self, request: &Request) -> &'static str {
        if self.secure.is_some() || request.field("x-forwarded-proto") == Some("https") {
            "https"
        } else {
            "http"
        }
    }
}

impl Request {
    /// Whether the method is one that changes nothing (RFC 9110 9.2.1).
    pub(crate) fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The bytes of the request; without its body when that follows later.
    pub(crate) fn bytes(&self, secrets: Secrets) -> Vec<u8> {
        let mut text = format!(
            "{} {} {}\r\nHost: {}\r\n",
            self.method, self.target, self.version, self.host
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let chunked = self.chunked;
        if let Some(body) = &self.body {
            let length = rendered(body, self.who, secrets).len();
            text.push_str(&if chunked {
                "Transfer-Encoding: chunked\r\n".to_owned()
            } else {
                format!("Content-Length: {length}\r\n")
            });
        }
        text.push_str("\r\n");
        let mut bytes = rendered(&text, self.who, secrets).into_bytes();
        if let Some(body) = self.body.as_ref().filter(|_| !self.body_later) {
            let body = rendered(body, self.who, secrets);
            bytes.extend(framed(&body, chunked));
        }
        bytes
    }
}

/// A body on the wire, its secrets in their places.
pub(crate) fn framed(body: &str, chunked: bool) -> Vec<u8> {
    if chunked {
        format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
    } else {
        body.as_bytes().to_vec()
    }
}

/// A text with the secrets in place of their names.
pub(crate) fn rendered(text: &str, who: Who, secrets: Secrets) -> String {
    let mut text = text.to_owned();
    for (name, kind) in [
        ("@cookie@", Kind::Cookie),
        ("@bearer@", Kind::Bearer),
        ("@header@", Kind::Header),
        ("@url@", Kind::Url),
        ("@body@", Kind::Body),
    ] {
        if text.contains(name) {
            text = text.replace(name, &secrets.of(who, kind));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a connection of A and B too, or the order of two of their answers would be a tie that A's
    /// decide: whose gate opens first, and who then leads.
    #[test]
    fn what_a_does_falls_on_instants_of_a_s_own() {
        let mut together = 0;
        for seed in 0..2_000 {
            for client in Schedule::of(mix(seed)).clients {
                let whose: Vec<Who> = client.requests().map(|(_, r)| r.who).collect();
                together += usize::from(whose.contains(&Who::A) && whose.contains(&Who::B));
                for step in &client.steps {
                    let who = match &step.action {
                        Action::Send(request) => request.who,
                        Action::Body { who, .. } => *who,
                        _ => continue,
                    };
                    let is_odd = step.at % 2 == 1;
                    assert_eq!(is_odd, who == Who::A, "seed {seed}: {who:?} at {}", step.at);
                }
            }
        }
        assert!(together > 100, "{together}");
    }
}
