//! Policies, what they mean, and what is wrong with them.

use std::time::Duration;

use proptest::prelude::*;
use shikiri_record::PolicyText;

use super::*;
use crate::gated::GateBy;
use crate::rules::{HostPattern, Limits, OriginHost, QueryKey, Rules, To};
use crate::secret::{Secret, SecretSource};
use crate::upstream::Spoken;

const ORIGIN: &str = "[[origin]]\nhosts = [\"*\"]\nurl = \"http://127.0.0.1:8080\"\n";

fn compiled(text: &str) -> Result<Rules, Vec<PolicyError>> {
    compile(
        Some(&PolicyText {
            source: "p.toml".into(),
            text: text.into(),
        }),
        None,
    )
}

fn rules(text: &str) -> Rules {
    compiled(&format!("version = 1\n{ORIGIN}{text}")).unwrap_or_else(|errors| {
        panic!(
            "{}",
            errors.iter().map(|e| format!("{e}\n")).collect::<String>()
        )
    })
}

/// A policy after one line of version and three of an origin, and its faults: line, column, and a
/// part of what is said.
fn check(text: &str, expected: &[(usize, usize, &str)]) {
    check_all(&format!("version = 1\n{ORIGIN}{text}"), expected);
}

fn check_all(text: &str, expected: &[(usize, usize, &str)]) {
    let errors = compiled(text).err().unwrap_or_default();
    let shown: String = errors.iter().map(|e| format!("{e}\n")).collect();
    assert_eq!(errors.len(), expected.len(), "{text}\n{shown}");
    for (error, (line, column, part)) in errors.iter().zip(expected) {
        assert_eq!(
            (error.line, error.column),
            (*line, *column),
            "{text}\n{shown}"
        );
        assert!(error.to_string().contains(part), "{part}\n{shown}");
        assert!(!error.instead.is_empty());
    }
}

const PAGES: &str =
    "[[class]]\nname = \"pages\"\nmatch = { paths = [\"/news/**\"] }\nto = \"anonymous\"\n";

#[test]
fn without_a_policy_only_assets_are_shared() {
    let rules = compile(None, Some(origin("http://127.0.0.1:8080").unwrap())).unwrap();
    let [assets] = rules.classes() else {
        panic!("one class")
    };
    assert_eq!((assets.name.as_str(), assets.to), ("assets", To::Everyone));
    assert!(!assets.shares_html() && !assets.types.iter().any(|t| t.matches("application/json")));
    assert!(assets.declares(http::StatusCode::OK) && assets.statuses.len() == 1);
    assert_eq!(assets.object_bytes_max, 32 << 20);
    assert_eq!(assets.lifetimes.max, Duration::from_secs(86_400));
    assert!(
        ["css", "js", "woff2", "png"].iter().all(|e| assets
            .matches
            .extensions
            .iter()
            .any(|x| x == e))
    );
    assert!(
        ["html", "php", "json", "txt"].iter().all(|e| !assets
            .matches
            .extensions
            .iter()
            .any(|x| x == e))
    );
    assert_eq!(*rules.limits(), Limits::default());
    assert!(rules.session().cookies.is_empty() && rules.personal().is_empty());
}

#[test]
fn an_empty_policy_means_what_none_means() {
    let none = compile(None, Some(origin("http://127.0.0.1:8080").unwrap())).unwrap();
    assert_eq!(rules("").digest(), none.digest());
    assert_eq!(rules("[builtin]\nassets = true").digest(), none.digest());
    assert_ne!(rules("[builtin]\nassets = false").digest(), none.digest());
    assert!(rules("[builtin]\nassets = false").classes().is_empty());
}

#[test]
fn kinds_start_from_their_defaults() {
    let rules = rules(&format!(
        "{PAGES}[[class]]\nname = \"media\"\n[[class]]\nname = \"assets\"\nmatch = {{ paths = [\"/static/**\"] }}\n\
         [[class]]\nname = \"own\"\nmatch = {{ paths = [\"/x\"] }}\nto = \"everyone\"\ntypes = [\"*/*\"]\n"
    ));
    let names: Vec<&str> = rules.classes().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        ["pages", "media", "assets", "own"],
        "the policy's assets stand for the built-in ones"
    );
    let class = |name| rules.class(name).unwrap();
    assert!(class("pages").shares_html() && !class("own").shares_html());
    assert_eq!(
        class("pages").object_bytes_max,
        Limits::default().document_bytes_max
    );
    assert!(
        !class("media").key_encoding && class("media").types.iter().any(|t| t.matches("video/mp4"))
    );
    assert!(
        class("assets").matches.extensions.is_empty(),
        "a match is replaced, not added to"
    );
    assert_eq!(class("own").lifetimes.default, None);
}

#[test]
fn which_classes_are_of_static_files() {
    for (class, expected) in [
        ("name = \"assets\"", true),
        ("name = \"media\"", true),
        (
            "name = \"media\"\ntypes = [\"image/png\", \"video/*\", \"text/css\"]",
            true,
        ),
        (
            "name = \"assets\"\ntypes = [\"text/css\", \"application/json\"]",
            false,
        ),
        (
            "name = \"assets\"\ntypes = [\"text/css\", \"text/html\"]",
            false,
        ),
        ("name = \"assets\"\ntypes = [\"*/*\"]", false),
        ("name = \"assets\"\ntypes = [\"*/*\"]\nstatic = true", true),
        ("name = \"assets\"\nstatic = false", false),
        (
            "name = \"own\"\nmatch = { paths = [\"/x/**\"] }\nto = \"everyone\"\ntypes = [\"image/png\"]",
            false,
        ),
        (
            "name = \"own\"\nmatch = { paths = [\"/x/**\"] }\nto = \"everyone\"\ntypes = [\"image/png\"]\nstatic = true",
            true,
        ),
    ] {
        let rules = rules(&format!("[[class]]\n{class}\n"));
        assert_eq!(rules.classes()[0].is_static, expected, "{class}");
    }
    check(
        "[[class]]\nname = \"assets\"\ntypes = [\"text/html\"]\nstatic = true\n",
        &[(8, 10, "not one of static files")],
    );
    let (with, without) = (
        rules("[[class]]\nname = \"media\""),
        rules("[[class]]\nname = \"media\"\nstatic = false"),
    );
    assert_eq!(with.classes()[0].digest, without.classes()[0].digest);
    assert_ne!(with.digest(), without.digest());
    let changes: Vec<String> = diff(&with, &without)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        changes.contains(&"class `media`: no longer shared in mode `static`".to_owned()),
        "{changes:?}"
    );
    assert!(with.describe().contains("shared in mode `static` too"));
}

