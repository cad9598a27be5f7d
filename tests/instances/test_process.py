"""A worker process and its front half, without a server: what no client can bring about at will."""

import asyncio
import gc
import os
import signal
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from nerite.backends.base import ModelSpec
from nerite.core.call import Answer, Call, Responses
from nerite.core.errors import InferenceError, Status
from nerite.core.files import Filed, Span
from nerite.core.layout import Packed, aligned
from nerite.core.request import Request, Response
from nerite.instances import wire
from nerite.instances.process import ProcessInstance
from nerite.server import Server

CODE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        assert requests, "executed without a request"
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy())])
            for r in requests
        ]
"""


class _File:
    name = "io"

    def __init__(self, fd: int) -> None:
        self.fd = fd


async def ask(instance: ProcessInstance, request: Request) -> Answer:
    responses = Responses()
    call = Call(request, responses.deliver)
    instance.execute([call], lambda: None)
    try:
        return await responses.watch(call).one()
    except InferenceError as error:
        return error


def make(folder: Path) -> ProcessInstance:
    (folder / "m" / "1").mkdir(parents=True, exist_ok=True)
    (folder / "m" / "1" / "model.py").write_text(CODE)
    config = {
        "name": "m",
        "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]}],
    }
    spec = ModelSpec("m", 1, folder / "m", "m_0_0", "cpu", 0, config)
    return ProcessInstance("python", spec, Server(folder))


@pytest.fixture
async def instance(tmp_path: Path) -> AsyncIterator[ProcessInstance]:
    instance = make(tmp_path)
    await instance.start(lambda: None)
    yield instance
    await instance.close()


async def test_a_closed_instance_holds_little_until_the_collector_comes(tmp_path: Path) -> None:
    """It comes seldom, and models are loaded and unloaded for months."""
    held = []
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(3):
            instance = make(tmp_path)
            await instance.start(lambda: None)
            await instance.close()
            del instance
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held[2] - held[1] < 1 << 17


async def test_an_idle_worker_begins_at_once_and_a_busy_one_gets_a_turns_calls_together(
    instance: ProcessInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert instance._link is not None
    sent, send_entries = list[int](), instance._link.send_entries

    def counting(kind: int, entries: list[wire.Entry]) -> None:
        sent.append(len(entries))
        send_entries(kind, entries)

    monkeypatch.setattr(instance._link, "send_entries", counting)
    request = Request("m", {"IN": np.zeros(4, np.float32)})
    for _ in range(2):
        answers = [asyncio.ensure_future(ask(instance, request)) for _ in range(3)]
        assert all(isinstance(one, Response) for one in await asyncio.gather(*answers))
        while instance.in_flight:  # that a batch is done may be told after its answers
            await asyncio.sleep(0.001)
    assert sent == [1, 2, 1, 2]


async def test_what_comes_to_a_busy_worker_waits_until_it_is_as_much_as_that_still_has(
    instance: ProcessInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert instance._link is not None and instance._process is not None
    sent, send_entries = list[int](), instance._link.send_entries

    def counting(kind: int, entries: list[wire.Entry]) -> None:
        sent.append(len(entries))
        send_entries(kind, entries)

    monkeypatch.setattr(instance._link, "send_entries", counting)
    request = Request("m", {"IN": np.zeros(4, np.float32)})
    os.kill(instance._process.pid, signal.SIGSTOP)
    answers = []
    for count in (4, 1, 1):
        answers += [asyncio.ensure_future(ask(instance, request)) for _ in range(count)]
        await asyncio.sleep(0.01)
    assert sent == [1, 3]
    os.kill(instance._process.pid, signal.SIGCONT)
    assert all(isinstance(one, Response) for one in await asyncio.gather(*answers))
    assert sent == [1, 3, 2]


async def test_a_file_that_is_too_short_when_the_worker_reads_it(
    instance: ProcessInstance, tmp_path: Path
) -> None:
    path = tmp_path / "region"
    path.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    opened = path.open("r+b")
    file = _File(opened.fileno())
    layout = aligned([("IN", "FP32", (4,), 16)])
    request = Request("m", Packed(layout, Filed([Span(file, 0, 16)])))
    try:
        for size, whole in ((16, True), (8, False), (16, True)):
            path.write_bytes(np.arange(4, dtype=np.float32).tobytes()[:size])
            answer = await ask(instance, request)
            if whole:
                assert not isinstance(answer, InferenceError), answer
                assert answer.outputs["OUT"].tolist() == [0, 1, 2, 3]
            else:
                assert isinstance(answer, InferenceError)
                assert answer.status is Status.INVALID_ARG
                assert "'io' has become shorter than registered" in answer.message
        assert "executed without a request" not in instance._output.tail
    finally:
        opened.close()
