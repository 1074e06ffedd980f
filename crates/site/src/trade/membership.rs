//! The monthly membership: joined by an order, renewed by a charge, left when its member says so.
//!
//! Invariant: a month is charged once. The charge's id follows from the membership, the month and the try,
//! so that two jobs, or one after a crash, charge the same. While the site is closed nobody is charged, and
//! a month that begins late for that reason begins when it is paid.

use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};

use super::moves::{self, Kind};
use super::{Trade, mail};
use crate::asked::Millis;
use crate::member::{MemberId, Owned, derived_id};
use crate::store::{Row, Sql, StoreFault, Value};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// After a charge that was refused, the next is tried so much later; after the last, the membership ends.
const AGAIN_AFTER_MS: [i64; 3] = [DAY_MS, 3 * DAY_MS, 5 * DAY_MS];

/// What a member sees of their membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub state: MembershipState,
    pub price_yen: i64,
    pub since: Millis,
    pub paid_until: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipState {
    Active,
    /// It ends with the month that is paid.
    Leaving,
    /// The last charge was refused, and will be tried again.
    Due,
    Ended,
}

impl MembershipState {
    fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "active" => Ok(Self::Active),
            "leaving" => Ok(Self::Leaving),
            "due" => Ok(Self::Due),
            "ended" => Ok(Self::Ended),
            _ => Err(StoreFault::OurRow("a membership in no state")),
        }
    }
}

impl Trade {
    /// The membership that is, or the one that was last.
    ///
    /// # Errors
    /// The store fails.
    pub fn membership(&self, member: &MemberId) -> Result<Option<Owned<Membership>>, StoreFault> {
        let text = "SELECT state, price_yen, since_ms, paid_until_ms FROM memberships WHERE member = $1 \
                    ORDER BY since_ms DESC, id LIMIT 1";
        let one = |mut row: Row| {
            Ok::<_, StoreFault>(Membership {
                state: MembershipState::stored(&row.text()?)?,
                price_yen: row.int()?,
                since: Millis(row.int()?),
                paid_until: Millis(row.int()?),
            })
        };
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into()]))?;
        let found = rows.into_iter().next().map(one).transpose()?;
        Ok(found.map(|it| Owned::new(member.clone(), it)))
    }

    /// A member leaves: the membership ends with the month that is paid. Done twice, it is done once.
    ///
    /// # Errors
    /// The store fails.
    pub fn leave(&self, member: &MemberId) -> Result<bool, StoreFault> {
        self.turn_membership(member, "UPDATE memberships SET state = 'leaving' WHERE member = $1 AND state IN ('active', 'due')")
    }

    /// A member who was leaving stays.
    ///
    /// # Errors
    /// The store fails.
    pub fn stay(&self, member: &MemberId) -> Result<bool, StoreFault> {
        self.turn_membership(
            member,
            "UPDATE memberships SET state = 'active' WHERE member = $1 AND state = 'leaving'",
        )
    }

    fn turn_membership(&self, member: &MemberId, text: &str) -> Result<bool, StoreFault> {
        Ok(self
            .database
            .write(|sql| sql.run(text, &[member.text().into()]))?
            == 1)
    }

    /// Charges the months that begin now, and ends what ends. `allowed` is asked before each. How many
    /// memberships were looked at.
    pub(super) fn renew_all(
        &self,
        allowed: &dyn Fn() -> bool,
        now: Millis,
        at_once_max: i64,
    ) -> Result<u64, StoreFault> {
        let text = "SELECT id FROM memberships WHERE state <> 'ended' AND next_ms <= $1 ORDER BY next_ms, id LIMIT $2";
        let mut looked = 0;
        for mut row in self
            .database
            .read(|sql| sql.rows(text, &[now.0.into(), at_once_max.into()]))?
        {
            if !allowed() {
                break;
            }
            let id = row.text()?;
            if let Some(payment) = self.database.write(|sql| renew(sql, &id, now))? {
                self.make_moves_of(&payment, now)?;
            }
            looked += 1;
        }
        Ok(looked)
    }
}

/// A membership, as a renewal needs it.
struct Held {
    member: MemberId,
    product: String,
    state: MembershipState,
    price_yen: i64,
    mandate: String,
    anchor: Millis,
    months: i64,
    paid_until: Millis,
    tries: i64,
}

fn held(sql: &mut dyn Sql, id: &str) -> Result<Option<Held>, StoreFault> {
    let text = "SELECT member, product, state, price_yen, mandate, anchor_ms, months, paid_until_ms, tries FROM memberships WHERE id = $1";
    let one = |mut row: Row| {
        Ok(Held {
            member: MemberId::stored(row.text()?),
            product: row.text()?,
            state: MembershipState::stored(&row.text()?)?,
            price_yen: row.int()?,
            mandate: row.text()?,
            anchor: Millis(row.int()?),
            months: row.int()?,
            paid_until: Millis(row.int()?),
            tries: row.int()?,
        })
    };
    sql.rows(text, &[id.into()])?
        .into_iter()
        .next()
        .map(one)
        .transpose()
}

