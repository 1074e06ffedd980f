//! A line of an order is cancelled: what was paid by card goes back to the card, points come back as points.
//!
//! Invariant: what was bought is the member's until the processor has accepted the refund; then it is gone
//! in the same transaction.

use super::moves::{self, Kind};
use super::settle::PaymentState;
use super::{Trade, membership};
use crate::asked::Millis;
use crate::member::MemberId;
use crate::points::{self, Spent};
use crate::store::{Sql, StoreFault};

/// How long what can be watched may be given back, as long as it was not.
const WITHIN_MS: i64 = 7 * 24 * 3600 * 1000;

/// What became of the wish to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled.
    Now,
    /// The refund is under way.
    UnderWay,
}

/// Why a line cannot be cancelled by its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCancelled {
    NoSuchLine,
    /// It was sent, or is being sent.
    Sent,
    /// It was watched or downloaded.
    Watched,
    /// It was bought too long ago.
    TooLate,
    /// A membership is left, not cancelled.
    Monthly,
    /// It was paid for elsewhere.
    NotOurs,
}

/// Who wishes it, and so which rules hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Member,
    /// An incident's remedy: whatever was not sent is taken back.
    Desk,
}

/// A line, with all that decides.
struct Line {
    kind: String,
    state: String,
    card_yen: i64,
    placed: Millis,
    watched: Millis,
    shipment: String,
    reference: String,
}

impl Trade {
    /// A member cancels a line of an order of theirs.
    ///
    /// # Errors
    /// The store fails.
    pub fn cancel(
        &self,
        member: &MemberId,
        order: &str,
        line: i64,
        now: Millis,
    ) -> Result<Result<Cancelled, NotCancelled>, StoreFault> {
        self.cancel_by(By::Member, member, order, line, now)
    }

    /// Whether [`Trade::cancel`] would.
    ///
    /// # Errors
    /// The store fails.
    pub fn may_cancel(
        &self,
        member: &MemberId,
        order: &str,
        line: i64,
        now: Millis,
    ) -> Result<bool, StoreFault> {
        self.database.read(|sql| {
            let Some(found) = read(sql, member, order, line)? else {
                return Ok(false);
            };
            let asked = "SELECT line FROM cancellations WHERE order_id = $1 AND line = $2";
            let is_new = sql.rows(asked, &[order.into(), line.into()])?.is_empty();
            Ok(is_new && found.refused(By::Member, now).is_none() && found.state != "cancelled")
        })
    }

    pub(super) fn cancel_by(
        &self,
        by: By,
        member: &MemberId,
        order: &str,
        line: i64,
        now: Millis,
    ) -> Result<Result<Cancelled, NotCancelled>, StoreFault> {
        let asked = self
            .database
            .write(|sql| ask(sql, by, member, order, line, now))?;
        if asked.is_ok() {
            self.make_moves_of(order, now)?;
            let now_is = self.database.read(|sql| read(sql, member, order, line))?;
            return Ok(Ok(match now_is {
                Some(found) if found.state == "cancelled" => Cancelled::Now,
                _ => Cancelled::UnderWay,
            }));
        }
        Ok(asked)
    }
}

