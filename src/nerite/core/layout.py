"""Layout and Packed: named tensors as they lie in bytes, made into arrays when they are asked for.

Who only hands tensors on needs no arrays, but where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Mapping, NamedTuple, Tuple, Union  # noqa: UP035  3.8 has no other

import numpy as np

from nerite.core.files import Filed
from nerite.core.tensor import Tensor, from_bytes, numpy_dtype

_LARGE = 1 << 12  # bytes of a tensor from which a wider alignment is worth the gap
_WIDE = 64
_GAP = bytes(_WIDE)

# A tensor's name, datatype, shape, first byte and number of bytes.
Placed = Tuple[str, str, Tuple[int, ...], int, int]  # noqa: UP006  evaluated, and workers may run on 3.8
Buffer = Union[bytes, bytearray, memoryview]  # noqa: UP007  the same


class Cut(NamedTuple):
    """One tensor of a layout: `size` bytes from `start`."""

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: Tuple[int, ...]  # noqa: UP006  the same
    start: int
    size: int


class Layout:
    """Where tensors lie in a run of `size` bytes.

    Compared by identity: who meets the same names, types and shapes again uses the same Layout
    again, and others keep by it what they found out about them. tight: there are no gaps.
    aligned: each tensor starts where its items may lie.
    """

    __slots__ = ("aligned", "cuts", "gaps", "size", "tight")

    def __init__(self, placed: Iterable[Placed]) -> None:
        self.cuts: dict[str, Cut] = {}
        self.gaps: list[int] = []  # before each tensor
        self.size = 0
        self.aligned = True
        for name, datatype, shape, start, size in placed:
            dtype = numpy_dtype(datatype)
            self.cuts[name] = Cut(name, datatype, dtype, tuple(shape), start, size)
            self.aligned = self.aligned and start % _alignment(datatype, 0) == 0
            self.gaps.append(start - self.size)
            self.size = start + size
        self.tight = not any(self.gaps)

    @property
    def placed(self) -> list[Placed]:
        """What makes the same layout elsewhere."""
        return [(one.name, one.datatype, one.shape, one.start, one.size)
                for one in self.cuts.values()]  # fmt: skip

    def spread(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """The tensors' bytes with the gaps that belong between them."""
        if self.tight:
            return list(buffers)
        parts: list[Buffer] = []
        for gap, data in zip(self.gaps, buffers):  # noqa: B905  3.8 has no strict
            if gap:
                parts.append(_GAP[:gap])
            parts.append(data)
        return parts


def tight(tensors: Iterable[tuple[str, str, tuple[int, ...], int]]) -> Layout:
    """Tensors (name, datatype, shape, bytes) one behind the other."""
    return Layout(_place(tensors, packed=True))


def aligned(tensors: Iterable[tuple[str, str, tuple[int, ...], int]]) -> Layout:
    """The same, each where its items may lie."""
    return Layout(_place(tensors, packed=False))


def _place(
    tensors: Iterable[tuple[str, str, tuple[int, ...], int]], *, packed: bool
) -> Iterator[Placed]:
    start = 0
    for name, datatype, shape, size in tensors:
        if not packed:
            start += -start % _alignment(datatype, size)
        yield name, datatype, shape, start, size
        start += size


def _alignment(datatype: str, size: int) -> int:
    if size >= _LARGE:
        return _WIDE
    return 1 if datatype == "BYTES" else numpy_dtype(datatype).itemsize


class Packed(Mapping[str, Tensor]):
    """Tensors in the bytes of a layout. Arrays are views of the bytes but for BYTES, and made once.

    The bytes hold what the layout says: whoever packs has checked it. They may lie in files.
    """

    __slots__ = ("_made", "_read", "data", "layout")

    def __init__(self, layout: Layout, data: Union[Buffer, Filed]) -> None:  # noqa: UP007
        self.layout = layout
        self.data = data
        self._read: Buffer | None = None
        self._made: dict[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        made = self._made
        if made is None:
            made = self._made = {}
        tensor = made.get(name)
        if tensor is None:
            cut = self.layout.cuts[name]
            if cut.datatype == "BYTES":
                tensor = from_bytes(self.bytes_of(cut), "BYTES", cut.shape)
            else:
                tensor = np.ndarray(cut.shape, cut.dtype, self.read(), cut.start)
            made[name] = tensor
        return tensor

    def bytes_of(self, cut: Cut) -> memoryview:
        """A tensor's bytes."""
        return memoryview(self.read())[cut.start : cut.start + cut.size]

    def read(self) -> Buffer:
        """The bytes of all; out of the files they lie in, if they do, once.

        Raises InferenceError where such a file has become too short.
        """
        data = self.data
        if type(data) is not Filed:
            return data  # type: ignore[return-value]
        if self._read is None:
            self._read = data.read(self.layout)
        return self._read

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.cuts)

    def __len__(self) -> int:
        return len(self.layout.cuts)

    def __contains__(self, name: object) -> bool:
        """Mapping's own makes the array, for which it reads what may lie in a file."""
        return name in self.layout.cuts


def shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Of one of the tensors, which need not be made into an array for it."""
    if type(tensors) is Packed:
        return tensors.layout.cuts[name].shape
    return tensors[name].shape
