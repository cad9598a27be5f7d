"""Adds each request's value to what its sequence has come to."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "VALUE").as_numpy()
            total = pb_utils.get_input_tensor_by_name(request, "TOTAL").as_numpy()
            tensors = [pb_utils.Tensor(name, total + value) for name in ("SUM", "NEW_TOTAL")]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
