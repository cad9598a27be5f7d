import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[0].decode()
            sender = request.get_response_sender()
            for sentence in text.split("."):
                if sentence.strip():
                    value = np.array([sentence.strip().encode()], object)
                    output = pb_utils.Tensor("SENTENCE", value)
                    sender.send(pb_utils.InferenceResponse([output]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
