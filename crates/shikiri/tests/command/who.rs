//! `shikiri who`, of lanes that are written here row by row: the same answers before they are archived, after it, and
//! half of it; and what is said when rows are gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shikiri_evidence::{BootId, Cut, Keep, Lanes, RealDisk, Run, Stream, row_bytes};
use shikiri_record::{
    AddressTag, Begin, Digest, End, Ended, Epoch, FillId, Gap, Link, LinkEvent, MemberTag, Mode,
    Outcome, Row, RulesDigest, StanceRow, TagKey, TargetTag, UnixMillis, ViewerTag,
};

use crate::running::{Folder, run, text};

const KEY: [u8; 32] = [7; 32];

/// 2020-03-16T03:24:00Z, 12:24 in Tokyo.
const BEGIN: u64 = 1_584_329_040_000;

/// A run of the node: one lane, one segment.
struct Writer {
    stream: Arc<Stream>,
    now: u64,
}

impl Writer {
    fn new(data: &Path, boot: u8, minute: u64) -> Self {
        let cut = Cut {
            segment_bytes: 1 << 20,
            age_max: Duration::from_secs(86_400),
        };
        let keep = Keep {
            bytes_max: u64::MAX,
            age_max: None,
            free_bytes_min: 0,
        };
        let now = BEGIN + minute * 60_000;
        let node = Run::unsigned("edge-1", BootId([boot; 16]));
        let folder = data.join("evidence");
        fs::create_dir_all(&folder).unwrap();
        let (lanes, _) = Lanes::open(
            Arc::new(RealDisk),
            &folder,
            &node,
            cut,
            keep,
            UnixMillis(now),
        )
        .unwrap();
        let stream = lanes.take(UnixMillis(now)).unwrap();
        let mut writer = Self { stream, now };
        writer.row(&Row::Stance(StanceRow {
            mode: Mode::Open,
            rules: RulesDigest(Digest::of(b"rules")),
            epoch: Epoch(1),
            tag_key: TagKey::new(KEY).id(),
        }));
        writer
    }

    fn row(&mut self, row: &Row<'_>) -> u64 {
        self.now += 1000;
        let mut body = Vec::new();
        row.encode(&mut body);
        let mut space = self.stream.reserve(row_bytes(body.len())).unwrap();
        match row {
            Row::Stance(_) => space.lead(UnixMillis(self.now), &body),
            _ => space.append(UnixMillis(self.now), &body),
        }
    }

    /// A response of a page of pages: whose, to whom, from which fetch.
    fn begin(&mut self, path: &str, who: &str, fill: u128, owner: Option<&str>) -> u64 {
        let key = TagKey::new(KEY);
        let member = |name: &str| MemberTag::of(&key, &[name.as_bytes()]);
        let is_known = who != "carol" && who != "-";
        let is_first = self.now == BEGIN + 1_000;
        let row = Row::Begin(Begin {
            began: UnixMillis(self.now + 500),
            outcome: if is_first {
                Outcome::Fill
            } else {
                Outcome::Hit
            },
            reason: "",
            status: 200,
            method: "GET",
            class: "pages",
            page: None,
            target: TargetTag::of(&key, &[b"https", b"shop.example.test", path.as_bytes()]),
            address: AddressTag::of(&key, &[who.as_bytes()]),
            viewer: (who != "-").then(|| session(who)),
            viewer_member: is_known.then(|| member(who)),
            owner: owner.map(member),
            fill: Some(FillId(fill)),
            grant: None,
            cookies: Vec::new(),
            cookies_set: 0,
        });
        self.row(&row)
    }

    fn end(&mut self, begin: u64, ended: Ended, bytes: u64) {
        self.row(&Row::End(End {
            begin,
            ended,
            bytes,
        }));
    }

    fn seal(self) {
        self.stream.seal(UnixMillis(self.now)).unwrap();
    }

    /// What was written is there, and the node goes on.
    fn flush(&self) {
        self.stream.flush().unwrap();
    }
}

fn session(who: &str) -> ViewerTag {
    ViewerTag::of(&TagKey::new(KEY), &[who.as_bytes()])
}

