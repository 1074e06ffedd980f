//! Sealed evidence of the built binary: signed while it is written, and verified on a copy elsewhere with
//! the public key alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::running::{Edge, Folder, origin, origin_that_says, run, text};

/// A node that has served something and was stopped: its data folder.
fn stopped() -> (Edge, String) {
    let mut edge = Edge::start(&["--origin", &origin(), "--workers", "1"]);
    for n in 0..20 {
        let answer = edge.get("a.test", &format!("/{n}.css"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    edge.signal("TERM");
    edge.child.wait().unwrap();
    let data = edge.data.path("data");
    (edge, data)
}

/// What somebody else gets: the streams, and no key.
fn copied(data: &str, to: &Folder) -> String {
    let copy = to.0.join("copy");
    for name in ["evidence", "timeline"] {
        copy_folder(&Path::new(data).join(name), &copy.join(name));
    }
    copy.display().to_string()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn verify(arguments: &[&str]) -> (Option<i32>, String, String) {
    let all: Vec<&str> = ["evidence", "verify"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let Output {
        status,
        stdout,
        stderr,
    } = run(&all);
    (status.code(), text(&stdout), text(&stderr))
}

#[test]
fn a_copy_is_verified_elsewhere_with_the_public_key_and_a_checkpoint_that_was_kept() {
    let (_edge, data) = stopped();
    let folder = Folder::new("sealed");
    let key = text(&run(&["evidence", "key", "--data", &data]).stdout);
    assert!(key.starts_with("shikiri/shikiri-"), "{key}");
    let key = folder.file("edge.key", &key);
    let kept = text(&run(&["evidence", "checkpoint", "--data", &data]).stdout);
    assert_eq!(
        kept.matches('\u{2014}').count(),
        2,
        "a lane and the timeline: {kept}"
    );
    let kept = folder.file("kept.checkpoint", &kept);
    let copy = copied(&data, &folder);
    let (code, said, why) = verify(&[&copy, "--key", &key, "--checkpoint", &kept]);
    assert_eq!((code, why.as_str()), (Some(0), ""), "{said}");
    assert_eq!(said.matches("signed: all").count(), 2, "{said}");
    let (code, said, _) = verify(&[&copy, "--key", &key, "--json"]);
    assert_eq!(code, Some(0));
    let lane: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(lane["rows"].as_u64().unwrap() >= 40, "{lane}");
    assert_eq!(lane["signed_before"]["row"], lane["rows"]);
    // Whoever is not told a key cannot say that anybody signed it.
    let (code, _, why) = verify(&[&copy]);
    assert_eq!(code, Some(1));
    assert!(why.contains("--key"), "{why}");
    let (code, _, why) = verify(&[&data]);
    assert_eq!(code, Some(0));
    assert!(why.contains("beside the evidence"), "{why}");
    let (_other, others) = stopped();
    let other = text(&run(&["evidence", "key", "--data", &others]).stdout);
    let (code, _, why) = verify(&[&copy, "--key", other.trim()]);
    assert_eq!(code, Some(3));
    assert!(
        why.contains("no key that is known here has signed it"),
        "{why}"
    );
}

/// What is taken, how, and what is said of it.
type Taken<'a> = (&'a str, &'a dyn Fn(&str), &'a [&'a str]);

#[test]
fn what_is_taken_from_a_copy_is_named() {
    let (_edge, data) = stopped();
    let folder = Folder::new("taken");
    let key = text(&run(&["evidence", "key", "--data", &data]).stdout);
    let kept = text(&run(&["evidence", "checkpoint", "--data", &data]).stdout);
    let kept = folder.file("kept.checkpoint", &kept);
    let segment = |copy: &str, stream: &str| -> PathBuf {
        Path::new(copy).join(stream).join("0000000001.segment")
    };
    let cases: [Taken<'_>; 6] = [
        (
            "a byte of a row",
            &|copy| {
                let path = segment(copy, "evidence/lane-0");
                let mut bytes = fs::read(&path).unwrap();
                bytes[300] ^= 1;
                fs::write(&path, bytes).unwrap();
            },
            &["row 1 at offset", "does not fit"],
        ),
        (
            "the end of a lane",
            &|copy| {
                let path = segment(copy, "evidence/lane-0");
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 400]).unwrap();
            },
            &["lane-0", "it was signed that there were rows up to"],
        ),
        (
            "a segment of the timeline",
            &|copy| fs::remove_file(segment(copy, "timeline")).unwrap(),
            &["timeline", "it ends before row 0"],
        ),
        (
            "the signatures",
            &|copy| {
                for name in ["marks", "checkpoint"] {
                    fs::remove_file(Path::new(copy).join("timeline").join(name)).unwrap();
                }
            },
            &["timeline", "nothing of it is signed"],
        ),
        (
            "a lane",
            &|copy| fs::remove_dir_all(Path::new(copy).join("evidence/lane-0")).unwrap(),
            &["lane-0", "were taken away"],
        ),
        (
            "the timeline",
            &|copy| fs::remove_dir_all(Path::new(copy).join("timeline")).unwrap(),
            &["/timeline/", "were taken away"],
        ),
    ];
    for (name, take, said) in cases {
        let place = Folder::new("taken-copy");
        let copy = copied(&data, &place);
        take(&copy);
        let (code, shown, why) = verify(&[&copy, "--key", key.trim(), "--checkpoint", &kept]);
        assert_eq!(code, Some(3), "{name}: {shown}{why}");
        for said in said {
            assert!(why.contains(said), "{name}: `{said}` in {why}");
        }
    }
}

#[test]
fn a_node_that_finds_less_than_it_signed_says_so_and_goes_on() {
    let (edge, data) = stopped();
    fs::remove_file(Path::new(&data).join("evidence/lane-0/0000000001.segment")).unwrap();
    let mut again = Edge::start(&["--origin", &origin(), "--data", &data, "--workers", "1"]);
    let log = again.logs("put aside");
    assert!(log.contains("somebody may have changed it"), "{log}");
    assert!(again.get("a.test", "/").starts_with("HTTP/1.1 200 "));
    let (code, said, why) = verify(&[&data]);
    assert_eq!(code, Some(3), "{said}{why}");
    assert!(said.contains("put aside: 1 times"), "{said}");
    drop(edge);
}

/// Whose tags are whose, over periods whose keys are there; and nobody's where a key is destroyed.
#[test]
fn keys_change_by_period_members_are_found_and_a_destroyed_key_finds_nobody() {
    let folder = Folder::new("periods");
    let config = "version = 1\n[evidence]\ntag_key_time = \"2s\"\n";
    let config = folder.file("edge.toml", config);
    let mut edge = Edge::start(&["--origin", &origin(), "--config", &config]);
    let data = edge.data.path("data");
    let evidence = |arguments: &[&str]| {
        let all = ["evidence"].iter().chain(arguments).copied();
        let output = run(&all.chain(["--data", &data]).collect::<Vec<_>>());
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        (output.status.code(), out, errors)
    };
    let url = "http://a.test/x";
    assert!(edge.get("a.test", "/x").starts_with("HTTP/1.1 200 "));
    edge.logs("tags are made with another key");
    assert!(edge.get("a.test", "/x").starts_with("HTTP/1.1 200 "));
    let (_, listed, _) = evidence(&["keys", "list"]);
    let periods: Vec<&str> = listed
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert!(periods.len() >= 2, "{listed}");
    assert_eq!(periods.last(), Some(&"current"));
    // Found under each key.
    let begins = || {
        let (_, shown, _) = evidence(&["cat", "--url", url, "--json"]);
        shown.matches("\"row\":\"begin\"").count()
    };
    assert_eq!(begins(), 2);
    let members = folder.file("members", "m1\n\nm2,x\n");
    let out = folder.path("directory.csv");
    let (code, said, why) = evidence(&directory_of(&members, &out));
    assert_eq!(code, Some(0), "{why}");
    assert!(said.starts_with("2 members, "), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read(
        Path::new(&data)
            .join("tag-keys")
            .join(format!("{}.key", periods[0])),
    );
    let key = shikiri_record::TagKey::new(key.unwrap().try_into().unwrap());
    let tag = shikiri_record::MemberTag::of(&key, &[b"m2,x"]).hex();
    let directory = fs::read_to_string(&out).unwrap();
    let line = format!("{tag},\"m2,x\",{:016x},{}\n", key.id(), periods[0]);
    assert!(directory.contains(&line), "{line}: {directory}");
    assert_eq!(
        evidence(&directory_of(&members, &out)).0,
        Some(1),
        "it is there already"
    );
    // The one in use stays; one that is over is destroyed, with a running edge and without one.
    let (code, _, why) = evidence(&["keys", "destroy", "current", "--reason", "x"]);
    assert_eq!(code, Some(1));
    assert!(why.contains("in use"), "{why}");
    let destroy = ["keys", "destroy", periods[0], "--reason", "nobody needs it"];
    let (code, said, _) = evidence(&[&destroy[..], &["--dry-run"]].concat());
    assert_eq!(
        (code, said.starts_with("would destroy")),
        (Some(0), true),
        "{said}"
    );
    assert_eq!(evidence(&destroy).0, Some(0));
    assert_eq!(begins(), 1, "the first is nobody's now");
    edge.signal("TERM");
    edge.child.wait().unwrap();
    let (_, listed, _) = evidence(&["keys", "list"]);
    let next = listed.lines().next().unwrap().split(' ').next().unwrap();
    if next != "current" {
        let (code, _, why) = evidence(&["keys", "destroy", next, "--reason", "nor this"]);
        assert_eq!(code, Some(0), "{why}");
    }
    let shown = text(&run(&["timeline", "show", "--data", &data]).stdout);
    for said in [
        "began to be used",
        "used to compute the tags of members",
        "nobody needs it",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let (code, said, why) = verify(&[&data]);
    assert_eq!(code, Some(0), "{said}{why}");
}

/// Retention: once the key of a period is destroyed, what its rows say is still there and still sealed, and no list of
/// members, and no URL, leads to them any more. What led to them before is tried again, each thing once.
#[test]
fn the_rows_of_a_destroyed_period_stay_sealed_and_lead_to_nobody() {
    const MINE: &str = "Content-Type: text/html\r\nCache-Control: private\r\nShikiri-Viewer: m1";
    let folder = Folder::new("retention");
    let config = "version = 1\n[evidence]\ntag_key_time = \"4s\"\n";
    let config = folder.file("edge.toml", config);
    let mut edge = Edge::start(&["--origin", &origin_that_says(MINE), "--config", &config]);
    let data = edge.data.path("data");
    let evidence = |arguments: &[&str]| {
        let all = ["evidence"].iter().chain(arguments).copied();
        run(&all.chain(["--data", &data]).collect::<Vec<_>>())
    };
    assert!(edge.get("a.test", "/mine").starts_with("HTTP/1.1 200 "));
    edge.logs("tags are made with another key");
    assert!(edge.get("a.test", "/mine").starts_with("HTTP/1.1 200 "));
    edge.signal("TERM");
    edge.child.wait().unwrap();

    // The rows, as they stand: the member's tags in them, and the key that each was made under.
    let rows = || {
        let shown = text(&evidence(&["cat", "--json"]).stdout);
        let rows = shown
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        rows.collect::<Vec<Value>>()
    };
    let before = rows();
    let tags = |rows: &[Value]| -> Vec<String> {
        let begins = rows.iter().filter(|row| row["row"] == "begin");
        begins
            .map(|row| row["viewer_member"].as_str().unwrap().to_owned())
            .collect()
    };
    let [first, second] = &tags(&before)[..] else {
        panic!("two responses: {before:?}")
    };
    assert_ne!(first, second, "a member has another tag in each period");

    let members = folder.file("members", "m1\nm2\n");
    let directory = |name: &str| {
        let out = folder.path(name);
        let done = evidence(&directory_of(&members, &out));
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        fs::read_to_string(out).unwrap()
    };
    let begins_of_url = || {
        let shown = text(&evidence(&["cat", "--url", "http://a.test/mine", "--json"]).stdout);
        shown.matches("\"row\":\"begin\"").count()
    };
    // As long as the key is there, all of them lead to the first row.
    let whole = directory("before.csv");
    assert!(whole.contains(&format!("{first},m1,")), "{whole}");
    assert!(whole.contains(&format!("{second},m1,")), "{whole}");
    assert_eq!(begins_of_url(), 2);

    let line = whole.lines().find(|line| line.starts_with(first.as_str()));
    let period = line.unwrap().rsplit(',').next().unwrap();
    let key_path = Path::new(&data).join(format!("tag-keys/{period}.key"));
    let key = fs::read(&key_path).unwrap();
    let done = evidence(&["keys", "destroy", period, "--reason", "it is over"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));

    let left = directory("after.csv");
    assert!(!left.contains(first.as_str()), "{left}");
    assert!(left.contains(&format!("{second},m1,")), "{left}");
    assert_eq!(begins_of_url(), 1);
    assert_eq!(rows(), before, "the rows are as they were");
    let (code, said, why) = verify(&[&data]);
    assert_eq!(code, Some(0), "{said}{why}");
    // Nothing in the data folder holds the key any more.
    let mut folders = vec![Path::new(&data).to_owned()];
    let mut looked = 0;
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if !path.is_file() {
                continue;
            }
            looked += 1;
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(key.len()).any(|window| window == key);
            assert!(!found, "the key stands in {}", path.display());
        }
    }
    assert!(looked > 5, "{looked}");
}

/// The built binary's: what it archived is signed with the node's key, and a copy is verified with the public one.
#[cfg(feature = "archive")]
#[test]
fn an_archive_is_signed_and_a_copy_is_verified_with_the_public_key_alone() {
    let (edge, data) = stopped();
    let key = text(&run(&["evidence", "key", "--data", &data]).stdout);
    let archived = run(&["archive", "run", "--data", &data]);
    assert_eq!(
        archived.status.code(),
        Some(0),
        "{}",
        text(&archived.stderr)
    );
    let folder = Folder::new("signed-archive");
    let copy = folder.0.join("archive");
    copy_folder(&Path::new(&data).join("archive"), &copy);
    let verify = |key: &str| {
        let output = run(&[
            "archive",
            "verify",
            "--from",
            copy.to_str().unwrap(),
            "--key",
            key,
        ]);
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (code, said) = verify(key.trim());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("all manifests are signed"), "{said}");
    // A manifest that says something else.
    let node = fs::read_dir(copy.join("manifests")).unwrap().next();
    let mut names = fs::read_dir(node.unwrap().unwrap().path())
        .unwrap()
        .map(|it| it.unwrap().path());
    let path = names
        .find(|path| path.extension().is_some_and(|it| it == "json"))
        .unwrap();
    let before = fs::read_to_string(&path).unwrap();
    let after = before.replacen("\"segment_bytes\": ", "\"segment_bytes\": 1", 1);
    assert_ne!(before, after);
    fs::write(&path, after).unwrap();
    let (code, said) = verify(key.trim());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the manifest was changed"), "{said}");
    drop(edge);
}

/// The words that make a directory of members.
const fn directory_of<'a>(members: &'a str, out: &'a str) -> [&'a str; 7] {
    [
        "directory",
        "--members",
        members,
        "--out",
        out,
        "--reason",
        "a test",
    ]
}
