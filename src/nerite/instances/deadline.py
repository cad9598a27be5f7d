"""Deadline: how long a worker may give no sign of life before it is held to be stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# Stands for what the worker executes. Requests that an execution has left open, as those of a
# decoupled model, have numbers of their own, from 1 up.
EXECUTION = 0


class Deadline:
    """Of one worker, which owes several things, each with its own time. Belongs to one loop."""

    def __init__(self, seconds: float, late: Callable[[float], None]) -> None:
        """late: told of the seconds when they are over."""
        self._seconds = seconds
        self._late = late
        self._since: dict[int, float] = {}  # the oldest first
        self._held: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, number: int) -> None:
        """Its time begins now, whether or not it ran before."""
        if number in self._held:
            return
        loop = asyncio.get_running_loop()
        self._since.pop(number, None)
        self._since[number] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def expect(self) -> None:
        """An execution is handed over; the time of what came before runs already."""
        if EXECUTION not in self._since:
            self.begin(EXECUTION)

    def alive(self, number: int) -> None:
        """A request has an answer that is not its last."""
        for one in (number, EXECUTION):
            if one in self._since:
                self.begin(one)
                return

    def hold(self, number: int, held: bool) -> None:
        """Whoever gets a request's answers has no room for more, or has room again."""
        if held:
            self._since.pop(number if number in self._since else EXECUTION, None)
            self._held.add(number)
        else:
            self._held.discard(number)
            self.begin(number)

    def end(self, number: int) -> None:
        self._since.pop(number, None)
        self._held.discard(number)

    def clear(self) -> None:
        """The worker is gone."""
        self._since.clear()
        self._held.clear()

    def _look(self) -> None:
        self._timer = None
        for since in self._since.values():
            loop = asyncio.get_running_loop()
            left = since + self._seconds - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._look)
            else:
                self._late(self._seconds)
            return