fn ask(
    sql: &mut dyn Sql,
    by: By,
    member: &MemberId,
    order: &str,
    line: i64,
    now: Millis,
) -> Result<Result<Cancelled, NotCancelled>, StoreFault> {
    // The order's row first, so that what concerns one order follows one another.
    sql.run(
        "UPDATE orders SET placed_ms = placed_ms WHERE id = $1",
        &[order.into()],
    )?;
    let Some(found) = read(sql, member, order, line)? else {
        return Ok(Err(NotCancelled::NoSuchLine));
    };
    if found.state == "cancelled" {
        return Ok(Ok(Cancelled::Now));
    }
    let text = "SELECT line FROM cancellations WHERE order_id = $1 AND line = $2";
    if !sql.rows(text, &[order.into(), line.into()])?.is_empty() {
        return Ok(Ok(Cancelled::UnderWay));
    }
    if let Some(why) = found.refused(by, now) {
        return Ok(Err(why));
    }
    let state = sql.rows("SELECT state FROM payments WHERE id = $1", &[order.into()])?;
    let state = state
        .into_iter()
        .next()
        .map(|mut row| row.text())
        .transpose()?;
    let state = state.as_deref().map(PaymentState::stored).transpose()?;
    let on_card = match state {
        _ if found.card_yen == 0 => false,
        Some(PaymentState::Captured) => true,
        Some(PaymentState::Authorised) if moves::is_under_way(sql, order, Kind::Capture)? => {
            return Ok(Err(NotCancelled::Sent));
        }
        Some(PaymentState::Authorised) => false,
        _ => return Ok(Err(NotCancelled::NotOurs)),
    };
    let text = "INSERT INTO cancellations (order_id, line, asked_ms) VALUES ($1, $2, $3)";
    sql.run(text, &[order.into(), line.into(), now.0.into()])?;
    // Not sent from now on, whatever becomes of the refund.
    let text =
        "UPDATE shipments SET state = 'stopped', changed_ms = $1 WHERE order_id = $2 AND line = $3";
    sql.run(text, &[now.0.into(), order.into(), line.into()])?;
    if on_card {
        moves::plan(sql, order, Kind::Refund, line, found.card_yen, now)?;
        return Ok(Ok(Cancelled::UnderWay));
    }
    line_cancelled(sql, order, line, now)?;
    if state == Some(PaymentState::Authorised) {
        let text = "SELECT line FROM order_lines WHERE order_id = $1 AND state <> 'cancelled' AND price_yen > points_yen LIMIT 1";
        if sql.rows(text, &[order.into()])?.is_empty() {
            moves::plan(sql, order, Kind::Void, 0, 0, now)?;
        }
    }
    Ok(Ok(Cancelled::Now))
}

fn read(
    sql: &mut dyn Sql,
    member: &MemberId,
    order: &str,
    line: i64,
) -> Result<Option<Line>, StoreFault> {
    let text = "SELECT p.kind, l.state, l.price_yen - l.points_yen, o.placed_ms, \
                COALESCE((SELECT v.last_ms FROM viewings v WHERE v.member = o.member AND v.product = l.product), 0), \
                COALESCE((SELECT s.state FROM shipments s WHERE s.order_id = l.order_id AND s.line = l.line), ''), \
                COALESCE((SELECT y.reference FROM payments y WHERE y.id = o.id), '') \
                FROM orders o JOIN order_lines l ON l.order_id = o.id JOIN products p ON p.id = l.product \
                WHERE o.member = $1 AND o.id = $2 AND l.line = $3";
    let Some(mut row) = sql
        .rows(text, &[member.text().into(), order.into(), line.into()])?
        .into_iter()
        .next()
    else {
        return Ok(None);
    };
    Ok(Some(Line {
        kind: row.text()?,
        state: row.text()?,
        card_yen: row.int()?,
        placed: Millis(row.int()?),
        watched: Millis(row.int()?),
        shipment: row.text()?,
        reference: row.text()?,
    }))
}

impl Line {
    fn refused(&self, by: By, now: Millis) -> Option<NotCancelled> {
        if self.card_yen > 0 && self.reference.is_empty() {
            return Some(NotCancelled::NotOurs);
        }
        match (self.kind.as_str(), self.shipment.as_str()) {
            ("disc", "preparing" | "held") => None,
            ("disc", "") => Some(NotCancelled::NotOurs),
            ("disc", _) => Some(NotCancelled::Sent),
            _ if by == By::Desk => None,
            ("monthly", _) => Some(NotCancelled::Monthly),
            _ if now >= self.placed.plus(WITHIN_MS) => Some(NotCancelled::TooLate),
            _ if self.watched >= self.placed => Some(NotCancelled::Watched),
            _ => None,
        }
    }
}

/// The line is nobody's any more, and its points are the member's again. Once.
pub(super) fn line_cancelled(
    sql: &mut dyn Sql,
    order: &str,
    line: i64,
    now: Millis,
) -> Result<(), StoreFault> {
    let text = "UPDATE order_lines SET state = 'cancelled' WHERE order_id = $1 AND line = $2 AND state <> 'cancelled'";
    if sql.run(text, &[order.into(), line.into()])? == 0 {
        return Ok(());
    }
    let text =
        "UPDATE shipments SET state = 'stopped', changed_ms = $1 WHERE order_id = $2 AND line = $3";
    sql.run(text, &[now.0.into(), order.into(), line.into()])?;
    membership::cancelled_line(sql, order, line)?;
    points::give_back(sql, Spent { order, line }, now)
}
