//! What must hold of every run. The checkers see what clients sent and got, and what origins were
//! asked and answered; of the edge they know nothing.

use std::collections::{BTreeMap, BTreeSet};

use shikiri_record::{Mode, PurgeTarget};

use crate::account;
use crate::http2::{Came, Stream};
use crate::origin::Asked;
use crate::policy::{FILMS, GATE, Policy, REELS};
use crate::reel;
use crate::schedule::{Action, Client, Protocol, Request, Schedule, Step, What};
use crate::secret::{Who, stamps};
use crate::wire::{self, Response};
use crate::world::{Got, Seen};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) checker: &'static str,
    pub(crate) what: String,
}

fn finding(checker: &'static str, what: String) -> Finding {
    Finding { checker, what }
}

/// A request with its answer, as a client saw them.
pub(crate) struct Exchange<'a> {
    pub(crate) client: usize,
    /// When its first byte was sent.
    pub(crate) at: u64,
    /// By when all of its connection was over, or silent.
    pub(crate) over: u64,
    pub(crate) request: &'a Request,
    pub(crate) response: Option<Response>,
}

fn requests(client: &Client) -> Vec<(u64, &Request)> {
    client.requests().collect()
}

/// What a client got in answer to each of its requests, in order.
fn answers(client: &Client, got: &Got) -> Result<Vec<Option<Response>>, String> {
    if client.protocol == Protocol::Http2 {
        let of = |(_, request): &(u64, &Request)| match got.streams.get(&request.id) {
            Some(stream) => stream.response(),
            None => Ok(None),
        };
        return requests(client).iter().map(of).collect();
    }
    let head_only: Vec<bool> = requests(client)
        .iter()
        .map(|(_, r)| r.method == "HEAD")
        .collect();
    let answers = wire::responses(&got.bytes(), &head_only, got.ended.is_some() && !got.reset)?;
    let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
    answers.resize_with(head_only.len(), || None);
    Ok(answers)
}

/// Judges one run.
pub(crate) fn run(schedule: &Schedule, seen: &Seen) -> Result<(), Finding> {
    let mut exchanges = Vec::new();
    for (n, (client, got)) in schedule.clients.iter().zip(&seen.clients).enumerate() {
        let fault = |why| finding("framing", format!("client {n}: {why}"));
        // Without evidence a connection is cut.
        if let Some(why) = got.broken.as_ref().filter(|_| !schedule.wants_space()) {
            return Err(fault(format!("the connection ended badly: {why}")));
        }
        let answers = answers(client, got).map_err(fault)?;
        for ((at, request), response) in requests(client).into_iter().zip(answers) {
            exchanges.push(Exchange {
                client: n,
                at,
                over: over(got),
                request,
                response,
            });
        }
    }
    nothing_comes_when_closed(schedule, &seen.clients)?;
    exchanged(schedule, &exchanges, &seen.asked)?;
    account::accounts(schedule, &exchanges, seen)?;
    everybody_is_answered(schedule, &exchanges, &seen.clients)
}

/// Judges what was exchanged, whenever it came.
pub(crate) fn exchanged(
    schedule: &Schedule,
    exchanges: &[Exchange<'_>],
    asked: &[Asked],
) -> Result<(), Finding> {
    let mut by_stamp: BTreeMap<u64, Vec<&Asked>> = BTreeMap::new();
    for asked in asked {
        by_stamp.entry(asked.stamp).or_default().push(asked);
    }
    let delivered = delivered(exchanges, &by_stamp);
    let judge = Judge {
        schedule,
        asked,
        exchanges,
        by_stamp,
        delivered,
    };
    judge.secrets_stay_home()?;
    judge.cookies_come_once()?;
    judge.connections_do_not_mix()?;
    judge.nothing_outlives()?;
    judge.modes_hold()?;
    judge.gates_are_asked()?;
    judge.reels_are_of_one_version()?;
    judge.what_is_forbidden_is_not_shared()?;
    judge.unsafe_methods_are_sent_once()
}

struct Judge<'a> {
    schedule: &'a Schedule,
    asked: &'a [Asked],
    exchanges: &'a [Exchange<'a>],
    /// A document comes several times with one stamp; everything else has its own.
    by_stamp: BTreeMap<u64, Vec<&'a Asked>>,
    delivered: Vec<(&'a Exchange<'a>, &'a Asked)>,
}

