//! `cargo xtask bench visitors`: five hundred people at the store of `shikiri up`, which has a fraction of its
//! capacity, without the edge and through it.
//!
//! All of it is on one machine: who asks, the edge, the store and its delivery server share the processors.
//!
//! Invariant: a number on the page was counted or timed here, at the clients; a request has reached the site where
//! the edge's `Cache-Status` says so.

mod page;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::apps::browser::{Answer, Browser};
use crate::dice::Dice;
use crate::edge::Build;
use crate::process::{Doing, Failure, children, end, root};
use crate::up::Up;

/// What one measurement is of.
struct Setting {
    visitors: usize,
    /// Of them so many in a hundred are logged in.
    members_in_100: usize,
    seconds: u64,
    build: Build,
    /// One that is there already, in place of one that is built now.
    binary: Option<PathBuf>,
    write: bool,
}

/// What visitors ask for; a class of the page that is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Page,
    Style,
    Cover,
    Film,
    Account,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Page,
        Self::Style,
        Self::Cover,
        Self::Film,
        Self::Account,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Page => "pages for everybody",
            Self::Style => "the style sheet",
            Self::Cover => "covers",
            Self::Film => "films, by ticket",
            Self::Account => "members' own pages",
        }
    }
}

/// Where a request goes.
#[derive(Clone)]
struct Target {
    kind: Kind,
    is_media: bool,
    path: String,
}

/// Everything that there is to ask for, found on the pages themselves.
struct Store {
    everybodys: Vec<Target>,
    covers: Vec<Target>,
    style: Target,
    films: Vec<Target>,
    /// The sessions of the demo members.
    cookies: Vec<BTreeMap<String, String>>,
}

/// Where the store and its delivery server are reached, and by which names.
#[derive(Clone)]
struct Way {
    store: SocketAddr,
    media: SocketAddr,
    port: String,
}

/// One answer, as its client saw it.
struct Seen {
    kind: Kind,
    took: Duration,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Hit,
    /// The site was not asked for it: somebody else's fetch was waited for.
    Collapsed,
    AskedSite,
    Failed,
}

/// What came of one measurement.
struct Came {
    seen: Vec<Seen>,
    lasted: Duration,
}

/// # Errors
/// The store does not start, or what visitors look for is not there.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let setting = setting(arguments)?;
    let binary = match &setting.binary {
        Some(binary) => binary.clone(),
        None => setting.build.make()?,
    };
    let folder = root().join("target/visitors");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).doing(format_args!("making {}", folder.display()))?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|it| it.parse().ok());
    let up = Up::start(&binary, &folder.join("data"))?;
    let through = Way::through(&up)?;
    let straight = Way::straight(&up, &folder.join("data/policy.toml"))?;
    let store = Store::found(&straight)?;

    println!(
        "visitors: {} at once, straight to the site, as fast as it answers",
        setting.visitors
    );
    let capacity = measure(&setting, &store, &straight, Duration::ZERO);
    println!("visitors: {}", capacity.words());
    let share = (ASKED_FOR * setting.visitors as f64 / PAUSE.as_secs_f64() / capacity.per_second())
        .min(1.0);
    let slow = Slow::start(&up, share)?;
    println!("visitors: straight to a site with {share:.3} of that");
    let without = measure(&setting, &store, &straight, PAUSE);
    println!("visitors: {}", without.words());
    println!("visitors: the same through the edge");
    let with = measure(&setting, &store, &through, PAUSE);
    println!("visitors: {}", with.words());
    slow.stop();
    up.stop()?;

    let text = page::written(&setting, load, share, [&capacity, &without, &with]);
    if setting.write {
        let file = root().join("docs/performance.md");
        fs::write(&file, text).doing(format_args!("writing {}", file.display()))?;
        println!("visitors: wrote {}", file.display());
    } else {
        print!("{text}");
    }
    if with.count(|it| it.outcome == Outcome::Hit) == 0 {
        return Err(Failure::new("nothing was a hit"));
    }
    Ok(())
}

