"""The cache in this process's memory: so many bytes, of which the least recently used leave."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from nerite.cache.base import Found, refused
from nerite.core.request import Response
from nerite.core.tensor import Tensor


class _Entry(NamedTuple):
    response: Response
    size: int


class LocalCache:
    """size: bytes of all answers together, with what Python itself needs for them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    async def start(self) -> None:
        pass

    def look_up(self, key: bytes, found: Found) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        found(entry.response if entry is not None else None)

    def insert(self, key: bytes, response: Response) -> None:
        """Raises InferenceError for an answer that is larger than the whole cache."""
        kept = {name: _own(tensor) for name, tensor in response.outputs.items()}
        size = sys.getsizeof(key) + sum(map(_size, kept.values()))
        if size > self._size:
            raise refused(key, f"{size} bytes are more than the {self._size} of the whole cache")
        self._drop(key)
        self._entries[key] = _Entry(response._replace(outputs=kept), size)
        self._used += size
        while self._used > self._size:
            self._used -= self._entries.popitem(last=False)[1].size

    def forget(self, owner: bytes) -> None:
        for key in [key for key in self._entries if key.startswith(owner)]:
            self._drop(key)

    async def close(self) -> None:
        self._entries.clear()
        self._used = 0

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._used -= entry.size


def _own(tensor: Tensor) -> Tensor:
    """A copy that nobody changes: the original may be a view of a far larger message."""
    copy = np.array(tensor)
    copy.flags.writeable = False
    return copy


def _size(tensor: Tensor) -> int:
    size = sys.getsizeof(tensor)
    if tensor.dtype.hasobject:
        size += sum(map(sys.getsizeof, tensor.flat))
    return size
