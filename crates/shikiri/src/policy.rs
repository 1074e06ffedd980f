//! `shikiri policy`: what a policy says, and what changes between two.

use std::fmt::Write;
use std::path::PathBuf;

use shikiri_partition::policy;

use crate::{files, say};

/// `shikiri policy …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check a policy and say in plain words what may be shared under it.
    Check {
        /// The policy; the built-in one when not given.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The origin for hosts that the policy names none for.
        #[arg(long, value_name = "URL")]
        origin: Option<String>,
    },
    /// Say what changes from one policy to another, and which stored objects would be lost.
    Diff {
        /// The policy in force.
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The policy to come.
        #[arg(value_name = "NEW")]
        new: PathBuf,
        /// The origin for hosts that the policies name none for.
        #[arg(long, value_name = "URL")]
        origin: Option<String>,
    },
}

/// An origin to compile with when nothing depends on which it is.
const SOME_ORIGIN: &str = "http://origin.example.test";

pub(crate) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Check { file, origin } => {
            let origin = files::origin(origin.as_deref())?;
            // A policy may leave its origin to the command line; then that is no fault of it.
            let some = files::origin(Some(SOME_ORIGIN))?;
            let rules = files::rules(file.as_deref(), origin.as_ref()).or_else(|bare| {
                let with = files::rules(file.as_deref(), some.as_ref());
                with.map_err(|why| if why.len() < bare.len() { why } else { bare })
            })?;
            say(&files::armed_if_there(rules).describe())
        }
        Command::Diff { old, new, origin } => {
            let origin = files::origin(Some(origin.as_deref().unwrap_or(SOME_ORIGIN)))?;
            let old = files::rules(Some(old), origin.as_ref())?;
            let new = files::rules(Some(new), origin.as_ref())?;
            let changes = policy::diff(&old, &new);
            let mut said = String::new();
            for change in &changes {
                writeln!(said, "{change}").expect("a string can be written to");
            }
            if changes.is_empty() {
                said.push_str("The same meaning: nothing changes and nothing is lost.\n");
            }
            say(&said)
        }
    }
}
