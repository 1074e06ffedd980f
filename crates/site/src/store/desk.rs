//! Members and what is theirs.
//!
//! Invariant: every reading of a member's data takes their [`MemberId`] and gives [`Owned`]; there is
//! no query that finds somebody's data by its own id alone. Sessions are kept by digest, passwords by
//! their hash; a session's value is new after each login and each confirmation.

use super::{Database, Row, Sql, StoreFault, Value};
use crate::asked::{Millis, Token};
use crate::member::{MemberId, Owned, fresh_id};

/// Members' data.
pub struct Desk {
    pub(super) database: Database,
}

/// How long a session lasts.
const SESSION_MS: i64 = 14 * 24 * 3600 * 1000;
/// The longest lists that a page shows.
const ROWS_MAX: i64 = 200;

/// Who has a session.
#[derive(Clone, Debug)]
pub struct Session {
    pub member: MemberId,
    /// When the password was given last.
    pub confirmed: Millis,
}

/// Who wants to be a member. It does not print.
pub struct NewMember<'a> {
    /// In small letters.
    pub mail: &'a str,
    pub nickname: &'a str,
    /// The password's hash.
    pub password: &'a str,
}

/// The mail address is some member's already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Regular,
    Monthly,
    Withdrawn,
}

/// What the account page opens with. It does not print: it comes as [`Owned`].
#[derive(Clone)]
pub struct Profile {
    pub mail: String,
    pub nickname: String,
    pub status: Status,
    pub joined: Millis,
}

/// Where discs are sent.
#[derive(Clone, Default)]
pub struct Delivery {
    pub name: String,
    pub postcode: String,
    pub address: String,
    pub phone: String,
}

/// An order with its lines.
#[derive(Clone)]
pub struct Order {
    pub id: String,
    pub placed: Millis,
    pub lines: Vec<Line>,
}

#[derive(Clone)]
pub struct Line {
    pub product: String,
    /// Japanese, English.
    pub title: [String; 2],
    pub price_yen: i64,
    pub state: LineState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    Bought,
    Shipping,
    Delivered,
    Cancelled,
}

/// An entry of the points ledger.
#[derive(Clone)]
pub struct PointsEntry {
    pub amount: i64,
    pub reason: String,
    pub at: Millis,
    pub usable_from: Millis,
    pub expires: Millis,
}

/// A review, as its writer lists it.
#[derive(Clone)]
pub struct OwnReview {
    pub product: String,
    pub title: [String; 2],
    pub stars: i64,
    pub text: String,
    pub written: Millis,
}

/// A product that was watched.
#[derive(Clone)]
pub struct Seen {
    pub product: String,
    pub title: [String; 2],
    pub last: Millis,
}

impl Desk {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// The same database, for what is done with money.
    pub(crate) fn database(&self) -> Database {
        self.database.clone()
    }

    /// # Errors
    /// The store fails.
    pub fn register(
        &self,
        new: &NewMember<'_>,
        now: Millis,
    ) -> Result<Result<MemberId, Taken>, StoreFault> {
        let id = MemberId::fresh();
        let text = "INSERT INTO members (id, mail, nickname, password, status, joined_ms) \
                    VALUES ($1, $2, $3, $4, 'regular', $5) ON CONFLICT (mail) DO NOTHING";
        let with = [
            id.text().into(),
            new.mail.into(),
            new.nickname.into(),
            new.password.into(),
            now.0.into(),
        ];
        let made = self.database.write(|sql| sql.run(text, &with))?;
        Ok(if made == 1 { Ok(id) } else { Err(Taken) })
    }

    /// The member of a mail address and the hash of their password.
    ///
    /// # Errors
    /// The store fails.
    pub fn credentials(&self, mail: &str) -> Result<Option<(MemberId, String)>, StoreFault> {
        let text = "SELECT id, password FROM members WHERE mail = $1 AND status <> 'withdrawn'";
        let rows = self.database.read(|sql| sql.rows(text, &[mail.into()]))?;
        let one = |mut row: Row| Ok((MemberId::stored(row.text()?), row.text()?));
        rows.into_iter().next().map(one).transpose()
    }

