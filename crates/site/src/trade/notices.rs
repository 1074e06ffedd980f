//! What an incident means for a member: what was told to them, what they are asked, what they answered.
//!
//! The incident desk decides all of it and hands it over as one file ([`import`](Trade::import_notices)); here it
//! is shown to the member whom it concerns, and their answers are kept for the desk to read. No amount
//! and no right follows from anything here.
//!
//! Invariant: a notice is read by its member alone, after a login. A signed link from a mail shows one
//! question without a login, and answers it once. An answer may change until the desk has acted on it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::cancel::By;
use super::shipping::turn;
use super::{Trade, mail};
use crate::asked::Millis;
use crate::member::{MemberId, Owned, derived_id};
use crate::points::Promise;
use crate::store::{Row, Sql, StoreFault, Value};
use crate::support::{Topic, open_enquiry};

/// The largest file that is imported, in bytes.
pub const IMPORT_BYTES_MAX: u64 = 64 << 20;
const NOTICES_MAX: usize = 200_000;
const LISTED_MAX: i64 = 100;
/// How long a link from a mail works.
const LINK_MS: i64 = 30 * 24 * 3600 * 1000;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A notice, as its member reads it.
#[derive(Clone)]
pub struct Notice {
    pub code: String,
    /// Japanese, English.
    pub text: [String; 2],
    /// The kinds of personal data that others may have seen, as the declarations name them.
    pub kinds: Vec<String>,
    pub issued: Millis,
}

/// What a member is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Keep a disc, or cancel it.
    Disc,
    /// Was this payment yours?
    Payment,
    /// Where to pay what is owed.
    Payout,
}

impl Question {
    fn text(self) -> &'static str {
        match self {
            Self::Disc => "disc",
            Self::Payment => "payment",
            Self::Payout => "payout",
        }
    }

    fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "disc" => Ok(Self::Disc),
            "payment" => Ok(Self::Payment),
            "payout" => Ok(Self::Payout),
            _ => Err(StoreFault::OurRow("a question about nothing")),
        }
    }

    /// What may be answered in one word.
    #[must_use]
    pub fn answers(self) -> &'static [&'static str] {
        match self {
            Self::Disc => &["keep", "cancel"],
            Self::Payment => &["mine", "not_mine"],
            Self::Payout => &[],
        }
    }
}

/// A question to a member, with what they said.
#[derive(Clone)]
pub struct Choice {
    pub id: String,
    pub question: Question,
    /// What it is about: a title, in both languages, and an amount.
    pub about: [String; 2],
    pub amount_yen: i64,
    /// Empty until it is answered.
    pub answer: String,
    pub answer_by: Millis,
    /// The desk has acted on it: it can no longer be changed.
    pub is_done: bool,
}

/// Where money is to be sent. It does not print.
#[derive(Clone, Default)]
pub struct BankAccount {
    pub bank: String,
    pub branch: String,
    pub number: String,
    pub holder: String,
}

/// Why an answer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnswered {
    /// There is no such question, or it is another member's.
    NoSuchChoice,
    /// No answer to this question.
    NoAnswer,
    TooLate,
    /// The link was used, or is too old.
    LinkSpent,
}

