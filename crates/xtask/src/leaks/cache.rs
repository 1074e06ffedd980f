//! The caches that scripts are run against.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::script::{Over, Script};

/// A cache that can be put in front of an origin. Each cell has one of its own, so that no script is
/// changed to keep cells apart.
pub(crate) trait Cache: Sync {
    /// Its name, as scripts give it policies.
    fn name(&self) -> &'static str;

    /// Whether it is ours to mend: then a control that is no hit, and a request without an answer,
    /// say that something is wrong. Another's cache may decline a control by design, and may break a
    /// page.
    fn is_ours(&self) -> bool {
        true
    }

    /// A bridge to TLS for scripts that do not speak it themselves.
    fn bridge(&self) -> Option<SocketAddr> {
        None
    }

    /// Starts it under a policy of the script's.
    ///
    /// # Errors
    /// Why it does not serve.
    fn start(
        &self,
        origin: SocketAddr,
        script: &Script,
        policy: &str,
    ) -> Result<Box<dyn Running>, String>;
}

/// A cache that serves; it ends when dropped.
pub(crate) trait Running {
    fn address(&self) -> SocketAddr;

    /// Where it speaks TLS, for a script that needs it.
    fn tls_address(&self) -> Option<SocketAddr> {
        None
    }

    /// Puts another policy in force, with all that is stored left as it is.
    ///
    /// # Errors
    /// Why it is not in force.
    fn reload(&mut self, script: &Script, policy: &str) -> Result<(), String>;

