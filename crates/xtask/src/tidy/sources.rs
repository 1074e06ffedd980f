//! Words that no file may hold, and what every Rust source opens with.
//!
//! Never names a forbidden word in one piece: this file is judged like every other.

/// Unfinished work. A stub that compiles is found by a reader only.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// A test that needs what `cargo test` has not, and says which command has it and runs it.
const ELSEWHERE: [&str; 2] = [concat!("#[ig", "nore = \"needs "), ": cargo xtask "];

/// Code that the compiler does not check. The lint forbids it too; this also sees `fuzz/`, which
/// the workspace's lints do not reach.
const UNCHECKED: &[&str] = &[
    concat!("uns", "afe {"),
    concat!("uns", "afe fn"),
    concat!("uns", "afe impl"),
    concat!("uns", "afe trait"),
    concat!("uns", "afe extern"),
    concat!("#[uns", "afe("),
];

/// Absolute paths of one machine.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/tmp/bash", "_jobs")];

/// Hosts of package registries: clients know them, we do not.
const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("npm", "js"),
    concat!("deb.", "debian"),
];

/// What is wrong with one file, given its path from the root.
pub(super) fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let rust = path.ends_with(".rs");
    let mut lines = text.lines().skip_while(|line| line.starts_with("#!["));
    let opens = lines.next().is_some_and(|line| line.starts_with("//!"));
    if rust && !opens && needs_header(path) {
        found.push(format!(
            "{path}:1: a source opens with what it is for (`//!`)"
        ));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let mut say = |words: &[&str], why: &str| {
            let held = words.iter().filter(|word| holds(line, word));
            found.extend(held.map(|word| format!("{path}:{number}: {why}: {word}")));
        };
        say(MACHINE, "a path of one machine");
        // Cargo writes its registry's name into every lock file.
        if !path.ends_with("Cargo.lock") {
            say(REGISTRIES, "a package registry's host");
        }
        if rust {
            if !ELSEWHERE.iter().all(|word| line.contains(word)) {
                say(UNFINISHED, "unfinished");
            }
            let code = line.split_once("//").map_or(line, |(code, _)| code);
            if UNCHECKED.iter().any(|word| holds(code, word)) {
                found.push(format!(
                    "{path}:{number}: code that the compiler does not check"
                ));
            }
        }
    }
    found
}

/// What must not compile is shown as a user would write it, and build scripts are no modules.
fn needs_header(path: &str) -> bool {
    !path.contains("tests/fail/") && !path.ends_with("build.rs")
}

/// Whether a line holds a word that does not go on an earlier word: `frame`+`work/` is no path.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        before.is_none_or(|letter| !(letter.is_alphanumeric() || "_-.".contains(letter)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: usize) {
        let found = violations(path, text);
        assert_eq!(found.len(), expected, "{path}: {text:?} gave {found:?}");
    }

    #[test]
    fn each_forbidden_word_is_found() {
        for word in UNFINISHED.iter().chain(UNCHECKED) {
            check("a.rs", &format!("//! A.\n    {word} }}"), 1);
            check("a.md", word, 0);
        }
        for word in MACHINE.iter().chain(REGISTRIES) {
            check("a.rs", &format!("//! A.\n// see {word}x"), 1);
            check("a.md", &format!("(https://{word}x)"), 1);
            check("a.yml", &format!("run: {word}x"), 1);
        }
    }

    #[test]
    fn a_test_that_a_command_runs_is_not_unfinished() {
        let [left_out, command] = ELSEWHERE;
        check(
            "a.rs",
            &format!("//! A.\n{left_out}a server{command}x\")]"),
            0,
        );
        check("a.rs", &format!("//! A.\n{left_out}a server\")]"), 1);
    }

    #[test]
    fn only_lock_files_name_a_registry() {
        check("fuzz/Cargo.lock", REGISTRIES[0], 0);
        check("fuzz/Cargo.lock", MACHINE[0], 1);
    }

    #[test]
    fn a_word_inside_another_is_none() {
        for text in ["frame", "a-", "x_"] {
            check(
                "a.md",
                &format!("{text}{}", MACHINE[0].trim_start_matches('/')),
                0,
            );
        }
        check(
            "a.rs",
            &format!("//! A.\nlet x = {}_code;", concat!("uns", "afe")),
            0,
        );
        check(
            "a.rs",
            &format!("//! A.\n// {}fn is a method", concat!("uns", "afe ")),
            0,
        );
    }

    #[test]
    fn a_source_opens_with_what_it_is_for() {
        for (path, text, expected) in [
            ("crates/a/src/lib.rs", "use std::fs;", 1),
            ("crates/a/src/lib.rs", "", 1),
            ("crates/a/src/lib.rs", "//! A.\nuse std::fs;", 0),
            ("fuzz/fuzz_targets/a.rs", "#![no_main]\n//! A.", 0),
            ("fuzz/fuzz_targets/a.rs", "#![no_main]\nuse std::fs;", 1),
            ("crates/a/tests/fail/forge.rs", "fn main() {}", 0),
            ("crates/a/build.rs", "fn main() {}", 0),
            ("docs/a.md", "# A", 0),
        ] {
            check(path, text, expected);
        }
    }
}
