"""A client of gRPC that sends what it is told to, frame by frame, and the port that it talks to."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from nerite.frontends.http2 import Gate, Listener, Route, Rpc, Terms

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST = 2**31 - 1


def message(data: bytes = b"", flag: int = 0) -> bytes:
    return struct.pack(">BL", flag, len(data)) + data


def data(stream: int, content: bytes = b"", *flags: str, pad: int = 0) -> DataFrame:
    return DataFrame(stream, content, pad_length=pad, flags=flags)


def grow(stream: int, increment: int) -> WindowUpdateFrame:
    return WindowUpdateFrame(stream, increment)


def settings(**values: int) -> SettingsFrame:
    return SettingsFrame(0, {getattr(SettingsFrame, key): one for key, one in values.items()})


class Answer:
    """What came on one stream."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.data = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])

    @property
    def text(self) -> str:
        return self.headers.get("grpc-message", "")

    @property
    def messages(self) -> list[bytes]:
        found, at = [], 0
        while at < len(self.data):
            _, length = struct.unpack_from(">BL", self.data, at)
            found.append(self.data[at + 5 : at + 5 + length])
            at += 5 + length
        return found


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.answers: dict[int, Answer] = {}
        self.farewells: list[GoAwayFrame] = []
        self.pings: list[PingFrame] = []
        self.windows: dict[int, int] = {}
        self.polite = True  # gives windows back, and answers pings
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder(1 << 20)

    def send(self, *frames: Frame | bytes) -> None:
        pieces = (one if isinstance(one, bytes) else one.serialize() for one in frames)
        self.writer.write(b"".join(pieces))

    def fields(self, path: str = "/echo", **more: str | None) -> list[tuple[str, str]]:
        """The headers of an RPC; of `more`, None takes one away."""
        named = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
                 "te": "trailers", "content-type": "application/grpc"}  # fmt: skip
        for key, value in more.items():
            name = f":{key}" if f":{key}" in named else key.replace("_", "-")
            if value is None:
                del named[name]
            else:
                named[name] = value
        return list(named.items())

    def block(self, fields: list[tuple[str, str]]) -> bytes:
        return self._encoder.encode(fields)

    def open(
        self, stream: int, path: str = "/echo", *, ended: bool = False, **more: str | None
    ) -> HeadersFrame:
        flags = ["END_HEADERS", "END_STREAM"] if ended else ["END_HEADERS"]
        return HeadersFrame(stream, self.block(self.fields(path, **more)), flags=flags)

    def rpc(
        self, stream: int, content: bytes = b"", path: str = "/echo", **more: str | None
    ) -> bytes:
        """The frames of an RPC with one small message."""
        frames = (self.open(stream, path, **more), data(stream, message(content), "END_STREAM"))
        return b"".join(one.serialize() for one in frames)

    async def frame(self) -> Frame | None:
        """The next; None at the end. What it says is kept."""
        async with asyncio.timeout(20):
            try:
                prefix = await self.reader.readexactly(9)
                frame, length = Frame.parse_frame_header(memoryview(prefix))
                frame.parse_body(memoryview(await self.reader.readexactly(length)))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        self._keep(frame)
        return frame

    def _keep(self, frame: Frame) -> None:
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if isinstance(frame, HeadersFrame):
            assert not answer.ended
            answer.headers.update(self._decoder.decode(frame.data))
        elif isinstance(frame, DataFrame):
            assert not answer.ended
            answer.data += frame.data
            if self.polite and frame.data:
                for stream in (0, frame.stream_id):
                    self.send(grow(stream, len(frame.data)))
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.farewells.append(frame)
        elif isinstance(frame, WindowUpdateFrame):
            stream = frame.stream_id
            self.windows[stream] = self.windows.get(stream, 0) + frame.window_increment
        elif isinstance(frame, PingFrame):
            self.pings.append(frame)
            if self.polite and "ACK" not in frame.flags:
                self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        answer.ended |= "END_STREAM" in frame.flags

    async def until(self, happened: Callable[[], Any]) -> None:
        while not happened():
            if await self.frame() is None:
                assert happened(), "the server ended the connection"

    async def answer(self, stream: int) -> Answer:
        """Of a stream, once it has ended or was reset."""
        answer = self.answers.setdefault(stream, Answer())
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def ask(
        self, stream: int, content: bytes = b"", path: str = "/echo", **more: str | None
    ) -> Answer:
        self.send(self.rpc(stream, content, path, **more))
        return await self.answer(stream)

    async def served(self, stream: int) -> None:
        """Whether the connection is as good as new."""
        assert (await self.ask(stream, b"still here")).messages == [b"still here"]

    async def pong(self, opaque: bytes = b"12345678") -> None:
        """Until the server has read all that was sent so far."""
        self.send(PingFrame(0, opaque))
        pongs = len(self.pings)
        await self.until(lambda: any(p.opaque_data == opaque for p in self.pings[pongs:]))

    async def end(self) -> int | None:
        """The code with which the server ends the connection; None where it says none."""
        while await self.frame() is not None:
            pass
        return self.farewells[-1].error_code if self.farewells else None


