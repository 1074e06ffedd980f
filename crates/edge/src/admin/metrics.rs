//! The node's counts as Prometheus reads them.
//!
//! Text format 0.0.4. Never a label that strangers or members choose: no URL, host, address or
//! viewer, so that the number of series is known beforehand and nobody is in them.

use std::fmt::{Display, Write};

use shikiri_record::{Mode, UnixMillis};

use super::Phase;
use super::status::Status;
use crate::alarm::WATCHED;
use crate::meter::{self, BOUNDS_US, Histogram};
use crate::node::Node;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric of a node.
pub(super) fn render(status: &Status, node: &Node) -> String {
    let mut page = Page(String::new());
    let c = &status.counts;
    page.info(
        "shikiri_build_info",
        "The program that runs.",
        &[("version", status.version)],
    );
    page.info(
        "shikiri_rules_info",
        "The rules in force, by their digest.",
        &[("digest", &status.rules)],
    );
    page.one(
        "shikiri_epoch",
        "gauge",
        "Raised by every purge of everything.",
        status.epoch,
    );
    page.many(
        "shikiri_mode",
        "gauge",
        "1 for the mode in force, 0 for the others.",
        "mode",
        &Mode::ALL.map(|mode| (mode.name(), u64::from(mode == status.mode))),
    );
    page.one(
        "shikiri_timeline_unwritten",
        "gauge",
        "Entries that are not on the timeline yet: the disk does not take them.",
        status.unwritten,
    );
    page.one(
        "shikiri_ready",
        "gauge",
        "1 while the node takes requests.",
        u64::from(status.phase == Phase::Serving),
    );
    page.one(
        "shikiri_attention",
        "gauge",
        "How many things need somebody's attention; `shikiri status` says what.",
        status.attention.len(),
    );
    page.one(
        "process_start_time_seconds",
        "gauge",
        "When the node began.",
        status.started_ms / 1000,
    );
    page.one(
        "shikiri_requests_total",
        "counter",
        "Requests that were read.",
        c.requests,
    );
    page.many(
        "shikiri_responses_total",
        "counter",
        "Responses, by how they came about. hit: stored and fresh. stale: stored, past freshness. \
         collapsed: from a fetch that another request led. fill: from a shared fetch that this one \
         led. relay: such a fetch, not shared. pass: the origin's answer to the request itself. \
         refused: by the rules or a bound. failed: the origin gave no answer. closed: the maintenance page.",
        "outcome",
        &[
            ("hit", c.hits),
            ("stale", c.stale),
            ("collapsed", c.collapsed),
            ("fill", c.led),
            ("relay", c.relays),
            ("pass", c.passes),
            ("refused", c.refused),
            ("failed", c.failures),
            ("closed", c.closed),
        ],
    );
    page.one(
        "shikiri_fills_total",
        "counter",
        "Shared fetches sent.",
        c.fills,
    );
    page.one(
        "shikiri_slice_sets_ended_total",
        "counter",
        "Sets of slices that ended because a slice did not fit them.",
        c.sets_ended,
    );
    page.one(
        "shikiri_invalidations_dropped_total",
        "counter",
        "Invalidations by unsafe methods that came too fast.",
        c.invalidations_dropped,
    );
    page.one(
        "shikiri_gates_total",
        "counter",
        "Gates that were asked whether somebody may see something.",
        c.gates,
    );
    page.one(
        "shikiri_gates_shut_total",
        "counter",
        "Those that did not open.",
        c.gates_shut,
    );
    page.one(
        "shikiri_pin_faults_total",
        "counter",
        "Answers in which the origin named a viewer or owner who did not fit.",
        c.pin_faults,
    );
    page.one(
        "shikiri_pin_stops_total",
        "counter",
        "Those of which nothing left.",
        c.pin_stops,
    );
    page.one(
        "shikiri_pin_unsure_total",
        "counter",
        "Answers that did not fit, for which something lost or forgotten may be the reason.",
        c.pin_unsure,
    );
    page.one(
        "shikiri_pinned_sessions",
        "gauge",
        "Sessions whose viewer is known.",
        c.pinned,
    );
    page.one(
        "shikiri_requests_running",
        "gauge",
        "Requests being answered.",
        c.running,
    );
    page.one(
        "shikiri_fills_running",
        "gauge",
        "Shared fetches running.",
        c.filling,
    );
    page.one(
        "shikiri_connections",
        "gauge",
        "Client connections that are open.",
        status.connections,
    );
    page.one(
        "shikiri_certificate_end_seconds",
        "gauge",
        "When the first of the certificates that clients are shown ends; 0 without TLS.",
        node.certificates_end().map_or(0, UnixMillis::seconds),
    );
    page.one(
        "shikiri_store_objects",
        "gauge",
        "Stored objects.",
        c.objects,
    );
    page.one(
        "shikiri_store_bytes",
        "gauge",
        "Bytes that stored objects take.",
        c.bytes,
    );
    page.head(
        "shikiri_class_responses_total",
        "counter",
        "Responses that showed something, by class and by where they came from; `personal` is what no \
         class claims.",
    );
    for class in &status.classes {
        for (outcome, count) in &class.responses {
            page.line(format_args!(
                "shikiri_class_responses_total{{class=\"{}\",outcome=\"{outcome}\"}} {count}",
                escaped(&class.name)
            ));
        }
    }
    page.one(
        "shikiri_handshakes_running",
        "gauge",
        "TLS handshakes that run.",
        status.handshakes,
    );
    page.one(
        "shikiri_http2_streams",
        "gauge",
        "HTTP/2 streams of clients on which something is asked or answered.",
        status.http2_streams,
    );
    page.one(
        "shikiri_tunnels",
        "gauge",
        "Tunnels that are open: WebSocket, and other protocols that were switched to.",
        status.tunnels,
    );
    evidence(&mut page, status);
    let spans = node.spans();
    page.one(
        "shikiri_otel_spans_exported_total",
        "counter",
        "Spans of traces that the collector has taken.",
        spans.exported,
    );
    page.many(
        "shikiri_otel_spans_dropped_total",
        "counter",
        "Spans of traces that were dropped. queue: no place in it. collector: it did not take them.",
        "reason",
        &[("queue", spans.overflowed), ("collector", spans.refused)],
    );
    page.one(
        "shikiri_panics_total",
        "counter",
        "Requests that a fault of the program ended.",
        meter::panics(),
    );
    let responses = node.meters.responses.named();
    let responses = responses.map(|(outcome, taken)| (format!("outcome=\"{outcome}\""), taken));
    page.histograms(
        "shikiri_response_seconds",
        "From a request's head to its response's head, by where the response came from; own: the \
         node's own words.",
        responses,
    );
    page.histograms(
        "shikiri_origin_seconds",
        "From asking the origin to the head of its answer: for sharing, or for one viewer.",
        [
            ("kind=\"shared\"".to_owned(), &node.meters.origin_shared),
            ("kind=\"pass\"".to_owned(), &node.meters.origin_pass),
        ],
    );
    process(&mut page);
    page.0
}

