//! What is said on standard error, in what form and how much of it.
//!
//! Never an access log: evidence is the record of who was served what. Never what members send: our
//! own messages name reasons and places alone; other libraries are heard from warnings on, since
//! their finer messages show what they read; a panic says where it was and not what with.

use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as lines, reload};

/// How much is logged: a level, and others for some modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    all: LevelFilter,
    modules: Vec<(String, LevelFilter)>,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What our modules' names begin with.
const OURS: &str = "shikiri";

impl Default for Levels {
    fn default() -> Self {
        Self {
            all: Level::INFO.into(),
            modules: Vec::new(),
        }
    }
}

impl FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut levels = Self::default();
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                None => levels.all = level(part)?,
                Some((module, _)) if !module.starts_with(OURS) => {
                    return Err(format!(
                        "`{module}` is no module of ours, and others' messages may hold what members \
                         send: write shikiri_edge::origin=debug or the like"
                    ));
                }
                Some((module, at)) => levels.modules.push((module.to_owned(), level(at)?)),
            }
        }
        Ok(levels)
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse::<Level>().map(Into::into).map_err(|_| {
        format!(
            "`{text}` is no level: write error, warn, info, debug or trace, and others for some modules: \
             info,shikiri_edge::origin=debug"
        )
    })
}

impl Levels {
    fn targets(&self) -> Targets {
        Targets::new()
            .with_default(self.all.min(LevelFilter::WARN))
            .with_target(OURS, self.all)
            .with_targets(self.modules.clone())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is no form of a log: write text or json")),
        }
    }
}

/// Changes the levels of a log that runs.
pub(crate) struct Handle(reload::Handle<Targets, Registry>);

impl Handle {
    /// Logs so much from here on.
    pub(crate) fn set(&self, levels: &Levels) {
        self.0
            .reload(levels.targets())
            .expect("the log lives as long as the process");
    }
}

/// Logs from here on.
pub(crate) fn start(levels: &Levels, format: Format) -> Handle {
    let lines = lines::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Text => Box::new(lines.with_target(false)),
        Format::Json => Box::new(lines.json().flatten_event(true)),
    };
    let (filter, handle) = reload::Layer::new(levels.targets());
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    std::panic::set_hook(Box::new(|panic| {
        shikiri_edge::note_panic();
        // Its message may quote the text that it stumbled over.
        let at = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        let trace = std::backtrace::Backtrace::capture();
        tracing::error!(
            at,
            "a panic ended a request: a fault of this program, to be reported"
        );
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            tracing::error!("{trace}");
        }
    }));
    Handle(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ours_and_others_are_heard_from_warnings_on() {
        for (text, target, level, heard) in [
            ("info", "shikiri_edge::origin", Level::INFO, true),
            ("info", "shikiri_edge::origin", Level::DEBUG, false),
            ("trace", "shikiri", Level::TRACE, true),
            ("trace", "h2::codec", Level::INFO, false),
            ("trace", "h2::codec", Level::WARN, true),
            ("error", "h2::codec", Level::WARN, false),
            (
                "info,shikiri_edge::origin=debug",
                "shikiri_edge::origin",
                Level::DEBUG,
                true,
            ),
            (
                "info, shikiri_edge::origin=debug",
                "shikiri_edge::fill",
                Level::DEBUG,
                false,
            ),
            (
                "debug,shikiri_edge=error",
                "shikiri_edge::fill",
                Level::WARN,
                false,
            ),
        ] {
            let targets = text.parse::<Levels>().unwrap().targets();
            assert_eq!(
                targets.would_enable(target, &level),
                heard,
                "{text} {target} {level}"
            );
        }
        for (wrong, said) in [
            ("loud", "write error, warn"),
            ("", "write error, warn"),
            ("info,h2=trace", "what members send"),
            ("shikiri=loud", "write error, warn"),
        ] {
            assert!(
                wrong.parse::<Levels>().unwrap_err().contains(said),
                "{wrong}"
            );
        }
    }
}
