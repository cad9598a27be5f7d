"""Keys, restrictions and limits of a real server, through NVIDIA's unmodified clients."""

import contextlib
import gzip
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from .conftest import ADD_SUB, ADD_SUB_CODE, Serve, Serving, add_model


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_model(tmp_path / "models", "add_sub", ADD_SUB, ADD_SUB_CODE)
    return tmp_path / "models"


Clients = Callable[[Serving], list[Any]]


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Both clients of a server, closed at the test's end."""
    with contextlib.ExitStack() as stack:
        yield lambda serving: [
            stack.enter_context(tritonclient.http.InferenceServerClient(serving.http)),
            stack.enter_context(tritonclient.grpc.InferenceServerClient(serving.grpc)),
        ]


def infer(client: Any, **headers: str) -> None:
    door = tritonclient.http if "http" in type(client).__module__ else tritonclient.grpc
    inputs = [door.InferInput(f"INPUT{index}", [4], "FP32") for index in (0, 1)]
    for one in inputs:
        one.set_data_from_numpy(np.ones(4, np.float32))
    result = client.infer("add_sub", inputs, headers=headers or None)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), [2, 2, 2, 2])


def test_api_keys(serve: Serve, repository: Path, tmp_path: Path, clients: Clients) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# the team's\nsesame\n")
    serving = serve(f"--model-repository={repository}", f"--api-key-file={keys}")
    for client in clients(serving):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("add_sub")
        infer(client, authorization="Bearer sesame")
        infer(client, **{"x-api-key": "sesame"})
        with pytest.raises(InferenceServerException, match="asks for an API key") as caught:
            infer(client)
        assert caught.value.status() in ("401", "StatusCode.UNAUTHENTICATED")
        with pytest.raises(InferenceServerException, match="not one of this server's"):
            infer(client, authorization="Bearer simsalabim")
        with pytest.raises(InferenceServerException):
            client.get_server_metadata()
    with grpc.insecure_channel(serving.grpc) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert check.status == health_pb2.HealthCheckResponse.SERVING
    connection = http.client.HTTPConnection(serving.http, timeout=10)
    connection.request("GET", "/v2/models/zzz/ready")  # which needs no key, and tells no names
    answer = connection.getresponse()
    text = "Request for unknown model: 'zzz' is not found"
    assert (answer.status, json.loads(answer.read())) == (404, {"error": text})
    connection.close()
    assert status(serving.metrics, "/metrics") == 401
    assert status(serving.metrics, "/metrics", Authorization="Bearer sesame") == 200


