"""What an ONNX graph declares: completes a config from it, and holds a config to it.

The texts are Triton's; what follows a Triton sentence is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nerite.backends.base import Config
from nerite.core.errors import InferenceError, Status, invalid

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
_SCHEDULERS = ("sequence_batching", "dynamic_batching", "ensemble_scheduling")
_BATCH_REMEDY = (
    ". Set max_batch_size: 0 and give the shape with its first dimension, or export the graph "
    "with a first dimension of any size (dynamic axes)"
)


@dataclass(frozen=True)
class Declared:
    """One input or output of a graph. type: onnxruntime's name of it; free dimensions are -1."""

    name: str
    type: str
    shape: tuple[int, ...]

    @property
    def data_type(self) -> str:
        """As a config names it; "" for what is no tensor, or one that Triton has no type for."""
        return _TYPES.get(self.type, "")

    @property
    def batches(self) -> bool:
        return bool(self.shape) and self.shape[0] == -1


@dataclass(frozen=True)
class Graph:
    """initial: inputs that have a value already, and may be left out."""

    inputs: dict[str, Declared]
    outputs: dict[str, Declared]
    initial: dict[str, Declared]

    @classmethod
    def of(cls, session: Any) -> Graph:
        return cls(
            _declared(session.get_inputs()),
            _declared(session.get_outputs()),
            _declared(session.get_overridable_initializers()),
        )

    @property
    def batches(self) -> bool:
        return all(one.batches for one in (*self.inputs.values(), *self.outputs.values()))


def _declared(tensors: Iterable[Any]) -> dict[str, Declared]:
    return {
        one.name: Declared(
            one.name, one.type, tuple(dim if isinstance(dim, int) else -1 for dim in one.shape)
        )
        for one in tensors
    }


def complete(config: Config, graph: Graph, batch: int) -> dict[str, Any]:
    """Fill in what the config leaves out. Raises InferenceError where it cannot.

    batch: max_batch_size for a graph whose first dimensions are free.
    """
    completed = dict(config)
    has_inputs = bool(config.get("input") or config.get("batch_input"))
    if has_inputs and config.get("output"):
        return completed
    _complete_batch(completed, graph, batch)
    batched = completed.get("max_batch_size", 0) > 0
    if not has_inputs:
        completed["input"] = [_describe(one, "input", batched) for one in graph.inputs.values()]
    if not config.get("output"):
        completed["output"] = [_describe(one, "output", batched) for one in graph.outputs.values()]
    return completed


def _complete_batch(config: dict[str, Any], graph: Graph, batch: int) -> None:
    if not graph.batches:
        if config.get("max_batch_size", 0) > 0:
            raise invalid(
                f"autofill failed for model '{config.get('name', '')}': model does not support "
                f"batching while non-zero max_batch_size is specified{_BATCH_REMEDY}"
            )
        return
    if not config.get("max_batch_size"):
        config["max_batch_size"] = batch
    if config["max_batch_size"] > 1 and not any(name in config for name in _SCHEDULERS):
        config["dynamic_batching"] = {}


def _describe(tensor: Declared, kind: str, batched: bool) -> dict[str, Any]:
    if not tensor.data_type:
        raise InferenceError(
            Status.UNSUPPORTED,
            f"the graph's {kind} '{tensor.name}' is a {tensor.type}, which no client can send or "
            "get: name only tensors of Triton's types in the config's input and output, or export "
            "the graph without it (for scikit-learn: options={'zipmap': False})",
        )
    dims = list(tensor.shape[1:] if batched else tensor.shape)
    described: dict[str, Any] = {
        "name": tensor.name,
        "data_type": tensor.data_type,
        "dims": dims or [1],
    }
    if batched and not dims:
        described["reshape"] = {"shape": []}
    return described


def check(config: Config, graph: Graph) -> None:
    """The config's tensors must be the graph's. Raises InferenceError."""
    _check_count(config, graph)
    allowed = {**graph.inputs, **graph.initial}
    for entry in config.get("input", ()):
        found = _check_tensor(config, "input", entry, allowed)
        if entry.get("allow_ragged_batch"):
            _check_ragged(config, entry, found)
        else:
            _check_dims(config, entry, found, exact=False)
    scattered = {
        name for entry in config.get("batch_output", ()) for name in entry.get("target_name", ())
    }
    for entry in config.get("output", ()):
        found = _check_tensor(config, "output", entry, graph.outputs)
        if entry["name"] not in scattered:
            _check_dims(config, entry, found, exact=True)
    for state in config.get("sequence_batching", {}).get("state", ()):
        name = state.get("output_name", "")
        _check_tensor(config, "output state", {**state, "name": name}, graph.outputs)


