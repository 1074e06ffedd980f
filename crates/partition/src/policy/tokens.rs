//! `gate = { token = … }` of a class: who may see what is told by a token in the URL.

use super::fault::{At, Faults};
use super::gates::is_variable;
use super::text::GateText;
use crate::secret::SecretSource;
use crate::token::{SECRETS_MAX, TokenKey, TokenPlace, TokenRule};

/// The rule of a gate's tokens; `None` where it has faults.
pub(super) fn rule(said: &GateText, faults: &mut Faults<'_>) -> Option<TokenRule> {
    let token = said.token.as_ref()?;
    for (key, at) in [
        ("path", said.path.as_ref().map(|said| said.at)),
        ("method", said.method.as_ref().map(|said| said.at)),
        ("probe", said.probe.as_ref().map(|said| said.at)),
    ] {
        if let Some(at) = at {
            faults.add(
                at,
                format!("`{key}` is of a gate that asks the origin, and this one opens by a token"),
                format!("Leave `{key}` out, or leave `token` out."),
            );
        }
    }
    let (place, other) = match token.value.as_str() {
        "path" => (prefix(said, faults), ("parameter", &said.parameter)),
        "query" => (parameter(said, faults), ("prefix", &said.prefix)),
        wrong => {
            faults.add(
                token.at,
                format!("a token cannot be in `{wrong}`"),
                "Write \"path\" (with `prefix`) or \"query\" (with `parameter`).",
            );
            return None;
        }
    };
    if let (key, Some(At { at, .. })) = other {
        faults.add(
            *at,
            format!("`{key}` says nothing of a token in the {}", token.value),
            format!("Leave `{key}` out."),
        );
    }
    let mut keys = Vec::new();
    for file in said.files.iter().flat_map(|files| &files.value) {
        if file.value.is_empty() {
            faults.add(
                file.at,
                "a secret's file has no name",
                "Write its whole path.",
            );
        }
        keys.push(SecretSource::File(file.value.clone()));
    }
    for env in said.envs.iter().flat_map(|envs| &envs.value) {
        if !is_variable(&env.value) {
            faults.add(
                env.at,
                format!("`{}` is no name of a variable", env.value),
                "Write letters, digits and `_`.",
            );
        }
        keys.push(SecretSource::Environment(env.value.clone()));
    }
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() || keys.len() > SECRETS_MAX {
        faults.add(
            said.at,
            format!("tokens are made with {} secrets", keys.len()),
            format!(
                "Say where they are found, 1 to {SECRETS_MAX} of them: `files = [\"/run/secrets/tokens\"]`."
            ),
        );
    }
    let keys = keys.into_iter().map(|source| TokenKey {
        source,
        secret: None,
    });
    Some(TokenRule {
        place: place?,
        keys: keys.collect(),
    })
}

/// Says what stands there without `token`.
pub(super) fn none(said: &GateText, faults: &mut Faults<'_>) {
    for (key, at) in [
        ("prefix", said.prefix.as_ref().map(|said| said.at)),
        ("parameter", said.parameter.as_ref().map(|said| said.at)),
        ("files", said.files.as_ref().map(|said| said.at)),
        ("envs", said.envs.as_ref().map(|said| said.at)),
    ] {
        if let Some(at) = at {
            faults.add(
                at,
                format!("`{key}` says nothing without `token`"),
                "Write `token = \"path\"` or `token = \"query\"` if it opens by tokens, or leave it out.",
            );
        }
    }
}

fn prefix(said: &GateText, faults: &mut Faults<'_>) -> Option<TokenPlace> {
    let plain = |text: &str| {
        let inside = text
            .strip_prefix('/')
            .and_then(|text| text.strip_suffix('/'));
        inside.is_some_and(|inside| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !inside.is_empty() && inside.bytes().all(is_plain)
        })
    };
    match &said.prefix {
        Some(prefix) if plain(&prefix.value) => Some(TokenPlace::Path(prefix.value.clone())),
        wrong => {
            faults.add(
                wrong.as_ref().map_or(said.at, |wrong| wrong.at),
                "the gate does not say after which first segment the token stands",
                "Write `prefix = \"/t/\"`: letters, digits, `-` and `_` between two slashes.",
            );
            None
        }
    }
}

fn parameter(said: &GateText, faults: &mut Faults<'_>) -> Option<TokenPlace> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match &said.parameter {
        Some(name) if !name.value.is_empty() && name.value.bytes().all(is_plain) => {
            Some(TokenPlace::Query(name.value.clone()))
        }
        wrong => {
            faults.add(
                wrong.as_ref().map_or(said.at, |wrong| wrong.at),
                "the gate does not say in which parameter the token stands",
                "Write `parameter = \"t\"`: letters, digits, `-` and `_`.",
            );
            None
        }
    }
}
