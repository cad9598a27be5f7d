"""OnnxBackend: one onnxruntime session that executes calls, several together where they batch."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nerite.backends.base import Config, ModelSpec
from nerite.backends.onnx.graph import Graph, check, complete
from nerite.backends.onnx.session import onnx_error, open_session, run_options
from nerite.backends.ragged import Ragged
from nerite.backends.together import answer, as_text, number
from nerite.core.call import Call
from nerite.core.tensor import Tensor, numpy_dtype

_BATCH = 4  # Triton's max_batch_size for a graph whose first dimensions are free
_BF16 = 16  # ONNX's number of the type, which numpy lacks


class OnnxBackend:
    """One onnxruntime session; one execution at a time.

    Its arrays go in and come out without a copy: onnxruntime reads the request's own memory, and
    what it computed is lent to numpy.
    """

    def load(self, spec: ModelSpec) -> Config:
        self._session = open_session(spec)
        self._run_options = run_options(spec)
        graph = Graph.of(self._session)
        config: Config = spec.config
        if spec.complete:
            config = complete(
                config, graph, number(spec.settings, "default-max-batch-size", _BATCH)
            )
        check(config, graph)
        self._outputs = [output["name"] for output in config.get("output", ())]
        dims = {one["name"]: one.get("dims", ()) for one in config.get("output", ())}
        inputs, outputs = graph.inputs | graph.initial, graph.outputs
        self._texts = {name for name, one in inputs.items() if one.data_type == "TYPE_STRING"}
        self._scalars = {name for name, one in inputs.items() if not one.shape}
        self._scalar_outputs = {
            name: dims[name] for name, one in outputs.items() if not one.shape and name in dims
        }
        self._brains = any(one.data_type == "TYPE_BF16" for one in (inputs | outputs).values())
        self._ragged = Ragged.of(config)
        return config

    def execute(self, calls: list[Call]) -> None:
        answer(calls, self._outputs, self._compute, self._ragged)

    def _compute(self, inputs: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        feeds = {name: self._feed(name, tensor) for name, tensor in inputs.items()}
        run = self._run_values if self._brains else self._session.run
        try:
            found = dict(zip(wanted, run(wanted, feeds, self._run_options), strict=True))
        except Exception as error:
            raise onnx_error(error) from None
        for name, dims in self._scalar_outputs.items():
            if name in found:
                found[name] = found[name].reshape(dims)
        return found

    def _feed(self, name: str, tensor: Tensor) -> Tensor:
        if name in self._texts:
            return as_text(name, tensor)
        return tensor.reshape(()) if name in self._scalars else tensor

    def _run_values(
        self, wanted: Sequence[str], feeds: Mapping[str, Tensor], options: Any
    ) -> list[Tensor]:
        """`session.run` for graphs with BF16, which onnxruntime does not exchange with numpy."""
        from onnxruntime import OrtValue

        values = {}
        for name, tensor in feeds.items():
            if tensor.dtype == numpy_dtype("BF16"):
                bits = np.ascontiguousarray(tensor).view(np.uint16).reshape(tensor.shape)
                values[name] = OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BF16)
            else:
                values[name] = OrtValue.ortvalue_from_numpy(tensor)
        return [_array(one) for one in self._session.run_with_ort_values(wanted, values, options)]

    def unload(self) -> None:
        del self._session


def _array(value: Any) -> Tensor:
    if value.data_type() != "tensor(bfloat16)":
        array: Tensor = value.numpy()
        return array
    shape = value.shape()
    size = 2 * int(np.prod(shape))
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(data, numpy_dtype("BF16")).reshape(shape)
