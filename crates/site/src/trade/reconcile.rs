//! Our books against the processor's.
//!
//! Invariant: neither side is believed. What only one of them has, or both with other amounts, is listed;
//! what is being asked for at this moment is no difference yet.

use std::collections::BTreeMap;

use super::Trade;
use crate::asked::Millis;
use crate::pay::{Booked, Booking, Trouble};
use crate::store::{Row, StoreFault};

/// Moves that one reconciliation looks at.
const MOVES_MAX: i64 = 1_000_000;

/// Something that the two books do not say alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The processor booked what we do not know of.
    OnlyTheirs(Booked),
    /// We believe to be done what the processor has not booked.
    OnlyOurs(Booked),
    Amount {
        ours_yen: i64,
        theirs: Booked,
    },
}

/// Why the books cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum NotCompared {
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error(transparent)]
    Processor(#[from] Trouble),
}

/// One movement of money, under the name by which both sides know it.
type Name = (String, Booking, String);
type Books = BTreeMap<Name, Booked>;

impl Trade {
    /// What differs, of what moved since `from`.
    ///
    /// # Errors
    /// See [`NotCompared`].
    pub fn reconcile(&self, from: Millis) -> Result<Vec<Difference>, NotCompared> {
        // Ours first: what is finished between the two readings is then theirs alone and under way.
        let (ours, under_way) = self.our_books(from)?;
        let mut theirs = BTreeMap::new();
        for booked in self.processor.statement(from)? {
            theirs.insert(name(&booked), booked);
        }
        let mut found = Vec::new();
        for (name, booked) in &ours {
            match theirs.remove(name) {
                None => found.push(Difference::OnlyOurs(booked.clone())),
                Some(it) if it.amount_yen != booked.amount_yen => {
                    found.push(Difference::Amount {
                        ours_yen: booked.amount_yen,
                        theirs: it,
                    });
                }
                Some(_) => {}
            }
        }
        theirs.retain(|name, _| !under_way.contains_key(name));
        found.extend(theirs.into_values().map(Difference::OnlyTheirs));
        Ok(found)
    }

    /// What is done, and what is under way.
    fn our_books(&self, from: Millis) -> Result<(Books, Books), StoreFault> {
        let text = "SELECT m.id, p.reference, m.kind, m.amount_yen, m.state FROM moves m JOIN payments p ON p.id = m.payment \
                    WHERE m.kind <> 'void' AND m.state <> 'refused' AND m.called_ms >= $1 ORDER BY m.id LIMIT $2";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[from.0.into(), MOVES_MAX.into()]))?;
        let (mut done, mut under_way) = (Books::new(), Books::new());
        let one = |mut row: Row| {
            let (key, reference) = (row.text()?, row.text()?);
            let what = match row.text()?.as_str() {
                "refund" => Booking::Refund,
                _ => Booking::Capture,
            };
            let booked = Booked {
                reference,
                what,
                amount_yen: row.int()?,
                key,
            };
            Ok::<_, StoreFault>((booked, row.text()? == "done"))
        };
        for row in rows {
            let (booked, is_done) = one(row)?;
            let side = if is_done { &mut done } else { &mut under_way };
            side.insert(name(&booked), booked);
        }
        Ok((done, under_way))
    }
}

/// A payment is captured once, so its name is enough; refunds are told apart by our key.
fn name(booked: &Booked) -> Name {
    let key = match booked.what {
        Booking::Capture => String::new(),
        Booking::Refund => booked.key.clone(),
    };
    (booked.reference.clone(), booked.what, key)
}
