"""One HTTP request and its answer: what a door sees of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nerite.frontends.complaints import complaint
from nerite.frontends.http1_head import Head

Body = bytes | bytearray | memoryview
_BROKEN = "internal error; the server's log says more"


SMALL = 1 << 16  # a part above this is written by itself and not copied


def write_parts(transport: Any, parts: Sequence[Body]) -> None:
    """In as few pieces as copies are cheap."""
    if sum(map(len, parts)) <= SMALL:
        transport.write(b"".join(parts))
        return
    small: list[Body] = []
    for part in parts:
        if len(part) <= SMALL:
            small.append(part)
            continue
        if small:
            transport.write(b"".join(small))
        transport.write(part)
        small = []
    if small:
        transport.write(b"".join(small))


class Channel(Protocol):
    """The connection an exchange answers to."""

    def answer(self, head: Head, status: int, headers: bytes, parts: Sequence[Body]) -> None: ...
    def start(self, head: Head, status: int, headers: bytes) -> None: ...
    def write(self, parts: Sequence[Body]) -> None: ...
    def end(self, head: Head, rest: bytes) -> None: ...
    async def drained(self) -> None: ...
    def abort(self) -> None: ...


class Exchange:
    """One request, whole, and the one answer it gets: respond, or start, write and end.

    on_disconnect is called when the client leaves before it has been answered. begun_ns: when a
    body that did not come with its head began to come, of the monotonic clock; else 0.
    """

    __slots__ = ("_channel", "_started", "begun_ns", "body", "head", "on_disconnect")

    def __init__(self, channel: Channel, head: Head, body: Body, begun_ns: int = 0) -> None:
        self._channel: Channel | None = channel
        self._started = False
        self.begun_ns = begun_ns
        self.head = head
        self.body = body
        self.on_disconnect: Callable[[], object] | None = None

    @property
    def open(self) -> bool:
        """Whether an answer would still reach the client."""
        return self._channel is not None

    def respond(self, status: int, headers: bytes = b"", parts: Sequence[Body] = ()) -> None:
        """Answer; `headers` are whole lines. Does nothing when the client has left."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.answer(self.head, status, headers, parts)

    def start(self, status: int, headers: bytes = b"") -> None:
        """Begin an answer whose length is not known; write its pieces, and end it."""
        if self._channel is not None:
            self._started = True
            self._channel.start(self.head, status, headers)

    def write(self, piece: Body) -> None:
        """A piece of the answer; it goes out at once."""
        if self._channel is None or not piece or self.head.method == "HEAD":
            return
        if self.head.old:  # the connection's end is the answer's
            self._channel.write([piece])
        else:
            self._channel.write([b"%x\r\n" % len(piece), piece, b"\r\n"])

    async def drained(self) -> None:
        """Until the client has taken most of what was written, or has left."""
        if self._channel is not None:
            await self._channel.drained()

    def end(self) -> None:
        """The answer is complete."""
        channel, self._channel = self._channel, None
        if channel is not None:
            plain = self.head.old or self.head.method == "HEAD"
            channel.end(self.head, b"" if plain else b"0\r\n\r\n")

    def fail(self) -> None:
        """The handler has failed: a 500, or an answer that is visibly cut short."""
        if self._channel is not None and self._started:
            self._channel.abort()
        else:
            reply = complaint(self.head, 500, _BROKEN)
            self.respond(reply.status, reply.headers, [reply.body])

    def leave(self) -> None:
        """The client is gone."""
        self._channel = None
        if self.on_disconnect is not None:
            self.on_disconnect()


Handler = Callable[[Exchange], None]
