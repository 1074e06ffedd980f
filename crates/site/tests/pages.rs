//! Every declared page, asked directly: as nobody and as two members.
//!
//! What is looked at is the response alone. Names and headers are those of `docs/origin-contract.md`.

mod fresh;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use shikiri_site::asked::{Millis, SESSION_COOKIE};
use shikiri_site::declare::{Class, Page, Verb};
use shikiri_site::delivery::{Delivery, EdgeKey};
use shikiri_site::media::MediaBase;
use shikiri_site::router::Router;
use shikiri_site::serve::Answers;
use shikiri_site::store::{DEMO_PASSWORD, fill_with_samples};
use shikiri_site::ticket::Tickets;
use shikiri_site::{Around, Shop, pages_json, policy, shop_within};

const NOW: Millis = Millis(1_794_000_000_000);
const MINUTE: i64 = 60_000;
const SECRET: &[u8] = b"a secret of the store and the delivery server";

fn site() -> Router<Shop> {
    let store = fresh::store();
    fill_with_samples(&store).unwrap();
    let around = Around {
        tickets: Tickets::of(SECRET),
        ..Around::nothing().unwrap()
    };
    shop_within(around, store).unwrap()
}

fn delivery() -> Delivery {
    let tickets = Tickets::of(SECRET);
    Delivery::new(MediaBase::of_trials(), EdgeKey::of(SECRET), tickets).unwrap()
}

/// A browser: it keeps the session's cookie.
struct Browser<'a> {
    site: &'a Router<Shop>,
    cookie: Option<String>,
    now: Millis,
}

impl<'a> Browser<'a> {
    fn new(site: &'a Router<Shop>) -> Self {
        Self {
            site,
            cookie: None,
            now: NOW,
        }
    }

    fn logged_in(site: &'a Router<Shop>, mail: &str) -> Self {
        let mut browser = Self::new(site);
        let answer = browser.log_in(mail, DEMO_PASSWORD, "");
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        browser
    }

    fn log_in(&mut self, mail: &str, password: &str, next: &str) -> Response<Bytes> {
        let mail = mail.replace('@', "%40");
        self.post(
            "/ja/login",
            &format!("mail={mail}&password={password}&next={next}"),
        )
    }

    fn get(&mut self, path: &str) -> Response<Bytes> {
        self.send(Request::get(path), "")
    }

    fn post(&mut self, path: &str, form: &str) -> Response<Bytes> {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        self.send(request, form)
    }

    fn send(&mut self, mut request: http::request::Builder, body: &str) -> Response<Bytes> {
        request = request.header("host", "shop.example.test");
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", format!("{SESSION_COOKIE}={cookie}"));
        }
        let request = request
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap();
        let answer = self.site.answer(request, None, self.now);
        if let Some(set) = header(&answer, "set-cookie") {
            assert!(
                set.ends_with("Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=1209600")
                    || set.ends_with("Max-Age=0")
            );
            let value = set.split([';', '=']).nth(1).unwrap();
            self.cookie = (!value.is_empty()).then(|| value.to_owned());
        }
        answer
    }
}

fn header<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|it| it.to_str().unwrap())
}

fn text(answer: &Response<Bytes>) -> &str {
    std::str::from_utf8(answer.body()).unwrap()
}

fn gets(site: &Router<Shop>) -> impl Iterator<Item = (&Page<Shop>, &str)> {
    let pages = site.pages().iter().filter(|it| it.verb() == Verb::Get);
    pages.flat_map(|page| {
        page.examples()
            .iter()
            .map(move |path| (page, path.as_str()))
    })
}

