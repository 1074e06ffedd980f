//! Tokens: what lets a program somewhere else do one thing.
//!
//! Never keeps a token: a file in the data folder holds a digest of each, with its name, scopes and
//! end. A token is shown once, to whoever made it. Invariants: what is not known, has ended or was
//! revoked allows nothing, and so does every token when the file cannot be read. What is known is never
//! locked while the disk is waited for: who closes the site with a token, and who revokes one, waits for
//! no disk that hangs (ADR 9).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shikiri_record::UnixMillis;

use super::permission::Scope;

/// The version of the file.
const VERSION: u32 = 1;
/// More tokens than anybody can keep an eye on.
const TOKENS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
/// The longest time for which a token is given.
const LIFETIME_MAX: Duration = Duration::from_secs(400 * 86_400);
/// What a token begins with, so that scanners of repositories know one when they see it.
const PREFIX: &str = "shikiri_";
/// Bytes of randomness in a token.
const SECRET_BYTES: usize = 32;

/// The tokens of a node.
pub struct Tokens {
    path: PathBuf,
    known: Mutex<Vec<Token>>,
    /// Held over the writing of the file, and never asked for by who holds `known`.
    writing: Mutex<()>,
    /// Puts a text in the file's place.
    put: Put,
    wrong: Mutex<Wrong>,
}

/// Puts a text in a file's place, so that a crash leaves the one or the other whole.
type Put = Box<dyn Fn(&Path, &str) -> io::Result<()> + Send + Sync>;

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).finish()
    }
}

/// A token as it is kept: nobody can be it who knows this.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its name, in the timeline and in logs.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub made_ms: u64,
    /// When it ends.
    pub ends_ms: u64,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether the timeline knows what became of it last.
    #[serde(default)]
    on_timeline: bool,
    /// BLAKE3 of the token, in hexadecimal. A token is random enough that no salt is needed.
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    tokens: Vec<Token>,
}

/// Somebody who has shown a valid token.
#[derive(Debug)]
pub(super) struct Bearer {
    name: String,
    scopes: Vec<Scope>,
}

impl Bearer {
    pub(super) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    pub(super) fn into_name(self) -> String {
        self.name
    }

    #[cfg(test)]
    pub(super) fn test(name: &str, scopes: &[Scope]) -> Self {
        Self {
            name: name.into(),
            scopes: scopes.to_vec(),
        }
    }
}

/// A token in full. It prints as nothing; [`Secret::reveal`] is called once, to show it.
pub struct Secret(String);

impl Secret {
    /// The token itself.
    #[must_use]
    pub fn reveal(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why the tokens cannot be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// The file cannot be read or written.
    #[error("the tokens' file {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The file is not what this program wrote.
    #[error("the tokens' file {0} cannot be understood, so no token is valid: {1}")]
    NotTokens(PathBuf, String),
    /// What the operator asked for cannot be.
    #[error("{0}")]
    Operator(String),
}

/// Why somebody's token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WrongToken {
    #[error("this token is not valid: it is unknown, has ended or was revoked")]
    NotValid,
    #[error("too many wrong tokens came from this address: try again in a minute")]
    TooMany,
}

