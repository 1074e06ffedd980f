//! The `.leak` script: text becomes a [`Script`], or a fault with its line.
//!
//! `docs/leak-scripts.md` describes the language; a change here changes it too. Nothing is ignored:
//! a misspelt word is a fault, since a leak that is not looked for looks like safety.

use std::time::Duration;

/// One published leak, as a script says it.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// What happens, in a sentence.
    pub(crate) title: String,
    /// Mechanisms and incidents, as numbered in `docs/leak-scripts.md`.
    pub(crate) numbers: Vec<String>,
    /// What the RFCs say of it: `allowed:`, `forbidden:` or `uncovered:`, and where.
    pub(crate) legality: String,
    /// What prevents it, in a sentence.
    pub(crate) cure: String,
    /// How many caches stand side by side in front of the origin.
    pub(crate) nodes: usize,
    /// The cache speaks TLS too, for `red.test` and for `blue.test`, which wants a client certificate;
    /// the steps come that way.
    pub(crate) tls: bool,
    /// What clients speak where the script does not say it.
    pub(crate) over: Over,
    /// Who has credentials; everybody else in the steps is anonymous.
    pub(crate) members: Vec<String>,
    /// How the origin recognises whom it serves, in the order in which it looks.
    pub(crate) identities: Vec<Identity>,
    /// The policies under which the script runs.
    pub(crate) under: Vec<String>,
    /// Policies of the script's own.
    pub(crate) policies: Vec<Policy>,
    /// What the origin answers: the first that matches.
    pub(crate) routes: Vec<Route>,
    /// What must be a hit on the same set-up.
    pub(crate) controls: Vec<Control>,
    /// What happens.
    pub(crate) steps: Vec<Step>,
}

/// What clients of a script speak that says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// HTTP/1.1 in cleartext.
    Clear,
    /// HTTP/1.1 in TLS.
    Tls,
    /// HTTP/2 in TLS.
    Http2,
}

impl Over {
    pub(crate) const ALL: [Self; 3] = [Self::Clear, Self::Tls, Self::Http2];

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Tls => "tls",
            Self::Http2 => "h2",
        }
    }
}

/// How an origin recognises a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A cookie of this name; members send it.
    Cookie(String),
    /// `Authorization: Bearer`; members send it.
    Bearer,
    /// A header of this name; members send it.
    Header(String),
    /// A token anywhere in the target; steps write `{me}`.
    Target,
    /// A token anywhere in the body; steps write `{me}`.
    Body,
    /// The client's address, as `X-Forwarded-For` tells it.
    Address,
    /// The connection, once a request on it carried `Authorization: NTLM`.
    Connection,
}

/// A policy of a script's own.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    /// For each cache that has a text for it: the cache's name and the text.
    pub(crate) texts: Vec<(String, String)>,
}

