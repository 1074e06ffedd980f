//! Mail that the store has written, as files that a mail server picks up.
//!
//! Each mail is one file of RFC 5322 in the folder `new`, as a Maildir has them; who delivers it, and takes
//! the file away, is another program. Never opens a connection, and never says to whom a mail went.
//!
//! Invariant: a file is whole before it has its name, and a mail is marked as handed over only then. After
//! a crash between the two it is written again under the same name and the same `Message-ID`: at least
//! once, and known for the same.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

use crate::asked::Millis;
use crate::store::{Database, Row, StoreFault};

/// Bytes of a subject in one encoded word: with what is around them no more than 75 letters (RFC 2047, 2).
const WORD_BYTES: usize = 42;
/// Letters on a line of a body (RFC 2045, 6.8).
const LINE: usize = 76;

/// Where mails go.
pub struct Spool {
    folder: PathBuf,
    from: String,
}

/// Why mail cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum NotHanded {
    #[error("a sender is an address: shop@example.test")]
    From,
    #[error("the folder of mails: {0}")]
    Folder(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreFault),
}

impl Spool {
    /// Into `folder/new`, from this address. Both folders are made where there are none, for their owner alone: to
    /// whom mail goes is personal. In one that is there its group may read them, when the folder lets it in.
    ///
    /// # Errors
    /// See [`NotHanded`].
    pub fn open(folder: PathBuf, from: &str) -> Result<Self, NotHanded> {
        let is_address = from.split_once('@').is_some_and(|(name, host)| {
            let good = |it: u8| it.is_ascii_alphanumeric() || b".-_+".contains(&it);
            !name.is_empty() && !host.is_empty() && name.bytes().chain(host.bytes()).all(good)
        });
        if !is_address {
            return Err(NotHanded::From);
        }
        for name in ["tmp", "new"] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder.join(name))?;
        }
        let from = from.to_owned();
        Ok(Self { folder, from })
    }

    /// Hands over what was written and is not handed over yet, the oldest first. `allowed` is asked before
    /// each. How many were.
    ///
    /// # Errors
    /// See [`NotHanded`]; what was handed over before stays so.
    pub(crate) fn hand_all(
        &self,
        database: &Database,
        allowed: impl Fn() -> bool,
        at_once_max: i64,
    ) -> Result<u64, NotHanded> {
        let text = "SELECT o.id, m.mail, o.subject, o.body, o.written_ms FROM outbox o JOIN members m ON m.id = o.member \
                    WHERE o.state = 'planned' ORDER BY o.written_ms, o.id LIMIT $1";
        let one = |mut row: Row| {
            Ok::<_, StoreFault>(Mail {
                id: row.text()?,
                to: row.text()?,
                subject: row.text()?,
                body: row.text()?,
                written: Millis(row.int()?),
            })
        };
        let found = database.read(|sql| sql.rows(text, &[at_once_max.into()]))?;
        let mut handed = 0;
        for row in found {
            if !allowed() {
                break;
            }
            let mail = one(row)?;
            self.keep(&mail)?;
            let text = "UPDATE outbox SET state = 'handed' WHERE id = $1 AND state = 'planned'";
            handed += database.write(|sql| sql.run(text, &[(&mail.id).into()]))?;
        }
        Ok(handed)
    }

    fn keep(&self, mail: &Mail) -> io::Result<()> {
        let name = format!("{:.32}", blake3::hash(mail.id.as_bytes()).to_hex());
        let begun = self.folder.join("tmp").join(&name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&begun)?;
        file.write_all(mail.message(&self.from, &name).as_bytes())?;
        file.sync_all()?;
        let new = self.folder.join("new");
        fs::rename(&begun, new.join(&name))?;
        // The name is on the disk, too.
        File::open(new)?.sync_all()
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spool(…)")
    }
}

/// A mail. It does not print.
struct Mail {
    id: String,
    to: String,
    subject: String,
    body: String,
    written: Millis,
}

impl Mail {
    fn message(&self, from: &str, name: &str) -> String {
        let at = Timestamp::from_millisecond(self.written.0).unwrap_or_default();
        let date = rfc2822::to_string(&at.to_zoned(TimeZone::UTC)).unwrap_or_default();
        let host = from.split('@').next_back().unwrap_or_default();
        let body = STANDARD.encode(self.body.replace("\r\n", "\n").replace('\n', "\r\n"));
        let mut message = format!(
            "Date: {date}\r\nFrom: {from}\r\nTo: {}\r\nMessage-ID: <{name}@{host}>\r\nSubject: {}\r\n\
             Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n",
            self.to,
            words(&self.subject)
        );
        let mut rest = &*body;
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(LINE));
            message.push_str(line);
            message.push_str("\r\n");
            rest = more;
        }
        message
    }
}

