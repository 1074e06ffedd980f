//! The config file: how this node runs. `docs/configuration.md` describes it.
//!
//! What may be shared is not said here, but in the policy. Each section is a struct of its own;
//! flags override what it says.
//!
//! Invariant: a file with a fault is refused whole, with every fault that was found. A key that is
//! not known is a fault, never ignored: a misspelt word must not leave a door open.

use std::fmt::{self, Display, Write};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use shikiri_edge::TrustedNetwork;
use shikiri_partition::policy;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::evidence::EvidenceSection;
use crate::hook::Hook;
use crate::listening::{ListenSection, TlsSection};
use crate::log::{Format, Levels};
use crate::otel::OtelSection;

/// The version of the file's language.
const VERSION: u64 = 1;

/// The longest file that is read.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// After so many faults the rest is not looked for.
const FAULTS_MAX: usize = 100;

/// A config file's content. What it leaves out is `None` or empty, so that who asks decides.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    version: Option<u64>,
    /// What this node is and where its things are.
    pub(crate) node: NodeSection,
    /// Where it listens for clients.
    pub(crate) listen: Vec<ListenSection>,
    /// Whose certificates are shown to them.
    pub(crate) tls: Vec<TlsSection>,
    /// Where status and metrics are read, besides the control socket.
    pub(crate) admin: AdminSection,
    /// How it keeps its evidence.
    pub(crate) evidence: EvidenceSection,
    /// Where its evidence is archived.
    pub(crate) archive: ArchiveSection,
    /// What it shows while the site is closed.
    pub(crate) maintenance: MaintenanceSection,
    /// Whom it tells of what it does.
    pub(crate) hooks: HooksSection,
    /// What it logs.
    pub(crate) log: LogSection,
    /// Where its traces go.
    pub(crate) otel: OtelSection,
    /// Where the file lies: paths in it are relative to this.
    #[serde(skip)]
    folder: PathBuf,
}

/// `[node]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSection {
    pub(crate) name: Option<Parsed<NodeName>>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) origin: Option<String>,
    pub(crate) control: Option<PathBuf>,
    pub(crate) trust: Vec<Parsed<TrustedNetwork>>,
    pub(crate) watch: Option<bool>,
    pub(crate) workers: Option<NonZeroUsize>,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminSection {
    pub(crate) address: Option<Parsed<Address>>,
    pub(crate) hosts: Vec<String>,
    pub(crate) changes: bool,
}

/// `[archive]`: read by `shikiri archive` alone.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ArchiveSection {
    pub(crate) to: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) every: Option<Parsed<Time>>,
    pub(crate) batch_rows: Option<NonZeroU64>,
    pub(crate) drop_segments: Option<bool>,
}

/// `[maintenance]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MaintenanceSection {
    pub(crate) page: Option<PathBuf>,
    pub(crate) zone: Option<Parsed<Zone>>,
    pub(crate) retry_after: Option<Parsed<Time>>,
    pub(crate) except: Vec<String>,
}

/// `[hooks]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HooksSection {
    pub(crate) on_mode: Vec<Parsed<Hook>>,
    pub(crate) time_max: Option<Parsed<Time>>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    pub(crate) level: Option<Parsed<Levels>>,
    pub(crate) format: Option<Parsed<Format>>,
}

/// A value that is written as text, read by its `FromStr`, whose error says what to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parsed<T>(pub(crate) T);

impl<'de, T> Deserialize<'de> for Parsed<T>
where
    T: FromStr,
    T::Err: Display,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(ParsedVisitor(PhantomData))
    }
}

/// Reads within the deserializer's call, so that the fault has the value's own place.
struct ParsedVisitor<T>(PhantomData<T>);

impl<T> Visitor<'_> for ParsedVisitor<T>
where
    T: FromStr,
    T::Err: Display,
{
    type Value = Parsed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(Parsed).map_err(E::custom)
    }
}

/// Where to listen: an address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("`{text}` is no address with a port: write 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080")
        })
    }
}

/// A time zone's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone(pub(crate) String);

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        shikiri_edge::maintenance::zone(text).map(|_| Self(text.to_owned()))
    }
}

