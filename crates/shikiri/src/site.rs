//! `shikiri mode`, `grant`, `purge` and `drain`: what an operator asks of a running edge and tells it.
//!
//! Words in, words out, or JSON; what is done is done by the edge, and so is every check.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shikiri_edge::admin::site::{
    GrantAnswer, ModeAnswer, PurgeAnswer, RevocationAnswer, SiteNow, WantedGrant, WantedMode,
    WantedPurge, WantedReopening, WantedRevocation,
};
use shikiri_edge::maintenance;
use shikiri_partition::policy;
use shikiri_record::{Grant, Mode, PurgeTarget, UnixMillis};

use crate::remote::{At, ask};
use crate::say;

/// Flags of `shikiri mode`.
#[derive(clap::Args)]
#[command(after_help = "Modes, the lowest first (docs/operating-modes.md):
  closed  nothing that came from the origin leaves: only the maintenance page
  pass    every request goes to the origin; nothing is shared
  static  static files are shared; everything else passes
  open    what the policy says may be shared is shared

Examples:
  shikiri mode
      Says what the site does now.
  shikiri mode closed --reason 'reports of other members\\' pages' --reopening '2020-03-16 19:30'
      Closes the site. Returns when nothing more is sent, and says what was cut.
  shikiri mode closed --reopening none --reason 'takes longer'
      Changes the planned time while the site stays closed.
  shikiri mode static --reason 'the fix is in' --dry-run
      Says what would be shared from then on.
  shikiri mode open --reason 'checked with two members'")]
pub(crate) struct ModeArgs {
    #[command(flatten)]
    at: At,
    /// The mode to take; without one, the mode in force is told.
    #[arg(value_name = "MODE", requires = "reason")]
    mode: Option<Mode>,
    /// Why: it stands on the timeline.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// When the site is planned to open again: `2020-04-10 10:00` or `10:00` in the node's time zone,
    /// `2020-04-10T10:00+09:00`, `2h` from now, or `none`. Shown on the maintenance page.
    #[arg(long, value_name = "TIME")]
    reopening: Option<String>,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Takes a mode, or tells it.
pub(crate) fn mode(args: &ModeArgs) -> Result<(), String> {
    let now: SiteNow = get(&args.at, "/mode")?;
    let Some(wanted) = args.mode else {
        if args.json {
            return say_json(&now);
        }
        return say(&told_now(&now)?);
    };
    let reason = args.reason.clone().unwrap_or_default();
    let reopening = match args.reopening.as_deref() {
        None => None,
        Some("none") => Some(None),
        Some(text) => Some(Some(instant(text, &now)?)),
    };
    if let (Mode::Closed, Mode::Closed, Some(at), false) =
        (now.mode, wanted, reopening, args.dry_run)
    {
        let wanted = WantedReopening { at, reason };
        let now: SiteNow = post(&args.at, "/mode/reopening", &wanted)?;
        if args.json {
            return say_json(&now);
        }
        return say(&told_now(&now)?);
    }
    let wanted = WantedMode {
        mode: wanted,
        reason,
        reopening: reopening.flatten(),
        dry_run: args.dry_run,
    };
    let path = if wanted.mode == Mode::Closed {
        "/mode/close"
    } else {
        "/mode/take"
    };
    let answer: ModeAnswer = post(&args.at, path, &wanted)?;
    if args.json {
        return say_json(&answer);
    }
    say(&told_mode(&answer, wanted.reopening, &now)?)
}

fn told_now(now: &SiteNow) -> Result<String, String> {
    let mut said = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(said, "{name:<10} {value}").expect("a string can be written to");
    };
    line("mode", now.mode.name());
    if let Some(at) = now.reopening {
        line("reopening", &told(at, &now.zone)?);
    }
    line("shared", &listed(&now.shared));
    line("rules", &now.rules);
    line("epoch", &now.epoch.to_string());
    line("stored", &format!("{} objects", now.stored));
    if now.unwritten > 0 {
        line(
            "timeline",
            &format!("{} ENTRIES ARE NOT WRITTEN YET", now.unwritten),
        );
    }
    Ok(said)
}

