//! The processor's own payment page: another site, with another look, that knows no member.
//!
//! It is served by a listener of its own. What is typed here reaches the store in no form.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY,
};
use http::{Method, Request, Response, StatusCode};
use maud::{DOCTYPE, Markup, html};

use super::{NotPaid, Payment, Trial};
use crate::asked::{Lang, Millis, fields};
use crate::guard;
use crate::html::yen;
use crate::serve::Answers;
use crate::store::StoreFault;

const CONTENT_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
const STYLE: &str = "body{font:1rem/1.6 system-ui,sans-serif;max-width:26rem;margin:3rem auto;padding:0 1rem;\
color:#1b2430;background:#eef2f7}label{display:block;margin:1rem 0}input{font:inherit;width:100%;padding:.5rem;\
box-sizing:border-box}button{font:inherit;padding:.5rem 1.2rem}.wrong{border-left:4px solid #a3122a;padding-left:.8rem}";

impl Answers for Trial {
    fn answer(
        &self,
        request: Request<Bytes>,
        _client: Option<IpAddr>,
        now: Millis,
    ) -> Response<Bytes> {
        Self::answer(self, &request, now)
    }
}

impl Trial {
    /// Answers one request to the payment page.
    pub fn answer(&self, request: &Request<Bytes>, now: Millis) -> Response<Bytes> {
        let reference = request
            .uri()
            .path()
            .strip_prefix("/pay/")
            .unwrap_or_default();
        self.page(request, reference, now).unwrap_or_else(|fault| {
            tracing::error!(%fault, "the payment page could not be made");
            said(
                StatusCode::INTERNAL_SERVER_ERROR,
                Lang::En,
                "Not available just now",
                &html! {},
            )
        })
    }

    fn page(
        &self,
        request: &Request<Bytes>,
        reference: &str,
        now: Millis,
    ) -> Result<Response<Bytes>, StoreFault> {
        let Some(payment) = self.waiting(reference, now)? else {
            let text = html! { p { "この支払いは終了しています。 / This payment has ended." } };
            return Ok(said(
                StatusCode::NOT_FOUND,
                Lang::Ja,
                "お支払い / Payment",
                &text,
            ));
        };
        match *request.method() {
            Method::GET | Method::HEAD => Ok(form(&payment, None)),
            Method::POST if !guard::is_from_our_page(request.headers()) => Ok(said(
                StatusCode::FORBIDDEN,
                payment.lang,
                "Forbidden",
                &html! {},
            )),
            Method::POST => {
                let sent = fields(request.body());
                if sent.contains_key("give_up") {
                    return Ok(self
                        .give_up(reference, now)?
                        .map_or_else(|| form(&payment, Some(NotPaid::TooLate)), |to| back(&to)));
                }
                let number = sent.get("number").map_or("", String::as_str);
                Ok(match self.pay(reference, number, now)? {
                    Ok(to) => back(&to),
                    Err(why) => form(&payment, Some(why)),
                })
            }
            _ => Ok(said(
                StatusCode::METHOD_NOT_ALLOWED,
                payment.lang,
                "No such method",
                &html! {},
            )),
        }
    }
}

fn form(payment: &Payment, why: Option<NotPaid>) -> Response<Bytes> {
    let lang = payment.lang;
    let why = why.map(|it| match it {
        NotPaid::Declined => lang.of("カードが承認されませんでした。", "The card was declined."),
        NotPaid::NoTestNumber => lang.of(
            "試験用の番号だけを受け付けます。本物のカード番号を入力しないでください。",
            "Only test numbers are taken here. Never type a real card number.",
        ),
        NotPaid::TooLate => lang.of("この支払いは終了しています。", "This payment has ended."),
    });
    let status = if why.is_some() {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    let main = html! {
        p { (lang.of("試験用の決済代行です。お金は動きません。", "A processor for trials. No money moves.")) }
        p { strong { (yen(lang, payment.amount_yen)) } }
        @if let Some(why) = why { p.wrong role="alert" { (why) } }
        form method="post" {
            label {
                (lang.of("カード番号（試験用: 4242 4242 4242 4242）", "Card number (for trials: 4242 4242 4242 4242)"))
                input name="number" inputmode="numeric" autocomplete="off" maxlength="23" required;
            }
            button { (lang.of("支払う", "Pay")) }
        }
        form method="post" {
            input type="hidden" name="give_up" value="1";
            p { button { (lang.of("支払わずに戻る", "Back without paying")) } }
        }
    };
    said(status, lang, lang.of("お支払い", "Payment"), &main)
}

fn said(status: StatusCode, lang: Lang, title: &str, main: &Markup) -> Response<Bytes> {
    let page = html! {
        (DOCTYPE)
        html lang=(lang.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (STYLE) }
            }
            body { main { h1 { (title) } (main) } }
        }
    };
    headed(status, page.into_string().into())
}

fn back(to: &str) -> Response<Bytes> {
    let mut response = headed(StatusCode::SEE_OTHER, Bytes::new());
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn headed(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (REFERRER_POLICY, "same-origin"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
