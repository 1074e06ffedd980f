//! What a node says of itself: one value, as text for people and as JSON for programs.
//!
//! Never names a URL, a viewer or a member. Invariant: it is a reading; making it changes nothing.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::Phase;
use shikiri_record::Mode;

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
    /// Of 1: how much of what may be shared was served without asking the origin; nothing when
    /// nothing was asked for.
    pub hit_ratio: Option<f64>,
    /// What needs somebody's attention, a sentence each.
    pub attention: Vec<String>,
    /// Counts since it began.
    pub counts: Counts,
}

impl Status {
    pub(super) fn of(node: &Node, phase: Phase, mut attention: Vec<String>) -> Self {
        let unwritten = node.unwritten();
        if unwritten > 0 {
            attention.push(format!(
                "{unwritten} entries are not on the timeline yet: the disk does not take them"
            ));
        }
        let stance = node.stance();
        let counts = node.counts();
        let (now, started) = (node.now(), node.started());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            node: node.name().to_owned(),
            pid: std::process::id(),
            phase,
            started_ms: started.0,
            uptime_s: now.0.saturating_sub(started.0) / 1000,
            mode: stance.mode,
            reopening_ms: node.reopening().map(|at| at.0),
            last_request_ms: node.last_request().map(|at| at.0),
            unwritten,
            rules: stance.rules.digest().to_string(),
            epoch: stance.epoch.0,
            connections: node.connections(),
            hit_ratio: hit_ratio(&counts),
            attention,
            counts,
        }
    }
}

fn hit_ratio(c: &Counts) -> Option<f64> {
    let served = c.hits + c.stale + c.collapsed;
    let all = served + c.fills;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio for people: after 2^53 requests its last digits do not matter"
    )]
    let ratio = served as f64 / all as f64;
    (all > 0).then_some(ratio)
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
        if let Some(at) = self.reopening_ms {
            line("reopening", &date(at))?;
        }
        line("rules", &self.rules)?;
        line("epoch", &self.epoch)?;
        match self.hit_ratio {
            Some(ratio) => line("hit-ratio", &format_args!("{:.1}%", 100.0 * ratio))?,
            None => line("hit-ratio", &"nothing asked for yet")?,
        }
        line("connections", &self.connections)?;
        for (name, count) in self.counts.named() {
            line(name, &count)?;
        }
        for what in &self.attention {
            line("attention", what)?;
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
