"""Backend "query": says where its outputs would lie, for tests: always in this machine's memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils

_OUTPUTS = ("OUTPUT0", "OUTPUT1")
_UNKNOWN = pb_utils.TritonError.UNKNOWN


class TritonPythonModel:
    """TEST_BYTE_SIZE: of each output; TEST_FAIL_WITH_QUERY_RESULT: tell it in an error."""

    def execute(self, requests: list[Any]) -> list[Any]:
        anonymous = "TEST_ANONYMOUS" in os.environ
        if "TEST_FAIL_WITH_QUERY_RESULT" in os.environ:
            names = ("NULL",) if anonymous else _OUTPUTS
            error = pb_utils.TritonError("".join(f"{name} CPU 0; " for name in names), _UNKNOWN)
            return [pb_utils.InferenceResponse([], error) for _ in requests]
        size = int(os.environ.get("TEST_BYTE_SIZE", "2")) // (2 if anonymous else 1)
        zeros = np.zeros(size, np.uint8)
        tensors = [pb_utils.Tensor(name, zeros) for name in _OUTPUTS]
        return [pb_utils.InferenceResponse(tensors) for _ in requests]