/// A subject as encoded words, each of whole letters: whatever it holds, it stays one field.
fn words(subject: &str) -> String {
    let mut words: Vec<String> = vec![String::new()];
    for letter in subject.chars() {
        let full = words
            .last()
            .is_none_or(|word| word.len() + letter.len_utf8() > WORD_BYTES);
        if full {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    let encoded = words
        .iter()
        .map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::MemberId;
    use crate::store::{NewMember, Store};
    use crate::trade::mail;

    const NOW: Millis = Millis(1_794_000_000_000);

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("shikiri-spool-{name}-{}", std::process::id()))
    }

    fn files(of: &std::path::Path) -> Vec<String> {
        let entries = fs::read_dir(of.join("new")).unwrap();
        let mut all: Vec<_> = entries
            .map(|it| fs::read_to_string(it.unwrap().path()).unwrap())
            .collect();
        all.sort();
        all
    }

    fn store_with_a_member() -> (Store, MemberId) {
        let store = crate::fresh::store();
        let new = NewMember {
            mail: "a@example.test",
            nickname: "A",
            password: "hash",
        };
        let member = store.desk.register(&new, NOW).unwrap().unwrap();
        (store, member)
    }

    #[test]
    fn each_mail_is_handed_over_once_whole_and_only_while_it_may_be() {
        let (store, member) = store_with_a_member();
        let database = store.desk.database();
        let long = "ご注文ありがとうございます\r\nBcc: b@example.test 🎬".repeat(3);
        for (id, subject) in [("one", "Thanks"), ("two", &long)] {
            let words = [subject, "こんにちは。\n.\nBye"];
            database
                .write(|sql| mail(sql, id, &member, words, NOW))
                .unwrap();
        }
        let folder = folder("once");
        let spool = Spool::open(folder.clone(), "shop@example.test").unwrap();
        assert_eq!(spool.hand_all(&database, || false, 10).unwrap(), 0);
        assert!(files(&folder).is_empty(), "the store rests");
        for handed in [1, 1, 0] {
            assert_eq!(spool.hand_all(&database, || true, 1).unwrap(), handed);
        }
        let before = files(&folder);
        assert_eq!(before.len(), 2);
        for message in &before {
            let (head, body) = message.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains("To: a@example.test\r\n") && !head.contains("Bcc"),
                "{head}"
            );
            assert!(head.contains("Date: Fri, 6 Nov 2026 "), "{head}");
            assert!(
                head.is_ascii() && head.lines().all(|line| line.len() <= 78),
                "{head}"
            );
            let body = STANDARD.decode(body.replace("\r\n", "")).unwrap();
            assert_eq!(body, "こんにちは。\r\n.\r\nBye".as_bytes());
        }
        // Died between the file and the mark: the same file again.
        let text = "UPDATE outbox SET state = 'planned' WHERE id = 'two'";
        database.write(|sql| sql.run(text, &[])).unwrap();
        assert_eq!(spool.hand_all(&database, || true, 10).unwrap(), 1);
        assert_eq!(files(&folder), before);
        fs::remove_dir_all(&folder).unwrap();
        assert!(
            spool.hand_all(&database, || true, 10).is_ok(),
            "nothing is due"
        );
    }

    #[test]
    fn mails_are_read_by_their_owner_and_a_group_that_was_let_in() {
        use std::os::unix::fs::PermissionsExt;
        let (store, member) = store_with_a_member();
        let database = store.desk.database();
        let words = ["Thanks", "Bye"];
        database
            .write(|sql| mail(sql, "one", &member, words, NOW))
            .unwrap();
        let folder = folder("modes");
        let spool = Spool::open(folder.clone(), "shop@example.test").unwrap();
        assert_eq!(spool.hand_all(&database, || true, 10).unwrap(), 1);
        let file = fs::read_dir(folder.join("new")).unwrap().next().unwrap();
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&file.unwrap().path()) & 0o007, 0, "a file");
        for made in [folder.clone(), folder.join("new"), folder.join("tmp")] {
            assert_eq!(mode(&made) & 0o777, 0o700, "{}", made.display());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_subject_is_whole_letters_in_short_words() {
        for subject in ["", "Thanks", &"あ".repeat(50), &"🎬a".repeat(30)] {
            let encoded = words(subject);
            let mut decoded = String::new();
            for word in encoded.split("\r\n ") {
                assert!(word.len() <= 75, "{word}");
                let inner = word.strip_prefix("=?UTF-8?B?").unwrap();
                let inner = STANDARD.decode(inner.strip_suffix("?=").unwrap()).unwrap();
                decoded.push_str(std::str::from_utf8(&inner).unwrap());
            }
            assert_eq!(decoded, subject);
        }
    }

    #[test]
    fn a_sender_is_an_address() {
        for from in ["", "shop", "@example.test", "shop@", "a@b\r\nBcc: c@d"] {
            let opened = Spool::open(folder("from"), from);
            assert!(matches!(opened, Err(NotHanded::From)), "{from:?}");
        }
    }
}
