"""The rate limiter in a server: models that share a resource do not execute at once."""

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from nerite import InferenceError, Policy, Request, SyncServer
from nerite.instances.rate_limiter import RateLimiter
from nerite.placing import Placing

from .conftest import Serve, add_model

# Notes when it executes, in ns of the clock that all processes share.
CODE = """
    import json, os, time

    class TritonPythonModel:
        def initialize(self, args):
            self.file = os.path.join(args["model_repository"], "..", "notes")

        def execute(self, requests):
            began = time.monotonic_ns()
            time.sleep(0.02 if requests[0].inputs()[0].as_numpy()[0] < 100 else 30)
            with open(self.file, "a") as file:
                file.write(json.dumps([began, time.monotonic_ns()]) + chr(10))
            pid = np.array([os.getpid()], np.int32)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("PID", pid)]) for _ in requests]
"""


def config(count: int, resources: str) -> str:
    return f"""
        backend: "python"
        input {{ name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }}
        output {{ name: "PID" data_type: TYPE_INT32 dims: [ 1 ] }}
        instance_group {{ kind: KIND_CPU count: {count} rate_limiter {{ {resources} }} }}
    """


ONE = 'resources { name: "slot" global: true count: 1 }'


def ask(server: SyncServer, model: str, number: int = 0) -> int:
    request = Request(model, {"IN": np.array([number], np.int32)})
    return int(server.infer(request).one().outputs["PID"][0])


def limited() -> Policy:
    return Policy(placing=Placing(limiter=RateLimiter()))


def test_executions_that_share_a_resource_follow_each_other(tmp_path: Path) -> None:
    add_model(tmp_path, "two", config(2, ONE), CODE)
    add_model(tmp_path, "one", config(1, ONE), CODE)
    with SyncServer(tmp_path, policy=limited()) as server:
        threads = [
            threading.Thread(target=ask, args=(server, model))
            for model in ("one", "two", "two") * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    notes = sorted(json.loads(line) for line in (tmp_path / "notes").read_text().splitlines())
    assert len(notes) == 12
    for (_, ended), (began, _) in zip(notes, notes[1:], strict=False):
        assert began >= ended


def test_a_worker_that_dies_gives_back_what_it_held(tmp_path: Path) -> None:
    add_model(tmp_path, "dies", config(1, ONE), CODE)
    add_model(tmp_path, "lives", config(1, ONE), CODE)
    with SyncServer(tmp_path, policy=limited()) as server:
        process = ask(server, "dies")
        failed: list[InferenceError] = []

        def hang() -> None:
            with pytest.raises(InferenceError) as caught:
                ask(server, "dies", 100)
            failed.append(caught.value)

        hanging = threading.Thread(target=hang)
        hanging.start()
        others = [threading.Thread(target=ask, args=(server, "lives")) for _ in range(2)]
        for thread in others:
            thread.start()
        os.kill(process, signal.SIGKILL)
        for thread in (hanging, *others):
            thread.join(20)
            assert not thread.is_alive()
        assert "died" in failed[0].message


def test_what_could_never_execute_is_not_loaded(tmp_path: Path, serve: Serve) -> None:
    add_model(tmp_path, "m", config(1, 'resources { name: "r" count: 4 }'), CODE)
    flags = ["--rate-limit=execution_count", "--rate-limit-resource=r:3"]
    server = serve(f"--model-repository={tmp_path}", *flags)
    assert server.wait() == 1
    assert 'Resource count for "r" is limited to 3 which will prevent' in server.log
    with serve(f"--model-repository={tmp_path}", "--rate-limit-resource=r:3") as server:
        assert "successfully loaded 'm'" in server.log
