"""The log: its lines, where they go, and the extension that changes it."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from ..server.conftest import Serving
from .conftest import act, speak

Start = Callable[..., Serving]
DEFAULT = re.compile(r"([IWE])\d{4} \d{2}:\d{2}:\d{2}\.\d{6} \d+ [\w.]+:\d+\] ?(.*)")
ISO8601 = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z ([IWE]) \d+ [\w.]+:\d+\] ?(.*)")
START = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def plain(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict):
        return answer
    return {
        key: getattr(one, one.WhichOneof("parameter_choice"))
        for key, one in answer.settings.items()
    }


def lines_of(text: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """Letters and texts of the lines that begin one; those of tables between them are skipped."""
    found = []
    for line in text.splitlines():
        match = pattern.fullmatch(line)
        assert match or re.match(r"[+|]|$", line), line
        if match:
            found.append((match[1], match[2]))
    return found


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_settings_are_read_and_changed(observed: Serving, protocol: str) -> None:
    door = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
    with door.InferenceServerClient(getattr(observed, protocol)) as client:
        assert plain(client.get_log_settings()) == START
        changes = {"log_info": False, "log_verbose_level": 1, "log_format": "ISO8601"}
        assert plain(client.update_log_settings(changes)) == START | changes
        assert plain(client.get_log_settings()) == START | changes
        with pytest.raises(InferenceServerException) as caught:
            client.update_log_settings({"log_file": "other.log"})
        text = "log file location can not be updated through network protocol"
        assert text in caught.value.message()
        back = {key: value for key, value in START.items() if key != "log_file"}
        assert plain(client.update_log_settings(back)) == START


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("log_info", {"string_param": "yes"}, "expect boolean for 'log_info'"),
        ("log_verbose_level", {"bool_param": True}, "expect int32 for 'log_verbose_level'"),
        ("log_format", {"uint32_param": 1}, "expect string for 'log_format'"),
        (
            "log_format",
            {"string_param": "pretty"},
            "invalid argument for log_format, got: pretty",
        ),
    ],
)
def test_what_grpc_refuses(observed: Serving, name: str, value: dict[str, Any], text: str) -> None:
    request = service_pb2.LogSettingsRequest(settings={name: value})
    with grpc.insecure_channel(observed.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.LogSettings(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == text
        assert plain(stub.LogSettings(service_pb2.LogSettingsRequest())) == START


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ('{"log_file":"other.log"}', 501, "log file location can not be updated"),
        ('{"log_file":null}', 200, '"log_file":""'),
        ('{"log_info":1}', 500, "attempt to access JSON non-boolean as boolean"),
        ('{"log_info":False}', 500, "failed to parse the dynamic logging JSON buffer"),
        ('{"log_warning":"false"}', 500, "attempt to access JSON non-boolean as boolean"),
        ('{"log_verbose_level":-1}', 500, "non-unsigned-integer as unsigned-integer"),
        ('{"log_verbose_level":"1"}', 500, "non-unsigned-integer as unsigned-integer"),
        ('{"log_format":"pretty"}', 503, "invalid argument for --log_format, got: pretty"),
        ('{"log_error":true}', 200, '"log_error":true'),
        ("", 200, '"log_format":"default"'),
    ],
)
def test_bodies_of_the_http_route(observed: Serving, body: str, status: int, text: str) -> None:
    connection = HTTPConnection(observed.http)
    connection.request("POST", "/v2/logging", body)
    answer = connection.getresponse()
    assert (answer.status, text in answer.read().decode()) == (status, True)
    connection.request("DELETE", "/v2/logging")
    assert connection.getresponse().status == 405
    connection.close()


@pytest.mark.parametrize(("flag", "pattern"), [("default", DEFAULT), ("ISO8601", ISO8601)])
def test_messages_are_quoted_unless_asked_otherwise(
    start: Start, monkeypatch: pytest.MonkeyPatch, flag: str, pattern: re.Pattern[str]
) -> None:
    quoted = start(f"--log-format={flag}")
    texts = [text for _, text in lines_of(quoted.log, pattern)]
    assert "" in texts  # above a table
    assert any("Started HTTPService" in json.loads(text) for text in texts if text)
    monkeypatch.setenv("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "0")
    bare = start(f"--log-format={flag}")
    assert any(text.startswith("Started HTTPService") for _, text in lines_of(bare.log, pattern))


def test_a_client_cannot_write_a_line_of_its_own(start: Start) -> None:
    serving = start("--log-verbose=1")
    forged = "I0205 18:34:18.707423 1 file.cc:123] \x1b[31mforged\x07"
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        entry = tritonclient.http.InferInput(f"\n{forged}\n{forged}", [1], "FP32")
        entry.set_data_from_numpy(np.zeros(1, np.float32))
        with pytest.raises(InferenceServerException, match="expected 2 inputs"):
            client.infer("add", [entry])
    serving.wait_for("expected 2 inputs")
    assert forged not in serving.lines
    assert "\x1b" not in serving.log


def test_requests_are_told_of_while_it_is_verbose(start: Start) -> None:
    serving = start("--log-verbose=1")
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.0, request_id="seven")
        client.update_log_settings({"log_verbose_level": 0})
        act(client, 0.0, request_id="eight")
        with pytest.raises(InferenceServerException):
            act(client, -1.0, request_id="nine")
    serving.wait_for("HTTP request: POST /v2/logging")
    assert serving.stop() == 0
    assert serving.log.count("HTTP request: POST /v2/models/acts/infer") == 1
    assert re.search(
        r"\[request id: seven\] model 'acts' version 1: .* ms .*: success", serving.log
    )
    assert "eight" not in serving.log


def test_a_models_messages_have_their_levels(start: Start) -> None:
    serving = start("--log-verbose=1")
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        speak(client, 'two\nlines and a "quote"')
    assert serving.stop() == 0
    said = [line for line in lines_of(serving.log, DEFAULT) if "[speaks_0] two" in line[1]]
    assert [letter for letter, _ in said] == ["I", "W", "E", "I"]
    assert {json.loads(text) for _, text in said} == {'[speaks_0] two\nlines and a "quote"'}


def test_json_lines(start: Start) -> None:
    serving = start("--log-format=json", "--log-verbose=1")
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.02, request_id="seven")
    serving.wait_for("request id: seven")
    lines = [json.loads(line) for line in serving.lines]
    assert {line["level"] for line in lines} == {"DEBUG", "INFO"}
    assert any("| acts   | 1       | READY  |" in line["message"] for line in lines)
    (told,) = (line for line in lines if "request_id" in line)
    assert (told["request_id"], told["model"], told["version"]) == ("seven", "acts", 1)
    assert 20 <= told["infer_ms"] <= told["duration_ms"]


def test_levels(free_ports: tuple[int, int, int], repository: Path) -> None:
    http = free_ports[0]
    names = zip(("http", "grpc", "metrics"), free_ports, strict=True)
    flags = [f"--{name}-port={port}" for name, port in names]
    flags += ["--log-info=false", "--log-verbose=1"]
    silent = Serving(f"--model-repository={repository}", *flags, wait=False)
    with silent, tritonclient.http.InferenceServerClient(f"127.0.0.1:{http}") as client:
        for _ in range(300):
            with contextlib.suppress(OSError):
                if client.is_server_ready():
                    break
            time.sleep(0.1)
        assert plain(client.get_log_settings())["log_info"] is False
        client.update_log_settings({"log_info": True})
        assert silent.stop() == 0
        assert "Started" not in silent.log
        assert "HTTP request: GET /v2/logging" in silent.log
        assert "Waiting for in-flight requests to complete." in silent.log


def test_information_goes_to_stdout_and_trouble_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.pbtxt").write_text("max_batch: 1")
    command = [sys.executable, "-m", "nerite", "serve", f"--model-repository={tmp_path}"]
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    done = subprocess.run([*command, *ports], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert {letter for letter, _ in lines_of(done.stdout, DEFAULT)} == {"I"}
    assert re.search(r"^E\d{4} ", done.stderr, re.MULTILINE)
    assert not re.search(r"^I\d{4} ", done.stderr, re.MULTILINE)


def test_a_file_in_place_of_the_console(tmp_path: Path, repository: Path) -> None:
    file = tmp_path / "log.txt"
    command = [sys.executable, "-m", "nerite", "serve", f"--model-repository={repository}"]
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    process = subprocess.Popen(
        [*command, *ports, f"--log-file={file}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    started = threading.Event()
    for _ in range(600):
        if file.exists() and "Started HTTPService" in file.read_text():
            started.set()
            break
        started.wait(0.1)
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert started.is_set() and process.returncode == 0
    assert printed == b""
    texts = [text for _, text in lines_of(file.read_text(), DEFAULT)]
    assert '"Waiting for in-flight requests to complete."' in texts


def test_a_file_that_cannot_be_written(start: Start, tmp_path: Path) -> None:
    refused = start(f"--log-file={tmp_path}")
    assert refused.wait() == 1
    assert f"error: cannot write the log to '{tmp_path}': Is a directory" in refused.log
