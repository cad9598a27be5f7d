"""Large tensors in clients' shared memory, which the worker itself reads and writes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from .conftest import IDENTITY_CODE, Serving, add_model, identity

COUNT = 1 << 18
SIZE = 4 * COUNT

SUM = """
    backend: "python"
    max_batch_size: 4
    dynamic_batching { }
    input [
      { name: "A" data_type: TYPE_FP32 dims: [ -1 ] },
      { name: "B" data_type: TYPE_INT32 dims: [ -1 ] }
    ]
    output [
      { name: "SUM" data_type: TYPE_FP32 dims: [ -1 ] },
      { name: "PID" data_type: TYPE_INT32 dims: [ 1 ] }
    ]
"""

SUM_CODE = """
    import os

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for r in requests:
                a, b = (pb_utils.get_input_tensor_by_name(r, n).as_numpy() for n in "AB")
                assert a.flags.aligned and b.flags.aligned
                pid = np.array([[os.getpid()]], np.int32)
                sums = pb_utils.Tensor("SUM", a + b.astype(a.dtype))
                tensors = [sums, pb_utils.Tensor("PID", pid)]
                answers.append(pb_utils.InferenceResponse(tensors))
            return answers
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("models")
    add_model(folder, "identity", identity("FP32"), IDENTITY_CODE)
    add_model(folder, "sum", SUM, SUM_CODE)
    with Serving(f"--model-repository={folder}", "--allow-client-shm=true") as running:
        yield running


@pytest.fixture
def region(client: Any) -> Iterator[Any]:
    handle = shm.create_shared_memory_region("io", "/nerite_large", 4 * SIZE)
    client.register_system_shared_memory("io", "/nerite_large", 4 * SIZE)
    yield handle
    shm.destroy_shared_memory_region(handle)


def given(door: Any, name: str, offset: int, kind: str = "FP32", batch: bool = False) -> Any:
    entry = door.InferInput(name, [1, COUNT] if batch else [COUNT], kind)
    entry.set_shared_memory("io", SIZE, offset=offset)
    return entry


def wanted(door: Any, name: str, offset: int, size: int = SIZE) -> Any:
    output = door.InferRequestedOutput(name)
    output.set_shared_memory("io", size, offset=offset)
    return output


def test_there_and_back(client: Any, door: Any, region: Any) -> None:
    for seed in range(3):
        values = np.random.default_rng(seed).random(COUNT, np.float32)
        shm.set_shared_memory_region(region, [values])
        answer = client.infer(
            "identity", [given(door, "INPUT0", 0)], outputs=[wanted(door, "OUTPUT0", 2 * SIZE)]
        )
        found = shm.get_contents_as_numpy(region, np.float32, [COUNT], offset=2 * SIZE)
        np.testing.assert_array_equal(found, values)
        told = answer.get_output("OUTPUT0")
        fields = (
            told if isinstance(told, dict) else {"parameters": told.parameters, "shape": told.shape}
        )
        size = fields["parameters"]["shared_memory_byte_size"]
        assert (size if isinstance(size, int) else size.int64_param) == SIZE
        assert list(fields["shape"]) == [COUNT]


def test_several_inputs_in_a_batch_and_an_output_that_is_sent(
    client: Any, door: Any, region: Any
) -> None:
    a, b = np.arange(COUNT, dtype=np.float32), np.full(COUNT, 7, np.int32)
    shm.set_shared_memory_region(region, [a, b])
    inputs = [given(door, "A", 0, batch=True), given(door, "B", SIZE, "INT32", batch=True)]
    for outputs in (
        [wanted(door, "SUM", 3 * SIZE)],
        [wanted(door, "SUM", 3 * SIZE), door.InferRequestedOutput("PID")],
    ):
        client.infer("sum", inputs, outputs=outputs)
        found = shm.get_contents_as_numpy(region, np.float32, [COUNT], offset=3 * SIZE)
        np.testing.assert_array_equal(found, a + 7)
    answer = client.infer("sum", inputs)
    np.testing.assert_array_equal(answer.as_numpy("SUM"), [a + 7])


def test_a_place_that_is_too_small(client: Any, door: Any, region: Any) -> None:
    output = wanted(door, "OUTPUT0", 2 * SIZE, SIZE - 4)
    with pytest.raises(InferenceServerException, match=f"should be at least {SIZE} bytes"):
        client.infer("identity", [given(door, "INPUT0", 0)], outputs=[output])


def test_a_region_that_has_become_shorter(client: Any, door: Any, region: Any) -> None:
    os.truncate("/dev/shm/nerite_large", SIZE // 2)
    with pytest.raises(InferenceServerException, match="'io' has become shorter than registered"):
        client.infer("identity", [given(door, "INPUT0", 0)])
    os.truncate("/dev/shm/nerite_large", 4 * SIZE)
    values = np.ones(COUNT, np.float32)
    shm.set_shared_memory_region(region, [values])
    answer = client.infer("identity", [given(door, "INPUT0", 0)])
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), values)


def test_a_worker_that_was_restarted_knows_the_regions(client: Any, door: Any, region: Any) -> None:
    shm.set_shared_memory_region(region, [np.ones(COUNT, np.float32), np.ones(COUNT, np.int32)])
    inputs = [given(door, "A", 0, batch=True), given(door, "B", SIZE, "INT32", batch=True)]
    pid = int(client.infer("sum", inputs).as_numpy("PID")[0, 0])
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not _another(client, inputs, pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.infer("sum", inputs, outputs=[wanted(door, "SUM", 3 * SIZE)])
    found = shm.get_contents_as_numpy(region, np.float32, [COUNT], offset=3 * SIZE)
    np.testing.assert_array_equal(found, np.full(COUNT, 2))


def _another(client: Any, inputs: list[Any], pid: int) -> bool:
    """Whether another worker answers: that one is gone may not have been noticed yet."""
    try:
        return int(client.infer("sum", inputs).as_numpy("PID")[0, 0]) != pid
    except InferenceServerException:
        return False


def test_what_is_unregistered_is_closed_everywhere(
    client: Any, door: Any, serving: Serving, region: Any
) -> None:
    shm.set_shared_memory_region(region, [np.ones(COUNT, np.float32)])
    client.infer("identity", [given(door, "INPUT0", 0)], outputs=[wanted(door, "OUTPUT0", SIZE)])
    assert _holders(serving)
    client.unregister_system_shared_memory("io")
    deadline = time.monotonic() + 10
    while _holders(serving):
        assert time.monotonic() < deadline, _holders(serving)
        time.sleep(0.05)


def _holders(serving: Serving) -> list[str]:
    """The server's processes that have the region open."""
    pids = [serving.process.pid]
    for one in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(one.read_text().rsplit(")", 1)[1].split()[1]) == serving.process.pid:
                pids.append(int(one.parent.name))
        except (OSError, ValueError):
            continue
    found = []
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                if "nerite_large" in os.readlink(link):
                    found.append(str(link))
            except OSError:
                continue
    return found
