"""KServe v2 through both protocols, with tritonclient unchanged."""

import http.client
import json
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from .conftest import TYPES, Serving


@pytest.fixture(params=["http", "grpc"])
def door(request: pytest.FixtureRequest) -> Any:
    return {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]


@pytest.fixture
def client(door: Any, serving: Serving) -> Any:
    url = serving.http if door is tritonclient.http else serving.grpc
    with door.InferenceServerClient(url) as opened:
        yield opened


def tensor(door: Any, name: str, values: np.ndarray, kind: str) -> Any:
    entry = door.InferInput(name, list(values.shape), kind)
    entry.set_data_from_numpy(values)
    return entry


def two(door: Any, shape: tuple[int, ...] = (4,)) -> list[Any]:
    values = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return [tensor(door, f"INPUT{index}", values, "FP32") for index in (0, 1)]


def test_health_and_metadata(client: Any, door: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("add_sub")
    assert client.is_model_ready("add_sub", "1")
    extra = {"as_json": True} if door is tritonclient.grpc else {}
    assert client.get_server_metadata(**extra)["name"] == "triton"
    metadata = client.get_model_metadata("add_sub_batch", **extra)
    assert metadata["versions"] == ["1"]
    shape = [int(dim) for dim in metadata["inputs"][0]["shape"]]
    assert (metadata["inputs"][0]["name"], shape) == ("INPUT0", [-1, 4])
    config = client.get_model_config("add_sub_batch", **extra)
    config = config.get("config", config)
    assert (config["name"], config["max_batch_size"]) == ("add_sub_batch", 8)


def test_infer(client: Any, door: Any) -> None:
    result = client.infer("add_sub", two(door), request_id="seven")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), [0, 2, 4, 6])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), [0, 0, 0, 0])
    answer = result.get_response()
    assert (answer["id"] if isinstance(answer, dict) else answer.id) == "seven"


def test_only_the_outputs_asked_for(client: Any, door: Any) -> None:
    result = client.infer("add_sub", two(door), outputs=[door.InferRequestedOutput("OUTPUT1")])
    assert result.as_numpy("OUTPUT1") is not None
    assert result.as_numpy("OUTPUT0") is None


def test_batch(client: Any, door: Any) -> None:
    result = client.infer("add_sub_batch", two(door, (3, 4)))
    assert result.as_numpy("OUTPUT0").shape == (3, 4)


def sample(kind: str) -> np.ndarray:
    if kind == "STRING":
        return np.array([b"", "snow ❄".encode(), b"x" * 300], dtype=object)
    if kind == "BF16":
        return np.array([0, -1.5, 3e38], ml_dtypes.bfloat16)
    if kind == "BOOL":
        return np.array([True, False, True])
    dtype = np.dtype(kind.lower().replace("fp", "float"))
    if dtype.kind == "f":
        return np.array([0, -1.5, np.finfo(dtype).max, np.inf], dtype)
    return np.array([0, 1, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype)


@pytest.mark.parametrize("kind", TYPES)
def test_every_datatype_comes_back_as_it_went(client: Any, door: Any, kind: str) -> None:
    values = sample(kind)
    triton = "BYTES" if kind == "STRING" else kind
    result = client.infer(f"identity_{kind.lower()}", [tensor(door, "INPUT0", values, triton)])
    found = result.as_numpy("OUTPUT0")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_large_and_empty_tensors(client: Any, door: Any) -> None:
    large = np.random.default_rng(0).random(1 << 21, dtype=np.float32)
    for values in (large, np.empty(0, np.float32)):
        result = client.infer("identity_fp32", [tensor(door, "INPUT0", values, "FP32")])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values)


