"""Lookout: whether to look for what is expected for a while before sleeping until it comes.

To be woken takes longer than a quick model does, and so does to wake. Where it was looked for in
vain, that is done more and more seldom. Both ends of a worker's socket use this.
"""

from __future__ import annotations

import time

from nerite.core.cores import usable_cores

WATCH_NS = 150_000
_MOST_SPARED = 31  # times in a row that one sleeps at once, having looked in vain
SEVERAL_CORES = usable_cores() > 1


class Lookout:
    """Of one end. until: when to give up, of the monotonic clock (ns), once it has begun."""

    def __init__(self) -> None:
        self.until = 0
        self._vain = self._spared = 0

    def begin(self) -> bool:
        """Whether to look this time."""
        if self._spared:
            self._spared -= 1
            return False
        self.until = time.monotonic_ns() + WATCH_NS
        return SEVERAL_CORES  # on one, nobody could send meanwhile

    def found(self) -> None:
        """It has come."""
        self._vain = 0

    def give_up(self) -> None:
        """It was looked for in vain."""
        self._vain = self._spared = min(2 * self._vain + 1, _MOST_SPARED)
