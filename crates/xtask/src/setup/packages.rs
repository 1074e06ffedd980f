//! The distribution's packages, unpacked into a folder and never installed.
//!
//! Never needs root, never starts a service, and never touches the machine's own package lists,
//! caches or locks: apt is given a state of its own under `target/tools/apt`.
//!
//! Invariant: what is unpacked can run. Every program that is started later has all its libraries,
//! either in the folder or on the machine; where one is missing, it is named and nothing is stamped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tool, network_advice, tools};
use crate::peers;
use crate::process::{Doing, Failure, output, run as run_command};

/// The caches that we are compared with.
///
/// # Errors
/// This is no Debian-like machine and something is not installed; a download failed; a library is
/// missing.
pub(super) fn bring_peers(tool: &Tool, into: &Path) -> Result<(), Failure> {
    if !is_debian() {
        return installed_ones(tool);
    }
    Apt::updated()?.unpack(&named(tool), into)?;
    let files = peers::PEERS.iter().flat_map(|peer| {
        std::iter::once(&peer.program)
            .chain(peer.loads)
            .map(|file| (peer.name, *file))
    });
    complete(into, files)
}

/// The browser, with fonts.
///
/// # Errors
/// This is no Debian-like machine; a download failed; a library is missing.
pub(super) fn bring_browser(tool: &Tool, into: &Path) -> Result<(), Failure> {
    if !is_debian() {
        return Err(Failure::new(format!(
            "this machine has no apt-get and dpkg to bring {}: work on Debian or Ubuntu (a container will do)",
            tool.pinned
        )));
    }
    Apt::updated()?.unpack(&named(tool), into)?;
    complete(into, std::iter::once(("chromium", BROWSER)))
}

/// The database server, in the version that the distribution's own name for it stands for.
///
/// # Errors
/// This is no Debian-like machine and it is not installed; a download failed; a library is missing.
pub(super) fn bring_database(tool: &Tool, into: &Path) -> Result<(), Failure> {
    if !is_debian() {
        return match super::database_programs_below(Path::new("/")) {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!(
                "this machine has no apt-get and dpkg to bring {0}, and {0} is not installed. Install it with \
                 your system's packages, or work on Debian or Ubuntu (a container will do).",
                tool.pinned
            ))),
        };
    }
    let apt = Apt::updated()?;
    let server = apt.first_dependency(tool.pinned)?;
    apt.unpack(&[&server], into)?;
    let programs = super::database_programs_below(into);
    let programs = programs.as_deref().and_then(Path::parent);
    let version = programs.and_then(|it| it.strip_prefix(into).ok());
    let version = version.and_then(Path::to_str).ok_or_else(|| {
        Failure::new(format!(
            "{server} has no programs where they are looked for"
        ))
    })?;
    let files = [
        "bin/postgres",
        "bin/initdb",
        "lib/plpgsql.so",
        "lib/dict_snowball.so",
    ]
    .map(|file| format!("{version}/{file}"));
    complete(into, files.iter().map(|file| (&*server, &**file)))
}

fn named(tool: &Tool) -> Vec<&str> {
    tool.pinned.split(' ').collect()
}

fn is_debian() -> bool {
    let has = |program: &str| output(Command::new(program).arg("--version")).is_ok();
    has("apt-get") && has("dpkg")
}

/// apt, with a state of its own.
struct Apt {
    state: PathBuf,
    settings: PathBuf,
}

impl Apt {
    fn updated() -> Result<Self, Failure> {
        let state = tools().join("apt");
        let settings = private_state(&state)?;
        let apt = Self { state, settings };
        run_command(apt.command("apt-get").args(["-qq", "update"])).map_err(network_advice)?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.settings);
        command
    }

    /// What a package that is a name alone stands for.
    fn first_dependency(&self, name: &str) -> Result<String, Failure> {
        let told = output(self.command("apt-cache").args(["depends", name]))?;
        let told = String::from_utf8_lossy(&told);
        let first = told
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "));
        let first = first.filter(|it| it.starts_with(name));
        first
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("{name} stands for no package:\n{told}")))
    }

    /// Downloads the named packages, whether or not the machine has them, and those that they depend on
    /// and the machine has not; unpacks the named ones and the libraries, and leaves nothing else behind.
    fn unpack(self, names: &[&str], into: &Path) -> Result<(), Failure> {
        let mut download = self.command("apt-get");
        download.args(["-qq", "install", "--yes", "--download-only", "--reinstall"]);
        download.arg("--no-install-recommends").args(names);
        run_command(&mut download).map_err(network_advice)?;
        let mut unpacked = 0;
        for package in archives(&self.state.join("cache/archives"))? {
            if !is_wanted(&package, names) {
                continue;
            }
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(&package).arg(into);
            output(&mut unpack)?;
            unpacked += 1;
        }
        // The lists and archives are of no further use.
        fs::remove_dir_all(&self.state).doing(format_args!("removing {}", self.state.display()))?;
        println!("setup: {unpacked} packages unpacked");
        Ok(())
    }
}

