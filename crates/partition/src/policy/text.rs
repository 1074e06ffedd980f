//! The document: what a policy's text says, before it is known whether that makes sense.
//!
//! Here live the names of all keys. A key that is not known is a fault, never ignored: a misspelt
//! word must not leave a site open.

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::fault::{At, Faults, Place};
use super::limits::{LIMITS, Limit, Unit};
use super::units::{self, DURATION_FORM, SIZE_FORM};

/// The version of the language.
const VERSION: u64 = 1;

/// The longest text that is read.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A list of texts, each with its place.
pub(super) type Texts = At<Vec<At<String>>>;

#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) session: SessionText,
    pub(super) origins: Vec<OriginText>,
    pub(super) personal: Vec<MatchText>,
    pub(super) classes: Vec<ClassText>,
    pub(super) pins: Option<PinsText>,
    /// Whether the built-in class `assets` is wanted; on when nothing is said.
    pub(super) assets: Option<bool>,
    pub(super) limits: Vec<(&'static Limit, At<u64>)>,
}

#[derive(Debug, Default)]
pub(super) struct SessionText {
    pub(super) cookies: Option<Texts>,
    pub(super) ignorable_cookies: Option<Texts>,
    pub(super) headers: Option<Texts>,
    pub(super) query: Option<Texts>,
    pub(super) query_public: Option<Texts>,
    pub(super) segments: Option<Texts>,
}

#[derive(Debug)]
pub(super) struct OriginText {
    pub(super) at: Place,
    pub(super) hosts: Option<Texts>,
    pub(super) url: Option<At<String>>,
    pub(super) host_header: Option<At<String>>,
    pub(super) ca: Option<At<String>>,
    pub(super) server_name: Option<At<String>>,
    pub(super) upgrade: Option<Texts>,
}

#[derive(Debug)]
pub(super) struct MatchText {
    pub(super) at: Place,
    pub(super) hosts: Option<Texts>,
    pub(super) paths: Option<Texts>,
    pub(super) extensions: Option<Texts>,
    pub(super) query_has: Option<Texts>,
    pub(super) query_lacks: Option<Texts>,
}

#[derive(Debug)]
pub(super) struct ClassText {
    pub(super) at: Place,
    pub(super) name: Option<At<String>>,
    pub(super) matches: Option<MatchText>,
    pub(super) to: Option<At<String>>,
    pub(super) gate: Option<GateText>,
    pub(super) credential: Option<CredentialText>,
    pub(super) types: Option<Texts>,
    pub(super) statuses: Option<At<Vec<At<u64>>>>,
    pub(super) query: Option<Texts>,
    pub(super) query_else: Option<At<String>>,
    pub(super) key_headers: Option<Texts>,
    pub(super) key_encoding: Option<At<bool>>,
    pub(super) lifetime: Option<LifetimeText>,
    pub(super) volatile: Vec<VolatileText>,
    pub(super) object_bytes_max: Option<At<u64>>,
    pub(super) slices: Option<At<u64>>,
    pub(super) is_static: Option<At<bool>>,
}

#[derive(Debug)]
pub(super) struct GateText {
    pub(super) at: Place,
    pub(super) path: Option<At<String>>,
    pub(super) method: Option<At<String>>,
    pub(super) probe: Option<At<String>>,
    pub(super) token: Option<At<String>>,
    pub(super) prefix: Option<At<String>>,
    pub(super) parameter: Option<At<String>>,
    pub(super) files: Option<Texts>,
    pub(super) envs: Option<Texts>,
}

#[derive(Debug)]
pub(super) struct CredentialText {
    pub(super) at: Place,
    pub(super) header: Option<At<String>>,
    pub(super) file: Option<At<String>>,
    pub(super) env: Option<At<String>>,
}

#[derive(Debug)]
pub(super) struct LifetimeText {
    /// `Some(None)`: none, in so many words.
    pub(super) default: Option<At<Option<Duration>>>,
    pub(super) max: Option<At<Duration>>,
    pub(super) stale_while_revalidate: Option<At<Duration>>,
    pub(super) stale_if_error: Option<At<Duration>>,
}

#[derive(Debug)]
pub(super) struct VolatileText {
    pub(super) at: Place,
    pub(super) from: Option<At<String>>,
    pub(super) to: Option<At<String>>,
}

#[derive(Debug)]
pub(super) struct PinsText {
    pub(super) action: Option<At<String>>,
    pub(super) trip: Option<TripText>,
    pub(super) cookies: Option<Texts>,
    pub(super) starts: Option<Texts>,
    pub(super) owners: Option<At<String>>,
    pub(super) nobodies: Option<At<String>>,
    pub(super) sessions_max: Option<At<u64>>,
}