/// What is wrong with a file that was to be imported, and where.
#[derive(Debug, thiserror::Error)]
pub enum NotImported {
    #[error("{at}: {why}")]
    Operator { at: String, why: &'static str },
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub notices: u64,
    pub choices: u64,
    pub promises: u64,
    /// Known before, and left as they were.
    pub known: u64,
    /// For each question, the address that its mail holds.
    pub links: BTreeMap<String, String>,
}

impl Trade {
    /// What was told to a member, the newest first.
    ///
    /// # Errors
    /// The store fails.
    pub fn notices(&self, member: &MemberId) -> Result<Owned<Vec<Notice>>, StoreFault> {
        let text = "SELECT code, text_ja, text_en, kinds, issued_ms FROM notices WHERE member = $1 \
                    ORDER BY issued_ms DESC, code LIMIT $2";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into(), LISTED_MAX.into()]))?;
        let found = rows
            .into_iter()
            .map(notice)
            .collect::<Result<_, StoreFault>>()?;
        Ok(Owned::new(member.clone(), found))
    }

    /// What a member was asked with a notice.
    ///
    /// # Errors
    /// The store fails.
    pub fn choices(&self, member: &MemberId) -> Result<Owned<Vec<Choice>>, StoreFault> {
        let text = format!("{CHOICES} WHERE member = $1 ORDER BY answer_by_ms, id LIMIT $2");
        let rows = self
            .database
            .read(|sql| sql.rows(&text, &[member.text().into(), LISTED_MAX.into()]))?;
        let found = rows
            .into_iter()
            .map(choice)
            .collect::<Result<_, StoreFault>>()?;
        Ok(Owned::new(member.clone(), found))
    }

    /// # Errors
    /// The store fails.
    pub fn choice(&self, member: &MemberId, id: &str) -> Result<Option<Owned<Choice>>, StoreFault> {
        let text = format!("{CHOICES} WHERE member = $1 AND id = $2");
        let rows = self
            .database
            .read(|sql| sql.rows(&text, &[member.text().into(), id.into()]))?;
        let found = rows.into_iter().next().map(choice).transpose()?;
        Ok(found.map(|it| Owned::new(member.clone(), it)))
    }

    /// Whether a code is of a notice that we sent, and when. It says nothing of whose it is.
    ///
    /// # Errors
    /// The store fails.
    pub fn is_notice(&self, code: &str) -> Result<Option<Millis>, StoreFault> {
        let rows = self.database.read(|sql| {
            sql.rows(
                "SELECT issued_ms FROM notices WHERE code = $1",
                &[code.into()],
            )
        })?;
        rows.into_iter()
            .next()
            .map(|mut row| Ok(Millis(row.int()?)))
            .transpose()
    }

    /// A member answers in one word. Twice the same is once; another word replaces it.
    ///
    /// # Errors
    /// The store fails.
    pub fn answer(
        &self,
        member: &MemberId,
        id: &str,
        answer: &str,
        now: Millis,
    ) -> Result<Result<(), NotAnswered>, StoreFault> {
        self.database
            .write(|sql| record(sql, member, id, answer, now))
    }

    /// A member says where to pay.
    ///
    /// # Errors
    /// The store fails.
    pub fn set_payout(
        &self,
        member: &MemberId,
        id: &str,
        account: &BankAccount,
        now: Millis,
    ) -> Result<Result<(), NotAnswered>, StoreFault> {
        self.database.write(|sql| {
            let Some(found) = held(sql, member, id)?.filter(|it| it.question == Question::Payout) else {
                return Ok(Err(NotAnswered::NoSuchChoice));
            };
            if found.is_done || now >= found.answer_by {
                return Ok(Err(NotAnswered::TooLate));
            }
            let text = "INSERT INTO payouts (choice, bank, branch, number, holder) VALUES ($1, $2, $3, $4, $5) \
                        ON CONFLICT (choice) DO UPDATE SET bank = excluded.bank, branch = excluded.branch, \
                        number = excluded.number, holder = excluded.holder";
            let with = [
                id.into(),
                Value::from(&account.bank),
                Value::from(&account.branch),
                Value::from(&account.number),
                Value::from(&account.holder),
            ];
            sql.run(text, &with)?;
            say(sql, member, id, "given", now)?;
            Ok(Ok(()))
        })
    }

    /// What a member said of where to pay.
    ///
    /// # Errors
    /// The store fails.
    pub fn payout(&self, member: &MemberId, id: &str) -> Result<Owned<BankAccount>, StoreFault> {
        let text = "SELECT p.bank, p.branch, p.number, p.holder FROM payouts p JOIN choices c ON c.id = p.choice \
                    WHERE c.member = $1 AND c.id = $2";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[member.text().into(), id.into()]))?;
        let one = |mut row: Row| {
            Ok::<_, StoreFault>(BankAccount {
                bank: row.text()?,
                branch: row.text()?,
                number: row.text()?,
                holder: row.text()?,
            })
        };
        let found = rows.into_iter().next().map(one).transpose()?;
        Ok(Owned::new(member.clone(), found.unwrap_or_default()))
    }

    /// The question that a link from a mail leads to, while the link works.
    ///
    /// # Errors
    /// The store fails.
    pub fn linked(
        &self,
        id: &str,
        signature: &str,
        now: Millis,
    ) -> Result<Option<Owned<Choice>>, StoreFault> {
        if !self.is_signed(&["choice", id], signature) {
            return Ok(None);
        }
        let text =
            "SELECT member FROM choices WHERE id = $1 AND link_used = 0 AND linked_until_ms > $2";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[id.into(), now.0.into()]))?;
        match rows.into_iter().next() {
            Some(mut row) => self.choice(&MemberId::stored(row.text()?), id),
            None => Ok(None),
        }
    }

    /// Answers by a link, which is spent with it.
    ///
    /// # Errors
    /// The store fails.
    pub fn answer_by_link(
        &self,
        id: &str,
        signature: &str,
        answer: &str,
        now: Millis,
    ) -> Result<Result<(), NotAnswered>, StoreFault> {
        if !self.is_signed(&["choice", id], signature) {
            return Ok(Err(NotAnswered::NoSuchChoice));
        }
        self.database.write(|sql| {
            let Some(mut row) = sql.rows("SELECT member FROM choices WHERE id = $1", &[id.into()])?.into_iter().next() else {
                return Ok(Err(NotAnswered::NoSuchChoice));
            };
            let member = MemberId::stored(row.text()?);
            let question = held(sql, &member, id)?.map(|it| it.question);
            if !question.is_some_and(|it| it.answers().contains(&answer)) {
                return Ok(Err(NotAnswered::NoAnswer));
            }
            let text = "UPDATE choices SET link_used = 1 WHERE id = $1 AND link_used = 0 AND linked_until_ms > $2";
            if sql.run(text, &[id.into(), now.0.into()])? == 0 {
                return Ok(Err(NotAnswered::LinkSpent));
            }
            record(sql, &member, id, answer, now)
        })
    }

    /// The desk acts on the answer about a disc, which cannot be changed from then on: what is kept is
    /// prepared, what is not is cancelled. False when there is nothing to act on.
    ///
    /// # Errors
    /// The store fails.
    pub fn act_on(&self, id: &str, now: Millis) -> Result<bool, StoreFault> {
        let found = self.database.write(|sql| {
            let text =
                "UPDATE choices SET done = 1 WHERE id = $1 AND question = 'disc' AND answer <> ''";
            if sql.run(text, &[id.into()])? == 0 {
                return Ok(None);
            }
            let text = "SELECT member, order_id, line, answer FROM choices WHERE id = $1";
            let Some(mut row) = sql.rows(text, &[id.into()])?.into_iter().next() else {
                return Ok(None);
            };
            let (member, order, line) = (MemberId::stored(row.text()?), row.text()?, row.int()?);
            if row.text()? == "keep" {
                turn(sql, &order, line, "held", "preparing", now)?;
                return Ok(Some(None));
            }
            Ok(Some(Some((member, order, line))))
        })?;
        let Some(to_cancel) = found else {
            return Ok(false);
        };
        match to_cancel {
            // Done once more after a crash, it is done once.
            Some((member, order, line)) => Ok(self
                .cancel_by(By::Desk, &member, &order, line, now)?
                .is_ok()),
            None => Ok(true),
        }
    }

    /// Every answer, for the desk: the id of the question, the word, and when.
    ///
    /// # Errors
    /// The store fails.
    pub fn answers(&self) -> Result<Vec<Json>, StoreFault> {
        let text = "SELECT id, question, answer, answered_ms FROM choices WHERE answer <> '' ORDER BY id LIMIT $1";
        let most = Value::Int(i64::try_from(NOTICES_MAX).expect("it is a small number"));
        let one = |mut row: Row| {
            Ok(json!({
                "choice": row.text()?, "question": row.text()?, "answer": row.text()?, "answered_ms": row.int()?,
            }))
        };
        self.database
            .read(|sql| sql.rows(text, &[most]))?
            .into_iter()
            .map(one)
            .collect()
    }

    /// Takes over what the incident desk decided. All of it or nothing; what is known already stays as it
    /// is, so that the same file twice changes nothing. `dry_run` checks, and changes nothing.
    ///
    /// # Errors
    /// The file is not what an incident desk writes, or the store fails.
    pub fn import_notices(
        &self,
        file: &Json,
        dry_run: bool,
        now: Millis,
    ) -> Result<Imported, NotImported> {
        let notices = parsed(file)?;
        let mut done = Imported::default();
        if dry_run {
            for it in &notices {
                done.notices += 1;
                done.choices += u64::try_from(it.choices.len()).unwrap_or_default();
                done.promises += u64::from(it.points.is_some());
            }
            self.database
                .read(|sql| {
                    notices
                        .iter()
                        .map(|it| member_of(sql, it))
                        .collect::<Result<Vec<_>, _>>()
                })?
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?;
            return Ok(done);
        }
        let mut missing = None;
        self.database
            .write(|sql| {
                done = Imported::default();
                for it in &notices {
                    match member_of(sql, it)? {
                        Ok(member) => it.write(self, sql, &member, &mut done, now)?,
                        Err(why) => {
                            missing = Some(why);
                            return Err(StoreFault::OurRow("a notice for nobody"));
                        }
                    }
                }
                Ok(())
            })
            .map_err(|fault| missing.take().unwrap_or(NotImported::Store(fault)))?;
        Ok(done)
    }
}

