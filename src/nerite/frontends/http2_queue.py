"""Queue: RPCs that are not begun while the answers to others wait for their client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nerite.frontends.http2_outbox import Outbox

if TYPE_CHECKING:
    from nerite.frontends.http2_rpc import Rpc

_OWED = 1 << 24  # bytes of answers that may wait while others are begun


class Queue:
    """Of one connection; of RPCs with one message and one answer, which every client takes. A
    stream's answers may wait for an application that waits for another RPC."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: dict[Rpc, None] = {}
        self._allowed = 0

    def add(self, rpc: Rpc) -> None:
        """Its message has come: begin it, now or later."""
        if self._waiting or self._outbox.owed > _OWED:
            self._waiting[rpc] = None
        else:
            rpc.begin()

    def end(self, rpc: Rpc) -> None:
        """It is answered, or nobody waits for it any more."""
        if not self._waiting:
            return
        self._waiting.pop(rpc, None)
        if not self._allowed:  # not from here: what is begun may end at once, and so on
            asyncio.get_running_loop().call_soon(self._go_on)
        self._allowed += 2  # not all at once: their answers are still to come

    def _go_on(self) -> None:
        allowed, self._allowed = self._allowed, 0
        while allowed and self._waiting and self._outbox.owed <= _OWED:
            allowed -= 1
            rpc = next(iter(self._waiting))
            del self._waiting[rpc]
            if rpc.open:
                rpc.begin()
