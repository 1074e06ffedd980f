//! The support desk: a member asks, somebody answers, and every word of both is kept.
//!
//! Invariant: an enquiry is read and written by its member and by the desk. What is said is added, never
//! changed.

use crate::asked::Millis;
use crate::member::{MemberId, Owned, derived_id, fresh_id};
use crate::store::{Desk, Row, Sql, StoreFault, Value};
use crate::trade::mail;

/// Enquiries of one member that are open.
const OPEN_MAX: usize = 20;
const LISTED_MAX: i64 = 100;

/// What an enquiry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Order,
    Account,
    Incident,
    /// A payment that the member says was not theirs.
    Payment,
    Other,
}

impl Topic {
    pub const ALL: [Self; 5] = [
        Self::Order,
        Self::Account,
        Self::Incident,
        Self::Payment,
        Self::Other,
    ];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Account => "account",
            Self::Incident => "incident",
            Self::Payment => "payment",
            Self::Other => "other",
        }
    }

    /// As a form or the store says it.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.text() == text)
    }
}

/// An enquiry, in a list.
#[derive(Clone)]
pub struct Enquiry {
    pub id: String,
    pub topic: Topic,
    pub subject: String,
    pub is_open: bool,
    pub opened: Millis,
}

/// What was said.
#[derive(Clone)]
pub struct Said {
    pub by_member: bool,
    pub text: String,
    pub at: Millis,
}

/// An enquiry with all that was said.
pub type Talk = (Enquiry, Vec<Said>);

/// A member has more open enquiries than the desk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyOpen;

impl Desk {
    /// A member asks. Sent twice (`form` is minted with the page), it is one enquiry.
    ///
    /// # Errors
    /// The store fails.
    pub fn enquire(
        &self,
        member: &MemberId,
        form: &str,
        (topic, subject, text): (Topic, &str, &str),
        now: Millis,
    ) -> Result<Result<String, TooManyOpen>, StoreFault> {
        let id = derived_id(&["enquiry", member.text(), form]);
        let open = self
            .enquiries(member)?
            .iter()
            .filter(|it| it.is_open && it.id != id)
            .count();
        if open >= OPEN_MAX {
            return Ok(Err(TooManyOpen));
        }
        self.database()
            .write(|sql| open_enquiry(sql, &id, member, (topic, subject, text), now))?;
        Ok(Ok(id))
    }

    /// # Errors
    /// The store fails.
    pub fn enquiries(&self, member: &MemberId) -> Result<Owned<Vec<Enquiry>>, StoreFault> {
        let text = "SELECT id, topic, subject, state, opened_ms FROM enquiries WHERE member = $1 \
                    ORDER BY opened_ms DESC, id LIMIT $2";
        let rows = self
            .database()
            .read(|sql| sql.rows(text, &[member.text().into(), LISTED_MAX.into()]))?;
        let found = rows
            .into_iter()
            .map(enquiry)
            .collect::<Result<_, StoreFault>>()?;
        Ok(Owned::new(member.clone(), found))
    }

    /// One enquiry of this member's, with all that was said.
    ///
    /// # Errors
    /// The store fails.
    pub fn enquiry(&self, member: &MemberId, id: &str) -> Result<Option<Owned<Talk>>, StoreFault> {
        self.database().read(|sql| {
            let text = "SELECT id, topic, subject, state, opened_ms FROM enquiries WHERE member = $1 AND id = $2";
            let Some(row) = sql.rows(text, &[member.text().into(), id.into()])?.into_iter().next() else {
                return Ok(None);
            };
            let found = enquiry(row)?;
            let text = "SELECT by_member, text, at_ms FROM said WHERE enquiry = $1 ORDER BY at_ms, id LIMIT $2";
            let one = |mut row: Row| {
                Ok(Said { by_member: row.int()? == 1, text: row.text()?, at: Millis(row.int()?) })
            };
            let said = sql.rows(text, &[id.into(), LISTED_MAX.into()])?;
            let said = said.into_iter().map(one).collect::<Result<_, StoreFault>>()?;
            Ok(Some(Owned::new(member.clone(), (found, said))))
        })
    }

    /// A member says more. False when the enquiry is not theirs, or holds as much as it may.
    ///
    /// # Errors
    /// The store fails.
    pub fn say(
        &self,
        member: &MemberId,
        id: &str,
        text: &str,
        now: Millis,
    ) -> Result<bool, StoreFault> {
        self.database().write(|sql| {
            let theirs = "SELECT id FROM enquiries WHERE member = $1 AND id = $2";
            if sql
                .rows(theirs, &[member.text().into(), id.into()])?
                .is_empty()
            {
                return Ok(false);
            }
            sql.run(
                "UPDATE enquiries SET state = 'open' WHERE id = $1",
                &[id.into()],
            )?;
            add(sql, &fresh_id(), id, true, text, now)
        })
    }