@pytest.mark.parametrize(
    ("model", "names", "shape", "kind", "expected"),
    [
        ("nothing", ["INPUT0", "INPUT1"], (4,), "FP32", "unknown model: 'nothing' is not found"),
        ("add_sub", ["INPUT0", "INPUTX"], (4,), "FP32", "unexpected inference input 'INPUTX'"),
        ("add_sub", ["INPUT0"], (4,), "FP32", "expected 2 inputs but got 1 inputs for model"),
        ("add_sub", ["INPUT0", "INPUT1"], (3,), "FP32", "Expected [4], got [3]"),
        ("add_sub", ["INPUT0", "INPUT1"], (4,), "INT32", "data-type is 'INT32', but model"),
        ("add_sub_batch", ["INPUT0", "INPUT1"], (4,), "FP32", "Expected [-1,4], got [4]. NOTE"),
        ("add_sub_batch", ["INPUT0", "INPUT1"], (9, 4), "FP32", "batch-size must be <= 8"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    client: Any, door: Any, model: str, names: list[str], shape: Any, kind: str, expected: str
) -> None:
    dtype = np.float32 if kind == "FP32" else np.int32
    inputs = [tensor(door, name, np.zeros(shape, dtype), kind) for name in names]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs)
    assert expected in caught.value.message()
    codes = ("404", "StatusCode.NOT_FOUND") if model == "nothing" else (
        "400", "StatusCode.INVALID_ARGUMENT")  # fmt: skip
    assert caught.value.status() in codes
    client.infer("add_sub", two(door))


@pytest.mark.parametrize(
    ("kind", "count", "expected"),
    [
        ("FP32", 3, "input byte size mismatch for input 'INPUT1' for model"),
        ("BYTES", 3, "expected 4 string elements for inference input 'INPUT1' for model"),
        ("BYTES", 6, "unexpected number of string elements 5 for inference input 'INPUT1' for"),
    ],
)
def test_of_data_that_do_not_fit_the_last_is_named(
    client: Any, door: Any, kind: str, count: int, expected: str
) -> None:
    values = np.zeros(count, np.float32) if kind == "FP32" else np.full(count, b"x", object)
    inputs = [tensor(door, f"INPUT{index}", values, kind) for index in (0, 1)]
    for one in inputs:
        one.set_shape([4])
    for id in ("", "one", "two"):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("add_sub", inputs, request_id=id)
        said = f"[request id: {id or '<id_unknown>'}] {expected}"
        assert caught.value.message()[: len(said)] == said


def test_unknown_version(client: Any, door: Any) -> None:
    with pytest.raises(InferenceServerException, match="version 7 is not found"):
        client.infer("add_sub", two(door), model_version="7")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("raise", "RuntimeError: a bad day"),
        ("error", "not for you"),
        ("short", "Number of InferenceResponse objects do not match"),
    ],
)
def test_a_model_that_fails_answers_and_lives_on(
    client: Any, door: Any, what: str, expected: str
) -> None:
    def ask(text: str) -> Any:
        values = np.array([text.encode()], dtype=object)
        return client.infer("talks", [tensor(door, "INPUT0", values, "BYTES")])

    with pytest.raises(InferenceServerException) as caught:
        ask(what)
    assert expected in caught.value.message()
    assert "worker.py" not in caught.value.message()
    assert ask("fine").as_numpy("OUTPUT0")[0] == b"fine"


def post(serving: Serving, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(serving.http)
    connection.request("POST", path, body, {key.replace("_", "-"): headers[key] for key in headers})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text else None


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "INPUT0", "datatype": "FP32", "shape": [2], "data": [1, 2], **changes}


def test_json_in_and_out(serving: Serving) -> None:
    body = json.dumps({"inputs": [entry(shape=[2, 2], data=[[1, 2], [3, 4]])]}).encode()
    status, answer = post(serving, "/v2/models/identity_fp32/infer", body)
    assert status == 400  # dims are [-1]: one dimension
    body = json.dumps({"id": "a", "inputs": [entry(data=[[1], [2.5]])]}).encode()
    status, answer = post(serving, "/v2/models/identity_fp32/infer", body)
    assert status == 200
    assert answer == {
        "model_name": "identity_fp32",
        "model_version": "1",
        "id": "a",
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [2], "data": [1.0, 2.5]}],
    }


def test_json_keeps_large_integers_and_text(serving: Serving) -> None:
    large = [2**64 - 1, 2**53 + 1]
    body = json.dumps({"inputs": [entry(datatype="UINT64", data=large)]}).encode()
    _, answer = post(serving, "/v2/models/identity_uint64/infer", body)
    assert answer["outputs"][0]["data"] == large
    body = json.dumps({"inputs": [entry(datatype="BYTES", data=["雪", ""])]}).encode()
    _, answer = post(serving, "/v2/models/identity_string/infer", body)
    assert answer["outputs"][0]["data"] == ["雪", ""]


