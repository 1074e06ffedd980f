//! From what a policy says to what it means.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use shikiri_record::{ClassDigest, Digest, PolicyText, RulesDigest};

use super::builtin::{self, Kind};
use super::fault::{At, Faults, Place, PolicyError};
use super::text::{
    self, ClassText, Document, LifetimeText, MatchText, OriginText, SessionText, Texts,
};
use super::{digest, gates, overlap, pins, slices, units};
use crate::rules::{
    Class, HostPattern, Lifetimes, Limits, Match, NamePattern, Origin, OriginHost, PathPattern,
    QueryKey, Rules, Session, SpanMarks, To, TypePattern, names_html,
};
use crate::upstream::{Spoken, Upstream};
use crate::{hop, identity};

/// No object lives longer, fresh or stale: a year and a day.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const NAME_BYTES_MAX: usize = 64;
/// More would split a class into variants that nobody asks for twice.
const KEY_HEADERS_MAX: usize = 8;
const MARK_BYTES_MAX: usize = 256;

/// Compiles a policy; without a text, the built-in default. `origin`: the origin named on the command
/// line, for every host that the policy names none for.
///
/// # Errors
/// Every fault that was found, in the order of the text: a policy is in force as a whole or not at
/// all.
pub fn compile(
    text: Option<&PolicyText>,
    origin: Option<Origin>,
) -> Result<Rules, Vec<PolicyError>> {
    let mut faults = Faults::of(text);
    let document = text.map_or_else(Document::default, |t| text::read(&t.text, &mut faults));
    let rules = meaning(document, origin, &mut faults);
    if faults.is_empty() {
        Ok(rules)
    } else {
        Err(faults.into_errors())
    }
}

/// Reads the URL of an origin: `http://host[:port]`, or with `https://` or `h2c://`. The origin answers for every host, and is sent
/// the `Host` that the client asked for.
///
/// # Errors
/// What is wrong with the URL, as a sentence.
pub fn origin(url: &str) -> Result<Origin, String> {
    Ok(Origin {
        hosts: vec![HostPattern::Any],
        upstream: Arc::new(upstream(url)?),
        host_header: OriginHost::Client,
        upgrades: Vec::new(),
    })
}

fn meaning(document: Document, command_line: Option<Origin>, faults: &mut Faults<'_>) -> Rules {
    let limits = limits(&document, faults);
    let origins = origins(&document.origins, command_line, faults);
    let session = session(&document.session, faults);
    let answers = |hosts: &HostPattern| {
        origins.is_empty()
            || origins
                .iter()
                .flat_map(|o| &o.hosts)
                .any(|o| overlap::hosts_meet(o, hosts))
    };
    let mut personal = Vec::new();
    for said in &document.personal {
        let matches = matching(said, &answers, faults);
        if says_nothing(said) {
            faults.add(
                said.at,
                "this `personal` would make every request personal",
                "Say which: `paths = [\"/account/**\"]`. To share nothing at all, write no class and `[builtin] assets = false`.",
            );
        }
        personal.push(matches);
    }
    let mut classes = Vec::new();
    for said in &document.classes {
        let class = class(said, &limits, &session, &answers, faults);
        reachable(&class, said, &classes, &personal, faults);
        gates::of_one_origin(&class, said, &origins, faults);
        classes.push(class);
    }
    gates::one_secret_one_origin(&classes, &document.classes, &origins, faults);
    gates::in_no_key(&classes, &document.classes, faults);
    let has_assets = classes.iter().any(|class| class.name == builtin::ASSETS);
    if document.assets.unwrap_or(true) && !has_assets {
        classes.push(builtin_assets(&limits));
    }
    for class in &mut classes {
        class.digest = digest::class(class, &session, &personal);
    }
    let classes = classes.into_iter().map(Arc::new).collect();
    let pins = pins::pins(document.pins.as_ref(), &session, faults);
    let digest = RulesDigest(unsealed());
    let mut rules = Rules {
        digest,
        origins,
        session,
        personal,
        classes,
        pins,
        limits,
    };
    rules.digest = digest::rules(&rules);
    rules
}

/// What stands for a digest until all that it is of is known.
fn unsealed() -> Digest {
    Digest::of(b"")
}

fn builtin_assets(limits: &Limits) -> Class {
    let kind = Kind::Assets;
    Class {
        name: builtin::ASSETS.to_owned(),
        digest: ClassDigest(unsealed()),
        matches: kind.matches().expect("assets have extensions"),
        to: kind.to().expect("assets are for everyone"),
        gate: None,
        types: kind.types().expect("assets have types"),
        statuses: Kind::statuses(),
        query: QueryKey::All,
        key_headers: Vec::new(),
        key_encoding: kind.key_encoding(),
        lifetimes: kind.lifetimes(),
        volatile: Vec::new(),
        object_bytes_max: kind.object_bytes_max(limits),
        slice_bytes: None,
        is_static: kind.is_static(),
    }
}

