"""What backends share whose models are functions of arrays: calls that are computed together,
their inputs joined, each one's share of the outputs; and what they ask of a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nerite.backends.base import Config
from nerite.backends.ragged import Ragged
from nerite.core.batch import sizes, split, stack
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor, datatype_of

# Named inputs and the outputs wanted, to the named outputs.
Compute = Callable[[Mapping[str, Tensor], Sequence[str]], Mapping[str, Tensor]]


def answer(
    calls: list[Call], outputs: Sequence[str], compute: Compute, ragged: Ragged | None = None
) -> None:
    """Compute all calls at once and answer each.

    outputs: what a request gets that names none. ragged: how they are joined where not by their
    batch dimension alone. When the whole fails each is computed alone, so that nobody pays for
    what another sent.
    """
    try:
        parts = _compute([call.request for call in calls], outputs, compute, ragged)
    except InferenceError as error:
        if len(calls) == 1:
            calls[0].fail(error)
            return
        for call in calls:
            answer([call], outputs, compute, ragged)
        return
    for call, part in zip(calls, parts, strict=True):
        wanted = call.request.outputs or outputs
        call.send(Response({name: part[name] for name in wanted}))


def _compute(
    requests: list[Request], outputs: Sequence[str], compute: Compute, ragged: Ragged | None
) -> Sequence[Mapping[str, Tensor]]:
    wanted = list(dict.fromkeys(name for one in requests for name in one.outputs or outputs))
    if ragged is not None:
        return ragged.share(compute(ragged.join(requests), wanted), requests)
    found = compute(stack(requests), wanted)
    return [found] if len(requests) == 1 else split(found, sizes(requests))


def as_text(name: str, tensor: Tensor) -> Tensor:
    """A BYTES tensor with its elements as str. Raises InferenceError where one is not UTF-8."""
    try:
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in tensor.flat]
    except UnicodeDecodeError as error:
        text = f"input '{name}' must be UTF-8 text for this model: {error}"
        raise InferenceError(Status.INVALID_ARG, text) from None
    array = tensor.copy()
    array.reshape(-1)[:] = texts
    return array


def expect(name: str, array: Tensor, datatype: str) -> Tensor:
    """An output, which must be of the type its config promises. Raises InferenceError."""
    found = datatype_of(array)
    if found != datatype:
        raise invalid(
            f"unexpected datatype TYPE_{found} for inference output '{name}', expecting "
            f"TYPE_{datatype}"
        )
    return array


def datatype(tensor: Mapping[str, Any]) -> str:
    """The protocol's name of a declared tensor's type."""
    name = str(tensor["data_type"])[len("TYPE_") :]
    return "BYTES" if name == "STRING" else name


def request_inputs(config: Config) -> list[str]:
    """All that a request brings: the config's inputs, batch inputs, controls and states."""
    sequence = config.get("sequence_batching", {})
    names = [one["name"] for one in config.get("input", ())]
    names += [name for one in config.get("batch_input", ()) for name in one["target_name"]]
    names += [one["name"] for one in sequence.get("control_input", ())]
    return names + [one["input_name"] for one in sequence.get("state", ())]


def output_types(config: Config) -> dict[str, str]:
    """The protocol's type of all that a request may ask for: the config's outputs, and states."""
    types = {one["name"]: datatype(one) for one in config.get("output", ())}
    for state in config.get("sequence_batching", {}).get("state", ()):
        types.setdefault(state["output_name"], datatype(state))
    return types


def number(parameters: Mapping[str, str], name: str, default: int) -> int:
    """A parameter that is a whole number. Raises InferenceError."""
    text = parameters.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise invalid(f"parameter {name} is '{text}': it must be a whole number") from None


def flag(parameters: Mapping[str, str], name: str, default: bool) -> bool:
    """A parameter that is true or false, in any of Triton's spellings. Raises InferenceError."""
    text = parameters.get(name, str(default)).lower()
    if text not in ("1", "true", "on", "0", "false", "off"):
        raise invalid(f"parameter {name} is '{text}': it must be 1 or 0, true or false")
    return text in ("1", "true", "on")
