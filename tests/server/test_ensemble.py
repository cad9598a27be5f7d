"""Ensembles from the repository to the client: their life with their models, and their answers."""

import asyncio
import json
import queue
import shutil
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request as Post
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.server import ControlMode, Policy, Server

from .conftest import Serve, add_model

ADDS = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                value = request.inputs()[0].as_numpy()
                if value.reshape(-1)[0] == 13:
                    raise ValueError("an unlucky number")
                time.sleep(0.001 * max(0, int(value.reshape(-1)[0])))
                tensor = pb_utils.Tensor("OUT", value + np.int32(NUMBER))
                answers.append(pb_utils.InferenceResponse([tensor]))
            return answers
"""
COUNTS = """
    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                for number in range(int(request.inputs()[0].as_numpy()[0])):
                    if sender.is_cancelled():
                        break
                    tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def tensors(kind: str = "INT32", dims: str = "1", more: str = "") -> str:
    return f"""
    input [ {{ name: "IN" data_type: TYPE_{kind} dims: [ {dims} ] }} ]
    output [ {{ name: "OUT" data_type: TYPE_{kind} dims: [ {dims} ] {more} }} ]
    """


def add_step(folder: Path, name: str, number: int = 1, more: str = "", **shape: str) -> None:
    config = 'backend: "python"\n' + textwrap.dedent(more + tensors(**shape))
    add_model(folder, name, config, ADDS.replace("NUMBER", str(number)))


def add_counter(folder: Path, name: str = "counter", code: str = COUNTS) -> None:
    decoupled = "model_transaction_policy { decoupled: true }\n"
    add_model(folder, name, 'backend: "python"\n' + decoupled + tensors(), code)


def add_chain(folder: Path, name: str, *models: str, head: str = "", **shape: str) -> None:
    """An ensemble of models, each with IN and OUT, one behind the other. "m:2": its version 2."""
    steps = []
    for index, model in enumerate(models):
        read = "IN" if index == 0 else f"t{index}"
        written = "OUT" if index == len(models) - 1 else f"t{index + 1}"
        model, _, version = model.partition(":")
        steps.append(
            f'{{ model_name: "{model}" model_version: {version or -1} '
            f'input_map {{ key: "IN" value: "{read}" }} '
            f'output_map {{ key: "OUT" value: "{written}" }} }}'
        )
    config = f"""
    platform: "ensemble"
    {tensors(**shape)}
    ensemble_scheduling {{ {head} step [ {", ".join(steps)} ] }}
    """
    (folder / name / "1").mkdir(parents=True, exist_ok=True)
    (folder / name / "config.pbtxt").write_text(config)


Start = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @asynccontextmanager
    async def starting(**policy: Any) -> AsyncIterator[Server]:
        async with Server(tmp_path, policy=Policy(**policy)) as server:
            yield server

    return starting


EXPLICIT = {"mode": ControlMode.EXPLICIT}


async def ask(server: Server, model: str, *value: int) -> list[int]:
    inputs = {"IN": np.array(value, np.int32)}
    answers: list[Response] = [one async for one in server.infer(Request(model, inputs))]
    return [int(one.outputs["OUT"][0]) for one in answers if one.outputs]


def ready(server: Server) -> list[str]:
    return [one.name for one in server.states() if one.state == "READY"]


def reason(server: Server, name: str) -> str:
    (state,) = [one for one in server.states() if one.name == name]
    assert state.model is None
    return state.reason


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not happen")