/// Three runs: alice's page is fetched and shown to others, one of whom is cut off, and one whose end nobody knows. The
/// third goes on.
fn store(data: &Path) -> Writer {
    fs::create_dir_all(data).unwrap();
    let path = data.join("tag.key");
    fs::write(&path, KEY).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    let mut first = Writer::new(data, 1, 0);
    let to_alice = first.begin("/account", "alice", 0xf1, Some("alice"));
    first.end(to_alice, Ended::Complete, 1000);
    let to_bob = first.begin("/account", "bob", 0xf1, Some("alice"));
    let news = first.begin("/news", "-", 0xf2, None);
    first.end(news, Ended::Complete, 300);
    first.end(to_bob, Ended::Cut, 400);
    first.seal();

    let mut second = Writer::new(data, 2, 10);
    second.row(&Row::Link(Link {
        event: LinkEvent::Started,
        viewer: session("carol"),
        member: Some(MemberTag::of(&TagKey::new(KEY), &[b"carol"])),
        begin: None,
    }));
    let to_carol = second.begin("/account", "carol", 0xf1, Some("alice"));
    second.end(to_carol, Ended::Complete, 1000);
    second.row(&Row::Gap(Gap {
        from: UnixMillis(BEGIN + 605_000),
        to: UnixMillis(BEGIN + 606_000),
        responses: 4,
    }));
    second.seal();

    let mut third = Writer::new(data, 3, 20);
    // It came with the same fetch, and its row does not say whose it was.
    third.begin("/account", "bob", 0xf1, None);
    let news = third.begin("/news", "alice", 0xf2, None);
    third.end(news, Ended::Complete, 300);
    third.flush();
    third
}

/// What is asked again and again.
const ASKED: [&[&str]; 9] = [
    &["saw", "--object", "https://shop.example.test/account"],
    &["saw", "--owner", "alice"],
    // Both ends of the window are included: the second response of the first run began then.
    &[
        "saw",
        "--class",
        "pages",
        "--csv",
        "--window",
        "2020-03-16T12:24:03.500+09:00..2020-03-16T12:24:03.500+09:00",
    ],
    &[
        "saw",
        "--fill",
        "000000000000000000000000000000f2",
        "--json",
    ],
    &["saw", "--owner", "alice", "--viewers", "--csv"],
    &["seen-by", "--member", "bob"],
    &["seen-by", "--member", "carol", "--csv", "--tags"],
    &["fills", "--class", "pages"],
    &[
        "fills",
        "--object",
        "https://shop.example.test/account",
        "--json",
    ],
];

fn who(arguments: &[&str], place: &[&str]) -> (String, String, Option<i32>) {
    let output = run(&[&["who"], arguments, place].concat());
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code(),
    )
}

/// All of it, as it is printed.
fn session_of(place: &[&str]) -> String {
    let mut told = String::new();
    for asked in ASKED {
        let (out, err, code) = who(asked, place);
        told.push_str(&format!("$ shikiri who {}\n{out}{err}", asked.join(" ")));
        if code != Some(0) {
            told.push_str(&format!("status {code:?}\n"));
        }
        told.push('\n');
    }
    told
}

