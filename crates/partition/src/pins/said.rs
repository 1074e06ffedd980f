//! What an origin says of a response: whom it serves, whose data it shows, whether a session begins.
//!
//! `docs/origin-contract.md` describes the fields. What cannot be read is never taken for silence: an
//! origin that tries to name somebody has somebody in mind.

use http::HeaderMap;
use shikiri_record::{MemberTag, TagKey};

/// The longest id.
const ID_BYTES_MAX: usize = 128;
/// The longest name of a page.
const PAGE_BYTES_MAX: usize = 64;

/// An id that the origin gives a member. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct MemberId(Box<str>);

impl MemberId {
    /// Visible ASCII without `"`, `,` and `;`, up to 128 of it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';');
        let is_id = !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(is_plain);
        is_id.then(|| Self(text.into()))
    }

    /// The member's pseudonym under a key.
    #[must_use]
    pub fn tag(&self, key: &TagKey) -> MemberTag {
        MemberTag::of(key, &[self.0.as_bytes()])
    }
}

impl std::fmt::Debug for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemberId(…)")
    }
}

/// As what a viewer sees data that is another member's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenAs {
    /// As its owner: the default, so that another viewer is a fault.
    Owner,
    /// As staff, in the course of their work.
    Staff,
    /// As somebody with whom the owner shares it: a family, a conversation.
    Shared,
    /// As anybody: the owner has published it.
    Public,
}

/// What a response does to the session that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionTurn {
    /// From now on it is the viewer's whom the response names.
    Start,
    /// It is nobody's any more.
    End,
}

/// What an origin says of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whom the origin believes it serves.
    pub viewer: Option<MemberId>,
    /// Whose data the response shows, and as what the viewer sees it.
    pub owner: Option<(MemberId, SeenAs)>,
    /// Whether a session begins or ends with it.
    pub session: Option<SessionTurn>,
    /// Which declared page it is.
    pub page: Option<Box<str>>,
}

/// A field that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The field's name.
    pub field: &'static str,
}

impl Said {
    /// What a response's head says. A field with an empty value says nothing, and a name of a page
    /// that cannot be read is none: it protects nobody.
    ///
    /// # Errors
    /// The field that cannot be read, or has several values that differ.
    pub fn read(headers: &HeaderMap) -> Result<Self, Unreadable> {
        let viewer = one(headers, "shikiri-viewer", "Shikiri-Viewer", MemberId::parse)?;
        let owner = one(headers, "shikiri-owner", "Shikiri-Owner", owner)?;
        let session = one(headers, "shikiri-session", "Shikiri-Session", turn)?;
        let page = one(headers, "shikiri-page", "Shikiri-Page", page).unwrap_or_default();
        Ok(Self {
            viewer,
            owner,
            session,
            page,
        })
    }

    /// It says nothing.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            viewer: None,
            owner: None,
            session: None,
            page: None,
        }
    }

    /// Whether it says nothing that pins look at.
    #[must_use]
    pub const fn names_nobody(&self) -> bool {
        self.viewer.is_none() && self.owner.is_none() && self.session.is_none()
    }
}

/// The one value of a field; none when there is no field, or an empty one.
fn one<T: PartialEq>(
    headers: &HeaderMap,
    name: &str,
    field: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Unreadable> {
    let mut found = None;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| Unreadable { field })?;
        let text = text.trim_matches([' ', '\t']);
        if text.is_empty() {
            continue;
        }
        let value = parse(text).ok_or(Unreadable { field })?;
        // Two that differ: one of them, at least, is not whom it is served to.
        if found.as_ref().is_some_and(|other| *other != value) {
            return Err(Unreadable { field });
        }
        found = Some(value);
    }
    Ok(found)
}

