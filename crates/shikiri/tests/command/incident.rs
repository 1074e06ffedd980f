//! An incident at a site whose cache is not ours: its timeline.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::running::{Folder, run, text};

/// Replays a session: what is typed at a shell in an empty folder, each line as `$ LINE`, with what it prints and
/// its exit status below it, unless that is 0. Returns it as it went.
fn replayed(session: &str, folder: &Folder) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_shikiri"));
    let tools = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{tools}", binary.parent().unwrap().display());
    let mut went = String::new();
    let mut is_remark = true;
    for line in session.lines() {
        let was_remark = std::mem::replace(&mut is_remark, line.starts_with('#'));
        if is_remark {
            went.push_str(if was_remark { "" } else { "\n" });
            went.push_str(&format!("{line}\n"));
        }
        let Some(typed) = line.strip_prefix("$ ") else {
            continue;
        };
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {typed}")])
            .env("PATH", &path)
            .env("TZ", "Asia/Tokyo")
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        went.push_str(&format!("$ {typed}\n"));
        for line in text(&output.stdout).lines() {
            went.push_str(format!("  {line}").trim_end());
            went.push('\n');
        }
        if !output.status.success() {
            went.push_str(&format!("  (exit {})\n", output.status.code().unwrap()));
        }
    }
    went
}

fn check(name: &str, folder: &Folder) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    let expected = fs::read_to_string(&path).unwrap();
    let went = replayed(&expected, folder);
    let differs = went
        .lines()
        .zip(expected.lines())
        .find(|(one, other)| one != other);
    let now = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.txt"));
    fs::write(&now, &went).unwrap();
    assert!(
        went == expected,
        "{} went otherwise, see {}: {differs:#?}",
        path.display(),
        now.display()
    );
}

#[test]
fn the_notice_of_march_2020_is_kept_corrected_and_asked() {
    check("notice", &Folder::new("notice"));
}

#[test]
fn nothing_is_derived_from_a_damaged_timeline() {
    let folder = Folder::new("damaged-timeline");
    let place = folder.path("march");
    let put = |text: &str| {
        let flags = ["timeline", "add", "--in", &place, "--changed", "opened"];
        run(&[&flags[..], &["--text", text]].concat())
    };
    assert!(put("first").status.success());
    assert!(put("second").status.success());
    let mut segments: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "segment"))
        .collect();
    segments.sort();
    let mut bytes = fs::read(&segments[0]).unwrap();
    let at = bytes.windows(5).position(|it| it == b"first").unwrap();
    bytes[at] = b'F';
    fs::write(&segments[0], bytes).unwrap();
    for command in [
        &["as-of", "now"][..],
        &["lint"],
        &["export"],
        &["diff", "0"],
    ] {
        let output = run(&[&["timeline"], command, &["--in", &place]].concat());
        let errors = text(&output.stderr);
        assert!(errors.contains("damaged"), "{command:?}: {errors}");
    }
    let shown = run(&["timeline", "show", "--in", &place]);
    assert!(text(&shown.stdout).contains("CANNOT BE READ"));
    let errors = text(&put("third").stderr);
    assert!(errors.contains("nothing was added"), "{errors}");
}
