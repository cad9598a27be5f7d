"""Backend "sequence": the sum of all that a sequence has sent, for tests of direct batching.

Each place in a batch belongs to one sequence, as the direct scheduler promises.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils

_CONTROLS = ["READY", "START"]


class TritonPythonModel:
    """INPUT [n] INT32 and the controls START and READY; OUTPUT [n] is the sum, n times.

    Parameter: execute_delay_ms.
    """

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        controls = config.get("sequence_batching", {}).get("control_input", [])
        if sorted(one["name"] for one in controls) != _CONTROLS:
            raise ValueError("'START' and 'READY' must be configured as the control inputs")
        parameters = config.get("parameters", {})
        text = parameters.get("execute_delay_ms", {}).get("string_value") or "0"
        self._delay = int(text) / 1000
        self._sums = [0] * max(1, config.get("max_batch_size", 0))

    def execute(self, requests: list[Any]) -> list[Any]:
        time.sleep(self._delay)
        return [self._answer(place, request) for place, request in enumerate(requests)]

    def _answer(self, place: int, request: Any) -> Any:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        given = inputs["INPUT"]
        if given.ndim > 1 and given.shape[0] != 1:
            text = "unable to execute more than one timestep at a time"
            error = pb_utils.TritonError(text, pb_utils.TritonError.UNSUPPORTED)
            return pb_utils.InferenceResponse([], error)
        if inputs["READY"].flat[0]:
            before = 0 if inputs["START"].flat[0] else self._sums[place]
            self._sums[place] = before + int(given.sum())
        out = np.full(given.shape, self._sums[place], np.int32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", out)])
