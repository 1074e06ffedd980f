//! The client of Stripe against a stand-in that is somebody else's: `cargo xtask payments` starts it.
//!
//! What the stand-in does not have is not seen here: the payment page, lists by customer, the statement, and
//! keys that Stripe knows again. docs/site.md says so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use shikiri_site::asked::Millis;
use shikiri_site::pay::stripe::Stripe;
use shikiri_site::pay::{Ask, Charge, Processor, Seen, Standing, Trouble};

const SECRET: &str = "sk_test_of_nobody";
const NOW: Millis = Millis(1_794_000_000_000);
const GOOD: &str = "4242424242424242";
/// Can be kept, and never charged.
const DECLINED: &str = "4000000000000341";

fn stand_in() -> SocketAddr {
    let told = std::env::var("SHIKIRI_TEST_STRIPE").expect("`cargo xtask payments` says it");
    told.parse().unwrap()
}

fn stripe(at: SocketAddr) -> Stripe {
    Stripe::at(&format!("http://{at}"), SECRET).unwrap()
}

/// What members and their browsers would do at Stripe.
fn post(path: &str, form: &[(&str, &str)]) -> Value {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: stand-in\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(stand_in(), request.as_bytes());
    let (_, json) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(json).unwrap()
}

/// One request, and its answer to the end.
fn exchange(to: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(request).unwrap();
    message(&mut stream)
}

/// A request or an answer, of a length that it says.
fn message(from: &mut TcpStream) -> String {
    let mut held = Vec::new();
    let mut byte = [0];
    while !held.ends_with(b"\r\n\r\n") && from.read(&mut byte).unwrap() == 1 {
        held.push(byte[0]);
    }
    let mut text = String::from_utf8(held).unwrap();
    let length = text.to_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body).unwrap();
    text.push_str(&String::from_utf8(body).unwrap());
    text
}

/// A customer who agreed to be charged again, with this card.
fn mandate(number: &str) -> String {
    let customer = post("/v1/customers", &[("description", "nobody")]);
    let method = post(
        "/v1/payment_methods",
        &[
            ("type", "card"),
            ("card[number]", number),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2040"),
            ("card[cvc]", "123"),
        ],
    );
    let (customer, method) = (
        customer["id"].as_str().unwrap(),
        method["id"].as_str().unwrap(),
    );
    post(
        &format!("/v1/payment_methods/{method}/attach"),
        &[("customer", customer)],
    );
    format!("{customer} {method}")
}

