//! `cargo xtask judges`: do scanners that nobody here wrote find anything?
//!
//! Two of them, against our edge and against nginx under the hurried operator's and the expert's
//! configuration, in front of the same site. `smugglex` comes with `setup`. WCVS, the Web Cache
//! Vulnerability Scanner, is written in Go, so whoever wants it builds it and says where it is: it is
//! never fetched, built or kept here.
//!
//! Never trusts silence: each judge must first find what is wrong where something is wrong. For
//! smugglex that is a naive server, for WCVS the hurried nginx.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::edge::Edge;
use crate::framing;
use crate::leaks::Origin;
use crate::peers::PEERS;
use crate::process::{Doing, Failure, output, root, run_within};
use crate::setup;

/// # Errors
/// A judge found something in our edge, or nothing where it must.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let wcvs = wanted(arguments)?;
    let origin = Origin::of_text("site", SITE)?;
    let edge = Edge::start(origin.address)?;
    let mut targets = vec![("shikiri", "default", edge.address)];
    let mut running = Vec::new();
    let nginx = PEERS.iter().find(|peer| peer.name == "nginx");
    let nginx = nginx.expect("nginx is one of the peers");
    for configuration in ["hurried", "expert"] {
        let text = nginx.configuration(configuration);
        let peer = nginx.start(origin.address, text.expect("every peer has it"))?;
        targets.push(("nginx", configuration, peer.address()));
        running.push(peer);
    }
    let rows = rows(&targets, wcvs.as_deref())?;
    let page = page(&rows, &nginx.version()?, wcvs.is_some())?;
    print!("{page}");
    if wcvs.is_some() {
        let path = root().join("docs/judges.md");
        std::fs::write(&path, &page).doing(format_args!("writing {}", path.display()))?;
    }
    drop(running);
    let ours: Vec<_> = rows.iter().filter(|row| row.cache == "shikiri").collect();
    match ours.iter().find(|row| !row.found.is_empty()) {
        Some(row) => Err(Failure::new(format!(
            "{} found in our edge: {}",
            row.judge,
            row.found.join(", ")
        ))),
        None => Ok(()),
    }
}

fn wanted(arguments: &[String]) -> Result<Option<PathBuf>, Failure> {
    match arguments {
        [] => Ok(None),
        [flag, path] if flag == "--wcvs" => {
            let path = std::path::absolute(path).doing("finding WCVS")?;
            if beside(&path)?.join("wordlists").is_dir() {
                Ok(Some(path))
            } else {
                Err(Failure::new(format!(
                    "beside {} there must be the folder wordlists of its repository",
                    path.display()
                )))
            }
        }
        _ => Err(Failure::new("the one argument is --wcvs PATH")),
    }
}

fn beside(binary: &Path) -> Result<&Path, Failure> {
    let folder = binary.parent();
    folder.ok_or_else(|| Failure::new(format!("{} is no program", binary.display())))
}

/// What one judge found in one cache.
struct Row {
    judge: &'static str,
    cache: &'static str,
    configuration: &'static str,
    found: Vec<String>,
}

fn rows(
    targets: &[(&'static str, &'static str, SocketAddr)],
    wcvs: Option<&Path>,
) -> Result<Vec<Row>, Failure> {
    framing::prober_can_find()?;
    let mut rows = Vec::new();
    for (cache, configuration, address) in targets {
        rows.push(Row {
            judge: "smugglex",
            cache,
            configuration,
            found: framing::probe(*address, framing::CHECKS)?,
        });
        if let Some(wcvs) = wcvs {
            let mut found = Vec::new();
            for path in ["/", "/account"] {
                found.extend(scan(wcvs, *address, path)?);
            }
            found.dedup();
            rows.push(Row {
                judge: "WCVS",
                cache,
                configuration,
                found,
            });
        }
    }
    let control = |row: &&Row| row.judge == "WCVS" && row.configuration == "hurried";
    if rows.iter().filter(control).any(|row| row.found.is_empty()) {
        return Err(Failure::new(
            "WCVS found nothing in the hurried nginx, so its silence elsewhere says nothing",
        ));
    }
    Ok(rows)
}