/// What each answer was made of: the origin's answers whose stamps it holds. Of several with one stamp,
/// the one that speaks best for the edge.
fn delivered<'a>(
    exchanges: &'a [Exchange<'a>],
    by_stamp: &BTreeMap<u64, Vec<&'a Asked>>,
) -> Vec<(&'a Exchange<'a>, &'a Asked)> {
    let mut delivered = Vec::new();
    for exchange in exchanges {
        let Some(response) = &exchange.response else {
            continue;
        };
        let mut stamps = stamps(&response.head);
        stamps.extend(crate::secret::stamps(&response.body));
        for stamp in stamps {
            let asked = by_stamp.get(&stamp).into_iter().flatten();
            let best = asked.max_by_key(|asked| (!asked.forbids, asked.at));
            delivered.extend(best.map(|asked| (exchange, *asked)));
        }
    }
    delivered
}

impl<'a> Judge<'a> {
    /// (a) What an origin made for a request that carried somebody's secrets reaches the connection
    /// that sent it, and nobody else.
    fn secrets_stay_home(&self) -> Result<(), Finding> {
        for &(exchange, asked) in &self.delivered {
            let to = exchange.request.who;
            if asked.owners.iter().any(|owner| *owner != to) {
                let what = format!(
                    "{to:?} (request {}) got what was made for {:?}: {asked:?}",
                    exchange.request.id, asked.owners
                );
                return Err(finding("secrets", what));
            }
            let Some(request) = asked.request else {
                // What an origin says unasked, long after its answer, may be taken for the answer to
                // another URL, and then what it says when it is asked again comes one too late:
                // connections that have been silent are used again. Nobody's secret is in it, since
                // none was ever sent there.
                let path = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
                let made = &self.by_stamp[&asked.stamp];
                let is_late = made
                    .iter()
                    .any(|asked| asked.surplus || asked.after_surplus);
                if !is_late && path(&asked.target) != path(&exchange.request.target) {
                    let what = format!(
                        "request {} for {} got {asked:?}",
                        exchange.request.id, exchange.request.target
                    );
                    return Err(finding("another URL", what));
                }
                continue;
            };
            let sender = self.exchanges.iter().find(|e| e.request.id == request);
            if sender.is_none_or(|sender| sender.client != exchange.client) {
                let what = format!(
                    "client {} (request {}) got the answer to request {request}: {asked:?}",
                    exchange.client, exchange.request.id
                );
                return Err(finding("passes", what));
            }
            // An origin that answers twice on a connection of its viewer confuses that viewer alone.
            if request != exchange.request.id && !asked.surplus && !asked.after_surplus {
                let what = format!(
                    "request {} got the answer to request {request} of the same viewer: {asked:?}",
                    exchange.request.id
                );
                return Err(finding("passes", what));
            }
        }
        // Nobody else's secret in any byte, stamped or not.
        for exchange in self.exchanges {
            if let Some(response) = &exchange.response {
                for part in [&response.head, &response.body] {
                    let owners = crate::secret::owners(part);
                    if owners.iter().any(|owner| *owner != exchange.request.who) {
                        let what = format!(
                            "{:?} (request {}) reads a secret of {owners:?}",
                            exchange.request.who, exchange.request.id
                        );
                        return Err(finding("secrets", what));
                    }
                }
            }
        }
        Ok(())
    }

    /// (b) A cookie reaches one response at most; and one that was set for a fetch without
    /// credentials reaches nobody who sent any.
    fn cookies_come_once(&self) -> Result<(), Finding> {
        let mut seen = BTreeSet::new();
        for exchange in self.exchanges {
            let Some(response) = &exchange.response else {
                continue;
            };
            for (name, value) in wire::fields(&response.head) {
                if !name.eq_ignore_ascii_case(b"set-cookie") {
                    continue;
                }
                for stamp in stamps(value) {
                    if !seen.insert(stamp) {
                        let what = format!(
                            "request {} gets a cookie that somebody has: {}",
                            exchange.request.id,
                            String::from_utf8_lossy(value)
                        );
                        return Err(finding("cookies", what));
                    }
                    let asked = self.by_stamp.get(&stamp);
                    let is_shared = asked
                        .is_some_and(|asked| asked.iter().all(|asked| asked.request.is_none()));
                    let client = &self.schedule.clients[exchange.client];
                    if is_shared && client.has_credentials(exchange.request) {
                        let what = format!(
                            "request {} has credentials, and gets a cookie set without them",
                            exchange.request.id
                        );
                        return Err(finding("cookies", what));
                    }
                }
            }
        }
        Ok(())
    }

