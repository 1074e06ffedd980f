//! A processor for trials: faithful in what a store could get wrong, and without any money.
//!
//! It has books of its own (a database apart from the store's), a payment page of its own on a listener
//! of its own, and the manners of real ones: a key that was used is answered as before, for a day, and
//! then means a new request; answers get lost; what was asked may take effect late. It takes the test
//! numbers that everybody knows and no others, and keeps of them the last four digits.
//!
//! Invariant: its books are changed in one transaction for each request, so a request took effect as a
//! whole or not at all; the statement is what was booked and nothing derived from what stores say.

mod page;

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Ask, Booked, Booking, Charge, KEYS_LAST_MS, Opened, Opening, Processor, Seen, Standing, Trouble,
};
use crate::asked::{Lang, Millis};
use crate::member::{derived_id, fresh_id};
use crate::store::{Database, Row, Sql, StoreFault, Value, sqlite};

/// How long somebody may take to pay.
const PAGE_LASTS_MS: i64 = 30 * 60 * 1000;
/// An authorisation is let go by itself after a week.
const HELD_MS: i64 = 7 * 24 * 3600 * 1000;

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS payments (
        id TEXT PRIMARY KEY,
        key TEXT NOT NULL,
        amount_yen BIGINT NOT NULL CHECK (amount_yen > 0),
        back_to TEXT NOT NULL,
        lang TEXT NOT NULL,
        again BIGINT NOT NULL,
        standing TEXT NOT NULL,
        captured_yen BIGINT NOT NULL,
        mandate TEXT NOT NULL,
        last_four TEXT NOT NULL,
        opened_ms BIGINT NOT NULL,
        authorised_ms BIGINT NOT NULL
    )",
    "CREATE INDEX IF NOT EXISTS payments_by_key ON payments (key)",
    "CREATE TABLE IF NOT EXISTS mandates (id TEXT PRIMARY KEY, last_four TEXT NOT NULL, good BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS booked (
        nth BIGINT PRIMARY KEY,
        payment TEXT NOT NULL,
        what TEXT NOT NULL,
        amount_yen BIGINT NOT NULL,
        key TEXT NOT NULL,
        at_ms BIGINT NOT NULL
    )",
    "CREATE TABLE IF NOT EXISTS keys (
        key TEXT PRIMARY KEY,
        asked TEXT NOT NULL,
        answer TEXT NOT NULL,
        at_ms BIGINT NOT NULL
    )",
];

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request never arrives.
    NotHeard,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// The answer is lost, and it takes effect so many milliseconds later.
    Late(i64),
}

/// The processor.
pub struct Trial {
    books: Database,
    /// Where its payment page is: `http://host:port`, without a slash at the end.
    url: String,
    faults: Mutex<VecDeque<Option<Fault>>>,
    late: Mutex<Vec<Late>>,
}

/// A request that has not taken effect yet.
struct Late {
    due: Millis,
    asked: Asked,
}

/// A request that changes the books.
#[derive(Clone)]
enum Asked {
    Open {
        key: String,
        amount_yen: i64,
        back_to: String,
        lang: Lang,
        again: bool,
    },
    Charge {
        key: String,
        amount_yen: i64,
        mandate: String,
    },
    Move {
        kind: Kind,
        reference: String,
        key: String,
        amount_yen: i64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Capture,
    Void,
    Refund,
}

/// What a request came to: the payment's name, or why not.
type Came = Result<String, String>;

impl Trial {
    /// With its books in a file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(file: &Path, url: &str) -> Result<Self, StoreFault> {
        Self::on(Database::on(Arc::new(sqlite::Sqlite::open(file)?)), url)
    }

    /// With its books in memory, for tests.
    ///
    /// # Errors
    /// There is no memory.
    pub fn in_memory(url: &str) -> Result<Self, StoreFault> {
        Self::on(Database::on(Arc::new(sqlite::Sqlite::in_memory()?)), url)
    }

    fn on(books: Database, url: &str) -> Result<Self, StoreFault> {
        books.write(|sql| TABLES.iter().try_for_each(|it| sql.run(it, &[]).map(drop)))?;
        Ok(Self {
            books,
            url: url.trim_end_matches('/').to_owned(),
            faults: Mutex::default(),
            late: Mutex::default(),
        })
    }

    /// What goes wrong with the next requests, one after another, in place of what was to; `None` goes well,
    /// and so does whatever comes after.
    pub fn will(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults.into_iter().collect();
    }