async def test_an_ensemble_is_loaded_after_its_models(tmp_path: Path, start: Start) -> None:
    add_chain(tmp_path, "a_chain", "an_inner", "plus_2")
    add_chain(tmp_path, "an_inner", "plus_1", "plus_1")
    add_step(tmp_path, "plus_1")
    add_step(tmp_path, "plus_2", 2)
    async with start() as server:
        assert await ask(server, "a_chain", 0) == [4]
        counts = {name: server.find(name).stats.counts for name in ("a_chain", "plus_1")}
        assert [one.requests for one in counts.values()] == [1, 2]
        assert counts["a_chain"].executions == 1
        assert counts["a_chain"].infer_ns > counts["plus_1"].infer_ns
        with pytest.raises(InferenceError) as caught:
            await ask(server, "a_chain", 13)
        assert "in ensemble 'a_chain', in ensemble 'an_inner', " in caught.value.message
        assert "an unlucky number" in caught.value.message
        assert server.find("plus_1").stats.counts.failures == {"BACKEND": 1}
        assert server.find("a_chain").stats.counts.failures == {"OTHER": 1}


async def test_a_load_brings_what_is_needed(tmp_path: Path, start: Start) -> None:
    add_step(tmp_path, "plus_1")
    add_step(tmp_path, "other")
    add_chain(tmp_path, "chain", "plus_1")
    add_chain(tmp_path, "second", "plus_1")
    async with start(**EXPLICIT, startup=("chain",)) as server:
        assert ready(server) == ["chain", "plus_1"]
        await server.unload("chain")
        assert ready(server) == ["plus_1"]
        await server.load("chain")
        await server.load("second")
        await server.unload("chain", dependents=True)
        assert ready(server) == ["plus_1", "second"]  # which is still needed
        await server.unload("second", dependents=True)
        assert ready(server) == []
        await server.load("plus_1")
        await server.load("chain")
        await server.unload("chain", dependents=True)
        assert ready(server) == ["plus_1"]  # it was asked for
        await until(lambda: reason(server, "chain") == "unloaded")
        assert server.ready


async def test_an_ensemble_goes_and_comes_with_its_models(tmp_path: Path, start: Start) -> None:
    add_step(tmp_path, "plus")
    add_chain(tmp_path, "inner", "plus")
    add_chain(tmp_path, "outer", "inner")
    async with start(**EXPLICIT, startup=("outer",)) as server:
        before = server.find("outer")
        await server.unload("plus")
        assert ready(server) == []
        await until(lambda: server.ready)
        await server.load("plus")
        assert ready(server) == ["inner", "outer", "plus"]
        assert server.find("outer") is not before
        shutil.rmtree(tmp_path / "plus")
        add_step(tmp_path, "plus", 5)
        await server.load("outer")
        assert await ask(server, "outer", 1) == [6]
        shutil.rmtree(tmp_path / "plus")
        add_step(tmp_path, "plus", 5, dims="2")
        await server.load("plus")
        assert "inconsistent shape: [1] is inferred from model inner" in reason(server, "inner")
        assert str(tmp_path / "inner" / "config.pbtxt") in reason(server, "inner")
        assert "'outer' depends on 'inner' which is not valid" in reason(server, "outer")


async def test_an_unload_waits_for_the_ensemble_that_is_being_loaded(
    tmp_path: Path, start: Start
) -> None:
    slow = "import time\ntime.sleep(1)\n" + textwrap.dedent(ADDS.replace("NUMBER", "1"))
    add_model(tmp_path, "plus", 'backend: "python"\n' + tensors(), slow)
    add_chain(tmp_path, "chain", "plus")
    async with start(**EXPLICIT) as server:
        loading = asyncio.create_task(server.load("chain"))
        await until(lambda: any(one.state == "LOADING" for one in server.states()))
        await server.unload("plus")
        await loading
        assert ready(server) == []


def add_gated(folder: Path, name: str, gate: Path) -> None:
    """A step that is loading until there is a file `gate`."""
    waits = f"""
import pathlib
import time
while not pathlib.Path({str(gate)!r}).exists():
    time.sleep(0.01)
"""
    code = waits + textwrap.dedent(ADDS.replace("NUMBER", "1"))
    add_model(folder, name, 'backend: "python"\n' + tensors(), code)


