"""gRPC's messages in a stream's data: five bytes, of which four are a length, and so many more."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from nerite.frontends.http1_exchange import Body

_PREFIX = Struct(">BL")
_SIZE = _PREFIX.size
_SMALL = 1 << 16
# A length is believed when so many bytes have come, and not before: a claim is cheap to make, and
# the first byte that is written in a large room may take a page of two megabytes.
_BELIEVED = 1 << 18


class Message(NamedTuple):
    data: Body
    compressed: bool


class TooLarge(Exception):  # noqa: N818  what a client did, not what went wrong here
    """A message is longer than the limit."""


class Incoming:
    """Cuts messages out of data as it comes.

    limit: bytes of a message. room: memory for a large one.
    """

    __slots__ = ("_compressed", "_filled", "_length", "_message", "_prefix", "_room", "limit")

    def __init__(self, limit: int, room: Callable[[int], memoryview]) -> None:
        self.limit = limit
        self._room = room
        self._prefix = b""  # the beginning of one
        self._message: memoryview | None = None
        self._filled = self._length = 0
        self._compressed = False

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._message is not None or bool(self._prefix)

    def feed(self, data: memoryview) -> list[Message]:
        """The messages that `data` completes. Raises ValueError, TooLarge and MemoryError."""
        if not self._prefix and self._message is None and len(data) >= _SIZE:
            flag, length = _PREFIX.unpack_from(data)
            if length == len(data) - _SIZE and flag < 2 and length <= self.limit:
                return [Message(bytes(data[_SIZE:]), flag == 1)]  # the usual case
        messages: list[Message] = []
        while data:
            data = self._begin(data) if self._message is None else self._fill(data, messages)
            if self._message is not None and not len(self._message):
                self._fill(data, messages)
        return messages

    def _begin(self, data: memoryview) -> memoryview:
        """Read a prefix, or what is there of it; what is behind."""
        missing = _SIZE - len(self._prefix)
        self._prefix += data[:missing]
        if len(self._prefix) == _SIZE:
            flag, length = _PREFIX.unpack(self._prefix)
            self._prefix = b""
            if flag > 1:
                raise ValueError(f"a message begins with {flag}, which is neither 0 nor 1")
            if length > self.limit:
                raise TooLarge(f"Received message larger than max ({length} vs. {self.limit})")
            self._compressed = flag == 1
            self._message = self._room(min(length, _BELIEVED))
            self._filled, self._length = 0, length
        return data[missing:]

    def _fill(self, data: memoryview, messages: list[Message]) -> memoryview:
        assert self._message is not None
        room = self._message[self._filled :]
        size = min(len(room), len(data))
        room[:size] = data[:size]
        self._advance(size, messages)
        return data[size:]

    def _advance(self, size: int, messages: list[Message]) -> None:
        message = self._message
        assert message is not None
        self._filled += size
        if self._filled == self._length:
            whole = bytes(message) if self._length <= _SMALL else message
            messages.append(Message(whole, self._compressed))
            self._message = None
        elif self._filled == len(message):
            self._message = self._room(self._length)
            self._message[: self._filled] = message

    def place(self, size: int) -> memoryview | None:
        """Where the next `size` bytes of a message belong, or some of them, if it is a large one
        that has begun."""
        if self._message is None or self._length <= _SMALL:
            return None
        return self._message[self._filled : self._filled + size]

    def placed(self, size: int) -> list[Message]:
        """So many bytes were put there; the message they complete. Raises MemoryError."""
        messages: list[Message] = []
        self._advance(size, messages)
        return messages
