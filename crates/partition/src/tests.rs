//! What the tests of several modules share: a class, rules and a key made by hand.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use shikiri_record::{ClassDigest, Digest, Epoch, FillId, Mode, Order, RulesDigest, UnixMillis};

use crate::admit::{Admitted, Fill, Judged};
use crate::classify::Under;
use crate::key::{AcceptEncoding, Begun, Key};
use crate::reason::NotShared;
use crate::request::{RequestHead, Scheme};
use crate::rules::{
    Class, HostPattern, Lifetimes, Limits, Match, Origin, OriginHost, PinRules, QueryKey, Rules,
    Session, To, TypePattern,
};
use crate::upstream::{Spoken, Upstream};

/// Sun, 06 Nov 1994 08:49:37 GMT, the RFCs' own example.
pub(crate) const NOW: UnixMillis = UnixMillis(784_111_777_000);

pub(crate) fn class() -> Class {
    Class {
        name: "test".into(),
        digest: ClassDigest(Digest::of(b"a class")),
        matches: Match::default(),
        to: To::Everyone,
        gate: None,
        types: vec![TypePattern("*/*".into()), TypePattern("text/html".into())],
        statuses: [200, 204, 301, 302, 404].into(),
        query: QueryKey::All,
        key_headers: Vec::new(),
        key_encoding: true,
        lifetimes: Lifetimes {
            default: None,
            max: Duration::from_secs(86400),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        },
        volatile: Vec::new(),
        object_bytes_max: 1 << 20,
        slice_bytes: None,
        is_static: false,
    }
}

pub(crate) fn rules(classes: Vec<Class>) -> Rules {
    Rules {
        digest: RulesDigest(Digest::of(b"rules")),
        origins: vec![origin()],
        session: Session::unspecific(),
        personal: Vec::new(),
        classes: classes.into_iter().map(Arc::new).collect(),
        pins: PinRules::unsaid(),
        limits: Limits::default(),
    }
}

fn origin() -> Origin {
    Origin {
        hosts: vec![HostPattern::Any],
        upstream: Arc::new(Upstream {
            address: "127.0.0.1".into(),
            port: 8080,
            spoken: Spoken::Http1,
        }),
        host_header: OriginHost::Client,
        upgrades: Vec::new(),
    }
}

pub(crate) fn key(class: &Class) -> Key {
    let encoding = class.key_encoding.then_some(AcceptEncoding::BrotliGzip);
    let (method, fields) = (Method::GET, HeaderMap::new());
    let head = RequestHead {
        method: &method,
        scheme: Scheme::Http,
        authority: "shop.test".into(),
        path: "/page",
        query: None,
        headers: &fields,
        has_body: false,
        certificate: None,
    };
    Key::new(
        class,
        Under {
            mode: Mode::Open,
            epoch: Epoch(1),
            grant: None,
        },
        &origin(),
        &head,
        "/page".into(),
        encoding,
        Vec::new(),
    )
}

pub(crate) fn begun(id: u128) -> Begun {
    Begun {
        id: FillId(id),
        at: NOW,
        order: Order(u64::try_from(id).expect("test ids are small")),
    }
}

pub(crate) fn fill(class: &Class, stored: Option<Admitted>) -> Fill {
    let id = if stored.is_some() { 2 } else { 1 };
    Fill::begin(key(class), Arc::new(class.clone()), begun(id), stored)
}

/// Header fields, one a line.
pub(crate) fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a name and a value");
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).expect("a header value");
        headers.append(name.parse::<HeaderName>().expect("a header name"), value);
    }
    headers
}

pub(crate) fn judge(class: &Class, status: u16, lines: &str) -> Judged {
    let status = StatusCode::from_u16(status).expect("a status");
    fill(class, None).judge(status, headers(lines), true, NOW)
}

/// An image that was admitted with this head besides its type.
pub(crate) fn admitted(class: &Class, lines: &str) -> Admitted {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    match judge(class, 200, &format!("content-type: image/png\n{lines}")) {
        Judged::Sniff(sniff) => sniff.judge(PNG).expect("a PNG is a PNG"),
        other => panic!("{lines}: {other:?}"),
    }
}

/// Why it is not shared.
pub(crate) fn refused(class: &Class, status: u16, lines: &str) -> Option<NotShared> {
    match judge(class, status, lines) {
        Judged::Relay(relay) => Some(relay.into_parts().2),
        Judged::Sniff(_) | Judged::Copy(_) | Judged::Refreshed(_) | Judged::Unsliced(_) => None,
    }
}

#[test]
fn a_stored_head_does_not_keep_the_read_buffer_that_it_came_in() {
    let buffer = bytes::Bytes::from_static(b"etag: \"1\"");
    let mut fields = headers("content-type: image/png\ncache-control: max-age=60");
    let etag = HeaderValue::from_maybe_shared(buffer.slice(6..)).expect("a header value");
    assert!(buffer.as_ptr_range().contains(&etag.as_bytes().as_ptr()));
    fields.insert(http::header::ETAG, etag);
    let Judged::Sniff(sniff) = fill(&class(), None).judge(StatusCode::OK, fields, true, NOW) else {
        panic!("a picture is sniffed");
    };
    let head = sniff.judge(b"\x89PNG\r\n\x1a\n").expect("a PNG is a PNG");
    let stored = head.etag().expect("it has one");
    assert!(!buffer.as_ptr_range().contains(&stored.as_bytes().as_ptr()));
}