#[derive(Debug)]
pub(super) struct TripText {
    pub(super) at: Place,
    pub(super) viewers: Option<At<u64>>,
    pub(super) within: Option<At<Duration>>,
    pub(super) mode: Option<At<String>>,
}

/// Reads a policy's text.
pub(super) fn read(text: &str, faults: &mut Faults<'_>) -> Document {
    let mut document = Document::default();
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("the policy has {} bytes", text.len());
        faults.add(
            None,
            what,
            format!(
                "A policy has at most {}.",
                units::show_size(TEXT_BYTES_MAX as u64)
            ),
        );
        return document;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What follows a fault of syntax may be read otherwise than it was meant.
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            faults.add(
                Some(at),
                format!("this is not TOML: {}", error.message()),
                "Correct the syntax; the rest is read after that.",
            );
        }
        return document;
    }
    let known = [
        "version", "session", "origin", "personal", "class", "pins", "builtin", "limits",
    ];
    let top = Section::of_table("the policy", table.get_ref(), Some(0), &known, faults);
    match top.whole_number("version", faults) {
        Some(At { value: VERSION, .. }) => {}
        Some(At { value, at }) => {
            faults.add(
                at,
                format!("version {value} is not known"),
                format!("Write `version = {VERSION}`."),
            );
        }
        None if top.value("version").is_none() => {
            faults.add(
                Some(0),
                "the policy does not say its version",
                format!("Write `version = {VERSION}` as its first line."),
            );
        }
        None => {}
    }
    if let Some(section) = top.table("session", SESSION_KEYS, faults) {
        document.session = session(&section, faults);
    }
    for section in top.tables("origin", ORIGIN_KEYS, faults) {
        document.origins.push(OriginText {
            at: section.at,
            hosts: section.texts("hosts", faults),
            url: section.text("url", faults),
            host_header: section.text("host_header", faults),
            ca: section.text("ca", faults),
            server_name: section.text("server_name", faults),
            upgrade: section.texts("upgrade", faults),
        });
    }
    for section in top.tables("personal", MATCH_KEYS, faults) {
        document.personal.push(matching(&section, faults));
    }
    for section in top.tables("class", CLASS_KEYS, faults) {
        document.classes.push(class(&section, faults));
    }
    document.pins = top
        .table("pins", PIN_KEYS, faults)
        .map(|section| pins(&section, faults));
    if let Some(section) = top.table("builtin", &["assets"], faults) {
        document.assets = section.truth("assets", faults).map(|said| said.value);
    }
    let names: Vec<&str> = LIMITS.iter().map(|limit| limit.name).collect();
    if let Some(section) = top.table("limits", &names, faults) {
        for limit in LIMITS {
            let value = match limit.unit {
                Unit::Bytes => section.size(limit.name, faults),
                Unit::Count => section.whole_number(limit.name, faults),
                Unit::Time => section.duration(limit.name, faults).map(|said| At {
                    value: u64::try_from(said.value.as_millis()).unwrap_or(u64::MAX),
                    at: said.at,
                }),
            };
            document.limits.extend(value.map(|value| (limit, value)));
        }
    }
    document
}

const ORIGIN_KEYS: &[&str] = &[
    "hosts",
    "url",
    "host_header",
    "ca",
    "server_name",
    "upgrade",
];

const SESSION_KEYS: &[&str] = &[
    "cookies",
    "ignorable_cookies",
    "headers",
    "query",
    "query_public",
    "segments",
];

const MATCH_KEYS: &[&str] = &["hosts", "paths", "extensions", "query_has", "query_lacks"];

const CLASS_KEYS: &[&str] = &[
    "name",
    "match",
    "to",
    "gate",
    "credential",
    "types",
    "statuses",
    "query",
    "query_else",
    "key_headers",
    "key_encoding",
    "lifetime",
    "volatile",
    "object_bytes_max",
    "slices",
    "static",
];

const GATE_KEYS: &[&str] = &[
    "path",
    "method",
    "probe",
    "token",
    "prefix",
    "parameter",
    "files",
    "envs",
];

const PIN_KEYS: &[&str] = &[
    "action",
    "trip",
    "cookies",
    "starts",
    "owners",
    "nobodies",
    "sessions_max",
];

const LIFETIME_KEYS: &[&str] = &["default", "max", "stale_while_revalidate", "stale_if_error"];

