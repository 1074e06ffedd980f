//! `cargo xtask setup`: brings what the tests need into `target/tools`.
//!
//! Never needs root, never starts a service, and never touches what the machine has installed.
//!
//! Invariant: a tool is either whole and of the pinned version (its stamp says so and is written
//! last) or it is brought anew; what is there already costs no look-up on the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{Doing, Failure, output, root, run as run_command};

mod packages;

/// One thing that the tests need, at one version.
struct Tool {
    /// Its folder under `target/tools`.
    folder: &'static str,
    /// What its stamp must say: changing it brings the tool anew.
    pinned: &'static str,
    used_by: &'static str,
    bring: fn(&Self, &Path) -> Result<(), Failure>,
}

/// Everything is pinned, what is only depended on too: a test of ours must not change by itself.
const TOOLS: &[Tool] = &[
    Tool {
        folder: "py",
        pinned: "django==5.2.19 asgiref==3.13.0 sqlparse==0.6.1",
        used_by: "apps",
        bring: python_packages,
    },
    Tool {
        folder: "prometheus",
        pinned: "prometheus-client==0.26.0",
        used_by: "operations",
        bring: python_packages,
    },
    Tool {
        folder: "otlp",
        pinned: "opentelemetry-proto==1.45.2 protobuf==7.36.2",
        used_by: "operations",
        bring: python_packages,
    },
    Tool {
        folder: "duckdb",
        pinned: "duckdb==2.0.0",
        used_by: "archive",
        bring: python_packages,
    },
    Tool {
        folder: "moto",
        pinned: "moto==5.2.5 Flask==3.1.3 flask-cors==6.0.5 Werkzeug==3.1.9 Jinja2==3.1.6 \
                 MarkupSafe==3.0.4 itsdangerous==2.2.0 click==8.5.1 blinker==1.9.0 boto3==1.44.8 \
                 botocore==1.44.8 s3transfer==0.19.3 jmespath==1.1.0 python-dateutil==2.9.0.post0 \
                 six==1.17.0 urllib3==2.8.0 requests==2.34.2 certifi==2026.10.19.post1 \
                 charset-normalizer==3.5.3 idna==3.20 responses==0.26.3 PyYAML==6.0.4 \
                 xmltodict==1.0.4 cryptography==50.0.2 cffi==2.1.1 pycparser==3.12 \
                 py-partiql-parser==0.6.3 typing-extensions==4.16.0",
        used_by: "archive",
        bring: python_packages,
    },
    Tool {
        folder: "localstripe",
        pinned: "localstripe==1.15.10 aiohttp==3.14.5 aiohappyeyeballs==2.7.1 aiosignal==1.4.0 \
                 attrs==26.1.0 frozenlist==1.8.0 idna==3.20 multidict==7.2.1 propcache==0.5.4 \
                 typing-extensions==4.16.0 yarl==1.25.1",
        used_by: "payments",
        bring: python_packages,
    },
    Tool {
        folder: "sslyze",
        pinned: "sslyze==6.3.1 nassl==5.4.0 tls-parser==2.0.2 cryptography==46.0.7 cffi==2.1.1 \
                 pycparser==3.12 pydantic==2.14.4 pydantic-core==2.50.5 annotated-types==0.8.0 \
                 typing-extensions==4.16.0 typing-inspection==0.4.5 h2==4.4.1 hpack==4.2.0 \
                 hyperframe==6.1.0",
        used_by: "tls",
        bring: python_packages,
    },
    Tool {
        folder: "smugglex",
        pinned: "smugglex@0.4.0",
        used_by: "framing",
        bring: cargo_program,
    },
    Tool {
        folder: "desync",
        pinned: "http_desync_guardian@0.1.3",
        used_by: "framing",
        bring: request_corpus,
    },
    Tool {
        folder: "playwright",
        pinned: "playwright==1.65.2 pyee==13.0.1 greenlet==3.5.6 typing-extensions==4.16.0 \
                 axe-playwright-python==0.1.8",
        used_by: "browser",
        bring: python_packages,
    },
    // What the distribution gives is not pinned. A browser: members' browsers are mended as well, and an old
    // one is no longer there to be had.
    Tool {
        folder: "chromium",
        pinned: "chromium-headless-shell chromium-common fonts-ipaexfont-gothic fonts-dejavu-core",
        used_by: "browser",
        bring: packages::bring_browser,
    },
    // Caches and the database server: people run them as their distribution gives them. `cargo xtask peers` prints the versions.
    Tool {
        folder: "debian",
        pinned: "nginx nginx-common varnish squid squid-common squid-langpack trafficserver \
                 apache2 apache2-bin haproxy",
        used_by: "peers",
        bring: packages::bring_peers,
    },
    Tool {
        folder: "postgresql",
        pinned: "postgresql",
        used_by: "database",
        bring: packages::bring_database,
    },
];

