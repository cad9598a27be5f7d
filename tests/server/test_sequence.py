"""Sequences through a real server: HTTP, gRPC, streams, Python and ONNX models."""

import os
import queue
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from .conftest import Serving, add_model

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

# Tells the sum that each row has come to, and what its controls say.
DIRECT = """
    import os

    class TritonPythonModel:
        def initialize(self, args):
            self.sums = [0] * 4

        def execute(self, requests):
            responses = []
            for row, request in enumerate(requests):
                inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
                if inputs["IN"].item() == 13:
                    os._exit(3)
                if inputs["READY"].item():
                    self.sums[row] *= 1 - inputs["START"].item()
                    self.sums[row] += inputs["IN"].item()
                told = [self.sums[row], inputs["START"].item(), inputs["END"].item()]
                out = pb_utils.Tensor("OUT", np.array([told], np.int32))
                name = pb_utils.Tensor("NAME", inputs["CORRID"])
                responses.append(pb_utils.InferenceResponse([out, name]))
            return responses
"""
DIRECT_CONFIG = """
    backend: "python" max_batch_size: 4
    input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "OUT" data_type: TYPE_INT32 dims: [ 3 ] }
    output { name: "NAME" data_type: TYPE_STRING dims: [ 1 ] }
    sequence_batching {
        max_sequence_idle_microseconds: 60000000
        control_input [
            { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } },
            { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } },
            { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } },
            { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } }
        ]
    }
"""
# Gives its first request back twice before it answers with the number of its execution.
AGAIN = """
    class TritonPythonModel:
        def initialize(self, args):
            self.executed = 0

        def execute(self, requests):
            responses = []
            for request in requests:
                self.executed += 1
                out = pb_utils.Tensor("OUT", np.array([self.executed], np.int32))
                response = pb_utils.InferenceResponse([out])
                if self.executed < 3:
                    request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                    response = None
                responses.append(response)
            return responses
"""
AGAIN_CONFIG = """
    backend: "python"
    input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
"""
ITERATIVE = "sequence_batching { iterative_sequence: true }"
# Keeps its sequences' sums in their states.
STATE = """
    class TritonPythonModel:
        asked = 0

        def is_ready(self):
            TritonPythonModel.asked += 1
            return True

        def execute(self, requests):
            responses = []
            for request in requests:
                inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
                total = inputs["IN"] + inputs["BEFORE"]
                outputs = {"OUT": total, "AFTER": total, "ASKED": np.full_like(total, self.asked)}
                tensors = [pb_utils.Tensor(*output) for output in outputs.items()]
                responses.append(pb_utils.InferenceResponse(tensors))
            return responses
"""
STATE_CONFIG = """
    backend: "python"
    input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
             { name: "ASKED" data_type: TYPE_INT32 dims: [ 1 ] } ]
    sequence_batching {
        state { input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_INT32 dims: [ 1 ] }
    }
    parameters { key: "PLACEMENT" value: { string_value: "%s" } }
"""
ONNX_CONFIG = """
    backend: "onnxruntime" max_batch_size: 4
    input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
    instance_group { kind: KIND_CPU count: 2 }
    sequence_batching {
        STRATEGY
        state {
            input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_INT32 dims: [ 1 ]
            initial_state { name: "s" data_type: TYPE_INT32 dims: [ 1 ] data_file: "hundred" }
        }
    }
"""


def add_onnx(repository: Path, name: str, strategy: str) -> None:
    """OUT = AFTER = BEFORE + IN."""

    def info(tensor: str) -> Any:
        return helper.make_tensor_value_info(tensor, TensorProto.INT32, ["n", 1])

    nodes = [
        helper.make_node("Add", ["BEFORE", "IN"], ["OUT"]),
        helper.make_node("Identity", ["OUT"], ["AFTER"]),
    ]
    ins, outs = [info("IN"), info("BEFORE")], [info("OUT"), info("AFTER")]
    graph = helper.make_graph(nodes, "sum", ins, outs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    onnx.save(model, folder / "1" / "model.onnx")
    (folder / "initial_state").mkdir()
    (folder / "initial_state" / "hundred").write_bytes(np.array([100], np.int32).tobytes())
    (folder / "config.pbtxt").write_text(ONNX_CONFIG.replace("STRATEGY", strategy))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "direct", DIRECT_CONFIG, DIRECT)
    add_model(repository, "again", AGAIN_CONFIG + ITERATIVE, AGAIN)
    add_model(repository, "once", AGAIN_CONFIG, AGAIN)
    for place in ("thread", "process"):
        add_model(repository, f"state_{place}", STATE_CONFIG % place, STATE)
    add_onnx(repository, "onnx_direct", "")
    add_onnx(repository, "onnx_oldest", "oldest { max_candidate_sequences: 9 }")
    with Serving(f"--model-repository={repository}") as server:
        yield server


def inputs(module: Any, value: int, *shape: int) -> list[Any]:
    tensor = module.InferInput("IN", list(shape), "INT32")
    tensor.set_data_from_numpy(np.full(shape, value, np.int32))
    return [tensor]


@pytest.fixture
def http(serving: Serving) -> Iterator[Any]:
    with httpclient.InferenceServerClient(serving.http, concurrency=8) as client:
        yield client


@pytest.fixture
def grpc(serving: Serving) -> Iterator[Any]:
    with grpcclient.InferenceServerClient(serving.grpc) as client:
        yield client


