"""--worker-timeout: which requests count, and from when on."""

import queue
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from .conftest import Serve, Serving, add_model, identity

MANY = "model_transaction_policy { decoupled: true }\n"
# Each value of the input is a response, after so many seconds.
ASLEEP = """
    import asyncio

    class TritonPythonModel:
        async def execute(self, requests):
            sender = requests[0].get_response_sender()
            for seconds in requests[0].inputs()[0].as_numpy():
                await asyncio.sleep(float(seconds))
                out = pb_utils.Tensor("OUTPUT0", np.array([seconds], np.float32))
                sender.send(pb_utils.InferenceResponse([out]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
BUSY = (
    ASLEEP.replace("async def", "def")
    .replace("import asyncio", "import threading, time")
    .replace("await asyncio.sleep", "time.sleep")
)
THREAD = (
    BUSY.replace("def execute(self, requests):", "def work(self, requests):")
    + """
        def execute(self, requests):
            threading.Thread(target=self.work, args=(requests,), daemon=True).start()
            RETURN
"""
)
SINGLE = """
    import threading, time

    class TritonPythonModel:
        def work(self, request):
            values = request.inputs()[0].as_numpy()
            time.sleep(float(values[0]))
            out = pb_utils.Tensor("OUTPUT0", values)
            sender = request.get_response_sender()
            sender.send(pb_utils.InferenceResponse([out]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        def execute(self, requests):
            for one in requests:
                threading.Thread(target=self.work, args=(one,), daemon=True).start()
            return [None] * len(requests)
"""


@pytest.fixture
def serving(serve: Serve, tmp_path: Path) -> Serving:
    for name, code in (("asleep", ASLEEP), ("busy", BUSY), ("thread", THREAD)):
        add_model(tmp_path, name, identity("FP32") + MANY, code.replace("RETURN", "return None"))
    add_model(tmp_path, "single", identity("FP32"), SINGLE)
    return serve(f"--model-repository={tmp_path}", "--worker-timeout=2")


def ask(serving: Serving, model: str, *seconds: float) -> Iterator[float]:
    """The responses as they come; raises what ends them."""
    answers: queue.Queue[tuple[tritonclient.grpc.InferResult, Exception | None]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        tensor = tritonclient.grpc.InferInput("INPUT0", [len(seconds)], "FP32")
        tensor.set_data_from_numpy(np.array(seconds, np.float32))
        client.async_stream_infer(model, [tensor])
        for _ in seconds:
            result, error = answers.get(timeout=30)
            if error is not None:
                raise error
            yield float(result.as_numpy("OUTPUT0")[0])


@pytest.mark.parametrize("model", ["asleep", "busy", "thread", "single"])
def test_what_hangs_is_found_whoever_is_to_answer(serving: Serving, model: str) -> None:
    said = "worked longer than 2 s (--worker-timeout), and was killed"
    with pytest.raises(InferenceServerException) as caught:
        list(ask(serving, model, 1000))
    assert f"Its worker process {said}" in caught.value.message()
    serving.wait_for(f"worker of '{model}_0' {said}; restarting in 0.1 s")
    assert "lack of memory" not in serving.log
    serving.wait_for(f"worker of '{model}_0' is back")
    assert list(ask(serving, model, 0.25)) == [0.25]


@pytest.mark.parametrize("model", ["asleep", "busy", "thread"])
def test_a_response_is_a_sign_of_life(serving: Serving, model: str) -> None:
    assert list(ask(serving, model, *[0.5] * 6)) == [0.5] * 6
    with pytest.raises(InferenceServerException):
        list(ask(serving, model, 0.5, 1000))