async def test_callers_wait_for_whoever_loads_the_same(tmp_path: Path, start: Start) -> None:
    gates = [tmp_path.parent / f"{tmp_path.name}-{name}" for name in ("gated", "plus")]
    add_gated(tmp_path, "gated", gates[0])
    add_gated(tmp_path, "plus", gates[1])
    add_chain(tmp_path, "chain", "gated", "plus")
    gates[1].touch()
    async with start(**EXPLICIT, startup=("plus",)) as server:
        gates[1].unlink()
        loading = asyncio.create_task(server.load("chain"))
        await until(lambda: any(one.state == "LOADING" for one in server.states()))
        calls = []
        for call in (server.unload("plus"), server.load("plus")):
            calls.append(asyncio.create_task(call))
            await asyncio.wait(calls[-1:], timeout=0.3)  # all that it would need alone
        gates[0].touch()
        await loading
        gates[1].touch()
        await asyncio.gather(*calls)
        assert ready(server) == ["chain", "gated", "plus"]
        assert await ask(server, "chain", 1) == [3]
        await server.unload("chain", dependents=True)
        assert ready(server) == ["plus"]  # which was asked for


@pytest.mark.parametrize(
    ("does", "loads"), [("load_model", ["asks", "chain", "plus"]), ("unload_model", ["asks"])]
)
async def test_a_model_that_is_being_loaded_waits_for_nobody(
    tmp_path: Path, start: Start, does: str, loads: list[str]
) -> None:
    initialize = f"""class TritonPythonModel:
        def initialize(self, args):
            pb_utils.{does}("plus")
"""
    code = ADDS.replace("NUMBER", "1").replace("class TritonPythonModel:\n", initialize)
    add_model(tmp_path, "asks", 'backend: "python"\n' + tensors(), code)
    add_step(tmp_path, "plus")
    add_chain(tmp_path, "chain", "asks", "plus")
    async with start(**EXPLICIT, startup=("plus",)) as server:
        loading = asyncio.wait_for(server.load("chain"), 30)
        if does == "load_model":
            await loading
        else:
            with pytest.raises(InferenceError, match="Load or add them, and the ensemble comes"):
                await loading
        assert ready(server) == loads
        await server.load("plus")
        assert ready(server) == ["asks", "chain", "plus"]


async def test_a_model_that_fails_is_the_reason(tmp_path: Path, start: Start) -> None:
    add_model(tmp_path, "bad", 'backend: "python"' + tensors(), "raise ValueError('worn out')")
    add_chain(tmp_path, "chain", "bad")
    async with start(**EXPLICIT) as server:
        with pytest.raises(InferenceError) as caught:
            await server.load("chain")
        assert caught.value.status is Status.INVALID_ARG
        text = caught.value.message
        assert text.startswith("load failed for model 'chain': ensemble 'chain' depends on 'bad' ")
        assert "which has no loaded version. Model 'bad' loading failed with error: " in text
        assert "worn out" in text
        shutil.rmtree(tmp_path / "bad")
        add_step(tmp_path, "bad")
        await server.load("bad")
        assert ready(server) == ["bad", "chain"]


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (("nobody",), "models that are not available or ambiguous: nobody"),
        (("plus", "chain"), "circular dependency between ensembles: chain -> ... -> chain"),
        (("plus", "back"), "must not lead back to it: mend those in chain/config.pbtxt"),
        (("plus", "back"), "circular dependency between ensembles: chain -> ... -> back -> chain"),
        (("plus:2",), "depends on 'plus' whose required version 2 is not loaded"),
        (("plus", "floats"), "inconsistent data type: TYPE_INT32 is inferred from model plus"),
    ],
)
async def test_what_does_not_fit_is_refused(
    tmp_path: Path, start: Start, chain: tuple[str, ...], expected: str
) -> None:
    add_step(tmp_path, "plus")
    add_step(tmp_path, "floats", kind="FP32")
    add_chain(tmp_path, "back", "chain")
    add_chain(tmp_path, "chain", *chain)
    async with start() as server:
        assert expected in reason(server, "chain")
        assert await ask(server, "plus", 1) == [2]