fn listed(classes: &[String]) -> String {
    if classes.is_empty() {
        "nothing".to_owned()
    } else {
        classes.join(", ")
    }
}

fn told_mode(
    answer: &ModeAnswer,
    reopening: Option<UnixMillis>,
    now: &SiteNow,
) -> Result<String, String> {
    let mut said = String::new();
    let mut line = |text: &str| writeln!(said, "{text}").expect("a string can be written to");
    let is = if answer.in_force { "is" } else { "would be" };
    line(&format!(
        "the mode {is} {} (it was {})",
        answer.to, answer.from
    ));
    if !answer.newly_shared.is_empty() {
        line(&format!(
            "shared from now on: {}",
            listed(&answer.newly_shared)
        ));
        if answer.stored > 0 {
            line(&format!(
                "{} objects that were stored before may be used again; `shikiri purge --all` kills them",
                answer.stored
            ));
        }
    }
    if !answer.no_longer_shared.is_empty() {
        line(&format!(
            "no longer shared: {}",
            listed(&answer.no_longer_shared)
        ));
    }
    if let Some(closed) = answer.closed {
        line(&format!(
            "closed after {} ms: {} connections reset, {} responses cut",
            closed.took_ms, closed.connections, closed.streams
        ));
        if closed.behind > 0 {
            line(&format!(
                "NOT ALL HAVE SAID SO: {} connections may still be sending; look at them, or stop the node",
                closed.behind
            ));
        }
    }
    if let Some(at) = reopening {
        line(&format!("planned to reopen: {}", told(at, &now.zone)?));
    }
    match (&answer.entry, &answer.not_recorded) {
        (Some(entry), _) => line(&format!("on the timeline as entry {entry}")),
        (None, Some(why)) => line(&format!(
            "NOT ON THE TIMELINE YET, and kept to be written: {why}"
        )),
        (None, None) => line("nothing was changed"),
    }
    Ok(said)
}

