"""The sum and the difference of two vectors: what a Python model looks like."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        # What is slow and needed once, such as loading weights, belongs here.
        pb_utils.Logger.log_info(f"{args['model_name']} is ready in {args['model_instance_name']}")

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        first = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        second = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
        total = pb_utils.Tensor("OUTPUT0", first + second)
        difference = pb_utils.Tensor("OUTPUT1", first - second)
        return pb_utils.InferenceResponse(output_tensors=[total, difference])
