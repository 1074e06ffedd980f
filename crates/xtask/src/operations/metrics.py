# Reads a page of metrics from standard input with Prometheus' own parser, and says what it understood.
import sys
from prometheus_client.parser import text_string_to_metric_families

page = sys.stdin.read()
families = list(text_string_to_metric_families(page))
faults = []
values = {}
for family in families:
    if not family.documentation:
        faults.append(f"{family.name}: no HELP")
    if family.type not in ("counter", "gauge", "histogram"):
        faults.append(f"{family.name}: its type is {family.type}")
    if not family.samples:
        faults.append(f"{family.name}: no sample")
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in values:
            faults.append(f"{key}: twice")
        values[key] = sample.value
        for label, value in sample.labels.items():
            known = label in ("outcome", "kind", "le", "version", "digest", "mode", "class", "alarm", "reason")
            if not known:
                faults.append(f"{sample.name}: a label {label}={value}")
        if sample.name.endswith("_count"):
            whole = sample.name[: -len("_count")] + "_bucket"
            labels = {**sample.labels, "le": "+Inf"}
            if values.get((whole, tuple(sorted(labels.items())))) != sample.value:
                faults.append(f"{sample.name}: not what its last bucket holds")
if len({family.name for family in families}) != len(families):
    faults.append("a family is there twice")
for name, labels, least in [
    ("shikiri_requests_total", {}, 4),
    ("shikiri_responses_total", {"outcome": "hit"}, 1),
    ("shikiri_responses_total", {"outcome": "fill"}, 1),
    ("shikiri_responses_total", {"outcome": "pass"}, 1),
    ("shikiri_response_seconds_count", {"outcome": "hit"}, 1),
    ("shikiri_response_seconds_count", {"outcome": "fill"}, 1),
    ("shikiri_response_seconds_count", {"outcome": "pass"}, 1),
    ("shikiri_evidence_alarm", {"alarm": "full"}, 0),
    ("shikiri_http2_streams", {}, 0),
    ("shikiri_tunnels", {}, 0),
    ("shikiri_origin_seconds_count", {"kind": "shared"}, 1),
    ("shikiri_origin_seconds_count", {"kind": "pass"}, 1),
    ("shikiri_class_responses_total", {"class": "assets", "outcome": "hit"}, 1),
    ("shikiri_class_responses_total", {"class": "personal", "outcome": "pass"}, 1),
    ("shikiri_evidence_rows_total", {"kind": "end"}, 3),
    ("shikiri_mode", {"mode": "open"}, 1),
    ("shikiri_ready", {}, 1),
    ("process_resident_memory_bytes", {}, 1),
]:
    value = values.get((name, tuple(sorted(labels.items()))))
    if value is None or value < least:
        faults.append(f"{name} {labels}: {value}, expected at least {least}")
print(f"{len(families)} families, {len(values)} samples")
for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
