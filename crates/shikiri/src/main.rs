//! The `shikiri` command: assembly only.
//!
//! It reads flags and files, puts the crates together, and says what went wrong in words that help.
//! It decides nothing about sharing.

#[cfg(feature = "archive")]
mod archive;
mod config;
mod data;
mod database;
mod desk;
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
mod keys;
mod listening;
mod log;
mod logs;
mod notify;
mod otel;
mod parent;
mod policy;
mod processor;
mod reload;
mod remote;
mod rows;
#[cfg(feature = "archive")]
mod s3;
mod seal;
mod secret_file;
mod seed;
mod settings;
mod shop_secrets;
mod site;
mod start;
mod store;
mod tag_keys;
mod timeline;
mod token;
mod up;
mod verify;
#[cfg(feature = "archive")]
mod who;

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
  shikiri up                                             a member store and the edge before it, to try
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
    /// Start a sample member store and the edge before it, with all that they need.
    Up(up::Args),
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
    /// Serve the member store; say what follows from its declarations.
    #[command(subcommand)]
    Site(store::Command),
    /// Archive sealed evidence as Parquet, in a folder or in object storage.
    #[cfg(feature = "archive")]
    #[command(subcommand)]
    Archive(archive::Command),
    /// Archive sealed evidence as Parquet: not in this build.
    #[cfg(not(feature = "archive"))]
    Archive(NoArchive),
    /// Say who was served what, and whose it was, from the archive and from what is not archived yet.
    #[cfg(feature = "archive")]
    #[command(subcommand)]
    Who(who::Command),
    /// Say who was served what, from the archive: not in this build.
    #[cfg(not(feature = "archive"))]
    Who(NoArchive),
    /// Make, list and revoke tokens for programs elsewhere.
    #[command(subcommand)]
    Token(token::Command),
}

/// Whatever `shikiri archive` or `shikiri who` is given.
#[cfg(not(feature = "archive"))]
#[derive(clap::Args)]
struct NoArchive {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Up(args) => up::run(&args),
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
        Command::Site(command) => store::run(&command),
        Command::Evidence(command) => match rows::run(&command) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        #[cfg(feature = "archive")]
        Command::Archive(command) => match archive::run(&command) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        #[cfg(feature = "archive")]
        Command::Who(command) => match who::run(&command) {
            Ok(code) => return code,
            Err(why) => Err(why),
        },
        #[cfg(not(feature = "archive"))]
        Command::Archive(NoArchive { rest: _ }) | Command::Who(NoArchive { rest: _ }) => Err(
            "this build has no archive: make one with `cargo build --release --features archive`"
                .into(),
        ),
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

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    const DOCUMENTS: [(&str, &str); 13] = [
        ("archive.md", include_str!("../../../docs/archive.md")),
        ("README.md", include_str!("../../../README.md")),
        (
            "configuration.md",
            include_str!("../../../docs/configuration.md"),
        ),
        (
            "evidence-format.md",
            include_str!("../../../docs/evidence-format.md"),
        ),
        ("inference.md", include_str!("../../../docs/inference.md")),
        (
            "operating-modes.md",
            include_str!("../../../docs/operating-modes.md"),
        ),
        ("operations.md", include_str!("../../../docs/operations.md")),
        (
            "origin-contract.md",
            include_str!("../../../docs/origin-contract.md"),
        ),
        ("policy.md", include_str!("../../../docs/policy.md")),
        ("site.md", include_str!("../../../docs/site.md")),
        ("timeline.md", include_str!("../../../docs/timeline.md")),
        ("tls.md", include_str!("../../../docs/tls.md")),
        ("who.md", include_str!("../../../docs/who.md")),
    ];

    /// The commands that a document shows: in backquotes, or a line of an example.
    fn shown(document: &str) -> Vec<String> {
        let mut all = Vec::new();
        for (n, part) in document.split("```").enumerate() {
            if n % 2 == 1 {
                let joined = part.replace("\\\n", " ");
                // What is said of a command stands two blanks behind it.
                // Where its output goes is the shell's affair.
                let lines = joined
                    .lines()
                    .map(|line| line.split(" > ").next().unwrap_or(line));
                let lines = lines.map(|line| match line.split_once("  ") {
                    Some((command, said)) if !said.trim_start().starts_with('-') => command.into(),
                    _ => line.to_owned(),
                });
                all.extend(lines);
            } else {
                let spans = part.split('`').skip(1).step_by(2);
                all.extend(spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
        all.retain(|command| command.starts_with("shikiri "));
        all
    }

    /// A command's words, as a shell finds them; none where a quote is not closed.
    fn words(command: &str) -> Option<Vec<String>> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in command.chars() {
            match (c, quote) {
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (' ', None) => words.push(std::mem::take(&mut word)),
                _ => word.push(c),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        quote.is_none().then_some(words)
    }

    fn is_known(words: &[String]) -> bool {
        match Cli::try_parse_from(words) {
            Ok(_) => true,
            // Some are named without what they need.
            Err(error) => matches!(
                error.kind(),
                ErrorKind::DisplayHelp
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    | ErrorKind::MissingRequiredArgument
                    | ErrorKind::MissingSubcommand
            ),
        }
    }

    /// Whoever types what a document says at night must not be told that there is no such thing.
    /// Flags that several commands have in common can clash, which is seen when a command is run.
    #[test]
    fn the_flags_of_every_command_can_be_told_apart() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_documents_is_there() {
        let mut count = 0;
        for (name, document) in DOCUMENTS {
            for command in shown(document) {
                count += 1;
                let words = words(&command);
                let mut words =
                    words.unwrap_or_else(|| panic!("{name}: a quote is open: {command}"));
                let is_whole = is_known(&words);
                // A flag may be named without its value.
                words.push("1".to_owned());
                assert!(is_whole || is_known(&words), "{name}: {command}");
            }
        }
        assert!(count > 30, "{count}");
        for wrong in [
            "shikiri open",
            "shikiri mode closed --because x",
            "shikiri edge --listen nowhere",
        ] {
            assert!(!is_known(&words(wrong).unwrap()), "{wrong}");
        }
        assert_eq!(
            words("shikiri mode closed --reason 'a member's page'"),
            None
        );
    }
}