#[test]
fn every_page_can_be_seen_and_answers_as_it_is_declared() {
    let site = site();
    for page in site.pages().iter().filter(|it| it.verb() == Verb::Get) {
        assert!(
            !page.examples().is_empty(),
            "{page:?} has no example, so no check ever sees it"
        );
    }
    let (mut hanako, mut taro) = (
        Browser::logged_in(&site, "hanako@example.test"),
        Browser::logged_in(&site, "taro@example.test"),
    );
    for (page, path) in gets(&site) {
        let answers = [
            Browser::new(&site).get(path),
            hanako.get(path),
            taro.get(path),
        ];
        let good = |it: &&Response<Bytes>| it.status() == StatusCode::OK;
        assert!(
            answers.iter().any(|it| good(&it)),
            "{page:?} {path} is shown to nobody"
        );
        for answer in &answers {
            assert_eq!(header(answer, "shikiri-page"), Some(page.name()), "{path}");
            let control = header(answer, "cache-control").unwrap();
            match page.class() {
                Class::Personal => assert_eq!(control, "private, no-store", "{path}"),
                Class::Shared | Class::Media => {
                    assert!(control.starts_with("public, max-age="), "{path} {control}");
                    for name in [
                        "set-cookie",
                        "shikiri-viewer",
                        "shikiri-owner",
                        "shikiri-session",
                        "vary",
                    ] {
                        assert_eq!(header(answer, name), None, "{path} {name}");
                    }
                }
            }
        }
        if page.class() != Class::Personal {
            let [nobodys, hanakos, taros] = answers.map(|it| it.into_body());
            assert!(
                nobodys == hanakos && nobodys == taros,
                "{path} is the same for everybody"
            );
        }
    }
}

