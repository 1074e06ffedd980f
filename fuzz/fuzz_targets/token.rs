//! Any target under rules of a class that opens by tokens: nothing is opened but by a token that was
//! made, for what it was made for; and nothing that stands where tokens do goes on to an origin as itself.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use libfuzzer_sys::fuzz_target;
use shikiri_fuzz::{NOW, UNDER};
use shikiri_partition::{Classified, RequestHead, Rules, Scheme, Secret, SecretSource, policy};
use shikiri_record::PolicyText;

const POLICY: &str = r#"
version = 1
[[origin]]
hosts = ["*"]
url = "http://127.0.0.1:8080"
[[class]]
name = "films"
match = { paths = ["/films/**"] }
to = "gated"
types = ["video/*"]
gate = { token = "path", prefix = "/t/", envs = ["T"] }
credential = { header = "X-Edge-Key", env = "C" }
[[class]]
name = "clips"
match = { paths = ["/clips/**"] }
to = "gated"
types = ["video/*"]
gate = { token = "query", parameter = "t", envs = ["T"] }
credential = { header = "X-Edge-Key", env = "C" }
"#;

/// Of `docs/policy.md`: it opens `/films/1/`.
const TOKEN: &str =
    "1800000000.9.m-17.8500a0470fee62bb62089ba6fdbd11d5215809979d4da78c3553b8096cbdc5bd";

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let text = PolicyText {
        source: "tokens.toml".into(),
        text: POLICY.into(),
    };
    let rules = policy::compile(Some(&text), None).expect("the policy is a policy");
    let secret = |name: &str, value: &[u8]| {
        let secret = Secret::new(value).expect("it is a secret");
        (SecretSource::Environment(name.into()), secret)
    };
    rules.armed(&BTreeMap::from([
        secret("T", b"an-example-of-a-secret-0123456789"),
        secret("C", b"0123456789abcdef-edge"),
    ]))
});

/// What the rules make of a target, and whether that opens; `None`: it is no request.
fn judged(text: &str) -> Option<(String, Judged)> {
    let uri = text.parse::<Uri>().ok()?;
    let headers =
        HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("shop.test"))]);
    let head =
        RequestHead::parse(Scheme::Http, Version::HTTP_11, &Method::GET, &uri, &headers).ok()?;
    let judged = match RULES.classify(&head, UNDER) {
        Classified::Tokened(tokened) => match tokened.open(NOW) {
            Ok(_) => Judged::Opened,
            Err(_) => Judged::Shut,
        },
        Classified::Refused(_) => Judged::Shut,
        Classified::Personal(_) => Judged::Itself,
        Classified::Shared(_) | Classified::Gated(_) => Judged::WithoutToken,
    };
    Some((head.path.to_owned(), judged))
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Opened,
    Shut,
    /// It goes on as itself, and bears no credential of the edge's.
    Itself,
    WithoutToken,
}

/// A target in which nothing ever opens would find nothing.
fn control() {
    let opened = judged(&format!("/t/{TOKEN}/films/1/index.m3u8")).map(|(_, judged)| judged);
    assert_eq!(opened, Some(Judged::Opened), "the token that was made");
}

fuzz_target!(
    init: control(),
    |bytes: &[u8]| {
        let Some((path, judged)) = std::str::from_utf8(bytes).ok().and_then(judged) else {
            return;
        };
        match judged {
            Judged::Shut => {}
            Judged::Opened => assert!(
                path.starts_with(&format!("/t/{TOKEN}/films/1/")),
                "it opens by a token that nobody made"
            ),
            // What can be read in two ways, too.
            Judged::Itself => {
                assert!(!path.starts_with("/t/"), "a token went on to the origin");
            }
            // The built-in class of static files, elsewhere.
            Judged::WithoutToken => assert!(
                !["/t/", "/films/", "/clips/"].iter().any(|of| path.starts_with(of)),
                "what is behind a token was shared without one"
            ),
        }
    }
);