/// `shikiri grant …`
#[derive(clap::Subcommand)]
pub(crate) enum GrantCommand {
    /// Make a preview grant and print its token: this once, and never again.
    New(NewGrantArgs),
    /// List the grants that hold.
    List {
        #[command(flatten)]
        at: At,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a grant back, at once.
    Revoke {
        #[command(flatten)]
        at: At,
        /// Its id, or its name.
        grant: String,
        /// Why.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

/// Flags of `shikiri grant new`.
#[derive(clap::Args)]
#[command(
    after_help = "The bearer shows the token in a header field, `Shikiri-Preview: TOKEN`, or enters it at
/.well-known/shikiri-preview of the site (over HTTPS) and gets a cookie.

Examples:
  shikiri grant new --name 'Sato, review' --for 30m
  curl -H \"Shikiri-Preview: $(shikiri grant new --name probe --for 5m --token)\" https://shop.example.test/
  shikiri grant new --name canary --for 1h --mode static"
)]
pub(crate) struct NewGrantArgs {
    #[command(flatten)]
    at: At,
    /// Who it is for.
    #[arg(long)]
    name: String,
    /// For how long: `30m`, `8h`; a day at most.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Duration,
    /// The mode that its bearer sees while the site is in a lower one.
    #[arg(long, value_name = "MODE", default_value = "open")]
    mode: Mode,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Print the token alone.
    #[arg(long)]
    token: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    policy::duration(text).ok_or_else(|| "write a time with its unit: 30m, 8h".to_owned())
}

pub(crate) fn grant(command: &GrantCommand) -> Result<(), String> {
    match command {
        GrantCommand::New(args) => {
            let wanted = WantedGrant {
                name: args.name.clone(),
                seconds: args.time.as_secs(),
                mode: args.mode,
                reason: args.reason.clone(),
            };
            let GrantAnswer { grant, token } = post(&args.at, "/grants/new", &wanted)?;
            if args.token {
                return say(&format!("{token}\n"));
            }
            let until = told(grant.until, "UTC")?;
            say(&format!(
                "grant     {}\nfor       {}\nsees      {}\nuntil     {until}\ntoken     {token}\n\
                 Show it as `Shikiri-Preview: TOKEN`, or enter it at /.well-known/shikiri-preview of the site. \
                 It is not shown again.\n",
                grant.id, grant.name, grant.mode
            ))
        }
        GrantCommand::List { at, json } => {
            let grants: Vec<Grant> = get(at, "/grants")?;
            if *json {
                return say_json(&grants);
            }
            if grants.is_empty() {
                return say("no preview grant holds\n");
            }
            let mut said = String::new();
            for grant in &grants {
                let until = told(grant.until, "UTC")?;
                let Grant { id, mode, name, .. } = grant;
                writeln!(said, "{id}  {mode:<6}  until {until}  {name}")
                    .expect("a string can be written to");
            }
            say(&said)
        }
        GrantCommand::Revoke { at, grant, reason } => {
            let wanted = WantedRevocation {
                grant: grant.clone(),
                reason: reason.clone(),
            };
            let answer: RevocationAnswer = post(at, "/grants/revoke", &wanted)?;
            let mut said = String::new();
            for id in &answer.revoked {
                writeln!(said, "{id} is revoked").expect("a string can be written to");
            }
            not_recorded(&mut said, answer.not_recorded.as_deref());
            say(&said)
        }
    }
}

fn not_recorded(said: &mut String, why: Option<&str>) {
    if let Some(why) = why {
        writeln!(
            said,
            "NOT ON THE TIMELINE YET, and kept to be written: {why}"
        )
        .expect("a string can be written to");
    }
}

/// Flags of `shikiri purge`.
#[derive(clap::Args)]
#[command(
    after_help = "A purge holds for whatever is asked for after this returns: what is stored, every variant of it, and
what is being fetched. It holds over restarts.

Examples:
  shikiri purge http://shop.example.test/news/1
  shikiri purge --prefix https://shop.example.test/news/
  shikiri purge --tag product-7 --host shop.example.test
  shikiri purge --group prices --host shop.example.test       (Cache-Groups, RFC 9875)
  shikiri purge --all --reason 'pages of members were stored' --dry-run"
)]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    at: At,
    /// URLs, as viewers name them. Every variant of each is purged.
    #[arg(value_name = "URL", required_unless_present_any = ["all", "prefix", "tag", "group"])]
    urls: Vec<String>,
    /// All whose URL begins so. May be given several times.
    #[arg(long, value_name = "URL")]
    prefix: Vec<String>,
    /// All to which the origin gave this tag. May be given several times.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// All that the origin put into this group. May be given several times.
    #[arg(long, value_name = "GROUP", requires = "host")]
    group: Vec<String>,
    /// Of this host alone, for tags; of which host, for groups.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Everything.
    #[arg(long, conflicts_with_all = ["urls", "prefix", "tag", "group", "host"])]
    all: bool,
    /// Why: it stands on the timeline.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Say what would be covered, and purge nothing.
    #[arg(long)]
    dry_run: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn purge(args: &PurgeArgs) -> Result<(), String> {
    let mut targets = Vec::new();
    targets.extend(args.all.then_some(PurgeTarget::All));
    targets.extend(args.urls.iter().cloned().map(PurgeTarget::Uri));
    targets.extend(args.prefix.iter().cloned().map(PurgeTarget::Prefix));
    targets.extend(args.tag.iter().map(|tag| PurgeTarget::Tag {
        tag: tag.clone(),
        host: args.host.clone(),
    }));
    targets.extend(args.group.iter().map(|group| PurgeTarget::Group {
        group: group.clone(),
        host: args.host.clone().unwrap_or_default(),
    }));
    let wanted = WantedPurge {
        targets,
        reason: args.reason.clone(),
        dry_run: args.dry_run,
    };
    let answer: PurgeAnswer = post(&args.at, "/purge", &wanted)?;
    if args.json {
        return say_json(&answer);
    }
    say(&told_purge(&answer))
}