    /// Reloads what is in force, shares nothing for a moment, and shares again.
    ///
    /// # Errors
    /// Why it does not.
    fn stir(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Our own edge, as a process.
#[derive(Clone)]
pub(crate) struct Ours {
    pub(crate) binary: PathBuf,
    pub(crate) bridge: Option<SocketAddr>,
}

/// The most careless policy that the language can say: everything, to everybody, whatever its type
/// and status, with no cookie known to be a session's.
pub(crate) const CARELESS: &str = r#"version = 1

[session]
cookies = ["no_such_cookie"]

[builtin]
assets = false

[[class]]
name = "everything"
match = { paths = ["/**"] }
to = "everyone"
types = ["*/*", "text/html", "application/xhtml+xml"]
statuses = [
    200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 402, 403, 404, 405, 410, 413, 414, 422, 429,
    451, 500, 501, 502, 503, 504,
]
key_encoding = false
lifetime = { default = "1h", max = "1h", stale_while_revalidate = "1h", stale_if_error = "1h" }

[limits]
remember_pass_time = "1ms"
"#;

/// What a node of a cell is. Many run at once, and none serves much, so little room is set aside for
/// evidence.
const NODE: &str = r#"version = 1

[evidence]
segment_size = "1 MiB"

[[listen]]
address = "http://127.0.0.1:0"
"#;

/// For a script that needs TLS.
const WITH_TLS: &str = r#"
[[listen]]
address = "https://127.0.0.1:0"

[[tls]]
hosts = ["red.test"]
cert = "red.pem"
key = "red.key"

[[tls]]
hosts = ["blue.test"]
cert = "blue.pem"
key = "blue.key"
client_ca = "ca.pem"
"#;

/// For any other script, when its clients are to speak TLS.
const WITH_TLS_FOR_ALL: &str = r#"
[[listen]]
address = "https://127.0.0.1:0"

[[tls]]
hosts = ["shop.test", "red.test", "blue.test", "green.test"]
cert = "all.pem"
key = "all.key"
"#;

/// What a script's policy for the edge may name as `env = "SHIKIRI_LEAK_SECRET"`. A script's origin only
/// looks whether the header is there.
const SECRET: &str = "a-secret-of-no-importance";

/// A policy that says nothing: what holds without one.
const NOTHING: &str = "version = 1\n";

impl Ours {
    fn text(&self, script: &Script, policy: &str) -> Result<String, String> {
        match policy {
            "default" => Ok(NOTHING.to_owned()),
            "careless" => Ok(CARELESS.to_owned()),
            own => script
                .policies
                .iter()
                .find(|p| p.name == own)
                .and_then(|p| p.texts.iter().find(|(cache, _)| cache == self.name()))
                .map(|(_, text)| text.clone())
                .ok_or_else(|| format!("the policy `{own}` has no text for {}", self.name())),
        }
    }
}

struct Process {
    child: Child,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    folder: PathBuf,
    ours: Ours,
}

impl Cache for Ours {
    fn name(&self) -> &'static str {
        "shikiri"
    }

    fn bridge(&self) -> Option<SocketAddr> {
        self.bridge
    }

    fn start(
        &self,
        origin: SocketAddr,
        script: &Script,
        policy: &str,
    ) -> Result<Box<dyn Running>, String> {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("leaks-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let text = self.text(script, policy)?;
        let mut command = Command::new(&self.binary);
        command
            .args(["edge", "--origin", &format!("http://{origin}")])
            .env("SHIKIRI_LEAK_SECRET", SECRET)
            .args(["--log", "warn", "--data"])
            .arg(folder.join("data"));
        let mut node = NODE.to_owned();
        let with_tls = match (script.tls, script.over) {
            (true, _) => Some(WITH_TLS),
            (false, Over::Tls | Over::Http2) => Some(WITH_TLS_FOR_ALL),
            (false, Over::Clear) => None,
        };
        if let Some(with_tls) = with_tls {
            super::tls::write_files(&folder).map_err(|e| e.to_string())?;
            node.push_str(with_tls);
        }
        std::fs::write(folder.join("edge.toml"), node).map_err(|e| e.to_string())?;
        command.arg("--config").arg(folder.join("edge.toml"));
        // Without a file where the script needs none: that is what `default` means.
        let reloads = super::script::reloads(&script.steps);
        if policy != "default" || !reloads.is_empty() {
            std::fs::write(folder.join("policy.toml"), text).map_err(|e| e.to_string())?;
            command.arg("--policy").arg(folder.join("policy.toml"));
        }
        let log = std::fs::File::create(folder.join("log")).map_err(|e| e.to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| {
                format!(
                    "{}: {e}; build it with `cargo build -p shikiri`",
                    self.binary.display()
                )
            })?;
        let output = child.stdout.take().expect("its output is piped");
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // What else it says is not ours, but must not block it.
                ready.send(line).ok();
            }
        });
        let listens = |scheme: &str| {
            let line = is_ready.recv_timeout(Duration::from_secs(20)).ok()?;
            let address = line.strip_prefix("listening on ")?.strip_prefix(scheme)?;
            address.strip_prefix("://")?.trim().parse().ok()
        };
        let address = listens("http");
        let tls_address = with_tls.and_then(|_| listens("https"));
        let (Some(address), true) = (address, tls_address.is_some() == with_tls.is_some()) else {
            child.kill().ok();
            child.wait().ok();
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(format!("the edge does not listen: {log}"));
        };
        Ok(Box::new(Process {
            child,
            address,
            tls_address,
            folder,
            ours: self.clone(),
        }))
    }
}

impl Running for Process {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    fn reload(&mut self, script: &Script, policy: &str) -> Result<(), String> {
        let text = self.ours.text(script, policy)?;
        std::fs::write(self.folder.join("policy.toml"), text).map_err(|e| e.to_string())?;
        self.told(&["reload"])
    }

    fn stir(&mut self) -> Result<(), String> {
        self.told(&["reload"])?;
        self.told(&["mode", "pass", "--reason", "a test"])?;
        self.told(&["mode", "open", "--reason", "a test"])
    }
}

impl Process {
    /// Does what an operator does.
    fn told(&self, words: &[&str]) -> Result<(), String> {
        let said = Command::new(&self.ours.binary)
            .args(words)
            .arg("--data")
            .arg(self.folder.join("data"))
            .output()
            .map_err(|e| e.to_string())?;
        if said.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&said.stderr).into_owned())
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of it is worth an orderly end.
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
