"""One client's connection: reads frames, keeps the RPCs that are open, writes through the outbox.

gRPC over HTTP/2 and nothing else (RFC 9113, and grpc's PROTOCOL-HTTP2): no pushes, no priorities.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from nerite.frontends import http2_frames as h2
from nerite.frontends.http1_stage import Stage
from nerite.frontends.http2_frames import Code, ConnectionFault, StreamFault
from nerite.frontends.http2_head import Head, Heads, block
from nerite.frontends.http2_messages import Incoming, Message, TooLarge
from nerite.frontends.http2_outbox import Outbox, Outgoing
from nerite.frontends.http2_pulse import Pulse, Terms, Wanted
from nerite.frontends.http2_rpc import BROKEN, GrpcCode, Rpc

log = logging.getLogger(__name__)

_STAGE = 1 << 16
_WINDOW = 1 << 22  # bytes of a stream that may be underway
_ALL_WINDOW = 1 << 24  # of all together
_FRAME = 1 << 20
_STREAMS = 10_000
_HEADERS = 1 << 16  # bytes of one request's
_UNREAD = 1000  # answers to pings and settings that wait while a client reads nothing
_SETTINGS = {
    h2.ENABLE_PUSH: 0,
    h2.MAX_CONCURRENT_STREAMS: _STREAMS,
    h2.INITIAL_WINDOW_SIZE: _WINDOW,
    h2.MAX_FRAME_SIZE: _FRAME,
    h2.MAX_HEADER_LIST_SIZE: _HEADERS,
}
_HTTP1 = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"this port speaks gRPC; the HTTP port is another\n"
)
_METHODS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC")
_LEAVING = b"leaving?"  # of the ping that follows the first GOAWAY
_NO_RPC = block([(b":status", b"415")])


class Port(Protocol):
    """What the connections of one port share.

    now: of the loop's clock, as of the last look at it. limit: bytes of a message. compression: of
    answers to those who read it, "" for none.
    """

    terms: Terms
    now: float
    limit: int
    compression: str

    def prepare(self, head: Head) -> None:
        """Find a new head's route, or why it is refused."""
        ...

    def room(self, length: int) -> memoryview:
        """Memory for a message. Raises MemoryError."""
        ...

    def admit(self, connection: Connection) -> None: ...
    def forget(self, connection: Connection) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """Belongs to the loop."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.compression = port.compression
        self.pulse = Pulse(port.terms, port.now)
        self._transport: Any = None
        self._stage = Stage(_STAGE)
        self._heads = Heads(_HEADERS, port.prepare)
        self._rpcs: dict[int, Rpc] = {}
        self._begun = self._ended = False  # its preface has come; it reads no more
        self._last = 0  # the highest stream
        self._leaving = False
        self._block: tuple[int, int, bytearray] | None = None  # headers that go on
        self._taken = 0  # bytes of the window that were not given back
        # The data frame that is being read: its RPC, flags, the bytes left, and those of it that
        # are received where they belong.
        self._rpc: Rpc | None = None
        self._flags = self._left = 0
        self._place: memoryview | None = None
        self._congested: list[asyncio.Future[None]] = []
        self._replies = 0  # since writing was paused

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.outbox = Outbox(transport, self._sent)
        self._port.admit(self)
        transport.write(h2.settings(_SETTINGS))
        transport.write(h2.window_update(0, _ALL_WINDOW - h2.DEFAULT_WINDOW))

    def connection_lost(self, error: Exception | None) -> None:
        self._port.forget(self)
        self._ended = True
        rpcs, self._rpcs = self._rpcs, {}
        for rpc in rpcs.values():
            rpc.leave()
        self.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._left and self._rpc is not None and self._stage.filled == self._stage.at:
            self._place = self._rpc.incoming.place(self._left)
            if self._place is not None:
                return self._place
        return self._stage.room()

    def buffer_updated(self, count: int) -> None:
        self.pulse.heard()
        place, self._place = self._place, None
        try:
            if place is not None:
                self._count(self._rpc, count)
                if self._rpc is not None:
                    self._take(self._rpc, self._rpc.incoming.placed(count))
                self._left -= count
                if not self._left:
                    self._end_data()
                return
            self._stage.filled += count
            if not self._ended:
                self._read()
        except ConnectionFault as fault:
            self._fail(fault)
        if self._ended:
            self._stage.clear()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.outbox.pause()

    def resume_writing(self) -> None:
        self._replies = 0
        if not self._ended:
            self.outbox.resume()
        waiting, self._congested = self._congested, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def drained(self, out: Outgoing) -> None:
        """Until what a stream has sent is on its way, or nobody takes it any more."""
        while out.waiting and not self._ended:
            future = asyncio.get_running_loop().create_future()
            self._congested.append(future)
            await future

    def _read(self) -> None:
        """All that is whole, and of data what is there."""
        stage = self._stage
        if not self._begun and not self._read_preface():
            return
        while not self._ended:
            if self._left:
                size = min(self._left, stage.filled - stage.at)
                if not size:
                    return
                self._left -= size
                self._feed(stage.view[stage.at : stage.at + size])
                stage.take(size)
                if self._left:
                    return
                self._end_data()
            have = stage.filled - stage.at - h2.PREFIX_SIZE
            if have < 0:
                return
            high, low, kind, flags, number = h2.PREFIX.unpack_from(stage.view, stage.at)
            length, number = high << 8 | low, number & h2.LARGEST_WINDOW
            if length > _FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            if kind == h2.DATA and not flags & h2.PADDED and self._block is None:
                stage.take(h2.PREFIX_SIZE)
                self._begin_data(number, flags, length)
                continue
            if have < length:
                return
            start = stage.at + h2.PREFIX_SIZE
            payload = stage.view[start : start + length]
            try:
                self._take_frame(kind, flags, number, payload)
            except StreamFault as fault:
                self._reset(number, fault)
            stage.take(h2.PREFIX_SIZE + length)

    def _read_preface(self) -> bool:
        stage = self._stage
        size = len(h2.PREFACE)
        got = bytes(stage.view[: min(size, stage.filled)])
        if not h2.PREFACE.startswith(got):
            self._ended = True
            self._transport.write(_HTTP1 if got[:4] in _METHODS else h2.goaway(
                0, Code.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2"
            ))  # fmt: skip
            self._transport.close()
            return False
        if len(got) < size:
            return False
        stage.take(size)
        self._begun = self.pulse.begun = True
        return True

    def _begin_data(self, number: int, flags: int, length: int) -> None:
        self._rpc = self._rpcs.get(number)
        if not number or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"data of stream {number}, never opened")
        if self._rpc is not None and self._rpc.received:
            self._reset(number, StreamFault(Code.STREAM_CLOSED, "data behind the end"))
            self._rpc = None
        self._flags, self._left = flags, length
        if not length:
            if not flags & h2.END_STREAM:
                self.pulse.bother()
            self._end_data()

    def _feed(self, data: memoryview) -> None:
        """Data of the frame that is being read."""
        rpc = self._rpc
        self._count(rpc, len(data))
        if rpc is None or not rpc.open:
            return
        try:
            self._take(rpc, rpc.incoming.feed(data))
        except TooLarge as error:
            rpc.fail(GrpcCode.RESOURCE_EXHAUSTED, str(error))
        except MemoryError:
            rpc.fail(GrpcCode.RESOURCE_EXHAUSTED, "there is no memory for the message")
        except ValueError as error:
            rpc.fail(GrpcCode.INTERNAL, str(error))

    def _take(self, rpc: Rpc, messages: list[Message]) -> None:
        if messages:
            self.pulse.calm()
            rpc.take(messages)

    def _end_data(self) -> None:
        rpc, self._rpc = self._rpc, None
        if rpc is not None and self._flags & h2.END_STREAM:
            self._close(rpc)

    def _count(self, rpc: Rpc | None, size: int) -> None:
        """Give the client back what it has used of its windows, once that is worth a frame."""
        self._taken += size
        if self._taken > _ALL_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the window")
        if self._taken >= _ALL_WINDOW // 2:
            self._transport.write(h2.window_update(0, self._taken))
            self._taken = 0
        if rpc is None:
            return
        rpc.taken += size
        if rpc.taken > _WINDOW:
            self._reset(rpc.out.number, StreamFault(Code.FLOW_CONTROL_ERROR, "more data"))
        elif rpc.taken >= _WINDOW // 2 and not rpc.received:
            self._transport.write(h2.window_update(rpc.out.number, rpc.taken))
            rpc.taken = 0

    def _close(self, rpc: Rpc) -> None:
        """The client has said all."""
        try:
            rpc.close()
        except Exception:
            log.exception("%s failed", rpc.head.path)
            rpc.fail(GrpcCode.INTERNAL, BROKEN)

    def _take_frame(self, kind: int, flags: int, number: int, payload: memoryview) -> None:
        if self._block is not None and (kind != h2.CONTINUATION or number != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "headers that do not go on")
        if kind == h2.HEADERS:
            self._take_headers(flags, number, payload)
        elif kind == h2.CONTINUATION:
            self._go_on(flags, payload)
        elif kind == h2.WINDOW_UPDATE:
            self._take_window(number, h2.word(bytes(payload)) & h2.LARGEST_WINDOW)
        elif kind == h2.PING:
            self._take_ping(flags, number, bytes(payload))
        elif kind == h2.SETTINGS:
            self._take_settings(flags, number, bytes(payload))
        elif kind == h2.RST_STREAM:
            self._take_reset(number, h2.word(bytes(payload)))
        elif kind == h2.DATA:
            data = h2.unpadded(flags, payload)
            self._count(None, len(payload) - len(data))
            self._begin_data(number, flags, len(data))
            self._left = 0
            if data:
                self._feed(data)
                self._end_data()
        elif kind == h2.PRIORITY:
            if len(payload) != 5 or not number:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PRIORITY of a wrong length")
            self.pulse.bother()
        elif kind == h2.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "clients do not push")
        elif kind == h2.GOAWAY and number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream")

    def _take_headers(self, flags: int, number: int, payload: memoryview) -> None:
        if not number % 2:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"headers on stream {number}")
        data = h2.unpadded(flags, payload)
        if flags & h2.PRIORITIZED:
            if len(data) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS without their priority")
            if int.from_bytes(data[:4], "big") & h2.LARGEST_WINDOW == number:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream that depends on itself")
            data = data[5:]
        if flags & h2.END_HEADERS:
            self._open(number, flags, bytes(data))
        else:
            self._block = number, flags, bytearray(data)

    def _go_on(self, flags: int, payload: memoryview) -> None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "headers that go on without a beginning")
        number, first, gathered = self._block
        gathered += payload
        if len(gathered) > _HEADERS:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too long")
        if not payload:
            self.pulse.bother()
        if flags & h2.END_HEADERS:
            self._block = None
            self._open(number, first, bytes(gathered))

    def _open(self, number: int, flags: int, data: bytes) -> None:
        """The headers of a stream are whole."""
        ended = bool(flags & h2.END_STREAM)
        if number <= self._last:
            self._heads.skip(data)
            rpc = self._rpcs.get(number)
            if rpc is not None and not rpc.received:
                if not ended:
                    raise StreamFault(Code.PROTOCOL_ERROR, "headers amid the data")
                self._close(rpc)
            elif rpc is not None:
                raise StreamFault(Code.STREAM_CLOSED, "headers behind the end")
            return
        self._last = number
        if self._leaving or len(self._rpcs) >= _STREAMS:
            self._heads.skip(data)
            raise StreamFault(Code.REFUSED_STREAM, "no more streams")
        head = self._heads.read(data)
        incoming = Incoming(self._port.limit, self._port.room)
        rpc = Rpc(self, Outgoing(number, self.outbox.initial), head, incoming)
        self._rpcs[number] = rpc
        if not head.is_grpc:
            fields = h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, _NO_RPC)
            self.outbox.write(fields)
            rpc.leave()
            self._sent(rpc.out)
        elif head.refusal is not None:
            rpc.fail(*head.refusal)
        elif head.route.streams:
            head.route.start(rpc)
        if ended:
            self._close(rpc)

    def _take_window(self, number: int, increment: int) -> None:
        rpc = self._rpcs.get(number)
        if not number:
            self.outbox.add(None, increment)
        elif rpc is not None:
            self.outbox.add(rpc.out, increment)
        elif number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a window of stream {number}, never opened")
        if self._congested:
            self.resume_writing()

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            code = Code.PROTOCOL_ERROR if number else Code.FRAME_SIZE_ERROR
            raise ConnectionFault(code, "a malformed PING")
        if flags & h2.ACK:
            if payload == _LEAVING:  # whoever sends this knows that we leave
                self._leaving = True
                self._transport.write(h2.goaway(self._last, Code.NO_ERROR))
                self._close_when_done()
            return
        if self.outbox.flowed:  # whoever gets data pings to see how much of it is on its way
            self.outbox.flowed = False
            self.pulse.sent()
        self.pulse.pinged(bool(self._rpcs))
        self._reply(h2.frame(h2.PING, h2.ACK, 0, payload))

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & h2.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
            return
        self.pulse.bother()
        for key, value in h2.read_settings(payload):
            if key == h2.INITIAL_WINDOW_SIZE:
                self.outbox.resize(value, [rpc.out for rpc in self._rpcs.values()])
            elif key == h2.MAX_FRAME_SIZE:
                if not h2.SMALLEST_FRAME <= value <= h2.LARGEST_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, f"frames of {value} bytes")
                self.outbox.largest = value
            elif key == h2.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
        self._reply(h2.frame(h2.SETTINGS, h2.ACK, 0, b""))

    def _reply(self, frame: bytes) -> None:
        """To what a client may send without end: it has to read the answers."""
        self._replies += self.outbox.paused
        if self._replies > _UNREAD:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "our answers are not read")
        self._transport.write(frame)

    def _take_reset(self, number: int, code: int) -> None:
        if not number or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a reset of stream {number}, never opened")
        self.pulse.bother()
        rpc = self._rpcs.pop(number, None)
        if rpc is not None:
            rpc.leave()

    def _reset(self, number: int, fault: StreamFault) -> None:
        log.debug("gRPC: stream %d: %s", number, fault)
        self.outbox.write(h2.reset(number, fault.code))
        rpc = self._rpcs.pop(number, None)
        if rpc is not None:
            rpc.leave()

    def _sent(self, out: Outgoing) -> None:
        """The frame that ends a stream on our side is written."""
        self.pulse.sent()
        rpc = self._rpcs.pop(out.number, None)
        if rpc is not None and not rpc.received:
            self.outbox.write(h2.reset(out.number, Code.NO_ERROR))  # it need not go on
        if self._leaving:
            self._close_when_done()

    def _close_when_done(self) -> None:
        if not self._rpcs:
            self._transport.close()

    def _fail(self, fault: ConnectionFault) -> None:
        log.debug("gRPC: a connection is closed: %s", fault)
        self._ended = True
        self._transport.write(h2.goaway(self._last, fault.code, str(fault)))
        self._transport.close()

    def leave(self) -> None:
        """Let what is open end, and take no more. A client is told twice: what it sent before it
        heard of it is still answered."""
        if self._transport.is_closing():
            return
        if self._ended or not self._begun:
            self._transport.close()
            return
        self._transport.write(h2.goaway(h2.LARGEST_WINDOW, Code.NO_ERROR))
        self._transport.write(h2.frame(h2.PING, 0, 0, _LEAVING))

    def look(self, now: float) -> None:
        """What the clock asks for; `now` is the loop's time in seconds."""
        wanted = self.pulse.look(now, bool(self._rpcs))
        if wanted is Wanted.PING:
            self._transport.write(h2.frame(h2.PING, 0, 0, bytes(8)))
        elif wanted is Wanted.LEAVE:
            self.leave()
        elif wanted is Wanted.ABORT:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()
