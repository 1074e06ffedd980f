//! The ledger of points: entries that are only ever added.
//!
//! A grant has an amount, a reason, an earliest use and an end. Spending takes from grants, the one that
//! ends first before the others; giving back is a new grant. No number is kept that entries do not add
//! up to.
//!
//! Invariant: no grant is taken from beyond what it holds. Entries for an order have ids that follow
//! from what they are for, so that done twice they are one.

use crate::asked::Millis;
use crate::member::{MemberId, derived_id};
use crate::store::{Row, Sql, StoreFault, Value};

/// What is given back can be used for at least so long, also when its grant would have ended before.
const AT_LEAST_MS: i64 = 30 * 24 * 3600 * 1000;
/// Grants that one spending draws on.
const GRANTS_MAX: i64 = 200;

/// What points were spent for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent<'a> {
    pub(crate) order: &'a str,
    pub(crate) line: i64,
}

/// The points that can be used now.
pub(crate) fn usable(sql: &mut dyn Sql, member: &MemberId, now: Millis) -> Result<i64, StoreFault> {
    Ok(grants(sql, member, now)?.iter().map(|(_, left)| left).sum())
}

/// Grants that hold something now, whichever ends first before the others.
fn grants(
    sql: &mut dyn Sql,
    member: &MemberId,
    now: Millis,
) -> Result<Vec<(String, i64)>, StoreFault> {
    let text = "SELECT g.id, g.amount + CAST(COALESCE((SELECT SUM(e.amount) FROM points e WHERE e.of_grant = g.id), 0) AS BIGINT) \
                FROM points g WHERE g.member = $1 AND g.of_grant IS NULL AND g.usable_from_ms <= $2 AND g.expires_ms > $3 \
                ORDER BY g.expires_ms, g.id LIMIT $4";
    let rows = sql.rows(
        text,
        &[
            member.text().into(),
            now.0.into(),
            now.0.into(),
            GRANTS_MAX.into(),
        ],
    )?;
    let one = |mut row: Row| Ok((row.text()?, row.int()?));
    let mut found = rows
        .into_iter()
        .map(one)
        .collect::<Result<Vec<_>, StoreFault>>()?;
    found.retain(|(_, left)| *left > 0);
    Ok(found)
}

/// Spends points on a line of an order. False when there are not so many; then the caller undoes the
/// transaction or has written nothing yet.
pub(crate) fn spend(
    sql: &mut dyn Sql,
    member: &MemberId,
    amount: i64,
    on: Spent<'_>,
    now: Millis,
) -> Result<bool, StoreFault> {
    assert!(amount >= 0, "spending takes nothing that is below zero");
    let held = grants(sql, member, now)?;
    if held.iter().map(|(_, left)| left).sum::<i64>() < amount {
        return Ok(false);
    }
    let mut due = amount;
    for (grant, left) in held {
        let part = left.min(due);
        if part == 0 {
            break;
        }
        due -= part;
        let id = derived_id(&["spent", on.order, &on.line.to_string(), &grant]);
        let text = "INSERT INTO points (id, member, of_grant, amount, reason, at_ms, usable_from_ms, expires_ms) \
                    VALUES ($1, $2, $3, $4, 'order', $5, $6, $7)";
        let at = || Value::from(now.0);
        sql.run(
            text,
            &[
                Value::from(&id),
                member.text().into(),
                Value::from(&grant),
                (-part).into(),
                at(),
                at(),
                at(),
            ],
        )?;
        let text = "INSERT INTO points_spent (entry, order_id, line) VALUES ($1, $2, $3)";
        sql.run(text, &[Value::from(&id), on.order.into(), on.line.into()])?;
    }
    assert!(due == 0, "what was held covers what was due");
    Ok(true)
}

/// Gives back what was spent on a line: for each grant drawn on, a new one that ends when it did, or a
/// month from now where that is later.
pub(crate) fn give_back(sql: &mut dyn Sql, on: Spent<'_>, now: Millis) -> Result<(), StoreFault> {
    let text = "SELECT e.id, e.member, e.amount, g.expires_ms FROM points_spent s JOIN points e ON e.id = s.entry \
                JOIN points g ON g.id = e.of_grant WHERE s.order_id = $1 AND s.line = $2 ORDER BY e.id LIMIT $3";
    for mut row in sql.rows(text, &[on.order.into(), on.line.into(), GRANTS_MAX.into()])? {
        let (entry, member, amount, ends) = (
            row.text()?,
            MemberId::stored(row.text()?),
            row.int()?,
            row.int()?,
        );
        let grant = Grant {
            id: &derived_id(&["given back", &entry]),
            amount: -amount,
            reason: "returned",
            usable_from: now,
            expires: Millis(ends.max(now.plus(AT_LEAST_MS).0)),
        };
        grant.write(sql, &member, now)?;
    }
    Ok(())
}

/// Points that are given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) id: &'a str,
    pub(crate) amount: i64,
    pub(crate) reason: &'a str,
    pub(crate) usable_from: Millis,
    pub(crate) expires: Millis,
}

impl Grant<'_> {
    /// Writes it, unless it was written before.
    pub(crate) fn write(
        &self,
        sql: &mut dyn Sql,
        member: &MemberId,
        now: Millis,
    ) -> Result<bool, StoreFault> {
        assert!(self.amount > 0, "a grant gives something");
        let text = "INSERT INTO points (id, member, of_grant, amount, reason, at_ms, usable_from_ms, expires_ms) \
                    VALUES ($1, $2, NULL, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
        let with = [
            self.id.into(),
            member.text().into(),
            self.amount.into(),
            self.reason.into(),
            now.0.into(),
            self.usable_from.0.into(),
            self.expires.0.into(),
        ];
        Ok(sql.run(text, &with)? == 1)
    }
}

