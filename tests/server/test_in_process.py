"""nerite as a library: Server on a loop, SyncServer in plain threads."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import nerite

from .conftest import add_model

CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
CODE = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                value = request.inputs()[0].as_numpy()
                sender = request.get_response_sender()
                for number in range(int(value[0])):
                    tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in_process")
    add_model(folder, "counts", CONFIG + DECOUPLED, CODE)
    return folder


def request(count: int) -> nerite.Request:
    return nerite.Request("counts", {"IN": np.array([count], np.int32)})


async def test_server(models: Path) -> None:
    async with nerite.Server(models) as server:
        assert server.ready
        values = [one.outputs["OUT"][0] async for one in server.infer(request(3)) if one.outputs]
        assert values == [0, 1, 2]
        with pytest.raises(nerite.InferenceError, match="expected one response, got 2"):
            await server.infer(request(2)).one()


def test_sync_server_from_many_threads(models: Path) -> None:
    with nerite.SyncServer(str(models)) as server:
        assert server.ready
        assert [one.name for one in server.index(ready=True)] == ["counts"]
        found: list[list[int]] = []

        def ask() -> None:
            answers = server.infer(request(4))
            found.append([int(one.outputs["OUT"][0]) for one in answers if one.outputs])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[0, 1, 2, 3]] * 8
        assert server.infer(request(1)).one().outputs["OUT"].tolist() == [0]
        with pytest.raises(nerite.InferenceError, match="'none' is not found"):
            server.infer(nerite.Request("none", {}))
        with pytest.raises(nerite.InferenceError, match="not allowed"):
            server.load("counts")


def test_a_sync_server_without_a_repository(tmp_path: Path) -> None:
    with (
        pytest.raises(nerite.InferenceError, match="does not exist"),
        nerite.SyncServer(tmp_path / "none"),
    ):
        pass


def test_importing_nerite_imports_little() -> None:
    code = "import nerite, sys; print([m for m in ('numpy', 'grpc', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
