//! Where a peer runs: its folder, its addresses, and the packages that it is started from.
//!
//! Never lets a peer see a folder of the machine's but those of the packages, which it only reads.
//!
//! Invariant: a peer is never root. Where we are, it and its folder belong to `nobody`: the programs
//! differ in what they do with root's rights, and none of it is to be compared.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Peer, make_folder};
use crate::leaks::write_certificates;
use crate::process::{Doing, Failure, children, output, root};
use crate::setup;

/// The ids of `nobody` and `nogroup` on Debian and all that descend from it.
const NOBODY: u32 = 65534;

/// Below its folder.
const CERTIFICATES: &str = "certificates";

/// Where one peer runs.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) listen: SocketAddr,
    /// Where it speaks TLS, if its text says so.
    pub(super) tls_listen: Option<SocketAddr>,
    origin: SocketAddr,
    packages: PathBuf,
    /// The id of its first process, once it was started.
    pub(super) process: u32,
    /// How often another configuration was put in force.
    pub(super) generation: u32,
    is_root: bool,
}

impl Place {
    pub(super) fn new(
        peer: &Peer,
        listen: SocketAddr,
        origin: SocketAddr,
    ) -> Result<Self, Failure> {
        let folder = root().join(format!("target/peers/{}-{}", peer.name, listen.port()));
        // One with this port that was killed before it could tidy up.
        drop(fs::remove_dir_all(&folder));
        make_folder(&folder)?;
        let metadata = fs::metadata(&folder).doing("looking at a new folder")?;
        let place = Self {
            folder,
            listen,
            tls_listen: None,
            origin,
            packages: packages_of(peer.program)?,
            process: 0,
            generation: 0,
            is_root: metadata.uid() == 0,
        };
        place.give_away(&place.folder)?;
        Ok(place)
    }

    /// It speaks TLS too, at this address, and has certificates.
    pub(super) fn speak_tls(&mut self, listen: SocketAddr) -> Result<(), Failure> {
        self.tls_listen = Some(listen);
        let folder = self.make(CERTIFICATES)?;
        write_certificates(&folder).doing("writing certificates")?;
        for folder in [folder.clone(), folder.join("both")] {
            self.give_away(&folder)?;
            for entry in fs::read_dir(&folder)
                .doing("looking at certificates")?
                .flatten()
            {
                self.give_away(&entry.path())?;
            }
        }
        Ok(())
    }

    /// A folder below the peer's own.
    pub(super) fn make(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        make_folder(&path)?;
        self.give_away(&path)?;
        Ok(path)
    }

    /// Writes a file below the peer's folder, the names of places in it filled in.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        fs::write(&path, self.filled(text)).doing(format_args!("writing {}", path.display()))?;
        Ok(path)
    }

    /// A text with the names of places in it filled in.
    pub(super) fn filled(&self, text: &str) -> String {
        let tls = self.tls_listen.unwrap_or(self.listen);
        text.replace("@LISTEN@", &self.listen.to_string())
            .replace("@PORT@", &self.listen.port().to_string())
            .replace("@TLS_LISTEN@", &tls.to_string())
            .replace("@TLS_PORT@", &tls.port().to_string())
            .replace(
                "@CERTIFICATES@",
                &self.folder.join(CERTIFICATES).to_string_lossy(),
            )
            .replace("@ORIGIN@", &self.origin.to_string())
            .replace("@ORIGIN_PORT@", &self.origin.port().to_string())
            .replace("@GENERATION@", &self.generation.to_string())
            .replace("@FOLDER@", &self.folder.to_string_lossy())
            .replace(
                "@PACKAGES@",
                self.packages.to_string_lossy().trim_end_matches('/'),
            )
    }

    /// A program of the packages, to be run in the peer's folder by the peer's user.
    pub(super) fn command(&self, path: &str) -> Result<Command, Failure> {
        let mut command = program(path)?;
        command.current_dir(&self.folder).stdin(Stdio::null());
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ok(command)
    }

    /// Sends a signal to the peer's first process.
    pub(super) fn signal(&self, name: &str) -> Result<(), Failure> {
        let mut kill = Command::new("kill");
        kill.args(["-s", name]).arg(self.process.to_string());
        output(&mut kill).map(drop)
    }

    /// Signals, and waits until every process that the first one had started has been replaced.
    pub(super) fn replace_children(&self, signal: &str) -> Result<(), Failure> {
        let before = children(self.process);
        self.signal(signal)?;
        wait_until("its old processes to end and new ones to start", || {
            let now = children(self.process);
            !now.is_empty() && !now.iter().any(|id| before.contains(id))
        })
    }

    /// The text of a log below its folder; empty where there is none yet.
    pub(super) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where what it prints goes.
    pub(super) fn log(&self) -> Result<File, Failure> {
        let path = self.folder.join("printed.log");
        let log = File::options().create(true).append(true).open(&path);
        log.doing(format_args!("opening {}", path.display()))
    }

    /// The ends of all its logs.
    pub(super) fn last_words(&self) -> String {
        let mut words = String::new();
        for log in [
            "printed.log",
            "error.log",
            "cache.log",
            "log/traffic.out",
            "log/diags.log",
        ] {
            let text = self.read(log);
            let lines: Vec<_> = text.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(12)) {
                words.push_str(&format!("  {log}: {line}\n"));
            }
        }
        words
    }

    fn give_away(&self, path: &Path) -> Result<(), Failure> {
        if !self.is_root {
            return Ok(());
        }
        chown(path, Some(NOBODY), Some(NOBODY))
            .doing(format_args!("giving {} away", path.display()))
    }
}

/// A program of the packages, with the libraries that it was packaged with.
pub(super) fn program(path: &str) -> Result<Command, Failure> {
    let packages = packages_of(path)?;
    let mut command = Command::new(packages.join(path));
    if packages != Path::new("/") {
        command.env("LD_LIBRARY_PATH", library_path(&packages));
    }
    Ok(command)
}

/// The root below which a file of the packages lies: the unpacked ones, else the machine's.
pub(super) fn packages_of(path: &str) -> Result<PathBuf, Failure> {
    let unpacked = setup::packages_folder()?;
    for packages in [unpacked.as_path(), Path::new("/")] {
        if packages.join(path).exists() {
            return Ok(packages.to_owned());
        }
    }
    Err(Failure::new(format!(
        "/{path} is neither unpacked nor installed: remove {} and run `cargo xtask setup`",
        unpacked.display()
    )))
}

/// The folders of libraries below the root of the packages, as `LD_LIBRARY_PATH` wants them.
pub(crate) fn library_path(packages: &Path) -> OsString {
    let mut folders = Vec::new();
    for libraries in ["usr/lib", "lib"] {
        let libraries = packages.join(libraries);
        let entries = fs::read_dir(&libraries).into_iter().flatten().flatten();
        for entry in entries {
            // The folder of the processor's own libraries, as x86_64-linux-gnu, and those of the
            // programs that have private ones.
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.contains("-linux-") {
                folders.push(entry.path());
                let private = ["pulseaudio", "trafficserver", "varnish"];
                folders.extend(private.map(|it| entry.path().join(it)));
            } else if name == "trafficserver" || name == "varnish" {
                folders.push(entry.path());
            }
        }
    }
    folders.sort();
    std::env::join_paths(folders).unwrap_or_default()
}

/// Waits for something that another process does.
///
/// # Errors
/// It did not happen in time.
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err(Failure::new(format!("waited 20 s in vain for {what}")));
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}