/// The payment that is to be charged, once for this month and this try.
fn renew(sql: &mut dyn Sql, id: &str, now: Millis) -> Result<Option<String>, StoreFault> {
    // Written first, so that two jobs follow one another; whoever comes second finds it later.
    let text =
        "UPDATE memberships SET next_ms = $1 WHERE id = $2 AND next_ms <= $3 AND state <> 'ended'";
    if sql.run(text, &[now.plus(DAY_MS).0.into(), id.into(), now.0.into()])? == 0 {
        return Ok(None);
    }
    let Some(held) = held(sql, id)? else {
        return Ok(None);
    };
    if held.state == MembershipState::Leaving {
        end(sql, id, &held.member)?;
        return Ok(None);
    }
    let payment = derived_id(&[
        "renewal",
        id,
        &held.paid_until.0.to_string(),
        &held.tries.to_string(),
    ]);
    let text = "INSERT INTO payments (id, member, amount_yen, state, reference, page, lang, mandate, whole_at_once, captured_yen, \
                refunded_yen, planned_ms, authorised_ms) VALUES ($1, $2, $3, 'planned', '', '', 'ja', $4, 1, 0, 0, $5, 0) \
                ON CONFLICT (id) DO NOTHING";
    let with = [
        Value::from(&payment),
        held.member.text().into(),
        held.price_yen.into(),
        Value::from(&held.mandate),
        now.0.into(),
    ];
    sql.run(text, &with)?;
    let text = "INSERT INTO renewals (payment, membership) VALUES ($1, $2) ON CONFLICT (payment) DO NOTHING";
    sql.run(text, &[Value::from(&payment), id.into()])?;
    moves::plan(sql, &payment, Kind::Charge, 0, held.price_yen, now)?;
    Ok(Some(payment))
}

/// A line with a month was ordered: its member is a monthly member.
pub(super) fn joined(
    sql: &mut dyn Sql,
    order: &str,
    member: &MemberId,
    product: &str,
    price_yen: i64,
    now: Millis,
) -> Result<(), StoreFault> {
    let mandate = sql.rows(
        "SELECT mandate FROM payments WHERE id = $1",
        &[order.into()],
    )?;
    let mandate = mandate
        .into_iter()
        .next()
        .map(|mut row| row.text())
        .transpose()?
        .unwrap_or_default();
    let until = months_after(now, 1);
    let text = "INSERT INTO memberships (id, member, product, state, price_yen, mandate, since_ms, anchor_ms, months, paid_until_ms, \
                next_ms, tries) VALUES ($1, $2, $3, 'active', $4, $5, $6, $7, 1, $8, $9, 0) ON CONFLICT (id) DO NOTHING";
    let with = [
        order.into(),
        member.text().into(),
        product.into(),
        price_yen.into(),
        Value::from(&mandate),
        now.0.into(),
        now.0.into(),
        until.0.into(),
        until.0.into(),
    ];
    sql.run(text, &with)?;
    let text = "UPDATE members SET status = 'monthly' WHERE id = $1 AND status = 'regular'";
    sql.run(text, &[member.text().into()]).map(drop)
}

/// A renewal was charged (under this name at the processor), or refused.
pub(super) fn charged(
    sql: &mut dyn Sql,
    payment: &str,
    reference: Option<&str>,
    now: Millis,
) -> Result<(), StoreFault> {
    let id = sql.rows(
        "SELECT membership FROM renewals WHERE payment = $1",
        &[payment.into()],
    )?;
    let id = id
        .into_iter()
        .next()
        .ok_or(StoreFault::OurRow("a charge that renews nothing"))?
        .text()?;
    let held = held(sql, &id)?.ok_or(StoreFault::OurRow("a renewal of nothing"))?;
    let Some(reference) = reference else {
        sql.run(
            "UPDATE payments SET state = 'refused' WHERE id = $1",
            &[payment.into()],
        )?;
        return refused(sql, &id, &held, now);
    };
    let text = "UPDATE payments SET state = 'captured', reference = $1, captured_yen = amount_yen, authorised_ms = $2 WHERE id = $3";
    sql.run(text, &[reference.into(), now.0.into(), payment.into()])?;
    let text = "INSERT INTO orders (id, member, placed_ms) VALUES ($1, $2, $3)";
    sql.run(
        text,
        &[payment.into(), held.member.text().into(), now.0.into()],
    )?;
    let text = "INSERT INTO order_lines (order_id, line, product, price_yen, state, points_yen) VALUES ($1, 1, $2, $3, 'bought', 0)";
    sql.run(
        text,
        &[
            payment.into(),
            Value::from(&held.product),
            held.price_yen.into(),
        ],
    )?;
    // Late because of the site and not of the card: the days without are not paid for.
    let is_late = held.tries == 0 && now >= held.paid_until.plus(DAY_MS);
    let (anchor, months) = if is_late {
        (now, 1)
    } else {
        (held.anchor, held.months + 1)
    };
    let until = months_after(anchor, months);
    let text = "UPDATE memberships SET state = $1, anchor_ms = $2, months = $3, paid_until_ms = $4, next_ms = $5, tries = 0 WHERE id = $6";
    let state = match held.state {
        MembershipState::Leaving => "leaving",
        // It was ended while the charge was under way: that month is theirs, and no more.
        MembershipState::Ended => "leaving",
        MembershipState::Active | MembershipState::Due => "active",
    };
    let with = [
        state.into(),
        anchor.0.into(),
        months.into(),
        until.0.into(),
        until.0.into(),
        Value::from(&id),
    ];
    sql.run(text, &with).map(drop)
}