/// # Errors
/// A tool could not be brought; the others were tried all the same.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("setup takes no arguments"));
    }
    let mut failures = Vec::new();
    for tool in TOOLS {
        if let Err(failure) = present(tool) {
            failures.push(format!("{} (for {}): {failure}", tool.folder, tool.used_by));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}

/// Where the Python packages are: a value for `PYTHONPATH`.
pub(crate) fn python_path() -> Result<PathBuf, Failure> {
    there("py")
}

/// Where the parser of metrics is: a value for `PYTHONPATH`.
pub(crate) fn prometheus_path() -> Result<PathBuf, Failure> {
    there("prometheus")
}

/// Where OpenTelemetry's schema and protobuf's reader are: a value for `PYTHONPATH`.
pub(crate) fn otlp_path() -> Result<PathBuf, Failure> {
    there("otlp")
}

/// Where DuckDB is: a value for `PYTHONPATH`.
pub(crate) fn duckdb_path() -> Result<PathBuf, Failure> {
    there("duckdb")
}

/// Where the server of object storage is: a value for `PYTHONPATH`.
pub(crate) fn moto_path() -> Result<PathBuf, Failure> {
    there("moto")
}

/// Where the stand-in for Stripe is: a value for `PYTHONPATH`.
pub(crate) fn localstripe_path() -> Result<PathBuf, Failure> {
    there("localstripe")
}

/// Where the scanner of TLS and the writers of HTTP/2 frames are: a value for `PYTHONPATH`.
pub(crate) fn sslyze_path() -> Result<PathBuf, Failure> {
    there("sslyze")
}

/// The smuggling prober's program.
pub(crate) fn smugglex() -> Result<PathBuf, Failure> {
    Ok(there("smugglex")?.join("bin/smugglex"))
}

/// The request corpus lies where `.cargo/config.toml` says.
pub(crate) fn request_corpus_is_there() -> Result<(), Failure> {
    there("desync").map(drop)
}

/// The folder into which the distribution's packages were unpacked. It is empty where the machine
/// has all of them installed and no packages of its own: then they run from `/`.
pub(crate) fn packages_folder() -> Result<PathBuf, Failure> {
    there("debian")
}

/// Where the browser's driver and the accessibility checker are: a value for `PYTHONPATH`.
pub(crate) fn playwright_path() -> Result<PathBuf, Failure> {
    there("playwright")
}

/// The folder into which the browser was unpacked, and its program.
pub(crate) fn chromium() -> Result<(PathBuf, PathBuf), Failure> {
    let folder = there("chromium")?;
    let program = folder.join(packages::BROWSER);
    Ok((folder, program))
}

/// The folder of the database server's programs, and the one into which they were unpacked with their
/// libraries: `/` where the machine's own are meant.
pub(crate) fn database_programs() -> Result<(PathBuf, PathBuf), Failure> {
    let unpacked = there("postgresql")?;
    [unpacked.as_path(), Path::new("/")]
        .into_iter()
        .find_map(|root| Some((database_programs_below(root)?, root.to_owned())))
        .ok_or_else(|| {
            Failure::new(format!(
                "postgres is neither unpacked nor installed: remove {} and run `cargo xtask setup`",
                unpacked.display()
            ))
        })
}

/// Where Debian has them, by version; the newest.
fn database_programs_below(root: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(root.join("usr/lib/postgresql")).ok()?;
    let versions = versions.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        programs
            .join("postgres")
            .exists()
            .then_some((version, programs))
    });
    versions.max().map(|(_, programs)| programs)
}

