"""One RPC: its messages in, its answer out. What a door sees of HTTP/2 and gRPC's framing."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import NamedTuple, Protocol
from urllib.parse import quote

from nerite.frontends import http2_frames as h2
from nerite.frontends.compression import deflated, inflated
from nerite.frontends.http1_exchange import Body
from nerite.frontends.http2_head import Head, block
from nerite.frontends.http2_messages import Incoming, Message
from nerite.frontends.http2_outbox import Outbox, Outgoing
from nerite.frontends.http2_queue import Queue
from nerite.frontends.http2_windows import Windows

log = logging.getLogger(__name__)

_MESSAGE = Struct(">?L")  # whether a message is compressed, and its length
_SMALL = 1 << 16  # bytes up to which compressing does not hold the loop
_LONGEST = 6000  # bytes of a status text: clients refuse more than 8 KiB of trailers
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_OPENING = (
    b"\x88"  # :status 200, in HPACK's static table
    + block([
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity, deflate, gzip"),
    ])
)  # fmt: skip
BROKEN = "internal error; the server's log says more"
NO_MEMORY = "there is no memory for the message"


class GrpcCode(IntEnum):
    """How an RPC ends."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Refusal(NamedTuple):
    """Why an RPC is not let in."""

    code: GrpcCode
    text: str


class Route(NamedTuple):
    """What answers an RPC. streams: it is called before the messages have come."""

    start: Callable[[Rpc], None]
    streams: bool = False


class Channel(Protocol):
    """The connection of an RPC. inflated: bytes that a compressed message may become."""

    outbox: Outbox
    queue: Queue
    windows: Windows
    compression: str
    inflated: int


