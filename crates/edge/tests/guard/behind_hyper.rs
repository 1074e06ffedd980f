//! A real hyper server behind the guard: what it is strict about where hyper is not, and that both
//! agree on where every sound request ends.

use proptest::collection::vec;
use proptest::prelude::*;
use shikiri_partition::Limits;

use crate::server::{Seen, exchange};

/// What would be answered if the bytes after a refused request were taken for one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// How a payload fares.
enum Fares {
    /// Answered with this status, and the connection closed.
    Refused(u16),
    /// Answered in full with this body, and so is the request after it.
    Served(&'static [u8]),
}
use Fares::{Refused, Served};

/// The payloads that hyper and other readers were probed with, one kind a line.
const PAYLOADS: &[(&str, &str, Fares)] = &[
    (
        "length and coding",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "coding and length",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "lengths that differ",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        Refused(400),
    ),
    (
        "lengths that are equal",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        Refused(400),
    ),
    (
        "list of lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nab",
        Refused(400),
    ),
    (
        "length with a plus",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nab",
        Refused(400),
    ),
    (
        "negative length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\nab",
        Refused(400),
    ),
    (
        "hex length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\nab",
        Refused(400),
    ),
    (
        "length beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551618\r\n\r\nab",
        Refused(400),
    ),
    (
        "length beyond the limit",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9007199254740992\r\n\r\nab",
        Refused(413),
    ),
    (
        "coding identity",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        Refused(400),
    ),
    (
        "coding xchunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunked, identity",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "gzip, chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "two codings",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "coding in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "space before the colon",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "underscore for the hyphen",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer_Encoding: chunked\r\n\r\n",
        Refused(400),
    ),
    (
        "vertical tab after the name",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "folded coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk extension with a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\nab\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk size with a prefix",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk size with a space",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nab\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk size that wraps",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nab\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk ended by a bare LF",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\nab\n0\n\n",
        Refused(400),
    ),
    (
        "length in a trailer",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n",
        Refused(400),
    ),
    (
        "bare LF in the head",
        "GET / HTTP/1.1\nHost: a\n\n",
        Refused(400),
    ),
    (
        "bare LF after a field",
        "GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n",
        Refused(400),
    ),
    (
        "bare CR in a value",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rContent-Length: 9\r\n\r\n",
        Refused(400),
    ),
    (
        "NUL in a value",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
        Refused(400),
    ),
    (
        "folded line",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        Refused(400),
    ),
    (
        "name that is no token",
        "GET / HTTP/1.1\r\nHost: a\r\nA(b): c\r\n\r\n",
        Refused(400),
    ),
    (
        "empty lines first",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    ("no Host", "GET / HTTP/1.1\r\n\r\n", Refused(400)),
    (
        "two Hosts",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        Refused(400),
    ),
    (
        "fragment",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    (
        "CONNECT",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        Refused(405),
    ),
    ("HTTP/0.9", "GET /\r\n", Refused(400)),
    (
        "another version",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        Refused(505),
    ),
    (
        "preface of HTTP/2",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        Refused(505),
    ),
    // Sound ones, which must not be confused by what they look like.
    (
        "GET with a body",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET /in HTTP/1.1\r\n",
        Served(b"GET /in HTTP/1.1\r\n"),
    ),
    (
        "one empty line first",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(b""),
    ),
    (
        "absolute form",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(b""),
    ),
    (
        "chunk extension",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n2;a=\"b\"\r\nab\r\n0\r\n\r\n",
        Served(b"ab"),
    ),
    (
        "expectation",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
        Served(b"ab"),
    ),
];

#[tokio::test(start_paused = true)]
async fn probed_payloads() {
    for (name, payload, fares) in PAYLOADS {
        for bytewise in [false, true] {
            let bytes = format!("{payload}{SMUGGLED}").into_bytes();
            let pieces = if bytewise {
                bytes.iter().map(|&byte| vec![byte]).collect()
            } else {
                vec![bytes]
            };
            let exchange = exchange(pieces, &Limits::default()).await;
            match fares {
                Refused(status) => {
                    assert_eq!(exchange.statuses, [*status], "{name}");
                    assert!(
                        exchange.seen.iter().all(|seen| seen.body.is_none()),
                        "{name}"
                    );
                    assert!(
                        exchange.seen.iter().all(|seen| seen.target == "/"),
                        "{name}"
                    );
                }
                Served(body) => {
                    assert_eq!(exchange.statuses, [200, 200], "{name}");
                    assert_eq!(exchange.seen[0].body.as_deref(), Some(*body), "{name}");
                    assert_eq!(exchange.seen[1].target, "/smuggled", "{name}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bounds_have_their_statuses() {
    let limits = Limits {
        head_bytes_max: 1000,
        target_bytes_max: 100,
        ..Limits::default()
    };
    for (name, head, status) in [
        (
            "long target",
            format!("GET /{} HTTP/1.1\r\n", "a".repeat(100)),
            414,
        ),
        (
            "long head",
            format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(1000)),
            431,
        ),
        (
            "many fields",
            format!("GET / HTTP/1.1\r\n{}", "A:b\r\n".repeat(101)),
            431,
        ),
    ] {
        let exchange = exchange(vec![head.into_bytes()], &limits).await;
        assert_eq!(exchange.statuses, [status], "{name}");
        assert_eq!(exchange.seen, [], "{name}");
    }
}

/// A sound request, in the parts that its bytes are made from.
#[derive(Clone, Debug)]
struct Sound {
    method: &'static str,
    target: String,
    fields: Vec<(String, String)>,
    body: Body,
    empty_line_first: bool,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunks {
        chunks: Vec<Vec<u8>>,
        extension: &'static str,
        trailers: usize,
    },
}

impl Sound {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.empty_line_first {
            bytes.extend_from_slice(b"\r\n");
        }
        let line = format!(
            "{} {} HTTP/1.1\r\nHost: a.example\r\n",
            self.method, self.target
        );
        bytes.extend_from_slice(line.as_bytes());
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("X-{name}: {value}\r\n").as_bytes());
        }
        match &self.body {
            Body::None => bytes.extend_from_slice(b"\r\n"),
            Body::Length(body) => {
                bytes.extend_from_slice(
                    format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
                );
                bytes.extend_from_slice(body);
            }
            Body::Chunks {
                chunks,
                extension,
                trailers,
            } => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in chunks {
                    bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n");
                for trailer in 0..*trailers {
                    bytes.extend_from_slice(format!("X-Trailer-{trailer}: b\r\n").as_bytes());
                }
                bytes.extend_from_slice(b"\r\n");
            }
        }
        bytes
    }

    fn seen(&self) -> Seen {
        let (body, trailers) = match &self.body {
            Body::None => (Vec::new(), 0),
            Body::Length(body) => (body.clone(), 0),
            Body::Chunks {
                chunks, trailers, ..
            } => (chunks.concat(), *trailers),
        };
        Seen {
            method: self.method.to_owned(),
            target: self.target.clone(),
            body: Some(body),
            trailers,
        }
    }
}

fn sound() -> impl Strategy<Value = Sound> {
    let content = vec(
        prop_oneof![
            any::<u8>(),
            Just(b'\r'),
            Just(b'\n'),
            Just(b'0'),
            Just(b' ')
        ],
        1..80,
    );
    let body = prop_oneof![
        Just(Body::None),
        vec(any::<u8>(), 0..300).prop_map(Body::Length),
        Just(Body::Length(
            b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()
        )),
        (
            vec(content, 0..5),
            prop::sample::select(&["", ";a", ";a=b", ";a=\"b c\";d"][..]),
            0..3_usize
        )
            .prop_map(|(chunks, extension, trailers)| Body::Chunks {
                chunks,
                extension,
                trailers
            }),
    ];
    (
        prop::sample::select(&["GET", "POST", "PUT", "OPTIONS", "PURGE"][..]),
        "/[a-z0-9/._~%25-]{0,30}(\\?[a-z=&]{0,20})?",
        vec(("[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", "[ -~]{0,30}"), 0..5),
        body,
        any::<bool>(),
    )
        .prop_map(|(method, target, fields, body, empty_line_first)| Sound {
            method,
            target,
            fields,
            body,
            empty_line_first,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Behind the guard, hyper sees the very requests that were sent, however they were cut.
    #[test]
    fn hyper_sees_the_same_requests(
        requests in vec(sound(), 1..6),
        piece in 1..400_usize,
        refused_after in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let mut bytes: Vec<u8> = requests.iter().flat_map(Sound::bytes).collect();
        let mut statuses = vec![200; requests.len()];
        if refused_after {
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
            bytes.extend_from_slice(SMUGGLED.as_bytes());
            statuses.push(400);
        }
        let pieces = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
        let exchange = runtime.block_on(exchange(pieces, &Limits::default()));
        let expected: Vec<Seen> = requests.iter().map(Sound::seen).collect();
        prop_assert_eq!(exchange.seen, expected);
        prop_assert_eq!(exchange.statuses, statuses);
    }
}
