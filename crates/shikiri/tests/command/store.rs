//! The member store behind the real edge: two members and a visitor walk every declared page at once.
//!
//! What they look at are responses alone. The pages are those that `shikiri site pages --json` lists, so a
//! page that is declared later is walked as well.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::running::{Edge, Folder, ask, run, shikiri, text};

/// What is one member's alone: mail address, an order, the name for deliveries.
const HANAKO: [&str; 3] = ["hanako@example.test", "samplehanako1", "見本 花子"];
const TARO: [&str; 3] = ["taro@example.test", "sampletaro1", "仮名 太郎"];
const PASSWORD: &str = "shikiri-demo";
const ROUNDS: usize = 3;

/// A process of ours that says where it listens.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = shikiri(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect(&line);
        Self {
            address: address.to_owned(),
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A store, its delivery server and an edge before both.
struct Site {
    _folder: Folder,
    _store: Server,
    _delivery: Server,
    edge: Edge,
}

impl Site {
    /// `policy` makes the edge's from the one that the declarations print.
    fn start(name: &str, policy: fn(&str) -> String) -> Self {
        let folder = Folder::new(name);
        let tickets = folder.path("tickets");
        let (site, films) = (folder.path("site"), folder.path("films"));
        let serve = ["site", "serve", "--sample", "--listen", "127.0.0.1:0"];
        let store =
            Server::start(&[&serve[..], &["--data", &site, "--tickets", &tickets]].concat());
        let deliver = ["site", "deliver", "--listen", "127.0.0.1:0"];
        let more = ["--data", &films, "--tickets", &tickets];
        let delivery = Server::start(&[&deliver[..], &more].concat());
        let places = ["--store", &store.address, "--delivery", &delivery.address];
        let edge_key = format!("{films}/edge.secret");
        let secrets = ["--tickets", &tickets, "--edge-key", &edge_key];
        let pages = ["site", "pages", "--policy"];
        let printed = run(&[&pages[..], &places, &secrets].concat());
        let file = folder.file("policy.toml", &policy(&text(&printed.stdout)));
        let edge = Edge::start(&["--policy", &file, "--trust", "127.0.0.1"]);
        Self {
            _folder: folder,
            _store: store,
            _delivery: delivery,
            edge,
        }
    }
}

/// The origins of a policy, and nothing else of it.
fn origins(policy: &str) -> String {
    let sections = policy.split("\n[").filter(|it| it.starts_with("[origin]]"));
    let origins: String = sections.map(|it| format!("\n[{it}")).collect();
    assert!(origins.matches("url = ").count() == 2, "{policy}");
    format!("version = 1\n{origins}")
}

/// As careless as the language allows: everything, for everybody, for a day.
fn careless(policy: &str) -> String {
    let origins = origins(policy);
    format!(
        "{origins}\n[[class]]\nname = \"all\"\nmatch = {{ paths = [\"/**\"] }}\nto = \"everyone\"\n\
         types = [\"text/html\", \"*/*\"]\nstatuses = [200, 303, 403, 404]\n\
         lifetime = {{ default = \"1d\", max = \"1d\" }}\n"
    )
}

/// A response, read.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect(text);
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        Self {
            status: status.expect(head),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|it| it.split_once(": "));
        lines
            .filter(|(it, _)| *it == name)
            .map(|(_, value)| value)
            .next()
    }

    fn is_hit(&self) -> bool {
        let status = self.header("cache-status").unwrap_or_default();
        status.contains("; hit")
    }
}

/// A browser with at most one cookie, for the store's host alone.
struct Browser {
    at: String,
    cookie: Option<String>,
}

impl Browser {
    fn new(at: &str) -> Self {
        Self {
            at: at.to_owned(),
            cookie: None,
        }
    }

    fn logged_in(at: &str, mail: &str) -> Self {
        let mut browser = Self::new(at);
        let mail = mail.replace('@', "%40");
        let answer = browser.post("/en/login", &format!("mail={mail}&password={PASSWORD}"));
        assert_eq!(answer.status, 303, "{}", answer.head);
        browser
    }

    fn get(&self, host: &str, path: &str, more: &str) -> Answer {
        let cookie = match &self.cookie {
            Some(cookie) if host == "localhost" => format!("Cookie: {cookie}\r\n"),
            _ => String::new(),
        };
        Answer::read(&ask(
            &self.at,
            &format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}{more}Connection: close\r\n\r\n"
            ),
        ))
    }

    fn post(&mut self, path: &str, form: &str) -> Answer {
        let cookie = self.cookie.as_ref();
        let cookie = cookie.map_or_else(String::new, |it| format!("Cookie: {it}\r\n"));
        let length = form.len();
        let answer = Answer::read(&ask(
            &self.at,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}Sec-Fetch-Site: same-origin\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{form}"
            ),
        ));
        if let Some(set) = answer.header("set-cookie") {
            let pair = set.split(';').next().unwrap();
            self.cookie = Some(pair.replace("__host-", "__Host-"));
        }
        answer
    }
}

