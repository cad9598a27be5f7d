"""ModelStreamInfer: order, decoupled answers, errors in the stream, final markers."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from .conftest import Serving, add_model

SLEEPS = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                value = request.inputs()[0].as_numpy()
                time.sleep(float(value[0]) / 1000)
                if value[0] == 13:
                    raise ValueError("unlucky")
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]))
            return answers
"""
REPEATS = """
    import threading, time

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                count = int(request.inputs()[0].as_numpy()[0])
                threading.Thread(target=self.answer, args=(request, count)).start()

        def answer(self, request, count):
            sender = request.get_response_sender()
            for number in range(count):
                if sender.is_cancelled():
                    print("cancelled after", number, flush=True)
                    break
                tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
                sender.send(pb_utils.InferenceResponse([tensor]))
                time.sleep(0.02)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"
TWO = "instance_group [ { kind: KIND_CPU count: 2 } ]"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("stream")
    add_model(folder, "sleeps", CONFIG + TWO, SLEEPS)
    add_model(folder, "repeats", CONFIG + DECOUPLED, REPEATS)
    with Serving(f"--model-repository={folder}") as running:
        yield running


class Stream:
    """tritonclient's stream, its answers in a queue."""

    def __init__(self, address: str) -> None:
        self._client = grpcclient.InferenceServerClient(address)
        self._answers: queue.Queue[Any] = queue.Queue()
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))

    def ask(self, model: str, value: int, id: str = "", **more: Any) -> None:
        entry = grpcclient.InferInput("IN", [1], "INT32")
        entry.set_data_from_numpy(np.array([value], np.int32))
        self._client.async_stream_infer(model, [entry], request_id=id, **more)

    def next(self) -> tuple[Any, Any]:
        return self._answers.get(timeout=30)

    def value(self) -> int:
        result, error = self.next()
        assert error is None, error
        return int(result.as_numpy("OUT")[0])

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_stream(cancel_requests=True)
        self._client.close()


def test_answers_keep_the_order_of_requests(serving: Serving) -> None:
    with Stream(serving.grpc) as stream:
        for value in (200, 1, 2, 3):
            stream.ask("sleeps", value)
        assert [stream.value() for _ in range(4)] == [200, 1, 2, 3]


def test_decoupled_answers_and_their_markers(serving: Serving) -> None:
    with Stream(serving.grpc) as stream:
        stream.ask("repeats", 3, "a", enable_empty_final_response=True)
        answers = [stream.next()[0].get_response() for _ in range(4)]
        assert [len(answer.outputs) for answer in answers] == [1, 1, 1, 0]
        finals = [answer.parameters["triton_final_response"].bool_param for answer in answers]
        assert finals == [False, False, False, True]
        assert {answer.id for answer in answers} == {"a"}
        stream.ask("repeats", 0)  # no answer at all, and none is told of
        stream.ask("repeats", 1)
        assert stream.value() == 0


def test_decoupled_answers_interleave(serving: Serving) -> None:
    with Stream(serving.grpc) as stream:
        stream.ask("repeats", 10, "long")
        stream.ask("repeats", 1, "short")
        ids = [stream.next()[0].get_response().id for _ in range(11)]
        assert ids.index("short") < 10
        assert ids.count("long") == 10


def test_an_error_is_told_and_the_stream_lives_on(serving: Serving) -> None:
    with Stream(serving.grpc) as stream:
        stream.ask("sleeps", 13, "bad")
        stream.ask("nothing", 1, "unknown")
        stream.ask("sleeps", 1, "good")
        answers = [stream.next() for _ in range(3)]
        errors = [error.message() for _, error in answers if error is not None]
        assert len(errors) == 2
        assert any("ValueError: unlucky" in text for text in errors)
        assert any("unknown model: 'nothing'" in text for text in errors)
        stream.ask("sleeps", 2)
        assert stream.value() == 2


def test_an_error_waits_for_its_turn(serving: Serving) -> None:
    entry = pb.ModelInferRequest.InferInputTensor(name="IN", datatype="INT32", shape=[1])
    entry.contents.int_contents.append(300)
    slow = pb.ModelInferRequest(model_name="sleeps", id="slow", inputs=[entry])
    unknown = pb.ModelInferRequest(model_name="nothing", id="unknown")
    unreadable = pb.ModelInferRequest(model_name="sleeps", id="unreadable", inputs=[entry, entry])
    decoupled = pb.ModelInferRequest(model_name="repeats", id="decoupled", inputs=[entry, entry])
    with grpc.insecure_channel(serving.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = iter([slow, unknown, unreadable, decoupled, slow])
        ids = [answer.infer_response.id for answer in stub.ModelStreamInfer(asked)]
    assert ids == ["decoupled", "slow", "unknown", "unreadable", "slow"]


def test_an_error_as_the_status_of_the_stream(serving: Serving) -> None:
    request = pb.ModelInferRequest(model_name="nothing", id="x")
    with grpc.insecure_channel(serving.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        (answer,) = stub.ModelStreamInfer(iter([request]))
        assert "'nothing' is not found" in answer.error_message
        assert answer.infer_response.id == "x"
        metadata = [("triton_grpc_error", "true")]
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ModelStreamInfer(iter([request]), metadata=metadata))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_client_that_leaves_cancels(serving: Serving) -> None:
    with Stream(serving.grpc) as stream:
        stream.ask("repeats", 10_000)
        assert stream.value() == 0
    serving.wait_for("cancelled after")


def test_unary_calls_of_a_decoupled_model_are_refused(serving: Serving) -> None:
    with grpcclient.InferenceServerClient(serving.grpc) as client:
        entry = grpcclient.InferInput("IN", [1], "INT32")
        entry.set_data_from_numpy(np.array([1], np.int32))
        with pytest.raises(Exception, match="doesn't support models with decoupled"):
            client.infer("repeats", [entry])
