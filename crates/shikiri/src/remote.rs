//! Commands to a running edge, over its control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::{say, settings};

/// Where the running edge's control socket is: named, or in its data folder.
#[derive(clap::Args)]
pub(crate) struct At {
    /// The control socket of the running edge.
    #[arg(long, value_name = "PATH", env = "SHIKIRI_CONTROL")]
    control: Option<PathBuf>,
    /// The data folder of the running edge: its control socket is in it.
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    data: Option<PathBuf>,
    /// The config file that the running edge was started with: it says where those are.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["control", "data"])]
    config: Option<PathBuf>,
}

impl At {
    /// The control socket.
    pub(crate) fn socket(&self) -> Result<PathBuf, String> {
        if let Some(path) = &self.control {
            return Ok(path.clone());
        }
        Ok(settings::places_of(self.data.as_deref(), self.config.as_deref())?.1)
    }

    /// The data folder, for what is done while no edge runs.
    pub(crate) fn folder(&self) -> Result<PathBuf, String> {
        Ok(settings::places_of(self.data.as_deref(), self.config.as_deref())?.0)
    }
}

pub(crate) fn reload(at: &At) -> Result<(), String> {
    say(&ask(&at.socket()?, "POST", "/reload", "")?)
}

/// Flags of `shikiri status`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 when the edge serves and nothing needs attention, 3 when something does \
(the lines that begin with `attention` say what) or it does not serve, 1 when no edge answers.

Examples:
  shikiri status
  shikiri status --data /var/lib/shikiri --json"
)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    at: At,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What of a status decides the exit status.
#[derive(serde::Deserialize)]
struct Judged {
    phase: String,
    attention: Vec<String>,
}

/// Something needs somebody's attention.
const ATTENTION: u8 = 3;

pub(crate) fn status(args: &StatusArgs) -> Result<ExitCode, String> {
    let socket = args.at.socket()?;
    let json = ask(&socket, "GET", "/status.json", "")?;
    let judged: Judged = serde_json::from_str(&json)
        .map_err(|error| format!("the edge's status cannot be understood: {error}"))?;
    if args.json {
        say(&json)?;
    } else {
        say(&ask(&socket, "GET", "/status", "")?)?;
    }
    Ok(
        if judged.phase == "serving" && judged.attention.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(ATTENTION)
        },
    )
}

/// One request on a connection of its own, which the edge closes.
pub(crate) fn ask(path: &Path, method: &str, target: &str, body: &str) -> Result<String, String> {
    let fault = |what: &str, error: std::io::Error| {
        format!(
            "{what} the control socket {}: {error}; is the edge running? `--data` or `--control` say where it is",
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
