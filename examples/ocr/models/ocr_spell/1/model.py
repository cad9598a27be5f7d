"""Recognition's scores as words."""

import sys
from pathlib import Path

import numpy as np

import triton_python_backend_utils as pb_utils

sys.path.append(str(Path(__file__).parents[3]))
import reading  # noqa: E402


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        scores = pb_utils.get_input_tensor_by_name(request, "SCORES").as_numpy()
        words = np.array([word.encode() for word in reading.words(scores)], dtype=object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("WORDS", words)])
