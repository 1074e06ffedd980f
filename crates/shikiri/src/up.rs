//! `shikiri up`: a member store and the edge before it, on this machine, from nothing.
//!
//! It serves nothing itself: it starts this same program several times, with other secrets each, waits,
//! and stops all of them when one fails or when it is told to.
//!
//! Invariant: what it started does not outlive it, however it dies ([`parent`](crate::parent)).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use shikiri_site::media::MediaBase;
use shikiri_site::store::DEMO_PASSWORD;
use tokio::io::{AsyncBufReadExt, BufReader as AsyncBufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::store::{Folder, HOSTS, runtime, written_policy};
use crate::{database, say, shop_secrets};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri up
      Listens on 127.0.0.1:8080, prints addresses and what to try, keeps its data in shikiri-up.
  shikiri up --listen 127.0.0.1:0 --data /tmp/trial
      On a free port, with its data elsewhere. Remove the folder to begin anew.")]
pub(crate) struct Args {
    /// The folder that holds everything: the store's database, evidence, timeline, policy, logs.
    #[arg(long, value_name = "DIR", default_value = "shikiri-up")]
    data: PathBuf,
    /// Where the edge listens, on this machine alone: the demo members' password is known to everybody.
    /// Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value_t = LISTEN)]
    listen: SocketAddr,
}

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// How long a part may take to begin, and to end.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// So many lines of its log are shown of a part that failed.
const LINES_SHOWN: usize = 12;

pub(crate) fn run(args: &Args) -> Result<(), String> {
    if !args.listen.ip().is_loopback() {
        return Err(format!(
            "{} can be reached from other machines, and the demo members' password is known to everybody: \
             listen on 127.0.0.1; for a store of your own see `shikiri site serve --help`",
            args.listen
        ));
    }
    let folder = Folder::open(&args.data)?;
    let edge = free(args.listen)?;
    runtime()?.block_on(start(&folder, edge))
}

async fn start(folder: &Folder, edge: SocketAddr) -> Result<(), String> {
    let handler = |kind| signal(kind).map_err(|error| format!("cannot handle signals: {error}"));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut parts = Vec::new();
    let ended = tokio::select! {
        begun = begin(folder, edge, &mut parts) => match begun {
            Ok(told) => {
                say(&told)?;
                tokio::select! {
                    why = any_ends(&mut parts) => Err(why),
                    _ = terminate.recv() => Ok(()),
                    _ = interrupt.recv() => Ok(()),
                }
            }
            Err(why) => Err(why),
        },
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    say("stopping\n")?;
    // The edge first: what it has begun still needs the store.
    let mut late = Vec::new();
    for part in parts.iter_mut().rev() {
        late.extend(part.stop().await.err());
    }
    ended?;
    if late.is_empty() {
        say("stopped\n")
    } else {
        Err(late.join("\n"))
    }
}

/// Starts part after part, and says what there is to see.
async fn begin(folder: &Folder, edge: SocketAddr, parts: &mut Vec<Part>) -> Result<String, String> {
    let port = edge.port();
    let media: MediaBase = format!("http://media.localhost:{port}").parse()?;
    let (site, delivery) = (folder.join("site"), folder.join("delivery"));
    let edge_key = delivery.join("edge.secret");
    let tickets = folder.join("tickets.secret");
    // Before two processes could make two.
    shop_secrets::read_or_make(&tickets)?;
    let with = |words: &str, data: &Path| {
        let mut command = run_self(words)?;
        command.arg("--data").arg(data);
        command.arg("--tickets").arg(&tickets);
        command.args(["--media", media.origin()]);
        Ok::<_, String>(command)
    };
    let mut store = with(
        "site serve --sample --listen 127.0.0.1:0 --pay 127.0.0.1:0",
        &site,
    )?;
    store.args(["--url", &format!("http://localhost:{port}")]);
    let store = add(parts, folder, "store", store).await?;
    let delivery = with("site deliver --listen 127.0.0.1:0", &delivery)?;
    let delivery = add(parts, folder, "delivery server", delivery).await?;

    let policy = folder.join("policy.toml");
    let (hosts, secrets) = (HOSTS.map(str::to_owned), [&*tickets, &*edge_key]);
    let written = written_policy(&hosts, &media, &store, &delivery, secrets)?;
    fs::write(&policy, written)
        .map_err(|error| format!("cannot write {}: {error}", policy.display()))?;

    let mut command = run_self("edge --trust 127.0.0.1")?;
    let own = own_path()?;
    let told = format!("{} site told --data {}", quoted(&own)?, quoted(&site)?);
    command
        .args(["--listen", &edge.to_string()])
        .arg("--policy")
        .arg(&policy)
        .arg("--data")
        .arg(folder.join("edge"))
        .args(["--on-mode", &told]);
    add(parts, folder, "edge", command).await?;
    Ok(told_at_start(folder, edge))
}

fn told_at_start(folder: &Folder, edge: SocketAddr) -> String {
    let port = edge.port();
    let shop = format!("http://localhost:{port}");
    let at = |name: &str| folder.join(name).display().to_string();
    let control = at("edge/control.sock");
    let mut text = String::new();
    let mut line = |line: &str| {
        writeln!(text, "{line}").expect("a string can be written to");
    };
    line("");
    line(&format!(
        "The store is open:  {shop}/en/  (日本語: {shop}/ja/)"
    ));
    line("");
    line(&format!(
        "Two members:        hanako@example.test and taro@example.test, both with the password {DEMO_PASSWORD}"
    ));
    line("");
    line(
        "In a browser, log in as one in a window and as the other in a private one, and watch a film. Here, try:",
    );
    line("");
    for command in [
        format!(
            "curl -si {shop}/en/films | grep -i '^cache-status'    # twice: the second is a hit"
        ),
        format!(
            "curl -si {shop}/en/account | grep -i '^cache-status'  # a member's page: never shared"
        ),
        format!(
            "shikiri explain {shop}/en/films --policy {}",
            at("policy.toml")
        ),
        format!("shikiri mode closed --reason trial --reopening 30m --control {control}"),
        format!("shikiri mode open --reason 'trial is over' --control {control}"),
        format!("shikiri evidence tail --data {}", at("edge")),
    ] {
        line(&format!("  {command}"));
    }
    line("");
    line(&format!(
        "Everything is kept in {}; logs are in {}.",
        at(""),
        at("log")
    ));
    line("Ctrl-C stops it.");
    text
}

/// Another process of ours.
struct Part {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Held open for as long as it is to run: waiting for a child would close its own.
    _stdin: ChildStdin,
}

/// Starts a part, and waits until it says where it listens.
async fn add(
    parts: &mut Vec<Part>,
    folder: &Folder,
    name: &'static str,
    mut command: Command,
) -> Result<String, String> {
    let logs = folder.join("log");
    let log = logs.join(format!("{}.log", name.replace(' ', "-")));
    let cannot = |error: std::io::Error| format!("cannot start the {name}: {error}");
    fs::create_dir_all(&logs).map_err(cannot)?;
    let mut child = command
        .arg("--until-stdin-ends")
        // Of a group of its own: a terminal's Ctrl-C is for us, who stop the parts in order.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).map_err(cannot)?)
        .spawn()
        .map_err(cannot)?;
    let stdout = child.stdout.take().expect("it was asked for");
    let stdin = child.stdin.take().expect("it was asked for");
    parts.push(Part {
        name,
        child,
        log,
        _stdin: stdin,
    });
    let part = parts.last_mut().expect("it was just put there");
    let mut lines = AsyncBufReader::new(stdout).lines();
    match timeout(BEGINS_WITHIN, lines.next_line()).await {
        Ok(Ok(Some(line))) => {
            let at = line.strip_prefix("listening on ").map(str::to_owned);
            // What it says later must not block it.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            at.ok_or_else(|| format!("the {name} says {line:?} where an address was expected"))
        }
        Ok(_) => {
            drop(timeout(ENDS_WITHIN, part.child.wait()).await);
            Err(part.failed("did not start"))
        }
        Err(_) => Err(part.failed(&format!(
            "has not started within {} s",
            BEGINS_WITHIN.as_secs()
        ))),
    }
}

/// Waits until one ends, and says which and why.
async fn any_ends(parts: &mut [Part]) -> String {
    let ends = parts.iter_mut().map(|part| {
        Box::pin(async move {
            let how = match part.child.wait().await {
                Ok(status) => format!("ended by itself ({status})"),
                Err(error) => format!("cannot be waited for: {error}"),
            };
            part.failed(&how)
        })
    });
    first(ends.collect()).await
}

/// Whichever is done first; there is one at least.
async fn first<F: Future + Unpin>(mut all: Vec<F>) -> F::Output {
    std::future::poll_fn(move |context| {
        let done = all
            .iter_mut()
            .find_map(|one| match std::pin::Pin::new(one).poll(context) {
                std::task::Poll::Ready(done) => Some(done),
                std::task::Poll::Pending => None,
            });
        done.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

impl Part {
    /// Which one, what, and the end of its log.
    fn failed(&self, how: &str) -> String {
        let mut text = format!(
            "the {} {how}; its log, {}, ends:",
            self.name,
            self.log.display()
        );
        for line in last_lines(&self.log) {
            text.push_str("\n  ");
            text.push_str(&line);
        }
        text
    }

    /// Tells it to stop, waits, and ends it where it does not.
    async fn stop(&mut self) -> Result<(), String> {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return Ok(());
        }
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // It may have ended meanwhile, which is what is wanted.
            kill_process(pid, Signal::TERM).ok();
        }
        match timeout(ENDS_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) => Err(self.failed("stopped with a failure")),
            Err(_) => {
                drop(self.child.kill().await);
                Err(self.failed("did not stop, and was ended"))
            }
        }
    }
}

fn last_lines(log: &Path) -> Vec<String> {
    let Ok(file) = File::open(log) else {
        return Vec::new();
    };
    let mut kept = std::collections::VecDeque::new();
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        if kept.len() == LINES_SHOWN {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept.into()
}

/// The address to listen on, held against what listens there already. Port 0 becomes a free one.
fn free(wanted: SocketAddr) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(wanted).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => format!(
            "something listens on {wanted} already: stop it, or choose another port with \
             `--listen 127.0.0.1:0`"
        ),
        _ => format!("cannot listen on {wanted}: {error}"),
    })?;
    listener
        .local_addr()
        .map_err(|error| format!("cannot listen on {wanted}: {error}"))
}

fn own_path() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))
}

/// This same program with these words.
fn run_self(words: &str) -> Result<Command, String> {
    let mut command = Command::new(own_path()?);
    command.args(words.split(' ')).kill_on_drop(true);
    // A trial keeps all it has in its folder.
    command.env_remove(database::VARIABLE);
    Ok(command)
}

/// A path as one word for a shell.
fn quoted(path: &Path) -> Result<String, String> {
    let text = path.to_str();
    let text = text.ok_or_else(|| format!("{} is no UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        for (path, word) in [
            ("/a/b", "'/a/b'"),
            ("/a b", "'/a b'"),
            ("/a'b;c", r"'/a'\''b;c'"),
        ] {
            assert_eq!(quoted(Path::new(path)).unwrap(), word);
        }
    }

    #[test]
    fn an_address_that_is_taken_is_refused_with_what_to_do() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let why = free(held.local_addr().unwrap()).unwrap_err();
        assert!(why.contains("--listen 127.0.0.1:0"), "{why}");
        assert_ne!(free("127.0.0.1:0".parse().unwrap()).unwrap().port(), 0);
    }
}
