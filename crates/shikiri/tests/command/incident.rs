//! An incident at a site whose cache is not ours: its timeline, and its logs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::running::{Edge, Folder, origin, run, text};

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

/// The notice's hour at a cache that shows one stored page to everybody.
const LOG: &str = r#"1584329000.100 0.050 "GET /mypage HTTP/1.1" 200 MISS "sato"
1584329002.000 0.001 "GET /mypage HTTP/1.1" 200 HIT "suzuki"
1584329003.000 0.001 "GET /mypage HTTP/1.1" 200 HIT "takahashi"
1584329070.150 0.001 "GET /mypage HTTP/1.1" 200 HIT "tanaka"
1584329070.200 0.100 "GET /mypage HTTP/1.1" 200 EXPIRED "ito"
1584329071.000 0.001 "GET /mypage HTTP/1.1" 200 HIT "sato"
1584329072.000 0.001 "GET /mypage HTTP/1.1" 200 HIT "ito"
"#;

/// What is known of it.
const SITE: &str = r#"version = 1
host = "shop.example.test"
session = "sid"
zone = "+09:00"

[cache]
replaces = true
refreshes = "openly"
revalidates = false
shares_unstored = false
fetch_max = "30s"
transit_max = "5ms"

[[log]]
files = ["access.log"]
format = "nginx"
log_format = '$msec $request_time "$request" $status $upstream_cache_status "$cookie_sid"'
store = "edge-1"
complete = "nginx wrote every line: the disk was never full"
covers = ["2020-03-16 11:00", "2020-03-16 14:00"]
misses_are_stored = true

# It was taken into use with an empty store.
[[purge]]
from = "2020-03-16 11:59"
"#;

/// A stored page that sets a cookie: who gets it is somebody else from then on.
const LOGIN: &str = r#"192.0.2.1 1584329000.100 0.050 "GET /mypage HTTP/1.1" 200 MISS "-" "sid=sato; Path=/"
192.0.2.2 1584329002.000 0.001 "GET /mypage HTTP/1.1" 200 HIT "suzuki" "sid=sato; Path=/"
192.0.2.2 1584329003.000 0.001 "GET /history HTTP/1.1" 200 - "sato" "-"
192.0.2.2 1584329004.000 0.001 "POST /order HTTP/1.1" 303 - "sato" "-"
"#;

#[test]
fn the_logs_of_another_cache_tell_who_saw_whose() {
    let folder = Folder::new("logs");
    folder.file("access.log", LOG);
    folder.file("site.toml", SITE);
    folder.file("torn.log", &format!("{LOG}1584329073.0"));
    folder.file("torn.toml", &SITE.replace("access.log", "torn.log"));
    let alone: Vec<&str> = LOG.lines().filter(|line| line.contains("ito")).collect();
    folder.file("alone.log", &alone.join("\n"));
    folder.file("alone.toml", &SITE.replace("access.log", "alone.log"));
    folder.file("login.log", LOGIN);
    let site = SITE.replace("access.log", "login.log");
    let site = site.replace("$msec", "$remote_addr $msec");
    let site = site.replace("sid\"'", "sid\" \"$sent_http_set_cookie\"'");
    folder.file("login.toml", &site);
    check("logs", &folder);
    // What is written of persons is for the owner alone, and names none.
    for name in ["views.jsonl", "facts.jsonl", "unread.log", "import.key"] {
        let mode = fs::metadata(folder.0.join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o077, 0, "{name}");
    }
    for name in ["views.jsonl", "facts.jsonl"] {
        let told = fs::read_to_string(folder.0.join(name)).unwrap();
        assert!(!told.contains("sato") && !told.contains("mypage"), "{told}");
    }
}

/// A table as a spreadsheet in Japan saves it: of the letter at its end, the second byte is a backslash in ASCII.
const TABLE: &[u8] = b"when,what,text\n2020-03-16 12:24,opened,\x95\x5c\n";

#[test]
fn what_is_not_utf_8_is_read_as_what_it_is_said_to_be_or_not_at_all() {
    let folder = Folder::new("shift-jis");
    fs::write(folder.0.join("notes.csv"), TABLE).unwrap();
    fs::write(folder.0.join("access.log"), TABLE).unwrap();
    let (table, place) = (folder.path("notes.csv"), folder.path("march"));
    let import = |flags: &[&str]| {
        let command = ["timeline", "import", "--in", &place, &table];
        run(&[&command[..], flags].concat())
    };
    let errors = text(&import(&[]).stderr);
    assert!(errors.contains("--encoding shift_jis"), "{errors}");
    let errors = text(&import(&["--encoding", "latin-9"]).stderr);
    assert!(errors.contains("euc-jp"), "{errors}");
    assert!(import(&["--encoding", "cp932"]).status.success());
    let shown = text(&run(&["timeline", "show", "--in", &place]).stdout);
    assert!(shown.contains('表'), "{shown}");
    let looked = run(&["import", "--sniff", &folder.path("access.log")]);
    let looked = text(&looked.stdout);
    assert!(looked.contains("--encoding shift_jis"), "{looked}");
}

/// As Varnish 7.1 writes it: what `varnishlog -g raw` prints of a hit.
const VSL: &str = "         7 Begin          c req 6 rxreq
         7 Timestamp      c Start: 1584329041.000000 0.000000 0.000000
         7 ReqStart       c 192.0.2.7 52728 a0
         7 ReqMethod      c GET
         7 ReqURL         c /mypage
         7 ReqHeader      c Cookie: sid=suzuki
         7 Hit            c 3 0.732414 5.000000 0.000000
         7 VCL_call       c HIT
         7 RespStatus     c 200
         7 Timestamp      c Resp: 1584329041.002000 0.002000 0.002000
         7 End            c ";

