"""Models that ask models (BLS), through a real server and its workers."""

import time
from collections.abc import Iterator
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from .conftest import ADD_SUB, ADD_SUB_CODE, Serving, add_model

TEXT_IN = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_STRING dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_STRING dims: [ -1 ] } ]
"""
DECOUPLED = "\nmodel_transaction_policy { decoupled: true }\n"

# Does what its input says and answers with what came of it, as texts.
ASKS = """
    import asyncio
    import json
    import threading
    import time


    def add(a=1, b=2, **more):
        inputs = [pb_utils.Tensor("INPUT0", np.full(4, a, np.float32)),
                  pb_utils.Tensor("INPUT1", np.full(4, b, np.float32))]
        return pb_utils.InferenceRequest(
            model_name="add_sub", inputs=inputs, requested_output_names=["OUTPUT0"], **more
        )


    def told(response):
        if response.has_error():
            return f"{response.error().code().name}: {response.error().message()}"
        values = [value for one in response.output_tensors() for value in one.as_numpy().tolist()]
        return " ".join(one.decode() if isinstance(one, bytes) else str(one) for one in values)


    def count(to, model="counts", delay=0.0):
        inputs = [pb_utils.Tensor("IN", np.array([f"{to} {delay}"], np.object_))]
        return pb_utils.InferenceRequest(
            model_name=model, inputs=inputs, requested_output_names=["OUT"]
        )


    class Doing:
        def one(self):
            return [told(add().exec())]

        def outputs(self):
            response = add().exec()
            return [one.name() for one in response.output_tensors()]

        def unknown(self):
            request = pb_utils.InferenceRequest(
                model_name="nobody", inputs=[], requested_output_names=[]
            )
            return [told(request.exec()), *map(told, request.exec(decoupled=True))]

        def wrong(self):
            request = pb_utils.InferenceRequest(
                model_name="add_sub", inputs=[], requested_output_names=[]
            )
            return [told(request.exec())]

        def not_decoupled(self):
            return [told(count(2).exec())]

        def decoupled(self):
            responses = count(3).exec(decoupled=True)
            first = [told(next(responses))]
            rest = [told(one) for one in responses]
            again = [told(one) for one in responses]
            return [*first, *rest, "again", *again]

        def errors_between(self):
            return [told(one) for one in count(-2).exec(decoupled=True)]

        def threads(self):
            answers = [None] * 8
            def run(index):
                answers[index] = told(add(index, index).exec())
            running = [threading.Thread(target=run, args=(index,)) for index in range(8)]
            for one in running:
                one.start()
            for one in running:
                one.join()
            return answers

        def itself(self):
            inputs = [pb_utils.Tensor("IN", np.array(["one"], np.object_))]
            request = pb_utils.InferenceRequest(
                model_name="asks", inputs=inputs, requested_output_names=["OUT"]
            )
            return [told(request.exec())]

        def cancel(self):
            responses = count(100, delay=0.1).exec(decoupled=True)
            next(responses)
            responses.cancel()
            return [str(len(list(responses)) < 50)]

        def gives_up(self):
            async def first_of():
                responses = count(3, delay=0.3)
                try:
                    await asyncio.wait_for(responses.async_exec(decoupled=True), 0.05)
                except asyncio.TimeoutError:
                    return "late"
            said = asyncio.run(first_of())  # whose loop is closed when the answer comes
            time.sleep(0.5)
            return [said, told(add().exec())]

        def parameters(self):
            request = count(0)
            request = pb_utils.InferenceRequest(
                model_name="tells", inputs=request.inputs(), requested_output_names=["OUT"],
                request_id="me", correlation_id=7, timeout=123_000_000,
                flags=pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
                parameters={"a": 1, "b": "two", "c": True},
                preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
            )
            response = request.exec()
            return [told(response), response.parameters()]

        def ready(self):
            return [str(pb_utils.is_model_ready(name)) for name in ("add_sub", "nobody")]

        def big(self):
            array = np.arange(5_000_000, dtype=np.float32)
            request = pb_utils.InferenceRequest(
                model_name="echo", inputs=[pb_utils.Tensor("IN", array)],
                requested_output_names=["OUT"],
            )
            (out,) = request.exec().output_tensors()
            return [str(bool((out.as_numpy() == array).all()))]


    class TritonPythonModel:
        def initialize(self, args):
            try:
                add().exec()
            except pb_utils.TritonModelException as error:
                self.early = str(error)

        def execute(self, requests):
            responses = []
            for request in requests:
                what = request.inputs()[0].as_numpy()[0].decode()
                answer = [self.early] if what == "early" else getattr(Doing(), what)()
                out = pb_utils.Tensor("OUT", np.array(answer, np.object_))
                responses.append(pb_utils.InferenceResponse([out]))
            return responses
