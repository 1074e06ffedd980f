//! The `shikiri` command: assembly only.
//!
//! It reads flags and files, puts the crates together, and says what went wrong in words that help.
//! It decides nothing about sharing.

mod config;
mod data;
mod edge;
mod evidence;
mod explain;
mod files;
mod gates;
mod govern;
mod handover;
mod hook;
mod import;
mod infer;
mod keep;
mod listening;
mod log;
mod logs;
mod notify;
mod policy;
mod reload;
mod remote;
mod rows;
mod settings;
mod site;
mod start;
mod timeline;
mod token;

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use shikiri_record::UnixMillis;

// A build that can be made to misbehave is for the tests alone.
const _: () = assert!(
    !shikiri_partition::SEEDED_FAULTS,
    "this build has seeded faults"
);

/// An HTTP shared cache that cannot serve one member's page to another.
#[derive(Parser)]
#[command(
    name = "shikiri",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  shikiri edge --origin http://127.0.0.1:8000            the edge in front of a site, no policy needed
  shikiri edge --policy shop.toml --listen 0.0.0.0:8080  with a policy that names the origins
  shikiri explain http://shop.example.test/news/1 --policy shop.toml
  shikiri policy check shop.toml                         what may be shared under this policy
  shikiri policy diff old.toml new.toml                  what changes, and what would be lost
  shikiri evidence tail --follow                         who is served what, in tags")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the edge in front of one or several origins.
    Edge(Box<edge::Args>),
    /// Say what the edge would do with a URL, and why.
    Explain(explain::Args),
    /// Check a policy, or compare two.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Say what mode the site is in, or take another: open, static, pass, closed.
    Mode(site::ModeArgs),
    /// Make, list and revoke preview grants for reviewers of a closed site.
    #[command(subcommand)]
    Grant(site::GrantCommand),
    /// Purge URLs, prefixes, tags, groups, or everything.
    Purge(site::PurgeArgs),
    /// Show the timeline, or put somebody's word on it.
    #[command(subcommand)]
    Timeline(timeline::Command),
    /// Read another cache's log: what it tells, and what cannot be read.
    Import(Box<import::Args>),
    /// Say who saw whose, from the logs of other caches.
    Infer(infer::Args),
    /// Wait until no request has come for longer than a DNS lifetime.
    Drain(site::DrainArgs),
    /// Make a running edge read its policy again.
    Reload(remote::At),
    /// Say how a running edge is.
    Status(remote::StatusArgs),
    /// Read what was served to whom.
    #[command(subcommand)]
    Evidence(rows::Command),
    /// Make, list and revoke tokens for programs elsewhere.
    #[command(subcommand)]
    Token(token::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Edge(args) => edge::run(*args),
        Command::Explain(args) => explain::run(&args),
        Command::Policy(command) => policy::run(&command),
        Command::Mode(args) => site::mode(&args),
        Command::Grant(command) => site::grant(&command),
        Command::Purge(args) => site::purge(&args),
        Command::Timeline(command) => match timeline::run(&command) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        Command::Import(args) => match import::run(&args) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        Command::Infer(args) => infer::run(&args),
        Command::Drain(args) => match site::drain(&args) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        Command::Reload(args) => remote::reload(&args),
        Command::Status(args) => match remote::status(&args) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        Command::Evidence(command) => rows::run(&command),
        Command::Token(command) => token::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Where even standard error is closed there is nobody to tell.
            drop(writeln!(std::io::stderr(), "shikiri: {}", why.trim_end()));
            ExitCode::FAILURE
        }
    }
}

/// The time by this machine's clock.
fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Prints to standard output. A reader that has gone away ends the command quietly.
fn say(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("cannot print: {error}"))
        }
        _ => Ok(()),
    }
}