def ask(client: Any, model: str, value: int, id: int | str, flags: str = "") -> list[Any]:
    module = httpclient if isinstance(client, httpclient.InferenceServerClient) else grpcclient
    answer = client.infer(
        model,
        inputs(module, value, 1, 1),
        sequence_id=id,
        sequence_start="start" in flags,
        sequence_end="end" in flags,
    )
    return answer.as_numpy("OUT").reshape(-1).tolist()


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_sequence(door: str, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue(door)
    assert ask(client, "direct", 1, door, "start") == [1, 1, 0]
    assert ask(client, "direct", 2, door) == [3, 0, 0]
    assert ask(client, "direct", 3, door, "end") == [6, 0, 1]
    assert ask(client, "direct", 4, door, "start,end") == [4, 1, 1]


def test_what_is_refused(http: Any, grpc: Any) -> None:
    for client in (http, grpc):
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            ask(client, "direct", 1, "nobody")
        with pytest.raises(InferenceServerException, match="non-zero or non-empty correlation ID"):
            ask(client, "onnx_direct", 1, 0, "start")
        with pytest.raises(InferenceServerException, match="'CORRID' data-type is 'UINT64', but"):
            ask(client, "direct", 1, 5, "start")
    with pytest.raises(InferenceServerException, match="must specify batch-size 1"):
        http.infer("onnx_direct", inputs(httpclient, 1, 2, 1), sequence_id=1, sequence_start=True)
    controls = inputs(httpclient, 1, 1, 1)
    start = httpclient.InferInput("START", [1, 1], "INT32")
    start.set_data_from_numpy(np.ones((1, 1), np.int32))
    with pytest.raises(InferenceServerException, match="expected 1 inputs but got 2"):
        http.infer("direct", [*controls, start], sequence_id="a", sequence_start=True)


@pytest.mark.parametrize("model", ["onnx_direct", "onnx_oldest", "direct"])
def test_many_sequences_at_a_time(grpc: Any, model: str) -> None:
    """More than there are slots, all on one stream, so that the backlog is used too."""
    first = 0 if model == "direct" else 100
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    grpc.start_stream(lambda result, error: answers.put(error or result))
    for value in range(1, 6):
        for number in range(1, 13):
            id = f"s{number}" if model == "direct" else number
            grpc.async_stream_infer(
                model,
                inputs(grpcclient, value * number, 1, 1),
                request_id=str(number),
                sequence_id=id,
                sequence_start=value == 1,
                sequence_end=value == 5,
            )
    sums: dict[str, list[int]] = {}
    for _ in range(60):
        answer = answers.get(timeout=60)
        assert not isinstance(answer, Exception), answer
        sums.setdefault(answer.get_response().id, []).append(int(answer.as_numpy("OUT")[0, 0]))
    grpc.stop_stream()
    expected = (1, 3, 6, 10, 15)
    assert sums == {
        str(number): [first + number * sum for sum in expected] for number in range(1, 13)
    }


def test_the_statistics(http: Any) -> None:
    before = http.get_inference_statistics("direct")["model_stats"][0]
    ask(http, "direct", 1, "counted", "start,end")
    after = http.get_inference_statistics("direct")["model_stats"][0]
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["inference_count"] == before["inference_count"] + 1
    assert {one["batch_size"] for one in after["batch_stats"]} <= {1, 2, 3, 4}


def test_a_rescheduled_request(http: Any) -> None:
    answer = http.infer("again", inputs(httpclient, 1, 1))
    assert answer.as_numpy("OUT").tolist() == [3]
    stats = http.get_inference_statistics("again")["model_stats"][0]
    assert (stats["execution_count"], stats["inference_count"]) == (3, 1)
    with pytest.raises(InferenceServerException, match="RELEASE_RESCHEDULE, while the model is"):
        http.infer("once", inputs(httpclient, 1, 1))


@pytest.mark.parametrize("place", ["thread", "process"])
def test_a_python_model_with_a_state(http: Any, place: str) -> None:
    assert http.is_model_ready(f"state_{place}")  # asks the model
    answers = [
        http.infer(
            f"state_{place}",
            inputs(httpclient, value, 1),
            sequence_id=5,
            sequence_start=value == 1,
            sequence_end=value == 3,
        )
        for value in (1, 2, 3)
    ]
    assert [answer.as_numpy("OUT").tolist() for answer in answers] == [[1], [3], [6]]
    assert answers[0].as_numpy("ASKED").item() > 0
    assert answers[0].as_numpy("AFTER") is None


def test_a_dead_worker_loses_its_sequences(http: Any, serving: Serving) -> None:
    ask(http, "direct", 1, "lost", "start")
    with pytest.raises(InferenceServerException, match="died"):
        ask(http, "direct", 13, "killer", "start")
    with pytest.raises(InferenceServerException, match="START flag|is lost"):
        ask(http, "direct", 2, "lost")
    assert ask(http, "direct", 5, "lost", "start,end") == [5, 1, 1]


def test_the_server_stops_with_open_sequences(tmp_path: Path) -> None:
    add_model(tmp_path, "direct", DIRECT_CONFIG, DIRECT)
    with Serving(f"--model-repository={tmp_path}") as server:
        with httpclient.InferenceServerClient(server.http) as client:
            ask(client, "direct", 1, "open", "start")
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.wait() == 0
