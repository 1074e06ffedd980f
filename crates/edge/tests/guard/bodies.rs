//! Bodies: where they end, and what breaks them.

use std::io::ErrorKind;

use shikiri_partition::{Limits, Refused};

use crate::feed::{End, bytewise, whole};

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// A sound body is passed whole, and the request after it found.
#[track_caller]
fn passes(name: &str, body: &[u8]) {
    let bytes = [CHUNKED.as_bytes(), body, NEXT.as_bytes()].concat();
    for outcome in [
        whole(&bytes, &Limits::default()),
        bytewise(&bytes, &Limits::default()),
    ] {
        assert_eq!(outcome.refused, None, "{name}");
        assert_eq!(outcome.handed_on, bytes, "{name}");
        assert_eq!(outcome.end, End::Eof, "{name}");
    }
}

/// A broken body is passed up to the fault, and nothing after it.
#[track_caller]
fn breaks(name: &str, sound: &[u8], rest: &[u8], why: Refused, limits: &Limits) {
    let sound = [CHUNKED.as_bytes(), sound].concat();
    let bytes = [&sound, rest, NEXT.as_bytes()].concat();
    for outcome in [whole(&bytes, limits), bytewise(&bytes, limits)] {
        assert_eq!(outcome.refused, Some((0, why)), "{name}");
        assert_eq!(
            String::from_utf8_lossy(&outcome.handed_on),
            String::from_utf8_lossy(&sound),
            "{name}"
        );
        assert_eq!(outcome.end, End::Fails(ErrorKind::InvalidData), "{name}");
    }
}

#[test]
fn sound_chunks() {
    for (name, body) in [
        ("none", "0\r\n\r\n"),
        ("one", "3\r\nabc\r\n0\r\n\r\n"),
        ("two", "3\r\nabc\r\n2\r\n\r\n\r\n0\r\n\r\n"),
        (
            "hex of both cases",
            &format!("00aA\r\n{}\r\n0\r\n\r\n", "x".repeat(0xaa)),
        ),
        ("many zeros", "0000000000000000\r\n\r\n"),
        (
            "extension",
            "1;a\r\nx\r\n0;b=c;d=\"e;\\\"\t\u{e4}\"\r\n\r\n",
        ),
        ("trailers", "1\r\nx\r\n0\r\nA: b\r\nX-Checksum: 1\r\n\r\n"),
        (
            "what looks like a request",
            "1b\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n\r\n0\r\n\r\n",
        ),
    ] {
        passes(name, body.as_bytes());
    }
}

#[test]
fn broken_chunks() {
    for (name, sound, rest) in [
        ("no size", "", "\r\nabc\r\n0\r\n\r\n"),
        ("hex prefix", "0", "x3\r\nabc\r\n0\r\n\r\n"),
        ("plus", "", "+3\r\nabc\r\n0\r\n\r\n"),
        ("minus", "", "-1\r\nabc\r\n0\r\n\r\n"),
        ("underscore", "1", "_0\r\nabc\r\n0\r\n\r\n"),
        ("space before", "", " 3\r\nabc\r\n0\r\n\r\n"),
        ("space after", "3", " \r\nabc\r\n0\r\n\r\n"),
        ("tab after", "3", "\t\r\nabc\r\n0\r\n\r\n"),
        ("17 digits", "0000000000000000", "3\r\nabc\r\n0\r\n\r\n"),
        ("not hex", "", "g\r\nabc\r\n0\r\n\r\n"),
        ("bare LF after the size", "3", "\nabc\r\n0\r\n\r\n"),
        ("bare CR after the size", "3\r", "abc\r\n0\r\n\r\n"),
        ("data too short", "3\r\nab\r", "\n0\r\n\r\n"),
        ("data too long", "3\r\nabc", "d\r\n0\r\n\r\n"),
        ("no end of data", "3\r\nabc", "0\r\n\r\n"),
        ("bare LF after data", "3\r\nabc", "\n0\r\n\r\n"),
        ("bare CR after data", "3\r\nabc\r", "0\r\n\r\n"),
        ("bare LF in an extension", "3;a", "\nabc\r\n0\r\n\r\n"),
        ("bare LF in quotes", "3;a=\"", "\n\"\r\nabc\r\n0\r\n\r\n"),
        ("CR in quotes", "3;a=\"", "\r\n\"\r\nabc\r\n0\r\n\r\n"),
        ("bare CR in an extension", "3;a\r", "b\r\nabc\r\n0\r\n\r\n"),
        ("NUL in an extension", "3;a", "\0\r\nabc\r\n0\r\n\r\n"),
        ("extension without a name", "3;", "\r\nabc\r\n0\r\n\r\n"),
        ("extension without a value", "3;a=", "\r\nabc\r\n0\r\n\r\n"),
        ("space before an extension", "3", " ;a\r\nabc\r\n0\r\n\r\n"),
        ("quotes and more", "3;a=\"b\"", "c\r\nabc\r\n0\r\n\r\n"),
        ("bare LF at the end", "0\r\n", "\n"),
        ("folded trailer", "0\r\n", "A: b\r\n c\r\n\r\n"),
        ("trailer with a bare LF", "0\r\n", "A: b\n\r\n"),
        ("trailer without a colon", "0\r\n", "A\r\n\r\n"),
        ("length in a trailer", "0\r\n", "Content-Length: 5\r\n\r\n"),
        (
            "coding in a trailer",
            "0\r\n",
            "transfer-encoding: chunked\r\n\r\n",
        ),
        ("host in a trailer", "0\r\n", "Host: b\r\n\r\n"),
    ] {
        let limits = Limits::default();
        breaks(
            name,
            sound.as_bytes(),
            rest.as_bytes(),
            Refused::MalformedChunk,
            &limits,
        );
    }
}

