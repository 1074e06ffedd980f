//! What a handler is told of a request.
//!
//! Two views, one for each side of the partition: [`Public`] is what a shared page may depend on (the
//! language, the parameters of the path, the declared parameters of the query), [`Asked`] is a
//! person's request with cookie and form. A handler of a shared page cannot get at the second.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::multipart::Upload;
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};

use crate::media::MediaBase;
use crate::rest::Notice;
use crate::tries::Device;

/// The cookie that tells a session. Its value is one client's alone and is new after each login.
pub const SESSION_COOKIE: &str = "__Host-session";

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub i64);

impl Millis {
    /// So many milliseconds later; the end of time rather than an overflow.
    #[must_use]
    pub fn plus(self, span_ms: i64) -> Self {
        Self(self.0.saturating_add(span_ms))
    }
}

/// The language of a page. It is in the address, never in a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    Ja,
    En,
}

impl Lang {
    /// As in addresses and in HTML.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Ja => "ja",
            Self::En => "en",
        }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Ja => Self::En,
            Self::En => Self::Ja,
        }
    }

    /// Whichever text is of this language.
    #[must_use]
    pub fn of<T>(self, ja: T, en: T) -> T {
        match self {
            Self::Ja => ja,
            Self::En => en,
        }
    }
}

/// What a shared page may depend on.
#[derive(Clone, Debug)]
pub struct Public {
    path: String,
    parameters: Vec<(&'static str, String)>,
    query: BTreeMap<String, String>,
    notice: Option<Notice>,
    media: MediaBase,
}

impl Public {
    pub(crate) fn new(path: &str, query: &str, parameters: Vec<(&'static str, String)>) -> Self {
        let mut held = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            // No text has it, and not every engine takes it.
            if value.contains('\0') {
                continue;
            }
            // The first counts, so that nothing said later changes it.
            held.entry(name.into_owned())
                .or_insert_with(|| value.into_owned());
        }
        Self {
            path: path.to_owned(),
            parameters,
            query: held,
            notice: None,
            media: MediaBase::of_trials(),
        }
    }

    /// The same, with pictures and films elsewhere.
    pub(crate) fn with_media(self, media: MediaBase) -> Self {
        Self { media, ..self }
    }

    /// Where pictures and films are.
    pub(crate) fn media(&self) -> &MediaBase {
        &self.media
    }

    /// The same with what a personal page says on top.
    pub(crate) fn with_notice(self, notice: Option<Notice>) -> Self {
        Self { notice, ..self }
    }

    /// The same as a shared page may see it: with only these parameters of the query, and no notice.
    pub(crate) fn with_query(&self, names: &[&str]) -> Self {
        let kept = self
            .query
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()));
        let query = kept
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Self {
            query,
            notice: None,
            ..self.clone()
        }
    }

    /// The path, as on the wire.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The language in the address; Japanese where there is none.
    #[must_use]
    pub fn lang(&self) -> Lang {
        match self.path.split('/').nth(1) {
            Some("en") => Lang::En,
            _ => Lang::Ja,
        }
    }

    /// What is said on top of the page; never on a shared one.
    pub(crate) fn notice(&self) -> Option<Notice> {
        self.notice
    }

    /// A parameter of the path. Empty when the pattern has none of the name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(it, _)| *it == name);
        found.map_or("", |(_, value)| value)
    }

    /// A parameter of the query. Empty when it was not given.
    #[must_use]
    pub fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// A person's request. It does not print what was typed.
pub struct Asked {
    pub public: Public,
    pub now: Millis,
    /// The value of the session's cookie, if there is one that could be ours.
    pub token: Option<Token>,
    /// Where it came from, as far as known. For limits alone.
    pub client: Option<IpAddr>,
    /// The browser, when it says that it is one in which somebody has logged in. For limits alone.
    pub device: Option<Device>,
    pub(crate) form: BTreeMap<String, String>,
    pub(crate) upload: Option<Upload>,
}

impl Asked {
    #[must_use]
    pub fn lang(&self) -> Lang {
        self.public.lang()
    }

