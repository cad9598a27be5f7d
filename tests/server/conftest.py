"""A real server process on free ports, and repositories of small Python models."""

import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.http

_STARTED = re.compile(r"Started (\w+).* at 127\.0\.0\.1:(\d+)\"?}?$")


class Serving:
    """`nerite serve` as a user starts it; its addresses, its log, its exit status."""

    def __init__(self, *arguments: str, wait: bool = True, within: Sequence[str] = ()) -> None:
        """`wait`: until it serves or has ended. `within`: a command that runs it."""
        ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
        self.process = subprocess.Popen(
            [*within, sys.executable, "-m", "nerite", "serve", *ports, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._ports: dict[str, int] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or len(self._ports) == 3, timeout=60)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                match = _STARTED.search(line.rstrip())
                if match:
                    self._ports[match[1]] = int(match[2])
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def _address(self, service: str) -> str:
        assert service in self._ports, f"the server did not start:\n{self.log}"
        return f"127.0.0.1:{self._ports[service]}"

    @property
    def http(self) -> str:
        return self._address("HTTPService")

    @property
    def grpc(self) -> str:
        return self._address("GRPCInferenceService")

    @property
    def metrics(self) -> str:
        return self._address("Metrics")

    def wait_for(self, text: str) -> None:
        """Until the log holds `text`; fails after half a minute."""
        with self._changed:
            found = self._changed.wait_for(lambda: text in self.log, timeout=30)
        assert found, f"{text!r} is not in the log:\n{self.log}"

    def wait(self) -> int:
        """The exit status, once everything it printed has been read."""
        status = self.process.wait(timeout=60)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.wait()


Serve = Callable[..., Serving]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve("--flag", …)` starts a server that ends with the test."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(Serving(*map(str, arguments)))


def add_model(repository: Path, name: str, config: str, code: str, version: int = 1) -> None:
    """Write a Python model: its config.pbtxt and the body of its model.py."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(textwrap.dedent(config))
    head = "import numpy as np\nimport triton_python_backend_utils as pb_utils\n\n"
    (folder / "model.py").write_text(head + textwrap.dedent(code))


ADD_SUB = """
    backend: "python"
    input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
            { name: "INPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
             { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
ADD_SUB_CODE = """
    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
                b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
                outputs = [pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)]
                responses.append(pb_utils.InferenceResponse(outputs))
            return responses
"""
IDENTITY_CODE = """
    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())]
                )
                for request in requests
            ]
"""
BF16_CODE = IDENTITY_CODE.replace(
    'Tensor("OUTPUT0", request.inputs()[0].as_numpy())',
    'Tensor.from_dlpack("OUTPUT0", request.inputs()[0])',
)
TYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
TYPES += ["FP16", "FP32", "FP64", "BF16", "STRING"]


def identity(kind: str, dims: str = "-1") -> str:
    return f"""
        backend: "python"
        input [ {{ name: "INPUT0" data_type: TYPE_{kind} dims: [ {dims} ] }} ]
        output [ {{ name: "OUTPUT0" data_type: TYPE_{kind} dims: [ {dims} ] }} ]
    """


TALKS = """
    class TritonPythonModel:
        def initialize(self, args):
            print("initialized", args["model_name"], args["model_version"], flush=True)

        def execute(self, requests):
            what = requests[0].inputs()[0].as_numpy()[0].decode()
            if what == "raise":
                raise RuntimeError("a bad day")
            if what == "error":
                error = pb_utils.TritonError("not for you", pb_utils.TritonError.NOT_FOUND)
                return [pb_utils.InferenceResponse([], error) for _ in requests]
            if what == "die":
                import os
                print("last words", flush=True)
                os._exit(3)
            if what == "short":
                return []
            if what == "slow":
                import time
                time.sleep(1)
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())])
                for r in requests
            ]

        def finalize(self):
            print("finalized", flush=True)
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository: add_sub, add_sub_batch, identity_<type> for every type, talks."""
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "add_sub", ADD_SUB, ADD_SUB_CODE)
    add_model(repository, "add_sub_batch", "max_batch_size: 8" + ADD_SUB, ADD_SUB_CODE)
    for kind in TYPES:
        add_model(
            repository,
            f"identity_{kind.lower()}",
            identity(kind),
            BF16_CODE if kind == "BF16" else IDENTITY_CODE,
        )
    add_model(repository, "talks", identity("STRING", "1"), TALKS)
    return repository


@pytest.fixture(scope="session")
def serving(models: Path) -> Iterator[Serving]:
    """One server for all tests that leave it as they found it."""
    with Serving(f"--model-repository={models}") as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def door(request: pytest.FixtureRequest) -> Any:
    return {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]


@pytest.fixture
def client(door: Any, serving: Serving) -> Iterator[Any]:
    """Of the module's own `serving`; what it registers of shared memory is forgotten."""
    url = serving.http if door is tritonclient.http else serving.grpc
    with door.InferenceServerClient(url) as opened:
        yield opened
        opened.unregister_system_shared_memory()
