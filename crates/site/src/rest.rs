//! Whether the store is at rest: what the edges said last, for jobs and for the banner.
//!
//! A closed front is half a stop. What goes on behind it (renewals, mails, other jobs) asks
//! [`Rest::allowed`] before each thing that it does. Nothing here starts or ends a job, and nothing
//! is asked of an edge: edges tell ([`Rest::hear`]), and are told "heard" when what they said would
//! outlive a crash.
//!
//! Invariant: one edge that is closed is enough to rest, and what cannot be read means rest: a
//! renewal that comes late can be made up for, a charge during an incident cannot.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde_json::{Value, json};

use crate::asked::Millis;

/// So many edges are listened to.
const EDGES_MAX: usize = 64;
/// The longest message of an edge.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// The longest name of an edge.
const NAME_BYTES_MAX: usize = 255;

/// What the edges said last. Clones are the same one.
#[derive(Clone)]
pub struct Rest {
    said: Arc<RwLock<Said>>,
    /// Where it is kept; none in tests and trials.
    file: Option<Arc<Path>>,
}

/// The last word of each edge, by its name.
#[derive(Clone, Default)]
struct Said {
    edges: BTreeMap<String, Word>,
    /// What was kept could not be read.
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    is_closed: bool,
    reopening: Option<Millis>,
    at: Millis,
}

/// Jobs rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the site is closed, so jobs rest and nothing is charged")]
pub struct AtRest {
    /// When it is planned to open again.
    pub reopening: Option<Millis>,
}

/// What members are told while the site is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// When it is planned to open again, as long as that is to come.
    pub reopening: Option<Millis>,
}

/// Why an edge was not heard.
#[derive(Debug, thiserror::Error)]
pub enum NotHeard {
    /// The edge's, or whoever sent it.
    #[error("the message is not what an edge says of its mode: {0}")]
    Message(&'static str),
    #[error("more than {EDGES_MAX} edges tell their modes; remove {} to forget those that are gone", .0.display())]
    TooMany(PathBuf),
    /// It is in force, and would not outlive a crash.
    #[error("what was said cannot be kept in {}: {why}", .file.display())]
    OurFile { file: PathBuf, why: std::io::Error },
}

impl Rest {
    /// Nobody has said anything, and nothing is kept.
    #[must_use]
    pub fn unkept() -> Self {
        Self {
            said: Arc::default(),
            file: None,
        }
    }

    /// What was kept in this file; where there is none, nobody has said anything. A file that cannot be
    /// read means rest, until it is removed or the edges have spoken anew.
    #[must_use]
    pub fn kept_in(file: &Path) -> Self {
        let said = match fs::read(file) {
            Ok(bytes) => read(&bytes).unwrap_or_else(Said::lost),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Said::default(),
            Err(_) => Said::lost(),
        };
        if said.is_lost {
            tracing::error!(
                file = %file.display(),
                "what the edges said last cannot be read: jobs rest until an edge tells its mode again"
            );
        }
        Self {
            said: Arc::new(RwLock::new(said)),
            file: Some(file.into()),
        }
    }

    /// Asked by a job before each thing that it does.
    ///
    /// # Errors
    /// The site is closed, or may be.
    pub fn allowed(&self) -> Result<(), AtRest> {
        let said = self.said();
        if said.is_lost {
            return Err(AtRest { reopening: None });
        }
        match said.closed() {
            None => Ok(()),
            Some(reopening) => Err(AtRest { reopening }),
        }
    }

    /// What a member's page says of it.
    #[must_use]
    pub fn notice(&self, now: Millis) -> Option<Notice> {
        let reopening = self.said().closed()?;
        Some(Notice {
            reopening: reopening.filter(|at| *at > now),
        })
    }

