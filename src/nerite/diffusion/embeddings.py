"""What prompts were encoded to, kept for those who ask again; bounded by bytes and in number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from nerite.diffusion.job import Conditioning


class Embeddings:
    """The least lately used goes first. ``hits`` and ``misses`` count for the metrics."""

    def __init__(self, max_bytes: int, most: int) -> None:
        self._max_bytes = max_bytes
        self._most = most
        self._kept: OrderedDict[Hashable, Conditioning] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable) -> Conditioning | None:
        found = self._kept.get(key)
        if found is None:
            self.misses += 1
            return None
        self._kept.move_to_end(key)
        self.hits += 1
        return found

    def put(self, key: Hashable, conditioning: Conditioning) -> None:
        """Keep it, unless it alone is larger than all that may be kept."""
        size = _size(conditioning)
        if size > self._max_bytes or key in self._kept:
            return
        self._kept[key] = conditioning
        self.bytes += size
        while self.bytes > self._max_bytes or len(self._kept) > self._most:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= _size(oldest)


def _size(conditioning: Conditioning) -> int:
    return sum(tensor.nbytes for tensor in conditioning.values())