/// One answer of the origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    /// Methods; empty: any.
    pub(crate) methods: Vec<String>,
    /// The raw target, query and all, with `*` for anything.
    pub(crate) target: String,
    /// Only in this phase.
    pub(crate) phase: Option<String>,
    /// Only for this `Host`.
    pub(crate) host: Option<String>,
    /// Only for requests that have this header.
    pub(crate) has: Option<String>,
    /// Only for these members; empty: for anybody.
    pub(crate) of: Vec<String>,
    pub(crate) delay: Duration,
    /// Between head and body.
    pub(crate) pause: Duration,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
    /// Bytes of filler after the body.
    pub(crate) size: usize,
    pub(crate) framing: Framing,
    /// Raw bytes before the head, after the body, or instead of all.
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) raw: Option<String>,
    /// Answers ranges itself.
    pub(crate) ranges: bool,
    /// No stamp is added.
    pub(crate) unstamped: bool,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length`.
    #[default]
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// By closing, with no length declared.
    Close,
    /// The connection breaks in the middle of the body.
    Broken,
}

/// Something public that must be served from the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: Option<String>,
    /// Who asks for it; empty: visitors.
    pub(crate) by: Vec<String>,
    /// Only under these policies; empty: under all.
    pub(crate) under: Vec<String>,
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A request.
    Ask(Ask),
    /// Requests at once, whatever the way, and another policy in their midst.
    Overlap(Vec<Ask>, Option<Reload>),
    /// Everything before has ended.
    Then,
    Wait(Duration),
    Reload(Reload),
    Phase(String),
    Repeat(usize, Vec<Self>),
    /// The operator reloads what is in force, lowers the mode to `pass`, and opens again.
    Stir,
}

/// Another policy comes into force.
#[derive(Clone, Debug)]
pub(crate) struct Reload {
    pub(crate) policy: String,
    /// At the nodes of these numbers.
    pub(crate) at: Vec<usize>,
    /// Within an overlap: when.
    pub(crate) offset: Duration,
}

/// One request of one viewer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) line: usize,
    pub(crate) viewer: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
    /// The whole request as it goes on the wire, in place of the above.
    pub(crate) raw: Option<String>,
    /// Which node is asked, from 0.
    pub(crate) node: usize,
    /// Within an overlap: when it begins.
    pub(crate) offset: Option<Duration>,
    /// The client leaves after this long without reading to the end.
    pub(crate) abort: Option<Duration>,
    pub(crate) without_credentials: bool,
    /// Over TLS.
    pub(crate) handshake: Option<Handshake>,
    /// As frames of HTTP/2, whatever is in it; what comes back is not read as a message.
    pub(crate) http2: bool,
    /// It is no fault of the set-up when nothing comes back.
    pub(crate) may_be_refused: bool,
    /// On the connection of the request before.
    pub(crate) same_connection: bool,
    /// What was issued before the last `reload` or `phase` must not come.
    pub(crate) only_new: bool,
}

/// How a client begins a connection with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The request's host, when none is given.
    pub(crate) server_name: Option<String>,
    /// It shows a client certificate.
    pub(crate) certificate: bool,
    /// At most TLS 1.2.
    pub(crate) tls12: bool,
    /// It offers the session that this viewer had last, at whichever server name.
    pub(crate) resumes: bool,
    /// Requests and answers go as HTTP/2, though they are written and read as HTTP/1.1.
    pub(crate) translated: bool,
}

impl Ask {
    /// Whether it leaves its connection in a state that no one shares.
    pub(crate) fn is_alone(&self) -> bool {
        self.raw.is_some() || self.abort.is_some() || self.http2
    }
}

/// A line with what stands under it.
#[derive(Debug)]
struct Line {
    number: usize,
    indent: usize,
    text: String,
    literal: Vec<String>,
    children: Vec<Self>,
}

type Faulty<T> = Result<T, String>;

/// Whom a request without its own `host` asks.
pub(crate) const HOST: &str = "shop.test";

/// As many nodes as a script may have: each is a process.
const NODES_MAX: usize = 9;

/// Reads a script.
///
/// # Errors
/// The first fault, with its line.
pub(crate) fn parse(name: &str, text: &str) -> Faulty<Script> {
    let lines = tree(text)?;
    let mut script = Script {
        name: name.to_owned(),
        title: String::new(),
        numbers: Vec::new(),
        legality: String::new(),
        cure: String::new(),
        nodes: 1,
        tls: false,
        over: Over::Clear,
        members: vec!["alice".to_owned(), "bob".to_owned()],
        identities: Vec::new(),
        under: vec!["default".to_owned(), "careless".to_owned()],
        policies: Vec::new(),
        routes: Vec::new(),
        controls: Vec::new(),
        steps: Vec::new(),
    };
    for line in &lines {
        let (word, rest) = cut(&line.text);
        match word {
            "title" => script.title = prose(line, rest)?,
            "mechanism" | "incident" => {
                let letter = if word == "mechanism" { 'M' } else { 'I' };
                for number in rest.split_whitespace() {
                    let digits = number.strip_prefix(letter).unwrap_or_default();
                    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                        return fault(line, format!("`{number}` is not `{letter}` and a number"));
                    }
                    script.numbers.push(number.to_owned());
                }
            }
            "legality" => {
                let text = prose(line, rest)?;
                let verdict = text.split(':').next().unwrap_or_default();
                if !matches!(verdict, "allowed" | "forbidden" | "uncovered")
                    || !text.contains("RFC ")
                {
                    return fault(
                        line,
                        "say `allowed:`, `forbidden:` or `uncovered:` and cite the RFC".into(),
                    );
                }
                script.legality = text;
            }
            "cure" => script.cure = prose(line, rest)?,
            "nodes" => match rest.parse() {
                Ok(nodes) if (1..=NODES_MAX).contains(&nodes) => script.nodes = nodes,
                _ => {
                    return fault(
                        line,
                        format!("`{rest}` is no number of nodes up to {NODES_MAX}"),
                    );
                }
            },
            "tls" if rest.is_empty() => script.tls = true,
            "members" => script.members = words(rest),
            "under" => script.under = words(rest),
            "identity" => script.identities.push(identity(line, rest)?),
            "policy" => script.policies.push(policy(line, rest)?),
            "origin" => {
                for child in &line.children {
                    script.routes.push(route(child)?);
                }
            }
            "control" => script.controls.push(control(line, rest)?),
            "steps" => script.steps = steps(&line.children, script.nodes)?,
            _ => return fault(line, format!("`{word}` is not known here")),
        }
    }
    let missing = [
        ("title", script.title.is_empty()),
        ("mechanism or incident", script.numbers.is_empty()),
        ("legality", script.legality.is_empty()),
        ("cure", script.cure.is_empty()),
        ("origin", script.routes.is_empty()),
        ("control", script.controls.is_empty()),
        ("steps", script.steps.is_empty()),
    ];
    if let Some((what, _)) = missing.iter().find(|(_, missing)| *missing) {
        return Err(format!("{name}: no `{what}`"));
    }
    for ask in asks(&mut script.steps) {
        if script.tls {
            ask.handshake.get_or_insert_default();
        } else if ask.handshake.is_some() || ask.http2 {
            return Err(format!("line {}: this needs the line `tls`", ask.line));
        }
    }
    for wanted in script.under.iter().chain(reloads(&script.steps).iter()) {
        let known = matches!(wanted.as_str(), "default" | "careless")
            || script.policies.iter().any(|p| p.name == *wanted);
        if !known {
            return Err(format!("{name}: no policy is named `{wanted}`"));
        }
    }
    Ok(script)
}

pub(crate) fn reloads(steps: &[Step]) -> Vec<String> {
    let mut names = Vec::new();
    for step in steps {
        match step {
            Step::Reload(reload) | Step::Overlap(_, Some(reload)) => {
                names.push(reload.policy.clone());
            }
            Step::Repeat(_, inner) => names.extend(reloads(inner)),
            _ => {}
        }
    }
    names
}

/// All requests of some steps.
fn asks(steps: &mut [Step]) -> Vec<&mut Ask> {
    let mut found = Vec::new();
    for step in steps {
        match step {
            Step::Ask(ask) => found.push(ask),
            Step::Overlap(asks, _) => found.extend(asks),
            Step::Repeat(_, inner) => found.extend(asks(inner)),
            Step::Then | Step::Wait(_) | Step::Reload(_) | Step::Phase(_) | Step::Stir => {}
        }
    }
    found
}

impl Script {
    /// The same script with its clients speaking something else.
    ///
    /// # Errors
    /// Why it would not be the same any more.
    pub(crate) fn over(&self, over: Over) -> Result<Self, &'static str> {
        let mut script = self.clone();
        if over == Over::Clear {
            return Ok(script);
        }
        if self.tls {
            return Err("they say themselves what they speak");
        }
        let mut asks = asks(&mut script.steps);
        if over == Over::Http2 && asks.iter().any(|ask| ask.raw.is_some()) {
            return Err("they send what is HTTP/1.1 alone");
        }
        for ask in &mut asks {
            ask.handshake = Some(Handshake::over(over, ask.host.as_deref()));
        }
        script.over = over;
        Ok(script)
    }

    /// The same script with an operator at work in its midst: at the first rest in its second half.
    pub(crate) fn stirred(mut self) -> Self {
        let half = self.steps.len() / 2;
        let rest = self
            .steps
            .iter()
            .skip(half)
            .position(|step| matches!(step, Step::Then));
        self.steps
            .insert(rest.map_or(half, |rest| half + rest), Step::Stir);
        self
    }
}

impl Handshake {
    /// For a host, which is the server name without what is none of it.
    pub(crate) fn over(over: Over, host: Option<&str>) -> Self {
        let host = host.unwrap_or(HOST);
        let name = host.split(':').next().unwrap_or_default();
        Self {
            server_name: Some(name.trim_end_matches('.').to_ascii_lowercase()),
            translated: over == Over::Http2,
            ..Self::default()
        }
    }
}

fn fault<T>(line: &Line, what: String) -> Faulty<T> {
    Err(format!("line {}: {what}", line.number))
}

/// Lines become a tree by their indentation; `|` lines belong to the line above that is less
/// indented.
fn tree(text: &str) -> Faulty<Vec<Line>> {
    let mut open: Vec<Line> = Vec::new();
    let mut done: Vec<Line> = Vec::new();
    for (n, raw) in text.lines().enumerate() {
        let trimmed = raw.trim_start_matches(' ');
        let indent = raw.len() - trimmed.len();
        if trimmed.starts_with('\t') {
            return Err(format!("line {}: indent with spaces", n + 1));
        }
        if let Some(literal) = trimmed.strip_prefix('|') {
            close(&mut open, &mut done, indent);
            let Some(owner) = open.last_mut() else {
                return Err(format!("line {}: this text belongs to no line", n + 1));
            };
            owner
                .literal
                .push(literal.strip_prefix(' ').unwrap_or(literal).to_owned());
            continue;
        }
        let trimmed = trimmed.trim_end();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        close(&mut open, &mut done, indent);
        open.push(Line {
            number: n + 1,
            indent,
            text: trimmed.to_owned(),
            literal: Vec::new(),
            children: Vec::new(),
        });
    }
    close(&mut open, &mut done, 0);
    Ok(done)
}

/// Ends the lines that something at this indentation does not belong to.
fn close(open: &mut Vec<Line>, done: &mut Vec<Line>, indent: usize) {
    while open.last().is_some_and(|line| line.indent >= indent) {
        let line = open.pop().expect("there was a last one");
        match open.last_mut() {
            Some(parent) => parent.children.push(line),
            None => done.push(line),
        }
    }
}

fn cut(text: &str) -> (&str, &str) {
    text.split_once(' ')
        .map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A sentence: on the line, and going on in `|` lines.
fn prose(line: &Line, rest: &str) -> Faulty<String> {
    let mut all = rest.to_owned();
    for more in &line.literal {
        all.push(' ');
        all.push_str(more.trim());
    }
    if all.trim().is_empty() {
        fault(line, "it says nothing".into())
    } else {
        Ok(all.trim().to_owned())
    }
}

/// Text of a body: on the line, or in `|` lines, joined by line feeds.
fn text_of(line: &Line, rest: &str) -> Faulty<String> {
    match (rest.is_empty(), line.literal.is_empty()) {
        (false, true) => Ok(rest.to_owned()),
        (true, false) => Ok(line.literal.join("\n")),
        _ => fault(
            line,
            "write the text on the line or in `|` lines below it".into(),
        ),
    }
}

/// Raw bytes: `|` lines, each ended by CRLF unless it ends in `\`; `\r`, `\n`, `\t`, `\0`, `\xHH`
/// and `\\` are what they are in Rust.
fn raw_of(line: &Line) -> Faulty<String> {
    let mut raw = String::new();
    for literal in &line.literal {
        let (text, joined) = match literal.strip_suffix('\\') {
            Some(text) if !text.ends_with('\\') => (text, true),
            _ => (literal.as_str(), false),
        };
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                raw.push(c);
                continue;
            }
            match chars.next() {
                Some('r') => raw.push('\r'),
                Some('n') => raw.push('\n'),
                Some('t') => raw.push('\t'),
                Some('0') => raw.push('\0'),
                Some('\\') => raw.push('\\'),
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).collect();
                    match u8::from_str_radix(&digits, 16) {
                        Ok(byte) if byte < 0x80 => raw.push(char::from(byte)),
                        _ => return fault(line, format!("`\\x{digits}` is no ASCII character")),
                    }
                }
                _ => return fault(line, "an unknown escape".into()),
            }
        }
        if !joined {
            raw.push_str("\r\n");
        }
    }
    if line.literal.is_empty() {
        fault(line, "raw bytes stand in `|` lines below".into())
    } else {
        Ok(raw)
    }
}

fn field(line: &Line, rest: &str) -> Faulty<(String, String)> {
    match rest.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.trim().to_owned())),
        _ => fault(line, "write `Name: value`".into()),
    }
}

fn time(line: &Line, text: &str) -> Faulty<Duration> {
    let number = text.strip_suffix("ms").and_then(|n| n.trim().parse().ok());
    number.map(Duration::from_millis).map_or_else(
        || fault(line, format!("`{text}` is no time; write `200ms`")),
        Ok,
    )
}

fn identity(line: &Line, rest: &str) -> Faulty<Identity> {
    let (kind, name) = cut(rest);
    Ok(match kind {
        "cookie" => Identity::Cookie(if name.is_empty() { "sid" } else { name }.to_owned()),
        "bearer" => Identity::Bearer,
        "header" if !name.is_empty() => Identity::Header(name.to_owned()),
        "target" => Identity::Target,
        "body" => Identity::Body,
        "address" => Identity::Address,
        "connection" => Identity::Connection,
        _ => {
            return fault(
                line,
                "write cookie, bearer, header NAME, target, body, address or connection".into(),
            );
        }
    })
}

fn policy(line: &Line, rest: &str) -> Faulty<Policy> {
    let mut policy = Policy {
        name: rest.to_owned(),
        texts: Vec::new(),
    };
    let mut says = false;
    for child in &line.children {
        let (word, rest) = cut(&child.text);
        if word == "says" {
            prose(child, rest)?;
            says = true;
        } else if rest.is_empty() && !child.literal.is_empty() {
            policy
                .texts
                .push((word.to_owned(), child.literal.join("\n")));
        } else {
            return fault(
                child,
                "write `says …`, or a cache's name with its text in `|` lines below".into(),
            );
        }
    }
    if policy.name.is_empty() || !says {
        return fault(
            line,
            "a policy has a name and `says` in words what it means".into(),
        );
    }
    Ok(policy)
}

fn control(line: &Line, rest: &str) -> Faulty<Control> {
    let (request, under) = rest.split_once(" under ").unwrap_or((rest, ""));
    let (method, target) = cut(request);
    let mut control = Control {
        method: method.to_owned(),
        target: target.to_owned(),
        host: None,
        by: Vec::new(),
        under: words(under),
    };
    for child in &line.children {
        match cut(&child.text) {
            ("host", host) => control.host = Some(host.to_owned()),
            ("by", names) => control.by = words(names),
            (word, _) => return fault(child, format!("`{word}` is not known here")),
        }
    }
    if target.starts_with('/') {
        Ok(control)
    } else {
        fault(line, "write `control GET /path`".into())
    }
}

fn route(line: &Line) -> Faulty<Route> {
    let (word, rest) = cut(&line.text);
    let (methods, target) = cut(rest);
    if word != "route" || target.is_empty() {
        return fault(line, "write `route GET /path`".into());
    }
    let mut route = Route {
        status: 200,
        target: target.to_owned(),
        ..Route::default()
    };
    if methods != "*" {
        route.methods = methods.split(',').map(str::to_owned).collect();
    }
    for child in &line.children {
        let (word, rest) = cut(&child.text);
        match word {
            "when" => route.phase = Some(rest.to_owned()),
            "host" => route.host = Some(rest.to_owned()),
            "has" => route.has = Some(rest.to_owned()),
            "of" => route.of = words(rest),
            "delay" => route.delay = time(child, rest)?,
            "pause" => route.pause = time(child, rest)?,
            "status" => match rest.parse() {
                Ok(status) => route.status = status,
                Err(_) => return fault(child, format!("`{rest}` is no status")),
            },
            "header" => route.headers.push(field(child, rest)?),
            "trailer" => route.trailers.push(field(child, rest)?),
            "body" => route.body = Some(text_of(child, rest)?),
            "size" => match rest.parse() {
                Ok(size) => route.size = size,
                Err(_) => return fault(child, format!("`{rest}` is no number of bytes")),
            },
            "framing" => {
                route.framing = match rest {
                    "length" => Framing::Length,
                    "chunked" => Framing::Chunked,
                    "close" => Framing::Close,
                    "broken" => Framing::Broken,
                    _ => return fault(child, "write length, chunked, close or broken".into()),
                }
            }
            "before" => route.before = Some(raw_of(child)?),
            "after" => route.after = Some(raw_of(child)?),
            "raw" => route.raw = Some(raw_of(child)?),
            "ranges" => route.ranges = true,
            "unstamped" => route.unstamped = true,
            _ => return fault(child, format!("`{word}` is not known in a route")),
        }
    }
    if !route.trailers.is_empty() && route.framing != Framing::Chunked {
        return fault(line, "trailers need `framing chunked`".into());
    }
    Ok(route)
}

fn steps(lines: &[Line], nodes: usize) -> Faulty<Vec<Step>> {
    let mut steps = Vec::new();
    for line in lines {
        let (word, rest) = cut(&line.text);
        steps.push(match word {
            "then" => Step::Then,
            "wait" => Step::Wait(time(line, rest)?),
            "reload" => Step::Reload(reload(line, rest, nodes)?),
            "phase" => Step::Phase(rest.to_owned()),
            "overlap" => overlap(&line.children, nodes)?,
            "repeat" => match rest.parse() {
                Ok(times) => Step::Repeat(times, self::steps(&line.children, nodes)?),
                Err(_) => return fault(line, format!("`{rest}` is no number of times")),
            },
            _ => Step::Ask(ask(line, nodes)?),
        });
    }
    Ok(steps)
}

/// Requests, and at most one `+100ms reload POLICY`.
fn overlap(lines: &[Line], nodes: usize) -> Faulty<Step> {
    let (mut asks, mut reloaded) = (Vec::new(), None);
    for line in lines {
        let (offset, rest) = match line.text.strip_prefix('+').and_then(|t| t.split_once(' ')) {
            Some((offset, rest)) => (time(line, offset)?, rest),
            None => (Duration::ZERO, line.text.as_str()),
        };
        match cut(rest) {
            ("reload", _) if reloaded.is_some() => {
                return fault(line, "one reload is enough".into());
            }
            ("reload", rest) => {
                let reload = reload(line, rest, nodes)?;
                reloaded = Some(Reload { offset, ..reload });
            }
            _ => asks.push(ask(line, nodes)?),
        }
    }
    Ok(Step::Overlap(asks, reloaded))
}

/// `reload POLICY`, or `reload POLICY at 1 2`.
fn reload(line: &Line, rest: &str, nodes: usize) -> Faulty<Reload> {
    let (policy, at) = rest.split_once(" at ").unwrap_or((rest, ""));
    let mut chosen = Vec::new();
    for word in at.split_whitespace() {
        chosen.push(node(line, word, nodes)?);
    }
    if chosen.is_empty() {
        chosen = (0..nodes).collect();
    }
    Ok(Reload {
        policy: policy.to_owned(),
        at: chosen,
        offset: Duration::ZERO,
    })
}

/// Nodes are counted from 1 in scripts.
fn node(line: &Line, word: &str, nodes: usize) -> Faulty<usize> {
    match word.parse::<usize>() {
        Ok(number) if (1..=nodes).contains(&number) => Ok(number - 1),
        _ => fault(line, format!("there is no node {word}; say `nodes` above")),
    }
}

fn ask(line: &Line, nodes: usize) -> Faulty<Ask> {
    let mut ask = Ask {
        line: line.number,
        ..Ask::default()
    };
    let mut text = line.text.as_str();
    if let Some((offset, rest)) = text.strip_prefix('+').and_then(|t| t.split_once(' ')) {
        ask.offset = Some(time(line, offset)?);
        text = rest;
    }
    let (viewer, request) = cut(text);
    let (method, target) = cut(request);
    ask.viewer = viewer.to_owned();
    ask.method = method.to_owned();
    ask.target = target.to_owned();
    if viewer.is_empty()
        || !viewer
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    {
        return fault(
            line,
            "a step is `viewer METHOD /target`; names are small letters and digits".into(),
        );
    }
    if request == "raw" {
        ask.raw = Some(raw_of(line)?);
    } else if target.is_empty() {
        return fault(line, format!("`{}` is no step", line.text));
    }
    for child in &line.children {
        let (word, rest) = cut(&child.text);
        match (word, rest) {
            ("host", host) if !host.is_empty() => ask.host = Some(host.to_owned()),
            ("node", number) => ask.node = node(child, number, nodes)?,
            ("header", rest) => ask.headers.push(field(child, rest)?),
            ("body", rest) => ask.body = Some(text_of(child, rest)?),
            ("raw-body", "") => ask.body = Some(raw_of(child)?),
            ("raw-header", "") => ask.headers.push(match raw_of(child)?.split_once(": ") {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => return fault(child, "write `name: value`".into()),
            }),
            ("server-name", name) if !name.is_empty() => {
                ask.handshake.get_or_insert_default().server_name = Some(name.to_owned());
            }
            ("certificate", "") => ask.handshake.get_or_insert_default().certificate = true,
            ("tls-1.2", "") => ask.handshake.get_or_insert_default().tls12 = true,
            ("resumes", "") => ask.handshake.get_or_insert_default().resumes = true,
            ("http2", "") => ask.http2 = true,
            ("may-be-refused", "") => ask.may_be_refused = true,
            ("abort", rest) => {
                ask.abort = Some(time(child, rest.strip_prefix("after ").unwrap_or(rest))?);
            }
            ("without", "credentials") => ask.without_credentials = true,
            ("same-connection", "") => ask.same_connection = true,
            ("only-new", "") => ask.only_new = true,
            _ => return fault(child, format!("`{}` is not known in a step", child.text)),
        }
    }
    Ok(ask)
}