impl Tokens {
    /// The tokens of a file; none when there is no file.
    ///
    /// # Errors
    /// The file is there and cannot be read, or is something else.
    pub fn open(path: &Path) -> Result<Self, TokenFault> {
        let known = match fs::read(path) {
            Ok(bytes) => read(path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(TokenFault::File(path.to_owned(), error)),
        };
        Ok(Self {
            path: path.to_owned(),
            known: Mutex::new(known),
            writing: Mutex::default(),
            put: Box::new(put),
            wrong: Mutex::default(),
        })
    }

    /// Makes a token. A name is used once: in the timeline it must mean one token for ever.
    ///
    /// # Errors
    /// The name is taken or no name, nothing is allowed, the time is too long, there are too many, or
    /// the file cannot be written.
    pub fn make(
        &self,
        name: &str,
        scopes: &[Scope],
        lifetime: Duration,
        now: UnixMillis,
    ) -> Result<Secret, TokenFault> {
        let no = |why: &str| Err(TokenFault::Operator(why.into()));
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
            return no("a token's name has letters, digits, `-`, `.` and `_`, at most 64");
        }
        if scopes.is_empty() {
            return no("a token without a scope allows nothing: give it --scope");
        }
        if lifetime.is_zero() || lifetime > LIFETIME_MAX {
            return no("a token is for more than nothing and at most 400 days: --for 90d");
        }
        let writing = self.writing();
        let mut all = self.list();
        if all.iter().any(|token| token.name == name) {
            return no(
                "a token of this name is or was there: choose another, such as this with a year",
            );
        }
        if all.len() >= TOKENS_MAX {
            return no(
                "there are 64 tokens, and no more are kept: `shikiri token forget` the old ones",
            );
        }
        let secret =
            random().map_err(|error| TokenFault::File("the system's randomness".into(), error))?;
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let token = Token {
            name: name.to_owned(),
            scopes,
            made_ms: now.0,
            ends_ms: now.0.saturating_add(lifetime_ms),
            revoked: false,
            on_timeline: false,
            digest: digest(&secret).to_hex().to_string(),
        };
        // It allows something: the file has it first. Another may be revoked meanwhile, and stays so.
        all.push(token.clone());
        self.write(&all, &writing)?;
        self.known().push(token);
        Ok(Secret(secret))
    }

    /// Revokes a token, at once: who waits for the disk here does so afterwards.
    ///
    /// # Errors
    /// There is none of this name, or the file cannot be written: then it is revoked all the same for
    /// as long as this process runs.
    pub fn revoke(&self, name: &str) -> Result<(), TokenFault> {
        let mut known = self.known();
        let found = known.iter_mut().find(|token| token.name == name);
        let Some(token) = found else {
            return Err(TokenFault::Operator(format!("no token is called `{name}`")));
        };
        token.revoked = true;
        token.on_timeline = false;
        drop(known);
        self.keep()
    }

    /// The tokens of which the timeline does not know the last: made or revoked since, perhaps while no
    /// node ran. It is taken to know from here on.
    ///
    /// # Errors
    /// The file cannot be written; they come again at the next start.
    pub(super) fn untold(&self) -> Result<Vec<Token>, TokenFault> {
        let mut known = self.known();
        let untold: Vec<Token> = known.iter().filter(|t| !t.on_timeline).cloned().collect();
        for token in known.iter_mut() {
            token.on_timeline = true;
        }
        drop(known);
        if untold.is_empty() {
            return Ok(untold);
        }
        self.keep().map(|()| untold)
    }

    /// Forgets a token that has ended or was revoked; its name may be used again.
    ///
    /// # Errors
    /// There is none of this name, it is still valid, or the file cannot be written.
    pub fn forget(&self, name: &str, now: UnixMillis) -> Result<(), TokenFault> {
        let writing = self.writing();
        let mut left = self.list();
        let Some(token) = left.iter().find(|token| token.name == name) else {
            return Err(TokenFault::Operator(format!("no token is called `{name}`")));
        };
        if token.is_valid(now) {
            let why = format!("`{name}` is still valid: revoke it first");
            return Err(TokenFault::Operator(why));
        }
        left.retain(|token| token.name != name);
        self.write(&left, &writing)?;
        self.known().retain(|token| token.name != name);
        Ok(())
    }

    /// Every token, in the order in which they were made.
    #[must_use]
    pub fn list(&self) -> Vec<Token> {
        self.known().clone()
    }

    /// Whether any token may be used now.
    #[must_use]
    pub fn any_valid(&self, now: UnixMillis) -> bool {
        self.known().iter().any(|token| token.is_valid(now))
    }