/// A declared page at an address.
#[derive(Clone, Debug)]
struct Stop {
    host: &'static str,
    path: String,
    /// Shared or media, and not for holders alone.
    is_everybodys: bool,
}

fn stops() -> Vec<Stop> {
    let printed = run(&["site", "pages", "--json"]);
    let list: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let mut stops = Vec::new();
    for page in list["pages"].as_array().unwrap() {
        if page["method"] != "GET" {
            continue;
        }
        let crawl = page["crawl"].as_array().unwrap();
        assert!(!crawl.is_empty(), "{page} is never walked");
        for path in crawl {
            stops.push(Stop {
                host: if page["server"] == "delivery" {
                    "media.localhost"
                } else {
                    "localhost"
                },
                path: path.as_str().unwrap().to_owned(),
                is_everybodys: page["class"] != "personal" && page["holders"] == false,
            });
        }
    }
    assert!(stops.iter().filter(|it| it.is_everybodys).count() >= 10);
    assert!(stops.iter().filter(|it| !it.is_everybodys).count() >= 10);
    stops
}

/// What one of them saw in a round.
type Seen = BTreeMap<String, Answer>;

fn walk(browser: &Browser, stops: &[Stop], others: &[&str]) -> Seen {
    let mut seen = Seen::new();
    for stop in stops {
        let answer = browser.get(stop.host, &stop.path, "");
        for mark in others {
            // Whoever names another's order has its id back in a link, and nothing of it.
            if stop.path.contains(mark) {
                assert_ne!(answer.status, 200, "{stop:?}");
            } else {
                assert!(!answer.body.contains(mark), "{stop:?} shows {mark}");
            }
        }
        assert!(answer.status < 500, "{stop:?} {}", answer.head);
        assert!(stop.is_everybodys || !answer.is_hit(), "{stop:?}");
        seen.insert(format!("{}{}", stop.host, stop.path), answer);
    }
    seen
}

/// All three at once, several times; what each saw the last time: Hanako, Taro, a visitor.
fn all_walk(site: &Site, stops: &[Stop]) -> [Seen; 3] {
    let at = &site.edge.address;
    let browsers = [
        Browser::logged_in(at, HANAKO[0]),
        Browser::logged_in(at, TARO[0]),
        Browser::new(at),
    ];
    let everybodys: Vec<_> = HANAKO.into_iter().chain(TARO).collect();
    let [hanako, taro, visitor] = &browsers;
    let all_at_once = || {
        std::thread::scope(|scope| {
            let walks = [
                scope.spawn(|| walk(hanako, stops, &TARO)),
                scope.spawn(|| walk(taro, stops, &HANAKO)),
                scope.spawn(|| walk(visitor, stops, &everybodys)),
            ];
            walks.map(|it| it.join().expect("a walk that sees what it may"))
        })
    };
    for _ in 1..ROUNDS {
        all_at_once();
    }
    let seen = all_at_once();
    // Without this, the walk might have seen nothing at all.
    for (seen, marks) in seen.iter().zip([HANAKO, TARO]) {
        for mark in marks {
            let shown = seen.values().any(|it| it.body.contains(mark));
            assert!(shown, "{mark} is shown to nobody");
        }
    }
    seen
}

#[test]
fn under_the_printed_policy_each_sees_only_itself_and_all_that_is_shared_is_a_hit() {
    let (site, stops) = (Site::start("walk-printed", str::to_owned), stops());
    let seen = all_walk(&site, &stops);
    for seen in &seen {
        for stop in &stops {
            let answer = &seen[&format!("{}{}", stop.host, stop.path)];
            // On a slow machine a copy may have become old meanwhile: it was shared all the same.
            let said = answer.header("cache-status").unwrap_or_default();
            let was_stored = answer.is_hit() || said.contains("fwd=stale");
            assert_eq!(was_stored, stop.is_everybodys, "{stop:?} {}", answer.head);
        }
    }
}

#[test]
fn under_no_policy_and_under_a_careless_one_each_sees_only_itself() {
    for (name, policy, hits_min) in [
        // The style sheet, and covers: public static files.
        ("walk-default", origins as fn(&str) -> String, 3),
        ("walk-careless", careless, 10),
    ] {
        let (site, stops) = (Site::start(name, policy), stops());
        for seen in all_walk(&site, &stops) {
            let hits = seen.values().filter(|it| it.is_hit()).count();
            assert!(hits >= hits_min, "{name}: {hits} hits");
        }
    }
}

/// `shikiri up`, as an operator would run it.
struct Up {
    folder: Folder,
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    at: String,
}

