//! What is asked of the processor, written down first.
//!
//! A move is planned in the transaction that makes it due; it is claimed, asked for, and done or refused.
//! Whoever finds one that was claimed and never finished looks at the processor's books before asking
//! again.
//!
//! Invariant: a move's effects on orders and points are made in the transaction that marks it done, and
//! only by whoever marks it.

use super::Trade;
use super::settle::effects;
use crate::asked::Millis;
use crate::member::derived_id;
use crate::pay::{Ask, Charge, Seen, Standing, Trouble};
use crate::store::{Row, Sql, StoreFault, Value};

/// For how long a move that was asked for is left to whoever asked.
pub(super) const CLAIM_MS: i64 = 30 * 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Charge,
    Capture,
    Void,
    Refund,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }

    fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "charge" => Ok(Self::Charge),
            "capture" => Ok(Self::Capture),
            "void" => Ok(Self::Void),
            "refund" => Ok(Self::Refund),
            _ => Err(StoreFault::OurRow("a move of no kind")),
        }
    }
}

/// A move that was claimed.
pub(super) struct Move {
    pub(super) id: String,
    pub(super) payment: String,
    pub(super) kind: Kind,
    pub(super) line: i64,
    pub(super) amount_yen: i64,
    tries: i64,
    reference: String,
    mandate: String,
}

/// Plans a move. Planned twice it is one.
pub(super) fn plan(
    sql: &mut dyn Sql,
    payment: &str,
    kind: Kind,
    line: i64,
    amount_yen: i64,
    now: Millis,
) -> Result<(), StoreFault> {
    let id = derived_id(&["move", payment, kind.text(), &line.to_string()]);
    let text = "INSERT INTO moves (id, payment, kind, line, amount_yen, state, tries, planned_ms, called_ms) \
                VALUES ($1, $2, $3, $4, $5, 'planned', 0, $6, 0) ON CONFLICT (id) DO NOTHING";
    let with = [
        Value::from(&id),
        payment.into(),
        kind.text().into(),
        line.into(),
        amount_yen.into(),
        now.0.into(),
    ];
    sql.run(text, &with).map(drop)
}

/// Whether a move of this kind was planned and is not finished.
pub(super) fn is_under_way(
    sql: &mut dyn Sql,
    payment: &str,
    kind: Kind,
) -> Result<bool, StoreFault> {
    let text = "SELECT id FROM moves WHERE payment = $1 AND kind = $2 AND state IN ('planned', 'called') LIMIT 1";
    Ok(!sql
        .rows(text, &[payment.into(), kind.text().into()])?
        .is_empty())
}

impl Trade {
    /// Makes the moves of a payment that are due.
    pub(super) fn make_moves_of(&self, payment: &str, now: Millis) -> Result<(), StoreFault> {
        let text = "SELECT id FROM moves WHERE payment = $1 AND state IN ('planned', 'called') ORDER BY planned_ms, id LIMIT 100";
        self.make_all(text, &[payment.into()], &|| true, now)
            .map(drop)
    }

    /// Makes moves that are due, of whatever payment. `allowed` is asked before each. How many were tried.
    pub(super) fn make_due_moves(
        &self,
        allowed: &dyn Fn() -> bool,
        now: Millis,
        at_once_max: i64,
    ) -> Result<u64, StoreFault> {
        let text = "SELECT id FROM moves WHERE state = 'planned' OR (state = 'called' AND called_ms <= $1) \
                    ORDER BY called_ms, id LIMIT $2";
        self.make_all(
            text,
            &[now.plus(-CLAIM_MS).0.into(), at_once_max.into()],
            allowed,
            now,
        )
    }

    fn make_all(
        &self,
        text: &str,
        with: &[Value],
        allowed: &dyn Fn() -> bool,
        now: Millis,
    ) -> Result<u64, StoreFault> {
        let ids = self.database.read(|sql| sql.rows(text, with))?;
        let mut tried = 0;
        for mut row in ids {
            if !allowed() {
                break;
            }
            if let Some(claimed) = self.claim(&row.text()?, now)? {
                tried += 1;
                self.make(&claimed, now)?;
            }
        }
        Ok(tried)
    }

