"""A listener on a free port, and clients that speak HTTP byte by byte."""

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from nerite.frontends.http1 import Exchange, Gate, Handler, Limits, Listener

from .http2_client import ListenGrpc


class Answer:
    """Status, headers (lower case) and body."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        self.version, status, _ = first.split(" ", 2)
        self.status = int(status)
        pairs = (line.split(": ", 1) for line in lines)
        self.headers = {name.lower(): value for name, value in pairs}
        self.body = b""


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, method: str = "GET") -> Answer:
        async with asyncio.timeout(10):
            answer = Answer(await self.reader.readuntil(b"\r\n\r\n"))
            if method == "HEAD" or answer.status == 100:
                return answer
            if answer.headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    answer.body += (await self.reader.readexactly(size + 2))[:-2]
                assert await self.reader.readexactly(2) == b"\r\n"
            elif "content-length" in answer.headers:
                answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
            else:
                answer.body = await self.reader.read()
            return answer

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer()

    async def closed(self) -> bool:
        """Whether the server ends the connection, having said nothing more."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


class Port:
    """A listener, and connections to it."""

    def __init__(self, listener: Listener, address: tuple[str, int], stack: AsyncExitStack) -> None:
        self.listener = listener
        self.address = address
        self._stack = stack

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        reader, writer = await asyncio.open_connection(*self.address, ssl=tls)
        self._stack.callback(writer.close)
        return Client(reader, writer)

    async def ask(self, data: bytes) -> Answer:
        """On a connection of its own."""
        return await (await self.connect()).ask(data)


def echo(exchange: Exchange) -> None:
    """The request's path and body."""
    head = exchange.head
    exchange.respond(200, b"X-Path: %b\r\n" % head.path.encode(), [bytes(exchange.body)])


class Listen:
    """`await listen(handler, ...)` opens a port until the test's end."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = loop
        self._stack = AsyncExitStack()

    async def __call__(
        self,
        handler: Handler = echo,
        limits: Limits | None = None,
        gate: Gate | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Port:
        listener = Listener(handler, limits, gate)
        sock = socket.create_server(("127.0.0.1", 0))
        await listener.start(sock, tls)
        self._stack.push_async_callback(listener.close, 0.1)
        return Port(listener, sock.getsockname(), self._stack)

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            async with self._stack:
                await test

        with asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(whole())


_LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=_LOOPS)
def listen(request: pytest.FixtureRequest) -> Listen:
    """On both loops: their transports differ in when they close, pause and buffer."""
    return Listen(_LOOPS[request.param])


@pytest.fixture(params=_LOOPS)
def listen_grpc(request: pytest.FixtureRequest) -> ListenGrpc:
    """Likewise."""
    return ListenGrpc(_LOOPS[request.param])


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """An asynchronous test with `listen` or `listen_grpc`, run on that fixture's loop."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        listen = fixtures.get("listen") or fixtures["listen_grpc"]
        listen.run(test(**fixtures))

    return run
