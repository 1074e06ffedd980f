//! Policy files, read and compiled.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use shikiri_edge::maintenance::{self, Maintenance, Page};
use shikiri_edge::tls::kept_from_others;
use shikiri_partition::{Exceptions, Origin, Rules, Secret, SecretSource, policy};
use shikiri_record::PolicyText;

use crate::settings::MaintenanceSettings;

/// A policy that was read from a file.
pub(crate) fn read(path: &Path) -> Result<PolicyText, String> {
    let source = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(PolicyText { source, text }),
        Err(error) => Err(format!("cannot read the policy {source}: {error}")),
    }
}

/// The rules of a policy file, or the built-in ones when there is none.
pub(crate) fn rules(path: Option<&Path>, origin: Option<&Origin>) -> Result<Rules, String> {
    let text = path.map(read).transpose()?;
    policy::compile(text.as_ref(), origin.cloned()).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n")
    })
}

/// The rules of a policy file, with the secrets that they need.
pub(crate) fn armed(path: Option<&Path>, origin: Option<&Origin>) -> Result<Rules, String> {
    let rules = rules(path, origin)?;
    let mut secrets = BTreeMap::new();
    for source in rules.secrets() {
        let secret = secret(&source).map_err(|why| format!("the secret in {source}: {why}"))?;
        secrets.insert(source, secret);
    }
    Ok(rules.armed(&secrets))
}

/// The same, with as many of the secrets as are there: to look at.
pub(crate) fn armed_if_there(rules: Rules) -> Rules {
    let found = rules.secrets().into_iter().filter_map(|source| {
        let secret = secret(&source).ok()?;
        Some((source, secret))
    });
    let secrets = found.collect();
    rules.armed(&secrets)
}

const FILE_BYTES_MAX: u64 = Secret::BYTES_MAX as u64 + 3;

fn secret(source: &SecretSource) -> Result<Secret, String> {
    let found = match source {
        SecretSource::File(path) => {
            kept_from_others(Path::new(path), "a secret").map_err(|fault| fault.to_string())?;
            let mut found = Vec::new();
            // A byte more than a secret and the end of its line may have, to see that there is more.
            let read = std::fs::File::open(path)
                .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut found));
            read.map_err(|error| format!("it cannot be read: {error}"))?;
            found
        }
        SecretSource::Environment(name) => std::env::var(name)
            .map_err(|_| "it is not set, or no text".to_owned())?
            .into_bytes(),
    };
    Secret::new(&found)
}

/// The files that a policy is read from: its own and, as it now stands there, those of its secrets.
/// Where it has a fault, those of the rules that are in force instead: it is not they that would mend it,
/// but a new secret may come meanwhile.
pub(crate) fn of_policy(path: &Path, origin: Option<&Origin>, in_force: &Rules) -> Vec<PathBuf> {
    let secrets = match rules(Some(path), origin) {
        Ok(rules) => of_secrets(&rules),
        Err(_) => of_secrets(in_force),
    };
    [path.to_owned()].into_iter().chain(secrets).collect()
}

/// The files in which rules find their secrets.
fn of_secrets(rules: &Rules) -> Vec<PathBuf> {
    let files = rules
        .secrets()
        .into_iter()
        .filter_map(|source| match source {
            SecretSource::File(path) => Some(PathBuf::from(path)),
            SecretSource::Environment(_) => None,
        });
    files.collect()
}

/// What a closed node shows.
pub(crate) fn maintenance(settings: &MaintenanceSettings) -> Result<Maintenance, String> {
    let page = match &settings.page {
        None => Page::of_our_own(),
        Some(path) => {
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read the maintenance page {shown}: {error}"))?;
            Page::parse(&text).map_err(|why| format!("the maintenance page {shown}: {why}"))?
        }
    };
    let exceptions = Exceptions::new(&settings.except)
        .map_err(|why| format!("`except` in [maintenance]: {why}"))?;
    let zone = maintenance::zone(&settings.zone)?;
    Ok(Maintenance::new(
        page,
        zone,
        settings.retry_after,
        exceptions,
    ))
}

/// The origin that a flag names.
pub(crate) fn origin(url: Option<&str>) -> Result<Option<Origin>, String> {
    url.map(|url| policy::origin(url).map_err(|why| format!("--origin {url}: {why}")))
        .transpose()
}
