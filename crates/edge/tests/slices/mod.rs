//! Large objects in slices: seeking fetches little, and no two versions are ever joined.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shikiri_record::{Ended, PurgeTarget};
use tokio::time::sleep;

use crate::evidence::{fills, last};
use crate::world::{Answer, Reply, TestNode, get, raw};

const S: Duration = Duration::from_secs(1);
const KIB: u64 = 1 << 10;

const SLICES: &str = "version = 1\n[[class]]\nname = \"films\"\nmatch = { paths = [\"/films/**\"] }\n\
    to = \"everyone\"\ntypes = [\"text/css\", \"text/plain\"]\nslices = \"64 KiB\"\n\
    lifetime = { default = \"60s\", max = \"1h\", stale_if_error = \"10m\" }\n";

/// A film as an origin has it now. Each line of 16 bytes says its version and its place, so that any part
/// shows what it is of.
#[derive(Clone)]
struct Film {
    length: u64,
    version: char,
    max_age: u32,
    /// What the origin does wrong.
    lie: &'static str,
    /// It does so only with what begins behind this byte.
    lies_from: u64,
}

impl Film {
    const fn of(length: u64) -> Self {
        Self {
            length,
            version: 'a',
            max_age: 60,
            lie: "",
            lies_from: 0,
        }
    }

    fn part(&self, range: Range<u64>) -> String {
        let first = range.start / 16;
        let mut text = String::new();
        for line in first..range.end.div_ceil(16) {
            text += &format!("{}{line:014}\n", self.version);
        }
        let at = |byte: u64| usize::try_from(byte - first * 16).unwrap();
        let part = text.get(at(range.start)..at(range.end));
        part.unwrap().to_owned()
    }

    fn whole(&self) -> String {
        self.part(0..self.length)
    }

    fn field(request: &str, name: &str) -> Option<String> {
        let line = request
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(": ")?.1.to_owned())
    }

    /// As a server of files answers, but for the lie.
    fn answer(&self, request: &str) -> Reply {
        let etag = format!("\"{}\"", self.version);
        let range = Self::field(request, "range").map(|range| {
            let (first, last) = range
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            let last = last.parse().unwrap_or(u64::MAX).min(self.length - 1);
            first.parse().unwrap()..last + 1
        });
        let lie = match &range {
            Some(range) if range.start < self.lies_from => "",
            _ => self.lie,
        };
        if lie == "fails" {
            return raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        }
        if lie == "gone" {
            return raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
        let if_match = Self::field(request, "if-match").filter(|_| lie != "ignores If-Match");
        if if_match.is_some_and(|tag| tag != etag) {
            return raw("HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n");
        }
        let (age, tag) = match lie {
            "weak" => (self.max_age, format!("ETag: W/{etag}\r\n")),
            "no tag" => (self.max_age, String::new()),
            "two tags" => (self.max_age, format!("ETag: {etag}\r\nETag: \"z\"\r\n")),
            "another tag" => (self.max_age, "ETag: \"z\"\r\n".to_owned()),
            _ => (self.max_age, format!("ETag: {etag}\r\n")),
        };
        let mut fields = format!("Cache-Control: max-age={age}\r\nCache-Tag: films\r\n{tag}");
        if Self::field(request, "if-none-match").is_some_and(|tag| tag == etag) {
            return raw(&format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"));
        }
        fields += match lie {
            "gzip" => "Content-Type: text/css\r\nContent-Encoding: gzip\r\n",
            "another type" => "Content-Type: text/plain\r\n",
            "private" => "Content-Type: text/css\r\nCache-Control: private\r\n",
            "cookie" => "Content-Type: text/css\r\nSet-Cookie: a=b\r\n",
            "a document" => "Content-Type: text/html\r\n",
            _ => "Content-Type: text/css\r\n",
        };
        let Some(range) = range.filter(|_| lie != "no ranges") else {
            let (length, body) = (self.length, self.whole());
            return raw(&format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
            ));
        };
        let (mut first, mut last, mut length) = (range.start, range.end - 1, self.length);
        match lie {
            "another start" => first += 1,
            "another end" => last -= 1,
            "another length" => length += 1,
            _ => {}
        }
        let mut body = self.part(range);
        let declared = body.len();
        let length = match lie {
            "no length" => "*".to_owned(),
            _ => length.to_string(),
        };
        fields += &match lie {
            "no range" => String::new(),
            "two ranges" => format!(
                "Content-Range: bytes {first}-{last}/{length}\r\nContent-Range: bytes 0-1/2\r\n"
            ),
            _ => format!("Content-Range: bytes {first}-{last}/{length}\r\n"),
        };
        match lie {
            "truncated" => body.truncate(declared - 1),
            "shorter" => {
                body.truncate(declared - 1);
                let reply = format!(
                    "HTTP/1.1 206 Partial Content\r\n{fields}Content-Length: {}\r\n\r\n{body}",
                    declared - 1
                );
                return raw(&reply);
            }
            "longer" => {
                let reply = format!(
                    "HTTP/1.1 206 Partial Content\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}zz\r\n0\r\n\r\n",
                    declared + 2
                );
                return raw(&reply);
            }
            "chunked" => {
                let reply = format!(
                    "HTTP/1.1 206 Partial Content\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{declared:x}\r\n{body}\r\n0\r\n\r\n"
                );
                return raw(&reply);
            }
            _ => {}
        }
        let reply = raw(&format!(
            "HTTP/1.1 206 Partial Content\r\n{fields}Content-Length: {declared}\r\n\r\n{body}"
        ));
        if lie == "truncated" {
            return reply.closing();
        }
        reply
    }
}

