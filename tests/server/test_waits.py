"""Waits that could be for ever: each request ends once, and the models serve on."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from .conftest import Serve, Serving, add_model, identity

# Takes as many seconds as it is told to, unless it is cancelled, and notes when it begins.
SLEEPS = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                array = request.inputs()[0].as_numpy()
                print("begun", array.ravel()[0], flush=True)
                end = time.monotonic() + array.ravel()[0]
                while time.monotonic() < end and not request.is_cancelled():
                    time.sleep(0.01)
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
            return responses
"""
# Asks TARGET what it is asked.
ASKS = """
    class TritonPythonModel:
        def execute(self, requests):
            return [self.ask(request.inputs()[0]) for request in requests]

        def ask(self, tensor):
            asked = pb_utils.InferenceRequest(
                model_name="TARGET", requested_output_names=["OUTPUT0"], inputs=[tensor]
            )
            answer = asked.exec()
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
            return pb_utils.InferenceResponse(answer.output_tensors())
"""
QUEUE = """
    max_batch_size: 1
    dynamic_batching { default_queue_policy { max_queue_size: 1 } }
"""
RESOURCE = """
    instance_group { rate_limiter { resources { name: "R" count: 1 } } kind: KIND_CPU }
"""


def add_ensemble(folder: Path, name: str, *steps: str, head: str = "", more: str = "") -> None:
    written = ["INPUT0", *(f"t{number}" for number in range(1, len(steps))), "OUTPUT0"]
    text = ", ".join(
        f'{{ model_name: "{step}" model_version: -1 input_map {{ key: "INPUT0" value: "{a}" }} '
        f'output_map {{ key: "OUTPUT0" value: "{b}" }} }}'
        for step, a, b in zip(steps, written, written[1:], strict=False)
    )
    shape = identity("FP32").replace('backend: "python"', head)
    config = f'{shape} platform: "ensemble" ensemble_scheduling {{ step [ {text} ] {more} }}'
    add_model(folder, name, config, "")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waits")
    add_model(folder, "sleeps", identity("FP32"), SLEEPS)
    add_model(folder, "short_queue", identity("FP32") + QUEUE, SLEEPS)
    add_ensemble(folder, "full", "short_queue", head="max_batch_size: 1")
    add_ensemble(folder, "gated", "sleeps", more="max_inflight_requests: 1")
    for name, target in (("around", "circle"), ("late", "late_circle"), ("shut", "gated_circle")):
        add_model(folder, name, identity("FP32"), ASKS.replace("TARGET", target))
    add_ensemble(folder, "circle", "around")
    add_ensemble(folder, "inner", "late")
    add_ensemble(folder, "late_circle", "sleeps", "inner")
    add_ensemble(folder, "gated_circle", "shut", more="max_inflight_requests: 1")
    add_model(folder, "holds", identity("FP32") + RESOURCE, ASKS.replace("TARGET", "wants"))
    add_model(folder, "wants", identity("FP32") + RESOURCE, SLEEPS)
    return folder


@pytest.fixture(scope="module")
def serving(repository: Path) -> Iterator[Serving]:
    with Serving(f"--model-repository={repository}", "--rate-limit=execution_count") as running:
        yield running


@pytest.fixture
def client(serving: Serving) -> Iterator[Any]:
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as made:
        yield made


def seconds(count: float, *shape: int) -> list[Any]:
    values = np.full(shape or (1,), count, np.float32)
    tensor = tritonclient.grpc.InferInput("INPUT0", list(values.shape), "FP32")
    return [tensor.set_data_from_numpy(values)]


def failures(client: Any, model: str) -> int:
    (stats,) = client.get_inference_statistics(model).model_stats
    return int(stats.inference_stats.fail.count)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_step_whose_queue_is_full(client: Any) -> None:
    answers: Queue[Any] = Queue()
    for _ in range(6):
        client.async_infer("full", seconds(0.5, 1, 1), lambda result, error: answers.put(error))
    errors = [answers.get(timeout=20) for _ in range(6)]
    told = [str(error) for error in errors if error is not None]
    assert 1 <= len(told) <= 4
    assert all("in ensemble 'full'" in one and "Exceeds maximum queue size" in one for one in told)
    time.sleep(0.2)
    assert answers.empty()
    assert failures(client, "full") == len(told)


@pytest.mark.parametrize("model", ["around", "circle", "late", "late_circle", "shut"])
def test_a_model_that_asks_an_ensemble_of_itself(client: Any, model: str) -> None:
    for _ in range(2):
        with pytest.raises(InferenceServerException, match="would wait for ever"):
            client.infer(model, seconds(0.2), client_timeout=20)


def test_a_client_that_leaves_while_it_waits_at_a_gate(client: Any, serving: Serving) -> None:
    before = failures(client, "gated")
    answers: Queue[Any] = Queue()
    client.async_infer("gated", seconds(1.5), lambda result, error: answers.put(error))
    serving.wait_for("begun 1.5")
    host, port = serving.http.split(":")
    body = b'{"inputs": [{"name": "INPUT0", "shape": [1], "datatype": "FP32", "data": [7.25]}]}'
    lines = ("POST /v2/models/gated/infer HTTP/1.1", "Host: localhost")
    head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", ""))
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(0.3)
    until(lambda: failures(client, "gated") == before + 1)
    assert answers.empty()  # the other is still at work
    assert answers.get(timeout=10) is None
    assert client.infer("gated", seconds(0)).as_numpy("OUTPUT0").tolist() == [0]
    assert "begun 7.25" not in serving.log


def test_who_waits_for_what_it_holds_can_be_cancelled(client: Any, serving: Serving) -> None:
    answers: Queue[Any] = Queue()
    call = client.async_infer("holds", seconds(0), lambda result, error: answers.put(error))
    time.sleep(0.5)
    assert answers.empty()
    call.cancel()
    assert "cancelled" in str(answers.get(timeout=10)).lower()
    until(lambda: failures(client, "wants") == 1)
    assert client.infer("wants", seconds(0), client_timeout=10).as_numpy("OUTPUT0").tolist() == [0]


def test_a_model_that_is_unloaded_while_its_ensemble_is_at_work(
    repository: Path, serve: Serve
) -> None:
    running = serve(
        f"--model-repository={repository}", "--model-control-mode=explicit", "--load-model=gated"
    )
    answers: Queue[Any] = Queue()
    with tritonclient.grpc.InferenceServerClient(running.grpc) as client:
        for _ in range(3):  # one at work, two at the gate
            client.async_infer("gated", seconds(0.5), lambda result, error: answers.put(error))
        running.wait_for("begun 0.5")
        client.unload_model("sleeps")
        client.unload_model("gated")
        assert [answers.get(timeout=20) for _ in range(3)] == [None] * 3
        with pytest.raises(InferenceServerException, match="no available versions"):
            client.infer("gated", seconds(0))
        running.wait_for("successfully unloaded 'sleeps' version 1")
