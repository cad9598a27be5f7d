"""What detection found, cut out for recognition."""

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
        seen, scores, geometry = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("SEEN", "SCORES", "GEOMETRY")
        )
        boxes = reading.boxes(scores, geometry)
        crops = pb_utils.Tensor("CROPS", reading.crops(seen, boxes))
        corners = np.array(boxes, np.float32).reshape(-1, 4)
        return pb_utils.InferenceResponse([crops, pb_utils.Tensor("BOXES", corners)])
