//! Any response to a shared fetch under careless rules: judging it never panics, and nothing that
//! forbids sharing is ever admitted, at once or by a 304 later.

#![no_main]

use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, VARY};
use http::{HeaderMap, Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use shikiri_fuzz::{NOW, Request, Response, careless, fetch};
use shikiri_partition::{
    Admitted, Begun, Classified, Conditions, Constants, Fill, Judged, Rules, SecondCopy,
    SharedFetch, Sharing,
};
use shikiri_record::{FillId, Order};
use std::sync::LazyLock;

static RULES: LazyLock<Rules> = LazyLock::new(careless);

fuzz_target!(|input: &[u8]| {
    let [flags, bytes @ ..] = input else {
        return;
    };
    // What comes after a mark is the answer to a revalidation.
    let (first, then) = match bytes.windows(MARK.len()).position(|window| window == MARK) {
        Some(at) => (&bytes[..at], Some(&bytes[at + MARK.len()..])),
        None => (bytes, None),
    };
    let Some(response) = Response::read(first) else {
        return;
    };
    let sharing = sharing();
    let (_outbound, fill) = fetch(&sharing);
    let Some(admitted) = judge(fill, &response, flags & 1 == 0) else {
        return;
    };
    use_it(&admitted, response.body.len());
    let Some(then) = then.and_then(Response::read) else {
        return;
    };
    let begun = Begun {
        id: FillId(2),
        at: NOW,
        order: Order(2),
    };
    let constants = Constants::new("fuzz");
    let (outbound, fill) =
        SharedFetch::revalidate(&admitted, sharing.class(), begun, &constants).begin();
    shikiri_fuzz::assert_names_nobody(&outbound);
    if let Some(again) = judge(fill, &then, true) {
        use_it(&again, response.body.len());
    }
});

const MARK: &[u8] = b"\n====\n";

fn sharing() -> Sharing {
    let (request, _) =
        Request::read(b"GET /page HTTP/1.1\r\nHost: shop.test\r\n\r\n").expect("a request");
    match request.classify(&RULES).expect("a head") {
        Classified::Shared(sharing) => sharing,
        other => panic!("not shared: {other:?}"),
    }
}

/// Takes a response as far as it gets. A document's second copy is the same as its first.
fn judge(fill: Fill, response: &Response<'_>, length_known: bool) -> Option<Admitted> {
    let Response {
        status,
        headers,
        body,
    } = response;
    let admitted = match fill.judge(*status, headers.clone(), length_known, NOW) {
        Judged::Sniff(sniff) => sniff.judge(body).ok(),
        Judged::Copy(copy) => copy
            .judge(
                body,
                &SecondCopy {
                    status: *status,
                    headers,
                    body,
                },
            )
            .ok(),
        Judged::Refreshed(admitted) => Some(admitted),
        // Asked for whole then, as any other.
        Judged::Unsliced(_) => None,
        Judged::Relay(relay) => {
            assert!(!relay.why().name().is_empty(), "a refusal has a name");
            None
        }
    };
    if admitted.is_some() {
        assert!(
            length_known
                || [StatusCode::NOT_MODIFIED, StatusCode::PARTIAL_CONTENT].contains(status),
            "an open end is not stored"
        );
        assert_allows_sharing(headers);
    }
    admitted
}

/// What must hold of a response that was admitted, read as naively as can be.
fn assert_allows_sharing(headers: &HeaderMap) {
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let words: Vec<&str> = value
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .collect();
        let name = name.as_str();
        if name.ends_with("cache-control") || matches!(name, "surrogate-control" | "pragma") {
            for word in ["private", "no-store", "no-cache"] {
                assert!(!words.contains(&word), "admitted with {name}: {value}");
            }
        }
        let forbids = matches!(
            name,
            "set-cookie" | "set-cookie2" | "www-authenticate" | "proxy-authenticate"
        ) || matches!(name, "clear-site-data" | "shikiri-owner" | "shikiri-viewer");
        assert!(!forbids, "admitted with {name}");
        assert!(
            name != VARY || !value.contains('*'),
            "admitted with Vary: *"
        );
        assert!(
            name != ACCESS_CONTROL_ALLOW_ORIGIN || value == "*",
            "admitted for {value} alone"
        );
    }
}

/// Answers with it, and asks what may be done with it.
fn use_it(admitted: &Admitted, length: usize) {
    let fields = HeaderMap::new();
    let conditions = Conditions::of(&Method::GET, &fields);
    let answer = admitted.respond(&conditions, Some(length as u64), NOW);
    for name in answer.headers.keys() {
        let name = name.as_str();
        assert!(
            !matches!(name, "set-cookie" | "set-cookie2"),
            "answered with {name}"
        );
        assert!(!name.starts_with("shikiri-"), "answered with {name}");
        assert!(
            !matches!(name, "connection" | "transfer-encoding" | "alt-svc"),
            "{name}"
        );
    }
    drop(admitted.reuse(&sharing(), false, NOW));
}