def test_api_keys_and_streams(serve: Serve, repository: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sesame\n")
    serving = serve(f"--model-repository={repository}", f"--api-key-file={keys}")
    stub = tritonclient.grpc.service_pb2_grpc.GRPCInferenceServiceStub
    with grpc.insecure_channel(serving.grpc) as channel:
        request = tritonclient.grpc.service_pb2.ModelInferRequest(model_name="nobody")
        with pytest.raises(grpc.RpcError) as caught:
            list(stub(channel).ModelStreamInfer(iter([request])))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        answers = stub(channel).ModelStreamInfer(
            iter([request]), metadata=[("authorization", "Bearer sesame")]
        )
        assert "'nobody' is not found" in next(answers).error_message


def test_a_key_file_that_cannot_be_used(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none\n")
    (tmp_path / "utf16").write_text("secret\n", encoding="utf-16")
    (tmp_path / "nul").write_text("# no mark\nsecret\n", encoding="utf-16-le")
    (tmp_path / "folder").mkdir()
    for name, expected in (
        ("keys", "holds no key"),
        ("none", "cannot be read: No such file or directory"),
        ("folder", "cannot be read: Is a directory"),
        ("utf16", "is not UTF-8 text: invalid start byte at byte 0"),
        ("nul", "has a control character in line 1"),
    ):
        path = tmp_path / name
        serving = serve(f"--api-key-file={path}")
        assert serving.wait() == 1
        assert serving.lines[-1].startswith(f"error: --api-key-file {path} {expected}")


def status(address: str, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_restricted_endpoints(serve: Serve, repository: Path, clients: Clients) -> None:
    serving = serve(
        f"--model-repository={repository}",
        "--http-restricted-api=inference,health:admin-key=admin-value",
        "--grpc-restricted-protocol=inference,health:admin-key=admin-value",
    )
    web, rpc = clients(serving)
    for client, key, text in (
        (web, "admin-key", "This API is restricted, expecting header 'admin-key'"),
        (
            rpc,
            "triton-grpc-protocol-admin-key",
            "This protocol is restricted, expecting header 'triton-grpc-protocol-admin-key'",
        ),
    ):
        with pytest.raises(InferenceServerException, match=text) as caught:
            infer(client)
        assert caught.value.status() in ("403", "StatusCode.UNAVAILABLE")
        with pytest.raises(InferenceServerException, match=text):
            infer(client, **{key: "wrong"})
        infer(client, **{key: "admin-value"})
        assert client.get_model_metadata("add_sub")
    assert status(serving.http, "/v2/health/live") == 403
    with pytest.raises(InferenceServerException, match="protocol is restricted"):
        rpc.is_server_live()


def test_pages_and_names(serve: Serve, repository: Path) -> None:
    serving = serve(f"--model-repository={repository}", "--cors-origin=https://ok.example")
    for address in (serving.http, serving.metrics):
        assert status(address, "/metrics", Host="evil.example") == 421
        assert status(address, "/metrics", Host="localhost") == 200
    path = "/v2/repository/index"
    assert status(serving.http, path, "POST", b"{}", Origin="https://evil.example") == 403
    assert status(serving.http, path, "POST", b"{}", Origin="https://ok.example") == 200


def test_limits(serve: Serve, repository: Path) -> None:
    serving = serve(
        f"--model-repository={repository}",
        "--http-max-input-size=1000",
        "--http-max-connections=2",
        "--http-request-timeout=0.5",
    )
    path = "/v2/models/add_sub/infer"
    connection = http.client.HTTPConnection(serving.http, timeout=10)
    for headers, body, text in (
        ({}, b" " * 1001, "request JSON size of 1001 bytes exceeds the maximum allowed input size"),
        (
            {"Inference-Header-Content-Length": "0"},
            b" " * 1001,
            "Raw input has a byte_size (1001 bytes) that exceeds the maximum allowed value of 1000",
        ),
        ({"Inference-Header-Content-Length": "1001"}, b" " * 1002, "request JSON size of 1001"),
    ):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        assert (answer.status, text in document["error"]) == (400, True), document
    # What follows the JSON are tensors, and they may be large.
    connection.request("POST", path, b"{}" + bytes(5000), {"Inference-Header-Content-Length": "2"})
    answer = connection.getresponse()
    assert b"--http-max-input-size" not in answer.read()
    host, port = serving.http.split(":")
    with socket.create_connection((host, int(port))) as slow:
        assert status(serving.http, "/v2") == 503
        slow.sendall(b"GET /")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    connection.close()


def test_limits_of_grpc(serve: Serve, repository: Path) -> None:
    serving = serve(
        f"--model-repository={repository}",
        "--grpc-max-connections=1",
        "--http-request-timeout=0.5",
    )
    host, port = serving.grpc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as silent:
        with socket.create_connection((host, int(port)), timeout=20) as second:
            assert b"--grpc-max-connections" in second.makefile("rb").read()
        assert silent.recv(100) == b""
    bomb = service_pb2.ModelInferRequest(raw_input_contents=[bytes(65 << 20)])
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(serving.grpc, options) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        with pytest.raises(grpc.RpcError, match="--http-max-input-size") as caught:
            infer(bomb, compression=grpc.Compression.Gzip, timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(serving: Serving, algorithm: str) -> None:
    door = tritonclient.http
    entry = door.InferInput("INPUT0", [100_000], "FP32")
    values = np.arange(100_000, dtype=np.float32) % 7
    entry.set_data_from_numpy(values)
    with door.InferenceServerClient(serving.http) as client:
        result = client.infer(
            "identity_fp32",
            [entry],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values)
    connection = http.client.HTTPConnection(serving.http)
    body = {"inputs": [{"name": "INPUT0", "shape": [1], "datatype": "FP32", "data": [1]}]}
    connection.request(
        "POST",
        "/v2/models/identity_fp32/infer",
        json.dumps(body),
        {"Accept-Encoding": algorithm},
    )
    answer = connection.getresponse()
    assert answer.headers["Content-Encoding"] == algorithm
    assert len(answer.read()) == int(answer.headers["Content-Length"])
    connection.request("POST", "/v2/models/identity_fp32/infer", b"x", {"Content-Encoding": "br"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Accept-Encoding"]) == (501, "gzip, deflate")
    assert json.loads(answer.read()) == {"error": "Unsupported compression type"}
    connection.close()


TENSORS = {
    kind: [{"name": f"{kind.upper()}{i}", "data_type": "TYPE_FP32", "dims": [4]} for i in (0, 1)]
    for kind in ("input", "output")
}
ADD_SUB_CONFIG: dict[str, Any] = {"backend": "python", **TENSORS}


def test_files_in_a_load_request(serve: Serve, repository: Path, clients: Clients) -> None:
    code = (repository / "add_sub" / "1" / "model.py").read_bytes()
    config = json.dumps({"backend": "python", "max_batch_size": 0})
    flags = (f"--model-repository={repository}", "--model-control-mode=explicit")
    for client in clients(serve(*flags)):
        client.load_model("add_sub")
        with pytest.raises(InferenceServerException, match="'--allow-model-overrides'") as caught:
            client.load_model("add_sub", config=config, files={"file:1/model.py": code})
        assert caught.value.status() in ("501", "StatusCode.UNIMPLEMENTED")
    full = json.dumps(ADD_SUB_CONFIG)
    for client in clients(serve(*flags, "--allow-model-overrides")):
        client.load_model("add_sub", config=full, files={"file:1/model.py": code})
        infer(client)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("default_model_filename", {"default_model_filename": "../../outside.py"}),
        (
            "parameters['EXECUTION_ENV_PATH']",
            {"parameters": {"EXECUTION_ENV_PATH": {"string_value": "/usr"}}},
        ),
        ("runtime", {"runtime": "../outside.py"}),
        ("model_operations", {"model_operations": {"op_library_filename": ["outside.so"]}}),
        (
            "execution_accelerators",
            {"optimization": {"execution_accelerators": {
                "cpu_execution_accelerator": [{"name": "openvino"}]}}},
        ),
    ],
)  # fmt: skip
def test_code_in_the_config_of_a_load_request(
    serve: Serve, repository: Path, clients: Clients, field: str, change: dict[str, Any]
) -> None:
    (repository / "outside.py").write_text("raise SystemExit")
    flags = (f"--model-repository={repository}", "--model-control-mode=explicit")
    for client in clients(serve(*flags)):
        other = {"backend": "identity", "dynamic_batching": {}, "default_model_filename": "x"}
        client.load_model("add_sub", config=json.dumps({**ADD_SUB_CONFIG, **other}))
        client.load_model("add_sub", config=json.dumps(ADD_SUB_CONFIG))
        with pytest.raises(InferenceServerException, match="'--allow-model-overrides'") as caught:
            client.load_model("add_sub", config=json.dumps({**ADD_SUB_CONFIG, **change}))
        assert caught.value.status() in ("501", "StatusCode.UNIMPLEMENTED")
        assert f"'{field}'" in caught.value.message()
        infer(client)


def test_parameters_in_a_load_request(serve: Serve, repository: Path, clients: Clients) -> None:
    parameters = {"mode": {"string_value": "fast"}}
    flags = (f"--model-repository={repository}", "--model-control-mode=explicit")
    for client in clients(serve(*flags, "--allow-model-overrides")):
        client.load_model(
            "add_sub", config=json.dumps({**ADD_SUB_CONFIG, "parameters": parameters})
        )
        infer(client)


@pytest.mark.parametrize("name", ["../../../secret", "{}"])
def test_labels_from_outside_the_model(
    serve: Serve, repository: Path, clients: Clients, name: str
) -> None:
    secret = repository.parent / "secret"
    secret.write_text("secret\n")
    outputs = [{**one, "label_filename": name.format(secret)} for one in TENSORS["output"]]
    config = json.dumps({**ADD_SUB_CONFIG, "output": outputs})
    flags = (f"--model-repository={repository}", "--model-control-mode=explicit")
    for client in clients(serve(*flags)):
        with pytest.raises(InferenceServerException, match="is outside model directory"):
            client.load_model("add_sub", config=config)


ECHO = """
    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                said = np.array([request.parameters().encode()], dtype=object)
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("SAID", said)]))
            return answers
"""
ECHO_CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "SAID" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


def test_forwarded_headers(serve: Serve, tmp_path: Path, clients: Clients) -> None:
    add_model(tmp_path, "echo", ECHO_CONFIG, ECHO)
    flags = [f"--{door}-header-forward-pattern=my_.*|priority" for door in ("http", "grpc")]
    serving = serve(f"--model-repository={tmp_path}", *flags)
    headers = {"my_user": "me", "other": "x", "MY_Team": "we"}
    for client in clients(serving):
        web = "http" in type(client).__module__
        door = tritonclient.http if web else tritonclient.grpc
        entry = door.InferInput("IN", [1], "INT32")
        entry.set_data_from_numpy(np.zeros(1, np.int32))
        sent = {name if web else name.lower(): value for name, value in headers.items()}
        result = client.infer("echo", [entry], headers=sent, parameters={"my_user": "not me"})
        said = json.loads(result.as_numpy("SAID")[0])
        assert said == {"my_user": "me", "MY_Team" if web else "my_team": "we"}
        with pytest.raises(InferenceServerException, match="'priority' is reserved for Triton"):
            client.infer("echo", [entry], headers={"priority": "1"})
    answer = http.client.HTTPConnection(serving.http)
    answer.request("POST", "/v2/models/echo/generate", b'{"IN": 1}', {"my_user": "me"})
    assert json.loads(json.loads(answer.getresponse().read())["SAID"]) == {"my_user": "me"}
    answer.close()


def test_a_bomb(serving: Serving) -> None:
    """Refused at the limit, and nothing else is served more slowly for it."""
    bomb = gzip.compress(bytes(100 << 20), compresslevel=1)
    headers = {"Content-Encoding": "gzip"}
    connection = http.client.HTTPConnection(serving.http, timeout=30)
    connection.request("POST", "/v2/models/identity_fp32/infer", bomb, headers)
    assert status(serving.http, "/v2/health/live") == 200
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (
        400,
        "Decompressed data size exceeds the maximum allowed value of 67108864 bytes. "
        "Use --http-max-input-size to increase the limit.",
    )
    broken = b"x" * 10_000
    connection.request("POST", "/v2/models/identity_fp32/infer", broken, headers)
    answer = connection.getresponse()
    assert (answer.status, b"failed to decompress" in answer.read()) == (400, True)
    connection.close()