#[test]
fn varnishs_own_log_is_read_as_text_and_as_it_is_written() {
    let folder = Folder::new("vsl");
    // Of each record: its bytes, its tag, whose it is, its number and what it says.
    let mut written = b"VSL\0".to_vec();
    for line in VSL.lines() {
        let (tag, data) = line.trim_start().split_once(" c ").unwrap();
        let tag = tag.trim_start_matches('7');
        let tag = match tag.trim() {
            "Begin" => 76,
            "Timestamp" => 80,
            "ReqStart" => 63,
            "ReqMethod" => 15,
            "ReqURL" => 16,
            "ReqHeader" => 20,
            "Hit" => 64,
            "VCL_call" => 60,
            "RespStatus" => 26,
            _ => 77,
        };
        let bytes = u16::try_from(data.len() + 1).unwrap();
        written.extend(bytes.to_le_bytes());
        written.extend([0, tag, 7, 0, 0, 0x40]);
        written.extend(data.as_bytes());
        written.resize(written.len().next_multiple_of(4), 0);
        if data.len() % 4 == 0 {
            written.extend([0; 4]);
        }
    }
    fs::write(folder.0.join("varnish.vsl"), written).unwrap();
    folder.file("varnish.txt", VSL);
    for name in ["varnish.vsl", "varnish.txt"] {
        let path = folder.path(name);
        let flags = ["--format", "vsl", "--session", "sid"];
        let key = folder.path("import.key");
        let read = run(&[&["import", &path, "--key", &key][..], &flags].concat());
        let said = text(&read.stdout);
        assert!(
            said.contains("11 lines, 1 requests, 10 that tell nothing, 0 bad"),
            "{said}"
        );
        assert!(
            said.contains("session 100 %, milliseconds 100 %, fill 100 %"),
            "{said}"
        );
        let looked = text(&run(&["import", "--sniff", &path]).stdout);
        assert!(looked.contains("--format vsl"), "{looked}");
    }
}

#[test]
fn our_own_rows_name_no_pair_but_where_a_class_is_doubted() {
    let mut edge = Edge::start(&["--origin", &origin(), "--workers", "1"]);
    for sid in ["sato", "suzuki", "sato"] {
        let answer = edge.ask(&format!(
            "GET /a.css HTTP/1.1\r\nHost: a.test\r\nCookie: sid={sid}\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    edge.signal("TERM");
    edge.child.wait().unwrap();
    let evidence = edge.data.path("data/evidence");
    let views = edge.data.path("views.jsonl");
    for (doubt, shown) in [("", 0), ("pages", 0), ("assets", 1), ("all", 1)] {
        let mut command = vec!["infer", "--evidence", &evidence, "--views", &views];
        if !doubt.is_empty() {
            command.extend(["--doubt", doubt]);
        }
        let output = run(&command);
        let said = text(&output.stdout);
        assert!(said.contains("numbered, and none is missing"), "{said}");
        let expected = format!("showed another's: {shown}; may have: 0");
        assert!(said.contains(&expected), "{doubt}: {said}");
    }
    let told = fs::read_to_string(&views).unwrap();
    assert_eq!(told.lines().count(), 3, "{told}");
    let whole = told.matches("\"bytes_max\":6,").count();
    assert_eq!(
        (whole, told.matches("\"ended\":\"complete\"").count()),
        (3, 3),
        "{told}"
    );
    // Rows that do not fit prove nothing.
    let lane = fs::read_dir(&evidence)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let segments = fs::read_dir(lane).unwrap().map(|it| it.unwrap().path());
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "segment");
    let segment = segments.filter(is_segment).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[400] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let output = run(&["infer", "--evidence", &evidence, "--doubt", "all"]);
    let said = text(&output.stdout);
    assert!(
        said.contains("nothing is proven by them") && said.contains("0 proven, 0 exact"),
        "{said}"
    );
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

#[test]
fn what_cannot_be_read_as_a_site_is_refused_with_what_to_write() {
    let folder = Folder::new("sites");
    folder.file("access.log", LOG);
    for (from, to, said) in [
        ("version = 1", "version = 2", "version = 1"),
        ("replaces", "replcaes", "replcaes"),
        ("\"+09:00\"", "\"Europe/Berlin\"", "summer"),
        ("\"30s\"", "\"30\"", "unit"),
        ("\"nginx\"", "\"ngnix\"", "no form"),
        (
            "session = \"sid\"",
            "session = \"sid\"\nmember_field = \"remote_user\"",
            "in one place",
        ),
        ("session = \"sid\"", "session_field = \"$cookie_sid\"", ""),
        (
            "misses_are_stored",
            "in_order = true\nmisses_are_stored",
            "whole_before_end",
        ),
        (
            "misses_are_stored",
            "encoding = \"utf-16le\"\nmisses_are_stored",
            "iconv",
        ),
        ("log_format = ", "store_format = ", "store_format"),
        ("2020-03-16 14:00", "2020-02-30 14:00", "is no time"),
        ("$upstream_cache_status", "$other", "origin"),
        ("access.log", "none.log", "none.log"),
        (
            "covers = [\"2020-03-16 11:00\", \"2020-03-16 14:00\"]",
            "",
            "",
        ),
    ] {
        let site = folder.file("site.toml", &SITE.replace(from, to));
        let output = run(&["infer", &site, "--key", &folder.path("key")]);
        let errors = text(&output.stderr);
        assert_eq!(output.status.success(), said.is_empty(), "{to}: {errors}");
        assert!(errors.contains(said), "{to}: {errors}");
    }
}