    /// (c) No origin connection carries shared fetches and passes; none carries secrets of two.
    fn connections_do_not_mix(&self) -> Result<(), Finding> {
        let mut carried: BTreeMap<u32, (BTreeSet<Who>, BTreeSet<bool>)> = BTreeMap::new();
        for asked in self.asked {
            let (owners, shared) = carried.entry(asked.connection).or_default();
            owners.extend(&asked.owners);
            shared.insert(asked.request.is_none());
            if owners.len() > 1 {
                return Err(finding(
                    "connections",
                    format!("secrets of {owners:?} on one connection: {asked:?}"),
                ));
            }
            if shared.len() > 1 {
                return Err(finding(
                    "connections",
                    format!("shared fetches and passes on one connection: {asked:?}"),
                ));
            }
            if shared.contains(&true) && !owners.is_empty() {
                return Err(finding(
                    "connections",
                    format!("a shared fetch with secrets: {asked:?}"),
                ));
            }
        }
        Ok(())
    }

    /// (d) What was asked before a purge, or under rules of another meaning, reaches no request that
    /// began after; and what is personal is asked for by each request itself.
    fn nothing_outlives(&self) -> Result<(), Finding> {
        let mut in_force = &self.schedule.policies[0];
        let mut all_since = 0;
        let mut since: Vec<(&PurgeTarget, u64)> = Vec::new();
        let mut jumped_ms = 0;
        let mut changes = self.schedule.controls.iter().peekable();
        let mut delivered = self.delivered.clone();
        // What an origin says twice on its viewer's own connection, late, confuses that viewer alone.
        delivered.retain(|(_, asked)| !asked.surplus && !asked.after_surplus);
        delivered.sort_by_key(|(exchange, _)| exchange.at);
        for (exchange, asked) in delivered {
            while let Some(control) = changes.next_if(|control| control.at <= exchange.at) {
                match &control.what {
                    What::Purge(PurgeTarget::All) => all_since = control.at,
                    What::Purge(target) => since.push((target, control.at)),
                    What::Mode(_) => {}
                    What::Reload(n) => in_force = &self.schedule.policies[*n],
                    What::Jump(by_ms) => jumped_ms += by_ms,
                    // A clock that jumps takes everything with it once that is noticed.
                    What::Sweep if std::mem::take(&mut jumped_ms) != 0 => all_since = control.at,
                    What::Sweep | What::Disk(_) | What::Copy => {}
                }
            }
            // On one connection requests are served in turn: one that was sent before a change may
            // be taken up after it, never the other way.
            if asked.at < all_since {
                let what = format!(
                    "request {} of {} got what was asked at {} and died at {all_since}: {asked:?}",
                    exchange.request.id, exchange.at, asked.at
                );
                return Err(finding("purges", what));
            }
            // A request may wait for its turn on its connection, and is then taken up under later rules.
            let is_of = |salt: u64| {
                salt == in_force.salt
                    || self.schedule.controls.iter().any(|control| {
                        control.at > exchange.at
                            && matches!(control.what, What::Reload(n) if self.schedule.policies[n].salt == salt)
                    })
            };
            let editions = &self.by_stamp[&asked.stamp];
            // The second copy of a document is asked for under the rules of the first, whatever came between.
            let is_under = |at: u64| is_of(self.in_force_at(at.min(exchange.at)).salt);
            if !editions
                .iter()
                .any(|asked| is_under(asked.at) || self.copy_before(asked).is_some_and(is_under))
            {
                let what = format!(
                    "request {} of {} got what was asked under other rules: {asked:?}",
                    exchange.request.id, exchange.at
                );
                return Err(finding("purges", what));
            }
            let scheme = self.schedule.clients[exchange.client].scheme(exchange.request);
            let url = format!(
                "{scheme}://{}{}",
                exchange.request.host, exchange.request.target
            );
            let host = exchange.request.host;
            let mut purges = since.iter();
            if let Some((_, purged)) =
                purges.find(|(target, at)| asked.at < *at && is_meant(target, &url, host, asked))
            {
                let what = format!(
                    "request {} of {} got what was asked at {} and purged at {purged}: {asked:?}",
                    exchange.request.id, exchange.at, asked.at
                );
                return Err(finding("purges", what));
            }
            let path = exchange
                .request
                .target
                .split('?')
                .next()
                .unwrap_or_default();
            let turns = self
                .schedule
                .controls
                .iter()
                .any(|c| matches!(c.what, What::Reload(_)) && c.at > exchange.at);
            if in_force.is_personal(path) && !turns && asked.request.is_none() {
                let what = format!(
                    "request {} for what is personal got a shared answer: {asked:?}",
                    exchange.request.id
                );
                return Err(finding("personal", what));
            }
        }
        Ok(())
    }

