//! The delivery server: pictures for everybody, films for who may watch.
//!
//! It is another process on another host than the store. It has no database and no member. What leads to
//! a film is the edge's own credential (then the edge has let somebody in), or a ticket in the path,
//! which the store gave its member.
//!
//! Invariant: it has never seen a cookie. Of a request it keeps the method, the path, a range and
//! conditions, at the door ([`Sought::of`]); nothing personal can be declared here, since there are no
//! [`Members`](crate::declare::Members).

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, Method, Request, Response, Uri};

use crate::answer::{Download, Drawing, File, Media};
use crate::asked::{Millis, Public};
use crate::declare::{App, Entry, Page};
use crate::films;
use crate::html::lasting;
use crate::media::MediaBase;
use crate::pages::drawing;
use crate::refusal::Refusal;
use crate::rest::Notice;
use crate::router::{OurDeclarations, Router};
use crate::serve::Answers;
use crate::ticket::Tickets;

/// The header in which an edge shows that it is one. In lower case, as compared.
pub const EDGE_HEADER: &str = "x-edge-key";

/// The delivery server.
pub struct Delivery {
    router: Router<Films>,
    edge: EdgeKey,
    tickets: Tickets,
}

/// What is served: files that were made beforehand, and drawings.
#[derive(Debug)]
pub struct Films {
    media: MediaBase,
}

/// What an edge shows. It does not print.
pub struct EdgeKey(blake3::Hash);

impl EdgeKey {
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(blake3::hash(secret))
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        // Digests are compared in constant time.
        let mut shown = headers.get_all(EDGE_HEADER).iter();
        let first = shown.next().map(|it| blake3::hash(it.as_bytes()));
        first == Some(self.0) && shown.next().is_none()
    }
}

impl fmt::Debug for EdgeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeKey(…)")
    }
}

impl App for Films {
    type Shelf = ();

    fn shelf(&self) -> &() {
        &()
    }

    fn refusal(&self, _: &Public, why: &Refusal) -> String {
        format!("<!doctype html><title>{0}</title><p>{0}</p>", why.status())
    }

    fn notice(&self, _: Millis) -> Option<Notice> {
        None
    }

    fn media(&self) -> &MediaBase {
        &self.media
    }
}

/// What remains of a request at the door.
struct Sought {
    method: Method,
    path: String,
    /// A range, and conditions.
    headers: HeaderMap,
}

impl Sought {
    fn of(method: Method, path: &str, asked: &HeaderMap) -> Self {
        let mut headers = HeaderMap::new();
        for name in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH] {
            for value in asked.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self {
            method,
            path: path.to_owned(),
            headers,
        }
    }

    fn request(self) -> Option<Request<Bytes>> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse::<Uri>().ok()?;
        *request.headers_mut() = self.headers;
        Some(request)
    }
}

impl Delivery {
    /// # Errors
    /// The declarations contradict each other, which a test would have found.
    pub fn new(media: MediaBase, edge: EdgeKey, tickets: Tickets) -> Result<Self, OurDeclarations> {
        Ok(Self {
            router: Router::new(Films { media }, table())?,
            edge,
            tickets,
        })
    }

    /// Every page there is.
    pub fn pages(&self) -> &[Page<Films>] {
        self.router.pages()
    }
}

impl Answers for Delivery {
    fn answer(
        &self,
        request: Request<Bytes>,
        _client: Option<IpAddr>,
        now: Millis,
    ) -> Response<Bytes> {
        let (head, _) = request.into_parts();
        let path = head.uri.path();
        let (entry, path) = match self.tickets.opened(path, now) {
            // A ticket that is not good leads where it says, and opens nothing there.
            Some(Ok(opened)) => (Entry::Holder, opened),
            Some(Err(_)) | None if self.edge.is_shown(&head.headers) => (Entry::Edge, path),
            Some(Err(_)) => (Entry::Anybody, "/films/none/none"),
            None => (Entry::Anybody, path),
        };
        let sought = Sought::of(head.method.clone(), path, &head.headers);
        // It was a part of a path, so it is one.
        let request = sought.request().unwrap_or_default();
        self.router.answer_to(entry, request, None, now)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.router.fmt(f)
    }
}

/// So that a sample film of forty thousand bytes has more than one. Where films have hours, a slice has a mebibyte.
const SLICE_BYTES: u32 = 16 << 10;

