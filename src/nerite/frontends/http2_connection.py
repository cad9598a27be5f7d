"""One client's connection: reads frames, keeps the RPCs that are open, writes through the outbox.

gRPC over HTTP/2 and nothing else (RFC 9113, and grpc's PROTOCOL-HTTP2): no pushes, no priorities.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from nerite.frontends import http2_frames as h2
from nerite.frontends.http1_stage import Stage
from nerite.frontends.http2_blocks import Block, Blocks
from nerite.frontends.http2_frames import Code, ConnectionFault, StreamFault
from nerite.frontends.http2_head import Heads, block
from nerite.frontends.http2_messages import Incoming, TooLarge
from nerite.frontends.http2_outbox import Outbox, Outgoing
from nerite.frontends.http2_port import Port
from nerite.frontends.http2_pulse import Pulse, Wanted
from nerite.frontends.http2_queue import Queue
from nerite.frontends.http2_rpc import NO_MEMORY, GrpcCode, Rpc
from nerite.frontends.http2_windows import WINDOW, Windows

log = logging.getLogger(__name__)

_STAGE = 1 << 16
_FRAME = 1 << 20
_STREAMS = 10_000
_HEADERS = 1 << 16  # bytes of one request's
_UNREAD = 1000  # answers to pings and settings that wait while a client reads nothing
_SETTINGS = {
    h2.ENABLE_PUSH: 0,
    h2.MAX_CONCURRENT_STREAMS: _STREAMS,
    h2.INITIAL_WINDOW_SIZE: WINDOW,
    h2.MAX_FRAME_SIZE: _FRAME,
    h2.MAX_HEADER_LIST_SIZE: _HEADERS,
}
_LEAVING = b"leaving?"  # of the ping that follows the first GOAWAY
_NO_RPC = block([(b":status", b"415")])


class Connection(asyncio.BufferedProtocol):
    """Belongs to the loop."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.compression = port.compression
        self.inflated = port.terms.inflated
        self.pulse = Pulse(port.terms, port.now)
        self._transport: Any = None
        self._stage = Stage(_STAGE)
        self._heads = Heads(_HEADERS, port.prepare)
        self._rpcs: dict[int, Rpc] = {}
        self._begun = self._ended = False  # its preface has come; it reads no more
        self._told = self._leaving = False  # the client is told that we leave; it knows
        self._last = 0  # the highest stream
        self._blocks = Blocks(2 * _HEADERS)
        # The data frame that is being read: its RPC, flags, the bytes left, and those of it that
        # are received where they belong.
        self._rpc: Rpc | None = None
        self._flags = self._left = 0
        self._place: memoryview | None = None
        self._replies = 0  # since writing was paused

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.outbox = Outbox(transport, self._sent)
        self.queue = Queue(self.outbox)
        self.windows = Windows(transport)
        self._port.admit(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._port.forget(self)
        self._end()
        self.outbox.close()

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
                self._feed(count, None)
            else:
                self._stage.filled += count
                self._read()
        except ConnectionFault as fault:
            self._fail(fault)
        if self._ended:
            self._stage.clear()

    def pause_writing(self) -> None:
        self.outbox.pause()

    def resume_writing(self) -> None:
        self._replies = 0
        if not self._ended:
            self.outbox.resume()

    def _read(self) -> None:
        """All that is whole, and of data what is there."""
        stage = self._stage
        if self._ended or not (self._begun or self._read_preface()):
            return
        while not self._ended:
            if self._left:
                size = min(self._left, stage.filled - stage.at)
                if not size:
                    return
                self._feed(size, stage.view[stage.at : stage.at + size])
                stage.take(size)
                if self._left:
                    return
            have = stage.filled - stage.at - h2.PREFIX_SIZE
            if have < 0:
                return
            high, low, kind, flags, number = h2.PREFIX.unpack_from(stage.view, stage.at)
            length, number = high << 8 | low, number & h2.LARGEST_WINDOW
            if length > _FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            if kind == h2.DATA and not flags & h2.PADDED and not self._blocks.stream:
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
            self._transport.write(h2.complaint(got))
            self._end()
            return False
        if len(got) < size:
            return False
        stage.take(size)
        self._begun = self.pulse.begun = True
        self._transport.write(h2.settings(_SETTINGS))
        self.windows.open()
        return True

    def _begin_data(self, number: int, flags: int, length: int, padding: int = 0) -> None:
        if self._is_idle(number):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"data of stream {number}, never opened")
        self._rpc = self._rpcs.get(number)
        if self._rpc is not None and self._rpc.received:
            self._reset(number, StreamFault(Code.STREAM_CLOSED, "data behind the end"))
            self._rpc = None
        self._flags, self._left = flags, length
        if padding:
            self.windows.take(padding, self._rpc)
        if not length:
            if not flags & h2.END_STREAM:
                self.pulse.bother()
            self._end_data()

    def _feed(self, size: int, data: memoryview | None) -> None:
        """So many bytes of the frame's data: these, or those that are in their place already."""
        self._left -= size
        rpc = self._rpc
        self.windows.take(size, rpc)
        if rpc is not None and rpc.open:
            try:
                come = rpc.incoming
                messages = come.placed(size) if data is None else come.feed(data)
            except TooLarge as error:
                rpc.fail(GrpcCode.RESOURCE_EXHAUSTED, str(error))
            except MemoryError:
                rpc.fail(GrpcCode.RESOURCE_EXHAUSTED, NO_MEMORY)
            except ValueError as error:
                rpc.fail(GrpcCode.INTERNAL, str(error))
            else:
                if messages:
                    self.pulse.calm()
                    rpc.take(messages)
        if not self._left:
            self._end_data()

    def _end_data(self) -> None:
        rpc, self._rpc = self._rpc, None
        if rpc is not None and self._flags & h2.END_STREAM:
            rpc.close()

    def _is_idle(self, number: int) -> bool:
        """Whether a stream was never opened; those with even numbers are ours to open."""
        return number > self._last or not number % 2

    def _take_frame(self, kind: int, flags: int, number: int, payload: memoryview) -> None:
        begun = self._blocks.stream
        if begun and (kind != h2.CONTINUATION or number != begun):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "headers that do not go on")
        if kind == h2.HEADERS:
            self._take_block(self._blocks.begin(flags, number, payload))
        elif kind == h2.CONTINUATION:
            if not payload:
                self.pulse.bother()
            self._take_block(self._blocks.go_on(flags, payload))
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
            self._begin_data(number, flags, len(data), len(payload) - len(data))
            if data:
                self._feed(len(data), data)
        elif kind == h2.PRIORITY:
            if len(payload) != 5 or not number:
                code = Code.FRAME_SIZE_ERROR if number else Code.PROTOCOL_ERROR
                raise ConnectionFault(code, "a malformed PRIORITY")
            self.pulse.bother()
        elif kind == h2.PUSH_PROMISE or (kind == h2.GOAWAY and number):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame that no client sends")
        else:  # unknown, or GOAWAY: the client closes when it has its answers
            self.pulse.bother()

    def _take_block(self, block: Block | None) -> None:
        if block is None:
            return
        if block.stream > self._last:
            self._open(*block)
            return
        opens = self._heads.skip(block.data)
        rpc = self._rpcs.get(block.stream)
        if rpc is None:
            if opens:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {block.stream} opens again")
            self.pulse.bother()
        elif rpc.received:
            raise StreamFault(Code.STREAM_CLOSED, "headers behind the end")
        elif not block.ended:
            raise StreamFault(Code.PROTOCOL_ERROR, "headers amid the data")
        else:
            rpc.close()

    def _open(self, number: int, ended: bool, data: bytes) -> None:
        """A stream begins."""
        self._last = number
        if self._leaving or len(self._rpcs) >= _STREAMS:
            self._heads.skip(data)
            raise StreamFault(Code.REFUSED_STREAM, "no more streams")
        head = self._heads.read(data)
        incoming = Incoming(self._port.limit, self._port.room)
        rpc = Rpc(self, Outgoing(number), head, incoming)
        self._rpcs[number] = rpc
        if not head.is_grpc:
            rpc.leave()
            fields = h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, _NO_RPC)
            self.outbox.finish(rpc.out, fields)
        elif head.refusal is not None:
            rpc.fail(*head.refusal)
        elif head.route.streams:
            rpc.start()
        if ended:
            rpc.close()

    def _take_window(self, number: int, increment: int) -> None:
        rpc = self._rpcs.get(number)
        if not number:
            self.outbox.add(None, increment)
        elif rpc is not None:
            self.outbox.add(rpc.out, increment)
        elif self._is_idle(number):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a window of stream {number}, never opened")

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            code = Code.PROTOCOL_ERROR if number else Code.FRAME_SIZE_ERROR
            raise ConnectionFault(code, "a malformed PING")
        if flags & h2.ACK:
            if payload == _LEAVING and self._told and not self._leaving:
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
        wanted = h2.read_settings(payload)
        self.outbox.largest = wanted.get(h2.MAX_FRAME_SIZE, self.outbox.largest)
        if h2.INITIAL_WINDOW_SIZE in wanted:
            self.outbox.resize(wanted[h2.INITIAL_WINDOW_SIZE])
        self._reply(h2.frame(h2.SETTINGS, h2.ACK, 0, b""))

    def _reply(self, frame: bytes) -> None:
        """To what a client may send without end: it has to read the answers."""
        self._replies += self.outbox.paused
        if self._replies > _UNREAD:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "our answers are not read")
        self._transport.write(frame)

    def _take_reset(self, number: int, code: int) -> None:
        if self._is_idle(number):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a reset of stream {number}, never opened")
        self.pulse.bother()
        self._drop(number)

    def _reset(self, number: int, fault: StreamFault) -> None:
        log.debug("gRPC: stream %d: %s", number, fault)
        self._drop(number)
        self.pulse.bother()
        self._reply(h2.reset(number, fault.code))

    def _drop(self, number: int) -> None:
        """Whoever asked on this stream wants no answer."""
        rpc = self._rpcs.pop(number, None)
        if rpc is not None:
            rpc.leave()
            self.outbox.drop(rpc.out)
            self.queue.end(rpc)
        self._close_when_done()

    def _sent(self, out: Outgoing) -> None:
        """The frame that ends a stream on our side is written."""
        self.pulse.sent()
        rpc = self._rpcs.pop(out.number, None)
        if rpc is not None:
            self.queue.end(rpc)
            if not rpc.received:
                self.outbox.write(h2.reset(out.number, Code.NO_ERROR))  # it need not go on
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._leaving and not self._rpcs:
            self._transport.close()

    def _fail(self, fault: ConnectionFault) -> None:
        log.debug("gRPC: a connection is closed: %s", fault)
        self._transport.write(h2.goaway(self._last, fault.code, str(fault)))
        self._end()

    def _end(self) -> None:
        """Read no more, answer no more, and close when what is written has left."""
        self._ended = True
        for number in [*self._rpcs]:
            self._drop(number)
        self._transport.close()

    def refuse(self, text: str) -> None:
        """Before anything is read."""
        self._transport.write(h2.settings({}))
        self._fail(ConnectionFault(Code.ENHANCE_YOUR_CALM, text))

    def leave(self) -> None:
        """Let what is open end, and take no more. A client is told twice: what it sent before it
        heard of it is still answered."""
        if not self._begun:
            self._end()
        if self._ended or self._told:
            return
        self._told = True
        self._transport.write(h2.goaway(h2.LARGEST_WINDOW, Code.NO_ERROR))
        self._transport.write(h2.frame(h2.PING, 0, 0, _LEAVING))

    def look(self, now: float) -> None:
        """What the clock asks for; `now` is the loop's time in seconds."""
        wanted = self.pulse.look(now, bool(self._rpcs), self._transport.is_closing())
        if wanted is Wanted.PING:
            self._transport.write(h2.frame(h2.PING, 0, 0, bytes(8)))
        elif wanted is Wanted.LEAVE:
            self.leave()
        elif wanted is Wanted.ABORT:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()
