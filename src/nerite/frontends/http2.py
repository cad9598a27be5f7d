"""gRPC on asyncio: our own HTTP/2, because the path of an inference runs through it.

A client in its stride sends the same few bytes of headers with every RPC, so parsed heads are
kept by their bytes; hpack reads those that are new.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping

from nerite.core.rooms import Rooms
from nerite.frontends.accepting import accept
from nerite.frontends.http2_connection import Connection
from nerite.frontends.http2_head import Head
from nerite.frontends.http2_pulse import Terms
from nerite.frontends.http2_rpc import GrpcCode, Refusal, Route, Rpc

__all__ = ["Gate", "GrpcCode", "Head", "Listener", "Refusal", "Route", "Rpc", "Terms"]

# Looks at a new head, and says why it is not let in, if it is not.
Gate = Callable[[Head], Refusal | None]

_LARGEST = 2**31 - 1  # bytes of a message, as Triton's


class Listener:
    """The connections of one port. compression: of answers to clients that read it; "" for none."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        terms: Terms | None = None,
        gate: Gate | None = None,
        compression: str = "",
    ) -> None:
        self.terms = terms or Terms()
        self.limit = _LARGEST
        self.compression = compression
        self.connections: set[Connection] = set()
        self.now = 0.0
        self._routes = routes
        self._gate = gate
        self._rooms = Rooms()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._closing = False

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a listening socket."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self._server = await accept(sock, lambda: Connection(self), tls)
        self._sweeping = loop.create_task(self._sweep())

    def prepare(self, head: Head) -> None:
        head.route = self._routes.get(head.path)
        head.refusal = self._gate(head) if self._gate is not None else None
        if head.route is None and head.refusal is None:
            head.refusal = Refusal(GrpcCode.UNIMPLEMENTED, f"there is no RPC {head.path}")

    def room(self, length: int) -> memoryview:
        """Memory for a message. Raises MemoryError."""
        return self._rooms.take(length)

    def admit(self, connection: Connection) -> None:
        most = self.terms.connections
        full = bool(most) and len(self.connections) >= most
        self.connections.add(connection)
        if full:
            connection.refuse("the server has as many connections as --grpc-max-connections allows")
        elif self._closing:  # its handshake took as long
            connection.leave()

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def _sweep(self) -> None:
        """Now and then, look who is overdue: cheaper than a timer per connection."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.terms.interval)
            self.now = loop.time()
            for connection in [*self.connections]:
                connection.look(self.now)

    async def close(self, timeout: float) -> None:
        """Accept no more, let RPCs in hand be answered for `timeout` seconds, leave. May be called
        again while it waits, for less time."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in [*self.connections]:
            connection.leave()
        if self.connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout)
        for connection in [*self.connections]:
            connection.abort()
