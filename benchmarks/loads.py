"""The models that the request path is measured with, and the requests they are asked."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http
from tritonclient.utils import InferenceServerException, shared_memory

ADD_SUB = """
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
        { name: "INPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
         { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
SHARED = "identity 16 MiB, shared memory"
ADD_SUB_CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            outputs = [pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
"""
IDENTITY = """
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
IDENTITY_CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(
                        "OUTPUT0", pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
                    )
                ]
            )
            for request in requests
        ]
"""
MODELS = {
    "add_sub": (ADD_SUB, ADD_SUB_CODE),
    "add_sub_dyn": (ADD_SUB + "max_batch_size: 64 dynamic_batching { }", ADD_SUB_CODE),
    "identity_fp32": (IDENTITY, IDENTITY_CODE),
}


@dataclass(frozen=True)
class Load:
    """A request to repeat. headers: of HTTP; expected: the bytes its answer must end with."""

    name: str
    model: str
    body: bytes
    headers: dict[str, str]
    expected: bytes


def write_models(repository: Path) -> None:
    for name, (config, code) in MODELS.items():
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        (folder.parent / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "python"\n{config}')
        (folder / "model.py").write_text(code)


def binary(name: str, model: str, tensors: dict[str, np.ndarray], expected: bytes) -> Load:
    inputs = [
        {
            "name": key,
            "shape": list(value.shape),
            "datatype": "FP32",
            "parameters": {"binary_data_size": value.nbytes},
        }
        for key, value in tensors.items()
    ]
    document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    head = json.dumps(document, separators=(",", ":")).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Type": "application/octet-stream",
    }
    body = head + b"".join(value.tobytes() for value in tensors.values())
    return Load(name, model, body, headers, expected)


def loads() -> list[Load]:
    a, b = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
    right = (a + b).tobytes() + (a - b).tobytes()
    pair = {"INPUT0": a, "INPUT1": b}
    rows = {key: value.reshape(1, 4) for key, value in pair.items()}
    document = {
        "inputs": [
            {"name": key, "shape": [4], "datatype": "FP32", "data": value.tolist()}
            for key, value in pair.items()
        ]
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    return [
        binary("add_sub, binary", "add_sub", pair, right),
        Load("add_sub, JSON", "add_sub", body, {"Content-Type": "application/json"}, b"}]}"),
        binary("add_sub_dyn, binary", "add_sub_dyn", rows, right),
    ]


def large_load() -> Load:
    values = np.random.default_rng(0).random(1 << 22, dtype=np.float32)
    return binary("identity 16 MiB", "identity_fp32", {"INPUT0": values}, values.tobytes())


def mixed_loads() -> list[Load]:
    """Identity requests from 16 bytes to 1 MiB."""
    generator = np.random.default_rng(1)
    made = []
    for size in (4, 100, 3000, 10, 50_000, 1, 700, 1 << 18):
        values = generator.random(size, dtype=np.float32)
        tensors = {"INPUT0": values}
        made.append(binary("identity, mixed", "identity_fp32", tensors, values.tobytes()))
    return made


@contextmanager
def shared_load(http_ports: list[int]) -> Iterator[Load]:
    """16 MiB through system shared memory, registered with the servers at these ports."""
    size = 1 << 24
    values = np.random.default_rng(2).random(size // 4, dtype=np.float32)
    regions = [
        shared_memory.create_shared_memory_region(name, f"/nerite_{name}", size)
        for name in ("given", "found")
    ]
    clients = [tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}") for port in http_ports]
    try:
        shared_memory.set_shared_memory_region(regions[0], [values])
        for client in clients:
            for name in ("given", "found"):
                client.register_system_shared_memory(name, f"/nerite_{name}", size)
        place = {"shared_memory_byte_size": size}
        entry = {"name": "INPUT0", "shape": [size // 4], "datatype": "FP32"}
        document = {
            "inputs": [entry | {"parameters": place | {"shared_memory_region": "given"}}],
            "outputs": [
                {"name": "OUTPUT0", "parameters": place | {"shared_memory_region": "found"}}
            ],
        }
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        yield Load(SHARED, "identity_fp32", body, headers, b"}]}")
        found = shared_memory.get_contents_as_numpy(regions[1], np.float32, [size // 4])
        assert np.array_equal(found, values), "what came back is not what was given"
    finally:
        for client in clients:
            unregister(client)
            client.close()
        for region in regions:
            shared_memory.destroy_shared_memory_region(region)


def unregister(client: tritonclient.http.InferenceServerClient) -> None:
    """Once the last request is done that uses them: `wrk` does not wait for its answer."""
    for _ in range(100):
        try:
            client.unregister_system_shared_memory()
        except InferenceServerException:
            time.sleep(0.1)
        else:
            return
