"""Spans and Filed: tensors' bytes in files that two processes have open, so that none copies them
for the other. The files are shared memory of clients."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Protocol, Sequence

from nerite.core.errors import InferenceError, invalid
from nerite.core.rooms import Rooms

_rooms = Rooms()


class File(Protocol):
    """An open file; whoever holds it keeps it open."""

    @property
    def fd(self) -> int: ...

    @property
    def name(self) -> str:
        """What its owner calls it."""
        ...


class Span(NamedTuple):
    """`size` bytes from `start` of a file."""

    file: File
    start: int
    size: int

    def read_into(self, room: memoryview) -> None:
        """Raises InferenceError where the file has become shorter than its owner said."""
        if os.preadv(self.file.fd, [room], self.start) != self.size:
            raise self.too_short()

    def too_short(self) -> InferenceError:
        name = self.file.name
        return invalid(f"shared memory region '{name}' has become shorter than registered")

    def write(self, data: Any) -> None:
        """As many bytes as `data` has. Raises OSError."""
        view, position = memoryview(data), self.start
        while view:
            written = os.pwrite(self.file.fd, view, position)
            view, position = view[written:], position + written


class Filed:
    """The bytes of a layout's tensors, each in a span, in the layout's order."""

    __slots__ = ("__weakref__", "spans")

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans

    def read(self, layout: Any) -> memoryview:
        """All of them, as the layout has them. Raises InferenceError."""
        room = _rooms.take(layout.size)
        for cut, span in zip(layout.cuts.values(), self.spans):
            span.read_into(room[cut.start : cut.start + cut.size])
        return room