fn session(section: &Section<'_, '_>, faults: &mut Faults<'_>) -> SessionText {
    SessionText {
        cookies: section.texts("cookies", faults),
        ignorable_cookies: section.texts("ignorable_cookies", faults),
        headers: section.texts("headers", faults),
        query: section.texts("query", faults),
        query_public: section.texts("query_public", faults),
        segments: section.texts("segments", faults),
    }
}

fn matching(section: &Section<'_, '_>, faults: &mut Faults<'_>) -> MatchText {
    MatchText {
        at: section.at,
        hosts: section.texts("hosts", faults),
        paths: section.texts("paths", faults),
        extensions: section.texts("extensions", faults),
        query_has: section.texts("query_has", faults),
        query_lacks: section.texts("query_lacks", faults),
    }
}

fn class(section: &Section<'_, '_>, faults: &mut Faults<'_>) -> ClassText {
    ClassText {
        at: section.at,
        name: section.text("name", faults),
        matches: section
            .table("match", MATCH_KEYS, faults)
            .map(|inner| matching(&inner, faults)),
        to: section.text("to", faults),
        gate: section
            .table("gate", GATE_KEYS, faults)
            .map(|inner| GateText {
                at: inner.at,
                path: inner.text("path", faults),
                method: inner.text("method", faults),
                probe: inner.text("probe", faults),
                token: inner.text("token", faults),
                prefix: inner.text("prefix", faults),
                parameter: inner.text("parameter", faults),
                files: inner.texts("files", faults),
                envs: inner.texts("envs", faults),
            }),
        credential: section
            .table("credential", &["header", "file", "env"], faults)
            .map(|inner| CredentialText {
                at: inner.at,
                header: inner.text("header", faults),
                file: inner.text("file", faults),
                env: inner.text("env", faults),
            }),
        types: section.texts("types", faults),
        statuses: section.whole_numbers("statuses", faults),
        query: section.texts("query", faults),
        query_else: section.text("query_else", faults),
        key_headers: section.texts("key_headers", faults),
        key_encoding: section.truth("key_encoding", faults),
        lifetime: section
            .table("lifetime", LIFETIME_KEYS, faults)
            .map(|inner| LifetimeText {
                default: inner.duration_or_none("default", faults),
                max: inner.duration("max", faults),
                stale_while_revalidate: inner.duration("stale_while_revalidate", faults),
                stale_if_error: inner.duration("stale_if_error", faults),
            }),
        volatile: section
            .tables("volatile", &["from", "to"], faults)
            .iter()
            .map(|inner| VolatileText {
                at: inner.at,
                from: inner.text("from", faults),
                to: inner.text("to", faults),
            })
            .collect(),
        object_bytes_max: section.size("object_bytes_max", faults),
        slices: section.size("slices", faults),
        is_static: section.truth("static", faults),
    }
}

fn pins(section: &Section<'_, '_>, faults: &mut Faults<'_>) -> PinsText {
    PinsText {
        action: section.text("action", faults),
        trip: section
            .table("trip", &["viewers", "within", "mode"], faults)
            .map(|inner| TripText {
                at: inner.at,
                viewers: inner.whole_number("viewers", faults),
                within: inner.duration("within", faults),
                mode: inner.text("mode", faults),
            }),
        cookies: section.texts("cookies", faults),
        starts: section.texts("starts", faults),
        owners: section.text("owners", faults),
        nobodies: section.text("nobodies", faults),
        sessions_max: section.whole_number("sessions_max", faults),
    }
}

/// One table of the text.
struct Section<'d, 't> {
    name: String,
    at: Place,
    table: &'d DeTable<'t>,
}

