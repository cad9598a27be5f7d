"""Counts down, an answer at each step."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            left = tensors["FROM"] if tensors["START"].item() else tensors["LEFT"] - 1
            outputs = [pb_utils.Tensor(name, left) for name in ("NUMBER", "NEW_LEFT")]
            sender = request.get_response_sender()
            sender.send(pb_utils.InferenceResponse(outputs))
            if left.item() > 0:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            else:
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