#[test]
fn every_key_means_something() {
    let rules = rules(
        r#"
[session]
cookies = ["sessionid", "__Host-*"]
ignorable_cookies = ["ab"]
headers = ["X-User"]
query = ["invite"]
query_public = ["v"]
segments = ["me"]
[[personal]]
paths = ["/account/**"]
[[class]]
name = "news"
match = { hosts = ["A.test", "*.b.test"], paths = ["/", "/n/%E3%81%AA**"], extensions = ["HTML"], query_has = ["a"], query_lacks = ["b*"] }
to = "everyone"
types = ["Text/HTML", "image/*"]
statuses = [404, 200]
query = ["q", "page"]
query_else = "personal"
key_headers = ["Accept-Language", "accept"]
key_encoding = false
lifetime = { default = "none", max = "2h", stale_while_revalidate = "30s", stale_if_error = "10m" }
volatile = [{ from = "<!-- generated ", to = " -->" }]
object_bytes_max = "1 MiB"
[limits]
store_bytes_max = "64 MiB"
head_time_max = "5s"
connections_max = 10
"#,
    );
    let class = rules.class("news").unwrap();
    assert_eq!(
        class.matches.hosts,
        [
            HostPattern::Below(".b.test".into()),
            HostPattern::Exact("a.test".into())
        ]
    );
    let paths: Vec<&str> = class.matches.paths.iter().map(|p| p.0.as_str()).collect();
    assert_eq!(paths, ["/", "/n/%E3%81%AA**", "/n/%e3%81%aa**"]);
    assert_eq!(class.matches.extensions, ["html"]);
    assert_eq!(class.to, To::Everyone);
    assert!(class.shares_html());
    assert_eq!(
        class.statuses.iter().copied().collect::<Vec<_>>(),
        [200, 404]
    );
    assert!(matches!(&class.query, QueryKey::OnlyElsePersonal(listed) if listed.len() == 2));
    assert_eq!(class.key_headers, ["accept", "accept-language"]);
    assert!(!class.key_encoding);
    assert_eq!(
        (class.lifetimes.default, class.lifetimes.max),
        (None, Duration::from_secs(7_200))
    );
    assert_eq!(class.volatile[0].to, " -->");
    assert_eq!(class.object_bytes_max, 1 << 20);
    assert_eq!(rules.session().headers, ["x-user"]);
    assert!(
        rules
            .session()
            .ignorable_cookies
            .iter()
            .any(|p| p.matches("_ga_X1")),
        "the built-in ones stay"
    );
    assert_eq!(rules.limits().store_bytes_max, 64 << 20);
    assert_eq!(rules.limits().head_time_max, Duration::from_secs(5));
    assert_eq!(rules.limits().connections_max, 10);
    assert_eq!(
        rules.limits().head_fields_max,
        Limits::default().head_fields_max
    );
}

#[test]
fn a_cookie_of_the_session_is_not_ignored_because_a_list_says_so() {
    let rules = rules("[session]\ncookies = [\"_ga\", \"sid\"]");
    assert!(
        !rules
            .session()
            .ignorable_cookies
            .iter()
            .any(|p| p.matches("_ga"))
    );
    assert!(
        rules
            .session()
            .ignorable_cookies
            .iter()
            .any(|p| p.matches("_gid"))
    );
}

#[test]
fn a_stated_maximum_lowers_the_default_of_the_kind() {
    let rules = rules(&format!("{PAGES}lifetime = {{ max = \"5s\" }}"));
    assert_eq!(
        rules.class("pages").unwrap().lifetimes.default,
        Some(Duration::from_secs(5))
    );
    let small = self::rules("[limits]\nstore_bytes_max = \"1 MiB\"");
    assert_eq!(small.class("assets").unwrap().object_bytes_max, 1 << 20);
}

#[test]
fn origins_are_looked_up_in_order() {
    let text = "version = 1\n[[origin]]\nhosts = [\"a.b.test\"]\nurl = \"http://one:81\"\nhost_header = \"origin\"\n\
                [[origin]]\nhosts = [\"*.b.test\"]\nurl = \"http://[::1]:82/\"\n";
    let command_line = origin("http://three").unwrap();
    let text = PolicyText {
        source: "p.toml".into(),
        text: text.into(),
    };
    let rules = compile(Some(&text), Some(command_line)).unwrap();
    let to = |host: &str| {
        rules
            .origin_for(host)
            .map(|o| (&*o.upstream.address, o.upstream.port, o.host_header))
    };
    assert_eq!(to("a.b.test"), Some(("one", 81, OriginHost::Origin)));
    assert_eq!(to("c.b.test"), Some(("::1", 82, OriginHost::Client)));
    assert_eq!(to("else.test"), Some(("three", 80, OriginHost::Client)));
}

#[test]
fn an_origin_says_who_certifies_it_and_what_it_switches_to() {
    let text = "version = 1\n[[origin]]\nhosts = [\"a\"]\nurl = \"https://One:8443\"\nca = \"/etc/ca.pem\"\n\
                server_name = \"Shop.internal\"\nupgrade = [\"WebSocket\", \"websocket\"]\n";
    let rules = compiled(text).unwrap();
    let origin = &rules.origins()[0];
    assert_eq!(origin.upstream.to_string(), "https://one:8443");
    assert_eq!(origin.upstream.server_name(), "shop.internal");
    assert!(
        matches!(&origin.upstream.spoken, Spoken::Tls { ca: Some(ca), .. } if &**ca == "/etc/ca.pem")
    );
    assert_eq!(origin.upgrades, ["websocket"]);
    let described = rules.describe();
    for said in [
        "https://one:8443",
        "certified as shop.internal",
        "/etc/ca.pem",
        "switch to websocket",
    ] {
        assert!(described.contains(said), "{said}: {described}");
    }
    // Each of them is a part of what is in force.
    for less in ["ca =", "server_name =", "upgrade ="] {
        let without: String = text
            .lines()
            .filter(|line| !line.starts_with(less))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_ne!(
            compiled(&without).unwrap().digest(),
            rules.digest(),
            "{less}"
        );
    }
    let origin = |more: &str| format!("version = 1\n[[origin]]\nhosts = [\"a\"]\n{more}");
    for (more, expected) in [
        (
            "url = \"http://one\"\nca = \"/c\"",
            (5, 6, "not spoken to with TLS"),
        ),
        (
            "url = \"h2c://one\"\nserver_name = \"a\"",
            (5, 15, "not spoken to with TLS"),
        ),
        (
            "url = \"https://one\"\nca = \"c.pem\"",
            (5, 6, "from the root on"),
        ),
        (
            "url = \"https://one\"\nserver_name = \"a b\"",
            (5, 15, "no host name"),
        ),
        (
            "url = \"h2c://one\"\nupgrade = [\"websocket\"]",
            (5, 11, "HTTP/2 alone"),
        ),
        (
            "url = \"http://one\"\nupgrade = [\"h2c\"]",
            (5, 12, "not HTTP"),
        ),
        (
            "url = \"http://one\"\nupgrade = [\"HTTP/2.0\"]",
            (5, 12, "not HTTP"),
        ),
        (
            "url = \"http://one\"\nupgrade = [\"TLS/1.2\"]",
            (5, 12, "not HTTP"),
        ),
        (
            "url = \"http://one\"\nupgrade = [\"a b\"]",
            (5, 12, "cannot be switched to"),
        ),
        (
            "url = \"http://one\"\nupgrade = [\"\"]",
            (5, 12, "cannot be switched to"),
        ),
    ] {
        check_all(&origin(more), &[expected]);
    }
}

#[test]
fn urls_of_origins() {
    for (url, expected) in [
        ("http://127.0.0.1:8080", Ok(("127.0.0.1", 8080))),
        ("HTTP://Shop.Test/", Ok(("shop.test", 80))),
        ("http://[::1]:8080", Ok(("::1", 8080))),
        ("http://[::1]", Ok(("::1", 80))),
        ("https://shop.test", Ok(("shop.test", 443))),
        ("https://shop.test:8443", Ok(("shop.test", 8443))),
        ("h2c://shop.test", Ok(("shop.test", 80))),
        ("shop.test:80", Err("does not start with")),
        ("ftp://shop.test", Err("does not start with")),
        ("http://u:p@shop.test", Err("user name")),
        ("http://shop.test/app", Err("more than a host")),
        ("http://shop.test?x", Err("more than a host")),
        ("http://shop.test#x", Err("more than a host")),
        ("http://", Err("no host name")),
        ("http://:80", Err("no host name")),
        ("http://a..b", Err("no host name")),
        ("http://a b", Err("no host name")),
        ("http://a:0", Err("no port")),
        ("http://a:65536", Err("no port")),
        ("http://a:+80", Err("no port")),
        ("http://a:", Err("no port")),
        ("http://[::1]80", Err("no port")),
        ("http://[::1", Err("`]` is missing")),
        ("http://[zz]", Err("no IPv6 address")),
    ] {
        match (origin(url), expected) {
            (Ok(found), Ok((address, port))) => {
                assert_eq!(
                    (&*found.upstream.address, found.upstream.port),
                    (address, port),
                    "{url}"
                );
                assert_eq!(found.hosts, [HostPattern::Any]);
            }
            (Err(found), Err(part)) => assert!(found.contains(part), "{url}: {found}"),
            (found, _) => panic!("{url}: {found:?}"),
        }
    }
}

