"""Backend "square": answers IN with as many copies of it as it says, for tests."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """Parameters: CUSTOM_INFER_DELAY_NS, CUSTOM_OUTPUT_DELAY_NS and CUSTOM_CANCEL_DELAY_NS of
    each answer; CUSTOM_FAIL_COUNT answers fail and CUSTOM_EMPTY_COUNT are left out at the end."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"]).get("parameters", {})
        names = (
            "INFER_DELAY_NS",
            "OUTPUT_DELAY_NS",
            "CANCEL_DELAY_NS",
            "FAIL_COUNT",
            "EMPTY_COUNT",
        )
        self._settings = {name: _number(parameters, f"CUSTOM_{name}") for name in names}
        self._threads: list[threading.Thread] = []

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            (tensor,) = request.inputs()
            arguments = (request.get_response_sender(), tensor.as_numpy(), self._settings)
            thread = threading.Thread(target=_copy, args=arguments, daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def finalize(self) -> None:
        for thread in self._threads:
            thread.join()


def _copy(sender: Any, array: Any, settings: dict[str, int]) -> None:
    count = int(array.flat[0])
    good = count - settings["FAIL_COUNT"] - settings["EMPTY_COUNT"]
    for index in range(count):
        if sender.is_cancelled():
            time.sleep(settings["CANCEL_DELAY_NS"] / 1e9)
            error = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
            sender.send(pb_utils.InferenceResponse([], error), _FINAL)
            return
        time.sleep(settings["INFER_DELAY_NS"] / 1e9)
        if index >= count - settings["EMPTY_COUNT"]:
            continue
        sender.mark_computed()
        time.sleep(settings["OUTPUT_DELAY_NS"] / 1e9)
        if index >= good:
            error = pb_utils.TritonError("simulated failure", pb_utils.TritonError.UNKNOWN)
            sender.send(pb_utils.InferenceResponse([], error))
        else:
            out = np.full(array.shape, count, np.int32)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", out)]))
    sender.send(flags=_FINAL)


def _number(parameters: dict[str, Any], name: str) -> int:
    text = parameters.get(name, {}).get("string_value", "")
    return int(text) if text.isdigit() else 0