/// A node before an origin whose film may change.
struct Cinema {
    node: TestNode,
    film: Arc<Mutex<Film>>,
}

impl Cinema {
    fn new(film: Film) -> Self {
        let film = Arc::new(Mutex::new(film));
        let shown = Arc::clone(&film);
        let node = TestNode::new(SLICES, move |asked| shown.lock().unwrap().answer(asked));
        Self { node, film }
    }

    fn film(&self) -> Film {
        self.film.lock().unwrap().clone()
    }

    fn change(&self, change: impl FnOnce(&mut Film)) {
        change(&mut self.film.lock().unwrap());
    }

    async fn get(&self, lines: &str) -> Answer {
        self.node.get("/films/1", lines).await
    }

    /// What the origin was asked since, a line each: the range and the condition.
    fn asked(&self, since: usize) -> Vec<String> {
        let seen = self.node.seen().split_off(since);
        let asked = seen.iter().map(|seen| {
            let of = |name| Film::field(&seen.text, name).unwrap_or_default();
            assert!(!seen.text.to_ascii_lowercase().contains("cookie"));
            format!("{} {}{}", of("range"), of("if-match"), of("if-none-match"))
        });
        asked.map(|line| line.trim().to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn seeking_fetches_what_it_needs_and_stores_no_whole_film() {
    let cinema = Cinema::new(Film::of(300 << 20));
    let end = cinema
        .get("Range: bytes=-100\r\nCookie: sid=alice\r\n")
        .await;
    let length = cinema.film().length;
    assert_eq!(
        (end.status, end.field("content-range").unwrap().to_owned()),
        (
            206,
            format!("bytes {}-{}/{length}", length - 100, length - 1)
        )
    );
    assert_eq!(end.body, cinema.film().part(length - 100..length));
    assert_eq!(
        cinema.asked(0),
        [
            "bytes=0-65535".to_owned(),
            format!("bytes={}-{} \"a\"", length - 64 * KIB, length - 1)
        ]
    );
    let again = cinema.get("Range: bytes=-50\r\n").await;
    assert_eq!(again.body, cinema.film().part(length - 50..length));
    assert!(
        again.cache().starts_with("shikiri; hit; ttl="),
        "{}",
        again.cache()
    );
    assert_eq!(cinema.node.asked(), 2);
    assert!(cinema.node.node.counts().bytes < 3 * 64 * KIB);
    // A part of two slices of which one is stored.
    let across = length - 64 * KIB - 10..length - 64 * KIB + 10;
    let lines = format!("Range: bytes={}-{}\r\n", across.start, across.end - 1);
    let part = cinema.get(&lines).await;
    assert_eq!(part.body, cinema.film().part(across));
    assert_eq!(part.cache(), "shikiri; fwd=partial");
    assert_eq!(cinema.node.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_film_in_slices_is_answered_as_one_object() {
    let cinema = Cinema::new(Film::of(5 * 64 * KIB + 100));
    let film = cinema.film();
    let length = film.length;
    let whole = cinema.get("").await;
    assert!(whole.status == 200 && whole.body == film.whole());
    assert_eq!(
        whole.cache(),
        "shikiri; fwd=uri-miss; fwd-status=206; stored"
    );
    assert_eq!(
        whole.field("content-length"),
        Some(length.to_string().as_str())
    );
    assert_eq!(whole.field("content-range"), None);
    assert_eq!(cinema.node.asked(), 6);
    let all = 0..length;
    let none = 0..0;
    for (lines, status, expected) in [
        ("", 200, all.clone()),
        ("Range: bytes=0-0\r\n", 206, 0..1),
        ("Range: bytes=65530-65545\r\n", 206, 65530..65546),
        ("Range: bytes=65536-196607\r\n", 206, 65536..196_608),
        ("Range: bytes=327770-\r\n", 206, 327_770..length),
        ("Range: bytes=-1\r\n", 206, length - 1..length),
        ("Range: bytes=0-1,5-6\r\n", 200, all.clone()),
        ("Range: bytes=999999-\r\n", 416, none.clone()),
        ("Range: bytes=0-9\r\nIf-Range: \"a\"\r\n", 206, 0..10),
        ("Range: bytes=0-9\r\nIf-Range: \"b\"\r\n", 200, all.clone()),
        ("If-None-Match: \"a\"\r\n", 304, none.clone()),
        ("If-None-Match: \"b\"\r\n", 200, all.clone()),
        ("If-Match: \"b\"\r\n", 412, none.clone()),
    ] {
        let got = cinema.get(lines).await;
        assert_eq!((got.status, got.cut), (status, false), "{lines}");
        assert!(
            got.body == film.part(expected),
            "{lines}: {} bytes",
            got.body.len()
        );
    }
    // All that was from the store.
    assert_eq!(cinema.node.asked(), 6);
    let mut client = cinema.node.client();
    client
        .send("HEAD /films/1 HTTP/1.1\r\nHost: site.test\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n")
        .await;
    let head = client.rest().await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains(&format!("content-length: {length}\r\n")),
        "{head}"
    );
    assert!(head.ends_with("\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_film_that_changes_is_cut_and_never_joined() {
    for (changes, lie) in [(false, ""), (true, ""), (true, "ignores If-Match")] {
        let cinema = Cinema::new(Film::of(40 * 64 * KIB));
        let old = cinema.film();
        let mut client = cinema.node.client_with(8 << 10);
        client.send(&get("/films/1", "")).await;
        // It is read no faster than it is taken, so most of it is still to be fetched.
        sleep(S).await;
        if changes {
            cinema.change(|film| {
                film.version = 'b';
                film.lie = lie;
            });
        }
        let got = client.answer().await;
        assert_eq!((got.status, got.cut), (200, changes), "{lie}");
        assert!(old.whole().starts_with(&got.body), "{lie}");
        if !changes {
            // The control: what is not changed is whole, and a hit.
            assert!(got.body == old.whole());
            let asked = cinema.node.asked();
            assert!(cinema.get("").await.body == old.whole());
            assert_eq!(cinema.node.asked(), asked);
            continue;
        }
        assert!(!got.body.is_empty());
        let next = cinema.get("Range: bytes=1000000-1000099\r\n").await;
        assert_eq!(next.body, cinema.film().part(1_000_000..1_000_100), "{lie}");
        assert_eq!(cinema.node.node.counts().sets_ended, 1, "{lie}");
        cinema.change(|film| film.lie = "");
        let whole = cinema.get("").await;
        assert!(whole.body == cinema.film().whole(), "{lie}");
    }
}

/// A response that was to be of slices, from an origin that does something wrong with all but the first.
async fn check_slice(lie: &'static str, ends_set: bool) {
    let cinema = Cinema::new(Film {
        lie,
        lies_from: 1,
        ..Film::of(4 * 64 * KIB)
    });
    let old = cinema.film();
    let got = cinema.get("").await;
    assert_eq!((got.status, got.cut), (200, true), "{lie}");
    assert!(old.whole().starts_with(&got.body), "{lie}");
    assert!(got.body.len() <= 128 << 10, "{lie}");
    assert_eq!(
        cinema.node.node.counts().sets_ended,
        u64::from(ends_set),
        "{lie}"
    );
    // What is mended is whole again.
    cinema.change(|film| film.lie = "");
    sleep(60 * S).await;
    let whole = cinema.get("").await;
    assert!(whole.body == old.whole() && !whole.cut, "{lie}");
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_is_not_of_its_set_is_shown_to_nobody() {
    for lie in [
        "no ranges",
        "weak",
        "no tag",
        "two tags",
        "another tag",
        "gzip",
        "another type",
        "private",
        "cookie",
        "a document",
        "another start",
        "another end",
        "another length",
        "no length",
        "no range",
        "two ranges",
        "shorter",
        "longer",
        "gone",
    ] {
        check_slice(lie, true).await;
    }
    for lie in ["fails", "truncated"] {
        check_slice(lie, false).await;
    }
}

/// A film whose origin does something wrong from the start: whether it comes whole, and how often it was
/// asked.
async fn check_first(length: u64, lie: &'static str, asked: &[&str]) {
    let cinema = Cinema::new(Film {
        lie,
        ..Film::of(length)
    });
    let got = cinema.get("").await;
    assert_eq!((got.status, got.cut), (200, false), "{lie}");
    assert!(got.body == cinema.film().whole(), "{lie}");
    assert_eq!(cinema.asked(0), asked, "{lie}");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_slices_goes_whole() {
    const FIRST: &str = "bytes=0-65535";
    let film = 3 * 64 * KIB;
    // The control.
    check_first(
        film,
        "",
        &[
            FIRST,
            "bytes=65536-131071 \"a\"",
            "bytes=131072-196607 \"a\"",
        ],
    )
    .await;
    check_first(
        film,
        "chunked",
        &[
            FIRST,
            "bytes=65536-131071 \"a\"",
            "bytes=131072-196607 \"a\"",
        ],
    )
    .await;
    check_first(film, "no ranges", &[FIRST]).await;
    for lie in [
        "weak",
        "no tag",
        "two tags",
        "another start",
        "another end",
        "no length",
        "no range",
        "two ranges",
        "shorter",
    ] {
        check_first(film, lie, &[FIRST, ""]).await;
    }
    // What fits into one slice is whole, whatever its entity tag.
    for lie in ["", "weak", "no tag", "chunked"] {
        check_first(1000, lie, &[FIRST]).await;
        check_first(64 * KIB, lie, &[FIRST]).await;
    }
    // What is forbidden is forbidden in slices too: it passes, and is not asked for again as a shared one.
    for lie in ["private", "cookie"] {
        check_first(film, lie, &[FIRST, ""]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_slice_that_breaks_off_is_cut_and_not_stored() {
    let cinema = Cinema::new(Film {
        lie: "truncated",
        ..Film::of(3 * 64 * KIB)
    });
    let got = cinema.get("Range: bytes=0-65535\r\n").await;
    assert_eq!((got.status, got.cut), (206, true));
    assert_eq!(cinema.node.node.counts().objects, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_many_want_is_fetched_once() {
    let cinema = Arc::new(Cinema::new(Film::of(10 * 64 * KIB)));
    let lines = "Range: bytes=600000-600009\r\n";
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = cinema.node.client();
        client.send(&get("/films/1", lines)).await;
        clients.push(client);
    }
    for mut client in clients {
        let got = client.answer().await;
        assert_eq!(got.body, cinema.film().part(600_000..600_010));
    }
    assert_eq!(cinema.node.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_purge_drops_all_slices_and_cuts_who_reads() {
    let uri = PurgeTarget::Uri("http://site.test/films/1".into());
    let prefix = PurgeTarget::Prefix("http://site.test/films/".into());
    let tag = PurgeTarget::Tag {
        tag: "films".into(),
        host: None,
    };
    for target in [uri, prefix, tag, PurgeTarget::All] {
        let cinema = Cinema::new(Film::of(40 * 64 * KIB));
        let mut client = cinema.node.client_with(8 << 10);
        client.send(&get("/films/1", "")).await;
        sleep(S).await;
        cinema.node.purge_targets(std::slice::from_ref(&target));
        let before = cinema.node.asked();
        let got = client.answer().await;
        assert!(
            got.cut && cinema.film().whole().starts_with(&got.body),
            "{target:?}"
        );
        cinema.change(|film| film.version = 'b');
        let part = cinema.get("Range: bytes=65536-65545\r\n").await;
        assert_eq!(part.body, cinema.film().part(65536..65546), "{target:?}");
        assert_eq!(
            cinema.asked(before),
            ["bytes=0-65535", "bytes=65536-131071 \"b\""],
            "{target:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_confirmed_keeps_its_slices() {
    let cinema = Cinema::new(Film::of(4 * 64 * KIB));
    cinema.get("").await;
    sleep(61 * S).await;
    assert!(cinema.get("").await.body == cinema.film().whole());
    assert_eq!(cinema.asked(4), ["bytes=0-65535 \"a\""]);
    // One that is not, is another set.
    sleep(61 * S).await;
    cinema.change(|film| film.version = 'b');
    assert!(cinema.get("").await.body == cinema.film().whole());
    assert_eq!(cinema.node.asked(), 9);
    // When the origin fails, what is stored stands in, and what is not cannot be had.
    cinema.node.purge(&["http://site.test/films/1"]);
    cinema.get("Range: bytes=70000-70009\r\n").await;
    cinema.change(|film| film.lie = "fails");
    sleep(61 * S).await;
    let stored = cinema.get("Range: bytes=70000-70009\r\n").await;
    assert_eq!(
        (stored.status, stored.body),
        (206, cinema.film().part(70000..70010))
    );
    let missing = cinema.get("Range: bytes=140000-140009\r\n").await;
    assert_eq!(missing.status, 502);
}

#[tokio::test(start_paused = true)]
async fn rows_name_the_fill_that_found_the_set() {
    let cinema = Cinema::new(Film::of(10 * 64 * KIB));
    for (lines, how) in [
        ("Range: bytes=0-9\r\n", "fill"),
        ("Range: bytes=600000-600009\r\n", "fill"),
        ("Range: bytes=600000-600009\r\n", "hit"),
        ("Range: bytes=0-9\r\n", "hit"),
    ] {
        cinema.get(lines).await;
        let (words, ended) = last(&cinema.node);
        assert_eq!(words, format!("{how}  films GET 206 fill"), "{lines}");
        assert_eq!(ended, Some((Ended::Complete, 10)));
    }
    let fills = fills(&cinema.node);
    assert_eq!(fills.len(), 4);
    assert!(fills.iter().all(|fill| fill.is_some() && *fill == fills[0]));
}
