//! What requests are taken for, and which of them share a copy.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use proptest::prelude::*;
use shikiri_partition::{
    Begun, Classified, Constants, Gated, Key, Opened, Personal, Refused, RequestHead, Requester,
    Rules, Scheme, Secret, SecretSource, SharedFetch, Shut, Under, policy,
};
use shikiri_record::{Epoch, FillId, GrantId, Mode, Order, PolicyText, UnixMillis};

const POLICY: &str = r#"
version = 1
[session]
cookies = ["sessionid", "__Host-*"]
ignorable_cookies = ["theme"]
headers = ["x-user"]
query = ["invite"]
query_public = ["v"]
segments = ["me", "u-*"]
[[origin]]
hosts = ["shop.test", "*.shop.test"]
url = "http://127.0.0.1:8080"
[[origin]]
hosts = ["own.test"]
url = "http://[::1]:81"
host_header = "origin"
[[personal]]
paths = ["/account/**", "/%E7%A7%81/**"]
[[personal]]
query_has = ["preview"]
[[class]]
name = "search"
match = { paths = ["/search"], query_has = ["q"] }
to = "anonymous"
types = ["text/html"]
query = ["q", "page"]
query_else = "personal"
[[class]]
name = "pages"
match = { hosts = ["shop.test", "own.test"], paths = ["/", "/news/**", "/account/**"], query_lacks = ["edit*"] }
to = "anonymous"
query = ["page", "q"]
key_headers = ["accept-language"]
[[class]]
name = "feed"
match = { paths = ["/feed"] }
to = "everyone"
types = ["application/rss+xml"]
key_encoding = false
[[class]]
name = "tags"
match = { paths = ["/tags/**"] }
to = "everyone"
types = ["text/html"]
query = []
"#;

fn rules() -> Rules {
    let text = PolicyText {
        source: "p.toml".into(),
        text: POLICY.into(),
    };
    policy::compile(Some(&text), None).expect("the policy has no faults")
}

/// A request in one line: method, host and target, then header lines.
fn classify_in(rules: &Rules, epoch: u64, scheme: Scheme, request: &str) -> Classified {
    let under = Under {
        mode: Mode::Open,
        epoch: Epoch(epoch),
        grant: None,
    };
    classify_under(rules, under, scheme, request)
}

fn classify_under(rules: &Rules, under: Under, scheme: Scheme, request: &str) -> Classified {
    let mut lines = request.lines().map(str::trim);
    let words: Vec<&str> = lines.next().expect("a request").split(' ').collect();
    let [method, host, target] = words[..] else {
        panic!("method, host and target: {request}")
    };
    let method: Method = method.parse().expect("a method");
    let uri: Uri = target.parse().expect("a target");
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_str(host).expect("a host"));
    for line in lines {
        let (name, value) = line.split_once(": ").expect("name: value");
        let name: HeaderName = name.parse().expect("a header name");
        headers.append(
            name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
        );
    }
    let head =
        RequestHead::parse(scheme, Version::HTTP_11, &method, &uri, &headers).expect("a head");
    rules.classify(&head, under)
}

fn classify(request: &str) -> Classified {
    classify_in(&rules(), 1, Scheme::Https, request)
}

fn shared(request: &str) -> (String, Key, Requester) {
    match classify(request) {
        Classified::Shared(sharing) => (
            sharing.class().name.clone(),
            sharing.key().clone(),
            sharing.requester(),
        ),
        other => panic!("{request}: {other:?}"),
    }
}

fn is_shared(request: &str, class: &str) {
    assert_eq!(shared(request).0, class, "{request}");
}

