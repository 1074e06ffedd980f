//! Evidence of the built binary: killed in the middle of its work, read by its own commands, and by
//! whoever knows the format and has the key.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shikiri_evidence::{Item, Reader, RealDisk};
use shikiri_record::{Row, TagKey, TargetTag};

use crate::running::{Edge, Folder, origin, run, text};

/// What the lanes of a data folder say of each target.
#[derive(Default)]
struct Rows {
    begun: BTreeMap<TargetTag, u64>,
    ends: u64,
    torn_bytes: u64,
}

/// Reads all lanes. Nothing in them may contradict itself; what is torn may only be at their ends.
fn rows(data: &Path) -> Rows {
    let mut rows = Rows::default();
    for lane in fs::read_dir(data.join("evidence")).unwrap() {
        let mut reader = Reader::open(Arc::new(RealDisk), &lane.unwrap().path()).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Segment(..) => {}
                Item::Fault(fault) => panic!("{fault}"),
                Item::Row(row) => match Row::decode(&row.body).unwrap() {
                    Row::Begin(begin) => *rows.begun.entry(begin.target).or_default() += 1,
                    Row::End(_) => rows.ends += 1,
                    Row::Stance(_) => {}
                    Row::Link(_) | Row::Gap(_) => {
                        panic!("nobody logged in, and the disk is not full")
                    }
                },
            }
        }
        if let Some(tail) = reader.tail().unwrap() {
            rows.torn_bytes += tail.torn_bytes;
        }
    }
    rows
}

fn key(data: &Path) -> TagKey {
    TagKey::new(fs::read(data.join("tag.key")).unwrap().try_into().unwrap())
}

/// What clients have asked for, and what of it was answered, by the path.
#[derive(Default)]
struct Load {
    asked: Mutex<BTreeSet<String>>,
    answered: Mutex<Vec<String>>,
    /// How many answers a client has read whole.
    whole: AtomicU64,
    stops: AtomicBool,
}

impl Load {
    /// Asks one thing after another until the connection breaks or it is told to stop. A path counts
    /// as answered with the first byte of its answer.
    fn client(&self, address: &str, name: &str) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut buffer = vec![0; 64 << 10];
        for n in 0.. {
            if self.stops.load(Ordering::Relaxed) {
                return;
            }
            // Passes, fills, and hits on what the one before has filled.
            let path = match n % 3 {
                0 => format!("/page/{name}/{n}"),
                1 => format!("/{name}/{n}.css"),
                _ => format!("/{name}/{}.css", n - 1),
            };
            self.asked.lock().unwrap().insert(path.clone());
            let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            if stream.write_all(request.as_bytes()).is_err() {
                return;
            }
            let mut got = 0;
            loop {
                let count = stream.read(&mut buffer[got..]).unwrap_or(0);
                if count == 0 {
                    return;
                }
                if got == 0 {
                    self.answered.lock().unwrap().push(path.clone());
                }
                got += count;
                // The body is the path.
                if buffer[..got].ends_with(path.as_bytes())
                    && text(&buffer[..got]).contains("\r\n\r\n")
                {
                    break;
                }
            }
            self.whole.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn what_was_answered_before_kill_9_has_its_row_and_nothing_torn_is_read_as_true() {
    let folder = Folder::new("kill-9");
    let data = folder.0.join("data");
    let origin = origin();
    let load = Arc::new(Load::default());
    let mut before = 0;
    // Signed as often as can be, so that some are killed in between.
    let config = "version = 1\n[evidence]\ncheckpoint_time = \"1ms\"\n";
    let config = folder.file("edge.toml", config);
    for run in 0..20_u64 {
        let place = folder.path("data");
        let mut edge = Edge::start(&["--origin", &origin, "--data", &place, "--config", &config]);
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (load, address) = (Arc::clone(&load), edge.address.clone());
                std::thread::spawn(move || load.client(&address, &format!("{run}-{client}")))
            })
            .collect();
        // At another moment of its work in each run.
        while load.whole.load(Ordering::Relaxed) < before + 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(7 * run));
        edge.child.kill().unwrap();
        edge.child.wait().unwrap();
        for client in clients {
            client.join().unwrap();
        }
        before = load.whole.load(Ordering::Relaxed);
        // What is left is read as it is; what the next run mends is read below.
        check(&load, &data);
    }
    drop(Edge::start(&[
        "--origin",
        &origin,
        "--data",
        &folder.path("data"),
    ]));
    let rows = check(&load, &data);
    // What was signed before each kill is what is there.
    let verified = run(&["evidence", "verify", "--data", &folder.path("data")]);
    let said = text(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    let said = text(&verified.stdout);
    assert!(
        said.contains("signed: ") && !said.contains("put aside"),
        "{said}"
    );
    assert!(before >= 400, "{before}");
    assert!(rows.ends >= before / 2, "{} of {before}", rows.ends);
}

/// Every answered request has its begin row, and there is no row of what was never asked.
fn check(load: &Load, data: &Path) -> Rows {
    let (rows, key) = (rows(data), key(data));
    let tag = |path: &str| TargetTag::of(&key, &[b"http", b"a.test", path.as_bytes()]);
    let mut answered: BTreeMap<TargetTag, u64> = BTreeMap::new();
    for path in load.answered.lock().unwrap().iter() {
        *answered.entry(tag(path)).or_default() += 1;
    }
    for (target, times) in &answered {
        let begun = rows.begun.get(target).copied().unwrap_or(0);
        assert!(begun >= *times, "answered {times} times, {begun} rows");
    }
    let asked: BTreeSet<TargetTag> = load
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|path| tag(path))
        .collect();
    assert!(rows.begun.keys().all(|target| asked.contains(target)));
    rows
}