impl Up {
    fn start(name: &str) -> Self {
        let folder = Folder::new(name);
        let data = folder.path("data");
        let mut child = shikiri(&["up", "--listen", "127.0.0.1:0", "--data", &data])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut all = String::new();
        while !all.contains("Ctrl-C") {
            assert!(said.read_line(&mut all).unwrap() > 0, "{all}");
        }
        assert!(all.contains(PASSWORD) && all.contains(HANAKO[0]) && all.contains(TARO[0]));
        let port = all
            .split("localhost:")
            .nth(1)
            .and_then(|it| it.split('/').next());
        let at = format!("127.0.0.1:{}", port.unwrap());
        Self {
            folder,
            child,
            said,
            at,
        }
    }

    /// The processes that it started, by their folders.
    fn parts(&self) -> Vec<(String, String)> {
        let data = self.folder.path("data");
        let mut parts = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else {
                continue;
            };
            let line = text(&line).replace('\0', " ");
            let id = entry.file_name().to_string_lossy().into_owned();
            if line.contains(&data) && id != self.child.id().to_string() {
                parts.push((id, line));
            }
        }
        parts
    }

    /// What it said on standard error, once it has ended; and how it did.
    fn ends(mut self) -> (bool, String) {
        let ended = self.child.wait().unwrap();
        let mut all = String::new();
        for line in self.said.by_ref().lines().map_while(Result::ok) {
            all.push_str(&line);
            all.push('\n');
        }
        let errors = self.child.stderr.take().unwrap();
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            all.push_str(&line);
        }
        let until = Instant::now() + Duration::from_secs(10);
        while !self.parts().is_empty() {
            assert!(Instant::now() < until, "left over: {:?}", self.parts());
            std::thread::sleep(Duration::from_millis(20));
        }
        (ended.success(), all)
    }
}

