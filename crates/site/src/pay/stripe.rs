//! Stripe as the processor: a thin client of the few calls that [`Processor`] needs.
//!
//! Members pay on Stripe's own page (a Checkout Session); a card's number is typed there and nowhere
//! else, and no answer that is read here holds one. A payment is known by its session, a renewal by its
//! payment intent; both bear our key in their metadata, and so does every refund.
//!
//! Never asks blindly again: whatever may have been heard is [`Trouble::Unknown`], and the same key is sent
//! with the same words. A wrong secret and a busy Stripe are such troubles too, since they pass.
//!
//! It has been seen against a stand-in and never against Stripe itself (docs/site.md says what of it), and so it
//! takes secrets of Stripe's test mode alone.
//!
//! Invariant: an error is told by Stripe's codes, never by its sentences, which may quote.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Ask, Booked, Booking, Charge, Opened, Opening, Processor, Seen, Standing, Trouble};
use crate::asked::{Lang, Millis};

/// Where Stripe is.
pub const STRIPE: &str = "https://api.stripe.com";

/// The version whose answers are read here, said with every call.
const VERSION: &str = "2024-06-20";
const CALL_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Calls at once: each holds a thread on which a page is made. Whoever comes after is told that nothing is known.
const CALLS_MAX: usize = 16;
const MANY_CALLS: &str = "too many calls are under way";
/// What one list gives at most.
const PAGE: &str = "100";
/// Pages of one list.
const PAGES_MAX: usize = 10_000;

/// Stripe, with the secret of one account.
pub struct Stripe {
    at: Uri,
    host: String,
    /// None for a stand-in on this machine.
    tls: Option<TlsConnector>,
    authorization: HeaderValue,
    calls: AtomicUsize,
}

/// One of the calls that are under way.
struct Call<'a>(&'a AtomicUsize);

impl<'a> Call<'a> {
    fn begin(calls: &'a AtomicUsize) -> Option<Self> {
        let one_more = |running| (running < CALLS_MAX).then_some(running + 1);
        let begun = calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        begun.is_ok().then(|| Self(calls))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why Stripe cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStripe {
    #[error("the secret of Stripe is one line of letters")]
    Secret,
    /// Whatever does not say that it is a secret of the test mode may be one of the live mode.
    #[error(
        "this is no secret of Stripe's test mode (sk_test_…, rk_test_…): this client has not been used with Stripe itself, and takes no other"
    )]
    Live,
    #[error("Stripe is at https://host, or a stand-in at http://127.0.0.1:port")]
    Address,
    #[error("this machine believes no certificates")]
    NoRoots,
}

impl Stripe {
    /// At [`STRIPE`], or at a stand-in for it on this machine.
    ///
    /// # Errors
    /// See [`NoStripe`].
    pub fn at(url: &str, secret: &str) -> Result<Self, NoStripe> {
        let at: Uri = url.parse().map_err(|_| NoStripe::Address)?;
        let host = at.host().ok_or(NoStripe::Address)?.to_owned();
        let tls = match at.scheme_str() {
            Some("https") => Some(tls()?),
            // A secret is not told to the network.
            Some("http") if host == "127.0.0.1" || host == "localhost" => None,
            _ => return Err(NoStripe::Address),
        };
        let is_secret = !secret.is_empty() && secret.bytes().all(|it| it.is_ascii_graphic());
        let authorization = HeaderValue::from_str(&format!("Bearer {secret}"));
        let mut authorization = authorization
            .ok()
            .filter(|_| is_secret)
            .ok_or(NoStripe::Secret)?;
        if !secret.starts_with("sk_test_") && !secret.starts_with("rk_test_") {
            return Err(NoStripe::Live);
        }
        authorization.set_sensitive(true);
        Ok(Self {
            at,
            host,
            tls,
            authorization,
            calls: AtomicUsize::new(0),
        })
    }

    fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.call(Method::GET, path, &[], "")
    }

    /// The same, where what is not there is no trouble.
    fn find(&self, path: &str) -> Result<Option<Value>, Trouble> {
        match self.get(path) {
            Ok(found) => Ok(Some(found)),
            Err(Trouble::Refused(why)) if why == NOT_FOUND => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    fn post(&self, path: &str, form: &[(&str, &str)], key: &str) -> Result<Value, Trouble> {
        self.call(Method::POST, path, form, key)
    }

    /// One call on one connection. Blocks.
    fn call(
        &self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
        key: &str,
    ) -> Result<Value, Trouble> {
        let unknown = |why: &dyn fmt::Display| Trouble::Unknown(why.to_string());
        let _call = Call::begin(&self.calls).ok_or_else(|| unknown(&MANY_CALLS))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unknown(&error))?;
        let request = self.request(method, path, form, key)?;
        // Made within the runtime, whose clock it needs.
        let called = runtime.block_on(async { timeout(CALL_WITHIN, self.exchange(request)).await });
        let (status, bytes) = called.map_err(|_| unknown(&"no answer in time"))??;
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|_| unknown(&format!("{status}, and no JSON")))?;
        if status.is_success() {
            return Ok(answer);
        }
        let error = &answer["error"];
        let kind = error["type"].as_str().unwrap_or_default();
        // What passes, and what says that the key was used: neither says that nothing was done.
        let passes = status.is_server_error()
            || matches!(status.as_u16(), 401 | 403 | 409 | 429)
            || kind == "idempotency_error";
        if passes {
            return Err(unknown(&format!("{status} {kind}")));
        }
        if status == StatusCode::NOT_FOUND {
            return Err(Trouble::Refused(NOT_FOUND.to_owned()));
        }
        let code = error["decline_code"].as_str().or(error["code"].as_str());
        Err(Trouble::Refused(code.unwrap_or(kind).to_owned()))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
        key: &str,
    ) -> Result<Request<Full<Bytes>>, Trouble> {
        let text = Serializer::new(String::new()).extend_pairs(form).finish();
        let authority = self.at.authority().map_or("", |it| it.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority)
            .header(AUTHORIZATION, self.authorization.clone())
            .header("stripe-version", VERSION);
        if !key.is_empty() {
            request = request
                .header("idempotency-key", key)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        request
            .body(Full::from(text))
            .map_err(|_| Trouble::Refused("a name that is none of Stripe's".to_owned()))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Trouble> {
        let unknown = |why: &dyn fmt::Display| Trouble::Unknown(why.to_string());
        let port = self.at.port_u16().unwrap_or(443);
        let stream = TcpStream::connect((&*self.host, port))
            .await
            .map_err(|error| unknown(&error))?;
        match &self.tls {
            None => answered(TokioIo::new(stream), request).await,
            Some(tls) => {
                let name =
                    ServerName::try_from(self.host.clone()).map_err(|error| unknown(&error))?;
                let stream = tls
                    .connect(name, stream)
                    .await
                    .map_err(|error| unknown(&error))?;
                answered(TokioIo::new(stream), request).await
            }
        }
    }

    /// Of a list, all that there is.
    fn list(&self, path: &str) -> Result<Vec<Value>, Trouble> {
        let mut all: Vec<Value> = Vec::new();
        for _ in 0..PAGES_MAX {
            let last = all.last().and_then(|it| it["id"].as_str());
            let after = last.map_or(String::new(), |it| format!("&starting_after={it}"));
            let page = self.get(&format!("{path}&limit={PAGE}{after}"))?;
            let Value::Array(found) = page["data"].clone() else {
                return Err(Trouble::Unknown("a list without its data".to_owned()));
            };
            let ends = found.is_empty() || page["has_more"] != true;
            all.extend(found);
            if ends {
                return Ok(all);
            }
        }
        Err(Trouble::Unknown("a list without an end".to_owned()))
    }

    /// The session (or nothing, of a renewal) and the intent of a payment.
    fn payment(&self, reference: &str) -> Result<Option<Payment>, Trouble> {
        let reference = name(reference)?;
        if reference.starts_with("pi_") {
            let intent = self.find(&format!("/v1/payment_intents/{reference}"))?;
            return Ok(intent.map(|intent| Payment {
                session: String::new(),
                intent,
            }));
        }
        let path = format!("/v1/checkout/sessions/{reference}?expand%5B%5D=payment_intent");
        Ok(self.find(&path)?.map(|session| Payment {
            session: text(&session["status"]),
            intent: session["payment_intent"].clone(),
        }))
    }

    /// The name of a payment's intent.
    fn intent(&self, reference: &str) -> Result<String, Trouble> {
        let payment = self.payment(reference)?;
        let id = payment.map(|it| text(&it.intent["id"])).unwrap_or_default();
        if id.is_empty() {
            return Err(Trouble::Refused("nobody has paid".to_owned()));
        }
        Ok(name(&id)?.to_owned())
    }

    fn refunds(&self, intent: &str) -> Result<Vec<(String, i64)>, Trouble> {
        let all = self.list(&format!("/v1/refunds?payment_intent={intent}"))?;
        let mut made = Vec::new();
        for refund in &all {
            if is_through(refund)? {
                made.push((text(&refund["metadata"]["key"]), int(&refund["amount"])));
            }
        }
        Ok(made)
    }

    fn seen(&self, reference: &str, payment: &Payment) -> Result<Seen, Trouble> {
        let intent = &payment.intent;
        let standing = payment.standing();
        let refunds = match standing {
            Standing::Captured => self.refunds(name(&text(&intent["id"]))?)?,
            _ => Vec::new(),
        };
        let (customer, method) = (text(&intent["customer"]), text(&intent["payment_method"]));
        let can_be_charged = intent["setup_future_usage"] == "off_session"
            && !customer.is_empty()
            && !method.is_empty();
        let mandate = match can_be_charged {
            true => format!("{customer} {method}"),
            false => String::new(),
        };
        Ok(Seen {
            reference: reference.to_owned(),
            standing,
            captured_yen: int(&intent["amount_received"]),
            refunds,
            mandate,
        })
    }
}

/// What [`Stripe::call`] says of a name that Stripe does not know.
const NOT_FOUND: &str = "not found";

struct Payment {
    /// The session's status; empty where there is none.
    session: String,
    /// Null until somebody pays.
    intent: Value,
}

impl Payment {
    /// Whether somebody may still pay on its page.
    fn is_open(&self) -> bool {
        self.session == "open" && self.standing() == Standing::Waiting
    }

    fn standing(&self) -> Standing {
        match (&*self.session, self.intent["status"].as_str()) {
            ("expired", _) => Standing::Refused,
            (_, Some("requires_capture")) => Standing::Authorised,
            (_, Some("succeeded")) => Standing::Captured,
            (_, Some("canceled")) => Standing::Voided,
            _ => Standing::Waiting,
        }
    }
}

impl Processor for Stripe {
    fn open(&self, opening: &Opening<'_>, _: Millis) -> Result<Opened, Trouble> {
        let amount = opening.amount_yen.to_string();
        let (locale, product) = match opening.lang {
            Lang::Ja => ("ja", "ご注文"),
            Lang::En => ("en", "Your order"),
        };
        let mut form = vec![
            ("mode", "payment"),
            ("client_reference_id", opening.key),
            ("success_url", opening.back_to),
            ("cancel_url", opening.back_to),
            ("locale", locale),
            ("payment_method_types[0]", "card"),
            ("line_items[0][quantity]", "1"),
            ("line_items[0][price_data][currency]", "jpy"),
            ("line_items[0][price_data][unit_amount]", &amount),
            ("line_items[0][price_data][product_data][name]", product),
            ("payment_intent_data[capture_method]", "manual"),
            ("payment_intent_data[metadata][key]", opening.key),
        ];
        if opening.again {
            form.push(("customer_creation", "always"));
            form.push(("payment_intent_data[setup_future_usage]", "off_session"));
        }
        let session = self.post("/v1/checkout/sessions", &form, opening.key)?;
        let (reference, page) = (text(&session["id"]), text(&session["url"]));
        if reference.is_empty() || page.is_empty() {
            return Err(Trouble::Unknown("a session without a page".to_owned()));
        }
        Ok(Opened { reference, page })
    }

    fn look(&self, reference: &str, _: Millis) -> Result<Option<Seen>, Trouble> {
        let payment = self.payment(reference)?;
        payment.map(|it| self.seen(reference, &it)).transpose()
    }

    fn charged(&self, charge: &Charge<'_>, _: Millis) -> Result<Option<Seen>, Trouble> {
        let (customer, _) = mandate(charge)?;
        let all = self.list(&format!("/v1/payment_intents?customer={customer}"))?;
        let ours = charge_of(all, charge.key)?;
        let seen = |intent: Value| {
            let reference = text(&intent["id"]);
            let session = String::new();
            self.seen(&reference, &Payment { session, intent })
        };
        ours.map(seen).transpose()
    }

    fn charge(&self, charge: &Charge<'_>, _: Millis) -> Result<Seen, Trouble> {
        let (customer, method) = mandate(charge)?;
        let amount = charge.amount_yen.to_string();
        let form = [
            ("amount", &*amount),
            ("currency", "jpy"),
            ("customer", customer),
            ("payment_method", method),
            ("off_session", "true"),
            ("confirm", "true"),
            ("metadata[key]", charge.key),
        ];
        let intent = self.post("/v1/payment_intents", &form, charge.key)?;
        let reference = text(&intent["id"]);
        let session = String::new();
        let payment = Payment { session, intent };
        match (payment.standing(), payment.intent["status"].as_str()) {
            (Standing::Captured, _) => self.seen(&reference, &payment),
            (_, Some("processing")) => Err(Trouble::Unknown("processing".to_owned())),
            // The bank wants the member, who is not there.
            _ => Err(Trouble::Refused("authentication_required".to_owned())),
        }
    }

    fn capture(&self, ask: &Ask<'_>, _: Millis) -> Result<(), Trouble> {
        let intent = self.intent(ask.reference)?;
        let amount = ask.amount_yen.to_string();
        let path = format!("/v1/payment_intents/{intent}/capture");
        self.post(&path, &[("amount_to_capture", &amount)], ask.key)
            .map(drop)
    }

    fn void(&self, ask: &Ask<'_>, _: Millis) -> Result<(), Trouble> {
        let reference = name(ask.reference)?;
        let found = || {
            self.payment(reference)?
                .ok_or_else(|| Trouble::Refused(NOT_FOUND.to_owned()))
        };
        let mut payment = found()?;
        if payment.is_open() {
            // Under a key of its own: Stripe takes a key for one path alone.
            let path = format!("/v1/checkout/sessions/{reference}/expire");
            match self.post(&path, &[], &format!("{}-expire", ask.key)) {
                // Perhaps somebody has paid on it just now.
                Err(Trouble::Refused(why)) => {
                    payment = found()?;
                    if payment.is_open() {
                        return Err(Trouble::Unknown(why));
                    }
                }
                came => return came.map(drop),
            }
        }
        if matches!(payment.standing(), Standing::Voided | Standing::Refused) {
            return Ok(());
        }
        let intent = text(&payment.intent["id"]);
        let path = format!("/v1/payment_intents/{}/cancel", name(&intent)?);
        self.post(&path, &[], ask.key).map(drop)
    }

    fn refund(&self, ask: &Ask<'_>, _: Millis) -> Result<(), Trouble> {
        let intent = self.intent(ask.reference)?;
        let amount = ask.amount_yen.to_string();
        let form = [
            ("payment_intent", &*intent),
            ("amount", &amount),
            ("metadata[key]", ask.key),
        ];
        let refund = self.post("/v1/refunds", &form, ask.key)?;
        match is_through(&refund)? {
            true => Ok(()),
            false => Err(Trouble::Refused(format!(
                "the refund {}",
                text(&refund["status"])
            ))),
        }
    }

    fn statement(&self, from: Millis) -> Result<Vec<Booked>, Trouble> {
        let mut booked = Vec::new();
        for (kind, what) in [("charge", Booking::Capture), ("refund", Booking::Refund)] {
            let since = from.0.div_euclid(1000).max(0);
            let path = format!(
                "/v1/balance_transactions?type={kind}&created%5Bgte%5D={since}&expand%5B%5D=data.source"
            );
            for line in self.list(&path)? {
                let source = &line["source"];
                let intent = text(&source["payment_intent"]);
                booked.push(Booked {
                    reference: self.reference(&intent)?,
                    what,
                    amount_yen: int(&line["amount"]).abs(),
                    key: text(&source["metadata"]["key"]),
                });
            }
        }
        Ok(booked)
    }
}

impl Stripe {
    /// By what we know the payment of an intent: its session, where it has one.
    fn reference(&self, intent: &str) -> Result<String, Trouble> {
        // Money that moved without an intent is none of ours: told by what Stripe has.
        if intent.is_empty() {
            return Ok(String::new());
        }
        let path = format!("/v1/checkout/sessions?payment_intent={}", name(intent)?);
        let sessions = self.list(&path)?;
        let session = sessions.first().map(|it| text(&it["id"]));
        Ok(session.unwrap_or_else(|| intent.to_owned()))
    }
}

/// Whether a refund has reached the member's bank, or never will. What is on its way can still come back, and is not
/// known until then: neither booked nor asked for again.
fn is_through(refund: &Value) -> Result<bool, Trouble> {
    match refund["status"].as_str() {
        Some("succeeded") => Ok(true),
        Some("failed" | "canceled") => Ok(false),
        other => Err(Trouble::Unknown(format!(
            "a refund is on its way: {}",
            other.unwrap_or("no status")
        ))),
    }
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stripe(…)")
    }
}

