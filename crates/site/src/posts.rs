//! Videos that members post: kept within bounds, looked at by somebody, then shown to everybody.
//!
//! Invariant: what was not published is shown to its owner alone. What a file is, its first bytes say, not
//! its name; and it is served as what they say.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::asked::Millis;
use crate::member::{MemberId, Owned, fresh_id};
use crate::store::{Database, Desk, Row, Shelf, Sql, StoreFault, Value};

/// The largest file, in bytes.
pub const VIDEO_BYTES_MAX: usize = 4 << 20;
/// Videos of one member that were not refused or taken back.
const POSTS_MAX: i64 = 20;
/// Videos of one member in a day.
const A_DAY_MAX: i64 = 5;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Bytes of a file in one row; as text they are twice as many.
const CHUNK: usize = 32 << 10;
const LISTED_MAX: i64 = 100;

/// What a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoType {
    Webm,
    Mp4,
}

impl VideoType {
    /// By the first bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..64.min(bytes.len()))?;
        let has = |word: &[u8]| head.windows(word.len()).any(|it| it == word);
        if head.starts_with(b"\x1a\x45\xdf\xa3") && has(b"webm") {
            Some(Self::Webm)
        } else if head.get(4..8) == Some(b"ftyp") {
            Some(Self::Mp4)
        } else {
            None
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Webm => "webm",
            Self::Mp4 => "mp4",
        }
    }

    fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "webm" => Ok(Self::Webm),
            "mp4" => Ok(Self::Mp4),
            _ => Err(StoreFault::OurRow("a video of no type")),
        }
    }
}

/// How far a video is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostState {
    /// Nobody has looked at it yet.
    Waiting,
    Published,
    Refused,
    /// Its member took it back.
    TakenBack,
}

impl PostState {
    fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "waiting" => Ok(Self::Waiting),
            "published" => Ok(Self::Published),
            "refused" => Ok(Self::Refused),
            "taken_back" => Ok(Self::TakenBack),
            _ => Err(StoreFault::OurRow("a video in no state")),
        }
    }
}

/// A video, as its member lists it.
#[derive(Clone)]
pub struct Post {
    pub id: String,
    pub title: String,
    pub state: PostState,
    pub posted: Millis,
    /// Why it was refused.
    pub why: String,
}

/// A video, as everybody sees it.
#[derive(Clone, Debug)]
pub struct PublicPost {
    pub id: String,
    pub title: String,
    pub by: String,
    pub posted: Millis,
    pub video: VideoType,
    pub digest: String,
}

/// Why a video is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    NoVideo,
    TooLarge,
    TooMany,
}

impl Desk {
    /// Takes a video, which waits until somebody has looked at it. The same file twice is one.
    ///
    /// # Errors
    /// The store fails.
    pub fn post(
        &self,
        member: &MemberId,
        title: &str,
        bytes: &Bytes,
        now: Millis,
    ) -> Result<Result<String, NotTaken>, StoreFault> {
        if bytes.len() > VIDEO_BYTES_MAX {
            return Ok(Err(NotTaken::TooLarge));
        }
        let Some(video) = VideoType::of(bytes) else {
            return Ok(Err(NotTaken::NoVideo));
        };
        let digest = blake3::hash(bytes).to_hex().to_string();
        self.database().write(|sql| {
            let text = "SELECT id FROM posts WHERE member = $1 AND digest = $2 AND state IN ('waiting', 'published')";
            if let Some(mut row) = sql.rows(text, &[member.text().into(), Value::from(&digest)])?.into_iter().next() {
                return Ok(Ok(row.text()?));
            }
            let kept = "SELECT COUNT(*) FROM posts WHERE member = $1 AND state IN ('waiting', 'published')";
            let today = "SELECT COUNT(*) FROM posts WHERE member = $1 AND posted_ms > $2";
            let kept = count(sql, kept, &[member.text().into()])?;
            let today = count(sql, today, &[member.text().into(), now.plus(-DAY_MS).0.into()])?;
            if kept >= POSTS_MAX || today >= A_DAY_MAX {
                return Ok(Err(NotTaken::TooMany));
            }
            let id = fresh_id();
            let text = "INSERT INTO posts (id, member, title, video, digest, state, why, posted_ms) \
                        VALUES ($1, $2, $3, $4, $5, 'waiting', '', $6)";
            let with = [
                Value::from(&id),
                member.text().into(),
                title.into(),
                video.text().into(),
                Value::from(&digest),
                now.0.into(),
            ];
            sql.run(text, &with)?;
            for (nth, chunk) in (0_i64..).zip(bytes.chunks(CHUNK)) {
                let text = "INSERT INTO post_bytes (post, nth, hex) VALUES ($1, $2, $3)";
                sql.run(text, &[Value::from(&id), nth.into(), Value::from(&hex(chunk))])?;
            }
            Ok(Ok(id))
        })
    }

