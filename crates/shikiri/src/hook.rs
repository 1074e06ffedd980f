//! Hooks: telling the other side of the site of its mode, so that renewals and jobs stop with it.
//!
//! A hook is told after the mode is in force and never delays it. One that fails is tried again, for as long as
//! it takes, until it is heard or the mode is another: whoever was down meanwhile is told when they are back. What
//! came of it is put on the timeline, of later tries only that one was heard. When modes change faster
//! than hooks take them, the last one is told: a hook says what is, not what was.

use std::fmt;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use shikiri_edge::{ModeNotice, Node, Said};
use shikiri_record::{Mode, UnixMillis, What};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long to wait before each of the first further tries.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(25),
];
/// And before all that follow. The store of this workspace waits for longer when it starts, before it does anything by
/// itself.
const PAUSE_THEN: Duration = Duration::from_secs(10);

/// Whom a change of the mode is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// A command, for the shell.
    Command(String),
    /// Where it is posted to.
    Post(Uri),
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("a hook is a command or an `http://` URL".into());
        }
        if text.starts_with("https://") {
            return Err(format!(
                "`{text}`: a hook speaks cleartext in this version: write `http://…` on a network that you \
                 trust, or a command such as `curl`"
            ));
        }
        if !text.starts_with("http://") {
            return Ok(Self::Command(text.to_owned()));
        }
        let uri: Uri = text.parse().map_err(|_| format!("`{text}` is no URL"))?;
        match uri.authority() {
            Some(authority) if !authority.as_str().contains('@') => Ok(Self::Post(uri)),
            _ => Err(format!("`{text}` has no host, or holds a password")),
        }
    }
}

/// As it is told in logs and on the timeline: what may hold a secret is left out.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => {
                let first = command.split_whitespace().next().unwrap_or_default();
                f.write_str(first)
            }
            Self::Post(uri) => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                write!(f, "http://{authority}{}", uri.path())
            }
        }
    }
}

/// What a hook is told.
#[derive(Debug, Serialize)]
struct Told<'a> {
    node: &'a str,
    from: Mode,
    mode: Mode,
    reason: &'a str,
    actor: &'a str,
    reopening_ms: Option<UnixMillis>,
    at_ms: UnixMillis,
}

/// Tells hooks of every change of the mode, for as long as the node runs.
pub(crate) async fn run(node: Arc<Node>, hooks: Vec<Hook>, time_max: Duration) {
    let mut telling = tokio::task::JoinSet::new();
    for hook in hooks {
        telling.spawn(tell_all(Arc::clone(&node), hook, node.modes(), time_max));
    }
    while telling.join_next().await.is_some() {}
}

async fn tell_all(
    node: Arc<Node>,
    hook: Hook,
    mut modes: watch::Receiver<Option<ModeNotice>>,
    time_max: Duration,
) {
    while modes.changed().await.is_ok() {
        let Some(notice) = modes.borrow_and_update().clone() else {
            continue;
        };
        tell(&node, &hook, &notice, &mut modes, time_max).await;
    }
}

/// Tells one change, and tries again while it is the last one.
async fn tell(
    node: &Node,
    hook: &Hook,
    notice: &ModeNotice,
    modes: &mut watch::Receiver<Option<ModeNotice>>,
    time_max: Duration,
) {
    let told = Told {
        node: node.name(),
        from: notice.from,
        mode: notice.to,
        reason: &notice.reason,
        actor: &notice.actor,
        reopening_ms: notice.reopening,
        at_ms: notice.at,
    };
    let told = serde_json::to_string(&told).expect("a notice is plain data");
    for tries in 0_usize.. {
        let came = match timeout(time_max, once(hook, notice, &told)).await {
            Ok(came) => came,
            Err(_) => Err(format!("it took longer than {time_max:?}")),
        };
        if let Some(text) = word(&came, tries) {
            if came.is_err() {
                tracing::error!(%hook, mode = %notice.to, "a hook failed: {text}");
            } else {
                tracing::info!(%hook, mode = %notice.to, "a hook was told");
            }
            let what = What::HookRan {
                mode: notice.to,
                hook: hook.to_string(),
                succeeded: came.is_ok(),
            };
            node.note(what, &Said::by_node(text));
        }
        if came.is_ok() {
            return;
        }
        let is_over = tokio::select! {
            () = tokio::time::sleep(pause_after(tries)) => false,
            // Another mode: that is told instead.
            _ = modes.wait_for(|last| last.as_ref() != Some(notice)) => true,
        };
        if is_over {
            modes.mark_changed();
            return;
        }
    }
}

