"""Our end of a worker's socket: never blocks the loop, and reads only to hand over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable

from nerite.core.files import File
from nerite.core.layout import Buffer
from nerite.core.turn import Turn
from nerite.instances import stream, wire
from nerite.instances.lookout import Lookout
from nerite.instances.regions import LentFiles

_SOCKET_BUFFER = 1 << 22


class Link:
    """Sends messages, and calls `take` with each that comes. Belongs to one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        take: Callable[[wire.Message], None],
        turn: Turn,
    ) -> None:
        """turn: of the loop; it ends when all that has come is taken."""
        self._loop = loop
        self._sock = sock
        self._take = take
        self._turn = turn
        self._memory = stream.Memory(self._post)
        self.files = LentFiles(self._pass, self._forget)
        self._decoder = stream.Decoder(self._memory.borrowed)
        self._unsent: list[Buffer] = []
        self._lookout = Lookout()
        self._watching = self._looking = False
        self.closed: asyncio.Future[None] = loop.create_future()
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
        loop.add_reader(sock, self._readable)

    def send(self, message: list[Buffer]) -> None:
        if self.closed.done():
            return
        waiting = bool(self._unsent)
        self._unsent += stream.unsent(message)
        if not waiting:
            self._write()
            if self._unsent:
                self._loop.add_writer(self._sock, self._writable)

    def send_entries(self, kind: int, entries: list[wire.Entry]) -> None:
        if not self.closed.done():
            self.send(wire.encode_entries(kind, entries, self._memory.lent))

    def _pass(self, number: int, file: File) -> None:
        self.send(stream.passing(number, file))

    def _forget(self, number: int) -> None:
        self._post(wire.encode(wire.FORGET, {"file": number}))

    def _post(self, message: list[Buffer]) -> None:
        """Send from any thread, as when the last view of a tensor goes."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the worker gone
            self._loop.call_soon_threadsafe(self.send, message)

    def _writable(self) -> None:
        self._write()
        if not self._unsent and not self.closed.done():
            self._loop.remove_writer(self._sock)

    def _write(self) -> None:
        try:
            self._unsent = stream.send_some(self._sock, self._unsent)
        except OSError:
            self._unsent = []
            self._close()

    def end(self) -> None:
        """The worker has ended: take what it has still said, and close, whoever holds its end."""
        while not self.closed.done():
            if not self._readable():
                self._close()

    def watch(self) -> None:
        """Something is expected soon: look for it, between whatever else the loop has to do."""
        if not self._watching and self._lookout.begin():
            self._watching = True
            self._look_next()

    def _look_next(self) -> None:
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if not self._watching or self._readable():
            return
        if time.monotonic_ns() < self._lookout.until:
            os.sched_yield()  # to whoever else wants this core
            self._look_next()
        else:
            self._watching = False
            self._lookout.give_up()

    def _readable(self) -> bool:
        """Take what has come; whether anything had."""
        try:
            messages = self._decoder.receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            messages = None
        if self._watching:
            self._watching = False
            self._lookout.found()
        if messages is None:
            self._close()
            return True
        self._turn.begin()
        try:
            for message in messages:
                if message.kind < wire.REGION or not self._memory.take(message):
                    self._take(message)
        finally:
            self._turn.end()
        return True

    def _close(self) -> None:
        if self.closed.done():
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._decoder.close()
        self._memory.close()
        self.closed.set_result(None)
