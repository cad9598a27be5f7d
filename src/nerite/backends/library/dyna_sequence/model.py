"""Backend "dyna_sequence": the sum of all that a sequence has sent, for tests of oldest batching.

A sequence is known by its correlation id, which is added to the sum at the sequence's end.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils

_CONTROLS = ["CORRID", "END", "READY", "START"]


class TritonPythonModel:
    """INPUT [n] INT32 and the controls START, END, READY, CORRID; OUTPUT [n] is the sum, n times.

    Parameter: execute_delay_ms.
    """

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        controls = config.get("sequence_batching", {}).get("control_input", [])
        if sorted(one["name"] for one in controls) != _CONTROLS:
            raise ValueError(
                "'START', 'END, 'READY' and 'CORRID' must be configured as the control inputs"
            )
        parameters = config.get("parameters", {})
        text = parameters.get("execute_delay_ms", {}).get("string_value") or "0"
        self._delay = int(text) / 1000
        self._sums: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        time.sleep(self._delay)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        given = inputs["INPUT"]
        if given.ndim > 1 and given.shape[0] != 1:
            return _refusal("unable to execute more than one timestep at a time")
        found = inputs["CORRID"].flat[0]
        try:
            name = int(found)
        except ValueError:
            return _refusal(f"correlation id '{found.decode()}' is not a number")
        if inputs["READY"].flat[0]:
            before = 0 if inputs["START"].flat[0] else self._sums.get(name, 0)
            self._sums[name] = before + int(given.sum())
            if inputs["END"].flat[0]:
                self._sums[name] += name
        total = self._sums.get(name, 0)
        if inputs["END"].flat[0]:
            self._sums.pop(name, None)
        out = np.full(given.shape, total, np.int64).astype(np.int32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", out)])


def _refusal(text: str) -> Any:
    error = pb_utils.TritonError(text, pb_utils.TritonError.UNSUPPORTED)
    return pb_utils.InferenceResponse([], error)
