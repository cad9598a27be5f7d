"""Models that call `sys.exit()` and its like: their requests fail, and nothing else ends."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite import InferenceError, Request, Server

from .conftest import add_model, identity

EXITS = """
    import os
    import sys

    class TritonPythonModel:
        def execute(self, requests):
            what = requests[0].inputs()[0].as_numpy()[0].decode()
            if what == "exit":
                sys.exit(3)
            if what == "interrupt":
                raise KeyboardInterrupt
            if what == "generator":
                raise GeneratorExit
            told = np.array([str(os.getpid())], np.object_)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", told)])]
"""
DECOUPLED = EXITS.replace(
    "return [pb_utils.InferenceResponse([pb_utils.Tensor",
    "requests[0].get_response_sender().send(pb_utils.InferenceResponse([pb_utils.Tensor",
).replace("told)])]", "told)]), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)")
TASK = """
    import asyncio
    import os
    import sys

    class TritonPythonModel:
        async def leave(self):
            sys.exit(3)

        async def execute(self, requests):
            if requests[0].inputs()[0].as_numpy()[0] != b"pid":
                await asyncio.create_task(self.leave())
            told = np.array([str(os.getpid())], np.object_)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", told)])]
"""
THREAD = 'parameters { key: "PLACEMENT" value { string_value: "thread" } }\n'
MANY = "model_transaction_policy { decoupled: true }\n"


def awaited(code: str) -> str:
    return code.replace("def execute", "async def execute")


async def ask(server: Server, model: str, what: str) -> str:
    inputs: Any = {"INPUT0": np.array([what.encode()], object)}
    response = await asyncio.wait_for(server.infer(Request(model, inputs)).one(), 30)
    found = response.outputs["OUTPUT0"][0]
    return found.decode() if isinstance(found, bytes) else str(found)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ("", EXITS),
        ("", awaited(EXITS)),
        ("", TASK),
        (MANY, DECOUPLED),
        (MANY, awaited(DECOUPLED)),
        (THREAD, EXITS),
        (THREAD, awaited(EXITS)),
    ],
)
async def test_execute(tmp_path: Path, config: str, code: str) -> None:
    add_model(tmp_path, "exits", identity("STRING") + config, code)
    async with Server(tmp_path) as server:
        process = await ask(server, "exits", "pid")
        said = {"exit": "SystemExit: 3"}
        if code is not TASK:
            said |= {"interrupt": "KeyboardInterrupt", "generator": "GeneratorExit"}
        for what, name in said.items():
            with pytest.raises(InferenceError) as caught:
                await ask(server, "exits", what)
            message = caught.value.message
            assert "Failed to process the request(s) for model 'exits_0', message: " in message
            assert name in message and "1/model.py(" in message and "nerite/" not in message
            assert await ask(server, "exits", "pid") == process


IS_READY = """
    import sys

    class TritonPythonModel:
        asked = 0

        def is_ready(self):
            self.asked += 1
            if self.asked % 2:
                sys.exit("not today")
            return True

        def execute(self, requests):
            pass
"""


@pytest.mark.parametrize("config", ["", THREAD])
async def test_is_ready(tmp_path: Path, config: str, caplog: pytest.LogCaptureFixture) -> None:
    add_model(tmp_path, "moody", identity("FP32") + config, IS_READY)
    async with Server(tmp_path) as server:
        ready = [await asyncio.wait_for(server.check_ready("moody"), 30) for _ in range(4)]
    assert ready == [False, True, False, True]
    (first, *_) = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert first.startswith("is_ready of 'moody_0': SystemExit: not today\n\nAt:\n")


LOADS = {
    "top": "import sys\nsys.exit(4)",
    "completes": """
        import sys
        class TritonPythonModel:
            @staticmethod
            def auto_complete_config(config):
                sys.exit(4)
            def execute(self, requests): pass
    """,
    "initializes": """
        import sys
        class TritonPythonModel:
            def initialize(self, args): sys.exit(4)
            def execute(self, requests): pass
    """,
}


@pytest.mark.parametrize("config", ["", THREAD])
@pytest.mark.parametrize("where", LOADS)
async def test_loading(tmp_path: Path, where: str, config: str) -> None:
    add_model(tmp_path, "left", identity("FP32") + config, LOADS[where])
    async with Server(tmp_path) as server:
        (state,) = server.states()
    assert state.reason.startswith("Internal: SystemExit: 4\n\nAt:\n  "), state.reason


async def test_finalize(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = EXITS + "\n        def finalize(self): sys.exit(5)\n"
    add_model(tmp_path, "left", identity("STRING") + THREAD, code)
    async with Server(tmp_path) as server:
        assert await ask(server, "left", "pid") == str(os.getpid())
    assert "SystemExit: 5" in capfd.readouterr().err