    /// (g) What a request gets that is sent and answered in one mode: in `closed` nothing of an origin's; in
    /// `pass` nothing but the answer to itself; in `static` nothing else for what is no static file.
    fn modes_hold(&self) -> Result<(), Finding> {
        let modes: Vec<(u64, Mode)> = self
            .schedule
            .controls
            .iter()
            .filter_map(|control| {
                let What::Mode(mode) = control.what else {
                    return None;
                };
                Some((control.at, mode))
            })
            .collect();
        for &(exchange, asked) in &self.delivered {
            let mode = modes.iter().rfind(|(at, _)| *at <= exchange.at);
            let mode = mode.map_or(Mode::Open, |(_, mode)| *mode);
            let changes = modes
                .iter()
                .any(|(at, _)| (exchange.at + 1..=exchange.over).contains(at));
            // What an origin says twice, late, confuses the viewer whose connection it is.
            if changes || asked.surplus || asked.after_surplus {
                continue;
            }
            let is_own = asked.request == Some(exchange.request.id);
            let holds = match mode {
                Mode::Open => true,
                Mode::Static => is_own || is_static(&exchange.request.target),
                Mode::Pass => is_own,
                Mode::Closed => false,
            };
            if !holds {
                let what = format!(
                    "request {} of {}, in mode {mode}, got {asked:?}",
                    exchange.request.id, exchange.at
                );
                return Err(finding("modes", what));
            }
        }
        Ok(())
    }

    /// (j) What is behind a gate reaches nobody whose own question the origin did not answer with a yes;
    /// and the edge's credential goes with nothing else than that, and with what is fetched for all.
    fn gates_are_asked(&self) -> Result<(), Finding> {
        let path = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
        let is_film =
            |asked: &Asked| asked.host == FILMS.0 && path(&asked.target).starts_with(FILMS.1);
        let client = |request: Option<u32>| {
            let mut all = self.exchanges.iter();
            all.find(|e| Some(e.request.id) == request)
                .map(|e| e.client)
        };
        let opened = |request: u32, target: &str| {
            let gate = format!("{GATE}{}", path(target));
            let mut all = self.asked.iter();
            all.any(|asked| {
                let is_yes = asked.request == Some(request)
                    && path(&asked.target) == gate
                    && (200..300).contains(&asked.status);
                // What an origin says twice on a viewer's own connection, late, may be taken for its
                // answer to that viewer's next question: to nobody else's.
                is_yes || asked.surplus && client(asked.request) == client(Some(request))
            })
        };
        for &(exchange, asked) in &self.delivered {
            let request = exchange.request;
            let is_shared = asked.request.is_none();
            if is_shared && is_film(asked) && !opened(request.id, &asked.target) {
                let what = format!("request {} was let in by nobody: {asked:?}", request.id);
                return Err(finding("gates", what));
            }
        }
        for asked in self.asked.iter().filter(|asked| asked.bears_credential) {
            let fits = match asked.request {
                None => true,
                Some(request) => opened(request, &asked.target),
            };
            if !fits || !is_film(asked) {
                let what = format!("the edge's credential went with this: {asked:?}");
                return Err(finding("gates", what));
            }
        }
        Ok(())
    }