async def test_polls_follow_what_is_needed(tmp_path: Path, start: Start) -> None:
    add_step(tmp_path, "plus")
    add_chain(tmp_path, "chain", "plus")
    async with start(mode=ControlMode.POLL, poll_seconds=0.05) as server:
        shutil.move(tmp_path / "plus", tmp_path.parent / "away")
        await until(lambda: ready(server) == [])
        shutil.move(tmp_path.parent / "away", tmp_path / "plus")
        await until(lambda: ready(server) == ["chain", "plus"])


async def test_an_unloaded_model_stays_for_the_requests_that_need_it(
    tmp_path: Path, start: Start
) -> None:
    add_step(tmp_path, "slow", 1)
    add_step(tmp_path, "plus", 1)
    add_chain(tmp_path, "chain", "slow", "plus")
    async with start(**EXPLICIT, startup=("chain",)) as server:
        asked = asyncio.ensure_future(ask(server, "chain", 500))
        await asyncio.sleep(0.1)
        await server.unload("plus")
        await server.unload("slow")
        assert await asked == [502]
    async with start(**EXPLICIT, startup=("chain",)) as server:
        asked = asyncio.ensure_future(ask(server, "chain", 500))
        await asyncio.sleep(0.1)
    assert await asked == [502]  # and while the server stops


@pytest.mark.parametrize("nested", [False, True])
async def test_a_fast_source_waits_for_a_slow_step(
    tmp_path: Path, start: Start, nested: bool
) -> None:
    add_counter(tmp_path, "twos", COUNTS.replace("[number]", "[2]"))
    add_step(tmp_path, "slow")
    head = "max_inflight_requests: 1"
    add_chain(tmp_path, "passes", "twos")
    add_chain(tmp_path, "stream", "passes" if nested else "twos", "slow", head=head)
    async with start() as server:
        responses = server.infer(Request("stream", {"IN": np.array([10_000_000], np.int32)}))
        waiting = []
        async for _ in responses:
            waiting.append(server.find("stream").pending)
            if len(waiting) == 300:
                break
        responses.close()
        # What came before the source was told is there; it does not become more.
        assert max(waiting[150:]) < max(waiting[:150]) + 1000
        counts = server.find("twos").stats.counts
        await until(lambda: counts.requests + sum(counts.failures.values()) == 1)


async def test_many_answers_and_none(tmp_path: Path, start: Start) -> None:
    add_counter(tmp_path)
    add_step(tmp_path, "plus", 10)
    add_chain(tmp_path, "stream", "counter", "plus", head="max_inflight_requests: 2")
    async with start() as server:
        assert server.find("stream").config.model_transaction_policy.decoupled
        assert await ask(server, "stream", 5) == [10, 11, 12, 13, 14]
        assert await ask(server, "stream", 0) == []
        responses = server.infer(Request("stream", {"IN": np.array([1000], np.int32)}))
        async for _ in responses:
            break
        responses.close()
        counter = server.find("counter")
        await until(lambda: counter.stats.counts.requests + sum(
            counter.stats.counts.failures.values()) == 3)  # fmt: skip
        assert server.find("stream").stats.counts.failures == {"CANCELED": 1}


def write_labels(folder: Path, name: str) -> None:
    (folder / name / "labels.txt").write_text("cold\nwarm\n")


def _is_last(result: Any) -> bool:
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


