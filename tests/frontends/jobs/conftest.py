"""Servers whose jobs are kept in a file of the test's own."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ...conftest import ServerProcess, run_server

# A model that needs no time: its picture has the colour that the seed says.
_CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "prompt" data_type: TYPE_STRING dims: [ 1 ] },
        { name: "seed" data_type: TYPE_INT64 dims: [ 1 ] optional: true } ]
output [ { name: "generated_image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
_CODE = """
import os
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.paint(request) for request in requests]

    def paint(self, request):
        prompt = pb_utils.get_input_tensor_by_name(request, "prompt").as_numpy()[0].decode()
        if prompt == "fail":
            error = pb_utils.TritonError("the paint is dry")
            return pb_utils.InferenceResponse([], error)
        if prompt == "slow":
            time.sleep(0.5)
        if prompt.startswith("die once"):
            mark = prompt.removeprefix("die once ")
            if not os.path.exists(mark):
                open(mark, "w").close()
                os._exit(1)
        seed = pb_utils.get_input_tensor_by_name(request, "seed")
        shade = 0 if seed is None else int(seed.as_numpy()[0]) % 256
        picture = np.full((8, 8, 3), shade, np.uint8)
        return pb_utils.InferenceResponse([pb_utils.Tensor("generated_image", picture)])
"""


@pytest.fixture(scope="session")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the model `shade`."""
    folder = tmp_path_factory.mktemp("shades")
    (folder / "shade" / "1").mkdir(parents=True)
    (folder / "shade" / "config.pbtxt").write_text(_CONFIG)
    (folder / "shade" / "1" / "model.py").write_text(_CODE)
    return folder


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """`serve("--max-jobs", "3")`: a server that keeps its jobs in the test's folder."""
    with contextlib.ExitStack() as stack:
        path = str(tmp_path / "jobs.db")
        yield lambda *options: stack.enter_context(
            run_server(tmp_path / "server.log", "--jobs-path", path, *options)
        )


@pytest.fixture(scope="session")
def shade_server(shades: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of `shade` that the whole session shares."""
    folder = tmp_path_factory.mktemp("server")
    options = ("--model-repository", str(shades), "--jobs-path", str(folder / "jobs.db"))
    with run_server(folder / "log", *options) as server:
        yield server
