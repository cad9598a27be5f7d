"""Models whose requests are worth watching, and servers that watch them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from ..server.conftest import ADD_SUB, ADD_SUB_CODE, Serve, Serving, add_model, serve

__all__ = ["Serve", "serve"]

_ACTS = """
    backend: "python"
    max_batch_size: 8
    input [ { name: "SECONDS" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "SECONDS" data_type: TYPE_FP32 dims: [ 1 ] } ]
    metric_tags { key: "team" value: "snails" }
"""
_ACTS_CODE = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            seconds = float(requests[0].inputs()[0].as_numpy()[0, 0])
            if seconds < 0:
                raise RuntimeError("a bad day")
            time.sleep(seconds)
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("SECONDS", r.inputs()[0].as_numpy())])
                for r in requests
            ]
"""
_COUNTS = """
    backend: "python"
    input [ { name: "UPTO" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "NUMBER" data_type: TYPE_INT32 dims: [ 1 ] } ]
    model_transaction_policy { decoupled: true }
    model_metrics { metric_control [ {
        metric_identifier { family: "nv_inference_first_response_histogram_ms" }
        histogram_options { buckets: [ 2.5, 10000 ] }
    } ] }
"""
_COUNTS_CODE = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                for number in range(int(request.inputs()[0].as_numpy()[0])):
                    time.sleep(0.05)
                    if request.is_cancelled():
                        break
                    tensor = pb_utils.Tensor("NUMBER", np.array([number], np.int32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


_SPEAKS = """
    backend: "python"
    output [ { name: "CONTEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
    input [ { name: "WHAT" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
_SPEAKS_CODE = """
    class TritonPythonModel:
        def execute(self, requests):
            what = requests[0].inputs()[0].as_numpy()[0].decode()
            pb_utils.Logger.log_info(what)
            pb_utils.Logger.log_warn(what)
            pb_utils.Logger.log_error(what)
            pb_utils.Logger.log_verbose(what)
            context = str(requests[0].trace().get_context())
            tensor = pb_utils.Tensor("CONTEXT", np.array([context], np.object_))
            return [pb_utils.InferenceResponse([tensor])]
"""


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """add; acts (sleeps for so many seconds, fails for negative ones); counts (decoupled);
    speaks (logs)."""
    folder = tmp_path_factory.mktemp("observed")
    add_model(folder, "add", ADD_SUB, ADD_SUB_CODE)
    add_model(folder, "acts", _ACTS, _ACTS_CODE)
    add_model(folder, "counts", _COUNTS, _COUNTS_CODE)
    add_model(folder, "speaks", _SPEAKS, _SPEAKS_CODE)
    return folder


@pytest.fixture
def start(serve: Serve, repository: Path) -> Callable[..., Serving]:
    """`start("--flag")`: a server of the test's own, so that all counts begin at zero."""
    return lambda *flags: serve(f"--model-repository={repository}", *flags)


@pytest.fixture(scope="module")
def observed(repository: Path) -> Iterator[Serving]:
    """A server that the tests of one file share."""
    with Serving(f"--model-repository={repository}") as running:
        yield running


def act(client: Any, seconds: float, rows: int = 1, **options: Any) -> Any:
    """One request to the model `acts`, through either protocol's client."""
    http = isinstance(client, tritonclient.http.InferenceServerClient)
    door = tritonclient.http if http else tritonclient.grpc
    values = np.full((rows, 1), seconds, np.float32)
    entry = door.InferInput("SECONDS", [rows, 1], "FP32")
    entry.set_data_from_numpy(values)
    return client.infer("acts", [entry], **options)


def count_to(client: tritonclient.grpc.InferenceServerClient, number: int, **options: Any) -> list:
    """The numbers that the model `counts` streams."""
    answers: list[Any] = []
    client.start_stream(lambda result, error: answers.append(error or result))
    entry = tritonclient.grpc.InferInput("UPTO", [1], "INT32")
    entry.set_data_from_numpy(np.array([number], np.int32))
    client.async_stream_infer("counts", [entry], **options)
    client.stop_stream()
    return [answer.as_numpy("NUMBER")[0] for answer in answers]


def speak(client: Any, text: str, **options: Any) -> str:
    """Have the model `speaks` log `text`; it answers with its trace's context."""
    http = isinstance(client, tritonclient.http.InferenceServerClient)
    door = tritonclient.http if http else tritonclient.grpc
    entry = door.InferInput("WHAT", [1], "BYTES")
    entry.set_data_from_numpy(np.array([text], np.object_))
    return client.infer("speaks", [entry], **options).as_numpy("CONTEXT")[0].decode()