fn table() -> Vec<Page<Films>> {
    let cover = films::covers("last-lighthouse");
    let film = films::stream("last-lighthouse").unwrap_or_default();
    let course = films::download("course-sashiko").unwrap_or_default();
    let files = ["index.m3u8", "init.mp4", "part0.m4s", "film.webm"];
    let film_page = files.iter().fold(
        Page::media("film", "/films/{film}/{file}", film_file)
            .for_holders()
            .in_slices(SLICE_BYTES),
        |page, file| page.example(format!("{film}/{file}")),
    );
    let cover_page = cover.into_iter().fold(
        Page::media("cover", "/covers/{cover}", cover_file),
        |page, (_, path)| page.example(path),
    );
    vec![
        cover_page,
        Page::media("drawing", "/drawings/{drawing}", drawing_file)
            .example(drawing::path("plan-monthly")),
        film_page,
        Page::media("download", "/downloads/{film}/{file}", download_file)
            .for_holders()
            .in_slices(SLICE_BYTES)
            .example(format!("{course}/film.mp4")),
    ]
}

fn cover_file(_: &(), asked: &Public) -> Result<Media<File>, Refusal> {
    let found = films::cover_file(asked.parameter("cover"));
    found
        .map(|it| Media::new(File(it)))
        .ok_or(Refusal::NotFound)
}

fn film_file(_: &(), asked: &Public) -> Result<Media<File>, Refusal> {
    let found = films::film_file(asked.parameter("film"), asked.parameter("file"));
    found
        .map(|it| Media::new(File(it)))
        .ok_or(Refusal::NotFound)
}

fn download_file(_: &(), asked: &Public) -> Result<Media<Download>, Refusal> {
    let found = films::film_file(asked.parameter("film"), asked.parameter("file"));
    found
        .map(|it| Media::new(Download(it)))
        .ok_or(Refusal::NotFound)
}

