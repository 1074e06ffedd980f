//! One cell: one script, one cache, one policy, one way.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::cache::{Cache, Running};
use super::client::{Connections, Delivered, Viewers};
use super::judge::{Leak, judge};
use super::origin::{Origin, REFERENCE, Seen};
use super::script::{Ask, Control, Handshake, Identity, Over, Reload, Script, Step};
use super::tls::{Bridge, Through};
use super::token;

/// In which way a script's requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One after another, each viewer on a connection of its own.
    Sequential,
    /// At the same time.
    Overlapping,
    /// One after another, all viewers on one connection, as behind a proxy that pools.
    SameConnection,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Sequential, Self::Overlapping, Self::SameConnection];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sequential => "a",
            Self::Overlapping => "b",
            Self::SameConnection => "c",
        })
    }
}

/// What became of a cell.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Safe,
    Leak(Vec<Leak>),
    /// The cell says nothing, and why.
    Void(String),
    /// Nothing leaked, and the cache declines to keep the control, though it keeps other public things.
    NotCacheable(String),
    /// Nothing of another's was shown, and somebody was shown an old copy behind a change.
    Old(Vec<Leak>),
    /// Nothing leaked, and somebody got no answer.
    Unanswered(String),
    /// The way makes no sense for the script.
    NotApplicable,
}

/// A cell that was run, with its traffic.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) delivered: Vec<Delivered>,
    pub(crate) seen: Vec<Seen>,
}

/// Between the requests of an overlapping group, and for how long the origin holds every answer
/// then: several requests are always waiting together.
const STAGGER: Duration = Duration::from_millis(25);
const HELD: Duration = Duration::from_millis(160);
/// How often a control is asked at most before it is no hit.
const CONTROLS: usize = 6;

/// Runs a cell.
pub(crate) fn run(cache: &dyn Cache, script: &Script, policy: &str, way: Way) -> Outcome {
    let void = |why: String| Outcome {
        verdict: Verdict::Void(why),
        delivered: Vec::new(),
        seen: Vec::new(),
    };
    // On one connection everybody has one address, and the origin is right to see one person.
    if way == Way::SameConnection && script.identities.contains(&Identity::Address) {
        return Outcome {
            verdict: Verdict::NotApplicable,
            ..void(String::new())
        };
    }
    let nonce = token::nonce();
    let mut names = viewers_of(&script.steps);
    names.extend(["visitor1".to_owned(), "visitor2".to_owned()]);
    let viewers = Viewers::new(script, names, &nonce);
    let by_address: HashMap<_, _> = viewers
        .addresses
        .iter()
        .filter(|(name, _)| script.members.contains(name))
        .map(|(name, address)| (*address, name.clone()))
        .collect();
    let origin = match Origin::start(script, &nonce, by_address) {
        Ok(origin) => origin,
        Err(error) => return void(format!("no origin: {error}")),
    };
    let is_ours = cache.is_ours();
    let mut nodes = Vec::new();
    for _ in 0..script.nodes {
        let asked = origin.last_number();
        match cache.start(origin.address, script, policy) {
            Ok(node) => nodes.push(node),
            Err(why) => return void(why),
        }
        // Another's cache is asked until it answers: it must be this one that did.
        if !is_ours && origin.last_number() == asked {
            return void("what answered has not asked this origin".to_owned());
        }
    }
    let own_bridge = match script.tls.then(Bridge::start).transpose() {
        Ok(bridge) => bridge,
        Err(why) => return void(why),
    };
    let bridge = own_bridge.as_ref().map(|bridge| bridge.address);
    let bridge = bridge.or_else(|| cache.bridge().filter(|_| script.over != Over::Clear));
    let mut delivered = Vec::new();
    let mut declined = None;
    for control in script
        .controls
        .iter()
        .filter(|c| c.under.is_empty() || c.under.iter().any(|p| p == policy))
    {
        for node in &nodes {
            let mut hits = |control: &Control| {
                let connections = match script.over {
                    Over::Clear => Connections::new(node.address(), None, &viewers),
                    _ => Connections::new(node.address(), through(bridge, &**node), &viewers),
                };
                control_hits(control, script.over, &origin, connections, &mut delivered)
            };
            if let Err(why) = hits(control) {
                let reference = Control {
                    method: "GET".to_owned(),
                    target: format!("{REFERENCE}/{nonce}.css"),
                    ..Control::default()
                };
                if !is_ours && hits(&reference).is_ok() {
                    declined = Some(why);
                    continue;
                }
                return Outcome {
                    verdict: Verdict::Void(why),
                    delivered,
                    seen: origin.log(),
                };
            }
        }
    }
    if way == Way::Overlapping {
        origin.floor(HELD);
    }
    let mut play = Play {
        script,
        viewers: &viewers,
        origin: &origin,
        way,
        too_old: 0,
        bridge,
        connections: nodes
            .iter()
            .map(|node| Connections::new(node.address(), through(bridge, &**node), &viewers))
            .collect(),
        last_connection: String::new(),
        delivered,
    };
    let played = play.steps(&script.steps, &mut nodes);
    let delivered = play.delivered;
    let leaks = judge(&nonce, &delivered);
    let unanswered = delivered.iter().find(|d| d.status.is_none() && !d.may_fail);
    let verdict = if !is_ours && !leaks.is_empty() && leaks.iter().all(|leak| leak.is_old) {
        // For our edge it is a leak: its old objects die with their rules.
        Verdict::Old(leaks)
    } else if !leaks.is_empty() {
        Verdict::Leak(leaks)
    } else if let Err(why) = played {
        Verdict::Void(why)
    } else if let Some(d) = unanswered {
        let why = format!(
            "{} got no answer to line {}: {}",
            d.viewer,
            d.line,
            d.fault.as_deref().unwrap_or("the connection was closed")
        );
        if is_ours {
            Verdict::Void(why)
        } else {
            Verdict::Unanswered(why)
        }
    } else if is_ours && policy == "careless" && claims_nothing(script, &delivered, &origin.log()) {
        Verdict::Void("the careless policy shares nothing that a member asks for".to_owned())
    } else if let Some(why) = declined {
        Verdict::NotCacheable(why)
    } else {
        Verdict::Safe
    };
    Outcome {
        verdict,
        delivered,
        seen: origin.log(),
    }
}

