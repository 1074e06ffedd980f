//! Digests of meaning.
//!
//! Invariant: what is digested is what the rules decide by, in one order. Names of classes are for
//! people: a renamed class keeps its objects.

use shikiri_record::{Canonical, ClassDigest, Digest, RulesDigest};

use super::limits::LIMITS;
use super::units;
use crate::gated::{ClassGate, GateBy};
use crate::rules::{
    Class, HostPattern, Limits, Match, NamePattern, Origin, OriginHost, PinAction, PinRules,
    QueryKey, Rules, Session, To,
};
use crate::upstream::Spoken;

/// The schema of a class's meaning. Raise it when the built-in lists and numbers of
/// [`identity`](crate::identity) change: what was stored under the old ones must die.
const CLASS_SCHEMA: &str = "shikiri class 1";
const RULES_SCHEMA: &str = "shikiri rules 2";

/// The digest of a class's meaning: all but its name, and what decides who counts as a member and
/// what is personal. Its `digest` is not looked at.
pub(crate) fn class(class: &Class, session: &Session, personal: &[Match]) -> ClassDigest {
    let mut canonical = Canonical::new(CLASS_SCHEMA);
    canonical.bytes(matching(&class.matches).as_bytes());
    canonical.number(match class.to {
        To::Everyone => 0,
        To::Anonymous => 1,
        To::Gated => 2,
    });
    if let Some(gate) = &class.gate {
        self::gate(&mut canonical, gate);
    }
    canonical.list(&class.types, |c, t| {
        c.text(&t.0);
    });
    canonical.number(count(class.statuses.len()));
    for status in &class.statuses {
        canonical.number(u64::from(*status));
    }
    match &class.query {
        QueryKey::All => canonical.number(0),
        QueryKey::Only(listed) => names(canonical.number(1), listed),
        QueryKey::OnlyElsePersonal(listed) => names(canonical.number(2), listed),
    };
    canonical.list(&class.key_headers, |c, name| {
        c.text(name.as_str());
    });
    canonical.number(u64::from(class.key_encoding));
    let lifetimes = &class.lifetimes;
    canonical.number(u64::from(lifetimes.default.is_some()));
    for time in [
        lifetimes.default.unwrap_or_default(),
        lifetimes.max,
        lifetimes.stale_while_revalidate,
        lifetimes.stale_if_error,
    ] {
        canonical.text(&units::show_duration(time));
    }
    canonical.list(&class.volatile, |c, marks| {
        c.text(&marks.from).text(&marks.to);
    });
    canonical.number(class.object_bytes_max);
    if let Some(bytes) = class.slice_bytes {
        canonical.text("slices").number(bytes);
    }
    canonical.bytes(recognition(session, personal).as_bytes());
    ClassDigest(canonical.digest())
}

/// Another credential is another meaning: what was fetched with the old one dies. With which secrets
/// tokens are made decides who sees what is stored, not what it is.
fn gate(canonical: &mut Canonical, gate: &ClassGate) {
    let secret = gate.credential.secret.as_ref();
    match &gate.by {
        GateBy::Origin { target, method } => {
            canonical.text(&target.to_string()).text(method.as_str())
        }
        GateBy::Token(rule) => canonical.text("token").text(&rule.place.to_string()),
    };
    canonical
        .text(gate.credential.header.as_str())
        .number(u64::from(secret.is_some()));
    if let Some(secret) = secret {
        canonical.bytes(secret.identity().as_bytes());
    }
}

