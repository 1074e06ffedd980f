//! What became of a payment: asked of the processor, never told by a browser.
//!
//! Invariant: a payment's state follows the processor's books. A return from the payment page is a reason
//! to look and proves nothing.

use super::cancel::line_cancelled;
use super::checkout::{failed, frozen, ordered};
use super::moves::{self, Kind, Move};
use super::{Trade, mail, membership};
use crate::asked::{Lang, Millis};
use crate::member::{MemberId, Owned, derived_id};
use crate::pay::{Opening, Seen, Standing, Trouble};
use crate::store::{ProductKind, Row, Sql, StoreFault, Value};

/// How long a payment that nobody makes is waited for.
const WAIT_MS: i64 = 60 * 60 * 1000;
/// How soon the processor is asked again for a page of which no answer came.
const REOPEN_MS: i64 = 10 * 1000;

/// A member's payment.
#[derive(Clone, Debug)]
pub struct Payment {
    pub id: String,
    pub amount_yen: i64,
    pub state: PaymentState,
    /// The processor's page, while it can be paid on.
    pub page: String,
    pub planned: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentState {
    Planned,
    Opened,
    Authorised,
    Captured,
    Refused,
    Voided,
}

impl PaymentState {
    pub(super) fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "planned" => Ok(Self::Planned),
            "opened" => Ok(Self::Opened),
            "authorised" => Ok(Self::Authorised),
            "captured" => Ok(Self::Captured),
            "refused" => Ok(Self::Refused),
            "voided" => Ok(Self::Voided),
            _ => Err(StoreFault::OurRow("a payment in no state")),
        }
    }
}

/// A payment with what only the processor needs.
struct Held {
    amount_yen: i64,
    state: PaymentState,
    reference: String,
    lang: Lang,
    whole_at_once: bool,
    planned: Millis,
}

