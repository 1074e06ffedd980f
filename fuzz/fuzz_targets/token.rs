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

fuzz_target!(|bytes: &[u8]| {
    let Some(uri) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|t| t.parse::<Uri>().ok())
    else {
        return;
    };
    let headers =
        HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("shop.test"))]);
    let Ok(head) = RequestHead::parse(Scheme::Http, Version::HTTP_11, &Method::GET, &uri, &headers)
    else {
        return;
    };
    let path = head.path.to_owned();
    let is_opened = match RULES.classify(&head, UNDER) {
        Classified::Tokened(tokened) => tokened.open(NOW).is_ok(),
        Classified::Refused(_) => false,
        // What can be read in two ways goes on as itself, and bears no credential of the edge's.
        Classified::Personal(_) => {
            assert!(!path.starts_with("/t/"), "a token went on to the origin");
            return;
        }
        Classified::Shared(_) | Classified::Gated(_) => {
            // The built-in class of static files, elsewhere.
            let is_behind = ["/t/", "/films/", "/clips/"]
                .iter()
                .any(|of| path.starts_with(of));
            assert!(!is_behind, "what is behind a token was shared without one");
            return;
        }
    };
    if is_opened {
        let in_path = path.starts_with(&format!("/t/{TOKEN}/films/1/"));
        assert!(in_path, "it opens by a token that nobody made");
    }
});
