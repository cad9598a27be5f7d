"""HTTP/1.1 on asyncio: our own, because the path of an inference runs through it.

A client sends the same head with every request of a kind, so parsed heads are kept by their
bytes; httptools parses those that are new. Bodies are received where they will be read. No task
and no future is made for a request: a handler is called with the whole of it and answers through
its Exchange, now or later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools

log = logging.getLogger(__name__)

Body = bytes | bytearray | memoryview
Handler = Callable[["Exchange"], None]

_STAGE = 1 << 14
_KEPT_HEADS = 1024
_SMALL = 1 << 16  # a part above this is written by itself and not copied
_LINES = {int(one): f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER = float("inf")


@dataclass(frozen=True)
class Limits:
    """What a client may send.

    head: bytes of request line and headers; body: bytes; chunks: of one chunked body;
    send_seconds: for the whole of a request once it has begun; idle_seconds: between two.
    """

    head: int = 1 << 16
    body: int = 1 << 32
    chunks: int = 1 << 16
    send_seconds: float = 300.0
    idle_seconds: float = 600.0


class BadRequest(Exception):  # noqa: N818  what a client did, not what went wrong here
    """A request that is not HTTP, or is beyond the limits; the connection ends with its answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Head:
    """A parsed request line and its headers (names in lower case).

    route is the handler's: what it makes of the path, kept with the head.
    """

    def __init__(self, data: bytes) -> None:
        """Raises BadRequest for what is not HTTP/1."""
        self.headers: dict[str, str] = {}
        self.route: Any = None
        self._url = b""
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # we speak nothing else, and say so by not answering to it
        except httptools.HttpParserError as error:
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"not an HTTP request: {error}") from None
        self.method: str = parser.get_method().decode("ascii")
        self.old: bool = parser.get_http_version() == "1.0"
        self.keep_alive: bool = parser.should_keep_alive()
        self._read_url()
        self._read_length()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self.headers:
            if key == "content-length":
                raise BadRequest(HTTPStatus.BAD_REQUEST, "several Content-Length headers")
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text

    def _read_url(self) -> None:
        try:
            parsed = httptools.parse_url(self._url)
            self.path = unquote((parsed.path or b"/").decode("ascii"))
            self.query = (parsed.query or b"").decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            raise BadRequest(HTTPStatus.BAD_REQUEST, "the request's path is not a URL") from None

    def _read_length(self) -> None:
        coding = self.headers.get("transfer-encoding", "").lower()
        self.chunked = coding == "chunked"
        if coding and (not self.chunked or "content-length" in self.headers):
            text = f"unsupported Transfer-Encoding '{coding}'"
            raise BadRequest(HTTPStatus.BAD_REQUEST, text)
        text = self.headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit()):
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"Content-Length is '{text}'")
        self.length = int(text)