    /// The hash of a member's password.
    ///
    /// # Errors
    /// The store fails.
    pub fn password(&self, member: &MemberId) -> Result<Option<String>, StoreFault> {
        let text = "SELECT password FROM members WHERE id = $1";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into()]))?;
        rows.into_iter()
            .next()
            .map(|mut row| row.text())
            .transpose()
    }

    /// Begins a session under a new value. The one that the browser had before ends with it, whosever
    /// it was: who planted a cookie has nothing of it.
    ///
    /// # Errors
    /// The store fails.
    pub fn begin_session(
        &self,
        member: &MemberId,
        before: Option<&Token>,
        now: Millis,
    ) -> Result<Token, StoreFault> {
        let token = Token::fresh();
        let text = "INSERT INTO sessions (digest, member, begun_ms, confirmed_ms, ends_ms) \
                    VALUES ($1, $2, $3, $4, $5)";
        let digest = token.digest();
        let with = [
            Value::from(&digest),
            member.text().into(),
            now.0.into(),
            now.0.into(),
            now.plus(SESSION_MS).0.into(),
        ];
        self.database.write(|sql| {
            end(sql, before)?;
            sql.run("DELETE FROM sessions WHERE ends_ms <= $1", &[now.0.into()])?;
            sql.run(text, &with)
        })?;
        Ok(token)
    }

    /// # Errors
    /// The store fails.
    pub fn end_session(&self, token: Option<&Token>) -> Result<(), StoreFault> {
        self.database.write(|sql| end(sql, token))
    }

    /// Whose session a token is.
    ///
    /// # Errors
    /// The store fails.
    pub fn session(
        &self,
        token: Option<&Token>,
        now: Millis,
    ) -> Result<Option<Session>, StoreFault> {
        let Some(token) = token else { return Ok(None) };
        let text = "SELECT s.member, s.confirmed_ms FROM sessions s JOIN members m ON m.id = s.member \
                    WHERE s.digest = $1 AND s.ends_ms > $2 AND m.status <> 'withdrawn'";
        let with = [Value::from(&token.digest()), now.0.into()];
        let rows = self.database.read(|sql| sql.rows(text, &with))?;
        let one = |mut row: Row| {
            Ok(Session {
                member: MemberId::stored(row.text()?),
                confirmed: Millis(row.int()?),
            })
        };
        rows.into_iter().next().map(one).transpose()
    }

    /// # Errors
    /// The store fails, or there is no such member.
    pub fn profile(&self, member: &MemberId) -> Result<Owned<Profile>, StoreFault> {
        let text = "SELECT id, mail, nickname, status, joined_ms FROM members WHERE id = $1";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into()]))?;
        let mut row = rows
            .into_iter()
            .next()
            .ok_or(StoreFault::OurRow("a session of no member"))?;
        let owner = MemberId::stored(row.text()?);
        let (mail, nickname) = (row.text()?, row.text()?);
        let status = match row.text()?.as_str() {
            "regular" => Status::Regular,
            "monthly" => Status::Monthly,
            "withdrawn" => Status::Withdrawn,
            _ => return Err(StoreFault::OurRow("a member of no status")),
        };
        Ok(Owned::new(
            owner,
            Profile {
                mail,
                nickname,
                status,
                joined: Millis(row.int()?),
            },
        ))
    }

    /// # Errors
    /// The store fails.
    pub fn delivery(&self, member: &MemberId) -> Result<Owned<Delivery>, StoreFault> {
        let text =
            "SELECT member, name, postcode, address, phone FROM deliveries WHERE member = $1";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into()]))?;
        let Some(mut row) = rows.into_iter().next() else {
            return Ok(Owned::new(member.clone(), Delivery::default()));
        };
        let owner = MemberId::stored(row.text()?);
        let delivery = Delivery {
            name: row.text()?,
            postcode: row.text()?,
            address: row.text()?,
            phone: row.text()?,
        };
        Ok(Owned::new(owner, delivery))
    }

    /// # Errors
    /// The store fails.
    pub fn set_delivery(&self, member: &MemberId, to: &Delivery) -> Result<(), StoreFault> {
        let text = "INSERT INTO deliveries (member, name, postcode, address, phone) VALUES ($1, $2, $3, $4, $5) \
                    ON CONFLICT (member) DO UPDATE SET name = excluded.name, postcode = excluded.postcode, \
                    address = excluded.address, phone = excluded.phone";
        let with = [
            member.text().into(),
            (&to.name).into(),
            (&to.postcode).into(),
            (&to.address).into(),
            (&to.phone).into(),
        ];
        self.database.write(|sql| sql.run(text, &with)).map(drop)
    }

    /// The newest orders, with their lines.
    ///
    /// # Errors
    /// The store fails.
    pub fn orders(&self, member: &MemberId) -> Result<Owned<Vec<Order>>, StoreFault> {
        let text = "SELECT o.id, o.placed_ms, l.product, p.title_ja, p.title_en, l.price_yen, l.state \
                    FROM orders o JOIN order_lines l ON l.order_id = o.id JOIN products p ON p.id = l.product \
                    WHERE o.member = $1 ORDER BY o.placed_ms DESC, o.id, l.line LIMIT $2";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into(), ROWS_MAX.into()]))?;
        Ok(Owned::new(member.clone(), grouped(rows)?))
    }

    /// One order of this member's.
    ///
    /// # Errors
    /// The store fails.
    pub fn order(&self, member: &MemberId, id: &str) -> Result<Option<Owned<Order>>, StoreFault> {
        let text = "SELECT o.id, o.placed_ms, l.product, p.title_ja, p.title_en, l.price_yen, l.state \
                    FROM orders o JOIN order_lines l ON l.order_id = o.id JOIN products p ON p.id = l.product \
                    WHERE o.member = $1 AND o.id = $2 ORDER BY l.line LIMIT $3";
        let with = [member.text().into(), id.into(), ROWS_MAX.into()];
        let rows = self.database.read(|sql| sql.rows(text, &with))?;
        Ok(grouped(rows)?
            .pop()
            .map(|order| Owned::new(member.clone(), order)))
    }

    /// The points that can be used now: what of each grant is neither spent nor taken back.
    ///
    /// # Errors
    /// The store fails.
    pub fn points(&self, member: &MemberId, now: Millis) -> Result<Owned<i64>, StoreFault> {
        let text = "SELECT CAST(COALESCE(SUM(e.amount), 0) AS BIGINT) FROM points e \
                    JOIN points g ON g.id = COALESCE(e.of_grant, e.id) \
                    WHERE e.member = $1 AND g.usable_from_ms <= $2 AND g.expires_ms > $3";
        let with = [member.text().into(), now.0.into(), now.0.into()];
        let rows = self.database.read(|sql| sql.rows(text, &with))?;
        let sum = rows
            .into_iter()
            .next()
            .ok_or(StoreFault::OurRow("a sum of nothing"))?
            .int()?;
        Ok(Owned::new(member.clone(), sum))
    }

    /// # Errors
    /// The store fails.
    pub fn points_entries(&self, member: &MemberId) -> Result<Owned<Vec<PointsEntry>>, StoreFault> {
        let text = "SELECT amount, reason, at_ms, usable_from_ms, expires_ms FROM points \
                    WHERE member = $1 ORDER BY at_ms DESC, id LIMIT $2";
        let one = |mut row: Row| {
            Ok(PointsEntry {
                amount: row.int()?,
                reason: row.text()?,
                at: Millis(row.int()?),
                usable_from: Millis(row.int()?),
                expires: Millis(row.int()?),
            })
        };
        self.listed(member, text, one)
    }

    /// Grants points: an entry with its reason, the earliest use and the end.
    ///
    /// # Errors
    /// The store fails, or the amount is not above zero.
    pub fn grant_points(
        &self,
        member: &MemberId,
        entry: &PointsEntry,
    ) -> Result<String, StoreFault> {
        let id = fresh_id();
        let text = "INSERT INTO points (id, member, of_grant, amount, reason, at_ms, usable_from_ms, expires_ms) \
                    VALUES ($1, $2, NULL, $3, $4, $5, $6, $7)";
        let with = [
            Value::from(&id),
            member.text().into(),
            entry.amount.into(),
            (&entry.reason).into(),
            entry.at.0.into(),
            entry.usable_from.0.into(),
            entry.expires.0.into(),
        ];
        self.database.write(|sql| sql.run(text, &with))?;
        Ok(id)
    }

    /// Takes from a grant of this member's, for a reason: spent, or taken back. `amount` is above zero.
    /// False when the grant has not so much left, or is another's; then nothing is written.
    ///
    /// # Errors
    /// The store fails.
    pub fn take_points(
        &self,
        member: &MemberId,
        grant: &str,
        amount: i64,
        reason: &str,
        now: Millis,
    ) -> Result<bool, StoreFault> {
        let left = "SELECT CAST(COALESCE(SUM(e.amount), 0) AS BIGINT) FROM points e JOIN points g ON g.id = COALESCE(e.of_grant, e.id) \
                    WHERE e.member = $1 AND g.id = $2 AND g.member = $3";
        let take = "INSERT INTO points (id, member, of_grant, amount, reason, at_ms, usable_from_ms, expires_ms) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let id = fresh_id();
        let with = [
            Value::from(&id),
            member.text().into(),
            grant.into(),
            amount.saturating_neg().into(),
            reason.into(),
            now.0.into(),
            now.0.into(),
            now.0.into(),
        ];
        self.database.write(|sql| {
            let found = sql.rows(
                left,
                &[member.text().into(), grant.into(), member.text().into()],
            )?;
            let left = found
                .into_iter()
                .next()
                .ok_or(StoreFault::OurRow("a sum of nothing"))?
                .int()?;
            if amount <= 0 || left < amount {
                return Ok(false);
            }
            sql.run(take, &with).map(|rows| rows == 1)
        })
    }

    /// # Errors
    /// The store fails.
    pub fn reviews(&self, member: &MemberId) -> Result<Owned<Vec<OwnReview>>, StoreFault> {
        let text = "SELECT r.product, p.title_ja, p.title_en, r.stars, r.text, r.written_ms FROM reviews r \
                    JOIN products p ON p.id = r.product WHERE r.member = $1 \
                    ORDER BY r.written_ms DESC, r.product LIMIT $2";
        let one = |mut row: Row| {
            Ok(OwnReview {
                product: row.text()?,
                title: [row.text()?, row.text()?],
                stars: row.int()?,
                text: row.text()?,
                written: Millis(row.int()?),
            })
        };
        self.listed(member, text, one)
    }

    /// Writes a member's review of a product, in place of an earlier one. False when there is no such
    /// product.
    ///
    /// # Errors
    /// The store fails, or `stars` are not 1 to 5.
    pub fn write_review(
        &self,
        member: &MemberId,
        product: &str,
        stars: i64,
        review: &str,
        now: Millis,
    ) -> Result<bool, StoreFault> {
        let text = "INSERT INTO reviews (member, product, stars, text, written_ms) \
                    SELECT $1, p.id, $2, $3, $4 FROM products p WHERE p.id = $5 \
                    ON CONFLICT (member, product) DO UPDATE SET stars = excluded.stars, \
                    text = excluded.text, written_ms = excluded.written_ms";
        let with = [
            member.text().into(),
            stars.into(),
            review.into(),
            now.0.into(),
            product.into(),
        ];
        self.database
            .write(|sql| sql.run(text, &with))
            .map(|rows| rows == 1)
    }

    /// # Errors
    /// The store fails.
    pub fn viewings(&self, member: &MemberId) -> Result<Owned<Vec<Seen>>, StoreFault> {
        let text = "SELECT v.product, p.title_ja, p.title_en, v.last_ms FROM viewings v \
                    JOIN products p ON p.id = v.product WHERE v.member = $1 \
                    ORDER BY v.last_ms DESC, v.product LIMIT $2";
        let one = |mut row: Row| {
            Ok(Seen {
                product: row.text()?,
                title: [row.text()?, row.text()?],
                last: Millis(row.int()?),
            })
        };
        self.listed(member, text, one)
    }

    /// The rows of one member: `text` takes their id and how many at most.
    fn listed<T>(
        &self,
        member: &MemberId,
        text: &str,
        one: impl Fn(Row) -> Result<T, StoreFault>,
    ) -> Result<Owned<Vec<T>>, StoreFault> {
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into(), ROWS_MAX.into()]))?;
        let listed = rows.into_iter().map(one).collect::<Result<_, _>>()?;
        Ok(Owned::new(member.clone(), listed))
    }

    /// For samples: writes in one transaction.
    pub(super) fn fill<T>(
        &self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        self.database.write(work)
    }
}

