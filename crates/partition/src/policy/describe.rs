//! Rules in plain sentences, for `policy check`, and their parts in the words of the language.

use std::fmt;
use std::fmt::Write as _;

use super::limits::LIMITS;
use super::units::{show_duration, show_size};
use crate::gated::{ClassGate, GateBy};
use crate::rules::{
    Class, HostPattern, Lifetimes, Limits, Match, NamePattern, Origin, OriginHost, PinAction,
    PinRules, QueryKey, Rules, Session, SpanMarks, To,
};
use crate::token::TokenRule;
use crate::upstream::Spoken;

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl Rules {
    /// What may be shared under these rules, class by class, in sentences.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("Rules {}\n\n", self.digest);
        for origin in &self.origins {
            let hosts = list(origin.hosts.iter());
            line(
                &mut text,
                format_args!("Requests for {hosts} go to {}.", origin_shown(origin)),
            );
        }
        let session = &self.session;
        let cookies = if session.cookies.is_empty() {
            "every cookie that is not ignorable".to_owned()
        } else {
            format!("the cookies {}", names(&session.cookies))
        };
        let headers = list(session.headers.iter());
        let headers = if headers.is_empty() {
            headers
        } else {
            format!(", {headers}")
        };
        line(
            &mut text,
            format_args!("A member is recognised by {cookies}, by `Authorization`{headers}."),
        );
        for matches in &self.personal {
            line(
                &mut text,
                format_args!(
                    "Never shared, whatever a class says: {}.",
                    matching(matches)
                ),
            );
        }
        text.push('\n');
        if self.classes.is_empty() {
            line(
                &mut text,
                format_args!("Nothing is shared: every request goes to the origin as itself."),
            );
        } else {
            line(
                &mut text,
                format_args!(
                    "These may be shared; the first class that matches counts. All else goes to the origin as itself."
                ),
            );
        }
        for class in &self.classes {
            text.push('\n');
            describe_class(&mut text, class);
        }
        text.push('\n');
        describe_pins(&mut text, &self.pins);
        let limits = limits(&self.limits);
        let default = self::limits(&Limits::default());
        let changed: Vec<String> = limits
            .iter()
            .zip(&default)
            .filter(|(now, default)| now != default)
            .map(|((name, now), _)| format!("`{name}` {now}"))
            .collect();
        if !changed.is_empty() {
            text.push('\n');
            line(
                &mut text,
                format_args!("Limits other than the default: {}.", changed.join(", ")),
            );
        }
        text
    }
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes all");
}

fn describe_class(text: &mut String, class: &Class) {
    let is_tokened = class
        .gate
        .as_ref()
        .is_some_and(|gate| gate.tokens().is_some());
    line(
        text,
        format_args!(
            "`{}`: GET and HEAD for {}.",
            class.name,
            matching(&class.matches)
        ),
    );
    line(
        text,
        format_args!(
            "  {}",
            match class.to {
                To::Everyone =>
                    "Served to everyone; a member gets the copy that was fetched without credentials.",
                To::Anonymous =>
                    "Served to requests without credentials; a member's request goes to the origin as itself.",
                To::Gated if is_tokened => "Served to whoever shows a token for it.",
                To::Gated => "Served to whoever the origin lets see it, who is asked each time.",
            }
        ),
    );
    if let Some(gate) = &class.gate {
        describe_gate(text, gate);
    }
    let statuses: Vec<String> = class.statuses.iter().map(u16::to_string).collect();
    let types = list(class.types.iter().map(|t| &t.0));
    line(
        text,
        format_args!(
            "  Stored: {types}, with status {}, up to {}, unless the origin forbids it, sets a cookie or varies on more than the key.",
            statuses.join(" or "),
            show_size(class.object_bytes_max),
        ),
    );
    if let Some(bytes) = class.slice_bytes {
        line(
            text,
            format_args!(
                "  What has a strong entity tag is fetched and stored in slices of {}, however large it is.",
                show_size(bytes)
            ),
        );
    }
    if class.shares_html() {
        line(
            text,
            format_args!(
                "  A document is stored only when two copies fetched without credentials agree."
            ),
        );
    }
    if !class.volatile.is_empty() {
        line(
            text,
            format_args!("  They may differ between {}.", marks(&class.volatile)),
        );
    }
    let query = match &class.query {
        QueryKey::All => "the whole query".to_owned(),
        QueryKey::Only(listed) if listed.is_empty() => "no query (the origin sees none)".to_owned(),
        QueryKey::Only(listed) => format!(
            "the parameters {} (the origin does not see others)",
            names(listed)
        ),
        QueryKey::OnlyElsePersonal(listed) if listed.is_empty() => {
            "no query (a request with one is personal)".to_owned()
        }
        QueryKey::OnlyElsePersonal(listed) => {
            format!(
                "the parameters {} (a request with another is personal)",
                names(listed)
            )
        }
    };
    let mut key = vec!["scheme, host and path".to_owned(), query];
    if class.key_encoding {
        key.push("the content codings that the client takes".to_owned());
    }
    key.extend(
        class
            .key_headers
            .iter()
            .map(|name| format!("the header `{name}`")),
    );
    line(
        text,
        format_args!("  The origin is asked with: {}.", key.join("; ")),
    );
    line(
        text,
        format_args!("  {}", lifetimes_sentence(&class.lifetimes)),
    );
    if class.is_static {
        line(
            text,
            format_args!("  One of static files: shared in mode `static` too."),
        );
    }
}

