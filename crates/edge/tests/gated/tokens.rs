//! What is opened by a token in the URL.

use std::collections::BTreeMap;
use std::time::Duration;

use shikiri_partition::{Rules, Secret, SecretSource};
use shikiri_record::{Mode, PurgeTarget};

use crate::evidence::{last, targets};
use crate::world::{Answer, Reply, TestNode, raw, reply, rules, said};

const CREDENTIAL: &str = "0123456789abcdef-edge";
const SECRET: &str = "an-example-of-a-secret-0123456789";
const OLD: &str = "the-secret-of-last-month-98765432";

/// Of `docs/policy.md`, until 1,800,000,000; the clock of these tests begins there, less its times.
fn class(place: &str) -> String {
    format!(
        "version = 1\n[[class]]\nname = \"films\"\nmatch = {{ paths = [\"/films/**\"] }}\nto = \"gated\"\n\
         types = [\"text/css\"]\nquery = [\"q\"]\nlifetime = {{ default = \"60s\", max = \"1h\" }}\n\
         gate = {{ {place}, envs = [\"NEW\", \"OLD\"] }}\ncredential = {{ header = \"X-Edge-Key\", env = \"FILMS\" }}\n"
    )
}

fn armed(policy: &str) -> Rules {
    let secret = |name: &str, value: &str| {
        let secret = Secret::new(value.as_bytes()).unwrap();
        (SecretSource::Environment(name.into()), secret)
    };
    let secrets = [
        secret("FILMS", CREDENTIAL),
        secret("NEW", SECRET),
        secret("OLD", OLD),
    ];
    rules(policy).armed(&BTreeMap::from(secrets))
}

const IN_PATH: &str = "token = \"path\", prefix = \"/t/\"";
const IN_QUERY: &str = "token = \"query\", parameter = \"t\"";

fn node(place: &str) -> TestNode {
    TestNode::with(armed(&class(place)), origin)
}

/// An origin that shows films to whoever bears the edge's credential, and says what it was asked.
fn origin(asked: &str) -> Reply {
    if !asked.contains(&format!("x-edge-key: {CREDENTIAL}\r\n")) {
        return raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let line = asked.split(" HTTP").next().unwrap_or_default();
    reply(
        "200 OK\r\nContent-Type: text/css\r\nCache-Control: public, max-age=60\r\nETag: \"f\"",
        line,
    )
}

/// Tokens of these tests, made with Python as the manual has it: for which secret, until when, what it
/// opens and for whom.
const TOKENS: [(&str, &str); 7] = [
    (
        "mine",
        "1800009000.9.m-17.b25952dd544fdd81720b87cd4f793e5d4ead00c05f64df3ed274a2ee94edaf0e",
    ),
    (
        "another's",
        "1800009000.9.m-18.c9ed54f56af212025d22da138dcbff304bdb1b364768c6bf3a6d013e7e5b1468",
    ),
    (
        "the old secret's",
        "1800009000.9.b38423fc2227388b05c976d9fb20b614c2de9a1c9361504601736595e074d3e4",
    ),
    (
        "one file's",
        "1800009000.14.574693ec28c81be9ea1c9e7e26724ec3b453fd5b82a096b2afa8f8ad61855122",
    ),
    (
        "a foreign secret's",
        "1800009000.9.7d6438c48f7c9274161bce20b991ddcc07a55f9805c5f4d21d305c078472784e",
    ),
    (
        "over",
        "1799999999.9.641c4dfa3b874d949ae4285ffdd6c81b4f562883eea72d3d1c33378cb1fb0915",
    ),
    (
        "short",
        "1800000030.9.15d9a889205e613cf9788081363e851a6b6bd82a51524a9d31031370f6ee9eb1",
    ),
];

fn token(name: &str) -> &'static str {
    let found = TOKENS.iter().find(|(of, _)| *of == name);
    found.unwrap_or_else(|| panic!("{name}")).1
}

async fn get(node: &TestNode, url: &str) -> Answer {
    let answer = node
        .get(
            url,
            "Cookie: sid=alice\r\nReferer: http://site.test/t/secret-token/films/1\r\n",
        )
        .await;
    for seen in node.seen() {
        for (_, token) in TOKENS {
            assert!(!seen.text.contains(token), "the origin is told a token");
        }
        assert!(
            !seen.text.contains("secret-token"),
            "the origin is told a token"
        );
    }
    answer
}