    /// One asker at a time: whoever changes the row.
    fn claim(&self, id: &str, now: Millis) -> Result<Option<Move>, StoreFault> {
        self.database.write(|sql| {
            let text = "UPDATE moves SET state = 'called', tries = tries + 1, called_ms = $1 \
                        WHERE id = $2 AND (state = 'planned' OR (state = 'called' AND called_ms <= $3))";
            let with = [now.0.into(), id.into(), now.plus(-CLAIM_MS).0.into()];
            if sql.run(text, &with)? == 0 {
                return Ok(None);
            }
            let text = "SELECT m.id, m.payment, m.kind, m.line, m.amount_yen, m.tries, p.reference, p.mandate \
                        FROM moves m JOIN payments p ON p.id = m.payment WHERE m.id = $1";
            let one = |mut row: Row| {
                Ok(Move {
                    id: row.text()?,
                    payment: row.text()?,
                    kind: Kind::stored(&row.text()?)?,
                    line: row.int()?,
                    amount_yen: row.int()?,
                    tries: row.int()?,
                    reference: row.text()?,
                    mandate: row.text()?,
                })
            };
            sql.rows(text, &[id.into()])?.into_iter().next().map(one).transpose()
        })
    }

    fn make(&self, claimed: &Move, now: Millis) -> Result<(), StoreFault> {
        let came = match claimed.tries {
            1 => self.ask(claimed, now),
            // It was asked for before, perhaps: look, then ask.
            _ => match self.look_for(claimed, now) {
                Ok(Some(seen)) => Ok(seen),
                Ok(None) => self.ask(claimed, now),
                Err(trouble) => Err(trouble),
            },
        };
        match came {
            Ok(reference) => self.finish(claimed, Some(&reference), now),
            Err(Trouble::Refused(why)) => {
                tracing::warn!(
                    kind = claimed.kind.text(),
                    why,
                    "the processor refused a move"
                );
                self.finish(claimed, None, now)
            }
            Err(Trouble::Unknown(why)) => {
                tracing::info!(kind = claimed.kind.text(), why, "a move will be looked up");
                Ok(())
            }
        }
    }

    /// The payment's name at the processor, once the move was made.
    fn ask(&self, claimed: &Move, now: Millis) -> Result<Seen, Trouble> {
        let ask = Ask {
            reference: &claimed.reference,
            key: &claimed.id,
            amount_yen: claimed.amount_yen,
        };
        let bare = |standing| Seen {
            reference: claimed.reference.clone(),
            standing,
            captured_yen: 0,
            refunds: Vec::new(),
            mandate: String::new(),
        };
        match claimed.kind {
            Kind::Charge => self.processor.charge(&claimed.charge(), now),
            Kind::Capture => self
                .processor
                .capture(&ask, now)
                .map(|()| bare(Standing::Captured)),
            Kind::Void => self
                .processor
                .void(&ask, now)
                .map(|()| bare(Standing::Voided)),
            Kind::Refund => self
                .processor
                .refund(&ask, now)
                .map(|()| bare(Standing::Captured)),
        }
    }

    /// What the processor's books say, if the move is in them.
    fn look_for(&self, claimed: &Move, now: Millis) -> Result<Option<Seen>, Trouble> {
        if claimed.kind == Kind::Charge {
            return self.processor.charged(&claimed.charge(), now);
        }
        let Some(seen) = self.processor.look(&claimed.reference, now)? else {
            return Err(Trouble::Refused("no such payment".to_owned()));
        };
        let is_made = match claimed.kind {
            Kind::Capture => seen.standing == Standing::Captured,
            Kind::Void => matches!(seen.standing, Standing::Voided | Standing::Refused),
            Kind::Refund => seen.refunds.iter().any(|(key, _)| *key == claimed.id),
            Kind::Charge => false,
        };
        Ok(is_made.then_some(seen))
    }

    /// Marks it and lets it have its effects, in one transaction. `None`: it was refused.
    fn finish(&self, claimed: &Move, made: Option<&Seen>, now: Millis) -> Result<(), StoreFault> {
        self.database.write(|sql| {
            let state = if made.is_some() { "done" } else { "refused" };
            let text = "UPDATE moves SET state = $1 WHERE id = $2 AND state = 'called'";
            if sql.run(text, &[state.into(), Value::from(&claimed.id)])? == 0 {
                return Ok(());
            }
            effects(sql, claimed, made, now)
        })
    }
}

impl Move {
    fn charge(&self) -> Charge<'_> {
        Charge {
            mandate: &self.mandate,
            key: &self.id,
            amount_yen: self.amount_yen,
        }
    }
}
