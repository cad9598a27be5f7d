"""Held: a tensor on its way between the steps of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping

from nerite.core.errors import invalid
from nerite.core.request import Parameter
from nerite.core.tensor import Tensor, fits

# Of a tensor that a step wrote: id, start and end of the sequence that the next steps belong to.
Sequence = tuple[int | str, bool, bool]


class Held:
    """A tensor between steps. tensor: None where its step left it out, or the client an optional
    input. left: how many have still to take it. batch: the items of the request it is the answer
    to, 0 where its model does not batch."""

    __slots__ = ("batch", "left", "sequence", "tensor")

    def __init__(
        self, tensor: Tensor | None, left: int, batch: int, sequence: Sequence | None
    ) -> None:
        self.tensor = tensor
        self.left = left
        self.batch = batch
        self.sequence = sequence


def take(held: dict[str, Held], name: str) -> None:
    one = held[name]
    one.left -= 1
    if not one.left:
        del held[name]


def shaped(tensor: Tensor, dims: tuple[int, ...], batches: bool, batch: int) -> Tensor:
    """A tensor of a model that batches for one that does not, or the other way round.

    batch: the items it came with, 0 where it came without batch dimension.
    """
    if batches == (batch != 0):
        return tensor
    if batches:
        return tensor.reshape((1, *tensor.shape)) if fits(tensor.shape, dims) else tensor
    if batch == 1 and not fits(tensor.shape, dims):
        return tensor.reshape(tensor.shape[1:])
    return tensor


def sequence_of(parameters: Mapping[str, Parameter], asked: Sequence) -> Sequence:
    """What a response says of the sequence that the next steps belong to, else as was asked."""
    flags = [parameters.get(name) for name in ("sequence_start", "sequence_end")]
    id = parameters.get("sequence_id")
    if id is None and flags == [None, None]:
        return asked
    for name, flag in zip(("sequence_start", "sequence_end"), flags, strict=True):
        if not isinstance(flag, (bool, type(None))):
            raise invalid(f"expect parameter '{name}' to be TRITONSERVER_PARAMETER_BOOL")
    if isinstance(id, bool) or not isinstance(id, (int, str, type(None))):
        raise invalid(
            "expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or "
            "TRITONSERVER_PARAMETER_STRING"
        )
    return (asked[0] if id is None else id, bool(flags[0]), bool(flags[1]))