fn setting(arguments: &[String]) -> Result<Setting, Failure> {
    let mut setting = Setting {
        visitors: 500,
        members_in_100: 10,
        seconds: 20,
        build: Build::Release,
        binary: None,
        write: false,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = |least: u64, most: u64| {
            let given = words.next().and_then(|it| it.parse().ok());
            given
                .filter(|it| (least..=most).contains(it))
                .ok_or_else(|| {
                    Failure::new(format!("{word} takes a number from {least} to {most}"))
                })
        };
        match word.as_str() {
            "--visitors" => setting.visitors = number(10, 2000)? as usize,
            "--seconds" => setting.seconds = number(2, 600)?,
            "--debug" => setting.build = Build::Debug,
            "--binary" => setting.binary = words.next().map(PathBuf::from),
            "--write" => setting.write = true,
            _ => {
                return Err(Failure::new(
                    "bench visitors takes --visitors N, --seconds N, --binary PATH (in place of a release build), --debug (for a try: the figures are of no use), --write",
                ));
            }
        }
    }
    if setting.write && matches!(setting.build, Build::Debug) {
        return Err(Failure::new(
            "figures of a debug build are not written down",
        ));
    }
    Ok(setting)
}

/// How long somebody looks at a page, from half to half as long again.
const PAUSE: Duration = Duration::from_secs(1);
/// The site is slowed down until it could answer so much of what visitors ask for.
const ASKED_FOR: f64 = 0.5;
const SESSION: &str = "__Host-session";

impl Way {
    fn through(up: &Up) -> Result<Self, Failure> {
        let at = format!("127.0.0.1:{}", up.port);
        let at = at
            .parse()
            .map_err(|_| Failure::new("the edge has no port"))?;
        Ok(Self {
            store: at,
            media: at,
            port: up.port.clone(),
        })
    }

    /// Past the edge: the policy that it was given says where the two are.
    fn straight(up: &Up, policy: &std::path::Path) -> Result<Self, Failure> {
        let policy = fs::read_to_string(policy).doing("reading the policy")?;
        let mut at = policy
            .split("url = \"http://")
            .skip(1)
            .map(|it| it.split('"').next().and_then(|it| it.parse().ok()));
        let (Some(Some(store)), Some(Some(media))) = (at.next(), at.next()) else {
            return Err(Failure::new("the policy does not say where the store is"));
        };
        Ok(Self {
            store,
            media,
            port: up.port.clone(),
        })
    }

    /// A browser for the store, and one for its pictures and films.
    fn browsers(&self) -> [Browser; 2] {
        [
            Browser::of(self.store, format!("localhost:{}", self.port)),
            Browser::of(self.media, format!("media.localhost:{}", self.port)),
        ]
    }
}

impl Store {
    fn found(way: &Way) -> Result<Self, Failure> {
        let [mut store, mut media] = way.browsers();
        let home = store.get("/en/")?;
        let at_media = format!("http://media.localhost:{}", way.port);
        let everybodys = [
            "/en/",
            "/ja/",
            "/en/films",
            "/ja/films",
            "/en/films?q=lighthouse",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain(addresses(&home, "href=\"/en/products/", "/en/products/"))
        .chain(addresses(&home, "href=\"/en/products/", "/ja/products/"));
        let target = |kind, is_media| {
            move |path| Target {
                kind,
                is_media,
                path,
            }
        };
        let cover = format!("src=\"{at_media}/covers/");
        let mut found = Self {
            everybodys: everybodys.map(target(Kind::Page, false)).collect(),
            covers: addresses(&home, &cover, "/covers/")
                .map(target(Kind::Cover, true))
                .collect(),
            style: addresses(&home, "href=\"/static/", "/static/")
                .map(target(Kind::Style, false))
                .next()
                .ok_or_else(|| Failure::new("the store's page has no style sheet"))?,
            films: Vec::new(),
            cookies: Vec::new(),
        };
        for mail in ["hanako@example.test", "taro@example.test"] {
            store.cookies.clear();
            let logged =
                store.post("/en/login", &[("mail", mail), ("password", "shikiri-demo")])?;
            if logged.status != 303 || !store.cookies.contains_key(SESSION) {
                return Err(Failure::new(format!(
                    "{mail} cannot log in: {}",
                    logged.status
                )));
            }
            found.cookies.push(store.cookies.clone());
            let films: &[&str] = if mail.starts_with("hanako") {
                &[
                    "last-lighthouse",
                    "bread-at-four",
                    "paper-rivers",
                    "slow-harbour",
                ]
            } else {
                &["night-trains"]
            };
            for film in films {
                let path = format!("/en/watch/{film}");
                store.post(&path, &[])?;
                let player = store.get(&path)?;
                let list = addresses(&player, &format!("src=\"{at_media}/t/"), "/t/").next();
                let list = list.ok_or_else(|| Failure::new(format!("{film} is not shown")))?;
                for part in [
                    "index.m3u8",
                    "init.mp4",
                    "part0.m4s",
                    "part1.m4s",
                    "part2.m4s",
                    "part3.m4s",
                    "part4.m4s",
                ] {
                    found
                        .films
                        .push(target(Kind::Film, true)(list.replace("index.m3u8", part)));
                }
            }
        }
        for one in found.films.iter().chain(&found.covers) {
            let answer = media.get(&one.path)?;
            if answer.status != 200 {
                return Err(Failure::new(format!(
                    "{} is answered with {}",
                    one.path, answer.status
                )));
            }
        }
        if found.covers.len() < 5 || found.everybodys.len() < 20 {
            return Err(Failure::new("the store's page names too little"));
        }
        Ok(found)
    }

    /// What somebody asks for next.
    fn next(&self, is_member: bool, dice: &mut Dice) -> Target {
        let path = |path: &str| Target {
            kind: Kind::Account,
            is_media: false,
            path: path.to_owned(),
        };
        match (dice.below(100), is_member) {
            (0..40, true) => dice.one_of(&self.films).clone(),
            (40..50, true) => path("/en/account"),
            (50..60, true) => path("/ja/account/orders"),
            (60..65, true) => path("/en/account/watched"),
            (65..80, true) | (0..50, false) => dice.one_of(&self.everybodys).clone(),
            (50..55, false) => self.style.clone(),
            _ => dice.one_of(&self.covers).clone(),
        }
    }
}

/// The addresses on a page that begin so, with `path` for their beginning.
fn addresses<'a>(
    page: &'a Answer,
    begin: &'a str,
    path: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let found = page.body.split(begin).skip(1);
    found.filter_map(move |it| Some(format!("{path}{}", it.split('"').next()?)))
}

