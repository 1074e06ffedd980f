//! However the network cuts the bytes, the verdict and what is handed on are the same.

use proptest::collection::vec;
use proptest::prelude::*;
use shikiri_partition::Limits;

use crate::feed::{bytewise, feed, whole};

/// Parts of requests, sound and not, that meet in every order.
const PARTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a?b HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"GET /long-target-that-is-over-the-limit-of-forty HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"Host: a\r\n",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"A: b\r\n",
    b"Cookie: long; value=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"abc",
    b"3\r\nabc\r\n",
    b"1;a=\"b\"\r\nx\r\n",
    b"0\r\n",
    b"0\r\n\r\n",
    b"0\r\nA: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"\0",
    b"\xff",
];

fn small() -> Limits {
    Limits {
        head_bytes_max: 200,
        head_fields_max: 5,
        target_bytes_max: 40,
        request_body_bytes_max: 10,
        ..Limits::default()
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(PARTS), 0..12).prop_map(|parts| parts.concat())
}

fn cut(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|pair| bytes[pair[0]..pair[1]].to_vec())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn cutting_changes_nothing(bytes in stream(), cuts in vec(any::<usize>(), 0..8), room in 1..300_usize) {
        let expected = whole(&bytes, &small());
        prop_assert_eq!(&feed(cut(&bytes, &cuts), room, &small()), &expected);
        prop_assert_eq!(&bytewise(&bytes, &small()), &expected);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..600), room in 1..64_usize) {
        let outcome = feed([bytes.clone()], room, &small());
        prop_assert_eq!(&outcome, &whole(&bytes, &small()));
    }

    /// A byte changed anywhere in sound requests: still no panic, still the same however it is cut.
    #[test]
    fn a_flipped_byte(at in any::<usize>(), to in any::<u8>(), cuts in vec(any::<usize>(), 0..4)) {
        let mut bytes = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n\
            POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        prop_assert_eq!(feed(cut(&bytes, &cuts), 4096, &small()), whole(&bytes, &small()));
    }
}
