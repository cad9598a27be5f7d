"""The bytes of a picture file, as detection wants to see it."""

import io
import sys
from pathlib import Path

from PIL import Image

import triton_python_backend_utils as pb_utils

sys.path.append(str(Path(__file__).parents[3]))
import reading  # noqa: E402


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        data = pb_utils.get_input_tensor_by_name(request, "PICTURE").as_numpy().tobytes()
        try:
            picture = Image.open(io.BytesIO(data))
            seen = reading.for_detection(picture)
        except OSError:
            text = "PICTURE must be the bytes of a picture file, such as PNG or JPEG"
            error = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error)
        return pb_utils.InferenceResponse([pb_utils.Tensor("SEEN", seen)])