#[test]
fn faults_of_form() {
    check_all(
        "",
        &[
            (0, 0, "no origin is named"),
            (1, 1, "does not say its version"),
        ],
    );
    check_all(
        &format!("version = 2\n{ORIGIN}"),
        &[(1, 11, "version 2 is not known")],
    );
    check_all(
        &format!("version = \"1\"\n{ORIGIN}"),
        &[(1, 11, "not a whole number")],
    );
    check_all(
        &format!("version = 1.0\n{ORIGIN}"),
        &[(1, 11, "not a whole number")],
    );
    check("[sesion]\n", &[(5, 2, "Did you mean `session`?")]);
    check(
        "[session]\ncookie = []\n",
        &[(6, 1, "Did you mean `cookies`?")],
    );
    check(
        "[session]\nzzz = []\n",
        &[(6, 1, "What can stand here: cookies,")],
    );
    check(
        "[session]\ncookies = \"sid\"\n",
        &[(6, 11, "not a list of texts")],
    );
    check(
        "[session]\ncookies = [\"sid\", 7]\n",
        &[(6, 19, "not a text in quotes")],
    );
    check_all(
        &format!("version = 1\nsession = 1\n{ORIGIN}"),
        &[(2, 11, "is not a table")],
    );
    check_all(
        &format!("version = 1\nclass = {{ name = \"a\" }}\n{ORIGIN}"),
        &[(2, 9, "is not a list of tables")],
    );
    check_all(
        &format!("version = 1\nclass = [1]\n{ORIGIN}"),
        &[(2, 10, "is not a list of tables")],
    );
    check(
        "[builtin]\nassets = \"yes\"\n",
        &[(6, 10, "not `true` or `false`")],
    );
    check(
        "[builtin]\nunsafe_store_everything = true\n",
        &[(6, 1, "has no key")],
    );
}

#[test]
fn faults_of_syntax_are_shown_alone() {
    for (text, line) in [
        ("[session\ncookies = []", 5),
        ("x = ", 5),
        ("[[class]]\nname = 'a", 6),
        ("a = 1\na = 2", 6),
    ] {
        let errors = compiled(&format!("version = 1\n{ORIGIN}{text}")).unwrap_err();
        assert!(
            errors
                .iter()
                .any(|e| e.line == line && e.what.contains("not TOML")),
            "{errors:?}"
        );
        assert!(
            errors
                .iter()
                .all(|e| e.line == 0 || e.what.contains("not TOML")),
            "{errors:?}"
        );
    }
}

#[test]
fn all_faults_are_shown_at_once() {
    check(
        "[session]\ncokies = []\n[[class]]\nname = \"x\"\nmatch = { paths = [\"news\"] }\nto = \"all\"\n[limits]\nrequests_max = 0\n",
        &[
            (6, 1, "Did you mean `cookies`?"),
            (7, 1, "the class `x` has no `types`"),
            (9, 20, "Write `/news`."),
            (10, 6, "Write \"anonymous\", \"everyone\" or \"gated\""),
            (12, 16, "Write a value from 1 to 1000000."),
        ],
    );
}

#[test]
fn faults_of_origins() {
    let check = |origins: &str, expected: &[(usize, usize, &str)]| {
        check_all(&format!("version = 1\n{origins}"), expected);
    };
    let one = "[[origin]]\nhosts = [\"a.test\", \"*.b.test\"]\nurl = \"http://one\"\n";
    check(
        "[[origin]]\nurl = \"http://one\"\n",
        &[(2, 1, "answers for no host")],
    );
    check(
        "[[origin]]\nhosts = []\nurl = \"http://one\"\n",
        &[(3, 9, "answers for no host")],
    );
    check("[[origin]]\nhosts = [\"a\"]\n", &[(2, 1, "has no `url`")]);
    check(
        "[[origin]]\nhosts = [\"a\"]\nurl = \"ftp://one\"\n",
        &[(4, 7, "does not start with")],
    );
    check(
        "[[origin]]\nhosts = [\"http://a\"]\nurl = \"http://one\"\n",
        &[(3, 10, "no host pattern")],
    );
    check(
        "[[origin]]\nhosts = [\"a.*\"]\nurl = \"http://one\"\n",
        &[(3, 10, "no host pattern")],
    );
    check(
        "[[origin]]\nhosts = [\"a:80\"]\nurl = \"http://one\"\n",
        &[(3, 10, "without scheme, port or path")],
    );
    check(
        "[[origin]]\nhosts = [\"a\"]\nurl = \"http://one\"\nhost_header = \"x\"\n",
        &[(5, 15, "cannot be `x`")],
    );
    check(
        &format!("{one}{one}"),
        &[
            (6, 10, "a host of two origins"),
            (6, 20, "a host of two origins"),
        ],
    );
    check(
        &format!("{one}[[origin]]\nhosts = [\"x.b.test\"]\nurl = \"http://two\"\n"),
        &[(6, 10, "never reached: `*.b.test`")],
    );
    let text = PolicyText {
        source: "p.toml".into(),
        text: format!("version = 1\n{ORIGIN}"),
    };
    let errors = compile(Some(&text), Some(origin("http://one").unwrap())).unwrap_err();
    assert!(
        errors[0]
            .to_string()
            .starts_with("p.toml: both the policy and the command line"),
        "{errors:?}"
    );
    let errors = compile(None, None).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "no policy: no origin is named\n  Write an [[origin]] with `hosts` and `url`, or start with `--origin URL`."
    );
}

#[test]
fn faults_of_the_session() {
    let check = |session: &str, expected: &[(usize, usize, &str)]| {
        check(&format!("[session]\n{session}\n"), expected);
    };
    check("cookies = []", &[(6, 11, "would mean every one")]);
    check("cookies = [\"a*b\"]", &[(6, 12, "a `*` before its end")]);
    check("cookies = [\"\"]", &[(6, 12, "a name is empty")]);
    check("cookies = [\"a b\"]", &[(6, 12, "no name matches")]);
    check("headers = [\"x-*:\"]", &[(6, 12, "no header name")]);
    check(
        "query_public = [\"token\"]",
        &[(6, 17, "cannot be shortened")],
    );
    check(
        "query = [\"v\"]\nquery_public = [\"v\"]",
        &[(7, 17, "both public and personal")],
    );
    check("segments = [\"a/b\"]", &[(6, 13, "holds a slash")]);
    check(
        "cookies = [\"s*\"]\nignorable_cookies = [\"sid\"]",
        &[(7, 22, "Name each cookie in one")],
    );
}

