//! `shikiri explain`: the whole decision about one URL.
//!
//! It runs the same decision code as the edge, and, unless told not to, asks the origin as the edge
//! would: with a key, twice for a document, and without storing anything.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use shikiri_edge::{
    Asked, Chain, Config, Evidence, Node, OriginFault, RealWorld, Worker, World, ask_status,
    ask_whole,
};
use shikiri_partition::{
    Admitted, Begun, ClassGate, Classified, Gated, Judged, Kept, NotShared, Opened, Outbound,
    Personal, RequestHead, Rules, Scheme, SecondCopy, SharedFetch, Sharing, To, Tokened, Under,
};
use shikiri_record::{Epoch, FillId, Mode, Order};

use crate::{files, gates, say};

/// Flags of `shikiri explain`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri explain http://shop.example.test/static/app.css --origin http://127.0.0.1:8000
  shikiri explain http://shop.example.test/news/1 --policy shop.toml -H 'Cookie: sid=1'
  shikiri explain http://shop.example.test/news/1 --policy shop.toml --offline
      Without asking the origin: class, key and what the origin would see.")]
pub(crate) struct Args {
    /// The URL, as a viewer names it.
    #[arg(value_name = "URL")]
    url: String,
    /// A request header, as `Name: value`. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "LINE")]
    headers: Vec<String>,
    /// The method.
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// The policy; the built-in one when not given.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The origin for hosts that the policy names none for; the URL's own host when not given.
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// The mode in which the edge is: `open`, `static` or `pass`.
    #[arg(long, value_name = "MODE", default_value = "open")]
    mode: Mode,
    /// Do not ask the origin.
    #[arg(long)]
    offline: bool,
}

/// A table of two columns.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, text: impl AsRef<str>) {
        for (n, line) in text.as_ref().lines().enumerate() {
            let name = if n == 0 { name } else { "" };
            writeln!(self.0, "{name:<12}{line}").expect("a string can be written to");
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let wrong = || {
        format!(
            "`{}`: write http://host/path or https://host/path",
            args.url
        )
    };
    let uri: Uri = args.url.parse().map_err(|_| wrong())?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(wrong()),
    };
    let origin = match files::origin(args.origin.as_deref())? {
        None if args.policy.is_none() => {
            let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
            files::origin(Some(&format!("http://{authority}")))?
        }
        origin => origin,
    };
    let rules = files::rules(args.policy.as_deref(), origin.as_ref())?;
    let rules = files::armed_if_there(rules);
    let method: Method = args
        .method
        .parse()
        .map_err(|_| format!("`{}` is no method", args.method))?;
    let headers = headers(&uri, &args.headers)?;
    let mut table = Table::default();
    table.row("request", format!("{method} {uri}"));

    let head = match RequestHead::parse(scheme, Version::HTTP_11, &method, &uri, &headers) {
        Ok(head) => head,
        Err(why) => {
            table.row("refused", format!("{} ({})", why.name(), why.status()));
            return say(&table.0);
        }
    };
    let under = Under {
        mode: args.mode,
        epoch: Epoch(1),
        grant: None,
    };
    match rules.classify(&head, under) {
        Classified::Refused(why) => {
            table.row("refused", format!("{} ({})", why.name(), why.status()));
            if why == shikiri_partition::Refused::UnknownHost {
                table.row(
                    "cure",
                    format!(
                        "Name an origin for `{}` in [[origin]], or give --origin.",
                        head.host()
                    ),
                );
            }
        }
        Classified::Personal(pass) => personal(&mut table, pass.why()),
        Classified::Shared(sharing) => shared(&mut table, args, rules, &sharing)?,
        Classified::Gated(gated) => self::gated(&mut table, args, rules, gated)?,
        Classified::Tokened(tokened) => self::tokened(&mut table, args, rules, tokened)?,
    }
    say(&table.0)
}

fn headers(uri: &Uri, lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let wrong = |line: &str| format!("-H '{line}': write 'Name: value'");
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| wrong(line))?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong(line))?;
        headers.append(
            name,
            HeaderValue::from_str(value.trim()).map_err(|_| wrong(line))?,
        );
    }
    if !headers.contains_key(HOST) {
        let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
        headers.insert(
            HOST,
            HeaderValue::from_str(authority).map_err(|_| "the URL has no host")?,
        );
    }
    Ok(headers)
}