#[test]
fn the_same_is_answered_before_it_is_archived_after_it_and_of_half_of_it() {
    let folder = Folder::new("who");
    let data = folder.0.join("data");
    let third = store(&data);
    let place = ["--data", &folder.path("data")];
    let before = session_of(&place);
    golden("who", &before);

    let (gaps, _, code) = who(&["gaps", "--csv"], &place);
    assert_eq!(code, Some(0), "{gaps}");
    assert!(gaps.contains(
        "without rows,edge-1,,,,2020-03-16T03:34:05.000Z,2020-03-16T03:34:06.000Z,4 passes"
    ));
    assert!(gaps.contains("not archived,edge-1,0,0,"), "{gaps}");

    // The runs that are sealed; of the third nothing is.
    let archived = run(&["archive", "run", "--data", place[1]]);
    assert!(archived.status.success(), "{}", text(&archived.stderr));
    assert!(data.join("archive/serves").is_dir());
    let sorted = |told: &str| {
        let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // In another order, since files are sorted by objects; numbers of things go by that order.
    let after = session_of(&place);
    let same = |told: &str| {
        let numbered = |word: &str| {
            let mut chars = word.chars();
            let is_one = chars.next().is_some_and(|c| "vamt".contains(c));
            is_one && chars.clone().count() > 0 && chars.all(|c| c.is_ascii_digit())
        };
        let mut all = Vec::new();
        for line in sorted(told) {
            let words = line.split([' ', ',', '"']).filter(|word| !numbered(word));
            all.push(words.collect::<Vec<_>>().join(" "));
        }
        all.sort();
        all
    };
    assert_eq!(same(&after), same(&before));
    drop(third);
    let (gaps, ..) = who(&["gaps", "--csv"], &place);
    assert!(gaps.contains("without rows,edge-1"), "{gaps}");
    assert!(!gaps.contains("not archived,edge-1,0,0,"), "{gaps}");

    // A copy of the archive alone says what it lacks, and cannot look members up.
    let copy = ["--from", &folder.path("data/archive")];
    let (out, err, code) = who(&["saw", "--class", "pages", "--csv"], &copy);
    assert_eq!((out.lines().count(), code), (5, Some(0)), "{out}{err}");
    assert!(err.contains("lane 0: rows from"), "{err}");
    let (_, err, code) = who(&["saw", "--owner", "alice"], &copy);
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot be looked up in a copy"), "{err}");
    let tag = MemberTag::of(&TagKey::new(KEY), &[b"alice"]).hex();
    let (out, ..) = who(&["saw", "--owner", &format!("tag:{tag}"), "--csv"], &copy);
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(!out.contains(&tag), "no tag that was not asked for");

    let file = folder.path("answer.parquet");
    let (_, err, code) = who(&["saw", "--class", "pages", "--parquet", &file], &place);
    assert_eq!(code, Some(0), "{err}");
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let (_, err, code) = who(&["saw", "--class", "pages", "--parquet", &file], &place);
    assert_eq!(code, Some(1), "it is there already");
    assert!(err.contains("answer.parquet"), "{err}");
}

#[test]
fn rows_that_are_gone_are_named_with_their_time_and_the_answer_is_not_called_whole() {
    let folder = Folder::new("who-gone");
    let data = folder.0.join("data");
    let third = store(&data);
    let place = ["--data", &folder.path("data")];
    fs::remove_file(data.join("evidence/lane-0/0000000002.segment")).unwrap();
    let (out, err, code) = who(&["saw", "--owner", "alice", "--csv"], &place);
    assert_eq!(code, Some(3), "{err}");
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(err.contains("lane 0: rows 7 to 11 are not there"), "{err}");
    // Of another time it is whole: nothing that is gone can have been then.
    let early = [
        "saw",
        "--owner",
        "alice",
        "--window",
        "..2020-03-16T12:00:00+09:00",
    ];
    let (.., code) = who(&early, &place);
    assert_eq!(code, Some(0));
    let (out, _, code) = who(&["gaps", "--json"], &place);
    assert_eq!(code, Some(3));
    assert!(
        out.contains(r#""first":7"#) && out.contains(r#""last":11"#) && out.contains("03:24:07"),
        "{out}"
    );

    // The same once it is archived: the batch says so, and its files which.
    third.seal();
    let archived = run(&["archive", "run", "--data", place[1]]);
    assert_eq!(
        archived.status.code(),
        Some(3),
        "{}",
        text(&archived.stderr)
    );
    let (out, err, code) = who(&["gaps", "--json"], &place);
    assert_eq!(code, Some(3), "{out}{err}");
    let missing = out
        .lines()
        .filter(|line| line.contains(r#""what":"missing""#));
    assert_eq!(missing.clone().count(), 1, "{out}{err}");
    let is_same = |line: &str| {
        line.contains(r#""first":7"#)
            && line.contains(r#""last":11"#)
            && line.contains("03:24:07")
            && line.contains("03:44:01")
    };
    assert!(missing.clone().all(is_same), "{out}{err}");
    let (out, err, code) = who(&["saw", "--owner", "alice", "--csv"], &place);
    assert_eq!((out.lines().count(), code), (4, Some(3)), "{out}{err}");
    assert!(err.contains("batch 1: 5 rows are missing"), "{err}");
}

#[test]
fn a_file_that_is_damaged_is_named_and_bad_questions_say_what_to_write() {
    let folder = Folder::new("who-bad");
    let data = folder.0.join("data");
    let third = store(&data);
    let place = ["--data", &folder.path("data")];
    for (asked, said) in [
        (&["saw"][..], "--owner, --object"),
        (&["saw", "--object", "account"], "write its URL"),
        (&["saw", "--fill", "12"], "32 hexadecimal digits"),
        (&["saw", "--class", "a", "--window", "now"], "is no window"),
        (&["seen-by"], "--viewer or --member"),
        (&["seen-by", "--viewer", "bob"], "32 hexadecimal digits"),
        (&["saw", "--objects-file", "/none.txt"], "/none.txt"),
    ] {
        let (out, err, code) = who(asked, &place);
        assert!(
            code != Some(0) && err.contains(said),
            "{asked:?}: {out}{err}"
        );
    }
    let objects = folder.file(
        "objects.txt",
        "# none\nhttps://shop.example.test/news\n\nwrong\n",
    );
    let (_, err, _) = who(&["saw", "--objects-file", &objects], &place);
    assert!(
        err.contains("objects.txt, line 4: `wrong` is no object"),
        "{err}"
    );

    third.seal();
    let archived = run(&["archive", "run", "--data", place[1]]);
    assert!(archived.status.success());
    let day = data.join("archive/serves/day=2020-03-16/node=edge-1");
    let file = fs::read_dir(&day).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    let (_, err, code) = who(&["saw", "--class", "pages"], &place);
    assert_eq!(code, Some(1));
    assert!(err.contains(&file.display().to_string()), "{err}");
    fs::remove_file(&file).unwrap();
    let (_, err, code) = who(&["saw", "--class", "pages"], &place);
    assert_eq!(code, Some(1), "a file that is not there is no empty one");
    assert!(err.contains("cannot be opened"), "{err}");
    let (_, err, code) = who(&["saw", "--class", "pages"], &["--data", "/none"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no evidence in /none"), "{err}");
}

fn golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let now = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.txt"));
    fs::write(&now, got).unwrap();
    assert!(
        got == expected,
        "{} went otherwise, see {}:\n{got}",
        path.display(),
        now.display()
    );
}
