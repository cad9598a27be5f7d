"""Backend "implicit_state": does to its state what TEST_CASE says, for tests of implicit state."""

from __future__ import annotations

from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """INPUT, TEST_CASE and the state INPUT_STATE, all [1] INT32.

    Case 0 answers with a state that no config declares, 1 answers with INPUT and the state added
    up and leaves the state as it is, 2 makes the sum the state as well.
    """

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        case = int(inputs["TEST_CASE"].flat[0])
        if case == 0:
            state = pb_utils.Tensor("undefined_state", np.zeros(1, np.int32))
            return pb_utils.InferenceResponse([state])
        total = inputs["INPUT"] + inputs["INPUT_STATE"]
        names = ("OUTPUT",) if case == 1 else ("OUTPUT", "OUTPUT_STATE")
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, total) for name in names])