impl<'d, 't> Section<'d, 't> {
    /// Opens a table, and finds fault with the keys that it should not have.
    fn of_table(
        name: impl fmt::Display,
        table: &'d DeTable<'t>,
        at: Place,
        known: &[&str],
        faults: &mut Faults<'_>,
    ) -> Self {
        for (key, _) in table {
            let text: &str = key.get_ref();
            if known.contains(&text) {
                continue;
            }
            let instead = match nearest(text, known) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!("What can stand here: {}.", known.join(", ")),
            };
            faults.add(
                Some(key.span().start),
                format!("{name} has no key `{text}`"),
                instead,
            );
        }
        Self {
            name: name.to_string(),
            at,
            table,
        }
    }

    fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// What a key says, as `read` makes it out.
    fn read<T>(
        &self,
        key: &str,
        form: &str,
        faults: &mut Faults<'_>,
        read: impl Fn(&'d DeValue<'t>) -> Option<T>,
    ) -> Option<At<T>> {
        self.value(key)
            .and_then(|value| self.read_value(key, value, form, faults, read))
    }

    fn read_value<T>(
        &self,
        key: &str,
        value: &'d Spanned<DeValue<'t>>,
        form: &str,
        faults: &mut Faults<'_>,
        read: impl Fn(&'d DeValue<'t>) -> Option<T>,
    ) -> Option<At<T>> {
        let at = Some(value.span().start);
        let read = read(value.get_ref());
        if read.is_none() {
            let what = format!("`{key}` in {} is not {form}", self.name);
            faults.add(at, what, format!("Write {form}."));
        }
        read.map(|value| At { value, at })
    }

    fn text(&self, key: &str, faults: &mut Faults<'_>) -> Option<At<String>> {
        self.read(key, "a text in quotes", faults, text)
    }

    fn truth(&self, key: &str, faults: &mut Faults<'_>) -> Option<At<bool>> {
        self.read(key, "`true` or `false`", faults, DeValue::as_bool)
    }

    fn whole_number(&self, key: &str, faults: &mut Faults<'_>) -> Option<At<u64>> {
        self.read(key, "a whole number", faults, whole_number)
    }

    fn size(&self, key: &str, faults: &mut Faults<'_>) -> Option<At<u64>> {
        self.read(key, SIZE_FORM, faults, |value| {
            value
                .as_str()
                .map_or_else(|| whole_number(value), units::size)
        })
    }

    fn duration(&self, key: &str, faults: &mut Faults<'_>) -> Option<At<Duration>> {
        self.read(key, DURATION_FORM, faults, |value| {
            value.as_str().and_then(units::duration)
        })
    }

    fn duration_or_none(&self, key: &str, faults: &mut Faults<'_>) -> Option<At<Option<Duration>>> {
        let form = format!("{DURATION_FORM}; or \"none\"");
        self.read(key, &form, faults, |value| match value.as_str()? {
            "none" => Some(None),
            text => units::duration(text).map(Some),
        })
    }

    fn array(&self, key: &str, form: &str, faults: &mut Faults<'_>) -> Option<At<&'d DeArray<'t>>> {
        self.read(key, form, faults, DeValue::as_array)
    }

    fn texts(&self, key: &str, faults: &mut Faults<'_>) -> Option<Texts> {
        let array = self.array(key, "a list of texts: [\"…\", \"…\"]", faults)?;
        let items = array.value.iter();
        let texts =
            items.filter_map(|item| self.read_value(key, item, "a text in quotes", faults, text));
        Some(At {
            value: texts.collect(),
            at: array.at,
        })
    }

    fn whole_numbers(&self, key: &str, faults: &mut Faults<'_>) -> Option<At<Vec<At<u64>>>> {
        let array = self.array(key, "a list of numbers: [200, 404]", faults)?;
        let items = array.value.iter();
        let numbers = items
            .filter_map(|item| self.read_value(key, item, "a whole number", faults, whole_number));
        Some(At {
            value: numbers.collect(),
            at: array.at,
        })
    }

    fn table(&self, key: &str, known: &[&str], faults: &mut Faults<'_>) -> Option<Self> {
        let form = format!("a table: `[{key}]` or `{key} = {{ … }}`");
        let table = self.read(key, &form, faults, DeValue::as_table)?;
        Some(Section::of_table(
            format_args!("`{key}`"),
            table.value,
            table.at,
            known,
            faults,
        ))
    }

    fn tables(&self, key: &str, known: &[&str], faults: &mut Faults<'_>) -> Vec<Self> {
        let form = format!("a list of tables: `[[{key}]]` or `{key} = [{{ … }}]`");
        let Some(array) = self.array(key, &form, faults) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in array.value.iter() {
            if let Some(table) = self.read_value(key, item, &form, faults, DeValue::as_table) {
                let name = format_args!("`{key}`");
                sections.push(Section::of_table(
                    name,
                    table.value,
                    table.at,
                    known,
                    faults,
                ));
            }
        }
        sections
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn whole_number(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The known word nearest to a misspelt one, if any is near.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // More would find likeness in anything.
    let word: String = word.chars().take(64).collect();
    let allowed = (word.chars().count() / 3).max(2);
    known
        .iter()
        .map(|&k| (distance(&word, k), k))
        .filter(|&(distance, k)| distance <= allowed && distance < k.len())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, k)| k)
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_word() {
        for (word, expected) in [
            ("cookie", Some("cookies")),
            ("key_header", Some("key_headers")),
            ("lifetimes", Some("lifetime")),
            ("methods", None),
            ("", None),
            ("quer", Some("query")),
        ] {
            let known: Vec<&str> = SESSION_KEYS.iter().chain(CLASS_KEYS).copied().collect();
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
    }
}
