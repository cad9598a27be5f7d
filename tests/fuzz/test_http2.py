"""Whatever frames come on a gRPC connection, it is answered or ends, and others are served."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import uvloop
from hypothesis import strategies as st

from nerite.frontends.http2 import Listener, Route, Rpc

from ..frontends.http2_client import PREFACE, Client, echo, grow, message, tasked
from .conftest import SECONDS, cases

DATA, HEADERS, CONTINUATION = 0, 1, 9
_STREAMS = st.sampled_from([1, 1, 1, 3, 3, 5, 0, 2, 7, 2**31 - 1])
_NUMBERS = st.sampled_from([0, 1, 5, 16_384, 65_535, 2**24, 2**31 - 1, 2**32 - 1])
_PLAIN = b"\x83\x86\x04\x05/echo\x0f\x10\x10application/grpc"
_BLOCKS = st.one_of(
    st.sampled_from(
        [
            _PLAIN,
            _PLAIN.replace(b"\x05/echo", b"\x07/stream"),
            _PLAIN.replace(b"\x05/echo", b"\x02/x"),
            _PLAIN + b"\x40\x01x\x01y",
            _PLAIN + b"\xbe",
            _PLAIN + b"\x00\x0cgrpc-timeout\x0350m",
            _PLAIN + b"\x00\x0dgrpc-encoding\x04gzip",
            b"\x20" + _PLAIN,
        ]
    ),
    st.binary(max_size=30),
)
_CONTENTS = st.one_of(
    st.binary(max_size=20),
    st.binary(max_size=20).map(message),
    st.binary(max_size=20).map(lambda content: message(content, 1)),
    st.integers(0, 300_000).map(lambda size: message(bytes(size))[:16_000]),
    st.just(struct.pack(">BL", 0, 2**31 - 1)),
)
_PAYLOADS: dict[int, st.SearchStrategy[bytes]] = {
    DATA: _CONTENTS,
    HEADERS: _BLOCKS,
    2: st.binary(min_size=5, max_size=5),
    3: _NUMBERS.map(lambda number: struct.pack(">L", number)),
    4: st.lists(st.tuples(st.integers(0, 9), _NUMBERS), max_size=3).map(
        lambda pairs: b"".join(struct.pack(">HL", *pair) for pair in pairs)
    ),
    6: st.sampled_from([bytes(8), b"leaving?"]),
    7: st.binary(max_size=12),
    8: _NUMBERS.map(lambda number: struct.pack(">L", number)),
    CONTINUATION: _BLOCKS,
}


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One that is nearly right, mostly."""
    kind = draw(st.sampled_from([*_PAYLOADS, DATA, DATA, HEADERS, HEADERS, 5, 99]))
    payload = draw(_PAYLOADS.get(kind, st.nothing()) | st.binary(max_size=12))
    flags = draw(st.sampled_from([0, 1, 4, 5, 4, 5, 8, 0x2D, 255]))
    stream = 0 if kind in (4, 6) and draw(st.integers(0, 9)) else draw(_STREAMS)
    length = len(payload) if draw(st.integers(0, 19)) else draw(st.integers(0, 2**24 - 1))
    return struct.pack(">BHBBL", length >> 16, length & 0xFFFF, kind, flags, stream) + payload


async def back(rpc: Rpc) -> None:
    async for content in rpc.messages():
        await rpc.send([content])
    rpc.finish()


class Fuzzed:
    """A listener on a loop of its own, which every case runs for a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.faults: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, what: self.faults.append(what))
        routes = {"/echo": Route(echo), "/stream": Route(tasked(back), streams=True)}
        self.listener = Listener(routes, compression="gzip")
        sock = socket.create_server(("127.0.0.1", 0))
        self.address = sock.getsockname()
        loop.run_until_complete(self.listener.start(sock))

    async def throw(self, pieces: list[bytes], cut: int) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        whole = b"".join(pieces)
        for piece in (whole[:cut], whole[cut:]):
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write(b"\0\0\x08\6\0\0\0\0\0the end.")
        # It answers the ping, or closes, or waits for what was cut short.
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(0.05):
                await reader.readuntil(b"the end.")
        writer.transport.abort()

    async def serves(self) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        client = Client(reader, writer)
        client.send(PREFACE, b"\0\0\0\4\0\0\0\0\0", grow(0, 1 << 20))
        await client.served(1)
        assert (await client.ask(3, b"x", "/stream")).messages == [b"x"]
        writer.transport.abort()
        async with asyncio.timeout(SECONDS):
            while self.listener.connections:
                await asyncio.sleep(0.001)


@pytest.fixture(scope="module")
def port() -> Iterator[Fuzzed]:
    loop = uvloop.new_event_loop()
    fuzzed = Fuzzed(loop)
    yield fuzzed
    loop.run_until_complete(fuzzed.listener.close(1))
    loop.close()


@cases(0.3)
@hypothesis.given(
    sent=st.lists(frames(), max_size=12), cut=st.integers(0, 200), begun=st.integers(0, 19)
)
def test_frames(
    port: Fuzzed, caplog: pytest.LogCaptureFixture, sent: list[bytes], cut: int, begun: int
) -> None:
    start = [PREFACE, b"\0\0\0\4\0\0\0\0\0"] if begun else []
    port.loop.run_until_complete(port.throw([*start, *sent], cut))
    port.loop.run_until_complete(port.serves())
    assert port.faults == []
    assert caplog.records == []