/// Records a word. A payment that was not theirs becomes an enquiry at once; a disc stays held until the desk
/// acts on the answer.
fn record(
    sql: &mut dyn Sql,
    member: &MemberId,
    id: &str,
    answer: &str,
    now: Millis,
) -> Result<Result<(), NotAnswered>, StoreFault> {
    let Some(found) = held(sql, member, id)? else {
        return Ok(Err(NotAnswered::NoSuchChoice));
    };
    if !found.question.answers().contains(&answer) {
        return Ok(Err(NotAnswered::NoAnswer));
    }
    if found.is_done || now >= found.answer_by {
        return Ok(Err(NotAnswered::TooLate));
    }
    if found.answer == answer {
        return Ok(Ok(()));
    }
    say(sql, member, id, answer, now)?;
    if answer == "not_mine" {
        let [ja, en] = &found.about;
        let words = format!("身に覚えのないお支払いとの申し出: {ja}\nSaid not to be theirs: {en}");
        let subject = "お支払いの確認 / A payment that is not mine";
        open_enquiry(
            sql,
            &derived_id(&["not mine", id]),
            member,
            (Topic::Payment, subject, &words),
            now,
        )?;
    }
    Ok(Ok(()))
}

fn say(
    sql: &mut dyn Sql,
    member: &MemberId,
    id: &str,
    answer: &str,
    now: Millis,
) -> Result<(), StoreFault> {
    let text = "UPDATE choices SET answer = $1, answered_ms = $2 WHERE id = $3";
    sql.run(text, &[answer.into(), now.0.into(), id.into()])?;
    let words = [
        "ご回答を承りました / We have your answer",
        "内容は、ログイン後「お知らせ」でご確認ください。\nPlease log in and see it with your notices.",
    ];
    mail(
        sql,
        &derived_id(&["answered", id, answer, &now.0.to_string()]),
        member,
        words,
        now,
    )
}

