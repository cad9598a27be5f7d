"""The example repositories of the backends are served, and each of their models answers."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

EXAMPLES = Path(__file__).parents[2] / "examples" / "backends"


def named(name: str, array: np.ndarray) -> triton.InferInput:
    asked = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    asked.set_data_from_numpy(array)
    return asked


@pytest.mark.parametrize("backend", ["onnx", "fastdeploy"])
def test_onnx(start_server: Any, backend: str) -> None:
    server = start_server("--model-repository", str(EXAMPLES / backend))
    white = np.full((1, 2, 2, 3), 255, np.uint8)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        found = client.infer("normalize", [named("PIXELS", white)]).as_numpy("NORMAL")
    np.testing.assert_allclose(found[0, 0, 0], [2.249, 2.429, 2.640], atol=1e-3)


def test_pytorch(start_server: Any) -> None:
    pytest.importorskip("torch")
    server = start_server("--model-repository", str(EXAMPLES / "pytorch"))
    row = np.array([[1, 3]], np.float32)
    half = np.array([[0.5]], np.float32)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        given = [named("first", row), named("second", row * 3), named("share", half)]
        assert client.infer("mix", given).as_numpy("OUTPUT__0").tolist() == [[2.0, 6.0]]
        found = client.infer("moments", [named("ARGS[0]", row)])
    assert found.as_numpy("RESULT[mean]").tolist() == [[2.0]]
    np.testing.assert_allclose(found.as_numpy("RESULT[spread]"), [[2**0.5]])


@pytest.mark.skipif(find_spec("paddle") is None, reason="paddlepaddle is not installed")
def test_paddle(start_server: Any) -> None:
    server = start_server("--model-repository", str(EXAMPLES / "paddle"))
    degrees = np.array([[0], [100]], np.float32)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        found = client.infer("fahrenheit", [named("CELSIUS", degrees)])
    np.testing.assert_allclose(found.as_numpy("tmp_1"), [[32], [212]], rtol=1e-5)


def test_a_backend_of_ones_own(start_server: Any) -> None:
    own = EXAMPLES / "own"
    server = start_server(
        *("--model-repository", str(own / "models")),
        *("--backend-directory", str(own / "backends")),
    )
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        found = client.infer("prices", [named("COLUMN", np.array([b"milk"], object))])
        assert found.as_numpy("VALUES").tolist() == [1.25, 1.5]
        said = "no column 'tea'; there are bread, milk"
        with pytest.raises(InferenceServerException, match=said):
            client.infer("prices", [named("COLUMN", np.array([b"tea"], object))])


def test_backends_for_tests(start_server: Any) -> None:
    server = start_server("--model-repository", str(EXAMPLES / "testing"))
    answers: list[Any] = []
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        texts = named("INPUT0", np.array([[b"as it is"]], object))
        assert client.infer("echo", [texts]).as_numpy("OUTPUT0").tolist() == [[b"as it is"]]
        client.start_stream(lambda result, error: answers.append(error or result))
        three = np.array([3], np.int32)
        client.async_stream_infer("copies", [named("IN", three)])
        delays = [named("DELAY", np.zeros(2, np.uint32)), named("WAIT", np.zeros(1, np.uint32))]
        client.async_stream_infer("countdown", [named("IN", np.array([2, 1], np.int32)), *delays])
        client.stop_stream()
    values = [(one.get_response().model_name, int(one.as_numpy("OUT")[0])) for one in answers]
    assert sorted(values) == [("copies", 3)] * 3 + [("countdown", 1), ("countdown", 2)]