fn personal(table: &mut Table, why: &Personal) {
    table.row("verdict", format!("personal: {why} ({})", why.name()));
    table.row(
        "",
        "The origin sees the request as it is; the answer goes to its sender alone.",
    );
    if let Some(cure) = why.cure() {
        table.row("cure", cure);
    }
}

/// What is the same for all who may see it: what the origin says to who may not, and then what it is.
fn gated(table: &mut Table, args: &Args, rules: Rules, gated: Gated) -> Result<(), String> {
    let gate = gated
        .class()
        .gate
        .as_ref()
        .expect("a gated class has a gate");
    table.row("gate", format!("{} {}", gated.method(), gated.target()));
    table.row(
        "",
        "Each request is asked there as itself; only 2xx opens, and nothing is remembered.",
    );
    let constants = shikiri_partition::Constants::new("shikiri-explain");
    let probe = gated.probe(&constants);
    if let Some(probe) = probe.filter(|_| !args.offline) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let worker = gates::worker(rules.clone())?;
        let told = |fault: OriginFault| Chain(&fault).to_string();
        let let_in = runtime.block_on(ask_status(&worker, probe.strangers));
        let let_in = let_in.map_err(told)?;
        table.row("a stranger", format!("at the gate: {let_in}"));
        if let_in.is_success() {
            table.row(
                "",
                "THE GATE OPENS FOR WHOEVER ASKS: does the origin know its path?",
            );
        }
        let asked = (probe.bare, probe.bearing);
        let kept = runtime.block_on(gates::kept(&worker, asked));
        let (kept, status) = kept.map_err(told)?;
        table.row(
            "ungated",
            format!("without `{}`: {status}", gate.credential.header),
        );
        if kept == Kept::Unproven {
            table.row(
                "",
                "That shows nothing: with the credential it is not found either.",
            );
        }
        if kept == Kept::No {
            table.row(
                "",
                "THE ORIGIN DOES NOT REQUIRE THE CREDENTIAL: whoever reaches it goes around the gate.",
            );
            table.row(
                "cure",
                format!(
                    "Let the origin answer 403 unless `{}` is right.",
                    gate.credential.header
                ),
            );
        }
    }
    // Nothing is served here: what would be, if it opened.
    match gated.open(StatusCode::OK) {
        Ok(Opened::Shared(sharing)) => shared(table, args, rules, &sharing),
        Ok(Opened::Pass(pass)) => {
            personal(table, pass.why());
            Ok(())
        }
        Err(_) => unreachable!("200 opens"),
    }
}

/// What is the same for all who may see it, and a token says who: what it says now, and then what it is.
fn tokened(table: &mut Table, args: &Args, rules: Rules, tokened: Tokened) -> Result<(), String> {
    let gate = tokened.class().gate.as_ref();
    let tokens = gate.and_then(ClassGate::tokens);
    let tokens = tokens.expect("a class that opens by tokens has a rule for them");
    table.row("gate", format!("a token in {}", tokens.place));
    table.row(
        "",
        "Nobody is asked: the token's MAC is right. All else is of the URL without it.",
    );
    match tokened.open(RealWorld::new().now()) {
        Ok((opened, viewer)) => {
            let whose = if viewer.is_some() {
                "one viewer"
            } else {
                "nobody in particular"
            };
            table.row("token", format!("good now, made for {whose}"));
            match opened {
                Opened::Shared(sharing) => shared(table, args, rules, &sharing),
                Opened::Pass(pass) => {
                    personal(table, pass.why());
                    Ok(())
                }
            }
        }
        Err(why) => {
            table.row(
                "verdict",
                format!("refused: {} ({})", why.status(), why.name()),
            );
            Ok(())
        }
    }
}

