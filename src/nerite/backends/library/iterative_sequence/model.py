"""Backend "iterative_sequence": counts down from INPUT, a step for each rescheduling, for tests."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils

_STEP_SECONDS = 0.5


class TritonPythonModel:
    """INPUT [1] INT32; OUTPUT [1] is one less with each answer, the last one 0."""

    def initialize(self, args: dict[str, str]) -> None:
        self._left: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            (tensor,) = [one for one in request.inputs() if one.name() == "INPUT"]
            name = request.correlation_id()
            left = self._left.pop(name, int(tensor.as_numpy().flat[0])) - 1
            time.sleep(_STEP_SECONDS)
            sender = request.get_response_sender()
            out = np.full(tensor.as_numpy().shape, left, np.int32)
            response = pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", out)])
            if left > 0:
                self._left[name] = left
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                sender.send(response)
            else:
                sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