#[test]
fn rows_are_read_by_the_command_live_and_from_a_copy() {
    let edge = Edge::start(&["--origin", &origin()]);
    for path in ["/a.css", "/a.css", "/account"] {
        assert!(edge.get("a.test", path).starts_with("HTTP/1.1 200 "));
    }
    let data = edge.data.path("data");
    let evidence = |arguments: &[&str]| {
        let mut all = vec!["evidence"];
        all.extend(arguments);
        let output = run(&all);
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    // End rows are written a moment later.
    let deadline = Instant::now() + Duration::from_secs(20);
    let counted = loop {
        let (_, counted, _) = evidence(&["count", "--data", &data]);
        if counted.contains("3  complete") || Instant::now() > deadline {
            break counted;
        }
    };
    for line in [
        "responses 3",
        "1  hit",
        "1  fill",
        "1  pass",
        "3  200",
        "3  complete",
    ] {
        assert!(counted.contains(line), "{line}: {counted}");
    }
    let (_, counted, _) = evidence(&["count", "--data", &data, "--by", "class", "--json"]);
    let counted: serde_json::Value = serde_json::from_str(&counted).unwrap();
    assert_eq!(
        counted["by"]["class"],
        serde_json::json!({"assets": 2, "personal": 1})
    );
    let url = "http://a.test/a.css";
    let (_, shown, _) = evidence(&["cat", "--data", &data, "--url", url, "--json"]);
    let shown: Vec<serde_json::Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = shown
        .iter()
        .map(|row| row["row"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "begin").count(),
        2,
        "{kinds:?}"
    );
    assert_eq!(kinds.len(), 4);
    let (_, last, _) = evidence(&["tail", "-n", "1", "--data", &data]);
    assert!(last.contains("end complete bytes=8"), "{last}");
    // A copy, with one bit of it changed.
    let copy = Folder::new("evidence-copy");
    let changed = copied(&edge.data.0.join("data/evidence"), &copy.0);
    let from = copy.path("");
    let (_, key, _) = evidence(&["key", "--data", &data]);
    let verify = ["verify", "--from", &from, "--key", key.trim()];
    let (sound, _, why) = evidence(&verify);
    assert!(sound, "{why}");
    let mut bytes = fs::read(&changed).unwrap();
    bytes[300] ^= 1;
    fs::write(&changed, bytes).unwrap();
    let (sound, _, why) = evidence(&verify);
    assert!(!sound, "{why}");
    for said in [
        changed.display().to_string().as_str(),
        "at offset",
        "bytes",
        "does not fit",
    ] {
        assert!(why.contains(said), "{said}: {why}");
    }
    for (arguments, said) in [
        (&["cat", "--data", "/nonexistent"][..], "--data"),
        (&["cat", "--from", &from, "--url", url], "data folder"),
        (
            &["cat", "--data", &data, "--url", "a.test"],
            "http://host/path",
        ),
    ] {
        let (_, _, why) = evidence(arguments);
        assert!(why.contains(said), "{arguments:?}: {why}");
    }
    for command in ["cat", "tail", "count", "verify", "key", "checkpoint"] {
        let (_, help, _) = evidence(&[command, "--help"]);
        assert!(help.contains("Examples:"), "{help}");
    }
}

/// Copies the lanes' segments. Returns the first with rows.
fn copied(from: &Path, to: &Path) -> PathBuf {
    let mut with_rows = None;
    for lane in fs::read_dir(from).unwrap() {
        let lane = lane.unwrap();
        fs::create_dir_all(to.join(lane.file_name())).unwrap();
        for file in fs::read_dir(lane.path()).unwrap() {
            let file = file.unwrap().path();
            let copy = to.join(lane.file_name()).join(file.file_name().unwrap());
            fs::copy(&file, &copy).unwrap();
            let mut bytes = vec![0; 301];
            let is_long = fs::File::open(&copy).unwrap().read_exact(&mut bytes);
            if is_long.is_ok() && bytes[300] != 0 {
                with_rows.get_or_insert(copy);
            }
        }
    }
    with_rows.expect("a lane has rows")
}

#[test]
fn requests_are_rows_and_what_is_counted() {
    let edge = Edge::start(&["--origin", &origin()]);
    for path in ["/a.css", "/a.css", "/account", "/b"] {
        edge.get("a.test", path);
    }
    edge.ask("GET / HTTP/1.1\r\n\r\n");
    let data = edge.data.path("data");
    let status = text(&run(&["status", "--data", &data]).stdout);
    let count = |name: &str| -> u64 {
        let line = status
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name}: {status}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert_eq!((count("requests"), count("rows"), count("own")), (5, 4, 1));
    assert_eq!(
        (count("gaps"), count("abandoned"), count("running")),
        (0, 0, 0)
    );
    let begun: u64 = rows(Path::new(&data)).begun.values().sum();
    assert_eq!(begun, count("rows"));
}

#[test]
fn a_key_that_others_may_read_is_refused_at_start() {
    let folder = Folder::new("open-key");
    let data = folder.0.join("data");
    let arguments = ["--origin", &origin(), "--data", &folder.path("data")];
    drop(Edge::start(&arguments));
    let path = data.join("tag.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut all = vec!["edge", "--listen", "127.0.0.1:0"];
    all.extend(arguments);
    let output = run(&all);
    let why = text(&output.stderr);
    assert!(
        !output.status.success() && why.contains("chmod 600"),
        "{why}"
    );
}