#[test]
fn bounds_of_bodies() {
    let limits = Limits {
        request_body_bytes_max: 5,
        ..Limits::default()
    };
    breaks(
        "too many bytes",
        b"5\r\nabcde\r\n1",
        b"\r\nf\r\n0\r\n\r\n",
        Refused::BodyTooLarge,
        &limits,
    );
    breaks(
        "a size that wraps",
        b"1\r\na\r\nffffffffffffffff",
        b"\r\n",
        Refused::MalformedChunk,
        &limits,
    );
    let limits = Limits::default();
    let at_most = format!("1;{}", "a".repeat(255));
    passes(
        "extension at its bound",
        format!("{at_most}\r\nx\r\n0\r\n\r\n").as_bytes(),
    );
    breaks(
        "extension over it",
        at_most.as_bytes(),
        b"a\r\nx\r\n",
        Refused::MalformedChunk,
        &limits,
    );
    let many = format!("{at_most}\r\nx\r\n").repeat(16);
    breaks(
        "extensions together",
        format!("{many}1").as_bytes(),
        b";a\r\nx\r\n",
        Refused::MalformedChunk,
        &limits,
    );
    let trailers = format!("A: {}\r\n\r\n", "b".repeat(9000));
    breaks(
        "trailers",
        b"0\r\n",
        trailers.as_bytes(),
        Refused::MalformedChunk,
        &limits,
    );
    breaks(
        "many trailers",
        b"0\r\n",
        "A: b\r\n".repeat(40).as_bytes(),
        Refused::MalformedChunk,
        &limits,
    );
}

#[test]
fn a_body_cut_short_fails() {
    let with_length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    for (bytes, passed) in [
        (format!("{with_length}ab"), format!("{with_length}ab")),
        (with_length.to_owned(), with_length.to_owned()),
        (format!("{CHUNKED}3\r\nab"), format!("{CHUNKED}3\r\nab")),
        (CHUNKED.to_owned(), CHUNKED.to_owned()),
        (format!("{CHUNKED}0\r\n"), format!("{CHUNKED}0\r\n")),
        (format!("{CHUNKED}0\r\nA: b\r\n"), format!("{CHUNKED}0\r\n")),
    ] {
        for outcome in [
            whole(bytes.as_bytes(), &Limits::default()),
            bytewise(bytes.as_bytes(), &Limits::default()),
        ] {
            assert_eq!(outcome.handed_on, passed.as_bytes());
            assert_eq!(outcome.refused, Some((0, Refused::MalformedChunk)));
            assert_eq!(outcome.end, End::Fails(ErrorKind::UnexpectedEof));
        }
    }
}
