//! Targets, and what they are taken for.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

fn session() -> Session {
    let names = |names: &[&str]| names.iter().map(|&n| NamePattern(n.to_owned())).collect();
    Session {
        cookies: Vec::new(),
        ignorable_cookies: Vec::new(),
        headers: Vec::new(),
        query: names(&["invite", "ref_*"]),
        query_public: names(&["v", "build*"]),
        segments: names(&["me", "u-*"]),
    }
}

fn check_path(target: &str, expected: Result<(), Personal>) {
    assert_eq!(path(target, &session()), expected, "{target}");
}

fn check_query(target: &str, expected: Result<(), Personal>) {
    assert_eq!(query(Some(target), &session()), expected, "{target}");
}

#[test]
fn plain_paths_are_shareable() {
    for target in [
        "/",
        "/index.html",
        "/news/2026/01/15/",
        "/news/how-to-install-windows-11-on-a-mac-mini-m4",
        "/iphone-15-pro-256gb-vs-galaxy-s24-ultra-512gb",
        "/wiki/AT&T",
        "/wiki/C%2B%2B",
        "/wiki/%E4%BB%95%E5%88%87%E3%82%8A",
        "/wiki/%e4%bb%95%e5%88%87%e3%82%8a",
        "/a%20b/c",
        "/npm/@scope/pkg@1.2.3/dist/x.js",
        "/icon@2x.png",
        "/products/507f1f77bcf86cd799439011",
        "/how-i-built-it-3f2a9c1b2d4e",
        "/2026-01-15T10:00:00",
        "/~user/x",
        "/a,b/c=d/(e)",
        "/getElementsByTagNameNS",
        "/.well-known/security.txt",
        "/p/samsung-55in-4k-qled-q80c-2026",
        "/media/video_00001.ts",
        "/members/list",
    ] {
        check_path(target, Ok(()));
    }
}

#[test]
fn names_of_built_files_are_shareable() {
    for target in [
        "/app.3f2a9c1b.js",
        "/assets/application-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.css",
        "/main-BxYz12aQ.js",
        "/index-D_x-3kQa.css",
        "/_next/static/chunks/pages/_app-3f2a9c1b2d3e4f5a.js",
        "/fonts/Inter-roman.latin.Di8DUHzh4k2m.woff2",
        "/d41d8cd98f00b204e9800998ecf8427e.png",
        "/uploads/550e8400-e29b-41d4-a716-446655440000.jpg",
        "/x/AbCdEf0123456789AbCdEf01.js",
        "/manifest.webmanifest",
        "/VeryLongComponentNameWithoutAnyDigitsInItAtAll.js",
    ] {
        check_path(target, Ok(()));
    }
}

#[test]
fn paths_that_servers_read_in_different_ways() {
    for target in [
        // Separators and the like behind a percent sign.
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%3bb",
        "/a%3fb",
        "/a%23b",
        "/a%26b",
        "/a%25b",
        "/a%252fb",
        // A dot or a letter in disguise.
        "/%2e%2e/b",
        "/a/.%2e/b",
        "/a%2ejs",
        "/%61ccount",
        "/acc%6Funt.css",
        "/%7Euser",
        "/a%5f",
        // Controls.
        "/a%00.css",
        "/a%0a.css",
        "/a%0d%0a.css",
        "/a%1f",
        "/a%7f",
        "/%C2%80",
        // Dot segments and empty ones.
        "/a/../b",
        "/..",
        "/.",
        "/a/./b",
        "/a/..",
        "/...",
        "/a/..%20/b",
        "//",
        "//a",
        "/a//b",
        "/a//",
        // Parameters of a path.
        "/account;x.css",
        "/a;b=c/d",
        "/;",
        // What RFC 3986 does not allow.
        "/a\\b",
        "/a b",
        "/a\"b",
        "/a<b>",
        "/a{b}",
        "/a|b",
        "/a^b",
        "/a`b",
        "/a[b]",
        "/é",
        "/a#b",
        "/a?b",
        // Percent signs that encode nothing.
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%2x",
        "/100%",
        "/a%u002e",
        // Not UTF-8: an overlong slash, a lone byte, a surrogate.
        "/a%c0%afb",
        "/a%e3",
        "/a%ed%a0%80",
        // Look-alikes that normalisation folds into separators and dots.
        "/a%EF%BC%8Fb",
        "/%EF%BC%8E%EF%BC%8E/b",
        "/a%EF%BC%BCb",
        "/a%E2%88%95b",
        // Two spellings of one byte side by side.
        "/%e3%81%8A",
        // Not in origin form.
        "*",
        "",
        "a/b",
        "http://a.test/",
    ] {
        check_path(target, Err(Personal::AmbiguousPath));
    }
}

#[test]
fn paths_that_name_somebody() {
    for target in [
        "/a;jsessionid=1",
        "/a;JSESSIONID=1/b.css",
        "/a;x;sid=1",
        "/me",
        "/me/",
        "/a/me/b.css",
        "/ME/x",
        "/u-17/photo.jpg",
        "/U-17",
        "/list/alice@example.test/settings",
        "/alice%40example.test/",
    ] {
        check_path(target, Err(Personal::IdentityInPath));
    }
}

