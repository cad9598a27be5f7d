"""The example repository is served, and each of its models answers."""

from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


def test_add_sub(start_server: Any) -> None:
    server = start_server("--model-repository", str(EXAMPLES))
    vectors = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    inputs = [triton.InferInput(f"INPUT{number}", [1, 4], "FP32") for number in (0, 1)]
    for tensor, vector in zip(inputs, vectors, strict=True):
        tensor.set_data_from_numpy(vector)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        answer = client.infer("add_sub", inputs)
    assert np.array_equal(answer.as_numpy("OUTPUT0"), vectors[0] + vectors[1])
    assert np.array_equal(answer.as_numpy("OUTPUT1"), vectors[0] - vectors[1])
