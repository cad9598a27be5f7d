"""HTTP/1.1 on asyncio: our own, because the path of an inference runs through it.

A client sends the same head with every request of a kind, so parsed heads are kept by their
bytes; httptools parses those that are new.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus

from nerite.core.rooms import Rooms
from nerite.core.turn import Turn
from nerite.frontends.accepting import accept
from nerite.frontends.complaints import is_openai
from nerite.frontends.http1_burst import Burst
from nerite.frontends.http1_connection import Connection
from nerite.frontends.http1_exchange import Body, Exchange, Handler
from nerite.frontends.http1_head import BadRequest, Head, Limits, Reply

__all__ = ["Body", "Exchange", "Gate", "Handler", "Head", "Limits", "Listener", "Reply"]

# Looks at a new head before its body is read, and may set its reply and extra.
Gate = Callable[[Head], None]

_KEPT_HEADS = 1024
_KEPT_HEAD = 1 << 12  # bytes of a head above which it is not kept
_SWEEP = 1.0  # seconds between two looks at the clock


class Listener:
    """The connections of one port, and the heads they share."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits | None = None,
        gate: Gate | None = None,
        turn: Turn | None = None,
    ) -> None:
        """turn: of the loop, where answers come in turns; their end is when they are written."""
        self.burst = Burst(turn)
        self.handler, self.limits = handler, limits or Limits()
        self.connections: set[Connection] = set()
        self.closing = False
        self._tell(0.0)
        self._gate = gate
        self._refused: set[Connection] = set()
        self.heads: dict[bytes, Head] = {}  # parsed before, by their bytes
        self._rooms = Rooms()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a listening socket."""
        loop = asyncio.get_running_loop()
        self._tell(loop.time())
        self.burst.open()
        self._server = await accept(sock, lambda: Connection(self), tls)
        self._sweeping = loop.create_task(self._sweep())

    def head(self, data: bytes) -> Head:
        """The parsed form of a head that is not among `heads`. Raises BadRequest."""
        head = Head(data)
        if self._gate is not None:
            self._gate(head)
        limit = self.limits.body
        if head.length > limit and head.reply is None:
            text = f"the request's body has {head.length} bytes; at most {limit} are taken"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        same = head.reply is None or not is_openai(head)  # whose refusals have an id each
        if same and len(data) <= _KEPT_HEAD:
            if len(self.heads) >= _KEPT_HEADS:
                self.heads.clear()
            self.heads[data] = head
        return head

    def room(self, length: int) -> memoryview:
        """Memory for a body. Raises BadRequest where there is none."""
        try:
            return self._rooms.take(length)
        except MemoryError:
            text = f"there is no memory for the request's body of {length} bytes"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text) from None

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for one more."""
        limit = self.limits.connections
        full = bool(limit) and len(self.connections) >= limit
        (self._refused if full else self.connections).add(connection)
        return not full

    def forget(self, connection: Connection) -> None:
        self._refused.discard(connection)
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _tell(self, now: float) -> None:
        self.now = now
        self.idle_until = now + self.limits.idle_seconds

    async def _sweep(self) -> None:
        """Now and then, close what is overdue: cheaper than a timer per request."""
        loop = asyncio.get_running_loop()
        seconds = (self.limits.send_seconds or _SWEEP, self.limits.idle_seconds)
        while True:
            await asyncio.sleep(min(_SWEEP, *(one / 4 for one in seconds)))
            self._tell(loop.time())
            for connection in [*self.connections, *self._refused]:
                if connection.deadline < self.now:
                    connection.expire()

    async def close(self, timeout: float) -> None:
        """Accept no more, let requests in hand be answered for `timeout` seconds, leave."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in [one for one in self.connections if one.idle]:
            connection.close()
        self._empty.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout)
        for connection in [*self.connections, *self._refused]:
            connection.abort()
        self.burst.close()