    /// Which payment page of this processor a member may pay on, and for what.
    pub(crate) fn waiting(
        &self,
        reference: &str,
        now: Millis,
    ) -> Result<Option<Payment>, StoreFault> {
        let found = self.books.read(|sql| payment(sql, reference, now))?;
        Ok(found.filter(|it| it.standing == Standing::Waiting))
    }

    /// Somebody pays on the page. `number` is looked at and thrown away.
    ///
    /// # Errors
    /// [`NotPaid`] in the inner result; the store fails in the outer one.
    pub fn pay(
        &self,
        reference: &str,
        number: &str,
        now: Millis,
    ) -> Result<Result<String, NotPaid>, StoreFault> {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        self.books.write(|sql| {
            let Some(found) = payment(sql, reference, now)?.filter(|it| it.standing == Standing::Waiting) else {
                return Ok(Err(NotPaid::TooLate));
            };
            let (standing, why) = match digits.as_str() {
                "4242424242424242" | "5555555555554444" => ("authorised", None),
                // Good for once, and declined when charged again.
                "4000000000000341" => ("authorised", None),
                "4000000000000002" => ("waiting", Some(NotPaid::Declined)),
                _ => ("waiting", Some(NotPaid::NoTestNumber)),
            };
            if let Some(why) = why {
                return Ok(Err(why));
            }
            let last_four: String = digits.chars().skip(digits.len().saturating_sub(4)).collect();
            let mandate = if found.again { fresh_id() } else { String::new() };
            if found.again {
                let good = i64::from(digits != "4000000000000341");
                let text = "INSERT INTO mandates (id, last_four, good) VALUES ($1, $2, $3)";
                sql.run(text, &[Value::from(&mandate), Value::from(&last_four), good.into()])?;
            }
            let text = "UPDATE payments SET standing = $1, mandate = $2, last_four = $3, authorised_ms = $4 WHERE id = $5";
            let with = [standing.into(), Value::from(&mandate), Value::from(&last_four), now.0.into(), reference.into()];
            sql.run(text, &with)?;
            Ok(Ok(found.back_to))
        })
    }

    /// Somebody turns back on the page: the payment is refused.
    ///
    /// # Errors
    /// The store fails.
    pub fn give_up(&self, reference: &str, now: Millis) -> Result<Option<String>, StoreFault> {
        self.books.write(|sql| {
            let Some(found) =
                payment(sql, reference, now)?.filter(|it| it.standing == Standing::Waiting)
            else {
                return Ok(None);
            };
            sql.run(
                "UPDATE payments SET standing = 'refused' WHERE id = $1",
                &[reference.into()],
            )?;
            Ok(Some(found.back_to))
        })
    }

    /// A request comes in, and whatever the day brings happens to it.
    fn ask(&self, asked: &Asked, now: Millis) -> Result<String, Trouble> {
        self.settle_late(now)?;
        let fault = self
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
            .flatten();
        match fault {
            Some(Fault::NotHeard) => Err(Trouble::Unknown("not heard".to_owned())),
            Some(Fault::Late(by_ms)) => {
                let late = Late {
                    due: now.plus(by_ms),
                    asked: asked.clone(),
                };
                self.late
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(late);
                Err(Trouble::Unknown("timed out".to_owned()))
            }
            Some(Fault::AnswerLost) => {
                drop(self.apply(asked, now)?);
                Err(Trouble::Unknown("the answer was lost".to_owned()))
            }
            None => self.apply(asked, now)?.map_err(Trouble::Refused),
        }
    }

    /// What was late and is due takes effect, in the order in which it was asked.
    fn settle_late(&self, now: Millis) -> Result<(), StoreFault> {
        let due: Vec<_> = {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            let (due, rest) = std::mem::take(&mut *late)
                .into_iter()
                .partition(|it| it.due <= now);
            *late = rest;
            due
        };
        for it in due {
            drop(self.apply(&it.asked, it.due)?);
        }
        Ok(())
    }