fn told_purge(answer: &PurgeAnswer) -> String {
    let mut said = String::new();
    let mut line = |text: &str| writeln!(said, "{text}").expect("a string can be written to");
    let (purged, freed, stored) = if answer.done {
        ("purged", "freed", "will not be stored")
    } else {
        ("would purge", "would be freed", "would not be stored")
    };
    for target in &answer.targets {
        line(&format!("{purged} {target}"));
    }
    line(&format!(
        "{} stored objects {freed} ({} bytes, of {} URLs); {} running fetches {stored}",
        answer.objects, answer.bytes, answer.uris, answer.filling
    ));
    if let Some(order) = answer.order {
        line(&format!(
            "it holds for whatever began before place {} of this node, in epoch {}",
            order.0, answer.epoch
        ));
    }
    not_recorded(&mut said, answer.not_recorded.as_deref());
    said
}

/// Flags of `shikiri drain`.
#[derive(clap::Args)]
#[command(
    after_help = "Before this node is taken out: point the site's DNS elsewhere, then wait here until no request has come for
longer than a resolver may remember the old address.

Exit status: 0 when none has come for that long, 4 when one still comes as `--give-up` ends, 1 when no edge
answers.

Examples:
  shikiri drain
  shikiri drain --ttl 1h --give-up 6h && systemctl stop shikiri"
)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    at: At,
    /// For how long a resolver may remember the address: the TTL of the site's DNS records.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = time)]
    ttl: Duration,
    /// How long to wait at the most; for ever when not given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    give_up: Option<Duration>,
    /// A line of JSON for every look.
    #[arg(long)]
    json: bool,
}

/// Requests still come.
const NOT_DRAINED: u8 = 4;

/// How a draining node is.
#[derive(Serialize)]
struct Draining {
    drained: bool,
    /// Since the last request, or since the node was first looked at.
    quiet_s: u64,
    wanted_s: u64,
}

pub(crate) fn drain(args: &DrainArgs) -> Result<ExitCode, String> {
    const LOOK_EVERY: Duration = Duration::from_secs(5);
    let began = Instant::now();
    let mut told_at: Option<u64> = None;
    loop {
        let now: SiteNow = get(&args.at, "/mode")?;
        // A node that was never asked has been quiet for as long as we have watched it.
        let quiet = now
            .last_request
            .map_or_else(|| began.elapsed(), |at| now.now.since(at));
        let draining = Draining {
            drained: quiet > args.ttl,
            quiet_s: quiet.as_secs(),
            wanted_s: args.ttl.as_secs(),
        };
        let gives_up = args.give_up.is_some_and(|time| began.elapsed() >= time);
        if args.json {
            let line = serde_json::to_string(&draining).expect("it is plain data");
            say(&format!("{line}\n"))?;
        } else if draining.drained {
            say(&format!(
                "drained: no request for {} s, longer than {} s\n",
                draining.quiet_s, draining.wanted_s
            ))?;
        } else if told_at.is_none_or(|at| draining.quiet_s < at || draining.quiet_s >= at + 30) {
            told_at = Some(draining.quiet_s);
            say(&format!(
                "quiet for {} s of {} s\n",
                draining.quiet_s, draining.wanted_s
            ))?;
        }
        if draining.drained {
            return Ok(ExitCode::SUCCESS);
        }
        if gives_up {
            if !args.json {
                say("not drained: requests still come\n")?;
            }
            return Ok(ExitCode::from(NOT_DRAINED));
        }
        let rest = (args.ttl + Duration::from_millis(1)).saturating_sub(quiet);
        let left = args
            .give_up
            .map_or(LOOK_EVERY, |time| time.saturating_sub(began.elapsed()));
        std::thread::sleep(
            LOOK_EVERY
                .min(rest)
                .min(left)
                .max(Duration::from_millis(50)),
        );
    }
}