    /// (k) What is large is of one version from its first byte to its last, however it was fetched.
    fn reels_are_of_one_version(&self) -> Result<(), Finding> {
        for exchange in self.exchanges {
            let request = exchange.request;
            let Some(response) = &exchange.response else {
                continue;
            };
            if !request.target.starts_with(REELS) {
                continue;
            }
            let shown = reel::shown(response);
            if shown.versions.len() > 1 || shown.has_gaps {
                let what = format!("request {} was shown {shown:?}", request.id);
                return Err(finding("versions", what));
            }
        }
        Ok(())
    }

    /// The policy in force at an instant.
    fn in_force_at(&self, at: u64) -> &'a Policy {
        let reloads = self
            .schedule
            .controls
            .iter()
            .filter(|control| control.at <= at);
        let mut last = reloads.filter_map(|control| match control.what {
            What::Reload(n) => Some(n),
            _ => None,
        });
        &self.schedule.policies[last.next_back().unwrap_or(0)]
    }

    /// When the same was asked for before, for sharing, the last time.
    fn copy_before(&self, asked: &Asked) -> Option<u64> {
        let same = self.asked.iter().filter(|it| {
            it.request.is_none()
                && asked.request.is_none()
                && (&it.host, &it.target) == (&asked.host, &asked.target)
        });
        same.map(|it| it.at).filter(|at| *at < asked.at).max()
    }

    /// (e) What an origin marked as not to be shared reaches one request at most.
    fn what_is_forbidden_is_not_shared(&self) -> Result<(), Finding> {
        let mut reached: BTreeMap<u64, u32> = BTreeMap::new();
        for (exchange, asked) in self.delivered.iter().filter(|(_, asked)| asked.forbids) {
            if let Some(other) = reached
                .insert(asked.stamp, exchange.request.id)
                .filter(|other| *other != exchange.request.id)
            {
                let what = format!(
                    "requests {other} and {} got one answer that forbids sharing: {asked:?}",
                    exchange.request.id
                );
                return Err(finding("prohibitions", what));
            }
        }
        for (exchange, asked) in self
            .delivered
            .iter()
            .filter(|(_, asked)| asked.only_without_cookie)
        {
            let cookie = exchange
                .request
                .field("cookie")
                .is_some_and(|cookie| cookie.contains("sid="));
            if asked.request.is_none() && cookie {
                let what = format!(
                    "request {} has a cookie, and got what is for those without: {asked:?}",
                    exchange.request.id
                );
                return Err(finding("prohibitions", what));
            }
        }
        Ok(())
    }

    /// (f) An unsafe request reaches the origin once at most.
    fn unsafe_methods_are_sent_once(&self) -> Result<(), Finding> {
        let mut sent = BTreeSet::new();
        for asked in self.asked.iter().filter(|asked| asked.is_first) {
            let Some(id) = asked.request else { continue };
            let request = self.exchanges.iter().find(|e| e.request.id == id);
            if request.is_some_and(|e| !e.request.is_safe()) && !sent.insert(id) {
                return Err(finding(
                    "once",
                    format!("request {id} reached the origin twice: {asked:?}"),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a purge is about an answer to a request for this URL.
fn is_meant(target: &PurgeTarget, url: &str, host: &str, asked: &Asked) -> bool {
    let bears = |label: &str| asked.labels.contains(label);
    match target {
        PurgeTarget::All => true,
        PurgeTarget::Uri(uri) => uri == url,
        PurgeTarget::Prefix(prefix) => url.starts_with(prefix.as_str()),
        PurgeTarget::Tag { tag, host: of } => {
            bears(tag) && of.as_deref().is_none_or(|of| of == host)
        }
        PurgeTarget::Group { group, host: of } => bears(group) && of == host,
        PurgeTarget::UriDigest(_) => false,
    }
}

/// When the last thing came on a connection.
fn over(got: &Got) -> u64 {
    let pieces = got.pieces.iter().map(|(at, _)| *at);
    let streams = got.streams.values().flat_map(|stream| &stream.came);
    pieces
        .chain(streams.map(|(at, _)| *at))
        .chain(got.ended)
        .max()
        .unwrap_or(0)
}

/// The times in which the site was closed, each with its end, if it ended.
fn closed(schedule: &Schedule) -> Vec<(u64, u64)> {
    let mut closed: Vec<(u64, u64)> = Vec::new();
    for control in &schedule.controls {
        let What::Mode(mode) = control.what else {
            continue;
        };
        let is_open = closed.last().is_none_or(|(_, until)| *until < u64::MAX);
        match (mode, is_open) {
            (Mode::Closed, true) => closed.push((control.at, u64::MAX)),
            (Mode::Closed, false) | (_, true) => {}
            (_, false) => closed.last_mut().expect("it is there").1 = control.at,
        }
    }
    closed
}

/// (i) A second after the site was closed nothing of an origin's comes any more, on no connection.
fn nothing_comes_when_closed(schedule: &Schedule, clients: &[Got]) -> Result<(), Finding> {
    const PATIENCE_MS: u64 = 1_000;
    for (from, until) in closed(schedule) {
        let is_too_late = |at: u64| (from.saturating_add(PATIENCE_MS)..until).contains(&at);
        for (n, (client, got)) in schedule.clients.iter().zip(clients).enumerate() {
            // What lies in a pipe was sent: a client that does not read is shown it later.
            if client.reads_from > from {
                continue;
            }
            let is_held = |request: u32| takes_from(client, request) > from;
            let late = came(got, is_held)
                .into_iter()
                .find(|(at, bytes)| is_too_late(*at) && !stamps(bytes).is_empty());
            if let Some((at, bytes)) = late {
                let what = format!(
                    "client {n} got this at {at}, and the site was closed at {from}: {:?}",
                    String::from_utf8_lossy(&bytes)
                );
                return Err(finding("closed", what));
            }
        }
    }
    Ok(())
}

/// From when on a client takes the body of a response.
fn takes_from(client: &Client, request: u32) -> u64 {
    let asked = |step: &Step| match &step.action {
        Action::Send(asked) if asked.id == request => Some(asked.takes_from),
        _ => None,
    };
    client.steps.iter().find_map(asked).unwrap_or(0)
}

/// All that came on a connection, each part with its instant and enough of what came before it that no
/// stamp is torn.
fn came(got: &Got, is_held: impl Fn(u32) -> bool) -> Vec<(u64, Vec<u8>)> {
    const STAMP_BYTES: usize = 21;
    let mut parts = Vec::new();
    let mut tail: Vec<u8> = Vec::new();
    let mut take = |at: u64, bytes: &[u8]| {
        let whole = [tail.as_slice(), bytes].concat();
        let from = whole.len().saturating_sub(STAMP_BYTES - 1);
        tail = whole[from..].to_vec();
        parts.push((at, whole));
    };
    for (at, bytes) in &got.pieces {
        take(*at, bytes);
    }
    for (request, stream) in &got.streams {
        for (at, came) in &stream.came {
            match came {
                // The client lets them lie; on the wire, data are among the pieces.
                Came::Data(_) | Came::Trailers(_) if is_held(*request) => {}
                Came::Head(bytes) | Came::Data(bytes) | Came::Trailers(bytes) => take(*at, bytes),
                _ => {}
            }
        }
    }
    parts
}

/// (f) Nobody waits for ever.
fn everybody_is_answered(
    schedule: &Schedule,
    exchanges: &[Exchange<'_>],
    clients: &[Got],
) -> Result<(), Finding> {
    for (n, (client, got)) in schedule.clients.iter().zip(clients).enumerate() {
        let left = client
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::Abort));
        let waits = |e: &Exchange<'_>| match client.protocol {
            Protocol::Http1 => e.response.as_ref().is_none_or(|r| !r.whole),
            Protocol::Http2 => !got
                .streams
                .get(&e.request.id)
                .is_some_and(Stream::has_ended),
        };
        let unanswered = exchanges.iter().find(|e| e.client == n && waits(e));
        if let Some(unanswered) = unanswered.filter(|_| !left && got.ended.is_none()) {
            let what = format!(
                "client {n} waits for ever for request {}",
                unanswered.request.id
            );
            return Err(finding("patience", what));
        }
    }
    Ok(())
}

/// Whether a URL is a static file's, as far as it shows.
fn is_static(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    [".css", ".js", ".png", ".woff2"]
        .iter()
        .any(|extension| path.ends_with(extension))
}

/// Judges two runs of one schedule in which A's secrets differ: whatever B and C observe is equal,
/// byte for byte and instant for instant.
pub(crate) fn two_runs(schedule: &Schedule, one: &Seen, other: &Seen) -> Result<(), Finding> {
    for (n, client) in schedule.clients.iter().enumerate() {
        let of_a = requests(client)
            .iter()
            .filter(|(_, r)| r.who == Who::A)
            .count();
        let of_all = requests(client).len();
        let (one, other) = (&one.clients[n], &other.clients[n]);
        if of_a == 0 {
            if one != other {
                return Err(finding(
                    "two runs",
                    format!(
                        "client {n} observes A's secrets: {}",
                        difference(one, other)
                    ),
                ));
            }
        } else if of_a < of_all && client.protocol == Protocol::Http2 {
            // A and B have streams of their own on this one: what comes on B's, and when, is B's
            // observation; so is the connection's end.
            let of_b = requests(client)
                .into_iter()
                .filter(|(_, r)| r.who == Who::B);
            for (_, request) in of_b {
                let (one, other) = (one.streams.get(&request.id), other.streams.get(&request.id));
                if one != other {
                    let what = format!(
                        "request {} of B, on an HTTP/2 connection with A, observes A's secrets:\n  {one:?}\n  {other:?}",
                        request.id
                    );
                    return Err(finding("two runs", what));
                }
            }
            if (one.ended, &one.broken) != (other.ended, &other.broken) {
                let what =
                    format!("client {n}, of A and B, observes another end of its connection");
                return Err(finding("two runs", what));
            }
        } else if of_a < of_all {
            // A and B take turns on this one: B's answers are B's observation.
            let whole = |got| answers(client, got).unwrap_or_default();
            let (one, other) = (whole(one), whole(other));
            for (k, (_, request)) in requests(client)
                .iter()
                .enumerate()
                .filter(|(_, (_, r))| r.who == Who::B)
            {
                let bytes = |of: &[Option<Response>]| {
                    of.get(k)
                        .and_then(Option::as_ref)
                        .map(|r| (r.head.clone(), r.body.clone(), r.whole))
                };
                if bytes(&one) != bytes(&other) {
                    return Err(finding(
                        "two runs",
                        format!(
                            "request {} of B, on a connection with A, observes A's secrets",
                            request.id
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The same of what was exchanged, whenever it came.
pub(crate) fn two_exchanges(one: &[Exchange<'_>], other: &[Exchange<'_>]) -> Result<(), Finding> {
    for (one, other) in one
        .iter()
        .zip(other)
        .filter(|(one, _)| one.request.who != Who::A)
    {
        let bytes = |of: &Exchange<'_>| {
            of.response
                .as_ref()
                .map(|r| [r.head.as_slice(), &r.body].concat())
        };
        let got = |bytes: Option<Vec<u8>>| Got {
            pieces: vec![(0, bytes.unwrap_or_default())],
            ..Got::default()
        };
        if bytes(one) != bytes(other) {
            let difference = difference(&got(bytes(one)), &got(bytes(other)));
            let what = format!(
                "request {} observes A's secrets: {difference}",
                one.request.id
            );
            return Err(finding("two runs", what));
        }
    }
    Ok(())
}

/// The first difference, for people.
fn difference(one: &Got, other: &Got) -> String {
    let streams = one.streams.iter().zip(&other.streams);
    if let Some((one, other)) = streams.into_iter().find(|(one, other)| one != other) {
        return format!("on a stream:\n  {one:?}\n  {other:?}");
    }
    let (a, b) = (one.bytes(), other.bytes());
    let at = a.iter().zip(&b).position(|(a, b)| a != b);
    match at {
        Some(at) => {
            let show = |bytes: &[u8]| {
                let from = at.saturating_sub(120);
                String::from_utf8_lossy(&bytes[from..bytes.len().min(at + 120)]).into_owned()
            };
            format!("at byte {at}:\n  {:?}\n  {:?}", show(&a), show(&b))
        }
        None if a.len() != b.len() => format!("{} bytes against {}", a.len(), b.len()),
        None => format!(
            "the instants differ: {:?} against {:?}",
            times(one),
            times(other)
        ),
    }
}

fn times(got: &Got) -> Vec<u64> {
    got.pieces
        .iter()
        .map(|(at, _)| *at)
        .chain(got.ended)
        .collect()
}