    /// # Errors
    /// The store fails.
    pub fn posts(&self, member: &MemberId) -> Result<Owned<Vec<Post>>, StoreFault> {
        let text = "SELECT id, title, state, posted_ms, why FROM posts WHERE member = $1 AND state <> 'taken_back' \
                    ORDER BY posted_ms DESC, id LIMIT $2";
        let one = |mut row: Row| {
            Ok(Post {
                id: row.text()?,
                title: row.text()?,
                state: PostState::stored(&row.text()?)?,
                posted: Millis(row.int()?),
                why: row.text()?,
            })
        };
        let rows = self
            .database()
            .read(|sql| sql.rows(text, &[member.text().into(), LISTED_MAX.into()]))?;
        let posts = rows
            .into_iter()
            .map(one)
            .collect::<Result<_, StoreFault>>()?;
        Ok(Owned::new(member.clone(), posts))
    }

    /// A member takes a video of theirs back: its bytes are gone. False when it is not theirs.
    ///
    /// # Errors
    /// The store fails.
    pub fn take_back(&self, member: &MemberId, post: &str) -> Result<bool, StoreFault> {
        self.database().write(|sql| {
            let text = "UPDATE posts SET state = 'taken_back' WHERE id = $1 AND member = $2 AND state <> 'taken_back'";
            if sql.run(text, &[post.into(), member.text().into()])? == 0 {
                return Ok(false);
            }
            sql.run("DELETE FROM post_bytes WHERE post = $1", &[post.into()])?;
            Ok(true)
        })
    }

    /// Somebody has looked at a video that waited. An empty `why` publishes it.
    ///
    /// # Errors
    /// The store fails.
    pub fn moderate(&self, post: &str, why: &str) -> Result<bool, StoreFault> {
        let state = if why.is_empty() {
            "published"
        } else {
            "refused"
        };
        let text = "UPDATE posts SET state = $1, why = $2 WHERE id = $3 AND state = 'waiting'";
        let with = [state.into(), why.into(), post.into()];
        Ok(self.database().write(|sql| sql.run(text, &with))? == 1)
    }

    /// Videos that wait for somebody to look at them: id and title, the oldest first.
    ///
    /// # Errors
    /// The store fails.
    pub fn waiting_posts(&self) -> Result<Vec<(String, String)>, StoreFault> {
        let text =
            "SELECT id, title FROM posts WHERE state = 'waiting' ORDER BY posted_ms, id LIMIT $1";
        let rows = self
            .database()
            .read(|sql| sql.rows(text, &[LISTED_MAX.into()]))?;
        rows.into_iter()
            .map(|mut row| Ok((row.text()?, row.text()?)))
            .collect()
    }
}

const PUBLIC: &str = "SELECT p.id, p.title, m.nickname, p.posted_ms, p.video, p.digest FROM posts p \
                      JOIN members m ON m.id = p.member WHERE p.state = 'published'";

impl Shelf {
    /// The newest videos that were published.
    ///
    /// # Errors
    /// The store fails.
    pub fn published_posts(&self) -> Result<Vec<PublicPost>, StoreFault> {
        let text = format!("{PUBLIC} ORDER BY p.posted_ms DESC, p.id LIMIT $1");
        let rows = self
            .database()
            .read(|sql| sql.rows(&text, &[LISTED_MAX.into()]))?;
        rows.into_iter().map(public).collect()
    }

    /// # Errors
    /// The store fails.
    pub fn published_post(&self, id: &str) -> Result<Option<PublicPost>, StoreFault> {
        let text = format!("{PUBLIC} AND p.id = $1");
        let rows = self.database().read(|sql| sql.rows(&text, &[id.into()]))?;
        rows.into_iter().next().map(public).transpose()
    }

    /// The bytes of a published video.
    ///
    /// # Errors
    /// The store fails.
    pub fn video(&self, post: &PublicPost) -> Result<Bytes, StoreFault> {
        bytes(&self.database(), &post.id)
    }
}

fn bytes(database: &Database, post: &str) -> Result<Bytes, StoreFault> {
    let most = i64::try_from(VIDEO_BYTES_MAX / CHUNK + 1).expect("it is a small number");
    let text = "SELECT hex FROM post_bytes WHERE post = $1 ORDER BY nth LIMIT $2";
    let mut held = Vec::new();
    for mut row in database.read(|sql| sql.rows(text, &[post.into(), most.into()]))? {
        let chunk = unhex(&row.text()?).ok_or(StoreFault::OurRow("bytes that are none"))?;
        held.extend_from_slice(&chunk);
    }
    Ok(held.into())
}

