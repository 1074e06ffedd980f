//! Identity in a URL: what makes a request personal by its target alone.

use crate::reason::Personal;
use crate::rules::Session;

/// Whether a path can be read in one way and names nobody.
pub(crate) fn path(_path: &str, _session: &Session) -> Result<(), Personal> {
    unimplemented!()
}

/// Whether a query can be read in one way and names nobody.
pub(crate) fn query(_query: Option<&str>, _session: &Session) -> Result<(), Personal> {
    unimplemented!()
}

/// The parameters of a query: raw names and values.
pub(crate) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').unwrap_or((p, "")))
}

/// The extension of the last path segment.
pub(crate) fn extension(path: &str) -> Option<&str> {
    let (_, last) = path.rsplit_once('/')?;
    last.rsplit_once('.')
        .map(|(_, extension)| extension)
        .filter(|e| !e.is_empty())
}
