"""nerite as a library: Server on a loop, SyncServer in plain threads."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nerite
from nerite.core.stats import Counts

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


def test_a_sync_server_that_does_not_run(models: Path) -> None:
    server = nerite.SyncServer(models)
    asks: list[Callable[[], object]] = [
        lambda: server.infer(request(1)),
        lambda: server.load("counts"),
        lambda: server.unload("counts"),
        server.index,
        server.poll,
        lambda: server.models,
    ]
    for ask in asks:
        with pytest.raises(nerite.InferenceError, match="has not started: call start") as raised:
            ask()
        assert raised.value.status is nerite.Status.UNAVAILABLE
    assert not server.ready
    server.close()  # nothing to close yet
    with server:
        answers = server.infer(request(1))
        with pytest.raises(nerite.InferenceError, match="has started already"):
            server.start()
    for ask in (*asks, server.start):
        with pytest.raises(nerite.InferenceError, match="is closed: make another SyncServer"):
            ask()
    assert not server.ready
    answers.close()
    server.close()


def test_a_sync_server_follows_its_repository(tmp_path: Path) -> None:
    add_model(tmp_path, "first", CONFIG + DECOUPLED, CODE)
    policy = nerite.Policy(mode=nerite.ControlMode.POLL, poll_seconds=0)
    with nerite.SyncServer(tmp_path, policy=policy) as server:
        assert [(one.name, one.version) for one in server.models] == [("first", 1)]
        add_model(tmp_path, "second", CONFIG + DECOUPLED, CODE)
        server.poll()
        assert [one.name for one in server.models] == ["first", "second"]


async def test_outputs_are_any_sequence_of_names(models: Path) -> None:
    wanted = request(1)._replace(outputs=["OUT"])  # type: ignore[arg-type]
    async with nerite.Server(models) as server:
        assert (await server.infer(wanted).one()).outputs["OUT"].tolist() == [0]
    with nerite.SyncServer(models) as sync_server:
        assert sync_server.infer(wanted).one().outputs["OUT"].tolist() == [0]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"model": None}, "model is a NoneType: it takes a str"),
        ({"inputs": [1]}, "inputs is a list: it takes a mapping of names to numpy arrays"),
        ({"inputs": {"IN": [1]}}, r"inputs\['IN'\] is a list: it takes a numpy array"),
        ({"inputs": {"IN": np.array([1j])}}, r"inputs\['IN'\]: numpy dtype complex128 has no"),
        ({"inputs": {1: np.array([1])}}, "a name in inputs is an int: it takes a str"),
        ({"version": 1}, "version is an int: it takes a str"),
        ({"id": 5}, "id is an int: it takes a str"),
        ({"outputs": "OUT"}, "outputs is a str: it takes a sequence of names"),
        ({"outputs": [1]}, r"outputs\[0\] is an int: it takes a str"),
        ({"parameters": [1]}, "parameters is a list: it takes a mapping of names to"),
        ({"parameters": {"a": [1]}}, r"parameters\['a'\] is a list: it takes a bool, int, float"),
        ({"priority": "high"}, "priority is a str: it takes an int"),
        ({"timeout_us": 1.5}, "timeout_us is a float: it takes an int"),
        ({"sequence_id": [1]}, "sequence_id is a list: it takes an int or str"),
        ({"sequence_start": "yes"}, "sequence_start is a str: it takes a bool"),
    ],
)
async def test_arguments_of_wrong_types(models: Path, wrong: dict[str, Any], text: str) -> None:
    async with nerite.Server(models) as server:
        with pytest.raises(nerite.InferenceError, match=text) as raised:
            server.infer(request(1)._replace(**wrong))
        assert raised.value.status is nerite.Status.INVALID_ARG
        (model,) = server.models
        assert model.stats.counts == Counts()
    sync_server = nerite.SyncServer(models)
    with pytest.raises(nerite.InferenceError, match=text):
        sync_server.infer(request(1)._replace(**wrong))


async def test_a_request_that_cannot_be_sent_is_not_left_open(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = nerite.Server(models)
    await server.start()
    try:
        with pytest.raises(nerite.InferenceError, match="surrogates not allowed"):
            await server.infer(request(1)._replace(id="\ud800")).one()
        assert (await server.infer(request(1)).one()).outputs["OUT"].tolist() == [0]
    finally:
        await server.close(timeout=1)
    assert "could not take a request" in caplog.text
    assert "cut off" not in caplog.text


def test_what_is_no_request(models: Path) -> None:
    asked: Any = {"model": "counts", "inputs": {}}
    with pytest.raises(nerite.InferenceError, match="request is a dict: it takes a nerite.Request"):
        nerite.SyncServer(models).infer(asked)