fn limits(document: &Document, faults: &mut Faults<'_>) -> Limits {
    let mut limits = Limits::default();
    for (limit, said) in &document.limits {
        if (limit.min..=limit.max).contains(&said.value) {
            (limit.set)(&mut limits, said.value);
        } else {
            let show = |value| limit.unit.show(value);
            let what = format!("`{}` is {}", limit.name, show(said.value));
            let range = format!(
                "Write a value from {} to {}.",
                show(limit.min),
                show(limit.max)
            );
            faults.add(said.at, what, range);
        }
    }
    let said = |name: &str| {
        document
            .limits
            .iter()
            .find(|(limit, _)| limit.name == name)
            .and_then(|(_, said)| said.at)
    };
    if limits.target_bytes_max > limits.head_bytes_max {
        let at = said("target_bytes_max").or_else(|| said("head_bytes_max"));
        faults.add(
            at,
            "`target_bytes_max` is more than `head_bytes_max`, and the target is part of the head",
            format!(
                "Write at most {}.",
                units::show_size(u64::try_from(limits.head_bytes_max).unwrap_or(u64::MAX))
            ),
        );
    }
    limits
}

fn origins(
    said: &[OriginText],
    command_line: Option<Origin>,
    faults: &mut Faults<'_>,
) -> Vec<Origin> {
    let mut origins: Vec<Origin> = Vec::new();
    for said in said {
        let mut hosts: Vec<HostPattern> = Vec::new();
        for pattern in said.hosts.iter().flat_map(|hosts| &hosts.value) {
            let Some(host) = take(host_pattern(&pattern.value), pattern.at, faults) else {
                continue;
            };
            let before = origins
                .iter()
                .flat_map(|o| &o.hosts)
                .find(|o| overlap::host_covers(o, &host));
            if let Some(before) = before {
                let (what, instead) = if *before == host {
                    (
                        format!("`{host}` is a host of two origins"),
                        "Name it in one of them.".to_owned(),
                    )
                } else {
                    (
                        format!(
                            "`{host}` is never reached: `{before}` of an origin above takes it"
                        ),
                        "Move this origin above that one.".to_owned(),
                    )
                };
                faults.add(pattern.at, what, instead);
            }
            hosts.push(host);
        }
        sort(&mut hosts, ToString::to_string);
        if said
            .hosts
            .as_ref()
            .is_none_or(|hosts| hosts.value.is_empty())
        {
            faults.add(
                said.hosts.as_ref().map_or(said.at, |hosts| hosts.at),
                "this origin answers for no host",
                "Write `hosts = [\"shop.example.test\"]`, or `[\"*\"]` for any.",
            );
        }
        let host_header = match said.host_header.as_ref().map(|h| (h.value.as_str(), h.at)) {
            None | Some(("client", _)) => OriginHost::Client,
            Some(("origin", _)) => OriginHost::Origin,
            Some((other, at)) => {
                faults.add(
                    at,
                    format!("`host_header` cannot be `{other}`"),
                    "Write \"client\" (the host that the client asked for) or \"origin\" (the origin's own).",
                );
                OriginHost::Client
            }
        };
        let Some(url) = &said.url else {
            faults.add(
                said.at,
                "this origin has no `url`",
                "Write `url = \"http://127.0.0.1:8080\"`.",
            );
            continue;
        };
        match upstream(&url.value) {
            Ok(mut upstream) => {
                certified(&mut upstream.spoken, said, faults);
                origins.push(Origin {
                    hosts,
                    upgrades: upgrades(&upstream.spoken, said, faults),
                    upstream: Arc::new(upstream),
                    host_header,
                });
            }
            Err(why) => faults.add(url.at, why, "Write `url = \"http://127.0.0.1:8080\"`."),
        }
    }
    if let Some(origin) = command_line {
        if origins
            .iter()
            .flat_map(|o| &o.hosts)
            .any(|host| *host == HostPattern::Any)
        {
            faults.add(
                None,
                "both the policy and the command line name an origin for every host",
                "Leave out `--origin`, or the `*` in the policy.",
            );
        }
        origins.push(origin);
    } else if said.is_empty() {
        faults.add(
            None,
            "no origin is named",
            "Write an [[origin]] with `hosts` and `url`, or start with `--origin URL`.",
        );
    }
    origins
}