fn describe_gate(text: &mut String, gate: &ClassGate) {
    let credential = &gate.credential;
    match &gate.by {
        GateBy::Origin { target, method } => line(
            text,
            format_args!(
                "  Asked as `{method} {target}`, with what the member's request shows; only 2xx opens."
            ),
        ),
        GateBy::Token(rule) => line(
            text,
            format_args!(
                "  Opened by a token in {}, made with a secret in {}.",
                rule.place,
                sources(rule)
            ),
        ),
    }
    line(
        text,
        format_args!(
            "  Fetched for all of them with `{}` from {}{}.",
            credential.header,
            credential.source,
            if credential.secret.is_some() {
                ""
            } else {
                ", which is not known: nothing is shared"
            }
        ),
    );
}

fn sources(rule: &TokenRule) -> String {
    let sources: Vec<String> = rule.keys.iter().map(|key| key.source.to_string()).collect();
    sources.join(" or ")
}

fn describe_pins(text: &mut String, pins: &PinRules) {
    let action = match pins.action {
        PinAction::Record => "is recorded",
        PinAction::Stop => "is recorded, and nothing of it leaves",
    };
    line(
        text,
        format_args!(
            "An answer in which the origin names another viewer than its session's {action}."
        ),
    );
    if let Some(trip) = &pins.trip {
        line(
            text,
            format_args!(
                "Once {} members were so served within {}, the mode becomes `{}`.",
                trip.viewers,
                show_duration(trip.within),
                trip.mode
            ),
        );
    }
    if !pins.cookies.is_empty() {
        let cookies = names(&pins.cookies);
        line(
            text,
            format_args!("A session is known by {cookies}, whose values are one client's alone."),
        );
    }
    if !pins.starts.is_empty() {
        let starts = list(pins.starts.iter().map(|path| &path.0));
        line(
            text,
            format_args!("Sessions change hands at {starts} alone."),
        );
    }
}

fn lifetimes_sentence(lifetimes: &Lifetimes) -> String {
    let max = show_duration(lifetimes.max);
    let default = lifetimes.default.map_or_else(
        || "not stored when it states none".to_owned(),
        |default| format!("{} when it states none", show_duration(default)),
    );
    let mut sentence = format!("Fresh for as long as the origin states, at most {max}; {default}.");
    for (time, when) in [
        (lifetimes.stale_while_revalidate, "while it is refreshed"),
        (lifetimes.stale_if_error, "when the origin fails"),
    ] {
        if !time.is_zero() {
            write!(
                sentence,
                " Served up to {} longer {when}.",
                show_duration(time)
            )
            .expect("a String takes all");
        }
    }
    sentence
}

/// Items in backticks.
fn list(items: impl Iterator<Item = impl fmt::Display>) -> String {
    let items: Vec<String> = items.map(|item| format!("`{item}`")).collect();
    items.join(", ")
}

fn names(patterns: &[NamePattern]) -> String {
    list(patterns.iter().map(|p| &p.0))
}

fn marks(marks: &[SpanMarks]) -> String {
    let spans: Vec<String> = marks
        .iter()
        .map(|m| format!("{:?} and {:?}", m.from, m.to))
        .collect();
    spans.join(", or between ")
}

pub(super) fn origin_shown(origin: &Origin) -> String {
    let host = match origin.host_header {
        OriginHost::Client => "the client's",
        OriginHost::Origin => "its own",
    };
    let upstream = &origin.upstream;
    let mut shown = format!("{upstream} with {host} `Host`");
    if let Spoken::Tls { ca, server_name } = &upstream.spoken {
        if let Some(name) = server_name {
            shown += &format!(", certified as {name}");
        }
        if let Some(ca) = ca {
            shown += &format!(", by an authority of {ca}");
        }
    }
    if !origin.upgrades.is_empty() {
        shown += &format!("; clients may switch to {}", origin.upgrades.join(", "));
    }
    shown
}