/// What WCVS finds at a path: its techniques, with the path and its reason.
fn scan(wcvs: &Path, at: SocketAddr, path: &str) -> Result<Vec<String>, Failure> {
    let reports = root().join("target/judges");
    drop(std::fs::remove_dir_all(&reports));
    std::fs::create_dir_all(&reports).doing("making a folder for reports")?;
    let mut command = Command::new(wcvs);
    command
        .args(["--nocolor", "--verbosity", "0", "--generatereport"])
        .args(["--setcookies", "sid=alice", "--url"])
        .arg(format!("http://{at}{path}"))
        .args(["--generatepath", &format!("{}/", reports.display())])
        // It finds its word lists in the folder where it runs.
        .current_dir(beside(wcvs)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    run_within(&mut command, WCVS_MAX)?;
    let entries = std::fs::read_dir(&reports).doing("looking for a report")?;
    let report = entries.flatten().map(|entry| entry.path()).next();
    let report = report.ok_or_else(|| Failure::new("WCVS left no report"))?;
    findings(&std::fs::read(&report).doing("reading a report")?, path)
}

fn findings(report: &[u8], path: &str) -> Result<Vec<String>, Failure> {
    let report: Value = serde_json::from_slice(report)
        .map_err(|error| Failure::new(format!("the report of WCVS is no JSON: {error}")))?;
    let site = &report["websites"][0];
    let results = site["results"]
        .as_array()
        .ok_or_else(|| Failure::new(format!("the report of WCVS names no tests: {report}")))?;
    let mut found = Vec::new();
    for result in results {
        if result["isVulnerable"] == false {
            continue;
        }
        let technique = result["technique"].as_str().unwrap_or("?");
        found.push(format!("{technique} (`{path}`)"));
    }
    Ok(found)
}

fn page(rows: &[Row], nginx: &str, with_wcvs: bool) -> Result<String, Failure> {
    let smugglex = output(Command::new(setup::smugglex()?).arg("--version"))?;
    let smugglex = String::from_utf8_lossy(&smugglex).trim().to_owned();
    let mut text = format!(
        "{HEAD}{smugglex}{}; nginx {nginx}.\n\n| judge | cache | configuration | found |\n|---|---|---|---|\n",
        if with_wcvs { "; WCVS 1.2.1" } else { "" }
    );
    for row in rows {
        let found = if row.found.is_empty() {
            "nothing".to_owned()
        } else {
            row.found.join("; ")
        };
        text.push_str(&format!(
            "| {} | {} | {} | {found} |\n",
            row.judge, row.cache, row.configuration
        ));
    }
    text.push_str(TAIL);
    Ok(text)
}

const SITE: &str = include_str!("judges/site.leak");
/// Some eight thousand requests, twenty at once.
const WCVS_MAX: Duration = Duration::from_secs(900);

const HEAD: &str = "\
# What outside judges find

Two scanners that nobody here wrote, against our edge without a policy file and against nginx as the hurried
operator and as the expert configure it, in front of the same site: a page that repeats what it is sent, and
an account whose route takes any suffix. `cargo xtask judges --wcvs PATH` runs them and writes this page.

Versions: ";

const TAIL: &str = "
Each must first find what is wrong where something is: smugglex in a naive server, WCVS in the hurried nginx.

What they cannot see is why the [re-enactments](re-enactments.md) exist. Both ask as one client. WCVS takes a
page for leaked when its own first request is answered as a hit; it never asks as a second member, never two
at once, and finds no leak in a cache that says nothing of hits and is fast.

## To run them

smugglex comes with `cargo xtask setup`. [WCVS](https://github.com/Hackmanit/Web-Cache-Vulnerability-Scanner)
is built by whoever wants it, with Debian's Go and its packages for `color`, `http2curl`, `x/net` and
`x/time`, in GOPATH mode (`GO111MODULE=off`; `moul.io/http2curl` is a link to `github.com/moul/http2curl`):

```
cargo xtask judges                                  # smugglex alone; prints, writes nothing
cargo xtask judges --wcvs ~/wcvs/wcvs               # both; its folder wordlists must lie beside the program
```
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_for_what_it_found() {
        for (report, expected) in [
            (r#"{"websites":[{"results":[]}]}"#, Some(vec![])),
            (
                r#"{"websites":[{"results":[{"technique":"Fat GET","isVulnerable":true},
                    {"technique":"Cookies","isVulnerable":false}]}]}"#,
                Some(vec!["Fat GET (`/x`)"]),
            ),
            // What the report does not deny counts as found.
            (
                r#"{"websites":[{"results":[{"technique":"Cookies"}]}]}"#,
                Some(vec!["Cookies (`/x`)"]),
            ),
            (r#"{"websites":[]}"#, None),
            ("?", None),
        ] {
            let found = findings(report.as_bytes(), "/x").ok();
            let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(found, expected, "{report}");
        }
    }

    #[test]
    fn the_site_is_a_script() {
        assert!(Origin::of_text("site", SITE).is_ok());
    }
}
