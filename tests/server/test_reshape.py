"""Models that see their tensors in another shape than their clients."""

from pathlib import Path

import numpy as np
import pytest

from nerite import InferenceError, Request, SyncServer

from .conftest import add_model

# Answers with the shape that it sees, and with its input.
SEES = """
    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                seen = request.inputs()[0].as_numpy()
                shape = np.array([seen.shape], np.int64)
                tensors = [pb_utils.Tensor("SHAPE", shape), pb_utils.Tensor("OUTPUT", seen)]
                responses.append(pb_utils.InferenceResponse(tensors))
            return responses
"""


def config(batch: int, dims: str, reshape: str, output: str, rank: int) -> str:
    both = f"reshape {{ shape: {reshape} }}"
    return f"""
        backend: "python" max_batch_size: {batch}
        input {{ name: "INPUT" data_type: TYPE_FP32 dims: {dims} {both} }}
        output {{ name: "OUTPUT" data_type: TYPE_FP32 dims: {output} {both} }}
        output {{ name: "SHAPE" data_type: TYPE_INT64 dims: {[rank] if batch else [1, rank]} }}
    """


@pytest.mark.parametrize(
    ("batch", "dims", "reshape", "output", "given", "seen", "answered"),
    [
        (0, "[ 2, 3 ]", "[ 6 ]", "[ 3, 2 ]", (2, 3), [6], (3, 2)),
        (4, "[ 2, 3 ]", "[ 6 ]", "[ 3, 2 ]", (2, 2, 3), [2, 6], (2, 3, 2)),
        (4, "[ 1 ]", "[]", "[ 1, 1 ]", (3, 1), [3], (3, 1, 1)),
        (0, "[ 2, 4, -1, 6 ]", "[ 8, -1, 1, 6 ]", "[ 4, 2, -1, 6 ]",
         (2, 4, 5, 6), [8, 5, 1, 6], (4, 2, 5, 6)),
    ],
)  # fmt: skip
def test_both_ways(
    tmp_path: Path,
    batch: int,
    dims: str,
    reshape: str,
    output: str,
    given: tuple[int, ...],
    seen: list[int],
    answered: tuple[int, ...],
) -> None:
    add_model(tmp_path, "m", config(batch, dims, reshape, output, len(seen)), SEES)
    data = np.arange(np.prod(given), dtype=np.float32).reshape(given)
    with SyncServer(tmp_path) as server:
        response = server.infer(Request("m", {"INPUT": data})).one()
        assert response.outputs["SHAPE"].ravel().tolist() == seen
        assert response.outputs["OUTPUT"].shape == answered
        assert np.array_equal(response.outputs["OUTPUT"].ravel(), data.ravel())
        with pytest.raises(InferenceError, match="unexpected shape for input 'INPUT'"):
            server.infer(Request("m", {"INPUT": data.reshape(-1)}))


def test_an_output_of_another_shape_is_an_error(tmp_path: Path) -> None:
    model = """
        backend: "python"
        input { name: "INPUT" data_type: TYPE_FP32 dims: [ -1 ] }
        output { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } }
        output { name: "SHAPE" data_type: TYPE_INT64 dims: [ 1, 1 ] }
    """
    add_model(tmp_path, "m", model, SEES)
    with (
        SyncServer(tmp_path) as server,
        pytest.raises(InferenceError, match="does not fit its reshape"),
    ):
        server.infer(Request("m", {"INPUT": np.zeros(4, np.float32)})).one()