/// Who may certify an origin, and as whom.
fn certified(spoken: &mut Spoken, said: &OriginText, faults: &mut Faults<'_>) {
    let Spoken::Tls { ca, server_name } = spoken else {
        for (key, at) in [("ca", &said.ca), ("server_name", &said.server_name)] {
            if let Some(said) = at {
                faults.add(
                    said.at,
                    format!("`{key}` is of an origin that is not spoken to with TLS"),
                    "Write `https://` in its `url`, or leave it out.",
                );
            }
        }
        return;
    };
    if let Some(said) = &said.ca {
        if said.value.starts_with('/') {
            *ca = Some(said.value.as_str().into());
        } else {
            faults.add(
                said.at,
                format!("the file `{}` is not named from the root on", said.value),
                "Write its whole path: `ca = \"/etc/shikiri/origin-ca.pem\"`.",
            );
        }
    }
    if let Some(said) = &said.server_name {
        let name = said.value.to_ascii_lowercase();
        if is_host(&name) || name.parse::<std::net::Ipv6Addr>().is_ok() {
            *server_name = Some(name.into());
        } else {
            faults.add(
                said.at,
                format!("`{}` is no host name or address", said.value),
                "Write the name in the origin's certificate: `server_name = \"shop.internal\"`.",
            );
        }
    }
}

/// What clients may switch to with an origin.
fn upgrades(spoken: &Spoken, said: &OriginText, faults: &mut Faults<'_>) -> Vec<String> {
    let Some(listed) = &said.upgrade else {
        return Vec::new();
    };
    if *spoken == Spoken::Http2 {
        faults.add(
            listed.at,
            "an origin that is spoken to with HTTP/2 alone switches to no other protocol",
            "Write `http://` or `https://` in its `url`, or leave `upgrade` out.",
        );
    }
    let mut protocols = Vec::new();
    for said in &listed.value {
        let protocol = said.value.to_ascii_lowercase();
        let is_token = !protocol.is_empty()
            && protocol
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'/'));
        // Requests in such a tunnel would be seen by nobody.
        let is_http = ["h2", "http", "tls"]
            .iter()
            .any(|start| protocol.starts_with(start));
        if !is_token || is_http {
            faults.add(
                said.at,
                format!("`{}` cannot be switched to", said.value),
                "Write the name of a protocol that is not HTTP: `upgrade = [\"websocket\"]`.",
            );
        }
        protocols.push(protocol);
    }
    sort(&mut protocols, Clone::clone);
    protocols
}

/// Where an origin listens and how it is spoken to, by its URL.
fn upstream(url: &str) -> Result<Upstream, String> {
    let lower = url.trim().to_ascii_lowercase();
    let tls = Spoken::Tls {
        ca: None,
        server_name: None,
    };
    let (spoken, rest) = [
        ("http://", Spoken::Http1),
        ("https://", tls),
        ("h2c://", Spoken::Http2),
    ]
    .into_iter()
    .find_map(|(scheme, spoken)| Some((spoken, lower.strip_prefix(scheme)?)))
    .ok_or_else(|| format!("`{url}` does not start with `http://`, `https://` or `h2c://`"))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(format!(
            "`{url}` holds a user name or password, which an origin's URL cannot"
        ));
    }
    if rest.contains(['/', '?', '#']) {
        return Err(format!(
            "`{url}` holds more than a host and a port: requests bring their own path"
        ));
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or_else(|| format!("`{url}`: `]` is missing"))?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("`{host}` is no IPv6 address"))?;
            let port = if port.is_empty() {
                None
            } else {
                Some(port.strip_prefix(':').unwrap_or(""))
            };
            (host, port)
        }
        None => {
            let (host, port) = rest
                .split_once(':')
                .map_or((rest, None), |(h, p)| (h, Some(p)));
            if !is_host(host) {
                return Err(format!("`{host}` is no host name or address"));
            }
            (host, port)
        }
    };
    let port = match port {
        None if matches!(spoken, Spoken::Tls { .. }) => 443,
        None => 80,
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text
            .parse()
            .ok()
            .filter(|&port| port > 0)
            .ok_or_else(|| format!("`{text}` is no port"))?,
        Some(text) => return Err(format!("`{text}` is no port")),
    };
    Ok(Upstream {
        address: host.into(),
        port,
        spoken,
    })
}