fn measure(setting: &Setting, store: &Store, way: &Way, pause: Duration) -> Came {
    let all = Mutex::new(Vec::new());
    let begun = Instant::now();
    let until = begun + Duration::from_secs(setting.seconds);
    thread::scope(|scope| {
        for nth in 0..setting.visitors {
            let all = &all;
            let is_member = nth * 100 < setting.visitors * setting.members_in_100;
            let visitor = move || {
                let seen = visit(nth, is_member, store, way, pause, until);
                all.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(seen);
            };
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, visitor)
                .expect("a machine that has a thread for each visitor");
        }
    });
    Came {
        seen: all.into_inner().unwrap_or_else(PoisonError::into_inner),
        lasted: begun.elapsed(),
    }
}

/// One visitor, until the time is over.
fn visit(
    nth: usize,
    is_member: bool,
    store: &Store,
    way: &Way,
    pause: Duration,
    until: Instant,
) -> Vec<Seen> {
    let mut dice = Dice::new(u64::try_from(nth).unwrap_or_default());
    let [mut shop, mut media] = way.browsers();
    if is_member {
        shop.cookies
            .clone_from(&store.cookies[nth % store.cookies.len()]);
    }
    let pause_us = u64::try_from(pause.as_micros()).unwrap_or_default();
    let mut wait = || Duration::from_micros(pause_us / 2 + dice.below(pause_us.max(1)));
    // Nobody comes in step.
    thread::sleep(wait());
    let mut dice = Dice::new(u64::try_from(nth).unwrap_or_default() ^ 0xF00D);
    let mut seen = Vec::new();
    while Instant::now() < until {
        let target = store.next(is_member, &mut dice);
        let browser = if target.is_media {
            &mut media
        } else {
            &mut shop
        };
        let begun = Instant::now();
        let outcome = match browser.get(&target.path) {
            Ok(answer) if answer.status == 200 => outcome(&answer),
            Ok(_) | Err(_) => Outcome::Failed,
        };
        seen.push(Seen {
            kind: target.kind,
            took: begun.elapsed(),
            outcome,
        });
        thread::sleep(Duration::from_micros(
            pause_us / 2 + dice.below(pause_us.max(1)),
        ));
    }
    seen
}

fn outcome(answer: &Answer) -> Outcome {
    let said = answer.header("cache-status");
    if said.contains("; hit") {
        Outcome::Hit
    } else if said.contains("; collapsed") {
        Outcome::Collapsed
    } else {
        Outcome::AskedSite
    }
}

impl Came {
    fn count(&self, is_it: impl Fn(&Seen) -> bool) -> usize {
        self.seen.iter().filter(|it| is_it(it)).count()
    }

    /// Answers a second, of those that were answered.
    fn per_second(&self) -> f64 {
        let answered = self.count(|it| it.outcome != Outcome::Failed);
        answered as f64 / self.lasted.as_secs_f64()
    }

