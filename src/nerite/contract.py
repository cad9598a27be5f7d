"""What a model's config promises: its tensors' names, types and shapes. Requests are held to it.

The texts are Triton's, which clients and tests compare; what follows a Triton sentence is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nerite.core.errors import InferenceError, invalid
from nerite.core.layout import Packed
from nerite.core.request import Request
from nerite.core.tensor import Tensor, datatype_of, fits
from nerite.repository.config import ModelConfig, datatype

_BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim "
    "in your input dims config, try setting max_batch_size to zero. See the model configuration "
    "docs for more info on max_batch_size."
)


_KEPT = 1024


@dataclass(frozen=True)
class TensorSpec:
    """One declared tensor. shape: as clients see it, with a leading -1 where the model batches."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


class Contract:
    """The declared inputs and outputs of one model, in the config's order."""

    def __init__(self, config: ModelConfig) -> None:
        self._model = config.name
        self.max_batch_size = config.max_batch_size
        batch = (-1,) if config.max_batch_size > 0 else ()
        self.inputs = {
            item.name: TensorSpec(
                item.name, datatype(item.data_type), (*batch, *item.dims), item.optional
            )
            for item in config.input
        }
        self.outputs = {
            item.name: TensorSpec(item.name, datatype(item.data_type), (*batch, *item.dims))
            for item in config.output
        }
        self._required = [spec.name for spec in self.inputs.values() if not spec.optional]
        self._passed: dict[tuple[Any, ...], int] = {}  # what has been checked, and its batch size

    def check(self, request: Request) -> int:
        """Hold a request to the contract; its batch size (1 for a model that does not batch).

        Raises InferenceError, with the input's name and what was expected.
        """
        inputs = request.inputs
        key: tuple[Any, ...]
        if type(inputs) is Packed:
            key = (inputs.layout, request.outputs)
        else:
            parts: list[Any] = [request.outputs]
            for name, tensor in inputs.items():
                parts += (name, tensor.dtype, tensor.shape)
            key = tuple(parts)
        size = self._passed.get(key)
        if size is None:
            size = self._check(request)
            if len(self._passed) >= _KEPT:
                self._passed.clear()
            self._passed[key] = size
        return size

    def _check(self, request: Request) -> int:
        self._check_outputs(request)
        self._check_count(request)
        for name, tensor in request.inputs.items():
            self._check_input(request, name, tensor)
        return self._batch_size(request)

    def _check_outputs(self, request: Request) -> None:
        for name in request.outputs:
            if name not in self.outputs:
                known = _names(list(self.outputs))
                raise invalid(
                    f"unexpected inference output '{name}' for model '{self._model}'. "
                    f"Its outputs are {known}."
                )

    def _check_count(self, request: Request) -> None:
        got = list(request.inputs)
        missing = [name for name in self._required if name not in request.inputs]
        most, least = len(self.inputs), len(self._required)
        if least <= len(got) <= most:
            unknown = next((name for name in got if name not in self.inputs), None)
            if unknown is not None:
                raise self._unknown(unknown)
            if not missing:
                return
        wanted = (
            f"{most} inputs" if least == most else f"number of inputs between {least} and {most}"
        )
        raise invalid(
            f"{request.label}expected {wanted} but got {len(got)} inputs for model "
            f"'{self._model}'. Got input(s) [{_quoted(got)}], but missing required "
            f"input(s) [{_quoted(missing)}]. Please provide all required input(s)."
        )

    def _unknown(self, name: str) -> InferenceError:
        return invalid(
            f"unexpected inference input '{name}' for model '{self._model}'. "
            f"Its inputs are {_names(list(self.inputs))}."
        )

    def _check_input(self, request: Request, name: str, tensor: Tensor) -> None:
        spec = self.inputs.get(name)
        if spec is None:
            raise self._unknown(name)
        found = datatype_of(tensor)
        if found != spec.datatype:
            raise invalid(
                f"{request.label}inference input '{name}' data-type is '{found}', but model "
                f"'{self._model}' expects '{spec.datatype}'"
            )
        if self.max_batch_size > 0 and not tensor.ndim:
            raise invalid(
                f"{request.label}input '{name}' has no shape but model requires batch dimension "
                f"for '{self._model}'"
            )
        if not fits(tensor.shape, spec.shape):
            note = _BATCH_NOTE if self.max_batch_size > 0 else ""
            raise invalid(
                f"{request.label}unexpected shape for input '{name}' for model '{self._model}'. "
                f"Expected {_dims(spec.shape)}, got {_dims(tensor.shape)}. {note}"
            )

    def _batch_size(self, request: Request) -> int:
        if self.max_batch_size == 0:
            return 1
        batch = 0
        for name, tensor in request.inputs.items():
            if batch and tensor.shape[0] != batch:
                raise invalid(
                    f"{request.label}input '{name}' batch size does not match other inputs for "
                    f"'{self._model}'"
                )
            batch = tensor.shape[0]
        if batch > self.max_batch_size:
            raise invalid(
                f"{request.label}inference request batch-size must be <= {self.max_batch_size} "
                f"for '{self._model}'"
            )
        return batch


def _dims(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _names(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _quoted(names: Iterable[str]) -> str:
    """As Triton writes them: what is in a name is not escaped."""
    return ",".join(f"'{name}'" for name in names)