"""
COUNTS = """
    import time


    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                to, delay = request.inputs()[0].as_numpy()[0].decode().split()
                sender = request.get_response_sender()
                for index in range(abs(int(to))):
                    if request.is_cancelled():
                        break
                    time.sleep(float(delay))
                    if int(to) < 0:
                        error = pb_utils.TritonError(f"bad {index}", pb_utils.TritonError.NOT_FOUND)
                        sender.send(pb_utils.InferenceResponse([], error))
                    else:
                        out = pb_utils.Tensor("OUT", np.array([str(index)], np.object_))
                        sender.send(pb_utils.InferenceResponse([out]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
TELLS = """
    class TritonPythonModel:
        def execute(self, requests):
            (request,) = requests
            words = [request.request_id(), request.correlation_id(), request.timeout(),
                     request.flags(), request.parameters()]
            out = pb_utils.Tensor("OUT", np.array([str(word) for word in words], np.object_))
            return [pb_utils.InferenceResponse([out], parameters={"told": 5})]
"""
ECHO = """
    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", one.inputs()[0].as_numpy())])
                for one in requests
            ]
"""
FLOATS = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
# Many at a time: the sums of what it is asked for, through another model.
ASYNC = """
    import asyncio


    def question(value):
        four = np.full(4, value, np.float32)
        inputs = [pb_utils.Tensor(name, four) for name in ("INPUT0", "INPUT1")]
        return pb_utils.InferenceRequest(
            model_name="add_sub", inputs=inputs, requested_output_names=["OUTPUT0"]
        )


    class TritonPythonModel:
        async def execute(self, requests):
            responses = []
            for request in requests:
                values = request.inputs()[0].as_numpy()
                answers = await asyncio.gather(*(question(one).async_exec() for one in values))
                sums = [one.output_tensors()[0].as_numpy()[0] for one in answers]
                out = pb_utils.Tensor("OUT", np.array(sums, np.float32))
                responses.append(pb_utils.InferenceResponse([out]))
            return responses
"""
# Waits for a slow model, and says in the log when that one saw that it was cancelled.
WAITS = """
    class TritonPythonModel:
        def execute(self, requests):
            (request,) = requests
            asked = pb_utils.InferenceRequest(
                model_name="notices", inputs=request.inputs(), requested_output_names=["OUT"]
            )
            response = asked.exec()
            return [pb_utils.InferenceResponse(error=response.error())]
"""
NOTICES = """
    import time


    class TritonPythonModel:
        def execute(self, requests):
            (request,) = requests
            print("begun", flush=True)
            while not request.is_cancelled():
                time.sleep(0.01)
            print("noticed", flush=True)
            error = pb_utils.TritonError("given up", pb_utils.TritonError.CANCELLED)
            return [pb_utils.InferenceResponse(error=error)]
"""
# a asks b and b asks a.
PING = """
    class TritonPythonModel:
        def execute(self, requests):
            (request,) = requests
            asked = pb_utils.InferenceRequest(
                model_name={other!r}, inputs=request.inputs(), requested_output_names=["OUT"]
            )
            response = asked.exec()
            if response.has_error():
                return [pb_utils.InferenceResponse(error=response.error())]
            return [pb_utils.InferenceResponse(response.output_tensors())]
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    repository = tmp_path_factory.mktemp("bls")
    add_model(repository, "add_sub", ADD_SUB, ADD_SUB_CODE)
    add_model(repository, "asks", TEXT_IN, ASKS)
    add_model(repository, "counts", TEXT_IN + DECOUPLED, COUNTS)
    add_model(repository, "tells", TEXT_IN, TELLS)
    add_model(repository, "echo", FLOATS, ECHO)
    add_model(repository, "asynchronous", FLOATS, ASYNC)
    add_model(repository, "waits", TEXT_IN, WAITS)
    add_model(repository, "notices", TEXT_IN, NOTICES)
    add_model(repository, "ping", TEXT_IN, PING.format(other="pong"))
    add_model(repository, "pong", TEXT_IN, PING.format(other="ping"))
    with Serving(f"--model-repository={repository}") as running:
        yield running


def text(value: str) -> list[Any]:
    tensor = tritonclient.grpc.InferInput("IN", [1], "BYTES")
    return [tensor.set_data_from_numpy(np.array([value], object))]


@pytest.fixture
def client(serving: Serving) -> Iterator[Any]:
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as opened:
        yield opened


def do(client: Any, what: str, model: str = "asks") -> list[str]:
    out = client.infer(model, text(what), client_timeout=20).as_numpy("OUT")
    return [one.decode() for one in out]


def test_one_answer(client: Any) -> None:
    assert do(client, "one") == ["3.0 3.0 3.0 3.0"]
    assert do(client, "outputs") == ["OUTPUT0"]


def test_only_while_it_executes(client: Any) -> None:
    assert do(client, "early") == ["BLS is only supported during the 'execute' function."]


def test_errors_are_answers(client: Any) -> None:
    said = "NOT_FOUND: Model nobody - Error when running inference: Request for unknown model: "
    for answer in do(client, "unknown"):
        assert answer.startswith(f"{said}'nobody' is not found")
    (answer,) = do(client, "wrong")
    assert "expected 2 inputs but got 0 inputs for model 'add_sub'" in answer


def test_decoupled_models(client: Any) -> None:
    (answer,) = do(client, "not_decoupled")
    assert "Please use 'decoupled=True' argument to the 'exec' or 'async_exec' calls" in answer
    # As Triton has it, the end is an empty response; iterated again, all come again.
    assert do(client, "decoupled") == ["0", "1", "2", "", "again", "0", "1", "2", ""]


def test_an_error_between_responses_ends_nothing(client: Any) -> None:
    assert do(client, "errors_between") == ["NOT_FOUND: bad 0", "NOT_FOUND: bad 1", ""]


def test_from_several_threads(client: Any) -> None:
    assert do(client, "threads") == [" ".join([f"{2.0 * index}"] * 4) for index in range(8)]


def test_async_exec(client: Any) -> None:
    values = np.arange(20, dtype=np.float32)
    tensor = tritonclient.grpc.InferInput("IN", [20], "FP32").set_data_from_numpy(values)
    out = client.infer("asynchronous", [tensor], client_timeout=20).as_numpy("OUT")
    np.testing.assert_array_equal(out, values * 2)


def test_who_gives_up_and_closes_its_loop_can_ask_again(client: Any) -> None:
    for _ in range(2):
        assert do(client, "gives_up") == ["late", "3.0 3.0 3.0 3.0"]


def test_what_a_request_says_of_itself(client: Any) -> None:
    told, parameters = do(client, "parameters")
    assert told == 'me 7 123000000 1 {"a": 1, "b": "two", "c": true}'
    assert parameters == '{"told": 5}'


def test_model_readiness(client: Any) -> None:
    assert do(client, "ready") == ["True", "False"]


def test_large_tensors(client: Any) -> None:
    assert do(client, "big") == ["True"]


def test_a_model_may_cancel_what_it_asked(client: Any) -> None:
    assert do(client, "cancel") == ["True"]


def test_who_would_wait_for_itself_is_told_at_once(client: Any) -> None:
    (answer,) = do(client, "itself")
    assert answer.startswith(
        "UNAVAILABLE: Model asks - Error when running inference: all instances"
    )
    assert "would wait for ever" in answer
    with pytest.raises(InferenceServerException, match="would wait for ever"):
        do(client, "x", "ping")
    assert do(client, "one") == ["3.0 3.0 3.0 3.0"]


def test_two_that_wait_for_each_other_are_told(client: Any) -> None:
    answers: Queue[Any] = Queue()
    for model in ("ping", "pong") * 4:
        client.async_infer(
            model, text("x"), lambda result, error: answers.put(error), client_timeout=20
        )
    for _ in range(8):
        assert "would wait for ever" in str(answers.get(timeout=20))


def test_cancelling_the_outer_request_cancels_what_it_asked(client: Any, serving: Serving) -> None:
    answers: Queue[Any] = Queue()
    call = client.async_infer("waits", text("x"), lambda result, error: answers.put(error))
    serving.wait_for("begun")
    call.cancel()
    serving.wait_for("noticed")
    assert "Locally cancelled" in str(answers.get(timeout=10))
    deadline = time.monotonic() + 10
    while client.get_inference_statistics("waits").model_stats[0].inference_stats.fail.count < 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