fn drawing_file(_: &(), asked: &Public) -> Result<Media<Drawing>, Refusal> {
    let name = asked.parameter("drawing");
    let (id, _) = name.rsplit_once('-').ok_or(Refusal::NotFound)?;
    let drawn = drawing::of(id);
    // Only under the name that is of this content: whatever is served under it lasts for ever.
    if name == lasting(id, &drawn, "svg") {
        Ok(Media::new(Drawing(drawn)))
    } else {
        Err(Refusal::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::{CACHE_CONTROL, CONTENT_RANGE, ETAG};

    use super::*;
    use crate::member::MemberId;

    const NOW: Millis = Millis(1_794_000_000_000);
    const KEY: &str = "the edge's own key";

    fn delivery() -> Delivery {
        let tickets = Tickets::of(b"a secret of both");
        Delivery::new(MediaBase::of_trials(), EdgeKey::of(KEY.as_bytes()), tickets).unwrap()
    }

    fn get(delivery: &Delivery, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        delivery.answer(request.body(Bytes::new()).unwrap(), None, NOW)
    }

    #[test]
    fn films_are_for_who_was_let_in_and_pictures_for_everybody() {
        let delivery = delivery();
        let film = films::stream("night-trains").unwrap();
        let part = format!("{film}/part0.m4s");
        let viewer = MemberId::stored("m17".to_owned());
        let ticket = Tickets::of(b"a secret of both").path(&film, &viewer, NOW.plus(1000));
        let foreign = Tickets::of(b"of somebody else").path(&film, &viewer, NOW.plus(1000));
        let (cover, key) = (&films::covers("night-trains")[0].1, ("x-edge-key", KEY));
        for (path, headers, status, control) in [
            (
                cover,
                vec![],
                StatusCode::OK,
                "public, max-age=31536000, immutable",
            ),
            (
                cover,
                vec![key],
                StatusCode::OK,
                "public, max-age=31536000, immutable",
            ),
            (&part, vec![], StatusCode::FORBIDDEN, "private, no-store"),
            (
                &part,
                vec![("x-edge-key", "x")],
                StatusCode::FORBIDDEN,
                "private, no-store",
            ),
            (
                &part,
                vec![key, key],
                StatusCode::FORBIDDEN,
                "private, no-store",
            ),
            (
                &part,
                vec![("cookie", "x-edge-key=a")],
                StatusCode::FORBIDDEN,
                "private, no-store",
            ),
            (
                &part,
                vec![key],
                StatusCode::OK,
                "public, max-age=31536000, immutable",
            ),
            (
                &format!("{ticket}/part0.m4s"),
                vec![],
                StatusCode::OK,
                "private, max-age=3600",
            ),
            (
                &format!("{foreign}/part0.m4s"),
                vec![],
                StatusCode::FORBIDDEN,
                "private, no-store",
            ),
            (
                &format!("{ticket}/none"),
                vec![],
                StatusCode::NOT_FOUND,
                "private, no-store",
            ),
            (
                &format!("{film}/none"),
                vec![],
                StatusCode::FORBIDDEN,
                "private, no-store",
            ),
            (
                &format!("{film}/none"),
                vec![key],
                StatusCode::NOT_FOUND,
                "private, no-store",
            ),
        ] {
            let answer = get(&delivery, path, &headers);
            let said = answer.headers()[CACHE_CONTROL].to_str().unwrap();
            assert_eq!(
                (answer.status(), said),
                (status, control),
                "{path} {headers:?}"
            );
        }
    }

    #[test]
    fn a_part_of_a_film_is_told_with_its_place_and_its_tag() {
        let delivery = delivery();
        let film = format!("{}/film.webm", films::stream("night-trains").unwrap());
        let ask = |more: &[(&str, &str)]| {
            let mut headers = vec![("x-edge-key", KEY)];
            headers.extend(more);
            get(&delivery, &film, &headers)
        };
        let whole = ask(&[]);
        let (length, tag) = (whole.body().len(), whole.headers()[ETAG].clone());
        let tag = tag.to_str().unwrap();
        for (headers, status, range) in [
            (vec![], StatusCode::OK, None),
            (
                vec![("range", "bytes=10-19")],
                StatusCode::PARTIAL_CONTENT,
                Some(format!("bytes 10-19/{length}")),
            ),
            (
                vec![("range", "bytes=10-19"), ("if-match", tag)],
                StatusCode::PARTIAL_CONTENT,
                Some(format!("bytes 10-19/{length}")),
            ),
            (
                vec![("range", "bytes=10-19"), ("if-range", tag)],
                StatusCode::PARTIAL_CONTENT,
                Some(format!("bytes 10-19/{length}")),
            ),
            (
                vec![("range", "bytes=10-19"), ("if-range", "\"x\"")],
                StatusCode::OK,
                None,
            ),
            (
                vec![("range", "bytes=10-19"), ("if-match", "\"x\"")],
                StatusCode::PRECONDITION_FAILED,
                None,
            ),
            (
                vec![("range", "bytes=99999999-")],
                StatusCode::RANGE_NOT_SATISFIABLE,
                Some(format!("bytes */{length}")),
            ),
            (vec![("range", "bytes=0-1,4-5")], StatusCode::OK, None),
            (vec![("if-none-match", tag)], StatusCode::NOT_MODIFIED, None),
        ] {
            let answer = ask(&headers);
            let said = answer
                .headers()
                .get(CONTENT_RANGE)
                .map(|it| it.to_str().unwrap());
            assert_eq!(
                (answer.status(), said),
                (status, range.as_deref()),
                "{headers:?}"
            );
            assert_eq!(answer.headers()[ETAG], tag);
            if status == StatusCode::PARTIAL_CONTENT {
                assert_eq!(answer.body(), &whole.body().slice(10..20));
            }
        }
    }

    #[test]
    fn nothing_of_a_person_gets_past_the_door() {
        let mut headers = HeaderMap::new();
        for name in [
            "cookie",
            "authorization",
            "x-forwarded-for",
            EDGE_HEADER,
            "range",
        ] {
            headers.insert(name, "bytes=0-1".parse().unwrap());
        }
        let sought = Sought::of(Method::GET, "/x", &headers).request().unwrap();
        let kept: Vec<_> = sought.headers().keys().map(|it| it.as_str()).collect();
        assert_eq!(kept, ["range"]);
    }

    #[test]
    fn every_page_has_an_example_that_the_edge_is_answered() {
        let delivery = delivery();
        for page in delivery.pages() {
            assert!(!page.examples().is_empty(), "{page:?}");
            for path in page.examples() {
                let answer = get(&delivery, path, &[("x-edge-key", KEY)]);
                assert_eq!(answer.status(), StatusCode::OK, "{path}");
                let said = answer.headers()["content-type"].to_str().unwrap();
                assert!(page.content_types().contains(&said), "{path} {said}");
            }
        }
    }
}
