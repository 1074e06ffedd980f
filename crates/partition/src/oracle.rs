//! Our reading of RFC 9111 held against another's, and against what must hold for any input.
//!
//! We may be stricter than `http-cache-semantics`, never looser. What is not generated, because the two
//! differ on purpose: `CDN-Cache-Control` and other targeted fields, class defaults, directive names in
//! upper case and dates in the two obsolete forms (which the oracle does not read), and
//! `proxy-revalidate` (which it takes as "always stale"; RFC 9111 5.2.2.8 speaks of what is stale already).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;
use shikiri_record::UnixMillis;

use crate::admit::{Admitted, Judged, SecondCopy};
use crate::classify::Requester;
use crate::freshness::{Reuse, imf_fixdate};
use crate::respond::Conditions;
use crate::tests::{NOW, class, fill, key};

const BODY: &[u8] = b"a { color: red }";

/// Carries a head through every step with a body that suits it.
fn admit(status: StatusCode, headers: &HeaderMap) -> Option<Admitted> {
    match fill(&class(), None).judge(status, headers.clone(), true, NOW) {
        Judged::Sniff(sniff) => sniff.judge(BODY).ok(),
        Judged::Copy(copy) => copy
            .judge(
                BODY,
                &SecondCopy {
                    status,
                    headers,
                    body: BODY,
                },
            )
            .ok(),
        Judged::Refreshed(_) | Judged::Unsliced(_) | Judged::Relay(_) => None,
    }
}

fn at(instant: UnixMillis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(instant.0)
}

fn date() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (-200_i64..200).prop_map(|shift| {
            imf_fixdate(UnixMillis(NOW.0.saturating_add_signed(shift * 1000)))
        }),
        1 => prop::sample::select(vec!["0", "-1", "", "now", "Sun, 06 Nov 1994"]).prop_map(str::to_owned),
    ]
}

fn cache_control() -> impl Strategy<Value = String> {
    let seconds = prop_oneof![
        6 => (0_u32..200).prop_map(|n| n.to_string()),
        1 => prop::sample::select(vec!["", "x", "-1", "1.5", "\"60\"", "4294967296", "060", "'60'"])
            .prop_map(str::to_owned),
    ];
    let lifetime = (prop::sample::select(vec!["max-age", "s-maxage"]), seconds)
        .prop_map(|(name, seconds)| format!("{name}={seconds}"));
    let other = prop::sample::select(vec![
        "public",
        "private",
        "no-store",
        "no-cache",
        "no-cache=\"x\"",
        "must-revalidate",
        "immutable",
        "max-age",
        "must-understand",
        "stale-while-revalidate=5",
        "nothing-to-see-here",
        "a=\"b\"",
    ]);
    let directive = prop_oneof![5 => lifetime, 3 => other.prop_map(str::to_owned)];
    let separator = prop::sample::select(vec![",", ", ", " ,", ";", " "]);
    (prop::collection::vec(directive, 0..4), separator)
        .prop_map(|(directives, separator)| directives.join(separator))
}