/// The digest of everything in force.
pub(crate) fn rules(rules: &Rules) -> RulesDigest {
    let mut canonical = Canonical::new(RULES_SCHEMA);
    // Origins are looked up in an order in which none hides another, so that any such order will do.
    let mut hosts: Vec<Digest> = rules
        .origins
        .iter()
        .flat_map(|o| o.hosts.iter().map(|h| origin(o, h)))
        .collect();
    hosts.sort_unstable();
    canonical.list(&hosts, |c, digest| {
        c.bytes(digest.as_bytes());
    });
    canonical.bytes(recognition(&rules.session, &rules.personal).as_bytes());
    canonical.list(&rules.classes, |c, class| {
        c.text(&class.name)
            .bytes(class.digest.0.as_bytes())
            .number(u64::from(class.is_static));
        if let Some(tokens) = class.gate.as_ref().and_then(ClassGate::tokens) {
            c.list(&tokens.keys, |c, key| {
                let secret = key.secret.as_ref();
                c.number(u64::from(secret.is_some()));
                if let Some(secret) = secret {
                    c.bytes(secret.identity().as_bytes());
                }
            });
        }
    });
    pins(&mut canonical, &rules.pins);
    limits(&mut canonical, &rules.limits);
    RulesDigest(canonical.digest())
}

fn pins(canonical: &mut Canonical, pins: &PinRules) {
    canonical.number(match pins.action {
        PinAction::Record => 0,
        PinAction::Stop => 1,
    });
    canonical.number(u64::from(pins.trip.is_some()));
    if let Some(trip) = &pins.trip {
        canonical
            .number(count(trip.viewers))
            .text(&units::show_duration(trip.within))
            .text(trip.mode.name());
    }
    names(canonical, &pins.cookies);
    canonical.list(&pins.starts, |c, path| {
        c.text(&path.0);
    });
    canonical
        .number(u64::from(pins.judges_owners))
        .number(u64::from(pins.judges_nobodies))
        .number(count(pins.sessions_max));
}

fn limits(canonical: &mut Canonical, limits: &Limits) {
    for limit in LIMITS {
        canonical.text(limit.name).number((limit.get)(limits));
    }
}

fn origin(origin: &Origin, hosts: &HostPattern) -> Digest {
    let mut canonical = Canonical::new("shikiri origin 2");
    let upstream = &origin.upstream;
    canonical
        .text(&hosts.to_string())
        .text(&upstream.address)
        .number(u64::from(upstream.port));
    match &upstream.spoken {
        Spoken::Http1 => canonical.number(0),
        Spoken::Http2 => canonical.number(1),
        Spoken::Tls { ca, server_name } => canonical
            .number(2)
            .text(ca.as_deref().unwrap_or_default())
            .text(server_name.as_deref().unwrap_or_default()),
    };
    canonical.list(&origin.upgrades, |c, protocol| {
        c.text(protocol);
    });
    canonical.number(match origin.host_header {
        OriginHost::Client => 0,
        OriginHost::Origin => 1,
    });
    canonical.digest()
}

/// Who counts as a member, and what is personal whatever a class says.
fn recognition(session: &Session, personal: &[Match]) -> Digest {
    let mut canonical = Canonical::new("shikiri recognition 1");
    for list in [
        &session.cookies,
        &session.ignorable_cookies,
        &session.query,
        &session.query_public,
        &session.segments,
    ] {
        names(&mut canonical, list);
    }
    canonical.list(&session.headers, |c, name| {
        c.text(name.as_str());
    });
    let mut personal: Vec<Digest> = personal.iter().map(matching).collect();
    personal.sort_unstable();
    personal.dedup();
    canonical.list(&personal, |c, digest| {
        c.bytes(digest.as_bytes());
    });
    canonical.digest()
}

fn matching(matches: &Match) -> Digest {
    let mut canonical = Canonical::new("shikiri match 1");
    canonical.list(&matches.hosts, |c, host| {
        c.text(&host.to_string());
    });
    canonical.list(&matches.paths, |c, path| {
        c.text(&path.0);
    });
    canonical.list(&matches.extensions, |c, extension| {
        c.text(extension);
    });
    names(&mut canonical, &matches.query_has);
    names(&mut canonical, &matches.query_lacks);
    canonical.digest()
}

fn names<'c>(canonical: &'c mut Canonical, names: &[NamePattern]) -> &'c mut Canonical {
    canonical.list(names, |c, name| {
        c.text(&name.0);
    })
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits 64 bits")
}