#[test]
fn paths_that_hold_a_token() {
    for target in [
        "/reset/Ab3dEf6hIj9lMn2pQr5t",
        "/reset/Ab3dEf6hIj9lMn2pQr5t/",
        "/reset/Ab3dEf6hIj9lMn2pQr5t/style.css",
        "/d/0123456789abcdef0123456789abcdef",
        "/d/0123456789ABCDEF0123456789ABCDEF/x.png",
        "/share/550e8400-e29b-41d4-a716-446655440000",
        "/share/550e8400-e29b-41d4-a716-446655440000/photo.jpg",
        "/x/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "/x/eyJfcmFpbHMiOnsibWVzc2FnZSI6--0a1b/cat.png",
        "/x/cjld2cjxh0000qzrmn831i7rn",
        "/x/dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "/x/12345678901234567890",
        "/x/AbCdEf0123456789AbCdEf0123456789.js",
        "/x/0123456789ABCDEF0123456789ABCDEF.js",
        "/x/eyJhbGciOiJIUzI1NiJ9.js",
        "/x/cjld2cjxh0000qzrmn831i7rn.png",
        // No extension: too long, or digits alone.
        "/x/Ab3dEf6hIj9lMn2pQr5t.notanextension",
        "/x/Ab3dEf6hIj9lMn2pQr5t.7",
    ] {
        check_path(target, Err(Personal::TokenInPath));
    }
}

#[test]
fn plain_queries_are_shareable() {
    assert_eq!(query(None, &session()), Ok(()));
    for target in [
        "",
        "&",
        "a",
        "a=",
        "=a",
        "page=2&q=shoes",
        "v=1.2.3",
        "ver=20260101",
        "1699999999",
        "v=3f2a9c1b",
        "q=50%25",
        "q=a%26b",
        "q=C%2B%2B",
        "q=%E4%BB%95",
        "q=%83%4e",
        "q=a+b",
        "tags[]=a&tags[]=b",
        "tags%5B%5D=a",
        "author=jane",
        "sort_key=price",
        "keyword=x",
        "codec=h264",
        "statement=1",
        "policyholder=1",
        "order=asc",
        "hotp=1",
        "redirect=/a/b?c",
        "t=2026-01-15T10:00:00Z",
        "q=how+to+install+windows+11",
        "q=~x*",
        // Exempt by policy.
        "v=0123456789abcdef0123456789abcdef",
        "build_id=W6FsXN1kGLe1n6Rmv4ZKt",
        // Hung on links by others.
        "fbclid=IwAR3xKq7Zb2Tn9VwYc4Lp8MdRf6Hs1Jg5",
        "GCLID=Cj0KCQiA1rSsBhDHARIsANB4EJZ",
        "utm_source=x",
    ] {
        check_query(target, Ok(()));
    }
}

#[test]
fn queries_that_servers_read_in_different_ways() {
    for target in [
        "a=1;b=2",
        "a;b",
        "a=%",
        "a=%2",
        "%zz=1",
        "a=%00",
        "a=%0d%0aSet-Cookie:x",
        "a%00=1",
        "a=\u{e9}",
        "a=b\"c",
        "a=<b>",
        "a={b}",
        "a=b|c",
        "a=b\\c",
        "a=^",
        "a=`",
        "a=b c",
        "a#b",
        // A name in disguise.
        "%73id=1",
        "p%61ge=2",
        "a%26b=1",
        "a%3Db=1",
        "a%3bb=1",
        "a%25=1",
        "a%23=1",
        "%74oken=1",
    ] {
        check_query(target, Err(Personal::AmbiguousQuery));
    }
}

#[test]
fn queries_that_name_somebody() {
    for name in [
        "sid",
        "SID",
        "phpsessid",
        "PHPSESSID",
        "jsessionid",
        "session",
        "session_id",
        "sessionToken",
        "token",
        "access_token",
        "accessToken",
        "csrf-token",
        "csrfmiddlewaretoken",
        "auth",
        "auth_user",
        "authuser",
        "authorization",
        "oauth_verifier",
        "key",
        "api_key",
        "api-key",
        "apikey",
        "code",
        "state",
        "sig",
        "signature",
        "Signature",
        "X-Amz-Signature",
        "X-Amz-Date",
        "X-Goog-Credential",
        "Policy",
        "Key-Pair-Id",
        "email",
        "user_email",
        "otp",
        "nonce",
        "ticket",
        "password",
        "user",
        "user_id",
        "userId",
        "uid",
        "my_uid",
        "member_no",
        "customer",
        "SAMLResponse",
        "RelayState",
        "user[id]",
        "a[token]",
        "user%5Bid%5D",
        "mc_eid",
        "mkt_tok",
        "order_id",
        "aspsessionidabc",
        // By policy, in any case.
        "invite",
        "Invite",
        "ref_17",
    ] {
        let found = query(Some(&format!("a=1&{name}=x")), &session());
        assert!(
            matches!(found, Err(Personal::IdentityInQuery(_))),
            "{name}: {found:?}"
        );
    }
    check_query(
        "to=alice@example.test",
        Err(Personal::IdentityInQuery("to".into())),
    );
    check_query(
        "to=alice%40example.test",
        Err(Personal::IdentityInQuery("to".into())),
    );
    // The list goes before the exemption.
    check_query(
        "build_token=1",
        Err(Personal::IdentityInQuery("build_token".into())),
    );
}