    /// Whose token this is. `from`: where it comes from, when that is no user of this host; after too
    /// many wrong ones from there none is looked at.
    pub(super) fn bearer(
        &self,
        shown: &str,
        from: Option<IpAddr>,
        now: UnixMillis,
    ) -> Result<Bearer, WrongToken> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if from.is_some_and(|from| wrong.too_many(from, now)) {
            return Err(WrongToken::TooMany);
        }
        let shown = digest(shown);
        let known = self.known();
        // Comparing digests takes the same time whatever they are.
        let found = known.iter().find(|token| {
            blake3::Hash::from_hex(&token.digest).is_ok_and(|digest| digest == shown)
        });
        match found.filter(|token| token.is_valid(now)) {
            Some(token) => Ok(Bearer {
                name: token.name.clone(),
                scopes: token.scopes.clone(),
            }),
            None => {
                if let Some(from) = from {
                    wrong.count(from, now);
                }
                Err(WrongToken::NotValid)
            }
        }
    }

    /// For a moment: never while the disk is waited for.
    fn known(&self) -> MutexGuard<'_, Vec<Token>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is known when it is this one's turn.
    fn keep(&self) -> Result<(), TokenFault> {
        let writing = self.writing();
        self.write(&self.list(), &writing)
    }

    /// Writes these, one who writes after another.
    fn write(&self, tokens: &[Token], _turn: &MutexGuard<'_, ()>) -> Result<(), TokenFault> {
        let kept = Kept {
            version: VERSION,
            tokens: tokens.to_vec(),
        };
        let text = serde_json::to_string_pretty(&kept).expect("tokens are plain data");
        (self.put)(&self.path, &text).map_err(|error| TokenFault::File(self.path.clone(), error))
    }
}

