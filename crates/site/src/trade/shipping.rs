//! Discs: prepared, held while a member is asked, sent, delivered.
//!
//! Invariant: what is paid for as it is sent is captured before it leaves, for the lines that were not
//! cancelled and no more.

use super::Trade;
use super::moves::{self, Kind};
use crate::asked::Millis;
use crate::member::{MemberId, Owned};
use crate::store::{Row, Sql, StoreFault};

/// How far a disc is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipment {
    Preparing,
    /// Its member is being asked whether they want it.
    Held,
    Leaving,
    Sent,
    Delivered,
    Stopped,
}

impl Shipment {
    fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "preparing" => Ok(Self::Preparing),
            "held" => Ok(Self::Held),
            "leaving" => Ok(Self::Leaving),
            "sent" => Ok(Self::Sent),
            "delivered" => Ok(Self::Delivered),
            "stopped" => Ok(Self::Stopped),
            _ => Err(StoreFault::OurRow("a shipment in no state")),
        }
    }
}

/// Why a disc does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotShipped {
    /// It is not being prepared: held, gone already, or cancelled.
    NotReady,
    /// The processor did not give an answer, or would not pay.
    NotPaid,
}

impl Trade {
    /// The shipments of an order of this member's, by line.
    ///
    /// # Errors
    /// The store fails.
    pub fn shipments(
        &self,
        member: &MemberId,
        order: &str,
    ) -> Result<Owned<Vec<(i64, Shipment)>>, StoreFault> {
        let text = "SELECT s.line, s.state FROM shipments s JOIN orders o ON o.id = s.order_id \
                    WHERE o.member = $1 AND o.id = $2 ORDER BY s.line";
        let one = |mut row: Row| Ok((row.int()?, Shipment::stored(&row.text()?)?));
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into(), order.into()]))?;
        let found = rows
            .into_iter()
            .map(one)
            .collect::<Result<_, StoreFault>>()?;
        Ok(Owned::new(member.clone(), found))
    }

    /// Sends a disc: takes the money first where it was only promised.
    ///
    /// # Errors
    /// The store fails.
    pub fn send(
        &self,
        order: &str,
        line: i64,
        now: Millis,
    ) -> Result<Result<(), NotShipped>, StoreFault> {
        let ready = self.database.write(|sql| {
            sql.run("UPDATE orders SET placed_ms = placed_ms WHERE id = $1", &[order.into()])?;
            if !turn(sql, order, line, "preparing", "leaving", now)? {
                return Ok(false);
            }
            let text = "SELECT CAST(COALESCE(SUM(l.price_yen - l.points_yen), 0) AS BIGINT) FROM order_lines l \
                        JOIN payments p ON p.id = l.order_id WHERE l.order_id = $1 AND l.state <> 'cancelled' AND p.state = 'authorised'";
            let due = sql.rows(text, &[order.into()])?.into_iter().next();
            let due_yen = due.ok_or(StoreFault::OurRow("a sum of nothing"))?.int()?;
            if due_yen > 0 {
                moves::plan(sql, order, Kind::Capture, 0, due_yen, now)?;
            } else {
                turn(sql, order, line, "leaving", "sent", now)?;
            }
            Ok(true)
        })?;
        if !ready {
            return Ok(Err(NotShipped::NotReady));
        }
        self.make_moves_of(order, now)?;
        let text =
            "SELECT line FROM shipments WHERE order_id = $1 AND line = $2 AND state = 'sent'";
        let is_sent = !self
            .database
            .read(|sql| sql.rows(text, &[order.into(), line.into()]))?
            .is_empty();
        Ok(if is_sent {
            Ok(())
        } else {
            Err(NotShipped::NotPaid)
        })
    }

    /// A disc has arrived.
    ///
    /// # Errors
    /// The store fails.
    pub fn delivered(&self, order: &str, line: i64, now: Millis) -> Result<bool, StoreFault> {
        self.database.write(|sql| {
            if !turn(sql, order, line, "sent", "delivered", now)? {
                return Ok(false);
            }
            let text = "UPDATE order_lines SET state = 'delivered' WHERE order_id = $1 AND line = $2 AND state = 'shipping'";
            Ok(sql.run(text, &[order.into(), line.into()])? == 1)
        })
    }
}

/// From one state to the next; false when it was not in the first.
pub(super) fn turn(
    sql: &mut dyn Sql,
    order: &str,
    line: i64,
    from: &str,
    to: &str,
    now: Millis,
) -> Result<bool, StoreFault> {
    let text = "UPDATE shipments SET state = $1, changed_ms = $2 WHERE order_id = $3 AND line = $4 AND state = $5";
    Ok(sql.run(
        text,
        &[
            to.into(),
            now.0.into(),
            order.into(),
            line.into(),
            from.into(),
        ],
    )? == 1)
}