    /// Takes in what an edge posts to its hooks (`docs/operating-modes.md`). A word that is older than
    /// the last one of the same edge changes nothing.
    ///
    /// # Errors
    /// It is no such message, or cannot be kept: then it is in force nevertheless.
    pub fn hear(&self, message: &[u8]) -> Result<(), NotHeard> {
        let (edge, word) = word(message)?;
        let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !said.edges.contains_key(&edge);
        if is_new && said.edges.len() >= EDGES_MAX {
            let file = self.file.as_deref().unwrap_or(Path::new("it"));
            return Err(NotHeard::TooMany(file.to_owned()));
        }
        if said.edges.get(&edge).is_some_and(|last| last.at > word.at) {
            return Ok(());
        }
        said.edges.insert(edge, word);
        said.is_lost = false;
        let Some(file) = &self.file else {
            return Ok(());
        };
        // Within the lock: what is in the file is what was said last.
        keep(file, &said).map_err(|why| NotHeard::OurFile {
            file: file.to_path_buf(),
            why,
        })
    }

    fn said(&self) -> RwLockReadGuard<'_, Said> {
        self.said.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rest({:?})", self.allowed())
    }
}

impl Said {
    fn lost() -> Self {
        Self {
            is_lost: true,
            ..Self::default()
        }
    }

    /// When the closed edges plan to open, if any is closed: all of them, so the last of their times.
    fn closed(&self) -> Option<Option<Millis>> {
        let mut closed = self.edges.values().filter(|it| it.is_closed);
        let first = closed.next()?.reopening;
        Some(closed.fold(first, |last, it| {
            last.zip(it.reopening).map(|(a, b)| a.max(b))
        }))
    }
}

/// One edge's word, as its hooks are told it.
fn word(message: &[u8]) -> Result<(String, Word), NotHeard> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(NotHeard::Message("it is too long"));
    }
    let told: Value =
        serde_json::from_slice(message).map_err(|_| NotHeard::Message("it is no JSON"))?;
    let text = |name: &str| told.get(name).and_then(Value::as_str);
    let node = text("node").filter(|it| !it.is_empty() && it.len() <= NAME_BYTES_MAX);
    let node = node.ok_or(NotHeard::Message("`node` is no name"))?;
    let is_closed = match text("mode") {
        Some("closed") => true,
        Some("open" | "static" | "pass") => false,
        _ => return Err(NotHeard::Message("`mode` is no mode")),
    };
    let reopening = match told.get("reopening_ms") {
        None | Some(Value::Null) => None,
        Some(at) => Some(Millis(
            at.as_i64()
                .ok_or(NotHeard::Message("`reopening_ms` is no instant"))?,
        )),
    };
    let at = told.get("at_ms").and_then(Value::as_i64);
    let at = Millis(at.ok_or(NotHeard::Message("`at_ms` is no instant"))?);
    let word = Word {
        is_closed,
        reopening,
        at,
    };
    Ok((node.to_owned(), word))
}

fn read(bytes: &[u8]) -> Option<Said> {
    let kept: Value = serde_json::from_slice(bytes).ok()?;
    if kept.get("version")?.as_i64() != Some(1) {
        return None;
    }
    let mut edges = BTreeMap::new();
    for (name, word) in kept.get("edges")?.as_object()? {
        let reopening = match word.get("reopening_ms")? {
            Value::Null => None,
            at => Some(Millis(at.as_i64()?)),
        };
        let word = Word {
            is_closed: word.get("closed")?.as_bool()?,
            reopening,
            at: Millis(word.get("at_ms")?.as_i64()?),
        };
        edges.insert(name.clone(), word);
    }
    Some(Said {
        edges,
        is_lost: false,
    })
}