fn field() -> impl Strategy<Value = (&'static str, String)> {
    prop_oneof![
        6 => cache_control().prop_map(|v| ("cache-control", v)),
        3 => date().prop_map(|v| ("expires", v)),
        3 => date().prop_map(|v| ("date", v)),
        2 => (0_u32..100).prop_map(|v| ("age", v.to_string())),
        1 => date().prop_map(|v| ("last-modified", v)),
        1 => prop::sample::select(vec!["*", "accept-encoding", "cookie", "x"])
            .prop_map(|v| ("vary", v.to_owned())),
        1 => Just(("set-cookie", "a=b".to_owned())),
        1 => prop::sample::select(vec!["no-cache", "x"]).prop_map(|v| ("pragma", v.to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn never_looser_than_another_reading(
        status in prop::sample::select(vec![200_u16, 204, 301, 302, 404, 500]),
        fields in prop::collection::vec(field(), 0..6),
        steady in any::<bool>(),
        later in 0_u64..300_000,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/css"));
        if steady {
            headers.insert("cache-control", HeaderValue::from_static("max-age=100"));
        }
        for (name, value) in &fields {
            headers.append(*name, value.parse().expect("generated values are header values"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let Some(object) = admit(status, &headers) else { return Ok(()) };

        let request = Request::get("http://shop.test/page").body(()).expect("a request").into_parts().0;
        let mut response = Response::builder().status(status).body(()).expect("a response").into_parts().0;
        response.headers = headers;
        let options = CacheOptions { shared: true, ..CacheOptions::default() };
        let oracle = CachePolicy::new_options(&request, &response, at(NOW), options);
        prop_assert!(oracle.is_storable(), "admitted, but another would not store it");

        let now = NOW.after(Duration::from_millis(later));
        let nothing = Requester { credentials: false, cookie: false, authorization: false, origin: false };
        if let Reuse::Fresh { ttl } = object.reuse_by(&key(&class()), &class(), nothing, false, now) {
            prop_assert!(!oracle.is_stale(at(now)), "fresh for {ttl:?}, but another calls it stale");
            prop_assert!(ttl <= oracle.time_to_live(at(now)), "fresher than another would have it");
        }
    }

    #[test]
    fn a_word_of_prohibition_anywhere_is_never_admitted(
        field in prop::sample::select(vec![
            "cache-control", "cdn-cache-control", "surrogate-control", "cloudflare-cdn-cache-control", "edge-control",
            "pragma", "x-any-cache-control",
        ]),
        word in prop::sample::select(vec!["private", "no-store", "no-cache"]),
        upper in prop::collection::vec(any::<bool>(), 8),
        before in prop::collection::vec(value_byte(), 0..12),
        after in prop::collection::vec(value_byte(), 0..12),
        line_before in any::<bool>(),
    ) {
        let word = word.bytes().zip(upper.iter().cycle());
        let word = word.map(|(b, upper)| if *upper { b.to_ascii_uppercase() } else { b });
        let value: Vec<u8> = before.into_iter().chain(word).chain(after).collect();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/css"));
        headers.insert("cache-control", HeaderValue::from_static("public, max-age=60"));
        prop_assert!(admit(StatusCode::OK, &headers).is_some(), "without the word it is admitted");
        if line_before {
            headers.append(field, HeaderValue::from_static("max-age=60"));
        }
        headers.append(field, HeaderValue::from_bytes(&value).expect("generated bytes are a header value"));
        prop_assert!(admit(StatusCode::OK, &headers).is_none(), "{field}: {}", String::from_utf8_lossy(&value));
    }

    #[test]
    fn no_input_panics_and_what_is_stored_is_of_the_page(
        status in 100_u16..600,
        fields in prop::collection::vec((header_name(), prop::collection::vec(value_byte(), 0..40)), 0..12),
        first in body(),
        second in body(),
        request in prop::collection::vec((request_name(), prop::collection::vec(value_byte(), 0..30)), 0..4),
        length in prop::option::of(any::<u64>()),
        now in any::<u64>(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &fields {
            headers.append(name.clone(), HeaderValue::from_bytes(value).expect("generated bytes are a header value"));
        }
        let mut asked = HeaderMap::new();
        for (name, value) in &request {
            asked.append(name.clone(), HeaderValue::from_bytes(value).expect("generated bytes are a header value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let instant = UnixMillis(now);
        let mut private = headers.clone();
        crate::leave_as_private(&mut private, &HeaderValue::from_static("now"));
        let admitted = match fill(&class(), None).judge(status, headers.clone(), true, instant) {
            Judged::Sniff(sniff) => sniff.judge(&first).ok(),
            Judged::Copy(copy) => {
                copy.judge(&first, &SecondCopy { status, headers: &headers, body: &second }).ok()
            }
            Judged::Refreshed(_) | Judged::Unsliced(_) | Judged::Relay(_) => None,
        };
        // Conditions and ranges are read of a request whatever became of this head.
        let object = admitted.unwrap_or_else(|| crate::tests::admitted(&class(), "cache-control: max-age=60"));
        for method in [Method::GET, Method::HEAD] {
            let answer = object.respond(&Conditions::of(&method, &asked), length, instant);
            prop_assert!(!answer.headers.contains_key("set-cookie"));
            if let (Some(body), Some(length)) = (answer.body, length) {
                prop_assert!(body.start <= body.end && body.end <= length);
            }
        }
        let refreshed = fill(&class(), Some(object)).judge(StatusCode::NOT_MODIFIED, headers, true, instant);
        if let Judged::Refreshed(object) = refreshed {
            prop_assert!(!object.stored_headers().contains_key("set-cookie"));
        }
    }

    #[test]
    fn two_copies_that_differ_are_never_one(first in body(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut first = first;
        first.push(b'x');
        let mut second = first.clone();
        second[at.index(first.len())] ^= flip;
        prop_assert!(crate::mint::bodies_agree("text/html", &[], &first, &second).is_err());
        prop_assert!(crate::mint::bodies_agree("application/json", &[], &second, &first).is_err());
    }
}

/// A byte that a header value may hold.
fn value_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => prop::sample::select(b"aAzZ019-_=;,\"'\\ \t*/.%:(){}".to_vec()),
        1 => 0x80_u8..,
        2 => 0x20_u8..0x7f,
    ]
}

fn header_name() -> impl Strategy<Value = HeaderName> {
    prop::sample::select(vec![
        "cache-control",
        "cdn-cache-control",
        "surrogate-control",
        "expires",
        "date",
        "age",
        "vary",
        "etag",
        "last-modified",
        "content-type",
        "content-encoding",
        "content-length",
        "content-range",
        "connection",
        "set-cookie",
        "x-accel-expires",
        "edge-control",
        "link",
        "location",
        "content-security-policy",
        "x-any",
        "pragma",
        "content-location",
    ])
    .prop_map(HeaderName::from_static)
}

fn request_name() -> impl Strategy<Value = HeaderName> {
    prop::sample::select(vec![
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
    ])
    .prop_map(HeaderName::from_static)
}

/// Bytes with a liking for markup.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "<input name=csrf value=", "<!--", "-->", "<script nonce='", "</script>", "<a href=\"?sid=", "\"", "'", ">",
            "{\"token\":\"", "\n", "=", "&amp;", "<", "</", "0123456789abcdef", "/(S(", "))", "仕切り", "<style>", "W",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}
