"""Windows, both ways: what is sent fits them, and what comes is given back."""

import asyncio
import os
import socket

import pytest
from hyperframe.frame import DataFrame, RstStreamFrame

from nerite.frontends.http2 import Route, Rpc

from .conftest import on_both_loops
from .http2_client import Client, ListenGrpc, data, grow, message, settings, tasked

BLOB = os.urandom(3_000_001)


def blob(rpc: Rpc) -> None:
    rpc.respond([BLOB[:1000], memoryview(BLOB)[1000:]])


ROUTES = {"/blob": Route(blob)}


async def frames(client: Client, stream: int) -> list[DataFrame]:
    """The data frames of a stream that came before a ping's answer."""
    found = []
    client.send(b"\0\0\x08\6\0\0\0\0\0fromhere")
    while not client.pings or client.pings[-1].opaque_data != b"fromhere":
        frame = await client.frame()
        assert frame is not None
        if isinstance(frame, DataFrame) and frame.stream_id == stream:
            found.append(frame)
    client.pings.clear()
    return found


@on_both_loops
async def test_a_window_of_nothing_and_of_single_bytes(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect(INITIAL_WINDOW_SIZE=0)
    client.polite = False
    client.send(client.rpc(1, b"abc"))
    assert await frames(client, 1) == []
    assert client.answers[1].headers[":status"] == "200"  # which need no window
    for number in range(1, 9):
        client.send(grow(1, 1))
        (frame,) = await frames(client, 1)
        assert (len(frame.data), client.answers[1].ended) == (1, number == 8)
    assert client.answers[1].messages == [b"abc"]


@on_both_loops
async def test_a_window_that_shrinks_below_nothing(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc(ROUTES)).connect(INITIAL_WINDOW_SIZE=100)
    client.polite = False
    client.send(client.rpc(1, path="/blob"))
    assert sum(len(frame.data) for frame in await frames(client, 1)) == 100
    client.send(settings(INITIAL_WINDOW_SIZE=30), grow(1, 70))  # 70 below, and back at 0
    assert await frames(client, 1) == []
    client.send(grow(1, 5))
    assert sum(len(frame.data) for frame in await frames(client, 1)) == 5
    client.send(settings(INITIAL_WINDOW_SIZE=50))
    assert sum(len(frame.data) for frame in await frames(client, 1)) == 20
    client.send(settings(INITIAL_WINDOW_SIZE=10, HEADER_TABLE_SIZE=0), grow(1, 41))
    assert sum(len(frame.data) for frame in await frames(client, 1)) == 1


@on_both_loops
async def test_the_latter_of_two_windows_counts(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc(ROUTES)).connect(INITIAL_WINDOW_SIZE=100)
    client.polite = False
    client.send(client.rpc(1, path="/blob"))
    twice = b"\0\4\0\0\1\0" + b"\0\4\0\0\0\x65"  # 256, then 101
    client.send(b"\0\0\x0c\4\0\0\0\0\0" + twice)
    assert sum(len(frame.data) for frame in await frames(client, 1)) == 101


@pytest.mark.parametrize("largest", [1 << 14, 100_000, (1 << 24) - 1])
@on_both_loops
async def test_frames_are_as_large_as_wanted(listen_grpc: ListenGrpc, largest: int) -> None:
    port = await listen_grpc(ROUTES)
    client = await port.connect(MAX_FRAME_SIZE=largest, INITIAL_WINDOW_SIZE=1 << 30)
    client.send(grow(0, 1 << 30), client.rpc(1, path="/blob"))
    sizes = []
    while not client.answers.get(1) or not client.answers[1].ended:
        frame = await client.frame()
        if isinstance(frame, DataFrame):
            sizes.append(len(frame.data))
    assert client.answers[1].messages == [BLOB]
    assert max(sizes) <= largest
    assert max(sizes) >= min(largest, 1 << 20) - 1


@on_both_loops
async def test_the_connection_has_a_window_too(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc(ROUTES)).connect(INITIAL_WINDOW_SIZE=1 << 20)
    client.polite = False
    client.send(client.rpc(1, path="/blob"), client.rpc(3, b"small"))
    assert sum(len(frame.data) for frame in await frames(client, 1)) == 65_535
    assert client.answers[3].data == b""
    client.send(grow(0, 10_000_000))
    assert (await client.answer(3)).messages == [b"small"]
    client.polite = True
    client.send(grow(1, 10_000_000))
    assert (await client.answer(1)).messages == [BLOB]


@on_both_loops
async def test_streams_take_turns(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc(ROUTES)).connect(INITIAL_WINDOW_SIZE=1 << 30)
    client.send(*[client.rpc(stream, path="/blob") for stream in (1, 3)], grow(0, 1 << 30))
    await client.answer(1)
    assert len(client.answers[3].data) > 1_000_000
    assert (await client.answer(3)).messages == client.answers[1].messages == [BLOB]


@on_both_loops
async def test_a_stream_that_is_reset_is_not_sent_on(listen_grpc: ListenGrpc) -> None:
    """Though its answer was given, and waits."""
    client = await (await listen_grpc(ROUTES)).connect(INITIAL_WINDOW_SIZE=1 << 30)
    client.polite = False
    client.send(client.rpc(1, path="/blob"))
    assert sum(len(frame.data) for frame in await frames(client, 1)) == 65_535
    client.send(RstStreamFrame(1, 8), grow(0, 1 << 30))
    assert await frames(client, 1) == []
    client.polite = True
    await client.served(3)


@pytest.mark.parametrize("pad", [None, 255])
@on_both_loops
async def test_windows_are_given_back(listen_grpc: ListenGrpc, pad: int | None) -> None:
    """As many bytes as came, padding included: a long stream never comes to a halt."""
    port = await listen_grpc()
    client = await port.connect()
    before = client.windows.copy()
    client.send(client.open(1, "/stream"))
    piece = message(b"x" * 16_000)
    flags = [] if pad is None else ["PADDED"]
    sent = 0
    for _ in range(1100):
        while client.windows.get(1, 0) + (1 << 22) - sent < 17_000:
            await client.frame()
        client.send(data(1, piece, *flags, pad=pad or 0))
        sent += len(piece) + (0 if pad is None else pad + 1)
    client.send(data(1, b"", "END_STREAM"))
    answer = await client.answer(1)
    assert len(answer.messages) == 1100
    assert sent - (1 << 21) <= client.windows[1] <= sent
    assert sent - (1 << 23) <= client.windows[0] - before.get(0, 0) <= sent


@on_both_loops
async def test_the_window_of_a_stream_that_is_not_read_stays_shut(listen_grpc: ListenGrpc) -> None:
    """Its messages would be kept for as long as nobody takes them."""
    go_on = asyncio.Event()

    async def late(rpc: Rpc) -> None:
        await go_on.wait()
        count = 0
        async for _ in rpc.messages():
            count += 1
        rpc.respond([b"%d" % count])

    port = await listen_grpc({"/late": Route(tasked(late), streams=True)})
    client = await port.connect()
    client.send(client.open(1, "/late"))
    pieces = 250
    client.send(*[data(1, message(b"x" * 16_000))] * pieces)
    await client.pong()
    assert not client.windows.get(1)
    go_on.set()
    await client.until(lambda: client.windows.get(1) == pieces * 16_005)
    client.send(data(1, b"", "END_STREAM"))
    assert (await client.answer(1)).messages == [b"%d" % pieces]


@on_both_loops
async def test_answers_that_wait_hold_up_further_rpcs(listen_grpc: ListenGrpc) -> None:
    """Those with one answer; it must be possible to ask while a stream is not read."""
    begun = []
    one = bytes(1 << 20)

    def blob(rpc: Rpc) -> None:
        begun.append(rpc)
        rpc.respond([one])

    async def flood(rpc: Rpc) -> None:
        await rpc.send([one * 20])

    routes = {"/blob": Route(blob), "/flood": Route(tasked(flood), streams=True)}
    port = await listen_grpc(routes)
    client = await port.connect(INITIAL_WINDOW_SIZE=0)
    client.polite = False
    (connection,) = port.listener.connections
    client.send(client.open(1, "/flood"))
    streams = range(3, 203, 2)
    client.send(*[client.rpc(stream, path="/blob") for stream in streams])
    await client.pong()
    assert 16 <= len(begun) <= 18
    assert connection.outbox.owed <= 18 << 20
    client.send(RstStreamFrame(streams[0], 8), RstStreamFrame(streams[-1], 8))
    client.send(grow(0, 1 << 30), *[grow(stream, 1 << 21) for stream in streams[1:-1]])
    for stream in streams[1:-1]:
        assert (await client.answer(stream)).messages == [one]
    assert len(begun) == 99
    assert not connection.outbox.owed
    await client.pong()


@on_both_loops
async def test_a_client_that_does_not_read_holds_up_a_stream(listen_grpc: ListenGrpc) -> None:
    """Who sends answers waits until there is room for them, and ends with the client."""
    sent = []

    async def flood(rpc: Rpc) -> None:
        try:
            while True:
                await rpc.send([BLOB])
                sent.append(1)
        finally:
            sent.append(0)

    port = await listen_grpc({"/flood": Route(tasked(flood), streams=True)})
    client = await port.connect(INITIAL_WINDOW_SIZE=(1 << 31) - 1)
    client.polite = False
    client.send(grow(0, 1 << 30), client.open(1, "/flood"))
    await asyncio.sleep(0.3)
    for _ in range(10):  # which does not mean that it reads
        client.send(grow(0, 1 << 20))
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert sum(sent) < 20
    (connection,) = port.listener.connections
    assert connection._transport.get_write_buffer_size() < 1 << 22
    before = sum(sent)
    client.send(RstStreamFrame(1, 8))
    await port.wait(lambda: sent[-1:] == [0])
    assert sum(sent) <= before + 1
    client.polite = True


@on_both_loops
async def test_many_that_wait_for_windows_wake_by_themselves(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client = await port.connect(INITIAL_WINDOW_SIZE=0)
    client.polite = False
    streams = range(1, 201, 2)
    for stream in streams:
        client.send(client.open(stream, "/stream"), data(stream, message(b"%d" % stream)))
        client.send(data(stream, b"", "END_STREAM"))
    await client.pong()
    for stream in reversed(streams):
        client.send(grow(stream, 100))
        assert (await client.answer(stream)).messages == [b"%d" % stream]


@on_both_loops
async def test_no_frame_waits_for_an_acknowledgement(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    await port.connect()
    (connection,) = port.listener.connections
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
