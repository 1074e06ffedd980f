//! TLS for the clients of a script: a bridge that speaks it for them, and the certificates.
//!
//! Never checks the cache's certificate: a script is about what the cache does, and its clients are as
//! gullible as its origin.
//!
//! Invariant: the judge sees all that comes. What goes through the bridge goes through TLS byte for byte;
//! where it is translated to HTTP/2, every field and every byte of a body has its place in HTTP/1.1.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::script::Handshake;
use crate::setup;

const BRIDGE: &str = include_str!("tls/bridge.py");

/// Of nobody: made for this, and good until 2126. The authority's own key is gone.
const FILES: [(&str, &str); 9] = [
    ("ca.pem", include_str!("tls/test-only-ca.pem")),
    ("red.pem", include_str!("tls/test-only-red.pem")),
    ("red.key", include_str!("tls/test-only-red.key")),
    ("blue.pem", include_str!("tls/test-only-blue.pem")),
    ("blue.key", include_str!("tls/test-only-blue.key")),
    ("all.pem", include_str!("tls/test-only-all.pem")),
    ("all.key", include_str!("tls/test-only-all.key")),
    ("member.pem", include_str!("tls/test-only-member.pem")),
    ("member.key", include_str!("tls/test-only-member.key")),
];

/// Writes the certificates and keys into a folder; keys can be read by their owner alone.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_files(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(folder)?;
    for (name, text) in FILES {
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    // HAProxy wants both in one file, and gets nothing else in its folder.
    let text = |name: &str| {
        FILES
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, text)| text)
    };
    let both = folder.join("both");
    fs::create_dir_all(&both)?;
    for site in ["red", "blue"] {
        let (certificate, key) = (text(&format!("{site}.pem")), text(&format!("{site}.key")));
        let path = both.join(format!("{site}.pem"));
        fs::write(&path, format!("{certificate}{key}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// A bridge that runs; it ends when dropped.
pub(crate) struct Bridge {
    child: Child,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Bridge {
    /// # Errors
    /// Why it does not run.
    pub(crate) fn start() -> Result<Self, String> {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("bridge-{}-{number}", std::process::id()));
        write_files(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut child = Command::new("python3")
            .args(["-c", BRIDGE])
            .arg(&folder)
            .envs(setup::sslyze_path().map(|path| ("PYTHONPATH", path)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("python3: {e}; install Python 3.10 or newer"))?;
        let output = child.stdout.take().expect("its output is piped");
        let mut bridge = Self {
            child,
            folder,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let port = line.trim().parse().ok().filter(|_| read.is_ok());
        let port = port.ok_or("the bridge to TLS does not say where it listens")?;
        bridge.address.set_port(port);
        Ok(bridge)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// How a client comes to a cache through the bridge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Through {
    pub(crate) bridge: SocketAddr,
    /// Where the cache speaks TLS.
    pub(crate) cache: SocketAddr,
}

impl Through {
    /// The line with which a connection begins. `http2` has the fields of a request that the bridge is
    /// to send itself, and is empty when bytes go through.
    pub(crate) fn opening(
        &self,
        viewer: &str,
        from: IpAddr,
        host: &str,
        handshake: &Handshake,
        http2: &[(String, String)],
        body: &str,
    ) -> Vec<u8> {
        let name = handshake.server_name.as_deref().unwrap_or(host);
        let ask = json!({
            "to": [self.cache.ip().to_string(), self.cache.port()],
            "viewer": viewer,
            "from": from,
            "name": name,
            "certificate": handshake.certificate,
            "tls12": handshake.tls12,
            "resumes": handshake.resumes,
            "translated": handshake.translated,
            "http2": http2,
            "body": body,
        });
        format!("{ask}\n").into_bytes()
    }
}
