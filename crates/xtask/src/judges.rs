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

use crate::edge::{Build, Edge};
use crate::framing;
use crate::leaks::{CARELESS, Origin};
use crate::peers::PEERS;
use crate::process::{Doing, Failure, output, root, run_within};
use crate::setup;

/// # Errors
/// A judge found something in our edge, or nothing where it must.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let wcvs = wanted(arguments)?;
    let origin = Origin::of_text("site", SITE)?;
    let default = Edge::start(origin.address)?;
    let policy = root().join("target/careless.toml");
    std::fs::write(&policy, CARELESS).doing(format_args!("writing {}", policy.display()))?;
    let policy = policy.to_string_lossy();
    let careless = Edge::start_built(Build::Debug, origin.address, &["--policy", &policy])?;
    let mut targets = vec![
        ("shikiri", "default", default.address),
        ("shikiri", "careless", careless.address),
    ];
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
    let page = page(&rows, &nginx.version()?)?;
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
    /// Where it saw that something is cached; of a judge that does not look for that, nothing.
    saw_a_cache: Vec<&'static str>,
    version: String,
}

fn rows(
    targets: &[(&'static str, &'static str, SocketAddr)],
    wcvs: Option<&Path>,
) -> Result<Vec<Row>, Failure> {
    framing::prober_can_find()?;
    let smugglex = output(Command::new(setup::smugglex()?).arg("--version"))?;
    let smugglex = String::from_utf8_lossy(&smugglex);
    let smugglex = smugglex.split_whitespace().last().unwrap_or("?");
    let mut rows = Vec::new();
    for (cache, configuration, address) in targets {
        rows.push(Row {
            judge: "smugglex",
            cache,
            configuration,
            found: framing::probe(*address, framing::CHECKS)?,
            saw_a_cache: Vec::new(),
            version: smugglex.to_owned(),
        });
        if let Some(wcvs) = wcvs {
            let mut row = Row {
                judge: "WCVS",
                cache,
                configuration,
                found: Vec::new(),
                saw_a_cache: Vec::new(),
                version: String::new(),
            };
            for (path, cookie) in PAGES {
                let report = findings(&scan(wcvs, *address, path, cookie)?, path)?;
                row.found.extend(report.found);
                row.version = report.version;
                if report.saw_a_cache {
                    row.saw_a_cache.push(path);
                }
            }
            rows.push(row);
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

/// What WCVS scans, and with whose cookie: a visitor where a cache may share, since a member is passed
/// by many; a member where his page is what could leak.
const PAGES: [(&str, &str); 3] = [("/", ""), ("/app.js", ""), ("/account", "sid=alice")];

/// The report of WCVS on a path.
fn scan(wcvs: &Path, at: SocketAddr, path: &str, cookie: &str) -> Result<Vec<u8>, Failure> {
    let reports = root().join("target/judges");
    drop(std::fs::remove_dir_all(&reports));
    std::fs::create_dir_all(&reports).doing("making a folder for reports")?;
    let mut command = Command::new(wcvs);
    command
        .args(["--nocolor", "--verbosity", "0", "--generatereport"])
        // It gives up where it sees no cache, unless it is forced; and it does not know RFC 9211.
        .args(["--force", "--cacheheader", "Cache-Status", "--url"])
        .arg(format!("http://{at}{path}"))
        .args(["--generatepath", &format!("{}/", reports.display())])
        // It finds its word lists in the folder where it runs.
        .current_dir(beside(wcvs)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if !cookie.is_empty() {
        command.args(["--setcookies", cookie]);
    }
    run_within(&mut command, WCVS_MAX)?;
    let entries = std::fs::read_dir(&reports).doing("looking for a report")?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let report = paths.find(|path| path.extension().is_some_and(|e| e == "json"));
    let report = report.ok_or_else(|| Failure::new("WCVS left no report"))?;
    std::fs::read(&report).doing("reading a report")
}

/// What a report of WCVS says.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    version: String,
    /// Its techniques, with the path.
    found: Vec<String>,
    saw_a_cache: bool,
}

fn findings(report: &[u8], path: &str) -> Result<Report, Failure> {
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
    let complaints = site["errorMessages"].as_array().into_iter().flatten();
    let sees_none = |complaint: &Value| {
        let complaint = complaint.as_str().unwrap_or_default();
        ["always miss", "no cache indicator"]
            .iter()
            .any(|none| complaint.contains(none))
    };
    Ok(Report {
        version: report["version"].as_str().unwrap_or("?").to_owned(),
        found,
        saw_a_cache: !complaints.clone().any(sees_none),
    })
}

fn page(rows: &[Row], nginx: &str) -> Result<String, Failure> {
    let version = |judge| {
        let row = rows.iter().find(|row| row.judge == judge);
        row.map(|row| format!("{judge} {}", row.version))
    };
    let edge = output(Command::new(root().join("target/debug/shikiri")).arg("--version"))?;
    let edge = String::from_utf8_lossy(&edge);
    let mut versions: Vec<String> = ["smugglex", "WCVS"]
        .into_iter()
        .filter_map(version)
        .collect();
    versions.push(edge.trim().to_owned());
    versions.push(format!("nginx {nginx}"));
    let mut text = format!(
        "{HEAD}{}.\n\n| judge | cache | configuration | found | saw that something is cached at |\n\
         |---|---|---|---|---|\n",
        versions.join(", ")
    );
    let or = |list: String, nothing: &str| {
        if list.is_empty() {
            nothing.to_owned()
        } else {
            list
        }
    };
    for row in rows {
        let saw: Vec<_> = row
            .saw_a_cache
            .iter()
            .map(|path| format!("`{path}`"))
            .collect();
        let saw = match row.judge {
            "WCVS" => or(saw.join(", "), "nothing"),
            _ => "(does not look)".to_owned(),
        };
        let found = or(row.found.join("; "), "nothing");
        text.push_str(&format!(
            "| {} | {} | {} | {found} | {saw} |\n",
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

Two scanners that nobody here wrote, against our edge without a policy file and under the most careless policy,
and against nginx as the hurried operator and as the expert configure it. All stand in front of the same site
([site.leak](../crates/xtask/src/judges/site.leak)): a page and a script that repeat what they are sent, and a
member's account whose route takes any suffix and which says `private, no-store`.
`cargo xtask judges --wcvs PATH` runs them and writes this page.

smugglex looks for request smuggling: a request that is read in two ways, on
HTTP/1.1 and in upgrades to HTTP/2. [WCVS](https://github.com/Hackmanit/Web-Cache-Vulnerability-Scanner), the Web Cache Vulnerability Scanner,
looks for poisoning (some 1,100 headers, 6,400 parameters, fat GET, parameter cloaking, oversized heads, override
headers, smuggling) and for deception by suffix and by path. It scans `/` and `/app.js` as a visitor and
`/account` as a member.

Versions: ";

const TAIL: &str = "
Each must first find what is wrong where something is: smugglex in a naive server, WCVS in the hurried nginx;
otherwise the run fails. It fails too if one of them finds anything in our edge.

What they cannot see is why the [re-enactments](re-enactments.md) exist. Both ask as one client. WCVS takes a
page for leaked when its own first request is answered as a hit; it never asks as a second member, never two
at once, and finds no leak in a cache that says nothing of hits and is fast. Of the hurried nginx it sees that
the member's account is cached, and calls it no finding; the re-enactments show it to the next who asks.

## To run them

smugglex comes with `cargo xtask setup`. WCVS is built by whoever wants it, as its README says.

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
        let check = |report: &str, expected: Option<(&[&str], bool)>| {
            let read = findings(report.as_bytes(), "/x").ok();
            let expected = expected.map(|(found, saw_a_cache)| Report {
                version: "1.2.1".to_owned(),
                found: found.iter().map(|name| (*name).to_owned()).collect(),
                saw_a_cache,
            });
            assert_eq!(read, expected, "{report}");
        };
        let of = |site: &str| format!(r#"{{"version":"1.2.1","websites":[{site}]}}"#);
        check(&of(r#"{"results":[]}"#), Some((&[], true)));
        let two = r#"{"results":[{"technique":"Fat GET","isVulnerable":true},
            {"technique":"Cookies","isVulnerable":false}]}"#;
        check(&of(two), Some((&["Fat GET (`/x`)"], true)));
        // What the report does not deny counts as found.
        let undenied = r#"{"results":[{"technique":"Cookies"}]}"#;
        check(&of(undenied), Some((&["Cookies (`/x`)"], true)));
        let blind = r#"{"results":[],"errorMessages":["cache returns always miss"]}"#;
        check(&of(blind), Some((&[], false)));
        let blind = r#"{"results":[],"errorMessages":["no cache indicator could be found"]}"#;
        check(&of(blind), Some((&[], false)));
        check(&of(""), None);
        check("?", None);
    }

    #[test]
    fn the_site_is_a_script() {
        assert!(Origin::of_text("site", SITE).is_ok());
    }
}
