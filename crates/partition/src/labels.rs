//! Labels: by which tags and groups an origin lets its responses be purged together.
//!
//! Tags are read from the fields that cache operators already send (`Cache-Tag`, `Edge-Cache-Tag`,
//! `Surrogate-Key`, `xkey`); they speak to us, and leave with no response. Groups are those of RFC 9875
//! (`Cache-Groups`), and stay. Both are compared byte for byte.
//!
//! Invariant: a purge by a label finds every object that bears it. An object whose labels could not all be
//! read counts as bearing every label of its kind, so it dies with one too many, never with one too few.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Labels of one kind that an object has at most. RFC 9875 2.1 asks for 32.
const LABELS_MAX: usize = 256;

/// Bytes of one label. RFC 9875 2.1 asks for 32.
const LABEL_BYTES_MAX: usize = 1024;

/// What a response may be purged together with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Labels {
    pub(crate) tags: Names,
    pub(crate) groups: Names,
}

/// Labels of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Names {
    names: Box<[Box<str>]>,
    /// There were more, or some that could not be read.
    pub(crate) are_more: bool,
}

const COMMA_SEPARATED: [HeaderName; 2] = [
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("edge-cache-tag"),
];
const SPACE_SEPARATED: [HeaderName; 2] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("xkey"),
];
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// Whether a response field names tags: it speaks to the cache that the operator set up, and to no other.
pub(crate) fn names_tags(name: &HeaderName) -> bool {
    COMMA_SEPARATED.contains(name) || SPACE_SEPARATED.contains(name)
}

impl Labels {
    /// Those of a response that has not come yet: any.
    #[must_use]
    pub fn unknown() -> Self {
        let any = || Names {
            names: Box::default(),
            are_more: true,
        };
        Self {
            tags: any(),
            groups: any(),
        }
    }

    /// The labels that a response bears.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut tags = Gathering::default();
        for (fields, separators) in [(&COMMA_SEPARATED, &[','][..]), (&SPACE_SEPARATED, &[' '])] {
            for value in fields.iter().flat_map(|name| headers.get_all(name)) {
                match value.to_str() {
                    Ok(text) => text.split(separators).for_each(|tag| tags.add(tag)),
                    Err(_) => tags.are_more = true,
                }
            }
        }
        let mut groups = Gathering::default();
        if headers.contains_key(CACHE_GROUPS) {
            match strings(headers, &CACHE_GROUPS) {
                Some(names) => names.iter().for_each(|name| groups.add(name)),
                None => groups.are_more = true,
            }
        }
        Self {
            tags: tags.names(),
            groups: groups.names(),
        }
    }

    /// The labels of either: a body that a 304 confirms keeps those that it came with.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let both = |one: &Names, other: &Names| {
            let mut all = Gathering::default();
            one.iter()
                .chain(other.iter())
                .for_each(|name| all.add(name));
            all.are_more |= one.are_more || other.are_more;
            all.names()
        };
        Self {
            tags: both(&self.tags, &other.tags),
            groups: both(&self.groups, &other.groups),
        }
    }

    /// Bytes that they take in memory.
    pub(crate) fn weight(&self) -> usize {
        let names = self.tags.iter().chain(self.groups.iter());
        names.map(|name| name.len() + size_of::<Box<str>>()).sum()
    }
}

impl Names {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }
}

/// Labels that are being read: each once, and no more than there may be.
#[derive(Default)]
struct Gathering {
    names: Vec<Box<str>>,
    are_more: bool,
}

impl Gathering {
    fn add(&mut self, name: &str) {
        let name = name.trim_matches([' ', '\t']);
        if name.is_empty() || self.names.iter().any(|known| **known == *name) {
            return;
        }
        if self.names.len() == LABELS_MAX || name.len() > LABEL_BYTES_MAX {
            self.are_more = true;
            return;
        }
        self.names.push(name.into());
    }

    fn names(self) -> Names {
        Names {
            names: self.names.into(),
            are_more: self.are_more,
        }
    }
}

/// The groups that a response to an unsafe method invalidates (RFC 9875 3); none when the field cannot
/// be read (RFC 9651 4.2). Whether the method is unsafe is for the caller to know: on any other the field
/// must be ignored.
pub(crate) fn groups_invalidated(headers: &HeaderMap) -> Vec<String> {
    let mut groups = strings(headers, &CACHE_GROUP_INVALIDATION).unwrap_or_default();
    groups.truncate(LABELS_MAX);
    groups
}

/// A field that is a List of Strings (RFC 9651 3.1, 3.3.3); `None` when it is anything else. Parameters
/// are read and say nothing.
fn strings(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let lines: Option<Vec<&str>> = headers
        .get_all(name)
        .iter()
        .map(|value: &HeaderValue| value.to_str().ok())
        .collect();
    let text = lines?.join(",");
    let mut reader = Reader(text.trim_matches(' ').as_bytes());
    let mut strings = Vec::new();
    while !reader.0.is_empty() {
        strings.push(reader.string()?);
        reader.parameters()?;
        reader.space();
        if reader.0.is_empty() {
            return Some(strings);
        }
        reader.take(b',')?;
        reader.space();
        // A comma at the end (RFC 9651 4.2.1).
        if reader.0.is_empty() {
            return None;
        }
    }
    Some(strings)
}