#[test]
fn faults_of_a_class() {
    let check = |class: &str, expected: &[(usize, usize, &str)]| {
        check(
            &format!("[[class]]\nname = \"pages\"\nto = \"anonymous\"\n{class}\n"),
            expected,
        );
    };
    let at = "match = { paths = [\"/x\"] }";
    check("", &[(5, 1, "has no `match`")]);
    check("match = {}", &[(8, 9, "would claim every request")]);
    check(
        "match = { paths = [\"x\"] }",
        &[(8, 20, "starts with neither")],
    );
    check(
        "match = { paths = [\"/x***\"] }",
        &[(8, 20, "means nothing")],
    );
    check("match = { paths = [\"/x?a=1\"] }", &[(8, 20, "query_has")]);
    check(
        "match = { paths = [\"/é b\"] }",
        &[(8, 20, "Write `/%C3%A9%20b`")],
    );
    check(
        "match = { paths = [\"/a//b\"] }",
        &[(8, 20, "read them in different ways")],
    );
    check(
        "match = { paths = [\"/%61\"] }",
        &[(8, 20, "read them in different ways")],
    );
    check(
        "match = { paths = [\"/a/../**\"] }",
        &[(8, 20, "read them in different ways")],
    );
    check("match = { hosts = [\"\"] }", &[(8, 20, "no host pattern")]);
    check(
        "match = { extensions = [\".html\"] }",
        &[(8, 25, "Write `html`")],
    );
    check(
        "match = { query_has = [\"token\"] }",
        &[(8, 24, "personal by the built-in list")],
    );
    check(
        &format!("{at}\ntypes = []"),
        &[(9, 9, "nothing could be stored")],
    );
    check(
        &format!("{at}\ntypes = [\"html\"]"),
        &[(9, 10, "no content type")],
    );
    check(
        &format!("{at}\ntypes = [\"*/html\"]"),
        &[(9, 10, "no content type")],
    );
    check(
        &format!("{at}\ntypes = [\"text/html; charset=utf-8\"]"),
        &[(9, 10, "Write `text/html`.")],
    );
    check(
        &format!("{at}\nstatuses = []"),
        &[(9, 12, "nothing could be stored")],
    );
    check(
        &format!("{at}\nstatuses = [199, 206, 304, 401, 407, 600, 200, 301, 404]"),
        &[
            (9, 13, "199 cannot be shared"),
            (9, 18, "206 is a part"),
            (9, 23, "304 says"),
            (9, 28, "401 cannot be shared: it asks"),
            (9, 33, "407 cannot be shared: it asks"),
            (9, 38, "600 cannot be shared"),
        ],
    );
    check(
        &format!("{at}\nquery_else = \"drop\""),
        &[(9, 14, "says nothing without")],
    );
    check(
        &format!("{at}\nquery = [\"a\"]\nquery_else = \"keep\""),
        &[(10, 14, "cannot be `keep`")],
    );
    check(
        &format!("{at}\nquery = [\"sid\"]"),
        &[(9, 10, "personal by the built-in list")],
    );
    check(
        &format!("{at}\nkey_headers = [\"a b\"]"),
        &[(9, 16, "no header name")],
    );
    check(
        &format!("{at}\nlifetime = {{ default = \"2h\" }}"),
        &[(9, 24, "more than `max` (1h)")],
    );
    check(
        &format!("{at}\nlifetime = {{ default = 30 }}"),
        &[(9, 24, "not a duration")],
    );
    check(
        &format!("{at}\nlifetime = {{ default = \"0s\" }}"),
        &[(9, 24, "less than a second")],
    );
    check(
        &format!("{at}\nlifetime = {{ max = \"0s\" }}"),
        &[(9, 20, "from 1s to 366d")],
    );
    check(
        &format!("{at}\nlifetime = {{ max = \"1000d\" }}"),
        &[(9, 20, "from 1s to 366d")],
    );
    check(
        &format!("{at}\nvolatile = [{{ from = \"\", to = \"b\" }}]"),
        &[(9, 22, "`from` is empty")],
    );
    check(
        &format!("{at}\nvolatile = [{{ from = \"a\" }}]"),
        &[(9, 13, "`to` is empty")],
    );
    check(
        &format!("{at}\nvolatile = [{{ from = \"<BODY>\", to = \"</body>\" }}]"),
        &[(9, 22, "`from` contains `<body`")],
    );
    check(
        &format!("{at}\nvolatile = [{{ from = \"a\", to = \"<html lang\" }}]"),
        &[(9, 32, "`to` contains `<html`")],
    );
    check(
        &format!("{at}\nobject_bytes_max = 0"),
        &[(9, 20, "at least \"1 B\"")],
    );
    check(
        &format!("{at}\nobject_bytes_max = \"1 GiB\""),
        &[(9, 20, "at most the store's")],
    );
    check(
        &format!("{at}\nobject_bytes_max = \"1 GB\""),
        &[(9, 20, "not a size")],
    );
    check(
        &format!("{at}\nslices = \"1 KiB\""),
        &[(9, 10, "at least \"4 KiB\"")],
    );
    check(
        &format!("{at}\nslices = \"2 MiB\"\nobject_bytes_max = \"1 MiB\""),
        &[(9, 10, "the class's `object_bytes_max` (1 MiB)")],
    );
    check(
        &format!("{at}\nslices = \"1 MiB\"\nkey_encoding = true"),
        &[(10, 16, "without a content coding")],
    );
    check(
        &format!("{at}\nkey_encoding = 1"),
        &[(9, 16, "not `true` or `false`")],
    );
    check(
        &format!("{at}\nstore_anything = true"),
        &[(9, 1, "has no key `store_anything`")],
    );
}

#[test]
fn headers_that_can_be_in_no_key() {
    for (name, why) in [
        ("Cookie", "a credential"),
        ("authorization", "a credential"),
        ("proxy-authorization", "a credential"),
        ("x-token", "a credential"),
        ("X-Api-Key", "by its name that it is a credential"),
        ("x-auth-token", "by its name that it is a credential"),
        ("x-csrf-token", "by its name that it is a credential"),
        (
            "x-authenticated-user",
            "by its name that it is a credential",
        ),
        ("x-session-kind", "by its name that it is a credential"),
        ("forwarded", "whose request"),
        ("x-forwarded-for", "whose request"),
        ("x-real-ip", "whose request"),
        ("accept-encoding", "key_encoding = true"),
        ("origin", "clients choose it freely"),
        ("user-agent", "clients choose it freely"),
        ("range", "how a stored object is shown"),
        ("if-none-match", "how a stored object is shown"),
        ("cache-control", "speaks to caches"),
        ("content-type", "describes a body"),
        ("traceparent", "names one request or its trace"),
        ("TraceState", "names one request or its trace"),
        ("baggage", "names one request or its trace"),
        ("b3", "names one request or its trace"),
        ("X-B3-TraceId", "names one request or its trace"),
        ("uber-trace-id", "names one request or its trace"),
        ("x-datadog-trace-id", "names one request or its trace"),
        ("X-Amzn-Trace-Id", "names one request or its trace"),
        ("x-cloud-trace-context", "names one request or its trace"),
        ("x-request-id", "names one request or its trace"),
        ("x-correlation-id", "names one request or its trace"),
        ("host", "belongs to the connection"),
        ("connection", "belongs to the connection"),
    ] {
        let text =
            format!("[session]\nheaders = [\"x-token\"]\n{PAGES}key_headers = [\"{name}\"]\n");
        check(&text, &[(11, 16, why)]);
    }
}