    /// A field of the form. Empty when it was not given.
    #[must_use]
    pub fn form(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    /// Where to go on after a login: the `next` of the form or the query, when it is a page of ours.
    #[must_use]
    pub fn next(&self) -> Option<Local> {
        let given = [self.form("next"), self.public.query("next")];
        given.into_iter().find_map(Local::parse)
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked(…)")
    }
}

pub(crate) fn fields(form: &[u8]) -> BTreeMap<String, String> {
    let mut held = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(form) {
        held.entry(name.into_owned())
            .or_insert_with(|| value.into_owned());
    }
    held
}

/// The secret by which a session is known. It does not print; the store keeps its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// A new one.
    ///
    /// # Panics
    /// The system has no randomness: then no session may begin.
    #[must_use]
    pub fn fresh() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        Self(bytes)
    }

    /// Of the request's cookie. Two different values are none: one of them may be somebody else's.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(cookie_of(headers, SESSION_COOKIE)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let digest = blake3::Hash::from_hex(text).ok()?;
        Some(Self(*digest.as_bytes()))
    }

    pub(crate) fn text(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// What the store knows it by.
    #[must_use]
    pub fn digest(&self) -> String {
        blake3::derive_key("shikiri-site 2026 session", &self.0)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The value of a cookie. Two different values are none.
pub(crate) fn cookie_of<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let lines = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|it| it.to_str().ok());
    let pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|it| it.trim().split_once('='));
    let mut values = pairs
        .filter(|(name, _)| *name == wanted)
        .map(|(_, value)| value);
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}

/// A page of this site, by its path: never another host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local(String);

impl Local {
    /// Refuses what a browser could take for another site: `//host`, `/\host`, schemes, controls.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let ours = text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= 512
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        ours.then(|| Self(text.to_owned()))
    }

    /// A page of ours, written here.
    ///
    /// # Panics
    /// It is not one: its maker is wrong.
    #[must_use]
    pub fn page(path: &str) -> Self {
        Self::parse(path).expect("a path of our own is a path of this site")
    }

    /// A page of ours with parameters. One that would be too long goes without them.
    pub(crate) fn with(path: &str, pairs: &[(&str, &str)]) -> Self {
        let text = format!("{path}?");
        let start = text.len();
        let mut to = form_urlencoded::Serializer::for_suffix(text, start);
        Self::parse(&to.extend_pairs(pairs).finish()).unwrap_or_else(|| Self::page(path))
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a path of this site is visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_page_is_one_of_ours() {
        for (text, ours) in [
            ("/ja/account", true),
            ("/ja/account?x=1", true),
            ("", false),
            ("ja/account", false),
            ("//evil.test/", false),
            ("/\\evil.test/", false),
            ("/x\\y", false),
            ("https://evil.test/", false),
            ("/x\r\nSet-Cookie: a=b", false),
            ("/\t/evil.test", false),
            ("/映画", false),
        ] {
            assert_eq!(Local::parse(text).is_some(), ours, "{text:?}");
        }
    }

    #[test]
    fn a_session_is_told_by_one_whole_cookie() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let name = SESSION_COOKIE;
        for (lines, found) in [
            (vec![format!("{name}={a}")], true),
            (vec![format!("x=1; {name}={a}; y=2")], true),
            (vec![format!("{name}={a}; {name}={a}")], true),
            (vec![format!("{name}={a}; {name}={b}")], false),
            (vec![format!("{name}={a}"), format!("{name}={b}")], false),
            (vec![format!("{name}=abc")], false),
            (vec![format!("session={a}")], false),
            (vec![], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(COOKIE, line.parse().unwrap());
            }
            assert_eq!(Token::of(&headers).is_some(), found, "{lines:?}");
        }
    }

    #[test]
    fn what_was_typed_and_what_is_secret_does_not_print() {
        let token = Token::fresh();
        assert!(!format!("{token:?}").contains(&token.text()));
        assert_ne!(token.digest(), token.text());
    }
}