#[tokio::test(start_paused = true)]
async fn a_token_opens_what_it_is_for_and_all_share_one_copy() {
    let node = node(IN_PATH);
    for (name, url, expected) in [
        ("mine", "/films/1/a.css", Ok(())),
        ("another's", "/films/1/a.css", Ok(())),
        ("the old secret's", "/films/1/a.css", Ok(())),
        ("mine", "/films/1/b.css", Ok(())),
        ("one file's", "/films/1/a.css", Ok(())),
        ("one file's", "/films/1/b.css", Err("token-wrong")),
        ("mine", "/films/2/a.css", Err("token-wrong")),
        ("mine", "/other", Err("token-not-for-this")),
        ("a foreign secret's", "/films/1/a.css", Err("token-wrong")),
        ("over", "/films/1/a.css", Err("token-expired")),
    ] {
        let got = get(&node, &format!("/t/{}{url}", token(name))).await;
        match expected {
            Ok(()) => {
                assert_eq!(
                    (got.status, got.body),
                    (200, format!("GET {url}")),
                    "{name}"
                );
                let lifetime = got.head.to_ascii_lowercase();
                assert!(lifetime.contains("cache-control: private"), "{}", got.head);
            }
            Err(why) => {
                assert_eq!(
                    (got.status, got.body.trim()),
                    (403, &*format!("403 Forbidden: {why}")),
                    "{name}"
                );
            }
        }
    }
    // The control: the two films that were opened were fetched once each, whoever came.
    assert_eq!(node.asked(), 2);
    for (url, why) in [
        ("/films/1/a.css", "no-token"),
        ("/t/x/films/1/a.css", "token-malformed"),
        ("/t/films", "token-malformed"),
        ("/t//films/1/a.css", "token-malformed"),
    ] {
        let got = get(&node, url).await;
        assert_eq!(
            (got.status, got.body.trim()),
            (403, &*format!("403 Forbidden: {why}")),
            "{url}"
        );
    }
    let post = format!(
        "POST /t/{}/films/1/a.css HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1\r\n\r\nx",
        token("mine")
    );
    assert_eq!(node.ask(&post).await.status, 403);
    assert_eq!(node.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_s_time_ends_it_though_all_is_stored() {
    let node = node(IN_PATH);
    let url = format!("/t/{}/films/1/a.css", token("short"));
    assert_eq!(get(&node, &url).await.status, 200);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(get(&node, &url).await.cache().starts_with("shikiri; hit"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let over = get(&node, &url).await;
    assert_eq!(
        (over.status, over.body.trim()),
        (403, "403 Forbidden: token-expired")
    );
    // The control: another's is good still.
    let url = format!("/t/{}/films/1/a.css", token("mine"));
    assert!(get(&node, &url).await.cache().starts_with("shikiri; hit"));
}

#[tokio::test(start_paused = true)]
async fn a_token_in_a_parameter() {
    let node = node(IN_QUERY);
    let mine = token("mine");
    for (url, status, expected) in [
        (
            format!("/films/1/a.css?t={mine}"),
            200,
            "GET /films/1/a.css",
        ),
        (
            format!("/films/1/a.css?q=1&t={mine}&x=2"),
            200,
            "GET /films/1/a.css?q=1",
        ),
        (
            format!("/films/1/a.css?t={mine}&q=1"),
            200,
            "GET /films/1/a.css?q=1",
        ),
        (
            format!("/films/1/a.css?t={mine}&t={mine}"),
            403,
            "403 Forbidden: token-malformed",
        ),
        ("/films/1/a.css".to_owned(), 403, "403 Forbidden: no-token"),
        (
            format!("/films/2/a.css?t={mine}"),
            403,
            "403 Forbidden: token-wrong",
        ),
    ] {
        let got = get(&node, &url).await;
        assert_eq!((got.status, got.body.trim()), (status, expected), "{url}");
    }
    assert_eq!(node.asked(), 2);
    // What no class of tokens claims is the site's own, whatever its parameters are called.
    let got = node.get("/search?t=x", "").await;
    assert_eq!(got.status, 403);
    assert!(
        node.seen()
            .last()
            .unwrap()
            .text
            .starts_with("GET /search?t=x ")
    );
}

#[tokio::test(start_paused = true)]
async fn rows_say_what_was_shown_and_to_whom_without_the_token() {
    let node = node(IN_PATH);
    for name in ["mine", "another's", "the old secret's"] {
        let url = format!("/t/{}/films/1/a.css", token(name));
        assert_eq!(get(&node, &url).await.status, 200);
    }
    let rows = targets(&node);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|(target, _)| *target == rows[0].0));
    let members: Vec<bool> = rows.iter().map(|(_, member)| member.is_some()).collect();
    assert_eq!(members, [true, true, false]);
    assert!(rows[0].1 != rows[1].1);
    // The target is that of the URL without it.
    node.purge_targets(&[PurgeTarget::Uri("http://site.test/films/1/a.css".into())]);
    get(&node, &format!("/t/{}/films/1/a.css", token("mine"))).await;
    assert_eq!(last(&node).0, "fill  films GET 200 fill");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_shared_a_token_opens_a_pass() {
    let node = node(IN_PATH);
    node.node.take_mode(Mode::Pass, None, &said()).unwrap();
    let url = format!("/t/{}/films/1/a.css", token("mine"));
    let got = get(&node, &url).await;
    assert_eq!((got.status, got.body.as_str()), (200, "GET /films/1/a.css"));
    let asked = node.seen().last().unwrap().text.to_ascii_lowercase();
    assert!(
        asked.contains("cookie: sid=alice") && !asked.contains("referer"),
        "{asked}"
    );
    assert_eq!(
        get(&node, &format!("/t/{}/films/1/a.css", token("over")))
            .await
            .status,
        403
    );
}