/// A payment that a member has made, of which nothing is taken yet.
fn authorised(amount: &str) -> String {
    let mandate = mandate(GOOD);
    let (customer, method) = mandate.split_once(' ').unwrap();
    let form = [
        ("amount", amount),
        ("currency", "jpy"),
        ("customer", customer),
        ("payment_method", method),
        ("capture_method", "manual"),
        ("confirm", "true"),
    ];
    post("/v1/payment_intents", &form)["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn ask<'a>(reference: &'a str, key: &'a str, amount_yen: i64) -> Ask<'a> {
    Ask {
        reference,
        key,
        amount_yen,
    }
}

fn look(stripe: &Stripe, reference: &str) -> Seen {
    stripe.look(reference, NOW).unwrap().unwrap()
}

#[test]
#[ignore = "needs a stand-in for Stripe: cargo xtask payments"]
fn a_member_who_agreed_is_charged_and_refunded() {
    let stripe = stripe(stand_in());
    let mandate = mandate(GOOD);
    let charge = Charge {
        mandate: &mandate,
        key: "move1",
        amount_yen: 980,
    };
    let charged = stripe.charge(&charge, NOW).unwrap();
    assert_eq!(charged.standing, Standing::Captured);
    assert!(charged.refunds.is_empty());
    stripe
        .refund(&ask(&charged.reference, "move2", 300), NOW)
        .unwrap();
    stripe
        .refund(&ask(&charged.reference, "move3", 80), NOW)
        .unwrap();
    let mut refunds = look(&stripe, &charged.reference).refunds;
    refunds.sort();
    assert_eq!(
        refunds,
        [("move2".to_owned(), 300), ("move3".to_owned(), 80)]
    );
}

#[test]
#[ignore = "needs a stand-in for Stripe: cargo xtask payments"]
fn what_a_bank_declines_is_refused_and_by_its_code() {
    let stripe = stripe(stand_in());
    let mandate = mandate(DECLINED);
    let charge = Charge {
        mandate: &mandate,
        key: "move1",
        amount_yen: 980,
    };
    let came = stripe.charge(&charge, NOW);
    assert!(
        matches!(&came, Err(Trouble::Refused(why)) if why == "card_declined"),
        "{came:?}"
    );
}

#[test]
#[ignore = "needs a stand-in for Stripe: cargo xtask payments"]
fn what_is_authorised_is_taken_in_part_or_let_go() {
    let stripe = stripe(stand_in());
    let (taken, gone) = (authorised("5000"), authorised("700"));
    for reference in [&taken, &gone] {
        assert_eq!(look(&stripe, reference).standing, Standing::Authorised);
    }
    stripe.capture(&ask(&taken, "move1", 3200), NOW).unwrap();
    assert_eq!(look(&stripe, &taken).standing, Standing::Captured);
    assert!(matches!(
        stripe.capture(&ask(&taken, "move1", 3200), NOW),
        Err(Trouble::Refused(_))
    ));
    for _ in 0..2 {
        stripe.void(&ask(&gone, "move2", 0), NOW).unwrap();
        assert_eq!(look(&stripe, &gone).standing, Standing::Voided);
    }
}

#[test]
#[ignore = "needs a stand-in for Stripe: cargo xtask payments"]
fn what_stripe_does_not_know_is_not_there() {
    let stripe = stripe(stand_in());
    assert_eq!(stripe.look("pi_nothing", NOW).unwrap(), None);
    for reference in ["pi_nothing", "cs_1/../../v1/customers", ""] {
        let came = stripe.refund(&ask(reference, "move1", 1), NOW);
        assert!(
            matches!(came, Err(Trouble::Refused(_))),
            "{reference}: {came:?}"
        );
    }
}

/// What a proxy does with one request.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Passes,
    NotHeard,
    AnswerLost,
}

/// A proxy before the stand-in: the fates of refunds in turn. It keeps what it was sent.
fn proxy(fates: &'static [Fate]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, to) = (listener.local_addr().unwrap(), stand_in());
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heard);
    std::thread::spawn(move || {
        let mut fates = fates.iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = message(&mut stream);
            let fate = match request.starts_with("POST /v1/refunds") {
                true => {
                    kept.lock().unwrap().push(request.clone());
                    fates.next().copied().unwrap_or(Fate::Passes)
                }
                false => Fate::Passes,
            };
            if fate == Fate::NotHeard {
                continue;
            }
            let answer = exchange(to, request.as_bytes());
            if fate == Fate::Passes {
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (at, heard)
}

#[test]
#[ignore = "needs a stand-in for Stripe: cargo xtask payments"]
fn what_is_not_known_is_looked_up_and_asked_for_under_the_same_key() {
    let reference = authorised("2000");
    let direct = stripe(stand_in());
    direct
        .capture(&ask(&reference, "move1", 2000), NOW)
        .unwrap();
    let (at, heard) = proxy(&[Fate::NotHeard, Fate::AnswerLost]);
    let stripe = stripe(at);
    let refund = ask(&reference, "move2", 500);
    for done in [0, 1] {
        let came = stripe.refund(&refund, NOW);
        assert!(matches!(came, Err(Trouble::Unknown(_))), "{came:?}");
        let seen = look(&stripe, &reference).refunds;
        assert_eq!(seen.len(), done, "what was heard is in the books");
    }
    let heard = heard.lock().unwrap();
    assert!(
        heard.len() == 2 && heard[0] == heard[1],
        "the same words again"
    );
    for said in [
        "idempotency-key: move2",
        "stripe-version: ",
        "metadata%5Bkey%5D=move2",
    ] {
        assert!(heard[0].contains(said), "{said}");
    }
}