/// Written beside, synced, and put in its place: it is the old or the new, whenever we die.
fn keep(file: &Path, said: &Said) -> std::io::Result<()> {
    let one = |word: &Word| {
        json!({
            "closed": word.is_closed,
            "reopening_ms": word.reopening.map(|at| at.0),
            "at_ms": word.at.0,
        })
    };
    let edges: serde_json::Map<String, Value> = said
        .edges
        .iter()
        .map(|(name, word)| (name.clone(), one(word)))
        .collect();
    let text = json!({ "version": 1, "edges": edges }).to_string();
    let beside = file.with_extension("new");
    let mut new = File::create(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(node: &str, mode: &str, reopening: Option<i64>, at: i64) -> Vec<u8> {
        json!({
            "node": node, "from": "open", "mode": mode, "reason": "r", "actor": "a",
            "reopening_ms": reopening, "at_ms": at,
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn one_closed_edge_is_enough_to_rest() {
        let at_rest = |reopening: Option<i64>| {
            Err(AtRest {
                reopening: reopening.map(Millis),
            })
        };
        for (said, allowed) in [
            (vec![], Ok(())),
            (vec![told("a", "closed", Some(9), 1)], at_rest(Some(9))),
            (vec![told("a", "pass", None, 1)], Ok(())),
            (
                vec![told("a", "closed", None, 1), told("a", "open", None, 2)],
                Ok(()),
            ),
            // Told late: it was closed before it opened.
            (
                vec![told("a", "open", None, 2), told("a", "closed", None, 1)],
                Ok(()),
            ),
            (
                vec![told("a", "closed", None, 1), told("b", "open", None, 2)],
                at_rest(None),
            ),
            (
                vec![
                    told("a", "closed", Some(9), 1),
                    told("b", "closed", Some(7), 2),
                ],
                at_rest(Some(9)),
            ),
            (
                vec![
                    told("a", "closed", Some(9), 1),
                    told("b", "closed", None, 2),
                ],
                at_rest(None),
            ),
            // The planned time was changed.
            (
                vec![
                    told("a", "closed", Some(9), 1),
                    told("a", "closed", Some(12), 2),
                ],
                at_rest(Some(12)),
            ),
        ] {
            let rest = Rest::unkept();
            for message in &said {
                rest.hear(message).unwrap();
            }
            assert_eq!(rest.allowed(), allowed);
        }
    }

    #[test]
    fn a_planned_time_that_is_over_is_not_told() {
        let rest = Rest::unkept();
        assert_eq!(rest.notice(Millis(0)), None);
        rest.hear(&told("a", "closed", Some(10), 1)).unwrap();
        for (now, reopening) in [(9, Some(Millis(10))), (10, None), (11, None)] {
            assert_eq!(rest.notice(Millis(now)), Some(Notice { reopening }));
        }
    }

    #[test]
    fn what_is_no_word_of_an_edge_changes_nothing() {
        let rest = Rest::unkept();
        rest.hear(&told("a", "closed", None, 1)).unwrap();
        for message in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"node":"a","mode":"opened","at_ms":2}"#,
            br#"{"node":"","mode":"open","at_ms":2}"#,
            br#"{"node":"a","mode":"open"}"#,
            br#"{"node":"a","mode":"open","at_ms":2,"reopening_ms":"x"}"#,
            &vec![b' '; MESSAGE_BYTES_MAX + 1],
        ] {
            assert!(rest.hear(message).is_err());
            assert!(rest.allowed().is_err());
        }
    }

    #[test]
    fn edges_are_bounded() {
        let rest = Rest::unkept();
        for nth in 0..EDGES_MAX {
            rest.hear(&told(&nth.to_string(), "open", None, 1)).unwrap();
        }
        assert!(matches!(
            rest.hear(&told("one more", "closed", None, 1)),
            Err(NotHeard::TooMany(_))
        ));
        rest.hear(&told("0", "closed", None, 2)).unwrap();
        assert!(rest.allowed().is_err());
    }

    #[test]
    fn what_was_heard_outlives_the_process_and_what_is_damaged_means_rest() {
        let folder = std::env::temp_dir().join(format!("shikiri-rest-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("rest.json");
        let closed = AtRest {
            reopening: Some(Millis(9)),
        };
        assert_eq!(Rest::kept_in(&file).allowed(), Ok(()));
        let first = Rest::kept_in(&file);
        first.hear(&told("a", "closed", Some(9), 1)).unwrap();
        assert_eq!(Rest::kept_in(&file).allowed(), Err(closed));
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            let cut = Rest::kept_in(&file);
            assert_eq!(cut.allowed(), Err(AtRest { reopening: None }), "{length}");
        }
        let lost = Rest::kept_in(&file);
        lost.hear(&told("a", "open", None, 2)).unwrap();
        assert_eq!(lost.allowed(), Ok(()));
        assert_eq!(Rest::kept_in(&file).allowed(), Ok(()));
        fs::remove_dir_all(&folder).unwrap();
    }
}
