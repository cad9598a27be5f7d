"""The onnxruntime backend: one session, its config completed from the graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nerite.backends.base import Config, ModelSpec
from nerite.core.batch import sizes, split, stack
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor

_FILE = "model.onnx"
_BATCH = 4  # Triton's max_batch_size for a graph whose first dimension is free
_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(bfloat16)": "TYPE_BF16",
    "tensor(string)": "TYPE_STRING",
}


class OnnxBackend:
    """One onnxruntime session; executes one request at a time."""

    def load(self, spec: ModelSpec) -> Config:
        file = _model_file(spec)
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(
                str(file), _options(spec, onnxruntime), providers=_providers(spec, onnxruntime)
            )
        except Exception as error:
            text = f"onnx runtime error: {str(error).strip()}"
            raise InferenceError(Status.INTERNAL, text) from None
        config = _complete(spec.config, self._session)
        _check(config, self._session)
        self._outputs = [output["name"] for output in config["output"]]
        self._texts = {one.name for one in self._session.get_inputs() if "string" in one.type}
        return config

    def execute(self, calls: list[Call]) -> None:
        try:
            parts = self._run([call.request for call in calls])
        except Exception as error:
            text = f"onnx runtime error: {str(error).strip()}"
            for call in calls:
                call.fail(InferenceError(Status.INTERNAL, text))
            return
        for call, outputs in zip(calls, parts, strict=True):
            wanted = call.request.outputs or self._outputs
            call.send(Response({name: outputs[name] for name in wanted}))

    def _run(self, requests: list[Request]) -> list[dict[str, Tensor]]:
        """The outputs of each request, all computed together."""
        asked = {name for request in requests for name in request.outputs or self._outputs}
        names = [name for name in self._outputs if name in asked]
        feeds = {
            name: _as_text(tensor) if name in self._texts else tensor
            for name, tensor in stack(requests).items()
        }
        outputs = dict(zip(names, self._session.run(names, feeds), strict=True))
        return [outputs] if len(requests) == 1 else split(outputs, sizes(requests))

    def unload(self) -> None:
        del self._session


def _model_file(spec: ModelSpec) -> Path:
    file = spec.version_folder / (spec.config.get("default_model_filename") or _FILE)
    if file.is_dir():  # a large model and its external data
        file = file / _FILE
    if not file.is_file():
        text = f"unable to find '{file}' for model '{spec.name}'"
        raise InferenceError(Status.UNAVAILABLE, text)
    return file


def _options(spec: ModelSpec, onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    for name in ("intra_op_thread_count", "inter_op_thread_count"):
        if name in spec.parameters:
            setattr(options, name.replace("thread_count", "num_threads"), _number(spec, name))
    if _number(spec, "execution_mode", 0) == 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    level = spec.config.get("optimization", {}).get("graph", {}).get("level", 0)
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = {
        -1: levels.ORT_ENABLE_BASIC,
        1: levels.ORT_ENABLE_EXTENDED,
        2: levels.ORT_DISABLE_ALL,
    }.get(level, levels.ORT_ENABLE_ALL)
    return options


def _number(spec: ModelSpec, name: str, default: int = 0) -> int:
    text = spec.parameters.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise invalid(f"parameter {name} is '{text}': it must be a whole number") from None


def _providers(spec: ModelSpec, onnxruntime: Any) -> list[Any]:
    if spec.device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise InferenceError(
            Status.UNSUPPORTED,
            f"model '{spec.name}' is to run on a GPU, and this onnxruntime cannot: install "
            "onnxruntime-gpu, or set KIND_CPU in its instance_group",
        )
    return [("CUDAExecutionProvider", {"device_id": spec.device_id}), "CPUExecutionProvider"]


def _complete(config: Config, session: Any) -> dict[str, Any]:
    """Fill in from the graph what the config leaves out."""
    completed = dict(config)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if not completed.get("input") and not completed.get("output"):
        free = all(one.shape and not isinstance(one.shape[0], int) for one in (*inputs, *outputs))
        if free and not completed.get("max_batch_size"):
            completed["max_batch_size"] = _BATCH
            others = ("sequence_batching", "dynamic_batching", "ensemble_scheduling")
            if not any(name in completed for name in others):
                completed["dynamic_batching"] = {}
    batched = completed.get("max_batch_size", 0) > 0
    for kind, tensors in (("input", inputs), ("output", outputs)):
        if not completed.get(kind):
            completed[kind] = [_describe(one, batched) for one in tensors]
    return completed


def _describe(tensor: Any, batched: bool) -> dict[str, Any]:
    dims = [dim if isinstance(dim, int) else -1 for dim in tensor.shape]
    dims = dims[1:] if batched else dims
    described = {"name": tensor.name, "data_type": _TYPES[tensor.type], "dims": dims or [1]}
    if not dims:
        described["reshape"] = {"shape": []}
    return described


def _check(config: Mapping[str, Any], session: Any) -> None:
    """The config's tensors must be the graph's. Raises InferenceError."""
    model = config.get("name", "")
    for kind, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
        graph = {one.name: one for one in tensors}
        for entry in config[kind]:
            found = graph.get(entry["name"])
            if found is None:
                raise invalid(
                    f"unexpected inference {kind} '{entry['name']}', allowed {kind}s are: "
                    f"{', '.join(graph)}"
                )
            if _TYPES.get(found.type) != entry["data_type"]:
                raise invalid(
                    f"unable to load model '{model}', configuration expects datatype "
                    f"{entry['data_type']} for {kind} '{entry['name']}', model provides "
                    f"{_TYPES.get(found.type, found.type)}"
                )


def _as_text(tensor: Tensor) -> Tensor:
    """onnxruntime takes strings as str."""
    texts = np.empty(tensor.shape, dtype=object)
    flat = [item.decode() if isinstance(item, bytes) else str(item) for item in tensor.flat]
    texts.reshape(-1)[:] = flat
    return texts
