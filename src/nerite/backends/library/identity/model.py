"""Backend "identity": answers INPUT<n> as OUTPUT<n>, for tests; it can be told to be slow."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

import triton_python_backend_utils as pb_utils

_PARAMETERS: dict[str, Any] = {
    "param0": "an example string parameter",
    "param1": 42,
    "param2": False,
}


class TritonPythonModel:
    """Parameters: execute_delay_ms, instance_wise_delay_multiplier, creation_delay_sec."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        _check(config)
        self._zeros = {_number(one): _zeros(one) for one in config["input"] if one.get("optional")}
        self._batches = config.get("max_batch_size", 0) > 0
        self._outputs = [one["name"] for one in config["output"]]
        parameters = config.get("parameters", {})
        delay = int(_value(parameters, "execute_delay_ms"))
        times = int(_value(parameters, "instance_wise_delay_multiplier"))
        index = int(args["model_instance_name"].rpartition("_")[2])
        self._delay = delay / 1000 * max(times * index, 1)
        time.sleep(int(_value(parameters, "creation_delay_sec")))
        self._family = pb_utils.MetricFamily(
            name="input_byte_size_counter",
            description="Cumulative input byte size of all requests received by the model",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self._received = self._family.Metric(labels=labels)

    def execute(self, requests: list[Any]) -> list[Any]:
        time.sleep(self._delay)
        arrays = [tensor.as_numpy() for request in requests for tensor in request.inputs()]
        self._received.increment(sum(map(_size, arrays)))
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        given = {tensor.name()[len("INPUT") :]: tensor.as_numpy() for tensor in request.inputs()}
        batch = next(iter(given.values())).shape[:1] if self._batches else ()
        tensors = []
        for name in request.requested_output_names() or self._outputs:
            number = name[len("OUTPUT") :]
            array = given.get(number)
            if array is None:
                zeros = self._zeros[number]
                array = np.broadcast_to(zeros, (*batch, *zeros.shape))
            tensors.append(pb_utils.Tensor(name, array))
        return pb_utils.InferenceResponse(tensors, parameters=_PARAMETERS)


def _value(parameters: dict[str, Any], name: str) -> str:
    return str(parameters.get(name, {}).get("string_value") or "0")


def _size(array: Any) -> int:
    """Bytes on the wire, where each element of a BYTES tensor has its length in front."""
    if array.dtype != object:
        return int(array.nbytes)
    return sum(4 + len(item) for item in array.flat)


def _number(tensor: dict[str, Any]) -> str:
    return str(tensor["name"][len("INPUT") :])


def _zeros(tensor: dict[str, Any]) -> Any:
    """What stands for an input that was left out: zeros, each free dimension 1."""
    shape = [max(dim, 1) for dim in _shape(tensor)]
    if tensor["data_type"] == "TYPE_STRING":
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, pb_utils.triton_string_to_numpy(tensor["data_type"]))


def _shape(tensor: dict[str, Any]) -> list[int]:
    reshape = tensor.get("reshape")
    return list(tensor["dims"] if reshape is None else reshape.get("shape", []))


def _check(config: dict[str, Any]) -> None:
    inputs, outputs = config["input"], config["output"]
    if len(inputs) != len(outputs):
        raise ValueError("model configuration must have equal input/output pairs")
    found = {}
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for one in tensors:
            name = one["name"]
            if not name.startswith(kind.upper()):
                raise ValueError(
                    f"expected {kind} name to follow {kind.upper()}<index> pattern, got '{name}'"
                )
            found[kind, name[len(kind) :]] = one
    for (kind, number), one in found.items():
        if kind == "output":
            _check_pair(found.get(("input", number)), one)


def _check_pair(given: dict[str, Any] | None, answered: dict[str, Any]) -> None:
    if given is None:
        raise ValueError("expected input and output indices to match")
    types = given["data_type"], answered["data_type"]
    if types[0] != types[1]:
        raise ValueError(
            f"expected input and output datatype to match, got {types[0]} and {types[1]}"
        )
    shapes = _shape(given), _shape(answered)
    if shapes[0] != shapes[1]:
        texts = [f"[{','.join(map(str, shape))}]" for shape in shapes]
        raise ValueError(f"expected input and output shape to match, got {texts[0]} and {texts[1]}")
