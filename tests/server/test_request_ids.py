"""A request's id comes back with its answer, whatever the form, the first time and later."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from .conftest import Serving

CONFIG = """
backend: "python"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] },
         { name: "ID" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
CODE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            name = np.array([request.request_id().encode()], dtype=object)
            given = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            tensors = [pb_utils.Tensor("OUT", given), pb_utils.Tensor("ID", name)]
            answers.append(pb_utils.InferenceResponse(tensors))
        return answers
"""
IDS = ["", "one", "two", 'quo"te', "back\\slash", "line\nend", "ünï", "one"]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name in ("first", "second"):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(CONFIG)
        (folder / name / "1" / "model.py").write_text(CODE)
    made = Serving("--model-repository", str(folder))
    yield made
    assert made.stop() == 0


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_ids(serving: Serving, protocol: str, binary: bool) -> None:
    library: Any = getattr(tritonclient, protocol)
    client = library.InferenceServerClient(getattr(serving, protocol))
    forms = {"binary_data": binary} if protocol == "http" else {}
    wanted = [library.InferRequestedOutput(name, **forms) for name in ("OUT", "ID")]
    for index, name in enumerate(IDS):
        for model in ("first", "second"):
            tensor = np.arange(index % 3 + 1, dtype=np.int32)
            given = library.InferInput("IN", list(tensor.shape), "INT32")
            given.set_data_from_numpy(tensor, **forms)
            answer = client.infer(model, [given], request_id=name, outputs=wanted)
            found = (
                answer.get_response(as_json=True) if protocol == "grpc" else answer.get_response()
            )
            assert (found.get("id", ""), found["model_name"]) == (name, model)
            assert answer.as_numpy("ID").tolist() in ([name.encode()], [name])
            np.testing.assert_array_equal(answer.as_numpy("OUT"), tensor)
    client.close()


@pytest.mark.parametrize("place", ["first", "last"])
def test_an_id_is_the_requests_own(serving: Serving, place: str) -> None:
    """A parameter of that name is none."""
    rest = {
        "inputs": [{"name": "IN", "datatype": "INT32", "shape": [1], "data": [4]}],
        "parameters": {"id": "a parameter"},
    }
    for name in ("a", "b"):
        document = {"id": name, **rest} if place == "first" else {**rest, "id": name}
        body = json.dumps(document, separators=(",", ":")).encode()
        headers = {"Inference-Header-Content-Length": str(len(body))}
        url = f"http://{serving.http}/v2/models/first/infer"
        with urlopen(Request(url, body, headers)) as answer:
            found = json.load(answer)
        assert found["id"] == name
        assert found["outputs"][1]["data"] == [name]


@pytest.mark.parametrize("name", [7, None, ["a"]])
def test_an_id_that_is_no_text_is_refused(serving: Serving, name: Any) -> None:
    entry = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [4]}
    body = json.dumps({"id": name, "inputs": [entry]}).encode()
    request = Request(f"http://{serving.http}/v2/models/first/infer", body)
    with pytest.raises(OSError, match="500"):
        urlopen(request)