const CHOICES: &str =
    "SELECT id, question, about_ja, about_en, amount_yen, answer, answer_by_ms, done FROM choices";

fn held(sql: &mut dyn Sql, member: &MemberId, id: &str) -> Result<Option<Choice>, StoreFault> {
    let text = format!("{CHOICES} WHERE member = $1 AND id = $2");
    sql.rows(&text, &[member.text().into(), id.into()])?
        .into_iter()
        .next()
        .map(choice)
        .transpose()
}

fn choice(mut row: Row) -> Result<Choice, StoreFault> {
    Ok(Choice {
        id: row.text()?,
        question: Question::stored(&row.text()?)?,
        about: [row.text()?, row.text()?],
        amount_yen: row.int()?,
        answer: row.text()?,
        answer_by: Millis(row.int()?),
        is_done: row.int()? == 1,
    })
}

fn notice(mut row: Row) -> Result<Notice, StoreFault> {
    Ok(Notice {
        code: row.text()?,
        text: [row.text()?, row.text()?],
        kinds: row.text()?.split_whitespace().map(str::to_owned).collect(),
        issued: Millis(row.int()?),
    })
}

/// A notice, as the desk writes it.
struct Parsed {
    at: String,
    code: String,
    /// A member's id, or a mail address.
    member: String,
    text: [String; 2],
    kinds: String,
    issued: Millis,
    points: Option<(i64, i64)>,
    choices: Vec<ParsedChoice>,
}