/// A match in words.
pub(super) fn matching(matches: &Match) -> String {
    let mut parts = Vec::new();
    for (what, items) in [
        ("hosts", list(matches.hosts.iter())),
        ("paths", list(matches.paths.iter().map(|p| &p.0))),
        ("extensions", list(matches.extensions.iter())),
        ("with all of the parameters", names(&matches.query_has)),
        ("with none of the parameters", names(&matches.query_lacks)),
    ] {
        if !items.is_empty() {
            parts.push(format!("{what} {items}"));
        }
    }
    if parts.is_empty() {
        "everything".to_owned()
    } else {
        parts.join("; ")
    }
}

/// A class, field by field: names as in the language, values in words.
pub(super) fn class(class: &Class) -> Vec<(&'static str, String)> {
    let (query, query_else) = match &class.query {
        QueryKey::All => ("all".to_owned(), "none"),
        QueryKey::Only(listed) => (names(listed), "drop"),
        QueryKey::OnlyElsePersonal(listed) => (names(listed), "personal"),
    };
    let lifetimes = &class.lifetimes;
    let statuses: Vec<String> = class.statuses.iter().map(u16::to_string).collect();
    vec![
        ("match", matching(&class.matches)),
        (
            "to",
            match class.to {
                To::Everyone => "everyone".to_owned(),
                To::Anonymous => "anonymous".to_owned(),
                To::Gated => "gated".to_owned(),
            },
        ),
        (
            "gate",
            class
                .gate
                .as_ref()
                .map_or_else(String::new, |gate| match &gate.by {
                    GateBy::Origin { target, method } => format!("{method} {target}"),
                    GateBy::Token(rule) => {
                        format!("a token in {}, made with {}", rule.place, sources(rule))
                    }
                }),
        ),
        (
            "credential",
            class.gate.as_ref().map_or_else(String::new, |gate| {
                let credential = &gate.credential;
                format!("{} from {}", credential.header, credential.source)
            }),
        ),
        ("types", list(class.types.iter().map(|t| &t.0))),
        ("statuses", statuses.join(", ")),
        ("query", query),
        ("query_else", query_else.to_owned()),
        ("key_headers", list(class.key_headers.iter())),
        ("key_encoding", class.key_encoding.to_string()),
        (
            "lifetime.default",
            lifetimes
                .default
                .map_or_else(|| "none".to_owned(), show_duration),
        ),
        ("lifetime.max", show_duration(lifetimes.max)),
        (
            "lifetime.stale_while_revalidate",
            show_duration(lifetimes.stale_while_revalidate),
        ),
        (
            "lifetime.stale_if_error",
            show_duration(lifetimes.stale_if_error),
        ),
        ("volatile", marks(&class.volatile)),
        ("object_bytes_max", show_size(class.object_bytes_max)),
        (
            "slices",
            class
                .slice_bytes
                .map_or_else(|| "none".to_owned(), show_size),
        ),
    ]
}

pub(super) fn session(session: &Session) -> Vec<(&'static str, String)> {
    let cookies = if session.cookies.is_empty() {
        "every one".to_owned()
    } else {
        names(&session.cookies)
    };
    vec![
        ("cookies", cookies),
        ("ignorable_cookies", names(&session.ignorable_cookies)),
        ("headers", list(session.headers.iter())),
        ("query", names(&session.query)),
        ("query_public", names(&session.query_public)),
        ("segments", names(&session.segments)),
    ]
}

pub(super) fn pins(pins: &PinRules) -> Vec<(&'static str, String)> {
    let judged = |judges: bool| (if judges { "judge" } else { "ignore" }).to_owned();
    let trip = pins.trip.as_ref().map_or_else(
        || "never".to_owned(),
        |trip| {
            let within = show_duration(trip.within);
            format!("{} within {within} to {}", trip.viewers, trip.mode)
        },
    );
    let action = match pins.action {
        PinAction::Record => "record",
        PinAction::Stop => "stop",
    };
    vec![
        ("action", action.to_owned()),
        ("trip", trip),
        ("cookies", names(&pins.cookies)),
        ("starts", list(pins.starts.iter().map(|path| &path.0))),
        ("owners", judged(pins.judges_owners)),
        ("nobodies", judged(pins.judges_nobodies)),
        ("sessions_max", pins.sessions_max.to_string()),
    ]
}

pub(super) fn limits(limits: &Limits) -> Vec<(&'static str, String)> {
    LIMITS
        .iter()
        .map(|limit| (limit.name, limit.unit.show((limit.get)(limits))))
        .collect()
}