def test_through_the_doors(tmp_path: Path, serve: Serve) -> None:
    batch = "max_batch_size: 4\n"
    labels = 'label_filename: "labels.txt"'
    add_model(
        tmp_path,
        "plus",
        'backend: "python"\n' + batch + tensors("INT32", "2", labels),
        ADDS.replace("NUMBER", "1"),
    )
    write_labels(tmp_path, "plus")
    add_counter(tmp_path)
    add_step(tmp_path, "ten", 10)
    add_chain(tmp_path, "chain", "plus", "plus", dims="2")
    add_chain(tmp_path, "stream", "counter", "ten")
    server = serve(f"--model-repository={tmp_path}", "--model-control-mode=explicit",
                   "--load-model=*")  # fmt: skip
    value = np.array([2, 1], np.int32)
    with triton_http.InferenceServerClient(server.http) as client:
        tensor = triton_http.InferInput("IN", [2], "INT32").set_data_from_numpy(value)
        answer = client.infer("chain", [tensor])
        assert answer.as_numpy("OUT").tolist() == [4, 3]
        assert answer.get_response()["parameters"]["sequence_start"] is False
        wanted = [triton_http.InferRequestedOutput("OUT", class_count=1)]
        answer = client.infer("chain", [tensor], outputs=wanted)
        assert answer.as_numpy("OUT").tolist() == [b"4:0:cold"]
        assert client.get_model_config("chain")["platform"] == "ensemble"
        client.unload_model("chain", unload_dependents=True)
        assert not client.is_model_ready("chain")
        assert client.is_model_ready("plus")  # the start-up asked for it
    with triton.InferenceServerClient(server.grpc) as client:
        answers: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: answers.put(error or result))
        tensor = triton.InferInput("IN", [1], "INT32")
        tensor.set_data_from_numpy(np.array([3], np.int32))
        client.async_stream_infer("stream", [tensor], enable_empty_final_response=True)
        results = []
        while not results or not _is_last(results[-1]):
            results.append(answers.get(timeout=20))
        values = [result.as_numpy("OUT") for result in results]
        assert [value[0] for value in values if value is not None] == [10, 11, 12]
        client.stop_stream()
        client.load_model("chain")
        client.unload_model("plus", unload_dependents=True)
        with pytest.raises(InferenceServerException, match="not at ready state|no available"):
            client.infer("chain", [triton.InferInput("IN", [2], "INT32")
                                   .set_data_from_numpy(value)])  # fmt: skip


def test_traces_are_of_one_piece(tmp_path: Path, serve: Serve) -> None:
    add_step(tmp_path / "models", "plus")
    add_chain(tmp_path / "models", "inner", "plus")
    add_chain(tmp_path / "models", "outer", "inner", "plus")
    file = tmp_path / "trace.json"
    server = serve(
        f"--model-repository={tmp_path / 'models'}",
        f"--trace-config=triton,file={file}",
        "--trace-config=rate=1",
        "--trace-config=level=TIMESTAMPS",
    )
    body = {"inputs": [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [1]}]}
    urlopen(Post(f"http://{server.http}/v2/models/outer/infer", json.dumps(body).encode())).close()
    server.stop()
    entries = json.loads(file.read_text())
    models = {one["id"]: one for one in entries if "model_name" in one}
    names = {id: one["model_name"] for id, one in models.items()}
    parents = {one["id"]: names.get(one.get("parent_id")) for one in models.values()}
    asked = sorted((name, parents[id] or "") for id, name in names.items())
    assert asked == [("inner", "outer"), ("outer", ""), ("plus", "inner"), ("plus", "outer")]
    stamps = [(one["id"], stamp["name"]) for one in entries for stamp in one.get("timestamps", [])]
    assert {names[id] for id, name in stamps if name.startswith("COMPUTE")} == {"plus"}
    assert {names.get(id) for id, name in stamps if name == "QUEUE_START"} == set(names.values())


async def test_large_tensors_go_through(tmp_path: Path, start: Start) -> None:
    add_step(tmp_path, "plus", dims="-1")
    add_chain(tmp_path, "chain", "plus", "plus", "plus", dims="-1")
    sent = np.full(1 << 22, -5, np.int32)
    async with start() as server:
        for _ in range(3):
            answers = [server.infer(Request("chain", {"IN": sent})) for _ in range(2)]
            for answer in answers:
                outputs = (await answer.one()).outputs
                assert (outputs["OUT"] == -2).all()