/// A time with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = policy::duration(text).filter(|time| !time.is_zero());
        time.map(Self)
            .ok_or_else(|| format!("`{text}` is no time: write it with its unit: 30s, 5m, 2h"))
    }
}

/// A node's name: a token, in `Via` and `CDN-Loop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeName(pub(crate) String);

impl FromStr for NodeName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(ok) {
            return Err("a node's name has letters, digits, `-`, `.` and `_`, at most 64".into());
        }
        Ok(Self(name.to_owned()))
    }
}

/// A fault of a config file: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFault {
    source: String,
    /// Line and column, from 1; `None` for what is missing altogether.
    place: Option<(usize, usize)>,
    what: String,
    instead: String,
}

impl Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}\n  {}", self.what, self.instead)
    }
}

impl ConfigFile {
    /// Reads a config file.
    ///
    /// # Errors
    /// Every fault that was found, as text; or why the file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let source = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the config {source}: {error}"))?;
        let mut config = parse(&source, &text).map_err(|faults| {
            let mut said = String::new();
            for fault in faults {
                writeln!(said, "{fault}").expect("a string can be written to");
            }
            said
        })?;
        config.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(config)
    }

    /// A path that the file names, relative to the file's own folder.
    pub(crate) fn path(&self, named: &Path) -> PathBuf {
        self.folder.join(named)
    }
}

/// The file's content, or every fault that was found in it.
pub(crate) fn parse(source: &str, text: &str) -> Result<ConfigFile, Vec<ConfigFault>> {
    let mut faults = Faults {
        source,
        text,
        found: Vec::new(),
    };
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("the config has {} bytes", text.len());
        faults.add(None, what, "A config has at most 1 MiB.".into());
        return Err(faults.found);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What follows a fault of syntax may be read otherwise than it was meant.
        for error in errors {
            let what = format!("this is not TOML: {}", error.message());
            let instead = "Correct the syntax; the rest is read after that.".into();
            faults.add(error.span(), what, instead);
        }
        return Err(faults.found);
    }
    let config = faults.deserialize(table);
    match config.version {
        Some(VERSION) => {}
        Some(other) => {
            let what = format!("version {other} is not known");
            faults.add(Some(0..0), what, format!("Write `version = {VERSION}`."));
        }
        // Said already when it was there and could not be read.
        None if !faults.found.is_empty() => {}
        None => {
            let instead = format!("Write `version = {VERSION}` as its first line.");
            faults.add(
                Some(0..0),
                "the config does not say its version".into(),
                instead,
            );
        }
    }
    if faults.found.is_empty() {
        Ok(config)
    } else {
        faults.found.sort_by_key(|fault| fault.place);
        Err(faults.found)
    }
}

/// Collects faults, so that one run shows them all.
struct Faults<'t> {
    source: &'t str,
    text: &'t str,
    found: Vec<ConfigFault>,
}

impl Faults<'_> {
    /// The sections' structs stop at their first fault. What it is about is taken out and the rest
    /// read again, until nothing is left to find fault with.
    fn deserialize(&mut self, mut table: Spanned<DeTable<'_>>) -> ConfigFile {
        let mut taken = Vec::new();
        for _ in 0..FAULTS_MAX {
            let error = match ConfigFile::deserialize(toml::Deserializer::from(table.clone())) {
                Ok(config) => return config,
                Err(error) => error,
            };
            let missing = missing(error.message());
            if !missing.is_some_and(|key| taken.iter().any(|taken| taken == key)) {
                let (what, instead) = advice(error.message());
                self.add(error.span(), what, instead);
            }
            let Some(at) = error.span() else { break };
            match take_out(table.get_mut(), at.start) {
                Some(key) => taken.push(key),
                None => break,
            }
        }
        ConfigFile::default()
    }

    fn add(&mut self, at: Option<Range<usize>>, what: String, instead: String) {
        let place = at.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(self.text);
            let line = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        self.found.push(ConfigFault {
            source: self.source.to_owned(),
            place,
            what,
            instead,
        });
    }
}

