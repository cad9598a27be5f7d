"""Deadline: how long a worker may take for an execution before it is held to be stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Of one worker. Belongs to one loop."""

    def __init__(self, seconds: float, late: Callable[[float], None]) -> None:
        """late: told of the seconds when they are over."""
        self._seconds = seconds
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something is handed over; the time of what came before runs already."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._late, self._seconds)

    def ended(self, more: bool) -> None:
        """An execution has ended; where there are `more`, the next one begins now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if more:
                self.begin()
