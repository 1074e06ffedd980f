//! `[otel]`: where traces go. `docs/configuration.md` describes it, `docs/operations.md` what they tell.
//!
//! Off where nothing is said. Invariant: what a collector's headers hold is in a file that not every user
//! can read, and prints nowhere.

use std::fs::{self, File};
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use shikiri_edge::Node;
use shikiri_edge::otlp::{self, Endpoint, Exporter, OtlpSettings};
use shikiri_edge::trace::Ratio;

use crate::config::{Parsed, Time};

/// `[otel]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OtelSection {
    endpoint: Option<Parsed<Endpoint>>,
    headers: Option<PathBuf>,
    service: Option<Parsed<ServiceName>>,
    ratio: Option<Part>,
    queue_max: Option<NonZeroUsize>,
    batch_max: Option<NonZeroUsize>,
    interval: Option<Parsed<Time>>,
    time_max: Option<Parsed<Time>>,
}

/// What the service is called when nothing is said.
const SERVICE: &str = "shikiri";
const QUEUE_MAX: usize = 4_096;
const BATCH_MAX: usize = 512;
const INTERVAL: Duration = Duration::from_secs(5);
const TIME_MAX: Duration = Duration::from_secs(10);

/// The most that each may be: a queue of a million spans takes some hundred megabytes.
const QUEUE_MAX_MAX: usize = 1_000_000;
const BATCH_MAX_MAX: usize = 10_000;
const INTERVAL_MAX: Duration = Duration::from_secs(300);
const TIME_MAX_MAX: Duration = Duration::from_secs(60);

/// What a file of headers has at most.
const HEADERS_BYTES_MAX: u64 = 16 << 10;
const HEADERS_MAX: usize = 16;

/// A part of all, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
struct Part(Ratio);

/// One trace in a hundred.
const PART: f64 = 0.01;

impl TryFrom<f64> for Part {
    type Error = String;

    fn try_from(part: f64) -> Result<Self, String> {
        let wrong =
            || format!("`{part}` is no part of all: write a number from 0 to 1, such as 0.01");
        if !(0.0..=1.0).contains(&part) {
            return Err(wrong());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to a million"
        )]
        let per_million = (part * 1e6).round() as u64;
        Ratio::per_million(per_million).map(Self).ok_or_else(wrong)
    }
}

/// A service's name, as every span's resource has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServiceName(String);

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
            return Err("a service's name has 1 to 128 bytes and no control characters".into());
        }
        Ok(Self(text.to_owned()))
    }
}

impl OtelSection {
    /// How traces are sent, where they are. `path`: where a file that is named here lies.
    ///
    /// # Errors
    /// Something is said of no collector, a bound is passed, or the headers cannot be read.
    pub(crate) fn settings(
        &self,
        path: impl Fn(&Path) -> PathBuf,
    ) -> Result<Option<OtlpSettings>, String> {
        let Self {
            endpoint,
            headers,
            service,
            ratio,
            queue_max,
            batch_max,
            interval,
            time_max,
        } = self;
        let Some(Parsed(endpoint)) = endpoint else {
            let is_said = [
                headers.is_some(),
                service.is_some(),
                ratio.is_some(),
                queue_max.is_some(),
                batch_max.is_some(),
                interval.is_some(),
                time_max.is_some(),
            ];
            if is_said.contains(&true) {
                return Err("[otel] has no `endpoint`, so no traces would be sent: write \
                            `endpoint = \"http://127.0.0.1:4318/v1/traces\"`, or leave the section out"
                    .into());
            }
            return Ok(None);
        };
        let count = |said: &Option<NonZeroUsize>, default| said.map_or(default, NonZeroUsize::get);
        let time = |said: &Option<Parsed<Time>>, default| {
            said.as_ref().map_or(default, |Parsed(Time(time))| *time)
        };
        let queue_max = count(queue_max, QUEUE_MAX);
        let batch_max = count(batch_max, BATCH_MAX.min(queue_max));
        let (interval, time_max) = (time(interval, INTERVAL), time(time_max, TIME_MAX));
        for (key, is_over, most) in [
            ("queue_max", queue_max > QUEUE_MAX_MAX, "1000000"),
            ("batch_max", batch_max > BATCH_MAX_MAX, "10000"),
            ("batch_max", batch_max > queue_max, "`queue_max`"),
            ("interval", interval > INTERVAL_MAX, "5m"),
            ("time_max", time_max > TIME_MAX_MAX, "1m"),
        ] {
            if is_over {
                return Err(format!("`{key}` in [otel] is more than {most}: write less"));
            }
        }
        let headers = headers.as_deref().map(|named| read(&path(named)));
        let ratio = match ratio {
            Some(Part(ratio)) => *ratio,
            None => Part::try_from(PART)?.0,
        };
        Ok(Some(OtlpSettings {
            endpoint: endpoint.clone(),
            headers: headers.transpose()?.unwrap_or_default(),
            service: service.as_ref().map_or_else(
                || SERVICE.to_owned(),
                |Parsed(ServiceName(name))| name.clone(),
            ),
            ratio,
            queue_max,
            batch_max,
            interval,
            time_max,
        }))
    }
}

