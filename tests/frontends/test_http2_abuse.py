"""Clients that mean harm: what they can make the server keep and do is bounded, and others are
served meanwhile."""

import asyncio
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    HeadersFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from nerite.frontends.http2 import Route, Terms

from .conftest import on_both_loops
from .http2_client import LARGEST, Client, ListenGrpc, Port, data, grow, message, settings

CALM, REFUSED = 11, 7
BLOB = bytes(1 << 20)


def memory() -> int:
    """Bytes that this process has in its hands."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def others(port: Port) -> None:
    await (await port.connect()).served(1)


@pytest.mark.parametrize(
    "flood",
    [
        settings(MAX_FRAME_SIZE=1 << 14),
        PriorityFrame(5, stream_weight=1),
        RstStreamFrame(1, 8),
        data(1),
        HeadersFrame(1, b"\0\1x\1y", flags=["END_HEADERS", "END_STREAM"]),
        b"\0\0\0\x63\0\0\0\0\0",
    ],
)
@on_both_loops
async def test_floods_of_frames_that_do_nothing(listen_grpc: ListenGrpc, flood) -> None:
    port = await listen_grpc()
    client = await port.connect()
    await client.served(1)
    one = flood if isinstance(flood, bytes) else flood.serialize()
    client.send(one * 10_100)
    assert await client.end() == CALM
    await others(port)


@on_both_loops
async def test_headers_that_never_end(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    for piece in (b"", b"\0\1x\1y" * 100):
        client = await port.connect()
        client.send(HeadersFrame(1, b"\x83"), *[ContinuationFrame(1, piece)] * 10_100)
        assert await client.end() == CALM
    await others(port)


@on_both_loops
async def test_headers_that_unpack_to_much(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client = await port.connect()
    entry = b"\x40\1x\x7f\xa1\x1e" + b"v" * 4000  # in the table, and then by its number
    client.send(HeadersFrame(1, entry + b"\xbe" * 16_000, flags=["END_HEADERS"]))
    assert await client.end() == CALM
    await others(port)


@on_both_loops
async def test_heads_that_are_long_are_not_kept(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client = await port.connect()
    (connection,) = port.listener.connections
    client.send(client.rpc(1, long="v" * 3500))
    block = b"\x83\x86\x04\5/echo\x0f\x10\x10application/grpc"
    for number in range(100):
        client.send(HeadersFrame(3 + 2 * number, block + b"\xbe" * (2 + number % 8),
                                 flags=["END_HEADERS"]))  # fmt: skip
        client.send(data(3 + 2 * number, message(), "END_STREAM"))
    await client.answer(3 + 2 * 99)
    assert sum(map(len, connection._heads._known)) < 1000
    await client.served(999)


@on_both_loops
async def test_streams_without_end(listen_grpc: ListenGrpc) -> None:
    """Those beyond the announced number are refused; the others stay."""
    port = await listen_grpc()
    client = await port.connect()
    client.send(client.open(1))
    for stream in range(3, 20_001, 2):
        client.send(client.open(stream))
    client.send(client.open(20_001))
    assert (await client.answer(20_001)).reset == REFUSED
    client.send(data(1, message(b"x"), "END_STREAM"))
    assert (await client.answer(1)).messages == [b"x"]
    await client.served(20_003)
    await others(port)
    client.writer.transport.abort()
    await port.wait(lambda: len(port.listener.connections) == 1)


@on_both_loops
async def test_rapid_resets(listen_grpc: ListenGrpc) -> None:
    """Of calls that have begun, of answers that wait, of such that nobody reads: none is kept."""
    blob = Route(lambda rpc: rpc.respond([BLOB]))
    port = await listen_grpc({"/blob": blob}, Terms(max_ping_strikes=0))
    client = await port.connect(INITIAL_WINDOW_SIZE=0)
    (connection,) = port.listener.connections
    client.polite = False
    stream = 1
    for path in ("/wait", "/blob", "/stream"):
        for _ in range(1500):
            client.send(client.rpc(stream, path=path), RstStreamFrame(stream, 8))
            stream += 2
        await client.pong()
    await port.wait(lambda: not connection._rpcs)
    outbox = connection.outbox
    assert not (outbox._queue or outbox._held or outbox._ends)
    assert len(port.gone) == len(port.waiting) == 1500
    await others(port)


@on_both_loops
async def test_connections_beyond_the_limit(listen_grpc: ListenGrpc) -> None:
    """Those that say nothing count, and have not long."""
    port = await listen_grpc(terms=Terms(connections=2, handshake=0.5))
    client, silent, third = await port.connect(), await port.raw(), await port.raw()
    assert await third.end() == CALM
    assert b"--grpc-max-connections" in third.farewells[0].additional_data
    await client.served(1)
    assert await silent.end() is None
    await others(port)
    await client.served(3)


@pytest.mark.parametrize("path", ["/nothing", "/echo", "/stream"])
@on_both_loops
async def test_a_client_that_never_reads(listen_grpc: ListenGrpc, path: str) -> None:
    """Its answers wait in its streams, of which there are so many and no more."""
    port = await listen_grpc({"/blob": Route(lambda rpc: rpc.respond([BLOB * 8]))})
    client = await port.connect(INITIAL_WINDOW_SIZE=LARGEST)
    (connection,) = port.listener.connections
    client.send(grow(0, 1 << 30), client.rpc(1, path="/blob"))
    client.reader._transport.pause_reading()
    await port.wait(lambda: connection.outbox.paused)
    stream = 3
    most = 0
    while connection in port.listener.connections and stream < 100_000 and not connection._ended:
        client.send(*[client.rpc(stream + 2 * number, b"x", path) for number in range(100)])
        stream += 200
        await asyncio.sleep(0)
        most = max(most, connection._transport.get_write_buffer_size())
    assert connection._ended  # it went beyond what it was told
    assert len(connection._rpcs) == 0
    assert most < 1 << 22
    await others(port)
    client.writer.transport.abort()


@pytest.mark.parametrize("flood", [b"\0\0\x08\6\0\0\0\0\0whatever", SettingsFrame(0).serialize()])
@on_both_loops
async def test_replies_that_nobody_reads(listen_grpc: ListenGrpc, flood: bytes) -> None:
    blob = Route(lambda rpc: rpc.respond([BLOB * 8]))
    port = await listen_grpc({"/blob": blob}, Terms(max_ping_strikes=0))
    client = await port.connect(INITIAL_WINDOW_SIZE=LARGEST)
    (connection,) = port.listener.connections
    client.send(grow(0, 1 << 30), client.rpc(1, path="/blob"))
    client.reader._transport.pause_reading()
    await port.wait(lambda: connection.outbox.paused)
    client.send(flood * 1100)
    await port.wait(lambda: connection._ended)
    connection.look(0.0)
    connection.look(61.0)  # it does not stay until it reads
    await port.wait(lambda: connection not in port.listener.connections)
    await others(port)


@on_both_loops
async def test_claims_cost_nothing(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client = await port.connect()
    before = memory()
    claim = struct.pack(">BL", 0, 2**31 - 1) + b"x"
    for stream in range(1, 2001, 2):
        client.send(client.open(stream), data(stream, claim))
    await client.pong()
    assert memory() - before < 300 << 20  # a page of the largest kind for each were 2 GB
    await client.served(2001)


@on_both_loops
async def test_one_frame_of_many_settings(listen_grpc: ListenGrpc) -> None:
    """Each of which would be a walk over all streams."""
    port = await listen_grpc({"/blob": Route(lambda rpc: rpc.respond([BLOB]))})
    client = await port.connect(INITIAL_WINDOW_SIZE=0)
    client.polite = False
    for stream in range(1, 4001, 2):
        client.send(client.rpc(stream, path="/blob"))
    await client.pong()
    begun = time.process_time()
    pairs = struct.pack(">HLHL", 4, 0, 4, 0) * 40_000
    client.send(struct.pack(">L", len(pairs))[1:] + b"\4\0\0\0\0\0" + pairs)
    await client.pong()
    assert time.process_time() - begun < 5


LARGE = message(bytes(600_000))
ENDS: list[Callable[[Client], bytes]] = [
    lambda client: b"",
    lambda client: client.open(1, "/stream").serialize(),
    lambda client: client.open(1, "/stream").serialize() + b"\0\3\0\0\0\0\0\0\1x",
    lambda client: (
        client.open(1, "/stream").serialize()
        + b"".join(data(1, LARGE[at : at + 10_000]).serialize() for at in range(0, 500_000, 10_000))
    ),
    lambda client: HeadersFrame(1, b"\x83").serialize(),
    lambda client: client.rpc(1, path="/wait", grpc_timeout="9S"),
]


@pytest.mark.parametrize("sent", ENDS)
@on_both_loops
async def test_the_end_of_a_connection_is_the_end(
    listen_grpc: ListenGrpc, sent: Callable[[Client], bytes]
) -> None:
    """Whatever it is in the midst of."""
    port = await listen_grpc()
    for abort in (True, False):
        client = await port.connect()
        client.send(sent(client))
        await asyncio.sleep(0.05)
        (client.writer.transport.abort if abort else client.writer.close)()
    await port.wait(lambda: not port.listener.connections)
    assert port.gone == port.waiting
    assert len(port.gone) == (2 if sent is ENDS[-1] else 0)
