//! From a cart to a checkout: frozen lines, points spent, a payment planned, in one transaction.
//!
//! Invariant: a form is placed once. Its key was minted with the page; whoever sends it again, at once or
//! later, is told of the same checkout.

use super::{Trade, cart, mail, membership};
use crate::asked::{Lang, Millis};
use crate::member::{MemberId, derived_id};
use crate::points::{self, Spent};
use crate::store::{ProductKind, Row, Sql, StoreFault, Value};

/// What a member sends to buy what is in the cart.
#[derive(Clone, Copy)]
pub struct Placing<'a> {
    /// Minted with the page.
    pub form: &'a str,
    /// [`Cart::digest`](super::Cart::digest) of what was shown.
    pub seen: &'a str,
    /// Points to be used, one for a yen.
    pub points: i64,
    pub lang: Lang,
}

/// A checkout, and whether anything is left to pay by card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub id: String,
    pub by_card: bool,
}

/// Why a checkout was not placed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPlaced {
    Empty,
    /// The cart or a price is no longer what the page showed.
    Changed,
    /// There are not so many points, or the cart is worth less.
    Points,
    /// A disc needs an address.
    NoAddress,
    /// A member already.
    AlreadyMonthly,
    /// They are about to be one: another checkout with a month waits to be paid for.
    Joining,
    /// A form key that no page of ours could have minted.
    BadForm,
}

/// A frozen line.
pub(super) struct Frozen {
    pub(super) line: i64,
    pub(super) product: String,
    pub(super) kind: ProductKind,
    pub(super) price_yen: i64,
    pub(super) points_yen: i64,
}

impl Trade {
    /// Places what is in the cart.
    ///
    /// # Errors
    /// The store fails; then nothing was changed.
    pub fn place(
        &self,
        member: &MemberId,
        placing: &Placing<'_>,
        now: Millis,
    ) -> Result<Result<Placed, NotPlaced>, StoreFault> {
        let is_key =
            placing.form.len() == 20 && placing.form.bytes().all(|it| it.is_ascii_alphanumeric());
        if !is_key {
            return Ok(Err(NotPlaced::BadForm));
        }
        self.database.write(|sql| place(sql, member, placing, now))
    }
}

fn place(
    sql: &mut dyn Sql,
    member: &MemberId,
    placing: &Placing<'_>,
    now: Millis,
) -> Result<Result<Placed, NotPlaced>, StoreFault> {
    // The member's row is written first, so that two checkouts of one member follow one another on
    // engines whose writers do not.
    sql.run(
        "UPDATE members SET status = status WHERE id = $1",
        &[member.text().into()],
    )?;
    let id = derived_id(&["checkout", member.text(), placing.form]);
    if !sql
        .rows(
            "SELECT id FROM checkouts WHERE id = $1",
            &[Value::from(&id)],
        )?
        .is_empty()
    {
        let by_card = !sql
            .rows("SELECT id FROM payments WHERE id = $1", &[Value::from(&id)])?
            .is_empty();
        return Ok(Ok(Placed { id, by_card }));
    }
    let cart = cart::read(sql, member)?;
    if let Some(why) = refused(sql, member, &cart, placing, now)? {
        return Ok(Err(why));
    }
    let text =
        "INSERT INTO checkouts (id, member, form, state, begun_ms) VALUES ($1, $2, $3, 'open', $4)";
    sql.run(
        text,
        &[
            Value::from(&id),
            member.text().into(),
            placing.form.into(),
            now.0.into(),
        ],
    )?;
    let mut points_left = placing.points;
    for (line, it) in (1_i64..).zip(&cart.lines) {
        // Points do not renew, so a month is paid for by card.
        let points_yen = match it.kind {
            ProductKind::Monthly => 0,
            _ => points_left.min(it.price_yen),
        };
        points_left -= points_yen;
        let text = "INSERT INTO checkout_lines (checkout, line, product, kind, price_yen, points_yen) \
                    VALUES ($1, $2, $3, $4, $5, $6)";
        let kind = it.kind.text();
        let with = [
            Value::from(&id),
            line.into(),
            Value::from(&it.product),
            kind.into(),
            it.price_yen.into(),
            points_yen.into(),
        ];
        sql.run(text, &with)?;
        let spent = points::spend(sql, member, points_yen, Spent { order: &id, line }, now)?;
        assert!(spent, "there were so many points in this transaction");
    }
    sql.run(
        "DELETE FROM carts WHERE member = $1",
        &[member.text().into()],
    )?;
    let by_card_yen = cart.total_yen() - placing.points;
    if by_card_yen == 0 {
        ordered(sql, &id, now)?;
        return Ok(Ok(Placed { id, by_card: false }));
    }
    // What can be watched at once is taken at once; discs are paid for as they are sent.
    let whole_at_once = i64::from(cart.lines.iter().any(|it| it.kind != ProductKind::Disc));
    let text = "INSERT INTO payments (id, member, amount_yen, state, reference, page, lang, mandate, whole_at_once, captured_yen, \
                refunded_yen, planned_ms, authorised_ms) VALUES ($1, $2, $3, 'planned', '', '', $4, '', $5, 0, 0, $6, 0)";
    let with = [
        Value::from(&id),
        member.text().into(),
        by_card_yen.into(),
        placing.lang.code().into(),
        whole_at_once.into(),
        now.0.into(),
    ];
    sql.run(text, &with)?;
    Ok(Ok(Placed { id, by_card: true }))
}

