"""Our end of a worker's socket: never blocks the loop, and reads only to hand over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from nerite.core.layout import Buffer
from nerite.instances import wire

_SOCKET_BUFFER = 1 << 22


class Link:
    """Sends messages, and calls `take` with each that comes. Belongs to one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        take: Callable[[wire.Message], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._take = take
        self._decoder = wire.Decoder()
        self._unsent: list[memoryview] = []
        self.closed: asyncio.Future[None] = loop.create_future()
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
        loop.add_reader(sock, self._readable)

    def send(self, message: list[Buffer]) -> None:
        if self.closed.done():
            return
        waiting = bool(self._unsent)
        self._unsent.extend(memoryview(part) for part in message if len(part))
        if not waiting:
            self._write()
            if self._unsent:
                self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        self._write()
        if not self._unsent and not self.closed.done():
            self._loop.remove_writer(self._sock)

    def _write(self) -> None:
        try:
            self._unsent = wire.send_some(self._sock, self._unsent)
        except OSError:
            self._unsent = []
            self._close()

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._decoder.buffer())
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if count == 0:
            self._close()
            return
        for message in self._decoder.received(count):
            self._take(message)

    def _close(self) -> None:
        if self.closed.done():
            return
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self.closed.set_result(None)
