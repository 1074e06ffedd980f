//! Heads: which are passed, and why the others are not.

use shikiri_partition::{Limits, Refused};

use crate::feed::{End, STAND_IN, bytewise, whole};

/// Every case, whole and byte by byte: passed unchanged, or replaced.
#[track_caller]
fn check(cases: &[(&str, &str, Result<(), Refused>)], limits: &Limits) {
    for &(name, head, expected) in cases {
        check_bytes(name, head.as_bytes(), expected, limits);
    }
}

#[track_caller]
fn check_bytes(name: &str, head: &[u8], expected: Result<(), Refused>, limits: &Limits) {
    for outcome in [whole(head, limits), bytewise(head, limits)] {
        let refused = outcome.refused;
        assert_eq!(refused, expected.err().map(|why| (0, why)), "{name}");
        match expected {
            Ok(()) => {
                assert_eq!(outcome.handed_on, head, "{name}");
                assert_eq!(outcome.end, End::Eof, "{name}");
            }
            Err(_) => {
                assert_eq!(outcome.handed_on, STAND_IN.as_bytes(), "{name}");
                assert_eq!(outcome.end, End::Waits, "{name}");
            }
        }
    }
}

#[test]
fn request_lines() {
    use Refused::{Connect, MalformedHead, Target, Version};
    check(
        &[
            ("plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(())),
            ("old", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", Ok(())),
            (
                "absolute form",
                "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n",
                Ok(()),
            ),
            (
                "asterisk form",
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
                Ok(()),
            ),
            (
                "own method",
                "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
                Ok(()),
            ),
            (
                "connect",
                "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
                Err(Connect),
            ),
            (
                "two spaces",
                "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "two spaces later",
                "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "space before",
                " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "space after",
                "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "tab",
                "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "space in the target",
                "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "two versions",
                "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "fragment",
                "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(Target),
            ),
            (
                "NUL in the target",
                "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "letters beyond ASCII",
                "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "no method",
                " / HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "no target",
                "GET HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            ("no version", "GET /\r\nHost: a\r\n\r\n", Err(MalformedHead)),
            (
                "method not a token",
                "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            ("0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", Err(Version)),
            ("1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", Err(Version)),
            (
                "preface of HTTP/2",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                Err(Version),
            ),
            (
                "small letters",
                "GET / http/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "another protocol",
                "GET / ICAP/1.1\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "version with more",
                "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            ("bare LF", "GET / HTTP/1.1\nHost: a\n\n", Err(MalformedHead)),
            (
                "bare CR",
                "GET / HTTP/1.1\rHost: a\r\n\r\n",
                Err(MalformedHead),
            ),
            (
                "TLS",
                "\x16\x03\x01\x02\0\x01\0\x01\u{fc}",
                Err(MalformedHead),
            ),
        ],
        &Limits::default(),
    );
}

#[test]
fn empty_lines_before_a_request() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for outcome in [
        whole(
            format!("\r\n{head}\r\n{head}\r\n").as_bytes(),
            &Limits::default(),
        ),
        bytewise(
            format!("\r\n{head}\r\n{head}\r\n").as_bytes(),
            &Limits::default(),
        ),
    ] {
        assert_eq!(
            outcome.handed_on,
            format!("{head}{head}").as_bytes(),
            "one is left out"
        );
        assert_eq!((outcome.refused, outcome.end), (None, End::Eof));
    }
    check(
        &[
            (
                "two",
                &format!("\r\n\r\n{head}"),
                Err(Refused::MalformedHead),
            ),
            ("bare LF", &format!("\n{head}"), Err(Refused::MalformedHead)),
            ("bare CR", &format!("\r{head}"), Err(Refused::MalformedHead)),
        ],
        &Limits::default(),
    );
}

#[test]
fn field_lines() {
    use Refused::MalformedHead;
    let table: &[(&str, &[u8], Result<(), Refused>)] = &[
        ("plain", b"A: b", Ok(())),
        ("no space", b"A:b", Ok(())),
        ("much space", b"A: \t b \t ", Ok(())),
        ("no value", b"A:", Ok(())),
        ("tab within", b"A: b\tc", Ok(())),
        ("obs-text in a value", b"A: \xe4\xff", Ok(())),
        ("every token character", b"!#$%&'*+-.^_`|~09azAZ: b", Ok(())),
        ("obs-text in a name", b"\xe4: b", Err(MalformedHead)),
        ("space before the colon", b"A : b", Err(MalformedHead)),
        ("tab before the colon", b"A\t: b", Err(MalformedHead)),
        ("space before the name", b" A: b", Err(MalformedHead)),
        ("folded", b"A: b\r\n c: d", Err(MalformedHead)),
        ("folded with a tab", b"A: b\r\n\tc: d", Err(MalformedHead)),
        ("no name", b": b", Err(MalformedHead)),
        ("no colon", b"A", Err(MalformedHead)),
        ("bare LF", b"A: b\nC: d", Err(MalformedHead)),
        ("bare CR", b"A: b\rC: d", Err(MalformedHead)),
        ("LF CR", b"A: b\n\rC: d", Err(MalformedHead)),
        ("NUL in a value", b"A: b\0c", Err(MalformedHead)),
        ("NUL in a name", b"A\0: b", Err(MalformedHead)),
        ("vertical tab in a value", b"A: b\x0bc", Err(MalformedHead)),
        ("DEL in a value", b"A: b\x7fc", Err(MalformedHead)),
        ("separator in a name", b"A(: b", Err(MalformedHead)),
    ];
    for &(name, line, expected) in table {
        let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat();
        check_bytes(name, &head, expected, &Limits::default());
    }
}

#[test]
fn hosts() {
    let host = Refused::Host;
    for version in ["1.0", "1.1"] {
        let table: &[(&str, &str, Result<(), Refused>)] = &[
            ("name", "Host: a.example\r\n", Ok(())),
            ("name and port", "hOST: a.example:8080\r\n", Ok(())),
            ("address", "Host: [::1]:80\r\n", Ok(())),
            ("none", "A: b\r\n", Err(host)),
            ("empty", "Host: \r\n", Err(host)),
            ("two", "Host: a\r\nHost: b\r\n", Err(host)),
            ("two that are equal", "Host: a\r\nhost: a\r\n", Err(host)),
            ("list", "Host: a, b\r\n", Err(host)),
            ("list without space", "Host: a,b\r\n", Err(host)),
            ("path", "Host: a/b\r\n", Err(host)),
            ("user", "Host: u@a\r\n", Err(host)),
            ("lookalike beside it", "Host: a\r\nHost_: b\r\n", Err(host)),
            (
                "forwarded is another matter",
                "Host: a\r\nX-Forwarded-Host: b\r\n",
                Ok(()),
            ),
        ];
        for &(name, lines, expected) in table {
            let head = format!("GET / HTTP/{version}\r\n{lines}\r\n");
            check(&[(name, &head, expected)], &Limits::default());
        }
    }
}

#[test]
fn lengths_and_codings() {
    use Refused::{
        BodyTooLarge, ContentLength, LengthAndTransferEncoding, MalformedHead, TransferEncoding,
    };
    let table: &[(&str, &str, Result<(), Refused>)] = &[
        ("zero", "Content-Length: 0", Ok(())),
        ("zero, written long", "Content-Length: 000", Ok(())),
        ("plus", "Content-Length: +0", Err(ContentLength)),
        ("minus", "Content-Length: -1", Err(ContentLength)),
        ("hex", "Content-Length: 0x0", Err(ContentLength)),
        ("empty", "Content-Length:", Err(ContentLength)),
        ("inner space", "Content-Length: 1 0", Err(ContentLength)),
        ("fraction", "Content-Length: 1.0", Err(ContentLength)),
        ("underscore", "Content-Length: 1_0", Err(ContentLength)),
        ("list of equals", "Content-Length: 0, 0", Err(ContentLength)),
        (
            "equal lines",
            "Content-Length: 0\r\nContent-Length: 0",
            Err(ContentLength),
        ),
        (
            "differing lines",
            "Content-Length: 0\r\ncontent-length: 1",
            Err(ContentLength),
        ),
        (
            "2^53 + 1",
            "Content-Length: 9007199254740993",
            Err(ContentLength),
        ),
        (
            "2^64",
            "Content-Length: 18446744073709551616",
            Err(ContentLength),
        ),
        (
            "21 digits",
            "Content-Length: 000000000000000000000",
            Err(ContentLength),
        ),
        (
            "over the limit",
            "Content-Length: 1073741825",
            Err(BodyTooLarge),
        ),
        (
            "digits beyond ASCII",
            "Content-Length: ٣",
            Err(ContentLength),
        ),
        (
            "space before the colon",
            "Content-Length : 0",
            Err(MalformedHead),
        ),
        (
            "underscore in the name",
            "Content_Length: 0",
            Err(ContentLength),
        ),
        ("no hyphen", "ContentLength: 0", Err(ContentLength)),
        (
            "vertical tab in the name",
            "Content-Length\x0b: 0",
            Err(MalformedHead),
        ),
        (
            "both",
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
            Err(LengthAndTransferEncoding),
        ),
        (
            "both, the other way round",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            Err(LengthAndTransferEncoding),
        ),
        (
            "identity",
            "Transfer-Encoding: identity",
            Err(TransferEncoding),
        ),
        (
            "unknown",
            "Transfer-Encoding: xchunked",
            Err(TransferEncoding),
        ),
        ("empty", "Transfer-Encoding:", Err(TransferEncoding)),
        (
            "gzip first",
            "Transfer-Encoding: gzip, chunked",
            Err(TransferEncoding),
        ),
        (
            "identity last",
            "Transfer-Encoding: chunked, identity",
            Err(TransferEncoding),
        ),
        (
            "parameter",
            "Transfer-Encoding: chunked;q=1",
            Err(TransferEncoding),
        ),
        (
            "quoted",
            "Transfer-Encoding: \"chunked\"",
            Err(TransferEncoding),
        ),
        (
            "twice in a line",
            "Transfer-Encoding: chunked, chunked",
            Err(TransferEncoding),
        ),
        (
            "two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Err(TransferEncoding),
        ),
        (
            "vertical tab",
            "Transfer-Encoding: \x0bchunked",
            Err(MalformedHead),
        ),
        (
            "no-break space",
            "Transfer-Encoding: \u{a0}chunked",
            Err(TransferEncoding),
        ),
        (
            "underscore in the name",
            "Transfer_Encoding: chunked",
            Err(TransferEncoding),
        ),
        (
            "dot in the name",
            "Transfer.Encoding: chunked",
            Err(TransferEncoding),
        ),
        (
            "vertical tab in the name",
            "Transfer-Encoding\x0b: chunked",
            Err(MalformedHead),
        ),
        (
            "space before the colon",
            "Transfer-Encoding : chunked",
            Err(MalformedHead),
        ),
        (
            "folded",
            "Transfer-Encoding:\r\n chunked",
            Err(TransferEncoding),
        ),
        (
            "another's name",
            "X-Content-Length: 5\r\nX-Transfer-Encoding: gzip",
            Ok(()),
        ),
    ];
    for &(name, lines, expected) in table {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        check(&[(name, &head, expected)], &Limits::default());
    }
    check(
        &[(
            "coding in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(TransferEncoding),
        )],
        &Limits::default(),
    );
}

#[test]
fn bounds_are_met_exactly() {
    use Refused::{HeadTooLarge, MalformedHead, TargetTooLong};
    let limits = Limits {
        head_bytes_max: 300,
        head_fields_max: 3,
        target_bytes_max: 20,
        ..Limits::default()
    };
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes - 1));
    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "A: b\r\n".repeat(count - 1)
        )
    };
    let bytes = |bytes: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n",
            "x".repeat(bytes - rest)
        )
    };
    let method = |bytes: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(bytes));
    check(
        &[
            ("target at its bound", &target(20), Ok(())),
            ("target over it", &target(21), Err(TargetTooLong)),
            ("target far over both", &target(1000), Err(TargetTooLong)),
            ("fields at their bound", &fields(3), Ok(())),
            ("fields over it", &fields(4), Err(HeadTooLarge)),
            ("head at its bound", &bytes(300), Ok(())),
            ("head over it", &bytes(301), Err(HeadTooLarge)),
            ("head without end", &bytes(5000), Err(HeadTooLarge)),
            ("long method", &method(32), Ok(())),
            ("method without end", &method(33), Err(MalformedHead)),
        ],
        &limits,
    );
}

#[test]
fn a_refusal_has_its_requests_number_and_ends_the_connection() {
    let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let bytes = format!("{good}{good}GET / HTTP/1.1\r\n\r\n{good}");
    for outcome in [
        whole(bytes.as_bytes(), &Limits::default()),
        bytewise(bytes.as_bytes(), &Limits::default()),
    ] {
        assert_eq!(outcome.refused, Some((2, Refused::Host)));
        assert_eq!(
            outcome.handed_on,
            format!("{good}{good}{STAND_IN}").as_bytes()
        );
        assert_eq!(outcome.end, End::Waits);
    }
}

#[test]
fn a_head_cut_short_is_not_handed_on() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for length in 1..head.len() {
        let outcome = whole(
            format!("{head}{}", head.get(..length).expect("ASCII")).as_bytes(),
            &Limits::default(),
        );
        assert_eq!(outcome.handed_on, head.as_bytes());
        assert_eq!((outcome.refused, outcome.end), (None, End::Eof));
    }
}