    fn apply(&self, asked: &Asked, now: Millis) -> Result<Came, StoreFault> {
        self.books.write(|sql| {
            let (key, fingerprint) = (asked.key(), asked.fingerprint());
            sql.run(
                "DELETE FROM keys WHERE at_ms <= $1",
                &[now.plus(-KEYS_LAST_MS).0.into()],
            )?;
            let known = sql.rows(
                "SELECT asked, answer FROM keys WHERE key = $1",
                &[key.into()],
            )?;
            if let Some(mut row) = known.into_iter().next() {
                let (before, answer) = (row.text()?, row.text()?);
                return Ok(match before == fingerprint {
                    true => read_answer(&answer),
                    false => Err("a key that was used for something else".to_owned()),
                });
            }
            let came = asked.apply(sql, now)?;
            let text = "INSERT INTO keys (key, asked, answer, at_ms) VALUES ($1, $2, $3, $4)";
            let answer = written_answer(&came);
            sql.run(
                text,
                &[
                    key.into(),
                    Value::from(&fingerprint),
                    Value::from(&answer),
                    now.0.into(),
                ],
            )?;
            Ok(came)
        })
    }

    fn seen(&self, reference: &str, now: Millis) -> Result<Option<Seen>, StoreFault> {
        self.books.read(|sql| {
            let Some(found) = payment(sql, reference, now)? else {
                return Ok(None);
            };
            let text = "SELECT key, amount_yen FROM booked WHERE payment = $1 AND what = 'refund' ORDER BY nth";
            let one = |mut row: Row| Ok((row.text()?, row.int()?));
            let refunds = sql.rows(text, &[reference.into()])?;
            let refunds = refunds.into_iter().map(one).collect::<Result<_, StoreFault>>()?;
            Ok(Some(Seen {
                reference: reference.to_owned(),
                standing: found.standing,
                captured_yen: found.captured_yen,
                refunds,
                mandate: found.mandate,
            }))
        })
    }
}

/// Why nothing was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPaid {
    Declined,
    /// Whoever types a real number here must be told not to.
    NoTestNumber,
    TooLate,
}

/// A payment in the processor's books.
pub(crate) struct Payment {
    pub(crate) amount_yen: i64,
    pub(crate) lang: Lang,
    pub(crate) back_to: String,
    again: bool,
    standing: Standing,
    captured_yen: i64,
    mandate: String,
}

fn payment(sql: &mut dyn Sql, reference: &str, now: Millis) -> Result<Option<Payment>, StoreFault> {
    let text = "SELECT amount_yen, lang, back_to, again, standing, captured_yen, mandate, opened_ms, authorised_ms \
                FROM payments WHERE id = $1";
    let Some(mut row) = sql.rows(text, &[reference.into()])?.into_iter().next() else {
        return Ok(None);
    };
    let (amount_yen, lang, back_to) = (row.int()?, row.text()?, row.text()?);
    let (again, standing, captured_yen, mandate) =
        (row.int()? == 1, row.text()?, row.int()?, row.text()?);
    let (opened, authorised) = (Millis(row.int()?), Millis(row.int()?));
    let standing = match standing.as_str() {
        "waiting" if now < opened.plus(PAGE_LASTS_MS) => Standing::Waiting,
        "waiting" | "refused" => Standing::Refused,
        "authorised" if now < authorised.plus(HELD_MS) => Standing::Authorised,
        "authorised" | "voided" => Standing::Voided,
        "captured" => Standing::Captured,
        _ => return Err(StoreFault::OurRow("a payment in no standing")),
    };
    let lang = if lang == "en" { Lang::En } else { Lang::Ja };
    Ok(Some(Payment {
        amount_yen,
        lang,
        back_to,
        again,
        standing,
        captured_yen,
        mandate,
    }))
}

impl Asked {
    fn key(&self) -> &str {
        match self {
            Self::Open { key, .. } | Self::Charge { key, .. } | Self::Move { key, .. } => key,
        }
    }

    /// All that is asked, so that a key with another request is found.
    fn fingerprint(&self) -> String {
        let (what, amount_yen) = match self {
            Self::Open {
                amount_yen,
                back_to,
                ..
            } => (format!("open {back_to}"), *amount_yen),
            Self::Charge {
                amount_yen,
                mandate,
                ..
            } => (format!("charge {mandate}"), *amount_yen),
            Self::Move {
                kind,
                reference,
                amount_yen,
                ..
            } => (format!("{} {reference}", kind.name()), *amount_yen),
        };
        derived_id(&[&what, &amount_yen.to_string()])
    }

