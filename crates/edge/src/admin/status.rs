//! What a node says of itself: one value, as text for people and as JSON for programs.
//!
//! Never names a URL, a viewer or a member. Invariant: it is a reading; making it changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use shikiri_record::{Mode, Outcome};

use super::Phase;
use crate::evidence::EvidenceHealth;
use crate::meter::Reading;
use crate::node::{Counts, Node};

/// A reading of a node.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The program's version.
    pub version: &'static str,
    /// The node's name.
    pub node: String,
    /// The process.
    pub pid: u32,
    /// Whether it takes requests.
    pub phase: Phase,
    /// When it began, in milliseconds of the Unix epoch.
    pub started_ms: u64,
    /// For how many seconds it has run.
    pub uptime_s: u64,
    /// The mode in force.
    pub mode: Mode,
    /// Since when, in milliseconds of the Unix epoch, who said so and why; nothing, when nobody has.
    pub mode_said: Option<ModeStatus>,
    /// When it is planned to open again, in milliseconds of the Unix epoch.
    pub reopening_ms: Option<u64>,
    /// When the last request came, likewise.
    pub last_request_ms: Option<u64>,
    /// Entries that are not on the timeline yet.
    pub unwritten: usize,
    /// The digest of the rules in force.
    pub rules: String,
    /// The epoch in force.
    pub epoch: u64,
    /// Client connections that are open.
    pub connections: u64,
    /// TLS handshakes that run.
    pub handshakes: u64,
    /// HTTP/2 streams of clients on which something is asked or answered.
    pub http2_streams: u64,
    /// Tunnels that are open.
    pub tunnels: u64,
    /// How long responses took to begin since the node began, by where they came from.
    pub latencies: Vec<Latency>,
    /// When the first certificate ends, in milliseconds of the Unix epoch.
    pub certificates_end_ms: Option<u64>,
    /// How evidence is.
    pub evidence: EvidenceHealth,
    /// What each class was served, since it began.
    pub classes: Vec<ClassStatus>,
    /// Of 1: how much of what may be shared was served without asking the origin; nothing when
    /// nothing was asked for.
    pub hit_ratio: Option<f64>,
    /// What needs somebody's attention, a sentence each.
    pub attention: Vec<String>,
    /// Counts since it began.
    pub counts: Counts,
}

/// Who said the mode in force.
#[derive(Clone, Debug, Serialize)]
pub struct ModeStatus {
    /// Since when, in milliseconds of the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What one class was served.
#[derive(Clone, Debug, Serialize)]
pub struct ClassStatus {
    /// Its name; `personal` is what no class claims.
    pub name: String,
    /// Of 1: how much was served without asking the origin.
    pub hit_ratio: Option<f64>,
    /// Responses by where they came from.
    pub responses: BTreeMap<&'static str, u64>,
}

/// How long the responses of one outcome took, from a request's head to its response's head.
///
/// Of each a histogram is kept, so that the times are bounds: so many took that long or less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The outcome, as in evidence; `own` for the node's own words.
    pub outcome: &'static str,
    /// How many responses.
    pub count: u64,
    /// Half of them took this many microseconds or less; nothing: more than the last bound, ten seconds.
    pub p50_us: Option<u64>,
    /// The same for 99 of 100.
    pub p99_us: Option<u64>,
}

impl Latency {
    /// Nothing for an outcome that there was not.
    fn of(outcome: &'static str, reading: &Reading) -> Option<Self> {
        let count = reading.count();
        (count > 0).then(|| Self {
            outcome,
            count,
            p50_us: reading.percentile_us(50),
            p99_us: reading.percentile_us(99),
        })
    }
}

/// A bound of a time.
struct AtMost(Option<u64>);

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(us) => write!(f, "at most {:?}", Duration::from_micros(us)),
            None => f.write_str("more than 10s"),
        }
    }
}

impl ClassStatus {
    fn of(name: String, counts: &[u64]) -> Self {
        let responses: BTreeMap<_, _> = Outcome::ALL
            .iter()
            .map(|outcome| outcome.name())
            .zip(counts.iter().copied())
            .collect();
        let at = |outcome: Outcome| responses.get(outcome.name()).copied().unwrap_or_default();
        let served = at(Outcome::Hit) + at(Outcome::Stale) + at(Outcome::Collapsed);
        Self {
            hit_ratio: ratio(served, counts.iter().sum()),
            name,
            responses,
        }
    }
}