#[test]
fn a_members_page_names_the_member_and_shows_no_other() {
    let site = site();
    let secrets = [
        [
            "hanako@example.test",
            "見本 花子",
            "samplehanako1",
            "はなこ",
        ],
        ["taro@example.test", "仮名 太郎", "sampletaro1", "Taro"],
    ];
    let mut seen = Vec::new();
    for (mine, others) in [(0, 1), (1, 0)] {
        let mut browser = Browser::logged_in(&site, secrets[mine][0]);
        let mut shown = String::new();
        for (page, path) in gets(&site).filter(|(page, _)| page.class() == Class::Personal) {
            let answer = browser.get(path);
            if answer.status() != StatusCode::OK {
                continue;
            }
            for secret in secrets[others] {
                assert!(!text(&answer).contains(secret), "{path} shows {secret}");
            }
            shown.push_str(text(&answer));
            if path.contains("/account") {
                let viewer = header(&answer, "shikiri-viewer").unwrap();
                seen.push(viewer.to_owned());
                let owner = header(&answer, "shikiri-owner");
                assert_eq!(owner.is_some(), !page.shows().is_empty(), "{path}");
                assert!(owner.is_none_or(|it| it == viewer), "{path}");
            }
        }
        for secret in secrets[mine] {
            assert!(
                shown.contains(secret),
                "{secret} is on no page: this test would see nothing"
            );
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 2, "each member has one id");
}

#[test]
fn ids_of_others_are_ids_of_nobody() {
    let site = site();
    let mut taro = Browser::logged_in(&site, "taro@example.test");
    let (others, nobodys) = (
        taro.get("/ja/account/orders/samplehanako1"),
        taro.get("/ja/account/orders/none"),
    );
    assert_eq!(
        (others.status(), nobodys.status()),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    assert_eq!(
        text(&others).replace("samplehanako1", "none"),
        text(&nobodys)
    );
    assert_eq!(
        taro.get("/ja/account/orders/sampletaro1").status(),
        StatusCode::OK
    );
}

#[test]
fn a_login_begins_a_session_of_a_new_value_and_a_logout_ends_it() {
    let site = site();
    let mut browser = Browser::new(&site);
    let planted = "0".repeat(64);
    browser.cookie = Some(planted.clone());
    let wrong = browser.log_in("taro@example.test", "wrong-password", "");
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        (
            header(&wrong, "set-cookie"),
            header(&wrong, "shikiri-viewer")
        ),
        (None, None)
    );
    assert!(
        !text(&wrong).contains("wrong-password"),
        "a password is never filled in"
    );

    let begun = browser.log_in("taro@example.test", DEMO_PASSWORD, "/ja/account/points");
    assert_eq!(
        (
            header(&begun, "shikiri-session"),
            header(&begun, "location")
        ),
        (Some("start"), Some("/ja/account/points"))
    );
    let viewer = header(&begun, "shikiri-viewer").unwrap().to_owned();
    let first = browser.cookie.clone().unwrap();
    assert_ne!(first, planted);

    browser.log_in("hanako@example.test", DEMO_PASSWORD, "");
    let mut left_behind = Browser {
        cookie: Some(first),
        ..Browser::new(&site)
    };
    assert_eq!(
        left_behind.get("/ja/account").status(),
        StatusCode::SEE_OTHER,
        "the session before has ended"
    );

    let kept = browser.cookie.clone();
    let ended = browser.post("/ja/logout", "");
    assert_eq!(
        (header(&ended, "shikiri-session"), browser.cookie.as_deref()),
        (Some("end"), None)
    );
    assert_ne!(
        header(&ended, "shikiri-viewer"),
        Some(viewer.as_str()),
        "it was the other's by then"
    );
    browser.cookie = kept;
    let after = browser.get("/ja/account");
    assert_eq!(
        header(&after, "location"),
        Some("/ja/login?next=%2Fja%2Faccount")
    );
}

#[test]
fn nobody_is_sent_to_another_site() {
    let site = site();
    for next in [
        "//evil.test",
        "https://evil.test",
        "%2F%5Cevil.test",
        "%2Fx%0D%0ASet-Cookie:a",
    ] {
        let answer = Browser::new(&site).log_in("taro@example.test", DEMO_PASSWORD, next);
        assert_eq!(header(&answer, "location"), Some("/ja/account"), "{next}");
    }
}

#[test]
fn forms_are_taken_from_our_pages_alone() {
    let site = site();
    for page in site.pages().iter().filter(|it| it.verb() == Verb::Post) {
        let path = page
            .pattern()
            .text()
            .replace("{lang}", "ja")
            .replace("{product}", "last-lighthouse")
            .replace("{order}", "samplehanako1")
            .replace("{line}", "1")
            .replace("{post}", "sampleposthanako")
            .replace("{enquiry}", "sampleenquiryhanako")
            .replace("{choice}", "C-sample-hanako-1")
            .replace("{signature}", "0");
        let mut hanako = Browser::logged_in(&site, "hanako@example.test");
        let before = hanako.cookie.clone();
        let forms = [
            Request::post(&path),
            Request::post(&path).header("sec-fetch-site", "cross-site"),
            Request::post(&path).header("sec-fetch-site", "same-site"),
            Request::post(&path).header("origin", "https://evil.test"),
        ];
        for request in forms {
            let answer = hanako.send(request, "stars=1&text=x");
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        }
        assert_eq!(hanako.cookie, before, "{path} did nothing");
        assert_eq!(
            hanako.get("/ja/account").status(),
            StatusCode::OK,
            "{path} did nothing"
        );
        let wrong_type = hanako.send(
            Request::post(&path)
                .header("sec-fetch-site", "same-origin")
                .header("content-type", "text/plain"),
            "a=b",
        );
        assert_eq!(wrong_type.status(), StatusCode::BAD_REQUEST, "{path}");
    }
}

#[test]
fn passwords_can_be_tried_so_often_and_no_more() {
    let site = site();
    let mut guesser = Browser::new(&site);
    let statuses: Vec<_> = (0..11)
        .map(|_| {
            guesser
                .log_in("taro@example.test", "guess-guess", "")
                .status()
        })
        .collect();
    assert_eq!(statuses[9], StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(statuses[10], StatusCode::TOO_MANY_REQUESTS);
    let refused = guesser.log_in("taro@example.test", DEMO_PASSWORD, "");
    assert_eq!(
        header(&refused, "retry-after"),
        Some("601"),
        "nor the right one meanwhile"
    );
    guesser.now = NOW.plus(10 * MINUTE);
    assert_eq!(
        guesser
            .log_in("taro@example.test", DEMO_PASSWORD, "")
            .status(),
        StatusCode::SEE_OTHER
    );
}

#[test]
fn a_guesser_does_not_lock_a_member_out_of_their_own_browser() {
    let site = site();
    let log_in = |password: &str, cookies: &str| {
        let body = format!("mail=taro%40example.test&password={password}");
        let request = Request::post("/en/login")
            .header("host", "shop.example.test")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .header("cookie", cookies)
            .body(Bytes::from(body))
            .unwrap();
        let client = "192.0.2.1".parse().ok();
        site.answer(request, client, NOW)
    };
    let first = log_in(DEMO_PASSWORD, "");
    let set: Vec<_> = first.headers().get_all("set-cookie").iter().collect();
    assert_eq!(set.len(), 2, "the session's and the browser's");
    let device = set[1].to_str().unwrap();
    assert!(
        device.starts_with("__Host-device=")
            && device.contains("; Secure; HttpOnly; SameSite=Lax;")
    );
    let device = device.split(';').next().unwrap();
    while log_in("guess-guess", "").status() != StatusCode::TOO_MANY_REQUESTS {}
    for (cookies, status) in [
        ("", StatusCode::TOO_MANY_REQUESTS),
        ("__Host-device=a", StatusCode::TOO_MANY_REQUESTS),
        (device, StatusCode::SEE_OTHER),
    ] {
        assert_eq!(log_in(DEMO_PASSWORD, cookies).status(), status, "{cookies}");
    }
    assert_eq!(
        log_in("guess-guess", device).status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[test]
fn what_is_no_text_is_refused_at_the_door() {
    let site = site();
    let mut hanako = Browser::logged_in(&site, "hanako@example.test");
    let review = |text: &str| format!("stars=5&text={text}");
    let page = "/en/account/reviews/last-lighthouse";
    assert_eq!(
        hanako.post(page, &review("a%00b")).status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        hanako.post(page, &review("a+b")).status(),
        StatusCode::SEE_OTHER
    );
    let all = hanako.get("/en/films").into_body();
    let none = hanako.get("/en/films?q=lig%00ht");
    assert!(
        none.status() == StatusCode::OK && none.into_body() == all,
        "as if it had not been said"
    );
}

#[test]
fn delivery_data_asks_for_the_password_again() {
    let site = site();
    let mut hanako = Browser::logged_in(&site, "hanako@example.test");
    assert_eq!(
        hanako.get("/ja/account/delivery").status(),
        StatusCode::OK,
        "it was given just now"
    );
    hanako.now = NOW.plus(10 * MINUTE);
    let asked = hanako.get("/ja/account/delivery");
    assert_eq!(
        header(&asked, "location"),
        Some("/ja/account/confirm?next=%2Fja%2Faccount%2Fdelivery")
    );
    assert!(!text(&asked).contains("花子"));
    let changed = hanako.post(
        "/ja/account/delivery",
        "name=a&postcode=b&address=c&phone=d",
    );
    assert_eq!(changed.status(), StatusCode::SEE_OTHER);
    let wrong = hanako.post("/ja/account/confirm", "password=wrong-password");
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        hanako.get("/ja/account/delivery").status(),
        StatusCode::SEE_OTHER
    );
    let before = hanako.cookie.clone();
    let confirmed = hanako.post(
        "/ja/account/confirm",
        &format!("password={DEMO_PASSWORD}&next=/ja/account/delivery"),
    );
    assert_eq!(header(&confirmed, "shikiri-session"), Some("start"));
    assert_ne!(hanako.cookie, before);
    let shown = hanako.get("/ja/account/delivery");
    assert!(
        text(&shown).contains("見本 花子"),
        "nothing was changed without the password"
    );
    hanako.post(
        "/ja/account/delivery",
        "name=%3Cb%3EA%3C%2Fb%3E&postcode=b&address=c&phone=d",
    );
    assert!(text(&hanako.get("/ja/account/delivery")).contains("&lt;b&gt;A&lt;/b&gt;"));
}

#[test]
fn who_registers_is_a_member() {
    let site = site();
    let mut browser = Browser::new(&site);
    for (form, status) in [
        (
            "mail=x&nickname=Mio&password=long-enough",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "mail=mio%40example.test&nickname=&password=long-enough",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "mail=mio%40example.test&nickname=Mio&password=short",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "mail=Taro%40example.test&nickname=Mio&password=long-enough",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "mail=mio%40example.test&nickname=Mio&password=long-enough",
            StatusCode::SEE_OTHER,
        ),
    ] {
        assert_eq!(
            browser.post("/en/register", form).status(),
            status,
            "{form}"
        );
    }
    assert!(text(&browser.get("/en/account")).contains("mio@example.test"));
    let review = browser.post(
        "/en/account/reviews/bread-at-four",
        "stars=4&text=%3Cscript%3E",
    );
    assert_eq!(review.status(), StatusCode::SEE_OTHER);
    let public = Browser::new(&site).get("/en/products/bread-at-four");
    assert!(text(&public).contains("&lt;script&gt;") && text(&public).contains("Mio"));
}

#[test]
fn one_network_registers_and_asks_for_codes_so_often_and_no_more() {
    let site = site();
    let post = |path: &str, body: String, client: Option<&str>| {
        let request = Request::post(path)
            .header("host", "shop.example.test")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Bytes::from(body))
            .unwrap();
        let client = client.map(|it| it.parse().unwrap());
        site.answer(request, client, NOW).status()
    };
    // Of a member's mail address, so that nothing is written.
    let register = "mail=taro%40example.test&nickname=Mio&password=long-enough";
    for (path, body, times) in [
        ("/en/register", register, 20),
        ("/en/notice-check", "code=N-2026-0001", 30),
    ] {
        for hosts in [
            // One half of an address of IPv6 is one party's.
            (|nth| Some(format!("2001:db8:1:2::{nth}"))) as fn(u32) -> Option<String>,
            |_| Some("192.0.2.1".to_owned()),
            // Who is not known is one party as well.
            |_| None,
        ] {
            let ask = |nth| post(path, body.to_owned(), hosts(nth).as_deref());
            let refused = |it: &StatusCode| *it == StatusCode::TOO_MANY_REQUESTS;
            let statuses: Vec<_> = (0..times).map(ask).collect();
            assert!(!statuses.iter().any(refused), "{path} {:?}", hosts(1));
            assert!(refused(&ask(times)), "{path} {:?}", hosts(1));
        }
        let other = post(path, body.to_owned(), Some("2001:db8:1:3::1"));
        assert_ne!(other, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
}

#[test]
fn shared_pages_hold_no_token_and_no_script() {
    let site = site();
    for (page, path) in gets(&site).filter(|(page, _)| page.class() == Class::Shared) {
        let answer = Browser::new(&site).get(path);
        // A form that acts holds nothing: it is guarded by where it comes from.
        for word in ["nonce", "csrf", "type=\"hidden\"", "<script"] {
            assert!(!text(&answer).contains(word), "{page:?} holds {word}");
        }
    }
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let site = site();
    let first = Browser::new(&site).get("/ja/films");
    let tag = header(&first, "etag").unwrap();
    let again =
        Browser::new(&site).send(Request::get("/ja/films").header("if-none-match", tag), "");
    assert_eq!(
        (again.status(), again.body().len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
    let other = Browser::new(&site).send(
        Request::get("/ja/films").header("if-none-match", "\"x\""),
        "",
    );
    assert_eq!(other.status(), StatusCode::OK);
}

#[test]
fn the_policy_and_the_list_name_every_page() {
    let site = site();
    let delivery = delivery();
    let (store, films) = (site.pages(), delivery.pages());
    let (policy, list) = (policy(store, films, None), pages_json(store, films));
    assert_eq!(
        list["pages"].as_array().unwrap().len(),
        store.len() + films.len()
    );
    let patterns = store.iter().map(Page::pattern);
    for pattern in patterns.chain(films.iter().map(Page::pattern)) {
        for pattern in pattern.in_policy() {
            assert!(policy.contains(&format!("\"{pattern}\"")), "{pattern}");
        }
    }
    let shared = store
        .iter()
        .filter(|it| it.class() != Class::Personal)
        .count();
    let open = films.iter().filter(|it| !it.is_for_holders()).count();
    assert_eq!(policy.matches("[[class]]").count(), shared + open);
    assert!(
        films.len() > open,
        "some of the delivery server's are for holders"
    );
}

#[test]
fn what_no_page_fits_is_refused_and_never_kept() {
    let site = site();
    for (request, status) in [
        (Request::get("/none"), StatusCode::NOT_FOUND),
        (Request::get("/fr/films"), StatusCode::NOT_FOUND),
        (Request::get("/ja/products/none"), StatusCode::NOT_FOUND),
        (
            Request::get("/static/style-000000000000.css"),
            StatusCode::NOT_FOUND,
        ),
        (
            Request::get("/covers/last-lighthouse-640-000000000000.webp"),
            StatusCode::NOT_FOUND,
        ),
        (Request::get("/ja/logout"), StatusCode::METHOD_NOT_ALLOWED),
        (Request::put("/ja/films"), StatusCode::METHOD_NOT_ALLOWED),
        (Request::post("/ja/films"), StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let answer = Browser::new(&site).send(request, "");
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "cache-control"), Some("private, no-store"));
    }
}

/// The address of the film on a page, as the delivery server is asked for it.
fn film(page: &str) -> Option<&str> {
    let at = page.split("src=\"").find(|it| it.contains(".m3u8"))?;
    let address = at.split('"').next()?;
    address.strip_prefix("http://media.localhost:8080")
}

#[test]
fn a_film_plays_for_who_may_watch_it_once_it_stands_in_the_history() {
    let (site, delivery) = (site(), delivery());
    let (mut hanako, mut taro) = (
        Browser::logged_in(&site, "hanako@example.test"),
        Browser::logged_in(&site, "taro@example.test"),
    );
    let ask = |path: &str, now| {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        delivery.answer(request, None, now).status()
    };
    // He is no monthly member and has not bought this one.
    let page = "/en/watch/paper-rivers";
    assert_eq!(taro.post(page, "").status(), StatusCode::SEE_OTHER);
    assert_eq!(taro.get(page).status(), StatusCode::FORBIDDEN);
    assert!(!text(&taro.get("/en/account/watched")).contains("Paper rivers"));

    let before = hanako.get(page);
    assert_eq!(
        (before.status(), film(text(&before))),
        (StatusCode::OK, None)
    );
    let begun = hanako.post(page, "");
    assert_eq!(header(&begun, "location"), Some(page));
    let playing = hanako.get(page);
    let list = film(text(&playing)).expect("a player").to_owned();
    assert_eq!(ask(&list, NOW), StatusCode::OK);
    assert_eq!(
        ask(&list.replace("index.m3u8", "part4.m4s"), NOW),
        StatusCode::OK
    );
    let bare = format!("/films/{}", list.split("/films/").nth(1).unwrap());
    assert_eq!(ask(&bare, NOW), StatusCode::FORBIDDEN);
    assert!(text(&hanako.get("/en/account/watched")).contains("Paper rivers"));

    // The ticket and the viewing end together.
    let later = NOW.plus(6 * 60 * MINUTE);
    assert_eq!(ask(&list, later), StatusCode::FORBIDDEN);
    hanako.now = later;
    assert_eq!(film(text(&hanako.get(page))), None);
    // A ticket is for one film.
    let other = list.replace("paper-rivers", "night-trains");
    assert_eq!(ask(&other, NOW), StatusCode::FORBIDDEN);

    assert_eq!(
        Browser::new(&site).get(page).status(),
        StatusCode::SEE_OTHER
    );
    let kept = "/ja/watch/course-sashiko";
    hanako.post(kept, "");
    assert!(text(&hanako.get(kept)).contains("/film.mp4\""));
    assert_eq!(taro.get(kept).status(), StatusCode::FORBIDDEN);
}

#[test]
fn a_closed_site_says_so_on_personal_pages_and_on_no_shared_one() {
    let store = fresh::store();
    fill_with_samples(&store).unwrap();
    let around = Around::nothing().unwrap();
    let rest = around.rest.clone();
    let site = shop_within(around, store).unwrap();
    let mut hanako = Browser::logged_in(&site, "hanako@example.test");
    // A video is no text.
    let says = |answer: Response<Bytes>| {
        String::from_utf8_lossy(answer.body()).contains("role=\"status\"")
    };
    assert!(!says(hanako.get("/en/account")));
    let at = NOW.plus(30 * MINUTE).0;
    let closed = format!(r#"{{"node":"a","mode":"closed","at_ms":1,"reopening_ms":{at}}}"#);
    rest.hear(closed.as_bytes()).unwrap();
    let page = hanako.get("/en/account");
    assert!(
        text(&page).contains("Planned to open again: 2026-11-07 "),
        "{}",
        text(&page)
    );
    for (page, path) in gets(&site) {
        let answer = hanako.get(path);
        if answer.status() == StatusCode::OK {
            assert_eq!(says(answer), page.class() == Class::Personal, "{path}");
        }
    }
    rest.hear(br#"{"node":"a","mode":"open","at_ms":2}"#)
        .unwrap();
    assert!(!says(hanako.get("/en/account")));
}
