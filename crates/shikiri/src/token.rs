//! `shikiri token`: tokens for programs that ask a node from elsewhere.
//!
//! A running node makes and revokes them itself, so that they hold at once; without one, the tokens'
//! file is changed under the data folder's lock. A token is printed once and never kept.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::Timestamp;
use shikiri_edge::admin::{Scope, Token, Tokens, WantedToken};
use shikiri_partition::policy;
use shikiri_record::UnixMillis;

use crate::data::DataFolder;
use crate::edge::TOKENS;
use crate::remote::{At, ask};
use crate::{now, say};

/// `shikiri token …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token and print it: this once, and never again.
    New(NewArgs),
    /// List the tokens: names, scopes, until when.
    List {
        #[command(flatten)]
        at: At,
    },
    /// Revoke a token, at once.
    Revoke {
        #[command(flatten)]
        at: At,
        /// Its name.
        name: String,
    },
    /// Forget a token that has ended or was revoked, so that its name is free.
    Forget {
        #[command(flatten)]
        at: At,
        /// Its name.
        name: String,
    },
}

/// Flags of `shikiri token new`.
#[derive(clap::Args)]
#[command(
    after_help = "Scopes: `read` status and metrics, `purge`, `preview` (grants), `close` the site (never open it).

Examples:
  shikiri token new --name metrics --scope read --for 90d
      For Prometheus, where the admin interface listens on an address that others reach.
  shikiri token new --name canary --scope close --for 30d
      For a program that looks for leaks from outside and closes the site when it finds one."
)]
pub(crate) struct NewArgs {
    #[command(flatten)]
    at: At,
    /// What it is called in logs and in the timeline.
    #[arg(long)]
    name: String,
    /// What it allows; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// For how long: `12h`, `90d`; at most 400 days.
    #[arg(long = "for", value_name = "TIME", value_parser = lifetime)]
    lifetime: Duration,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    policy::duration(text).ok_or_else(|| "write a time with its unit: 12h, 90d".to_owned())
}

pub(crate) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::New(args) => {
            let wanted = WantedToken {
                name: args.name.clone(),
                scopes: args.scopes.clone(),
                seconds: args.lifetime.as_secs(),
            };
            let body = serde_json::to_string(&wanted).expect("a wish is plain data");
            say(&change(&args.at, "/tokens/new", &body, |tokens| {
                let made = tokens.make(&args.name, &args.scopes, args.lifetime, now());
                made.map(|secret| format!("{}\n", secret.reveal()))
                    .map_err(|fault| fault.to_string())
            })?)
        }
        Command::List { at } => {
            let file = at.folder()?.join(TOKENS);
            let known = if is_running(at)? {
                let text = ask(&at.socket()?, "GET", "/tokens", "")?;
                serde_json::from_str(&text)
                    .map_err(|error| format!("the edge's answer cannot be understood: {error}"))?
            } else {
                Tokens::open(&file)
                    .map_err(|fault| fault.to_string())?
                    .list()
            };
            say(&listed(&known, now()))
        }
        Command::Revoke { at, name } => say(&change(at, "/tokens/revoke", name, |tokens| {
            let done = tokens.revoke(name).map_err(|fault| fault.to_string());
            done.map(|()| format!("{name} is revoked\n"))
        })?),
        Command::Forget { at, name } => say(&change(at, "/tokens/forget", name, |tokens| {
            let done = tokens
                .forget(name, now())
                .map_err(|fault| fault.to_string());
            done.map(|()| format!("{name} is forgotten\n"))
        })?),
    }
}

/// Lets the running node do it; does it itself when there is none.
fn change(
    at: &At,
    target: &str,
    body: &str,
    here: impl FnOnce(&Tokens) -> Result<String, String>,
) -> Result<String, String> {
    if is_running(at)? {
        return ask(&at.socket()?, "POST", target, body);
    }
    // No node comes in between while this is held.
    let folder = DataFolder::open(&at.folder()?)?;
    let tokens = Tokens::open(&folder.join(TOKENS)).map_err(|fault| fault.to_string())?;
    here(&tokens)
}

fn is_running(at: &At) -> Result<bool, String> {
    Ok(UnixStream::connect(at.socket()?).is_ok())
}

fn listed(tokens: &[Token], now: UnixMillis) -> String {
    let mut said = String::new();
    for token in tokens {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.name()).collect();
        let state = match (token.revoked, token.is_valid(now)) {
            (true, _) => "revoked",
            (false, true) => "valid until",
            (false, false) => "ended",
        };
        said.push_str(&format!(
            "{:<24} {:<24} {state} {}\n",
            token.name,
            scopes.join(","),
            time(token.ends_ms)
        ));
    }
    if said.is_empty() {
        said.push_str("There are no tokens.\n");
    }
    said
}

fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"))
}
