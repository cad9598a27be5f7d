"""Requests that are refused leave nothing behind: neither their tensors nor their regions."""

import gzip
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shared_memory
from tritonclient.utils import InferenceServerException

from .conftest import IDENTITY_CODE, Serve, add_model, identity

SIZE = 20_000_000
JUNK = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8).tobytes()


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(url, timeout=60)
    connection.request("POST", "/v2/models/echo/infer", body, headers)
    assert 400 <= connection.getresponse().status < 500
    connection.close()


def _binary(url: str, kind: str, data: bytes) -> None:
    tensor: dict[str, Any] = {"name": "INPUT0", "shape": [5], "datatype": kind}
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [tensor]}).encode()
    _post(url, head + data, {"Inference-Header-Content-Length": str(len(head))})


def _over_grpc(url: str, *, stream: bool) -> None:
    tensor = tritonclient.grpc.InferInput("INPUT0", [SIZE], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(JUNK, np.uint8))
    tensor.set_shape([5])
    errors: list[InferenceServerException | None] = []
    with tritonclient.grpc.InferenceServerClient(url) as client:
        if stream:
            client.start_stream(lambda result, error: errors.append(error))
            client.async_stream_infer("echo", [tensor])
            client.stop_stream()
        else:
            with pytest.raises(InferenceServerException, match="byte size mismatch"):
                client.infer("echo", [tensor])
    assert all(error is not None for error in errors)


REFUSED: dict[str, Callable[[str, str], None]] = {
    "more bytes than the shape says": lambda http, _: _binary(http, "UINT8", JUNK),
    "more strings than the shape says": lambda http, _: _binary(http, "BYTES", bytes(SIZE)),
    "the same over gRPC": lambda _, grpc: _over_grpc(grpc, stream=False),
    "and over a stream": lambda _, grpc: _over_grpc(grpc, stream=True),
    "no gzip": lambda http, _: _post(http, JUNK, {"Content-Encoding": "gzip"}),
    "half of it": lambda http, _: _post(
        http, gzip.compress(JUNK, 1)[:-10], {"Content-Encoding": "gzip"}
    ),
    "a bomb": lambda http, _: _post(
        http, gzip.compress(bytes(70_000_000)), {"Content-Encoding": "gzip"}
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_is_refused_leaves_no_memory_behind(
    serve: Serve, tmp_path: Path, what: str
) -> None:
    add_model(tmp_path, "echo", identity("UINT8"), IDENTITY_CODE)
    serving = serve(f"--model-repository={tmp_path}")
    process = psutil.Process(serving.process.pid)

    def held(times: int) -> int:
        for _ in range(times):
            REFUSED[what](serving.http, serving.grpc)
        return int(process.memory_info().rss)

    before = held(4)
    assert held(12) < before + 5 * SIZE


@pytest.mark.parametrize("protocol", [tritonclient.http, tritonclient.grpc])
@pytest.mark.parametrize("size", [12, 20])
def test_a_region_of_a_refused_request_can_be_unregistered(
    serve: Serve, tmp_path: Path, protocol: Any, size: int
) -> None:
    add_model(tmp_path, "echo", identity("FP32"), IDENTITY_CODE)
    serving = serve(f"--model-repository={tmp_path}", "--allow-client-shm=true")
    http = protocol is tritonclient.http
    client = protocol.InferenceServerClient(serving.http if http else serving.grpc)
    region = shared_memory.create_shared_memory_region("refused", "/refused", 64)
    try:
        client.register_system_shared_memory("refused", "/refused", 64)
        tensor = protocol.InferInput("INPUT0", [4], "FP32")
        tensor.set_shared_memory("refused", size)
        with pytest.raises(InferenceServerException, match="byte size mismatch"):
            client.infer("echo", [tensor])
        client.unregister_system_shared_memory("refused")
        assert not _regions(client)
    finally:
        shared_memory.destroy_shared_memory_region(region)
        client.close()


def _regions(client: Any) -> list[Any]:
    status = client.get_system_shared_memory_status()
    return list(status.regions if hasattr(status, "regions") else status)
