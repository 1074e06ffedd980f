//! Any two requests under careless rules: a shared fetch names nobody, one key is one fetch, and
//! what a member adds to a request that is shared all the same changes nothing of its fetch.

#![no_main]

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use shikiri_fuzz::{Request, assert_names_nobody, careless, fetch};
use shikiri_partition::{Classified, Key, Outbound, Rules};
use std::sync::LazyLock;

static RULES: LazyLock<Rules> = LazyLock::new(careless);

fuzz_target!(|bytes: &[u8]| {
    let Some((one, length)) = Request::read(bytes) else {
        return;
    };
    let Some((key, outbound)) = shared(&one) else {
        return;
    };
    assert_names_nobody(&outbound);
    // The request after it, if there is one.
    if let Some((key_2, outbound_2)) =
        Request::read(&bytes[length..]).and_then(|(two, _)| shared(&two))
    {
        assert_names_nobody(&outbound_2);
        if key == key_2 {
            assert_same(&outbound, &outbound_2);
        } else {
            assert!(
                key.class() != key_2.class() || wire(&outbound) != wire(&outbound_2),
                "two keys of one class ask for the same"
            );
        }
    }
    let mut member = one;
    member.headers.insert(
        COOKIE,
        HeaderValue::from_static("session=secret-a; theme=dark"),
    );
    member
        .headers
        .insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret-b"));
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("referer", "http://shop.test/secret-c"),
        ("user-agent", "secret-d"),
        ("if-none-match", "\"secret-e\""),
        ("range", "bytes=0-1"),
    ] {
        member.headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    if let Some((key_m, outbound_m)) = shared(&member)
        && key_m.class() == key.class()
    {
        assert!(key_m == key, "a key holds nothing of a member");
        assert_same(&outbound, &outbound_m);
    }
});

fn shared(request: &Request) -> Option<(Key, Outbound)> {
    let Some(Classified::Shared(sharing)) = request.classify(&RULES) else {
        return None;
    };
    let (outbound, fill) = fetch(&sharing);
    Some((fill.key().clone(), outbound))
}

/// All that the origin sees.
fn wire(outbound: &Outbound) -> String {
    format!(
        "{:?} {} {:?}",
        outbound.upstream(),
        outbound.target(),
        outbound.headers()
    )
}

fn assert_same(one: &Outbound, two: &Outbound) {
    assert_eq!(wire(one), wire(two), "one key, one fetch");
}