/// Points that can be used from the store's reopening on, and for `lasts_ms` from then: how long they
/// last is not used up while the store is closed.
#[derive(Clone, Copy, Debug)]
pub struct Promise<'a> {
    /// Of whoever promises; promised twice it is one.
    pub id: &'a str,
    pub amount: i64,
    pub reason: &'a str,
    pub lasts_ms: i64,
}

impl Promise<'_> {
    pub(crate) fn write(
        &self,
        sql: &mut dyn Sql,
        member: &MemberId,
        now: Millis,
    ) -> Result<bool, StoreFault> {
        let text = "INSERT INTO points_promised (id, member, amount, reason, lasts_ms, promised_ms, granted) \
                    VALUES ($1, $2, $3, $4, $5, $6, 0) ON CONFLICT (id) DO NOTHING";
        let with = [
            self.id.into(),
            member.text().into(),
            self.amount.into(),
            self.reason.into(),
            self.lasts_ms.into(),
            now.0.into(),
        ];
        Ok(sql.run(text, &with)? == 1)
    }
}

/// The store is open: what was promised becomes grants. How many did.
pub(crate) fn keep_promises(
    sql: &mut dyn Sql,
    now: Millis,
    at_once_max: i64,
) -> Result<u64, StoreFault> {
    let text = "SELECT id, member, amount, reason, lasts_ms FROM points_promised WHERE granted = 0 ORDER BY id LIMIT $1";
    let mut kept = 0;
    for mut row in sql.rows(text, &[at_once_max.into()])? {
        let (id, member, amount) = (row.text()?, MemberId::stored(row.text()?), row.int()?);
        let (reason, lasts_ms) = (row.text()?, row.int()?);
        let grant = Grant {
            id: &derived_id(&["promised", &id]),
            amount,
            reason: &reason,
            usable_from: now,
            expires: now.plus(lasts_ms),
        };
        grant.write(sql, &member, now)?;
        kept += sql.run(
            "UPDATE points_promised SET granted = 1 WHERE id = $1",
            &[Value::from(&id)],
        )?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Database, NewMember};

    const NOW: Millis = Millis(1_800_000_000_000);

    fn member() -> (Database, MemberId) {
        let store = crate::fresh::store();
        let new = NewMember {
            mail: "a@example.test",
            nickname: "A",
            password: "hash",
        };
        let member = store.desk.register(&new, NOW).unwrap().unwrap();
        (store.desk.database(), member)
    }

    fn grant(database: &Database, member: &MemberId, id: &str, amount: i64, lasts_ms: i64) {
        let grant = Grant {
            id,
            amount,
            reason: "welcome",
            usable_from: NOW,
            expires: NOW.plus(lasts_ms),
        };
        assert!(database.write(|sql| grant.write(sql, member, NOW)).unwrap());
        assert!(
            !database.write(|sql| grant.write(sql, member, NOW)).unwrap(),
            "once"
        );
    }

    #[test]
    fn what_ends_first_is_spent_first_and_comes_back_as_a_grant() {
        let (database, member) = member();
        grant(&database, &member, "late", 100, 2_000);
        grant(&database, &member, "soon", 50, 1_000);
        let usable = |later| {
            database
                .read(|sql| usable(sql, &member, NOW.plus(later)))
                .unwrap()
        };
        let on = |line| Spent { order: "o", line };
        let spend = |amount, line| {
            database
                .write(|sql| spend(sql, &member, amount, on(line), NOW))
                .unwrap()
        };
        assert_eq!((usable(0), usable(1_000), usable(2_000)), (150, 100, 0));
        assert!(!spend(151, 1), "there are not so many");
        assert!(spend(70, 1) && spend(0, 2));
        assert_eq!(
            (usable(0), usable(1_000)),
            (80, 80),
            "50 of the first, 20 of the other"
        );
        for _ in 0..2 {
            database.write(|sql| give_back(sql, on(1), NOW)).unwrap();
            assert_eq!(
                (usable(0), usable(2_000)),
                (150, 70),
                "given back once, and for a month"
            );
        }
        database.write(|sql| give_back(sql, on(2), NOW)).unwrap();
        assert_eq!(usable(0), 150, "nothing was spent there");
    }

    #[test]
    fn what_is_promised_begins_when_the_store_reopens() {
        let (database, member) = member();
        for _ in 0..2 {
            database
                .write(|sql| {
                    Promise {
                        id: "p",
                        amount: 500,
                        reason: "incident",
                        lasts_ms: 1_000,
                    }
                    .write(sql, &member, NOW)
                })
                .unwrap();
        }
        let usable = |at| database.read(|sql| usable(sql, &member, at)).unwrap();
        let reopened = NOW.plus(50_000);
        assert_eq!((usable(NOW), usable(reopened)), (0, 0));
        for kept in [1, 0] {
            assert_eq!(
                database
                    .write(|sql| keep_promises(sql, reopened, 100))
                    .unwrap(),
                kept
            );
        }
        assert_eq!(
            (
                usable(reopened),
                usable(reopened.plus(999)),
                usable(reopened.plus(1_000))
            ),
            (500, 500, 0)
        );
    }
}