fn end(sql: &mut dyn Sql, token: Option<&Token>) -> Result<(), StoreFault> {
    let Some(token) = token else { return Ok(()) };
    sql.run(
        "DELETE FROM sessions WHERE digest = $1",
        &[Value::from(&token.digest())],
    )
    .map(drop)
}

/// Rows of lines, one order after another, as orders.
fn grouped(rows: Vec<Row>) -> Result<Vec<Order>, StoreFault> {
    let mut orders: Vec<Order> = Vec::new();
    for mut row in rows {
        let (id, placed) = (row.text()?, Millis(row.int()?));
        let line = Line {
            product: row.text()?,
            title: [row.text()?, row.text()?],
            price_yen: row.int()?,
            state: match row.text()?.as_str() {
                "bought" => LineState::Bought,
                "shipping" => LineState::Shipping,
                "delivered" => LineState::Delivered,
                "cancelled" => LineState::Cancelled,
                _ => return Err(StoreFault::OurRow("a line in no state")),
            },
        };
        match orders.last_mut().filter(|it| it.id == id) {
            Some(order) => order.lines.push(line),
            None => orders.push(Order {
                id,
                placed,
                lines: vec![line],
            }),
        }
    }
    Ok(orders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, fill_with_samples};

    const NOW: Millis = Millis(1_800_000_000_000);

    fn new<'a>(mail: &'a str, nickname: &'a str) -> NewMember<'a> {
        NewMember {
            mail,
            nickname,
            password: "hash",
        }
    }

    fn two_members() -> (Store, MemberId, MemberId) {
        let store = crate::fresh::store();
        fill_with_samples(&store).unwrap();
        let member = |name: &str| {
            let mail = format!("{name}@example.test");
            store
                .desk
                .register(&new(&mail, name), NOW)
                .unwrap()
                .unwrap()
        };
        let (a, b) = (member("ana"), member("ben"));
        (store, a, b)
    }

    #[test]
    fn a_mail_address_is_one_members() {
        let (store, ..) = two_members();
        let again = store
            .desk
            .register(&new("ana@example.test", "other"), NOW)
            .unwrap();
        assert_eq!(again.err(), Some(Taken));
    }

    #[test]
    fn a_session_begins_anew_with_each_login_and_ends_in_time() {
        let (store, a, b) = two_members();
        let desk = &store.desk;
        let first = desk.begin_session(&a, None, NOW).unwrap();
        assert_eq!(desk.session(Some(&first), NOW).unwrap().unwrap().member, a);
        let second = desk.begin_session(&b, Some(&first), NOW).unwrap();
        assert!(
            desk.session(Some(&first), NOW).unwrap().is_none(),
            "the planted one is worth nothing"
        );
        assert_eq!(desk.session(Some(&second), NOW).unwrap().unwrap().member, b);
        assert!(
            desk.session(Some(&second), NOW.plus(SESSION_MS))
                .unwrap()
                .is_none()
        );
        desk.end_session(Some(&second)).unwrap();
        assert!(desk.session(Some(&second), NOW).unwrap().is_none());
        assert!(desk.session(Some(&Token::fresh()), NOW).unwrap().is_none());
    }

    #[test]
    fn points_are_what_is_left_of_grants_that_can_be_used() {
        let (store, a, b) = two_members();
        let desk = &store.desk;
        let entry = |amount, usable, expires| PointsEntry {
            amount,
            reason: "welcome".to_owned(),
            at: NOW,
            usable_from: NOW.plus(usable),
            expires: NOW.plus(expires),
        };
        let grant = desk.grant_points(&a, &entry(300, 0, 1000)).unwrap();
        desk.grant_points(&a, &entry(50, 500, 1000)).unwrap();
        let at = |later| *desk.points(&a, NOW.plus(later)).unwrap();
        assert_eq!((at(0), at(500), at(1000)), (300, 350, 0));
        assert!(desk.take_points(&a, &grant, 100, "order", NOW).unwrap());
        assert!(
            !desk.take_points(&a, &grant, 201, "order", NOW).unwrap(),
            "not so much is left"
        );
        assert!(
            !desk.take_points(&b, &grant, 1, "order", NOW).unwrap(),
            "another's grant"
        );
        assert!(
            !desk.take_points(&a, &grant, -5, "order", NOW).unwrap(),
            "taking adds nothing"
        );
        assert_eq!((at(0), at(500), at(1000)), (200, 250, 0));
        assert!(
            desk.take_points(&a, &grant, 200, "taken back", NOW)
                .unwrap()
        );
        assert_eq!(at(0), 0);
        assert_eq!(desk.points_entries(&a).unwrap().len(), 4);
        assert_eq!(*desk.points(&b, NOW).unwrap(), 0);
    }

    #[test]
    fn an_order_is_found_by_its_member_alone() {
        let (store, a, _) = two_members();
        let (demo, _) = store
            .desk
            .credentials("hanako@example.test")
            .unwrap()
            .unwrap();
        let orders = store.desk.orders(&demo).unwrap();
        let order = orders.last().unwrap();
        assert_eq!(orders.len(), 2, "each order once");
        assert!(order.lines.len() > 1, "lines are grouped");
        assert!(store.desk.order(&demo, &order.id).unwrap().is_some());
        assert!(store.desk.order(&a, &order.id).unwrap().is_none());
    }

    #[test]
    fn a_review_replaces_its_writers_earlier_one() {
        let (store, a, _) = two_members();
        let product = store.shelf.search("", 0).unwrap().products.remove(0).id;
        let before = store.shelf.reviews(&product).unwrap().len();
        for (stars, text) in [(2, "slow"), (5, "better the second time")] {
            assert!(
                store
                    .desk
                    .write_review(&a, &product, stars, text, NOW)
                    .unwrap()
            );
        }
        let public = store.shelf.reviews(&product).unwrap();
        assert_eq!(public.len(), before + 1);
        assert_eq!(store.desk.reviews(&a).unwrap().first().unwrap().stars, 5);
        assert!(!store.desk.write_review(&a, "no-such", 5, "x", NOW).unwrap());
        assert!(store.desk.write_review(&a, &product, 6, "x", NOW).is_err());
    }

    #[test]
    fn delivery_data_is_replaced_as_a_whole() {
        let (store, a, b) = two_members();
        assert!(store.desk.delivery(&a).unwrap().name.is_empty());
        for name in ["Ana One", "Ana Two"] {
            let to = Delivery {
                name: name.to_owned(),
                ..Delivery::default()
            };
            store.desk.set_delivery(&a, &to).unwrap();
            assert_eq!(store.desk.delivery(&a).unwrap().name, name);
        }
        assert!(store.desk.delivery(&b).unwrap().name.is_empty());
    }

    #[test]
    fn nothing_like_a_card_can_be_stored() {
        let tables = crate::store::MIGRATIONS.concat().join("\n").to_lowercase();
        for word in ["card", "cvc", "cvv", "pan ", "expiry", "iban"] {
            assert!(!tables.contains(word), "{word}");
        }
    }
}