/// Removes the innermost entry that stands at a place, and returns its key; an item of a list has
/// none.
fn take_out(table: &mut DeTable<'_>, at: usize) -> Option<String> {
    // A section's own place is its header alone: what is in it is looked through first.
    let within = table
        .iter_mut()
        .find_map(|(_, value)| take_out_of(value, at));
    if within.is_some() {
        return within;
    }
    let stands = |entry: &(&Spanned<_>, &Spanned<_>)| {
        entry.0.span().contains(&at) || entry.1.span().contains(&at)
    };
    let key = table.iter().find(stands).map(|(key, _)| key.clone())?;
    table.remove(&key);
    Some(key.into_inner().into_owned())
}

fn take_out_of(value: &mut Spanned<DeValue<'_>>, at: usize) -> Option<String> {
    match value.get_mut() {
        DeValue::Table(table) => take_out(table, at),
        DeValue::Array(items) => {
            let within = items.iter_mut().find_map(|item| take_out_of(item, at));
            if within.is_some() {
                return within;
            }
            let before = items.len();
            let others = items.iter().filter(|item| !item.span().contains(&at));
            *items = others.cloned().collect();
            (items.len() < before).then(String::new)
        }
        _ => None,
    }
}

/// The key that the deserializer misses.
fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// What is wrong and what to write instead, from the deserializer's one sentence.
fn advice(message: &str) -> (String, String) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, Some((unknown, known))) =
        (message.starts_with("unknown field"), quoted.split_first())
    {
        let near = known
            .iter()
            .min_by_key(|name| distance(unknown, name))
            .filter(|name| distance(unknown, name) <= 2);
        let mean = near.map_or(String::new(), |name| format!("Did you mean `{name}`? "));
        let known = known.join("`, `");
        return (
            format!("`{unknown}` is not known here"),
            format!("{mean}Known here: `{known}`."),
        );
    }
    if let Some(field) = missing(message) {
        return (
            format!("`{field}` is missing here"),
            format!("Write `{field} = …`; docs/configuration.md says what it takes."),
        );
    }
    let (what, instead) = message
        .split_once(": write ")
        .map_or((message, None), |(what, write)| (what, Some(write)));
    let instead = instead.map_or_else(
        || "docs/configuration.md says what each key takes.".into(),
        |write| format!("Write {write}."),
    );
    (what.to_owned(), instead)
}

