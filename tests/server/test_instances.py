"""Instances: how many there are, which of them serve, and what they do when nobody waits."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from nerite import InferenceError, Request, Server, Status

from .conftest import add_model

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


async def test_as_many_processes_as_the_groups_count(tmp_path: Path) -> None:
    groups = "instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 kind: KIND_MODEL } ]"
    add_model(tmp_path, "m", CONFIG + groups, CODE)
    async with Server(tmp_path) as server:
        (model,) = server.models
        assert len(model.instances) == 3
        asked = [server.infer(seconds(0.2)) for _ in range(3)]
        found = [int((await one.one()).outputs["OUT"][0, 0]) for one in asked]
        assert sorted(found) == [0, 0, 1]
