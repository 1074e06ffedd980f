//! Faults of a policy: where, what, and what to write instead.

use std::fmt;

use shikiri_record::PolicyText;

/// A fault that kept a policy from being compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The policy's source, or what stands for one.
    pub source_name: String,
    /// The line, from 1; 0 when the fault is in no line: in what is missing altogether.
    pub line: usize,
    /// The column, from 1, in characters; 0 with the line.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source_name)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}\n  {}", self.what, self.instead)
    }
}

/// Where in a text something stands: a byte offset; `None` for what stands nowhere.
pub(super) type Place = Option<usize>;

/// Something and where it was said.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// Collects faults, so that one run shows them all.
#[derive(Debug)]
pub(super) struct Faults<'t> {
    source: &'t str,
    text: &'t str,
    found: Vec<(Place, PolicyError)>,
}

impl<'t> Faults<'t> {
    pub(super) fn of(text: Option<&'t PolicyText>) -> Self {
        let (source, text) =
            text.map_or(("no policy", ""), |t| (t.source.as_str(), t.text.as_str()));
        Self {
            source,
            text,
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, at: Place, what: impl Into<String>, instead: impl Into<String>) {
        let (line, column) = at.map_or((0, 0), |offset| {
            let before = self.text.get(..offset).unwrap_or(self.text);
            let line = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        let source_name = self.source.to_owned();
        let error = PolicyError {
            source_name,
            line,
            column,
            what: what.into(),
            instead: instead.into(),
        };
        // One fault may be met twice, from two sides.
        if !self.found.iter().any(|(_, known)| *known == error) {
            self.found.push((at, error));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The faults, in the order of the text.
    pub(super) fn into_errors(mut self) -> Vec<PolicyError> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, error)| error).collect()
    }
}