async fn answered<T: Read + Write + Unpin + Send + 'static>(
    stream: T,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Trouble> {
    let unknown = |error: hyper::Error| Trouble::Unknown(error.to_string());
    let (mut sender, connection) = http1::handshake(stream).await.map_err(unknown)?;
    let driven = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(unknown)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let read = body.collect().await;
    driven.abort();
    let read = read.map_err(|error| Trouble::Unknown(error.to_string()))?;
    Ok((status, read.to_bytes()))
}

fn tls() -> Result<TlsConnector, NoStripe> {
    let mut believed = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // What cannot be read is not believed.
        drop(believed.add(certificate));
    }
    if believed.is_empty() {
        return Err(NoStripe::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(believed)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Of a customer's intents the one that was charged under this key of ours. One that was refused is no
/// charge: it may be tried again.
fn charge_of(all: Vec<Value>, key: &str) -> Result<Option<Value>, Trouble> {
    let ours = all.into_iter().filter(|it| it["metadata"]["key"] == key);
    let mut is_undecided = false;
    for intent in ours {
        match intent["status"].as_str() {
            Some("succeeded") => return Ok(Some(intent)),
            Some("processing") => is_undecided = true,
            _ => {}
        }
    }
    match is_undecided {
        true => Err(Trouble::Unknown("processing".to_owned())),
        false => Ok(None),
    }
}

/// The customer and the payment method of who agreed.
fn mandate<'a>(charge: &Charge<'a>) -> Result<(&'a str, &'a str), Trouble> {
    let parts = charge.mandate.split_once(' ');
    let (customer, method) = parts.ok_or_else(|| Trouble::Refused("no mandate".to_owned()))?;
    Ok((name(customer)?, name(method)?))
}

/// A name of Stripe's, which can stand in a path.
fn name(text: &str) -> Result<&str, Trouble> {
    let is_name = !text.is_empty()
        && text
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || it == b'_');
    match is_name {
        true => Ok(text),
        false => Err(Trouble::Refused(
            "a name that is none of Stripe's".to_owned(),
        )),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_over_tls_or_on_this_machine_alone() {
        for (url, secret, error) in [
            ("http://127.0.0.1:12111", "sk_test_1", None),
            (
                "http://api.stripe.com",
                "sk_test_1",
                Some(NoStripe::Address),
            ),
            ("api.stripe.com", "sk_test_1", Some(NoStripe::Address)),
            ("http://127.0.0.1:1", "sk_live_1", Some(NoStripe::Live)),
            ("http://127.0.0.1:1", "rk_live_1", Some(NoStripe::Live)),
            ("http://127.0.0.1:1", "sk_org_live_1", Some(NoStripe::Live)),
            ("http://127.0.0.1:1", "rk_test_1", None),
            // Of the time before secrets said their mode; a key of another kind; another's.
            (
                "http://127.0.0.1:1",
                "4eC39HqLyjWDarjtT1zdp7dc",
                Some(NoStripe::Live),
            ),
            ("http://127.0.0.1:1", "pk_test_1", Some(NoStripe::Live)),
            ("http://127.0.0.1:1", "whsec_test_1", Some(NoStripe::Live)),
            ("http://127.0.0.1:1", "", Some(NoStripe::Secret)),
            (
                "http://127.0.0.1:1",
                "sk_test_\r\nx: y",
                Some(NoStripe::Secret),
            ),
        ] {
            assert_eq!(Stripe::at(url, secret).err(), error, "{url}");
        }
        let stripe = Stripe::at("http://127.0.0.1:1", "sk_test_1").unwrap();
        assert!(!format!("{stripe:?}").contains("sk_test"));
        assert!(
            matches!(stripe.get("/v1/x"), Err(Trouble::Unknown(_))),
            "nobody is there"
        );
    }

    #[test]
    fn a_payment_stands_where_its_session_and_intent_say() {
        let intent = |status: &str| serde_json::json!({ "status": status });
        for (session, intent, standing) in [
            ("open", Value::Null, Standing::Waiting),
            ("open", intent("requires_payment_method"), Standing::Waiting),
            ("expired", Value::Null, Standing::Refused),
            ("expired", intent("canceled"), Standing::Refused),
            ("complete", intent("requires_capture"), Standing::Authorised),
            ("complete", intent("processing"), Standing::Waiting),
            ("complete", intent("succeeded"), Standing::Captured),
            ("complete", intent("canceled"), Standing::Voided),
            ("", intent("succeeded"), Standing::Captured),
        ] {
            let payment = Payment {
                session: session.to_owned(),
                intent,
            };
            assert_eq!(payment.standing(), standing, "{session} {}", payment.intent);
        }
    }

    #[test]
    fn a_charge_that_is_not_decided_is_neither_made_nor_to_be_made_again() {
        let intent = |key: &str, status: &str| serde_json::json!({ "metadata": { "key": key }, "status": status });
        for (status, found) in [
            ("succeeded", Some(true)),
            // It was refused: it may be tried again.
            ("requires_payment_method", Some(false)),
            ("canceled", Some(false)),
            // The bank wants the member, whom nobody asks.
            ("requires_action", Some(false)),
            ("processing", None),
        ] {
            let all = vec![intent("other", "succeeded"), intent("ours", status)];
            let came = charge_of(all, "ours");
            assert_eq!(came.ok().map(|it| it.is_some()), found, "{status}");
        }
        let twice = vec![intent("ours", "canceled"), intent("ours", "succeeded")];
        assert!(charge_of(twice, "ours").unwrap().is_some());
        assert!(charge_of(Vec::new(), "ours").unwrap().is_none());
    }

    #[test]
    fn a_stripe_that_hangs_holds_so_many_callers_and_no_more() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stripe = Stripe::at(&url, "sk_test_1").unwrap();
        let calls = CALLS_MAX;
        std::thread::scope(|scope| {
            let held: Vec<_> = (0..calls)
                .map(|_| scope.spawn(|| stripe.get("/v1/x")))
                .collect();
            let streams: Vec<_> = (0..calls).map(|_| listener.accept().unwrap()).collect();
            let begun = std::time::Instant::now();
            let (said, heard) = std::sync::mpsc::channel();
            let stripe = &stripe;
            scope.spawn(move || said.send(stripe.get("/v1/x")));
            let one_more = heard.recv_timeout(Duration::from_secs(5));
            drop(streams);
            drop(listener);
            assert!(
                matches!(one_more, Ok(Err(Trouble::Unknown(_)))),
                "it waited for {:?}",
                begun.elapsed()
            );
            for call in held {
                assert!(matches!(call.join().unwrap(), Err(Trouble::Unknown(_))));
            }
        });
        let after = stripe.get("/v1/x");
        assert!(!matches!(&after, Err(Trouble::Unknown(why)) if why == MANY_CALLS));
    }

    /// Answers these in turn, each on a connection of its own; what it was asked.
    fn scripted(answers: Vec<(u16, Value)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        use std::io::{BufRead, BufReader, Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for (status, answer) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut read = BufReader::new(stream.try_clone().unwrap());
                let (mut said, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    read.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(bytes) = line.strip_prefix("content-length: ") {
                        length = bytes.trim().parse().unwrap();
                    }
                    said.push_str(&line);
                }
                read.read_exact(&mut vec![0; length]).unwrap();
                let body = answer.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).unwrap();
                asked.push(said);
            }
            asked
        });
        (url, serving)
    }

    #[test]
    fn who_pays_while_the_page_is_closed_has_it_let_go_under_a_key_of_its_own() {
        let session = |status: &str, intent: Value| serde_json::json!({ "status": status, "payment_intent": intent });
        let paid = session(
            "complete",
            serde_json::json!({ "id": "pi_1", "status": "requires_capture" }),
        );
        let no = serde_json::json!({ "error": { "type": "invalid_request_error" } });
        let (url, serving) = scripted(vec![
            (200, session("open", Value::Null)),
            (400, no),
            (200, paid),
            (
                200,
                serde_json::json!({ "id": "pi_1", "status": "canceled" }),
            ),
        ]);
        let stripe = Stripe::at(&url, "sk_test_1").unwrap();
        let ask = Ask {
            reference: "cs_1",
            key: "move1",
            amount_yen: 0,
        };
        stripe.void(&ask, Millis(0)).unwrap();
        let asked = serving.join().unwrap();
        let firsts: Vec<_> = asked.iter().map(|it| it.lines().next().unwrap()).collect();
        assert_eq!(
            (firsts[1], firsts[3]),
            (
                "POST /v1/checkout/sessions/cs_1/expire HTTP/1.1",
                "POST /v1/payment_intents/pi_1/cancel HTTP/1.1"
            )
        );
        let key = |nth: usize| {
            asked[nth]
                .lines()
                .find(|it| it.starts_with("idempotency-key"))
                .unwrap()
        };
        assert_ne!(key(1), key(3), "a key with other words would not be taken");
    }

    #[test]
    fn a_refund_that_is_on_its_way_is_neither_booked_nor_asked_for_again() {
        let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let paid = json(
            r#"{ "status": "complete", "payment_intent": { "id": "pi_1", "status": "succeeded", "amount_received": 580 } }"#,
        );
        let refund = |status: &str| serde_json::json!({ "amount": 580, "status": status, "metadata": { "key": "move1" } });
        let of = |status: &str| serde_json::json!({ "data": [refund(status)], "has_more": false });
        let (url, serving) = scripted(vec![
            (200, paid.clone()),
            (200, refund("pending")),
            (200, paid.clone()),
            (200, of("pending")),
            (200, paid.clone()),
            (200, of("failed")),
            (200, paid.clone()),
            (200, of("succeeded")),
            (200, paid),
            (200, refund("failed")),
        ]);
        let stripe = Stripe::at(&url, "sk_test_1").unwrap();
        let ask = Ask {
            reference: "cs_1",
            key: "move1",
            amount_yen: 580,
        };
        let on_its_way = |came: Option<Trouble>| matches!(came, Some(Trouble::Unknown(why)) if why.contains("pending"));
        assert!(on_its_way(stripe.refund(&ask, Millis(0)).err()));
        assert!(on_its_way(stripe.look("cs_1", Millis(0)).err()));
        let look = || stripe.look("cs_1", Millis(0)).unwrap().unwrap().refunds;
        assert_eq!(look(), [], "it came back");
        assert_eq!(look(), [("move1".to_owned(), 580)]);
        let came = stripe.refund(&ask, Millis(0));
        assert!(matches!(came, Err(Trouble::Refused(_))), "{came:?}");
        assert_eq!(serving.join().unwrap().len(), 10);
    }

    #[test]
    fn what_is_no_name_of_stripes_goes_into_no_path() {
        for text in ["", "cs_1/../x", "cs_1?a=b", "cs 1", "cs_1%2f"] {
            assert!(name(text).is_err(), "{text}");
        }
        assert!(name("cs_test_a1B2").is_ok());
    }
}