    fn apply(&self, sql: &mut dyn Sql, now: Millis) -> Result<Came, StoreFault> {
        match self {
            Self::Open {
                key,
                amount_yen,
                back_to,
                lang,
                again,
            } => {
                let new = New {
                    key,
                    amount_yen: *amount_yen,
                    back_to,
                    lang: *lang,
                    again: *again,
                    mandate: "",
                };
                new.write(sql, "waiting", now).map(Ok)
            }
            Self::Charge {
                key,
                amount_yen,
                mandate,
            } => {
                let good =
                    sql.rows("SELECT good FROM mandates WHERE id = $1", &[mandate.into()])?;
                match good
                    .into_iter()
                    .next()
                    .map(|mut row| row.int())
                    .transpose()?
                {
                    None => return Ok(Err("no such mandate".to_owned())),
                    Some(0) => return Ok(Err("declined".to_owned())),
                    Some(_) => {}
                }
                let new = New {
                    key,
                    amount_yen: *amount_yen,
                    back_to: "",
                    lang: Lang::Ja,
                    again: false,
                    mandate,
                };
                let id = new.write(sql, "captured", now)?;
                sql.run(
                    "UPDATE payments SET captured_yen = amount_yen WHERE id = $1",
                    &[Value::from(&id)],
                )?;
                book(sql, &id, Booking::Capture, *amount_yen, key, now)?;
                Ok(Ok(id))
            }
            Self::Move {
                kind,
                reference,
                key,
                amount_yen,
            } => {
                let Some(found) = payment(sql, reference, now)? else {
                    return Ok(Err("no such payment".to_owned()));
                };
                kind.apply(sql, &found, reference, key, *amount_yen, now)
            }
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }

    fn apply(
        self,
        sql: &mut dyn Sql,
        found: &Payment,
        reference: &str,
        key: &str,
        amount_yen: i64,
        now: Millis,
    ) -> Result<Came, StoreFault> {
        match (self, found.standing) {
            (Self::Capture, Standing::Authorised)
                if (1..=found.amount_yen).contains(&amount_yen) =>
            {
                let text =
                    "UPDATE payments SET standing = 'captured', captured_yen = $1 WHERE id = $2";
                sql.run(text, &[amount_yen.into(), reference.into()])?;
                book(sql, reference, Booking::Capture, amount_yen, key, now)?;
            }
            (Self::Void, Standing::Waiting | Standing::Authorised) => {
                sql.run(
                    "UPDATE payments SET standing = 'voided' WHERE id = $1",
                    &[reference.into()],
                )?;
            }
            (Self::Refund, Standing::Captured) => {
                let text = "SELECT CAST(COALESCE(SUM(amount_yen), 0) AS BIGINT) FROM booked WHERE payment = $1 AND what = 'refund'";
                let refunded = one_int(sql, text, &[reference.into()])?;
                if amount_yen <= 0 || refunded + amount_yen > found.captured_yen {
                    return Ok(Err("more than was captured".to_owned()));
                }
                book(sql, reference, Booking::Refund, amount_yen, key, now)?;
            }
            _ => return Ok(Err(format!("no {} of this payment", self.name()))),
        }
        Ok(Ok(reference.to_owned()))
    }
}

/// A payment that is being made.
struct New<'a> {
    key: &'a str,
    amount_yen: i64,
    back_to: &'a str,
    lang: Lang,
    again: bool,
    mandate: &'a str,
}

impl New<'_> {
    fn write(&self, sql: &mut dyn Sql, standing: &str, now: Millis) -> Result<String, StoreFault> {
        let id = format!("trial{}", fresh_id());
        let text = "INSERT INTO payments (id, key, amount_yen, back_to, lang, again, standing, captured_yen, mandate, \
                    last_four, opened_ms, authorised_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, '', $9, $10)";
        let with = [
            Value::from(&id),
            self.key.into(),
            self.amount_yen.into(),
            self.back_to.into(),
            self.lang.code().into(),
            i64::from(self.again).into(),
            standing.into(),
            self.mandate.into(),
            now.0.into(),
            now.0.into(),
        ];
        sql.run(text, &with)?;
        Ok(id)
    }
}

fn book(
    sql: &mut dyn Sql,
    payment: &str,
    what: Booking,
    amount_yen: i64,
    key: &str,
    now: Millis,
) -> Result<(), StoreFault> {
    let nth = one_int(
        sql,
        "SELECT CAST(COALESCE(MAX(nth), 0) + 1 AS BIGINT) FROM booked",
        &[],
    )?;
    let text = "INSERT INTO booked (nth, payment, what, amount_yen, key, at_ms) VALUES ($1, $2, $3, $4, $5, $6)";
    let what = match what {
        Booking::Capture => "capture",
        Booking::Refund => "refund",
    };
    sql.run(
        text,
        &[
            nth.into(),
            payment.into(),
            what.into(),
            amount_yen.into(),
            key.into(),
            now.0.into(),
        ],
    )
    .map(drop)
}

