import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            sentence = pb_utils.get_input_tensor_by_name(request, "SENTENCE").as_numpy()[0]
            count = np.array([len(sentence.split())], np.int32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("WORDS", count)]))
        return responses
