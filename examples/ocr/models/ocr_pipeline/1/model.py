"""Business logic scripting: detection, and recognition where something was found."""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import triton_python_backend_utils as pb_utils

sys.path.append(str(Path(__file__).parents[3]))
import reading  # noqa: E402

_SCORES, _GEOMETRY = "feature_fusion/Conv_7/Sigmoid:0", "feature_fusion/concat_3:0"


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        data = pb_utils.get_input_tensor_by_name(request, "PICTURE").as_numpy().tobytes()
        try:
            seen = reading.for_detection(Image.open(io.BytesIO(data)))
        except OSError:
            text = "PICTURE must be the bytes of a picture file, such as PNG or JPEG"
            error = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error)
        scores, geometry = _ask("text_detection", "input_images:0", seen, [_SCORES, _GEOMETRY])
        boxes = reading.boxes(scores, geometry)
        words = []
        if boxes:
            crops = reading.crops(seen, boxes)
            words = reading.words(*_ask("text_recognition", "input.1", crops, ["308"]))
        corners = np.array(boxes, np.float32).reshape(-1, 4)
        texts = np.array([word.encode() for word in words], dtype=object)
        tensors = [pb_utils.Tensor("WORDS", texts), pb_utils.Tensor("BOXES", corners)]
        return pb_utils.InferenceResponse(tensors)


def _ask(model, name, array, outputs):
    request = pb_utils.InferenceRequest(
        model_name=model,
        inputs=[pb_utils.Tensor(name, array)],
        requested_output_names=outputs,
    )
    response = request.exec()
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    found = [pb_utils.get_output_tensor_by_name(response, output) for output in outputs]
    return [tensor.as_numpy() for tensor in found]
