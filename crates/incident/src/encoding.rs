//! Texts that are not UTF-8: logs and tables from Japanese machines.
//!
//! Never guesses in silence: an encoding is named by whoever knows it, or told by the mark at a text's beginning. A
//! guess is offered, and not taken.
//!
//! Invariant: what is not of the encoding is told so, and never replaced by something else.

use std::borrow::Cow;

use encoding_rs::{EUC_JP, ISO_2022_JP, SHIFT_JIS, UTF_8};

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

/// What is tried, where a text is not UTF-8.
const GUESSED: [&encoding_rs::Encoding; 3] = [ISO_2022_JP, EUC_JP, SHIFT_JIS];

impl Encoding {
    /// What most texts are.
    pub const UTF_8: Self = Self(UTF_8);

    /// The names that [`Encoding::named`] knows, besides what else they are called.
    pub const NAMES: [&'static str; 6] = [
        "utf-8",
        "shift_jis",
        "euc-jp",
        "iso-2022-jp",
        "utf-16le",
        "utf-16be",
    ];

    /// The encoding of this name: as the web calls it, `cp932` and `sjis` among them.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        // Windows's own name for it, which the web does not know.
        let name = match name.to_ascii_lowercase().as_str() {
            "cp932" => "windows-31j".to_owned(),
            "eucjp" | "euc_jp" => "euc-jp".to_owned(),
            other => other.to_owned(),
        };
        let found = encoding_rs::Encoding::for_label(name.as_bytes())?;
        let is_known = Self::NAMES
            .iter()
            .any(|it| found.name().eq_ignore_ascii_case(it));
        is_known.then_some(Self(found))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        self.0.name().to_ascii_lowercase()
    }

    /// Whether a line's end is one byte, so that a text may be cut into lines before it is read.
    #[must_use]
    pub fn has_lines(self) -> bool {
        self.0.is_ascii_compatible() || self.0 == ISO_2022_JP
    }

    /// A line, or a text without a mark at its beginning; `None` where it is not of this encoding.
    #[must_use]
    pub fn read(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        self.0
            .decode_without_bom_handling_and_without_replacement(bytes)
    }

    /// A whole text: the mark at its beginning goes before what is named.
    ///
    /// # Errors
    /// It is not of the encoding; with the one that it may be of, if one is.
    pub fn read_whole(self, bytes: &[u8]) -> Result<Cow<'_, str>, Option<Self>> {
        let (encoding, mark) = match encoding_rs::Encoding::for_bom(bytes) {
            Some((encoding, mark)) => (Self(encoding), mark),
            None => (self, 0),
        };
        let rest = bytes.get(mark..).unwrap_or_default();
        encoding.read(rest).ok_or_else(|| Self::guessed(rest))
    }

    /// The first of those that it may be, where it is not UTF-8.
    #[must_use]
    pub fn guessed(bytes: &[u8]) -> Option<Self> {
        let may_be = GUESSED.map(Self).into_iter();
        let escapes = bytes.contains(&0x1b);
        may_be
            .filter(|it| escapes || it.0 != ISO_2022_JP)
            .find(|it| it.read(bytes).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "購入履歴 ソ連 表";

    #[test]
    fn a_text_is_read_by_the_encoding_that_is_named() {
        for (name, bytes) in [
            // The second bytes of two of these letters are a backslash in ASCII.
            ("shift_jis", SHIFT_JIS.encode(TEXT).0),
            ("CP932", SHIFT_JIS.encode(TEXT).0),
            ("euc-jp", EUC_JP.encode(TEXT).0),
            ("iso-2022-jp", ISO_2022_JP.encode(TEXT).0),
            ("utf-8", TEXT.as_bytes().into()),
        ] {
            let encoding = Encoding::named(name).unwrap();
            assert_eq!(encoding.read(&bytes).as_deref(), Some(TEXT), "{name}");
            assert_eq!(encoding.read_whole(&bytes).as_deref(), Ok(TEXT), "{name}");
            assert!(encoding.has_lines(), "{name}");
        }
        for unknown in ["latin-9", "windows-1252", "replacement", ""] {
            assert_eq!(Encoding::named(unknown), None, "{unknown}");
        }
        for name in Encoding::NAMES {
            assert_eq!(Encoding::named(name).unwrap().name(), name);
        }
    }

    #[test]
    fn what_is_of_another_encoding_is_told_with_the_one_that_it_may_be() {
        let utf_8 = Encoding::UTF_8;
        for (bytes, guess) in [
            (SHIFT_JIS.encode(TEXT).0, Some("shift_jis")),
            (EUC_JP.encode(TEXT).0, Some("euc-jp")),
            (b"\xff\xff\xff".as_slice().into(), None),
        ] {
            let told = utf_8.read_whole(&bytes).unwrap_err();
            assert_eq!(told.map(Encoding::name).as_deref(), guess);
        }
        // And never read as something that it is not.
        let euc = EUC_JP.encode(TEXT).0;
        assert_eq!(Encoding::named("iso-2022-jp").unwrap().read(&euc), None);
    }

    #[test]
    fn a_mark_at_the_beginning_says_more_than_a_name() {
        let little: Vec<u8> = [0xfeff_u16]
            .into_iter()
            .chain(TEXT.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let marked = [b"\xef\xbb\xbf", TEXT.as_bytes()].concat();
        for bytes in [little, marked] {
            let shift_jis = Encoding::named("shift_jis").unwrap();
            assert_eq!(shift_jis.read_whole(&bytes).as_deref(), Ok(TEXT));
        }
        assert!(!Encoding::named("utf-16le").unwrap().has_lines());
    }
}