class Rpc:
    """Belongs to the loop. Ends once: respond, finish or fail; what comes later is dropped.

    message: of an RPC that takes one, bytes of it, complete when its route is called.
    on_disconnect: called when nobody waits any more: the client has left, or its time is over.
    taken: bytes of the stream's window that the client was not given back.
    """

    __slots__ = (
        "_begun",
        "_channel",
        "_inbox",
        "_news",
        "_timer",
        "begun_ns",
        "head",
        "incoming",
        "message",
        "on_disconnect",
        "out",
        "received",
        "taken",
    )

    def __init__(self, channel: Channel, out: Outgoing, head: Head, incoming: Incoming) -> None:
        self._channel: Channel | None = channel
        self.head = head
        self.out = out
        self.incoming = incoming
        self.message: Body = b""
        self.on_disconnect: Callable[[], object] | None = None
        self.begun_ns = 0
        self.received = False  # the client has said all
        self.taken = 0
        self._begun = False
        self._inbox: deque[Message] = deque()
        self._news: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if head.timeout is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(head.timeout, self._expire)

    @property
    def open(self) -> bool:
        """Whether an answer would still reach the client."""
        return self._channel is not None

    @property
    def behind(self) -> bool:
        """Whether messages wait to be read."""
        return bool(self._inbox)

    def take(self, messages: list[Message]) -> None:
        """Messages have come."""
        self._inbox.extend(messages)
        if len(self._inbox) > 1 and not self.head.route.streams:
            self._refuse_count()
        self._wake()

    def close(self) -> None:
        """The client has said all; of an RPC with one message its route is called."""
        self.received = True
        if self._channel is None or self.head.route.streams:
            self._wake()
        elif self.incoming.partial:
            self.fail(GrpcCode.INTERNAL, "the last message is cut off")
        elif len(self._inbox) != 1:
            self._refuse_count()
        else:
            self._channel.queue.add(self)

    def begin(self) -> None:
        """Its one message has come, and its turn."""
        message = self._inbox.popleft()
        if message.compressed:
            task = asyncio.get_running_loop().create_task(self._unpack(message))
            self.on_disconnect = task.cancel
        else:
            self.message = message.data
            self.start()

    def start(self) -> None:
        """Call the route: when the message is complete, or at once where many may come."""
        try:
            self.head.route.start(self)
        except Exception:
            log.exception("%s failed", self.head.path)
            self.fail(GrpcCode.INTERNAL, BROKEN)

    def _refuse_count(self) -> None:
        text = f"one message is expected, and {len(self._inbox)} have come"
        self.fail(GrpcCode.UNIMPLEMENTED, text)

    async def _unpack(self, message: Message) -> None:
        data = await self._inflated(message)
        if data is not None:
            self.message = data
            self.on_disconnect = None
            self.start()

    async def _inflated(self, message: Message) -> Body | None:
        """Its data; None after an end for what cannot be read."""
        encoding, channel = self.head.encoding, self._channel
        if channel is None:
            return None
        if encoding not in ("gzip", "deflate"):
            code = GrpcCode.INTERNAL if encoding == "identity" else GrpcCode.UNIMPLEMENTED
            self.fail(code, f"a compressed message, and its encoding is '{encoding}'")
            return None
        try:
            return await asyncio.to_thread(inflated, message.data, channel.inflated)
        except OverflowError as error:
            text = (
                f"the message of {len(message.data)} bytes is too large: inflated, {error}. "
                "Use --http-max-input-size to increase the limit."
            )
            self.fail(GrpcCode.RESOURCE_EXHAUSTED, text)
        except MemoryError:
            self.fail(GrpcCode.RESOURCE_EXHAUSTED, NO_MEMORY)
        except ValueError as error:
            self.fail(GrpcCode.INTERNAL, f"the message cannot be decompressed: {error}")
        return None

    async def messages(self) -> AsyncIterator[Body]:
        """Of an RPC that takes many. Ends when the client has said all, or is gone."""
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                if not message.compressed:
                    yield message.data
                elif (data := await self._inflated(message)) is not None:
                    yield data
                else:
                    return
            if self.received or self._channel is None:
                return
            self._channel.windows.give_back(self)
            self._news = asyncio.get_running_loop().create_future()
            await self._news

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    def respond(self, parts: Sequence[Body]) -> None:
        """Answer with one message, and end."""
        channel = self._channel
        if channel is None:
            return
        encoding = self._encoding(channel)
        if not encoding:
            self._send(channel, _framed(parts), ended=True)
        elif sum(map(len, parts)) <= _SMALL:
            self._send(channel, _framed([deflated(encoding, parts)], packed=True), ended=True)
        else:
            task = asyncio.get_running_loop().create_task(self._respond_packed(encoding, parts))
            self.on_disconnect = task.cancel

    async def _respond_packed(self, encoding: str, parts: Sequence[Body]) -> None:
        packed = await asyncio.to_thread(deflated, encoding, parts)
        if self._channel is not None:
            self._send(self._channel, _framed([packed], packed=True), ended=True)

    async def send(self, parts: Sequence[Body]) -> None:
        """Give one of several messages; returns when the client takes more."""
        channel = self._channel
        if channel is None:
            return
        encoding = self._encoding(channel)
        if encoding:
            parts = [await asyncio.to_thread(deflated, encoding, parts)]
        if self._channel is not None:
            self._send(channel, _framed(parts, packed=bool(encoding)), ended=False)
            await channel.outbox.drained(self.out)

    def finish(self) -> None:
        """End well."""
        self.fail(GrpcCode.OK, "")

    def fail(self, code: GrpcCode, text: str) -> None:
        """End with a status."""
        channel = self._channel
        if channel is None:
            return
        self._leave()
        text = text[:_LONGEST]
        if self._begun:
            channel.outbox.finish(self.out, _ended(self.out.number, code, text))
        else:
            fields = _OPENING + _status(code, text)
            flags = h2.END_HEADERS | h2.END_STREAM
            channel.outbox.finish(self.out, h2.frame(h2.HEADERS, flags, self.out.number, fields))

    def leave(self) -> None:
        """The client is gone, or wants no answer any more."""
        if self._channel is not None:
            self._cancel()

    def _expire(self) -> None:
        channel = self._channel
        if channel is not None:
            self._cancel()  # and what is cancelled has nothing to say
            self._channel = channel
            self.fail(GrpcCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _cancel(self) -> None:
        do = self.on_disconnect
        self._leave()
        if do is not None:
            do()
        self._wake()

    def _leave(self) -> None:
        self._channel = None
        self.on_disconnect = None  # it holds the request, and perhaps this
        if self._timer is not None:
            self._timer.cancel()

    def _encoding(self, channel: Channel) -> str:
        """How the answer is compressed, if it is."""
        return channel.compression if channel.compression in self.head.accepts else ""

    def _send(self, channel: Channel, parts: list[Body], *, ended: bool) -> None:
        number = self.out.number
        head = b"" if self._begun else _opening(self._encoding(channel), number)
        self._begun = True
        if not ended:
            channel.outbox.send(self.out, head, parts, sum(map(len, parts)), None)
            return
        self._leave()
        last = _ended(number, GrpcCode.OK, "")
        channel.outbox.send(self.out, head, parts, sum(map(len, parts)), last)


def _framed(parts: Sequence[Body], *, packed: bool = False) -> list[Body]:
    """A message behind what gRPC puts before it."""
    return [_MESSAGE.pack(packed, sum(map(len, parts))), *parts]


@lru_cache(16)
def _opening_block(encoding: str) -> bytes:
    return _OPENING + (block([(b"grpc-encoding", encoding.encode())]) if encoding else b"")


def _opening(encoding: str, number: int) -> bytes:
    """The frame before the first message."""
    return h2.frame(h2.HEADERS, h2.END_HEADERS, number, _opening_block(encoding))


def _ended(number: int, code: GrpcCode, text: str) -> bytes:
    """The frame behind the last message."""
    return h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, _status(code, text))


@lru_cache(64)
def _status(code: GrpcCode, text: str) -> bytes:
    fields = [(b"grpc-status", b"%d" % code)]
    if text:
        shown = quote(text, safe=_PRINTABLE, errors="replace")
        if len(shown) > _LONGEST:
            shown = re.sub("%.?$", "", shown[:_LONGEST]) + "..."
        fields.append((b"grpc-message", shown.encode()))
    return block(fields)
