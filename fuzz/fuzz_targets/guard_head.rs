//! Any bytes through the guard: it never panics, how they are cut changes nothing, and a reader that
//! shares no code with it finds the same requests in what it hands on.

#![no_main]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use shikiri_edge::guard::{Findings, Guarded};
use shikiri_partition::{Limits, Refused};
use tokio::io::{AsyncRead, ReadBuf};

fuzz_target!(|input: &[u8]| {
    let [piece, room, bytes @ ..] = input else {
        return;
    };
    let limits = Limits {
        head_bytes_max: 2000,
        head_fields_max: 20,
        target_bytes_max: 200,
        request_body_bytes_max: 5000,
        ..Limits::default()
    };
    let whole = feed(bytes, bytes.len().max(1), 4096, &limits);
    let cut = feed(
        bytes,
        usize::from(*piece) + 1,
        usize::from(*room) + 1,
        &limits,
    );
    assert_eq!(whole, cut, "cutting changes nothing");
    reads_alike(&whole, bytes);
});

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    handed_on: Vec<u8>,
    refused: Option<(u64, Refused)>,
    failed: Option<io::ErrorKind>,
}

fn feed(bytes: &[u8], piece: usize, room: usize, limits: &Limits) -> Outcome {
    let findings = Findings::new();
    let mut guarded = Guarded::new(Pieces { bytes, piece }, limits, findings.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let mut space = vec![0; room];
    let mut handed_on = Vec::new();
    let failed = loop {
        let mut out = ReadBuf::new(&mut space);
        match Pin::new(&mut guarded).poll_read(&mut cx, &mut out) {
            Poll::Ready(Ok(())) if out.filled().is_empty() => break None,
            Poll::Ready(Ok(())) => handed_on.extend_from_slice(out.filled()),
            Poll::Ready(Err(error)) => break Some(error.kind()),
            // The service has not answered the refusal.
            Poll::Pending => break None,
        }
    };
    let refused = (0..=bytes.len() as u64).find_map(|n| findings.refusal_of(n).map(|why| (n, why)));
    Outcome {
        handed_on,
        refused,
        failed,
    }
}

/// Follows the requests that were handed on with a lenient reader. Every byte of them must be the
/// client's, every head must frame its body once, and the last one may be the stand-in.
fn reads_alike(outcome: &Outcome, sent: &[u8]) {
    let mut rest = outcome.handed_on.as_slice();
    let mut heads = 0;
    let mut stood_in = false;
    while !rest.is_empty() {
        assert!(!stood_in, "nothing comes after the stand-in");
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = head.parse(rest) else {
            panic!("a head was handed on that another reader refuses");
        };
        let all = |wanted: &str| -> Vec<&[u8]> {
            let named = head
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(wanted));
            named.map(|field| field.value).collect()
        };
        let (hosts, lengths, codings) =
            (all("host"), all("content-length"), all("transfer-encoding"));
        assert_eq!(hosts.len(), 1, "one Host");
        assert!(lengths.len() + codings.len() <= 1, "framed once");
        assert!(rest[..length].ends_with(b"\r\n\r\n"), "no bare line ends");
        stood_in = hosts[0] == b"refused.invalid" && !contains(sent, b"refused.invalid");
        heads += u64::from(!stood_in);
        rest = &rest[length..];
        let body = match (lengths.first(), codings.first()) {
            (Some(length), _) => {
                let text = std::str::from_utf8(length).expect("digits");
                Some(text.parse::<usize>().expect("a number"))
            }
            (None, Some(_)) => chunked(rest),
            (None, None) => Some(0),
        };
        match body {
            Some(body) if body <= rest.len() => rest = &rest[body..],
            // The body ends early; then so does everything.
            _ => {
                assert!(outcome.failed.is_some(), "a body that ends early fails");
                rest = &[];
            }
        }
    }
    if let Some((number, _)) = outcome.refused
        && !contains(sent, b"refused.invalid")
    {
        let expected = if outcome.failed.is_some() {
            heads - 1
        } else {
            heads
        };
        assert_eq!(number, expected, "the refusal has its request's number");
    }
}

/// Bytes of the chunked body at the start of bytes, trailers included; `None` if it does not end.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = line_end(bytes, at)?;
        let digits = bytes[at..line]
            .split(|&byte| byte == b';' || byte == b'\r')
            .next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        at = line;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?.checked_add(2)?;
    }
    loop {
        let line = line_end(bytes, at)?;
        let is_last = line - at == 2;
        at = line;
        if is_last {
            return Some(at);
        }
    }
}

fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    Some(at + bytes.get(at..)?.iter().position(|&byte| byte == b'\n')? + 1)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.piece.min(out.remaining()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(count);
        out.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}