/// Header fields from a file: `Name: value`, one a line; what begins with `#` is a comment.
fn read(path: &Path) -> Result<HeaderMap, String> {
    let shown = path.display();
    let fault = |what: &str| format!("the headers of [otel] in {shown}: {what}");
    let unreadable =
        |error: &dyn std::fmt::Display| fault(&format!("they cannot be read: {error}"));
    let found = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if found.mode() & 0o007 != 0 {
        return Err(fault(&format!(
            "every user of this host can read or change them: run `chmod o-rwx {shown}`"
        )));
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(HEADERS_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| unreadable(&error))?;
    if text.len() as u64 > HEADERS_BYTES_MAX {
        return Err(fault("there are more than 16 KiB: leave some out"));
    }
    let mut headers = HeaderMap::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // What stands there is not told: it may be a secret.
        let wrong = || {
            format!(
                "the headers of [otel] in {shown}:{}: this is none: write `Name: value`, and nothing that an HTTP \
                 client says itself",
                n + 1
            )
        };
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        if !otlp::may_be_said(&name) {
            return Err(wrong());
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    if headers.len() > HEADERS_MAX {
        return Err(fault("there are more than 16: leave some out"));
    }
    Ok(headers)
}

/// Has a node's traces sent, where that is said, until what is returned is dropped.
///
/// # Errors
/// There is no thread to send them.
pub(crate) fn start(
    settings: Option<&OtlpSettings>,
    node: &Arc<Node>,
) -> Result<Option<Exporter>, String> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let (tracer, exporter) = otlp::start(settings.clone(), node.name())
        .map_err(|error| format!("cannot start sending traces: {error}"))?;
    node.trace(tracer);
    tracing::info!(collector = %settings.endpoint, "traces are sent");
    Ok(Some(exporter))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn settings(text: &str) -> Result<Option<OtlpSettings>, String> {
        let section: OtelSection = toml::from_str(text).map_err(|error| error.to_string())?;
        section.settings(Path::to_owned)
    }

    const ENDPOINT: &str = "endpoint = \"http://127.0.0.1:4318/v1/traces\"\n";

    #[test]
    fn what_is_said_and_what_holds_otherwise() {
        assert_eq!(settings("").unwrap(), None);
        let plain = settings(ENDPOINT).unwrap().unwrap();
        assert_eq!(
            (plain.service.as_str(), plain.queue_max, plain.batch_max),
            (SERVICE, QUEUE_MAX, BATCH_MAX)
        );
        assert_eq!(Some(plain.ratio), Ratio::per_million(10_000));
        let said = format!(
            "{ENDPOINT}service = \"shop\"\nratio = 1\nqueue_max = 10\ninterval = \"1s\"\ntime_max = \"2s\"\n"
        );
        let said = settings(&said).unwrap().unwrap();
        assert_eq!(
            (said.service.as_str(), said.queue_max, said.batch_max),
            ("shop", 10, 10)
        );
        assert_eq!(Some(said.ratio), Ratio::per_million(1_000_000));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        let with = |more: &str| format!("{ENDPOINT}{more}\n");
        for (text, why) in [
            ("ratio = 0.5\n".to_owned(), "has no `endpoint`"),
            (with("ratio = 1.5"), "from 0 to 1"),
            (with("ratio = nan"), "from 0 to 1"),
            (with("ratio = -0.1"), "from 0 to 1"),
            (with("queue_max = 0"), "nonzero"),
            (with("queue_max = 1000001"), "more than 1000000"),
            (with("batch_max = 10001"), "more than 10000"),
            (
                with("queue_max = 10\nbatch_max = 11"),
                "more than `queue_max`",
            ),
            (with("interval = \"6m\""), "more than 5m"),
            (with("time_max = \"61s\""), "more than 1m"),
            (with("service = \"\""), "1 to 128 bytes"),
            (with("headers = \"/nowhere/headers\""), "cannot be read"),
            (with("header = \"a: b\""), "unknown field"),
            (
                "endpoint = \"https://a.example.test/\"\n".to_owned(),
                "cleartext",
            ),
        ] {
            let told = settings(&text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn headers_are_read_from_a_file_that_others_cannot_read() {
        let path = std::env::temp_dir().join(format!("shikiri-otel-{}", std::process::id()));
        let text = format!("{ENDPOINT}headers = \"{}\"\n", path.display());
        for (content, mode, expected) in [
            (
                "# who\nAuthorization: Bearer s3cret\n\nX-Scope: a\n",
                0o640,
                Ok(2),
            ),
            ("Authorization: Bearer s3cret\n", 0o644, Err("chmod o-rwx")),
            ("Bearer s3cret\n", 0o600, Err(":1: this is none")),
            ("a: b\nHost: s3cret\n", 0o600, Err(":2: this is none")),
            ("a: s3\u{1}cret\n", 0o600, Err(":1: this is none")),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = settings(&text);
            let shown = format!("{told:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
            let count = told.map(|settings| settings.unwrap().headers.len());
            match (count, expected) {
                (Ok(count), Ok(expected)) => assert_eq!(count, expected),
                (Err(told), Err(why)) => assert!(told.contains(why), "{told}"),
                other => panic!("{content}: {other:?}"),
            }
        }
        fs::remove_file(&path).unwrap();
    }
}
