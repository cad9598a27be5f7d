"""Instances: how many there are, which of them serve, and what they do when nobody waits."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite import InferenceError, Request, Server, Status

from .conftest import add_model, identity

# Answers with its instance's number; asked for seconds it takes these, or until it is cancelled.
CODE = """
    import os, time

    class TritonPythonModel:
        def initialize(self, args):
            self.folder = args["model_repository"]
            self.number = int(args["model_instance_name"].rsplit("_", 2)[1])

        def note(self, word):
            with open(os.path.join(self.folder, "notes"), "a") as file:
                file.write(word + chr(10))

        def execute(self, requests):
            responses = []
            for request in requests:
                end = time.monotonic() + float(request.inputs()[0].as_numpy().ravel()[0])
                self.note("began")
                while time.monotonic() < end and not request.is_cancelled():
                    time.sleep(0.005)
                self.note("cancelled" if request.is_cancelled() else "ended")
                tensor = pb_utils.Tensor("OUT", np.full((1, 1), self.number, np.int32))
                responses.append(pb_utils.InferenceResponse([tensor]))
            return responses
"""
CONFIG = """
    backend: "python" max_batch_size: 4
    input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
"""


def seconds(count: float) -> Request:
    return Request("m", {"IN": np.full((1, 1), count, np.float32)})


def notes(folder: Path) -> list[str]:
    file = folder / "m" / "notes"
    return file.read_text().split() if file.exists() else []


async def until(folder: Path, *words: str) -> None:
    for _ in range(1000):
        if notes(folder) == list(words):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{notes(folder)} are not {words}")


async def test_passive_instances_are_loaded_and_do_not_serve(tmp_path: Path) -> None:
    groups = "instance_group [ { count: 1 kind: KIND_CPU }, { kind: KIND_CPU passive: true } ]"
    add_model(tmp_path, "m", CONFIG + groups, CODE)
    async with Server(tmp_path) as server:
        assert server.ready
        asked = [server.infer(seconds(0)) for _ in range(20)]
        found = {int((await one.one()).outputs["OUT"][0, 0]) for one in asked}
        assert found == {0}


async def test_a_model_of_passive_instances_only_says_so(tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG + "instance_group { passive: true kind: KIND_CPU }", CODE)
    async with Server(tmp_path) as server:
        with pytest.raises(InferenceError, match="all instances of the model are passive"):
            await server.infer(seconds(0)).one()


@pytest.mark.parametrize("batching", ["", "dynamic_batching { preserve_ordering: true }"])
async def test_what_nobody_waits_for_is_not_begun(tmp_path: Path, batching: str) -> None:
    add_model(tmp_path, "m", CONFIG + batching, CODE)
    async with Server(tmp_path) as server:
        first = server.infer(seconds(30))
        await until(tmp_path, "began")
        second, third = server.infer(seconds(30)), server.infer(seconds(0))
        second.close()
        first.close()
        assert (await third.one()).outputs
        assert notes(tmp_path) == ["began", "cancelled", "began", "ended"]
        (model,) = server.models
        assert model.stats.counts.failures == {"CANCELED": 1}
        assert (model.pending, model.stats.counts.requests) == (0, 2)


async def test_a_cancelled_task_cancels_its_request(tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, CODE)
    async with Server(tmp_path) as server:
        task = asyncio.create_task(server.infer(seconds(30)).one())
        await asyncio.sleep(0)  # a task that has not begun is dropped, and asks for nothing
        await until(tmp_path, "began")
        task.cancel()
        await until(tmp_path, "began", "cancelled")


async def test_a_request_that_waits_too_long_is_refused_while_another_runs(tmp_path: Path) -> None:
    policy = "dynamic_batching { default_queue_policy { default_timeout_microseconds: 20000 } }"
    add_model(tmp_path, "m", CONFIG + policy, CODE)
    async with Server(tmp_path) as server:
        first = server.infer(seconds(30))
        await until(tmp_path, "began")
        asked = [server.infer(seconds(0)) for _ in range(3)]
        for one in asked:
            with pytest.raises(InferenceError) as caught:
                await one.one()
            assert caught.value.status is Status.UNAVAILABLE
            assert "Request timeout expired" in caught.value.message
        first.close()


# As quick as can be, but where it is asked to take its time.
QUICK = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                end = time.monotonic() + float(request.inputs()[0].as_numpy()[0, 0])
                while time.monotonic() < end and not request.is_cancelled():
                    time.sleep(0.005)
                tensor = pb_utils.Tensor("OUT", np.zeros((1, 1), np.int32))
                responses.append(pb_utils.InferenceResponse([tensor]))
            return responses
"""


