# Reads requests of OTLP/HTTP with JSON, one a line of standard input, with the schema that OpenTelemetry
# publishes, and says what it understood.
import base64
import json
import sys
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

faults = []


def as_protobuf(span):
    # OTLP writes ids in hexadecimal where protobuf's JSON has base64.
    for key, length in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
        if key in span:
            raw = bytes.fromhex(span[key])
            if len(raw) != length or not any(raw) or span[key] != raw.hex():
                faults.append(f"{key} is {span[key]}")
            span[key] = base64.b64encode(raw).decode()


spans = []
for line in filter(str.strip, sys.stdin):
    body = json.loads(line)
    for resource in body["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                as_protobuf(span)
    # What the schema does not know is refused.
    request = json_format.ParseDict(body, ExportTraceServiceRequest())
    for resource in request.resource_spans:
        names = {a.key: a.value.string_value for a in resource.resource.attributes}
        if names.get("service.name") != "shop" or not names.get("service.instance.id"):
            faults.append(f"the resource is {names}")
        for scope in resource.scope_spans:
            spans += scope.spans

ids = [span.span_id for span in spans]
if len(set(ids)) != len(ids):
    faults.append("an id is there twice")
servers = {span.span_id: span for span in spans if span.kind == Span.SPAN_KIND_SERVER}
clients = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
if len(servers) + len(clients) != len(spans):
    faults.append("a span is of another kind")
for span in clients:
    parent = servers.get(span.parent_span_id)
    if parent is None or parent.trace_id != span.trace_id:
        faults.append(f"{span.name}: its parent is not there")
    elif span.start_time_unix_nano < parent.start_time_unix_nano:
        faults.append(f"{span.name} began before its parent")
for span in spans:
    told = {a.key: a.value for a in span.attributes}
    if len(told) != len(span.attributes):
        faults.append(f"{span.name}: an attribute is there twice")
    if not span.start_time_unix_nano <= span.end_time_unix_nano < span.start_time_unix_nano + 60 * 10**9:
        faults.append(f"{span.name}: its times are wrong")
    if ("error.type" in told) != (span.status.code == Status.STATUS_CODE_ERROR):
        faults.append(f"{span.name}: it failed, or not: {span.status}")


def count(name, value):
    of = lambda span: {a.key: a.value.string_value for a in span.attributes}
    return sum(of(span).get(name) == value for span in spans)


for name, value, expected in [
    ("shikiri.outcome", "fill", 1),
    ("shikiri.outcome", "hit", 1),
    ("shikiri.outcome", "pass", 2),
    ("shikiri.outcome", "own", 1),
    ("shikiri.asks", "fetch", 1),
    ("shikiri.asks", "pass", 2),
]:
    if count(name, value) != expected:
        faults.append(f"{count(name, value)} spans with {name} = {value}, expected {expected}")
told = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
heard = [span for span in servers.values() if span.trace_id == told]
if len(heard) != 1 or heard[0].parent_span_id.hex() != "b7ad6b7169203331":
    faults.append("a trusted hop's trace is not gone on with")
print(f"{len(spans)} spans in {len({span.trace_id for span in spans})} traces")
for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
