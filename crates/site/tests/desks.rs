//! What members post, ask and answer: uploads, ids of others, links from mails, numbers of cards.

mod browser;

use browser::{Browser, NOW, between, header, site, text};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::json;
use shikiri_site::Shop;
use shikiri_site::declare::Verb;
use shikiri_site::pay::{Processor, Standing};
use shikiri_site::router::Router;

const WEBM: &[u8] = b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm and more";
const VIDEOS: &str = "/ja/account/videos";

fn upload(browser: &mut Browser<'_>, title: &str, bytes: &[u8], from: &str) -> Response<Bytes> {
    let mut body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\n{title}\r\n--b\r\n\
         Content-Disposition: form-data; name=\"video\"; filename=\"../../etc/passwd.html\"\r\n\
         Content-Type: text/html\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--b--\r\n");
    let request = Request::post(VIDEOS)
        .header("content-type", "multipart/form-data; boundary=b")
        .header("sec-fetch-site", from);
    browser.send(request, body.into())
}

#[test]
fn a_video_is_shown_to_everybody_once_somebody_has_looked_at_it() {
    let (site, _) = site();
    let mut hanako = Browser::logged_in(&site, "hanako@example.test");
    for (bytes, from, status) in [
        (WEBM, "cross-site", StatusCode::FORBIDDEN),
        (
            &b"<script>alert(1)</script>"[..],
            "same-origin",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            &[7_u8; 100 << 10][..],
            "same-origin",
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (WEBM, "same-origin", StatusCode::SEE_OTHER),
    ] {
        assert_eq!(upload(&mut hanako, "窓<b>", bytes, from).status(), status);
    }
    let huge = vec![0_u8; 5 << 20];
    assert_eq!(
        upload(&mut hanako, "x", &huge, "same-origin").status(),
        StatusCode::BAD_REQUEST
    );
    let own = hanako.get(VIDEOS);
    assert!(text(&own).contains("窓&lt;b&gt;") && text(&own).contains("確認中"));
    let waiting = site.app().members().waiting_posts().unwrap();
    assert_eq!(waiting.len(), 1, "one video waits: {waiting:?}");
    let post = &waiting[0].0;
    let page = format!("/ja/videos/{post}");
    assert_eq!(
        hanako.get(&page).status(),
        StatusCode::NOT_FOUND,
        "not even for its owner"
    );
    let mut taro = Browser::logged_in(&site, "taro@example.test");
    let back = format!("{VIDEOS}/{post}/take-back");
    assert_eq!(
        taro.post(&back, "").status(),
        StatusCode::NOT_FOUND,
        "another's"
    );

    assert!(site.app().members().moderate(post, "").unwrap());
    let shown = taro.get(&page);
    let src = between(
        text(&shown),
        "<video controls preload=\"metadata\" src=\"",
        "\"",
    );
    let video = taro.get(src);
    assert_eq!(
        header(&video, "content-type"),
        Some("video/webm"),
        "what it is, not what it was called"
    );
    assert_eq!(header(&video, "x-content-type-options"), Some("nosniff"));
    assert_eq!(&video.body()[..], WEBM);
    assert_eq!(
        taro.get(&src.replace("webm/", "mp4/")).status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(hanako.post(&back, "").status(), StatusCode::SEE_OTHER);
    assert_eq!(taro.get(&page).status(), StatusCode::NOT_FOUND);
    assert_eq!(taro.get(src).status(), StatusCode::NOT_FOUND);
}

#[test]
fn a_file_is_taken_by_the_page_that_takes_files_alone() {
    let (site, _) = site();
    let mut hanako = Browser::logged_in(&site, "hanako@example.test");
    let body = "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nx\r\n--b--\r\n";
    for page in site
        .pages()
        .iter()
        .filter(|it| it.verb() == Verb::Post && it.upload_bytes_max() == 0)
    {
        let path = page
            .pattern()
            .text()
            .replace("{lang}", "ja")
            .replace(['{', '}'], "");
        let request = Request::post(&path)
            .header("content-type", "multipart/form-data; boundary=b")
            .header("sec-fetch-site", "same-origin");
        assert_eq!(
            hanako.send(request, body.into()).status(),
            StatusCode::BAD_REQUEST,
            "{path}"
        );
        assert_eq!(
            site.body_bytes_max(&http::Method::POST, &path),
            64 << 10,
            "{path}"
        );
    }
}

#[test]
fn an_enquiry_is_nobodys_but_its_members() {
    let (site, _) = site();
    let (mut hanako, mut taro) = (
        Browser::logged_in(&site, "hanako@example.test"),
        Browser::logged_in(&site, "taro@example.test"),
    );
    let form = between(
        text(&hanako.get("/ja/account/support")),
        "name=\"form\" value=\"",
        "\"",
    )
    .to_owned();
    let sent = format!("form={form}&topic=order&subject=Where%3F&text=My+disc%3Cscript%3E");
    let first = hanako.post("/ja/account/support", &sent);
    let at = header(&first, "location").unwrap().to_owned();
    assert_eq!(
        header(&hanako.post("/ja/account/support", &sent), "location"),
        Some(at.as_str()),
        "sent twice"
    );
    assert!(text(&hanako.get(&at)).contains("My disc&lt;script&gt;"));
    assert_eq!(taro.get(&at).status(), StatusCode::NOT_FOUND);
    assert_eq!(
        taro.post(&at, "text=mine+too").status(),
        StatusCode::NOT_FOUND
    );
    let id = at.rsplit('/').next().unwrap();
    assert!(
        site.app()
            .members()
            .answer_enquiry(id, "Tomorrow.", NOW.plus(1))
            .unwrap()
    );
    assert!(text(&hanako.get(&at)).contains("Tomorrow."));
    hanako.now = NOW.plus(2);
    assert_eq!(
        hanako.post(&at, "text=Thanks").status(),
        StatusCode::SEE_OTHER
    );
    assert!(text(&hanako.get(&at)).contains("Thanks"));
    for incomplete in [
        "topic=order&subject=&text=x",
        "topic=gift&subject=a&text=x",
        "topic=order&subject=a&text=",
    ] {
        let answer = hanako.post("/ja/account/support", incomplete);
        assert_eq!(
            answer.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{incomplete}"
        );
    }
}

#[test]
fn the_number_of_a_card_is_taken_by_no_form() {
    let (site, _) = site();
    for page in site.pages().iter().filter(|it| it.verb() == Verb::Post) {
        let path = page
            .pattern()
            .text()
            .replace("{lang}", "en")
            .replace(['{', '}'], "");
        let mut hanako = Browser::logged_in(&site, "hanako@example.test");
        for field in ["text", "subject", "nickname", "number", "anything"] {
            let answer = hanako.post(&path, &format!("{field}=my+card+is+4242+4242-4242+4242"));
            assert_eq!(
                answer.status(),
                StatusCode::UNPROCESSABLE_ENTITY,
                "{path} {field}"
            );
            assert!(
                text(&answer).contains("Never type the number of a card"),
                "{path}"
            );
            assert!(!text(&answer).contains("4242"), "{path}");
        }
    }
    let mut hanako = Browser::logged_in(&site, "hanako@example.test");
    let title = upload(&mut hanako, "4242424242424242", WEBM, "same-origin");
    assert_eq!(
        title.status(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "nor with a file"
    );
}

/// A disc that was bought and is being prepared: its order, and what the processor calls the payment.
fn bought_disc(
    site: &Router<Shop>,
    processor: &shikiri_site::pay::trial::Trial,
) -> (String, String) {
    let mut taro = Browser::logged_in(site, "taro@example.test");
    taro.post("/ja/cart", "product=course-joinery&out=1");
    taro.post("/ja/cart", "product=disc-shorts");
    let page = taro.get("/ja/checkout");
    let form = between(text(&page), "name=\"form\" value=\"", "\"");
    let seen = between(text(&page), "name=\"seen\" value=\"", "\"");
    let placed = taro.post("/ja/checkout", &format!("form={form}&seen={seen}&points=0"));
    let payment = header(&placed, "location").unwrap().to_owned();
    let waiting = taro.get(&payment);
    let reference = between(text(&waiting), "href=\"http://pay.example.test/pay/", "\"").to_owned();
    let back = processor
        .pay(&reference, "4242424242424242", NOW)
        .unwrap()
        .unwrap();
    taro.get(back.strip_prefix("http://shop.example.test").unwrap());
    (payment.rsplit('/').next().unwrap().to_owned(), reference)
}

#[test]
fn after_an_incident_a_member_reads_chooses_and_is_asked_once() {
    let (site, processor) = site();
    let (order, _) = bought_disc(&site, &processor);
    let trade = site.app().trade();
    let day = 24 * 3600 * 1000;
    let file = json!({ "version": 1, "notices": [{
        "code": "N-2026-0001", "member": "taro@example.test", "issued_ms": NOW.0, "kinds": ["nickname", "mail"],
        "text_ja": "お詫び申し上げます。", "text_en": "We are sorry.", "points": { "amount": 500, "lasts_days": 180 },
        "choices": [
            { "id": "C-disc-0001", "question": "disc", "order": order, "line": 1, "about_ja": "十二の窓", "about_en": "Twelve windows",
              "amount_yen": 2900, "answer_by_ms": NOW.0 + 10 * day },
            { "id": "C-payout-0001", "question": "payout", "about_ja": "お詫び金", "about_en": "What we owe",
              "amount_yen": 5000, "answer_by_ms": NOW.0 + 10 * day },
        ],
    }] });
    let done = trade.import_notices(&file, false, NOW).unwrap();
    assert_eq!((done.notices, done.choices, done.promises), (1, 2, 1));
    let (mut hanako, mut taro) = (
        Browser::logged_in(&site, "hanako@example.test"),
        Browser::logged_in(&site, "taro@example.test"),
    );
    let notices = taro.get("/ja/account/notices");
    assert!(text(&notices).contains("N-2026-0001") && text(&notices).contains("メールアドレス"));
    assert!(!text(&hanako.get("/ja/account/notices")).contains("N-2026-0001"));
    assert!(
        text(&taro.get(&format!("/ja/account/orders/{order}"))).contains("保留中"),
        "held while asked"
    );
    assert!(trade.send(&order, 1, NOW).unwrap().is_err(), "and not sent");

    let disc = "/en/account/choices/C-disc-0001";
    for path in [disc, "/en/account/choices/C-payout-0001"] {
        assert_eq!(hanako.get(path).status(), StatusCode::NOT_FOUND, "{path}");
        let answer = hanako.post(path, "answer=keep&bank=a&branch=b&number=12345&holder=c");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(
        taro.post(disc, "answer=mine").status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    for answer in ["cancel", "keep", "keep"] {
        assert_eq!(
            taro.post(disc, &format!("answer={answer}")).status(),
            StatusCode::SEE_OTHER
        );
    }
    assert!(text(&taro.get(disc)).contains("Please send it"));

    // The link of the mail: shown as often as one likes, answered once, by whoever holds it.
    let link = done.links["C-disc-0001"]
        .strip_prefix("http://shop.example.test")
        .unwrap();
    let mut anybody = Browser {
        site: &site,
        cookie: None,
        now: NOW,
    };
    for _ in 0..2 {
        let shown = anybody.get(link);
        assert!(text(&shown).contains("十二の窓") && !text(&shown).contains("taro"));
        assert_eq!(
            header(&shown, "shikiri-owner"),
            None,
            "who holds the link is not known to be the member"
        );
    }
    let forged = link.replace("C-disc-0001", "C-payout-0001");
    assert!(text(&anybody.get(&forged)).contains("このリンクは使えません"));
    assert_eq!(
        anybody.post(&forged, "answer=keep").status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(anybody.post(link, "answer=cancel").status(), StatusCode::OK);
    assert_eq!(
        anybody.post(link, "answer=keep").status(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "it is spent"
    );
    assert!(text(&taro.get(disc)).contains("Cancel it and refund me"));

    let payout = "/ja/account/choices/C-payout-0001";
    let account =
        "bank=%E8%A6%8B%E6%9C%AC&branch=%E6%9C%AC%E5%BA%97&number=0000001&holder=%E3%82%AB";
    assert_eq!(
        taro.post(payout, "bank=a&branch=b&number=x&holder=c")
            .status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(taro.post(payout, account).status(), StatusCode::SEE_OTHER);
    assert!(text(&taro.get(payout)).contains("0000001"));
    taro.now = NOW.plus(10 * 60_000);
    assert_eq!(
        header(&taro.get(payout), "location"),
        Some("/ja/account/confirm?next=%2Fja%2Faccount%2Fchoices%2FC-payout-0001")
    );
    assert!(
        header(&taro.post(payout, account), "location")
            .unwrap()
            .starts_with("/ja/account/confirm")
    );

    assert!(trade.act_on("C-disc-0001", NOW).unwrap());
    assert_eq!(
        taro.post(disc, "answer=keep").status(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "it was acted on"
    );
    assert!(text(&taro.get(&format!("/ja/account/orders/{order}"))).contains("取消し"));

    let check = |code: &str| {
        let mut anybody = Browser {
            site: &site,
            cookie: None,
            now: NOW,
        };
        let said = anybody.post("/en/notice-check", &format!("code={code}"));
        assert!(
            !text(&said).contains("taro") && !text(&said).contains("sorry"),
            "whose it is stays unsaid"
        );
        text(&said).contains("was sent by us")
    };
    assert!(check("N-2026-0001") && !check("N-2026-0002") && !check(""));
}

#[test]
fn an_answer_that_is_sent_by_many_at_once_has_one_effect() {
    let (site, processor) = site();
    let (order, payment) = bought_disc(&site, &processor);
    let standing = || processor.look(&payment, NOW).unwrap().unwrap().standing;
    assert_eq!(standing(), Standing::Authorised);
    let trade = site.app().trade();
    let file = json!({ "version": 1, "notices": [{
        "code": "N-2026-0001", "member": "taro@example.test", "issued_ms": NOW.0, "kinds": ["nickname"],
        "text_ja": "お詫び申し上げます。", "text_en": "We are sorry.",
        "choices": [
            { "id": "C-disc-0001", "question": "disc", "order": order, "line": 1, "about_ja": "十二の窓", "about_en": "Twelve windows",
              "amount_yen": 2900, "answer_by_ms": NOW.0 + 24 * 3600 * 1000 },
        ],
    }] });
    trade.import_notices(&file, false, NOW).unwrap();
    let cookie = Browser::logged_in(&site, "taro@example.test").cookie;
    let at_once = |what: &(dyn Fn() -> bool + Sync)| -> usize {
        std::thread::scope(|scope| {
            let mut all = Vec::new();
            for _ in 0..6 {
                all.push(scope.spawn(what));
            }
            let done = all.into_iter().map(|it| it.join().unwrap());
            done.filter(|done| *done).count()
        })
    };
    let taken = at_once(&|| {
        let mut tab = Browser {
            site: &site,
            cookie: cookie.clone(),
            now: NOW,
        };
        let answer = tab.post("/en/account/choices/C-disc-0001", "answer=cancel");
        answer.status() == StatusCode::SEE_OTHER
    });
    assert_eq!(taken, 6, "each is told that it was heard");
    let acted = at_once(&|| trade.act_on("C-disc-0001", NOW).unwrap());
    assert!(acted >= 1);
    trade.run_jobs(|| true, NOW).unwrap();
    assert_eq!(standing(), Standing::Voided);
    assert_eq!(processor.statement(NOW).unwrap(), [], "nothing was taken");
    let mut taro = Browser::logged_in(&site, "taro@example.test");
    let shown = taro.get(&format!("/ja/account/orders/{order}"));
    assert_eq!(text(&shown).matches("取消し").count(), 1);
}