/// A host name or IPv4 address: letters, digits, `-`, `_`, dots between.
fn is_host(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn session(said: &SessionText, faults: &mut Faults<'_>) -> Session {
    let cookies = names(said.cookies.as_ref(), faults);
    if said
        .cookies
        .as_ref()
        .is_some_and(|cookies| cookies.value.is_empty())
    {
        faults.add(
            said.cookies.as_ref().and_then(|cookies| cookies.at),
            "`cookies` lists none, which would mean every one",
            "Leave it out when every cookie may identify a member, or list those that do.",
        );
    }
    let mut ignorable_cookies = names(said.ignorable_cookies.as_ref(), faults);
    for pattern in said.ignorable_cookies.iter().flat_map(|said| &said.value) {
        let ignored = NamePattern(pattern.value.clone());
        if let Some(cookie) = cookies
            .iter()
            .find(|cookie| overlap::names_meet(cookie, &ignored))
        {
            faults.add(
                pattern.at,
                format!(
                    "`{}` is to be ignored, and `cookies` says that `{}` identifies a member",
                    ignored.0, cookie.0
                ),
                "Name each cookie in one of the two.",
            );
        }
    }
    // What the policy says of a cookie goes before what is built in.
    ignorable_cookies.extend(
        builtin::ignorable_cookies()
            .filter(|built_in| !cookies.iter().any(|c| overlap::names_meet(c, built_in))),
    );
    sort(&mut ignorable_cookies, Clone::clone);
    let query = names(said.query.as_ref(), faults);
    let query_public = names(said.query_public.as_ref(), faults);
    for pattern in said.query_public.iter().flat_map(|said| &said.value) {
        let public = NamePattern(pattern.value.clone());
        if identity::names_identity(&public.0) {
            faults.add(
                pattern.at,
                format!("`{}` is on the built-in list of parameters that identify somebody", public.0),
                "That list cannot be shortened; leave it out here, or use another name in your links.",
            );
        } else if query.contains(&public) {
            faults.add(
                pattern.at,
                format!("`{}` is both public and personal", public.0),
                "Name it in `query` or in `query_public`.",
            );
        }
    }
    let segments = names(said.segments.as_ref(), faults);
    for pattern in said.segments.iter().flat_map(|said| &said.value) {
        if pattern.value.contains('/') {
            faults.add(
                pattern.at,
                format!("`{}` holds a slash, and no segment does", pattern.value),
                "Write one segment; for paths use [[personal]] `paths`.",
            );
        }
    }
    Session {
        cookies,
        ignorable_cookies,
        headers: headers(said.headers.as_ref(), faults),
        query,
        query_public,
        segments,
    }
}

fn matching(
    said: &MatchText,
    answers: &impl Fn(&HostPattern) -> bool,
    faults: &mut Faults<'_>,
) -> Match {
    let mut hosts = Vec::new();
    for pattern in said.hosts.iter().flat_map(|said| &said.value) {
        if let Some(host) = take(host_pattern(&pattern.value), pattern.at, faults) {
            if !answers(&host) {
                faults.add(
                    pattern.at,
                    format!("no origin answers for `{host}`"),
                    "Add it to the `hosts` of an [[origin]], or leave it out here.",
                );
            }
            hosts.push(host);
        }
    }
    sort(&mut hosts, ToString::to_string);
    let mut paths = Vec::new();
    for pattern in said.paths.iter().flat_map(|said| &said.value) {
        paths.extend(
            take(path_patterns(&pattern.value), pattern.at, faults)
                .into_iter()
                .flatten(),
        );
    }
    sort(&mut paths, |p| p.0.clone());
    let mut extensions = Vec::new();
    for pattern in said.extensions.iter().flat_map(|said| &said.value) {
        extensions.extend(take(extension(&pattern.value), pattern.at, faults));
    }
    sort(&mut extensions, Clone::clone);
    Match {
        hosts,
        paths,
        extensions,
        query_has: names(said.query_has.as_ref(), faults),
        query_lacks: names(said.query_lacks.as_ref(), faults),
    }
}

/// Whether a match names no condition at all, well formed or not.
fn says_nothing(said: &MatchText) -> bool {
    [
        &said.hosts,
        &said.paths,
        &said.extensions,
        &said.query_has,
        &said.query_lacks,
    ]
    .into_iter()
    .flatten()
    .all(|list| list.value.is_empty())
}

fn class(
    said: &ClassText,
    limits: &Limits,
    session: &Session,
    answers: &impl Fn(&HostPattern) -> bool,
    faults: &mut Faults<'_>,
) -> Class {
    let name = class_name(said, faults);
    let kind = Kind::of(&name);
    let matches = match &said.matches {
        Some(said) => {
            let matches = matching(said, answers, faults);
            if says_nothing(said) {
                faults.add(
                    said.at,
                    format!("the class `{name}` would claim every request"),
                    "Say which; all of them is `match = { paths = [\"/**\"] }`.",
                );
            }
            personal_parameters(said.query_has.as_ref(), session, faults);
            matches
        }
        None => kind.matches().unwrap_or_else(|| {
            faults.add(
                said.at,
                format!("the class `{name}` has no `match`"),
                "Write `match = { paths = [\"/news/**\"] }`.",
            );
            Match::default()
        }),
    };
    let to = match said.to.as_ref().map(|to| (to.value.as_str(), to.at)) {
        Some(("everyone", _)) => To::Everyone,
        Some(("anonymous", _)) => To::Anonymous,
        Some(("gated", _)) => To::Gated,
        Some((other, at)) => {
            faults.add(
                at,
                format!("`to` cannot be `{other}`"),
                "Write \"anonymous\", \"everyone\" or \"gated\".",
            );
            To::Anonymous
        }
        None => kind.to().unwrap_or_else(|| {
            faults.add(
                said.at,
                format!("the class `{name}` does not say to whom it may be served"),
                "Write `to = \"anonymous\"` (a member's request goes to the origin) or `to = \"everyone\"` \
                 (members get the logged-out copy too).",
            );
            To::Anonymous
        }),
    };
    let types = types(said, kind, &name, faults);
    let query = query(said, session, faults);
    let key_headers = key_headers(said, session, faults);
    let gate = gates::gate(said, to, (&query, &key_headers), session, faults);
    let object_bytes_max = object_bytes_max(said, kind, limits, faults);
    let slice_bytes = slices::slice_bytes(said, object_bytes_max, faults);
    Class {
        matches,
        to,
        gate,
        is_static: is_static(said, kind, &types, faults),
        types,
        statuses: statuses(said, faults),
        query,
        key_headers,
        key_encoding: said
            .key_encoding
            .as_ref()
            .map_or(kind.key_encoding() && slice_bytes.is_none(), |said| {
                said.value
            }),
        lifetimes: lifetimes(said.lifetime.as_ref(), kind.lifetimes(), faults),
        volatile: volatile(said, faults),
        object_bytes_max,
        slice_bytes,
        name,
        digest: ClassDigest(unsealed()),
    }
}

fn class_name(said: &ClassText, faults: &mut Faults<'_>) -> String {
    let Some(name) = &said.name else {
        faults.add(
            said.at,
            "a class has no `name`",
            "Write `name = \"pages\"`.",
        );
        return String::new();
    };
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.value.is_empty()
        || name.value.len() > NAME_BYTES_MAX
        || !name.value.bytes().all(is_plain)
    {
        faults.add(
            name.at,
            format!("`{}` is no name for a class", name.value),
            format!("Write up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`."),
        );
    }
    if name.value == "personal" {
        faults.add(
            name.at,
            "`personal` is what no class claims",
            "Choose another name, or write a [[personal]].",
        );
    }
    name.value.clone()
}

fn types(said: &ClassText, kind: Kind, name: &str, faults: &mut Faults<'_>) -> Vec<TypePattern> {
    let Some(listed) = &said.types else {
        return kind.types().unwrap_or_else(|| {
            faults.add(
                said.at,
                format!("the class `{name}` has no `types`"),
                "Write which content types may be stored: `types = [\"text/html\"]`.",
            );
            Vec::new()
        });
    };
    if listed.value.is_empty() {
        faults.add(
            listed.at,
            "`types` lists none, so nothing could be stored",
            "Write which: `types = [\"text/html\"]`.",
        );
    }
    let mut types = Vec::new();
    for pattern in &listed.value {
        types.extend(take(type_pattern(&pattern.value), pattern.at, faults));
    }
    sort(&mut types, |t| t.0.clone());
    types
}

/// Whether mode `static` shares the class. A kind that is meant for static files is one of them only while
/// it declares nothing but their types; what says so itself may declare any type but HTML.
fn is_static(said: &ClassText, kind: Kind, types: &[TypePattern], faults: &mut Faults<'_>) -> bool {
    let Some(said) = &said.is_static else {
        return kind.is_static() && types.iter().all(builtin::is_of_static_files);
    };
    if said.value && names_html(types) {
        faults.add(
            said.at,
            "a class that shares HTML is not one of static files",
            "Leave out `static`, or HTML in `types`.",
        );
    }
    said.value
}

fn statuses(said: &ClassText, faults: &mut Faults<'_>) -> BTreeSet<u16> {
    let Some(listed) = &said.statuses else {
        return Kind::statuses();
    };
    if listed.value.is_empty() {
        faults.add(
            listed.at,
            "`statuses` lists none, so nothing could be stored",
            "Write which: `statuses = [200]`.",
        );
    }
    let mut statuses = BTreeSet::new();
    for status in &listed.value {
        let why = match status.value {
            206 => "206 is a part; parts are cut from whole objects here",
            304 => "304 says that a stored object is still right; it is none itself",
            401 | 407 => "it asks one client for credentials",
            200..=599 => {
                statuses.insert(u16::try_from(status.value).expect("at most 599"));
                continue;
            }
            _ => "it is not a final status: 200 to 599",
        };
        faults.add(
            status.at,
            format!("the status {} cannot be shared: {why}", status.value),
            "Leave it out.",
        );
    }
    statuses
}

fn query(said: &ClassText, session: &Session, faults: &mut Faults<'_>) -> QueryKey {
    let Some(listed) = &said.query else {
        if let Some(otherwise) = &said.query_else {
            faults.add(
                otherwise.at,
                "`query_else` says nothing without `query`",
                "List in `query` the parameters that the page depends on.",
            );
        }
        return QueryKey::All;
    };
    let patterns = names(Some(listed), faults);
    personal_parameters(Some(listed), session, faults);
    match said
        .query_else
        .as_ref()
        .map(|said| (said.value.as_str(), said.at))
    {
        None | Some(("drop", _)) => QueryKey::Only(patterns),
        Some(("personal", _)) => QueryKey::OnlyElsePersonal(patterns),
        Some((other, at)) => {
            faults.add(
                at,
                format!("`query_else` cannot be `{other}`"),
                "Write \"drop\" (the origin does not see other parameters) or \"personal\" (a request with another is not shared).",
            );
            QueryKey::Only(patterns)
        }
    }
}

/// A parameter that makes every request personal can be no part of what is shared.
fn personal_parameters(listed: Option<&Texts>, session: &Session, faults: &mut Faults<'_>) {
    for name in listed.iter().flat_map(|listed| &listed.value) {
        let literal = NamePattern(name.value.clone());
        let by = if name.value.ends_with('*') {
            continue;
        } else if identity::names_identity(&name.value) {
            "the built-in list"
        } else if session
            .query
            .iter()
            .any(|p| overlap::name_covers(p, &literal))
        {
            "[session] `query`"
        } else {
            continue;
        };
        faults.add(
            name.at,
            format!(
                "a request with the parameter `{}` is personal by {by}, and never shared",
                name.value
            ),
            "Leave it out here.",
        );
    }
}

fn key_headers(said: &ClassText, session: &Session, faults: &mut Faults<'_>) -> Vec<HeaderName> {
    let Some(listed) = &said.key_headers else {
        return Vec::new();
    };
    let headers = headers(Some(listed), faults);
    if headers.len() > KEY_HEADERS_MAX {
        faults.add(
            listed.at,
            format!("{} headers are in the key", headers.len()),
            format!("Write at most {KEY_HEADERS_MAX}: each splits the class into more copies."),
        );
    }
    for said in &listed.value {
        let Ok(name) = HeaderName::from_bytes(said.value.to_ascii_lowercase().as_bytes()) else {
            continue;
        };
        let why = if hop::is_credential(&name) || session.headers.contains(&name) {
            "it is a credential, and what a credential selects is one person's"
        } else if hop::is_hop_claim(&name) {
            "it says whose request this is, or claims to"
        } else if hop::names_a_credential(&name) {
            "it says by its name that it is a credential or a token, and what one selects is one person's"
        } else if hop::names_one_request(&name) {
            "it names one request or its trace: it differs each time, or is one session's"
        } else if name == http::header::ACCEPT_ENCODING {
            "`key_encoding = true` puts a normal form of it there"
        } else if !hop::never_in_a_key(&name) {
            continue;
        } else {
            match name.as_str() {
                "origin" | "referer" | "user-agent" => {
                    "clients choose it freely, so no two keys would be one"
                }
                "range"
                | "if-match"
                | "if-none-match"
                | "if-modified-since"
                | "if-unmodified-since"
                | "if-range" => "it chooses how a stored object is shown, not which",
                "cache-control" | "pragma" => "it speaks to caches, not to the origin",
                "content-type" | "content-encoding" => {
                    "it describes a body, and a shared request has none"
                }
                _ => "it belongs to the connection or the message",
            }
        };
        faults.add(
            said.at,
            format!("`{name}` can be in no key: {why}"),
            "Leave it out.",
        );
    }
    headers
}

fn lifetimes(said: Option<&LifetimeText>, kind: Lifetimes, faults: &mut Faults<'_>) -> Lifetimes {
    let Some(said) = said else {
        return kind;
    };
    let mut time = |said: Option<&At<Duration>>, key: &str, default: Duration, min: Duration| {
        let Some(said) = said else {
            return default;
        };
        if said.value < min || said.value > LIFETIME_MAX {
            faults.add(
                said.at,
                format!("`{key}` is {}", units::show_duration(said.value)),
                format!(
                    "Write a value from {} to {}.",
                    units::show_duration(min),
                    units::show_duration(LIFETIME_MAX)
                ),
            );
        }
        said.value
    };
    let second = Duration::from_secs(1);
    let max = time(said.max.as_ref(), "max", kind.max, second);
    let stale_while_revalidate = time(
        said.stale_while_revalidate.as_ref(),
        "stale_while_revalidate",
        kind.stale_while_revalidate,
        Duration::ZERO,
    );
    let stale_if_error = time(
        said.stale_if_error.as_ref(),
        "stale_if_error",
        kind.stale_if_error,
        Duration::ZERO,
    );
    let default = match &said.default {
        // The kind's default gives way to a stated maximum.
        None => kind.default.map(|default| default.min(max)),
        Some(At { value: None, .. }) => None,
        Some(At {
            value: Some(default),
            at,
        }) => {
            if *default < second {
                faults.add(*at, "`default` is less than a second", "Write at least \"1s\", or \"none\": then only what the origin gives a lifetime is stored.");
            } else if *default > max {
                faults.add(
                    *at,
                    format!(
                        "`default` ({}) is more than `max` ({})",
                        units::show_duration(*default),
                        units::show_duration(max)
                    ),
                    "Write a shorter `default` or a longer `max`.",
                );
            }
            Some(*default)
        }
    };
    Lifetimes {
        default,
        max,
        stale_while_revalidate,
        stale_if_error,
    }
}

fn volatile(said: &ClassText, faults: &mut Faults<'_>) -> Vec<SpanMarks> {
    let mut volatile = Vec::new();
    for marks in &said.volatile {
        let mut mark = |key: &str, mark: Option<&At<String>>| {
            let text = mark.map_or("", |mark| mark.value.as_str());
            if text.is_empty() || text.len() > MARK_BYTES_MAX {
                let at = mark.map_or(marks.at, |mark| mark.at);
                let what = if text.is_empty() {
                    "is empty"
                } else {
                    "is too long"
                };
                faults.add(
                    at,
                    format!("the mark `{key}` {what}"),
                    format!("Write the text that stands there in every copy, up to {MARK_BYTES_MAX} bytes."),
                );
            }
            let lower = text.to_ascii_lowercase();
            if let Some(whole) = ["<body", "<html"]
                .into_iter()
                .find(|tag| lower.contains(tag))
            {
                faults.add(
                    mark.map_or(marks.at, |mark| mark.at),
                    format!("the mark `{key}` contains `{whole}`, and would make the whole page volatile"),
                    "Write the texts just before and after what differs, as `<!-- generated ` and ` -->`.",
                );
            }
            text.to_owned()
        };
        let from = mark("from", marks.from.as_ref());
        let to = mark("to", marks.to.as_ref());
        volatile.push(SpanMarks { from, to });
    }
    sort(&mut volatile, |marks| {
        (marks.from.clone(), marks.to.clone())
    });
    volatile
}

fn object_bytes_max(said: &ClassText, kind: Kind, limits: &Limits, faults: &mut Faults<'_>) -> u64 {
    let Some(said) = &said.object_bytes_max else {
        return kind.object_bytes_max(limits);
    };
    if said.value == 0 || said.value > limits.store_bytes_max {
        faults.add(
            said.at,
            format!("`object_bytes_max` is {}", units::show_size(said.value)),
            format!(
                "Write at least \"1 B\" and at most the store's `store_bytes_max` ({}).",
                units::show_size(limits.store_bytes_max)
            ),
        );
    }
    said.value
}

/// Whether a class can claim anything, after what stands before it.
fn reachable(
    class: &Class,
    said: &ClassText,
    before: &[Class],
    personal: &[Match],
    faults: &mut Faults<'_>,
) {
    let at = said.matches.as_ref().map_or(said.at, |matches| matches.at);
    let name = &class.name;
    if let (Some(said), true) = (&said.name, before.iter().any(|other| other.name == *name)) {
        faults.add(
            said.at,
            format!("two classes are named `{name}`"),
            "Give each its own name.",
        );
    }
    if class.matches == Match::default() {
        return;
    }
    if personal
        .iter()
        .any(|personal| overlap::covers(personal, &class.matches))
    {
        faults.add(
            at,
            format!("the class `{name}` never claims a request: a [[personal]] takes all of them"),
            "Remove the one or the other.",
        );
    }
    let Some(other) = before.iter().find(|other| {
        other.matches != Match::default() && overlap::covers(&other.matches, &class.matches)
    }) else {
        return;
    };
    let what = if other.matches == class.matches {
        format!(
            "the classes `{}` and `{name}` have the same match",
            other.name
        )
    } else {
        format!(
            "the class `{name}` never claims a request: `{}` above takes all of them",
            other.name
        )
    };
    faults.add(
        at,
        what,
        "The first class that matches counts. Move this class up, or narrow the other's `match`.",
    );
}

/// A pattern, or what is wrong with it and what to write instead.
pub(crate) type Parsed<T> = Result<T, (String, String)>;

pub(super) fn take<T>(parsed: Parsed<T>, at: Place, faults: &mut Faults<'_>) -> Option<T> {
    match parsed {
        Ok(value) => Some(value),
        Err((what, instead)) => {
            faults.add(at, what, instead);
            None
        }
    }
}

fn wrong<T>(what: impl Into<String>, instead: impl Into<String>) -> Parsed<T> {
    Err((what.into(), instead.into()))
}

impl std::str::FromStr for HostPattern {
    type Err = String;

    /// # Errors
    /// What is wrong, and what to write.
    fn from_str(text: &str) -> Result<Self, String> {
        host_pattern(text).map_err(|(what, _)| {
            format!("{what}: write `shop.example.test`, `*.example.test` for every name below it, or `*`")
        })
    }
}

fn host_pattern(text: &str) -> Parsed<HostPattern> {
    let host = text.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if host == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(below) = host.strip_prefix("*.").filter(|below| is_host(below)) {
        return Ok(HostPattern::Below(format!(".{below}")));
    }
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if address.is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()) || is_host(host) {
        return Ok(HostPattern::Exact(host.to_owned()));
    }
    wrong(
        format!("`{text}` is no host pattern"),
        "Write a name without scheme, port or path (`shop.example.test`), `*.example.test` for every name below it, or `*`.",
    )
}

