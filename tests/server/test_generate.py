"""The generate extension: JSON keys to tensors, server-sent events back."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Serving, add_model

CONFIG = """
    backend: "python"
    input [ { name: "text" data_type: TYPE_STRING dims: [ 1 ] },
            { name: "count" data_type: TYPE_INT32 dims: [ -1 ] optional: true } ]
    output [ { name: "said" data_type: TYPE_STRING dims: [ 1 ] },
             { name: "numbers" data_type: TYPE_INT32 dims: [ -1 ] } ]
"""
CODE = """
    import json

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                text = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()[0].decode()
                count = pb_utils.get_input_tensor_by_name(request, "count")
                numbers = count.as_numpy() if count else np.zeros(0, np.int32)
                parameters = json.loads(request.parameters())
                sender = request.get_response_sender()
                if text == "fail":
                    error = pb_utils.TritonError("no", pb_utils.TritonError.NOT_FOUND)
                    sender.send(pb_utils.InferenceResponse([], error), flags=1)
                    continue
                for turn in range(parameters.get("turns", 1)):
                    said = np.array([f"{text} {turn}".encode()], dtype=object)
                    tensors = [pb_utils.Tensor("said", said), pb_utils.Tensor("numbers", numbers)]
                    sender.send(pb_utils.InferenceResponse(tensors))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("generate")
    add_model(folder, "talks", CONFIG + "model_transaction_policy { decoupled: true }", CODE)
    with Serving(f"--model-repository={folder}") as running:
        yield running


def post(serving: Serving, verb: str, document: Any) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(serving.http, timeout=30)
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    connection.request("POST", f"/v2/models/talks/{verb}", body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("Content-Type") or "", text


def events(text: str) -> list[Any]:
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_generate(serving: Serving) -> None:
    status, kind, text = post(serving, "generate", {"text": "hello", "count": [1, 2], "id": "7"})
    assert (status, kind) == (200, "application/json")
    assert json.loads(text) == {
        "id": "7",
        "model_name": "talks",
        "model_version": "1",
        "numbers": [1, 2],
        "said": "hello 0",
    }
    assert list(json.loads(text)) == sorted(json.loads(text))
    _, _, text = post(serving, "generate", {"text": ["hello"], "count": 5})
    assert json.loads(text)["numbers"] == 5


def test_generate_needs_exactly_one_answer(serving: Serving) -> None:
    for turns in (0, 2):
        document = {"text": "hello", "parameters": {"turns": turns}}
        status, _, text = post(serving, "generate", document)
        assert status == 500
        assert "generate expects model to produce exactly 1 response" in text


def test_generate_stream(serving: Serving) -> None:
    status, kind, text = post(serving, "generate_stream", {"text": "hello", "turns": 3})
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    assert [event["said"] for event in events(text)] == ["hello 0", "hello 1", "hello 2"]
    status, _, text = post(serving, "generate_stream", {"text": "hello", "turns": 0})
    assert (status, text) == (200, "")


def test_errors(serving: Serving) -> None:
    status, _, text = post(serving, "generate", {"text": "fail"})
    assert (status, json.loads(text)) == (404, {"error": "no"})
    status, _, text = post(serving, "generate_stream", {"text": "fail"})
    assert (status, events(text)) == (404, [{"error": "no"}])


@pytest.mark.parametrize(
    ("document", "status", "expected"),
    [
        ({}, 400, "but got 0 inputs"),
        ({"text": ["a", "b"]}, 400, "The schema can not convert input 'text'"),
        ({"text": 7}, 500, "attempt to access JSON non-string as string"),
        ({"text": "a", "other": [1]}, 400, "parameter 'other' has invalid type"),
        ({"text": "a", "triton_x": 1}, 400, "reserved for Triton usage"),
        ({"text": "a", "parameters": 3}, 400, "Expected JSON object for keyword: 'parameters'"),
        (b"{", 500, "failed to parse the request JSON buffer"),
    ],
)
def test_bad_requests(serving: Serving, document: Any, status: int, expected: str) -> None:
    for verb in ("generate", "generate_stream"):
        found, _, text = post(serving, verb, document)
        assert (found, expected in text) == (status, True), text
