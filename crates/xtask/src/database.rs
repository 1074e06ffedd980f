//! `cargo xtask database`: the member store's tests once more, on a PostgreSQL of its own.
//!
//! The server is the distribution's, its data is made anew below the folder for temporary files and is
//! gone afterwards. Never the machine's own server, and never as root: PostgreSQL refuses that, so it
//! runs as `nobody` where we are root.
//!
//! Invariant: what runs is every test of the store but of what must not compile, and what needs a server
//! besides. With `--whole` they are those that the part `unit` built: nothing is built twice then.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::edge::free_port;
use crate::peers::library_path;
use crate::process::{
    Doing, Failure, end, line, output, root, run as run_command, wait_until_it_starts,
};
use crate::setup;

/// The ids of `nobody` and `nogroup` on Debian and all that descend from it.
const NOBODY: u32 = 65534;

/// Where the certificates for tests lie, and the host that the server's is for.
const CERTIFICATES: &str = "crates/xtask/src/leaks/tls";
const HOST: &str = "red.test";

const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// As the part `unit` builds it.
const WHOLE: &str = "--workspace --exclude shikiri-sim --features shikiri/archive,shikiri/postgres";
const ALONE: &str = "-p shikiri-site --features postgres";

/// # Errors
/// The server could not be started, or a test failed on it.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let tests = tests(arguments)?;
    let folder = std::env::temp_dir().join(format!("shikiri-database-{}", std::process::id()));
    let done = Server::start(&folder).and_then(|server| {
        println!("database: {}", server.version);
        // What must not compile asks no database, and Stripe's stand-in is another's to start.
        let asks = |name: &str| !["compile_fail", "stripe"].contains(&name);
        let mut tests = tests.iter().filter(|(name, _)| asks(name));
        tests.try_for_each(|(_, test)| server.passes(test))
    });
    drop(fs::remove_dir_all(&folder));
    done
}

/// The store's test programs by name, built alone, or with `--whole` as the part `unit` builds them.
pub(crate) fn tests(arguments: &[String]) -> Result<Vec<(String, PathBuf)>, Failure> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let of = match arguments[..] {
        [] => ALONE,
        ["--whole"] => WHOLE,
        _ => return Err(Failure::new("takes --whole or nothing")),
    };
    let mut build = line(&format!(
        "cargo test --quiet --locked {of} --no-run --message-format json"
    ));
    let told = output(build.stderr(Stdio::inherit()))?;
    let told = String::from_utf8_lossy(&told);
    let found: Vec<_> = told.lines().filter_map(test_of_the_store).collect();
    if found.len() < 6 {
        return Err(Failure::new(format!(
            "the store has other tests: {found:?}"
        )));
    }
    Ok(found)
}

fn test_of_the_store(told: &str) -> Option<(String, PathBuf)> {
    let told: Value = serde_json::from_str(told).ok()?;
    let is_ours = told["manifest_path"]
        .as_str()
        .is_some_and(|it| Path::new(it) == root().join("crates/site/Cargo.toml"));
    let file = told["executable"].as_str().filter(|_| is_ours)?;
    let name = told["target"]["name"].as_str()?;
    Some((name.to_owned(), PathBuf::from(file)))
}

/// A server, stopped when it is dropped.
struct Server {
    child: Child,
    sockets: PathBuf,
    address: SocketAddr,
    version: String,
}

impl Server {
    fn start(folder: &Path) -> Result<Self, Failure> {
        let (programs, unpacked) = setup::database_programs()?;
        let (data, sockets) = (folder.join("data"), folder.join("sockets"));
        for made in [folder, &data, &sockets] {
            fs::create_dir_all(made).doing("making a folder")?;
        }
        // PostgreSQL takes no folder that others can read.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).doing("closing a folder")?;
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        let ours = root().join(CERTIFICATES);
        fs::copy(ours.join("test-only-red.pem"), &certificate).doing("copying a certificate")?;
        fs::copy(ours.join("test-only-red.key"), &key).doing("copying a key")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).doing("closing a key")?;
        let is_root = fs::metadata(folder).doing("looking at a folder")?.uid() == 0;
        if is_root {
            for given in [folder, &data, &sockets, &certificate, &key] {
                chown(given, Some(NOBODY), Some(NOBODY)).doing("giving a folder away")?;
            }
        }
        let program = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command
                .current_dir(folder)
                .stdin(Stdio::null())
                .env("LC_ALL", "C");
            if unpacked != Path::new("/") {
                command.env("LD_LIBRARY_PATH", library_path(&unpacked));
            }
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let version = output(program("postgres").arg("--version"))?;
        let mut make = program("initdb");
        make.arg("-D").arg(&data).args([
            "--no-sync",
            "--auth=trust",
            "--username=shikiri",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        output(&mut make)?;
        let address = free_port()?;
        let log = folder.join("log");
        let printed = File::create(&log).doing("making a log")?;
        let mut serve = program("postgres");
        serve.arg("-D").arg(&data).stderr(printed);
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", address.port()),
            format!("unix_socket_directories={}", sockets.display()),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
            // What a test writes need not outlive the machine.
            "fsync=off".to_owned(),
            "jit=off".to_owned(),
        ] {
            serve.arg("-c").arg(setting);
        }
        let child = serve.spawn().doing("starting postgres")?;
        let mut server = Self {
            child,
            sockets,
            address,
            version: String::from_utf8_lossy(&version).trim().to_owned(),
        };
        server.begins(&log)?;
        Ok(server)
    }

    fn begins(&mut self, log: &Path) -> Result<(), Failure> {
        let said = || fs::read_to_string(log).unwrap_or_default();
        let is_ready = || said().contains("ready to accept connections");
        wait_until_it_starts("postgres", &mut self.child, BEGINS_WITHIN, is_ready)
            .map_err(|failure| Failure::new(format!("{failure}:\n{}", said())))
    }

    fn passes(&self, test: &Path) -> Result<(), Failure> {
        let port = self.address.port();
        let sockets = self.sockets.display();
        let mut run = Command::new(test);
        run.args(["--quiet", "--include-ignored"])
            .current_dir(root().join("crates/site"))
            .env(
                "SHIKIRI_TEST_DATABASE",
                format!("postgres://shikiri@/postgres?host={sockets}&port={port}"),
            )
            .env(
                "SHIKIRI_TEST_DATABASE_TLS",
                format!("postgres://shikiri@HOST:{port}/postgres?hostaddr=127.0.0.1"),
            )
            .env("SHIKIRI_TEST_DATABASE_HOST", HOST)
            .env(
                "SHIKIRI_TEST_DATABASE_ROOTS",
                root().join(CERTIFICATES).join("test-only-ca.pem"),
            );
        run_command(&mut run)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_tests_are_told_from_others() {
        let told = |manifest: &str, name: &str, file: &str| {
            let manifest = root().join(manifest);
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{}","target":{{"name":"{name}"}},"executable":{file}}}"#,
                manifest.display()
            )
        };
        let site = "crates/site/Cargo.toml";
        for (line, found) in [
            (told(site, "pages", "\"/t/p-1\""), Some(("pages", "/t/p-1"))),
            (told(site, "shikiri_site", "null"), None),
            (told("crates/edge/Cargo.toml", "x", "\"/t/x-1\""), None),
            ("no JSON".to_owned(), None),
        ] {
            let found = found.map(|(name, file)| (name.to_owned(), PathBuf::from(file)));
            assert_eq!(test_of_the_store(&line), found, "{line}");
        }
    }
}
