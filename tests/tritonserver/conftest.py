"""A repository of Python models, and servers of it in this process."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import tritonserver

_ECHO = """
    import json
    import numpy as np
    import triton_python_backend_utils as pb_utils

    def echo(tensor):
        name = tensor.name().replace("in", "out")
        if name.startswith("bf16"):  # which numpy does not know
            return pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
        return pb_utils.Tensor(name, tensor.as_numpy())

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                outputs = [echo(tensor) for tensor in request.inputs()]
                said = np.array([request.parameters()], dtype=np.object_)
                outputs.append(pb_utils.Tensor("parameters", said))
                responses.append(pb_utils.InferenceResponse(outputs))
            return responses
"""
_ECHO_CONFIG = """
    backend: "python"
    input [ { name: "fp32_in" data_type: TYPE_FP32 dims: [ -1 ] optional: true },
            { name: "text_in" data_type: TYPE_STRING dims: [ -1 ] optional: true },
            { name: "bf16_in" data_type: TYPE_BF16 dims: [ -1 ] optional: true } ]
    output [ { name: "fp32_out" data_type: TYPE_FP32 dims: [ -1 ] },
             { name: "text_out" data_type: TYPE_STRING dims: [ -1 ] },
             { name: "bf16_out" data_type: TYPE_BF16 dims: [ -1 ] },
             { name: "parameters" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
_COUNT = """
    import time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                asked = int(request.inputs()[0].as_numpy()[0])
                if asked < 0:
                    error = pb_utils.TritonError("not at once")
                    sender.send(pb_utils.InferenceResponse(error=error))
                for number in range(abs(asked)):
                    if request.is_cancelled():
                        break
                    tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                    time.sleep(0.001)
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
_COUNT_CONFIG = """
    backend: "python"
    max_batch_size: 0
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
    model_transaction_policy { decoupled: true }
"""
_BROKEN = """
    class TritonPythonModel:
        def execute(self, requests):
            raise RuntimeError("a bad day")
"""
_BROKEN_CONFIG = """
    backend: "python"
    max_batch_size: 4
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""


def write_model(repository: Path, name: str, config: str, code: str) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(textwrap.dedent(config))
    (folder / "model.py").write_text(textwrap.dedent(code))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """echo (answers what it is asked), count (decoupled), broken."""
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, "echo", _ECHO_CONFIG, _ECHO)
    write_model(repository, "count", _COUNT_CONFIG, _COUNT)
    write_model(repository, "broken", _BROKEN_CONFIG, _BROKEN)
    return repository


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[tritonserver.Server]:
    """One for all tests that leave it as they found it."""
    running = tritonserver.Server(model_repository=str(models)).start(wait_until_ready=True)
    yield running
    running.stop()


Start = Callable[..., tritonserver.Server]


@pytest.fixture
def start(models: Path) -> Iterator[Start]:
    """`start(option=…)`: a server in EXPLICIT mode that ends with the test."""
    with ExitStack() as stack:

        def started(**options: Any) -> tritonserver.Server:
            options.setdefault("model_repository", str(models))
            options.setdefault("model_control_mode", tritonserver.ModelControlMode.EXPLICIT)
            server = tritonserver.Server(**options).start()
            stack.callback(server.stop)
            return server

        yield started