struct ParsedChoice {
    id: String,
    question: Question,
    about: [String; 2],
    amount_yen: i64,
    answer_by: Millis,
    /// The order and line of a disc.
    disc: Option<(String, i64)>,
}

/// The member of a notice; the error says which notice has none.
fn member_of(
    sql: &mut dyn Sql,
    notice: &Parsed,
) -> Result<Result<MemberId, NotImported>, StoreFault> {
    let text = "SELECT id FROM members WHERE id = $1 OR mail = $2";
    let found = sql.rows(
        text,
        &[Value::from(&notice.member), Value::from(&notice.member)],
    )?;
    Ok(match found.into_iter().next() {
        Some(mut row) => Ok(MemberId::stored(row.text()?)),
        None => Err(wrong(
            format!("{}.member", notice.at),
            "there is no such member in this store",
        )),
    })
}

impl Parsed {
    fn write(
        &self,
        trade: &Trade,
        sql: &mut dyn Sql,
        member: &MemberId,
        done: &mut Imported,
        now: Millis,
    ) -> Result<(), StoreFault> {
        let text = "INSERT INTO notices (code, member, text_ja, text_en, kinds, issued_ms) \
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (code) DO NOTHING";
        let [ja, en] = &self.text;
        let with = [
            Value::from(&self.code),
            member.text().into(),
            Value::from(ja),
            Value::from(en),
            Value::from(&self.kinds),
            self.issued.0.into(),
        ];
        let is_new = sql.run(text, &with)? == 1;
        *(if is_new {
            &mut done.notices
        } else {
            &mut done.known
        }) += 1;
        if let Some((amount, lasts_ms)) = self.points {
            let promise = Promise {
                id: &derived_id(&["notice", &self.code]),
                amount,
                reason: "incident",
                lasts_ms,
            };
            done.promises += u64::from(promise.write(sql, member, now)?);
        }
        for it in &self.choices {
            let text = "INSERT INTO choices (id, member, notice, question, about_ja, about_en, amount_yen, order_id, line, answer, \
                        answered_ms, answer_by_ms, done, link_used, linked_until_ms) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', 0, $10, 0, 0, $11) ON CONFLICT (id) DO NOTHING";
            let [ja, en] = &it.about;
            let nowhere = (String::new(), 0);
            let (order, line) = it.disc.as_ref().unwrap_or(&nowhere);
            let line = *line;
            let with = [
                Value::from(&it.id),
                member.text().into(),
                Value::from(&self.code),
                it.question.text().into(),
                Value::from(ja),
                Value::from(en),
                it.amount_yen.into(),
                Value::from(order),
                line.into(),
                it.answer_by.0.into(),
                now.plus(LINK_MS).0.into(),
            ];
            if sql.run(text, &with)? == 1 {
                done.choices += 1;
                // Held as long as its member is asked.
                if it.disc.is_some() {
                    turn(sql, order, line, "preparing", "held", now)?;
                }
            }
            if it.question != Question::Payout {
                done.links.insert(it.id.clone(), trade.link(&it.id));
            }
        }
        Ok(())
    }
}

impl Trade {
    fn link(&self, choice: &str) -> String {
        format!(
            "{}/ja/answer/{choice}/{}",
            self.url,
            self.signed(&["choice", choice])
        )
    }
}