/// How long to wait after a try that failed; `tries` were before it.
fn pause_after(tries: usize) -> Duration {
    PAUSES.get(tries).copied().unwrap_or(PAUSE_THEN)
}

/// What is said of a try. That it goes on failing is said once.
fn word(came: &Result<(), String>, tries: usize) -> Option<String> {
    let pause = pause_after(tries);
    match came {
        Ok(()) => Some("heard".to_owned()),
        Err(why) if tries < PAUSES.len() => Some(format!("{why}; tried again in {pause:?}")),
        Err(why) if tries == PAUSES.len() => Some(format!(
            "{why}; tried again every {pause:?} until it is heard"
        )),
        Err(_) => None,
    }
}

async fn once(hook: &Hook, notice: &ModeNotice, told: &str) -> Result<(), String> {
    match hook {
        Hook::Command(command) => run_command(command, notice, told).await,
        Hook::Post(uri) => post(uri, told).await,
    }
}

async fn run_command(command: &str, notice: &ModeNotice, told: &str) -> Result<(), String> {
    let reopening = notice
        .reopening
        .map_or_else(String::new, |at| at.0.to_string());
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("SHIKIRI_MODE", notice.to.name())
        .env("SHIKIRI_MODE_FROM", notice.from.name())
        .env("SHIKIRI_REASON", &notice.reason)
        .env("SHIKIRI_ACTOR", &notice.actor)
        .env("SHIKIRI_REOPENING_MS", reopening)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads nothing may be over already.
        drop(stdin.write_all(told.as_bytes()).await);
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("it ended with {status}"))
    }
}

async fn post(uri: &Uri, told: &str) -> Result<(), String> {
    let authority = uri.authority().expect("a hook's URL has a host");
    let place = (authority.host(), authority.port_u16().unwrap_or(80));
    let fault = |error: &dyn fmt::Display| error.to_string();
    let stream = TcpStream::connect(place).await.map_err(|e| fault(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| fault(&e))?;
    let serving = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("shikiri/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(told.to_owned())))
        .map_err(|e| fault(&e))?;
    let sent = sender.send_request(request).await;
    serving.abort();
    let status = sent.map_err(|e| fault(&e))?.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("it answered {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_never_given_up_and_does_not_fill_the_timeline() {
        let failed = Err("nobody listens".to_owned());
        let said: Vec<_> = (0..1000).filter_map(|tries| word(&failed, tries)).collect();
        assert_eq!(said.len(), PAUSES.len() + 1);
        assert_eq!(
            said.last().map(String::as_str),
            Some("nobody listens; tried again every 10s until it is heard")
        );
        assert_eq!(word(&Ok(()), 1000).as_deref(), Some("heard"));
        let waited: Duration = (0..4).map(pause_after).sum();
        assert_eq!(waited, Duration::from_secs(41));
    }

    #[test]
    fn what_a_hook_may_be() {
        for (text, shown) in [
            ("systemctl stop renewals", Some("systemctl")),
            ("  ./stop --token secret ", Some("./stop")),
            (
                "http://127.0.0.1:9000/mode?key=secret",
                Some("http://127.0.0.1:9000/mode"),
            ),
            ("http://user:pw@host/", None),
            ("https://host/", None),
            ("http://", None),
            ("", None),
        ] {
            let hook = text.parse::<Hook>().ok();
            assert_eq!(
                hook.map(|hook| hook.to_string()).as_deref(),
                shown,
                "{text}"
            );
        }
    }
}
