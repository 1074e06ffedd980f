//! `gate` and `credential` of a class: who may see what is the same for all of them.

use std::path::Path;

use http::{HeaderName, Method, Uri};

use super::fault::{At, Faults, Place};
use super::overlap;
use super::text::{ClassText, CredentialText, GateText};
use super::tokens;
use crate::gated::{ClassGate, EdgeCredential, GateBy, GateTarget};
use crate::hop;
use crate::rules::{Class, HostPattern, Origin, QueryKey, Session, To};
use crate::secret::SecretSource;

/// The gate of a class; none for one that is not `gated`.
pub(super) fn gate(
    said: &ClassText,
    to: To,
    (query, key_headers): (&QueryKey, &[HeaderName]),
    session: &Session,
    faults: &mut Faults<'_>,
) -> Option<ClassGate> {
    if to != To::Gated {
        let said = said
            .gate
            .as_ref()
            .map(|gate| (gate.at, "gate"))
            .or_else(|| said.credential.as_ref().map(|c| (c.at, "credential")));
        if let Some((at, key)) = said {
            faults.add(
                at,
                format!("`{key}` says nothing without `to = \"gated\"`"),
                "Write `to = \"gated\"` if only some may see it, or leave it out.",
            );
        }
        return None;
    }
    let mut missing = |key: &str, instead: &str| {
        faults.add(
            said.at,
            format!("a `gated` class has no `{key}`"),
            format!("Write `{key} = {instead}`."),
        );
    };
    if said.gate.is_none() {
        missing("gate", "{ path = \"/authz{path}\" }");
    }
    if said.credential.is_none() {
        missing(
            "credential",
            "{ header = \"X-Edge-Key\", file = \"/run/secrets/media\" }",
        );
    }
    let (gate, credential) = (said.gate.as_ref()?, said.credential.as_ref()?);
    if let Some(listed) = said
        .key_headers
        .as_ref()
        .filter(|_| !key_headers.is_empty())
    {
        // A client may keep them from the question and have them fetched: `Connection` names what ends
        // with a hop.
        faults.add(
            listed.at,
            "a `gated` class has `key_headers`, and its gate goes by the path and query alone",
            "Leave `key_headers` out, and give what differs paths of its own.",
        );
    }
    let by = if gate.token.is_some() {
        tokens::rule(gate, faults).map(GateBy::Token)
    } else {
        tokens::none(gate, faults);
        let target = target(gate, query, faults);
        let method = method(gate, faults);
        target.map(|target| GateBy::Origin { target, method })
    };
    let credential = edge_credential(credential, key_headers, session, faults);
    let probe = gate.probe.as_ref().and_then(|probe| {
        let is_url = probe.value.starts_with("http://") || probe.value.starts_with("https://");
        let uri = probe.value.parse::<Uri>().ok().filter(|_| is_url);
        if uri.is_none_or(|uri| uri.query().is_some()) {
            faults.add(
                probe.at,
                format!("the probe `{}` is no URL without a query", probe.value),
                "Write something that this class claims: `probe = \"https://shop.example.test/films/probe.mp4\"`.",
            );
            return None;
        }
        Some(probe.value.clone())
    });
    Some(ClassGate {
        by: by?,
        credential: credential?,
        probe,
    })
}

/// A credential is for one origin: another would be told what lets anybody in at the first.
pub(super) fn of_one_origin(
    class: &Class,
    said: &ClassText,
    origins: &[Origin],
    faults: &mut Faults<'_>,
) {
    if class.gate.is_none() {
        return;
    }
    let asked = asked(class, origins);
    if asked.len() > 1 {
        faults.add(
            said.matches.as_ref().map_or(said.at, |matches| matches.at),
            format!(
                "the class `{}` is asked of {} origins, and each would be shown its credential",
                class.name,
                asked.len()
            ),
            "Name hosts of one of them in `match`, and write a class with another credential for each of the others.",
        );
    }
}

/// Nor is one secret for two origins, in two classes: each could bear it to the other.
pub(super) fn one_secret_one_origin(
    classes: &[Class],
    said: &[ClassText],
    origins: &[Origin],
    faults: &mut Faults<'_>,
) {
    let servers = |class: &Class| -> Vec<(&str, u16)> {
        let asked = asked(class, origins).into_iter();
        let upstreams = asked.map(|n| &origins[n].upstream);
        upstreams.map(|of| (&*of.address, of.port)).collect()
    };
    let gated = || {
        let all = classes.iter().zip(said);
        all.filter_map(|(class, said)| Some((class, said, class.gate.as_ref()?)))
    };
    for (n, (class, said, gate)) in gated().enumerate() {
        let before = gated().take(n).find(|(before, _, of)| {
            is_one(&of.credential.source, &gate.credential.source)
                && servers(before) != servers(class)
        });
        if let Some((before, ..)) = before {
            faults.add(
                said.credential.as_ref().map_or(said.at, |said| said.at),
                format!(
                    "the secret in {} is that of the class `{}` too, which is another origin's: each would learn \
                     what lets anybody in at the other",
                    gate.credential.source, before.name
                ),
                "Make a secret for each origin, in a file or variable of its own.",
            );
        }
    }
}

/// Whether two sources are one; `/run/./a` is `/run/a`.
fn is_one(one: &SecretSource, other: &SecretSource) -> bool {
    match (one, other) {
        (SecretSource::File(one), SecretSource::File(other)) => Path::new(one) == Path::new(other),
        _ => one == other,
    }
}