/// Whether each page that a member is the first to ask for was at once asked for as the member. Under
/// a policy that is to share everything that would be a policy which passes everything, and its cell
/// would say nothing.
fn claims_nothing(script: &Script, delivered: &[Delivered], seen: &[Seen]) -> bool {
    // Who is named by the target cannot be left out of it.
    if script.identities.contains(&Identity::Target) {
        return false;
    }
    let target = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let target = text.strip_prefix("GET ")?.split(' ').next();
        target.map(str::to_owned)
    };
    let mut asked: Vec<String> = Vec::new();
    let mut by_members = Vec::new();
    for d in delivered {
        let Some(target) = target(&d.sent) else {
            continue;
        };
        if !asked.contains(&target) {
            if script.members.contains(&d.viewer) {
                by_members.push(target.clone());
            }
            asked.push(target);
        }
    }
    let as_nobody = |wanted: &String| {
        let first = seen
            .iter()
            .find(|s| target(&s.request).as_ref() == Some(wanted));
        first.is_none_or(|seen| seen.owner == token::NOBODY)
    };
    !by_members.is_empty() && !by_members.iter().any(as_nobody)
}

fn viewers_of(steps: &[Step]) -> Vec<String> {
    let mut names = Vec::new();
    for step in steps {
        match step {
            Step::Ask(ask) => names.push(ask.viewer.clone()),
            Step::Overlap(asks, _) => names.extend(asks.iter().map(|ask| ask.viewer.clone())),
            Step::Repeat(_, inner) => names.extend(viewers_of(inner)),
            Step::Then | Step::Wait(_) | Step::Reload(_) | Step::Phase(_) | Step::Stir => {}
        }
    }
    names
}

/// Asks for something public until the origin is asked less often than we ask: otherwise the cache
/// caches nothing, and its silence proves nothing.
fn control_hits(
    control: &Control,
    over: Over,
    origin: &Origin,
    mut connections: Connections<'_>,
    delivered: &mut Vec<Delivered>,
) -> Result<(), String> {
    let handshake = || Handshake::over(over, control.host.as_deref());
    let asked_before = origin.asked_for(&control.target);
    for n in 1..=CONTROLS {
        let viewer = match control.by.get(n % control.by.len().max(1)) {
            Some(member) => member.clone(),
            None => format!("visitor{}", 1 + n % 2),
        };
        let ask = Ask {
            viewer,
            method: control.method.clone(),
            target: control.target.clone(),
            host: control.host.clone(),
            handshake: (over != Over::Clear).then(handshake),
            ..Ask::default()
        };
        let exchange = connections.ask(&ask.viewer, &[&ask], 0);
        let status = exchange.first().and_then(|e| e.status);
        delivered.extend(exchange);
        if status.is_none_or(|s| s == 502 || s == 504) {
            return Err(format!("the control {} got {status:?}", control.target));
        }
        let asked = origin.asked_for(&control.target) - asked_before;
        if asked < u64::try_from(n).unwrap_or(u64::MAX) {
            return Ok(());
        }
        // A cache may store after it has answered.
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("the control {} is never a hit", control.target))
}

/// The caches of a cell: one, unless the script has several.
type Nodes = [Box<dyn Running>];

/// A script being played.
struct Play<'a> {
    script: &'a Script,
    viewers: &'a Viewers,
    origin: &'a Origin,
    way: Way,
    too_old: u64,
    /// The bridge to TLS, where steps need one.
    bridge: Option<SocketAddr>,
    /// For each node.
    connections: Vec<Connections<'a>>,
    last_connection: String,
    delivered: Vec<Delivered>,
}