impl Trade {
    /// One payment of this member's.
    ///
    /// # Errors
    /// The store fails.
    pub fn payment(
        &self,
        member: &MemberId,
        id: &str,
    ) -> Result<Option<Owned<Payment>>, StoreFault> {
        let text = "SELECT id, amount_yen, state, page, planned_ms FROM payments WHERE member = $1 AND id = $2";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into(), id.into()]))?;
        let one = |mut row: Row| {
            Ok(Payment {
                id: row.text()?,
                amount_yen: row.int()?,
                state: PaymentState::stored(&row.text()?)?,
                page: row.text()?,
                planned: Millis(row.int()?),
            })
        };
        let found: Result<_, StoreFault> = rows.into_iter().next().map(one).transpose();
        Ok(found?.map(|it| Owned::new(member.clone(), it)))
    }

    /// Whether a return from the payment page bears the signature that it was sent with.
    #[must_use]
    pub fn is_return(&self, payment: &str, signature: &str) -> bool {
        self.is_signed(&["return", payment], signature)
    }

    /// Brings a payment to where the processor has it. Does nothing when it is there.
    ///
    /// # Errors
    /// The store fails. A processor that gives no answer is no error: it is asked again later.
    pub fn settle(&self, id: &str, now: Millis) -> Result<(), StoreFault> {
        let Some(held) = self.held(id)? else {
            return Ok(());
        };
        match held.state {
            PaymentState::Planned => self.open(id, &held, now)?,
            PaymentState::Opened => self.follow(id, &held, now)?,
            _ => {}
        }
        self.make_moves_of(id, now)
    }

    /// The same for whatever waits: after a restart, and every few seconds. `allowed` is asked before each,
    /// since a processor that is slow makes of many a long time. How many were looked at.
    pub(super) fn settle_all(
        &self,
        allowed: &dyn Fn() -> bool,
        now: Millis,
        at_once_max: i64,
    ) -> Result<u64, StoreFault> {
        let text = "SELECT id FROM payments WHERE state = 'opened' OR (state = 'planned' AND planned_ms <= $1) \
                    ORDER BY planned_ms, id LIMIT $2";
        let with = [now.plus(-REOPEN_MS).0.into(), at_once_max.into()];
        let mut looked = 0;
        for mut row in self.database.read(|sql| sql.rows(text, &with))? {
            if !allowed() {
                return Ok(looked);
            }
            self.settle(&row.text()?, now)?;
            looked += 1;
        }
        Ok(looked + self.make_due_moves(allowed, now, at_once_max)?)
    }

    fn held(&self, id: &str) -> Result<Option<Held>, StoreFault> {
        let text = "SELECT amount_yen, state, reference, lang, whole_at_once, planned_ms FROM payments WHERE id = $1";
        let one = |mut row: Row| {
            Ok(Held {
                amount_yen: row.int()?,
                state: PaymentState::stored(&row.text()?)?,
                reference: row.text()?,
                lang: if row.text()? == "en" {
                    Lang::En
                } else {
                    Lang::Ja
                },
                whole_at_once: row.int()? == 1,
                planned: Millis(row.int()?),
            })
        };
        self.database
            .read(|sql| sql.rows(text, &[id.into()]))?
            .into_iter()
            .next()
            .map(one)
            .transpose()
    }

    fn open(&self, id: &str, held: &Held, now: Millis) -> Result<(), StoreFault> {
        let lines = self.database.read(|sql| frozen(sql, id))?;
        // A charge that renews a membership has no page: it is a move.
        if lines.is_empty() {
            return Ok(());
        }
        if now >= held.planned.plus(WAIT_MS) {
            // A page that was opened without our hearing of it is known to nobody who could pay on it.
            return self.database.write(|sql| given_up(sql, id, "planned", now));
        }
        let back_to = format!(
            "{}/{}/account/payments/{id}?back={}",
            self.url,
            held.lang.code(),
            self.signed(&["return", id])
        );
        let opening = Opening {
            key: id,
            amount_yen: held.amount_yen,
            back_to: &back_to,
            lang: held.lang,
            again: lines.iter().any(|it| it.kind == ProductKind::Monthly),
        };
        match self.processor.open(&opening, now) {
            Ok(opened) => self.database.write(|sql| {
                let text = "UPDATE payments SET state = 'opened', reference = $1, page = $2 WHERE id = $3 AND state = 'planned'";
                sql.run(text, &[Value::from(&opened.reference), Value::from(&opened.page), id.into()]).map(drop)
            }),
            Err(Trouble::Refused(why)) => {
                tracing::warn!(why, "the processor opens no payment");
                self.database.write(|sql| given_up(sql, id, "planned", now))
            }
            Err(Trouble::Unknown(_)) => Ok(()),
        }
    }

    fn follow(&self, id: &str, held: &Held, now: Millis) -> Result<(), StoreFault> {
        let seen = match self.processor.look(&held.reference, now) {
            Ok(Some(seen)) => seen,
            // A payment that the processor does not know cannot be paid.
            Ok(None) => return self.database.write(|sql| given_up(sql, id, "opened", now)),
            Err(_) => return Ok(()),
        };
        self.database.write(|sql| match seen.standing {
            Standing::Waiting if now >= held.planned.plus(WAIT_MS) => {
                moves::plan(sql, id, Kind::Void, 0, 0, now)
            }
            Standing::Waiting => Ok(()),
            Standing::Refused | Standing::Voided => given_up(sql, id, "opened", now),
            Standing::Authorised | Standing::Captured => authorised(sql, id, held, &seen, now),
        })
    }
}

fn authorised(
    sql: &mut dyn Sql,
    id: &str,
    held: &Held,
    seen: &Seen,
    now: Millis,
) -> Result<(), StoreFault> {
    let text = "UPDATE payments SET state = 'authorised', mandate = $1, page = '', authorised_ms = $2 \
                WHERE id = $3 AND state = 'opened'";
    if sql.run(text, &[Value::from(&seen.mandate), now.0.into(), id.into()])? == 0 {
        return Ok(());
    }
    if held.whole_at_once {
        moves::plan(sql, id, Kind::Capture, 0, held.amount_yen, now)
    } else {
        ordered(sql, id, now)
    }
}

