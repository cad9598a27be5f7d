import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            quiet = pb_utils.get_input_tensor_by_name(request, "QUIET").as_numpy()[0]
            loud = np.array([quiet.upper() + b"!"], object)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("LOUD", loud)]))
        return responses
