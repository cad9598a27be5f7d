"""--host-policy, and the cores that workers are bound to by it."""

import os
from pathlib import Path

import numpy as np
import pytest

from nerite import InferenceError, Policy, Request, Server
from nerite.instances.host_policy import cores_of
from nerite.placing import Placing

CODE = """
import os
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        cores = np.array(sorted(os.sched_getaffinity(0)), np.int32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", cores)]) for _ in requests]
"""
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] }
"""


def test_settings(tmp_path: Path) -> None:
    (tmp_path / "node1").mkdir()
    (tmp_path / "node1" / "cpulist").write_text("4-5,9\n")
    found = cores_of(
        [
            ("cpu", "numa-node", "1"),
            ("gpu_0", "cpu-cores", "0-2"),
            ("gpu_0", "numa-node", "1"),
            ("mine", "cpu-cores", "7"),
        ],
        tmp_path,
    )
    assert found == {"cpu": {4, 5, 9}, "gpu_0": {0, 1, 2}, "mine": {7}}


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("cpu-cores", "3-1", "'3-1' are no cores"),
        ("cpu-cores", "all", "'all' are no cores"),
        ("numa-node", "9", "no NUMA node '9'"),
        ("memory", "1", "setting 'memory' is not known"),
    ],
)
def test_what_is_wrong(tmp_path: Path, setting: str, value: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        cores_of([("cpu", setting, value)], tmp_path)


def test_cores_that_this_machine_lacks(caplog: pytest.LogCaptureFixture) -> None:
    count = os.cpu_count() or 1
    cores_of([("p", "cpu-cores", f"0-{count + 1},{count + 5}")])
    said = f"host policy 'p' names cores that this machine lacks: {count}-{count + 1},{count + 5}"
    assert said in caplog.text
    caplog.clear()
    cores_of([("p", "cpu-cores", f"0-{count - 1}")])
    assert not caplog.text


def write(folder: Path, groups: str) -> None:
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "1" / "model.py").write_text(CODE)
    (folder / "m" / "config.pbtxt").write_text(CONFIG + groups)


@pytest.mark.parametrize("policy", ["cpu", "mine"])
async def test_workers_are_bound(tmp_path: Path, policy: str) -> None:
    core = max(os.sched_getaffinity(0))
    named = f'host_policy: "{policy}"' if policy != "cpu" else ""
    write(tmp_path, f"instance_group {{ kind: KIND_CPU {named} }}")
    placing = Placing(policies={policy: frozenset([core])})
    async with Server(tmp_path, policy=Policy(placing=placing)) as server:
        response = await server.infer(Request("m", {"IN": np.zeros(1, np.int32)})).one()
        assert response.outputs["OUT"].tolist() == [core]


async def test_cores_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, "instance_group { kind: KIND_CPU }")
    placing = Placing(policies={"cpu": frozenset([1000])})
    async with Server(tmp_path, policy=Policy(placing=placing)) as server:
        (state,) = server.states()
        assert "'m_0_0' cannot run on the cores [1000]" in state.reason
        with pytest.raises(InferenceError):
            server.find("m")
