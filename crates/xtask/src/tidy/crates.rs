//! The table of crates: which may depend on which, and what each manifest must say.
//!
//! Never infers an arrow from the code: a new one is a decision, written here and in an ADR.

use std::path::PathBuf;

use serde_json::Value;

use crate::process::Failure;

/// Each crate's folder name and the crates it may depend on. A crate that is not here may not
/// appear; one that is here need not have appeared yet.
const ARROWS: &[(&str, &[&str])] = &[
    ("record", &[]),
    ("partition", &["record"]),
    ("incident", &["record"]),
    ("evidence", &["record"]),
    ("archive", &["record", "evidence"]),
    ("edge", &["record", "partition", "evidence"]),
    ("fleet", &["record", "partition", "evidence", "console"]),
    ("desk", &["record", "incident", "evidence", "console"]),
    ("console", &["record"]),
    ("check", &["record"]),
    ("site", &[]),
    ("shikiri", EVERYTHING),
    ("sim", EVERYTHING),
    ("xtask", &[]),
];

const EVERYTHING: &[&str] = &[
    "record",
    "partition",
    "incident",
    "evidence",
    "archive",
    "edge",
    "fleet",
    "desk",
    "console",
    "check",
    "site",
];

/// A crate of the workspace as `cargo metadata` tells it.
pub(super) struct Member {
    pub(super) package: String,
    pub(super) manifest: PathBuf,
    /// The crates of this workspace that it depends on, in a build that ships.
    depends_on: Vec<String>,
}

/// # Errors
/// What cargo printed is not what this program knows.
pub(super) fn members(metadata: &[u8]) -> Result<Vec<Member>, Failure> {
    let metadata: Value = serde_json::from_slice(metadata)
        .map_err(|error| Failure::new(format!("cargo metadata printed no JSON: {error}")))?;
    let packages = metadata["packages"].as_array();
    let packages = packages.ok_or_else(|| Failure::new("cargo metadata names no packages"))?;
    Ok(packages.iter().map(member).collect())
}

fn member(package: &Value) -> Member {
    let dependencies = package["dependencies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    // What a test needs ("dev") is in no build that ships. Only a path leads into this workspace.
    let ours = dependencies
        .iter()
        .filter(|it| it["kind"] != "dev" && it["path"].is_string());
    Member {
        package: text(&package["name"]),
        manifest: PathBuf::from(text(&package["manifest_path"])),
        depends_on: ours.map(|dependency| text(&dependency["name"])).collect(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Crates and arrows that the table does not have.
pub(super) fn violations(members: &[Member]) -> Vec<String> {
    let mut found = Vec::new();
    for member in members {
        let Some(allowed) = allowed(&member.package) else {
            found.push(format!(
                "{}: a crate that the table of crates does not name",
                member.package
            ));
            continue;
        };
        let new = member
            .depends_on
            .iter()
            .filter(|on| !allowed.contains(&short(on)));
        found.extend(new.map(|on| format!("{}: a new arrow, to {on}", member.package)));
    }
    found
}

fn allowed(package: &str) -> Option<&'static [&'static str]> {
    // Packages are named for their folders, so that nobody has to look one up.
    let named = |folder: &str| match folder {
        "shikiri" => package == folder,
        _ => package.strip_prefix("shikiri-") == Some(folder),
    };
    ARROWS
        .iter()
        .find(|(folder, _)| named(folder))
        .map(|(_, allowed)| *allowed)
}

fn short(package: &str) -> &str {
    package.strip_prefix("shikiri-").unwrap_or(package)
}

/// What a manifest leaves out.
pub(super) fn manifest_violations(package: &str, manifest: &str) -> Vec<String> {
    let takes_lints = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .nth(1);
    if takes_lints == Some("workspace = true") {
        return Vec::new();
    }
    vec![format!(
        "{package}: its manifest does not take the workspace's lints"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metadata: &str, expected: &[&str]) {
        let members = members(metadata.as_bytes()).expect("it is JSON");
        assert_eq!(violations(&members), expected, "{metadata}");
    }

    fn package(name: &str, dependencies: &str) -> String {
        format!(
            r#"{{"packages":[{{"name":"{name}","manifest_path":"/m","dependencies":[{dependencies}]}}]}}"#
        )
    }

    #[test]
    fn an_arrow_must_be_in_the_table() {
        let on =
            |name: &str, kind: &str| format!(r#"{{"name":"{name}","kind":{kind},"path":"/p"}}"#);
        for (name, dependency, expected) in [
            ("shikiri-edge", on("shikiri-partition", "null"), None),
            (
                "shikiri-partition",
                on("shikiri-edge", "null"),
                Some("a new arrow, to shikiri-edge"),
            ),
            (
                "shikiri-partition",
                on("shikiri-edge", r#""build""#),
                Some("a new arrow, to shikiri-edge"),
            ),
            ("shikiri-partition", on("shikiri-edge", r#""dev""#), None),
            (
                "shikiri-check",
                on("shikiri-partition", "null"),
                Some("a new arrow, to shikiri-partition"),
            ),
            (
                "shikiri",
                on("shikiri-sim", "null"),
                Some("a new arrow, to shikiri-sim"),
            ),
            (
                "shikiri-xtask",
                on("shikiri-record", "null"),
                Some("a new arrow, to shikiri-record"),
            ),
            (
                "shikiri-edge",
                r#"{"name":"tokio","kind":null}"#.to_owned(),
                None,
            ),
        ] {
            let expected: Vec<String> = expected
                .iter()
                .map(|what| format!("{name}: {what}"))
                .collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            check(&package(name, &dependency), &expected);
        }
    }

    #[test]
    fn a_crate_must_be_in_the_table_by_its_prefixed_name() {
        for name in ["shikiri-extra", "edge", "shikiri-shikiri"] {
            let violation = format!("{name}: a crate that the table of crates does not name");
            check(&package(name, ""), &[&violation]);
        }
        for name in ["shikiri", "shikiri-evidence", "shikiri-site"] {
            check(&package(name, ""), &[]);
        }
    }

    #[test]
    fn the_table_only_names_its_own_rows_and_has_no_cycle() {
        let row = |name: &str| ARROWS.iter().position(|(row, _)| *row == name);
        for (name, allowed) in ARROWS {
            for on in *allowed {
                assert!(row(on).is_some(), "{name} -> {on}");
                assert!(!reaches(on, name), "{name} -> {on} closes a cycle");
            }
        }
    }

    fn reaches(from: &str, to: &str) -> bool {
        let row = ARROWS.iter().find(|(row, _)| *row == from);
        row.is_some_and(|(_, allowed)| allowed.iter().any(|on| *on == to || reaches(on, to)))
    }

    #[test]
    fn a_manifest_takes_the_workspaces_lints() {
        for (manifest, whole) in [
            ("[package]\n\n[lints]\nworkspace = true\n", true),
            ("[package]\nworkspace = true\n", false),
            ("[lints]\nworkspace = false\n", false),
            ("[lints.rust]\nunsafe_code = \"allow\"\n", false),
            ("", false),
        ] {
            assert_eq!(
                manifest_violations("p", manifest).is_empty(),
                whole,
                "{manifest}"
            );
        }
    }
}