fn refused(sql: &mut dyn Sql, id: &str, held: &Held, now: Millis) -> Result<(), StoreFault> {
    let tried = usize::try_from(held.tries).unwrap_or(usize::MAX);
    let again = AGAIN_AFTER_MS.get(tried);
    let words = match again {
        Some(after_ms) => {
            let text = "UPDATE memberships SET state = 'due', tries = tries + 1, next_ms = $1 WHERE id = $2 AND state IN ('active', 'due')";
            sql.run(text, &[now.plus(*after_ms).0.into(), id.into()])?;
            [
                "月額プランのお支払いについて / Your monthly plan",
                "お支払いができませんでした。数日のうちにもう一度お試しします。\nThe payment was not possible. We will try again within days.",
            ]
        }
        None => {
            end(sql, id, &held.member)?;
            [
                "月額プランの終了 / Your monthly plan has ended",
                "お支払いができなかったため、月額プランを終了しました。\nIt has ended, since no payment was possible.",
            ]
        }
    };
    let mail_id = derived_id(&[
        "dunning",
        id,
        &held.paid_until.0.to_string(),
        &held.tries.to_string(),
    ]);
    mail(sql, &mail_id, &held.member, words, now)
}

/// A line was cancelled: a membership that was joined by it ends. One that was renewed goes on, with a
/// month that was not paid for.
pub(super) fn cancelled_line(sql: &mut dyn Sql, order: &str, line: i64) -> Result<(), StoreFault> {
    let text = "SELECT m.member FROM memberships m JOIN order_lines l ON l.order_id = m.id AND l.product = m.product \
                WHERE l.order_id = $1 AND l.line = $2";
    match sql
        .rows(text, &[order.into(), line.into()])?
        .into_iter()
        .next()
    {
        Some(mut row) => end(sql, order, &MemberId::stored(row.text()?)),
        None => Ok(()),
    }
}

fn end(sql: &mut dyn Sql, id: &str, member: &MemberId) -> Result<(), StoreFault> {
    sql.run(
        "UPDATE memberships SET state = 'ended' WHERE id = $1",
        &[id.into()],
    )?;
    let text = "UPDATE members SET status = 'regular' WHERE id = $1 AND status = 'monthly'";
    sql.run(text, &[member.text().into()]).map(drop)
}

/// So many calendar months later, in Japan: from the 31st of a month to the last of a shorter one.
fn months_after(from: Millis, months: i64) -> Millis {
    let japan = TimeZone::fixed(Offset::constant(9));
    let zoned = Timestamp::from_millisecond(from.0)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(japan);
    let span = Span::new().try_months(months).unwrap_or_default();
    let later = zoned
        .checked_add(span)
        .map_or(from.plus(months * 30 * DAY_MS).0, |it| {
            it.timestamp().as_millisecond()
        });
    Millis(later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let at = |text: &str| Millis(text.parse::<Timestamp>().unwrap().as_millisecond());
        for (from, months, to) in [
            ("2026-11-01T03:00:00Z", 1, "2026-12-01T03:00:00Z"),
            ("2027-01-31T03:00:00Z", 1, "2027-02-28T03:00:00Z"),
            ("2027-01-31T03:00:00Z", 2, "2027-03-31T03:00:00Z"),
            ("2028-01-31T03:00:00Z", 1, "2028-02-29T03:00:00Z"),
            // 00:30 on the first of March in Japan is February elsewhere.
            ("2027-02-28T15:30:00Z", 1, "2027-03-31T15:30:00Z"),
        ] {
            assert_eq!(months_after(at(from), months), at(to), "{from}");
        }
    }
}