/// Without packages of a known kind, the machine's own installations must do, and all of them.
fn installed_ones(tool: &Tool) -> Result<(), Failure> {
    let missing: Vec<_> = peers::PEERS
        .iter()
        .filter(|peer| !Path::new("/").join(peer.program).exists())
        .map(|peer| peer.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "this machine has no apt-get and dpkg to bring {}, and these are not installed: {}. Install \
         them with your system's packages, or work on Debian or Ubuntu (a container will do).",
        tool.pinned,
        missing.join(", ")
    )))
}

/// Writes apt's settings, so that all it reads and writes is ours except the sources, the keys and
/// what is installed, which it only reads.
fn private_state(state: &Path) -> Result<PathBuf, Failure> {
    for folder in ["state/lists/partial", "cache/archives/partial"] {
        let folder = state.join(folder);
        fs::create_dir_all(&folder).doing(format_args!("making {}", folder.display()))?;
    }
    let settings = format!(
        "Dir::State \"{0}/state\";\n\
         Dir::State::status \"/var/lib/dpkg/status\";\n\
         Dir::Cache \"{0}/cache\";\n\
         Debug::NoLocking \"true\";\n\
         // As root, apt would download as a user who cannot write here.\n\
         APT::Sandbox::User \"root\";\n\
         // What the machine does after an update is meant for the machine's own lists.\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n",
        state.display()
    );
    let file = state.join("apt.conf");
    fs::write(&file, settings).doing(format_args!("writing {}", file.display()))?;
    Ok(file)
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).doing(format_args!("reading {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut archives: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "deb"))
        .collect();
    archives.sort();
    Ok(archives)
}

/// The named packages and libraries. What else they depend on (Perl, log rotation) serves their
/// installation; and a C library other than the machine's own cannot be used without its loader.
fn is_wanted(archive: &Path, names: &[&str]) -> bool {
    let file = archive.file_name().unwrap_or_default().to_string_lossy();
    let name = file.split('_').next().unwrap_or_default();
    let is_library = name.starts_with("lib")
        && !name.starts_with("libperl")
        && !name.ends_with("-perl")
        && !name.starts_with("libc6")
        && !name.starts_with("libc-");
    is_library || names.contains(&name)
}

/// Every program, and every module that a configuration of ours loads, finds its libraries.
fn complete<'a>(
    folder: &Path,
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for (name, file) in files {
        let path = folder.join(file);
        if !path.exists() {
            missing.push(format!("{name}: no {file}"));
            continue;
        }
        let mut ldd = Command::new("ldd");
        ldd.arg(&path)
            .env("LD_LIBRARY_PATH", peers::library_path(folder));
        let libraries = output(&mut ldd)?;
        let libraries = String::from_utf8_lossy(&libraries);
        let lost = libraries.lines().filter(|line| line.contains("not found"));
        missing.extend(lost.map(|line| format!("{name}: {file}: {}", line.trim())));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the unpacked packages are not complete; is the machine's own set of packages in order \
         (`apt-get check`) and up to date?\n{}",
        missing.join("\n")
    )))
}

/// The browser's program, below the folder.
pub(super) const BROWSER: &str = "usr/lib/chromium/chromium-headless-shell";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_packages_and_libraries_are_unpacked() {
        for (archive, wanted) in [
            ("nginx_1.22.1-9_amd64.deb", true),
            ("nginx-common_1.22.1-9_all.deb", true),
            ("nginx-extras_1.22.1-9_amd64.deb", false),
            ("libpcre3_2%3a8.39-15_amd64.deb", true),
            ("libaprutil1-dbd-sqlite3_1.6.3-1_amd64.deb", true),
            ("libc6_2.36-9_amd64.deb", false),
            ("libperl5.36_5.36.0-7_amd64.deb", false),
            ("libdbi-perl_1.643-4_amd64.deb", false),
            ("perl-base_5.36.0-7_amd64.deb", false),
            ("logrotate_3.21.0-1_amd64.deb", false),
        ] {
            assert_eq!(
                is_wanted(Path::new(archive), &["nginx", "nginx-common"]),
                wanted,
                "{archive}"
            );
        }
    }
}