/// What is left to read of a structured field.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// RFC 9651 4.2.5.
    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut string = String::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(string),
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    matches!(escaped, b'"' | b'\\').then(|| string.push(char::from(escaped)))?;
                }
                b' '..=b'~' => string.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    /// RFC 9651 4.2.3.2, for whatever values they have.
    fn parameters(&mut self) -> Option<()> {
        while self.0.first() == Some(&b';') {
            self.take(b';')?;
            self.space();
            if !self.0.first()?.is_ascii_lowercase() && self.0.first() != Some(&b'*') {
                return None;
            }
            self.skip(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || matches!(b, b'_' | b'-' | b'.' | b'*')
            });
            if self.0.first() == Some(&b'=') {
                self.take(b'=')?;
                if self.0.first() == Some(&b'"') {
                    self.string()?;
                } else {
                    let before = self.0.len();
                    self.skip(|b| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'"'));
                    (self.0.len() < before).then_some(())?;
                }
            }
        }
        Some(())
    }

    fn skip(&mut self, belongs: impl Fn(u8) -> bool) {
        let end = self.0.iter().position(|b| !belongs(*b));
        self.0 = &self.0[end.unwrap_or(self.0.len())..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::headers;

    fn read(lines: &str) -> (Vec<String>, bool, Vec<String>, bool) {
        let labels = Labels::of(&headers(lines));
        let of = |names: &Names| names.iter().map(str::to_owned).collect();
        (
            of(&labels.tags),
            labels.tags.are_more,
            of(&labels.groups),
            labels.groups.are_more,
        )
    }

    #[test]
    fn tags_as_operators_write_them() {
        for (lines, tags, are_more) in [
            ("cache-tag: a, b,c", &["a", "b", "c"][..], false),
            ("cache-tag: a b, c", &["a b", "c"], false),
            ("cache-tag: a\ncache-tag: b, a", &["a", "b"], false),
            ("edge-cache-tag: a,b", &["a", "b"], false),
            ("surrogate-key: a b  c", &["a", "b", "c"], false),
            ("surrogate-key: a,b c", &["a,b", "c"], false),
            ("xkey: a\nxkey: b", &["a", "b"], false),
            ("cache-tag: a\nsurrogate-key: b", &["a", "b"], false),
            ("cache-tag: ,, ,", &[], false),
            ("x-other: a", &[], false),
            ("cache-tag: a, \u{e9}", &[], true),
        ] {
            let got = read(lines);
            assert_eq!(
                (got.0.as_slice(), got.1),
                (
                    &tags.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()[..],
                    are_more
                ),
                "{lines}"
            );
        }
    }

    #[test]
    fn labels_are_bounded_and_what_is_over_counts_as_every_label() {
        let many: Vec<String> = (0..=LABELS_MAX).map(|n| n.to_string()).collect();
        let (tags, are_more, ..) = read(&format!("cache-tag: {}", many.join(",")));
        assert!(tags.len() == LABELS_MAX && are_more);
        let (tags, are_more, ..) =
            read(&format!("cache-tag: a,{}", "x".repeat(LABEL_BYTES_MAX + 1)));
        assert!(tags == ["a"] && are_more);
        let of = |line: &str| Labels::of(&headers(line));
        let both = of("cache-tag: a").with(&of("cache-tag: b\ncache-groups: \"g\""));
        assert_eq!(both, of("cache-tag: a, b\ncache-groups: \"g\""));
    }

    #[test]
    fn groups_are_a_list_of_strings() {
        let most: Vec<String> = (0..32).map(|n| format!("\"{n:032}\"")).collect();
        assert_eq!(
            read(&format!("cache-groups: {}", most.join(", "))).2.len(),
            32
        );
        for (value, expected) in [
            ("\"a\"", Some(&["a"][..])),
            ("\"a\", \"b\"", Some(&["a", "b"])),
            ("\"a\",\t\"A\"", Some(&["a", "A"])),
            ("  \"a\"  ", Some(&["a"])),
            ("\"a b,c\"", Some(&["a b,c"])),
            (r#""a\"b\\""#, Some(&[r#"a"b\"#])),
            ("\"a\";x;y=1;z=\"q\", \"b\"", Some(&["a", "b"])),
            ("", Some(&[])),
            ("a", None),
            ("\"a\",", None),
            ("\"a\" \"b\"", None),
            ("\"a", None),
            (r#""a\n""#, None),
            ("(\"a\")", None),
            ("\"a\";X", None),
            ("\"a\";x=", None),
            ("1", None),
        ] {
            let (_, _, groups, are_more) = read(&format!("cache-groups: {value}"));
            let expected_groups: Vec<&str> = expected.unwrap_or_default().to_vec();
            assert_eq!(
                (groups, are_more),
                (
                    expected_groups.iter().map(|g| (*g).to_owned()).collect(),
                    expected.is_none()
                ),
                "{value}"
            );
            let line = headers(&format!("cache-group-invalidation: {value}"));
            assert_eq!(groups_invalidated(&line), expected_groups, "{value}");
        }
    }
}