class Exchange:
    """One request, whole, and the one answer it gets.

    on_disconnect is called when the client leaves before it has been answered.
    """

    __slots__ = ("_connection", "body", "head", "on_disconnect")

    def __init__(self, connection: Connection, head: Head, body: Body) -> None:
        self._connection: Connection | None = connection
        self.head = head
        self.body = body
        self.on_disconnect: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """Whether an answer would still reach the client."""
        return self._connection is not None

    def respond(self, status: int, headers: bytes = b"", parts: Sequence[Body] = ()) -> None:
        """Answer; `headers` are whole lines. Does nothing when the client has left."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.answer(self.head, status, headers, parts)

    def leave(self) -> None:
        """The client is gone."""
        self._connection = None
        if self.on_disconnect is not None:
            self.on_disconnect()


class Connection(asyncio.BufferedProtocol):
    """One client: reads requests, hands them over one at a time, writes the answers."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: Any = None
        self._stage = bytearray(_STAGE)
        self._filled = 0
        self._head: Head | None = None
        self._body: memoryview | None = None
        self._body_filled = 0
        self._chunks: _Chunks | None = None
        self._exchange: Exchange | None = None
        self._parsing = False
        self._paused = False
        self.deadline = _NEVER

    # What asyncio calls.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._listener.connections.add(self)
        self._wait_idle()

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.forget(self)
        self._transport = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._body is not None:
            return self._body[self._body_filled :]
        if self._filled == len(self._stage):
            self._stage += bytes(len(self._stage))
        return memoryview(self._stage)[self._filled :]

    def buffer_updated(self, count: int) -> None:
        if self._body is not None:
            self._body_filled += count
            if self._body_filled == len(self._body):
                body, self._body = self._body, None
                self._hand_over(body)
            return
        if not self._filled and self.deadline != _NEVER:
            self.deadline = self._listener.now + self._listener.limits.send_seconds
        self._filled += count
        self._read()

    # Reading.

    def _read(self) -> None:
        """Hand over what is complete; called again when the answer to it is given."""
        if self._parsing:
            return
        self._parsing = True
        try:
            while self._filled and self._exchange is None and self._body is None:
                if not self._read_request():
                    break
        except BadRequest as error:
            self._refuse(error)
        finally:
            self._parsing = False
        if self._exchange is not None and self._filled >= self._listener.limits.head:
            self._pause()  # a client that pipelines more than we care to keep

    def _read_request(self) -> bool:
        """Whether a step was made: a request handed over or a body begun."""
        if self._chunks is not None:
            return self._read_chunks()
        if self._head is None:
            end = self._stage.find(b"\r\n\r\n", 0, self._filled) + 4
            if end < 4:
                if self._filled > self._listener.limits.head:
                    text = f"the request's head is longer than {self._listener.limits.head} bytes"
                    raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
                return False
            self._head = self._listener.head(bytes(memoryview(self._stage)[:end]))
            return self._begin_body(end)
        return False

    def _begin_body(self, start: int) -> bool:
        head, limits = self._head, self._listener.limits
        assert head is not None
        if head.length > limits.body:
            text = f"the request's body has {head.length} bytes; at most {limits.body} are taken"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        here = self._filled - start
        if not head.chunked and here >= head.length:
            body = bytes(memoryview(self._stage)[start : start + head.length])
            self._consume(start + head.length)
            self._hand_over(body)
            return True
        if "expect" in head.headers:
            self._transport.write(_CONTINUE)
        if head.chunked:
            self._chunks = _Chunks(limits)
            self._consume(start)
            return True
        self._body = memoryview(bytearray(head.length))
        self._body[:here] = memoryview(self._stage)[start : self._filled]
        self._body_filled = here
        self._filled = 0
        return True

    def _read_chunks(self) -> bool:
        assert self._chunks is not None
        used = self._chunks.feed(memoryview(self._stage)[: self._filled])
        self._consume(used)
        if not self._chunks.done:
            return False
        body, self._chunks = self._chunks.body, None
        self._hand_over(body)
        return True

    def _consume(self, count: int) -> None:
        left = self._filled - count
        if left:
            self._stage[:left] = self._stage[count : self._filled]
        self._filled = left

    def _hand_over(self, body: Body) -> None:
        head, self._head = self._head, None
        assert head is not None
        self.deadline = _NEVER
        exchange = self._exchange = Exchange(self, head, body)
        try:
            self._listener.handler(exchange)
        except Exception:
            log.exception("%s %s failed", head.method, head.path)
            exchange.respond(500, b"Content-Type: application/json\r\n", [_BROKEN])

    # Writing.

    def answer(self, head: Head, status: int, headers: bytes, parts: Sequence[Body]) -> None:
        """Write the answer to the request in hand and go on with the next."""
        self._exchange = None
        keep = head.keep_alive and not self._listener.closing
        length = sum(map(len, parts))
        start = [_LINES[status], headers, b"Content-Length: %d\r\n" % length]
        if not keep:
            start.append(b"Connection: close\r\n")
        elif head.old:
            start.append(b"Connection: keep-alive\r\n")
        start.append(b"\r\n")
        self._write(start, () if head.method == "HEAD" else parts)
        if not keep:
            self._transport.close()
            return
        self._wait_idle()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._filled:
            self._read()

    def _write(self, start: list[bytes], parts: Sequence[Body]) -> None:
        small: list[Body] = [*start]
        for part in parts:
            if len(part) < _SMALL:
                small.append(part)
                continue
            self._transport.write(b"".join(small))
            self._transport.write(part)
            small = []
        if small:
            self._transport.write(b"".join(small))

    def _refuse(self, error: BadRequest) -> None:
        """Answer what cannot be read, and leave: where the next request starts is unknown."""
        body = b'{"error":"%s"}' % str(error).replace("\\", "\\\\").replace('"', '\\"').encode()
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        self._transport.write(
            b"".join([_LINES[error.status], b"Content-Type: application/json\r\n", length, body])
        )
        self._filled = 0
        self._transport.close()

    def _wait_idle(self) -> None:
        self.deadline = self._listener.now + self._listener.limits.idle_seconds

    def _pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    @property
    def idle(self) -> bool:
        return self._exchange is None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