fn one_int(sql: &mut dyn Sql, text: &str, with: &[Value]) -> Result<i64, StoreFault> {
    let row = sql.rows(text, with)?.into_iter().next();
    row.ok_or(StoreFault::OurRow("a number of nothing"))?.int()
}

fn written_answer(came: &Came) -> String {
    match came {
        Ok(id) => format!("+{id}"),
        Err(why) => format!("-{why}"),
    }
}

fn read_answer(text: &str) -> Came {
    match text.strip_prefix('+') {
        Some(id) => Ok(id.to_owned()),
        None => Err(text.trim_start_matches('-').to_owned()),
    }
}

impl Processor for Trial {
    fn open(&self, opening: &Opening<'_>, now: Millis) -> Result<Opened, Trouble> {
        let asked = Asked::Open {
            key: opening.key.to_owned(),
            amount_yen: opening.amount_yen,
            back_to: opening.back_to.to_owned(),
            lang: opening.lang,
            again: opening.again,
        };
        let reference = self.ask(&asked, now)?;
        let page = format!("{}/pay/{reference}", self.url);
        Ok(Opened { reference, page })
    }

    fn look(&self, reference: &str, now: Millis) -> Result<Option<Seen>, Trouble> {
        self.settle_late(now)?;
        Ok(self.seen(reference, now)?)
    }

    fn charged(&self, charge: &Charge<'_>, now: Millis) -> Result<Option<Seen>, Trouble> {
        self.settle_late(now)?;
        let found = self.books.read(|sql| {
            sql.rows(
                "SELECT id FROM payments WHERE key = $1",
                &[charge.key.into()],
            )
        })?;
        match found.into_iter().next() {
            Some(mut row) => Ok(self.seen(&row.text()?, now)?),
            None => Ok(None),
        }
    }

    fn charge(&self, charge: &Charge<'_>, now: Millis) -> Result<Seen, Trouble> {
        let asked = Asked::Charge {
            key: charge.key.to_owned(),
            amount_yen: charge.amount_yen,
            mandate: charge.mandate.to_owned(),
        };
        let id = self.ask(&asked, now)?;
        self.seen(&id, now)?
            .ok_or_else(|| Trouble::Unknown("a charge of no payment".to_owned()))
    }