fn given_up(sql: &mut dyn Sql, id: &str, before: &str, now: Millis) -> Result<(), StoreFault> {
    let text = "UPDATE payments SET state = 'refused', page = '' WHERE id = $1 AND state = $2";
    if sql.run(text, &[id.into(), before.into()])? == 1 {
        failed(sql, id, now)?;
    }
    Ok(())
}

/// What a finished move changes in orders and points. `None`: the processor refused it.
pub(super) fn effects(
    sql: &mut dyn Sql,
    made: &Move,
    seen: Option<&Seen>,
    now: Millis,
) -> Result<(), StoreFault> {
    let id = made.payment.as_str();
    match (made.kind, seen) {
        (Kind::Capture, Some(_)) => {
            let text = "UPDATE payments SET state = 'captured', captured_yen = $1 WHERE id = $2 AND state = 'authorised'";
            let captured = sql.run(text, &[made.amount_yen.into(), id.into()])?;
            assert!(captured == 1, "a payment is captured once");
            ordered(sql, id, now)?;
            let text = "UPDATE shipments SET state = 'sent', changed_ms = $1 WHERE order_id = $2 AND state = 'leaving'";
            sql.run(text, &[now.0.into(), id.into()]).map(drop)
        }
        (Kind::Capture, None) => {
            sql.run(
                "UPDATE payments SET state = 'voided' WHERE id = $1 AND state = 'authorised'",
                &[id.into()],
            )?;
            failed(sql, id, now)?;
            nothing_paid(sql, id, now)
        }
        (Kind::Void, _) => {
            // Refused is void as well: what the processor does not hold cannot be let go.
            let text = "UPDATE payments SET state = 'voided', page = '' WHERE id = $1 AND state IN ('opened', 'authorised')";
            sql.run(text, &[id.into()])?;
            failed(sql, id, now)
        }
        (Kind::Refund, Some(_)) => {
            let text = "UPDATE payments SET refunded_yen = refunded_yen + $1 WHERE id = $2";
            sql.run(text, &[made.amount_yen.into(), id.into()])?;
            line_cancelled(sql, id, made.line, now)
        }
        (Kind::Refund, None) => refund_refused(sql, made, now),
        (Kind::Charge, seen) => {
            membership::charged(sql, id, seen.map(|it| it.reference.as_str()), now)
        }
    }
}

/// An order of discs whose authorisation lapsed before they were sent.
fn nothing_paid(sql: &mut dyn Sql, order: &str, now: Millis) -> Result<(), StoreFault> {
    for mut row in sql.rows(
        "SELECT line FROM order_lines WHERE order_id = $1 ORDER BY line",
        &[order.into()],
    )? {
        line_cancelled(sql, order, row.int()?, now)?;
    }
    Ok(())
}

/// What the processor will not give back, people must: the member is told, and it stays visible as a
/// move that was refused.
fn refund_refused(sql: &mut dyn Sql, made: &Move, now: Millis) -> Result<(), StoreFault> {
    let found = sql.rows(
        "SELECT member FROM payments WHERE id = $1",
        &[Value::from(&made.payment)],
    )?;
    let mut row = found
        .into_iter()
        .next()
        .ok_or(StoreFault::OurRow("a move of no payment"))?;
    let member = MemberId::stored(row.text()?);
    let words = [
        "返金方法について / About your refund",
        "カードへの返金ができませんでした。別の方法について、担当者からご連絡します。\n\
         The refund to your card was not possible. We will write to you about another way.",
    ];
    mail(
        sql,
        &derived_id(&["refund refused", &made.id]),
        &member,
        words,
        now,
    )
}
