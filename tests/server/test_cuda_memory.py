"""The CUDA shared memory extension through both doors, with a GPU and without."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from .conftest import Serving

GPU = Path("/dev/nvidiactl")
HANDLE = base64.b64encode(bytes(64))


@pytest.fixture(scope="module")
def open_serving(models: Path) -> Iterator[Serving]:
    with Serving(f"--model-repository={models}", "--allow-client-shm=true") as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def door(request: pytest.FixtureRequest) -> Any:
    return {"http": httpclient, "grpc": grpcclient}[request.param]


def connect(door: Any, serving: Serving) -> Any:
    return door.InferenceServerClient(serving.http if door is httpclient else serving.grpc)


def refused(client: Any, *arguments: Any) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as caught:
        client.register_cuda_shared_memory(*arguments)
    error: InferenceServerException = caught.value
    return error


def test_without_a_gpu(door: Any, open_serving: Serving) -> None:
    if GPU.exists():
        pytest.skip("there is a GPU")
    with connect(door, open_serving) as client:
        error = refused(client, "r", HANDLE, 0, 64)
        text = "failed to register CUDA shared memory region: 'r', GPUs not supported"
        assert error.message() == text
        assert error.status() in ("400", "StatusCode.INVALID_ARGUMENT")
        status = client.get_cuda_shared_memory_status()
        assert not (status if door is httpclient else status.regions)
        with pytest.raises(InferenceServerException, match="Unable to find cuda shared memory"):
            client.get_cuda_shared_memory_status("r")
        client.unregister_cuda_shared_memory("r")
        client.unregister_cuda_shared_memory()


def test_without_leave(door: Any, serving: Serving) -> None:
    with connect(door, serving) as client:
        assert "Client shared memory is disabled" in refused(client, "r", HANDLE, 0, 64).message()


@pytest.mark.parametrize("handle", [b"", b"AAAA", b"?"])
def test_what_is_no_handle(open_serving: Serving, handle: bytes) -> None:
    with connect(httpclient, open_serving) as client:
        text = "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t"
        assert refused(client, "r", handle, 0, 64).message() == text


@pytest.mark.gpu
def test_inputs_and_outputs(door: Any, open_serving: Serving) -> None:
    if not GPU.exists():
        pytest.skip("there is no GPU")
    pytest.importorskip("cuda.bindings.runtime")  # the client's, from cuda-python
    from tritonclient.utils import cuda_shared_memory as memory

    a, b = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
    given = memory.create_shared_memory_region("given", 32, 0)
    taken = memory.create_shared_memory_region("taken", 32, 0)
    memory.set_shared_memory_region(given, [a, b])
    with connect(door, open_serving) as client:
        for name, region in (("given", given), ("taken", taken)):
            client.register_cuda_shared_memory(name, memory.get_raw_handle(region), 0, 32)
        inputs = [door.InferInput(f"INPUT{number}", [4], "FP32") for number in (0, 1)]
        outputs = [door.InferRequestedOutput(f"OUTPUT{number}") for number in (0, 1)]
        for number in (0, 1):
            inputs[number].set_shared_memory("given", 16, offset=16 * number)
            outputs[number].set_shared_memory("taken", 16, offset=16 * number)
        client.infer("add_sub", inputs, outputs=outputs)
        client.unregister_cuda_shared_memory()
    found = memory.get_contents_as_numpy(taken, np.float32, [2, 4])
    assert np.array_equal(found, [a + b, a - b])
    for region in (given, taken):
        memory.destroy_shared_memory_region(region)