    fn capture(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble> {
        self.ask(&moving(Kind::Capture, ask), now).map(drop)
    }

    fn void(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble> {
        self.ask(&moving(Kind::Void, ask), now).map(drop)
    }

    fn refund(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble> {
        self.ask(&moving(Kind::Refund, ask), now).map(drop)
    }

    fn statement(&self, from: Millis) -> Result<Vec<Booked>, Trouble> {
        let text =
            "SELECT payment, what, amount_yen, key FROM booked WHERE at_ms >= $1 ORDER BY nth";
        let rows = self.books.read(|sql| sql.rows(text, &[from.0.into()]))?;
        let one = |mut row: Row| {
            Ok(Booked {
                reference: row.text()?,
                what: match row.text()?.as_str() {
                    "capture" => Booking::Capture,
                    _ => Booking::Refund,
                },
                amount_yen: row.int()?,
                key: row.text()?,
            })
        };
        Ok(rows
            .into_iter()
            .map(one)
            .collect::<Result<_, StoreFault>>()?)
    }
}

fn moving(kind: Kind, ask: &Ask<'_>) -> Asked {
    Asked::Move {
        kind,
        reference: ask.reference.to_owned(),
        key: ask.key.to_owned(),
        amount_yen: ask.amount_yen,
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trial(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);
    const GOOD: &str = "4242 4242 4242 4242";

    fn processor() -> Trial {
        Trial::in_memory("http://pay.example.test/").unwrap()
    }

    fn opening(key: &str) -> Opening<'_> {
        Opening {
            key,
            amount_yen: 1000,
            back_to: "http://shop.example.test/back",
            lang: Lang::Ja,
            again: true,
        }
    }

    fn ask<'a>(opened: &'a Opened, key: &'a str, amount_yen: i64) -> Ask<'a> {
        Ask {
            reference: &opened.reference,
            key,
            amount_yen,
        }
    }

    fn paid(processor: &Trial) -> Opened {
        let opened = processor.open(&opening("p"), NOW).unwrap();
        processor
            .pay(&opened.reference, GOOD, NOW)
            .unwrap()
            .unwrap();
        opened
    }

    #[test]
    fn a_key_means_the_same_for_a_day_and_then_something_new() {
        let processor = processor();
        let opened = paid(&processor);
        processor.capture(&ask(&opened, "c", 1000), NOW).unwrap();
        for (later_ms, refunds) in [(0, 1), (KEYS_LAST_MS - 1, 1), (KEYS_LAST_MS, 2)] {
            processor
                .refund(&ask(&opened, "r", 300), NOW.plus(later_ms))
                .unwrap();
            let seen = processor
                .look(&opened.reference, NOW.plus(later_ms))
                .unwrap()
                .unwrap();
            assert_eq!(seen.refunds.len(), refunds, "{later_ms} ms later");
        }
        let other = processor.refund(&ask(&opened, "r", 301), NOW.plus(KEYS_LAST_MS));
        assert!(
            matches!(other, Err(Trouble::Refused(_))),
            "a key with another request"
        );
        let too_much = processor.refund(&ask(&opened, "r2", 401), NOW);
        assert!(
            matches!(too_much, Err(Trouble::Refused(_))),
            "more than was captured"
        );
    }

    #[test]
    fn what_goes_wrong_goes_wrong_as_it_was_told() {
        for (fault, at_once, later) in [
            (None, 1, 1),
            (Some(Fault::NotHeard), 0, 0),
            (Some(Fault::AnswerLost), 1, 1),
            (Some(Fault::Late(5_000)), 0, 1),
        ] {
            let processor = processor();
            let opened = paid(&processor);
            processor.capture(&ask(&opened, "c", 1000), NOW).unwrap();
            processor.will([fault]);
            let answer = processor.refund(&ask(&opened, "r", 100), NOW);
            assert_eq!(answer.is_ok(), fault.is_none(), "{fault:?}");
            let refunds = |at| {
                processor
                    .look(&opened.reference, at)
                    .unwrap()
                    .unwrap()
                    .refunds
                    .len()
            };
            assert_eq!(
                (refunds(NOW), refunds(NOW.plus(5_000))),
                (at_once, later),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn a_payment_is_made_once_and_within_its_time() {
        let processor = processor();
        for (number, later_ms, came) in [
            (GOOD, 0, Ok(())),
            (GOOD, PAGE_LASTS_MS, Err(NotPaid::TooLate)),
            ("4000000000000002", 0, Err(NotPaid::Declined)),
            ("4111111111111111", 0, Err(NotPaid::NoTestNumber)),
            ("", 0, Err(NotPaid::NoTestNumber)),
        ] {
            let key = format!("{number} {later_ms}");
            let opened = processor.open(&opening(&key), NOW).unwrap();
            let paid = processor
                .pay(&opened.reference, number, NOW.plus(later_ms))
                .unwrap();
            assert_eq!(paid.map(drop), came, "{key}");
            if came.is_ok() {
                let again = processor.pay(&opened.reference, number, NOW).unwrap();
                assert_eq!(again, Err(NotPaid::TooLate), "it was paid already");
            }
        }
    }

    #[test]
    fn who_agreed_can_be_charged_again() {
        let processor = processor();
        let opened = paid(&processor);
        let mandate = processor
            .look(&opened.reference, NOW)
            .unwrap()
            .unwrap()
            .mandate;
        let charge = Charge {
            mandate: &mandate,
            key: "m",
            amount_yen: 980,
        };
        assert_eq!(processor.charged(&charge, NOW).unwrap(), None);
        let charged = processor.charge(&charge, NOW).unwrap();
        assert_eq!(processor.charge(&charge, NOW).unwrap(), charged, "once");
        assert_eq!(processor.charged(&charge, NOW).unwrap(), Some(charged));
        let nobodys = Charge {
            mandate: "none",
            key: "n",
            amount_yen: 980,
        };
        assert!(matches!(
            processor.charge(&nobodys, NOW),
            Err(Trouble::Refused(_))
        ));
        assert_eq!(processor.statement(NOW).unwrap().len(), 1);
    }
}
