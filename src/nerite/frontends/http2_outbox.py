"""What a connection sends: frames within the windows that its client opens (RFC 9113, 5.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from nerite.frontends import http2_frames as h2
from nerite.frontends.http1_exchange import Body
from nerite.frontends.http2_frames import Code, ConnectionFault, StreamFault

_PIECE = 1 << 20  # bytes of a stream after which it is another's turn


class Outgoing:
    """What one stream has still to send. `last`: the frame that ends it, once that is known.

    credit: bytes that its client takes. waiting: bytes of messages that did not fit.
    """

    __slots__ = ("credit", "last", "number", "parts", "waiting")

    def __init__(self, number: int, credit: int) -> None:
        self.number = number
        self.credit = credit
        self.parts: deque[memoryview] = deque()
        self.waiting = 0
        self.last: bytes | None = None


class Outbox:
    """The sending half of a connection."""

    def __init__(self, transport: Any, sent: Callable[[Outgoing], None]) -> None:
        """sent: is told when the frame that ends a stream is written."""
        self._transport = transport
        self._sent = sent
        self.largest = h2.SMALLEST_FRAME
        self.initial = h2.DEFAULT_WINDOW  # of a new stream
        self._credit = h2.DEFAULT_WINDOW
        self.paused = False  # the client does not read what was written
        self.flowed = False  # data has gone since somebody last set this to False
        self._queue: deque[Outgoing] = deque()  # those that wait for more than their own window

    def write(self, data: bytes) -> None:
        """Frames that need no window."""
        self._transport.write(data)

    def send(
        self, out: Outgoing, head: bytes, parts: Sequence[Body], size: int, last: bytes | None
    ) -> None:
        """Frames that go before, `size` bytes of message, and the frame that ends the stream."""
        if not out.waiting and not self.paused and size <= min(
            self._credit, out.credit, self.largest, _PIECE
        ):  # fmt: skip
            self._credit -= size
            out.credit -= size
            self.flowed = True
            start = h2.prefix(h2.DATA, 0, out.number, size)
            self._transport.write(b"".join((head, start, *parts, last or b"")))
            if last is not None:
                self._sent(out)
            return
        if head:
            self._transport.write(head)
        out.parts.extend(memoryview(part) for part in parts if len(part))
        waited, out.waiting = out.waiting, out.waiting + size
        out.last = last
        if not waited:
            self._queue.append(out)
            self._pump()

    def finish(self, out: Outgoing, last: bytes) -> None:
        """The frame that ends a stream, once all of it is sent."""
        if out.waiting:
            out.last = last
        else:
            self._transport.write(last)
            self._sent(out)

    def drop(self, out: Outgoing) -> None:
        """Nobody reads this stream any more."""
        out.parts.clear()
        out.waiting = 0
        out.last = None

    def add(self, out: Outgoing | None, increment: int) -> None:
        """A client's window grows: of a stream, or of the connection (None).

        Raises ConnectionFault or StreamFault.
        """
        credit = increment + (self._credit if out is None else out.credit)
        if not increment or credit > h2.LARGEST_WINDOW:
            fault = ConnectionFault if out is None else StreamFault
            code = Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR
            raise fault(code, f"a window update of {increment}")
        if out is None:
            self._credit = credit
        else:
            waited = out.credit <= 0
            out.credit = credit
            if waited and out.waiting and out not in self._queue:
                self._queue.append(out)
        self._pump()

    def resize(self, initial: int, streams: Sequence[Outgoing]) -> None:
        """The client wants another window for each stream. Raises ConnectionFault."""
        if initial > h2.LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"a window of {initial}")
        more, self.initial = initial - self.initial, initial
        for out in streams:
            out.credit += more
            if out.credit > h2.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that is too large")
            if out.waiting and out not in self._queue:
                self._queue.append(out)
        self._pump()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._pump()

    def _pump(self) -> None:
        """Send what fits, a piece of each stream in turn."""
        queue = self._queue
        while queue and self._credit > 0 and not self.paused:
            out = queue.popleft()
            room = min(self._credit, out.credit, out.waiting, _PIECE)
            if room <= 0:
                continue  # it was dropped, or its own window brings it back
            self._send_some(out, room)
            if out.waiting:
                queue.append(out)
            elif out.last is not None:
                self._transport.write(out.last)
                out.last = None
                self._sent(out)

    def _send_some(self, out: Outgoing, room: int) -> None:
        self._credit -= room
        out.credit -= room
        out.waiting -= room
        self.flowed = True
        lines: list[Body] = []
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