    /// Requests a second that reached the site.
    fn site_per_second(&self) -> f64 {
        let asked = self.count(|it| matches!(it.outcome, Outcome::AskedSite | Outcome::Failed));
        asked as f64 / self.lasted.as_secs_f64()
    }

    /// How long answers took, in milliseconds: of so many of a hundred no longer.
    fn took_ms(&self, in_100: usize, is_it: impl Fn(&Seen) -> bool) -> f64 {
        let mut took: Vec<_> = self
            .seen
            .iter()
            .filter(|it| is_it(it))
            .map(|it| it.took)
            .collect();
        took.sort_unstable();
        let nth = (took.len() * in_100 / 100).min(took.len().saturating_sub(1));
        took.get(nth).map_or(0.0, |it| it.as_secs_f64() * 1000.0)
    }

    fn words(&self) -> String {
        format!(
            "{} answers, {:.0} a second; p50 {:.0} ms, p99 {:.0} ms; {} failed; {} hits",
            self.seen.len(),
            self.per_second(),
            self.took_ms(50, |_| true),
            self.took_ms(99, |_| true),
            self.count(|it| it.outcome == Outcome::Failed),
            self.count(|it| it.outcome == Outcome::Hit),
        )
    }
}

/// The store and its delivery server with a share of their capacity; all of it again when this is dropped.
struct Slow(Vec<Child>);

impl Slow {
    fn start(up: &Up, share: f64) -> Result<Self, Failure> {
        let mut slowed = Self(Vec::new());
        for id in children(up.id()) {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if ![" site serve ", " site deliver "]
                .iter()
                .any(|it| line.contains(it))
            {
                continue;
            }
            let mut python = Command::new("python3");
            python
                .arg("-c")
                .arg(include_str!("slow.py"))
                .args([id.to_string(), share.to_string()])
                .stdin(Stdio::piped());
            slowed
                .0
                .push(python.spawn().doing("slowing the store down")?);
        }
        match slowed.0.len() {
            2 => Ok(slowed),
            found => Err(Failure::new(format!(
                "the store has {found} processes, not 2"
            ))),
        }
    }

    /// Its input ends, so it lets the process go on and ends.
    fn stop(mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
            drop(child.wait());
        }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
            if child.try_wait().is_err() {
                end(child);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came() -> Came {
        let seen = |kind, took_ms, outcome| Seen {
            kind,
            took: Duration::from_millis(took_ms),
            outcome,
        };
        let mut all: Vec<_> = (1..=98)
            .map(|ms| seen(Kind::Page, ms, Outcome::Hit))
            .collect();
        all.push(seen(Kind::Account, 500, Outcome::AskedSite));
        all.push(seen(Kind::Film, 30_000, Outcome::Failed));
        Came {
            seen: all,
            lasted: Duration::from_secs(10),
        }
    }

    #[test]
    fn what_failed_is_no_answer_and_reached_the_site() {
        let came = came();
        assert_eq!((came.per_second(), came.site_per_second()), (9.9, 0.2));
        assert_eq!(came.took_ms(50, |it| it.kind == Kind::Page), 50.0);
        assert_eq!(came.took_ms(99, |_| true), 30_000.0);
        assert_eq!(came.took_ms(99, |it| it.kind == Kind::Style), 0.0);
    }

    #[test]
    fn cache_status_says_whether_the_site_was_asked() {
        for (said, expected) in [
            ("shikiri; hit; ttl=30", Outcome::Hit),
            ("shikiri; fwd=uri-miss; collapsed", Outcome::Collapsed),
            ("shikiri; fwd=stale; fwd-status=304", Outcome::AskedSite),
            ("", Outcome::AskedSite),
        ] {
            let answer = Answer {
                headers: vec![("cache-status".to_owned(), said.to_owned())],
                ..Answer::default()
            };
            assert!(outcome(&answer) == expected, "{said}");
        }
    }

    #[test]
    fn the_page_says_when_the_machine_was_busy() {
        let setting = setting(&[]).expect("nothing is wrong with nothing");
        for (load, busy) in [(Some(0.4), false), (Some(3.0), true), (None, true)] {
            let text = page::written(&setting, load, 0.1, [&came(), &came(), &came()]);
            assert_eq!(text.contains("**The machine was busy"), busy, "{load:?}");
            assert!(
                text.contains("| members' own pages | 1 | 0.0 % | 0.0 % | 100.0 % |"),
                "{text}"
            );
        }
    }
}