fn refused(
    sql: &mut dyn Sql,
    member: &MemberId,
    cart: &super::Cart,
    placing: &Placing<'_>,
    now: Millis,
) -> Result<Option<NotPlaced>, StoreFault> {
    if cart.lines.is_empty() {
        return Ok(Some(NotPlaced::Empty));
    }
    if cart.digest() != placing.seen {
        return Ok(Some(NotPlaced::Changed));
    }
    let usable = points::usable(sql, member, now)?;
    if !(0..=usable.min(cart.by_points_max())).contains(&placing.points) {
        return Ok(Some(NotPlaced::Points));
    }
    let address = "SELECT member FROM deliveries WHERE member = $1";
    if cart.has_discs() && sql.rows(address, &[member.text().into()])?.is_empty() {
        return Ok(Some(NotPlaced::NoAddress));
    }
    let joins = cart.lines.iter().any(|it| it.kind == ProductKind::Monthly);
    let text = "SELECT id FROM members WHERE id = $1 AND status = 'monthly'";
    if joins && !sql.rows(text, &[member.text().into()])?.is_empty() {
        return Ok(Some(NotPlaced::AlreadyMonthly));
    }
    let text = "SELECT c.id FROM checkouts c JOIN checkout_lines l ON l.checkout = c.id \
                WHERE c.member = $1 AND c.state = 'open' AND l.kind = 'monthly' LIMIT 1";
    if joins && !sql.rows(text, &[member.text().into()])?.is_empty() {
        return Ok(Some(NotPlaced::Joining));
    }
    Ok(None)
}

pub(super) fn frozen(sql: &mut dyn Sql, checkout: &str) -> Result<Vec<Frozen>, StoreFault> {
    let text = "SELECT line, product, kind, price_yen, points_yen FROM checkout_lines WHERE checkout = $1 ORDER BY line";
    let one = |mut row: Row| {
        Ok(Frozen {
            line: row.int()?,
            product: row.text()?,
            kind: ProductKind::stored(&row.text()?)?,
            price_yen: row.int()?,
            points_yen: row.int()?,
        })
    };
    sql.rows(text, &[checkout.into()])?
        .into_iter()
        .map(one)
        .collect()
}

/// Whose a checkout is.
fn buyer(sql: &mut dyn Sql, checkout: &str) -> Result<MemberId, StoreFault> {
    let text = "SELECT member FROM checkouts WHERE id = $1";
    let row = sql.rows(text, &[checkout.into()])?.into_iter().next();
    let mut row = row.ok_or(StoreFault::OurRow("a checkout of nobody"))?;
    Ok(MemberId::stored(row.text()?))
}

/// A checkout becomes an order, once: what can be watched can be watched, what is to be sent is prepared.
pub(super) fn ordered(sql: &mut dyn Sql, checkout: &str, now: Millis) -> Result<(), StoreFault> {
    let text = "UPDATE checkouts SET state = 'ordered' WHERE id = $1 AND state = 'open'";
    if sql.run(text, &[checkout.into()])? == 0 {
        return Ok(());
    }
    let member = buyer(sql, checkout)?;
    let text = "INSERT INTO orders (id, member, placed_ms) VALUES ($1, $2, $3)";
    sql.run(text, &[checkout.into(), member.text().into(), now.0.into()])?;
    for it in frozen(sql, checkout)? {
        let state = if it.kind == ProductKind::Disc {
            "shipping"
        } else {
            "bought"
        };
        let text = "INSERT INTO order_lines (order_id, line, product, price_yen, state, points_yen) \
                    VALUES ($1, $2, $3, $4, $5, $6)";
        let with = [
            checkout.into(),
            it.line.into(),
            Value::from(&it.product),
            it.price_yen.into(),
            state.into(),
            it.points_yen.into(),
        ];
        sql.run(text, &with)?;
        if it.kind == ProductKind::Monthly {
            membership::joined(sql, checkout, &member, &it.product, it.price_yen, now)?;
        }
        if it.kind == ProductKind::Disc {
            let text = "INSERT INTO shipments (order_id, line, state, changed_ms) VALUES ($1, $2, 'preparing', $3)";
            sql.run(text, &[checkout.into(), it.line.into(), now.0.into()])?;
        }
    }
    let words = [
        "ご注文を承りました / Your order",
        "ご注文の内容は購入履歴でご確認ください。\nPlease see your purchases for what you ordered.",
    ];
    mail(
        sql,
        &derived_id(&["ordered", checkout]),
        &member,
        words,
        now,
    )
}

/// Nothing will be paid: points come back, and so do the lines, into the cart.
pub(super) fn failed(sql: &mut dyn Sql, checkout: &str, now: Millis) -> Result<(), StoreFault> {
    let text = "UPDATE checkouts SET state = 'failed' WHERE id = $1 AND state = 'open'";
    if sql.run(text, &[checkout.into()])? == 0 {
        return Ok(());
    }
    let member = buyer(sql, checkout)?;
    for it in frozen(sql, checkout)? {
        points::give_back(
            sql,
            Spent {
                order: checkout,
                line: it.line,
            },
            now,
        )?;
        let text = "INSERT INTO carts (member, product, added_ms) VALUES ($1, $2, $3) ON CONFLICT (member, product) DO NOTHING";
        sql.run(
            text,
            &[member.text().into(), Value::from(&it.product), now.0.into()],
        )?;
    }
    Ok(())
}
