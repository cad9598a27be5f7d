#!/usr/bin/env python
"""Stands in for OpenTelemetry's collector, which Triton's tests start as `./otelcol`.

Takes OTLP over HTTP on port 10000 and appends each batch to collected_traces.json as the
collector's file exporter does, so that the tests need no download.
"""

import base64
import gzip
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

OUT = Path("collected_traces.json")
IDS = ("traceId", "spanId", "parentSpanId")


def as_exported(body: bytes) -> dict[str, Any]:
    """The batch as OTLP's JSON: ids in hexadecimal, also where there is none."""
    batch: dict[str, Any] = MessageToDict(ExportTraceServiceRequest.FromString(body))
    for resource in batch.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for name in IDS:
                    span[name] = base64.b64decode(span.get(name, "")).hex()
    return batch


class Collector(BaseHTTPRequestHandler):
    """Writes down what is posted, whatever the path."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with OUT.open("a") as file:
            file.write(json.dumps(as_exported(body), separators=(",", ":")) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    OUT.write_text("")  # each test starts its own, and wants what it sees alone
    HTTPServer(("localhost", 10000), Collector).serve_forever()