/// Writes beside the file and renames.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let coming = path.with_extension("coming");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&coming)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&coming, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl Token {
    /// Whether it may be used.
    #[must_use]
    pub const fn is_valid(&self, now: UnixMillis) -> bool {
        !self.revoked && now.0 < self.ends_ms
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Token>, TokenFault> {
    let not = |why: String| TokenFault::NotTokens(path.to_owned(), why);
    // The library's words would quote what it found.
    let kept: Kept = serde_json::from_slice(bytes)
        .map_err(|error| not(format!("line {}, column {}", error.line(), error.column())))?;
    if kept.version != VERSION {
        return Err(not(format!("its version is {}", kept.version)));
    }
    Ok(kept.tokens)
}

fn digest(token: &str) -> blake3::Hash {
    blake3::hash(token.as_bytes())
}

/// A new token.
fn random() -> io::Result<String> {
    use std::fmt::Write as _;
    let mut bytes = [0_u8; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let mut token = PREFIX.to_owned();
    for byte in bytes {
        write!(token, "{byte:02x}").expect("a string can be written to");
    }
    Ok(token)
}

/// Who has shown wrong tokens of late.
#[derive(Debug, Default)]
struct Wrong(BTreeMap<IpAddr, (u64, u32)>);

impl Wrong {
    /// In one minute, from one address.
    const WRONG_MAX: u32 = 10;
    const ADDRESSES_MAX: usize = 1024;

    fn too_many(&self, from: IpAddr, now: UnixMillis) -> bool {
        self.0
            .get(&network(from))
            .is_some_and(|(minute, n)| *minute == now.0 / 60_000 && *n >= Self::WRONG_MAX)
    }

    fn count(&mut self, from: IpAddr, now: UnixMillis) {
        let minute = now.0 / 60_000;
        if self.0.len() >= Self::ADDRESSES_MAX {
            self.0.retain(|_, (counted, _)| *counted == minute);
        }
        // So many addresses at once are one person with many: all of them wait for the next minute.
        if self.0.len() >= Self::ADDRESSES_MAX && !self.0.contains_key(&network(from)) {
            self.0.pop_first();
        }
        let entry = self.0.entry(network(from)).or_insert((minute, 0));
        if entry.0 != minute {
            *entry = (minute, 0);
        }
        entry.1 += 1;
    }
}

/// One household of IPv6 addresses counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let name = format!("shikiri-tokens-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self) -> Tokens {
            Tokens::open(&self.0.join("tokens.json")).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_token_is_kept_as_a_digest_and_survives_a_restart() {
        let folder = Folder::new("kept");
        let secret = folder.open().make("canary", &[Scope::Close], DAY, NOW);
        let secret = secret.unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let secret = secret.reveal();
        let file = folder.0.join("tokens.json");
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&secret) && !text.contains(secret.strip_prefix(PREFIX).unwrap()));
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );

        let tokens = folder.open();
        let bearer = tokens.bearer(&secret, None, NOW).unwrap();
        assert!(bearer.has(Scope::Close) && !bearer.has(Scope::Purge));
        assert_eq!(bearer.into_name(), "canary");
    }

    #[test]
    fn what_has_ended_was_revoked_or_is_unknown_allows_nothing() {
        let folder = Folder::new("ended");
        let tokens = folder.open();
        let make = |name| {
            tokens
                .make(name, &[Scope::Read, Scope::Read], DAY, NOW)
                .unwrap()
                .reveal()
        };
        let (one, two) = (make("one"), make("two"));
        let end = UnixMillis(NOW.0 + 86_400_000);
        tokens.revoke("two").unwrap();
        for (shown, now, valid) in [
            (one.as_str(), NOW, true),
            (&one, UnixMillis(end.0 - 1), true),
            (&one, end, false),
            (&two, NOW, false),
            ("", NOW, false),
            (PREFIX, NOW, false),
            (&one.to_uppercase(), NOW, false),
        ] {
            assert_eq!(tokens.bearer(shown, None, now).is_ok(), valid, "{now:?}");
        }
        assert!(folder.open().bearer(&two, None, NOW).is_err());
        assert!(tokens.any_valid(NOW) && !tokens.any_valid(end));
        assert!(tokens.forget("one", NOW).is_err());
        tokens.forget("two", NOW).unwrap();
        tokens.forget("one", end).unwrap();
        assert!(folder.open().list().is_empty());
    }

    #[test]
    fn the_timeline_is_told_once_of_each() {
        let folder = Folder::new("told");
        let told = |tokens: &Tokens| {
            let untold = tokens.untold().unwrap();
            let names = untold.into_iter().map(|token| (token.name, token.revoked));
            names.collect::<Vec<_>>()
        };
        let tokens = folder.open();
        tokens.make("one", &[Scope::Read], DAY, NOW).unwrap();
        assert_eq!(told(&folder.open()), [("one".to_owned(), false)]);
        let tokens = folder.open();
        assert!(told(&tokens).is_empty());
        tokens.revoke("one").unwrap();
        assert_eq!(told(&tokens), [("one".to_owned(), true)]);
        assert!(told(&folder.open()).is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let folder = Folder::new("refused");
        let tokens = folder.open();
        tokens.make("here", &[Scope::Read], DAY, NOW).unwrap();
        for (name, scopes, lifetime) in [
            ("", &[Scope::Read][..], DAY),
            ("a b", &[Scope::Read], DAY),
            ("here", &[Scope::Read], DAY),
            ("none", &[], DAY),
            ("short", &[Scope::Read], Duration::ZERO),
            ("long", &[Scope::Read], DAY * 401),
        ] {
            assert!(tokens.make(name, scopes, lifetime, NOW).is_err(), "{name}");
        }
        assert!(tokens.revoke("nobody").is_err());
        for n in 1..TOKENS_MAX {
            tokens
                .make(&n.to_string(), &[Scope::Read], DAY, NOW)
                .unwrap();
        }
        assert!(tokens.make("more", &[Scope::Read], DAY, NOW).is_err());
    }

    /// A disk that hangs: whoever uses a token or revokes one goes on, and what was being written then
    /// undoes nothing of it.
    #[test]
    fn who_closes_with_a_token_and_who_revokes_one_waits_for_no_disk() {
        let folder = Folder::new("hangs");
        let mut tokens = folder.open();
        let make = |name, scope| tokens.make(name, &[scope], DAY, NOW).unwrap().reveal();
        let (canary, stolen) = (make("canary", Scope::Close), make("stolen", Scope::Purge));
        let (hangs, hung) = mpsc::channel::<()>();
        let (goes_on, go_on) = mpsc::channel::<()>();
        let go_on = Mutex::new(go_on);
        tokens.put = Box::new(move |path, text| {
            hangs.send(()).unwrap();
            go_on.lock().unwrap().recv().unwrap();
            put(path, text)
        });
        let at_once = Duration::from_secs(1);
        thread::scope(|scope| {
            let tokens = &tokens;
            let making = scope.spawn(|| tokens.make("new", &[Scope::Read], DAY, NOW));
            hung.recv_timeout(at_once).unwrap();
            let (asked, answered) = mpsc::channel();
            let shown = (canary.clone(), stolen.clone());
            scope.spawn(move || {
                let bearer = tokens.bearer(&shown.0, None, NOW).unwrap();
                asked.send(bearer.has(Scope::Close)).unwrap();
                asked.send(tokens.any_valid(NOW)).unwrap();
                asked.send(tokens.list().len() == 2).unwrap();
            });
            for what in ["the canary's", "any", "the list"] {
                let told = answered.recv_timeout(at_once);
                assert_eq!(told, Ok(true), "{what} waits for the disk");
            }
            let revoking = scope.spawn(|| tokens.revoke("stolen"));
            let began = Instant::now();
            while tokens.bearer(&stolen, None, NOW).is_ok() {
                assert!(began.elapsed() < at_once, "it is not revoked");
                thread::yield_now();
            }
            assert!(!making.is_finished() && !revoking.is_finished());
            for _ in 0..2 {
                goes_on.send(()).unwrap();
            }
            making.join().unwrap().unwrap();
            revoking.join().unwrap().unwrap();
        });
        for tokens in [tokens, folder.open()] {
            assert!(tokens.bearer(&canary, None, NOW).is_ok());
            assert!(tokens.bearer(&stolen, None, NOW).is_err());
            assert_eq!(tokens.list().len(), 3);
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_no_tokens() {
        let folder = Folder::new("else");
        let file = folder.0.join("tokens.json");
        for text in ["", "{}", "{\"version\":2,\"tokens\":[]}", "secret-in-it"] {
            fs::write(&file, text).unwrap();
            let why = Tokens::open(&file).unwrap_err().to_string();
            assert!(
                why.contains("no token is valid") && !why.contains("secret"),
                "{why}"
            );
        }
    }

    #[test]
    fn after_too_many_wrong_ones_none_is_looked_at_from_there() {
        let folder = Folder::new("wrong");
        let tokens = folder.open();
        let right = tokens
            .make("one", &[Scope::Read], DAY, NOW)
            .unwrap()
            .reveal();
        let [here, neighbour, there] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|a| a.parse::<IpAddr>().unwrap());
        let show = |shown: &str, from, now| tokens.bearer(shown, from, now).err();
        for _ in 0..Wrong::WRONG_MAX {
            assert_eq!(show("wrong", Some(here), NOW), Some(WrongToken::NotValid));
        }
        assert_eq!(
            show(&right, Some(neighbour), NOW),
            Some(WrongToken::TooMany)
        );
        assert_eq!(show(&right, Some(there), NOW), None);
        assert_eq!(show(&right, None, NOW), None);
        assert_eq!(show(&right, Some(here), UnixMillis(NOW.0 + 60_000)), None);
        for n in 0..2 * Wrong::ADDRESSES_MAX {
            let from = IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]);
            assert_eq!(show("wrong", Some(from), NOW), Some(WrongToken::NotValid));
        }
        let kept = tokens.wrong.lock().unwrap().0.len();
        assert!(kept <= Wrong::ADDRESSES_MAX);
    }
}
