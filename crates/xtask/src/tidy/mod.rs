//! `cargo xtask tidy`: holds the house rules against the tree as it is.
//!
//! Never builds anything and never changes a file. The rules are data ([`crates`] has the table of
//! crates, [`sources`] the words); this file only walks.
//!
//! Invariant: every rule is a function from text to violations, and its test shows it fail.

mod crates;
mod documents;
mod sources;

use std::fs;
use std::path::Path;

use crate::process::{Doing, Failure, line, output, root};

/// # Errors
/// Every violation found, one a line.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("tidy takes no arguments"));
    }
    let metadata = output(&mut line(
        "cargo metadata --format-version 1 --no-deps --locked",
    ))?;
    let members = crates::members(&metadata)?;
    let files = files()?;

    let mut violations = crates::violations(&members);
    for member in &members {
        let manifest = read(&member.manifest)?;
        violations.extend(crates::manifest_violations(&member.package, &manifest));
    }
    for path in &files {
        // Pictures and the like hold no words of ours.
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            continue;
        };
        violations.extend(sources::violations(path, &text));
    }
    violations.extend(documents::violations(&files, |path| {
        fs::read_to_string(root().join(path)).unwrap_or_default()
    }));

    println!("tidy: {} crates, {} files", members.len(), files.len());
    if violations.is_empty() {
        return Ok(());
    }
    violations.sort();
    Err(Failure::new(format!(
        "{} violations\n{}",
        violations.len(),
        violations.join("\n")
    )))
}

/// The files that git has, and those that it would take: a fault is better seen before a commit.
fn files() -> Result<Vec<String>, Failure> {
    let listed = output(&mut line(
        "git ls-files -z --cached --others --exclude-standard",
    ))?;
    let names = String::from_utf8_lossy(&listed);
    let names = names
        .split('\0')
        .filter(|name| !name.is_empty() && root().join(name).exists());
    Ok(names.map(str::to_owned).collect())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format_args!("reading {}", path.display()))
}
