"""Traces: Triton's settings and files."""

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from ..server.conftest import Serving
from .conftest import act, count_to, speak

Start = Callable[..., Serving]
REQUEST = ["REQUEST_START", "QUEUE_START"]
COMPUTE = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
HTTP = ["HTTP_RECV_START", "HTTP_RECV_END", *REQUEST, *COMPUTE, "REQUEST_END"]
HTTP += ["INFER_RESPONSE_COMPLETE", "HTTP_SEND_START", "HTTP_SEND_END"]
GRPC = [name.replace("HTTP_RECV", "GRPC_WAITREAD").replace("HTTP", "GRPC") for name in HTTP]
CLEARED = dict.fromkeys(("trace_level", "trace_rate", "trace_count", "log_frequency"))


class Settings:
    """The trace extension through either client, in one form: lists of strings."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def get(self, model: str | None = None) -> dict[str, list[str]]:
        return self._plain(self._client.get_trace_settings(model))

    def update(self, model: str | None = None, **settings: Any) -> dict[str, list[str]]:
        return self._plain(self._client.update_trace_settings(model, settings))

    @staticmethod
    def _plain(answer: Any) -> dict[str, list[str]]:
        if isinstance(answer, dict):
            return {key: one if isinstance(one, list) else [one] for key, one in answer.items()}
        return {key: list(one.value) for key, one in answer.settings.items()}


@pytest.fixture(scope="module")
def tracing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("traces") / "all.json"
    flags = ("--trace-config", f"triton,file={file}", "--trace-config", "level=TIMESTAMPS")
    with Serving(f"--model-repository={repository}", *flags, "--trace-config=rate=1") as running:
        yield running, str(file)


@pytest.fixture(params=["http", "grpc"])
def settings(request: pytest.FixtureRequest, tracing: Any) -> Any:
    serving, _ = tracing
    door = {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]
    with door.InferenceServerClient(getattr(serving, request.param)) as client:
        yield Settings(client)
        client.update_trace_settings("add", CLEARED)
        client.update_trace_settings(None, CLEARED)


def test_a_models_settings_show_the_global_ones_through(settings: Settings, tracing: Any) -> None:
    start = {
        "trace_file": [tracing[1]],
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": ["1"],
        "trace_count": ["-1"],
        "log_frequency": ["0"],
        "trace_mode": ["triton"],
    }
    assert settings.get() == settings.get("add") == start
    settings.update("add", trace_rate="12", log_frequency="34")
    settings.update(trace_rate="56", trace_count="78", trace_level=["TIMESTAMPS", "TENSORS"])
    both = start | {"trace_level": ["TIMESTAMPS", "TENSORS"]}
    assert settings.get() == both | {"trace_rate": ["56"], "trace_count": ["78"]}
    of_model = {"trace_rate": ["12"], "trace_count": ["78"], "log_frequency": ["34"]}
    assert settings.get("add") == both | of_model
    # Cleared settings show what lies below: the global ones, and the flags below those.
    assert settings.update("add", trace_rate=None) == both | of_model | {"trace_rate": ["56"]}
    assert settings.update(trace_rate=None, trace_count=None) == both
    assert settings.get("add") == both | {"log_frequency": ["34"]}
    settings.update("add", log_frequency=None)
    settings.update(trace_level=["OFF"])
    assert settings.get("add") == start | {"trace_level": ["OFF"]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"trace_file": "other.json"},
            "trace file location can not be updated through network protocol",
        ),
        ({"trace_level": ["OFF", "TENSORS"]}, "Expect only one trace level 'OFF' is specified"),
        ({"trace_rate": "often"}, "Unable to parse 'trace_rate', got: often"),
        (
            {"trace_rate": "10000000000"},
            "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: "
            "10000000000",
        ),
        (
            {"trace_count": "10000000000"},
            "Unable to parse 'trace_count', value is out of range [ -1, 2147483647 ], got: "
            "10000000000",
        ),
        ({"trace_count": "-2"}, "Unable to parse 'trace_count'. Expecting value >= -1, got:"),
        ({"log_frequency": ""}, "Unable to parse 'log_frequency', got: "),
        (
            {"trace_rate": "0"},
            "Attempting to set invalid trace setting :sample rate must be non-zero",
        ),
    ],
)
def test_what_cannot_be_set(settings: Settings, change: dict[str, Any], text: str) -> None:
    before = settings.get()
    with pytest.raises(InferenceServerException) as caught:
        settings.update(None, **change)
    assert text in caught.value.message()
    assert settings.get() == before


def test_settings_of_a_model_that_is_not_there(settings: Settings) -> None:
    for ask in (settings.get, lambda model: settings.update(model, trace_rate="2")):
        with pytest.raises(InferenceServerException) as caught:
            ask("nix")
        assert "Request for unknown model : nix" in caught.value.message()


def test_one_value_at_most_through_grpc(tracing: Any) -> None:
    with (
        tritonclient.grpc.InferenceServerClient(tracing[0].grpc) as client,
        pytest.raises(InferenceServerException, match="expect only 1 value for 'trace_rate'"),
    ):
        client.update_trace_settings(None, {"trace_rate": ["1", "2"]})


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ('{"trace_rate":2}', 500, "attempt to access JSON non-string as string"),
        ('{"trace_level":"OFF"}', 500, "attempt to access non-array member 'trace_level'"),
        ('{"trace_rate"', 500, "failed to parse the trace JSON buffer"),
        ("[]", 500, "attempt to access JSON non-object as object"),
        ('{"trace_level":["MIN"]}', 200, '"trace_level":["TIMESTAMPS"]'),
        ("", 200, '"trace_mode":"triton"'),
    ],
)
def test_bodies_of_the_http_route(tracing: Any, body: str, status: int, text: str) -> None:
    with tritonclient.http.InferenceServerClient(tracing[0].http) as client:
        answer = client._post("v2/trace/setting", body, headers=None, query_params=None)
        assert (answer.status_code, text in answer.read().decode()) == (status, True)
        answer = client._post("v2/models/add/trace/setting", body, headers=None, query_params=None)
        assert answer.status_code == status
        client.update_trace_settings("add", CLEARED)
        client.update_trace_settings(None, CLEARED)


def read(path: Path) -> dict[int, dict[str, Any]]:
    """The traces of a file by their ids; fails for a file that is not whole."""
    traces: dict[int, dict[str, Any]] = {}
    for entry in json.loads(path.read_text()):
        trace = traces.setdefault(entry.pop("id"), {"stamps": [], "tensors": []})
        if "timestamps" in entry:
            trace["stamps"] += [(one["name"], one["ns"]) for one in entry["timestamps"]]
        elif "activity" in entry:
            trace["tensors"].append((entry["activity"], entry["tensor"]))
        else:
            trace |= entry
    return traces


def wait_for(path: Path, found: Callable[[], bool] = lambda: True) -> None:
    for _ in range(200):
        if path.exists() and path.stat().st_size and found():
            return
        time.sleep(0.02)
    pytest.fail(f"{path} is not what it should be")


def test_timestamps_of_every_door(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    serving = start(
        *("--trace-config", f"triton,file={file}", "--trace-config", "level=TIMESTAMPS"),
        *("--trace-config", "rate=1"),
    )
    begun = time.monotonic_ns()
    with tritonclient.http.InferenceServerClient(serving.http) as http:
        act(http, 0.05, request_id="seven")
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as grpc:
        act(grpc, 0.0)
        count_to(grpc, 2)
    # The file is whole while the server runs.
    wait_for(file, lambda: len(read(file)) == 3)
    assert serving.stop() == 0
    one, two, three = read(file).values()
    assert (one["model_name"], one["model_version"], one["request_id"]) == ("acts", 1, "seven")
    assert "request_id" not in two and "parent_id" not in two
    assert [name for name, _ in one["stamps"]] == HTTP
    assert [name for name, _ in two["stamps"]] == GRPC
    assert three["model_name"] == "counts"
    assert [name for name, _ in three["stamps"]] == GRPC
    for trace in (one, two, three):
        times = [ns for _, ns in trace["stamps"]]
        assert times == sorted(times)
        assert begun < times[0] < times[-1] < time.monotonic_ns()
    at = dict(one["stamps"])
    assert 0.05e9 <= at["COMPUTE_OUTPUT_START"] - at["COMPUTE_INPUT_END"] < 0.3e9


def test_a_body_that_comes_slowly(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    serving = start(
        *("--trace-config", f"triton,file={file}", "--trace-config", "level=TIMESTAMPS"),
        *("--trace-config", "rate=1"),
    )
    entry = {"name": "SECONDS", "shape": [1, 1], "datatype": "FP32", "data": [0]}
    body = json.dumps({"inputs": [entry]}).encode()
    connection = HTTPConnection(serving.http)
    connection.putrequest("POST", "/v2/models/acts/infer")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:10])
    time.sleep(0.2)
    connection.send(body[10:])
    assert connection.getresponse().status == 200
    connection.close()
    assert serving.stop() == 0
    (trace,) = read(file).values()
    at = dict(trace["stamps"])
    assert 0.15e9 < at["HTTP_RECV_END"] - at["HTTP_RECV_START"] < 0.4e9


def test_rate_count_and_numbered_files(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    serving = start("--trace-config", f"triton,file={file}", "--trace-config", "rate=2")
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        settings = Settings(client)
        assert settings.get()["trace_level"] == ["OFF"]
        act(client, 0.0)
        settings.update(trace_level=["TIMESTAMPS"], trace_count="2")
        for _ in range(5):
            act(client, 0.0)
        assert settings.get()["trace_count"] == ["0"]
        wait_for(tmp_path / "trace.json.0", lambda: len(read(tmp_path / "trace.json.0")) == 2)
        settings.update("acts", trace_rate="1", trace_count="-1", log_frequency="2")
        for _ in range(3):
            act(client, 0.0)
        wait_for(tmp_path / "trace.json.1", lambda: len(read(tmp_path / "trace.json.1")) == 2)
    assert serving.stop() == 0
    # What was still waiting for its file to fill is written at the end.
    assert len(read(tmp_path / "trace.json.2")) == 1
    assert not file.exists()


def test_settings_changed_while_serving(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    serving = start("--trace-config", f"triton,file={file}", "--trace-config", "rate=1")
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        settings = Settings(client)
        act(client, 0.0)
        settings.update("acts", trace_level=["TIMESTAMPS"])
        act(client, 0.0, request_id="traced")
        settings.update("acts", trace_level=None)
        act(client, 0.0)
    assert serving.stop() == 0
    assert [trace["request_id"] for trace in read(file).values()] == ["traced"]


def test_tensors(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    serving = start(
        *("--trace-config", f"triton,file={file}", "--trace-config", "level=TENSORS"),
        *("--trace-config", "rate=1"),
    )
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.25, 2)
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as grpc:
        count_to(grpc, 2)
    assert serving.stop() == 0
    one, two = read(file).values()
    assert one["stamps"] == []
    tensor = {"name": "SECONDS", "data": "0.25,0.25", "shape": "2,1", "dtype": "FP32"}
    assert one["tensors"] == [("TENSOR_QUEUE_INPUT", tensor), ("TENSOR_BACKEND_OUTPUT", tensor)]
    assert [told["data"] for _, told in two["tensors"]] == ["2", "0", "1"]


def test_a_failed_request_is_traced_to_its_end(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    serving = start(
        *("--trace-config", f"triton,file={file}", "--trace-config", "level=TIMESTAMPS"),
        *("--trace-config", "rate=1"),
    )
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        with pytest.raises(InferenceServerException, match="a bad day"):
            act(client, -1.0)
        with pytest.raises(InferenceServerException, match="Request for unknown model"):
            client.infer("nix", [])
        with pytest.raises(InferenceServerException, match="batch-size must be <= 8"):
            act(client, 0.0, 9)
        assert speak(client, "no context in this mode") == "None"
    assert serving.stop() == 0
    trace, refused, _ = read(file).values()
    assert [name for name, _ in trace["stamps"]] == HTTP
    # No model took it, so there is only its arrival to tell of.
    assert [name for name, _ in refused["stamps"]] == HTTP[:2]


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("level=SOME", "must be OFF, TIMESTAMPS or TENSORS"),
        ("rate=often", "'rate' is 'often'"),
        ("shape=round", "there is no trace setting 'shape'"),
    ],
)
def test_flags_that_make_no_sense(start: Start, flag: str, text: str) -> None:
    refused = start("--trace-config", flag)
    assert refused.wait() == 1
    assert text in refused.log


def test_a_file_that_cannot_be_written_is_told_and_no_more(start: Start, tmp_path: Path) -> None:
    serving = start(
        *("--trace-config", f"triton,file={tmp_path}", "--trace-config", "level=TIMESTAMPS"),
        *("--trace-config", "rate=1"),
    )
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.0)
        serving.wait_for("failed creating trace file")
        act(client, 0.0)