@pytest.mark.parametrize(
    ("body", "length", "status", "expected"),
    [
        (b"{", None, 500, "failed to parse the request JSON buffer"),
        (b"[]", None, 500, "non-object"),
        (b"{}", None, 500, "Unable to parse 'inputs'"),
        ({"data": [1, 2, 3]}, None, 500, "Shape does not match true shape of 'data' field"),
        ({"data": [1]}, None, 500, "shape does not match true shape"),
        ({"data": ["a", "b"]}, None, 500, "Unable to parse 'data'"),
        ({"data": [True, 1]}, None, 500, "Unable to parse 'data'"),
        ({"shape": [-2]}, None, 500, "non-unsigned-integer as unsigned-integer"),
        ({"shape": [2**62, 8]}, None, 400, "causes total element count to exceed maximum size"),
        ({"shape": [2**62]}, None, 400, "byte size overflow for input 'INPUT0': element count ("),
        (b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}", None, 400, "nesting depth exceeds"),
        ({"datatype": "FLOAT"}, None, 400, "invalid datatype"),
        ({"datatype": "FP16"}, None, 400, "receiving FP16 data via JSON is not supported"),
        (b'{"inputs":[]}', 99, 400, "inference header size should be in range (0, 13), got: 99"),
        (b'{"inputs":[]}abcd', 13, 400, "unexpected additional input data"),
    ],
)
def test_a_bad_body(
    serving: Serving, body: Any, length: int | None, status: int, expected: str
) -> None:
    if isinstance(body, dict):
        body = json.dumps({"inputs": [entry(**body)]}).encode()
    headers = {} if length is None else {"Inference_Header_Content_Length": str(length)}
    found, answer = post(serving, "/v2/models/identity_fp32/infer", body, **headers)
    assert (found, expected in answer["error"]) == (status, True), answer


def test_a_model_that_is_not_there_is_not_ready(serving: Serving) -> None:
    """gRPC answers, as clients of Triton expect; HTTP has 404 to say it with."""
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        assert not client.is_model_ready("nothing")
        assert not client.is_model_ready("add_sub", "99")
        with pytest.raises(InferenceServerException, match="version"):
            client.is_model_ready("add_sub", "newest")


def test_the_index_takes_no_nested_ready(serving: Serving) -> None:
    body = b'{"ready":' + b"[" * 5000 + b"]" * 5000 + b"}"
    for asked in (body, b'{"ready":1}'):
        status, answer = post(serving, "/v2/repository/index", asked)
        assert (status, answer["error"]) == (400, "Invalid value for 'ready': expected a boolean")