    /// The desk answers: the member is written to, once for each answer.
    ///
    /// # Errors
    /// The store fails.
    pub fn answer_enquiry(&self, id: &str, text: &str, now: Millis) -> Result<bool, StoreFault> {
        self.database().write(|sql| {
            let Some(mut row) = sql.rows("SELECT member FROM enquiries WHERE id = $1", &[id.into()])?.into_iter().next() else {
                return Ok(false);
            };
            let member = MemberId::stored(row.text()?);
            sql.run("UPDATE enquiries SET state = 'answered' WHERE id = $1", &[id.into()])?;
            let said = derived_id(&["answer", id, text]);
            let is_new = add(sql, &said, id, false, text, now)?;
            // What was answered is read after a login, not in a mail.
            let words = [
                "お問い合わせへの回答 / An answer to your enquiry",
                "ログイン後、お問い合わせのページでご覧ください。\nPlease log in and read it on the page of your enquiries.",
            ];
            mail(sql, &said, &member, words, now)?;
            Ok(is_new)
        })
    }
}

/// Opens an enquiry in a transaction of something else's. Opened twice it is one.
pub(crate) fn open_enquiry(
    sql: &mut dyn Sql,
    id: &str,
    member: &MemberId,
    (topic, subject, words): (Topic, &str, &str),
    now: Millis,
) -> Result<(), StoreFault> {
    let text = "INSERT INTO enquiries (id, member, topic, subject, state, opened_ms) \
                VALUES ($1, $2, $3, $4, 'open', $5) ON CONFLICT (id) DO NOTHING";
    let with = [
        id.into(),
        member.text().into(),
        topic.text().into(),
        subject.into(),
        now.0.into(),
    ];
    sql.run(text, &with)?;
    add(sql, &derived_id(&["first", id]), id, true, words, now)?;
    let received = [
        "お問い合わせを受け付けました / We have your enquiry",
        "お返事まで、お時間をいただくことがございます。\nIt may take us some time to answer.",
    ];
    mail(sql, &derived_id(&["received", id]), member, received, now)
}

fn add(
    sql: &mut dyn Sql,
    said: &str,
    enquiry: &str,
    by_member: bool,
    words: &str,
    now: Millis,
) -> Result<bool, StoreFault> {
    let held = sql.rows(
        "SELECT COUNT(*) FROM said WHERE enquiry = $1",
        &[enquiry.into()],
    )?;
    let held = held
        .into_iter()
        .next()
        .ok_or(StoreFault::OurRow("a count of nothing"))?
        .int()?;
    if held >= LISTED_MAX {
        return Ok(false);
    }
    let text = "INSERT INTO said (id, enquiry, by_member, text, at_ms) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING";
    let by = Value::Int(i64::from(by_member));
    Ok(sql.run(
        text,
        &[said.into(), enquiry.into(), by, words.into(), now.0.into()],
    )? == 1)
}

fn enquiry(mut row: Row) -> Result<Enquiry, StoreFault> {
    Ok(Enquiry {
        id: row.text()?,
        topic: Topic::of(&row.text()?).ok_or(StoreFault::OurRow("an enquiry about nothing"))?,
        subject: row.text()?,
        is_open: row.text()? == "open",
        opened: Millis(row.int()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NewMember;

    const NOW: Millis = Millis(1_800_000_000_000);

    #[test]
    fn an_enquiry_is_between_its_member_and_the_desk() {
        let store = crate::fresh::store();
        let member = |mail| {
            let new = NewMember {
                mail,
                nickname: "A",
                password: "hash",
            };
            store.desk.register(&new, NOW).unwrap().unwrap()
        };
        let (a, b) = (member("a@example.test"), member("b@example.test"));
        let words = (Topic::Order, "Where is it?", "My disc has not come.");
        let id = store.desk.enquire(&a, "f", words, NOW).unwrap().unwrap();
        assert_eq!(
            store.desk.enquire(&a, "f", words, NOW).unwrap().as_ref(),
            Ok(&id),
            "sent twice"
        );
        assert!(
            !store.desk.say(&b, &id, "mine too", NOW).unwrap()
                && store.desk.enquiry(&b, &id).unwrap().is_none()
        );
        for new in [true, false] {
            assert_eq!(
                store
                    .desk
                    .answer_enquiry(&id, "Tomorrow.", NOW.plus(1))
                    .unwrap(),
                new
            );
        }
        assert!(store.desk.say(&a, &id, "Thanks.", NOW.plus(2)).unwrap());
        let found = store.desk.enquiry(&a, &id).unwrap().unwrap();
        let said: Vec<_> = found
            .1
            .iter()
            .map(|it| (it.by_member, it.text.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                (true, "My disc has not come."),
                (false, "Tomorrow."),
                (true, "Thanks.")
            ]
        );
        assert!(found.0.is_open);
        let mails = store
            .desk
            .database()
            .read(|sql| sql.rows("SELECT body FROM outbox", &[]))
            .unwrap();
        assert_eq!(mails.len(), 2, "received, answered: each once");
        for mut row in mails {
            assert!(
                !row.text().unwrap().contains("Tomorrow"),
                "what was said is read after a login"
            );
        }
        for nth in 0..OPEN_MAX {
            let came = store
                .desk
                .enquire(&a, &nth.to_string(), words, NOW)
                .unwrap();
            assert_eq!(came.is_ok(), nth + 1 < OPEN_MAX, "{nth}");
        }
    }
}