def echo(rpc: Rpc) -> None:
    rpc.respond([rpc.message])


class Port:
    """A listener, connections to it, and the RPCs that wait for the test to end them."""

    def __init__(self, listener: Listener, address: tuple[str, int], stack: AsyncExitStack) -> None:
        self.listener = listener
        self.address = address
        self.waiting: list[Rpc] = []
        self.gone: list[Rpc] = []  # those of them whose clients have left
        self._stack = stack

    @property
    def target(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def keep(self, rpc: Rpc) -> None:
        rpc.on_disconnect = lambda: self.gone.append(rpc)
        self.waiting.append(rpc)

    async def raw(self, tls: ssl.SSLContext | None = None) -> Client:
        """Connected, and nothing said."""
        reader, writer = await asyncio.open_connection(*self.address, ssl=tls)
        self._stack.callback(writer.close)
        return Client(reader, writer)

    async def connect(self, **values: int) -> Client:
        """With these settings, and the server's read."""
        client = await self.raw()
        client.send(PREFACE, settings(**values), SettingsFrame(0, flags=["ACK"]))
        await client.pong(b"openings")
        return client

    async def wait(self, happened: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not happened():
                await asyncio.sleep(0.01)


class ListenGrpc:
    """`await listen_grpc(route, ...)` opens a port until the test's end.

    It has /echo, /wait (see Port), /stream, which sends every message back, and `routes`.
    """

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = loop
        self._stack = AsyncExitStack()

    async def __call__(
        self,
        routes: Mapping[str, Route] | None = None,
        terms: Terms | None = None,
        gate: Gate | None = None,
        compression: str = "",
    ) -> Port:
        async def back(rpc: Rpc) -> None:
            async for content in rpc.messages():
                await rpc.send([content])
            rpc.finish()

        port: Port
        known = {
            "/echo": Route(echo),
            "/wait": Route(lambda rpc: port.keep(rpc)),
            "/stream": Route(tasked(back), streams=True),
            **(routes or {}),
        }
        listener = Listener(known, terms, gate, compression)
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        await listener.start(sock)
        self._stack.push_async_callback(listener.close, 0.1)
        port = Port(listener, address, self._stack)
        return port

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            faults: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, what: faults.append(what))
            async with self._stack:
                await test
            await asyncio.sleep(0)
            assert not faults

        with asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(whole())


def tasked(work: Callable[[Rpc], Coroutine[Any, Any, None]]) -> Callable[[Rpc], None]:
    """As a route: in a task, that ends when nobody waits for it."""

    def start(rpc: Rpc) -> None:
        async def run() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await work(rpc)

        rpc.on_disconnect = asyncio.get_running_loop().create_task(run()).cancel

    return start