impl Status {
    pub(super) fn of(node: &Node, phase: Phase, mut attention: Vec<String>) -> Self {
        let unwritten = node.unwritten();
        if unwritten > 0 {
            attention.push(format!(
                "{unwritten} entries are not on the timeline yet: the disk does not take them"
            ));
        }
        let (evidence, concerns) = node.evidence_health();
        attention.extend(concerns);
        let stance = node.stance();
        let counts = node.counts();
        let classes = node.meters.classes.reading();
        let latencies = node.meters.responses.named();
        let latencies = latencies.filter_map(|(name, taken)| Latency::of(name, &taken.reading()));
        let (now, started) = (node.now(), node.started());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            node: node.name().to_owned(),
            pid: std::process::id(),
            phase,
            started_ms: started.0,
            uptime_s: now.0.saturating_sub(started.0) / 1000,
            mode: stance.mode,
            mode_said: node.mode_said().map(|said| ModeStatus {
                at_ms: said.at.0,
                by: said.actor,
                reason: said.reason,
            }),
            reopening_ms: node.reopening().map(|at| at.0),
            last_request_ms: node.last_request().map(|at| at.0),
            unwritten,
            rules: stance.rules.digest().to_string(),
            epoch: stance.epoch.0,
            connections: node.connections(),
            handshakes: node.handshakes_running(),
            http2_streams: node.streams_running(),
            tunnels: node.tunnels_open(),
            latencies: latencies.collect(),
            certificates_end_ms: node.certificates_end().map(|at| at.0),
            evidence,
            classes: classes
                .into_iter()
                .map(|(name, counts)| ClassStatus::of(name, &counts))
                .collect(),
            hit_ratio: hit_ratio(&counts),
            attention,
            counts,
        }
    }
}

fn hit_ratio(c: &Counts) -> Option<f64> {
    let served = c.hits + c.stale + c.collapsed;
    ratio(served, served + c.fills)
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio for people: after 2^53 requests its last digits do not matter"
    )]
    let ratio = part as f64 / whole as f64;
    (whole > 0).then_some(ratio)
}

/// One line for each thing: its name, blanks, its value.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<22} {value}");
        let started = UNIX_EPOCH + Duration::from_millis(self.started_ms);
        let phase = match self.phase {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Stopping => "stopping",
        };
        line("node", &self.node)?;
        line("phase", &phase)?;
        line("version", &self.version)?;
        line("pid", &self.pid)?;
        line("started", &httpdate::fmt_http_date(started))?;
        line("uptime", &Uptime(self.uptime_s))?;
        line("mode", &self.mode)?;
        let date = |ms: u64| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms));
        if let Some(ModeStatus { at_ms, by, reason }) = &self.mode_said {
            // What people wrote stays on its line.
            let reason = reason.replace(char::is_control, " ");
            line(
                "mode-since",
                &format_args!("{}, by {by}: {reason}", date(*at_ms)),
            )?;
        }
        if let Some(at) = self.reopening_ms {
            line("reopening", &date(at))?;
        }
        line("rules", &self.rules)?;
        line("epoch", &self.epoch)?;
        match self.hit_ratio {
            Some(ratio) => line("hit-ratio", &format_args!("{:.1}%", 100.0 * ratio))?,
            None => line("hit-ratio", &"nothing asked for yet")?,
        }
        for class in &self.classes {
            let all: u64 = class.responses.values().sum();
            let hits = class.hit_ratio.unwrap_or_default() * 100.0;
            line(
                &format!("class {}", class.name),
                &format_args!("{all} responses, {hits:.1}% without the origin"),
            )?;
        }
        for Latency {
            outcome,
            count,
            p50_us,
            p99_us,
        } in &self.latencies
        {
            let (p50, p99) = (AtMost(*p50_us), AtMost(*p99_us));
            line(
                &format!("latency {outcome}"),
                &format_args!("p50 {p50}, p99 {p99}, of {count}"),
            )?;
        }
        line("evidence", &Evidence(&self.evidence))?;
        if let Some(at) = self.certificates_end_ms {
            line("certificates-until", &date(at))?;
        }
        line("connections", &self.connections)?;
        line("handshakes", &self.handshakes)?;
        line("http2-streams", &self.http2_streams)?;
        line("tunnels", &self.tunnels)?;
        for (name, count) in self.counts.named() {
            line(name, &count)?;
        }
        for what in &self.attention {
            line("attention", what)?;
        }
        Ok(())
    }
}

/// Evidence on one line.
struct Evidence<'a>(&'a EvidenceHealth);

impl fmt::Display for Evidence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EvidenceHealth {
            bytes,
            free_bytes,
            unsynced_ms,
            gaps,
            alarms: _,
        } = self.0;
        write!(f, "{} MiB", bytes >> 20)?;
        if let Some(free) = free_bytes {
            write!(f, ", {} MiB free", free >> 20)?;
        }
        write!(
            f,
            ", on disk {:.1} s ago",
            Duration::from_millis(*unsynced_ms).as_secs_f64()
        )?;
        if *gaps > 0 {
            write!(f, ", {gaps} responses without rows")?;
        }
        Ok(())
    }
}

/// Seconds, in the two largest units.
struct Uptime(u64);

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        match s {
            0..60 => write!(f, "{s}s"),
            60..3600 => write!(f, "{}m{}s", s / 60, s % 60),
            3600..86_400 => write!(f, "{}h{}m", s / 3600, s / 60 % 60),
            _ => write!(f, "{}d{}h", s / 86_400, s / 3600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes() {
        for (s, shown) in [
            (0, "0s"),
            (61, "1m1s"),
            (3600, "1h0m"),
            (90_000, "1d1h"),
            (864_000, "10d0h"),
        ] {
            assert_eq!(Uptime(s).to_string(), shown);
        }
    }
}