fn parsed(file: &Json) -> Result<Vec<Parsed>, NotImported> {
    if file.get("version").and_then(Json::as_i64) != Some(1) {
        return Err(wrong("version".to_owned(), "1 is expected"));
    }
    let notices = file.get("notices").and_then(Json::as_array);
    let notices = notices.ok_or_else(|| wrong("notices".to_owned(), "a list is expected"))?;
    if notices.len() > NOTICES_MAX {
        return Err(wrong(
            "notices".to_owned(),
            "there are more than 200000; split the file",
        ));
    }
    notices
        .iter()
        .enumerate()
        .map(|(nth, it)| parsed_notice(it, format!("notices[{nth}]")))
        .collect()
}

fn parsed_notice(it: &Json, at: String) -> Result<Parsed, NotImported> {
    let code = code(it, "code", &at)?;
    let points = match it.get("points") {
        None => None,
        Some(points) => {
            let at = format!("{at}.points");
            let days = whole(points, "lasts_days", &at, 1, 3650)?;
            Some((whole(points, "amount", &at, 1, 1_000_000)?, days * DAY_MS))
        }
    };
    let mut choices = Vec::new();
    if let Some(asked) = it.get("choices") {
        let asked = asked
            .as_array()
            .ok_or_else(|| wrong(format!("{at}.choices"), "a list is expected"))?;
        for (nth, it) in asked.iter().take(100).enumerate() {
            choices.push(parsed_choice(it, &format!("{at}.choices[{nth}]"))?);
        }
    }
    let mut kinds = Vec::new();
    for kind in it
        .get("kinds")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
    {
        let good = |it: &&str| {
            it.len() <= 40 && it.bytes().all(|it| it.is_ascii_lowercase() || it == b'-')
        };
        let kind = kind.as_str().filter(good);
        kinds.push(kind.ok_or_else(|| {
            wrong(
                format!("{at}.kinds"),
                "names of kinds of personal data are expected",
            )
        })?);
    }
    Ok(Parsed {
        code,
        member: line(it, "member", &at, 254)?,
        text: [
            line(it, "text_ja", &at, 8000)?,
            line(it, "text_en", &at, 8000)?,
        ],
        kinds: kinds.join(" "),
        issued: Millis(whole(it, "issued_ms", &at, 0, i64::MAX)?),
        points,
        choices,
        at,
    })
}

fn parsed_choice(it: &Json, at: &str) -> Result<ParsedChoice, NotImported> {
    let question = match it.get("question").and_then(Json::as_str) {
        Some("disc") => Question::Disc,
        Some("payment") => Question::Payment,
        Some("payout") => Question::Payout,
        _ => {
            return Err(wrong(
                format!("{at}.question"),
                "`disc`, `payment` or `payout` is expected",
            ));
        }
    };
    let disc = match question {
        Question::Disc => Some((line(it, "order", at, 64)?, whole(it, "line", at, 1, 1000)?)),
        _ => None,
    };
    Ok(ParsedChoice {
        id: code(it, "id", at)?,
        question,
        about: [
            line(it, "about_ja", at, 300)?,
            line(it, "about_en", at, 300)?,
        ],
        amount_yen: whole(it, "amount_yen", at, 0, 100_000_000)?,
        answer_by: Millis(whole(it, "answer_by_ms", at, 0, i64::MAX)?),
        disc,
    })
}

fn wrong(at: String, why: &'static str) -> NotImported {
    NotImported::Operator { at, why }
}

fn line(it: &Json, name: &str, at: &str, letters_max: usize) -> Result<String, NotImported> {
    let text = it
        .get(name)
        .and_then(Json::as_str)
        .filter(|it| !it.is_empty() && it.chars().count() <= letters_max);
    text.map(str::to_owned).ok_or_else(|| {
        wrong(
            format!("{at}.{name}"),
            "a text is expected, not empty and not too long",
        )
    })
}

