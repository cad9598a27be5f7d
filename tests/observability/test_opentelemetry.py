"""Traces in OpenTelemetry mode, as a collector receives them."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http

from nerite.tracing import spans
from nerite.tracing.settings import from_config

from ..server.conftest import Serving
from .conftest import act, count_to, speak

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

Start = Callable[..., Serving]
TRACE = "0af7651916cd43dd8448eb211c12666c"
PARENT = "b7ad6b7169242424"
HEADERS = MappingProxyType({"traceparent": f"00-{TRACE}-{PARENT}-01"})
MODEL_EVENTS = ["REQUEST_START", "QUEUE_START", "REQUEST_END"]
COMPUTE_EVENTS = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]


class Collector:
    """Takes OTLP over HTTP; `spans` in the order in which they came."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resource: dict[str, str] = {}
        self.batches: list[int] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"127.0.0.1:{self.server.server_port}/v1/traces"

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        message = trace_service.ExportTraceServiceRequest.FromString(body)
        for group in message.resource_spans:
            for one in group.resource.attributes:
                self.resource[one.key] = one.value.string_value
            for scope in group.scope_spans:
                self.batches.append(len(scope.spans))
                self.spans += scope.spans


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def flags(collector: Collector, *more: str) -> list[str]:
    wanted = ("mode=opentelemetry", "level=TIMESTAMPS", f"opentelemetry,url={collector.url}", *more)
    return [f"--trace-config={one}" for one in wanted]


def tree(collector: Collector) -> dict[str, Any]:
    return {span.name: span for span in collector.spans}


def names(span: Any) -> list[str]:
    return [event.name for event in span.events]


def test_spans_of_a_request_within_its_clients_trace(start: Start, collector: Collector) -> None:
    resources = ("opentelemetry,resource=test.key=test.value",)
    resources += ("opentelemetry,resource=service.name=snail",)
    serving = start(*flags(collector, "rate=1", *resources))
    begun = time.time_ns()
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.05, headers=dict(HEADERS), request_id="seven")
        shown = client.get_trace_settings()
    assert serving.stop() == 0
    found = tree(collector)
    assert set(found) == {"InferRequest", "acts", "compute"}
    root, model, compute = found["InferRequest"], found["acts"], found["compute"]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert root.parent_span_id.hex() == PARENT
    assert model.parent_span_id == root.span_id
    assert compute.parent_span_id == model.span_id
    received = ["HTTP_RECV_START", "HTTP_RECV_END", "INFER_RESPONSE_COMPLETE"]
    assert names(root) == [*received, "HTTP_SEND_START", "HTTP_SEND_END"]
    assert (names(model), names(compute)) == (MODEL_EVENTS, COMPUTE_EVENTS)
    told = {one.key: one.value for one in model.attributes}
    assert told["triton.model_name"].string_value == "acts"
    assert told["triton.model_version"].int_value == 1
    assert told["triton.request_id"].string_value == "seven"
    assert begun < root.start_time_unix_nano <= model.start_time_unix_nano
    assert compute.end_time_unix_nano - compute.start_time_unix_nano >= 50_000_000
    assert root.end_time_unix_nano < time.time_ns()
    assert collector.resource["test.key"] == "test.value"
    assert collector.resource["service.name"] == "snail"
    expected = {"trace_mode": "opentelemetry", "url": collector.url, "bsp_max_queue_size": "2048"}
    assert shown.items() >= expected.items()
    assert not shown.keys() & {"trace_file", "log_frequency"}


def test_spans_of_both_kinds_of_rpc(start: Start, collector: Collector) -> None:
    serving = start(*flags(collector, "rate=1"))
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        act(client, 0.0, headers=dict(HEADERS))
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        assert count_to(client, 2) == [0, 1]
    assert serving.stop() == 0
    by_trace: dict[str, dict[str, Any]] = {}
    for span in collector.spans:
        by_trace.setdefault(span.trace_id.hex(), {})[span.name] = span
    unary = by_trace.pop(TRACE)
    (stream,) = by_trace.values()
    assert unary["InferRequest"].parent_span_id.hex() == PARENT
    assert set(unary) == {"InferRequest", "acts", "compute"}
    assert set(stream) == {"InferRequest", "counts", "compute"}
    assert stream["InferRequest"].parent_span_id == b""
    received = ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "INFER_RESPONSE_COMPLETE"]
    for found in (unary, stream):
        assert names(found["InferRequest"]) == [*received, "GRPC_SEND_START", "GRPC_SEND_END"]
    assert collector.resource["service.name"] == "triton-inference-server"


def test_a_python_model_can_continue_the_trace(start: Start, collector: Collector) -> None:
    serving = start(*flags(collector, "rate=2"))
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        assert speak(client, "not traced") == "None"
        context = json.loads(speak(client, "traced", headers=dict(HEADERS)))
    assert serving.stop() == 0
    root = tree(collector)["InferRequest"]
    assert context == {"traceparent": f"00-{TRACE}-{root.span_id.hex()}-01"}


def test_only_traces_of_clients_at_rate_zero(start: Start, collector: Collector) -> None:
    serving = start(*flags(collector, "rate=0", "opentelemetry,bsp_max_export_batch_size=1"))
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        for _ in range(3):
            act(client, 0.0)
        act(client, 0.0, headers=dict(HEADERS))
        act(client, 0.0, headers={"traceparent": "nonsense"})
    assert serving.stop() == 0
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert collector.batches == [1, 1, 1]


def test_traces_of_clients_go_on_when_the_count_is_used_up(
    start: Start, collector: Collector
) -> None:
    serving = start(*flags(collector, "rate=2", "count=1"))
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        for _ in range(6):
            act(client, 0.0)
        for _ in range(2):
            act(client, 0.0, headers=dict(HEADERS))
        assert client.get_trace_settings()["trace_count"] == "0"
    assert serving.stop() == 0
    roots = [span for span in collector.spans if span.name == "InferRequest"]
    assert sorted(span.parent_span_id.hex() for span in roots) == ["", PARENT, PARENT]


def test_spans_reach_the_collector_while_the_server_runs(
    start: Start, collector: Collector
) -> None:
    serving = start(*flags(collector, "rate=1", "opentelemetry,bsp_schedule_delay=50"))
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.0)
    for _ in range(100):
        if len(collector.spans) == 3:
            return
        time.sleep(0.05)
    pytest.fail(f"{len(collector.spans)} spans came")


def test_a_collector_that_is_gone_does_not_hold_the_server(start: Start) -> None:
    dead = Collector()
    dead.server.server_close()
    serving = start(*flags(dead, "rate=1"))
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.0)
    begun = time.monotonic()
    assert serving.stop() == 0
    assert time.monotonic() - begun < 10


def test_a_missing_library_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'nerite\[telemetry\]'"):
        spans.Spans(from_config([("", "mode", "opentelemetry")]))


@pytest.mark.parametrize("value", ["soon", "-1", str(1 << 32)])
def test_an_option_that_is_no_number(value: str) -> None:
    settings = from_config(
        [("", "mode", "opentelemetry"), ("OpenTelemetry", "bsp_schedule_delay", value)]
    )
    expected = f"'bsp_schedule_delay' is '{value}': it must be a number from 0 to 4294967295"
    with pytest.raises(ValueError, match=expected):
        spans.Spans(settings)


@pytest.mark.parametrize("setting", [("bar", "file", "x"), ("", "mode", "Bar")])
def test_a_mode_that_there_is_not(setting: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="invalid value for trace mode option: bar. Available"):
        from_config([setting])