fn shared(table: &mut Table, args: &Args, rules: Rules, sharing: &Sharing) -> Result<(), String> {
    let class = sharing.class();
    let to = match class.to {
        To::Everyone => "to everyone",
        To::Anonymous => "to requests without credentials",
        To::Gated => "to whoever the origin lets see it",
    };
    table.row("class", format!("{} ({to})", class.name));
    let config = Config {
        name: "shikiri-explain".into(),
        trusted: Vec::new(),
    };
    let world = Arc::new(RealWorld::new());
    let node = Node::new(config, rules, world, Evidence::of_nobody());
    let constants = shikiri_partition::Constants::new("shikiri-explain");
    let begun = |n| Begun {
        id: FillId(n),
        at: node.now(),
        order: Order(1),
    };
    let whole = |n| SharedFetch::whole(sharing.key(), class, begun(n), &constants);
    table.row("key", format!("GET {}", sharing.key().uri()));
    table.row(
        "",
        format!(
            "class {:?}, epoch {}",
            sharing.key().class().0,
            sharing.key().epoch()
        ),
    );
    let (outbound, fill) = SharedFetch::of(sharing.key(), class, begun(1), &constants).begin();
    table.row("origin sees", outbound.upstream().to_string());
    table.row(
        "",
        format!("{} {} HTTP/1.1", outbound.method(), outbound.target()),
    );
    for (name, value) in outbound.headers() {
        let value = if value.is_sensitive() {
            "(not shown)".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        table.row("", format!("{name}: {value}"));
    }
    if args.offline {
        table.row(
            "verdict",
            "may be shared, if the origin's answer allows it (--offline: not asked)",
        );
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let worker = Worker::new(Arc::clone(&node)).map_err(|fault| fault.to_string())?;
    let bytes_max = usize::try_from(class.object_bytes_max).unwrap_or(usize::MAX);
    let ask = |outbound: Outbound| {
        runtime
            .block_on(ask_whole(&worker, outbound, bytes_max))
            .map_err(|fault| Chain(&fault).to_string())
    };
    let mut first = ask(outbound)?;
    answer(table, &first);
    let headers = std::mem::take(&mut first.headers);
    let mut judged = fill.judge(first.status, headers, first.length_known, node.now());
    if let Judged::Unsliced(unsliced) = judged {
        table.row("", "No slices can be made of it: all of it is asked for.");
        let (outbound, fill) = unsliced.fetch(&constants).begin();
        first = ask(outbound)?;
        answer(table, &first);
        let headers = std::mem::take(&mut first.headers);
        judged = fill.judge(first.status, headers, first.length_known, node.now());
    }
    let verdict = match judged {
        Judged::Unsliced(_) => unreachable!("what asked for all is judged as all"),
        Judged::Relay(relay) => Err(relay.into_parts().2),
        Judged::Refreshed(_) => Err(NotShared::NotModifiedUnasked),
        Judged::Sniff(sniff) => {
            let wanted = sniff.bytes_wanted().min(first.body.len());
            sniff
                .judge(&first.body[..wanted])
                .map_err(|relay| relay.into_parts().2)
        }
        Judged::Copy(copy) => {
            table.row("", "A document: a second anonymous copy is compared.");
            let second = ask(whole(2).begin().0)?;
            let second = SecondCopy {
                status: second.status,
                headers: &second.headers,
                body: &second.body,
            };
            copy.judge(&first.body, &second)
        }
    };
    verdict_of(table, sharing, verdict, &node);
    Ok(())
}

fn answer(table: &mut Table, asked: &Asked) {
    table.row(
        "answer",
        format!("{} with {} bytes", asked.status, asked.body.len()),
    );
    for (name, value) in &asked.headers {
        // A cookie that the origin minted for this fetch is nobody's, but it may still open a door.
        let value = if name.as_str().starts_with("set-cookie") {
            "(not shown)".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        table.row("", format!("{name}: {value}"));
    }
}

fn verdict_of(
    table: &mut Table,
    sharing: &Sharing,
    verdict: Result<Admitted, NotShared>,
    node: &Node,
) {
    use shikiri_partition::Reuse;
    match verdict {
        Ok(head) => match head.reuse(sharing, false, node.now()) {
            Reuse::Fresh { ttl } => {
                let slices = head.slices().map_or_else(String::new, |slices| {
                    format!(", in slices, of {} bytes in all", slices.length())
                });
                let ttl = ttl.as_secs();
                table.row("verdict", format!("shared{slices}, fresh for {ttl} s"));
            }
            Reuse::OnlyWithout(header) => personal(table, &Personal::OnlyWithout(header)),
            _ => table.row("verdict", "shared, and asked about again at every use"),
        },
        Err(why) => {
            table.row("verdict", format!("not shared: {why} ({})", why.name()));
            if let Some(cure) = why.cure() {
                table.row("cure", cure);
            }
        }
    }
}
