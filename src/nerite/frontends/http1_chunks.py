"""The body of a request whose length is not known before its end (RFC 9112, section 7.1)."""

from __future__ import annotations

import re
from http import HTTPStatus

from nerite.frontends.http1_head import BadRequest, Limits

_LINE = 1024  # bytes of a size with its extensions, and of a trailer
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?")


class Chunks:
    """A chunked body as it comes; `done` once it is whole. Trailers are read and dropped."""

    def __init__(self, limits: Limits) -> None:
        self.body = bytearray()
        self.done = False
        self._limits = limits
        self._count = 0
        self._left = 0  # of the chunk's data
        self._ending = False  # the data's line end is next
        self._trailing = False
        self._trailers = 0

    def feed(self, data: memoryview) -> int:
        """How many bytes were used. Raises BadRequest."""
        position = 0
        while not self.done:
            if self._left:
                taken = data[position : position + self._left]
                if not taken:
                    return position
                self.body += taken
                self._left -= len(taken)
                self._ending = not self._left
                position += len(taken)
                continue
            line = bytes(data[position : position + _LINE])
            end = line.find(b"\r\n")
            if self._ending and end and line not in (b"", b"\r"):
                raise self._bad("a chunk is longer than its size")
            if end < 0:
                if len(line) == _LINE:
                    raise self._bad("a chunk's line is too long")
                return position
            self._take_line(line[:end])
            position += end + 2
        return position

    def _take_line(self, line: bytes) -> None:
        if self._ending:
            self._ending = False
        elif self._trailing:
            self._trailers += len(line) + 2
            if self._trailers > self._limits.head:
                raise self._bad("the body's trailers are too long")
            self.done = not line
        else:
            self._take_size(line)

    def _take_size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise self._bad("a chunk's size is no hexadecimal number")
        size = int(match[1], 16)
        if not size:
            self._trailing = True
            return
        self._count += 1
        if self._count > self._limits.chunks:
            raise self._bad(
                f"Chunked request body exceeds maximum of {self._limits.chunks} non-empty chunks. "
                "Send fewer or larger HTTP chunks."
            )
        if len(self.body) + size > self._limits.body:
            text = f"the request's body has more than {self._limits.body} bytes"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        self._left = size

    @staticmethod
    def _bad(text: str) -> BadRequest:
        return BadRequest(HTTPStatus.BAD_REQUEST, text)