def test_a_body_cut_short(serving: Serving) -> None:
    head = json.dumps(
        {"inputs": [{**entry(), "parameters": {"binary_data_size": 8}, "data": None}]}
    ).replace(', "data": null', "")
    path = "/v2/models/identity_fp32/infer"
    length = {"Inference_Header_Content_Length": str(len(head))}
    status, answer = post(serving, path, head.encode() + b"1234", **length)
    assert (status, answer["error"]) == (
        400,
        "unexpected size for input 'INPUT0', expecting 4 additional bytes for model "
        "'identity_fp32'",
    )
    status, _ = post(serving, path, head.encode() + bytes(8), **length)
    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/models/nothing/ready", 404),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/add_sub/versions/1", 200),
        ("GET", "/v2/models/add_sub/versions/7", 404),
        ("GET", "/v2/models/add_sub/", 404),
        ("GET", "/v3", 404),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/models/add_sub/infer", 405),
        ("GET", "/metrics", 200),
    ],
)
def test_status_of_a_path(serving: Serving, method: str, path: str, status: int) -> None:
    connection = http.client.HTTPConnection(serving.http)
    connection.request(method, path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == status


_EXPLICIT = "unexpected explicit tensor data for input tensor 'INPUT0' for model '{}'"


@pytest.mark.parametrize(
    ("kind", "contents", "expected"),
    [
        ("FP32", {"fp32_contents": [1.0] * 3}, "[request id: a] input byte size mismatch for input "
         "'INPUT0' for model '{}'. Expected 16, got 12"),
        ("FP32", {}, "[request id: a] input byte size mismatch for input 'INPUT0' for model '{}'. "
         "Expected 16, got 0"),
        ("BYTES", {"bytes_contents": [b"x"] * 3}, "[request id: a] expected 4 string elements for "
         "inference input 'INPUT0' for model '{}', got 3"),
        ("FP32", {"int_contents": [1] * 4}, _EXPLICIT + " of type 'INT32', expected datatype "
         "'FP32', whose values go in fp32_contents"),
        ("BF16", {}, "[request id: a] input byte size mismatch for input 'INPUT0' for model '{}'. "
         "Expected 8, got 0"),
        ("FP16", {"fp32_contents": [1.0] * 4}, _EXPLICIT + " of type 'FP32', expected datatype "
         "'FP16', whose values go in raw_input_contents"),
        ("FP32", {"fp32_contents": [1.0] * 4, "fp64_contents": [1.0] * 4}, _EXPLICIT + ", binary "
         "data was already supplied."),
    ],
)  # fmt: skip
def test_explicit_contents_that_do_not_fit(
    serving: Serving, kind: str, contents: dict[str, Any], expected: str
) -> None:
    model = f"identity_{'string' if kind == 'BYTES' else kind.lower()}"
    message = tritonclient.grpc.service_pb2.ModelInferRequest(model_name=model, id="a")
    entry = message.inputs.add(name="INPUT0", datatype=kind, shape=[4])
    entry.contents.SetInParent()
    for field, values in contents.items():
        getattr(entry.contents, field).extend(values)
    with (
        tritonclient.grpc.InferenceServerClient(serving.grpc) as opened,
        pytest.raises(grpc.RpcError) as caught,
    ):
        opened._client_stub.ModelInfer(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == expected.format(model)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/add_sub/versions/x"),
        ("GET", "/v2/models/add_sub/versions/"),
        ("GET", "/v2/models/add_sub/versions/-1/ready"),
        ("POST", "/v2/models/add_sub/versions/x/infer"),
        ("POST", "/v2/models/add_sub/versions//infer"),
        ("POST", "/v2/models//infer"),
        ("GET", "/v2/models//ready"),
        ("POST", "/v2/models//trace/setting"),
        ("POST", "/v2/repository/models//load"),
        ("GET", "/v2/systemsharedmemory/region//status"),
    ],
)
def test_a_path_that_names_nothing(serving: Serving, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(serving.http)
    connection.request(method, path)
    answer = connection.getresponse()
    said = json.loads(answer.read())["error"]
    connection.close()
    assert (answer.status, said[:9]) == (404, "Not Found")


def test_metrics_count_requests(serving: Serving) -> None:
    def count(address: str) -> int:
        connection = http.client.HTTPConnection(address)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        line = 'nv_inference_request_success{model="identity_int8",version="1"} '
        return int(text.split(line)[1].split("\n")[0])

    before = count(serving.metrics)
    body = json.dumps({"inputs": [entry(datatype="INT8")]}).encode()
    post(serving, "/v2/models/identity_int8/infer", body)
    assert count(serving.metrics) == count(serving.http) == before + 1


def test_a_shape_that_no_memory_could_hold(serving: Serving) -> None:
    """Nor where a dimension of 0 leaves nothing to hold."""
    shape = [0, 2**62]
    entry = {"name": "INPUT0", "shape": shape, "datatype": "FP32", "data": []}
    connection = http.client.HTTPConnection(serving.http)
    connection.request(
        "POST", "/v2/models/identity_fp32/infer", json.dumps({"inputs": [entry]}).encode()
    )
    answer = connection.getresponse()
    said = json.loads(answer.read())["error"]
    connection.close()
    assert (answer.status, said[:35]) == (400, "byte size overflow for input 'INPUT")
    message = tritonclient.grpc.service_pb2.ModelInferRequest(
        model_name="identity_fp32", raw_input_contents=[b""]
    )
    message.inputs.add(name="INPUT0", datatype="FP32", shape=shape)
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as opened:
        stub = opened._client_stub
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == said