fn owner(text: &str) -> Option<(MemberId, SeenAs)> {
    let (id, parameter) = text
        .split_once(';')
        .map_or((text, None), |(id, parameter)| (id, Some(parameter)));
    let id = MemberId::parse(id.trim_end_matches([' ', '\t']))?;
    let seen_as = match parameter.map(|parameter| parameter.trim_start_matches([' ', '\t'])) {
        None => SeenAs::Owner,
        Some("as=staff") => SeenAs::Staff,
        Some("as=shared") => SeenAs::Shared,
        Some("as=public") => SeenAs::Public,
        Some(_) => return None,
    };
    Some((id, seen_as))
}

fn turn(text: &str) -> Option<SessionTurn> {
    match text {
        "start" => Some(SessionTurn::Start),
        "end" => Some(SessionTurn::End),
        _ => None,
    }
}

fn page(text: &str) -> Option<Box<str>> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    (text.len() <= PAGE_BYTES_MAX && text.bytes().all(is_plain)).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::headers;

    type Named<'a> = (Option<&'a str>, Option<(&'a str, SeenAs)>);

    fn check(lines: &str, expected: Result<Named<'_>, &str>) {
        let said = Said::read(&headers(lines));
        let said = said.as_ref().map_err(|unreadable| unreadable.field);
        let got = said.map(|said| {
            let owner = said.owner.as_ref();
            (
                said.viewer.as_ref().map(|id| &*id.0),
                owner.map(|(id, seen_as)| (&*id.0, *seen_as)),
            )
        });
        assert_eq!(got, expected, "{lines}");
    }

    #[test]
    fn who_is_served_and_whose_it_is() {
        use SeenAs::{Owner, Public, Shared, Staff};
        check("", Ok((None, None)));
        check("shikiri-viewer: 4711", Ok((Some("4711"), None)));
        check("shikiri-viewer:", Ok((None, None)));
        check("shikiri-viewer: a=b/c@d:e", Ok((Some("a=b/c@d:e"), None)));
        check(
            "shikiri-viewer: 7\nshikiri-viewer: 7",
            Ok((Some("7"), None)),
        );
        check(
            "shikiri-viewer: 7\nshikiri-viewer: 8",
            Err("Shikiri-Viewer"),
        );
        for wrong in [
            "7, 8",
            "7 8",
            "\"7\"",
            "7; x",
            "caf\u{e9}",
            &"7".repeat(129),
        ] {
            check(&format!("shikiri-viewer: {wrong}"), Err("Shikiri-Viewer"));
        }
        check("shikiri-owner: 7", Ok((None, Some(("7", Owner)))));
        check("shikiri-owner: 7; as=staff", Ok((None, Some(("7", Staff)))));
        check(
            "shikiri-owner: 7 ;as=shared",
            Ok((None, Some(("7", Shared)))),
        );
        check(
            "shikiri-owner: 7;as=public",
            Ok((None, Some(("7", Public)))),
        );
        for wrong in [
            "7; as=admin",
            "7; as=staff; x",
            "7;",
            "; as=staff",
            "7; AS=staff",
        ] {
            check(&format!("shikiri-owner: {wrong}"), Err("Shikiri-Owner"));
        }
    }

    #[test]
    fn sessions_and_pages() {
        let read = |lines| Said::read(&headers(lines));
        let turn = |lines| read(lines).map(|said| said.session);
        assert_eq!(turn("shikiri-session: start"), Ok(Some(SessionTurn::Start)));
        assert_eq!(turn("shikiri-session: end"), Ok(Some(SessionTurn::End)));
        assert_eq!(turn(""), Ok(None));
        let field = "Shikiri-Session";
        assert_eq!(turn("shikiri-session: begin"), Err(Unreadable { field }));
        let page = |lines| read(lines).map(|said| said.page);
        assert_eq!(
            page("shikiri-page: orders/list"),
            Ok(Some("orders/list".into()))
        );
        assert_eq!(page("shikiri-page: no page"), Ok(None));
    }

    #[test]
    fn ids_do_not_print() {
        let said = Said::read(&headers("shikiri-viewer: 4711\nshikiri-owner: 4712"));
        let shown = format!("{said:?}");
        assert!(!shown.contains("471"), "{shown}");
    }
}