#[test]
fn contradictions_between_classes() {
    let class = |name: &str, matches: &str| {
        format!(
            "[[class]]\nname = \"{name}\"\nmatch = {{ {matches} }}\nto = \"everyone\"\ntypes = [\"*/*\"]\n"
        )
    };
    let pair = |first: &str, second: &str| format!("{}{}", class("a", first), class("b", second));
    let paths = |paths: &str| format!("paths = [\"{paths}\"]");
    check(&pair(&paths("/x"), &paths("/y")), &[]);
    check(&pair(&paths("/x"), &paths("/**")), &[]);
    check(
        &format!("{}{}", class("a", &paths("/x")), class("a", &paths("/y"))),
        &[(11, 8, "two classes are named `a`")],
    );
    check(
        &pair(&paths("/x"), &paths("/x")),
        &[(12, 9, "have the same match")],
    );
    check(
        &pair(&paths("/**"), &paths("/x")),
        &[(12, 9, "`a` above takes all of them")],
    );
    check(
        &pair(
            &paths("/x/**"),
            "paths = [\"/x/y/*\"], extensions = [\"css\"]",
        ),
        &[(12, 9, "`a` above takes all of them")],
    );
    check(
        &pair("extensions = [\"css\", \"js\"]", "extensions = [\"js\"]"),
        &[(12, 9, "`a` above takes all of them")],
    );
    check(
        &pair("paths = [\"/**\"], query_has = [\"a\"]", &paths("/x")),
        &[],
    );
    check(
        &pair("paths = [\"/**\"], query_lacks = [\"a\"]", &paths("/x")),
        &[],
    );
    check(
        &pair(
            "paths = [\"/**\"], query_has = [\"a*\"]",
            "paths = [\"/x\"], query_has = [\"ab\"]",
        ),
        &[(12, 9, "`a` above takes")],
    );
    check(&pair("hosts = [\"a.test\"]", &paths("/x")), &[]);
    check(&class("", &paths("/x")), &[(6, 8, "no name for a class")]);
    check(
        &class("a b", &paths("/x")),
        &[(6, 8, "no name for a class")],
    );
    check(
        &class("personal", &paths("/x")),
        &[(6, 8, "what no class claims")],
    );
    check(
        &format!(
            "[[personal]]\npaths = [\"/a/**\"]\n{}",
            class("a", &paths("/a/b"))
        ),
        &[(9, 9, "a [[personal]] takes all of them")],
    );
    check("[[personal]]\n", &[(5, 1, "every request personal")]);
    check_all(
        "version = 1\n[[origin]]\nhosts = [\"a.test\"]\nurl = \"http://one\"\n[[personal]]\nhosts = [\"b.test\"]\n",
        &[(6, 10, "no origin answers for `b.test`")],
    );
}

#[test]
fn faults_of_limits() {
    let check = |limits: &str, expected: &[(usize, usize, &str)]| {
        check(&format!("[limits]\n{limits}\n"), expected);
    };
    check("waiting_max = 0", &[(6, 15, "from 1 to 1000000")]);
    check("waiting_max = -1", &[(6, 15, "not a whole number")]);
    check("waiting_max = \"1\"", &[(6, 15, "not a whole number")]);
    check(
        "head_bytes_max = \"1 KiB\"",
        &[(6, 18, "from 8 KiB to 1 MiB")],
    );
    check("head_time_max = \"0s\"", &[(6, 17, "from 100ms to 1h")]);
    check("head_time_max = 15", &[(6, 17, "not a duration")]);
    check(
        "head_timeout = \"15s\"",
        &[(6, 1, "Did you mean `head_time_max`?")],
    );
    check(
        "head_bytes_max = \"8 KiB\"\ntarget_bytes_max = \"9 KiB\"",
        &[(7, 20, "Write at most 8 KiB")],
    );
}

#[test]
fn a_careless_policy_is_legal() {
    // Careless, not unsafe: a member may see the logged-out page, and that is all.
    rules(
        "[[class]]\nname = \"all\"\nmatch = { paths = [\"/**\"] }\nto = \"everyone\"\ntypes = [\"*/*\", \"text/html\"]\nlifetime = { default = \"1d\", max = \"1d\" }",
    );
}