def _check_count(config: Config, graph: Graph) -> None:
    sequence = config.get("sequence_batching", {})
    declared = [one["name"] for one in config.get("input", ()) if not one.get("optional")]
    declared += [name for one in config.get("batch_input", ()) for name in one["target_name"]]
    declared += [one["input_name"] for one in sequence.get("state", ())]
    for control in sequence.get("control_input", ()):
        declared.append(control["name"])
        _check_control(config, control, graph)
    if len(declared) != len(graph.inputs):
        missing = [name for name in graph.inputs if name not in declared]
        hint = f". The config lacks {', '.join(missing)}" if missing else ""
        raise invalid(
            f"unable to load model '{config.get('name', '')}', configuration expects "
            f"{len(declared)} inputs, model provides {len(graph.inputs)}{hint}"
        )


def _check_control(config: Config, control: Mapping[str, Any], graph: Graph) -> None:
    name = control["name"]
    found = graph.inputs.get(name)
    if found is None:
        raise InferenceError(
            Status.INTERNAL,
            f"configuration specified sequence control '{name}', but model does not provide that "
            "input",
        )
    dims = found.shape[1:] if config.get("max_batch_size", 0) > 0 else found.shape
    if dims != (1,):
        raise invalid(
            f"unable to load model '{config.get('name', '')}', sequence control '{name}' in model "
            f"has dims {_shape(dims)} but dims [1] is expected"
        )


def _check_tensor(
    config: Config, kind: str, entry: Mapping[str, Any], graph: Mapping[str, Declared]
) -> Declared:
    name, model = entry["name"], config.get("name", "")
    found = graph.get(name)
    if found is None:
        what = kind.split()[0]
        raise invalid(
            f"unexpected inference {what} '{name}', allowed {what}s are: {', '.join(sorted(graph))}"
        )
    if entry.get("optional") and config.get("max_batch_size", 0) > 0:
        raise invalid(
            f"unable to load model '{model}', optional input '{name}' is not supported for models "
            "that support batching"
        )
    if found.data_type != entry.get("data_type"):
        raise invalid(
            f"unable to load model '{model}', configuration expects datatype "
            f"{entry.get('data_type')} for {kind} '{name}', model provides "
            f"{found.data_type or found.type}"
        )
    return found


def _check_ragged(config: Config, entry: Mapping[str, Any], found: Declared) -> None:
    if found.shape != (-1,):
        raise invalid(
            f"unable to load model '{config.get('name', '')}', configuration expects model "
            f"provides input with shape [-1]  for ragged input '{entry['name']}', model provides "
            f"{_shape(found.shape)}"
        )


def _check_dims(config: Config, entry: Mapping[str, Any], found: Declared, *, exact: bool) -> None:
    """exact: a free dimension of the graph must be free in the config too."""
    where = f"model '{config.get('name', '')}', tensor '{entry['name']}': "
    reshape = entry.get("reshape")
    dims = tuple((reshape.get("shape", ()) if reshape is not None else entry.get("dims")) or ())
    batched = config.get("max_batch_size", 0) > 0
    if batched and not found.batches:
        raise invalid(
            f"{where}for the model to support batching the shape should have at least 1 dimension "
            f"and the first dimension must be -1; but shape expected by the model is "
            f"{_shape(found.shape)}{_BATCH_REMEDY}"
        )
    if not found.shape:
        if any(dim != 1 for dim in dims):
            raise invalid(
                f"unable to load model '{config.get('name', '')}', scalar tensor "
                f"'{entry['name']}', should only provide 1 in the model configuration when the "
                f"model doesn't support batching. Model configuration provided: {_shape(dims)}."
            )
        return
    full = (-1, *dims) if batched else dims
    if len(full) == len(found.shape) and all(
        theirs == ours or (theirs == -1 and not exact)
        for theirs, ours in zip(found.shape, full, strict=True)
    ):
        return
    note = (
        " (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor "
        f"shape, making complete shape {_shape(full)})"
    )
    raise invalid(
        f"{where}the model expects {len(found.shape)} dimensions (shape {_shape(found.shape)}) but "
        f"the model configuration specifies {len(full)} dimensions"
        f"{note if batched else f' (shape {_shape(full)})'}"
    )


def _shape(dims: Iterable[int]) -> str:
    return f"[{','.join(map(str, dims))}]"
