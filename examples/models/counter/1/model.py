"""Counts from 1 to what it is asked for, one response for each number."""

import threading

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            # `execute` returns at once and takes the next request; the thread answers this one.
            threading.Thread(target=self._count, args=(request,)).start()

    def _count(self, request):
        (to,) = pb_utils.get_input_tensor_by_name(request, "TO").as_numpy()
        sender = request.get_response_sender()
        for number in range(1, to + 1):
            if sender.is_cancelled():  # the client has hung up
                break
            tensor = pb_utils.Tensor("NUMBER", np.array([number], np.int32))
            sender.send(pb_utils.InferenceResponse([tensor]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
