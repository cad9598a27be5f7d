"""Backend "repeat": one answer for each element of IN, each after its own DELAY, for tests."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """IN [n] INT32, DELAY [n] UINT32 ms, WAIT [1] UINT32 ms until the next request is taken;
    OUT [1] is the element and IDX [1] its place."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        if config.get("max_batch_size", 0) != 0:
            raise ValueError("repeat backend only supports models with max_batch_size == 0")
        self._threads: list[threading.Thread] = []

    def execute(self, requests: list[Any]) -> None:
        wait = 0
        for request in requests:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            wait = max(wait, int(inputs["WAIT"].flat[0]))
            sender = request.get_response_sender()
            if inputs["IN"].shape != inputs["DELAY"].shape:
                sender.send(_refusal(inputs["IN"].shape, inputs["DELAY"].shape), _FINAL)
                continue
            thread = threading.Thread(target=_repeat, args=(sender, inputs), daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()
        time.sleep(wait / 1000)

    def finalize(self) -> None:
        for thread in self._threads:
            thread.join()


_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def _repeat(sender: Any, inputs: dict[str, Any]) -> None:
    pairs = zip(inputs["IN"].flat, inputs["DELAY"].flat)
    for index, (element, delay) in enumerate(pairs):
        time.sleep(int(delay) / 1000)
        out = pb_utils.Tensor("OUT", np.array([element], np.int32))
        idx = pb_utils.Tensor("IDX", np.array([index], np.uint32))
        sender.send(pb_utils.InferenceResponse([out, idx]))
    sender.send(flags=_FINAL)


def _refusal(one: tuple[int, ...], other: tuple[int, ...]) -> Any:
    shapes = [f"[{','.join(map(str, shape))}]" for shape in (one, other)]
    text = f"expected IN and DELAY shape to match, got {shapes[0]} and {shapes[1]}"
    error = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse([], error)
