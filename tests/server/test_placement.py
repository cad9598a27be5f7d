"""Models in the server's own process (PLACEMENT), and the memory that unloading gives back."""

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

import nerite
from nerite import ControlMode, Policy, Request, Server

from .conftest import ADD_SUB, ADD_SUB_CODE, Serve, add_model, identity

THREAD = 'parameters { key: "PLACEMENT" value { string_value: "thread" } }\n'
TELLS = """
    import os
    import threading

    from .words import WORD


    class TritonPythonModel:
        def execute(self, requests):
            (request,) = requests
            what = request.inputs()[0].as_numpy()[0].decode()
            if what == "raise":
                raise RuntimeError("a bad day")
            if what == "ask":
                four = np.ones(4, np.float32)
                inputs = [pb_utils.Tensor(name, four) for name in ("INPUT0", "INPUT1")]
                asked = pb_utils.InferenceRequest(
                    model_name="add_sub", inputs=inputs, requested_output_names=["OUTPUT0"]
                )
                what = str(asked.exec().output_tensors()[0].as_numpy().tolist())
            pb_utils.Logger.log_warn(f"told {what}")
            told = [str(os.getpid()), threading.current_thread().name, what, WORD]
            out = pb_utils.Tensor("OUTPUT0", np.array(told, np.object_))
            return [pb_utils.InferenceResponse([out])]

        def finalize(self):
            pb_utils.Logger.log_info("finalized here")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_model(tmp_path, "add_sub", ADD_SUB, ADD_SUB_CODE)
    for name in ("one", "two"):
        add_model(tmp_path, name, identity("STRING") + THREAD, TELLS)
        (tmp_path / name / "1" / "words.py").write_text(f"WORD = 'word of {name}'")
    return tmp_path


async def test_a_model_in_the_servers_process(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with Server(repository) as server:
        for name in ("one", "two"):
            for what, answer in (("hello", "hello"), ("ask", "[2.0, 2.0, 2.0, 2.0]")):
                inputs: Any = {"INPUT0": np.array([what.encode()], object)}
                out = (await server.infer(Request(name, inputs)).one()).outputs["OUTPUT0"]
                assert list(out) == [str(os.getpid()), f"{name}_0_0", answer, f"word of {name}"]
            with pytest.raises(nerite.InferenceError, match="RuntimeError: a bad day"):
                inputs = {"INPUT0": np.array([b"raise"], object)}
                await server.infer(Request(name, inputs)).one()
    assert "[one_0] told hello" in caplog.messages
    assert "[two_0] finalized here" in caplog.messages
    assert any(line.startswith("unloading 'one_0' freed") for line in caplog.messages)


def test_through_a_server(repository: Path, serve: Serve) -> None:
    serving = serve(f"--model-repository={repository}")
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        tensor = tritonclient.grpc.InferInput("INPUT0", [1], "BYTES")
        tensor.set_data_from_numpy(np.array(["ask"], object))
        out = client.infer("one", [tensor]).as_numpy("OUTPUT0")
    assert int(out[0]) == serving.process.pid
    assert serving.stop() == 0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (THREAD.replace("thread", "moon"), "PLACEMENT of model 'm' is 'moon': say 'process'"),
        (
            THREAD + 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/x" } }',
            "cannot have both PLACEMENT 'thread'",
        ),
    ],
)
async def test_a_placement_that_is_none(tmp_path: Path, parameters: str, said: str) -> None:
    add_model(tmp_path, "m", ADD_SUB + parameters, ADD_SUB_CODE)
    async with Server(tmp_path) as server:
        (state,) = server.states()
    assert said in state.reason


HEAVY = """
    class TritonPythonModel:
        def initialize(self, args):
            self.weights = np.ones(10_000_000, np.float32)

        def execute(self, requests):
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUTPUT0", one.inputs()[0].as_numpy() + self.weights[:4])]
                )
                for one in requests
            ]
"""


@pytest.mark.parametrize("place", ["", THREAD])
async def test_unloading_gives_memory_back(
    tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    add_model(tmp_path, "heavy", identity("FP32") + place, HEAVY)
    sizes = []
    async with Server(tmp_path, policy=Policy(mode=ControlMode.EXPLICIT)) as server:
        for _ in range(6):
            await server.load("heavy")
            inputs: Any = {"INPUT0": np.zeros(4, np.float32)}
            out = (await server.infer(Request("heavy", inputs)).one()).outputs["OUTPUT0"]
            np.testing.assert_array_equal(out, 1)
            del out
            await server.unload("heavy")
            while server.states()[0].state != "UNAVAILABLE":
                await asyncio.sleep(0.01)
            statm = Path("/proc/self/statm").read_text()
            sizes.append(int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert sizes[-1] < sizes[1] * 1.05
    freed = [line for line in caplog.messages if line.startswith("unloading 'heavy")]
    assert len(freed) == 6
    assert all(int(line.split("freed ")[1].split()[0]) >= 30 for line in freed)