/// An instant in the words of an operator.
fn instant(text: &str, now: &SiteNow) -> Result<UnixMillis, String> {
    let zone = maintenance::zone(&now.zone)?;
    let here = zoned(now.now, &zone).ok_or("the node's clock is out of its mind")?;
    read_instant(text, &here).ok_or_else(|| {
        format!(
            "`{text}` is no time: write `2020-04-10 10:00` or `10:00` (in {}), `2020-04-10T10:00+09:00`, or \
             `2h` from now",
            now.zone
        )
    })
}

fn read_instant(text: &str, here: &Zoned) -> Option<UnixMillis> {
    let text = text.trim();
    let at = if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else if let Some(time) = policy::duration(text) {
        here.timestamp().checked_add(time).ok()?
    } else if let Ok(civil) = text.replacen(' ', "T", 1).parse::<DateTime>() {
        civil.to_zoned(here.time_zone().clone()).ok()?.timestamp()
    } else {
        let time: Time = text.parse().ok()?;
        let today = here.date().to_datetime(time);
        let at = today.to_zoned(here.time_zone().clone()).ok()?;
        if at > *here {
            at.timestamp()
        } else {
            let tomorrow = here.date().tomorrow().ok()?.to_datetime(time);
            tomorrow
                .to_zoned(here.time_zone().clone())
                .ok()?
                .timestamp()
        }
    };
    u64::try_from(at.as_millisecond()).ok().map(UnixMillis)
}

fn zoned(at: UnixMillis, zone: &TimeZone) -> Option<Zoned> {
    let millis = i64::try_from(at.0).ok()?;
    let at = Timestamp::from_millisecond(millis).ok()?;
    Some(at.to_zoned(zone.clone()))
}

fn told(at: UnixMillis, zone: &str) -> Result<String, String> {
    Ok(maintenance::told(at, &maintenance::zone(zone)?))
}

fn get<T: DeserializeOwned>(at: &At, path: &str) -> Result<T, String> {
    read(&ask(&at.socket()?, "GET", path, "")?)
}

fn post<T: DeserializeOwned>(at: &At, path: &str, wanted: &impl Serialize) -> Result<T, String> {
    let body = serde_json::to_string(wanted).expect("what is wanted is plain data");
    read(&ask(&at.socket()?, "POST", path, &body)?)
}

fn read<T: DeserializeOwned>(answer: &str) -> Result<T, String> {
    serde_json::from_str(answer)
        .map_err(|error| format!("the edge's answer cannot be understood: {error}"))
}

fn say_json(answer: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(answer).expect("an answer is plain data");
    say(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_as_operators_write_them() {
        // 2020-03-16T16:25:00+09:00.
        let now = UnixMillis(1_584_343_500_000);
        let tokyo = maintenance::zone("Asia/Tokyo").unwrap();
        let here = zoned(now, &tokyo).unwrap();
        let minutes = |text: &str| {
            let at = read_instant(text, &here)?;
            i64::try_from(at.0 / 60_000)
                .ok()
                .zip(i64::try_from(now.0 / 60_000).ok())
                .map(|(at, now)| at - now)
        };
        for (text, expected) in [
            ("2020-03-16 19:30", Some(185)),
            ("2020-03-16T19:30", Some(185)),
            ("2020-03-16T19:30:00+09:00", Some(185)),
            ("2020-03-16T10:30:00Z", Some(185)),
            ("19:30", Some(185)),
            ("03:21", Some(10 * 60 + 56)),
            ("16:25", Some(24 * 60)),
            ("2h", Some(120)),
            ("90m", Some(90)),
            ("2020-03-15 10:00", Some(-30 * 60 - 25)),
            ("soon", None),
            ("25:00", None),
            ("", None),
        ] {
            assert_eq!(minutes(text), expected, "{text}");
        }
    }
}