fn there(folder: &str) -> Result<PathBuf, Failure> {
    let tool = TOOLS
        .iter()
        .find(|tool| tool.folder == folder)
        .expect("callers name what TOOLS has");
    let path = tools().join(folder);
    if is_whole(tool, &path) {
        return Ok(path);
    }
    Err(Failure::new(format!(
        "{} is not there: run `cargo xtask setup` first",
        tool.pinned
    )))
}

fn tools() -> PathBuf {
    root().join("target/tools")
}

fn is_whole(tool: &Tool, path: &Path) -> bool {
    fs::read_to_string(path.join(STAMP)).is_ok_and(|stamp| stamp == tool.pinned)
}

/// Brings a tool into a folder beside its own and then renames it, so that a set-up that was
/// interrupted leaves nothing that looks whole.
fn present(tool: &Tool) -> Result<(), Failure> {
    let path = tools().join(tool.folder);
    if is_whole(tool, &path) {
        println!("setup: {} is there", tool.pinned);
        return Ok(());
    }
    println!("setup: bringing {}", tool.pinned);
    let coming = tools().join(format!("{}.coming", tool.folder));
    for old in [&coming, &path] {
        if old.exists() {
            fs::remove_dir_all(old).doing(format_args!("removing {}", old.display()))?;
        }
    }
    fs::create_dir_all(&coming).doing(format_args!("making {}", coming.display()))?;
    (tool.bring)(tool, &coming)?;
    fs::write(coming.join(STAMP), tool.pinned).doing("writing the stamp")?;
    fs::rename(&coming, &path).doing(format_args!("renaming {}", coming.display()))
}

fn python_packages(tool: &Tool, into: &Path) -> Result<(), Failure> {
    let has = |arguments: &[&str]| output(Command::new("python3").args(arguments)).is_ok();
    if !has(&["--version"]) {
        return Err(Failure::new(
            "python3 is missing: install Python 3.10 or newer, with pip",
        ));
    }
    if !has(&["-m", "pip", "--version"]) {
        return Err(Failure::new(
            "python3 has no pip: install your system's package for it (Debian: python3-pip), or run \
             `python3 -m ensurepip --user`",
        ));
    }
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]);
    // The warning about running as root speaks of the machine's own packages, which stay as they are.
    pip.arg("--root-user-action=ignore")
        .arg("--target")
        .arg(into);
    pip.args(tool.pinned.split(' '));
    run_command(&mut pip).map_err(network_advice)
}

/// Without optimisation: it waits for sockets, and building it is what costs time.
fn cargo_program(tool: &Tool, into: &Path) -> Result<(), Failure> {
    let mut cargo = cargo();
    cargo
        .args(["install", "--quiet", "--locked", "--debug", "--root"])
        .arg(into)
        .arg(tool.pinned);
    // Other folders' settings (a wrapper, another target) are not for this program.
    run_command(cargo.current_dir(into)).map_err(network_advice)
}

