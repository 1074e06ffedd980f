//! A browser against the router itself: it keeps the session's cookie and sends forms as browsers do.

#[path = "../fresh/mod.rs"]
mod fresh;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use shikiri_site::asked::{Millis, SESSION_COOKIE};
use shikiri_site::pay::trial::Trial;
use shikiri_site::router::Router;
use shikiri_site::store::{DEMO_PASSWORD, Store, fill_with_samples};
use shikiri_site::{Around, Shop, shop_within};

pub(crate) const NOW: Millis = Millis(1_794_000_000_000);

/// A shop with its samples, and the processor behind it.
pub(crate) fn site() -> (Router<Shop>, Arc<Trial>) {
    site_on(fresh::store())
}

pub(crate) fn site_on(store: Store) -> (Router<Shop>, Arc<Trial>) {
    fill_with_samples(&store).unwrap();
    let processor = Arc::new(Trial::in_memory("http://pay.example.test").unwrap());
    let around = Around {
        processor: Arc::<Trial>::clone(&processor),
        ..Around::nothing().unwrap()
    };
    (shop_within(around, store).unwrap(), processor)
}

pub(crate) struct Browser<'a> {
    pub(crate) site: &'a Router<Shop>,
    pub(crate) cookie: Option<String>,
    pub(crate) now: Millis,
}

impl<'a> Browser<'a> {
    pub(crate) fn logged_in(site: &'a Router<Shop>, mail: &str) -> Self {
        let mut browser = Self {
            site,
            cookie: None,
            now: NOW,
        };
        let form = format!("mail={}&password={DEMO_PASSWORD}", mail.replace('@', "%40"));
        assert_eq!(
            browser.post("/ja/login", &form).status(),
            StatusCode::SEE_OTHER
        );
        browser
    }

    pub(crate) fn get(&mut self, path: &str) -> Response<Bytes> {
        self.send(Request::get(path), Bytes::new())
    }

    pub(crate) fn post(&mut self, path: &str, form: &str) -> Response<Bytes> {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        self.send(request, Bytes::copy_from_slice(form.as_bytes()))
    }

    pub(crate) fn send(
        &mut self,
        mut request: http::request::Builder,
        body: Bytes,
    ) -> Response<Bytes> {
        request = request.header("host", "shop.example.test");
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", format!("{SESSION_COOKIE}={cookie}"));
        }
        let answer = self
            .site
            .answer(request.body(body).unwrap(), None, self.now);
        if let Some(set) = header(&answer, "set-cookie") {
            let value = set.split([';', '=']).nth(1).unwrap();
            self.cookie = (!value.is_empty()).then(|| value.to_owned());
        }
        answer
    }
}

pub(crate) fn header<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|it| it.to_str().unwrap())
}

pub(crate) fn text(answer: &Response<Bytes>) -> &str {
    std::str::from_utf8(answer.body()).unwrap()
}

/// What an attribute of the first element with this text before it holds.
pub(crate) fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before} in {text}"));
    rest.split_once(after).unwrap().0
}
