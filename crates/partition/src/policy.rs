//! Policy text to [`Rules`].

use crate::rules::{Origin, Rules};
use shikiri_record::PolicyText;

/// Why a policy was refused: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}:{column}: {what}\n  {instead}")]
pub struct PolicyError {
    pub source_name: String,
    pub line: usize,
    pub column: usize,
    pub what: String,
    pub instead: String,
}

/// Compiles a policy. `origin`: the origin named on the command line, for every host that the policy names no origin for.
pub fn compile(
    _text: Option<&PolicyText>,
    _origin: Option<Origin>,
) -> Result<Rules, Vec<PolicyError>> {
    unimplemented!()
}