impl Play<'_> {
    fn steps(&mut self, steps: &[Step], nodes: &mut Nodes) -> Result<(), String> {
        let mut group: Vec<&Ask> = Vec::new();
        for step in steps {
            if let Step::Ask(ask) = step {
                group.push(ask);
                continue;
            }
            self.group(&std::mem::take(&mut group), nodes);
            match step {
                Step::Ask(_) | Step::Then => {}
                Step::Overlap(asks, reload) => {
                    let asks: Vec<&Ask> = asks.iter().collect();
                    match reload {
                        Some(reload) => self.reload_amid(&asks, reload, nodes)?,
                        None => self.overlap(&asks, nodes),
                    }
                }
                Step::Wait(time) => thread::sleep(*time),
                Step::Phase(phase) => {
                    self.origin.phase(phase);
                    self.too_old = self.origin.change();
                }
                Step::Reload(reload) => self.reload(reload, nodes)?,
                Step::Stir => nodes.iter_mut().try_for_each(|node| node.stir())?,
                Step::Repeat(times, inner) => {
                    for _ in 0..*times {
                        self.steps(inner, nodes)?;
                    }
                }
            }
        }
        self.group(&group, nodes);
        Ok(())
    }

    /// Another policy, with all that is stored left as it is.
    fn reload(&mut self, reload: &Reload, nodes: &mut Nodes) -> Result<(), String> {
        for (number, node) in nodes.iter_mut().enumerate() {
            if reload.at.contains(&number) {
                node.reload(self.script, &reload.policy)?;
            }
        }
        self.too_old = self.origin.change();
        Ok(())
    }

    /// The same while requests are running that began before.
    fn reload_amid(
        &mut self,
        asks: &[&Ask],
        reload: &Reload,
        nodes: &mut Nodes,
    ) -> Result<(), String> {
        let (viewers, too_old) = (self.viewers, self.too_old);
        let (begun, mut exchanges) = (Instant::now(), Vec::new());
        let reloaded = thread::scope(|scope| {
            let running = begin(scope, asks, nodes, self.bridge, viewers, too_old);
            thread::sleep(reload.offset.saturating_sub(begun.elapsed()));
            let reloaded = self.reload(reload, nodes);
            exchanges = ended(running);
            reloaded
        });
        self.delivered.extend(exchanges);
        reloaded
    }

    /// Requests with nothing between them.
    fn group(&mut self, asks: &[&Ask], nodes: &Nodes) {
        if self.way == Way::Overlapping && asks.len() > 1 {
            self.overlap(asks, nodes);
            return;
        }
        for ask in asks {
            let name = if ask.same_connection {
                self.last_connection.clone()
            } else if ask.is_alone() {
                // It leaves its connection in a state that no one shares.
                format!("{} alone", ask.viewer)
            } else if self.way == Way::SameConnection {
                "shared".to_owned()
            } else {
                ask.viewer.clone()
            };
            self.delivered
                .extend(self.connections[ask.node].ask(&name, &[ask], self.too_old));
            self.last_connection = name;
        }
    }

    /// Requests at once: each on a connection of its own or, on one connection, pipelined.
    fn overlap(&mut self, asks: &[&Ask], nodes: &Nodes) {
        let node = asks.first().map_or(0, |ask| ask.node);
        let handshake = asks.first().and_then(|ask| ask.handshake.as_ref());
        let alone =
            |ask: &&Ask| ask.is_alone() || ask.node != node || ask.handshake.as_ref() != handshake;
        if self.way == Way::SameConnection && !asks.iter().any(alone) {
            self.delivered
                .extend(self.connections[node].ask("shared", asks, self.too_old));
            return;
        }
        let (viewers, too_old) = (self.viewers, self.too_old);
        let exchanges =
            thread::scope(|scope| ended(begin(scope, asks, nodes, self.bridge, viewers, too_old)));
        self.delivered.extend(exchanges);
    }
}

/// How a cache is reached over TLS; a cache that has none is spoken to in cleartext.
fn through(bridge: Option<SocketAddr>, node: &dyn Running) -> Option<Through> {
    let (bridge, cache) = bridge.zip(node.tls_address())?;
    Some(Through { bridge, cache })
}

/// A client of a group that is under way.
type Client<'scope> = thread::ScopedJoinHandle<'scope, Vec<Delivered>>;

/// Begins requests at once, each on a connection of its own.
fn begin<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    asks: &[&'env Ask],
    nodes: &Nodes,
    bridge: Option<SocketAddr>,
    viewers: &'env Viewers,
    too_old: u64,
) -> Vec<Client<'scope>> {
    let begun = Instant::now();
    let mut running = Vec::new();
    for (n, &ask) in asks.iter().enumerate() {
        let n = u32::try_from(n).expect("a script has few steps");
        let node = &*nodes[ask.node];
        let (address, through) = (node.address(), through(bridge, node));
        let starts = begun + ask.offset.unwrap_or(STAGGER * n);
        running.push(scope.spawn(move || {
            thread::sleep(starts.saturating_duration_since(Instant::now()));
            Connections::new(address, through, viewers).ask("own", &[ask], too_old)
        }));
    }
    running
}

/// What they were given, in their order.
fn ended(running: Vec<Client<'_>>) -> Vec<Delivered> {
    let mut exchanges = Vec::new();
    for client in running {
        // A client that is lost must not pass for one that was shown nothing.
        exchanges.extend(client.join().expect("a client does not panic"));
    }
    exchanges
}