#[test]
fn queries_that_hold_a_token() {
    for (target, name) in [
        ("x=Ab3dEf6hIj9lMn2pQr5t", "x"),
        ("x=0123456789abcdef0123456789abcdef", "x"),
        ("x=550e8400-e29b-41d4-a716-446655440000", "x"),
        ("x=eyJhbGciOiJIUzI1NiJ9.e30.x", "x"),
        ("next=%2Fa%3Fb%3DAb3dEf6hIj9lMn2pQr5t", "next"),
        ("x=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "x"),
        // A message shows no more of a secret than where to look for it.
        ("eyJhbGciOiJIUzI1NiJ9", "eyJh…"),
        ("550e8400-e29b-41d4-a716-446655440000", "550e…"),
    ] {
        check_query(target, Err(Personal::TokenInQuery(name.into())));
    }
}

#[test]
fn parameters_and_extensions() {
    let all = |q| parameters(Some(q)).collect::<Vec<_>>();
    assert_eq!(all("a=1&&b&c=d=e"), [("a", "1"), ("b", ""), ("c", "d=e")]);
    for (path, expected) in [
        ("/a.css", Some("css")),
        ("/a.b/c", None),
        ("/a.", None),
        ("/a.min.js", Some("js")),
        ("/", None),
        ("a.css", None),
    ] {
        assert_eq!(extension(path), expected, "{path}");
    }
}

/// Random text in an alphabet that tokens are written in, every letter as likely as every other.
fn written_in(alphabet: &str, chars: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let letters: Vec<char> = alphabet.chars().collect();
    prop::collection::vec(prop::sample::select(letters), chars).prop_map(String::from_iter)
}

fn tokens() -> impl Strategy<Value = String> {
    prop_oneof![
        written_in("0123456789abcdef", 32..65),
        written_in("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 32..53),
        written_in("abcdefghijklmnopqrstuvwxyz0123456789", 28..41),
        written_in(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            32..65
        ),
        written_in(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            24..65
        ),
    ]
}

proptest! {
    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,60}") {
        use Personal::{AmbiguousPath, AmbiguousQuery, IdentityInPath, IdentityInQuery, TokenInPath, TokenInQuery};
        let in_path = path(&text, &session());
        prop_assert!(matches!(in_path, Ok(()) | Err(AmbiguousPath | IdentityInPath | TokenInPath)));
        let in_query = query(Some(&text), &session());
        prop_assert!(matches!(in_query, Ok(()) | Err(AmbiguousQuery | IdentityInQuery(_) | TokenInQuery(_))));
    }

    #[test]
    fn any_bytes_behind_percent_signs_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        let text: String = bytes.iter().map(|b| format!("%{b:02X}")).collect();
        // An encoded name is never let through with a letter in it, in a path or a parameter.
        let disguised = bytes.iter().any(u8::is_ascii_alphanumeric);
        let in_path = path(&format!("/{text}"), &session());
        let in_query = query(Some(&format!("{text}=1")), &session());
        prop_assert!(!disguised || in_path.is_err() && in_query.is_err());
    }

    /// What is let through has no second reading: decoding it once more changes nothing that routes.
    #[test]
    fn what_is_let_through_decodes_to_itself(text in "/[a-z%25/.;0-9A-F]{0,24}") {
        if path(&text, &session()).is_ok() {
            prop_assert!(!text.contains("//") && !text.contains(';'));
            prop_assert!(!text.to_ascii_lowercase().contains("%2e"));
            prop_assert!(!text.to_ascii_lowercase().contains("%2f"));
            prop_assert!(!text.split('/').any(|s| s == "." || s == ".."));
        }
    }

    #[test]
    fn fingerprints_of_files_are_not(
        stem in "x[a-z]{0,12}", digest in "([0-9a-f]{8,64}|[A-Za-z0-9_-]{8,24})", ending in "(js|css|woff2)",
    ) {
        prop_assume!(!holds_jwt(&digest));
        let target = format!("/static/{stem}-{digest}.{ending}");
        prop_assert_eq!(path(&target, &session()), Ok(()), "{}", target);
    }
}

/// A few random tokens look like words: fewer than one in a hundred.
#[test]
fn random_tokens_are_seen() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut token = || tokens().new_tree(&mut runner).expect("a token").current();
    let missed: Vec<String> = (0..5_000)
        .map(|_| token())
        .filter(|t| !holds_token(t))
        .collect();
    assert!(missed.len() < 50, "{} {missed:?}", missed.len());
}