/// How many letters must be changed, added or left out, or neighbours exchanged.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j - 1] + same)
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match parse("e.toml", text) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(faults(text), expected, "{text}");
    }

    #[test]
    fn a_file_says_what_it_says() {
        let text = "version = 1\n[node]\nname = \"edge-1\"\ndata = \"d\"\npolicy = \"/etc/p.toml\"\n\
                    trust = [\"192.0.2.0/24\"]\nworkers = 3\n[[listen]]\naddress = \"127.0.0.1:80\"\n\
                    [[listen]]\naddress = \"[::1]:80\"\n[log]\nlevel = \"warn\"\n";
        let mut config = parse("e.toml", text).unwrap();
        config.folder = "/srv".into();
        assert_eq!(config.node.name.as_ref().unwrap().0.0, "edge-1");
        assert_eq!(config.listen.len(), 2);
        assert_eq!(
            config.log.level.as_ref().unwrap().0,
            "warn".parse().unwrap()
        );
        assert_eq!(config.node.workers.map(NonZeroUsize::get), Some(3));
        for (named, meant) in [("d", "/srv/d"), ("/etc/p.toml", "/etc/p.toml")] {
            assert_eq!(config.path(Path::new(named)), Path::new(meant));
        }
        check("version = 1", &[]);
    }

    #[test]
    fn every_fault_is_told_with_its_place_and_what_to_write() {
        check(
            "",
            &[
                "e.toml:1:1: the config does not say its version\n  Write `version = 1` as its first line.",
            ],
        );
        check(
            "version = 2",
            &["e.toml:1:1: version 2 is not known\n  Write `version = 1`."],
        );
        check(
            "version = 1\n[nod]\nname = \"a\"\n",
            &[
                "e.toml:2:2: `nod` is not known here\n  Did you mean `node`? Known here: `version`, `node`, `listen`, `tls`, `admin`, `evidence`, `archive`, `maintenance`, `hooks`, `log`, `otel`.",
            ],
        );
        check(
            "version = 1\n[node]\nname = \"a b\"\npolciy = 1\nworkers = 0\ntrust = [\"::1\", \"all\", 5]\n\
             [[listen]]\n[[listen]]\naddress = \"80\"\n[log]\nlevel = \"loud\"\n",
            &[
                "e.toml:3:8: a node's name has letters, digits, `-`, `.` and `_`, at most 64\n  \
                 docs/configuration.md says what each key takes.",
                "e.toml:4:1: `polciy` is not known here\n  Did you mean `policy`? Known here: \
                 `name`, `data`, `policy`, `origin`, `control`, `trust`, `watch`, `workers`.",
                "e.toml:5:11: invalid value: integer `0`, expected a nonzero usize\n  \
                 docs/configuration.md says what each key takes.",
                "e.toml:6:17: `all` is no address or network\n  \
                 Write `192.0.2.7`, `192.0.2.0/24` or `2001:db8::/32`.",
                "e.toml:6:24: invalid type: integer `5`, expected a text in quotes\n  \
                 docs/configuration.md says what each key takes.",
                "e.toml:7:1: `address` is missing here\n  \
                 Write `address = …`; docs/configuration.md says what it takes.",
                "e.toml:9:11: `80` is nothing to listen on\n  \
                 Write 127.0.0.1:8080, https://0.0.0.0:443 or http://[::]:80.",
                "e.toml:11:9: `loud` is no level\n  Write error, warn, info, debug or trace, and others for \
                 some modules: info,shikiri_edge::origin=debug.",
            ],
        );
        check(
            "version = 1\nnode = 5\n[listen]\naddress = \"127.0.0.1:80\"\n",
            &[
                "e.toml:2:8: invalid type: integer `5`, expected struct NodeSection\n  \
                 docs/configuration.md says what each key takes.",
                "e.toml:3:1: invalid type: map, expected a sequence\n  \
                 docs/configuration.md says what each key takes.",
            ],
        );
        assert!(faults("version = 1\n[node\n")[0].starts_with("e.toml:2:6: this is not TOML: "));
        assert!(faults(&"#".repeat(TEXT_BYTES_MAX + 1))[0].contains("at most 1 MiB"));
    }

    #[test]
    fn faults_are_bounded() {
        let mut text = "version = 1\n[node]\n".to_owned();
        for n in 0..2 * FAULTS_MAX {
            writeln!(text, "wrong{n} = 1").unwrap();
        }
        assert_eq!(faults(&text).len(), FAULTS_MAX);
    }

    const MANUAL: &str = include_str!("../../../docs/configuration.md");

    /// What a table's struct knows, by its own word for it.
    fn keys(text: &str) -> Vec<String> {
        let said = faults(text).join("\n");
        let known = said.split("Known here: ").nth(1).expect(&said);
        let known = known.split('`').skip(1).step_by(2);
        known.map(str::to_owned).collect()
    }

    /// The file's language and its description change together.
    #[test]
    fn the_manual_has_a_table_for_every_section_with_a_row_for_every_key() {
        for section in keys("version = 1\nnothing-of-ours = 1\n") {
            if section == "version" {
                continue;
            }
            let one = format!("version = 1\n[{section}]\nnothing-of-ours = 1\n");
            let many = format!("version = 1\n[[{section}]]\nnothing-of-ours = 1\n");
            let (heading, text) = if faults(&one).join("").contains("expected a sequence") {
                (format!("## `[[{section}]]`"), many)
            } else {
                (format!("## `[{section}]`"), one)
            };
            let part = MANUAL.split("\n## ").find(|part| {
                heading
                    .strip_prefix("## ")
                    .is_some_and(|h| part.starts_with(h))
            });
            let part = part.unwrap_or_else(|| panic!("docs/configuration.md has no `{heading}`"));
            let known = keys(&text);
            for key in &known {
                assert!(
                    part.contains(&format!("\n| `{key}` |")),
                    "`{heading}` has no row for `{key}`"
                );
            }
            let rows = part.lines().filter(|line| line.starts_with("| `")).count();
            assert_eq!(rows, known.len(), "`{heading}` has rows for what is no key");
        }
    }

    #[test]
    fn the_examples_of_the_manual_are_read() {
        let examples: Vec<&str> = MANUAL
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        assert!(!examples.is_empty());
        for example in examples {
            check(example, &[]);
        }
    }
}