/// How evidence is.
fn evidence(page: &mut Page, status: &Status) {
    let (health, c) = (&status.evidence, &status.counts);
    page.many(
        "shikiri_evidence_rows_total",
        "counter",
        "Rows: of responses that began to be shown, and of those that ended.",
        "kind",
        &[("begin", c.rows), ("end", c.ends)],
    );
    page.one(
        "shikiri_evidence_gaps_total",
        "counter",
        "Responses that were shown without rows, since there was no space for any.",
        health.gaps,
    );
    page.one(
        "shikiri_evidence_bytes",
        "gauge",
        "Bytes that the files of evidence take.",
        health.bytes,
    );
    if let Some(free) = health.free_bytes {
        page.one(
            "shikiri_evidence_free_bytes",
            "gauge",
            "Bytes that are free where evidence is.",
            free,
        );
    }
    page.many(
        "shikiri_evidence_alarm",
        "gauge",
        "1 while something is wrong with the evidence, or was until a moment ago.",
        "alarm",
        &WATCHED.map(|alarm| {
            let is_on = health.alarms.iter().any(|on| on.alarm == alarm);
            (alarm.name(), u64::from(is_on))
        }),
    );
    page.one(
        "shikiri_evidence_without_space_total",
        "counter",
        "Requests for whose rows there was no space: refused, or passed without rows.",
        c.without_space,
    );
    page.one(
        "shikiri_evidence_unsynced_seconds",
        "gauge",
        "For how long a loss of power would have lost rows.",
        Seconds(health.unsynced_ms.saturating_mul(1000)),
    );
}

/// A label's value, in quotes.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

