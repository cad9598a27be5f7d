"""One client's connection: reads requests, hands them over one at a time, writes the answers.

Bodies are received where they will be read. No task and no future is made for a request: a
handler is called with the whole of it and answers through its Exchange, now or later, at once or
in pieces.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

from nerite.frontends.complaints import complaint
from nerite.frontends.http1_burst import LARGEST, Burst
from nerite.frontends.http1_chunks import Chunks
from nerite.frontends.http1_exchange import SMALL, Body, Exchange, Handler, write_parts
from nerite.frontends.http1_head import BadRequest, Head, Limits, Reply
from nerite.frontends.http1_stage import Stage

log = logging.getLogger(__name__)

_LINES = {int(one): f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER = 5.0  # seconds to go on reading from a client that has been refused
_NEVER = math.inf


class Port(Protocol):
    """What the connections of one port share.

    heads: those that were parsed before, by their bytes. now: of the loop's clock, as of the last
    look at it; idle_until: when who is idle since then is overdue.
    """

    handler: Handler
    limits: Limits
    closing: bool
    heads: dict[bytes, Head]
    now: float
    idle_until: float

    burst: Burst

    def head(self, data: bytes) -> Head:
        """The parsed form of a head that is not among `heads`. Raises BadRequest."""
        ...

    def room(self, length: int) -> memoryview:
        """Memory for a body. Raises BadRequest where there is none."""
        ...

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for one more."""
        ...

    def forget(self, connection: Connection) -> None: ...


@lru_cache(1024)
def _length_line(length: int) -> bytes:
    """The last header line of an answer, and the empty line."""
    return b"Content-Length: %d\r\n\r\n" % length