/// The corpus is the test data of a published package. A manifest that depends on the package
/// lets cargo fetch it and say where it is; nothing of it is compiled.
fn request_corpus(tool: &Tool, into: &Path) -> Result<(), Failure> {
    let (name, version) = tool
        .pinned
        .split_once('@')
        .expect("a pin names its version");
    let scratch = into.join("scratch");
    fs::create_dir_all(scratch.join("src")).doing("making a scratch package")?;
    let manifest = format!(
        "[package]\nname = \"scratch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [workspace]\n[dependencies]\n{name} = \"={version}\"\n"
    );
    fs::write(scratch.join("Cargo.toml"), manifest).doing("writing a scratch manifest")?;
    fs::write(scratch.join("src/lib.rs"), "").doing("writing a scratch source")?;
    let mut cargo = cargo();
    cargo
        .args(["metadata", "--quiet", "--format-version", "1"])
        .current_dir(&scratch);
    let metadata = output(&mut cargo).map_err(network_advice)?;
    let package = package_folder(&metadata, name)?;
    let copied = copy_yaml(&package.join("tests"), into)?;
    fs::remove_dir_all(&scratch).doing("removing the scratch package")?;
    if copied == 0 {
        return Err(Failure::new(format!(
            "{} holds no tests/*.yaml",
            package.display()
        )));
    }
    println!("setup: {copied} files of requests");
    Ok(())
}

fn package_folder(metadata: &[u8], name: &str) -> Result<PathBuf, Failure> {
    let metadata: Value = serde_json::from_slice(metadata)
        .map_err(|error| Failure::new(format!("cargo metadata printed no JSON: {error}")))?;
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let package = packages.iter().find(|package| package["name"] == name);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let folder = manifest.and_then(|path| Path::new(path).parent());
    let folder =
        folder.ok_or_else(|| Failure::new(format!("cargo metadata does not know {name}")))?;
    Ok(folder.to_owned())
}

fn copy_yaml(from: &Path, to: &Path) -> Result<usize, Failure> {
    let mut copied = 0;
    for entry in fs::read_dir(from).doing(format_args!("reading {}", from.display()))? {
        let path = entry
            .doing(format_args!("reading {}", from.display()))?
            .path();
        let Some(name) = path
            .file_name()
            .filter(|_| path.extension().is_some_and(|it| it == "yaml"))
        else {
            continue;
        };
        fs::copy(&path, to.join(name)).doing(format_args!("copying {}", path.display()))?;
        copied += 1;
    }
    Ok(copied)
}

fn cargo() -> Command {
    Command::new("cargo")
}

fn network_advice(failure: Failure) -> Failure {
    Failure::new(format!(
        "{failure}\nIt needs the package registry once. Check the network, or copy a whole \
         target/tools from a machine that has one, then run `cargo xtask setup` again."
    ))
}

const STAMP: &str = ".stamp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_has_a_version() {
        let of_debian = |tool: &&Tool| ["chromium", "debian", "postgresql"].contains(&tool.folder);
        let pinned = TOOLS.iter().filter(|tool| !of_debian(tool));
        for pin in pinned.flat_map(|tool| tool.pinned.split(' ')) {
            let version = pin
                .split_once("==")
                .or_else(|| pin.split_once('@'))
                .map(|(_, version)| version);
            assert!(
                version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())),
                "{pin}"
            );
        }
    }

    #[test]
    fn a_tool_of_another_version_or_without_its_stamp_is_not_whole() {
        let tool = &TOOLS[0];
        let folder = root().join("target/tools-test");
        fs::create_dir_all(&folder).expect("target can be written");
        for (stamp, whole) in [
            (None, false),
            (Some("django==1.0"), false),
            (Some(tool.pinned), true),
        ] {
            drop(fs::remove_file(folder.join(STAMP)));
            if let Some(stamp) = stamp {
                fs::write(folder.join(STAMP), stamp).expect("target can be written");
            }
            assert_eq!(is_whole(tool, &folder), whole, "{stamp:?}");
        }
    }

    #[test]
    fn the_folder_of_a_package_is_read_from_metadata() {
        let metadata = br#"{"packages":[{"name":"other","manifest_path":"/o/Cargo.toml"},
            {"name":"wanted","manifest_path":"/r/wanted-1/Cargo.toml"}]}"#;
        let folder = package_folder(metadata, "wanted").expect("it is there");
        assert_eq!(folder, Path::new("/r/wanted-1"));
        for (text, name) in [
            (&metadata[..], "missing"),
            (b"{}", "wanted"),
            (b"no JSON", "wanted"),
        ] {
            assert!(package_folder(text, name).is_err(), "{name}");
        }
    }
}
