//! What the fuzz targets share: requests and responses from bytes, careless rules, and what must
//! hold of every shared fetch.
//!
//! Never the code under test: heads are read by `httparse`, and what must hold is written here anew.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use shikiri_partition::{
    Begun, Classified, Constants, Fill, Outbound, RequestHead, Rules, Scheme, SharedFetch, Sharing,
    Under, policy,
};
use shikiri_record::{Epoch, FillId, Mode, Order, PolicyText, UnixMillis};

/// When every input happens: Sun, 06 Nov 1994 08:49:37 GMT.
pub const NOW: UnixMillis = UnixMillis(784_111_777_000);

/// As careless as a policy can be: every path is shared with everyone, whatever it is.
pub const CARELESS: &str = r#"
version = 1
[session]
cookies = ["session"]
ignorable_cookies = ["theme"]
query = ["invite"]
query_public = ["v"]
[[origin]]
hosts = ["*"]
url = "http://127.0.0.1:8080"
[[class]]
name = "some-headers"
match = { paths = ["/h/**"] }
to = "everyone"
types = ["text/html", "text/*", "image/*", "application/*"]
key_headers = ["accept-language", "x-variant"]
query = ["q", "page"]
[[class]]
name = "everything"
match = { paths = ["/**"] }
to = "everyone"
types = ["text/html", "text/*", "image/*", "application/*"]
statuses = [200, 204, 301, 302, 404]
"#;

/// Everything that may be shared is.
pub const UNDER: Under = Under {
    mode: Mode::Open,
    epoch: Epoch(1),
    grant: None,
};

/// The careless rules.
pub fn careless() -> Rules {
    let text = PolicyText {
        source: "careless.toml".into(),
        text: CARELESS.into(),
    };
    policy::compile(Some(&text), None).expect("the careless policy is a policy")
}

/// A request's head.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
}

impl Request {
    /// Reads the head at the start of bytes, and says how long it is.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else {
            return None;
        };
        let method = Method::from_bytes(head.method?.as_bytes()).ok()?;
        let uri = head.path?.parse().ok()?;
        let headers = header_map(head.headers)?;
        Some((
            Self {
                method,
                uri,
                headers,
            },
            length,
        ))
    }

    /// What rules say of it, if it can be read in one way.
    pub fn classify(&self, rules: &Rules) -> Option<Classified> {
        let head = self.head()?;
        Some(rules.classify(&head, UNDER))
    }

    /// Its head, if it can be read in one way.
    pub fn head(&self) -> Option<RequestHead<'_>> {
        let version = Version::HTTP_11;
        RequestHead::parse(
            Scheme::Http,
            version,
            &self.method,
            &self.uri,
            &self.headers,
        )
        .ok()
    }
}

/// A response, as far as it was given.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads the response at the start of bytes; what follows its head is its body.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else {
            return None;
        };
        let status = StatusCode::from_u16(head.code?).ok()?;
        let headers = header_map(head.headers)?;
        Some(Self {
            status,
            headers,
            body: &bytes[length..],
        })
    }
}

fn header_map(fields: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(headers)
}

/// The shared fetch that a permission to share makes.
pub fn fetch(sharing: &Sharing) -> (Outbound, Fill) {
    let begun = Begun {
        id: FillId(1),
        at: NOW,
        order: Order(1),
    };
    SharedFetch::of(
        sharing.key(),
        sharing.class(),
        begun,
        &Constants::new("fuzz"),
    )
    .begin()
}

/// What must hold of a shared fetch, whatever the request and the policy: it names nobody.
pub fn assert_names_nobody(outbound: &Outbound) {
    assert_eq!(outbound.method(), Method::GET, "a shared fetch is a GET");
    assert!(
        outbound.target().starts_with('/'),
        "a shared target is in origin form"
    );
    for name in outbound.headers().keys() {
        let name = name.as_str();
        let tells = name.contains("cookie")
            || name.contains("auth")
            || name.contains("session")
            || name.contains("token")
            || name.contains("client")
            || name.contains("real-ip")
            || matches!(
                name,
                "forwarded" | "x-forwarded-for" | "from" | "referer" | "origin"
            )
            || matches!(
                name,
                "range" | "if-range" | "if-match" | "if-unmodified-since"
            )
            || matches!(
                name,
                "content-length" | "transfer-encoding" | "expect" | "upgrade"
            )
            || matches!(name, "connection" | "te" | "trailer" | "keep-alive");
        assert!(!tells, "a shared fetch carries {name}");
    }
}