class Connection(asyncio.BufferedProtocol):
    """Belongs to the loop."""

    def __init__(self, listener: Port) -> None:
        self._listener = listener
        self.transport: Any = None
        self.fd = -1  # of a socket that a burst may write to
        self._stage = Stage()
        self._head: Head | None = None
        self._body: memoryview | None = None
        self._body_filled = self._begun_ns = 0
        self._chunks: Chunks | None = None
        self._exchange: Exchange | None = None
        self._begun = False  # a request is arriving, and its time runs
        self._parsing = self._paused = self._discarding = False
        self._congested: asyncio.Future[None] | None = None
        self._unsent = self.deadline = _NEVER

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self._listener.burst.able and transport.get_extra_info("sslcontext") is None:
            self.fd = transport.get_extra_info("socket").fileno()
        if self._listener.admit(self):
            self._begin()  # whoever says nothing has no more time than who says it slowly
        else:
            text = "the server has as many connections as --http-max-connections allows"
            self._refuse(BadRequest(HTTPStatus.SERVICE_UNAVAILABLE, text))

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.forget(self)
        self.transport = None
        self.resume_writing()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._body is not None:
            return self._body[self._body_filled :]
        return self._stage.room()

    def buffer_updated(self, count: int) -> None:
        if self._body is not None:
            self._body_filled += count
            if self._body_filled == len(self._body):
                body, self._body = self._body, None
                self._hand_over(body)
            return
        if self._discarding:
            return
        self._stage.filled += count
        self._read()

    def pause_writing(self) -> None:
        self._congested = asyncio.get_running_loop().create_future()
        self._wait_idle()

    def resume_writing(self) -> None:
        congested, self._congested = self._congested, None
        if congested is None:
            return
        congested.set_result(None)
        if self._exchange is not None:
            self.deadline = _NEVER
        elif self.transport is not None and not self._discarding:
            self._go_on(keep=True)
            if self._begun:
                self._begin()

    def _read(self) -> None:
        """Hand over what is complete; called again when the answer to it is given, and when the
        client has taken what it was given."""
        if self._parsing:
            return
        self._parsing = True
        try:
            while self._congested is None and self._exchange is None and self._body is None:
                if not self._read_request():
                    break
        except BadRequest as error:
            self._refuse(error)
        finally:
            self._parsing = False
        stage = self._stage
        waiting = stage.filled - stage.at
        if self._exchange is not None or self._congested is not None:
            if waiting >= self._listener.limits.head and not self._paused:
                self._paused = True  # a client that pipelines more than we care to keep
                self.transport.pause_reading()
        elif not self._begun and (waiting or self._head is not None):
            self._begin()

    def _read_request(self) -> bool:
        """Whether a step was made: a request handed over or a body begun."""
        stage = self._stage
        if not stage.filled:
            return False
        if self._chunks is not None:
            return self._read_chunks(self._chunks)
        listener = self._listener
        data = stage.head(listener.limits.head)
        if data is None:
            return False
        head = self._head = listener.heads.get(data) or listener.head(data)
        start = stage.at + len(data)
        end = start + head.length
        if head.chunked or end > stage.filled:
            stage.take(len(data))
            return self._begin_body(head)
        body = bytes(stage.view[start:end])
        stage.take(end - stage.at)
        self._hand_over(body)
        return True

    def _begin_body(self, head: Head) -> bool:
        stage = self._stage
        if head.reply is not None:
            self._turn_away(head, head.reply)
            return False
        self._begun_ns = time.monotonic_ns()
        self._begin()
        if head.expects:
            self._direct().write(_CONTINUE)
        if head.chunked:
            limits = self._listener.limits
            if head.limit is not None:
                limits = replace(limits, body=min(limits.body, head.limit))
            self._chunks = Chunks(limits)
            return True
        self._body = self._listener.room(head.length)
        self._body_filled = here = len(stage)
        self._body[:here] = stage.view[stage.at : stage.filled]
        stage.clear()
        return True

    def _read_chunks(self, chunks: Chunks) -> bool:
        stage = self._stage
        stage.take(chunks.feed(stage.view[stage.at : stage.filled]))
        if not chunks.done:
            return False
        self._chunks = None
        self._hand_over(chunks.body)
        return True

    def _hand_over(self, body: Body) -> None:
        head, self._head = self._head, None
        assert head is not None
        begun_ns, self._begun_ns, self._begun = self._begun_ns, 0, False
        self.deadline = _NEVER
        if head.reply is not None:
            self.answer(head, head.reply.status, head.reply.headers, [head.reply.body])
            return
        exchange = self._exchange = Exchange(self, head, body, begun_ns)
        try:
            self._listener.handler(exchange)
        except Exception:
            log.exception("%s %s failed", head.method, head.path)
            exchange.fail()

    def answer(self, head: Head, status: int, headers: bytes, parts: Sequence[Body]) -> None:
        """Write the answer to the request in hand and go on with the next."""
        self._exchange = None
        keep = head.keep_alive and not self._listener.closing
        length = 0
        for part in parts:
            length += len(part)
        connection = b""
        if not keep:
            connection = b"Connection: close\r\n"
        elif head.old:
            connection = b"Connection: keep-alive\r\n"
        start = (_LINES[status], head.extra, headers, connection, _length_line(length))
        if head.method == "HEAD":
            self._direct().write(b"".join(start))
        elif length <= SMALL:
            data = b"".join((*start, *parts))
            if len(data) <= LARGEST and keep and self.fd >= 0:
                self._listener.burst.add(self, data)
            else:
                self._direct().write(data)
        else:
            write_parts(self._direct(), (*start, *parts))
        self._go_on(keep)

    def start(self, head: Head, status: int, headers: bytes) -> None:
        """Write the head of an answer that comes in pieces."""
        start = [_LINES[status], head.extra, headers]
        if not head.old:
            start.append(b"Transfer-Encoding: chunked\r\n")
        if head.old or not head.keep_alive or self._listener.closing:
            start.append(b"Connection: close\r\n")
        self.write([*start, b"\r\n"])

    def end(self, head: Head, rest: bytes) -> None:
        """Write the end of such an answer and go on with the next."""
        self._exchange = None
        if rest:
            self._direct().write(rest)
        self._go_on(head.keep_alive and not head.old and not self._listener.closing)

    async def drained(self) -> None:
        if self._congested is not None:
            await asyncio.shield(self._congested)

    def write(self, parts: Sequence[Body]) -> None:
        write_parts(self._direct(), parts)

    def _direct(self) -> Any:
        """The transport, which has what was written before."""
        self._listener.burst.flush()
        return self.transport

    def _go_on(self, keep: bool) -> None:
        self._wait_idle()
        if not keep:
            self.close()
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self._stage.filled:
            self._read()

    def _refuse(self, error: BadRequest) -> None:
        """Answer what cannot be read, and leave: where the next request starts is unknown."""
        self._turn_away(None, complaint(self._head, int(error.status), str(error)))

    def _turn_away(self, head: Head | None, reply: Reply) -> None:
        """Answer before the body has come, and close once the client has read the answer.

        A connection closed over unread bytes is reset, and the answer may be lost with it.
        """
        self._discarding = True
        self._head = self._body = self._chunks = None
        self._stage.clear()
        self._begun = True  # there is nothing to begin
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(reply.body)
        extra = head.extra + reply.headers if head else reply.headers
        self.write([_LINES[reply.status], extra, length, reply.body])
        if self.transport.can_write_eof():
            self._direct().write_eof()
        self.deadline = self._listener.now + _LINGER

    def _begin(self) -> None:
        self._begun = True
        limits = self._listener.limits
        unlimited = _NEVER if self._head is not None else limits.idle_seconds
        self.deadline = self._listener.now + (limits.send_seconds or unlimited)

    def _wait_idle(self) -> None:
        self._unsent = _NEVER
        self.deadline = self._listener.idle_until

    def expire(self) -> None:
        """The deadline has passed."""
        unsent = self._direct().get_write_buffer_size()
        if 0 < unsent < self._unsent:  # slow, but it takes what it gets
            self._unsent = unsent
            self.deadline = self._listener.now + self._listener.limits.idle_seconds
        elif unsent or self._discarding:
            self.abort()
        elif not self.idle:
            limits = self._listener.limits
            seconds = limits.send_seconds or limits.idle_seconds
            text = f"the request did not arrive within {seconds:g} seconds"
            self._refuse(BadRequest(HTTPStatus.REQUEST_TIMEOUT, text))
        else:
            self.close()

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here."""
        asked = self._exchange is not None or self._head is not None or self._stage.filled
        return not asked and not self._discarding

    def close(self) -> None:
        """What the client sends from now on was sent in vain."""
        self._discarding = True
        self._stage.clear()
        if self.transport is not None:
            self._direct().close()

    def abort(self) -> None:
        if self.transport is not None:
            self._direct().abort()
