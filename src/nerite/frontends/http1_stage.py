"""Where a connection's bytes arrive: read from the front, refilled at the back."""

from __future__ import annotations

from http import HTTPStatus

from nerite.frontends.http1_head import BadRequest

_SIZE = 1 << 14
_CR, _LF = b"\r\n"


class Stage:
    """What has come and is not yet read: `view` from `at` to `filled`.

    Nothing is moved for a request that is read, and no byte is searched twice: a client decides
    how small the pieces are in which it sends.
    """

    __slots__ = ("_data", "_searched", "at", "filled", "view")

    def __init__(self, size: int = _SIZE) -> None:
        self._data = bytearray(size)
        self.view = memoryview(self._data)
        self.at = 0
        self.filled = 0
        self._searched = 0  # up to here there is no end of a head

    def __len__(self) -> int:
        return self.filled - self.at

    def room(self) -> memoryview:
        """Where the next bytes go."""
        if self.filled == len(self._data):
            self._grow()
        return self.view[self.filled :]

    def _grow(self) -> None:
        """Move what is left to the front, or double the room."""
        left = self.view[self.at : self.filled]
        data = bytearray(len(self._data) if self.at else 2 * len(self._data))
        data[: len(left)] = left
        self._searched -= self.at
        self.at, self.filled = 0, len(left)
        self._data, self.view = data, memoryview(data)

    def take(self, count: int) -> None:
        """These bytes have been read."""
        self.at += count
        if self.at == self.filled:
            self.at = self.filled = 0
        self._searched = self.at

    def clear(self) -> None:
        self.take(self.filled - self.at)

    def head(self, limit: int) -> bytes | None:
        """The head of a request, once it is whole; of what is at least a byte.

        Raises BadRequest for what cannot be one.
        """
        data, at = self._data, self.at
        if data[at] == _CR:
            self._skip_empty_lines()
            at = self.at
        end = data.find(b"\r\n\r\n", self._searched, self.filled) + 4
        if 4 <= end <= at + limit:
            return bytes(self.view[at:end])
        if end >= 4 or len(self) > limit:
            text = f"the request's head is longer than {limit} bytes"
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        if data.find(b"\n\n", self._searched, self.filled) >= 0:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a head's lines end with CR and LF")
        self._searched = max(self.at, self.filled - 3)
        return None

    def _skip_empty_lines(self) -> None:
        """Those before a request say nothing (RFC 9112, section 2.2)."""
        data = self._data
        while len(self) > 1 and data[self.at] == _CR and data[self.at + 1] == _LF:
            self.take(2)