/// The pattern, in each case of hexadecimal digits that a path may have.
pub(crate) fn path_patterns(text: &str) -> Parsed<Vec<PathPattern>> {
    if !text.starts_with('/') && !text.starts_with("**") {
        return wrong(
            format!("the path pattern `{text}` starts with neither `/` nor `**`"),
            format!("Write `/{}`.", text.trim_start_matches('*')),
        );
    }
    if text.contains("***") {
        return wrong(
            format!("`***` in `{text}` means nothing"),
            "Write `*` for any text within a segment, `**` for any text at all.",
        );
    }
    if text.contains('?') {
        return wrong(
            format!("the path pattern `{text}` holds a query"),
            "Write the path alone, and `query_has = [\"…\"]` for parameters.",
        );
    }
    if !text.is_ascii() || text.contains(' ') {
        let encoded: String = text
            .bytes()
            .map(|b| {
                if b.is_ascii_graphic() {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect();
        return wrong(
            format!("the path pattern `{text}` is not as on the wire"),
            format!("Write `{encoded}`."),
        );
    }
    // With letters in place of stars it must be a path that could be shared.
    let example = text.replace("**", "x").replace('*', "x");
    let example = if example.starts_with('/') {
        example
    } else {
        format!("/{example}")
    };
    let nobody = Session::unspecific();
    if matches!(
        identity::path(&example, &nobody),
        Err(crate::Personal::AmbiguousPath)
    ) {
        return wrong(
            format!(
                "no path that is looked at twice matches `{text}`: such paths are personal, since servers read them in different ways"
            ),
            "Write the path as browsers send it: no `//`, `.`, `..`, `;` or `\\`, and a percent sign only before what must be encoded.",
        );
    }
    let recased = |recase: fn(&u8) -> u8| {
        let mut since_percent = 3;
        let bytes = text.bytes().map(|b| {
            since_percent = if b == b'%' { 0 } else { since_percent + 1 };
            char::from(if since_percent <= 2 { recase(&b) } else { b })
        });
        PathPattern(bytes.collect())
    };
    Ok(vec![
        recased(u8::to_ascii_lowercase),
        recased(u8::to_ascii_uppercase),
    ])
}

fn extension(text: &str) -> Parsed<String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        let instead = if plain.is_empty() {
            "Write `css`, for one.".to_owned()
        } else {
            format!("Write `{plain}`.")
        };
        return wrong(format!("`{text}` is no extension"), instead);
    }
    Ok(text.to_ascii_lowercase())
}

fn type_pattern(text: &str) -> Parsed<TypePattern> {
    let lower = text.to_ascii_lowercase();
    let is_token = |t: &str| {
        !t.is_empty()
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    match lower.split_once('/') {
        Some(("*", "*")) => Ok(TypePattern(lower)),
        Some((family, kind)) if is_token(family) && (is_token(kind) || kind == "*") => {
            Ok(TypePattern(lower))
        }
        _ if lower.contains(';') => wrong(
            format!("`{text}` has parameters"),
            format!(
                "Write `{}`.",
                lower.split(';').next().unwrap_or_default().trim()
            ),
        ),
        _ => wrong(
            format!("`{text}` is no content type"),
            "Write `text/html`, `image/*` or `*/*`.",
        ),
    }
}

fn name_pattern(text: &str) -> Parsed<NamePattern> {
    let start = text.strip_suffix('*').unwrap_or(text);
    if text.is_empty() {
        return wrong("a name is empty", "Write the name, or leave it out.");
    }
    if start.contains('*') {
        return wrong(
            format!("`{text}` has a `*` before its end"),
            "Write `*` at the end, for any ending.",
        );
    }
    if !start.bytes().all(|b| b.is_ascii_graphic())
        || start.contains(['&', '=', ';', '#', ',', '"'])
    {
        return wrong(
            format!("no name matches `{text}`"),
            "Write the name as it is on the wire.",
        );
    }
    Ok(NamePattern(text.to_owned()))
}

pub(super) fn names(said: Option<&Texts>, faults: &mut Faults<'_>) -> Vec<NamePattern> {
    let mut names = Vec::new();
    for pattern in said.iter().flat_map(|said| &said.value) {
        names.extend(take(name_pattern(&pattern.value), pattern.at, faults));
    }
    sort(&mut names, Clone::clone);
    names
}

fn headers(said: Option<&Texts>, faults: &mut Faults<'_>) -> Vec<HeaderName> {
    let mut headers = Vec::new();
    for said in said.iter().flat_map(|said| &said.value) {
        match HeaderName::from_bytes(said.value.as_bytes()) {
            Ok(name) => headers.push(name),
            Err(_) => faults.add(
                said.at,
                format!("`{}` is no header name", said.value),
                "Write the name of one header field, without a colon or `*`.",
            ),
        }
    }
    sort(&mut headers, |name| name.as_str().to_owned());
    headers
}

/// Lists are sets: one order, nothing twice.
fn sort<T: PartialEq, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    list.sort_by_cached_key(|item| key(item));
    list.dedup();
}
