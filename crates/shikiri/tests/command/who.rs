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
    // Of another time it is whole: nothing that is gone can have been then. But whose a fetch was may have been said
    // later.
    for (by, whose, whole) in [("--class", "pages", 0), ("--owner", "alice", 3)] {
        let early = ["saw", by, whose, "--window", "..2020-03-16T12:00:00+09:00"];
        let (.., code) = who(&early, &place);
        assert_eq!(code, Some(whole), "{by}");
    }
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
fn what_cannot_be_looked_up_since_its_key_is_not_here_is_told() {
    let folder = Folder::new("who-key");
    let data = folder.0.join("data");
    let third = store(&data);
    let place = ["--data", &folder.path("data")];
    let alice = ["saw", "--owner", "alice", "--csv"];
    let url = ["saw", "--object", "https://shop.example.test/account"];
    let lines = |asked: &[&str]| {
        let (out, err, code) = who(asked, &place);
        (out.lines().count(), err, code)
    };
    let (count, err, code) = lines(&alice);
    assert_eq!((count, code), (5, Some(0)), "{err}");

    // A directory adds to what the keys say.
    let tag = |key: [u8; 32]| MemberTag::of(&TagKey::new(key), &[b"alice"]).hex();
    let directory = |name: &str, key: [u8; 32]| {
        let id = TagKey::new(key).id();
        let text = format!("tag,member,key,period\n{},alice,{id:016x},now\n", tag(key));
        folder.file(name, &text)
    };
    let of_another = directory("another.csv", [9; 32]);
    let (count, err, code) = lines(&[&alice[..], &["--directory", &of_another]].concat());
    assert_eq!((count, code), (5, Some(0)), "{err}");

    // The key is destroyed.
    fs::write(data.join("tag.key"), [8; 32]).unwrap();
    for asked in [
        &alice[..],
        &url,
        &["seen-by", "--member", "bob"],
        &["fills", url[1], url[2]],
    ] {
        let (_, err, code) = lines(asked);
        assert_eq!(code, Some(3), "{asked:?}: {err}");
        assert!(err.contains("made under the key"), "{asked:?}: {err}");
    }
    let by_tag = format!("tag:{}", tag(KEY));
    let (count, err, code) = lines(&["saw", "--owner", &by_tag, "--csv"]);
    assert_eq!((count, code), (5, Some(0)), "{err}");
    // Of another time nothing was made under it.
    let early = ["--window", "..2020-03-01T12:00:00+09:00"];
    let (_, err, code) = lines(&[&url[..], &early].concat());
    assert_eq!(code, Some(0), "{err}");
    // A directory has the members that it has, and no objects.
    let of_it = directory("of-it.csv", KEY);
    let with = |asked: &[&str]| lines(&[asked, &["--directory", &of_it]].concat());
    let (count, err, code) = with(&alice);
    assert_eq!((count, code), (5, Some(0)), "{err}");
    assert_eq!(with(&["saw", "--owner", "bob"]).2, Some(3));
    assert_eq!(with(&url).2, Some(3));
    drop(third);
}

#[test]
fn a_batch_that_is_being_made_is_not_told_twice_and_an_earlier_life_is_told() {
    let folder = Folder::new("who-lives");
    let data = folder.0.join("data");
    let third = store(&data);
    let place = ["--data", &folder.path("data")];
    let pages = |place: &[&str]| {
        let (out, err, code) = who(&["saw", "--class", "pages", "--csv"], place);
        assert_eq!(code, Some(0), "{err}");
        (out.lines().count() - 1, err.contains("ends were not known"))
    };
    let all = pages(&place);
    let archive = || {
        let archived = run(&["archive", "run", "--data", place[1]]);
        assert!(archived.status.success(), "{}", text(&archived.stderr));
    };
    archive();
    assert_eq!(pages(&place), all);

    // Its files and its manifest are in their places, and it is not recorded yet.
    let state = data.join("archive-state");
    let record = fs::read_dir(state.join("batches")).unwrap().next();
    let record = record.unwrap().unwrap().path();
    let kept = fs::read(&record).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let names = ["version", "number", "name", "node", "lanes"];
    let plan: serde_json::Map<_, _> = names
        .iter()
        .map(|name| ((*name).to_owned(), manifest[*name].clone()))
        .collect();
    fs::write(state.join("plan.json"), serde_json::to_vec(&plan).unwrap()).unwrap();
    fs::remove_file(&record).unwrap();
    assert_eq!(pages(&place), all);
    fs::write(&record, kept).unwrap();
    fs::remove_file(state.join("plan.json")).unwrap();

    // The data folder is lost, and the node set up again under its name beside the same archive.
    third.seal();
    archive();
    assert_eq!(pages(&place), all);
    let anew = folder.0.join("anew");
    fs::create_dir_all(&anew).unwrap();
    let mut writer = Writer::new(&anew, 9, 60);
    writer.begin("/news", "bob", 0xf9, None);
    writer.seal();
    fs::rename(data.join("archive"), anew.join("archive")).unwrap();
    let place = ["--data", &folder.path("anew")];
    // One more, and one less: what waited for its end was in the data folder alone. That is said.
    assert_eq!((all.1, pages(&place)), (false, (all.0, true)));
    let archived = run(&["archive", "run", "--data", place[1]]);
    assert!(archived.status.success(), "{}", text(&archived.stderr));
    assert_eq!(pages(&place), (all.0, true));
}

#[test]
fn where_a_manifest_or_a_seal_is_wrong_the_answer_is_not_called_whole() {
    let folder = Folder::new("who-lost");
    let data = folder.0.join("data");
    let third = store(&data);
    let place = ["--data", &folder.path("data")];
    let asked = ["saw", "--class", "pages"];

    // The end of a segment of which all rows are there.
    let segment = data.join("evidence/lane-0/0000000001.segment");
    let sound = fs::read(&segment).unwrap();
    let mut torn = sound.clone();
    let end = torn.iter().rposition(|byte| *byte != 0).unwrap();
    torn[end] ^= 1;
    fs::write(&segment, &torn).unwrap();
    for asked in [&asked[..], &["gaps"], &["fills", "--class", "pages"]] {
        let (out, err, code) = who(asked, &place);
        assert_eq!(code, Some(3), "{asked:?}: {out}{err}");
        assert!(err.contains("damaged"), "{asked:?}: {out}{err}");
    }
    fs::write(&segment, &sound).unwrap();

    let archive = || {
        let archived = run(&["archive", "run", "--data", place[1]]);
        assert!(archived.status.success(), "{}", text(&archived.stderr));
    };
    archive();
    third.seal();
    archive();
    let copy = ["--from", &folder.path("data/archive")];
    assert_eq!(who(&asked, &copy).2, Some(0));
    let mut manifests = Vec::new();
    let mut folders = vec![data.join("archive/manifests")];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "json") {
                manifests.push(path);
            }
        }
    }
    manifests.sort();
    assert_eq!(manifests.len(), 2, "{manifests:?}");
    fs::remove_file(&manifests[0]).unwrap();
    for asked in [&asked[..], &["gaps"]] {
        let (out, err, code) = who(asked, &copy);
        assert_eq!(code, Some(3), "{asked:?}: {out}{err}");
        assert!(
            err.contains("the manifest of this batch is missing"),
            "{err}"
        );
    }
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
