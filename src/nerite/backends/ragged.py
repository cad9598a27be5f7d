"""Ragged batches: inputs of any size one behind the other, and what a config has the server tell
a model of them (`allow_ragged_batch`, `batch_input`, `batch_output`).

The kinds and what they count are Triton's: a request's elements are those of all its items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from nerite.backends.base import Config
from nerite.core.batch import sizes, split
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request
from nerite.core.tensor import Tensor

_TYPES: dict[str, type] = {"TYPE_FP32": np.float32, "TYPE_INT32": np.int32}


def _counts(tensors: Sequence[Tensor]) -> Any:
    return [tensor.size for tensor in tensors]


def _accumulated(tensors: Sequence[Tensor]) -> Any:
    return list(accumulate(_counts(tensors)))


def _accumulated_with_zero(tensors: Sequence[Tensor]) -> Any:
    return [0, *_accumulated(tensors)]


def _max_as_shape(tensors: Sequence[Tensor]) -> Any:
    return np.zeros(max(_counts(tensors)))


def _item_shapes(tensors: Sequence[Tensor]) -> Any:
    return [tensor.shape[1:] for tensor in tensors for _ in range(tensor.shape[0])]


def _item_shapes_flat(tensors: Sequence[Tensor]) -> Any:
    return np.ravel(_item_shapes(tensors))


_KINDS: dict[str, Callable[[Sequence[Tensor]], Any]] = {
    "BATCH_ELEMENT_COUNT": _counts,
    "BATCH_ACCUMULATED_ELEMENT_COUNT": _accumulated,
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": _accumulated_with_zero,
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": _max_as_shape,
    "BATCH_ITEM_SHAPE": _item_shapes,
    "BATCH_ITEM_SHAPE_FLATTEN": _item_shapes_flat,
}


class Ragged:
    """How one model's requests are joined, and its outputs shared out."""

    def __init__(self, config: Config) -> None:
        self._flat = {
            entry["name"] for entry in config.get("input", ()) if entry.get("allow_ragged_batch")
        }
        self._made = [
            (name, _KINDS[entry["kind"]], _TYPES[entry["data_type"]], entry["source_input"][0])
            for entry in config.get("batch_input", ())
            for name in entry["target_name"]
        ]
        dims = {entry["name"]: entry["dims"] for entry in config.get("output", ())}
        # Of each output that is shared out by the shapes of an input: that input, its own shape.
        self._scattered = {
            name: (entry["source_input"][0], (-1, *dims[name]))
            for entry in config.get("batch_output", ())
            for name in entry["target_name"]
        }

    @classmethod
    def of(cls, config: Config) -> Ragged | None:
        """None for a model whose batches have nothing of this."""
        ragged = cls(config)
        return ragged if ragged._flat or ragged._made or ragged._scattered else None

    def join(self, requests: Sequence[Request]) -> dict[str, Tensor]:
        """All requests' inputs, and what is made of them."""
        joined: dict[str, Tensor] = {}
        for name in requests[0].inputs:
            tensors = [request.inputs[name] for request in requests]
            flat = [tensor.reshape(-1) for tensor in tensors] if name in self._flat else tensors
            joined[name] = flat[0] if len(flat) == 1 else np.concatenate(flat)
        for name, make, dtype, source in self._made:
            joined[name] = np.asarray(
                make([request.inputs[source] for request in requests]), dtype=dtype
            )
        return joined

    def share(
        self, outputs: Mapping[str, Tensor], requests: Sequence[Request]
    ) -> list[dict[str, Tensor]]:
        """Each request's outputs, as views. Raises InferenceError when they do not add up."""
        whole = {name: one for name, one in outputs.items() if name not in self._scattered}
        parts = split(whole, sizes(requests))
        for name in outputs.keys() & self._scattered.keys():
            for part, tensor in zip(parts, self._scatter(name, outputs[name], requests),
                                    strict=True):  # fmt: skip
                part[name] = tensor
        return parts

    def _scatter(self, name: str, output: Tensor, requests: Sequence[Request]) -> list[Tensor]:
        source, dims = self._scattered[name]
        flat = output.reshape(-1)
        shapes = []
        for request in requests:
            shape = request.inputs[source].shape
            shapes.append([shape[at] if dim == -1 else dim for at, dim in enumerate(dims)])
        ends = list(accumulate(int(np.prod(shape)) for shape in shapes))
        if ends[-1] != flat.size:
            raise InferenceError(
                Status.INTERNAL,
                f"output '{name}' has {flat.size} elements where the shapes of input '{source}' "
                f"make {ends[-1]}",
            )
        starts = [0, *ends[:-1]]
        return [
            flat[start:end].reshape(shape)
            for start, end, shape in zip(starts, ends, shapes, strict=True)
        ]
