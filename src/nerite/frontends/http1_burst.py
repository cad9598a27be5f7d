"""Burst: the answers of a turn of the loop, written together at its end.

An answer that is written wakes its client, which, where it shares the core, begins to run at once
and sleeps again when it has read that one answer: two switches for each. Of several that one
system call writes, there are two for all.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from nerite.core.turn import Turn
from nerite.frontends.aio import Aio

LARGEST = 1 << 12  # bytes of an answer above which the client is busy with it in any case
_MOST = 64


class Sender(Protocol):
    """A connection. transport: None once it is lost; until then `fd` is its socket's."""

    transport: Any
    fd: int


class Burst:
    """Of one port. able: whether it is open, and the system can do it; else nothing is added."""

    def __init__(self, turn: Turn | None = None) -> None:
        """turn: of the loop."""
        self._turn = turn or Turn()
        self._waiting: dict[Sender, bytes] = {}
        self._aio: Aio | None = None

    @property
    def able(self) -> bool:
        return self._aio is not None

    def open(self) -> None:
        """Before the first connection."""
        with contextlib.suppress(OSError):
            self._aio = Aio(_MOST, _MOST * LARGEST)

    def add(self, sender: Sender, data: bytes) -> None:
        """Write this, of LARGEST bytes at most, to a plain socket at the end of the turn."""
        if sender in self._waiting:  # else a second could overtake what is left of the first
            self.flush()
        if not self._waiting:
            self._turn.add(self.flush)
        self._waiting[sender] = data

    def flush(self) -> None:
        """Write what waits, before anything else is done with one of these connections."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        aio = self._aio
        together: list[Sender] = []
        for sender, data in waiting.items():
            transport = sender.transport
            if transport is None:
                continue
            if len(waiting) == 1 or transport.get_write_buffer_size() or aio is None:
                transport.write(data)  # which comes after what it has
                continue
            aio.put(sender.fd, data)
            together.append(sender)
            if len(together) == _MOST:
                self._write(aio, together, waiting)
                together = []
        if aio is not None and together:
            self._write(aio, together, waiting)

    def _write(self, aio: Aio, together: list[Sender], waiting: dict[Sender, bytes]) -> None:
        for sender, result in zip(together, aio.write(), strict=True):
            data = waiting[sender]
            if result != len(data):  # the transport waits, or finds the client gone
                sender.transport.write(data[max(0, result) :])

    def close(self) -> None:
        self.flush()
        if self._aio is not None:
            self._aio.close()
            self._aio = None