fn is_personal(request: &str, expected: Personal) {
    match classify(request) {
        Classified::Personal(pass) => assert_eq!(*pass.why(), expected, "{request}"),
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn the_first_class_that_matches_claims() {
    is_shared("GET shop.test /", "pages");
    is_shared("HEAD shop.test /", "pages");
    is_shared("GET shop.test /news/1", "pages");
    is_shared("GET shop.test /news/a.css", "pages");
    is_shared("GET shop.test /a/b.css", "assets");
    is_shared("GET a.shop.test /news/a.css", "assets");
    is_shared("GET shop.test /a/B.CSS", "assets");
    is_shared("GET shop.test /feed", "feed");
    is_shared("GET shop.test /search?q=shoes&page=2", "search");
    is_shared("GET shop.test /tags/a?b=1", "tags");
}

#[test]
fn what_no_class_claims_is_personal() {
    for request in [
        "GET shop.test /other",
        "GET shop.test /search",
        "GET shop.test /news",
        "GET a.shop.test /news/1",
        "GET shop.test /?edit=1",
        "GET shop.test /?editor",
        "GET shop.test /a.html",
        "GET shop.test /a.css/",
        "GET shop.test /css",
        "GET shop.test /feed/",
    ] {
        is_personal(request, Personal::NoClass);
    }
}

#[test]
fn only_reading_can_be_shared() {
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE", "get",
    ] {
        is_personal(&format!("{method} shop.test /"), Personal::Method);
    }
    is_personal("GET shop.test /\ncontent-length: 5", Personal::HasBody);
    is_personal(
        "GET shop.test /\ntransfer-encoding: chunked",
        Personal::HasBody,
    );
    is_shared("GET shop.test /\ncontent-length: 0", "pages");
}

#[test]
fn personal_goes_before_every_class() {
    is_personal("GET shop.test /account/orders", Personal::Declared);
    is_personal("GET shop.test /account/style.css", Personal::Declared);
    is_personal("GET shop.test /?preview", Personal::Declared);
    is_personal("GET shop.test /a.css?v=1&preview=2", Personal::Declared);
    // Either spelling of the hexadecimal digits.
    is_personal("GET shop.test /%E7%A7%81/a.css", Personal::Declared);
    is_personal("GET shop.test /%e7%a7%81/a.css", Personal::Declared);
}

#[test]
fn a_target_with_two_readings_is_personal() {
    for target in [
        "/news/..%2faccount/a.css",
        "/news/../account/a.css",
        "/%61ccount/a.css",
        "/account;a.css",
        "//a.css",
        "/news/a%00.css",
        "/account%3fa.css",
        "/account%23a.css",
        "/account%2fa.css",
        "/%E7%a7%81/a.css",
        "/news/%c0%afa",
    ] {
        is_personal(&format!("GET shop.test {target}"), Personal::AmbiguousPath);
    }
    for query in ["a=1;b=2", "p%61ge=2", "page=%zz", "page=%0a"] {
        is_personal(
            &format!("GET shop.test /?{query}"),
            Personal::AmbiguousQuery,
        );
    }
}

#[test]
fn a_target_that_names_somebody_is_personal() {
    is_personal("GET shop.test /news/me/a.css", Personal::IdentityInPath);
    is_personal("GET shop.test /news/u-7", Personal::IdentityInPath);
    is_personal(
        "GET shop.test /news/a;jsessionid=7.css",
        Personal::IdentityInPath,
    );
    is_personal(
        "GET shop.test /news/0123456789abcdef0123456789abcdef/a.css",
        Personal::TokenInPath,
    );
    is_personal(
        "GET shop.test /a.css?sid=1",
        Personal::IdentityInQuery("sid".into()),
    );
    is_personal(
        "GET shop.test /a.css?invite=1",
        Personal::IdentityInQuery("invite".into()),
    );
    // Also where the class would drop the parameter.
    is_personal(
        "GET shop.test /tags/a?token=1",
        Personal::IdentityInQuery("token".into()),
    );
    is_personal(
        "GET shop.test /a.css?x=0123456789abcdef0123456789abcdef",
        Personal::TokenInQuery("x".into()),
    );
    is_shared(
        "GET shop.test /a.css?v=0123456789abcdef0123456789abcdef",
        "assets",
    );
}

#[test]
fn members_do_not_get_what_is_for_the_anonymous() {
    for credential in [
        "cookie: sessionid=1",
        "cookie: theme=dark; sessionid=1",
        "cookie: theme=dark\ncookie: sessionid=1",
        "cookie: theme=dark;sessionid",
        "cookie:   ;; __Host-x=1",
        "cookie: \u{e9}",
        "authorization: Basic eDp5",
        "proxy-authorization: Basic eDp5",
        "cookie2: $Version=1",
        "client-cert: :YQ==:",
        "x-user: alice",
    ] {
        is_personal(
            &format!("GET shop.test /\n{credential}"),
            Personal::Credentials,
        );
        is_shared(&format!("GET shop.test /feed\n{credential}"), "feed");
    }
    // Not a member's, but a cookie all the same.
    let (class, _, requester) = shared("GET shop.test /\ncookie: basket=1; theme=dark");
    assert_eq!(
        (class.as_str(), requester.cookie, requester.credentials),
        ("pages", true, false)
    );
    let (_, _, requester) = shared("GET shop.test /\ncookie: theme=dark; _ga=GA1.2.3");
    assert_eq!((requester.cookie, requester.credentials), (false, false));
}

#[test]
fn without_a_list_every_cookie_may_be_a_members() {
    let origin = policy::origin("http://127.0.0.1:8080").expect("a URL");
    let text = "version = 1\n[[class]]\nname = \"pages\"\nmatch = { paths = [\"/\"] }\nto = \"anonymous\"\n";
    let text = PolicyText {
        source: "p.toml".into(),
        text: text.into(),
    };
    let rules = policy::compile(Some(&text), Some(origin)).expect("no faults");
    for (cookie, expected) in [
        ("basket=1", true),
        ("_ga=1", false),
        (";", false),
        ("_ga=1; x", true),
    ] {
        let request = format!("GET any.test /\ncookie: {cookie}");
        let personal = matches!(
            classify_in(&rules, 1, Scheme::Http, &request),
            Classified::Personal(_)
        );
        assert_eq!(personal, expected, "{cookie}");
    }
}

#[test]
fn a_client_may_ask_that_nothing_be_stored() {
    is_personal(
        "GET shop.test /\ncache-control: no-store",
        Personal::ClientNoStore,
    );
    is_personal(
        "GET shop.test /\ncache-control: max-age=0, No-Store",
        Personal::ClientNoStore,
    );
    // What would only flush is not looked at.
    for flush in ["no-cache", "max-age=0", "max-age=0, no-cache"] {
        is_shared(
            &format!("GET shop.test /\ncache-control: {flush}\npragma: no-cache"),
            "pages",
        );
    }
}

#[test]
fn the_query_that_the_origin_sees() {
    let uri = |request: &str| shared(request).1.uri();
    // Dropped, in the order of the request.
    assert_eq!(
        uri("GET shop.test /?utm_source=x&q=b&page=2&z"),
        "https://shop.test/?q=b&page=2"
    );
    assert_eq!(uri("GET shop.test /?utm_source=x"), "https://shop.test/");
    assert_eq!(uri("GET shop.test /?"), "https://shop.test/");
    assert_eq!(uri("GET shop.test /tags/a?b=1"), "https://shop.test/tags/a");
    assert_eq!(
        uri("GET shop.test /?fbclid=IwAR3xKq7Zb2Tn9VwYc4Lp8MdRf6Hs1Jg5"),
        "https://shop.test/"
    );
    // Byte for byte.
    assert_eq!(
        uri("GET shop.test /feed?b=2&a=1&&b=%20"),
        "https://shop.test/feed?b=2&a=1&&b=%20"
    );
    // Other parameters make it personal.
    is_personal(
        "GET shop.test /search?q=a&sort=b",
        Personal::UnlistedQuery("sort".into()),
    );
    // Which of two the origin reads is not ours to guess.
    is_personal("GET shop.test /?page=1&page=2", Personal::AmbiguousQuery);
    is_shared("GET shop.test /feed?a=1&a=2", "feed");
}

#[test]
fn a_header_that_is_too_long_is_in_no_key() {
    let long = "x".repeat(257);
    is_personal(
        &format!("GET shop.test /\naccept-language: {long}"),
        Personal::KeyHeader("accept-language".into()),
    );
    is_shared(
        &format!("GET shop.test /feed\naccept-language: {long}"),
        "feed",
    );
}

#[test]
fn a_host_of_no_origin_is_refused() {
    for host in [
        "else.test",
        "shop.test.evil.test",
        "notshop.test",
        "127.0.0.1",
        "[::1]",
    ] {
        let classified = classify(&format!("GET {host} /"));
        assert!(
            matches!(classified, Classified::Refused(Refused::UnknownHost)),
            "{host}: {classified:?}"
        );
    }
}

/// What only the requester knows is in no key.
#[test]
fn requests_that_differ_in_what_is_their_own_have_one_key() {
    let plain = shared("GET shop.test /feed?page=1").1;
    for own in [
        "cookie: sessionid=alice",
        "cookie: sessionid=bob; basket=2",
        "authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.x",
        "proxy-authorization: Basic eDp5",
        "x-user: alice",
        "x-forwarded-for: 192.0.2.1",
        "forwarded: for=192.0.2.1",
        "x-real-ip: 192.0.2.1",
        "client-cert: :YQ==:",
        "if-none-match: \"a\"",
        "if-modified-since: Thu, 01 Jan 2026 00:00:00 GMT",
        "if-match: *",
        "range: bytes=0-1",
        "if-range: \"a\"",
        "origin: https://evil.test",
        "referer: https://shop.test/account",
        "user-agent: x",
        "accept: text/html",
        "accept-language: ja",
        "accept-encoding: br, gzip",
        "x-forwarded-host: evil.test",
        "x-original-url: /account",
        "x-http-method-override: DELETE",
        "cache-control: no-cache",
        "via: 1.1 somebody",
        "cdn-loop: somebody",
        "te: trailers",
        "connection: x-user",
        "x-anything: 1",
    ] {
        assert_eq!(
            shared(&format!("GET shop.test /feed?page=1\n{own}")).1,
            plain,
            "{own}"
        );
    }
    assert_eq!(
        shared("HEAD shop.test /feed?page=1").1,
        plain,
        "a HEAD shows what a GET fetched"
    );
    assert_eq!(
        shared("GET SHOP.test:443 /feed?page=1").1,
        plain,
        "one name"
    );
}

#[test]
fn requests_that_the_origin_could_tell_apart_have_two_keys() {
    let plain = shared("GET shop.test /?page=1").1;
    for other in [
        "GET shop.test /",
        "GET shop.test /?page=2",
        "GET shop.test /?page=1&q=a",
        "GET shop.test /news/?page=1",
        "GET shop.test:8443 /?page=1",
        "GET own.test /?page=1",
        "GET shop.test /?page=1\naccept-language: ja",
        "GET shop.test /?page=1\naccept-encoding: gzip",
        "GET shop.test /?page=1\naccept-encoding: br, gzip",
    ] {
        assert_ne!(shared(other).1, plain, "{other}");
    }
    let key = |epoch, scheme| match classify_in(&rules(), epoch, scheme, "GET shop.test /?page=1") {
        Classified::Shared(sharing) => sharing.key().clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(key(1, Scheme::Https), plain);
    assert_ne!(key(2, Scheme::Https), plain, "another epoch");
    assert_ne!(key(1, Scheme::Http), plain, "another scheme");
    assert_eq!(
        shared("GET shop.test /\naccept-language: ja\naccept-language: en").1,
        shared("GET shop.test /\naccept-language: ja, en").1,
        "several lines of a field are one"
    );
}

#[test]
fn a_key_is_of_the_meaning_under_which_it_was_made() {
    let changed = POLICY.replace("application/rss+xml", "application/atom+xml");
    let text = PolicyText {
        source: "p.toml".into(),
        text: changed,
    };
    let changed = policy::compile(Some(&text), None).expect("no faults");
    let key = |rules: &Rules, request: &str| match classify_in(rules, 1, Scheme::Https, request) {
        Classified::Shared(sharing) => sharing.key().clone(),
        other => panic!("{other:?}"),
    };
    assert_ne!(
        key(&changed, "GET shop.test /feed"),
        key(&rules(), "GET shop.test /feed")
    );
    assert_eq!(
        key(&changed, "GET shop.test /a.css"),
        key(&rules(), "GET shop.test /a.css")
    );
}

#[test]
fn what_each_mode_shares() {
    use Mode::{Closed, Open, Pass, Static};
    let name = |mode, request: &str| {
        let under = Under {
            mode,
            epoch: Epoch(1),
            grant: None,
        };
        match classify_under(&rules(), under, Scheme::Https, request) {
            Classified::Shared(sharing) => sharing.class().name.clone(),
            Classified::Personal(pass) => pass.why().name().to_owned(),
            Classified::Refused(why) => why.name().to_owned(),
            Classified::Gated(gated) => panic!("{gated:?}"),
            Classified::Tokened(tokened) => panic!("{tokened:?}"),
        }
    };
    for (request, of_modes) in [
        (
            "GET shop.test /a.css",
            ["closed", "mode-pass", "assets", "assets"],
        ),
        (
            "GET shop.test /news/1",
            ["closed", "mode-pass", "mode-static", "pages"],
        ),
        (
            "GET shop.test /feed",
            ["closed", "mode-pass", "mode-static", "feed"],
        ),
        // Its own reason comes before the mode's.
        (
            "GET shop.test /account/1",
            [
                "closed",
                "declared-personal",
                "declared-personal",
                "declared-personal",
            ],
        ),
        (
            "POST shop.test /a.css",
            ["closed", "method", "method", "method"],
        ),
    ] {
        let got = [Closed, Pass, Static, Open].map(|mode| name(mode, request));
        assert_eq!(got, of_modes, "{request}");
    }
}

#[test]
fn what_a_preview_fills_is_named_by_it_alone() {
    let key = |grant| {
        let under = Under {
            mode: Mode::Open,
            epoch: Epoch(1),
            grant,
        };
        match classify_under(&rules(), under, Scheme::Https, "GET shop.test /a.css") {
            Classified::Shared(sharing) => sharing.key().clone(),
            other => panic!("{other:?}"),
        }
    };
    let (one, other, none) = (key(Some(GrantId(1))), key(Some(GrantId(2))), key(None));
    assert!(one == key(Some(GrantId(1))) && one != other && one != none);
    assert_eq!(one.name(), none.name(), "a purge is about both");
    assert!(none.is_a_place() && !one.is_a_place());
}

#[test]
fn giving_up_sharing_keeps_the_reason() {
    let Classified::Shared(sharing) = classify("GET shop.test /feed") else {
        panic!("shared")
    };
    assert_eq!(
        *sharing.into_pass(Personal::Waited("slow")).why(),
        Personal::Waited("slow")
    );
}

/// Fields that a client may send, of its own and of no key of `feed`.
fn own_headers() -> impl Strategy<Value = String> {
    let name = "(cookie|authorization|x-user|x-forwarded-for|if-none-match|range|origin|referer|x-[a-z]{1,6})";
    let line =
        (name, "[a-zA-Z0-9=;. ]{0,20}").prop_map(|(name, value)| format!("\n{name}: {value}x"));
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_headers_of_their_own_leave_the_key(a in own_headers(), b in own_headers(), path in "/(feed|[a-z]{1,6}\\.css)") {
        let (a, b) = (format!("GET shop.test {path}{a}"), format!("GET shop.test {path}{b}"));
        prop_assert_eq!(shared(&a).1, shared(&b).1);
    }

    /// What is shared is asked for as the viewer asked, less what was dropped.
    #[test]
    fn a_shared_target_is_a_part_of_the_request(target in "/[a-zA-Z0-9%./;&=?~*+-]{0,30}") {
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        prop_assume!(uri.authority().is_none());
        if let Classified::Shared(sharing) = classify(&format!("GET shop.test {target}")) {
            let shown = sharing.key().uri();
            let (path, query) = shown.split_once('?').unwrap_or((&shown, ""));
            prop_assert_eq!(path, format!("https://shop.test{}", uri.path()));
            for parameter in query.split('&').filter(|p| !p.is_empty()) {
                prop_assert!(uri.query().unwrap_or_default().split('&').any(|p| p == parameter));
            }
            let lower = path.to_ascii_lowercase();
            prop_assert!(!["%2f", "%2e", "%3b", "%25", ";", "/.."].iter().any(|hidden| lower.contains(hidden)));
        }
    }
}

const FILMS: &str = r#"
version = 1
[session]
cookies = ["sid"]
[[origin]]
hosts = ["*"]
url = "http://127.0.0.1:8080"
[[class]]
name = "films"
match = { paths = ["/films/**"] }
to = "gated"
types = ["video/*"]
query = ["q"]
gate = { path = "/authz{path}?{query}", method = "HEAD", probe = "http://shop.test/films/probe" }
credential = { header = "X-Edge-Key", env = "FILMS" }
"#;

/// The rules above, with a secret or without.
fn films(secret: Option<&str>) -> Rules {
    let text = PolicyText {
        source: "p.toml".into(),
        text: FILMS.into(),
    };
    let rules = policy::compile(Some(&text), None).expect("the policy has no faults");
    let secret = secret.map(|secret| Secret::new(secret.as_bytes()).expect("a secret"));
    let source = SecretSource::Environment("FILMS".into());
    assert!(rules.secrets().contains(&source));
    rules.armed(&secret.map(|secret| (source, secret)).into_iter().collect())
}

const ONE: &str = "first-secret-of-16";

fn gated(mode: Mode, request: &str) -> Gated {
    let under = Under {
        mode,
        epoch: Epoch(1),
        grant: None,
    };
    match classify_under(&films(Some(ONE)), under, Scheme::Https, request) {
        Classified::Gated(gated) => gated,
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn nothing_of_a_gated_class_is_shared_before_its_gate_has_opened() {
    let film = || {
        gated(
            Mode::Open,
            "GET shop.test /films/1?q=2&other=3\ncookie: sid=a",
        )
    };
    assert_eq!(film().target(), "/authz/films/1?q=2");
    let Ok(Opened::Shared(sharing)) = film().open(StatusCode::NO_CONTENT) else {
        panic!("204 opens")
    };
    assert_eq!(sharing.key().uri(), "https://shop.test/films/1?q=2");
    assert!(sharing.key().is_gated());
    for (status, expected) in [
        (302, Shut::Told),
        (401, Shut::Told),
        (403, Shut::Told),
        (404, Shut::Told),
        (304, Shut::Failed),
        (500, Shut::Failed),
        (503, Shut::Failed),
        (101, Shut::Failed),
        (206, Shut::Failed),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(film().open(status).err(), Some(expected), "{status}");
    }
}

#[test]
fn where_it_is_not_shared_a_gate_opens_a_pass() {
    let why = |mode, request: &str| match gated(mode, request).open(StatusCode::OK) {
        Ok(Opened::Pass(pass)) => pass.why().clone(),
        other => panic!("{request}: {other:?}"),
    };
    let film = "GET shop.test /films/1";
    assert_eq!(why(Mode::Pass, film), Personal::ModePass);
    assert_eq!(why(Mode::Static, film), Personal::ModeStatic);
    let no_store = format!("{film}\ncache-control: no-store");
    assert_eq!(why(Mode::Open, &no_store), Personal::ClientNoStore);
}

#[test]
fn what_a_gate_is_not_asked_about_goes_on_without_the_edge_s_credential() {
    for (request, expected) in [
        ("POST shop.test /films/1", Personal::Method),
        ("GET shop.test /films//1", Personal::AmbiguousPath),
        ("GET shop.test /films/1?q=1&q=2", Personal::AmbiguousQuery),
        ("GET shop.test /other", Personal::NoClass),
    ] {
        let under = Under {
            mode: Mode::Open,
            epoch: Epoch(1),
            grant: None,
        };
        match classify_under(&films(Some(ONE)), under, Scheme::Https, request) {
            Classified::Personal(pass) => {
                assert_eq!(*pass.why(), expected, "{request}");
                assert!(!format!("{pass:?}").contains("x-edge-key"), "{pass:?}");
            }
            other => panic!("{request}: {other:?}"),
        }
        // Nor does anything, while the secret is not known.
        let classified = classify_in(&films(None), 1, Scheme::Https, "GET shop.test /films/1");
        let Classified::Personal(pass) = classified else {
            panic!("{classified:?}")
        };
        assert_eq!(*pass.why(), Personal::NoSecret);
    }
}

#[test]
fn a_shared_fetch_bears_its_class_s_credential_and_a_new_one_is_a_new_class() {
    let rules = films(Some(ONE));
    let class = rules.class("films").expect("it is there");
    let Ok(Opened::Shared(sharing)) =
        gated(Mode::Open, "GET shop.test /films/1").open(StatusCode::OK)
    else {
        panic!("200 opens")
    };
    let begun = Begun {
        id: FillId(1),
        at: UnixMillis(1),
        order: Order(1),
    };
    let constants = Constants::new("test");
    let fetch = SharedFetch::of(sharing.key(), class, begun, &constants);
    let credential = &fetch.outbound().headers()["x-edge-key"];
    assert!(credential == ONE && credential.is_sensitive());
    assert!(!format!("{fetch:?} {class:?}").contains(ONE));
    let probe = gated(Mode::Open, "GET shop.test /films/1").probe(&constants);
    let probe = probe.expect("it is shared");
    assert!(!probe.bare.headers().contains_key("x-edge-key"));
    let other = films(Some("second-secret-of-16"));
    assert_ne!(
        class.digest,
        other.class("films").expect("it is there").digest
    );
    assert_ne!(rules.digest(), other.digest());
    assert_eq!(rules.digest(), films(Some(ONE)).digest());
    // What a start asks.
    let probes = rules.probes(&constants);
    let [(name, Ok(probe))] = &probes[..] else {
        panic!("{probes:?}")
    };
    assert_eq!(name, "films");
    for (outbound, method, target, bears) in [
        (&probe.bare, "GET", "/films/probe", false),
        (&probe.bearing, "GET", "/films/probe", true),
        (&probe.strangers, "HEAD", "/authz/films/probe", false),
    ] {
        assert_eq!(
            (outbound.method().as_str(), outbound.target()),
            (method, target)
        );
        assert_eq!(outbound.headers().contains_key("x-edge-key"), bears);
    }
    assert_eq!(rules.unprobed().count(), 0);
}
