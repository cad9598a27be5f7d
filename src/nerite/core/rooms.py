"""Memory for what clients send, used again: fresh pages cost more than the copy into them."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

_LARGE = 1 << 20  # bytes from which it is worth it
_KEPT = 1 << 26  # bytes that nobody uses, kept for the next


class Rooms:
    """Gives memory and takes it back when the last view of it is gone, in whatever thread."""

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray[Any, Any]]] = {}  # by size
        self._lent: dict[int, weakref.ref[Any]] = {}

    def take(self, length: int) -> memoryview:
        """Room for `length` bytes, not touched before they come, whatever length a client claims.

        Raises MemoryError.
        """
        if length < _LARGE:
            return np.empty(length, np.uint8).data
        size = 1 << (length - 1).bit_length()
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        owner = np.frombuffer(memory, np.uint8, length)
        key = id(memory)
        self._lent[key] = weakref.ref(owner, lambda _: self._take_back(key, memory))
        return owner.data

    def _take_back(self, key: int, memory: np.ndarray[Any, Any]) -> None:
        self._lent.pop(key, None)
        kept = sum(size * len(free) for size, free in list(self._free.items()))
        if kept + memory.nbytes <= _KEPT:
            self._free[memory.nbytes].append(memory)