async def quick_until_now(server: Server) -> None:
    """A worker that has been quick for long is trusted with many calls at a time."""
    for _ in range(300):
        await server.infer(seconds(0)).one()


@pytest.mark.parametrize("batching", ["", "dynamic_batching {}"])
async def test_quick_ones_do_not_wait_for_a_slow_one_while_an_instance_is_free(
    tmp_path: Path, batching: str
) -> None:
    groups = "instance_group { count: 2 kind: KIND_CPU }"
    add_model(tmp_path, "m", CONFIG + groups + batching, QUICK)
    async with Server(tmp_path) as server:
        await quick_until_now(server)
        slow = server.infer(seconds(30))
        asked = [server.infer(seconds(0)) for _ in range(40)]
        await asyncio.wait_for(asyncio.gather(*(one.one() for one in asked)), 20)
        slow.close()


async def test_a_queue_keeps_its_policies_before_a_quick_worker(tmp_path: Path) -> None:
    policy = """dynamic_batching {
        priority_levels: 2 default_priority_level: 2
        priority_queue_policy { key: 1 value { default_timeout_microseconds: 20000 } }
        priority_queue_policy { key: 2 value { max_queue_size: 3 } }
    }"""
    add_model(tmp_path, "m", CONFIG.replace("size: 4", "size: 1") + policy, QUICK)
    async with Server(tmp_path) as server:
        await quick_until_now(server)
        slow = server.infer(seconds(30))
        waiting = [server.infer(seconds(0)) for _ in range(3)]
        for request, text in (
            (seconds(0), "Exceeds maximum queue size"),
            (seconds(0)._replace(priority=1), "Request timeout expired"),
        ):
            with pytest.raises(InferenceError, match=text):
                await server.infer(request).one()
        slow.close()
        for one in waiting:
            assert (await one.one()).outputs


async def test_as_many_processes_as_the_groups_count(tmp_path: Path) -> None:
    groups = "instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 kind: KIND_MODEL } ]"
    add_model(tmp_path, "m", CONFIG + groups, CODE)
    async with Server(tmp_path) as server:
        (model,) = server.models
        assert len(model.instances) == 3
        asked = [server.infer(seconds(0.2)) for _ in range(3)]
        found = [int((await one.one()).outputs["OUT"][0, 0]) for one in asked]
        assert sorted(found) == [0, 0, 1]


KIND = """
    class TritonPythonModel:
        def initialize(self, args):
            self.told = np.array([args["model_instance_kind"]], np.object_)

        def execute(self, requests):
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", self.told)])]
"""


@pytest.mark.parametrize("kind", ["MODEL", "CPU"])
async def test_the_kind_that_a_model_is_told(tmp_path: Path, kind: str) -> None:
    group = f"instance_group [ {{ kind: KIND_{kind} }} ]"
    add_model(tmp_path, "tells", identity("STRING") + group, KIND)
    async with Server(tmp_path) as server:
        inputs: Any = {"INPUT0": np.array([b""], object)}
        answer = await server.infer(Request("tells", inputs)).one()
    assert list(answer.outputs["OUTPUT0"]) == [kind.encode()]
