//! The files that must be there, and the documents a reader must be able to find.

/// A map longer than this is a territory.
const ARCHITECTURE_LINES_MAX: usize = 300;

const MUST_BE_THERE: &[&str] = &[
    "Cargo.lock",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
];

/// Where a reader starts.
const ENTRANCES: &[&str] = &["README.md", "ARCHITECTURE.md"];

/// What is wrong with the documents, given the tree's paths and a way to read one.
pub(super) fn violations(files: &[String], read: impl Fn(&str) -> String) -> Vec<String> {
    let there = |path: &str| files.iter().any(|file| file == path);
    let missing = MUST_BE_THERE.iter().filter(|path| !there(path));
    let mut found: Vec<String> = missing.map(|path| format!("{path}: is missing")).collect();

    let lines = read("ARCHITECTURE.md").lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        found.push(format!(
            "ARCHITECTURE.md: {lines} lines, at most {ARCHITECTURE_LINES_MAX}"
        ));
    }

    let entrances: Vec<String> = ENTRANCES.iter().map(|path| read(path)).collect();
    let documents = files.iter().filter(|path| is_document(path));
    let hidden = documents.filter(|path| !entrances.iter().any(|text| links_to(text, path)));
    found.extend(hidden.map(|path| format!("{path}: neither README nor ARCHITECTURE links to it")));
    found
}

/// Those right under `docs/`; the ones in its folders have an index of their own.
fn is_document(path: &str) -> bool {
    let name = path
        .strip_prefix("docs/")
        .and_then(|name| name.strip_suffix(".md"));
    name.is_some_and(|name| !name.contains('/'))
}

fn links_to(text: &str, path: &str) -> bool {
    [")", "#"]
        .iter()
        .any(|after| text.contains(&format!("]({path}{after}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let all = MUST_BE_THERE
            .iter()
            .filter(|path| !files.iter().any(|(name, _)| name == *path));
        let mut paths: Vec<String> = all.map(|path| (*path).to_owned()).collect();
        paths.extend(files.iter().map(|(path, _)| (*path).to_owned()));
        let read = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path);
            file.map(|(_, text)| (*text).to_owned()).unwrap_or_default()
        };
        assert_eq!(violations(&paths, read), expected, "{paths:?}");
    }

    #[test]
    fn a_document_is_linked_from_an_entrance() {
        let hidden = "docs/a.md: neither README nor ARCHITECTURE links to it";
        check(
            &[("docs/a.md", ""), ("README.md", "see docs/a.md")],
            &[hidden],
        );
        check(
            &[("docs/a.md", ""), ("README.md", "see [a](docs/a.md)")],
            &[],
        );
        check(
            &[("docs/a.md", ""), ("ARCHITECTURE.md", "[a](docs/a.md#b)")],
            &[],
        );
        check(&[("docs/adr/a.md", "")], &[]);
    }

    #[test]
    fn the_architecture_stays_a_map() {
        check(&[("ARCHITECTURE.md", &"a\n".repeat(300))], &[]);
        check(
            &[("ARCHITECTURE.md", &"a\n".repeat(301))],
            &["ARCHITECTURE.md: 301 lines, at most 300"],
        );
    }

    #[test]
    fn a_file_that_must_be_there_is_missed() {
        let missed = violations(&[], |_| String::new());
        assert_eq!(missed.len(), MUST_BE_THERE.len());
        assert!(missed.contains(&"Cargo.lock: is missing".to_owned()));
    }
}
