"""What a model says is told, though half of a surrogate pair is nothing that UTF-8 can say."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from .conftest import Serving, add_model

CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_STRING dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
CODE = r"""
    class TritonPythonModel:
        def execute(self, requests):
            text = pb_utils.get_input_tensor_by_name(requests[0], "IN").as_numpy()[0]
            if text == b"raise":
                raise ValueError("\ud800 lone")
            if text == b"error":
                return [pb_utils.InferenceResponse([], pb_utils.TritonError("\ud800 lone"))]
            name = "\ud800 lone" if text == b"name" else "OUT"
            said = np.array(["\ud800 lone" if text == b"text" else "x"], object)
            return [pb_utils.InferenceResponse([pb_utils.Tensor(name, said)])]
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("sayable")
    add_model(folder, "says", CONFIG, CODE)
    with Serving(f"--model-repository={folder}") as running:
        yield running


def post(serving: Serving, verb: str, document: Any) -> tuple[int, str]:
    connection = http.client.HTTPConnection(serving.http, timeout=20)
    connection.request("POST", f"/v2/models/says/{verb}", json.dumps(document))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize("verb", ["infer", "generate", "generate_stream"])
@pytest.mark.parametrize("what", ["raise", "error", "name", "text"])
def test_over_http(serving: Serving, verb: str, what: str) -> None:
    entry = {"name": "IN", "datatype": "BYTES", "shape": [1], "data": [what]}
    document = {"inputs": [entry]} if verb == "infer" else {"IN": what}
    status, text = post(serving, verb, document)
    assert status >= 400
    assert r"\\ud800 lone" in text or what == "text"  # which no tensor of bytes holds


@pytest.mark.parametrize("what", ["raise", "error", "name"])
def test_over_grpc(serving: Serving, what: str) -> None:
    door = tritonclient.grpc
    entry = door.InferInput("IN", [1], "BYTES")
    entry.set_data_from_numpy(np.array([what], object))
    told: list[Any] = []
    with door.InferenceServerClient(serving.grpc) as client:
        with pytest.raises(InferenceServerException, match="lone"):
            client.infer("says", [entry], client_timeout=20)
        client.start_stream(lambda result, error: told.append(error))
        client.async_stream_infer("says", [entry])
        client.stop_stream()
    assert r"\ud800 lone" in str(told[0])