/// A test that fails leaves nothing running: what `up` started ends with it.
impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn kill(id: &str, signal: &str) {
    let killed = Command::new("kill").args(["-s", signal, id]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn up_shows_a_film_to_who_may_watch_and_stops_cleanly() {
    let up = Up::start("up-film");
    assert_eq!(up.parts().len(), 3);
    let mut hanako = Browser::logged_in(&up.at, HANAKO[0]);
    hanako.post("/en/watch/last-lighthouse", "");
    let player = hanako.get("localhost", "/en/watch/last-lighthouse", "");
    let film = player.body.split("src=\"").find(|it| it.contains(".m3u8"));
    let film = film.and_then(|it| it.split('"').next()).expect("a film");
    let port = up.at.split(':').nth(1).unwrap();
    let list = film
        .strip_prefix(&format!("http://media.localhost:{port}"))
        .expect(film);
    let visitor = Browser::new(&up.at);
    let listed = visitor.get("media.localhost", list, "");
    assert!(listed.status == 200 && listed.body.starts_with("#EXTM3U"));
    // Fetched once for all who may: no ticket is in the key.
    let again = hanako.get("localhost", "/ja/watch/last-lighthouse", "");
    let other = again.body.split("src=\"").find(|it| it.contains(".m3u8"));
    let other = other.and_then(|it| it.split(&format!(":{port}")).nth(1)?.split('"').next());
    let listed = visitor.get("media.localhost", other.expect("a film"), "");
    // It may still come for the first one.
    let is_shared = listed.is_hit() || listed.head.contains("; collapsed");
    assert!(is_shared, "{}", listed.head);
    let wrong = list.replacen("/t/1", "/t/2", 1);
    assert_eq!(visitor.get("media.localhost", &wrong, "").status, 403);
    let range = "Range: bytes=100-199\r\n";
    let part = visitor.get(
        "media.localhost",
        &list.replace("index.m3u8", "film.webm"),
        range,
    );
    assert_eq!(part.status, 206, "{}", part.head);
    // In slices: what is around the place that was sought is a hit from then on, and the rest was not fetched.
    let film = list.replace("index.m3u8", "film.webm");
    for (range, is_hit) in [
        ("20000-20099", false),
        ("20000-20099", true),
        ("17000-17001", true),
        ("100-199", true),
        ("34000-34099", false),
        ("34000-34099", true),
    ] {
        let range = format!("Range: bytes={range}\r\n");
        let part = visitor.get("media.localhost", &film, &range);
        let is_part = part.status == 206 && part.header("content-range").is_some();
        // Where the fill is not over yet, who comes joins it.
        let is_shared = part.is_hit() || part.head.contains("; collapsed");
        assert!(is_part && is_shared == is_hit, "{range}{}", part.head);
    }
    let bare = format!("/films/{}", list.split("/films/").nth(1).unwrap());
    assert_eq!(visitor.get("media.localhost", &bare, "").status, 403);
    let forged = "X-Edge-Key: 00\r\n";
    assert_eq!(visitor.get("media.localhost", &bare, forged).status, 403);

    // The store hears that the edge is closed, and rests.
    let control = up.folder.path("data/edge/control.sock");
    let rest = up.folder.0.join("data/site/rest.json");
    for (mode, closed) in [("closed", true), ("open", false)] {
        let told = run(&["mode", mode, "--reason", "trial", "--control", &control]);
        assert!(told.status.success(), "{}", text(&told.stderr));
        let until = Instant::now() + Duration::from_secs(20);
        let heard = || fs::read_to_string(&rest).unwrap_or_default();
        while !heard().contains(&format!("\"closed\":{closed}")) {
            assert!(Instant::now() < until, "{mode} was not heard: {}", heard());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    kill(&up.child.id().to_string(), "INT");
    let (is_success, said) = up.ends();
    assert!(is_success && said.contains("stopped"), "{said}");
}

#[test]
fn up_says_which_part_failed_and_leaves_nothing_behind() {
    let up = Up::start("up-fails");
    let address = up.at.clone();
    let taken = run(&[
        "up",
        "--listen",
        &address,
        "--data",
        &up.folder.path("other"),
    ]);
    let why = text(&taken.stderr);
    assert!(
        !taken.status.success() && why.contains("listens on"),
        "{why}"
    );
    let twice = run(&[
        "up",
        "--listen",
        "127.0.0.1:0",
        "--data",
        &up.folder.path("data"),
    ]);
    assert!(text(&twice.stderr).contains("another process holds"));
    let parts = up.parts();
    let (id, _) = parts
        .iter()
        .find(|(_, it)| it.contains("site deliver"))
        .unwrap();
    kill(id, "KILL");
    let (is_success, said) = up.ends();
    assert!(
        !is_success && said.contains("the delivery server ended"),
        "{said}"
    );
}

#[test]
fn what_up_started_does_not_outlive_it() {
    let up = Up::start("up-killed");
    assert_eq!(up.parts().len(), 3);
    kill(&up.child.id().to_string(), "KILL");
    up.ends();
}

#[test]
fn up_is_for_this_machine_alone() {
    let folder = Folder::new("up-outside");
    let data = folder.path("data");
    let refused = run(&["up", "--listen", "0.0.0.0:0", "--data", &data]);
    let why = text(&refused.stderr);
    assert!(why.contains("known to everybody"), "{why}");
    assert!(!fs::exists(&data).unwrap(), "nothing was made");
}

/// Standard output, and standard error where it failed.
fn told(arguments: &[&str]) -> Result<String, String> {
    let ran = run(arguments);
    match ran.status.success() {
        true => Ok(text(&ran.stdout)),
        false => Err(text(&ran.stderr)),
    }
}

#[test]
fn a_store_is_seeded_once_and_as_was_said_before() {
    let folder = Folder::new("seed");
    let data = folder.path("shop");
    let words = [
        "site",
        "seed",
        "--data",
        &data,
        "--members",
        "700",
        "--delivery",
        "9",
    ];
    let with = |more: &[&str]| told(&[&words[..], more].concat());
    let counts = |said: &str| said.lines().take(8).map(str::to_owned).collect::<Vec<_>>();
    let dry = with(&["--dry-run"]).unwrap();
    assert!(dry.contains("would be made") && !std::path::Path::new(&data).exists());
    let made = with(&[]).unwrap();
    assert_eq!(counts(&made), counts(&dry));
    assert!(counts(&made)[1].ends_with("        9"), "{made}");
    for more in [&[][..], &["--dry-run"]] {
        let again = with(more).unwrap_err();
        assert!(again.contains("give another --seed"), "{again}");
    }
    let others = with(&["--seed", "2"]).unwrap();
    assert_ne!(counts(&others), counts(&dry));
    let books = told(&["site", "books", "--data", &data]).unwrap();
    assert!(books.contains("say the same"), "{books}");
}

#[test]
fn what_the_store_cannot_use_is_refused_and_not_shown() {
    let folder = Folder::new("unusable");
    let data = folder.path("shop");
    let begin = ["site", "serve", "--data", &data, "--listen", "127.0.0.1:0"];
    let with = |more: &[&str]| told(&[&begin[..], more].concat()).unwrap_err();
    // Nobody listens there, or the program was built without it: either way the password is not told.
    let why = with(&["--database", "postgres://shop:of-nobody@127.0.0.1:1/shop"]);
    assert!(
        why.contains("PostgreSQL") && !why.contains("of-nobody"),
        "{why}"
    );
    let secret = folder.file("stripe", "sk_live_of-nobody-at-all");
    for (mode, said) in [(0o644, "others can read"), (0o600, "test mode")] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&secret, mode).unwrap();
        let why = with(&["--stripe", &secret]);
        assert!(why.contains(said) && !why.contains("of-nobody"), "{why}");
    }
}