fn public(mut row: Row) -> Result<PublicPost, StoreFault> {
    Ok(PublicPost {
        id: row.text()?,
        title: row.text()?,
        by: row.text()?,
        posted: Millis(row.int()?),
        video: VideoType::stored(&row.text()?)?,
        digest: row.text()?,
    })
}

fn count(sql: &mut dyn Sql, text: &str, with: &[Value]) -> Result<i64, StoreFault> {
    let row = sql.rows(text, with)?.into_iter().next();
    row.ok_or(StoreFault::OurRow("a count of nothing"))?.int()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a text takes more text");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NewMember, Store};

    const NOW: Millis = Millis(1_800_000_000_000);

    fn webm(length: usize) -> Bytes {
        let mut bytes = b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm".to_vec();
        bytes.resize(length, 7);
        bytes.into()
    }

    fn member(store: &Store, mail: &str) -> MemberId {
        let new = NewMember {
            mail,
            nickname: "A",
            password: "hash",
        };
        store.desk.register(&new, NOW).unwrap().unwrap()
    }

    #[test]
    fn a_file_is_what_its_first_bytes_say_and_no_larger_than_it_may_be() {
        let store = crate::fresh::store();
        let a = member(&store, "a@example.test");
        for (bytes, taken) in [
            (webm(CHUNK * 3 + 5), Ok(())),
            (Bytes::from_static(b"\0\0\0\x18ftypmp42 and more"), Ok(())),
            (
                Bytes::from_static(b"<html><script>"),
                Err(NotTaken::NoVideo),
            ),
            (
                Bytes::from_static(b"\x1a\x45\xdf\xa3 matroska"),
                Err(NotTaken::NoVideo),
            ),
            (Bytes::new(), Err(NotTaken::NoVideo)),
            (webm(VIDEO_BYTES_MAX + 1), Err(NotTaken::TooLarge)),
        ] {
            let came = store.desk.post(&a, "x", &bytes, NOW).unwrap();
            assert_eq!(came.as_ref().map(drop), taken.as_ref().map(|&()| ()));
            if let Ok(id) = came {
                assert!(
                    store.shelf.published_post(&id).unwrap().is_none(),
                    "not before somebody looked"
                );
                assert!(store.desk.moderate(&id, "").unwrap());
                assert!(!store.desk.moderate(&id, "too late").unwrap());
                let public = store.shelf.published_post(&id).unwrap().unwrap();
                assert_eq!(store.shelf.video(&public).unwrap(), bytes, "every byte");
            }
        }
    }

    #[test]
    fn a_member_posts_so_many_and_takes_back_their_own() {
        let store = crate::fresh::store();
        let (a, b) = (
            member(&store, "a@example.test"),
            member(&store, "b@example.test"),
        );
        let mut ids = Vec::new();
        for nth in 0..A_DAY_MAX {
            let bytes = webm(100 + usize::try_from(nth).unwrap());
            ids.push(store.desk.post(&a, "x", &bytes, NOW).unwrap().unwrap());
        }
        assert_eq!(
            store.desk.post(&a, "x", &webm(100), NOW).unwrap().as_ref(),
            Ok(&ids[0]),
            "the same file"
        );
        assert_eq!(
            store.desk.post(&a, "x", &webm(99), NOW).unwrap(),
            Err(NotTaken::TooMany)
        );
        assert!(
            store
                .desk
                .post(&a, "x", &webm(99), NOW.plus(DAY_MS))
                .unwrap()
                .is_ok(),
            "tomorrow"
        );
        assert!(!store.desk.take_back(&b, &ids[0]).unwrap(), "another's");
        assert!(store.desk.moderate(&ids[1], "").unwrap());
        let public = store.shelf.published_post(&ids[1]).unwrap().unwrap();
        assert!(store.desk.take_back(&a, &ids[1]).unwrap());
        assert!(store.shelf.published_post(&ids[1]).unwrap().is_none());
        assert!(
            store.shelf.video(&public).unwrap().is_empty(),
            "its bytes are gone"
        );
        assert!(store.desk.moderate(&ids[2], "no film").unwrap());
        assert!(
            store
                .desk
                .posts(&a)
                .unwrap()
                .iter()
                .any(|it| it.why == "no film")
        );
        assert!(store.desk.posts(&b).unwrap().is_empty());
    }
}
