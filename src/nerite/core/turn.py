"""Turn: what is to be done once at the end of a turn of the loop, for all that comes in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Turn:
    """Of one loop. A turn ends when the loop goes on, or where somebody says so: what answers make
    others ask need not wait until the loop has looked at all its sockets.

    begun: `end` will be called for this turn.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self.begun = False

    def add(self, what: Callable[[], None]) -> None:
        """Do this at the end."""
        if not self._waiting and not self.begun:
            asyncio.get_running_loop().call_soon(self.end)
        self._waiting.append(what)

    def begin(self) -> None:
        """`end` follows in the same turn of the loop."""
        self.begun = True

    def end(self) -> None:
        self.begun = False
        for what in self._waiting:  # and what that adds
            try:
                what()
            except Exception as error:  # the next may be of another model
                context = {"message": f"{what} failed at the end of a turn", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
        self._waiting.clear()
