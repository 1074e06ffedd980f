//! Any text as a policy: it compiles or says why not, the same each time; and whatever it says, no
//! shared fetch under it names anybody.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shikiri_fuzz::{Request, assert_names_nobody, fetch};
use shikiri_partition::{Classified, Rules, policy};
use shikiri_record::PolicyText;

/// Requests that carry what a policy might be talked into using.
const REQUESTS: [&str; 4] = [
    "GET /a/b.css?q=1&page=2&session=s HTTP/1.1\r\nHost: shop.test\r\nAccept-Language: ja\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a.test\r\nCookie: session=s; theme=dark\r\nX-User: u\r\n\r\n",
    "HEAD /account/me HTTP/1.1\r\nHost: shop.test:8080\r\nAuthorization: Basic dTpw\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 1.2.3.4\r\nOrigin: http://o\r\n\
     Referer: http://r\r\nRange: bytes=0-1\r\nIf-None-Match: \"e\"\r\nAccept-Encoding: br, gzip\r\n\r\n",
];

fuzz_target!(|text: &str| {
    let text = PolicyText {
        source: "fuzzed.toml".into(),
        text: text.to_owned(),
    };
    let origin = policy::origin("http://127.0.0.1:8080").expect("an origin");
    match (
        policy::compile(Some(&text), Some(origin.clone())),
        policy::compile(Some(&text), Some(origin)),
    ) {
        (Ok(rules), Ok(again)) => {
            assert_eq!(rules.digest(), again.digest(), "one text, one meaning");
            assert!(!rules.describe().is_empty(), "rules can be described");
            drop(policy::diff(&rules, &again));
            REQUESTS
                .iter()
                .for_each(|request| try_request(&rules, request));
        }
        (Err(faults), Err(again)) => {
            assert!(!faults.is_empty(), "a refused policy has a fault");
            assert_eq!(faults.len(), again.len(), "the same faults each time");
            faults
                .iter()
                .for_each(|fault| assert!(!fault.to_string().is_empty()));
        }
        _ => panic!("a text is a policy or it is not"),
    }
});

fn try_request(rules: &Rules, request: &str) {
    let (request, _) = Request::read(request.as_bytes()).expect("a request");
    if let Some(Classified::Shared(sharing)) = request.classify(rules) {
        let (outbound, _fill) = fetch(&sharing);
        assert_names_nobody(&outbound);
    }
}
