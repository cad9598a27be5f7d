"""What clients may ask of inputs and outputs: shared memory, classes, the raw form."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from .conftest import IDENTITY_CODE, Serve, Serving, add_model, identity

LABELLED = """
    max_batch_size: 4
    backend: "python"
    input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 3 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
"""

SLOW_CODE = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            print("begun", requests[0].inputs()[0].as_numpy()[0], flush=True)
            time.sleep(1)
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())])
                for r in requests
            ]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    add_model(folder, "labelled", LABELLED, IDENTITY_CODE)
    (folder / "labelled" / "labels.txt").write_text("cat\ndog\n")
    for kind in ("FP32", "INT32", "STRING", "FP16"):
        add_model(folder, f"identity_{kind.lower()}", identity(kind), IDENTITY_CODE)
    add_model(folder, "slow", identity("FP32"), SLOW_CODE)
    add_model(folder, "one_string", identity("STRING", "1"), IDENTITY_CODE)
    return folder


@pytest.fixture(scope="module")
def serving(repository: Path) -> Iterator[Serving]:
    with Serving(f"--model-repository={repository}", "--allow-client-shm=true") as running:
        yield running


@pytest.fixture
def region() -> Iterator[Any]:
    handle = shm.create_shared_memory_region("io", "/nerite_test", 256)
    yield handle
    shm.destroy_shared_memory_region(handle)


def tensor(door: Any, values: np.ndarray, kind: str) -> Any:
    entry = door.InferInput("INPUT0", list(values.shape), kind)
    entry.set_data_from_numpy(values)
    return entry


def test_inputs_and_outputs_in_shared_memory(client: Any, door: Any, region: Any) -> None:
    values = np.arange(8, dtype=np.float32)
    shm.set_shared_memory_region(region, [values])
    client.register_system_shared_memory("io", "/nerite_test", 256)
    entry = door.InferInput("INPUT0", [8], "FP32")
    entry.set_shared_memory("io", 32)
    output = door.InferRequestedOutput("OUTPUT0")
    output.set_shared_memory("io", 64, offset=128)
    result = client.infer("identity_fp32", [entry], outputs=[output])
    found = shm.get_contents_as_numpy(region, np.float32, [8], offset=128)
    np.testing.assert_array_equal(found, values)
    told = result.get_output("OUTPUT0")
    parameters = told["parameters"] if isinstance(told, dict) else told.parameters
    size = parameters["shared_memory_byte_size"]
    assert (size if isinstance(size, int) else size.int64_param) == 32


def test_status(client: Any, door: Any, region: Any) -> None:
    client.register_system_shared_memory("io", "/nerite_test", 64, offset=16)
    extra = {"as_json": True} if door is tritonclient.grpc else {}
    status = client.get_system_shared_memory_status("io", **extra)
    one = status[0] if isinstance(status, list) else status["regions"]["io"]
    assert (one["key"], int(one["offset"]), int(one["byte_size"])) == ("/nerite_test", 16, 64)
    client.unregister_system_shared_memory("io")
    with pytest.raises(InferenceServerException, match="Unable to find system shared memory"):
        client.get_system_shared_memory_status("io")
    client.unregister_system_shared_memory("never seen")


@pytest.mark.parametrize(
    ("key", "size", "offset", "expected"),
    [
        ("/nerite_test", 300, 0, "failed to register shared memory region 'io': invalid args"),
        ("/nerite_test", 200, 100, "failed to register shared memory region 'io': invalid args"),
        ("/nerite_test", 0, 0, "shared memory region 'io': unable to process address space"),
        ("/nothing_here", 8, 0, "Unable to open shared memory region: '/nothing_here'"),
        ("/../../etc/passwd", 8, 0, "Unable to open shared memory region"),
        ("/", 8, 0, "cannot register shared memory region 'io' - invalid shm key '/'"),
        ("//triton_python_backend_shm_region_1", 8, 0, "contains the reserved prefix"),
    ],
)
def test_bad_registrations(
    client: Any, region: Any, key: str, size: int, offset: int, expected: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.register_system_shared_memory("io", key, size, offset=offset)
    assert expected in caught.value.message()


def test_a_name_is_registered_once(client: Any, region: Any) -> None:
    client.register_system_shared_memory("io", "/nerite_test", 64)
    with pytest.raises(InferenceServerException, match="region 'io' already in manager"):
        client.register_system_shared_memory("io", "/nerite_test", 64)


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, 512, "Invalid offset \\+ byte size for shared memory region: 'io'"),
        (256, 8, "Invalid offset for shared memory region: 'io'"),
        (32, 2**63 - 1, "Invalid offset \\+ byte size for shared memory region: 'io'"),
        (0, 16, "input byte size mismatch for input 'INPUT0'.*Expected 32, got 16"),
    ],
)
def test_bad_places(
    client: Any, door: Any, region: Any, offset: int, size: int, expected: str
) -> None:
    client.register_system_shared_memory("io", "/nerite_test", 256)
    entry = door.InferInput("INPUT0", [8], "FP32")
    entry.set_shared_memory("io", size, offset=offset)
    with pytest.raises(InferenceServerException, match=expected):
        client.infer("identity_fp32", [entry])


def test_a_place_beyond_all_memory(serving: Serving, region: Any) -> None:
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        client.register_system_shared_memory("io", "/nerite_test", 256)
        entry = tritonclient.http.InferInput("INPUT0", [8], "FP32")
        entry.set_shared_memory("io", 2**64 - 32, offset=32)
        with pytest.raises(InferenceServerException, match="Integer overflow detected: byte_size"):
            client.infer("identity_fp32", [entry])
        client.unregister_system_shared_memory()


def test_a_region_in_use_is_unregistered_afterwards(
    client: Any, door: Any, region: Any, serving: Serving
) -> None:
    url = serving.http if door is tritonclient.http else serving.grpc

    def ask() -> None:
        with door.InferenceServerClient(url) as own:
            own.infer("slow", [entry], outputs=[output])

    first = 1 if door is tritonclient.http else 2
    values = np.arange(first, first + 8, dtype=np.float32)
    shm.set_shared_memory_region(region, [values])
    client.register_system_shared_memory("in", "/nerite_test", 32)
    client.register_system_shared_memory("out", "/nerite_test", 32, offset=32)
    entry = door.InferInput("INPUT0", [8], "FP32")
    entry.set_shared_memory("in", 32)
    output = door.InferRequestedOutput("OUTPUT0")
    output.set_shared_memory("out", 32)
    with (
        tritonclient.http.InferenceServerClient(serving.http) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(ask)
        serving.wait_for(f"begun {first}")
        other.unregister_system_shared_memory()
        assert {one["name"] for one in other.get_system_shared_memory_status()} == {"in", "out"}
        asked.result()
        assert other.get_system_shared_memory_status() == []
    found = shm.get_contents_as_numpy(region, np.float32, [8], offset=32)
    np.testing.assert_array_equal(found, values)


def test_an_output_without_room(client: Any, door: Any, region: Any) -> None:
    client.register_system_shared_memory("io", "/nerite_test", 256)
    output = door.InferRequestedOutput("OUTPUT0")
    output.set_shared_memory("io", 8)
    entry = tensor(door, np.arange(8, dtype=np.float32), "FP32")
    with pytest.raises(InferenceServerException, match="should be at least 32 bytes"):
        client.infer("identity_fp32", [entry], outputs=[output])
    output.set_shared_memory("unknown", 32)
    with pytest.raises(InferenceServerException, match="Unable to find shared memory region"):
        client.infer("identity_fp32", [entry], outputs=[output])


def test_shared_memory_is_off_unless_allowed(serve: Serve, repository: Path) -> None:
    serving = serve(f"--model-repository={repository}")
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        assert client.get_system_shared_memory_status() == []
        with pytest.raises(InferenceServerException) as caught:
            client.register_system_shared_memory("io", "/nerite_test", 8)
    assert caught.value.status() == "501"
    assert caught.value.message() == (
        "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to "
        "enable."
    )


def test_classes(client: Any, door: Any) -> None:
    values = np.array([[0.25, 3, -1], [5, 4, 6]], np.float32)
    output = door.InferRequestedOutput("OUTPUT0", class_count=2)
    result = client.infer("labelled", [tensor(door, values, "FP32")], outputs=[output])
    assert result.as_numpy("OUTPUT0").tolist() == [
        [b"3.000000:1:dog", b"0.250000:0:cat"],
        [b"6.000000:2", b"5.000000:0:cat"],
    ]
    output = door.InferRequestedOutput("OUTPUT0", class_count=9)
    entry = tensor(door, np.array([7, 15], np.int32), "INT32")
    result = client.infer("identity_int32", [entry], outputs=[output])
    assert result.as_numpy("OUTPUT0").tolist() == [b"15:1", b"7:0"]


def test_types_without_classes(client: Any, door: Any) -> None:
    output = door.InferRequestedOutput("OUTPUT0", class_count=1)
    with pytest.raises(InferenceServerException, match="unsupported type 'FP16'"):
        entry = tensor(door, np.ones(2, np.float16), "FP16")
        client.infer("identity_fp16", [entry], outputs=[output])


def raw(serving: Serving, model: str, body: bytes) -> tuple[int, bytes, int]:
    connection = http.client.HTTPConnection(serving.http)
    headers = {"Inference-Header-Content-Length": "0"}
    connection.request("POST", f"/v2/models/{model}/infer", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    length = int(answer.getheader("Inference-Header-Content-Length") or 0)
    connection.close()
    return answer.status, content, length


def test_raw_requests(serving: Serving) -> None:
    values = np.arange(5, dtype=np.float32)
    status, content, length = raw(serving, "identity_fp32", values.tobytes())
    assert status == 200
    assert json.loads(content[:length])["outputs"][0]["shape"] == [5]
    assert content[length:] == values.tobytes()
    status, content, length = raw(serving, "one_string", b"a text")
    assert content[length:] == b"\6\0\0\0a text"
    status, content, _ = raw(serving, "identity_fp32", b"12345")
    assert (status, b"input byte size mismatch" in content) == (400, True)
    status, content, _ = raw(serving, "identity_string", b"12345")
    assert (status, b"must have input shape [1]" in content) == (400, True)