fn code(it: &Json, name: &str, at: &str) -> Result<String, NotImported> {
    let good = |it: &&str| {
        (8..=64).contains(&it.len())
            && it
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-')
    };
    let text = it.get(name).and_then(Json::as_str).filter(good);
    text.map(str::to_owned).ok_or_else(|| {
        wrong(
            format!("{at}.{name}"),
            "8 to 64 letters, digits and hyphens are expected",
        )
    })
}

fn whole(it: &Json, name: &str, at: &str, least: i64, most: i64) -> Result<i64, NotImported> {
    let number = it
        .get(name)
        .and_then(Json::as_i64)
        .filter(|it| (least..=most).contains(it));
    number.ok_or_else(|| {
        wrong(
            format!("{at}.{name}"),
            "a whole number within its bounds is expected",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pay::trial::Trial;
    use crate::store::fill_with_samples;

    const NOW: Millis = Millis(1_794_000_000_000);

    fn world() -> (Trade, MemberId, MemberId) {
        let store = crate::fresh::store();
        fill_with_samples(&store).unwrap();
        let member = |mail| store.desk.credentials(mail).unwrap().unwrap().0;
        let members = (member("hanako@example.test"), member("taro@example.test"));
        let processor = Arc::new(Trial::in_memory("http://pay.example.test").unwrap());
        let trade =
            Trade::new(store.desk.database(), processor, "http://shop.example.test").unwrap();
        (trade, members.0, members.1)
    }

    fn file() -> Json {
        json!({ "version": 1, "notices": [{
            "code": "N-2026-0001", "member": "taro@example.test", "issued_ms": NOW.0, "kinds": ["nickname", "mail"],
            "text_ja": "お詫び", "text_en": "We are sorry", "points": { "amount": 500, "lasts_days": 180 },
            "choices": [
                { "id": "C-payment-1", "question": "payment", "about_ja": "夜汽車", "about_en": "Night trains",
                  "amount_yen": 580, "answer_by_ms": NOW.0 + 10 * DAY_MS },
                { "id": "C-payout-1", "question": "payout", "about_ja": "お支払い", "about_en": "What we owe",
                  "amount_yen": 5000, "answer_by_ms": NOW.0 + 10 * DAY_MS },
            ],
        }] })
    }

    #[test]
    fn a_file_is_taken_over_once_and_as_a_whole() {
        let (trade, _, taro) = world();
        let checked = trade.import_notices(&file(), true, NOW).unwrap();
        assert_eq!(
            (checked.notices, checked.choices, checked.promises),
            (1, 2, 1)
        );
        assert!(
            trade.notices(&taro).unwrap().len() == 1,
            "the sample's alone: a dry run changes nothing"
        );
        let first = trade.import_notices(&file(), false, NOW).unwrap();
        assert_eq!(
            (first.notices, first.choices, first.promises, first.known),
            (1, 2, 1, 0)
        );
        let again = trade.import_notices(&file(), false, NOW).unwrap();
        assert_eq!(
            (again.notices, again.choices, again.promises, again.known),
            (0, 0, 0, 1)
        );
        assert_eq!(first.links, again.links, "a link is the same each time");
        assert_eq!(trade.is_notice("N-2026-0001").unwrap(), Some(NOW));
        assert_eq!(trade.is_notice("N-2026-0002").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_its_place() {
        let (trade, ..) = world();
        for (pointer, value, at) in [
            ("/version", json!(2), "version"),
            ("/notices", json!({}), "notices"),
            ("/notices/0/code", json!("short"), "notices[0].code"),
            (
                "/notices/0/member",
                json!("nobody@example.test"),
                "notices[0].member",
            ),
            ("/notices/0/text_en", json!(""), "notices[0].text_en"),
            (
                "/notices/0/points/amount",
                json!(0),
                "notices[0].points.amount",
            ),
            (
                "/notices/0/choices/1/question",
                json!("gift"),
                "notices[0].choices[1].question",
            ),
            (
                "/notices/0/choices/0/amount_yen",
                json!("580"),
                "notices[0].choices[0].amount_yen",
            ),
        ] {
            let mut file = file();
            *file.pointer_mut(pointer).unwrap() = value;
            for dry_run in [true, false] {
                let why = trade
                    .import_notices(&file, dry_run, NOW)
                    .unwrap_err()
                    .to_string();
                assert!(why.starts_with(&format!("{at}: ")), "{why}");
            }
            assert_eq!(
                trade.is_notice("N-2026-0001").unwrap(),
                None,
                "nothing was taken over"
            );
        }
    }

    #[test]
    fn an_answer_is_its_members_and_a_link_answers_once() {
        let (trade, hanako, taro) = world();
        let links = trade.import_notices(&file(), false, NOW).unwrap().links;
        let signature = links["C-payment-1"].rsplit('/').next().unwrap();
        assert_eq!(links.len(), 1, "an account is never asked for by a link");
        let answer = |member, word, now| trade.answer(member, "C-payment-1", word, now).unwrap();
        assert_eq!(answer(&hanako, "mine", NOW), Err(NotAnswered::NoSuchChoice));
        assert_eq!(answer(&taro, "keep", NOW), Err(NotAnswered::NoAnswer));
        for word in ["mine", "mine", "not_mine"] {
            assert_eq!(answer(&taro, word, NOW), Ok(()));
        }
        assert_eq!(
            answer(&taro, "mine", NOW.plus(10 * DAY_MS)),
            Err(NotAnswered::TooLate)
        );
        let database = trade.database.clone();
        let enquiries = database
            .read(|sql| sql.rows("SELECT id FROM enquiries WHERE topic = 'payment'", &[]))
            .unwrap();
        assert_eq!(enquiries.len(), 1, "not theirs: somebody looks at it");

        let by_link = |signature: &str, now| {
            trade
                .answer_by_link("C-payment-1", signature, "mine", now)
                .unwrap()
        };
        assert_eq!(
            by_link(&"0".repeat(64), NOW),
            Err(NotAnswered::NoSuchChoice)
        );
        assert!(
            trade
                .linked("C-payment-1", &"0".repeat(64), NOW)
                .unwrap()
                .is_none()
        );
        assert_eq!(
            by_link(signature, NOW.plus(LINK_MS)),
            Err(NotAnswered::LinkSpent),
            "too old"
        );
        let shown = trade
            .linked("C-payment-1", signature, NOW)
            .unwrap()
            .unwrap();
        assert!(shown.owner() == &taro);
        let came: Vec<_> = std::thread::scope(|scope| {
            let mut all = Vec::new();
            for _ in 0..6 {
                all.push(scope.spawn(|| by_link(signature, NOW)));
            }
            all.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(came.iter().filter(|it| it.is_ok()).count(), 1, "{came:?}");
        assert!(
            trade
                .linked("C-payment-1", signature, NOW)
                .unwrap()
                .is_none(),
            "it is spent"
        );
        assert_eq!(
            trade.choice(&taro, "C-payment-1").unwrap().unwrap().answer,
            "mine"
        );
    }

    #[test]
    fn an_account_is_told_by_its_member_alone() {
        let (trade, hanako, taro) = world();
        trade.import_notices(&file(), false, NOW).unwrap();
        let account = BankAccount {
            bank: "見本銀行".to_owned(),
            branch: "本店".to_owned(),
            number: "0000001".to_owned(),
            holder: "カメイ タロウ".to_owned(),
        };
        let set = |member, id| trade.set_payout(member, id, &account, NOW).unwrap();
        assert_eq!(set(&hanako, "C-payout-1"), Err(NotAnswered::NoSuchChoice));
        assert_eq!(set(&taro, "C-payment-1"), Err(NotAnswered::NoSuchChoice));
        assert_eq!(set(&taro, "C-payout-1"), Ok(()));
        assert_eq!(trade.payout(&taro, "C-payout-1").unwrap().number, "0000001");
        assert!(
            trade
                .payout(&hanako, "C-payout-1")
                .unwrap()
                .number
                .is_empty()
        );
        let answers = trade.answers().unwrap();
        assert!(
            answers.iter().all(|it| !it.to_string().contains("0000001")),
            "the list of answers holds no account"
        );
    }
}
