"""Held: a tensor on its way between the steps of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Several

from nerite.core.errors import invalid
from nerite.core.layout import Layout, Packed
from nerite.core.request import Parameter
from nerite.core.tensor import Tensor, fits

# Of a tensor that a step wrote: id, start and end of the sequence that the next steps belong to.
Sequence = tuple[int | str, bool, bool]

_KEPT = 256  # layouts that one step's inputs have had


class Held:
    """A tensor between steps, `name` among those that came with it. left: how many have still to
    take it. batch: the items of the request it is the answer to, 0 where its model does not
    batch."""

    __slots__ = ("batch", "left", "name", "sequence", "tensors")

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        name: str,
        left: int,
        batch: int,
        sequence: Sequence | None,
    ) -> None:
        self.tensors = tensors
        self.name = name
        self.left = left
        self.batch = batch
        self.sequence = sequence

    @property
    def tensor(self) -> Tensor | None:
        """None where its step left it out, or the client an optional input."""
        return self.tensors.get(self.name)


def take(held: dict[str, Held], name: str) -> None:
    one = held[name]
    one.left -= 1
    if not one.left:
        del held[name]


class Renaming:
    """Hands tensors on as they lie in bytes, under other names, where all of them go together.

    names: the new ones.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._layouts: dict[tuple[Layout, tuple[str, ...]], Layout | None] = {}

    def __call__(self, held: Several[Held], batches: bool) -> Packed | None:
        """The tensors of `held`, for a model that batches or not; None where they have to be
        looked at one by one."""
        tensors = held[0].tensors if held else None
        if type(tensors) is not Packed:
            return None
        for one in held:
            if one.tensors is not tensors or batches != (one.batch != 0):
                return None
        key = tensors.layout, tuple([one.name for one in held])
        if key not in self._layouts:
            if len(self._layouts) >= _KEPT:
                self._layouts.clear()
            self._layouts[key] = self._rename(*key)
        layout = self._layouts[key]
        return None if layout is None else Packed(layout, tensors.data)

    def _rename(self, layout: Layout, names: tuple[str, ...]) -> Layout | None:
        if sorted(names) != sorted(layout.cuts):
            return None
        new = dict(zip(names, self._names, strict=True))
        return Layout(
            (new[name], kind, shape, start, size)
            for name, kind, shape, start, size in layout.placed
        )


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