_BROKEN = b'{"error":"internal error; the server\'s log says more"}'


class _Chunks:
    """A chunked body as it comes (RFC 9112, section 7.1)."""

    def __init__(self, limits: Limits) -> None:
        self.body = bytearray()
        self.done = False
        self._limits = limits
        self._count = 0
        self._left = 0  # of the chunk's data and its line end
        self._trailing = False

    def feed(self, data: memoryview) -> int:
        """How many bytes were used. Raises BadRequest."""
        position = 0
        while not self.done:
            if self._left:
                used = self._take_data(data[position:])
                position += used
                if not used:
                    return position
                continue
            end = bytes(data[position : position + 1024]).find(b"\r\n")
            if end < 0:
                if len(data) - position >= 1024:
                    raise BadRequest(HTTPStatus.BAD_REQUEST, "a chunk's size line is too long")
                return position
            self._take_line(bytes(data[position : position + end]))
            position += end + 2
        return position

    def _take_line(self, line: bytes) -> None:
        if self._trailing:
            self.done = not line
            return
        try:
            size = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            size = -1
        if size < 0:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a chunk's size is no hexadecimal number")
        self._count += 1
        if self._count > self._limits.chunks:
            text = f"the request's body has more than {self._limits.chunks} chunks"
            raise BadRequest(HTTPStatus.BAD_REQUEST, text)
        if len(self.body) + size > self._limits.body:
            text = f"the request's body has more than {self._limits.body} bytes"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        self._trailing = size == 0
        self._left = size + 2 if size else 0

    def _take_data(self, data: memoryview) -> int:
        used = min(len(data), self._left)
        content = min(used, max(0, self._left - 2))
        self.body += data[:content]
        self._left -= used
        return used


class Listener:
    """The connections of one port, and the heads they share."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.connections: set[Connection] = set()
        self.closing = False
        self.now = 0.0
        self._heads: dict[bytes, Head] = {}
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a listening socket."""
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self._server = await loop.create_server(lambda: Connection(self), sock=sock, ssl=tls)
        self._sweeping = loop.create_task(self._sweep())

    def head(self, data: bytes) -> Head:
        """The parsed form of a head. Raises BadRequest."""
        head = self._heads.get(data)
        if head is None:
            head = Head(data)
            if len(self._heads) >= _KEPT_HEADS:
                self._heads.clear()
            self._heads[data] = head
        return head

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def _sweep(self) -> None:
        """Once a second, close what is overdue: cheaper than a timer per request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self.now = loop.time()
            for connection in list(self.connections):
                if connection.deadline < self.now:
                    connection.close()

    async def close(self, timeout: float) -> None:
        """Accept no more, let requests in hand be answered for `timeout` seconds, leave."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self.connections):
            if connection.idle:
                connection.close()
        self._empty.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout)
        for connection in list(self.connections):
            connection.abort()
