//! Any bytes before a request is there: a PROXY protocol header is the same however much comes after it,
//! and says what a parser that shares no code with it says; HTTP/2 frames are counted alike however they
//! are cut.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use shikiri_edge::guard::Scan;
use shikiri_edge::proxy_protocol::{HEADER_BYTES_MAX, Proxied, read};
use tokio::time::Instant;

fuzz_target!(|input: &[u8]| {
    let [piece, bytes @ ..] = input else {
        return;
    };
    header(bytes);
    frames(bytes, usize::from(*piece) + 1);
});

fn header(bytes: &[u8]) {
    match read(bytes) {
        Proxied::Header(client, length) => {
            assert!(length <= bytes.len().min(HEADER_BYTES_MAX));
            assert_eq!(read(&bytes[..length]), Proxied::Header(client, length));
            if bytes.starts_with(b"PROXY ") {
                assert_eq!(client, of_text(&bytes[..length]));
            }
        }
        Proxied::More => assert!(bytes.len() < HEADER_BYTES_MAX),
        Proxied::Not => {}
    }
}

/// The client of a header of version 1, read word by word.
fn of_text(line: &[u8]) -> Option<IpAddr> {
    let line = std::str::from_utf8(line).unwrap_or("PROXY UNKNOWN");
    let mut words = line.trim_end().split(' ').skip(1);
    match words.next() {
        Some("TCP4" | "TCP6") => {
            let client: IpAddr = words.next().unwrap().parse().unwrap();
            Some(client.to_canonical())
        }
        _ => None,
    }
}

fn frames(bytes: &[u8], piece: usize) {
    let now = Instant::now();
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes].concat();
    let outcome = |piece: usize| {
        let mut scan = Scan::new(5);
        let read = bytes
            .chunks(piece)
            .try_for_each(|piece| scan.read(piece, 0, now));
        (read, read.is_ok().then(|| scan.is_unfinished()))
    };
    assert_eq!(outcome(bytes.len()), outcome(piece));
}
