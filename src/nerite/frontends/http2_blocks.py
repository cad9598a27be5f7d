"""Header blocks, put together from the HEADERS and CONTINUATION frames that carry them."""

from __future__ import annotations

from typing import NamedTuple

from nerite.frontends import http2_frames as h2
from nerite.frontends.http2_frames import Code, ConnectionFault


class Block(NamedTuple):
    """A whole one. ended: the client says no more on this stream."""

    stream: int
    ended: bool
    data: bytes


class Blocks:
    """Of one connection, which has one block at a time.

    stream: whose block has begun and not ended; 0 for none.
    """

    __slots__ = ("_ended", "_gathered", "_limit", "stream")

    def __init__(self, limit: int) -> None:
        """limit: bytes of a block."""
        self._limit = limit
        self._gathered = bytearray()
        self._ended = False
        self.stream = 0

    def begin(self, flags: int, stream: int, payload: memoryview) -> Block | None:
        """HEADERS: the block, if it is whole. Raises ConnectionFault."""
        if not stream % 2:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"headers on stream {stream}")
        data = h2.unpadded(flags, payload)
        if flags & h2.PRIORITIZED:
            if len(data) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS without their priority")
            data = data[5:]
        ended = bool(flags & h2.END_STREAM)
        if flags & h2.END_HEADERS and len(data) <= self._limit:
            return Block(stream, ended, bytes(data))
        self._gathered, self._ended, self.stream = bytearray(), ended, stream
        return self.go_on(flags, data)

    def go_on(self, flags: int, payload: memoryview) -> Block | None:
        """CONTINUATION, likewise."""
        if not self.stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "headers that go on without a beginning")
        self._gathered += payload
        if len(self._gathered) > self._limit:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too long")
        if not flags & h2.END_HEADERS:
            return None
        stream, self.stream = self.stream, 0
        return Block(stream, self._ended, bytes(self._gathered))
