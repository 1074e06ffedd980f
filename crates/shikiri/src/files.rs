//! Policy files, read and compiled.

use std::path::Path;

use shikiri_edge::maintenance::{self, Maintenance, Page};
use shikiri_partition::{Exceptions, Origin, Rules, policy};
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
