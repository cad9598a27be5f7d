"""Triton's implicit state: a sequence's requests get, as inputs, what its last one put out.

The state stays with the loaded copy of the model, so it never travels to the server and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Dict, NamedTuple

import numpy as np

from nerite.backends.base import Backend, Config, ModelSpec
from nerite.core.call import Answer, Call, Deliver
from nerite.core.errors import InferenceError, invalid
from nerite.core.request import Response
from nerite.core.tensor import Tensor, from_bytes, numpy_dtype

_FOLDER = "initial_state"

Kept = Dict[str, Tensor]  # noqa: UP006  evaluated, and workers may run on 3.8


class State(NamedTuple):
    """One tensor of state: the input it comes in by, the output it goes out by, and what it is
    when a sequence starts."""

    input: str
    output: str
    initial: Tensor


class StatefulBackend:
    """A backend, and the states of the sequences that sit on its copy of the model."""

    check_ready: Callable[[], bool]  # there where the backend has it

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._states: list[State] = []
        self._outputs: tuple[str, ...] = ()
        self._kept: dict[int, Kept] = {}  # by slot, then by input

    def load(self, spec: ModelSpec) -> Config:
        self._states = states_of(spec)
        config = self._backend.load(spec)
        check = getattr(self._backend, "check_ready", None)
        if check is not None:
            self.check_ready = check
        self._outputs = tuple(output["name"] for output in config["output"])
        return config

    def execute(self, calls: list[Call]) -> None:
        kept = [self._before(call) for call in calls if call.request.slot >= 0]
        filling = {name: np.full_like(tensor, _zero(tensor)) for name, tensor in kept[0].items()}
        states = iter(kept)
        for call in calls:
            request = call.request
            state = next(states) if request.slot >= 0 else filling
            wanted = request.outputs or self._outputs
            others = tuple(one.output for one in self._states if one.output not in wanted)
            call.redirect(partial(self._keep, state, wanted))
            inputs = {**request.inputs, **state}
            call.request = request._replace(inputs=inputs, outputs=(*wanted, *others))
        self._backend.execute(calls)

    def unload(self) -> None:
        self._backend.unload()

    def _before(self, call: Call) -> Kept:
        """The state that a request of a sequence finds."""
        request = call.request
        if request.sequence_start or request.slot not in self._kept:
            self._kept[request.slot] = {one.input: one.initial.copy() for one in self._states}
        # Of a sequence that ends nothing is kept, however late its last answer comes.
        return self._kept.pop(request.slot) if request.sequence_end else self._kept[request.slot]

    def _keep(self, state: Kept, wanted: tuple[str, ...], deliver: Deliver) -> Deliver:
        def take(call: Call, answer: Answer) -> None:
            if isinstance(answer, Response) and answer.outputs:
                for one in self._states:
                    if one.output in answer.outputs:
                        state[one.input] = answer.outputs[one.output]
                outputs = {name: one for name, one in answer.outputs.items() if name in wanted}
                answer = answer._replace(outputs=outputs)
            deliver(call, answer)

        return take


def with_states(backend: Backend, config: Config) -> Backend:
    """The backend itself for a model whose config has no state."""
    states = config.get("sequence_batching", {}).get("state")
    return StatefulBackend(backend) if states else backend


def states_of(spec: ModelSpec) -> list[State]:
    """The states of a config, with their initial values read. Raises InferenceError."""
    batch = (1,) if spec.config.get("max_batch_size", 0) > 0 else ()
    states: list[State] = []
    for entry in spec.config["sequence_batching"]["state"]:
        name = entry["input_name"]
        if any(one.input == name for one in states):
            raise invalid(f"State input name '{name}' specified more than once.")
        if len(entry.get("initial_state", ())) > 1:
            raise invalid(
                f"initial_state field for state input '{name}' must contain exactly one or zero "
                f"element. Found '{len(entry['initial_state'])}' elements."
            )
        if entry.get("initial_state"):
            initial = _initial(spec, entry, entry["initial_state"][0])
        else:
            dims = [1 if dim == -1 else dim for dim in entry["dims"]]
            initial = _zeros(entry["data_type"], dims)
        states.append(State(name, entry["output_name"], initial.reshape(*batch, *initial.shape)))
    return states


def _initial(spec: ModelSpec, state: Mapping[str, Any], initial: Mapping[str, Any]) -> Tensor:
    name, dims = state["input_name"], initial["dims"]
    if initial["data_type"] != state["data_type"]:
        raise invalid(
            f"The data type used for 'initial_state' field of state '{name}' does not match the "
            "state data type."
        )
    if not initial["name"]:
        text = f"Field 'name' must be set when using initial_state for state input '{name}'."
        raise invalid(text)
    _check_dims(name, state["dims"], dims)
    if initial.get("zero_data"):
        return _zeros(state["data_type"], dims)
    if not initial.get("data_file"):
        raise invalid(f"initial_state setting expects state'{name}' to have state_data set")
    return _read(spec.folder / _FOLDER, initial["data_file"], state["data_type"], dims)


def _check_dims(name: str, state: list[int], initial: list[int]) -> None:
    if len(initial) != len(state):
        raise invalid(
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions "
            f"for state input '{name}'. {len(initial)} != {len(state)}"
        )
    for expected, dim in zip(state, initial):
        if dim == -1:
            raise invalid(
                f"'initial_state' field for state input name '{name}' contains variable dimensions."
            )
        if expected not in (-1, dim):
            raise invalid(
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim "
                f"description. {dim} != {expected}"
            )


def _read(folder: Path, file: str, data_type: str, dims: list[int]) -> Tensor:
    path = (folder / file).resolve()
    if folder.resolve() not in path.parents:
        raise invalid(f"initial_state data_file '{file}' is not in the folder '{folder}'")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise invalid(f"initial_state data_file '{file}': {error}") from None
    datatype = _datatype(data_type)
    if datatype != "BYTES":
        expected = int(np.prod(dims, dtype=np.int64)) * numpy_dtype(datatype).itemsize
        if len(data) < expected:
            raise invalid(
                f"initial_state setting expects {expected} bytes, but the data provided from "
                f"{file} only has {len(data)} bytes."
            )
        data = data[:expected]
    try:
        return from_bytes(memoryview(data), datatype, tuple(dims))
    except ValueError as error:
        raise _unread(file, error) from None


def _unread(file: str, error: ValueError) -> InferenceError:
    return invalid(f"initial_state data_file '{file}': {error}")


def _zeros(data_type: str, dims: list[int]) -> Tensor:
    dtype = numpy_dtype(_datatype(data_type))
    return np.full(dims, b"" if dtype.kind == "O" else 0, dtype)


def _zero(tensor: Tensor) -> bytes | int:
    return b"" if tensor.dtype.kind == "O" else 0


def _datatype(data_type: str) -> str:
    name = data_type[len("TYPE_") :]
    return "BYTES" if name == "STRING" else name
