"""What a connection sends: frames within the windows that its client opens (RFC 9113, 5.2)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

from nerite.frontends import http2_frames as h2
from nerite.frontends.http1_exchange import Body
from nerite.frontends.http2_frames import Code, ConnectionFault, StreamFault

_PIECE = 1 << 20  # bytes of a stream after which it is another's turn


class Outgoing:
    """What one stream has still to send.

    credit: bytes that its client takes beyond those that all streams begin with. head: the frames
    that go before its first message, where they wait too. waiting: bytes of messages that did not
    fit. whole: whether they are all of its answer. last: the frame that ends it, once that is
    known. news: of whoever waits until it is empty.
    """

    __slots__ = ("credit", "head", "last", "news", "number", "parts", "waiting", "whole")

    def __init__(self, number: int) -> None:
        self.number = number
        self.credit = 0
        self.head = b""
        self.parts: deque[memoryview] = deque()
        self.waiting = 0
        self.whole = False
        self.last: bytes | None = None
        self.news: asyncio.Future[None] | None = None

    def wake(self) -> None:
        news, self.news = self.news, None
        if news is not None and not news.done():
            news.set_result(None)


class Outbox:
    """The sending half of a connection."""

    def __init__(self, transport: Any, sent: Callable[[Outgoing], None]) -> None:
        """sent: is told when the frame that ends a stream is written."""
        self._transport = transport
        self._sent = sent
        self.largest = h2.SMALLEST_FRAME
        self._initial = h2.DEFAULT_WINDOW  # of each stream
        self._credit = h2.DEFAULT_WINDOW
        self.owed = 0  # bytes of whole answers that wait
        self.paused = False  # the client does not read what was written
        self.flowed = False  # data has gone since somebody last set this to False
        # Streams that wait for their turn, for more than their own window, for more of it, and,
        # with the frame that ends them, for nothing but the transport.
        self._queue: OrderedDict[Outgoing, None] = OrderedDict()
        self._held: dict[Outgoing, None] = {}
        self._ends: OrderedDict[Outgoing, bytes] = OrderedDict()

    def write(self, data: bytes) -> None:
        """Frames that need no window."""
        self._transport.write(data)

    def send(
        self, out: Outgoing, head: bytes, parts: Sequence[Body], size: int, last: bytes | None
    ) -> None:
        """Frames that go before, `size` bytes of message, and the frame that ends the stream."""
        if not out.waiting and not self.paused and size <= min(
            self._credit, out.credit + self._initial, self.largest, _PIECE
        ):  # fmt: skip
            self._credit -= size
            out.credit -= size
            self.flowed = True
            start = h2.prefix(h2.DATA, 0, out.number, size)
            self._transport.write(b"".join((head, start, *parts, last or b"")))
            if last is not None:
                self._sent(out)
            return
        if head and self.paused:
            out.head = head
        elif head:
            self._transport.write(head)
        out.parts.extend(memoryview(part) for part in parts if len(part))
        waited, out.waiting = out.waiting, out.waiting + size
        out.last = last
        if last is not None and not waited:
            out.whole = True
            self.owed += size
        if not waited:
            self._queue[out] = None
            self._pump()

    async def drained(self, out: Outgoing) -> None:
        """Until what a stream has sent is on its way, or nobody takes it any more."""
        if out.waiting:
            out.news = asyncio.get_running_loop().create_future()
            await out.news

    def finish(self, out: Outgoing, last: bytes) -> None:
        """The frame that ends a stream, once all of it is sent."""
        if out.waiting:
            out.last = last
        elif self.paused:
            self._ends[out] = last
        else:
            self._end(out, last)

    def drop(self, out: Outgoing) -> None:
        """Nobody reads this stream any more."""
        out.parts.clear()
        out.head = b""
        if out.whole:
            self.owed -= out.waiting
        out.waiting = 0
        out.last = None
        self._queue.pop(out, None)
        self._held.pop(out, None)
        self._ends.pop(out, None)
        out.wake()

    def close(self) -> None:
        """The connection is gone. What is told of ends refers to it, and it to this."""
        del self._sent

    def add(self, out: Outgoing | None, increment: int) -> None:
        """A client's window grows: of a stream, or of the connection (None).

        Raises ConnectionFault or StreamFault.
        """
        credit = increment + (self._credit if out is None else out.credit + self._initial)
        if not increment or credit > h2.LARGEST_WINDOW:
            fault = ConnectionFault if out is None else StreamFault
            code = Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR
            raise fault(code, f"a window update of {increment}")
        if out is None:
            self._credit = credit
        else:
            out.credit += increment
            if out in self._held:
                del self._held[out]
                self._queue[out] = None
        self._pump()

    def resize(self, initial: int) -> None:
        """The client wants another window for each stream, those that are open included."""
        self._initial = initial
        self._queue.update(self._held)
        self._held.clear()
        self._pump()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        while self._ends and not self.paused:
            self._end(*self._ends.popitem(last=False))
        self._pump()

    def _pump(self) -> None:
        """Send what fits, a piece of each stream in turn."""
        queue = self._queue
        while queue and self._credit > 0 and not self.paused:
            out, _ = queue.popitem(last=False)
            room = min(self._credit, out.credit + self._initial, out.waiting, _PIECE)
            if room <= 0:
                self._held[out] = None
                continue
            self._send_some(out, room)
            if out.waiting:
                queue[out] = None
                continue
            out.wake()
            if out.last is not None:
                self._end(out, out.last)

    def _end(self, out: Outgoing, last: bytes) -> None:
        out.last = None
        self._transport.write(last)
        self._sent(out)

    def _send_some(self, out: Outgoing, room: int) -> None:
        self._credit -= room
        out.credit -= room
        out.waiting -= room
        if out.whole:
            self.owed -= room
        self.flowed = True
        lines: list[Body] = [out.head] if out.head else []
        out.head = b""
        while room:
            size = min(room, self.largest)
            lines.append(h2.prefix(h2.DATA, 0, out.number, size))
            room -= size
            while size:
                part = out.parts.popleft()
                if len(part) > size:
                    out.parts.appendleft(part[size:])
                    part = part[:size]
                lines.append(part)
                size -= len(part)
        self._transport.writelines(lines)
