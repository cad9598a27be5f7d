"""An answer that takes its time, and says how often the model was asked."""

import time

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.asked = 0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep(0.2)
        self.asked += 1
        question = request.inputs()[0].as_numpy()[0].decode()
        text = f"{question[::-1]} (execution {self.asked})"
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWER", np.array([text], object))])