/// What Linux says of this process, under the names that Prometheus' own libraries use.
fn process(page: &mut Page) {
    if let Some(bytes) = resident_bytes() {
        page.one(
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use.",
            bytes,
        );
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.one(
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            open.count(),
        );
    }
    if let Some(most) = descriptors_max() {
        page.one(
            "process_max_fds",
            "gauge",
            "File descriptors that may be open.",
            most,
        );
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn descriptors_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A page in the making.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string can be written to");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn many(&mut self, name: &str, kind: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, kind, help);
        for (which, value) in values {
            self.line(format_args!("{name}{{{label}=\"{which}\"}} {value}"));
        }
    }

    /// A 1 whose labels are what is said. The values are ours, and hold nothing to be escaped.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.head(name, "gauge", help);
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        self.line(format_args!("{name}{{{}}} 1", labels.join(",")));
    }

    /// Histograms, each with its label.
    fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (String, &'a Histogram)>,
    ) {
        self.head(name, "histogram", help);
        for (label, histogram) in all {
            let reading = histogram.reading();
            let mut below = 0;
            for (bound_us, count) in BOUNDS_US.iter().zip(reading.buckets) {
                below += count;
                let bound = Seconds(*bound_us);
                self.line(format_args!(
                    "{name}_bucket{{{label},le=\"{bound}\"}} {below}"
                ));
            }
            let all = reading.count();
            self.line(format_args!("{name}_bucket{{{label},le=\"+Inf\"}} {all}"));
            self.line(format_args!(
                "{name}_sum{{{label}}} {}",
                Seconds(reading.sum_us)
            ));
            self.line(format_args!("{name}_count{{{label}}} {all}"));
        }
    }
}

/// Microseconds, written as seconds without a loss.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use shikiri_partition::policy;
    use shikiri_record::Outcome;

    use super::*;
    use crate::{Config, Evidence, RealWorld};

    const MANUAL: &str = include_str!("../../../../docs/operations.md");

    fn page() -> String {
        let origin = policy::origin("http://127.0.0.1:1").unwrap();
        let config = Config {
            name: "edge".into(),
            trusted: Vec::new(),
        };
        let rules = policy::compile(None, Some(origin)).unwrap();
        let node = Node::new(
            config,
            rules,
            Arc::new(RealWorld::new()),
            Evidence::of_nobody(),
        );
        node.meters
            .responses
            .of(Some(Outcome::Hit))
            .add(std::time::Duration::from_millis(3));
        render(&Status::of(&node, Phase::Serving, Vec::new()), &node)
    }

    /// The metrics and their description change together.
    #[test]
    fn the_manual_has_a_row_for_every_metric_and_no_other() {
        let page = page();
        let named = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let ours: BTreeSet<&str> = named.filter_map(|line| line.split(' ').next()).collect();
        let part = MANUAL.split("\n## Metrics").nth(1).unwrap();
        let part = part.split("\n## ").next().unwrap();
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
        let told: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        assert_eq!(ours, told);
    }

    /// An alert on a metric that is not there never fires.
    #[test]
    fn the_manual_speaks_of_no_metric_that_is_not_there() {
        let page = page();
        let known = |name: &str| {
            let series = ["", "_bucket", "_sum", "_count"].iter();
            let mut bases = series.filter_map(|end| name.strip_suffix(end));
            bases.any(|base| page.contains(&format!("# TYPE {base} ")))
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        // The log's levels name modules.
        let manual = MANUAL.replace("shikiri_edge::", "");
        let named = manual.split(|c| !is_name(c));
        let named: BTreeSet<&str> = named
            .filter(|word| word.starts_with("shikiri_") || word.starts_with("process_"))
            .filter(|word| !word.ends_with('_'))
            .collect();
        assert!(named.len() > 30, "{named:?}");
        for name in named {
            assert!(known(name), "{name}");
        }
    }

    #[test]
    fn a_histogram_counts_up() {
        let page = page();
        for line in [
            "shikiri_response_seconds_bucket{outcome=\"hit\",le=\"0.002500\"} 0",
            "shikiri_response_seconds_bucket{outcome=\"hit\",le=\"0.005000\"} 1",
            "shikiri_response_seconds_bucket{outcome=\"hit\",le=\"+Inf\"} 1",
            "shikiri_response_seconds_sum{outcome=\"hit\"} 0.003000",
            "shikiri_response_seconds_count{outcome=\"hit\"} 1",
            "shikiri_response_seconds_count{outcome=\"own\"} 0",
            "shikiri_origin_seconds_bucket{kind=\"pass\",le=\"+Inf\"} 0",
            "shikiri_origin_seconds_count{kind=\"shared\"} 0",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        }
    }
}
