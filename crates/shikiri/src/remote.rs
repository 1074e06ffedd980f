//! Commands to a running edge, over its control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::say;

/// Where the running edge's control socket is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The control socket that the edge was started with.
    #[arg(long, value_name = "PATH", env = "SHIKIRI_CONTROL")]
    control: PathBuf,
}

/// Flags of `shikiri purge`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri purge --control /run/shikiri/control.sock http://shop.example.test/news/1
  shikiri purge --control /run/shikiri/control.sock --all")]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    at: Args,
    /// The URLs, as viewers name them. Every variant of each is purged.
    #[arg(
        value_name = "URL",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    urls: Vec<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
}

pub(crate) fn purge(args: &PurgeArgs) -> Result<(), String> {
    if args.all {
        return say(&ask(&args.at.control, "POST", "/purge-all", "")?);
    }
    say(&ask(
        &args.at.control,
        "POST",
        "/purge",
        &args.urls.join("\n"),
    )?)
}

pub(crate) fn reload(args: &Args) -> Result<(), String> {
    say(&ask(&args.control, "POST", "/reload", "")?)
}

pub(crate) fn status(args: &Args) -> Result<(), String> {
    say(&ask(&args.control, "GET", "/status", "")?)
}

/// One request on a connection of its own, which the edge closes.
fn ask(path: &Path, method: &str, target: &str, body: &str) -> Result<String, String> {
    let fault = |what: &str, error: std::io::Error| {
        format!(
            "{what} {}: {error}; is the edge running with `--control {0}`?",
            path.display()
        )
    };
    let mut stream = UnixStream::connect(path).map_err(|e| fault("cannot reach", e))?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .map_err(|e| fault("cannot use", e))?;
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: control\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(request.as_bytes())
        .map_err(|e| fault("cannot write to", e))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(|e| fault("cannot read from", e))?;
    let (head, said) = answer
        .split_once("\r\n\r\n")
        .ok_or("the edge gave no answer")?;
    if head.split(' ').nth(1) == Some("200") {
        Ok(said.to_owned())
    } else {
        Err(said.to_owned())
    }
}