/// The places of the origins that are asked for what a class claims.
fn asked(class: &Class, origins: &[Origin]) -> Vec<usize> {
    let any = [HostPattern::Any];
    let hosts = match &class.matches.hosts[..] {
        [] => &any[..],
        hosts => hosts,
    };
    // The first that answers for a host takes it.
    let asked = |host: &HostPattern| {
        let mut asked = Vec::new();
        for (n, origin) in origins.iter().enumerate() {
            if origin.hosts.iter().any(|of| overlap::hosts_meet(of, host)) {
                asked.push(n);
            }
            if origin.hosts.iter().any(|of| overlap::host_covers(of, host)) {
                break;
            }
        }
        asked
    };
    let mut asked: Vec<usize> = hosts.iter().flat_map(asked).collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

/// No client may bring what carries a credential of the edge's own, in a key of another class either.
pub(super) fn in_no_key(classes: &[Class], said: &[ClassText], faults: &mut Faults<'_>) {
    for (class, said) in classes.iter().zip(said) {
        let credentials = classes.iter().filter_map(|of| {
            let gate = of.gate.as_ref().filter(|_| of.name != class.name)?;
            Some((&of.name, &gate.credential.header))
        });
        for (of, header) in credentials {
            if class.key_headers.iter().any(|of| hop::is_alike(of, header)) {
                faults.add(
                    said.key_headers
                        .as_ref()
                        .map_or(said.at, |headers| headers.at),
                    format!(
                        "`{header}` is in the key, and bears the credential of the class `{of}`"
                    ),
                    "Leave it out of `key_headers`: no client may bring it.",
                );
            }
        }
    }
}

fn target(said: &GateText, query: &QueryKey, faults: &mut Faults<'_>) -> Option<GateTarget> {
    let Some(path) = &said.path else {
        faults.add(
            said.at,
            "the gate has no `path`",
            "Write where the origin says who may see what: `path = \"/authz{path}\"`.",
        );
        return None;
    };
    let target = match GateTarget::parse(&path.value) {
        Ok(target) => target,
        Err((what, instead)) => {
            faults.add(path.at, what, instead);
            return None;
        }
    };
    let keys_no_query = matches!(
        query,
        QueryKey::Only(listed) | QueryKey::OnlyElsePersonal(listed) if listed.is_empty()
    );
    if !keys_no_query && !target.holds_query() {
        faults.add(
            path.at,
            "the gate is not asked for the query, and what is fetched depends on it",
            format!(
                "Write `path = \"{}?{{query}}\"`, or `query = []` in the class.",
                path.value
            ),
        );
    }
    Some(target)
}

fn method(said: &GateText, faults: &mut Faults<'_>) -> Method {
    match said.method.as_ref().map(|m| (m.value.as_str(), m.at)) {
        None | Some(("GET", _)) => Method::GET,
        Some(("HEAD", _)) => Method::HEAD,
        Some((other, at)) => {
            faults.add(
                at,
                format!("a gate cannot be asked with `{other}`"),
                "Write \"GET\" or \"HEAD\": it must change nothing.",
            );
            Method::GET
        }
    }
}

fn edge_credential(
    said: &CredentialText,
    key_headers: &[HeaderName],
    session: &Session,
    faults: &mut Faults<'_>,
) -> Option<EdgeCredential> {
    let header = match &said.header {
        None => {
            faults.add(
                said.at,
                "the credential has no `header`",
                "Write `header = \"X-Edge-Key\"`.",
            );
            None
        }
        Some(said) => header(said, key_headers, session, faults),
    };
    let source = match (&said.file, &said.env) {
        (Some(file), None) if !file.value.is_empty() => {
            Some(SecretSource::File(file.value.clone()))
        }
        (None, Some(env)) if is_variable(&env.value) => {
            Some(SecretSource::Environment(env.value.clone()))
        }
        (file, env) => {
            let at: Place = env
                .as_ref()
                .or(file.as_ref())
                .map_or(said.at, |said| said.at);
            faults.add(
                at,
                "the credential does not say in one way where its secret is found",
                "Write `file = \"/run/secrets/media\"` or `env = \"MEDIA_KEY\"`; the secret itself never stands in a policy.",
            );
            None
        }
    };
    Some(EdgeCredential {
        header: header?,
        source: source?,
        secret: None,
    })
}

pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A header that nobody else sends, and no cache reads.
fn header(
    said: &At<String>,
    key_headers: &[HeaderName],
    session: &Session,
    faults: &mut Faults<'_>,
) -> Option<HeaderName> {
    let wrong = |why: &str, faults: &mut Faults<'_>| {
        faults.add(
            said.at,
            format!("the credential cannot be in `{}`: {why}", said.value),
            "Write a header of your own, such as `X-Edge-Key`.",
        );
        None
    };
    let Ok(name) = HeaderName::from_bytes(said.value.to_ascii_lowercase().as_bytes()) else {
        return wrong("it is no header name", faults);
    };
    let folded = hop::folded(&name);
    let is_among = |names: &[HeaderName]| names.iter().any(|of| hop::is_alike(of, &name));
    if hop::is_credential(&folded) || is_among(&session.headers) {
        return wrong("members show theirs there", faults);
    }
    if is_among(key_headers) {
        return wrong("it is in the key, which clients choose", faults);
    }
    if hop::is_hop_claim(&name) || hop::says_nothing_of_its_sender(&folded) || folded == "referer" {
        return wrong("it has a meaning already", faults);
    }
    Some(name)
}