/// One meaning in two forms.
#[test]
fn a_digest_is_of_the_meaning() {
    let one = "version = 1
        [[origin]]
        hosts = [\"a.test\", \"B.test\"]
        url = \"http://one\"
        [session]
        cookies = [\"a\", \"b\"]
        [[personal]]
        paths = [\"/x\"]
        [[personal]]
        paths = [\"/y\"]
        [[class]]
        name = \"pages\"
        to = \"anonymous\"
        match = { paths = [\"/b\", \"/a\"], hosts = [\"a.test\"] }
        query = [\"q\", \"p\"]
        key_headers = [\"accept\", \"accept-language\"]
        types = [\"text/html\", \"application/xhtml+xml\"]
        lifetime = { default = \"60s\" }";
    let other = "version = 1 # The same.
        [[class]]
        key_headers = [\"Accept-Language\", \"Accept\"]
        query = [\"p\", \"q\", \"q\"]
        query_else = \"drop\"
        name = \"pages\"
        to = \"anonymous\"
        statuses = [200]
        key_encoding = true
        [class.lifetime]
        max = \"60m\"
        default = \"1m\"
        [class.match]
        hosts = [\"A.test\"]
        paths = [\"/a\", \"/b\"]
        [[personal]]
        paths = [\"/y\"]
        [[personal]]
        paths = [\"/x\"]
        [[origin]]
        url = \"http://one:80\"
        hosts = [\"b.test\"]
        [[origin]]
        url = \"http://ONE/\"
        hosts = [\"a.test\"]
        [session]
        cookies = [\"b\", \"a\"]
        [limits]
        store_bytes_max = 268_435_456";
    let (one, other) = (compiled(one).unwrap(), compiled(other).unwrap());
    assert_eq!(
        one.class("pages").unwrap().digest,
        other.class("pages").unwrap().digest
    );
    assert_eq!(one.digest(), other.digest());
    assert!(
        diff(&one, &other)
            .iter()
            .all(|change| matches!(change, Change::ClassKept { .. }))
    );
}

#[test]
fn what_kills_the_objects_of_a_class() {
    let base = format!("{PAGES}types = [\"text/html\"]\n");
    let before = rules(&base).class("pages").unwrap().digest;
    for (what, text, dies) in [
        ("the name", base.replace("\"pages\"", "\"p\"").replace("types", "object_bytes_max = \"4 MiB\"\nlifetime = { default = \"10s\", stale_while_revalidate = \"10s\", stale_if_error = \"10m\" }\ntypes"), false),
        ("a limit", format!("{base}[limits]\nrequests_max = 7"), false),
        ("another class", format!("{base}[[class]]\nname = \"media\""), false),
        ("built-ins", format!("{base}[builtin]\nassets = false"), false),
        ("the match", base.replace("/news/**", "/news/*"), true),
        ("to whom", base.replace("anonymous", "everyone"), true),
        ("a type", base.replace("[\"text/html\"]", "[\"text/html\", \"text/plain\"]"), true),
        ("a status", format!("{base}statuses = [200, 404]"), true),
        ("the query", format!("{base}query = []"), true),
        ("the query's else", format!("{base}query = []\nquery_else = \"personal\""), true),
        ("a key header", format!("{base}key_headers = [\"accept-language\"]"), true),
        ("the encoding", format!("{base}key_encoding = false"), true),
        ("a lifetime", format!("{base}lifetime = {{ max = \"30m\" }}"), true),
        ("a volatile span", format!("{base}volatile = [{{ from = \"a\", to = \"b\" }}]"), true),
        ("the size", format!("{base}object_bytes_max = \"1 MiB\""), true),
        ("slices", format!("{base}slices = \"1 MiB\""), true),
        ("a session cookie", format!("{base}[session]\ncookies = [\"sid\"]"), true),
        ("an ignorable cookie", format!("{base}[session]\nignorable_cookies = [\"x\"]"), true),
        ("a personal path", format!("{base}[[personal]]\npaths = [\"/x\"]"), true),
    ] {
        let rules = rules(&text);
        let after = rules.classes()[0].digest;
        assert_eq!(before != after, dies, "{what}");
    }
}

#[test]
fn a_diff_says_what_dies() {
    let own = "[[class]]\nname = \"own\"\nmatch = { paths = [\"/o\"] }\nto = \"everyone\"\ntypes = [\"text/plain\"]\n";
    let check = |old: &str, new: &str, expected: &[&str]| {
        let changes = diff(&rules(old), &rules(new));
        let shown: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected, "{old}\n{new}");
        for (change, shown) in changes.iter().zip(&shown) {
            assert_eq!(change.objects_die(), shown.contains("die"), "{shown}");
        }
    };
    let assets = "class `assets`: unchanged; its objects live on";
    let touched = "class `assets`: its objects die, since members or personal requests are told by other signs";
    check("", "", &[assets]);
    check("", own, &["class `own`: added", assets]);
    check(own, "", &[assets, "class `own`: removed; its objects die"]);
    check(
        own,
        &own.replace("own", "mine"),
        &[
            "class `own`: renamed to `mine`; its objects live on",
            assets,
        ],
    );
    check(
        own,
        &format!("{own}statuses = [200, 404]\nlifetime = {{ default = \"5s\" }}"),
        &[
            "class `own`: changed; its objects die\n  statuses: 200 -> 200, 404\n  lifetime.default: none -> 5s",
            assets,
        ],
    );
    check(
        "",
        "[session]\nheaders = [\"x-user\"]",
        &["session: headers: (nothing) -> `x-user`", touched],
    );
    check(
        "",
        "[[personal]]\npaths = [\"/a\"]",
        &["personal: now also paths `/a`", touched],
    );
    check(
        "[[personal]]\npaths = [\"/a\"]",
        "",
        &["personal: no longer paths `/a`", touched],
    );
    check(
        "",
        "[limits]\nhead_time_max = \"5s\"",
        &[assets, "limit: head_time_max: 15s -> 5s"],
    );
    check(
        &format!("{own}{PAGES}"),
        &format!("{PAGES}{own}"),
        &[
            "class `pages`: unchanged; its objects live on",
            "class `own`: unchanged; its objects live on",
            assets,
            "classes are tried in another order: pages, own, assets",
        ],
    );
    let moved = compile(None, Some(origin("http://127.0.0.2:8080").unwrap())).unwrap();
    let changes = diff(&rules(""), &moved);
    assert_eq!(
        changes[0].to_string(),
        "origin: *: http://127.0.0.1:8080 with the client's `Host` -> http://127.0.0.2:8080 with the client's `Host` \
         (what is stored for these hosts dies)"
    );
}

#[test]
fn rules_are_described_in_sentences() {
    let rules = rules(&format!(
        "[session]\ncookies = [\"sid\"]\n[[personal]]\npaths = [\"/account/**\"]\n{PAGES}query = [\"page\"]\n\
         key_headers = [\"accept-language\"]\n[builtin]\nassets = false\n[limits]\nrequests_max = 7\n"
    ));
    let text = rules.describe();
    let text = text.split_once("\n\n").unwrap().1;
    assert_eq!(
        text,
        "Requests for `*` go to http://127.0.0.1:8080 with the client's `Host`.\n\
         A member is recognised by the cookies `sid`, by `Authorization`.\n\
         Never shared, whatever a class says: paths `/account/**`.\n\
         \n\
         These may be shared; the first class that matches counts. All else goes to the origin as itself.\n\
         \n\
         `pages`: GET and HEAD for paths `/news/**`.\n  \
         Served to requests without credentials; a member's request goes to the origin as itself.\n  \
         Stored: `application/xhtml+xml`, `text/html`, with status 200, up to 4 MiB, unless the origin forbids it, sets a cookie or varies on more than the key.\n  \
         A document is stored only when two copies fetched without credentials agree.\n  \
         The origin is asked with: scheme, host and path; the parameters `page` (the origin does not see others); the content codings that the client takes; the header `accept-language`.\n  \
         Fresh for as long as the origin states, at most 1h; 10s when it states none. Served up to 10s longer while it is refreshed. Served up to 10m longer when the origin fails.\n\
         \n\
         An answer in which the origin names another viewer than its session's is recorded.\n\
         A session is known by `sid`, whose values are one client's alone.\n\
         \n\
         Limits other than the default: `requests_max` 7.\n"
    );
    assert!(
        self::rules("[builtin]\nassets = false")
            .describe()
            .contains("Nothing is shared")
    );
}

const MANUAL: &str = include_str!("../../../../docs/policy.md");

/// The language and its description change together.
#[test]
fn the_manual_names_every_key_and_limit() {
    for key in [
        "version",
        "cookies",
        "ignorable_cookies",
        "headers",
        "query",
        "query_public",
        "segments",
        "hosts",
        "url",
        "host_header",
        "ca",
        "server_name",
        "upgrade",
        "paths",
        "extensions",
        "query_has",
        "query_lacks",
        "name",
        "match",
        "to",
        "types",
        "statuses",
        "query_else",
        "key_headers",
        "key_encoding",
        "lifetime.default",
        "lifetime.max",
        "lifetime.stale_while_revalidate",
        "lifetime.stale_if_error",
        "volatile",
        "object_bytes_max",
        "slices",
        "assets",
    ] {
        assert!(
            MANUAL.contains(&format!("| `{key}` |")),
            "no row for `{key}`"
        );
    }
    let default = Limits::default();
    for limit in limits::LIMITS {
        let [value, min, max] =
            [(limit.get)(&default), limit.min, limit.max].map(|v| limit.unit.show(v));
        let row = format!("| `{}` | {value} | {min} to {max} |", limit.name);
        assert!(MANUAL.contains(&row), "no row {row}");
    }
    for cookie in builtin::IGNORABLE_COOKIES {
        assert!(MANUAL.contains(&format!("`{cookie}`")), "{cookie}");
    }
    for kind in [builtin::Kind::Assets, builtin::Kind::Media] {
        for extension in kind.matches().unwrap().extensions {
            assert!(MANUAL.contains(&format!("`{extension}`")), "{extension}");
        }
        for types in kind.types().unwrap() {
            assert!(MANUAL.contains(&format!("`{}`", types.0)), "{}", types.0);
        }
    }
    for name in crate::identity::documented() {
        assert!(MANUAL.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_examples_of_the_manual_compile() {
    let examples: Vec<&str> = MANUAL
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() >= 3);
    for example in examples {
        if let Err(errors) = compiled(example) {
            panic!("{example}\n{errors:?}");
        }
    }
}

/// Pieces that policies are made of, some of them wrong.
fn pieces() -> impl Strategy<Value = String> {
    let words = "\\[?\\[?(session|origin|class|personal|limits|builtin|class\\.lifetime)\\]?\\]?|\
                 (cookies|hosts|paths|query|types|statuses|name|to|url|match|lifetime|volatile|max|version) = \
                 (\"[ -~]{0,8}\"|\\[\"[ -~é]{0,8}\"\\]|[0-9]{1,4}|true|\\{ paths = \\[\"/[a-z*%2f]{0,6}\"\\] \\})";
    prop::collection::vec(words, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_compiles_or_says_why(text in "\\PC{0,200}") {
        if let Err(errors) = compiled(&text) {
            prop_assert!(!errors.is_empty());
        }
    }

    #[test]
    fn any_pieces_compile_or_say_why(text in pieces()) {
        match compiled(&text) {
            Err(errors) => {
                let lines = text.split('\n').count();
                prop_assert!(!errors.is_empty() && errors.iter().all(|e| e.line <= lines));
            }
            Ok(rules) => prop_assert!(!rules.origins().is_empty()),
        }
    }

    /// A text has one meaning, and what a diff is silent about is the same.
    #[test]
    fn compiling_twice_gives_one_digest(
        names in prop::collection::vec("[a-z]{1,6}\\*?", 0..4), seconds in 1_u64..3_600, megabytes in 1_u64..200,
    ) {
        let list = format!("{names:?}");
        let text = format!(
            "version = 1\n{ORIGIN}{PAGES}query = {list}\nlifetime = {{ default = \"{seconds}s\" }}\n\
             [limits]\nstore_bytes_max = \"{megabytes} MiB\"\n"
        );
        let (Ok(one), Ok(two)) = (compiled(&text), compiled(&text)) else {
            // A name of the built-in list.
            return Ok(());
        };
        prop_assert_eq!(one.digest(), two.digest());
        let same = diff(&one, &two).iter().all(|c| matches!(c, Change::ClassKept { .. }));
        prop_assert!(same);
    }

    /// Two policies have one digest exactly when a diff finds nothing.
    #[test]
    fn a_diff_is_empty_exactly_when_the_digests_are_one(
        a in prop::sample::subsequence(OPTIONS.to_vec(), 0..OPTIONS.len()),
        b in prop::sample::subsequence(OPTIONS.to_vec(), 0..OPTIONS.len()),
    ) {
        let (one, two) = (rules(&a.concat()), rules(&b.concat()));
        let same = diff(&one, &two).iter().all(|c| matches!(c, Change::ClassKept { .. }));
        prop_assert_eq!(same, one.digest() == two.digest());
        for class in one.classes() {
            let dies = diff(&one, &two).iter().any(|change| match change {
                Change::ClassChanged { name, .. } | Change::ClassRemoved { name } => *name == class.name,
                _ => false,
            });
            let lives = two.classes().iter().any(|c| c.digest == class.digest);
            prop_assert_eq!(dies, !lives, "{}", class.name);
        }
    }
}

const OPTIONS: &[&str] = &[
    "[session]\ncookies = [\"sid\"]\n",
    "[[personal]]\npaths = [\"/account/**\"]\n",
    PAGES,
    "[[class]]\nname = \"media\"\n",
    "[[class]]\nname = \"own\"\nmatch = { paths = [\"/o\"] }\nto = \"everyone\"\ntypes = [\"text/plain\"]\n",
    "[limits]\nrequests_max = 7\n",
    "[builtin]\nassets = false\n",
];

#[test]
fn pins_say_what_is_held_against_an_origin_s_word() {
    use crate::rules::{NamePattern, PathPattern, PinAction, PinRules, Trip};
    use shikiri_record::Mode;
    let unsaid = rules("");
    assert_eq!(*unsaid.pins(), PinRules::unsaid());
    // One cookie that identifies a member is one session's alone; of several, who knows.
    let sid = vec![NamePattern("sid".into())];
    assert_eq!(rules("[session]\ncookies = [\"sid\"]").pins().cookies, sid);
    let several = "[session]\ncookies = [\"sid\", \"messages\"]\n";
    assert_eq!(rules(several).pins().cookies, []);
    let said = rules(&format!(
        "{several}[pins]\naction = \"stop\"\ncookies = [\"sid\"]\nstarts = [\"/login\"]\nowners = \"ignore\"\n\
         nobodies = \"ignore\"\nsessions_max = 1000\ntrip = {{ viewers = 3, within = \"60s\", mode = \"pass\" }}\n"
    ));
    let expected = PinRules {
        action: PinAction::Stop,
        trip: Some(Trip {
            viewers: 3,
            within: Duration::from_secs(60),
            mode: Mode::Pass,
        }),
        cookies: sid,
        starts: vec![PathPattern("/login".into())],
        judges_owners: false,
        judges_nobodies: false,
        sessions_max: 1000,
    };
    assert_eq!(*said.pins(), expected);
    // It is no part of what is stored.
    assert_eq!(said.classes()[0].digest, rules(several).classes()[0].digest);
    assert_ne!(said.digest(), rules(several).digest());
    let changes = diff(&rules(several), &said);
    let pins = changes.iter().filter(|c| matches!(c, Change::Pins(_)));
    assert_eq!(pins.count(), 7);
    assert!(changes.iter().all(|change| !change.objects_die()));
    let described = said.describe();
    for part in ["nothing of it leaves", "3 members", "`pass`", "`/login`"] {
        assert!(described.contains(part), "{part} in {described}");
    }
}

#[test]
fn pins_that_cannot_be() {
    check(
        "[pins]\naction = \"close\"",
        &[(6, 10, "cannot be `close`")],
    );
    check("[pins]\nowners = true", &[(6, 10, "not a text")]);
    check("[pins]\nnobodies = \"no\"", &[(6, 12, "cannot be `no`")]);
    check("[pins]\nstarts = []", &[(6, 10, "lists none")]);
    check(
        "[pins]\nstarts = [\"login\"]",
        &[(6, 11, "starts with neither")],
    );
    check("[pins]\nsessions_max = 1", &[(6, 16, "from 100 to")]);
    check("[pins]\ntrips = 3", &[(6, 1, "Did you mean `trip`")]);
    check(
        "[pins]\ncookies = [\"_ga\"]",
        &[(6, 12, "does not say that it identifies")],
    );
    check(
        "[session]\ncookies = [\"sid\"]\n[pins]\ncookies = [\"other\"]",
        &[(8, 12, "does not say that it identifies")],
    );
    let trip = |text: &str, expected| check(&format!("[pins]\ntrip = {{ {text} }}"), expected);
    trip(
        "viewers = 1, within = \"1m\", mode = \"pass\"",
        &[(6, 20, "from 2 to 1000")],
    );
    trip(
        "viewers = 3, within = \"2h\", mode = \"open\"",
        &[(6, 32, "from 1s to 1h"), (6, 45, "`open` is no mode")],
    );
    trip(
        "viewers = 3",
        &[(6, 8, "has no `within`"), (6, 8, "has no `mode`")],
    );
}

const GATED: &str = "[[class]]\nname = \"films\"\nmatch = { paths = [\"/films/**\"] }\nto = \"gated\"\ntypes = [\"video/*\"]\n";
const CREDENTIAL: &str =
    "credential = { header = \"X-Edge-Key\", file = \"/run/secrets/media\" }\n";

#[test]
fn a_gated_class_may_open_by_tokens() {
    let text = |gate: &str| format!("{GATED}query = []\ngate = {{ {gate} }}\n{CREDENTIAL}");
    let good = "token = \"path\", prefix = \"/t/\", files = [\"/run/new\"], envs = [\"OLD\"]";
    let tokened = rules(&text(good));
    let described = tokened.describe();
    for part in [
        "Served to whoever shows a token for it.",
        "Opened by a token in the path, after `/t/`, made with a secret in the file `/run/new` or the variable `OLD`.",
    ] {
        assert!(described.contains(part), "{described}");
    }
    assert_eq!(tokened.secrets().len(), 3);
    assert_eq!(tokened.unprobed().count(), 0);
    // With which secrets they are made kills nothing that is stored, and is in force.
    let secret = |of: &[u8]| {
        let source = SecretSource::Environment("OLD".into());
        tokened
            .clone()
            .armed(&[(source, Secret::new(of).unwrap())].into())
    };
    let (one, other) = (secret(b"0123456789abcdef"), secret(b"0123456789abcdeF"));
    assert_eq!(
        one.class("films").unwrap().digest,
        other.class("films").unwrap().digest
    );
    assert_ne!(one.digest(), other.digest());
    let asks = rules(&text("path = \"/authz{path}\""));
    assert_ne!(
        asks.class("films").unwrap().digest,
        tokened.class("films").unwrap().digest
    );
    for (gate, fault) in [
        (
            "token = \"header\", files = [\"/a\"]",
            "a token cannot be in `header`",
        ),
        (
            "token = \"path\", files = [\"/a\"]",
            "after which first segment",
        ),
        (
            "token = \"path\", prefix = \"/\", files = [\"/a\"]",
            "after which first segment",
        ),
        (
            "token = \"path\", prefix = \"/a/b/\", files = [\"/a\"]",
            "after which first segment",
        ),
        (
            "token = \"path\", prefix = \"/%74/\", files = [\"/a\"]",
            "after which first segment",
        ),
        ("token = \"query\", files = [\"/a\"]", "in which parameter"),
        (
            "token = \"query\", parameter = \"a b\", files = [\"/a\"]",
            "in which parameter",
        ),
        (
            "token = \"query\", parameter = \"t\", prefix = \"/t/\", files = [\"/a\"]",
            "`prefix` says nothing",
        ),
        (
            "token = \"query\", parameter = \"t\"",
            "made with 0 secrets",
        ),
        (
            "token = \"query\", parameter = \"t\", envs = [\"a\", \"b\", \"c\", \"d\", \"e\"]",
            "made with 5 secrets",
        ),
        (
            "token = \"query\", parameter = \"t\", envs = [\"a b\"]",
            "no name of a variable",
        ),
        (
            "token = \"query\", parameter = \"t\", envs = [\"a\"], path = \"/authz{path}\"",
            "`path` is of a gate that asks",
        ),
        (
            "path = \"/authz{path}\", prefix = \"/t/\"",
            "`prefix` says nothing without `token`",
        ),
    ] {
        let text = format!("version = 1\n{ORIGIN}{}", text(gate));
        let found = compiled(&text).expect_err(gate);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|found| found.contains(fault)),
            "{gate}: {found:?}"
        );
    }
}

#[test]
fn a_gated_class_says_where_its_gate_is_and_where_its_secret() {
    let rules = rules(&format!(
        "{GATED}query = []\ngate = {{ path = \"/authz{{path}}\" }}\n{CREDENTIAL}"
    ));
    let class = rules.class("films").unwrap();
    assert_eq!(class.to, To::Gated);
    let gate = class.gate.as_ref().unwrap();
    let GateBy::Origin { target, method } = &gate.by else {
        panic!("it asks the origin")
    };
    assert_eq!(
        (method.as_str(), target.to_string().as_str()),
        ("GET", "/authz{path}")
    );
    assert_eq!(gate.credential.header, "x-edge-key");
    let described = rules.describe();
    for part in [
        "asked each time",
        "`GET /authz{path}`",
        "`x-edge-key` from the file `/run/secrets/media`, which is not known",
    ] {
        assert!(described.contains(part), "{part} in {described}");
    }
}

#[test]
fn gates_that_cannot_be() {
    check(
        GATED,
        &[(5, 1, "has no `gate`"), (5, 1, "has no `credential`")],
    );
    let gate = "gate = { path = \"/authz{path}?{query}\" }\n";
    check(
        &format!("{PAGES}{gate}"),
        &[(9, 8, "says nothing without `to = \"gated\"`")],
    );
    check(
        &format!("{PAGES}{CREDENTIAL}"),
        &[(9, 14, "says nothing without `to = \"gated\"`")],
    );
    let of = |gate: &str, expected: &[(usize, usize, &str)]| {
        check(
            &format!("{GATED}{CREDENTIAL}gate = {{ {gate} }}\n"),
            expected,
        );
    };
    of("method = \"HEAD\"", &[(11, 8, "the gate has no `path`")]);
    of(
        "path = \"/authz\"",
        &[(11, 17, "does not say once for which path")],
    );
    of(
        "path = \"/authz{path}\"",
        &[(11, 17, "not asked for the query")],
    );
    of(
        "path = \"/authz?for={path}&{query}\"",
        &[(11, 17, "parameters of its own")],
    );
    of(
        "path = \"/authz{path}?{query}\", method = \"POST\"",
        &[(11, 50, "cannot be asked with `POST`")],
    );
    of(
        "path = \"/authz{path}?{query}\", probe = \"/films/1\"",
        &[(11, 49, "is no URL")],
    );
    of(
        "path = \"/authz{path}?{query}\", cache = true",
        &[(11, 41, "has no key `cache`")],
    );
    let of = |credential: &str, expected: &[(usize, usize, &str)]| {
        check(
            &format!("{GATED}{gate}credential = {{ {credential} }}\n"),
            expected,
        );
    };
    of("file = \"/x\"", &[(11, 14, "has no `header`")]);
    of("header = \"X-Edge-Key\"", &[(11, 14, "in one way")]);
    of(
        "header = \"X-Edge-Key\", file = \"/x\", env = \"X\"",
        &[(11, 58, "in one way")],
    );
    of(
        "header = \"X-Edge-Key\", env = \"A B\"",
        &[(11, 45, "in one way")],
    );
    for (header, why) in [
        ("Cookie", "members show theirs"),
        ("Authorization", "members show theirs"),
        ("X-Forwarded-For", "has a meaning"),
        ("Accept", "has a meaning"),
        // Gateways that turn names into variables know these by the same name.
        ("Proxy_Authorization", "members show theirs"),
        ("X_Forwarded_For", "has a meaning"),
        ("Accept_Language", "has a meaning"),
        ("a b", "no header name"),
    ] {
        of(
            &format!("header = \"{header}\", file = \"/x\""),
            &[(11, 25, why)],
        );
    }
    check(
        &format!("{GATED}{gate}{CREDENTIAL}key_headers = [\"x-edge-key\"]\n"),
        &[
            (11, 25, "it is in the key"),
            (12, 15, "its gate goes by the path"),
        ],
    );
    check(
        &format!("{GATED}{gate}{CREDENTIAL}key_headers = [\"x-edition\"]\n"),
        &[(12, 15, "its gate goes by the path")],
    );
    for spelt in ["x-edge-key", "x_edge_key", "X-Edge_Key"] {
        check(
            &format!("{PAGES}key_headers = [\"{spelt}\"]\n{GATED}{gate}{CREDENTIAL}"),
            &[(9, 15, "bears the credential of the class `films`")],
        );
    }
    check(
        &format!("[session]\nheaders = [\"x_edge_key\"]\n{GATED}{gate}{CREDENTIAL}"),
        &[(13, 25, "members show theirs")],
    );
}

#[test]
fn a_credential_is_shown_to_one_origin() {
    let origin = |hosts: &str| format!("[[origin]]\nhosts = [\"{hosts}\"]\nurl = \"http://h:1\"\n");
    let gate = "gate = { path = \"/authz{path}?{query}\" }\n";
    let several = format!("{}{}", origin("films.test"), origin("*"));
    let class = |hosts: &str| {
        let class = GATED.replace("match = { ", &format!("match = {{ {hosts}"));
        format!("version = 1\n{several}{class}{gate}{CREDENTIAL}")
    };
    for (hosts, origins) in [
        ("", 2),
        ("hosts = [\"films.test\"], ", 1),
        ("hosts = [\"shop.test\"], ", 1),
        ("hosts = [\"films.test\", \"shop.test\"], ", 2),
        ("hosts = [\"*.test\"], ", 2),
    ] {
        let text = class(hosts);
        let expected = [(10, 9, "asked of 2 origins")];
        check_all(&text, if origins == 1 { &[] } else { &expected });
    }
}

#[test]
fn a_secret_is_one_origin_s() {
    let origin = |host: &str, port: u16| {
        format!("[[origin]]\nhosts = [\"{host}.test\"]\nurl = \"http://h:{port}\"\n")
    };
    let class = |host: &str, source: &str| {
        GATED
            .replace(
                "match = { ",
                &format!("match = {{ hosts = [\"{host}.test\"], "),
            )
            .replace("\"films\"", &format!("\"films-{host}\""))
            + "gate = { path = \"/authz{path}?{query}\" }\n"
            + &format!("credential = {{ header = \"X-Edge-Key\", {source} }}\n")
    };
    let (a, b) = ("file = \"/run/a\"", "file = \"/run/b\"");
    for (ports, one, other, expected) in [
        (
            (1, 2),
            a,
            a,
            &[(21, 14, "that of the class `films-a` too")][..],
        ),
        (
            (1, 2),
            a,
            "file = \"/run/./a\"",
            &[(21, 14, "another origin's")],
        ),
        (
            (1, 2),
            "env = \"A\"",
            "env = \"A\"",
            &[(21, 14, "the variable `A`")],
        ),
        ((1, 2), a, b, &[]),
        ((1, 2), "env = \"A\"", "file = \"A\"", &[]),
        // One server under two names.
        ((1, 1), a, a, &[]),
    ] {
        let text = format!(
            "version = 1\n{}{}{}{}",
            origin("a", ports.0),
            origin("b", ports.1),
            class("a", one),
            class("b", other)
        );
        check_all(&text, expected);
    }
}
